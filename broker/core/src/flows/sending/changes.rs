//! Lists the outgoing queue and changes its entries.
//!
//! Before a change, the broker reads the entry from the store, because memory holds only the entries that are due soon. The entry
//! does not depart until the store has answered.

use sundown_protocol::reply::{QueueRow, Reply};
use sundown_protocol::request::{QueueAction, QueueChange, Request};
use sundown_protocol::{Code, EntryId, Fault, MemberId, SessionId};

use crate::broker::Broker;
use crate::flows::leaving::shutdown::shut_down;
use crate::flows::sending::submit::Doubt;
use crate::ground::event::{EngineId, Turn};
use crate::ground::expected::{CURSOR_BITS, CURSORS};
use crate::ground::provider::{Effect, ProviderError, Submission, SubmissionUpdate};
use crate::ground::settings::Right;
use crate::peers::connection::Asker;
use crate::peers::process::{Departure, Held};
use crate::peers::waiting::{SessionKey, Waiting};
use crate::providers::ask::{Ask, Hastened, OneSubmission, Queue, Updated};
use crate::providers::calls::Caller;
use crate::providers::lanes::Priority;
use crate::queue::change::{PAGE_BYTES, apply, locked, not_in_queue, short_enough, wire_size};
use crate::queue::engine::{Changed, Engine, Entry, Try};
use crate::queue::flight::Recording;
use crate::queue::untold::{Told, Untold};
use crate::sessions::session::Session;
use crate::then::{AfterPiece, AfterSubmission, AfterUpdate, Listing};

/// The most rows in one page of the queue. A row may have many recipients, and a page must fit into a frame.
const MAX_QUEUE_ROWS: u32 = 64;

/// A request to change an entry of the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) asker: Asker,
    /// The member that aborts its own submission; `None` if the request names the queue entry.
    member: Option<MemberId>,
    engine: EngineId,
    record: u128,
    change: QueueChange,
}

/// A flush of the queues in progress. It goes through each store in slices.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Flushing {
    pub(crate) whose: Flush,
    pub(crate) profile: Option<String>,
    /// If set, the flush is limited to what this user submitted.
    pub(crate) uid: Option<u32>,
    pub(crate) engine: EngineId,
    /// Messages found in this store so far.
    pub(crate) found: u64,
}

/// What started a flush.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Flush {
    /// A user asked for it and waits for the answer. The flush goes through all open stores; `found` counts the messages of the
    /// stores before this one.
    All { asker: Asker, found: u64 },
    /// A member logs off the store with `PURGE`; it waits for no answer.
    Store,
}

impl Broker {
    /// `IMsgStore::AbortSubmit`.
    pub(crate) fn abort(
        &mut self,
        asker: Asker,
        id: MemberId,
        entry: EntryId,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let (_, engine) = self.engine_of_uid(member, entry.store)?;
        let (member, change) = (Some(id), QueueChange::Abort);
        self.find_entry(Wish { asker, member, engine, record: entry.record, change }, turn)
    }

    fn change(&mut self, asker: Asker, entry: EntryId, change: QueueChange, turn: &mut Turn) {
        let held = self.open_engines().find(|e| e.uid == Some(entry.store)).map(|e| e.id);
        let found = held.ok_or_else(not_in_queue).and_then(|engine| {
            let record = entry.record;
            self.find_entry(Wish { asker, member: None, engine, record, change }, turn)
        });
        if let Err(fault) = found {
            self.answer(asker, Err(fault), turn);
        }
    }

    fn find_entry(&mut self, wish: Wish, turn: &mut Turn) -> Result<(), Fault> {
        self.refuse_locked(&wish)?;
        let caller = self.caller_of(&wish);
        // What the store answers must still be true when the answer arrives, so the entry does not depart until then.
        let state = self.queues.engines.get_mut(wish.engine).expect("it is open");
        state.changing.insert(wish.record);
        let lane = state.read;
        turn.errand.entry = state.uid.map(|store| EntryId { store, record: wish.record });
        let after = AfterSubmission::Wanted(wish);
        self.call(lane, caller, Ask::submission(wish.record), after, turn);
        Ok(())
    }

