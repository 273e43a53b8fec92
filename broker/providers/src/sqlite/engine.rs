//! Commits batches: one transaction for all waiting writes.
//!
//! A write that fails does not affect the others: the transaction is undone and repeated with a savepoint for each write. A
//! savepoint copies every page that its write changes, so savepoints are used only after a failure. Some failures, a full disk
//! among them, make `SQLite` undo the whole transaction; then every write is repeated in a transaction of its own, so that the
//! writes that fit are kept. A write is answered only after the commit that contains it.
//!
//! If a write to the disk or a sync fails, the store is closed for good: in a write, a commit, a checkpoint or a purge. It is then
//! unknown what the disk holds, and a later successful sync would prove nothing. Refused writes are not tried again, and the failed
//! commit itself is answered with an unknown outcome.
//!
//! With `synchronous=FULL` a commit syncs the write-ahead log, with `NORMAL` it does not. A sync covers the whole file, and so
//! every earlier commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use sundown_core::provider::{
    MessageContent, ProviderAnswer, ProviderError, StoreFacts, StoreWrite,
};
use sundown_protocol::Code;

use super::Options;
use super::checkpoint::{self, Checkpointer, Health};
use super::moved::Watch;
use super::purge::{self, Slices};
use super::schema;
use super::torn;
use super::write::{Unsynced, Writer, wall};
use crate::fault::{self, Failure};
use crate::files::{Lock, private_database};
use crate::{Result, Sync};

type Answers = Vec<Result<ProviderAnswer>>;

/// How long a closing store continues to give free pages back.
const LAST_ROOM: Duration = Duration::from_millis(500);

/// The size of the writer's page cache, in kibibytes with a minus sign. With a smaller cache the index on keys of a hundred
/// thousand messages does not fit, and random keys lie anywhere in it.
const CACHE: i64 = -8 << 10;

/// About how many bytes a commit adds to the log beside its messages: eight pages of tables and indexes.
const COMMIT_COST: u64 = 32 << 10;
/// About how many bytes each write adds to that: a page of an index, because records have no order.
const WRITE_COST: u64 = 4 << 10;

/// An open store. Its fields are dropped in the order in which they must be closed.
#[derive(Debug)]
pub(super) struct Engine {
    checkpointer: Checkpointer,
    pub(super) writer: Writer,
    pub(super) health: Arc<Health>,
    path: PathBuf,
    synchronous: Sync,
    /// When the last slice of a purge was done.
    purged: Instant,
    /// Holds the lock, too.
    watch: Watch,
}

/// Whether each write of a transaction can be undone by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Savepoints {
    No,
    Yes,
}

/// Why a transaction was not committed.
enum Lost {
    /// A write was refused, and its changes cannot be undone by themselves.
    Refused,
    /// The disk is full, or `SQLite` undid the transaction: some of the writes may still fit by themselves.
    Undone,
    /// No write can be done.
    Failed(ProviderError),
}

impl Engine {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self> {
        let lock = Lock::take(path)?;
        private_database(path)?;
        let writer = open_writer(path, options).map_err(|failure| failure.told(path))?;
        let watch = Watch::new(path, &writer.connection, lock)?;
        let health = Arc::new(Health::default());
        let checkpointer = Checkpointer::start(path, Arc::clone(&health))?;
        Ok(Self {
            checkpointer,
            writer,
            health,
            path: path.to_owned(),
            synchronous: Sync::Full,
            purged: Instant::now(),
            watch,
        })
    }

    pub(super) fn facts(&self) -> Result<StoreFacts> {
        let queue = self.writer.count().map_err(|error| fault::sql(&self.path, &error))?;
        let no_mail =
            self.writer.count_no_mail().map_err(|error| fault::sql(&self.path, &error))?;
        let damage = torn::kept(&self.path);
        let clock = schema::clock(&self.writer.connection);
        let clock = clock.map_err(|error| fault::sql(&self.path, &error))?;
        Ok(StoreFacts { uid: self.writer.uid, queue, no_mail, damage, clock })
    }

    /// Commits a batch. Its answers are returned only after a check that the store's files still have their names.
    pub(super) fn commit(&mut self, batch: &[StoreWrite], sync: Sync) -> Answers {
        if let Err(error) = self.watch.before(&self.writer.connection) {
            self.health.fail();
            return refuse(batch, &error);
        }
        let answers = self.write(batch, sync);
        let answers = self.watch.behind(&self.writer.connection, answers);
        if self.watch.is_lost() {
            self.health.fail();
        }
        answers
    }

