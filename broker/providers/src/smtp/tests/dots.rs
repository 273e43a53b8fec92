//! Whether a dot has begun is written down, before it does.

use std::path::Path;

use super::super::dots::tests::{dots_in, memory};
use super::super::dots::{Doubt, Marker};
use super::*;

const ENVELOPE: &str = "> MAIL
    > RCPT
    < 250 ok
    < 250 ok";

fn client(directory: &Path, port: u16, message: &[u8]) -> Client {
    let spec = spec(port, &[]);
    Client::of(&spec, message, &Destinations::default(), &dots_in(directory))
}

/// What the next broker is told of a message, of which it knows the marker alone, when the threads of the last one have ended.
fn next_broker(directory: &Path, marker: &str) -> Outcome {
    if let Some(mark) = Marker::parse(marker).mark {
        while dots_in(directory).find_out(&mark) == Err(Doubt::InUse) {
            std::thread::yield_now();
        }
    }
    let mut next = client(directory, 1, MESSAGE);
    let results = next.recover(transmission(1, &["bob@example.net", "eve@example.net"]), marker);
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].outcome, results[1].outcome);
    let word = match results[0].outcome {
        Outcome::NotSent => "it is sent again",
        Outcome::Sent => "took it before",
        _ => "it may have gone out",
    };
    assert!(results[0].reply.contains(word) && results[0].reply.contains("127.0.0.1:"));
    results[0].outcome
}

/// A crash at each step: what the next broker is told. The marker is known from the first of them on.
#[test]
fn a_message_is_unknown_from_its_dot_to_its_answer() {
    let steps = [
        ("", Outcome::NotSent),
        ("> DATA\nclose", Outcome::NotSent),
        ("> DATA\n< 451 not now", Outcome::NotSent),
        ("> DATA\n< 354 go on\nmessage\nclose", Outcome::Unknown),
        ("> DATA\n< 354 go on\nmessage\n< nonsense", Outcome::Unknown),
        // What was answered is not lost with the broker that read it.
        ("> DATA\n< 354 go on\nmessage\n< 250 ok", Outcome::Sent),
        ("> DATA\n< 354 go on\nmessage\n< 451 later", Outcome::NotSent),
        ("> DATA\n< 354 go on\nmessage\n< 550 never", Outcome::NotSent),
    ];
    for (rest, wanted) in steps {
        let Some(memory) = memory() else { return };
        let server = Server::start(&[&format!("{}\n{rest}", script(ENVELOPE))]);
        let mut client = client(memory.path(), server.port, MESSAGE);
        let marker = get(&client.prepare(to_bob(1))).expect("prepared").marker;
        if !rest.is_empty() {
            get(&client.complete(1)).expect("results");
        }
        client.smtp.logoff().expect("it logs off");
        drop(client);
        server.done();
        assert_eq!(next_broker(memory.path(), &marker), wanted, "{rest}");
        // The place alone is what older brokers wrote.
        let (place, _) = marker.split_once(' ').expect("there is a slot");
        assert_eq!(next_broker(memory.path(), place), Outcome::Unknown, "{rest}");
    }
}

/// The mark is set before the dot: where it may not be set, the dot is not sent. Nothing else of the message is missing.
#[test]
fn a_dot_that_may_not_begin_is_not_sent() {
    let Some(memory) = memory() else { return };
    let server = Server::start(&[&script(&format!("{ENVELOPE}\n> DATA\n< 354 go on\nrest"))]);
    let mut client = client(memory.path(), server.port, MESSAGE);
    let marker = get(&client.prepare(to_bob(1))).expect("prepared").marker;
    assert_eq!(outcomes(&client.recover(to_bob(2), &marker)), [Outcome::NotSent]);
    let results = get(&client.complete(1)).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Later]);
    let told = server.done();
    assert_eq!(told[0].last().map(String::as_str), Some("..dot"), "{told:?}");
}

/// As long as the body is sent, however much of it, nothing has begun.
#[test]
fn a_dot_does_not_begin_within_the_body() {
    let Some(memory) = memory() else { return };
    let hello = "< 220 test\n> EHLO\n< 250-test\n< 250 PIPELINING";
    let server =
        Server::start(&[&format!("{hello}\n{ENVELOPE}\n> DATA\n< 354 go on\nbody\nstall\nrest")]);
    // Too much for any buffer between us and a server that does not read.
    let message = b"0123456789abcdef\n".repeat(1 << 20);
    let mut client = client(memory.path(), server.port, &message);
    let marker = get(&client.prepare(to_bob(1))).expect("prepared").marker;
    let results = client.complete(1);
    server.wait_for(0, "DATA");
    assert_eq!(outcomes(&client.recover(to_bob(2), &marker)), [Outcome::NotSent]);
    let told = server.done();
    assert_eq!(outcomes(&get(&results).expect("results")), [Outcome::Later]);
    assert_eq!(told[0].last().map(String::as_str), Some("0123456789abcdef"));
}

/// When the server has the dot, it has begun, and no recovery takes the message back.
#[test]
fn a_dot_that_the_server_has_was_begun() {
    let Some(memory) = memory() else { return };
    let server = Server::start(&[&script(&format!(
        "{ENVELOPE}\n> DATA\n< 354 go on\nmessage\nstall\nclose"
    ))]);
    let mut client = client(memory.path(), server.port, MESSAGE);
    let marker = get(&client.prepare(to_bob(1))).expect("prepared").marker;
    let results = client.complete(1);
    server.wait_for(0, ".");
    assert_eq!(outcomes(&client.recover(to_bob(2), &marker)), [Outcome::Unknown]);
    server.done();
    assert_eq!(outcomes(&get(&results).expect("results")), [Outcome::Unknown]);
}

/// Each transmission has a slot of its own, on as many connections as there are.
#[test]
fn transmissions_have_a_slot_each() {
    let Some(memory) = memory() else { return };
    let first = script(&format!("{ENVELOPE}\n> DATA\n< 354 go on\nmessage\n< 250 ok"));
    let second = script(ENVELOPE);
    let server = Server::start(&[&first, &second]);
    let spec = spec(server.port, &[("connections", "2")]);
    let mut client = Client::of(&spec, MESSAGE, &Destinations::default(), &dots_in(memory.path()));
    let sent = get(&client.prepare(to_bob(1))).expect("prepared").marker;
    let waits = get(&client.prepare(to_bob(2))).expect("prepared").marker;
    assert_eq!(outcomes(&get(&client.complete(1)).expect("results")), [Outcome::Sent]);
    client.smtp.logoff().expect("it logs off");
    drop(client);
    server.done();
    assert_eq!(next_broker(memory.path(), &waits), Outcome::NotSent);
    assert_eq!(next_broker(memory.path(), &sent), Outcome::Sent);
}
