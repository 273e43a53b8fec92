//! An open store: one engine, however many sessions use it, and the known part of its outgoing queue.
//!
//! The queue itself is in the store. Memory holds the entries that are due first: `entries`, in order of due time in `ready` or,
//! while their transport has no room, in `full`. The entries after the `horizon` are not known; they are read when there is room
//! again. Entries that no present session can send are parked: they are forgotten until a session comes that can send them. Of the
//! entries whose transport cannot be reached a few are known; the others are forgotten until it can be reached.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use sundown_protocol::reply::SubmissionState;
use sundown_protocol::{MemberId, SessionId};

#[cfg(test)]
use crate::broker::Broker;
use crate::ground::event::{EngineId, LaneId, Tick};
use crate::ground::provider::{KeptClock, Recipient, StoreFacts, Submission};
#[cfg(test)]
use crate::ground::timers::Timer;
use crate::providers::ask::Due;
use crate::providers::view::{Stance, Trouble};
use crate::queue::age::{Clocks, Running, StoreClock};
use crate::queue::untold::Untold;

/// When the oldest message of a store's queue was submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Oldest {
    /// The store's last answer.
    submitted: Option<u64>,
    /// Whether a question to the store is open.
    asked: bool,
}

#[cfg(test)]
impl Oldest {
    pub(crate) fn is_asked(self) -> bool {
        self.asked
    }
}

/// The most submissions known at once. A larger page takes more memory, a smaller one more questions.
const KNOWN: usize = 4_096;

/// How many submissions are read at once.
const PAGE: u32 = 512;

/// How long the broker stops asking a store in which a read or a write failed.
const REST: Duration = Duration::from_secs(5);

/// The most submissions whose members are known, so that the members learn when one is final. The members of further submissions
/// are not recorded.
const FOLLOWED: usize = if cfg!(test) { 300 } else { 65_536 };

/// The place of an entry in the schedule: due time, order, record.
pub(crate) type Key = (u64, u64, u128);

/// One open store.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Engine {
    pub(crate) id: EngineId,
    /// A small number that no other open store has. It gives the store's place in a list of all queues, even if other stores open
    /// and close meanwhile.
    pub(crate) slot: u64,
    path: PathBuf,
    /// The profile whose session opened it. In figures its queue stands under that one's name.
    pub(crate) profile: String,
    pub(crate) write: LaneId,
    pub(crate) read: LaneId,
    /// The store's number, once it is open.
    pub(crate) uid: Option<u32>,
    pub(crate) sessions: BTreeSet<SessionId>,
    /// Durable submissions by state, without the final ones. A submission that is read before its submit is answered is counted
    /// late; until then a count may be one too low, even below zero.
    pub(crate) counts: [i64; 9],
    /// Durable submissions of members without mail that are not final. They are counted late, like `counts`.
    no_mail: i64,
    /// Submissions handed to the store and not answered yet.
    pub(crate) accepted: u64,
    pub(crate) entries: HashMap<u128, Entry>,
    /// Entries that wait for their due time.
    pub(crate) ready: BTreeSet<Key>,
    /// Entries whose transport has no room, by its session and its place among the session's providers.
    pub(crate) full: BTreeMap<(SessionId, usize), Line>,
    /// The due time and order after which entries are not known; `None` when all are known.
    pub(crate) horizon: Option<(u64, u64)>,
    loading: Loading,
    /// Entries that changed while the schedule is being read: a page may hold an older version of them.
    changed: HashSet<u128>,
    oldest: Oldest,
    /// How many entries no present session can send.
    pub(crate) parked: u64,
    /// The members that submitted each entry that is not final. An entry has several if a key was repeated.
    pub(crate) owners: HashMap<u128, Vec<MemberId>>,
    /// Members with submissions that are not followed.
    pub(crate) unfollowed: BTreeSet<MemberId>,
    /// Entries that a request is about to change: they do not depart.
    pub(crate) changing: HashSet<u128>,
    /// Submissions that the store is asked for, because it is unknown whether their submit was done.
    pub(crate) doubted: HashSet<u128>,
    /// The newest submission counted since the store was opened, by its place in the queue.
    pub(crate) newest: u64,
    /// Entries whose update could not be stored. It is tried again.
    pub(crate) unrecorded: Vec<u128>,
    /// The first thing found wrong with the store since it was opened.
    pub(crate) trouble: Option<Trouble>,
    /// The store object's first answer to `QueryFastShutdown`. It holds for the object's life and for every session that uses it
    /// (SEED-17).
    pub(crate) stance: Option<Stance>,
    /// Until when the broker does not ask the store.
    rests_until: Option<Duration>,
    /// Whether something changed that may let a message go.
    pub(crate) stirred: bool,
    /// The due time for which the timer is set.
    pub(crate) alarm: Option<u64>,
    state: EngineState,
    /// Set once the store's files are known to be lost.
    pub(crate) lost: Option<LostStore>,
    /// The engine's own logon, which keeps the store open between sessions.
    own_logon: OwnLogon,
    /// By which the ages of its messages are told.
    clock: StoreClock,
}

