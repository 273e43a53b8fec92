//! The files of an index: where they are, whether they are still there, and what is in them.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::fault;
use crate::files::{FileId, is_absent};
use crate::{Result, fault::Failure};

/// `Sdix`: marks the database as a search index of Sundown.
const APPLICATION: i32 = 0x5364_6978;

/// The version of the tables, and of how text becomes words. An index of another one is made anew.
const VERSION: i32 = 1;

/// The index of a store: beside it, with `-search` behind its name. Stores in one directory have indexes of their own.
///
/// ```
/// let index = sundown_providers::search::path_of("/var/mail/store.db".as_ref());
/// assert_eq!(index.to_str(), Some("/var/mail/store.db-search"));
/// ```
pub fn path_of(store: &Path) -> PathBuf {
    with_suffix(store, "-search")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The tables.
///
/// * `words`: the words of messages. The table keeps where words are, and no text; a row can be deleted without the text that it was
///   made of. Its row ids are the numbers of messages in the store.
///   What a batch adds is one piece of the table: `hashsize`, the memory for it in bytes, is more than a batch takes. Pieces are
///   merged between batches, a few pages at a time, and not within a commit.
/// * `entry`: a row for each message that is in the index, with its date and what it was made of.
/// * `meta`: the number of the store, up to which message the index is made, and when it was compared with the store.
const TABLES: &str = "
CREATE VIRTUAL TABLE words USING fts5(
    subject, sender, recipients, text, file,
    content = '', contentless_delete = 1, tokenize = \"unicode61 remove_diacritics 2\"
);
INSERT INTO words (words, rank) VALUES ('hashsize', 4194304);
INSERT INTO words (words, rank) VALUES ('automerge', 0);
CREATE TABLE entry (seq INTEGER PRIMARY KEY, date INTEGER NOT NULL, stamp INTEGER NOT NULL);
CREATE INDEX entry_date ON entry (date, seq);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// Makes the tables, in one transaction.
pub(super) fn create(connection: &Connection, store: u32) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES}
         INSERT INTO meta VALUES ('store', {store}), ('upto', 0), ('compared', 0);
         PRAGMA application_id = {APPLICATION};
         PRAGMA user_version = {VERSION};
         COMMIT;"
    ))
}

/// What a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    /// The index of this store.
    Index,
    /// Nothing yet.
    Empty,
    /// An index that is of no use: of another store or version.
    Stale,
    /// The database of another program.
    Foreign,
}

/// Looks what a database is.
pub(super) fn look(connection: &Connection, store: u32) -> rusqlite::Result<Is> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let empty = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
    Ok(match (pragma("application_id")?, pragma("user_version")?) {
        (APPLICATION, VERSION) if meta(connection, "store")? == u64::from(store) => Is::Index,
        (APPLICATION, _) => Is::Stale,
        (0, 0) if connection.query_row(empty, [], |row| row.get(0))? => Is::Empty,
        _ => Is::Foreign,
    })
}

/// A number of the index.
pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    connection.prepare_cached(sql)?.query_row([name], |row| row.get(0))
}

/// The files of an index that is open. If one of them is removed or replaced, the connection goes on with a file that has no name, and
/// others read something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch([Option<FileId>; FILES.len()]);

/// What `SQLite` appends to the names of the files of an open database.
const FILES: [&str; 3] = ["", "-wal", "-shm"];

impl Watch {
    /// Remembers which files they are. The connection must have read something, so that all are there.
    pub(super) fn of(path: &Path) -> Result<Self> {
        FileId::at(path).map_err(|error| fault::io(path, &error))?;
        Ok(Self(FILES.map(|suffix| FileId::at(&with_suffix(path, suffix)).ok())))
    }

    /// Whether they still have their names.
    pub(super) fn are_there(self, path: &Path) -> bool {
        let mut files = self.0.into_iter().zip(FILES);
        files.all(|(known, suffix)| known.is_none_or(|it| it.is_at(&with_suffix(path, suffix))))
    }
}

/// Has a connection close without moving its log into the database and removing the log: under that name there may be another one.
pub(super) fn leave_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Removes an index. No connection to it may be in use in this process but such as are closed next.
pub(super) fn remove(path: &Path) -> Result<()> {
    // The database last: without it nothing else is looked at, and with a log of another database it would be damaged.
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let file = with_suffix(path, suffix);
        match fs::remove_file(&file) {
            Err(error) if !is_absent(&error) => return Err(fault::io(&file, &error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Whether after this error the index is made anew: it is damaged, or no database.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let no_database = error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase);
    // Without a code it is rusqlite that says so: a value is not what it must be, or a row is missing.
    no_database || fault::is_damaged_page(error) || error.sqlite_error_code().is_none()
}

/// Whether after this failure the index is made anew.
pub(super) fn is_damaged(failure: &Failure) -> bool {
    matches!(failure, Failure::Sql(error) if is_damage(error))
}
