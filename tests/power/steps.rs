//! SIGKILL at each step between accepting and acknowledging, and of a delivery.
//!
//! A step is a call that the broker makes to its system: it dies just before or just after it, and nothing in the broker
//! knows of that. What it left is then read from the store, and the next broker has to make the best of it.

use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::chance::Chance;
use crate::check::DATA;
use crate::disk::{Disk, Kept};
use crate::harness::{Home, Shell, left};
use crate::queue::{RETRIES, transport};
use crate::recorder::{Record, Recorder};
use crate::servers::{Act, Scripted, skipped};
use crate::{long, tell};

/// What the store says after the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Queued,
    Transmitting,
    Sent,
}

impl Left {
    fn of(word: Option<&str>) -> Self {
        match word {
            None => Self::Nothing,
            Some("queued") => Self::Queued,
            Some("transmitting") => Self::Transmitting,
            Some("sent") => Self::Sent,
            Some(other) => panic!("nothing is {other} here"),
        }
    }
}

/// A step of a delivery into a Maildir. The log of a store that is opened again is begun by a write and a sync; then
/// it is synced by the submit, by the intent, and by what came of it.
const MAILDIR: &[(&str, &str, Left)] = &[
    ("the submit is to be written", "write|store.db-wal|2|before", Left::Nothing),
    ("a part of it is written", "write|store.db-wal|3|after", Left::Nothing),
    ("it is to be synced", "sync|store.db-wal|2|before", Left::Queued),
    ("it is synced and not acknowledged", "sync|store.db-wal|2|after", Left::Queued),
    ("the message in tmp is to be synced", "sync|Maildir/tmp/|1|before", Left::Queued),
    ("the message in tmp is synced", "sync|Maildir/tmp/|1|after", Left::Queued),
    ("its name in tmp is synced", "sync|Maildir/tmp|2|after", Left::Queued),
    ("the intent is to be synced", "sync|store.db-wal|3|before", Left::Transmitting),
    ("the intent is synced", "sync|store.db-wal|3|after", Left::Transmitting),
    ("it is to be handed over", "rename|Maildir/new|1|before", Left::Transmitting),
    ("it is handed over", "rename|Maildir/new|1|after", Left::Transmitting),
    ("its name in new is to be synced", "sync|Maildir/new|1|before", Left::Transmitting),
    ("its name in new is synced", "sync|Maildir/new|1|after", Left::Transmitting),
    ("its name in tmp is gone durably", "sync|Maildir/tmp|3|after", Left::Transmitting),
    ("Sent is to be synced", "sync|store.db-wal|4|before", Left::Sent),
    ("Sent is synced", "sync|store.db-wal|4|after", Left::Sent),
];

/// A step of a conversation with a server; what the store says after the crash; what it says in the end, and how often the server
/// has the message: where nothing is kept in memory, and where it is.
const SMTP: &[(&str, &str, Left, End, End)] = &[
    ("MAIL is to leave", "send|^MAIL|1|before", Left::Queued, SENT, SENT),
    ("MAIL has left", "send|^MAIL|1|after", Left::Queued, SENT, SENT),
    ("RCPT is to leave", "send|^RCPT|1|before", Left::Queued, SENT, SENT),
    ("RCPT has left", "send|^RCPT|1|after", Left::Queued, SENT, SENT),
    ("RCPT is answered", "recv|250 rcpt|1|after", Left::Queued, SENT, SENT),
    (
        "the intent is to be synced",
        "sync|store.db-wal|3|before",
        Left::Transmitting,
        NOT_SENT,
        SENT,
    ),
    ("the intent is synced", "sync|store.db-wal|3|after", Left::Transmitting, NOT_SENT, SENT),
    ("DATA is to leave", "send|^DATA|1|before", Left::Transmitting, NOT_SENT, SENT),
    ("DATA has left", "send|^DATA|1|after", Left::Transmitting, NOT_SENT, SENT),
    ("DATA is answered", "recv|354|1|after", Left::Transmitting, NOT_SENT, SENT),
    ("the message is to leave", "send|X-Body|1|before", Left::Transmitting, NOT_SENT, SENT),
    ("a part of it has left", "send|X-Body|1|after", Left::Transmitting, NOT_SENT, SENT),
    ("its last part is to leave", "send|X-Tail|1|before", Left::Transmitting, NOT_SENT, SENT),
    ("its last part has left", "send|X-Tail|1|after", Left::Transmitting, NOT_SENT, SENT),
    // That it begins is written down before it does.
    ("the dot is to leave", "send|^.\r\n|1|before", Left::Transmitting, NOT_SENT, NOT_SENT),
    ("the dot has left", "send|^.\r\n|1|after", Left::Transmitting, MAYBE_SENT, MAYBE_SENT),
    ("the dot is answered", "recv|250 taken|1|after", Left::Transmitting, MAYBE_SENT, MAYBE_SENT),
    (
        "Sent is to be written",
        "write|store.db-wal|OUTCOME|before",
        Left::Transmitting,
        MAYBE_SENT,
        SENT,
    ),
    ("Sent is to be synced", "sync|store.db-wal|4|before", Left::Sent, SENT, SENT),
    ("Sent is synced", "sync|store.db-wal|4|after", Left::Sent, SENT, SENT),
];

