//! A message for a server that takes less than it has: characters beyond ASCII, and lines that are too long.
//!
//! ```text
//!  Scanner:    the message ─► Facts: what each of its leaves holds
//!  Converter:  the message, Facts, Wanted ─► the same message in another form, which means the same
//! ```
//!
//! Both read the message once, in pieces, and hold one head and one line of it. What they hold of each leaf is a few bytes.
//!
//! | of | what becomes of it |
//! |---|---|
//! | a leaf with bytes beyond ASCII, or a line that is too long | quoted-printable if it is text and mostly ASCII, else base64. Decoded it is the same, so flowed text stays flowed |
//! | a leaf that is encoded, and not wholly | it is encoded to its end |
//! | multipart, message/rfc822 | what is in it is looked at; its label becomes 7bit |
//! | a message without a MIME head | it gets one: UTF-8 if it is that, else unknown-8bit |
//! | a field beyond ASCII | encoded words, RFC 2231 in parameters, and for an address without a form in ASCII a group without members |
//! | what is signed or encrypted | nothing: a signature is for these very bytes |

mod encoder;
mod field;

use self::encoder::{Encoder, End};

/// The longest line that SMTP takes, without its end (RFC 5321, 4.5.3.1.6).
pub const MAX_LINE: usize = 998;

/// What is held of a line at once. Boundaries and lines of heads that are looked at are shorter.
const PIECE: usize = 2048;

/// The largest head that is looked at.
const MAX_HEAD: usize = 256 << 10;

/// The most leaves that are told apart.
const MAX_LEAVES: usize = 10_000;

/// How deep parts may be within parts.
const MAX_DEPTH: usize = 50;

/// What a server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Of bodies.
    pub bodies: Bodies,
    /// Of the message's own head.
    pub head: Head,
}

/// What bodies may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// Any bytes.
    EightBit,
    /// ASCII.
    SevenBit,
}

/// What a head may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// UTF-8.
    Utf8,
    /// ASCII.
    Ascii,
}

/// What a message holds.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    leaves: Vec<Leaf>,
    /// Whether its own head has characters beyond ASCII, and which.
    pub head: Beyond,
    /// Whether what is behind its head has.
    pub bodies: bool,
    /// Whether a line is longer than [`MAX_LINE`].
    pub long: bool,
    /// What of it stays as it is.
    pub sealed: Sealed,
}

/// What of a message stays as it is, because it is signed or encrypted, or too strange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sealed {
    /// Nothing.
    #[default]
    Nothing,
    /// A part of it.
    Part,
    /// All of it.
    Whole,
}

/// Characters beyond ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beyond {
    /// There are none.
    #[default]
    Nothing,
    /// All are UTF-8.
    Utf8,
    /// Some are no UTF-8.
    Other,
}

impl Facts {
    /// Whether a server that takes this must be sent the message in another form.
    pub fn differs(&self, wanted: Wanted) -> bool {
        let head = match wanted.head {
            Head::Utf8 => self.head == Beyond::Other,
            Head::Ascii => self.head != Beyond::Nothing,
        };
        head || self.long || self.bodies && wanted.bodies == Bodies::SevenBit
    }
}

/// What one leaf holds.
#[derive(Debug, Clone, Default)]
struct Leaf {
    /// Bytes beyond ASCII.
    high: u64,
    bytes: u64,
    long: bool,
    /// It is no UTF-8.
    broken: bool,
    /// The beginning of a character whose end is in the next piece.
    begun: Vec<u8>,
}

impl Leaf {
    fn count(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        if text.is_ascii() && self.begun.is_empty() {
            return;
        }
        self.high += text.iter().filter(|byte| !byte.is_ascii()).count() as u64;
        self.begun.extend_from_slice(text);
        let rest = match std::str::from_utf8(&self.begun) {
            Ok(_) => 0,
            Err(error) if error.error_len().is_none() => self.begun.len() - error.valid_up_to(),
            Err(_) => {
                self.broken = true;
                0
            }
        };
        self.begun.drain(..self.begun.len() - rest);
    }

