//! A log in a file that may be removed or renamed while it is written: it goes on in a new one of the same name.
//!
//! Whoever starts a broker in the background gives it the file as standard error, so nobody else could open it again. It is
//! looked for once a second at most, when there is something to write.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

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
    /// How long it is, but for what others write to it.
    length: u64,
}

/// What else is written to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// Standard error: panics and what libraries say.
    Stderr,
    #[cfg(test)]
    Nothing,
}

impl LogFile {
    /// That of standard error, if it is a file with a name.
    pub(super) fn of_stderr(long: Long) -> Option<Self> {
        let file = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
        let path = std::fs::read_link("/proc/self/fd/2").ok()?;
        let most = match long {
            Long::Rotated => Some(MOST),
            Long::Left => None,
        };
        Self::new(file, path, Stream::Stderr, most)
    }

    fn new(file: File, path: PathBuf, of: Stream, most: Option<u64>) -> Option<Self> {
        let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let id = FileId::from(&found);
        let (look_again, length) = (Instant::now(), found.len());
        id.is_at(&path).then_some(Self { file, path, id, look_again, of, most, length })
    }

    /// Puts a file that has become long aside, in the place of the one before it.
    fn rotate(&mut self) {
        if self.most.is_none_or(|most| self.length < most) || !self.id.is_at(&self.path) {
            return;
        }
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        if std::fs::rename(&self.path, &aside).is_ok() {
            self.look();
        }
    }

    /// Goes on in a new file if the one that was written to has lost its name. Where that cannot be made it is tried again.
    fn look(&mut self) {
        if self.id.is_at(&self.path) {
            return;
        }
        let mut options = File::options();
        let opened = options.append(true).create(true).mode(0o600).open(&self.path);
        let Some(file) = opened.ok() else { return };
        let Ok(found) = file.metadata() else { return };
        (self.id, self.file, self.length) = (FileId::from(&found), file, found.len());
        if self.of == Stream::Stderr {
            let _ = rustix::stdio::dup2_stderr(&self.file);
        }
        // It comes behind what is written now.
        tracing::warn!(path = %self.path.display(), "the log was rotated, removed or replaced, and goes on here");
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = Instant::now();
        if now >= self.look_again {
            self.look_again = now + LOOK_AGAIN;
            self.look();
        }
        self.rotate();
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
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