    fn write(&mut self, batch: &[StoreWrite], sync: Sync) -> Answers {
        let set = self.synchronize(sync);
        let answers = match set {
            Err(error) => refuse(batch, &error),
            Ok(()) if self.is_durable_already(batch) => {
                return vec![Ok(ProviderAnswer::Done); batch.len()];
            }
            Ok(()) if batch.len() == 1 => self.one_by_one(batch),
            Ok(()) => self.together(batch),
        };
        self.note_synced(batch, &answers, sync);
        self.checkpointer.committed(COMMIT_COST + batch.iter().map(cost).sum::<u64>());
        answers
    }

    #[cfg(test)]
    pub(super) fn look_again(&mut self) {
        self.watch.look_again();
    }

    pub(super) fn refuse_if_lost(&self) -> Result<()> {
        self.watch.refuse_if_lost()
    }

    /// Saves the contents of lost files, before the store is closed. Until this succeeds the store must not be closed.
    pub(super) fn save_what_is_lost(&mut self) -> Result<()> {
        self.watch.save(&self.writer.connection)
    }

    /// Whether the batch asks only for a sync, and there is nothing to sync.
    fn is_durable_already(&self, batch: &[StoreWrite]) -> bool {
        let only_flushes = batch.iter().all(|write| matches!(write, StoreWrite::Flush));
        only_flushes && self.writer.unsynced == Unsynced::Nothing
    }

    /// Updates whether there are unsynced commits. Only a flush is sure to have changed something, and so to have synced.
    fn note_synced(&mut self, batch: &[StoreWrite], answers: &Answers, sync: Sync) {
        let flushed = |(write, answer): (&StoreWrite, &Result<_>)| {
            matches!(write, StoreWrite::Flush) && answer.is_ok()
        };
        match sync {
            Sync::None => self.writer.unsynced = Unsynced::Something,
            Sync::Full if batch.iter().zip(answers).any(flushed) => {
                self.writer.unsynced = Unsynced::Nothing;
            }
            Sync::Full => {}
        }
    }

    /// Checkpoints everything and closes the file; lost files are left as they are.
    pub(super) fn close(mut self) -> Result<()> {
        let began = Instant::now();
        self.writer.room = Slices::More;
        while !self.health.is_failed()
            && !self.watch.is_lost()
            && began.elapsed() < LAST_ROOM
            && self.writer.room == Slices::More
        {
            self.give_back();
        }
        let Self { checkpointer, writer, path, watch, .. } = self;
        drop(checkpointer);
        let told = |error: rusqlite::Error| fault::sql(&path, &error);
        let truncated = if watch.is_lost() {
            watch.leave(&writer.connection)
        } else {
            checkpoint::truncate(&writer.connection)
        };
        let truncated = truncated.map_err(told);
        let closed = writer.connection.close().map_err(|(_, error)| told(error));
        truncated.and(closed)
    }

    fn synchronize(&mut self, sync: Sync) -> Result<()> {
        if self.health.is_failed() {
            return Err(self.failed());
        }
        if self.synchronous == sync {
            return Ok(());
        }
        let word = match sync {
            Sync::Full => "FULL",
            Sync::None => "NORMAL",
        };
        self.writer
            .connection
            .pragma_update(None, "synchronous", word)
            .map_err(|error| fault::sql(&self.path, &error))?;
        self.synchronous = sync;
        Ok(())
    }

    fn together(&mut self, batch: &[StoreWrite]) -> Answers {
        let done = match self.transaction(batch, Savepoints::No) {
            Err(Lost::Refused) => self.transaction(batch, Savepoints::Yes),
            done => done,
        };
        match done {
            Ok(answers) => answers,
            Err(Lost::Undone | Lost::Refused) => self.one_by_one(batch),
            Err(Lost::Failed(error)) => refuse(batch, &error),
        }
    }

    fn transaction(
        &mut self,
        batch: &[StoreWrite],
        savepoints: Savepoints,
    ) -> std::result::Result<Answers, Lost> {
        self.run("BEGIN IMMEDIATE").map_err(|error| self.lost(&error))?;
        let mut answers = Vec::with_capacity(batch.len());
        for write in batch {
            answers.push(match savepoints {
                Savepoints::Yes => self.in_savepoint(write)?,
                Savepoints::No => Ok(self.unless_refused(write)?),
            });
        }
        match self.end() {
            Ok(()) => Ok(answers),
            Err(error) => {
                self.undo();
                Err(self.not_committed(&error))
            }
        }
    }

