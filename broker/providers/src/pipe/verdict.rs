//! What the end of a program says about the message that it got.
//!
//! The statuses are those of sysexits(3), with the codes of RFC 3463 that Postfix gives them. A program may say better what is wrong:
//! if its output begins with such a code, as `5.2.2 mailbox full` does, that one counts.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use sundown_core::expired::in_words;
use sundown_core::provider::Outcome;

use crate::headers::clean;
use crate::program::Ended;

/// How much of the output is quoted, in bytes.
const QUOTED: usize = 1 << 10;

/// The beginning of what a program has written.
#[derive(Debug, Default)]
pub(super) struct Said(Vec<u8>);

impl Said {
    /// Takes a piece of the output. What is not quoted is forgotten.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let room = QUOTED - self.0.len();
        self.0.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// In one line, and nothing but text.
    fn words(&self) -> String {
        // The last character may be cut.
        let whole = match std::str::from_utf8(&self.0) {
            Err(error) if error.error_len().is_none() => &self.0[..error.valid_up_to()],
            Ok(_) | Err(_) => &self.0[..],
        };
        let text = String::from_utf8_lossy(whole);
        let lines = text.lines().map(clean).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    }
}

/// A program, and its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'a> {
    /// Its path.
    pub(super) program: &'a str,
    /// How long it may run.
    pub(super) timeout: Duration,
}

/// What became of the message, in words that begin with a status (RFC 3463) unless it is delivered.
pub(super) fn judge(of: Of<'_>, ended: &io::Result<Ended>, said: &Said) -> (Outcome, String) {
    let Of { program, timeout } = of;
    let words = said.words();
    let quoted = if words.is_empty() { String::new() } else { format!(": {words}") };
    match ended {
        Ok(Ended::With(status)) => judge_status(program, *status, (&words, &quoted)),
        Ok(Ended::TooLong) => {
            let time = in_words(timeout);
            let text = format!("4.3.0 {program} took longer than {time} and was ended{quoted}");
            (Outcome::Later, text)
        }
        Ok(Ended::Lost(error)) => {
            let text = format!(
                "{program} was started and could not be waited for ({error}); it may have delivered the message"
            );
            (Outcome::Unknown, text)
        }
        Err(error) => {
            let why = not_started(program, error);
            (Outcome::Later, format!("4.3.5 {program} cannot be started: {why}"))
        }
    }
}

/// Why the kernel does not start a program. It names the program also where something else is missing.
fn not_started(program: &str, error: &io::Error) -> String {
    /// `ENOEXEC`.
    const NO_PROGRAM: i32 = rustix::io::Errno::NOEXEC.raw_os_error();
    match error.raw_os_error() {
        Some(NO_PROGRAM) => {
            "it is neither a program of this machine nor a script with a line `#!`".to_owned()
        }
        _ if error.kind() == io::ErrorKind::NotFound && Path::new(program).exists() => {
            "what its first line `#!` names is not there".to_owned()
        }
        _ => error.to_string(),
    }
}

fn judge_status(
    program: &str,
    status: ExitStatus,
    (words, quoted): (&str, &str),
) -> (Outcome, String) {
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        let text = format!("4.3.0 {program} was ended by signal {signal}{quoted}");
        return (Outcome::Later, text);
    };
    if code == 0 {
        return (Outcome::Sent, format!("delivered by {program}"));
    }
    if let Some(outcome) = outcome_of(words.split(' ').next().unwrap_or_default()) {
        return (outcome, format!("{words} ({program}, status {code})"));
    }
    let (dsn, meaning) = meaning(code);
    let outcome = outcome_of(dsn).unwrap_or(Outcome::Failed);
    (outcome, format!("{dsn} {meaning} ({program}, status {code}){quoted}"))
}

/// What a status of sysexits(3) means. The shell's two are here because only an administrator can mend what is wrong then.
fn meaning(code: i32) -> (&'static str, &'static str) {
    match code {
        64 => ("5.3.0", "the program was called in a wrong way"),
        65 => ("5.6.0", "the format of the message is wrong"),
        66 => ("5.3.0", "an input cannot be opened"),
        67 => ("5.1.1", "there is no such user"),
        68 => ("5.1.2", "there is no such host"),
        69 => ("5.3.0", "the service is unavailable"),
        70 => ("5.3.0", "an error within the program"),
        71 => ("4.3.0", "the system has no resources"),
        72 => ("5.3.0", "a file of the system is missing"),
        73 => ("5.2.0", "the mailbox cannot be created"),
        74 => ("5.3.0", "an error of input or output"),
        75 => ("4.3.0", "a temporary failure"),
        76 => ("5.5.0", "an error in a protocol"),
        77 => ("5.7.0", "permission denied"),
        78 => ("5.3.5", "the program's settings are wrong"),
        126 => ("4.3.5", "a command in it cannot be executed"),
        127 => ("4.3.5", "a command in it was not found"),
        _ => ("5.3.0", "the program failed"),
    }
}

