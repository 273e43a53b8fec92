//! A message from standard input.

use std::io::{self, BufRead};

use super::arguments::End;

/// Reads a message to its end. What mail programs of old put in front of it, `From ` lines of a mailbox, is not part of it.
/// Nothing else is changed.
pub(crate) fn read(input: &mut impl BufRead, end: End) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut began = false;
    loop {
        let line = message.len();
        if input.read_until(b'\n', &mut message)? == 0 {
            return Ok(message);
        }
        let read = &message[line..];
        if end == End::Dot && matches!(read, b"." | b".\n" | b".\r\n") {
            message.truncate(line);
            return Ok(message);
        }
        began = began || !is_from_line(read);
        if !began {
            message.truncate(line);
        }
        if began && end == End::Input {
            input.read_to_end(&mut message)?;
            return Ok(message);
        }
    }
}

fn is_from_line(line: &[u8]) -> bool {
    line.strip_prefix(b">").unwrap_or(line).starts_with(b"From ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(input: &str, end: End) -> String {
        let read = read(&mut input.as_bytes(), end).expect("memory can be read");
        String::from_utf8(read).expect("text")
    }

    #[test]
    fn a_dot_alone_ends_a_message() {
        let cases = [
            ("", ""),
            (".", ""),
            (".\nmore\n", ""),
            ("a\n.\nmore\n", "a\n"),
            ("a\r\n.\r\nmore\r\n", "a\r\n"),
            ("a\n.", "a\n"),
            ("a\n..\n.a\n .\n. \nb.\n", "a\n..\n.a\n .\n. \nb.\n"),
            ("no end", "no end"),
            ("a\n\n\n", "a\n\n\n"),
        ];
        for (input, wanted) in cases {
            assert_eq!(message(input, End::Dot), wanted, "{input:?}");
            assert_eq!(message(input, End::Input), input, "{input:?}");
        }
    }

    #[test]
    fn a_message_may_come_in_any_pieces() {
        let input = "From anna\r\n>From x\nTo: x\r\n\r\n..\n.x\nFrom here\n.\nmore\n";
        for end in [End::Dot, End::Input] {
            let whole = message(input, end);
            for size in 1..input.len() {
                let mut pieces = io::BufReader::with_capacity(size, input.as_bytes());
                let read = read(&mut pieces, end).expect("memory can be read");
                assert_eq!(String::from_utf8(read).expect("text"), whole, "pieces of {size} bytes");
            }
        }
    }

    #[test]
    fn from_lines_in_front_are_dropped() {
        let cases = [
            ("From anna Mon Nov 22\nTo: x\n\nFrom here on\n", "To: x\n\nFrom here on\n"),
            ("From a\n>From b\r\nTo: x\n", "To: x\n"),
            ("From: a\n\nx", "From: a\n\nx"),
            ("\nFrom a\n", "\nFrom a\n"),
            ("From a", ""),
        ];
        for (input, wanted) in cases {
            assert_eq!(message(input, End::Dot), wanted, "{input:?}");
            assert_eq!(message(input, End::Input), wanted, "{input:?}");
        }
    }

    #[test]
    fn bytes_are_kept_as_they_are() {
        let input = [&b"A: \0\xff\n\r\r\n"[..], &vec![b'x'; 1 << 20], b"\n.\0\n"].concat();
        for end in [End::Dot, End::Input] {
            assert_eq!(read(&mut &input[..], end).expect("memory"), input);
        }
    }
}
