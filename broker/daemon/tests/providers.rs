//! Providers that somebody else wrote, in a broker of this process: what they are called, when, and what they may do then.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sundown_core::provider::{
    AddressCall, Outcome, ProviderAnswer, ProviderError, ProviderSpec, RecipientResult, StoreFacts,
    StoreRead, StoreWrite, Transmission, TransportFacts,
};
use sundown_daemon::{Locations, Options, Registry, Server};
use sundown_protocol::hello::{Answer, Hello, MAGIC};
use sundown_protocol::reply::{AddressRow, FromBroker, QueueRow, SubmissionState};
use sundown_protocol::request::{
    AddressAction, Asked, Blob, Content, Durability, Logoff, LogoffFlags, Logon, LogonFlags,
    Opening, QueueAction, ReadSource, Request, SettingChange, Stopping, Submit,
};
use sundown_protocol::{
    Code, EntryId, Fault, FaultDetail, MemberId, Reply, RequestId, SubmitKey, Version, codec, frame,
};
use sundown_providers::sqlite::SqliteStore;
use sundown_providers::{
    AddressBookProvider, LeavingProcess, Prepared, ProviderShutdown, Reply as Answering, Result,
    StoreProvider, StoreReader, Support, Sync, TransportProvider,
};

/// How long anything may take. A test that passes does not wait for it.
const DEADLINE: Duration = Duration::from_secs(60);

/// What providers were called, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().expect("no test failed").push(what.into());
}

fn noted(log: &Log) -> Vec<String> {
    log.lock().expect("no test failed").clone()
}

/// What a provider answers to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Yes,
    /// At first, and no later.
    OnceYes,
    /// It fails inside.
    Panics,
    /// Already when it is asked for the interface.
    PanicsEarly,
    /// It has no such interface.
    None,
    /// It has nothing to save, so nobody asks.
    Unasked,
    Late(Duration),
}

/// The shutdown interface of a provider here.
struct Witness {
    name: String,
    log: Log,
    answers: Answers,
    asked: u32,
    /// What it does when it is told to shut down.
    last_words: Box<dyn FnMut() -> Result<()> + Send>,
}

impl Witness {
    fn new(name: impl Into<String>, log: &Log, answers: Answers) -> Self {
        let (log, last_words) = (Arc::clone(log), Box::new(|| Ok(())));
        Self { name: name.into(), log, answers, asked: 0, last_words }
    }

    fn interface(&mut self) -> Option<&mut dyn ProviderShutdown> {
        assert!(self.answers != Answers::PanicsEarly, "it fails inside");
        (self.answers != Answers::None).then_some(self)
    }
}

impl ProviderShutdown for Witness {
    fn query_fast_shutdown(&mut self) -> Result<()> {
        note(&self.log, format!("{} query", self.name));
        self.asked += 1;
        match self.answers {
            Answers::Panics => panic!("it fails inside"),
            Answers::Late(time) => std::thread::sleep(time),
            Answers::OnceYes if self.asked > 1 => {
                return Err(ProviderError::new(Code::E_CALL_FAILED, "it changed its mind"));
            }
            _ => {}
        }
        Ok(())
    }

    fn notify_process_shutdown(&mut self, process: LeavingProcess) -> Result<()> {
        assert_eq!(process.pid, std::process::id());
        note(&self.log, format!("{} notify", self.name));
        Ok(())
    }

    fn do_fast_shutdown(&mut self, process: LeavingProcess) -> Result<()> {
        assert!(process.session > 0);
        note(&self.log, format!("{} do", self.name));
        (self.last_words)()
    }
}

/// The store that ships, watched.
struct WatchedStore {
    inner: SqliteStore,
    witness: Witness,
}

impl StoreProvider for WatchedStore {
    fn logon(&mut self) -> Result<StoreFacts> {
        self.inner.logon()
    }

    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Vec<Result<ProviderAnswer>> {
        for write in &batch {
            if let StoreWrite::Setting { name, .. } = write {
                note(&self.witness.log, format!("{} keeps {name}", self.witness.name));
            }
        }
        self.inner.commit(batch, sync)
    }

    fn reader(&self) -> Result<Box<dyn StoreReader>> {
        self.inner.reader()
    }

    fn logoff(&mut self) -> Result<()> {
        self.inner.logoff()
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.witness.interface()
    }
}

