//! What people see who wait or watch: on a terminal one line or one screen, elsewhere nothing that a program would trip over.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Broker, Home, Lines, Maildir, Output, Terminal};

const STUCK: &str = "[[transport]]\npath = \"blocked\"\n[queue]\nretry_min = \"1h\"\n";

/// The alternate screen without a cursor, and the way back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// A home whose mail waits for another try.
fn stuck() -> (Home, Broker) {
    let home = Home::new();
    home.profile("default", STUCK);
    home.write(".local/share/sundown/default/blocked", "");
    let broker = home.serve();
    (home, broker)
}

/// Sends a message that is deferred. Its entry.
fn deferred(home: &Home, broker: &Broker) -> String {
    let sent = home.run_with(&["send", "--to", "anna", "--json"], "hi\n").ok().json();
    let entry = sent["entry"].as_str().expect("text").to_owned();
    let state = || home.run(&["queue", "show", &entry, "--json"]).ok().json()["state"].clone();
    broker.until("the deferral", || state() == "deferred");
    entry
}

/// A wait at a terminal says how far it is, on one line that fits; when it is interrupted it clears that line, says what stays
/// true, and what it said is true.
///
/// design §8
#[test]
fn a_wait_shows_how_far_it_is_and_can_be_left() {
    let (home, broker) = stuck();
    let letter = home.message("letter");
    let mut waiting = Terminal::run(
        home.command(&["send", "--wait", letter.to_str().expect("text")]),
        Output::Pipe,
    );
    waiting.shows("to anna@localhost: deferred; waiting for the next try in ");
    waiting.signal(Signal::INT);
    let (status, printed) = waiting.wait();
    assert_eq!((status.code(), printed.as_str()), (Some(130), ""));
    let shown = waiting.shown();
    let (line, said) = shown.rsplit_once("\r\x1b[K").expect("the line was cleared");
    assert!(said.contains("sundown: interrupted; the message is safe on the disk"), "{shown}");
    assert!(!line.contains('\n'), "it scrolls: {shown:?}");
    for frame in line.split('\r') {
        assert!(frame.trim_end_matches("\x1b[K").chars().count() < 80, "{frame:?}");
    }
    broker.until("the message", || home.status()["queue"]["deferred"] == 1);
}

/// Nobody who reads standard error finds progress there, and with `--json` a terminal shows none either.
///
/// design §8
#[test]
fn programs_see_no_progress() {
    let (home, broker) = stuck();
    let letter = home.message("letter");
    let wait = ["send", "--wait=1", letter.to_str().expect("text")];
    assert_eq!(home.run(&wait).exits(75).errors, "");
    let mut at_terminal =
        Terminal::run(home.command(&[&wait[..], &["--json"]].concat()), Output::Pipe);
    let (status, printed) = at_terminal.wait();
    assert_eq!(status.code(), Some(75));
    assert!(printed.starts_with('{'), "{printed}");
    assert_eq!(at_terminal.shown(), "");
    // Where the terminal knows nothing but lines, rewriting one would fill it.
    let mut dumb = home.command(&wait);
    dumb.env("TERM", "dumb");
    let mut dumb = Terminal::run(dumb, Output::Pipe);
    assert_eq!(dumb.wait().0.code(), Some(75));
    assert_eq!(dumb.shown(), "");
    drop(broker);
}

/// `queue flush --wait` stays until what waited is final or deferred again, and says which.
///
/// FLUSH-1, design §8
#[test]
fn a_flush_waits_for_what_becomes_of_it() {
    let (home, broker) = stuck();
    let entries = [deferred(&home, &broker), deferred(&home, &broker)];
    let flush = |status: i32| {
        let flushed = home.run(&["queue", "flush", "--wait=60", "--json"]).exits(status).json();
        assert_eq!(flushed["hastened"], 2);
        let rows = flushed["entries"].as_array().expect("an array").clone();
        let found: Vec<_> = rows.iter().map(|row| row["entry"].clone()).collect();
        assert_eq!(found, entries);
        rows
    };
    let tries = |row: &Value| row["attempts"].as_u64().expect("a number");
    for row in flush(75) {
        assert_eq!(row["state"], "deferred");
        assert!(tries(&row) >= 2, "it was not tried: {row}");
    }
    std::fs::remove_file(home.data().join("default/blocked")).expect("it is in the way");
    for row in flush(0) {
        assert_eq!(row["state"], "sent");
    }
    assert_eq!(Maildir(home.data().join("default/blocked")).count(), 2);
    let nothing = home.run(&["queue", "flush", "--wait", "--json"]).ok().json();
    assert_eq!(nothing, json!({ "hastened": 0, "entries": [] }));
}