/// The queue of a store when it was closed. Nothing changes it until the store is opened again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClosedStore {
    /// The profile whose session opened it.
    pub(crate) profile: String,
    pub(crate) queue: [u64; 9],
    pub(crate) waiting_for_mail: u64,
}

impl ClosedStore {
    /// Whether nothing waits in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue == [0; 9] && self.waiting_for_mail == 0
    }
}

/// A known submission.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Entry {
    pub(crate) submission: Submission,
    /// The state under which it is counted.
    pub(crate) shown: SubmissionState,
    /// The number of flights in progress. While there are any, nothing else may change the entry.
    pub(crate) flights: usize,
    /// How far the present try is.
    pub(crate) tried: Try,
    /// What no update has told the sender yet.
    pub(crate) untold: Untold,
    /// Recipients that differ from what is stored.
    pub(crate) changed: Changed,
}

/// The recipients of a submission, by their place, that differ from what is stored.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Changed {
    Some(Vec<usize>),
    /// Unknown which, because an update failed; or there are so few recipients that all are written.
    All,
}

/// From this number of recipients on, only the changed ones are written.
const MANY: usize = 32;

impl Changed {
    /// Nothing has changed yet, of these recipients.
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
    /// Entries that are no longer known here, because the transport cannot be reached. They are read again when it can be.
    pub(crate) forgotten: Option<Forgotten>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// When something is to be done with the first of them ([`Clocks::wakes`]), in milliseconds since 1970.
    pub(crate) wakes: u64,
    /// How many of them come from members without mail.
    pub(crate) no_mail: u64,
}

/// How far a try of a message is. A try may take many transactions, more than a transport accepts at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Try {
    /// The next departure begins another try.
    Over,
    /// The message departed, and the try is not counted among the attempts yet.
    Begun,
    /// The try is counted.
    Counted,
}

impl Line {
    /// Notes one more forgotten entry.
    pub(crate) fn note_forgotten(&mut self, wakes: u64, no_mail: bool) {
        let forgotten = self.forgotten.get_or_insert(Forgotten { wakes, no_mail: 0 });
        forgotten.wakes = forgotten.wakes.min(wakes);
        forgotten.no_mail += u64::from(no_mail);
    }
}

impl Entry {
    /// The state that may be reported. The last results are not durable before all flights are over.
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
    /// The schedule is to be read from its beginning: the page on its way is ignored.
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

    /// An engine for a store that is being opened, with the lanes of its writer and its reader.
    pub(crate) fn new(
        id: EngineId,
        slot: u64,
        (path, profile): (PathBuf, String),
        (write, read): (LaneId, LaneId),
    ) -> Self {
        Self {
            id,
            slot,
            path,
            profile,
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
            unfollowed: BTreeSet::new(),
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
            own_logon: OwnLogon::Asked,
            clock: StoreClock::default(),
        }
    }

    /// Adds a session. Returns whether the store was being closed; its own logon is then to be made again.
    pub(crate) fn attach(&mut self, session: SessionId) -> bool {
        self.sessions.insert(session);
        std::mem::replace(&mut self.state, EngineState::Open) == EngineState::Closing
    }

    /// Notes that the engine's own logon is being made.
    pub(crate) fn log_on(&mut self) {
        self.own_logon = OwnLogon::Asked;
    }

    /// Notes the answer to the engine's own logon.
    pub(crate) fn logged_on(&mut self, worked: bool) {
        self.own_logon = if worked { OwnLogon::Yes } else { OwnLogon::Failed };
    }

