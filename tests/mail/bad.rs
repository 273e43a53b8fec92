//! What should not happen and does: servers that talk nonsense, messages that are none, a disk without room.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Broker, Home, Ran, run};
use crate::queue::{Fate, RETRIES, by_entry, transport};
use crate::servers::{Act, Scripted, Sink, port, program, root, skipped};

use Fate::{Bounced, Deferred, Sent, Unknown};

const SECOND: Duration = Duration::from_secs(1);

fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}

/// Misbehaviours: at which command, what is done, and what it means. Time limits are 2 s for an answer and 4 s for the
/// last one.
fn misbehaviours() -> Vec<(&'static str, Act, Fate)> {
    let mut rows = Vec::new();
    // At each command the same, with the same meaning up to the final dot.
    for command in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let fate = if command == "." { Unknown } else { Deferred };
        rows.extend([
            (command, Act::Close, fate),
            (command, Act::Hang, fate),
            (command, say("what do you want?\r\n"), fate),
            (command, say("\r\n"), fate),
            (command, say("999 beyond\r\n"), fate),
            (command, say("25\r\n"), fate),
            (command, say("\0\u{1}\u{2}\u{ff}\0\r\n"), fate),
            (command, say("250-one\r\n450 two\r\n"), fate),
            (command, Act::SayAndClose("25".into()), fate),
            (command, Act::Flood("x".into()), fate),
            (command, Act::Flood("250-more\r\n".into()), fate),
            (command, Act::Drip("250-at last, a byte a second\r\n".into(), SECOND), fate),
            (command, Act::SayAndClose("451 4.3.0 out of order\r\n".into()), Deferred),
        ]);
    }
    rows.extend([
        // An answer that means something else here.
        ("CONNECT", say("354 go on\r\n"), Deferred),
        ("MAIL", say("354 go on\r\n"), Deferred),
        ("RCPT", say("354 go on\r\n"), Deferred),
        ("DATA", say("250 taken\r\n"), Deferred),
        (".", say("354 go on\r\n"), Unknown),
        // Answers that come in pieces, or with line ends of another system, are answers all the same.
        ("EHLO", say("250-scripted\n250 SIZE\n"), Sent),
        ("MAIL", Act::Drip("250 ok\r\n".into(), SECOND / 10), Sent),
        (".", Act::Drip("250 ok\r\n".into(), SECOND / 10), Sent),
        // No more than a line, and then nothing.
        ("QUIT", Act::Hang, Sent),
        ("QUIT", Act::Close, Sent),
        // Within the message.
        ("BODY", Act::SayAndClose("451 4.3.0 not now\r\n".into()), Deferred),
        ("BODY", Act::SayAndClose("554 5.7.1 never\r\n".into()), Bounced),
        ("BODY", Act::Hang, Unknown),
        // It refuses for ever, and goes.
        (".", Act::SayAndClose("554 5.6.0 never\r\n".into()), Bounced),
        (".", Act::SayAndClose("250 taken\r\n".into()), Sent),
    ]);
    rows
}

/// A server that says anything at all at any command: what it surely did not take is sent when it behaves again, what it
/// may have taken is unknown and is not sent again, and the next message is not worse off.
///
/// QUEUE-15, design §3.17, §3.18
#[test]
fn whatever_a_server_says_is_survived() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    let rows = misbehaviours();
    let begin = |(number, (command, act, fate)): (usize, &(&'static str, Act, Fate))| {
        let (at, act) = (*command, act.clone());
        let server = Scripted::start(move |command, _| (command == at).then(|| act.clone()));
        let profile = format!("case{number}");
        home.profile(&profile, &format!("{}{RETRIES}", transport(server.port(), "")));
        let session = shell.ok(&format!("logon profile={profile}"))["session"].as_u64();
        let text = format!(
            "From: me@home.test\nTo: user@test\nSubject: {profile}\n\n{}end\n",
            "a line of the message\n".repeat(100)
        );
        let file = home.write(&format!("{profile}.eml"), text);
        (shell.submit(session.expect("a number"), &file), server, *fate)
    };
    let cases: Vec<_> = rows.iter().enumerate().map(begin).collect();
    let open = RefCell::new((0..cases.len()).collect::<BTreeSet<_>>());
    home.rows_until("every misbehaviour to show", |found| {
        let found = by_entry(found);
        let is_open = |at: &usize| {
            let ((entry, _, fate), (command, act, _)) = (&cases[*at], &rows[*at]);
            !fate.is_met(found[&**entry], &format!("{command} {act:?}"))
        };
        open.borrow_mut().retain(is_open);
        open.borrow().is_empty()
    });
    for (_, server, _) in &cases {
        server.heal();
    }
    home.rows_until("everything to settle", |found| {
        let found = by_entry(found);
        cases.iter().all(|(entry, _, fate)| found[&**entry]["state"] == fate.end())
    });
    for ((_, server, fate), (command, act, _)) in cases.iter().zip(&rows) {
        let taken = server.taken();
        let copies = usize::from(matches!(fate, Sent | Deferred));
        let closing =
            matches!((*command, act), (".", Act::SayAndClose(text)) if text.starts_with("250"));
        let copies = if closing { 0 } else { copies };
        assert_eq!(taken.len(), copies, "{command} {act:?}");
        for talk in taken {
            assert!(talk.mail.starts_with("MAIL FROM:<me@home.test>"), "{}", talk.mail);
            assert!(
                talk.message.ends_with(b"a line of the message\r\nend\r\n"),
                "{command} {act:?}"
            );
        }
    }
    drop((broker, shell));
}

