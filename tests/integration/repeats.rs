//! A broker that is killed after it has done what it was asked, and before its answer arrives: what is asked again does no harm, and
//! what would do harm is not asked again. A row for each request.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use sundown_client::{
    Code, EntryId, Event, Events, Flags, FolderKind, Logoff, Logon, Mapi, Message, News, Notice,
    Options, QueueRow, Resource, Session, Stopping, StoreLogoff, SubmissionState,
};
use sundown_protocol::hello::Answer;
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::Asked;
use sundown_protocol::{RequestId, codec, frame};

use crate::harness::{Broker, Copies, DEADLINE, Home};

/// A home with a broker, and a way to it that can be cut.
struct Stage {
    home: Home,
    state: Mutex<State>,
}

struct State {
    broker: Broker,
    /// Of which request the next answer is to be lost.
    lose: Option<&'static str>,
    /// How often each request was asked.
    asked: BTreeMap<&'static str, usize>,
}

impl Stage {
    fn new() -> Arc<Self> {
        let home = Home::new();
        home.profile("default", "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"1h\"\n");
        home.profile("other", "");
        home.write(".local/share/sundown/default/blocked", "");
        let broker = home.serve();
        let state = Mutex::new(State { broker, lose: None, asked: BTreeMap::new() });
        let stage = Arc::new(Self { home, state });
        let listener = UnixListener::bind(stage.socket()).expect("bound");
        // It goes with its home: then nobody comes any more.
        let serves = Arc::downgrade(&stage);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Some(stage) = serves.upgrade() else { return };
                thread::spawn(move || stage.carry(&client.expect("a client")));
            }
        });
        stage
    }

    fn socket(&self) -> PathBuf {
        self.home.path("run/cut.sock")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries one connection, until it ends or is cut.
    fn carry(&self, client: &UnixStream) {
        let Ok(broker) = UnixStream::connect(self.home.socket()) else { return };
        let names = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                self.forth(client, &broker, &names);
                let _ = broker.shutdown(Shutdown::Both);
            });
            self.back(&broker, client, &names);
            let _ = client.shutdown(Shutdown::Both);
            let _ = broker.shutdown(Shutdown::Both);
        });
    }

    fn forth(
        &self,
        mut client: &UnixStream,
        mut broker: &UnixStream,
        names: &Mutex<BTreeMap<RequestId, &'static str>>,
    ) {
        let mut payload = Vec::new();
        let mut greeted = false;
        while frame::read(&mut client, &mut payload).unwrap_or(false) {
            if greeted {
                let Asked { id, request } = codec::decode(&payload).expect("a request");
                names.lock().expect("nobody panics").insert(id, request.name());
                *self.lock().asked.entry(request.name()).or_default() += 1;
            }
            greeted = true;
            if broker.write_all(&whole(&payload)).is_err() {
                return;
            }
        }
    }

    fn back(
        &self,
        mut broker: &UnixStream,
        mut client: &UnixStream,
        names: &Mutex<BTreeMap<RequestId, &'static str>>,
    ) {
        let mut payload = Vec::new();
        let mut greeted = false;
        while frame::read(&mut broker, &mut payload).unwrap_or(false) {
            if greeted && let Ok(FromBroker::Answer { id, .. }) = codec::decode(&payload) {
                let name = names.lock().expect("nobody panics").get(&id).copied();
                let mut state = self.lock();
                if name.is_some() && name == state.lose {
                    state.lose = None;
                    state.broker.kill();
                    state.broker = self.home.serve();
                    return;
                }
            } else if !greeted {
                codec::decode::<Answer>(&payload).expect("an answer to a hello");
            }
            greeted = true;
            if client.write_all(&whole(&payload)).is_err() {
                return;
            }
        }
    }

    /// The next answer to this request is lost, with its broker.
    fn lose(&self, request: &'static str) {
        let mut state = self.lock();
        state.lose = Some(request);
        state.asked.clear();
    }

    /// It was lost, and the request was asked so often.
    fn was_asked(&self, request: &str, times: usize) {
        let state = self.lock();
        assert_eq!(state.lose, None, "an answer to {request} was lost");
        assert_eq!(state.asked.get(request), Some(&times), "{request}: {:?}", state.asked);
    }

    fn initialize(&self) -> Mapi {
        let options = Options::new("report").socket(self.socket()).data_dir(self.home.data());
        Mapi::initialize(options.no_autostart()).expect("a broker runs")
    }

    fn log_on(&self) -> (Mapi, Session) {
        let mapi = self.initialize();
        let session = mapi.logon(Logon::shared()).expect("it logs on");
        (mapi, session)
    }

    /// The folders, each with its subjects.
    fn folders(&self) -> BTreeMap<&'static str, Vec<String>> {
        let (_mapi, session) = self.log_on();
        let folders = FolderKind::BUILT_IN.into_iter().map(|kind| {
            let rows = session.folder(kind).and_then(|folder| folder.messages()).expect("listed");
            (kind.built_in().expect("a name"), rows.into_iter().map(|row| row.subject).collect())
        });
        folders.filter(|(_, rows): &(_, Vec<_>)| !rows.is_empty()).collect()
    }
}

