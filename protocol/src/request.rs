//! Requests: one variant for each. The reply is named behind the arrow.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::folder::{Bookmark, Filter, Flags, Sort};
use crate::id::{
    AdviseId, EntryId, MemberId, ObjectId, RequestId, SessionId, SessionTag, SubmitKey, Token,
    UploadId,
};
use crate::notification::Events;
use crate::reply::{ReplyKind, Resource};
use crate::version::Version;

pub use crate::folder::Folder;

/// Adds the operations of a set of bits to these types.
macro_rules! sets {
    ($($name:ident),*) => {$(
        impl $name {
            /// Whether every bit of `other` is set.
            pub fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Both sets together.
            #[must_use]
            pub fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    )*};
}

sets!(LogonFlags, LogoffFlags, Notify, StoreLogoff);

/// A request with the id that its reply echoes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The id, chosen by the client, unique among its unanswered requests.
    pub id: RequestId,
    /// The request.
    pub request: Request,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `MAPILogonEx` → [`Reply::LoggedOn`](crate::Reply::LoggedOn).
    Logon(Logon),
    /// `IMAPISession::Logoff` → [`Reply::LoggedOff`](crate::Reply::LoggedOff).
    Logoff(Logoff),
    /// `Advise` on the session or an object → [`Reply::Advised`](crate::Reply::Advised).
    Advise {
        /// The member that registers.
        member: MemberId,
        /// The source of the events.
        source: AdviseSource,
        /// The events.
        events: Events,
    },
    /// `Unadvise` → [`Reply::Done`](crate::Reply::Done). Costs no credit.
    Unadvise {
        /// The member that registered.
        member: MemberId,
        /// The registration.
        advise: AdviseId,
    },
    /// `OpenEntry`, `OpenMsgStore`, `OpenAddressBook`, `GetStatusTable` → [`Reply::Opened`](crate::Reply::Opened).
    Open {
        /// The member that opens the object.
        member: MemberId,
        /// The object.
        what: Opening,
    },
    /// `IUnknown::Release` → [`Reply::Done`](crate::Reply::Done). Costs no credit.
    Release {
        /// The member that has the object.
        member: MemberId,
        /// The object.
        object: ObjectId,
    },
    /// `IMAPITable::QueryRows` → [`Reply::Rows`](crate::Reply::Rows).
    List {
        /// The member that has the object.
        member: MemberId,
        /// A folder, an address book or a status table.
        object: ObjectId,
        /// The cursor behind which the rows begin: zero, or the one from the last reply.
        after: u64,
        /// The most rows to return.
        limit: u32,
    },
    /// A piece of a message → [`Reply::Piece`](crate::Reply::Piece).
    Read {
        /// The member that reads.
        member: MemberId,
        /// The message.
        source: ReadSource,
        /// The first byte to read.
        offset: u64,
    },
    /// A piece of a body, appended to those before it → [`Reply::Done`](crate::Reply::Done).
    Upload {
        /// The member that uploads.
        member: MemberId,
        /// The place in the profile of the store for the body; zero is the default store.
        store: u16,
        /// The id, chosen by the client; the first piece begins the upload.
        upload: UploadId,
        /// The piece.
        bytes: Blob,
    },
    /// `IMessage::SubmitMessage` → [`Reply::Submitted`](crate::Reply::Submitted).
    Submit(Submit),
    /// A new unsaved message in Drafts → [`Reply::Opened`](crate::Reply::Opened).
    Draft {
        /// The member that makes it.
        member: MemberId,
        /// The store, by its place in the profile.
        store: u16,
        /// The message.
        content: Content,
    },
    /// `IMAPIProp::SaveChanges` on a draft → [`Reply::Saved`](crate::Reply::Saved).
    Save {
        /// The member that has the object.
        member: MemberId,
        /// A draft.
        object: ObjectId,
        /// The key of this save.
        key: SubmitKey,
    },
    /// Deletes a message: moves it into Deleted, or deletes it for good if it is there already →
    /// [`Reply::Done`](crate::Reply::Done).
    Delete {
        /// The member that deletes.
        member: MemberId,
        /// The message.
        entry: EntryId,
    },
    /// `OpenProfileSection`, then one property of it → [`Reply::Setting`](crate::Reply::Setting).
    Setting {
        /// The member that reads or changes it.
        member: MemberId,
        /// The section, by convention the program's name.
        section: String,
        /// The property.
        name: String,
        /// What to do with it.
        change: SettingChange,
    },
    /// `IMsgStore::AbortSubmit` → [`Reply::Done`](crate::Reply::Done).
    AbortSubmit {
        /// The member that aborts.
        member: MemberId,
        /// The message.
        entry: EntryId,
    },
    /// Makes everything durable that this member submitted → [`Reply::Done`](crate::Reply::Done).
    Flush {
        /// The member.
        member: MemberId,
    },
    /// Reads or changes an address book.
    AddressBook {
        /// The member that has the object.
        member: MemberId,
        /// An address book.
        object: ObjectId,
        /// What to do.
        action: AddressAction,
    },
    /// `IMAPIClientShutdown::QueryFastShutdown` → [`Reply::Done`](crate::Reply::Done). Costs no credit.
    QueryFastShutdown,
    /// `IMAPIClientShutdown::NotifyProcessShutdown` → [`Reply::Done`](crate::Reply::Done). Costs no credit.
    NotifyProcessShutdown,
    /// `IMAPIClientShutdown::DoFastShutdown` → [`Reply::Done`](crate::Reply::Done). Costs no credit.
    DoFastShutdown {
        /// Whether an earlier broker has said yes. The answer holds for the life of the process, and the broker may have been
        /// restarted since.
        remembered: bool,
    },
    /// Grants an object to another process by a token → [`Reply::Done`](crate::Reply::Done).
    Grant {
        /// The member that grants.
        member: MemberId,
        /// A message or a folder.
        object: ObjectId,
        /// The token.
        token: Token,
        /// If set, only the process with this id can redeem the token.
        pid: Option<u32>,
    },
    /// Redeems a token for the granted object → [`Reply::Redeemed`](crate::Reply::Redeemed).
    Redeem {
        /// The token.
        token: Token,
    },
    /// Takes a grant back, redeemed or not → [`Reply::Done`](crate::Reply::Done).
    Revoke {
        /// The member that granted.
        member: MemberId,
        /// The token.
        token: Token,
    },
    /// The state of the broker → [`Reply::Status`](crate::Reply::Status). Costs no credit.
    Status,
    /// Reads or changes the outgoing queue of a profile.
    Queue {
        /// The profile; `None` means the default profile and every profile with a session.
        profile: Option<String>,
        /// What to do.
        action: QueueAction,
    },
    /// Stops the broker → [`Reply::Done`](crate::Reply::Done), once the stop is decided and before it is complete.
    Stop {
        /// How.
        how: Stopping,
    },
    /// `IMAPIStatus::ValidateState` of a provider, which really tries to work → [`Reply::Done`](crate::Reply::Done), or what is
    /// wrong.
    ValidateState {
        /// The member that asks.
        member: MemberId,
        /// The kind of the provider.
        kind: Resource,
        /// The provider's name, unique within its kind.
        provider: String,
    },
    /// `IMsgStore::StoreLogoff` → [`Reply::StoreLoggedOff`](crate::Reply::StoreLoggedOff).
    StoreLogoff {
        /// The member that has the object.
        member: MemberId,
        /// A store.
        object: ObjectId,
        /// Exactly one of the input flags.
        flags: StoreLogoff,
    },
    /// `IProfAdmin::DeleteProfile` → [`Reply::ProfileDeleted`](crate::Reply::ProfileDeleted). Takes the right *admin*.
    DeleteProfile {
        /// The profile.
        name: String,
    },
    /// How the previous broker ended, and how much of the limits is used → [`Reply::Broker`](crate::Reply::Broker). From version 2
    /// on.
    Broker,
    /// What this broker knows of the process, for later brokers → [`Reply::Ticket`](crate::Reply::Ticket). From then on each change
    /// is sent to this connection in an [`Event::Ticket`](crate::Event::Ticket), before the answer that shows the change. From
    /// version 3 on.
    Ticket {
        /// The newest ticket that this program image has from an earlier broker.
        shown: Option<Ticket>,
    },
    /// Logs on again to a session that the client was in, with this broker or an earlier one →
    /// [`Reply::LoggedOn`](crate::Reply::LoggedOn). If the session was ended for all members, the member joins the same ending
    /// session for the rest of its grace, or gets `MAPI_E_END_OF_SESSION` after that; otherwise this is a logon. From version 3 on.
    Return {
        /// The arguments of a logon.
        logon: Logon,
        /// The session's name from [`Event::Session`](crate::Event::Session).
        tag: SessionTag,
        /// Whether the client was told of the end, or caused it.
        told: bool,
    },
    /// Deletes a message if it is in this folder: moves it into Deleted, or deletes it for good from there →
    /// [`Reply::Done`](crate::Reply::Done). If it is elsewhere it is `MAPI_E_NOT_FOUND`: a repeat does not delete for good what the
    /// first request moved. From version 3 on.
    DeleteFrom {
        /// The member that deletes.
        member: MemberId,
        /// The message.
        entry: EntryId,
        /// The folder that it is in.
        from: Folder,
    },
    /// A page of the state of the broker → [`Reply::StatusPage`](crate::Reply::StatusPage). From version 3 on.
    StatusPage {
        /// The cursor of the page; the default is the first page.
        after: StatusCursor,
    },
    /// A submit that says which of the profile's transports it is for → [`Reply::Submitted`](crate::Reply::Submitted). From version 3
    /// on.
    SubmitVia {
        /// The submit.
        submit: Box<Submit>,
        /// What chooses the transport.
        route: Box<Route>,
    },
    /// How the providers of sessions fare, and which version of its profile each session has →
    /// [`Reply::Health`](crate::Reply::Health). From version 3 on.
    Health {
        /// The session behind which the page begins; `SessionId(0)` for the first page.
        after: SessionId,
    },
    /// Read a profile's file now, and use it in the sessions of that profile → [`Reply::Reloaded`](crate::Reply::Reloaded). From
    /// version 3 on.
    Reload {
        /// The profile.
        profile: String,
    },
    /// The `Message-ID` of a message in the outgoing queue → [`Reply::MessageId`](crate::Reply::MessageId). The user needs what a
    /// [`QueueAction::Show`] of the entry needs. From version 3 on.
    MessageId {
        /// The entry identifier of the message.
        entry: EntryId,
    },
    /// `IMAPIFolder::GetHierarchyTable`: the folders of a store → [`Reply::Folders`](crate::Reply::Folders). From version 4 on.
    Folders {
        /// The member that asks.
        member: MemberId,
        /// The store, by its place in the profile.
        store: u16,
        /// The folder behind which the page begins; `None` for the first page.
        after: Option<Folder>,
        /// The most rows to return.
        limit: u32,
    },
    /// `IMAPIFolder::CreateFolder` → [`Reply::Made`](crate::Reply::Made). A folder of this name in the same place is
    /// `MAPI_E_COLLISION`. From version 4 on.
    MakeFolder {
        /// The member that makes it.
        member: MemberId,
        /// The store, by its place in the profile.
        store: u16,
        /// The folder to make it in; `None` for the top.
        parent: Option<Folder>,
        /// Its name, at most [`MAX_FOLDER_NAME`](crate::folder::MAX_FOLDER_NAME) bytes.
        name: String,
    },
    /// Gives a folder another name → [`Reply::Done`](crate::Reply::Done). The folders of every store keep theirs. From version 4 on.
    RenameFolder {
        /// The member that renames it.
        member: MemberId,
        /// The store, by its place in the profile.
        store: u16,
        /// The folder.
        folder: Folder,
        /// Its new name.
        name: String,
    },
    /// `IMAPIFolder::DeleteFolder` of an empty folder → [`Reply::Done`](crate::Reply::Done). One with messages is
    /// `MAPI_E_HAS_MESSAGES`, one with folders `MAPI_E_HAS_FOLDERS`. From version 4 on.
    RemoveFolder {
        /// The member that removes it.
        member: MemberId,
        /// The store, by its place in the profile.
        store: u16,
        /// The folder.
        folder: Folder,
    },
    /// `IMAPITable::SortTable` and `QueryRows` of a folder → [`Reply::Contents`](crate::Reply::Contents). From version 4 on.
    Contents {
        /// The member that has the object.
        member: MemberId,
        /// A folder.
        object: ObjectId,
        /// The order.
        sort: Sort,
        /// Which rows.
        only: Filter,
        /// The place behind which the rows begin; `None` for the first page.
        after: Option<Bookmark>,
        /// The most rows to return.
        limit: u32,
    },
    /// `IMAPIFolder::SetMessageStatus` and `IMessage::SetReadFlag` → [`Reply::Flags`](crate::Reply::Flags). From version 4 on.
    SetFlags {
        /// The member that sets them.
        member: MemberId,
        /// The message.
        entry: EntryId,
        /// Flags to set.
        add: Box<Flags>,
        /// Flags to remove; what is in both is removed.
        remove: Box<Flags>,
    },
    /// `IMAPIFolder::CopyMessages` with `MESSAGE_MOVE`, of one message within its store → [`Reply::Done`](crate::Reply::Done). The
    /// entry identifier stays the same. From version 4 on.
    Move {
        /// The member that moves it.
        member: MemberId,
        /// The message.
        entry: EntryId,
        /// Its new folder.
        to: Folder,
    },
    /// `IMAPIFolder::CopyMessages`, of one message within its store → [`Reply::Saved`](crate::Reply::Saved). From version 4 on.
    Copy {
        /// The member that copies it.
        member: MemberId,
        /// The key that makes a repeat harmless.
        key: SubmitKey,
        /// The message.
        entry: EntryId,
        /// The folder of the copy.
        to: Folder,
    },
    /// Puts a message into a folder, as it is → [`Reply::Saved`](crate::Reply::Saved). From version 4 on.
    Append {
        /// The member that appends it.
        member: MemberId,
        /// The key that makes a repeat harmless.
        key: SubmitKey,
        /// The store, by its place in the profile.
        store: u16,
        /// The folder.
        folder: Folder,
        /// The message, RFC 5322.
        content: Content,
        /// Its flags.
        flags: Box<Flags>,
        /// When it came, in milliseconds since 1970; `None` for now.
        received: Option<u64>,
    },
    /// `IMAPIFolder::SetSearchCriteria` and its results, newest first → [`Reply::Found`](crate::Reply::Found). From version 4 on.
    Search {
        /// The member that searches.
        member: MemberId,
        /// The store, by its place in the profile.
        store: u16,
        /// The words to look for, at most [`MAX_WORDS`] bytes.
        words: String,
        /// The folder to look in; `None` for all but Deleted.
        folder: Option<Folder>,
        /// The cursor behind which the rows begin: zero, or the one from the last reply.
        after: u64,
        /// The most rows to return.
        limit: u32,
    },
    /// Have the mailboxes of the session look at everything now, and try what is pending →
    /// [`Reply::Synced`](crate::Reply::Synced), when that is through (`FlushQueues` with `FLUSH_DOWNLOAD`). From version 4 on.
    Sync {
        /// The member that asks.
        member: MemberId,
    },
    /// How the mailboxes of sessions fare → [`Reply::Mailboxes`](crate::Reply::Mailboxes). From version 4 on.
    Mailboxes {
        /// The session behind which the page begins; `SessionId(0)` for the first page.
        after: SessionId,
    },
}

