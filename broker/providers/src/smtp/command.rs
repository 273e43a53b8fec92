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
use crate::headers::clean;

/// The most bytes of standard error that are looked at, the last ones.
const MAX_SAID: usize = 2 << 10;

/// The most lines of them that are shown.
const MAX_LINES: usize = 3;

/// The most characters of each of these.
const LONGEST_LINE: usize = 160;

/// Runs a command and gives back what it wrote. What it wrote to standard output is in no error.
pub(super) fn output(command: &str, deadline: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).process_group(0);
    // What the service manager said was for the broker.
    for told in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
        shell.env_remove(told);
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let cannot = |error| unconfigured(format!("password_command cannot be run: {error}"));
    let mut running = Running(shell.spawn().map_err(cannot)?);
    let (mut written, mut said) = (Written::default(), Said::default());
    let ended = running.wait(&mut written, &mut said, Instant::now() + deadline).map_err(cannot)?;
    let words = || said.words(command, &written).map(|words| format!(": {words}"));
    match ended {
        Some(status) if status.success() => Ok(written.into_bytes()),
        Some(status) => {
            // By these two numbers the shell speaks, which repeats the command.
            let why = match status.code() {
                Some(126) => ": it cannot be executed".to_owned(),
                Some(127) => ": a program in it was not found in the PATH of the broker".to_owned(),
                _ => words().unwrap_or_else(|| {
                    "; run it by hand, as the broker's user, to see why".to_owned()
                }),
            };
            Err(unconfigured(format!("password_command failed with {status}{why}")))
        }
        None => {
            let (seconds, words) = (deadline.as_secs(), words().unwrap_or_default());
            Err(unconfigured(format!(
                "password_command took longer than {seconds} s; it was ended{words}"
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

/// The last that was said on standard error.
#[derive(Default)]
struct Said {
    bytes: Zeroizing<Vec<u8>>,
    /// There was more before them.
    is_cut: bool,
}

impl Said {
    /// Reads what is there; whether there may be more later.
    fn take_from(&mut self, pipe: &mut File) -> io::Result<bool> {
        let mut piece = Zeroizing::new([0; 512]);
        loop {
            match pipe.read(&mut piece[..]) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.bytes.extend_from_slice(&piece[..n]);
                    let beyond = self.bytes.len().saturating_sub(MAX_SAID);
                    self.bytes.drain(..beyond);
                    self.is_cut |= beyond > 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Its last lines in one, as they may be shown: without those of the shell, which repeats the command, without those that have
    /// something of standard output in them, where the secret is, and without words of the command behind the program's name.
    fn words(&self, command: &str, written: &Written) -> Option<String> {
        // Half a line may have half a secret in it.
        let whole = if self.is_cut { self.bytes.iter().position(|b| *b == b'\n') } else { Some(0) };
        let text = String::from_utf8_lossy(&self.bytes[whole?..]);
        let secret = String::from_utf8_lossy(&written.bytes[..written.length]);
        let secrets: Vec<_> = secret.lines().map(str::trim).filter(|s| !s.is_empty()).collect();
        let may_be_shown = |line: &&str| {
            let of_the_shell = ["sh:", "/bin/sh:"].iter().any(|name| line.starts_with(name));
            !line.is_empty() && !of_the_shell && !secrets.iter().any(|one| line.contains(one))
        };
        let hidden = arguments(command);
        let hide = |line: &str| hidden.iter().fold(line.to_owned(), |l, word| l.replace(word, "…"));
        let short = |line: String| line.chars().take(LONGEST_LINE).collect::<String>();
        let lines = text.lines().map(str::trim).filter(may_be_shown).map(hide).map(short);
        let lines: Vec<_> = lines.collect();
        let last = &lines[lines.len().saturating_sub(MAX_LINES)..];
        (!last.is_empty()).then(|| clean(&last.join("; ")))
    }
}

/// The words of a command behind its first one, the longest first. Shorter ones than three characters say nothing.
fn arguments(command: &str) -> Vec<&str> {
    let first = command.split_whitespace().next().filter(|word| !word.contains('='));
    let rest = first.map_or(command, |first| &command.trim_start()[first.len()..]);
    let ends = |c: char| c.is_whitespace() || "'\"`;|&()<>${}=\\".contains(c);
    let mut words: Vec<_> = rest.split(ends).filter(|word| word.chars().count() >= 3).collect();
    words.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
    words
}

/// A process that does not outlive its owner.
struct Running(Child);

impl Running {
    /// Waits for its end; `None` when that does not come in time. Something that it left running in the background may
    /// hold its output open; nobody waits for that.
    fn wait(
        &mut self,
        written: &mut Written,
        said: &mut Said,
        until: Instant,
    ) -> io::Result<Option<ExitStatus>> {
        let end = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
        let mut output = Some(unblocked(self.0.stdout.take())?);
        let mut errors = Some(unblocked(self.0.stderr.take())?);
        loop {
            if wait_for(&end, [output.as_ref(), errors.as_ref()], until)? == Waited::TooLong {
                return Ok(None);
            }
            let status = self.0.try_wait()?;
            if let Some(pipe) = &mut output
                && !written.take_from(pipe)?
            {
                output = None;
            }
            if let Some(pipe) = &mut errors
                && !said.take_from(pipe)?
            {
                errors = None;
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

fn unblocked(pipe: Option<impl Into<OwnedFd>>) -> io::Result<File> {
    let pipe = File::from(pipe.ok_or(io::ErrorKind::BrokenPipe)?.into());
    fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    Ok(pipe)
}

#[derive(Debug, PartialEq, Eq)]
enum Waited {
    Enough,
    TooLong,
}

fn wait_for(end: &OwnedFd, pipes: [Option<&File>; 2], until: Instant) -> io::Result<Waited> {
    let mut fds = vec![PollFd::new(end, PollFlags::IN)];
    fds.extend(
        pipes
            .into_iter()
            .flatten()
            .map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)),
    );
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

    fn failed(command: &str) -> String {
        let error = output(command, LONG).expect_err("it fails");
        assert_eq!(error.code, Code::E_UNCONFIGURED);
        error.message
    }

    /// What a program that does this says; its words are not those of the command.
    fn said_by(does: &str, arguments: &str) -> String {
        let script = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(script.path(), does).expect("it is written");
        failed(&format!("sh {} {arguments}", script.path().display()))
    }

    #[test]
    fn a_command_that_fails_is_told_without_a_secret() {
        // What is in the command line may be meant for nobody else, and the shell repeats it.
        for command in [
            "echo hunter2; echo it is hunter2 >&2; exit 3",
            "echo it is hunter2 >&2; exit 3",
            "hunter2",
            "hunter2; false",
            "/no/such/hunter2",
            "echo ${hunter2!}",
            "echo 'hunter2",
            "P=hunter2 sh -c 'echo it is $P >&2'; false",
            "echo --password=hunter2 >&2; exit 9",
        ] {
            let said = failed(command);
            assert!(!said.contains("hunter2"), "{command}: {said}");
        }
        let said = said_by("echo hunter2; echo it is hunter2 >&2; exit 3", "");
        assert!(said.contains('3') && !said.contains("hunter2"), "{said}");
        assert!(failed("kill -9 $$").contains("by hand"));
    }

    #[test]
    fn a_command_that_fails_is_told_with_its_words() {
        let said = said_by(
            "echo one >&2; echo two >&2; echo >&2; printf 'three\\033\\nfour\\n' >&2; exit 1",
            "",
        );
        assert!(said.ends_with("exit status: 1: two; three\u{fffd}; four"), "{said}");
        let said = said_by("echo \"$1: no token for $1\" >&2; exit 2", "anna@work.example");
        assert!(said.ends_with("exit status: 2: …: no token for …"), "{said}");
        // However much it says, it ends, and the last of it is shown.
        let much = "head -c 1000000 /dev/zero >&2; echo >&2; echo the last >&2; exit 1";
        let said = said_by(much, "");
        assert!(said.ends_with("exit status: 1: the last"), "{said}");
        let said = said_by("printf '%500s\\n' x | tr ' ' y >&2; echo the last >&2; exit 1", "");
        assert!(said.contains(": yyyy") && said.ends_with("y; the last"), "{said}");
        let hangs = output("echo a b >&2; sleep 1000", Duration::from_millis(500));
        let said = hangs.expect_err("it hangs").message;
        assert!(said.ends_with("it was ended: a b"), "{said}");
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
