//! One sample of each message, and the names of all of them.
//!
//! A new variant does not compile here until it is named; named and without a sample it fails the golden test.

use serde::Serialize;
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
    Synced, Syncing, TableRows, status_code,
};
use sundown_protocol::request::{
    AddressAction, AdviseSource, Asked, Blob, Content, Durability, Folder, Logoff, LogoffFlags,
    Logon, LogonFlags, Notify, Opening, QueueAction, QueueChange, ReadSource, Report, Returned,
    Route, SettingChange, StatusCursor, Stopping, StoreLogoff, Submit, Ticket,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, Event, Events, Fault, FaultDetail, MemberId, Notification, ObjectId,
    Reply, Request, RequestId, SessionId, SessionTag, SubmitKey, Token, UploadId, codec,
};

/// One line of the golden file: a name, and the frame.
pub(crate) type Line = (String, Vec<u8>);

/// Names the variants of an enum twice: in a `match` that must be exhaustive, and in a list that must have samples.
macro_rules! names {
    ($list:ident, $name:ident, $enum:ident: $($variant:ident $fields:tt),* $(,)?) => {
        /// All variants, in the order of their tags.
        pub(crate) const $list: &[&str] = &[$(stringify!($variant)),*];

        pub(crate) fn $name(value: &$enum) -> &'static str {
            match value { $($enum::$variant $fields => stringify!($variant)),* }
        }
    };
}

names!(REQUESTS, request_name, Request:
    Logon {..}, Logoff {..}, Advise {..}, Unadvise {..}, Open {..}, Release {..}, List {..}, Read {..}, Upload {..},
    Submit {..}, Draft {..}, Save {..}, Delete {..}, Setting {..}, AbortSubmit {..}, Flush {..}, AddressBook {..},
    QueryFastShutdown {..}, NotifyProcessShutdown {..}, DoFastShutdown {..}, Grant {..}, Redeem {..}, Revoke {..},
    Status {..}, Queue {..}, Stop {..}, ValidateState {..}, StoreLogoff {..}, DeleteProfile {..},
    Broker {..}, Ticket {..}, Return {..}, DeleteFrom {..}, StatusPage {..}, SubmitVia {..},
    Health {..}, Reload {..}, MessageId {..},
    Folders {..}, MakeFolder {..}, RenameFolder {..}, RemoveFolder {..}, Contents {..}, SetFlags {..}, Move {..},
    Copy {..}, Append {..}, Search {..}, Sync {..}, Mailboxes {..});
names!(REPLIES, reply_name, Reply:
    Done {..}, LoggedOn {..}, LoggedOff {..}, Advised {..}, Opened {..}, Rows {..}, Piece {..}, Submitted {..},
    Saved {..}, Setting {..}, Added {..}, Resolved {..}, Redeemed {..}, Status {..}, Queue {..},
    Flushed {..}, StoreLoggedOff {..}, ProfileDeleted {..}, Broker {..}, Ticket {..}, StatusPage {..},
    Health {..}, Reloaded {..}, MessageId {..},
    Folders {..}, Made {..}, Contents {..}, Flags {..}, Found {..}, Synced {..}, Mailboxes {..});
names!(EVENTS, event_name, Event:
    CriticalError {..}, NewMail {..}, Created {..}, Modified {..}, Moved {..}, Deleted {..}, Table {..},
    MemberLeft {..}, Evicted {..}, BrokerStopping {..}, LogoffProgress {..}, Durable {..}, Lagged {..},
    Ticket {..}, Session {..}, MembersLeft {..}, Arrived {..}, Folder {..});
names!(FROM_BROKER, from_broker_name, FromBroker: Answer {..}, Notify {..}, Goodbye {..});
names!(SOURCES, source_name, AdviseSource: Session {..}, Object {..});
names!(OPENINGS, opening_name, Opening:
    Store {..}, Folder {..}, Message {..}, AddressBook {..}, StatusTable {..});
names!(ROLES, role_name, Role: Inbox {..}, Outbox {..}, Sent {..}, Drafts {..}, Deleted {..}, Junk {..},
    Archive {..}, All {..});
