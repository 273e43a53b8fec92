//! Directories and files that only their owner may see.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, flock};
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

/// Makes an empty file for a database, and the directory that holds it, unless they are there. A file that is there is not
/// opened: closing it would drop the locks that `SQLite` holds on it for this process.
pub(crate) fn private_database(path: &Path) -> Result<(), ProviderError> {
    if let Some(parent) = path.parent() {
        private_dir(parent)?;
    }
    match new_private_file(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(fault::io(path, &error)),
        // A pipe would be waited for.
        Err(_) if path.metadata().is_ok_and(|found| !found.is_file()) => {
            let error = io::Error::other("there is something else that is no file; move it away");
            Err(fault::io(path, &error))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Makes a file that is not there.
pub(crate) fn new_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The longest file that [`read_small`] reads, in bytes.
const LONGEST: u64 = 1 << 20;

/// Reads, and does not mind being interrupted.
pub(crate) fn read(from: &mut (impl Read + ?Sized), into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Reads a small file. A user may put anything in its place: a pipe that nothing is written to is not waited for, and a file without an
/// end is not read to one.
pub fn read_small(file: &Path) -> io::Result<Vec<u8>> {
    let options = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = OpenOptions::new().read(true).custom_flags(options).open(file)?;
    let kind = opened.metadata()?.file_type();
    if kind.is_fifo() || kind.is_socket() {
        return Err(io::Error::other("it is a pipe or a socket, and no file"));
    }
    let mut bytes = Vec::new();
    opened.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
    }
    Ok(bytes)
}

/// Makes what happened to a directory's entries durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Which file stands under a name, whatever becomes of the name later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of what a path leads to.
    pub fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|found| Self::from(&found))
    }

    /// That of an open file.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        let found = rustix::fs::fstat(file)?;
        Ok(Self { device: found.st_dev, inode: found.st_ino })
    }

    /// That of a name in a directory. A link is not followed.
    pub(crate) fn of_entry(dir: impl AsFd, name: &[u8]) -> io::Result<Self> {
        let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self { device: found.st_dev, inode: found.st_ino })
    }

    /// Whether a path leads to this file, as far as that can be said: a directory that cannot be looked into hides what is in it
    /// and removes nothing.
    pub fn is_at(self, path: &Path) -> bool {
        Self::at(path).map_or_else(|error| !is_absent(&error), |there| there == self)
    }
}

/// Whether an error says that there is nothing under a name.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

impl From<&fs::Metadata> for FileId {
    fn from(found: &fs::Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}

/// Proof that nobody else has a file open as its owner. It lasts until it is dropped, or the process ends in whatever
/// way.
#[derive(Debug)]
pub(crate) struct Lock {
    of: PathBuf,
    path: PathBuf,
    file: FileId,
    held: File,
}

impl Lock {
    /// Takes `PATH.lock`, or says at once who cannot have the file.
    pub(crate) fn take(of: &Path) -> Result<Self, ProviderError> {
        let mut name = of.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let held = private_file(&path)?;
        judge(flock(&held, FlockOperation::NonBlockingLockExclusive), of, &path)?;
        let found = held.metadata().map_err(|error| fault::io(&path, &error))?;
        Ok(Self { of: of.to_owned(), path, file: FileId::from(&found), held })
    }

    /// Looks whether the lock file is still under its name. One that was removed proves nothing any more, because others make
    /// one anew: so it is made and locked anew, unless another broker has done so.
    pub(crate) fn keep(&mut self) -> Result<(), ProviderError> {
        if self.file.is_at(&self.path) {
            return Ok(());
        }
        let path = self.path.display();
        tracing::warn!(%path, "the lock file was removed or replaced; it is made and locked anew");
        *self = Self::take(&self.of)?;
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that was just forked to run a command has the file too, for a moment, and would keep the lock.
        let _ = flock(&self.held, FlockOperation::Unlock);
    }
}

/// What an attempt to lock a file means. Only a lock that is held is another broker's; a file system without locks (`ENOLCK`,
/// `EOPNOTSUPP`) is not one.
fn judge(locked: rustix::io::Result<()>, path: &Path, lock: &Path) -> Result<(), ProviderError> {
    let (path, lock) = (path.display(), lock.display());
    match locked {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ProviderError::new(
            Code::E_DISK_ERROR,
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
    fn a_pipe_is_no_database() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("s.db");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("made");
        let refused = private_database(&path).expect_err("it would be waited for");
        assert!(refused.message.contains("move it away"), "{refused}");
    }

    #[test]
    fn only_a_lock_that_isheld_is_another_brokers() {
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

    #[test]
    fn a_lock_file_that_was_removed_is_locked_anew() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("s.db");
        let file = home.path().join("s.db.lock");
        let mut lock = Lock::take(&path).expect("free");
        lock.keep().expect("it is there");
        fs::remove_file(&file).expect("removed");
        lock.keep().expect("nobody else has it");
        let refused = Lock::take(&path).expect_err("it is held again");
        assert!(refused.message.contains("another broker"), "{refused}");
        fs::remove_file(&file).expect("removed");
        let other = Lock::take(&path).expect("nobody holds this one");
        let refused = lock.keep().expect_err("it is another one's");
        assert!(refused.message.contains("another broker"), "{refused}");
        drop(other);
        lock.keep().expect("free again");
    }
}
