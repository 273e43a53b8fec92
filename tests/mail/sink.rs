//! Every fault that `smtp-sink` can produce, and what becomes of the mail.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::harness::{Home, Shell};
use crate::queue::{Fate, RETRIES, by_entry, transport};
use crate::servers::{Received, Sink, port};

use Fate::{Bounced, Deferred, Sent, Unknown};

/// The flags of a sink, and what they mean. Time limits are 2 s for an answer and 4 s for the last one.
const FAULTS: &[(&str, Fate)] = &[
    // Healthy servers of different kinds.
    ("", Sent),
    ("-8", Sent),
    ("-a", Sent),
    ("-C", Sent),
    ("-e", Sent),
    ("-E", Sent),
    ("-F", Sent),
    ("-N", Sent),
    ("-p", Sent),
    ("-P", Sent),
    ("-h other.test", Sent),
    ("-T 1024", Sent),
    ("-t 1", Sent),
    ("-m 1", Sent),
    // One that is made for another protocol.
    ("-L", Deferred),
    // Hard refusals.
    ("-f connect", Deferred),
    ("-f helo", Sent),
    ("-f ehlo", Sent),
    ("-f helo,ehlo", Deferred),
    ("-f mail", Bounced),
    ("-f rcpt", Bounced),
    ("-f data", Bounced),
    ("-f .", Bounced),
    ("-f quit", Sent),
    ("-f rset", Sent),
    ("-f noop,vrfy", Sent),
    // Soft refusals.
    ("-r connect", Deferred),
    ("-r helo", Sent),
    ("-r ehlo", Deferred),
    ("-r helo,ehlo", Deferred),
    ("-r mail", Deferred),
    ("-r rcpt", Deferred),
    ("-r data", Deferred),
    ("-r .", Deferred),
    ("-r quit", Sent),
    ("-r rset,rcpt", Deferred),
    // It hangs up without a word.
    ("-q connect", Deferred),
    ("-q helo", Sent),
    ("-q ehlo", Deferred),
    ("-q mail", Deferred),
    ("-q rcpt", Deferred),
    ("-q data", Deferred),
    ("-q .", Unknown),
    ("-q quit", Sent),
    ("-q rset -r rcpt", Deferred),
    // It says 421 and hangs up.
    ("-Q connect", Deferred),
    ("-Q helo", Sent),
    ("-Q ehlo", Deferred),
    ("-Q mail", Deferred),
    ("-Q rcpt", Deferred),
    ("-Q data", Deferred),
    ("-Q .", Deferred),
    ("-Q quit", Sent),
    ("-Q rset -r rcpt", Deferred),
    // Answers of the administrator's choice.
    ("-f rcpt -B 550\u{a0}5.1.1\u{a0}nobody\u{a0}of\u{a0}that\u{a0}name", Bounced),
    ("-f . -B 554\u{a0}5.7.1\u{a0}not\u{a0}wanted", Bounced),
    ("-r . -b 452\u{a0}4.2.2\u{a0}full", Deferred),
    ("-r mail -b 421\u{a0}4.3.2\u{a0}closing", Deferred),
    ("-r rcpt -b 450\u{a0}4.2.0\u{a0}greylisted", Deferred),
    // It ends the message before the message ends, and does not listen any more.
    ("-A 0", Bounced),
    ("-A 1", Bounced),
    // It is slow, but not too slow.
    ("-w 1", Sent),
    ("-W connect:1", Sent),
    ("-W rcpt:1", Sent),
    ("-W .:3", Sent),
    ("-H 1", Sent),
    ("-W quit:9", Sent),
    // It is too slow, by far: whoever waits two seconds may be kept from its processor for some.
    ("-w 60", Deferred),
    ("-W connect:60", Deferred),
    ("-W ehlo:60", Deferred),
    ("-W mail:60", Deferred),
    ("-W rcpt:60", Deferred),
    ("-W data:60", Deferred),
    ("-W .:60", Unknown),
    ("-H 60", Unknown),
];

/// One fault's place in the test: a profile, a server, a message.
struct Case {
    flags: &'static str,
    fate: Fate,
    profile: String,
    session: u64,
    entry: String,
    sink: Sink,
}

/// The words of a table's cell: one with spaces in it has hard ones.
fn flags(cell: &str) -> Vec<String> {
    cell.split_ascii_whitespace().map(|word| word.replace('\u{a0}', " ")).collect()
}

