//! Sums over contents that must not change unnoticed: `SQLite` notices damage to its own structures, but not to their contents.
//!
//! Otherwise a message or an envelope with a wrong byte would be sent as it is. Each kind of sum misses about one change in 2⁶⁴.
//! The sums are not secret, and do not prevent forgery.
//!
//! A stored sum begins with a byte that names its format. Schemas 3 to 5 stored plain numbers, made in three other ways. These are
//! still read, and are replaced by a present sum when their row is written again.

use rusqlite::Error;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use twox_hash::XxHash3_64;

/// How a sum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// XXH3 with 64 bits. The sum so far is the seed for what comes next.
    Xxh3,
    /// Eight bytes at a time, in four rows: the next word of a row need not wait for the multiplication in another. Rows of schema
    /// 5 have it.
    Lanes,
    /// Eight bytes at a time, in one row: a quarter of a microsecond for each kilobyte. Rows of schema 4 have it.
    Words,
    /// FNV-1a, a byte at a time: a microsecond for each kilobyte. Rows of schema 3 have it.
    Bytes,
}

/// The kinds of the schemas whose sums do not name their format, the newest first.
const UNNAMED: [By; 3] = [By::Lanes, By::Words, By::Bytes];

/// The format byte of [`By::Xxh3`].
const XXH3: u8 = 1;

/// A sum as the tables have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// Its format, and its number in little-endian order.
    Named([u8; 9]),
    /// A sum of schemas 3 to 5.
    Number(i64),
}

impl ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Named(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Self::Number(number) => ToSqlOutput::from(*number),
        })
    }
}

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(number) => Ok(Self::Number(number)),
            ValueRef::Blob(bytes) => {
                Ok(Self::Named(bytes.try_into().map_err(|_| FromSqlError::InvalidType)?))
            }
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// A sum that is being computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    value: u64,
    by: By,
}

impl Sum {
    pub(super) fn new(by: By) -> Self {
        Self { value: 0xCBF2_9CE4_8422_2325, by }
    }

    /// Adds these bytes. Their number is added too, so that no byte can move from one text into the next.
    #[must_use]
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let begun = self.number(bytes.len() as u128);
        let (begun, bytes) = match self.by {
            By::Xxh3 => return begun.hash(bytes),
            By::Bytes => return bytes.iter().fold(begun, |sum, byte| sum.byte(*byte)),
            By::Lanes => begun.blocks(bytes),
            By::Words => (begun, bytes),
        };
        let (words, rest) = bytes.as_chunks();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words.iter().chain([&last]).fold(begun, |sum, word| sum.word(u64::from_le_bytes(*word)))
    }

    /// Adds the whole blocks of these bytes. Returns the rest behind the last block.
    fn blocks(self, bytes: &[u8]) -> (Self, &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [self; 4];
        for block in blocks {
            let (words, _) = block.as_chunks();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = lane.word(u64::from_le_bytes(*word));
            }
        }
        (lanes.iter().fold(self, |sum, lane| sum.word(lane.value)), rest)
    }

    /// Adds this number.
    #[must_use]
    pub(super) fn number(self, number: u128) -> Self {
        match self.by {
            By::Xxh3 => self.hash(&number.to_le_bytes()),
            By::Lanes | By::Words => self.word(number as u64).word((number >> 64) as u64),
            By::Bytes => number.to_le_bytes().into_iter().fold(self, Self::byte),
        }
    }

    /// Each step can be reversed, whatever the word is: two values that differ once differ from then on. A product carries only
    /// upwards, so its upper half is mixed into the lower one.
    fn word(self, word: u64) -> Self {
        let product = (self.value ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { value: product ^ (product >> 32), ..self }
    }

    fn byte(self, byte: u8) -> Self {
        Self { value: (self.value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3), ..self }
    }

    fn hash(self, bytes: &[u8]) -> Self {
        Self { value: XxHash3_64::oneshot_with_seed(self.value, bytes), ..self }
    }

    /// The sum as a part of another sum.
    pub(super) fn number64(self) -> u64 {
        self.value
    }

    /// The sum as the tables have it.
    pub(super) fn value(self) -> Stored {
        match self.by {
            By::Xxh3 => {
                let mut bytes = [XXH3; 9];
                bytes[1..].copy_from_slice(&self.value.to_le_bytes());
                Stored::Named(bytes)
            }
            By::Lanes | By::Words | By::Bytes => Stored::Number(self.value as i64),
        }
    }
}