/// A transport that delivers nowhere, and looks for new mail until a process is going to leave.
struct WatchedTransport {
    witness: Witness,
    support: Arc<Mutex<Option<Arc<dyn Support>>>>,
    /// The last message it sent: its store and record.
    sent: Arc<Mutex<Option<(u32, u128)>>>,
}

impl WatchedTransport {
    /// Reads what it sent last, and saves how far it is.
    fn with_last_words(mut self) -> Self {
        let (support, sent) = (Arc::clone(&self.support), Arc::clone(&self.sent));
        let log = Arc::clone(&self.witness.log);
        self.witness.last_words = Box::new(move || {
            let support = support.lock().expect("no test failed").clone().expect("logged on");
            let (uid, record) = sent.lock().expect("no test failed").expect("it sent something");
            let mut text = String::new();
            let mut store = support.store(uid)?;
            store.open(record)?.read_to_string(&mut text).expect("it is text");
            note(&log, format!("read {}", text.lines().last().unwrap_or_default()));
            support.save(uid, "witness", "sent", &format!("{record:x}"))?;
            note(&log, "saved");
            let unknown = support.save(uid + 1, "witness", "sent", "").expect_err("no such store");
            assert_eq!(unknown.code, Code::E_NOT_FOUND);
            Ok(())
        });
        self
    }
}

impl TransportProvider for WatchedTransport {
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts> {
        *self.support.lock().expect("no test failed") = Some(support);
        Ok(TransportFacts::default())
    }

    fn prepare(&mut self, transmission: Transmission, reply: Answering<Prepared>) {
        *self.sent.lock().expect("no test failed") =
            Some((transmission.store, transmission.record));
        reply.send(Ok(Prepared { marker: "m".into(), refused: Vec::new() }));
    }

    fn complete(&mut self, _: u64, reply: Answering<Vec<RecipientResult>>) {
        note(&self.witness.log, "sent");
        let result =
            RecipientResult { recipient: 0, outcome: Outcome::Sent, reply: "taken".into() };
        reply.send(Ok(vec![result]));
    }

    fn cancel(&mut self, _: u64) {}

    fn recover(&mut self, _: Transmission, _: String, reply: Answering<Vec<RecipientResult>>) {
        reply.send(Ok(Vec::new()));
    }

    fn logoff(&mut self) -> Result<()> {
        note(&self.witness.log, format!("{} logoff", self.witness.name));
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.witness.interface()
    }

    fn has_nothing_to_save(&self) -> bool {
        self.witness.answers == Answers::Unasked
    }
}

/// An address book without people.
struct WatchedBook(Witness);

impl AddressBookProvider for WatchedBook {
    fn logon(&mut self) -> Result<()> {
        Ok(())
    }

    fn call(&mut self, _: &AddressCall) -> Result<ProviderAnswer> {
        Ok(ProviderAnswer::Addresses { rows: Vec::new(), next: None })
    }

    fn logoff(&mut self) -> Result<()> {
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.0.interface()
    }
}

/// A broker with these providers, in a thread of this process.
struct Broker {
    root: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
    log: Log,
}

