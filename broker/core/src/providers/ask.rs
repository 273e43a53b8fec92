//! Provider calls and their answers with types: the type of a call determines the type of its answer.

use std::marker::PhantomData;

use sundown_protocol::Code;
use sundown_protocol::folder::{Bookmark, ContentsRow, Filter, Flags, FolderRow, Marks, Sort};
pub(crate) use sundown_protocol::reply::Synced;
use sundown_protocol::reply::{AddressRow, MessageRow, Place};
use sundown_protocol::request::{AddressAction, Folder, SettingChange};

use crate::ground::expected::Wrong;
use crate::ground::provider::{
    AddressCall, AskedBy, KeptClock, MailboxCall, MessageContent, ProviderAnswer, ProviderCall,
    ProviderError, RecipientResult, StoreFacts, StoreRead, StoreWrite, StoredDsn, Submission,
    SubmissionUpdate, Transmission, TransportCall, TransportFacts,
};

/// The answer to one kind of call.
pub(crate) trait Answer: Sized {
    /// The answer, if it is one of this kind.
    fn of(answer: ProviderAnswer) -> Option<Self>;
}

/// The typed answer of a result that was checked.
pub(crate) fn typed<A: Answer>(
    result: Result<ProviderAnswer, ProviderError>,
) -> Result<A, ProviderError> {
    A::of(result?).ok_or_else(|| {
        let wrong = Wrong::Kind("something else");
        wrong_answer("a provider", "a call", wrong)
    })
}

/// The error of a call that was answered with something that does not fit it.
pub(crate) fn wrong_answer(provider: &str, call: &str, wrong: Wrong) -> ProviderError {
    let message = format!(
        "{provider}: {call} was {wrong}, which is no answer to it; what the call has done is not known"
    );
    ProviderError::new(Code::E_CORRUPT_DATA, message).effect_unknown()
}

/// The call was done, and there is no more to say.
#[derive(Debug)]
pub(crate) struct Done;

/// The answer to one of the three shutdown calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    Done,
    /// The provider does not know the interface, and was not called.
    Unaware,
    /// It has nothing to save, and was not called.
    Untouched,
}

impl From<Done> for Shutdown {
    fn from(Done: Done) -> Self {
        Self::Done
    }
}

/// The answer to a logon.
#[derive(Debug)]
pub(crate) enum Ready {
    Store(StoreFacts),
    Transport(TransportFacts),
    AddressBook,
}

/// The upload has the piece.
#[derive(Debug)]
pub(crate) struct Appended;

/// A submission as it stands in its store, and whether this call stored it.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) submission: Box<Submission>,
    pub(crate) new: bool,
}

/// Where a draft was saved, and whether by this call.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) place: Place,
    pub(crate) new: bool,
}

/// Where a message went with its update, and the notification that was put into the Inbox.
#[derive(Debug)]
pub(crate) struct Updated {
    pub(crate) moved: Option<Folder>,
    pub(crate) notice: Option<Box<StoredDsn>>,
    /// Whether a mailbox is to take it.
    pub(crate) pending: bool,
}

/// How many submissions were made due, and the cursor to go on.
#[derive(Debug)]
pub(crate) struct Hastened {
    pub(crate) found: u64,
    pub(crate) next: Option<u64>,
}

/// The folder a message was in, and the one it is in now.
#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) from: Folder,
    pub(crate) to: Option<Folder>,
}

/// Where a message is, its flags now, and whether this call changed them.
#[derive(Debug)]
pub(crate) struct Flagged {
    pub(crate) folder: Folder,
    pub(crate) flags: Flags,
    pub(crate) changed: bool,
}

/// Where a message was, and where it is.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) from: Folder,
    pub(crate) to: Folder,
}

/// A folder was made.
#[derive(Debug)]
pub(crate) struct FolderMade(pub(crate) Folder);

/// Folders, and the cursor to go on.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) rows: Vec<FolderRow>,
    pub(crate) next: Option<Folder>,
}

/// Rows of a contents table, and the place to go on.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) rows: Vec<ContentsRow>,
    pub(crate) next: Option<Bookmark>,
}

/// What a search has found, and the cursor to go on.
#[derive(Debug)]
pub(crate) struct Hits {
    pub(crate) rows: Vec<ContentsRow>,
    pub(crate) next: Option<u64>,
    pub(crate) unindexed: u64,
}

/// The value of a setting.
#[derive(Debug)]
pub(crate) struct Setting(pub(crate) Option<String>);

/// Rows of a folder, and the cursor to go on.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) rows: Vec<MessageRow>,
    pub(crate) next: Option<u64>,
}

/// The message exists.
#[derive(Debug)]
pub(crate) struct Found;