    /// Whether the engine's own logon failed. Then only sessions keep the store open.
    pub(crate) fn is_not_logged_on(&self) -> bool {
        self.own_logon == OwnLogon::Failed
    }

    /// Notes that the store is open. Returns whether it was not before.
    pub(crate) fn opened(
        &mut self,
        facts: StoreFacts,
        running: (Running, Duration),
        now: Duration,
    ) -> bool {
        if self.uid.is_some() {
            return false;
        }
        self.clock = StoreClock::start(facts.clock, running, now);
        self.uid = Some(facts.uid);
        self.counts = facts.queue.map(|count| count as i64);
        self.no_mail = facts.no_mail as i64;
        if let Some(damage) = facts.damage {
            Trouble::note(&mut self.trouble, Trouble::Damage(damage));
        }
        self.stirred = true;
        true
    }

    /// The next page to read: after which place, and how many. `None` if the store may not be asked now or there is no room.
    #[inline]
    pub(crate) fn page(&self, now: Duration) -> Option<(Option<(u64, u64)>, u32)> {
        let horizon = self.horizon.filter(|_| self.has_room() && self.uid.is_some())?;
        let may_ask = self.loading == Loading::No && !self.rests(now);
        may_ask.then_some(((horizon != (0, 0)).then_some(horizon), PAGE))
    }

    /// Notes that a page of the schedule is being read.
    pub(crate) fn load(&mut self) {
        self.loading = Loading::Yes;
    }

    /// Handles a page of the schedule. Returns the submissions to be learned; `None` if the page could not be read.
    pub(crate) fn loaded(&mut self, page: Option<Due>) -> Option<Vec<Submission>> {
        let stale = std::mem::replace(&mut self.loading, Loading::No) == Loading::Stale;
        let changed = std::mem::take(&mut self.changed);
        self.stirred = true;
        let Due { mut submissions, more, damaged } = page?;
        if stale {
            return Some(Vec::new());
        }
        if damaged > 0 {
            let what = "a message in its queue is damaged and is not sent; the log names it";
            Trouble::note(&mut self.trouble, Trouble::Damage(what.into()));
        }
        let last = submissions.last().map(|last| (last.due, last.order));
        self.horizon = last.filter(|_| more);
        submissions.retain(|s| !changed.contains(&s.record));
        Some(submissions)
    }

    /// Notes that the store failed and is not asked for a while. Returns until when.
    pub(crate) fn rest(&mut self, now: Duration) -> Duration {
        let until = now + REST;
        self.rests_until = Some(until);
        until
    }

    /// Counts a new submission. Returns whether it belongs into the known part of the schedule.
    pub(crate) fn enqueue(&mut self, submission: &Submission) -> bool {
        self.counts[submission.state() as usize] += 1;
        self.no_mail += i64::from(submission.no_mail);
        self.newest = self.newest.max(submission.order);
        if !self.doubted.is_empty() {
            self.doubted.remove(&submission.record);
        }
        self.stirred = true;
        let key = (submission.due, submission.order);
        if self.entries.contains_key(&submission.record) {
            // The submission was read from the queue before this answer came.
            return false;
        }
        let many = self.entries.len() >= KNOWN;
        if many && self.horizon.is_none() {
            self.horizon = self.last_known().filter(|last| key > *last);
        }
        // While a page is being read, it is unknown whether the page contains this submission.
        if self.loading == Loading::No && self.horizon.is_some_and(|horizon| key > horizon) {
            return false;
        }
        if self.entries.len() >= 2 * KNOWN {
            self.start_over();
            return false;
        }
        true
    }

    /// Puts a submission into the schedule.
    pub(crate) fn schedule(&mut self, submission: Submission) {
        self.ready.insert((submission.due, submission.order, submission.record));
        let shown = submission.state();
        let (untold, changed) = (Untold::default(), Changed::none_of(&submission.recipients));
        let entry = Entry { submission, shown, flights: 0, tried: Try::Over, untold, changed };
        self.entries.insert(entry.submission.record, entry);
        self.stirred = true;
    }