/// The longest [`Search::words`](Request::Search), in bytes.
pub const MAX_WORDS: usize = 4096;

/// What chooses the transports of a message, beside its recipients. A transport of a profile may be for some senders only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The address of the message's From; `None` means the envelope's sender. What is no address counts as `None`.
    pub author: Option<String>,
    /// The name of a transport of the profile: it and no other takes the message.
    pub account: Option<String>,
}

/// The place behind a row of the status: a session, a member of it, a reference to an object of that member. A client returns it
/// unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatusCursor {
    /// The session. Behind the last one it is 2⁶⁴ − 1: then come the sessions that could not start, by their place, which is in
    /// `member`.
    pub session: u64,
    /// The last listed member of the session; 0 for none.
    pub member: u64,
    /// The last listed reference to an object of that member; 0 for none.
    pub reference: u64,
}

/// What a client may do if the connection ends before a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Repeat it: the request changes nothing, its change ended with the connection, or doing it twice is the same as once.
    Harmless,
    /// Repeat it with the same key: the broker finds what the first request made.
    Keyed,
    /// Repeat it. If the first request was carried out, the second is refused and changes nothing, and the state shows that it is
    /// done.
    Settled,
    /// Do not repeat it: that could do more than was asked for. Whether it was carried out is unknown.
    Never,
}

