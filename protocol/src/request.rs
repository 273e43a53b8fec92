//! What a client may ask. One variant a request; the reply to each is named behind the arrow.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{
    AdviseId, EntryId, MemberId, ObjectId, RequestId, SessionTag, SubmitKey, Token, UploadId,
};
use crate::notification::Events;
use crate::reply::{ReplyKind, Resource};
use crate::version::Version;

/// Sets of bits.
macro_rules! sets {
    ($($name:ident),*) => {$(
        impl $name {
            /// Whether every bit of `other` is set.
            pub fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// These and those.
            #[must_use]
            pub fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    )*};
}

sets!(LogonFlags, LogoffFlags, Notify, StoreLogoff);

/// One request with the id that its reply will echo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Chosen by the client, unique among its unanswered requests.
    pub id: RequestId,
    /// What is asked.
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
        /// Who registers.
        member: MemberId,
        /// For what.
        source: AdviseSource,
        /// For which events of it.
        events: Events,
    },
    /// `Unadvise` → [`Reply::Done`](crate::Reply::Done). Costs no credit.
    Unadvise {
        /// Whose registration.
        member: MemberId,
        /// Which.
        advise: AdviseId,
    },
    /// `OpenEntry`, `OpenMsgStore`, `OpenAddressBook`, `GetStatusTable` → [`Reply::Opened`](crate::Reply::Opened).
    Open {
        /// Who opens.
        member: MemberId,
        /// What.
        what: Opening,
    },
    /// `IUnknown::Release` → [`Reply::Done`](crate::Reply::Done). Costs no credit.
    Release {
        /// Whose object.
        member: MemberId,
        /// Which.
        object: ObjectId,
    },
    /// `IMAPITable::QueryRows` → [`Reply::Rows`](crate::Reply::Rows).
    List {
        /// Whose object.
        member: MemberId,
        /// A folder, an address book or a status table.
        object: ObjectId,
        /// Rows behind this cursor: zero, or what the last reply said.
        after: u64,
        /// At most so many rows.
        limit: u32,
    },
    /// A piece of a message → [`Reply::Piece`](crate::Reply::Piece).
    Read {
        /// Who reads.
        member: MemberId,
        /// What.
        source: ReadSource,
        /// From this byte on.
        offset: u64,
    },
    /// A piece of a body, appended to those before it → [`Reply::Done`](crate::Reply::Done).
    Upload {
        /// Who hands it over.
        member: MemberId,
        /// The store it goes to, by its place in the profile; zero is the default store.
        store: u16,
        /// Chosen by the client; the first piece begins the upload.
        upload: UploadId,
        /// The piece.
        bytes: Blob,
    },
    /// `IMessage::SubmitMessage` → [`Reply::Submitted`](crate::Reply::Submitted).
    Submit(Submit),
    /// A new unsaved message in Drafts → [`Reply::Opened`](crate::Reply::Opened).
    Draft {
        /// Who makes it.
        member: MemberId,
        /// The store, by its place in the profile.
        store: u16,
        /// The message.
        content: Content,
    },
    /// `IMAPIProp::SaveChanges` on a draft → [`Reply::Saved`](crate::Reply::Saved).
    Save {
        /// Whose object.
        member: MemberId,
        /// A draft.
        object: ObjectId,
        /// The key of this save.
        key: SubmitKey,
    },
    /// Deletes a message: into Deleted, or for good if it is there already → [`Reply::Done`](crate::Reply::Done).
    Delete {
        /// Who deletes.
        member: MemberId,
        /// What.
        entry: EntryId,
    },
    /// `OpenProfileSection`, then one property of it → [`Reply::Setting`](crate::Reply::Setting).
    Setting {
        /// Who asks.
        member: MemberId,
        /// The section, by habit the program's name.
        section: String,
        /// The property.
        name: String,
        /// What to do with it.
        change: SettingChange,
    },
    /// `IMsgStore::AbortSubmit` → [`Reply::Done`](crate::Reply::Done).
    AbortSubmit {
        /// Who aborts.
        member: MemberId,
        /// What.
        entry: EntryId,
    },
    /// Makes everything durable that this member handed over → [`Reply::Done`](crate::Reply::Done).
    Flush {
        /// Whose.
        member: MemberId,
    },
    /// Changes to and questions of an address book.
    AddressBook {
        /// Whose object.
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
        /// Whether a broker has said yes before, should this be another one: the answer holds for the life of the
        /// process, and brokers may be restarted meanwhile.
        remembered: bool,
    },
    /// Lets another process have one object, by a token → [`Reply::Done`](crate::Reply::Done).
    Grant {
        /// Who grants.
        member: MemberId,
        /// A message or a folder.
        object: ObjectId,
        /// By which token.
        token: Token,
        /// Only to the process with this id.
        pid: Option<u32>,
    },
    /// Takes what was granted → [`Reply::Redeemed`](crate::Reply::Redeemed).
    Redeem {
        /// By which token.
        token: Token,
    },
    /// Takes a grant back, used or not → [`Reply::Done`](crate::Reply::Done).
    Revoke {
        /// Who granted.
        member: MemberId,
        /// Which token.
        token: Token,
    },
    /// What the broker is doing → [`Reply::Status`](crate::Reply::Status). Costs no credit.
    Status,
    /// The outgoing queue of a profile.
    Queue {
        /// The profile; `None` means the default profile and every profile with a session.
        profile: Option<String>,
        /// What to do.
        action: QueueAction,
    },
    /// Ends the broker → [`Reply::Done`](crate::Reply::Done), when it is decided and not when it is over.
    Stop {
        /// How.
        how: Stopping,
    },
    /// `IMAPIStatus::ValidateState` of a provider: it really tries what it is for → [`Reply::Done`](crate::Reply::Done), or
    /// what is wrong.
    ValidateState {
        /// Who asks.
        member: MemberId,
        /// The type of provider.
        kind: Resource,
        /// Its name, unique among those.
        provider: String,
    },
    /// `IMsgStore::StoreLogoff` → [`Reply::StoreLoggedOff`](crate::Reply::StoreLoggedOff).
    StoreLogoff {
        /// Whose object.
        member: MemberId,
        /// A store.
        object: ObjectId,
        /// Exactly one of the flags that go in.
        flags: StoreLogoff,
    },
    /// `IProfAdmin::DeleteProfile` → [`Reply::ProfileDeleted`](crate::Reply::ProfileDeleted). Takes the right *admin*.
    DeleteProfile {
        /// The profile.
        name: String,
    },
    /// What the broker has come from, and how much of its limits is used → [`Reply::Broker`](crate::Reply::Broker). From version 2 on.
    Broker,
    /// What the broker knows of this process and a later broker cannot → [`Reply::Ticket`](crate::Reply::Ticket). Each change of
    /// it is told to this connection from then on, by [`Event::Ticket`](crate::Event::Ticket), before the answer that shows the
    /// change. From version 3 on.
    Ticket {
        /// The newest ticket that this program image holds, should an earlier broker have given it one.
        shown: Option<Ticket>,
    },
    /// Logs on again to a session that the client was in before, with this broker or an earlier one →
    /// [`Reply::LoggedOn`](crate::Reply::LoggedOn). If the session was ended for everybody, the member gets into the same ending
    /// session for the grace that remains, or `MAPI_E_END_OF_SESSION` after it; if it was not, this is a logon. From version 3 on.
    Return {
        /// As for a logon.
        logon: Logon,
        /// The session, by [`Event::Session`](crate::Event::Session).
        tag: SessionTag,
        /// Whether the client was told of the end, or caused it.
        told: bool,
    },
    /// Deletes a message if it is in this folder: into Deleted, or for good from there → [`Reply::Done`](crate::Reply::Done). Where
    /// it is elsewhere it is `MAPI_E_NOT_FOUND`: a repeat does not delete for good what the first one moved. From version 3 on.
    DeleteFrom {
        /// Who deletes.
        member: MemberId,
        /// What.
        entry: EntryId,
        /// Where it is.
        from: Folder,
    },
    /// What the broker is doing, a page of it → [`Reply::StatusPage`](crate::Reply::StatusPage). From version 3 on.
    StatusPage {
        /// Behind what; the default begins.
        after: StatusCursor,
    },
}

