//! The parts of a message: where each begins and ends, and what its head says of it.
//!
//! The message is walked once, line by line, with a stack of the multiparts that are open. A line costs a comparison with each of them if it
//! begins with `--`, and nothing else. A parser that looks for each multipart's end by itself, or descends into messages in messages,
//! takes quadratic time or the whole stack for a message that is made to have it so. The library decodes what is found: fields here, texts
//! in [`super::decode`].

use std::ops::Range;

use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::{Address, ContentType, DateTime, Message, MessageParser, MimeHeaders};
use sundown_mail::head::Fields;

use super::decode::{self, Encoding};

/// The most parts of a message that are looked at.
pub(super) const PARTS: usize = 1_000;

/// How deep multiparts may stand in each other. Deeper ones are attachments.
const DEPTH: usize = 32;

/// How much of a field is looked at: a thousand addresses.
const FIELD: usize = 64 << 10;

/// The longest content of an encoded word, and of the name of its character set. RFC 2047 allows 75 bytes for all of it.
const WORD: usize = 2_000;

/// Fields that are looked at, each where it stands first.
const KNOWN: [&str; 8] = [
    "From",
    "To",
    "Cc",
    "Date",
    "Subject",
    "Content-Type",
    "Content-Disposition",
    "Content-Transfer-Encoding",
];

/// A message in its parts.
pub(super) struct Parts {
    /// In the order in which they stand. The first one is the message itself.
    pub(super) all: Vec<Part>,
    /// How many bytes stand behind the last part that was looked at.
    pub(super) behind: usize,
}

/// A part.
pub(super) struct Part {
    pub(super) head: Head,
    /// Its bytes in the message, without its head.
    pub(super) body: Range<usize>,
    /// The parts in it, by their places in [`Parts::all`].
    pub(super) below: Vec<usize>,
    /// Whether it is a multipart that stands too deep to be looked into.
    pub(super) too_deep: bool,
}

/// What a head says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) cc: String,
    /// The field as it is written.
    pub(super) date: String,
    /// The same in milliseconds since 1970, if it can be read and is not before.
    pub(super) sent: Option<u64>,
    pub(super) subject: String,
    /// `text/plain`, in small letters.
    pub(super) media_type: String,
    pub(super) charset: Option<String>,
    /// The name of a file.
    pub(super) name: String,
    pub(super) is_attachment: bool,
    pub(super) encoding: Encoding,
    boundary: Option<String>,
    /// Whether a field is longer than what is looked at.
    pub(super) is_cut: bool,
}

impl Head {
    pub(super) fn is(&self, media_type: &str) -> bool {
        self.media_type == media_type
    }

    pub(super) fn is_multipart(&self) -> bool {
        self.media_type.starts_with("multipart/")
    }

    /// Whether the part is a message as it was sent.
    pub(super) fn is_message(&self) -> bool {
        self.is("message/rfc822") || self.is("message/global")
    }

    /// That of a message, or of a part. `default` is its type if it names none.
    pub(super) fn of(message: &[u8], default: &str) -> Self {
        Walk::new(message).head(default)
    }

    fn read(known: &[Option<&[u8]>; KNOWN.len()], default: &str) -> Self {
        let mut fields = Vec::new();
        let mut is_cut = false;
        for field in known.iter().flatten() {
            let part = &field[..field.len().min(FIELD)];
            is_cut |= part.len() < field.len();
            fields.extend_from_slice(readable(part).trim_ascii_end());
            fields.extend_from_slice(b"\r\n");
        }
        fields.extend_from_slice(b"\r\n");
        // Without a field the library finds no message.
        let parsed = MessageParser::new().parse_headers(&fields);
        let mut head = parsed.as_ref().map(Self::shown).unwrap_or_default();
        let date = known[3].map(|field| decode::text(&field[..field.len().min(FIELD)], None).0);
        let value = date.as_deref().and_then(|field| field.split_once(':'));
        head.date = value.map(|(_, value)| unfolded(value)).unwrap_or_default();
        head.is_cut = is_cut;
        head.describe(parsed.as_ref().and_then(|parsed| parsed.parts.first()), default);
        head
    }

    /// The fields that people read.
    fn shown(parsed: &Message<'_>) -> Self {
        let listed = |list: Option<&Address<'_>>| list.map(listed).unwrap_or_default();
        let sent = parsed.date().filter(|date| date.is_valid()).map(DateTime::to_timestamp);
        Self {
            from: listed(parsed.from()),
            to: listed(parsed.to()),
            cc: listed(parsed.cc()),
            sent: sent.and_then(|seconds| u64::try_from(seconds).ok()?.checked_mul(1_000)),
            subject: parsed.subject().unwrap_or_default().to_owned(),
            ..Self::default()
        }
    }

