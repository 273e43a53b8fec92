//! Names of files in a Maildir: the base name, which a message keeps as long as it lives, and the flags behind it.
//!
//! A name is `BASE`, `BASE:2,FLAGS` or `BASE:INFO`. Flags that Sundown does not know, the lower-case letters of Dovecot's keywords among
//! them, stay in a name whatever else changes in it. Names are bytes: one that is not UTF-8 is escaped where text is needed, and
//! comes back the same.

use std::fmt;
use std::io;

use super::{OURS, since_1970};

/// Separates the base name from the rest.
const INFO: u8 = b':';

/// Begins an info that consists of flags.
const FLAGS: &[u8] = b"2,";

/// A base name.
pub(super) type Base = Vec<u8>;

/// The flags of a message that a Maildir knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    pub(super) const DRAFT: Self = Self(1);
    pub(super) const FLAGGED: Self = Self(1 << 1);
    pub(super) const FORWARDED: Self = Self(1 << 2);
    pub(super) const ANSWERED: Self = Self(1 << 3);
    pub(super) const READ: Self = Self(1 << 4);
    pub(super) const TRASHED: Self = Self(1 << 5);

    /// Each flag with its letter, in the order of the letters.
    const LETTERS: [(u8, Self); 6] = [
        (b'D', Self::DRAFT),
        (b'F', Self::FLAGGED),
        (b'P', Self::FORWARDED),
        (b'R', Self::ANSWERED),
        (b'S', Self::READ),
        (b'T', Self::TRASHED),
    ];

    /// The number that [`from_bits`](Self::from_bits) takes, less than 64.
    #[cfg(test)]
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// Bits that are no flag are dropped.
    #[cfg(test)]
    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits & 0x3f)
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that are set in one of the two and not in the other.
    pub(super) fn differing(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// These flags with some of them as they are in another set.
    pub(super) fn taking(self, other: Self, which: Self) -> Self {
        Self((self.0 & !which.0) | (other.0 & which.0))
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn of(letter: u8) -> Option<Self> {
        Self::LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, flag)| *flag)
    }

    fn letters(self) -> impl Iterator<Item = u8> {
        let set = Self::LETTERS.into_iter().filter(move |(_, flag)| self.contains(*flag));
        set.map(|(letter, _)| letter)
    }
}

/// The name of a file, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a> {
    file: &'a [u8],
    base: &'a [u8],
    info: Option<&'a [u8]>,
}

impl<'a> Name<'a> {
    /// A message's name, or nothing for a name that no message has: readers of a Maildir pass over names that begin with a dot.
    pub(super) fn parse(name: &'a [u8]) -> Option<Self> {
        let end = name.iter().position(|byte| *byte == INFO);
        let (base, info) = match end {
            Some(end) => (&name[..end], Some(&name[end + 1..])),
            None => (name, None),
        };
        is_base(base).then_some(Self { file: name, base, info })
    }

    /// The whole name.
    pub(super) fn file(&self) -> &'a [u8] {
        self.file
    }

    pub(super) fn base(&self) -> &'a [u8] {
        self.base
    }

    /// The flags it has; none if its info is missing or of another kind.
    pub(super) fn flags(&self) -> Flags {
        self.letters().iter().filter_map(|letter| Flags::of(*letter)).fold(Flags::NONE, Flags::with)
    }

    /// The name with other flags. Everything that is not a known flag stays, except an info that has no flags: that one makes room for
    /// them.
    pub(super) fn with_flags(&self, flags: Flags) -> Vec<u8> {
        let unknown = self.letters().iter().copied().filter(|letter| Flags::of(*letter).is_none());
        let mut letters: Vec<u8> = flags.letters().chain(unknown).collect();
        letters.sort_unstable();
        letters.dedup();
        [self.base, &[INFO], FLAGS, &letters, self.behind_letters()].concat()
    }

    /// The same info behind another base name.
    pub(super) fn with_base(&self, base: &[u8]) -> Vec<u8> {
        [base, &self.file[self.base.len()..]].concat()
    }

    fn letters(&self) -> &'a [u8] {
        let (letters, _) = self.info_parts();
        letters
    }

    /// Further sets of flags: another comma and what follows.
    fn behind_letters(&self) -> &'a [u8] {
        let (_, behind) = self.info_parts();
        behind
    }

    fn info_parts(&self) -> (&'a [u8], &'a [u8]) {
        let flags = self.info.and_then(|info| info.strip_prefix(FLAGS)).unwrap_or_default();
        flags.split_at(flags.iter().position(|byte| *byte == b',').unwrap_or(flags.len()))
    }
}

