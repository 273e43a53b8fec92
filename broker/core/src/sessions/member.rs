//! Members: one successful logon each.
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

/// Submissions of one member that are followed until they are final. What waits for more of them waits for their whole queue.
pub(crate) const FOLLOWED: usize = if cfg!(test) { 200 } else { 4_096 };

/// One member.
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
    /// Those of them that are unsaved drafts: leaving must not look through all.
    pub(crate) drafts: BTreeSet<ObjectId>,
    /// What other processes hold of it.
    pub(crate) references: BTreeSet<MemberId>,
    /// The places of its tokens that were not redeemed yet, in the order of expiry.
    pub(crate) waiting_grants: BTreeSet<Expiry>,
    pub(crate) advises: BTreeMap<AdviseId, Advise>,
    pub(crate) advised: u32,
    pub(crate) uploads: BTreeMap<UploadId, Upload>,
    /// The last uploads of which a piece failed or was refused: what comes behind that is never taken for the beginning of a body.
    pub(crate) failed_uploads: VecDeque<UploadId>,
    /// Submissions that are not final, and whether a drain waits for each.
    pub(crate) pending: BTreeMap<(EngineId, u128), Waits>,
    /// How many of them a drain waits for.
    pub(crate) waiting: u64,
    /// Of very many, those that are not followed one by one: how many by store. They are over when nothing more is to be sent there.
    pub(crate) unfollowed: BTreeMap<EngineId, u64>,
    /// Writes handed to a store and not answered.
    pub(crate) unwritten: u64,
    /// Submissions that were accepted and then could not be made durable.
    pub(crate) failed: Vec<Failed>,
    /// Flushes that wait for the writes in front of them.
    pub(crate) flushes: Vec<Asker>,
}

/// Where a member is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberState {
    Attached,
    /// It called Logoff.
    Draining(Leaving),
}

/// A logoff that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) asker: Asker,
    pub(crate) wait: WaitForOthers,
    /// Until when outbound mail is waited for; `None` when it is not.
    pub(crate) drain: Option<Duration>,
    /// Until when others may take to release what they hold of it, where that is waited for.
    pub(crate) references: Duration,
    /// Until when the store may take to make things durable.
    pub(crate) durable: Duration,
    /// How many submissions were waited for when it began.
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
    /// It is held or its outcome is unknown: waiting does not help.
    No,
}

/// One registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advise {
    pub(crate) source: AdviseSource,
    pub(crate) events: Events,
}

/// A body on its way to a store.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Upload {
    pub(crate) store: u16,
    /// The number the store knows it by.
    pub(crate) number: u64,
    pub(crate) size: u64,
    /// Pieces that the store has not answered.
    pub(crate) unanswered: u32,
    /// For what the store has of it.
    pub(crate) charge: Charge,
}

impl Member {
    pub(crate) fn has_mail(&self) -> bool {
        !self.flags.contains(LogonFlags::NO_MAIL)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state != MemberState::Attached
    }

    /// Its session registrations that ask for one of these events. Every one asks for critical errors (NOTIF-2).
    pub(crate) fn session_advises(&self, mask: Events) -> Vec<AdviseId> {
        let asks = |a: &Advise| {
            a.source == AdviseSource::Session
                && (mask == Events::CRITICAL_ERROR || a.events.contains(mask))
        };
        self.advises.iter().filter(|(_, a)| asks(a)).map(|(id, _)| *id).collect()
    }

    /// Whether one more submission of it can be followed.
    pub(crate) fn follows(&self) -> bool {
        self.pending.len() < FOLLOWED
    }

    /// How many submissions a drain waits for.
    pub(crate) fn waits_for(&self) -> u64 {
        self.waiting + self.unfollowed.values().sum::<u64>()
    }

    /// A submission of this member is in another state now.
    pub(crate) fn note(&mut self, key: (EngineId, u128), waits: Option<Waits>) {
        let before = match waits {
            Some(waits) => self.pending.insert(key, waits),
            None => self.pending.remove(&key),
        };
        self.waiting += u64::from(waits == Some(Waits::Yes));
        self.waiting -= u64::from(before == Some(Waits::Yes));
    }

    /// What a logoff says of it.
    pub(crate) fn account(&self) -> LoggedOff {
        LoggedOff {
            invalidated: self.objects.len() as u64,
            queued: self.pending.len() as u64,
            ..LoggedOff::default()
        }
    }
}
