//! What the broker answers. Every request gets exactly one answer: a reply or a fault.

use serde::{Deserialize, Serialize, Serializer};

use crate::code::Fault;
use crate::id::{AdviseId, EntryId, MemberId, ObjectId, RequestId, SessionId};
use crate::notification::Notification;
use crate::request::{Blob, Folder, StatusCursor, StoreLogoff, Ticket};

/// Everything the broker sends after its hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromBroker {
    /// The answer to one request.
    Answer {
        /// Which request.
        id: RequestId,
        /// The answer.
        #[serde(serialize_with = "apart")]
        result: Result<Reply, Fault>,
    },
    /// Something happened.
    Notify(Notification),
    /// The connection ends, and why. Nothing follows.
    Goodbye(Fault),
}

/// Encodes an answer in a function of its own: what notices cost, which go to thousands, does not depend on how many answers there are.
#[inline(never)]
fn apart<S: Serializer>(result: &Result<Reply, Fault>, serializer: S) -> Result<S::Ok, S::Error> {
    result.serialize(serializer)
}

/// The answer to a request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; there is nothing more to say.
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
        /// Bytes from the offset asked for, at most [`MAX_BLOB`](crate::frame::MAX_BLOB); empty at the end.
        bytes: Blob,
    },
    /// To a submit.
    Submitted {
        /// The message's entry identifier.
        entry: EntryId,
        /// Its state; of a repeat, the state of the first.
        state: SubmissionState,
    },
    /// To a save.
    Saved(EntryId),
    /// To a setting: its value before removal or after a change.
    Setting(Option<String>),
    /// To an address book's add.
    Added(EntryId),
    /// To a resolve: what the name stands for.
    Resolved(AddressRow),
    /// To a redeem: the granted object. It takes list, read and release, by this member's number.
    Redeemed {
        /// Stands for the reference in requests about the object.
        member: MemberId,
        /// The object.
        object: ObjectId,
        /// What it is.
        granted: Granted,
    },
    /// To a status.
    Status(Box<Status>),
    /// To a queue's list or show.
    Queue {
        /// The rows, oldest first.
        rows: Vec<QueueRow>,
        /// Where to go on; `None` at the end.
        next: Option<u64>,
    },
    /// To a flush of the queue: how many messages are tried at once that had to wait.
    Flushed(u64),
    /// To a store's logoff: flags that come out.
    StoreLoggedOff(StoreLogoff),
    /// To a profile's deletion.
    ProfileDeleted(Deletion),
    /// To a broker's: what `Status` has no place for.
    Broker(Box<BrokerStatus>),
    /// To a ticket: the process's own, as it is now.
    Ticket(Ticket),
    /// To a status page.
    StatusPage {
        /// The page. A session that the page before began has its further members and references, and nothing else.
        status: Box<Status>,
        /// Where to go on; `None` at the end.
        next: Option<StatusCursor>,
    },
}

/// Which of the replies a reply is.
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
}

impl Reply {
    /// Which one it is. [`Request::reply`](crate::request::Request::reply) says which one a request has.
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
        }
    }
}

/// When a profile goes that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// When the sessions that use it have ended.
    WhenUnused,
}

/// What a granted object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Granted {
    /// A message.
    Message(EntryId),
    /// A folder.
    Folder(Folder),
}

/// One new member of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOn {
    /// The member.
    pub member: MemberId,
    /// The session it belongs to.
    pub session: SessionId,
    /// The profile's name.
    pub profile: String,
    /// Whether others may join.
    pub shared: bool,
    /// The profile's stores, the default one first.
    pub stores: Vec<String>,
    /// The local addresses' default for a missing sender, such as `user@host`.
    pub identity: String,
}

/// How a logoff went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOff {
    /// Objects that were still open and are invalid now.
    pub invalidated: u64,
    /// Unsaved drafts that were thrown away.
    pub discarded: u64,
    /// This member's submissions that are not final.
    pub queued: u64,
    /// With [`WAIT`](crate::request::LogoffFlags::WAIT): who did not leave by itself and was evicted.
    pub stayed: Vec<Peer>,
}

/// A process, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its process id.
    pub pid: u32,
    /// The name it gave.
    pub program: String,
}

/// Rows of a table and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The rows.
    pub rows: TableRows,
    /// The cursor behind the last row; `None` at the end.
    pub next: Option<u64>,
}

/// Rows of one kind of table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableRows {
    /// A folder's contents.
    Messages(Vec<MessageRow>),
    /// An address book's.
    Addresses(Vec<AddressRow>),
    /// The status table's.
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
    /// When it came into the store, in milliseconds since 1970.
    pub received: u64,
    /// Whether it was kept for a program that ended without saving it.
    pub recovered: bool,
}

/// A row of an address book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRow {
    /// `PR_ENTRYID`.
    pub entry: EntryId,
    /// `PR_DISPLAY_NAME`.
    pub name: String,
    /// One address is a person, several are a list.
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
}

impl Resource {
    /// The number in MAPI's headers.
    pub fn number(self) -> u32 {
        match self {
            Self::StoreProvider => 33,
            Self::AddressBook => 34,
            Self::AddressBookProvider => 35,
            Self::TransportProvider => 36,
            Self::Spooler => 37,
            Self::Subsystem => 39,
        }
    }

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StoreProvider => "store",
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
    /// `STATUS_AVAILABLE`: works.
    pub const AVAILABLE: u32 = 0x1;
    /// `STATUS_OFFLINE`: local data only.
    pub const OFFLINE: u32 = 0x2;
    /// `STATUS_FAILURE`: in trouble.
    pub const FAILURE: u32 = 0x4;
    /// `STATUS_OUTBOUND_ENABLED`: takes messages.
    pub const OUTBOUND_ENABLED: u32 = 0x10_0000;
    /// `STATUS_OUTBOUND_ACTIVE`: sends one.
    pub const OUTBOUND_ACTIVE: u32 = 0x20_0000;
    /// `PR_RESOURCE_METHODS`, `STATUS_FLUSH_QUEUES`.
    pub const METHOD_FLUSH_QUEUES: u32 = 0x8;
}

