//! A store whose file was damaged at random: no panic, never a wrong message, never a wrong recipient, and nothing is lost
//! without a word.
//!
//! `SUNDOWN_TEST_DAMAGE=5000` damages it that often.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rusqlite::{Connection, OpenFlags};
use sundown_core::provider::{
    MessageContent, ProviderAnswer, ProviderSpec, Recipient, StoreRead, StoreWrite, Submission,
    SubmissionState,
};
use sundown_protocol::Code;
use sundown_protocol::request::Report;
use sundown_providers::sqlite::SqliteStore;
use sundown_providers::{StoreProvider, StoreReader, Sync};
use tempfile::TempDir;

/// Messages of a store, and its files at a moment at which the broker could have died.
struct Original {
    messages: Vec<(Submission, Vec<u8>)>,
    database: Vec<u8>,
    log: Vec<u8>,
}

/// What became of a damaged store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything is as it was: the damage is in no use.
    Harmless,
    /// It is not opened.
    Refused,
    /// It is opened, and what is damaged in it says so.
    Detected,
    /// What was committed behind the damage in the log is lost; the log is kept.
    LogKept,
    /// The damage is in the last commit of the log, or in the log's head: as if that had never been synced.
    EndOfLog,
}

fn spec(path: PathBuf) -> ProviderSpec {
    ProviderSpec { path, ..ProviderSpec::new("sqlite") }
}

fn submission(record: u128) -> Submission {
    let recipient = |n: u128| Recipient {
        address: format!("recipient-{n}-of-{record}@example.org"),
        state: SubmissionState::Queued,
        intent: None,
        reply: None,
    };
    Submission {
        record,
        profile: "default".into(),
        uid: 1000,
        from: format!("sender-{record}@example.org"),
        recipients: (0..=record % 3).map(recipient).collect(),
        subject: String::new(),
        size: 0,
        order: 0,
        no_mail: false,
        attempts: 0,
        due: 5_000,
        submitted: 5_000,
        last_error: None,
        report: Report::default(),
        route: None,
        born: None,
        delay_told: false,
    }
}

fn message(record: u128) -> Vec<u8> {
    let lines = if record.is_multiple_of(5) { 9_000 } else { 20 * record as usize };
    let body: String = (0..lines).map(|n| format!("line {n} of message {record}\r\n")).collect();
    format!(
        "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <{record}@x>\r\nFrom: sender-{record}@example.org\r\n\
         Subject: message {record}\r\n\r\n{body}"
    )
    .into_bytes()
}

impl Original {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("store.db");
        let mut store = SqliteStore::new(&spec(path.clone()));
        let mut messages = Vec::new();
        for half in 0..2 {
            store.logon().expect("it logs on");
            for n in 1..=8 {
                // Records as they are made: without an order.
                let number: u128 = half * 8 + n;
                let record = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
                let bytes = message(half * 8 + n);
                let content = MessageContent::Inline(bytes.clone());
                let submission = Box::new(Submission { record, ..submission(half * 8 + n) });
                let write =
                    StoreWrite::Submit { submission: submission.clone(), content, deferred: false };
                let answer = store.commit(vec![write], Sync::Full).remove(0);
                let Ok(ProviderAnswer::Submitted { submission, new: true }) = answer else {
                    panic!("{answer:?}")
                };
                messages.push((*submission, bytes));
            }
            // The first half is in the database, the second in the log.
            if half == 0 {
                store.logoff().expect("it closes");
            }
        }
        let log = dir.path().join("store.db-wal");
        let read = |path: &Path| fs::read(path).expect("the file is there");
        Self { messages, database: read(&path), log: read(&log) }
    }
}

/// Damages bytes as disks and people do.
fn damage(bytes: &mut Vec<u8>, random: &mut TestRng) -> String {
    let place = random.next_u64() as usize % bytes.len();
    match random.next_u32() % 8 {
        0..=3 => {
            bytes[place] ^= 1 << (random.next_u32() % 8);
            format!("a bit at {place}")
        }
        4 | 5 => {
            let end = bytes.len().min(place + 16);
            random.fill_bytes(&mut bytes[place..end]);
            format!("16 bytes at {place}")
        }
        6 => {
            let start = place / 512 * 512;
            let end = bytes.len().min(start + 512);
            bytes[start..end].fill(0);
            format!("a sector at {start}")
        }
        _ => {
            bytes.truncate(place);
            format!("everything from {place}")
        }
    }
}

