//! The head of a message: what it shows, what it lacks, and what must not go out.
//!
//! A head is the lines in front of the first empty line. A message whose first line is no header field has none: it
//! is a body only, whatever stands further down. Lines in a head that are neither field nor continuation are kept
//! and mean nothing; they do not end it, so that a `Bcc` behind such a line is still found.

use std::io::{self, Read};

use mail_parser::{Address, DateTime, MessageParser};
use sundown_core::address;

/// How much of a message is looked at for its head. What lies beyond is passed on and not shown; real heads are
/// smaller by a factor of ten.
pub const MAX_HEAD: usize = 256 << 10;

/// The longest name of a field that is taken for one: RFC 5322's longest line.
const MAX_NAME: usize = 998;

/// The most characters of a subject or name that are shown in a row.
const MAX_SHOWN: usize = 500;

/// Fields that say who gets a copy unseen.
const HIDDEN: [&str; 2] = ["bcc", "resent-bcc"];

/// Fields that are looked at, each where it stands first.
const KNOWN: [&str; 5] = ["date", "message-id", "from", "to", "subject"];

/// How the lines of a message end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// As on Unix.
    Lf,
    /// As on the wire.
    CrLf,
}

impl LineEnd {
    /// How the lines of this message end, by its first one.
    pub fn of(message: &[u8]) -> Self {
        match message.iter().position(|b| *b == b'\n') {
            Some(0) => Self::Lf,
            Some(end) if message[end - 1] != b'\r' => Self::Lf,
            _ => Self::CrLf,
        }
    }

    /// The bytes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
        }
    }
}

/// A field that every message needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// `Date`.
    Date,
    /// `Message-ID`.
    MessageId,
    /// `From`.
    From,
}

impl Needed {
    const ALL: [Self; 3] = [Self::Date, Self::MessageId, Self::From];

    fn name(self) -> &'static str {
        match self {
            Self::Date => "Date",
            Self::MessageId => "Message-ID",
            Self::From => "From",
        }
    }
}

/// The head of a message.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    block: &'a [u8],
    line_end: LineEnd,
    start: MessageStart,
    /// In the order of `KNOWN`.
    fields: [Option<&'a [u8]>; KNOWN.len()],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageStart {
    Field,
    EmptyLine,
    Body,
}

impl<'a> Head<'a> {
    /// The head of the message that begins with these bytes.
    pub fn of(message: &'a [u8]) -> Self {
        let message = &message[..message.len().min(MAX_HEAD)];
        let start = match start_of_line(message) {
            Some(LineStart::Field(_)) => MessageStart::Field,
            Some(LineStart::Empty) => MessageStart::EmptyLine,
            _ => MessageStart::Body,
        };
        let length = if start == MessageStart::Field { head_length(message) } else { 0 };
        let block = &message[..length];
        let mut fields = [None; KNOWN.len()];
        for (name, raw) in (Fields { rest: block }) {
            if let Some(place) = place_of(name) {
                fields[place].get_or_insert(raw);
            }
        }
        Self { block, line_end: LineEnd::of(message), start, fields }
    }

