//! Many messages from many processes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::harness::{Home, Shell};
use crate::servers::{Postfix, Received, Sink};

/// Processes that submit at once.
const PROCESSES: usize = 8;

/// How many messages they submit together.
const MESSAGES: usize = 10_000;

/// The messages of all processes, as files: each has a number of its own, in its subject and its Message-ID.
fn messages(home: &Home) -> Vec<PathBuf> {
    let message = |n: usize| {
        let text = format!(
            "From: me@home.test\nTo: user{}@load.test\nSubject: n{n}\nMessage-ID: <n{n}@home.test>\n\n\
             This is message {n}.\nend of n{n}\n",
            n % 10
        );
        home.write(&format!("mail/{n}.eml"), text)
    };
    (0..MESSAGES).map(message).collect()
}

/// Has all messages submitted, each by one of the processes. They are handed over without waiting for each to be durable;
/// the number of the reply that says that all of them are is given back with each process.
fn submit(home: &Home) -> Vec<(Shell, u64)> {
    let messages = messages(home);
    let submit = |messages: &[PathBuf]| {
        let mut shell = home.shell();
        shell.ok("logon");
        let mut commands = String::new();
        for message in messages {
            commands += &format!("submit session=1 file={} deferred\n", message.display());
        }
        let durable = shell.tell_all(&commands, "flush session=1");
        (shell, durable)
    };
    messages.chunks(MESSAGES / PROCESSES).map(submit).collect()
}

/// How often each message came, by its number.
fn tally(ids: impl Iterator<Item = String>) -> BTreeMap<usize, usize> {
    let mut tally = BTreeMap::new();
    for id in ids {
        let number = id.split(['<', 'n', '@']).find_map(|word| word.parse().ok());
        *tally.entry(number.unwrap_or_else(|| panic!("{id} is none of ours"))).or_default() += 1;
    }
    tally
}

fn received(sink: &Sink) -> BTreeMap<usize, usize> {
    let received = sink.received();
    let whole = |r: &Received| {
        let text = r.text();
        let end = format!("end of {}", r.subject());
        assert_eq!(text.trim_end().rsplit('\n').next(), Some(end.as_str()), "{text}");
        r.field("Message-ID").join(" ")
    };
    tally(received.iter().map(whole))
}

fn once_each(tally: &BTreeMap<usize, usize>) {
    let several: Vec<_> = tally.iter().filter(|(_, count)| **count != 1).collect();
    assert!(several.is_empty(), "not once: {several:?}");
    assert_eq!(tally.len(), MESSAGES);
}

/// Ten thousand messages of eight processes come once each.
///
/// QUEUE-2, QUEUE-12, design §3.16
#[test]
fn ten_thousand_messages_of_eight_processes_arrive_once_each() {
    if !Sink::installed() {
        return;
    }
    let (home, sink) = (Home::new(), Sink::start(&[]));
    home.sends_to(sink.port(), "connections = 8\n");
    let broker = home.serve();
    for (mut shell, durable) in submit(&home) {
        assert_eq!(shell.reply(durable)["ok"], true);
        let left = shell.ok("logoff session=1 drain=60");
        assert_eq!(left["queued"], 0, "{left}");
    }
    once_each(&received(&sink));
    assert_eq!(home.status()["queue"]["sent"], MESSAGES);
    drop(broker);
}

/// The same by a real mail server.
///
/// QUEUE-2, QUEUE-12, design §3.16
#[test]
fn ten_thousand_messages_reach_postfix_once_each() {
    if !Postfix::installed() {
        return;
    }
    let (home, postfix) = (Home::new(), Postfix::start(""));
    home.sends_to(postfix.port(), "connections = 8\n");
    let broker = home.serve();
    for (mut shell, durable) in submit(&home) {
        assert_eq!(shell.reply(durable)["ok"], true);
        let left = shell.ok("logoff session=1 drain=60");
        assert_eq!(left["queued"], 0, "{left}");
    }
    let delivered = postfix.log(MESSAGES, "status=sent");
    assert_eq!(delivered.len(), MESSAGES);
    let accepted = postfix.log(MESSAGES, "message-id=");
    let id = |line: String| line.rsplit('=').next().unwrap_or_default().to_owned();
    once_each(&tally(accepted.into_iter().map(id)));
    drop(broker);
}

/// A broker that is killed in the middle of it loses nothing and repeats nothing: what it was just handing over is
/// unknown, and everything else comes once. The processes notice nothing.
///
/// QUEUE-8, design §3.16, §3.17
#[test]
fn a_broker_killed_in_the_middle_loses_and_repeats_nothing() {
    if !Sink::installed() {
        return;
    }
    let (home, sink) = (Home::new(), Sink::start(&[]));
    home.sends_to(sink.port(), "connections = 8\n");
    let mut broker = home.serve();
    let shells = submit(&home);
    broker.until("a part of them", || sink.count() > MESSAGES / 5);
    broker.kill();
    let broker = home.serve();
    for (shell, durable) in &shells {
        assert_eq!(shell.reply(*durable)["ok"], true);
    }
    home.status_until("everything to come to rest", |status| {
        let waits = ["accepted", "queued", "transmitting", "deferred"];
        waits.iter().all(|state| status["queue"][state] == 0)
    });
    let rows = home.rows();
    assert_eq!(rows.len(), MESSAGES);
    let received = received(&sink);
    let (mut sent, mut unknown) = (0, 0);
    for row in &rows {
        let subject = row["subject"].as_str().expect("text");
        let number: usize = subject.trim_start_matches('n').parse().expect("a number");
        let copies = received.get(&number).copied().unwrap_or_default();
        match row["state"].as_str() {
            Some("sent") => {
                assert_eq!(copies, 1, "{row:#}");
                sent += 1;
            }
            Some("unknown") => {
                assert!(copies <= 1, "{copies} copies: {row:#}");
                unknown += 1;
            }
            _ => panic!("{row:#}"),
        }
    }
    assert_eq!(sent + unknown, MESSAGES);
    // Each connection has one message at work and one behind it.
    assert!(unknown <= 16, "{unknown} unknown");
    assert_eq!(received.values().sum::<usize>(), received.len());
    drop((broker, shells));
}
