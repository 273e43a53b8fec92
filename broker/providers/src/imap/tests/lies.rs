//! A server that says anything: to each command it answers what chance chooses, and closes the connection when it likes. The mailbox ends its
//! connection with an error or goes on; what the store has stays sound, and an honest server afterwards has the last word.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use proptest::prelude::*;

use super::server::{Kind, Server};
use super::world::{World, text};

/// What a server can say between a command and its end. `TAG` is that of the command.
const WORDS: &[&str] = &[
    "* 3 EXISTS\r\n",
    "* 4294967295 EXISTS\r\n",
    "* 0 EXISTS\r\n",
    "* 1 EXPUNGE\r\n",
    "* VANISHED (EARLIER) 1:4294967295\r\n",
    "* VANISHED 2\r\n",
    "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n",
    "* 9 FETCH (UID 4294967295 FLAGS (\\Deleted $x) MODSEQ (18446744073709551615))\r\n",
    "* 1 FETCH (UID 1 FLAGS () INTERNALDATE \"01-Jan-1970 00:00:00 +0000\" RFC822.SIZE 5 BODY[HEADER.FIELDS (DATE)] {14}\r\nSubject: hi\r\n\r\n)\r\n",
    "* 2 FETCH (UID 2 BODY[]<0> {3}\r\nabc)\r\n",
    "* 2 FETCH (UID 1 BODY[]<0> NIL)\r\n",
    "* 2 FETCH (UID 1 BODY[]<0> {4000}\r\nshort)\r\n",
    "* 1 FETCH (BODY[] {9999999999999}\r\n",
    "* LIST () \"/\" INBOX\r\n",
    "* LIST (\\Noselect) \"/\" \"a/b\"\r\n",
    "* LIST (\\Trash) NIL \"&&&/..\\\\\"\r\n",
    "* LIST (\\Sent) \"/\" {5}\r\na\r\nb\t\r\n",
    "* LIST () \"/\" Work\r\n* STATUS Work (MESSAGES 9 UIDNEXT 0 UIDVALIDITY 0 HIGHESTMODSEQ 1)\r\n",
    "* STATUS INBOX (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 7 HIGHESTMODSEQ 9)\r\n",
    "* SEARCH 1 2 3 4294967295\r\n",
    "* ESEARCH (TAG \"TAG\") UID ALL 1:3,5\r\n",
    "* ESEARCH (TAG \"TAG\") UID ALL 1:4294967295\r\n",
    "* OK [UIDVALIDITY 7] x\r\n",
    "* OK [UIDVALIDITY 0] x\r\n",
    "* OK [UIDVALIDITY 8] x\r\n* OK [UIDNEXT 2] x\r\n",
    "* OK [UIDNEXT 4294967295] x\r\n",
    "* OK [UIDNEXT 1] x\r\n",
    "* OK [HIGHESTMODSEQ 18446744073709551615] x\r\n",
    "* OK [PERMANENTFLAGS ()] x\r\n",
    "* OK [NOMODSEQ] x\r\n",
    "* ENABLED QRESYNC CONDSTORE\r\n",
    "* CAPABILITY IMAP4rev1 ENABLE QRESYNC CONDSTORE UIDPLUS MOVE ESEARCH LIST-STATUS SPECIAL-USE OBJECTID IDLE\r\n",
    "* CAPABILITY IMAP4rev1\r\n",
    "+ go on\r\n",
    "\r\n",
    "* \r\n",
    "a0 OK not yours\r\n",
    "TAG NO [OVERQUOTA] no room\r\n",
    "TAG BAD what\r\n",
    "TAG OK [COPYUID 7 1 4294967295] moved\r\n",
    "TAG OK [APPENDUID 8 0] put\r\n",
    "TAG OK [COPYUID 7 1 9] moved\r\n",
    "TAG OK [APPENDUID 7 9] put\r\n",
    "* STATUS Other (MESSAGES 0 UIDNEXT 9 UIDVALIDITY 7)\r\n",
    "* BYE enough\r\n",
    "\u{1}\u{2}\u{3}(((((\r\n",
];

