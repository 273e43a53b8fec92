//! Tests that remove or replace files of an open store, in each way and at each point.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use sundown_core::provider::{Effect, Intent, Scope, StoreRead, SubmissionState, SubmissionUpdate};
use tempfile::TempDir;

use super::tests::*;
use super::*;
use crate::RESCUED;
use crate::files::private_dir;

/// A way to remove or replace the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    DatabaseRemoved,
    AllRemoved,
    DatabaseRenamed,
    /// By a copy that was made earlier; the log stays.
    DatabaseReplaced,
    LogRemoved,
    LogReplaced,
    IndexRemoved,
    IndexReplaced,
    DirectoryRemoved,
    DirectoryMadeAnew,
    /// By a link to a directory with a copy that was made earlier.
    DirectoryReplaced,
    LinkRedirected,
}

const WAYS: [Way; 12] = [
    Way::DatabaseRemoved,
    Way::AllRemoved,
    Way::DatabaseRenamed,
    Way::DatabaseReplaced,
    Way::LogRemoved,
    Way::LogReplaced,
    Way::IndexRemoved,
    Way::IndexReplaced,
    Way::DirectoryRemoved,
    Way::DirectoryMadeAnew,
    Way::DirectoryReplaced,
    Way::LinkRedirected,
];

/// The contents under the store's name afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    /// Those of the time when message 1 was in it.
    Earlier,
    /// Everything.
    All,
}

impl Way {
    /// Whether the check before a batch notices it; otherwise the check after the commit does.
    fn is_seen_before(self) -> bool {
        !matches!(self, Way::LogRemoved | Way::LogReplaced)
    }

    /// Whether nothing is lost: everything is written to where it will be found.
    fn is_harmless(self) -> bool {
        matches!(self, Way::IndexRemoved | Way::IndexReplaced)
    }

    /// Whether a copy of the lost contents is made.
    fn is_copied(self) -> bool {
        !self.is_harmless() && self != Way::LogRemoved
    }

    fn leaves(self) -> There {
        use Way::{
            DatabaseReplaced, DirectoryReplaced, IndexRemoved, IndexReplaced, LinkRedirected,
            LogRemoved,
        };
        match self {
            DatabaseReplaced | DirectoryReplaced | LinkRedirected => There::Earlier,
            LogRemoved | IndexRemoved | IndexReplaced => There::All,
            _ => There::Nothing,
        }
    }
}

/// A store with one message, whose path contains a link, and a copy from before that message.
struct Moving {
    fixture: Fixture,
    home: TempDir,
}

impl Moving {
    fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        fs::create_dir(home.path().join("disk")).expect("made");
        symlink("disk", home.path().join("data")).expect("linked");
        let mut fixture = Fixture::at(home.path().join("data/deep/store.db"));
        fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
        fixture.store.logoff().expect("it closes");
        let earlier = home.path().join("earlier/deep");
        private_dir(&earlier).expect("made");
        fs::copy(fixture.path(), earlier.join("store.db")).expect("copied");
        fixture.store.logon().expect("it logs on");
        Self { fixture, home }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

/// Removes or replaces files below the directory of a [`Moving`].
fn act(home: &Path, way: Way) {
    let deep = home.join("disk/deep");
    let [database, log, index] =
        ["store.db", "store.db-wal", "store.db-shm"].map(|name| deep.join(name));
    let (earlier, aside) = (home.join("earlier/deep"), home.join("aside"));
    let done = match way {
        Way::DatabaseRemoved => fs::remove_file(database),
        Way::AllRemoved => [database, log, index].iter().try_for_each(fs::remove_file),
        Way::DatabaseRenamed => fs::rename(&database, deep.join("old.db")),
        Way::DatabaseReplaced => {
            fs::copy(earlier.join("store.db"), &aside).expect("copied");
            fs::rename(&aside, &database)
        }
        Way::LogRemoved => fs::remove_file(log),
        Way::LogReplaced => {
            fs::write(&aside, "another log").expect("written");
            fs::rename(&aside, &log)
        }
        Way::IndexRemoved => fs::remove_file(index),
        Way::IndexReplaced => {
            fs::write(&aside, "another index").expect("written");
            fs::rename(&aside, &index)
        }
        Way::DirectoryRemoved => fs::remove_dir_all(deep),
        Way::DirectoryMadeAnew => {
            fs::rename(&deep, &aside).expect("renamed");
            fs::create_dir(&deep)
        }
        Way::DirectoryReplaced => {
            fs::rename(&deep, &aside).expect("renamed");
            symlink(&earlier, &deep)
        }
        Way::LinkRedirected => {
            symlink("earlier", &aside).expect("linked");
            fs::rename(&aside, home.join("data"))
        }
    };
    done.expect("it can be done");
}

/// All copies that were made, in any directory.
fn copies(home: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![home.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a directory") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().expect("a type").is_dir() {
                folders.push(entry.path());
            } else if name.starts_with(RESCUED) {
                assert!(name.ends_with("-store.db"), "half a copy is left: {name}");
                found.push(entry.path());
            }
        }
    }
    found
}

