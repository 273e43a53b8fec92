//! Notifications: messages that the broker sends without a request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::id::{AdviseId, EntryId, MemberId, ObjectId, SessionTag};
use crate::reply::{Peer, Place};
use crate::request::{Folder, Ticket};
use crate::version::Version;

/// An event for a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The member that is notified.
    pub member: MemberId,
    /// The member's registrations that match; empty means the session's default event queue.
    pub advises: Vec<AdviseId>,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// `fnevCriticalError`: the session is ending; log off.
    CriticalError {
        /// Always `MAPI_E_END_OF_SESSION` for a session.
        code: Code,
        /// Why the session ends.
        reason: EndReason,
        /// The process that ended it.
        by: Option<Peer>,
        /// How long the member may stay, in milliseconds; `None` means without a limit.
        grace: Option<u64>,
    },
    /// `fnevNewMail`, for a client of version 3 or older. Later ones get [`Arrived`](Self::Arrived).
    NewMail(Place),
    /// `fnevObjectCreated`.
    Created(Place),
    /// `fnevObjectModified`: the message has other flags. Its text never changes.
    Modified(Place),
    /// `fnevObjectMoved`: where the message is now, and the folder where it was. Deleting a message moves it into Deleted, and sending
    /// one moves it from the Outbox into Sent.
    Moved(Place, Folder),
    /// `fnevObjectDeleted`: where the message was. It is gone for good.
    Deleted(Place),
    /// `fnevTableModified` on an open table.
    Table {
        /// The table.
        object: ObjectId,
        /// What changed in it.
        change: TableChange,
    },
    /// `fnevExtended`: a member of the session left (event code 1).
    MemberLeft {
        /// The member.
        member: MemberId,
        /// Why it left.
        reason: LeaveReason,
    },
    /// `fnevExtended`, to the member itself: its grace ended, and it was evicted from the session (event code 2).
    Evicted,
    /// `fnevExtended`: the broker stops for a restart; calls made meanwhile wait for it (event code 3).
    BrokerStopping {
        /// How long the broker continues to serve members that leave, in milliseconds.
        within: u64,
    },
    /// `fnevExtended`, to the member that logs off: the progress of its outbound mail (event code 4).
    LogoffProgress {
        /// How many submissions the logoff still waits for.
        waiting: u64,
        /// How many submissions became final since the logoff began.
        finished: u64,
    },
    /// `fnevExtended`: these deferred submissions of the member are durable now (event code 5). The library drops its copies;
    /// programs are not told.
    Durable(Vec<EntryId>),
    /// Notifications were dropped because the client did not read them.
    Lagged {
        /// How many were dropped.
        missed: u64,
    },
    /// The newest ticket of the process, because what the broker knows of it changed. It goes to each connection of the process
    /// that sent [`Request::Ticket`](crate::Request::Ticket), for member 0. Programs are not told.
    Ticket(Ticket),
    /// The name of the member's shared session for [`Request::Return`](crate::Request::Return). It goes to members of connections
    /// that asked for tickets, after the answer to their logon. Programs are not told.
    Session(SessionTag),
    /// Several [`MemberLeft`](Self::MemberLeft) in one notification. A client of an earlier version gets a notification for each of
    /// them, and the library tells programs of each by itself.
    MembersLeft(Vec<Departure>),
    /// `fnevNewMail`: a message came into the Inbox. From version 4 on.
    Arrived(Box<Arrival>),
    /// `fnevObjectCreated`, `fnevObjectModified` or `fnevObjectDeleted` of a folder. From version 4 on.
    Folder {
        /// The number of its store ([`EntryId::store`](crate::EntryId)).
        store: u32,
        /// The folder.
        folder: Folder,
        /// What happened to it.
        change: FolderChange,
    },
}

/// A message that came (`NEWMAIL_NOTIFICATION`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Where it is.
    pub place: Place,
    /// Who it is from, with the address.
    pub from: String,
    /// Its subject.
    pub subject: String,
}

/// What happened to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FolderChange {
    /// It was made.
    Made,
    /// It has another name.
    Renamed,
    /// It was removed.
    Removed,
}

