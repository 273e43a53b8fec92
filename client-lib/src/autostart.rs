//! Starts a broker when none runs. Programs that start one at the same moment start a single broker.
//!
//! The program that gets the lock starts the broker and waits until its socket accepts. The others wait for the lock and then find
//! the broker running. Every wait has an end. The broker is detached: it has a session of its own and a clean environment, inherits
//! nothing, and logs to a file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::FlockOperation;

use crate::error::Error;
use crate::files::{lock_holder, make_directories, open_private, read_small};
use crate::library::{LOOK, PATIENCE};
use crate::limits::Limits;
use crate::link::wait_readable_within;
use crate::paths::{Environment, Paths, Privileges, Whose};

/// The line that a broker writes to its standard output when its socket accepts. A broker that fails to start writes the reason
/// instead.
pub(crate) const READY: &str = "ready";

/// The text with which a broker reports that another broker uses its data directory.
pub(crate) const OCCUPIED: &str = "another broker is running with the data directory";

/// How a broker that is started logs, if anything says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logging {
    /// What `--log-level` takes.
    pub(crate) level: Option<OsString>,
    /// What `--log-format` takes.
    pub(crate) format: Option<OsString>,
}

impl Logging {
    /// What the variables say.
    pub(crate) fn of(environment: &Environment) -> Self {
        Self {
            level: environment.own_variable("SUNDOWN_LOG"),
            format: environment.own_variable("SUNDOWN_LOG_FORMAT"),
        }
    }
}

/// Why no broker was started.
pub(crate) enum NotStarted {
    /// Another broker uses the data directory, and does not accept connections, or not at this socket.
    Occupied(Error),
    /// Another attempt would fail in the same way.
    Failed(Error),
}

impl From<Error> for NotStarted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The most that is read of a broker's output during its start, in bytes.
pub(crate) const LONGEST: usize = 4096;

pub(crate) const LOCK_FILE: &str = "autostart.lock";
/// The lock file of the broker, which contains the path of its socket.
pub(crate) const BROKERS_LOCK: &str = "broker.lock";
pub(crate) const LOG_FILE: &str = "broker.log";

/// Variables that are passed on to a broker. The commands that fetch secrets need the user's own; no other variable is passed on.
pub(crate) const PASSED_ON: [&str; 12] = [
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

/// Where the system's programs are installed.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Starts a broker, unless `running` finds a running broker once this program has the lock.
pub(crate) fn start(
    (program, logging): (&Path, &Logging),
    paths: &Paths,
    running: impl Fn() -> bool,
) -> Result<(), NotStarted> {
    let data = &paths.data;
    let directory = open_directory(data).map_err(|e| cannot("use the data directory", data, e))?;
    let lock_path = data.join(LOCK_FILE);
    let lock = open_private(&directory, LOCK_FILE).map_err(|e| cannot("open", &lock_path, e))?;
    let turn = wait_for_turn(&lock, Instant::now() + PATIENCE);
    turn.map_err(|e| e.unwrap_or_else(|e| cannot("lock", &lock_path, e)))?;
    if running() {
        return Ok(());
    }
    let log_path = data.join(LOG_FILE);
    let log = open_log(&directory).map_err(|e| cannot("open the log file", &log_path, e))?;
    spawn((program, logging), paths, log).map_err(NotStarted::Failed).and_then(|said| {
        if said.trim_end() == READY {
            return Ok(());
        }
        let why = if said.trim().is_empty() { last_line(&log_path) } else { said };
        let other = why.contains(OCCUPIED).then(|| holder(paths)).flatten();
        let other =
            other.map(|pid| format!("; it is process {pid}, and `sundown doctor` says more"));
        let what = format!(
            "no broker runs, and one could not be started: {}{}; its log is {}",
            why.trim(),
            other.unwrap_or_default(),
            log_path.display()
        );
        let error = Error::unreachable(what, None);
        // The other broker may be about to end, and have closed its socket already.
        Err(if why.contains(OCCUPIED) {
            NotStarted::Occupied(error)
        } else {
            NotStarted::Failed(error)
        })
    })
}

/// The socket of the data directory's broker, read from its lock file, if it differs from the program's. It differs if the broker
/// was started in another environment: by cron, which has no runtime directory, or before a logout removed that directory. `None`
/// for a program that was given a socket: it means that socket.
pub(crate) fn elsewhere(paths: &Paths) -> Option<PathBuf> {
    paths.host_socket.as_ref().filter(|_| paths.whose == Whose::Own)?;
    let named = read_small(&paths.data.join(BROKERS_LOCK)).ok()?;
    let other = PathBuf::from(OsString::from_vec(named));
    (other.is_absolute() && other != paths.socket).then_some(other)
}

/// The process that has the data directory's lock: its broker.
pub(crate) fn holder(paths: &Paths) -> Option<u32> {
    lock_holder(&paths.data.join(BROKERS_LOCK))
}

/// Waits until no other program starts a broker, at most until `until` and within the thread's limits.
fn wait_for_turn(lock: &File, until: Instant) -> Result<(), Result<Error, io::Error>> {
    let limits = Limits::of_this_thread();
    loop {
        match rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(Err(error.into())),
        }
        limits.check().map_err(Ok)?;
        let left = limits.next_look(until).saturating_duration_since(Instant::now());
        if left.is_zero() {
            let what = "no broker runs, and another program that starts one is not done with it";
            return Err(Ok(Error::unreachable(what.to_owned(), None)));
        }
        std::thread::sleep(LOOK.min(left));
    }
}

