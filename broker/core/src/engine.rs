//! An open store: one engine, whatever the number of sessions, and what is known of its outgoing queue.
//!
//! The queue itself is in the store. Known here is what is due first: `entries`, in order of due time in `ready` or, while
//! their transport has no room, in `full`. What is not known is behind the `horizon`, and is read when there is room
//! again. Entries that no present session can send are parked: forgotten here until a session comes that can. Of those whose
//! transport cannot be reached a few are known, and the others are forgotten until it can.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use sundown_protocol::reply::SubmissionState;
use sundown_protocol::{MemberId, SessionId};

use crate::answer::{Ask, Due, Ready};
use crate::broker::Broker;
use crate::calls::Caller;
use crate::event::{Effect, EngineId, LaneId, LaneSpec, Turn};
use crate::figures::Oldest;
use crate::giving_up::Unsent;
use crate::provider::{ProviderError, ProviderSpec, ProviderType, Recipient, Scope, Submission};
use crate::session::Session;
use crate::shutdown::Stance;
use crate::status::Trouble;
use crate::store_lost::LostStore;
use crate::then::{AfterDone, AfterLogon};
use crate::timers::Timer;

/// Submissions known at once. Reading more at a time costs memory, fewer costs questions.
const KNOWN: usize = 4_096;
/// Submissions asked for at once.
const PAGE: u32 = 512;
/// How long a store is left alone in which something could not be written or read.
const REST: Duration = Duration::from_secs(5);
/// How long a store stays open that nobody uses: opening one costs more than keeping it.
const IDLE: Duration = Duration::from_secs(10);

/// The place of an entry in the schedule: due time, order, record.
pub(crate) type Key = (u64, u64, u128);

/// One open store.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Engine {
    pub(crate) id: EngineId,
    /// A small number that no other open store has: the place in a list of all queues, whichever stores come and go meanwhile.
    pub(crate) slot: u64,
    path: PathBuf,
    pub(crate) write: LaneId,
    pub(crate) read: LaneId,
    /// The store's number, once it is open.
    pub(crate) uid: Option<u32>,
    pub(crate) sessions: BTreeSet<SessionId>,
    /// Durable submissions by state, without the final ones. One that is read before its submit is answered is counted
    /// late; until then a count may be one too low, even below zero.
    pub(crate) counts: [i64; 9],
    /// Durable submissions of members without mail that are not final; late like the counts.
    no_mail: i64,
    /// Submissions handed to the store and not answered.
    pub(crate) accepted: u64,
    pub(crate) entries: HashMap<u128, Entry>,
    /// Entries that wait for their time.
    pub(crate) ready: BTreeSet<Key>,
    /// Entries whose transport has no room, by its session and its place among the session's providers.
    pub(crate) full: BTreeMap<(SessionId, usize), Line>,
    /// Entries that are not known are behind this due time and order; `None` when all are known.
    pub(crate) horizon: Option<(u64, u64)>,
    loading: Loading,
    /// Entries that changed while the schedule is being read: what is read of them may be older.
    changed: HashSet<u128>,
    pub(crate) oldest: Oldest,
    /// Entries that no present session can send.
    pub(crate) parked: u64,
    /// Who submitted what is not final; several, if a key was repeated.
    pub(crate) owners: HashMap<u128, Vec<MemberId>>,
    /// Entries that somebody is about to change: they do not depart.
    pub(crate) changing: HashSet<u128>,
    /// Submissions that the store is asked for, because it is not known whether their submit was done.
    pub(crate) doubted: HashSet<u128>,
    /// The newest submission that is counted here since the store was opened, by its place in the queue.
    pub(crate) newest: u64,
    /// Updates that could not be stored, to be tried again.
    pub(crate) unrecorded: Vec<u128>,
    /// What was found wrong with it first since it was opened.
    pub(crate) trouble: Option<Trouble>,
    /// The store object's first answer to `QueryFastShutdown`, for its life and every session that uses it (SEED-17).
    pub(crate) stance: Option<Stance>,
    /// Until when it is left alone.
    rests_until: Option<Duration>,
    /// Whether something changed that may let a message go.
    pub(crate) stirred: bool,
    /// For which due time the timer is set.
    pub(crate) alarm: Option<u64>,
    state: EngineState,
    /// Set once its files are known to be lost.
    pub(crate) lost: Option<LostStore>,
    /// The engine's own logon, which keeps the store open between sessions.
    own: OwnLogon,
}

/// What was in the queue of a store when it was closed. Nothing changes it until it is opened again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClosedStore {
    pub(crate) queue: [u64; 9],
    pub(crate) waiting_for_mail: u64,
}

