//! Folders, flags, moves, copies, and messages that are appended and deleted, beside a Maildir: power cuts at each step, and SIGKILL.
//!
//! What was acknowledged is so in the store, however the power fails. A broker that finds such a store and such a Maildir makes both
//! equal: each message is there once, in its folder, with its flags.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sundown_protocol::folder::Marks;
use sundown_protocol::request::Folder;
use sundown_providers::sqlite::SqliteStore;
use sundown_providers::{StoreProvider, StoreReader};

use crate::chance::Chance;
use crate::check::{DATA, spec};
use crate::claims::{Change, Claims, Filed};
use crate::cuts::{Examine, Fits, Plan, Recording};
use crate::disk::{Disk, Kept};
use crate::harness::{Broker, Home, Shell, left};
use crate::recorder::{Record, Recorder};
use crate::steps::{fill, used};
use crate::{long, tell};

/// Where the default profile keeps its data in a home.
fn profile(home: &Path) -> PathBuf {
    home.join(DATA).join("default")
}

fn text(reply: &Value, key: &str) -> String {
    reply[key].as_str().unwrap_or_else(|| panic!("{key} of {reply}")).to_owned()
}

/// Appends a message, which has its number in its head.
fn append(shell: &mut Shell, home: &Home, n: usize, folder: &str, flags: &str) -> String {
    let size = if n.is_multiple_of(4) { 200 << 10 } else { 200 };
    let body = "0123456789 0123456789 0123456789\n".repeat(size / 33);
    let head = format!("From: me@home.test\nTo: me@home.test\nSubject: n{n}\nX-Number: {n}\n");
    let file = home.write(&format!("m/{n}.eml"), format!("{head}\n{body}"));
    let flags = if flags.is_empty() { String::new() } else { format!("flags={flags}") };
    let file = file.display();
    text(&shell.ok(&format!("append session=1 folder={folder} file={file} {flags}")), "entry")
}

/// Asks for what the client library does not repeat by itself. Where the broker died of it, it is asked for again: it may be done.
fn ask(shell: &mut Shell, command: &str) -> Value {
    let mut reply = shell.ask(command);
    let is_unknown = |reply: &Value| reply["error"]["code"] == "MAPI_E_NETWORK_ERROR";
    let was_unknown = is_unknown(&reply);
    while is_unknown(&reply) {
        reply = shell.ask(command);
    }
    let code = &reply["error"]["code"];
    let is_done = was_unknown && (code == "MAPI_E_NOT_FOUND" || code == "MAPI_E_COLLISION");
    assert!(reply["ok"] == true || is_done, "{command}: {reply}");
    reply
}

/// Makes a folder. Its number.
fn make(shell: &mut Shell, name: &str, place: &str) -> String {
    ask(shell, &format!("make-folder session=1 name={name} {place}"));
    let all = shell.ok("folders session=1");
    let all = all["folders"].as_array().expect("folders");
    let made = all.iter().find(|folder| folder["name"] == name).expect("it is there");
    text(made, "folder")
}

/// What a program does with folders and messages.
fn file_messages(shell: &mut Shell, home: &Home) {
    let work = make(shell, "Work", "");
    let inner = make(shell, "Inner", &format!("parent={work}"));
    let folders = [&*work, "inbox", "drafts", &inner];
    let flags = ["", "flagged", "read,answered", "read,$work"];
    let entries: Vec<_> =
        (0..8).map(|n| append(shell, home, n, folders[n % 4], flags[n / 2])).collect();
    for entry in &entries[..4] {
        shell.ok(&format!("flag session=1 entry={entry} add=read remove=flagged"));
        shell.ok(&format!("move session=1 entry={entry} folder=sent"));
        shell.ok(&format!("flag session=1 entry={entry} add=forwarded"));
    }
    shell.ok(&format!("rename-folder session=1 folder={work} name=Projects"));
    for entry in &entries[2..6] {
        shell.ok(&format!("move session=1 entry={entry} folder={inner}"));
        shell.ok(&format!("copy session=1 entry={entry} folder={work}"));
    }
    for entry in &entries[5..] {
        shell.ok(&format!("move session=1 entry={entry} folder=deleted"));
    }
    ask(shell, &format!("delete session=1 entry={}", entries[7]));
    // Taken out of Deleted again.
    shell.ok(&format!("move session=1 entry={} folder=inbox", entries[6]));
    let empty = make(shell, "Empty", "");
    ask(shell, &format!("remove-folder session=1 folder={empty}"));
}

