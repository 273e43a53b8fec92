//! What makes a state that state: its text, without what only counts up, with times from now on, and with the names that
//! things get in order of appearance.
//!
//! The text is the one that `Debug` derives, so that no field can be forgotten: what does not matter is named here, and
//! everything else does. Two states with one fingerprint behave alike; two that behave alike may have two, which costs time only.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// Fields that decide nothing: counters, what is only shown to people or logged, and what a session reads once.
fn is_dropped(field: &str) -> bool {
    matches!(
        field,
        "behalf"
            | "by"
            | "by_key"
            | "departures"
            | "errand"
            | "finals"
            | "host"
            | "key"
            | "last"
            | "last_error"
            | "library"
            | "logged"
            | "made"
            | "message"
            | "configured"
            | "peer"
            | "profile"
            | "program"
            | "reply"
            | "requests_made"
            | "seq"
            | "settings"
            | "since"
            | "subject"
            | "submitted"
            | "tally"
            | "trouble"
            | "version"
            | "wall"
            | "worked"
    )
}

/// Ids of these types are renamed by their order, if they came after the beginning: their order is what matters of them.
fn is_ordered(name: &str) -> bool {
    matches!(name, "EngineId" | "LaneId" | "MemberId" | "SessionId")
}

/// Where a plain number is one of those that name calls, sweeps and transmissions: in order of appearance.
fn is_numbered(context: &str) -> bool {
    matches!(
        context,
        "CallId"
            | "Marked"
            | "Prepared"
            | "Results"
            | "Sweep"
            | "SweepOn"
            | "flight"
            | "flights"
            | "id"
            | "prepared"
            | "sweep"
            | "sweeps"
            | "word"
    )
}

/// Milliseconds on the wall are numbers of this size, records by chance are larger than these.
const WALL: std::ops::Range<u128> = 1_000_000_000_000..1_000_000_000_000_000;

/// Lists whose order decides nothing here: whoever came first owns a session, and where anybody may end it that is nobody.
const UNORDERED: &str = "members";

/// When a state is: times count from here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) boot: Duration,
    pub(super) wall: u64,
}

/// What has two names for one role.
#[derive(Debug, Clone, Default)]
pub(super) struct Roles {
    /// Pairs of ids, of submit keys too, that change places when two processes of one role do.
    pub(super) pairs: Vec<(&'static str, u64, u64)>,
    /// Ids up to these were there at the beginning, and keep their names.
    pub(super) first: BTreeMap<&'static str, u64>,
}

/// One value, as `Debug` prints it.
#[derive(Debug)]
enum Node<'a> {
    Word(&'a str),
    /// A name, which may be empty, the kind of bracket, and what is between.
    Group(&'a str, u8, Vec<Node<'a>>),
    /// A field and its value, or a key and its value.
    Pair(Box<Node<'a>>, Box<Node<'a>>),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// All ids that are renamed by their order.
    ranks: BTreeMap<&'a str, BTreeSet<u64>>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn skip(&mut self) {
        while matches!(self.peek(), b' ' | b',') {
            self.at += 1;
        }
    }