/// A server that closes within a message, before its end can have come, has surely not taken it: the message waits, and is
/// sent once when the server behaves. It is larger than all buffers on the way, so that its end is still here.
///
/// QUEUE-15, design §3.17
#[test]
fn a_message_without_an_end_was_not_taken() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n";
    let text =
        format!("From: me@home.test\nTo: user@test\nSubject: large\n\n{}", line.repeat(400_000));
    let file = home.write("large.eml", &text);
    for (number, act) in
        [Act::Close, Act::CloseWithin(100), Act::CloseWithin(1 << 20)].iter().enumerate()
    {
        let script = act.clone();
        let server = Scripted::start(move |command, _| (command == "BODY").then(|| script.clone()));
        let profile = format!("case{number}");
        let retries = "[queue]\nretry_min = \"1h\"\n";
        home.profile(&profile, &format!("{}{retries}", transport(server.port(), "")));
        let session = shell.ok(&format!("logon profile={profile}"))["session"].as_u64();
        let entry = shell.submit(session.expect("a number"), &file);
        let found = |wanted: &'static str| {
            let entry = entry.clone();
            move |rows: &[Value]| {
                let row = rows.iter().find(|row| row["entry"] == *entry).expect("it is there");
                assert_ne!(row["state"], "unknown", "{row:#}");
                row["state"] == wanted
            }
        };
        home.rows_until("it waits", found("deferred"));
        server.heal();
        home.run(&["queue", "flush", "--profile", &profile]).ok();
        home.rows_until("it is sent", found("sent"));
        let taken = server.taken();
        assert_eq!(taken.len(), 1, "{act:?}");
        assert!(taken[0].message.ends_with(line.replace('\n', "\r\n").as_bytes()), "{act:?}");
    }
}

/// A server that accepts some recipients for ever, some for now and some not: who has it does not get it again.
///
/// QUEUE-14, design §3.18
#[test]
fn a_server_takes_some_recipients_only() {
    let server = Scripted::start(|command, line| {
        let refused = [("never", "550 5.1.1 nobody\r\n"), ("later", "450 4.2.0 not now\r\n")];
        let found = refused.iter().find(|(word, _)| command == "RCPT" && line.contains(word));
        found.map(|(_, answer)| say(answer))
    });
    let home = Home::new();
    home.sends_to(server.port(), "");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let to = "user1@test, never1@test, later1@test, user2@test, later2@test, never2@test";
    let text = format!("From: me@home.test\nTo: {to}\nSubject: some\n\nbody\n");
    let entry = shell.submit(1, &home.write("some.eml", text));
    let states = |row: &Value, wanted: &str| -> Vec<String> {
        let rows = row["recipients"].as_array().expect("rows").iter();
        let fit = rows.filter(|row| row["state"] == wanted);
        fit.map(|row| row["address"].as_str().expect("text").to_owned()).collect()
    };
    let row = home.entry_with(&entry, "some to wait", |row| row["attempts"].as_u64() > Some(3));
    assert_eq!(states(&row, "sent"), ["user1@test", "user2@test"]);
    assert_eq!(states(&row, "bounced"), ["never1@test", "never2@test"]);
    server.heal();
    let row = home.entry_with(&entry, "the others", |row| states(row, "sent").len() == 4);
    assert_eq!(states(&row, "bounced"), ["never1@test", "never2@test"]);
    let taken: Vec<_> = server.taken().into_iter().map(|talk| talk.recipients).collect();
    assert_eq!(taken, [["user1@test", "user2@test"], ["later1@test", "later2@test"]]);
}

