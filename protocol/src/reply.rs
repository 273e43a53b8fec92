//! Replies and what they contain. Every request gets exactly one answer: a reply or a fault.

use serde::{Deserialize, Serialize, Serializer};

use crate::code::{Code, Fault};
use crate::folder::{Bookmark, ContentsRow, Flags, FolderRow};
use crate::id::{AdviseId, EntryId, MemberId, ObjectId, RequestId, SessionId};
use crate::notification::Notification;
use crate::request::{Blob, Folder, StatusCursor, StoreLogoff, Ticket};
use crate::version::Version;

/// A message that the broker sends after its hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromBroker {
    /// The answer to one request.
    Answer {
        /// The request.
        id: RequestId,
        /// The answer.
        #[serde(serialize_with = "apart")]
        result: Result<Reply, Fault>,
    },
    /// Something happened, without a request.
    Notify(Notification),
    /// The connection ends for this reason. No frame follows.
    Goodbye(Fault),
}

/// Encodes an answer in a function of its own, so that the cost of notifications, which go to thousands, does not depend on the
/// number of answers.
#[inline(never)]
fn apart<S: Serializer>(result: &Result<Reply, Fault>, serializer: S) -> Result<S::Ok, S::Error> {
    result.serialize(serializer)
}

/// The answer to a request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Success, without a result.
    Done,
    /// To a logon.
    LoggedOn(LoggedOn),
    /// To a logoff.
    LoggedOff(LoggedOff),
    /// To an advise: the connection number.
    Advised(AdviseId),
    /// To an open or a draft.
    Opened(ObjectId),
    /// To a list.
    Rows(Rows),
    /// To a read.
    Piece {
        /// The size of the whole message in bytes.
        size: u64,
        /// Bytes from the requested offset, at most [`MAX_BLOB`](crate::frame::MAX_BLOB); empty at the end.
        bytes: Blob,
    },
    /// To a submit.
    Submitted {
        /// The message's entry identifier.
        entry: EntryId,
        /// Its state; for a repeat, the state of the first submission.
        state: SubmissionState,
    },
    /// To a save.
    Saved(EntryId),
    /// To a setting: its value before a removal or after a change.
    Setting(Option<String>),
    /// To an address book's add.
    Added(EntryId),
    /// To a resolve: the entry with this name.
    Resolved(AddressRow),
    /// To a redeem: the granted object, which can be listed, read and released by this member's number.
    Redeemed {
        /// The number that stands for the reference in requests about the object.
        member: MemberId,
        /// The object.
        object: ObjectId,
        /// The kind of the object.
        granted: Granted,
    },
    /// To a status.
    Status(Box<Status>),
    /// To a queue's list or show.
    Queue {
        /// The rows, oldest first.
        rows: Vec<QueueRow>,
        /// The cursor of the next page; `None` at the end.
        next: Option<u64>,
    },
    /// To a flush of the queue: how many waiting messages are tried at once.
    Flushed(u64),
    /// To a store's logoff: the output flags.
    StoreLoggedOff(StoreLogoff),
    /// To a profile's deletion.
    ProfileDeleted(Deletion),
    /// To a broker: facts that `Status` has no field for.
    Broker(Box<BrokerStatus>),
    /// To a ticket: the newest ticket of the process.
    Ticket(Ticket),
    /// To a status page.
    StatusPage {
        /// The page. If the page before began a session, this page has only the further members and references of that session.
        status: Box<Status>,
        /// The cursor of the next page; `None` at the end.
        next: Option<StatusCursor>,
    },
    /// To a health.
    Health {
        /// The sessions of the page, oldest first. Those that are closing or could not start are not among them.
        sessions: Vec<SessionHealth>,
        /// The session behind which the next page begins; `None` at the end.
        next: Option<SessionId>,
        /// How many requests were made since the broker started, refused ones included; `None` for a user who does not see all sessions.
        requests: Option<u64>,
    },
    /// To a reload.
    Reloaded(Reloaded),
    /// To a message id: the value of the field, without the blanks around it; `None` if the message has no such field in its first
    /// [`MAX_BLOB`](crate::frame::MAX_BLOB) bytes.
    MessageId(Option<String>),
    /// To a folders.
    Folders {
        /// The rows, in the order of the folders' numbers.
        rows: Vec<FolderRow>,
        /// The folder behind which the next page begins; `None` at the end.
        next: Option<Folder>,
    },
    /// To a make folder.
    Made(Folder),
    /// To a contents.
    Contents {
        /// The rows.
        rows: Vec<ContentsRow>,
        /// The place of the next page; `None` at the end.
        next: Option<Bookmark>,
    },
    /// To a set flags: the flags that the message has now.
    Flags(Flags),
    /// To a search.
    Found {
        /// The messages, newest first.
        rows: Vec<ContentsRow>,
        /// The cursor of the next page; `None` at the end.
        next: Option<u64>,
        /// How many messages of the store are not in its index yet, which is built while the store is idle. The answer may lack
        /// them.
        unindexed: u64,
    },
    /// To a sync: what the mailboxes have found.
    Synced(Synced),
    /// To a question how mailboxes fare.
    Mailboxes {
        /// The mailboxes of the sessions on this page.
        mailboxes: Vec<MailboxState>,
        /// The session behind which the next page begins; `None` at the end.
        next: Option<SessionId>,
    },
}

