//! Files that are removed or replaced while a broker has them open: nothing that was acknowledged is lost in silence, everybody is
//! told, and what `doctor` says brings the mail back.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Broker, Home, binary, left, run, says};

const LOST: &[(&str, &str)] = &[("event", "critical-error"), ("reason", "store-lost")];

/// What delivers nothing: what should be a Maildir is a file.
const BLOCKED: &str = "[[transport]]\npath = \"blocked\"\n";

/// A home whose mail waits in the queue until somebody removes what is in the way.
fn blocked() -> Home {
    let home = Home::new();
    home.write(".local/share/sundown/default/blocked", "");
    home.profile("default", BLOCKED);
    home
}

fn unblock(home: &Home) {
    fs::remove_file(home.data().join("default/blocked")).expect("it is in the way");
}

/// Submits a message that stays in the queue.
fn queue(home: &Home, subject: &str) {
    let text = format!("X-Number: {subject}\n\nhi\n");
    home.run_with(&["send", "--to", "anna", "--subject", subject], &text).ok();
}

/// The store's files, and only those.
fn store_files(home: &Home) -> Vec<PathBuf> {
    ["store.db", "store.db-wal", "store.db-shm"]
        .map(|name| home.data().join("default").join(name))
        .to_vec()
}

fn remove_store(home: &Home) {
    for file in store_files(home) {
        fs::remove_file(file).expect("it is there");
    }
}

/// What the doctor says of copies.
fn rescued(home: &Home) -> Vec<Value> {
    let mut command = home.command(&["doctor", "--json"]);
    command.env("PATH", home.path("bin"));
    let found = run(command, "").json();
    let all = found.as_array().expect("an array");
    all.iter().filter(|finding| finding["check"] == "rescued").cloned().collect()
}

/// Does what the doctor says, by the letter.
fn follow(home: &Home, finding: &Value) {
    let advice = finding["advice"].as_str().expect("there is advice");
    let commands = advice.split('`').nth(1).expect("there are commands");
    let binary = binary();
    let here = binary.parent().expect("it is somewhere").to_str().expect("text");
    let mut shell = Command::new("sh");
    shell.args(["-c", commands]).env_clear().current_dir(home.path(""));
    shell.env("PATH", format!("{here}:/usr/bin:/bin"));
    shell.env("HOME", home.path("")).env("XDG_RUNTIME_DIR", home.path("run"));
    run(shell, "").ok();
}

/// How often each message was delivered, once the queue is empty.
fn delivered(home: &Home) -> BTreeMap<String, usize> {
    home.run(&["queue", "flush"]).ok();
    home.status_until("an empty queue", |status| {
        let open = |state| status["queue"][state].as_u64().unwrap_or(1);
        ["queued", "transmitting", "deferred", "unknown"].into_iter().map(open).sum::<u64>() == 0
    });
    let tally = fs::read_dir(home.data().join("default/blocked/new")).expect("a Maildir");
    let mut found = BTreeMap::new();
    for message in tally {
        let text = fs::read_to_string(message.expect("a message").path()).expect("text");
        let number = text.lines().find_map(|line| line.strip_prefix("X-Number: "));
        *found.entry(number.expect("a number").to_owned()).or_default() += 1;
    }
    found
}

fn once(subjects: &[&str]) -> BTreeMap<String, usize> {
    subjects.iter().map(|subject| ((*subject).to_owned(), 1)).collect()
}

/// The store is removed under a broker that has mail in its queue. Who writes next is refused, every member of its sessions is
/// told once, and nothing is sent. The doctor says where the mail is; what it says brings it back, and each message goes out
/// once.
///
/// design §3.16
#[test]
fn mail_of_a_removed_store_is_taken_in_once() {
    let home = blocked();
    let mut broker = home.serve();
    let (mut writer, mut other) = (home.shell(), home.shell());
    writer.ok("logon");
    other.ok("logon private");
    queue(&home, "one");
    queue(&home, "two");
    assert_eq!(rescued(&home), [Value::Null; 0]);
    remove_store(&home);

    let refused = writer.fails("setting session=1 name=n value=v", "MAPI_E_END_OF_SESSION");
    let message = refused["message"].as_str().expect("text");
    assert!(message.contains("nothing of this was stored") && message.contains("rescued-"));
    for shell in [&mut writer, &mut other] {
        shell.event("the end", says(LOST));
        shell.fails("open session=1 what=inbox", "MAPI_E_END_OF_SESSION");
        assert_eq!(shell.events(says(&[("event", "critical-error")])).len(), 1);
    }
    let [finding] = &rescued(&home)[..] else { panic!("one copy") };
    assert_eq!(finding["status"], "problem");
    unblock(&home);
    follow(&home, finding);
    assert!(broker.wait().success());

    let _broker = home.serve();
    assert_eq!(delivered(&home), once(&["one", "two"]));
    assert_eq!(rescued(&home), [Value::Null; 0]);
}

/// The database is reset under the broker. The next `send` finds that, and hands its message to the store that is there now; what
/// was in the old one is saved.
///
/// design §3.16
#[test]
fn a_send_after_a_reset_goes_into_the_new_store() {
    let home = blocked();
    let _broker = home.serve();
    queue(&home, "before");
    home.run(&["queue", "hold", &entry_of(&home, "before")]).ok();
    remove_store(&home);
    queue(&home, "after");
    let [finding] = &rescued(&home)[..] else { panic!("one copy") };
    assert_eq!(subjects(&home), ["after"]);
    unblock(&home);
    assert_eq!(delivered(&home), once(&["after"]));
    // The other one is taken in in its place.
    follow(&home, finding);
    let _broker = home.serve();
    assert_eq!(subjects(&home), ["before"]);
    home.run(&["queue", "release", &entry_of(&home, "before")]).ok();
    assert_eq!(delivered(&home), once(&["after", "before"]));
}

