//! A message without the fields that hide recipients.
//!
//! Everything else passes through as it is, of any size and shape. Two things go with hidden fields. Lines that are no fields go
//! with a `Bcc` that stands in front of everything, because a head that began with them would be none. And on the wire a
//! CR without LF becomes a line end ([decided](crate#what-is-decided)), so a `Bcc` behind one goes as well, up to the next CR or LF.

use crate::head::{Line, MAX_NAME, is_hidden};

/// The message without its hidden fields.
///
/// ```
/// let message = b"To: a@b\nBcc: c@d,\n e@f\nSubject: x\n\nBcc: is a word here\n";
/// let seen = sundown_mail::bcc::without(message);
/// assert_eq!(seen, b"To: a@b\nSubject: x\n\nBcc: is a word here\n");
/// ```
pub fn without(message: &[u8]) -> Vec<u8> {
    let (mut filter, mut output) = (Filter::default(), Vec::with_capacity(message.len()));
    filter.feed(message, &mut output);
    filter.finish(&mut output);
    output
}

/// Drops hidden fields from a message that comes in pieces. It keeps no more of it than the beginning of one line.
///
/// ```text
///   Start(line) ──what the line is──► Line(keep | drop) ──LF──► Start(line)
///       │                             Line(keep | cut) ──CR──► Start(segment) ──► Line(keep | cut)
///       └──an empty line, or a first line that is no field──► Body
/// ```
///
/// ```
/// use sundown_mail::bcc::Filter;
///
/// let (mut filter, mut output) = (Filter::default(), Vec::new());
/// for piece in ["To: a@b\nB", "cc: c@d\n", "\ntext"] {
///     filter.feed(piece.as_bytes(), &mut output);
/// }
/// filter.finish(&mut output);
/// assert_eq!(output, b"To: a@b\n\ntext");
/// ```
#[derive(Debug)]
pub struct Filter {
    at: At,
    /// What happens to the field that a continuation belongs to.
    field: Fate,
    seen: Seen,
    /// The CRs at the beginning of a line or segment that is not understood yet.
    crs: usize,
    /// What follows them, at most [`MAX_NAME`] bytes.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Start(Of),
    Line(Fate),
    Body,
}

/// What begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Line,
    /// What stands behind a CR in a line that passes.
    Segment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    /// Up to its LF, with it.
    Drop,
    /// Up to the next CR or LF, without it.
    Cut,
}

/// What was seen of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// Hidden fields, and nothing that passes.
    Hidden,
    Field,
}

/// What a line or segment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Field,
    Hidden,
    Continuation,
    /// A line end.
    Empty,
    Other,
}

impl Kind {
    /// `None` if more of it must be seen.
    fn of(bytes: &[u8]) -> Option<Self> {
        Line::of(bytes).map(|line| match line {
            Line::Field(name) if is_hidden(name) => Self::Hidden,
            Line::Field(_) => Self::Field,
            Line::Continuation => Self::Continuation,
            Line::Empty => Self::Empty,
            Line::Other => Self::Other,
        })
    }
}

impl Default for Filter {
    fn default() -> Self {
        let (at, held) = (At::Start(Of::Line), Vec::new());
        Self { at, field: Fate::Keep, seen: Seen::Nothing, crs: 0, held }
    }
}

