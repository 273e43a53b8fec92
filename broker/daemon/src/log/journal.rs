//! The journal's own socket: each line is an entry with fields, which `journalctl` can be asked for.
//!
//! ```text
//! journalctl -u sundown SUNDOWN_EVENT=provider-call SUNDOWN_PROVIDER=relay
//! ```
//!
//! It is used where standard error is the journal's, as `JOURNAL_STREAM` says; anywhere else lines have a priority in front.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where the journal takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Sends one entry with each write.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// The journal, if standard error goes there.
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = rustix::fs::fstat(rustix::stdio::stderr()).ok()?;
        let is_it = stream == format!("{}:{}", stderr.st_dev, stderr.st_ino);
        is_it.then(|| Self::connect(Path::new(SOCKET)).ok()).flatten()
    }

    fn connect(socket: &Path) -> io::Result<Self> {
        let datagrams = UnixDatagram::unbound()?;
        datagrams.connect(socket)?;
        Ok(Self(datagrams))
    }
}

impl Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.send(entry)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        let writer = Box::new(Journal::connect(&path).expect("connected"));
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
}
