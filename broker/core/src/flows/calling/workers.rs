//! Workers that hang: one ends and another begins, and the session's view on the provider goes on.
//!
//! ```text
//!   view ──► worker ──answers nothing for too long──► left behind ──its thread ends──► forgotten
//!    │                                                    │
//!    └──► another worker, which logs on                   └── answers late: what is known of the message is corrected
//! ```
//!
//! A *view* is what a session knows of a provider: its state, what it said of fast shutdown, how it is reached. A worker's lane is the
//! number of its incarnation: no two have the same. Left behind, a worker keeps its thread, which cannot be ended from outside. So there is a limit:
//! a provider that hangs again and again is out, until one of its threads has ended.
//!
//! What a worker has begun is settled as after a crash (design §3.17): a message without an intent is tried again later, and of one with
//! an intent the next worker finds out what became of it. It may be unknown then. When the old worker answers after all, that is the truth.

use sundown_protocol::reply::SubmissionState;
use sundown_protocol::{Code, SessionId};

use crate::broker::Broker;
use crate::ground::event::{CallId, EngineId, LaneId, Turn};
use crate::ground::expected::Known;
use crate::ground::provider::{Outcome, ProviderAnswer, ProviderError, RecipientResult};
use crate::providers::ask::{Ask, OneSubmission};
use crate::providers::calls::{Call, Caller};
use crate::providers::left_behind::{Attempt, Correction};
use crate::providers::view::ProviderState;
use crate::queue::engine::{Changed, Engine, Entry, Try};
use crate::then::{AfterSubmission, Then};

/// Workers of one provider of a session that are left behind before it is out.
const MOST: usize = 3;

/// Workers of all providers that are left behind before no session starts any more.
const MOST_IN_ALL: usize = 256;

/// Late answers that are awaited, and corrections that wait. Of more the oldest are forgotten: their messages stay unknown.
const AWAITED: usize = 4_096;

impl Broker {
    /// A worker has not answered a call in time: the provider gets another one, or is out.
    pub(crate) fn leave_worker(&mut self, id: CallId, turn: &mut Turn) {
        let (lane, session) = (self.calls[&id].lane, self.calls[&id].session);
        // Otherwise its session is closing, and has its own patience.
        let Some(view) = self.view_of(session, lane) else { return };
        let handed_over = self.handed_over(lane);
        self.close_lane(lane, turn);
        self.left_behind.workers.insert(lane, Some(view));
        self.abandon_place(view, &handed_over);
        self.begin_anew(view, turn);
    }

    /// A session's provider by the lane of its worker, as long as the session may use it.
    fn view_of(&self, session: Option<SessionId>, lane: LaneId) -> Option<(SessionId, usize)> {
        let session = self.sessions.get(&session?).filter(|s| !s.closes())?;
        let place = session.providers.iter().position(|p| p.lane == lane)?;
        Some((session.id, place))
    }

    /// Gives a provider another worker, which logs on.
    fn begin_anew(&mut self, (id, place): (SessionId, usize), turn: &mut Turn) {
        match self.check_left_behind(id, place) {
            Ok(()) => self.log_on_anew(id, place, turn),
            Err(error) => self.put_out(id, place, &error.message, turn),
        }
        self.provider_changed(id, place, turn);
    }

    /// Whether a provider may have one more worker.
    pub(crate) fn check_left_behind(
        &self,
        id: SessionId,
        place: usize,
    ) -> Result<(), ProviderError> {
        let left = self.left_behind.count((id, place));
        if left < MOST {
            return Ok(());
        }
        let message = format!(
            "it does not answer: {left} of its workers hang; it is tried again when one of them has ended"
        );
        Err(ProviderError::new(Code::E_TIMEOUT, message))
    }

    /// Whether another session may have workers.
    pub(crate) fn check_all_left_behind(&self) -> Result<(), ProviderError> {
        let left = self.left_behind.workers.len();
        if left < MOST_IN_ALL {
            return Ok(());
        }
        let message = format!(
            "{left} workers of providers hang, and no more are begun; the log names the providers; a restart of the broker ends them"
        );
        Err(ProviderError::new(Code::E_NOT_ENOUGH_RESOURCES, message))
    }

    /// A lane is closed, and its worker has begun a call of it. What it says of a message is of use also later.
    pub(crate) fn leave_call(&mut self, lane: LaneId, call: CallId, then: &Then) {
        self.left_behind.workers.entry(lane).or_insert(None);
        if let Then::Results(flight) = then
            && let Some(attempt) = self.attempt(*flight)
        {
            self.left_behind.awaited.insert(call, attempt);
        }
        if self.left_behind.awaited.len() > AWAITED {
            self.left_behind.awaited.pop_first();
        }
    }

