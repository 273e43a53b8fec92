//! A broker that answers a request with what is no answer to it: the call says so, in an error of its own, and neither waits,
//! panics nor succeeds. The connection is worth nothing any more; the next call takes another one.
//!
//! Each request has a call that makes it, and each is tried with each reply. A new request or reply does not compile until it is
//! here. The three calls of a shutdown are about the whole process, so nothing else runs beside it.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sundown_client::{
    AddressRow, Code, ContentsRow, Deletion, EntryId, Error, Event, Events, Flags, FolderKind,
    Logoff, Logon, Mapi, MemberId, Message, MessageRow, News, Options, QueueRow, RecipientRow,
    Resource, Session, SessionId, Status, Stopping, StoreLogoff, SubmissionState, SubmitKey, Token,
};
use sundown_protocol::folder::{Bookmark, Key};
use sundown_protocol::hello::{Answer, Welcome};
use sundown_protocol::reply::{
    FromBroker, Granted, LoggedOff, LoggedOn, Reload, Reloaded, Rows, Synced, TableRows,
};
use sundown_protocol::request::{
    AddressAction, Asked, Blob, Opening, QueueAction, ReadSource, Request, Submit, Ticket,
};
use sundown_protocol::{
    AdviseId, Notification, ObjectId, Reply, SessionTag, Version, codec, frame,
};

/// How long a call may take that is answered at once.
const DEADLINE: Duration = Duration::from_secs(30);

/// A broker that tells the truth, as far as it knows it, but once.
struct LyingBroker {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    serves: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// What this request is answered with, once.
    lie: Option<(usize, Reply)>,
    /// Kinds of requests that it was asked.
    asked: BTreeSet<usize>,
    /// Submissions that it was truthful about.
    submitted: usize,
    connections: Vec<UnixStream>,
    over: bool,
}

impl LyingBroker {
    fn new(folder: &Path) -> Self {
        let socket = folder.join("socket");
        let listener = UnixListener::bind(&socket).expect("bound");
        let state = Arc::<Mutex<State>>::default();
        let known = Arc::clone(&state);
        let serves = thread::spawn(move || {
            let mut serving = Vec::new();
            for client in listener.incoming() {
                let client = client.expect("a client");
                let mut state = lock(&known);
                if state.over {
                    break;
                }
                state.connections.push(client.try_clone().expect("cloned"));
                drop(state);
                let known = Arc::clone(&known);
                serving.push(thread::spawn(move || serve(&client, &known)));
            }
            for one in serving {
                one.join().expect("it served");
            }
        });
        Self { socket, state, serves: Some(serves) }
    }

    fn lies(&self, request: usize, reply: Reply) {
        lock(&self.state).lie = Some((request, reply));
    }

    /// Whether it has lied.
    fn lied(&self) -> bool {
        lock(&self.state).lie.is_none()
    }

    /// Every connection breaks.
    fn breaks(&self) {
        for connection in lock(&self.state).connections.drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }

    fn initialize(&self) -> Mapi {
        let options = Options::new("report").socket(&self.socket).data_dir(&self.socket);
        Mapi::initialize(options.no_autostart()).expect("a broker runs")
    }
}

