//! The continuations of provider calls.
//!
//! ```text
//!  Ask<A> ──Broker::call──► provider ──► Expected::check ──► A ──► A::After goes on
//!    └── the continuation must take an A ─────────────────────────────┘
//! ```
//!
//! There is one kind of continuation for each kind of answer ([`GoesOn`]), so a continuation never gets the answer to another kind
//! of call. A call that no provider answers continues with an error.

use sundown_protocol::notification::FolderChange;
use sundown_protocol::reply::{Reply, Rows, TableRows};
use sundown_protocol::request::Folder;
use sundown_protocol::{EntryId, Fault, MemberId, ObjectId, SessionId, UploadId};

use crate::broker::Broker;
use crate::flows::leaving::shutdown::Visit;
use crate::flows::sending::changes::{Flushing, Wish};
use crate::flows::sending::submit::{Doubt, InFlight};
use crate::ground::event::{EngineId, LaneId, ProcessId, Turn};
use crate::ground::provider::{AskedBy, ProviderAnswer, ProviderError};
use crate::peers::account::Charge;
use crate::peers::connection::Asker;
use crate::peers::process::Failed;
use crate::providers::ask::{
    self, Addresses, Answer, Contents, Done, Hits, Messages, OneSubmission, Piece, Ready, Saved,
    Setting, Shutdown, Synced, Updated, typed,
};
use crate::providers::left_behind::Correction;
use crate::queue::change::message_id;
use crate::queue::flight::Recording;
use crate::queue::untold::Told;

/// The continuation of a call, by the kind of its answer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Then {
    Done(AfterDone),
    Shutdown(Visit),
    Ready(AfterLogon),
    Appended(Appending),
    Submitted(InFlight),
    Saved(AfterSave),
    Updated(AfterUpdate),
    Hastened(Flushing),
    Removed(Deleting),
    Flagged(Changing),
    Moved(Changing),
    FolderMade(Foldering),
    Folders(AfterFolders),
    Contents(Asker),
    Hits(Asker),
    Setting(Asker),
    Messages(Asker),
    Found(Finding),
    Piece(AfterPiece),
    Due(EngineId),
    Queue(Listing),
    OneSubmission(AfterSubmission),
    Oldest(EngineId),
    /// Of a flight.
    Prepared(u64),
    /// Of a flight.
    Results(u64),
    Addresses(Asker),
    Address(AfterAddress),
    Synced(Syncing),
}

/// A sync of a session's mailboxes, one behind the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syncing {
    pub(crate) asker: Asker,
    pub(crate) session: SessionId,
    /// The provider that was asked.
    pub(crate) place: usize,
    /// What those before have found.
    pub(crate) found: Synced,
}

/// A message whose bytes a mailbox is to fetch first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetching {
    pub(crate) wanted: Wanted,
    pub(crate) session: SessionId,
    /// The provider that was asked.
    pub(crate) place: usize,
}

/// After a call that only succeeds or fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AfterDone {
    /// Nothing: the answer is not waited for.
    Nothing,
    AddressRemoved(Asker, SessionId),
    LoggedOff(SessionId, usize),
    EngineClosed(EngineId),
    Flushed(MemberId),
    /// Whether the store of a flight to be recovered is still there.
    LookedAt(u64),
    /// A store has flushed what a process handed over.
    Swept(Visit),
    Validated(Asker, SessionId, usize),
    FolderChanged(Foldering),
    /// A mailbox was told to watch or to rest.
    Told(SessionId, usize),
    /// A mailbox was told that there are pending changes.
    Poked(SessionId, usize),
    /// A mailbox was to fetch the bytes of a message that somebody reads.
    Fetched(Fetching),
    /// A transport that could not be reached was asked whether it works.
    Reached(SessionId, usize, AskedBy),
}

/// After a logon.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AfterLogon {
    LoggedOn(SessionId, usize),
    /// A provider was renewed by this lane, for this session.
    Renewed(LaneId, Option<SessionId>),
    EngineOpened(EngineId),
}

/// An upload whose store was given a piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appending {
    pub(crate) asker: Asker,
    pub(crate) member: MemberId,
    pub(crate) upload: UploadId,
    /// The number by which the store knows the upload.
    pub(crate) number: u64,
}

/// After a save, with the charge for the content that is being stored.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum AfterSave {
    Saved {
        asker: Asker,
        member: MemberId,
        object: ObjectId,
        engine: EngineId,
        record: u128,
        charge: Charge,
    },
    /// A message was put into a folder.
    Filed {
        asker: Asker,
        member: MemberId,
        engine: EngineId,
        charge: Charge,
    },
    Copied(Copying),
    /// The draft of a member that has left.
    Recovered {
        engine: EngineId,
        process: ProcessId,
        record: u128,
        charge: Charge,
    },
    /// The draft of a member whose process shuts down fast.
    Kept {
        sweep: u64,
        session: SessionId,
        member: MemberId,
        object: ObjectId,
        engine: EngineId,
        charge: Charge,
    },
}