    fn word(&mut self) -> &'a str {
        let bytes = self.text.as_bytes();
        let (start, mut at) = (self.at, self.at);
        if self.peek() == b'"' {
            at += 1;
            while bytes[at] != b'"' {
                at += 1 + usize::from(bytes[at] == b'\\');
            }
            at += 1;
        } else {
            while at < bytes.len()
                && !matches!(
                    bytes[at],
                    b',' | b':' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b' '
                )
            {
                at += 1;
            }
        }
        self.at = at;
        let word = &self.text[start..at];
        if self.peek() == b' ' && bytes.get(at + 1) == Some(&b'{') {
            self.at += 1;
        }
        word
    }

    /// Passes over a value that does not matter.
    fn pass(&mut self) {
        let bytes = self.text.as_bytes();
        let mut deep = 0;
        while self.at < bytes.len() {
            match bytes[self.at] {
                b'"' => {
                    self.word();
                    continue;
                }
                b'(' | b'[' | b'{' => deep += 1,
                b')' | b']' | b'}' | b',' if deep == 0 => return,
                b')' | b']' | b'}' => deep -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn value(&mut self) -> Node<'a> {
        self.skip();
        let name = self.word();
        let open = self.peek();
        let close = match open {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            _ => return Node::Word(name),
        };
        self.at += 1;
        if matches!(name, "KernelProcess" | "Peer" | "ProcessKey" | "Token") {
            self.pass();
            while self.peek() != close {
                self.at += 1;
                self.pass();
            }
            self.at += 1;
            return Node::Word(name);
        }
        let mut inside = Vec::new();
        loop {
            self.skip();
            if self.peek() == close {
                self.at += 1;
                break;
            }
            let first = self.value();
            if self.peek() != b':' {
                inside.push(first);
                continue;
            }
            self.at += 1;
            if matches!(first, Node::Word(field) if is_dropped(field)) {
                self.pass();
                continue;
            }
            let second = self.value();
            inside.push(Node::Pair(Box::new(first), Box::new(second)));
        }
        if is_ordered(name)
            && let [Node::Word(number)] = inside.as_slice()
            && let Ok(number) = number.parse()
        {
            self.ranks.entry(name).or_default().insert(number);
        }
        Node::Group(name, open, inside)
    }
}

/// A text without names, and the names that belong into it, in their order.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Text {
    text: String,
    names: Vec<u128>,
}

impl Text {
    fn add(&mut self, other: &Self) {
        self.text.push_str(&other.text);
        self.names.extend(&other.names);
    }
}

struct Renderer<'r> {
    now: Now,
    ranks: &'r BTreeMap<&'r str, BTreeSet<u64>>,
    roles: &'r Roles,
    swapped: bool,
}

