//! Indexes that are built, searched, stopped, deleted and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use sundown_core::provider::{MessageContent, ProviderError, ProviderSpec, StoreWrite};
use sundown_protocol::{Code, Flags, Folder};
use tempfile::TempDir;

use super::*;
use crate::sqlite::SqliteStore;
use crate::{Result, StoreProvider};

const STORE: u32 = 7;

/// Works at once, and compares whenever that is wanted.
const AT_ONCE: Pace = Pace {
    quiet: Duration::ZERO,
    patience: Duration::ZERO,
    slice: Duration::from_millis(1),
    compare: Duration::ZERO,
    trust: Duration::ZERO,
};

/// Messages in memory, in place of a store.
#[derive(Clone, Default)]
struct Memory(Arc<(Mutex<Held>, Condvar)>);

#[derive(Default)]
struct Held {
    messages: BTreeMap<u64, (u64, Vec<u8>)>,
    /// The thread waits before it reads this message, until it is another one.
    gate: Option<u64>,
    /// The thread waits at the gate.
    waits: bool,
    /// Messages that cannot be read.
    unreadable: Vec<u64>,
    /// How often each message was read.
    reads: BTreeMap<u64, usize>,
}

impl Memory {
    fn with(count: u64) -> Self {
        let memory = Self::default();
        memory.put(1..=count);
        memory
    }

    fn held<T>(&self, what: impl FnOnce(&mut Held) -> T) -> T {
        let done = what(&mut self.0.0.lock().expect("no panic"));
        self.0.1.notify_all();
        done
    }

    fn put(&self, seqs: impl IntoIterator<Item = u64>) {
        let seqs: Vec<_> = seqs.into_iter().collect();
        self.held(|held| held.messages.extend(seqs.iter().map(|seq| (*seq, (1, message(*seq))))));
    }

    /// Waits until the thread waits at the gate.
    fn wait_for_gate(&self) {
        let held = self.0.0.lock().expect("no panic");
        drop(self.0.1.wait_while(held, |held| !held.waits));
    }
}

fn message(seq: u64) -> Vec<u8> {
    let parity = if seq.is_multiple_of(2) { "even" } else { "odd" };
    format!("Subject: number{seq}\r\nFrom: sender{seq}@example.org\r\n\r\nevery {parity} one\r\n")
        .into_bytes()
}

impl Source for Memory {
    fn next(&mut self, after: u64, limit: usize) -> Result<Vec<Row>> {
        Ok(self.held(|held| {
            let rows = held.messages.range(after + 1..).take(limit);
            let row = |(seq, (version, _)): (&u64, &(u64, _))| Row {
                seq: *seq,
                record: u128::from(*seq),
                version: *version,
                received: 1000 * *seq as i64,
                gone: false,
            };
            rows.map(row).collect()
        }))
    }

    fn last(&mut self) -> Result<u64> {
        Ok(self.held(|held| held.messages.keys().last().copied().unwrap_or(0)))
    }

    fn open(&mut self, record: u128) -> Result<Box<dyn Read + '_>> {
        let seq = record as u64;
        let mut held = self.0.0.lock().expect("no panic");
        while held.gate == Some(seq) {
            held.waits = true;
            self.0.1.notify_all();
            held = self.0.1.wait(held).expect("no panic");
        }
        held.waits = false;
        *held.reads.entry(seq).or_default() += 1;
        if held.unreadable.contains(&seq) {
            return Err(ProviderError::new(Code::E_CORRUPT_STORE, "it is damaged"));
        }
        let found = held.messages.get(&seq).map(|(_, bytes)| bytes.clone());
        let found = found.ok_or_else(|| ProviderError::new(Code::E_NOT_FOUND, "it is gone"))?;
        Ok(Box::new(io::Cursor::new(found)))
    }
}

struct Fixture {
    home: TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let path = path_of(&home.path().join("store.db"));
        Self { home, path }
    }

    fn start(&self, source: &Memory) -> Indexer {
        let source = Box::new(source.clone());
        Indexer::start(&self.path, STORE, source, AT_ONCE).expect("a thread")
    }

    /// What a new reader finds.
    fn find(&self, typed: &str) -> Vec<u64> {
        find(&mut Reader::new(&self.path, STORE), typed)
    }

    /// How many rows the tables have: of the words, and of messages.
    fn rows(&self) -> (u64, u64) {
        let connection = Connection::open(&self.path).expect("it opens");
        let count = |sql| connection.query_row(sql, [], |row| row.get(0)).expect("a number");
        (count("SELECT count(*) FROM words_docsize"), count("SELECT count(*) FROM entry"))
    }
}