    fn charset(&self) -> &'static str {
        let broken = self.broken || !self.begun.is_empty();
        if broken { "unknown-8bit" } else { "utf-8" }
    }
}

/// Finds out what a message holds.
#[derive(Debug)]
pub struct Scanner(Walk);

impl Default for Scanner {
    fn default() -> Self {
        Self(Walk::new(Job::Scan, Facts::default()))
    }
}

impl Scanner {
    /// Takes a piece.
    pub fn feed(&mut self, piece: &[u8]) {
        self.0.feed(piece, &mut Vec::new());
    }

    /// What was found.
    pub fn finish(mut self) -> Facts {
        self.0.finish(&mut Vec::new());
        self.0.facts
    }
}

/// Writes a message as a server takes it, with CRLF line ends.
#[derive(Debug)]
pub struct Converter(Walk);

impl Converter {
    /// For a message with these facts.
    pub fn new(facts: Facts, wanted: Wanted) -> Self {
        Self(Walk::new(Job::Convert(wanted), facts))
    }

    /// Takes a piece.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.0.feed(piece, out);
    }

    /// Ends the message.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.0.finish(out);
    }
}

/// What is done on the way through a message.
#[derive(Debug, Clone, Copy)]
enum Job {
    Scan,
    Convert(Wanted),
}

/// Whose head it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The message's own.
    Top,
    /// Of a message within it.
    Inner,
    /// Of a part, and what a part is that does not say so.
    Part(Untyped),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Untyped {
    Text,
    Message,
}

/// Where the way through a message is.
#[derive(Debug)]
enum At {
    Head(Owner),
    Leaf,
    /// In front of the first part of a multipart, or behind its last.
    Outside,
    /// Within something that stays as it is.
    Sealed,
}

#[derive(Debug)]
struct Level {
    boundary: Vec<u8>,
    parts: Untyped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineAt {
    Start,
    Middle,
    /// Behind a CR, whose line has ended already.
    Cr,
}

/// The way through a message.
#[derive(Debug)]
struct Walk {
    job: Job,
    facts: Facts,
    /// The leaf that is next.
    leaf: usize,
    levels: Vec<Level>,
    depth: usize,
    at: At,
    head: Vec<u8>,
    line: Vec<u8>,
    line_at: LineAt,
    /// How long the line is of which some has been handled.
    length: usize,
    encoder: Encoder,
}

impl Walk {
    fn new(job: Job, facts: Facts) -> Self {
        let whole = facts.sealed == Sealed::Whole;
        Self {
            job,
            facts,
            leaf: 0,
            levels: Vec::new(),
            depth: 0,
            at: if whole { At::Sealed } else { At::Head(Owner::Top) },
            head: Vec::new(),
            line: Vec::new(),
            line_at: LineAt::Start,
            length: 0,
            encoder: Encoder::Same,
        }
    }

    fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = input.first() {
            match first {
                b'\n' if self.line_at == LineAt::Cr => self.line_at = LineAt::Start,
                b'\n' => self.end_line(LineAt::Start, out),
                b'\r' => self.end_line(LineAt::Cr, out),
                _ => {
                    let room = &input[..input.len().min(PIECE - self.line.len())];
                    let end = room.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
                    let (text, behind) = input.split_at(end.unwrap_or(room.len()));
                    self.line.extend_from_slice(text);
                    self.line_at = LineAt::Middle;
                    input = behind;
                    if self.line.len() == PIECE {
                        self.flush(out);
                    }
                    continue;
                }
            }
            input = &input[1..];
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.line_at == LineAt::Middle {
            self.end_line(LineAt::Start, out);
        }
        if let At::Head(owner) = self.at {
            self.end_head(owner, Blank::Missing, out);
        }
        self.encoder.finish(End::Message, out);
    }

    fn end_line(&mut self, at: LineAt, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        self.whole_or_rest(&line, out);
        self.line = line;
        self.line.clear();
        self.length = 0;
        self.line_at = at;
    }

    /// Hands on what there is of a line that is too long for all that is looked for.
    fn flush(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        // It may be of no head of several messages that are in each other.
        while self.leave_head(&line, out) == Left::Head {}
        match self.at {
            At::Head(owner) => self.head_piece(owner, &line, out),
            _ => self.body_piece(&line, out),
        }
        self.length += line.len();
        self.line = line;
        self.line.clear();
    }

