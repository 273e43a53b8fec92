//! The file of slots.
//!
//! ```text
//!  "sundots1" │ id │ boot id │ nothing │ slot 0 │ slot 1 │ …
//!   8 bytes     16   16        24        8        8           number of the attempt × 8 + state
//! ```
//!
//! It is in memory, in a directory of the user's own, and locked as long as its broker lives. On a disk it would be believed after
//! a power cut, although what was written last is missing.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, fstatfs, openat, unlinkat};
use rustix::io::Errno;

use super::{Doubt, Fate};
use crate::runtime::{BootId, Runtime, is_in_memory, number};

/// Slots of a file: more attempts than there are at once, so that one is free for long before it is used again.
pub(super) const SLOTS: u16 = 4096;

/// Files of brokers that are gone which are kept for stores that are opened later.
const KEPT: usize = 16;

const MAGIC: &[u8; 8] = b"sundots1";
const HEADER: usize = 64;
const SLOT: usize = 8;
const LENGTH: usize = HEADER + SLOT * SLOTS as usize;

/// What a slot says of its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has none yet.
    Unused = 0,
    /// The dot has not begun.
    Clear = 1,
    /// The dot was about to leave.
    Begun = 2,
    /// The dot has not begun, and will not.
    Withdrawn = 3,
    /// The server has taken the message.
    Taken = 4,
    /// The server has not taken the message, though the dot had begun.
    Refused = 5,
}

impl State {
    fn of(word: u64) -> Self {
        match word & 7 {
            1 => Self::Clear,
            2 => Self::Begun,
            3 => Self::Withdrawn,
            4 => Self::Taken,
            5 => Self::Refused,
            _ => Self::Unused,
        }
    }

    /// What became of the message, if that is certain.
    pub(super) fn fate(self) -> Option<Fate> {
        match self {
            Self::Clear | Self::Withdrawn | Self::Refused => Some(Fate::NotSent),
            Self::Taken => Some(Fate::Sent),
            Self::Begun | Self::Unused => None,
        }
    }
}

/// An open file of slots, whose lock this process holds.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    pub(super) id: u128,
    pub(super) boot: BootId,
}

impl Slots {
    /// Makes one in the first directory that is fit for it.
    pub(super) fn create(runtime: &Runtime) -> Result<Self, String> {
        let boot = runtime.boot.ok_or_else(|| Doubt::NoBootId.to_string())?;
        let mut refused = String::from("there is no directory for it");
        for path in &runtime.directories {
            match Self::create_in(path, &runtime.name, boot) {
                Ok(slots) => return Ok(slots),
                Err(why) => refused = format!("{}: {why}", path.display()),
            }
        }
        Err(refused)
    }

    fn create_in(path: &Path, name: &str, boot: BootId) -> Result<Self, String> {
        let words = |error: io::Error| error.to_string();
        let directory = directory(path).map_err(words)?;
        if !in_memory(&directory) {
            return Err("it is not in memory (tmpfs)".to_owned());
        }
        if !is_own(&directory, 0o022).map_err(words)? {
            return Err("it is another user's, or others may change it".to_owned());
        }
        remove_old(&directory, path, name);
        let id = random().map_err(words)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = openat(&directory, file_name(name, id), flags, mode);
        let slots = Self { file: File::from(file.map_err(|e| words(e.into()))?), id, boot };
        slots.begin().map_err(|error| {
            let _ = unlinkat(&directory, file_name(name, id), AtFlags::empty());
            words(error)
        })?;
        Ok(slots)
    }

    /// Locks it, and writes all of it, so that later no slot needs room that is not there.
    fn begin(&self) -> io::Result<()> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
        let mut bytes = vec![0; LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&self.id.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.boot.0.to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }

    /// Opens the one of a broker that is gone, if it is there and can be believed.
    pub(super) fn of_a_dead_broker(
        runtime: &Runtime,
        id: u128,
        boot: BootId,
    ) -> Result<Self, Doubt> {
        let mut doubt = Doubt::NoFile;
        for path in &runtime.directories {
            let Ok(directory) = directory(path) else { continue };
            match Self::open_in(&directory, &runtime.name, id) {
                Ok(slots) if slots.boot == boot => return Ok(slots),
                Ok(_) => doubt = Doubt::OtherRun,
                Err(Doubt::NoFile) => {}
                Err(other) => doubt = other,
            }
        }
        Err(doubt)
    }

