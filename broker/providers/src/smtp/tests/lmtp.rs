//! LMTP: one answer for each recipient behind the dot, whatever the server does.

use std::os::unix::net::UnixListener;

use proptest::prelude::*;
use sundown_protocol::Code;
use sundown_protocol::request::Notify;

use super::super::dots::tests::{dots_in, memory};
use super::*;

const HELLO: &str = "< 220 test ready
    > LHLO
    < 250-test
    < 250 PIPELINING";

const ENVELOPE: &str = "> MAIL
    > RCPT TO:<a>
    > RCPT TO:<b@localhost>
    > RCPT TO:<c>
    < 250 ok
    < 250 ok
    < 550 5.1.1 no such user
    < 250 ok
    > DATA
    < 354 go on
    message";

/// Soon enough for a test, and late enough for a machine that is busy.
const SOON: (&str, &str) = ("timeout", "500");

fn lmtp(port: u16, options: &[(&str, &str)]) -> ProviderSpec {
    ProviderSpec { kind: "lmtp".into(), ..spec(port, options) }
}

/// What becomes of a message to three, of whom the server does not know the second, by its answers to the dot.
fn three(answers: &str) -> Vec<RecipientResult> {
    let server = Server::start(&[&format!("{HELLO}\n{ENVELOPE}\n{answers}")]);
    let spec = lmtp(server.port, &[SOON]);
    let mut client = Client::of(&spec, MESSAGE, &Destinations::default(), &Arc::default());
    let results = client.send(transmission(1, &["a", "b@localhost", "c"])).expect("results");
    drop(client);
    server.done();
    assert_eq!(results[1].outcome, Outcome::Failed);
    results
}

#[test]
fn each_recipient_has_its_answer() {
    let cases = [
        ("< 250 one\n< 250 two", [Outcome::Sent, Outcome::Sent]),
        ("< 250 one\n< 452 4.2.2 full", [Outcome::Sent, Outcome::Later]),
        ("< 554 5.2.0 no\n< 250 two", [Outcome::Failed, Outcome::Sent]),
        ("< 450 later\n< 550 never", [Outcome::Later, Outcome::Failed]),
        ("< 421 bye\n< 250 two", [Outcome::Later, Outcome::Sent]),
    ];
    for (answers, wanted) in cases {
        let results = three(answers);
        assert_eq!([results[0].outcome, results[2].outcome], wanted, "{answers}");
        let words = answers.replace("< ", "");
        assert_eq!(
            [&*results[0].reply, &results[2].reply],
            [words.lines().next().expect("one"), words.lines().nth(1).expect("two")]
        );
    }
}

/// Where the answers break off, those that came are certain.
#[test]
fn answers_that_break_off_leave_the_rest_unknown() {
    for rest in ["close", "hang", "< 354 what", "< nonsense", "< 250-half\nclose"] {
        let results = three(&format!("< 250 one\n{rest}"));
        let outcomes = [results[0].outcome, results[2].outcome];
        assert_eq!(outcomes, [Outcome::Sent, Outcome::Unknown], "{rest}");
        assert!(results[2].reply.contains("may have gone out"), "{}", results[2].reply);
    }
    for rest in ["close", "< 354 what"] {
        let results = three(rest);
        let outcomes = [results[0].outcome, results[2].outcome];
        assert_eq!(outcomes, [Outcome::Unknown, Outcome::Unknown], "{rest}");
    }
}

/// What a server puts into mailboxes is delivered, for who wants to know.
#[test]
fn a_message_in_a_mailbox_is_delivered() {
    let server = Server::start(&[&format!("{HELLO}\n{ENVELOPE}\n< 250 one\n< 452 4.2.2 full")]);
    let spec = lmtp(server.port, &[SOON]);
    let mut client = Client::of(&spec, MESSAGE, &Destinations::default(), &Arc::default());
    let mut asked = transmission(1, &["a", "b@localhost", "c"]);
    asked.report.notify = Notify::SUCCESS;
    let results = client.send(asked).expect("results");
    drop(client);
    server.done();
    let outcomes: Vec<_> = results.iter().map(|result| result.outcome).collect();
    assert_eq!(outcomes, [Outcome::Delivered, Outcome::Failed, Outcome::Later]);
}