fn sink(cell: &str) -> Sink {
    let flags = flags(cell);
    Sink::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

impl Case {
    fn begin(home: &Home, shell: &mut Shell, number: usize, row: &(&'static str, Fate)) -> Self {
        let (profile, sink) = (format!("fault{number}"), sink(row.0));
        home.profile(&profile, &format!("{}{RETRIES}", transport(sink.port(), "")));
        let session = shell.ok(&format!("logon profile={profile}"))["session"].as_u64();
        let session = session.expect("a number");
        let entry = shell.submit(session, &home.letter(&profile));
        Self { flags: row.0, fate: row.1, profile, session, entry, sink }
    }
}

fn only(received: &[Received], subject: &str, what: &str) {
    let subjects: Vec<_> = received.iter().map(Received::subject).collect();
    assert_eq!(subjects, [subject], "{what}");
}

/// Each fault of a server, at each command: what is refused for ever bounces and its sender is told; what is refused for
/// now, broken off or too late before the final dot is sent once the fault is gone; what breaks off behind the dot is
/// unknown and sent again only if somebody wants it. Nothing is lost, and nothing the server said yes to comes twice.
///
/// QUEUE-11, QUEUE-14, QUEUE-15, design §3.17, §3.18
#[test]
fn whatever_a_server_does_nothing_is_lost_and_nothing_comes_twice() {
    if !Sink::installed() {
        return;
    }
    let home = Home::new();
    let broker = home.serve();
    let mut shell = home.shell();
    let rows = FAULTS.iter().enumerate();
    let mut cases: Vec<_> =
        rows.map(|(number, row)| Case::begin(&home, &mut shell, number, row)).collect();

    // With the faults.
    let open = RefCell::new((0..cases.len()).collect::<BTreeSet<_>>());
    home.rows_until("every fault to show", |rows| {
        let rows = by_entry(rows);
        let is_open = |at: &usize| {
            let case = &cases[*at];
            !case.fate.is_met(rows[&*case.entry], case.flags)
        };
        open.borrow_mut().retain(is_open);
        open.borrow().is_empty()
    });

    // Without them.
    for case in &mut cases {
        let before = case.sink.replace(&[]);
        match case.fate {
            Sent => only(&before, &case.profile, case.flags),
            // What may have gone out is never repeated, and what is refused for ever is not tried again.
            Unknown | Bounced => assert!(before.len() <= 1, "{:?}: {before:?}", case.flags),
            Deferred => {}
        }
    }
    home.rows_until("everything to settle", |rows| {
        let rows = by_entry(rows);
        let is_settled = |case: &Case| {
            let state = &rows[&*case.entry]["state"];
            if case.fate == Deferred && state == "unknown" {
                // Its server ended between the message and the answer. It has not kept it.
                home.queue(&["retry", &case.entry]);
            }
            *state == case.fate.end()
        };
        cases.iter().all(is_settled)
    });
    for case in &cases {
        let received = case.sink.received();
        match case.fate {
            Deferred => only(&received, &case.profile, case.flags),
            _ => assert!(received.is_empty(), "{:?}: {received:?}", case.flags),
        }
        let notices = shell.notices(case.session);
        if case.fate == Bounced {
            assert_eq!(notices.len(), 1, "{:?}: {notices:?}", case.flags);
            let notice = &notices[0];
            let says = |text: &str| assert!(notice.contains(text), "{:?}: {notice}", case.flags);
            says("multipart/report");
            says("Final-Recipient: rfc822; user@test");
            says("Action: failed");
            says("Status: 5.");
            if let Some((_, reply)) = case.flags.split_once("-B ") {
                let reply = reply.replace('\u{a0}', " ");
                let (_, status) = reply.split_once(' ').expect("a status");
                says(&format!("Status: {}", status.split(' ').next().expect("a word")));
                says(status.rsplit(' ').next().expect("a word"));
            }
        } else {
            assert!(notices.is_empty(), "{:?}: {notices:?}", case.flags);
        }
    }

    // What may have gone out goes again if somebody says so.
    for case in cases.iter().filter(|case| case.fate == Unknown) {
        home.run(&["--profile", &case.profile, "queue", "retry", &case.entry]).ok();
        home.rows_until("it is sent again", |rows| {
            rows.iter().any(|row| row["entry"] == *case.entry && row["state"] == "sent")
        });
        only(&case.sink.received(), &case.profile, case.flags);
    }
    drop(broker);
}

/// Nobody there: mail waits, which counts as no attempt, and goes out when somebody is.
///
/// QUEUE-11, design §3.18
#[test]
fn without_a_server_mail_waits() {
    if !Sink::installed() {
        return;
    }
    let home = Home::new();
    let port = port();
    home.sends_to(port, "");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let entry = shell.submit(1, &home.letter("patient"));
    let row = home.entry_with(&entry, "a reason", |row| row["last_error"].is_string());
    assert!(row["last_error"].as_str().is_some_and(|e| e.contains("nothing listens")), "{row}");
    assert_eq!(row["attempts"], 0, "{row}");
    let sink = Sink::at(port, &[]);
    home.run(&["queue", "flush"]).ok();
    home.entry_until(&entry, "sent");
    only(&sink.received(), "patient", "one copy");
    drop(broker);
}

/// A server that closes a connection which it is tired of, or ends, delays nobody's mail by more than a retry: a new
/// connection is made.
///
/// design §3.18
#[test]
fn a_connection_that_was_closed_meanwhile_is_made_again() {
    if !Sink::installed() {
        return;
    }
    let home = Home::new();
    let mut sink = Sink::start(&["-t", "1"]);
    home.sends_to(sink.port(), "connections = 1\n");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let mut send = |subject: &str| {
        let entry = shell.submit(1, &home.letter(subject));
        home.entry_until(&entry, "sent")["attempts"].clone()
    };
    send("first");
    // Now the connection is idle.
    let before = sink.replace(&[]);
    assert_eq!(send("second"), 1, "the first attempt succeeds");
    only(&before, "first", "before");
    only(&sink.received(), "second", "after");
    drop(broker);
}

/// A server that ends after each message, in whatever state its other connections are, gets each message once.
///
/// design §3.17
#[test]
fn a_server_that_ends_after_each_message_gets_each_once() {
    if !Sink::installed() {
        return;
    }
    let home = Home::new();
    let mut sink = Sink::start(&["-M", "1"]);
    home.sends_to(sink.port(), "connections = 1\n");
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    for n in 0..3 {
        shell.submit(1, &home.letter(&format!("number{n}")));
    }
    let mut subjects = Vec::new();
    for n in 0..3 {
        home.rows_until("another message has left", |rows| {
            let left =
                |row: &&serde_json::Value| row["state"] == "sent" || row["state"] == "unknown";
            rows.iter().filter(left).count() > n
        });
        sink.wait();
        subjects.extend(sink.replace(&["-M", "1"]).iter().map(Received::subject));
        home.run(&["queue", "flush"]).ok();
    }
    subjects.sort();
    assert_eq!(subjects, ["number0", "number1", "number2"]);
    drop(broker);
}
