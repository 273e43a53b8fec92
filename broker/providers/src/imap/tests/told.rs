//! What a server tells unasked: of all folders on one connection, and what a mailbox does without it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use super::super::account::{Access, Account};
use super::super::notify::Told;
use super::server::Kind;
use super::stories::INBOX;
use super::world::{World, text};
use crate::mailbox::Waker;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// Does what a mailbox does when it has waited, and waits, until something is so. It surveys only what it is told of.
fn hear(account: &mut Account<'_>, is_so: impl Fn() -> bool) {
    let (waker, until) = (Waker::new().expect("a waker"), Instant::now() + LONG);
    loop {
        if account.has_other_folders() {
            account.survey(false).expect("it works");
        }
        account.look_around().expect("it works");
        while !account.is_current() || account.work().expect("it works") {
            account.look_around().expect("it works");
        }
        if is_so() {
            return;
        }
        assert!(Instant::now() < until, "nothing was heard of it");
        account.wait(&waker, LONG).expect("it works");
    }
}

#[test]
fn changes_in_all_folders_are_heard_of_while_waiting() {
    let Some(world) = World::new(Kind::Full) else { return };
    let mut other = world.other();
    other.create("Work");
    let mut account = world.account().expect("it begins");
    World::pass(&mut account).expect("it works");
    assert_eq!(account.is_told, Told::All);
    let shows = |name: &str, wanted: &[&str]| world.shown(world.folder(name)) == wanted;
    other.put("Work", "", &text("one"));
    hear(&mut account, || shows("Work", &["one:"]));
    other.run("SELECT Work");
    other.run("UID STORE 1 +FLAGS.SILENT (\\Flagged)");
    hear(&mut account, || shows("Work", &["one:flagged"]));
    other.put("INBOX", "", &text("two"));
    hear(&mut account, || world.shown(INBOX) == ["two:"]);
    other.create("New");
    hear(&mut account, || world.folders().iter().any(|row| row.name == "New"));
    other.put("New", "", &text("three"));
    hear(&mut account, || shows("New", &["three:"]));
    other.rename("New", "Newer");
    hear(&mut account, || world.folders().iter().any(|row| row.name == "Newer"));
    other.run("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    other.run("EXPUNGE");
    hear(&mut account, || shows("Work", &[]));
    other.run("DELETE Newer");
    hear(&mut account, || world.folders().iter().all(|row| row.name != "Newer"));
}

/// The server tells of a change in the folder that is open while it answers a command, and does not tell of it again.
#[test]
fn changes_in_a_folder_that_was_open_are_not_missed() {
    let Some(world) = World::new(Kind::Full) else { return };
    let mut other = world.other();
    other.create("Work");
    let mut account = world.account().expect("it begins");
    World::pass(&mut account).expect("it works");
    account.select("/Work", Access::Look, None, |_| {}).expect("it opens");
    other.put("Work", "", &text("one"));
    account.talk.run("NOOP").expect("it is answered");
    hear(&mut account, || world.shown(world.folder("Work")) == ["one:"]);
}

/// A server for one connection, which says to NOTIFY and to IDLE what it is given.
fn server(to_notify: &'static str, to_idle: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // It ends with its connection.
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(&stream).lines();
        let say = |text: &str| drop((&stream).write_all(text.as_bytes()));
        say("* OK [CAPABILITY IMAP4rev1 NOTIFY IDLE] hi\r\n");
        while let Some(Ok(line)) = lines.next() {
            let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
            let word = command.split(' ').next().unwrap_or_default();
            let said = match word {
                "LIST" => "* LIST () \"/\" INBOX\r\n* LIST () \"/\" Work\r\n",
                "STATUS" if command.contains("INBOX") => {
                    "* STATUS INBOX (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1)\r\n"
                }
                "STATUS" => "* STATUS Work (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1)\r\n",
                "EXAMINE" => "* 0 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n* OK [UIDNEXT 1] x\r\n",
                _ => "",
            };
            say(said);
            match word {
                "IDLE" => {
                    say(to_idle);
                    if !lines.next().is_some_and(|line| line.is_ok_and(|line| line == "DONE")) {
                        return;
                    }
                    say(&format!("{tag} OK done\r\n"));
                }
                "NOTIFY" => say(&format!("{tag} {to_notify}\r\n")),
                "LOGOUT" => return,
                _ => say(&format!("{tag} OK done\r\n")),
            }
        }
    });
    port
}