/// Who ends a session for everybody and waits is told for whom.
///
/// LOGOFF-3
#[test]
fn a_logoff_names_whom_it_waits_for() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let logoff = ["logoff", "--shared", "--force", "--yes", "--wait"];
    let mut waiting = Terminal::run(home.command(&logoff), Output::Pipe);
    waiting.shows("waiting for sundown to leave");
    shell.ok("logoff session=1");
    let (status, printed) = waiting.wait();
    assert_eq!((status.code(), printed.as_str()), (Some(0), "logged off\n"));
    assert!(waiting.shown().ends_with("\r\x1b[K"), "{:?}", waiting.shown());
}

/// The screen is drawn over and never cleared, follows the size of the terminal and the broker, and gives the terminal back.
///
/// design §8
#[test]
fn the_screen_follows_the_broker_and_the_terminal() {
    let home = Home::new();
    let mut broker = home.serve();
    let mut watch = Terminal::run(home.command(&["status", "--watch"]), Output::Here);
    watch.shows("no sessions");
    assert!(!watch.echoes());
    let mut shell = home.shell();
    for _ in 0..20 {
        shell.ok("logon");
    }
    watch.shows("… 11 more");
    let mark = watch.mark();
    watch.resize(30, 24);
    watch.shows_after(mark, "30×24, needs 40×12");
    watch.resize(80, 12);
    watch.shows_after(mark, "… 19 more");

    let mark = watch.mark();
    broker.terminate();
    watch.shows_after(mark, "no broker; waiting");
    let mark = watch.mark();
    let broker = home.serve();
    watch.shows_after(mark, &format!("(pid {})", broker.pid()));
    watch.type_in("xq");
    assert_eq!(watch.wait().0.code(), Some(0));
    let shown = watch.shown();
    assert!(shown.starts_with(ENTER) && shown.ends_with(LEAVE), "{shown:?}");
    assert!(!shown.contains("\x1b[2J"), "it is cleared: {shown:?}");
    assert!(watch.echoes());
}

/// A text without what a terminal obeys.
fn without_sequences(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => drop(rest.by_ref().skip(1).find(|c| ('\x40'..='\x7e').contains(c))),
            _ => plain.push(c),
        }
    }
    plain
}

/// The lines of each screen that was drawn, without colours.
fn frames(shown: &str) -> Vec<Vec<String>> {
    let frames = shown.split("\x1b[H").skip(1);
    let lines = |frame: &str| {
        frame.split('\n').map(|l| without_sequences(l.trim_end_matches('\r'))).collect()
    };
    frames.map(lines).collect()
}

/// What is done to a message of the queue is asked first, and only a yes does it. What came of it is said.
///
/// design §8
#[test]
fn a_message_is_changed_from_the_screen_after_a_question() {
    let (home, broker) = stuck();
    let entry = deferred(&home, &broker);
    let state = || home.run(&["queue", "show", &entry, "--json"]).ok().json()["state"].clone();
    let mut watch = Terminal::run(home.command(&["status", "--watch"]), Output::Here);
    watch.shows("[sessions 1]");
    let mut press = |keys: &str, words: &str| {
        let mark = watch.mark();
        watch.type_in(keys);
        watch.shows_after(mark, words);
    };
    press("a", "choose a message first");
    press("\t", "[queue 1]");
    let short = &entry[8..16];
    press("a", &format!("abort {short}? y/n"));
    press("n", "nothing was changed");
    press("a", &format!("abort {short}? y/n"));
    // The first key answers; the one behind it asks nothing by itself.
    press("\x1b[B", "nothing was changed");
    assert_eq!(state(), "deferred");
    press("H", &format!("hold {short}? y/n"));
    press("y", &format!("hold of {short}: held"));
    assert_eq!(state(), "held");
    press("R", &format!("release {short}? y/n"));
    press("y", &format!("release of {short}: "));
    broker.until("it is tried at once, in vain", || state() == "deferred");
    std::fs::remove_file(home.data().join("default/blocked")).expect("it is in the way");
    press("r", &format!("retry {short}? y/n"));
    press("y", &format!("retry of {short}: "));
    broker.until("the message", || state() == "sent");
    press("", "the queue is empty");
    watch.type_in("q");
    assert_eq!(watch.wait().0.code(), Some(0));
}

