//! The subcommands, as scripts use them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use mail_parser::{MessageParser, MimeHeaders};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Home, Output, Terminal, keys, run, wait_for_end};

/// `send` composes from its options what the message lacks, and from the message what it has.
///
/// design §8
#[test]
fn send_composes_what_the_message_lacks() {
    let home = Home::new();
    let broker = home.serve();
    let maildir = home.maildir("default");
    let options = [
        "send",
        "--to",
        "anna",
        "--to",
        "bo@localhost",
        "--from",
        "me@localhost",
        "--subject",
        "From options",
    ];
    let sent = home
        .run_with(&[&options[..], &["--json"]].concat(), "Just a body: no header\n")
        .ok()
        .json();
    assert_eq!(keys(&sent), "entry state");
    assert_eq!(sent["state"], "queued");
    broker.until("the message", || maildir.count() == 1);
    let delivered = maildir.only();
    assert_eq!(delivered.field("Delivered-To"), ["anna", "bo@localhost"]);
    assert_eq!(delivered.field("From"), ["me@localhost"]);
    assert_eq!(delivered.field("Subject"), ["From options"]);
    assert_eq!(delivered.field("Return-Path"), ["<me@localhost>"]);
    assert!(delivered.text.ends_with("\n\nJust a body: no header\n"), "{delivered:?}");
}

/// The message's own fields stay; recipients of options join those of To, Cc and Bcc. It is read from a file, from
/// standard input, or from standard input because a dash says so.
///
/// design §8
#[test]
fn send_keeps_the_fields_of_the_message() {
    let home = Home::new();
    let _broker = home.serve();
    let text = "From: cleo@localhost\nTo: dora@localhost\nBcc: eve@localhost\nSubject: Own\nX-Test: here\n\nbody\n";
    let file = home.write("own.eml", text);
    let file = file.to_str().expect("text");
    let options = ["--to", "anna@localhost", "--subject", "Other", "--wait=60", "--json"];
    for (place, input) in [(&["send", file][..], ""), (&["send"], text), (&["send", "-"], text)] {
        let sent = home.run_with(&[place, &options[..]].concat(), input).ok().json();
        assert_eq!(sent["state"], "sent", "{place:?}");
    }
    let messages = home.maildir("default").messages();
    assert_eq!(messages.len(), 3);
    for delivered in messages {
        assert_eq!(delivered.field("Subject"), ["Own"]);
        assert_eq!(delivered.field("To"), ["dora@localhost"]);
        assert_eq!(delivered.field("From"), ["cleo@localhost"]);
        assert_eq!(
            delivered.field("Delivered-To"),
            ["dora@localhost", "eve@localhost", "anna@localhost"]
        );
        assert_eq!(delivered.field("X-Test"), ["here"]);
        assert!(delivered.field("Bcc").is_empty(), "{delivered:?}");
    }
}

/// What `send` writes itself is read by a parser that knows nothing of Sundown as it was meant, and is ASCII in short lines.
///
/// design §8
#[test]
fn send_composes_mail_that_others_read() {
    let home = Home::new();
    let _broker = home.serve();
    let every: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let name = "Prüfung \"für alle\", mit einem Namen, der in keine Zeile passt.pdf";
    let (first, second) = (home.write(name, &every), home.write("notes.txt", "ä\n"));
    let long = "ein Betreff, der länger ist als eine Zeile ".repeat(5);
    let options =
        ["--to", "Änna Ü <anna@localhost>, bo@localhost", "--from", "Jürgen <me@localhost>"];
    let attach =
        ["--attach", first.to_str().expect("text"), "--attach", second.to_str().expect("text")];
    let rest = ["--subject", &long, "--wait=60", "--json"];
    let text = "Die Prüfung ist rot\n.\nFrom here\n";
    let sent = home.run_with(&[&["send"], &options[..], &attach, &rest].concat(), text).ok().json();
    assert_eq!(sent["state"], "sent");
    let message = home.maildir("default").only().text;
    assert!(message.is_ascii() && message.lines().all(|line| line.len() <= 78), "{message}");
    let parsed = MessageParser::new().parse(&message).expect("mail");
    assert_eq!(parsed.subject().map(str::trim_end), Some(long.trim_end()));
    let named = |list: Option<&mail_parser::Address<'_>>| {
        let all = list.into_iter().flat_map(|list| list.iter());
        let all = all.map(|one| (one.name().map(str::to_owned), one.address().map(str::to_owned)));
        all.collect::<Vec<_>>()
    };
    let one =
        |name: Option<&str>, address: &str| (name.map(str::to_owned), Some(address.to_owned()));
    assert_eq!(
        named(parsed.to()),
        [one(Some("Änna Ü"), "anna@localhost"), one(None, "bo@localhost")]
    );
    assert_eq!(named(parsed.from()), [one(Some("Jürgen"), "me@localhost")]);
    assert!(parsed.date().is_some() && parsed.message_id().is_some());
    assert_eq!(parsed.body_text(0).as_deref().map(str::trim_end), Some(text.trim_end()));
    let found: Vec<_> =
        parsed.attachments().map(|one| (one.attachment_name(), one.contents())).collect();
    assert_eq!(found, [(Some(name), &every[..]), (Some("notes.txt"), "ä\n".as_bytes())]);
    let kinds = parsed.attachments().filter_map(|one| one.content_type());
    let kinds: Vec<_> = kinds.map(|kind| (kind.subtype(), kind.attribute("charset"))).collect();
    assert_eq!(kinds, [(Some("pdf"), None), (Some("plain"), Some("utf-8"))]);
}

