//! Address lists, as To, Cc and Bcc have them: names, comments, groups, quoted mailboxes, folded lines.
//!
//! Nothing that was written is passed over in silence: what cannot be read as an address is given back as it stands, for
//! the broker to refuse by name. So a message never goes to fewer recipients than its sender wrote down.

use std::iter::Peekable;
use std::ops::Range;
use std::slice::Iter;

use crate::address::is_quoted;

/// As much of something that is no address as an error needs to show. It is longer than an address may be, so that
/// cutting makes nothing valid.
const MAX_SHOWN: usize = 400;

/// The addresses of a list. A word without a domain is a user of this host.
///
/// ```
/// let list = "Anna <anna@example.org>, friends: bo@localhost, \"C, D\" <cd@example.org>; root (the boss)";
/// assert_eq!(
///     sundown_mail::addresses(list),
///     ["anna@example.org", "bo@localhost", "cd@example.org", "root"]
/// );
/// ```
pub fn addresses(list: impl AsRef<[u8]>) -> Vec<String> {
    items(list.as_ref()).filter_map(Item::address).map(|bytes| text(&bytes)).collect()
}

/// An address of a list with the name in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The name, without quotes; empty if there is none.
    pub name: String,
    /// The address, or what stands there and is none.
    pub address: String,
}

/// The addresses of a list with their names. Names of groups and comments are left out.
///
/// ```
/// let found = sundown_mail::list::mailboxes("\"C, D\" <cd@example.org>, root");
/// assert_eq!((&*found[0].name, &*found[0].address), ("C, D", "cd@example.org"));
/// assert_eq!((&*found[1].name, &*found[1].address), ("", "root"));
/// ```
pub fn mailboxes(list: impl AsRef<[u8]>) -> Vec<Mailbox> {
    let named = |item: Item| {
        let name = item.name();
        Some(Mailbox { name, address: text(&item.address()?) })
    };
    items(list.as_ref()).filter_map(named).collect()
}

/// A list with other addresses in place of some: `new` gives the one that replaces an address. Everything else stays as it is written:
/// names, comments, groups, folds. `None` if nothing is replaced.
///
/// ```
/// use sundown_mail::list::replaced;
///
/// let new = |address: &str| (address == "root").then(|| "root@example.org".to_owned());
/// assert_eq!(replaced(b" root (Cron Daemon), b@c\n", new).unwrap(), b" root@example.org (Cron Daemon), b@c\n");
/// assert_eq!(replaced(b"b@c", new), None);
/// ```
pub fn replaced(list: &[u8], new: impl Fn(&str) -> Option<String>) -> Option<Vec<u8>> {
    let (mut output, mut copied) = (Vec::new(), 0);
    for item in items(list) {
        let (place, is_angle) = (item.place(), item.angle.is_some() && !item.broken);
        let Some(address) = item.address().and_then(|bytes| new(&text(&bytes))) else { continue };
        output.extend_from_slice(&list[copied..place.start]);
        let address = if is_angle { format!("<{address}>") } else { address };
        output.extend_from_slice(address.as_bytes());
        copied = place.end;
    }
    // Something replaces what was there, even if it is empty.
    (copied > 0).then(|| [&output[..], &list[copied..]].concat())
}

fn items(list: &[u8]) -> impl Iterator<Item = Item> {
    let (rest, length) = (list.iter().peekable(), list.len());
    let mut reader = Reader { rest, length, group: Group::Outside };
    std::iter::from_fn(move || reader.item())
}

/// Bytes that are no text are escaped: the address is refused then, rather than changed.
fn text(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(MAX_SHOWN)];
    match std::str::from_utf8(shown) {
        Ok(text) => text.to_owned(),
        // A cut character, or no text at all.
        Err(error) if error.error_len().is_none() && shown.len() < bytes.len() => {
            String::from_utf8_lossy(&shown[..error.valid_up_to()]).into_owned()
        }
        Err(_) => shown.escape_ascii().to_string(),
    }
}

