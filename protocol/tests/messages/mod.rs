//! Random messages of all kinds.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sundown_protocol::folder::{
    Bookmark, Column, ContentsRow, Direction, Filter, Flags, FolderRow, Key, Marks, Role, Sort,
};
use sundown_protocol::notification::{
    Arrival, Departure, EndReason, FolderChange, LeaveReason, TableChange,
};
use sundown_protocol::reply::{
    AddressRow, BrokerStatus, Deletion, End, FromBroker, Granted, LastOutcome, LimitStatus,
    LoggedOff, LoggedOn, MailboxState, MemberStatus, MessageRow, Peer, Place, Previous,
    ProfileInUse, ProviderHealth, ProviderStatus, QueueRow, RecipientRow, ReferenceStatus, Reload,
    Reloaded, Resource, Rows, SessionHealth, SessionStatus, Status, StatusRow, SubmissionState,
    Synced, Syncing, TableRows,
};
use sundown_protocol::request::{
    AddressAction, AdviseSource, Asked, Blob, Content, Durability, Folder, Logoff, LogoffFlags,
    Logon, LogonFlags, Notify, Opening, QueueAction, QueueChange, ReadSource, Report, Returned,
    Route, SettingChange, StatusCursor, Stopping, StoreLogoff, Submit, Ticket,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, Event, Events, Fault, FaultDetail, MemberId, Notification, ObjectId,
    Reply, Request, RequestId, SessionId, SessionTag, SubmitKey, Token, UploadId,
};

pub(crate) fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..4)
}

fn blob() -> impl Strategy<Value = Blob> {
    vec(any::<u8>(), 0..64).prop_map(Blob)
}

fn member() -> impl Strategy<Value = MemberId> {
    any::<u64>().prop_map(MemberId)
}

fn object() -> impl Strategy<Value = ObjectId> {
    any::<(u32, u32)>().prop_map(|(place, generation)| ObjectId { place, generation })
}

fn entry() -> impl Strategy<Value = EntryId> {
    any::<(u32, u128)>().prop_map(|(store, record)| EntryId { store, record })
}

fn key() -> impl Strategy<Value = SubmitKey> {
    any::<u128>().prop_map(SubmitKey)
}

fn token() -> impl Strategy<Value = Token> {
    any::<u128>().prop_map(Token)
}

fn ticket() -> impl Strategy<Value = Ticket> {
    blob().prop_map(Ticket)
}

fn granted() -> impl Strategy<Value = Granted> {
    prop_oneof![entry().prop_map(Granted::Message), folder().prop_map(Granted::Folder)]
}

fn folder() -> impl Strategy<Value = Folder> {
    prop_oneof![
        3 => prop::sample::select(Folder::BUILT_IN.to_vec()),
        1 => (Folder::FIRST_OTHER..).prop_map(Folder),
    ]
}

fn flags() -> impl Strategy<Value = Flags> {
    (any::<u16>(), texts()).prop_map(|(marks, keywords)| Flags { marks: Marks(marks), keywords })
}

fn bookmark() -> impl Strategy<Value = Bookmark> {
    let key = prop_oneof![any::<u64>().prop_map(Key::Number), text().prop_map(Key::Text)];
    (key, any::<u64>()).prop_map(|(key, order)| Bookmark { key, order })
}

fn contents_row() -> impl Strategy<Value = ContentsRow> {
    let words = (text(), text(), text());
    let numbers = any::<(Option<u64>, u64, u64, bool)>();
    (entry(), folder(), words, numbers, flags()).prop_map(
        |(entry, folder, (subject, from, to), (date, size, received, recovered), flags)| {
            ContentsRow { entry, folder, subject, from, to, date, size, received, flags, recovered }
        },
    )
}

fn folder_row() -> impl Strategy<Value = FolderRow> {
    let role = option::of(prop::sample::select(Role::ALL.to_vec()));
    (folder(), option::of(folder()), text(), role, any::<(u64, u64)>()).prop_map(
        |(folder, parent, name, role, (total, unread))| FolderRow {
            folder,
            parent,
            name,
            role,
            total,
            unread,
        },
    )
}