/// The kind of a [`Reply`], without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the reply of that name")]
pub enum ReplyKind {
    Done,
    LoggedOn,
    LoggedOff,
    Advised,
    Opened,
    Rows,
    Piece,
    Submitted,
    Saved,
    Setting,
    Added,
    Resolved,
    Redeemed,
    Status,
    Queue,
    Flushed,
    StoreLoggedOff,
    ProfileDeleted,
    Broker,
    Ticket,
    StatusPage,
    Health,
    Reloaded,
    MessageId,
    Folders,
    Made,
    Contents,
    Flags,
    Found,
    Synced,
    Mailboxes,
}

impl Reply {
    /// The kind of this reply. [`Request::reply`](crate::request::Request::reply) names the kind that a request gets.
    pub fn kind(&self) -> ReplyKind {
        match self {
            Self::Done => ReplyKind::Done,
            Self::LoggedOn(_) => ReplyKind::LoggedOn,
            Self::LoggedOff(_) => ReplyKind::LoggedOff,
            Self::Advised(_) => ReplyKind::Advised,
            Self::Opened(_) => ReplyKind::Opened,
            Self::Rows(_) => ReplyKind::Rows,
            Self::Piece { .. } => ReplyKind::Piece,
            Self::Submitted { .. } => ReplyKind::Submitted,
            Self::Saved(_) => ReplyKind::Saved,
            Self::Setting(_) => ReplyKind::Setting,
            Self::Added(_) => ReplyKind::Added,
            Self::Resolved(_) => ReplyKind::Resolved,
            Self::Redeemed { .. } => ReplyKind::Redeemed,
            Self::Status(_) => ReplyKind::Status,
            Self::Queue { .. } => ReplyKind::Queue,
            Self::Flushed(_) => ReplyKind::Flushed,
            Self::StoreLoggedOff(_) => ReplyKind::StoreLoggedOff,
            Self::ProfileDeleted(_) => ReplyKind::ProfileDeleted,
            Self::Broker(_) => ReplyKind::Broker,
            Self::Ticket(_) => ReplyKind::Ticket,
            Self::StatusPage { .. } => ReplyKind::StatusPage,
            Self::Health { .. } => ReplyKind::Health,
            Self::Reloaded(_) => ReplyKind::Reloaded,
            Self::MessageId(_) => ReplyKind::MessageId,
            Self::Folders { .. } => ReplyKind::Folders,
            Self::Made(_) => ReplyKind::Made,
            Self::Contents { .. } => ReplyKind::Contents,
            Self::Flags(_) => ReplyKind::Flags,
            Self::Found { .. } => ReplyKind::Found,
            Self::Synced(_) => ReplyKind::Synced,
            Self::Mailboxes { .. } => ReplyKind::Mailboxes,
        }
    }
}

impl Reply {
    /// The same reply for a client of this version. A mailbox is a transport for a version that has no word for it; a reference to a
    /// folder that it has no number for is left out of a status, and cannot be redeemed (`MAPI_E_VERSION`).
    pub fn in_version(mut self, version: Version) -> Result<Self, Fault> {
        if version >= Version::V4 {
            return Ok(self);
        }
        match &mut self {
            Self::Rows(Rows { rows: TableRows::Status(rows), .. }) => {
                for row in rows {
                    row.resource.before_mailboxes();
                }
            }
            Self::Status(status) | Self::StatusPage { status, .. } => {
                for session in &mut status.sessions {
                    for provider in &mut session.providers {
                        provider.kind.before_mailboxes();
                    }
                    session.references.retain(|reference| reference.granted.is_before_folders());
                }
            }
            Self::Health { sessions, .. } => {
                for provider in sessions.iter_mut().flat_map(|s| &mut s.providers) {
                    provider.kind.before_mailboxes();
                }
            }
            Self::Redeemed { granted, .. } if !granted.is_before_folders() => {
                let text = "the granted folder is one that this version of the protocol cannot name; update the program";
                return Err(Fault::new(Code::E_VERSION, text));
            }
            _ => {}
        }
        Ok(self)
    }
}

