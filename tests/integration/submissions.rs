//! Submitting, and what becomes of it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::harness::{Home, says};

/// A submission that is not final is what counts at a logoff: it stays in the queue, and who logs on next finds it sent.
///
/// SEED-1, SEED-2, QUEUE-10
#[test]
fn what_was_submitted_before_a_logoff_is_sent_after_it() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let submitted = shell.ok(&format!("submit session=1 file={}", home.message("bye").display()));
    assert_eq!(submitted["state"], "queued");
    let left = shell.ok("logoff session=1");
    assert!(left["queued"].as_u64().is_some_and(|queued| queued <= 1), "{left}");
    broker.until("the message", || home.maildir("default").count() == 1);
    assert_eq!(home.maildir("default").only().field("Subject"), ["bye"]);
}

/// A logoff after outbound mail returns when it was processed.
///
/// SEED-1, OBJ-6, design §3.4
#[test]
fn a_logoff_can_wait_for_outbound_mail() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let message = home.message("drained");
    for _ in 0..20 {
        shell.submit(1, &message);
    }
    let left = shell.ok("logoff session=1 drain=60");
    assert_eq!(left["queued"], 0);
    assert_eq!(home.maildir("default").count(), 20);
}

/// At its deadline a drain gives up: the logoff succeeds and says what is still queued.
///
/// design §3.4
#[test]
fn a_drain_ends_at_its_deadline() {
    let home = Home::new();
    let broker = home.serve();
    // The transport cannot work: there is a file where its directory should be.
    let profile =
        "[[transport]]\nkind = \"maildir\"\npath = \"blocked\"\n[queue]\nretry_min = \"1s\"\n";
    home.profile("default", profile);
    let blocked = home.write(".local/share/sundown/default/blocked", "");
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &home.message("later"));
    let left = shell.ok("logoff session=1 drain=0.2");
    assert_eq!(left["queued"], 1);
    let listed = home.run(&["queue", "--json"]).ok().json();
    assert_eq!((&listed[0]["entry"], &listed[0]["state"]), (&json!(entry), &json!("deferred")));
    assert!(listed[0]["last_error"].as_str().is_some_and(|e| e.contains("blocked")), "{listed}");
    assert!(listed[0]["next_attempt"].is_u64(), "{listed}");
    drop(broker);
    std::fs::remove_file(blocked).expect("removed");
    let broker = home.serve();
    let delivered = crate::harness::Maildir(home.data().join("default/blocked"));
    broker.until("the message", || delivered.count() == 1);
}

/// A deferred submission is answered when it is accepted, and durable when a flush has returned.
///
/// design §3.16
#[test]
fn a_deferred_submission_is_durable_after_a_flush() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon no-mail");
    let message = home.message("deferred");
    let reply = shell.ok(&format!("submit session=1 file={} deferred", message.display()));
    assert_eq!(reply["state"], "accepted");
    shell.ok("flush session=1");
    broker.kill();
    shell.kill();
    let _broker = home.serve();
    let listed = home.run(&["queue", "--json"]).ok().json();
    assert_eq!((&listed[0]["entry"], &listed[0]["state"]), (&reply["entry"], &json!("queued")));
}

/// A repeated key is the same submission, also after it was sent, in another session, and after a restart of the broker.
///
/// design §3.16
#[test]
fn a_repeated_key_never_makes_a_second_message() {
    let home = Home::new();
    let mut broker = home.serve();
    let message = home.message("once");
    let submit = |session: u64| {
        format!(
            "submit session={session} file={} key=00112233445566778899AABBCCDDEEFF",
            message.display()
        )
    };
    let mut shell = home.shell();
    shell.ok("logon");
    let first = shell.ok(&submit(1))["entry"].clone();
    assert_eq!(shell.ok(&submit(1))["entry"], first);
    shell.ok("logoff session=1 drain=60");
    shell.ok("logon private");
    assert_eq!(shell.ok(&submit(2))["entry"], first);
    assert_eq!(shell.ok(&submit(2))["state"], "sent");
    shell.kill();
    broker.terminate();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    assert_eq!(shell.ok(&submit(1))["entry"], first);
    shell.ok("logoff session=1 drain=60");
    assert_eq!(home.maildir("default").count(), 1);
}

