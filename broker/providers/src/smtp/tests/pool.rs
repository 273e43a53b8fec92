//! Connections: kept, shared, limited, replaced.

use sundown_protocol::Code;

use super::*;

const TAKES_ALL: &str = "< 220 test\n> EHLO\n< 250 test\nanything";

const ONE_MESSAGE: &str = "> MAIL
    > RCPT
    < 250 ok
    < 250 ok
    > DATA
    < 354 go on
    message
    < 250 ok";

#[test]
fn a_connection_is_used_again() {
    let server = Server::start(&[TAKES_ALL]);
    let mut client = Client::new(&server, &[("connections", "1")]);
    for id in 1..=3 {
        assert_eq!(outcomes(&client.send(to_bob(id)).expect("results")), [Outcome::Sent]);
    }
    client.smtp.logoff().expect("it logs off");
    let told = server.done();
    assert_eq!(told[0].iter().filter(|line| line.starts_with("MAIL")).count(), 3);
    assert!(!told[0].contains(&"RSET".to_owned()), "{told:?}");
    assert_eq!(told[0].last().map(String::as_str), Some("QUIT"));
}

#[test]
fn several_connections_work_at_once() {
    let server = Server::start(&[TAKES_ALL; 3]);
    let mut client = Client::new(&server, &[("connections", "3")]);
    let first: Vec<_> = (1..=3).map(|id| client.prepare(to_bob(id))).collect();
    // Each that is prepared keeps its connection, so there are three now.
    for answer in &first {
        get(answer).expect("prepared");
    }
    let rest: Vec<_> = (4..=6).map(|id| client.prepare(to_bob(id))).collect();
    // Each that is done makes room for another.
    for id in 1..=3 {
        let results = get(&client.complete(id)).expect("results");
        assert_eq!(outcomes(&results), [Outcome::Sent]);
    }
    for (id, answer) in (4..).zip(&rest) {
        get(answer).expect("prepared");
        assert_eq!(outcomes(&get(&client.complete(id)).expect("results")), [Outcome::Sent]);
    }
    client.smtp.logoff().expect("it logs off");
    assert_eq!(server.most_at_once(), 3);
    server.done();
}

#[test]
fn sessions_share_the_limit() {
    let server = Server::start(&[TAKES_ALL; 2]);
    let all = Destinations::default();
    let options = [("connections", "1")];
    let mut one = Client::with(server.port, &options, MESSAGE, &all);
    let mut two = Client::with(server.port, &options, MESSAGE, &all);
    get(&one.prepare(to_bob(1))).expect("prepared");
    let waits = two.prepare(to_bob(2));
    // The first one's connection is idle behind this, and given up for the one who waits.
    assert_eq!(outcomes(&get(&one.complete(1)).expect("results")), [Outcome::Sent]);
    get(&waits).expect("prepared");
    assert_eq!(outcomes(&get(&two.complete(2)).expect("results")), [Outcome::Sent]);
    drop((one, two));
    assert_eq!(server.most_at_once(), 1);
    let told = server.done();
    assert_eq!(told[0].last().map(String::as_str), Some("QUIT"));
}

