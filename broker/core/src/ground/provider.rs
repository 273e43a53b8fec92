//! The calls of providers and their answers: plain values, which the daemon carries over channels.
//!
//! The traits that a provider implements are in `sundown-providers`. This module is their vocabulary.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sundown_protocol::folder::{
    Bookmark, ContentsRow, Filter, Flags, FolderRow, Marks, Role, Sort,
};
use sundown_protocol::notification::FolderChange;
use sundown_protocol::reply::{AddressRow, MessageRow, Place, QueueRow, RecipientRow};
pub use sundown_protocol::reply::{SubmissionState, Synced, Syncing};
use sundown_protocol::request::{AddressAction, Folder, Notify, Report, Route, SettingChange};
use sundown_protocol::{Code, Fault};

pub use crate::ground::expected::{Expected, Known, Wrong};

/// The four types of providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProviderType {
    /// Delivers messages.
    Transport,
    /// Receives messages, and keeps a store and an account alike. In the founding texts that is a part of a transport.
    Mailbox,
    /// Knows people and their addresses.
    AddressBook,
    /// Keeps messages and the outgoing queue.
    Store,
}

impl ProviderType {
    /// All types.
    pub const ALL: [Self; 4] = [Self::Transport, Self::Mailbox, Self::AddressBook, Self::Store];

    /// The order in which every shutdown calls providers (SEED-16). What is in one phase is called at once.
    pub const SHUTDOWN_ORDER: [&'static [Self]; 3] =
        [&[Self::Transport, Self::Mailbox], &[Self::AddressBook], &[Self::Store]];

    /// Its phase in that order.
    pub fn phase(self) -> usize {
        match self {
            Self::Transport | Self::Mailbox => 0,
            Self::AddressBook => 1,
            Self::Store => 2,
        }
    }

    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Mailbox => "mailbox",
            Self::AddressBook => "address-book",
            Self::Store => "store",
        }
    }
}

/// A provider as a profile configures it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderSpec {
    /// Its name, unique in the profile and type.
    pub name: String,
    /// The implementation: `sqlite`, `maildir`, `smtp`.
    pub kind: String,
    /// Where its data is. Two stores with one path share an engine.
    pub path: PathBuf,
    /// Its other settings in the profile, by key. A value may be a command line that contains a secret. Code that shows a spec
    /// leaves the values out, as its `Debug` does.
    pub options: Vec<(String, String)>,
    /// The administrator's setting about fast shutdown.
    pub fast_shutdown: FastShutdown,
}

impl fmt::Debug for ProviderSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.options.iter().map(|(key, _)| key).collect();
        f.debug_struct("ProviderSpec")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("path", &self.path)
            .field("options", &keys)
            .field("fast_shutdown", &self.fast_shutdown)
            .finish()
    }
}

/// `fast_shutdown` of a provider's section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastShutdown {
    /// The provider's own answer counts.
    Supported,
    /// The provider refuses.
    Refused,
    /// The provider is treated as if it did not know the interface.
    Absent,
}

impl FastShutdown {
    /// The word in settings and in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Refused => "refused",
            Self::Absent => "absent",
        }
    }
}

/// The error of a provider that fails. It becomes the fault of the request that led to the call, if one did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderError {
    /// A MAPI code.
    pub code: Code,
    /// What happened to what, and what to do.
    pub message: String,
    /// What the call has done although it failed.
    pub effect: Effect,
    /// What the failure concerns.
    pub scope: Scope,
    /// Whether a server was asked for it.
    pub heard: Heard,
}

/// Whether a server was asked for what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was, or there is no server.
    Now,
    /// It was asked before and is left alone now: this is what it said then.
    Before,
}

/// What a failed call has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it was refused.
    Nothing,
    /// Nothing or all of it. A commit whose sync failed may be there after a restart.
    Unknown,
}

/// What a failure concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This call; other calls may succeed.
    Call,
    /// The store: its files were removed or replaced while they were open. It accepts no more writes, nothing is sent from it, and
    /// the sessions that use it end.
    Store,
    /// A transport's server as a whole: it cannot be reached, or it refuses to talk before it has heard of a message. Any other
    /// message would be told the same, so none is tried until the transport was asked whether it works.
    Server,
    /// A message whose bytes are at a server, and not in the store yet: its mailbox can fetch them.
    Elsewhere,
    /// The store's disk: a write failed, and it is unknown what was written. The store accepts no more writes until it is opened
    /// again; `status` says so.
    Disk,
}

impl ProviderError {
    /// Whether a transport's server as a whole failed or refused, and not a message. There may also be no network at all. A
    /// refused password is not among this: the broker counts it, whatever the scope of its error.
    pub(crate) fn is_of_the_server(&self) -> bool {
        self.code == Code::E_NETWORK_ERROR
            || self.scope == Scope::Server && self.code != Code::E_LOGON_FAILED
    }

    /// An error with this code. The call has done nothing, and other calls may succeed.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (effect, scope, heard) = (Effect::Nothing, Scope::Call, Heard::Now);
        Self { code, message: message.into(), effect, scope, heard }
    }

    /// Marks the error as one of a call that may have been done.
    #[must_use]
    pub fn effect_unknown(self) -> Self {
        Self { effect: Effect::Unknown, ..self }
    }

    /// Marks the error as what a server said before, which was not asked again.
    #[must_use]
    pub fn heard_before(self) -> Self {
        Self { heard: Heard::Before, ..self }
    }

    /// Marks the error as one of a transport's server as a whole.
    #[must_use]
    pub fn of_server(self) -> Self {
        Self { scope: Scope::Server, ..self }
    }

    /// Marks the error as one of a message whose bytes are not here.
    #[must_use]
    pub fn of_other_bytes(self) -> Self {
        Self { scope: Scope::Elsewhere, ..self }
    }

    /// Marks the error as one of a store that accepts no more writes because its disk has failed.
    #[must_use]
    pub fn of_failed_store(self) -> Self {
        Self { scope: Scope::Disk, ..self }
    }

    /// Marks the error as one of a store whose files are lost.
    #[must_use]
    pub fn of_lost_store(self) -> Self {
        Self { scope: Scope::Store, ..self }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code.name())
    }
}

impl std::error::Error for ProviderError {}