/// The chosen row is moved by keys, and the list scrolls with it; help, orders, a pause and the other views are there.
///
/// design §8
#[test]
fn keys_move_through_the_screen() {
    let home = Home::new();
    let _broker = home.serve();
    let mut shell = home.shell();
    for _ in 0..20 {
        shell.ok("logon");
    }
    let mut watch = Terminal::run(home.command(&["status", "--watch"]), Output::Here);
    watch.shows("> session 1");
    watch.shows("sent 0/min, ");
    watch.shows(", requests ");
    let mut press = |keys: &str, words: &str| {
        let mark = watch.mark();
        watch.type_in(keys);
        watch.shows_after(mark, words);
    };
    press("j", ">   store");
    press("\x1b[A", "> session 1");
    press("\x1b[F", "above");
    press("\x1b[H", "… 11 more");
    press("\x1b[6~", ">   member");
    press("\x1b[5~", "> session 1");
    press("s", "by profile");
    press("?", "the next view: sessions, queue, transports");
    press("x", "[sessions 1]");
    press("\t\t", "[transports 1]");
    press("\t", "[sessions 1]");
    press("\x1b[Z", "[transports 1]");
    press("\t", "[sessions 1]");
    press("p", "paused");
    shell.ok("logon");
    broker_has(&home, 21);
    press("j", "shared, 20 members");
    press("p", "shared, 21 members");
    watch.type_in("q");
    assert_eq!(watch.wait().0.code(), Some(0));
}

fn broker_has(home: &Home, members: usize) {
    home.status_until("the members", |status| {
        status["sessions"][0]["members"].as_array().is_some_and(|all| all.len() == members)
    });
}

/// No line is wider than the terminal, whatever names there are: what is cut ends in `…`, and what the terminal would obey is shown.
///
/// design §8
#[test]
fn the_screen_is_never_wider_than_the_terminal() {
    let (home, broker) = stuck();
    let odd = "a\u{202e}b\u{200b}c\u{9b}31md日本語 ".repeat(8);
    let message = format!("To: anna@localhost\r\nSubject: {odd}\r\n\r\nhello\r\n");
    home.run_with(&["send", "--json"], &message).ok();
    broker.until("the deferral", || home.status()["queue"]["deferred"] == 1);
    for (columns, rows) in [(80, 24), (40, 12), (132, 43)] {
        let mut watch = Terminal::run(home.command(&["status", "--watch"]), Output::Here);
        watch.shows("[sessions 1]");
        watch.resize(columns, rows);
        for (keys, words) in
            [("\t", "[queue 1]"), ("a", "y/n"), ("n\t", "[transports 1]"), ("?", "any key")]
        {
            let mark = watch.mark();
            watch.type_in(keys);
            watch.shows_after(mark, words);
        }
        watch.type_in("q");
        assert_eq!(watch.wait().0.code(), Some(0));
        let shown = watch.shown();
        // Those that were drawn before its size was heard of are 80 columns wide.
        let all = frames(&shown);
        let drawn = &all[all.len() - 3..];
        let mut cut = 0;
        for line in all.iter().flatten() {
            let unseen = |c: char| sundown_protocol::seen::is_unseen(c);
            assert!(!line.contains(unseen), "{line:?}");
        }
        for frame in drawn {
            assert!(frame.len() <= usize::from(rows), "{frame:?}");
            for line in frame {
                assert!(
                    unicode_width::UnicodeWidthStr::width(line.as_str()) <= columns.into(),
                    "{line:?}"
                );
            }
        }
        cut += all.iter().flatten().filter(|line| line.contains('…')).count();
        assert!(cut > 0, "nothing was cut at {columns} columns");
        // What is behind a full line would clear its last character.
        assert!(!shown.contains("…\x1b[K"), "{columns}: {shown:?}");
    }
}

/// On a terminal each message of the queue is one line that fits, and an error that many have in common stands once below.
///
/// design §8
#[test]
fn the_queue_fits_a_terminal() {
    let (home, broker) = stuck();
    let subject = "a subject that says a lot, and more than there is room for on one line";
    for n in 0..3 {
        home.run_with(
            &["send", "--to", &format!("somebody.with.a.name.{n}@localhost"), "--subject", subject],
            "hi\n",
        )
        .ok();
    }
    broker.until("the deferral", || home.status()["queue"]["deferred"].as_u64() >= Some(1));
    let mut list = Terminal::run(home.command(&["queue"]), Output::Here);
    assert!(list.wait().0.success());
    let shown = without_sequences(&list.shown());
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    assert!(lines[0].starts_with("entry ") && lines[0].ends_with("subject"), "{lines:#?}");
    assert!(lines[1..4].iter().all(|line| line.ends_with('…')), "{lines:#?}");
    assert_eq!(lines[4], "", "{lines:#?}");
    assert_eq!(shown.matches("blocked").count(), 1, "{lines:#?}");
    // Elsewhere nothing is cut.
    assert!(home.run(&["queue"]).ok().output.contains(subject));
}

