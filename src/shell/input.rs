//! What the shell reads: lines, and behind some of them the bytes of a message.

use std::io::{self, BufRead, Read};

use sundown_client::{Code, Error};

use super::line::{self, Words};
use crate::bounded::{Bounded, Budget};
use crate::output;

/// A command, and the bytes that came behind its line.
pub(super) struct Given {
    pub(super) words: Result<Words, String>,
    pub(super) body: Option<Result<Vec<u8>, Error>>,
}

/// Reads the next command; `None` at the end of the input, and where it ends within a message. Behind a line with `size=N` the next
/// N bytes are read whatever the line is: if they stayed, they would be commands. `largest` says the longest message that the broker
/// takes; of a longer one the rest is read and dropped.
pub(super) fn next(
    input: &mut impl BufRead,
    largest: impl FnOnce() -> Option<u64>,
) -> io::Result<Option<Given>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&line);
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let words = line::words(line);
    let size = match &words {
        Ok(words) => words.look("size").map(str::to_owned),
        // It cannot be divided into words, and may have meant to have a message behind it.
        Err(_) => line
            .split_whitespace()
            .filter_map(|w| w.strip_prefix("size="))
            .next_back()
            .map(str::to_owned),
    };
    let body = match size.and_then(|size| size.parse::<u64>().ok()) {
        None => None,
        Some(size) => match body(input, size, largest)? {
            None => return Ok(None),
            body => body,
        },
    };
    Ok(Some(Given { words, body }))
}

/// Reads this many bytes; `None` if the input ends before.
fn body(
    input: &mut impl BufRead,
    size: u64,
    largest: impl FnOnce() -> Option<u64>,
) -> io::Result<Option<Result<Vec<u8>, Error>>> {
    let mut input = input.take(size);
    let mut bytes = Vec::new();
    let mut budget = Budget::new(largest);
    let read = Bounded::new(&mut input, &mut budget).read_to_end(&mut bytes);
    let body = match read {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            drop(bytes);
            io::copy(&mut input, &mut io::sink())?;
            Err(output::error(Code::E_TOO_BIG, format!("cannot take the message: {error}")))
        }
        Err(error) => return Err(error),
    };
    Ok((input.limit() == 0).then_some(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounded::UNASKED;

    /// The commands of an input, each with the bytes behind it.
    fn all(mut input: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
        let mut all = Vec::new();
        while let Some(given) = next(&mut input, || None).expect("it is read") {
            let words = given.words.map_or_else(|e| format!("error: {e}"), |w| w.command);
            all.push((words, given.body.map(|b| b.expect("it is short enough"))));
        }
        all
    }

    fn plain(command: &str) -> (String, Option<Vec<u8>>) {
        (command.into(), None)
    }

    fn with(command: &str, body: &[u8]) -> (String, Option<Vec<u8>>) {
        (command.into(), Some(body.to_vec()))
    }

    #[test]
    fn bytes_behind_a_line_are_no_commands() {
        let input = b"logon\nsubmit size=9 session=1\na\n\nlogoff\nappend size=0\nflush";
        let wanted = [
            plain("logon"),
            with("submit", b"a\n\nlogoff"),
            plain(""),
            with("append", b""),
            plain("flush"),
        ];
        assert_eq!(all(input), wanted);
    }

    #[test]
    fn bytes_are_read_behind_a_line_that_makes_no_sense() {
        let wanted = [with("sbmit", b"flush\n"), plain("logon")];
        assert_eq!(all(b"sbmit size=6\nflush\nlogon\n"), wanted);
        let wanted = [with("error: a quote is not closed", b"flush\n"), plain("logon")];
        assert_eq!(all(b"append folder=\"x size=6\nflush\nlogon\n"), wanted);
        let wanted = [with("error: size is given twice", b"flush\n"), plain("logon")];
        assert_eq!(all(b"append size=5 size=6\nflush\nlogon\n"), wanted);
        assert_eq!(all(b"# size=6\nflush\n"), [plain(""), plain("flush")]);
        assert_eq!(all(b"submit size=six\nflush\n"), [plain("submit"), plain("flush")]);
    }

    #[test]
    fn an_input_that_ends_within_a_message_ends() {
        assert_eq!(all(b"logon\nsubmit size=9\nshort"), [plain("logon")]);
        assert_eq!(all(b"logon\nsubmit size=1"), [plain("logon")]);
    }

    /// Nothing of a message that is too long stays in the input.
    #[test]
    fn a_message_that_is_too_long_is_dropped() {
        let length = UNASKED + 3;
        let line = format!("submit size={length}\n").into_bytes();
        let message = io::repeat(b'x').take(length);
        let mut input = io::BufReader::new(line.chain(message).chain(&b"logon\n"[..]));
        let given = next(&mut input, || Some(1)).expect("it is read").expect("a command");
        let refused = given.body.expect("a body").expect_err("it is too long");
        assert_eq!(refused.code(), Code::E_TOO_BIG);
        let given = next(&mut input, || None).expect("it is read").expect("a command");
        assert_eq!(given.words.expect("words").command, "logon");
    }
}
