//! Calls of providers, from when they are made until they are answered or lost.
//!
//! A call belongs to a lane, and a continuation goes on with its answer. It runs once: with the provider's answer, or as [`Lost`]
//! when the lane is closed. [`patience`](crate::flows::calling::patience) limits how long a call is waited for, and
//! [`incarnation`](crate::flows::calling::workers) handles a worker that does not answer.

use sundown_protocol::{Code, Correlation, SessionId};

use crate::broker::Broker;
use crate::ground::event::{Behalf, CallId, Effect, Errand, LaneId, Turn};
use crate::ground::expected::{Known, Wrong};
use crate::ground::provider::{ProviderAnswer, ProviderCall, ProviderError, Scope};
use crate::peers::account::Payer;
use crate::providers::ask::{Ask, wrong_answer};
use crate::providers::calls::{Call, Called, Caller};
use crate::providers::patience::{Patience, given_up};
use crate::providers::view::{Provider, Trouble};
use crate::queue::flight::Flight;
use crate::then::{GoesOn, Then};

impl Broker {
    /// Calls a provider as soon as there is a place for the call. `None` if its lane is closed.
    pub(crate) fn call<A: GoesOn>(
        &mut self,
        lane: LaneId,
        caller: Caller,
        ask: Ask<A>,
        after: A::After,
        turn: &mut Turn,
    ) -> Option<CallId> {
        self.make_call(lane, caller, ask.call, A::then(after), turn)
    }

    /// Makes a call whose continuation fits its kind of answer.
    pub(crate) fn make_call(
        &mut self,
        lane: LaneId,
        caller: Caller,
        call: ProviderCall,
        then: Then,
        turn: &mut Turn,
    ) -> Option<CallId> {
        if !self.providers.is_open(lane) {
            self.providers.lose(then, Called::Never, caller);
            return None;
        }
        let id = CallId(self.number());
        if let Some(view) = self.provider_at(caller.session, lane) {
            view.unanswered += 1;
        }
        let process = caller.process.and_then(|id| self.peers.processes.get(id));
        let pid = process.map(|p| p.peer.pid);
        let payer = process.map_or(Payer::Broker, |process| self.peers.processes.payer(process));
        self.providers.call(id, lane, (caller, payer, pid), call, then, turn);
        Some(id)
    }

    /// Counts a call of a session as answered.
    pub(super) fn settle_view(
        &mut self,
        session: Option<SessionId>,
        lane: LaneId,
    ) -> Option<&mut Provider> {
        let view = self.provider_at(session, lane)?;
        view.unanswered -= 1;
        Some(view)
    }

    /// Takes back a call that its provider has not begun. Its continuation does not run. Returns the name of the call, and the
    /// request that led to it.
    pub(crate) fn withdraw(
        &mut self,
        call: CallId,
        turn: &mut Turn,
    ) -> Option<(&'static str, Option<Correlation>)> {
        let Call { lane, session, errand, name, .. } = self.providers.get(call)?;
        let (lane, session, named) = (*lane, *session, (*name, errand.correlation));
        match self.providers.take_back(call) {
            Some(_) => {
                self.settle_view(session, lane);
            }
            None => turn.emit(Effect::Withdraw { lane, call }),
        }
        Some(named)
    }

    /// Ends a call that its worker gave back without beginning it: its place is free.
    pub(crate) fn withdrawn(&mut self, call: CallId, turn: &mut Turn) {
        let Some(Call { lane, session, .. }) = self.providers.end(call, turn) else { return };
        self.settle_view(session, lane);
        if let Some(session) = session {
            self.advance_phase(session, turn);
        }
    }

    pub(crate) fn answered(
        &mut self,
        id: CallId,
        mut result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        let checked = match (&result, self.providers.get(id)) {
            (Ok(answer), Some(call)) => call.expected.check(answer, self.known_of(call)),
            (Err(_), _) | (_, None) => Ok(()),
        };
        if let Err(wrong) = checked {
            result = self.answered_wrongly(id, wrong, turn);
        }
        let Some(Call { lane, session, errand, again, then, waits, .. }) =
            self.providers.end(id, turn)
        else {
            return self.answered_late(id, result, turn);
        };
        turn.errand = errand;
        if let Some(view) = self.settle_view(session, lane)
            && view.lane == lane
        {
            view.late = None;
        }
        if waits == Patience::OverForQuestion {
            result = Err(given_up());
        }
        let (then, result) = match again {
            Some(again) => match self.judge((lane, id), *again, (then, result), turn) {
                Some(judged) => judged,
                None => return,
            },
            None => (then, result),
        };
        if let Err(error) = &result {
            match (error.code, error.scope) {
                (_, Scope::Disk) => self.note_failed_disk(lane, &error.message),
                (Code::E_CORRUPT_STORE, _) => {
                    self.note_damage((session, lane), &then, &error.message);
                }
                _ => {}
            }
        }
        let lost = result.as_ref().err().filter(|error| error.scope == Scope::Store).cloned();
        self.go_on(then, result, turn);
        // The asker gets its own answer before the members are told that the store is lost.
        if let Some(why) = lost {
            self.lose_store(lane, &why, turn);
        }
        if let Some(session) = session {
            self.advance_phase(session, turn);
        }
    }

