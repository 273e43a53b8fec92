//! The stage: a broker in a fresh directory, and real processes that carry out commands.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sundown_client::paths::check_socket;

/// How long an actor may take. On a machine that works no step takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The broker's socket in that directory.
const SOCKET: &str = "run/broker.sock";

/// The directory and the broker of the tour.
pub(super) struct Stage {
    program: PathBuf,
    made: Made,
    pid: u32,
}

/// What the tour makes, shared with the thread that waits for signals.
#[derive(Clone)]
struct Made {
    home: PathBuf,
    broker: Arc<Mutex<Child>>,
}

/// What becomes of the files of the tour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    Removed,
    /// Somebody has to find out what went wrong.
    Kept,
}

/// Why the tour cannot continue: a process did not do what it should.
pub(super) type Trouble = String;

impl Stage {
    /// Starts a broker in a fresh directory and waits until its socket accepts.
    pub(super) fn set() -> Result<Self, Trouble> {
        // The files of the stage are for this process and its children only, whatever the umask.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let program = std::env::current_exe().map_err(|e| format!("which program is this: {e}"))?;
        let home = new_home().map_err(|e| format!("cannot make a directory: {e}"))?;
        let config = home.join("config.toml");
        let profiles = home.join("profiles");
        std::fs::write(&config, SETTINGS)
            .and_then(|()| std::fs::create_dir(&profiles))
            .and_then(|()| std::fs::write(profiles.join("default.toml"), PROFILE))
            .map_err(|e| format!("cannot write settings: {e}"))?;
        let log = std::fs::File::create(home.join("broker.log"))
            .map_err(|e| format!("cannot write the broker's log: {e}"))?;
        let mut command = command(&program, &home);
        command.args(["serve", "--detached", "--log-format", "json"]);
        let mut broker = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("cannot start the broker: {e}"))?;
        let mut said = String::new();
        let output = broker.stdout.take().expect("it was asked for");
        let _ = BufReader::new(output).read_line(&mut said);
        let (pid, made) = (broker.id(), Made { home, broker: Arc::new(Mutex::new(broker)) });
        made.remove_at_signals();
        let stage = Self { program, made, pid };
        if said.trim_end() == "ready" {
            return Ok(stage);
        }
        let log = stage.home().join("broker.log").display().to_string();
        Err(format!("the broker does not start: {}; see {log}", said.trim_end()))
    }

    /// The broker's process id.
    pub(super) fn broker(&self) -> u32 {
        self.pid
    }

    /// The directory of the tour.
    pub(super) fn home(&self) -> &Path {
        &self.made.home
    }

    /// Ends the broker. Returns the directory, if it is still there.
    pub(super) fn end(self, files: Files) -> Option<PathBuf> {
        let home = self.home().to_owned();
        // A broker that runs would make new files.
        drop(self);
        match files {
            Files::Removed => std::fs::remove_dir_all(&home).err().map(|_| home),
            Files::Kept => Some(home),
        }
    }

    /// Starts a new process.
    pub(super) fn enter(&self, name: &'static str) -> Result<Actor, Trouble> {
        let mut command = command(&self.program, self.home());
        command.args(["shell", "--json", "--no-autostart"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start a process: {e}"))?;
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Ok(Actor { name, child, input, lines, events: VecDeque::new() })
    }

    /// The calls of providers in the broker's log, in order.
    pub(super) fn provider_calls(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.home().join("broker.log")).unwrap_or_default();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == "provider-call").collect()
    }

    /// The output of `sundown status`.
    pub(super) fn status(&self) -> Result<Value, Trouble> {
        self.ask(&["status", "--json"])
    }

    /// The output of a subcommand.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<Value, Trouble> {
        let output = command(&self.program, self.home())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("cannot run {arguments:?}: {e}"))?;
        serde_json::from_slice(&output.stdout)
            .map_err(|e| format!("{arguments:?} does not answer in JSON: {e}"))
    }

    /// Writes a file into the directory of the tour, where its processes work.
    pub(super) fn file(&self, name: &str, content: &str) -> Result<(), Trouble> {
        let written = std::fs::write(self.home().join(name), content);
        written.map_err(|e| format!("cannot write {name}: {e}"))
    }

    /// The delivered messages.
    pub(super) fn delivered(&self) -> Vec<PathBuf> {
        // A message with a flag is in `cur`.
        let places =
            ["new", "cur"].map(|place| self.home().join("data/default/Maildir").join(place));
        let entries = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.made.end_broker());
    }
}