    fn unless_refused(&mut self, write: &StoreWrite) -> std::result::Result<ProviderAnswer, Lost> {
        self.writer.apply(write).map_err(|failure| {
            let undone = self.writer.connection.is_autocommit();
            self.undo();
            match self.told(failure) {
                error if self.health.is_failed() => Lost::Failed(error),
                _ if undone => Lost::Undone,
                _ => Lost::Refused,
            }
        })
    }

    fn in_savepoint(
        &mut self,
        write: &StoreWrite,
    ) -> std::result::Result<Result<ProviderAnswer>, Lost> {
        self.run("SAVEPOINT w").map_err(|error| self.give_up(&error))?;
        let answer = self.writer.apply(write).map_err(|failure| self.told(failure));
        if let Err(error) = &answer
            && self.health.is_failed()
        {
            self.undo();
            return Err(Lost::Failed(error.clone()));
        }
        if self.writer.connection.is_autocommit() {
            self.undo();
            return Err(Lost::Undone);
        }
        if answer.is_err() {
            self.run("ROLLBACK TO w").map_err(|error| self.give_up(&error))?;
            self.writer.undone();
        }
        self.run("RELEASE w").map_err(|error| self.give_up(&error))?;
        Ok(answer)
    }

    fn one_by_one(&mut self, batch: &[StoreWrite]) -> Answers {
        batch.iter().map(|write| self.alone(write)).collect()
    }

    fn alone(&mut self, write: &StoreWrite) -> Result<ProviderAnswer> {
        if self.health.is_failed() {
            return Err(self.failed());
        }
        self.run("BEGIN IMMEDIATE").map_err(|error| self.told(error.into()))?;
        let answer = self.writer.apply(write).map_err(|failure| self.told(failure));
        if answer.is_err() {
            self.undo();
        } else if let Err(error) = self.end() {
            self.undo();
            return Err(self.commit_error(&error));
        }
        answer
    }

    /// The error for the caller, of a failure outside a commit.
    fn told(&self, failure: Failure) -> ProviderError {
        if let Failure::Sql(error) = &failure {
            self.look_at(error);
        }
        failure.told(&self.path)
    }

    fn look_at(&self, error: &rusqlite::Error) {
        if fault::is_untrustworthy(error) && !self.health.is_failed() {
            tracing::error!(path = %self.path.display(), %error, "the store failed");
        }
        self.health.look_at(error);
    }

    /// Commits the transaction. A commit without a sync marks itself in the log.
    fn end(&self) -> rusqlite::Result<()> {
        if self.synchronous == Sync::None {
            self.run("UPDATE unsynced SET commits = commits + 1")?;
        }
        self.run("COMMIT")
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.writer.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn undo(&mut self) {
        self.writer.undone();
        if self.writer.connection.is_autocommit() {
            return;
        }
        if let Err(error) = self.run("ROLLBACK") {
            tracing::error!(path = %self.path.display(), %error, "a rollback failed");
            self.health.fail();
        }
    }

    fn give_up(&mut self, error: &rusqlite::Error) -> Lost {
        self.undo();
        self.lost(error)
    }

    fn lost(&self, error: &rusqlite::Error) -> Lost {
        self.look_at(error);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Lost::Undone,
            _ => Lost::Failed(fault::sql(&self.path, error)),
        }
    }

    fn not_committed(&self, error: &rusqlite::Error) -> Lost {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Lost::Undone,
            _ => Lost::Failed(self.commit_error(error)),
        }
    }

    /// The error of a failed commit. A full disk and a lock are reported before anything is synced. After any other error it is
    /// unknown whether the disk holds the commit.
    fn commit_error(&self, error: &rusqlite::Error) -> ProviderError {
        let told = fault::sql(&self.path, error);
        let harmless = [ErrorCode::DiskFull, ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
        if error.sqlite_error_code().is_some_and(|code| harmless.contains(&code)) {
            return told;
        }
        tracing::error!(path = %self.path.display(), %error, "the store failed");
        self.health.fail();
        told.effect_unknown().of_failed_store()
    }

    fn failed(&self) -> ProviderError {
        if let Some(beyond) = fault::beyond_limit(&self.path) {
            return beyond;
        }
        let path = self.path.display();
        let text = format!("{path}: writing to the disk failed; check the disk, then start again");
        ProviderError::new(Code::E_DISK_ERROR, text).of_failed_store()
    }

    /// Does the work that can wait until a batch is answered.
    pub(super) fn tidy(&mut self) {
        if self.health.is_failed() {
            return;
        }
        self.checkpointer.finish(&self.writer.connection);
        let every = Duration::from_millis(self.writer.keep_sent.purge_every());
        if self.writer.purge == Slices::More || self.purged.elapsed() > every {
            self.purged = Instant::now();
            // This commit has no mark in the log, so it counts as synced.
            if self.synchronize(Sync::Full).is_ok() {
                self.purge(wall());
            }
            if self.writer.purge == Slices::Done
                && !self.health.is_failed()
                && let Err(failure) = give_up_damaged(&mut self.writer, &self.path)
            {
                let error = self.told(failure);
                tracing::warn!(path = %self.path.display(), %error, "damaged messages stay");
            }
        } else if self.writer.room == Slices::More && self.synchronize(Sync::Full).is_ok() {
            self.give_back();
        }
    }

    /// Gives one slice of the free pages back. A purge makes it look for free pages again.
    fn give_back(&mut self) {
        self.writer.room = self.writer.give_back().unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), %error, "free pages stay in the store");
            self.look_at(&error);
            Slices::Done
        });
    }

    /// Does one slice of a purge; the next slice follows the next batch.
    pub(super) fn purge(&mut self, now: u64) {
        self.writer.purge = self.writer.purge(now).unwrap_or_else(|error| {
            warn_of_purge(&self.path, &error);
            self.look_at(&error);
            Slices::Done
        });
        self.writer.room = Slices::More;
    }
}