    /// Handles an answer that does not fit its call: it is unknown what the call has done. The log and `status` report it.
    #[cold]
    fn answered_wrongly(
        &mut self,
        call: CallId,
        wrong: Wrong,
        turn: &mut Turn,
    ) -> Result<ProviderAnswer, ProviderError> {
        let Call { lane, session, errand, name, .. } =
            self.providers.get(call).expect("looked at just before");
        let (lane, session, name) = (*lane, *session, *name);
        let Errand { correlation, entry } = *errand;
        let trouble = Trouble::WrongAnswer(format!("{name} was {wrong}"));
        let engine = self.queues.engines.of_lane(lane);
        match engine.and_then(|id| self.queues.engines.get_mut(id)) {
            Some(engine) => Trouble::note(&mut engine.trouble, trouble),
            None => {
                if let Some(provider) = self.provider_at(session, lane) {
                    Trouble::note(&mut provider.trouble, trouble);
                }
            }
        }
        let provider = self.providers.provider_name(lane).to_owned();
        let behalf = Box::new(Behalf { session, pid: None, correlation, entry });
        let error = wrong_answer(&provider, name, wrong);
        turn.emit(Effect::WrongAnswer { provider, call: name, wrong, behalf });
        Err(error)
    }

    /// What is known of a call that its answer must agree with.
    fn known_of(&self, call: &Call<Then>) -> Known<'_> {
        let recipients = match &call.then {
            Then::Prepared(flight) | Then::Results(flight) => {
                self.queues.flights.get(flight).map(Flight::recipients)
            }
            _ => None,
        };
        let store = || self.queues.engines.get(&self.queues.engines.of_lane(call.lane)?)?.uid;
        let store = if call.expected.names_its_store() { store() } else { None };
        Known { store, recipients }
    }

    /// Notes that a store accepts no more writes.
    #[cold]
    fn note_failed_disk(&mut self, lane: LaneId, why: &str) {
        let engine = self.queues.engines.of_lane(lane);
        if let Some(engine) = engine.and_then(|id| self.queues.engines.get_mut(id)) {
            Trouble::note(&mut engine.trouble, Trouble::Failed(why.to_owned()));
        }
    }

    /// Notes that a store or address book is damaged, or that a transport could not read a message because its store is.
    fn note_damage(&mut self, at: (Option<SessionId>, LaneId), then: &Then, what: &str) {
        let (session, lane) = at;
        let of_message = match then {
            Then::Prepared(flight) => self.queues.flights.get(flight).map(Flight::engine),
            _ => None,
        };
        let damage = Trouble::Damage(what.to_owned());
        let engine = self.queues.engines.of_lane(lane).or(of_message);
        if let Some(engine) = engine.and_then(|id| self.queues.engines.get_mut(id)) {
            Trouble::note(&mut engine.trouble, damage);
        } else if let Some(provider) = self.provider_at(session, lane) {
            Trouble::note(&mut provider.trouble, damage);
        }
    }

    /// Checks that the counts agree with the calls: the unanswered calls of each provider for its sessions, and the places of each
    /// lane.
    #[cfg(test)]
    pub(crate) fn check_calls(&self) {
        for session in self.sessions.all.values() {
            for provider in &session.providers {
                let of_it = |(_, c): &(CallId, &Call<Then>)| {
                    c.session == Some(session.id)
                        && (c.lane == provider.lane || provider.reader == Some(c.lane))
                };
                let unanswered = self.providers.calls().filter(of_it).count();
                assert_eq!(provider.unanswered, unanswered, "calls of {}", provider.name);
            }
        }
        self.providers.check();
    }

    /// Whether a notice or a Do is in progress at the provider of a lane.
    pub(crate) fn is_told_of_leaving(&self, lane: LaneId) -> bool {
        let tells = |call: &Call<Then>| match &call.then {
            Then::Shutdown(visit) => visit.tells_of_leaving(),
            _ => false,
        };
        self.providers.apart(lane).any(|(_, call)| tells(call))
    }

    /// A session's view of the provider of a lane.
    pub(crate) fn provider_at(
        &mut self,
        session: Option<SessionId>,
        lane: LaneId,
    ) -> Option<&mut Provider> {
        let session = self.sessions.all.get_mut(session?)?;
        session.providers.iter_mut().find(|p| p.lane == lane || p.reader == Some(lane))
    }

    /// Closes a lane. Calls still waiting on it fail: as `Called::Yes` if the provider had received them.
    pub(crate) fn close_lane(&mut self, lane: LaneId, turn: &mut Turn) {
        for (id, called, call) in self.providers.close(lane, turn) {
            self.settle_view(call.session, lane);
            if called == Called::Yes {
                self.leave_call(lane, id, &call.then);
            }
            self.providers.lose(call.then, called, Caller::broker(call.session));
        }
    }
}