/// Whether these bytes can be a message's base name, and nothing but one.
pub(super) fn is_base(base: &[u8]) -> bool {
    !base.is_empty()
        && base.len() <= 255
        && base[0] != b'.'
        && !base.iter().any(|byte| matches!(*byte, b'/' | INFO | 0))
}

/// The name of a file with this base name and these flags, in `cur`.
pub(super) fn in_cur(base: &[u8], flags: Flags) -> Vec<u8> {
    Name { file: base, base, info: None }.with_flags(flags)
}

/// The base name that Sundown gives to a message: always the same for one record, so that a step that is repeated finds what it made.
pub(super) fn of_record(record: u128, seconds: u64) -> Vec<u8> {
    format!("{seconds}.R{record:032x}{OURS}").into_bytes()
}

/// The record of a message that Sundown has given its base name.
pub(super) fn record_of(base: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(base).ok()?.strip_suffix(OURS)?;
    let (_, digits) = text.split_once(".R")?;
    u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32)
}

/// A base name that no other message has.
pub(super) fn fresh() -> io::Result<Vec<u8>> {
    let random = (getrandom::u64()?, getrandom::u64()?);
    Ok(format!("{}.U{:016x}{:016x}{OURS}", since_1970().as_secs(), random.0, random.1).into_bytes())
}

/// The time in front of a base name, in seconds since 1970, by which programs name their messages; 0 if there is none. It is a hint.
pub(super) fn seconds(base: &[u8]) -> u64 {
    let digits = base.iter().take_while(|byte| byte.is_ascii_digit()).take(12);
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// A name as text, from which [`unescape`] makes the same name: `%` and two digits for each byte that is not UTF-8, for control
/// characters and for `%`.
pub(super) fn escape(name: &[u8]) -> String {
    escape_also(name, "%")
}

/// The same with `%` as it is. The name cannot be made of it.
pub(super) fn escape_invalid(name: &[u8]) -> String {
    escape_also(name, "")
}

fn escape_also(name: &[u8], also: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            text.push_str(&format!("%{byte:02X}"));
        }
    };
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || also.contains(c) {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// The name that [`escape`] wrote, or nothing if it wrote no such text.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    name.extend(parts.next()?.bytes());
    for part in parts {
        let digits = part.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        name.push(u8::from_str_radix(digits, 16).ok()?);
        name.extend(part[2..].bytes());
    }
    (escape(&name) == text).then_some(name)
}