fn state() -> impl Strategy<Value = SubmissionState> {
    prop::sample::select(SubmissionState::ALL.to_vec())
}

fn peer() -> impl Strategy<Value = Peer> {
    (any::<u32>(), text()).prop_map(|(pid, program)| Peer { pid, program })
}

fn place() -> impl Strategy<Value = Place> {
    (entry(), folder()).prop_map(|(entry, folder)| Place { entry, folder })
}

fn resource() -> impl Strategy<Value = Resource> {
    prop::sample::select(vec![
        Resource::Subsystem,
        Resource::Spooler,
        Resource::AddressBook,
        Resource::TransportProvider,
        Resource::AddressBookProvider,
        Resource::StoreProvider,
        Resource::Mailbox,
    ])
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        blob().prop_map(Content::Inline),
        any::<u32>().prop_map(|upload| Content::Uploaded(UploadId(upload))),
    ]
}

fn opening() -> impl Strategy<Value = Opening> {
    prop_oneof![
        any::<u16>().prop_map(Opening::Store),
        (any::<u16>(), folder()).prop_map(|(store, folder)| Opening::Folder(store, folder)),
        entry().prop_map(Opening::Message),
        Just(Opening::AddressBook),
        Just(Opening::StatusTable),
    ]
}

fn submit() -> impl Strategy<Value = Submit> {
    let when = prop_oneof![Just(Durability::Durable), Just(Durability::Deferred)];
    let who = (member(), any::<u16>(), key());
    let returned = prop_oneof![Just(Returned::Headers), Just(Returned::Full)];
    let report = (any::<u8>(), returned)
        .prop_map(|(notify, returned)| Report { notify: Notify(notify), returned });
    (who, option::of(text()), texts(), content(), when, report).prop_map(
        |((member, store, key), from, recipients, content, when, report)| Submit {
            member,
            store,
            key,
            from,
            recipients,
            content,
            when,
            report,
        },
    )
}

fn address_action() -> impl Strategy<Value = AddressAction> {
    prop_oneof![
        (text(), texts()).prop_map(|(name, addresses)| AddressAction::Add { name, addresses }),
        text().prop_map(|name| AddressAction::Remove { name }),
        text().prop_map(|name| AddressAction::Resolve { name }),
    ]
}

fn setting_change() -> impl Strategy<Value = SettingChange> {
    prop_oneof![
        Just(SettingChange::Keep),
        text().prop_map(SettingChange::Set),
        Just(SettingChange::Remove),
    ]
}

fn queue_change() -> impl Strategy<Value = QueueChange> {
    prop_oneof![
        Just(QueueChange::Retry),
        Just(QueueChange::Hold),
        Just(QueueChange::Release),
        Just(QueueChange::Abort),
    ]
}

fn queue_action() -> impl Strategy<Value = QueueAction> {
    prop_oneof![
        any::<(bool, u64, u32)>().prop_map(|(all, after, limit)| QueueAction::List {
            all,
            after,
            limit
        }),
        entry().prop_map(QueueAction::Show),
        (entry(), queue_change()).prop_map(|(entry, change)| QueueAction::Change(entry, change)),
        Just(QueueAction::Flush),
    ]
}

/// Requests about sessions, registrations and objects.
fn session_request() -> impl Strategy<Value = Request> {
    let source = prop_oneof![Just(AdviseSource::Session), object().prop_map(AdviseSource::Object)];
    let read =
        prop_oneof![entry().prop_map(ReadSource::Entry), object().prop_map(ReadSource::Object)];
    prop_oneof![
        (option::of(text()), any::<u32>()).prop_map(|(profile, flags)| Request::Logon(Logon {
            profile,
            flags: LogonFlags(flags)
        })),
        (member(), any::<u32>(), option::of(any::<u64>())).prop_map(|(member, flags, drain)| {
            Request::Logoff(Logoff { member, flags: LogoffFlags(flags), drain })
        }),
        (member(), source, any::<u32>()).prop_map(|(member, source, events)| Request::Advise {
            member,
            source,
            events: Events(events)
        }),
        (member(), any::<u32>())
            .prop_map(|(member, advise)| Request::Unadvise { member, advise: AdviseId(advise) }),
        (member(), opening()).prop_map(|(member, what)| Request::Open { member, what }),
        (member(), object()).prop_map(|(member, object)| Request::Release { member, object }),
        (member(), object(), any::<u64>(), any::<u32>()).prop_map(
            |(member, object, after, limit)| Request::List { member, object, after, limit }
        ),
        (member(), read, any::<u64>()).prop_map(|(member, source, offset)| Request::Read {
            member,
            source,
            offset
        }),
    ]
}