    /// Its bytes, without the empty line.
    pub fn bytes(&self) -> &'a [u8] {
        self.block
    }

    /// `Subject`, decoded, in one line.
    pub fn subject(&self) -> String {
        self.shown("subject", is_plain_text, |message| message.subject().map(str::to_owned))
    }

    /// `From`, decoded, as `Name <address>`.
    pub fn from(&self) -> String {
        self.shown("from", is_plain_address, |message| {
            message.from().map(|from| listed(from, full))
        })
    }

    /// `To`, decoded: the names, or addresses where there are none.
    pub fn to(&self) -> String {
        self.shown("to", is_plain_address, |message| message.to().map(|to| listed(to, short)))
    }

    /// Which needed fields are not there.
    pub fn missing(&self) -> Vec<Needed> {
        Needed::ALL.into_iter().filter(|needed| self.field(needed.name()).is_none()).collect()
    }

    /// The lines to put in front so that nothing needed is missing; empty if nothing is.
    pub fn additions(&self, facts: &Facts<'_>) -> Vec<u8> {
        let end = self.line_end.as_str();
        let mut lines = String::with_capacity(256);
        for needed in self.missing() {
            if let Some(value) = facts.value(needed) {
                lines.extend([needed.name(), ": ", &value, end]);
            }
        }
        if self.start == MessageStart::Body {
            lines.push_str(end);
        }
        lines.into_bytes()
    }

    fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields[place_of(name.as_bytes()).expect("only known fields are asked for")]
    }

    /// Most fields are one line of letters and mean themselves; the others need a parser, which takes thousands of
    /// instructions for each.
    fn shown<F>(&self, name: &str, is_plain: fn(&str) -> bool, decode: F) -> String
    where
        F: FnOnce(&mail_parser::Message<'_>) -> Option<String>,
    {
        let Some(raw) = self.field(name) else { return String::new() };
        if let Some(value) = value_in_one_line(raw).filter(|value| is_plain(value)) {
            return clean(value);
        }
        let alone = [raw, b"\r\n\r\n"].concat();
        let text = MessageParser::new().parse_headers(&alone).and_then(|m| decode(&m));
        clean(&text.unwrap_or_default())
    }
}

/// What the needed fields are made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The message's record.
    pub record: u128,
    /// The envelope's sender; without one no `From` is made up.
    pub from: &'a str,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted: u64,
}

impl Facts<'_> {
    fn value(&self, needed: Needed) -> Option<String> {
        match needed {
            Needed::Date => Some(date(self.submitted)),
            Needed::MessageId => Some(format!("<{:032x}@{}>", self.record, host_of(self.from))),
            Needed::From => (!self.from.is_empty()).then(|| clean(self.from)),
        }
    }
}

/// A time in milliseconds since 1970 as a `Date` field has it. Every submit asks for one; formatting it by pieces of a
/// format string takes ten times as long.
pub fn date(milliseconds: u64) -> String {
    let seconds = (milliseconds / 1000).min(LAST_SECOND);
    let date = DateTime::from_timestamp(seconds.cast_signed());
    let mut text = String::with_capacity("Thu, 01 Jan 1970 00:00:00 +0000".len());
    text.push_str(DAYS[(seconds / (24 * 3600)) as usize % DAYS.len()]);
    push_number(&mut text, date.day.into(), if date.day < 10 { 1 } else { 2 });
    text.push_str(MONTHS[usize::from(date.month) - 1]);
    push_number(&mut text, date.year, 4);
    for (before, number) in [(' ', date.hour), (':', date.minute), (':', date.second)] {
        text.push(before);
        push_number(&mut text, number.into(), 2);
    }
    text.push_str(" +0000");
    text
}

/// The last second of the year 9999: a `Date` has four digits for it.
const LAST_SECOND: u64 = 253_402_300_799;

/// From the first of January 1970 on.
const DAYS: [&str; 7] = ["Thu, ", "Fri, ", "Sat, ", "Sun, ", "Mon, ", "Tue, ", "Wed, "];

const MONTHS: [&str; 12] = [
    " Jan ", " Feb ", " Mar ", " Apr ", " May ", " Jun ", " Jul ", " Aug ", " Sep ", " Oct ",
    " Nov ", " Dec ",
];

/// The last so many digits of a number.
fn push_number(text: &mut String, number: u16, digits: u32) {
    for place in (0..digits).rev() {
        text.push(char::from(b'0' + (number / 10_u16.pow(place) % 10) as u8));
    }
}

/// The host of an address, or `localhost`.
pub fn host_of(address: &str) -> &str {
    match address::split(address) {
        Ok((_, domain)) if !domain.is_empty() => domain,
        _ => "localhost",
    }
}