/// Two transports: what the first does not take goes by the second, whatever happens to the first.
///
/// QUEUE-7, QUEUE-16
#[test]
fn a_server_that_hangs_holds_up_its_own_mail_only() {
    let hangs = Scripted::start(|command, _| (command == "MAIL").then_some(Act::Hang));
    let works = Scripted::start(|_, _| None);
    let home = Home::new();
    let first = transport(hangs.port(), "name = \"first\"\n").replace("[\"*\"]", "[\"slow.test\"]");
    let second = transport(works.port(), "name = \"second\"\n");
    home.profile("default", &format!("{first}{second}{RETRIES}"));
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let mut submit = |to: &str, subject: &str| {
        let text = format!("From: me@home.test\nTo: {to}\nSubject: {subject}\n\nbody\n");
        shell.submit(1, &home.write(&format!("{subject}.eml"), text))
    };
    let slow: Vec<_> = (0..10).map(|n| submit("user@slow.test", &format!("slow{n}"))).collect();
    let quick: Vec<_> = (0..10).map(|n| submit("user@test", &format!("quick{n}"))).collect();
    for entry in &quick {
        home.entry_until(entry, "sent");
    }
    hangs.heal();
    for entry in &slow {
        home.entry_until(entry, "sent");
    }
    assert_eq!((hangs.taken().len(), works.taken().len()), (10, 10));
}

/// Hands a message over as programs do; to the broker of this home, also if the host has one for everybody.
fn sendmail(home: &Home, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
    let mut command = home.bare(&["--no-autostart", "--socket"]);
    command.arg(home.socket()).arg("sendmail").args(arguments);
    run(command, input)
}

/// Messages that are hardly any: bytes arrive as they are, but for what SMTP does not carry.
///
/// design §3.20, §8
#[test]
fn hardly_any_message_arrives_unharmed() {
    if !Sink::installed() {
        return;
    }
    let (home, sink) = (Home::new(), Sink::start(&[]));
    home.sends_to(sink.port(), "");
    let _broker = home.serve();
    let long = vec![b'x'; 1 << 20];
    let bodies: [&[u8]; 7] = [
        b"Subject: nul\n\na\0b\0\n",
        &[b"Subject: long head\nX-Long: ", &long[..], b"\n\nbody\n"].concat(),
        b"Subject: folded\n  twice\n\tand again\n\n.\n..\n.\n\n",
        b"Subject : a space\n\nno field at all\n: no name\n\nbody\n",
        b"Subject: =?utf-8?b?broken\nContent-Type: multipart/mixed; boundary=\n\nbody\n",
        b"no head at all\nhere\n",
        b"Subject: dots\n\n.\n..\n...\n.x\n",
    ];
    for (number, body) in bodies.iter().enumerate() {
        let ran = sendmail(&home, &["-i", "-f", "me@home.test", "user@test"], body);
        assert!(ran.status.success(), "{number}: {ran:?}");
        home.rows_until("it is sent", |rows| {
            rows.iter().filter(|row| row["state"] == "sent").count() == number + 1
        });
        let ends = sink.received().iter().any(|r| r.message.ends_with(body));
        let beginning = String::from_utf8_lossy(&body[..body.len().min(100)]);
        assert!(ends, "{number} has not come as it is: {beginning:?}: {:?}", sink.received());
    }
    assert_eq!(sink.received().len(), bodies.len());
    let converted: [(&[u8], &[u8]); 2] = [
        (
            b"Subject: \xff\xfe\n\n\xff\xc3\x28\n",
            b"Subject: =?unknown-8bit?q?=FF=FE?=\n\n\xff\xc3\x28\n",
        ),
        (
            &[b"Subject: long\n\n", &long[..], b"\n"].concat(),
            &[&vec![b'x'; (1 << 20) % 75][..], b"\n"].concat(),
        ),
    ];
    for (number, (body, wanted)) in converted.iter().enumerate() {
        let ran = sendmail(&home, &["-i", "-f", "me@home.test", "user@test"], body);
        assert!(ran.status.success(), "{number}: {ran:?}");
        home.rows_until("it is sent", |rows| {
            rows.iter().filter(|row| row["state"] == "sent").count() == bodies.len() + number + 1
        });
        let ends = sink.received().iter().any(|r| r.message.ends_with(wanted));
        assert!(ends, "{number} has not come as it should");
    }
}

/// Ten thousand recipients, in as many transactions as the server's limit makes of them, each once.
///
/// QUEUE-14, design §6
#[test]
fn ten_thousand_recipients_get_it_once_each() {
    if !Sink::installed() {
        return;
    }
    let (home, sink) = (Home::new(), Sink::start(&[]));
    home.sends_to(sink.port(), "");
    let _broker = home.serve();
    let to: Vec<_> = (0..10_000).map(|n| format!("user{n}@test")).collect();
    let text = format!("Bcc: {}\nSubject: all\n\nhi\n", to.join(",\n "));
    let sent = home.run_with(&["--json", "send", "--wait=60", "-"], &text).ok().json();
    assert_eq!(sent["state"], "sent");
    let mut got = BTreeMap::new();
    for received in sink.received() {
        assert!(received.recipients.len() <= 100 && !received.text().contains("user"));
        for recipient in &received.recipients {
            let address = recipient.split(['<', '>']).nth(1).expect("an address").to_owned();
            *got.entry(address).or_insert(0) += 1;
        }
    }
    assert_eq!(got.len(), 10_000);
    assert!(got.values().all(|count| *count == 1));
}