/// The same input with the same key is the same message, with its files, and is stored once.
#[test]
fn a_repeat_with_files_is_the_same_message() {
    let home = Home::new();
    let _broker = home.serve();
    let file = home.write("a.bin", [0_u8, 1]);
    let key = "0123456789abcdef0123456789abcdef";
    let attach = ["--attach", file.to_str().expect("text"), "--key", key];
    let send = || {
        let all = [&["send", "--to", "anna@localhost", "--json"], &attach[..]].concat();
        home.run_with(&all, "--=_sundown_00000000\n").ok().json()
    };
    assert_eq!(send()["entry"], send()["entry"]);
}

/// A file that cannot be read, or makes the message too large, is named; nothing is sent.
#[test]
fn files_that_cannot_go_are_named() {
    let home = Home::new();
    let _broker = home.serve();
    let folder = home.path("a folder");
    std::fs::create_dir(&folder).expect("made");
    let missing = home.path("missing.pdf");
    for (path, code) in [
        (missing.to_str(), "MAPI_E_NOT_FOUND"),
        (folder.to_str(), "MAPI_E_NOT_FOUND"),
        (Some("/dev/zero"), "MAPI_E_TOO_BIG"),
    ] {
        let path = path.expect("text");
        let options = ["send", "--to", "anna@localhost", "--attach", path, "--json"];
        let error = &home.run_with(&options, "hi\n").exits(1).json()["error"];
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(path)), "{error}");
    }
    assert_eq!(home.run(&["queue", "list", "--all", "--json"]).ok().json(), serde_json::json!([]));
}

/// `send --wait` stays until the message is final; when it is not in time it exits with 75 and says how far it is.
///
/// design §8
#[test]
fn send_waits_until_the_message_is_final() {
    let home = Home::new();
    home.profile("stuck", "[[transport]]\npath = \"blocked\"\n");
    home.write(".local/share/sundown/stuck/blocked", "");
    let _broker = home.serve();
    let sent = home.run_with(&["send", "--to", "anna", "--wait", "--json"], "hi\n").ok().json();
    assert_eq!(sent["state"], "sent");
    assert_eq!(home.maildir("default").count(), 1);
    let stuck = ["send", "--profile", "stuck", "--to", "anna", "--wait=0", "--json"];
    let left = home.run_with(&stuck, "hi\n").exits(75).json();
    assert_eq!(keys(&left), "entry state");
    assert_ne!(left["state"], "sent");
}

/// `send` without `--wait` returns as soon as the message is durable, and its process is no member any more.
///
/// SEED-2
#[test]
fn send_leaves_at_once() {
    let home = Home::new();
    home.profile("default", "[[transport]]\npath = \"blocked\"\n");
    home.write(".local/share/sundown/default/blocked", "");
    let _broker = home.serve();
    let sent = home.run_with(&["send", "--to", "anna", "--json"], "hi\n").ok().json();
    assert_eq!(sent["state"], "queued");
    let status = home.status();
    assert_eq!(status["sessions"][0]["state"], "memberless", "{status}");
    assert_eq!(status["sessions"][0]["members"], json!([]));
}

