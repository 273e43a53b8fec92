//! Folders, contents tables, flags and searches with a broker of the test, which says how it was asked, and which may be of an
//! earlier version.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use sundown_client::{
    Arrival, Code, Column, ContentsRow, Direction, EntryId, Error, Event, Events, Filter, Flags,
    FolderKind, FolderRow, Logon, Mapi, Marks, MemberId, Message, News, Options, Place, Resource,
    Session, Sort, SubmitKey,
};
use sundown_protocol::folder::{Bookmark, Key};
use sundown_protocol::hello::{Answer, Welcome};
use sundown_protocol::reply::{FromBroker, LoggedOff, LoggedOn};
use sundown_protocol::request::{Asked, Blob, Content, Opening, Request, Ticket};
use sundown_protocol::{
    AdviseId, Fault, Notification, ObjectId, Reply, SessionId, Version, codec, frame,
};

/// How long something may take that happens at once.
const DEADLINE: Duration = Duration::from_secs(30);
const ENTRY: EntryId = EntryId { store: 1, record: 7 };
const FOLDER: FolderKind = FolderKind(17);

/// What the broker does with a request of the test.
enum Does {
    Answers(Reply),
    Refuses(Code),
    /// It breaks the connection, as one that ends before its answer is sent.
    Breaks,
    /// It never answers.
    Hangs,
}

/// Answers a request; `None` leaves it to the broker, which agrees to everything.
type Script = dyn FnMut(&Request) -> Option<Does> + Send;

struct Broker {
    socket: PathBuf,
    _folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    serves: Option<JoinHandle<()>>,
}

struct State {
    script: Box<Script>,
    asked: Vec<Request>,
    connections: Vec<UnixStream>,
    over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    fn new(
        version: Version,
        script: impl FnMut(&Request) -> Option<Does> + Send + 'static,
    ) -> Self {
        let folder = tempfile::TempDir::new().expect("a directory");
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("bound");
        let (asked, connections) = (Vec::new(), Vec::new());
        let state = State { script: Box::new(script), asked, connections, over: false };
        let state = Arc::new(Mutex::new(state));
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
                serving.push(thread::spawn(move || serve(&client, version, &known)));
            }
            for one in serving {
                one.join().expect("it served");
            }
        });
        Self { socket, _folder: folder, state, serves: Some(serves) }
    }

    fn session(&self) -> (Mapi, Session) {
        let options = Options::new("folders").socket(&self.socket).data_dir(&self.socket);
        let mapi = Mapi::initialize(options.no_autostart()).expect("a broker runs");
        let session = mapi.logon(Logon::shared()).expect("it logs on");
        (mapi, session)
    }

    /// The requests that it was asked since the last time, those about the connection and the session left out.
    fn asked(&self) -> Vec<Request> {
        let ours = |request: &Request| {
            !matches!(
                request,
                Request::Ticket { .. }
                    | Request::Logon(_)
                    | Request::Return { .. }
                    | Request::Logoff(_)
                    | Request::Broker
                    | Request::Release { .. }
            )
        };
        std::mem::take(&mut lock(&self.state).asked).into_iter().filter(ours).collect()
    }

    /// Sends an event to a member on each connection.
    fn tells(&self, event: &Event) {
        let (member, advises) = (MemberId(1), vec![AdviseId(1)]);
        let told = Notification { member, advises, event: event.clone() };
        let frame = codec::encode(&FromBroker::Notify(told)).expect("it encodes");
        for connection in &lock(&self.state).connections {
            say(connection, &frame);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.over = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        drop(state);
        let _ = UnixStream::connect(&self.socket);
        if let Some(serves) = self.serves.take() {
            let served = serves.join();
            assert!(served.is_ok() || thread::panicking(), "the broker has failed");
        }
    }
}

/// A client that hung up does not hear it.
fn say(mut client: &UnixStream, bytes: &[u8]) {
    let _ = client.write_all(bytes);
}