/// The fault a process gets. Only the broker says that a process has left or that its session has ended: a provider with such a
/// code speaks of itself, so its code is replaced. A lost store ends its sessions, so its code is kept.
impl From<ProviderError> for Fault {
    fn from(error: ProviderError) -> Self {
        let code = match (error.code, error.scope) {
            (Code::E_END_OF_SESSION, Scope::Store) => Code::E_END_OF_SESSION,
            (Code::E_NOT_INITIALIZED | Code::E_END_OF_SESSION, _) => Code::E_CALL_FAILED,
            (code, _) => code,
        };
        Fault::new(code, error.message)
    }
}

/// One call of one provider.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderCall {
    /// Gets ready for a session (`Logon`, `TransportLogon`). The first logon opens a store's engine.
    Logon,
    /// Creates the provider again and logs it on as often as it was, because it said after the Do of one process that it is shut
    /// down. The answer is that of a logon.
    Renew,
    /// Ends the use by a session (`Logoff`, `TransportLogoff`). It cannot refuse (PLOG-5).
    Logoff,
    /// To a store. Writes are applied in the order given, each whole or not at all.
    Write(StoreWrite),
    /// To a store, beside its writes.
    Read(StoreRead),
    /// To a transport.
    Transport(TransportCall),
    /// To a mailbox.
    Mailbox(MailboxCall),
    /// To an address book.
    Address(AddressCall),
    /// `IMAPIProviderShutdown::QueryFastShutdown`: whether the provider supports it. Its first answer holds.
    QueryFastShutdown,
    /// `IMAPIProviderShutdown::NotifyProcessShutdown`: a process is going to leave.
    NotifyProcessShutdown,
    /// `IMAPIProviderShutdown::DoFastShutdown`: a process leaves. Its writes are durable when this is answered.
    DoFastShutdown,
}

impl ProviderCall {
    /// The name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Logon => "Logon",
            Self::Renew => "Renew",
            Self::Logoff => "Logoff",
            Self::Write(write) => write.name(),
            Self::Read(read) => read.name(),
            Self::Transport(call) => call.name(),
            Self::Mailbox(call) => call.name(),
            Self::Address(call) => call.name(),
            Self::QueryFastShutdown => "QueryFastShutdown",
            Self::NotifyProcessShutdown => "NotifyProcessShutdown",
            Self::DoFastShutdown => "DoFastShutdown",
        }
    }
}

/// A provider's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderAnswer {
    /// Done; there is no more to say.
    Done,
    /// To one of the shutdown calls: the provider does not know the interface, and was not called.
    Unaware,
    /// To one of the shutdown calls: the provider supports them, has nothing to save, and was not called.
    Untouched,
    /// A store's, to a logon.
    StoreOpened(StoreFacts),
    /// A transport's, to a logon.
    TransportReady(TransportFacts),
    /// To an append: the size of the upload now, in bytes.
    Appended(u64),
    /// To a submit: the submission as it stands, and whether this call stored it.
    Submitted {
        /// As it stands in the store.
        submission: Box<Submission>,
        /// False when the key was there before.
        new: bool,
    },
    /// To a save.
    Saved {
        /// Where it is.
        place: Place,
        /// False when the key was there before.
        new: bool,
    },
    /// To an update: where the message went, and the notification that was put into the Inbox with it.
    Updated {
        /// The message's folder after the update, if it moved.
        moved: Option<Folder>,
        /// The notification, if one was put into the Inbox.
        notice: Option<Box<StoredDsn>>,
        /// Whether a mailbox is to take the message, because it was sent.
        pending: bool,
    },
    /// To a slice of a hasten.
    Hastened {
        /// How many were made due.
        found: u64,
        /// The cursor to go on, if there may be more.
        next: Option<u64>,
    },
    /// To a delete: the folder it was in, and the one it is in now.
    Removed {
        /// Where it was.
        from: Folder,
        /// Where it is; `None` when it is gone.
        to: Option<Folder>,
    },
    /// To a change of flags: where the message is, and its flags now.
    Flagged {
        /// Where it is.
        folder: Folder,
        /// Its flags.
        flags: Flags,
        /// Whether this call changed them.
        changed: bool,
    },
    /// To a move: where the message was, and where it is now, which may be the same folder.
    Moved {
        /// Where it was.
        from: Folder,
        /// Where it is.
        to: Folder,
    },
    /// To a new folder.
    FolderMade(Folder),
    /// To what a mailbox says: what has changed.
    Mirrored(Vec<StoreChange>),
    /// To a list of folders.
    Folders {
        /// The rows, in the order of their numbers.
        rows: Vec<FolderRow>,
        /// The cursor to go on.
        next: Option<Folder>,
    },
    /// To a page of a contents table.
    Contents {
        /// The rows.
        rows: Vec<ContentsRow>,
        /// The place to go on.
        next: Option<Bookmark>,
    },
    /// To a search.
    Hits {
        /// The rows, newest first.
        rows: Vec<ContentsRow>,
        /// The cursor to go on.
        next: Option<u64>,
        /// How many messages are not in the index yet.
        unindexed: u64,
    },
    /// To a question for what lies in a directory of a mailbox.
    Spots {
        /// The names and the flags last seen there, in the order of the names. Keywords are those of an account.
        rows: Vec<(String, Flags)>,
        /// Whether there are more.
        more: bool,
    },
    /// To a question for the directories of a mailbox.
    Directories {
        /// The directories, in their order.
        dirs: Vec<String>,
        /// Whether the mailbox has been looked at as a whole before.
        passed: bool,
        /// Whether there are more.
        more: bool,
    },
    /// To a question for folders that a mailbox does not have yet as they are.
    ChangedFolders(Vec<ChangedFolder>),
    /// To a question for changes that a mailbox does not have yet.
    Pending {
        /// The changes.
        rows: Vec<Pending>,
        /// The cursor to go on.
        next: Option<u64>,
    },
    /// To a question how far a directory of an account is mirrored; nothing if it is not yet.
    Cursor(Option<Cursor>),
    /// To a question for figures of a mailbox.
    Tally(Tally),
    /// Of a mailbox that has looked at everything: what it has found.
    Synced(Synced),
    /// To a question for messages of an account whose bytes are to be fetched.
    Fetches {
        /// Where they are, and their sizes as the server says.
        rows: Vec<(Spot, u64)>,
        /// The cursor to go on.
        next: Option<u64>,
    },
    /// To a setting: its value before a removal or after a change.
    Setting(Option<String>),
    /// To a folder's list.
    Messages {
        /// The rows.
        rows: Vec<MessageRow>,
        /// The cursor to go on.
        next: Option<u64>,
    },
    /// To a message's look-up.
    Found {
        /// Where it is.
        folder: Folder,
        /// Its size in bytes.
        size: u64,
    },
    /// To a read.
    Piece {
        /// The size of the whole message.
        size: u64,
        /// The bytes asked for.
        bytes: Vec<u8>,
        /// Whether it is the beginning of an unread delivery status notification.
        unread_notice: bool,
    },
    /// To a question for what is due, in order of due time.
    Due {
        /// Submissions that are neither final nor held.
        submissions: Vec<Submission>,
        /// Whether there are more after them.
        more: bool,
        /// How many are damaged and left out.
        damaged: usize,
    },
    /// To a queue's list.
    Queue {
        /// The rows.
        rows: Vec<Submission>,
        /// The cursor to go on.
        next: Option<u64>,
    },
    /// To a question for the oldest: its time in milliseconds since 1970, if there is one.
    Oldest(Option<u64>),
    /// A transport's, to a prepare.
    Prepared {
        /// What [`TransportCall::Recover`] needs to find out what became of it.
        marker: String,
        /// Recipients that were refused already. They take no part in the following steps.
        refused: Vec<RecipientResult>,
    },
    /// A transport's, to a complete or recover: one result for each recipient that took part.
    Results(Vec<RecipientResult>),
    /// An address book's, to a list.
    Addresses {
        /// The rows.
        rows: Vec<AddressRow>,
        /// The cursor to go on.
        next: Option<u64>,
    },
    /// An address book's, to an add or resolve.
    Address(AddressRow),
}