impl Broker {
    /// Where the transport answers so.
    fn with(transport: Answers, profile: &str) -> Self {
        let log = Log::default();
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it is inside")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("profiles/default.toml", profile);
        let locations = Locations {
            socket: root.path().join("run/broker.sock"),
            data: root.path().join("data"),
            settings: Vec::new(),
            profiles: vec![root.path().join("profiles")],
            home: None,
            runtime: None,
        };
        let registry = registry(&log, transport);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let server = Server::start(Options { locations, registry, passed: Vec::new() })
                .expect("it starts");
            ready.send(()).expect("somebody waits");
            server.run().expect("it runs");
        });
        is_ready.recv_timeout(DEADLINE).expect("it is ready");
        Self { root, thread: Some(thread), log }
    }

    /// A process: one program image is one.
    fn process(&self, image: u8) -> Client {
        let socket = UnixStream::connect(self.root.path().join("run/broker.sock"));
        let mut client = Client {
            socket: socket.expect("it listens"),
            asked: 0,
            answers: HashMap::new(),
            member: MemberId(0),
        };
        client.socket.set_read_timeout(Some(DEADLINE)).expect("set");
        let hello = Hello {
            magic: MAGIC,
            oldest: Version::OLDEST as u16,
            newest: Version::NEWEST as u16,
            image: [image; 16],
            library: [image; 16],
            program: "test".into(),
        };
        let hello = codec::encode(&hello).expect("encoded");
        frame::write(&mut client.socket, &hello).expect("written");
        match codec::decode(&client.frame()).expect("decoded") {
            Answer::Welcome(_) => client,
            Answer::Refused(why) => panic!("{why:?}"),
        }
    }

    /// Waits until something was noted.
    fn until(&self, what: &str) {
        let since = Instant::now();
        while !noted(&self.log).iter().any(|line| line == what) {
            assert!(since.elapsed() < DEADLINE, "{what} was not noted: {:?}", noted(&self.log));
            std::thread::yield_now();
        }
    }

    /// What was noted, without what is beside the point.
    fn calls(&self) -> Vec<String> {
        let sweeps = ["query", "notify", "do"];
        let of_sweep = |line: &String| sweeps.iter().any(|s| line.ends_with(s));
        noted(&self.log).into_iter().filter(of_sweep).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut client = self.process(0xEE);
        client.done(Request::Stop { how: Stopping::Fast });
        self.thread.take().expect("it runs").join().expect("it stopped");
    }
}

/// So many of everything, and so many bytes of each, is a flood.
const FLOOD: usize = 100_000;

fn flood_of_words() -> String {
    "flood ".repeat(FLOOD)
}

/// A store whose reader answers more than it was asked for.
struct LoudStore(SqliteStore);

struct LoudReader(Box<dyn StoreReader>);

impl StoreProvider for LoudStore {
    fn logon(&mut self) -> Result<StoreFacts> {
        self.0.logon()
    }

    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Vec<Result<ProviderAnswer>> {
        self.0.commit(batch, sync)
    }

    fn reader(&self) -> Result<Box<dyn StoreReader>> {
        Ok(Box::new(LoudReader(self.0.reader()?)))
    }

    fn logoff(&mut self) -> Result<()> {
        self.0.logoff()
    }
}

impl StoreReader for LoudReader {
    fn read(&mut self, question: &StoreRead) -> Result<ProviderAnswer> {
        match question {
            StoreRead::Piece { .. } => {
                let bytes = flood_of_words().into_bytes();
                let size = bytes.len() as u64 * 10;
                Ok(ProviderAnswer::Piece { size, bytes: bytes.repeat(10), unread_notice: false })
            }
            StoreRead::Setting { .. } => {
                Ok(ProviderAnswer::Setting(Some(flood_of_words().repeat(10))))
            }
            other => self.0.read(other),
        }
    }

    fn another(&self) -> Result<Box<dyn StoreReader>> {
        Ok(Box::new(LoudReader(self.0.another()?)))
    }

    fn open(&mut self, record: u128) -> Result<Box<dyn Read + Send + '_>> {
        self.0.open(record)
    }
}

/// A transport that answers with floods: of which kind says the recipient.
#[derive(Default)]
struct LoudTransport {
    wants_logon: bool,
    last: Option<String>,
}

impl TransportProvider for LoudTransport {
    fn logon(&mut self, _: Arc<dyn Support>) -> Result<TransportFacts> {
        if self.wants_logon {
            return Err(ProviderError::new(Code::E_LOGON_FAILED, flood_of_words().repeat(10)));
        }
        Ok(TransportFacts { window: usize::MAX, recipients: usize::MAX })
    }

    fn prepare(&mut self, transmission: Transmission, reply: Answering<Prepared>) {
        let to = transmission.recipients[0].1.clone();
        let refused = |recipient| RecipientResult {
            recipient,
            outcome: Outcome::Failed,
            reply: "no such user".into(),
        };
        reply.send(match to.as_str() {
            "error@loud" => {
                Err(ProviderError::new(Code::E_CALL_FAILED, flood_of_words().repeat(10)))
            }
            "marker@loud" => Ok(Prepared { marker: flood_of_words(), refused: Vec::new() }),
            "refused@loud" => {
                Ok(Prepared { marker: "m".into(), refused: (0..FLOOD).map(refused).collect() })
            }
            _ => Ok(Prepared { marker: "m".into(), refused: Vec::new() }),
        });
        self.last = Some(to);
    }

