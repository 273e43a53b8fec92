//! Opens stores for their first session, closes them after the last, and reads their schedules as there is room.

use std::collections::BTreeSet;
use std::time::Duration;

use sundown_protocol::SessionId;
use sundown_protocol::reply::SubmissionState;

use crate::broker::Broker;
use crate::ground::event::{Effect, EngineId, LaneSpec, Turn};
use crate::ground::provider::{ProviderError, ProviderSpec, ProviderType, Scope, Submission};
use crate::ground::timers::Timer;
use crate::providers::ask::{Ask, Due, Ready};
use crate::providers::calls::Caller;
use crate::queue::engine::Engine;
use crate::queue::giving_up::Unsent;
use crate::sessions::session::Session;
use crate::then::{AfterDone, AfterLogon};

/// How long an unused store stays open. Opening a store costs more than keeping it open.
const IDLE: Duration = Duration::from_secs(10);

impl Broker {
    /// Submissions in all stores, open or closed, that wait for a member with mail.
    pub(crate) fn waiting_for_mail(&self) -> u64 {
        let open = self.queues.engines.values().map(Engine::waiting_for_mail);
        open.chain(self.queues.closed.values().map(|closed| closed.waiting_for_mail)).sum()
    }

    /// The engine of a store for one more session. Opens the store if it is not open.
    pub(crate) fn attach_engine(
        &mut self,
        session: SessionId,
        spec: &ProviderSpec,
        turn: &mut Turn,
    ) -> EngineId {
        let id = match self.queues.engines.at(&spec.path) {
            Some(id) => id,
            None => self.open_engine(session, spec, turn),
        };
        let engine = self.queues.engines.get_mut(id).expect("listed engines exist");
        let was_closing = engine.attach(session);
        if !engine.is_not_logged_on() {
            self.timers.clear(Timer::Idle(id));
        }
        if was_closing {
            self.log_engine_on(id, turn);
        }
        id
    }

    fn open_engine(
        &mut self,
        session: SessionId,
        spec: &ProviderSpec,
        turn: &mut Turn,
    ) -> EngineId {
        let profile = self.sessions.all.get(&session).map(|session| session.key.profile.clone());
        let profile = profile.unwrap_or_default();
        self.queues.tally.know(&profile);
        let id = EngineId(self.number());
        let mut lane = || self.providers.open(ProviderType::Store, &spec.name);
        let (write, read) = (lane(), lane());
        turn.emit(Effect::OpenLane(Box::new(LaneSpec {
            lane: write,
            reader: Some(read),
            provider_type: ProviderType::Store,
            spec: spec.clone(),
        })));
        let taken: BTreeSet<_> = self.queues.engines.values().map(|e| e.slot).collect();
        let slot = (0..).zip(&taken).find(|(slot, taken)| slot != *taken);
        let slot = slot.map_or(taken.len() as u64, |(slot, _)| slot);
        let engine = Engine::new(id, slot, (spec.path.clone(), profile), (write, read));
        self.queues.engines.insert(engine);
        self.log_engine_on(id, turn);
        id
    }

    /// The number of an open store; 0 if it is not open yet.
    pub(crate) fn store_uid(&self, id: EngineId) -> u32 {
        self.queues.engines.get(&id).and_then(|e| e.uid).unwrap_or(0)
    }

    /// Makes the engine's own logon, which keeps the store open between sessions.
    fn log_engine_on(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.queues.engines.get_mut(id).expect("who logs it on has it");
        engine.log_on();
        let lane = engine.write;
        let after = AfterLogon::EngineOpened(id);
        self.call(lane, Caller::broker(None), Ask::logon(), after, turn);
    }

    pub(crate) fn engine_logged_on(
        &mut self,
        id: EngineId,
        result: Result<Ready, ProviderError>,
        turn: &mut Turn,
    ) {
        if let Some(engine) = self.queues.engines.get_mut(id) {
            engine.logged_on(result.is_ok());
            if result.is_err() && engine.sessions.is_empty() {
                self.close_engine(id, turn);
            } else if result.is_err() && engine.uid.is_some() {
                self.timers.set(turn.tick.boot + IDLE, Timer::Idle(id));
            }
        }
        if let Ok(ready) = result {
            self.engine_opened(id, ready, turn);
        }
    }

