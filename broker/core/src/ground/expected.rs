//! The answers that each provider call allows.
//!
//! A provider is foreign code: it may answer a call with the answer to another one, name recipients that it was not given, or list
//! rows out of order. Each answer is checked once, where it comes in: [`Expected::check`] compares it with what its call expects. A
//! wrong answer becomes an error of the call, `MAPI_E_CORRUPT_DATA`, and it is unknown what the call has done.

use std::collections::HashSet;
use std::fmt;

use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::{AddressAction, Folder, SettingChange};

use crate::ground::provider::{
    AddressCall, MailboxCall, ProviderAnswer, ProviderCall, ProviderType, Recipient,
    RecipientResult, StoreRead, StoreWrite, Submission, TransportCall,
};

/// The answer that a call must get. It is small, so that the broker can keep it with the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// `Done`.
    Done,
    /// `Done`, `Unaware` from a provider without the interface, or `Untouched` from one with nothing to save.
    Shutdown,
    /// `StoreOpened`, by the same store each time.
    StoreOpened,
    /// `TransportReady`.
    TransportReady,
    /// `Appended`, with at least the bytes of this piece.
    Appended {
        /// The piece's bytes.
        least: u64,
    },
    /// `Submitted` with this record; a new one is queued for this number of recipients.
    Submitted {
        /// The record.
        record: u128,
        /// How many recipients were given.
        recipients: usize,
    },
    /// `Saved` at this record in this store; a new one is in this folder.
    Saved {
        /// The record.
        record: u128,
        /// The folder.
        folder: Folder,
    },
    /// `Flagged`.
    Flagged,
    /// `Moved`, to this folder.
    Moved {
        /// The folder.
        to: Folder,
    },
    /// `FolderMade`, one that is not in every store.
    FolderMade,
    /// `Mirrored`.
    Mirrored,
    /// `Folders`: at most this many rows, in their order, after this one.
    Folders {
        /// The folder before.
        after: Option<Folder>,
        /// The most rows.
        limit: u32,
    },
    /// `Folders` with this one.
    Folder {
        /// The folder.
        folder: Folder,
    },
    /// `Contents` of this store, with at most this many rows.
    Contents {
        /// The most rows.
        limit: u32,
    },
    /// `Hits` of this store: at most this many rows, and a cursor that moves towards zero.
    Hits {
        /// The cursor before.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// `Spots`: at most this many.
    Spots {
        /// The most rows.
        limit: u32,
    },
    /// `Directories`: at most this many.
    Directories {
        /// The most rows.
        limit: u32,
    },
    /// `ChangedFolders`: at most this many.
    ChangedFolders {
        /// The most rows.
        limit: u32,
    },
    /// `Pending`: at most this many rows, and a cursor that moves forward.
    Pending {
        /// The cursor before.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// `Cursor`.
    Cursor,
    /// `Tally`.
    Tally,
    /// `Synced`.
    Synced,
    /// `Fetches`: at most this many rows, and a cursor that moves forward.
    Fetches {
        /// The cursor before.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// `Updated`, with no other notification than this.
    Updated {
        /// The record of the notification, if there is to be one.
        notice: Option<u128>,
        /// The record of the submission that forwards it, if there is to be one.
        forwarded: Option<u128>,
    },
    /// `Hastened`, with a cursor that moves forward.
    Hastened {
        /// The cursor before.
        after: u64,
    },
    /// `Removed`, from this folder if one was named.
    Removed {
        /// The folder.
        from: Option<Folder>,
    },
    /// `Setting`.
    Setting,
    /// `Setting` with a value, because it was just set.
    SettingSet,
    /// `Messages` of this store, with at most this many rows and a cursor that moves forward.
    Messages {
        /// The cursor before.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// `Found`.
    Found,
    /// `Piece` from this byte on, with at most this many bytes, and empty only at the end.
    Piece {
        /// The first byte.
        offset: u64,
        /// The most bytes.
        limit: u32,
    },
    /// `Due`: at most this many, without duplicates, in their order, after this one, neither held nor final.
    Due {
        /// Due time and order of the last one known.
        after: Option<(u64, u64)>,
        /// The most submissions.
        limit: u32,
    },
    /// `Queue`: at most this many rows, in their order, after this one, and a cursor that moves forward.
    Queue {
        /// The cursor before.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// `Queue` with this one submission.
    Submission {
        /// The record.
        record: u128,
    },
    /// `Oldest`.
    Oldest,
    /// `Prepared`: it refuses only recipients that were given, each at most once.
    Prepared,
    /// `Results` of recipients that were given, each at most once.
    Results,
    /// `Addresses`: at most this many rows, and a cursor that moves forward.
    Addresses {
        /// The cursor before.
        after: u64,
        /// The most rows.
        limit: u32,
    },
    /// `Address`.
    Address,
}

/// What is known of a call besides the call itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known<'a> {
    /// The number of the store that is called, once it is open.
    pub store: Option<u32>,
    /// The recipients of the transport's transmission, in ascending order.
    pub recipients: Option<&'a [usize]>,
}

/// Why an answer does not fit its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is the answer to another kind of call, by name.
    Kind(&'static str),
    /// It is of the right kind, but its content is impossible.
    Content(&'static str),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(name) => write!(f, "answered with {name}"),
            Self::Content(what) => write!(f, "answered with {what}"),
        }
    }
}

impl ProviderCall {
    /// What this type of provider must answer.
    pub fn expects(&self, provider: ProviderType) -> Expected {
        match self {
            Self::Logon | Self::Renew => match provider {
                ProviderType::Store => Expected::StoreOpened,
                ProviderType::Transport => Expected::TransportReady,
                ProviderType::Mailbox | ProviderType::AddressBook => Expected::Done,
            },
            Self::Mailbox(MailboxCall::Sync) => Expected::Synced,
            Self::Logoff | Self::Mailbox(_) => Expected::Done,
            Self::Write(write) => write.expects(),
            Self::Read(read) => read.expects(),
            Self::Transport(call) => call.expects(),
            Self::Address(call) => call.expects(),
            Self::QueryFastShutdown | Self::NotifyProcessShutdown | Self::DoFastShutdown => {
                Expected::Shutdown
            }
        }
    }
}

impl StoreWrite {
    /// What a store must answer.
    pub fn expects(&self) -> Expected {
        match self {
            Self::Append { bytes, .. } => Expected::Appended { least: bytes.len() as u64 },
            Self::Discard { .. } | Self::Seen { .. } | Self::Clock(_) | Self::Flush => {
                Expected::Done
            }
            Self::Submit { submission, .. } => Expected::Submitted {
                record: submission.record,
                recipients: submission.recipients.len(),
            },
            Self::Save { record, folder, .. } => {
                Expected::Saved { record: *record, folder: *folder }
            }
            Self::Copy { copy, to, .. } => Expected::Saved { record: *copy, folder: *to },
            Self::Move { to, .. } => Expected::Moved { to: *to },
            Self::SetFlags { .. } => Expected::Flagged,
            Self::MakeFolder { .. } => Expected::FolderMade,
            Self::RenameFolder { .. } | Self::RemoveFolder { .. } => Expected::Done,
            Self::Mirror(_) => Expected::Mirrored,
            Self::Update(update) => {
                let notice = update.notice.as_deref();
                Expected::Updated {
                    notice: notice.map(|notice| notice.record),
                    forwarded: notice.and_then(|notice| notice.onward.record()),
                }
            }
            Self::Hasten { after, .. } => Expected::Hastened { after: *after },
            Self::Delete { .. } => Expected::Removed { from: None },
            Self::DeleteFrom { from, .. } => Expected::Removed { from: Some(*from) },
            Self::Setting { change, .. } => match change {
                SettingChange::Set(_) => Expected::SettingSet,
                SettingChange::Keep | SettingChange::Remove => Expected::Setting,
            },
        }
    }
}

impl StoreRead {
    /// What a store must answer.
    pub fn expects(&self) -> Expected {
        match *self {
            Self::List { after, limit, .. } => Expected::Messages { after, limit },
            Self::Folders { after, limit } => Expected::Folders { after, limit },
            Self::FindFolder { folder } => Expected::Folder { folder },
            Self::Contents { limit, .. } => Expected::Contents { limit },
            Self::Search { after, limit, .. } => Expected::Hits { after, limit },
            Self::Mirrored { limit, .. } => Expected::Spots { limit },
            Self::Directories { limit, .. } => Expected::Directories { limit },
            Self::ChangedFolders { limit, .. } => Expected::ChangedFolders { limit },
            Self::Pending { after, limit, .. } => Expected::Pending { after, limit },
            Self::Cursor { .. } => Expected::Cursor,
            Self::Fetches { after, limit, .. } => Expected::Fetches { after, limit },
            Self::Lies { .. } => Expected::Fetches { after: 0, limit: 1 },
            Self::Tally { .. } => Expected::Tally,
            Self::Find { .. } => Expected::Found,
            Self::Piece { offset, limit, .. } => Expected::Piece { offset, limit },
            Self::Setting { .. } => Expected::Setting,
            Self::Due { after, limit } => Expected::Due { after, limit },
            Self::Queue { after, limit, .. } => Expected::Queue { after, limit },
            Self::Submission { record } => Expected::Submission { record },
            Self::Oldest => Expected::Oldest,
        }
    }
}

impl TransportCall {
    /// What a transport must answer.
    pub fn expects(&self) -> Expected {
        match self {
            Self::Prepare(_) => Expected::Prepared,
            Self::Complete { .. } | Self::Recover { .. } => Expected::Results,
            Self::Cancel { .. } | Self::Validate(_) => Expected::Done,
        }
    }
}

impl AddressCall {
    /// What an address book must answer.
    pub fn expects(&self) -> Expected {
        match self {
            Self::List { after, limit } => Expected::Addresses { after: *after, limit: *limit },
            Self::Act(AddressAction::Add { .. } | AddressAction::Resolve { .. }) => {
                Expected::Address
            }
            Self::Act(AddressAction::Remove { .. }) => Expected::Done,
        }
    }
}

impl Expected {
    /// Checks that an answer fits the call and that its content is possible.
    pub fn check(self, answer: &ProviderAnswer, known: Known<'_>) -> Result<(), Wrong> {
        use ProviderAnswer as Is;
        let kind = || Err(Wrong::Kind(answer.name()));
        match self {
            Self::Done => {
                let Is::Done = answer else { return kind() };
                Ok(())
            }
            Self::Shutdown => {
                let (Is::Done | Is::Unaware | Is::Untouched) = answer else { return kind() };
                Ok(())
            }
            Self::StoreOpened => {
                let Is::StoreOpened(facts) = answer else { return kind() };
                only(known.store.is_none_or(|uid| uid == facts.uid), "the number of another store")
            }
            Self::TransportReady => {
                let Is::TransportReady(_) = answer else { return kind() };
                Ok(())
            }
            Self::Appended { least } => {
                let Is::Appended(size) = answer else { return kind() };
                only(*size >= least, "fewer bytes than it was given")
            }
            Self::Submitted { record, recipients } => {
                let Is::Submitted { submission, new } = answer else { return kind() };
                only(submission.record == record, "another message")?;
                let queued = |r: &Recipient| r.state == SubmissionState::Queued;
                let all = &submission.recipients;
                only(!new || all.len() == recipients, "other recipients")?;
                only(!new || all.iter().all(queued), "a new message that is not queued")
            }
            Self::Saved { record, folder } => {
                let Is::Saved { place, new } = answer else { return kind() };
                only(place.entry.record == record, "another message")?;
                only(known.is_of(place.entry.store), "a message of another store")?;
                only(!new || place.folder == folder, "a new message elsewhere")
            }
            Self::Flagged => {
                let Is::Flagged { .. } = answer else { return kind() };
                Ok(())
            }
            Self::Moved { to: wanted } => {
                let Is::Moved { to, .. } = answer else { return kind() };
                only(*to == wanted, "another folder")
            }
            Self::FolderMade => {
                let Is::FolderMade(folder) = answer else { return kind() };
                only(folder.built_in().is_none(), "a folder that every store has")
            }
            Self::Mirrored => {
                let Is::Mirrored(_) = answer else { return kind() };
                Ok(())
            }
            Self::Folders { after, limit } => {
                let Is::Folders { rows, next } = answer else { return kind() };
                only(rows.len() <= limit as usize, "more rows than it was asked for")?;
                let ordered = after.into_iter().chain(rows.iter().map(|row| row.folder));
                only(
                    ordered.is_sorted_by(|a, b| a < b),
                    "rows that are not the next in their order",
                )?;
                let last = rows.last().map(|row| row.folder);
                only(next.is_none() || *next == last, "a cursor that does not go on")
            }
            Self::Folder { folder } => {
                let Is::Folders { rows, .. } = answer else { return kind() };
                let it = matches!(&rows[..], [row] if row.folder == folder);
                only(it, "other rows than the one it was asked for")
            }
            Self::Contents { limit } => {
                let Is::Contents { rows, next } = answer else { return kind() };
                only(rows.len() <= limit as usize, "more rows than it was asked for")?;
                // A page without rows and with a place to go on would be asked for without end.
                only(next.is_none() || !rows.is_empty(), "more rows behind none")?;
                let own = rows.iter().all(|row| known.is_of(row.entry.store));
                only(own, "messages of another store")
            }
            Self::Hits { after, limit } => {
                let Is::Hits { rows, next, .. } = answer else { return kind() };
                only(rows.len() <= limit as usize, "more rows than it was asked for")?;
                let back = next.is_none_or(|next| next > 0 && (after == 0 || next < after));
                only(back, "a cursor that does not go on")?;
                let own = rows.iter().all(|row| known.is_of(row.entry.store));
                only(own, "messages of another store")
            }
            Self::Spots { limit } => {
                let Is::Spots { rows, more } = answer else { return kind() };
                only(rows.len() <= limit as usize, "more rows than it was asked for")?;
                only(!more || !rows.is_empty(), "more rows behind none")
            }
            Self::Directories { limit } => {
                let Is::Directories { dirs, more, .. } = answer else { return kind() };
                only(dirs.len() <= limit as usize, "more rows than it was asked for")?;
                only(!more || !dirs.is_empty(), "more rows behind none")
            }
            Self::ChangedFolders { limit } => {
                let Is::ChangedFolders(rows) = answer else { return kind() };
                only(rows.len() <= limit as usize, "more rows than it was asked for")
            }
            Self::Pending { after, limit } => {
                let Is::Pending { rows, next } = answer else { return kind() };
                a_page(rows.len(), (after, limit), *next)
            }
            Self::Cursor => {
                let Is::Cursor(_) = answer else { return kind() };
                Ok(())
            }
            Self::Tally => {
                let Is::Tally(_) = answer else { return kind() };
                Ok(())
            }
            Self::Synced => {
                let Is::Synced(_) = answer else { return kind() };
                Ok(())
            }
            Self::Fetches { after, limit } => {
                let Is::Fetches { rows, next } = answer else { return kind() };
                a_page(rows.len(), (after, limit), *next)
            }
            Self::Updated { notice: wanted, forwarded } => {
                let Is::Updated { notice, .. } = answer else { return kind() };
                let Some(stored) = notice else { return Ok(()) };
                only(Some(stored.record) == wanted, "another notification")?;
                let Some(submission) = &stored.forwarded else { return Ok(()) };
                only(Some(submission.record) == forwarded, "another forwarded notification")?;
                only(submission.from.is_empty(), "a forwarded notification with a sender")
            }
            Self::Hastened { after } => {
                let Is::Hastened { next, .. } = answer else { return kind() };
                goes_on(after, *next)
            }
            Self::Removed { from: wanted } => {
                let Is::Removed { from, to } = answer else { return kind() };
                only(wanted.is_none_or(|folder| folder == *from), "another folder")?;
                only(*to != Some(*from), "the folder that it was in")
            }
            Self::Setting => {
                let Is::Setting(_) = answer else { return kind() };
                Ok(())
            }
            Self::SettingSet => {
                let Is::Setting(value) = answer else { return kind() };
                only(value.is_some(), "no value of what was set")
            }
            Self::Messages { after, limit } => {
                let Is::Messages { rows, next } = answer else { return kind() };
                a_page(rows.len(), (after, limit), *next)?;
                let own = rows.iter().all(|row| known.is_of(row.entry.store));
                only(own, "messages of another store")
            }
            Self::Found => {
                let Is::Found { .. } = answer else { return kind() };
                Ok(())
            }
            Self::Piece { offset, limit } => {
                let Is::Piece { size, bytes, .. } = answer else { return kind() };
                let count = bytes.len() as u64;
                only(count <= u64::from(limit), "more bytes than it was asked for")?;
                let end = offset.saturating_add(count);
                only(count == 0 || end <= *size, "bytes behind the message's end")?;
                only(count > 0 || end >= *size, "no bytes before the message's end")
            }
            Self::Due { after, limit } => {
                let Is::Due { submissions, more, .. } = answer else { return kind() };
                only(submissions.len() <= limit as usize, "more rows than it was asked for")?;
                only(!more || !submissions.is_empty(), "more rows behind none")?;
                only(are_due(submissions, after), "rows that are not the next in their order")
            }
            Self::Queue { after, limit } => {
                let Is::Queue { rows, next } = answer else { return kind() };
                a_page(rows.len(), (after, limit), *next)?;
                let orders = || rows.iter().map(|row| row.order);
                only(orders().chain(*next).all(|order| order < CURSORS), "a number out of bounds")?;
                let last = orders().next_back().unwrap_or(0);
                only(next.is_none_or(|next| next >= last), "a cursor that goes back")?;
                let ordered = [after].into_iter().chain(orders()).is_sorted_by(|a, b| a < b);
                only(ordered, "rows that are not the next in their order")
            }
            Self::Submission { record } => {
                let Is::Queue { rows, .. } = answer else { return kind() };
                let it = matches!(&rows[..], [row] if row.record == record);
                only(it, "other rows than the one it was asked for")
            }
            Self::Oldest => {
                let Is::Oldest(_) = answer else { return kind() };
                Ok(())
            }
            Self::Prepared => {
                let Is::Prepared { refused, .. } = answer else { return kind() };
                known.has_given(refused)
            }
            Self::Results => {
                let Is::Results(results) = answer else { return kind() };
                known.has_given(results)
            }
            Self::Addresses { after, limit } => {
                let Is::Addresses { rows, next } = answer else { return kind() };
                a_page(rows.len(), (after, limit), *next)
            }
            Self::Address => {
                let Is::Address(_) = answer else { return kind() };
                Ok(())
            }
        }
    }
}

impl Expected {
    /// Whether the answer names its store.
    pub(crate) fn names_its_store(self) -> bool {
        matches!(
            self,
            Self::StoreOpened
                | Self::Saved { .. }
                | Self::Messages { .. }
                | Self::Contents { .. }
                | Self::Hits { .. }
        )
    }
}

impl Known<'_> {
    /// Whether a store's number is the one of the store that is called.
    fn is_of(&self, uid: u32) -> bool {
        self.store.is_none_or(|store| store == uid)
    }

    /// Checks that results are for recipients that the transport was given, each at most once.
    pub(crate) fn has_given(&self, results: &[RecipientResult]) -> Result<(), Wrong> {
        let Some(given) = self.recipients else { return Ok(()) };
        let is_given = |r: &RecipientResult| given.binary_search(&r.recipient).is_ok();
        only(results.iter().all(is_given), "recipients that it was not given")?;
        let places = || results.iter().map(|r| r.recipient);
        // Most transports answer in the order of the given recipients.
        let once = places().is_sorted_by(|a, b| a < b) || {
            let mut seen = HashSet::new();
            places().all(|place| seen.insert(place))
        };
        only(once, "one recipient twice")
    }
}

/// Checks a condition of an answer. If it does not hold, the error names what was answered.
fn only(holds: bool, else_with: &'static str) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(Wrong::Content(else_with)) }
}

/// Checks a page of rows after a cursor. A page whose cursor does not move forward would be asked for without end.
fn a_page(rows: usize, (after, limit): (u64, u32), next: Option<u64>) -> Result<(), Wrong> {
    only(rows <= limit as usize, "more rows than it was asked for")?;
    goes_on(after, next)
}

fn goes_on(after: u64, next: Option<u64>) -> Result<(), Wrong> {
    only(next.is_none_or(|next| next > after), "a cursor that does not go on")
}

/// Whether submissions are due in this order after the last one known, without duplicates.
fn are_due(submissions: &[Submission], after: Option<(u64, u64)>) -> bool {
    let places = submissions.iter().map(|s| (s.due, s.order));
    let mut records = HashSet::new();
    let waits = |s: &Submission| {
        let state = s.state();
        !state.is_final() && state != SubmissionState::Held && records.insert(s.record)
    };
    after.into_iter().chain(places).is_sorted_by(|a, b| a < b) && submissions.iter().all(waits)
}

/// A page's cursor is the slot of a store and the place in its queue.
pub(crate) const CURSOR_BITS: u32 = 48;

/// Places in a store's queue are below this.
pub(crate) const CURSORS: u64 = 1 << CURSOR_BITS;