/// What the store says in the end, and how often the server has the message.
type End = (&'static str, usize);

const SENT: End = ("sent", 1);
const MAYBE_SENT: End = ("unknown", 1);
const NOT_SENT: End = ("unknown", 0);

const SHORT: &str =
    "From: me@home.test\nTo: anna@localhost\nSubject: one\nMessage-ID: <one@home.test>\n\nX-Body\n";

/// What becomes of the process that submits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// It stays, and its library repeats what was not acknowledged.
    Stays,
    /// It dies with the broker.
    Dies,
}

/// The state of the only message, read from the files of a store that nobody has open.
fn state(home: &Home, profile: &str) -> Option<String> {
    let path = home.path(DATA).join(profile).join("store.db");
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let store = store.expect("it is a database");
    let sql = "SELECT envelope_to FROM message WHERE state IS NOT NULL";
    let mut rows = store.prepare(sql).expect("the tables are there");
    let texts = rows.query_map([], |row| row.get::<_, String>(0)).expect("it answers");
    let states = texts.map(|text| {
        let recipients: Value = serde_json::from_str(&text.expect("a row")).expect("JSON");
        recipients[0]["state"].as_str().expect("a state").to_owned()
    });
    let states: Vec<_> = states.collect();
    assert!(states.len() <= 1, "{states:?}");
    states.into_iter().next()
}

/// What is on the disk of a home whose store is there, empty and closed.
pub(crate) fn used(profile: &str) -> Disk {
    let home = Home::new();
    home.profile(profile, "[[transport]]\nkind = \"maildir\"\n");
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok(&format!("logon profile={profile}"));
    shell.ok("logoff session=1");
    broker.terminate();
    Disk::of(&home.path(""), ".local")
}

/// Puts that into a home.
pub(crate) fn fill(disk: &Disk, home: &Home) {
    disk.leave(&home.path(""), Kept::Nothing, &mut Chance(1));
}

/// Has one message submitted by a broker that dies of it. The client, if it stays, and the number of its submit.
fn submit_and_die(
    home: &Home,
    recorder: &Recorder,
    profile: &str,
    (fault, text): (&str, &str),
) -> (Shell, u64) {
    let file = home.write("one.eml", text);
    let mut broker = recorder.serve(home, fault);
    let mut shell = home.shell();
    shell.ok(&format!("logon profile={profile}"));
    let asked = shell.tell(&format!("submit session=1 file={}", file.display()));
    let status = broker.wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{fault}");
    (shell, asked)
}

/// Wherever the broker dies: the store says what the table says, and in the end the message is there once. Without its
/// client it is not there if it was never stored, and no client was told that it was.
///
/// SEED-2, A-25, design §3.16, §3.19
#[test]
fn killed_at_any_step_of_a_delivery_a_message_arrives_once() {
    let Some(recorder) = Recorder::new() else { return };
    let used = used("default");
    let mut kills = 0;
    for (n, (name, fault, left)) in MAILDIR.iter().enumerate() {
        let clients = [Client::Stays, Client::Dies];
        // Half of them, or all.
        for client in if long() { &clients[..] } else { &clients[n % 2..=n % 2] } {
            kills += 1;
            let home = Home::new();
            fill(&used, &home);
            let (mut shell, asked) = submit_and_die(&home, &recorder, "default", (fault, SHORT));
            if *client == Client::Dies {
                shell.kill();
            }
            let found = Left::of(state(&home, "default").as_deref());
            assert_eq!(found, *left, "{name}: after the crash");
            let acknowledged = shell.lines().iter().any(|l| l["reply"] == asked && l["ok"] == true);
            assert!(!acknowledged || found != Left::Nothing, "{name}");

            let mut broker = home.serve();
            if *client == Client::Stays {
                assert_eq!(shell.reply(asked)["ok"], true, "{name}");
            }
            let lost = *client == Client::Dies && *left == Left::Nothing;
            // It keeps the session, and with it the rows, until they have been looked at.
            let mut watching = home.shell();
            watching.ok("logon");
            home.rows_until(name, |rows| lost || rows.iter().any(|row| row["state"] == "sent"));
            broker.terminate();
            let times = home.maildir("default").count();
            assert_eq!(times, usize::from(!lost), "{name}: {client:?}");
            let end = state(&home, "default");
            assert_eq!(end.as_deref(), (!lost).then_some("sent"), "{name}: {client:?}");
        }
    }
    tell(&format!("{kills} kills at {} steps of a delivery", MAILDIR.len()));
}