names!(COLUMNS, column_name, Column: Received {..}, Date {..}, From {..}, Subject {..}, Size {..});
names!(DIRECTIONS, direction_name, Direction: Ascending {..}, Descending {..});
names!(KEYS, key_name, Key: Number {..}, Text {..});
names!(FOLDER_CHANGES, folder_change_name, FolderChange: Made {..}, Renamed {..}, Removed {..});
names!(READS, read_name, ReadSource: Entry {..}, Object {..});
names!(DURABILITIES, durability_name, Durability: Durable {..}, Deferred {..});
names!(CONTENTS, content_name, Content: Inline {..}, Uploaded {..});
names!(CHANGES, change_name, SettingChange: Keep {..}, Set {..}, Remove {..});
names!(ACTIONS, action_name, AddressAction: Add {..}, Remove {..}, Resolve {..});
names!(QUEUE_ACTIONS, queue_action_name, QueueAction: List {..}, Show {..}, Change {..}, Flush {..});
names!(QUEUE_CHANGES, queue_change_name, QueueChange: Retry {..}, Hold {..}, Release {..}, Abort {..});
names!(RETURNED, returned_name, Returned: Headers {..}, Full {..});
names!(RELOADS, reload_name, Reload: Unchanged {..}, Changed {..}, Refused {..}, Later {..});
names!(DELETIONS, deletion_name, Deletion: Done {..}, WhenUnused {..});
names!(STOPPINGS, stopping_name, Stopping: Orderly {..}, Fast {..});
names!(ENDS, end_name, End: Stopped {..}, Failed {..}, Killed {..}, MachineDown {..});
names!(DETAILS, detail_name, FaultDetail: None {..}, Owner {..}, Addresses {..},
    Providers {..}, Holders {..}, Entries {..});
names!(GRANTED, granted_name, Granted: Message {..}, Folder {..});
names!(TABLES, table_name, TableRows: Messages {..}, Addresses {..}, Status {..});
names!(RESOURCES, resource_name, Resource:
    Subsystem {..}, Spooler {..}, AddressBook {..}, TransportProvider {..}, AddressBookProvider {..},
    StoreProvider {..}, Mailbox {..});
names!(STATES, state_name, SubmissionState:
    Accepted {..}, Held {..}, Queued {..}, Transmitting {..}, Deferred {..}, Unknown {..}, Sent {..}, Bounced {..},
    Aborted {..});
names!(TABLE_CHANGES, table_change_name, TableChange:
    Added {..}, Deleted {..}, Modified {..}, Reload {..});
names!(END_REASONS, end_reason_name, EndReason: SharedLogoff {..}, BrokerStopped {..}, BrokerLost {..},
    ReferenceLost {..}, StoreLost {..});
names!(LEAVE_REASONS, leave_reason_name, LeaveReason:
    LoggedOff {..}, FastShutdown {..}, Disconnected {..}, Evicted {..}, BrokerStopped {..});

/// The folders of every store. Folders are numbers; these had tags of an enum before version 4, with the same bytes.
const FOLDERS: &[&str] = &["Inbox", "Outbox", "Sent", "Drafts", "Deleted"];

/// Every enum of the wire with all its variants.
pub(crate) const ENUMS: &[(&str, &[&str])] = &[
    ("Request", REQUESTS),
    ("FromBroker", FROM_BROKER),
    ("Reply", REPLIES),
    ("Event", EVENTS),
    ("AdviseSource", SOURCES),
    ("Opening", OPENINGS),
    ("Folder", FOLDERS),
    ("Role", ROLES),
    ("Column", COLUMNS),
    ("Direction", DIRECTIONS),
    ("Key", KEYS),
    ("FolderChange", FOLDER_CHANGES),
    ("ReadSource", READS),
    ("Durability", DURABILITIES),
    ("Content", CONTENTS),
    ("SettingChange", CHANGES),
    ("AddressAction", ACTIONS),
    ("QueueAction", QUEUE_ACTIONS),
    ("QueueChange", QUEUE_CHANGES),
    ("Returned", RETURNED),
    ("Deletion", DELETIONS),
    ("Reload", RELOADS),
    ("End", ENDS),
    ("Stopping", STOPPINGS),
    ("FaultDetail", DETAILS),
    ("Granted", GRANTED),
    ("TableRows", TABLES),
    ("Resource", RESOURCES),
    ("SubmissionState", STATES),
    ("TableChange", TABLE_CHANGES),
    ("EndReason", END_REASONS),
    ("LeaveReason", LEAVE_REASONS),
];

