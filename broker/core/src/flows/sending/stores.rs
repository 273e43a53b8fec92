//! An open store: one engine, whatever the number of sessions, and what is known of its outgoing queue.
//!
//! The queue itself is in the store. Known here is what is due first: `entries`, in order of due time in `ready` or, while
//! their transport has no room, in `full`. What is not known is behind the `horizon`, and is read when there is room
//! again. Entries that no present session can send are parked: forgotten here until a session comes that can. Of those whose
//! transport cannot be reached a few are known, and the others are forgotten until it can.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sundown_protocol::SessionId;
use sundown_protocol::reply::SubmissionState;

use crate::broker::Broker;
use crate::ground::event::{Effect, EngineId, LaneSpec, Turn};
use crate::ground::provider::{ProviderError, ProviderSpec, ProviderType, Scope, Submission};
use crate::ground::timers::Timer;
use crate::providers::ask::{Ask, Due, Ready};
use crate::providers::calls::Caller;
use crate::providers::view::Trouble;
use crate::queue::engine::{
    Changed, ClosedStore, Engine, EngineState, Entry, IDLE, KNOWN, Loading, Oldest, OwnLogon, PAGE,
    REST, Try,
};
use crate::queue::giving_up::Unsent;
use crate::then::{AfterDone, AfterLogon};

impl Broker {
    /// Submissions in all stores that wait for a member with mail, open or not.
    pub(crate) fn waiting_for_mail(&self) -> u64 {
        let open = self.engines.values().map(Engine::waiting_for_mail);
        open.chain(self.closed.values().map(|closed| closed.waiting_for_mail)).sum()
    }

    /// The engine of a store, opened if it is not, for one more session.
    pub(crate) fn attach_engine(
        &mut self,
        session: SessionId,
        spec: &ProviderSpec,
        turn: &mut Turn,
    ) -> EngineId {
        let id = match self.engines.at(&spec.path) {
            Some(id) => id,
            None => self.open_engine(spec, turn),
        };
        let engine = self.engines.get_mut(id).expect("listed engines exist");
        engine.sessions.insert(session);
        self.timers.clear(Timer::Idle(id));
        if engine.state == EngineState::Closing {
            engine.state = EngineState::Open;
            self.log_engine_on(id, turn);
        }
        id
    }

    fn open_engine(&mut self, spec: &ProviderSpec, turn: &mut Turn) -> EngineId {
        let id = EngineId(self.number());
        let mut lane = || self.providers.open(ProviderType::Store, &spec.name);
        let (write, read) = (lane(), lane());
        turn.emit(Effect::OpenLane(Box::new(LaneSpec {
            lane: write,
            reader: Some(read),
            provider_type: ProviderType::Store,
            spec: spec.clone(),
        })));
        let taken: BTreeSet<_> = self.engines.values().map(|e| e.slot).collect();
        let slot = (0..).zip(&taken).find(|(slot, taken)| slot != *taken);
        let slot = slot.map_or(taken.len() as u64, |(slot, _)| slot);
        let engine = Engine {
            id,
            slot,
            path: spec.path.clone(),
            write,
            read,
            uid: None,
            sessions: BTreeSet::new(),
            counts: [0; 9],
            no_mail: 0,
            accepted: 0,
            entries: HashMap::new(),
            ready: BTreeSet::new(),
            full: BTreeMap::new(),
            horizon: Some((0, 0)),
            loading: Loading::No,
            changed: HashSet::new(),
            oldest: Oldest::default(),
            parked: 0,
            owners: HashMap::new(),
            changing: HashSet::new(),
            doubted: HashSet::new(),
            newest: 0,
            unrecorded: Vec::new(),
            trouble: None,
            stance: None,
            rests_until: None,
            stirred: false,
            alarm: None,
            state: EngineState::Open,
            lost: None,
            own: OwnLogon::Asked,
        };
        self.engines.insert(engine);
        self.log_engine_on(id, turn);
        id
    }

    /// The number of an open store.
    pub(crate) fn store_uid(&self, id: EngineId) -> u32 {
        self.engines.get(&id).and_then(|e| e.uid).unwrap_or(0)
    }

    /// The engine's own logon keeps the store open between sessions.
    fn log_engine_on(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.engines.get_mut(id).expect("who logs it on has it");
        engine.own = OwnLogon::Asked;
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
        if let Some(engine) = self.engines.get_mut(id) {
            engine.own = if result.is_ok() { OwnLogon::Yes } else { OwnLogon::Failed };
        }
        if let Ok(ready) = result {
            self.engine_opened(id, ready, turn);
        }
    }

