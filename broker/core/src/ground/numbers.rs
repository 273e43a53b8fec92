//! Maps by numbers that the broker or the operating system assigns.
//!
//! No client chooses such a number, so no client can choose many that collide. A hash that resists collisions, which costs more
//! than the rest of a small request, is not needed. Values that a client chooses must not be keys of such a map: the key of a
//! submission, a path, what a process says about itself.

/// A map by such a number.
pub(crate) type NumberMap<K, V> = rustc_hash::FxHashMap<K, V>;