    /// A line, or the rest of one, with its end.
    fn whole_or_rest(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if self.length == 0
            && let Some((level, closes)) = self.boundary(line)
        {
            return self.at_boundary(level, closes, line, out);
        }
        self.facts.long |= self.is_scan() && self.length + line.len() > MAX_LINE;
        let At::Head(owner) = self.at else {
            self.body_piece(line, out);
            self.body_line_end(out);
            return;
        };
        if self.length == 0 && line.is_empty() {
            return self.end_head(owner, Blank::There, out);
        }
        if self.leave_head(line, out) == Left::Head {
            return self.whole_or_rest(line, out);
        }
        self.head_piece(owner, line, out);
        if matches!(self.at, At::Head(_)) {
            self.head.push(b'\n');
        } else {
            self.body_line_end(out);
        }
    }

    /// Ends a head in front of a line that is not of it: text without an empty line in front of it.
    fn leave_head(&mut self, line: &[u8], out: &mut Vec<u8>) -> Left {
        match self.at {
            At::Head(owner) if self.length == 0 && !continues_head(&self.head, line) => {
                self.end_head(owner, Blank::There, out);
                Left::Head
            }
            _ => Left::Nothing,
        }
    }

    fn is_scan(&self) -> bool {
        matches!(self.job, Job::Scan)
    }

    fn head_piece(&mut self, owner: Owner, piece: &[u8], out: &mut Vec<u8>) {
        if self.head.len() + piece.len() <= MAX_HEAD {
            return self.head.extend_from_slice(piece);
        }
        // Too strange: from here on it stays as it is.
        self.seal(owner);
        let head = std::mem::take(&mut self.head);
        self.verbatim(&head, out);
        self.body_piece(piece, out);
    }