impl Repeat {
    /// The word in `PROTOCOL.md`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Keyed => "by its key",
            Self::Settled => "settled",
            Self::Never => "never",
        }
    }
}

/// Arguments of `MAPILogonEx`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logon {
    /// The profile; `None` means the default profile.
    pub profile: Option<String>,
    /// [`LogonFlags`] as bits; an unknown bit is `MAPI_E_UNKNOWN_FLAGS`.
    pub flags: LogonFlags,
}

/// Flags of a logon, with MAPI's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogonFlags(pub u32);

impl LogonFlags {
    /// `MAPI_NEW_SESSION`: a private session. No other member joins it, and the logon joins no other session.
    pub const NEW_SESSION: Self = Self(0x2);
    /// `MAPI_NO_MAIL`: this member's mail waits for a member with mail.
    pub const NO_MAIL: Self = Self(0x8000);
    /// `MAPI_TIMEOUT_SHORT`: fails with `MAPI_E_TIMEOUT` instead of waiting for a session that is starting.
    pub const TIMEOUT_SHORT: Self = Self(0x0010_0000);
    /// All bits that have a meaning.
    pub const KNOWN: u32 = 0x0010_8002;
}

/// Arguments of `IMAPISession::Logoff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logoff {
    /// The member that logs off.
    pub member: MemberId,
    /// The flags.
    pub flags: LogoffFlags,
    /// How long to wait until this member's outbound mail is processed, in milliseconds; `None` means not to wait.
    pub drain: Option<u64>,
}

