//! Runs the command of a profile for each notification, which it reads. A command that fails or takes too long is in the log; the
//! notification is in the Inbox in any case.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// The most commands that run at once.
const MOST: usize = 8;

/// How long a command may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The commands that run.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    running: Arc<AtomicUsize>,
}

impl Commands {
    /// Runs a command on a thread of its own.
    pub(crate) fn run(&self, profile: String, command: Vec<String>, text: Vec<u8>) {
        if self.running.fetch_add(1, Ordering::Relaxed) >= MOST {
            self.running.fetch_sub(1, Ordering::Relaxed);
            return failed(&profile, &format!("{MOST} commands run already"));
        }
        let place = Place(self.running.clone());
        let name = profile.clone();
        let begun = thread::Builder::new().name("notice".into()).spawn(move || {
            let _place = place;
            match run(&command, &text, DEADLINE) {
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
fn run(command: &[String], text: &[u8], deadline: Duration) -> Result<(), String> {
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
    let mut running = Running(running.spawn().map_err(cannot)?);
    if !running.ends_within(deadline).map_err(cannot)? {
        return Err(format!("{program} took longer than {} s; it was ended", deadline.as_secs()));
    }
    let status = running.0.wait().map_err(cannot)?;
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
struct Running(Child);

impl Running {
    fn ends_within(&self, deadline: Duration) -> io::Result<bool> {
        let end = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
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
        if let Ok(None) = self.0.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
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
        assert_eq!(run(&shell(&script), &text, LONG), Ok(()));
        assert_eq!(std::fs::read(file).expect("it was written"), text);
    }

    #[test]
    fn a_command_need_not_read() {
        assert_eq!(run(&shell("exit 0"), &vec![b'x'; 200_000], LONG), Ok(()));
    }

    #[test]
    fn a_command_that_fails_says_how() {
        let why = run(&shell("exit 3"), b"", LONG).expect_err("it fails");
        assert!(why.contains("/bin/sh failed with exit status: 3"), "{why}");
        let why = run(&["/no/such/program".to_owned()], b"", LONG).expect_err("it fails");
        assert!(why.contains("/no/such/program cannot be run"), "{why}");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let why = run(&shell("sleep 1000 & wait"), b"", Duration::from_millis(10));
        assert!(why.expect_err("it hangs").contains("it was ended"));
    }
}
