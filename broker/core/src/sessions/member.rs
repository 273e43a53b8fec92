//! Members: each one is a successful logon.
//!
//! ```text
//!  Attached ──logoff──► Draining ──everything durable, mail processed or time up──► gone
//!     │  ▲                 │
//!     │  └──could not be made durable
//!     └──disconnected, evicted, broker stopped──► gone
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sundown_protocol::reply::LoggedOff;
use sundown_protocol::request::{AdviseSource, LogonFlags};
use sundown_protocol::{AdviseId, Events, MemberId, ObjectId, SessionId, UploadId};

use crate::ground::event::{ConnectionId, EngineId, ProcessId};
use crate::ground::settings::Right;
use crate::peers::account::Charge;
use crate::peers::connection::Asker;
use crate::peers::process::Failed;
use crate::sessions::grants::Expiry;
use crate::sessions::object::Objects;

/// The most submissions of one member that are followed until they are final. A wait for further submissions waits for their whole
/// queue.
pub(crate) const FOLLOWED: usize = if cfg!(test) { 200 } else { 4_096 };

/// A member of a session.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) session: SessionId,
    pub(crate) connection: ConnectionId,
    pub(crate) process: ProcessId,
    pub(crate) flags: LogonFlags,
    pub(crate) right: Right,
    /// Wall time in milliseconds since 1970.
    pub(crate) since: u64,
    pub(crate) state: MemberState,
    pub(crate) objects: Objects,
    /// The unsaved drafts among the objects, so that a departure need not search all objects.
    pub(crate) drafts: BTreeSet<ObjectId>,
    /// References that other processes hold to its objects.
    pub(crate) references: BTreeSet<MemberId>,
    /// The places of its unredeemed tokens, in the order of expiry.
    pub(crate) waiting_grants: BTreeSet<Expiry>,
    pub(crate) advises: BTreeMap<AdviseId, Advise>,
    pub(crate) advised: u32,
    pub(crate) uploads: BTreeMap<UploadId, Upload>,
    /// The last uploads with a failed or refused piece. A later piece of one is never taken for the beginning of a body.
    pub(crate) failed_uploads: VecDeque<UploadId>,
    /// Submissions that are not final, and whether a drain waits for each.
    pub(crate) pending: BTreeMap<(EngineId, u128), Waits>,
    /// How many of them a drain waits for.
    pub(crate) waiting: u64,
    /// How many submissions beyond the limit are not followed, by store. They count as over when nothing more is to be sent from
    /// that store.
    pub(crate) unfollowed: BTreeMap<EngineId, u64>,
    /// Writes handed to a store and not answered.
    pub(crate) unwritten: u64,
    /// Submissions that were accepted and then could not be made durable.
    pub(crate) failed: Vec<Failed>,
    /// Flushes that wait for the writes before them.
    pub(crate) flushes: Vec<Asker>,
}

/// The states of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberState {
    Attached,
    /// The member called Logoff.
    Draining(Leaving),
}

/// A logoff that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) asker: Asker,
    pub(crate) wait: WaitForOthers,
    /// Until when it waits for outbound mail; `None` if it does not.
    pub(crate) drain: Option<Duration>,
    /// Until when it waits for references to the member's objects to be released, if it does.
    pub(crate) references: Duration,
    /// Until when the store may take to make writes durable.
    pub(crate) durable: Duration,
    /// How many submissions it waited for when it began.
    pub(crate) began_with: u64,
    pub(crate) told: u64,
}

/// Whether a logoff's reply waits for the other members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitForOthers {
    Yes,
    No,
}

/// Whether a drain waits for a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    Yes,
    /// The submission is held, or its outcome is unknown: waiting does not help.
    No,
}

/// A registration for notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advise {
    pub(crate) source: AdviseSource,
    pub(crate) events: Events,
}

/// A body that is being uploaded to a store.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Upload {
    pub(crate) store: u16,
    /// The number by which the store knows the upload.
    pub(crate) number: u64,
    pub(crate) size: u64,
    /// Pieces that the store has not answered.
    pub(crate) unanswered: u32,
    /// The charge for what the store has of it.
    pub(crate) charge: Charge,
}

impl Member {
    pub(crate) fn has_mail(&self) -> bool {
        !self.flags.contains(LogonFlags::NO_MAIL)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state != MemberState::Attached
    }

    /// The member's session registrations that ask for one of these events. Every registration asks for critical errors (NOTIF-2).
    pub(crate) fn session_advises(&self, mask: Events) -> Vec<AdviseId> {
        let asks = |a: &Advise| {
            a.source == AdviseSource::Session
                && (mask == Events::CRITICAL_ERROR || a.events.contains(mask))
        };
        self.advises.iter().filter(|(_, a)| asks(a)).map(|(id, _)| *id).collect()
    }

    /// Whether one more of its submissions can be followed.
    pub(crate) fn follows(&self) -> bool {
        self.pending.len() < FOLLOWED
    }

    /// How many submissions a drain waits for.
    pub(crate) fn waits_for(&self) -> u64 {
        self.waiting + self.unfollowed.values().sum::<u64>()
    }

    /// Notes the new state of one of the member's submissions; `None` if it is final.
    pub(crate) fn note(&mut self, key: (EngineId, u128), waits: Option<Waits>) {
        let before = match waits {
            Some(waits) => self.pending.insert(key, waits),
            None => self.pending.remove(&key),
        };
        self.waiting += u64::from(waits == Some(Waits::Yes));
        self.waiting -= u64::from(before == Some(Waits::Yes));
    }

    /// What a logoff reports about the member.
    pub(crate) fn account(&self) -> LoggedOff {
        LoggedOff {
            invalidated: self.objects.len() as u64,
            queued: self.pending.len() as u64,
            ..LoggedOff::default()
        }
    }
}
