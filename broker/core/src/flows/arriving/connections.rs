//! Connections from their hello to their end; requests that are booked, and answers.

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::{Code, Fault, Reply, RequestId};

use crate::broker::Broker;
use crate::ground::event::{ConnectionId, Effect, PeerIdentity, ProcessKey, Turn};
use crate::peers::Heard;
use crate::peers::connection::Asker;

impl Broker {
    /// Whether there is such a process: with a connection, or with something that must be remembered of it until it ends.
    pub fn remembers(&self, process: &ProcessKey) -> bool {
        self.peers.processes.find(process).is_some()
    }

    /// The connections of a process.
    pub fn connections_of(&self, process: &ProcessKey) -> impl Iterator<Item = ConnectionId> + '_ {
        self.peers.processes.find(process).into_iter().flat_map(|p| p.connections.iter().copied())
    }

    pub(crate) fn connected(
        &mut self,
        connection: ConnectionId,
        identity: PeerIdentity,
        turn: &mut Turn,
    ) {
        if let Err(why) = self.peers.connect(connection, identity, &self.settings) {
            turn.emit(Effect::Close { connection, why });
        }
    }

    /// Books a request. `None` ends the connection: more was asked at once than was granted.
    pub(crate) fn charge(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        bytes: Option<u64>,
        turn: &mut Turn,
    ) -> Option<Asker> {
        match self.peers.charge(connection, request, bytes)? {
            Ok((asker, called)) => {
                turn.errand.correlation = Some(called);
                Some(asker)
            }
            Err(why) => {
                self.hang_up(connection, why, turn);
                None
            }
        }
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

    /// Answers, if the asker's connection is still there. What the request cost is given back in any case, and not before: what it handed
    /// over may wait for a provider longer than its connection is there.
    pub(crate) fn answer(&mut self, asker: Asker, result: Result<Reply, Fault>, turn: &mut Turn) {
        if let Err(why) = &result
            && why.code == Code::E_NO_ACCESS
        {
            self.log_refusal(asker, why, turn);
        }
        if self.peers.settle(asker) == Heard::Yes {
            let Asker { connection, request, .. } = asker;
            turn.emit(Effect::Answer { connection, request, result });
        }
    }

    /// Somebody wanted what is not theirs: a right, an object of another process, what a token is for.
    pub(crate) fn log_refusal(&self, asker: Asker, why: &Fault, turn: &mut Turn) {
        if let (Some(request), Some(process)) =
            (self.peers.correlation(asker), self.peers.of(asker))
        {
            let (peer, uid) = (process.peer.clone(), process.uid);
            turn.emit(Effect::Refused { peer, uid, request, why: why.clone() });
        }
    }

    /// Ends a connection from this side.
    pub(crate) fn hang_up(&mut self, connection: ConnectionId, why: Fault, turn: &mut Turn) {
        if self.peers.connections.contains_key(&connection) {
            turn.emit(Effect::Close { connection, why });
            self.disconnected(connection, turn);
        }
    }

    /// A connection is gone: its members are, as by a crash.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId, turn: &mut Turn) {
        let Some(state) = self.peers.disconnect(connection) else { return };
        if !state.members.is_empty() {
            let members = state.members.iter().copied().collect();
            self.remove_members(members, LeaveReason::Disconnected, turn);
        }
        self.drop_references(&state.references, turn);
        for session in &state.leaving {
            let Some(session) = self.sessions.all.get_mut(*session) else { continue };
            let is_gone = |(asker, _): &mut (Asker, _)| asker.connection == connection;
            for (asker, _) in session.leavers.extract_if(.., is_gone) {
                self.peers.processes.pay_left_behind(asker);
            }
        }
        if let Some((uid, account)) = self.peers.leave(connection, &state) {
            let questions = self.providers.leave_behind(uid, account);
            if !questions.is_empty() {
                self.forget_questions(questions, turn);
            }
        }
    }
}