impl Renderer<'_> {
    fn swap(&self, kind: &str, number: u64) -> u64 {
        if !self.swapped {
            return number;
        }
        let of_kind = |(k, ..): &&(&str, u64, u64)| *k == kind;
        let pair =
            self.roles.pairs.iter().filter(of_kind).find(|(_, a, b)| [*a, *b].contains(&number));
        pair.map_or(number, |(_, a, b)| a + b - number)
    }

    fn id(&self, kind: &str, number: u64) -> String {
        let first = self.roles.first.get(kind).copied().unwrap_or(u64::MAX);
        if number <= first {
            return self.swap(kind, number).to_string();
        }
        let before = self.ranks.get(kind).map_or(0, |all| all.range(first + 1..number).count());
        format!("+{before}")
    }

    fn number(&self, word: &str, number: u128, context: &str, out: &mut Text) {
        if number < 1_000 && !is_numbered(context) {
            out.text.push_str(word);
        } else if is_numbered(context) || number >= WALL.end {
            out.text.push('?');
            out.names.push(number);
        } else if WALL.contains(&number) {
            out.text.push_str(&(number as i128 - i128::from(self.now.wall)).to_string());
        } else if let Some(known) = u64::try_from(number).ok().filter(|_| self.swapped) {
            out.text.push_str(&self.swap("Key", known).to_string());
        } else {
            out.text.push_str(word);
        }
    }

    fn word(&self, word: &str, context: &str, out: &mut Text) {
        let first = word.as_bytes().first().copied().unwrap_or(0);
        if !first.is_ascii_digit() && first != b'"' {
            return out.text.push_str(word);
        }
        if let Ok(number) = word.parse::<u128>() {
            return self.number(word, number, context, out);
        }
        // The machine was on for so long when it began; what is shorter is a span and no time.
        if let Some(Ok(seconds)) = word.strip_suffix('s').map(str::parse::<f64>)
            && seconds >= 1_000.0
        {
            let from_now = (seconds - self.now.boot.as_secs_f64()) * 1_000.0;
            return out.text.push_str(&from_now.round().to_string());
        }
        // A transport's mark is the record and the number of the transmission.
        if let Some((record, flight)) = word.trim_matches('"').split_once('.')
            && let (32, Ok(record), Ok(flight)) =
                (record.len(), u128::from_str_radix(record, 16), flight.parse::<u128>())
        {
            self.number("", record, "", out);
            out.text.push('?');
            out.names.push(flight);
            return;
        }
        out.text.push_str(word);
    }

    fn entry(&self, hex: &str, out: &mut Text) {
        let record = hex.get(8..).and_then(|hex| u128::from_str_radix(hex, 16).ok()).unwrap_or(0);
        out.text.push_str(hex.get(..8).unwrap_or_default());
        self.number(&record.to_string(), record, "", out);
    }

    fn render(&self, node: &Node, context: &str, out: &mut Text) {
        match node {
            Node::Word(word) => self.word(word, context, out),
            Node::Pair(key, value) => {
                // The keys of a map of such numbers are such numbers; what they lead to is not.
                let numbered = is_numbered(context);
                self.render(key, if numbered { "id" } else { "" }, out);
                out.text.push(':');
                let context = match key.as_ref() {
                    Node::Word(field) if !numbered => field,
                    _ => "",
                };
                self.render(value, context, out);
            }
            Node::Group("EntryId", _, inside) => {
                if let [Node::Word(hex)] = inside.as_slice() {
                    self.entry(hex, out);
                }
            }
            Node::Group("Timers", _, inside) => self.timers(inside, out),
            Node::Group(name, open, inside) => self.group(name, *open, inside, context, out),
        }
    }

    fn group(&self, name: &str, open: u8, inside: &[Node], field: &str, out: &mut Text) {
        out.text.push_str(name);
        out.text.push(char::from(open));
        if open == b'(' && (name.ends_with("Id") || name == "Pid") {
            if let [Node::Word(number)] = inside
                && let Ok(number) = number.parse()
            {
                if is_numbered(name) {
                    out.text.push('?');
                    out.names.push(u128::from(number));
                } else {
                    out.text.push_str(&self.id(name, number));
                }
            }
            out.text.push(')');
            return;
        }
        let context = match (name, open) {
            ("Some" | "Ok", _) => field,
            ("", b'{') if is_numbered(field) => field,
            (_, b'(') => name,
            _ => "",
        };
        if name.is_empty() && (open == b'{' || field == UNORDERED) {
            let text = |node| {
                let mut text = Text::default();
                self.render(node, context, &mut text);
                text
            };
            let mut texts: Vec<_> = inside.iter().map(text).collect();
            texts.sort_unstable();
            for text in texts {
                out.add(&text);
                out.text.push(',');
            }
        } else {
            for node in inside {
                self.render(node, context, out);
                out.text.push(',');
            }
        }
        out.text.push('}');
    }

    /// Timers are in their order; the number that keeps two of one time apart is not looked at.
    fn timers(&self, inside: &[Node], out: &mut Text) {
        out.text.push_str("Timers");
        for field in inside {
            let Node::Pair(name, value) = field else { continue };
            match (name.as_ref(), value.as_ref()) {
                (Node::Word("waiting"), Node::Group(_, _, waiting)) => {
                    for timer in waiting {
                        let Node::Pair(at, timer) = timer else { continue };
                        if let Node::Group(_, _, at) = at.as_ref() {
                            self.render(&at[0], "", out);
                        }
                        self.render(timer, "", out);
                    }
                }
                (Node::Word("armed"), armed) => self.render(armed, "", out),
                _ => {}
            }
        }
    }
}

/// How a state is told from the one in which the two processes of one role have changed places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Straight,
    Swapped,
    /// What the two did does not tell: the text that comes first is taken.
    Either,
}

/// The canonical text of a state.
pub(super) fn canonical(text: &str, now: Now, roles: &Roles, side: Side) -> String {
    let mut parser = Parser { text, at: 0, ranks: BTreeMap::new() };
    let node = parser.value();
    let one = |swapped| {
        let renderer = Renderer { now, ranks: &parser.ranks, roles, swapped };
        let mut text = Text::default();
        renderer.render(&node, "", &mut text);
        let Text { mut text, names } = text;
        let mut known = BTreeMap::new();
        for name in names {
            let next = known.len();
            let number = *known.entry(name).or_insert(next);
            text.push(' ');
            text.push_str(&number.to_string());
        }
        text
    };
    match side {
        Side::Straight => one(false),
        Side::Swapped => one(true),
        Side::Either => one(false).min(one(true)),
    }
}

/// Sixty-four bits of it: among a million states two share them with a chance of one in thirty million.
pub(super) fn fingerprint(text: &str, now: Now, roles: &Roles, side: Side) -> u64 {
    let mut hasher = DefaultHasher::new();
    canonical(text, now, roles, side).hash(&mut hasher);
    hasher.finish()
}