/// A piece of a message.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) size: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) unread_notice: bool,
}

/// The submissions that are due next.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) submissions: Vec<Submission>,
    pub(crate) more: bool,
    pub(crate) damaged: usize,
}

/// Rows of a queue, and the cursor to go on.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) rows: Vec<Submission>,
    pub(crate) next: Option<u64>,
}

/// The one submission that was asked for.
#[derive(Debug)]
pub(crate) struct OneSubmission(pub(crate) Submission);

/// When the oldest submission was made.
#[derive(Debug)]
pub(crate) struct Oldest(pub(crate) Option<u64>);

/// The transmission is ready to be handed over.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) marker: String,
    pub(crate) refused: Vec<RecipientResult>,
}

/// The results of recipients.
#[derive(Debug)]
pub(crate) struct Results(pub(crate) Vec<RecipientResult>);

/// Rows of an address book, and the cursor to go on.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) rows: Vec<AddressRow>,
    pub(crate) next: Option<u64>,
}

/// One row of an address book.
#[derive(Debug)]
pub(crate) struct Address(pub(crate) AddressRow);

/// One line for each kind of answer: which of a provider's answers it is.
macro_rules! answers {
    ($($kind:ident, $of:pat => $it:expr;)*) => { $(
        impl Answer for $kind {
            fn of(answer: ProviderAnswer) -> Option<Self> {
                let $of = answer else { return None };
                Some($it)
            }
        }
    )* };
}

answers! {
    Done, ProviderAnswer::Done => Self;
    Appended, ProviderAnswer::Appended(_) => Self;
    Submitted, ProviderAnswer::Submitted { submission, new } => Self { submission, new };
    Saved, ProviderAnswer::Saved { place, new } => Self { place, new };
    Updated, ProviderAnswer::Updated { moved, notice, pending } => Self { moved, notice, pending };
    Hastened, ProviderAnswer::Hastened { found, next } => Self { found, next };
    Removed, ProviderAnswer::Removed { from, to } => Self { from, to };
    Flagged, ProviderAnswer::Flagged { folder, flags, changed } => Self { folder, flags, changed };
    Moved, ProviderAnswer::Moved { from, to } => Self { from, to };
    FolderMade, ProviderAnswer::FolderMade(folder) => Self(folder);
    Folders, ProviderAnswer::Folders { rows, next } => Self { rows, next };
    Contents, ProviderAnswer::Contents { rows, next } => Self { rows, next };
    Hits, ProviderAnswer::Hits { rows, next, unindexed } => Self { rows, next, unindexed };
    Setting, ProviderAnswer::Setting(value) => Self(value);
    Messages, ProviderAnswer::Messages { rows, next } => Self { rows, next };
    Found, ProviderAnswer::Found { .. } => Self;
    Piece, ProviderAnswer::Piece { size, bytes, unread_notice } => Self { size, bytes, unread_notice };
    Due, ProviderAnswer::Due { submissions, more, damaged } => Self { submissions, more, damaged };
    Queue, ProviderAnswer::Queue { rows, next } => Self { rows, next };
    Oldest, ProviderAnswer::Oldest(submitted) => Self(submitted);
    Prepared, ProviderAnswer::Prepared { marker, refused } => Self { marker, refused };
    Results, ProviderAnswer::Results(results) => Self(results);
    Addresses, ProviderAnswer::Addresses { rows, next } => Self { rows, next };
    Address, ProviderAnswer::Address(row) => Self(row);
    Synced, ProviderAnswer::Synced(found) => found;
}

impl Answer for Shutdown {
    fn of(answer: ProviderAnswer) -> Option<Self> {
        match answer {
            ProviderAnswer::Done => Some(Self::Done),
            ProviderAnswer::Unaware => Some(Self::Unaware),
            ProviderAnswer::Untouched => Some(Self::Untouched),
            _ => None,
        }
    }
}

impl Answer for Ready {
    fn of(answer: ProviderAnswer) -> Option<Self> {
        match answer {
            ProviderAnswer::StoreOpened(facts) => Some(Self::Store(facts)),
            ProviderAnswer::TransportReady(facts) => Some(Self::Transport(facts)),
            ProviderAnswer::Done => Some(Self::AddressBook),
            _ => None,
        }
    }
}

impl Answer for OneSubmission {
    fn of(answer: ProviderAnswer) -> Option<Self> {
        let ProviderAnswer::Queue { rows, .. } = answer else { return None };
        rows.into_iter().next().map(Self)
    }
}

/// A call that is answered with an `A`.
pub(crate) struct Ask<A> {
    pub(crate) call: ProviderCall,
    answer: PhantomData<fn() -> A>,
}