/// After an update of a submission.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum AfterUpdate {
    /// The intent of a flight was stored.
    Marked(u64, Told),
    Recorded(Recording),
    EntryChanged(Wish),
}

/// A message that is being deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleting {
    pub(crate) asker: Asker,
    pub(crate) engine: EngineId,
    pub(crate) entry: EntryId,
}

/// A message that is being flagged or moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changing {
    pub(crate) asker: Asker,
    pub(crate) engine: EngineId,
    pub(crate) entry: EntryId,
}

/// A folder that is being made, renamed or removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Foldering {
    pub(crate) asker: Asker,
    pub(crate) engine: EngineId,
    /// The folder that is renamed or removed.
    pub(crate) folder: Option<(Folder, FolderChange)>,
}

/// After folders were looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AfterFolders {
    Listed(Asker),
    /// A folder that is being opened.
    Opened {
        asker: Asker,
        member: MemberId,
        store: u16,
        folder: Folder,
    },
}

/// A message that is being opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finding {
    pub(crate) asker: Asker,
    pub(crate) member: MemberId,
    pub(crate) entry: EntryId,
}

/// After a piece of a message was read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AfterPiece {
    Read(Reading),
    /// Somebody wants to know the message's `Message-ID`.
    Identified(Asker),
}

/// What is done with a message when its bytes are here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    Read(Reading),
    Copied(Copying),
}

impl Wanted {
    pub(crate) fn asker(&mut self) -> &mut Asker {
        match self {
            Self::Read(reading) => &mut reading.asker,
            Self::Copied(copying) => &mut copying.asker,
        }
    }

    /// Where the message is.
    pub(crate) fn engine(&self) -> EngineId {
        match self {
            Self::Read(reading) => reading.engine,
            Self::Copied(copying) => copying.engine,
        }
    }

    pub(crate) fn record(&self) -> u128 {
        match self {
            Self::Read(reading) => reading.record,
            Self::Copied(copying) => copying.record,
        }
    }
}

/// A message that is being copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copying {
    pub(crate) asker: Asker,
    pub(crate) member: MemberId,
    /// Where the message is, and its copy will be.
    pub(crate) engine: EngineId,
    pub(crate) record: u128,
    /// The record of the copy, and its folder.
    pub(crate) copy: (u128, Folder),
    /// Whether the message's bytes have been fetched for that.
    pub(crate) fetched: bool,
}

/// A message that is being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) asker: Asker,
    /// Where the message is.
    pub(crate) engine: EngineId,
    pub(crate) record: u128,
    /// The first byte that is wanted.
    pub(crate) offset: u64,
    /// Whether reading it marks a notification as seen.
    pub(crate) tells: bool,
    /// Whether its bytes have been fetched for that.
    pub(crate) fetched: bool,
}

/// A queue that is being listed.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Listing {
    pub(crate) asker: Asker,
    pub(crate) engine: EngineId,
    pub(crate) profile: Option<String>,
    /// The slot of the store.
    pub(crate) slot: u64,
}

/// After one submission was looked up.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum AfterSubmission {
    Wanted(Wish),
    /// It was unknown whether a write was done.
    Doubted {
        engine: EngineId,
        record: u128,
        doubt: Doubt,
    },
    Shown {
        asker: Asker,
        engine: EngineId,
        profile: Option<String>,
    },
    /// The asker wants to know the `Message-ID` of the message.
    Identified {
        asker: Asker,
        engine: EngineId,
    },
    /// A worker that was left behind has answered what became of it.
    Corrected(EngineId, Box<Correction>),
}

/// After a row of an address book was added or looked up.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum AfterAddress {
    Added(Asker, SessionId),
    Resolved(Resolving),
}

/// A name that one address book after the other is asked for.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Resolving {
    pub(crate) asker: Asker,
    pub(crate) member: MemberId,
    pub(crate) name: String,
    /// How many address books were asked.
    pub(crate) tried: usize,
}

/// The continuation of an answer, by the kind of the answer.
pub(crate) trait GoesOn: Answer {
    /// The continuation.
    type After;

    /// The continuation among all kinds.
    fn then(after: Self::After) -> Then;
}