/// The store of a home, to look into beside its broker.
fn store(home: &Path) -> Connection {
    let path = profile(home).join("store.db");
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    store.expect("it is a database")
}

/// How many messages and folders the Maildir does not have as the store has them.
fn pending(home: &Path) -> usize {
    let sql = "SELECT (SELECT count(*) FROM spot WHERE pending = 1)
                    + (SELECT count(*) FROM folder WHERE renamed = 1)
                    + (SELECT count(*) FROM gone_dir)";
    store(home).query_row(sql, [], |row| row.get(0)).expect("it answers")
}

/// Waits until something holds that a mailbox does. The shell's session is there for it, also after another broker has begun.
fn until(shell: &mut Shell, what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(!left(since).is_zero(), "waiting for {what}");
        shell.ok("folders session=1");
    }
}

fn wait_until_carried_out(shell: &mut Shell, home: &Home) {
    until(shell, "the Maildir to have everything", || pending(&home.path("")) == 0);
}

/// A message of the store: its directory and its flags as the Maildir is to have them.
type Lying = (String, Marks);

/// Messages by their subjects.
type Found = BTreeMap<String, Vec<Lying>>;

fn sorted(mut found: Found) -> Found {
    for lying in found.values_mut() {
        lying.sort_by_key(|(dir, marks)| (dir.clone(), marks.0));
    }
    found
}

/// Where the store says that messages are.
fn in_the_store(home: &Path) -> Found {
    let store = store(home);
    let sql = "SELECT subject, spot.dir, message.flags, message.folder FROM message
               JOIN spot ON spot.message = message.seq WHERE message.folder <> 0";
    let mut rows = store.prepare(sql).expect("the tables are there");
    let row = |row: &rusqlite::Row<'_>| {
        let (subject, dir): (String, String) = (row.get(0)?, row.get(1)?);
        let (flags, folder): (u16, i64) = (row.get(2)?, row.get(3)?);
        // There is no folder for deleted messages, so they have a mark.
        let deleted = if folder == i64::from(Folder::DELETED.0) + 1 { Marks::DELETED.0 } else { 0 };
        Ok((subject, (dir, Marks(flags & Marks::KNOWN & !Marks::DELETED.0 | deleted))))
    };
    let mut found = Found::new();
    for row in rows.query_map([], row).expect("it answers") {
        let (subject, lying) = row.expect("a row");
        found.entry(subject).or_default().push(lying);
    }
    sorted(found)
}

/// What is in the Maildir.
fn in_the_maildir(home: &Path) -> Found {
    let root = profile(home).join("Maildir");
    let mut found = Found::new();
    for entry in fs::read_dir(&root).expect("it is there").flatten() {
        let name = entry.file_name().into_string().expect("text");
        if name.starts_with('.') && entry.path().is_dir() {
            of_a_folder(&entry.path(), &name, &mut found);
        }
    }
    of_a_folder(&root, "", &mut found);
    sorted(found)
}

fn of_a_folder(path: &Path, dir: &str, found: &mut Found) {
    for sub in ["new", "cur"] {
        for entry in fs::read_dir(path.join(sub)).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().expect("text");
            let letters = name.split_once(":2,").map_or("", |(_, letters)| letters);
            let marks = letters.chars().map(|letter| match letter {
                'S' => Marks::READ.0,
                'R' => Marks::ANSWERED.0,
                'F' => Marks::FLAGGED.0,
                'D' => Marks::DRAFT.0,
                'T' => Marks::DELETED.0,
                'P' => Marks::FORWARDED.0,
                other => panic!("{other} in {name}"),
            });
            let marks = Marks(marks.fold(0, |all, mark| all | mark));
            let text = fs::read_to_string(entry.path()).expect("text");
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "));
            let subject = subject.unwrap_or_else(|| panic!("{name} is cut off")).to_owned();
            found.entry(subject).or_default().push((dir.to_owned(), marks));
        }
    }
}

