//! Maildirs that mbsync and offlineimap have fetched: an account takes their messages over without fetching them again.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use super::server::Kind;
use super::stories::INBOX;
use super::world::{World, text};

const MBSYNC: &str = "IMAPAccount account
Host 127.0.0.1
Port PORT
User USER
Pass secret
SSLType None
AuthMechs LOGIN

IMAPStore far
Account account

MaildirStore near
Path DIR/mail/
Inbox DIR/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Near
SyncState *
";

const OFFLINEIMAP: &str = "[general]
accounts = account
metadata = DIR/metadata
socktimeout = 60
[Account account]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = DIR/mail
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = PORT
remoteuser = USER
remotepass = secret
ssl = no
starttls = no
auth_mechanisms = PLAIN
";

/// Fetches an account with a program into `DIR/mail`. Whether the program is here.
fn fetch(program: &str, settings: &str, arguments: &[&str], world: &World, dir: &Path) -> bool {
    fs::create_dir_all(dir.join("mail")).expect("made");
    let settings = settings
        .replace("DIR", &dir.display().to_string())
        .replace("PORT", &world.server().port.to_string())
        .replace("USER", world.user());
    fs::write(dir.join("settings"), settings).expect("written");
    let mut command = Command::new(program);
    command.arg("-c").arg(dir.join("settings")).args(arguments);
    command.env("HOME", dir).current_dir(dir).stdin(Stdio::null());
    let Ok(done) = command.output() else {
        eprintln!("skipped: {program} is not installed");
        return false;
    };
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program}: {said}");
    true
}

/// A way to a server, and what the server has sent on it.
fn overheard(port: u16) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let here = listener.local_addr().expect("bound").port();
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
            let (mut from, mut to) =
                (client.try_clone().expect("one"), server.try_clone().expect("one"));
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let (mut server, mut client, heard) = (server, client, Arc::clone(&heard));
            thread::spawn(move || {
                let mut bytes = [0; 8192];
                while let Ok(read @ 1..) = server.read(&mut bytes) {
                    // Before the client has it.
                    heard.lock().expect("unharmed").extend_from_slice(&bytes[..read]);
                    if client.write_all(&bytes[..read]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    (here, said)
}

/// An account with messages that a program has fetched, and one that came later: only that one is fetched.
fn takes_over(kind: Kind, program: &str, settings: &str, arguments: &[&str]) {
    let Some(mut world) = World::new(kind) else { return };
    let mut other = world.other();
    other.create("Work");
    let long = text("long") + &"a line of a long message\r\n".repeat(40_000);
    for (folder, message) in [
        ("INBOX", text("one")),
        ("INBOX", text("two")),
        ("INBOX", text("bare")),
        ("Work", text("three")),
        ("Work", text("two")),
        ("Work", long.clone()),
    ] {
        other.put(folder, "", &message);
    }
    let dir = TempDir::new().expect("a directory");
    if !fetch(program, settings, arguments, &world, dir.path()) {
        return;
    }
    other.put("INBOX", "", &text("later"));
    other.put("Work", "", &text("one").replace("body of one", "body of eno"));
    let (port, said) = overheard(world.server().port);
    world.set("take_over", &dir.path().join("mail").display().to_string());
    world.go_to(port);
    world.settle();
    let said = String::from_utf8_lossy(&said.lock().expect("unharmed")).into_owned();
    let sent = |words: &str| said.contains(words);
    assert!(sent("body of later"), "a message that came later is fetched");
    assert!(sent("body of eno"), "and one that is another in nothing but its text and its number");
    for body in ["body of one", "body of two", "body of three", "body of bare", "a line of a long"]
    {
        assert!(!sent(body), "{body:?} was fetched again, with {program}");
    }
    let read = |subject: &str| world.text(world.record(subject)).expect("its bytes");
    for subject in ["two", "bare", "three", "later"] {
        assert_eq!(read(subject), text(subject), "{subject}");
    }
    assert_eq!(read("long"), long);
    let ones = world.rows_everywhere().into_iter().filter(|row| row.subject == "one");
    let mut ones: Vec<_> =
        ones.map(|row| world.text(row.entry.record).expect("its bytes")).collect();
    ones.sort();
    assert_eq!(ones, [text("one").replace("body of one", "body of eno"), text("one")]);
    assert_eq!(world.rows(INBOX).len(), 4);
    assert_eq!(world.rows_everywhere().len(), 8);
    // Nothing is fetched or read a second time.
    world.settle();
}

#[test]
fn what_mbsync_has_fetched_is_taken_over() {
    for kind in [Kind::Full, Kind::Courier] {
        takes_over(kind, "mbsync", MBSYNC, &["-q", "all"]);
    }
}

#[test]
fn what_offlineimap_has_fetched_is_taken_over() {
    takes_over(Kind::Full, "offlineimap", OFFLINEIMAP, &["-o", "-u", "quiet"]);
}
