//! A broker process, and clients that speak the protocol and do nothing else.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use sundown_protocol::hello::{Answer, Hello, MAGIC};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::{
    Asked, Blob, Content, Durability, Folder, Logon, LogonFlags, Opening, Report, Submit,
};
use sundown_protocol::{
    Fault, MemberId, ObjectId, Reply, Request, RequestId, SubmitKey, Token, Version, codec, frame,
};

use crate::load::Speech;

/// 128 bits that no other process of the run has.
pub(crate) fn chance() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(()));
    half() << 64 | half()
}

/// Where a broker listens, in its home.
const SOCKET: &str = "run/broker.sock";

/// The command, for the broker in that home.
pub(crate) fn program(home: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sundown"));
    command.arg(subcommand).arg("--socket").arg(home.join(SOCKET)).arg("--data-dir");
    command.arg(home.join("data")).arg("--config").arg(home.join("config.toml"));
    command
}

/// `sundown sendmail` for that broker: its own options come from the environment.
pub(crate) fn sendmail(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sundown"));
    command.arg("sendmail").envs(environment(home));
    command
}

/// What leads programs to the broker in that home.
pub(crate) fn environment(home: &Path) -> [(&'static str, std::ffi::OsString); 4] {
    [
        ("SUNDOWN_SOCKET", home.join(SOCKET).into()),
        ("SUNDOWN_NO_AUTOSTART", "1".into()),
        ("SUNDOWN_DATA_DIR", home.join("data").into()),
        ("SUNDOWN_CONFIG", home.join("config.toml").into()),
    ]
}

/// Limits that a crowd of one process does not reach.
pub(crate) const CROWD: &str = "[limits]
process_connections = 16000
user_connections = 16000
members = 1000000
sessions = 1000000
process_sessions = 1000000
user_sessions = 1000000
user_members = 1000000
objects = 1000000
grants = 1000000
user_grants = 1000000
";

/// A broker of its own, which ends with the run.
pub(crate) struct Broker {
    child: Child,
    socket: PathBuf,
}

impl Broker {
    /// One with these settings and profiles.
    pub(crate) fn with(home: &Path, settings: &str, profiles: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(home.join("profiles")).expect("made");
        std::fs::write(home.join("config.toml"), settings).expect("written");
        for (name, text) in profiles {
            let file = home.join("profiles").join(name).with_extension("toml");
            std::fs::write(file, text).expect("written");
        }
        Self::again(home)
    }

    /// One where there was one before.
    pub(crate) fn again(home: &Path) -> Self {
        // At the level it has by default, into a file as a broker's log goes.
        let log = File::options().append(true).create(true).open(home.join("broker.log"));
        let log = log.expect("opened");
        let mut child = program(home, "serve")
            .arg("--detached")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the broker starts");
        let mut said = String::new();
        let output = child.stdout.take().expect("it was asked for");
        BufReader::new(output).read_line(&mut said).expect("it says something");
        assert_eq!(said.trim_end(), "ready");
        stay_here(child.id());
        Self { child, socket: home.join(SOCKET) }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in order, and waits.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// A client that is a process of its own as far as the broker knows.
    pub(crate) fn connect(&self) -> Client {
        connect(self.socket())
    }

    /// The same, logged on with the hello, as `Mapi::initialize_and_logon` does it.
    pub(crate) fn connect_and_log_on(&self, flags: LogonFlags) -> (Client, MemberId) {
        let mut client = self.greet();
        client.put(Request::Logon(Logon { profile: None, flags }));
        client.write();
        client.welcome();
        let member = client.logged_on();
        (client, member)
    }

    /// A client whose hello is to be written.
    fn greet(&self) -> Client {
        greet(self.socket())
    }
}

/// Has a process run where this one does. A broker in the background takes no processor for its own that was meant for who started it.
fn stay_here(pid: u32) {
    let here = rustix::thread::sched_getaffinity(None).expect("it runs somewhere");
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    for thread in threads.flatten() {
        let id = thread.file_name().to_string_lossy().parse().expect("a number");
        let _ = rustix::thread::sched_setaffinity(rustix::process::Pid::from_raw(id), &here);
    }
}

/// A client of the broker at that socket, a process of its own as far as the broker knows.
pub(crate) fn connect(socket: &Path) -> Client {
    let mut client = greet(socket);
    client.write();
    client.welcome();
    client
}

fn greet(socket: &Path) -> Client {
    let stream = UnixStream::connect(socket).expect("the broker accepts");
    let hello = Hello {
        magic: MAGIC,
        oldest: Version::OLDEST as u16,
        newest: Version::NEWEST as u16,
        image: chance().to_le_bytes(),
        library: [0; 16],
        program: "bench".into(),
    };
    let frame = codec::encode(&hello).expect("it is small");
    Client { stream, asked: 0, inbox: Vec::new(), have: 0, used: 0, frame }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection, one thing at a time.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    asked: u64,
    /// What was read: up to `have`, and up to `used` it was looked at. It is not cleared for each read.
    inbox: Vec<u8>,
    have: usize,
    used: usize,
    frame: Vec<u8>,
}

/// Room for what most reads bring.
const INBOX: usize = 4 << 10;

impl Client {
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, Fault> {
        self.send(request);
        self.answer()
    }

    pub(crate) fn log_on(&mut self, flags: LogonFlags) -> MemberId {
        self.log_on_to(None, flags)
    }

    pub(crate) fn log_on_to(&mut self, profile: Option<&str>, flags: LogonFlags) -> MemberId {
        let profile = profile.map(str::to_owned);
        self.send(Request::Logon(Logon { profile, flags }));
        self.logged_on()
    }

    fn logged_on(&mut self) -> MemberId {
        match self.answer() {
            Ok(Reply::LoggedOn(facts)) => facts.member,
            other => panic!("no logon: {other:?}"),
        }
    }

    fn welcome(&mut self) {
        let answer = self.read();
        match codec::decode(&self.inbox[answer]).expect("an answer") {
            Answer::Welcome(_) => {}
            Answer::Refused(why) => panic!("refused: {}", why.message),
        }
    }

    /// Asks the same so often, with as many on their way as the broker's credit allows.
    /// Opens the Inbox of the default store.
    pub(crate) fn open_inbox(&mut self, member: MemberId) -> ObjectId {
        match self.ask(Request::Open { member, what: Opening::Folder(0, Folder::INBOX) }) {
            Ok(Reply::Opened(object)) => object,
            other => panic!("no folder: {other:?}"),
        }
    }

    /// Grants an object by each of these tokens.
    pub(crate) fn grant(&mut self, member: MemberId, tokens: std::ops::Range<usize>) {
        let object = self.open_inbox(member);
        for token in tokens {
            let token = Token(token as u128);
            self.ask(Request::Grant { member, object, token, pid: None }).expect("granted");
        }
    }

    pub(crate) fn ask_many(&mut self, times: usize, request: impl Fn() -> Request) {
        let mut left = times;
        while left > 0 {
            let some = left.min(200);
            (0..some).for_each(|_| self.send(request()));
            for _ in 0..some {
                self.answer().expect("answered");
            }
            left -= some;
        }
    }

    /// Sends, without waiting.
    pub(crate) fn send(&mut self, request: Request) {
        self.put(request);
        self.write();
    }

    /// Puts a request behind what is to be written.
    fn put(&mut self, request: Request) {
        self.asked += 1;
        let asked = Asked { id: RequestId(self.asked), request };
        codec::encode_into(&asked, &mut self.frame).expect("it fits");
    }

    fn write(&mut self) {
        frame::write(&mut &self.stream, &self.frame).expect("written");
        self.frame.clear();
    }

    /// Reads until something comes that is not an answer.
    pub(crate) fn hear(&mut self) {
        self.read();
    }

    /// Whether something comes within that time.
    pub(crate) fn hears_within(&mut self, time: std::time::Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let time = Timespec::try_from(time).expect("a time");
        let mut wanted = [PollFd::new(&self.stream, PollFlags::IN)];
        let comes = poll(&mut wanted, Some(&time)).expect("polled") > 0;
        if comes {
            self.hear();
        }
        comes
    }

    pub(crate) fn answer(&mut self) -> Result<Reply, Fault> {
        loop {
            let message = self.read();
            match codec::decode(&self.inbox[message]).expect("a message") {
                FromBroker::Answer { result, .. } => return result,
                FromBroker::Notify(_) => {}
                FromBroker::Goodbye(why) => panic!("the broker hung up: {why}"),
            }
        }
    }

    /// Where the next frame's payload is in the inbox: one read for as many frames as there are, as every client would.
    fn read(&mut self) -> Range<usize> {
        loop {
            let unread = &self.inbox[self.used..self.have];
            if let Some((payload, taken)) = frame::cut(unread).expect("a frame") {
                let begin = self.used + taken - payload.len();
                self.used += taken;
                return begin..self.used;
            }
            self.inbox.copy_within(self.used..self.have, 0);
            self.have -= self.used;
            self.used = 0;
            if self.have == self.inbox.len() {
                self.inbox.resize(2 * self.have.max(INBOX / 2), 0);
            }
            let read = self.stream.read(&mut self.inbox[self.have..]).expect("read");
            assert!(read > 0, "the broker hung up");
            self.have += read;
        }
    }
}

/// A small request that the broker answers itself: a flush of a member that has nothing to flush.
pub(crate) struct SmallRequest<'a> {
    broker: &'a Broker,
    /// That of each client.
    members: Vec<MemberId>,
}

impl<'a> SmallRequest<'a> {
    pub(crate) fn of(broker: &'a Broker) -> Self {
        Self { broker, members: Vec::new() }
    }
}

impl Speech for SmallRequest<'_> {
    fn connect(&mut self) -> UnixStream {
        let mut client = self.broker.connect();
        // Nothing is sent while it is timed, whatever is in the queue.
        self.members.push(client.log_on(LogonFlags::NO_MAIL));
        client.stream
    }

    fn request(&mut self, client: usize, number: u64, bytes: &mut Vec<u8>) {
        let request = Request::Flush { member: self.members[client] };
        // Beyond the logon's.
        let asked = Asked { id: RequestId(number + 1), request };
        codec::encode_into(&asked, bytes).expect("it fits");
    }

    fn answer(&self, bytes: &[u8]) -> Option<usize> {
        frame::cut(bytes).expect("a frame").map(|(_, taken)| taken)
    }
}

