//! What goes over the wire: extensions, addresses, reports.

use sundown_protocol::request::{Notify, Report, Returned};

use super::*;

/// What a server with these extensions was told up to the end of the envelope, and what became of the recipients.
fn envelope(
    extensions: &[&str],
    message: &[u8],
    transmission: Transmission,
) -> (Vec<String>, Vec<RecipientResult>) {
    let mut hello = "< 220 test\n> EHLO\n< 250-test\n".to_owned();
    for extension in extensions {
        hello += &format!(
            "< 250-{extension}
"
        );
    }
    hello += "< 250 HELP\n";
    let count = transmission.recipients.len();
    let server = Server::start(&[&format!("{hello}\nanything")]);
    let mut client = Client::with(server.port, &[], message, &Destinations::default());
    let results = client.send(transmission).expect("results");
    assert_eq!(results.len(), count);
    drop(client);
    let told = server.done().remove(0);
    let in_envelope = |line: &String| line.starts_with("MAIL") || line.starts_with("RCPT");
    (told.into_iter().filter(in_envelope).collect(), results)
}

fn from_to(from: &str, to: &[&str]) -> Transmission {
    Transmission { from: from.into(), ..transmission(1, to) }
}

#[test]
fn nothing_is_asked_for_that_is_not_offered() {
    let (told, results) = envelope(&[], MESSAGE, to_bob(1));
    assert_eq!(told, ["MAIL FROM:<anna@example.org>", "RCPT TO:<bob@example.net>"]);
    assert_eq!(outcomes(&results), [Outcome::Sent]);
}

#[test]
fn a_notification_has_no_sender() {
    let (told, _) = envelope(&["SIZE"], MESSAGE, from_to("", &["bob"]));
    assert_eq!(told, ["MAIL FROM:<> SIZE=35", "RCPT TO:<bob>"]);
}

#[test]
fn a_message_that_is_too_big_is_not_sent() {
    let (told, results) = envelope(&["SIZE 34"], MESSAGE, to_bob(1));
    assert!(told.is_empty());
    assert_eq!(outcomes(&results), [Outcome::Failed]);
    let words = &results[0].reply;
    assert!(words.starts_with("5.3.4 the message has 35 bytes"), "{words}");
    let (_, results) = envelope(&["SIZE 35"], MESSAGE, to_bob(1));
    assert_eq!(outcomes(&results), [Outcome::Sent]);
}

/// What a server with these extensions was told in all, of a message that it took.
fn taken(extensions: &str, message: &[u8]) -> String {
    let hello = format!("< 220 test\n> EHLO\n< 250-test\n{extensions}< 250 HELP\nanything");
    let server = Server::start(&[&hello]);
    let mut client = Client::with(server.port, &[], message, &Destinations::default());
    assert_eq!(outcomes(&client.send(to_bob(1)).expect("results")), [Outcome::Sent]);
    drop(client);
    server.done().remove(0).join("\n")
}

#[test]
fn eight_bits_are_converted_for_a_server_that_does_not_take_them() {
    let message = "Subject: x\n\nb\u{fc}cher \n".as_bytes();
    let told = taken("< 250-8BITMIME\n< 250-SIZE\n", message);
    assert!(told.contains("MAIL FROM:<anna@example.org> SIZE=24 BODY=8BITMIME\n"), "{told}");
    assert!(told.contains("\n\nb\u{fc}cher \n.\n"), "{told}");
    // The size is that of what is sent.
    let told = taken("< 250-SIZE\n", message);
    assert!(told.contains("MAIL FROM:<anna@example.org> SIZE=135\n"), "{told}");
    let wanted = "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
                  Content-Transfer-Encoding: quoted-printable\n\nb=C3=BCcher=20\n.\n";
    assert!(told.contains(wanted), "{told}");
    let (told, results) = envelope(&["SIZE 134"], message, to_bob(1));
    assert!(told.is_empty());
    assert!(
        results[0].reply.starts_with("5.3.4 the message has 135 bytes"),
        "{}",
        results[0].reply
    );
}

/// A signature is for these very bytes.
#[test]
fn what_is_signed_goes_as_it_is() {
    let message = "DKIM-Signature: v=1\nSubject: \u{fc}\n\n\u{fc}\n".as_bytes();
    let told = taken("< 250-SIZE\n", message);
    assert!(told.contains("MAIL FROM:<anna@example.org> SIZE=40\n"), "{told}");
    assert!(told.contains("\nSubject: \u{fc}\n\n\u{fc}\n.\n"), "{told}");
    let latin = b"DKIM-Signature: v=1\nSubject: \xfc\n\nx\n";
    let told = taken("< 250-8BITMIME\n< 250-SMTPUTF8\n", latin);
    assert!(told.contains("MAIL FROM:<anna@example.org> BODY=8BITMIME\n"), "{told}");
}

