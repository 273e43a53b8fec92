//! Providers that answer a call with something that is no answer to it: with another call's, or with numbers, places and names
//! that cannot be. Whoever waits is told so in that turn, nothing waits on, and nothing is taken for done.
//!
//! Each kind of call has a [scene](Scene) in which it is made, and each scene is played with each kind of answer, of a provider
//! that has done what it was called for and of one that has not. A new call or a new answer does not compile until it is here.

use sundown_protocol::folder::{Bookmark, ContentsRow, Filter, Flags, FolderRow, Key, Marks, Sort};
use sundown_protocol::reply::{AddressRow, MessageRow, Place, Reply, Resource, SubmissionState};
use sundown_protocol::request::{
    AddressAction, Blob, Content, Folder, LogonFlags, Opening, QueueAction, QueueChange,
    ReadSource, Report, Request, SettingChange, StoreLogoff,
};
use sundown_protocol::{
    Code, EntryId, Events, FaultDetail, MemberId, ObjectId, SubmitKey, UploadId,
};

use super::fakes::{Bend, CALLS, How, Interface, Lie, which};
use super::world::{Member, OWNER, World, entries_of, logon_request, mailbox, millis, secs};
use crate::ground::event::ConnectionId;
use crate::ground::event::Event;
use crate::ground::expected::{Known, Wrong};
use crate::provider::AddressCall;
use crate::provider::AskedBy;
use crate::provider::MailboxCall;
use crate::provider::Mirror;
use crate::provider::Outcome;
use crate::provider::ProviderAnswer;
use crate::provider::ProviderCall;
use crate::provider::ProviderType;
use crate::provider::Recipient;
use crate::provider::RecipientResult;
use crate::provider::StoreChange;
use crate::provider::StoreFacts;
use crate::provider::StoreRead;
use crate::provider::StoreWrite;
use crate::provider::Submission;
use crate::provider::Transmission;
use crate::provider::TransportCall;
use crate::provider::TransportFacts;
use crate::provider::{ChangedFolder, Pending};
use crate::provider::{KeptClock, StoredDsn, SubmissionUpdate};

/// A call of one type of provider: how it comes about, and what follows when it is answered with a lie.
struct Scene {
    provider: ProviderType,
    call: ProviderCall,
    /// The names of the answers that are ones to it.
    right: &'static [&'static str],
    play: fn(&mut World, &Lie),
}

const DONE: &[&str] = &["Done"];
const SHUTDOWN: &[&str] = &["Done", "Unaware", "Untouched"];

/// Every call of every type of provider that is called so. Some come about in several ways.
fn scenes() -> Vec<Scene> {
    use ProviderCall::{
        Address, DoFastShutdown, Logoff, Logon, NotifyProcessShutdown, QueryFastShutdown, Read,
        Renew, Transport, Write,
    };
    let mut scenes = Vec::new();
    let mut add = |provider, call: &ProviderCall, right, plays: &[fn(&mut World, &Lie)]| {
        for play in plays {
            scenes.push(Scene { provider, call: call.clone(), right, play: *play });
        }
    };
    let all = ProviderType::ALL;
    let [transport, mailbox, book, store] = all;
    add(store, &Logon, &["StoreOpened"], &[store_logon]);
    add(transport, &Logon, &["TransportReady"], &[other_logon]);
    add(book, &Logon, DONE, &[other_logon]);
    add(mailbox, &Logon, DONE, &[other_logon]);
    add(store, &Renew, &["StoreOpened"], &[store_renew]);
    add(transport, &Renew, &["TransportReady"], &[transport_renew]);
    add(book, &Renew, DONE, &[book_renew]);
    add(mailbox, &Renew, DONE, &[mailbox_renew]);
    for provider in all {
        add(provider, &Logoff, DONE, &[logoff]);
        add(provider, &QueryFastShutdown, SHUTDOWN, &[query]);
        add(provider, &NotifyProcessShutdown, SHUTDOWN, &[notify]);
        let does = if provider == store { store_do } else { other_do };
        add(provider, &DoFastShutdown, SHUTDOWN, &[does]);
    }
    let write = |write| Write(write);
    add(store, &write(append()), &["Appended"], &[appends]);
    add(store, &write(StoreWrite::Discard { upload: 0 }), DONE, &[discards]);
    add(store, &write(submit()), &["Submitted"], &[submits, submits_deferred, repeats]);
    add(store, &write(save()), &["Saved"], &[saves, recovers, keeps, files]);
    add(store, &write(copy()), &["Saved"], &[copies]);
    let to = Folder::SENT;
    add(store, &write(StoreWrite::Move { record: 0, to }), &["Moved"], &[moves]);
    add(store, &write(set_flags()), &["Flagged"], &[sets_flags]);
    add(store, &write(make_folder()), &["FolderMade"], &[makes_a_folder]);
    let (folder, name) = (Folder::SENT, String::new());
    let rename = StoreWrite::RenameFolder { folder, name };
    add(store, &write(rename), DONE, &[renames_a_folder]);
    add(store, &write(StoreWrite::RemoveFolder { folder }), DONE, &[removes_a_folder]);
    add(store, &Read(folders()), &["Folders"], &[lists_folders]);
    add(store, &Read(StoreRead::FindFolder { folder }), &["Folders"], &[opens_a_folder]);
    add(store, &Read(contents()), &["Contents"], &[shows_a_folder, shows_a_reference]);
    add(store, &Read(search()), &["Hits"], &[searches]);
    let watch = ProviderCall::Mailbox(MailboxCall::Watch { store: 0 });
    add(mailbox, &watch, DONE, &[watches]);
    add(mailbox, &ProviderCall::Mailbox(MailboxCall::Rest), DONE, &[rests]);
    add(mailbox, &ProviderCall::Mailbox(MailboxCall::Changed), DONE, &[is_poked]);
    add(mailbox, &ProviderCall::Mailbox(MailboxCall::Validate), DONE, &[validates_a_mailbox]);
    add(mailbox, &ProviderCall::Mailbox(MailboxCall::Sync), &["Synced"], &[syncs]);
    let fetch = ProviderCall::Mailbox(MailboxCall::Fetch { record: 0 });
    add(mailbox, &fetch, DONE, &[fetches_a_message]);
    add(store, &write(update()), &["Updated"], &[marks, records, changes]);
    let hasten = StoreWrite::Hasten { profile: None, uid: None, after: 0, now: 0 };
    add(store, &write(hasten), &["Hastened"], &[flushes_queue, purges]);
    add(store, &write(StoreWrite::Seen { record: 0 }), DONE, &[tells]);
    add(store, &write(StoreWrite::Delete { record: 0 }), &["Removed"], &[deletes]);
    let delete_from = StoreWrite::DeleteFrom { record: 0, from: Folder::DRAFTS };
    add(store, &write(delete_from), &["Removed"], &[deletes_from]);
    let (section, name) = (String::new(), String::new());
    let change = SettingChange::Remove;
    let set = StoreWrite::Setting { section: section.clone(), name: name.clone(), change };
    add(store, &write(set), &["Setting"], &[sets]);
    add(store, &write(StoreWrite::Clock(KeptClock::default())), DONE, &[keeps_clock]);
    let flushing: &[_] = &[flushes, flushes_in_a_do, looks_before_a_recovery];
    add(store, &write(StoreWrite::Flush), DONE, flushing);
    let list = StoreRead::List { folder: Folder::INBOX, after: 0, limit: 0 };
    add(store, &Read(list), &["Messages"], &[lists, lists_a_reference]);
    add(store, &Read(StoreRead::Find { record: 0 }), &["Found"], &[opens]);
    let piece = StoreRead::Piece { record: 0, offset: 0, limit: 0 };
    add(store, &Read(piece), &["Piece"], &[reads]);
    add(store, &Read(StoreRead::Setting { section, name }), &["Setting"], &[looks_up]);
    add(store, &Read(StoreRead::Due { after: None, limit: 0 }), &["Due"], &[is_due]);
    let queue = StoreRead::Queue { all: false, after: 0, limit: 0 };
    add(store, &Read(queue), &["Queue"], &[lists_queue]);
    let one = Read(StoreRead::Submission { record: 0 });
    add(store, &one, &["Queue"], &[shows, looks_before_a_change]);
    add(store, &Read(StoreRead::Oldest), &["Oldest"], &[measures]);
    add(
        transport,
        &Transport(TransportCall::Prepare(Box::new(transmission()))),
        &["Prepared"],
        &[prepares],
    );
    add(transport, &Transport(TransportCall::Complete { id: 0 }), &["Results"], &[completes]);
    add(transport, &Transport(TransportCall::Cancel { id: 0 }), DONE, &[cancels]);
    let recover =
        TransportCall::Recover { transmission: Box::new(transmission()), marker: String::new() };
    add(transport, &Transport(recover), &["Results"], &[finds_out]);
    add(
        transport,
        &Transport(TransportCall::Validate(AskedBy::Broker)),
        DONE,
        &[validates, is_looked_for],
    );
    let list = AddressCall::List { after: 0, limit: 0 };
    add(book, &Address(list), &["Addresses"], &[lists_people]);
    for (action, right) in [(adding(), "Address"), (removing(), "Done"), (resolving(), "Address")] {
        let right = if right == "Done" { DONE } else { &["Address"] };
        add(book, &Address(AddressCall::Act(action)), right, &[acts]);
    }
    scenes
}

