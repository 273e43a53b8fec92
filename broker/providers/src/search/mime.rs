//! Finds the parts of a message, in one pass over it and without recursion.
//!
//! `mail-parser` reads the fields, and decodes. It does not look for the parts: it makes a value in a value for each message in a
//! message, so that one of 1 MiB in which each holds the next overflows a thread's stack when the value is dropped, which ends the
//! program. And it searches to the end of the message for each boundary that is not there. Here a part costs its own bytes, and there is a limit for everything else.

use std::ops::ControlFlow;

use mail_parser::{Message, MessageParser, MimeHeaders};
use sundown_mail::head::Fields;

/// How many multiparts may be in each other. A deeper one is not looked into.
const DEEPEST: usize = 16;

/// How many parts of a message are looked at, and messages in it.
const MOST_PARTS: usize = 256;

/// How far the fields of a part are looked for, in bytes.
const LONGEST_HEAD: usize = 256 << 10;

/// How many bytes of a field are parsed, and of all fields of a part. The parser may look at a byte more than once.
const PARSED_OF_FIELD: usize = 16 << 10;
const PARSED: usize = 64 << 10;

/// Fields that people search for, and those that say what a part is.
const WANTED: [&str; 11] = [
    "subject",
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "date",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
];

/// What is found in a message. Of its fields there are those that [`WANTED`] names, if there are any.
pub(super) enum Found<'a> {
    /// The head of the message.
    Head(&'a Message<'a>),
    /// The head of a message in the message.
    InnerHead(&'a Message<'a>),
    /// A part that is not made of parts: its fields, and its bytes as they are encoded.
    Part(Option<&'a Message<'a>>, &'a [u8]),
}

/// Calls a function with everything that is found in a message, in its order, until it breaks off.
pub(super) fn walk(
    message: &[u8],
    mut found: impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut at = 0;
    let mut head_of = Some(Whose::Message);
    for _ in 0..MOST_PARTS {
        let (fields, length) = split(&message[at..]);
        at += length;
        let fields = MessageParser::new().parse_headers(&fields);
        let fields = fields.as_ref();
        match (head_of.take(), fields) {
            (Some(Whose::Message), Some(fields)) => found(Found::Head(fields))?,
            (Some(Whose::Inner), Some(fields)) => found(Found::InnerHead(fields))?,
            _ => {}
        }
        let mut own = None;
        match fields.map_or(Kind::Leaf, Kind::of) {
            Kind::Message => {
                head_of = Some(Whose::Inner);
                continue;
            }
            Kind::Multipart(boundary) if open.len() < DEEPEST => {
                own = Some(open.len());
                open.push(boundary);
            }
            Kind::Multipart(_) | Kind::Leaf => {}
        }
        let line = next_line(message, at, &open);
        let end = line.as_ref().map_or(message.len(), |line| line.begin);
        // What is in front of the first part of a multipart is for programs without MIME. A multipart without parts is text.
        if own.is_none() || line.as_ref().map(|line| line.of) != own {
            found(Found::Part(fields, &message[at..end]))?;
        }
        match line.and_then(|line| next_part(message, line, &mut open)) {
            Some(begin) => at = begin,
            None => break,
        }
    }
    ControlFlow::Continue(())
}

/// Whose head comes next.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Message,
    Inner,
}

/// What a part is made of.
enum Kind {
    /// Parts, behind lines with this boundary.
    Multipart(Vec<u8>),
    /// A message.
    Message,
    /// Text or a file.
    Leaf,
}

impl Kind {
    fn of(fields: &Message<'_>) -> Self {
        let Some(kind) = fields.content_type() else { return Self::Leaf };
        let subtype = kind.subtype().unwrap_or_default();
        if kind.ctype().eq_ignore_ascii_case("multipart") {
            let boundary = kind.attribute("boundary").filter(|boundary| !boundary.is_empty());
            return boundary.map_or(Self::Leaf, |it| Self::Multipart(it.as_bytes().to_vec()));
        }
        let encoding = fields.content_transfer_encoding().unwrap_or_default();
        let encoded =
            ["base64", "quoted-printable"].iter().any(|e| e.eq_ignore_ascii_case(encoding));
        let is_message = kind.ctype().eq_ignore_ascii_case("message")
            && ["rfc822", "global"].iter().any(|name| name.eq_ignore_ascii_case(subtype));
        if is_message && !encoded { Self::Message } else { Self::Leaf }
    }
}

/// The wanted fields of a part, as a head of their own, and how long the part's head is with its empty line.
fn split(part: &[u8]) -> (Vec<u8>, usize) {
    let mut fields = Fields::of(&part[..part.len().min(LONGEST_HEAD)]);
    let mut wanted = Vec::new();
    for field in fields.by_ref() {
        if WANTED.iter().any(|name| field.is(name)) {
            let room = PARSED_OF_FIELD.min(PARSED - wanted.len());
            let raw = &field.raw()[..field.raw().len().min(room)];
            wanted.extend_from_slice(raw);
            if !raw.is_empty() && !raw.ends_with(b"\n") {
                wanted.truncate(wanted.len().min(PARSED - 2));
                wanted.extend_from_slice(b"\r\n");
            }
        }
    }
    wanted.extend_from_slice(b"\r\n");
    let head = fields.passed().len();
    let behind = &part[head..];
    let empty_line = ["\r\n", "\n"].iter().find(|end| behind.starts_with(end.as_bytes()));
    (wanted, head + empty_line.map_or(0, |end| end.len()))
}

/// A line in front of a part, or behind the last one.
struct Line {
    begin: usize,
    end: usize,
    /// Whose it is: a place in the list of open multiparts.
    of: usize,
    closes: bool,
}

/// The next line with the boundary of an open multipart.
fn next_line(message: &[u8], from: usize, open: &[Vec<u8>]) -> Option<Line> {
    let mut begin = from;
    while !open.is_empty() && begin < message.len() {
        let rest = &message[begin..];
        let length = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |end| end + 1);
        if let Some(behind) = rest[..length].strip_prefix(b"--") {
            let line = open.iter().enumerate().rev().find_map(|(of, boundary)| {
                let behind = behind.strip_prefix(boundary.as_slice())?;
                let closes = behind.starts_with(b"--");
                let blank = if closes { &behind[2..] } else { behind };
                blank.iter().all(u8::is_ascii_whitespace).then_some((of, closes))
            });
            if let Some((of, closes)) = line {
                return Some(Line { begin, end: begin + length, of, closes });
            }
        }
        begin += length;
    }
    None
}

/// Where the part behind this line begins, or the next part of a multipart around it.
fn next_part(message: &[u8], mut line: Line, open: &mut Vec<Vec<u8>>) -> Option<usize> {
    while line.closes {
        open.truncate(line.of);
        line = next_line(message, line.end, open)?;
    }
    open.truncate(line.of + 1);
    Some(line.end)
}
