//! Connections: who may ask how much at once, and whom to answer.

use std::collections::{BTreeSet, VecDeque};

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::{Code, Correlation, Fault, MemberId, Reply, RequestId, SessionId};

use crate::account::{AccountId, Whose};
use crate::broker::Broker;
use crate::event::{ConnectionId, Effect, PeerIdentity, Turn};
use crate::numbers::NumberMap;
use crate::process::ProcessId;
use crate::quota::Quota;

/// How many evicted members a connection remembers, to answer for them with the right code.
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
    /// Sessions in which a logoff waits for the others.
    pub(crate) leaving: Vec<SessionId>,
    /// Objects of other processes' sessions that are held through it.
    pub(crate) references: BTreeSet<MemberId>,
    /// Those that were taken away.
    lost: Recent<()>,
    /// Whether it is told of each change of its process's ticket.
    pub(crate) told_tickets: bool,
    /// Members that did not leave by themselves.
    gone: Recent<LeaveReason>,
    requests: u32,
    pub(crate) bytes: u64,
    /// What its hello granted: a reload changes it for later connections only.
    granted: (u32, u64),
}

/// Who waits for an answer, and what its request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) connection: ConnectionId,
    pub(crate) process: ProcessId,
    /// Who pays for the request.
    pub(crate) account: AccountId,
    pub(crate) request: RequestId,
    /// `None` for a request that is free.
    pub(crate) bytes: Option<u64>,
    pub(crate) counts: Counts,
    pub(crate) hears: Hears,
}

/// The last handles that were taken from a connection. Each request may name one of them, so none is searched for.
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
    /// It was told that its provider did not answer in time. It counts on, and its bytes stay charged, until that does.
    Nothing,
}

/// What a request counts as until it is answered, beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    Nothing,
    /// A logon under way is a member already: many at once get no further than one after the other.
    Member,
}

impl Connection {
    fn new(
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

    /// Remembers why a member is gone; of many those that were put out last, whose handles are still used most likely.
    pub(crate) fn remember(&mut self, member: MemberId, reason: LeaveReason) {
        if matches!(reason, LeaveReason::LoggedOff | LeaveReason::Disconnected) {
            return;
        }
        self.gone.push(member, reason);
    }

    /// Remembers that a reference was taken away; of many those that were taken last.
    pub(crate) fn remember_lost(&mut self, reference: MemberId) {
        self.lost.push(reference, ());
    }

    /// Whether a reference was held through it and taken away.
    pub(crate) fn has_lost(&self, reference: MemberId) -> bool {
        self.lost.get(reference).is_some()
    }

    /// Why a member is gone that did not leave by itself.
    pub(crate) fn why_gone(&self, member: MemberId) -> Option<LeaveReason> {
        self.gone.get(member)
    }
}

#[cfg(test)]
impl Connection {
    /// Checks what is kept of a connection that waits for no answer.
    pub(crate) fn check_at_rest(&self, broker: &Broker) {
        let Self {
            process,
            members,
            leaving,
            references,
            // The newest of what was taken away, until the connection ends.
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
        assert!(broker.processes.get(*process).is_some(), "a connection of no process");
        assert!(members.iter().all(|m| broker.members.contains_key(m)), "{members:?}");
        assert!(references.iter().all(|r| broker.grants.holds(*r)), "{references:?}");
        assert!(leaving.is_empty(), "a logoff waits: {leaving:?}");
        assert!(lost.order.len() <= REMEMBERED && gone.order.len() <= REMEMBERED);
        assert_eq!((lost.order.len(), gone.order.len()), (lost.known.len(), gone.known.len()));
        assert_eq!((*requests, *bytes), (0, 0), "requests that were answered are charged");
    }
}

impl Broker {
    pub(crate) fn connected(
        &mut self,
        connection: ConnectionId,
        identity: PeerIdentity,
        turn: &mut Turn,
    ) {
        let library = identity.library;
        let (process, account) = self.processes.connect(identity, connection);
        if let Err(why) = self.check_counted(process, Quota::Connections) {
            // It has asked nothing yet.
            let _ = self.processes.disconnect(process, connection);
            return turn.emit(Effect::Close { connection, why });
        }
        let granted = (self.settings.limits.requests, self.settings.limits.request_bytes);
        let state = Connection::new((process, account), library, granted);
        self.connections.insert(connection, state);
    }

