//! Connections from their hello to their end; charges requests and answers them.

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::{Code, Fault, Reply, RequestId};

use crate::broker::Broker;
use crate::ground::event::{ConnectionId, Effect, PeerIdentity, ProcessKey, Turn};
use crate::peers::Heard;
use crate::peers::connection::Asker;

impl Broker {
    /// Whether a process is known: it has a connection, or something about it must be remembered until it ends.
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

    /// Charges a request. `None` if it exceeds what the connection was granted, which closes the connection.
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

    /// Charges a free request that has to wait, because waiting costs memory. `None` closes the connection, as in
    /// [`charge`](Self::charge).
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

    /// Answers a request if its connection is open. In any case the charge of the request is given back, and not earlier: a
    /// provider may still hold its data after the connection has closed.
    pub(crate) fn answer(&mut self, asker: Asker, result: Result<Reply, Fault>, turn: &mut Turn) {
        if self.peers.settle(asker) == Heard::Yes {
            let Asker { connection, request, .. } = asker;
            turn.emit(Effect::Answer { connection, request, result });
        }
    }

    /// Refuses a request, and logs that if the asker has no right to what it asked for. An error of a provider never gets here: it may
    /// have the same code, as that of a server whose certificate is not trusted, and is no refusal of the broker's.
    pub(crate) fn refuse(&mut self, asker: Asker, why: Fault, turn: &mut Turn) {
        if why.code == Code::E_NO_ACCESS {
            self.log_refusal(asker, &why, turn);
        }
        self.answer(asker, Err(why), turn);
    }

    /// Logs a refusal: the asker wanted something that it may not have, such as a right, an object of another process, or what a
    /// token is for.
    pub(crate) fn log_refusal(&self, asker: Asker, why: &Fault, turn: &mut Turn) {
        if let (Some(request), Some(process)) =
            (self.peers.correlation(asker), self.peers.of(asker))
        {
            let (peer, uid) = (process.peer.clone(), process.uid);
            turn.emit(Effect::Refused { peer, uid, request, why: why.clone() });
        }
    }

    /// Closes a connection from the broker's side.
    pub(crate) fn hang_up(&mut self, connection: ConnectionId, why: Fault, turn: &mut Turn) {
        if self.peers.connections.contains_key(&connection) {
            turn.emit(Effect::Close { connection, why });
            self.disconnected(connection, turn);
        }
    }

    /// Handles the end of a connection: its members leave, as after a crash.
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
