//! The head of a message: its fields.
//!
//! A head is the fields that a message begins with, each with the lines that continue it. It ends at an empty line, or at the first line
//! that is neither field nor continuation, which belongs to the body. A message whose first line is no field has no head: it is a body
//! only, whatever stands further down.

/// The most bytes of a field's name and the blanks behind it. RFC 5322 allows no longer line.
pub const MAX_NAME: usize = 998;

/// The fields that name recipients to none of the others, in lower case.
pub const HIDDEN: [&str; 2] = ["bcc", "resent-bcc"];

/// How the lines of a message end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// As on Unix.
    Lf,
    /// As on the wire.
    CrLf,
}

impl LineEnd {
    /// How the lines of this message end, by its first one. A message without a line end is from a program that writes no CR.
    ///
    /// ```
    /// use sundown_mail::head::LineEnd;
    ///
    /// assert_eq!(LineEnd::of(b"A: 1\r\nB: 2\n"), LineEnd::CrLf);
    /// assert_eq!(LineEnd::of(b"A: 1"), LineEnd::Lf);
    /// ```
    pub fn of(message: &[u8]) -> Self {
        let first = message.iter().position(|b| *b == b'\n').map(|end| &message[..end]);
        if first.is_some_and(|line| line.ends_with(b"\r")) { Self::CrLf } else { Self::Lf }
    }

    /// The bytes.
    ///
    /// ```
    /// assert_eq!(sundown_mail::head::LineEnd::CrLf.as_str(), "\r\n");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
        }
    }
}

/// What a message begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A field: it has a head.
    Field,
    /// An empty line: its head has no fields.
    EmptyLine,
    /// Neither: it is a body only. Fields that are put in front of it need an empty line behind them.
    Body,
}

impl Start {
    /// What this message begins with.
    ///
    /// ```
    /// use sundown_mail::head::Start;
    ///
    /// assert_eq!(Start::of(b"Subject: x"), Start::Field);
    /// assert_eq!(Start::of(b"\r\ntext"), Start::EmptyLine);
    /// assert_eq!(Start::of(b"text\nSubject: x\n"), Start::Body);
    /// assert_eq!(Start::of(b""), Start::Body);
    /// ```
    pub fn of(message: &[u8]) -> Self {
        match Line::of(message) {
            Some(Line::Field(_)) => Self::Field,
            Some(Line::Empty) => Self::EmptyLine,
            Some(Line::Continuation | Line::Other) | None => Self::Body,
        }
    }
}

/// What a line is, as far as a head is concerned. Which one it is depends on its first bytes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A field of that name.
    Field(&'a [u8]),
    Continuation,
    Empty,
    Other,
}

