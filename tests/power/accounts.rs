//! An account at an IMAP server, and a power cut at any sync and any command: the store that is left meets the server as it was at that
//! moment, and one sync makes both equal. Nothing of the server's is lost or there twice, nothing that a program was promised is lost, and
//! nothing is put there twice: no draft, and no copy of what was sent.
//!
//! The server must be as it was when the power failed, so each cut is a life of its own: the broker is killed at its place, what its disk
//! had then is made from the record, and the next broker begins with that.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use crate::chance::Chance;
use crate::check::DATA;
use crate::disk::{Disk, Kept};
use crate::harness::{Broker, Home, Shell, left};
use crate::recorder::{Record, Recorder};
use crate::servers::Dovecot;
use crate::{long, tell};

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

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("it is sent");
    }

    /// A command that is carried out, and what is said meanwhile.
    fn run(&mut self, command: &str) -> Vec<String> {
        self.1 += 1;
        let tag = format!("t{} ", self.1);
        self.say(&format!("{tag}{command}\r\n"));
        let mut said = Vec::new();
        loop {
            let line = self.line();
            match line.strip_prefix(&tag) {
                Some(end) if end.starts_with("OK") => return said,
                Some(end) => panic!("{command}: {end}"),
                None => said.push(line.trim_end().to_owned()),
            }
        }
    }

    fn put(&mut self, folder: &str, subject: &str) {
        let text = message(subject).replace('\n', "\r\n");
        self.1 += 1;
        let tag = format!("t{} OK", self.1);
        let head = format!("t{} APPEND {folder} {{{}}}\r\n", self.1, text.len());
        self.say(&head);
        assert!(self.line().starts_with('+'));
        self.say(&format!("{text}\r\n"));
        while !self.line().starts_with(&tag) {}
    }

    /// What every folder has: each message's folder, subject and flags, in alphabetical order.
    fn all(&mut self) -> Vec<String> {
        let folders: Vec<_> = self
            .run("LIST \"\" *")
            .into_iter()
            .filter(|line| !line.contains("\\Noselect"))
            .filter_map(|line| Some(line.rsplit(' ').next()?.trim_matches('"').to_owned()))
            .collect();
        let mut all = Vec::new();
        for folder in folders {
            self.run(&format!("EXAMINE {folder}"));
            let lines = self.run("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
            let mut flags = Vec::new();
            for line in lines {
                if let Some((_, rest)) = line.split_once("FLAGS (") {
                    let words = rest.split(')').next().unwrap_or_default().split(' ');
                    let words = words.filter(|word| !word.is_empty() && *word != "\\Recent");
                    flags = words.map(|word| word.trim_start_matches('\\').to_owned()).collect();
                    flags.sort();
                } else if let Some(subject) = line.strip_prefix("Subject: ") {
                    all.push(format!("{folder} {subject} {}", flags.join(",")));
                }
            }
        }
        all.sort();
        all
    }
}

fn message(subject: &str) -> String {
    format!(
        "From: eve@example.org\nTo: anna@localhost\nSubject: {subject}\nMessage-ID: <{subject}@example.org>\n\nbody\n"
    )
}

/// A home with the account.
fn home(port: u16) -> Home {
    let home = Home::new();
    let password = home.write("password", "secret\n");
    let only_we = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&password, only_we).expect("hidden");
    home.profile(
        "default",
        &format!(
            "[[transport]]\nkind = \"maildir\"\naccept = [\"*\"]\n[[mailbox]]\nkind = \"imap\"\nname = \"account\"\n\
             host = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\nusername = \"anna\"\nbodies = \"all\"\n\
             password_file = \"{}\"\n",
            password.display()
        ),
    );
    home
}

/// A program, and the broker that dies while it works.
struct Program {
    shell: Shell,
    broker: OwnedFd,
}