fn find(reader: &mut Reader, typed: &str) -> Vec<u64> {
    let query = Query::parse(typed).expect("it is understood");
    reader.search(&query, None, 10_000).expect("it is searched").seqs
}

fn down(seqs: impl DoubleEndedIterator<Item = u64>) -> Vec<u64> {
    seqs.rev().collect()
}

/// A store on disk, and the index beside it.
#[test]
fn messages_of_a_store_are_found() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("store.db");
    let spec = ProviderSpec { path: path.clone(), ..ProviderSpec::new("sqlite") };
    let mut store = SqliteStore::new(&spec);
    let uid = store.logon().expect("it opens").uid;
    // The store builds an index of its own.
    let own = home.path().join("own");
    let source = StoreSource::new(&path, store.reader().expect("a reader"));
    let indexer = Indexer::start(&own, uid, Box::new(source), AT_ONCE);
    let indexer = indexer.expect("a thread");
    let save = |record: u128| StoreWrite::Save {
        record,
        folder: Folder::INBOX,
        content: MessageContent::Inline(message(record as u64)),
        flags: Flags::default(),
        recovered: false,
        now: 1000,
    };
    let saved = store.commit((1..=50).map(save).collect(), crate::Sync::Full);
    assert!(saved.iter().all(Result::is_ok));
    indexer.wake(Changed::Added);
    indexer.wait();
    let mut reader = indexer.reader();
    assert_eq!(find(&mut reader, "every"), down(1..=50));
    assert_eq!(find(&mut reader, "from:sender7@example.org"), [7]);
    assert_eq!(find(&mut reader, "every before:1970-01-02"), down(1..=50), "when it came");

    // Once into Deleted, and once for good.
    for _ in 0..2 {
        let deleted = store.commit(vec![StoreWrite::Delete { record: 7 }], crate::Sync::Full);
        assert!(deleted[0].is_ok(), "{deleted:?}");
        indexer.wake(Changed::Older);
        indexer.wait();
    }
    assert!(find(&mut reader, "from:sender7@example.org").is_empty());
    assert_eq!(find(&mut reader, "every").len(), 49);
}

/// An index of some messages.
fn index_of(messages: &[&str]) -> Fixture {
    let fixture = Fixture::new();
    let mut index = Index::open(&fixture.path, STORE).expect("it is made");
    for (seq, message) in (1..).zip(messages) {
        let message = message.replace('\n', "\r\n");
        index.add(seq, &Document::of(message.as_bytes())).expect("it is added");
    }
    index.commit().expect("it is committed");
    fixture
}

#[test]
fn each_kind_of_query_finds_what_it_says() {
    let fixture = index_of(&[
        "From: Jörg <joerg@example.org>\nTo: bob@example.org\nSubject: Quarterly report\n\
         Date: Thu, 01 Jan 2026 12:00:00 +0000\n\nThe résumé is ready.\n",
        "From: Alice <alice@example.com>\nSubject: Re: report, quarterly\n\
         Date: Sat, 31 Jan 2026 23:59:59 +0000\n\nAll is done; the reports are in.\n",
        "From: eve@example.org\nCc: joerg@example.org\nSubject: 東京都の会社\n\
         Date: Sun, 01 Feb 2026 00:00:00 +0000\n\nABC会社は京都です。\n",
        "Subject: x\nContent-Type: application/pdf; name=\"Invoice 2026.pdf\"\n\n%PDF\n",
    ]);
    for (typed, found) in [
        ("report", vec![2, 1]),
        ("REPORT quarterly", vec![2, 1]),
        ("\"quarterly report\"", vec![1]),
        ("resume", vec![1]),
        ("Résumé", vec![1]),
        ("repor*", vec![2, 1]),
        ("reports", vec![2]),
        ("report -reports", vec![1]),
        ("from:joerg@example.org", vec![1]),
        ("to:joerg", vec![3]),
        ("jörg", vec![1]),
        ("joerg@example.org", vec![3, 1]),
        ("from:example.org -from:eve", vec![1]),
        ("subject:resume", vec![]),
        ("text:resume", vec![1]),
        ("file:invoice", vec![4]),
        ("file:\"invoice 2026.pdf\"", vec![4]),
        ("after:2026-01-31", vec![3, 2]),
        ("before:2026-02-01 after:2026-01-01", vec![2, 1]),
        ("report after:2026-01-02", vec![2]),
        ("report before:2000-01-01", vec![]),
        ("-report after:2026-01-01", vec![3]),
        ("京", vec![3]),
        ("京都", vec![3]),
        ("東京都", vec![3]),
        ("東都", vec![]),
        ("会社は京都", vec![3]),
        ("ABC会社", vec![3]),
        ("subject:京都", vec![3]),
        ("subject:です", vec![]),
        ("ＡＢＣ", vec![3]),
        ("not-there", vec![]),
        ("NOT report", vec![]),
        ("\"all is", vec![]),
    ] {
        match Query::parse(typed) {
            Ok(_) => assert_eq!(fixture.find(typed), found, "{typed}"),
            Err(refused) => assert!(typed == "\"all is", "{typed}: {refused}"),
        }
    }
}

