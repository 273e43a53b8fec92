//! What a message's file says of it: its size, when it arrived, and what its head shows.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use sundown_mail::head::{Fields, ends_in};

use crate::headers::{Head, MAX_HEAD, clean};

/// How much of a file is read at once while its head has no end.
const PIECE: usize = 8 << 10;

/// How often a file is read whose size or time changes meanwhile.
const TRIES: usize = 3;

/// The most `Delivered-To` fields that are looked at.
const MAX_DELIVERED: usize = 64;

/// A name that was opened.
#[derive(Debug)]
pub(super) enum Opened {
    File(File),
    /// There is nothing under the name: another program has renamed or removed it.
    Gone,
    /// It is a link, a directory, a pipe or the like.
    NoFile,
}

/// Opens a message's file for reading. Links are not followed, and a pipe is not waited for.
pub(super) fn open(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Opened> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened: OwnedFd = match openat(dir, name, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Opened::Gone),
        // What Linux says of a link, and of a socket or a device that no driver has.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(Opened::NoFile),
        Err(error) => return Err(error.into()),
    };
    let file = File::from(opened);
    Ok(if file.metadata()?.is_file() { Opened::File(file) } else { Opened::NoFile })
}

/// What the file of a message says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// In bytes.
    pub(super) size: u64,
    /// When it was written, in milliseconds since 1970: programs that move a message keep this time.
    pub(super) received: u64,
    /// When it was written, as its head says.
    pub(super) date: Option<u64>,
    /// As [`Head`] shows it.
    pub(super) subject: String,
    /// As [`Head`] shows it.
    pub(super) from: String,
    /// As [`Head`] shows it.
    pub(super) to: String,
    /// The addresses to which it was delivered, in the order of the fields.
    pub(super) delivered_to: Vec<String>,
}

/// Reads the facts of a message from its open file. Nothing if the file changes all the time while it is read; then a later try
/// may do.
pub(super) fn read(file: &File) -> io::Result<Option<Facts>> {
    read_with(file, |_| Ok(()))
}

/// The same, with a function that is called when the head was read.
fn read_with(
    file: &File,
    mut between: impl FnMut(&File) -> io::Result<()>,
) -> io::Result<Option<Facts>> {
    let mut before = stamp(file)?;
    for _ in 0..TRIES {
        let head = head_of(file)?;
        between(file)?;
        let after = stamp(file)?;
        if before == after {
            return Ok(Some(facts(&head, after)));
        }
        before = after;
    }
    Ok(None)
}

