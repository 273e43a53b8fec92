//! Runs the commands that profiles have for notifications and for new mail.
//!
//! ```text
//!  command ──a place is free──► runs on a thread of its own ──ends──► the next one that waits runs there
//!          ──none is free, there is room──► waits
//!          ──no room──► dropped; the first one is in the log
//! ```
//!
//! A command has a minute. One that fails or takes longer is in the log and is not run again: the message that it is about is in the
//! Inbox in any case. No shell is used. All commands end with the broker.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use sundown_core::provider::News;
use sundown_protocol::EntryId;
use sundown_providers::program::{self, Ended, Limit, Output, Programs};

/// How long a command may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The most bytes of a text in a variable of a command. A subject may have megabytes.
const MOST_TEXT: usize = 1_000;

/// What commands are run for. Each purpose has places of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `[notices] command`: it reads a notification.
    Notice,
    /// `[inbox] on_new_mail`: its environment describes a message.
    Mail,
}

impl Purpose {
    /// The most commands that run at once.
    fn places(self) -> usize {
        match self {
            Self::Notice => 8,
            Self::Mail => 4,
        }
    }

    /// The most commands that wait for a place. Notifications are long, and few come in a minute.
    fn room(self) -> usize {
        match self {
            Self::Notice => 0,
            Self::Mail => 256,
        }
    }

    /// The name of a thread.
    fn thread(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Mail => "new-mail",
        }
    }
}

/// A command to be run.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) purpose: Purpose,
    pub(crate) profile: String,
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
    /// Variables besides those of the broker's environment.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// What it reads; `None` for nothing.
    pub(crate) input: Option<Vec<u8>>,
}

impl Command {
    /// The command of a profile for a notification, which it reads.
    pub(crate) fn for_notice(profile: String, words: Vec<String>, text: Vec<u8>) -> Self {
        let purpose = Purpose::Notice;
        Self { purpose, profile, words, variables: Vec::new(), input: Some(text) }
    }

    /// The command of a profile for new mail in its Inbox. Programs that it starts talk to the broker with this socket.
    pub(crate) fn for_mail(
        profile: String,
        words: Vec<String>,
        (entry, news): (EntryId, &News),
        socket: String,
    ) -> Self {
        let variables = vec![
            ("SUNDOWN_EVENT", "new-mail".to_owned()),
            ("SUNDOWN_SOCKET", socket),
            ("SUNDOWN_PROFILE", profile.clone()),
            ("SUNDOWN_ENTRY", entry.to_string()),
            ("SUNDOWN_FOLDER", "inbox".to_owned()),
            ("SUNDOWN_FROM", plain(&news.from)),
            ("SUNDOWN_SUBJECT", plain(&news.subject)),
        ];
        Self { purpose: Purpose::Mail, profile, words, variables, input: None }
    }
}

/// A text in one line, without control characters, and not too long for a variable.
fn plain(text: &str) -> String {
    let most = text.len().min(MOST_TEXT);
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].replace(char::is_control, " ")
}

/// The commands that run and wait. They end with it.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    notices: Arc<Mutex<Places>>,
    mail: Arc<Mutex<Places>>,
    programs: Programs,
}

/// The places of one purpose.
#[derive(Debug, Default)]
struct Places {
    /// How many are taken.
    running: usize,
    waiting: VecDeque<Command>,
    /// How many commands were dropped since there was last room.
    dropped: u64,
}

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It has a place, and runs.
    Runs,
    Waits,
    /// There is no room for it. The number counts those since there was.
    Dropped(u64),
}

impl Places {
    fn take(&mut self, purpose: Purpose) -> Taken {
        let taken = if self.running < purpose.places() {
            self.running += 1;
            Taken::Runs
        } else if self.waiting.len() < purpose.room() {
            Taken::Waits
        } else {
            self.dropped += 1;
            return Taken::Dropped(self.dropped);
        };
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            tracing::info!(event = event(purpose), dropped, "there is room for commands again");
        }
        taken
    }

    /// The next command for a place whose command has ended. Without one the place is free.
    fn next(&mut self) -> Option<Command> {
        let next = self.waiting.pop_front();
        self.running -= usize::from(next.is_none());
        next
    }
}