/// Behind which row of the status: a session, a member of it, a reference to an object of that. A client hands it back as it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatusCursor {
    /// The session. Behind the last one, 2⁶⁴ − 1: those that could not start, by their place, which is in `member`.
    pub session: u64,
    /// The last of its members that was listed; 0 for none.
    pub member: u64,
    /// The last of the references to objects of that member that was listed; 0 for none.
    pub reference: u64,
}

/// What a client may do when the connection has ended before a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Ask again: it changes nothing, what it changed ended with the connection, or twice is once.
    Harmless,
    /// Ask again with the same key: what the first one made is found.
    Keyed,
    /// Ask again. If the first one was carried out the second one is refused and changes nothing, and where things stand says that
    /// it is done.
    Settled,
    /// Do not: it would do more than was asked for. Whether it was carried out is not known.
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
    /// `MAPI_NEW_SESSION`: a private session, never joined and never joining.
    pub const NEW_SESSION: Self = Self(0x2);
    /// `MAPI_NO_MAIL`: this member's mail waits for a member with mail.
    pub const NO_MAIL: Self = Self(0x8000);
    /// `MAPI_TIMEOUT_SHORT`: `MAPI_E_TIMEOUT` instead of waiting for a session that is starting.
    pub const TIMEOUT_SHORT: Self = Self(0x0010_0000);
    /// Every bit that means something.
    pub const KNOWN: u32 = 0x0010_8002;
}

