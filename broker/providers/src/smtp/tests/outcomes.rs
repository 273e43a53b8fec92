//! What becomes of messages, whatever the server does.

use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::*;

/// Soon enough for a test, and late enough for a machine that is busy.
const SOON: (&str, &str) = ("timeout", "500");

fn one(rest: &str, options: &[(&str, &str)]) -> Result<Vec<RecipientResult>> {
    one_message(rest, options, MESSAGE)
}

fn one_message(
    rest: &str,
    options: &[(&str, &str)],
    message: &[u8],
) -> Result<Vec<RecipientResult>> {
    let server = Server::start(&[&script(rest)]);
    let mut client = Client::with(server.port, options, message, &Destinations::default());
    let results = client.send(to_bob(1));
    drop(client);
    server.done();
    results
}

const ENVELOPE: &str = "> MAIL FROM:<anna@example.org> SIZE=
    > RCPT TO:<bob@example.net>
    < 250 ok
    < 250 ok";

#[test]
fn a_message_goes_out() {
    let server = Server::start(&[&script(
        "> MAIL FROM:<anna@example.org> SIZE=35
        > RCPT TO:<bob@example.net>
        < 250 ok
        < 250 ok
        > DATA
        < 354 go on
        message
        < 250-2.0.0 queued
        < 250 2.0.0 as 17",
    )]);
    let mut client = Client::new(&server, &[]);
    let results = client.send(to_bob(1)).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Sent]);
    assert_eq!(results[0].reply, "250 2.0.0 queued as 17");
    client.smtp.logoff().expect("it logs off");
    let wanted = [
        "EHLO me.example.org",
        "MAIL FROM:<anna@example.org> SIZE=35",
        "RCPT TO:<bob@example.net>",
        "DATA",
        "Subject: x",
        "To: bob",
        "",
        "body",
        "..dot",
        ".",
        "QUIT",
    ];
    assert_eq!(server.done(), [wanted]);
}

#[test]
fn recipients_are_refused_one_by_one() {
    let server = Server::start(&[&script(
        "> MAIL
        > RCPT TO:<a@x>
        > RCPT TO:<b@x>
        > RCPT TO:<c@x>
        < 250 ok
        < 550-5.1.1 no
        < 550 5.1.1 such user
        < 250 ok
        < 450 4.2.0 later
        > DATA
        < 354 go on
        message
        < 250 ok",
    )]);
    let mut client = Client::new(&server, &[]);
    let results = client.send(transmission(1, &["a@x", "b@x", "c@x"])).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Failed, Outcome::Sent, Outcome::Later]);
    assert_eq!(results[0].reply, "550 5.1.1 no such user");
    drop(client);
    server.done();
}

/// What else there is goes in the next transaction, and no more than the server has said it takes.
#[test]
fn too_many_recipients_are_not_sent_yet() {
    for (answer, outcome) in [
        ("452 4.5.3 too many recipients", Outcome::NotSent),
        ("452 too many recipients", Outcome::NotSent),
        ("451 4.5.3 too many recipients", Outcome::NotSent),
        ("552 too many recipients", Outcome::NotSent),
        ("552 5.5.3 too many recipients", Outcome::NotSent),
        ("452 4.2.2 mailbox full", Outcome::Later),
        ("452 4.3.1 no room", Outcome::Later),
        ("552 5.2.2 mailbox full", Outcome::Failed),
        ("552 5.3.4 too large", Outcome::Failed),
    ] {
        let talk = format!(
            "> MAIL\n> RCPT\n> RCPT\n> RCPT\n< 250 ok\n< 250 ok\n< 250 ok\n< {answer}
             > DATA\n< 354 go on\nmessage\n< 250 ok"
        );
        let server = Server::start(&[&script(&talk)]);
        let mut client = Client::new(&server, &[]);
        let results = client.send(transmission(1, &["a@x", "b@x", "c@x"])).expect("results");
        assert_eq!(outcomes(&results), [Outcome::Sent, Outcome::Sent, outcome], "{answer}");
        drop(client);
        server.done();
    }
    // Where nobody was taken it is no matter of number.
    for (answer, outcome) in
        [("452 4.5.3 too many", Outcome::Later), ("552 too many", Outcome::Failed)]
    {
        let rest = format!("> MAIL\n> RCPT\n< 250 ok\n< {answer}");
        assert_eq!(outcomes(&one(&rest, &[]).expect("results")), [outcome], "{answer}");
    }
}