fn line(of: &str, variant: &str, message: &impl Serialize) -> Line {
    (format!("{of}::{variant}"), codec::encode(message).expect("a sample fits a frame"))
}

const CURSOR: StatusCursor = StatusCursor { session: 2, member: 14, reference: 0 };
const MEMBER: MemberId = MemberId(7);
const OBJECT: ObjectId = ObjectId { place: 3, generation: 1 };
const ENTRY: EntryId =
    EntryId { store: 0x0102_0304, record: 0x1122_3344_5566_7788_99AA_BBCC_DDEE_FF00 };
const FOLDER: Folder = Folder(Folder::FIRST_OTHER);
const PLACE: Place = Place { entry: ENTRY, folder: Folder::INBOX };

fn peer() -> Peer {
    Peer { pid: 4242, program: "tray".into() }
}

pub(crate) fn requests() -> Vec<Request> {
    vec![
        Request::Logon(Logon { profile: Some("work".into()), flags: LogonFlags::NO_MAIL }),
        Request::Logoff(Logoff { member: MEMBER, flags: LogoffFlags::SHARED, drain: Some(30_000) }),
        Request::Advise {
            member: MEMBER,
            source: AdviseSource::Session,
            events: Events::CRITICAL_ERROR | Events::EXTENDED,
        },
        Request::Unadvise { member: MEMBER, advise: AdviseId(1) },
        Request::Open { member: MEMBER, what: Opening::Folder(0, Folder::OUTBOX) },
        Request::Release { member: MEMBER, object: OBJECT },
        Request::List { member: MEMBER, object: OBJECT, after: 0, limit: 100 },
        Request::Read { member: MEMBER, source: ReadSource::Entry(ENTRY), offset: 0 },
        Request::Upload {
            member: MEMBER,
            store: 0,
            upload: UploadId(5),
            bytes: Blob(b"piece".to_vec()),
        },
        Request::Submit(Submit {
            member: MEMBER,
            store: 0,
            key: SubmitKey(ENTRY.record),
            from: None,
            recipients: vec!["bo@localhost".into()],
            content: Content::Inline(Blob(b"Hi\n".to_vec())),
            when: Durability::Durable,
            report: Report { notify: Notify::FAILURE, returned: Returned::Headers },
        }),
        Request::Draft { member: MEMBER, store: 0, content: Content::Uploaded(UploadId(5)) },
        Request::Save { member: MEMBER, object: OBJECT, key: SubmitKey(1) },
        Request::Delete { member: MEMBER, entry: ENTRY },
        Request::Setting {
            member: MEMBER,
            section: "tray".into(),
            name: "sound".into(),
            change: SettingChange::Set("on".into()),
        },
        Request::AbortSubmit { member: MEMBER, entry: ENTRY },
        Request::Flush { member: MEMBER },
        Request::AddressBook {
            member: MEMBER,
            object: OBJECT,
            action: AddressAction::Resolve { name: "bo".into() },
        },
        Request::QueryFastShutdown,
        Request::NotifyProcessShutdown,
        Request::DoFastShutdown { remembered: false },
        Request::Grant { member: MEMBER, object: OBJECT, token: Token(5), pid: Some(4242) },
        Request::Redeem { token: Token(5) },
        Request::Revoke { member: MEMBER, token: Token(5) },
        Request::Status,
        Request::Queue {
            profile: None,
            action: QueueAction::List { all: true, after: 0, limit: 64 },
        },
        Request::Stop { how: Stopping::Orderly },
        Request::ValidateState {
            member: MEMBER,
            kind: Resource::TransportProvider,
            provider: "relay".into(),
        },
        Request::StoreLogoff { member: MEMBER, object: OBJECT, flags: StoreLogoff::PURGE },
        Request::DeleteProfile { name: "work".into() },
        Request::Broker,
        Request::Ticket { shown: Some(ticket()) },
        Request::Return {
            logon: Logon { profile: Some("work".into()), flags: LogonFlags::NO_MAIL },
            tag: SessionTag(ENTRY.record),
            told: true,
        },
        Request::DeleteFrom { member: MEMBER, entry: ENTRY, from: Folder::INBOX },
        Request::StatusPage { after: CURSOR },
        Request::SubmitVia {
            submit: Box::new(Submit {
                member: MEMBER,
                store: 0,
                key: SubmitKey(ENTRY.record),
                from: Some("bounces@work.example".into()),
                recipients: vec!["bo@example.org".into()],
                content: Content::Inline(Blob(b"Hi\n".to_vec())),
                when: Durability::Durable,
                report: Report { notify: Notify::FAILURE, returned: Returned::Headers },
            }),
            route: Box::new(Route {
                author: Some("anna@work.example".into()),
                account: Some("work".into()),
            }),
        },
        Request::Health { after: SessionId(7) },
        Request::Reload { profile: "work".into() },
        Request::MessageId { entry: ENTRY },
        Request::Folders { member: MEMBER, store: 0, after: Some(FOLDER), limit: 100 },
        Request::MakeFolder { member: MEMBER, store: 0, parent: Some(FOLDER), name: "Bo".into() },
        Request::RenameFolder { member: MEMBER, store: 0, folder: FOLDER, name: "Cleo".into() },
        Request::RemoveFolder { member: MEMBER, store: 0, folder: FOLDER },
        Request::Contents {
            member: MEMBER,
            object: OBJECT,
            sort: Sort::NEWEST,
            only: Filter::UNREAD,
            after: Some(bookmark()),
            limit: 200,
        },
        Request::SetFlags {
            member: MEMBER,
            entry: ENTRY,
            add: Box::new(flags()),
            remove: Box::new(Flags { marks: Marks::ANSWERED, keywords: Vec::new() }),
        },
        Request::Move { member: MEMBER, entry: ENTRY, to: FOLDER },
        Request::Copy { member: MEMBER, key: SubmitKey(1), entry: ENTRY, to: FOLDER },
        Request::Append {
            member: MEMBER,
            key: SubmitKey(1),
            store: 0,
            folder: FOLDER,
            content: Content::Inline(Blob(b"Hi\n".to_vec())),
            flags: Box::new(flags()),
            received: Some(1_000),
        },
        Request::Search {
            member: MEMBER,
            store: 0,
            words: "hello".into(),
            folder: Some(Folder::INBOX),
            after: 0,
            limit: 50,
        },
        Request::Sync { member: MEMBER },
        Request::Mailboxes { after: SessionId(7) },
    ]
}

