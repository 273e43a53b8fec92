//! Detects that the files of an open store have lost their names, and saves what is in them.
//!
//! Removing or replacing the files of a store changes only names: the broker's connections continue with the files that they have
//! open, `SQLite` reports nothing, and the commits vanish with the last connection. So the store checks after the commits of each
//! batch, and before it returns any answer, whether the database and its log have their names. Before each batch it checks the
//! database, so that writes after a removal are refused without effect. Once a second it also checks the index of the log and the
//! lock file before a batch: without them nothing is lost, but other programs may write at the same time. A lost store stays lost.
//!
//! The database is compared by `SQLITE_FCNTL_HAS_MOVED`, the other files by `stat`. None of the files is opened for that: closing
//! it would drop the locks that `SQLite` holds on it. A change of a name after a check is noticed by the next check only, and
//! writes into a file from outside are not noticed at all.
//!
//! | missing | what is done |
//! |---|---|
//! | the database | a copy is made beside the lost file; its log and index are removed, because they belong to no other database |
//! | the log | it is moved into the database, and nothing is missing; if another log has its place a copy is made |
//! | the index, or another broker has the lock of the store | nothing: database and log have their names |
//!
//! Where nothing was missing, the database is checked once more before the store is closed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use sundown_core::provider::{ProviderAnswer, ProviderError};
use sundown_protocol::Code;

use super::torn::with_suffix;
use crate::files::{FileId, Lock};
use crate::{Result, fault, rescue};

/// How often the index and the lock are checked while the store is written to.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long other connections may read or move the log before a copy is made instead, and how often moving is tried meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(10);

/// The names of an open store's files, and whether the files still have them.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    /// The file at the path, if the path contains links. `SQLite` knows the file by a path without links, which may stay while a
    /// link changes.
    linked: Option<FileId>,
    log: Watched,
    index: Watched,
    lock: Lock,
    /// When the index and the lock file are checked next.
    look_again: Instant,
    lost: Option<Lost>,
}

/// A file beside the database.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// `None` until the file is seen.
    file: Option<FileId>,
}

/// The file that has lost its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Database,
    Log,
    Index,
    Lock,
}

/// A store whose files are lost.
#[derive(Debug)]
struct Lost {
    missing: Missing,
    /// Where the contents are now, or why they could not be saved yet.
    saved: Result<Saved>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Saved {
    /// They are under the store's own name.
    InPlace,
    Copy(PathBuf),
}

impl Watched {
    fn new(path: PathBuf) -> Self {
        let file = FileId::at(&path).ok();
        Self { path, file }
    }

    /// Whether the file that was first seen is there. A file that `SQLite` has not made yet is not missed.
    fn is_there(&mut self) -> bool {
        let Some(file) = self.file else {
            self.file = FileId::at(&self.path).ok();
            return true;
        };
        file.is_at(&self.path)
    }

    fn is_ours(&self) -> bool {
        self.file.is_some() && FileId::at(&self.path).ok() == self.file
    }

    /// Whether the name has no file, or only an empty one.
    fn is_free(&self) -> bool {
        fs::metadata(&self.path).map_or(true, |found| found.len() == 0)
    }
}

impl Watch {
    /// Begins with files that were just opened.
    pub(super) fn new(path: &Path, connection: &Connection, lock: Lock) -> Result<Self> {
        // Links in this path are resolved, as in the names of the other files.
        let opened = connection.path().map_or(path, Path::new);
        let linked = (opened != path).then(|| FileId::at(path)).transpose();
        Ok(Self {
            path: path.to_owned(),
            linked: linked.map_err(|error| fault::io(path, &error))?,
            log: Watched::new(with_suffix(opened, "-wal")),
            index: Watched::new(with_suffix(opened, "-shm")),
            lock,
            look_again: Instant::now() + LOOK_AGAIN,
            lost: None,
        })
    }

    /// Checks before a batch. An error refuses the whole batch.
    pub(super) fn before(&mut self, connection: &Connection) -> Result<()> {
        if self.lost.is_none() {
            let missing = if self.has_moved(connection) {
                Some(Missing::Database)
            } else {
                self.others_may_write()
            };
            self.note(missing, connection);
        }
        self.refuse_if_lost()
    }

    pub(super) fn refuse_if_lost(&self) -> Result<()> {
        self.lost.as_ref().map_or(Ok(()), |lost| Err(lost.refusal(&self.path)))
    }

    /// Checks after the commits of a batch. Returns its answers, unless the files have lost their names.
    pub(super) fn behind(
        &mut self,
        connection: &Connection,
        answers: Vec<Result<ProviderAnswer>>,
    ) -> Vec<Result<ProviderAnswer>> {
        let missing = self.missing(connection);
        self.note(missing, connection);
        let Some(lost) = &self.lost else { return answers };
        let unknown = lost.outcome_unknown(&self.path);
        answers.into_iter().map(|answer| answer.and(Err(unknown.clone()))).collect()
    }

    /// Checks before the store is closed. Fails unless all contents of a lost store are saved.
    pub(super) fn save(&mut self, connection: &Connection) -> Result<()> {
        let missing = match &self.lost {
            None => self.missing(connection).or_else(|| self.index_is_missing()),
            Some(Lost { missing, saved: Err(_) }) => Some(*missing),
            // The files of a directory lose their names one after the other: the log was the first that was looked for in vain.
            Some(Lost { saved: Ok(Saved::InPlace), .. }) => {
                self.has_moved(connection).then_some(Missing::Database)
            }
            Some(Lost { saved: Ok(Saved::Copy(_)), .. }) => None,
        };
        self.note(missing, connection);
        match &self.lost {
            Some(lost @ Lost { saved: Err(why), .. }) => {
                let text = lost.refusal(&self.path).message;
                Err(ProviderError::new(why.code, text).of_lost_store())
            }
            _ => Ok(()),
        }
    }

