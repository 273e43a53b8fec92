//! A message's way onto the wire: line ends, dots, and what must be known of it before.
//!
//! A line ends with CRLF on the wire and nowhere else is there a CR or LF: a server that took a bare one for a line end
//! would see other lines than the next server does, and with them other messages (SMTP smuggling). A dot that begins a
//! line is doubled. NUL passes as it is; the server knows best what it takes. What the server does not take is converted before (`form`).

use std::io::{self, Read};

use sundown_mail::transfer::MAX_LINE;

use crate::files::read;

/// How much is read and converted at once.
pub(super) const PIECE: usize = 16 << 10;

/// What a message is like on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Survey {
    /// Its bytes, as SIZE counts them: with CRLF, without doubled dots and the last line.
    pub(super) size: u64,
    /// What characters its head has.
    pub(super) head: Characters,
    /// What characters all of it has.
    pub(super) whole: Characters,
    /// How long its lines are.
    pub(super) lines: Lines,
}

/// Whether lines are as short as SMTP has them (RFC 5321, 4.5.3.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Lines {
    /// All are.
    #[default]
    Fit,
    /// One is longer.
    Long,
}

/// What characters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Characters {
    /// ASCII only.
    #[default]
    Ascii,
    /// Others too.
    Others,
}

impl Survey {
    /// Reads a message to its end.
    pub(super) fn of(mut message: impl Read) -> io::Result<Self> {
        let mut wire = OnWire::default();
        let (mut input, mut output) = (vec![0; PIECE], Vec::new());
        loop {
            let n = read(&mut message, &mut input)?;
            if n == 0 {
                break;
            }
            output.clear();
            wire.feed(&input[..n], &mut output);
        }
        wire.finish(&mut output);
        Ok(wire.survey)
    }
}

/// Turns a message that comes in pieces into what DATA carries, up to its last line of one dot.
#[derive(Debug, Default)]
pub(super) struct OnWire {
    at: At,
    part: Part,
    /// How long the line is so far.
    length: usize,
    survey: Survey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    LineStart,
    Line,
    /// Behind a CR, whose line end is written already: a LF belongs to it.
    Cr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    Head,
    Body,
}

impl OnWire {
    /// Converts a piece.
    pub(super) fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) {
        while let Some(&first) = input.first() {
            match first {
                b'\n' if self.at == At::Cr => self.at = At::LineStart,
                b'\n' => self.line_end(At::LineStart, output),
                b'\r' => self.line_end(At::Cr, output),
                _ => {
                    input = self.text(input, output);
                    continue;
                }
            }
            input = &input[1..];
        }
    }

    /// Ends the last line.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>) {
        if self.at == At::Line {
            self.line_end(At::LineStart, output);
        }
    }

    fn line_end(&mut self, at: At, output: &mut Vec<u8>) {
        if self.at != At::Line {
            self.part = Part::Body;
        }
        self.at = at;
        self.length = 0;
        self.survey.size += 2;
        output.extend_from_slice(b"\r\n");
    }

    /// Up to the end of the line or of what is there.
    fn text<'a>(&mut self, input: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let end = input.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(input.len());
        let (text, behind) = input.split_at(end);
        if self.at != At::Line && text[0] == b'.' {
            output.push(b'.');
        }
        self.at = At::Line;
        self.survey.size += text.len() as u64;
        self.length += text.len();
        if self.length > MAX_LINE {
            self.survey.lines = Lines::Long;
        }
        if !text.is_ascii() {
            self.survey.whole = Characters::Others;
            if self.part == Part::Head {
                self.survey.head = Characters::Others;
            }
        }
        output.extend_from_slice(text);
        behind
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on_wire(pieces: &[&[u8]]) -> (Vec<u8>, Survey) {
        let (mut wire, mut output) = (OnWire::default(), Vec::new());
        for piece in pieces {
            wire.feed(piece, &mut output);
        }
        wire.finish(&mut output);
        (output, wire.survey)
    }

    #[test]
    fn lines_end_with_crlf_and_dots_are_doubled() {
        let cases: [(&[u8], &[u8]); 14] = [
            (b"", b""),
            (b"a", b"a\r\n"),
            (b"a\n", b"a\r\n"),
            (b"a\r\n", b"a\r\n"),
            (b"a\r", b"a\r\n"),
            (b"a\rb", b"a\r\nb\r\n"),
            (b"a\r\r\nb", b"a\r\n\r\nb\r\n"),
            (b"a\n\n", b"a\r\n\r\n"),
            (b".", b"..\r\n"),
            (b"a\n.\nb", b"a\r\n..\r\nb\r\n"),
            (b"a\r.\rb", b"a\r\n..\r\nb\r\n"),
            (b"a\r\n..x.\r\n", b"a\r\n...x.\r\n"),
            (b"\n.\r\n.\n\r.\r", b"\r\n..\r\n..\r\n\r\n..\r\n"),
            (b"a\0b\xff\n", b"a\0b\xff\r\n"),
        ];
        for (message, wanted) in cases {
            let (wire, _) = on_wire(&[message]);
            assert_eq!(wire, wanted, "{message:?}");
        }
    }

    #[test]
    fn what_must_be_known_before() {
        let survey = |message: &[u8]| Survey::of(message).expect("it reads");
        let plain = survey(b"A: b\n\n.c");
        assert_eq!(
            (plain.size, plain.head, plain.whole),
            (12, Characters::Ascii, Characters::Ascii)
        );
        let body = survey("A: b\n\n\u{fc}\n".as_bytes());
        assert_eq!((body.head, body.whole), (Characters::Ascii, Characters::Others));
        let head = survey("A: \u{fc}\n\nb\n".as_bytes());
        assert_eq!((head.head, head.whole), (Characters::Others, Characters::Others));
        assert_eq!((plain.lines, survey(&[b'x'; MAX_LINE]).lines), (Lines::Fit, Lines::Fit));
        assert_eq!(survey(&[b'x'; MAX_LINE + 1]).lines, Lines::Long);
        let long = vec![b'x'; 3 * PIECE + 1];
        assert_eq!(survey(&long).size, long.len() as u64 + 2);
    }

    /// The same, by a different way: lines first, then dots.
    fn naive(message: &[u8]) -> Vec<u8> {
        let text: String = message.iter().map(|b| char::from(*b)).collect();
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut lines: Vec<_> = text.split('\n').collect();
        if lines.last() == Some(&"") {
            lines.pop();
        }
        let dotted =
            |line: &&str| format!("{}{line}\r\n", if line.starts_with('.') { "." } else { "" });
        lines.iter().map(dotted).collect::<String>().chars().map(|c| c as u8).collect()
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            message in prop::collection::vec(prop::sample::select(&b"\r\n.ax\xff\0"[..]), 0..40),
            cuts in prop::collection::vec(0_usize..40, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|w| &message[w[0]..w[1]]).collect();
            let (wire, survey) = on_wire(&pieces);
            prop_assert_eq!(&wire, &naive(&message));
            prop_assert_eq!(survey, Survey::of(&message[..]).expect("it reads"));

            // Nothing in it ends it, and the receiver gets back what was meant.
            prop_assert!(!wire.starts_with(b".\r\n"));
            prop_assert!(!wire.windows(5).any(|w| w == b"\r\n.\r\n"));
            prop_assert!(wire.is_empty() || wire.ends_with(b"\r\n"));
            let doubled = wire.split_inclusive(|b| *b == b'\n').filter(|l| l[0] == b'.').count();
            prop_assert_eq!(survey.size, (wire.len() - doubled) as u64);
        }
    }
}