/// One known submission.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Entry {
    pub(crate) submission: Submission,
    /// The state it is counted under.
    pub(crate) shown: SubmissionState,
    /// Transmissions under way; while there are any, nobody else may touch it.
    pub(crate) flights: usize,
    /// How far the present try is.
    pub(crate) tried: Try,
    /// Recipients that bounced, and no update yet that tells the sender.
    pub(crate) untold: Vec<usize>,
    /// Recipients that the store has otherwise.
    pub(crate) changed: Changed,
}

/// Recipients of a submission, by their place, that are not in the store as they are here.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Changed {
    Some(Vec<usize>),
    /// It is not known which, because an update has failed; or there are so few that all are written.
    All,
}

/// From so many recipients on, those that changed are written alone.
const MANY: usize = 32;

impl Changed {
    /// None of these.
    pub(crate) fn none_of(recipients: &[Recipient]) -> Self {
        if recipients.len() < MANY { Self::All } else { Self::Some(Vec::new()) }
    }

    pub(crate) fn note(&mut self, place: usize) {
        if let Self::Some(places) = self {
            places.push(place);
        }
    }
}

/// Entries that wait for one transport.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Line {
    pub(crate) keys: BTreeSet<Key>,
    /// Those that are not known here any more, because the transport cannot be reached. They are read again when it can.
    pub(crate) forgotten: Option<Forgotten>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// When the first of them is given up, in milliseconds since 1970.
    pub(crate) given_up: u64,
    /// How many of them are of members without mail.
    pub(crate) no_mail: u64,
}

/// How far a try of a message is. It may take many transactions, and more than a transport takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Try {
    /// The next departure begins another one.
    Over,
    /// Departed, not counted among the attempts yet.
    Begun,
    /// Counted.
    Counted,
}

impl Line {
    /// One more is forgotten.
    pub(crate) fn note_forgotten(&mut self, given_up: u64, no_mail: bool) {
        let forgotten = self.forgotten.get_or_insert(Forgotten { given_up, no_mail: 0 });
        forgotten.given_up = forgotten.given_up.min(given_up);
        forgotten.no_mail += u64::from(no_mail);
    }
}