/// Whether the database says of itself that it is sound, as `PRAGMA integrity_check` has it.
fn is_sound(path: &Path) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let Ok(connection) = Connection::open_with_flags(path, flags) else { return false };
    let check = connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    check.is_ok_and(|text| text == "ok")
}

/// How many submissions the store shows as damaged.
fn said_to_be_damaged(reader: &mut dyn StoreReader) -> usize {
    let all = StoreRead::Queue { all: true, after: 0, limit: 100 };
    let Ok(ProviderAnswer::Queue { rows, .. }) = reader.read(&all) else { return 0 };
    let damaged = |row: &Submission| row.last_error.as_ref().is_some_and(|e| e.contains("damaged"));
    rows.iter().filter(|row| damaged(row)).count()
}

/// Opens the damaged store and looks at everything that was in it.
fn examine(original: &Original, path: &Path, in_log: bool) -> Outcome {
    let mut store = SqliteStore::new(&spec(path.to_owned()));
    match store.logon() {
        Ok(_) => {}
        Err(error) => {
            let known = [Code::E_CORRUPT_STORE, Code::E_VERSION, Code::E_CALL_FAILED];
            assert!(known.contains(&error.code), "{error}");
            assert!(!error.message.is_empty(), "it says nothing");
            assert!(path.exists(), "what is damaged is not removed");
            return Outcome::Refused;
        }
    }
    let (mut wrong, mut missing) = (0, 0);
    let mut reader = store.reader().expect("a reader");
    match reader.read(&StoreRead::Due { after: None, limit: 100 }) {
        Err(_) => wrong += 1,
        Ok(ProviderAnswer::Due { submissions, .. }) => {
            for found in &submissions {
                let (right, _) = original
                    .messages
                    .iter()
                    .find(|(submission, _)| submission.record == found.record)
                    .expect("only what was handed over is sent");
                assert_eq!(found.recipients, right.recipients, "it would go to somebody else");
                assert_eq!((&found.from, &found.profile), (&right.from, &right.profile));
            }
            // A damaged envelope is shown, and given up because it is old.
            let told = said_to_be_damaged(reader.as_mut());
            wrong += told;
            missing += original.messages.len().saturating_sub(submissions.len() + told);
        }
        Ok(other) => panic!("{other:?}"),
    }
    for (submission, bytes) in &original.messages {
        let mut found = Vec::new();
        match reader.open(submission.record).map(|mut body| body.read_to_end(&mut found)) {
            Ok(Ok(_)) => assert!(found == *bytes, "a wrong message would be sent"),
            Err(error) if error.code == Code::E_NOT_FOUND => missing += 1,
            Ok(Err(_)) | Err(_) => wrong += 1,
        }
        let piece = StoreRead::Piece { record: submission.record, offset: 3, limit: 1 << 20 };
        if let Ok(ProviderAnswer::Piece { bytes: found, .. }) = reader.read(&piece) {
            assert!(found == bytes[3..], "a wrong message would be shown");
        }
    }
    drop(reader);
    // What comes after the damage is written or refused, and nothing of it brings the broker down.
    let content = MessageContent::Inline(message(99));
    let write =
        StoreWrite::Submit { submission: Box::new(submission(99)), content, deferred: false };
    let written = store.commit(vec![write, StoreWrite::Flush], Sync::Full).remove(0);
    if written.is_ok() {
        let mut found = Vec::new();
        let mut reader = store.reader().expect("a reader");
        let read = reader.open(99).map(|mut body| body.read_to_end(&mut found));
        assert!(!matches!(read, Ok(Ok(_))) || found == message(99), "a wrong message");
    }
    let refused = written.is_err();
    let _ = store.logoff();
    match (wrong, missing) {
        (0, 0) if !refused => Outcome::Harmless,
        (0, 1..) if path.with_file_name("store.db-wal.damaged").exists() => Outcome::LogKept,
        (0, 1..) if in_log && is_sound(path) => Outcome::EndOfLog,
        (0, 1..) => {
            assert!(!is_sound(path), "messages are gone, and nothing says so");
            Outcome::Detected
        }
        _ => Outcome::Detected,
    }
}

