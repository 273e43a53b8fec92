//! Runs the command of a profile for each notification, which it reads. A command that fails or takes too long is in the log; the
//! notification is in the Inbox in any case.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use sundown_providers::program::{self, Ended, Limit, Output, Programs};

/// The most commands that run at once.
const MOST: usize = 8;

/// How long a command may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The commands that run. They end with it.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    running: Arc<AtomicUsize>,
    programs: Programs,
}

impl Commands {
    /// Runs a command on a thread of its own.
    pub(crate) fn run(&self, profile: String, command: Vec<String>, text: Vec<u8>) {
        if self.running.fetch_add(1, Ordering::Relaxed) >= MOST {
            self.running.fetch_sub(1, Ordering::Relaxed);
            return failed(&profile, &format!("{MOST} commands run already"));
        }
        let (place, programs) = (Place(self.running.clone()), self.programs.clone());
        let name = profile.clone();
        let begun = thread::Builder::new().name("notice".into()).spawn(move || {
            let _place = place;
            match run(&command, &text, DEADLINE, &programs) {
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
        self.programs.end(Signal::KILL);
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
fn run(
    command: &[String],
    text: &[u8],
    deadline: Duration,
    programs: &Programs,
) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("there is no program")?;
    let cannot = |error: io::Error| format!("{program} cannot be run: {error}");
    let mut command = program::command(program);
    command.args(arguments).stdin(in_memory(text).map_err(cannot)?);
    let limit = Limit { time: deadline, grace: Duration::ZERO };
    match programs.run(command, limit, Output::Dropped).map_err(cannot)? {
        Ended::With(status) if status.success() => Ok(()),
        Ended::With(status) => Err(format!("{program} failed with {status}")),
        Ended::TooLong => {
            Err(format!("{program} took longer than {} s; it was ended", deadline.as_secs()))
        }
        Ended::Lost(error) => Err(cannot(error)),
    }
}

/// A file without a name, which a command can read at its own pace or not at all.
fn in_memory(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("notice", MemfdFlags::CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

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
        assert_eq!(run(&shell(&script), &text, LONG, &Programs::default()), Ok(()));
        assert_eq!(std::fs::read(file).expect("it was written"), text);
    }

    #[test]
    fn a_command_need_not_read() {
        assert_eq!(run(&shell("exit 0"), &vec![b'x'; 200_000], LONG, &Programs::default()), Ok(()));
    }

    #[test]
    fn a_command_that_fails_says_how() {
        let why = run(&shell("exit 3"), b"", LONG, &Programs::default()).expect_err("it fails");
        assert!(why.contains("/bin/sh failed with exit status: 3"), "{why}");
        let why = run(&["/no/such/program".to_owned()], b"", LONG, &Programs::default())
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
            run(&shell("sleep 1000 & wait"), b"", Duration::from_millis(10), &Programs::default());
        assert!(why.expect_err("it hangs").contains("it was ended"));
    }
}
