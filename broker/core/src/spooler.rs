//! The spooler: the way of a message from the queue to its transports.
//!
//! ```text
//!  ready ─► Preparing ─► Marking ─► Completing ─► Recording ─► final, or ready again later
//!    │         │            │            ▲            ▲
//!    │         │            └─ the intent is durable from here on: a crash means Transmitting
//!    │         └─ refused, unreachable ──│────────────┘
//!    └─ cut off by a crash: Looking ─────┘
//! ```
//!
//! One flight is one message through one transport; a message with recipients of two transports has two. An intent found
//! at start was cut off by a crash: its transport says what became of it, before anything is sent again. It may hand the
//! message over then, so the store is looked at first (*Looking*).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::Folder;
use sundown_protocol::{Code, EntryId, SessionId};

use crate::advise::StoreNews;
use crate::answer::{Answer, Ask, Done, Prepared, Results, Updated};
use crate::broker::Broker;
use crate::calls::Caller;
use crate::engine::{Changed, Engine, Entry, Try};
use crate::event::{EngineId, LaneId, Turn};
use crate::giving_up::Unsent;
use crate::provider::{
    Effect, Intent, Outcome, ProviderError, ProviderType, Recipient, RecipientResult, Submission,
    SubmissionUpdate, Transmission,
};
use crate::reach::Reach;
use crate::session::{Provider, ProviderState, Session};
use crate::settings::{Linger, OnUnknown, QueuePolicy};
use crate::submit::waits;
use crate::then::{AfterDone, AfterUpdate, Bounced};
use crate::timers::Timer;

/// The enhanced status code of what was given up although nobody knows what became of it: bad connection (RFC 3463).
const UNKNOWN_STATUS: &str = "4.4.2";
/// The one of what was not sent in time: delivery time expired.
const EXPIRED_STATUS: &str = "4.4.7";
/// The most characters that are kept of what a transport says of a recipient: two long lines of a server.
const MAX_REPLY: usize = 500;
/// The longest marker, in bytes. It is stored once for each recipient.
const MAX_MARKER: usize = 4 << 10;
/// The longest the schedule sleeps, in milliseconds: the wall clock may be set meanwhile.
const LONGEST_SLEEP: u64 = 60_000;

/// One message on its way through one transport.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Flight {
    engine: EngineId,
    record: u128,
    session: SessionId,
    /// The transport's place among the session's providers.
    provider: usize,
    recipients: Vec<usize>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Preparing,
    /// It is cut off, and is recovered if its store is still there.
    Looking,
    Marking,
    Completing,
    /// Its transport finds out what became of it before a crash.
    Recovering,
    /// What became of it is being stored.
    Recording,
    /// Its intent is being stored, and that takes too long to keep a place of its transport for it. It is neither handed over nor
    /// cancelled until it is known whether the intent is there.
    Late,
    /// Its transport was left behind while the intent was being stored.
    Left,
}

/// A submission whose new state is being stored.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Recording {
    pub(crate) engine: EngineId,
    pub(crate) record: u128,
    /// The flight that it is the end of.
    pub(crate) flight: Option<u64>,
    /// Recipients whose failure the sender is told of with it.
    pub(crate) bounced: Bounced,
}

impl Flight {
    /// The recipients that its transport has.
    pub(crate) fn recipients(&self) -> &[usize] {
        &self.recipients
    }

    /// The store that the message is in.
    pub(crate) fn engine(&self) -> EngineId {
        self.engine
    }

    /// The store that the message is in, and its record.
    pub(crate) fn message(&self) -> (EngineId, u128) {
        (self.engine, self.record)
    }

    /// How long its transport may be busy with a message of no size.
    pub(crate) fn patience(&self, sessions: &BTreeMap<SessionId, Session>) -> Option<Duration> {
        Some(sessions.get(&self.session)?.providers.get(self.provider)?.longest)
    }

    /// The message's size in bytes.
    pub(crate) fn size(&self, engines: &BTreeMap<EngineId, Engine>) -> u64 {
        let entry = engines.get(&self.engine).and_then(|e| e.entries.get(&self.record));
        entry.map_or(0, |entry| entry.submission.size)
    }

    /// Whether it takes a place of its transport.
    fn has_place(&self) -> bool {
        !matches!(self.stage, Stage::Late | Stage::Left)
    }
}

/// What to do with one message, found out before anything is changed.
struct Plan {
    session: SessionId,
    /// For each transport, by its place among the session's providers, the recipients it takes.
    groups: Vec<(usize, Vec<usize>)>,
    /// Recipients that no transport takes, and what becomes of them.
    lost: Vec<RecipientResult>,
    /// Whether a transport for some of them is out.
    disabled: bool,
    /// A transport that has no room at all for some of them.
    full: Option<usize>,
}

impl Plan {
    /// Gives up every recipient that is not settled, of a message that nobody was here to send.
    fn give_up(session: SessionId, submission: &Submission) -> Self {
        use SubmissionState::{Deferred, Queued, Transmitting, Unknown};
        let lost =
            submission.recipients.iter().enumerate().filter_map(
                |(index, recipient)| match recipient.state {
                    Unknown | Transmitting => Some(nobody_knows(recipient, index)),
                    Queued | Deferred => Some(nobody_sent(recipient, index)),
                    _ => None,
                },
            );
        let lost = lost.collect();
        Self { session, groups: Vec::new(), lost, disabled: false, full: None }
    }