impl Commands {
    /// Runs a command, now or when a place is free.
    pub(crate) fn run(&self, command: Command) {
        let purpose = command.purpose;
        let places = match purpose {
            Purpose::Notice => &self.notices,
            Purpose::Mail => &self.mail,
        };
        {
            let mut places = locked(places);
            match places.take(purpose) {
                Taken::Runs => {}
                Taken::Waits => return places.waiting.push_back(command),
                Taken::Dropped(1) => return too_many(&command),
                Taken::Dropped(_) => return,
            }
        }
        let (profile, programs, of_thread) =
            (command.profile.clone(), self.programs.clone(), Arc::clone(places));
        let serve = move || {
            let mut next = Some(command);
            while let Some(command) = next {
                said(&command, run(&command, DEADLINE, &programs));
                next = locked(&of_thread).next();
            }
        };
        if let Err(error) = thread::Builder::new().name(purpose.thread().into()).spawn(serve) {
            // The commands that wait are run in the places that are taken; without one none waits.
            locked(places).running -= 1;
            failed(purpose, &profile, &format!("its thread cannot be started: {error}"));
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        for places in [&self.notices, &self.mail] {
            locked(places).waiting.clear();
        }
        self.programs.end(Signal::KILL);
    }
}

fn locked(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

fn event(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Notice => "notice-command",
        Purpose::Mail => "mail-command",
    }
}

fn said(command: &Command, result: Result<(), String>) {
    let Command { purpose, profile, .. } = command;
    match (result, purpose) {
        (Err(why), _) => failed(*purpose, profile, &why),
        (Ok(()), Purpose::Notice) => {
            tracing::info!(event = event(*purpose), profile, "a notification was read");
        }
        (Ok(()), Purpose::Mail) => {
            tracing::debug!(event = event(*purpose), profile, "the command for new mail was run");
        }
    }
}

fn failed(purpose: Purpose, profile: &str, why: &str) {
    let event = event(purpose);
    match purpose {
        Purpose::Notice => tracing::warn!(
            event,
            profile,
            why,
            "the command for a notification failed; the notification is in the Inbox"
        ),
        Purpose::Mail => tracing::warn!(
            event,
            profile,
            why,
            "the command for new mail failed; the message is in the Inbox"
        ),
    }
}

fn too_many(command: &Command) {
    let Command { purpose, profile, .. } = command;
    let (places, room) = (purpose.places(), purpose.room());
    let why = match room {
        0 => format!("{places} commands run already"),
        _ => format!("{places} commands run already, and {room} wait"),
    };
    tracing::warn!(
        event = event(*purpose),
        profile,
        why,
        "a command is left out, and further ones are until there is room; the messages are in the Inbox"
    );
}

/// Runs a command to its end. What it writes is thrown away.
fn run(command: &Command, deadline: Duration, programs: &Programs) -> Result<(), String> {
    let (program, arguments) = command.words.split_first().ok_or("there is no program")?;
    let cannot = |error: io::Error| format!("{program} cannot be run: {error}");
    let input = match &command.input {
        Some(text) => in_memory(text).map_err(cannot)?.into(),
        None => Stdio::null(),
    };
    let variables = command.variables.iter().map(|(name, value)| (name, value));
    let mut command = program::command(program);
    command.args(arguments).envs(variables).stdin(input);
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
    use std::io::{BufRead, BufReader};
    use std::path::{Path, PathBuf};

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn read(words: Vec<String>, text: &[u8], deadline: Duration) -> Result<(), String> {
        let command = Command::for_notice("work".into(), words, text.to_vec());
        run(&command, deadline, &Programs::default())
    }

    fn mail(script: &str, from: &str, subject: &str) -> Command {
        let news = News { from: from.to_owned(), subject: subject.to_owned() };
        let entry = EntryId { store: 0xab, record: 7 };
        Command::for_mail("work".into(), shell(script), (entry, &news), "/run/b.sock".into())
    }

    fn fifo(path: &Path) -> PathBuf {
        let (directory, kind) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(directory, path, kind, 0o600.into(), 0).expect("made");
        path.to_owned()
    }

    #[test]
    fn a_command_reads_the_notification() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("read");
        let script = format!("cat > {}", file.display());
        let text = vec![b'x'; 200_000];
        assert_eq!(read(shell(&script), &text, LONG), Ok(()));
        assert_eq!(std::fs::read(file).expect("it was written"), text);
    }

    #[test]
    fn a_command_need_not_read() {
        assert_eq!(read(shell("exit 0"), &vec![b'x'; 200_000], LONG), Ok(()));
    }

    #[test]
    fn a_command_that_fails_says_how() {
        let why = read(shell("exit 3"), b"", LONG).expect_err("it fails");
        assert!(why.contains("/bin/sh failed with exit status: 3"), "{why}");
        let why = read(vec!["/no/such/program".to_owned()], b"", LONG).expect_err("it fails");
        assert!(why.contains("/no/such/program cannot be run"), "{why}");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let why = read(shell("sleep 1000 & wait"), b"", Duration::from_millis(10));
        assert!(why.expect_err("it hangs").contains("it was ended"));
    }