impl<A> Ask<A> {
    fn of(call: ProviderCall) -> Self {
        Self { call, answer: PhantomData }
    }

    fn write(write: StoreWrite) -> Self {
        Self::of(ProviderCall::Write(write))
    }

    fn read(question: StoreRead) -> Self {
        Self::of(ProviderCall::Read(question))
    }

    fn transport(call: TransportCall) -> Self {
        Self::of(ProviderCall::Transport(call))
    }

    fn address_book(call: AddressCall) -> Self {
        Self::of(ProviderCall::Address(call))
    }
}

impl Ask<Ready> {
    pub(crate) fn logon() -> Self {
        Self::of(ProviderCall::Logon)
    }

    pub(crate) fn renew() -> Self {
        Self::of(ProviderCall::Renew)
    }
}

impl Ask<Synced> {
    pub(crate) fn sync() -> Self {
        Self::of(ProviderCall::Mailbox(MailboxCall::Sync))
    }
}

impl Ask<Done> {
    pub(crate) fn logoff() -> Self {
        Self::of(ProviderCall::Logoff)
    }

    pub(crate) fn discard(upload: u64) -> Self {
        Self::write(StoreWrite::Discard { upload })
    }

    pub(crate) fn seen(record: u128) -> Self {
        Self::write(StoreWrite::Seen { record })
    }

    pub(crate) fn clock(kept: KeptClock) -> Self {
        Self::write(StoreWrite::Clock(kept))
    }

    pub(crate) fn flush() -> Self {
        Self::write(StoreWrite::Flush)
    }

    pub(crate) fn rename_folder(folder: Folder, name: String) -> Self {
        Self::write(StoreWrite::RenameFolder { folder, name })
    }

    pub(crate) fn remove_folder(folder: Folder) -> Self {
        Self::write(StoreWrite::RemoveFolder { folder })
    }

    pub(crate) fn mailbox(call: MailboxCall) -> Self {
        Self::of(ProviderCall::Mailbox(call))
    }

    pub(crate) fn fetch(record: u128) -> Self {
        Self::mailbox(MailboxCall::Fetch { record })
    }

    pub(crate) fn cancel(id: u64) -> Self {
        Self::transport(TransportCall::Cancel { id })
    }

    pub(crate) fn validate(asked_by: AskedBy) -> Self {
        Self::transport(TransportCall::Validate(asked_by))
    }

    pub(crate) fn remove_address(name: String) -> Self {
        Self::address_book(AddressCall::Act(AddressAction::Remove { name }))
    }
}

impl Ask<Shutdown> {
    pub(crate) fn query_fast_shutdown() -> Self {
        Self::of(ProviderCall::QueryFastShutdown)
    }

    pub(crate) fn notify_process_shutdown() -> Self {
        Self::of(ProviderCall::NotifyProcessShutdown)
    }

    pub(crate) fn do_fast_shutdown() -> Self {
        Self::of(ProviderCall::DoFastShutdown)
    }
}

impl Ask<Appended> {
    pub(crate) fn append(upload: u64, bytes: Vec<u8>) -> Self {
        Self::write(StoreWrite::Append { upload, bytes })
    }
}

impl Ask<Submitted> {
    pub(crate) fn submit(
        submission: Box<Submission>,
        content: MessageContent,
        deferred: bool,
    ) -> Self {
        Self::write(StoreWrite::Submit { submission, content, deferred })
    }
}

impl Ask<Saved> {
    /// Saves a draft that a program saves itself.
    pub(crate) fn save(record: u128, content: MessageContent, now: u64) -> Self {
        Self::draft(record, content, false, now)
    }

    /// Saves the draft of a program that ended without saving it.
    pub(crate) fn recover_draft(record: u128, content: MessageContent, now: u64) -> Self {
        Self::draft(record, content, true, now)
    }

    fn draft(record: u128, content: MessageContent, recovered: bool, now: u64) -> Self {
        let flags = Flags { marks: Marks(Marks::DRAFT.0 | Marks::READ.0), ..Flags::default() };
        let folder = Folder::DRAFTS;
        Self::write(StoreWrite::Save { record, folder, content, flags, recovered, now })
    }

    /// Puts a message into a folder.
    pub(crate) fn file(
        record: u128,
        folder: Folder,
        content: MessageContent,
        flags: Flags,
        now: u64,
    ) -> Self {
        Self::write(StoreWrite::Save { record, folder, content, flags, recovered: false, now })
    }

    pub(crate) fn copy(record: u128, copy: u128, to: Folder) -> Self {
        Self::write(StoreWrite::Copy { record, copy, to })
    }
}