    /// Books a request. `None` ends the connection: more was asked at once than was granted.
    pub(crate) fn charge(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        bytes: Option<u64>,
        turn: &mut Turn,
    ) -> Option<Asker> {
        let state = self.connections.get_mut(&connection)?;
        if let Some(bytes) = bytes {
            state.requests += 1;
            state.bytes += bytes;
            self.processes.accounts.charge(state.account, Quota::RequestBytes, bytes as usize);
            let (requests, most) = state.granted;
            if state.requests > requests || state.bytes > most {
                let message =
                    format!("more than {requests} requests or {most} bytes unanswered at once");
                // This one is not answered.
                state.bytes -= bytes;
                self.processes.accounts.pay_back(
                    state.account,
                    Quota::RequestBytes,
                    bytes as usize,
                );
                self.hang_up(connection, Fault::new(Code::E_TOO_BIG, message), turn);
                return None;
            }
        }
        turn.errand.correlation = Some(Correlation::new(&state.library, request));
        let (process, account) = (state.process, state.account);
        let counts = Counts::Nothing;
        let hears = Hears::Answer;
        Some(Asker { connection, process, account, request, bytes, counts, hears })
    }

    /// Books a free request that has to wait: what waits costs memory, whatever it is. `None` ends the connection, as
    /// [`charge`](Self::charge) does.
    pub(crate) fn charge_waiting(
        &mut self,
        asker: Asker,
        bytes: usize,
        turn: &mut Turn,
    ) -> Option<Asker> {
        match asker.bytes {
            Some(_) => Some(asker),
            None => self.charge(asker.connection, asker.request, Some(bytes as u64), turn),
        }
    }

    /// What the log calls this request.
    pub(crate) fn correlation(&self, asker: Asker) -> Option<Correlation> {
        let connection = self.connections.get(&asker.connection)?;
        Some(Correlation::new(&connection.library, asker.request))
    }

    /// Answers, if the asker's connection is still there. What the request cost is given back in any case, and not before: what it handed
    /// over may wait for a provider longer than its connection is there.
    pub(crate) fn answer(&mut self, asker: Asker, result: Result<Reply, Fault>, turn: &mut Turn) {
        if let Err(why) = &result
            && why.code == Code::E_NO_ACCESS
        {
            self.log_refusal(asker, why, turn);
        }
        let Some(state) = self.connections.get_mut(&asker.connection) else {
            return self.processes.pay_left_behind(asker);
        };
        self.processes.pay_as_member(asker);
        if let Some(bytes) = asker.bytes {
            state.requests -= 1;
            state.bytes -= bytes;
            self.processes.accounts.pay_back(state.account, Quota::RequestBytes, bytes as usize);
        }
        let Asker { connection, request, .. } = asker;
        if asker.hears == Hears::Answer {
            turn.emit(Effect::Answer { connection, request, result });
        }
    }

    /// Somebody wanted what is not theirs: a right, an object of another process, what a token is for.
    pub(crate) fn log_refusal(&self, asker: Asker, why: &Fault, turn: &mut Turn) {
        if let (Some(request), Some(process)) = (self.correlation(asker), self.peer_of(asker)) {
            let (peer, uid) = (process.peer.clone(), process.uid);
            turn.emit(Effect::Refused { peer, uid, request, why: why.clone() });
        }
    }

    /// Ends a connection from this side.
    pub(crate) fn hang_up(&mut self, connection: ConnectionId, why: Fault, turn: &mut Turn) {
        if self.connections.contains_key(&connection) {
            turn.emit(Effect::Close { connection, why });
            self.disconnected(connection, turn);
        }
    }

    /// A connection is gone: its members are, as by a crash.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId, turn: &mut Turn) {
        let Some(state) = self.connections.remove(&connection) else { return };
        self.processes.accounts.leave_behind(state.account, state.bytes as usize);
        self.remove_members(state.members.into_iter().collect(), LeaveReason::Disconnected, turn);
        self.drop_references(state.references, turn);
        for session in &state.leaving {
            let Some(session) = self.sessions.get_mut(*session) else { continue };
            let is_gone = |(asker, _): &mut (Asker, _)| asker.connection == connection;
            for (asker, _) in session.leavers.extract_if(.., is_gone) {
                self.processes.pay_left_behind(asker);
            }
        }
        let (whose, _) = self.processes.accounts.whose(state.account);
        for held in self.processes.disconnect(state.process, connection) {
            self.processes.pay_left_behind(held.asker());
        }
        if let Whose::Process(_, uid) = whose
            && !self.processes.accounts.has_connections(state.account)
        {
            let questions = self.lanes.leave_behind(uid, state.account);
            if !questions.is_empty() {
                self.forget_questions(questions, turn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Design §3.12: of more members and references than it remembers a connection remembers those that it lost last, in whatever order
    /// they came.
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