/// A message of about 4 kB.
pub(crate) fn body() -> Vec<u8> {
    let line = format!("{}\n", "x".repeat(79));
    format!("To: you@localhost\nSubject: x\n\n{}", line.repeat(50)).into_bytes()
}

/// How a client makes the keys of its submits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// As the client library does: 48 bits of milliseconds, and 80 by chance.
    OfTime,
    /// All bits by chance.
    ByChance,
}

impl Keys {
    pub(crate) fn make(self) -> SubmitKey {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
        SubmitKey(match self {
            Self::OfTime => now.as_millis() << 80 | chance() >> 48,
            Self::ByChance => chance(),
        })
    }
}

/// That message, to be answered when it is durable.
pub(crate) fn submit(member: MemberId, body: &[u8]) -> Request {
    submit_as(member, Keys::OfTime.make(), body)
}

/// The same, with this key.
pub(crate) fn submit_as(member: MemberId, key: SubmitKey, body: &[u8]) -> Request {
    submission(member, key, Content::Inline(Blob(body.to_vec())))
}

/// A message that is here or was streamed before, to be answered when it is durable.
pub(crate) fn submit_content(member: MemberId, content: Content) -> Request {
    submission(member, Keys::OfTime.make(), content)
}

fn submission(member: MemberId, key: SubmitKey, content: Content) -> Request {
    Request::Submit(Submit {
        member,
        store: 0,
        key,
        from: None,
        recipients: vec!["you@localhost".into()],
        content,
        when: Durability::Durable,
        report: Report::default(),
    })
}