impl<'a> Line<'a> {
    /// What the line is that these bytes begin with; `None` if that depends on bytes behind them, of which there are none in a
    /// whole message. A CR that ends the bytes is [`Line::Other`]: a filter of pieces passes none without what follows it. No more
    /// than [`MAX_NAME`] bytes and one are looked at.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        match bytes {
            [b'\n', ..] | [b'\r', b'\n', ..] => return Some(Self::Empty),
            [b' ' | b'\t', ..] => return Some(Self::Continuation),
            _ => {}
        }
        let seen = &bytes[..bytes.len().min(MAX_NAME + 1)];
        let in_name = |b: &u8| matches!(b, 33..=126) && *b != b':';
        let name = &seen[..seen.iter().position(|b| !in_name(b)).unwrap_or(seen.len())];
        let behind = seen[name.len()..].iter().find(|b| !is_blank(**b));
        match behind {
            Some(b':') if !name.is_empty() => Some(Self::Field(name)),
            None if seen.len() <= MAX_NAME => None,
            // A colon may follow beyond what is looked at; a hidden field must not get through that way.
            None if is_hidden(name) => Some(Self::Field(name)),
            _ => Some(Self::Other),
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

pub(crate) fn is_hidden(name: &[u8]) -> bool {
    HIDDEN.iter().any(|hidden| name.eq_ignore_ascii_case(hidden.as_bytes()))
}

/// A field of a message, with the lines that continue it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    name: &'a [u8],
    raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// Its name, as it is written.
    ///
    /// ```
    /// let field = sundown_mail::head::Fields::of(b"SUBJECT : x\n").next().unwrap();
    /// assert_eq!(field.name(), b"SUBJECT");
    /// ```
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// Whether this is its name, in any case.
    ///
    /// ```
    /// use sundown_mail::head::Fields;
    ///
    /// let field = Fields::of(b"SUBJECT : x\n").next().unwrap();
    /// assert!(field.is("Subject") && !field.is("Subjects"));
    /// ```
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether it names recipients to none of the others.
    pub fn is_hidden(&self) -> bool {
        is_hidden(self.name)
    }

    /// All of its bytes, with line ends.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What stands behind the colon, folded as it is, with line ends.
    ///
    /// ```
    /// use sundown_mail::head::Fields;
    ///
    /// let field = Fields::of(b"To : a@b,\r\n\tc@d\r\n\r\n").next().unwrap();
    /// assert_eq!(field.value(), b" a@b,\r\n\tc@d\r\n");
    /// ```
    pub fn value(&self) -> &'a [u8] {
        let behind = &self.raw[self.name.len()..];
        let blanks = behind.iter().take_while(|b| is_blank(**b)).count();
        let behind = &behind[blanks..];
        behind.strip_prefix(b":").unwrap_or(behind)
    }
}

/// The fields of a head, in their order.
///
/// ```
/// use sundown_mail::head::Fields;
///
/// let message = b"A: 1\nb: 2\n folded\nno field\nC: text\n";
/// let mut fields = Fields::of(message);
/// let raw: Vec<_> = fields.by_ref().map(|field| field.raw()).collect();
/// assert_eq!(raw, [&b"A: 1\n"[..], b"b: 2\n folded\n"]);
/// assert_eq!(fields.passed(), b"A: 1\nb: 2\n folded\n");
/// ```
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    /// Nothing if it has no head.
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Those of a message.
    pub fn of(message: &'a [u8]) -> Self {
        let has_head = Start::of(message) == Start::Field;
        Self { message: if has_head { message } else { &[] }, at: 0 }
    }

    /// The fields so far. Behind the last one that is the head, without the empty line, if there is one.
    pub fn passed(&self) -> &'a [u8] {
        &self.message[..self.at]
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let rest = &self.message[self.at..];
        let Some(Line::Field(name)) = Line::of(rest) else { return None };
        let mut lines = lines(rest);
        let first = lines.next()?;
        let folded = lines.take_while(|line| is_blank(line[0]));
        let length = first.len() + folded.map(<[u8]>::len).sum::<usize>();
        self.at += length;
        Some(Field { name, raw: &rest[..length] })
    }
}

/// Whether the fields of a head end within these bytes, which a message begins with: something stands behind them that is none.
///
/// ```
/// use sundown_mail::head::ends_in;
///
/// assert!(ends_in(b"A: 1\n\n") && ends_in(b"A: 1\nits text") && ends_in(b"no field"));
/// assert!(!ends_in(b"A: 1\n") && !ends_in(b"A: 1\nB") && !ends_in(b"A: 1\n\r") && !ends_in(b""));
/// ```
pub fn ends_in(beginning: &[u8]) -> bool {
    let mut fields = Fields::of(beginning);
    fields.by_ref().for_each(drop);
    let behind = &beginning[fields.passed().len()..];
    // With what follows it a CR may be an empty line.
    behind != b"\r" && matches!(Line::of(behind), Some(Line::Empty | Line::Other))
}