    /// The fields that say what the part is.
    fn describe(&mut self, part: Option<&mail_parser::MessagePart<'_>>, default: &str) {
        let kind = part.and_then(|part| part.content_type());
        self.media_type = kind.map_or_else(|| default.to_owned(), media_type);
        self.charset = kind.and_then(|kind| kind.attribute("charset")).map(str::to_owned);
        self.boundary = kind.and_then(|kind| kind.attribute("boundary")).map(str::to_owned);
        let disposition = part.and_then(|part| part.content_disposition());
        self.is_attachment = disposition.is_some_and(ContentType::is_attachment);
        let names = [(disposition, "filename"), (kind, "name")];
        let name = names.into_iter().find_map(|(field, key)| field?.attribute(key));
        self.name = name.map(words).unwrap_or_default();
        let encoding = part.and_then(|part| part.content_transfer_encoding());
        self.encoding = Encoding::of(encoding.unwrap_or_default());
    }
}

fn media_type(kind: &ContentType<'_>) -> String {
    let subtype = kind.subtype().unwrap_or("plain");
    format!("{}/{subtype}", kind.ctype()).to_ascii_lowercase()
}

/// Addresses as people write them. The name never stands alone if there is an address.
fn listed(addresses: &Address<'_>) -> String {
    let one = |one: &mail_parser::Addr<'_>| match (one.name(), one.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    };
    addresses.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A name with encoded words, which some programs put where a parameter has none.
fn words(name: &str) -> String {
    if !name.contains("=?") {
        return name.to_owned();
    }
    let field = format!("Subject: {}\r\n\r\n", unfolded(name));
    let parsed = MessageParser::new().parse_headers(field.as_bytes());
    parsed.and_then(|parsed| parsed.subject().map(str::to_owned)).unwrap_or_else(|| name.to_owned())
}

/// A value in one line.
fn unfolded(value: &str) -> String {
    value.trim().split(['\r', '\n']).filter(|line| !line.is_empty()).collect::<Vec<_>>().concat()
}

/// A field as the library reads it best: what is no encoded word is UTF-8, and encoded words have character sets that are known. For one that is
/// unknown stands the most common one: its ASCII can be read then, and nothing gets lost.
fn readable(field: &[u8]) -> Vec<u8> {
    let mut read = Vec::with_capacity(field.len());
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = field[at..].windows(2).position(|two| two == b"=?") {
        let begin = at + found;
        let Some((charset, behind, length)) = encoded_word(&field[begin..]) else {
            at = begin + 2;
            continue;
        };
        read.extend_from_slice(decode::text(&field[plain..begin], None).0.as_bytes());
        let name = charset.split('*').next().unwrap_or_default();
        let is_known = decode::is_utf8(name) || charset_decoder(name.as_bytes()).is_some();
        read.extend_from_slice(b"=?");
        read.extend_from_slice(if is_known { charset } else { "windows-1252" }.as_bytes());
        read.extend_from_slice(behind);
        (plain, at) = (begin + length, begin + length);
    }
    read.extend_from_slice(decode::text(&field[plain..], None).0.as_bytes());
    read
}

/// The encoded word that a text begins with: its character set, what stands behind that, and its length.
fn encoded_word(text: &[u8]) -> Option<(&str, &[u8], usize)> {
    let named = text.strip_prefix(b"=?")?;
    let end = named.iter().take(WORD).position(|byte| *byte == b'?')?;
    let (charset, behind) = named.split_at(end);
    let charset = std::str::from_utf8(charset).ok()?;
    let is_name = !charset.is_empty() && charset.bytes().all(|byte| byte.is_ascii_graphic());
    let content = match behind {
        [b'?', b'q' | b'Q' | b'b' | b'B', b'?', content @ ..] if is_name => content,
        _ => return None,
    };
    let content = &content[..content.len().min(WORD)];
    let end = content.windows(2).position(|two| two == b"?=")?;
    if content[..end].contains(&b'\n') {
        return None;
    }
    let behind = &behind[..3 + end + 2];
    Some((charset, behind, 2 + charset.len() + behind.len()))
}

/// A multipart whose end has not come.
struct Open {
    boundary: Vec<u8>,
    /// Its place among the parts.
    part: usize,
}

/// A line that ends a part.
struct Delimiter {
    /// Which of the open multiparts it is of.
    level: usize,
    /// Whether that one ends, too.
    closes: bool,
    /// Where the line begins.
    begin: usize,
}

struct Walk<'a> {
    message: &'a [u8],
    at: usize,
    open: Vec<Open>,
    parts: Vec<Part>,
}