    fn complete(&mut self, _: u64, reply: Answering<Vec<RecipientResult>>) {
        let words = if self.last.as_deref() == Some("words@loud") {
            flood_of_words().repeat(10)
        } else {
            String::new()
        };
        let result = |recipient| RecipientResult {
            // The only one there is many times, and many that there are not.
            recipient: recipient % 7,
            outcome: Outcome::Failed,
            reply: if recipient == 0 { words.clone() } else { "no such user".into() },
        };
        reply.send(Ok((0..FLOOD).map(result).collect()));
    }

    fn cancel(&mut self, _: u64) {}

    fn recover(&mut self, _: Transmission, _: String, reply: Answering<Vec<RecipientResult>>) {
        reply.send(Ok(Vec::new()));
    }

    fn logoff(&mut self) -> Result<()> {
        Ok(())
    }
}

/// An address book that knows too many, and whose people have too many addresses.
struct LoudBook;

impl AddressBookProvider for LoudBook {
    fn logon(&mut self) -> Result<()> {
        Ok(())
    }

    fn call(&mut self, call: &AddressCall) -> Result<ProviderAnswer> {
        let entry = EntryId { store: 0, record: 1 };
        let addresses = vec!["somebody@loud".to_owned(); FLOOD];
        let row = AddressRow { entry, name: "somebody".into(), addresses };
        Ok(match call {
            AddressCall::Act(_) => ProviderAnswer::Address(row),
            AddressCall::List { .. } => {
                let row = AddressRow { addresses: Vec::new(), ..row };
                ProviderAnswer::Addresses { rows: vec![row; FLOOD], next: Some(1) }
            }
        })
    }

    fn logoff(&mut self) -> Result<()> {
        Ok(())
    }
}

fn registry(log: &Log, transport: Answers) -> Registry {
    let mut registry = Registry::default();
    registry.stores.insert(
        "loud".into(),
        Arc::new(|spec: &ProviderSpec| {
            Ok(Box::new(LoudStore(SqliteStore::new(spec))) as Box<dyn StoreProvider>)
        }),
    );
    registry.transports.insert(
        "loud".into(),
        Arc::new(|spec: &ProviderSpec| {
            let made =
                LoudTransport { wants_logon: spec.name == "fails", ..LoudTransport::default() };
            Ok(Box::new(made) as Box<dyn TransportProvider>)
        }),
    );
    registry.address_books.insert(
        "loud".into(),
        Arc::new(|_: &ProviderSpec| Ok(Box::new(LoudBook) as Box<dyn AddressBookProvider>)),
    );
    let noted = Arc::clone(log);
    registry.stores.insert(
        "watched".into(),
        Arc::new(move |spec: &ProviderSpec| {
            let witness = Witness::new(&spec.name, &noted, Answers::Yes);
            Ok(Box::new(WatchedStore { inner: SqliteStore::new(spec), witness })
                as Box<dyn StoreProvider>)
        }),
    );
    let noted = Arc::clone(log);
    registry.transports.insert(
        "watched".into(),
        Arc::new(move |spec: &ProviderSpec| {
            let witness = Witness::new(&spec.name, &noted, transport);
            let (support, sent) = (Arc::default(), Arc::default());
            let made = WatchedTransport { witness, support, sent }.with_last_words();
            Ok(Box::new(made) as Box<dyn TransportProvider>)
        }),
    );
    let noted = Arc::clone(log);
    registry.address_books.insert(
        "watched".into(),
        Arc::new(move |spec: &ProviderSpec| {
            let witness = Witness::new(&spec.name, &noted, Answers::Yes);
            Ok(Box::new(WatchedBook(witness)) as Box<dyn AddressBookProvider>)
        }),
    );
    registry
}

const PROFILE: &str = r#"
[[store]]
kind = "watched"
name = "store"

[[transport]]
kind = "watched"
name = "transport"
accept = ["*"]

[[address_book]]
kind = "watched"
name = "book"
"#;

/// A connection, and a member through it.
struct Client {
    socket: UnixStream,
    asked: u64,
    answers: HashMap<RequestId, std::result::Result<Reply, Fault>>,
    member: MemberId,
}

