//! Sundown's daemon: the edge where the broker meets sockets, threads, signals and files.

pub mod log;
pub mod paths;
pub mod settings;