/// The messages in the queue of a store, after a check that its database is sound.
fn messages(path: &Path) -> Vec<u128> {
    let mut store = Fixture::at(path.to_owned());
    let sound: String = store
        .writer()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it is checked");
    assert_eq!(sound, "ok");
    let queue = store.queue(true);
    for record in &queue {
        assert_eq!(store.content(*record), MESSAGE);
    }
    store.store.logoff().expect("it closes");
    queue
}

/// The messages of a copy that is put to use elsewhere.
fn taken_in(home: &Path, copy: &Path) -> Vec<u128> {
    let place = home.join("taken/in/store.db");
    private_dir(place.parent().expect("it has one")).expect("made");
    fs::rename(copy, &place).expect("moved");
    messages(&place)
}

/// Asserts that everything that was answered is in one of the two places after the store is closed, and that nothing is in its way.
fn look_behind(moving: &mut Moving, way: Way, answered: &[u128], perhaps: &[u128]) {
    let home = moving.home.path().to_owned();
    moving.fixture.store.logoff().unwrap_or_else(|error| panic!("{way:?}: {error}"));
    let is_all = |found: &[u128]| {
        answered.iter().all(|record| found.contains(record))
            && found.iter().all(|record| answered.contains(record) || perhaps.contains(record))
    };
    let copies = copies(&home);
    assert_eq!(copies.len(), usize::from(way.is_copied()), "{way:?}: {copies:?}");
    for copy in &copies {
        let found = taken_in(&home, copy);
        assert!(is_all(&found), "{way:?}: {found:?} is in the copy");
    }
    let beside = |name: &str| fs::read(home.join("disk/deep").join(name)).ok();
    if way == Way::IndexReplaced {
        assert_eq!(beside("store.db-shm").as_deref(), Some(&b"another index"[..]));
    }
    if way == Way::LogReplaced {
        // The database lacks what was in its log, which its owner replaced.
        assert_eq!(beside("store.db-wal").as_deref(), Some(&b"another log"[..]));
        return;
    }
    let found = messages(&moving.fixture.path());
    match way.leaves() {
        There::Nothing => assert_eq!(found, [], "{way:?}"),
        There::Earlier => assert_eq!(found, [1], "{way:?}"),
        There::All => assert!(is_all(&found), "{way:?}: {found:?}"),
    }
}

/// Asserts that the answer is the error of a lost store. Returns its effect.
fn is_lost(answer: &Result<ProviderAnswer>, way: Way) -> Effect {
    let error = answer.as_ref().expect_err("its files are lost");
    assert_eq!(error.scope, Scope::Store, "{way:?}: {error}");
    let code = match error.effect {
        Effect::Nothing => Code::E_END_OF_SESSION,
        Effect::Unknown => Code::E_DISK_ERROR,
    };
    assert_eq!(error.code, code, "{way:?}: {error}");
    error.effect
}