    /// How many transmissions it has for a transport.
    fn groups_for(&self, place: usize) -> usize {
        self.groups.iter().filter(|(p, _)| *p == place).count()
    }
}

impl Broker {
    /// Sends what can be sent.
    pub(crate) fn pump_all(&mut self, turn: &mut Turn) {
        for engine in self.engines.stirred() {
            self.pump(engine, turn);
        }
    }

    fn pump(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.engines.get_mut(id).expect("it was stirred");
        engine.stirred = false;
        if engine.uid.is_none() {
            return;
        }
        if self.stopping.is_none() {
            self.correct_again(id, turn);
            self.record_again(id, turn);
            self.wake(id);
            self.take_off(id, turn);
            while self.wake(id) {
                self.take_off(id, turn);
            }
            self.load_due(id, turn);
            self.set_alarm(id, turn);
        }
        let sessions: Vec<_> = self.engines[&id].sessions.iter().copied().collect();
        for session in sessions {
            self.check_vacated(session, turn);
        }
    }

    /// Puts entries back into the schedule whose transport has room again, or is none any more. Whether there were any.
    fn wake(&mut self, id: EngineId) -> bool {
        let engine = self.engines.get_mut(id).expect("it is pumped");
        let Engine { full, ready, .. } = engine;
        let (before, mut wanted) = (ready.len(), false);
        for ((session, place), line) in full.iter_mut() {
            let session = self.sessions.get(session).filter(|s| s.may_send());
            let provider = session.map(|s| &s.providers[*place]);
            for _ in 0..provider.map_or(usize::MAX, Provider::room) {
                let Some(key) = line.keys.pop_first() else { break };
                ready.insert(key);
            }
            let again = line.keys.is_empty() || provider.is_none_or(|p| p.reach == Reach::Yes);
            wanted |= again && line.forgotten.is_some();
        }
        full.retain(|_, line| !line.keys.is_empty());
        let woken = ready.len() > before;
        if wanted {
            engine.reload();
        }
        woken
    }

    /// Begins with everything that is due and has a transport with room.
    fn take_off(&mut self, id: EngineId, turn: &mut Turn) {
        let now = turn.tick.millis();
        let mut cursor = None;
        loop {
            let engine = &self.engines[&id];
            let next = match cursor {
                None => engine.ready.first(),
                Some(at) => engine
                    .ready
                    .range((std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded))
                    .next(),
            };
            let Some(&(due, order, record)) = next.filter(|(due, ..)| *due <= now) else { return };
            cursor = Some((due, order, record));
            if engine.changing.contains(&record) {
                continue;
            }
            let submission = &engine.entries[&record].submission;
            let Some(session) = self.sender(id, submission) else {
                self.leave_unsent(id, record, turn);
                continue;
            };
            let mut plan = plan(&self.sessions[&session], submission, now);
            if plan.disabled && self.revive_by_itself(session, turn) {
                let submission = &self.engines[&id].entries[&record].submission;
                plan = self::plan(&self.sessions[&session], submission, now);
            }
            let full = plan.full;
            let engine = self.engines.get_mut(id).expect("looked at just before");
            // What others of its recipients need does not wait for this transport.
            let goes = !plan.groups.is_empty() || !plan.lost.is_empty();
            if let Some(place) = full.filter(|_| !goes) {
                // A slow transport must not hold up another one's messages.
                engine.ready.remove(&(due, order, record));
                let line = engine.full.entry((session, place)).or_default();
                line.keys.insert((due, order, record));
                self.keep_few(id, (session, place));
            } else if goes {
                self.depart(id, record, plan, turn);
            } else {
                self.postpone(id, record, turn);
            }
        }
    }

    /// Nobody here may send a message: it is forgotten until somebody may or, at its age limit, given up.
    fn leave_unsent(&mut self, id: EngineId, record: u128, turn: &mut Turn) {
        let submission = &self.engines[&id].entries[&record].submission;
        match self.unsent(id, submission, turn) {
            Unsent::GivenUp(session) => {
                let plan = Plan::give_up(session, submission);
                self.depart(id, record, plan, turn);
            }
            Unsent::Waits(until) => {
                let engine = self.engines.get_mut(id).expect("it is pumped");
                let entry = engine.forget(record).expect("it is ready");
                self.park(id, &entry.submission.profile, until, turn);
            }
        }
    }

    /// Nothing can be done for a message now: only its own transport can say what became of it, and does not work; or
    /// what became of it is unknown, and its age has not reached the limit.
    fn postpone(&mut self, id: EngineId, record: u128, turn: &mut Turn) {
        let engine = self.engines.get_mut(id).expect("it is pumped");
        let entry = engine.entries.get_mut(&record).expect("it is ready");
        let s = &mut entry.submission;
        engine.ready.remove(&(s.due, s.order, record));
        s.due = turn.tick.millis() + LONGEST_SLEEP;
        engine.ready.insert((s.due, s.order, record));
    }