/// Arguments of `IMAPISession::Logoff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logoff {
    /// Who leaves.
    pub member: MemberId,
    /// Flags.
    pub flags: LogoffFlags,
    /// Wait at most so many milliseconds until this member's outbound mail was processed.
    pub drain: Option<u64>,
}

/// Flags of a logoff; the first two have MAPI's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoffFlags(pub u32);

impl LogoffFlags {
    /// `MAPI_LOGOFF_SHARED`: end the shared session and tell everybody in it.
    pub const SHARED: Self = Self(0x1);
    /// `MAPI_LOGOFF_UI`: the program may ask before it logs off, and has done so. Brokers pass over it: the question is the
    /// program's. From version 3 on; earlier brokers do not know it.
    pub const UI: Self = Self(0x2);
    /// Also as one who does not own the session; takes the right *admin*.
    pub const FORCE: Self = Self(0x100);
    /// Reply only when the others have left or were evicted; the reply names who was still there at the end.
    pub const WAIT: Self = Self(0x200);
    /// Because of a critical error: what was asked of a drain is skipped, whatever else is said.
    pub const CRITICAL: Self = Self(0x400);
    /// Every bit that means something.
    pub const KNOWN: u32 = 0x703;
}

/// What a registration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdviseSource {
    /// The session itself (`IMAPISession::Advise` without an entry identifier).
    Session,
    /// An open store, folder, message, address book or status table.
    Object(ObjectId),
}

/// What can be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// A message store, by its place in the profile; zero is the default store.
    Store(u16),
    /// A folder of a store.
    Folder(u16, Folder),
    /// A message.
    Message(EntryId),
    /// The address book.
    AddressBook,
    /// The status table.
    StatusTable,
}

/// The folders every store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Folder {
    /// Received mail, and delivery status notifications.
    Inbox,
    /// Submitted and not yet final.
    Outbox,
    /// Final.
    Sent,
    /// Unfinished.
    Drafts,
    /// Deleted once; deleting again is for good.
    Deleted,
}

impl Folder {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Inbox, Self::Outbox, Self::Sent, Self::Drafts, Self::Deleted];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Outbox => "outbox",
            Self::Sent => "sent",
            Self::Drafts => "drafts",
            Self::Deleted => "deleted",
        }
    }
}

/// Where a message is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadSource {
    /// An entry of any store of the session.
    Entry(EntryId),
    /// An open message.
    Object(ObjectId),
}

/// A message handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// Who submits.
    pub member: MemberId,
    /// The store, by its place in the profile; zero is the default store.
    pub store: u16,
    /// Makes a repeat harmless.
    pub key: SubmitKey,
    /// The envelope's sender; `None` takes the message's From.
    pub from: Option<String>,
    /// The envelope's recipients.
    pub recipients: Vec<String>,
    /// The message, RFC 5322.
    pub content: Content,
    /// When the reply comes.
    pub when: Durability,
    /// What the sender wants to be told.
    pub report: Report,
}