impl ProviderAnswer {
    /// The name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Unaware => "Unaware",
            Self::Untouched => "Untouched",
            Self::StoreOpened(_) => "StoreOpened",
            Self::TransportReady(_) => "TransportReady",
            Self::Appended(_) => "Appended",
            Self::Submitted { .. } => "Submitted",
            Self::Saved { .. } => "Saved",
            Self::Updated { .. } => "Updated",
            Self::Hastened { .. } => "Hastened",
            Self::Removed { .. } => "Removed",
            Self::Flagged { .. } => "Flagged",
            Self::Moved { .. } => "Moved",
            Self::FolderMade(_) => "FolderMade",
            Self::Mirrored(_) => "Mirrored",
            Self::Folders { .. } => "Folders",
            Self::Contents { .. } => "Contents",
            Self::Hits { .. } => "Hits",
            Self::Spots { .. } => "Spots",
            Self::Directories { .. } => "Directories",
            Self::ChangedFolders(_) => "ChangedFolders",
            Self::Pending { .. } => "Pending",
            Self::Cursor(_) => "Cursor",
            Self::Fetches { .. } => "Fetches",
            Self::Tally(_) => "Tally",
            Self::Synced(_) => "Synced",
            Self::Setting(_) => "Setting",
            Self::Messages { .. } => "Messages",
            Self::Found { .. } => "Found",
            Self::Piece { .. } => "Piece",
            Self::Due { .. } => "Due",
            Self::Queue { .. } => "Queue",
            Self::Oldest(_) => "Oldest",
            Self::Prepared { .. } => "Prepared",
            Self::Results(_) => "Results",
            Self::Addresses { .. } => "Addresses",
            Self::Address(_) => "Address",
        }
    }
}

/// What a store's engine says when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFacts {
    /// The store's number, chosen at random when the store was created.
    pub uid: u32,
    /// Submissions by state, in the order of [`SubmissionState::ALL`]; final ones are not counted.
    pub queue: [u64; 9],
    /// How many of them wait for a member with mail.
    pub no_mail: u64,
    /// What is damaged in it, as far as that is known, and what to do.
    pub damage: Option<String>,
    /// What it has of its clock: the last [`StoreWrite::Clock`].
    pub clock: KeptClock,
}

/// What a store keeps of its clock, by which the ages of its messages are told. The clock goes while a broker runs, and never back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptClock {
    /// The number of the broker's clock that it follows; zero before the first.
    pub clock: u64,
    /// How many milliseconds it is ahead of that clock.
    pub ahead: i64,
    /// What it showed, in milliseconds.
    pub ran: u64,
}

/// How a transport wants to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFacts {
    /// The most messages that it may be handed at once. Messages that wait behind them can still be held and aborted.
    pub window: usize,
    /// The most recipients that one transmission may have.
    pub recipients: usize,
    /// How long it may take for one message, plus a second for each KiB. A transport that takes longer hangs: it is left behind,
    /// and another instance of it is created.
    pub longest: Duration,
}

impl Default for TransportFacts {
    /// Enough messages at once to fill a group commit, with any number of recipients, each within an hour.
    fn default() -> Self {
        Self { window: 64, recipients: usize::MAX, longest: Duration::from_secs(3_600) }
    }
}

/// A change of a store. Each is applied whole or not at all; the answer comes after the commit that contains it.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreWrite {
    /// Appends a piece to an upload. The append is not synced; the submit or save that uses it is.
    Append {
        /// The upload.
        upload: u64,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// Discards an upload.
    Discard {
        /// The upload.
        upload: u64,
    },
    /// Puts a message into the Outbox and the queue.
    Submit {
        /// Everything but subject, size and order, which the store fills in.
        submission: Box<Submission>,
        /// The message.
        content: MessageContent,
        /// Whether the commit may wait a little for other writes.
        deferred: bool,
    },
    /// Puts a message into a folder.
    Save {
        /// Its record.
        record: u128,
        /// The folder.
        folder: Folder,
        /// The message.
        content: MessageContent,
        /// Its flags.
        flags: Flags,
        /// Whether it is kept for a program that ended without saving it.
        recovered: bool,
        /// When it came, in milliseconds since 1970.
        now: u64,
    },
    /// Copies a message. A copy with this record that exists is answered as it is.
    Copy {
        /// Its record.
        record: u128,
        /// The record of the copy.
        copy: u128,
        /// The folder of the copy.
        to: Folder,
    },
    /// Moves a message.
    Move {
        /// Its record.
        record: u128,
        /// Its new folder.
        to: Folder,
    },
    /// Changes the flags of a message.
    SetFlags {
        /// Its record.
        record: u128,
        /// Flags to set.
        add: Flags,
        /// Flags to remove.
        remove: Flags,
    },
    /// Makes a folder.
    MakeFolder {
        /// The folder to make it in.
        parent: Option<Folder>,
        /// Its name.
        name: String,
    },
    /// Gives a folder another name.
    RenameFolder {
        /// The folder.
        folder: Folder,
        /// Its new name.
        name: String,
    },
    /// Removes an empty folder.
    RemoveFolder {
        /// The folder.
        folder: Folder,
    },
    /// What a mailbox has seen and done.
    Mirror(Box<Mirror>),
    /// Puts a submission into another state. A final submission leaves the Outbox. If the update has a notification, it is put into
    /// the Inbox.
    Update(Box<SubmissionUpdate>),
    /// Makes one slice of the deferred submissions due now.
    Hasten {
        /// Only those of this profile.
        profile: Option<String>,
        /// Only what this user submitted.
        uid: Option<u32>,
        /// Only those after this order.
        after: u64,
        /// Wall time in milliseconds since 1970.
        now: u64,
    },
    /// Notes that a delivery status notification was read. The bounce that it reports is then no longer listed.
    Seen {
        /// The notification's record.
        record: u128,
    },
    /// Deletes a message: it moves to Deleted, or is deleted for good if it is there.
    Delete {
        /// Its record.
        record: u128,
    },
    /// Deletes a message that is in this folder. A message that is elsewhere is not found.
    DeleteFrom {
        /// Its record.
        record: u128,
        /// Where it is.
        from: Folder,
    },
    /// Changes a profile section.
    Setting {
        /// The section.
        section: String,
        /// The property.
        name: String,
        /// The change; never `Keep`.
        change: SettingChange,
    },
    /// Keeps what the store's clock shows.
    Clock(KeptClock),
    /// Makes everything before it durable.
    Flush,
}

