//! Accounts at IMAP servers: a mailbox that mirrors one into the store, and what servers say.
//!
//! ```text
//!  bytes ─► Inbox (framing.rs) ─► a response ─► Response::read (response.rs, by the words of tokens.rs)
//! ```
//!
//! What a server sends is bounded, whatever it announces, and a response that cannot be read is lost without the connection. Where
//! `imap-codec` can read a response, too, both read the same: the fuzzer compares them.
//!
//! | … | file |
//! |---|---|
//! | the provider | `mailbox.rs` |
//! | the thread: connecting, trying again, resting | `worker.rs` |
//! | what a profile says | `settings.rs` |
//! | from a host's name to a server that knows us | `logon.rs` |
//! | commands there, responses back | `conversation.rs` |
//! | an account during one connection | `account.rs` |
//! | which folders there are, and which have changed | `survey.rs` |
//! | what the server tells of folders unasked | `notify.rs` |
//! | what has changed in a folder | `look.rs` |
//! | new and older messages | `take.rs` |
//! | bytes | `bytes.rs` |
//! | bytes that another program has fetched | `copies.rs` |
//! | carrying out what programs have changed | `changes.rs` |
//! | what folders and messages are called in the store | `names.rs` |
//! | an account for the fuzzer | `played.rs` |
//! | what a message's row shows, flags | `facts.rs` |

mod account;
mod bytes;
mod changes;
mod conversation;
mod copies;
mod date;
mod facts;
mod framing;
mod logon;
mod look;
mod mailbox;
mod names;
mod notify;
mod played;
mod response;
mod set;
mod settings;
mod survey;
mod take;
#[cfg(test)]
mod tests;
mod tokens;
mod worker;

pub use framing::{Broken, Inbox, MAX_RESPONSE};
pub use mailbox::{Desks, ImapMailbox};
#[doc(hidden)]
pub use played::play;
pub use response::{
    About, Data, End, Esearch, Fetch, List, Namespace, Note, Response, Said, Section, Status,
};
pub use set::Set;
pub use tokens::{Garbled, Read};