impl Client {
    fn frame(&mut self) -> Vec<u8> {
        let mut payload = Vec::new();
        assert!(frame::read(&mut self.socket, &mut payload).expect("a frame"), "the end");
        payload
    }

    fn ask(&mut self, request: Request) -> RequestId {
        self.asked += 1;
        let id = RequestId(self.asked);
        let asked = codec::encode(&Asked { id, request }).expect("encoded");
        frame::write(&mut self.socket, &asked).expect("written");
        id
    }

    fn answer(&mut self, id: RequestId) -> std::result::Result<Reply, Fault> {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            let payload = self.frame();
            match codec::decode(&payload).expect("decoded") {
                FromBroker::Answer { id, result } => drop(self.answers.insert(id, result)),
                FromBroker::Notify(_) => {}
                FromBroker::Goodbye(why) => panic!("{why}"),
            }
        }
    }

    fn call(&mut self, request: Request) -> std::result::Result<Reply, Fault> {
        let id = self.ask(request);
        self.answer(id)
    }

    fn done(&mut self, request: Request) {
        assert_eq!(self.call(request), Ok(Reply::Done));
    }

    fn logon(&mut self, flags: LogonFlags) {
        self.logon_to(None, flags);
    }

    fn logon_to(&mut self, profile: Option<&str>, flags: LogonFlags) {
        let profile = profile.map(str::to_owned);
        match self.call(Request::Logon(Logon { profile, flags })) {
            Ok(Reply::LoggedOn(on)) => self.member = on.member,
            other => panic!("{other:?} to a logon"),
        }
    }

    fn submit(&mut self, text: &str) -> EntryId {
        self.submit_to("b@x", text)
    }

    fn submit_to(&mut self, to: &str, text: &str) -> EntryId {
        let submit = Submit {
            member: self.member,
            store: 0,
            key: SubmitKey(u128::from(self.asked) + 0xABC),
            from: None,
            recipients: vec![to.into()],
            content: Content::Inline(Blob(text.as_bytes().to_vec())),
            when: Durability::Durable,
            report: sundown_protocol::request::Report::default(),
        };
        match self.call(Request::Submit(submit)) {
            Ok(Reply::Submitted { entry, .. }) => entry,
            other => panic!("{other:?} to a submit"),
        }
    }

    fn setting(&mut self, section: &str, name: &str) -> Option<String> {
        let (member, change) = (self.member, SettingChange::Keep);
        let request =
            Request::Setting { member, section: section.into(), name: name.into(), change };
        match self.call(request) {
            Ok(Reply::Setting(value)) => value,
            other => panic!("{other:?} to a setting"),
        }
    }

    fn query(&mut self) -> std::result::Result<Reply, Fault> {
        self.call(Request::QueryFastShutdown)
    }

    fn do_fast(&mut self) -> std::result::Result<Reply, Fault> {
        self.call(Request::DoFastShutdown { remembered: false })
    }

    fn logoff(&mut self) {
        let (member, flags) = (self.member, LogoffFlags::default());
        let off = self.call(Request::Logoff(Logoff { member, flags, drain: None }));
        assert!(off.is_ok(), "{off:?}");
    }
}

fn refused(answer: std::result::Result<Reply, Fault>) -> Vec<String> {
    match answer.expect_err("it is refused") {
        Fault { code: Code::E_NO_SUPPORT, detail: FaultDetail::Providers(names), .. } => names,
        other => panic!("{other:?}"),
    }
}

/// SEED-16, SEED-20, PFS-1, PFS-5: a transport that is shutting down can rely on its store: it reads a message and saves
/// something, and the store is told after that. What it saved is there.
#[test]
fn a_transport_that_shuts_down_can_use_its_store() {
    let broker = Broker::with(Answers::Yes, PROFILE);
    let mut leaves = broker.process(1);
    leaves.logon(LogonFlags::default());
    let entry = leaves.submit("Subject: last words\n\nBye.\n");
    broker.until("sent");
    assert_eq!(leaves.query(), Ok(Reply::Done));
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    let log = noted(&broker.log);
    let wanted = [
        "sent",
        "transport query",
        "book query",
        "store query",
        "transport do",
        "read Bye.",
        "store keeps sent",
        "saved",
        "book do",
        "store do",
    ];
    assert_eq!(log[..wanted.len()], wanted);
    let mut other = broker.process(2);
    other.logon(LogonFlags::default());
    assert_eq!(other.setting("witness", "sent"), Some(format!("{:x}", entry.record)));
}