/// What a message is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    folder: Folder,
    marks: Marks,
    bytes: Vec<u8>,
}

/// All messages after some changes; `None` is one that was deleted for good.
fn after<'c>(changes: impl Iterator<Item = &'c Filed>) -> BTreeMap<u128, Option<Message>> {
    let mut all = BTreeMap::new();
    for Filed { record, change, .. } in changes {
        if let Change::Append(folder, marks, bytes) = change {
            let message = Message { folder: *folder, marks: *marks, bytes: bytes.clone() };
            all.insert(*record, Some(message));
        }
        if let Change::Copy(from, to) = change {
            let copy: Option<Message> = all[from].clone();
            all.insert(*record, copy.map(|copy| Message { folder: *to, ..copy }));
        }
        let Some(message) = all.get_mut(record) else { continue };
        match (change, message.as_mut()) {
            (Change::Mark(add, remove), Some(message)) => {
                message.marks.0 = (message.marks.0 | add.0) & !remove.0;
            }
            (Change::Move(to), Some(message)) => message.folder = *to,
            (Change::Delete, Some(m)) if m.folder != Folder::DELETED => m.folder = Folder::DELETED,
            (Change::Delete, _) => *message = None,
            _ => {}
        }
    }
    all
}

/// Gives a home that was copied the Maildir that it has now.
fn rehome(home: &Path) {
    let path = profile(home).join("store.db");
    let store = Connection::open(path).expect("it is a database");
    let maildir = profile(home).join("Maildir");
    let known: bool = store
        .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'mailbox'", [], |r| r.get(0))
        .expect("it answers");
    if known {
        let path = maildir.as_os_str().as_bytes();
        store.execute("UPDATE mailbox SET path = ?1", [path]).expect("changed");
    }
}

/// Looks at what a power cut behind a place of the record has left: what is wrong.
fn examine(home: &Path, claims: &Claims, place: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let done = claims.filed.iter().filter(|filed| filed.answered.is_some_and(|at| at < place));
    let done = after(done);
    // What was asked for and not answered may have happened.
    let maybe = after(claims.filed.iter().filter(|filed| filed.asked < place));
    let path = profile(home).join("store.db");
    if !path.exists() {
        return if done.is_empty() { wrong } else { vec!["the store is lost".to_owned()] };
    }
    rehome(home);
    let mut store = SqliteStore::new(&spec("sqlite", &path));
    match store.logon() {
        Ok(facts) => wrong.extend(facts.damage),
        Err(error) => return vec![format!("the store cannot be opened: {}", error.message)],
    }
    let mut reader = store.reader().expect("it is open");
    let connection = self::store(home);
    let whole: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it answers");
    if whole != "ok" {
        wrong.push(format!("the database is damaged: {whole}"));
    }
    let sql = "SELECT record, folder, flags FROM message";
    let mut rows = connection.prepare(sql).expect("the tables are there");
    let row = |row: &rusqlite::Row<'_>| {
        let (folder, marks): (i64, Option<u16>) = (row.get(1)?, row.get(2)?);
        Ok((u128::from_be_bytes(row.get(0)?), folder, marks.unwrap_or_default()))
    };
    let mut found = BTreeMap::new();
    for row in rows.query_map([], row).expect("it answers") {
        let (record, folder, marks) = row.expect("a row");
        found.insert(record, (folder, marks));
    }
    for (record, maybe) in &maybe {
        let there = found.remove(record).filter(|(folder, _)| *folder != 0);
        let is = |message: Option<&Message>| {
            let as_numbers = |m: &Message| (i64::from(m.folder.0) + 1, m.marks.0);
            let known = Marks::KNOWN & !Marks::DELETED.0;
            let there = there.map(|(folder, marks)| (folder, marks & known));
            message.map(as_numbers).map(|(folder, marks)| (folder, marks & known)) == there
        };
        let done = done.get(record);
        if !is(maybe.as_ref()) && !is(done.and_then(Option::as_ref)) {
            wrong.push(format!(
                "{record:032x} is {there:?} and not {:?} or {:?}",
                done.map(|m| m.as_ref().map(|m| (m.folder, m.marks))),
                maybe.as_ref().map(|m| (m.folder, m.marks)),
            ));
        }
        let known = maybe.as_ref().or_else(|| done.and_then(Option::as_ref));
        if let (Some(_), Some(message)) = (there, known) {
            is_whole(reader.as_mut(), *record, message, &mut wrong);
        }
    }
    wrong.extend(found.keys().map(|record| format!("nobody filed {record:032x}")));
    if let Err(error) = store.logoff() {
        wrong.push(format!("the store cannot be closed: {}", error.message));
    }
    wrong
}

