//! An older client and this broker: what a client of version 1 said, byte for byte, and what it must hear. An older broker and this
//! library: what that one is not asked.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::{Value, json};
use sundown_client::{
    EntryId, Events, FolderKind, LeaveReason, LogoffAnswer, Logon, MessageRow, News, Place,
};
use sundown_protocol::hello::{Answer, Welcome};
use sundown_protocol::notification::EndReason;
use sundown_protocol::reply::{FromBroker, LoggedOff, LoggedOn, Rows, TableRows};
use sundown_protocol::request::{Asked, Blob, LogoffFlags, Request, Ticket};
use sundown_protocol::{
    AdviseId, Code, Event, MemberId, Notification, ObjectId, Reply, SessionId, Version, codec,
    frame,
};

use crate::harness::{DEADLINE, Home, keys, says};

/// As a client of version 1 said hello: it offers that version and no other.
const HELLO: &str = "37000000534e444e01000100d260c15b14212e3eb088569f88eb00fbd52474c1746e656b4e1c3c5f15c0851107000000\
                     0000000073756e646f776e";

/// Its requests: logon to the default profile; registration; the Inbox; the root, which it releases; a message for
/// anna@localhost; logoff after outbound mail, at most 10 s. `MEMBER` stands for the member's number, which the broker chooses.
const REQUESTS: &[&str] = &[
    "110000000100000000000000000000000000000000",
    "1c000000020000000000000002000000MEMBER0000000000000080",
    "1a000000030000000000000004000000MEMBER000000000000",
    "1e000000040000000000000004000000MEMBER01000000000000000000",
    "1c000000050000000000000005000000MEMBER0000000000000000",
    "92000000060000000000000009000000MEMBER0000a001fad6b4e20a6ac0906c02c36760e50001000000000000000e00000000000000616e\
     6e61406c6f63616c686f7374000000003800000000000000546f3a20616e6e61406c6f63616c686f73740a5375626a6563743a2066726f6d\
     20616e206f6c64657220636c69656e740a0a48656c6c6f0a000000000200000000",
    "21000000070000000000000001000000MEMBER00000000011027000000000000",
];

/// How the answers begin, behind their length: that it is an answer, to which request, a success, and of which kind.
const ANSWERS: &[&str] = &[
    "0000000001000000000000000000000001000000",
    "0000000002000000000000000000000003000000",
    "0000000003000000000000000000000004000000",
    "0000000004000000000000000000000004000000",
    "0000000005000000000000000000000000000000",
    "0000000006000000000000000000000007000000",
    "0000000007000000000000000000000002000000",
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    };
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client that knows nothing but bytes.
struct Older(UnixStream);

impl Older {
    fn connect(home: &Home) -> Self {
        Self::of_version(home, 1)
    }

    /// A client that offers this version and no other.
    fn of_version(home: &Home, version: u8) -> Self {
        let stream = UnixStream::connect(home.socket()).expect("the broker accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("it has a timeout");
        let mut older = Self(stream);
        let offered = format!("{version:02x}00");
        older.say(&HELLO.replacen("01000100", &offered.repeat(2), 1));
        // Welcome, in that version.
        assert_eq!(hex(&older.hear()[..6]), format!("00000000{offered}"));
        older
    }

    fn say(&mut self, hex: &str) {
        self.0.write_all(&bytes(hex)).expect("the broker reads");
    }

    /// What a frame has behind its length.
    fn hear(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("a frame");
        let mut payload = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut payload).expect("a whole frame");
        payload
    }

    /// The next answer; what the broker tells in between is passed over.
    fn answer(&mut self) -> Vec<u8> {
        std::iter::repeat_with(|| self.hear()).find(|p| p[..4] == [0; 4]).expect("it goes on")
    }
}

