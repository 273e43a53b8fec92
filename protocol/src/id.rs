//! Ids. Each has a type of its own and a letter in its text: `s2`, `m14`, `o3.1`.

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
    /// A request of a connection. The client chooses the id, and the reply echoes it.
    RequestId(u64), "r"
);
id!(
    /// A session of this broker.
    SessionId(u64), "s"
);
id!(
    /// A successful logon (`IMAPISession`), unique in the life of the broker.
    MemberId(u64), "m"
);
id!(
    /// A registration of a member; never zero (NOTIF-4). It is the *connection number* of `Advise`.
    AdviseId(u32), "a"
);
id!(
    /// A body that a member streams in pieces. The client chooses the id.
    UploadId(u32), "u"
);

/// A handle on an open object of a member. It contains a generation: the handle of a released object is never taken for an object
/// that uses the same place later.
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

/// A key that the client makes for a submit or a save. A repeat with the same key returns the first entry and makes no second
/// entry.
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

/// A random name of a shared session, 128 bits, which later brokers know too. By this name a client returns to a session that it
/// was in, in case it was ended meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionTag(pub u128);

/// A one-time token for an object of a session, made by the granting client. It is a secret: `Debug` never shows it, and the broker
/// keeps only a hash of it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub u128);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Display for Token {
    /// Shows the secret, only for the program that passes it on.
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

/// An entry identifier (`ENTRYID`): a store, and a record in it. It outlives sessions and brokers.
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
    /// The store's number (`MAPIUID`), chosen at random when the store was made.
    pub store: u32,
    /// The record in the store. For a submitted or saved message it is the key of that request.
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

/// The identifier of a request of a copy of the client library, as in error messages and the broker's log. It is not sent: both
/// sides know its parts.
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
    /// The identifier of a request, made from its id and from the random bytes in the hello of its library.
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

/// The error of a text that is not an id; its own text says what an id looks like.
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

    /// A sign is not a digit, although Rust's parser accepts one.
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