fn flags() -> Flags {
    Flags { marks: Marks::READ, keywords: vec!["$work".into()] }
}

fn bookmark() -> Bookmark {
    Bookmark { key: Key::Number(1_000), order: 9 }
}

fn contents_row() -> ContentsRow {
    ContentsRow {
        entry: ENTRY,
        folder: FOLDER,
        subject: "Hi".into(),
        from: "anna@host".into(),
        to: "bo@localhost".into(),
        date: Some(900),
        size: 3,
        received: 1_000,
        flags: flags(),
        recovered: false,
    }
}

fn folder_row() -> FolderRow {
    FolderRow {
        folder: FOLDER,
        parent: Some(Folder::INBOX),
        name: "Bo".into(),
        role: Some(Role::Archive),
        total: 3,
        unread: 1,
    }
}

/// One of each result of a reload.
fn reloads() -> Vec<Reload> {
    let why = "work.toml, line 3: no such key".into();
    vec![Reload::Unchanged, Reload::Changed, Reload::Refused(why), Reload::Later]
}

fn mailbox_state() -> MailboxState {
    MailboxState {
        session: SessionId(7),
        name: "work".into(),
        connections: 1,
        pending: 2,
        syncing: Some(Syncing { done: 3, total: 4 }),
        checked: Some(1_700_000_000_000),
        changed: None,
    }
}