/// A submission whose intent is to be stored.
fn mark(record: u128) -> StoreWrite {
    let mut submission = submission(record);
    for recipient in &mut submission.recipients {
        recipient.state = SubmissionState::Transmitting;
        recipient.intent = Some(Intent { transport: "maildir".into(), marker: "m".into() });
    }
    StoreWrite::Update(Box::new(SubmissionUpdate::whole(submission, None, wall())))
}

/// A store that is removed while it is idle accepts no more writes. Its contents are saved, and the next logon opens the files that
/// are there.
///
/// design §3.16
#[test]
fn what_is_removed_before_a_submit_is_refused() {
    for way in WAYS {
        let mut moving = Moving::new();
        moving.fixture.write(submit(2, inline(MESSAGE))).expect("it is submitted");
        act(moving.home.path(), way);
        moving.fixture.look_again();
        let answers =
            moving.fixture.batch(vec![submit(3, inline(MESSAGE)), save(4, inline(MESSAGE))]);
        let effects: Vec<_> = answers.iter().map(|answer| is_lost(answer, way)).collect();
        let effect = if way.is_seen_before() { Effect::Nothing } else { Effect::Unknown };
        assert_eq!(effects, [effect; 2], "{way:?}");
        let later = moving.fixture.write(submit(5, inline(MESSAGE)));
        assert_eq!(is_lost(&later, way), Effect::Nothing);
        let perhaps: &[_] = if way.is_seen_before() { &[] } else { &[3] };
        look_behind(&mut moving, way, &[1, 2], perhaps);
    }
}

/// Files are removed between a batch's first write and its answers, with one write and with several. A message is not accepted, and
/// a mark does not count, so that nothing is handed over for it. What may be in the copy is answered with an unknown outcome.
///
/// design §3.16, §3.17
#[test]
fn what_is_removed_while_it_is_committed_is_not_answered() {
    for way in WAYS {
        for batch in [
            vec![submit(3, inline(MESSAGE))],
            vec![mark(1)],
            vec![submit(3, inline(MESSAGE)), mark(2), StoreWrite::Flush],
        ] {
            let mut moving = Moving::new();
            moving.fixture.write(submit(2, inline(MESSAGE))).expect("it is submitted");
            let (home, once) = (moving.home.path().to_owned(), Mutex::new(Some(way)));
            let hook = move || {
                if let Some(way) = once.lock().expect("alone").take() {
                    act(&home, way);
                }
                false
            };
            moving.fixture.writer_mut().commit_hook(Some(hook)).expect("a hook");
            for answer in moving.fixture.batch(batch) {
                if way.is_harmless() {
                    answer.unwrap_or_else(|error| panic!("{way:?}: {error}"));
                } else {
                    assert_eq!(is_lost(&answer, way), Effect::Unknown);
                }
            }
            look_behind(&mut moving, way, &[1, 2], &[3]);
        }
    }
}

/// A refusal that has another cause stays as it is: nothing was committed for it.
#[test]
fn a_refusal_stays_one() {
    let mut moving = Moving::new();
    let home = moving.home.path().to_owned();
    let once = AtomicUsize::new(0);
    let hook = move || {
        if once.fetch_add(1, Ordering::Relaxed) == 0 {
            act(&home, Way::AllRemoved);
        }
        false
    };
    moving.fixture.writer_mut().commit_hook(Some(hook)).expect("a hook");
    let answers =
        moving.fixture.batch(vec![StoreWrite::Delete { record: 77 }, submit(2, inline(MESSAGE))]);
    assert_eq!(code(&answers[0]), Some(Code::E_NOT_FOUND));
    assert_eq!(is_lost(&answers[1], Way::AllRemoved), Effect::Unknown);
}

/// Files lose their names one after the other, and the check falls between them: first only the log was missing, and then the
/// database is, too.
///
/// design §3.16
#[test]
fn what_is_removed_behind_a_check_is_saved() {
    for way in [
        Way::DatabaseRemoved,
        Way::DatabaseRenamed,
        Way::DatabaseReplaced,
        Way::DirectoryRemoved,
        Way::DirectoryMadeAnew,
        Way::DirectoryReplaced,
        Way::LinkRedirected,
    ] {
        let mut moving = Moving::new();
        act(moving.home.path(), Way::LogRemoved);
        is_lost(&moving.fixture.write(submit(2, inline(MESSAGE))), Way::LogRemoved);
        act(moving.home.path(), way);
        look_behind(&mut moving, way, &[1], &[2]);
    }
}

