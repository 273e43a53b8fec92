//! The way to a server that others run, and the logon there, by whatever protocol.
//!
//! | module | what it owns |
//! |---|---|
//! | `keys` | what a profile says about a server |
//! | `connect` | from a host's name to a TCP connection, by a proxy or not |
//! | `wire` | a socket on which nothing lasts for ever, protected or not |
//! | `deflate` | compression of what goes there and comes back |
//! | `tls`, `trust`, `distrust` | which certificates are trusted, and in words why one is not |
//! | `secret`, `command`, `trace` | the password: where it comes from, how long it is kept, whether it is another one now |
//! | `mechanism`, `sasl`, `scram` | ways to log on, and what is said for that |
//! | `trouble` | a conversation that broke off |

mod command;
pub(crate) mod connect;
pub(crate) mod deflate;
mod distrust;
pub(crate) mod keys;
pub(crate) mod mechanism;
pub(crate) mod sasl;
pub(crate) mod scram;
pub(crate) mod secret;
pub(crate) mod tls;
pub(crate) mod trace;
pub(crate) mod trouble;
pub(crate) mod trust;
pub(crate) mod wire;