/// When a deleted profile is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deletion {
    /// It is removed.
    Done,
    /// It is removed when the sessions that use it have ended.
    WhenUnused,
}

/// The kind of a granted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Granted {
    /// A message.
    Message(EntryId),
    /// A folder.
    Folder(Folder),
}

impl Granted {
    /// Whether the versions with the five folders of every store have a word for it.
    fn is_before_folders(self) -> bool {
        match self {
            Self::Message(_) => true,
            Self::Folder(folder) => folder.built_in().is_some(),
        }
    }
}

/// A new member of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOn {
    /// The member.
    pub member: MemberId,
    /// The session it belongs to.
    pub session: SessionId,
    /// The profile's name.
    pub profile: String,
    /// Whether other members may join.
    pub shared: bool,
    /// The profile's stores, the default one first.
    pub stores: Vec<String>,
    /// The sender of messages that name no sender, such as `user@host`.
    pub identity: String,
}

/// The result of a logoff.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOff {
    /// How many objects were still open; they are invalid now.
    pub invalidated: u64,
    /// How many unsaved drafts were thrown away.
    pub discarded: u64,
    /// How many of this member's submissions are not final.
    pub queued: u64,
    /// With [`WAIT`](crate::request::LogoffFlags::WAIT): the members that did not leave by themselves and were evicted.
    pub stayed: Vec<Peer>,
}

/// A process, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its process id.
    pub pid: u32,
    /// The name that it gave in its hello.
    pub program: String,
}

/// Rows of a table, and the cursor behind them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The rows.
    pub rows: TableRows,
    /// The cursor behind the last row; `None` at the end.
    pub next: Option<u64>,
}

/// The rows of a table, by the kind of table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableRows {
    /// A folder's contents.
    Messages(Vec<MessageRow>),
    /// The contents of an address book.
    Addresses(Vec<AddressRow>),
    /// The contents of the status table.
    Status(Vec<StatusRow>),
}

/// A row of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// `PR_ENTRYID`.
    pub entry: EntryId,
    /// `PR_SUBJECT`.
    pub subject: String,
    /// `PR_SENDER_NAME`, with the address.
    pub from: String,
    /// `PR_DISPLAY_TO`.
    pub to: String,
    /// `PR_MESSAGE_SIZE`, in bytes.
    pub size: u64,
    /// When the message came into the store, in milliseconds since 1970.
    pub received: u64,
    /// Whether the store kept the message for a program that ended without saving it.
    pub recovered: bool,
}

/// A row of an address book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRow {
    /// `PR_ENTRYID`.
    pub entry: EntryId,
    /// `PR_DISPLAY_NAME`.
    pub name: String,
    /// The addresses: one for a person, several for a list.
    pub addresses: Vec<String>,
}

/// A row of the status table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// `PR_DISPLAY_NAME`.
    pub name: String,
    /// `PR_RESOURCE_TYPE`.
    pub resource: Resource,
    /// `PR_STATUS_CODE`, bits of [`status_code`].
    pub code: u32,
    /// `PR_STATUS_STRING`.
    pub text: String,
    /// `PR_RESOURCE_METHODS`.
    pub methods: u32,
}

/// `PR_RESOURCE_TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Resource {
    /// `MAPI_SUBSYSTEM` 39.
    Subsystem,
    /// `MAPI_SPOOLER` 37.
    Spooler,
    /// `MAPI_AB` 34.
    AddressBook,
    /// `MAPI_TRANSPORT_PROVIDER` 36.
    TransportProvider,
    /// `MAPI_AB_PROVIDER` 35.
    AddressBookProvider,
    /// `MAPI_STORE_PROVIDER` 33.
    StoreProvider,
    /// A mailbox, which receives. MAPI's transports send and receive, so its number is that of a transport. A client of an earlier
    /// version sees a transport.
    Mailbox,
}

