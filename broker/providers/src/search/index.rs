//! The writer of an index.
//!
//! It writes in batches: what was added, what was removed and how far the index is made are committed together, so a program that is
//! killed goes on where the last batch ended, and every message is there once. A batch has bounds, because a transaction's changes are
//! in memory until they are committed.
//!
//! `synchronous` is `NORMAL`: the log is synced when it is moved into the database, once in megabytes, and never by a commit. A power
//! cut takes the last batches and what they say of how far the index is made, which costs nothing but making them again. `OFF` would
//! save that sync. But then a power cut could leave an index that misses words and shows no damage, and nobody would make it anew.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::document::Document;
use super::files::{self, Is, Watch, is_damaged, meta};
use super::words;
use crate::Result;
use crate::fault::{self, Failure};
use crate::files::private_database;

/// The most messages of a batch, bytes of words, and time from its first to its last message.
const BATCH_MESSAGES: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
const BATCH_TIME: Duration = Duration::from_millis(500);

/// How many pages are merged at a time.
const MERGED: i64 = 16;

/// Pages of the database that are kept in memory, in kibibytes with a minus sign.
const CACHE: i64 = -2 << 10;

/// An index, open for writing. There is one writer of an index at a time: the lock of the store sees to that.
///
/// ```
/// use sundown_providers::search::{Document, Index, Query, Reader, path_of};
///
/// let home = tempfile::tempdir().unwrap();
/// let path = path_of(&home.path().join("store.db"));
/// let mut index = Index::open(&path, 7).unwrap();
/// index.add(1, &Document::of(b"Subject: hello\r\n\r\nThe text.\r\n")).unwrap();
/// index.advance(1).unwrap();
/// index.commit().unwrap();
/// assert_eq!(index.upto(), 1);
///
/// let mut reader = Reader::new(&path, 7);
/// let found = reader.search(&Query::parse("hello").unwrap(), None, 10).unwrap();
/// assert_eq!(found.seqs, [1]);
/// ```
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    store: u32,
    connection: Connection,
    watch: Watch,
    /// As the last commit has it.
    upto: u64,
    batch: Option<Batch>,
}

/// What is not committed yet.
#[derive(Debug)]
struct Batch {
    began: Instant,
    messages: usize,
    bytes: usize,
    upto: u64,
}

impl Index {
    /// Opens the index at a path, for the store with this number; makes it if it is missing or of no use. It is refused if it cannot be
    /// written, and if a database of another program is in its place.
    pub fn open(path: &Path, store: u32) -> Result<Self> {
        match Self::open_as_it_is(path, store) {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => {
                let path = path.display();
                tracing::info!(%path, "the search index is of another store or version; it is made anew");
            }
            Err(failure) if is_damaged(&failure) => {
                let error = failure.told(path);
                tracing::warn!(path = %path.display(), %error, "the search index is damaged; it is made anew");
            }
            Err(failure) => return Err(failure.told(path)),
        }
        files::remove(path)?;
        let made = Self::open_as_it_is(path, store).map_err(|failure| failure.told(path))?;
        made.ok_or_else(|| {
            ProviderError::new(
                Code::E_DISK_ERROR,
                format!("{}: another program makes it", path.display()),
            )
        })
    }

    /// `None` if it is of no use.
    fn open_as_it_is(path: &Path, store: u32) -> std::result::Result<Option<Self>, Failure> {
        private_database(path).map_err(Failure::Refused)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        match files::look(&connection, store)? {
            Is::Stale => return Ok(None),
            Is::Foreign => {
                let text =
                    format!("{} is a database of another program; move it away", path.display());
                return Err(Failure::refused(Code::E_DISK_ERROR, text));
            }
            Is::Index | Is::Empty => {}
        }
        let _: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", CACHE)?;
        if files::look(&connection, store)? == Is::Empty {
            files::create(&connection, store)?;
        }
        let upto = meta(&connection, "upto")?;
        let watch = Watch::of(path).map_err(Failure::Refused)?;
        Ok(Some(Self { path: path.to_owned(), store, connection, watch, upto, batch: None }))
    }

    /// Up to which message of the store the index is made, as the last commit has it.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Adds a message, in the place of what the index has of it.
    pub fn add(&mut self, seq: u64, document: &Document) -> Result<()> {
        self.add_with(seq, document, 0)
    }

    /// The same, with what the message was made of.
    pub(super) fn add_with(&mut self, seq: u64, document: &Document, stamp: i64) -> Result<()> {
        let bytes = document.size();
        self.write(bytes, |connection| {
            let mut delete = connection.prepare_cached("DELETE FROM words WHERE rowid = ?1")?;
            let mut entry = connection.prepare_cached("INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3)")?;
            if connection.prepare_cached(HAS)?.exists([seq])? {
                delete.execute([seq])?;
            }
            entry.execute((seq, document.date.unwrap_or(0), stamp))?;
            let fields = [&document.subject, &document.from, &document.to, &document.text, &document.files];
            let [subject, from, to, text, files] = fields.map(|field| words::of_message(field));
            let insert = "INSERT INTO words (rowid, subject, sender, recipients, text, file) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            connection.prepare_cached(insert)?.execute((seq, subject, from, to, text, files))?;
            Ok(())
        })
    }