fn spawn((program, logging): (&Path, &Logging), paths: &Paths, log: File) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.arg("serve").arg("--detached");
    command.arg("--socket").arg(&paths.socket).arg("--data-dir").arg(&paths.data);
    if let Some(config) = &paths.config {
        command.arg("--config").arg(config);
    }
    for (option, value) in [("--log-level", &logging.level), ("--log-format", &logging.format)] {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    }
    command.env_clear().envs(passed_on(Privileges::of_this_process()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(|e| cannot("start", program, e))?;
    let output = child.stdout.take();
    let said = output.map(|output| read_word(output, Instant::now() + PATIENCE));
    // The child is waited for on a thread: a broker that failed ends at once, a running broker outlives this program. A broker that
    // is not ready is not killed: it starts later, or ends by its own deadline.
    std::thread::spawn(move || child.wait());
    said.unwrap_or_else(|| Ok(String::new()))
}

/// The environment of a broker. A user must not choose what a program with raised privileges starts: such a program passes on only
/// a `PATH` with the system's directories.
fn passed_on(privileges: Privileges) -> Vec<(OsString, OsString)> {
    let kept = |name: &str| Some((OsString::from(name), std::env::var_os(name)?));
    match privileges {
        Privileges::Ordinary => PASSED_ON.into_iter().filter_map(kept).collect(),
        Privileges::Raised => vec![("PATH".into(), SYSTEM_PATH.into())],
    }
}

/// Reads what a broker writes during its start: that it is ready, or everything until it ends.
fn read_word(mut output: impl AsFd + Read, until: Instant) -> Result<String, Error> {
    let mut said = Vec::new();
    let mut piece = [0; 1024];
    while said != format!("{READY}\n").as_bytes() && said.len() < LONGEST {
        if !wait_readable_within(output.as_fd(), until)? {
            let what = "no broker runs, and the one that was started is not ready in time";
            return Err(Error::unreachable(what.to_owned(), None));
        }
        match output.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(more) => said.extend_from_slice(&piece[..more]),
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Opens the data directory, and makes it if it does not exist. Fails, as a broker does, if the directory belongs to another user
/// or others may write to it: a file that is opened in it could be a link made by them.
fn open_directory(data: &Path) -> io::Result<OwnedFd> {
    make_directories(data, 0o700)?;
    let user = rustix::process::geteuid().as_raw();
    let (named, directory) = (fs::symlink_metadata(data)?, File::open(data)?);
    let found = directory.metadata()?;
    let why = if named.is_symlink() && ![user, 0].contains(&named.uid()) {
        format!("it is a link of user {}", named.uid())
    } else if !found.is_dir() {
        "it is not a directory".to_owned()
    } else if found.uid() != user {
        format!("it belongs to user {}, not to {user}", found.uid())
    } else if found.mode() & 0o022 != 0 {
        format!("it has mode {:04o} and can be changed by others", found.mode() & 0o777)
    } else {
        return Ok(directory.into());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Opens the broker's log, which a pipe or a device must not be: a broker would wait for who reads it.
fn open_log(directory: &OwnedFd) -> io::Result<File> {
    let log = open_private(directory, LOG_FILE)?;
    if !log.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file; remove it"));
    }
    Ok(log)
}

fn last_line(log: &Path) -> String {
    let text = read_small(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().last().unwrap_or("it said nothing").to_owned()
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    let text = format!(
        "no broker runs, and one cannot be started: cannot {what} {}: {error}",
        path.display()
    );
    Error::unreachable(text, Some(error))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_program_that_starts_a_broker_for_ever_is_not_waited_for_so_long() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = open_directory(directory.path()).expect("opened");
        let open = || open_private(&data, LOCK_FILE).expect("opened");
        let (other, lock) = (open(), open());
        rustix::fs::flock(&other, FlockOperation::LockExclusive).expect("locked");
        let Err(Ok(error)) = wait_for_turn(&lock, Instant::now()) else { panic!("it is locked") };
        assert!(error.to_string().contains("another program"), "{error}");
        drop(other);
        assert!(wait_for_turn(&lock, Instant::now()).is_ok());
    }

    /// A link in the directory could make a privileged program write its log anywhere.
    #[test]
    fn no_link_is_followed_and_no_directory_of_others_used() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir().expect("a directory");
        let (data, elsewhere) = (root.path().join("data"), root.path().join("elsewhere"));
        let directory = open_directory(&data).expect("made");
        symlink(&elsewhere, data.join(LOG_FILE)).expect("linked");
        open_private(&directory, LOG_FILE).expect_err("a link");
        assert!(!elsewhere.exists());
        fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("changed");
        let error = open_directory(&data).expect_err("open to others");
        assert!(error.to_string().contains("0777"), "{error}");
    }

    #[test]
    fn a_log_is_a_file() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = open_directory(root.path()).expect("opened");
        open_log(&directory).expect("made");
        fs::remove_file(root.path().join(LOG_FILE)).expect("removed");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(&directory, LOG_FILE, pipe, mode, 0).expect("made");
        let error = open_log(&directory).expect_err("a pipe");
        assert!(error.to_string().contains("no file"), "{error}");
    }

    #[test]
    fn raised_privileges_pass_no_variable_on() {
        let passed = passed_on(Privileges::Raised);
        assert_eq!(passed, [(OsString::from("PATH"), OsString::from(SYSTEM_PATH))]);
        assert!(passed_on(Privileges::Ordinary).iter().any(|(name, _)| name == "PATH"));
    }

    #[test]
    fn a_broker_that_says_nothing_is_not_waited_for_without_end() {
        let (near, mut broker) = UnixStream::pair().expect("a pair");
        let short = || Instant::now() + Duration::from_millis(1);
        let error = read_word(&near, short()).expect_err("it said nothing");
        assert!(error.to_string().contains("not ready"), "{error}");
        broker.write_all(b"rea").expect("written");
        read_word(&near, short()).expect_err("it said half a word");
    }

    #[test]
    fn a_broker_is_ready_when_it_says_so_and_else_heard_to_its_end() {
        let far = || Instant::now() + Duration::from_secs(60);
        let (near, mut broker) = UnixStream::pair().expect("a pair");
        broker.write_all(b"ready\n").expect("written");
        assert_eq!(read_word(&near, far()).expect("a word"), "ready\n");
        broker.write_all(b"two\nlines").expect("written");
        drop(broker);
        assert_eq!(read_word(&near, far()).expect("all of it"), "two\nlines");
        assert_eq!(read_word(&near, far()).expect("its end"), "");
    }
}