fn rounds() -> u64 {
    std::env::var("SUNDOWN_TEST_DAMAGE").map_or(60, |n| n.parse().expect("a number"))
}

#[test]
fn a_damaged_store_sends_nothing_wrong_and_loses_nothing_unseen() {
    let original = Original::new();
    let mut outcomes = Vec::new();
    for seed in 0..rounds() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let (mut database, mut log) = (original.database.clone(), original.log.clone());
        let in_log = random.next_u32().is_multiple_of(3);
        let what = damage(if in_log { &mut log } else { &mut database }, &mut random);
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("store.db");
        fs::write(&path, &database).expect("written");
        fs::write(dir.path().join("store.db-wal"), &log).expect("written");
        let examined = std::panic::catch_unwind(|| examine(&original, &path, in_log));
        let file = if in_log { "the log" } else { "the database" };
        let outcome = examined.unwrap_or_else(|_| panic!("seed {seed}: {what} of {file}"));
        outcomes.push(outcome);
    }
    let count = |outcome| outcomes.iter().filter(|found| **found == outcome).count();
    let counts = [
        Outcome::Harmless,
        Outcome::Refused,
        Outcome::Detected,
        Outcome::LogKept,
        Outcome::EndOfLog,
    ]
    .map(|outcome| (outcome, count(outcome)));
    eprintln!("{} damaged stores: {counts:?}", outcomes.len());
    assert!(count(Outcome::Detected) > 0 && count(Outcome::LogKept) > 0, "{counts:?}");
}

/// The commands of the page on operations.
const SALVAGE: &str = "sqlite3 store.db .dump | sed 's/^ROLLBACK;.*/COMMIT;/' | sqlite3 saved.db
sqlite3 saved.db 'PRAGMA application_id = 1399093102; PRAGMA user_version = 3'";

/// What the page on operations says to do with a damaged store saves what can be read, and nothing else.
#[test]
fn what_can_be_read_of_a_damaged_store_is_saved() {
    if Command::new("sqlite3").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no sqlite3");
        return;
    }
    let page = include_str!("../../../docs/operations.md");
    for line in SALVAGE.lines() {
        assert!(page.contains(line), "the page does not say: {line}");
    }
    let original = Original::new();
    let folder = TempDir::new().expect("a directory");
    let whole = folder.path().join("store.db");
    fs::write(&whole, &original.database).expect("written");
    fs::write(whole.with_extension("db-wal"), &original.log).expect("written");
    let mut store = SqliteStore::new(&spec(whole.clone()));
    store.logon().expect("it is not damaged yet");
    store.logoff().expect("everything is in the database");
    let database = fs::read(&whole).expect("it reads");
    let mut saved = Vec::new();
    for part in 1..=4 {
        let dir = TempDir::new().expect("a directory");
        let mut damaged = database.clone();
        // In the middle of what is large: bodies, and with them the way to what is behind.
        let start = damaged.len() * part / 5 / 4096 * 4096;
        damaged[start..start + 4096].fill(0xA5);
        fs::write(dir.path().join("store.db"), &damaged).expect("written");
        let done = Command::new("sh").args(["-c", SALVAGE]).current_dir(dir.path()).output();
        assert!(done.expect("a shell").status.success(), "page {start}");
        saved.push(intact(&original, &dir.path().join("saved.db")));
    }
    eprintln!("saved of {} messages, page by page: {saved:?}", original.messages.len());
    assert!(saved.iter().all(|saved| *saved >= original.messages.len() / 2), "{saved:?}");
}

/// How many messages are whole. None may be another.
fn intact(original: &Original, path: &Path) -> usize {
    let mut store = SqliteStore::new(&spec(path.to_owned()));
    store.logon().expect("what was saved is a store");
    let mut reader = store.reader().expect("a reader");
    let mut intact = 0;
    for (submission, bytes) in &original.messages {
        let mut found = Vec::new();
        let read = reader.open(submission.record).map(|mut body| body.read_to_end(&mut found));
        if let Ok(Ok(_)) = read {
            assert!(found == *bytes, "a wrong message is saved");
            intact += 1;
        }
    }
    intact
}
