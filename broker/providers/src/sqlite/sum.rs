//! Sums over what must not change unseen: `SQLite` notices damage to its own structures, and not to what is in them.
//!
//! A wrong byte in a message or an envelope would otherwise go out as if somebody had written it. Each way to sum notices
//! every change within one word, and of others all but about one in 2⁶⁴; they are no secret and keep nobody from forging
//! anything.

use rusqlite::Error;
use rusqlite::types::Type;

/// How a sum is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Eight bytes at a time, in four rows: the next word of one need not wait until that of another is multiplied.
    Lanes,
    /// Eight bytes at a time, in one row: a quarter of a microsecond for each kilobyte. Rows of schema 4 have it.
    Words,
    /// FNV-1a, a byte at a time: a microsecond for each kilobyte. Rows of schema 3 have it.
    Bytes,
}

/// All of them, the newest first.
const BY: [By; 3] = [By::Lanes, By::Words, By::Bytes];

/// A sum in the making.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    value: u64,
    by: By,
}

impl Sum {
    pub(super) fn new(by: By) -> Self {
        Self { value: 0xCBF2_9CE4_8422_2325, by }
    }

    /// And these bytes. Their number is part of it, so that none can move from one text into the next.
    #[must_use]
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let begun = self.number(bytes.len() as u128);
        if self.by == By::Bytes {
            return bytes.iter().fold(begun, |sum, byte| sum.byte(*byte));
        }
        let (begun, bytes) = match self.by {
            By::Lanes => begun.blocks(bytes),
            By::Words | By::Bytes => (begun, bytes),
        };
        let (words, rest) = bytes.as_chunks();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words.iter().chain([&last]).fold(begun, |sum, word| sum.word(u64::from_le_bytes(*word)))
    }

    /// And the blocks of these bytes; what is behind the last one is left.
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

    /// And this number.
    #[must_use]
    pub(super) fn number(self, number: u128) -> Self {
        match self.by {
            By::Lanes | By::Words => self.word(number as u64).word((number >> 64) as u64),
            By::Bytes => number.to_le_bytes().into_iter().fold(self, Self::byte),
        }
    }

    /// Each step can be undone, whatever the word is: two values that differ once differ from there on. A product carries
    /// upwards only, so the upper half is brought down.
    fn word(self, word: u64) -> Self {
        let product = (self.value ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { value: product ^ (product >> 32), ..self }
    }

    fn byte(self, byte: u8) -> Self {
        Self { value: (self.value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3), ..self }
    }

    /// As it stands in the tables.
    pub(super) fn value(self) -> i64 {
        self.value as i64
    }
}

/// Refuses what is not what was summed. What is older than schema 3 has no sum.
pub(super) fn check(stored: Option<i64>, sum: impl Fn(By) -> i64) -> rusqlite::Result<()> {
    let right = |stored| BY.into_iter().any(|by| sum(by) == stored);
    if stored.is_none_or(right) { Ok(()) } else { Err(damaged()) }
}

/// What is said of a row whose sum is wrong.
pub(super) fn damaged() -> Error {
    Error::FromSqlConversionFailure(0, Type::Integer, "it is not what was written".into())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Two changes of a highest bit would undo each other in a plain product.
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

    /// They stand in the tables of users.
    #[test]
    fn sums_stay_what_they_are() {
        let sum = |by| Sum::new(by).number(7).bytes(b"From: a@b\n").value();
        let told = (-8_626_829_610_391_179_571, 2_290_734_947_868_933_843);
        assert_eq!((sum(By::Words), sum(By::Bytes)), told);
        let text: Vec<u8> = (0..200).collect();
        assert_eq!(Sum::new(By::Lanes).number(7).bytes(&text).value(), -3_489_295_075_008_823_851);
    }

    #[test]
    fn sums_of_each_kind_are_right() {
        let sum = |by| Sum::new(by).bytes(b"hello").value();
        for stored in BY.map(sum).into_iter().map(Some).chain([None]) {
            assert!(check(stored, sum).is_ok(), "{stored:?}");
        }
        assert!(check(Some(1), sum).is_err());
    }
}