/// Requests about messages, settings, people and the broker.
fn message_request() -> impl Strategy<Value = Request> {
    let stopping = prop_oneof![Just(Stopping::Orderly), Just(Stopping::Fast)];
    prop_oneof![
        (member(), any::<u16>(), any::<u32>(), blob()).prop_map(
            |(member, store, upload, bytes)| {
                Request::Upload { member, store, upload: UploadId(upload), bytes }
            }
        ),
        submit().prop_map(Request::Submit),
        (submit(), option::of(text()), option::of(text())).prop_map(|(submit, author, account)| {
            let route = Box::new(Route { author, account });
            Request::SubmitVia { submit: Box::new(submit), route }
        }),
        (member(), any::<u16>(), content()).prop_map(|(member, store, content)| Request::Draft {
            member,
            store,
            content
        }),
        (member(), object(), key()).prop_map(|(member, object, key)| Request::Save {
            member,
            object,
            key
        }),
        (member(), entry()).prop_map(|(member, entry)| Request::Delete { member, entry }),
        (member(), text(), text(), setting_change()).prop_map(|(member, section, name, change)| {
            Request::Setting { member, section, name, change }
        }),
        (member(), entry()).prop_map(|(member, entry)| Request::AbortSubmit { member, entry }),
        member().prop_map(|member| Request::Flush { member }),
        (member(), object(), address_action()).prop_map(|(member, object, action)| {
            Request::AddressBook { member, object, action }
        }),
        Just(Request::Status),
        Just(Request::QueryFastShutdown),
        Just(Request::NotifyProcessShutdown),
        any::<bool>().prop_map(|remembered| Request::DoFastShutdown { remembered }),
        (member(), object(), token(), option::of(any::<u32>()))
            .prop_map(|(member, object, token, pid)| Request::Grant { member, object, token, pid }),
        token().prop_map(|token| Request::Redeem { token }),
        (member(), token()).prop_map(|(member, token)| Request::Revoke { member, token }),
        (option::of(text()), queue_action())
            .prop_map(|(profile, action)| Request::Queue { profile, action }),
        stopping.prop_map(|how| Request::Stop { how }),
        (member(), resource(), text()).prop_map(|(member, kind, provider)| {
            Request::ValidateState { member, kind, provider }
        }),
        (member(), object(), any::<u32>()).prop_map(|(member, object, flags)| {
            Request::StoreLogoff { member, object, flags: StoreLogoff(flags) }
        }),
        text().prop_map(|name| Request::DeleteProfile { name }),
        Just(Request::Broker),
        status_cursor().prop_map(|after| Request::StatusPage { after }),
        any::<u64>().prop_map(|after| Request::Health { after: SessionId(after) }),
        text().prop_map(|profile| Request::Reload { profile }),
        entry().prop_map(|entry| Request::MessageId { entry }),
        option::of(ticket()).prop_map(|shown| Request::Ticket { shown }),
        (option::of(text()), any::<u32>(), any::<u128>(), any::<bool>()).prop_map(
            |(profile, flags, tag, told)| Request::Return {
                logon: Logon { profile, flags: LogonFlags(flags) },
                tag: SessionTag(tag),
                told,
            }
        ),
        (member(), entry(), folder()).prop_map(|(member, entry, from)| Request::DeleteFrom {
            member,
            entry,
            from
        }),
    ]
}

