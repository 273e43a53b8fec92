//! The head of a message: what it shows, what it lacks, and what must not go out.
//!
//! Where a head ends and which lines are its fields is decided in [`sundown_mail`], for clients and providers alike.

use std::borrow::Cow;
use std::io::{self, Read};

use mail_parser::{Address, DateTime, MessageParser};
use sundown_mail::address;
use sundown_mail::bcc::Filter;
use sundown_mail::head::{Fields, LineEnd, Lookout, ends_in, in_front};

/// How much of a message is looked at for its head. What lies beyond is passed on and not shown; real heads are
/// smaller by a factor of ten.
pub const MAX_HEAD: usize = 256 << 10;

/// The most characters of a subject or name that are shown in a row.
const MAX_SHOWN: usize = 500;

/// Fields that are looked at, each where it stands first.
const KNOWN: [&str; 5] = ["date", "message-id", "from", "to", "subject"];

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

    /// The name of the field.
    pub fn name(self) -> &'static str {
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
    /// The message, as far as it is looked at.
    message: &'a [u8],
    block: &'a [u8],
    /// In the order of `KNOWN`.
    fields: [Option<&'a [u8]>; KNOWN.len()],
}

impl<'a> Head<'a> {
    /// The head of the message that begins with these bytes.
    pub fn of(message: &'a [u8]) -> Self {
        let message = &message[..message.len().min(MAX_HEAD)];
        let mut scanned = Fields::of(message);
        let mut fields = [None; KNOWN.len()];
        for field in scanned.by_ref() {
            if let Some(place) = place_of(field.name()) {
                fields[place].get_or_insert(field.raw());
            }
        }
        Self { message, block: scanned.passed(), fields }
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

    /// `Date`, in milliseconds since 1970; `None` if it is missing, no date, or before 1970.
    pub fn date(&self) -> Option<u64> {
        let value = value_in_one_line(self.field("date")?)?;
        let date = DateTime::parse_rfc822(value.trim())?;
        u64::try_from(date.to_timestamp()).ok()?.checked_mul(1000)
    }

    /// Which needed fields are not there.
    pub fn missing(&self) -> Vec<Needed> {
        Needed::ALL.into_iter().filter(|needed| self.field(needed.name()).is_none()).collect()
    }

    /// Looks for what is missing in the rest of the head; nothing if that is not needed. Then the whole message is to be fed to it.
    pub fn lookout(&self) -> Option<Lookout> {
        if self.message.len() < MAX_HEAD || ends_in(self.message) {
            return None;
        }
        let lookout = Lookout::new(self.missing().into_iter().map(Needed::name));
        (!lookout.is_over()).then_some(lookout)
    }

    /// The lines to put in front so that nothing needed is missing; empty if nothing is.
    pub fn additions(&self, facts: &Facts<'_>) -> Vec<u8> {
        self.additions_of(&self.missing(), facts)
    }

    /// The lines to put in front for these fields.
    pub fn additions_of(&self, missing: &[Needed], facts: &Facts<'_>) -> Vec<u8> {
        let missing = missing.iter().copied();
        let values = missing.filter_map(|needed| Some((needed.name(), facts.value(needed)?)));
        in_front(self.message, values)
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
            Needed::From => (!self.from.is_empty()).then(|| clean(&address::to_ascii(self.from))),
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

/// The host of an address as a field has it, or `localhost`.
pub fn host_of(address: &str) -> Cow<'_, str> {
    let host = address::split(address).ok().and_then(|(_, domain)| {
        address::domain_to_ascii(domain.strip_suffix('.').unwrap_or(domain))
    });
    host.unwrap_or(Cow::Borrowed("localhost"))
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

/// The envelope of a message, as programs that read mailboxes expect it in front of the message.
pub(crate) fn envelope<'a>(
    from: &str,
    to: impl IntoIterator<Item = &'a str>,
    line_end: LineEnd,
) -> String {
    let end = line_end.as_str();
    let mut lines = format!("Return-Path: <{}>{end}", clean(from));
    for address in to {
        lines.extend(["Delivered-To: ", &clean(address), end]);
    }
    lines
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

/// The message without its `Bcc` fields, as [`sundown_mail::bcc`] removes them; everything else passes through as it is, of any
/// size and shape.
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
        filter: Filter::default(),
        ready: Vec::new(),
        given: 0,
        input: vec![0; 64 << 10],
        end: End::NotYet,
    }
}

struct WithoutBcc<R> {
    inner: R,
    filter: Filter,
    ready: Vec<u8>,
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
        while self.given == self.ready.len() {
            if self.end == End::Reached || out.is_empty() {
                return Ok(0);
            }
            self.refill()?;
        }
        let ready = &self.ready[self.given..];
        let n = ready.len().min(out.len());
        out[..n].copy_from_slice(&ready[..n]);
        self.given += n;
        Ok(n)
    }
}

impl<R: Read> WithoutBcc<R> {
    fn refill(&mut self) -> io::Result<()> {
        let n = self.inner.read(&mut self.input)?;
        self.ready.clear();
        self.given = 0;
        if n == 0 {
            self.end = End::Reached;
            self.filter.finish(&mut self.ready);
        } else {
            self.filter.feed(&self.input[..n], &mut self.ready);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sundown_mail::bcc;

    use super::*;

    #[test]
    fn the_envelope_stays_in_its_lines() {
        let lines = envelope("a@b", ["c", "d@e"], LineEnd::of(b"Subject: x\r\n\r\n"));
        assert_eq!(lines, "Return-Path: <a@b>\r\nDelivered-To: c\r\nDelivered-To: d@e\r\n");
        let forged = envelope("a\nBcc: x", ["c"], LineEnd::Lf);
        assert_eq!(forged, "Return-Path: <a Bcc: x>\nDelivered-To: c\n");
    }

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

    #[test]
    fn a_stream_is_without_bcc() {
        let body = "Bcc: is a word here\n".repeat(10_000);
        let head = "To: a@b\nBcc: c@d,\n e@f\nSubject: x\n\n";
        for message in [format!("{head}{body}"), "Bcc: a".to_owned(), "Bcc".to_owned()] {
            for step in [1, 7, 100_000] {
                let mut seen = Vec::new();
                let drip = Drip(message.as_bytes(), step);
                without_bcc(drip).read_to_end(&mut seen).expect("a slice reads");
                assert_eq!(seen, bcc::without(message.as_bytes()), "pieces of {step} bytes");
            }
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
        assert_eq!(lines(b"no head"), lf.clone() + "\n");
        assert_eq!(lines(b"no head\r\n"), lf.replace('\n', "\r\n") + "\r\n");
        assert_eq!(lines(b"no head\nat all"), lf.clone() + "\n");
        assert_eq!(lines(b"\nbody"), lf);
        assert_eq!(lines(b"date: x\nFROM : y\nmessage-id: z\n\n"), "");
    }

    /// No server must be asked whether it takes what is added.
    #[test]
    fn additions_are_ascii() {
        for (from, host) in [
            ("anna@b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("anna@example.org.", "example.org"),
            ("anna", "localhost"),
        ] {
            let added = Head::of(b"Subject: s\n\n").additions(&Facts { from, ..FACTS });
            let added = String::from_utf8(added).expect("headers are text");
            assert!(added.contains(&format!("@{host}>\nFrom: anna")), "{added}");
            assert!(added.is_ascii() && !added.contains(".\n"), "{added}");
        }
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
