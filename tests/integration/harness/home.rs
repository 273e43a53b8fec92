//! A user's home: directories, settings, and the processes that see nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::{Broker, Lines, Maildir, Shell, left, wait_for_end};

/// A home that is gone at the end of its test.
pub(crate) struct Home {
    root: TempDir,
    /// The runtime directory, where it is not in the home.
    run: Option<TempDir>,
}

/// What a command that has ended said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Ran {
    /// It succeeded.
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success(), "{self:?}");
        self
    }

    /// It ended with this exit status.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        self
    }

    /// Its output is one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Home {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("sundown-").tempdir().expect("a directory");
        let home = Self { root, run: None };
        fs::create_dir(home.path("run")).expect("made");
        fs::set_permissions(home.path("run"), fs::Permissions::from_mode(0o700)).expect("changed");
        home
    }

    /// One whose runtime directory is in memory, as on a machine that a service manager has set up; `None` where nothing is.
    pub(crate) fn with_memory() -> Option<Self> {
        let memory = Path::new("/dev/shm");
        is_in_memory(memory).then_some(())?;
        let run = tempfile::Builder::new().prefix("sundown-run-").tempdir_in(memory).ok()?;
        fs::set_permissions(run.path(), fs::Permissions::from_mode(0o700)).expect("changed");
        Some(Self { run: Some(run), ..Self::new() })
    }

    /// One with this settings file.
    pub(crate) fn with_settings(text: &str) -> Self {
        let home = Self::new();
        home.settings(text);
        home
    }

    /// A path in it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// The runtime directory.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.run.as_ref().map_or_else(|| self.path("run"), |run| run.path().to_owned())
    }

    /// Whether the runtime directory is gone when the machine is. Where the tests' directories are in memory, each is.
    pub(crate) fn has_memory(&self) -> bool {
        is_in_memory(&self.runtime())
    }

    /// Where the broker's socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime().join("sundown/broker.sock")
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.path(".local/share/sundown")
    }

    /// Where a profile's mail for this host is delivered.
    pub(crate) fn maildir(&self, profile: &str) -> Maildir {
        Maildir(self.data().join(profile).join("Maildir"))
    }

    /// Writes the settings file.
    pub(crate) fn settings(&self, text: &str) -> PathBuf {
        self.write(".config/sundown/config.toml", text)
    }

    /// Writes a profile.
    pub(crate) fn profile(&self, name: &str, text: &str) -> PathBuf {
        self.write(&format!(".config/sundown/profiles/{name}.toml"), text)
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it is in the home")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }

    /// A message to a user of this host.
    pub(crate) fn message(&self, subject: &str) -> PathBuf {
        let text = format!("To: anna@localhost\nSubject: {subject}\n\nThis is {subject}.\n");
        self.write(&format!("{subject}.eml"), text)
    }

    /// A `sundown` that sees this home only, and starts no broker.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.arg("--no-autostart");
        command
    }

    /// A `sundown` that sees this home only.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = match (other_shell(), arguments) {
            (Some(shell), ["shell", rest @ ..]) if rest.contains(&"--json") => with(shell, rest),
            _ => {
                let mut command = with(Command::new(binary()), arguments);
                command.env_clear();
                command
            }
        };
        command.current_dir(self.root.path());
        command.env("HOME", self.root.path()).env("XDG_RUNTIME_DIR", self.runtime());
        command
    }

    /// Runs `sundown` with these arguments and without input.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments), "")
    }

    /// Runs `sundown` with these arguments and this input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        run(self.command(arguments), input)
    }

    /// What `sundown status --json` says.
    pub(crate) fn status(&self) -> Value {
        self.run(&["status", "--json"]).ok().json()
    }

    /// Asks for the status until it is as wanted: for what nobody is told of.
    pub(crate) fn status_until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let status = self.status();
            if fits(&status) {
                return status;
            }
            assert!(!left(since).is_zero(), "waiting for {what}: {status}");
        }
    }

    /// A broker whose socket accepts.
    pub(crate) fn serve(&self) -> Broker {
        Broker::start(self, &[])
    }

    /// A process with sessions.
    pub(crate) fn shell(&self) -> Shell {
        Shell::start(self.command(&["shell", "--json"]))
    }

    /// Processes that name this home in their arguments, by their pid: the brokers that clients started in it.
    pub(crate) fn brokers(&self) -> Vec<u32> {
        let root = self.root.path().to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
        let pids = processes.filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
        let here = |pid: &u32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments);
            arguments.split('\0').nth(1) == Some("serve") && arguments.contains(&root)
        };
        pids.filter(here).collect()
    }
}

impl AsRef<Path> for Home {
    fn as_ref(&self) -> &Path {
        self.root.path()
    }
}

fn is_in_memory(directory: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(directory).is_ok_and(|system| system.f_type as u64 == TMPFS)
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, input: impl AsRef<[u8]>) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let output = Lines::of(child.stdout.take().expect("it is a pipe"));
    let errors = Lines::of(child.stderr.take().expect("it is a pipe"));
    let mut pipe = child.stdin.take().expect("it is a pipe");
    // A command that fails early does not read its input.
    let _ = std::io::Write::write_all(&mut pipe, input.as_ref());
    drop(pipe);
    let status = wait_for_end(&mut child);
    output.wait_for_end();
    errors.wait_for_end();
    Ran { status, output: output.all().join("\n"), errors: errors.all().join("\n") }
}

/// The same command, as a program starts it that has this umask.
pub(crate) fn under_umask(umask: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "umask \"$0\"; exec \"$@\"", umask]).arg(command.get_program());
    shell.args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// The command under test; another release of it with `SUNDOWN_TEST_BINARY`.
pub(crate) fn binary() -> PathBuf {
    let other = std::env::var_os("SUNDOWN_TEST_BINARY").map(PathBuf::from);
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_sundown").into())
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

/// The command in place of `sundown shell`, if `SUNDOWN_TEST_SHELL` has one: a shell in another language, which keeps the same contract. It
/// is divided at blanks, and sees a `PATH` with the command under test in front, `PYTHONPATH` and `LD_LIBRARY_PATH` of this process.
pub(crate) fn other_shell() -> Option<Command> {
    let words = std::env::var("SUNDOWN_TEST_SHELL").ok()?;
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next()?);
    command.args(words).env_clear();
    let folder = binary().parent().map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = folder.into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).expect("folders without a colon"));
    for name in ["PYTHONPATH", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    Some(command)
}