#[test]
fn the_next_transaction_has_no_more_recipients_than_the_server_takes() {
    let first = "> MAIL\n> RCPT TO:<a@x>\n> RCPT TO:<b@x>\n> RCPT TO:<c@x>
        < 250 ok\n< 250 ok\n< 452 4.5.3 many\n< 452 4.5.3 many
        > DATA\n< 354 go on\nmessage\n< 250 ok";
    let next = "> MAIL\n> RCPT TO:<b@x>\n< 250 ok\n< 550 5.1.1 no
        > RSET\n< 250 ok\n> MAIL\n> RCPT TO:<c@x>\n< 250 ok\n< 250 ok
        > DATA\n< 354 go on\nmessage\n< 250 ok";
    let third =
        "> MAIL\n> RCPT TO:<d@x>\n< 250 ok\n< 250 ok\n> DATA\n< 354 go on\nmessage\n< 250 ok";
    let server = Server::start(&[&script(&format!("{first}\n{next}\n{third}"))]);
    let mut client = Client::new(&server, &[("connections", "1")]);
    let results = client.send(transmission(1, &["a@x", "b@x", "c@x"])).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Sent, Outcome::NotSent, Outcome::NotSent]);
    let results = client.send(transmission(2, &["b@x", "c@x", "d@x"])).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Failed, Outcome::Sent, Outcome::NotSent]);
    let results = client.send(transmission(3, &["d@x"])).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Sent]);
    drop(client);
    server.done();
}

#[test]
fn without_recipients_there_is_no_data() {
    let rest = "> MAIL
        > RCPT
        < 250 ok
        < 550 no";
    assert_eq!(outcomes(&one(rest, &[]).expect("results")), [Outcome::Failed]);
}

#[test]
fn a_refused_sender_is_everybodys_result() {
    for (answer, outcome) in [("550 5.7.1 no", Outcome::Failed), ("451 later", Outcome::Later)] {
        let rest = format!("> MAIL\n> RCPT\n< {answer}\n< 503 what");
        let results = one(&rest, &[]).expect("results");
        assert_eq!((outcomes(&results), results[0].reply.as_str()), (vec![outcome], answer));
    }
}

#[test]
fn a_refused_message_is_told_in_the_servers_words() {
    let cases = [
        ("< 554 5.6.0 spam", Outcome::Failed),
        ("< 451 4.3.0 later", Outcome::Later),
        ("< 421 bye", Outcome::Later),
    ];
    for (answer, outcome) in cases {
        for data in [format!("> DATA\n{answer}"), format!("> DATA\n< 354 go on\nmessage\n{answer}")]
        {
            let results = one(&format!("{ENVELOPE}\n{data}"), &[]).expect("results");
            assert_eq!(outcomes(&results), [outcome], "{data}");
            assert_eq!(results[0].reply, answer.trim_start_matches("< "));
        }
    }
}

#[test]
fn a_connection_lost_before_data_is_offline() {
    let places = ["> MAIL\nclose", "> MAIL\n> RCPT\n< 250 ok\nclose"];
    for rest in places {
        let error = one(rest, &[]).expect_err(rest);
        assert_eq!(error.code, Code::E_NETWORK_ERROR, "{rest}");
    }
    let results = one(&format!("{ENVELOPE}\n> DATA\nclose"), &[]).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Offline]);
}

fn hello_fails(hello: &str, options: &[(&str, &str)]) -> ProviderError {
    let server = Server::start(&[hello]);
    let error = Client::new(&server, options).send(to_bob(1)).expect_err(hello);
    server.done();
    error
}

#[test]
fn a_connection_lost_in_the_greeting_is_offline() {
    for hello in ["close", "< 220 hi\n> EHLO\nclose", "hang"] {
        let error = hello_fails(hello, &[SOON]);
        assert_eq!(error.code, Code::E_NETWORK_ERROR, "{hello}: {error}");
    }
}

#[test]
fn a_server_that_is_not_ready_is_for_later() {
    let cases = [
        ("< 421 too busy", "421 too busy"),
        ("< 554 no service for you", "554 no service for you"),
        ("< 220 hi\n> EHLO\n< 421 bye", "421 bye"),
        ("< HTTP/1.1 400 Bad Request", "not SMTP"),
    ];
    for (hello, words) in cases {
        let error = hello_fails(hello, &[]);
        assert_eq!(error.code, Code::E_CALL_FAILED, "{hello}");
        assert!(error.message.contains(words), "{error}");
    }
    let error = hello_fails("< 220 hi\n> EHLO\nhang", &[SOON]);
    assert_eq!(error.code, Code::E_TIMEOUT);
}

#[test]
fn nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let mut client = Client::with(port, &[], MESSAGE, &Destinations::default());
    let error = client.send(to_bob(1)).expect_err("nobody listens");
    assert_eq!(error.code, Code::E_NETWORK_ERROR);
    assert!(error.message.contains("nothing listens there"), "{error}");
}

#[test]
fn after_the_dot_only_an_answer_tells() {
    for last in ["close", "hang", "< nonsense", "< 354 more", "< 250-half\nclose"] {
        let rest = format!("{ENVELOPE}\n> DATA\n< 354 go on\nmessage\n{last}");
        let results = one(&rest, &[SOON]).expect("results");
        assert_eq!(outcomes(&results), [Outcome::Unknown], "{last}");
        assert!(results[0].reply.contains("127.0.0.1:"), "{}", results[0].reply);
        assert!(results[0].reply.contains("may have gone out"), "{}", results[0].reply);
    }
}

/// Too much for any buffer between us and a server that does not read.
fn long_message() -> Vec<u8> {
    let mut message = b"Subject: x\n\n".to_vec();
    message.extend(b"0123456789abcdef\n".repeat(1 << 20));
    message
}