/// Who may take a message back, and until when.
///
/// QUEUE-9
#[test]
fn a_message_is_taken_back_until_it_is_gone() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    // Without mail nothing is sent while it is here.
    shell.ok("logon no-mail");
    let entry = shell.submit(1, &home.message("regretted"));
    shell.ok(&format!("abort-submit session=1 entry={entry}"));
    shell.fails(&format!("abort-submit session=1 entry={entry}"), "MAPI_E_NOT_IN_QUEUE");
    let unknown = format!("{}{}", &entry[..8], "0".repeat(32));
    shell.fails(&format!("abort-submit session=1 entry={unknown}"), "MAPI_E_NOT_IN_QUEUE");
    shell.fails("abort-submit session=1 entry=xyz", "MAPI_E_INVALID_PARAMETER");
    shell.fails("abort-submit session=1", "MAPI_E_INVALID_PARAMETER");

    shell.ok("logon");
    let sent = shell.submit(2, &home.message("gone"));
    broker.until("the message", || home.maildir("default").count() == 1);
    shell.ok("logoff session=2 drain=60");
    shell.fails(&format!("abort-submit session=1 entry={sent}"), "MAPI_E_NOT_IN_QUEUE");
    assert_eq!(home.maildir("default").only().field("Subject"), ["gone"]);
    let queue = home.status()["queue"].clone();
    assert_eq!((&queue["aborted"], &queue["sent"]), (&json!(1), &json!(1)));
}

/// Bcc names recipients and is seen by none of them; To, Cc and Bcc get one message each.
///
/// QUEUE-1, design §8
#[test]
fn nobody_sees_bcc() {
    let home = Home::new();
    let broker = home.serve();
    let text = "From: me@localhost\r\nTo: anna@localhost\r\nCc: bo@localhost\r\nBcc: Secret <cleo@localhost>,\r\n\
                \tdora@localhost\r\nSubject: s\r\n\r\nBcc: in the body stays\r\n";
    let file = home.write("bcc.eml", text);
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &file);
    broker.until("the message", || home.maildir("default").count() == 1);
    shell.ok("logoff session=1 drain=60");
    let delivered = home.maildir("default").only();
    assert!(delivered.field("Bcc").is_empty(), "{delivered:?}");
    assert_eq!(delivered.field("Return-Path"), ["<me@localhost>"]);
    let to = ["anna@localhost", "bo@localhost", "cleo@localhost", "dora@localhost"];
    assert_eq!(delivered.field("Delivered-To"), to);
    assert!(delivered.text.ends_with("\n\nBcc: in the body stays\n"), "{delivered:?}");
    assert!(!delivered.text.contains("Secret"), "{delivered:?}");
    let shown = home.run(&["queue", "show", &entry, "--json"]).ok().json();
    assert_eq!(shown["to"], json!(to));
}

/// A message gets what it needs and lacks: a Date and a Message-ID, the same wherever it goes.
///
/// design §3.17, §8
#[test]
fn a_message_gets_what_it_lacks() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &home.message("bare"));
    broker.until("the message", || home.maildir("default").count() == 1);
    let delivered = home.maildir("default").only();
    assert_eq!(delivered.field("Date").len(), 1, "{delivered:?}");
    assert_eq!(delivered.field("Message-ID").len(), 1, "{delivered:?}");
    let read = shell.ok(&format!("read session=1 entry={entry}"));
    let id = delivered.field("Message-ID")[0].to_owned();
    assert!(read["content"].as_str().is_some_and(|c| c.contains(&id)), "{read} {id}");
}

/// Mail of a member without mail waits for a member with mail, and `status` says so. A member with mail beside it sends;
/// one's flags are not another's.
///
/// SHARE-6, LOGON-15, A-39, design §3.5
#[test]
fn mail_of_a_member_without_mail_waits_for_one_with_mail() {
    let home = Home::new();
    let broker = home.serve();
    let mut without = home.shell();
    without.ok("logon no-mail");
    let entry = without.submit(1, &home.message("patient"));
    let left = without.ok("logoff session=1 drain=0.1");
    assert_eq!(left["queued"], 1);
    without.ok("logon no-mail");
    // The new session reads its queue after the logon was answered.
    let waiting = || home.status()["queue"]["waiting_for_mail_member"] == 1;
    broker.until("the session to find it", waiting);
    let status = home.status();
    assert_eq!(status["queue"]["queued"], 1);
    assert_eq!(status["sessions"][0]["members"][0]["no_mail"], true);
    assert_eq!(home.maildir("default").count(), 0);

    let mut with = home.shell();
    with.ok("logon");
    broker.until("the message", || home.maildir("default").count() == 1);
    with.ok("logoff session=1");
    without.ok("logoff session=2 drain=60");
    // A reader may see the message before the queue has written down that it is sent.
    broker.until("the state", || {
        home.run(&["queue", "show", &entry, "--json"]).ok().json()["state"] == "sent"
    });
    assert_eq!(home.status()["queue"]["waiting_for_mail_member"], 0);
}