    /// A session's logon to the store worked: the engine's own does too, if it did not before.
    pub(crate) fn engine_works(&mut self, id: EngineId, ready: Ready, turn: &mut Turn) {
        if self.engines.get(&id).is_some_and(|e| e.own == OwnLogon::Failed) {
            self.log_engine_on(id, turn);
        }
        self.engine_opened(id, ready, turn);
    }

    fn engine_opened(&mut self, id: EngineId, ready: Ready, turn: &mut Turn) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        if let Ready::Store(facts) = ready
            && engine.uid.is_none()
        {
            engine.uid = Some(facts.uid);
            engine.counts = facts.queue.map(|count| count as i64);
            engine.no_mail = facts.no_mail as i64;
            self.closed.remove(&engine.path);
            if let Some(damage) = facts.damage {
                Trouble::note(&mut engine.trouble, Trouble::Damage(damage));
            }
            engine.stirred = true;
        }
        self.load_due(id, turn);
    }

    /// Asks for what is due behind the horizon, if there is room for it.
    pub(crate) fn load_due(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let horizon = engine.horizon.filter(|_| engine.has_room() && engine.uid.is_some());
        let Some(horizon) = horizon else { return };
        let mut sessions = engine.sessions.iter().filter_map(|s| self.sessions.get(s));
        let wanted = sessions.any(crate::sessions::session::Session::may_send);
        if engine.loading != Loading::No || !wanted || engine.rests(turn.tick.boot) {
            return;
        }
        engine.loading = Loading::Yes;
        let after = (horizon != (0, 0)).then_some(horizon);
        let lane = engine.read;
        self.call(lane, Caller::broker(None), Ask::due(after, PAGE), id, turn);
    }

    pub(crate) fn due_loaded(
        &mut self,
        id: EngineId,
        result: Result<Due, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let stale = std::mem::replace(&mut engine.loading, Loading::No) == Loading::Stale;
        let changed = std::mem::take(&mut engine.changed);
        engine.stirred = true;
        let Ok(Due { submissions, more, damaged }) = result else {
            return self.rest(id, turn);
        };
        if stale {
            return;
        }
        if damaged > 0 {
            let what = "a message in its queue is damaged and is not sent; the log names it";
            Trouble::note(&mut engine.trouble, Trouble::Damage(what.into()));
        }
        let last = submissions.last().map(|last| (last.due, last.order));
        engine.horizon = last.filter(|_| more);
        for submission in submissions {
            let record = submission.record;
            if !changed.contains(&record) && !self.engines[&id].entries.contains_key(&record) {
                self.learn(id, submission, turn);
            }
        }
    }

    /// Leaves a store alone for a while, in which something failed.
    pub(crate) fn rest(&mut self, id: EngineId, turn: &mut Turn) {
        let until = turn.tick.boot + REST;
        if let Some(engine) = self.engines.get_mut(id) {
            engine.rests_until = Some(until);
            self.timers.set_no_later(until, Timer::Due(id));
        }
    }

    /// A new submission is in the store.
    pub(crate) fn enqueue(&mut self, id: EngineId, submission: Submission, turn: &mut Turn) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.counts[submission.state() as usize] += 1;
        engine.no_mail += i64::from(submission.no_mail);
        engine.newest = engine.newest.max(submission.order);
        if !engine.doubted.is_empty() {
            engine.doubted.remove(&submission.record);
        }
        engine.stirred = true;
        let key = (submission.due, submission.order);
        if engine.entries.contains_key(&submission.record) {
            // It was read from the queue before this answer came.
            return;
        }
        let many = engine.entries.len() >= KNOWN;
        if many && engine.horizon.is_none() {
            engine.horizon = engine.last_known().filter(|last| key > *last);
        }
        // While the schedule is read, this one may or may not be in what comes.
        if engine.loading == Loading::No && engine.horizon.is_some_and(|horizon| key > horizon) {
            return;
        }
        if engine.entries.len() >= 2 * KNOWN {
            engine.start_over();
            return;
        }
        self.learn(id, submission, turn);
    }

    /// Puts a submission into the schedule, unless nobody here can send it and its time to be given up has not come.
    pub(crate) fn learn(&mut self, id: EngineId, mut submission: Submission, turn: &mut Turn) {
        let now = turn.tick.millis();
        let shown = submission.state();
        if shown == SubmissionState::Held || shown.is_final() {
            return;
        }
        let sender = self.sender(id, &submission);
        if let Some(session) = sender.and_then(|s| self.sessions.get(&s)) {
            // No try is further away than the longest wait, unless the clock was set back since that was written.
            if shown != SubmissionState::Unknown {
                let policy = &session.profile().queue;
                let longest = policy.retry_max.max(policy.retry_min).as_millis() as u64;
                submission.due = submission.due.min(now.saturating_add(longest));
            }
        } else {
            match self.unsent(id, &submission, turn) {
                Unsent::GivenUp(_) => submission.due = submission.due.min(now),
                Unsent::Waits(until) => return self.park(id, &submission.profile, until, turn),
            }
        }
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.ready.insert((submission.due, submission.order, submission.record));
        let (untold, changed) = (Vec::new(), Changed::none_of(&submission.recipients));
        let entry = Entry { submission, shown, flights: 0, tried: Try::Over, untold, changed };
        engine.entries.insert(entry.submission.record, entry);
        engine.stirred = true;
    }

    /// Nobody here can send an entry. It is forgotten until somebody comes, or until it may be given up.
    pub(crate) fn park(
        &mut self,
        id: EngineId,
        profile: &str,
        until: Option<u64>,
        turn: &mut Turn,
    ) {
        if let Some(engine) = self.engines.get_mut(id) {
            engine.parked += 1;
        }
        if let Some(at) = until {
            self.remember(profile, at, turn);
        }
    }

    /// A session came, or a member with mail, or the time to give something up: what was parked is looked at again.
    pub(crate) fn unpark(&mut self, id: EngineId) {
        if let Some(engine) = self.engines.get_mut(id) {
            if engine.parked > 0 {
                engine.reload();
            }
            engine.stirred = true;
        }
    }

    /// Whether a session would have something to do if it stayed: to send, or to give up what is unknown for too long.
    pub(crate) fn has_work(
        &self,
        id: EngineId,
        session: &crate::sessions::session::Session,
        now: u64,
    ) -> bool {
        let Some(engine) = self.engines.get(&id).filter(|e| !e.is_lost()) else { return false };
        let in_flight = session.providers.iter().any(|p| p.in_flight > 0);
        let known = engine.horizon.is_none();
        let to_send = engine.pending() > 0 && !(known && engine.entries.is_empty());
        let unread = !known && engine.counts[SubmissionState::Unknown as usize] > 0;
        let overdue = engine.ready.first().is_some_and(|(due, ..)| *due <= now);
        in_flight || engine.accepted > 0 || to_send || unread || overdue
    }

    /// A session is done with its store.
    pub(crate) fn detach_engine(&mut self, id: EngineId, session: SessionId, turn: &mut Turn) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.sessions.remove(&session);
        if !engine.sessions.is_empty() {
            return;
        }
        // Entries are known only to send them, and nobody does now.
        engine.start_over();
        if engine.uid.is_none() || engine.is_lost() || self.stopping.is_some() {
            self.close_engine(id, turn);
        } else {
            self.timers.set(turn.tick.boot + IDLE, Timer::Idle(id));
        }
    }

    pub(crate) fn idle(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.engines.get(&id) else { return };
        if engine.entries.is_empty() || engine.is_lost() {
            self.close_engine(id, turn);
        } else {
            // Something is still to be written down.
            self.timers.set(turn.tick.boot + IDLE, Timer::Idle(id));
        }
    }

    pub(crate) fn close_engine(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.engines.get_mut(id).expect("who closes it has it");
        if !engine.sessions.is_empty() {
            return;
        }
        if engine.own == OwnLogon::Failed {
            self.drop_engine(id, turn);
        } else if engine.state == EngineState::Open {
            engine.state = EngineState::Closing;
            let lane = engine.write;
            let after = AfterDone::EngineClosed(id);
            self.call(lane, Caller::broker(None).last(), Ask::logoff(), after, turn);
        }
    }

    /// A store has answered the last logoff. One that is lost, and could not save what is in it, is still open.
    pub(crate) fn engine_closed(
        &mut self,
        id: EngineId,
        failed: Option<&ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(engine) = self.engines.get(&id) else { return };
        if engine.state != EngineState::Closing {
            return;
        }
        match failed.filter(|error| error.scope == Scope::Store) {
            Some(why) => self.keep_lost_store(id, why, turn),
            None => self.drop_engine(id, turn),
        }
    }

    /// Logs a store off once more, in a while.
    pub(crate) fn close_again(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.state = EngineState::Open;
        self.timers.set(turn.tick.boot + REST, Timer::Idle(id));
    }

    /// Leaves an engine behind, closed or hung.
    pub(crate) fn drop_engine(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.engines.remove(id) else { return };
        self.timers.clear(Timer::Due(id));
        self.timers.clear(Timer::Idle(id));
        if engine.uid.is_some() && !engine.is_lost() {
            let queue = engine.counts.map(|count| count.max(0) as u64);
            let waiting_for_mail = engine.no_mail.max(0) as u64;
            let kept = ClosedStore { queue, waiting_for_mail };
            if kept != ClosedStore::default() {
                self.closed.insert(engine.path.clone(), kept);
            }
        }
        self.close_lane(engine.write, turn);
        self.close_lane(engine.read, turn);
        self.start_waiting(engine.lost, turn);
    }
}