    fn caller_of(&self, wish: &Wish) -> Caller {
        if let Some(member) = wish.member.and_then(|id| self.sessions.members.get(&id)) {
            return Self::caller(member);
        }
        let process = self.peers.connections.get(&wish.asker.connection).map(|c| c.process);
        Caller { session: None, process, priority: Priority::InTurn }
    }

    /// Refuses to change a message that is being transmitted or that another request is changing (QUEUE-9).
    fn refuse_locked(&self, wish: &Wish) -> Result<(), Fault> {
        let Some(state) = self.queues.engines.get(&wish.engine) else { return Ok(()) };
        let flies = state.entries.get(&wish.record).is_some_and(|e| e.flights > 0);
        if flies || state.changing.contains(&wish.record) {
            return Err(locked(wish.change));
        }
        Ok(())
    }

    pub(crate) fn entry_found(
        &mut self,
        wish: Wish,
        result: Result<OneSubmission, ProviderError>,
        turn: &mut Turn,
    ) {
        if let Some(state) = self.queues.engines.get_mut(wish.engine) {
            state.changing.remove(&wish.record);
            state.stirred = true;
        }
        if let Err(fault) = self.change_now(wish, result, turn) {
            self.answer(wish.asker, Err(fault), turn);
        }
    }

    fn change_now(
        &mut self,
        wish: Wish,
        result: Result<OneSubmission, ProviderError>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        if let Some(id) = wish.member {
            self.member(wish.asker, id)?;
        }
        let OneSubmission(stored) = result?;
        self.refuse_locked(&wish)?;
        let open = self.queues.engines.get(&wish.engine).filter(|e| e.is_open());
        let state = open.ok_or_else(|| locked(wish.change))?;
        // The entry in memory is newer than the stored one.
        let known = state.entries.get(&wish.record);
        let mut submission = known.map_or(stored, |entry| entry.submission.clone());
        if submission.state().is_final() {
            return Err(not_in_queue());
        }
        let uid = self.peers.of(wish.asker).map_or(u32::MAX, |p| p.uid);
        if let Err(fault) = self.refuse_change(uid, wish.change, &submission) {
            self.log_refusal(wish.asker, &fault, turn);
            return Err(fault);
        }
        let shown = submission.state();
        apply(wish.change, &mut submission, turn.tick.millis())?;
        let caller = self.caller_of(&wish);
        let state = self.queues.engines.get_mut(wish.engine).expect("looked at before");
        state.forget(wish.record);
        let entry = Entry {
            submission: submission.clone(),
            shown,
            flights: 1,
            tried: Try::Over,
            untold: Untold::default(),
            changed: Changed::All,
        };
        state.entries.insert(wish.record, entry);
        let lane = state.write;
        let now = turn.tick.millis();
        let update = SubmissionUpdate::whole(submission, None, now);
        self.call(lane, caller, Ask::update(update), AfterUpdate::EntryChanged(wish), turn);
        Ok(())
    }

    /// A user may always abort their own submission. Any other change of it takes the right to log on.
    fn refuse_change(
        &self,
        uid: u32,
        change: QueueChange,
        submission: &Submission,
    ) -> Result<(), Fault> {
        let right = self.right_in(uid, &submission.profile);
        let own = submission.uid == uid;
        let (enough, message) = match (own, change) {
            (false, _) => (
                right >= Right::Admin,
                "the message was submitted by another user; it takes the right admin",
            ),
            (true, QueueChange::Abort) => (true, ""),
            (true, _) => (
                right >= Right::Session,
                "this user may submit mail and take it back; the profile's [access] says who may more",
            ),
        };
        if enough { Ok(()) } else { Err(Fault::new(Code::E_NO_ACCESS, message)) }
    }