/// Flags of a logoff; the first two have MAPI's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoffFlags(pub u32);

impl LogoffFlags {
    /// `MAPI_LOGOFF_SHARED`: ends the shared session, and tells all its members.
    pub const SHARED: Self = Self(0x1);
    /// `MAPI_LOGOFF_UI`: the program may ask before it logs off, and has done so. A broker ignores it, because the program asks the
    /// question. From version 3 on; earlier brokers do not know it.
    pub const UI: Self = Self(0x2);
    /// Also ends a session that this member does not own; takes the right *admin*.
    pub const FORCE: Self = Self(0x100);
    /// Delays the reply until the other members have left or were evicted; the reply names the evicted members.
    pub const WAIT: Self = Self(0x200);
    /// Because of a critical error: does not wait for outbound mail, whatever `drain` says.
    pub const CRITICAL: Self = Self(0x400);
    /// All bits that have a meaning.
    pub const KNOWN: u32 = 0x703;
}

/// The source of the events of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdviseSource {
    /// The session itself (`IMAPISession::Advise` without an entry identifier).
    Session,
    /// An open store, folder, message, address book or status table.
    Object(ObjectId),
}

/// An object that can be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// A message store, by its place in the profile; zero is the default store.
    Store(u16),
    /// A folder of a store. One that is not in every store takes version 4.
    Folder(u16, Folder),
    /// A message.
    Message(EntryId),
    /// The address book.
    AddressBook,
    /// The status table.
    StatusTable,
}

