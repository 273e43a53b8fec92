//! The spooler: takes a message from the queue through its transports.
//!
//! ```text
//!  ready ─► Preparing ─► Marking ─► Completing ─► Recording ─► final, or ready again later
//!    │         │            │            ▲            ▲
//!    │         │            └─ the intent is durable from here on: a crash means Transmitting
//!    │         └─ refused, unreachable ──│────────────┘
//!    └─ cut off by a crash: Looking ─────┘
//! ```
//!
//! A flight is one message through one transport; a message with recipients of two transports has two flights. An intent found at
//! start was cut off by a crash. Its transport says what became of it before anything is sent again. The recovery may hand the
//! message over, so the broker checks first that the store is still there (*Looking*).

use std::collections::HashSet;
use std::time::Duration;

use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::Folder;
use sundown_protocol::{Code, EntryId, SessionId};

use crate::broker::Broker;
use crate::flows::sending::submit::waits;
use crate::flows::working::advise::StoreNews;
use crate::ground::event::{self, EngineId, LaneId, Turn};
use crate::ground::provider::{
    Effect, Heard, Intent, News, Outcome, ProviderError, ProviderType, Recipient, RecipientResult,
    Submission, SubmissionUpdate, Transmission,
};
use crate::ground::settings::Linger;
use crate::ground::timers::Timer;
use crate::providers::ask::{Ask, Done, Prepared, Results, Updated};
use crate::providers::calls::Caller;
use crate::providers::view::{Provider, ProviderState, Reach};
use crate::queue::Queues;
use crate::queue::engine::{Changed, Engine, Entry, Try};
use crate::queue::flight::{Flight, Recording, Stage};
use crate::queue::giving_up::Unsent;
use crate::queue::plan::Plan;
use crate::queue::settle::{none_follows_at_once, note_delay, settle};
use crate::queue::untold::Told;
use crate::sessions::session::Session;
use crate::then::{AfterDone, AfterUpdate, GoesOn};

/// The longest marker, in bytes. A marker is stored once for each recipient.
const MAX_MARKER: usize = 4 << 10;

/// The longest time the schedule sleeps, in milliseconds: the wall clock may be set meanwhile.
const LONGEST_SLEEP: u64 = 60_000;

impl Broker {
    /// Sends what can be sent from every engine that changed.
    pub(crate) fn pump_all(&mut self, turn: &mut Turn) {
        for engine in self.queues.engines.stirred() {
            self.pump(engine, turn);
        }
    }

    fn pump(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.queues.engines.get_mut(id).expect("it was stirred");
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
            self.end_unfollowed(id, turn);
        }
        let mut last = SessionId(0);
        let behind = |last| (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
        while let Some(engine) = self.queues.engines.get(&id)
            && let Some(session) = engine.sessions.range(behind(last)).next().copied()
        {
            self.check_vacated(session, turn);
            last = session;
        }
    }

    /// Releases the members that wait for unfollowed submissions, once nothing in the queue is left that a transport could send.
    fn end_unfollowed(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.queues.engines.get_mut(id).expect("it is pumped");
        for member in engine.take_unfollowed() {
            if let Some(state) = self.sessions.members.get_mut(&member) {
                state.unfollowed.remove(&id);
                self.check_leaving(member, turn);
            }
        }
    }

