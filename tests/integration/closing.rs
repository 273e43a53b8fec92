//! Connections that are closed, half or whole, by programs that have just asked for something.

use std::io::{BufRead, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::io::FdFlags;
use rustix::process::Signal;
use serde_json::json;
use sundown_protocol::hello::{Hello, MAGIC};
use sundown_protocol::reply::{FromBroker, SubmissionState};
use sundown_protocol::request::{
    Asked, Blob, Content, Durability, Logoff, LogoffFlags, Logon, LogonFlags, Report, Request,
    Submit,
};
use sundown_protocol::{MemberId, Reply, RequestId, SubmitKey, Version, codec, frame};

use crate::harness::{DEADLINE, Home, Lines, wait_for_end};

/// A member that says what a test wants.
struct Program {
    stream: UnixStream,
    member: MemberId,
    asked: u64,
}

impl Program {
    fn log_on(socket: impl AsRef<std::path::Path>) -> Self {
        let stream = UnixStream::connect(socket).expect("the broker accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("set");
        let mut program = Self { stream, member: MemberId(0), asked: 0 };
        let (oldest, newest) = (Version::OLDEST as u16, Version::NEWEST as u16);
        let (image, library) = ([9; 16], [9; 16]);
        let hello = Hello { magic: MAGIC, oldest, newest, image, library, program: "brief".into() };
        let logon = Logon { profile: None, flags: LogonFlags::default() };
        let logon = program.asks(Request::Logon(logon));
        program.say(&[codec::encode(&hello).expect("it encodes"), logon].concat());
        program.payload().expect("a welcome");
        let answer = program.answers().next();
        let Some((_, Reply::LoggedOn(on))) = answer else { panic!("{answer:?}") };
        Self { member: on.member, ..program }
    }

    fn asks(&mut self, request: Request) -> Vec<u8> {
        self.asked += 1;
        codec::encode(&Asked { id: RequestId(self.asked), request }).expect("it encodes")
    }

    /// So many requests that cost nothing, and a submission.
    fn asks_and_submits(&mut self, free: usize, key: u128) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..free).flat_map(|_| self.asks(Request::Status)).collect();
        bytes.extend(self.asks(Request::Submit(Submit {
            member: self.member,
            store: 0,
            key: SubmitKey(key),
            from: None,
            recipients: vec!["anna@localhost".into()],
            content: Content::Inline(Blob(format!("Subject: {key}\n\nx\n").into_bytes())),
            when: Durability::Durable,
            report: Report::default(),
        })));
        bytes
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the socket takes it");
    }

    fn payload(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        frame::read(&mut self.stream, &mut payload).expect("whole frames").then_some(payload)
    }

    /// What it is answered until the connection ends.
    fn answers(&mut self) -> impl Iterator<Item = (u64, Reply)> + '_ {
        std::iter::from_fn(|| {
            let message = codec::decode(&self.payload()?).expect("a message");
            let FromBroker::Answer { id, result } = message else { panic!("{message:?}") };
            Some((id.0, result.expect("nothing is refused")))
        })
    }
}

const COUNTS: [usize; 9] = [0, 1, 62, 63, 64, 65, 128, 200, 1_000];

/// What a program sent before it closed its connection is delivered, however many requests stand in front of it and however soon it
/// has closed.
///
/// design §3.9
#[test]
fn what_was_sent_before_a_close_is_delivered() {
    let home = Home::new();
    let broker = home.serve();
    for (key, free) in (1..).zip(COUNTS) {
        let mut program = Program::log_on(home.socket());
        // The broker meets the requests and the end of them at once.
        broker.signal(Signal::STOP);
        let bytes = program.asks_and_submits(free, key);
        program.say(&bytes);
        drop(program);
        broker.signal(Signal::CONT);
    }
    let maildir = home.maildir("default");
    broker.until("all messages", || maildir.count() == COUNTS.len());
    assert_eq!(maildir.tally("Subject").len(), COUNTS.len(), "each once");
    home.status_until("no member", |status| status["sessions"] == json!([]));
}

/// A program that closes its sending end is answered everything it asked, also what waits for a disk or for the mail to be sent.
///
/// design §3.9
#[test]
fn what_was_asked_before_a_half_close_is_answered() {
    let home = Home::new();
    let broker = home.serve();
    for (key, free) in (1..).zip(COUNTS) {
        let mut program = Program::log_on(home.socket());
        broker.signal(Signal::STOP);
        let bytes = program.asks_and_submits(free, key);
        let (member, flags) = (program.member, LogoffFlags::default());
        let drain = Some(DEADLINE.as_millis() as u64);
        let leaves = program.asks(Request::Logoff(Logoff { member, flags, drain }));
        program.say(&[bytes, leaves].concat());
        program.stream.shutdown(Shutdown::Write).expect("it is connected");
        broker.signal(Signal::CONT);
        let mut answers: Vec<_> = program.answers().collect();
        answers.sort_unstable_by_key(|(id, _)| *id);
        assert_eq!(answers.len(), free + 2, "each request has its answer");
        let left = answers.pop().expect("the logoff's").1;
        assert!(matches!(left, Reply::LoggedOff(off) if off.queued == 0), "{free} in front");
        let stored = answers.pop().expect("the submission's").1;
        let is_queued = |state| matches!(state, SubmissionState::Queued);
        assert!(matches!(stored, Reply::Submitted { state, .. } if is_queued(state)), "{stored:?}");
        assert_eq!(home.maildir("default").count(), key as usize);
    }
}