/// Looks for fields in a head that comes in pieces. It keeps no more of it than the beginning of one line.
///
/// ```
/// use sundown_mail::head::Lookout;
///
/// let mut lookout = Lookout::new(["Date", "From"]);
/// for piece in ["X: 1\nDa", "te: today\n", "\nFrom: is text here\n"] {
///     lookout.feed(piece.as_bytes());
/// }
/// assert!(lookout.is_over());
/// assert_eq!(lookout.missing(), ["From"]);
/// ```
#[derive(Debug)]
pub struct Lookout {
    missing: Vec<&'static str>,
    at: At,
    /// The beginning of a line of which it is not known yet what it is, at most [`MAX_NAME`] bytes.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the first line.
    Beginning,
    /// At the beginning of another one.
    Start,
    /// Within a line.
    Line,
    /// Behind the head.
    Body,
}

impl Lookout {
    /// One for fields of these names.
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self { missing: names.into_iter().collect(), at: At::Beginning, held: Vec::new() }
    }

    /// Takes the next piece of the message.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && !self.is_over() {
            if self.at == At::Line {
                let Some(end) = piece.iter().position(|b| *b == b'\n') else { return };
                self.at = At::Start;
                piece = &piece[end + 1..];
                continue;
            }
            let before = self.held.len();
            self.held.extend_from_slice(&piece[..piece.len().min(MAX_NAME + 1 - before)]);
            // With what follows it a CR may be an empty line.
            let line = if self.held == b"\r" { None } else { Line::of(&self.held) };
            let Some(line) = line else { return };
            self.at = match (line, self.at) {
                (Line::Field(name), _) => {
                    self.missing.retain(|wanted| !name.eq_ignore_ascii_case(wanted.as_bytes()));
                    At::Line
                }
                (Line::Continuation, At::Start) => At::Line,
                (Line::Continuation | Line::Empty | Line::Other, _) => At::Body,
            };
            self.held.clear();
        }
    }

    /// Whether nothing that follows is of interest: the head has ended, or nothing is missing.
    pub fn is_over(&self) -> bool {
        self.at == At::Body || self.missing.is_empty()
    }

    /// The names of which there was no field so far.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }
}

/// A message without the fields of that name.
///
/// ```
/// use sundown_mail::head::without;
///
/// assert_eq!(without(b"To: a\nX: 1,\n 2\nx : 3\n\nX: text", "x"), b"To: a\n\nX: text");
/// ```
pub fn without(message: &[u8], name: &str) -> Vec<u8> {
    let mut fields = Fields::of(message);
    let mut kept = Vec::with_capacity(message.len());
    for field in fields.by_ref().filter(|field| !field.is(name)) {
        kept.extend_from_slice(field.raw());
    }
    let behind = &message[fields.passed().len()..];
    // What begins with text now had a head, and text that looks like a field is none.
    if kept.is_empty() && Start::of(message) == Start::Field && Start::of(behind) == Start::Body {
        kept.extend_from_slice(LineEnd::of(message).as_str().as_bytes());
    }
    kept.extend_from_slice(behind);
    kept
}

/// Lines with their ends; none is empty.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|b| *b == b'\n')
}

/// As much as most messages lack.
const USUAL_FRONT: usize = 256;

/// The longest line of a field that is written here, if it has blanks to fold it at. RFC 5322, 2.1.1 asks for 78, RFC 2047 for 76
/// where a line has encoded words.
const MAX_LINE: usize = 76;

/// The lines to put in front of a message so that it has these fields: with its line ends, and an empty line if it is a body
/// only. Nothing, if there are none. A value stays in its field, whatever is in it: line ends become blanks, and long fields are folded.
///
/// ```
/// use sundown_mail::head::in_front;
///
/// assert_eq!(in_front(b"To: a\r\n\r\ntext", [("Subject", "x\nBcc: b")]), b"Subject: x Bcc: b\r\n");
/// assert_eq!(in_front(b"text", [("To", "a")]), b"To: a\n\n");
/// ```
pub fn in_front<'n, V: AsRef<str>>(
    message: &[u8],
    fields: impl IntoIterator<Item = (&'n str, V)>,
) -> Vec<u8> {
    let end = LineEnd::of(message).as_str().as_bytes();
    let mut front = Vec::new();
    for (name, value) in fields {
        if front.is_empty() {
            front.reserve(USUAL_FRONT);
        }
        let begin = front.len();
        front.extend_from_slice(name.as_bytes());
        front.extend_from_slice(b": ");
        let in_line = |b: u8| if matches!(b, b'\r' | b'\n') { b' ' } else { b };
        front.extend(value.as_ref().bytes().map(in_line));
        if front.len() - begin > MAX_LINE {
            let line = front.split_off(begin);
            fold(&line, name.len() + 2, end, &mut front);
        }
        front.extend_from_slice(end);
    }
    if !front.is_empty() && Start::of(message) == Start::Body {
        front.extend_from_slice(end);
    }
    front
}

