//! Connections: how much each may ask at once, and the askers to answer.

use std::collections::{BTreeSet, VecDeque};

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::{MemberId, RequestId, SessionId};

#[cfg(test)]
use crate::broker::Broker;
use crate::ground::event::{ConnectionId, ProcessId};
use crate::ground::numbers::NumberMap;
use crate::peers::account::AccountId;

/// The most evicted members that a connection remembers, to answer for them with the right code.
const REMEMBERED: usize = 4_096;

/// One connection.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Connection {
    pub(crate) process: ProcessId,
    account: AccountId,
    pub(crate) members: BTreeSet<MemberId>,
    /// The copy of the library at the other end.
    pub(crate) library: [u8; 16],
    /// Sessions in which a logoff waits for the other members.
    pub(crate) leaving: Vec<SessionId>,
    /// Objects of other processes' sessions that are held through it.
    pub(crate) references: BTreeSet<MemberId>,
    /// References that were taken away.
    lost: Recent<()>,
    /// Whether it is sent each change of its process' ticket.
    pub(crate) told_tickets: bool,
    /// Members that did not leave by themselves.
    gone: Recent<LeaveReason>,
    requests: u32,
    pub(crate) bytes: u64,
    /// What its hello granted. A reload changes it only for later connections.
    granted: (u32, u64),
}

/// The asker of a request, and what the request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) connection: ConnectionId,
    pub(crate) process: ProcessId,
    /// The account that pays for the request.
    pub(crate) account: AccountId,
    pub(crate) request: RequestId,
    /// `None` for a free request.
    pub(crate) bytes: Option<u64>,
    pub(crate) counts: Counts,
    pub(crate) hears: Hears,
}

/// The handles that were last taken from a connection. They are looked up without a search, because each request may name one of
/// them.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Recent<V> {
    order: VecDeque<MemberId>,
    known: NumberMap<MemberId, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { order: VecDeque::new(), known: NumberMap::default() }
    }
}

impl<V: Copy> Recent<V> {
    fn push(&mut self, id: MemberId, value: V) {
        if self.known.insert(id, value).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn get(&self, id: MemberId) -> Option<V> {
        self.known.get(&id).copied()
    }
}

/// Whether a request still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hears {
    /// For its answer.
    Answer,
    /// The request was told that its provider did not answer in time. It still counts, and its bytes stay charged, until the
    /// provider answers.
    Nothing,
}

/// What a request counts as until it is answered, besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    Nothing,
    /// A logon in progress already counts as a member, so that many at once get no further than one after the other.
    Member,
}

impl Connection {
    pub(crate) fn new(
        (process, account): (ProcessId, AccountId),
        library: [u8; 16],
        granted: (u32, u64),
    ) -> Self {
        Self {
            process,
            account,
            members: BTreeSet::new(),
            library,
            leaving: Vec::new(),
            references: BTreeSet::new(),
            lost: Recent::default(),
            told_tickets: false,
            gone: Recent::default(),
            requests: 0,
            bytes: 0,
            granted,
        }
    }

    /// The account that pays for its requests.
    pub(crate) fn account(&self) -> AccountId {
        self.account
    }

    /// Counts an unanswered request. If it exceeds what was granted, it is not counted, and the error is what was granted.
    #[inline]
    pub(super) fn book(&mut self, bytes: u64) -> Result<(), (u32, u64)> {
        let (requests, most) = self.granted;
        if self.requests >= requests || self.bytes + bytes > most {
            return Err(self.granted);
        }
        self.requests += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Counts a request as answered.
    #[inline]
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.requests -= 1;
        self.bytes -= bytes;
    }

    /// Remembers why a member left. Of many, it remembers those that were put out last, whose handles are the most likely to be
    /// used.
    pub(crate) fn remember(&mut self, member: MemberId, reason: LeaveReason) {
        if matches!(reason, LeaveReason::LoggedOff | LeaveReason::Disconnected) {
            return;
        }
        self.gone.push(member, reason);
    }

    /// Remembers that a reference was taken away. Of many, it remembers the last ones.
    pub(crate) fn remember_lost(&mut self, reference: MemberId) {
        self.lost.push(reference, ());
    }

    /// Whether a reference was held through it and taken away.
    pub(crate) fn has_lost(&self, reference: MemberId) -> bool {
        self.lost.get(reference).is_some()
    }

    /// Why a member left that did not leave by itself.
    pub(crate) fn why_gone(&self, member: MemberId) -> Option<LeaveReason> {
        self.gone.get(member)
    }
}

#[cfg(test)]
impl Connection {
    /// Checks the state of a connection that waits for no answer.
    pub(crate) fn check_at_rest(&self, broker: &Broker) {
        let Self {
            process,
            members,
            leaving,
            references,
            // The newest handles that were taken away, until the connection closes.
            lost,
            gone,
            requests,
            bytes,
            // What its hello said, and what it asked for.
            library: _,
            account: _,
            told_tickets: _,
            granted: _,
        } = self;
        assert!(broker.peers.processes.get(*process).is_some(), "a connection of no process");
        assert!(members.iter().all(|m| broker.sessions.members.contains_key(m)), "{members:?}");
        assert!(references.iter().all(|r| broker.sessions.grants.holds(*r)), "{references:?}");
        assert!(leaving.is_empty(), "a logoff waits: {leaving:?}");
        assert!(lost.order.len() <= REMEMBERED && gone.order.len() <= REMEMBERED);
        assert_eq!((lost.order.len(), gone.order.len()), (lost.known.len(), gone.known.len()));
        assert_eq!((*requests, *bytes), (0, 0), "requests that were answered are charged");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Design §3.12: a connection that lost more members and references than it remembers keeps those that it lost last, in
    /// whatever order they came.
    #[test]
    fn those_that_were_put_out_last_are_remembered() {
        let members = || (1..=REMEMBERED as u64 + 2).map(MemberId);
        let in_order: Vec<_> = members().collect();
        let backwards: Vec<_> = members().rev().collect();
        for order in [in_order, backwards] {
            let mut connection =
                Connection::new((ProcessId(1), AccountId::BROKER), [0; 16], (1, 1));
            for member in &order {
                connection.remember(*member, LeaveReason::Evicted);
            }
            for reference in &order {
                connection.remember_lost(*reference);
            }
            connection.remember(MemberId(0), LeaveReason::LoggedOff);
            let forgotten: Vec<_> =
                order.iter().filter(|m| connection.why_gone(**m).is_none()).collect();
            assert_eq!(forgotten, [&order[0], &order[1]]);
            let forgotten: Vec<_> = order.iter().filter(|r| !connection.has_lost(**r)).collect();
            assert_eq!(forgotten, [&order[0], &order[1]]);
        }
    }
}