// --- what is said ---

fn one_submission() -> Submission {
    let state = SubmissionState::Queued;
    Submission {
        record: 7,
        profile: "default".into(),
        uid: OWNER,
        from: "me@here".into(),
        recipients: vec![Recipient { address: "b@x".into(), state, intent: None, reply: None }],
        subject: String::new(),
        size: 1,
        order: 1,
        no_mail: false,
        attempts: 0,
        due: 0,
        submitted: 0,
        last_error: None,
        report: Report::default(),
        route: None,
        born: None,
        delay_told: false,
    }
}

fn entry() -> EntryId {
    EntryId { store: 1, record: 7 }
}

fn row() -> MessageRow {
    let (subject, from, to) = (String::new(), String::new(), String::new());
    MessageRow { entry: entry(), subject, from, to, size: 1, received: 0, recovered: false }
}

fn folder_row(folder: Folder) -> FolderRow {
    let name = folder.to_string();
    FolderRow { folder, parent: None, name, role: None, total: 0, unread: 0 }
}

fn contents_row() -> ContentsRow {
    let (subject, from, to) = (String::new(), String::new(), String::new());
    ContentsRow {
        entry: entry(),
        folder: Folder::DRAFTS,
        subject,
        from,
        to,
        date: None,
        size: 1,
        received: 0,
        flags: Flags::default(),
        recovered: false,
    }
}

fn changed_folder() -> ChangedFolder {
    ChangedFolder { dir: ".work".into(), wanted: None }
}

fn spot() -> crate::provider::Spot {
    crate::provider::Spot { dir: String::new(), name: "1".into() }
}

fn pending() -> Pending {
    let (seen, heading) = (Marks(0), None);
    let (spot, wanted, trace) = (None, None, None);
    let seen_keywords = Vec::new();
    Pending { record: 7, spot, seen, seen_keywords, heading, wanted, size: 1, received: 0, trace }
}

fn person() -> AddressRow {
    AddressRow { entry: entry(), name: "bo".into(), addresses: vec!["bo@x".into()] }
}

fn result(recipient: usize, outcome: Outcome) -> RecipientResult {
    RecipientResult { recipient, outcome, reply: "250 ok".into() }
}

/// One of each kind of answers; each says that all is well.
fn answers() -> Vec<Bend> {
    vec![
        |_, _| ProviderAnswer::Done,
        |_, _| ProviderAnswer::Unaware,
        |_, _| {
            let facts = StoreFacts {
                uid: 1,
                queue: [0; 9],
                no_mail: 0,
                damage: None,
                clock: KeptClock::default(),
            };
            ProviderAnswer::StoreOpened(facts)
        },
        |_, _| ProviderAnswer::TransportReady(TransportFacts::default()),
        |_, _| ProviderAnswer::Appended(3),
        |_, _| {
            let submission = Box::new(one_submission());
            ProviderAnswer::Submitted { submission, new: true }
        },
        |_, _| {
            let place = Place { entry: entry(), folder: Folder::DRAFTS };
            ProviderAnswer::Saved { place, new: true }
        },
        |_, _| ProviderAnswer::Updated {
            moved: Some(Folder::SENT),
            notice: Some(Box::new(stored_dsn())),
            pending: false,
        },
        |_, _| ProviderAnswer::Hastened { found: 3, next: None },
        |_, _| ProviderAnswer::Removed { from: Folder::DRAFTS, to: Some(Folder::DELETED) },
        |_, _| ProviderAnswer::Setting(Some("value".into())),
        |_, _| ProviderAnswer::Messages { rows: vec![row()], next: None },
        |_, _| ProviderAnswer::Found { folder: Folder::INBOX, size: 1 },
        |_, _| ProviderAnswer::Piece { size: 1, bytes: vec![b'x'], unread_notice: false },
        |_, _| {
            let submissions = vec![one_submission()];
            ProviderAnswer::Due { submissions, more: false, damaged: 0 }
        },
        |_, _| ProviderAnswer::Queue { rows: vec![one_submission()], next: None },
        |_, _| ProviderAnswer::Oldest(Some(1)),
        |_, _| ProviderAnswer::Prepared { marker: "mark".into(), refused: Vec::new() },
        |_, _| ProviderAnswer::Results(vec![result(0, Outcome::Sent)]),
        |_, _| ProviderAnswer::Addresses { rows: vec![person()], next: None },
        |_, _| ProviderAnswer::Address(person()),
        |_, _| {
            let (folder, flags) = (Folder::DRAFTS, Flags::default());
            ProviderAnswer::Flagged { folder, flags, changed: true }
        },
        |_, _| ProviderAnswer::Moved { from: Folder::DRAFTS, to: Folder::SENT },
        |_, _| ProviderAnswer::FolderMade(Folder(40)),
        |_, _| ProviderAnswer::Mirrored(vec![StoreChange::Reload(Folder::INBOX)]),
        |_, _| ProviderAnswer::Folders { rows: vec![folder_row(Folder::INBOX)], next: None },
        |_, _| ProviderAnswer::Contents { rows: vec![contents_row()], next: None },
        |_, _| ProviderAnswer::Hits { rows: vec![contents_row()], next: None, unindexed: 0 },
        |_, _| ProviderAnswer::Spots { rows: vec![("1".into(), Flags::default())], more: false },
        |_, _| ProviderAnswer::Pending { rows: vec![pending()], next: None },
        |_, _| {
            let dirs = vec![String::new()];
            ProviderAnswer::Directories { dirs, more: false, passed: true }
        },
        |_, _| ProviderAnswer::ChangedFolders(vec![changed_folder()]),
        |_, _| ProviderAnswer::Untouched,
        |_, _| ProviderAnswer::Cursor(None),
        |_, _| ProviderAnswer::Fetches { rows: vec![(spot(), 1)], next: None },
        |_, _| ProviderAnswer::Tally(crate::provider::Tally::default()),
        |_, _| ProviderAnswer::Synced(crate::provider::Synced::default()),
    ]
}

/// The place of a kind of answer among them; a new one does not compile until it has one.
fn place(answer: &ProviderAnswer) -> usize {
    match answer {
        ProviderAnswer::Done => 0,
        ProviderAnswer::Unaware => 1,
        ProviderAnswer::StoreOpened(_) => 2,
        ProviderAnswer::TransportReady(_) => 3,
        ProviderAnswer::Appended(_) => 4,
        ProviderAnswer::Submitted { .. } => 5,
        ProviderAnswer::Saved { .. } => 6,
        ProviderAnswer::Updated { .. } => 7,
        ProviderAnswer::Hastened { .. } => 8,
        ProviderAnswer::Removed { .. } => 9,
        ProviderAnswer::Setting(_) => 10,
        ProviderAnswer::Messages { .. } => 11,
        ProviderAnswer::Found { .. } => 12,
        ProviderAnswer::Piece { .. } => 13,
        ProviderAnswer::Due { .. } => 14,
        ProviderAnswer::Queue { .. } => 15,
        ProviderAnswer::Oldest(_) => 16,
        ProviderAnswer::Prepared { .. } => 17,
        ProviderAnswer::Results(_) => 18,
        ProviderAnswer::Addresses { .. } => 19,
        ProviderAnswer::Address(_) => 20,
        ProviderAnswer::Flagged { .. } => 21,
        ProviderAnswer::Moved { .. } => 22,
        ProviderAnswer::FolderMade(_) => 23,
        ProviderAnswer::Mirrored(_) => 24,
        ProviderAnswer::Folders { .. } => 25,
        ProviderAnswer::Contents { .. } => 26,
        ProviderAnswer::Hits { .. } => 27,
        ProviderAnswer::Spots { .. } => 28,
        ProviderAnswer::Pending { .. } => 29,
        ProviderAnswer::Directories { .. } => 30,
        ProviderAnswer::ChangedFolders(_) => 31,
        ProviderAnswer::Untouched => 32,
        ProviderAnswer::Cursor(_) => 33,
        ProviderAnswer::Fetches { .. } => 34,
        ProviderAnswer::Tally(_) => 35,
        ProviderAnswer::Synced(_) => 36,
    }
}

