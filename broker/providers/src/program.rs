//! Runs programs that settings name: in a process group of their own, for a limited time, and not longer than their owner wants.
//!
//! ```text
//!  started ─► runs ─► ended, with a status
//!               ├─ its time is over ──────────► TERM ─► KILL, after a grace
//!               └─ its owner ends ([`Programs::end`]): the signal that the owner says
//! ```
//!
//! Signals go to the group, so they reach what a program has started, too. Something that stays in the background may hold the output
//! of its program open: the end of the program counts, and not that of its output.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use zeroize::Zeroizing;

/// How much of what a program writes is read at once, in bytes.
const PIECE: usize = 4 << 10;

/// How much is read behind the end of a program, in bytes: as much as a pipe holds. What stays in the background may write for ever.
const REST: usize = 64 << 10;

/// A command for [`Programs::run`]. What the service manager told the broker is not in its environment.
///
/// ```
/// let command = sundown_providers::program::command("/usr/bin/true");
/// assert_eq!(command.get_program(), "/usr/bin/true");
/// ```
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for told in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
        command.env_remove(told);
    }
    command
}

/// What gets the output of a program, in pieces.
pub type Take<'a> = &'a mut dyn FnMut(&[u8]);

/// What becomes of what a program writes.
pub enum Output<'a> {
    /// It is thrown away.
    Dropped,
    /// This function gets the standard output in pieces. The standard error is thrown away.
    Standard(Take<'a>),
    /// This function gets both in pieces, in the order in which they are written.
    Both(Take<'a>),
    /// The first function gets the standard output, the second the standard error.
    Apart(Take<'a>, Take<'a>),
}

/// How long a program may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// After this time it gets the signal TERM.
    pub time: Duration,
    /// So much later it gets the signal KILL.
    pub grace: Duration,
}

/// How a program ended that was started.
#[derive(Debug)]
pub enum Ended {
    /// By itself, or by a signal that was not for its time.
    With(ExitStatus),
    /// Its time was over.
    TooLong,
    /// It could not be waited for, and was killed.
    Lost(io::Error),
}

/// The programs that run for one owner. Clones share them.
///
/// ```
/// use std::process::Stdio;
/// use std::time::Duration;
///
/// use sundown_providers::program::{Ended, Limit, Output, Programs, command};
///
/// let mut echo = command("/bin/echo");
/// echo.arg("hello").stdin(Stdio::null());
/// let limit = Limit { time: Duration::from_secs(60), grace: Duration::from_secs(1) };
/// let mut said = Vec::new();
/// let mut take = |piece: &[u8]| said.extend_from_slice(piece);
/// let ended = Programs::default().run(echo, limit, Output::Standard(&mut take)).unwrap();
/// assert!(matches!(ended, Ended::With(status) if status.success()));
/// assert_eq!(said, b"hello\n");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Programs(Arc<Mutex<Groups>>);

/// The process groups of programs that run.
#[derive(Debug, Default)]
struct Groups {
    running: BTreeSet<i32>,
    /// What ended them, if their owner has ended.
    ended: Option<Signal>,
}

impl Programs {
    /// Runs a program to its end. The caller sets its standard input. An error means that the program was not started.
    pub fn run(&self, command: Command, limit: Limit, output: Output<'_>) -> io::Result<Ended> {
        let (running, reader) = self.start(command, output)?;
        Ok(Self::wait(running, reader, limit).unwrap_or_else(Ended::Lost))
    }

    fn wait(mut running: Running, mut reader: Reader<'_>, limit: Limit) -> io::Result<Ended> {
        let until = after(limit.time);
        if running.ends_by(until, &mut reader)? {
            return running.wait().map(Ended::With);
        }
        running.signal(Signal::TERM);
        running.ends_by(after(limit.grace), &mut reader)?;
        // What it has started may not have ended with it. It is not waited for yet, so the group is still its own.
        running.signal(Signal::KILL);
        running.wait().map(|_| Ended::TooLong)
    }

