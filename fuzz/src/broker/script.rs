//! Bytes as a script: each step is taken from them, and when they run out everything comes to its end.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use sundown_core::settings::{
    FastShutdownBehavior, Linger, OnUnknown, Settings, SharedLogoff, Shutdown,
};
use sundown_core::{ConnectionId, Event, Stop};
use sundown_protocol::folder::{
    Bookmark, Column, Direction, Filter, Flags, Key, Marks, Role, Sort,
};
use sundown_protocol::reply::Resource;
use sundown_protocol::request::{
    AddressAction, AdviseSource, Blob, Content, Durability, Folder, Logoff, LogoffFlags, Logon,
    LogonFlags, Notify, Opening, QueueAction, QueueChange, ReadSource, Report, Request, Returned,
    Route, SettingChange, StatusCursor, Stopping, StoreLogoff, Submit, Ticket,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, Events, MemberId, ObjectId, SessionId, SubmitKey, Token, UploadId,
};

use super::fakes::Step;
use super::{OWNER, World, key, small_limits};
use crate::provider::{MirrorChange, Outcome, Spot};

/// As many steps as one script has at most.
const STEPS: usize = 300;

/// Plays the script and the end that follows it.
pub(super) fn play(bytes: &[u8]) {
    let mut script = Unstructured::new(bytes);
    let settings = settings(&mut script).unwrap_or_default();
    let mut world = World::new(Settings { owner: OWNER, ..settings });
    for (profile, _) in world.profiles.values_mut() {
        if script.arbitrary().unwrap_or_default() {
            profile.queue.on_unknown = OnUnknown::Retry;
        }
    }
    for _ in 0..STEPS {
        if script.is_empty() || world.stopped || step(&mut world, &mut script).is_err() {
            break;
        }
    }
    world.finish();
}

fn settings(script: &mut Unstructured<'_>) -> Result<Settings> {
    let shutdown = Shutdown {
        shared_logoff: *script.choose(&[
            SharedLogoff::Owner,
            SharedLogoff::Any,
            SharedLogoff::Deny,
        ])?,
        linger: *script.choose(&[
            Linger::UntilEmpty,
            Linger::Off,
            Linger::For(Duration::from_secs(60)),
        ])?,
        fast_shutdown: *script.choose(&[
            FastShutdownBehavior::OptIn,
            FastShutdownBehavior::OptOut,
            FastShutdownBehavior::Disabled,
        ])?,
        external_references: script.arbitrary()?,
        ..Shutdown::default()
    };
    let mut settings = Settings { shutdown, ..Settings::default() };
    if script.arbitrary()? {
        settings.limits = small_limits();
    }
    Ok(settings)
}

fn step(world: &mut World, script: &mut Unstructured<'_>) -> Result<()> {
    match script.int_in_range(0..=31)? {
        0 | 1 => {
            let uid = *script.choose(&[OWNER, OWNER, OWNER, 0, 7, 8])?;
            let (pid, library) = (script.int_in_range(1..=4)?, script.int_in_range(0..=1)?);
            world.connect(pid, uid, library);
        }
        2 => {
            if let Some(connection) = a_connection(world, script)? {
                world.disconnect(connection);
            }
        }
        3 => {
            let pid = script.int_in_range(1..=4)?;
            world.apply(Event::ProcessEnded { process: key(pid) });
        }
        4 | 5 => {
            let by = *script.choose(&[0, 50, 1_000, 11_000, 31_000, 3_600_000, 500_000_000])?;
            world.advance(Duration::from_millis(by));
        }
        6 => world.settle(),
        7..=10 => {
            if let Some(lane) = a_lane(world, script)? {
                world.work(lane, None);
                world.tell(lane);
            }
        }
        11 => {
            if let Some(lane) = a_lane(world, script)? {
                world.work(lane, None);
            }
        }
        12 => {
            if let Some(lane) = a_lane(world, script)? {
                let code = *script.choose(&[
                    Code::E_DISK_ERROR,
                    Code::E_NETWORK_ERROR,
                    Code::E_CORRUPT_STORE,
                    Code::E_NO_SUPPORT,
                ])?;
                world.work(lane, Some(code));
                world.tell(lane);
            }
        }
        13 => {
            let _ = world.load_profile() || world.find_users();
        }
        14 => {
            world.delete_profile();
        }
        15 => {
            let steps = [
                Step::Says(Outcome::Failed),
                Step::Says(Outcome::Later),
                Step::Says(Outcome::Offline),
                Step::Says(Outcome::Unknown),
                Step::SentButUnknown,
                Step::Refuses,
            ];
            let address = an_address(script)?;
            world.wire.steps.entry(address).or_default().push_back(*script.choose(&steps)?);
        }
        16 => rare(world, script)?,
        27 => mirror(world, script)?,
        28 => world.mailbox_says(script.arbitrary()?),
        29..=31 => {
            if let Some(connection) = a_connection(world, script)? {
                let member = a_member(world, connection, script)?;
                let object = an_object(world, member, script)?;
                let request = about_folders(world, (member, object), script)?;
                world.ask(connection, request, None);
            }
        }
        _ => {
            if let Some(connection) = a_connection(world, script)? {
                let request = a_request(world, connection, script)?;
                world.ask(connection, request, None);
            }
        }
    }
    Ok(())
}