#[test]
fn who_waits_for_a_connection_can_log_off() {
    let server = Server::start(&[TAKES_ALL]);
    let all = Destinations::default();
    let options = [("connections", "1")];
    let mut one = Client::with(server.port, &options, MESSAGE, &all);
    let mut two = Client::with(server.port, &options, MESSAGE, &all);
    get(&one.prepare(to_bob(1))).expect("prepared");
    let waits = two.prepare(to_bob(2));
    two.smtp.logoff().expect("it logs off");
    assert_eq!(get(&waits).expect_err("it is called off").code, Code::E_CANCEL);
    assert_eq!(outcomes(&get(&one.complete(1)).expect("results")), [Outcome::Sent]);
    drop((one, two));
    server.done();
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_replaced() {
    // Closed with and without a word, noticed before and only by the next command.
    let endings = ["close", "< 421 idle too long\nclose", "> MAIL\nclose", "> MAIL\n< 421 bye"];
    for ending in endings {
        let first = script(&format!("{ONE_MESSAGE}\n{ending}"));
        let server = Server::start(&[&first, TAKES_ALL]);
        let mut client = Client::new(&server, &[("connections", "1")]);
        for id in 1..=2 {
            let results = client.send(to_bob(id)).expect(ending);
            assert_eq!(outcomes(&results), [Outcome::Sent], "{ending}");
        }
        drop(client);
        server.done();
    }
}

#[test]
fn it_is_replaced_only_once() {
    let first = script(&format!("{ONE_MESSAGE}\nclose"));
    let server = Server::start(&[&first, &script("> MAIL\nclose")]);
    let mut client = Client::new(&server, &[("connections", "1")]);
    client.send(to_bob(1)).expect("results");
    let error = client.send(to_bob(2)).expect_err("it closes again");
    assert_eq!(error.code, Code::E_NETWORK_ERROR);
    drop(client);
    server.done();
}

#[test]
fn a_refusal_leaves_the_connection_usable() {
    let server = Server::start(&[&script(&format!(
        "> MAIL\n> RCPT\n< 250 ok\n< 550 no\n> RSET\n< 250 ok\n{ONE_MESSAGE}"
    ))]);
    let mut client = Client::new(&server, &[("connections", "1")]);
    assert_eq!(outcomes(&client.send(to_bob(1)).expect("results")), [Outcome::Failed]);
    assert_eq!(outcomes(&client.send(to_bob(2)).expect("results")), [Outcome::Sent]);
    drop(client);
    server.done();
}

#[test]
fn what_waits_behind_a_server_that_is_down_is_told_at_once() {
    // One connection is all that the server sees.
    let server = Server::start(&["close"]);
    let mut client = Client::new(&server, &[]);
    let answers: Vec<_> = (1..=8).map(|id| client.prepare(to_bob(id))).collect();
    for answer in answers {
        let error = get(&answer).expect_err("it is down");
        assert_eq!(error.code, Code::E_NETWORK_ERROR);
    }
    server.done();
}

#[test]
fn a_log_off_does_not_wait_for_a_server_that_hangs() {
    let server = Server::start(&["stall\nclose"]);
    let mut client = Client::new(&server, &[]);
    let answer = client.prepare(to_bob(1));
    server.wait_for_client();
    let began = std::time::Instant::now();
    client.smtp.logoff().expect("it logs off");
    assert!(began.elapsed() < Duration::from_secs(10));
    server.done();
    assert!(get(&answer).is_err());
}

#[test]
fn without_a_session_there_is_nothing_to_send() {
    let mut smtp =
        Smtp::new(&spec(1, &[]), &Destinations::default(), &Arc::default()).expect("settings");
    let (reply, answer) = way();
    smtp.prepare(to_bob(1), reply);
    assert_eq!(get(&answer).expect_err("no session").code, Code::E_NOT_INITIALIZED);
    let (reply, answer) = way();
    smtp.validate(AskedBy::Broker, reply);
    assert_eq!(get(&answer).expect_err("no session").code, Code::E_NOT_INITIALIZED);
}

#[test]
fn a_session_is_told_how_much_it_may_hand_over() {
    let options = [("connections", "3"), ("max_recipients", "7")];
    let mut smtp =
        Smtp::new(&spec(1, &options), &Destinations::default(), &Arc::default()).expect("settings");
    let facts = smtp.logon(Arc::new(Message(Arc::default()))).expect("it logs on");
    assert_eq!((facts.window, facts.recipients), (6, 7));
    let error =
        Smtp::new(&spec(1, &[("auth", "x")]), &Destinations::default(), &Arc::default()).err();
    let error = error.expect("a mistake");
    assert_eq!(error.code, Code::E_UNCONFIGURED);
    assert!(error.message.contains("relay") && error.message.contains("auth"), "{error}");
}