/// Whatever ends the screen, the terminal is as it was before.
///
/// design §8
#[test]
fn a_screen_that_is_ended_gives_the_terminal_back() {
    let home = Home::new();
    let _broker = home.serve();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut watch = Terminal::run(home.command(&["status", "--watch"]), Output::Here);
        watch.shows("no sessions");
        watch.signal(signal);
        assert_eq!(watch.wait().0.code(), Some(status));
        assert!(watch.shown().ends_with(LEAVE), "{:?}", watch.shown());
        assert!(watch.echoes());
    }
    let without = Home::new();
    let mut watch = Terminal::run(without.command(&["status", "--watch"]), Output::Here);
    assert_eq!(watch.wait().0.code(), Some(1));
    assert!(!watch.shown().contains(ENTER), "{:?}", watch.shown());
}

/// Where nothing can be drawn over, each status stands behind the one before: in a pipe and on a terminal that knows only
/// lines; with `--json` each is a line.
///
/// design §8
#[test]
fn elsewhere_watching_appends() {
    let home = Home::new();
    let _broker = home.serve();
    let watch = |arguments: &[&str]| {
        let mut command = home.command(&[&["status", "--watch"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = Lines::of(child.stdout.take().expect("it is a pipe"));
        lines.wait_beyond("another status", if arguments.is_empty() { 6 } else { 2 });
        child.kill().and_then(|()| child.wait()).expect("ended");
        lines.all()
    };
    let plain = watch(&[]);
    assert_eq!(plain[0].split(' ').next(), Some("broker"), "{plain:?}");
    assert_eq!(plain[..6].iter().filter(|line| *line == "no sessions").count(), 1, "{plain:?}");
    assert!(plain.iter().all(|line| !line.contains('\x1b')), "{plain:?}");
    for line in watch(&["--json"]) {
        let status: Value = serde_json::from_str(&line).expect("each is a document");
        assert_eq!(status["sessions"], json!([]));
    }
    let mut dumb = home.command(&["status", "--watch"]);
    dumb.env("TERM", "dumb");
    let dumb = Terminal::run(dumb, Output::Here);
    dumb.shows("queue: empty\r\n\r\nbroker ");
    assert!(!dumb.shown().contains('\x1b'), "{:?}", dumb.shown());
}

/// What somebody should look at has a colour on a terminal, unless it is not wanted.
///
/// design §8
#[test]
fn colours_are_for_terminals() {
    let (home, broker) = stuck();
    home.shell().ok("logon");
    deferred(&home, &broker);
    let shown = |refused: bool| {
        let mut command = home.command(&["status"]);
        if refused {
            command.env("NO_COLOR", "1");
        }
        let mut terminal = Terminal::run(command, Output::Here);
        assert!(terminal.wait().0.success());
        terminal.shown()
    };
    let colourful = shown(false);
    assert!(colourful.contains("\x1b[31mfailed\x1b"), "{colourful}");
    assert!(colourful.contains("\x1b[33m1 deferred\x1b[0m"), "{colourful}");
    assert!(!shown(true).contains('\x1b'));
    assert!(!home.run(&["status"]).ok().output.contains('\x1b'));
}

/// What others chose reaches no terminal with characters that are not seen there: neither what it obeys, nor what turns the direction of
/// text or has no width. Subjects, addresses, and what is wrong with them.
#[test]
fn what_is_not_seen_reaches_no_terminal() {
    let home = Home::new();
    home.profile("default", "[[transport]]\nkind = \"maildir\"\npath = \"/dev/null/nowhere\"\n");
    let broker = home.serve();
    let odd = "a\u{202e}b\u{200b}c\u{2066}d";
    let message = format!("To: {odd}@localhost\r\nSubject: {odd}\u{9b}e\r\n\r\nhello\r\n");
    let sent = home.run_with(&["send", "--json"], &message);
    deferred(&home, &broker);
    let entry = sent.ok().json()["entry"].as_str().expect("an entry").to_owned();
    let wrong = format!("x{odd}\u{7f}y z");
    let shown = [
        home.run(&["status"]),
        home.run(&["queue", "list"]),
        home.run(&["queue", "show", &entry]),
        home.run(&["queue", "list", "--json"]),
        home.run(&["queue", "show", &entry, "--json"]),
        home.run(&["status", "--json"]),
        home.run(&["queue", "show", &wrong, "--json"]),
        home.run(&["sendmail", "-bp"]),
        home.run(&["queue", "show", &wrong]),
        home.run(&["logoff", "--profile", &wrong]),
        home.run_with(&["send", "--to", &wrong], "hello"),
    ];
    assert!(shown[1].output.contains("a�b�c�d"), "{:?}", shown[1]);
    for ran in shown {
        let unseen = |c: &char| *c != '\n' && sundown_protocol::seen::is_unseen(*c);
        let found: Vec<char> =
            ran.output.chars().chain(ran.errors.chars()).filter(unseen).collect();
        assert!(found.is_empty(), "{found:?} in {ran:?}");
    }
}