/// A program built with an older library works with this broker, without knowing that it is a newer one.
///
/// design §4
#[test]
fn a_recorded_client_of_version_1_is_served() {
    let home = Home::new();
    let broker = home.serve();
    let mut older = Older::connect(&home);
    let mut member = String::new();
    for (request, wanted) in REQUESTS.iter().zip(ANSWERS) {
        older.say(&request.replace("MEMBER", &member));
        let answer = older.answer();
        assert_eq!(hex(&answer[..20]), *wanted, "to {request}");
        if member.is_empty() {
            // Behind the beginning of the answer to the logon.
            member = hex(&answer[20..28]);
        }
    }
    broker.until("the message", || home.maildir("default").count() == 1);
    assert_eq!(home.maildir("default").only().field("Subject"), ["from an older client"]);
}

/// Members of one connection leave at once, which is one notice since version 3. A program is told of each, and so is a client of
/// version 1, in frames that it knows.
#[test]
fn many_departures_are_told_one_by_one() {
    let home = Home::new();
    let _broker = home.serve();
    let mapi = crate::library::initialize(&home);
    let session = mapi.logon(Logon::shared()).expect("logged on");
    let (sender, told) = std::sync::mpsc::channel();
    let _sink = session
        .advise(Events::EXTENDED, move |notice| drop(sender.send(notice.news.clone())))
        .expect("advised");
    let log_on = |older: &mut Older| {
        older.say(REQUESTS[0]);
        hex(&older.answer()[20..28])
    };
    let mut stays = Older::connect(&home);
    let member = log_on(&mut stays);
    stays.say(&REQUESTS[1].replace("MEMBER", &member));
    stays.answer();
    let mut leaves = Older::connect(&home);
    let members = [0, 1].map(|_| log_on(&mut leaves));
    drop(leaves);
    for member in members {
        let notice = stays.hear();
        // A notification (1), its member, one registration; `MemberLeft` (7) of that member, `Disconnected` (2).
        assert_eq!(hex(&notice[..4]), "01000000");
        assert_eq!(hex(&notice[notice.len() - 16..]), format!("07000000{member}02000000"));
        let number = u64::from_le_bytes(bytes(&member).try_into().expect("eight bytes"));
        let member = MemberId(number);
        let left = Event::MemberLeft { member, reason: LeaveReason::Disconnected };
        assert_eq!(told.recv_timeout(DEADLINE).expect("told"), News::Broker(left));
    }
}

/// A client that knows the five folders of every store, and what is told to it while another process works in other folders: a
/// message that moves into one of the five is made there, one that moves out of it is deleted there. Of the others, and of folders
/// that are made and removed, it hears nothing.
///
/// design §4
#[test]
fn a_client_of_version_3_hears_of_the_folders_that_it_knows() {
    let home = Home::new();
    let _broker = home.serve();
    let mut older = Older::of_version(&home, 3);
    older.say(REQUESTS[0]);
    let member = hex(&older.answer()[20..28]);
    // Registration of request 2 on the session, for messages that are made, deleted, changed and moved.
    older.say(&format!("1c000000020000000000000002000000{member}000000003c000000"));
    older.answer();
    let mut shell = home.shell();
    shell.ok("logon");
    let folder = shell.ok("make-folder session=1 name=Work")["folder"].clone();
    let folder = folder.as_str().expect("text");
    let file = home.message("moves").display().to_string();
    let append = format!("append session=1 folder={folder} file={file}");
    let entry = shell.ok(&append)["entry"].clone();
    let entry = entry.as_str().expect("text");
    shell.ok(&format!("flag session=1 entry={entry} add=read"));
    shell.ok(&format!("move session=1 entry={entry} folder=drafts"));
    shell.ok(&format!("flag session=1 entry={entry} remove=read"));
    shell.ok(&format!("move session=1 entry={entry} folder=sent"));
    shell.ok(&format!("move session=1 entry={entry} folder={folder}"));
    shell.ok(&format!("delete session=1 entry={entry}"));
    shell.ok(&format!("remove-folder session=1 folder={folder}"));
    // The store's number and the record, as the wire has them.
    let mut id = bytes(entry);
    id[..4].reverse();
    id[4..].reverse();
    let id = hex(&id);
    // Made (2) in Drafts (3), changed (3) there, moved (4) to Sent (2) from there, deleted (5) there, and made in Deleted (4).
    for event in [
        format!("02000000{id}03000000"),
        format!("03000000{id}03000000"),
        format!("04000000{id}0200000003000000"),
        format!("05000000{id}02000000"),
        format!("02000000{id}04000000"),
    ] {
        let told = older.hear();
        // A notification (1), the member, one registration, its number.
        assert_eq!(hex(&told[..4]), "01000000");
        assert_eq!(hex(&told[24..]), event);
    }
    // It still takes part: another folder than the five it cannot ask for.
    older.say(REQUESTS[3].replace("MEMBER", &member).as_str());
    older.answer();
}

