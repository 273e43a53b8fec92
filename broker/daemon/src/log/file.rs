//! A log in a file that may be removed, renamed or replaced while it is written: it goes on in a new one of the same name. The file of
//! a broker in the background is rotated when it is long.
//!
//! ```text
//!             long, or something else has its name
//! broker.log ──────────────────────────────────────► broker.log.1, in the place of the one before
//! ```
//!
//! Whoever starts a broker in the background gives it the file as standard error, so nobody else could open it again. It is
//! looked for once a second at most, when there is something to write. Whatever happens to the file happens between two lines.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use sundown_providers::FileId;

use super::Long;

/// As long as a file becomes that is rotated.
const MOST: u64 = 32 << 20;

/// How often it is looked whether the file is there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A file that lines are written to.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    path: PathBuf,
    id: FileId,
    look_again: Instant,
    of: Stream,
    /// When it is rotated, if ever.
    most: Option<u64>,
    /// How long it is, but for what others have written to it in the last second.
    length: u64,
    end: End,
}

/// What else is written to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// Standard error: panics and what libraries say.
    Stderr,
    #[cfg(test)]
    Nothing,
}

/// What the file ends with, as far as this writer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A whole line.
    Line,
    /// The first part of a line, whose rest is written next.
    Part,
    /// The first part of a line, whose rest could not be written.
    Cut,
}

impl LogFile {
    /// That of standard error, if it is a file with a name.
    pub(super) fn of_stderr(long: Long) -> Option<Self> {
        let file = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
        let path = fs::read_link("/proc/self/fd/2").ok()?;
        let most = match long {
            Long::Rotated => Some(MOST),
            Long::Left => None,
        };
        Self::new(file, path, Stream::Stderr, most)
    }

    fn new(file: File, path: PathBuf, of: Stream, most: Option<u64>) -> Option<Self> {
        let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let id = FileId::from(&found);
        let (look_again, length, end) = (Instant::now(), found.len(), End::Line);
        let there = id.is_at(&path);
        there.then_some(Self { file, path, id, look_again, of, most, length, end })
    }

    /// Puts a file that has become long aside, in the place of the one before it.
    fn rotate(&mut self) {
        if self.most.is_none_or(|most| self.length < most) {
            return;
        }
        // Two writers that put it aside one after the other would leave nothing of it.
        let Some(_lock) = self.lock() else { return };
        if self.put_aside().is_ok() && self.reopen().is_ok() {
            // It comes behind what is written now.
            tracing::info!(event = "log-rotated", path = %self.path.display(), "the log was long, and goes on here");
        }
    }

    /// Locks the file against being put aside by another writer, if it is the one under its name. The programs that a broker starts do
    /// not inherit this lock.
    fn lock(&self) -> Option<File> {
        let file = self.options().read(true).open(&self.path).ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        self.id.is_at(&self.path).then_some(file)
    }

    fn put_aside(&self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        fs::rename(&self.path, aside)
    }