/// A member that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// The member.
    pub member: MemberId,
    /// Why it left.
    pub reason: LeaveReason,
}

/// A change of a table (`TABLE_NOTIFICATION`). The key of a folder's row is the text of its message's [`EntryId`], the key
/// of a row of the status table the provider's name. The address book only reloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableChange {
    /// `TABLE_ROW_ADDED`: the row's key.
    Added(String),
    /// `TABLE_ROW_DELETED`: the row's key.
    Deleted(String),
    /// `TABLE_ROW_MODIFIED`: the row's key.
    Modified(String),
    /// `TABLE_RELOAD`: the table must be read again. In a folder it stands for many changes at once, which are told in no other way.
    Reload,
}

/// Why a session ends for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// A member logged off with the shared flag.
    SharedLogoff,
    /// The broker was stopped on request.
    BrokerStopped,
    /// The library could not reach the broker any more.
    BrokerLost,
    /// The granting process has left, or took the grant back. The code is `RPC_E_DISCONNECTED`.
    ReferenceLost,
    /// The files of one of the session's stores were removed or replaced while they were open. From version 3 on.
    StoreLost,
}

impl EndReason {
    /// The name in `--json` output.
    pub fn name(self) -> &'static str {
        match self {
            Self::SharedLogoff => "shared-logoff",
            Self::BrokerStopped => "broker-stopped",
            Self::BrokerLost => "broker-lost",
            Self::ReferenceLost => "reference-lost",
            Self::StoreLost => "store-lost",
        }
    }
}

/// Why a member left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LeaveReason {
    /// The member logged off.
    LoggedOff,
    /// Its process shut down fast.
    FastShutdown,
    /// Its connection ended without a logoff.
    Disconnected,
    /// The member stayed past the grace of a shared logoff.
    Evicted,
    /// The broker stopped.
    BrokerStopped,
}

impl LeaveReason {
    /// The name in `--json` output.
    pub fn name(self) -> &'static str {
        match self {
            Self::LoggedOff => "logged-off",
            Self::FastShutdown => "fast-shutdown",
            Self::Disconnected => "disconnected",
            Self::Evicted => "evicted",
            Self::BrokerStopped => "broker-stopped",
        }
    }
}

/// A set of events, with MAPI's numbers.
///
/// Where a mailbox changes many messages at once (more than 16 in one step), there is no `Created`, `Modified`, `Moved` or `Deleted` for
/// each of them, but one [`TableChange::Reload`] for each open folder with a registration for [`Events::TABLE_MODIFIED`]. New mail and
/// folders are always told one by one.
///
/// ```
/// use sundown_protocol::Events;
///
/// let events = Events::CRITICAL_ERROR | Events::NEW_MAIL;
/// assert!(events.contains(Events::NEW_MAIL));
/// assert_eq!("critical-error,new-mail".parse(), Ok(events));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Events(pub u32);

impl Events {
    /// `fnevCriticalError`.
    pub const CRITICAL_ERROR: Self = Self(0x1);
    /// `fnevNewMail`.
    pub const NEW_MAIL: Self = Self(0x2);
    /// `fnevObjectCreated`.
    pub const OBJECT_CREATED: Self = Self(0x4);
    /// `fnevObjectDeleted`.
    pub const OBJECT_DELETED: Self = Self(0x8);
    /// `fnevObjectModified`.
    pub const OBJECT_MODIFIED: Self = Self(0x10);
    /// `fnevObjectMoved`.
    pub const OBJECT_MOVED: Self = Self(0x20);
    /// `fnevTableModified`.
    pub const TABLE_MODIFIED: Self = Self(0x100);
    /// `fnevStatusObjectModified`: internal, no client may register for it (NOTIF-12).
    pub const STATUS_OBJECT_MODIFIED: Self = Self(0x200);
    /// `fnevExtended`.
    pub const EXTENDED: Self = Self(0x8000_0000);

    /// The names on the command line.
    pub const NAMES: &[(&str, Self)] = &[
        ("critical-error", Self::CRITICAL_ERROR),
        ("new-mail", Self::NEW_MAIL),
        ("object-created", Self::OBJECT_CREATED),
        ("object-deleted", Self::OBJECT_DELETED),
        ("object-modified", Self::OBJECT_MODIFIED),
        ("object-moved", Self::OBJECT_MOVED),
        ("table-modified", Self::TABLE_MODIFIED),
        ("extended", Self::EXTENDED),
    ];