/// Who wants what was in both has the copy as a second store, as the page on operations says.
///
/// design §3.16
#[test]
fn a_copy_is_taken_in_beside_what_is_there() {
    let home = blocked();
    let mut broker = home.serve();
    queue(&home, "before");
    remove_store(&home);
    queue(&home, "after");
    assert_eq!(rescued(&home).len(), 1);
    broker.terminate();
    let entries = fs::read_dir(home.data().join("default")).expect("it is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_copy = |path: &PathBuf| path.to_string_lossy().contains("/rescued-");
    let copy = paths.into_iter().find(is_copy).expect("a copy");
    fs::rename(copy, home.data().join("default/rescued.db")).expect("renamed");
    home.profile("default", &format!("[[store]]\n\n[[store]]\nname = \"rescued\"\n\n{BLOCKED}"));
    unblock(&home);
    let _broker = home.serve();
    assert_eq!(delivered(&home), once(&["after", "before"]));
    assert_eq!(rescued(&home), [Value::Null; 0]);
}

fn rows(home: &Home) -> Vec<Value> {
    let listed = home.run(&["queue", "list", "--all", "--json"]).ok().json();
    listed.as_array().expect("rows").clone()
}

fn subjects(home: &Home) -> Vec<String> {
    let subject = |row: &Value| row["subject"].as_str().expect("text").to_owned();
    rows(home).iter().map(subject).collect()
}

fn entry_of(home: &Home, subject: &str) -> String {
    let rows = rows(home);
    let row = rows.iter().find(|row| row["subject"] == subject).expect("it is in the queue");
    row["entry"].as_str().expect("text").to_owned()
}

/// What is removed while nobody uses it is saved when the broker stops.
///
/// design §3.16
#[test]
fn a_broker_that_stops_saves_what_was_removed() {
    for log_only in [false, true] {
        let home = blocked();
        let mut broker = home.serve();
        queue(&home, "one");
        if log_only {
            fs::remove_file(&store_files(&home)[1]).expect("it is there");
        } else {
            fs::remove_dir_all(home.data().join("default")).expect("it is there");
        }
        broker.terminate();
        let found = rescued(&home);
        assert_eq!(found.len(), usize::from(!log_only), "{found:?}");
        if log_only {
            unblock(&home);
        }
        for finding in &found {
            follow(&home, finding);
        }
        let _broker: Broker = home.serve();
        assert_eq!(delivered(&home), once(&["one"]));
    }
}

/// Asks until no broker answers any more.
fn ask_until_it_is_gone(home: &Home) {
    let since = Instant::now();
    let socket = home.socket();
    // Without its socket the other broker of the data would answer.
    while home.run(&["status", "--socket", socket.to_str().expect("text")]).status.success() {
        assert!(!left(since).is_zero(), "the broker does not end");
    }
}

/// A lock file that somebody takes for a left-over and removes is made and locked anew: no second broker gets the data. Where
/// one has got it the first one ends, and says why.
///
/// design §3.21
#[test]
fn a_lock_file_that_was_removed_lets_no_second_broker_in() {
    let home = Home::new();
    let mut broker = home.serve();
    let lock = home.data().join("broker.lock");
    fs::remove_file(&lock).expect("it is there");
    home.status_until("the lock file", |_| lock.exists());
    let elsewhere = home.path("other/broker.sock");
    let elsewhere = elsewhere.to_str().expect("text");
    let second = home.run(&["serve", "--socket", elsewhere]).exits(1);
    assert!(second.errors.contains("another broker is running"), "{second:?}");

    fs::remove_file(&lock).expect("it is there");
    let mut other = Broker::start(&home, &["--socket", elsewhere]);
    ask_until_it_is_gone(&home);
    assert_eq!(broker.wait().code(), Some(1));
    broker.log_line("why", |line| {
        line["error"].as_str().is_some_and(|error| error.contains("other/broker.sock"))
    });
    assert!(!home.socket().exists());
    other.terminate();
    let previous = home.serve();
    previous.log_line("the end of the second one", |line| line["end"] == "stopped");
}

/// The data directory is moved away under the broker and made anew: the broker ends, its mail is saved where the next one, and
/// the doctor, look for it.
///
/// design §3.16, §3.21
#[test]
fn a_broker_whose_data_was_replaced_ends_and_saves() {
    for made_anew in [true, false] {
        let home = blocked();
        let mut broker = home.serve();
        queue(&home, "one");
        fs::rename(home.data(), home.path("aside")).expect("it is there");
        if made_anew {
            fs::create_dir(home.data()).expect("made");
        }
        ask_until_it_is_gone(&home);
        assert_eq!(broker.wait().code(), Some(1));
        broker.log_line("why", |line| {
            line["error"].as_str().is_some_and(|error| error.contains("removed or replaced"))
        });
        let [finding] = &rescued(&home)[..] else { panic!("one copy") };
        follow(&home, finding);
        let _broker = home.serve();
        assert_eq!(delivered(&home), once(&["one"]));
    }
}
