//! A head without bare CRs.
//!
//! A program that hands over `Subject: a\rX-Field: b` means one field, and it is read as one field here: a CR is a byte of a line like any
//! other. On the wire it must not become a line end, which would make two fields of it. So a CR within a line of the head goes out as a
//! space. CRs in front of a LF belong to the line end. Bodies stay as they are.

use std::io::{self, Read};

use super::body::PIECE;
use crate::files::read;

/// How many CRs in a row may belong to one line end.
const MOST: usize = 64;

/// A message whose head has no bare CR, as it is read.
pub(super) struct ClearHead<'a> {
    message: &'a mut dyn Read,
    input: Vec<u8>,
    /// What was read, and not given yet.
    output: Vec<u8>,
    given: usize,
    at: At,
}

/// Where in the message its reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a line of the head, behind so many CRs.
    Line(usize),
    /// At the beginning of one, behind so many CRs.
    Start(usize),
    Body,
    End,
}

impl<'a> ClearHead<'a> {
    pub(super) fn new(message: &'a mut dyn Read) -> Self {
        Self { message, input: Vec::new(), output: Vec::new(), given: 0, at: At::Start(0) }
    }

    fn byte(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            (At::Line(crs) | At::Start(crs), b'\r') if crs < MOST => match self.at {
                At::Line(_) => At::Line(crs + 1),
                _ => At::Start(crs + 1),
            },
            (At::Line(crs), b'\n') => {
                self.end_line(crs);
                At::Start(0)
            }
            (At::Start(crs), b'\n') => {
                self.end_line(crs);
                At::Body
            }
            (At::Line(crs) | At::Start(crs), byte) => {
                self.output.extend(std::iter::repeat_n(b' ', crs));
                self.output.push(if byte == b'\r' { b' ' } else { byte });
                At::Line(0)
            }
            (at, byte) => {
                self.output.push(byte);
                at
            }
        };
    }

    fn end_line(&mut self, crs: usize) {
        self.output.extend_from_slice(if crs > 0 { b"\r\n" } else { b"\n" });
    }

    /// Reads on until there is something to give, or nothing more.
    fn fill(&mut self) -> io::Result<()> {
        self.output.clear();
        self.given = 0;
        self.input.resize(PIECE, 0);
        while self.output.is_empty() && self.at != At::End {
            let mut input = std::mem::take(&mut self.input);
            let n = read(self.message, &mut input)?;
            input[..n].iter().for_each(|byte| self.byte(*byte));
            self.input = input;
            if n == 0 {
                if let At::Line(crs) | At::Start(crs) = self.at
                    && crs > 0
                {
                    self.end_line(crs);
                }
                self.at = At::End;
            }
        }
        Ok(())
    }
}

impl Read for ClearHead<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.output.len() {
            if self.at == At::Body {
                return read(self.message, into);
            }
            self.fill()?;
        }
        let left = &self.output[self.given..];
        let n = left.len().min(into.len());
        into[..n].copy_from_slice(&left[..n]);
        self.given += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives no more than so many bytes at once.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = into.len().min(self.1);
            self.0.read(&mut into[..n])
        }
    }

    fn cleared(message: &[u8], at_once: usize) -> Vec<u8> {
        let (mut slow, mut all) = (Slow(message, at_once), Vec::new());
        ClearHead::new(&mut slow).read_to_end(&mut all).expect("read");
        all
    }

    #[test]
    fn a_cr_ends_no_line_of_a_head() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"Subject: a\rBcc: b\n\nc\rd\n", b"Subject: a Bcc: b\n\nc\rd\n"),
            (b"A: b\r\n\r\nc\r\n", b"A: b\r\n\r\nc\r\n"),
            (b"A: b\r\r\nC: d\r\r\n\r\r\ne\r\r\n", b"A: b\r\nC: d\r\n\r\ne\r\r\n"),
            (b"\rA: b\n\n", b" A: b\n\n"),
            (b"A: b\r", b"A: b\r\n"),
            (b"A: b", b"A: b"),
            (b"", b""),
            (b"A: \r\rb\n", b"A:   b\n"),
        ];
        for (message, expected) in cases {
            for at_once in [1, 2, 3, 100] {
                let shown = String::from_utf8_lossy(message);
                assert_eq!(cleared(message, at_once), expected, "{shown:?} by {at_once}");
            }
        }
        let many = [&b"A: "[..], &[b'\r'; 1_000], b"b\n"].concat();
        assert_eq!(
            cleared(&many, 100),
            many.iter().map(|b| if *b == b'\r' { b' ' } else { *b }).collect::<Vec<_>>()
        );
    }

    proptest! {
        /// Whatever comes in whatever pieces: no head has a bare CR, bodies are as they were, and what has none stays as it is.
        #[test]
        fn heads_have_no_bare_cr(
            message in prop::collection::vec(prop::sample::select(&b"a: \r\n\r\n"[..]), 0..60),
            at_once in 1..20_usize,
        ) {
            let cleared = cleared(&message, at_once);
            let ends: Vec<_> = cleared.split_inclusive(|b| *b == b'\n').collect();
            let head = ends.iter().take_while(|line| !matches!(**line, b"\n" | b"\r\n"));
            for line in head.clone() {
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                prop_assert!(!text.contains(&b'\r'), "{line:?}");
            }
            let length: usize = head.map(|line| line.len()).sum();
            let cut_off = message.last() == Some(&b'\r');
            prop_assert!(cut_off || message.ends_with(&cleared[length..]));
            let bare = message.windows(2).any(|two| two[0] == b'\r' && two[1] != b'\n');
            if !bare && !cut_off {
                prop_assert_eq!(cleared, message);
            }
        }
    }
}
