//! The journal's own socket: each line is an entry with fields, which `journalctl` can be asked for.
//!
//! ```text
//! journalctl -u sundown SUNDOWN_EVENT=provider-call SUNDOWN_PROVIDER=relay
//! ```
//!
//! It is used where standard error is the journal's. What it does not take goes to standard error, with its priority in front.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where the journal takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Sends one entry with each write.
pub(super) struct Journal<W = io::Stderr> {
    socket: PathBuf,
    datagrams: UnixDatagram,
    /// The other way to the journal.
    stream: W,
}

impl Journal {
    /// The journal, if it takes entries.
    pub(super) fn connected() -> Option<Self> {
        Self::at(Path::new(SOCKET), io::stderr()).ok()
    }
}

impl<W: Write> Journal<W> {
    fn at(socket: &Path, stream: W) -> io::Result<Self> {
        Ok(Self { socket: socket.to_owned(), datagrams: connect(socket)?, stream })
    }

    /// Sends an entry. A journal that was started anew has another socket.
    fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        let sent = self.datagrams.send(entry);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            return self.send(entry);
        }
        if sent.is_err() {
            self.datagrams = connect(&self.socket)?;
            self.datagrams.send(entry)?;
        }
        Ok(())
    }
}

fn connect(socket: &Path) -> io::Result<UnixDatagram> {
    let datagrams = UnixDatagram::unbound()?;
    datagrams.connect(socket)?;
    Ok(datagrams)
}

impl<W: Write> Write for Journal<W> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        if self.send(entry).is_err() {
            // It is too long for a datagram, or nobody listens.
            self.stream.write_all(&as_line(entry))?;
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// An entry as a line of the stream: its message behind its priority.
fn as_line(entry: &[u8]) -> Vec<u8> {
    let field = |name: &[u8]| {
        let mut lines = entry.split(|byte| *byte == b'\n');
        lines.find_map(|line| line.strip_prefix(name)).unwrap_or_default()
    };
    [b"<", field(b"PRIORITY="), b">", field(b"MESSAGE="), b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Options, subscriber};
    use super::*;

    #[test]
    fn each_line_is_an_entry_with_fields() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("bound");
        let writer = Box::new(Journal::at(&path, io::sink()).expect("connected"));
        let options = Options { level: "info".to_owned(), format: Format::Journal, writer };
        let (subscriber, guard) = subscriber(options).expect("a log");
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "x", event = "provider-call", pid = 7, why = "two\nlines", "called");
            tracing::info!(target: "y", "second");
        });
        drop(guard);
        let mut bytes = [0; 1024];
        let mut entry = || {
            let length = journal.recv(&mut bytes).expect("an entry");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        assert_eq!(
            entry(),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=sundown\n\
             MESSAGE=x: called event=provider-call pid=7 why=\"two\\nlines\"\n\
             SUNDOWN_TARGET=x\nSUNDOWN_EVENT=provider-call\nSUNDOWN_PID=7\nSUNDOWN_WHY=two\\nlines\n"
        );
        assert!(entry().contains("MESSAGE=y: second\n"));
    }

    /// A journal that was restarted gets the next entry; what none takes is on standard error.
    #[test]
    fn an_entry_that_the_journal_does_not_take_is_not_lost() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("socket");
        let first = UnixDatagram::bind(&path).expect("bound");
        let mut journal = Journal::at(&path, Vec::new()).expect("connected");
        let entry = b"PRIORITY=4\nSYSLOG_IDENTIFIER=sundown\nMESSAGE=x: one\nSUNDOWN_TARGET=x\n";
        let mut write = |entry: &[u8]| {
            journal.write_all(entry).expect("written");
            String::from_utf8(std::mem::take(&mut journal.stream)).expect("UTF-8")
        };
        assert_eq!(write(entry), "");
        drop(first);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(write(entry), "<4>x: one\n");
        let second = UnixDatagram::bind(&path).expect("bound");
        assert_eq!(write(entry), "");
        let mut bytes = [0; 1024];
        let length = second.recv(&mut bytes).expect("an entry");
        assert_eq!(&bytes[..length], entry);
        let long = [b"PRIORITY=3\nMESSAGE=".as_slice(), &vec![b'x'; 4 << 20], b"\n"].concat();
        assert_eq!(write(&long).len(), "<3>\n".len() + (4 << 20));
    }
}