/// How soon a write must be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It needs no sync.
    Unsynced,
    /// Within 50 ms.
    Deferred,
    /// Now.
    Now,
}

impl StoreWrite {
    /// How soon it must be committed.
    pub fn urgency(&self) -> Urgency {
        match self {
            Self::Append { .. } | Self::Discard { .. } | Self::Seen { .. } => Urgency::Unsynced,
            Self::Submit { deferred: true, .. } => Urgency::Deferred,
            Self::Mirror(mirror) => mirror.urgency(),
            _ => Urgency::Now,
        }
    }

    /// The name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Append { .. } => "Append",
            Self::Discard { .. } => "Discard",
            Self::Submit { .. } => "SubmitMessage",
            Self::Save { .. } => "SaveChanges",
            Self::Update(_) => "UpdateSubmission",
            Self::Hasten { .. } => "FlushQueues",
            Self::Seen { .. } => "SetReadFlag",
            Self::SetFlags { .. } => "SetMessageFlags",
            Self::Move { .. } => "MoveMessages",
            Self::Copy { .. } => "CopyMessages",
            Self::MakeFolder { .. } => "CreateFolder",
            Self::RenameFolder { .. } => "RenameFolder",
            Self::RemoveFolder { .. } => "DeleteFolder",
            Self::Mirror(_) => "Mirror",
            Self::Delete { .. } | Self::DeleteFrom { .. } => "DeleteMessage",
            Self::Setting { .. } => "SetProps",
            Self::Clock(_) => "KeepClock",
            Self::Flush => "Flush",
        }
    }
}

/// The bytes of a message that is handed to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageContent {
    /// The bytes themselves.
    Inline(Vec<u8>),
    /// The number of an upload that has the bytes.
    Uploaded(u64),
}

impl MessageContent {
    /// How many of its bytes are in memory rather than in a store.
    pub(crate) fn in_memory(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Uploaded(_) => 0,
        }
    }
}