impl Drop for LyingBroker {
    fn drop(&mut self) {
        lock(&self.state).over = true;
        self.breaks();
        let _ = UnixStream::connect(&self.socket);
        if let Some(serves) = self.serves.take() {
            let served = serves.join();
            assert!(served.is_ok() || thread::panicking(), "the broker has failed");
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut client: &UnixStream, state: &Mutex<State>) {
    let mut payload = Vec::new();
    if !frame::read(&mut client, &mut payload).unwrap_or(false) {
        return;
    }
    let (version, pid) = (Version::NEWEST as u16, 1);
    let welcome = Answer::Welcome(Welcome { version, pid, requests: 256, bytes: 1 << 20 });
    say(client, &codec::encode(&welcome).expect("it encodes"));
    while frame::read(&mut client, &mut payload).unwrap_or(false) {
        let Asked { id, request } = codec::decode(&payload).expect("a request");
        let kind = number(&request);
        let lie = {
            let mut state = lock(state);
            state.asked.insert(kind);
            let lie = state.lie.take_if(|(of, _)| *of == kind);
            state.submitted += usize::from(
                lie.is_none() && matches!(request, Request::Submit(_) | Request::SubmitVia { .. }),
            );
            lie
        };
        let result = Ok(lie.map_or_else(|| truth(&request), |(_, lie)| lie));
        let logged_on = matches!(&result, Ok(Reply::LoggedOn(_)));
        say(client, &codec::encode(&FromBroker::Answer { id, result }).expect("it encodes"));
        if logged_on {
            let event = Event::Session(SessionTag(7));
            let notification = Notification { member: MemberId(1), advises: Vec::new(), event };
            let told = FromBroker::Notify(notification);
            say(client, &codec::encode(&told).expect("it encodes"));
        }
    }
}

/// A client that hung up does not hear it.
fn say(mut client: &UnixStream, bytes: &[u8]) {
    let _ = client.write_all(bytes);
}

/// The kind of a request, as a number.
fn number(request: &Request) -> usize {
    match request {
        Request::Logon(_) => 0,
        Request::Return { .. } => 1,
        Request::Logoff(_) => 2,
        Request::Advise { .. } => 3,
        Request::Unadvise { .. } => 4,
        Request::Open { .. } => 5,
        Request::Release { .. } => 6,
        Request::List { .. } => 7,
        Request::Read { .. } => 8,
        Request::Upload { .. } => 9,
        Request::Submit(_) | Request::SubmitVia { .. } => 10,
        Request::Draft { .. } => 11,
        Request::Save { .. } => 12,
        Request::Delete { .. } => 13,
        Request::DeleteFrom { .. } => 14,
        Request::Setting { .. } => 15,
        Request::AbortSubmit { .. } => 16,
        Request::Flush { .. } => 17,
        Request::AddressBook { action, .. } => match action {
            AddressAction::Add { .. } => 18,
            AddressAction::Remove { .. } => 19,
            AddressAction::Resolve { .. } => 20,
        },
        Request::QueryFastShutdown => 21,
        Request::NotifyProcessShutdown => 22,
        Request::DoFastShutdown { .. } => 23,
        Request::Grant { .. } => 24,
        Request::Redeem { .. } => 25,
        Request::Revoke { .. } => 26,
        Request::Status | Request::StatusPage { .. } => 27,
        Request::Queue { action, .. } => match action {
            QueueAction::List { .. } => 28,
            QueueAction::Show(_) => 29,
            QueueAction::Change(..) => 30,
            QueueAction::Flush => 31,
        },
        Request::Stop { .. } => 32,
        Request::ValidateState { .. } => 33,
        Request::StoreLogoff { .. } => 34,
        Request::DeleteProfile { .. } => 35,
        Request::Broker => 36,
        Request::Ticket { .. } => 37,
        Request::Health { .. } => 38,
        Request::Reload { .. } => 39,
        Request::MessageId { .. } => 40,
        Request::Folders { .. } => 41,
        Request::MakeFolder { .. } => 42,
        Request::RenameFolder { .. } => 43,
        Request::RemoveFolder { .. } => 44,
        Request::Contents { .. } => 45,
        Request::SetFlags { .. } => 46,
        Request::Move { .. } => 47,
        Request::Copy { .. } => 48,
        Request::Append { .. } => 49,
        Request::Search { .. } => 50,
        Request::Sync { .. } => 51,
        Request::Mailboxes { .. } => 52,
    }
}

/// How many kinds of requests there are.
const REQUESTS: usize = 53;

const ENTRY: EntryId = EntryId { store: 1, record: 7 };
const FOLDER: FolderKind = FolderKind(17);
/// Of a table the place says what it is of.
const PEOPLE: u32 = 1;
const STATUS: u32 = 2;
const OTHER: u32 = 3;

fn logged_on() -> Reply {
    Reply::LoggedOn(LoggedOn {
        member: MemberId(1),
        session: SessionId(1),
        profile: "default".into(),
        shared: true,
        stores: vec!["sqlite".into()],
        identity: "me@localhost".into(),
    })
}

fn object(place: u32) -> ObjectId {
    ObjectId { place, generation: 0 }
}

fn person() -> AddressRow {
    AddressRow { entry: ENTRY, name: "bo".into(), addresses: vec!["bo@x".into()] }
}

fn in_queue() -> Reply {
    let recipient =
        RecipientRow { address: "b@x".into(), state: SubmissionState::Queued, reply: None };
    let row = QueueRow {
        entry: ENTRY,
        profile: "default".into(),
        state: SubmissionState::Queued,
        from: "me@localhost".into(),
        recipients: vec![recipient],
        subject: String::new(),
        attempts: 0,
        next_attempt: None,
        last_error: None,
        submitted: 0,
        size: 1,
    };
    Reply::Queue { rows: vec![row], next: None }
}

fn status() -> Status {
    Status {
        version: "1".into(),
        pid: 1,
        socket: String::new(),
        started: 0,
        sessions: Vec::new(),
        queue: [0; 9],
        waiting_for_mail_member: 0,
    }
}

fn messages() -> TableRows {
    let (subject, from, to) = (String::new(), String::new(), String::new());
    let row =
        MessageRow { entry: ENTRY, subject, from, to, size: 1, received: 0, recovered: false };
    TableRows::Messages(vec![row])
}

/// As many rows of a contents table.
fn contents_rows(count: usize) -> Vec<ContentsRow> {
    let row = ContentsRow {
        entry: ENTRY,
        folder: FOLDER,
        subject: String::new(),
        from: String::new(),
        to: String::new(),
        date: None,
        size: 1,
        received: 0,
        flags: Flags::default(),
        recovered: false,
    };
    vec![row; count]
}

fn contents(count: usize, next: Option<Bookmark>) -> Reply {
    Reply::Contents { rows: contents_rows(count), next }
}

fn found(count: usize, next: Option<u64>) -> Reply {
    Reply::Found { rows: contents_rows(count), next, unindexed: 0 }
}

fn rows(rows: TableRows, next: Option<u64>) -> Reply {
    Reply::Rows(Rows { rows, next })
}

fn truth(request: &Request) -> Reply {
    match request {
        Request::Logon(_) | Request::Return { .. } => logged_on(),
        Request::Logoff(_) => Reply::LoggedOff(LoggedOff::default()),
        Request::Advise { .. } => Reply::Advised(AdviseId(1)),
        Request::Open { what, .. } => Reply::Opened(object(match what {
            Opening::AddressBook => PEOPLE,
            Opening::StatusTable => STATUS,
            Opening::Store(_) | Opening::Folder(..) | Opening::Message(_) => OTHER,
        })),
        Request::List { object, .. } => {
            let table = match object.place {
                PEOPLE => TableRows::Addresses(vec![person()]),
                STATUS => TableRows::Status(Vec::new()),
                _ => messages(),
            };
            rows(table, None)
        }
        Request::Read { source: ReadSource::Entry(_) | ReadSource::Object(_), .. } => {
            Reply::Piece { size: 1, bytes: Blob(b"x".to_vec()) }
        }
        Request::Submit(submit) => submitted(submit),
        Request::SubmitVia { submit, .. } => submitted(submit),
        Request::Draft { .. } => Reply::Opened(object(OTHER)),
        Request::Save { .. } => Reply::Saved(ENTRY),
        Request::Setting { .. } => Reply::Setting(Some("value".into())),
        Request::AddressBook { action, .. } => match action {
            AddressAction::Add { .. } => Reply::Added(ENTRY),
            AddressAction::Remove { .. } => Reply::Done,
            AddressAction::Resolve { .. } => Reply::Resolved(person()),
        },
        Request::Redeem { .. } => {
            let granted = Granted::Folder(FolderKind::INBOX);
            Reply::Redeemed { member: MemberId(2), object: object(OTHER), granted }
        }
        Request::Status => Reply::Status(Box::new(status())),
        Request::StatusPage { .. } => Reply::StatusPage { status: Box::new(status()), next: None },
        Request::Queue { action, .. } => match action {
            QueueAction::List { .. } | QueueAction::Show(_) | QueueAction::Change(..) => in_queue(),
            QueueAction::Flush => Reply::Flushed(0),
        },
        Request::StoreLogoff { .. } => Reply::StoreLoggedOff(StoreLogoff::COMPLETE),
        Request::DeleteProfile { .. } => Reply::ProfileDeleted(Deletion::Done),
        Request::Broker => Reply::Broker(Box::default()),
        Request::Ticket { .. } => Reply::Ticket(Ticket(Blob(vec![1]))),
        Request::Health { .. } => {
            Reply::Health { sessions: Vec::new(), next: None, requests: None }
        }
        Request::Reload { .. } => reloaded(),
        Request::MessageId { .. } => Reply::MessageId(Some("<1@host>".into())),
        Request::Folders { .. } => Reply::Folders { rows: Vec::new(), next: None },
        Request::MakeFolder { .. } => Reply::Made(FOLDER),
        Request::Contents { .. } => contents(1, None),
        Request::SetFlags { .. } => Reply::Flags(Flags::default()),
        Request::Copy { key, .. } | Request::Append { key, .. } => {
            Reply::Saved(EntryId { store: 1, record: key.0 })
        }
        Request::Search { .. } => found(1, None),
        Request::Sync { .. } => Reply::Synced(Synced::default()),
        Request::Mailboxes { .. } => Reply::Mailboxes { mailboxes: Vec::new(), next: None },
        Request::Unadvise { .. }
        | Request::Release { .. }
        | Request::Upload { .. }
        | Request::Delete { .. }
        | Request::DeleteFrom { .. }
        | Request::AbortSubmit { .. }
        | Request::Flush { .. }
        | Request::QueryFastShutdown
        | Request::NotifyProcessShutdown
        | Request::DoFastShutdown { .. }
        | Request::Grant { .. }
        | Request::Revoke { .. }
        | Request::Stop { .. }
        | Request::RenameFolder { .. }
        | Request::RemoveFolder { .. }
        | Request::Move { .. }
        | Request::ValidateState { .. } => Reply::Done,
    }
}

fn reloaded() -> Reply {
    Reply::Reloaded(Reloaded { sessions: 1, result: Reload::Unchanged })
}

/// One of each kind of replies; each says that all is well.
fn replies() -> Vec<Reply> {
    let granted = Granted::Folder(FolderKind::INBOX);
    let all = vec![
        Reply::Done,
        logged_on(),
        Reply::LoggedOff(LoggedOff::default()),
        Reply::Advised(AdviseId(1)),
        Reply::Opened(object(OTHER)),
        rows(messages(), None),
        Reply::Piece { size: 1, bytes: Blob(b"x".to_vec()) },
        Reply::Submitted { entry: ENTRY, state: SubmissionState::Queued },
        Reply::Saved(ENTRY),
        Reply::Setting(None),
        Reply::Added(ENTRY),
        Reply::Resolved(person()),
        Reply::Redeemed { member: MemberId(2), object: object(OTHER), granted },
        Reply::Status(Box::new(status())),
        in_queue(),
        Reply::Flushed(1),
        Reply::StoreLoggedOff(StoreLogoff::COMPLETE),
        Reply::ProfileDeleted(Deletion::Done),
        Reply::Broker(Box::default()),
        Reply::Ticket(Ticket(Blob(vec![1]))),
        Reply::StatusPage { status: Box::new(status()), next: None },
        Reply::Health { sessions: Vec::new(), next: None, requests: None },
        reloaded(),
        Reply::MessageId(None),
        Reply::Folders { rows: Vec::new(), next: None },
        Reply::Made(FOLDER),
        contents(1, None),
        Reply::Flags(Flags::default()),
        found(1, None),
    ];
    for (place, reply) in all.iter().enumerate() {
        assert_eq!(place_of(reply), place, "each is told");
    }
    all
}

/// The place of a reply among them; a new one does not compile until it has one.
fn place_of(reply: &Reply) -> usize {
    match reply {
        Reply::Done => 0,
        Reply::LoggedOn(_) => 1,
        Reply::LoggedOff(_) => 2,
        Reply::Advised(_) => 3,
        Reply::Opened(_) => 4,
        Reply::Rows(_) => 5,
        Reply::Piece { .. } => 6,
        Reply::Submitted { .. } => 7,
        Reply::Saved(_) => 8,
        Reply::Setting(_) => 9,
        Reply::Added(_) => 10,
        Reply::Resolved(_) => 11,
        Reply::Redeemed { .. } => 12,
        Reply::Status(_) => 13,
        Reply::Queue { .. } => 14,
        Reply::Flushed(_) => 15,
        Reply::StoreLoggedOff(_) => 16,
        Reply::ProfileDeleted(_) => 17,
        Reply::Broker(_) => 18,
        Reply::Ticket(_) => 19,
        Reply::StatusPage { .. } => 20,
        Reply::Health { .. } => 21,
        Reply::Reloaded(_) => 22,
        Reply::MessageId(_) => 23,
        Reply::Folders { .. } => 24,
        Reply::Made(_) => 25,
        Reply::Contents { .. } => 26,
        Reply::Flags(_) => 27,
        Reply::Found { .. } => 28,
        Reply::Synced(_) => 29,
        Reply::Mailboxes { .. } => 30,
    }
}

/// A program with a session.
struct Stage {
    session: Session,
    mapi: Mapi,
    broker: LyingBroker,
}

type Call = fn(&Stage) -> Result<(), Error>;

/// What is asked without waiting for the answer.
type Told = fn(&Stage);

/// A call for each request that a program waits for, with the place of its reply.
#[rustfmt::skip]
fn calls() -> Vec<(usize, usize, Call)> {
    vec![
        (0, 1, |s| s.mapi.logon(Logon::private()).map(drop)),
        (3, 3, |s| s.session.advise(Events::NEW_MAIL, |_| ()).map(drop)),
        (5, 4, |s| s.session.address_book().map(drop)),
        (11, 4, |s| s.session.draft(&Message::new("text")).map(drop)),
        (14, 0, |s| s.session.folder(FolderKind::INBOX)?.delete(ENTRY)),
        (7, 5, |s| s.session.folder(FolderKind::INBOX)?.messages().map(drop)),
        (7, 5, |s| s.session.address_book()?.entries().map(drop)),
        (7, 5, |s| s.session.status_table()?.rows().map(drop)),
        (8, 6, |s| s.session.read(ENTRY).map(drop)),
        (8, 6, |s| s.session.open_message(ENTRY)?.read_at(0).map(drop)),
        (9, 0, |s| s.session.submit(&Message::new(vec![b'x'; 600 << 10]).recipient("b@x")).map(drop)),
        (10, 7, |s| s.session.submit(&Message::new("text").recipient("b@x")).map(drop)),
        (10, 7, |s| s.session.submit_deferred(&Message::new("text").recipient("b@x")).map(drop)),
        (12, 8, |s| s.session.draft(&Message::new("text"))?.save().map(drop)),
        (13, 0, |s| s.session.delete(ENTRY)),
        (15, 9, |s| s.session.setting("section", "name").map(drop)),
        (15, 9, |s| s.session.set_setting("section", "name", "value")),
        (16, 0, |s| s.session.abort_submit(ENTRY)),
        (17, 0, |s| s.session.flush()),
        (18, 10, |s| s.session.address_book()?.add("bo", &["bo@x"]).map(drop)),
        (19, 0, |s| s.session.address_book()?.remove("bo")),
        (20, 11, |s| s.session.address_book()?.resolve("bo").map(drop)),
        (21, 0, |s| s.mapi.client_shutdown().query_fast_shutdown()),
        (22, 0, |s| s.mapi.client_shutdown().notify_process_shutdown()),
        (23, 0, |s| s.mapi.client_shutdown().do_fast_shutdown()),
        (24, 0, |s| s.session.folder(FolderKind::INBOX)?.grant(None).map(drop)),
        (25, 12, |s| s.mapi.redeem(Token(1)).map(drop)),
        (7, 5, |s| s.mapi.redeem(Token(1))?.messages().map(drop)),
        (26, 0, |s| s.session.revoke(Token(1))),
        (27, 20, |s| s.mapi.status().map(drop)),
        (28, 14, |s| s.mapi.queue(None, false).map(drop)),
        (29, 14, |s| s.mapi.queue_entry(None, ENTRY).map(drop)),
        (30, 14, |s| s.mapi.hold(None, ENTRY).map(drop)),
        (31, 15, |s| s.mapi.flush_queues(None).map(drop)),
        (32, 0, |s| s.mapi.stop(Stopping::Orderly, DEADLINE)),
        (33, 0, |s| s.session.validate_state(Resource::TransportProvider, "relay")),
        (34, 16, |s| s.session.default_store()?.store_logoff(StoreLogoff::QUIET).map(drop)),
        (35, 17, |s| s.mapi.delete_profile("other").map(drop)),
        (36, 18, |s| s.mapi.broker_status().map(drop)),
        (38, 21, |s| s.mapi.health().map(drop)),
        (39, 22, |s| s.mapi.reload("work").map(drop)),
        (40, 23, |s| s.mapi.message_id(ENTRY).map(drop)),
        (41, 24, |s| s.session.default_store()?.folders().map(drop)),
        (42, 25, |s| s.session.default_store()?.make_folder(None, "Work").map(drop)),
        (43, 0, |s| s.session.default_store()?.rename_folder(FOLDER, "Work")),
        (44, 0, |s| s.session.default_store()?.remove_folder(FOLDER)),
        (45, 26, |s| s.session.folder(FOLDER)?.contents().next_page().map(drop)),
        (45, 26, |s| s.session.folder(FOLDER)?.contents().collect::<Result<Vec<_>, _>>().map(drop)),
        (46, 27, |s| s.session.set_flags(ENTRY, &Flags::default(), &Flags::default()).map(drop)),
        (46, 27, |s| s.session.open_message(ENTRY)?.set_flags(&Flags::default(), &Flags::default()).map(drop)),
        (47, 0, |s| s.session.move_to(ENTRY, FOLDER)),
        (47, 0, |s| s.session.open_message(ENTRY)?.move_to(FOLDER)),
        (48, 8, |s| s.session.copy_to(ENTRY, FOLDER).map(drop)),
        (48, 8, |s| s.session.open_message(ENTRY)?.copy_to(FOLDER).map(drop)),
        (49, 8, |s| s.session.folder(FOLDER)?.append(&Message::new("text"), &Flags::default(), None).map(drop)),
        (50, 28, |s| s.session.default_store()?.search("word").next_page().map(drop)),
        (51, 29, |s| s.session.sync().map(drop)),
        (52, 30, |s| s.mapi.mailboxes().map(drop)),
        (50, 28, |s| s.session.folder(FOLDER)?.search("word").collect::<Result<Vec<_>, _>>().map(drop)),
    ]
}

fn stage() -> (tempfile::TempDir, Stage) {
    let folder = tempfile::TempDir::new().expect("a directory");
    let broker = LyingBroker::new(folder.path());
    let mapi = broker.initialize();
    let session = mapi.logon(Logon::shared()).expect("it logs on");
    (folder, Stage { session, mapi, broker })
}

/// What is asked is answered: the library has another connection, or is about to.
fn goes_on(stage: &Stage) {
    assert!(stage.broker.lied(), "it was not asked");
    let next = stage.session.read(ENTRY);
    assert!(next.is_ok(), "the next call is answered: {next:?}");
}

fn is_told(told: &Result<(), Error>, what: &str) {
    let error = told.as_ref().expect_err(what);
    assert_eq!(error.code(), Code::E_CORRUPT_DATA, "{what}: {error}");
    assert!(!error.is_disconnected() && error.to_string().contains("not known"), "{what}: {error}");
}

/// Each request that a program waits for, answered with each reply to another one.
fn each_reply_to_another_request() -> BTreeSet<usize> {
    let mut asked = BTreeSet::new();
    for (request, right, call) in calls() {
        for reply in replies().into_iter().filter(|reply| place_of(reply) != right) {
            let what = format!("request {request} with {:?}", reply.kind());
            let (_folder, stage) = stage();
            stage.broker.lies(request, reply);
            is_told(&call(&stage), &what);
            goes_on(&stage);
            asked.extend(lock(&stage.broker.state).asked.iter());
        }
    }
    asked
}

/// A logoff that is answered so has not happened, as far as its program can know.
fn a_logoff() {
    for reply in replies().into_iter().filter(|reply| place_of(reply) != 2) {
        let (_folder, stage) = stage();
        stage.broker.lies(2, reply);
        let Stage { session, mapi, broker } = stage;
        is_told(&session.logoff(Logoff::now()).map(drop), "a logoff");
        assert!(broker.lied() && mapi.status().is_ok());
        drop(mapi);
    }
}

/// What nobody waits for is noticed all the same, and harms nobody.
fn what_is_not_waited_for() -> BTreeSet<usize> {
    let calls: [(usize, usize, Told); 4] = [
        (4, 0, |s| drop(s.session.advise(Events::NEW_MAIL, |_| ()).expect("registered"))),
        (6, 0, |s| drop(s.session.address_book().expect("opened"))),
        (2, 2, |s| drop(s.mapi.logon(Logon::private()).expect("it logs on"))),
        // With the next connection it is shown.
        (37, 19, |s| s.broker.breaks()),
    ];
    let mut asked = BTreeSet::new();
    for (request, right, call) in calls {
        for reply in replies().into_iter().filter(|reply| place_of(reply) != right) {
            let (_folder, stage) = stage();
            stage.broker.lies(request, reply);
            call(&stage);
            assert!(stage.session.read(ENTRY).is_ok(), "the next call is answered");
            asked.extend(lock(&stage.broker.state).asked.iter());
        }
    }
    asked
}

/// A session that comes back to another broker and is told something else than that it is logged on has ended.
fn a_return() -> BTreeSet<usize> {
    let mut asked = BTreeSet::new();
    for reply in replies().into_iter().filter(|reply| place_of(reply) != 1) {
        let (_folder, stage) = stage();
        // Behind the logon the session is told its name, without which it logs on and does not return. It was heard before this answer.
        assert!(stage.session.read(ENTRY).is_ok());
        stage.broker.lies(1, reply);
        stage.broker.breaks();
        let notice = stage.session.events().recv_timeout(DEADLINE).expect("it is told");
        let News::Broker(Event::CriticalError { code, .. }) = notice.news else {
            panic!("{notice:?} of a session that was lost")
        };
        assert_eq!(code, Code::E_END_OF_SESSION);
        assert!(stage.session.read(ENTRY).is_err_and(|error| error.is_end_of_session()));
        asked.extend(lock(&stage.broker.state).asked.iter());
    }
    asked
}

/// What was deferred is kept until a broker has said that it is durable.
fn what_was_deferred() {
    for reply in replies().into_iter().filter(|reply| place_of(reply) != 7) {
        let (_folder, stage) = stage();
        let message = Message::new("text").recipient("b@x").key(SubmitKey(9));
        stage.session.submit_deferred(&message).expect("accepted");
        // The next broker is asked again and says something else; the one after that tells the truth.
        stage.broker.lies(10, reply);
        stage.broker.breaks();
        assert!(stage.session.read(ENTRY).is_ok(), "it is back");
        assert!(stage.broker.lied());
        stage.session.flush().expect("it is durable");
        assert_eq!(lock(&stage.broker.state).submitted, 2, "accepted, and then made durable");
    }
}

/// Replies of the right kind that say what cannot be.
fn what_cannot_be() {
    let lies: Vec<(usize, Reply, Call)> = vec![
        (7, rows(TableRows::Status(Vec::new()), None), |s| {
            s.session.folder(FolderKind::INBOX)?.messages().map(drop)
        }),
        // It would be asked for without end.
        (7, rows(messages(), Some(0)), |s| {
            s.session.folder(FolderKind::INBOX)?.messages().map(drop)
        }),
        (7, rows(messages(), Some(0)), |s| s.mapi.redeem(Token(1))?.messages().map(drop)),
        (28, Reply::Queue { rows: Vec::new(), next: Some(0) }, |s| {
            s.mapi.queue(None, false).map(drop)
        }),
        // A part of a message is no message.
        (8, Reply::Piece { size: 9, bytes: Blob(Vec::new()) }, |s| s.session.read(ENTRY).map(drop)),
        // Another message than that of the key.
        (10, Reply::Submitted { entry: ENTRY, state: SubmissionState::Queued }, |s| {
            s.session.submit(&Message::new("text").recipient("b@x")).map(drop)
        }),
        (29, Reply::Queue { rows: Vec::new(), next: None }, |s| {
            s.mapi.queue_entry(None, ENTRY).map(drop)
        }),
        // Another message than that of the key.
        (48, Reply::Saved(ENTRY), |s| s.session.copy_to(ENTRY, FOLDER).map(drop)),
        (49, Reply::Saved(ENTRY), |s| {
            let inbox = s.session.folder(FOLDER)?;
            inbox.append(&Message::new("text"), &Flags::default(), None).map(drop)
        }),
        // A page behind none.
        (45, contents(0, Some(Bookmark { key: Key::Number(1), order: 1 })), |s| {
            s.session.folder(FOLDER)?.contents().next_page().map(drop)
        }),
        // More rows than were asked for.
        (45, contents(3, None), |s| {
            s.session.folder(FOLDER)?.contents().limit(2).next_page().map(drop)
        }),
        (50, found(3, None), |s| {
            s.session.default_store()?.search("word").limit(2).next_page().map(drop)
        }),
        // The cursor of the first page.
        (50, found(1, Some(0)), |s| {
            s.session.default_store()?.search("word").next_page().map(drop)
        }),
    ];
    for (request, lie, call) in lies {
        let (_folder, stage) = stage();
        let what = format!("{lie:?}");
        stage.broker.lies(request, lie);
        is_told(&call(&stage), &what);
        goes_on(&stage);
    }
}

/// design §5
#[test]
fn a_reply_to_another_request_is_an_error() {
    let mut asked = each_reply_to_another_request();
    a_logoff();
    asked.extend(what_is_not_waited_for());
    asked.extend(a_return());
    what_was_deferred();
    what_cannot_be();
    assert_eq!(asked, (0..REQUESTS).collect(), "each request is made by some call");
}

/// The answer to a submit.
fn submitted(submit: &Submit) -> Reply {
    let entry = EntryId { store: 1, record: submit.key.0 };
    let state = match submit.when {
        sundown_protocol::request::Durability::Deferred => SubmissionState::Accepted,
        sundown_protocol::request::Durability::Durable => SubmissionState::Queued,
    };
    Reply::Submitted { entry, state }
}