    /// Handles a session's successful logon to the store. If the engine's own logon failed before, it is made again.
    pub(crate) fn engine_works(&mut self, id: EngineId, ready: Ready, turn: &mut Turn) {
        if self.queues.engines.get(&id).is_some_and(Engine::is_not_logged_on) {
            self.log_engine_on(id, turn);
        }
        self.engine_opened(id, ready, turn);
    }

    fn engine_opened(&mut self, id: EngineId, ready: Ready, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let running = (self.queues.running, self.queues.giving_up.began(turn.tick.boot));
        if let Ready::Store(facts) = ready
            && engine.opened(facts, running, turn.tick.boot)
        {
            self.queues.closed.remove(engine.path());
            self.keep_clock(id, turn);
        }
        self.load_due(id, turn);
    }

    /// Has the store keep its clock if it does not know it, or if it is closed.
    fn keep_clock(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let lane = engine.write;
        if let Some(kept) = engine.keep_clock(turn.tick.boot) {
            self.call(lane, Caller::broker(None), Ask::clock(kept), AfterDone::Nothing, turn);
        }
    }

    /// Reads the next page of the schedule after the horizon, if there is room for it and a session that may send it.
    pub(crate) fn load_due(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let Some((after, most)) = engine.page(turn.tick.boot) else { return };
        let mut sessions = engine.sessions.iter().filter_map(|s| self.sessions.all.get(s));
        if sessions.any(Session::may_send) {
            engine.load();
            let lane = engine.read;
            self.call(lane, Caller::broker(None), Ask::due(after, most), id, turn);
        }
    }

    pub(crate) fn due_loaded(
        &mut self,
        id: EngineId,
        result: Result<Due, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let Some(submissions) = engine.loaded(result.ok()) else { return self.rest(id, turn) };
        for submission in submissions {
            if !self.queues.engines[&id].entries.contains_key(&submission.record) {
                self.learn(id, submission, turn);
            }
        }
    }

    /// Stops asking a store for a while after a failure in it.
    pub(crate) fn rest(&mut self, id: EngineId, turn: &mut Turn) {
        if let Some(engine) = self.queues.engines.get_mut(id) {
            let until = engine.rest(turn.tick.boot);
            self.timers.set_no_later(until, Timer::Due(id));
        }
    }

    /// Notes that a new submission is in the store.
    pub(crate) fn enqueue(&mut self, id: EngineId, submission: Submission, turn: &mut Turn) {
        if self.queues.engines.get_mut(id).is_some_and(|engine| engine.enqueue(&submission)) {
            self.learn(id, submission, turn);
        }
    }

    /// No try of a submission comes later than this.
    pub(crate) fn latest_try(
        &self,
        id: EngineId,
        submission: &Submission,
        now: u64,
    ) -> Option<u64> {
        let session = self.sessions.all.get(&self.sender(id, submission)?)?;
        Some(latest_try(session, now))
    }

    /// Puts a submission into the schedule. A submission that no present session can send and that is not due to be given up is
    /// parked.
    pub(crate) fn learn(&mut self, id: EngineId, mut submission: Submission, turn: &mut Turn) {
        let now = turn.tick.millis();
        let shown = submission.state();
        if shown == SubmissionState::Held || shown.is_final() {
            return;
        }
        let sender = self.sender(id, &submission);
        if let Some(session) = sender.and_then(|s| self.sessions.all.get(&s)) {
            if shown != SubmissionState::Unknown {
                submission.due = submission.due.min(latest_try(session, now));
            }
        } else {
            match self.unsent(id, &submission, turn) {
                Unsent::GivenUp(_) => submission.due = submission.due.min(now),
                Unsent::Waits(until) => return self.park(id, &submission.profile, until, turn),
            }
        }
        if let Some(engine) = self.queues.engines.get_mut(id) {
            engine.schedule(submission);
        }
    }

