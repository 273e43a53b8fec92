//! The message as a program reads it: with its envelope in front, without Bcc, and with the line ends of Unix.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

use sundown_mail::head::{Fields, LineEnd, ends_in};

use crate::headers::{MAX_HEAD, clean, envelope, without_bcc};
use crate::{Result, fault};

/// How much is read at once, in bytes.
const PIECE: usize = 64 << 10;

/// How many CRs in a row may belong to one line end.
const MOST: usize = 64;

/// A message that was to be written into a file.
#[derive(Debug)]
pub(super) enum Spooled {
    /// The file, at its beginning.
    Ready(File),
    /// The recipient has had the message: a program has sent it back to where it came from.
    Loops,
}

/// Writes a message into a file without a name in this directory. Nothing is left of it when it is closed, however the broker ends.
pub(super) fn spool(
    directory: &Path,
    mut message: impl Read,
    (from, to): (&str, &str),
) -> Result<Spooled> {
    let written = |error: io::Error| fault::io(directory, &error);
    let file = tempfile::tempfile_in(directory).map_err(written)?;
    let mut file = BufWriter::with_capacity(PIECE, file);
    file.write_all(envelope(from, [to], LineEnd::Lf).as_bytes()).map_err(written)?;
    let mut message = without_bcc(&mut message);
    let head = beginning(&mut message)?;
    if has_had(&head, to) {
        return Ok(Spooled::Loops);
    }
    let (mut ends, mut input, mut output) = (LineEnds::default(), head, Vec::new());
    while !input.is_empty() {
        ends.feed(&input, &mut output);
        file.write_all(&output).map_err(written)?;
        output.clear();
        read(&mut message, &mut input)?;
    }
    ends.finish(&mut output);
    file.write_all(&output).map_err(written)?;
    let mut file = file.into_inner().map_err(|error| written(error.into_error()))?;
    file.rewind().map_err(written)?;
    Ok(Spooled::Ready(file))
}

/// The beginning of a message, with its head unless that is very long. It is empty if the message is.
fn beginning(message: &mut impl Read) -> Result<Vec<u8>> {
    let (mut head, mut piece) = (Vec::new(), Vec::new());
    while head.len() < MAX_HEAD && !ends_in(&head) {
        read(message, &mut piece)?;
        if piece.is_empty() {
            break;
        }
        head.extend_from_slice(&piece);
    }
    Ok(head)
}

/// Reads a piece of the message in the place of the one before; none at its end.
fn read(message: &mut impl Read, piece: &mut Vec<u8>) -> Result<()> {
    piece.resize(PIECE, 0);
    let n = loop {
        match message.read(piece) {
            Ok(n) => break n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(fault::unreadable(&error)),
        }
    };
    piece.truncate(n);
    Ok(())
}

/// Whether a head says that the message was delivered to this recipient.
fn has_had(head: &[u8], to: &str) -> bool {
    let to = clean(to);
    let is_to = |value: &[u8]| value.trim_ascii().eq_ignore_ascii_case(to.as_bytes());
    Fields::of(head).any(|field| field.is("Delivered-To") && is_to(field.value()))
}

/// Makes each line end a LF. CRs in front of one belong to it, others stay.
#[derive(Default)]
struct LineEnds {
    /// The CRs at the end of what was read.
    crs: usize,
}