/// The state of a submission, or of one recipient of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SubmissionState {
    /// Taken over, and not yet durable.
    Accepted,
    /// Waits for somebody to release it.
    Held,
    /// Waits for its turn.
    Queued,
    /// With a transport, past the point where it may have gone out.
    Transmitting,
    /// Tried, to be tried again.
    Deferred,
    /// May have gone out; nobody knows.
    Unknown,
    /// Handed to the next hop.
    Sent,
    /// Failed for good; the sender has been told.
    Bounced,
    /// Withdrawn.
    Aborted,
}

impl SubmissionState {
    /// All of them, in the order of the model.
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

    /// Whether nothing more will happen by itself or otherwise.
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

/// What the broker is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The broker's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Its socket.
    pub socket: String,
    /// When it started, in milliseconds since 1970.
    pub started: u64,
    /// Its sessions, oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Submissions by state, in the order of [`SubmissionState::ALL`]; the final ones since the broker started.
    pub queue: [u64; 9],
    /// Submissions of members without mail, which wait for a member with mail.
    pub waiting_for_mail_member: u64,
}

impl Status {
    /// Whether a page is of the broker that this one is of.
    pub fn is_of_broker_of(&self, page: &Self) -> bool {
        (self.pid, self.started) == (page.pid, page.started)
    }

    /// Appends the next page. A session that is in both goes on.
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

/// What the broker has come from, and how much of its limits is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// The broker that had the data before; `None` when there was none.
    pub previous: Option<Previous>,
    /// Limits, in the order of the settings.
    pub limits: Vec<LimitStatus>,
}

/// How a broker ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its process id.
    pub pid: u32,
    /// When it started, in milliseconds since 1970.
    pub started: u64,
    /// When it ended, in milliseconds since 1970; `None` when it could not say.
    pub ended: Option<u64>,
    /// In what way.
    pub end: End,
    /// In words: by what, by whom, because of what.
    pub why: String,
}

/// In what way a broker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum End {
    /// It was asked to, and everything was in order.
    Stopped,
    /// It could not go on, and said why.
    Failed,
    /// It said nothing: it was killed, or it crashed.
    Killed,
    /// It said nothing, and the machine has started since.
    MachineDown,
}

impl End {
    /// A word for it, as `status` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::MachineDown => "machine-down",
        }
    }
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Its key in `[limits]`.
    pub name: String,
    /// The limit.
    pub most: u64,
    /// How much of it the one who has most of it uses now; `None` where that is not counted.
    pub used: Option<u64>,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its id.
    pub id: SessionId,
    /// Its profile.
    pub profile: String,
    /// Whether others may join, or might before it began to end.
    pub shared: bool,
    /// `starting`, `active`, `memberless`, `ending`, `failed`.
    pub state: String,
    /// Its members, oldest first.
    pub members: Vec<MemberStatus>,
    /// Its providers in the profile's order.
    pub providers: Vec<ProviderStatus>,
    /// Objects of it that other processes hold.
    pub references: Vec<ReferenceStatus>,
}

/// An object of a member that another process holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceStatus {
    /// Who granted it.
    pub granter: MemberId,
    /// Who holds it.
    pub holder: Peer,
    /// What it is.
    pub granted: Granted,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its id.
    pub id: MemberId,
    /// Its process.
    pub peer: Peer,
    /// Its user.
    pub uid: u32,
    /// When it logged on, in milliseconds since 1970.
    pub since: u64,
    /// `attached`, `draining`, `waiting`.
    pub state: String,
    /// Whether it logged on without mail.
    pub no_mail: bool,
    /// Its open objects.
    pub objects: u64,
}

/// One provider of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStatus {
    /// Its name in the profile.
    pub name: String,
    /// What kind it is.
    pub kind: Resource,
    /// `starting`, `available`, `failed: why`, `damaged: why`, `late: no answer to CALL in time` (it was given up in a fast
    /// shutdown, and has answered nothing since), `logging off`, `logged off`.
    pub status: String,
    /// `supported`, `refused` or `absent`.
    pub fast_shutdown: String,
}

/// One submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Its entry identifier.
    pub entry: EntryId,
    /// The profile it was submitted in.
    pub profile: String,
    /// The state of its least finished recipient.
    pub state: SubmissionState,
    /// The envelope's sender.
    pub from: String,
    /// Each recipient with its state and what was last said about it.
    pub recipients: Vec<RecipientRow>,
    /// `PR_SUBJECT`.
    pub subject: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, in milliseconds since 1970.
    pub next_attempt: Option<u64>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// One recipient of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientRow {
    /// The address.
    pub address: String,
    /// Its state.
    pub state: SubmissionState,
    /// The transport's last word on it.
    pub reply: Option<String>,
}

/// A row that shows where a message is: its entry and its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The message.
    pub entry: EntryId,
    /// Its folder.
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
        let words = ["store", "address-books", "address-book", "transport", "spooler", "subsystem"];
        assert_eq!(resources.map(Resource::name), words);
    }

    #[test]
    fn only_what_was_sent_returned_or_taken_back_is_final() {
        let is_final = SubmissionState::ALL.into_iter().filter(|state| state.is_final());
        let expected = [SubmissionState::Sent, SubmissionState::Bounced, SubmissionState::Aborted];
        assert_eq!(is_final.collect::<Vec<_>>(), expected);
    }
}