// --- samples of calls ---

fn append() -> StoreWrite {
    StoreWrite::Append { upload: 0, bytes: Vec::new() }
}

fn inline() -> crate::provider::MessageContent {
    crate::provider::MessageContent::Inline(Vec::new())
}

fn submit() -> StoreWrite {
    let submission = Box::new(one_submission());
    StoreWrite::Submit { submission, content: inline(), deferred: false }
}

fn save() -> StoreWrite {
    let (folder, flags) = (Folder::DRAFTS, Flags::default());
    StoreWrite::Save { record: 0, folder, content: inline(), flags, recovered: false, now: 0 }
}

fn copy() -> StoreWrite {
    StoreWrite::Copy { record: 0, copy: 0, to: Folder::SENT }
}

fn set_flags() -> StoreWrite {
    StoreWrite::SetFlags { record: 0, add: Flags::default(), remove: Flags::default() }
}

fn make_folder() -> StoreWrite {
    StoreWrite::MakeFolder { parent: None, name: String::new() }
}

fn folders() -> StoreRead {
    StoreRead::Folders { after: None, limit: 0 }
}

fn contents() -> StoreRead {
    let (folder, only) = (Folder::INBOX, Filter::default());
    StoreRead::Contents { folder, sort: Sort::NEWEST, only, after: None, limit: 0 }
}

fn search() -> StoreRead {
    StoreRead::Search { words: String::new(), folder: None, after: 0, limit: 0 }
}

fn update() -> StoreWrite {
    StoreWrite::Update(Box::new(SubmissionUpdate::whole(one_submission(), None, 0)))
}

/// The answer about a notification that nobody asked for.
fn stored_dsn() -> StoredDsn {
    let (from, subject) = (String::new(), String::new());
    StoredDsn { record: 9, forwarded: None, text: None, from, subject }
}

fn transmission() -> Transmission {
    Transmission {
        id: 0,
        store: 0,
        record: 0,
        from: String::new(),
        recipients: Vec::new(),
        size: 0,
        report: Report::default(),
    }
}

fn adding() -> AddressAction {
    AddressAction::Add { name: "bo".into(), addresses: vec!["bo@x".into()] }
}

fn removing() -> AddressAction {
    AddressAction::Remove { name: "bo".into() }
}

fn resolving() -> AddressAction {
    AddressAction::Resolve { name: "bo".into() }
}

// --- how a lie is told ---

fn tell(world: &mut World, lie: &Lie) {
    world.wire.lies = true;
    world.lies.push(lie.clone());
}

/// Lets happen what happens until a lie is noticed, and nothing after that.
fn until_noticed(world: &mut World) {
    while world.wrong.is_empty() {
        assert!(world.step(0), "no call was answered with a lie");
    }
}

/// Whoever asks is told of the lie at once.
fn told(world: &mut World, lie: &Lie, at: ConnectionId, request: Request) {
    tell(world, lie);
    let id = world.ask(at, request);
    until_noticed(world);
    let fault = world.answer(at, id).expect("told in that turn").expect_err("it failed");
    assert_eq!(fault.code, Code::E_CORRUPT_DATA, "{fault}");
    let (provider, call, _) = world.wrong[0].clone();
    let named = fault.message.contains(&provider) && fault.message.contains(call);
    assert!(named && fault.message.contains("not known"), "{fault}");
    world.settle();
}

/// Nothing is left of it, whatever everybody does afterwards.
fn all_is_over(world: &mut World) {
    world.lies.clear();
    world.let_all_go();
    assert_eq!(world.unanswered(), 0, "requests without an answer");
    assert!(!world.wrong.is_empty(), "it was not noticed");
    world.everybody_leaves();
    world.advance(secs(120));
    world.assert_empty();
}

fn name(provider: ProviderType) -> &'static str {
    match provider {
        ProviderType::Transport => "relay",
        ProviderType::Mailbox => "account",
        ProviderType::AddressBook => "people",
        ProviderType::Store => "store",
    }
}

fn always(lie: &Lie) -> Lie {
    Lie { times: usize::MAX, ..lie.clone() }
}

// --- the scenes ---

fn store_logon(world: &mut World, lie: &Lie) {
    let at = world.connect(1);
    tell(world, &always(lie));
    let id = world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    let fault = world.answer(at, id).expect("answered").expect_err("its store did not open");
    assert_eq!(fault.code, Code::E_CORRUPT_DATA);
    world.lies.clear();
    world.advance(secs(60));
    let member = world.logon(at);
    world.submit(member, "b@x");
}

/// The session goes on without it.
fn other_logon(world: &mut World, lie: &Lie) {
    tell(world, &always(lie));
    world.member(1);
    let status = world.status();
    let provider = status.sessions[0].providers.iter().find(|p| p.name == name(lie.provider));
    let status = &provider.expect("it is listed").status;
    assert!(status.starts_with("failed: ") && status.contains("Logon was answered"), "{status}");
}

/// A world in which a provider is over since another process left.
fn over(world: &mut World, provider: &str) -> Member {
    world.literal.insert(provider.into());
    let (leaves, stays) = (world.member(1), world.member(2));
    world.leave_fast(leaves.at);
    stays
}

fn store_renew(world: &mut World, lie: &Lie) {
    let stays = over(world, "store");
    let what = world.open(stays, Opening::Folder(0, Folder::INBOX));
    let list = Request::List { member: stays.id, object: what, after: 0, limit: 9 };
    told(world, lie, stays.at, list);
}

/// It was asked for nothing but to be there again: what waited for it is tried later.
fn transport_renew(world: &mut World, lie: &Lie) {
    let stays = over(world, "relay");
    tell(world, lie);
    let entry = world.submit(stays, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    assert_eq!(world.wire.delivered_to("b@x"), 0);
}

fn book_renew(world: &mut World, lie: &Lie) {
    let stays = over(world, "people");
    let object = world.open(stays, Opening::AddressBook);
    told(
        world,
        lie,
        stays.at,
        Request::AddressBook { member: stays.id, object, action: resolving() },
    );
}

/// It keeps nobody (PLOG-5).
fn logoff(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    tell(world, lie);
    world.logoff(member);
    assert!(world.broker.sessions.all.is_empty(), "the session has ended");
}

fn query(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    tell(world, lie);
    let fault = world.query(member.at).expect_err("it does not support it");
    let named = FaultDetail::Providers(vec![name(lie.provider).into()]);
    assert_eq!((fault.code, fault.detail), (Code::E_NO_SUPPORT, named));
    assert_eq!(world.refused(member.at, Request::QueryFastShutdown), Code::E_NO_SUPPORT);
}

fn notify(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    tell(world, lie);
    world.notify(member.at);
}

fn store_do(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    told(world, lie, member.at, Request::DoFastShutdown { remembered: false });
    assert!(world.broker.sessions.members.contains_key(&member.id), "nothing was torn down");
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
}

fn other_do(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    tell(world, lie);
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done), "what it promises is kept");
}

fn upload(member: Member) -> Request {
    let bytes = Blob(b"a piece".to_vec());
    Request::Upload { member: member.id, store: 0, upload: UploadId(1), bytes }
}