impl Resource {
    /// Replaces what the versions before mailboxes have no word for.
    fn before_mailboxes(&mut self) {
        if *self == Self::Mailbox {
            *self = Self::TransportProvider;
        }
    }

    /// The number in MAPI's headers.
    pub fn number(self) -> u32 {
        match self {
            Self::StoreProvider => 33,
            Self::AddressBook => 34,
            Self::AddressBookProvider => 35,
            Self::TransportProvider | Self::Mailbox => 36,
            Self::Spooler => 37,
            Self::Subsystem => 39,
        }
    }

    /// The name in output for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::StoreProvider => "store",
            Self::Mailbox => "mailbox",
            Self::AddressBook => "address-books",
            Self::AddressBookProvider => "address-book",
            Self::TransportProvider => "transport",
            Self::Spooler => "spooler",
            Self::Subsystem => "subsystem",
        }
    }
}

/// Bits of `PR_STATUS_CODE`.
pub mod status_code {
    /// `STATUS_AVAILABLE`: the resource works.
    pub const AVAILABLE: u32 = 0x1;
    /// `STATUS_OFFLINE`: only local data can be used.
    pub const OFFLINE: u32 = 0x2;
    /// `STATUS_FAILURE`: the resource has a problem.
    pub const FAILURE: u32 = 0x4;
    /// `STATUS_INBOUND_ENABLED`: the resource receives messages.
    pub const INBOUND_ENABLED: u32 = 0x1_0000;
    /// `STATUS_INBOUND_ACTIVE`: the resource is receiving a message.
    pub const INBOUND_ACTIVE: u32 = 0x2_0000;
    /// `STATUS_OUTBOUND_ENABLED`: the resource accepts messages.
    pub const OUTBOUND_ENABLED: u32 = 0x10_0000;
    /// `STATUS_OUTBOUND_ACTIVE`: the resource is sending a message.
    pub const OUTBOUND_ACTIVE: u32 = 0x20_0000;
    /// `PR_RESOURCE_METHODS`, `STATUS_FLUSH_QUEUES`.
    pub const METHOD_FLUSH_QUEUES: u32 = 0x8;
}

/// The state of a submission, or of one recipient of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SubmissionState {
    /// The broker has the message, and it is not durable yet.
    Accepted,
    /// The message is kept until it is released.
    Held,
    /// The message waits for its turn.
    Queued,
    /// A transport has the message, past the point after which it may have gone out.
    Transmitting,
    /// The message was tried, and will be tried again.
    Deferred,
    /// The message may have gone out; the broker cannot tell.
    Unknown,
    /// The message was handed to the next hop.
    Sent,
    /// The message failed for good, and the sender was told.
    Bounced,
    /// The message was taken back.
    Aborted,
}

impl SubmissionState {
    /// All states, in the order of the model.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Held,
        Self::Queued,
        Self::Transmitting,
        Self::Deferred,
        Self::Unknown,
        Self::Sent,
        Self::Bounced,
        Self::Aborted,
    ];

    /// Whether the state can no longer change.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Sent | Self::Bounced | Self::Aborted)
    }

    /// The name, as `status` and `queue` show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Queued => "queued",
            Self::Transmitting => "transmitting",
            Self::Deferred => "deferred",
            Self::Unknown => "unknown",
            Self::Sent => "sent",
            Self::Bounced => "bounced",
            Self::Aborted => "aborted",
        }
    }
}

/// The state of the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The broker's version.
    pub version: String,
    /// The broker's process id.
    pub pid: u32,
    /// The broker's socket.
    pub socket: String,
    /// When the broker started, in milliseconds since 1970.
    pub started: u64,
    /// The broker's sessions, oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Submissions by state, in the order of [`SubmissionState::ALL`]; final states are counted since the broker started.
    pub queue: [u64; 9],
    /// Submissions of members without mail, which wait for a member with mail.
    pub waiting_for_mail_member: u64,
}

impl Status {
    /// Whether the page is from the same broker as this status.
    pub fn is_of_broker_of(&self, page: &Self) -> bool {
        (self.pid, self.started) == (page.pid, page.started)
    }

    /// Appends the next page. A session that is on both pages is continued.
    pub fn append(&mut self, page: Self) {
        for session in page.sessions {
            match self.sessions.last_mut() {
                Some(begun) if begun.id == session.id => {
                    begun.members.extend(session.members);
                    begun.references.extend(session.references);
                }
                _ => self.sessions.push(session),
            }
        }
    }
}