impl Program {
    fn new(home: &Home, broker: &Broker) -> Self {
        let pid = i32::try_from(broker.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        let broker = pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped yet");
        Self { shell: home.shell(), broker }
    }

    /// The answer to a command that succeeds; nothing if the broker has died before.
    fn ask(&mut self, command: &str) -> Option<Value> {
        let number = self.shell.tell(command);
        let since = Instant::now();
        loop {
            let mut watched = [PollFd::from_borrowed_fd(self.broker.as_fd(), PollFlags::IN)];
            let moment = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
            let is_over = poll(&mut watched, Some(&moment)).expect("it can be watched") > 0;
            let reply = self.shell.lines().into_iter().find(|line| line["reply"] == number);
            if let Some(reply) = reply {
                // It is heard of its end before it has ended.
                let is_lost = is_over || reply["error"]["code"] == "MAPI_E_NETWORK_ERROR";
                assert!(reply["ok"] == true || is_lost, "{command}: {reply}");
                return Some(reply).filter(|reply| reply["ok"] == true);
            }
            if is_over {
                return None;
            }
            assert!(!left(since).is_zero(), "{command} has no answer");
        }
    }

    /// The entry of a message in a folder of a role.
    fn entry(&mut self, what: &str, subject: &str) -> Option<String> {
        let object = self.ask(&format!("open session=1 what={what}"))?["object"].clone();
        let rows = self.ask(&format!("list object={object}"))?["rows"].clone();
        let row = rows.as_array().expect("rows").iter().find(|row| row["subject"] == subject);
        let row = row.unwrap_or_else(|| panic!("no {subject} in {what}: {rows}"));
        Some(row["entry"].as_str().expect("an entry").to_owned())
    }
}

/// What was acknowledged, by its name.
type Done = BTreeSet<&'static str>;

/// What programs and another device do with the account, as far as the broker lives.
fn life(home: &Home, broker: &Broker, other: &mut Other, done: &mut Done) -> Option<()> {
    let mut program = Program::new(home, broker);
    program.ask("logon")?;
    program.ask("sync session=1")?;
    let folders = program.ask("folders session=1")?;
    let work = folders["folders"].as_array().expect("folders").iter().find(|f| f["name"] == "Work");
    let work = work.expect("it is there")["folder"].clone();
    let work = work.as_str().map_or_else(|| work.to_string(), str::to_owned);
    let one = program.entry("inbox", "one")?;
    program.ask(&format!("flag session=1 entry={one} add=flagged,$here"))?;
    done.insert("flagged");
    // The other device.
    other.run("SELECT INBOX");
    other.run("UID STORE 1 +FLAGS.SILENT (\\Answered)");
    other.run("UID STORE 4 +FLAGS.SILENT (\\Deleted)");
    other.run("EXPUNGE");
    other.put("INBOX", "new");
    let two = program.entry("inbox", "two")?;
    program.ask(&format!("move session=1 entry={two} folder={work}"))?;
    done.insert("moved");
    let draft = home.write("draft.eml", message("draft")).display().to_string();
    program.ask(&format!("append session=1 folder=drafts file={draft}"))?;
    done.insert("draft");
    let sent = home.write("sent.eml", message("sent")).display().to_string();
    program.ask(&format!("submit session=1 file={sent}"))?;
    done.insert("sent");
    program.ask("sync session=1")?;
    let three = program.entry("inbox", "three")?;
    program.ask(&format!("delete session=1 entry={three}"))?;
    done.insert("deleted");
    program.ask("sync session=1")?;
    program.ask("logoff session=1 drain=60")?;
    Some(())
}

/// What the store shows of the account: as [`Other::all`].
fn in_the_store(home: &Home) -> Vec<String> {
    let path = home.path(DATA).join("default/store.db");
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let store = store.expect("it is a database");
    let sql = "SELECT spot.dir, subject, message.flags, message.keywords FROM message
               JOIN spot ON spot.message = seq WHERE message.folder <> 0 AND name IS NOT NULL";
    let mut rows = store.prepare(sql).expect("the tables are there");
    let row = |row: &rusqlite::Row<'_>| {
        let dir: String = row.get(0)?;
        // What was sent and never touched has been read.
        let bits = row.get::<_, Option<u16>>(2)?.unwrap_or(1);
        let keywords: Option<String> = row.get(3)?;
        let names = [(1, "Seen"), (2, "Answered"), (4, "Flagged"), (8, "Draft"), (16, "Deleted")];
        let set =
            names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned());
        let keywords = keywords.unwrap_or_default();
        let words = keywords.split_whitespace().map(str::to_owned);
        let mut flags: Vec<_> = set.chain(words).collect();
        flags.sort();
        let folder = dir.trim_start_matches('/');
        Ok(format!("{folder} {} {}", row.get::<_, String>(1)?, flags.join(",")))
    };
    let rows = rows.query_map([], row).expect("it answers");
    let mut all: Vec<_> = rows.map(|row| row.expect("a row")).collect();
    all.sort();
    all
}

/// What the record says that the broker did to its store and told the server.
fn steps_of(records: &[Record]) -> usize {
    let is_log = |record: &&Record| matches!(record, Record::Sync(sync) if sync.path.ends_with("store.db-wal"));
    records.iter().filter(is_log).count()
}