fn health() -> SessionHealth {
    let last = LastOutcome { at: 1_700_000_000_000, worked: false, text: "535 5.7.8 no".into() };
    SessionHealth {
        session: SessionId(7),
        profile: ProfileInUse {
            changed: Some(1_600_000_000_000),
            read: 1_700_000_000_000,
            note: Some("other stores".into()),
        },
        providers: vec![ProviderHealth {
            name: "smtp".into(),
            kind: Resource::TransportProvider,
            last: Some(last),
            worked: None,
            next_try: Some(1_700_000_060_000),
            in_flight: 2,
        }],
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 99,
        socket: "/run/s".into(),
        started: 1_000,
        sessions: vec![SessionStatus {
            id: SessionId(2),
            profile: "work".into(),
            shared: true,
            state: "active".into(),
            members: vec![MemberStatus {
                id: MEMBER,
                peer: peer(),
                uid: 1000,
                since: 2_000,
                state: "attached".into(),
                no_mail: false,
                objects: 1,
            }],
            providers: vec![ProviderStatus {
                name: "sqlite".into(),
                kind: Resource::StoreProvider,
                status: "available".into(),
                fast_shutdown: "supported".into(),
            }],
            references: vec![ReferenceStatus {
                granter: MEMBER,
                holder: peer(),
                granted: Granted::Folder(Folder::INBOX),
            }],
        }],
        queue: [0, 1, 2, 3, 4, 5, 6, 7, 8],
        waiting_for_mail_member: 1,
    }
}

fn ticket() -> Ticket {
    Ticket(Blob(vec![0xAB; 4]))
}

fn broker_status() -> BrokerStatus {
    BrokerStatus {
        previous: Some(Previous {
            pid: 98,
            started: 500,
            ended: Some(900),
            end: End::Stopped,
            why: "SIGTERM".into(),
        }),
        limits: vec![LimitStatus { name: "connections".into(), most: 16_384, used: Some(3) }],
    }
}

fn queue_row() -> QueueRow {
    QueueRow {
        entry: ENTRY,
        profile: "work".into(),
        state: SubmissionState::Deferred,
        from: "anna@host".into(),
        recipients: vec![RecipientRow {
            address: "bo@localhost".into(),
            state: SubmissionState::Deferred,
            reply: Some("full".into()),
        }],
        subject: "Hi".into(),
        attempts: 2,
        next_attempt: Some(3_000),
        last_error: None,
        submitted: 1_000,
        size: 3,
    }
}

fn address_row() -> AddressRow {
    AddressRow { entry: ENTRY, name: "Bo".into(), addresses: vec!["bo@localhost".into()] }
}

fn tables() -> Vec<TableRows> {
    vec![
        TableRows::Messages(vec![MessageRow {
            entry: ENTRY,
            subject: "Hi".into(),
            from: "anna@host".into(),
            to: "bo@localhost".into(),
            size: 3,
            received: 1_000,
            recovered: false,
        }]),
        TableRows::Addresses(vec![address_row()]),
        TableRows::Status(vec![StatusRow {
            name: "spooler".into(),
            resource: Resource::Spooler,
            code: status_code::AVAILABLE,
            text: "idle".into(),
            methods: status_code::METHOD_FLUSH_QUEUES,
        }]),
    ]
}

pub(crate) fn replies() -> Vec<Reply> {
    vec![
        Reply::Done,
        Reply::LoggedOn(LoggedOn {
            member: MEMBER,
            session: SessionId(2),
            profile: "work".into(),
            shared: true,
            stores: vec!["sqlite".into()],
            identity: "anna@host".into(),
        }),
        Reply::LoggedOff(LoggedOff {
            invalidated: 1,
            discarded: 2,
            queued: 3,
            stayed: vec![peer()],
        }),
        Reply::Advised(AdviseId(1)),
        Reply::Opened(OBJECT),
        Reply::Rows(Rows { rows: tables().remove(0), next: Some(9) }),
        Reply::Piece { size: 3, bytes: Blob(b"Hi\n".to_vec()) },
        Reply::Submitted { entry: ENTRY, state: SubmissionState::Queued },
        Reply::Saved(ENTRY),
        Reply::Setting(Some("on".into())),
        Reply::Added(ENTRY),
        Reply::Resolved(address_row()),
        Reply::Redeemed { member: MEMBER, object: OBJECT, granted: Granted::Message(ENTRY) },
        Reply::Status(Box::new(status())),
        Reply::Queue { rows: vec![queue_row()], next: None },
        Reply::Flushed(3),
        Reply::StoreLoggedOff(StoreLogoff::COMPLETE),
        Reply::ProfileDeleted(Deletion::WhenUnused),
        Reply::Broker(Box::new(broker_status())),
        Reply::Ticket(ticket()),
        Reply::StatusPage { status: Box::new(status()), next: Some(CURSOR) },
        Reply::Health { sessions: vec![health()], next: Some(SessionId(7)), requests: Some(5) },
        Reply::Reloaded(Reloaded { sessions: 2, result: reloads().remove(2) }),
        Reply::MessageId(Some("<1@host>".into())),
        Reply::Folders { rows: vec![folder_row()], next: Some(FOLDER) },
        Reply::Made(FOLDER),
        Reply::Contents { rows: vec![contents_row()], next: Some(bookmark()) },
        Reply::Flags(flags()),
        Reply::Found { rows: vec![contents_row()], next: Some(9), unindexed: 2 },
        Reply::Synced(Synced { new: 1, changed: 2, removed: 3, pending: 4 }),
        Reply::Mailboxes { mailboxes: vec![mailbox_state()], next: Some(SessionId(7)) },
    ]
}