    /// The session that may send this message now: the oldest of its profile, unless a transport of that is out which the message
    /// needs and a younger one has.
    pub(crate) fn sender(&self, id: EngineId, submission: &Submission) -> Option<SessionId> {
        let mail_goes_on = self.settings.shutdown.linger != Linger::Off && !submission.no_mail;
        let can = |session: &&Session| {
            session.may_send()
                && session.profile().name == submission.profile
                && (session.with_mail > 0 || mail_goes_on)
        };
        let sessions = self.engines.get(&id)?.sessions.iter();
        let mut sessions = sessions.filter_map(|s| self.sessions.get(s)).filter(can);
        let oldest = sessions.next()?;
        let working = |session: &&Session| !lacks_transport(session, submission);
        let sender = std::iter::once(oldest).chain(sessions).find(working);
        Some(sender.unwrap_or(oldest).id)
    }

    fn depart(&mut self, id: EngineId, record: u128, plan: Plan, turn: &mut Turn) {
        let engine = self.engines.get_mut(id).expect("it is pumped");
        let entry = engine.entries.get_mut(&record).expect("it is ready");
        let submission = &entry.submission;
        engine.ready.remove(&(submission.due, submission.order, record));
        if entry.tried == Try::Over {
            entry.tried = Try::Begun;
            let late = entry.submission.recipients.iter_mut();
            let late = late.enumerate().filter(|(_, r)| r.state == SubmissionState::Deferred);
            for (place, recipient) in late {
                recipient.state = SubmissionState::Queued;
                entry.changed.note(place);
            }
        }
        let mut calls = Vec::new();
        for (place, recipients) in plan.groups {
            entry.flights += 1;
            let first = &entry.submission.recipients[recipients[0]];
            let stage = if first.intent.is_some() { Stage::Looking } else { Stage::Preparing };
            calls.push((place, recipients, stage));
        }
        let (lost, store) = (plan.lost, engine.uid.unwrap_or(0));
        turn.errand.entry = Some(EntryId { store, record });
        // What is lost is written down like what a flight brings.
        entry.flights += usize::from(!lost.is_empty());
        for (place, recipients, stage) in calls {
            let flight = self.number();
            let fresh = stage == Stage::Preparing;
            let (session, provider) = (plan.session, place);
            let new = Flight { engine: id, record, session, provider, recipients, stage };
            let prepare = fresh.then(|| Box::new(self.transmission(flight, &new)));
            self.flights.insert(flight, new);
            let provider = &mut self.sessions.get_mut(session).expect("it sends").providers[place];
            provider.in_flight += 1;
            let (lane, began) = (provider.lane, provider.in_flight == 1);
            let name = provider.name.clone();
            if let Some(transmission) = prepare {
                let caller = Caller::broker(Some(session));
                self.call(lane, caller, Ask::prepare(transmission), flight, turn);
            } else {
                self.look_at_store(flight, id, turn);
            }
            if began {
                self.status_changed(session, &name, turn);
            }
        }
        if !lost.is_empty() {
            self.record(id, record, &lost, None, turn);
        }
        turn.errand.entry = None;
    }

    /// What a transport is told of a flight.
    fn transmission(&self, id: u64, flight: &Flight) -> Transmission {
        let engine = &self.engines[&flight.engine];
        let submission = &engine.entries[&flight.record].submission;
        let address = |r: &usize| (*r, submission.recipients[*r].address.clone());
        Transmission {
            id,
            store: engine.uid.unwrap_or(0),
            record: flight.record,
            from: submission.from.clone(),
            recipients: flight.recipients.iter().map(address).collect(),
            size: submission.size,
            report: submission.report,
        }
    }

    /// Asks the store for a flush before a message is recovered, which may hand it over: what a lost store says of it is not
    /// acted upon. Before a Complete the commit of the mark says as much.
    fn look_at_store(&mut self, flight: u64, id: EngineId, turn: &mut Turn) {
        let lane = self.engines[&id].write;
        self.call(lane, Caller::broker(None), Ask::flush(), AfterDone::LookedAt(flight), turn);
    }

    /// Has a transport recover a message, if its store is still there. Otherwise nothing happens to the message for a while.
    pub(crate) fn looked_at(
        &mut self,
        id: u64,
        result: &Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        // Its session may have left it behind meanwhile.
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let (engine, record) = (flight.engine, flight.record);
        if result.is_err() {
            self.land(Some(id), turn);
            self.free(engine, record);
            let entry = self.engines.get(&engine).and_then(|e| e.entries.get(&record));
            if entry.is_some_and(|entry| entry.flights == 0) {
                self.postpone(engine, record, turn);
            }
            return;
        }
        flight.stage = Stage::Recovering;
        let flight = &self.flights[&id];
        let transmission = Box::new(self.transmission(id, flight));
        let first = &self.engines[&engine].entries[&record].submission.recipients;
        let intent = first[flight.recipients[0]].intent.as_ref();
        let marker = intent.map(|intent| intent.marker.clone()).unwrap_or_default();
        self.call_transport(id, Ask::recover(transmission, marker), id, turn);
    }

