//! Detects a log that is damaged in the middle. `SQLite` takes it for a log that ends there.
//!
//! A power cut tears the part of the log that no sync has covered, and may leave any piece of it: commits without a sync, and
//! behind them at most one commit with a sync, which was not answered. Whole commits behind the place where `SQLite` stopped are
//! therefore not damage by themselves. But whatever follows a commit with a sync was written after that sync had returned. If there
//! is such a commit behind the place, and another commit behind it, something else has damaged the log, and the hidden commits were
//! acknowledged. The log cannot be repaired, but it must not be overwritten before there is a copy, and its owner must be told.
//!
//! A commit without a sync changes the page of the table `unsynced`, and no other commit does. So the log tells the two kinds
//! apart.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use sundown_core::provider::ProviderError;

use crate::fault;
use crate::files::sync_dir;

/// The size of the head of a log: magic, format, page size, number, two salts, two sums.
const HEAD: usize = 32;
/// The size of the header of each page: its number, the size of the database if a commit ends with it, two salts, two sums.
const FRAME: usize = 24;
/// The size of the pieces that a disk writes as a whole.
const SECTOR: u64 = 512;
/// The magic of a log whose sums are made of words in big-endian order; without its last bit they are little-endian.
const BIG_ENDIAN: u32 = 0x377F_0683;

/// Copies a log whose damage hides acknowledged commits, and logs that. Nothing has been written since the log was read. If the
/// copy fails, the store must not be opened: its first commit would overwrite the log.
pub(super) fn keep_damaged_log(connection: &Connection, path: &Path) -> Result<(), ProviderError> {
    // A database that cannot answer this fails by itself later.
    let Ok(seen) = frames_seen(connection) else { return Ok(()) };
    let log = with_suffix(path, "-wal");
    let hidden = match Log::open(&log) {
        Ok(Some(log)) => log.hidden(seen, page_of_unsynced(connection)),
        Ok(None) => return Ok(()),
        Err(error) => Err(error),
    };
    let hidden = hidden.map_err(|error| fault::io(&log, &error))?;
    if hidden == 0 {
        return Ok(());
    }
    let kept = copy(path, &log).map_err(|error| fault::io(&log, &error))?;
    tracing::error!(
        path = %path.display(), commits = hidden, kept = %kept.display(),
        "the store's log is damaged, and messages behind the damage are missing; check the disk, and see \"A damaged \
         store\" in docs/operations.md"
    );
    Ok(())
}

/// Copies the log beside itself, and syncs the copy. Each damaged log gets a name of its own.
fn copy(path: &Path, log: &Path) -> io::Result<PathBuf> {
    let part = with_suffix(path, "-wal.damaged.part");
    fs::copy(log, &part)?;
    File::open(&part)?.sync_all()?;
    let mut number = 1;
    while kept_log(path, number).exists() {
        number += 1;
    }
    let kept = kept_log(path, number);
    fs::rename(&part, &kept)?;
    sync_dir(folder(path))?;
    Ok(kept)
}

/// The warning about a store beside which a damaged log is kept, because its owner has not moved it away yet.
pub(super) fn kept(path: &Path) -> Option<String> {
    let kept = kept_logs(path).into_iter().next();
    kept.map(|kept| {
        format!(
            "{}: its log was damaged, and messages behind the damage are missing; {} has them. \"A damaged store\" in \
             docs/operations.md says what to do; move that file away when it is done",
            path.display(),
            kept.display()
        )
    })
}