/// `linger = "off"`: mail waits in the queue until somebody is logged on again, also across a restart of the broker.
///
/// SEED-2, QUEUE-10, design §3.5
#[test]
fn without_lingering_mail_waits_for_a_logon() {
    let home = Home::with_settings("[shutdown]\nlinger = \"off\"\n");
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon no-mail");
    shell.submit(1, &home.message("waits"));
    shell.ok("logoff session=1");
    assert_eq!(home.status()["sessions"], json!([]));
    broker.terminate();
    let broker = home.serve();
    let listed = home.run(&["queue", "--json"]).ok().json();
    assert_eq!(listed[0]["state"], "queued", "{listed}");
    assert_eq!(home.maildir("default").count(), 0);
    let mut next = home.shell();
    next.ok("logon");
    broker.until("the message", || home.maildir("default").count() == 1);
}

/// By default a session stays, without a member, until its mail has gone out.
///
/// A-5, design §3.5
#[test]
fn a_session_without_members_stays_until_its_queue_is_empty() {
    let home = Home::new();
    let broker = home.serve();
    home.profile("default", "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"100ms\"\nretry_max = \"100ms\"\n");
    let blocked = home.data().join("default/blocked");
    let mut shell = home.shell();
    shell.ok("logon");
    // The transport works no more: its directory is a file now.
    std::fs::remove_dir_all(&blocked).expect("removed");
    std::fs::write(&blocked, "").expect("written");
    shell.submit(1, &home.message("stubborn"));
    shell.ok("logoff session=1");
    broker.log_line("an attempt", |l| l["kind"] == "transport" && l["result"] != "S_OK");
    let status = home.status();
    assert_eq!(status["sessions"][0]["state"], "memberless", "{status}");
    assert_eq!(status["sessions"][0]["members"], json!([]));
    // It can be joined meanwhile.
    let id = status["sessions"][0]["id"].clone();
    let mut other = home.shell();
    other.ok("logon");
    let status = home.status();
    assert_eq!(
        (&status["sessions"][0]["id"], &status["sessions"][0]["state"]),
        (&id, &json!("active"))
    );
    other.ok("logoff session=1");
    std::fs::remove_file(&blocked).expect("removed");
    for folder in ["tmp", "new", "cur"] {
        std::fs::create_dir_all(blocked.join(folder)).expect("made");
    }
    broker.log_line("the end of the session", |l| l["kind"] == "store" && l["call"] == "Logoff");
    assert_eq!(crate::harness::Maildir(blocked).count(), 1);
    assert_eq!(home.status()["sessions"], json!([]));
}

/// Settings of a program are the profile's: another process finds them, also after a restart.
///
/// SEED-8, LOGON-19
#[test]
fn settings_are_shared_between_processes() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut writer = home.shell();
    writer.ok("logon");
    assert_eq!(writer.ok("setting session=1 name=colour")["value"], json!(null));
    assert_eq!(
        writer.ok("setting session=1 name=colour value=\"sea green\"")["value"],
        "sea green"
    );
    let mut reader = home.shell();
    reader.ok("logon private");
    assert_eq!(reader.ok("setting session=1 name=colour")["value"], "sea green");
    broker.terminate();
    let _broker = home.serve();
    reader.event("being back", says(&[("event", "reconnected")]));
    assert_eq!(reader.ok("setting session=1 name=colour")["value"], "sea green");
}

/// What happens to messages is told to those who registered for it, on a session, a store, a folder or a table.
///
/// NOTIF-11, NOTIF-28, A-12
#[test]
fn store_events_are_told_to_those_who_registered() {
    let home = Home::new();
    let _broker = home.serve();
    let mut watcher = home.shell();
    watcher.ok("logon");
    watcher.ok("advise session=1 events=object-created,object-moved");
    let sent = watcher.ok("open session=1 what=sent")["object"].clone();
    watcher.ok(&format!("advise object={sent} session=1 events=table-modified"));
    let mut sender = home.shell();
    sender.ok("logon private");
    let entry = sender.submit(1, &home.message("watched"));
    let of = |event| move |v: &serde_json::Value| v["event"] == event;
    let created = watcher.event("the submission", of("object-created"));
    assert_eq!((&created["entry"], &created["folder"]), (&json!(entry), &json!("outbox")));
    let moved = watcher.event("the transmission", of("object-moved"));
    assert_eq!((&moved["folder"], &moved["from"]), (&json!("sent"), &json!("outbox")));
    let table = watcher.event("the row", of("table-modified"));
    assert_eq!(
        (&table["change"], &table["row"], &table["object"]),
        (&json!("row-added"), &json!(entry), &sent)
    );
    watcher.settle();
    sender.settle();
    assert_eq!(watcher.events(|_| true).len(), 3);
    assert!(sender.events(|_| true).is_empty());
}