/// A body with a hole in it is never used.
fn appends(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    told(world, lie, member.at, upload(member));
    let content = Content::Uploaded(UploadId(1));
    let draft = Request::Draft { member: member.id, store: 0, content };
    assert_eq!(world.refused(member.at, draft), Code::E_INVALID_PARAMETER);
}

fn discards(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    world.done(member.at, upload(member));
    let content = Content::Uploaded(UploadId(1));
    let draft = Request::Draft { member: member.id, store: 0, content };
    let Ok(Reply::Opened(object)) = world.call(member.at, draft) else { panic!("a draft") };
    tell(world, lie);
    world.done(member.at, Request::Release { member: member.id, object });
}

/// Nobody knows whether it is stored. If it is, it goes out, once; a repeat with its key finds it.
fn submits(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let submit = world.submit_request(member, &["b@x"]);
    let key = submit.key;
    told(world, lie, member.at, Request::Submit(submit.clone()));
    let stored = world.store("default").submissions.contains_key(&key.0);
    assert_eq!(stored, lie.how == How::Done);
    assert_eq!(world.wire.delivered_to("b@x"), usize::from(stored));
    let again = world.call(member.at, Request::Submit(submit));
    assert!(matches!(again, Ok(Reply::Submitted { .. })), "{again:?}");
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    assert!(world.status().queue[..6].iter().all(|count| *count == 0), "nothing is miscounted");
}

fn submits_deferred(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    tell(world, lie);
    let entry = world.submit_deferred(member, "b@x");
    let fault = world.call(member.at, Request::Flush { member: member.id });
    let fault = fault.expect_err("it is not known to be stored");
    assert_eq!((fault.code, entries_of(&fault)), (Code::E_CORRUPT_DATA, vec![entry]));
    assert_eq!(world.wire.delivered_to("b@x"), usize::from(lie.how == How::Done));
}

/// What was stored before by this key is counted once.
fn repeats(world: &mut World, lie: &Lie) {
    world.hold("relay", "SubmitMessage");
    let member = world.member(1);
    let submit = world.submit_request(member, &["b@x"]);
    assert!(world.call(member.at, Request::Submit(submit.clone())).is_ok());
    world.advance(millis(5));
    told(world, lie, member.at, Request::Submit(submit));
    assert_eq!(world.status().queue[SubmissionState::Queued as usize], 1);
    world.let_go("relay");
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

fn saves(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let object = world.draft(member, "text");
    let save = |key| Request::Save { member: member.id, object, key: SubmitKey(key) };
    told(world, lie, member.at, save(40));
    let again = world.call(member.at, save(41));
    assert!(matches!(again, Ok(Reply::Saved(entry)) if entry.record == 40), "{again:?}");
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
}

/// It is said by the process's Do.
fn recovers(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let at = world.connect(1);
    world.draft(member, "text");
    world.logon(at);
    assert_eq!(world.query(at), Ok(Reply::Done));
    tell(world, lie);
    world.disconnect(member.at);
    world.settle();
    let fault = world.do_fast(at).expect_err("a draft may be lost");
    assert_eq!((fault.code, entries_of(&fault).len()), (Code::E_CORRUPT_DATA, 1));
    assert_eq!(world.do_fast(at), Ok(Reply::Done), "it was said");
}

fn keeps(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    world.draft(member, "text");
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    tell(world, lie);
    let fault = world.do_fast(member.at).expect_err("a draft may be lost");
    assert_eq!(fault.code, Code::E_CORRUPT_DATA);
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1, "kept once");
}

/// Of an intent that may be stored nothing is handed over.
fn marks(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    tell(world, lie);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    assert_eq!(world.wire.delivered_to("b@x"), 0);
    world.advance(secs(60));
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// What was handed over is written down again, and not sent again.
fn records(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    tell(world, lie);
    world.let_go("relay");
    until_noticed(world);
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// The failure is written down again, and its notification is forwarded.
fn forwards(world: &mut World, lie: &Lie) {
    world.profile("default").forward = crate::settings::Forward::To("root@x".into());
    let member = world.member(1);
    world.script("b@x", &[super::fakes::Step::Says(Outcome::Failed)]);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    tell(world, lie);
    world.let_go("relay");
    until_noticed(world);
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Bounced);
    assert_eq!(world.wire.delivered_to("root@x"), 1);
    assert_eq!(world.store("default").notices.len(), 1);
}

fn change(entry: EntryId, change: QueueChange) -> Request {
    let action = QueueAction::Change(entry, change);
    Request::Queue { profile: Some("default".into()), action }
}

/// A member with a message that waits for its next try.
fn with_mail(world: &mut World) -> (Member, EntryId) {
    let member = world.member(1);
    world.script("b@x", &[super::fakes::Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    (member, entry)
}

/// What stands in the store holds.
fn changes(world: &mut World, lie: &Lie) {
    let (member, entry) = with_mail(world);
    told(world, lie, member.at, change(entry, QueueChange::Hold));
    let held = world.state(entry) == SubmissionState::Held;
    assert_eq!(held, lie.how == How::Done);
    world.advance(secs(60));
    assert_eq!(world.wire.delivered_to("b@x"), usize::from(!held));
    if held {
        assert!(world.call(member.at, change(entry, QueueChange::Abort)).is_ok());
    }
}

fn flushes_queue(world: &mut World, lie: &Lie) {
    let (member, _) = with_mail(world);
    let flush = Request::Queue { profile: Some("default".into()), action: QueueAction::Flush };
    told(world, lie, member.at, flush);
}

fn purges(world: &mut World, lie: &Lie) {
    let (member, _) = with_mail(world);
    let object = world.open(member, Opening::Store(0));
    tell(world, lie);
    let purge = Request::StoreLogoff { member: member.id, object, flags: StoreLogoff::PURGE };
    assert!(world.call(member.at, purge).is_ok(), "it does not wait for that");
}

fn saved(world: &mut World, member: Member) -> EntryId {
    let object = world.draft(member, "text");
    let save = Request::Save { member: member.id, object, key: SubmitKey(40) };
    match world.call(member.at, save) {
        Ok(Reply::Saved(entry)) => entry,
        other => panic!("{other:?} to a save"),
    }
}

fn read(member: Member, entry: EntryId) -> Request {
    Request::Read { member: member.id, source: ReadSource::Entry(entry), offset: 0 }
}

/// Its reader has read it all the same.
fn tells(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    let piece = StoreRead::Piece { record: 0, offset: 0, limit: 0 };
    let unread: Bend = |_, answer| match answer {
        ProviderAnswer::Piece { size, bytes, .. } => {
            ProviderAnswer::Piece { size, bytes, unread_notice: true }
        }
        other => panic!("{other:?} to a read"),
    };
    let (call, how) = (which(&ProviderCall::Read(piece)), How::Done);
    tell(world, &Lie { provider: lie.provider, call, how, answer: unread, times: 1 });
    tell(world, lie);
    assert!(matches!(world.call(member.at, read(member, entry)), Ok(Reply::Piece { .. })));
}

fn deletes(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    told(world, lie, member.at, Request::Delete { member: member.id, entry });
    world.done(member.at, Request::Delete { member: member.id, entry });
}

fn deletes_from(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    let from = Folder::DRAFTS;
    told(world, lie, member.at, Request::DeleteFrom { member: member.id, entry, from });
}

fn setting(member: Member, change: SettingChange) -> Request {
    let (section, name) = ("section".into(), "name".into());
    Request::Setting { member: member.id, section, name, change }
}

fn sets(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    told(world, lie, member.at, setting(member, SettingChange::Set("x".into())));
}

fn looks_up(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    told(world, lie, member.at, setting(member, SettingChange::Keep));
}

/// It only hurries: what was handed over is answered by itself.
fn flushes(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    world.submit_deferred(member, "b@x");
    tell(world, lie);
    let id = world.ask(member.at, Request::Flush { member: member.id });
    world.let_go("store");
    assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)));
}

/// The store of a session that is younger than the verdict has not supported it, and must have written all the same.
fn flushes_in_a_do(world: &mut World, lie: &Lie) {
    world.profile("work").stores[0].name = "archive".into();
    world.interfaces.insert("archive".into(), Interface::Refuses(Code::E_NO_SUPPORT));
    let member = world.member(1);
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    world.logon_to(member.at, "work");
    told(world, lie, member.at, Request::DoFastShutdown { remembered: false });
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
}