/// A flush of a store without unsynced commits must notice the loss, too.
#[test]
fn a_flush_of_a_lost_store_fails() {
    for way in WAYS {
        let mut moving = Moving::new();
        act(moving.home.path(), way);
        moving.fixture.look_again();
        is_lost(&moving.fixture.write(StoreWrite::Flush), way);
        look_behind(&mut moving, way, &[1], &[]);
    }
}

/// A backup with a log of its own is left alone, whatever that log contains.
#[test]
fn the_log_of_another_database_is_left_alone() {
    let mut moving = Moving::new();
    moving.fixture.write(submit(2, inline(MESSAGE))).expect("it is submitted");
    let (deep, backup) = (moving.at("disk/deep"), moving.at("backup"));
    private_dir(&backup).expect("made");
    for name in ["store.db", "store.db-wal"] {
        fs::copy(deep.join(name), backup.join(name)).expect("copied");
    }
    moving.fixture.write(submit(3, inline(MESSAGE))).expect("it is submitted");
    for name in ["store.db", "store.db-wal"] {
        fs::rename(backup.join(name), deep.join(name)).expect("renamed");
    }
    is_lost(&moving.fixture.write(submit(4, inline(MESSAGE))), Way::AllRemoved);
    moving.fixture.store.logoff().expect("it closes");
    assert_eq!(messages(&moving.fixture.path()), [1, 2]);
    let [copy] = &copies(moving.home.path())[..] else { panic!("one copy") };
    assert_eq!(taken_in(moving.home.path(), copy), [1, 2, 3]);
}

/// The files are removed while the log is moved into the database.
#[test]
fn what_is_removed_during_a_checkpoint_is_saved() {
    for way in [Way::AllRemoved, Way::DatabaseReplaced, Way::LogRemoved, Way::IndexRemoved] {
        let mut moving = Moving::new();
        let large = format!("{MESSAGE}{}", "x".repeat(9 << 20));
        // This write wakes the thread.
        moving.fixture.write(save(2, inline(&large))).expect("it is saved");
        act(moving.home.path(), way);
        moving.fixture.look_again();
        is_lost(&moving.fixture.write(submit(3, inline(MESSAGE))), way);
        let perhaps: &[_] = if way.is_seen_before() { &[] } else { &[3] };
        look_behind(&mut moving, way, &[1], perhaps);
    }
}

/// A store that is removed while it is idle is saved even if closing it is the next call.
#[test]
fn what_is_removed_before_the_end_is_saved() {
    for way in WAYS {
        let mut moving = Moving::new();
        moving.fixture.write(submit(2, inline(MESSAGE))).expect("it is submitted");
        act(moving.home.path(), way);
        look_behind(&mut moving, way, &[1, 2], &[]);
    }
}

/// A store that cannot be saved stays open, reports that, refuses logons, and is saved once that is possible.
#[test]
fn what_cannot_be_saved_stays_open() {
    let home = TempDir::new().expect("a directory");
    let mut fixture = Fixture::at(home.path().join("deep/er/store.db"));
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    let deep = home.path().join("deep");
    fs::remove_dir_all(&deep).expect("removed");
    fs::write(&deep, "no directory").expect("written");
    let refused = fixture.write(submit(2, inline(MESSAGE)));
    assert_eq!(is_lost(&refused, Way::DirectoryRemoved), Effect::Nothing);
    assert!(refused.expect_err("refused").message.contains("is not saved yet"));
    for _ in 0..2 {
        let error = fixture.store.logoff().expect_err("it would be lost");
        assert_eq!(error.scope, Scope::Store, "{error}");
        assert_eq!(fixture.store.logon().expect_err("it is lost").scope, Scope::Store);
    }
    fs::remove_file(&deep).expect("removed");
    fixture.store.logoff().expect("it is saved");
    let [copy] = &copies(home.path())[..] else { panic!("one copy") };
    assert_eq!(copy.parent(), fixture.path().parent());
    assert_eq!(taken_in(home.path(), copy), [1]);
    fixture.store.logon().expect("what is there is opened");
    assert_eq!(fixture.queue(true), []);
}