/// A crowd of programs that have said a thousand things each and closed is served to the last of them, and somebody who works beside
/// it is served meanwhile.
///
/// design §1, §3.9
#[test]
fn a_crowd_that_has_closed_is_served_beside_others() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let crowd: Vec<_> = (1..=30).map(|key| (key, Program::log_on(home.socket()))).collect();
    broker.signal(Signal::STOP);
    let mut half = Vec::new();
    for (key, mut program) in crowd {
        let bytes = program.asks_and_submits(1_000, key);
        program.say(&bytes);
        if key % 2 == 0 {
            program.stream.shutdown(Shutdown::Write).expect("it is connected");
            half.push(program);
        }
    }
    broker.signal(Signal::CONT);
    for n in 0..5 {
        shell.submit(1, &home.message(&format!("beside-{n}")));
    }
    broker.until("all messages", || home.maildir("default").count() == 35);
    for program in &mut half {
        assert_eq!(program.answers().count(), 1_001);
    }
    shell.ok("logoff session=1 drain=60");
    home.status_until("no member", |status| status["sessions"] == json!([]));
}

/// Where the process of [`LastWords`] connects to.
const SOCKET: &str = "SUNDOWN_TEST_LAST_WORDS";

/// A member that is told what to say, has another process hold its socket, says it and ends. In any other process it does nothing.
#[test]
fn a_process_with_last_words() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let mut program = Program::log_on(socket);
    // What is started from here has the socket, too.
    rustix::io::fcntl_setfd(program.stream.as_fd(), FdFlags::empty()).expect("inherited");
    println!("\nmember {}", program.member.0);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("it is told");
    // It reads what this one reads: as long as the test has the other end it lives.
    let holds = Command::new("cat").stdout(Stdio::null()).spawn().expect("it starts");
    println!("\nheld by {}", holds.id());
    let bytes = program.asks_and_submits(200, 1);
    match line.trim() {
        "everything" => program.say(&bytes),
        "half a request" => program.say(&bytes[..10]),
        other => panic!("{other}"),
    }
    std::process::exit(0);
}

/// Such a process, and what holds its socket.
struct LastWords {
    child: Child,
    input: ChildStdin,
    lines: Lines,
    member: u64,
}

impl LastWords {
    fn start(home: &Home) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("it has a path"));
        command.args(["--exact", "closing::a_process_with_last_words", "--nocapture"]);
        command.env(SOCKET, home.socket()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let input = child.stdin.take().expect("it is a pipe");
        let lines = Lines::of(child.stdout.take().expect("it is a pipe"));
        let number = |line: &str| line.strip_prefix("member ")?.parse().ok();
        let member = lines.find("it is logged on", 0, number);
        Self { child, input, lines, member }
    }

    /// It says this and ends.
    fn says(&mut self, what: &str) {
        writeln!(self.input, "{what}").expect("it reads");
        assert!(wait_for_end(&mut self.child).success());
    }

    fn check_that_the_socket_is_held(&self) {
        let number = |line: &str| line.strip_prefix("held by ")?.parse().ok();
        let holder = self.lines.find("what holds it", 0, number);
        let holder = rustix::process::Pid::from_raw(holder).expect("a process");
        rustix::process::test_kill_process(holder).expect("it runs");
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that a process had sent when it ended is carried out before its connections are closed, though another process holds
/// its socket. What it began to send keeps none of them.
///
/// design §3.9
#[test]
fn the_last_words_of_a_process_are_heard() {
    let home = Home::new();
    let broker = home.serve();
    let mut stays = home.shell();
    stays.ok("logon");
    stays.ok("advise session=1 events=extended");
    for what in ["half a request", "everything"] {
        let mut process = LastWords::start(&home);
        if what == "everything" {
            // The broker meets all of it and the end of the process at once.
            broker.signal(Signal::STOP);
        }
        process.says(what);
        broker.signal(Signal::CONT);
        let left = stays.event("the departure", |e| e["member"] == process.member);
        assert_eq!(
            (&left["kind"], &left["reason"]),
            (&json!("member-left"), &json!("disconnected"))
        );
        process.check_that_the_socket_is_held();
    }
    broker.until("what it said last", || home.maildir("default").count() == 1);
}