#[test]
fn pages_follow_each_other() {
    let fixture = Fixture::new();
    let indexer = fixture.start(&Memory::with(25));
    indexer.wait();
    let mut reader = indexer.reader();
    for (typed, all) in [
        ("every", down(1..=25)),
        ("after:1970-01-01", down(1..=25)),
        ("even", down((1..=12).map(|n| n * 2))),
        ("-odd before:2000-01-01", down((1..=12).map(|n| n * 2))),
    ] {
        let query = Query::parse(typed).expect("it is understood");
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = reader.search(&query, before, 4).expect("it is searched");
            assert!(page.seqs.len() <= 4 && page.upto == 25);
            seen.extend(page.seqs);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, all, "{typed}");
    }
}

#[test]
fn new_messages_are_found_and_deleted_ones_are_not() {
    let fixture = Fixture::new();
    let memory = Memory::with(600);
    let indexer = fixture.start(&memory);
    indexer.wait();
    assert_eq!(fixture.find("every"), down(1..=600));
    let progress = indexer.progress();
    assert_eq!(progress, Progress { upto: 600, last: Some(600), is_complete: true });

    memory.put(601..=610);
    memory.held(|held| held.messages.retain(|seq, _| seq % 3 != 0));
    indexer.wake(Changed::Older);
    indexer.wait();
    assert_eq!(fixture.find("every"), down((1..=610).filter(|seq| seq % 3 != 0)));
    assert_eq!(fixture.rows().0, fixture.rows().1);
    memory.held(|held| assert!(held.reads.values().all(|reads| *reads == 1), "{:?}", held.reads));
}

#[test]
fn a_message_that_is_another_one_is_read_again() {
    let fixture = Fixture::new();
    let memory = Memory::with(300);
    let indexer = fixture.start(&memory);
    indexer.wait();
    memory.held(|held| {
        held.messages.insert(5, (2, b"Subject: changed\r\n\r\n\r\n".to_vec()));
        held.unreadable = vec![6];
    });
    // As after a backup that was restored: fewer messages, and others under the numbers of those that are lost.
    memory.held(|held| held.messages.retain(|seq, _| *seq <= 200));
    drop(indexer);
    let indexer = fixture.start(&memory);
    indexer.wait();
    assert_eq!((fixture.find("changed"), fixture.find("number5")), (vec![5], vec![]));
    assert_eq!(fixture.find("every").len(), 199);
    memory
        .held(|held| held.messages.extend((201..=205).map(|seq| (seq, (3, message(seq + 1000))))));
    indexer.wake(Changed::Added);
    indexer.wait();
    assert_eq!((fixture.find("number1203"), fixture.find("number203")), (vec![203], vec![]));
}

#[test]
fn an_index_that_is_trusted_is_compared_when_its_last_message_is_another_one() {
    let fixture = Fixture::new();
    let start = |memory: &Memory| {
        let pace = Pace { trust: Duration::MAX, ..AT_ONCE };
        Indexer::start(&fixture.path, STORE, Box::new(memory.clone()), pace).expect("a thread")
    };
    let memory = Memory::with(30);
    // The first comparison ever is the one that makes the index trusted.
    fixture.start(&memory).wait();
    memory.held(|held| held.messages.remove(&5));
    start(&memory).wait();
    assert_eq!(fixture.find("number5"), [5], "nobody has told of it");

    // Numbers of lost messages were given to others before the index was looked at.
    memory.held(|held| {
        held.messages.retain(|seq, _| *seq <= 20);
        held.messages.extend((21..=40).map(|seq| (seq, (9, message(seq + 1000)))));
    });
    start(&memory).wait();
    assert_eq!((fixture.find("number5"), fixture.find("number25")), (vec![], vec![]));
    assert_eq!(fixture.find("every").len(), 39);
}

