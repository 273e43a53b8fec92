//! The command that writes a secret: run by a shell, with nothing to read, and not for ever.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use zeroize::Zeroizing;

use super::secret::{MAX_SECRET, unconfigured};
use crate::Result;

/// Runs a command and gives back what it wrote. What it wrote is in no error.
pub(super) fn output(command: &str, deadline: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).process_group(0);
    // What the service manager said was for the broker.
    for told in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
        shell.env_remove(told);
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let cannot = |error| unconfigured(format!("password_command cannot be run: {error}"));
    let mut running = Running(shell.spawn().map_err(cannot)?);
    let mut written = Written::default();
    match running.wait(&mut written, Instant::now() + deadline).map_err(cannot)? {
        Some(status) if status.success() => Ok(written.into_bytes()),
        Some(status) => {
            // What it said may have the secret in it; what the shell says by this number has not.
            let why = match status.code() {
                Some(126) => ": it cannot be executed",
                Some(127) => ": a program in it was not found in the PATH of the broker",
                _ => "; run it by hand, as the broker's user, to see why",
            };
            Err(unconfigured(format!("password_command failed with {status}{why}")))
        }
        None => {
            let seconds = deadline.as_secs();
            Err(unconfigured(format!(
                "password_command took longer than {seconds} s; it was ended"
            )))
        }
    }
}

/// What was written so far. What goes beyond a secret's length is read and forgotten, so that its writer can end.
struct Written {
    bytes: Zeroizing<Vec<u8>>,
    length: usize,
}

impl Default for Written {
    fn default() -> Self {
        Self { bytes: Zeroizing::new(vec![0; MAX_SECRET]), length: 0 }
    }
}

impl Written {
    /// Reads what is there; whether there may be more later.
    fn take_from(&mut self, pipe: &mut File) -> io::Result<bool> {
        let mut rest = Zeroizing::new([0; 512]);
        loop {
            let room = &mut self.bytes[self.length..];
            let full = room.is_empty();
            match pipe.read(if full { &mut rest[..] } else { room }) {
                Ok(0) => return Ok(false),
                Ok(n) => self.length += if full { 0 } else { n },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn into_bytes(mut self) -> Zeroizing<Vec<u8>> {
        self.bytes.truncate(self.length);
        self.bytes
    }
}

/// A process that does not outlive its owner.
struct Running(Child);

impl Running {
    /// Waits for its end; `None` when that does not come in time. Something that it left running in the background may
    /// hold its output open; nobody waits for that.
    fn wait(&mut self, written: &mut Written, until: Instant) -> io::Result<Option<ExitStatus>> {
        let end = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
        let output = self.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut pipe = File::from(OwnedFd::from(output));
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let mut more = true;
        loop {
            if wait_for(&end, more.then_some(&pipe), until)? == Waited::TooLong {
                return Ok(None);
            }
            let status = self.0.try_wait()?;
            if more {
                more = written.take_from(&mut pipe)?;
            }
            if status.is_some() {
                return Ok(status);
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

#[derive(Debug, PartialEq, Eq)]
enum Waited {
    Enough,
    TooLong,
}

fn wait_for(end: &OwnedFd, pipe: Option<&File>, until: Instant) -> io::Result<Waited> {
    let mut fds = vec![PollFd::new(end, PollFlags::IN)];
    fds.extend(pipe.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(Waited::TooLong),
            Ok(_) => return Ok(Waited::Enough),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sundown_protocol::Code;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn what_a_command_writes_is_read() {
        assert_eq!(**output("echo hunter2; echo more", LONG).expect("output"), *b"hunter2\nmore\n");
        assert!(output("true", LONG).expect("output").is_empty());
        // Nothing to read: it ends at once and does not wait for a person.
        assert!(output("cat", LONG).expect("output").is_empty());
        assert_eq!(**output("echo x; exec >&-; exec sleep 0", LONG).expect("output"), *b"x\n");
    }

    #[test]
    fn a_command_that_fails_is_told_without_its_words() {
        let error = output("echo hunter2; echo hunter2 >&2; exit 3", LONG).expect_err("it fails");
        assert_eq!(error.code, Code::E_UNCONFIGURED);
        assert!(error.message.contains('3') && !error.message.contains("hunter2"));
        assert!(output("/no/such/program", LONG).is_err());
        assert!(output("kill -9 $$", LONG).is_err());
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_started() {
        let began = Instant::now();
        let error = output("sleep 1000 & echo hunter2; wait", Duration::from_millis(50));
        let error = error.expect_err("it hangs");
        assert!(error.message.contains("ended") && !error.message.contains("hunter2"));
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_stays_in_the_background_is_not_waited_for() {
        let began = Instant::now();
        let mut answer = output("sleep 3 & echo hunter2", LONG).expect("output");
        assert_eq!(**answer, *b"hunter2\n");
        answer.clear();
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_command_that_writes_too_much_ends_all_the_same() {
        let much = output("head -c 1000000 /dev/zero", LONG).expect("output");
        assert_eq!(much.len(), MAX_SECRET);
    }
}