/// The source from which a message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadSource {
    /// An entry of any store of the session.
    Entry(EntryId),
    /// An open message.
    Object(ObjectId),
}

/// The arguments of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// The member that submits.
    pub member: MemberId,
    /// The store, by its place in the profile; zero is the default store.
    pub store: u16,
    /// The key that makes a repeat harmless.
    pub key: SubmitKey,
    /// The envelope's sender; `None` takes the message's From.
    pub from: Option<String>,
    /// The envelope's recipients.
    pub recipients: Vec<String>,
    /// The message, RFC 5322.
    pub content: Content,
    /// When the broker replies.
    pub when: Durability,
    /// Which reports on its delivery the sender wants.
    pub report: Report,
}

/// Which reports on the delivery of a message the sender wants (RFC 3461).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The events that are reported.
    pub notify: Notify,
    /// How much of the message a report returns.
    pub returned: Returned,
}

/// The events that are reported to the sender, as bits; without any, none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify(pub u8);

impl Notify {
    /// No event.
    pub const NEVER: Self = Self(0);
    /// The delivery. Where the next server sends no such reports, the broker reports that it has the message.
    pub const SUCCESS: Self = Self(1);
    /// A permanent failure.
    pub const FAILURE: Self = Self(2);
    /// A delay of hours. The broker reports one, and so may each server on the way.
    pub const DELAY: Self = Self(4);
    /// All bits that have a meaning.
    pub const KNOWN: u8 = 7;
}

impl Default for Notify {
    /// What a sender who does not say is told: failures and delays.
    fn default() -> Self {
        Self(Self::FAILURE.0 | Self::DELAY.0)
    }
}

/// How much of a failed message its report returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// The head of the message.
    #[default]
    Headers,
    /// The whole message, if it is not too large.
    Full,
}

/// Flags of `StoreLogoff`, with MAPI's numbers. One of the input flags is required; the output flags describe the state of the
/// store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLogoff(pub u32);

impl StoreLogoff {
    /// `LOGOFF_NO_WAIT`: logs off now; messages that are ready are sent.
    pub const NO_WAIT: Self = Self(0x1);
    /// `LOGOFF_ORDERLY`: logs off now; transmissions under way are finished.
    pub const ORDERLY: Self = Self(0x2);
    /// `LOGOFF_PURGE`: logs off now, and all messages that wait for their time are tried at once.
    pub const PURGE: Self = Self(0x4);
    /// `LOGOFF_ABORT`: logs off now.
    pub const ABORT: Self = Self(0x8);
    /// `LOGOFF_QUIET`: logs off only if the store is idle.
    pub const QUIET: Self = Self(0x10);
    /// `LOGOFF_COMPLETE`, output: the object is invalid, and the broker does the rest.
    pub const COMPLETE: Self = Self(0x1_0000);
    /// `LOGOFF_INBOUND`, output: messages are arriving.
    pub const INBOUND: Self = Self(0x2_0000);
    /// `LOGOFF_OUTBOUND`, output: messages are being sent.
    pub const OUTBOUND: Self = Self(0x4_0000);
    /// `LOGOFF_OUTBOUND_QUEUE`, output: messages wait in the Outbox.
    pub const OUTBOUND_QUEUE: Self = Self(0x8_0000);
    /// All input flags.
    pub const KNOWN: u32 = 0x1F;
}

/// When the broker replies to a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// When the message is durable.
    Durable,
    /// At once. The message becomes durable within 50 ms, or by a flush, a logoff or a fast shutdown.
    Deferred,
}

/// The bytes of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// In the request itself, at most [`MAX_BLOB`](crate::frame::MAX_BLOB) bytes.
    Inline(Blob),
    /// Uploaded before the request.
    Uploaded(UploadId),
}

/// What to do with a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingChange {
    /// Only reads it.
    Keep,
    /// Sets it to this value.
    Set(String),
    /// Removes it.
    Remove,
}

/// What to do with an address book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressAction {
    /// Adds a person, or a list of people → [`Reply::Added`](crate::Reply::Added).
    Add {
        /// The display name.
        name: String,
        /// The addresses: one for a person, several for a list.
        addresses: Vec<String>,
    },
    /// Removes the person or list with this name → [`Reply::Done`](crate::Reply::Done).
    Remove {
        /// The display name.
        name: String,
    },
    /// `IAddrBook::ResolveName` → [`Reply::Resolved`](crate::Reply::Resolved).
    Resolve {
        /// A display name, the beginning of one, or an address.
        name: String,
    },
}

