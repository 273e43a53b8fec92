//! A broker in a thread of this process, with providers of a test's own, and its clients.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use sundown_daemon::{Locations, Options, Registry, Server};
use sundown_protocol::hello::{Answer, Hello, MAGIC};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::{
    Asked, Blob, Content, Durability, Logoff, LogoffFlags, Logon, LogonFlags, Opening, Request,
    SettingChange, Stopping, Submit,
};
use sundown_protocol::{
    Code, EntryId, Fault, FaultDetail, MemberId, Reply, RequestId, SubmitKey, Version, codec, frame,
};

use super::probe::{Call, DEADLINE, Log, Probes};

/// A store, a transport and an address book, named after their types.
pub(crate) const PROFILE: &str = r#"
[[store]]
kind = "probe"
name = "store"

[[transport]]
kind = "probe"
name = "transport"
accept = ["*"]

[[address_book]]
kind = "probe"
name = "book"
"#;

/// A broker with probing providers, in a thread of this process.
pub(crate) struct Broker {
    pub(crate) root: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
    pub(crate) log: Log,
    probes: Probes,
}

impl Broker {
    /// Where they do as planned.
    pub(crate) fn with(probes: &Probes, profile: &str) -> Self {
        Self::with_registry(probes, probes.registry(), profile, "")
    }

    /// With settings, too.
    pub(crate) fn with_settings(probes: &Probes, profile: &str, settings: &str) -> Self {
        Self::with_registry(probes, probes.registry(), profile, settings)
    }

    /// With providers that are no probes.
    pub(crate) fn with_registry(
        probes: &Probes,
        registry: Registry,
        profile: &str,
        settings: &str,
    ) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it is inside")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("profiles/default.toml", profile);
        write("sundown.toml", settings);
        let locations = Locations {
            socket: root.path().join("run/broker.sock"),
            data: root.path().join("data"),
            settings: vec![root.path().join("sundown.toml")],
            required: None,
            profiles: vec![root.path().join("profiles")],
            home: None,
            runtime: None,
        };
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let server = Server::start(Options { locations, registry, passed: Vec::new() })
                .expect("it starts");
            ready.send(()).expect("the test waits");
            server.run().expect("it runs");
        });
        is_ready.recv_timeout(DEADLINE).expect("it is ready");
        Self { root, thread: Some(thread), log: probes.log.clone(), probes: probes.clone() }
    }

    /// A process: one program image is one.
    pub(crate) fn process(&self, image: u8) -> Client {
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

    /// The shutdown calls of providers, as they began.
    pub(crate) fn calls(&self) -> Vec<String> {
        let of_sweep = |line: &String| Call::ALL.iter().any(|call| line.ends_with(call.name()));
        self.log.lines().into_iter().filter(of_sweep).collect()
    }

    /// The shutdown calls of providers, with their ends.
    pub(crate) fn spans(&self) -> Vec<String> {
        let is_span = |line: &String| {
            let line = line.strip_suffix(" ends").unwrap_or(line);
            Call::ALL.iter().any(|call| line.ends_with(call.name()))
        };
        self.log.lines().into_iter().filter(is_span).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.probes.open_gates();
        if std::thread::panicking() {
            return;
        }
        let mut client = self.process(0xEE);
        client.done(Request::Stop { how: Stopping::Fast });
        self.thread.take().expect("it runs").join().expect("it stopped");
    }
}

/// A connection, and a member through it.
pub(crate) struct Client {
    socket: UnixStream,
    asked: u64,
    answers: HashMap<RequestId, std::result::Result<Reply, Fault>>,
    pub(crate) member: MemberId,
}

impl Client {
    /// The next frame, undecoded.
    fn frame(&mut self) -> Vec<u8> {
        let mut payload = Vec::new();
        assert!(frame::read(&mut self.socket, &mut payload).expect("a frame"), "the end");
        payload
    }

    /// Sends a request.
    pub(crate) fn ask(&mut self, request: Request) -> RequestId {
        self.asked += 1;
        let id = RequestId(self.asked);
        let asked = codec::encode(&Asked { id, request }).expect("encoded");
        frame::write(&mut self.socket, &asked).expect("written");
        id
    }

    /// Waits for the answer to a request.
    pub(crate) fn answer(&mut self, id: RequestId) -> std::result::Result<Reply, Fault> {
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

    /// Sends a request and waits for its answer.
    pub(crate) fn call(&mut self, request: Request) -> std::result::Result<Reply, Fault> {
        let id = self.ask(request);
        self.answer(id)
    }

    /// Makes a call that answers nothing more than that it is done.
    pub(crate) fn done(&mut self, request: Request) {
        assert_eq!(self.call(request), Ok(Reply::Done));
    }

    /// Becomes a member of the default profile's session.
    pub(crate) fn logon(&mut self, flags: LogonFlags) {
        self.logon_to(None, flags);
    }

    /// Becomes a member of a session of this profile.
    pub(crate) fn logon_to(&mut self, profile: Option<&str>, flags: LogonFlags) {
        let profile = profile.map(str::to_owned);
        match self.call(Request::Logon(Logon { profile, flags })) {
            Ok(Reply::LoggedOn(on)) => self.member = on.member,
            other => panic!("{other:?} to a logon"),
        }
    }

    /// Submits a message, durably.
    pub(crate) fn submit(&mut self, text: &str) -> EntryId {
        self.submit_to("b@x", text)
    }

    /// Submits a message to this recipient, durably.
    pub(crate) fn submit_to(&mut self, to: &str, text: &str) -> EntryId {
        let submit = Submit {
            member: self.member,
            store: 0,
            key: SubmitKey(next_key()),
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

    /// Reads a setting of the default store.
    pub(crate) fn setting(&mut self, section: &str, name: &str) -> Option<String> {
        let (member, change) = (self.member, SettingChange::Keep);
        let request =
            Request::Setting { member, section: section.into(), name: name.into(), change };
        match self.call(request) {
            Ok(Reply::Setting(value)) => value,
            other => panic!("{other:?} to a setting"),
        }
    }

    /// Whether the address book can be listed.
    pub(crate) fn lists_people(&mut self) -> bool {
        let member = self.member;
        let open = Request::Open { member, what: Opening::AddressBook };
        let Ok(Reply::Opened(object)) = self.call(open) else { return false };
        self.call(Request::List { member, object, after: 0, limit: 10 }).is_ok()
    }

    /// `QueryFastShutdown`.
    pub(crate) fn query(&mut self) -> std::result::Result<Reply, Fault> {
        self.call(Request::QueryFastShutdown)
    }

    /// `DoFastShutdown`.
    pub(crate) fn do_fast(&mut self) -> std::result::Result<Reply, Fault> {
        self.call(Request::DoFastShutdown { remembered: false })
    }

    /// Leaves the traditional way.
    pub(crate) fn logoff(&mut self) {
        let (member, flags) = (self.member, LogoffFlags::default());
        let off = self.call(Request::Logoff(Logoff { member, flags, drain: None }));
        assert!(off.is_ok(), "{off:?}");
    }
}

/// A key for a submission that no other client of the test has.
fn next_key() -> u128 {
    static MADE: AtomicU64 = AtomicU64::new(1);
    u128::from(MADE.fetch_add(1, Ordering::Relaxed))
}

/// The providers that refuse a fast shutdown, by an answer that says so.
pub(crate) fn refused(answer: std::result::Result<Reply, Fault>) -> Vec<String> {
    match answer.expect_err("it is refused") {
        Fault { code: Code::E_NO_SUPPORT, detail: FaultDetail::Providers(names), .. } => names,
        other => panic!("{other:?}"),
    }
}
