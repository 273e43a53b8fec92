//! Moves what was committed from the write-ahead log into the database, on a thread of its own.
//!
//! A checkpoint copies pages and syncs twice; inside a commit, as `SQLite` does by default, that is tens of
//! milliseconds for whoever happens to come then. Here the writer only pokes. A passive checkpoint waits for nobody
//! and makes nobody wait, and under a load that never pauses it never quite catches up. When little is left the writer
//! moves that itself, between two commits. Then the log starts over in its own place, which also makes commits cheaper:
//! syncing a file that grows takes about twice as long as syncing one that is written again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;
use sundown_core::provider::ProviderError;

use crate::fault;

/// How much is written between two pokes. Pages that change with every commit are moved once each time, so more is less
/// to do; it also is how much log a start after a crash may have to read.
const STEP: u64 = 8 << 20;

/// Pages that may have come during one pass of the thread, so that the writer may move what comes during the next one.
/// Most are the same few again and again, so this is a millisecond or two, once in hundreds of commits.
const FEW: u64 = 1 << 10;

/// So much of the log, as a divisor, is few too: however fast it grows, it does so no more when it is long enough.
const FEW_OF_ALL: u64 = 4;

/// How often the thread tries to come close enough.
const PASSES: usize = 4;

/// What the writer and the checkpoint thread know in common.
#[derive(Debug, Default)]
pub(super) struct Health {
    failed: AtomicBool,
    /// Whether the thread is done and leaves the rest to the writer.
    left: AtomicBool,
}

impl Health {
    /// Whether a sync failed. It stays so until the store is opened anew.
    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Notes an error after which the disk cannot be trusted any more.
    pub(super) fn look_at(&self, error: &rusqlite::Error) {
        if fault::is_untrustworthy(error) {
            self.fail();
        }
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

    /// After a commit of about so many bytes.
    pub(super) fn committed(&mut self, bytes: u64) {
        self.written += bytes;
        if self.written > STEP {
            self.written = 0;
            if let Some(poke) = &self.poke {
                let _ = poke.try_send(());
            }
        }
    }

    /// Moves what the thread has left, on the writer's connection and between its commits.
    pub(super) fn finish(&self, writer: &Connection) {
        if self.health.left.swap(false, Ordering::Acquire) {
            passive(writer, &self.health);
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
    // The log is opened by the first question. Later there may be another one under its name.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

fn run(connection: &Connection, poked: &Receiver<()>, health: &Health) {
    while poked.recv().is_ok() {
        let mut before = 0;
        for _ in 0..PASSES {
            let Some(Moved { in_log, moved }) = passive(connection, health) else { break };
            // A pass does not say what came while it ran; the next one has to move that. A log that is shorter started over.
            let came = in_log.checked_sub(before).unwrap_or(in_log);
            if came <= FEW.max(in_log / FEW_OF_ALL) {
                health.left.store(true, Ordering::Release);
                break;
            }
            before = moved;
        }
    }
}

/// The pages that a checkpoint found in the log when it began, and how many of them are in the database now.
struct Moved {
    in_log: u64,
    moved: u64,
}

/// `None` if it failed, or another one runs.
fn passive(connection: &Connection, health: &Health) -> Option<Moved> {
    let moved = |row: &rusqlite::Row<'_>| {
        let (in_log, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok((in_log >= 0).then_some(Moved { in_log: in_log as u64, moved: moved as u64 }))
    };
    match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], moved) {
        Ok(moved) => moved,
        Err(error) => {
            tracing::warn!(%error, "a checkpoint failed");
            health.look_at(&error);
            None
        }
    }
}

/// Moves everything and empties the log, if no reader is in the way.
pub(super) fn truncate(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