/// A frame with its length.
fn whole(payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("it fits").to_le_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn message(subject: &str, lines: usize) -> Message {
    let body = "body\n".repeat(lines);
    Message::parse(format!("To: anna@localhost\nSubject: {subject}\n\n{body}"))
}

/// Holds a message, which a transport may have in its hands a little longer.
fn hold(mapi: &Mapi, entry: EntryId) -> QueueRow {
    let since = Instant::now();
    loop {
        match mapi.hold(None, entry) {
            Err(error) if error.code() == Code::E_BUSY && since.elapsed() < DEADLINE => {}
            held => return held.expect("held"),
        }
    }
}

/// What a folder has.
fn only(folder: &'static str, subject: &str) -> BTreeMap<&'static str, Vec<String>> {
    BTreeMap::from([(folder, vec![subject.to_owned()])])
}

/// Sessions, registrations and objects: they end with their connection, and each is there once when it is asked for again.
#[test]
fn sessions_and_objects_are_asked_for_again() {
    let stage = Stage::new();
    let mapi = stage.initialize();
    stage.lose("Logon");
    let session = mapi.logon(Logon::shared()).expect("it logs on");
    stage.was_asked("Logon", 2);
    let members = |stage: &Stage| {
        let status = stage.home.status();
        let sessions = status["sessions"].as_array().expect("sessions").clone();
        sessions.iter().map(|s| s["members"].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    assert_eq!(members(&stage), 1);

    let (sender, told) = std::sync::mpsc::channel();
    stage.lose("Advise");
    let sink = session
        .advise(Events::EXTENDED, move |notice| drop(sender.send(notice.clone())))
        .expect("advised");
    stage.was_asked("Advise", 2);
    let departs = || drop(mapi.logon(Logon::shared()).expect("it logs on"));
    departs();
    let departure = |notice: &Notice| matches!(notice.news, News::Broker(Event::MemberLeft { .. }));
    let mut notices = std::iter::from_fn(|| told.recv_timeout(DEADLINE).ok());
    let notice = notices.find(departure).expect("it is told");
    assert_eq!(notice.connections, [sink.connection()]);
    assert!(!told.try_iter().any(|notice| departure(&notice)), "told twice");

    stage.lose("Unadvise");
    sink.unadvise().expect("unadvised");
    stage.was_asked("Unadvise", 1);

    stage.lose("Open");
    let folder = session.folder(FolderKind::OUTBOX).expect("opened");
    session.submit(&message("seen", 1)).expect("submitted");
    stage.lose("List");
    assert_eq!(folder.messages().expect("listed").len(), 1);
    stage.was_asked("List", 2);
    let entry = folder.messages().expect("listed")[0].entry;
    stage.lose("Read");
    assert!(session.read(entry).expect("read").ends_with(b"body\n"));
    stage.was_asked("Read", 2);

    // Nobody waits for a release.
    stage.lose("Release");
    drop(folder);
    let store = session.default_store().expect("opened");
    stage.lose("StoreLogoff");
    let out = store.store_logoff(StoreLogoff::NO_WAIT).expect("let go");
    assert!(out.contains(StoreLogoff::COMPLETE));
    stage.was_asked("StoreLogoff", 2);

    stage.lose("Logoff");
    session.logoff(Logoff::now()).expect("logged off");
    stage.was_asked("Logoff", 2);
    assert_eq!(members(&stage), 0);
}

/// Mail is there once: submitted, saved, streamed.
#[test]
fn mail_is_there_once() {
    let stage = Stage::new();
    let (_mapi, session) = stage.log_on();
    stage.lose("Submit");
    session.submit(&message("submitted", 1)).expect("submitted");
    stage.was_asked("Submit", 2);
    stage.lose("Upload");
    session.submit(&message("streamed", 100_000)).expect("submitted");
    stage.lose("Flush");
    session.flush().expect("durable");
    stage.was_asked("Flush", 2);
    let both = vec!["submitted".to_owned(), "streamed".to_owned()];
    assert_eq!(stage.folders(), BTreeMap::from([("outbox", both.clone())]));

    stage.lose("Save");
    let draft = session.draft(&message("saved", 1)).expect("drafted");
    let entry = draft.save().expect("it was saved before the broker was killed");
    stage.was_asked("Save", 1);
    let drafts = session.folder(FolderKind::DRAFTS).expect("opened").messages().expect("listed");
    assert_eq!(drafts.iter().map(|row| row.entry).collect::<Vec<_>>(), [entry]);

    stage.lose("Draft");
    let draft = session.draft(&message("drafted", 1)).expect("drafted");
    stage.was_asked("Draft", 2);
    draft.save().expect("saved");
    // The first one may be there as well, marked.
    let drafts = session.folder(FolderKind::DRAFTS).expect("opened").messages().expect("listed");
    let unmarked = drafts.iter().filter(|row| row.subject == "drafted" && !row.recovered).count();
    assert_eq!(unmarked, 1, "{drafts:?}");
}

/// A deletion that names the folder deletes once. One that does not is not repeated: what was moved into Deleted stays there.
///
/// design §3.16
#[test]
fn a_repeated_deletion_destroys_nothing() {
    for named in [true, false] {
        let stage = Stage::new();
        let (_mapi, session) = stage.log_on();
        let draft = session.draft(&message("precious", 1)).expect("drafted");
        let entry = draft.save().expect("saved");
        drop(draft);
        if named {
            let folder = session.folder(FolderKind::DRAFTS).expect("opened");
            stage.lose("DeleteFrom");
            folder.delete(entry).expect("deleted");
            stage.was_asked("DeleteFrom", 2);
        } else {
            stage.lose("Delete");
            let error = session.delete(entry).expect_err("nobody knows");
            assert!(error.is_outcome_unknown() && !error.is_temporary(), "{error:?}");
            stage.was_asked("Delete", 1);
        }
        assert_eq!(stage.folders(), only("deleted", "precious"), "named: {named}");
    }
}

/// Folders, flags, moves, copies and appended messages: once, however often they are asked for.
///
/// design §3.16
#[test]
fn folders_and_what_is_in_them_are_changed_once() {
    let stage = Stage::new();
    let (_mapi, session) = stage.log_on();
    let store = session.default_store().expect("opened");
    stage.lose("MakeFolder");
    let folder = store.make_folder(None, "Work").expect("it was made the first time");
    stage.was_asked("MakeFolder", 2);
    let other = store.make_folder(Some(folder), "Inner").expect("made");
    stage.lose("RenameFolder");
    store.rename_folder(other, "Inside").expect("renamed");
    stage.was_asked("RenameFolder", 2);
    stage.lose("RemoveFolder");
    store.remove_folder(other).expect("it was removed the first time");
    stage.was_asked("RemoveFolder", 2);
    stage.lose("Folders");
    let folders = store.folders().expect("listed");
    stage.was_asked("Folders", 2);
    assert_eq!(folders.len(), 6);
    assert_eq!((folders[5].folder, &folders[5].name), (folder, &"Work".to_owned()));

    let work = store.folder(folder).expect("opened");
    let read: Flags = "read".parse().expect("a flag");
    stage.lose("Append");
    let entry = work.append(&message("appended", 1), &read, None).expect("appended");
    stage.was_asked("Append", 2);
    stage.lose("Copy");
    let copy = session.copy_to(entry, FolderKind::DRAFTS).expect("copied");
    stage.was_asked("Copy", 2);
    stage.lose("SetFlags");
    let flags = session.set_flags(copy, &"flagged".parse().expect("a flag"), &read).expect("set");
    stage.was_asked("SetFlags", 2);
    assert_eq!(flags.names().collect::<Vec<_>>(), ["flagged"]);
    stage.lose("Move");
    session.move_to(entry, FolderKind::SENT).expect("moved");
    stage.was_asked("Move", 2);
    stage.lose("Contents");
    assert_eq!(work.contents().count(), 0);
    stage.was_asked("Contents", 2);
    stage.lose("Search");
    store.search("appended").next_page().expect("searched");
    stage.was_asked("Search", 2);
    let subject = vec!["appended".to_owned()];
    let each = BTreeMap::from([("drafts", subject.clone()), ("sent", subject)]);
    assert_eq!(stage.folders(), each);
}

/// Changes of the queue are made once; what may send a message once more is not repeated.
#[test]
fn the_queue_is_changed_once() {
    let stage = Stage::new();
    let (mapi, session) = stage.log_on();
    let entry = session.submit(&message("queued", 1)).expect("submitted").entry;
    let state = || mapi.queue_entry(None, entry).expect("it is there").state;
    hold(&mapi, entry);
    mapi.release(None, entry).expect("released");
    stage.lose("Queue");
    assert_eq!(hold(&mapi, entry).state, SubmissionState::Held);
    stage.lose("Queue");
    assert_ne!(mapi.release(None, entry).expect("released").state, SubmissionState::Held);
    stage.lose("Queue");
    let error = mapi.retry(None, entry).expect_err("nobody knows");
    assert!(error.is_outcome_unknown(), "{error:?}");
    stage.was_asked("Queue", 1);
    stage.lose("Queue");
    mapi.flush_queues(None).expect("flushed");
    stage.lose("Queue");
    assert_eq!(mapi.queue(None, false).expect("listed").len(), 1);
    stage.lose("Queue");
    assert_ne!(state(), SubmissionState::Held);
    hold(&mapi, entry);
    stage.lose("AbortSubmit");
    session.abort_submit(entry).expect("it was taken back the first time");
    stage.was_asked("AbortSubmit", 2);
    assert_eq!(stage.folders(), only("drafts", "queued"));

    let second = session.submit(&message("second", 1)).expect("submitted").entry;
    hold(&mapi, second);
    stage.lose("Queue");
    let row = mapi.abort(None, second).expect("it was taken back the first time");
    assert_eq!(row.state, SubmissionState::Aborted);
}

/// Settings, address books, profiles and what only looks.
#[test]
fn the_rest_is_as_if_it_was_asked_once() {
    let stage = Stage::new();
    let (mapi, session) = stage.log_on();
    stage.lose("Setting");
    session.set_setting("report", "colour", "blue").expect("set");
    stage.was_asked("Setting", 2);
    stage.lose("Setting");
    assert_eq!(session.setting("report", "colour").expect("read").as_deref(), Some("blue"));
    stage.lose("Setting");
    session.remove_setting("report", "colour").expect("removed");
    assert_eq!(session.setting("report", "colour").expect("read"), None);

    let book = session.address_book().expect("opened");
    stage.lose("AddressBook");
    let anna = book.add("Anna", &["anna@localhost"]).expect("added");
    stage.was_asked("AddressBook", 3);
    stage.lose("AddressBook");
    assert_eq!(book.resolve("Anna").expect("she is there").entry, anna);
    stage.lose("AddressBook");
    book.remove("Anna").expect("removed");
    assert!(book.entries().expect("listed").is_empty());

    stage.lose("ValidateState");
    session.validate_state(Resource::StoreProvider, "sqlite").expect("it works");
    stage.lose("Status");
    mapi.status().expect("it answers");
    stage.lose("Broker");
    mapi.broker_status().expect("it answers");
    stage.lose("DeleteProfile");
    mapi.delete_profile("other").expect("it was deleted the first time");
    stage.was_asked("DeleteProfile", 2);
    assert!(!stage.home.path(".config/sundown/profiles/other.toml").exists());
}

/// Grants end with their broker, and so does what is asked about them; a token is taken once.
#[test]
fn grants_end_with_their_broker() {
    let stage = Stage::new();
    let (mapi, session) = stage.log_on();
    let folder = session.folder(FolderKind::INBOX).expect("opened");
    stage.lose("Grant");
    let token = folder.grant(None).expect("granted");
    stage.was_asked("Grant", 2);
    stage.lose("Revoke");
    session.revoke(token).expect("it is over");
    stage.was_asked("Revoke", 2);
    let token = folder.grant(None).expect("granted");
    stage.lose("Redeem");
    assert!(mapi.redeem(token).is_err(), "what it gave went with the broker");
    stage.was_asked("Redeem", 1);
}

/// A broker is stopped once: the next one is another.
#[test]
fn the_next_broker_is_not_stopped() {
    let stage = Stage::new();
    let mapi = stage.initialize();
    stage.lose("Stop");
    assert!(mapi.stop(Stopping::Orderly, DEADLINE).is_err(), "nobody knows");
    stage.was_asked("Stop", 1);
    stage.home.status();
}

/// The three of fast shutdown, and the ticket by which the next broker knows of them.
///
/// SEED-12, SEED-14
#[test]
fn a_shutdown_is_asked_for_again() {
    let stage = Stage::new();
    let mut copies = Copies::start(&stage.home, 1);
    let initialize = format!("initialize a {}", stage.socket().display());
    copies.ok(0, &initialize);
    copies.ok(0, "logon a");
    copies.ok(0, "uninitialize a");
    // It has one already, without which it would have no rights with the next broker.
    stage.lose("Ticket");
    copies.ok(0, &initialize);
    copies.ok(0, "logon a");
    for (request, command) in
        [("QueryFastShutdown", "query a"), ("NotifyProcessShutdown", "notify a")]
    {
        stage.lose(request);
        copies.ok(0, command);
        stage.was_asked(request, 2);
    }
    copies.ok(0, "defer a kept 1");
    stage.lose("DoFastShutdown");
    copies.ok(0, "do a");
    stage.was_asked("DoFastShutdown", 2);
    copies.fails(0, "logon a", "MAPI_E_NOT_INITIALIZED");
    assert_eq!(stage.folders(), only("outbox", "kept"));
}