pub(crate) fn events() -> Vec<Event> {
    vec![
        Event::CriticalError {
            code: Code::E_END_OF_SESSION,
            reason: EndReason::SharedLogoff,
            by: Some(peer()),
            grace: Some(30_000),
        },
        Event::NewMail(PLACE),
        Event::Created(PLACE),
        Event::Modified(PLACE),
        Event::Moved(PLACE, Folder::DRAFTS),
        Event::Deleted(PLACE),
        Event::Table { object: OBJECT, change: TableChange::Reload },
        Event::MemberLeft { member: MEMBER, reason: LeaveReason::LoggedOff },
        Event::Evicted,
        Event::BrokerStopping { within: 20_000 },
        Event::LogoffProgress { waiting: 2, finished: 1 },
        Event::Durable(vec![ENTRY]),
        Event::Lagged { missed: 12 },
        Event::Ticket(ticket()),
        Event::Session(SessionTag(ENTRY.record)),
        Event::MembersLeft(vec![
            Departure { member: MEMBER, reason: LeaveReason::Disconnected },
            Departure { member: MemberId(9), reason: LeaveReason::Evicted },
        ]),
        Event::Arrived(Box::new(Arrival {
            place: PLACE,
            from: "anna@host".into(),
            subject: "Hi".into(),
        })),
        Event::Folder { store: ENTRY.store, folder: FOLDER, change: FolderChange::Renamed },
    ]
}

fn fault() -> Fault {
    Fault::new(Code::E_INVALID_OBJECT, "no")
}

fn from_broker() -> Vec<FromBroker> {
    vec![
        FromBroker::Answer { id: RequestId(1), result: Err(fault()) },
        FromBroker::Notify(Notification {
            member: MEMBER,
            advises: vec![AdviseId(1), AdviseId(2)],
            event: Event::Evicted,
        }),
        FromBroker::Goodbye(fault()),
    ]
}

