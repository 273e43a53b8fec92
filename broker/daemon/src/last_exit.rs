//! How the last broker ended: a small file in the data directory, written when a broker is ready and when it ends.
//!
//! ```text
//! ready ─► { pid, started, boot }                 the end of this broker is not known yet
//! end   ─► { pid, started, boot, ended, end, why }
//! ```
//!
//! A broker that finds the first form knows that the one before it had no chance to say anything: it was killed, it
//! crashed, or the machine went down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sundown_protocol::reply::{End, Previous};
use sundown_providers::read_small;

use crate::state;
use crate::tickets::boot_id;

const FILE: &str = "last-exit.json";

/// The record of the broker that runs.
#[derive(Debug)]
pub(crate) struct LastExit {
    path: PathBuf,
    record: Record,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: u32,
    /// In milliseconds since 1970, like `ended`.
    started: u64,
    /// The kernel's name for the time since the machine started.
    boot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Outcome {
    ended: u64,
    end: Word,
    why: String,
}

/// How a broker that can still say it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Stopped,
    Failed,
}

impl LastExit {
    /// Reads how the broker before this one ended, if there was one.
    pub(crate) fn read(data: &Path) -> Option<Previous> {
        let text = read_small(&data.join(FILE)).ok()?;
        match serde_json::from_slice(&text) {
            Ok(record) => Some(judge(record, &boot_id())),
            Err(error) => {
                tracing::warn!(%error, file = FILE, "what the last broker left cannot be read");
                None
            }
        }
    }

    /// Records that this broker is ready.
    pub(crate) fn ready(data: &Path, started: u64) -> Self {
        let record = Record { pid: std::process::id(), started, boot: boot_id(), outcome: None };
        let exit = Self { path: data.join(FILE), record };
        if let Err(error) = exit.write() {
            tracing::warn!(%error, file = %exit.path.display(), "the next broker will not know how this one ended");
            // Better nothing than what was true of another one.
            let _ = fs::remove_file(&exit.path);
        }
        exit
    }

    /// Records that the broker ends as it was asked to.
    pub(crate) fn stopped(&mut self, why: impl Into<String>) {
        self.end(Word::Stopped, why.into());
    }

    /// Records that the broker cannot go on.
    pub(crate) fn failed(&mut self, why: impl Into<String>) {
        self.end(Word::Failed, why.into());
    }

    fn end(&mut self, end: Word, why: String) {
        self.record.outcome = Some(Outcome { ended: now(), end, why });
        if let Err(error) = self.write() {
            tracing::warn!(%error, file = %self.path.display(), "the next broker will take this one for killed");
        }
    }

    fn write(&self) -> io::Result<()> {
        state::replace(&self.path, &serde_json::to_vec(&self.record)?)
    }
}

impl Drop for LastExit {
    fn drop(&mut self) {
        if std::thread::panicking() && self.record.outcome.is_none() {
            self.failed("it failed inside; its log has the place");
        }
    }
}

/// What a record says of the broker that wrote it, to one that runs now.
fn judge(record: Record, boot: &str) -> Previous {
    let (end, ended, why) = match record.outcome {
        Some(Outcome { ended, end: Word::Stopped, why }) => (End::Stopped, Some(ended), why),
        Some(Outcome { ended, end: Word::Failed, why }) => (End::Failed, Some(ended), why),
        // Where the kernel does not say which run of the machine this is, it may have been either.
        None if boot.is_empty() || record.boot.is_empty() => {
            (End::Killed, None, "it was killed, it crashed, or the machine went down".into())
        }
        None if record.boot == boot => (End::Killed, None, "it was killed, or it crashed".into()),
        None => (End::MachineDown, None, "the machine went down".into()),
    };
    Previous { pid: record.pid, started: record.started, ended, end, why }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn the_next_broker_reads_how_this_one_ended() {
        let data = directory();
        assert_eq!(LastExit::read(data.path()), None);
        let mut exit = LastExit::ready(data.path(), 7);
        let killed = LastExit::read(data.path()).expect("a record");
        assert_eq!((killed.end, killed.ended, killed.started), (End::Killed, None, 7));
        exit.stopped("SIGTERM");
        let stopped = LastExit::read(data.path()).expect("a record");
        assert_eq!((stopped.end, stopped.why.as_str()), (End::Stopped, "SIGTERM"));
        assert!(stopped.ended.is_some());
        exit.failed("no epoll");
        assert_eq!(LastExit::read(data.path()).expect("a record").end, End::Failed);
    }

    #[test]
    fn a_broker_that_panics_says_so() {
        let data = directory();
        let path = data.path().to_owned();
        let ended = std::thread::spawn(move || {
            let _exit = LastExit::ready(&path, 7);
            panic!("on purpose");
        })
        .join();
        assert!(ended.is_err());
        assert_eq!(LastExit::read(data.path()).expect("a record").end, End::Failed);
    }

    #[test]
    fn another_boot_means_that_the_machine_went_down() {
        let record = Record { pid: 1, started: 2, boot: "before".into(), outcome: None };
        assert_eq!(judge(record.clone(), "before").end, End::Killed);
        assert_eq!(judge(record.clone(), "after").end, End::MachineDown);
        // Two ids that are hidden are not known to be equal.
        for (before, after) in [("", ""), ("before", ""), ("", "after")] {
            let found = judge(Record { boot: before.into(), ..record.clone() }, after);
            assert_eq!(found.end, End::Killed);
            assert!(found.why.contains("or the machine went down"), "{}", found.why);
        }
    }

    #[test]
    fn what_cannot_be_read_or_written_is_nobodys_end() {
        let data = directory();
        fs::write(data.path().join(FILE), "{\"pid\":").expect("written");
        assert_eq!(LastExit::read(data.path()), None);
        let nowhere = data.path().join("nowhere");
        LastExit::ready(&nowhere, 7).stopped("SIGTERM");
        assert_eq!(LastExit::read(&nowhere), None);
    }
}