/// A text in one line, without control characters and not too long to show.
pub fn clean(text: &str) -> String {
    if text.len() <= MAX_SHOWN && text.bytes().all(is_printable) {
        return text.trim().to_owned();
    }
    let one = |c: char| match c {
        '\t' | '\r' | '\n' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.trim().chars().take(MAX_SHOWN).map(one).collect()
}

fn listed(addresses: &Address<'_>, show: fn(&mail_parser::Addr<'_>) -> String) -> String {
    let shown: Vec<_> = addresses.iter().take(MAX_SHOWN).map(show).collect();
    shown.join(", ")
}

fn full(one: &mail_parser::Addr<'_>) -> String {
    match (one.name(), one.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    }
}

fn short(one: &mail_parser::Addr<'_>) -> String {
    one.name().or(one.address()).unwrap_or_default().to_owned()
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// What stands behind the colon, if that is one line of printable characters.
fn value_in_one_line(field: &[u8]) -> Option<&str> {
    let line = field.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (_, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    value.bytes().all(is_printable).then_some(value)
}

/// Whether a text without structure means what it says.
fn is_plain_text(value: &str) -> bool {
    !value.contains("=?")
}

/// Whether this is one address and nothing else: no name, no comment, no second one.
fn is_plain_address(value: &str) -> bool {
    let in_address = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let parts = value.trim().split_once('@');
    parts.is_some_and(|parts| {
        [parts.0, parts.1].iter().all(|p| !p.is_empty() && p.bytes().all(in_address))
    })
}

/// A field's place among the known ones.
fn place_of(name: &[u8]) -> Option<usize> {
    KNOWN.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Where the empty line begins, or the end.
fn head_length(message: &[u8]) -> usize {
    let mut length = 0;
    for line in message.split_inclusive(|b| *b == b'\n') {
        if matches!(start_of_line(line), Some(LineStart::Empty)) {
            break;
        }
        length += line.len();
    }
    length
}

/// What a line begins with, as far as a head is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineStart<'a> {
    Field(&'a [u8]),
    Continuation,
    Empty,
    Other,
}

/// What a line begins with; `None` if more of it must be seen. At most [`MAX_NAME`] and a few bytes are needed.
fn start_of_line(line: &[u8]) -> Option<LineStart<'_>> {
    match line {
        [] | [b'\r'] => return None,
        [b'\n', ..] | [b'\r', b'\n', ..] => return Some(LineStart::Empty),
        [b' ' | b'\t', ..] => return Some(LineStart::Continuation),
        _ => {}
    }
    let seen = &line[..line.len().min(MAX_NAME + 1)];
    let in_name = |b: &u8| matches!(b, 33..=126) && *b != b':';
    let name = &seen[..seen.iter().position(|b| !in_name(b)).unwrap_or(seen.len())];
    let behind = seen[name.len()..].iter().find(|b| !matches!(b, b' ' | b'\t'));
    match behind {
        Some(b':') if !name.is_empty() => Some(LineStart::Field(name)),
        None if seen.len() <= MAX_NAME => None,
        // A colon may follow beyond what is looked at; a hidden field must not get through that way.
        None if is_hidden(name) => Some(LineStart::Field(name)),
        _ => Some(LineStart::Other),
    }
}

fn is_hidden(name: &[u8]) -> bool {
    HIDDEN.iter().any(|hidden| name.eq_ignore_ascii_case(hidden.as_bytes()))
}

/// The fields of a head, each with its continuation lines.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let whole = self.rest;
            let first = whole.split_inclusive(|b| *b == b'\n').next()?;
            let behind = whole[first.len()..].split_inclusive(|b| *b == b'\n');
            let folded = behind.take_while(|l| matches!(l[0], b' ' | b'\t'));
            let length = first.len() + folded.map(<[u8]>::len).sum::<usize>();
            self.rest = &whole[length..];
            if let Some(LineStart::Field(name)) = start_of_line(first) {
                return Some((name, &whole[..length]));
            }
        }
    }
}