    pub(crate) fn entry_changed(
        &mut self,
        wish: Wish,
        result: Result<Updated, ProviderError>,
        turn: &mut Turn,
    ) {
        let Wish { asker, member, engine, record, change } = wish;
        let uid = self.store_uid(engine);
        let known = self.queues.engines.get(&engine).and_then(|e| e.entries.get(&record));
        let submission = known.map(|entry| entry.submission.clone());
        let reply = match (&result, &submission, member) {
            (Err(error), ..) => Err(Fault::from(error.clone())),
            (Ok(_), Some(submission), None) => {
                Ok(Reply::Queue { rows: vec![short_enough(submission.row(uid))], next: None })
            }
            (Ok(_), ..) => Ok(Reply::Done),
        };
        self.answer(asker, reply, turn);
        let Some(state) = self.queues.engines.get_mut(engine) else { return };
        if let Err(error) = &result {
            // The stored entry still holds, so it is read again.
            let counted = state.entries.remove(&record).map(|entry| entry.shown);
            state.reload();
            if let Some(counted) = counted.filter(|_| error.effect == Effect::Unknown) {
                self.find_out((engine, record), Doubt::Changed(counted), turn);
            }
            return;
        }
        if state.parked > 0 {
            // The changed entry may have been a parked one.
            state.reload();
        }
        let recording = Recording { engine, record, flight: None, told: Told::default() };
        self.recorded(recording, result, turn);
        let goes = matches!(change, QueueChange::Retry | QueueChange::Release);
        if let Some(submission) = submission.filter(|_| goes) {
            self.revive_for(asker, &submission.profile, turn);
            self.adopt_profile(submission.profile, turn);
        }
    }

    /// Starts a session that sends the profile's messages, unless there is one.
    fn adopt_profile(&mut self, profile: String, turn: &mut Turn) {
        let user = self.settings.owner;
        self.adopt(SessionKey { user, profile }, turn);
    }

    /// Enables the profile's transports again if the asker administers the profile: asking for a retry of its mail includes its
    /// transports.
    fn revive_for(&mut self, asker: Asker, profile: &str, turn: &mut Turn) {
        let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
        if !self.administers(uid, profile) {
            return;
        }
        let of_it = self.sessions.all.of_profile(profile);
        let of_it: Vec<_> = of_it.map(|s| s.id).collect();
        let word = self.number();
        for session in of_it {
            self.revive_transports(session, word, turn);
        }
    }

    /// `IMAPIStatus::FlushQueues`: enables disabled transports again, then flushes one store after the other.
    fn flush_queues(&mut self, asker: Asker, profile: Option<String>, turn: &mut Turn) {
        let user = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
        let right = match &profile {
            Some(profile) => self.right_in(user, profile),
            None => self.right(user, &[]),
        };
        if right < Right::Session {
            let message =
                "this user may not flush this queue; name a profile whose [access] allows it";
            return self.refuse(asker, Fault::new(Code::E_NO_ACCESS, message), turn);
        }
        let all = right >= Right::Admin;
        if all {
            let wanted = |s: &&Session| profile.as_ref().is_none_or(|p| *p == s.key.profile);
            let sessions: Vec<_> =
                self.sessions.all.values().filter(wanted).map(|s| s.id).collect();
            let word = self.number();
            for session in sessions {
                self.revive_transports(session, word, turn);
            }
        }
        let (uid, engine) = ((!all).then_some(user), EngineId(0));
        let whose = Flush::All { asker, found: 0 };
        self.flush_next(Flushing { whose, profile, uid, engine, found: 0 }, turn);
    }

    fn flush_next(&mut self, flushing: Flushing, turn: &mut Turn) {
        let behind = (std::ops::Bound::Excluded(flushing.engine), std::ops::Bound::Unbounded);
        let next = self.queues.engines.range(behind).map(|(_, e)| e).find(|e| e.is_open());
        match next.map(|e| e.id) {
            Some(engine) => self.hasten(Flushing { engine, found: 0, ..flushing }, 0, turn),
            None => self.flushed(flushing, turn),
        }
    }

