//! The command that writes a secret: run by a shell, with nothing to read, and not for ever.

use std::process::Stdio;
use std::time::Duration;

use zeroize::Zeroizing;

use super::secret::{MAX_SECRET, unconfigured};
use crate::Result;
use crate::program::{self, Ended, Limit, Output, Programs};

/// Runs a command and gives back what it wrote. What it wrote is in no error.
pub(super) fn output(command: &str, deadline: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let mut shell = program::command("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null());
    let limit = Limit { time: deadline, grace: Duration::ZERO };
    let mut written = Written::default();
    let ended =
        Programs::default().run(shell, limit, Output::Standard(&mut |piece| written.take(piece)));
    match ended {
        Ok(Ended::With(status)) if status.success() => Ok(written.into_bytes()),
        Ok(Ended::With(status)) => {
            // What it said may have the secret in it; what the shell says by this number has not.
            let why = match status.code() {
                Some(126) => ": it cannot be executed",
                Some(127) => ": a program in it was not found in the PATH of the broker",
                _ => "; run it by hand, as the broker's user, to see why",
            };
            Err(unconfigured(format!("password_command failed with {status}{why}")))
        }
        Ok(Ended::TooLong) => {
            let seconds = deadline.as_secs();
            Err(unconfigured(format!(
                "password_command took longer than {seconds} s; it was ended"
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