/// A comparison that was to wait for its time is made up for after a start.
#[test]
fn a_comparison_that_was_put_off_is_not_forgotten() {
    let fixture = Fixture::new();
    let (compare, trust) = (Duration::from_secs(600), Duration::from_secs(3600));
    let pace = Pace { compare, trust, ..AT_ONCE };
    let memory = Memory::with(30);
    let start = || {
        let source = Box::new(memory.clone());
        Indexer::start(&fixture.path, STORE, source, pace).expect("a thread")
    };
    let indexer = start();
    indexer.wake(Changed::Older);
    indexer.wait();
    memory.held(|held| held.messages.remove(&5));
    for _ in 0..2 {
        indexer.wake(Changed::Older);
        indexer.wait();
        assert_eq!(fixture.find("number5"), [5], "its time has not come");
    }
    drop(indexer);
    start().wait();
    assert!(fixture.find("number5").is_empty());
    memory.held(|held| held.messages.remove(&6));
    start().wait();
    assert_eq!(fixture.find("number6"), [6], "it is trusted again");
}

#[test]
fn a_message_that_cannot_be_read_costs_its_words() {
    let fixture = Fixture::new();
    let memory = Memory::with(10);
    memory.held(|held| held.unreadable = vec![4]);
    let indexer = fixture.start(&memory);
    indexer.wait();
    assert_eq!(fixture.find("every"), down((1..=10).filter(|seq| *seq != 4)));
    memory.held(|held| held.unreadable.clear());
    indexer.wake(Changed::Older);
    indexer.wait();
    assert_eq!(fixture.find("every"), down(1..=10));
}

#[test]
fn work_that_was_stopped_goes_on() {
    let fixture = Fixture::new();
    let memory = Memory::with(1000);
    memory.held(|held| held.gate = Some(700));
    let indexer = fixture.start(&memory);
    memory.wait_for_gate();
    // The thread is in the middle of a message, and cannot answer: stop() does not wait for it for ever.
    indexer.stop();
    let before = indexer.progress().upto;
    assert!(before < 700, "what is not committed is not in the index");
    memory.held(|held| held.gate = None);
    indexer.stop();
    assert_eq!(indexer.progress().upto, before, "nothing is committed after stop()");
    assert_eq!(fixture.find("every"), down(1..=before));
    indexer.wake(Changed::Added);
    assert_eq!(indexer.progress().upto, before, "a wake does not undo a stop");
    indexer.resume();
    indexer.wait();
    assert_eq!(fixture.find("every"), down(1..=1000));
    assert_eq!(fixture.rows(), (1000, 1000));
}

#[test]
fn a_program_that_was_killed_goes_on_where_its_last_batch_ended() {
    let fixture = Fixture::new();
    let memory = Memory::with(1000);
    memory.held(|held| held.gate = Some(900));
    let indexer = fixture.start(&memory);
    memory.wait_for_gate();
    // What a killed program leaves: the files as they are in the middle of a batch.
    let copy = Fixture::new();
    for suffix in ["", "-wal"] {
        let file = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        fs::copy(file(&fixture.path), file(&copy.path)).expect("it is copied");
    }
    memory.held(|held| held.gate = None);
    drop(indexer);

    let before = copy.find("every");
    assert!(!before.is_empty() && before.len() < 900, "{}", before.len());
    let source = Memory::with(1000);
    let indexer = copy.start(&source);
    indexer.wait();
    assert_eq!(copy.find("every"), down(1..=1000));
    assert_eq!(copy.rows(), (1000, 1000));
    let read = source.held(|held| held.reads.clone());
    assert!(read.keys().copied().eq(before.len() as u64 + 1..=1000), "each is read once");
    assert!(read.values().all(|times| *times == 1));
}

#[test]
fn an_index_that_was_deleted_is_made_anew() {
    let fixture = Fixture::new();
    let memory = Memory::with(20);
    let indexer = fixture.start(&memory);
    indexer.wait();
    let mut reader = indexer.reader();
    assert_eq!(find(&mut reader, "every"), down(1..=20));
    for (seq, removed) in
        (21..).zip([&["", "-wal", "-shm"][..], &[""], &["-wal"], &["-shm"], &["", "-wal"]])
    {
        for suffix in removed {
            fs::remove_file(format!("{}{suffix}", fixture.path.display())).expect("it is there");
        }
        if removed.len() == 3 {
            let query = Query::parse("every").expect("a word");
            assert_eq!(reader.search(&query, None, 9), Ok(Page::default()));
        }
        memory.put([seq]);
        indexer.wake(Changed::Added);
        indexer.wait();
        assert_eq!(find(&mut reader, "every"), down(1..=seq), "{removed:?}");
        assert_eq!(fixture.find("every"), down(1..=seq), "{removed:?}");
    }
}