/// Requests about folders, what is in them, flags and search.
fn folder_request() -> impl Strategy<Value = Request> {
    let sort = (
        prop::sample::select(Column::ALL.to_vec()),
        prop_oneof![Just(Direction::Ascending), Just(Direction::Descending)],
    )
        .prop_map(|(by, direction)| Sort { by, direction });
    let only = any::<(u16, u16)>()
        .prop_map(|(with, without)| Filter { with: Marks(with), without: Marks(without) });
    let store = any::<u16>;
    prop_oneof![
        (member(), store(), option::of(folder()), any::<u32>()).prop_map(
            |(member, store, after, limit)| Request::Folders { member, store, after, limit }
        ),
        (member(), store(), option::of(folder()), text()).prop_map(
            |(member, store, parent, name)| Request::MakeFolder { member, store, parent, name }
        ),
        (member(), store(), folder(), text()).prop_map(|(member, store, folder, name)| {
            Request::RenameFolder { member, store, folder, name }
        }),
        (member(), store(), folder()).prop_map(|(member, store, folder)| Request::RemoveFolder {
            member,
            store,
            folder
        }),
        (member(), object(), sort, only, option::of(bookmark()), any::<u32>()).prop_map(
            |(member, object, sort, only, after, limit)| Request::Contents {
                member,
                object,
                sort,
                only,
                after,
                limit
            }
        ),
        (member(), entry(), flags(), flags()).prop_map(|(member, entry, add, remove)| {
            Request::SetFlags { member, entry, add: Box::new(add), remove: Box::new(remove) }
        }),
        (member(), entry(), folder()).prop_map(|(member, entry, to)| Request::Move {
            member,
            entry,
            to
        }),
        (member(), key(), entry(), folder()).prop_map(|(member, key, entry, to)| Request::Copy {
            member,
            key,
            entry,
            to
        }),
        ((member(), key(), store(), folder()), content(), flags(), option::of(any::<u64>()))
            .prop_map(|((member, key, store, folder), content, flags, received)| {
                Request::Append {
                    member,
                    key,
                    store,
                    folder,
                    content,
                    flags: Box::new(flags),
                    received,
                }
            }),
        (member(), store(), text(), option::of(folder()), any::<(u64, u32)>()).prop_map(
            |(member, store, words, folder, (after, limit))| Request::Search {
                member,
                store,
                words,
                folder,
                after,
                limit
            }
        ),
        member().prop_map(|member| Request::Sync { member }),
        any::<u64>().prop_map(|after| Request::Mailboxes { after: SessionId(after) }),
    ]
}

pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    (any::<u64>(), prop_oneof![session_request(), message_request(), folder_request()])
        .prop_map(|(id, request)| Asked { id: RequestId(id), request })
}

fn fault() -> impl Strategy<Value = Fault> {
    let detail = prop_oneof![
        Just(FaultDetail::None),
        peer().prop_map(FaultDetail::Owner),
        texts().prop_map(FaultDetail::Addresses),
        texts().prop_map(FaultDetail::Providers),
        vec(peer(), 0..3).prop_map(FaultDetail::Holders),
        vec(entry(), 0..3).prop_map(FaultDetail::Entries),
    ];
    (any::<u32>(), text(), detail).prop_map(|(code, message, detail)| Fault {
        code: Code(code),
        message,
        detail,
    })
}

fn address_row() -> impl Strategy<Value = AddressRow> {
    (entry(), text(), texts()).prop_map(|(entry, name, addresses)| AddressRow {
        entry,
        name,
        addresses,
    })
}

fn message_row() -> impl Strategy<Value = MessageRow> {
    (entry(), (text(), text(), text()), any::<(u64, u64, bool)>()).prop_map(
        |(entry, (subject, from, to), (size, received, recovered))| MessageRow {
            entry,
            subject,
            from,
            to,
            size,
            received,
            recovered,
        },
    )
}