    /// Ends all programs that run, and those that are started later, by this signal.
    pub fn end(&self, signal: Signal) {
        let mut groups = self.groups();
        groups.ended = Some(signal);
        for group in groups.running.iter().filter_map(|group| Pid::from_raw(*group)) {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Whether their owner has ended them.
    pub fn are_ended(&self) -> bool {
        self.groups().ended.is_some()
    }

    fn start<'a>(
        &self,
        mut command: Command,
        output: Output<'a>,
    ) -> io::Result<(Running, Reader<'a>)> {
        command.process_group(0);
        let reader = match output {
            Output::Dropped => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
                Reader::nothing()
            }
            Output::Standard(take) => {
                let (reader, writer) = io::pipe()?;
                command.stdout(writer).stderr(Stdio::null());
                Reader::of(reader, take)?
            }
            Output::Both(take) => {
                let (reader, writer) = io::pipe()?;
                command.stdout(writer.try_clone()?).stderr(writer);
                Reader::of(reader, take)?
            }
            Output::Apart(output, errors) => {
                let (reader, writer) = io::pipe()?;
                let (other, errors_writer) = io::pipe()?;
                command.stdout(writer).stderr(errors_writer);
                Reader::of(reader, output)?.and(other, errors)?
            }
        };
        let child = command.spawn()?;
        let running = Running { child, all: self.clone() };
        let ended = {
            let mut groups = self.groups();
            groups.running.insert(running.group());
            groups.ended
        };
        if let Some(signal) = ended {
            running.signal(signal);
        }
        // With the command its end of the pipe closes.
        drop(command);
        Ok((running, reader))
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program that is killed, with what it has started, if it is not waited for to its end.
struct Running {
    child: Child,
    all: Programs,
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn group(&self) -> i32 {
        self.pid().as_raw_nonzero().get()
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid(), signal);
    }

    /// Waits for its end. Its number may be another process's from then on.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        self.all.groups().running.remove(&self.group());
        self.child.wait()
    }