    /// Whether a session would have something to do if it stayed: messages to send, or messages with an unknown outcome to give up.
    pub(crate) fn has_work(&self, in_flight: bool, now: u64) -> bool {
        if self.is_lost() {
            return false;
        }
        let known = self.horizon.is_none();
        let to_send = self.pending() > 0 && !(known && self.entries.is_empty());
        let unread = !known && self.counts[SubmissionState::Unknown as usize] > 0;
        let overdue = self.ready.first().is_some_and(|(due, ..)| *due <= now);
        in_flight || self.accepted > 0 || to_send || unread || overdue
    }

    /// Removes a session. Returns whether it was the last. Then all entries are forgotten, because they are known only to be sent.
    pub(crate) fn detach(&mut self, session: SessionId) -> bool {
        self.sessions.remove(&session);
        let is_last = self.sessions.is_empty();
        if is_last {
            self.start_over();
        }
        is_last
    }

    /// Begins to close the store. Returns whether its own logoff is to be made, which is not the case if it already was.
    pub(crate) fn close(&mut self) -> bool {
        std::mem::replace(&mut self.state, EngineState::Closing) == EngineState::Open
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state == EngineState::Closing
    }

    /// Keeps a store open for a while that could not be closed. Returns until when.
    pub(crate) fn stay_open(&mut self, now: Duration) -> Duration {
        self.state = EngineState::Open;
        now + REST
    }

    /// The queue of the store when it is closed; `None` if it is not known.
    pub(crate) fn left(&self) -> Option<ClosedStore> {
        let is_known = self.uid.is_some() && !self.is_lost();
        is_known.then(|| ClosedStore {
            profile: self.profile.clone(),
            queue: self.counts.map(|count| count.max(0) as u64),
            waiting_for_mail: self.no_mail.max(0) as u64,
        })
    }

    /// Whether anything is in the queue.
    pub(crate) fn waits(&self) -> bool {
        self.counts.iter().any(|count| *count > 0)
    }

    pub(crate) fn can_be_asked(&self) -> bool {
        self.uid.is_some() && self.waits() && !self.oldest.asked
    }