    /// Puts entries back into the schedule if their transport has room again or no longer exists. Returns whether there were any.
    fn wake(&mut self, id: EngineId) -> bool {
        let engine = self.queues.engines.get_mut(id).expect("it is pumped");
        let Engine { full, ready, .. } = engine;
        let (before, mut wanted) = (ready.len(), false);
        for ((session, place), line) in full.iter_mut() {
            let session = self.sessions.all.get(session).filter(|s| s.may_send());
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

    /// Begins flights for all entries that are due and have a transport with room.
    fn take_off(&mut self, id: EngineId, turn: &mut Turn) {
        let clocks = self.queues.engines[&id].clocks(turn.tick);
        let now = clocks.now;
        let mut cursor = None;
        loop {
            let engine = &self.queues.engines[&id];
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
            let sender = &self.sessions.all[&session];
            if !self.is_fresh(sender, turn) {
                // What is found lets the store's queue go on, from its beginning.
                return self.look_at_file(session, turn);
            }
            let mut plan = sender.sender().plan(submission, clocks);
            if plan.disabled && self.revive_by_itself(session, turn) {
                let submission = &self.queues.engines[&id].entries[&record].submission;
                plan = self.sessions.all[&session].sender().plan(submission, clocks);
            }
            let full = plan.full;
            // The message departs anyway if other recipients have a transport with room.
            let goes = !plan.groups.is_empty() || !plan.lost.is_empty();
            if let Some(place) = full.filter(|_| !goes) {
                if self.tell_delay((id, record), (session, place), turn) {
                    continue;
                }
                let engine = self.queues.engines.get_mut(id).expect("looked at just before");
                // A slow transport must not delay messages of other transports.
                engine.ready.remove(&(due, order, record));
                let line = engine.full.entry((session, place)).or_default();
                line.keys.insert((due, order, record));
                self.keep_few(id, (session, place), turn);
            } else if goes {
                self.depart(id, record, plan, turn);
            } else {
                self.postpone(id, record, turn);
            }
        }
    }

    /// Parks a message that no present session may send or, at its age limit, gives it up.
    fn leave_unsent(&mut self, id: EngineId, record: u128, turn: &mut Turn) {
        let submission = &self.queues.engines[&id].entries[&record].submission;
        match self.unsent(id, submission, turn) {
            Unsent::GivenUp(session) => {
                let plan = Plan::give_up(session, submission);
                self.depart(id, record, plan, turn);
            }
            Unsent::Waits(until) => {
                let engine = self.queues.engines.get_mut(id).expect("it is pumped");
                let entry = engine.forget(record).expect("it is ready");
                self.park(id, &entry.submission.profile, until, turn);
            }
        }
    }

    /// Tells the sender of a message that waits for a transport that it is delayed, if it is time for that. Returns whether it is: then
    /// the message is in no line until that is stored.
    fn tell_delay(
        &mut self,
        (id, record): (EngineId, u128),
        (session, place): (SessionId, usize),
        turn: &mut Turn,
    ) -> bool {
        let (Some(engine), Some(session)) =
            (self.queues.engines.get_mut(id), self.sessions.all.get(&session))
        else {
            return false;
        };
        let (clocks, policy) = (engine.clocks(turn.tick), &session.profile().queue);
        let Some(entry) = engine.entries.get_mut(&record) else { return false };
        if entry.flights > 0 || !clocks.is_delay_due(&entry.submission, policy) {
            return false;
        }
        let until = clocks.given_up(&entry.submission, policy);
        note_delay(&mut entry.submission, &mut entry.untold, until);
        if !entry.submission.delay_told {
            return false;
        }
        let waits_for = &session.providers[place];
        for (place, recipient) in entry.submission.recipients.iter_mut().enumerate() {
            if recipient.reply.is_none() && !recipient.state.is_final() {
                recipient.reply = Some(not_tried(waits_for));
                entry.changed.note(place);
            }
        }
        let s = &entry.submission;
        engine.ready.remove(&(s.due, s.order, record));
        entry.flights += 1;
        self.store_recording((id, record), None, turn);
        true
    }

    /// Looks at a message again later, because nothing can be done for it now: only its own transport can say what became of it,
    /// and does not work; or its outcome is unknown, and it has not reached the age limit.
    fn postpone(&mut self, id: EngineId, record: u128, turn: &mut Turn) {
        let engine = self.queues.engines.get_mut(id).expect("it is pumped");
        let entry = engine.entries.get_mut(&record).expect("it is ready");
        let s = &mut entry.submission;
        engine.ready.remove(&(s.due, s.order, record));
        s.due = turn.tick.millis() + LONGEST_SLEEP;
        engine.ready.insert((s.due, s.order, record));
    }

    /// The session that may send this message now. It is the oldest of its profile, unless the oldest lacks a transport that the
    /// message needs and a younger one has it.
    pub(crate) fn sender(&self, id: EngineId, submission: &Submission) -> Option<SessionId> {
        let mail_goes_on = self.settings.shutdown.linger != Linger::Off && !submission.no_mail;
        let can = |session: &&Session| {
            session.may_send()
                && session.profile().name == submission.profile
                && (session.with_mail > 0 || mail_goes_on)
        };
        let sessions = self.queues.engines.get(&id)?.sessions.iter();
        let mut sessions = sessions.filter_map(|s| self.sessions.all.get(s)).filter(can);
        let oldest = sessions.next()?;
        let working = |session: &&Session| !session.sender().lacks_transport(submission);
        let sender = std::iter::once(oldest).chain(sessions).find(working);
        Some(sender.unwrap_or(oldest).id)
    }

    fn depart(&mut self, id: EngineId, record: u128, plan: Plan, turn: &mut Turn) {
        let engine = self.queues.engines.get_mut(id).expect("it is pumped");
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
        // Lost recipients are recorded like the results of a flight.
        entry.flights += usize::from(!lost.is_empty());
        for (place, recipients, stage) in calls {
            let flight = self.number();
            let fresh = stage == Stage::Preparing;
            let session = plan.session;
            let new = Flight::new((id, record), (session, place), recipients, stage);
            let prepare = fresh.then(|| Box::new(self.transmission(flight, &new)));
            self.queues.flights.insert(flight, new);
            let provider =
                &mut self.sessions.all.get_mut(session).expect("it sends").providers[place];
            provider.in_flight += 1;
            let (lane, began) = (provider.lane, provider.in_flight == 1);
            if let Some(transmission) = prepare {
                let caller = Caller::broker(Some(session));
                self.call(lane, caller, Ask::prepare(transmission), flight, turn);
            } else {
                self.look_at_store(flight, id, turn);
            }
            if began {
                self.status_changed(session, place, turn);
            }
        }
        if !lost.is_empty() {
            self.record(id, record, &lost, None, turn);
        }
        turn.errand.entry = None;
    }

    /// What a transport is told of a flight.
    fn transmission(&self, id: u64, flight: &Flight) -> Transmission {
        let (engine, record) = flight.message();
        let engine = &self.queues.engines[&engine];
        let submission = &engine.entries[&record].submission;
        let address = |r: &usize| (*r, submission.recipients[*r].address.clone());
        Transmission {
            id,
            store: engine.uid.unwrap_or(0),
            record,
            from: submission.from.clone(),
            recipients: flight.recipients().iter().map(address).collect(),
            size: submission.size,
            report: submission.report,
        }
    }

    /// Asks the store for a flush before a message is recovered. A recovery may hand the message over, and the broker must not act
    /// upon the entries of a lost store. Before a Complete, the commit of the mark proves as much.
    fn look_at_store(&mut self, flight: u64, id: EngineId, turn: &mut Turn) {
        let lane = self.queues.engines[&id].write;
        self.call(lane, Caller::broker(None), Ask::flush(), AfterDone::LookedAt(flight), turn);
    }

    /// Has a transport recover a message if its store is still there. Otherwise the message is postponed.
    pub(crate) fn looked_at(
        &mut self,
        id: u64,
        result: &Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        // The session may have abandoned this flight meanwhile.
        let Some(flight) = self.queues.flights.get_mut(&id) else { return };
        let (engine, record) = flight.message();
        if result.is_err() {
            self.land(Some(id), turn);
            self.free(engine, record);
            let entry = self.queues.engines.get(&engine).and_then(|e| e.entries.get(&record));
            if entry.is_some_and(|entry| entry.flights == 0) {
                self.postpone(engine, record, turn);
            }
            return;
        }
        flight.recover();
        let flight = &self.queues.flights[&id];
        let transmission = Box::new(self.transmission(id, flight));
        let first = &self.queues.engines[&engine].entries[&record].submission.recipients;
        let intent = first[flight.recipients()[0]].intent.as_ref();
        let marker = intent.map(|intent| intent.marker.clone()).unwrap_or_default();
        self.call_transport(id, Ask::recover(transmission, marker), id, turn);
    }

    pub(crate) fn prepared(
        &mut self,
        flight: u64,
        result: Result<Prepared, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(state) = self.queues.flights.get(&flight) else { return };
        let (engine, record) = state.message();
        let (session, provider) = state.view();
        match result {
            Ok(Prepared { marker, .. }) if marker.len() > MAX_MARKER => {
                self.cancel(flight, turn);
                let why = format!("the transport's marker is longer than {MAX_MARKER} bytes");
                self.all_later(flight, &why, Outcome::Later, turn);
            }
            Ok(Prepared { marker, mut refused }) => {
                self.accepted_by(session, provider, turn);
                let state = self.queues.flights.get_mut(&flight).expect("looked at before");
                let refused_by: Vec<_> = refused.iter().map(|r| r.recipient).collect();
                if !state.mark(&refused_by) {
                    let view = state.view();
                    self.note_results(view, &refused, turn);
                    none_follows_at_once(&mut refused);
                    return self.record(engine, record, &refused, Some(flight), turn);
                }
                self.mark(flight, &marker, &refused, turn);
            }
            Err(error) => {
                let outcome = match error.code {
                    // The transport was asked to prepare, and it is unknown what it did instead.
                    Code::E_CORRUPT_DATA if error.effect == Effect::Unknown => {
                        self.reached(session, provider, turn);
                        self.cancel(flight, turn);
                        Outcome::Unknown
                    }
                    _ if error.is_of_the_server() => {
                        self.note_failed_use((session, provider), &error, turn);
                        self.not_reached(session, provider, &error, turn);
                        Outcome::Offline
                    }
                    Code::E_OFFLINE if error.heard == Heard::Before => {
                        self.note_failed_use((session, provider), &error, turn);
                        Outcome::Offline
                    }
                    // The transport was not called.
                    Code::E_OFFLINE | Code::E_CANCEL => Outcome::Offline,
                    Code::E_LOGON_FAILED => {
                        self.note_failed_use((session, provider), &error, turn);
                        self.reached(session, provider, turn);
                        self.refused_by(session, provider, &error.message, turn);
                        Outcome::Offline
                    }
                    _ => {
                        self.note_failed_use((session, provider), &error, turn);
                        self.reached(session, provider, turn);
                        Outcome::Later
                    }
                };
                self.all_later(flight, &error.message, outcome, turn);
            }
        }
    }

    /// Stores the intent. The message is handed over only when the intent is durable.
    fn mark(&mut self, flight: u64, marker: &str, refused: &[RecipientResult], turn: &mut Turn) {
        let state = &self.queues.flights[&flight];
        let ((id, record), (session, place)) = (state.message(), state.view());
        let session = &self.sessions.all[&session];
        let transport = session.providers[place].name.clone();
        let policy = session.profile().queue.clone();
        let recipients = state.recipients().to_vec();
        let engine = self.queues.engines.get_mut(id).expect("flights keep it open");
        let clocks = engine.clocks(turn.tick);
        let entry = engine.entries.get_mut(&record).expect("flights keep it known");
        settle(entry, refused, &policy, clocks, turn);
        for place in recipients {
            entry.changed.note(place);
            let recipient = &mut entry.submission.recipients[place];
            recipient.state = SubmissionState::Transmitting;
            recipient.intent =
                Some(Intent { transport: transport.clone(), marker: marker.to_owned() });
        }
        self.store(id, record, |told| AfterUpdate::Marked(flight, told), turn);
        self.noticed(id, record, turn);
    }

    pub(crate) fn marked(
        &mut self,
        flight: u64,
        told: Told,
        result: Result<Updated, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(state) = self.queues.flights.get(&flight) else { return };
        let (id, record) = state.message();
        let (has_place, left) = (state.has_place(), state.is_left());
        match result {
            // The store checked that its files are still there between that commit and this answer. So no message is handed over
            // for a mark that a restart would not find.
            Ok(updated) => {
                self.log_failures((id, record), &told.news, turn);
                self.tell_outcome(id, record, updated, turn);
                if !has_place {
                    if !left {
                        self.cancel(flight, turn);
                    }
                    let why = "its transport was not waited for while its intent was being stored";
                    return self.all_later(flight, why, Outcome::Offline, turn);
                }
                self.queues.flights.get_mut(&flight).expect("looked at before").complete();
                self.call_transport(flight, Ask::complete(flight), flight, turn);
            }
            Err(error) => {
                let entry =
                    self.queues.engines.get_mut(id).and_then(|e| e.entries.get_mut(&record));
                if let Some(entry) = entry {
                    entry.untold.repeat(told);
                    entry.changed = Changed::All;
                }
                // An intent that may be durable names the prepared message: after a restart the transport looks for it.
                if !left && error.effect == Effect::Nothing {
                    self.cancel(flight, turn);
                }
                let why = format!("its intent could not be stored: {}", error.message);
                self.all_later(flight, &why, Outcome::Offline, turn);
            }
        }
    }

    /// Calls a transport for a prepared message, ahead of messages that are not prepared.
    fn call_transport<A: GoesOn>(
        &mut self,
        flight: u64,
        ask: Ask<A>,
        after: A::After,
        turn: &mut Turn,
    ) {
        let state = &self.queues.flights[&flight];
        let (session, place) = state.view();
        let lane = self.sessions.all[&session].providers[place].lane;
        let caller = Caller::broker(Some(session)).first();
        self.call(lane, caller, ask, after, turn);
    }

    /// Has a transport forget what it prepared, unless it logs off, which does the same.
    fn cancel(&mut self, flight: u64, turn: &mut Turn) {
        let (session, place) = self.queues.flights[&flight].view();
        let session = self.sessions.all.get(&session);
        let state = session.map(|session| &session.providers[place].state);
        if matches!(state, None | Some(ProviderState::LoggingOff | ProviderState::Gone)) {
            return;
        }
        self.call_transport(flight, Ask::cancel(flight), AfterDone::Nothing, turn);
    }

    pub(crate) fn completed(
        &mut self,
        flight: u64,
        result: Result<Results, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(state) = self.queues.flights.get(&flight) else { return };
        let (engine, record) = state.message();
        let mut results = match result {
            Ok(Results(results)) => results,
            Err(error) => {
                // A call that was never made handed nothing over.
                let never = error.code == Code::E_CANCEL;
                let outcome = if never { Outcome::Offline } else { Outcome::Unknown };
                return self.all_later(flight, &error.message, outcome, turn);
            }
        };
        if !state.is_recovering() {
            none_follows_at_once(&mut results);
        }
        // The transport may have left recipients out, but each recipient of this flight needs one result.
        if results.len() < state.recipients().len() {
            let said: HashSet<_> = results.iter().map(|r| r.recipient).collect();
            for recipient in state.recipients().iter().filter(|r| !said.contains(r)) {
                let reply = "the transport did not say what became of it".to_owned();
                let outcome = Outcome::Unknown;
                results.push(RecipientResult { recipient: *recipient, outcome, reply });
            }
        }
        let view = state.view();
        self.note_results(view, &results, turn);
        self.record(engine, record, &results, Some(flight), turn);
    }

    /// Notes what came of handing a message to a transport. The best outcome counts: one recipient may be refused where the others
    /// are not.
    fn note_results(
        &mut self,
        view: (SessionId, usize),
        results: &[RecipientResult],
        turn: &mut Turn,
    ) {
        let rank = |outcome: Outcome| match outcome {
            Outcome::Sent | Outcome::Relayed | Outcome::Delivered => 3,
            Outcome::Failed => 2,
            Outcome::Later => 1,
            Outcome::Offline | Outcome::Unknown | Outcome::NotSent => 0,
        };
        // A server that refuses a sender, or by a rule of its own, mostly refuses every message.
        let of_all =
            |reply: &str| [" 5.7.", " 5.1.7 ", " 5.1.8 "].iter().any(|c| reply.contains(c));
        let said = results.iter().filter(|result| result.outcome != Outcome::NotSent);
        let Some(best) = said.max_by_key(|result| rank(result.outcome)) else { return };
        let works = match best.outcome {
            Outcome::Failed => !of_all(&best.reply),
            outcome => rank(outcome) > 1,
        };
        self.note_use(view, works, &best.reply, turn);
    }

    /// Notes that a transport could not be used. What its server said before, and was not asked again, is known already.
    pub(crate) fn note_failed_use(
        &mut self,
        (id, place): (SessionId, usize),
        error: &ProviderError,
        turn: &mut Turn,
    ) {
        let known = |provider: &Provider| provider.last.as_ref().is_some_and(|last| !last.worked);
        let session = self.sessions.all.get(&id);
        let is_known = session.is_some_and(|session| known(&session.providers[place]));
        if error.heard == Heard::Now || !is_known {
            self.note_use((id, place), false, &error.message, turn);
        }
    }

    /// Notes what came of using a transport or a mailbox.
    pub(crate) fn note_use(
        &mut self,
        (id, place): (SessionId, usize),
        worked: bool,
        text: &str,
        turn: &mut Turn,
    ) {
        let at = turn.tick.millis();
        if let Some(session) = self.sessions.all.get_mut(id) {
            let provider = &mut session.providers[place];
            provider.note_outcome(at, worked, text);
            if provider.kind == ProviderType::Transport && provider.is_in_use() {
                self.queues.tally.used(&session.key.profile, &provider.name, worked, at);
            }
        }
    }

    fn all_later(&mut self, flight: u64, why: &str, outcome: Outcome, turn: &mut Turn) {
        let state = &self.queues.flights[&flight];
        let result = |recipient: &usize| RecipientResult {
            recipient: *recipient,
            outcome,
            reply: why.to_owned(),
        };
        let results: Vec<_> = state.recipients().iter().map(result).collect();
        let (engine, record) = state.message();
        self.record(engine, record, &results, Some(flight), turn);
    }

    /// Settles the results of recipients and stores them.
    pub(crate) fn record(
        &mut self,
        id: EngineId,
        record: u128,
        results: &[RecipientResult],
        flight: Option<u64>,
        turn: &mut Turn,
    ) {
        let engine = self.queues.engines.get_mut(id);
        let Some(engine) = engine.filter(|e| e.entries.contains_key(&record)) else {
            return self.land(flight, turn);
        };
        let clocks = engine.clocks(turn.tick);
        let entry = engine.entries.get_mut(&record).expect("looked at just before");
        let given_back: Vec<_>;
        let mut results = results;
        if let Some(state) = flight.and_then(|f| self.queues.flights.get_mut(&f)) {
            state.record();
            let (session, place) = state.view();
            let view = self.sessions.all.get(&session).map(|s| &s.providers[place]);
            if view.is_some_and(|view| !view.is_in_use()) {
                // The profile does not have it any more: another one takes at once what it gives back.
                given_back = results.iter().cloned().map(RecipientResult::given_back).collect();
                results = &given_back;
            }
        }
        let profile = &entry.submission.profile;
        let known = self.sessions.all.of_profile(profile).find_map(|s| s.profile.as_ref());
        let policy = known.map(|p| p.queue.clone());
        settle(entry, results, &policy.unwrap_or_default(), clocks, turn);
        let held = |r: &&RecipientResult| {
            let recipient = entry.submission.recipients.get(r.recipient);
            recipient.is_some_and(|recipient| recipient.state == SubmissionState::Unknown)
        };
        let mut unknown = results.iter().filter(held);
        if let Some(first) = unknown.next() {
            turn.emit(event::Effect::OutcomeUnknown {
                entry: EntryId { store: engine.uid.unwrap_or_default(), record },
                profile: entry.submission.profile.clone(),
                recipients: 1 + unknown.count(),
                why: first.reply.clone(),
            });
        }
        self.store_recording((id, record), flight, turn);
    }

    fn store_recording(
        &mut self,
        (engine, record): (EngineId, u128),
        flight: Option<u64>,
        turn: &mut Turn,
    ) {
        let after = |told| AfterUpdate::Recorded(Recording { engine, record, flight, told });
        self.store(engine, record, after, turn);
    }

    /// Stores an entry as it is in memory, and tells its sender what no update has told yet.
    fn store(
        &mut self,
        id: EngineId,
        record: u128,
        after: impl FnOnce(Told) -> AfterUpdate,
        turn: &mut Turn,
    ) {
        let engine = self.queues.engines.get_mut(id).expect("flights keep it open");
        let entry = engine.entries.get_mut(&record).expect("flights keep it known");
        let told = if let Some(told) = entry.untold.take_again() {
            told
        } else {
            let news = entry.untold.take_news();
            let notice = self.notice((id, record), &news, turn);
            Told { news, notice }
        };
        let engine = self.queues.engines.get_mut(id).expect("flights keep it open");
        let entry = engine.entries.get_mut(&record).expect("flights keep it known");
        let (submission, notice, now) =
            (&entry.submission, told.notice.clone(), turn.tick.millis());
        let unchanged = Changed::none_of(&submission.recipients);
        let update = match std::mem::replace(&mut entry.changed, unchanged) {
            Changed::Some(places) => SubmissionUpdate::part(submission, places, notice, now),
            Changed::All => SubmissionUpdate::whole(submission.clone(), notice, now),
        };
        let lane = engine.write;
        self.call(lane, Caller::broker(None), Ask::update(update), after(told), turn);
    }

    /// Handles the stored state of a submission: from now on it may be reported, because it is durable.
    pub(crate) fn recorded(
        &mut self,
        Recording { engine: id, record, flight, told }: Recording,
        result: Result<Updated, ProviderError>,
        turn: &mut Turn,
    ) {
        self.land(flight, turn);
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        engine.stirred = true;
        let Ok(updated) = result else {
            // The message was handed over, but the result could not be stored. Nothing more happens to the message until it is.
            if let Some(entry) = engine.entries.get_mut(&record) {
                entry.untold.repeat(told);
                entry.changed = Changed::All;
                engine.unrecorded.push(record);
            }
            return self.rest(id, turn);
        };
        let Some(entry) = engine.entries.get_mut(&record) else { return };
        if !entry.untold.is_empty() {
            // The update told something again. Another one tells the rest.
            self.log_failures((id, record), &told.news, turn);
            self.tell_outcome(id, record, updated, turn);
            return self.store_recording((id, record), None, turn);
        }
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
        self.log_failures((id, record), &told.news, turn);
        self.tell_outcome(id, record, updated, turn);
        let engine = self.queues.engines.get_mut(id).expect("looked at before");
        let waits = engine.entries.get(&record).is_some_and(|entry| {
            let s = &entry.submission;
            engine.ready.contains(&(s.due, s.order, record))
        });
        if !busy && !waits {
            engine.entries.remove(&record);
        }
    }

    /// Notes a submission's new state in the counts and with the members it belongs to.
    fn noticed(&mut self, id: EngineId, record: u128, turn: &mut Turn) {
        let Queues { engines, finals, tally, .. } = &mut self.queues;
        let Some(engine) = engines.get_mut(id) else { return };
        let now = engine.recount(record);
        let entry = engine.entries.get(&record);
        if let Some((now, entry)) = now.zip(entry) {
            finals[now as usize] += u64::from(now.is_final());
            tally.became(&entry.submission.profile, now);
        }
        if let Some(state) = entry.map(Entry::state) {
            self.tell_owners((id, record), state, turn);
        }
    }

    /// Tells the members that own a submission its new state. They may be waiting for it.
    pub(crate) fn tell_owners(
        &mut self,
        (id, record): (EngineId, u128),
        state: SubmissionState,
        turn: &mut Turn,
    ) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let owners = engine.owners.get(&record).cloned().unwrap_or_default();
        if state.is_final() {
            engine.owners.remove(&record);
        }
        for owner in owners {
            if let Some(member) = self.sessions.members.get_mut(&owner) {
                member.note((id, record), (!state.is_final()).then(|| waits(state)));
                self.check_leaving(owner, turn);
            }
        }
    }

    fn tell_outcome(
        &mut self,
        id: EngineId,
        record: u128,
        Updated { moved, notice, pending }: Updated,
        turn: &mut Turn,
    ) {
        if let Some(to) = moved {
            let entry = self.queues.engines.get(&id).and_then(|engine| engine.entries.get(&record));
            let submitter = entry.map(|entry| entry.submission.uid);
            let news = StoreNews::Moved { from: Folder::OUTBOX, to };
            self.store_news(id, (record, submitter), &news, turn);
            if pending {
                self.poke_mailboxes(id, turn);
            }
        }
        if let Some(notice) = notice {
            self.store_news(id, (notice.record, None), &StoreNews::Created(Folder::INBOX), turn);
            let (from, subject) = (notice.from.clone(), notice.subject.clone());
            let place = (notice.record, Folder::INBOX);
            self.new_mail(id, place, Box::new(News { from, subject }), turn);
            self.sent_on((id, record), *notice, turn);
        }
    }

    /// Ends a flight: its transport has room for another message.
    fn land(&mut self, flight: Option<u64>, turn: &mut Turn) {
        let Some(flight) = flight.and_then(|f| self.queues.flights.remove(&f)) else { return };
        if !flight.has_place() {
            return;
        }
        let (id, place) = flight.view();
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        provider.in_flight -= 1;
        let idle = provider.in_flight == 0;
        for (_, engine) in session.engines() {
            if let Some(engine) = self.queues.engines.get_mut(engine) {
                engine.stirred = true;
            }
        }
        if idle {
            self.status_changed(id, place, turn);
            self.advance_phase(id, turn);
        }
    }

    fn record_again(&mut self, id: EngineId, turn: &mut Turn) {
        let engine = self.queues.engines.get_mut(id).expect("it is pumped");
        if engine.rests(turn.tick.boot) {
            return;
        }
        for record in std::mem::take(&mut engine.unrecorded) {
            if self.queues.engines[&id].entries.contains_key(&record) {
                self.store_recording((id, record), None, turn);
            }
        }
    }

    /// Abandons the flights of a closing session whose transports used up their time. Another session finds out what became of
    /// them.
    pub(crate) fn abandon_flights(
        &mut self,
        session: SessionId,
        lanes: &[LaneId],
        turn: &mut Turn,
    ) {
        for lane in lanes {
            self.close_lane(*lane, turn);
        }
        let here = |f: &Flight| f.view().0 == session && !f.is_left();
        let mut left: Vec<_> =
            self.queues.flights.iter().filter(|(_, f)| here(f)).map(|(id, _)| *id).collect();
        left.sort_unstable();
        for id in left {
            let flight = self.queues.flights.get_mut(&id).expect("listed just before");
            if let Some(state) = self.sessions.all.get_mut(session).filter(|_| flight.has_place()) {
                state.providers[flight.view().1].in_flight -= 1;
            }
            if flight.leave() {
                continue;
            }
            let (recording, (engine, record)) = (flight.is_recording(), flight.message());
            self.queues.flights.remove(&id);
            if !recording {
                self.free(engine, record);
            }
        }
    }

    /// Abandons the flights of a transport whose worker is left behind. The next worker finds out what became of a message that was
    /// being handed over. A message that is only prepared is not handed over, because the next worker does not know of it.
    pub(crate) fn abandon_place(&mut self, view: (SessionId, usize), handed_over: &[u64]) {
        let of_it = self.queues.flights.values_mut().filter(|f| f.view() == view && f.has_place());
        let mut gone = of_it.map(Flight::leave).filter(|stays| *stays).count();
        for flight in handed_over {
            let Some(flight) = self.queues.flights.remove(flight) else { continue };
            gone += 1;
            let (engine, record) = flight.message();
            self.free(engine, record);
        }
        let session = self.sessions.all.get_mut(view.0).expect("it has the provider");
        session.providers[view.1].in_flight -= gone;
    }

    /// Gives a flight's place with the transport to another message, because its intent is not stored yet.
    pub(crate) fn delay_flight(&mut self, id: u64) {
        let Some(flight) = self.queues.flights.get_mut(&id) else { return };
        let (session, place) = flight.view();
        if !flight.delay() {
            return;
        }
        let Some(session) = self.sessions.all.get_mut(session) else { return };
        session.providers[place].in_flight -= 1;
        for (_, engine) in session.engines() {
            if let Some(engine) = self.queues.engines.get_mut(engine) {
                engine.stirred = true;
            }
        }
    }

    /// Ends a flight that has nothing to record: the entry may depart again.
    pub(crate) fn free(&mut self, id: EngineId, record: u128) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
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
        let engine = self.queues.engines.get_mut(id).expect("it is pumped");
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
        if let Some(engine) = self.queues.engines.get_mut(id) {
            engine.alarm = None;
            engine.stirred = true;
        }
    }
}

/// Why a message that waits for a transport was not tried.
fn not_tried(transport: &Provider) -> String {
    let name = &transport.name;
    if transport.is_out_of_reach() {
        format!("transport {name} cannot be reached")
    } else {
        format!("transport {name} has had no room for it")
    }
}