    /// Reads what it writes, and says whether it has ended by then.
    fn ends_by(&self, until: Instant, reader: &mut Reader<'_>) -> io::Result<bool> {
        let end = pidfd_open(self.pid(), PidfdFlags::empty())?;
        loop {
            let waited = wait_for(&end, reader, until)?;
            match waited {
                Waited::TooLong => return Ok(false),
                Waited::Ended => {
                    reader.finish()?;
                    return Ok(true);
                }
                Waited::Wrote => {
                    reader.read()?;
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.all.groups().running.contains(&self.group()) {
            self.signal(Signal::KILL);
            let _ = self.wait();
        }
    }
}

/// What reads the output of a program.
struct Reader<'a> {
    /// Each until its end.
    pipes: Vec<(File, Take<'a>)>,
}

impl<'a> Reader<'a> {
    fn nothing() -> Self {
        Self { pipes: Vec::new() }
    }

    fn of(pipe: PipeReader, take: Take<'a>) -> io::Result<Self> {
        Self::nothing().and(pipe, take)
    }

    fn and(mut self, pipe: PipeReader, take: Take<'a>) -> io::Result<Self> {
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        self.pipes.push((File::from(OwnedFd::from(pipe)), take));
        Ok(self)
    }

    /// Reads a piece of each, if there is one, and says how much that is.
    fn read(&mut self) -> io::Result<usize> {
        // It may be a secret.
        let mut piece = Zeroizing::new([0; PIECE]);
        let (mut all, mut wrong) = (0, None);
        self.pipes.retain_mut(|(pipe, take)| match pipe.read(&mut piece[..]) {
            Ok(0) => false,
            Ok(n) => {
                take(&piece[..n]);
                all += n;
                true
            }
            Err(error) => {
                use io::ErrorKind::{Interrupted, WouldBlock};
                if !matches!(error.kind(), WouldBlock | Interrupted) {
                    wrong = Some(error);
                }
                true
            }
        });
        wrong.map_or(Ok(all), Err)
    }

    /// Reads what a program has written that has ended.
    fn finish(&mut self) -> io::Result<()> {
        let mut all = 0;
        while all < REST {
            match self.read()? {
                0 => break,
                n => all += n,
            }
        }
        Ok(())
    }
}

/// So much later. What the clock cannot say is as good as never.
fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(1 << 32))
}

#[derive(Debug, PartialEq, Eq)]
enum Waited {
    Ended,
    Wrote,
    TooLong,
}

fn wait_for(end: &OwnedFd, reader: &Reader<'_>, until: Instant) -> io::Result<Waited> {
    let mut fds = vec![PollFd::new(end, PollFlags::IN)];
    let pipes = reader.pipes.iter();
    fds.extend(pipes.map(|(pipe, _)| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(Waited::TooLong),
            // Its end counts also if there is more to read than its time suffices for.
            Ok(_) if !fds[0].revents().is_empty() => return Ok(Waited::Ended),
            Ok(_) if left.is_zero() => return Ok(Waited::TooLong),
            Ok(_) => return Ok(Waited::Wrote),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::path::{Path, PathBuf};

    use super::*;

    const LONG: Limit = Limit { time: Duration::from_secs(60), grace: Duration::from_secs(60) };

    fn shell(script: &str) -> Command {
        let mut shell = command("/bin/sh");
        shell.arg("-c").arg(script).stdin(Stdio::null());
        shell
    }

    /// How a script ended, and what it wrote to both of its outputs.
    fn both(script: &str, limit: Limit) -> (Ended, Vec<u8>) {
        let mut said = Vec::new();
        let mut take = |piece: &[u8]| said.extend_from_slice(piece);
        let ended = Programs::default().run(shell(script), limit, Output::Both(&mut take));
        (ended.expect("it runs"), said)
    }

    fn code(ended: &Ended) -> Option<i32> {
        match ended {
            Ended::With(status) => status.code(),
            Ended::TooLong | Ended::Lost(_) => None,
        }
    }

    #[test]
    fn what_is_written_is_read_in_its_order() {
        let (ended, said) = both("echo a; echo b >&2; echo c; exit 3", LONG);
        assert_eq!((code(&ended), &said[..]), (Some(3), &b"a\nb\nc\n"[..]));
        let mut said = Vec::new();
        let mut take = |piece: &[u8]| said.extend_from_slice(piece);
        let script = shell("echo a; echo b >&2");
        let ended = Programs::default().run(script, LONG, Output::Standard(&mut take));
        assert_eq!((code(&ended.expect("it runs")), &said[..]), (Some(0), &b"a\n"[..]));
        let ended = Programs::default().run(shell("echo a; exit 4"), LONG, Output::Dropped);
        assert_eq!(code(&ended.expect("it runs")), Some(4));
    }

    #[test]
    fn everything_is_read_however_much_it_is() {
        let (ended, said) = both("head -c 3000000 /dev/zero", LONG);
        assert_eq!((code(&ended), said.len()), (Some(0), 3_000_000));
    }

    /// The program closes its output long before it ends.
    #[test]
    fn the_end_of_the_output_is_not_the_end() {
        let (ended, said) = both("echo a; exec >&- 2>&-; exec sh -c 'exit 5'", LONG);
        assert_eq!((code(&ended), &said[..]), (Some(5), &b"a\n"[..]));
    }

    /// One that holds the output open, and one that writes into it without an end.
    #[test]
    fn what_stays_in_the_background_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        for background in ["sleep 1000", "yes"] {
            let pid = dir.path().join("pid");
            let script = format!("{background} & echo $! > {}", pid.display());
            let (ended, _) = both(&script, LONG);
            assert_eq!(code(&ended), Some(0), "{background}");
            let pid = std::fs::read_to_string(&pid).expect("a number");
            let pid = Pid::from_raw(pid.trim().parse().expect("a number")).expect("it is one");
            // `yes` may have ended with the pipe.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    /// A pipe for a script and what it has started to hold open. When it ends, none of them is left.
    struct Held {
        path: PathBuf,
        end: File,
    }

    impl Held {
        fn new(dir: &Path) -> Self {
            let path = dir.join("held");
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).expect("a pipe");
            // A script that was ended before it opened the pipe must not leave its reader waiting.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let end = rustix::fs::open(&path, flags, 0.into()).expect("opened");
            fcntl_setfl(&end, OFlags::empty()).expect("it waits from now on");
            Self { path, end: File::from(end) }
        }

        fn wait_for_end(mut self) {
            let mut said = Vec::new();
            self.end.read_to_end(&mut said).expect("it ends");
            assert!(said.is_empty());
        }
    }

    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn a_program_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Held::new(dir.path());
        let script = format!("exec 3> {}; sleep 1000 & echo x; wait", held.path.display());
        let (ended, _) = both(&script, Limit { time: SHORT, ..LONG });
        assert!(matches!(ended, Ended::TooLong), "{ended:?}");
        held.wait_for_end();
    }

    #[test]
    fn a_program_whose_time_is_over_may_end_by_itself() {
        let script = "trap 'echo bye; exit 0' TERM; sleep 1000 & wait";
        // On a busy machine a shell may not have come to its trap when its time is over.
        let says = |times: u32| {
            let (ended, said) = both(script, Limit { time: SHORT * times, ..LONG });
            assert!(matches!(ended, Ended::TooLong), "{ended:?}");
            said == b"bye\n"
        };
        assert!([1, 10, 100].into_iter().any(says));
    }

    /// Of more than a pipe holds by itself, behind the end of a program not everything is read.
    #[test]
    fn the_rest_is_bounded() {
        let (pipe, mut writer) = io::pipe().expect("a pipe");
        rustix::pipe::fcntl_setpipe_size(&writer, 4 * REST).expect("a large one");
        writer.write_all(&vec![b'x'; 3 * REST]).expect("there is room");
        let mut all = 0;
        let mut take = |piece: &[u8]| all += piece.len();
        Reader::of(pipe, &mut take).expect("a reader").finish().expect("read");
        assert_eq!(all, REST);
    }

    /// Also where there is always something to read.
    #[test]
    fn a_time_is_over_when_it_is_over() {
        let (pipe, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(b"x").expect("written");
        let mut take = |_: &[u8]| {};
        let reader = Reader::of(pipe, &mut take).expect("a reader");
        let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).expect("it runs");
        let waits = |until| wait_for(&own, &reader, until).expect("waited");
        assert_eq!(waits(Instant::now()), Waited::TooLong);
        assert_eq!(waits(Instant::now() + LONG.time), Waited::Wrote);
    }

    /// However much it writes to either, neither holds it up, and neither is taken for the other.
    #[test]
    fn output_and_errors_are_told_apart() {
        let script =
            "head -c 200000 /dev/zero | tr '\\0' e >&2; head -c 200000 /dev/zero | tr '\\0' o";
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let apart = Output::Apart(&mut |piece| output.extend_from_slice(piece), &mut |piece| {
            errors.extend_from_slice(piece);
        });
        let ended = Programs::default().run(shell(script), LONG, apart).expect("it runs");
        assert!(matches!(ended, Ended::With(status) if status.success()), "{ended:?}");
        assert_eq!((output, errors), (vec![b'o'; 200_000], vec![b'e'; 200_000]));
    }

    /// It ignores TERM, and so does what it has started.
    #[test]
    fn a_program_that_does_not_listen_is_killed() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Held::new(dir.path());
        let script =
            format!("trap '' TERM; exec 3> {}; sleep 1000 & sleep 1000", held.path.display());
        let (ended, _) = both(&script, Limit { time: SHORT, grace: SHORT });
        assert!(matches!(ended, Ended::TooLong), "{ended:?}");
        held.wait_for_end();
    }

    /// It ends at TERM and leaves something behind that does not.
    #[test]
    fn what_outlives_the_time_of_its_program_is_killed() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Held::new(dir.path());
        let script = format!(
            "exec 3> {}; (trap '' TERM; sleep 1000) & exec sleep 1000",
            held.path.display()
        );
        let (ended, _) = both(&script, Limit { time: SHORT, ..LONG });
        assert!(matches!(ended, Ended::TooLong), "{ended:?}");
        held.wait_for_end();
    }