#[test]
fn a_large_message_is_converted_as_a_whole() {
    let mut message = b"Subject: x\n\n".to_vec();
    for n in 0..20_000 {
        message.extend_from_slice(format!(".{n} is a number \u{fc}\n").as_bytes());
    }
    let told = taken("", &message);
    let body: Vec<_> = told.lines().skip_while(|line| *line != "Subject: x").skip(5).collect();
    assert_eq!(body.len(), 20_000 + 2);
    for (n, line) in body.iter().take(20_000).enumerate() {
        assert_eq!(*line, format!("..{n} is a number =C3=BC"));
    }
}

#[test]
fn lines_that_are_too_long_are_broken() {
    let message = format!("Subject: x\n\n{}\n", "x".repeat(999));
    let told = taken("< 250-8BITMIME\n", message.as_bytes());
    assert!(told.lines().all(|line| line.len() <= 76), "{told}");
    let message = format!("Subject: x\n\n{}\n", "x".repeat(998));
    assert!(taken("", message.as_bytes()).contains(&"x".repeat(998)));
}

#[test]
fn a_head_beyond_ascii_asks_for_smtputf8_or_is_encoded() {
    let message = "Subject: b\u{fc}cher\n\nx\n".as_bytes();
    let told = taken("< 250-8BITMIME\n< 250-SMTPUTF8\n", message);
    assert!(told.contains("MAIL FROM:<anna@example.org> BODY=8BITMIME SMTPUTF8\n"), "{told}");
    assert!(told.contains("\nSubject: b\u{fc}cher\n"), "{told}");
    let told = taken("< 250-8BITMIME\n", message);
    assert!(told.contains("MAIL FROM:<anna@example.org>\n"), "{told}");
    assert!(told.contains("\nSubject: =?utf-8?q?b=C3=BCcher?=\n\nx\n"), "{told}");
    let told = taken("< 250-8BITMIME\n< 250-SMTPUTF8\n", b"Subject: b\xfccher\n\nx\n");
    assert!(told.contains("MAIL FROM:<anna@example.org>\n"), "{told}");
    assert!(told.contains("\nSubject: =?unknown-8bit?q?b=FCcher?=\n\nx\n"), "{told}");
}

/// A recipient beside it gets the message.
#[test]
fn an_address_beyond_ascii_in_a_head_keeps_nobody_from_the_message() {
    let message = "To: \u{fc}@b.example, bob@example.net\n\nx\n".as_bytes();
    let told = taken("< 250-8BITMIME\n", message);
    assert!(
        told.contains("\nTo: =?utf-8?q?=C3=BC=40b=2Eexample?= :;, bob@example.net\n"),
        "{told}"
    );
    let told = taken("< 250-8BITMIME\n< 250-SMTPUTF8\n", message);
    assert!(told.contains(" BODY=8BITMIME SMTPUTF8\n"), "{told}");
}

#[test]
fn addresses_beyond_ascii() {
    let to = ["bob@b\u{fc}cher.example", "b\u{f6}b@example.net", "eve@example.net"];
    let (told, results) = envelope(&[], MESSAGE, from_to("anna@\u{fc}.example", &to));
    let wanted = [
        "MAIL FROM:<anna@xn--tda.example>",
        "RCPT TO:<bob@xn--bcher-kva.example>",
        "RCPT TO:<eve@example.net>",
    ];
    assert_eq!(told, wanted);
    assert_eq!(outcomes(&results), [Outcome::Sent, Outcome::Failed, Outcome::Sent]);
    assert!(results[1].reply.starts_with("5.6.7 "), "{}", results[1].reply);

    let (told, results) = envelope(&["SMTPUTF8", "8BITMIME"], MESSAGE, from_to("a@x", &to));
    assert_eq!(told[0], "MAIL FROM:<a@x> SMTPUTF8");
    assert_eq!(told[2], "RCPT TO:<b\u{f6}b@example.net>");
    assert_eq!(outcomes(&results), [Outcome::Sent; 3]);

    let (told, results) = envelope(&[], MESSAGE, from_to("\u{e4}nna@x", &["a@x", "b@x"]));
    assert!(told.is_empty());
    assert_eq!(outcomes(&results), [Outcome::Failed; 2]);
}

#[test]
fn no_address_gets_out_of_its_place() {
    let to = ["a@x>\r\nRSET", "<a@x", "a@x> NOTIFY=NEVER", "a\0@x", "eve@example.net"];
    let (told, results) = envelope(&["DSN", "SMTPUTF8"], MESSAGE, from_to("a@x", &to));
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(outcomes(&results)[..4], [Outcome::Failed; 4]);
    assert_eq!(results[4].outcome, Outcome::Sent);
    let (told, results) = envelope(&[], MESSAGE, from_to("a@x>\r\nDATA", &["a@x"]));
    assert!(told.is_empty());
    assert_eq!(outcomes(&results), [Outcome::Failed]);
}