fn status_row() -> impl Strategy<Value = StatusRow> {
    (text(), resource(), text(), any::<(u32, u32)>()).prop_map(
        |(name, resource, text, (code, methods))| StatusRow { name, resource, code, text, methods },
    )
}

fn rows() -> impl Strategy<Value = Rows> {
    let rows = prop_oneof![
        vec(message_row(), 0..3).prop_map(TableRows::Messages),
        vec(address_row(), 0..3).prop_map(TableRows::Addresses),
        vec(status_row(), 0..3).prop_map(TableRows::Status),
    ];
    (rows, option::of(any::<u64>())).prop_map(|(rows, next)| Rows { rows, next })
}

fn session_status() -> impl Strategy<Value = SessionStatus> {
    let member = (member(), peer(), any::<(u32, u64, bool, u64)>(), text()).prop_map(
        |(id, peer, (uid, since, no_mail, objects), state)| MemberStatus {
            id,
            peer,
            uid,
            since,
            state,
            no_mail,
            objects,
        },
    );
    let provider =
        (text(), resource(), text(), text()).prop_map(|(name, kind, status, fast_shutdown)| {
            ProviderStatus { name, kind, status, fast_shutdown }
        });
    let reference = (self::member(), peer(), granted())
        .prop_map(|(granter, holder, granted)| ReferenceStatus { granter, holder, granted });
    let lists = (vec(member, 0..3), vec(provider, 0..3), vec(reference, 0..3));
    (any::<(u64, bool)>(), text(), text(), lists).prop_map(
        |((id, shared), profile, state, (members, providers, references))| SessionStatus {
            id: SessionId(id),
            profile,
            shared,
            state,
            members,
            providers,
            references,
        },
    )
}

fn status() -> impl Strategy<Value = Status> {
    let numbers = any::<(u32, u64, [u64; 9], u64)>();
    (text(), text(), numbers, vec(session_status(), 0..3)).prop_map(
        |(version, socket, (pid, started, queue, waiting_for_mail_member), sessions)| Status {
            version,
            pid,
            socket,
            started,
            sessions,
            queue,
            waiting_for_mail_member,
        },
    )
}

fn broker_status() -> impl Strategy<Value = BrokerStatus> {
    let end = prop::sample::select(vec![End::Stopped, End::Failed, End::Killed, End::MachineDown]);
    let previous = (any::<(u32, u64, Option<u64>)>(), end, text())
        .prop_map(|((pid, started, ended), end, why)| Previous { pid, started, ended, end, why });
    let limit = (text(), any::<(u64, Option<u64>)>())
        .prop_map(|(name, (most, used))| LimitStatus { name, most, used });
    (option::of(previous), vec(limit, 0..3))
        .prop_map(|(previous, limits)| BrokerStatus { previous, limits })
}