/// What to do with the outgoing queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueAction {
    /// Lists entries → [`Reply::Queue`](crate::Reply::Queue).
    List {
        /// Whether final entries are listed too.
        all: bool,
        /// The cursor behind which the rows begin: zero, or the one from the last reply.
        after: u64,
        /// The most rows to return.
        limit: u32,
    },
    /// Shows an entry → [`Reply::Queue`](crate::Reply::Queue) with one row.
    Show(EntryId),
    /// Changes an entry → [`Reply::Queue`](crate::Reply::Queue) with its row after the change.
    Change(EntryId, QueueChange),
    /// `IMAPIStatus::FlushQueues`: tries all deferred messages at once, also by transports that were disabled →
    /// [`Reply::Flushed`](crate::Reply::Flushed).
    Flush,
}

/// A change of an entry of the outgoing queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueChange {
    /// Tries it now: a deferred entry, a held entry, and also an entry whose outcome is unknown, which may then be sent twice.
    Retry,
    /// Holds it until it is released.
    Hold,
    /// Releases a held entry.
    Release,
    /// `IMsgStore::AbortSubmit`: takes it back into Drafts.
    Abort,
}

/// How a broker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopping {
    /// Members are told, and may finish within the time allowed for that.
    Orderly,
    /// Members are told, and the broker does not wait for them; transports finish what they have begun.
    Fast,
}

/// Bytes that are copied and never interpreted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    /// Shows only the size, because the text of a message must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What a broker states about a process for the next broker with the same runtime directory: which copy of the library is the host,
/// the answer to `QueryFastShutdown`, whether the process gave notice, and whether it was shut down. It is signed for that process,
/// and is worthless to another. Clients keep it without interpreting it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket(pub Blob);

impl Ticket {
    /// The largest size of a ticket in any version, in bytes.
    pub const MAX: usize = 256;
}

impl fmt::Debug for Ticket {
    /// Shows nothing, because a ticket is a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        // The bytes are copied out of the frame once, and only if all of them are there.
        deserializer.deserialize_bytes(Visitor)
    }
}

impl Request {
    /// Whether the request is answered even if the credit is used up: requests that a process needs in order to leave, and to see
    /// why it cannot.
    pub fn is_free(&self) -> bool {
        matches!(
            self,
            Self::Logoff(_)
                | Self::Unadvise { .. }
                | Self::Release { .. }
                | Self::QueryFastShutdown
                | Self::NotifyProcessShutdown
                | Self::DoFastShutdown { .. }
                | Self::Status
        )
    }

    /// What a client may do if the connection ends before this request is answered.
    pub fn repeat(&self) -> Repeat {
        match self {
            // What these give a member or a connection has ended with it.
            Self::Logon(_)
            | Self::Return { .. }
            | Self::Logoff(_)
            | Self::Advise { .. }
            | Self::Unadvise { .. }
            | Self::Open { .. }
            | Self::Release { .. }
            | Self::Draft { .. }
            | Self::Grant { .. }
            | Self::StoreLogoff { .. }
            // These only read.
            | Self::List { .. }
            | Self::Read { .. }
            | Self::Status
            | Self::ValidateState { .. }
            | Self::Broker
            | Self::StatusPage { .. }
            | Self::MessageId { .. }
            | Self::Ticket { .. }
            | Self::Health { .. }
            | Self::Folders { .. }
            | Self::Contents { .. }
            | Self::Search { .. }
            | Self::Mailboxes { .. }
            // Doing these twice is the same as once.
            | Self::SetFlags { .. }
            | Self::Move { .. }
            | Self::RenameFolder { .. }
            | Self::Reload { .. }
            | Self::Sync { .. }
            | Self::Setting { .. }
            | Self::Flush { .. }
            | Self::QueryFastShutdown
            | Self::NotifyProcessShutdown
            | Self::DoFastShutdown { .. } => Repeat::Harmless,
            Self::Submit(_)
            | Self::SubmitVia { .. }
            | Self::Save { .. }
            | Self::Copy { .. }
            | Self::Append { .. } => Repeat::Keyed,
            Self::AbortSubmit { .. }
            | Self::Revoke { .. }
            | Self::DeleteProfile { .. }
            | Self::MakeFolder { .. }
            | Self::RemoveFolder { .. }
            | Self::DeleteFrom { .. } => Repeat::Settled,
            Self::AddressBook { action, .. } => match action {
                AddressAction::Resolve { .. } => Repeat::Harmless,
                AddressAction::Add { .. } | AddressAction::Remove { .. } => Repeat::Settled,
            },
            Self::Queue { action, .. } => match action {
                QueueAction::List { .. } | QueueAction::Show(_) | QueueAction::Flush => {
                    Repeat::Harmless
                }
                QueueAction::Change(_, QueueChange::Retry) => {
                    // A message that may have gone out would go out again.
                    Repeat::Never
                }
                QueueAction::Change(
                    _,
                    QueueChange::Hold | QueueChange::Release | QueueChange::Abort,
                ) => Repeat::Settled,
            },
            // The earlier pieces have ended with the connection.
            Self::Upload { .. }
            // The second request would delete for good what the first one moved into Deleted.
            | Self::Delete { .. }
            // The token can be redeemed once, and the reference has ended with the connection.
            | Self::Redeem { .. }
            // A repeat would stop the next broker.
            | Self::Stop { .. } => Repeat::Never,
        }
    }