/// A repeat with its key finds it, or does it.
fn files(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let append = |key| Request::Append {
        member: member.id,
        key: SubmitKey(key),
        store: 0,
        folder: Folder::SENT,
        content: Content::Inline(Blob(b"text".to_vec())),
        flags: Box::new(Flags::default()),
        received: None,
    };
    told(world, lie, member.at, append(50));
    assert_eq!(world.in_folder("default", Folder::SENT), usize::from(lie.how == How::Done));
    let again = world.call(member.at, append(50));
    assert!(matches!(again, Ok(Reply::Saved(entry)) if entry.record == 50), "{again:?}");
    assert_eq!(world.in_folder("default", Folder::SENT), 1);
}

fn copies(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    let (key, to) = (SubmitKey(50), Folder::SENT);
    let copy = Request::Copy { member: member.id, key, entry, to };
    told(world, lie, member.at, copy.clone());
    let again = world.call(member.at, copy);
    assert!(matches!(again, Ok(Reply::Saved(entry)) if entry.record == 50), "{again:?}");
    assert_eq!(world.in_folder("default", Folder::SENT), 1);
}

/// Nobody is told of a change of which it is not known whether it was made.
fn told_and_no_news(world: &mut World, lie: &Lie, member: Member, request: Request) {
    world.advise(member, Events::all());
    told(world, lie, member.at, request);
    assert_eq!(world.news(member), []);
}

fn moves(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    let to = Folder::SENT;
    told_and_no_news(world, lie, member, Request::Move { member: member.id, entry, to });
    let moved = world.in_folder("default", to);
    assert_eq!(moved, usize::from(lie.how == How::Done));
}

fn sets_flags(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    let add = Flags { marks: Marks::FLAGGED, keywords: Vec::new() };
    let flag =
        Request::SetFlags { member: member.id, entry, add: Box::new(add), remove: Box::default() };
    told_and_no_news(world, lie, member, flag);
}

fn making(member: Member) -> Request {
    Request::MakeFolder { member: member.id, store: 0, parent: None, name: "work".into() }
}

fn made(world: &mut World, member: Member) -> Folder {
    match world.call(member.at, making(member)) {
        Ok(Reply::Made(folder)) => folder,
        other => panic!("{other:?} to a folder"),
    }
}

fn makes_a_folder(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    told_and_no_news(world, lie, member, making(member));
}

fn renames_a_folder(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let (folder, name) = (made(world, member), "play".into());
    let rename = Request::RenameFolder { member: member.id, store: 0, folder, name };
    told_and_no_news(world, lie, member, rename);
}

fn removes_a_folder(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let folder = made(world, member);
    let remove = Request::RemoveFolder { member: member.id, store: 0, folder };
    told_and_no_news(world, lie, member, remove);
}

fn lists_folders(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let list = Request::Folders { member: member.id, store: 0, after: None, limit: 2 };
    told(world, lie, member.at, list);
}

/// What is not known to be there is not opened, and counts for nobody.
fn opens_a_folder(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let folder = made(world, member);
    let open = Request::Open { member: member.id, what: Opening::Folder(0, folder) };
    told(world, lie, member.at, open);
    world.assert_counts();
}

fn page(member: MemberId, object: ObjectId) -> Request {
    let (sort, only, after, limit) = (Sort::NEWEST, Filter::default(), None, 9);
    Request::Contents { member, object, sort, only, after, limit }
}

fn shows_a_folder(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let object = world.open(member, Opening::Folder(0, Folder::DRAFTS));
    saved(world, member);
    told(world, lie, member.at, page(member.id, object));
}

fn shows_a_reference(world: &mut World, lie: &Lie) {
    let (grants, holds) = (world.member(1), world.connect(2));
    let object = world.open(grants, Opening::Folder(0, Folder::DRAFTS));
    let token = sundown_protocol::Token(1);
    world.done(grants.at, Request::Grant { member: grants.id, object, token, pid: None });
    saved(world, grants);
    let Ok(Reply::Redeemed { member, object, .. }) = world.call(holds, Request::Redeem { token })
    else {
        panic!("redeemed")
    };
    told(world, lie, holds, page(member, object));
}

fn searches(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    saved(world, member);
    let (words, folder, after, limit) = ("text".into(), None, 5, 9);
    let search = Request::Search { member: member.id, store: 0, words, folder, after, limit };
    told(world, lie, member.at, search);
}

fn shown_status(world: &mut World, name: &str) -> String {
    let sessions = world.status().sessions;
    let provider = sessions[0].providers.iter().find(|p| p.name == name).cloned();
    provider.expect("it is listed").status
}

/// The session goes on, and says it.
fn watches(world: &mut World, lie: &Lie) {
    tell(world, lie);
    let member = world.member(1);
    let status = shown_status(world, "account");
    assert!(status.starts_with("wrong: Watch was answered with"), "{status}");
    world.submit(member, "b@x");
}

fn rests(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    tell(world, lie);
    world.notify(member.at);
    let status = shown_status(world, "account");
    assert!(status.starts_with("wrong: Rest was answered with"), "{status}");
}

/// What is pending stays so in the store, and the next change is told again.
fn is_poked(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    tell(world, lie);
    world.done(member.at, Request::Move { member: member.id, entry, to: Folder::SENT });
    world.done(member.at, Request::Move { member: member.id, entry, to: Folder::INBOX });
    assert_eq!(world.store("default").pending, [].into());
}

fn validates_a_mailbox(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let (kind, provider) = (Resource::Mailbox, "account".into());
    let validate = Request::ValidateState { member: member.id, kind, provider };
    told(world, lie, member.at, validate.clone());
    world.done(member.at, validate);
}

fn syncs(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    told(world, lie, member.at, Request::Sync { member: member.id });
}

fn fetches_a_message(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    world.store("default").elsewhere.insert(entry.record);
    told(world, lie, member.at, read(member, entry));
}

/// It is not there again, and is told nothing, until the next process comes.
fn mailbox_renew(world: &mut World, lie: &Lie) {
    tell(world, &always(lie));
    let stays = over(world, "account");
    let entry = saved(world, stays);
    world.done(stays.at, Request::Move { member: stays.id, entry, to: Folder::SENT });
    let overlooked = !world.store("default").pending.is_empty();
    assert_eq!(overlooked, lie.how == How::Undone, "it is there again although it says otherwise");
    world.lies.clear();
    world.member(3);
    assert_eq!(world.store("default").pending, [].into());
}

fn lists(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let object = world.open(member, Opening::Folder(0, Folder::DRAFTS));
    saved(world, member);
    told(world, lie, member.at, Request::List { member: member.id, object, after: 0, limit: 9 });
}

fn lists_a_reference(world: &mut World, lie: &Lie) {
    let (grants, holds) = (world.member(1), world.connect(2));
    let object = world.open(grants, Opening::Folder(0, Folder::DRAFTS));
    let token = sundown_protocol::Token(1);
    world.done(grants.at, Request::Grant { member: grants.id, object, token, pid: None });
    saved(world, grants);
    let Ok(Reply::Redeemed { member, object, .. }) = world.call(holds, Request::Redeem { token })
    else {
        panic!("redeemed")
    };
    told(world, lie, holds, Request::List { member, object, after: 0, limit: 9 });
}

fn opens(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    let open = Request::Open { member: member.id, what: Opening::Message(entry) };
    told(world, lie, member.at, open);
}

fn reads(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let entry = saved(world, member);
    told(world, lie, member.at, read(member, entry));
}

/// The queue is read again in a while.
fn is_due(world: &mut World, lie: &Lie) {
    let now = world.wall();
    for record in [7, 8] {
        let left = Submission { record, due: now, submitted: now, ..one_submission() };
        world.store("default").leave(left);
    }
    tell(world, lie);
    world.member(1);
    assert_eq!(world.wire.delivered_to("b@x"), 0);
    world.advance(secs(6));
    assert_eq!(world.wire.delivered_to("b@x"), 2);
}

fn lists_queue(world: &mut World, lie: &Lie) {
    let (member, _) = with_mail(world);
    let action = QueueAction::List { all: false, after: 0, limit: 9 };
    told(world, lie, member.at, Request::Queue { profile: Some("default".into()), action });
}