/// `status --json` has the keys that are documented, and no others.
///
/// design §8
#[test]
fn status_has_its_keys() {
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    let member = shell.ok("logon")["member"].clone();
    shell.ok("open session=1 what=inbox");
    let status = home.status();
    assert_eq!(keys(&status), "broker limits queue sessions");
    assert_eq!(keys(&status["broker"]), "pid previous socket started version");
    assert_eq!(status["broker"]["pid"], broker.pid());
    assert_eq!(status["broker"]["socket"], home.socket().to_str().expect("text"));
    let session = &status["sessions"][0];
    assert_eq!(
        keys(session),
        "id members profile profile_version providers references shared state"
    );
    assert_eq!((&session["profile"], &session["shared"]), (&json!("default"), &json!(true)));
    assert_eq!(session["state"], "active");
    let shown = &session["members"][0];
    assert_eq!(keys(shown), "id no_mail objects pid program since state uid");
    assert_eq!(
        (&shown["id"], &shown["pid"], &shown["objects"]),
        (&member, &json!(shell.pid()), &json!(1))
    );
    assert_eq!((&shown["program"], &shown["state"]), (&json!("sundown"), &json!("attached")));
    assert_eq!(
        (&shown["no_mail"], &shown["uid"]),
        (&json!(false), &json!(rustix::process::getuid().as_raw()))
    );
    let providers = session["providers"].as_array().expect("providers");
    for provider in providers {
        let wanted = "connections fast_shutdown in_flight kind last name next_try pending status syncing worked";
        assert_eq!(keys(provider), wanted);
        assert_eq!(provider["fast_shutdown"], "supported");
    }
    let kinds: Vec<_> = providers.iter().map(|p| p["kind"].clone()).collect();
    assert_eq!(kinds, ["store", "address-book", "mailbox", "transport"]);
    assert_eq!(
        keys(&status["queue"]),
        "aborted accepted bounced deferred held queued sent transmitting unknown waiting_for_mail_member"
    );
    let text = home.run(&["status"]).ok().output;
    for word in ["default", "active", "sundown", "maildir", &shell.pid().to_string()] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}

/// A draining member is shown as that.
///
/// design §2, §8
#[test]
fn status_shows_who_is_leaving() {
    let home = Home::new();
    home.profile("default", "[[transport]]\npath = \"blocked\"\n");
    home.write(".local/share/sundown/default/blocked", "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.submit(1, &home.message("stuck"));
    broker.log_line("an attempt", |l| l["call"] == "UpdateSubmission");
    let mut other = home.shell();
    other.ok("logon");
    other.ok("advise session=1 events=extended");
    shell.tell("logoff session=1 drain=3600");
    let state = |status: &Value| status["sessions"][0]["members"][0]["state"].clone();
    home.status_until("the logoff has arrived", |status| state(status) == "draining");
    shell.kill();
    let event = other.event("the departure", |v| v["kind"] == "member-left");
    assert_eq!(event["reason"], "disconnected");
}

/// `logoff` joins the current shared session and leaves it in the way it is told to.
///
/// design §8
#[test]
fn logoff_joins_and_leaves() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("advise session=1 events=extended");
    let left = home.run(&["logoff", "--json"]).ok().json();
    assert_eq!(left, json!({ "invalidated": 0, "discarded": 0, "queued": 0, "stayed": [] }));
    let event = shell.event("the departure", |v| v["kind"] == "member-left");
    assert_eq!(event["reason"], "logged-off");
    home.run(&["logoff", "--drain=60"]).ok();
    shell.ok("open session=1 what=inbox");
}

/// A command at a terminal of its own, where this is typed: what it printed, what the terminal showed, its exit status.
fn at_a_terminal(command: Command, typed: &str) -> (Value, String, Option<i32>) {
    let mut terminal = Terminal::run(command, Output::Pipe);
    terminal.type_in(typed);
    let (status, printed) = terminal.wait();
    let shown = terminal.shown();
    (serde_json::from_str(&printed).expect("one document"), shown, status.code())
}

/// On a terminal a shared logoff shows who else is attached and asks. A no and the end of the input leave the session to
/// everybody; `--yes` answers beforehand, and an ordinary logoff does not ask.
///
/// LOGOFF-3
#[test]
fn a_no_on_a_terminal_leaves_the_session() {
    let home = Home::new();
    home.settings("[shutdown]\nshared_logoff = \"any\"\n");
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let logoff = |options: &[&str], typed| {
        let command = home.command(&[&["logoff", "--json"], options].concat());
        at_a_terminal(command, typed)
    };
    for typed in ["n\n", "\n", "\x04"] {
        for options in [&["--shared"][..], &["--drain"], &["--shared", "--drain", "--force"]] {
            let (printed, shown, status) = logoff(options, typed);
            assert_eq!(status, Some(1), "{options:?}\n{shown}");
            assert_eq!(printed["error"]["code"], "MAPI_E_USER_CANCEL", "{options:?}\n{shown}");
            assert!(shown.contains(&shell.pid().to_string()), "{shown}");
            assert!(shown.contains("nothing is queued"), "{shown}");
        }
    }
    shell.ok("open session=1 what=inbox");
    assert_eq!(home.status()["sessions"][0]["state"], "active");

    let (_, shown, status) = logoff(&[], "");
    assert_eq!((shown.as_str(), status), ("", Some(0)));
    let (_, shown, status) = logoff(&["--drain"], "y\n");
    assert!(shown.contains("Log off? [y/N]"), "{shown}");
    assert_eq!(status, Some(0));
    let (_, shown, status) = logoff(&["--shared", "--yes"], "");
    assert_eq!((shown.as_str(), status), ("", Some(0)));
    let event = shell.event("the end of the session", |v| v["event"] == "critical-error");
    assert_eq!(event["reason"], "shared-logoff");
}

