//! The command that writes a secret: run by a shell, with nothing to read, and not for ever.

use std::process::Stdio;
use std::time::Duration;

use zeroize::Zeroizing;

use super::secret::{MAX_SECRET, unconfigured};
use crate::Result;
use crate::headers::clean;
use crate::program::{self, Ended, Limit, Output, Programs};

/// The most bytes of standard error that are looked at, the last ones.
const MAX_SAID: usize = 2 << 10;

/// The most lines of them that are shown.
const MAX_LINES: usize = 3;

/// The most characters of each of these.
const LONGEST_LINE: usize = 160;

/// Runs a command and gives back what it wrote. What it wrote to standard output is in no error.
pub(crate) fn output(command: &str, deadline: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let mut shell = program::command("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null());
    let limit = Limit { time: deadline, grace: Duration::ZERO };
    let (mut written, mut said) = (Written::default(), Said::default());
    let output = Output::Apart(&mut |piece| written.take(piece), &mut |piece| said.take(piece));
    let ended = Programs::default().run(shell, limit, output);
    let words = || said.words(command, &written).map(|words| format!(": {words}"));
    match ended {
        Ok(Ended::With(status)) if status.success() => Ok(written.into_bytes()),
        Ok(Ended::With(status)) => {
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
        Ok(Ended::TooLong) => {
            let (seconds, words) = (deadline.as_secs(), words().unwrap_or_default());
            Err(unconfigured(format!(
                "password_command took longer than {seconds} s; it was ended{words}"
            )))
        }
        Ok(Ended::Lost(error)) | Err(error) => {
            Err(unconfigured(format!("password_command cannot be run: {error}")))
        }
    }
}

/// What was written so far. What goes beyond a secret's length is forgotten.
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
    fn take(&mut self, piece: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let n = piece.len().min(room.len());
        room[..n].copy_from_slice(&piece[..n]);
        self.length += n;
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
    fn take(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        let beyond = self.bytes.len().saturating_sub(MAX_SAID);
        self.bytes.drain(..beyond);
        self.is_cut |= beyond > 0;
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
