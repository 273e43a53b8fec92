//! Moves what was committed from the write-ahead log into the database, on a thread of its own.
//!
//! A checkpoint copies pages and syncs twice; inside a commit, as `SQLite` does by default, that is tens of
//! milliseconds for whoever happens to come then. Here the writer only pokes. A passive checkpoint waits for nobody
//! and makes nobody wait. Under a load that never pauses it never quite catches up and the log grows; once it is
//! large the writer does one itself, which only has the rest left to copy, and the log starts over.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, ErrorCode};
use sundown_core::provider::ProviderError;

use crate::fault;

/// How much is written between two pokes: 4 MiB, what `SQLite`'s default of 1000 pages comes to.
const STEP: u64 = 4 << 20;

/// The pages in a log that is too large: 64 MiB of 4 KiB each.
const LARGE_LOG: u64 = 16 << 10;

/// What the writer and the checkpoint thread know in common.
#[derive(Debug, Default)]
pub(super) struct Health {
    failed: AtomicBool,
    /// Pages in a log that a checkpoint could not finish; zero when it could.
    behind: AtomicU64,
}

impl Health {
    /// Whether a sync failed. It stays so until the store is opened anew.
    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// The thread; dropping this ends it and waits for it.
#[derive(Debug)]
pub(super) struct Checkpointer {
    poke: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    health: Arc<Health>,
    written: u64,
}

impl Checkpointer {
    pub(super) fn start(path: &Path, health: Arc<Health>) -> Result<Self, ProviderError> {
        let connection = connect(path).map_err(|error| fault::sql(path, &error))?;
        // One poke waits at most: a second says nothing that the first does not.
        let (poke, poked) = bounded(1);
        let for_thread = Arc::clone(&health);
        let thread = thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || run(&connection, &poked, &for_thread))
            .map_err(|error| fault::io(path, &error))?;
        Ok(Self { poke: Some(poke), thread: Some(thread), health, written: 0 })
    }

    /// After a commit of about so many bytes on the writer's connection.
    pub(super) fn committed(&mut self, writer: &Connection, bytes: u64) {
        if self.health.behind.load(Ordering::Relaxed) > LARGE_LOG {
            passive(writer, &self.health);
        }
        self.written += bytes;
        if self.written > STEP {
            self.written = 0;
            if let Some(poke) = &self.poke {
                let _ = poke.try_send(());
            }
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.poke = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn run(connection: &Connection, poked: &Receiver<()>, health: &Health) {
    while poked.recv().is_ok() {
        passive(connection, health);
    }
}

fn passive(connection: &Connection, health: &Health) {
    let pages = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], pages) {
        Ok((in_log, moved)) => {
            let behind = if moved < in_log { in_log } else { 0 };
            health.behind.store(behind.unsigned_abs(), Ordering::Relaxed);
        }
        Err(error) => {
            tracing::warn!(%error, "a checkpoint failed");
            if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
                health.fail();
            }
        }
    }
}

/// Moves everything and empties the log, if no reader is in the way.
pub(super) fn truncate(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