/// The connection is as good as before, and the next message is understood.
#[test]
fn the_next_message_follows_the_last_answer() {
    let next = "> MAIL\n> RCPT TO:<d>\n< 250 ok\n< 250 ok\n> DATA\n< 354 go on\nmessage\n< 250 d";
    let talk = format!("{HELLO}\n{ENVELOPE}\n< 250 a\n< 450 c\n{next}");
    let server = Server::start(&[&talk]);
    let spec = lmtp(server.port, &[("connections", "1")]);
    let mut client = Client::of(&spec, MESSAGE, &Destinations::default(), &Arc::default());
    let first = client.send(transmission(1, &["a", "b@localhost", "c"])).expect("results");
    assert_eq!(outcomes(&first), [Outcome::Sent, Outcome::Failed, Outcome::Later]);
    let second = client.send(transmission(2, &["d"])).expect("results");
    assert_eq!((second[0].outcome, &*second[0].reply), (Outcome::Sent, "250 d"));
    drop(client);
    server.done();
}

/// A server that does not know LHLO is not spoken to in SMTP.
#[test]
fn there_is_no_older_greeting() {
    let server = Server::start(&["< 220 hi\n> LHLO me.example.org\n< 502 5.5.2 what"]);
    let spec = lmtp(server.port, &[]);
    let mut client = Client::of(&spec, MESSAGE, &Destinations::default(), &Arc::default());
    let error = client.send(to_bob(1)).expect_err("it is no such server");
    assert_eq!(error.code, Code::E_CALL_FAILED);
    assert!(error.message.contains("502 5.5.2 what"), "{error}");
    drop(client);
    server.done();
}

#[test]
fn a_socket_that_nobody_listens_at_is_offline() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("lmtp");
    let at = ProviderSpec { path: path.clone(), options: Vec::new(), ..lmtp(1, &[]) };
    let error = || {
        let mut client = Client::of(&at, MESSAGE, &Destinations::default(), &Arc::default());
        client.send(to_bob(1)).expect_err("nobody listens")
    };
    let missing = error();
    assert_eq!(missing.code, Code::E_NETWORK_ERROR);
    assert!(missing.message.contains("there is no such socket"), "{missing}");
    drop(UnixListener::bind(path).expect("a socket"));
    let dead = error();
    assert_eq!(dead.code, Code::E_NETWORK_ERROR);
    assert!(dead.message.contains("nothing listens there"), "{dead}");
}

/// A crash behind the dot: what was the same for all is known to the next broker, the rest is unknown.
#[test]
fn the_next_broker_knows_what_was_the_same_for_all() {
    for (answers, wanted) in [
        ("< 250 a\n< 250 c", Outcome::Sent),
        ("< 450 a\n< 550 c", Outcome::NotSent),
        ("< 250 a\n< 450 c", Outcome::Unknown),
        ("< 250 a\nclose", Outcome::Unknown),
    ] {
        let Some(memory) = memory() else { return };
        let server = Server::start(&[&format!("{HELLO}\n{ENVELOPE}\n{answers}")]);
        let spec = lmtp(server.port, &[SOON]);
        let dots = dots_in(memory.path());
        let mut client = Client::of(&spec, MESSAGE, &Destinations::default(), &dots);
        let mail = transmission(1, &["a", "b@localhost", "c"]);
        let marker = get(&client.prepare(mail.clone())).expect("prepared").marker;
        get(&client.complete(1)).expect("results");
        client.smtp.logoff().expect("it logs off");
        assert_eq!(outcomes(&client.recover(mail, &marker)), [wanted; 3], "{answers}");
        drop(client);
        server.done();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a server says behind the dot, each accepted recipient has one result, in order, and none is said to be sent or refused
    /// but by an answer.
    #[test]
    fn whatever_is_answered_each_has_one_result(
        said in prop::collection::vec(
            prop_oneof!["250 [a-z]{0,9}", "4[0-9]{2} x", "5[0-9]{2} x", "[ -~]{0,12}", "250-[a-z]{0,5}"],
            0..5,
        ),
    ) {
        let lines: String = said.iter().map(|line| format!("<{line}\n")).collect();
        let results = three(&format!("{lines}close"));
        prop_assert_eq!(results.iter().map(|r| r.recipient).collect::<Vec<_>>(), [0, 1, 2]);
        let mut last_certain = true;
        for result in [&results[0], &results[2]] {
            let certain = result.outcome != Outcome::Unknown;
            prop_assert!(last_certain || !certain, "an answer behind none: {:?}", results);
            last_certain = certain;
            let first = result.reply.chars().next().unwrap_or_default();
            match result.outcome {
                Outcome::Sent => prop_assert_eq!(first, '2'),
                Outcome::Later => prop_assert_eq!(first, '4'),
                Outcome::Failed => prop_assert_eq!(first, '5'),
                _ => prop_assert!(result.reply.contains("may have gone out")),
            }
        }
    }
}
