//! Sums over what must not change unseen: `SQLite` notices damage to its own structures, and not to what is in them.
//!
//! A wrong byte in a message or an envelope would otherwise go out as if somebody had written it. FNV-1a notices every
//! change of one byte, and of others all but one in 2⁶⁴; it is no secret and keeps nobody from forging anything.

use rusqlite::Error;
use rusqlite::types::Type;

/// A sum in the making.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum(u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Sum {
    /// And these bytes. Their number is part of it, so that none can move from one text into the next.
    #[must_use]
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self.number(bytes.len() as u128), |sum, byte| sum.byte(*byte))
    }

    /// And this number.
    #[must_use]
    pub(super) fn number(self, number: u128) -> Self {
        number.to_le_bytes().into_iter().fold(self, Self::byte)
    }

    fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
    }

    /// As it stands in the tables.
    pub(super) fn value(self) -> i64 {
        self.0 as i64
    }
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
        let text = b"From: a@b\n\nhello\n";
        let sum = |bytes: &[u8]| Sum::default().number(7).bytes(bytes).value();
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut changed = *text;
                changed[place] ^= 1 << bit;
                assert_ne!(sum(&changed), sum(text), "bit {bit} of byte {place}");
            }
        }
        let pair = |a: &[u8], b: &[u8]| Sum::default().bytes(a).bytes(b).value();
        assert_ne!(pair(b"ab", b"c"), pair(b"a", b"bc"));
    }
}
