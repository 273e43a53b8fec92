//! The log: one line for each call of a provider.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Broker, DEADLINE, Home, assert_as_documented, documented, keys};

fn is_call(line: &Value) -> bool {
    line["event"] == "provider-call"
}

/// Every provider of a session is called in the order address book, store, transport when it starts, and transport,
/// address book, store when it ends, each of which has answered before the next kind is called.
///
/// LOGOFF-11, ORDER-1, SEED-16, A-16, design §8
#[test]
fn providers_are_called_in_order() {
    let home = Home::new();
    home.profile(
        "default",
        "[[store]]\nname = \"main\"\n[[store]]\nname = \"second\"\n\
         [[transport]]\nname = \"here\"\n[[transport]]\nname = \"there\"\npath = \"there\"\naccept = [\"*\"]\n\
         [[address_book]]\nname = \"people\"\n",
    );
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let session = home.status()["sessions"][0]["id"].clone();
    shell.ok("logoff session=1");
    let of_session = |call: &'static str| {
        let session = session.clone();
        move |l: &Value| is_call(l) && l["session"] == session && l["call"] == call
    };
    broker.until("the end of both stores", || {
        let ended = |l: &Value| of_session("Logoff")(l) && l["kind"] == "store";
        broker.log().into_iter().filter(ended).count() == 2
    });
    let kinds = |call| -> Vec<String> {
        let lines = broker.log().into_iter().filter(of_session(call));
        lines.map(|l| l["kind"].as_str().expect("text").to_owned()).collect()
    };
    let mut ended = kinds("Logoff");
    // Transports and mailboxes are called at once.
    ended[..3].sort_unstable();
    let wanted = ["mailbox", "transport", "transport", "address-book", "store", "store"];
    assert_eq!(ended, wanted);
    let begun = ["address-book", "store", "store", "transport", "transport", "mailbox"];
    assert_eq!(kinds("Logon"), begun);
    let mut names: Vec<_> = broker
        .log()
        .iter()
        .filter(|l| of_session("Logoff")(l))
        .map(|l| l["provider"].clone())
        .collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["here", "maildir", "main", "people", "second", "there"]);
    broker.terminate();
}