impl Made {
    /// Ends the broker. As long as the result is held, the other thread waits.
    fn end_broker(&self) -> MutexGuard<'_, Child> {
        let mut broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = broker.kill();
        let _ = broker.wait();
        broker
    }

    /// Leaves nothing behind when a signal ends the tour: the broker is detached from the terminal, and does not get it.
    fn remove_at_signals(&self) {
        // Without them a signal ends this process as it ends any other.
        let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) else { return };
        let made = self.clone();
        let wait = move || {
            let Some(signal) = signals.forever().next() else { return };
            // The tour waits for the lock when it ends, so it says nothing more.
            let _ended = made.end_broker();
            let _ = std::fs::remove_dir_all(&made.home);
            std::process::exit(128 + signal);
        };
        let _ = thread::Builder::new().name("sundown-interrupt".into()).spawn(wait);
    }
}

/// Only owners end a session, and a member that does not leave has three seconds.
const SETTINGS: &str = "[shutdown]\nshared_logoff_grace = \"3s\"\n";

/// Mail to this address is the user's, whatever the user is called here.
const PROFILE: &str = "identity = \"you@localhost\"\n";

/// Makes a fresh directory: below that of temporary files, or below `/tmp` if the path of a socket there would be too long.
fn new_home() -> io::Result<PathBuf> {
    let make =
        |directory: &Path| tempfile::Builder::new().prefix("sundown-tour-").tempdir_in(directory);
    let home = make(&std::env::temp_dir())?;
    let home = match check_socket(home.path().join(SOCKET)) {
        Ok(_) => home,
        Err(_) => make(Path::new("/tmp"))?,
    };
    Ok(home.keep())
}

fn command(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["SUNDOWN_SOCKET", "SUNDOWN_DATA_DIR", "SUNDOWN_CONFIG", "SUNDOWN_PROFILE"] {
        command.env_remove(name);
    }
    command.arg("--socket").arg(home.join(SOCKET));
    command.arg("--data-dir").arg(home.join("data"));
    command.arg("--config").arg(home.join("config.toml"));
    // Lines of the timeline name files by their names alone.
    command.current_dir(home);
    command
}

/// A process of the tour: a `sundown shell`.
pub(super) struct Actor {
    pub(super) name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    events: VecDeque<Value>,
}

impl Actor {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes it carry out a command, and waits for its reply.
    pub(super) fn does(&mut self, command: &str) -> Result<Value, Trouble> {
        self.begins(command)?;
        self.replies()
    }

    /// Makes it begin a command that may take a while.
    pub(super) fn begins(&mut self, command: &str) -> Result<(), Trouble> {
        let input = self.input.as_mut().ok_or("it has ended")?;
        writeln!(input, "{command}").map_err(|e| format!("{} does not listen: {e}", self.name))
    }

    /// Waits for the reply to its last command.
    pub(super) fn replies(&mut self) -> Result<Value, Trouble> {
        self.next(&|line| line.get("reply").is_some())
    }

    /// Waits for a notification.
    pub(super) fn hears(&mut self, what: impl Fn(&Value) -> bool) -> Result<Value, Trouble> {
        if let Some(place) = self.events.iter().position(&what) {
            return Ok(self.events[place].clone());
        }
        let heard = self.next(&|line| line.get("event").is_some() && what(line))?;
        self.events.push_back(heard.clone());
        Ok(heard)
    }

    /// How many notifications of this kind it got. A round trip first makes sure that none is under way.
    pub(super) fn heard(&mut self, what: impl Fn(&Value) -> bool) -> Result<usize, Trouble> {
        self.does("setting session=1 name=round-trip")?;
        Ok(self.events.iter().filter(|e| what(e)).count())
    }

    fn next(&mut self, wanted: &dyn Fn(&Value) -> bool) -> Result<Value, Trouble> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(line) => self.events.push_back(line),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{} did not say anything in time", self.name));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("{} has ended", self.name));
                }
            }
        }
    }

    /// Kills it, whatever it is doing.
    pub(super) fn is_killed(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.input = None;
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.is_killed();
    }
}