/// A second session with the store open is refused a logon, and its own logoff closes the files.
#[test]
fn the_last_logoff_closes_a_lost_store() {
    let mut moving = Moving::new();
    moving.fixture.store.logon().expect("a second one");
    act(moving.home.path(), Way::AllRemoved);
    is_lost(&moving.fixture.write(submit(2, inline(MESSAGE))), Way::AllRemoved);
    assert_eq!(moving.fixture.store.logon().expect_err("it is lost").scope, Scope::Store);
    moving.fixture.store.logoff().expect("the first one");
    assert_eq!(moving.fixture.store.logon().expect_err("it is open").scope, Scope::Store);
    look_behind(&mut moving, Way::AllRemoved, &[1], &[]);
}

/// A removed lock file is locked anew. If another broker has locked it meanwhile, the store is closed, with everything in its
/// place.
#[test]
fn a_lock_of_another_broker_closes_the_store() {
    let mut moving = Moving::new();
    let lock = moving.at("disk/deep/store.db.lock");
    fs::remove_file(&lock).expect("removed");
    moving.fixture.look_again();
    moving.fixture.write(submit(2, inline(MESSAGE))).expect("the lock is taken again");
    SqliteStore::new(&spec(moving.fixture.path())).logon().expect_err("it is held");
    fs::remove_file(&lock).expect("removed");
    let other = crate::files::Lock::take(&moving.fixture.path()).expect("nobody has this one");
    moving.fixture.look_again();
    let refused = moving.fixture.write(submit(3, inline(MESSAGE)));
    assert_eq!(is_lost(&refused, Way::AllRemoved), Effect::Nothing);
    assert!(refused.expect_err("refused").message.contains("another broker"));
    moving.fixture.store.logoff().expect("it closes");
    drop(other);
    assert_eq!(copies(moving.home.path()).len(), 0);
    assert_eq!(messages(&moving.fixture.path()), [1, 2]);
}

/// What `SQLite` does by itself, as starting the log over, is not taken for a loss; nor is a reader, or a store that is opened
/// again.
#[test]
fn nothing_is_lost_in_an_ordinary_life() {
    let mut moving = Moving::new();
    let large = format!("{MESSAGE}{}", "x".repeat(3 << 20));
    for record in 2..12 {
        moving.fixture.write(save(record, inline(&large))).expect("it is saved");
        moving.fixture.store.tidy();
        let due = moving.fixture.read(&StoreRead::Due { after: None, limit: 9 });
        assert!(due.is_ok(), "{due:?}");
    }
    for _ in 0..2 {
        moving.fixture.store.logoff().expect("it closes");
        moving.fixture.store.logon().expect("it opens");
        moving.fixture.write(update(1, SubmissionState::Deferred)).expect("it is updated");
    }
    assert_eq!(copies(moving.home.path()).len(), 0);
}

/// A reader that holds up moving the log for a moment is waited for. `SQLite` calls `leave` when it meets the reader, and then
/// reports that it is busy.
#[test]
fn a_log_is_moved_although_it_is_busy_at_first() {
    static READER: Mutex<Option<Connection>> = Mutex::new(None);
    fn leave(_: i32) -> bool {
        READER.lock().expect("nothing panics with it").take();
        false
    }
    let mut fixture = Fixture::new();
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    let reader = Connection::open(fixture.path()).expect("it opens");
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").expect("it reads");
    *READER.lock().expect("nothing panics with it") = Some(reader);
    fixture.writer_mut().busy_handler(Some(leave)).expect("it is called");
    assert!(moved::moves_log(fixture.writer()), "it was not tried again");
    assert!(READER.lock().expect("nothing panics with it").is_none(), "it was not in the way");
}