    /// The kind of its reply, unless it is refused.
    pub fn reply(&self) -> ReplyKind {
        match self {
            Self::Logon(_) | Self::Return { .. } => ReplyKind::LoggedOn,
            Self::Logoff(_) => ReplyKind::LoggedOff,
            Self::Advise { .. } => ReplyKind::Advised,
            Self::Open { .. } | Self::Draft { .. } => ReplyKind::Opened,
            Self::List { .. } => ReplyKind::Rows,
            Self::Read { .. } => ReplyKind::Piece,
            Self::Submit(_) | Self::SubmitVia { .. } => ReplyKind::Submitted,
            Self::Save { .. } | Self::Copy { .. } | Self::Append { .. } => ReplyKind::Saved,
            Self::Folders { .. } => ReplyKind::Folders,
            Self::MakeFolder { .. } => ReplyKind::Made,
            Self::Contents { .. } => ReplyKind::Contents,
            Self::SetFlags { .. } => ReplyKind::Flags,
            Self::Search { .. } => ReplyKind::Found,
            Self::Setting { .. } => ReplyKind::Setting,
            Self::AddressBook { action, .. } => match action {
                AddressAction::Add { .. } => ReplyKind::Added,
                AddressAction::Remove { .. } => ReplyKind::Done,
                AddressAction::Resolve { .. } => ReplyKind::Resolved,
            },
            Self::Redeem { .. } => ReplyKind::Redeemed,
            Self::Status => ReplyKind::Status,
            Self::Queue { action, .. } => match action {
                QueueAction::List { .. } | QueueAction::Show(_) | QueueAction::Change(..) => {
                    ReplyKind::Queue
                }
                QueueAction::Flush => ReplyKind::Flushed,
            },
            Self::StoreLogoff { .. } => ReplyKind::StoreLoggedOff,
            Self::DeleteProfile { .. } => ReplyKind::ProfileDeleted,
            Self::Broker => ReplyKind::Broker,
            Self::StatusPage { .. } => ReplyKind::StatusPage,
            Self::MessageId { .. } => ReplyKind::MessageId,
            Self::Ticket { .. } => ReplyKind::Ticket,
            Self::Health { .. } => ReplyKind::Health,
            Self::Sync { .. } => ReplyKind::Synced,
            Self::Mailboxes { .. } => ReplyKind::Mailboxes,
            Self::Reload { .. } => ReplyKind::Reloaded,
            Self::Unadvise { .. }
            | Self::Release { .. }
            | Self::Upload { .. }
            | Self::Delete { .. }
            | Self::DeleteFrom { .. }
            | Self::AbortSubmit { .. }
            | Self::Flush { .. }
            | Self::QueryFastShutdown
            | Self::NotifyProcessShutdown
            | Self::DoFastShutdown { .. }
            | Self::Grant { .. }
            | Self::Revoke { .. }
            | Self::Stop { .. }
            | Self::Move { .. }
            | Self::RenameFolder { .. }
            | Self::RemoveFolder { .. }
            | Self::ValidateState { .. } => ReplyKind::Done,
        }
    }

    /// The submit in it, if it is one.
    ///
    /// ```
    /// assert!(sundown_protocol::Request::Status.submits().is_none());
    /// ```
    pub fn submits(&self) -> Option<&Submit> {
        match self {
            Self::Submit(submit) => Some(submit),
            Self::SubmitVia { submit, .. } => Some(submit),
            _ => None,
        }
    }

    /// The first version with this request and all that it names.
    pub fn since(&self) -> Version {
        match self {
            Self::Open { what: Opening::Folder(_, folder), .. }
            | Self::DeleteFrom { from: folder, .. }
                if folder.built_in().is_none() =>
            {
                Version::V4
            }
            Self::Broker => Version::V2,
            Self::Ticket { .. }
            | Self::Return { .. }
            | Self::DeleteFrom { .. }
            | Self::StatusPage { .. }
            | Self::SubmitVia { .. }
            | Self::Health { .. }
            | Self::Reload { .. }
            | Self::MessageId { .. } => Version::V3,
            Self::ValidateState { kind: Resource::Mailbox, .. }
            | Self::Folders { .. }
            | Self::MakeFolder { .. }
            | Self::RenameFolder { .. }
            | Self::RemoveFolder { .. }
            | Self::Contents { .. }
            | Self::SetFlags { .. }
            | Self::Move { .. }
            | Self::Copy { .. }
            | Self::Append { .. }
            | Self::Sync { .. }
            | Self::Mailboxes { .. }
            | Self::Search { .. } => Version::V4,
            _ => Version::V1,
        }
    }

