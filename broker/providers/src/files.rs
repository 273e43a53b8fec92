//! Directories and files that only their owner may see.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use crate::fault;

/// Makes a directory and those above it, unless they are there. What it made outlives a power cut.
pub(crate) fn private_dir(path: &Path) -> Result<(), ProviderError> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    private_dir(parent)?;
    let here = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    // Recursive also means that it is no error if somebody else has just made it.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| sync_dir(here)).map_err(|error| fault::io(path, &error))
}

/// Opens a file for writing; makes it and the directory that holds it unless they are there.
pub(crate) fn private_file(path: &Path) -> Result<File, ProviderError> {
    if let Some(parent) = path.parent() {
        private_dir(parent)?;
    }
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map_err(|error| fault::io(path, &error))
}

/// Makes what happened to a directory's entries durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Proof that nobody else has a file open as its owner. It lasts until it is dropped, or the process ends in whatever
/// way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `PATH.lock`, or says at once who cannot have the file.
    pub(crate) fn take(path: &Path) -> Result<Self, ProviderError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let file = private_file(&lock)?;
        judge(flock(&file, FlockOperation::NonBlockingLockExclusive), path, &lock)?;
        Ok(Self { _file: file })
    }
}

/// What an attempt to lock a file means. Only a lock that is held is another broker's; a file system without locks (`ENOLCK`,
/// `EOPNOTSUPP`) is not one.
fn judge(locked: rustix::io::Result<()>, path: &Path, lock: &Path) -> Result<(), ProviderError> {
    let (path, lock) = (path.display(), lock.display());
    match locked {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ProviderError::new(
            Code::E_NO_ACCESS,
            format!("{path} is in use by another broker, which holds {lock}; stop that one first"),
        )),
        Err(error) => Err(ProviderError::new(
            Code::E_DISK_ERROR,
            format!(
                "{lock} cannot be locked ({}); without a lock a second broker could use {path}, too: keep it on a file \
                 system that has locks, such as a local disk",
                io::Error::from(error)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn only_a_lock_that_is_held_is_another_brokers() {
        let judged = |error| {
            judge(Err(error), Path::new("/s.db"), Path::new("/s.db.lock")).expect_err("no lock")
        };
        for error in [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::IO] {
            let refused = judged(error);
            assert_eq!(refused.code, Code::E_DISK_ERROR, "{refused}");
            assert!(!refused.message.contains("another broker"), "{refused}");
        }
        assert!(judged(Errno::WOULDBLOCK).message.contains("another broker"));
    }
}
