//! An open store: one engine, whatever the number of sessions, and what is known of its outgoing queue.
//!
//! The queue itself is in the store. Known here is only what is due first: `entries`, in order of due time in `ready`,
//! up to the `horizon`. What is behind it is read when there is room again. Entries that no present session can send
//! are parked: forgotten here until a session comes that can.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use sundown_protocol::reply::SubmissionState;
use sundown_protocol::{MemberId, SessionId};

use crate::broker::{Broker, Caller, Then};
use crate::event::{Effect, EngineId, LaneId, LaneSpec, Turn};
use crate::provider::{
    ProviderAnswer, ProviderCall, ProviderError, ProviderSpec, ProviderType, StoreRead, Submission,
};
use crate::timers::Timer;

/// Submissions known at once. Reading more at a time costs memory, fewer costs questions.
const KNOWN: usize = 4_096;
/// Submissions asked for at once.
const PAGE: u32 = 512;
/// How long a store stays open that nobody uses: opening one costs more than keeping it.
const IDLE: Duration = Duration::from_secs(10);

/// One open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) id: EngineId,
    path: PathBuf,
    pub(crate) write: LaneId,
    pub(crate) read: LaneId,
    /// The store's number, once it is open.
    pub(crate) uid: Option<u32>,
    pub(crate) sessions: BTreeSet<SessionId>,
    /// Durable submissions by state, without the final ones.
    pub(crate) counts: [u64; 9],
    /// Submissions handed to the store and not answered.
    pub(crate) accepted: u64,
    pub(crate) entries: HashMap<u128, Entry>,
    /// Entries that wait: due time, order, record.
    pub(crate) ready: BTreeSet<(u64, u64, u128)>,
    /// Entries behind this due time and order are not known; `None` when all are.
    pub(crate) horizon: Option<(u64, u64)>,
    loading: Loading,
    /// Entries that no present session can send.
    pub(crate) parked: u64,
    /// Who submitted what is not final.
    pub(crate) owners: HashMap<u128, MemberId>,
    /// Updates that could not be stored, to be tried again.
    pub(crate) unrecorded: Vec<u128>,
    /// Whether something changed that may let a message go.
    pub(crate) stirred: bool,
    /// For which due time the timer is set.
    pub(crate) alarm: Option<u64>,
    state: EngineState,
    used: u64,
}