/// Fails if the sum is not that of the contents. Rows older than schema 3 have no sum.
pub(super) fn check(stored: Option<Stored>, sum: impl Fn(By) -> Stored) -> rusqlite::Result<()> {
    let right = match stored {
        None => true,
        Some(Stored::Named([XXH3, ..])) => stored == Some(sum(By::Xxh3)),
        Some(Stored::Named(_)) => false,
        Some(Stored::Number(_)) => UNNAMED.into_iter().any(|by| Some(sum(by)) == stored),
    };
    if right { Ok(()) } else { Err(damaged()) }
}

/// The error of a row whose sum is wrong.
pub(super) fn damaged() -> Error {
    Error::FromSqlConversionFailure(0, Type::Integer, "it is not what was written".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: [By; 4] = [By::Xxh3, By::Lanes, By::Words, By::Bytes];

    #[test]
    fn every_changed_byte_is_noticed() {
        let text = "From: a@b\n\nhello\n".repeat(6).into_bytes();
        for by in BY {
            let sum = |bytes: &[u8]| Sum::new(by).number(7).bytes(bytes).value();
            for place in 0..text.len() {
                for bit in 0..8 {
                    let mut changed = text.clone();
                    changed[place] ^= 1 << bit;
                    assert_ne!(sum(&changed), sum(&text), "bit {bit} of byte {place}, {by:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_do_not_move_unseen() {
        for by in BY {
            let pair = |a: &[u8], b: &[u8]| Sum::new(by).bytes(a).bytes(b).value();
            assert_ne!(pair(b"ab", b"c"), pair(b"a", b"bc"), "{by:?}");
            assert_ne!(pair(b"12345678", b""), pair(b"", b"12345678"), "{by:?}");
            assert_ne!(pair(b"a\0", b""), pair(b"a", b""), "{by:?}");
        }
    }

    /// Changes of two highest bits would cancel each other in a plain product.
    #[test]
    fn two_highest_bits_do_not_undo_each_other() {
        for by in BY {
            let sum = |bytes: [u8; 96]| Sum::new(by).bytes(&bytes).value();
            for second in (15..96).step_by(8) {
                let mut changed = [0; 96];
                (changed[7], changed[second]) = (0x80, 0x80);
                assert_ne!(sum(changed), sum([0; 96]), "in bytes 7 and {second}, {by:?}");
            }
        }
    }

    #[test]
    fn words_do_not_change_places_unseen() {
        let text: Vec<u8> = (0..128).collect();
        for by in BY {
            let sum = |bytes: &[u8]| Sum::new(by).bytes(bytes).value();
            for first in (0..128).step_by(8) {
                for second in (first + 8..128).step_by(8) {
                    let mut changed = text.clone();
                    (0..8).for_each(|byte| changed.swap(first + byte, second + byte));
                    assert_ne!(sum(&changed), sum(&text), "{first} and {second}, {by:?}");
                }
            }
        }
    }

    /// These sums are stored in the tables of users.
    #[test]
    fn sums_stay_what_they_are() {
        let sum = |by| Sum::new(by).number(7).bytes(b"From: a@b\n").value();
        let told = [-8_626_829_610_391_179_571, 2_290_734_947_868_933_843].map(Stored::Number);
        assert_eq!([sum(By::Words), sum(By::Bytes)], told);
        let text: Vec<u8> = (0..200).collect();
        let told = Stored::Number(-3_489_295_075_008_823_851);
        assert_eq!(Sum::new(By::Lanes).number(7).bytes(&text).value(), told);
        let told = Stored::Named([1, 121, 193, 69, 33, 160, 101, 253, 224]);
        assert_eq!(sum(By::Xxh3), told);
        let text = [b'x'; 300];
        let told = Stored::Named([1, 131, 24, 111, 70, 186, 254, 69, 73]);
        assert_eq!(Sum::new(By::Xxh3).number(7).bytes(&text).value(), told);
    }

    #[test]
    fn sums_of_each_kind_are_right() {
        let sum = |by| Sum::new(by).bytes(b"hello").value();
        for stored in BY.map(sum).into_iter().map(Some).chain([None]) {
            assert!(check(stored, sum).is_ok(), "{stored:?}");
        }
        let Stored::Named(right) = sum(By::Xxh3) else { panic!("it names its format") };
        let mut other_format = right;
        other_format[0] = 2;
        for wrong in [Stored::Number(1), Stored::Named([0; 9]), Stored::Named(other_format)] {
            assert!(check(Some(wrong), sum).is_err(), "{wrong:?}");
        }
    }
}
