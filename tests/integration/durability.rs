//! Nothing that was acknowledged is lost, and nothing is there twice, whoever is killed and when.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use serde_json::Value;

use crate::harness::{Broker, Home, Shell};

/// Numbers by chance. A failure shows where they began.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = RandomState::new().hash_one(0) | 1;
        eprintln!("chance begins with {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Writes so many messages, each with its number in a field.
fn messages(home: &Home, count: usize) {
    for n in 0..count {
        let text = format!("To: anna@localhost\nSubject: {n}\nX-Number: {n}\n\nbody of {n}\n");
        home.write(&format!("m/{n}.eml"), text);
    }
}

/// Has a shell submit them, one after the other; the number of the first of these commands.
fn submit_all(shell: &mut Shell, home: &Home, count: usize, flags: &str) -> u64 {
    shell.ok("logon");
    let first =
        shell.tell(&format!("submit session=1 file={} {flags}", home.path("m/0.eml").display()));
    for n in 1..count {
        let file = home.path(&format!("m/{n}.eml"));
        shell.tell(&format!("submit session=1 file={} {flags}", file.display()));
    }
    first
}

/// How often each message was delivered.
fn delivered(home: &Home) -> BTreeMap<usize, usize> {
    let tally = home.maildir("default").tally("X-Number").into_iter();
    tally.map(|(number, times)| (number.parse().expect("a number"), times)).collect()
}

fn each_once(home: &Home, count: usize) {
    let found = delivered(home);
    let odd: Vec<_> = (0..count).filter(|n| found.get(n) != Some(&1)).collect();
    assert!(odd.is_empty(), "not there exactly once: {odd:?} of {found:?}");
    assert_eq!(found.len(), count);
}

/// Kills a broker so many times, each time after some lines of its log, and starts the next one. The last one is left
/// running.
fn kill_again_and_again(
    home: &Home,
    mut broker: Broker,
    times: usize,
    chance: &mut Chance,
) -> Broker {
    for _ in 0..times {
        let lines = broker.log_length() + chance.below(300);
        let maildir = home.maildir("default");
        let all = home.path("m").read_dir().expect("messages").count();
        let over = || maildir.count() == all;
        broker.until("a moment to kill it", || broker.log_length() >= lines || over());
        broker.kill();
        eprintln!("killed when {} of {all} were delivered", maildir.count());
        broker = home.serve();
    }
    broker
}

/// Waits until everything is delivered, and looks that nothing comes after it, in this broker's life or the next one's.
fn settle(home: &Home, mut broker: Broker, at_least: usize) {
    broker.until("all messages", || home.maildir("default").count() >= at_least);
    for _ in 0..2 {
        home.run(&["logoff", "--drain=60"]).ok();
        let status = home.status_until("an empty queue", |status| {
            let open = |state| status["queue"][state].as_u64().unwrap_or(1);
            ["accepted", "queued", "transmitting", "deferred"].into_iter().map(open).sum::<u64>()
                == 0
        });
        assert_eq!(status["queue"]["unknown"], 0, "{status}");
        broker.terminate();
        broker = home.serve();
    }
}

/// A process hands over 1,000 messages and leaves at once, long before they have gone out. All of them arrive, once each,
/// although the broker is killed again and again while it works them off.
///
/// SEED-2, QUEUE-10, QUEUE-11, design §3.16, §3.19
#[test]
fn a_thousand_messages_arrive_although_the_broker_is_killed() {
    let home = Home::new();
    let broker = home.serve();
    messages(&home, 1000);
    let mut shell = home.shell();
    let first = submit_all(&mut shell, &home, 1000, "deferred");
    shell.ok("uninitialize");
    assert!(shell.end().success());
    let refused = |line: &Value| line["reply"].as_u64() >= Some(first) && line["ok"] != true;
    assert!(!shell.lines().iter().any(refused), "{:?}", shell.lines());
    assert!(
        home.maildir("default").count() < 1000,
        "it would have left too late to prove anything"
    );
    let broker = kill_again_and_again(&home, broker, 6, &mut Chance::new());
    settle(&home, broker, 1000);
    each_once(&home, 1000);
}

/// The same when nobody leaves in order: the broker is killed again and again while the process submits, the process with
/// its last acknowledgement, and the broker with it.
///
/// SEED-2, A-25, design §3.9, §3.16
#[test]
fn a_thousand_messages_arrive_although_everybody_is_killed() {
    let home = Home::new();
    let broker = home.serve();
    messages(&home, 1000);
    let mut shell = home.shell();
    let first = submit_all(&mut shell, &home, 1000, "");
    let mut broker = kill_again_and_again(&home, broker, 6, &mut Chance::new());
    assert_eq!(shell.reply(first + 999)["ok"], true);
    shell.kill();
    broker.kill();
    settle(&home, home.serve(), 1000);
    each_once(&home, 1000);
}

/// A process that is killed in the middle of it: what was acknowledged arrives, once each; of the rest nothing arrives
/// twice.
///
/// SEED-2, A-25, design §3.16
#[test]
fn what_a_killed_process_had_acknowledged_arrives() {
    let home = Home::new();
    let broker = home.serve();
    messages(&home, 300);
    let mut chance = Chance::new();
    let mut shell = home.shell();
    let first = submit_all(&mut shell, &home, 300, "");
    shell.reply(first + chance.below(250) as u64);
    shell.kill();
    let replies = shell.lines().into_iter().filter(|l| l["reply"].as_u64() >= Some(first));
    let acknowledged = replies.filter(|l| l["ok"] == true).count();
    settle(&home, broker, acknowledged);
    let found = delivered(&home);
    assert!((0..acknowledged).all(|n| found.get(&n) == Some(&1)), "{acknowledged}: {found:?}");
    assert!(found.values().all(|times| *times == 1), "{found:?}");
}

/// A process that stays sees every submit succeed, although the broker is killed under it again and again: the library
/// comes back and repeats, with the same keys, what was not acknowledged. Nothing is there twice.
///
/// design §3.16, §3.21, §5
#[test]
fn a_process_that_stays_sees_every_submit_succeed() {
    let home = Home::new();
    let broker = home.serve();
    messages(&home, 300);
    let mut shell = home.shell();
    let first = submit_all(&mut shell, &home, 300, "");
    let broker = kill_again_and_again(&home, broker, 5, &mut Chance::new());
    for number in first..first + 300 {
        let reply = shell.reply(number);
        assert_eq!(reply["ok"], true, "{reply}");
    }
    shell.ok("logoff session=1 drain=60");
    assert!(shell.events(|v| v["event"] == "critical-error").is_empty());
    settle(&home, broker, 300);
    each_once(&home, 300);
}

/// So it is with deferred submissions: those that were not durable yet are repeated by the library that stays, and a flush
/// says that they are.
///
/// design §3.16
#[test]
fn deferred_submissions_survive_the_broker() {
    let home = Home::new();
    let broker = home.serve();
    messages(&home, 300);
    let mut shell = home.shell();
    let first = submit_all(&mut shell, &home, 300, "deferred");
    let flush = shell.tell("flush session=1");
    let broker = kill_again_and_again(&home, broker, 5, &mut Chance::new());
    for number in first..=flush {
        let reply = shell.reply(number);
        assert_eq!(reply["ok"], true, "{reply}");
    }
    shell.kill();
    settle(&home, broker, 300);
    each_once(&home, 300);
}