/// How the previous broker ended, and how much of the limits is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// The previous broker of the data directory; `None` if there was none.
    pub previous: Option<Previous>,
    /// Limits, in the order of the settings.
    pub limits: Vec<LimitStatus>,
}

/// How a broker ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The process id of that broker.
    pub pid: u32,
    /// When it started, in milliseconds since 1970.
    pub started: u64,
    /// When it ended, in milliseconds since 1970; `None` if it left no record.
    pub ended: Option<u64>,
    /// In what way it ended.
    pub end: End,
    /// The reason in words, with the process or user that caused it.
    pub why: String,
}

/// In what way a broker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum End {
    /// The broker was stopped on request, and everything was in order.
    Stopped,
    /// The broker could not continue, and recorded why.
    Failed,
    /// The broker left no record: it was killed, or it crashed.
    Killed,
    /// The broker left no record, and the machine has been restarted since.
    MachineDown,
}

impl End {
    /// The name, as `status` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::MachineDown => "machine-down",
        }
    }
}

/// A limit of the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// The limit's key in `[limits]`.
    pub name: String,
    /// The limit.
    pub most: u64,
    /// How much of it its largest user uses now; `None` if that is not counted.
    pub used: Option<u64>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The session's id.
    pub id: SessionId,
    /// The session's profile.
    pub profile: String,
    /// Whether other members may join, or could before the session began to end.
    pub shared: bool,
    /// `starting`, `active`, `memberless`, `ending`, `failed`.
    pub state: String,
    /// The session's members, oldest first.
    pub members: Vec<MemberStatus>,
    /// The session's providers, in the profile's order.
    pub providers: Vec<ProviderStatus>,
    /// Objects of the session that other processes hold.
    pub references: Vec<ReferenceStatus>,
}

/// An object of a member that another process holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceStatus {
    /// The member that granted it.
    pub granter: MemberId,
    /// The process that holds it.
    pub holder: Peer,
    /// The kind of the object.
    pub granted: Granted,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member's id.
    pub id: MemberId,
    /// The member's process.
    pub peer: Peer,
    /// The user of that process.
    pub uid: u32,
    /// When the member logged on, in milliseconds since 1970.
    pub since: u64,
    /// `attached`, `draining`, `waiting`.
    pub state: String,
    /// Whether the member logged on without mail.
    pub no_mail: bool,
    /// How many objects the member has open.
    pub objects: u64,
}

/// A provider of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStatus {
    /// The provider's name in the profile.
    pub name: String,
    /// The provider's kind.
    pub kind: Resource,
    /// `starting`, `available`, `unreachable`, `failing: why` (what came of a transport's last use), `leaving: …` (the profile has
    /// changed, and the transport finishes what it has), `failed: why`, `damaged: why`, `late: no answer to CALL in time` (the call was given up in a fast
    /// shutdown, and the provider has not answered since), `logging off`, `logged off`.
    pub status: String,
    /// `supported`, `refused` or `absent`.
    pub fast_shutdown: String,
}

/// How a session's providers fare, and which version of its profile it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHealth {
    /// The session.
    pub session: SessionId,
    /// The version of its profile.
    pub profile: ProfileInUse,
    /// Its providers, in the order of [`SessionStatus::providers`].
    pub providers: Vec<ProviderHealth>,
}

/// Which version of a profile's file a session uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileInUse {
    /// When that version of the file was written, in milliseconds since 1970; `None` if there is no file.
    pub changed: Option<u64>,
    /// When the broker read it, in milliseconds since 1970.
    pub read: u64,
    /// Why the session does not use all of the present file: it has a mistake, or other stores, which the next session opens.
    pub note: Option<String>,
}

/// How a provider fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderHealth {
    /// The provider's name in the profile.
    pub name: String,
    /// The provider's kind.
    pub kind: Resource,
    /// For a transport, the outcome of the last time that it was used or asked whether it works; `None` if that was never.
    pub last: Option<LastOutcome>,
    /// When a transport last worked, in milliseconds since 1970.
    pub worked: Option<u64>,
    /// When the broker tries a transport again that cannot be reached or is disabled, in milliseconds since 1970.
    pub next_try: Option<u64>,
    /// How many messages a transport is handling.
    pub in_flight: u32,
}

