//! A private server for one test: everything it reads and writes is in one directory.

mod courier;
mod cyrus;
mod dovecot;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

/// Says why a test proves nothing here, where it is seen although the test passes.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stdout(), "skipped: {why}");
}

/// What the server is, and what it offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Dovecot with everything.
    Full,
    /// Dovecot without QRESYNC, so that CONDSTORE is used.
    Condstore,
    /// Dovecot with no more than RFC 3501.
    Plain,
    /// Cyrus: QRESYNC, OBJECTID, and MOVE.
    Cyrus,
    /// Courier: UIDPLUS; neither MOVE nor CONDSTORE. Every folder is in the Inbox, and names have dots.
    Courier,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Full, Self::Condstore, Self::Plain, Self::Cyrus, Self::Courier];

    /// What the server calls a folder; here its parts are separated by a slash.
    pub(super) fn wire(self, name: &str) -> String {
        match self {
            Self::Courier if name != "INBOX" => format!("INBOX.{}", name.replace('/', ".")),
            _ => name.to_owned(),
        }
    }

    /// The same the other way round.
    pub(super) fn name(self, wire: &str) -> String {
        match self {
            Self::Courier => wire.strip_prefix("INBOX.").unwrap_or(wire).replace('.', "/"),
            _ => wire.to_owned(),
        }
    }

    /// Why it cannot be run here.
    fn missing(self) -> Option<&'static str> {
        if !rustix::process::geteuid().is_root() {
            return Some("only root can run a private server");
        }
        match self {
            Self::Full | Self::Condstore | Self::Plain => dovecot::missing(),
            Self::Cyrus => cyrus::missing(),
            Self::Courier => courier::missing(),
        }
    }
}

/// A running server, in which every name is a user with the password `secret`. It ends with its test.
pub(super) struct Server {
    pub(super) kind: Kind,
    child: Child,
    pub(super) port: u16,
    folder: TempDir,
}

impl Server {
    /// Starts one. Nothing if it cannot be run here; then the test says so and passes.
    pub(super) fn start(kind: Kind) -> Option<Self> {
        if let Some(why) = kind.missing() {
            skipped(why);
            return None;
        }
        Some(Self::start_now(kind))
    }

    fn start_now(kind: Kind) -> Self {
        let folder = tempfile::Builder::new().prefix("imap-").tempdir().expect("a directory");
        let (path, port) = (folder.path(), port());
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, everybody).expect("others may look");
        let mut command = match kind {
            Kind::Full | Kind::Condstore | Kind::Plain => dovecot::command(kind, path, port),
            Kind::Cyrus => cyrus::command(path, port),
            Kind::Courier => courier::command(path, port),
        };
        let log = fs::File::create(path.join("output")).expect("a file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let child = command.spawn().expect("it starts");
        let mut server = Self { kind, child, port, folder };
        server.wait();
        server
    }

    /// Waits until it answers.
    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(30);
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).expect("it is not reaped yet");
        let moment = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let mut watched = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
            let ended = poll(&mut watched, Some(&moment)).expect("it can be watched") > 0;
            assert!(!ended, "{:?}: {}", self.child.try_wait(), self.log());
            assert!(Instant::now() < until, "{}", self.log());
        }
    }

    fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("it has a pid")
    }

    /// What it has said.
    pub(super) fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("output") + &read("log")
    }

    /// Makes what a user's mailbox needs before its first logon.
    pub(super) fn make_user(&self, user: &str) {
        if self.kind == Kind::Courier {
            courier::make_user(self.folder.path(), user);
        }
    }

    /// Forgets which numbers the messages of a user's Inbox have: it numbers them anew. Whether it can.
    pub(super) fn number_anew(&self, user: &str) -> bool {
        match self.kind {
            Kind::Full | Kind::Condstore | Kind::Plain => {
                dovecot::number_anew(self.folder.path(), user, "");
                true
            }
            Kind::Courier => {
                courier::number_anew(self.folder.path(), user);
                true
            }
            Kind::Cyrus => false,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its other processes end with this one; `unshare` ends by force alone.
        let signal = if self.kind == Kind::Courier { Signal::KILL } else { Signal::TERM };
        let _ = kill_process(self.pid(), signal);
        let _ = self.child.wait();
    }
}

fn port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 97).expect("small") * 100;
    loop {
        let port = 30_100 + (begin + TRIED.fetch_add(1, Ordering::Relaxed)) % 2_600;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Where `tests/imap-servers` unpacks a server.
fn fetched(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/imap-servers").join(name)
}

/// Where the libraries of what was unpacked are.
fn libraries(root: &Path) -> String {
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places = ["usr/lib".to_owned(), format!("usr/lib/{machine}"), format!("lib/{machine}")];
    let places = places.iter().map(|place| root.join(place).display().to_string());
    places
        .chain([root.join("usr/lib/courier-authlib").display().to_string()])
        .collect::<Vec<_>>()
        .join(":")
}

fn give_to_nobody(path: &Path) {
    std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("given away");
}