/// A question to a store. It sees what was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRead {
    /// A folder's rows after a cursor.
    List {
        /// The folder.
        folder: Folder,
        /// Zero, or the cursor of the last answer.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// The folders.
    Folders {
        /// The folder behind which the page begins.
        after: Option<Folder>,
        /// The most rows.
        limit: u32,
    },
    /// One folder → [`ProviderAnswer::Folders`] with its row.
    FindFolder {
        /// The folder.
        folder: Folder,
    },
    /// A page of a folder's contents table.
    Contents {
        /// The folder.
        folder: Folder,
        /// The order.
        sort: Sort,
        /// Which rows.
        only: Filter,
        /// The place of the last answer.
        after: Option<Bookmark>,
        /// The most rows.
        limit: u32,
    },
    /// Messages with these words, newest first.
    Search {
        /// The words.
        words: String,
        /// The folder to look in; `None` for all but Deleted.
        folder: Option<Folder>,
        /// Zero, or the cursor of the last answer.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// What lies in a directory of a mailbox, as the store knows it, in the order of the names.
    Mirrored {
        /// The mailbox.
        mailbox: PathBuf,
        /// The directory.
        dir: String,
        /// The name behind which the page begins; empty for the first.
        after: String,
        /// The most rows.
        limit: u32,
    },
    /// The directories of a mailbox that are folders, or in which something lies, in their order.
    Directories {
        /// The mailbox.
        mailbox: PathBuf,
        /// The directory behind which the page begins; `None` for the first.
        after: Option<String>,
        /// The most rows.
        limit: u32,
    },
    /// Directories of a mailbox whose folders have another name in the store, or were removed there.
    ChangedFolders {
        /// The mailbox.
        mailbox: PathBuf,
        /// The most rows.
        limit: u32,
    },
    /// Changes that a mailbox does not have yet.
    Pending {
        /// The mailbox.
        mailbox: PathBuf,
        /// Zero, or the cursor of the last answer.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// How far a directory of an account is mirrored.
    Cursor {
        /// The account.
        mailbox: PathBuf,
        /// The directory.
        dir: String,
    },
    /// Messages of an account whose bytes are to be fetched.
    Fetches {
        /// The account.
        mailbox: PathBuf,
        /// Zero, or the cursor of the last answer.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// Where a message of an account is whose bytes are not in the store.
    Lies {
        /// The account.
        mailbox: PathBuf,
        /// The message.
        record: u128,
    },
    /// Figures of a mailbox.
    Tally {
        /// The mailbox.
        mailbox: PathBuf,
        /// The directory whose messages are counted; `None` for none, because counting takes longer the more there are.
        dir: Option<String>,
    },
    /// Whether a message exists.
    Find {
        /// Its record.
        record: u128,
    },
    /// A piece of a message.
    Piece {
        /// Its record.
        record: u128,
        /// The first byte.
        offset: u64,
        /// The most bytes.
        limit: u32,
    },
    /// A setting.
    Setting {
        /// The section.
        section: String,
        /// The property.
        name: String,
    },
    /// Submissions that are neither final nor held, in order of due time, after `after`.
    Due {
        /// Due time and order of the last one known.
        after: Option<(u64, u64)>,
        /// The most submissions.
        limit: u32,
    },
    /// The queue's rows in order of submission.
    Queue {
        /// Whether to include what was sent or aborted. A bounce is listed until its notification is deleted.
        all: bool,
        /// Zero, or the cursor of the last answer.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// One submission.
    Submission {
        /// Its record.
        record: u128,
    },
    /// When the oldest submission that is not final was made.
    Oldest,
}

impl StoreRead {
    fn name(&self) -> &'static str {
        match self {
            Self::List { .. } | Self::Contents { .. } => "QueryRows",
            Self::Folders { .. } => "GetHierarchyTable",
            Self::FindFolder { .. } => "OpenFolder",
            Self::Search { .. } => "SetSearchCriteria",
            Self::Mirrored { .. } => "GetMirrored",
            Self::Directories { .. } => "GetDirectories",
            Self::ChangedFolders { .. } => "GetChangedFolders",
            Self::Pending { .. } => "GetPending",
            Self::Cursor { .. } => "GetCursor",
            Self::Fetches { .. } => "GetFetches",
            Self::Lies { .. } => "GetPlace",
            Self::Tally { .. } => "GetTally",
            Self::Find { .. } => "OpenEntry",
            Self::Piece { .. } => "OpenProperty",
            Self::Setting { .. } => "GetProps",
            Self::Due { .. } => "GetOutgoingQueue",
            Self::Queue { .. } | Self::Submission { .. } | Self::Oldest => "QueryQueue",
        }
    }
}

/// A notification that was put into the Inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDsn {
    /// Its record.
    pub record: u128,
    /// The submission that [`Onward`] asked for, as it stands in the store.
    pub forwarded: Option<Box<Submission>>,
    /// Its text, if [`Onward`] asked for that.
    pub text: Option<Vec<u8>>,
    /// Who it is from, and its subject.
    pub from: String,
    /// Its subject.
    pub subject: String,
}

/// A message in the outgoing queue, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub struct Submission {
    /// The message's record.
    pub record: u128,
    /// The profile it was submitted in, which sends it.
    pub profile: String,
    /// The user that submitted it.
    pub uid: u32,
    /// The envelope's sender; empty for a delivery status notification.
    pub from: String,
    /// Recipients in the order given.
    pub recipients: Vec<Recipient>,
    /// `PR_SUBJECT`; the store fills it in.
    pub subject: String,
    /// Its size in bytes; the store fills it in.
    pub size: u64,
    /// Its place among all submissions of the store; the store fills it in.
    pub order: u64,
    /// Whether it waits for a member with mail.
    pub no_mail: bool,
    /// The number of tries.
    pub attempts: u32,
    /// When it is due, in milliseconds since 1970: the time it was submitted; after a failure, the time of the next try; with an
    /// unknown outcome, the time it is given up.
    pub due: u64,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted: u64,
    /// The last error.
    pub last_error: Option<String>,
    /// What the sender wants to be told.
    pub report: Report,
    /// What chooses its transports beside its recipients, if that is more than the envelope's sender.
    pub route: Option<Box<Route>>,
    /// When it was submitted, by the clock of its store, in milliseconds ([`StoreFacts::clock`]). Stores of an older schema have no such
    /// time; then [`submitted`](Self::submitted) tells its age.
    pub born: Option<u64>,
    /// Whether its sender was told that it is delayed.
    pub delay_told: bool,
}

/// One recipient of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// Its state; never `Accepted` in a store.
    pub state: SubmissionState,
    /// The transport that takes it, while `Transmitting` or `Unknown`, and its marker.
    pub intent: Option<Intent>,
    /// The transport's last reply.
    pub reply: Option<String>,
}

/// The durable mark that a message may go out from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The transport's name.
    pub transport: String,
    /// The transport's own mark.
    pub marker: String,
}

impl Submission {
    /// The same submission with other recipients.
    fn with(&self, recipients: Vec<Recipient>) -> Self {
        Self {
            record: self.record,
            profile: self.profile.clone(),
            uid: self.uid,
            from: self.from.clone(),
            recipients,
            subject: self.subject.clone(),
            size: self.size,
            order: self.order,
            no_mail: self.no_mail,
            attempts: self.attempts,
            due: self.due,
            submitted: self.submitted,
            last_error: self.last_error.clone(),
            report: self.report,
            route: self.route.clone(),
            born: self.born,
            delay_told: self.delay_told,
        }
    }

    /// Whose message it is: what a transport's `senders` are compared with.
    pub fn author(&self) -> &str {
        self.route.as_ref().and_then(|route| route.author.as_deref()).unwrap_or(&self.from)
    }

    /// The transport that it names.
    pub fn account(&self) -> Option<&str> {
        self.route.as_ref()?.account.as_deref()
    }

    /// The state of its least finished recipient. Among final recipients a bounce counts first, because the sender may have to act
    /// on it.
    pub fn state(&self) -> SubmissionState {
        let rank =
            |state: SubmissionState| (state.is_final(), state != SubmissionState::Bounced, state);
        let states = self.recipients.iter().map(|r| r.state);
        states.min_by_key(|state| rank(*state)).unwrap_or(SubmissionState::Sent)
    }

    /// The last error, as long as it is about a recipient that does not have the message: an error of an earlier try says nothing
    /// about a recipient to whom the message was sent since.
    fn open_error(&self) -> Option<&String> {
        let without = || self.recipients.iter().filter(|r| r.state != SubmissionState::Sent);
        let last = self.last_error.as_ref()?;
        if without().any(|r| r.reply.as_ref() == Some(last)) {
            return Some(last);
        }
        let all_have_it = without().next().is_none();
        let said = without().filter_map(|r| r.reply.as_ref()).next_back();
        said.or(if all_have_it { None } else { Some(last) })
    }

    /// The submission as the queue shows it.
    pub fn row(&self, store: u32) -> QueueRow {
        let recipient = |r: &Recipient| RecipientRow {
            address: r.address.clone(),
            state: r.state,
            reply: r.reply.clone(),
        };
        let waits = self.state() == SubmissionState::Deferred;
        QueueRow {
            entry: sundown_protocol::EntryId { store, record: self.record },
            profile: self.profile.clone(),
            state: self.state(),
            from: self.from.clone(),
            recipients: self.recipients.iter().map(recipient).collect(),
            subject: self.subject.clone(),
            attempts: self.attempts,
            next_attempt: waits.then_some(self.due),
            last_error: self.open_error().cloned(),
            submitted: self.submitted,
            size: self.size,
        }
    }
}