    /// Goes on in a new file if the one that was written to has lost its name. Where that cannot be made it is tried again.
    fn look(&mut self) {
        if self.id.is_at(&self.path) {
            // Others write to it, too, and somebody may have shortened it.
            self.length = self.file.metadata().map_or(self.length, |found| found.len());
            return;
        }
        if self.most.is_some() && is_no_file(&self.path) {
            // A link could lead anywhere, and a pipe would be waited for.
            let _ = self.put_aside();
        }
        if self.reopen().is_ok() {
            // It comes behind what is written now.
            tracing::warn!(event = "log-replaced", path = %self.path.display(), "the log was removed or replaced, and goes on here");
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = self.options().append(true).create(true).mode(0o600).open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        (self.id, self.file, self.length) = (FileId::from(&found), file, found.len());
        self.end = End::Line;
        if self.of == Stream::Stderr {
            let _ = rustix::stdio::dup2_stderr(&self.file);
        }
        Ok(())
    }

    /// Options that wait for no pipe. Only an administrator's file may be a link.
    fn options(&self) -> fs::OpenOptions {
        let links = if self.most.is_some() { OFlags::NOFOLLOW } else { OFlags::empty() };
        let mut options = File::options();
        options.custom_flags((OFlags::NONBLOCK | links).bits() as i32);
        options
    }

    /// Refuses to let a file grow that should have been rotated and cannot be.
    fn check_length(&self) -> io::Result<()> {
        if self.most.is_some_and(|most| self.length >= 2 * most) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(())
    }
}

/// Whether something that is no file has this name.
fn is_no_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_file())
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.end != End::Part {
            let now = Instant::now();
            if now >= self.look_again {
                self.look_again = now + LOOK_AGAIN;
                self.look();
            }
            self.rotate();
            self.check_length()?;
        }
        if self.end == End::Cut {
            self.file.write_all(b"\n")?;
            (self.length, self.end) = (self.length + 1, End::Line);
        }
        match self.file.write(bytes) {
            Ok(written) => {
                self.length += written as u64;
                let last = written.checked_sub(1).map(|last| bytes[last]);
                if let Some(last) = last {
                    self.end = if last == b'\n' { End::Line } else { End::Part };
                }
                Ok(written)
            }
            Err(error) => {
                use io::ErrorKind::{Interrupted, WouldBlock};
                if self.end == End::Part && !matches!(error.kind(), Interrupted | WouldBlock) {
                    self.end = End::Cut;
                }
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn log(path: PathBuf) -> LogFile {
        let file = File::options().append(true).create(true).open(&path).expect("opened");
        LogFile::new(file, path, Stream::Nothing, None).expect("a file with a name")
    }

    /// Writes a line as if nothing had been written for a while.
    fn write(log: &mut LogFile, line: &str) {
        log.look_again = Instant::now();
        log.write_all(line.as_bytes()).expect("written");
    }

    #[test]
    fn a_log_that_was_removed_or_renamed_goes_on() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("broker.log");
        let read = |name: &str| fs::read_to_string(home.path().join(name)).expect("there");
        let mut log = log(path.clone());
        write(&mut log, "one\n");
        fs::rename(&path, home.path().join("broker.log.1")).expect("renamed");
        write(&mut log, "two\n");
        write(&mut log, "three\n");
        assert_eq!(
            (read("broker.log.1"), read("broker.log")),
            ("one\n".into(), "two\nthree\n".into())
        );
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::remove_file(&path).expect("removed");
        write(&mut log, "four\n");
        assert_eq!(read("broker.log"), "four\n");
        // What somebody has put there is not cut.
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "theirs\n").expect("written");
        write(&mut log, "five\n");
        assert_eq!(read("broker.log"), "theirs\nfive\n");
    }

    #[test]
    fn a_long_log_is_rotated_and_two_files_are_kept() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("broker.log");
        let length = |name: &str| fs::metadata(home.path().join(name)).expect("there").len();
        let mut log = LogFile { most: Some(100), ..log(path.clone()) };
        let line = "0123456789\n";
        for _ in 0..1_000 {
            log.write_all(line.as_bytes()).expect("written");
        }
        assert!(length("broker.log") <= 110 && length("broker.log.1") <= 110);
        assert_eq!(length("broker.log.1") % line.len() as u64, 0, "no line is cut");
        assert_eq!(fs::read_dir(home.path()).expect("there").count(), 2);
        // A broker that starts in front of a long one begins with that.
        drop(log);
        fs::write(&path, "x".repeat(200)).expect("written");
        let mut log = LogFile { most: Some(100), ..super::tests::log(path.clone()) };
        write(&mut log, line);
        assert_eq!((length("broker.log"), length("broker.log.1")), (11, 200));
    }

    /// A log that is rotated, of so many bytes.
    fn rotated(path: &Path, most: u64) -> LogFile {
        LogFile { most: Some(most), ..log(path.to_owned()) }
    }

    /// The rest of a line goes where its beginning is.
    #[test]
    fn no_line_is_cut_by_a_rotation() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("broker.log");
        let read = |name: &str| fs::read_to_string(home.path().join(name)).expect("there");
        let mut log = rotated(&path, 10);
        for part in ["0123456789", "the rest\n", "next\n"] {
            write(&mut log, part);
        }
        assert_eq!(read("broker.log.1"), "0123456789the rest\n");
        assert_eq!(read("broker.log"), "next\n");
    }

    /// Two that write to one file lose no line, whoever rotates it.
    #[test]
    fn two_writers_lose_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("broker.log");
        let mut logs = [rotated(&path, 40), rotated(&path, 40)];
        for log in [0, 1, 1, 0] {
            write(&mut logs[log], "0123456789\n");
        }
        // Both know that it is long: the second must not put the new one in the place of the old one.
        let other = logs[1].lock().expect("locked");
        write(&mut logs[0], "kept\n");
        assert!(!home.path().join("broker.log.1").exists(), "another one puts it aside just now");
        drop(other);
        write(&mut logs[0], "first\n");
        logs[1].rotate();
        write(&mut logs[1], "second\n");
        let read = |name: &str| fs::read_to_string(home.path().join(name)).expect("there");
        assert_eq!(read("broker.log.1"), format!("{}kept\n", "0123456789\n".repeat(4)));
        assert_eq!(read("broker.log"), "first\nsecond\n");
    }

    /// A link, a pipe or a directory in its place is not written to.
    #[test]
    fn what_is_no_file_is_put_aside() {
        let home = tempfile::tempdir().expect("a directory");
        let (path, target) = (home.path().join("broker.log"), home.path().join("target"));
        let mut log = rotated(&path, 1_000);
        let is_file = || fs::symlink_metadata(&path).expect("there").is_file();
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&target, &path).expect("linked");
        write(&mut log, "one\n");
        assert!(is_file() && !target.exists());
        fs::remove_file(&path).expect("removed");
        let name = rustix::fs::CWD;
        rustix::fs::mknodat(name, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        write(&mut log, "two\n");
        assert!(is_file());
        assert_eq!(fs::read_to_string(&path).expect("there"), "two\n");
        // An administrator's own file may be a link; a pipe in its place is not waited for.
        let mut own = super::tests::log(path.clone());
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&target, &path).expect("linked");
        write(&mut own, "three\n");
        assert_eq!(fs::read_to_string(&target).expect("there"), "three\n");
        fs::remove_file(&path).expect("removed");
        rustix::fs::mknodat(name, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        write(&mut own, "four\n");
        assert_eq!(fs::read_to_string(&target).expect("there"), "three\nfour\n");
    }

    /// What cannot be rotated does not grow without an end, and goes on when it can be.
    #[test]
    fn a_log_that_cannot_be_rotated_is_bounded() {
        let home = tempfile::tempdir().expect("a directory");
        let (path, aside) = (home.path().join("broker.log"), home.path().join("broker.log.1"));
        fs::create_dir_all(aside.join("in the way")).expect("made");
        let mut log = rotated(&path, 100);
        let line = "0123456789\n";
        let written = (0..1_000).filter(|_| log.write_all(line.as_bytes()).is_ok()).count();
        assert_eq!(written, 19, "up to twice its length");
        fs::remove_dir_all(&aside).expect("removed");
        write(&mut log, line);
        assert_eq!(fs::read_to_string(&path).expect("there"), line);
        assert_eq!(fs::metadata(&aside).expect("there").len(), 19 * line.len() as u64);
    }

    /// Its length is that of the file, whoever has written to it or emptied it.
    #[test]
    fn a_log_that_somebody_has_emptied_is_short() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("broker.log");
        let mut log = rotated(&path, 20);
        write(&mut log, "0123456789012345678\n");
        fs::write(&path, "").expect("emptied");
        write(&mut log, "one\n");
        assert!(!home.path().join("broker.log.1").exists());
        assert_eq!(fs::read_to_string(&path).expect("there"), "one\n");
    }

    #[test]
    fn a_log_whose_directory_is_gone_waits_for_it() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("d");
        fs::create_dir(&directory).expect("made");
        let mut log = log(directory.join("broker.log"));
        fs::remove_dir_all(&directory).expect("removed");
        write(&mut log, "lost\n");
        assert!(!directory.exists());
        fs::create_dir(&directory).expect("made");
        write(&mut log, "one\n");
        assert_eq!(fs::read_to_string(directory.join("broker.log")).expect("there"), "one\n");
    }

    #[test]
    fn what_has_no_name_is_no_file_of_this_kind() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        assert!(LogFile::new(pipe, PathBuf::from("/nowhere"), Stream::Nothing, None).is_none());
        let home = tempfile::tempdir().expect("a directory");
        let file = File::create(home.path().join("a")).expect("made");
        assert!(LogFile::new(file, home.path().join("b"), Stream::Nothing, None).is_none());
    }
}
