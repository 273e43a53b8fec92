//! Connections on which both sides compress.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::notify::Told;
use super::server::{Kind, Server};
use super::stories::INBOX;
use super::world::{World, text};
use crate::mailbox::{Halt, Waker};

const ALWAYS: &[(&str, &str)] = &[("compression", "always")];

#[test]
fn what_is_compressed_is_the_same() {
    for (kind, offers) in [(Kind::Full, true), (Kind::Cyrus, true), (Kind::Plain, false)] {
        let Some(server) = Server::start(kind).map(Arc::new) else { return };
        let mut world = World::at(&server, &[]);
        assert!(!world.account().expect("it begins").talk.is_compressed(), "it is on this host");
        let mut other = world.other();
        // Many answers come in one piece, and one in many.
        let long = text("long") + &"0123456789abcdef\r\n".repeat(40_000);
        other.put("INBOX", "", &long);
        for n in 0..300 {
            other.put("INBOX", "", &text(&format!("message {n:03}")));
        }
        world.set("compression", "always");
        let account = world.account().expect("it begins");
        assert_eq!(account.talk.is_compressed(), offers, "{kind:?}");
        drop(account);
        world.settle();
        assert_eq!(world.rows(INBOX).len(), 301, "{kind:?}");
        assert_eq!(world.text(world.record("long")).expect("bytes"), long, "{kind:?}");
        world.save("mine", INBOX);
        world.settle();
        assert!(other.shown("INBOX").contains(&"mine:".to_owned()), "{kind:?}");
    }
}

/// What came with the answer to an earlier command is not waited for at the socket.
#[test]
fn a_compressed_connection_is_listened_to() {
    for kind in [Kind::Full, Kind::Cyrus] {
        let Some(server) = Server::start(kind).map(Arc::new) else { return };
        let world = World::at(&server, ALWAYS);
        let mut other = world.other();
        let mut account = world.account().expect("it begins");
        World::pass(&mut account).expect("it works");
        other.put("INBOX", "", &text("one"));
        let waker = Waker::new().expect("a waker");
        while account.is_current() {
            account.wait(&waker, Duration::from_secs(60)).expect("it works");
        }
        account.look_around().expect("it works");
        assert_eq!(world.shown(INBOX), ["one:"], "{kind:?}");
        assert_eq!(account.is_told == Told::All, kind == Kind::Full);
    }
}

/// A server for two connections: it says that it compresses, and does not. All commands that it could read.
fn liar() -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let serve = |stream: &TcpStream, commands: &mut Vec<String>| {
        let mut reader = BufReader::new(stream);
        let say = |text: &str| (&mut &*stream).write_all(text.as_bytes()).is_ok();
        say("* OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE] hi\r\n");
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            let (tag, command) = line.trim_end().split_once(' ').unwrap_or_default();
            commands.push(command.to_owned());
            say(&format!("{tag} OK done\r\n"));
            if command.starts_with("COMPRESS") {
                // It does not understand what comes then.
                let _ = reader.read(&mut [0; 100]);
                say("* BAD what\r\n");
                let _ = reader.read_to_end(&mut Vec::new());
                return;
            }
            line.clear();
        }
    };
    let thread = thread::spawn(move || {
        let mut commands = Vec::new();
        for _ in 0..2 {
            serve(&listener.accept().expect("a connection").0, &mut commands);
        }
        commands
    });
    (port, thread)
}

#[test]
fn a_server_that_does_not_compress_is_not_asked_again() {
    let (port, thread) = liar();
    let world = World::to(port, ALWAYS);
    let survey = || match world.account().and_then(|mut account| account.survey(true)) {
        Err(Halt::Failed(error)) => error.message,
        other => panic!("{other:?}"),
    };
    let error = survey();
    assert!(error.contains("sends what is not compressed"), "{error}");
    let error = survey();
    assert!(error.contains("lists no Inbox"), "{error}");
    let commands = thread.join().expect("no panic");
    let is_asked = |command: &&String| command.starts_with("COMPRESS");
    assert_eq!(commands.iter().filter(is_asked).count(), 1, "{commands:?}");
}