/// A submission's new state, and what is committed together with it.
#[derive(Debug, Clone, PartialEq)]
pub struct SubmissionUpdate {
    /// The submission as it is to be. `subject`, `size` and `order` do not change.
    pub submission: Submission,
    /// The places of the recipients that `submission` contains; `None` for all. A message to ten thousand recipients is sent in
    /// hundreds of transmissions, each of which changes some of them.
    pub places: Option<Vec<usize>>,
    /// The state of the whole submission.
    pub state: SubmissionState,
    /// The notification that is put into the Inbox, if there is one.
    pub notice: Option<Box<Dsn>>,
    /// Wall time in milliseconds since 1970.
    pub now: u64,
}

impl SubmissionUpdate {
    /// An update that contains all recipients.
    pub fn whole(submission: Submission, notice: Option<Box<Dsn>>, now: u64) -> Self {
        let state = submission.state();
        Self { submission, places: None, state, notice, now }
    }

    /// An update that contains only these recipients and those that the notification is about.
    pub fn part(
        submission: &Submission,
        mut places: Vec<usize>,
        notice: Option<Box<Dsn>>,
        now: u64,
    ) -> Self {
        places.extend(notice.iter().flat_map(|notice| &notice.told).map(|(place, _)| place));
        places.sort_unstable();
        places.dedup();
        let recipients = places.iter().map(|place| submission.recipients[*place].clone()).collect();
        let state = submission.state();
        let submission = submission.with(recipients);
        Self { submission, places: Some(places), state, notice, now }
    }

    /// The recipients it contains, with their places.
    pub fn recipients(&self) -> impl Iterator<Item = (usize, &Recipient)> {
        let place = |n| self.places.as_ref().map_or(n, |places| places[n]);
        self.submission.recipients.iter().enumerate().map(move |(n, one)| (place(n), one))
    }

    /// The recipient at a place, if the update contains it.
    pub fn recipient(&self, place: usize) -> Option<&Recipient> {
        let n = match &self.places {
            None => place,
            Some(places) => places.binary_search(&place).ok()?,
        };
        self.submission.recipients.get(n)
    }
}

/// A delivery status notification: what the sender of a submission is told of some of its recipients (RFC 3464).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    /// The notification's record.
    pub record: u128,
    /// What it says of which recipients, by their places in the submission.
    pub told: Vec<(usize, Action)>,
    /// What happens to it besides.
    pub onward: Onward,
}

impl Dsn {
    /// A notification of failures that stays in the Inbox; `None` without any failure.
    pub fn failed(record: u128, places: impl IntoIterator<Item = usize>) -> Option<Box<Self>> {
        let told: Vec<_> = places.into_iter().map(|place| (place, Action::Failed)).collect();
        let notice = Self { record, told, onward: Onward::Nowhere };
        (!notice.told.is_empty()).then(|| Box::new(notice))
    }
}

/// What a notification says of a recipient: the field `Action` of RFC 3464.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The recipient does not get the message, and no further try is made.
    Failed,
    /// The recipient does not have the message yet.
    Delayed {
        /// Until when it is tried if the broker runs until then, in milliseconds since 1970.
        until: u64,
    },
    /// The next hop has the message, and sends no reports.
    Relayed,
    /// The message is in the recipient's mailbox.
    Delivered,
}

impl Action {
    /// Whether the sender of a message wants to be told so.
    pub(crate) fn is_wanted(self, report: Report) -> bool {
        match self {
            Self::Failed => report.notify.contains(Notify::FAILURE),
            Self::Delayed { .. } => report.notify.contains(Notify::DELAY),
            Self::Relayed | Self::Delivered => report.notify.contains(Notify::SUCCESS),
        }
    }
}

/// What happens to a notification besides being put into the Inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Onward {
    /// Nothing.
    Nowhere,
    /// A copy of it is put into the queue as this submission, which has no sender.
    Copy(Box<Submission>),
    /// A message is put into the queue as this submission, which says that there are more notifications than are forwarded.
    More(Box<Submission>),
    /// The answer to the update has its text.
    Text,
}

impl Onward {
    /// The record of the submission that is put into the queue.
    pub(crate) fn record(&self) -> Option<u128> {
        match self {
            Self::Copy(submission) | Self::More(submission) => Some(submission.record),
            Self::Nowhere | Self::Text => None,
        }
    }
}

/// A message that is sent through one transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmission {
    /// Its number, unique in the broker's life.
    pub id: u64,
    /// The store that holds the message; the transport's support object opens it.
    pub store: u32,
    /// The message's record.
    pub record: u128,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients that this transport takes, with their place in the submission.
    pub recipients: Vec<(usize, String)>,
    /// The message's size in bytes.
    pub size: u64,
    /// What the sender wants to be told.
    pub report: Report,
}

/// A call of a transport. A message takes two steps, and the intent is made durable between them: `Prepare` may be repeated after a
/// crash without harm, `Complete` may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportCall {
    /// Does everything short of handing the message over (`SubmitMessage`).
    Prepare(Box<Transmission>),
    /// Hands the message over (`EndMessage`).
    Complete {
        /// The transmission.
        id: u64,
    },
    /// Discards what was prepared.
    Cancel {
        /// The transmission.
        id: u64,
    },
    /// After a crash between the two steps: finds out what became of the message, or completes it.
    Recover {
        /// The transmission that was cut off.
        transmission: Box<Transmission>,
        /// The marker that `Prepare` returned.
        marker: String,
    },
    /// Finds out whether the transport works (`IMAPIStatus::ValidateState`).
    Validate(AskedBy),
}

/// Who asks whether a transport works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// The broker, from time to time. While the transport's server is left alone, the answer is what the server said last.
    Broker,
    /// A user, who wants the server to be tried now.
    User {
        /// The request, by a number that grows. One request may concern many sessions, and its server is tried once for all of them.
        word: u64,
    },
}

impl TransportCall {
    fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "SubmitMessage",
            Self::Complete { .. } => "EndMessage",
            Self::Cancel { .. } => "TransportNotify",
            Self::Recover { .. } => "Recover",
            Self::Validate(_) => "ValidateState",
        }
    }
}

/// The result of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientResult {
    /// Its place in the submission.
    pub recipient: usize,
    /// Its outcome.
    pub outcome: Outcome,
    /// The transport's reply.
    pub reply: String,
}

impl RecipientResult {
    /// What a transport says that is not used any more: what it could not hand over now, another transport may.
    pub(crate) fn given_back(self) -> Self {
        match self.outcome {
            Outcome::Later | Outcome::Offline => Self { outcome: Outcome::NotSent, ..self },
            _ => self,
        }
    }
}