fn serve(mut client: &UnixStream, version: Version, state: &Mutex<State>) {
    let mut payload = Vec::new();
    if !frame::read(&mut client, &mut payload).unwrap_or(false) {
        return;
    }
    let welcome = Welcome { version: version as u16, pid: 1, requests: 256, bytes: 4 << 20 };
    say(client, &codec::encode(&Answer::Welcome(welcome)).expect("it encodes"));
    while frame::read(&mut client, &mut payload).unwrap_or(false) {
        let Asked { id, request } = codec::decode(&payload).expect("a request");
        let does = {
            let mut state = lock(state);
            state.asked.push(request.clone());
            (state.script)(&request)
        };
        let result = match does {
            None => Ok(agreed(&request)),
            Some(Does::Answers(reply)) => Ok(reply),
            Some(Does::Refuses(code)) => Err(Fault::new(code, "the test says no")),
            Some(Does::Breaks) => {
                let _ = client.shutdown(std::net::Shutdown::Both);
                return;
            }
            Some(Does::Hangs) => continue,
        };
        say(client, &codec::encode(&FromBroker::Answer { id, result }).expect("it encodes"));
    }
}

fn agreed(request: &Request) -> Reply {
    match request {
        Request::Logon(_) | Request::Return { .. } => Reply::LoggedOn(LoggedOn {
            member: MemberId(1),
            session: SessionId(1),
            profile: "default".into(),
            shared: true,
            stores: vec!["sqlite".into()],
            identity: "me@localhost".into(),
        }),
        Request::Logoff(_) => Reply::LoggedOff(LoggedOff::default()),
        Request::Ticket { .. } => Reply::Ticket(Ticket(Blob(vec![1]))),
        Request::Broker => Reply::Broker(Box::default()),
        Request::Open { .. } => Reply::Opened(ObjectId { place: 1, generation: 1 }),
        Request::Advise { .. } => Reply::Advised(AdviseId(1)),
        Request::MakeFolder { .. } => Reply::Made(FOLDER),
        Request::SetFlags { .. } => Reply::Flags(Flags::default()),
        Request::Copy { key, .. } | Request::Append { key, .. } => {
            Reply::Saved(EntryId { store: 1, record: key.0 })
        }
        _ => Reply::Done,
    }
}

fn row(number: u64) -> ContentsRow {
    ContentsRow {
        entry: EntryId { store: 1, record: u128::from(number) },
        folder: FOLDER,
        subject: format!("message {number}"),
        from: String::new(),
        to: String::new(),
        date: None,
        size: 1,
        received: number,
        flags: Flags::default(),
        recovered: false,
    }
}

/// The rows behind a bookmark or cursor of a table with `total` rows, whose numbers go down to 1; at most `limit`.
fn page(total: u64, after: Option<u64>, limit: u32) -> (Vec<ContentsRow>, Option<u64>) {
    let newest = after.map_or(total, |after| after - 1);
    let oldest = newest.saturating_sub(u64::from(limit)) + 1;
    let rows = (oldest..=newest).rev().map(row).collect();
    (rows, (oldest > 1).then_some(oldest))
}

fn contents(total: u64) -> impl FnMut(&Request) -> Option<Does> + Send {
    move |request| {
        let Request::Contents { after, limit, .. } = request else { return None };
        let (rows, next) = page(total, after.as_ref().map(|after| after.order), *limit);
        let next = next.map(|order| Bookmark { key: Key::Number(order), order });
        Some(Does::Answers(Reply::Contents { rows, next }))
    }
}

fn found(total: u64) -> impl FnMut(&Request) -> Option<Does> + Send {
    move |request| {
        let Request::Search { after, limit, .. } = request else { return None };
        let (rows, next) = page(total, Some(*after).filter(|after| *after > 0), *limit);
        Some(Does::Answers(Reply::Found { rows, next, unindexed: 5 }))
    }
}

fn numbers(rows: &[ContentsRow]) -> Vec<u64> {
    rows.iter().map(|row| row.received).collect()
}