    /// Parks an entry that no present session can send. It is forgotten until a session comes that can, or until it may be given
    /// up.
    pub(crate) fn park(
        &mut self,
        id: EngineId,
        profile: &str,
        until: Option<u64>,
        turn: &mut Turn,
    ) {
        if let Some(engine) = self.queues.engines.get_mut(id) {
            engine.parked += 1;
        }
        if let Some(at) = until {
            self.remember(profile, at, turn);
        }
    }

    /// Looks at parked entries again, because a session or a member with mail came or entries are due to be given up.
    pub(crate) fn unpark(&mut self, id: EngineId) {
        if let Some(engine) = self.queues.engines.get_mut(id) {
            if engine.parked > 0 {
                engine.reload();
            }
            engine.stirred = true;
        }
    }

    /// Whether a session would have something to do in a store if it stayed.
    pub(crate) fn has_work(&self, id: EngineId, session: &Session, now: u64) -> bool {
        let in_flight = session.providers.iter().any(|p| p.in_flight > 0);
        self.queues.engines.get(&id).is_some_and(|engine| engine.has_work(in_flight, now))
    }

    /// Removes a session from its store. After the last one the store closes, at once or when it has been idle.
    pub(crate) fn detach_engine(&mut self, id: EngineId, session: SessionId, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        if !engine.detach(session) {
            return;
        }
        let at_once = engine.uid.is_none() || engine.is_lost() || engine.is_not_logged_on();
        if at_once || self.stopping.is_some() {
            self.close_engine(id, turn);
        } else {
            self.timers.set(turn.tick.boot + IDLE, Timer::Idle(id));
        }
    }

    /// Closes a store that was not used for a while, unless it has calls to answer or an update is still to be written to it. A
    /// lost store answers none. Where only sessions keep the store open, makes the engine's own logon again.
    pub(crate) fn idle(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.get(&id) else { return };
        if !engine.sessions.is_empty() {
            if engine.is_not_logged_on() && engine.uid.is_some() {
                self.log_engine_on(id, turn);
            }
            return;
        }
        let calls = self.providers.is_busy(engine.write) || self.providers.is_busy(engine.read);
        if engine.is_lost() || engine.entries.is_empty() && !calls {
            self.close_engine(id, turn);
        } else {
            self.timers.set(turn.tick.boot + IDLE, Timer::Idle(id));
        }
    }

    pub(crate) fn close_engine(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.queues.engines.get_mut(id).expect("who closes it has it");
        if !engine.sessions.is_empty() {
            return;
        }
        if engine.is_not_logged_on() {
            self.drop_engine(id, turn);
        } else if engine.close() {
            let lane = engine.write;
            self.keep_clock(id, turn);
            let after = AfterDone::EngineClosed(id);
            self.call(lane, Caller::broker(None).last(), Ask::logoff(), after, turn);
        }
    }

    /// Handles the answer to a store's last logoff. A lost store that could not save its contents is still open.
    pub(crate) fn engine_closed(
        &mut self,
        id: EngineId,
        failed: Option<&ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(engine) = self.queues.engines.get(&id) else { return };
        if !engine.is_closing() {
            return;
        }
        match failed.filter(|error| error.scope == Scope::Store) {
            Some(why) => self.keep_lost_store(id, why, turn),
            None => self.drop_engine(id, turn),
        }
    }

    /// Logs a store off once more, after a while.
    pub(crate) fn close_again(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let until = engine.stay_open(turn.tick.boot);
        self.timers.set(until, Timer::Idle(id));
    }

    /// Removes an engine whose store is closed or hangs.
    pub(crate) fn drop_engine(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.remove(id) else { return };
        self.timers.clear(Timer::Due(id));
        self.timers.clear(Timer::Idle(id));
        if let Some(left) = engine.left().filter(|left| !left.is_empty()) {
            self.queues.closed.insert(engine.path().to_owned(), left);
        }
        self.close_lane(engine.write, turn);
        self.close_lane(engine.read, turn);
        self.start_waiting(engine.lost, turn);
    }
}

/// The latest time at which a session tries what it sends. A stored time is further away only if the clock was set back.
fn latest_try(session: &Session, now: u64) -> u64 {
    let policy = &session.profile().queue;
    now.saturating_add(policy.retry_max.max(policy.retry_min).as_millis() as u64)
}