fn shows(world: &mut World, lie: &Lie) {
    let (member, entry) = with_mail(world);
    let action = QueueAction::Show(entry);
    told(world, lie, member.at, Request::Queue { profile: Some("default".into()), action });
}

fn looks_before_a_change(world: &mut World, lie: &Lie) {
    let (member, entry) = with_mail(world);
    told(world, lie, member.at, change(entry, QueueChange::Abort));
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    assert!(world.call(member.at, change(entry, QueueChange::Abort)).is_ok(), "it is free again");
}

/// Mail goes out all the same.
fn keeps_clock(world: &mut World, lie: &Lie) {
    world.running.clock = 7;
    world.crash();
    tell(world, lie);
    let member = world.member(1);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

fn measures(world: &mut World, lie: &Lie) {
    let (member, entry) = with_mail(world);
    tell(world, lie);
    world.apply(Event::Measure);
    world.settle();
    assert_eq!(world.broker.figures().oldest, None);
    world.apply(Event::Measure);
    world.settle();
    let submitted = world.submission(entry).submitted;
    assert_eq!(world.broker.figures().oldest, Some(submitted), "{member:?} is asked again");
}

/// Of a flight whose transport lies the outcome is unknown: it is not sent again by itself.
fn stays_unknown(world: &mut World, entry: EntryId) {
    assert_eq!(world.state(entry), SubmissionState::Unknown);
    let delivered = world.wire.delivered_to("b@x");
    world.advance(secs(3_600));
    assert_eq!(world.state(entry), SubmissionState::Unknown);
    assert_eq!(world.wire.delivered_to("b@x"), delivered, "it was sent again");
    assert!(world.submission(entry).recipients[0].reply.is_some(), "it says why");
}

/// It may have done anything instead.
fn prepares(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    tell(world, lie);
    let entry = world.submit(member, "b@x");
    stays_unknown(world, entry);
    assert!(world.calls_of("relay").contains(&"TransportNotify"), "it is to forget it");
    assert!(world.call(member.at, change(entry, QueueChange::Abort)).is_ok());
}

fn completes(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    tell(world, lie);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.wire.delivered_to("b@x"), usize::from(lie.how == How::Done));
    stays_unknown(world, entry);
    assert!(world.call(member.at, change(entry, QueueChange::Abort)).is_ok());
}

fn cancels(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    world.store("default").failures.insert("UpdateSubmission", [Code::E_DISK_ERROR].into());
    tell(world, lie);
    world.submit(member, "b@x");
    world.advance(secs(31));
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

fn finds_out(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    world.silence("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.crash();
    tell(world, lie);
    let at = world.connect(2);
    let member = world.logon(at);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    stays_unknown(world, entry);
    assert!(world.call(member.at, change(entry, QueueChange::Abort)).is_ok());
}

/// It does not say that it is there: nothing is recovered from it for a while.
fn looks_before_a_recovery(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    world.silence("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.crash();
    tell(world, lie);
    let at = world.connect(2);
    world.logon(at);
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.lies.clear();
    world.advance(secs(3_600));
    assert_ne!(world.state(entry), SubmissionState::Transmitting);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

fn validates(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let (kind, provider) = (Resource::TransportProvider, "relay".into());
    let validate = Request::ValidateState { member: member.id, kind, provider };
    told(world, lie, member.at, validate.clone());
    world.done(member.at, validate);
}

/// It is there: a message finds out more.
fn is_looked_for(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.wire.delivered_to("b@x"), 0);
    world.wire.broken.clear();
    tell(world, lie);
    world.advance(secs(301));
    assert_eq!(world.wire.delivered_to("b@x"), 1, "{entry}");
}

fn lists_people(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let object = world.open(member, Opening::AddressBook);
    told(world, lie, member.at, Request::List { member: member.id, object, after: 0, limit: 9 });
}

/// What it is asked for is what the lie is about.
fn acts(world: &mut World, lie: &Lie) {
    let member = world.member(1);
    let object = world.open(member, Opening::AddressBook);
    let act = |action| Request::AddressBook { member: member.id, object, action };
    let about = |action: &AddressAction| {
        which(&ProviderCall::Address(AddressCall::Act(action.clone()))) == lie.call
    };
    let action = [adding(), removing(), resolving()].into_iter().find(about).expect("one of them");
    if !matches!(action, AddressAction::Add { .. }) {
        assert!(world.call(member.at, act(adding())).is_ok());
    }
    told(world, lie, member.at, act(action));
}

// --- the tests ---

/// Each call has a scene, and each answer is one of those that are told.
#[test]
fn nothing_is_left_out() {
    let told: Vec<_> =
        answers().iter().map(|a| place(&a(&ProviderCall::Logon, ProviderAnswer::Done))).collect();
    assert_eq!(told, (0..=36).collect::<Vec<_>>());
    let mut calls: Vec<_> = scenes().iter().map(|scene| which(&scene.call)).collect();
    calls.sort_unstable();
    calls.dedup();
    let of_mailboxes = [41, 46, 47, 52, 53, 54, 55, 56, 57];
    let brokers = (0..CALLS).filter(|call| !of_mailboxes.contains(call));
    assert_eq!(calls, brokers.collect::<Vec<_>>());
}

/// What a mailbox asks its store for is no call of the broker's; its answers are checked all the same.
#[test]
fn what_a_mailbox_is_answered_is_checked() {
    let (mailbox, dir, after) = (std::path::PathBuf::new(), String::new(), String::new());
    let mirrored = StoreRead::Mirrored { mailbox: mailbox.clone(), dir, after, limit: 1 };
    let pending_read = StoreRead::Pending { mailbox: mailbox.clone(), after: 3, limit: 1 };
    let directories = StoreRead::Directories { mailbox: mailbox.clone(), after: None, limit: 1 };
    let refolded = StoreRead::ChangedFolders { mailbox: mailbox.clone(), limit: 1 };
    let cursor = StoreRead::Cursor { mailbox: mailbox.clone(), dir: String::new() };
    let fetches_read = StoreRead::Fetches { mailbox: mailbox.clone(), after: 3, limit: 1 };
    let mirror = StoreWrite::Mirror(Box::new(Mirror { mailbox, changes: Vec::new() }));
    let calls = [
        mirrored.expects(),
        pending_read.expects(),
        mirror.expects(),
        directories.expects(),
        refolded.expects(),
        cursor.expects(),
        fetches_read.expects(),
    ];
    let right =
        ["Spots", "Pending", "Mirrored", "Directories", "ChangedFolders", "Cursor", "Fetches"];
    for (expected, right) in calls.into_iter().zip(right) {
        for answer in answers() {
            let said = answer(&ProviderCall::Logon, ProviderAnswer::Done);
            let fits = expected.check(&said, Known::default());
            assert_eq!(fits.is_ok(), said.name() == right, "{right}: {fits:?}");
        }
    }
    let spots = |count, more| {
        let rows = vec![("1".to_owned(), Flags::default()); count];
        mirrored.expects().check(&ProviderAnswer::Spots { rows, more }, Known::default())
    };
    assert!(spots(1, true).is_ok() && spots(2, false).is_err() && spots(0, true).is_err());
    let dirs = |count, more| {
        let dirs = vec![String::new(); count];
        let answer = ProviderAnswer::Directories { dirs, more, passed: false };
        directories.expects().check(&answer, Known::default())
    };
    assert!(dirs(1, true).is_ok() && dirs(2, false).is_err() && dirs(0, true).is_err());
    let folders = |count| {
        let rows = ProviderAnswer::ChangedFolders(vec![changed_folder(); count]);
        refolded.expects().check(&rows, Known::default())
    };
    assert!(folders(1).is_ok() && folders(2).is_err());
    let changes = |count, next| {
        let rows = vec![pending(); count];
        pending_read.expects().check(&ProviderAnswer::Pending { rows, next }, Known::default())
    };
    assert!(changes(1, Some(4)).is_ok() && changes(2, None).is_err());
    assert!(changes(1, Some(3)).is_err(), "a cursor that stays");
    let fetches = |count, next| {
        let rows = vec![(spot(), 1); count];
        fetches_read.expects().check(&ProviderAnswer::Fetches { rows, next }, Known::default())
    };
    assert!(fetches(1, Some(4)).is_ok() && fetches(2, None).is_err());
    assert!(fetches(1, Some(3)).is_err(), "a cursor that stays");
}

/// SEED-9, design §3.17: each call, answered with each answer to another one.
#[test]
fn an_answer_to_another_call_is_none() {
    let (scenes, mut lies) = (scenes(), 0);
    for scene in &scenes {
        for answer in answers() {
            let said = answer(&scene.call, ProviderAnswer::Done);
            if scene.right.contains(&said.name()) {
                continue;
            }
            for how in [How::Done, How::Undone] {
                let _what = Saying(scene, said.name(), how);
                lies += 1;
                let call = which(&scene.call);
                let lie = Lie { provider: scene.provider, call, how, answer, times: 1 };
                let mut world = world_for(scene);
                (scene.play)(&mut world, &lie);
                let (provider, called, wrong) = world.wrong[0].clone();
                assert_eq!((called, wrong), (scene.call.name(), Wrong::Kind(said.name())));
                assert!(provider == name(scene.provider) || provider == "archive");
                all_is_over(&mut world);
            }
        }
    }
    println!("{lies} lies in {} scenes", scenes.len());
}

/// A world with the provider that a scene is about.
fn world_for(scene: &Scene) -> World {
    let mut world = World::new();
    if scene.provider == ProviderType::Mailbox {
        world.profile("default").mailboxes.push(mailbox("account"));
    }
    world
}

/// Says which lie a check failed at.
struct Saying<'a>(&'a Scene, &'static str, How);

impl Drop for Saying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(Scene { provider, call, .. }, said, how) = self;
            eprintln!("a {} said {said} to {} ({how:?})", provider.name(), call.name());
        }
    }
}

