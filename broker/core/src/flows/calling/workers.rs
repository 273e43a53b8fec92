//! Workers that hang: another worker replaces them, and the session keeps its view of the provider.
//!
//! ```text
//!   view ──► worker ──answers nothing for too long──► left behind ──its thread ends──► forgotten
//!   view ──► worker ──answers nothing for too long──► left behind ──its thread ends──► forgotten
//!    │                                                    │
//! ```
//!
//! A *view* is what a session knows of a provider: its state, its answer about fast shutdown, whether it can be reached. A worker's
//! lane identifies its incarnation: no two have the same. A worker that is left behind keeps its thread, which cannot be ended from
//! outside. So there is a limit: a provider that hangs again and again is disabled until one of its threads has ended.
//!
//! What a worker has begun is settled as after a crash (design §3.17). A message without an intent is tried again later. For a
//! message with an intent the next worker finds out what became of it, which may stay unknown. If the old worker answers after all,
//! its answer is the truth.

use sundown_protocol::SessionId;
use sundown_protocol::reply::SubmissionState;

use crate::broker::Broker;
use crate::ground::event::{CallId, EngineId, LaneId, Turn};
use crate::ground::expected::Known;
use crate::ground::provider::{Outcome, ProviderAnswer, ProviderError, RecipientResult};
use crate::providers::ask::{Ask, OneSubmission};
use crate::providers::calls::{Call, Caller};
use crate::providers::left_behind::{Attempt, Correction};
use crate::providers::view::ProviderState;
use crate::queue::engine::{Changed, Engine, Entry, Try};
use crate::queue::untold::Untold;
use crate::then::{AfterSubmission, Then};

impl Broker {
    /// Leaves a worker behind that has not answered a call in time. The provider gets another worker or is disabled.
    pub(crate) fn leave_worker(&mut self, id: CallId, turn: &mut Turn) {
        let (lane, session) = {
            let call = self.providers.get(id).expect("looked at just before");
            (call.lane, call.session)
        };
        // Otherwise the session is closing, which has its own time limit.
        let Some(view) = self.view_of(session, lane) else { return };
        let handed_over = self.handed_over(lane);
        self.close_lane(lane, turn);
        self.providers.left_behind.leave(lane, view);
        self.abandon_place(view, &handed_over);
        self.begin_anew(view, turn);
    }

    /// A session's provider by the lane of its worker, as long as the session may use it.
    fn view_of(&self, session: Option<SessionId>, lane: LaneId) -> Option<(SessionId, usize)> {
        let session = self.sessions.all.get(&session?).filter(|s| !s.closes())?;
        let place = session.providers.iter().position(|p| p.lane == lane)?;
        Some((session.id, place))
    }

    /// Gives a provider another worker, which logs on.
    fn begin_anew(&mut self, (id, place): (SessionId, usize), turn: &mut Turn) {
        if !self.sessions.all[&id].providers[place].is_in_use() {
            // The profile does not have it any more: nothing replaces it.
            return self.has_left(id, place, turn);
        }
        match self.providers.left_behind.check((id, place)) {
            Ok(()) => self.log_on_anew(id, place, turn),
            Err(error) => self.put_out(id, place, &error.message, turn),
        }
        self.provider_changed(id, place, turn);
    }

    /// Keeps track of a call that the worker of a closed lane has begun: what it answers about a message is still useful.
    pub(crate) fn leave_call(&mut self, lane: LaneId, call: CallId, then: &Then) {
        let attempt = match then {
            Then::Results(flight) => self.attempt(*flight),
            _ => None,
        };
        self.providers.left_behind.leave_call(lane, call, attempt);
    }

    /// What a flight hands over, if its intent is known.
    fn attempt(&self, flight: u64) -> Option<Attempt> {
        let flight = self.queues.flights.get(&flight)?;
        let (engine, record) = flight.message();
        let recipients = flight.recipients().to_vec();
        let engine = self.queues.engines.get(&engine)?;
        let entry = engine.entries.get(&record)?;
        let intent = entry.submission.recipients.get(*recipients.first()?)?.intent.clone()?;
        Some(Attempt { store: engine.uid?, record, recipients, intent })
    }