    /// What a flight hands over, if its intent is known.
    fn attempt(&self, flight: u64) -> Option<Attempt> {
        let flight = self.flights.get(&flight)?;
        let (engine, record) = flight.message();
        let recipients = flight.recipients().to_vec();
        let engine = self.engines.get(&engine)?;
        let entry = engine.entries.get(&record)?;
        let intent = entry.submission.recipients.get(*recipients.first()?)?.intent.clone()?;
        Some(Attempt { store: engine.uid?, record, recipients, intent })
    }

    /// Flights of a lane whose message its worker has begun to hand over, or to recover.
    fn handed_over(&self, lane: LaneId) -> Vec<u64> {
        let begun = self.lanes.apart(lane).filter(|call| self.lanes.has_begun(lane, *call));
        let flight = |call: &Call| match call.then {
            Then::Results(flight) => Some(flight),
            _ => None,
        };
        begun.filter_map(|call| flight(self.calls.get(&call)?)).collect()
    }

    /// A worker's thread has ended. A provider that was out because too many of its workers hung has another one.
    #[cold]
    pub(crate) fn lane_ended(&mut self, lane: LaneId, turn: &mut Turn) {
        let Some(Some((id, place))) = self.left_behind.workers.remove(&lane) else { return };
        let Some(session) = self.sessions.get(&id).filter(|s| !s.closes()) else { return };
        let provider = &session.providers[place];
        let is_out = matches!(provider.state, ProviderState::Failed(_));
        if is_out && !self.lanes.is_open(provider.lane) {
            self.begin_anew((id, place), turn);
        }
    }

    /// A call is answered that was given up with its worker.
    #[cold]
    pub(crate) fn answered_late(
        &mut self,
        call: CallId,
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(attempt) = self.left_behind.awaited.remove(&call) else { return };
        let Ok(ProviderAnswer::Results(results)) = result else { return };
        let known = Known { store: None, recipients: Some(&attempt.recipients) };
        if known.has_given(&results).is_ok() {
            self.correct(Correction { attempt, results }, turn);
        }
    }

    /// Something has changed in a store. Corrections of its messages may find them free.
    pub(crate) fn correct_again(&mut self, id: EngineId, turn: &mut Turn) {
        if self.left_behind.late.is_empty() {
            return;
        }
        let store = self.engines.get(&id).and_then(|e| e.uid);
        let of_it = |c: &mut Correction| Some(c.attempt.store) == store;
        let corrections: Vec<_> = self.left_behind.late.extract_if(.., of_it).collect();
        for correction in corrections {
            self.correct(correction, turn);
        }
    }

    /// Asks the store for a message of which something new is known. Where that is not open, or something else is under way with the
    /// message, the correction waits.
    fn correct(&mut self, correction: Correction, turn: &mut Turn) {
        let Attempt { store, record, .. } = correction.attempt;
        let mut open = self.engines.values().filter(|e| e.is_open());
        let engine = open.find(|e| e.uid == Some(store)).map(|e| e.id);
        let engine = engine.and_then(|id| self.engines.get_mut(id));
        let flies = |e: &Engine| e.entries.get(&record).is_some_and(|entry| entry.flights > 0);
        let Some(engine) = engine.filter(|e| !flies(e) && !e.changing.contains(&record)) else {
            self.left_behind.late.push(correction);
            if self.left_behind.late.len() > AWAITED {
                self.left_behind.late.remove(0);
            }
            return;
        };
        engine.changing.insert(record);
        let (id, lane) = (engine.id, engine.read);
        let after = AfterSubmission::Corrected(id, Box::new(correction));
        self.call(lane, Caller::broker(None), Ask::submission(record), after, turn);
    }

    /// What is stored of the message still speaks of that attempt: it is corrected.
    pub(crate) fn corrected(
        &mut self,
        engine: EngineId,
        correction: Correction,
        result: Result<OneSubmission, ProviderError>,
        turn: &mut Turn,
    ) {
        let Correction { attempt, results } = correction;
        let record = attempt.record;
        let Some(state) = self.engines.get_mut(engine) else { return };
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
        let (flights, tried, untold, changed) = (1, Try::Counted, Vec::new(), Changed::All);
        let entry = Entry { submission, shown, flights, tried, untold, changed };
        state.entries.insert(record, entry);
        self.record(engine, record, &results, None, turn);
    }
}