    /// Whether the files are lost. The files under their names must not be changed then.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Makes `SQLite` change nothing when a lost store is closed: it would move a log into a database and remove files, by their
    /// names.
    pub(super) fn leave(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // A log left beside another database would be taken for a part of it.
        let is_copied = |lost: &Lost| matches!(lost.saved, Ok(Saved::Copy(_)));
        if self.lost.as_ref().is_some_and(is_copied) {
            for watched in [&self.log, &self.index].into_iter().filter(|w| w.is_ours()) {
                let _ = fs::remove_file(&watched.path);
            }
        }
        Ok(())
    }

    fn has_moved(&self, connection: &Connection) -> bool {
        rescue::has_moved(connection) || self.linked.is_some_and(|file| !file.is_at(&self.path))
    }

    fn missing(&mut self, connection: &Connection) -> Option<Missing> {
        if self.has_moved(connection) {
            Some(Missing::Database)
        } else if !self.log.is_there() {
            Some(Missing::Log)
        } else {
            None
        }
    }

    /// Makes the next check of index and lock due, as if the store had been idle.
    #[cfg(test)]
    pub(super) fn look_again(&mut self) {
        self.look_again = Instant::now();
    }

    /// Whether the index or the lock is missing, which keep other programs from writing to the same files. Checked once a second.
    fn others_may_write(&mut self) -> Option<Missing> {
        let now = Instant::now();
        if now < self.look_again {
            return None;
        }
        self.look_again = now + LOOK_AGAIN;
        let taken = |watch: &mut Self| watch.lock.keep().is_err().then_some(Missing::Lock);
        self.index_is_missing().or_else(|| taken(self))
    }

    fn index_is_missing(&mut self) -> Option<Missing> {
        (!self.index.is_there()).then_some(Missing::Index)
    }

    fn note(&mut self, missing: Option<Missing>, connection: &Connection) {
        let Some(missing) = missing else { return };
        let saved = self.save_what_is_missing(missing, connection);
        self.lost = Some(Lost { missing, saved });
    }

    fn save_what_is_missing(&self, missing: Missing, connection: &Connection) -> Result<Saved> {
        let in_place = match missing {
            Missing::Database => false,
            Missing::Log => self.log.is_free() && moves_log(connection),
            Missing::Index | Missing::Lock => true,
        };
        let saved = if in_place {
            Ok(Saved::InPlace)
        } else {
            rescue::save(connection, &self.path).map(Saved::Copy)
        };
        let (path, missing) = (self.path.display(), missing.name());
        match &saved {
            Ok(saved) => tracing::error!(
                %path, missing, saved = %saved.shown(&self.path).display(),
                "the store's files were removed or replaced under the broker; the store is closed"
            ),
            Err(error) => tracing::error!(
                %path, missing, %error,
                "the store's files were removed or replaced under the broker, and what is in it cannot be saved; it is \
                 tried again"
            ),
        }
        saved
    }
}

impl Missing {
    fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Log => "log",
            Self::Index => "index of the log",
            Self::Lock => "lock",
        }
    }
}

impl Saved {
    fn shown<'a>(&'a self, path: &'a Path) -> &'a Path {
        match self {
            Self::InPlace => path,
            Self::Copy(copy) => copy,
        }
    }
}

impl Lost {
    /// The error of a call of which nothing was stored.
    fn refusal(&self, path: &Path) -> ProviderError {
        let text = format!(
            "{}: {}, and the store is closed; nothing of this was stored. {}. Log on again",
            path.display(),
            self.cause(),
            self.whereabouts()
        );
        ProviderError::new(Code::E_END_OF_SESSION, text).of_lost_store()
    }

    /// The error of a call that was stored in lost files.
    fn outcome_unknown(&self, path: &Path) -> ProviderError {
        let text = format!(
            "{}: {} while this was stored, and the store is closed; this may be stored. {}. Log on again",
            path.display(),
            self.cause(),
            self.whereabouts()
        );
        ProviderError::new(Code::E_DISK_ERROR, text).effect_unknown().of_lost_store()
    }

    fn cause(&self) -> &'static str {
        match self.missing {
            Missing::Database | Missing::Log | Missing::Index => {
                "its files were removed or replaced under the broker"
            }
            Missing::Lock => "its lock was removed, and another broker has it now",
        }
    }

    fn whereabouts(&self) -> String {
        match &self.saved {
            Ok(Saved::InPlace) => "Nothing that was in it is missing".to_owned(),
            Ok(Saved::Copy(copy)) => format!(
                "What was in it is saved in {}: `sundown doctor` says how to take that in",
                copy.display()
            ),
            Err(why) => format!(
                "What was in it is not saved yet, which is tried again and again: {}",
                why.message
            ),
        }
    }
}

/// Moves a log without a name into its database. Returns whether all of it was moved. Waits for a concurrent checkpoint, because
/// `SQLite` reports at once that it is busy.
pub(super) fn moves_log(connection: &Connection) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        match connection.query_row(sql, [], |row| row.get(0)) {
            Ok(0) => return true,
            Ok(1_i64..) if Instant::now() < until => thread::sleep(AGAIN),
            Ok(_) | Err(_) => return false,
        }
    }
}