/// Places, numbers and names that cannot be: the answer's kind is right, and it is none all the same.
#[test]
fn an_answer_that_cannot_be_is_none() {
    for (play, call, answer) in bent() {
        let scene = Scene { provider: bent_by(&call), call, right: &[], play };
        let _what = Saying(&scene, "what cannot be", How::Done);
        let (provider, call) = (scene.provider, which(&scene.call));
        let mut world = world_for(&scene);
        (scene.play)(&mut world, &Lie { provider, call, how: How::Done, answer, times: 1 });
        let (_, called, wrong) = world.wrong[0].clone();
        assert_eq!(called, scene.call.name());
        assert!(matches!(wrong, Wrong::Content(_)), "{wrong:?}");
        all_is_over(&mut world);
    }
}

fn bent_by(call: &ProviderCall) -> ProviderType {
    match call {
        ProviderCall::Transport(_) => ProviderType::Transport,
        ProviderCall::Address(_) => ProviderType::AddressBook,
        _ => ProviderType::Store,
    }
}

type Bent = (fn(&mut World, &Lie), ProviderCall, Bend);

/// What is said besides, with each list made from the true one.
#[rustfmt::skip]
fn bent() -> Vec<Bent> {
    use ProviderAnswer as A;
    use ProviderCall::{Address, Read, Transport, Write};
    let list = || Read(StoreRead::List { folder: Folder::INBOX, after: 0, limit: 0 });
    let piece = || Read(StoreRead::Piece { record: 0, offset: 0, limit: 0 });
    let due = || Read(StoreRead::Due { after: None, limit: 0 });
    let queue = || Read(StoreRead::Queue { all: false, after: 0, limit: 0 });
    let one = || Read(StoreRead::Submission { record: 0 });
    let prepare = || Transport(TransportCall::Prepare(Box::new(transmission())));
    let complete = || Transport(TransportCall::Complete { id: 0 });
    let recover = || Transport(TransportCall::Recover { transmission: Box::new(transmission()), marker: String::new() });
    let people = || Address(AddressCall::List { after: 0, limit: 0 });
    let delete_from = || Write(StoreWrite::DeleteFrom { record: 0, from: Folder::DRAFTS });
    let hasten = Write(StoreWrite::Hasten { profile: None, uid: None, after: 0, now: 0 });
    let (section, name, change) = (String::new(), String::new(), SettingChange::Remove);
    let set = Write(StoreWrite::Setting { section, name, change });
    vec![
        (store_renew, ProviderCall::Renew, |_, _| A::StoreOpened(StoreFacts { uid: 9, queue: [0; 9], no_mail: 0, damage: None, clock: KeptClock::default() })),
        (appends, Write(append()), |_, _| A::Appended(1)),
        (submits, Write(submit()), |_, answer| submission_of(answer, |s| s.record = 9)),
        (submits, Write(submit()), |_, answer| submission_of(answer, |s| s.recipients[0].state = SubmissionState::Sent)),
        (submits, Write(submit()), |_, answer| submission_of(answer, |s| s.recipients.push(s.recipients[0].clone()))),
        (submits, Write(submit()), |_, answer| submission_of(answer, |s| s.recipients.clear())),
        (saves, Write(save()), |_, _| A::Saved { place: Place { entry: entry(), folder: Folder::DRAFTS }, new: true }),
        (saves, Write(save()), |_, _| A::Saved { place: Place { entry: EntryId { store: 9, record: 40 }, folder: Folder::DRAFTS }, new: true }),
        (saves, Write(save()), |_, _| A::Saved { place: Place { entry: EntryId { store: 1, record: 40 }, folder: Folder::SENT }, new: true }),
        (marks, Write(update()), |_, _| A::Updated { moved: None, notice: Some(Box::new(stored_dsn())), pending: false }),
        (records, Write(update()), |_, _| A::Updated { moved: None, notice: Some(Box::new(stored_dsn())), pending: false }),
        (forwards, Write(update()), |_, answer| forwarded_of(answer, |s| s.record = 9)),
        (forwards, Write(update()), |_, answer| forwarded_of(answer, |s| s.from = "me@here".into())),
        (flushes_queue, hasten, |_, _| A::Hastened { found: 1, next: Some(0) }),
        (deletes_from, delete_from(), |_, _| A::Removed { from: Folder::INBOX, to: None }),
        (deletes_from, delete_from(), |_, _| A::Removed { from: Folder::DRAFTS, to: Some(Folder::DRAFTS) }),
        (sets, set, |_, _| A::Setting(None)),
        (lists, list(), |_, _| A::Messages { rows: vec![row(); 10], next: None }),
        (lists, list(), |_, _| A::Messages { rows: Vec::new(), next: Some(0) }),
        (lists, list(), |_, _| A::Messages { rows: vec![MessageRow { entry: EntryId { store: 9, record: 7 }, ..row() }], next: None }),
        (reads, piece(), |_, _| A::Piece { size: 4, bytes: Vec::new(), unread_notice: false }),
        (reads, piece(), |_, _| A::Piece { size: 4, bytes: vec![0; 5], unread_notice: false }),
        (reads, piece(), |_, _| A::Piece { size: u64::MAX, bytes: vec![0; sundown_protocol::frame::MAX_BLOB + 1], unread_notice: false }),
        (is_due, due(), |_, answer| due_of(answer, |rows| rows.reverse())),
        (is_due, due(), |_, answer| due_of(answer, |rows| rows.push(rows[1].clone()))),
        (is_due, due(), |_, answer| due_of(answer, |rows| { rows[1].record = rows[0].record; })),
        (is_due, due(), |_, answer| due_of(answer, |rows| rows[0].recipients[0].state = SubmissionState::Sent)),
        (is_due, due(), |_, answer| due_of(answer, |rows| rows[0].recipients[0].state = SubmissionState::Held)),
        (is_due, due(), |_, answer| due_of(answer, |rows| rows[0].recipients.clear())),
        (is_due, due(), |_, answer| due_of(answer, |rows| *rows = (0..513).map(|n| Submission { record: n, order: n as u64, ..rows[0].clone() }).collect())),
        (is_due, due(), |_, _| A::Due { submissions: Vec::new(), more: true, damaged: 0 }),
        (lists_queue, queue(), |_, _| A::Queue { rows: vec![one_submission(); 2], next: None }),
        (lists_queue, queue(), |_, _| A::Queue { rows: (1..=10).map(|order| Submission { order, ..one_submission() }).collect(), next: None }),
        (lists_queue, queue(), |_, _| A::Queue { rows: Vec::new(), next: Some(0) }),
        (lists_queue, queue(), |_, _| A::Queue { rows: vec![Submission { order: 5, ..one_submission() }], next: Some(4) }),
        (lists_queue, queue(), |_, _| A::Queue { rows: Vec::new(), next: Some(1 << 48) }),
        (shows, one(), |_, _| A::Queue { rows: Vec::new(), next: None }),
        (shows, one(), |_, _| A::Queue { rows: vec![one_submission()], next: None }),
        (looks_before_a_change, one(), |_, _| A::Queue { rows: vec![one_submission()], next: None }),
        (prepares, prepare(), |_, _| A::Prepared { marker: String::new(), refused: vec![result(1, Outcome::Failed)] }),
        (prepares, prepare(), |_, _| A::Prepared { marker: String::new(), refused: vec![result(0, Outcome::Failed); 2] }),
        (completes, complete(), |_, _| A::Results(vec![result(1, Outcome::Failed)])),
        (completes, complete(), |_, _| A::Results(vec![result(0, Outcome::Sent), result(usize::MAX, Outcome::Sent)])),
        (completes, complete(), |_, _| A::Results(vec![result(0, Outcome::Sent), result(0, Outcome::Failed)])),
        (finds_out, recover(), |_, _| A::Results(vec![result(3, Outcome::Sent)])),
        (copies, Write(copy()), |_, _| A::Saved { place: Place { entry: EntryId { store: 1, record: 51 }, folder: Folder::SENT }, new: true }),
        (copies, Write(copy()), |_, _| A::Saved { place: Place { entry: EntryId { store: 1, record: 50 }, folder: Folder::INBOX }, new: true }),
        (files, Write(save()), |_, _| A::Saved { place: Place { entry: EntryId { store: 1, record: 50 }, folder: Folder::DRAFTS }, new: true }),
        (moves, Write(StoreWrite::Move { record: 0, to: Folder::SENT }), |_, _| A::Moved { from: Folder::DRAFTS, to: Folder::INBOX }),
        (makes_a_folder, Write(make_folder()), |_, _| A::FolderMade(Folder::SENT)),
        (lists_folders, Read(folders()), |_, _| A::Folders { rows: [0, 1, 2].map(|n| folder_row(Folder(n))).into(), next: None }),
        (lists_folders, Read(folders()), |_, _| A::Folders { rows: [1, 0].map(|n| folder_row(Folder(n))).into(), next: None }),
        (lists_folders, Read(folders()), |_, _| A::Folders { rows: [1, 1].map(|n| folder_row(Folder(n))).into(), next: None }),
        (lists_folders, Read(folders()), |_, _| A::Folders { rows: vec![folder_row(Folder(1))], next: Some(Folder(2)) }),
        (lists_folders, Read(folders()), |_, _| A::Folders { rows: Vec::new(), next: Some(Folder(2)) }),
        (opens_a_folder, Read(StoreRead::FindFolder { folder: Folder::SENT }), |_, _| A::Folders { rows: vec![folder_row(Folder::INBOX)], next: None }),
        (opens_a_folder, Read(StoreRead::FindFolder { folder: Folder::SENT }), |_, _| A::Folders { rows: Vec::new(), next: None }),
        (shows_a_folder, Read(contents()), |_, _| A::Contents { rows: vec![contents_row(); 10], next: None }),
        (shows_a_folder, Read(contents()), |_, _| A::Contents { rows: Vec::new(), next: Some(Bookmark { key: Key::Number(0), order: 0 }) }),
        (shows_a_folder, Read(contents()), |_, _| A::Contents { rows: vec![ContentsRow { entry: EntryId { store: 9, record: 7 }, ..contents_row() }], next: None }),
        (searches, Read(search()), |_, _| A::Hits { rows: vec![contents_row(); 10], next: None, unindexed: 0 }),
        (searches, Read(search()), |_, _| A::Hits { rows: Vec::new(), next: Some(5), unindexed: 0 }),
        (searches, Read(search()), |_, _| A::Hits { rows: Vec::new(), next: Some(0), unindexed: 0 }),
        (searches, Read(search()), |_, _| A::Hits { rows: vec![ContentsRow { entry: EntryId { store: 9, record: 7 }, ..contents_row() }], next: None, unindexed: 0 }),
        (lists_people, people(), |_, _| A::Addresses { rows: vec![person(); 10], next: None }),
        (lists_people, people(), |_, _| A::Addresses { rows: vec![person()], next: Some(0) }),
    ]
}