/// What the sender of a message wants to be told of its delivery (RFC 3461).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When.
    pub notify: Notify,
    /// How much of the message comes back with it.
    pub returned: Returned,
}

/// When the sender wants to be told, as bits; without any never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify(pub u8);

impl Notify {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// When it was delivered. Only servers that are asked to can tell.
    pub const SUCCESS: Self = Self(1);
    /// When it failed for good.
    pub const FAILURE: Self = Self(2);
    /// When it is late. Only servers that are asked to can tell.
    pub const DELAY: Self = Self(4);
    /// Every bit that means something.
    pub const KNOWN: u8 = 7;
}

impl Default for Notify {
    fn default() -> Self {
        Self::FAILURE
    }
}

/// How much of a message comes back when it failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// Its head.
    #[default]
    Headers,
    /// All of it. Only servers that are asked to do that.
    Full,
}

/// Flags of `StoreLogoff`, with MAPI's numbers: one goes in, and what comes out says what the store is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLogoff(pub u32);

impl StoreLogoff {
    /// `LOGOFF_NO_WAIT`: now; what is ready is sent.
    pub const NO_WAIT: Self = Self(0x1);
    /// `LOGOFF_ORDERLY`: now; what is begun is finished.
    pub const ORDERLY: Self = Self(0x2);
    /// `LOGOFF_PURGE`: now, and everything that waits for its time is tried at once.
    pub const PURGE: Self = Self(0x4);
    /// `LOGOFF_ABORT`: now.
    pub const ABORT: Self = Self(0x8);
    /// `LOGOFF_QUIET`: only if nothing goes on.
    pub const QUIET: Self = Self(0x10);
    /// `LOGOFF_COMPLETE`, comes out: the object is invalid, and the broker does the rest.
    pub const COMPLETE: Self = Self(0x1_0000);
    /// `LOGOFF_OUTBOUND`, comes out: messages are being sent.
    pub const OUTBOUND: Self = Self(0x4_0000);
    /// `LOGOFF_OUTBOUND_QUEUE`, comes out: messages wait in the Outbox.
    pub const OUTBOUND_QUEUE: Self = Self(0x8_0000);
    /// Every bit that may go in.
    pub const KNOWN: u32 = 0x1F;
}

/// When a submit is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// When it is durable.
    Durable,
    /// At once; it is durable within 50 ms, or by flush, logoff or a fast shutdown.
    Deferred,
}

/// The bytes of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Here, at most [`MAX_BLOB`](crate::frame::MAX_BLOB) of them.
    Inline(Blob),
    /// Streamed before.
    Uploaded(UploadId),
}

/// What to do with a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingChange {
    /// Only read it.
    Keep,
    /// Give it this value.
    Set(String),
    /// Remove it.
    Remove,
}

/// What to do with an address book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressAction {
    /// Adds a person, or a list of people → [`Reply::Added`](crate::Reply::Added).
    Add {
        /// The display name.
        name: String,
        /// One address makes a person, several a list.
        addresses: Vec<String>,
    },
    /// Removes the person or list of that name → [`Reply::Done`](crate::Reply::Done).
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
    /// → [`Reply::Queue`](crate::Reply::Queue).
    List {
        /// Also what is final.
        all: bool,
        /// Rows behind this cursor: zero, or what the last reply said.
        after: u64,
        /// At most so many rows.
        limit: u32,
    },
    /// One entry → [`Reply::Queue`](crate::Reply::Queue) with one row.
    Show(EntryId),
    /// Changes one entry → [`Reply::Queue`](crate::Reply::Queue) with its row as it is then.
    Change(EntryId, QueueChange),
    /// `IMAPIStatus::FlushQueues`: everything deferred is tried at once, by transports that were disabled too →
    /// [`Reply::Flushed`](crate::Reply::Flushed).
    Flush,
}

/// A change of an entry of the outgoing queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueChange {
    /// Tries it now: a deferred one, a held one, and also one whose outcome is unknown, which may send it twice.
    Retry,
    /// Keeps it until it is released.
    Hold,
    /// Lets a held one go.
    Release,
    /// `IMsgStore::AbortSubmit`: takes it back, into Drafts.
    Abort,
}

/// How a broker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopping {
    /// Members are told and may finish within the time for it.
    Orderly,
    /// Members are told and not waited for; transports finish what they have begun.
    Fast,
}

