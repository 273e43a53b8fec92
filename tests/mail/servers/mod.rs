//! Servers for tests, each a process or a thread of its own that ends with its test.
//!
//! ```text
//! sink       `smtp-sink` of Postfix: takes everything, or fails as it is told
//! dovecot    a private Dovecot, to which LMTP is spoken
//! postfix    a private Postfix that believes in one directory only
//! scripted   what no honest server does, line by line
//! ```

mod dovecot;
mod postfix;
mod scripted;
mod sink;

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::harness::left;

pub(crate) use dovecot::Dovecot;
pub(crate) use postfix::Postfix;
pub(crate) use scripted::{Act, Scripted, Talk};
pub(crate) use sink::{Received, Sink};

/// A port of the loopback that nobody has. It is none of those that the kernel gives to whoever does not care, so that
/// it stays free while one server ends there and the next one begins.
pub(crate) fn port() -> u16 {
    listen().1
}

/// A listener at such a port. Who needs one takes this: a port that was only looked at can be held for a moment by a process that another
/// test starts just then.
pub(crate) fn listen() -> (TcpListener, u16) {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 97).expect("small") * 200;
    loop {
        let port = 10_000 + (begin + TRIED.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return (listener, port);
        }
    }
}

/// Where a program is, if it is installed; servers are in directories that users do not have in their path.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(system).map(|folder| folder.join(name));
    found.into_iter().find(|path| path.is_file())
}

/// Says why a test proves nothing here, where it is seen although the test passes.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stdout(), "skipped: {why}");
}

/// Whether a program is there; if not, the test says so and passes.
pub(crate) fn installed(name: &str) -> bool {
    let found = program(name).is_some();
    if !found {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// Whether the test may do what only root may; if not, it says so and passes.
pub(crate) fn root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(&format!("{what} needs root"));
    }
    root
}

/// Waits until a server accepts connections. Nothing tells when it does, so that it is tried again and again; in between
/// its end would be noticed at once.
fn accepting(server: &mut Child, port: u16, said: impl Fn() -> String) {
    let since = Instant::now();
    let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw).expect("it has a pid");
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped yet");
    let moment = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let mut watched = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        let ended = poll(&mut watched, Some(&moment)).expect("it can be watched") > 0;
        if ended {
            // One that ends after so many messages may have had them already.
            let status = server.wait().expect("it has ended");
            assert!(status.success(), "the server at port {port} ended, {status}: {}", said());
            return;
        }
        assert!(!left(since).is_zero(), "nobody listens at port {port}: {}", said());
    }
}

/// A file to which a server may write whatever it has to say.
fn log_file(path: &std::path::Path) -> File {
    File::create(path).expect("a log can be made")
}