#[test]
fn a_server_that_does_not_tell_is_looked_at_from_outside() {
    for refusal in ["BAD what", "NO [BADEVENT (MessageNew MessageExpunge)] no", "NO not for you"] {
        let world = World::to(server(refusal, "+ idling\r\n* 1 EXISTS\r\n"), &[]);
        let mut account = world.account().expect("it begins");
        World::pass(&mut account).expect("it works");
        assert_eq!((account.is_told, &account.talk.heard), (Told::Open, &None), "{refusal}");
        let waker = Waker::new().expect("a waker");
        account.wait(&waker, LONG).expect("it works");
        assert!(!account.is_current(), "the Inbox has changed");
    }
}

#[test]
fn a_server_with_too_much_to_tell_is_looked_at_from_outside() {
    let told = "+ idling\r\n* STATUS Work (MESSAGES 9 UIDNEXT 9)\r\n* OK [NOTIFICATIONOVERFLOW] enough\r\n";
    let world = World::to(server("OK it tells", told), &[]);
    let mut account = world.account().expect("it begins");
    World::pass(&mut account).expect("it works");
    assert_eq!(account.is_told, Told::All);
    let waker = Waker::new().expect("a waker");
    account.wait(&waker, LONG).expect("it works");
    assert!(!account.is_current(), "what it told before counts");
    assert_eq!((account.is_told, &account.talk.heard), (Told::Open, &None));
    World::pass(&mut account).expect("it works");
}

/// A folder that is not known is looked for in a list; one that the profile does not show is not.
#[test]
fn a_server_that_tells_of_unknown_folders_is_asked_for_a_list() {
    let hidden = "+ idling\r\n* STATUS Hidden (MESSAGES 1)\r\n";
    let told = "+ idling\r\n* STATUS Hidden (MESSAGES 1)\r\n* STATUS Strange (MESSAGES 1)\r\n";
    for (told, wanted) in [(told, true), (hidden, false)] {
        let world = World::to(server("OK it tells", told), &[("folder", "!Hidden")]);
        let mut account = world.account().expect("it begins");
        World::pass(&mut account).expect("it works");
        let waker = Waker::new().expect("a waker");
        account.wait(&waker, LONG).expect("it works");
        assert_eq!(account.has_other_folders(), wanted, "{told}");
    }
}

/// A server that ends each wait at once is not asked again and again.
#[test]
fn a_server_that_always_says_something_is_left_alone_for_a_while() {
    let world = World::to(server("BAD what", "+ idling\r\n* OK Still here\r\n"), &[]);
    let mut account = world.account().expect("it begins");
    World::pass(&mut account).expect("it works");
    let (waker, begun) = (Waker::new().expect("a waker"), Instant::now());
    for _ in 0..10 {
        account.wait(&waker, LONG).expect("it works");
    }
    assert!(begun.elapsed() > Duration::from_secs(4), "ten waits without a pause");
}

#[test]
fn a_server_that_never_takes_a_command_ends_the_connection() {
    let world = World::to(server("BAD what", "* OK wait\r\n".repeat(20_000).leak()), &[]);
    let mut account = world.account().expect("it begins");
    World::pass(&mut account).expect("it works");
    let waker = Waker::new().expect("a waker");
    let halt = account.wait(&waker, LONG).expect_err("it is not waited for");
    assert!(format!("{halt:?}").contains("takes no command"), "{halt:?}");
}