/// Lives until the fault, and lets the next broker go on with what a power cut has left. Whether the broker died of it; how many syncs there
/// were.
fn cut(fault: &str, kept: Kept, chance: &mut Chance) -> Option<(bool, usize)> {
    let recorder = Recorder::new()?;
    let server = Dovecot::start();
    let port = server.imap()?;
    let mut other = Other::new(port);
    for folder in ["Work", "Drafts", "Sent", "Trash"] {
        other.run(&format!("CREATE {folder}"));
    }
    for subject in ["one", "two", "three", "gone"] {
        other.put("INBOX", subject);
    }
    other.put("Work", "four");
    let first = home(port);
    let mut disk = Disk::of(&first.path(""), ".local");
    let mut broker = recorder.serve(&first, fault);
    let mut done = Done::new();
    let is_through = life(&first, &broker, &mut other, &mut done).is_some();
    if is_through {
        // It may die of its last steps.
        let pid = i32::try_from(broker.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::TERM).expect("it is not reaped yet");
    }
    let died = std::os::unix::process::ExitStatusExt::signal(&broker.wait()) == Some(9);
    let records = recorder.records();
    for record in &records {
        disk.follow(record);
    }
    let at = format!("{fault}, kept {kept:?}, acknowledged {done:?}");

    let next = home(port);
    disk.leave(&next.path(""), kept, chance);
    let mut broker = next.serve();
    let mut shell = next.shell();
    shell.ok("logon");
    let since = Instant::now();
    loop {
        let synced = shell.ok("sync session=1");
        let is_sent = next.status()["queued"].as_u64().unwrap_or_default() == 0;
        if synced["pending"] == 0 && is_sent && in_the_store(&next) == other.all() {
            break;
        }
        assert!(
            !left(since).is_zero(),
            "{at}: {synced}\nthe store has {:#?}\nthe server has {:#?}",
            in_the_store(&next),
            other.all()
        );
    }
    let all = other.all();
    let count = |begin: &str| all.iter().filter(|one| one.starts_with(begin)).count();
    let everywhere =
        |subject: &str| all.iter().filter(|one| one.split(' ').nth(1) == Some(subject)).count();
    let is_done = |name: &str| done.contains(name);
    for subject in ["one", "two", "three", "four"] {
        assert_eq!(everywhere(subject), 1, "{subject}, {at}: {all:#?}");
    }
    for (subject, name) in [("draft", "draft"), ("sent", "sent")] {
        assert!(everywhere(subject) <= 1, "{subject} is there twice, {at}: {all:#?}");
        assert!(everywhere(subject) == 1 || !is_done(name), "{subject} is lost, {at}: {all:#?}");
    }
    let is_so = [
        (
            "flagged",
            all.iter().any(|one| {
                one.starts_with("INBOX one") && one.contains("Flagged") && one.contains("$here")
            }),
        ),
        ("moved", count("Work two") == 1),
        ("deleted", count("Trash three") == 1),
        ("draft", count("Drafts draft") == 1),
        ("sent", count("Sent sent") == 1),
    ];
    for (name, is_so) in is_so {
        assert!(is_so || !is_done(name), "{name} was acknowledged, {at}: {all:#?}");
    }
    broker.terminate();
    Some((died, steps_of(&records)))
}

/// Whatever moment the power fails at while an account is mirrored and changed from both sides.
///
/// design receive §2, §3
#[test]
fn a_power_cut_in_a_sync_loses_nothing_of_an_account() {
    if !Dovecot::installed() {
        return;
    }
    let mut chance = Chance::new();
    let Some((_, syncs)) = cut("", Kept::Nothing, &mut chance) else { return };
    assert!(syncs >= 8, "{syncs} syncs of the store");
    let commands = ["APPEND \"Drafts\"", "APPEND \"Sent\"", "Subject: draft", "Subject: sent"];
    let commands = commands.iter().chain(&["MOVE", "STORE", "EXPUNGE", "FETCH"]);
    let mut faults: Vec<_> = commands.map(|words| format!("send|{words}|1")).collect();
    let mut places: Vec<_> = (1..=syncs).map(|n| format!("sync|store.db-wal|{n}")).collect();
    if !long() {
        for some in [&mut faults, &mut places] {
            while some.len() > 2 {
                some.swap_remove(chance.below(some.len()));
            }
        }
    }
    faults.append(&mut places);
    let mut died = 0;
    for fault in &faults {
        for when in ["before", "after"] {
            let mut all = vec![Kept::Nothing];
            if long() {
                all.extend([Kept::Some(50), Kept::Everything]);
            }
            for kept in all {
                let fault = format!("{fault}|{when}");
                died += usize::from(cut(&fault, kept, &mut chance).is_some_and(|(died, _)| died));
            }
        }
    }
    tell(&format!(
        "{died} power cuts while an account is mirrored, of {syncs} syncs and 8 commands"
    ));
    assert!(died >= 4, "{died} of {faults:?}");
}