/// SEED-18, SEED-16: one kind of provider that serves two stores is called for each, after all the others.
#[test]
fn a_provider_is_called_for_every_store() {
    let two = PROFILE.replace(
        "[[transport]]",
        "[[store]]\nkind = \"watched\"\nname = \"archive\"\npath = \"archive.db\"\n\n[[transport]]",
    );
    let broker = Broker::with(Answers::Yes, &two);
    let mut leaves = broker.process(1);
    leaves.logon(LogonFlags::default());
    leaves.submit("Subject: x\n\nx\n");
    broker.until("sent");
    assert_eq!(leaves.query(), Ok(Reply::Done));
    leaves.done(Request::NotifyProcessShutdown);
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    let calls = broker.calls();
    for (sweep, calls) in ["query", "notify", "do"].iter().zip(calls.chunks(4)) {
        let (first, stores) = calls.split_at(2);
        assert_eq!(first, [format!("transport {sweep}"), format!("book {sweep}")]);
        let mut stores = stores.to_vec();
        stores.sort_unstable();
        assert_eq!(stores, [format!("archive {sweep}"), format!("store {sweep}")]);
    }
    assert_eq!(calls.len(), 12);
}

/// SEED-19, SEED-13, PFS-4: after a notice an ordinary life and an ordinary end may follow, for the process that gave it and
/// for the others of its session.
#[test]
fn after_a_notice_life_goes_on() {
    let broker = Broker::with(Answers::Yes, PROFILE);
    let (mut notifies, mut other) = (broker.process(1), broker.process(2));
    for client in [&mut notifies, &mut other] {
        client.logon(LogonFlags::default());
    }
    notifies.done(Request::NotifyProcessShutdown);
    assert_eq!(broker.calls(), ["transport notify", "book notify", "store notify"]);
    for client in [&mut notifies, &mut other] {
        client.submit("Subject: x\n\nx\n");
        client.logoff();
    }
    broker.until("transport logoff");
    assert_eq!(noted(&broker.log).iter().filter(|l| *l == "sent").count(), 2);
}

/// SEED-17: the first answer holds although the provider changes its mind: for the session's other processes, too.
#[test]
fn a_provider_cannot_change_its_mind() {
    let broker = Broker::with(Answers::OnceYes, PROFILE);
    for image in 1..4 {
        let mut client = broker.process(image);
        client.logon(LogonFlags::default());
        assert_eq!(client.query(), Ok(Reply::Done));
        assert_eq!(client.query(), Ok(Reply::Done));
        // The session stays, and with it its provider.
        std::mem::forget(client);
    }
}

/// SEED-10, CFG-5, A-29: a provider that fails inside refuses, and one that has no interface does; one that is late
/// refuses for the process that asked. None of them is lost by that.
#[test]
fn providers_that_misbehave_refuse() {
    let late = Duration::from_millis(1_500);
    let all = [Answers::Panics, Answers::PanicsEarly, Answers::None, Answers::Late(late)];
    for answers in all {
        let broker = Broker::with(answers, PROFILE);
        let mut client = broker.process(1);
        client.logon(LogonFlags::default());
        assert_eq!(refused(client.query()), ["transport"], "{answers:?}");
        client.submit("Subject: x\n\nx\n");
        broker.until("sent");
        assert_eq!(client.do_fast().expect_err("refused").code, Code::E_NO_SUPPORT);
        client.logoff();
        broker.until("transport logoff");
    }
}

/// Design §9: who leaves does not wait for the threads of providers that have nothing to save. They count as supporting it.
#[test]
fn a_provider_with_nothing_to_save_is_not_called() {
    let broker = Broker::with(Answers::Unasked, PROFILE);
    let mut leaves = broker.process(1);
    leaves.logon(LogonFlags::default());
    assert_eq!(leaves.query(), Ok(Reply::Done));
    leaves.done(Request::NotifyProcessShutdown);
    assert_eq!(leaves.do_fast(), Ok(Reply::Done));
    let sweeps = ["query", "notify", "do"];
    let others = sweeps.map(|sweep| [format!("book {sweep}"), format!("store {sweep}")]);
    assert_eq!(broker.calls(), others.concat());
}

