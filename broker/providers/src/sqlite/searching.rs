//! Search in a store: its index, which a thread builds while the store is idle, and what a search answers.
//!
//! The thread begins with the first message that comes after the store was opened, or with the first search: a store that nobody uses
//! has none.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use sundown_core::provider::{ProviderAnswer, StoreWrite};
use sundown_protocol::request::Folder;

use super::contents;
use super::reader::SqliteReader;
use crate::fault::Failure;
use crate::search::{Changed, Indexer, Pace, Query, Reader, StoreSource, path_of};

/// The most messages with the words that one answer looks at. Most of them may be in another folder, and an answer comes soon.
const LOOKED_AT: usize = 4096;

/// Up to so many messages that are not in the index yet are counted.
const COUNTED: u32 = 1_000_000;

/// The index of an open store.
#[derive(Debug, Clone)]
pub(super) struct Searching(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    uid: u32,
    pace: Pace,
    indexer: Mutex<State>,
}

/// The thread that builds the index.
#[derive(Debug)]
enum State {
    NotBegun,
    Works(Indexer),
    /// A process is about to leave: it does nothing until there is something to do again.
    Rests(Indexer),
    /// It could not be begun; the log says why.
    Failed,
    /// The store is closed.
    Over,
}

impl Searching {
    pub(super) fn new(path: &Path, uid: u32, pace: Pace) -> Self {
        let indexer = Mutex::new(State::NotBegun);
        Self(Arc::new(Shared { path: path.to_owned(), uid, pace, indexer }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.indexer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a batch of writes has changed, and whether a message came back by it.
    pub(super) fn changed(&self, batch: &[StoreWrite], came_back: bool) {
        let back = came_back.then_some(Changed::Older);
        if let Some(changed) = batch.iter().filter_map(change_of).chain(back).max() {
            self.wake(changed);
        }
    }

    fn wake(&self, changed: Changed) {
        let mut state = self.lock();
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::NotBegun => self.begin(),
            State::Rests(indexer) => {
                indexer.resume();
                State::Works(indexer)
            }
            other => other,
        };
        if let State::Works(indexer) = &*state {
            indexer.wake(changed);
        }
    }

    fn begin(&self) -> State {
        let Shared { path, uid, pace, .. } = &*self.0;
        let reader = Box::new(SqliteReader::new(path.clone(), *uid));
        let source = Box::new(StoreSource::new(path, reader));
        match Indexer::start(&path_of(path), *uid, source, *pace) {
            Ok(indexer) => State::Works(indexer),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the index for searches is not built");
                State::Failed
            }
        }
    }

    /// Stops the work until there is more to do.
    pub(super) fn rest(&self) {
        let mut state = self.lock();
        *state = match std::mem::replace(&mut *state, State::Over) {
            State::Works(indexer) => {
                indexer.stop();
                State::Rests(indexer)
            }
            other => other,
        };
    }

    /// Ends the thread, and waits for it.
    pub(super) fn end(&self) {
        let ended = std::mem::replace(&mut *self.lock(), State::Over);
        drop(ended);
    }

    /// A reader of the index. It has the thread begin, so that a store finds what it had before there was an index.
    pub(super) fn reader(&self) -> Reader {
        self.wake(Changed::Added);
        match &*self.lock() {
            State::Works(indexer) | State::Rests(indexer) => indexer.reader(),
            State::NotBegun | State::Failed | State::Over => {
                Reader::new(&path_of(&self.0.path), self.0.uid)
            }
        }
    }
}

/// What a write changes for the index.
fn change_of(write: &StoreWrite) -> Option<Changed> {
    match write {
        StoreWrite::Submit { .. }
        | StoreWrite::Save { .. }
        | StoreWrite::Copy { .. }
        | StoreWrite::Mirror(_) => Some(Changed::Added),
        StoreWrite::Update(update) if update.notice.is_some() => Some(Changed::Added),
        StoreWrite::Delete { .. } | StoreWrite::DeleteFrom { .. } => Some(Changed::Older),
        _ => None,
    }
}

/// Answers a search.
pub(super) fn search(
    connection: &Connection,
    index: &mut Reader,
    uid: u32,
    (words, folder): (&str, Option<Folder>),
    (after, limit): (u64, u32),
) -> Result<ProviderAnswer, Failure> {
    let query = Query::parse(words).map_err(Failure::Refused)?;
    let limit = limit.max(1) as usize;
    let mut before = (after > 0).then_some(after);
    let (mut rows, mut looked_at) = (Vec::new(), 0);
    let (next, upto) = loop {
        let wanted = limit - rows.len();
        let page = index.search(&query, before, wanted.max(64)).map_err(Failure::Refused)?;
        looked_at += page.seqs.len();
        let mut last = None;
        for seq in &page.seqs {
            if rows.len() == limit {
                break;
            }
            rows.extend(contents::found(connection, uid, &[*seq], folder)?);
            last = Some(*seq);
        }
        let left = page.next.is_some() || page.seqs.last().copied() != last;
        before = last.filter(|_| left);
        if before.is_none() || rows.len() == limit || looked_at >= LOOKED_AT {
            break (before, page.upto);
        }
    };
    let sql =
        "SELECT count(*) FROM (SELECT 1 FROM message WHERE seq > ?1 AND folder <> 0 LIMIT ?2)";
    let upto = i64::try_from(upto).unwrap_or(i64::MAX);
    let unindexed =
        connection.prepare_cached(sql)?.query_row((upto, COUNTED), |row| row.get::<_, u64>(0))?;
    Ok(ProviderAnswer::Hits { rows, next, unindexed })
}