/// A name for people: control characters and bytes that are not UTF-8 are escaped.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_invalid(self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(name: &str) -> Name<'_> {
        Name::parse(name.as_bytes()).expect("a message's name")
    }

    fn text(name: Vec<u8>) -> String {
        String::from_utf8(name).expect("text")
    }

    #[test]
    fn a_name_has_a_base_and_flags() {
        let (read, answered) = (Flags::READ, Flags::ANSWERED);
        for (name, base, flags) in [
            ("1.a.host", "1.a.host", Flags::NONE),
            ("1.a.host,S=12,W=13:2,", "1.a.host,S=12,W=13", Flags::NONE),
            ("1.a:2,S", "1.a", read),
            ("1.a:2,SR", "1.a", read.with(answered)),
            ("1.a:2,RSab", "1.a", read.with(answered)),
            ("1.a:2,S,T", "1.a", read),
            ("1.a:1,S", "1.a", Flags::NONE),
            ("1.a:", "1.a", Flags::NONE),
            ("1.a:2", "1.a", Flags::NONE),
            ("1.a:2,S:2,T", "1.a", read),
        ] {
            assert_eq!(parsed(name).base(), base.as_bytes(), "{name}");
            assert_eq!(parsed(name).flags(), flags, "{name}");
        }
        for name in ["", ":2,S", ".hidden", ".", "..", "a/b", "a\0b"] {
            assert_eq!(Name::parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn other_flags_leave_the_rest_of_a_name() {
        let both = Flags::READ.with(Flags::DRAFT);
        for (name, with_both) in [
            ("1.a", "1.a:2,DS"),
            ("1.a:2,", "1.a:2,DS"),
            ("1.a:2,F", "1.a:2,DS"),
            ("1.a:2,FSxa", "1.a:2,DSax"),
            ("1.a:2,aa", "1.a:2,DSa"),
            ("1.a:2,QF", "1.a:2,DQS"),
            ("1.a:2,F,x=1", "1.a:2,DS,x=1"),
            ("1.a:1,keep", "1.a:2,DS"),
        ] {
            assert_eq!(text(parsed(name).with_flags(both)), with_both, "{name}");
        }
        assert_eq!(text(parsed("1.a:2,FSa").with_flags(Flags::NONE)), "1.a:2,a");
        assert_eq!(text(in_cur(b"1.a", Flags::READ)), "1.a:2,S");
    }

    #[test]
    fn flags_can_be_numbers() {
        let all = Flags::LETTERS.into_iter().fold(Flags::NONE, |all, (_, flag)| all.with(flag));
        assert_eq!(all.bits(), 0x3f);
        for bits in 0..=u8::MAX {
            assert_eq!(Flags::from_bits(bits).bits(), bits & 0x3f);
        }
        assert_eq!(all.without(Flags::READ).letters().collect::<Vec<_>>(), b"DFPRT");
        assert!(all.contains(Flags::READ) && !all.without(Flags::READ).contains(Flags::READ));
    }

    #[test]
    fn a_base_name_may_begin_with_a_time() {
        assert_eq!(seconds(b"1700000000.M1P2.host"), 1_700_000_000);
        assert_eq!(seconds(b"a.1"), 0);
        assert_eq!(seconds(b"99999999999999999999999999.x"), 999_999_999_999);
    }

    /// The transport removes old files of `tmp` that are named as it names its own, or as strangers do.
    #[test]
    fn made_names_are_the_transports_neither() {
        let made = [of_record(0xAB, 1_700_000_000), fresh().expect("random numbers")];
        for base in made {
            let name = String::from_utf8(base).expect("text");
            assert!(is_base(name.as_bytes()) && name.ends_with(OURS), "{name}");
            assert_eq!(super::super::super::record_of(&name), None, "{name}");
        }
        assert_eq!(of_record(1, 2), of_record(1, 2));
        assert_ne!(fresh().expect("random numbers"), fresh().expect("random numbers"));
    }

    #[test]
    fn names_that_are_no_text_are_escaped() {
        assert_eq!(escape(b"1.a,S=1"), "1.a,S=1");
        assert_eq!(escape("Müll".as_bytes()), "Müll");
        assert_eq!(escape(b"M\xfcll 100%\n"), "M%FCll 100%25%0A");
        for wrong in ["%", "%2", "%zz", "%FC%", "100%", "%41", "%fc", "%C3%BC", "%+1"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
        assert_eq!(Shown(b"a\x1b[m").to_string(), "a%1B[m");
    }

    proptest! {
        #[test]
        fn every_name_can_be_escaped(name in prop::collection::vec(any::<u8>(), 0..60)) {
            let text = escape(&name);
            prop_assert!(!text.contains(char::is_control));
            prop_assert_eq!(unescape(&text), Some(name));
        }

        #[test]
        fn what_can_be_unescaped_is_what_was_escaped(text in "([a-z]|%[0-9A-F]{2}|ü){0,10}") {
            if let Some(name) = unescape(&text) {
                prop_assert_eq!(escape(&name), text);
            }
        }

        /// Other flags are found again, and change neither the base name nor the letters of others.
        #[test]
        fn flags_are_set_and_found(base in "[0-9a-z.,=]{1,20}", info in "(:(2,)?[A-Za-z,]{0,8})?", bits in 0..64u8) {
            prop_assume!(!base.starts_with('.'));
            let name = format!("{base}{info}");
            let name = parsed(&name);
            let flags = Flags::from_bits(bits);
            let set = name.with_flags(flags);
            let again = Name::parse(&set).expect("a message's name");
            prop_assert_eq!(again.base(), name.base());
            prop_assert_eq!(again.flags(), flags);
            prop_assert_eq!(&again.with_flags(flags), &set);
            let kept = again.with_flags(Flags::NONE);
            prop_assert_eq!(kept, name.with_flags(Flags::NONE));
        }
    }
}