impl Filter {
    /// Takes a piece of the message, and appends what passes of what is understood.
    pub fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) {
        while !input.is_empty() {
            input = match self.at {
                At::Body => {
                    output.extend_from_slice(input);
                    return;
                }
                At::Line(fate) => self.rest_of_line(fate, input, output),
                At::Start(of) => self.start(of, input, output),
            }
        }
    }

    /// Appends what is left: the message has ended.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        let fate = match self.at {
            At::Start(of) => self.fate(of, Kind::Other),
            At::Line(_) | At::Body => Some(Fate::Keep),
        };
        self.release(fate, output);
    }

    /// Goes over what a line or segment begins with, until it is known what that is.
    fn start<'a>(&mut self, of: Of, input: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let mut input = input;
        if self.held.is_empty() {
            let crs = input.iter().take_while(|b| **b == b'\r').count();
            self.crs += crs;
            input = &input[crs..];
        }
        let before = self.held.len();
        let needed = (MAX_NAME + 1).saturating_sub(before).min(input.len());
        // Most lines are in one piece, and need not be held.
        let kind = if before == 0 {
            Kind::of(input)
        } else {
            self.held.extend_from_slice(&input[..needed]);
            Kind::of(&self.held)
        };
        let Some(kind) = kind else {
            if before == 0 {
                self.held.extend_from_slice(input);
            }
            return &[];
        };
        self.held.truncate(before);
        let fate = self.fate(of, kind);
        self.at = fate.map_or(At::Body, At::Line);
        self.release(fate, output);
        input
    }

    /// What becomes of a line or segment; `None` if it belongs to the body.
    fn fate(&mut self, of: Of, kind: Kind) -> Option<Fate> {
        match of {
            Of::Line => self.fate_of_line(kind),
            Of::Segment => Some(self.fate_of_segment(kind)),
        }
    }

    fn fate_of_line(&mut self, kind: Kind) -> Option<Fate> {
        let kind = match (kind, self.crs) {
            (kind, 0) | (kind @ Kind::Empty, 1) => kind,
            // Behind a CR nothing is a field but on the wire.
            (Kind::Hidden, _) if self.seen != Seen::Nothing => Kind::Hidden,
            (_, _) => Kind::Other,
        };
        match (kind, self.seen) {
            (Kind::Empty, _) | (Kind::Continuation | Kind::Other, Seen::Nothing) => return None,
            (Kind::Field, _) => (self.field, self.seen) = (Fate::Keep, Seen::Field),
            (Kind::Hidden, Seen::Field) => self.field = Fate::Drop,
            (Kind::Hidden, _) | (Kind::Other, Seen::Hidden) => {
                (self.field, self.seen) = (Fate::Drop, Seen::Hidden);
            }
            (Kind::Other, Seen::Field) => self.field = Fate::Keep,
            (Kind::Continuation, _) => {}
        }
        // A field that was cut is dropped from there on.
        Some(if self.field == Fate::Keep { Fate::Keep } else { Fate::Drop })
    }

    fn fate_of_segment(&mut self, kind: Kind) -> Fate {
        match kind {
            Kind::Hidden => self.field = Fate::Cut,
            Kind::Continuation => {}
            Kind::Empty => return Fate::Keep,
            Kind::Field | Kind::Other => self.field = Fate::Keep,
        }
        self.field
    }

    /// Lets go of what was held, now that its fate is known.
    fn release(&mut self, fate: Option<Fate>, output: &mut Vec<u8>) {
        if matches!(fate, None | Some(Fate::Keep)) {
            output.resize(output.len() + self.crs, b'\r');
            output.extend_from_slice(&self.held);
        }
        self.crs = 0;
        self.held.clear();
    }

    fn rest_of_line<'a>(&mut self, fate: Fate, input: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let ends = |b: &u8| *b == b'\n' || (*b == b'\r' && fate != Fate::Drop);
        let end = input.iter().position(ends).unwrap_or(input.len());
        let (text, behind) = input.split_at(end);
        if fate == Fate::Keep {
            output.extend_from_slice(text);
        }
        match behind {
            [] => &[],
            [b'\n', behind @ ..] => {
                if fate != Fate::Drop {
                    output.push(b'\n');
                }
                self.at = At::Start(Of::Line);
                behind
            }
            _ => {
                self.at = At::Start(Of::Segment);
                behind
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::head::Fields;

    /// The message in pieces of every small size, which make no difference.
    fn filtered(message: &[u8]) -> Vec<u8> {
        let whole = without(message);
        for step in [1, 2, 3, 7] {
            let (mut filter, mut seen) = (Filter::default(), Vec::new());
            for piece in message.chunks(step) {
                filter.feed(piece, &mut seen);
            }
            filter.finish(&mut seen);
            assert_eq!(seen, whole, "pieces of {step} bytes differ");
        }
        whole
    }

    fn filtered_text(message: &str) -> String {
        String::from_utf8(filtered(message.as_bytes())).expect("text")
    }

    /// Lines that mean nothing would make a body of what follows them, if they came to stand in front.
    #[test]
    fn what_stands_behind_a_bcc_stays_a_head() {
        let cases = [
            ("Bcc: a@b\nodd\n folded\nBcc: c@d\nodd\nFrom: e@f\nodd\n\nx", "From: e@f\nodd\n\nx"),
            ("Bcc: a@b\nodd\n\nbody", "\nbody"),
            ("Bcc: a@b\nodd", ""),
            ("Bcc: a@b\n\r", ""),
            ("To: a@b\nBcc: c@d\nodd\n\nx", "To: a@b\nodd\n\nx"),
            ("odd\nBcc: a@b\n", "odd\nBcc: a@b\n"),
        ];
        for (message, seen) in cases {
            assert_eq!(filtered_text(message), seen, "of {message:?}");
        }
    }

    #[test]
    fn bcc_never_passes() {
        let secret = "secret@example.org";
        let spellings = [
            format!("Bcc: {secret}\n"),
            format!("BCC:{secret}\r\n"),
            format!("bcc : a@b,\n\t{secret}\n"),
            format!("bCc\t:\n {secret},\n  {secret}\n"),
            format!("Resent-Bcc: {secret}\n"),
            format!("Bcc{}: {secret}\n", " ".repeat(5000)),
            format!("Bcc: {}{secret}\n", "x".repeat(300_000)),
            format!("Bcc:\n \n {secret}\n"),
            format!("Bcc: a\0b,\r {secret}\n"),
            format!("\rBcc: {secret}\n {secret}\n"),
        ];
        for bcc in &spellings {
            for (before, after) in [
                ("Subject: s\n", "To: t\n\nbody\n"),
                ("", "To: t\r\n\r\nbody"),
                ("Subject: s\nno field at all\n", "\nbody"),
                ("X: 1\n folded\n", ""),
            ] {
                // A CR in front makes a body of it.
                if before.is_empty() && bcc.starts_with('\r') {
                    continue;
                }
                let seen = filtered_text(&format!("{before}{bcc}{after}"));
                assert_eq!(seen, format!("{before}{after}"), "of {:.60?}", bcc);
            }
        }
    }

    /// What becomes a field on the wire is hidden there too.
    #[test]
    fn a_bcc_behind_a_cr_is_cut_out() {
        let cases = [
            ("To: a\rBcc: b\n\nx", "To: a\n\nx"),
            ("To: a\rBcc: b\r\n\r\nx", "To: a\r\n\r\nx"),
            ("To: a\rbcc : b\rCc: c\n d\n\nx", "To: a\rCc: c\n d\n\nx"),
            ("To: a\rBcc: b,\n c,\r d\r e\rCc: f\n\nx", "To: a\n\nx"),
            ("To: a\rBcc: b\r c\r\n d\n\nx", "To: a\r\n\nx"),
            ("To: a\r\rBcc: b\nCc: c\n\nx", "To: a\nCc: c\n\nx"),
            ("To: a\n\r\rBcc: b\rX: y\nCc: c\n\nx", "To: a\nCc: c\n\nx"),
            ("To: a\r\r\nBcc: b\r\r\n\r\n\nx", "To: a\r\r\n\r\n\nx"),
            ("To: a\rBcc", "To: a\rBcc"),
            ("To: a\rBcc no\rBccc: b\n", "To: a\rBcc no\rBccc: b\n"),
            ("To: a\n\nx\rBcc: text\n", "To: a\n\nx\rBcc: text\n"),
            ("text\rBcc: text\n", "text\rBcc: text\n"),
            ("\rBcc: text\n", "\rBcc: text\n"),
        ];
        for (message, seen) in cases {
            assert_eq!(filtered_text(message), seen, "of {message:?}");
        }
    }

    #[test]
    fn what_is_not_bcc_passes_unchanged() {
        let mut long = b"Subject: ".to_vec();
        long.extend(vec![b'x'; 1 << 20]);
        let mut nameless = vec![b'y'; 1 << 20];
        nameless.extend(b"\n\nbody");
        let messages: [&[u8]; 12] = [
            b"",
            b"\n",
            b"\r",
            b"\r\nBcc: body\n",
            b"\nBcc: body\n",
            b"no head\nBcc: body\n",
            b" folded first\nBcc: body\n",
            b"\0\0\0",
            b"Subject: \xff\xfe\n\n\0Bcc: body",
            b"Bccx: kept\nX-Bcc: kept\nBc: kept\n",
            &long,
            &nameless,
        ];
        for message in messages {
            assert_eq!(filtered(message), message);
        }
    }

    /// The hidden fields, and lines behind them as long as nothing has passed, taken out in one piece.
    fn naive(message: &[u8]) -> Vec<u8> {
        let mut fields = Fields::of(message);
        let (mut kept, mut at) = (Vec::new(), 0);
        while let Some(field) = fields.next() {
            let end = fields.passed().len();
            let between = &message[at..end - field.raw().len()];
            kept.extend_from_slice(if kept.is_empty() { &[] } else { between });
            kept.extend_from_slice(if field.is_hidden() { &[] } else { field.raw() });
            at = end;
        }
        let head = fields.passed().len();
        kept.extend_from_slice(if kept.is_empty() { &[] } else { &message[at..head] });
        [&kept, &message[head..]].concat()
    }

    proptest! {
        /// What filters a stream takes out is what the scanner sees, and nothing else.
        #[test]
        fn the_filter_sees_the_fields_of_the_scanner(
            parts in prop::collection::vec(prop::sample::select(&[
                "Bcc", "bcc", "Resent-Bcc", "To", "x", ":", " ", "\t", ",", "\n", "\n", "\r\n", "\0",
                "\u{fc}", "\n\n", "Bcc: s", "\nBcc: s\n", "\nTo: t\n",
            ][..]), 0..30),
        ) {
            let message = parts.concat();
            let seen = filtered(message.as_bytes());
            prop_assert_eq!(&seen, &naive(message.as_bytes()));
            prop_assert!(!Fields::of(&seen).any(|field| field.is_hidden()));
        }

        /// No line of the head that goes out is hidden, whatever ends a line there.
        #[test]
        fn no_reading_of_line_ends_finds_a_bcc(
            parts in prop::collection::vec(prop::sample::select(&[
                "Bcc", "To", "x", ":", " ", "\n", "\r", "\r", "\r\n", "Bcc: s", "\rBcc: s", "\nTo: t",
            ][..]), 0..30),
        ) {
            let message = parts.concat();
            let seen = filtered(message.as_bytes());
            let mut fields = Fields::of(&seen);
            fields.by_ref().for_each(drop);
            for line in fields.passed().split(|b| matches!(b, b'\r' | b'\n')) {
                prop_assert_ne!(Kind::of(line), Some(Kind::Hidden), "{:?}", message);
            }
        }
    }
}