/// The end of a session for a reason that its version has no word for is told in one that it has.
///
/// design §4
#[test]
fn an_older_client_understands_why_its_session_ends() {
    let home = Home::new();
    let _broker = home.serve();
    let mut older = Older::connect(&home);
    older.say(REQUESTS[0]);
    older.answer();
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        std::fs::remove_file(home.data().join("default").join(name)).expect("it is there");
    }
    home.run_with(&["send", "--to", "anna@localhost"], "hi\n").ok();
    let told = [older.hear(), older.hear()].map(|payload| codec::decode(&payload));
    let told = told.map(|told| match told.expect("it can read that") {
        FromBroker::Notify(notification) => notification.event,
        other => panic!("{other:?}"),
    });
    let (code, reason) = (Code::E_END_OF_SESSION, EndReason::SharedLogoff);
    let end = Event::CriticalError { code, reason, by: None, grace: Some(0) };
    assert_eq!(told, [end, Event::Evicted]);
}

/// What a version does not have cannot be asked for in it, also of a broker that knows it.
///
/// design §4
#[test]
fn a_request_of_a_newer_version_ends_the_connection() {
    let home = Home::new();
    let broker = home.serve();
    let mut older = Older::connect(&home);
    // Request 1, number 29.
    older.say("0c00000001000000000000001d000000");
    let goodbye = older.hear();
    assert_eq!(hex(&goodbye[..4]), "02000000");
    let why = String::from_utf8_lossy(&goodbye).into_owned();
    assert!(why.contains("version 1 has no request Broker"), "{why}");
    assert_eq!(older.0.read(&mut [0]).expect("the end"), 0);
    home.run(&["status"]).ok();
    drop(broker);
}

/// A broker that knows nothing but one version, and what it was asked.
struct OlderBroker {
    listener: UnixListener,
    version: Version,
}

impl OlderBroker {
    fn bind(home: &Home, version: Version) -> Self {
        let folder = home.path("run/sundown");
        std::fs::create_dir_all(folder).expect("made");
        let listener = UnixListener::bind(home.socket()).expect("bound");
        Self { listener, version }
    }