    /// All events for which a client may register.
    pub const fn all() -> Self {
        Self(0x8000_013F)
    }

    /// Whether every event of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Events {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events(0x{:X})", self.0)
    }
}

/// The error of a word that does not name an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownEvent(pub String);

impl fmt::Display for UnknownEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Events::NAMES.iter().map(|(name, _)| *name).collect();
        write!(f, "there is no event {:?}; the events are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownEvent {}

impl FromStr for Events {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        text.split(',').try_fold(Self::default(), |set, word| {
            let named = Self::NAMES.iter().find(|(name, _)| *name == word);
            named.map(|(_, event)| set | *event).ok_or_else(|| UnknownEvent(word.to_owned()))
        })
    }
}

impl Event {
    /// The same event for a client of this version. A reason that the version lacks is replaced by the nearest one that it has.
    #[must_use]
    pub fn in_version(self, version: Version) -> Vec<Self> {
        let Some(mut event) =
            (if version >= Version::V4 { Some(self) } else { self.before_folders() })
        else {
            return Vec::new();
        };
        if version >= Version::V3 {
            return vec![event];
        }
        if let Self::CriticalError { reason: reason @ EndReason::StoreLost, .. } = &mut event {
            *reason = EndReason::SharedLogoff;
        }
        event.each().collect()
    }

    /// The same event for a client that knows the five folders of every store: it hears of no other folder, so a message that moves
    /// between the two kinds of folders comes or goes.
    fn before_folders(self) -> Option<Self> {
        let known = |folder: Folder| folder.built_in().is_some();
        match self {
            Self::Arrived(arrival) => {
                known(arrival.place.folder).then_some(Self::NewMail(arrival.place))
            }
            Self::Folder { .. } => None,
            Self::NewMail(place)
            | Self::Created(place)
            | Self::Modified(place)
            | Self::Deleted(place)
                if !known(place.folder) =>
            {
                None
            }
            Self::Moved(place, from) => match (known(from), known(place.folder)) {
                (true, true) => Some(Self::Moved(place, from)),
                (true, false) => Some(Self::Deleted(Place { folder: from, ..place })),
                (false, true) => Some(Self::Created(place)),
                (false, false) => None,
            },
            event => Some(event),
        }
    }

    /// Whether clients of some versions get it in other words than it has.
    pub fn differs(&self) -> bool {
        let other = |folder: &Folder| folder.built_in().is_none();
        match self {
            Self::CriticalError { .. }
            | Self::MembersLeft(_)
            | Self::Arrived(_)
            | Self::Folder { .. } => true,
            Self::NewMail(place)
            | Self::Created(place)
            | Self::Modified(place)
            | Self::Deleted(place) => other(&place.folder),
            Self::Moved(place, from) => other(&place.folder) || other(from),
            _ => false,
        }
    }

    /// How many notices a program sees for this event.
    pub fn count(&self) -> u64 {
        match self {
            Self::MembersLeft(departures) => departures.len() as u64,
            _ => 1,
        }
    }