    fn open_in(directory: &OwnedFd, name: &str, id: u128) -> Result<Self, Doubt> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(directory, file_name(name, id), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(Doubt::NoFile),
            Err(Errno::LOOP) => return Err(Doubt::Strange),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let ours = is_own(directory, 0o022)? && is_own(&file, 0o077)? && in_memory(&file);
        if !ours {
            return Err(Doubt::Strange);
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Doubt::InUse),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let (file, mut header) = (File::from(file), [0; HEADER]);
        file.read_exact_at(&mut header, 0)?;
        let number =
            |at: usize| u128::from_le_bytes(header[at..at + 16].try_into().expect("sixteen bytes"));
        if !header.starts_with(MAGIC) || number(8) != id {
            return Err(Doubt::Strange);
        }
        Ok(Self { file, id, boot: BootId(number(24)) })
    }

    /// Writes a slot.
    pub(super) fn write(&self, slot: u16, attempt: u64, state: State) -> io::Result<()> {
        let word = attempt << 3 | state as u64;
        self.file.write_all_at(&word.to_le_bytes(), at(slot))
    }

    /// Reads a slot.
    pub(super) fn read(&self, slot: u16) -> io::Result<(u64, State)> {
        let mut word = [0; SLOT];
        self.file.read_exact_at(&mut word, at(slot))?;
        let word = u64::from_le_bytes(word);
        Ok((word >> 3, State::of(word)))
    }

    /// What a slot says of this attempt's message.
    pub(super) fn fate(&self, slot: u16, attempt: u64) -> Result<Fate, Doubt> {
        match self.read(slot) {
            Ok((found, _)) if found != attempt => Err(Doubt::OtherAttempt),
            Ok((_, state)) => state.fate().ok_or(Doubt::Begun),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it may say of an intent that its message was not sent. What was taken is mostly written down in the store as well,
    /// and a file that says no more is not kept for that.
    fn is_of_use(&self) -> bool {
        let mut bytes = vec![0; LENGTH];
        let read = self.file.read_exact_at(&mut bytes, 0);
        let mut slots = bytes[HEADER..].chunks_exact(SLOT);
        read.is_ok()
            && slots.any(|slot| State::of(u64::from(slot[0])).fate() == Some(Fate::NotSent))
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // A process that was just forked to run a command has the file too, for a moment, and would keep the lock.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn at(slot: u16) -> u64 {
    (HEADER + SLOT * usize::from(slot)) as u64
}

fn file_name(name: &str, id: u128) -> String {
    format!("{name}.dots-{id:032x}")
}

fn id_of(file: &str, name: &str) -> Option<u128> {
    number(file.strip_prefix(name)?.strip_prefix(".dots-")?)
}

/// Removes what brokers that are gone have left, but for the files that may be of use, the newest of them.
fn remove_old(directory: &OwnedFd, path: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(path) else { return };
    let left = entries.flatten().filter_map(|entry| {
        let id = id_of(entry.file_name().to_str()?, name)?;
        let written = entry.metadata().and_then(|about| about.modified());
        Some((written.unwrap_or(SystemTime::UNIX_EPOCH), id))
    });
    let mut left: Vec<_> = left.collect();
    left.sort_unstable_by(|a, b| b.cmp(a));
    let mut kept = 0;
    for (_, id) in left {
        // The lock is held while it is removed: no other broker reads it meanwhile.
        let Ok(slots) = Slots::open_in(directory, name, id) else { continue };
        if kept < KEPT && slots.is_of_use() {
            kept += 1;
        } else {
            let _ = unlinkat(directory, file_name(name, id), AtFlags::empty());
        }
    }
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Whether something is this user's, a file or a directory, and none of these rights are given to others.
fn is_own(fd: &OwnedFd, not: u32) -> io::Result<bool> {
    let about = fstat(fd)?;
    let kind = rustix::fs::FileType::from_raw_mode(about.st_mode);
    Ok((kind.is_file() || kind.is_dir())
        && about.st_uid == rustix::process::geteuid().as_raw()
        && about.st_mode & not == 0)
}

fn in_memory(fd: &OwnedFd) -> bool {
    fstatfs(fd).is_ok_and(|system| is_in_memory(&system))
}

fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}
