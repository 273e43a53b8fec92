//! An account at a real server, as its users see it: one connection, every program, mail from outside, changes from both sides.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Home, left, says};
use crate::servers::{self, Dovecot};

/// A file with a password.
fn password(home: &Home, password: &str) -> PathBuf {
    let file = home.path("password");
    std::fs::write(&file, format!("{password}\n")).expect("written");
    let only_we = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, only_we).expect("hidden");
    file
}

/// A home whose profile has an account at a server, and takes its mail for a Maildir of its own.
fn home(port: u16, more: &str) -> Home {
    let home = Home::new();
    let password = password(&home, "secret");
    home.profile(
        "default",
        &format!(
            "[[transport]]\nkind = \"maildir\"\naccept = [\"*\"]\n[[mailbox]]\nkind = \"imap\"\nname = \"account\"\n\
             host = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\nusername = \"anna\"\n\
             password_file = \"{}\"\n{more}",
            password.display()
        ),
    );
    home
}

/// Another program at the account.
struct Other(BufReader<TcpStream>, u32);

impl Other {
    fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
        let mut other = Self(BufReader::new(stream), 0);
        other.line();
        other.run("LOGIN anna secret");
        other
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line
    }

    /// A command that is carried out, and what is said meanwhile.
    fn run(&mut self, command: &str) -> String {
        self.1 += 1;
        let tag = format!("t{}", self.1);
        write!(self.0.get_mut(), "{tag} {command}\r\n").expect("it is sent");
        let mut said = String::new();
        loop {
            let line = self.line();
            if let Some(end) = line.strip_prefix(&format!("{tag} ")) {
                assert!(end.starts_with("OK"), "{command}: {line}");
                return said;
            }
            said += &line;
        }
    }

    fn put(&mut self, subject: &str) {
        let text = format!("From: eve@example.org\r\nSubject: {subject}\r\n\r\nhello\r\n");
        self.1 += 1;
        let tag = format!("t{}", self.1);
        write!(self.0.get_mut(), "{tag} APPEND INBOX {{{}}}\r\n", text.len()).expect("sent");
        assert!(self.line().starts_with('+'));
        write!(self.0.get_mut(), "{text}\r\n").expect("sent");
        while !self.line().starts_with(&format!("{tag} OK")) {}
    }
}

fn entry_of(home: &Home, subject: &str) -> String {
    let rows = home.run(&["inbox", "--json"]).ok().json();
    let row = rows.as_array().expect("rows").iter().find(|row| row["subject"] == subject);
    let row = row.unwrap_or_else(|| panic!("no {subject}: {rows}"));
    row["entry"].as_str().expect("an entry").to_owned()
}

/// An account that is added has its mail, once its password is right.
///
/// design receive §5
#[test]
fn an_account_is_added_and_checked() {
    if !Dovecot::installed() {
        return;
    }
    let server = Dovecot::start();
    let Some(port) = server.imap() else { return };
    let home = Home::new();
    let password = password(&home, "wrong");
    let password = password.display().to_string();
    let (imap, smtp) = (port.to_string(), servers::port().to_string());
    let add = ["profile", "add", "default", "anna@example.org", "--json", "--no-local"];
    let outgoing = ["--host", "127.0.0.1", "--port", &smtp, "--security", "none"];
    let incoming = ["--imap-host", "127.0.0.1", "--imap-port", &imap, "--imap-security", "none"];
    let login = ["--password-file", &password];
    let added = home.run(&[&add[..], &outgoing, &incoming, &login].concat()).ok().json();
    assert_eq!((&added["transports"], &added["mailboxes"]), (&json!(["smtp"]), &json!(["imap"])));

    let _broker = home.serve();
    let check = |kind: &str| {
        let checked = home.run(&["profile", "check", "default", "--json"]).exits(1).json();
        let tried = checked["providers"].as_array().expect("a list").clone();
        let tried = tried.into_iter().find(|provider| provider["kind"] == kind);
        tried.expect("it is tried")
    };
    let wrong = check("mailbox");
    assert_eq!(wrong["error"]["code"], "MAPI_E_LOGON_FAILED", "{wrong}");
    let words = wrong["error"]["message"].as_str().expect("words");
    assert!(words.contains("the user name or the password is wrong"), "{words}");
    std::fs::write(&password, "secret\n").expect("written");
    let right = check("mailbox");
    assert_eq!((&right["works"], &right["error"]), (&json!(true), &json!(null)), "{right}");
    // The other server is another matter.
    let unreached = check("transport")["error"]["message"].clone();
    assert!(unreached.as_str().is_some_and(|m| m.contains("nothing listens")), "{unreached}");

    Other::new(port).put("hello");
    let synced = home.run(&["sync", "--wait", "--json"]).ok().json();
    assert_eq!((&synced["new"], &synced["pending"]), (&json!(1), &json!(0)), "{synced}");
    entry_of(&home, "hello");
}

