//! A log that is damaged in the middle: `SQLite` takes it for one that ends there.
//!
//! A crash tears the log off in its last commit, which nobody was told of. If whole commits of the same log follow behind
//! the place where `SQLite` stopped, something else has damaged it, and what they hold was acknowledged. It cannot be put
//! back in order, but it must not be overwritten either, and somebody must know.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// In front of everything: magic, format, page size, number, two salts, two sums.
const HEAD: usize = 32;
/// In front of each page: its number, the size of the database if a commit ends with it, two salts, two sums.
const FRAME: usize = 24;

/// Keeps a copy of a log whose damage hides commits, and says so. Nothing has been written since the log was read.
pub(super) fn keep_damaged_log(connection: &Connection, path: &Path) {
    // What cannot be asked fails by itself.
    let Ok(seen) = frames_seen(connection) else { return };
    let log = with_suffix(path, "-wal");
    let hidden = match hidden_commits(&log, seen) {
        Ok(0) => return,
        Ok(hidden) => hidden,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(log = %log.display(), %error, "the store's log cannot be looked at");
            return;
        }
    };
    let kept = kept_log(path);
    // The first one has the most: it is not overwritten.
    let copied = if kept.exists() { Ok(0) } else { std::fs::copy(&log, &kept) };
    tracing::error!(
        path = %path.display(), commits = hidden, kept = %kept.display(), copied = copied.is_ok(),
        "the store's log is damaged, and messages behind the damage are missing; check the disk, and see \"A damaged \
         store\" in docs/operations.md"
    );
}

/// What is to be said of a store beside which a damaged log is kept: nobody has looked at it yet.
pub(super) fn kept(path: &Path) -> Option<String> {
    let kept = kept_log(path);
    kept.exists().then(|| {
        format!(
            "{}: its log was damaged, and messages behind the damage are missing; {} has them. \"A damaged store\" in \
             docs/operations.md says what to do; move that file away when it is done",
            path.display(),
            kept.display()
        )
    })
}

fn kept_log(path: &Path) -> PathBuf {
    with_suffix(path, "-wal.damaged")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How many frames of the log `SQLite` takes for good.
fn frames_seen(connection: &Connection) -> rusqlite::Result<u64> {
    let seen: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    Ok(u64::try_from(seen).unwrap_or(0))
}

/// How many commits of this log stand behind so many frames. What an earlier round of the log left has other salts.
fn hidden_commits(log: &Path, seen: u64) -> io::Result<u64> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    let mut head = [0; HEAD];
    if length < HEAD as u64 {
        return Ok(0);
    }
    file.read_exact(&mut head)?;
    let page = u64::from(u32::from_be_bytes([head[8], head[9], head[10], head[11]]));
    if !page.is_power_of_two() || !(512..=65_536).contains(&page) {
        return Ok(0);
    }
    let size = FRAME as u64 + page;
    let mut hidden = 0;
    let mut at = (HEAD as u64).saturating_add(seen.saturating_mul(size));
    let mut frame = [0; FRAME];
    while at.saturating_add(size) <= length {
        file.read_exact_at(&mut frame, at)?;
        hidden += u64::from(frame[8..16] == head[16..24] && frame[4..8] != [0; 4]);
        at += size;
    }
    Ok(hidden)
}