    pub(crate) fn prepared(
        &mut self,
        flight: u64,
        result: Result<Prepared, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(state) = self.flights.get_mut(&flight) else { return };
        let (engine, record) = (state.engine, state.record);
        let (session, provider) = (state.session, state.provider);
        match result {
            Ok(Prepared { marker, .. }) if marker.len() > MAX_MARKER => {
                self.cancel(flight, turn);
                let why = format!("the transport's marker is longer than {MAX_MARKER} bytes");
                self.all_later(flight, &why, Outcome::Later, turn);
            }
            Ok(Prepared { marker, mut refused }) => {
                self.accepted_by(session, provider, turn);
                let state = self.flights.get_mut(&flight).expect("looked at before");
                let refused_by: Vec<_> = refused.iter().map(|r| r.recipient).collect();
                state.recipients.retain(|r| !refused_by.contains(r));
                if state.recipients.is_empty() {
                    none_follows_at_once(&mut refused);
                    return self.record(engine, record, &refused, Some(flight), turn);
                }
                state.stage = Stage::Marking;
                self.mark(flight, &marker, &refused, turn);
            }
            Err(error) => {
                let outcome = match error.code {
                    // It was asked to prepare, and it is not known what it did instead.
                    Code::E_CORRUPT_DATA if error.effect == Effect::Unknown => {
                        self.reached(session, provider, turn);
                        self.cancel(flight, turn);
                        Outcome::Unknown
                    }
                    _ if error.is_of_the_network() => {
                        self.not_reached(session, provider, turn);
                        Outcome::Offline
                    }
                    // It was not called.
                    Code::E_OFFLINE | Code::E_CANCEL => Outcome::Offline,
                    Code::E_LOGON_FAILED => {
                        self.reached(session, provider, turn);
                        self.refused_by(session, provider, &error.message, turn);
                        Outcome::Offline
                    }
                    _ => {
                        self.reached(session, provider, turn);
                        Outcome::Later
                    }
                };
                self.all_later(flight, &error.message, outcome, turn);
            }
        }
    }

    /// Makes the intent durable; only then is the message handed over.
    fn mark(&mut self, flight: u64, marker: &str, refused: &[RecipientResult], turn: &mut Turn) {
        let state = &self.flights[&flight];
        let (id, record) = (state.engine, state.record);
        let session = &self.sessions[&state.session];
        let transport = session.providers[state.provider].name.clone();
        let policy = session.profile().queue.clone();
        let recipients = state.recipients.clone();
        let engine = self.engines.get_mut(id).expect("flights keep it open");
        let entry = engine.entries.get_mut(&record).expect("flights keep it known");
        settle(entry, refused, &policy, turn);
        for place in recipients {
            entry.changed.note(place);
            let recipient = &mut entry.submission.recipients[place];
            recipient.state = SubmissionState::Transmitting;
            recipient.intent =
                Some(Intent { transport: transport.clone(), marker: marker.to_owned() });
        }
        self.store(id, record, |bounced| AfterUpdate::Marked(flight, bounced), turn);
        self.noticed(id, record, turn);
    }

    pub(crate) fn marked(
        &mut self,
        flight: u64,
        bounced: Bounced,
        result: Result<Updated, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(state) = self.flights.get(&flight) else { return };
        let (id, record) = (state.engine, state.record);
        let (has_place, left) = (state.has_place(), state.stage == Stage::Left);
        match result {
            // The store has looked whether its files are still there between that commit and this answer, so what follows is
            // not done for a mark that nobody will find.
            Ok(updated) => {
                self.tell_outcome(id, record, &updated, turn);
                if !has_place {
                    if !left {
                        self.cancel(flight, turn);
                    }
                    let why = "its transport was not waited for while its intent was being stored";
                    return self.all_later(flight, why, Outcome::Offline, turn);
                }
                self.flights.get_mut(&flight).expect("looked at before").stage = Stage::Completing;
                self.call_transport(flight, Ask::complete(flight), flight, turn);
            }
            Err(error) => {
                let entry = self.engines.get_mut(id).and_then(|e| e.entries.get_mut(&record));
                if let Some(entry) = entry {
                    entry.untold.extend(bounced);
                    entry.changed = Changed::All;
                }
                // An intent that may be durable names what was prepared: after a restart the transport looks for that.
                if !left && error.effect == Effect::Nothing {
                    self.cancel(flight, turn);
                }
                let why = format!("its intent could not be stored: {}", error.message);
                self.all_later(flight, &why, Outcome::Offline, turn);
            }
        }
    }

    /// Goes on with a prepared message, in front of those that are not prepared.
    fn call_transport<A: Answer>(
        &mut self,
        flight: u64,
        ask: Ask<A>,
        after: A::After,
        turn: &mut Turn,
    ) {
        let state = &self.flights[&flight];
        let session = &self.sessions[&state.session];
        let lane = session.providers[state.provider].lane;
        let caller = Caller::broker(Some(session.id)).first();
        self.call(lane, caller, ask, after, turn);
    }

    fn cancel(&mut self, flight: u64, turn: &mut Turn) {
        self.call_transport(flight, Ask::cancel(flight), AfterDone::Nothing, turn);
    }

    pub(crate) fn completed(
        &mut self,
        flight: u64,
        result: Result<Results, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(state) = self.flights.get(&flight) else { return };
        let (engine, record) = (state.engine, state.record);
        let mut results = match result {
            Ok(Results(results)) => results,
            Err(error) => {
                // What was never called has handed nothing over.
                let never = error.code == Code::E_CANCEL;
                let outcome = if never { Outcome::Offline } else { Outcome::Unknown };
                return self.all_later(flight, &error.message, outcome, turn);
            }
        };
        if state.stage != Stage::Recovering {
            none_follows_at_once(&mut results);
        }
        // It may have left some out. Each recipient of this flight has one result.
        if results.len() < state.recipients.len() {
            let said: HashSet<_> = results.iter().map(|r| r.recipient).collect();
            for recipient in state.recipients.iter().filter(|r| !said.contains(r)) {
                let reply = "the transport did not say what became of it".to_owned();
                let outcome = Outcome::Unknown;
                results.push(RecipientResult { recipient: *recipient, outcome, reply });
            }
        }
        self.record(engine, record, &results, Some(flight), turn);
    }