/// Whether a message is as it was appended.
fn is_whole(
    reader: &mut dyn StoreReader,
    record: u128,
    message: &Message,
    wrong: &mut Vec<String>,
) {
    let mut bytes = Vec::new();
    let read = reader.open(record).map(|mut body| body.read_to_end(&mut bytes));
    if !matches!(read, Ok(Ok(_))) || bytes != message.bytes {
        let n = bytes.len();
        wrong.push(format!("{record:032x} is not as it was appended, {n} bytes: {read:?}"));
    }
}

fn life(home: &Home, recorder: &Recorder) {
    let mut broker = recorder.serve(home, "");
    let mut shell = home.shell();
    shell.ok("logon");
    file_messages(&mut shell, home);
    wait_until_carried_out(&mut shell, home);
    shell.ok("logoff session=1");
    broker.terminate();
    // In its second life everything is opened anew, and the Maildir is not waited for.
    let mut broker = recorder.serve(home, "");
    let mut shell = home.shell();
    shell.ok("logon");
    for (n, folder) in [(8, "inbox"), (9, "sent"), (10, "drafts")] {
        let entry = append(&mut shell, home, n, folder, "flagged");
        shell.ok(&format!("move session=1 entry={entry} folder=deleted"));
    }
    broker.kill();
}

/// Whatever moment the power fails at: each change that was acknowledged is in the store, nothing else is, and each message is whole.
/// Of some of the states a real broker then makes a store and a Maildir that are equal.
///
/// SEED-2
#[test]
fn a_power_cut_undoes_no_change_of_a_folder() {
    let Some(recorder) = Recorder::new() else { return };
    let home = Home::new();
    let examine: Examine = examine;
    let recording = Recording::of(&home, &recorder, || life(&home, &recorder)).examined_by(examine);
    let filed = recording.claims.filed.iter().filter(|filed| filed.answered.is_some()).count();
    assert!(filed >= 38, "{filed}");
    let renamed = |r: &&Record| matches!(r, Record::Renamed { to, .. } if to.contains("Maildir"));
    let renamed = recording.records.iter().filter(renamed).count();
    assert!(renamed >= 20, "{renamed} files of the Maildir were renamed");
    recording.holds("a life with folders", Plan::new([4, 40], [1, 2]));
    by_real_brokers(&recording);
    // Taking a sync out is noticed, each kind of those that filing a message needs.
    let kinds: [(&str, Fits); 3] = [
        ("the store's log", |path| path.ends_with("store.db-wal")),
        ("a message in tmp", |path| path.contains("Maildir") && path.contains("/tmp/")),
        ("the names in cur", |path| path.contains("Maildir") && path.ends_with("/cur")),
    ];
    for (kind, fits) in kinds {
        let found = recording.without(|path, _| fits(path));
        assert!(found.syncs() < recording.syncs(), "nobody syncs {kind}");
        assert!(found.is_caught(), "without a sync of {kind}");
    }
}