    /// Removes a message, if the index has it.
    pub fn remove(&mut self, seq: u64) -> Result<()> {
        self.write(0, |connection| {
            if connection.prepare_cached(HAS)?.exists([seq])? {
                connection.prepare_cached("DELETE FROM words WHERE rowid = ?1")?.execute([seq])?;
                connection.prepare_cached("DELETE FROM entry WHERE seq = ?1")?.execute([seq])?;
            }
            Ok(())
        })
    }

    /// Notes that all messages up to this one are in the index. It is committed with them.
    pub fn advance(&mut self, upto: u64) -> Result<()> {
        self.write(0, |_| Ok(()))?;
        if let Some(batch) = &mut self.batch {
            batch.upto = upto;
        }
        Ok(())
    }

    /// Whether the batch has reached a bound, and is to be committed.
    pub fn is_full(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| {
            batch.messages >= BATCH_MESSAGES
                || batch.bytes >= BATCH_BYTES
                || batch.began.elapsed() >= BATCH_TIME
        })
    }

    /// Whether there is anything to commit.
    pub fn has_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// Commits the batch.
    pub fn commit(&mut self) -> Result<()> {
        let Some(batch) = self.batch.take() else { return Ok(()) };
        let committed = self.end(batch.upto);
        if committed.is_err() {
            self.undo();
        } else {
            self.upto = batch.upto;
        }
        committed.map_err(|error| fault::sql(&self.path, &error))
    }

    fn end(&self, upto: u64) -> rusqlite::Result<()> {
        if upto != self.upto {
            let sql = "UPDATE meta SET value = ?1 WHERE name = 'upto'";
            self.connection.prepare_cached(sql)?.execute([upto])?;
        }
        self.connection.execute_batch("COMMIT")
    }

    /// Undoes the batch.
    pub fn roll_back(&mut self) {
        if self.batch.take().is_some() {
            self.undo();
        }
    }

    fn undo(&self) {
        // There is nothing to undo after an error for which SQLite has done so itself.
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    /// Merges pieces of the index, a few pages; says whether there may be more to merge. The more pieces there are, the longer a search
    /// takes. Nothing may be in the batch.
    pub fn tidy(&mut self) -> Result<bool> {
        let merged = || {
            let before = self.connection.total_changes();
            let sql = "INSERT INTO words (words, rank) VALUES ('merge', ?1)";
            self.connection.prepare_cached(sql)?.execute([MERGED])?;
            // As FTS5's documentation says: fewer than two changes mean that there was nothing to merge.
            Ok(self.connection.total_changes() - before >= 2)
        };
        merged().map_err(|error| fault::sql(&self.path, &error))
    }

    /// Whether its files are still under their names. If not, nobody will find what is written: open it again.
    pub fn is_there(&self) -> bool {
        self.watch.are_there(&self.path)
    }

    /// Closes the index, removes its files, and makes it anew.
    pub fn renew(self) -> Result<Self> {
        let (path, store) = (self.path.clone(), self.store);
        self.leave()?;
        files::remove(&path)?;
        Self::open(&path, store)
    }

    /// Closes an index that is not there any more, and leaves what is under its names as it is.
    pub(super) fn leave(self) -> Result<()> {
        files::leave_log(&self.connection).map_err(|error| fault::sql(&self.path, &error))
    }

    /// The messages behind this one that are in the index, with what they were made of; at most so many.
    pub(super) fn entries(&self, after: u64, limit: usize) -> Result<Vec<(u64, i64)>> {
        let sql = "SELECT seq, stamp FROM entry WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let rows = statement.query_map((after, limit), |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        read().map_err(|error| fault::sql(&self.path, &error))
    }

    /// The last message that is in the index, with what it was made of.
    pub(super) fn last_entry(&self) -> Result<Option<(u64, i64)>> {
        let sql = "SELECT seq, stamp FROM entry ORDER BY seq DESC LIMIT 1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let read = self.connection.query_row(sql, [], row).optional();
        read.map_err(|error| fault::sql(&self.path, &error))
    }

    /// When the index was last compared with the store, in seconds since 1970.
    pub(super) fn compared(&self) -> Result<u64> {
        meta(&self.connection, "compared").map_err(|error| fault::sql(&self.path, &error))
    }

    pub(super) fn set_compared(&mut self, seconds: u64) -> Result<()> {
        self.write(0, |connection| {
            let sql = "UPDATE meta SET value = ?1 WHERE name = 'compared'";
            connection.prepare_cached(sql)?.execute([seconds]).map(drop)
        })
    }

    /// Writes in the batch, which it begins if there is none. After an error the whole batch is undone.
    fn write(
        &mut self,
        bytes: usize,
        what: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let begun = if self.batch.is_some() {
            Ok(())
        } else {
            self.connection.execute_batch("BEGIN IMMEDIATE")
        };
        let written = begun.and_then(|()| {
            let new = || Batch { began: Instant::now(), messages: 0, bytes: 0, upto: self.upto };
            let batch = self.batch.get_or_insert_with(new);
            batch.messages += 1;
            batch.bytes += bytes;
            what(&self.connection)
        });
        if written.is_err() {
            self.roll_back();
        }
        written.map_err(|error| fault::sql(&self.path, &error))
    }
}

const HAS: &str = "SELECT 1 FROM entry WHERE seq = ?1";
