//! Maps by numbers that the broker gives out itself, or the system.
//!
//! Nobody else chooses such a number, so nobody can choose many that collide: a hash that resists that, which costs more than
//! all the rest of a small request, is not needed. Whatever others choose — the key of a submission, a path, what a
//! process says of itself — must not be in one of these.

/// A map by such a number.
pub(crate) type NumberMap<K, V> = rustc_hash::FxHashMap<K, V>;