/// Wherever the broker dies in a conversation: before the intent the message is sent again and comes once. From then on it is
/// unknown, and the server has it at most once; where what is in memory outlives the broker, only while the server has the dot and
/// its answer is not read.
///
/// QUEUE-8, design §3.17
#[test]
fn killed_at_any_step_of_a_conversation_a_message_is_never_sent_twice() {
    let Some(recorder) = Recorder::new() else { return };
    let used = used("far");
    let outcome = write_of_the_outcome(&used).to_string();
    let mut kills = 0;
    for (name, fault, left, on_disk, in_memory) in SMTP {
        let memory = Home::with_memory();
        if memory.is_none() {
            skipped("/dev/shm is not in memory");
        }
        let fault = &fault.replace("OUTCOME", &outcome);
        for home in [Home::new()].into_iter().chain(memory) {
            kills += 1;
            fill(&used, &home);
            let end = if home.has_memory() { in_memory } else { on_disk };
            conversation(&recorder, &home, (name, fault, *left), *end);
        }
    }
    tell(&format!("{kills} kills at {} steps of a conversation", SMTP.len()));
}

/// Which write of a store's log is the first one behind the dot of a message.
fn write_of_the_outcome(used: &Disk) -> usize {
    let Some(recorder) = Recorder::new() else { return 0 };
    let (home, server) = (Home::new(), Scripted::start(|_, _| None));
    fill(used, &home);
    home.profile("far", &format!("{}{RETRIES}", transport(server.port(), "")));
    submit_and_die(&home, &recorder, "far", ("sync|store.db-wal|4|after", &in_parts()));
    let records = recorder.records();
    let dot = |record: &Record| matches!(record, Record::Sent { bytes, .. } if bytes == b".\r\n");
    let dot = records.iter().position(dot).expect("it is sent");
    let written = |record: &&Record| matches!(record, Record::Written { path, .. } if path.ends_with("store.db-wal"));
    records[..dot].iter().filter(written).count() + 1
}

/// A message that is sent in several parts.
fn in_parts() -> String {
    let lines = "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\n".repeat(1000);
    format!(
        "From: me@home.test\nTo: anna@localhost\nSubject: one\nMessage-ID: <one@home.test>\n\nX-Body\n{lines}X-Tail\n"
    )
}

/// A broker dies at a step of a conversation, and another one follows.
fn conversation(
    recorder: &Recorder,
    home: &Home,
    (name, fault, left): (&str, &str, Left),
    end: End,
) {
    // A word of its own for each answer, so that a step can name it.
    let server =
        Scripted::start(|verb, _| (verb == "RCPT").then(|| Act::Say("250 rcpt\r\n".to_owned())));
    home.profile("far", &format!("{}{RETRIES}", transport(server.port(), "")));
    let (mut shell, _) = submit_and_die(home, recorder, "far", (fault, &in_parts()));
    shell.kill();
    assert_eq!(Left::of(state(home, "far").as_deref()), left, "{name}: after the crash");
    let mut broker = home.serve();
    let mut watching = home.shell();
    watching.ok("logon profile=far");
    home.rows_until(name, |rows| {
        rows.len() == 1 && ["sent", "unknown"].contains(&rows[0]["state"].as_str().unwrap_or(""))
    });
    broker.terminate();
    let found = (state(home, "far").unwrap_or_default(), server.taken().len());
    assert_eq!((found.0.as_str(), found.1), end, "{name}");
}

/// A broker that has never run before is killed at each sync by which it makes its store, and of its first delivery: the
/// next one goes on with what is there, and the message arrives once.
///
/// SEED-2, design §3.16
#[test]
fn killed_at_any_sync_of_its_first_life_a_broker_goes_on() {
    let Some(recorder) = Recorder::new() else { return };
    let home = Home::new();
    let mut broker = recorder.serve(&home, "");
    let mut shell = home.shell();
    shell.ok("logon");
    shell.submit(1, &home.message("one"));
    assert_eq!(shell.ok("logoff session=1 drain=60")["queued"], 0);
    broker.kill();
    let ours =
        |record: &Record| matches!(record, Record::Sync(s) if s.path.contains("sundown/default"));
    let syncs = recorder.records().iter().filter(|record| ours(record)).count();
    assert!(syncs > 20, "{syncs}");

    let places: Vec<_> = (1..=syncs).step_by(if long() { 1 } else { 5 }).collect();
    for place in &places {
        let home = Home::new();
        let file = home.message("one");
        let mut broker = recorder.serve(&home, &format!("sync|sundown/default|{place}|before"));
        let mut shell = home.shell();
        let logon = shell.tell("logon");
        let submit = format!("submit session=1 file={}", file.display());
        let asked = shell.tell(&submit);
        let status = broker.wait();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{place}");

        let mut broker = home.serve();
        if shell.reply(logon)["ok"] == true {
            assert_eq!(shell.reply(asked)["ok"], true, "killed at sync {place}");
        } else {
            shell.ok("logon");
            shell.ok(&submit);
        }
        assert_eq!(shell.ok("logoff session=1 drain=60")["queued"], 0);
        // What the first broker was sending is nobody's any more, and is finished in its own time.
        let since = Instant::now();
        while home.run(&["queue", "list", "--json"]).ok().json() != serde_json::json!([]) {
            assert!(!left(since).is_zero(), "killed at sync {place}");
        }
        broker.terminate();
        assert_eq!(home.maildir("default").count(), 1, "killed at sync {place}");
        assert_eq!(state(&home, "default").as_deref(), Some("sent"), "killed at sync {place}");
    }
    tell(&format!("{} kills at the {syncs} syncs of a first life", places.len()));
}