    /// What the sender wrote is neither a line of its own nor a command.
    #[test]
    fn the_environment_describes_new_mail() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("environment");
        let script = format!(
            "env | grep '^SUNDOWN_' | grep -v '^SUNDOWN_TEST_' | sort > {}; ! read line",
            file.display()
        );
        let from = "Anna \u{1b}[31m<a@b.c>\n\0$(id)";
        let subject = format!("{}\u{e4}\u{9b}x", "y".repeat(MOST_TEXT - 1));
        let command = mail(&script, from, &subject);
        assert_eq!(run(&command, LONG, &Programs::default()), Ok(()), "and it reads nothing");
        let said = std::fs::read_to_string(file).expect("it was written");
        let expected = format!(
            "SUNDOWN_ENTRY={}\nSUNDOWN_EVENT=new-mail\nSUNDOWN_FOLDER=inbox\nSUNDOWN_FROM=Anna  [31m<a@b.c>  $(id)\n\
             SUNDOWN_PROFILE=work\nSUNDOWN_SOCKET=/run/b.sock\nSUNDOWN_SUBJECT={}\n",
            EntryId { store: 0xab, record: 7 },
            "y".repeat(MOST_TEXT - 1)
        );
        assert_eq!(said, expected);
    }

    #[test]
    fn a_command_ends_with_the_broker() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = fifo(&dir.path().join("pid"));
        let commands = Commands::default();
        let script = format!("echo $$ > {}; sleep 1000 & wait", pipe.display());
        commands.run(Command::for_notice("work".to_owned(), shell(&script), Vec::new()));
        let pid = std::fs::read_to_string(&pipe).expect("it runs");
        let pid = Pid::from_raw(pid.trim().parse().expect("a number")).expect("it is one");
        let end = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
        drop(commands);
        let ended = poll(&mut [PollFd::new(&end, PollFlags::IN)], None).expect("it ends");
        assert_eq!(ended, 1);
    }

    /// A burst of new mail starts few programs at once, and all of them run.
    #[test]
    fn commands_wait_for_a_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let (begun, go) = (fifo(&dir.path().join("begun")), fifo(&dir.path().join("go")));
        let commands = Commands::default();
        // Each says that it runs, and waits for a line.
        let script = format!("echo ran >> {}; read line < {}", begun.display(), go.display());
        // These ends stay open, so that no reader sees an end of the file.
        let open =
            |pipe: &Path| File::options().read(true).write(true).open(pipe).expect("it is there");
        let (mut lines, mut goes) = (BufReader::new(open(&begun)).lines(), open(&go));
        let all = Purpose::Mail.places() + 3;
        for _ in 0..all {
            commands.run(mail(&script, "a", "b"));
        }
        for _ in 0..Purpose::Mail.places() {
            lines.next().expect("it runs").expect("a line");
        }
        {
            let places = locked(&commands.mail);
            assert_eq!((places.running, places.waiting.len()), (Purpose::Mail.places(), 3));
        }
        for left in (0..3).rev() {
            goes.write_all(b"\n").expect("one goes on");
            lines.next().expect("the next one runs").expect("a line");
            assert_eq!(locked(&commands.mail).waiting.len(), left);
        }
    }

    #[test]
    fn without_room_commands_are_dropped_and_counted() {
        let mut places = Places::default();
        let purpose = Purpose::Mail;
        let take = |places: &mut Places| {
            let taken = places.take(purpose);
            if taken == Taken::Waits {
                places.waiting.push_back(mail("exit 0", "", ""));
            }
            taken
        };
        for _ in 0..purpose.places() {
            assert_eq!(take(&mut places), Taken::Runs);
        }
        for _ in 0..purpose.room() {
            assert_eq!(take(&mut places), Taken::Waits);
        }
        assert_eq!(take(&mut places), Taken::Dropped(1));
        assert_eq!(take(&mut places), Taken::Dropped(2));
        assert!(places.next().is_some());
        assert_eq!((take(&mut places), places.dropped), (Taken::Waits, 0));
        assert_eq!(take(&mut places), Taken::Dropped(1), "and the log says it again");
        places.waiting.clear();
        assert!(places.next().is_none());
        assert_eq!(take(&mut places), Taken::Runs);
        let mut notices = Places::default();
        for _ in 0..Purpose::Notice.places() {
            assert_eq!(notices.take(Purpose::Notice), Taken::Runs);
        }
        assert_eq!(notices.take(Purpose::Notice), Taken::Dropped(1));
    }
}