    fn all_later(&mut self, flight: u64, why: &str, outcome: Outcome, turn: &mut Turn) {
        let state = &self.flights[&flight];
        let result = |recipient: &usize| RecipientResult {
            recipient: *recipient,
            outcome,
            reply: why.to_owned(),
        };
        let results: Vec<_> = state.recipients.iter().map(result).collect();
        let (engine, record) = (state.engine, state.record);
        self.record(engine, record, &results, Some(flight), turn);
    }

    /// Stores what became of recipients.
    pub(crate) fn record(
        &mut self,
        id: EngineId,
        record: u128,
        results: &[RecipientResult],
        flight: Option<u64>,
        turn: &mut Turn,
    ) {
        let engine = self.engines.get_mut(id);
        let Some(entry) = engine.and_then(|e| e.entries.get_mut(&record)) else {
            return self.land(flight, turn);
        };
        if let Some(state) = flight.and_then(|f| self.flights.get_mut(&f))
            && state.has_place()
        {
            state.stage = Stage::Recording;
        }
        let profile = &entry.submission.profile;
        let known = self.sessions.of_profile(profile).find_map(|s| s.profile.as_ref());
        let policy = known.map(|p| p.queue.clone());
        settle(entry, results, &policy.unwrap_or_default(), turn);
        self.store_recording((id, record), flight, turn);
    }

    fn store_recording(
        &mut self,
        (engine, record): (EngineId, u128),
        flight: Option<u64>,
        turn: &mut Turn,
    ) {
        let recording = |bounced| Recording { engine, record, flight, bounced };
        let after = |bounced| AfterUpdate::Recorded(recording(bounced));
        self.store(engine, record, after, turn);
    }

    /// Stores an entry as it is known, and tells its sender of the recipients that bounced since it was told last.
    fn store(
        &mut self,
        id: EngineId,
        record: u128,
        after: impl FnOnce(Bounced) -> AfterUpdate,
        turn: &mut Turn,
    ) {
        let engine = self.engines.get_mut(id).expect("flights keep it open");
        let entry = engine.entries.get_mut(&record).expect("flights keep it known");
        let bounced = std::mem::take(&mut entry.untold);
        let (notice, now) = (turn.record(), turn.tick.millis());
        let (submission, told) = (&entry.submission, bounced.clone());
        let unchanged = Changed::none_of(&submission.recipients);
        let update = match std::mem::replace(&mut entry.changed, unchanged) {
            Changed::Some(places) => {
                SubmissionUpdate::part(submission, places, told, (notice, now))
            }
            Changed::All => SubmissionUpdate::whole(submission.clone(), told, notice, now),
        };
        let lane = engine.write;
        self.call(lane, Caller::broker(None), Ask::update(update), after(bounced), turn);
    }

    /// A submission's new state is durable: everybody may know it.
    pub(crate) fn recorded(
        &mut self,
        Recording { engine: id, record, flight, bounced }: Recording,
        result: Result<Updated, ProviderError>,
        turn: &mut Turn,
    ) {
        self.land(flight, turn);
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.stirred = true;
        let Ok(updated) = result else {
            // It was handed over, and that could not be written down. Nothing more happens to it until it is.
            if let Some(entry) = engine.entries.get_mut(&record) {
                entry.untold.extend(bounced);
                entry.changed = Changed::All;
                engine.unrecorded.push(record);
            }
            return self.rest(id, turn);
        };
        let Some(entry) = engine.entries.get_mut(&record) else { return };
        entry.flights = entry.flights.saturating_sub(1);
        let goes_on = |r: &Recipient| r.state == SubmissionState::Queued;
        if entry.flights == 0 && !entry.submission.recipients.iter().any(goes_on) {
            entry.tried = Try::Over;
        }
        let (busy, state) = (entry.flights > 0, entry.submission.state());
        let key = (entry.submission.due, entry.submission.order);
        let near = engine.note_change(record, key);
        if !busy && near && !state.is_final() && state != SubmissionState::Held {
            engine.ready.insert((key.0, key.1, record));
        }
        self.noticed(id, record, turn);
        self.tell_outcome(id, record, &updated, turn);
        let engine = self.engines.get_mut(id).expect("looked at before");
        let waits = engine.entries.get(&record).is_some_and(|entry| {
            let s = &entry.submission;
            engine.ready.contains(&(s.due, s.order, record))
        });
        if !busy && !waits {
            engine.entries.remove(&record);
        }
    }