/// Writes a field in lines of at most [`MAX_LINE`] bytes, as far as it has blanks. Each line but the first begins with all
/// the blanks that stand there, and has something behind them: unfolded it is the same field. The first `name` bytes stay together.
fn fold(mut field: &[u8], mut name: usize, end: &[u8], output: &mut Vec<u8>) {
    field = field.trim_ascii_end();
    while field.len() > MAX_LINE {
        let text = name + field[name..].iter().take_while(|b| is_blank(**b)).count();
        let breaks = |at: &usize| is_blank(field[*at]) && !is_blank(field[*at - 1]);
        // Behind a comma is where people would break it, if that leaves no short line.
        let behind_comma = |at: &usize| breaks(at) && field[*at - 1] == b',';
        let near = (text + 1..=MAX_LINE).rev();
        let at = near.clone().find(|at| behind_comma(at) && *at > MAX_LINE / 2);
        let at = at.or_else(|| near.clone().find(breaks));
        let Some(at) = at.or_else(|| (MAX_LINE.max(text) + 1..field.len()).find(breaks)) else {
            break;
        };
        output.extend_from_slice(&field[..at]);
        output.extend_from_slice(end);
        (field, name) = (&field[at..], 0);
    }
    output.extend_from_slice(field);
}

/// Fields that a head has and prose has not.
const KNOWN: [&str; 16] = [
    "from",
    "to",
    "cc",
    "bcc",
    "subject",
    "date",
    "message-id",
    "sender",
    "reply-to",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "received",
    "return-path",
    "resent-to",
];

