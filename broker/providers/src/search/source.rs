//! The messages of a store in a `SQLite` database, for its index.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::indexer::{Row, Source};
use crate::fault;
use crate::{Result, StoreReader};

/// Reads the messages of a store: their rows on a connection of its own, and their bytes with a reader of the store.
///
/// It leaves no transaction open, so it never keeps the store's log from starting over.
pub struct StoreSource {
    path: PathBuf,
    reader: Box<dyn StoreReader>,
    connection: Option<Connection>,
}

impl StoreSource {
    /// The messages of the store in this file. The reader is one of the same store.
    pub fn new(path: &Path, reader: Box<dyn StoreReader>) -> Self {
        Self { path: path.to_owned(), reader, connection: None }
    }

    fn ask<T>(&mut self, what: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            Ok(connection)
        };
        let connection = self.connection.take().map_or_else(open, Ok);
        let answer = connection.and_then(|connection| {
            let answer = what(&connection)?;
            self.connection = Some(connection);
            Ok(answer)
        });
        answer.map_err(|error| fault::sql(&self.path, &error))
    }
}

impl Source for StoreSource {
    fn next(&mut self, after: u64, limit: usize) -> Result<Vec<Row>> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.ask(|connection| {
            let sql = "SELECT seq, record, body, received FROM message
                       WHERE seq > ?1 AND folder <> 0 ORDER BY seq LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map((after, limit), |row| {
                Ok(Row {
                    seq: row.get(0)?,
                    record: u128::from_be_bytes(row.get(1)?),
                    version: row.get(2)?,
                    received: row.get(3)?,
                    gone: false,
                })
            })?;
            rows.collect()
        })
    }

    fn last(&mut self) -> Result<u64> {
        self.ask(|connection| {
            let sql = "SELECT seq FROM message WHERE folder <> 0 ORDER BY seq DESC LIMIT 1";
            let last = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional();
            last.map(Option::unwrap_or_default)
        })
    }

    fn open(&mut self, record: u128) -> Result<Box<dyn Read + '_>> {
        self.reader.open(record).map(|reader| reader as Box<dyn Read + '_>)
    }
}