fn queue_row() -> impl Strategy<Value = QueueRow> {
    let recipient = (text(), state(), option::of(text()))
        .prop_map(|(address, state, reply)| RecipientRow { address, state, reply });
    let words = (text(), text(), text(), option::of(text()));
    let numbers = any::<(u32, Option<u64>, u64, u64)>();
    (entry(), state(), words, vec(recipient, 0..3), numbers).prop_map(
        |(entry, state, (profile, from, subject, last_error), recipients, numbers)| {
            let (attempts, next_attempt, submitted, size) = numbers;
            QueueRow {
                entry,
                profile,
                state,
                from,
                recipients,
                subject,
                attempts,
                next_attempt,
                last_error,
                submitted,
                size,
            }
        },
    )
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let logged_on = (member(), any::<(u64, bool)>(), text(), texts(), text()).prop_map(
        |(member, (session, shared), profile, stores, identity)| LoggedOn {
            member,
            session: SessionId(session),
            profile,
            shared,
            stores,
            identity,
        },
    );
    let logged_off = (any::<(u64, u64, u64)>(), vec(peer(), 0..3)).prop_map(
        |((invalidated, discarded, queued), stayed)| LoggedOff {
            invalidated,
            discarded,
            queued,
            stayed,
        },
    );
    prop_oneof![
        Just(Reply::Done),
        logged_on.prop_map(Reply::LoggedOn),
        logged_off.prop_map(Reply::LoggedOff),
        any::<u32>().prop_map(|advise| Reply::Advised(AdviseId(advise))),
        object().prop_map(Reply::Opened),
        rows().prop_map(Reply::Rows),
        (any::<u64>(), blob()).prop_map(|(size, bytes)| Reply::Piece { size, bytes }),
        (entry(), state()).prop_map(|(entry, state)| Reply::Submitted { entry, state }),
        entry().prop_map(Reply::Saved),
        option::of(text()).prop_map(Reply::Setting),
        entry().prop_map(Reply::Added),
        address_row().prop_map(Reply::Resolved),
        (member(), object(), granted()).prop_map(|(member, object, granted)| Reply::Redeemed {
            member,
            object,
            granted
        }),
        status().prop_map(|status| Reply::Status(Box::new(status))),
        (vec(queue_row(), 0..3), option::of(any::<u64>()))
            .prop_map(|(rows, next)| Reply::Queue { rows, next }),
        any::<u64>().prop_map(Reply::Flushed),
        any::<u32>().prop_map(|flags| Reply::StoreLoggedOff(StoreLogoff(flags))),
        prop::sample::select(vec![Deletion::Done, Deletion::WhenUnused])
            .prop_map(Reply::ProfileDeleted),
        broker_status().prop_map(|status| Reply::Broker(Box::new(status))),
        ticket().prop_map(Reply::Ticket),
        (status(), option::of(status_cursor()))
            .prop_map(|(status, next)| Reply::StatusPage { status: Box::new(status), next }),
        (
            vec(health(), 0..3),
            option::of(any::<u64>().prop_map(SessionId)),
            option::of(any::<u64>())
        )
            .prop_map(|(sessions, next, requests)| Reply::Health {
                sessions,
                next,
                requests
            }),
        (any::<u32>(), reload())
            .prop_map(|(sessions, result)| Reply::Reloaded(Reloaded { sessions, result })),
        option::of(text()).prop_map(Reply::MessageId),
        folder_reply(),
    ]
}

/// Replies about folders, what is in them, flags and search.
fn folder_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        (vec(folder_row(), 0..3), option::of(folder()))
            .prop_map(|(rows, next)| Reply::Folders { rows, next }),
        folder().prop_map(Reply::Made),
        (vec(contents_row(), 0..3), option::of(bookmark()))
            .prop_map(|(rows, next)| Reply::Contents { rows, next }),
        flags().prop_map(Reply::Flags),
        (vec(contents_row(), 0..3), any::<(Option<u64>, u64)>())
            .prop_map(|(rows, (next, unindexed))| Reply::Found { rows, next, unindexed }),
        any::<(u64, u64, u64, u64)>().prop_map(|(new, changed, removed, pending)| {
            Reply::Synced(Synced { new, changed, removed, pending })
        }),
        (vec(mailbox_state(), 0..3), option::of(any::<u64>().prop_map(SessionId)))
            .prop_map(|(mailboxes, next)| Reply::Mailboxes { mailboxes, next }),
    ]
}

fn mailbox_state() -> impl Strategy<Value = MailboxState> {
    let syncing = any::<(u64, u64)>().prop_map(|(done, total)| Syncing { done, total });
    let numbers = any::<(u64, u32, u64, Option<u64>, Option<u64>)>();
    (numbers, text(), option::of(syncing)).prop_map(
        |((session, connections, pending, checked, changed), name, syncing)| MailboxState {
            session: SessionId(session),
            name,
            connections,
            pending,
            syncing,
            checked,
            changed,
        },
    )
}

fn reload() -> impl Strategy<Value = Reload> {
    prop_oneof![
        Just(Reload::Unchanged),
        Just(Reload::Changed),
        text().prop_map(Reload::Refused),
        Just(Reload::Later),
    ]
}

