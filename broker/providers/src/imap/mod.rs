//! The language of IMAP servers: what they send, cut into responses and read.
//!
//! ```text
//!  bytes ─► Inbox (framing.rs) ─► a response ─► Response::read (response.rs, by the words of tokens.rs)
//! ```
//!
//! What a server sends is bounded, whatever it announces, and a response that cannot be read is lost without the connection. Where `imap-codec` can read a response, too, both read the same: the fuzzer compares
//! them.

mod account;
mod changes;
mod conversation;
mod date;
mod facts;
mod framing;
mod logon;
mod mailbox;
mod names;
mod response;
mod set;
mod settings;
#[cfg(test)]
mod tests;
mod tokens;
mod worker;

pub use framing::{Broken, Inbox, MAX_RESPONSE};
pub use mailbox::{Desks, ImapMailbox};
pub use response::{About, Data, End, Esearch, Fetch, List, Note, Response, Said, Section, Status};
pub use set::Set;
pub use tokens::{Garbled, Read};