/// One line for each kind of answer: its continuation.
macro_rules! goes_on {
    ($($kind:ident: $after:ty;)*) => { $(
        impl GoesOn for ask::$kind {
            type After = $after;

            fn then(after: $after) -> Then {
                Then::$kind(after)
            }
        }
    )* };
}

goes_on! {
    Done: AfterDone;
    Appended: Appending;
    Submitted: InFlight;
    Saved: AfterSave;
    Updated: AfterUpdate;
    Hastened: Flushing;
    Removed: Deleting;
    Flagged: Changing;
    Moved: Changing;
    FolderMade: Foldering;
    Folders: AfterFolders;
    Contents: Asker;
    Hits: Asker;
    Setting: Asker;
    Messages: Asker;
    Found: Finding;
    Piece: AfterPiece;
    Due: EngineId;
    Queue: Listing;
    Oldest: EngineId;
    Prepared: u64;
    Results: u64;
    Addresses: Asker;
    Address: AfterAddress;
    Synced: Syncing;
    Shutdown: Visit;
    Ready: AfterLogon;
    OneSubmission: AfterSubmission;
}

impl Broker {
    /// Continues a call with its result.
    pub(crate) fn go_on(
        &mut self,
        then: Then,
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        match then {
            Then::Done(after) => self.after_done(after, typed(result), turn),
            Then::Shutdown(visit) => self.swept(visit, typed(result), turn),
            Then::Ready(after) => self.after_logon(after, typed(result), turn),
            Then::Appended(after) => self.appended(after, typed(result), turn),
            Then::Submitted(mut in_flight) => {
                if let Some(charge) = in_flight.charge.take() {
                    self.peers.processes.accounts.give_back(*charge);
                }
                self.submitted(&in_flight, typed(result), turn);
            }
            Then::Saved(after) => self.after_save(after, typed(result), turn),
            Then::Updated(after) => self.after_update(after, typed(result), turn),
            Then::Hastened(flushing) => self.hastened(flushing, typed(result), turn),
            Then::Removed(after) => self.deleted(after, typed(result), turn),
            Then::Flagged(after) => self.flagged(after, typed(result), turn),
            Then::Moved(after) => self.moved(after, typed(result), turn),
            Then::FolderMade(after) => self.folder_made(after, typed(result), turn),
            Then::Folders(after) => self.folders_read(after, typed(result), turn),
            Then::Contents(asker) => {
                let rows = |Contents { rows, next }| Reply::Contents { rows, next };
                self.reply(asker, typed(result).map(rows), turn);
            }
            Then::Hits(asker) => {
                let found = |Hits { rows, next, unindexed }| Reply::Found { rows, next, unindexed };
                self.reply(asker, typed(result).map(found), turn);
            }
            Then::Setting(asker) => {
                let value = |Setting(value)| Reply::Setting(value);
                self.reply(asker, typed(result).map(value), turn);
            }
            Then::Messages(asker) => {
                let rows = |Messages { rows, next }| rows_of(TableRows::Messages(rows), next);
                self.reply(asker, typed(result).map(rows), turn);
            }
            Then::Found(after) => self.found(after, typed(result), turn),
            Then::Piece(AfterPiece::Read(reading)) => self.piece_read(reading, typed(result), turn),
            Then::Piece(AfterPiece::Identified(asker)) => {
                let id = |Piece { bytes, .. }| Reply::MessageId(message_id(&bytes));
                self.reply(asker, typed(result).map(id), turn);
            }
            Then::Due(engine) => self.due_loaded(engine, typed(result), turn),
            Then::Queue(listing) => self.queue_listed(&listing, typed(result), turn),
            Then::OneSubmission(after) => self.after_submission(after, typed(result), turn),
            Then::Oldest(engine) => self.measured(engine, &typed(result)),
            Then::Prepared(flight) => self.prepared(flight, typed(result), turn),
            Then::Results(flight) => self.completed(flight, typed(result), turn),
            Then::Addresses(asker) => {
                let rows = |Addresses { rows, next }| rows_of(TableRows::Addresses(rows), next);
                self.reply(asker, typed(result).map(rows), turn);
            }
            Then::Synced(after) => self.synced(after, typed(result), turn),
            Then::Address(AfterAddress::Added(asker, session)) => {
                self.address_added(asker, session, typed(result), turn);
            }
            Then::Address(AfterAddress::Resolved(resolving)) => {
                self.resolved(resolving, typed(result), turn);
            }
        }
    }

    /// Answers a request with the outcome of its provider call.
    pub(crate) fn reply(
        &mut self,
        asker: Asker,
        reply: Result<Reply, ProviderError>,
        turn: &mut Turn,
    ) {
        self.answer(asker, reply.map_err(Fault::from), turn);
    }