impl Entry {
    /// The state that others may act upon: what the last answers say is not durable before all transmissions are over.
    pub(crate) fn state(&self) -> SubmissionState {
        use SubmissionState::{Transmitting, Unknown};
        match self.submission.state() {
            state if self.flights > 0 && (state.is_final() || state == Unknown) => Transmitting,
            state => state,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loading {
    No,
    Yes,
    /// It is to be read from the beginning: what comes now does not count.
    Stale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EngineState {
    Open,
    Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnLogon {
    Asked,
    Yes,
    Failed,
}

impl Engine {
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The wall clock was set back by so many milliseconds. What was due in a minute is so still: its due time moves along.
    /// The store keeps the old one until the next try; what is read from it is looked at when it is learned. The age at
    /// which what is unknown is given up is one on the wall.
    pub(crate) fn clock_was_set_back(&mut self, back: u64) {
        let Self { entries, ready, full, .. } = self;
        for entry in entries.values_mut() {
            if entry.submission.state() != SubmissionState::Unknown {
                entry.submission.due = entry.submission.due.saturating_sub(back);
            }
        }
        for keys in full.values_mut().map(|line| &mut line.keys).chain([ready]) {
            let moved =
                |(_, order, record): &Key| (entries[record].submission.due, *order, *record);
            *keys = keys.iter().map(moved).collect();
        }
        self.alarm = None;
        self.stirred = true;
    }

    /// Takes an entry out of the schedule.
    pub(crate) fn forget(&mut self, record: u128) -> Option<Entry> {
        let entry = self.entries.remove(&record)?;
        let s = &entry.submission;
        let key = (s.due, s.order, s.record);
        self.ready.remove(&key);
        for line in self.full.values_mut() {
            line.keys.remove(&key);
        }
        Some(entry)
    }

    /// Reads the schedule from its beginning again. Where no page of it has room, what is known is forgotten: with the
    /// horizon at the beginning nothing newer would be learned.
    pub(crate) fn reload(&mut self) {
        if !self.has_room() {
            self.forget_all();
        }
        self.parked = 0;
        for line in self.full.values_mut() {
            line.forgotten = None;
        }
        self.horizon = Some((0, 0));
        if self.loading == Loading::Yes {
            self.loading = Loading::Stale;
        }
        self.stirred = true;
    }

    /// Forgets everything that is not under way, and reads the schedule from its beginning again.
    pub(crate) fn start_over(&mut self) {
        self.forget_all();
        self.reload();
    }

    fn forget_all(&mut self) {
        self.entries.retain(|_, entry| entry.flights > 0);
        self.ready.clear();
        self.full.clear();
    }

    /// Whether something may wait that is not known here.
    pub(crate) fn is_unread(&self) -> bool {
        let unknown = self.counts[SubmissionState::Unknown as usize];
        self.horizon.is_some() && self.pending() + unknown > 0
    }

    /// Whether more of the schedule is read now, or would be if it could.
    pub(crate) fn reads(&self) -> bool {
        self.is_unread() && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.entries.len() + PAGE as usize <= KNOWN
    }

    /// An entry was changed in the store. Whether its new place in the schedule must be known here.
    pub(crate) fn note_change(&mut self, record: u128, key: (u64, u64)) -> bool {
        if self.loading == Loading::No {
            return self.horizon.is_none_or(|horizon| key <= horizon);
        }
        self.changed.insert(record);
        true
    }

    /// The last entry of the schedule that is known.
    fn last_known(&self) -> Option<(u64, u64)> {
        let full = self.full.values().filter_map(|line| line.keys.last());
        full.chain(self.ready.last()).max().map(|(due, order, _)| (*due, *order))
    }

    pub(crate) fn own(&mut self, record: u128, member: MemberId) {
        let owners = self.owners.entry(record).or_default();
        if !owners.contains(&member) {
            owners.push(member);
        }
    }

    pub(crate) fn disown(&mut self, record: u128, member: MemberId) {
        let Some(owners) = self.owners.get_mut(&record) else { return };
        owners.retain(|m| *m != member);
        if owners.is_empty() {
            self.owners.remove(&record);
        }
    }

    /// Whether the store is open and stays so for now.
    pub(crate) fn is_open(&self) -> bool {
        self.uid.is_some() && self.state == EngineState::Open && !self.is_lost()
    }

    /// Whether its files were removed or replaced: nothing is written to it, and nothing sent from it.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether the store may be asked, or is left alone after a failure.
    pub(crate) fn rests(&self, now: Duration) -> bool {
        self.wakes_at(now).is_some()
    }

    /// Until when the store is left alone, if it is.
    pub(crate) fn wakes_at(&self, now: Duration) -> Option<Duration> {
        self.rests_until.filter(|until| now < *until)
    }

    /// Counts an entry under its present state; the final state if it has just become final.
    pub(crate) fn recount(&mut self, record: u128) -> Option<SubmissionState> {
        let entry = self.entries.get_mut(&record)?;
        let now = entry.state();
        let before = std::mem::replace(&mut entry.shown, now);
        let no_mail = entry.submission.no_mail;
        self.count(before, now, no_mail)
    }

    /// Counts a submission, that was counted under this state, as it is stored.
    pub(crate) fn moved(
        &mut self,
        before: SubmissionState,
        stored: &Submission,
    ) -> Option<SubmissionState> {
        self.count(before, stored.state(), stored.no_mail)
    }

    fn count(
        &mut self,
        before: SubmissionState,
        now: SubmissionState,
        no_mail: bool,
    ) -> Option<SubmissionState> {
        if !before.is_final() {
            self.counts[before as usize] -= 1;
        }
        if now.is_final() {
            self.no_mail -= i64::from(!before.is_final() && no_mail);
            return (!before.is_final()).then_some(now);
        }
        self.counts[now as usize] += 1;
        None
    }

    /// Adds its submissions by state, without the final ones.
    pub(crate) fn add_counts(&self, queue: &mut [u64; 9]) {
        queue[SubmissionState::Accepted as usize] += self.accepted;
        for (sum, count) in queue.iter_mut().zip(self.counts) {
            *sum += count.max(0) as u64;
        }
    }

    /// Submissions that wait for a member with mail. The schedule knows only what a present session sends.
    pub(crate) fn waiting_for_mail(&self) -> u64 {
        if self.no_mail <= 0 {
            return 0;
        }
        let sent = |entry: &&Entry| entry.submission.no_mail && !entry.shown.is_final();
        let known = self.entries.values().filter(sent).count() as u64;
        let forgotten = self.full.values().filter_map(|line| line.forgotten);
        let sent = known + forgotten.map(|forgotten| forgotten.no_mail).sum::<u64>();
        (self.no_mail as u64).saturating_sub(sent)
    }

    /// Durable submissions that a transport could have.
    fn pending(&self) -> i64 {
        use SubmissionState::{Deferred, Queued, Transmitting};
        [Queued, Transmitting, Deferred].iter().map(|s| self.counts[*s as usize]).sum()
    }
}

#[cfg(test)]
impl Engine {
    /// Checks what is kept of an open store that nothing is asked.
    pub(crate) fn check_at_rest(&self, broker: &Broker) {
        let Self {
            id,
            path,
            uid,
            sessions,
            accepted,
            entries,
            ready,
            full,
            loading,
            changed,
            oldest,
            owners,
            changing,
            doubted,
            unrecorded,
            stirred,
            alarm,
            state,
            lost,
            own,
            // Facts of the store, until it is closed.
            slot: _,
            newest: _,
            write: _,
            read: _,
            trouble: _,
            stance: _,
            // How much of the queue is known, and from when on it may be asked.
            horizon: _,
            parked: _,
            rests_until: _,
            // They are compared with the store by whoever has it.
            counts: _,
            no_mail: _,
        } = self;
        assert_eq!(broker.engines.at(path), Some(*id), "{path:?}");
        assert!(sessions.iter().all(|s| broker.sessions.contains_key(s)), "{sessions:?}");
        assert_eq!(*accepted, 0, "submits that were answered");
        assert_eq!((*loading, *state), (Loading::No, EngineState::Open));
        assert!(changed.is_empty() && changing.is_empty() && !oldest.is_asked());
        assert!(doubted.is_empty(), "it is not known what became of {doubted:?}");
        assert_ne!(*own, OwnLogon::Asked);
        assert!(lost.is_none() || sessions.is_empty(), "{sessions:?} go on with {path:?}");
        assert!(!stirred, "what it may let go was let go");
        assert!(unrecorded.iter().all(|r| entries.contains_key(r)), "{unrecorded:?}");
        for (record, members) in owners {
            let own =
                |m| broker.members.get(m).is_some_and(|m| m.pending.contains_key(&(*id, *record)));
            assert!(members.iter().all(own), "{record:x} is {members:?}'s, who do not know it");
        }
        let waiting = || full.values().flat_map(|line| &line.keys);
        let scheduled: BTreeSet<_> = waiting().chain(ready).copied().collect();
        let empty = |line: &Line| line.keys.is_empty();
        assert!(!full.values().any(empty), "nothing brings back what was forgotten: {full:?}");
        for (record, entry) in entries {
            let Entry { submission, shown, flights, changed, tried: _, untold: _ } = entry;
            let key = (submission.due, submission.order, *record);
            let written = !unrecorded.contains(record);
            assert_eq!((*flights == 0, scheduled.contains(&key)), (written, written), "{entry:?}");
            assert!(!written || *shown == entry.state(), "{entry:?} is counted as it is");
            let stored = !matches!(changed, Changed::Some(places) if !places.is_empty());
            assert!(stored, "{entry:?} is not stored as it is");
        }
        let known = scheduled.iter().all(|(.., record)| entries.contains_key(record));
        assert!(known && ready.len() + waiting().count() == scheduled.len());
        // A broker that stops writes nothing down again: the next one finds out.
        let wakes = broker.timers.is_set(Timer::Due(*id)) || broker.stopping.is_some();
        assert!(wakes || (alarm.is_none() && unrecorded.is_empty()), "nothing wakes it");
        assert_eq!(broker.timers.is_set(Timer::Idle(*id)), sessions.is_empty() && uid.is_some());
    }

    /// Submissions by state, and those that wait for a member with mail.
    pub(crate) fn counted(&self) -> ([i64; 9], i64) {
        (self.counts, self.no_mail)
    }
}

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
        let mut lane = || self.lanes.open(ProviderType::Store, &spec.name);
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
        let wanted = sessions.any(crate::session::Session::may_send);
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

    /// No try of a submission comes later than this.
    pub(crate) fn latest_try(
        &self,
        id: EngineId,
        submission: &Submission,
        now: u64,
    ) -> Option<u64> {
        let session = self.sessions.get(&self.sender(id, submission)?)?;
        Some(latest_try(session, now))
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
            if shown != SubmissionState::Unknown {
                submission.due = submission.due.min(latest_try(session, now));
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
        session: &crate::session::Session,
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

/// The latest time at which a session tries what it sends. A stored time is further away only if the clock was set back.
fn latest_try(session: &Session, now: u64) -> u64 {
    let policy = &session.profile().queue;
    now.saturating_add(policy.retry_max.max(policy.retry_min).as_millis() as u64)
}
