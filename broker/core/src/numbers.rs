//! Maps by numbers that the broker gives out itself, or the system.
//!
//! Nobody else chooses such a number, so nobody can choose many that collide: a hash that resists that, which costs more than
//! all the rest of a small request, is not needed. Whatever others choose — the key of a submission, a path, what a
//! process says of itself — must not be in one of these.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such a number.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// An odd number with bits everywhere: the golden ratio. Multiplied by it, numbers that follow each other keep apart in the
/// low bits, which say the place in a map, and differ in the high ones, which are compared there.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// What makes a place in a map from a number.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(SPREAD);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map finds a number by its place, the low bits, and by seven high ones.
    #[test]
    fn numbers_that_follow_each_other_do_not_collide() {
        let hash = |number: u64| {
            let mut hasher = NumberHasher::default();
            hasher.write_u64(number);
            hasher.finish()
        };
        let places: std::collections::HashSet<_> = (0..4_096).map(|n| hash(n) % 4_096).collect();
        assert_eq!(places.len(), 4_096);
        let tags: std::collections::HashSet<_> = (0..4_096).map(|n| hash(n) >> 57).collect();
        assert_eq!(tags.len(), 128);
    }
}
