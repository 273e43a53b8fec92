//! SIGKILL at random, while clients submit.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::chance::Chance;
use crate::harness::{Broker, Home, Shell};
use crate::queue::{RETRIES, transport};
use crate::servers::{Scripted, skipped};
use crate::{long, tell};

/// Messages that are handed over between two kills.
const ROUND: usize = 20;

fn kills() -> usize {
    if long() { 200 } else { 6 }
}

/// Tells a shell to submit some messages more; the numbers of these commands.
fn submit(shell: &mut Shell, home: &Home, round: usize) -> Vec<u64> {
    let one = |n: usize| {
        let text = format!(
            "From: me@home.test\nTo: anna@localhost\nSubject: n{n}\nX-Number: {n}\nMessage-ID: <n{n}@home.test>\n\n{n}\n"
        );
        let file = home.write(&format!("m/{n}.eml"), text);
        let flags = if n.is_multiple_of(3) { "deferred" } else { "" };
        shell.tell(&format!("submit session=1 file={} {flags}", file.display()))
    };
    (round * ROUND..(round + 1) * ROUND).map(one).collect()
}

/// Kills a broker again and again while a client submits; the broker that is left, the client, and how many messages
/// there are, each of them acknowledged.
fn kill_under_load(home: &Home, profile: &str) -> (Broker, Shell, usize) {
    let mut chance = Chance::new();
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok(&format!("logon profile={profile}"));
    let mut asked = Vec::new();
    for round in 0..kills() {
        asked.extend(submit(&mut shell, home, round));
        let first = asked[round * ROUND];
        let lines = broker.log_length() + chance.below(4 * ROUND);
        // All of them may be through before so many lines are written.
        let last = asked[asked.len() - 1];
        broker.until("a moment to kill it", || {
            let through = || shell.lines().iter().any(|line| line["reply"] == last);
            broker.log_length() >= lines || (first != last && through())
        });
        broker.kill();
        broker = home.serve();
    }
    for number in &asked {
        let reply = shell.reply(*number);
        assert_eq!(reply["ok"], true, "{reply}");
    }
    shell.ok("flush session=1");
    (broker, shell, asked.len())
}

/// However often the broker is killed while a client submits: each message arrives, once.
///
/// SEED-2, design §3.16, §3.19
#[test]
fn killed_at_random_a_broker_delivers_everything_once() {
    let home = Home::new();
    let (mut broker, mut shell, count) = kill_under_load(&home, "default");
    let left = shell.ok("logoff session=1 drain=60");
    assert_eq!(left["queued"], 0, "{left}");
    broker.terminate();
    let tally = home.maildir("default").tally("X-Number");
    let doubles = tally.values().filter(|times| **times > 1).count();
    tell(&format!(
        "{} kills, {count} messages acknowledged, {} delivered, {doubles} of them more than once",
        kills(),
        tally.len()
    ));
    assert_eq!((tally.len(), doubles), (count, 0));
}

/// With a server: what is sent came once, what is unknown at most once, and nothing is anything else.
///
/// QUEUE-8, design §3.17
#[test]
fn killed_at_random_a_broker_sends_nothing_twice() {
    let home = Home::with_memory().unwrap_or_else(|| {
        skipped("/dev/shm is not in memory: what a kill cuts off is unknown");
        Home::new()
    });
    let server = Scripted::start(|_, _| None);
    home.profile("far", &format!("{}{RETRIES}", transport(server.port(), "connections = 4\n")));
    let (broker, shell, count) = kill_under_load(&home, "far");
    let rows = home.rows_until("everything to come to rest", |rows| {
        let rests = |row: &Value| row["state"] == "sent" || row["state"] == "unknown";
        rows.len() == count && rows.iter().all(rests)
    });
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for talk in server.taken() {
        let text = String::from_utf8_lossy(&talk.message).into_owned();
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "));
        *taken.entry(subject.expect("it has one").to_owned()).or_default() += 1;
    }
    let times = |row: &Value| {
        taken.get(row["subject"].as_str().expect("text")).copied().unwrap_or_default()
    };
    let unknown: Vec<_> = rows.iter().filter(|row| row["state"] == "unknown").collect();
    let doubles = taken.values().filter(|times| **times > 1).count();
    tell(&format!(
        "{} kills, {count} messages acknowledged, {} sent, {} unknown, of which the server has {}, {doubles} twice",
        kills(),
        rows.len() - unknown.len(),
        unknown.len(),
        unknown.iter().filter(|row| times(row) == 1).count(),
    ));
    assert_eq!(doubles, 0);
    let missing: Vec<_> =
        rows.iter().filter(|row| row["state"] == "sent" && times(row) != 1).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    drop((broker, shell));
}