/// A line is one flat JSON object; a call's has who was called, for which session and process, with what result, and how
/// long it took. What people wrote is in none of them.
///
/// design §8
#[test]
fn a_call_is_one_flat_line() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let session = home.status()["sessions"][0]["id"].clone();
    let file = home.write("m.eml", "To: anna@localhost\nSubject: tell-nobody\n\nneither-this\n");
    shell.submit(1, &file);
    shell.ok("setting session=1 name=token value=nor-that");
    shell.ok("logoff session=1 drain=60");
    broker.terminate();
    let log = broker.log();
    let submitted =
        log.iter().find(|l| is_call(l) && l["pid"] == shell.pid() && l["call"] == "SubmitMessage");
    let submitted = submitted.unwrap_or_else(|| panic!("no such line in {log:?}"));
    assert_eq!(submitted["session"], session);
    assert_eq!((&submitted["kind"], &submitted["provider"]), (&"store".into(), &"sqlite".into()));
    assert_eq!((&submitted["result"], &submitted["level"]), (&"S_OK".into(), &"info".into()));
    assert!(submitted["micros"].is_u64());
    assert_eq!(
        keys(submitted),
        "call correlation entry event kind level message micros pid provider result session target timestamp"
    );
    for line in &log {
        let flat =
            line.as_object().expect("an object").values().all(|v| !v.is_object() && !v.is_array());
        assert!(flat && line["timestamp"].is_string(), "{line}");
        let text = line.to_string();
        for secret in ["tell-nobody", "neither-this", "nor-that"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(log.iter().filter(|l| is_call(l)).count() > 10);
    let raw = broker.raw_log();
    let of_it = |line: &&String| {
        ["\"pid\"", "\"SubmitMessage\"", "\"correlation\""].iter().all(|word| line.contains(word))
    };
    let written = raw.iter().find(of_it).unwrap_or_else(|| panic!("no such line in {raw:?}"));
    assert_as_documented(&documented("command.md", "provider-call"), written);
}

/// A profile with a mistake is a warning when the broker starts and mail of it may wait, however often it is asked for; another mistake is
/// another one, and it is said when the profile can be used. Nobody was refused anything. A profile that does not exist is no warning.
///
/// design §8
#[test]
fn a_mistake_in_a_profile_is_one_warning() {
    let home = Home::new();
    home.profile("default", "[[store]]\n[[transport]]\naccept = 7\n");
    let mut broker = home.serve();
    let send = || home.run_with(&["send", "--to", "anna@localhost"], "hi\n");
    for _ in 0..3 {
        send().exits(1);
    }
    home.profile("default", "[[store]]\n[[transport]]\nacept = []\n");
    send().exits(1);
    home.profile("default", "[[store]]\n[[transport]]\n");
    send().ok();
    home.run_with(&["--profile", "nowhere", "send", "--to", "anna@localhost"], "hi\n").exits(1);
    broker.terminate();
    let log = broker.log();
    let told = |line: &&Value| line["profile"].is_string() && line["event"] != "provider-call";
    let told: Vec<_> =
        log.iter().filter(told).map(|line| [&line["event"], &line["level"]]).collect();
    let unusable = ["profile-unusable", "warn"];
    assert_eq!(told, [unusable, unusable, ["profile-usable", "info"], ["profile-missing", "info"]]);
    assert!(!log.iter().any(|line| line["event"] == "refused"), "{log:?}");
}

/// From a client's call to what providers were called for it: the error names the request as the log does, and what is done
/// about a message later, for nobody's request, names the message.
///
/// design §8
#[test]
fn a_call_can_be_followed_into_the_log() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &home.message("followed"));
    let transported = ["SubmitMessage", "EndMessage"]
        .map(|call| broker.log_line(call, |l| l["kind"] == "transport" && l["call"] == call));
    for line in transported {
        assert_eq!(line["entry"], entry, "{line}");
        assert_eq!(line["correlation"], Value::Null, "{line}");
    }
    for kind in ["address-book", "store", "transport"] {
        broker.log_line("a logon", |l| {
            l["kind"] == kind && l["call"] == "Logon" && l["correlation"].is_string()
        });
    }
    let stored = broker.log_line("the submit", |l| {
        l["kind"] == "store" && l["call"] == "SubmitMessage" && l["entry"] == entry
    });
    assert!(stored["correlation"].is_string(), "{stored}");
    let unknown = format!("{}{}", &entry[..8], "0".repeat(32));
    let refused = shell.fails(&format!("read session=1 entry={unknown}"), "MAPI_E_NOT_FOUND");
    let correlation = &refused["correlation"];
    assert!(correlation.is_string() && *correlation != stored["correlation"], "{refused}");
    broker.log_line("the read", |l| is_call(l) && l["correlation"] == *correlation);
    broker.terminate();
}

/// A service manager that asks to be told is told when the socket accepts, whatever is logged.
///
/// design §8
#[test]
fn a_service_manager_is_told_when_the_broker_is_ready() {
    let home = Home::new();
    let manager = UnixDatagram::bind(home.path("notify")).expect("bound");
    manager.set_read_timeout(Some(DEADLINE)).expect("it has a timeout");
    let mut command = home.command(&["serve", "--log-level", "off"]);
    command.env("NOTIFY_SOCKET", home.path("notify"));
    let mut broker = Broker::spawn(command);
    let mut said = [0; 256];
    let length = manager.recv(&mut said).expect("it says something");
    assert!(
        said[..length].starts_with(b"READY=1"),
        "{:?}",
        String::from_utf8_lossy(&said[..length])
    );
    home.run(&["status"]).ok();
    broker.terminate();
    assert_eq!(broker.log_length(), 0);
}

/// A program that has left in order and then ended has closed its connection itself: nothing is to be said of that, and what
/// it said last is heard however soon it ended.
///
/// design §8
#[test]
fn who_leaves_in_order_is_not_closed() {
    let home = Home::new();
    let mut broker = home.serve();
    for _ in 0..20 {
        home.run(&["status"]).ok();
    }
    broker.terminate();
    let log = broker.log();
    let closed = log.iter().find(|l| l["message"] == "a connection is closed");
    assert_eq!(closed, None);
}