/// A server for a number of connections, which ends with its test.
struct Liar {
    port: u16,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    fn start(choices: Vec<u8>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            let mut choices = choices.into_iter();
            // The last connection is that of whoever ends the test.
            while let Ok((stream, _)) = listener.accept() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                serve(&stream, &mut choices);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { port, end, thread: Some(thread) }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let thread = self.thread.take().expect("it runs");
        self.end.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        thread.join().expect("it has served");
    }
}

/// Lies until there is nothing left to choose.
fn serve(stream: &TcpStream, choices: &mut impl Iterator<Item = u8>) {
    let mut lines = BufReader::new(stream).lines();
    let say = |text: &str| (&mut &*stream).write_all(text.as_bytes()).is_ok();
    if !say(
        "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN ENABLE QRESYNC CONDSTORE UIDPLUS MOVE ESEARCH IDLE] hi\r\n",
    ) {
        return;
    }
    while let Some(Ok(line)) = lines.next() {
        let tag = line.split(' ').next().unwrap_or_default().to_owned();
        if line.contains(" LOGIN ") || line.contains(" AUTHENTICATE ") {
            if !say("+ \r\n") || lines.next().is_none() || !say(&format!("{tag} OK in\r\n")) {
                return;
            }
            continue;
        }
        let Some(count) = choices.next() else { return };
        for _ in 0..count % 5 {
            let Some(choice) = choices.next() else { return };
            let words = WORDS[usize::from(choice) % WORDS.len()];
            if !say(&words.replace("TAG", &tag)) {
                return;
            }
        }
        let end = match count / 5 % 12 {
            0 => "TAG NO not now\r\n",
            1 => "",
            _ => "TAG OK done\r\n",
        };
        if end.is_empty() || !say(&end.replace("TAG", &tag)) {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Whatever is said, the store stays sound, and nothing that a program changed is forgotten.
    #[test]
    fn whatever_a_server_says_is_survived(choices in prop::collection::vec(any::<u8>(), 20..400)) {
        let liar = Liar::start(choices);
        let mut world = World::to(liar.port, &[("timeout", "2000")]);
        for round in 0..4 {
            if let Ok(mut account) = world.account() {
                let _ = World::pass(&mut account);
            }
            world.assert_bodies();
            if round == 1 {
                world.save("mine", sundown_protocol::request::Folder::DRAFTS);
            }
            // What is shown can be read, or is at the server.
            for row in world.rows_everywhere() {
                if let Err(error) = world.text(row.entry.record) {
                    prop_assert_eq!(error.code, sundown_protocol::Code::E_OFFLINE);
                }
            }
        }
        prop_assert!(world.shown(sundown_protocol::request::Folder::DRAFTS).contains(&"mine:".to_owned()));
    }
}

/// A liar in between leaves nothing behind: an honest server has the last word, and the same messages are the same.
#[test]
fn an_honest_server_has_the_last_word() {
    let Some(server) = Server::start(Kind::Full).map(Arc::new) else { return };
    let mut world = World::at(&server, &[("timeout", "2000")]);
    let mut other = world.other();
    for subject in ["one", "two", "three"] {
        other.put("INBOX", "", &text(subject));
    }
    world.settle();
    let before = world.record("two");
    for seed in 0..40_u8 {
        let choices = (0..200_u32).map(|n| (n * 7 + u32::from(seed) * 31 + n * n) as u8).collect();
        let liar = Liar::start(choices);
        let honest = world.go_to(liar.port);
        if let Ok(mut account) = world.account() {
            let _ = World::pass(&mut account);
        }
        drop(liar);
        world.go_to(honest);
        world.settle();
        world.settle();
        assert_eq!(world.shown(super::stories::INBOX), ["one:", "three:", "two:"], "{seed}");
        assert_eq!(world.record("two"), before, "{seed}");
        assert_eq!(world.text(before).expect("bytes"), text("two"), "{seed}");
        assert_eq!(other.shown("INBOX"), ["one:", "three:", "two:"], "{seed}");
    }
}