const LONG_HELLO: &str = "< 220 test\n> EHLO\n< 250-test\n< 250 PIPELINING";

#[test]
fn what_breaks_off_in_the_body_was_not_taken() {
    let cases = [
        ("body\nclose", Outcome::Later),
        ("body\n< 552 5.3.4 too big\nclose", Outcome::Failed),
        ("body\n< 452 4.3.1 full\nclose", Outcome::Later),
    ];
    for (last, outcome) in cases {
        let rest =
            format!("{LONG_HELLO}\n> MAIL\n> RCPT\n< 250 ok\n< 250 ok\n> DATA\n< 354 go on\n");
        let server = Server::start(&[&(rest + last)]);
        let none = Destinations::default();
        let mut client = Client::with(server.port, &[], &long_message(), &none);
        let results = client.send(to_bob(1)).expect("results");
        // A reset may overtake the server's last words; the message was not taken in any case.
        let found = results[0].outcome;
        assert!(found == outcome || found == Outcome::Later, "{last}: {results:?}");
        server.done();
    }
}

#[test]
fn a_server_that_stops_reading_is_left() {
    let rest =
        format!("{LONG_HELLO}\n> MAIL\n> RCPT\n< 250 ok\n< 250 ok\n> DATA\n< 354 go on\nstall");
    let server = Server::start(&[&rest]);
    let none = Destinations::default();
    let options = [SOON];
    let mut client = Client::with(server.port, &options, &long_message(), &none);
    let results = client.send(to_bob(1)).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Later]);
    drop(client);
    server.done();
}

#[test]
fn an_answer_that_trickles_is_not_waited_for() {
    // A byte comes long before any single read has waited long enough.
    let options = [SOON];
    let error = one("> MAIL\ntrickle", &options).expect_err("no answer");
    assert_eq!(error.code, Code::E_TIMEOUT);
    let rest = format!("{ENVELOPE}\n> DATA\n< 354 go on\nmessage\ntrickle");
    assert_eq!(outcomes(&one(&rest, &options).expect("results")), [Outcome::Unknown]);
}

#[test]
fn a_message_that_cannot_be_read_is_not_sent() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server, &[]);
    let mut broken = to_bob(1);
    broken.record = 0xBAD;
    let error = client.send(broken).expect_err("it cannot be read");
    assert_eq!(error.code, Code::E_DISK_ERROR);
    server.done();
}

#[test]
fn a_server_that_answers_nothing_in_time_is_for_later() {
    let options = [SOON];
    let error = one("> MAIL\nhang", &options).expect_err("no answer");
    assert_eq!(error.code, Code::E_TIMEOUT);
    let results = one(&format!("{ENVELOPE}\n> DATA\nhang"), &options).expect("results");
    assert_eq!(outcomes(&results), [Outcome::Later]);
}

#[test]
fn a_message_that_is_called_off_is_never_handed_over() {
    let server = Server::start(&[&script(ENVELOPE)]);
    let mut client = Client::new(&server, &[]);
    get(&client.prepare(to_bob(1))).expect("prepared");
    client.smtp.cancel(1);
    server.wait_for(0, "RSET");
    assert!(get(&client.complete(1)).expect("no results").is_empty());
    client.smtp.logoff().expect("it logs off");
    server.done();
}

#[test]
fn a_logoff_hands_nothing_over() {
    let server = Server::start(&[&script(ENVELOPE)]);
    let mut client = Client::new(&server, &[]);
    get(&client.prepare(to_bob(1))).expect("prepared");
    client.smtp.logoff().expect("it logs off");
    let told = server.done();
    assert!(!told[0].contains(&"DATA".to_owned()), "{told:?}");
    assert!(get(&client.complete(1)).expect("no results").is_empty());
}

#[test]
fn after_a_crash_nobody_knows() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server, &[]);
    let results = client.recover(transmission(1, &["a@x", "b@x"]), "old.example.org:25");
    assert_eq!(outcomes(&results), [Outcome::Unknown; 2]);
    assert!(results[0].reply.contains("old.example.org:25"), "{}", results[0].reply);
    server.done();
}

#[test]
fn a_server_that_wants_a_log_on_loses_no_mail() {
    let rest = "> MAIL\n> RCPT\n< 530 5.7.0 authenticate first\n< 503 what";
    let error = one(rest, &[]).expect_err("not logged on");
    assert_eq!(error.code, Code::E_LOGON_FAILED);
    assert!(error.message.contains("530 5.7.0"), "{error}");
}

#[test]
fn validating_connects_and_says_what_is_wrong() {
    let server = Server::start(&[HELLO, "< 421 not now"]);
    let mut client = Client::new(&server, &[]);
    client.validate().expect("it works");
    let error = client.validate().expect_err("not now");
    assert!(error.message.contains("421 not now"), "{error}");
    server.done();
}

#[test]
fn a_process_may_leave_fast() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server, &[]);
    let shutdown = client.smtp.shutdown().expect("it knows the interface");
    shutdown.query_fast_shutdown().expect("a yes");
    server.done();
}