    /// The member of the request, if it has one.
    pub fn member(&self) -> Option<MemberId> {
        match self {
            Self::Logoff(Logoff { member, .. })
            | Self::Advise { member, .. }
            | Self::Unadvise { member, .. }
            | Self::Open { member, .. }
            | Self::Release { member, .. }
            | Self::List { member, .. }
            | Self::Read { member, .. }
            | Self::Upload { member, .. }
            | Self::Submit(Submit { member, .. })
            | Self::Draft { member, .. }
            | Self::Save { member, .. }
            | Self::Delete { member, .. }
            | Self::DeleteFrom { member, .. }
            | Self::Setting { member, .. }
            | Self::AbortSubmit { member, .. }
            | Self::Flush { member }
            | Self::Sync { member }
            | Self::AddressBook { member, .. }
            | Self::Grant { member, .. }
            | Self::ValidateState { member, .. }
            | Self::StoreLogoff { member, .. }
            | Self::Folders { member, .. }
            | Self::MakeFolder { member, .. }
            | Self::RenameFolder { member, .. }
            | Self::RemoveFolder { member, .. }
            | Self::Contents { member, .. }
            | Self::SetFlags { member, .. }
            | Self::Move { member, .. }
            | Self::Copy { member, .. }
            | Self::Append { member, .. }
            | Self::Search { member, .. }
            | Self::Revoke { member, .. } => Some(*member),
            Self::SubmitVia { submit, .. } => Some(submit.member),
            Self::Logon(_)
            | Self::QueryFastShutdown
            | Self::NotifyProcessShutdown
            | Self::DoFastShutdown { .. }
            | Self::Redeem { .. }
            | Self::Status
            | Self::DeleteProfile { .. }
            | Self::Broker
            | Self::StatusPage { .. }
            | Self::MessageId { .. }
            | Self::Ticket { .. }
            | Self::Health { .. }
            | Self::Mailboxes { .. }
            | Self::Reload { .. }
            | Self::Return { .. }
            | Self::Queue { .. }
            | Self::Stop { .. } => None,
        }
    }

    /// The name, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Logon(_) => "Logon",
            Self::Logoff(_) => "Logoff",
            Self::Advise { .. } => "Advise",
            Self::Unadvise { .. } => "Unadvise",
            Self::Open { .. } => "Open",
            Self::Release { .. } => "Release",
            Self::List { .. } => "List",
            Self::Read { .. } => "Read",
            Self::Upload { .. } => "Upload",
            Self::Submit(_) => "Submit",
            Self::Draft { .. } => "Draft",
            Self::Save { .. } => "Save",
            Self::Delete { .. } => "Delete",
            Self::Setting { .. } => "Setting",
            Self::AbortSubmit { .. } => "AbortSubmit",
            Self::Flush { .. } => "Flush",
            Self::AddressBook { .. } => "AddressBook",
            Self::QueryFastShutdown => "QueryFastShutdown",
            Self::NotifyProcessShutdown => "NotifyProcessShutdown",
            Self::DoFastShutdown { .. } => "DoFastShutdown",
            Self::Grant { .. } => "Grant",
            Self::Redeem { .. } => "Redeem",
            Self::Revoke { .. } => "Revoke",
            Self::Status => "Status",
            Self::ValidateState { .. } => "ValidateState",
            Self::StoreLogoff { .. } => "StoreLogoff",
            Self::DeleteProfile { .. } => "DeleteProfile",
            Self::Broker => "Broker",
            Self::Ticket { .. } => "Ticket",
            Self::Return { .. } => "Return",
            Self::DeleteFrom { .. } => "DeleteFrom",
            Self::StatusPage { .. } => "StatusPage",
            Self::SubmitVia { .. } => "SubmitVia",
            Self::Health { .. } => "Health",
            Self::Reload { .. } => "Reload",
            Self::MessageId { .. } => "MessageId",
            Self::Folders { .. } => "Folders",
            Self::MakeFolder { .. } => "MakeFolder",
            Self::RenameFolder { .. } => "RenameFolder",
            Self::RemoveFolder { .. } => "RemoveFolder",
            Self::Contents { .. } => "Contents",
            Self::SetFlags { .. } => "SetFlags",
            Self::Move { .. } => "Move",
            Self::Copy { .. } => "Copy",
            Self::Append { .. } => "Append",
            Self::Search { .. } => "Search",
            Self::Sync { .. } => "Sync",
            Self::Mailboxes { .. } => "Mailboxes",
            Self::Queue { .. } => "Queue",
            Self::Stop { .. } => "Stop",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_means_something_is_known() {
        let logon = [LogonFlags::NEW_SESSION, LogonFlags::NO_MAIL, LogonFlags::TIMEOUT_SHORT];
        assert_eq!(logon.iter().map(|flag| flag.0).sum::<u32>(), LogonFlags::KNOWN);
        let logoff = [
            LogoffFlags::SHARED,
            LogoffFlags::UI,
            LogoffFlags::FORCE,
            LogoffFlags::WAIT,
            LogoffFlags::CRITICAL,
        ];
        assert_eq!(logoff.iter().map(|flag| flag.0).sum::<u32>(), LogoffFlags::KNOWN);
    }
}