/// Wherever temporary files are: behind a path with spaces, or one that leaves no room for the path of a socket.
///
/// design §8
#[test]
fn the_tour_is_true_wherever_temporary_files_are() {
    let home = Home::new();
    for name in ["t m \"p\"", &"x".repeat(100)] {
        std::fs::create_dir(home.path(name)).expect("made");
        let mut tour = home.command(&["tour"]);
        tour.env("TMPDIR", home.path(name));
        let ran = run(tour, "").ok();
        assert!(ran.output.contains("all are true"), "{ran:?}");
        assert_eq!(std::fs::read_dir(home.path(name)).expect("read").count(), 0, "{ran:?}");
    }
}

/// On a terminal of 80 columns no line of the tour is longer, so that the terminal breaks no word and no path.
///
/// design §8
#[test]
fn the_tour_fits_a_terminal() {
    let home = Home::new();
    let mut tour = Terminal::run(home.command(&["tour"]), Output::Here);
    let (status, _) = tour.wait();
    let shown = tour.shown();
    assert!(status.success() && shown.contains("all are true"), "{shown}");
    let lines = shown.lines().map(|line| line.trim_end_matches('\r'));
    let long: Vec<_> = lines.filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:?}");
}

/// A tour that is interrupted leaves neither a broker nor files.
///
/// design §8
#[test]
fn an_interrupted_tour_leaves_nothing() {
    let home = Home::new();
    std::fs::create_dir(home.path("tmp")).expect("made");
    let mut tour = home.command(&["tour"]);
    tour.env("TMPDIR", home.path("tmp")).stdout(Stdio::piped());
    let mut tour = tour.spawn().expect("started");
    let output = BufReader::new(tour.stdout.take().expect("it was asked for"));
    let mut lines = output.lines().map_while(Result::ok);
    let ready = lines.find(|line| line.contains("is ready (pid ")).expect("the broker is ready");
    let pid = ready.rsplit_once("(pid ").expect("looked for").1.trim_end_matches(')').to_owned();
    assert!(Path::new("/proc").join(&pid).exists(), "{ready}");
    kill_process(Pid::from_child(&tour), Signal::INT).expect("it runs");
    assert_eq!(wait_for_end(&mut tour).code(), Some(130));
    assert!(!Path::new("/proc").join(&pid).exists(), "the broker goes on");
    assert_eq!(std::fs::read_dir(home.path("tmp")).expect("read").count(), 0);
}

/// An error on a terminal is said in words; a script gets the code behind them.
///
/// design §8
#[test]
fn a_terminal_shows_words_and_a_script_the_code() {
    let home = Home::new();
    let missing = ["status"];
    let code = "(MAPI_E_NETWORK_ERROR 0x80040115)";
    let ran = home.run(&missing).exits(1);
    assert!(ran.errors.trim_end().ends_with(code), "{ran:?}");
    let mut terminal = Terminal::run(home.command(&missing), Output::Pipe);
    let (status, _) = terminal.wait();
    let shown = terminal.shown();
    assert!(status.code() == Some(1) && shown.starts_with("sundown: "), "{shown}");
    assert!(!shown.contains("MAPI") && !shown.contains("0x8"), "{shown}");

    let _broker = home.serve();
    let ran = home.run_with(&["shell"], "unadvise connection=1\n").ok();
    assert!(ran.output.contains("(MAPI_E_NOT_FOUND 0x8004010F)"), "{ran:?}");
    let mut terminal = Terminal::run(home.command(&["shell"]), Output::Here);
    terminal.type_in("unadvise connection=1\n");
    terminal.shows("1: ");
    terminal.type_in("uninitialize\n");
    terminal.shows("2: ok");
    assert!(!terminal.shown().contains("MAPI"), "{}", terminal.shown());
}

/// A registration keeps its object, which a program may let go of first. The object ends with the registration: when that is
/// cancelled, at the logoff, or where the program just ends.
#[test]
fn an_object_may_go_before_its_registration() {
    let home = Home::new();
    let _broker = home.serve();
    for last in ["unadvise connection=CONNECTION", "logoff session=1", ""] {
        let mut shell = home.shell();
        shell.ok("logon");
        shell.ok("open session=1 what=inbox");
        let connection = shell.ok("advise object=1")["connection"].to_string();
        shell.ok("release object=1");
        if !last.is_empty() {
            shell.ok(&last.replace("CONNECTION", &connection));
        }
        drop(shell);
    }
}