/// Where standard error is the journal's, every line begins with its priority, whatever the format is, and so does why a broker does not
/// start: `journalctl --priority=warning` finds what goes wrong.
///
/// design §8
#[test]
fn every_line_in_the_journal_has_its_priority() {
    for format in ["text", "json", "journald"] {
        let home = Home::new();
        home.profile("default", "[[store]]\n[[transport]]\naccept = 7\n");
        let serve = || {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let stat = rustix::fs::fstat(&writer).expect("it is there");
            let mut command = home.command(&["serve", "--log-format", format]);
            command.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
            let broker = command.spawn().expect("it starts");
            // It has the only end that can be written to.
            drop(command);
            (broker, BufReader::new(reader).lines().map(|line| line.expect("text")))
        };
        let (mut broker, mut lines) = serve();
        let mut seen: Vec<String> = Vec::new();
        while !seen.last().is_some_and(|line| line.contains("ready")) {
            seen.push(lines.next().expect("it becomes ready"));
        }
        let (mut other, why) = serve();
        let why: Vec<_> = why.collect();
        assert!(!other.wait().expect("it ends").success());
        home.run(&["stop"]).ok();
        seen.extend(lines);
        assert!(broker.wait().expect("it ends").success());
        assert_eq!(why.len(), 1, "{why:?}");
        assert!(why[0].starts_with("<3>sundown: another broker is running"), "{why:?}");
        let of = |priority: &str| seen.iter().filter(|line| line.starts_with(priority)).count();
        assert_eq!((of("<4>"), of("<4>") + of("<6>")), (1, seen.len()), "{seen:?}");
        let warning = seen.iter().find(|line| line.starts_with("<4>")).expect("there is one");
        assert!(warning.contains("profile-unusable"), "{warning}");
        let is_json = |line: &String| serde_json::from_str::<Value>(&line[3..]).is_ok();
        assert_eq!(seen.iter().all(is_json), format == "json", "{seen:?}");
    }
}

/// Where the disk has no room, the line that it cut off is ended before the next one, and the log says how many are missing.
///
/// design §8
#[test]
fn a_full_disk_cuts_one_line_and_the_rest_is_counted() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let home = Home::new();
    let path = home.path("log");
    let mut command = home.command(&["serve", "--log-format", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::options().append(true).create(true).open(&path).expect("made"));
    let mut broker = command.spawn().expect("it starts");
    let nobody = || {
        home.run_with(&["--profile", "nowhere", "send", "--to", "anna@localhost"], "x\n").exits(1);
    };
    let text = || fs::read_to_string(&path).expect("there");
    // Nobody says when a line is in the file.
    let until = Instant::now() + DEADLINE;
    let wait_for = |word: &str| {
        while !text().contains(word) {
            assert!(Instant::now() < until, "no {word}: {}", text());
            std::thread::yield_now();
        }
    };
    wait_for("\"ready\"");
    nobody();
    wait_for("profile-missing");
    let pid = Pid::from_raw(i32::try_from(broker.id()).expect("a pid")).expect("a pid");
    let limit = |room: Option<u64>| {
        let new = Rlimit { current: room, maximum: None };
        prlimit(Some(pid), Resource::Fsize, new).expect("it is changed");
    };
    let full = text().len() + 20;
    limit(Some(full as u64));
    nobody();
    while text().len() < full {
        assert!(Instant::now() < until, "it is not full: {}", text());
        std::thread::yield_now();
    }
    // Its line is written or counted: the log is behind.
    nobody();
    limit(None);
    nobody();
    home.run(&["stop"]).ok();
    assert!(broker.wait().expect("it ends").success());
    let text = text();
    let is_json = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
    let cut: Vec<_> = text.lines().filter(|line| !is_json(line)).collect();
    assert!(cut.len() == 1 && cut[0].len() == 20, "{cut:?}");
    let lines: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |event| lines.iter().filter(move |line| line["event"] == event);
    let dropped: u64 =
        of("log-dropped").map(|line| line["lines"].as_u64().expect("a number")).sum();
    assert!(dropped >= 1, "{text}");
    assert_eq!(of("profile-missing").count() as u64 + dropped, 4, "{text}");
}
