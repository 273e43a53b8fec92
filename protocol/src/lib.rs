//! The messages on Sundown's socket.
//!
//! A connection carries *frames*: a length and one encoded payload ([`frame`], [`codec`]). The first payload of each side is frozen
//! forever ([`hello`]); it settles the [`version`] of everything that follows. After it the client sends [`request::Request`]s,
//! each with an id. The broker sends [`reply::Reply`]s that echo the id, and [`notification::Notification`]s.
//!
//! This crate knows `Read` and `Write`, but no socket, thread, clock, file or environment. No type from outside it is ever put on
//! the wire. `PROTOCOL.md` describes the same without Rust.

pub mod code;
pub mod codec;
pub mod folder;
pub mod frame;
pub mod hello;
pub mod id;
pub mod notification;
pub mod reply;
pub mod request;
pub mod seen;
pub mod version;

#[cfg(test)]
mod words;

pub use code::{Code, Fault, FaultDetail};
pub use folder::{Flags, Folder};
pub use id::{
    AdviseId, Correlation, EntryId, MemberId, ObjectId, RequestId, SessionId, SessionTag,
    SubmitKey, Token, UploadId,
};
pub use notification::{Event, Events, Notification};
pub use reply::Reply;
pub use request::Request;
pub use version::Version;