fn rare(world: &mut World, script: &mut Unstructured<'_>) -> Result<()> {
    match script.int_in_range(0..=7)? {
        0 => {
            let how = [Stop::Restart, Stop::Final, Stop::Fast, Stop::Now];
            world.apply(Event::Stop(*script.choose(&how)?));
        }
        1 => {
            let settings = Settings { owner: OWNER, ..settings(script)? };
            world.settings = settings.clone();
            world.apply(Event::Reload(Box::new(settings)));
        }
        2 => world.apply(Event::Adopt { profile: a_profile(script)? }),
        3 => world.apply(Event::Timer),
        4 | 5 => {
            let by = *script.choose(&[61, 301, 3_700])?;
            world.look_after(Duration::from_secs(by));
        }
        6 => {
            let (name, how) = (a_profile(script)?, script.int_in_range(0..=7)?);
            world.change_profile(&name, how);
        }
        _ => world.apply(Event::Measure),
    }
    Ok(())
}

/// A mailbox has seen something.
fn mirror(world: &mut World, script: &mut Unstructured<'_>) -> Result<()> {
    let profile = *script.choose(&["default", "work"])?;
    let dirs = ["", "work"];
    let mut changes = Vec::new();
    for _ in 0..script.int_in_range(1..=3)? {
        let dir = (*script.choose(&dirs)?).to_owned();
        let name = script.int_in_range(0..=9)?.to_string();
        let (spot, marks) =
            (Spot { dir: dir.clone(), name: name.clone() }, Marks(script.int_in_range(0..=63)?));
        changes.push(match script.int_in_range(0..=6)? {
            0 | 1 => {
                let (news, facts) = (script.arbitrary()?, Box::default());
                MirrorChange::Found { spot, marks, news, facts }
            }
            2 => MirrorChange::Marked { spot, marks },
            3 => {
                let to = Spot { dir: (*script.choose(&dirs)?).to_owned(), name: name + "x" };
                MirrorChange::Moved { from: spot, to, marks }
            }
            4 => MirrorChange::Vanished { spot },
            5 => {
                let role = *script.choose(&[None, Some(Role::Sent), Some(Role::Junk)])?;
                MirrorChange::Folder { dir, parent: None, name, role }
            }
            _ => MirrorChange::FolderGone { dir },
        });
    }
    world.mailbox_writes(profile, changes);
    Ok(())
}

