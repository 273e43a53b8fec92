//! Numbers by chance that can be had again.

use std::hash::{BuildHasher, RandomState};

/// Where they stand. Never zero.
#[derive(Debug, Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// Other ones each time, unless `SUNDOWN_TEST_SEED` says where they begin. A failure shows it.
    pub(crate) fn new() -> Self {
        let said = std::env::var("SUNDOWN_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = said.unwrap_or_else(|| RandomState::new().hash_one(0)) | 1;
        eprintln!("chance begins with SUNDOWN_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