/// Whether a text begins with a head. A line of prose may look like a field ("Note: …"): only one that begins with a
/// known field is a head in any case, any other must be whole, end with an empty line, and have a known field in it.
///
/// ```
/// use sundown_mail::head::is_in;
///
/// assert!(is_in(b"Subject: x\ntext"));
/// assert!(is_in(b"X-Mine: 1\nTo: a@b\n\ntext"));
/// assert!(!is_in(b"Note: buy milk\n"));
/// ```
pub fn is_in(text: &[u8]) -> bool {
    let known = |line: &Line<'_>| match line {
        Line::Field(name) => KNOWN.iter().any(|k| name.eq_ignore_ascii_case(k.as_bytes())),
        _ => false,
    };
    let kinds = || lines(text).map(|line| Line::of(line).unwrap_or(Line::Other));
    let first = kinds().next();
    if first.is_some_and(|first| first == Line::Empty || known(&first)) {
        return true;
    }
    let mut found = false;
    for line in kinds() {
        match line {
            Line::Empty => return found,
            Line::Field(_) | Line::Continuation => found |= known(&line),
            Line::Other => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(message: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Fields::of(message.as_bytes())
            .map(|field| (text(field.name), text(field.value())))
            .collect()
    }

    #[test]
    fn fields_are_found_up_to_the_empty_line() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("A: 1\nB : 2\n\t3\n\nC: 4\n", &[("A", " 1\n"), ("B", " 2\n\t3\n")]),
            ("A:1\r\nB:\r\nodd line\r\n folded\r\nC: 4", &[("A", "1\r\n"), ("B", "\r\n")]),
            ("A: no end", &[("A", " no end")]),
            ("A:\t:b:\0\r\r\n \n\r\r\n\r\nB: 1", &[("A", "\t:b:\0\r\r\n \n")]),
            ("A: 1\rB: 2\n\rC: 3\nD: 4", &[("A", " 1\rB: 2\n")]),
            ("A: 1\n: 2\nD: 4", &[("A", " 1\n")]),
            ("A: 1\nB", &[("A", " 1\n")]),
            ("A: 1\n\r", &[("A", " 1\n")]),
            ("\u{fc}A: 1\n", &[]),
            ("A\0: 1\n", &[]),
            ("\nA: body", &[]),
            ("\r\nA: body", &[]),
            ("\r\r\nA: body", &[]),
            ("odd line\nA: body", &[]),
            (" folded\nA: body", &[]),
            (":\nA: body", &[]),
            ("", &[]),
        ];
        for (message, wanted) in cases {
            let wanted: Vec<_> =
                wanted.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(fields(message), wanted, "{message:?}");
        }
    }

    /// A name that is too long is none, for those who have the whole message too: a stream has only what comes first.
    #[test]
    fn names_are_bounded() {
        let long = |name: usize, blanks: usize| {
            let (name, blanks) = ("x".repeat(name), " ".repeat(blanks));
            fields(&format!("A: 1\n{name}{blanks}: 2\n")).len() == 2
        };
        assert!(long(MAX_NAME, 0) && long(1, MAX_NAME - 1));
        assert!(!long(MAX_NAME + 1, 0) && !long(MAX_NAME, 1) && !long(1, MAX_NAME));
        let blanks = " ".repeat(MAX_NAME);
        let hidden = format!("bcc{blanks}: a\nBCC{blanks}b\nresent-bcc{blanks}\n");
        let found: Vec<_> = fields(&hidden).into_iter().map(|(_, value)| value).collect();
        assert_eq!(found, [" a\n", "b\n", "\n"]);
    }

    #[test]
    fn what_a_message_begins_with() {
        for (message, start) in [
            ("A: 1\n", Start::Field),
            ("A:", Start::Field),
            ("\nx", Start::EmptyLine),
            ("\r\n", Start::EmptyLine),
            ("", Start::Body),
            ("\r", Start::Body),
            ("\r\r\n", Start::Body),
            (" A: 1", Start::Body),
            ("x", Start::Body),
        ] {
            assert_eq!(Start::of(message.as_bytes()), start, "{message:?}");
        }
    }

    /// The store said CRLF for a message in one line, and the client LF.
    #[test]
    fn a_message_without_a_line_end_is_of_unix() {
        for message in ["", "x", "A: 1", "A: 1\r", "\r"] {
            assert_eq!(LineEnd::of(message.as_bytes()), LineEnd::Lf, "{message:?}");
        }
        for (message, end) in
            [("\n\r\n", "\n"), ("\r\n", "\r\n"), ("a\r\nb\n", "\r\n"), ("a\nb\r\n", "\n")]
        {
            assert_eq!(LineEnd::of(message.as_bytes()).as_str(), end, "{message:?}");
        }
        assert_eq!(in_front(b"A: 1", [("B", "2")]), b"B: 2\n");
        assert_eq!(in_front(b"text", [("B", "2"), ("C", "3\r\n")]), b"B: 2\nC: 3  \n\n");
        assert_eq!(in_front(b"text", [("B", ""); 0]), b"");
    }

    /// Folded fields are the same fields: what stands between two lines is the blanks that were there.
    #[test]
    fn long_fields_are_folded() {
        let long = "x".repeat(100);
        let values = [
            "word ".repeat(40),
            format!("{long} {long}  {long} \t "),
            format!("   {long} a"),
            " ".repeat(300),
            format!("a{}b", " ".repeat(300)),
            format!("a {}", " ".repeat(100)),
            long.clone(),
            "ab ".repeat(24),
        ];
        for value in values {
            let front = in_front(b"", [("Subject", &value)]);
            let text = std::str::from_utf8(&front)
                .expect("text")
                .strip_suffix("\n\n")
                .expect("an empty line");
            assert!(!text.contains("\n\n"));
            assert!(
                text.split('\n')
                    .skip(1)
                    .all(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty()),
                "{text:?}"
            );
            let blanks = value.trim().contains(' ');
            assert!(
                !blanks || text.split('\n').all(|line| line.trim_start().len() <= 112),
                "{text:?}"
            );
            assert_eq!(text.replace('\n', "").trim_end(), format!("Subject: {value}").trim_end());
            assert_eq!(Fields::of(&front).count(), 1);
        }
        let list = in_front(b"", [("To", "\"Anna Smith\" <anna@example.org>, ".repeat(9))]);
        let mut lines = list.trim_ascii_end().split(|b| *b == b'\n');
        assert!(lines.all(|line| line.ends_with(b",")), "{}", list.escape_ascii());
        let words = in_front(b"", [("Subject", "word ".repeat(40))]);
        assert!(words.split(|b| *b == b'\n').all(|line| line.len() <= MAX_LINE));
    }

    #[test]
    fn prose_is_no_head() {
        let prose = [
            "",
            "hello",
            "Note: this is prose",
            "ERROR: backup failed\nFrom: disk 3\nTo: tape@example.org\nsee log\n",
            "http://example.org is\nmy page\n",
            "Note: one\n\nTo: a@b\n",
        ];
        for text in prose {
            assert!(!is_in(text.as_bytes()), "{text:?}");
        }
        let heads = [
            "\nbody",
            "To: a@b\n",
            "subject:x\nnot a field\n\nbody",
            "X-Odd: 1\nTo: a@b\n folded\n\nbody",
            "X-Odd: 1\r\nTo: a@b\r\n\r\nbody",
        ];
        for text in heads {
            assert!(is_in(text.as_bytes()), "{text:?}");
        }
    }

    /// What is missing when a message comes in pieces of these lengths, again and again.
    fn missing(message: &[u8], lengths: &[usize]) -> Vec<&'static str> {
        let (mut lookout, mut rest) = (Lookout::new(["Date", "From"]), message);
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*length).min(rest.len()));
            lookout.feed(piece);
            rest = behind;
        }
        lookout.missing().to_vec()
    }

    #[test]
    fn a_field_is_found_however_far_behind() {
        let long = "X-Trace: 0123456789abcdef\n and more\n".repeat(20_000);
        let name = "N".repeat(MAX_NAME);
        for (message, wanted) in [
            (format!("{long}DATE : x\nfrom: y\n\n"), &[][..]),
            (format!("{long}{name}: x\nDate: x\n\nFrom: y\n"), &["From"]),
            (format!("{long}{name}N: x\nDate: x\n"), &["Date", "From"]),
            (format!("Date: {long}odd\nFrom: y\n"), &["From"]),
            (format!(" Date: x\nFrom: y\n{long}"), &["Date", "From"]),
            ("\r\nDate: x\nFrom: y\n".to_owned(), &["Date", "From"]),
            ("X: 1\n\rDate: x\nFrom: y\n".to_owned(), &["Date", "From"]),
            (String::new(), &["Date", "From"]),
        ] {
            for lengths in [&[usize::MAX][..], &[1], &[7, 1000, 2], &[65_536]] {
                assert_eq!(missing(message.as_bytes(), lengths), wanted, "{lengths:?}");
            }
        }
    }

    proptest! {
        /// What is looked for in pieces is what a head has as a whole.
        #[test]
        fn pieces_have_the_fields_of_the_whole(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("Date"), Just("From"), Just(":"), Just(" "), Just("\t"), Just("\r"), Just("\n"),
                    Just("X: 1\n"), Just("\r\n"), Just("\0"),
                ],
                0..30,
            ),
            lengths in prop::collection::vec(1..6_usize, 1..5),
        ) {
            let message = parts.concat();
            let fields: Vec<_> = Fields::of(message.as_bytes()).collect();
            let lacks = |name: &&str| !fields.iter().any(|field| field.is(name));
            let wanted: Vec<_> = ["Date", "From"].into_iter().filter(lacks).collect();
            prop_assert_eq!(missing(message.as_bytes(), &lengths), wanted, "{:?}", message);
        }
    }
}