impl Parts {
    pub(super) fn of(message: &[u8]) -> Self {
        let mut walk = Walk::new(message);
        while walk.parts.len() < PARTS {
            if !walk.part() {
                walk.at = message.len();
                break;
            }
        }
        walk.close_down_to(0, message.len());
        Self { all: walk.parts, behind: message.len() - walk.at }
    }
}

impl<'a> Walk<'a> {
    fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0, open: Vec::new(), parts: Vec::new() }
    }

    /// Walks over a part, or into it if it is a multipart. Whether another one follows.
    fn part(&mut self) -> bool {
        let above = self.open.last().map(|open| open.part);
        let in_digest = above.is_some_and(|above| self.parts[above].head.is("multipart/digest"));
        let mut head = self.head(if in_digest { "message/rfc822" } else { "text/plain" });
        let (place, begin) = (self.parts.len(), self.at);
        if let Some(above) = above {
            self.parts[above].below.push(place);
        }
        let boundary = head.boundary.take().filter(|b| head.is_multipart() && !b.is_empty());
        let too_deep = boundary.is_some() && self.open.len() >= DEPTH;
        let body = begin..self.message.len();
        self.parts.push(Part { head, body, below: Vec::new(), too_deep });
        if let Some(boundary) = boundary.filter(|_| !too_deep) {
            self.open.push(Open { boundary: boundary.into_bytes(), part: place });
        }
        let mut found = self.delimiter();
        if let Some(delimiter) = &found {
            self.parts[place].body.end = self.end_before(delimiter.begin).max(begin);
        }
        // Behind a multipart that has ended only one of those around it can go on.
        while let Some(delimiter) = found {
            self.close_down_to(delimiter.level + 1, delimiter.begin);
            if !delimiter.closes {
                return true;
            }
            self.close_down_to(delimiter.level, self.at);
            found = self.delimiter();
        }
        false
    }

    /// The multiparts beyond so many end here.
    fn close_down_to(&mut self, level: usize, end: usize) {
        while self.open.len() > level {
            let Some(open) = self.open.pop() else { return };
            let begin = self.parts[open.part].body.start;
            self.parts[open.part].body.end = self.end_before(end).max(begin);
        }
    }

    /// Reads a head, and the empty line behind it.
    fn head(&mut self, default: &str) -> Head {
        let rest = &self.message[self.at..];
        let mut known = [None; KNOWN.len()];
        let mut fields = Fields::of(rest);
        let mut length = 0;
        for field in fields.by_ref() {
            let is_delimiter =
                field.raw().starts_with(b"--") && self.opens(first_line(field.raw())).is_some();
            if is_delimiter {
                break;
            }
            length += field.raw().len();
            if let Some(place) = KNOWN.iter().position(|name| field.is(name)) {
                known[place].get_or_insert(field.raw());
            }
        }
        self.at += length;
        let behind = &self.message[self.at..];
        self.at +=
            if behind.starts_with(b"\r\n") { 2 } else { usize::from(behind.starts_with(b"\n")) };
        Head::read(&known, default)
    }

    /// Goes behind the next line that ends a part.
    fn delimiter(&mut self) -> Option<Delimiter> {
        if self.open.is_empty() {
            return None;
        }
        while self.at < self.message.len() {
            let begin = self.at;
            let line = first_line(&self.message[begin..]);
            self.at += line.len();
            if let Some((level, closes)) = self.opens(line) {
                return Some(Delimiter { level, closes, begin });
            }
        }
        None
    }

    /// Of which open multipart a line is a delimiter, and whether it is its last one.
    fn opens(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.strip_prefix(b"--")?.trim_ascii_end();
        let is_of = |open: &Open| match line.strip_prefix(&*open.boundary)? {
            b"" => Some(false),
            b"--" => Some(true),
            _ => None,
        };
        let of = |(level, open)| Some((level, is_of(open)?));
        self.open.iter().enumerate().rev().find_map(of)
    }

    /// Where a text ends that stands before a delimiter: its line end is the delimiter's.
    fn end_before(&self, begin: usize) -> usize {
        let before = &self.message[..begin];
        if begin == self.message.len() {
            return begin;
        }
        let before = before.strip_suffix(b"\n").unwrap_or(before);
        before.strip_suffix(b"\r").unwrap_or(before).len()
    }
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    &bytes[..end.map_or(bytes.len(), |end| end + 1)]
}