/// The size of a file and the time of its last change, since 1970.
fn stamp(file: &File) -> io::Result<(u64, Duration)> {
    let found = file.metadata()?;
    Ok((found.len(), found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// The beginning of a message, up to the end of its head and no more than [`MAX_HEAD`].
fn head_of(file: &File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while head.len() < MAX_HEAD {
        let from = head.len();
        let piece = PIECE.max(from).min(MAX_HEAD - from);
        head.resize(from + piece, 0);
        let n = read_at(file, &mut head[from..], from as u64)?;
        head.truncate(from + n);
        if n < piece || ends_in(&head) {
            break;
        }
    }
    Ok(head)
}

/// Reads as much as there is, from an offset on.
fn read_at(file: &File, mut into: &mut [u8], mut offset: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    let wanted = into.len();
    while !into.is_empty() {
        match file.read_at(into, offset) {
            Ok(0) => break,
            Ok(n) => {
                into = &mut into[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - into.len())
}

fn facts(message: &[u8], (size, written): (u64, Duration)) -> Facts {
    let head = Head::of(message);
    let delivered = Fields::of(message).filter(|field| field.is("delivered-to"));
    let address = |raw: &[u8]| {
        let text = clean(&String::from_utf8_lossy(raw));
        text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(&text).to_owned()
    };
    Facts {
        size,
        received: u64::try_from(written.as_millis()).unwrap_or(u64::MAX),
        date: head.date(),
        subject: head.subject(),
        from: head.from(),
        to: head.to(),
        delivered_to: delivered.take(MAX_DELIVERED).map(|field| address(field.value())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use rustix::fs::{CWD, FileType, mknodat};
    use tempfile::TempDir;

    use super::*;

    fn opened(path: &Path) -> io::Result<Opened> {
        let dir = File::open(path.parent().expect("a directory")).expect("opened");
        open(dir.as_fd(), path.file_name().expect("a name").as_encoded_bytes())
    }

    fn file_of(path: &Path) -> File {
        match opened(path) {
            Ok(Opened::File(file)) => file,
            other => panic!("{other:?}"),
        }
    }

    fn facts_of(message: &[u8]) -> Facts {
        let home = TempDir::new().expect("a directory");
        let path = home.path().join("1.a");
        fs::write(&path, message).expect("written");
        read(&file_of(&path)).expect("read").expect("it does not change")
    }

    #[test]
    fn a_file_tells_its_facts() {
        let home = TempDir::new().expect("a directory");
        let path = home.path().join("1.a:2,S");
        let message = b"Return-Path: <b@x>\nDelivered-To: anna\nDELIVERED-TO:\n <anna@y.z>\n\
            Subject: =?utf-8?q?J=C3=BC?=\nFrom: B <b@x>\nTo: Anna <anna@y.z>\n\nDelivered-To: no\n";
        fs::write(&path, message).expect("written");
        let file = file_of(&path);
        let written = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        File::options()
            .write(true)
            .open(&path)
            .expect("opened")
            .set_modified(written)
            .expect("set");
        assert_eq!(
            read(&file).expect("read").expect("it does not change"),
            Facts {
                size: message.len() as u64,
                received: 1_700_000_000_123,
                date: None,
                subject: "J\u{fc}".into(),
                from: "B <b@x>".into(),
                to: "Anna".into(),
                delivered_to: vec!["anna".into(), "anna@y.z".into()],
            }
        );
    }

    #[test]
    fn strange_heads_have_facts() {
        let empty = facts_of(b"");
        assert_eq!((empty.size, empty.subject.as_str(), empty.delivered_to.len()), (0, "", 0));
        assert_eq!(facts_of(b"no head\nSubject: x\n").subject, "");
        assert_eq!(facts_of(b"Subject: \xfc\x00\n\n").subject.chars().count(), 2);
        let many = facts_of("Delivered-To: x\n".repeat(MAX_DELIVERED + 9).as_bytes());
        assert_eq!(many.delivered_to.len(), MAX_DELIVERED);
    }

    /// Fields that no single piece has whole.
    #[test]
    fn a_head_is_read_to_its_end() {
        for filler in [PIECE - 20, PIECE - 1, PIECE, 3 * PIECE, 100_000] {
            let head = format!("X: {}\nSubject: far\n\nbody\n", "x".repeat(filler));
            assert_eq!(facts_of(head.as_bytes()).subject, "far", "{filler}");
        }
    }

    /// A head of 100 MB, in a file without blocks: only its beginning is read.
    #[test]
    fn a_head_without_an_end_is_read_up_to_a_limit() {
        let home = TempDir::new().expect("a directory");
        let path = home.path().join("1.a");
        let mut made = File::create(&path).expect("made");
        made.write_all(b"Subject: x\nX: ").expect("written");
        made.write_all(&vec![b'x'; 2 * MAX_HEAD]).expect("written");
        made.set_len(100 << 20).expect("made longer");
        let file = file_of(&path);
        let facts = read(&file).expect("read").expect("it does not change");
        assert_eq!((facts.size, facts.subject.as_str()), (100 << 20, "x"));
        assert_eq!(head_of(&file).expect("read").len(), MAX_HEAD);
    }

    /// A file that grows once is read again; one that does not stop is left for later.
    #[test]
    fn a_message_that_changes_is_read_again() {
        let home = TempDir::new().expect("a directory");
        let path = home.path().join("1.a");
        for (changes, complete) in [(1, true), (TRIES, false)] {
            fs::write(&path, "Subject: a\n").expect("written");
            let mut writer = File::options().append(true).open(&path).expect("opened");
            let mut count = 0;
            let facts = read_with(&file_of(&path), |_| {
                count += 1;
                if count > changes { Ok(()) } else { writer.write_all(b"To: b@c\n") }
            });
            let facts = facts.expect("read");
            assert_eq!(facts.map(|facts| facts.to), complete.then(|| "b@c".to_owned()));
        }
    }

    #[test]
    fn only_a_file_is_opened() {
        let home = TempDir::new().expect("a directory");
        let at = |name: &str| home.path().join(name);
        fs::write(at("file"), "x").expect("written");
        symlink(at("file"), at("link")).expect("a link");
        fs::create_dir(at("directory")).expect("made");
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("made");
        let _listener = UnixListener::bind(at("socket")).expect("bound");
        for name in ["link", "directory", "pipe", "socket"] {
            assert!(matches!(opened(&at(name)), Ok(Opened::NoFile)), "{name}");
        }
        assert!(matches!(opened(&at("missing")), Ok(Opened::Gone)));
        assert!(matches!(opened(&at("file")), Ok(Opened::File(_))));
    }
}
