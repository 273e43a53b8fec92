//! A message without the fields that hide recipients.
//!
//! Everything else passes through as it is, of any size and shape. One line is added: where the head ends at a line that is no field,
//! an empty one, so that whatever reads the message sees the same end. On the wire a CR without LF becomes a line end
//! ([decided](crate#what-is-decided)), so a `Bcc` behind one goes as well, up to the next CR or LF.

use crate::head::{Line, LineEnd, MAX_NAME, is_hidden};

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
///       └──an empty line, or a line that is no field──► Body
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
    /// How the first line ended.
    line_end: Option<LineEnd>,
    /// The byte in front of what comes next, as long as no line has ended.
    last: u8,
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
        Self {
            at: At::Start(Of::Line),
            field: Fate::Keep,
            seen: Seen::Nothing,
            line_end: None,
            last: 0,
            crs: 0,
            held: Vec::new(),
        }
    }
}

impl Filter {
    /// Takes a piece of the message, and appends what passes of what is understood.
    pub fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) {
        self.look_for_line_end(input);
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
        if self.crs > 0 || !self.held.is_empty() {
            let At::Start(of) = self.at else { unreachable!("only what begins is held") };
            self.begin(of, Kind::Other, output);
        }
    }

    fn look_for_line_end(&mut self, input: &[u8]) {
        if self.line_end.is_some() {
            return;
        }
        if let Some(at) = input.iter().position(|b| *b == b'\n') {
            let before = at.checked_sub(1).map_or(self.last, |before| input[before]);
            self.line_end = Some(if before == b'\r' { LineEnd::CrLf } else { LineEnd::Lf });
        }
        self.last = input.last().copied().unwrap_or(self.last);
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
        self.begin(of, kind, output);
        input
    }

    /// A line or segment begins, and it is known what it is.
    fn begin(&mut self, of: Of, kind: Kind, output: &mut Vec<u8>) {
        let fate = match of {
            Of::Line => self.fate_of_line(kind),
            Of::Segment => Some(self.fate_of_segment(kind)),
        };
        let empty = kind == Kind::Empty && self.crs <= 1;
        if fate.is_none() && self.seen == Seen::Field && !empty {
            let end = self.line_end.unwrap_or(LineEnd::Lf);
            output.extend_from_slice(end.as_str().as_bytes());
        }
        self.at = fate.map_or(At::Body, At::Line);
        self.release(fate, output);
    }

    /// What becomes of a line; `None` if it belongs to the body.
    fn fate_of_line(&mut self, kind: Kind) -> Option<Fate> {
        match (kind, self.crs, self.seen) {
            (Kind::Field, 0, _) => (self.field, self.seen) = (Fate::Keep, Seen::Field),
            (Kind::Hidden, 0, _) => (self.field, self.seen) = (Fate::Drop, Seen::Field),
            (Kind::Continuation, 0, Seen::Field) => {}
            // Behind a CR nothing is a field.
            (Kind::Field | Kind::Hidden | Kind::Continuation | Kind::Empty | Kind::Other, _, _) => {
                return None;
            }
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

    /// The first line that is no field is the first one of the text, for whatever reads what passes.
    #[test]
    fn a_head_ends_where_it_ends_for_everybody() {
        let cases = [
            ("To: a@b\nodd\nBcc: text\n\nx", "To: a@b\n\nodd\nBcc: text\n\nx"),
            ("To: a@b\r\nodd\r\nBcc: text\r\n", "To: a@b\r\n\r\nodd\r\nBcc: text\r\n"),
            ("Bcc: a@b\r\nTo: c\nodd", "To: c\n\r\nodd"),
            ("Bcc: a@b\nodd\nBcc: text", "\nodd\nBcc: text"),
            ("Bcc: a@b\n\nodd", "\nodd"),
            ("Bcc: a@b\n folded", ""),
            ("Bcc: a@b\n\r", "\n\r"),
            ("To: a@b\nBcc: c@d\nodd\n\nx", "To: a@b\n\nodd\n\nx"),
            ("To: a@b\nBcc: c@d\n: x\n", "To: a@b\n\n: x\n"),
            ("To: a@b\n\rBcc: text\n", "To: a@b\n\n\rBcc: text\n"),
            ("To: a@b\n\r\r\nBcc: text\n", "To: a@b\n\n\r\r\nBcc: text\n"),
            ("To: a@b\nBcc", "To: a@b\n\nBcc"),
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
        ];
        for bcc in &spellings {
            for (before, after) in [
                ("Subject: s\n", "To: t\n\nbody\n"),
                ("", "To: t\r\n\r\nbody"),
                ("X: 1\n folded\n", ""),
            ] {
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
            ("To: a\rodd\rBcc: b\nCc: c\n\nx", "To: a\rodd\nCc: c\n\nx"),
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

    /// The hidden fields taken out in one piece, and an empty line put where the head ends without one.
    fn naive(message: &[u8]) -> Vec<u8> {
        let mut fields = Fields::of(message);
        let mut kept = Vec::new();
        for field in fields.by_ref() {
            kept.extend_from_slice(if field.is_hidden() { &[] } else { field.raw() });
        }
        let (head, rest) = message.split_at(fields.passed().len());
        let ends = [&b"\n"[..], b"\r\n"].iter().any(|end| rest.starts_with(end));
        let missing = !head.is_empty() && !rest.is_empty() && !ends;
        let end = LineEnd::of(message).as_str().as_bytes();
        [&kept[..], if missing { end } else { b"" }, rest].concat()
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

        /// Readers that go on with a head behind lines that are no fields find no Bcc either.
        #[test]
        fn lenient_readers_find_no_bcc(
            parts in prop::collection::vec(prop::sample::select(&[
                "Bcc", "To", "x", ":", " ", "\n", "\n", "\r", "\r\n", "Bcc: s\n", "Bcc: s", "\nTo: t\n", "odd\n",
            ][..]), 0..30),
        ) {
            let message = parts.concat();
            if Fields::of(message.as_bytes()).next().is_some() {
                let seen = filtered(message.as_bytes());
                // Every CR and LF ends a line, and only an empty line ends the head.
                let text = String::from_utf8(seen).expect("text").replace("\r\n", "\n").replace('\r', "\n");
                let head = text.split("\n\n").next().unwrap_or_default();
                let head = if text.starts_with('\n') { "" } else { head };
                for line in head.split('\n') {
                    prop_assert_ne!(Kind::of(line.as_bytes()), Some(Kind::Hidden), "{:?}", message);
                }
            }
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
