//! What senders are told when a message fails, as parsers read it that know nothing of Sundown.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Home, Shell, run};
use crate::queue::transport;
use crate::servers::{Act, Scripted, program, skipped};

/// The parsers, in a language that has them: flufl.bounce, which mailing lists use, and that of the language itself.
const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail/read_notice.py");

/// A Python with the parsers; without it the test says so.
fn reader() -> Option<Command> {
    let pythons = ["/usr/bin/python3".into()].into_iter().chain(program("python3"));
    let has_parser = |python: &std::path::PathBuf| {
        let tried = Command::new(python).args(["-c", "import flufl.bounce"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let Some(python) = pythons.into_iter().find(has_parser) else {
        skipped("flufl.bounce is not installed");
        return None;
    };
    let mut command = Command::new(python);
    command.arg(READER);
    Some(command)
}

fn read(reader: Command, notice: &str) -> Value {
    run(reader, notice.as_bytes()).ok().json()
}

/// What Sisimai makes of each recipient; without it nothing, and the test says so.
fn sisimai(notice: &str) -> Option<Value> {
    const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail/read_notice.pl");
    let perl = program("perl").filter(|perl| {
        let tried = Command::new(perl).args(["-MSisimai", "-e", "1"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    });
    let Some(perl) = perl else {
        skipped("Sisimai is not installed");
        return None;
    };
    let mut reader = Command::new(perl);
    reader.arg(READER);
    Some(read(reader, notice))
}

/// The name of this host, as a notification has it.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("it has a name");
    name.trim().to_lowercase()
}

fn submit(home: &Home, shell: &mut Shell, to: &str) -> String {
    let text = format!(
        "From: me@home.test\nTo: {to}\nBcc: hidden@home.test\nSubject: It fails\n\nhello\n"
    );
    shell.submit(1, &home.write("fails.eml", text))
}

/// Each recipient that failed is named with the server's own words and its status; the others are not.
///
/// QUEUE-16, design §3.18
#[test]
fn a_notice_says_the_right_thing_of_each_recipient() {
    let Some(reader) = reader() else { return };
    let server = Scripted::start(|verb, line| {
        let answer = match verb {
            "RCPT" if line.contains("gone@") => "550 5.1.1 <gone@x.test> no such user\r\n",
            "RCPT" if line.contains("long@") => "553-5.7.1 not from\r\n553 5.7.1 you\r\n",
            "RCPT" if line.contains("plain@") => "554 no\r\n",
            _ => return None,
        };
        Some(Act::Say(answer.into()))
    });
    let home = Home::new();
    home.sends_to(server.port(), "");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = submit(&home, &mut shell, "gone@x.test, long@y.test, plain@z.test, fine@x.test");
    home.entry_until(&entry, "bounced");
    let notices = shell.notices(1);
    assert_eq!(notices.len(), 1, "{notices:?}");
    let seen = read(reader, &notices[0]);
    let block = |address: &str, status: &str, words: &str| {
        json!({
            "Final-Recipient": format!("rfc822; {address}"),
            "Action": "failed",
            "Status": status,
            "Diagnostic-Code": format!("smtp; {words}"),
        })
    };
    let expected = json!({
        "type": "multipart/report",
        "report": "delivery-status",
        "parts": ["text/plain", "message/delivery-status", "text/rfc822-headers"],
        "defects": [],
        "temporary": [],
        "permanent": ["gone@x.test", "long@y.test", "plain@z.test"],
        "encodings": ["7bit", "7bit", "7bit", "7bit"],
        "returned": null,
        "mta": format!("dns; {}", host()),
        "recipients": [
            block("gone@x.test", "5.1.1", "550 5.1.1 <gone@x.test> no such user"),
            block("long@y.test", "5.7.1", "553 5.7.1 not from you"),
            block("plain@z.test", "5.0.0", "554 no"),
        ],
    });
    assert_eq!(seen, expected, "{}", notices[0]);
    assert!(!notices[0].contains("hidden@"), "{}", notices[0]);
    let Some(found) = sisimai(&notices[0]) else { return };
    let recipient = |address: &str, status: &str, words: &str, reason: &str| {
        json!({
            "recipient": address,
            "sender": "me@home.test",
            "action": "failed",
            "deliverystatus": status,
            "diagnosticcode": words,
            "diagnostictype": "SMTP",
            "reason": reason,
        })
    };
    let unknown = "550 5.1.1 <gone@x.test> no such user";
    assert_eq!(found[0], recipient("gone@x.test", "5.1.1", unknown, "userunknown"), "{found}");
    assert_eq!(found[1]["recipient"], "long@y.test", "{found}");
    assert_eq!(found[1]["deliverystatus"], "5.7.1", "{found}");
    assert_eq!(found[2]["recipient"], "plain@z.test", "{found}");
    assert_eq!(found.as_array().map(Vec::len), Some(3), "{found}");
}

/// RFC 6533: what is beyond ASCII has parts of its own types, which are labelled right.
///
/// design §3.18
#[test]
fn a_notice_about_an_address_beyond_ascii_is_read_by_others() {
    let Some(reader) = reader() else { return };
    let server = Scripted::start(|verb, _| {
        (verb == "RCPT").then(|| Act::Say("550 5.1.1 no such user\r\n".into()))
    });
    let home = Home::new();
    home.sends_to(server.port(), "");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = submit(&home, &mut shell, "j\u{fc}rgen@b\u{fc}cher.test, bob@b\u{fc}cher.test");
    home.entry_until(&entry, "bounced");
    let seen = read(reader, &shell.notices(1)[0]);
    let parts = ["text/plain", "message/global-delivery-status", "message/global-headers"];
    assert_eq!(seen["parts"], json!(parts), "{seen}");
    assert_eq!(seen["encodings"], json!(["8bit", "8bit", "8bit", "8bit"]), "{seen}");
    assert_eq!(seen["defects"], json!([]), "{seen}");
    let found: Vec<_> = seen["recipients"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| &r["Final-Recipient"])
        .collect();
    let hidden = "rfc822; hidden@home.test";
    let expected =
        ["utf-8; j\u{fc}rgen@xn--bcher-kva.test", "rfc822; bob@xn--bcher-kva.test", hidden];
    assert_eq!(found, expected, "{seen}");
}

/// `sendmail -R full` returns the message as it was sent, of any bytes (RFC 3461).
///
/// design §3.18
#[test]
fn a_whole_message_comes_back_to_who_wants_it() {
    let server = Scripted::start(|verb, _| {
        (verb == "RCPT").then(|| Act::Say("550 5.1.1 no such user\r\n".into()))
    });
    for (body, encoding) in [("hello", "7bit"), ("Gr\u{fc}\u{df}e", "8bit")] {
        let Some(reader) = reader() else { return };
        let home = Home::new();
        home.sends_to(server.port(), "");
        let _broker = home.serve();
        let mut shell = home.shell();
        shell.ok("logon");
        let text = format!("Subject: x\nBcc: hidden@home.test\n\n{body}\n");
        run(home.bare(&["sendmail", "-R", "full", "gone@x.test"]), text.as_bytes()).ok();
        home.rows_until("it bounces", |rows| rows.iter().any(|row| row["state"] == "bounced"));
        let notices = shell.notices(1);
        let seen = read(reader, &notices[0]);
        assert_eq!(seen["parts"][2], "message/rfc822", "{seen}");
        assert_eq!(seen["encodings"], json!([encoding, "7bit", "7bit", encoding]), "{seen}");
        assert_eq!(seen["permanent"], json!(["gone@x.test"]), "{seen}");
        let returned = seen["returned"].as_str().expect("a message").replace("\r\n", "\n");
        assert!(returned.ends_with(&format!("\n\n{body}\n")), "{seen}");
        assert!(!notices[0].contains("hidden@"), "{}", notices[0]);
    }
}

/// What ran out of time, and what nobody knows, have a status of their own.
///
/// design §3.17, §3.18
#[test]
fn a_notice_says_why_a_message_was_given_up() {
    let Some(_) = reader() else { return };
    let cases: [(&str, &str, &str, &str); 2] = [
        ("RCPT", "450 4.2.0 greylisted\r\n", "4.4.7", "greylisted"),
        (".", "", "4.4.2", "it is not known whether it was delivered"),
    ];
    for (at, answer, status, words) in cases {
        let Some(reader) = reader() else { return };
        let server = Scripted::start(move |verb, _| {
            let act = if answer.is_empty() { Act::Close } else { Act::Say(answer.into()) };
            (verb == at).then_some(act)
        });
        let home = Home::new();
        let queue = "[queue]\nretry_min = \"10ms\"\nretry_max = \"20ms\"\nmax_age = \"100ms\"\n";
        home.profile("default", &format!("{}{queue}", transport(server.port(), "")));
        let _broker = home.serve();
        let mut shell = home.shell();
        shell.ok("logon");
        let entry = submit(&home, &mut shell, "late@x.test");
        home.entry_until(&entry, "bounced");
        let notices = shell.notices(1);
        assert_eq!(notices.len(), 1, "{notices:?}");
        let seen = read(reader, &notices[0]);
        assert_eq!(seen["permanent"], json!(["hidden@home.test", "late@x.test"]));
        for recipient in seen["recipients"].as_array().expect("a list") {
            assert_eq!(recipient["Status"], status, "{seen}");
            let said = recipient["Diagnostic-Code"].as_str().expect("text");
            assert!(said.contains(words), "{seen}");
        }
        let tried = notices[0].contains("it was tried for ");
        assert_eq!(tried, status == "4.4.7", "{}", notices[0]);
        let Some(found) = sisimai(&notices[0]) else { continue };
        for recipient in found.as_array().expect("a list") {
            assert_eq!(recipient["deliverystatus"], status, "{found}");
            let said = recipient["diagnosticcode"].as_str().expect("text");
            assert!(said.contains(words), "{found}");
        }
        assert_eq!(found.as_array().map(Vec::len), Some(2), "{found}");
    }
}

/// A profile's notifications go to an address, without a sender; where that fails, nothing follows but a line of the log.
///
/// design §3.18
#[test]
fn a_notice_is_forwarded_and_never_again() {
    for postmaster_exists in [true, false] {
        let server = Scripted::start(move |verb, line| {
            let refused =
                line.contains("gone@") || (line.contains("postmaster@") && !postmaster_exists);
            (verb == "RCPT" && refused).then(|| Act::Say("550 5.1.1 no such user\r\n".into()))
        });
        let home = Home::new();
        home.sends_to(server.port(), "[notices]\nforward = \"postmaster@x.test\"\n");
        let broker = home.serve();
        let mut shell = home.shell();
        shell.ok("logon");
        run(home.bare(&["sendmail", "gone@x.test"]), "Subject: x\n\nhello\n").ok();
        home.rows_until("both", |rows| {
            let is_final = |row: &Value| row["state"] == "bounced" || row["state"] == "sent";
            rows.len() == 2 && rows.iter().all(is_final)
        });
        assert_eq!(shell.notices(1).len(), 1);
        let sent = server.taken_until(usize::from(postmaster_exists));
        assert_eq!(sent.len(), usize::from(postmaster_exists), "{sent:?}");
        for sent in &sent {
            assert!(sent.mail.starts_with("MAIL FROM:<>"), "{sent:?}");
            let text = String::from_utf8_lossy(&sent.message);
            assert!(text.contains("Auto-Submitted: auto-replied\r\n"), "{text}");
            assert!(text.contains("Final-Recipient: rfc822; gone@x.test\r\n"), "{text}");
            assert!(!text.contains("Return-Path"), "{text}");
        }
        let came_back = |line: &Value| line["event"] == "came-back" && line["level"] == "warn";
        broker.log_line("the message", |line| {
            came_back(line) && line["message"] == "a message came back"
        });
        if !postmaster_exists {
            let words = "a message without a sender, as a forwarded notification is, failed";
            broker.log_line("its notification", |line| came_back(line) && line["message"] == words);
        }
    }
}

/// A profile's command reads each notification.
///
/// design §3.18
#[test]
fn a_notice_is_read_by_a_command() {
    let server = Scripted::start(|verb, _| {
        (verb == "RCPT").then(|| Act::Say("550 5.1.1 no such user\r\n".into()))
    });
    let home = Home::new();
    let file = home.write("read", "");
    let script = "cat > \"$0.new\" && mv \"$0.new\" \"$0\"";
    let command = json!(["/bin/sh", "-c", script, file]);
    home.sends_to(server.port(), &format!("[notices]\ncommand = {command}\n"));
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    run(home.bare(&["sendmail", "gone@x.test"]), "Subject: x\n\nhello\n").ok();
    broker.log_line("the command", |line| line["message"] == "a notification was read");
    let read = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(shell.notices(1), [read]);
}

/// There is no notice about a message without a sender, nor for a sender that wants none.
///
/// design §3.18
#[test]
fn nobody_is_told_of_what_nobody_wants_to_hear() {
    let server = Scripted::start(|verb, _| {
        (verb == "RCPT").then(|| Act::Say("550 5.1.1 no such user\r\n".into()))
    });
    let home = Home::new();
    home.sends_to(server.port(), "");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    for flags in [["-f", ""], ["-N", "never"]] {
        let arguments = [&["sendmail"], &flags[..], &["gone@x.test"]].concat();
        run(home.bare(&arguments), "Subject: x\n\nhello\n").ok();
    }
    home.rows_until("both", |rows| {
        rows.len() == 2 && rows.iter().all(|row| row["state"] == "bounced")
    });
    assert!(shell.notices(1).is_empty());
}

/// Notifications in the Inbox, as soon as there are so many.
fn notices_until(shell: &mut Shell, count: usize) -> Vec<String> {
    let since = std::time::Instant::now();
    loop {
        let notices = shell.notices(1);
        if notices.len() >= count {
            return notices;
        }
        assert!(!crate::harness::left(since).is_zero(), "waiting for {count}: {notices:#?}");
    }
}

/// A delay is told once, and read as one that is no failure; whoever names occasions without it is told nothing.
///
/// design §3.18
#[test]
fn a_delay_is_read_by_others() {
    let Some(reader) = reader() else { return };
    let server = Scripted::start(|verb, line| {
        (verb == "RCPT" && line.contains("late"))
            .then(|| Act::Say("450 4.2.0 greylisted\r\n".into()))
    });
    let home = Home::new();
    let queue =
        "[queue]\nretry_min = \"10ms\"\nretry_max = \"20ms\"\n[notices]\ndelay_after = \"50ms\"\n";
    home.profile("default", &format!("{}{queue}", transport(server.port(), "")));
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    run(home.bare(&["sendmail", "-N", "failure", "late-and-silent@x.test"]), b"Subject: x\n\nx\n")
        .ok();
    let entry = submit(&home, &mut shell, "late@x.test, fine@x.test");
    let notices = notices_until(&mut shell, 1);
    home.entry_with(&entry, "tried again", |row| row["attempts"].as_u64() > Some(9));
    assert_eq!(shell.notices(1).len(), 1);
    let seen = read(reader, &notices[0]);
    assert_eq!(seen["defects"], json!([]), "{seen}");
    assert_eq!(seen["temporary"], json!(["late@x.test"]), "{seen}");
    assert_eq!(seen["permanent"], json!([]), "{seen}");
    let expected = json!([{
        "Final-Recipient": "rfc822; late@x.test",
        "Action": "delayed",
        "Status": "4.2.0",
        "Diagnostic-Code": "smtp; 450 4.2.0 greylisted",
    }]);
    assert_eq!(seen["recipients"], expected, "{}", notices[0]);
    assert!(notices[0].contains("\nWill-Retry-Until: "), "{}", notices[0]);
    let Some(found) = sisimai(&notices[0]) else { return };
    assert_eq!(found[0]["action"], "delayed", "{found}");
    assert_eq!(found[0]["deliverystatus"], "4.2.0", "{found}");
}

/// `sendmail -N success` reports where a message was handed over, if the server sends no reports (RFC 3461).
///
/// design §3.18
#[test]
fn a_success_is_read_by_others() {
    let Some(reader) = reader() else { return };
    let server = Scripted::start(|_, _| None);
    let home = Home::new();
    home.sends_to(server.port(), "");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    for wants in ["failure", "success"] {
        let arguments = ["sendmail", "-N", wants, "bob@x.test"];
        run(home.bare(&arguments), format!("Subject: {wants}\n\nx\n").as_bytes()).ok();
    }
    let notices = notices_until(&mut shell, 1);
    let seen = read(reader, &notices[0]);
    assert_eq!((&seen["temporary"], &seen["permanent"]), (&json!([]), &json!([])), "{seen}");
    assert_eq!(seen["recipients"][0]["Action"], "relayed", "{}", notices[0]);
    assert!(notices[0].contains("Subject: success"), "{}", notices[0]);
}

/// Who sends by hand learns of earlier messages that came back, until their notifications were read.
///
/// design §3.18
#[test]
fn a_sender_learns_of_what_came_back() {
    let server = Scripted::start(|verb, line| {
        (verb == "RCPT" && line.contains("gone")).then(|| Act::Say("550 5.1.1 no\r\n".into()))
    });
    let home = Home::new();
    home.sends_to(server.port(), "");
    let _broker = home.serve();
    let send = || run(home.bare(&["send", "--to", "bob@x.test"]), "hello\n");
    let first = send();
    assert_eq!(first.ok().errors, "");
    for n in 1..=2 {
        run(home.bare(&["sendmail", "gone@x.test"]), "Subject: x\n\nhello\n").ok();
        home.rows_until("they bounce", |rows| {
            rows.iter().filter(|row| row["state"] == "bounced").count() == n
        });
        let said = send().ok().errors.clone();
        assert!(said.starts_with("sundown: ") && said.contains("`sundown queue list`"), "{said}");
        assert!(
            said.contains(["1 earlier message came", "2 earlier messages came"][n - 1]),
            "{said}"
        );
    }
    let mut shell = home.shell();
    shell.ok("logon");
    assert_eq!(shell.notices(1).len(), 2);
    assert_eq!(send().ok().errors, "");
}