fn submission_of(answer: ProviderAnswer, bend: fn(&mut Submission)) -> ProviderAnswer {
    let ProviderAnswer::Submitted { mut submission, .. } = answer else { panic!("{answer:?}") };
    bend(&mut submission);
    ProviderAnswer::Submitted { submission, new: true }
}

fn forwarded_of(answer: ProviderAnswer, bend: fn(&mut Submission)) -> ProviderAnswer {
    let ProviderAnswer::Updated { moved, mut notice, pending } = answer else {
        panic!("{answer:?}")
    };
    let forwarded = notice.as_mut().and_then(|notice| notice.forwarded.as_mut());
    bend(forwarded.expect("it is forwarded"));
    ProviderAnswer::Updated { moved, notice, pending }
}

fn due_of(answer: ProviderAnswer, bend: fn(&mut Vec<Submission>)) -> ProviderAnswer {
    let ProviderAnswer::Due { mut submissions, .. } = answer else { panic!("{answer:?}") };
    bend(&mut submissions);
    ProviderAnswer::Due { submissions, more: false, damaged: 0 }
}

/// A transport that leaves recipients out has said nothing of them. What it says of the others counts.
#[test]
fn who_is_left_out_is_unknown() {
    let mut world = World::new();
    let member = world.member(1);
    let answer: Bend = |_, _| ProviderAnswer::Results(vec![result(1, Outcome::Sent)]);
    let call = which(&ProviderCall::Transport(TransportCall::Complete { id: 0 }));
    let (provider, how) = (ProviderType::Transport, How::Done);
    tell(&mut world, &Lie { provider, call, how, answer, times: 1 });
    let entry = world.try_submit(member, &["b@x", "c@x", "d@x"]).expect("it is taken");
    let states: Vec<_> = world.submission(entry).recipients.iter().map(|r| r.state).collect();
    assert_eq!(states, [SubmissionState::Unknown, SubmissionState::Sent, SubmissionState::Unknown]);
    assert!(world.wrong.is_empty(), "it has only said less");
}

/// `status` says of a provider that it lied, until its session or its store is closed; damage counts more.
#[test]
fn status_says_who_answered_wrongly() {
    let mut world = World::new();
    let member = world.member(1);
    let object = world.open(member, Opening::AddressBook);
    let list = Request::List { member: member.id, object, after: 0, limit: 9 };
    let lie = |provider, call: &ProviderCall| {
        let answer: Bend = |_, _| ProviderAnswer::Hastened { found: 1, next: None };
        Lie { provider, call: which(call), how: How::Done, answer, times: 1 }
    };
    let people = ProviderCall::Address(AddressCall::List { after: 0, limit: 0 });
    told(&mut world, &lie(ProviderType::AddressBook, &people), member.at, list);
    let status = |world: &mut World, name: &str| {
        let sessions = world.status().sessions;
        let provider = sessions[0].providers.iter().find(|p| p.name == name).cloned();
        provider.expect("it is listed").status
    };
    assert_eq!(status(&mut world, "people"), "wrong: QueryRows was answered with Hastened");
    world.wrong.clear();
    world.lied = 0;
    let find = ProviderCall::Read(StoreRead::Find { record: 0 });
    let open = Request::Open { member: member.id, what: Opening::Message(entry()) };
    let undone = Lie { how: How::Undone, ..lie(ProviderType::Store, &find) };
    told(&mut world, &undone, member.at, open.clone());
    assert_eq!(status(&mut world, "store"), "wrong: OpenEntry was answered with Hastened");
    world.store("default").failures.insert("OpenEntry", [Code::E_CORRUPT_STORE].into());
    assert_eq!(world.refused(member.at, open), Code::E_CORRUPT_STORE);
    assert!(status(&mut world, "store").starts_with("damaged: "));
    world.everybody_leaves();
    world.advance(secs(60));
    world.member(2);
    assert_eq!(status(&mut world, "store"), "available");
}
