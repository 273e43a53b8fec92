//! Ids. Each is a type of its own and prints itself: `s2`, `m14`, `o3.1`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $letter:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

id!(
    /// One request of one connection; the reply echoes it. The client chooses it.
    RequestId(u64), "r"
);
id!(
    /// One session of this broker.
    SessionId(u64), "s"
);
id!(
    /// One successful logon (`IMAPISession`), unique in the broker's life.
    MemberId(u64), "m"
);
id!(
    /// One registration of a member; never zero (NOTIF-4). The *connection number* of `Advise`.
    AdviseId(u32), "a"
);
id!(
    /// One body that a member streams in pieces. The client chooses it.
    UploadId(u32), "u"
);

/// A generation-checked handle on an open object of one member. A handle of a released object is never taken for
/// another object that got its place later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId {
    /// The place in the member's table.
    pub place: u32,
    /// How often the place was used before.
    pub generation: u32,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "o{}.{}", self.place, self.generation)
    }
}

/// A client-made key of a submit or a save. A repeat with the same key returns the first entry and makes no second one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubmitKey(pub u128);

impl fmt::Debug for SubmitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubmitKey({:032x})", self.0)
    }
}

impl FromStr for SubmitKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let hex =
            !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let key = u128::from_str_radix(text, 16).ok().filter(|_| hex);
        key.map(Self).ok_or(InvalidId("a submit key is 1 to 32 hexadecimal digits"))
    }
}

/// A shared session's name for brokers to come: 128 bits by chance. A client that was in the session returns to it by this name,
/// should it have been ended meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionTag(pub u128);

/// A one-time token for one object of a session, made by the one who grants it. It is a secret: it is never shown by
/// `Debug`, and the broker keeps only a hash of it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub u128);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Display for Token {
    /// For the program that hands it on, and nobody else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Token {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let token = u128::from_str_radix(text, 16).ok().filter(|_| hex);
        token.map(Self).ok_or(InvalidId("a token is 32 hexadecimal digits"))
    }
}

/// An entry identifier (`ENTRYID`): which store, and which record in it. It outlives sessions and brokers.
///
/// ```
/// use sundown_protocol::EntryId;
///
/// let entry = EntryId { store: 0xA1, record: 0x0F };
/// let text = entry.to_string();
/// assert_eq!(text, "000000a10000000000000000000000000000000f");
/// assert_eq!(text.parse(), Ok(entry));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryId {
    /// The store's own number (`MAPIUID`), made by chance when the store was.
    pub store: u32,
    /// The record in the store. For a submitted or saved message it is the key it was handed over with.
    pub record: u128,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:032x}", self.store, self.record)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({self})")
    }
}

impl FromStr for EntryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = InvalidId("an entry identifier is 40 hexadecimal digits");
        if text.len() != 40 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        let store = u32::from_str_radix(&text[..8], 16).map_err(|_| wrong)?;
        let record = u128::from_str_radix(&text[8..], 16).map_err(|_| wrong)?;
        Ok(Self { store, record })
    }
}

/// One request of one copy of the client library, as error messages and the broker's log call it. It is not on the
/// wire: both sides know its parts.
///
/// ```
/// use sundown_protocol::{Correlation, RequestId};
///
/// let library = [0x3F, 0x2A, 0x91, 0xBC, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// assert_eq!(Correlation::new(&library, RequestId(12)).to_string(), "3f2a91bc-12");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Correlation {
    library: [u8; 4],
    request: RequestId,
}

impl Correlation {
    /// That of a request, and of the bytes by chance with which its library said hello.
    pub fn new(library: &[u8; 16], request: RequestId) -> Self {
        let [a, b, c, d, ..] = *library;
        Self { library: [a, b, c, d], request }
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", u32::from_be_bytes(self.library), self.request.0)
    }
}

/// A text is not an id; the content says what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId(&'static str);

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidId {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sign is no digit, though Rust's parser of numbers takes one.
    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is_read() {
        let digits = "0123456789abcdef0123456789abcdef";
        let number = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(digits.parse(), Ok(Token(number)));
        assert_eq!(Token(number).to_string(), digits);
        assert_eq!(digits.parse(), Ok(SubmitKey(number)));
        assert_eq!("f".parse(), Ok(SubmitKey(15)));
        let entry = EntryId { store: 0xA1, record: number };
        assert_eq!(entry.to_string().parse(), Ok(entry));
        assert_eq!(ObjectId { place: 3, generation: 1 }.to_string(), "o3.1");

        for wrong in [
            "",
            "+",
            "g",
            "+1",
            &digits[..31],
            &format!("{digits}0"),
            &format!("+{}", &digits[1..]),
        ] {
            assert!(wrong.parse::<Token>().is_err(), "token {wrong}");
            let short = wrong == &digits[..31];
            assert_eq!(wrong.parse::<SubmitKey>().is_ok(), short, "key {wrong}");
        }
        for wrong in [
            "",
            "+",
            &format!("+00000a1{digits}"),
            &format!("000000a1+{}", &digits[1..]),
            &entry.to_string()[1..],
        ] {
            assert!(wrong.parse::<EntryId>().is_err(), "entry {wrong}");
        }
        let unicode = format!("{}ä{}", "0".repeat(7), "0".repeat(31));
        assert!(unicode.parse::<EntryId>().is_err(), "the cut is within a letter");
    }

    #[test]
    fn a_text_that_is_no_id_is_refused_with_the_form_of_one() {
        let said = |refused: InvalidId| refused.to_string();
        assert_eq!(said("x".parse::<Token>().expect_err("no")), "a token is 32 hexadecimal digits");
        let key = said("x".parse::<SubmitKey>().expect_err("no"));
        assert_eq!(key, "a submit key is 1 to 32 hexadecimal digits");
        let entry = said("x".parse::<EntryId>().expect_err("no"));
        assert_eq!(entry, "an entry identifier is 40 hexadecimal digits");
    }
}
