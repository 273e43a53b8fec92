//! Many messages from many processes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::JoinHandle;

use serde_json::Value;

use crate::harness::{Home, Shell};
use crate::servers::{Postfix, Received, Sink};

/// Processes that submit at once.
const PROCESSES: usize = 8;

/// How many messages they submit together: ten thousand. `SUNDOWN_TEST_MESSAGES` says another number; without it a build
/// with debug assertions, in which all of this takes several times as long, has a fifth.
fn count() -> usize {
    let said = std::env::var("SUNDOWN_TEST_MESSAGES").ok().and_then(|text| text.parse().ok());
    said.unwrap_or(if cfg!(debug_assertions) { 2_000 } else { 10_000 })
}

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
    (0..count()).map(message).collect()
}

/// Has all messages submitted, each by one of the processes, which hand them over without waiting for each to be durable.
/// What comes back with each process is the number of the reply that says that all of them are.
fn submit(home: &Home) -> Vec<JoinHandle<(Shell, u64)>> {
    let messages = messages(home);
    let submit = |messages: &[PathBuf]| {
        let (mut shell, messages) = (home.shell(), messages.to_vec());
        std::thread::spawn(move || {
            shell.ok("logon");
            for message in messages {
                shell.tell(&format!("submit session=1 file={} deferred", message.display()));
            }
            let durable = shell.tell("flush session=1");
            (shell, durable)
        })
    };
    messages.chunks(count().div_ceil(PROCESSES)).map(submit).collect()
}

/// Waits until everything is submitted and sent.
fn sent(submitters: Vec<JoinHandle<(Shell, u64)>>) {
    for submitter in submitters {
        let (mut shell, durable) = submitter.join().expect("it submits");
        assert_eq!(shell.reply(durable)["ok"], true);
        let left = shell.ok("logoff session=1 drain=240");
        assert_eq!(left["queued"], 0, "{left}");
    }
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
    assert_eq!(tally.len(), count());
}

/// All messages of eight processes come once each.
///
/// QUEUE-2, QUEUE-12, design §3.16
#[test]
fn many_messages_of_eight_processes_arrive_once_each() {
    if !Sink::installed() {
        return;
    }
    let (home, sink) = (Home::new(), Sink::start(&[]));
    home.sends_to(sink.port(), "connections = 8\n");
    let broker = home.serve();
    sent(submit(&home));
    once_each(&received(&sink));
    assert_eq!(home.status()["queue"]["sent"], count());
    drop(broker);
}

/// The same by a real mail server.
///
/// QUEUE-2, QUEUE-12, design §3.16
#[test]
fn many_messages_reach_postfix_once_each() {
    if !Postfix::installed() {
        return;
    }
    let (home, postfix) = (Home::new(), Postfix::start(""));
    home.sends_to(postfix.port(), "connections = 8\n");
    let broker = home.serve();
    sent(submit(&home));
    let delivered = postfix.log(count(), "status=sent");
    assert_eq!(delivered.len(), count());
    let accepted = postfix.log(count(), "message-id=");
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
    let submitters = submit(&home);
    broker.until("a part of them", || sink.count() > count() / 5);
    broker.kill();
    let broker = home.serve();
    let join = |submitter: JoinHandle<(Shell, u64)>| submitter.join().expect("it submits");
    let shells: Vec<_> = submitters.into_iter().map(join).collect();
    for (shell, durable) in &shells {
        assert_eq!(shell.reply(*durable)["ok"], true);
    }
    // The status tells nothing here: until a store's queue is read, it counts what of it is known.
    let rows = home.rows_until("everything to come to rest", |rows| {
        let rests = |row: &Value| row["state"] == "sent" || row["state"] == "unknown";
        rows.iter().all(rests)
    });
    assert_eq!(rows.len(), count());
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
    assert_eq!(sent + unknown, count());
    // Each connection has one message at work and one behind it.
    assert!(unknown <= 16, "{unknown} unknown");
    assert_eq!(received.values().sum::<usize>(), received.len());
    drop((broker, shells));
}
