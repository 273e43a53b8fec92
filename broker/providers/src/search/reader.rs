//! Searches an index while its writer works, on a read-only connection of its own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Params};

use super::files::{self, Is, Watch, is_damaged, meta};
use super::query::Query;
use crate::Result;
use crate::fault::Failure;

/// The most messages of a page.
const LONGEST_PAGE: usize = 10_000;

/// What a search has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The numbers of messages in the store, the highest first. A message may have been deleted since.
    pub seqs: Vec<u64>,
    /// What to give to the next search as `before`; `None` if there is no more.
    pub next: Option<u64>,
    /// Up to which message of the store the index was made. Later messages are not found yet.
    pub upto: u64,
}

/// A reader of an index. Its first search opens it.
pub struct Reader {
    path: PathBuf,
    store: u32,
    open: Option<(Connection, Watch)>,
    /// Is called when the index turns out to be damaged.
    damaged: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader of the index at this path, of the store with this number. [`Index`](super::Index) has an example.
    pub fn new(path: &Path, store: u32) -> Self {
        Self { path: path.to_owned(), store, open: None, damaged: None }
    }

    /// The same, with what is called when the index turns out to be damaged.
    pub(super) fn with(path: &Path, store: u32, damaged: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { damaged: Some(damaged), ..Self::new(path, store) }
    }

    /// Finds messages, the newest first: those whose number is below `before`, at most `limit` of them and at most 10,000.
    ///
    /// An index that is missing, damaged or of another store has nothing: the page is empty, and its `upto` is 0.
    pub fn search(&mut self, query: &Query, before: Option<u64>, limit: usize) -> Result<Page> {
        match self.find(query, before, limit.clamp(1, LONGEST_PAGE)) {
            Err(failure) if is_damaged(&failure) => {
                self.open = None;
                if let Some(damaged) = &self.damaged {
                    damaged();
                }
                Ok(Page::default())
            }
            found => found.map_err(|failure| failure.told(&self.path)),
        }
    }

    fn find(
        &mut self,
        query: &Query,
        before: Option<u64>,
        limit: usize,
    ) -> std::result::Result<Page, Failure> {
        if self.open.as_ref().is_some_and(|(_, watch)| !watch.are_there(&self.path)) {
            self.open = None;
        }
        let (connection, _) = match self.open.take() {
            Some(open) => self.open.insert(open),
            None => match connect(&self.path, self.store)? {
                Some(open) => self.open.insert(open),
                None => return Ok(Page::default()),
            },
        };
        // What is found and how far the index is made are of one moment.
        let snapshot = connection.unchecked_transaction()?;
        let upto = meta(&snapshot, "upto")?;
        let mut seqs = found(&snapshot, query, before, limit + 1)?;
        let more = seqs.len() > limit;
        seqs.truncate(limit);
        Ok(Page { next: seqs.last().copied().filter(|_| more), seqs, upto })
    }
}

/// `None` if there is no index, or one of another store or version.
fn connect(path: &Path, store: u32) -> std::result::Result<Option<(Connection, Watch)>, Failure> {
    if !path.is_file() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    files::leave_log(&connection)?;
    if files::look(&connection, store)? != Is::Index {
        return Ok(None);
    }
    let watch = Watch::of(path).map_err(Failure::Refused)?;
    Ok(Some((connection, watch)))
}

/// The numbers of messages, the highest first.
fn found(
    connection: &Connection,
    query: &Query,
    before: Option<u64>,
    limit: usize,
) -> rusqlite::Result<Vec<u64>> {
    let last = before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX) - 1);
    let Some((from, until)) = query.dates() else {
        let Some(expression) = query.expression() else { return Ok(Vec::new()) };
        return seqs(connection, WORDS, (expression, last, limit));
    };
    // Messages of a few days are next to each other, mostly: where they begin and end is looked up first.
    let range = "SELECT min(seq), max(seq) FROM entry WHERE date >= ?1 AND date < ?2";
    let range = connection.prepare_cached(range)?.query_row((from, until), |row| {
        Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?))
    })?;
    let Some((first, highest)) = range else { return Ok(Vec::new()) };
    let last = last.min(highest);
    match (query.expression(), query.unwanted()) {
        (Some(words), _) => {
            seqs(connection, WORDS_AND_DATES, (words, last, limit, first, from, until))
        }
        (None, Some(unwanted)) => {
            let sql = format!(
                "{DATES} AND seq NOT IN (SELECT rowid FROM words WHERE words MATCH ?1) {NEWEST}"
            );
            seqs(connection, &sql, (unwanted, last, limit, first, from, until))
        }
        (None, None) => {
            seqs(connection, &format!("{DATES} {NEWEST}"), ("", last, limit, first, from, until))
        }
    }
}

const WORDS: &str = "
SELECT rowid FROM words WHERE words MATCH ?1 AND rowid <= ?2 ORDER BY rowid DESC LIMIT ?3";

/// A cross join: words lead, and dates are looked up, as the words have the order that is wanted.
const WORDS_AND_DATES: &str = "
SELECT words.rowid FROM words CROSS JOIN entry ON entry.seq = words.rowid
WHERE words MATCH ?1 AND words.rowid BETWEEN ?4 AND ?2 AND +entry.date >= ?5 AND +entry.date < ?6
ORDER BY words.rowid DESC LIMIT ?3";

const DATES: &str = "
SELECT seq FROM entry WHERE ?1 IS NOT NULL AND seq BETWEEN ?4 AND ?2 AND +date >= ?5 AND +date < ?6";

const NEWEST: &str = "ORDER BY seq DESC LIMIT ?3";

fn seqs(connection: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<Vec<u64>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(parameters, |row| row.get(0))?.collect()
}