/// Whether a group's name was read and its end was not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Outside,
    Inside,
}

/// What stands between two commas.
#[derive(Default)]
struct Item {
    /// All of it, for when it makes no sense.
    raw: Vec<u8>,
    /// Without comments, and without what is in angle brackets.
    words: Vec<u8>,
    /// What is in angle brackets.
    angle: Option<Vec<u8>>,
    broken: bool,
    /// Where it stands in the list, without the blanks around it.
    whole: Option<Range<usize>>,
    /// Where its words stand.
    spoken: Option<Range<usize>>,
    /// Where the brackets stand.
    bracketed: Option<Range<usize>>,
}

struct Reader<'a> {
    rest: Peekable<Iter<'a, u8>>,
    length: usize,
    group: Group,
}

/// A part that has an end of its own.
enum Part {
    Whole(Vec<u8>),
    /// The list ends before it does.
    Open(Vec<u8>),
}

impl Reader<'_> {
    /// What stands in front of the next comma, or of the end.
    fn item(&mut self) -> Option<Item> {
        self.rest.peek()?;
        let mut item = Item::default();
        while let Some(&byte) = self.rest.next() {
            let start = self.at() - 1;
            let part = match byte {
                b'(' => Written::Comment,
                b'<' => Written::Brackets,
                byte if byte.is_ascii_whitespace() => Written::Blank,
                _ => Written::Word,
            };
            match byte {
                b',' => break,
                b';' => {
                    self.group = Group::Outside;
                    break;
                }
                b':' if self.group == Group::Outside && item.names_a_group() => {
                    self.group = Group::Inside;
                    item = Item::default();
                    continue;
                }
                b'(' => item.comment(self.comment()),
                b'"' => item.word(self.delimited(b'"', b'"')),
                b'[' => item.word(self.delimited(b'[', b']')),
                b'<' => item.bracket(self.angle()),
                b'\\' => item.word(Part::Whole(self.escaped())),
                byte => item.byte(byte),
            }
            item.stands(part, start..self.at());
        }
        Some(item)
    }

    /// How much was read.
    fn at(&self) -> usize {
        self.length - self.rest.len()
    }

    /// A backslash and what it protects.
    fn escaped(&mut self) -> Vec<u8> {
        [b'\\'].into_iter().chain(self.rest.next().copied()).collect()
    }

    /// A quoted word, or a domain literal, with what encloses it.
    fn delimited(&mut self, open: u8, close: u8) -> Part {
        let mut part = vec![open];
        while let Some(&byte) = self.rest.next() {
            match byte {
                b'\\' => part.extend(self.escaped()),
                // A folded line continues with white space. Any other line end is part of what stands there, and makes it no address.
                b'\r' if self.rest.peek() == Some(&&b'\n') => {}
                b'\r' | b'\n' if matches!(self.rest.peek(), Some(b' ' | b'\t')) => {}
                byte => part.push(byte),
            }
            if byte == close {
                return Part::Whole(part);
            }
        }
        Part::Open(part)
    }

    /// A comment, which may have comments in it.
    fn comment(&mut self) -> Part {
        let (mut part, mut depth) = (vec![b'('], 1_usize);
        while let Some(&byte) = self.rest.next() {
            match byte {
                b'\\' => {
                    part.extend(self.escaped());
                    continue;
                }
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            part.push(byte);
            if depth == 0 {
                return Part::Whole(part);
            }
        }
        Part::Open(part)
    }

    /// What is in angle brackets, without them and without comments.
    fn angle(&mut self) -> Part {
        let mut part = Vec::new();
        while let Some(&byte) = self.rest.next() {
            match byte {
                b'>' => return Part::Whole(part),
                b'"' => match self.delimited(b'"', b'"') {
                    Part::Whole(word) | Part::Open(word) => part.extend(word),
                },
                b'(' => {
                    if let Part::Open(comment) = self.comment() {
                        part.extend(comment);
                    }
                }
                b'\\' => part.extend(self.escaped()),
                byte => part.push(byte),
            }
        }
        Part::Open([b"<", &part[..]].concat())
    }
}