/// What the mailboxes of a session have found in one look at everything.
///
/// ```
/// let found = sundown_protocol::reply::Synced { new: 2, ..Default::default() };
/// assert_eq!(found.pending, 0);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// Messages that are new.
    pub new: u64,
    /// Messages that have other flags, or are in another folder.
    pub changed: u64,
    /// Messages that are gone.
    pub removed: u64,
    /// Changes made here that a mailbox does not have yet.
    pub pending: u64,
}

/// How far a mailbox has come with what it fetches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syncing {
    /// Messages that are in the store as they are to be.
    pub done: u64,
    /// Messages that the mailbox has.
    pub total: u64,
}

/// How a mailbox fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxState {
    /// The session.
    pub session: SessionId,
    /// The mailbox's name in the profile.
    pub name: String,
    /// How many connections to a server it has.
    pub connections: u32,
    /// Changes made here that it does not have yet.
    pub pending: u64,
    /// How far it has come, while it fetches messages.
    pub syncing: Option<Syncing>,
    /// When it last looked at everything, in milliseconds since 1970.
    pub checked: Option<u64>,
    /// When something last changed in it, in milliseconds since 1970.
    pub changed: Option<u64>,
}

/// What came of using a transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOutcome {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Whether the transport worked: it handed a message over, or the server refused that message or its recipients for good.
    pub worked: bool,
    /// The server's reply, or what prevented it from being heard.
    pub text: String,
}

/// What came of reading a profile again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// How many sessions use the profile.
    pub sessions: u32,
    /// What came of it.
    pub result: Reload,
}

/// What came of reading a profile's file again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reload {
    /// The file is the one in use.
    Unchanged,
    /// The sessions use the new file. Stores change with the next session.
    Changed,
    /// The file has a mistake, this one, and the sessions use what they have.
    Refused(String),
    /// A directory service is being asked about users of the file. The sessions use it when it has answered.
    Later,
}

/// A submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// The entry identifier of the message.
    pub entry: EntryId,
    /// The profile in which it was submitted.
    pub profile: String,
    /// The state of the recipient that is furthest from being final.
    pub state: SubmissionState,
    /// The envelope's sender.
    pub from: String,
    /// The recipients, each with its state and the latest reply about it.
    pub recipients: Vec<RecipientRow>,
    /// `PR_SUBJECT`.
    pub subject: String,
    /// How often the message was tried.
    pub attempts: u32,
    /// When the message is tried next, in milliseconds since 1970.
    pub next_attempt: Option<u64>,
    /// The latest error.
    pub last_error: Option<String>,
    /// When the message was submitted, in milliseconds since 1970.
    pub submitted: u64,
    /// The size of the message in bytes.
    pub size: u64,
}

/// A recipient of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientRow {
    /// The address.
    pub address: String,
    /// The state for this recipient.
    pub state: SubmissionState,
    /// The transport's latest reply about it.
    pub reply: Option<String>,
}

/// The place of a message: its entry and its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The message.
    pub entry: EntryId,
    /// The message's folder.
    pub folder: Folder,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts compare the words of `--json` with each other.
    #[test]
    fn every_state_and_every_end_has_a_word_of_its_own() {
        let states = SubmissionState::ALL;
        let ends = [End::Stopped, End::Failed, End::Killed, End::MachineDown];
        assert_eq!(crate::words::of(&states), states.map(SubmissionState::name));
        assert_eq!(crate::words::of(&ends), ends.map(End::name));
    }

    #[test]
    fn every_resource_has_a_number_and_a_word_of_its_own() {
        let resources = [
            Resource::StoreProvider,
            Resource::AddressBook,
            Resource::AddressBookProvider,
            Resource::TransportProvider,
            Resource::Spooler,
            Resource::Subsystem,
        ];
        assert_eq!(resources.map(Resource::number), [33, 34, 35, 36, 37, 39]);
        assert_eq!(Resource::Mailbox.number(), Resource::TransportProvider.number());
        let words = ["store", "address-books", "address-book", "transport", "spooler", "subsystem"];
        assert_eq!(resources.map(Resource::name), words);
        assert_eq!(Resource::Mailbox.name(), "mailbox");
    }

    #[test]
    fn only_what_was_sent_returned_or_taken_back_is_final() {
        let is_final = SubmissionState::ALL.into_iter().filter(|state| state.is_final());
        let expected = [SubmissionState::Sent, SubmissionState::Bounced, SubmissionState::Aborted];
        assert_eq!(is_final.collect::<Vec<_>>(), expected);
    }
}
