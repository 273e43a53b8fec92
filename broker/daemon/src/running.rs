//! For how long brokers have run with this data directory: the clock by which mail grows older.
//!
//! A small file in the data directory has it. It is written when the broker ends and, while mail waits, every ten minutes: a crash takes
//! back that much. Without the file the clock begins anew, and each store goes on from what it kept itself.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sundown_core::Running;
use sundown_providers::read_small;

use crate::state;

const FILE: &str = "running.json";

/// How often the clock is written while mail waits.
const OFTEN: Duration = Duration::from_secs(600);

/// The clock of the broker that runs.
#[derive(Debug)]
pub(crate) struct RunningClock {
    path: PathBuf,
    /// As the broker before this one left it.
    before: Running,
    began: Instant,
    /// When it is written next, if mail waits then.
    next: Instant,
    /// The write in progress. A slow disk holds up nothing else.
    writing: Option<JoinHandle<()>>,
}

/// What is beyond that is no time that brokers have run.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Which clock it is.
    clock: u64,
    /// In milliseconds.
    ran: u64,
}

impl RunningClock {
    /// Goes on with the clock of the broker before this one, or begins a new one.
    pub(crate) fn open(data: &Path, now: Instant) -> Self {
        let path = data.join(FILE);
        let before = match read(&path) {
            Ok(Some(before)) => before,
            Ok(None) => begin(),
            Err(error) => {
                tracing::warn!(%error, file = FILE, "the clock by which mail grows older cannot be read, and begins anew");
                begin()
            }
        };
        let clock = Self { path, before, began: now, next: now + OFTEN, writing: None };
        write_or_warn(&clock.path, &clock.record(now));
        clock
    }

    /// As the broker before this one left it.
    pub(crate) fn before(&self) -> Running {
        self.before
    }

    /// When it is time to write it.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Writes it, if it is time for that and mail waits.
    pub(crate) fn keep(&mut self, now: Instant, mail_waits: impl FnOnce() -> bool) {
        if now < self.next {
            return;
        }
        self.next = now + OFTEN;
        if !mail_waits() || self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        let (path, record) = (self.path.clone(), self.record(now));
        let thread = thread::Builder::new().name("clock".to_owned());
        self.writing = thread.spawn(move || write_or_warn(&path, &record)).ok();
    }

    /// Writes it for the last time.
    pub(crate) fn end(&mut self, now: Instant) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.join();
        }
        write_or_warn(&self.path, &self.record(now));
    }

    fn record(&self, now: Instant) -> Record {
        let ran = self.before.ran + now.saturating_duration_since(self.began);
        Record { clock: self.before.clock, ran: ran.as_millis() as u64 }
    }
}

/// A clock that has not been there before.
fn begin() -> Running {
    let mut bytes = [0; 8];
    // Without random bytes the stores take it for the clock that they know, if it is behind what they kept; else for another one.
    let _ = getrandom::fill(&mut bytes);
    Running { clock: u64::from_le_bytes(bytes) >> 1, ran: Duration::ZERO }
}

fn read(path: &Path) -> io::Result<Option<Running>> {
    let text = match read_small(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Record { clock, ran } = serde_json::from_slice(&text)?;
    let ran = Duration::from_millis(ran);
    if ran > LONGEST {
        return Err(io::Error::other(
            "it says that brokers have run here for more than a hundred years",
        ));
    }
    Ok(Some(Running { clock, ran }))
}

fn write_or_warn(path: &Path, record: &Record) {
    if let Err(error) = write(path, record) {
        tracing::warn!(%error, file = %path.display(), "the clock by which mail grows older cannot be written; mail may be tried for longer than its age limit");
    }
}

fn write(path: &Path, record: &Record) -> io::Result<()> {
    state::replace(path, &serde_json::to_vec(record)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_broker_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let now = Instant::now();
        let mut clock = RunningClock::open(folder.path(), now);
        let first = clock.before();
        assert_eq!(first.ran, Duration::ZERO);
        clock.keep(now + OFTEN / 2, || true);
        assert!(clock.writing.is_none(), "it is not time");
        clock.keep(now + OFTEN, || false);
        assert!(clock.writing.is_none(), "no mail waits");
        clock.keep(now + OFTEN * 2, || true);
        clock.writing.take().expect("it is written").join().expect("written");
        // It is killed.
        let mut next = RunningClock::open(folder.path(), now);
        assert_eq!(next.before(), Running { ran: OFTEN * 2, ..first });
        next.end(now + Duration::from_secs(5));
        let third = RunningClock::open(folder.path(), now);
        assert_eq!(third.before().ran, OFTEN * 2 + Duration::from_secs(5));
    }

    #[test]
    fn what_cannot_be_read_is_another_clock() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = RunningClock::open(folder.path(), Instant::now()).before();
        let long = format!("{{\"clock\":{},\"ran\":{}}}", first.clock, u64::MAX);
        for text in ["", "{}", "{\"clock\":-1,\"ran\":0}", "\0", &long] {
            std::fs::write(folder.path().join(FILE), text).expect("written");
            let other = RunningClock::open(folder.path(), Instant::now()).before();
            assert!(other.clock != first.clock && other.ran.is_zero(), "{text:?}");
            assert_eq!(
                RunningClock::open(folder.path(), Instant::now()).before().clock,
                other.clock
            );
        }
    }
}