/// What a part of an item is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Blank,
    Word,
    Comment,
    Brackets,
}

impl Item {
    /// Notes where a part of it stands.
    fn stands(&mut self, part: Written, at: Range<usize>) {
        let grow = |range: &mut Option<Range<usize>>| {
            let start = range.as_ref().map_or(at.start, |range| range.start);
            *range = Some(start..at.end);
        };
        match part {
            Written::Blank => return,
            Written::Word => grow(&mut self.spoken),
            Written::Brackets => grow(&mut self.bracketed),
            Written::Comment => {}
        }
        grow(&mut self.whole);
    }

    /// Where the address stands: in its brackets or without them, or all of it if that makes no sense.
    fn place(&self) -> Range<usize> {
        let narrow = if self.angle.is_some() { &self.bracketed } else { &self.spoken };
        let place = if self.broken { &self.whole } else { narrow };
        place.clone().or_else(|| self.whole.clone()).unwrap_or_default()
    }

    /// Whether this may be the name of a group. An address may not: it would be left out in silence.
    fn names_a_group(&self) -> bool {
        self.angle.is_none() && !has_bare_at(&self.words)
    }

    fn byte(&mut self, byte: u8) {
        self.raw.push(byte);
        self.words.push(byte);
        // Nothing but comments may follow the brackets.
        self.broken |= self.angle.is_some() && !byte.is_ascii_whitespace();
    }

    fn word(&mut self, part: Part) {
        let bytes = self.take(part);
        self.broken |= self.angle.is_some();
        self.words.extend(bytes);
    }

    fn comment(&mut self, part: Part) {
        self.take(part);
        // It separates words as a space does.
        self.words.push(b' ');
    }

    fn bracket(&mut self, part: Part) {
        if let Part::Whole(angle) = &part {
            self.broken |= self.angle.is_some();
            self.angle = Some(angle.clone());
            self.raw.extend([b"<", &angle[..], b">"].concat());
        } else {
            self.take(part);
        }
    }

    fn take(&mut self, part: Part) -> Vec<u8> {
        let (Part::Whole(bytes) | Part::Open(bytes)) = &part;
        self.raw.extend(bytes);
        self.broken |= matches!(part, Part::Open(_));
        match part {
            Part::Whole(bytes) | Part::Open(bytes) => bytes,
        }
    }

    /// What stands in front of the brackets, without quotes.
    fn name(&self) -> String {
        if self.broken || self.angle.is_none() {
            return String::new();
        }
        let (mut name, mut escaped) = (Vec::new(), false);
        for &byte in &self.words {
            let means_itself = escaped || !matches!(byte, b'"' | b'\\');
            escaped = !escaped && byte == b'\\';
            if means_itself {
                name.push(byte);
            }
        }
        text(name.trim_ascii())
    }

    /// The address; without one there is only a comment, an empty group, or nothing.
    fn address(self) -> Option<Vec<u8>> {
        if self.broken {
            return Some(self.raw.trim_ascii().to_vec());
        }
        // Empty brackets alone name no recipient; a name with them lacks its address.
        let nameless = self.words.trim_ascii().is_empty();
        if self.angle.as_deref().is_some_and(|angle| angle.trim_ascii().is_empty()) && !nameless {
            return Some(self.raw.trim_ascii().to_vec());
        }
        let written = self.angle.as_deref().map_or(&self.words[..], without_route);
        let spec = without_spaces(written);
        if spec.is_empty() { None } else { Some(unquoted(spec)) }
    }
}

/// Whether there is an @ outside quotes.
fn has_bare_at(words: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    words.iter().any(|&byte| {
        let bare = byte == b'@' && !quoted;
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        bare
    })
}