#[test]
fn an_index_of_another_store_or_version_is_made_anew() {
    let fixture = index_of(&["Subject: old\n\n"]);
    assert_eq!(
        Reader::new(&fixture.path, 8).search(&Query::parse("old").expect("a word"), None, 9),
        Ok(Page::default())
    );
    let index = Index::open(&fixture.path, 8).expect("it is made anew");
    assert_eq!((index.upto(), fixture.rows()), (0, (0, 0)));
    drop(index);
    let connection = Connection::open(&fixture.path).expect("it opens");
    connection.pragma_update(None, "user_version", 99).expect("it is of another version");
    drop(connection);
    drop(Index::open(&fixture.path, 8).expect("it is made anew"));
    let connection = Connection::open(&fixture.path).expect("it opens");
    let version: i32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number");
    assert_ne!(version, 99);
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let fixture = Fixture::new();
    let connection = Connection::open(&fixture.path).expect("it is made");
    connection.execute_batch("CREATE TABLE theirs (x)").expect("a table");
    drop(connection);
    let before = fs::read(&fixture.path).expect("it reads");
    let refused = Index::open(&fixture.path, STORE).expect_err("it is not ours");
    assert!(refused.message.contains("another program"), "{refused}");
    assert_eq!(fs::read(&fixture.path).expect("it is there"), before);
    assert_eq!(fixture.find("x"), Vec::<u64>::new());
}

#[test]
fn a_damaged_index_is_made_anew() {
    let fixture = Fixture::new();
    let memory = Memory::with(500);
    drop({
        let indexer = fixture.start(&memory);
        indexer.wait();
        indexer
    });
    // No database at all, then one whose pages are overwritten from the third one on.
    for keeps in [0, 2] {
        let mut bytes = fs::read(&fixture.path).expect("it reads");
        assert!(bytes.len() > 8 * 4096);
        bytes[keeps * 4096..].fill(0xa5);
        fs::write(&fixture.path, &bytes).expect("it is damaged");
        let indexer = fixture.start(&memory);
        let mut reader = indexer.reader();
        indexer.wait();
        // Either the writer has come upon the damage, or the reader does now.
        let query = Query::parse("every").expect("a word");
        reader.search(&query, None, 1000).expect("no user sees an error");
        indexer.wait();
        assert_eq!(find(&mut reader, "every"), down(1..=500), "{keeps}");
    }
}

#[test]
fn only_the_owner_may_read_an_index() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = index_of(&["Subject: x\n\n"]);
    let _open = Index::open(&fixture.path, STORE).expect("it opens");
    let entries = fs::read_dir(fixture.home.path()).expect("it lists");
    for entry in entries.map(|entry| entry.expect("an entry")) {
        let mode = entry.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is typed runs, or is refused in words.
    #[test]
    fn whatever_is_typed_runs_or_is_refused(typed in typed()) {
        thread_local! {
            static INDEX: (Fixture, Reader) = {
                let fixture = index_of(&["Subject: one two\nFrom: a@b\n\nthree 東京 x\n"]);
                let reader = Reader::new(&fixture.path, STORE);
                (fixture, reader)
            };
        }
        match Query::parse(&typed) {
            Err(refused) => {
                prop_assert_eq!(refused.code, Code::E_INVALID_PARAMETER);
                prop_assert!(!refused.message.is_empty());
            }
            Ok(query) => INDEX.with(|(fixture, _)| {
                let found = Reader::new(&fixture.path, STORE).search(&query, None, 10);
                assert!(found.is_ok_and(|page| page.upto == 0), "{typed:?}: {query:?}");
            }),
        }
    }
}

/// What people may type, and what nobody types.
fn typed() -> impl Strategy<Value = String> {
    let known: &[&str] = &[
        "\"",
        "*",
        "-",
        "from:",
        "TO:",
        "after:",
        "before:",
        "2026-01-31",
        "2026-99-99",
        " ",
        " AND ",
        " OR ",
        " NOT ",
        "NEAR(",
        ")",
        "{",
        "}",
        "^",
        "+",
        ":",
        "'",
        "\\",
        "\u{0}",
        "\u{1}",
        "東",
        "東京",
        "か\u{3099}",
        "ก\u{e31}",
        "é",
        "e\u{301}",
        "\u{301}",
        "one",
        "text:",
        "\u{e000}",
        "\u{fdfa}",
        "-\"",
        "\"*",
        "\u{2028}",
        "subject : x",
    ];
    let known = proptest::sample::select(known).prop_map(str::to_owned);
    let pieces = prop_oneof![4 => known, 1 => any::<String>()];
    proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}