/// One known submission.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) submission: Submission,
    /// The state it is counted under.
    pub(crate) shown: SubmissionState,
    /// Transmissions under way; while there are any, nobody else may touch it.
    pub(crate) flights: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loading {
    No,
    Yes,
    /// Something was stored meanwhile: read once more.
    Again,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EngineState {
    Open,
    Closing,
}

impl Engine {
    /// Takes an entry out of the schedule.
    pub(crate) fn forget(&mut self, record: u128) -> Option<Entry> {
        let entry = self.entries.remove(&record)?;
        let s = &entry.submission;
        self.ready.remove(&(s.due, s.order, s.record));
        Some(entry)
    }

    /// Reads the schedule from its beginning again.
    pub(crate) fn reload(&mut self) {
        self.parked = 0;
        self.horizon = Some((0, 0));
        if self.loading == Loading::Yes {
            self.loading = Loading::Again;
        }
        self.stirred = true;
    }

    /// Counts an entry under its present state; the final state if it has just become final.
    pub(crate) fn recount(&mut self, record: u128) -> Option<SubmissionState> {
        let entry = self.entries.get_mut(&record)?;
        let (before, now) = (entry.shown, entry.submission.state());
        entry.shown = now;
        if !before.is_final() {
            let count = &mut self.counts[before as usize];
            *count = count.saturating_sub(1);
        }
        if now.is_final() {
            return (!before.is_final()).then_some(now);
        }
        self.counts[now as usize] += 1;
        None
    }

    /// Durable submissions that a transport could have.
    fn pending(&self) -> u64 {
        use SubmissionState::{Deferred, Queued, Transmitting};
        [Queued, Transmitting, Deferred].iter().map(|s| self.counts[*s as usize]).sum()
    }
}

impl Broker {
    /// The engine of a store, opened if it is not, for one more session.
    pub(crate) fn attach_engine(
        &mut self,
        session: SessionId,
        spec: &ProviderSpec,
        turn: &mut Turn,
    ) -> EngineId {
        let id = match self.engine_of.get(&spec.path).copied() {
            Some(id) => id,
            None => self.open_engine(spec, turn),
        };
        let engine = self.engines.get_mut(&id).expect("listed engines exist");
        engine.sessions.insert(session);
        engine.used += 1;
        if engine.state == EngineState::Closing {
            engine.state = EngineState::Open;
            self.log_engine_on(id, turn);
        }
        id
    }

    fn open_engine(&mut self, spec: &ProviderSpec, turn: &mut Turn) -> EngineId {
        let id = EngineId(self.number());
        let (write, read) = (self.lanes.open(), self.lanes.open());
        turn.emit(Effect::OpenLane(LaneSpec {
            lane: write,
            reader: Some(read),
            stores: Vec::new(),
            provider_type: ProviderType::Store,
            spec: spec.clone(),
        }));
        let engine = Engine {
            id,
            path: spec.path.clone(),
            write,
            read,
            uid: None,
            sessions: BTreeSet::new(),
            counts: [0; 9],
            accepted: 0,
            entries: HashMap::new(),
            ready: BTreeSet::new(),
            horizon: Some((0, 0)),
            loading: Loading::No,
            parked: 0,
            owners: HashMap::new(),
            unrecorded: Vec::new(),
            stirred: false,
            alarm: None,
            state: EngineState::Open,
            used: 0,
        };
        self.engines.insert(id, engine);
        self.engine_of.insert(spec.path.clone(), id);
        self.log_engine_on(id, turn);
        id
    }

    /// The engine's own logon keeps the store open between sessions.
    fn log_engine_on(&mut self, id: EngineId, turn: &mut Turn) {
        let lane = self.engines[&id].write;
        let then = Then::EngineOpened(id);
        self.call(lane, Caller::broker(None), ProviderCall::Logon, then, turn);
    }

    pub(crate) fn engine_opened(
        &mut self,
        id: EngineId,
        result: Result<&ProviderAnswer, &ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(engine) = self.engines.get_mut(&id) else { return };
        if let Ok(ProviderAnswer::StoreOpened(facts)) = result
            && engine.uid.is_none()
        {
            engine.uid = Some(facts.uid);
            engine.counts = facts.queue;
            engine.stirred = true;
        }
        self.load_due(id, turn);
    }

    /// Asks for what is due behind the horizon, if there is room for it.
    pub(crate) fn load_due(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.engines.get_mut(&id) else { return };
        let room = engine.entries.len() + PAGE as usize <= KNOWN;
        let Some(horizon) = engine.horizon.filter(|_| room && engine.uid.is_some()) else { return };
        if engine.loading != Loading::No || engine.sessions.is_empty() {
            return;
        }
        engine.loading = Loading::Yes;
        let after = (horizon != (0, 0)).then_some(horizon);
        let call = ProviderCall::Read(StoreRead::Due { after, limit: PAGE });
        let lane = engine.read;
        self.call(lane, Caller::broker(None), call, Then::Due(id), turn);
    }

    pub(crate) fn due_loaded(
        &mut self,
        id: EngineId,
        result: Result<ProviderAnswer, ProviderError>,
    ) {
        let Some(engine) = self.engines.get_mut(&id) else { return };
        let again = std::mem::replace(&mut engine.loading, Loading::No) == Loading::Again;
        engine.stirred = true;
        let Ok(ProviderAnswer::Due { submissions, more }) = result else { return };
        if again && engine.horizon == Some((0, 0)) {
            return;
        }
        let known: Vec<_> =
            submissions.iter().map(|s| engine.entries.contains_key(&s.record)).collect();
        engine.horizon = match submissions.last() {
            Some(last) if more || again => Some((last.due, last.order)),
            None if again => engine.horizon,
            _ => None,
        };
        for (submission, known) in submissions.into_iter().zip(known) {
            if !known {
                self.learn(id, submission);
            }
        }
    }

    /// A new submission is in the store.
    pub(crate) fn enqueue(&mut self, id: EngineId, submission: Submission) {
        let Some(engine) = self.engines.get_mut(&id) else { return };
        engine.counts[submission.state() as usize] += 1;
        if engine.horizon.is_some() || engine.entries.len() >= KNOWN {
            let last = engine.ready.last().map_or((0, 1), |(due, order, _)| (*due, *order));
            engine.horizon.get_or_insert(last);
            if engine.loading == Loading::Yes {
                engine.loading = Loading::Again;
            }
            engine.stirred = true;
            return;
        }
        self.learn(id, submission);
    }

    /// Puts a submission into the schedule, unless nobody here can send it.
    pub(crate) fn learn(&mut self, id: EngineId, submission: Submission) {
        let sendable = self.sender(id, &submission).is_some();
        let Some(engine) = self.engines.get_mut(&id) else { return };
        let shown = submission.state();
        if matches!(shown, SubmissionState::Held | SubmissionState::Unknown) || shown.is_final() {
            return;
        }
        if !sendable {
            engine.parked += 1;
            return;
        }
        engine.ready.insert((submission.due, submission.order, submission.record));
        let entry = Entry { submission, shown, flights: 0 };
        engine.entries.insert(entry.submission.record, entry);
        engine.stirred = true;
    }

    /// A session came, or a member with mail: what was parked may be sent now.
    pub(crate) fn unpark(&mut self, id: EngineId) {
        if let Some(engine) = self.engines.get_mut(&id) {
            if engine.parked > 0 {
                engine.reload();
            }
            engine.stirred = true;
        }
    }

    /// Whether a session would have something to send if it stayed.
    pub(crate) fn has_work(&self, id: EngineId, session: &crate::session::Session) -> bool {
        let Some(engine) = self.engines.get(&id) else { return false };
        let in_flight = session.providers.iter().any(|p| p.in_flight > 0);
        in_flight || engine.accepted > 0 || engine.pending() > engine.parked
    }

    /// A session is done with its store.
    pub(crate) fn detach_engine(&mut self, id: EngineId, session: SessionId, turn: &mut Turn) {
        let Some(engine) = self.engines.get_mut(&id) else { return };
        engine.sessions.remove(&session);
        engine.used += 1;
        if !engine.sessions.is_empty() {
            return;
        }
        // Entries are known only to send them, and nobody does now.
        engine.entries.retain(|_, entry| entry.flights > 0);
        engine.ready.clear();
        engine.reload();
        if engine.uid.is_none() || self.stopping.is_some() {
            self.close_engine(id, turn);
        } else {
            self.timers.set(turn.tick.boot + IDLE, Timer::Idle(id, engine.used));
        }
    }

    pub(crate) fn idle(&mut self, id: EngineId, used: u64, turn: &mut Turn) {
        if self.engines.get(&id).is_some_and(|e| e.used == used) {
            self.close_engine(id, turn);
        }
    }

    pub(crate) fn close_engine(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.engines.get_mut(&id).expect("who closes it has it");
        if engine.state == EngineState::Open && engine.sessions.is_empty() {
            engine.state = EngineState::Closing;
            let lane = engine.write;
            let then = Then::EngineClosed(id);
            self.call(lane, Caller::broker(None), ProviderCall::Logoff, then, turn);
        }
    }

    pub(crate) fn engine_closed(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.engines.get(&id) else { return };
        if engine.state == EngineState::Closing {
            self.drop_engine(id, turn);
        }
    }

    /// Leaves an engine behind, closed or hung.
    pub(crate) fn drop_engine(&mut self, id: EngineId, turn: &mut Turn) {
        let Some(engine) = self.engines.remove(&id) else { return };
        self.engine_of.remove(&engine.path);
        self.lanes.close(engine.write, turn);
        self.lanes.close(engine.read, turn);
    }
}