    /// Writes a head, or what there is of one, as it is.
    fn verbatim(&mut self, head: &[u8], out: &mut Vec<u8>) {
        if self.is_scan() {
            self.facts.bodies |= !head.is_ascii();
            return;
        }
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => out.extend([line, b"\r\n"].concat()),
                None => out.extend_from_slice(line),
            }
        }
    }

    fn seal(&mut self, owner: Owner) {
        self.at = At::Sealed;
        self.encoder = Encoder::Same;
        if self.is_scan() {
            let whole = owner == Owner::Top || self.facts.sealed == Sealed::Whole;
            self.facts.sealed = if whole { Sealed::Whole } else { Sealed::Part };
        }
    }

    fn body_piece(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match (self.job, &self.at) {
            (Job::Scan, At::Leaf) => {
                self.facts.bodies |= !text.is_ascii();
                let leaf = self.facts.leaves.last_mut().expect("it has begun");
                leaf.count(text);
                leaf.long |= self.length + text.len() > MAX_LINE;
            }
            (Job::Scan, _) => self.facts.bodies |= !text.is_ascii(),
            (Job::Convert(_), At::Sealed) => out.extend_from_slice(text),
            (Job::Convert(_), _) => self.encoder.text(text, out),
        }
    }

    fn body_line_end(&mut self, out: &mut Vec<u8>) {
        match (self.job, &self.at) {
            (Job::Scan, At::Leaf) => {
                self.facts.leaves.last_mut().expect("it has begun").count(b"\r\n");
            }
            (Job::Scan, _) => {}
            (Job::Convert(_), _) if matches!(self.encoder, Encoder::Same) => {
                out.extend_from_slice(b"\r\n");
            }
            (Job::Convert(_), _) => self.encoder.line_end(out),
        }
    }

    /// The level whose boundary a line is, and whether it closes it.
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.strip_prefix(b"--")?;
        (0..self.levels.len()).rev().find_map(|level| {
            let behind = line.strip_prefix(&self.levels[level].boundary[..])?;
            let closes = behind.strip_prefix(b"--");
            let blank = closes.unwrap_or(behind).iter().all(|b| matches!(b, b' ' | b'\t'));
            blank.then_some((level, closes.is_some()))
        })
    }

    fn at_boundary(&mut self, level: usize, closes: bool, line: &[u8], out: &mut Vec<u8>) {
        if let At::Head(owner) = self.at {
            self.end_head(owner, Blank::Missing, out);
        }
        self.encoder.finish(End::Boundary, out);
        if !self.is_scan() {
            out.extend([line, b"\r\n"].concat());
        }
        let parts = self.levels[level].parts;
        self.levels.truncate(if closes { level } else { level + 1 });
        self.depth = self.depth.min(self.levels.len());
        if closes {
            self.outside();
        } else {
            self.at = At::Head(Owner::Part(parts));
        }
    }

    /// Readers pass over what is outside.
    fn outside(&mut self) {
        self.at = At::Outside;
        let seven = matches!(self.job, Job::Convert(Wanted { bodies: Bodies::SevenBit, .. }));
        self.encoder =
            if seven || self.facts.long { Encoder::Unread { column: 0 } } else { Encoder::Same };
    }

    fn end_head(&mut self, owner: Owner, blank: Blank, out: &mut Vec<u8>) {
        let head = std::mem::take(&mut self.head);
        let entity = Entity::of(&head, owner);
        if self.is_scan() {
            self.scan_head(&head, owner);
        }
        let kind = self.kind(&entity, owner);
        match (self.job, &kind) {
            (Job::Convert(_), Kind::Sealed) => self.verbatim(&head, out),
            (Job::Convert(wanted), _) => {
                let leaf = self.facts.leaves.get(self.leaf);
                let coding = Coding::of(&kind, &entity, leaf, wanted);
                let charset = leaf.map_or("utf-8", Leaf::charset);
                write_head(&head, owner, &entity, (coding, charset), wanted, out);
                if kind == Kind::Leaf {
                    self.encoder = coding.encoder();
                    self.leaf += 1;
                }
            }
            (Job::Scan, Kind::Leaf) => self.facts.leaves.push(Leaf::default()),
            (Job::Scan, _) => {}
        }
        if blank == Blank::There && !self.is_scan() {
            out.extend_from_slice(b"\r\n");
        }
        self.enter(kind, owner);
    }

    fn scan_head(&mut self, head: &[u8], owner: Owner) {
        if head.is_ascii() {
            return;
        }
        if owner != Owner::Top {
            self.facts.bodies = true;
            return;
        }
        let utf8 = std::str::from_utf8(head).is_ok();
        self.facts.head = if utf8 { Beyond::Utf8 } else { Beyond::Other };
    }

    fn kind(&self, entity: &Entity, owner: Owner) -> Kind {
        if self.facts.leaves.len() >= MAX_LEAVES && self.is_scan() || self.leaf >= MAX_LEAVES {
            return Kind::Sealed;
        }
        let content = entity.content.as_str();
        let plain = entity.encoding.is_identity();
        if owner == Owner::Top && entity.signed
            || matches!(content, "multipart/signed" | "multipart/encrypted")
        {
            Kind::Sealed
        } else if content.starts_with("multipart/") {
            match &entity.boundary {
                Some(boundary) if plain && self.depth < MAX_DEPTH => {
                    let digest = content == "multipart/digest";
                    let parts = if digest { Untyped::Message } else { Untyped::Text };
                    Kind::Multipart(boundary.clone(), parts)
                }
                _ => Kind::Sealed,
            }
        } else if matches!(content, "message/rfc822" | "message/global") && plain {
            if self.depth < MAX_DEPTH { Kind::Message } else { Kind::Sealed }
        } else if entity.encoding == Encoding::Unknown {
            Kind::Sealed
        } else {
            Kind::Leaf
        }
    }

    fn enter(&mut self, kind: Kind, owner: Owner) {
        match kind {
            Kind::Sealed => self.seal(owner),
            Kind::Leaf => self.at = At::Leaf,
            Kind::Message => {
                self.depth += 1;
                self.at = At::Head(Owner::Inner);
            }
            Kind::Multipart(boundary, parts) => {
                self.depth += 1;
                self.levels.push(Level { boundary, parts });
                self.outside();
            }
        }
    }
}