impl Ask<Updated> {
    pub(crate) fn update(update: SubmissionUpdate) -> Self {
        Self::write(StoreWrite::Update(Box::new(update)))
    }
}

impl Ask<Hastened> {
    pub(crate) fn hasten(profile: Option<String>, uid: Option<u32>, after: u64, now: u64) -> Self {
        Self::write(StoreWrite::Hasten { profile, uid, after, now })
    }
}

impl Ask<Removed> {
    pub(crate) fn delete(record: u128, from: Option<Folder>) -> Self {
        Self::write(match from {
            None => StoreWrite::Delete { record },
            Some(from) => StoreWrite::DeleteFrom { record, from },
        })
    }
}

impl Ask<Flagged> {
    pub(crate) fn set_flags(record: u128, add: Flags, remove: Flags) -> Self {
        Self::write(StoreWrite::SetFlags { record, add, remove })
    }
}

impl Ask<Moved> {
    pub(crate) fn move_to(record: u128, to: Folder) -> Self {
        Self::write(StoreWrite::Move { record, to })
    }
}

impl Ask<FolderMade> {
    pub(crate) fn make_folder(parent: Option<Folder>, name: String) -> Self {
        Self::write(StoreWrite::MakeFolder { parent, name })
    }
}

impl Ask<Folders> {
    pub(crate) fn folders(after: Option<Folder>, limit: u32) -> Self {
        Self::read(StoreRead::Folders { after, limit })
    }

    pub(crate) fn folder(folder: Folder) -> Self {
        Self::read(StoreRead::FindFolder { folder })
    }
}

impl Ask<Contents> {
    pub(crate) fn contents(
        folder: Folder,
        (sort, only): (Sort, Filter),
        after: Option<Bookmark>,
        limit: u32,
    ) -> Self {
        Self::read(StoreRead::Contents { folder, sort, only, after, limit })
    }
}

impl Ask<Hits> {
    pub(crate) fn search(words: String, folder: Option<Folder>, after: u64, limit: u32) -> Self {
        Self::read(StoreRead::Search { words, folder, after, limit })
    }
}

impl Ask<Setting> {
    pub(crate) fn setting(section: String, name: String) -> Self {
        Self::read(StoreRead::Setting { section, name })
    }

    pub(crate) fn change_setting(section: String, name: String, change: SettingChange) -> Self {
        Self::write(StoreWrite::Setting { section, name, change })
    }
}

impl Ask<Messages> {
    pub(crate) fn list(folder: Folder, after: u64, limit: u32) -> Self {
        Self::read(StoreRead::List { folder, after, limit })
    }
}

impl Ask<Found> {
    pub(crate) fn find(record: u128) -> Self {
        Self::read(StoreRead::Find { record })
    }
}

impl Ask<Piece> {
    pub(crate) fn piece(record: u128, offset: u64) -> Self {
        let limit = sundown_protocol::frame::MAX_BLOB as u32;
        Self::read(StoreRead::Piece { record, offset, limit })
    }
}

impl Ask<Due> {
    pub(crate) fn due(after: Option<(u64, u64)>, limit: u32) -> Self {
        Self::read(StoreRead::Due { after, limit })
    }
}

impl Ask<Queue> {
    pub(crate) fn queue(all: bool, after: u64, limit: u32) -> Self {
        Self::read(StoreRead::Queue { all, after, limit })
    }
}

impl Ask<OneSubmission> {
    pub(crate) fn submission(record: u128) -> Self {
        Self::read(StoreRead::Submission { record })
    }
}

impl Ask<Oldest> {
    pub(crate) fn oldest() -> Self {
        Self::read(StoreRead::Oldest)
    }
}

impl Ask<Prepared> {
    pub(crate) fn prepare(transmission: Box<Transmission>) -> Self {
        Self::transport(TransportCall::Prepare(transmission))
    }
}

impl Ask<Results> {
    pub(crate) fn complete(id: u64) -> Self {
        Self::transport(TransportCall::Complete { id })
    }

    pub(crate) fn recover(transmission: Box<Transmission>, marker: String) -> Self {
        Self::transport(TransportCall::Recover { transmission, marker })
    }
}

impl Ask<Addresses> {
    pub(crate) fn list_addresses(after: u64, limit: u32) -> Self {
        Self::address_book(AddressCall::List { after, limit })
    }
}

impl Ask<Address> {
    pub(crate) fn add_address(name: String, addresses: Vec<String>) -> Self {
        Self::address_book(AddressCall::Act(AddressAction::Add { name, addresses }))
    }

    pub(crate) fn resolve(name: String) -> Self {
        Self::address_book(AddressCall::Act(AddressAction::Resolve { name }))
    }
}
