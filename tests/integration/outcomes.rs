//! A broker that goes away for good between a submit and its answer: nobody knows what became of the message, and that is said.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};

use sundown_client::{Code, EndReason, Event, MemberId, SessionId};
use sundown_protocol::hello::{Answer, Welcome};
use sundown_protocol::reply::{FromBroker, LoggedOn};
use sundown_protocol::request::{Asked, Request};
use sundown_protocol::{Notification, Reply, Version, codec, frame};

use crate::harness::{Home, run};

fn say(mut stream: &UnixStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the client reads");
}

/// Takes what it is asked until somebody submits: then it says that it stops, and is gone. The key that it was asked with.
fn stop_at_a_submit(listener: UnixListener, home: &Home) -> u128 {
    let (mut stream, _) = listener.accept().expect("a client comes");
    let mut payload = Vec::new();
    frame::read(&mut stream, &mut payload).expect("a hello");
    let (version, pid) = (Version::NEWEST as u16, std::process::id());
    let welcome = Welcome { version, pid, requests: 256, bytes: 1 << 20 };
    say(&stream, &codec::encode(&Answer::Welcome(welcome)).expect("it encodes"));
    loop {
        assert!(frame::read(&mut stream, &mut payload).expect("whole frames"), "it submits");
        let Asked { id, request } = codec::decode(&payload).expect("a request");
        let reply = match request {
            Request::Logon(_) => Reply::LoggedOn(LoggedOn {
                member: MemberId(1),
                session: SessionId(1),
                profile: "default".into(),
                shared: true,
                stores: vec!["sqlite".into()],
                identity: "me@localhost".into(),
            }),
            Request::Submit(submit) => {
                let event = Event::CriticalError {
                    code: Code::E_END_OF_SESSION,
                    reason: EndReason::BrokerStopped,
                    by: None,
                    grace: None,
                };
                let stops = Notification { member: MemberId(1), advises: Vec::new(), event };
                // Nobody finds it any more when its connection ends.
                drop(listener);
                std::fs::remove_file(home.socket()).expect("removed");
                say(&stream, &codec::encode(&FromBroker::Notify(stops)).expect("it encodes"));
                return submit.key.0;
            }
            _ => Reply::Done,
        };
        let answer = FromBroker::Answer { id, result: Ok(reply) };
        say(&stream, &codec::encode(&answer).expect("it encodes"));
    }
}

/// What is not known is no failure: `send` says so, also in JSON, with the key by which the same message is stored once; `sendmail`
/// says so in a line. The status says that another try is worth it.
///
/// design §3.16, §8
#[test]
fn an_outcome_that_is_not_known_is_said() {
    let commands: [&[&str]; 3] = [&["send", "--json"], &["send"], &["sendmail", "-t"]];
    for command in commands {
        let home = Home::new();
        std::fs::DirBuilder::new().mode(0o700).create(home.path("run/sundown")).expect("made");
        let listener = UnixListener::bind(home.socket()).expect("bound");
        let mail = "To: anna@localhost\nSubject: once\n\nhi\n";
        let (key, ran) = std::thread::scope(|scope| {
            let broker = scope.spawn(|| stop_at_a_submit(listener, &home));
            // sendmail's own options stand before the word.
            let mut arguments = vec!["--no-autostart"];
            arguments.extend_from_slice(command);
            let socket = home.socket();
            let mut process = home.bare(&arguments);
            process.env("SUNDOWN_SOCKET", socket);
            let ran = run(process, mail);
            (broker.join().expect("it was asked"), ran)
        });
        let ran = ran.exits(75);
        let key = format!("{key:032x}");
        let said = format!("{}{}", ran.output, ran.errors);
        assert!(said.contains("not known"), "{command:?}: {said}");
        if command[0] == "sendmail" {
            continue;
        }
        assert!(said.contains(&format!("--key {key}")), "{command:?}: {said}");
        if command.contains(&"--json") {
            let error = &ran.json()["error"];
            assert_eq!(
                (&error["outcome"], &error["key"]),
                (&"unknown".into(), &key.as_str().into())
            );
        }
        // With the key it is stored once, however often it is said.
        let _broker = home.serve();
        let again = ["send", "--json", "--key", &key];
        let first = home.run_with(&again, mail).ok().json();
        assert_eq!(home.run_with(&again, mail).ok().json()["entry"], first["entry"]);
    }
}

/// A key that has not all of its bits is none by chance.
#[test]
fn a_key_has_all_of_its_bits() {
    let home = Home::new();
    let _broker = home.serve();
    for key in ["1", "", &"f".repeat(31), &"f".repeat(33), &"g".repeat(32)] {
        let ran = home.run_with(&["send", "--key", key, "--to", "anna@localhost"], "hi\n");
        assert!(ran.status.code().is_some_and(|code| code != 0), "{key:?}");
        assert!(ran.errors.contains("32 hexadecimal digits") || key.is_empty(), "{}", ran.errors);
    }
    assert_eq!(home.run(&["queue", "list", "--json"]).ok().json(), serde_json::json!([]));
}
