//! Runs the command of a profile for each notification, which it reads. A command that fails or takes too long is in the log; the
//! notification is in the Inbox in any case.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// The most commands that run at once.
const MOST: usize = 8;

/// How long a command may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The commands that run. They end with it.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    running: Arc<AtomicUsize>,
    groups: Groups,
}

/// The process groups of the commands that run.
type Groups = Arc<Mutex<BTreeSet<i32>>>;

impl Commands {
    /// Runs a command on a thread of its own.
    pub(crate) fn run(&self, profile: String, command: Vec<String>, text: Vec<u8>) {
        if self.running.fetch_add(1, Ordering::Relaxed) >= MOST {
            self.running.fetch_sub(1, Ordering::Relaxed);
            return failed(&profile, &format!("{MOST} commands run already"));
        }
        let (place, groups) = (Place(self.running.clone()), Arc::clone(&self.groups));
        let name = profile.clone();
        let begun = thread::Builder::new().name("notice".into()).spawn(move || {
            let _place = place;
            match run(&command, &text, DEADLINE, &groups) {
                Ok(()) => {
                    tracing::info!(event = "notice-command", profile, "a notification was read");
                }
                Err(why) => failed(&profile, &why),
            }
        });
        if let Err(error) = begun {
            failed(&name, &format!("its thread cannot be started: {error}"));
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        for group in self.groups.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(group) = Pid::from_raw(*group) {
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
    }
}

/// A place among the commands that run.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn failed(profile: &str, why: &str) {
    tracing::warn!(
        event = "notice-command",
        profile,
        why,
        "the command for a notification failed; the notification is in the Inbox"
    );
}

/// Runs a command to its end. What it writes is thrown away.
fn run(command: &[String], text: &[u8], deadline: Duration, groups: &Groups) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("there is no program")?;
    let cannot = |error: io::Error| format!("{program} cannot be run: {error}");
    let mut running = Command::new(program);
    running.args(arguments).process_group(0);
    // What the service manager said was for the broker.
    for told in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
        running.env_remove(told);
    }
    let input = in_memory(text).map_err(cannot)?;
    running.stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running::new(running.spawn().map_err(cannot)?, groups);
    if !running.ends_within(deadline).map_err(cannot)? {
        return Err(format!("{program} took longer than {} s; it was ended", deadline.as_secs()));
    }
    let status = running.wait().map_err(cannot)?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed with {status}")) }
}

/// A file without a name, which a command can read at its own pace or not at all.
fn in_memory(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("notice", MemfdFlags::CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// A process that is ended, with what it started, if it is not waited for to its end.
struct Running {
    child: Child,
    groups: Groups,
}

impl Running {
    fn new(child: Child, groups: &Groups) -> Self {
        let running = Self { child, groups: Arc::clone(groups) };
        running.groups().insert(running.group());
        running
    }

    fn group(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    fn groups(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its end. Its number may be another process's from then on.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        self.groups().remove(&self.group());
        self.child.wait()
    }

    fn ends_within(&self, deadline: Duration) -> io::Result<bool> {
        let end = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        let timeout = Timespec::try_from(deadline).map_err(|_| io::ErrorKind::InvalidInput)?;
        loop {
            match poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&timeout)) {
                Ok(ended) => return Ok(ended > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.groups().contains(&self.group()) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_command_reads_the_notification() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("read");
        let script = format!("cat > {}", file.display());
        let text = vec![b'x'; 200_000];
        assert_eq!(run(&shell(&script), &text, LONG, &Groups::default()), Ok(()));
        assert_eq!(std::fs::read(file).expect("it was written"), text);
    }

    #[test]
    fn a_command_need_not_read() {
        assert_eq!(run(&shell("exit 0"), &vec![b'x'; 200_000], LONG, &Groups::default()), Ok(()));
    }

    #[test]
    fn a_command_that_fails_says_how() {
        let why = run(&shell("exit 3"), b"", LONG, &Groups::default()).expect_err("it fails");
        assert!(why.contains("/bin/sh failed with exit status: 3"), "{why}");
        let why = run(&["/no/such/program".to_owned()], b"", LONG, &Groups::default())
            .expect_err("it fails");
        assert!(why.contains("/no/such/program cannot be run"), "{why}");
    }

    #[test]
    fn a_command_ends_with_the_broker() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pid");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        let commands = Commands::default();
        let script = format!("echo $$ > {}; sleep 1000 & wait", pipe.display());
        commands.run("work".to_owned(), shell(&script), Vec::new());
        let pid = std::fs::read_to_string(&pipe).expect("it runs");
        let pid = Pid::from_raw(pid.trim().parse().expect("a number")).expect("it is one");
        let end = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
        drop(commands);
        let ended = poll(&mut [PollFd::new(&end, PollFlags::IN)], None).expect("it ends");
        assert_eq!(ended, 1);
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let why =
            run(&shell("sleep 1000 & wait"), b"", Duration::from_millis(10), &Groups::default());
        assert!(why.expect_err("it hangs").contains("it was ended"));
    }
}
