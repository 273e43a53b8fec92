//! The kit finds nothing in what ships, and each kind of mistake in providers that make it.

mod bad;
mod shipped;