    /// Makes one slice of a store due. Other writes are served between two slices.
    pub(crate) fn hasten(&mut self, flushing: Flushing, after: u64, turn: &mut Turn) {
        let Some(lane) = self.queues.engines.get(&flushing.engine).map(|e| e.write) else { return };
        let (profile, uid) = (flushing.profile.clone(), flushing.uid);
        let hasten = Ask::hasten(profile, uid, after, turn.tick.millis());
        self.call(lane, Caller::broker(None), hasten, flushing, turn);
    }

    pub(crate) fn hastened(
        &mut self,
        mut flushing: Flushing,
        result: Result<Hastened, ProviderError>,
        turn: &mut Turn,
    ) {
        let (failed, next) = match result {
            Ok(Hastened { found, next }) => {
                flushing.found = flushing.found.saturating_add(found);
                (self.refuse_while_stopping().err(), next)
            }
            Err(error) => (Some(Fault::from(error)), None),
        };
        // A store that is closing or lost takes no further slice.
        let open = self.queues.engines.get(&flushing.engine).is_some_and(Engine::is_open);
        if let Some(after) = next.filter(|_| open && failed.is_none()) {
            return self.hasten(flushing, after, turn);
        }
        let cut_short = || {
            Fault::new(
                Code::E_CALL_FAILED,
                "the store was closed before all of its mail was made due; flush again",
            )
        };
        let failed = failed.or_else(|| next.map(|_| cut_short()));
        if let Some(engine) =
            self.queues.engines.get_mut(flushing.engine).filter(|_| flushing.found > 0)
        {
            engine.start_over();
        }
        match (&mut flushing.whose, failed) {
            (Flush::Store, _) => {}
            (Flush::All { asker, .. }, Some(fault)) => {
                let asker = *asker;
                self.answer(asker, Err(fault), turn);
            }
            (Flush::All { found, .. }, None) => {
                *found = found.saturating_add(flushing.found);
                self.flush_next(flushing, turn);
            }
        }
    }

    fn flushed(&mut self, flushing: Flushing, turn: &mut Turn) {
        let Flush::All { asker, found } = flushing.whose else { return };
        if let Some(profile) = flushing.profile.filter(|_| found > 0) {
            self.adopt_profile(profile, turn);
        }
        self.answer(asker, Ok(Reply::Flushed(found)), turn);
    }

    pub(crate) fn queue(
        &mut self,
        asker: Asker,
        profile: Option<String>,
        action: QueueAction,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        if let Some(profile) = profile {
            return self.queue_in(asker, profile, action, turn);
        }
        let newest = self.sessions.all.keys().next_back().copied().unwrap_or(SessionId(0));
        self.queues(asker, action, (SessionId(0), newest), turn)
    }

    /// Lists or changes the queues of all open stores. First it waits for the sessions after `behind`, up to `newest`, that are
    /// opening their stores, because their entries must not be missing. It does not wait for sessions that begin later.
    fn queues(
        &mut self,
        asker: Asker,
        action: QueueAction,
        (behind, newest): (SessionId, SessionId),
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        use std::ops::Bound::{Excluded, Included};
        if behind < newest {
            let mut sessions = self.sessions.all.range_mut((Excluded(behind), Included(newest)));
            if let Some((_, session)) = sessions.find(|(_, session)| session.opens_stores()) {
                session.waiting.push(Waiting::Queues { asker, action, newest });
                return Ok(());
            }
        }
        if self.open_engines().next().is_none() {
            return self.queue_in(asker, "default".into(), action, turn);
        }
        self.queue_of(asker, None, &action, turn);
        Ok(())
    }

    /// Continues `queues` after session `behind`, which has started or failed to start.
    pub(crate) fn queues_behind(
        &mut self,
        behind: SessionId,
        newest: SessionId,
        (asker, action): (Asker, QueueAction),
        turn: &mut Turn,
    ) {
        if let Err(fault) = self.queues(asker, action, (behind, newest), turn) {
            self.answer(asker, Err(fault), turn);
        }
    }