/// Folders, flags and what is in folders.
fn about_folders(
    world: &World,
    (member, object): (MemberId, ObjectId),
    script: &mut Unstructured<'_>,
) -> Result<Request> {
    let store = u16::from(script.ratio(1, 8)?);
    let numbers = [0, 1, 2, 3, 4, 16, 17, 18, u32::MAX];
    let folder = Folder(*script.choose(&numbers)?);
    let other = Folder(*script.choose(&numbers)?);
    let parent = if script.arbitrary()? { None } else { Some(other) };
    let entry = an_entry(world, script)?;
    let key = SubmitKey(script.int_in_range(0..=255)?);
    let name = (*script.choose(&["work", "play", "", "a\nb", "Größe"])?).to_owned();
    let limit = *script.choose(&[0, 1, 3, u32::MAX])?;
    let keywords = *script.choose(&["", "$work", "a b", "Read"])?;
    let keywords: Vec<_> =
        [keywords].into_iter().filter(|k| !k.is_empty()).map(str::to_owned).collect();
    let flags = Flags { marks: Marks(script.int_in_range(0..=127)?), keywords };
    Ok(match script.int_in_range(0..=10)? {
        0 => Request::Folders { member, store, after: parent, limit },
        1 => Request::MakeFolder { member, store, parent, name },
        2 => Request::RenameFolder { member, store, folder, name },
        3 => Request::RemoveFolder { member, store, folder },
        4 => {
            let by = *script.choose(&Column::ALL)?;
            let direction = *script.choose(&[Direction::Ascending, Direction::Descending])?;
            let only = Filter { with: Marks(script.int_in_range(0..=3)?), without: Marks(0) };
            let key = match script.int_in_range(0..=2)? {
                0 => Key::Number(script.arbitrary()?),
                1 => Key::Text("k".repeat(script.int_in_range(0..=400)?)),
                _ => Key::Text("Größe".into()),
            };
            let after = Bookmark { key, order: script.arbitrary()? };
            let after = if script.arbitrary()? { None } else { Some(after) };
            Request::Contents { member, object, sort: Sort { by, direction }, only, after, limit }
        }
        5 => Request::SetFlags { member, entry, add: Box::new(flags), remove: Box::default() },
        6 => Request::SetFlags { member, entry, add: Box::default(), remove: Box::new(flags) },
        7 => Request::Move { member, entry, to: folder },
        8 => Request::Copy { member, key, entry, to: folder },
        9 => {
            let received = if script.arbitrary()? { None } else { Some(script.arbitrary()?) };
            let content = content(script)?;
            Request::Append {
                member,
                key,
                store,
                folder,
                content,
                flags: Box::new(flags),
                received,
            }
        }
        _ => {
            let words = "hello ".repeat(script.int_in_range(0..=900)?);
            let after = script.int_in_range(0..=9)?;
            Request::Search { member, store, words, folder: parent, after, limit }
        }
    })
}

fn a_connection(world: &World, script: &mut Unstructured<'_>) -> Result<Option<ConnectionId>> {
    let all: Vec<_> = world.clients.keys().copied().collect();
    if all.is_empty() { Ok(None) } else { script.choose(&all).copied().map(Some) }
}

fn a_lane(world: &World, script: &mut Unstructured<'_>) -> Result<Option<sundown_core::LaneId>> {
    let busy = world.lanes.iter().filter(|(_, l)| !l.waiting.is_empty() || !l.done.is_empty());
    let all: Vec<_> = busy.map(|(id, _)| *id).collect();
    if all.is_empty() { Ok(None) } else { script.choose(&all).copied().map(Some) }
}

fn a_profile(script: &mut Unstructured<'_>) -> Result<String> {
    Ok((*script.choose(&["default", "work", "default", "work", "none"])?).to_owned())
}

/// One that a process was given, or one that was changed.
fn a_ticket(script: &mut Unstructured<'_>, world: &World) -> Result<Ticket> {
    let mut ticket = match world.seen.tickets.is_empty() {
        true => Ticket(Blob(vec![1; 58])),
        false => script.choose(&world.seen.tickets)?.clone(),
    };
    if script.ratio(1, 4)? {
        let at = script.int_in_range(0..=57)?;
        ticket.0.0[at] ^= script.int_in_range(1..=255)?;
    }
    Ok(ticket)
}

fn an_address(script: &mut Unstructured<'_>) -> Result<String> {
    Ok((*script.choose(&["a@x", "b@x", "c@y", "odd", "", "no address\n"])?).to_owned())
}

/// One that this connection was given, mostly; else another's, or none.
fn a_member(
    world: &World,
    connection: ConnectionId,
    script: &mut Unstructured<'_>,
) -> Result<MemberId> {
    let own: Vec<_> =
        world.seen.members.iter().filter(|(at, _)| *at == connection).map(|(_, m)| *m).collect();
    let all: Vec<_> = world.seen.members.iter().map(|(_, m)| *m).collect();
    match script.int_in_range(0..=15)? {
        0 => Ok(MemberId(script.int_in_range(0..=9)?)),
        1 if !all.is_empty() => script.choose(&all).copied(),
        _ if !own.is_empty() => {
            // The last ones are those that are still there.
            let place = script.int_in_range(0..=own.len().min(3) - 1)?;
            Ok(own[own.len() - 1 - place])
        }
        _ => Ok(MemberId(1)),
    }
}

fn an_object(world: &World, member: MemberId, script: &mut Unstructured<'_>) -> Result<ObjectId> {
    let own: Vec<_> =
        world.seen.objects.iter().filter(|(of, _)| *of == member).map(|(_, o)| *o).collect();
    if !own.is_empty() && script.ratio(7, 8)? {
        return script.choose(&own).copied();
    }
    // Numbers begin at the same place for everybody.
    Ok(ObjectId { place: script.int_in_range(0..=4)?, generation: script.int_in_range(0..=2)? })
}