/// The outcome of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop has the message. If the sender wants a report on its delivery, the next hop sends one.
    Sent,
    /// The next hop has the message, and sends no report that the sender wants.
    Relayed,
    /// The message is in the recipient's mailbox, and the sender wants a report on that.
    Delivered,
    /// It failed for good.
    Failed,
    /// It may work later.
    Later,
    /// The next hop cannot be reached: it is tried later, and this try does not count.
    Offline,
    /// The message may have gone out; it is unknown whether it did.
    Unknown,
    /// Of a recovery: the message was certainly not handed over, and will not be by what was prepared then. Of a prepare that takes other
    /// recipients: there is no room for this one beside them. It is queued again, and the try does not count.
    NotSent,
}

/// What a mailbox has seen and done since it last said so. It is written in one commit, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// The mailbox, by the path of its directory.
    pub mailbox: PathBuf,
    /// What it says.
    pub changes: Vec<MirrorChange>,
}

impl Mirror {
    /// How soon it must be committed. What lies in the mailbox is found again after a power cut; what the mailbox has carried out is
    /// found to be done, where it was about to be done.
    fn urgency(&self) -> Urgency {
        let at_once = |change: &MirrorChange| {
            matches!(change, MirrorChange::Found { news: true, .. } | MirrorChange::Leaves { .. })
        };
        if self.changes.iter().any(at_once) { Urgency::Now } else { Urgency::Unsynced }
    }
}

/// Where a message lies in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spot {
    /// The directory, by its name below the mailbox; empty for the mailbox itself.
    pub dir: String,
    /// The name of the message, without its flags. It is unique in its directory.
    pub name: String,
}

/// What a mailbox says of one folder or message.
#[derive(Debug, Clone, PartialEq)]
pub enum MirrorChange {
    /// There is this directory. It becomes a folder, or the built-in folder with its role.
    Folder {
        /// The directory.
        dir: String,
        /// The directory that it is in; `None` for one at the top.
        parent: Option<String>,
        /// Its name.
        name: String,
        /// Its role, if it is the mailbox's only directory with that role.
        role: Option<Role>,
    },
    /// The mailbox has made this directory for a folder of the store, or uses its name for those in it.
    FolderMade {
        /// The folder.
        folder: Folder,
        /// The directory.
        dir: String,
        /// The folder's name when that was done. It may have another one by now, or be gone.
        name: String,
    },
    /// There is no such directory any more.
    FolderGone {
        /// The directory.
        dir: String,
    },
    /// A directory has another name, and so have those below it.
    FolderMoved {
        /// Its name before.
        from: String,
        /// Its name.
        to: String,
        /// The name of its folder that was carried out by that. The folder may have another one by now.
        name: String,
    },
    /// A directory keeps its name, or stays although its folder was removed: it has something in it, or there is another one. The
    /// folder is what the directory is.
    FolderKept {
        /// The directory.
        dir: String,
        /// The name that its folder cannot have; nothing if it was to be removed.
        name: Option<String>,
    },
    /// The mailbox was looked at as a whole. What comes later is new.
    Passed,
    /// The mailbox is an account at a server: the store keeps the bytes of its messages, which are fetched for that.
    Account {
        /// Whether what is sent from here is to be appended to its folder of sent messages. Other servers file it themselves.
        append_sent: bool,
        /// The name of the folder that its folders come into, if it is not the first mailbox of its profile. The folders of every store
        /// are those of the first one.
        heading: Option<String>,
    },
    /// How far a directory of an account is mirrored. It holds for everything that is said in the same slice, and before.
    Cursor {
        /// The directory.
        dir: String,
        /// How far.
        cursor: Cursor,
    },
    /// The bytes of a message of an account cannot be fetched.
    Unfetched {
        /// Where it is.
        spot: Spot,
    },
    /// A piece of the bytes of a message of an account. They come from front to back, and the store has them with the last piece.
    Bytes {
        /// Where it is.
        spot: Spot,
        /// Whether this is the first piece: what has come before is forgotten.
        first: bool,
        /// The piece.
        bytes: Vec<u8>,
        /// Whether it is the last one.
        last: bool,
    },
    /// What tells this message from others, wherever it lies.
    Traced {
        /// Where it is.
        spot: Spot,
        /// See [`MessageFacts::trace`].
        trace: u128,
    },
    /// A message lies here. A store that knows it takes this as its present flags.
    Found {
        /// Where.
        spot: Spot,
        /// Its marks.
        marks: Marks,
        /// Whether it has just come, and users are told so.
        news: bool,
        /// What its row shows.
        facts: Box<MessageFacts>,
    },
    /// A known message has these marks.
    Marked {
        /// Where it is.
        spot: Spot,
        /// Its marks.
        marks: Marks,
    },
    /// A known message of an account has these keywords at the server. What programs have changed in them here stays, and is pending.
    Keywords {
        /// Where it is.
        spot: Spot,
        /// Its keywords, in alphabetical order.
        keywords: Vec<String>,
    },
    /// The mailbox has set these keywords of a message of an account at the server. Others that the message has here are still pending.
    KeywordsSet {
        /// Where it is.
        spot: Spot,
        /// The keywords that it has there, in alphabetical order.
        keywords: Vec<String>,
    },
    /// A known message lies elsewhere.
    Moved {
        /// Where it was.
        from: Spot,
        /// Where it is.
        to: Spot,
        /// Its marks.
        marks: Marks,
    },
    /// A known message is gone.
    Vanished {
        /// Where it was.
        spot: Spot,
    },
    /// The mailbox is about to move or to mark a message, or to file one. Until [`Done`](Self::Done) follows it may have done so or not.
    Leaves {
        /// The message.
        record: u128,
        /// Where it lies and which marks it had there; `None` if it is not in the mailbox yet.
        from: Option<(Spot, Marks)>,
        /// How it will be.
        to: Heading,
    },
    /// The mailbox has carried out a pending change.
    Done {
        /// The message.
        record: u128,
        /// Where it lies now; `None` if it was removed.
        spot: Option<Spot>,
        /// The marks that it has there.
        marks: Marks,
        /// Where the store wanted it when the mailbox looked, and with which marks; `None` if it was to be removed. What a program
        /// has changed since then is not carried out yet.
        wanted: Option<(Folder, Marks)>,
    },
}