    /// When the oldest message of the queue was submitted, as of the store's last answer.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.oldest.submitted
    }

    /// Notes that the store is asked for the oldest message of its queue.
    pub(crate) fn oldest_asked(&mut self) {
        self.oldest.asked = true;
    }

    /// Notes the store's answer about the oldest message; `None` if it could not say.
    pub(crate) fn oldest_answered(&mut self, submitted: Option<u64>) {
        self.oldest = Oldest { submitted, asked: false };
    }

    /// Moves due times along with a wall clock that was set back by this many milliseconds, so that what was due in a minute is
    /// still due in a minute. The store keeps the old due time until the next try; an entry read from it is corrected when it is
    /// learned. The age at which an unknown outcome is given up stays as it is: it is a wall clock time.
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
        self.end_empty_lines();
        Some(entry)
    }

    /// Puts entries that wait for a transport back into the schedule.
    pub(crate) fn leave_line(&mut self, of: &(SessionId, usize), keys: &[Key]) {
        if let Some(line) = self.full.get_mut(of) {
            line.keys.retain(|key| !keys.contains(key));
            self.ready.extend(keys);
        }
        self.end_empty_lines();
    }

    /// Puts everything that waits for a transport back into the schedule, also what was forgotten.
    pub(crate) fn leave_whole_line(&mut self, of: &(SessionId, usize)) {
        if let Some(line) = self.full.remove(of) {
            self.ready.extend(line.keys);
            if line.forgotten.is_some() {
                self.reload();
            }
        }
    }

    /// Removes lines in which no entry waits. What was forgotten of such a line is read again, because nothing else brings it back.
    fn end_empty_lines(&mut self) {
        let bereft = |line: &Line| line.keys.is_empty() && line.forgotten.is_some();
        let bereft = self.full.values().any(bereft);
        self.full.retain(|_, line| !line.keys.is_empty());
        if bereft {
            self.reload();
        }
    }

    /// Reads the schedule from its beginning again. If there is no room for a page, the known entries are forgotten; otherwise,
    /// with the horizon at the beginning, no newer entry could be learned.
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

    /// Forgets every entry without a flight, and reads the schedule from its beginning again.
    pub(crate) fn start_over(&mut self) {
        self.forget_all();
        self.reload();
    }

    fn forget_all(&mut self) {
        self.entries.retain(|_, entry| entry.flights > 0);
        self.ready.clear();
        self.full.clear();
    }

    /// Whether the queue may hold entries that are not known here.
    pub(crate) fn is_unread(&self) -> bool {
        let unknown = self.counts[SubmissionState::Unknown as usize];
        self.horizon.is_some() && self.pending() + unknown > 0
    }

    /// Whether more of the schedule is being read, or would be if the store could be asked.
    pub(crate) fn reads(&self) -> bool {
        self.is_unread() && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.entries.len() + PAGE as usize <= KNOWN
    }

    /// Notes that an entry was changed in the store. Returns whether its new place belongs into the known part of the schedule.
    pub(crate) fn note_change(&mut self, record: u128, key: (u64, u64)) -> bool {
        if self.loading == Loading::No {
            return self.horizon.is_none_or(|horizon| key <= horizon);
        }
        self.changed.insert(record);
        true
    }

    /// The place of the last known entry of the schedule.
    fn last_known(&self) -> Option<(u64, u64)> {
        let full = self.full.values().filter_map(|line| line.keys.last());
        full.chain(self.ready.last()).max().map(|(due, order, _)| (*due, *order))
    }

    /// Records a member as an owner of a submission. Returns whether the submission is followed. Beyond the limit the engine knows
    /// only that the member has further submissions.
    pub(crate) fn own(&mut self, record: u128, member: MemberId, follows: bool) -> bool {
        let is_full = self.owners.len() >= FOLLOWED && !self.owners.contains_key(&record);
        if !follows || is_full {
            self.unfollowed.insert(member);
            return false;
        }
        let owners = self.owners.entry(record).or_default();
        if !owners.contains(&member) {
            owners.push(member);
        }
        true
    }

    /// The most unfollowed submissions that a member can still have here.
    pub(crate) fn at_most(&self, unfollowed: u64) -> u64 {
        unfollowed.min(self.pending().max(0) as u64)
    }

    /// Takes the members with unfollowed submissions, once nothing in the queue is left that a transport could send.
    pub(crate) fn take_unfollowed(&mut self) -> BTreeSet<MemberId> {
        if self.unfollowed.is_empty() || self.accepted > 0 || self.pending() > 0 {
            return BTreeSet::new();
        }
        std::mem::take(&mut self.unfollowed)
    }

    pub(crate) fn disown(&mut self, record: u128, member: MemberId) {
        let Some(owners) = self.owners.get_mut(&record) else { return };
        owners.retain(|m| *m != member);
        if owners.is_empty() {
            self.owners.remove(&record);
        }
    }

    /// The clocks by which the ages of its messages are told.
    pub(crate) fn clocks(&self, tick: Tick) -> Clocks {
        Clocks::new(&self.clock, tick)
    }

    /// What its clock shows, in milliseconds.
    pub(crate) fn ran(&self, now: Duration) -> u64 {
        self.clock.ran(now)
    }

    /// What the store is to keep of its clock, if it must be kept now.
    pub(crate) fn keep_clock(&mut self, now: Duration) -> Option<KeptClock> {
        let closes = self.state == EngineState::Closing && self.waits();
        let keeps = self.uid.is_some() && !self.is_lost();
        if keeps { self.clock.keep(now, closes) } else { None }
    }

    /// Whether the store is open and stays so for now, whoever leaves. Without the engine's own logon the store is closed by the
    /// last session that leaves, behind whatever was called before.
    pub(crate) fn is_open(&self) -> bool {
        self.may_be_asked() && self.own_logon == OwnLogon::Yes
    }

    /// Whether the store can be asked a question, which is answered or fails.
    pub(crate) fn may_be_asked(&self) -> bool {
        self.uid.is_some() && self.state == EngineState::Open && !self.is_lost()
    }

    /// Whether the store's files were removed or replaced. A lost store is not written to, and nothing is sent from it.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether the store may not be asked now, after a failure.
    pub(crate) fn rests(&self, now: Duration) -> bool {
        self.wakes_at(now).is_some()
    }

    /// Until when the store may not be asked, if so.
    pub(crate) fn wakes_at(&self, now: Duration) -> Option<Duration> {
        self.rests_until.filter(|until| now < *until)
    }

    /// Counts an entry under its present state. Returns the state if it has just become final, or was deferred.
    pub(crate) fn recount(&mut self, record: u128) -> Option<SubmissionState> {
        let entry = self.entries.get_mut(&record)?;
        let now = entry.state();
        let before = std::mem::replace(&mut entry.shown, now);
        let no_mail = entry.submission.no_mail;
        self.count(before, now, no_mail)
    }

    /// Moves a submission from the state under which it was counted to its stored state, as [`recount`](Self::recount) does.
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
        (now == SubmissionState::Deferred && before != now).then_some(now)
    }

    /// Adds the store's submissions by state, without the final ones.
    pub(crate) fn add_counts(&self, queue: &mut [u64; 9]) {
        queue[SubmissionState::Accepted as usize] += self.accepted;
        for (sum, count) in queue.iter_mut().zip(self.counts) {
            *sum += count.max(0) as u64;
        }
    }

    /// Submissions that wait for a member with mail. The schedule holds only what a present session may send, so the others wait.
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

    /// Durable submissions that a transport could send.
    fn pending(&self) -> i64 {
        use SubmissionState::{Deferred, Queued, Transmitting};
        [Queued, Transmitting, Deferred].iter().map(|s| self.counts[*s as usize]).sum()
    }
}