fn open_writer(path: &Path, options: &Options) -> std::result::Result<Writer, Failure> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise a statement that could use a partial index is prepared again each time another value is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // From here on a failure must leave the log as it is, and closing a database normally moves its log into it.
    let keeps_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keeps_log, true)?;
    // Must run before anything is written.
    if schema::is_ours(&connection)? {
        torn::keep_damaged_log(&connection, path).map_err(Failure::Refused)?;
    }
    // Must run before the log is turned on: that changes the file, which may not be a store.
    schema::prepare(&connection)?;
    use_log(&connection)?;
    connection.set_db_config(keeps_log, false)?;
    // If an earlier broker's last sync failed, its commits may be in the log and not on the disk. Moving the whole log settles that
    // before anything new relies on them.
    checkpoint::truncate(&connection)?;
    write_anew(&connection, path)?;
    let mut writer = Writer::new(connection, options)?;
    // A damaged page keeps old rows in the store, and has no other effect.
    writer.purge = match writer.purge(wall()) {
        Err(error) if fault::is_damaged_page(&error) => {
            warn_of_purge(path, &error);
            Slices::Done
        }
        done => done?,
    };
    give_up_damaged(&mut writer, path)?;
    Ok(writer)
}

/// Writes the store anew if that frees much room. An error only leaves the free pages, unless the disk cannot be trusted any more.
/// The log is emptied afterwards: it contains every page, and so the page that marks commits without a sync.
fn write_anew(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    match purge::write_anew(connection) {
        Ok(false) => return Ok(()),
        Ok(true) => {
            tracing::info!(path = %path.display(), "a store with many free pages was written anew");
        }
        Err(error) if fault::is_untrustworthy(&error) => return Err(error),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a store keeps its free pages");
        }
    }
    checkpoint::truncate(connection)
}

fn warn_of_purge(path: &Path, error: &rusqlite::Error) {
    tracing::warn!(path = %path.display(), %error, "a purge failed");
}

fn give_up_damaged(writer: &mut Writer, path: &Path) -> std::result::Result<(), Failure> {
    match writer.give_up_damaged(wall()) {
        Ok(0) => Ok(()),
        Ok(count) => {
            tracing::warn!(path = %path.display(), count, "damaged messages were given up");
            Ok(())
        }
        Err(Failure::Sql(error)) if fault::is_damaged_page(&error) => {
            tracing::warn!(path = %path.display(), %error, "damaged messages cannot be given up");
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

fn use_log(connection: &Connection) -> std::result::Result<(), Failure> {
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode == "wal" {
        return Ok(());
    }
    let text = "the file system cannot hold a store (it has no shared memory); take a local one";
    Err(Failure::refused(Code::E_DISK_ERROR, text))
}

fn refuse(batch: &[StoreWrite], error: &ProviderError) -> Answers {
    batch.iter().map(|_| Err(error.clone())).collect()
}

fn cost(write: &StoreWrite) -> u64 {
    let bytes = match write {
        StoreWrite::Append { bytes, .. }
        | StoreWrite::Submit { content: MessageContent::Inline(bytes), .. }
        | StoreWrite::Save { content: MessageContent::Inline(bytes), .. } => bytes.len(),
        _ => 0,
    };
    WRITE_COST + bytes as u64
}