fn by_real_brokers(recording: &Recording) {
    let mut messages = 0;
    recording.at_places(if long() { 200 } else { 10 }, |disk, place, chance| {
        messages += repaired(disk, &recording.claims, place, chance);
    });
    tell(&format!("by real brokers: {messages} messages, each where the store says"));
}

/// Lets a broker begin with what a power cut has left, and compares the store and the Maildir. How many messages there are.
fn repaired(disk: &Disk, claims: &Claims, place: usize, chance: &mut Chance) -> usize {
    let home = Home::new();
    disk.leave(&home.path(""), Kept::Some(50), chance);
    if profile(&home.path("")).join("store.db").exists() {
        rehome(&home.path(""));
    }
    let mut broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    wait_until_carried_out(&mut shell, &home);
    assert_equal(&mut shell, &home, &format!("cut behind record {place}"));
    broker.terminate();
    let wrong = examine(&home.path(""), claims, place + 1);
    assert!(wrong.is_empty(), "cut behind record {place}: {wrong:#?}");
    in_the_store(&home.path("")).values().map(Vec::len).sum()
}

/// The store and the Maildir have the same messages. A mailbox looks through its Maildir after it has carried out what was pending, so
/// this may take a while to hold.
fn assert_equal(shell: &mut Shell, home: &Home, name: &str) {
    let home = home.path("");
    until(shell, name, || in_the_store(&home) == in_the_maildir(&home));
}

/// Wherever the broker dies while a program files messages: the program is answered by the next one, and in the end each message is
/// where it is to be, once.
///
/// SEED-2
#[test]
fn killed_at_any_step_messages_are_filed_once() {
    let Some(recorder) = Recorder::new() else { return };
    let calls = ["rename|Maildir", "link|Maildir", "remove|Maildir", "sync|Maildir"];
    let calls =
        calls.into_iter().chain(["mkdir|Maildir", "write|store.db-wal", "sync|store.db-wal"]);
    let used = used("default");
    let (mut kills, mut chance) = (0, Chance::new());
    for call in calls {
        for when in ["before", "after"] {
            // Each place in its turn, or one of each kind.
            let places: Vec<_> = if long() {
                (1..=12).chain([20, 30, 40]).collect()
            } else {
                vec![1 + chance.below(9)]
            };
            for place in places {
                kills += usize::from(killed(&recorder, &used, &format!("{call}|{place}|{when}")));
            }
        }
    }
    tell(&format!("{kills} kills while messages are filed"));
    assert!(kills >= 8, "{kills}");
}

/// Whether the broker died.
fn killed(recorder: &Recorder, used: &Disk, fault: &str) -> bool {
    let home = Home::new();
    fill(used, &home);
    let mut broker = recorder.serve(&home, fault);
    let pid = broker.pid();
    let (mut broker, died) = std::thread::scope(|scope| {
        let next = scope.spawn(|| -> (Broker, bool) {
            let died = std::os::unix::process::ExitStatusExt::signal(&broker.wait()) == Some(9);
            (home.serve(), died)
        });
        // Who is just logging on when the broker dies has nothing to go on with.
        let mut shell = home.shell();
        while shell.ask("logon")["ok"] != true {
            shell = home.shell();
        }
        file_messages(&mut shell, &home);
        wait_until_carried_out(&mut shell, &home);
        if !next.is_finished() {
            // It has lived through everything, or this one is not there any more.
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a number");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let next = next.join().expect("another broker");
        let mut shell = home.shell();
        shell.ok("logon");
        wait_until_carried_out(&mut shell, &home);
        assert_equal(&mut shell, &home, fault);
        next
    });
    let home = home.path("");
    broker.terminate();
    let found: BTreeMap<_, _> =
        in_the_maildir(&home).into_iter().map(|(subject, lying)| (subject, lying.len())).collect();
    let wanted = [("n0", 1), ("n1", 1), ("n2", 2), ("n3", 2), ("n4", 2), ("n5", 2), ("n6", 1)];
    let wanted: BTreeMap<_, _> = wanted.map(|(subject, n)| (subject.to_owned(), n)).into();
    assert_eq!(found, wanted, "{fault}");
    died
}