/// The rows come in the broker's order, each once, and no page is asked for before its rows are wanted.
#[test]
fn a_contents_table_is_read_a_page_at_a_time() {
    let broker = Broker::new(Version::V4, contents(600));
    let (_mapi, session) = broker.session();
    let folder = session.folder(FOLDER).expect("it opens");
    assert_eq!(broker.asked().len(), 2, "the store and the folder");
    let sort = Sort { by: Column::Subject, direction: Direction::Ascending };
    let mut contents = folder.contents().sorted(sort).only(Filter::UNREAD);
    assert_eq!(broker.asked(), []);
    for expected in 345..=600 {
        let row = contents.next().expect("a row").expect("no error");
        assert_eq!(row.received, 945 - expected);
    }
    let [Request::Contents { sort: by, only, after: None, limit: 256, .. }] = &broker.asked()[..]
    else {
        panic!("one page has these rows")
    };
    assert_eq!((*by, *only), (sort, Filter::UNREAD));
    let rest: Vec<_> = contents.map(|row| row.expect("no error").received).collect();
    assert_eq!(rest, (1..=344).rev().collect::<Vec<_>>());
    let places: Vec<_> = broker
        .asked()
        .into_iter()
        .map(|request| match request {
            Request::Contents { after: Some(after), .. } => after.order,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places, [345, 89]);
}

/// Pages and the iterator are one place in one table, and a limit is that of all pages together.
#[test]
fn pages_and_rows_can_be_mixed() {
    let broker = Broker::new(Version::V4, contents(600));
    let (_mapi, session) = broker.session();
    let folder = session.folder(FOLDER).expect("it opens");
    let mut contents = folder.contents().limit(300);
    assert_eq!(contents.next().expect("a row").expect("no error").received, 600);
    let page = contents.next_page().expect("no error").expect("the rest of the page");
    assert_eq!(numbers(&page), (345..600).rev().collect::<Vec<_>>());
    let page = contents.next_page().expect("no error").expect("the second page");
    assert_eq!(numbers(&page), (301..=344).rev().collect::<Vec<_>>());
    assert_eq!(contents.next_page().expect("no error"), None);
    assert!(contents.next().is_none());
    let limits: Vec<_> = broker
        .asked()
        .iter()
        .filter_map(|request| match request {
            Request::Contents { limit, .. } => Some(*limit),
            _ => None,
        })
        .collect();
    assert_eq!(limits, [256, 44]);
    assert_eq!(folder.contents().limit(0).next_page().expect("no error"), None);
    assert_eq!(broker.asked(), [], "no row is wanted");
    // Another order begins at its first row.
    let mut again = folder.contents().limit(10);
    again.next_page().expect("no error");
    let mut again = again.sorted(Sort::default()).limit(2);
    assert_eq!(numbers(&again.next_page().expect("no error").expect("rows")), [600, 599]);
}

/// An empty folder has no page, and a folder that was removed is no empty one.
#[test]
fn an_empty_table_and_a_failing_one_are_told_apart() {
    let mut times = 0;
    let broker = Broker::new(Version::V4, move |request| {
        let Request::Contents { .. } = request else { return None };
        times += 1;
        Some(match times {
            1 | 4 => Does::Answers(Reply::Contents { rows: Vec::new(), next: None }),
            2 | 3 => Does::Refuses(Code::E_NOT_FOUND),
            _ => panic!("it is not asked again"),
        })
    });
    let (_mapi, session) = broker.session();
    let folder = session.folder(FOLDER).expect("it opens");
    assert_eq!(folder.contents().next_page().expect("no error"), None);
    let mut contents = folder.contents();
    let error = contents.next().expect("an error").expect_err("it was removed");
    assert_eq!(error.code(), Code::E_NOT_FOUND);
    assert!(contents.next().is_none(), "an error ends the iterator");
    assert_eq!(contents.next_page().expect_err("it was removed").code(), Code::E_NOT_FOUND);
    assert_eq!(contents.next_page().expect("it goes on"), None);
    assert!(contents.next_page().expect("the end stays").is_none());
}

#[test]
fn a_search_goes_from_the_newest_message_to_the_oldest() {
    let broker = Broker::new(Version::V4, found(300));
    let (_mapi, session) = broker.session();
    let store = session.default_store().expect("it opens");
    let mut search = store.search("two words");
    assert_eq!(search.unindexed(), 0);
    let first = search.next_page().expect("no error").expect("rows");
    assert_eq!(numbers(&first), (45..=300).rev().collect::<Vec<_>>());
    assert_eq!(search.unindexed(), 5);
    let rest: Vec<_> = search.map(|row| row.expect("no error").received).collect();
    assert_eq!(rest, (1..45).rev().collect::<Vec<_>>());
    let asked: Vec<_> = broker
        .asked()
        .into_iter()
        .filter_map(|request| match request {
            Request::Search { words, folder, after, .. } => Some((words, folder, after)),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [("two words".into(), None, 0), ("two words".into(), None, 45)]);
    let folder = session.folder(FOLDER).expect("it opens");
    broker.asked();
    assert_eq!(folder.search("x").limit(3).count(), 3);
    assert!(matches!(broker.asked()[..], [Request::Search { folder: Some(FOLDER), limit: 3, .. }]));
    // A query that is shown in a log must not show what is looked for.
    assert!(!format!("{:?}", store.search("secret")).contains("secret"));
}

/// A cursor that does not move towards the oldest message would be asked for forever.
#[test]
fn cursors_that_do_not_go_on_are_refused() {
    let broker = Broker::new(Version::V4, |request| {
        Some(Does::Answers(match request {
            Request::Contents { .. } => {
                let next = Some(Bookmark { key: Key::Number(9), order: 9 });
                Reply::Contents { rows: vec![row(9)], next }
            }
            Request::Search { .. } => {
                Reply::Found { rows: vec![row(9)], next: Some(9), unindexed: 0 }
            }
            Request::Folders { .. } => Reply::Folders { rows: vec![], next: Some(FOLDER) },
            _ => return None,
        }))
    });
    let (_mapi, session) = broker.session();
    let folder = session.folder(FOLDER).expect("it opens");
    let store = session.default_store().expect("it opens");
    let rows: Vec<_> = folder.contents().collect();
    assert!(matches!(&rows[..], [Ok(_), Err(error)] if error.code() == Code::E_CORRUPT_DATA));
    let rows: Vec<_> = store.search("x").collect();
    assert!(matches!(&rows[..], [Ok(_), Err(error)] if error.code() == Code::E_CORRUPT_DATA));
    assert_eq!(store.folders().expect_err("no end").code(), Code::E_CORRUPT_DATA);
}

/// A message that is appended goes as it is, a long one in pieces, and a repeat has the same key.
#[test]
fn an_appended_message_is_repeated_by_its_key() {
    let mut broken = false;
    let broker = Broker::new(Version::V4, move |request| {
        let first = matches!(request, Request::Append { .. }) && !broken;
        broken |= first;
        first.then_some(Does::Breaks)
    });
    let (_mapi, session) = broker.session();
    let folder = session.folder(FOLDER).expect("it opens");
    broker.asked();
    let bytes = vec![b'x'; 600 << 10];
    let flags = Flags { marks: Marks::READ, keywords: vec!["$work".into()] };
    let received = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
    let message = Message::new(bytes.clone()).recipient("not@counted");
    let entry = folder.append(&message, &flags, Some(received)).expect("it is appended");

    let (mut pieces, mut keys) = (Vec::new(), Vec::new());
    for request in broker.asked() {
        match request {
            Request::Upload { bytes, .. } => pieces.extend(bytes.0),
            Request::Append { key, store: 0, folder, content, flags: set, received, .. } => {
                assert!(matches!(content, Content::Uploaded(_)));
                assert_eq!((folder, &*set, received), (FOLDER, &flags, Some(1_500)));
                assert!(pieces == bytes, "the whole message was uploaded before");
                pieces.clear();
                keys.push(key);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(keys, [SubmitKey(entry.record); 2]);

    let key = SubmitKey(99);
    let entry = folder.append(&Message::new("text").key(key), &flags, None).expect("appended");
    assert_eq!(entry.record, 99);
    let [Request::Append { content: Content::Inline(text), received: None, .. }] =
        &broker.asked()[..]
    else {
        panic!("a short message is within its request")
    };
    assert_eq!(text.0, b"text");
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let error = folder.append(&message, &flags, Some(early)).expect_err("before 1970");
    assert_eq!(error.code(), Code::E_INVALID_PARAMETER);
    assert_eq!(broker.asked(), []);
}

/// What cannot be done twice is repeated, and the refusal of the repeat says that it is done.
#[test]
fn a_repeat_that_is_refused_was_done_before() {
    let mut asked = 0;
    let broker = Broker::new(Version::V4, move |request| match request {
        Request::MakeFolder { .. } | Request::RemoveFolder { .. } => {
            asked += 1;
            let removed = matches!(request, Request::RemoveFolder { .. });
            Some(match (asked % 2, removed) {
                (1, _) => Does::Breaks,
                (_, true) => Does::Refuses(Code::E_NOT_FOUND),
                (_, false) => Does::Refuses(Code::E_COLLISION),
            })
        }
        Request::Folders { after, .. } => {
            let row = |folder, parent, name: &str| FolderRow {
                folder: FolderKind(folder),
                parent,
                name: name.into(),
                role: None,
                total: 0,
                unread: 0,
            };
            // The name is there twice, in another place first.
            let rows = match after {
                None => vec![row(16, Some(FolderKind::INBOX), "Work")],
                Some(_) => vec![row(17, None, "Work")],
            };
            let next = after.is_none().then_some(FolderKind(16));
            Some(Does::Answers(Reply::Folders { rows, next }))
        }
        _ => None,
    });
    let (_mapi, session) = broker.session();
    let store = session.default_store().expect("it opens");
    assert_eq!(store.make_folder(None, "Work").expect("it was made"), FolderKind(17));
    let error = store.make_folder(None, "Play").expect_err("a folder that nobody shows");
    assert_eq!(error.code(), Code::E_COLLISION);
    store.remove_folder(FOLDER).expect("it was removed");
}

/// The same refusals of a first request are errors.
#[test]
fn a_first_request_that_is_refused_has_failed() {
    let broker = Broker::new(Version::V4, |request| match request {
        Request::MakeFolder { .. } => Some(Does::Refuses(Code::E_COLLISION)),
        Request::RemoveFolder { .. } => Some(Does::Refuses(Code::E_NOT_FOUND)),
        _ => None,
    });
    let (_mapi, session) = broker.session();
    let store = session.default_store().expect("it opens");
    let error = store.make_folder(None, "Work").expect_err("it is there");
    assert_eq!(error.code(), Code::E_COLLISION);
    assert_eq!(store.remove_folder(FOLDER).expect_err("no folder").code(), Code::E_NOT_FOUND);
    assert!(!broker.asked().iter().any(|request| matches!(request, Request::Folders { .. })));
}

/// A folder that was removed while the broker was away cannot be opened again, and says so.
#[test]
fn a_removed_folder_is_not_found_after_a_reconnect() {
    let mut opened = 0;
    let broker = Broker::new(Version::V4, move |request| match request {
        Request::Open { what: Opening::Folder(..), .. } => {
            opened += 1;
            (opened > 1).then_some(Does::Refuses(Code::E_NOT_FOUND))
        }
        Request::Contents { .. } => Some(Does::Breaks),
        _ => None,
    });
    let (_mapi, session) = broker.session();
    let folder = session.folder(FOLDER).expect("it opens");
    let error = folder.contents().next_page().expect_err("it is gone");
    assert_eq!(error.code(), Code::E_NOT_FOUND, "{error}");
    assert!(!error.is_outcome_unknown());
}

type Call = fn(&Session) -> Result<(), Error>;

/// An earlier broker is not asked what it does not know: it would end the connection.
#[test]
fn an_earlier_broker_is_not_asked_what_it_does_not_know() {
    let calls: [Call; 12] = [
        |s| s.default_store()?.folders().map(drop),
        |s| s.default_store()?.make_folder(None, "Work").map(drop),
        |s| s.default_store()?.rename_folder(FOLDER, "Work"),
        |s| s.default_store()?.remove_folder(FOLDER),
        |s| s.default_store()?.search("word").next_page().map(drop),
        |s| s.folder(FOLDER).map(drop),
        |s| s.folder(FolderKind::INBOX)?.contents().next_page().map(drop),
        |s| {
            let long = Message::new(vec![b'x'; 600 << 10]);
            s.folder(FolderKind::INBOX)?.append(&long, &Flags::default(), None).map(drop)
        },
        |s| s.set_flags(ENTRY, &Flags::default(), &Flags::default()).map(drop),
        |s| s.open_message(ENTRY)?.move_to(FOLDER),
        |s| s.copy_to(ENTRY, FolderKind::SENT).map(drop),
        |s| s.validate_state(Resource::Mailbox, "imap"),
    ];
    for version in [Version::V1, Version::V2, Version::V3] {
        let broker = Broker::new(version, |_| None);
        let (_mapi, session) = broker.session();
        for (place, call) in calls.iter().enumerate() {
            let error = call(&session).expect_err("it is too old");
            assert_eq!(error.code(), Code::E_VERSION, "call {place}: {error}");
            let (text, number) = (error.to_string(), version as u16);
            let why = format!("speaks version {number} of the protocol");
            assert!(text.contains(&why) && text.contains("update Sundown"), "{text}");
            let asked = broker.asked();
            let known = |request: &Request| {
                request.since() <= version && !matches!(request, Request::Upload { .. })
            };
            assert!(asked.iter().all(known), "call {place}: {asked:?}");
        }
        session.delete(ENTRY).expect("the connection is as it was");
    }
}

/// A program handles one event for new mail, whichever broker tells it.
#[test]
fn new_mail_of_an_earlier_broker_is_an_arrival() {
    for version in [Version::V3, Version::V4] {
        let broker = Broker::new(version, |_| None);
        let (_mapi, session) = broker.session();
        let (sender, told) = std::sync::mpsc::channel();
        let _sink = session
            .advise(Events::NEW_MAIL, move |notice| drop(sender.send(notice.news.clone())))
            .expect("advised");
        let place = Place { entry: ENTRY, folder: FolderKind::INBOX };
        let arrival = |from: &str, subject: &str| {
            Event::Arrived(Box::new(Arrival { place, from: from.into(), subject: subject.into() }))
        };
        let (sent, expected) = match version {
            Version::V4 => (arrival("anna", "Hi"), arrival("anna", "Hi")),
            _ => (Event::NewMail(place), arrival("", "")),
        };
        broker.tells(&sent);
        let news = told.recv_timeout(DEADLINE).expect("it is told");
        assert_eq!(news, News::Broker(expected), "{version:?}");
    }
}

/// A logon that looks for mail first returns when that has taken as long as it may, and succeeds; the session works.
#[test]
fn a_logon_does_not_wait_for_mail_without_an_end() {
    let broker = Broker::new(Version::NEWEST, |request| match request {
        Request::Sync { .. } => Some(Does::Hangs),
        _ => None,
    });
    let options = Options::new("folders").socket(&broker.socket).data_dir(&broker.socket);
    let mapi = Mapi::initialize(options.no_autostart()).expect("a broker runs");
    let limit = Duration::from_millis(50);
    let (done, waits) = std::sync::mpsc::channel();
    let begun = std::time::Instant::now();
    let logs_on = thread::spawn(move || {
        let session = mapi.logon(Logon::shared().force_download_for(limit));
        done.send((mapi, session)).expect("somebody waits");
    });
    let (_mapi, session) = waits.recv_timeout(DEADLINE).expect("the logon ends");
    let session = session.expect("it succeeds");
    assert!(begun.elapsed() >= limit, "it has waited");
    logs_on.join().expect("no panic");
    assert!(matches!(broker.asked()[..], [Request::Sync { .. }]), "it has looked");
    session.set_flags(ENTRY, &Flags::default(), &Flags::default()).expect("it works");
}
