//! TODO

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::{Code, Correlation, Fault, Reply, RequestId};

use crate::broker::Broker;
use crate::ground::event::{ConnectionId, Effect, PeerIdentity, Turn};
use crate::peers::account::Whose;
use crate::peers::connection::{Asker, Connection, Counts, Hears};
use crate::peers::quota::Quota;

impl Broker {
    pub(crate) fn connected(
        &mut self,
        connection: ConnectionId,
        identity: PeerIdentity,
        turn: &mut Turn,
    ) {
        let library = identity.library;
        let (process, account) = self.peers.processes.connect(identity, connection);
        if let Err(why) = self.check_counted(process, Quota::Connections) {
            // It has asked nothing yet.
            let _ = self.peers.processes.disconnect(process, connection);
            return turn.emit(Effect::Close { connection, why });
        }
        let granted = (self.settings.limits.requests, self.settings.limits.request_bytes);
        let state = Connection::new((process, account), library, granted);
        self.peers.connections.insert(connection, state);
    }

    /// Books a request. `None` ends the connection: more was asked at once than was granted.
    pub(crate) fn charge(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        bytes: Option<u64>,
        turn: &mut Turn,
    ) -> Option<Asker> {
        let state = self.peers.connections.get_mut(&connection)?;
        if let Some(bytes) = bytes {
            state.requests += 1;
            state.bytes += bytes;
            self.peers.processes.accounts.charge(
                state.account,
                Quota::RequestBytes,
                bytes as usize,
            );
            let (requests, most) = state.granted;
            if state.requests > requests || state.bytes > most {
                let message =
                    format!("more than {requests} requests or {most} bytes unanswered at once");
                // This one is not answered.
                state.bytes -= bytes;
                self.peers.processes.accounts.pay_back(
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
        let connection = self.peers.connections.get(&asker.connection)?;
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
        let Some(state) = self.peers.connections.get_mut(&asker.connection) else {
            return self.peers.processes.pay_left_behind(asker);
        };
        self.peers.processes.pay_as_member(asker);
        if let Some(bytes) = asker.bytes {
            state.requests -= 1;
            state.bytes -= bytes;
            self.peers.processes.accounts.pay_back(
                state.account,
                Quota::RequestBytes,
                bytes as usize,
            );
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
        if self.peers.connections.contains_key(&connection) {
            turn.emit(Effect::Close { connection, why });
            self.disconnected(connection, turn);
        }
    }

    /// A connection is gone: its members are, as by a crash.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId, turn: &mut Turn) {
        let Some(state) = self.peers.connections.remove(&connection) else { return };
        self.peers.processes.accounts.leave_behind(state.account, state.bytes as usize);
        self.remove_members(state.members.into_iter().collect(), LeaveReason::Disconnected, turn);
        self.drop_references(state.references, turn);
        for session in &state.leaving {
            let Some(session) = self.sessions.all.get_mut(*session) else { continue };
            let is_gone = |(asker, _): &mut (Asker, _)| asker.connection == connection;
            for (asker, _) in session.leavers.extract_if(.., is_gone) {
                self.peers.processes.pay_left_behind(asker);
            }
        }
        let (whose, _) = self.peers.processes.accounts.whose(state.account);
        for held in self.peers.processes.disconnect(state.process, connection) {
            self.peers.processes.pay_left_behind(held.asker());
        }
        if let Whose::Process(_, uid) = whose
            && !self.peers.processes.accounts.has_connections(state.account)
        {
            let questions = self.providers.leave_behind(uid, state.account);
            if !questions.is_empty() {
                self.forget_questions(questions, turn);
            }
        }
    }
}