    /// A program that never stops writing is ended at its time.
    #[test]
    fn a_program_that_writes_without_an_end_is_ended() {
        let limit = Limit { time: SHORT, grace: SHORT };
        let mut most = 0;
        let mut take = |piece: &[u8]| most = most.max(piece.len());
        let ended = Programs::default().run(shell("yes"), limit, Output::Both(&mut take));
        assert!(matches!(ended, Ok(Ended::TooLong)), "{ended:?}");
        assert!(most <= PIECE, "{most}");
    }

    #[test]
    fn programs_end_with_their_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("told");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("a pipe");
        let programs = Programs::default();
        let script = shell(&format!("echo x > {}; sleep 1000 & wait", pipe.display()));
        let runs = {
            let programs = programs.clone();
            std::thread::spawn(move || programs.run(script, LONG, Output::Dropped))
        };
        assert_eq!(std::fs::read(&pipe).expect("it runs"), b"x\n");
        assert!(!programs.are_ended());
        programs.end(Signal::TERM);
        let signal = |ended: io::Result<Ended>| match ended.expect("it ran") {
            Ended::With(status) => status.signal(),
            Ended::TooLong | Ended::Lost(_) => None,
        };
        assert_eq!(signal(runs.join().expect("no panic")), Some(Signal::TERM.as_raw()));
        assert!(programs.are_ended());
        // Nor does one that is started after that go on.
        programs.end(Signal::KILL);
        let late = programs.run(shell("sleep 1000"), LONG, Output::Dropped);
        assert_eq!(signal(late), Some(Signal::KILL.as_raw()));
        assert!(programs.groups().running.is_empty());
    }

    #[test]
    fn the_service_manager_speaks_to_the_broker_alone() {
        let command = command("/bin/x");
        for name in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
            let is_removed = command.get_envs().any(|(n, value)| n == name && value.is_none());
            assert!(is_removed, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_started_is_an_error() {
        let missing = Programs::default().run(command("/no/such/x"), LONG, Output::Dropped);
        assert_eq!(missing.expect_err("it is not there").kind(), io::ErrorKind::NotFound);
    }
}
