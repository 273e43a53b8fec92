//! Starting a broker when none runs: one, however many programs want one at once.
//!
//! Whoever gets the lock starts it and waits until its socket accepts; the others wait for the lock and find the broker
//! running. The broker is detached: a session of its own, a clean environment, nothing inherited, logging to a file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::error::Error;
use crate::library::LOOK;
use crate::limits::Limits;
use crate::link::wait_readable_within;
use crate::paths::Paths;

/// What a broker says on its standard output when its socket accepts. Before that it says why it does not.
pub(crate) const READY: &str = "ready";

/// What a broker says that finds another one with its data directory.
const OCCUPIED: &str = "another broker is running with the data directory";

/// Why none was started.
pub(crate) enum NotStarted {
    /// Another one has the data directory, and does not take connections, or not at this socket.
    Occupied(Error),
    /// Another attempt would go the same way.
    Failed(Error),
}

impl From<Error> for NotStarted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

const LOCK_FILE: &str = "autostart.lock";
const LOG_FILE: &str = "broker.log";

/// Variables that a broker may see. Secrets that commands fetch need the user's own; nothing else is passed on.
const PASSED_ON: [&str; 12] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
];

/// Starts a broker, unless `running` finds one once it is this program's turn.
pub(crate) fn start(
    program: &Path,
    paths: &Paths,
    running: impl Fn() -> bool,
) -> Result<(), NotStarted> {
    let data = &paths.data;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|e| cannot("make the data directory", data, e))?;
    let lock_path = data.join(LOCK_FILE);
    let lock = open(&lock_path).map_err(|e| cannot("open", &lock_path, e))?;
    wait_for_turn(&lock).map_err(|e| e.unwrap_or_else(|e| cannot("lock", &lock_path, e)))?;
    if running() {
        return Ok(());
    }
    let log_path = data.join(LOG_FILE);
    let log = open(&log_path).map_err(|e| cannot("open the log file", &log_path, e))?;
    spawn(program, paths, log).map_err(NotStarted::Failed).and_then(|said| {
        if said.trim_end() == READY {
            return Ok(());
        }
        let why = if said.trim().is_empty() { last_line(&log_path) } else { said };
        let what = format!(
            "no broker runs, and one could not be started: {}; its log is {}",
            why.trim(),
            log_path.display()
        );
        let error = Error::unreachable(what, None);
        // It may be about to end, and have closed its socket already.
        Err(if why.contains(OCCUPIED) {
            NotStarted::Occupied(error)
        } else {
            NotStarted::Failed(error)
        })
    })
}

/// Waits until nobody else starts one, as long as the program lets calls take.
fn wait_for_turn(lock: &File) -> Result<(), Result<Error, io::Error>> {
    let limits = Limits::of_this_thread();
    if limits.are_none() {
        let locked = rustix::fs::flock(lock.as_fd(), FlockOperation::LockExclusive);
        return locked.map_err(|e| Err(e.into()));
    }
    loop {
        match rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(Err(error.into())),
        }
        limits.check().map_err(Ok)?;
        std::thread::sleep(LOOK.min(limits.next_wait()));
    }
}

fn spawn(program: &Path, paths: &Paths, log: File) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.arg("serve").arg("--detached");
    command.arg("--socket").arg(&paths.socket).arg("--data-dir").arg(&paths.data);
    if let Some(config) = &paths.config {
        command.arg("--config").arg(config);
    }
    let kept = |name: &str| Some((OsString::from(name), std::env::var_os(name)?));
    command.env_clear().envs(PASSED_ON.into_iter().filter_map(kept));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(|e| cannot("start", program, e))?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        if !Limits::of_this_thread().are_none() {
            // Whoever gives up leaves it to itself: it comes up, or not, without this program.
            let until = Instant::now() + Duration::from_secs(3600);
            wait_readable_within(output.as_fd(), until)?;
        }
        // It says one line and closes the pipe, or it ends.
        let _ = output.take(4096).read_to_string(&mut said);
    }
    // A broker that is up is nobody's child to wait for; one that failed is, at once.
    std::thread::spawn(move || child.wait());
    Ok(said)
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

fn last_line(log: &PathBuf) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it said nothing").to_owned()
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    let text = format!(
        "no broker runs, and one cannot be started: cannot {what} {}: {error}",
        path.display()
    );
    Error::unreachable(text, Some(error))
}