fn health() -> impl Strategy<Value = SessionHealth> {
    let last = any::<(u64, bool)>();
    let last = (last, text()).prop_map(|((at, worked), text)| LastOutcome { at, worked, text });
    let numbers = any::<(Option<u64>, Option<u64>, u32)>();
    let provider = (text(), resource(), option::of(last), numbers).prop_map(
        |(name, kind, last, (worked, next_try, in_flight))| ProviderHealth {
            name,
            kind,
            last,
            worked,
            next_try,
            in_flight,
        },
    );
    (any::<(u64, Option<u64>, u64)>(), option::of(text()), vec(provider, 0..3)).prop_map(
        |((session, changed, read), note, providers)| SessionHealth {
            session: SessionId(session),
            profile: ProfileInUse { changed, read, note },
            providers,
        },
    )
}

fn status_cursor() -> impl Strategy<Value = StatusCursor> {
    any::<[u64; 3]>().prop_map(|[session, member, reference]| StatusCursor {
        session,
        member,
        reference,
    })
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let end = prop::sample::select(vec![
        EndReason::SharedLogoff,
        EndReason::BrokerStopped,
        EndReason::BrokerLost,
        EndReason::ReferenceLost,
        EndReason::StoreLost,
    ]);
    let leave = prop::sample::select(vec![
        LeaveReason::LoggedOff,
        LeaveReason::FastShutdown,
        LeaveReason::Disconnected,
        LeaveReason::Evicted,
        LeaveReason::BrokerStopped,
    ]);
    let folder_change = prop::sample::select(vec![
        FolderChange::Made,
        FolderChange::Renamed,
        FolderChange::Removed,
    ]);
    let change = prop_oneof![
        text().prop_map(TableChange::Added),
        text().prop_map(TableChange::Deleted),
        text().prop_map(TableChange::Modified),
        Just(TableChange::Reload),
    ];
    prop_oneof![
        (any::<u32>(), end, option::of(peer()), option::of(any::<u64>())).prop_map(
            |(code, reason, by, grace)| Event::CriticalError {
                code: Code(code),
                reason,
                by,
                grace
            }
        ),
        place().prop_map(Event::NewMail),
        place().prop_map(Event::Created),
        place().prop_map(Event::Modified),
        (place(), folder()).prop_map(|(place, from)| Event::Moved(place, from)),
        place().prop_map(Event::Deleted),
        (object(), change).prop_map(|(object, change)| Event::Table { object, change }),
        (member(), leave.clone()).prop_map(|(member, reason)| Event::MemberLeft { member, reason }),
        Just(Event::Evicted),
        any::<u64>().prop_map(|within| Event::BrokerStopping { within }),
        any::<(u64, u64)>()
            .prop_map(|(waiting, finished)| Event::LogoffProgress { waiting, finished }),
        vec(entry(), 0..3).prop_map(Event::Durable),
        any::<u64>().prop_map(|missed| Event::Lagged { missed }),
        ticket().prop_map(Event::Ticket),
        any::<u128>().prop_map(|tag| Event::Session(SessionTag(tag))),
        vec((member(), leave.clone()), 0..4).prop_map(|left| {
            let departure = |(member, reason)| Departure { member, reason };
            Event::MembersLeft(left.into_iter().map(departure).collect())
        }),
        (place(), text(), text()).prop_map(|(place, from, subject)| Event::Arrived(Box::new(
            Arrival { place, from, subject }
        ))),
        (any::<u32>(), folder(), folder_change).prop_map(|(store, folder, change)| Event::Folder {
            store,
            folder,
            change
        }),
    ]
}

pub(crate) fn from_broker() -> impl Strategy<Value = FromBroker> {
    let result = prop_oneof![reply().prop_map(Ok), fault().prop_map(Err)];
    let advises = vec(any::<u32>().prop_map(AdviseId), 0..4);
    prop_oneof![
        (any::<u64>(), result)
            .prop_map(|(id, result)| FromBroker::Answer { id: RequestId(id), result }),
        (member(), advises, event()).prop_map(|(member, advises, event)| {
            FromBroker::Notify(Notification { member, advises, event })
        }),
        fault().prop_map(FromBroker::Goodbye),
    ]
}