/// The message without its `Bcc` fields; everything else passes through as it is, of any size and shape. Only lines that
/// mean nothing go with a `Bcc` that stands in front of everything: a head that began with them would be none.
///
/// ```
/// use std::io::Read;
///
/// let message = "To: a@b\nBcc: c@d,\n e@f\nSubject: x\n\nBcc: is a word here\n";
/// let mut seen = String::new();
/// sundown_providers::headers::without_bcc(message.as_bytes()).read_to_string(&mut seen).unwrap();
/// assert_eq!(seen, "To: a@b\nSubject: x\n\nBcc: is a word here\n");
/// ```
pub fn without_bcc<R: Read>(message: R) -> impl Read {
    WithoutBcc {
        inner: message,
        filter: Filter {
            at: At::LineStart,
            field: Fate::Keep,
            seen: Seen::Nothing,
            held: Vec::new(),
            ready: Vec::new(),
        },
        given: 0,
        input: vec![0; 64 << 10],
        end: End::NotYet,
    }
}

struct WithoutBcc<R> {
    inner: R,
    filter: Filter,
    /// How much of what is ready was handed out.
    given: usize,
    input: Vec<u8>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Reached,
}

impl<R: Read> Read for WithoutBcc<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.filter.ready.len() {
            if self.end == End::Reached || out.is_empty() {
                return Ok(0);
            }
            self.refill()?;
        }
        let ready = &self.filter.ready[self.given..];
        let n = ready.len().min(out.len());
        out[..n].copy_from_slice(&ready[..n]);
        self.given += n;
        Ok(n)
    }
}

impl<R: Read> WithoutBcc<R> {
    fn refill(&mut self) -> io::Result<()> {
        let n = self.inner.read(&mut self.input)?;
        self.filter.ready.clear();
        self.given = 0;
        if n == 0 {
            self.end = End::Reached;
            self.filter.finish();
        } else {
            self.filter.feed(&self.input[..n]);
        }
        Ok(())
    }
}

/// Drops hidden fields from bytes that come in pieces.
///
/// ```text
///   LineStart ──what the line is──► Line(keep | drop) ──line end──► LineStart
///       └──empty line, or a first line that is no field──► Body
/// ```
struct Filter {
    at: At,
    /// What happens to the field that a continuation line belongs to.
    field: Fate,
    seen: Seen,
    /// The beginning of a line that is not understood yet.
    held: Vec<u8>,
    ready: Vec<u8>,
}

#[derive(Clone, Copy)]
enum At {
    LineStart,
    Line(Fate),
    Body,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Drop,
}

/// What was seen of a head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// Hidden fields, and nothing that passes.
    Hidden,
    Field,
}

impl Filter {
    fn feed(&mut self, mut input: &[u8]) {
        while let Some(first) = input.first() {
            match self.at {
                At::Body => {
                    self.ready.extend_from_slice(input);
                    return;
                }
                At::Line(fate) => input = self.rest_of_line(fate, input),
                At::LineStart => {
                    self.held.push(*first);
                    input = &input[1..];
                    self.judge();
                }
            }
        }
    }