/// design receive §6, §9
#[test]
fn programs_share_one_connection_to_an_account() {
    if !Dovecot::installed() {
        return;
    }
    let server = Dovecot::start();
    let Some(port) = server.imap() else { return };
    let home = home(port, "bodies = \"on-demand\"\n");
    let mut other = Other::new(port);
    other.put("one");
    other.put("two");
    let mut broker = home.serve();
    home.run(&["profile", "check", "default"]).ok();
    let mut shells = [home.shell(), home.shell(), home.shell()];
    for shell in &mut shells {
        shell.ok("logon");
        shell.ok("advise session=1 events=new-mail,object-modified");
    }
    let synced = shells[0].ok("sync session=1");
    assert_eq!(synced["pending"], 0, "{synced}");
    let mailboxes = home.run(&["mailbox", "--json"]).ok().json();
    assert_eq!(
        (&mailboxes[0]["name"], &mailboxes[0]["connections"]),
        (&json!("account"), &json!(1))
    );

    // New mail is told to every program, from one look.
    other.put("three");
    for shell in &mut shells {
        shell.event("new mail", says(&[("event", "new-mail"), ("subject", "three")]));
    }
    // Its bytes are fetched for who reads it.
    let entry = entry_of(&home, "three");
    let read = home.run(&["read", &entry, "--keep-unread"]).ok().output;
    assert!(read.contains("hello"), "{read}");

    // A change that one makes is at the server when a sync is over.
    shells[1].ok(&format!("flag session=1 entry={entry} add=flagged"));
    let synced = shells[1].ok("sync session=1");
    assert_eq!(synced["pending"], 0, "{synced}");
    other.run("SELECT INBOX");
    let flagged = other.run("UID SEARCH FLAGGED");
    assert!(flagged.contains("SEARCH 3"), "{flagged}");

    // One shuts down fast while its neighbours go on; with the last one the connection is gone, without a word.
    shells[0].ok("query-fast-shutdown");
    shells[0].ok("notify-process-shutdown");
    shells[0].ok("do-fast-shutdown");
    let one = entry_of(&home, "one");
    other.run("UID STORE 1 +FLAGS (\\Seen)");
    shells[1].event("a flag", says(&[("event", "object-modified"), ("entry", &one)]));
    for shell in &mut shells[1..] {
        shell.ok("query-fast-shutdown");
        shell.ok("notify-process-shutdown");
        shell.ok("do-fast-shutdown");
    }
    drop(shells);
    let since = Instant::now();
    while home
        .run(&["mailbox", "--json"])
        .ok()
        .json()
        .as_array()
        .is_some_and(|all| all.iter().any(|mailbox: &Value| mailbox["connections"] != 0))
    {
        assert!(!left(since).is_zero(), "the connection is still there");
    }
    broker.terminate();
}

/// A change that is made while the server is gone is pending at once, for who asks.
#[test]
fn a_change_without_a_connection_is_counted() {
    if !Dovecot::installed() {
        return;
    }
    let server = Dovecot::start();
    let Some(port) = server.imap() else { return };
    let home = home(port, "");
    let mut other = Other::new(port);
    other.put("one");
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    shell.ok("sync session=1");
    let entry = entry_of(&home, "one");
    drop(other);
    drop(server);
    shell.ok(&format!("flag session=1 entry={entry} add=flagged"));
    let since = Instant::now();
    loop {
        let mailboxes = home.run(&["mailbox", "--json"]).ok().json();
        if mailboxes[0]["pending"] == 1 && mailboxes[0]["connections"] == 0 {
            break;
        }
        assert!(!left(since).is_zero(), "it is not counted: {mailboxes}");
    }
    broker.terminate();
}

/// What a user is told when an account does not work, and that nothing is lost meanwhile.
#[test]
fn an_account_that_cannot_be_reached_says_why() {
    let port = crate::servers::port();
    let home = home(port, "");
    let mut broker = home.serve();
    let checked = home.run(&["profile", "check", "default", "--json"]).exits(1).json();
    assert!(checked.to_string().contains("nothing listens there"), "{checked}");
    let refused = home.run(&["sync"]).exits(1);
    assert!(refused.errors.contains("cannot be reached"), "{}", refused.errors);
    home.run_with(&["send", "--to", "anna@localhost", "--wait", "--subject", "hi"], "hello\n").ok();
    broker.terminate();
}
