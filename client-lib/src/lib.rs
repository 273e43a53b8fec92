//! The client library of Sundown, a session broker for mail.
//!
//! A program initializes the library, logs on to a session that other programs may share, submits messages, and leaves in one of
//! several ways:
//!
//! ```no_run
//! use std::time::Duration;
//! use sundown_client::{Events, Logoff, Logon, Mapi, Message, Options};
//!
//! # fn main() -> Result<(), sundown_client::Error> {
//! let mapi = Mapi::initialize(Options::new("nightly-report"))?; // starts a broker if none runs
//! let session = mapi.logon(Logon::shared())?;
//! let sink = session.advise(Events::CRITICAL_ERROR | Events::NEW_MAIL, |notice| {
//!     eprintln!("{:?}", notice.news);
//! })?;
//!
//! let message = Message::parse(b"To: anna@localhost\nSubject: Report\n\nAll is well.\n".to_vec());
//! let submitted = session.default_store()?.outbox()?.submit(&message)?; // durable when it returns
//! println!("{}", submitted.entry);
//!
//! sink.unadvise()?;
//! session.logoff(Logoff::after_outbound(Duration::from_secs(30)))?;
//! mapi.uninitialize()?;
//! Ok(())
//! # }
//! ```
//!
//! Calls block. They may be made from several threads, and many may be under way at once. When the broker is restarted the library
//! reconnects by itself: it logs on and registers again, and repeats with the same keys what was not yet durable
//! ([`News::Reconnected`]). An error has a method for each question ([`Error::is_end_of_session`]) and carries the MAPI code and
//! its number. A thread can give its calls a deadline ([`within`]), and let other threads interrupt them ([`Interrupt`]). Dropping
//! a guard ends its object in an orderly way, and does not take long. In a forked child every call fails, and dropping does
//! nothing.
//!
//! A folder is named by a [`FolderKind`]: those of every store are [`FolderKind::INBOX`], [`OUTBOX`](FolderKind::OUTBOX),
//! [`SENT`](FolderKind::SENT), [`DRAFTS`](FolderKind::DRAFTS) and [`DELETED`](FolderKind::DELETED), and the others are made by
//! programs ([`Store::make_folder`]) and listed by [`Store::folders`]. [`Folder::contents`] reads a folder of any size by pages. New
//! mail comes as [`Event::Arrived`] to each program that registered for [`Events::NEW_MAIL`].
//!
//! | MAPI | here |
//! |---|---|
//! | `MAPIInitialize`, `MAPIUninitialize` | [`Mapi::initialize`], [`Mapi::uninitialize`] or dropping it |
//! | `ScInitMapiUtil`, `DeinitMapiUtil` | [`Utilities`] |
//! | `OleInitialize`, `OleUninitialize` | [`Mapi::companion`] |
//! | `MAPILogonEx` | [`Mapi::logon`] |
//! | `IMAPISession::Logoff` | [`Session::logoff`]; with `MAPI_LOGOFF_UI` [`Session::logoff_asking`] |
//! | `Advise`, `Unadvise` | [`Session::advise`], [`Folder::advise`], [`Sink::unadvise`] |
//! | `IMAPIFolder::GetHierarchyTable`, `CreateFolder`, `DeleteFolder` | [`Store::folders`], [`Store::make_folder`], [`Store::remove_folder`] |
//! | `IMAPIFolder::GetContentsTable` | [`Folder::contents`] |
//! | `IMAPIFolder::CopyMessages`; with `MESSAGE_MOVE` | [`Session::copy_to`]; [`Session::move_to`] |
//! | `IMessage::SetReadFlag`, `IMAPIFolder::SetMessageStatus` | [`Session::set_flags`] |
//! | `IMAPIFolder::SetSearchCriteria` | [`Store::search`] |
//! | `IUnknown::Release` | dropping an object |
//! | `IMAPIClientShutdown` | [`Session::client_shutdown`], [`Mapi::shut_down`] |
//! | an external reference | [`Folder::grant`], [`OpenMessage::grant`], [`Mapi::redeem`] |

pub mod files;
pub mod paths;
pub mod socket;

mod autostart;
mod connection;
mod contents;
mod deferred;
#[cfg(test)]
mod document;
mod error;
mod library;
mod limits;
mod link;
mod logoff;
mod mapi;
mod message;
mod notices;
mod notify;
mod object;
mod process;
mod reference;
mod session;
mod shutdown;

pub use contents::{Contents, Search};
pub use error::Error;
pub use limits::{Interrupt, within};
pub use logoff::{LoggedOff, Logoff, LogoffAnswer, LogoffQuestion, QueuedMail};
pub use mapi::{Companion, Health, Mapi, Options, Unfinished, Utilities};
pub use message::{Message, Submitted};
pub use notify::{News, Notice, Sink};
pub use object::{AddressBook, Draft, Folder, OpenMessage, Outbox, StatusTable, Store};
pub use reference::{Reference, Referenced};
pub use session::{Logon, OnEndOfSession, Session};
pub use shutdown::{ClientShutdown, ExitPath};

pub use sundown_mail::addresses;
pub use sundown_protocol::folder::{
    Column, ContentsRow, Direction, Filter, Flags, FolderRow, Marks, Role, Sort, UnknownFolder,
    WrongFlag,
};
pub use sundown_protocol::notification::{
    Arrival, EndReason, Event, Events, FolderChange, LeaveReason, TableChange,
};
pub use sundown_protocol::reply::{
    AddressRow, BrokerStatus, Deletion, End, LastOutcome, LimitStatus, MailboxState, MemberStatus,
    MessageRow, Peer, Place, Previous, ProfileInUse, ProviderHealth, ProviderStatus, QueueRow,
    RecipientRow, Reload, Reloaded, Resource, SessionHealth, SessionStatus, Status, StatusRow,
    SubmissionState, Synced, Syncing,
};
pub use sundown_protocol::request::{
    Folder as FolderKind, Notify, Report, Returned, Stopping, StoreLogoff,
};
pub use sundown_protocol::seen::is_unseen;
pub use sundown_protocol::{
    Code, Correlation, EntryId, FaultDetail, MemberId, SessionId, SubmitKey, Token,
};