#[cfg(test)]
impl Engine {
    /// Checks the state of an open store when no call on it is pending.
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
            unfollowed,
            changing,
            doubted,
            unrecorded,
            stirred,
            alarm,
            state,
            lost,
            own_logon,
            // Facts of the store, until it is closed.
            clock: _,
            slot: _,
            profile: _,
            newest: _,
            write: _,
            read: _,
            trouble: _,
            stance: _,
            // How much of the queue is known, and from when on the store may be asked.
            horizon: _,
            parked: _,
            rests_until: _,
            // The caller compares them with the store.
            counts: _,
            no_mail: _,
        } = self;
        assert_eq!(broker.queues.engines.at(path), Some(*id), "{path:?}");
        assert!(sessions.iter().all(|s| broker.sessions.all.contains_key(s)), "{sessions:?}");
        assert_eq!(*accepted, 0, "submits that were answered");
        assert_eq!((*loading, *state), (Loading::No, EngineState::Open));
        assert!(changed.is_empty() && changing.is_empty() && !oldest.is_asked());
        assert!(doubted.is_empty(), "it is not known what became of {doubted:?}");
        assert_ne!(*own_logon, OwnLogon::Asked);
        assert!(lost.is_none() || sessions.is_empty(), "{sessions:?} go on with {path:?}");
        assert!(!stirred, "what it may let go was let go");
        assert!(unrecorded.iter().all(|r| entries.contains_key(r)), "{unrecorded:?}");
        for (record, members) in owners {
            let own = |m| {
                broker
                    .sessions
                    .members
                    .get(m)
                    .is_some_and(|m| m.pending.contains_key(&(*id, *record)))
            };
            assert!(members.iter().all(own), "{record:x} is {members:?}'s, who do not know it");
        }
        let own = |m| broker.sessions.members.get(m).is_some_and(|m| m.unfollowed.contains_key(id));
        assert!(unfollowed.iter().all(own), "{unfollowed:?} do not know that they have more");
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
        // A stopping broker does not repeat an update: the next broker finds out what became of the message.
        let wakes = broker.timers.is_set(Timer::Due(*id)) || broker.stopping.is_some();
        assert!(wakes || (alarm.is_none() && unrecorded.is_empty()), "nothing wakes it");
        let watched = sessions.is_empty() || self.is_not_logged_on();
        assert_eq!(broker.timers.is_set(Timer::Idle(*id)), watched && uid.is_some());
    }

    /// Submissions by state, and those of members without mail.
    pub(crate) fn counted(&self) -> ([i64; 9], i64) {
        (self.counts, self.no_mail)
    }
}

/// What is kept of a lost store.
#[derive(Debug, Clone, Default)]
pub(crate) struct LostStore {
    /// Sessions that start when the store is closed.
    pub(crate) waiting: Vec<SessionId>,
}

#[cfg(test)]
impl LostStore {
    /// Whether a session waits for the store to be closed.
    pub(crate) fn keeps_waiting(&self, id: SessionId) -> bool {
        self.waiting.contains(&id)
    }
}