    /// The state of a submission changed: counts, and the member it belongs to.
    fn noticed(&mut self, id: EngineId, record: u128, turn: &mut Turn) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        if let Some(now_final) = engine.recount(record) {
            self.finals[now_final as usize] += 1;
        }
        if let Some(state) = engine.entries.get(&record).map(Entry::state) {
            self.tell_owners((id, record), state, turn);
        }
    }

    /// A submission is in this state now: that may be what its members wait for.
    pub(crate) fn tell_owners(
        &mut self,
        (id, record): (EngineId, u128),
        state: SubmissionState,
        turn: &mut Turn,
    ) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let owners = engine.owners.get(&record).cloned().unwrap_or_default();
        if state.is_final() {
            engine.owners.remove(&record);
        }
        for owner in owners {
            if let Some(member) = self.members.get_mut(&owner) {
                member.note((id, record), (!state.is_final()).then(|| waits(state)));
                self.check_leaving(owner, turn);
            }
        }
    }

    fn tell_outcome(
        &mut self,
        id: EngineId,
        record: u128,
        Updated { moved, notice }: &Updated,
        turn: &mut Turn,
    ) {
        if let Some(to) = *moved {
            let entry = self.engines.get(&id).and_then(|engine| engine.entries.get(&record));
            let submitter = entry.map(|entry| entry.submission.uid);
            let news = StoreNews::Moved { from: Folder::Outbox, to };
            self.store_news(id, (record, submitter), news, turn);
        }
        if let Some(notice) = *notice {
            self.store_news(id, (notice, None), StoreNews::Created(Folder::Inbox), turn);
            self.store_news(id, (notice, None), StoreNews::NewMail(Folder::Inbox), turn);
        }
    }

    /// A transport is done with a message.
    fn land(&mut self, flight: Option<u64>, turn: &mut Turn) {
        let Some(flight) = flight.and_then(|f| self.flights.remove(&f)) else { return };
        if !flight.has_place() {
            return;
        }
        let Some(session) = self.sessions.get_mut(flight.session) else { return };
        let provider = &mut session.providers[flight.provider];
        provider.in_flight -= 1;
        let (idle, name) = (provider.in_flight == 0, provider.name.clone());
        for (_, engine) in session.engines() {
            if let Some(engine) = self.engines.get_mut(engine) {
                engine.stirred = true;
            }
        }
        if idle {
            self.status_changed(flight.session, &name, turn);
            self.advance_phase(flight.session, turn);
        }
    }

    fn record_again(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.engines.get_mut(id).expect("it is pumped");
        if engine.rests(turn.tick.boot) {
            return;
        }
        for record in std::mem::take(&mut engine.unrecorded) {
            if self.engines[&id].entries.contains_key(&record) {
                self.store_recording((id, record), None, turn);
            }
        }
    }

    /// The transports of a closing session had their time. What they had begun is found out by another session.
    pub(crate) fn abandon_flights(
        &mut self,
        session: SessionId,
        lanes: &[LaneId],
        turn: &mut Turn,
    ) {
        for lane in lanes {
            self.close_lane(*lane, turn);
        }
        let here = |f: &Flight| f.session == session && f.stage != Stage::Left;
        let mut left: Vec<_> =
            self.flights.iter().filter(|(_, f)| here(f)).map(|(id, _)| *id).collect();
        left.sort_unstable();
        for id in left {
            let flight = self.flights.get_mut(&id).expect("listed just before");
            if let Some(state) = self.sessions.get_mut(session).filter(|_| flight.has_place()) {
                state.providers[flight.provider].in_flight -= 1;
            }
            if matches!(flight.stage, Stage::Marking | Stage::Late) {
                // Nobody may ask what became of it before its intent is stored, or is not.
                flight.stage = Stage::Left;
                continue;
            }
            let flight = self.flights.remove(&id).expect("listed just before");
            if flight.stage != Stage::Recording {
                self.free(flight.engine, flight.record);
            }
        }
    }

    /// A transport's worker is left behind. What it was handing over is found out by the next one; what is only prepared is not
    /// handed over, because the next one does not know of it.
    pub(crate) fn abandon_place(&mut self, view: (SessionId, usize), handed_over: &[u64]) {
        let of_it = |f: &Flight| (f.session, f.provider) == view && f.has_place();
        let mut gone = 0;
        for flight in self.flights.values_mut().filter(|f| of_it(f)) {
            if flight.stage == Stage::Marking {
                flight.stage = Stage::Left;
                gone += 1;
            }
        }
        for flight in handed_over {
            let Some(flight) = self.flights.remove(flight) else { continue };
            gone += 1;
            self.free(flight.engine, flight.record);
        }
        let session = self.sessions.get_mut(view.0).expect("it has the provider");
        session.providers[view.1].in_flight -= gone;
    }

    /// The intent of a message is not stored yet: another message may have its place with the transport.
    pub(crate) fn delay_flight(&mut self, id: u64) {
        let Some(flight) = self.flights.get_mut(&id).filter(|f| f.stage == Stage::Marking) else {
            return;
        };
        flight.stage = Stage::Late;
        let Some(session) = self.sessions.get_mut(flight.session) else { return };
        session.providers[flight.provider].in_flight -= 1;
        for (_, engine) in session.engines() {
            if let Some(engine) = self.engines.get_mut(engine) {
                engine.stirred = true;
            }
        }
    }

    /// A flight of an entry is over, and nothing is to be written down: the entry may depart again.
    fn free(&mut self, id: EngineId, record: u128) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.stirred = true;
        let Some(entry) = engine.entries.get_mut(&record) else { return };
        entry.flights = entry.flights.saturating_sub(1);
        if entry.flights == 0 {
            let s = &entry.submission;
            engine.ready.insert((s.due, s.order, s.record));
        }
    }

    fn set_alarm(&mut self, id: EngineId, turn: &mut Turn) {
        let now = turn.tick.millis();
        let engine = self.engines.get_mut(id).expect("it is pumped");
        if let Some(until) = engine.wakes_at(turn.tick.boot) {
            self.timers.set_no_later(until, Timer::Due(id));
        }
        let Some(&(due, ..)) = engine.ready.first() else { return };
        if due <= now || engine.alarm.is_some_and(|alarm| alarm <= due && alarm > now) {
            return;
        }
        engine.alarm = Some(due);
        let sleep = Duration::from_millis((due - now).min(LONGEST_SLEEP));
        self.timers.set_no_later(turn.tick.boot + sleep, Timer::Due(id));
    }

    pub(crate) fn due(&mut self, id: EngineId) {
        if let Some(engine) = self.engines.get_mut(id) {
            engine.alarm = None;
            engine.stirred = true;
        }
    }
}