/// What the row of a message shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFacts {
    /// Its size in bytes.
    pub size: u64,
    /// When it came into the mailbox, in milliseconds since 1970.
    pub received: u64,
    /// When it was written, in milliseconds since 1970.
    pub date: Option<u64>,
    /// `PR_SUBJECT`.
    pub subject: String,
    /// Who it is from.
    pub from: String,
    /// Who it is to.
    pub to: String,
    /// What tells the message from others of an account, wherever it lies: a message that vanished, or whose directory was numbered
    /// anew, is the one that is found with the same trace.
    pub trace: Option<u128>,
    /// Of a message of an account: its keywords at the server, in alphabetical order.
    pub keywords: Vec<String>,
    /// Of a message of an account: whether its bytes are to be fetched.
    pub fetch: bool,
}

/// How far a directory of an account is mirrored, as its server numbers the messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The validity of the numbers (`UIDVALIDITY`): with another one, every number is that of another message.
    pub validity: u32,
    /// The number behind all that were seen (`UIDNEXT`).
    pub next: u32,
    /// The first mirror takes the newest messages first: those with a lower number are still to be taken.
    pub low: u32,
    /// The state of the flags that was seen (`HIGHESTMODSEQ`); zero if the server has none.
    pub modseq: u64,
    /// How many messages there were then.
    pub messages: u32,
}

/// How a message will be that a mailbox is about to move, to mark or to file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// The directory in which it will lie.
    pub dir: String,
    /// The marks that it will have.
    pub marks: Marks,
    /// In an account, the name that the next message of the directory was going to have: a name before it is another message's.
    pub beyond: Option<String>,
}

/// A change that a mailbox does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The message.
    pub record: u128,
    /// Where it lies; `None` if it is not in the mailbox yet.
    pub spot: Option<Spot>,
    /// The marks last seen there.
    pub seen: Marks,
    /// Of a message of an account: the keywords last seen there.
    pub seen_keywords: Vec<String>,
    /// How it may be instead, because the mailbox was cut off while it moved, marked or filed the message.
    pub heading: Option<Heading>,
    /// How it is to be; `None` if it is to be removed.
    pub wanted: Option<Wanted>,
    /// Its size in bytes.
    pub size: u64,
    /// When it came, in milliseconds since 1970.
    pub received: u64,
    /// Of a message of an account: [`MessageFacts::trace`].
    pub trace: Option<u128>,
}

/// A directory of a mailbox that is not as its folder in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFolder {
    /// The directory.
    pub dir: String,
    /// The names of its folder and of those that it is in, the outermost first; `None` if the folder was removed.
    pub wanted: Option<Vec<String>>,
}

/// Where a message is to be, and with which marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its folder.
    pub folder: Folder,
    /// The directory of its folder; `None` if the folder has none yet.
    pub dir: Option<String>,
    /// The folders that its folder is in, the outermost first, and its folder.
    pub path: Vec<PathPart>,
    /// The role of its folder.
    pub role: Option<Role>,
    /// Its marks.
    pub marks: Marks,
    /// Its keywords.
    pub keywords: Vec<String>,
}

/// One of the folders on the way to a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPart {
    /// The folder.
    pub folder: Folder,
    /// Its name.
    pub name: String,
    /// Its directory in the mailbox, if it has one.
    pub dir: Option<String>,
}

/// Figures of a mailbox, as the store knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Changes made here that it does not have yet.
    pub pending: u64,
    /// Messages whose bytes are to be fetched.
    pub fetches: u64,
    /// Messages of the directory that was asked about.
    pub messages: u64,
}

/// What has changed in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChange {
    /// A message is there.
    Created {
        /// The message.
        record: u128,
        /// Its folder.
        folder: Folder,
        /// If it is new mail: who it is from, and its subject.
        news: Option<Box<News>>,
    },
    /// A message has other flags.
    Modified {
        /// The message.
        record: u128,
        /// Its folder.
        folder: Folder,
    },
    /// A message is elsewhere.
    Moved {
        /// The message.
        record: u128,
        /// Where it was.
        from: Folder,
        /// Where it is.
        to: Folder,
    },
    /// A message is gone.
    Deleted {
        /// The message.
        record: u128,
        /// Where it was.
        folder: Folder,
    },
    /// Something happened to a folder.
    Folder {
        /// The folder.
        folder: Folder,
        /// What happened to it.
        change: FolderChange,
    },
    /// So much has changed in a folder that its table is to be read again.
    Reload(Folder),
}

/// New mail, as users are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Who it is from.
    pub from: String,
    /// Its subject.
    pub subject: String,
}

/// A call of a mailbox. It answers at once, and works on a thread of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailboxCall {
    /// Watch from now on, and mirror into this store.
    Watch {
        /// The number of the store.
        store: u32,
    },
    /// Watch no more, and do nothing besides, until the next `Watch`. What is pending stays in the store.
    Rest,
    /// There are pending changes in the store. It is answered when they are carried out, or cannot be now.
    Changed,
    /// Look at everything now (`IMAPIStatus::ValidateState`): the answer comes when that is done.
    Validate,
    /// The same, and the answer says what was found.
    Sync,
    /// Fetch the bytes of a message: the answer comes when the store has them.
    Fetch {
        /// The message.
        record: u128,
    },
}

/// What a mailbox says of itself while it works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailboxReport {
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

impl MailboxCall {
    fn name(self) -> &'static str {
        match self {
            Self::Watch { .. } => "Watch",
            Self::Rest => "Rest",
            Self::Changed => "StoreChanged",
            Self::Validate => "ValidateState",
            Self::Sync => "Sync",
            Self::Fetch { .. } => "FetchMessage",
        }
    }
}

/// A call of an address book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressCall {
    /// Rows after a cursor.
    List {
        /// Zero, or the cursor of the last answer.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// A change or a question.
    Act(AddressAction),
}

impl AddressCall {
    fn name(&self) -> &'static str {
        match self {
            Self::List { .. } => "QueryRows",
            Self::Act(AddressAction::Add { .. }) => "CreateEntry",
            Self::Act(AddressAction::Remove { .. }) => "DeleteEntries",
            Self::Act(AddressAction::Resolve { .. }) => "ResolveName",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_shows_its_options_without_their_values() {
        let option = ("password_command".to_owned(), "echo hunter2".to_owned());
        let spec = ProviderSpec { options: vec![option], ..ProviderSpec::new("smtp") };
        for shown in [format!("{spec:?}"), format!("{spec:#?}")] {
            assert!(shown.contains("password_command") && shown.contains("smtp"), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