    /// Continues the requests that waited for the stores of a session that failed to start. They go on without its stores and do
    /// not report the failure.
    pub(crate) fn pass_over(&mut self, id: SessionId, others: Vec<Waiting>, turn: &mut Turn) {
        for waiting in others {
            let Waiting::Queues { asker, action, newest } = waiting else { continue };
            if self.peers.of(asker).is_none() {
                self.peers.processes.pay_left_behind(asker);
                continue;
            }
            match self.departure(asker.process) {
                Departure::Doing => {
                    let request = Box::new(Request::Queue { profile: None, action });
                    self.hold(Held::Request { asker, request });
                }
                Departure::Done => self.answer(asker, Err(shut_down()), turn),
                Departure::No => self.queues_behind(id, newest, (asker, action), turn),
            }
        }
    }

    /// Answers a queue request for one profile. Its session is started for that.
    fn queue_in(
        &mut self,
        asker: Asker,
        profile: String,
        action: QueueAction,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        self.refuse_while_stopping()?;
        let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
        let key = SessionKey { user: self.session_user(uid), profile: profile.clone() };
        if !self.sessions.joinable.contains_key(&key) {
            self.refuse_doomed(&profile)?;
        }
        self.with_session(key, Waiting::Queue(asker, profile, action), turn);
        Ok(())
    }

    fn open_engines(&self) -> impl Iterator<Item = &Engine> {
        self.queues.engines.values().filter(|engine| engine.is_open())
    }

    /// The open store with the lowest slot that is not below `slot`.
    fn next_open_engine(&self, slot: u64) -> Option<&Engine> {
        self.open_engines().filter(|e| e.slot >= slot).min_by_key(|e| e.slot)
    }

    /// Carries out a queue request on the open stores. A list covers one store after the other, a page at a time.
    pub(crate) fn queue_of(
        &mut self,
        asker: Asker,
        profile: Option<String>,
        action: &QueueAction,
        turn: &mut Turn,
    ) {
        match action {
            QueueAction::List { all, after, limit } => {
                self.list_queue(asker, profile, *all, (*after, *limit), turn);
            }
            QueueAction::Show(entry) => self.show_entry(asker, profile, *entry, turn),
            QueueAction::Change(entry, change) => self.change(asker, *entry, *change, turn),
            QueueAction::Flush => self.flush_queues(asker, profile, turn),
        }
    }

    fn list_queue(
        &mut self,
        asker: Asker,
        profile: Option<String>,
        all: bool,
        (after, limit): (u64, u32),
        turn: &mut Turn,
    ) {
        let (slot, after) = (after >> CURSOR_BITS, after & (CURSORS - 1));
        let Some(asked) = self.next_open_engine(slot) else {
            return self.answer(asker, Ok(Reply::Queue { rows: Vec::new(), next: None }), turn);
        };
        // The store that was being listed may have closed meanwhile.
        let after = if asked.slot == slot { after } else { 0 };
        let (engine, lane, slot) = (asked.id, asked.read, asked.slot);
        let ask = Ask::queue(all, after, limit.clamp(1, MAX_QUEUE_ROWS));
        let listing = Listing { asker, engine, profile, slot };
        self.call(lane, Caller::broker(None), ask, listing, turn);
    }

    fn show_entry(
        &mut self,
        asker: Asker,
        profile: Option<String>,
        entry: EntryId,
        turn: &mut Turn,
    ) {
        let asked = self.open_engines().find(|e| e.uid == Some(entry.store));
        let Some((engine, lane)) = asked.map(|e| (e.id, e.read)) else {
            return self.answer(asker, Err(not_in_queue()), turn);
        };
        let after = AfterSubmission::Shown { asker, engine, profile };
        self.call(lane, Caller::broker(None), Ask::submission(entry.record), after, turn);
    }

    /// Answers with the `Message-ID` of an entry that the asker may see.
    pub(crate) fn identify_entry(
        &mut self,
        asker: Asker,
        entry: EntryId,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let asked = self.open_engines().find(|e| e.uid == Some(entry.store));
        let (engine, lane) = asked.map(|e| (e.id, e.read)).ok_or_else(not_in_queue)?;
        let after = AfterSubmission::Identified { asker, engine };
        self.call(lane, Caller::broker(None), Ask::submission(entry.record), after, turn);
        Ok(())
    }