/// Whether a transport of the session is out that a recipient needs who is not settled.
fn lacks_transport(session: &Session, submission: &Submission) -> bool {
    let is_out = |p: &Provider| {
        p.kind == ProviderType::Transport && matches!(p.state, ProviderState::Failed(_))
    };
    // Most often all of them work.
    if !session.providers.iter().any(is_out) {
        return false;
    }
    let open = submission.recipients.iter().filter(|r| !r.state.is_final());
    let mut needed = open.filter_map(|recipient| transport_for(session, recipient));
    needed.any(|(_, provider)| is_out(provider))
}

/// The transport that has a recipient or, if none has it, the first that takes it, and its place among the session's providers.
fn transport_for<'a>(session: &'a Session, recipient: &Recipient) -> Option<(usize, &'a Provider)> {
    let transports = session.providers.iter().enumerate();
    let mut transports = transports.filter(|(_, p)| p.kind == ProviderType::Transport);
    if let Some(intent) = &recipient.intent {
        return transports.find(|(_, p)| p.name == intent.transport);
    }
    let profile = session.profile();
    transports.find(|(_, p)| profile.transports[p.transport].takes(&recipient.address))
}

/// Finds a transport for each recipient that is not settled.
fn plan(session: &Session, submission: &Submission, now: u64) -> Plan {
    let profile = session.profile();
    let mut plan = Plan {
        session: session.id,
        groups: Vec::new(),
        lost: Vec::new(),
        disabled: false,
        full: None,
    };
    let expired = given_up(submission, &profile.queue) <= now;
    // A try that is not through with everybody does not begin again with those who were late.
    let fresh = submission.recipients.iter().any(|r| r.state == SubmissionState::Queued);
    let mut out_of_reach = None;
    for (index, recipient) in submission.recipients.iter().enumerate() {
        use SubmissionState::{Deferred, Queued, Transmitting, Unknown};
        if recipient.state == Unknown && expired {
            plan.lost.push(nobody_knows(recipient, index));
        }
        let its_turn = match recipient.state {
            Queued | Transmitting => true,
            Deferred => !fresh,
            _ => false,
        };
        if !its_turn {
            continue;
        }
        match transport_for(session, recipient) {
            // What others of its recipients need does not wait for this transport.
            Some((place, provider))
                if provider.is_out_of_reach() && recipient.intent.is_none() && !expired =>
            {
                out_of_reach = Some(place);
            }
            Some((_, provider)) if provider.is_out_of_reach() && recipient.intent.is_none() => {
                let reply = format!("transport {} cannot be reached", provider.name);
                let outcome = Outcome::Offline;
                plan.lost.push(RecipientResult { recipient: index, outcome, reply });
            }
            Some((place, provider))
                if matches!(
                    provider.state,
                    ProviderState::Available | ProviderState::LoggingOn(_)
                ) =>
            {
                let intent = &recipient.intent;
                // What is recovered is one transmission as it was handed over.
                let (most, room) = match intent {
                    Some(_) => (usize::MAX, provider.room_to_recover()),
                    None => (provider.most_recipients, provider.room()),
                };
                let same = |(p, group): &&mut (usize, Vec<usize>)| {
                    *p == place
                        && group.len() < most
                        && submission.recipients[group[0]].intent == *intent
                };
                let groups = plan.groups_for(place);
                match plan.groups.iter_mut().find(same) {
                    Some((_, group)) => group.push(index),
                    None if room == 0 => plan.full = Some(place),
                    None if groups < room => plan.groups.push((place, vec![index])),
                    // The others follow when these are done.
                    None => {}
                }
            }
            Some((_, provider)) if recipient.intent.is_some() => {
                plan.disabled |= matches!(provider.state, ProviderState::Failed(_));
                if expired {
                    plan.lost.push(nobody_knows(recipient, index));
                }
            }
            Some((_, provider)) => {
                plan.disabled |= matches!(provider.state, ProviderState::Failed(_));
                let reply = unavailable(provider);
                plan.lost.push(RecipientResult {
                    recipient: index,
                    outcome: Outcome::Later,
                    reply,
                });
            }
            None => {
                // Who had it already might have handed it over; nobody else may do it again.
                let outcome = match recipient.intent {
                    Some(_) => Outcome::Unknown,
                    None => Outcome::Later,
                };
                let reply = format!(
                    "no transport of profile {:?} takes {} any more; add one to the profile, \
                     or abort the message",
                    profile.name, recipient.address
                );
                plan.lost.push(RecipientResult { recipient: index, outcome, reply });
            }
        }
    }
    if plan.groups.is_empty() && plan.lost.is_empty() {
        plan.full = plan.full.or(out_of_reach);
    }
    plan
}