    /// Serves one connection to its end. What it was asked, in order.
    fn serve(&self) -> Vec<Request> {
        let (mut stream, _) = self.listener.accept().expect("a client comes");
        let (mut payload, mut asked) = (Vec::new(), Vec::new());
        frame::read(&mut stream, &mut payload).expect("a hello");
        let (version, pid) = (self.version as u16, std::process::id());
        let welcome = Welcome { version, pid, requests: 256, bytes: 1 << 20 };
        say(&stream, &codec::encode(&Answer::Welcome(welcome)).expect("it encodes"));
        while frame::read(&mut stream, &mut payload).expect("whole frames") {
            let Asked { id, request } = codec::decode(&payload).expect("a request");
            let reply = match &request {
                Request::Logon(_) => Reply::LoggedOn(LoggedOn {
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
                Request::List { .. } => {
                    Reply::Rows(Rows { rows: TableRows::Messages(vec![row()]), next: None })
                }
                _ => Reply::Done,
            };
            let advises = matches!(request, Request::Advise { .. });
            asked.push(request);
            let answer = FromBroker::Answer { id, result: Ok(reply) };
            say(&stream, &codec::encode(&answer).expect("it encodes"));
            if advises {
                let event = Event::NewMail(Place { entry: row().entry, folder: FolderKind::INBOX });
                let (member, advises) = (MemberId(1), vec![AdviseId(1)]);
                let told = FromBroker::Notify(Notification { member, advises, event });
                say(&stream, &codec::encode(&told).expect("it encodes"));
            }
        }
        asked
    }
}

/// The message that it has.
fn row() -> MessageRow {
    MessageRow {
        entry: EntryId { store: 1, record: 2 },
        subject: "Hi".into(),
        from: "anna@host".into(),
        to: "bo@host".into(),
        size: 3,
        received: 4,
        recovered: false,
    }
}

fn say(mut stream: &UnixStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the client reads");
}

/// What an older broker does not know it is not told: the flag that a program was asked, and tickets. One that knows them is shown
/// the ticket before anything else, the one that the broker before it gave.
///
/// LOGOFF-3, design §4
#[test]
fn a_broker_is_told_what_its_version_has() {
    for version in [Version::V1, Version::V2, Version::V3] {
        let home = Home::new();
        let broker = OlderBroker::bind(&home, version);
        for again in [false, true] {
            let asked = std::thread::scope(|scope| {
                let serves = scope.spawn(|| broker.serve());
                let mapi = crate::library::initialize(&home);
                let session = mapi.logon(Logon::shared()).expect("it answers");
                let how = sundown_client::Logoff::now().wait();
                session.logoff_asking(how, |_| LogoffAnswer::LogOff).expect("it answers");
                mapi.uninitialize().expect("nothing is left");
                serves.join().expect("it has ended")
            });
            let knows = version == Version::V3;
            let flags = asked.iter().find_map(|request| match request {
                Request::Logoff(logoff) => Some(logoff.flags),
                _ => None,
            });
            let expected =
                if knows { LogoffFlags::WAIT.with(LogoffFlags::UI) } else { LogoffFlags::WAIT };
            assert_eq!(flags, Some(expected), "{version:?}");
            let shown = again.then(|| Ticket(Blob(vec![1])));
            let first = Request::Ticket { shown };
            assert_eq!(asked[0] == first, knows, "{version:?}: {asked:?}");
            let tickets = asked.iter().filter(|r| matches!(r, Request::Ticket { .. })).count();
            assert_eq!(tickets, usize::from(knows), "{version:?}: {asked:?}");
        }
    }
}

/// A script works with an earlier broker: it lists folders, without what that broker does not say, and is told of new mail. What the
/// broker cannot do is refused, and the session goes on.
///
/// design §4
#[test]
fn a_shell_works_with_an_earlier_broker() {
    let home = Home::new();
    let broker = OlderBroker::bind(&home, Version::V3);
    std::thread::scope(|scope| {
        let serves = scope.spawn(|| broker.serve());
        let mut shell = home.shell();
        shell.ok("logon");
        shell.ok("advise session=1 events=new-mail");
        let mail = shell.event("new mail", says(&[("event", "new-mail"), ("folder", "inbox")]));
        assert_eq!((&mail["from"], &mail["subject"]), (&json!(""), &json!("")));
        let open = shell.ok("open session=1 what=inbox")["object"].clone();
        let row = shell.ok(&format!("list object={open}"))["rows"][0].clone();
        assert_eq!(keys(&row), "date entry flags folder from received recovered size subject to");
        assert_eq!((&row["folder"], &row["subject"]), (&json!("inbox"), &json!("Hi")));
        assert_eq!((&row["date"], &row["flags"]), (&Value::Null, &Value::Null));
        for command in [
            &format!("list object={open} unread"),
            "folders session=1",
            "make-folder session=1 name=Work",
            "open session=1 what=folder folder=f16",
            "search session=1 words=hello",
            &format!("flag session=1 entry={} add=read", row["entry"].as_str().expect("text")),
        ] {
            let error = shell.fails(command, "MAPI_E_VERSION");
            let why = error["message"].as_str().expect("text");
            assert!(why.contains("version 3") && why.contains("sundown stop"), "{why}");
        }
        shell.ok("logoff session=1");
        shell.end();
        let asked = serves.join().expect("it has ended");
        assert!(asked.iter().all(|request| request.since() <= Version::V3), "{asked:?}");
    });
}