/// PFS-3, CFG-5, design §6: an administrator's word counts more than the provider's.
#[test]
fn an_administrator_may_veto() {
    let both = [Answers::Yes, Answers::Unasked];
    for (word, answers) in ["refused", "absent"].iter().flat_map(|word| both.map(|a| (word, a))) {
        let vetoed = PROFILE.replace("accept", &format!("fast_shutdown = \"{word}\"\naccept"));
        let broker = Broker::with(answers, &vetoed);
        let mut client = broker.process(1);
        client.logon(LogonFlags::default());
        assert_eq!(refused(client.query()), ["transport"], "{word}");
        assert_eq!(broker.calls().len(), 2, "the transport itself is not asked");
    }
}

const LOUD: &str = r#"
[[store]]
kind = "loud"

[[transport]]
kind = "loud"
name = "fails"
accept = ["nobody@nowhere"]

[[transport]]
kind = "loud"
accept = ["*"]

[[address_book]]
kind = "loud"
"#;

/// Design §3.18, §10: providers whose answers are floods, of words, rows, results or bytes, cost whoever uses them: who asks for
/// too much is told so, and what is kept of an answer is short. Somebody else works meanwhile, and can ask for the status.
#[test]
fn floods_cost_only_their_session() {
    let broker = Broker::with(Answers::Yes, PROFILE);
    std::fs::write(broker.root.path().join("profiles/loud.toml"), LOUD).expect("written");
    let (mut calm, mut loud) = (broker.process(1), broker.process(2));
    calm.logon(LogonFlags::default());
    loud.logon_to(Some("loud"), LogonFlags::default());
    let mut sent = 0;
    let mut works = |calm: &mut Client| {
        calm.submit("Subject: x\n\nx\n");
        sent += 1;
        let since = Instant::now();
        while noted(&broker.log).iter().filter(|line| *line == "sent").count() < sent {
            assert!(since.elapsed() < DEADLINE, "the calm one's message is not sent");
            std::thread::yield_now();
        }
        assert!(matches!(calm.call(Request::Status), Ok(Reply::Status(_))), "everybody's status");
    };
    works(&mut calm);
    let member = loud.member;
    let too_big = |answer: std::result::Result<Reply, Fault>| {
        assert_eq!(answer.expect_err("too much").code, Code::E_TOO_BIG);
    };
    for to in ["error@loud", "marker@loud", "refused@loud", "words@loud", "results@loud"] {
        let entry = loud.submit_to(to, "Subject: x\n\nx\n");
        let tried = |row: &QueueRow| row.attempts > 0 && row.last_error.is_some();
        let since = Instant::now();
        let row = loop {
            let action = QueueAction::Show(entry);
            match loud.call(Request::Queue { profile: Some("loud".into()), action }) {
                Ok(Reply::Queue { rows, .. }) if tried(&rows[0]) => break rows[0].clone(),
                Ok(Reply::Queue { .. }) => assert!(since.elapsed() < DEADLINE, "{to} is not tried"),
                other => panic!("{other:?}"),
            }
            works(&mut calm);
        };
        let refused = ["refused@loud", "words@loud", "results@loud"].contains(&to);
        let state = if refused { SubmissionState::Bounced } else { SubmissionState::Deferred };
        assert_eq!(row.state, state, "{to}");
        assert!(row.last_error.is_some_and(|e| e.len() <= 500), "{to}");
        works(&mut calm);
    }
    let entry = loud.submit_to("error@loud", "Subject: x\n\nx\n");
    too_big(loud.call(Request::Read { member, source: ReadSource::Entry(entry), offset: 0 }));
    works(&mut calm);
    let (section, name) = ("s".into(), "n".into());
    too_big(loud.call(Request::Setting { member, section, name, change: SettingChange::Keep }));
    works(&mut calm);
    let Ok(Reply::Opened(book)) = loud.call(Request::Open { member, what: Opening::AddressBook })
    else {
        panic!("an address book")
    };
    too_big(loud.call(Request::List { member, object: book, after: 0, limit: 10 }));
    let action = AddressAction::Resolve { name: "somebody".into() };
    too_big(loud.call(Request::AddressBook { member, object: book, action }));
    works(&mut calm);
    loud.logoff();
    works(&mut calm);
}