impl LineEnds {
    fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) {
        if self.crs == 0 && !input.contains(&b'\r') {
            return output.extend_from_slice(input);
        }
        for byte in input {
            match byte {
                b'\r' if self.crs < MOST => self.crs += 1,
                b'\r' => output.push(b'\r'),
                b'\n' => {
                    self.crs = 0;
                    output.push(b'\n');
                }
                byte => {
                    self.finish(output);
                    output.push(*byte);
                }
            }
        }
    }

    fn finish(&mut self, output: &mut Vec<u8>) {
        output.extend(std::iter::repeat_n(b'\r', std::mem::take(&mut self.crs)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sundown_protocol::Code;

    use super::*;

    fn spooled(message: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a directory");
        let spooled = spool(dir.path(), message, ("a@b", "c@d")).expect("spooled");
        let Spooled::Ready(mut file) = spooled else { panic!("it goes in a circle") };
        assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "it has a name");
        let mut all = Vec::new();
        file.read_to_end(&mut all).expect("read from its beginning");
        all
    }

    #[test]
    fn a_program_reads_the_message_with_its_envelope() {
        let front = "Return-Path: <a@b>\nDelivered-To: c@d\n";
        for (message, expected) in [
            (
                "Subject: x\r\nBcc: secret@x,\r\n more@x\r\nTo: c\r\n\r\nhi\r\n.\r\n",
                "Subject: x\nTo: c\n\nhi\n.\n",
            ),
            ("Subject: x\n\nBcc: text\nFrom here\n", "Subject: x\n\nBcc: text\nFrom here\n"),
            ("Subject: x\n\nno end", "Subject: x\n\nno end"),
            ("Subject: x\n\na\rb\r", "Subject: x\n\na\rb\r"),
        ] {
            assert_eq!(
                String::from_utf8_lossy(&spooled(message.as_bytes())),
                format!("{front}{expected}")
            );
        }
    }

    #[test]
    fn a_large_message_is_whole() {
        let body = b"0123456789abcde\r\n".repeat(100_000);
        let all = spooled(&[b"Subject: x\r\n\r\n", &body[..]].concat());
        let front = "Return-Path: <a@b>\nDelivered-To: c@d\nSubject: x\n\n";
        assert_eq!(all, [front.as_bytes(), &b"0123456789abcde\n".repeat(100_000)].concat());
    }

    /// A program may send a message back, with the fields that it got.
    #[test]
    fn a_message_that_comes_again_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let loops = |message: &[u8], to| {
            let spooled = spool(dir.path(), message, ("a@b", to)).expect("spooled");
            matches!(spooled, Spooled::Loops)
        };
        let again = b"Received: x\r\nDelivered-to: C@d\r\nDelivered-To: e@f\r\nSubject: x\r\n\r\nDelivered-To: text\r\n";
        assert!(loops(again, "c@d") && loops(again, "e@f"));
        assert!(!loops(again, "g@h") && !loops(again, "text") && !loops(again, ""));
        let long = [&vec![b'x'; 2 * MAX_HEAD][..], again].concat();
        assert!(!loops(&[b"A: ", &long[..]].concat(), "c@d"), "too far down to look");
        assert!(!loops(b"", "c@d"));
    }

    #[test]
    fn what_cannot_be_read_or_written_says_so() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let dir = tempfile::tempdir().expect("a directory");
        let error = spool(dir.path(), Fails, ("", "")).expect_err("it breaks off");
        assert!(error.message.contains("could not be read"), "{error}");
        let gone = dir.path().join("gone");
        let error = spool(&gone, &b"x"[..], ("", "")).expect_err("no directory");
        assert_eq!(error.code, Code::E_DISK_ERROR);
        assert!(error.message.contains("gone"), "{error}");
    }

    proptest! {
        /// However a message is cut into pieces.
        #[test]
        fn crs_belong_to_line_ends_alone(pieces in proptest::collection::vec("[a\r\n]{0,6}", 0..8)) {
            let (mut ends, mut output) = (LineEnds::default(), Vec::new());
            for piece in &pieces {
                ends.feed(piece.as_bytes(), &mut output);
            }
            ends.finish(&mut output);
            let mut expected = pieces.concat();
            while expected.contains("\r\n") {
                expected = expected.replace("\r\n", "\n");
            }
            prop_assert_eq!(output, expected.into_bytes());
        }
    }

    #[test]
    fn crs_without_an_end_cost_no_memory() {
        let (mut ends, mut output) = (LineEnds::default(), Vec::new());
        let crs = [b'\r'; 1_000];
        ends.feed(&crs, &mut output);
        assert_eq!((output.len(), ends.crs), (1_000 - MOST, MOST));
        ends.finish(&mut output);
        assert_eq!(output, crs);
    }
}