/// With `{user}` in its path each user has a Maildir, and a result of their own.
///
/// design §3.20
#[test]
fn each_user_has_a_maildir() {
    let home = Home::new();
    let mail = home.path("mail");
    std::fs::create_dir(&mail).expect("made");
    std::fs::write(mail.join("bo"), "in the way").expect("written");
    let profile = format!(
        "[[transport]]\npath = \"{}/{{user}}/Maildir\"\n[mail]\nlocal_users = [\"anna\", \"bo\", \"cleo\"]\n",
        mail.display()
    );
    home.profile("default", &profile);
    let broker = home.serve();
    let send =
        home.run_with(&["send", "--to", "anna", "--to", "bo", "--to", "cleo@localhost"], "x\n");
    send.ok();
    let new = |user: &str| {
        std::fs::read_dir(mail.join(user).join("Maildir/new")).map_or(0, Iterator::count)
    };
    broker.until("both", || new("anna") == 1 && new("cleo") == 1);
    let states = || {
        let shown = home.run(&["queue", "list", "--json"]).ok().json();
        let entry = shown[0]["entry"].as_str().unwrap_or_default().to_owned();
        let shown = home.run(&["queue", "show", &entry, "--json"]).ok().json();
        let recipients = shown["recipients"].as_array().cloned().unwrap_or_default();
        recipients.iter().map(|r| r["state"].clone()).collect::<Vec<_>>()
    };
    broker.until("the reason", || states() == ["sent", "deferred", "sent"]);
    std::fs::remove_file(mail.join("bo")).expect("removed");
    home.run(&["queue", "flush"]).ok();
    broker.until("the other", || new("bo") == 1);
}

/// A server that speaks LMTP answers for each recipient of a message.
///
/// design §3.20
#[test]
fn a_server_for_mailboxes_answers_for_each_recipient() {
    let home = Home::new();
    let path = home.path("lmtp");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = std::thread::spawn(move || mailboxes(&listener));
    let profile = format!("[[transport]]\nkind = \"lmtp\"\npath = \"{}\"\n", path.display());
    home.profile("default", &profile);
    let broker = home.serve();
    let to = ["--to", "anna", "--to", "full@localhost", "--to", "nobody", "--to", "bo@localhost"];
    home.run_with(&[&["send"], &to[..]].concat(), "x\n").ok();
    let states = || {
        let shown = home.run(&["queue", "list", "--json"]).ok().json();
        let entry = shown[0]["entry"].as_str().unwrap_or_default().to_owned();
        let shown = home.run(&["queue", "show", &entry, "--json"]).ok().json();
        let recipients = shown["recipients"].as_array().cloned().unwrap_or_default();
        recipients.iter().map(|r| r["state"].clone()).collect::<Vec<_>>()
    };
    broker.until("the answers", || states() == ["sent", "deferred", "bounced", "sent"]);
    drop(broker);
    let told = server.join().expect("the server is content");
    assert!(told.starts_with("LHLO ") && told.contains("\r\n\r\nx\r\n.\r\n"), "{told}");
}

/// Takes one message on one connection: it does not know `nobody`, and the mailbox of `full` is full.
fn mailboxes(listener: &UnixListener) -> String {
    let (mut socket, _) = listener.accept().expect("a client");
    let lines = BufReader::new(socket.try_clone().expect("a handle")).lines();
    socket.write_all(b"220 test\r\n").expect("written");
    let (mut told, mut behind_dot, mut in_message) = (String::new(), String::new(), false);
    for line in lines.map_while(Result::ok) {
        told += &format!("{}\r\n", line.trim_end_matches('\r'));
        let line = line.trim_end_matches('\r');
        let answer = match line {
            "." => std::mem::take(&mut behind_dot),
            _ if in_message => continue,
            "DATA" => "354 go on\r\n".into(),
            "RCPT TO:<nobody>" => "550 5.1.1 no such user\r\n".into(),
            "QUIT" => break,
            _ => "250 2.1.0 ok\r\n".to_owned(),
        };
        match line {
            "RCPT TO:<full@localhost>" => behind_dot += "452 4.2.2 full\r\n",
            rcpt if rcpt.starts_with("RCPT") && answer.starts_with("250") => {
                behind_dot += "250 2.0.0 delivered\r\n";
            }
            _ => {}
        }
        in_message = line == "DATA";
        socket.write_all(answer.as_bytes()).expect("written");
    }
    told
}