/// What was left in front of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Head,
    Nothing,
}

/// Whether an empty line ended a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blank {
    There,
    Missing,
}

/// What an entity is on the way through a message.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Leaf,
    Message,
    Multipart(Vec<u8>, Untyped),
    Sealed,
}

/// How an entity says that it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Seven,
    Eight,
    Quoted,
    Base64,
    Unknown,
}

impl Encoding {
    fn of(word: &str) -> Self {
        match word {
            "7bit" => Self::Seven,
            "8bit" | "binary" => Self::Eight,
            "quoted-printable" => Self::Quoted,
            "base64" => Self::Base64,
            _ => Self::Unknown,
        }
    }

    fn is_identity(self) -> bool {
        matches!(self, Self::Seven | Self::Eight)
    }
}

/// What the head of an entity says.
#[derive(Debug)]
struct Entity {
    /// Its type, in lower case.
    content: String,
    /// Whether it says its type itself.
    typed: bool,
    boundary: Option<Vec<u8>>,
    encoding: Encoding,
    version: bool,
    /// It has a signature over its bytes.
    signed: bool,
}

impl Entity {
    fn of(head: &[u8], owner: Owner) -> Self {
        let content = match owner {
            Owner::Part(Untyped::Message) => "message/rfc822",
            _ => "text/plain",
        };
        let mut entity = Self {
            content: content.to_owned(),
            typed: false,
            boundary: None,
            encoding: Encoding::Seven,
            version: false,
            signed: false,
        };
        for field in fields(head) {
            match field::name(field).as_str() {
                "content-type" if !entity.typed => {
                    let value = field::value(field);
                    let end = value.iter().position(|byte| b"; (".contains(byte) && *byte != b' ');
                    let word = &value[..end.unwrap_or(value.len())];
                    entity.content = String::from_utf8_lossy(word).trim().to_ascii_lowercase();
                    entity.boundary = boundary_of(&value);
                    entity.typed = true;
                }
                "content-transfer-encoding" => {
                    let value = field::value(field);
                    let word = value.split(|byte| b";(".contains(byte)).next().unwrap_or_default();
                    let word = String::from_utf8_lossy(word).trim().to_ascii_lowercase();
                    entity.encoding = Encoding::of(&word);
                }
                "mime-version" => entity.version = true,
                "dkim-signature" | "arc-seal" => entity.signed = true,
                _ => {}
            }
        }
        entity
    }
}

/// The fields of a head, each with its line ends.
fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            let line = rest[end..].iter().position(|byte| *byte == b'\n');
            end = line.map_or(rest.len(), |line| end + line + 1);
            if !rest[end..].first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
                break;
            }
        }
        let (field, behind) = rest.split_at(end);
        rest = behind;
        (!field.is_empty()).then_some(field)
    })
}

/// Whether a line belongs to a head: a field, or more of one.
fn continues_head(head: &[u8], line: &[u8]) -> bool {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return !head.is_empty();
    }
    let name = line.iter().position(|byte| *byte == b':').map(|at| line[..at].trim_ascii_end());
    name.is_some_and(|name| !name.is_empty() && name.iter().all(|byte| (33..=126).contains(byte)))
}