    pub(crate) fn entry_identified(
        &mut self,
        asker: Asker,
        engine: EngineId,
        result: Result<OneSubmission, ProviderError>,
        turn: &mut Turn,
    ) {
        let lane = self.queues.engines.get(&engine).filter(|e| e.is_open()).map(|e| e.read);
        let found = result.map_err(Fault::from).and_then(|OneSubmission(submission)| {
            let seen = self.may_see(asker, None, &submission);
            lane.filter(|_| seen).map(|lane| (lane, submission.record)).ok_or_else(not_in_queue)
        });
        match found {
            Ok((lane, record)) => {
                let after = AfterPiece::Identified(asker);
                self.call(lane, Caller::broker(None), Ask::piece(record, 0), after, turn);
            }
            Err(fault) => self.answer(asker, Err(fault), turn),
        }
    }

    /// Whether the asker may see a submission. If a profile is named, only its submissions are visible.
    fn may_see(&self, asker: Asker, profile: Option<&str>, submission: &Submission) -> bool {
        let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
        profile.is_none_or(|p| p == submission.profile)
            && (submission.uid == uid || self.administers(uid, &submission.profile))
    }

    pub(crate) fn entry_shown(
        &mut self,
        asker: Asker,
        (engine, profile): (EngineId, Option<&str>),
        result: Result<OneSubmission, ProviderError>,
        turn: &mut Turn,
    ) {
        let shown = result.map_err(Fault::from).and_then(|OneSubmission(submission)| {
            if !self.may_see(asker, profile, &submission) {
                return Err(not_in_queue());
            }
            let row = short_enough(self.row(engine, &submission, turn.tick.millis()));
            Ok(Reply::Queue { rows: vec![row], next: None })
        });
        self.answer(asker, shown, turn);
    }

    pub(crate) fn queue_listed(
        &mut self,
        listing: &Listing,
        result: Result<Queue, ProviderError>,
        turn: &mut Turn,
    ) {
        let asker = listing.asker;
        let reply = result
            .map_err(Fault::from)
            .and_then(|page| self.queue_page(listing, page, turn.tick.millis()));
        self.answer(asker, reply, turn);
    }

    /// A submission as the queue shows it. The entry in memory may be newer, but it is not durable. The next try is shown as it
    /// will be: the stored time may be from before the clock was set back.
    fn row(&self, engine: EngineId, submission: &Submission, now: u64) -> QueueRow {
        let mut row = submission.row(self.store_uid(engine));
        let known =
            self.queues.engines.get(&engine).and_then(|e| e.entries.get(&submission.record));
        let sooner = match known {
            Some(entry) => Some(entry.submission.due),
            None => self.latest_try(engine, submission, now),
        };
        let stored = row.next_attempt;
        row.next_attempt = stored.map(|stored| sooner.map_or(stored, |due| stored.min(due)));
        row
    }

    /// The rows of a store that fit into a frame, and the cursor of the next page.
    fn queue_page(
        &self,
        Listing { asker, engine, profile, slot }: &Listing,
        Queue { rows, next }: Queue,
        now: u64,
    ) -> Result<Reply, Fault> {
        self.queues.engines.get(engine).ok_or_else(not_in_queue)?;
        let mut page = Vec::new();
        let (mut room, mut last) = (PAGE_BYTES, None);
        let mut next = next;
        for submission in rows {
            if !self.may_see(*asker, profile.as_deref(), &submission) {
                continue;
            }
            let row = self.row(*engine, &submission, now);
            let size = wire_size(&row);
            if size > room && !page.is_empty() {
                next = last;
                break;
            }
            room = room.saturating_sub(size);
            last = Some(submission.order);
            page.push(short_enough(row));
        }
        let next = match next {
            Some(after) => Some(slot << CURSOR_BITS | after),
            None => self.next_open_engine(slot + 1).map(|e| e.slot << CURSOR_BITS),
        };
        Ok(Reply::Queue { rows: page, next })
    }
}