/// The existing copies, in order of their names.
fn kept_logs(path: &Path) -> Vec<PathBuf> {
    let first = kept_log(path, 1);
    let name = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_copy = |entry: &fs::DirEntry| {
        let found = entry.file_name().to_string_lossy().into_owned();
        found.starts_with(&name) && Path::new(&found).extension() != Some("part".as_ref())
    };
    let entries = fs::read_dir(folder(path)).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.filter(is_copy).map(|entry| entry.path()).collect();
    found.sort();
    found
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

fn kept_log(path: &Path, number: usize) -> PathBuf {
    match number {
        1 => with_suffix(path, "-wal.damaged"),
        _ => with_suffix(path, &format!("-wal.damaged.{number}")),
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How many frames of the log `SQLite` takes as valid. This writes nothing.
fn frames_seen(connection: &Connection) -> rusqlite::Result<u64> {
    let seen: i64 = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
    Ok(u64::try_from(seen).unwrap_or(0))
}

/// The page that each commit without a sync changes. An older store has none: each of its commits counts as synced.
fn page_of_unsynced(connection: &Connection) -> Option<u32> {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'unsynced'";
    connection.query_row(sql, [], |row| row.get(0)).optional().ok().flatten()
}

/// A log with a valid head.
struct Log {
    file: File,
    length: u64,
    page: usize,
    salts: [u8; 8],
    big_endian: bool,
}

/// The header of a page in the log, if it belongs to this round of the log: headers of earlier rounds have other salts.
struct Frame {
    number: u32,
    ends_commit: bool,
    sums: [u32; 2],
    /// Whether its number and its mark are certainly as written: they share a sector with the salts, or the sums are right.
    is_sure: bool,
}

impl Log {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let mut head = [0; HEAD];
        if length < HEAD as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut head, 0)?;
        let page = word(&head, 8);
        if !page.is_power_of_two() || !(512..=65_536).contains(&page) {
            return Ok(None);
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(&head[16..24]);
        let big_endian = word(&head, 0) == BIG_ENDIAN;
        Ok(Some(Self { file, length, page: page as usize, salts, big_endian }))
    }

    /// How many commits are hidden behind `seen` frames, if one of them, with a sync, was certainly answered. Zero if a power cut
    /// can have left them.
    fn hidden(&self, seen: u64, unsynced: Option<u32>) -> io::Result<usize> {
        let mut frame = vec![0; FRAME + self.page];
        let (mut commits, mut first_synced) = (0, None);
        let (mut surely_synced, mut before) = (true, None);
        for place in seen.. {
            let at = HEAD as u64 + place.saturating_mul(frame.len() as u64);
            if at.saturating_add(frame.len() as u64) > self.length {
                break;
            }
            self.file.read_exact_at(&mut frame, at)?;
            let Some(found) = self.frame(&frame, at, before) else {
                (surely_synced, before) = (false, None);
                continue;
            };
            before = Some(found.sums);
            surely_synced &= found.is_sure && Some(found.number) != unsynced;
            if found.ends_commit {
                commits += 1;
                if surely_synced {
                    first_synced.get_or_insert(commits);
                }
                surely_synced = true;
            }
        }
        let answered = first_synced.is_some_and(|first| first < commits);
        Ok(if answered { commits } else { 0 })
    }

    fn frame(&self, bytes: &[u8], at: u64, before: Option<[u32; 2]>) -> Option<Frame> {
        if bytes[8..16] != self.salts {
            return None;
        }
        let sums = [word(bytes, 16), word(bytes, 20)];
        let in_one_sector = at / SECTOR == (at + 15) / SECTOR;
        let is_right = || before.is_some_and(|before| self.sums(before, bytes) == sums);
        Some(Frame {
            number: word(bytes, 0),
            ends_commit: word(bytes, 4) != 0,
            sums,
            is_sure: in_one_sector || is_right(),
        })
    }

    /// The sums of a frame that follows a frame with these sums.
    fn sums(&self, before: [u32; 2], bytes: &[u8]) -> [u32; 2] {
        let read = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        let pairs = [&bytes[..8], &bytes[FRAME..]].map(|part| part.as_chunks::<8>().0);
        let all = pairs.into_iter().flatten().map(|pair| {
            let (words, _) = pair.as_chunks::<4>();
            [read(words[0]), read(words[1])]
        });
        all.fold(before, |[first, second], [a, b]| {
            let first = first.wrapping_add(a).wrapping_add(second);
            [first, second.wrapping_add(b).wrapping_add(first)]
        })
    }
}

/// A number of the log, which is big-endian whatever the order of its sums.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