/// The parameter `boundary` of a `Content-Type`. One beyond ASCII is none, also where it is written as RFC 2231 says: readers after the
/// conversion must find the parts that readers before it found.
fn boundary_of(value: &[u8]) -> Option<Vec<u8>> {
    let is_boundary = |name: &[u8]| {
        [&b"boundary"[..], b"boundary*"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    let (name, mut boundary) = field::parameters_of(value).find(|(name, _)| is_boundary(name))?;
    if name.ends_with(b"*") || !boundary.is_ascii() {
        return None;
    }
    boundary.truncate(boundary.trim_ascii_end().len());
    (!boundary.is_empty() && boundary.len() <= 200).then_some(boundary)
}

/// What is done with a body, and how it is labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Keep,
    /// It was 7bit all the time, or is now, by what is in it.
    Label7Bit,
    Quoted,
    Base64,
    MendQuoted,
    MendBase64,
}

impl Coding {
    fn of(kind: &Kind, entity: &Entity, leaf: Option<&Leaf>, wanted: Wanted) -> Self {
        let seven = wanted.bodies == Bodies::SevenBit;
        let label = seven && entity.encoding == Encoding::Eight;
        let otherwise = if label { Self::Label7Bit } else { Self::Keep };
        let (Kind::Leaf, Some(leaf)) = (kind, leaf) else { return otherwise };
        if !(seven && leaf.high > 0 || leaf.long) {
            return otherwise;
        }
        let text = entity.content.starts_with("text/");
        match entity.encoding {
            Encoding::Quoted => Self::MendQuoted,
            Encoding::Base64 => Self::MendBase64,
            // A byte takes three in one and one and a third in the other.
            _ if text && leaf.high * 6 <= leaf.bytes => Self::Quoted,
            _ if entity.content.starts_with("message/") => Self::Quoted,
            // People may read it without a program.
            _ if text && leaf.bytes < 1000 => Self::Quoted,
            _ => Self::Base64,
        }
    }

    fn label(self) -> Option<&'static str> {
        match self {
            Self::Keep | Self::MendQuoted | Self::MendBase64 => None,
            Self::Label7Bit => Some("7bit"),
            Self::Quoted => Some("quoted-printable"),
            Self::Base64 => Some("base64"),
        }
    }

    fn encoder(self) -> Encoder {
        match self {
            Self::Keep | Self::Label7Bit => Encoder::Same,
            Self::Quoted => Encoder::quoted(),
            Self::Base64 => Encoder::base64(),
            Self::MendQuoted => Encoder::MendQuoted { column: 0, escape: 0 },
            Self::MendBase64 => Encoder::MendBase64 { column: 0 },
        }
    }
}

/// Writes a head without the empty line behind it.
fn write_head(
    head: &[u8],
    owner: Owner,
    entity: &Entity,
    (coding, charset): (Coding, &str),
    wanted: Wanted,
    out: &mut Vec<u8>,
) {
    let mut label = coding.label();
    for field in fields(head) {
        if coding.label().is_some() && field::name(field) == "content-transfer-encoding" {
            if let Some(word) = label.take() {
                out.extend(format!("Content-Transfer-Encoding: {word}\r\n").bytes());
            }
            continue;
        }
        write_field(field, owner, wanted, out);
    }
    let Some(word) = label else { return };
    if !entity.version && !matches!(owner, Owner::Part(_)) {
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
    }
    if !entity.typed && entity.content == "text/plain" {
        out.extend(format!("Content-Type: text/plain; charset={charset}\r\n").bytes());
    }
    out.extend(format!("Content-Transfer-Encoding: {word}\r\n").bytes());
}

fn write_field(field: &[u8], owner: Owner, wanted: Wanted, out: &mut Vec<u8>) {
    let ascii = match (owner, wanted.head) {
        (Owner::Top, Head::Ascii) => true,
        (Owner::Top, Head::Utf8) => std::str::from_utf8(field).is_err(),
        _ => wanted.bodies == Bodies::SevenBit,
    };
    let encoded = (ascii && !field.is_ascii()).then(|| field::in_ascii(field));
    let shown = match &encoded {
        Some(encoded) => &encoded[..],
        None => field,
    };
    for line in shown.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        fold(line.strip_suffix(b"\r").unwrap_or(line), out);
    }
}

/// A line of a head, in several if it is too long and has blanks.
fn fold(mut line: &[u8], out: &mut Vec<u8>) {
    let mut first = !matches!(line.first(), Some(b' ' | b'\t'));
    while line.len() > MAX_LINE {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let Some(at) = line[1..MAX_LINE].iter().rposition(is_blank) else { break };
        // A name stays with its colon, and a line of blanks alone would be the end of a head for some.
        if line[..=at].iter().all(|byte| is_blank(byte) || first && *byte != b':') {
            break;
        }
        first = false;
        out.extend_from_slice(&line[..=at]);
        out.extend_from_slice(b"\r\n");
        line = &line[at + 1..];
    }
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