/// What a status of RFC 3463 says, if it is one of a failure.
fn outcome_of(dsn: &str) -> Option<Outcome> {
    let mut parts = dsn.split('.');
    let outcome = match parts.next() {
        Some("4") => Outcome::Later,
        Some("5") => Outcome::Failed,
        _ => return None,
    };
    let is_number = |part: &str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let rest: Vec<_> = parts.collect();
    (rest.len() == 2 && rest.into_iter().all(is_number)).then_some(outcome)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OF: Of<'static> = Of { program: "/bin/x", timeout: Duration::from_secs(300) };

    fn said(output: &[u8]) -> Said {
        let mut said = Said::default();
        said.take(output);
        said
    }

    fn status(code: i32, output: &str) -> (Outcome, String) {
        let ended = Ok(Ended::With(ExitStatus::from_raw(code << 8)));
        judge(OF, &ended, &said(output.as_bytes()))
    }

    #[test]
    fn each_status_has_its_meaning() {
        assert_eq!(status(0, "stored\n"), (Outcome::Sent, "delivered by /bin/x".into()));
        let (later, failed) = (Outcome::Later, Outcome::Failed);
        let table = [
            (64, failed, "5.3.0"),
            (65, failed, "5.6.0"),
            (66, failed, "5.3.0"),
            (67, failed, "5.1.1"),
            (68, failed, "5.1.2"),
            (69, failed, "5.3.0"),
            (70, failed, "5.3.0"),
            (71, later, "4.3.0"),
            (72, failed, "5.3.0"),
            (73, failed, "5.2.0"),
            (74, failed, "5.3.0"),
            (75, later, "4.3.0"),
            (76, failed, "5.5.0"),
            (77, failed, "5.7.0"),
            (78, failed, "5.3.5"),
            (1, failed, "5.3.0"),
            (63, failed, "5.3.0"),
            (79, failed, "5.3.0"),
            (126, later, "4.3.5"),
            (127, later, "4.3.5"),
            (255, failed, "5.3.0"),
        ];
        for (code, outcome, dsn) in table {
            let (found, reply) = status(code, "");
            assert_eq!(found, outcome, "{code}");
            assert!(reply.starts_with(&format!("{dsn} ")), "{code}: {reply}");
            assert!(reply.ends_with(&format!("(/bin/x, status {code})")), "{reply}");
        }
    }

    #[test]
    fn the_words_of_a_program_are_quoted() {
        let expected =
            "5.1.1 there is no such user (/bin/x, status 67): no mailbox \u{fffd} for anna";
        assert_eq!(status(67, "no mailbox \u{7}\n\n  for anna\r\n").1, expected);
    }

    #[test]
    fn a_status_in_the_output_counts() {
        let cases = [
            (1, "4.2.2 mailbox full\n", Outcome::Later, "4.2.2 mailbox full (/bin/x, status 1)"),
            (75, "5.7.1 no\nmore", Outcome::Failed, "5.7.1 no more (/bin/x, status 75)"),
            (67, "4.2.1", Outcome::Later, "4.2.1 (/bin/x, status 67)"),
        ];
        for (code, output, outcome, reply) in cases {
            assert_eq!(status(code, output), (outcome, reply.to_owned()));
        }
        for none in ["2.0.0 ok", "5.1", "5.1.1.1 x", "5.1.x y", "x 5.1.1", "5.1234.1", "6.1.1 x"] {
            assert!(status(75, none).1.starts_with("4.3.0 "), "{none}");
        }
        assert_eq!(status(0, "5.1.1 no").0, Outcome::Sent);
    }

    #[test]
    fn what_an_administrator_mends_is_for_later() {
        let killed = Ok(Ended::With(ExitStatus::from_raw(9)));
        let (outcome, reply) = judge(OF, &killed, &said(b"5.1.1 x"));
        assert_eq!(outcome, Outcome::Later);
        assert_eq!(reply, "4.3.0 /bin/x was ended by signal 9: 5.1.1 x");
        let (outcome, reply) = judge(OF, &Ok(Ended::TooLong), &said(b""));
        assert_eq!(outcome, Outcome::Later);
        assert_eq!(reply, "4.3.0 /bin/x took longer than 5 minutes and was ended");
        let (outcome, reply) = judge(OF, &Err(io::ErrorKind::NotFound.into()), &said(b""));
        assert!(reply.starts_with("4.3.5 /bin/x cannot be started: "), "{reply}");
        assert_eq!(outcome, Outcome::Later);
    }

    #[test]
    fn a_program_of_which_nothing_is_known_may_have_delivered() {
        let lost = Ok(Ended::Lost(io::ErrorKind::Other.into()));
        assert_eq!(judge(OF, &lost, &said(b"")).0, Outcome::Unknown);
    }

    #[test]
    fn the_beginning_of_a_long_output_is_quoted() {
        let mut said = Said::default();
        said.take(b"x");
        for _ in 0..1_000 {
            said.take("\u{1f600}".repeat(1_000).as_bytes());
        }
        assert_eq!(said.0.len(), QUOTED);
        let words = said.words();
        assert_eq!(words, format!("x{}", "\u{1f600}".repeat(255)));
    }

    proptest! {
        #[test]
        fn any_output_becomes_one_line(pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..6), code in 1..256) {
            let mut said = Said::default();
            for piece in &pieces {
                said.take(piece);
            }
            let (_, reply) = judge(OF, &Ok(Ended::With(ExitStatus::from_raw(code << 8))), &said);
            prop_assert!(!reply.contains(char::is_control), "{reply:?}");
            prop_assert!(outcome_of(reply.split(' ').next().unwrap_or_default()).is_some(), "{reply:?}");
        }
    }
}