#[test]
fn reports_are_asked_for_where_they_are_offered() {
    let mut asked = to_bob(1);
    asked.report = Report {
        notify: Notify::SUCCESS.with(Notify::DELAY).with(Notify::FAILURE),
        returned: Returned::Full,
    };
    let (told, _) = envelope(&["DSN"], MESSAGE, asked.clone());
    let wanted = [
        "MAIL FROM:<anna@example.org> RET=FULL",
        "RCPT TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE,DELAY",
    ];
    assert_eq!(told, wanted);
    let (told, _) = envelope(&[], MESSAGE, asked.clone());
    assert_eq!(told[1], "RCPT TO:<bob@example.net>");
    asked.report = Report { notify: Notify::NEVER, returned: Returned::Headers };
    let (told, _) = envelope(&["DSN"], MESSAGE, asked);
    assert!(told[0].ends_with(" RET=HDRS") && told[1].ends_with(" NOTIFY=NEVER"), "{told:?}");
}

/// RFC 3461, 5.2.2: who wants to know of the delivery is told where a message went, if the server sends no reports.
#[test]
fn a_server_without_reports_is_said_to_be_one() {
    for (offers, notify, outcome) in [
        (&["DSN"][..], Notify::SUCCESS, Outcome::Sent),
        (&[], Notify::SUCCESS, Outcome::Relayed),
        (&[], Notify::default(), Outcome::Sent),
        (&[], Notify::NEVER, Outcome::Sent),
    ] {
        let mut asked = to_bob(1);
        asked.report.notify = notify;
        let (_, results) = envelope(offers, MESSAGE, asked);
        assert_eq!(outcomes(&results), [outcome], "{offers:?} {notify:?}");
    }
}

#[test]
fn commands_go_out_together_only_where_that_is_offered() {
    let pipelined = script(
        "> MAIL
        > RCPT
        > RCPT
        < 250 ok
        < 250 ok
        < 250 ok
        > DATA
        < 354 go on
        message
        < 250 ok",
    );
    let alone = "< 220 test
        > EHLO
        < 250 test
        > MAIL
        < 250 ok
        > RCPT
        < 250 ok
        > RCPT
        < 250 ok
        > DATA
        < 354 go on
        message
        < 250 ok";
    for script in [pipelined.as_str(), alone] {
        let server = Server::start(&[script]);
        let mut client = Client::new(&server, &[]);
        let results = client.send(transmission(1, &["a@x", "b@x"])).expect("results");
        assert_eq!(outcomes(&results), [Outcome::Sent; 2]);
        drop(client);
        server.done();
    }
}

#[test]
fn many_recipients_go_in_batches() {
    let names: Vec<_> = (0..120).map(|n| format!("user{n}@example.net")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (told, results) = envelope(&["PIPELINING"], MESSAGE, transmission(1, &names));
    assert_eq!(told.len(), 121);
    assert_eq!(outcomes(&results), vec![Outcome::Sent; 120]);
}

#[test]
fn an_old_server_on_this_host_is_greeted_the_old_way() {
    let server = Server::start(&["< 220 test
        > EHLO
        < 502 what
        > HELO me.example.org
        < 250 test
        > MAIL FROM:<anna@example.org>
        < 250 ok
        > RCPT
        < 250 ok
        > DATA
        < 354 go on
        message
        < 250 ok"]);
    let mut client = Client::new(&server, &[]);
    assert_eq!(outcomes(&client.send(to_bob(1)).expect("results")), [Outcome::Sent]);
    drop(client);
    server.done();
}

#[test]
fn a_large_message_arrives_as_it_is() {
    let mut message = b"Subject: x\n\n".to_vec();
    for n in 0..20_000 {
        message.extend_from_slice(format!(".{n}\r\n{n} \rbare\n").as_bytes());
    }
    let server = Server::start(&["< 220 test\n> EHLO\n< 250 test\nanything"]);
    let mut client = Client::with(server.port, &[], &message, &Destinations::default());
    assert_eq!(outcomes(&client.send(to_bob(1)).expect("results")), [Outcome::Sent]);
    drop(client);
    let told = server.done().remove(0);
    let body: Vec<_> = told.iter().skip_while(|line| *line != "Subject: x").skip(2).collect();
    assert_eq!(body.len(), 60_000 + 2);
    for (n, lines) in body.chunks_exact(3).take(20_000).enumerate() {
        assert_eq!(*lines[0], format!("..{n}"));
        assert_eq!(*lines[1], format!("{n} "));
        assert_eq!(lines[2], "bare");
    }
}
