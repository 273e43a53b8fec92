//! `smtp-sink`: it takes everything, or fails as it is told.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::wait_for_end;

use super::{accepting, installed, log_file, port, program};

/// A running `smtp-sink`, which keeps what it gets. It is killed at the end of its test.
pub(crate) struct Sink {
    child: Child,
    port: u16,
    folder: TempDir,
}

/// A message that a sink got as a whole, whatever it answered then.
#[derive(Clone)]
pub(crate) struct Received {
    /// The arguments of MAIL.
    pub(crate) mail: String,
    /// The arguments of each RCPT.
    pub(crate) recipients: Vec<String>,
    /// The message with LF at the ends of lines.
    pub(crate) message: Vec<u8>,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let beginning = &self.message[..self.message.len().min(1500)];
        let text = String::from_utf8_lossy(beginning);
        write!(f, "{} to {:?}, {} bytes:\n{text}", self.mail, self.recipients, self.message.len())
    }
}

impl Received {
    /// Reads a dump: the sink's own fields, of which the last is a Received of three lines, the message, an empty line.
    /// What broke off before is no message.
    fn parse(dump: &[u8]) -> Option<Self> {
        let dump = dump.strip_suffix(b"\n")?;
        let (mut mail, mut recipients) = (String::new(), Vec::new());
        let mut rest = dump;
        loop {
            let end = rest.iter().position(|b| *b == b'\n')?;
            let line = String::from_utf8_lossy(&rest[..end]);
            rest = &rest[end + 1..];
            if let Some(arguments) = line.strip_prefix("X-Mail-Args: ") {
                arguments.clone_into(&mut mail);
            } else if let Some(arguments) = line.strip_prefix("X-Rcpt-Args: ") {
                recipients.push(arguments.to_owned());
            } else if line.starts_with("Received: ") {
                break;
            }
        }
        for _ in 0..2 {
            let end = rest.iter().position(|b| *b == b'\n')?;
            rest = &rest[end + 1..];
        }
        Some(Self { mail, recipients, message: rest.to_vec() })
    }

    /// The message as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }

    /// The values of a header field, in their order.
    pub(crate) fn field(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let head = text.split("\n\n").next().unwrap_or_default();
        let value = |line: &str| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.lines().filter_map(value).collect()
    }

    /// The only subject.
    pub(crate) fn subject(&self) -> String {
        self.field("Subject").join(", ")
    }
}

impl Sink {
    /// Whether the program is there; if not, the test says so and passes.
    pub(crate) fn installed() -> bool {
        installed("smtp-sink")
    }

    /// One with these flags at a port of its own.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::at(port(), flags)
    }

    /// One with these flags at that port.
    pub(crate) fn at(port: u16, flags: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("sink-").tempdir().expect("a directory");
        let path = folder.path();
        fs::create_dir(path.join("mail")).expect("made");
        let mut command = Command::new(program("smtp-sink").expect("it is installed"));
        if rustix::process::geteuid().is_root() {
            // It does not run as root unless it is told to.
            command.args(["-u", "root"]);
        }
        command.arg("-d").arg(path.join("mail/m.")).args(flags);
        command.arg(format!("127.0.0.1:{port}")).arg("1000");
        let log = log_file(&path.join("log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("it starts");
        let said = || fs::read_to_string(path.join("log")).unwrap_or_default();
        accepting(&mut child, port, said);
        Self { child, port, folder }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it and puts one with other flags in its place; gives back what it got before.
    pub(crate) fn replace(&mut self, flags: &[&str]) -> Vec<Received> {
        self.stop();
        let before = self.received();
        *self = Self::at(self.port, flags);
        before
    }

    /// Kills it. What it got is still there.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) {
        wait_for_end(&mut self.child);
    }

    /// The messages that it got as a whole.
    pub(crate) fn received(&self) -> Vec<Received> {
        let dumps = self.dumps().into_iter().map(|path| fs::read(path).expect("a dump is read"));
        dumps.filter_map(|dump| Received::parse(&dump)).collect()
    }

    /// How many transactions got as far as the message.
    pub(crate) fn count(&self) -> usize {
        self.dumps().len()
    }

    fn dumps(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("mail")).expect("it is there");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop();
    }
}
