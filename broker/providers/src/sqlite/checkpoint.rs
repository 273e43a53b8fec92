//! Moves commits from the write-ahead log into the database, on a thread of its own.
//!
//! A checkpoint copies pages and syncs twice. Within a commit, as `SQLite` does it by default, it delays that commit by tens of
//! milliseconds. Here the writer only wakes the thread. A passive checkpoint neither waits for other connections nor makes them
//! wait; under a load that never pauses it never quite catches up. When few pages are left the writer moves them itself, between
//! two commits. Then the log starts over at its beginning, which also makes commits cheaper: syncing a growing file takes about
//! twice as long as syncing a file that is overwritten.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;
use sundown_core::provider::ProviderError;

use crate::fault;

/// How many bytes are written between two wake-ups. A page that changes with every commit is moved once each time, so a larger step
/// means less work. The step also is how much of the log a start after a crash may have to read.
const STEP: u64 = 8 << 20;

/// The most pages written during a pass of the thread that are few enough for the writer to move those of the next pass. Most are
/// the same few pages again and again, so that takes a millisecond or two, once in hundreds of commits.
const FEW: u64 = 1 << 10;

/// This share of the log, as a divisor, counts as few too: so a log that grows fast is cut off once it is long enough.
const FEW_OF_ALL: u64 = 4;

/// How often the thread tries to come close enough.
const PASSES: usize = 4;

/// State shared by the writer and the checkpoint thread.
#[derive(Debug, Default)]
pub(super) struct Health {
    failed: AtomicBool,
    /// Whether the thread has finished and leaves the rest to the writer.
    left: AtomicBool,
}

impl Health {
    /// Whether the disk failed. This stays so until the store is opened anew.
    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Marks the store as failed if the disk cannot be trusted after this error.
    pub(super) fn look_at(&self, error: &rusqlite::Error) {
        if fault::is_untrustworthy(error) {
            self.fail();
        }
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// The checkpoint thread. Dropping this ends the thread and waits for it.
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
        // At most one wake-up is queued: a second adds nothing.
        let (poke, poked) = bounded(1);
        let for_thread = Arc::clone(&health);
        let thread = thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || run(&connection, &poked, &for_thread))
            .map_err(|error| fault::io(path, &error))?;
        Ok(Self { poke: Some(poke), thread: Some(thread), health, written: 0 })
    }

    /// Counts a commit of about so many bytes, and wakes the thread when a step is full.
    pub(super) fn committed(&mut self, bytes: u64) {
        self.written += bytes;
        if self.written > STEP {
            self.written = 0;
            if let Some(poke) = &self.poke {
                let _ = poke.try_send(());
            }
        }
    }

    /// Moves the rest that the thread has left, on the writer's connection and between its commits.
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
    // The first query opens the log. A later one could find another log under its name.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

fn run(connection: &Connection, poked: &Receiver<()>, health: &Health) {
    while poked.recv().is_ok() {
        let mut before = 0;
        for _ in 0..PASSES {
            let Some(Moved { in_log, moved }) = passive(connection, health) else { break };
            // A pass does not report pages that were written while it ran; the next pass has to move those. A shorter log has
            // started over.
            let came = in_log.checked_sub(before).unwrap_or(in_log);
            if came <= FEW.max(in_log / FEW_OF_ALL) {
                health.left.store(true, Ordering::Release);
                break;
            }
            before = moved;
        }
    }
}

/// How many pages a checkpoint found in the log when it began, and how many of them are in the database now.
struct Moved {
    in_log: u64,
    moved: u64,
}

/// Runs a passive checkpoint. `None` if it failed, or another checkpoint runs.
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