/// A route, `@relay,@relay:`, is out of use and means nothing.
fn without_route(angle: &[u8]) -> &[u8] {
    let angle = angle.trim_ascii();
    match (angle, angle.iter().position(|b| *b == b':')) {
        ([b'@', ..], Some(colon)) => &angle[colon + 1..],
        _ => angle,
    }
}

/// An address without the white space that may stand around its dots and its @. Other white space stays, and makes it no
/// address.
fn without_spaces(written: &[u8]) -> Vec<u8> {
    let written = written.trim_ascii();
    let joint = |byte: Option<&u8>| matches!(byte, Some(b'.' | b'@'));
    // Without an @ it is a name that was written without an address, and must not become a user of this host.
    let is_spec = written.contains(&b'@');
    let mut spec: Vec<u8> = Vec::with_capacity(written.len());
    let (mut quoted, mut escaped) = (false, false);
    for &byte in written {
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        if quoted || !byte.is_ascii_whitespace() {
            if is_spec && !quoted && joint(Some(&byte)) && spec.last() == Some(&b' ') {
                spec.pop();
            }
            spec.push(byte);
        } else if spec.last() != Some(&b' ') && !(is_spec && joint(spec.last())) {
            spec.push(b' ');
        }
    }
    spec
}

/// A user of this host without quotes: `"anna"` is anna, and `"Anna Smith"` is a name and no user.
fn unquoted(spec: Vec<u8>) -> Vec<u8> {
    let whole = std::str::from_utf8(&spec).is_ok_and(is_quoted);
    match &spec[..] {
        // Quotes around nothing are given back as they are, and refused: they name no user.
        [b'"', inner @ .., b'"'] if whole && !inner.is_empty() && !spec.contains(&b'@') => {
            inner.to_vec()
        }
        _ => spec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            (" \r\n\t,,; ,", &[]),
            ("a@b", &["a@b"]),
            ("root, bo", &["root", "bo"]),
            ("Anna <a@b>,\r\n\tBo <c@d>", &["a@b", "c@d"]),
            ("\"A, B\" <ab@x>, \"C; (D\" <cd@x>", &["ab@x", "cd@x"]),
            ("\"a \\\" , b\" <c@d>, e@f", &["c@d", "e@f"]),
            ("g: a@b, C <c@d>; e@f, h:;, i@j", &["a@b", "c@d", "e@f", "i@j"]),
            ("undisclosed-recipients:;", &[]),
            ("\"a@b\" (c@d): e@f;", &["e@f"]),
            ("a@b; c@d", &["a@b", "c@d"]),
            ("(a \\) b), c@d (\\()", &["c@d"]),
            ("(nobody), a@b (Anna (and, others)), (x)c@d(y)", &["a@b", "c@d"]),
            ("A(x) Group(people)\n :Chris <c@(his host)d>, e@f (g); (end)", &["c@d", "e@f"]),
            ("Pete(A nice \\) chap) <pete(his)@silly.test(host)>", &["pete@silly.test"]),
            ("\"a b\"@x, <\"c d\"@x>, \"e@f\"@x", &["\"a b\"@x", "\"c d\"@x", "\"e@f\"@x"]),
            ("<@a,@b:joe@c>, <>, < > (nobody)", &["joe@c"]),
            ("\"a\\\\\" @ b, \"a\\\"  b\" . c @d", &["\"a\\\\\"@b", "\"a\\\"  b\".c@d"]),
            ("a@[127.0.0.1], b@[IPv6:::1]", &["a@[127.0.0.1]", "b@[IPv6:::1]"]),
            ("\"a\r\n b\"@x, \"c\n\td\"@y", &["\"a b\"@x", "\"c\td\"@y"]),
            ("\"a\nb\"@x", &["\"a\nb\"@x"]),
            ("\"a\r\nb\"@x, \"c\rd\"@y", &["\"a\nb\"@x", "\"c\rd\"@y"]),
            ("john . doe @ example .\r\n org", &["john.doe@example.org"]),
            ("< a@b >, anna (x) , \"bo\"", &["a@b", "anna", "bo"]),
            ("=?utf-8?q?J=C3=BC=2C_x?= <j@x>, =?utf-8?b?w7w=?= <k@x>", &["j@x", "k@x"]),
            ("jürgen@münchen.de", &["jürgen@münchen.de"]),
            ("a@b <c@d>", &["c@d"]),
        ];
        for (list, wanted) in cases {
            assert_eq!(addresses(list), *wanted, "{list:?}");
        }
    }

    #[test]
    fn names_are_those_in_front_of_addresses() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            (
                "Änna <a@b>, \"C, \\\"D\\\\\" (x) E <c@d>",
                &[("Änna", "a@b"), ("C, \"D\\   E", "c@d")],
            ),
            ("g: a@b, H <c@d>;", &[("", "a@b"), ("H", "c@d")]),
            ("\"q\"@x, <e@f>, root, (y) <>", &[("", "\"q\"@x"), ("", "e@f"), ("", "root")]),
            ("A <a@b> c, \"open <d@e>", &[("", "A <a@b> c"), ("", "\"open <d@e>")]),
        ];
        for (list, wanted) in cases {
            let found = mailboxes(list);
            let found: Vec<_> = found.iter().map(|m| (&*m.name, &*m.address)).collect();
            assert_eq!(found, *wanted, "{list:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_given_back_to_be_refused() {
        let cases: &[(&str, &[&str])] = &[
            ("anna bo", &["anna bo"]),
            ("Dr. Strange, a@b", &["Dr. Strange", "a@b"]),
            ("a@b c@d", &["a@b c@d"]),
            ("\"John Smith\"", &["John Smith"]),
            ("\"\" \"\", \"John\" \"Smith\"", &["\"\" \"\"", "\"John\" \"Smith\""]),
            ("\"open <a@b>, c@d", &["\"open <a@b>, c@d"]),
            ("(open a@b, c@d", &["(open a@b, c@d"]),
            ("<a@b, c@d", &["<a@b, c@d"]),
            ("a@b>", &["a@b>"]),
            ("Anna <>, \"\"", &["Anna <>", "\"\""]),
            ("<a@b> \"c\", d@e", &["<a@b> \"c\"", "d@e"]),
            ("<a@b> c, d@e", &["<a@b> c", "d@e"]),
            ("<a@b> <c@d>", &["<a@b> <c@d>"]),
            ("g: h: a@b;", &["h: a@b"]),
            ("a@x.y Bcc: b@x.y", &["a@x.y Bcc: b@x.y"]),
            ("a@x.y: b@x.y;, c@d", &["a@x.y: b@x.y", "c@d"]),
            ("A <a@b> Bcc: c@d", &["A <a@b> Bcc: c@d"]),
            ("a@[::1] Cc: c@d", &["a@[::1] Cc: c@d"]),
            ("a\\,b@c", &["a\\,b@c"]),
            ("a\0b@c", &["a\0b@c"]),
        ];
        for (list, wanted) in cases {
            assert_eq!(addresses(list), *wanted, "{list:?}");
        }
        assert_eq!(addresses(b"j\xfcrgen@x, a@b"), ["j\\xfcrgen@x", "a@b"]);
    }

    #[test]
    fn addresses_are_replaced_where_they_stand() {
        let cases: &[(&str, &str)] = &[
            ("root", "NEW"),
            (" root (Cron Daemon)\n", " NEW (Cron Daemon)\n"),
            ("\"(Cron Daemon)\" <root>", "\"(Cron Daemon)\" <NEW>"),
            ("=?utf-8?q?J=C3=BC?= < root@\r\n vm >, b@c", "=?utf-8?q?J=C3=BC?= <NEW>, b@c"),
            ("(x) root (y) @ vm (z)", "(x) NEW (z)"),
            ("g: root, A <b@c>, root@vm;", "g: NEW, A <b@c>, NEW;"),
            ("<@relay:root@vm>", "<NEW>"),
            ("\"root\",\r\n\troot@vm , b@c", "NEW,\r\n\tNEW , b@c"),
            ("Anna <>", "Anna <NEW>"),
            ("Anna Smith", "NEW"),
            ("\"open <root>, b@c", "NEW"),
            ("A <root> b (c), b@c", "NEW, b@c"),
        ];
        let new = |address: &str| (address != "b@c").then(|| "NEW".to_owned());
        for (list, wanted) in cases {
            let replaced = replaced(list.as_bytes(), new).expect("there is something to replace");
            assert_eq!(String::from_utf8_lossy(&replaced), *wanted, "{list:?}");
        }
        for list in ["", "b@c", "A (x) <b@c>, g:;", "<>", "(root)"] {
            assert_eq!(replaced(list.as_bytes(), new), None, "{list:?}");
        }
    }

    /// Every arrangement of what means something: the list has the new addresses, each in the place of the one that it replaces.
    #[test]
    fn what_is_replaced_is_read_back() {
        let alphabet = b"ab@,:;<>()\"\\ ";
        let size = alphabet.len();
        for number in 0..size.pow(5) {
            let list: Vec<u8> =
                (0..5).map(|place| alphabet[number / size.pow(place) % size]).collect();
            let before = addresses(&list);
            let new = |address: &str| (!address.starts_with('b')).then(|| "n@x".to_owned());
            let wanted: Vec<_> =
                before.iter().map(|a| new(a).unwrap_or_else(|| a.clone())).collect();
            let changed = replaced(&list, new).unwrap_or_else(|| list.clone());
            let shown = list.escape_ascii().to_string();
            assert_eq!(addresses(&changed), wanted, "{shown}");
        }
    }

    /// What is cut is still no address, and what is no text does not become one.
    #[test]
    fn what_is_shown_is_bounded() {
        let cut = addresses(format!("a{}", "\u{fc}".repeat(MAX_SHOWN)));
        assert_eq!(cut, [format!("a{}", "\u{fc}".repeat(MAX_SHOWN / 2 - 1))]);
        assert_eq!(addresses(b"a\xc3"), ["a\\xc3"]);
        let odd = addresses([b"a\xff", &[b'x'; 2 * MAX_SHOWN][..]].concat());
        assert_eq!(odd, [format!("a\\xff{}", "x".repeat(MAX_SHOWN - 2))]);
    }

    #[test]
    fn lists_may_be_as_long_as_they_like() {
        let long = "Anna \"x\" (y) <a@b>,\n ".repeat(100_000);
        assert_eq!(addresses(&long).len(), 100_000);
        for odd in ["(", "<", "\"", "[", "x", "é", "\\", "a@b ", ":"] {
            let found = addresses(odd.repeat(500_000));
            assert!(found.iter().all(|a| a.len() <= 4 * MAX_SHOWN), "{odd}");
            assert!(found.len() <= 1, "{odd}");
        }
    }

    /// Every arrangement of what means something: what is taken is read the same again, and no comma is lost.
    #[test]
    fn what_was_read_is_read_again() {
        let alphabet = b"a@,:;<>()\"\\[] .";
        let size = alphabet.len();
        for number in 0..size.pow(4) {
            let places = (0..4).map(|place| alphabet[number / size.pow(place) % size]);
            let list: Vec<u8> = places.collect();
            let odd = |a: &String| a.is_empty() || a.contains(|c| "<>()\"\\[]:;, ".contains(c));
            let found = addresses(&list);
            if !found.iter().any(odd) {
                assert_eq!(addresses(found.join(",")), found, "{list:?}");
            }
            if list.contains(&b'a') && found.is_empty() {
                // Only a comment, a group's name or a route names no recipient.
                assert!(
                    list.iter().any(|b| b"(:".contains(b)),
                    "{:?}",
                    list.escape_ascii().to_string()
                );
            }
        }
    }
}
