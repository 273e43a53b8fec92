//! Strangers at the socket: what they say ends their own connection and nobody else's.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::json;
use sundown_protocol::hello::{Answer, Hello, MAGIC};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::{
    AdviseSource, Asked, Logoff, LogoffFlags, Logon, LogonFlags, Opening, Request,
};
use sundown_protocol::{
    AdviseId, Code, Events, MemberId, ObjectId, RequestId, Version, codec, frame,
};

use crate::harness::{DEADLINE, Home};

/// A connection that says what a test wants.
struct Stranger(UnixStream);

impl Stranger {
    fn connect(home: &Home) -> Self {
        let stream = UnixStream::connect(home.socket()).expect("the broker accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("it has a timeout");
        Self(stream)
    }

    fn say(&mut self, bytes: &[u8]) {
        // The other side may have hung up already.
        let _ = self.0.write_all(bytes);
    }

    fn greeting() -> Hello {
        let (oldest, newest) = (Version::OLDEST as u16, Version::NEWEST as u16);
        Hello {
            magic: MAGIC,
            oldest,
            newest,
            image: [7; 16],
            library: [7; 16],
            program: "stranger".into(),
        }
    }

    fn hello(&mut self) -> Answer {
        self.say(&codec::encode(&Self::greeting()).expect("it encodes"));
        let payload = self.payload().expect("an answer");
        codec::decode(&payload).expect("an answer to a hello")
    }

    /// The next frame, or `None` at the end of the connection.
    fn payload(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        frame::read(&mut self.0, &mut payload).expect("whole frames").then_some(payload)
    }

    /// Asks, and returns the answer's fault.
    fn fault(&mut self, request: Request) -> Code {
        let asked = Asked { id: RequestId(1), request };
        self.say(&codec::encode(&asked).expect("it encodes"));
        let payload = self.payload().expect("an answer");
        match codec::decode(&payload).expect("an answer") {
            FromBroker::Answer { result: Err(fault), .. } => fault.code,
            other => panic!("{other:?}"),
        }
    }

    /// The refusal of a connection that did not begin well, and its end.
    fn refusal(mut self) -> (Code, String) {
        let payload = self.payload().expect("a reason");
        let Ok(Answer::Refused(refused)) = codec::decode(&payload) else { panic!("{payload:?}") };
        assert_eq!(self.payload(), None, "the connection ends");
        (Code(refused.code), refused.message)
    }

    /// The goodbye to a connection that was open, and its end.
    fn goodbye(mut self) -> Code {
        let payload = self.payload().expect("a reason");
        let Ok(FromBroker::Goodbye(why)) = codec::decode(&payload) else { panic!("{payload:?}") };
        assert_eq!(self.payload(), None, "the connection ends");
        why.code
    }
}

/// Garbage, a frame that is too long or too short, another protocol, another version: the connection ends with a reason,
/// and those who share the broker do not notice.
///
/// design §4
#[test]
fn a_strangers_mistake_ends_only_the_stranger() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let first = |bytes: &[u8]| {
        let mut stranger = Stranger::connect(&home);
        stranger.say(bytes);
        stranger.refusal()
    };
    let (code, why) = first(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(code, Code::E_CORRUPT_DATA);
    assert!(why.contains("frame"), "{why}");
    assert_eq!(first(&u32::MAX.to_le_bytes()).0, Code::E_CORRUPT_DATA);
    assert_eq!(first(&(frame::MAX_PAYLOAD + 1).to_le_bytes()).0, Code::E_CORRUPT_DATA);
    assert_eq!(first(&[0; 64]).0, Code::E_CORRUPT_DATA);
    assert_eq!(first(&[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).0, Code::E_CORRUPT_DATA);
    let hello = |magic, oldest, newest| {
        let hello = Hello {
            magic,
            oldest,
            newest,
            image: [0; 16],
            library: [0; 16],
            program: "old".into(),
        };
        first(&codec::encode(&hello).expect("it encodes"))
    };
    assert_eq!(hello(*b"HTTP", 1, 1).0, Code::E_VERSION);
    let (code, why) = hello(MAGIC, 60_000, 60_001);
    assert_eq!(code, Code::E_VERSION);
    assert!(why.contains("60000"), "{why}");

    let after_hello = |bytes: &[u8]| {
        let mut stranger = Stranger::connect(&home);
        assert!(matches!(stranger.hello(), Answer::Welcome(_)));
        stranger.say(bytes);
        stranger.goodbye()
    };
    assert_eq!(after_hello(&u32::MAX.to_le_bytes()), Code::E_CORRUPT_DATA);
    assert_eq!(
        after_hello(&[12, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]),
        Code::E_CORRUPT_DATA
    );

    shell.ok("open session=1 what=inbox");
    shell.settle();
    assert!(shell.events(|_| true).is_empty());
    assert_eq!(home.status()["sessions"][0]["members"].as_array().map(Vec::len), Some(1));
}

/// Strangers can make their mistakes as often as they like, and the log does not fill: a user has ten lines a minute about connections
/// that the broker ended, and the next one says how many were left out. Each is answered all the same, in words.
///
/// design §8
#[test]
fn mistakes_do_not_fill_the_log() {
    let home = Home::new();
    let mut broker = home.serve();
    for _ in 0..50 {
        let mut garbage = Stranger::connect(&home);
        garbage.say(&[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let (code, why) = garbage.refusal();
        assert_eq!(code, Code::E_CORRUPT_DATA);
        assert!(why.ends_with("it ends too early"), "{why}");
        let mut other = Stranger::connect(&home);
        let later = Hello { oldest: 60_000, newest: 60_001, ..Stranger::greeting() };
        other.say(&codec::encode(&later).expect("it encodes"));
        assert_eq!(other.refusal().0, Code::E_VERSION);
    }
    broker.terminate();
    let log = broker.log();
    let closed = log.iter().filter(|line| line["message"] == "a connection is closed").count();
    assert_eq!(closed, 10);
}

/// One that says nothing, one that stops in the middle of a frame and one that never reads: they wait for themselves only.
///
/// design §1
#[test]
fn a_silent_stranger_holds_up_nobody() {
    let home = Home::new();
    let _broker = home.serve();
    let _silent: Vec<_> = (0..20).map(|_| Stranger::connect(&home)).collect();
    let mut half = Stranger::connect(&home);
    half.say(&[200, 0, 0, 0, b'S', b'N']);
    let mut deaf = Stranger::connect(&home);
    deaf.hello();
    let status =
        codec::encode(&Asked { id: RequestId(1), request: Request::Status }).expect("it encodes");
    for _ in 0..200 {
        deaf.say(&status);
    }
    let mut shell = home.shell();
    shell.ok("logon");
    shell.submit(1, &home.message("unhindered"));
    shell.ok("logoff session=1 drain=60");
    assert_eq!(home.maildir("default").count(), 1);
}

/// One that never says anything is sent away in the end, with a reason.
///
/// design §4
#[test]
fn a_silent_stranger_is_sent_away() {
    let home = Home::new();
    let _broker = home.serve();
    let (silent, mut half) = (Stranger::connect(&home), Stranger::connect(&home));
    half.say(&[200, 0, 0, 0, b'S', b'N']);
    let mut opened = Stranger::connect(&home);
    assert!(matches!(opened.hello(), Answer::Welcome(_)));
    assert_eq!(silent.refusal().0, Code::E_TIMEOUT);
    assert_eq!(half.refusal().0, Code::E_TIMEOUT);
    // One that has said hello may be silent as long as it likes.
    let nothing = Request::Flush { member: MemberId(1) };
    assert_eq!(opened.fault(nothing), Code::E_INVALID_OBJECT);
}

/// One that stops in the middle of a request and says nothing more is gone, also where the broker hears of both at once.
///
/// design §1
#[test]
fn who_ends_in_the_middle_of_a_request_is_gone() {
    let home = Home::new();
    let broker = home.serve();
    let mut stranger = Stranger::connect(&home);
    assert!(matches!(stranger.hello(), Answer::Welcome(_)));
    broker.signal(Signal::STOP);
    stranger.say(&[200, 0, 0, 0, b'S', b'N']);
    stranger.0.shutdown(Shutdown::Write).expect("it is connected");
    broker.signal(Signal::CONT);
    assert_eq!(stranger.payload(), None, "the connection ends");
}

/// What follows a hello at once is answered behind the welcome, and who says nothing more behind it is answered, too.
///
/// design §4
#[test]
fn what_comes_with_a_hello_is_answered_with_the_welcome() {
    let home = Home::new();
    let broker = home.serve();
    let mut stranger = Stranger::connect(&home);
    broker.signal(Signal::STOP);
    let status = Asked { id: RequestId(1), request: Request::Status };
    let status = codec::encode(&status).expect("it encodes");
    let both = [codec::encode(&Stranger::greeting()).expect("it encodes"), status].concat();
    stranger.say(&both);
    stranger.0.shutdown(Shutdown::Write).expect("it is connected");
    broker.signal(Signal::CONT);
    let welcome = stranger.payload().expect("a welcome");
    assert!(matches!(codec::decode(&welcome).expect("a welcome"), Answer::Welcome(_)));
    let answer = stranger.payload().expect("an answer");
    let answer = codec::decode(&answer).expect("an answer");
    assert!(matches!(answer, FromBroker::Answer { id: RequestId(1), result: Ok(_) }));
    assert_eq!(stranger.payload(), None, "the connection ends");
}

/// More requests than were granted end the connection that made them.
///
/// design §1
#[test]
fn an_overdraft_ends_the_connection() {
    let home = Home::with_settings("[limits]\nrequests = 8\n");
    let _broker = home.serve();
    let mut stranger = Stranger::connect(&home);
    let Answer::Welcome(welcome) = stranger.hello() else { panic!("it is refused") };
    assert_eq!(welcome.requests, 8);
    let logon = Request::Logon(Logon { profile: None, flags: LogonFlags::default() });
    // Logons wait for the session to start, so none of them is answered before the last has come.
    let many: Vec<u8> = (0..9)
        .flat_map(|id| {
            codec::encode(&Asked { id: RequestId(id), request: logon.clone() }).expect("it encodes")
        })
        .collect();
    stranger.say(&many);
    let mut rest = Vec::new();
    let _ = stranger.0.read_to_end(&mut rest);
    let mut last = None;
    let mut bytes = &rest[..];
    while let Ok(Some((payload, taken))) = frame::cut(bytes) {
        last = Some(codec::decode::<FromBroker>(payload).expect("an answer"));
        bytes = &bytes[taken..];
    }
    assert!(matches!(last, Some(FromBroker::Goodbye(_))), "{last:?}");
    home.run(&["status"]).ok();
}

/// Another process' members, objects and registrations are nobody else's, however the numbers are guessed.
///
/// LOGON-10, design §2, §3.12
#[test]
fn handles_of_another_process_are_dead() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    let member = MemberId(shell.ok("logon")["member"].as_u64().expect("a number"));
    shell.ok("open session=1 what=inbox");
    shell.ok("advise session=1");
    let mut stranger = Stranger::connect(&home);
    stranger.hello();
    let object = ObjectId { place: 0, generation: 0 };
    for request in [
        Request::Open { member, what: Opening::AddressBook },
        Request::List { member, object, after: 0, limit: 10 },
        Request::Release { member, object },
        Request::Advise { member, source: AdviseSource::Session, events: Events::CRITICAL_ERROR },
        Request::Unadvise { member, advise: AdviseId(1) },
        Request::Flush { member },
        Request::Logoff(Logoff { member, flags: LogoffFlags::default(), drain: None }),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(stranger.fault(request), Code::E_INVALID_OBJECT, "{shown}");
    }
    let none = MemberId(u64::MAX);
    assert_eq!(stranger.fault(Request::Flush { member: none }), Code::E_INVALID_OBJECT);
    shell.ok("list object=1");
    let members = home.status()["sessions"][0]["members"].clone();
    assert_eq!(members.as_array().map(Vec::len), Some(1), "{members}");
    assert_eq!(members[0]["objects"], json!(1));
}

/// A client's word for a yes is not believed: without a query Do is refused, and without a ticket a process that an earlier broker may
/// have served may not even ask. No provider is called.
///
/// SEED-12, SEED-15, design §3.6
#[test]
fn nobody_remembers_a_yes_without_a_ticket() {
    let home = Home::new();
    home.profile("default", "[[address_book]]\nfast_shutdown = \"refused\"\n");
    let logon = || Request::Logon(Logon { profile: None, flags: LogonFlags::default() });
    let remembered = || Request::DoFastShutdown { remembered: true };
    for (restarted, code) in [(false, Code::E_NO_SUPPORT), (true, Code::E_NO_ACCESS)] {
        let broker = home.serve();
        let mut stranger = Stranger::connect(&home);
        assert!(matches!(stranger.hello(), Answer::Welcome(_)));
        stranger.say(&codec::encode(&Asked { id: RequestId(1), request: logon() }).expect("bytes"));
        assert!(stranger.payload().is_some(), "it is logged on");
        assert_eq!(stranger.fault(remembered()), code, "restarted: {restarted}");
        let told = broker.log().iter().any(|line| line["call"] == "DoFastShutdown");
        assert!(!told, "restarted: {restarted}");
    }
}