/// A recipient is given up of whom nobody knows whether they have the message.
fn nobody_knows(recipient: &Recipient, index: usize) -> RecipientResult {
    let last = recipient.reply.as_deref().unwrap_or("no reply was read");
    let reply = format!("{UNKNOWN_STATUS} nobody knows whether it was delivered: {last}");
    RecipientResult { recipient: index, outcome: Outcome::Failed, reply }
}

/// A recipient's time is over, and nobody was here to send the message. That is no try.
fn nobody_sent(recipient: &Recipient, index: usize) -> RecipientResult {
    let mut reply =
        format!("{EXPIRED_STATUS} until its age limit nobody was logged on who sends it");
    if let Some(last) = &recipient.reply {
        reply = format!("{reply}; the last try: {last}");
    }
    RecipientResult { recipient: index, outcome: Outcome::Offline, reply }
}

fn unavailable(provider: &Provider) -> String {
    match &provider.state {
        ProviderState::Failed(why) => format!("transport {} does not work: {why}", provider.name),
        _ => format!("transport {} is not ready", provider.name),
    }
}

/// Beside no recipient that is handed over, and outside of a recovery, it is taken for one that did not reach the other side: a message
/// that is queued again at once, try after try, would keep the broker busy. Beside one it ends, because there are fewer each time.
fn none_follows_at_once(results: &mut [RecipientResult]) {
    let wrong = results.iter_mut().filter(|result| result.outcome == Outcome::NotSent);
    wrong.for_each(|result| result.outcome = Outcome::Offline);
}

/// Puts results into a submission, and notes whose final failure the sender is to be told.
fn settle(entry: &mut Entry, results: &[RecipientResult], policy: &QueuePolicy, turn: &mut Turn) {
    let Entry { submission, untold, tried, changed, .. } = entry;
    let now = turn.tick.millis();
    let expired = given_up(submission, policy) < now;
    let (mut again, mut counts) = (false, false);
    for result in results {
        let Some(recipient) = submission.recipients.get_mut(result.recipient) else { continue };
        changed.note(result.recipient);
        recipient.reply = Some(short(&result.reply));
        recipient.intent = recipient.intent.take().filter(|_| result.outcome == Outcome::Unknown);
        recipient.state = match result.outcome {
            Outcome::Sent => SubmissionState::Sent,
            Outcome::Failed => SubmissionState::Bounced,
            Outcome::NotSent => SubmissionState::Queued,
            Outcome::Unknown if policy.on_unknown == OnUnknown::Hold => SubmissionState::Unknown,
            Outcome::Later | Outcome::Offline | Outcome::Unknown if expired => {
                SubmissionState::Bounced
            }
            Outcome::Later | Outcome::Offline | Outcome::Unknown => {
                recipient.intent = None;
                SubmissionState::Deferred
            }
        };
        if recipient.state == SubmissionState::Bounced {
            untold.push(result.recipient);
        }
        if recipient.state != SubmissionState::Sent {
            submission.last_error = recipient.reply.clone();
        }
        again |= recipient.state == SubmissionState::Deferred;
        counts |= !matches!(result.outcome, Outcome::Offline | Outcome::NotSent);
    }
    // However many transactions it takes, and whether the server refused somebody early or late: it is one try.
    if counts && *tried != Try::Counted {
        *tried = Try::Counted;
        submission.attempts += 1;
    }
    let goes_on = submission.recipients.iter().any(|r| r.state == SubmissionState::Queued);
    if goes_on {
        // The others of this try follow at once.
        return;
    }
    let late = submission.recipients.iter().any(|r| r.state == SubmissionState::Deferred);
    if again || (late && submission.due <= now) {
        submission.due = now + backoff(submission.attempts, policy, turn);
    } else if submission.state() == SubmissionState::Unknown {
        submission.due = given_up(submission, policy);
    }
}

/// A transport's words as they are kept: whatever a server says, many recipients' answers must fit a row.
fn short(reply: &str) -> String {
    reply.chars().take(MAX_REPLY).collect()
}

/// When a submission is given up that is not final by then, in milliseconds since 1970.
pub(crate) fn given_up(submission: &Submission, policy: &QueuePolicy) -> u64 {
    submission.submitted.saturating_add(policy.max_age.as_millis() as u64)
}

/// How long to wait after so many tries, in milliseconds: doubling, up to the longest, and up to a fifth less by chance so
/// that what failed together does not come back together.
pub(crate) fn backoff(attempts: u32, policy: &QueuePolicy, turn: &mut Turn) -> u64 {
    let (min, max) = (policy.retry_min.as_millis() as u64, policy.retry_max.as_millis() as u64);
    let doubled = min.saturating_mul(1 << attempts.saturating_sub(1).min(32));
    let wait = doubled.min(max.max(min));
    wait - turn.chance() % (wait / 5 + 1)
}