    /// The flights of a lane whose message its worker has begun to hand over or to recover.
    fn handed_over(&self, lane: LaneId) -> Vec<u64> {
        let begun = self.providers.apart(lane);
        let begun = begun.filter(|(id, _)| self.providers.has_begun(lane, *id));
        let flight = |call: &Call<Then>| match call.then {
            Then::Results(flight) => Some(flight),
            _ => None,
        };
        begun.filter_map(|(_, call)| flight(call)).collect()
    }

    /// Handles the end of a worker's thread. A provider that was disabled because too many of its workers hang gets another one.
    #[cold]
    pub(crate) fn lane_ended(&mut self, lane: LaneId, turn: &mut Turn) {
        let Some((id, place)) = self.providers.left_behind.ended(lane) else { return };
        let Some(session) = self.sessions.all.get(&id).filter(|s| !s.closes()) else { return };
        let provider = &session.providers[place];
        let is_out = matches!(provider.state, ProviderState::Failed(_)) && provider.is_in_use();
        if is_out && !self.providers.is_open(provider.lane) {
            self.begin_anew((id, place), turn);
        }
    }

    /// Handles the answer to a call that was given up with its worker.
    #[cold]
    pub(crate) fn answered_late(
        &mut self,
        call: CallId,
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(attempt) = self.providers.left_behind.answered(call) else { return };
        let Ok(ProviderAnswer::Results(results)) = result else { return };
        let known = Known { store: None, recipients: Some(&attempt.recipients) };
        if known.has_given(&results).is_ok() {
            self.correct(Correction { attempt, results }, turn);
        }
    }

    /// Retries the corrections of a store's messages after a change in the store: the messages may be free now.
    pub(crate) fn correct_again(&mut self, id: EngineId, turn: &mut Turn) {
        if !self.providers.left_behind.has_corrections() {
            return;
        }
        let store = self.queues.engines.get(&id).and_then(|e| e.uid);
        for correction in self.providers.left_behind.corrections_of(store) {
            self.correct(correction, turn);
        }
    }

    /// Asks the store for a message whose outcome became known late. If the store is not open or the message is busy, the
    /// correction waits.
    fn correct(&mut self, correction: Correction, turn: &mut Turn) {
        let Attempt { store, record, .. } = correction.attempt;
        let mut open = self.queues.engines.values().filter(|e| e.is_open());
        let engine = open.find(|e| e.uid == Some(store)).map(|e| e.id);
        let engine = engine.and_then(|id| self.queues.engines.get_mut(id));
        let flies = |e: &Engine| e.entries.get(&record).is_some_and(|entry| entry.flights > 0);
        let Some(engine) = engine.filter(|e| !flies(e) && !e.changing.contains(&record)) else {
            return self.providers.left_behind.wait(correction);
        };
        engine.changing.insert(record);
        let (id, lane) = (engine.id, engine.read);
        let after = AfterSubmission::Corrected(id, Box::new(correction));
        self.call(lane, Caller::broker(None), Ask::submission(record), after, turn);
    }

    /// Corrects the stored message if it still refers to that attempt.
    pub(crate) fn corrected(
        &mut self,
        engine: EngineId,
        correction: Correction,
        result: Result<OneSubmission, ProviderError>,
        turn: &mut Turn,
    ) {
        let Correction { attempt, results } = correction;
        let record = attempt.record;
        let Some(state) = self.queues.engines.get_mut(engine) else { return };
        state.changing.remove(&record);
        state.stirred = true;
        let Ok(OneSubmission(stored)) = result else { return };
        let known = state.entries.get(&record);
        let submission = known.map_or(stored, |entry| entry.submission.clone());
        let of_it = |result: &RecipientResult| {
            use SubmissionState::{Transmitting, Unknown};
            let recipient = submission.recipients.get(result.recipient);
            result.outcome != Outcome::Unknown
                && recipient.is_some_and(|r| {
                    matches!(r.state, Transmitting | Unknown)
                        && r.intent.as_ref() == Some(&attempt.intent)
                })
        };
        let results: Vec<_> = results.into_iter().filter(of_it).collect();
        if results.is_empty() {
            return;
        }
        let shown = submission.state();
        state.forget(record);
        let (flights, tried, untold, changed) = (1, Try::Counted, Untold::default(), Changed::All);
        let entry = Entry { submission, shown, flights, tried, untold, changed };
        state.entries.insert(record, entry);
        self.record(engine, record, &results, None, turn);
    }
}