/// The parts that occur in messages: enums whose variants a message has only one of.
fn parts() -> Vec<Line> {
    let mut lines = Vec::new();
    macro_rules! add {
        ($of:literal, $name:ident, $values:expr) => {
            lines.extend($values.iter().map(|value| line($of, $name(value), value)));
        };
    }
    add!("AdviseSource", source_name, [AdviseSource::Session, AdviseSource::Object(OBJECT)]);
    add!(
        "Opening",
        opening_name,
        [
            Opening::Store(1),
            Opening::Folder(0, Folder::SENT),
            Opening::Message(ENTRY),
            Opening::AddressBook,
            Opening::StatusTable,
        ]
    );
    let folders = Folder::BUILT_IN.iter().zip(FOLDERS);
    lines.extend(folders.map(|(folder, name)| line("Folder", name, folder)));
    add!("Role", role_name, Role::ALL);
    add!("Column", column_name, Column::ALL);
    add!("Direction", direction_name, [Direction::Ascending, Direction::Descending]);
    add!("Key", key_name, [Key::Number(1_000), Key::Text("hi".into())]);
    add!(
        "FolderChange",
        folder_change_name,
        [FolderChange::Made, FolderChange::Renamed, FolderChange::Removed]
    );
    add!("ReadSource", read_name, [ReadSource::Entry(ENTRY), ReadSource::Object(OBJECT)]);
    add!("Durability", durability_name, [Durability::Durable, Durability::Deferred]);
    add!(
        "Content",
        content_name,
        [Content::Inline(Blob(b"Hi\n".to_vec())), Content::Uploaded(UploadId(5))]
    );
    add!(
        "SettingChange",
        change_name,
        [SettingChange::Keep, SettingChange::Set("on".into()), SettingChange::Remove]
    );
    add!(
        "AddressAction",
        action_name,
        [
            AddressAction::Add { name: "Bo".into(), addresses: vec!["bo@localhost".into()] },
            AddressAction::Remove { name: "Bo".into() },
            AddressAction::Resolve { name: "B".into() },
        ]
    );
    add!(
        "QueueAction",
        queue_action_name,
        [
            QueueAction::List { all: false, after: 9, limit: 64 },
            QueueAction::Show(ENTRY),
            QueueAction::Change(ENTRY, QueueChange::Hold),
            QueueAction::Flush,
        ]
    );
    add!(
        "QueueChange",
        queue_change_name,
        [QueueChange::Retry, QueueChange::Hold, QueueChange::Release, QueueChange::Abort]
    );
    add!("Returned", returned_name, [Returned::Headers, Returned::Full]);
    add!("Reload", reload_name, reloads());
    add!("Deletion", deletion_name, [Deletion::Done, Deletion::WhenUnused]);
    add!("End", end_name, [End::Stopped, End::Failed, End::Killed, End::MachineDown]);
    add!("Stopping", stopping_name, [Stopping::Orderly, Stopping::Fast]);
    add!(
        "FaultDetail",
        detail_name,
        [
            FaultDetail::None,
            FaultDetail::Owner(peer()),
            FaultDetail::Addresses(vec!["bo@example.org".into()]),
            FaultDetail::Providers(vec!["relay".into()]),
            FaultDetail::Holders(vec![peer()]),
            FaultDetail::Entries(vec![ENTRY]),
        ]
    );
    add!("Granted", granted_name, [Granted::Message(ENTRY), Granted::Folder(Folder::SENT)]);
    add!("TableRows", table_name, tables());
    add!(
        "Resource",
        resource_name,
        [
            Resource::Subsystem,
            Resource::Spooler,
            Resource::AddressBook,
            Resource::TransportProvider,
            Resource::AddressBookProvider,
            Resource::StoreProvider,
            Resource::Mailbox,
        ]
    );
    add!("SubmissionState", state_name, SubmissionState::ALL);
    add!(
        "TableChange",
        table_change_name,
        [
            TableChange::Added("k".into()),
            TableChange::Deleted("k".into()),
            TableChange::Modified("k".into()),
            TableChange::Reload,
        ]
    );
    add!(
        "EndReason",
        end_reason_name,
        [
            EndReason::SharedLogoff,
            EndReason::BrokerStopped,
            EndReason::BrokerLost,
            EndReason::ReferenceLost,
            EndReason::StoreLost
        ]
    );
    add!(
        "LeaveReason",
        leave_reason_name,
        [
            LeaveReason::LoggedOff,
            LeaveReason::FastShutdown,
            LeaveReason::Disconnected,
            LeaveReason::Evicted,
            LeaveReason::BrokerStopped,
        ]
    );
    lines
}

/// Every message there is, as a frame.
pub(crate) fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for request in requests() {
        let name = request_name(&request);
        lines.push(line("Request", name, &Asked { id: RequestId(1), request }));
    }
    for message in from_broker() {
        lines.push(line("FromBroker", from_broker_name(&message), &message));
    }
    for reply in replies() {
        let name = reply_name(&reply);
        lines.push(line(
            "Reply",
            name,
            &FromBroker::Answer { id: RequestId(1), result: Ok(reply) },
        ));
    }
    for event in events() {
        let name = event_name(&event);
        let notification = Notification { member: MEMBER, advises: vec![AdviseId(1)], event };
        lines.push(line("Event", name, &FromBroker::Notify(notification)));
    }
    lines.extend(parts());
    lines
}