    /// The notices that a program sees for this event.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let (one, many) = match self {
            Self::MembersLeft(departures) => (None, departures),
            one => (Some(one), Vec::new()),
        };
        let left = |Departure { member, reason }| Self::MemberLeft { member, reason };
        one.into_iter().chain(many.into_iter().map(left))
    }

    /// The bit that a registration needs to match, or `None` for an event that needs no registration.
    pub fn mask(&self) -> Option<Events> {
        match self {
            Self::CriticalError { .. } => Some(Events::CRITICAL_ERROR),
            Self::NewMail(_) | Self::Arrived(_) => Some(Events::NEW_MAIL),
            Self::Folder { change, .. } => Some(match change {
                FolderChange::Made => Events::OBJECT_CREATED,
                FolderChange::Renamed => Events::OBJECT_MODIFIED,
                FolderChange::Removed => Events::OBJECT_DELETED,
            }),
            Self::Created(_) => Some(Events::OBJECT_CREATED),
            Self::Modified(_) => Some(Events::OBJECT_MODIFIED),
            Self::Moved(..) => Some(Events::OBJECT_MOVED),
            Self::Deleted(_) => Some(Events::OBJECT_DELETED),
            Self::Table { .. } => Some(Events::TABLE_MODIFIED),
            Self::MemberLeft { .. }
            | Self::MembersLeft(_)
            | Self::Evicted
            | Self::BrokerStopping { .. }
            | Self::LogoffProgress { .. } => Some(Events::EXTENDED),
            Self::Durable(_) | Self::Lagged { .. } | Self::Ticket(_) | Self::Session(_) => None,
        }
    }

    /// Whether the event may be dropped, and counted in a [`Lagged`](Self::Lagged), if the client does not read.
    pub fn may_be_dropped(&self) -> bool {
        !matches!(
            self,
            Self::CriticalError { .. }
                | Self::Evicted
                | Self::Lagged { .. }
                | Self::Ticket(_)
                | Self::Session(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client of an earlier version cannot read a reason that its version lacks.
    #[test]
    fn an_end_is_told_in_the_words_of_the_clients_version() {
        let end = |reason| Event::CriticalError {
            code: Code::E_END_OF_SESSION,
            reason,
            by: None,
            grace: Some(0),
        };
        let (lost, shared) = (end(EndReason::StoreLost), end(EndReason::SharedLogoff));
        assert_eq!(lost.clone().in_version(Version::V3), std::slice::from_ref(&lost));
        for version in [Version::V1, Version::V2] {
            assert_eq!(lost.clone().in_version(version), std::slice::from_ref(&shared));
            assert_eq!(Event::Evicted.in_version(version), [Event::Evicted]);
        }
    }

    #[test]
    fn a_set_of_events_has_its_parts_and_nothing_else() {
        let set = Events::NEW_MAIL | Events::EXTENDED;
        assert!(set.contains(Events::NEW_MAIL) && set.contains(Events::EXTENDED));
        assert!(set.contains(set) && set.contains(Events::default()));
        assert!(!set.contains(Events::CRITICAL_ERROR) && !Events::NEW_MAIL.contains(set));
        assert!(!Events::all().contains(Events::STATUS_OBJECT_MODIFIED), "NOTIF-12");
    }

    #[test]
    fn a_word_that_is_said_twice_is_one_event() {
        assert_eq!("new-mail,new-mail".parse(), Ok(Events::NEW_MAIL));
        let refused = "new-mail,gossip".parse::<Events>().expect_err("no event");
        assert!(refused.to_string().starts_with("there is no event \"gossip\"; the events are"));
    }

    /// Scripts compare the words of `--json` with each other.
    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let ends = [
            EndReason::SharedLogoff,
            EndReason::BrokerStopped,
            EndReason::BrokerLost,
            EndReason::ReferenceLost,
            EndReason::StoreLost,
        ];
        let leaves = [
            LeaveReason::LoggedOff,
            LeaveReason::FastShutdown,
            LeaveReason::Disconnected,
            LeaveReason::Evicted,
            LeaveReason::BrokerStopped,
        ];
        assert_eq!(crate::words::of(&ends), ends.map(EndReason::name));
        assert_eq!(crate::words::of(&leaves), leaves.map(LeaveReason::name));
    }

    /// A client of an earlier version gets each of several departures by itself, and each counts as a missed notice.
    #[test]
    fn many_departures_are_as_many_notices() {
        let left = [3, 7].map(|member| Departure {
            member: MemberId(member),
            reason: LeaveReason::Disconnected,
        });
        let one = |Departure { member, reason }| Event::MemberLeft { member, reason };
        let many = Event::MembersLeft(left.to_vec());
        assert_eq!((many.count(), Event::Evicted.count()), (2, 1));
        assert_eq!(many.clone().in_version(Version::V3), std::slice::from_ref(&many));
        assert_eq!(many.clone().in_version(Version::V2), left.map(one));
        assert_eq!(many.each().collect::<Vec<_>>(), left.map(one));
    }
}