/// Bytes that are copied and never looked at.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    /// What people wrote is not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What one broker says of a process to the next broker with the same runtime directory: which copy of the library is the
/// host, the answer to `QueryFastShutdown`, whether the process gave notice, whether it was shut down. It is signed for that
/// process and worth nothing to another. Clients keep it and do not look into it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket(pub Blob);

impl Ticket {
    /// The most bytes a ticket has, in any version.
    pub const MAX: usize = 256;
}

impl fmt::Debug for Ticket {
    /// It is a credential.
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
        // They are copied out of the frame, once, and only when all of them are there.
        deserializer.deserialize_bytes(Visitor)
    }
}

impl Request {
    /// Whether the request is answered although the credit is spent: what a process needs in order to leave, and to
    /// see why it cannot.
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

    /// What may be done when the connection has ended before it was answered.
    pub fn repeat(&self) -> Repeat {
        match self {
            // What belongs to a member or a connection has ended with it.
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
            // What only looks.
            | Self::List { .. }
            | Self::Read { .. }
            | Self::Status
            | Self::ValidateState { .. }
            | Self::Broker
            | Self::StatusPage { .. }
            | Self::Ticket { .. }
            // Twice is once.
            | Self::Setting { .. }
            | Self::Flush { .. }
            | Self::QueryFastShutdown
            | Self::NotifyProcessShutdown
            | Self::DoFastShutdown { .. } => Repeat::Harmless,
            Self::Submit(_) | Self::Save { .. } => Repeat::Keyed,
            Self::AbortSubmit { .. }
            | Self::Revoke { .. }
            | Self::DeleteProfile { .. }
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
                    // What may have gone out would go out once more.
                    Repeat::Never
                }
                QueueAction::Change(
                    _,
                    QueueChange::Hold | QueueChange::Release | QueueChange::Abort,
                ) => Repeat::Settled,
            },
            // The pieces before it have ended with the connection.
            Self::Upload { .. }
            // What the first one moved into Deleted the second one deletes for good.
            | Self::Delete { .. }
            // The token is good once, and what it gave has ended with the connection.
            | Self::Redeem { .. }
            // It would stop the next broker.
            | Self::Stop { .. } => Repeat::Never,
        }
    }

    /// Which reply it has, unless it is refused.
    pub fn reply(&self) -> ReplyKind {
        match self {
            Self::Logon(_) | Self::Return { .. } => ReplyKind::LoggedOn,
            Self::Logoff(_) => ReplyKind::LoggedOff,
            Self::Advise { .. } => ReplyKind::Advised,
            Self::Open { .. } | Self::Draft { .. } => ReplyKind::Opened,
            Self::List { .. } => ReplyKind::Rows,
            Self::Read { .. } => ReplyKind::Piece,
            Self::Submit(_) => ReplyKind::Submitted,
            Self::Save { .. } => ReplyKind::Saved,
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
            Self::Ticket { .. } => ReplyKind::Ticket,
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
            | Self::ValidateState { .. } => ReplyKind::Done,
        }
    }

    /// The first version that knows it.
    pub fn since(&self) -> Version {
        match self {
            Self::Broker => Version::V2,
            Self::Ticket { .. }
            | Self::Return { .. }
            | Self::DeleteFrom { .. }
            | Self::StatusPage { .. } => Version::V3,
            _ => Version::V1,
        }
    }

    /// The member it is about, if it is about one.
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
            | Self::AddressBook { member, .. }
            | Self::Grant { member, .. }
            | Self::ValidateState { member, .. }
            | Self::StoreLogoff { member, .. }
            | Self::Revoke { member, .. } => Some(*member),
            Self::Logon(_)
            | Self::QueryFastShutdown
            | Self::NotifyProcessShutdown
            | Self::DoFastShutdown { .. }
            | Self::Redeem { .. }
            | Self::Status
            | Self::DeleteProfile { .. }
            | Self::Broker
            | Self::StatusPage { .. }
            | Self::Ticket { .. }
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
            Self::Queue { .. } => "Queue",
            Self::Stop { .. } => "Stop",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_has_a_word_of_its_own() {
        assert_eq!(crate::words::of(&Folder::ALL), Folder::ALL.map(Folder::name));
    }

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