/// A broker whose data is on a disk of a few megabytes, which nobody else sees.
fn serve_on_small_disk(home: &Home) -> Option<Broker> {
    let unshare = program("unshare")?;
    // Some kernels and containers forbid it, also to root.
    let mut tried = Command::new(&unshare);
    tried.args(["-m", "sh", "-c", "mount -t tmpfs none \"$0\""]).arg(home.as_ref());
    if !tried.output().is_ok_and(|tried| tried.status.success()) {
        return None;
    }
    std::fs::create_dir_all(home.data()).expect("made");
    let serve = home.command(&["serve", "--log-format", "json"]);
    let mut command = Command::new(unshare);
    command.args(["-m", "sh", "-c"]);
    command.arg("mount -t tmpfs -o size=8m,mode=700 none \"$0\" && exec \"$@\"").arg(home.data());
    command.arg(serve.get_program()).args(serve.get_args()).current_dir(home.as_ref()).env_clear();
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let broker = Broker::spawn(command);
    broker.log_line("the broker is ready", |line| line["message"] == "ready");
    Some(broker)
}

/// A full disk: whoever submits is told, and nothing is half stored; what was in the queue before is sent once and no more
/// than once; when there is room again everything goes on.
///
/// design §3.8, §3.16, §10
#[test]
fn a_full_disk_loses_and_repeats_nothing() {
    if !Sink::installed() || !root("a small disk") {
        return;
    }
    let (home, port) = (Home::new(), port());
    home.sends_to(port, "");
    let Some(broker) = serve_on_small_disk(&home) else {
        return skipped("a small disk cannot be mounted here");
    };
    let mut shell = home.shell();
    shell.ok("logon");
    let before = shell.submit(1, &home.letter("before"));
    home.entry_with(&before, "a reason", |row| row["last_error"].is_string());
    // The disk as the broker sees it.
    let inside = |name: &str| {
        let data = home.data();
        let path = data.strip_prefix("/").expect("it begins there");
        std::path::PathBuf::from(format!("/proc/{}/root", broker.pid())).join(path).join(name)
    };
    let fill = std::fs::File::create(inside("filler")).expect("there is room");
    let block = vec![0; 64 << 10];
    while std::io::Write::write_all(&mut &fill, &block).is_ok() {}
    while std::io::Write::write_all(&mut &fill, b"x").is_ok() {}
    let big = format!("To: user@test\nSubject: big\n\n{}", "0123456789\n".repeat(100_000));
    let big = home.write("big.eml", big);
    for _ in 0..3 {
        let reply = shell.ask(&format!("submit session=1 file={}", big.display()));
        let code = reply["error"]["code"].as_str().unwrap_or_default();
        assert!(["MAPI_E_NOT_ENOUGH_DISK", "MAPI_E_DISK_ERROR"].contains(&code), "{reply}");
    }
    home.run(&["send", "big.eml"]).exits(1);
    let ran = sendmail(&home, &["user@test"], "0123456789\n".repeat(100_000));
    assert!([74, 75].contains(&ran.status.code().unwrap_or_default()), "{ran:?}");
    // It can be read all the same, and nothing of that is there.
    let subjects = |rows: &[Value]| -> Vec<String> {
        rows.iter().map(|row| row["subject"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(subjects(&home.rows()), ["before"]);
    let sink = Sink::at(port, &[]);
    home.run(&["queue", "flush"]);
    std::fs::remove_file(inside("filler")).expect("removed");
    drop(fill);
    home.run(&["queue", "flush"]).ok();
    home.entry_until(&before, "sent");
    let after = shell.submit(1, &big);
    home.entry_until(&after, "sent");
    assert_eq!(subjects(&home.rows()), ["before", "big"]);
    let mut received: Vec<_> =
        sink.received().iter().map(crate::servers::Received::subject).collect();
    received.sort();
    assert_eq!(received, ["before", "big"]);
    // One that is too large for the disk leaves room for those that are not.
    let huge = format!("To: user@test\nSubject: huge\n\n{}", "0123456789\n".repeat(700_000));
    let huge = home.write("huge.eml", huge);
    shell.fails(&format!("submit session=1 file={}", huge.display()), "MAPI_E_NOT_ENOUGH_DISK");
    for n in 0..20 {
        shell.submit(1, &home.letter(&format!("small{n}")));
    }
}