    fn after_done(
        &mut self,
        after: AfterDone,
        result: Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        match after {
            AfterDone::Nothing => {}
            AfterDone::AddressRemoved(asker, session) => {
                if result.is_ok() {
                    self.address_book_changed(session, turn);
                }
                self.reply(asker, result.map(|Done| Reply::Done), turn);
            }
            // A provider's answer to a logoff never keeps a session open (PLOG-5).
            AfterDone::LoggedOff(session, place) => self.provider_logged_off(session, place, turn),
            AfterDone::EngineClosed(engine) => {
                self.engine_closed(engine, result.as_ref().err(), turn);
            }
            AfterDone::Flushed(member) => self.written(member, turn),
            AfterDone::LookedAt(flight) => self.looked_at(flight, &result, turn),
            AfterDone::Swept(visit) => self.swept(visit, result.map(Shutdown::from), turn),
            AfterDone::Validated(asker, session, place) => {
                self.validated(asker, (session, place), result, turn);
            }
            AfterDone::Fetched(after) => self.fetched(after, result, turn),
            AfterDone::FolderChanged(after) => self.folder_changed(after, result, turn),
            AfterDone::Told(session, place) => self.mailbox_told(session, place, result, turn),
            AfterDone::Poked(session, place) => self.poked(session, place, result, turn),
            AfterDone::Reached(session, place, asked_by) => {
                self.reach_answered((session, place), asked_by, &result, turn);
            }
        }
    }

    fn after_logon(
        &mut self,
        after: AfterLogon,
        result: Result<Ready, ProviderError>,
        turn: &mut Turn,
    ) {
        match after {
            AfterLogon::LoggedOn(session, place) => {
                self.provider_logged_on(session, place, result, turn);
            }
            AfterLogon::Renewed(lane, session) => self.renewed(lane, session, &result, turn),
            AfterLogon::EngineOpened(engine) => self.engine_logged_on(engine, result, turn),
        }
    }

    fn after_save(
        &mut self,
        after: AfterSave,
        result: Result<Saved, ProviderError>,
        turn: &mut Turn,
    ) {
        match after {
            AfterSave::Saved { asker, member, object, engine, record, charge } => {
                self.peers.processes.accounts.give_back(charge);
                self.saved(asker, (member, object), (engine, record), result, turn);
            }
            AfterSave::Filed { asker, member, engine, charge } => {
                self.peers.processes.accounts.give_back(charge);
                self.filed(asker, (member, engine), result, turn);
            }
            AfterSave::Copied(copying) => self.copied(copying, result, turn),
            AfterSave::Recovered { engine, process, record, charge } => {
                self.peers.processes.accounts.give_back(charge);
                match result {
                    Ok(saved) => self.recovered(engine, &saved, turn),
                    Err(why) => {
                        let entry = EntryId { store: self.store_uid(engine), record };
                        self.note_lost(process, [Failed { entry, why }]);
                    }
                }
                if let Some(process) = self.peers.processes.get_mut(process) {
                    process.recovering -= 1;
                }
                self.written_of(process, turn);
            }
            AfterSave::Kept { sweep, session, member, object, engine, charge } => {
                self.peers.processes.accounts.give_back(charge);
                self.kept((sweep, engine), (session, member, object), result, turn);
            }
        }
    }

    fn after_update(
        &mut self,
        after: AfterUpdate,
        result: Result<Updated, ProviderError>,
        turn: &mut Turn,
    ) {
        match after {
            AfterUpdate::Marked(flight, told) => self.marked(flight, told, result, turn),
            AfterUpdate::Recorded(recording) => self.recorded(recording, result, turn),
            AfterUpdate::EntryChanged(wish) => self.entry_changed(wish, result, turn),
        }
    }

    fn after_submission(
        &mut self,
        after: AfterSubmission,
        result: Result<OneSubmission, ProviderError>,
        turn: &mut Turn,
    ) {
        match after {
            AfterSubmission::Wanted(wish) => self.entry_found(wish, result, turn),
            AfterSubmission::Doubted { engine, record, doubt } => {
                self.found_out((engine, record), doubt, result, turn);
            }
            AfterSubmission::Corrected(engine, correction) => {
                self.corrected(engine, *correction, result, turn);
            }
            AfterSubmission::Shown { asker, engine, profile } => {
                self.entry_shown(asker, (engine, profile.as_deref()), result, turn);
            }
            AfterSubmission::Identified { asker, engine } => {
                self.entry_identified(asker, engine, result, turn);
            }
        }
    }
}

/// The reply with these rows.
fn rows_of(rows: TableRows, next: Option<u64>) -> Reply {
    Reply::Rows(Rows { rows, next })
}