    fn rest_of_line<'a>(&mut self, fate: Fate, input: &'a [u8]) -> &'a [u8] {
        let end = input.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let (line, behind) = input.split_at(end.unwrap_or(input.len()));
        if fate == Fate::Keep {
            self.ready.extend_from_slice(line);
        }
        if end.is_some() {
            self.at = At::LineStart;
        }
        behind
    }

    fn judge(&mut self) {
        let Some(start) = start_of_line(&self.held) else { return };
        self.at = match (start, self.seen) {
            (LineStart::Field(name), seen) => {
                let hidden = is_hidden(name);
                self.field = if hidden { Fate::Drop } else { Fate::Keep };
                self.seen = if hidden && seen != Seen::Field { Seen::Hidden } else { Seen::Field };
                At::Line(self.field)
            }
            (LineStart::Empty, _) | (LineStart::Continuation | LineStart::Other, Seen::Nothing) => {
                At::Body
            }
            (LineStart::Continuation, _) => At::Line(self.field),
            (LineStart::Other, seen) => {
                self.field = if seen == Seen::Hidden { Fate::Drop } else { Fate::Keep };
                At::Line(self.field)
            }
        };
        self.release();
    }

    /// Lets go of what was held, now that its fate is known.
    fn release(&mut self) {
        let line_ended = self.held.ends_with(b"\n");
        if !matches!(self.at, At::Line(Fate::Drop)) {
            self.ready.extend_from_slice(&self.held);
        }
        self.held.clear();
        if line_ended && matches!(self.at, At::Line(_)) {
            self.at = At::LineStart;
        }
    }

    fn finish(&mut self) {
        self.ready.append(&mut self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a few bytes at a time, so that every border between pieces is met.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(out.len()).min(self.0.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn filtered(message: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        without_bcc(message).read_to_end(&mut whole).expect("a slice reads");
        for step in [1, 2, 3, 7] {
            let mut seen = Vec::new();
            without_bcc(Drip(message, step)).read_to_end(&mut seen).expect("a slice reads");
            assert_eq!(seen, whole, "pieces of {step} bytes differ");
        }
        whole
    }

    /// Lines that mean nothing would make a body of what follows them, if they came to stand in front.
    #[test]
    fn what_stands_behind_a_bcc_stays_a_head() {
        let cases = [
            ("Bcc: a@b\nodd\n folded\nBcc: c@d\nodd\nFrom: e@f\nodd\n\nx", "From: e@f\nodd\n\nx"),
            ("Bcc: a@b\nodd\n\nbody", "\nbody"),
            ("To: a@b\nBcc: c@d\nodd\n\nx", "To: a@b\nodd\n\nx"),
            ("odd\nBcc: a@b\n", "odd\nBcc: a@b\n"),
        ];
        for (message, seen) in cases {
            assert_eq!(filtered_text(message), seen, "of {message:?}");
        }
    }

    fn filtered_text(message: &str) -> String {
        String::from_utf8(filtered(message.as_bytes())).expect("text")
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
        ];
        for bcc in &spellings {
            for (before, after) in [
                ("Subject: s\n", "To: t\n\nbody\n"),
                ("", "To: t\r\n\r\nbody"),
                ("Subject: s\nno field at all\n", "\nbody"),
                ("X: 1\n folded\n", ""),
            ] {
                let seen = filtered_text(&format!("{before}{bcc}{after}"));
                assert_eq!(seen, format!("{before}{after}"), "of {:.60?}", bcc);
            }
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

    #[test]
    fn fields_are_shown_decoded_and_in_one_line() {
        let message = b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\n\
            To: Anna <a@b.c>,\r\n x@y.z\r\nSubject: one\r\n two =?utf-8?q?=07=0A?=end\r\n\r\nSubject: no";
        let head = Head::of(message);
        assert_eq!(head.from(), "Jürgen <j@example.org>");
        assert_eq!(head.to(), "Anna, x@y.z");
        assert!(head.subject().starts_with("one two"), "{}", head.subject());
        assert!(!head.subject().contains(char::is_control));
        assert!(head.subject().ends_with("end"));
    }

    #[test]
    fn malformed_heads_show_something_or_nothing() {
        for message in [
            &b""[..],
            b"\0",
            b"Subject:",
            b"Subject:\n",
            b"From: <<<>>>\nTo: ,,,\nSubject: =?x?y?z\n",
            b"Subject: \xff\xfe\x00\x01\n\n",
            b":\n::\n",
        ] {
            let head = Head::of(message);
            let shown = format!("{}{}{}", head.subject(), head.from(), head.to());
            assert!(!shown.contains(char::is_control), "{shown:?}");
        }
    }

    const FACTS: Facts<'_> = Facts { record: 0xAB, from: "anna@example.org", submitted: 1_000 };

    #[test]
    fn additions_speak_the_messages_line_end() {
        let lines = |message: &[u8]| {
            String::from_utf8(Head::of(message).additions(&FACTS)).expect("headers are text")
        };
        let lf = lines(b"Subject: s\n\nbody");
        let id = "Message-ID: <000000000000000000000000000000ab@example.org>";
        assert_eq!(
            lf,
            format!("Date: Thu, 1 Jan 1970 00:00:01 Z\n{id}\nFrom: anna@example.org\n")
                .replace(" Z", " +0000")
        );
        assert_eq!(lines(b"Subject: s\r\n\r\nbody"), lf.replace('\n', "\r\n"));
        assert_eq!(lines(b"no head"), lf.replace('\n', "\r\n") + "\r\n");
        assert_eq!(lines(b"no head\nat all"), lf.clone() + "\n");
        assert_eq!(lines(b"\nbody"), lf);
        assert_eq!(lines(b"date: x\nFROM : y\nmessage-id: z\n\n"), "");
    }

    /// What is found without the parser is what the parser finds.
    #[test]
    fn plain_fields_mean_what_the_parser_says() {
        let parsed = |name: &str, raw: &str| {
            let raw = format!("{raw}\r\n\r\n");
            let message = MessageParser::new().parse_headers(raw.as_bytes()).expect("a head");
            let found = match name {
                "subject" => message.subject().map(str::to_owned),
                "from" => message.from().map(|from| listed(from, full)),
                _ => message.to().map(|to| listed(to, short)),
            };
            clean(&found.unwrap_or_default())
        };
        let values = [
            "",
            " ",
            "x",
            " x",
            "  two  words ",
            " a@b",
            "a@b ",
            " anna.b-c_d+e@mail.example.org",
            " @",
            "@b",
            "a@",
            "a@b@c",
            " a b@c",
            " A <a@b>",
            " a@b, c@d",
            " a: b",
            ":",
            " a:b@c",
            " =?utf-8?q?x?=",
            " = ?",
            " (a) b@c",
            " \"a\" <b@c>",
            " ~!#$%^&*()_+{}|[]:;'<>,./?",
            "\tx",
            " a\tb",
            " ü",
            " a@ü",
            " \u{7f}",
            " x\r",
        ];
        for name in ["subject", "from", "to"] {
            for value in values {
                for (before, after) in
                    [("", "\n"), ("", "\r\n"), (" ", "\n"), ("", "\n folded\n"), ("", "")]
                {
                    let raw = format!("{name}{before}:{value}{after}");
                    let head = Head::of(raw.as_bytes());
                    let shown = match name {
                        "subject" => head.subject(),
                        "from" => head.from(),
                        _ => head.to(),
                    };
                    assert_eq!(shown, parsed(name, &raw), "{raw:?}");
                }
            }
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let days = (0..30_000).map(|day| day * 24 * 3600);
        let seconds = (0..3 * 24 * 3600).step_by(7).map(|second| 951_700_000 + second);
        for second in days.chain(seconds).chain([LAST_SECOND]) {
            let told = DateTime::from_timestamp(second.cast_signed()).to_rfc822();
            assert_eq!(date(second * 1000 + 999), told);
        }
        assert_eq!(date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 +0000");
    }

    #[test]
    fn the_sender_can_not_smuggle_a_line_in() {
        let facts = Facts { from: "a\r\nBcc: b@c", ..FACTS };
        let added = Head::of(b"Date: x\n\n").additions(&facts);
        let added = String::from_utf8(added).expect("headers are text");
        assert_eq!(added.lines().count(), 2, "{added:?}");
    }
}