fn an_entry(world: &World, script: &mut Unstructured<'_>) -> Result<EntryId> {
    if !world.seen.entries.is_empty() && script.ratio(7, 8)? {
        return script.choose(&world.seen.entries).copied();
    }
    Ok(EntryId { store: script.int_in_range(0..=3)?, record: script.int_in_range(0..=3)? })
}

fn content(script: &mut Unstructured<'_>) -> Result<Content> {
    Ok(match script.int_in_range(0..=3)? {
        0 => Content::Uploaded(UploadId(script.int_in_range(0..=2)?)),
        _ => Content::Inline(Blob(b"Subject: x\r\n\r\nhello".to_vec())),
    })
}

fn a_request(
    world: &World,
    connection: ConnectionId,
    script: &mut Unstructured<'_>,
) -> Result<Request> {
    let member = a_member(world, connection, script)?;
    let object = an_object(world, member, script)?;
    let entry = an_entry(world, script)?;
    let folder = *script.choose(&Folder::BUILT_IN)?;
    let store = u16::from(script.ratio(1, 8)?);
    let token = Token(script.int_in_range(0..=2)?);
    Ok(match script.int_in_range(0..=42)? {
        0..=4 => {
            let profile = if script.ratio(1, 4)? { None } else { Some(a_profile(script)?) };
            let flags = [0, 0, 0, 0x2, 0x8000, 0x0010_0000, 0x8002, 1 << 31];
            Request::Logon(Logon { profile, flags: LogonFlags(*script.choose(&flags)?) })
        }
        5 | 6 => {
            let flags = [0, 0, 1, 0x101, 0x201, 0x400, 0x301, 0x200, 0x100];
            let drain = *script.choose(&[None, Some(0), Some(1_000), Some(20_000)])?;
            let flags = LogoffFlags(*script.choose(&flags)?);
            Request::Logoff(Logoff { member, flags, drain })
        }
        7 => {
            let source = match script.int_in_range(0..=1)? {
                0 => AdviseSource::Session,
                _ => AdviseSource::Object(object),
            };
            let events = [Events::all(), Events::EXTENDED, Events(0), Events(u32::MAX)];
            Request::Advise { member, source, events: *script.choose(&events)? }
        }
        8 => {
            let known = world.seen.advises.iter().find(|(of, _)| *of == member).map(|(_, a)| *a);
            let made = AdviseId(script.int_in_range(0..=3)?);
            Request::Unadvise { member, advise: known.unwrap_or(made) }
        }
        9..=12 => {
            let what = match script.int_in_range(0..=5)? {
                0 => Opening::Store(store),
                1 => Opening::Folder(store, folder),
                2 => Opening::Folder(store, Folder(script.int_in_range(3..=18)?)),
                3 => Opening::Message(entry),
                4 => Opening::AddressBook,
                _ => Opening::StatusTable,
            };
            Request::Open { member, what }
        }
        13 => Request::Release { member, object },
        14 | 15 => {
            let (after, limit) = (script.int_in_range(0..=3)?, script.int_in_range(0..=3)?);
            Request::List { member, object, after, limit }
        }
        16 => {
            let source = match script.int_in_range(0..=1)? {
                0 => ReadSource::Entry(entry),
                _ => ReadSource::Object(object),
            };
            Request::Read { member, source, offset: script.int_in_range(0..=30)? }
        }
        17 => {
            let upload = UploadId(script.int_in_range(0..=2)?);
            let bytes = Blob(vec![b'x'; script.int_in_range(0..=1000)?]);
            Request::Upload { member, store, upload, bytes }
        }
        18..=21 => {
            let when = [Durability::Durable, Durability::Deferred];
            let recipients = script.int_in_range(0..=4)?;
            let submit = Submit {
                member,
                store,
                key: SubmitKey(script.int_in_range(0..=255)?),
                from: if script.arbitrary()? { None } else { Some(an_address(script)?) },
                recipients: (0..recipients).map(|_| an_address(script)).collect::<Result<_>>()?,
                content: content(script)?,
                when: *script.choose(&when)?,
                report: Report {
                    notify: Notify(script.int_in_range(0..=8)?),
                    returned: Returned::Headers,
                },
            };
            if script.arbitrary()? {
                return Ok(Request::Submit(submit));
            }
            let author = if script.arbitrary()? { None } else { Some(an_address(script)?) };
            let account = ["linger", "x", ""];
            let account = if script.arbitrary()? { None } else { Some(*script.choose(&account)?) };
            let route = Box::new(Route { author, account: account.map(str::to_owned) });
            Request::SubmitVia { submit: Box::new(submit), route }
        }
        22 => Request::Draft { member, store, content: content(script)? },
        23 => Request::Save { member, object, key: SubmitKey(script.int_in_range(0..=255)?) },
        24 => Request::Delete { member, entry },
        25 => {
            let change = match script.int_in_range(0..=2)? {
                0 => SettingChange::Keep,
                1 => SettingChange::Set("on".into()),
                _ => SettingChange::Remove,
            };
            Request::Setting { member, section: "s".into(), name: "n".into(), change }
        }
        26 => Request::AbortSubmit { member, entry },
        27 => Request::Flush { member },
        28 => {
            let name = "friends".to_owned();
            let action = match script.int_in_range(0..=2)? {
                0 => AddressAction::Add { name, addresses: vec![an_address(script)?] },
                1 => AddressAction::Remove { name },
                _ => AddressAction::Resolve { name },
            };
            Request::AddressBook { member, object, action }
        }
        29 | 30 => Request::QueryFastShutdown,
        31 => Request::NotifyProcessShutdown,
        32 => Request::DoFastShutdown { remembered: script.arbitrary()? },
        33 => {
            let pid = if script.arbitrary()? { None } else { Some(script.int_in_range(1..=4)?) };
            Request::Grant { member, object, token, pid }
        }
        34 | 35 => Request::Redeem { token },
        36 => Request::Revoke { member, token },
        37 => match script.int_in_range(0..=1)? {
            0 => Request::Status,
            _ => Request::StatusPage {
                after: StatusCursor {
                    session: script.int_in_range(0..=9)?,
                    member: script.int_in_range(0..=9)?,
                    reference: script.int_in_range(0..=9)?,
                },
            },
        },
        38 | 39 => {
            let changes =
                [QueueChange::Retry, QueueChange::Hold, QueueChange::Release, QueueChange::Abort];
            if script.int_in_range(0..=4)? == 0 {
                return Ok(Request::MessageId { entry });
            }
            let action = match script.int_in_range(0..=4)? {
                0 => QueueAction::List {
                    all: script.arbitrary()?,
                    after: script.int_in_range(0..=3)?,
                    limit: script.int_in_range(0..=3)?,
                },
                1 => QueueAction::Show(entry),
                2 | 3 => QueueAction::Change(entry, *script.choose(&changes)?),
                _ => QueueAction::Flush,
            };
            let profile = if script.arbitrary()? { None } else { Some(a_profile(script)?) };
            Request::Queue { profile, action }
        }
        40 => {
            let provider =
                (*script.choose(&["relay", "store", "people", "account", "none"])?).to_owned();
            let kinds = [
                Resource::TransportProvider,
                Resource::StoreProvider,
                Resource::AddressBookProvider,
                Resource::Mailbox,
                Resource::Spooler,
            ];
            Request::ValidateState { member, kind: *script.choose(&kinds)?, provider }
        }
        41 => Request::StoreLogoff {
            member,
            object,
            flags: StoreLogoff(script.int_in_range(0..=0x3F)?),
        },
        _ => match script.int_in_range(0..=7)? {
            0 => {
                let how = [Stopping::Orderly, Stopping::Fast];
                Request::Stop { how: *script.choose(&how)? }
            }
            1 | 2 => Request::DeleteProfile { name: a_profile(script)? },
            3 => Request::Ticket { shown: None },
            5 if !world.seen.tags.is_empty() => {
                let tag = *script.choose(&world.seen.tags)?;
                let logon = Logon { profile: Some(a_profile(script)?), flags: LogonFlags(0) };
                Request::Return { logon, tag, told: script.arbitrary()? }
            }
            6 => Request::DeleteFrom { member, entry, from: *script.choose(&Folder::BUILT_IN)? },
            4 | 5 => Request::Ticket { shown: Some(a_ticket(script, world)?) },
            _ => match script.int_in_range(0..=2)? {
                0 => Request::Reload { profile: a_profile(script)? },
                1 => Request::Health { after: SessionId(script.int_in_range(0..=9)?) },
                _ => Request::Broker,
            },
        },
    })
}
