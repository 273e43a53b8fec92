//! Logoffs: leaves a session in all its ways, ends a session for all its members, and closes it after the last departure.
//!
//! A session closes in phases: transports and mailboxes, then address books, then stores. A later kind is not called before the earlier kind has
//! answered or used up its time. A missing answer never keeps a session open (PLOG-5).

use std::collections::BTreeMap;
use std::time::Duration;

use sundown_protocol::notification::{Departure, EndReason, LeaveReason};
use sundown_protocol::reply::{LoggedOff, Peer, Reply};
use sundown_protocol::request::{Logoff, LogoffFlags};
use sundown_protocol::{Code, Event as News, Fault, FaultDetail, MemberId, SessionId};

use crate::broker::Broker;
use crate::flows::leaving::shutdown::shut_down;
use crate::ground::event::Turn;
use crate::ground::provider::{MessageContent, ProviderType};
use crate::ground::settings::{Linger, Right, SharedLogoff};
use crate::ground::timers::Timer;
use crate::peers::connection::Asker;
use crate::peers::quota::Quota;
use crate::providers::ask::Ask;
use crate::providers::calls::Caller;
use crate::providers::view::ProviderState;
use crate::queue::engine::Engine;
use crate::sessions::member::{Leaving, Member, MemberState, WaitForOthers};
use crate::sessions::object::Object;
use crate::sessions::session::{MailAfter, Session, SessionState};
use crate::then::AfterDone;

/// How long a logoff waits for references to be released if they may not be cut off and no drain sets the time.
const REFERENCES: Duration = Duration::from_secs(30);

/// How much more time a session that was opened for its queue gets to read it when its linger time is over. The time is renewed
/// while the queue is unread.
const READING: Duration = Duration::from_secs(5);

/// The most departures in one notice, which keeps it far below the size of a frame.
const DEPARTURES: usize = 4_096;

impl Broker {
    pub(crate) fn logoff(
        &mut self,
        asker: Asker,
        logoff: &Logoff,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let Logoff { member: id, flags, drain } = *logoff;
        if flags.0 & !LogoffFlags::KNOWN != 0 {
            let unknown = flags.0 & !LogoffFlags::KNOWN;
            let message = format!("logoff flags 0x{unknown:X} are not known");
            return Err(Fault::new(Code::E_UNKNOWN_FLAGS, message));
        }
        let session_id = self.attached(asker, id)?.session;
        let before = turn.effects.len();
        if flags.contains(LogoffFlags::SHARED) {
            self.end_shared(asker, id, flags, turn)?;
        }
        let session = &self.sessions.all[&session_id];
        let now = turn.tick.boot;
        let drain = drain.filter(|_| !flags.contains(LogoffFlags::CRITICAL));
        let mut until = drain.map(|millis| now + Duration::from_millis(millis));
        if let SessionState::Ending { deadline: Some(end), .. } = session.state {
            until = until.map(|until| until.min(end));
        }
        let durable = now + self.settings.shutdown.deadline;
        let member = self.sessions.members.get_mut(&id).expect("looked at before");
        let wait =
            if flags.contains(LogoffFlags::WAIT) { WaitForOthers::Yes } else { WaitForOthers::No };
        let began_with = member.waits_for();
        member.state = MemberState::Draining(Leaving {
            asker,
            wait,
            drain: until,
            references: until.unwrap_or(now + REFERENCES),
            durable,
            began_with,
            told: began_with,
        });
        self.hurry(id, turn);
        self.check_leaving(id, turn);
        turn.answer_first(before, asker.connection, asker.request);
        Ok(())
    }

    /// Ends a shared session for all its members. Does nothing if the session is private or already ended; refuses if the member
    /// may not end it (design §3.2).
    fn end_shared(
        &mut self,
        asker: Asker,
        id: MemberId,
        flags: LogoffFlags,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.member(asker, id)?;
        let session = self.session_of(member);
        if !session.is_shared() || !session.is_joinable() {
            return Ok(());
        }
        self.may_end(session, id, flags)?;
        let by = self.peer(id);
        let session_id = session.id;
        let grace = self.settings.shutdown.grace;
        let deadline = grace.map(|grace| turn.tick.boot + grace);
        let session = self.sessions.all.get_mut(session_id).expect("looked at just before");
        session.state = SessionState::Ending { by: by.clone(), deadline };
        let others: Vec<_> = session.members.iter().copied().filter(|m| *m != id).collect();
        self.sessions.joinable.remove(&session.key);
        if let Some(deadline) = deadline {
            self.timers.set(deadline, Timer::Grace(session_id));
        }
        self.keep_end(session_id, turn);
        for other in others {
            let news = News::CriticalError {
                code: Code::E_END_OF_SESSION,
                reason: EndReason::SharedLogoff,
                by: Some(by.clone()),
                grace: grace.map(|g| g.as_millis() as u64),
            };
            self.tell_always(other, news, turn);
            self.cap_drain(other, deadline, turn);
        }
        Ok(())
    }

    fn may_end(&self, session: &Session, id: MemberId, flags: LogoffFlags) -> Result<(), Fault> {
        if flags.contains(LogoffFlags::FORCE) {
            let uid = self
                .peers
                .processes
                .get(self.sessions.members[&id].process)
                .map_or(u32::MAX, |p| p.uid);
            if self.right(uid, &session.profile().access) >= Right::Admin {
                return Ok(());
            }
        }
        let owner = *session.members.first().expect("who asks is one of them");
        // The owner is a process, so any of its members may end the session.
        let owns = self.sessions.members[&owner].process == self.sessions.members[&id].process;
        match self.settings.shutdown.shared_logoff {
            SharedLogoff::Any => Ok(()),
            SharedLogoff::Owner if owns => Ok(()),
            SharedLogoff::Owner => {
                let owner = self.peer(owner);
                let message = format!(
                    "the shared session belongs to {} (pid {}), and shared_logoff is \"owner\"; \
                     log off without the shared flag, or use force as an administrator",
                    owner.program, owner.pid
                );
                Err(Fault::new(Code::E_NO_ACCESS, message).with(FaultDetail::Owner(owner)))
            }
            SharedLogoff::Deny => {
                let message = "no member may end a shared session for the others: shared_logoff is \"deny\"; \
                               log off without the shared flag, or use force as an administrator";
                let owner = FaultDetail::Owner(self.peer(owner));
                Err(Fault::new(Code::E_NO_ACCESS, message).with(owner))
            }
        }
    }

    /// Limits a drain that began earlier to the grace.
    fn cap_drain(&mut self, id: MemberId, deadline: Option<Duration>, turn: &mut Turn) {
        let Some(member) = self.sessions.members.get_mut(&id) else { return };
        if let (MemberState::Draining(leaving), Some(end)) = (&mut member.state, deadline) {
            leaving.drain = leaving.drain.map(|until| until.min(end));
            self.timers.set_no_later(end.max(turn.tick.boot), Timer::Leaving(id));
        }
    }

    /// Finishes a logoff if it has what it waits for; otherwise sets the timer for how long it waits.
    pub(crate) fn check_leaving(&mut self, id: MemberId, turn: &mut Turn) {
        let held = self.is_held(id);
        // A process whose Do succeeded is about to be torn down. Its logoff is answered then.
        let done = self.sessions.members.get(&id).is_some_and(|m| self.is_done(m.process));
        let Some(member) = self.sessions.members.get_mut(&id).filter(|_| !done) else { return };
        let waiting = member.waits_for();
        let MemberState::Draining(leaving) = &mut member.state else { return };
        let now = turn.tick.boot;
        if member.unwritten > 0 && now < leaving.durable {
            return self.timers.set(leaving.durable, Timer::Leaving(id));
        }
        if member.unwritten > 0 || !member.failed.is_empty() {
            return self.refuse_leaving(id, turn);
        }
        if held && now >= leaving.references {
            return self.refuse_leaving(id, turn);
        }
        if held {
            return self.timers.set(leaving.references, Timer::Leaving(id));
        }
        if let Some(until) = leaving.drain.filter(|until| now < *until && waiting > 0) {
            self.timers.set(until, Timer::Leaving(id));
            let began_with = leaving.began_with.max(waiting);
            if std::mem::replace(&mut leaving.told, waiting) != waiting {
                let finished = began_with - waiting;
                self.tell_asked(id, &News::LogoffProgress { waiting, finished }, turn);
            }
            return;
        }
        let (asker, wait) = (leaving.asker, leaving.wait);
        let before = turn.effects.len();
        let (session, mut account) = (member.session, member.account());
        for (engine, unfollowed) in &member.unfollowed {
            let engine = self.queues.engines.get(engine);
            account.queued += engine.map_or(0, |engine| engine.at_most(*unfollowed));
        }
        let discarded = self.remove_member(id, LeaveReason::LoggedOff, turn);
        let account = LoggedOff { discarded, ..account };
        self.answer_leaver(session, asker, wait, account, turn);
        turn.answer_first(before, asker.connection, asker.request);
    }

    fn answer_leaver(
        &mut self,
        id: SessionId,
        asker: Asker,
        wait: WaitForOthers,
        account: LoggedOff,
        turn: &mut Turn,
    ) {
        let still_there = self.sessions.all.get_mut(id).filter(|s| !s.members.is_empty());
        match (wait, still_there) {
            (WaitForOthers::Yes, Some(session)) if !session.is_joinable() => {
                session.leavers.push((asker, account));
                if let Some(connection) = self.peers.connections.get_mut(&asker.connection) {
                    connection.leaving.push(id);
                }
            }
            _ => self.answer(asker, Ok(Reply::LoggedOff(account)), turn),
        }
    }

    /// Refuses a logoff because its writes could not be made durable or its objects are still held. The member stays and is told
    /// once.
    fn refuse_leaving(&mut self, id: MemberId, turn: &mut Turn) {
        let member = self.sessions.members.get_mut(&id).expect("it is leaving");
        let state = std::mem::replace(&mut member.state, MemberState::Attached);
        let MemberState::Draining(leaving) = state else { return };
        self.timers.clear(Timer::Leaving(id));
        let unwritten = member.unwritten > 0;
        let fault = if member.failed.is_empty() && !unwritten {
            crate::flows::working::grants::held_by(self.holders(id))
        } else if member.failed.is_empty() {
            let message = "the store did not make everything durable in time; \
                           you are still logged on, try again";
            Fault::new(Code::E_TIMEOUT, message)
        } else {
            Self::failed_fault(std::mem::take(&mut member.failed))
        };
        self.answer(leaving.asker, Err(fault), turn);
    }

    /// Removes a member from its session. Returns the number of its unsaved drafts.
    pub(crate) fn remove_member(
        &mut self,
        id: MemberId,
        reason: LeaveReason,
        turn: &mut Turn,
    ) -> u64 {
        let Some((session, departure, drafts)) = self.take_out(id, reason, turn) else { return 0 };
        self.tell_departed(session, &[departure], turn);
        drafts
    }

    /// Removes a member from its session. Returns the session, the departure to report, and the number of unsaved drafts.
    fn take_out(
        &mut self,
        id: MemberId,
        reason: LeaveReason,
        turn: &mut Turn,
    ) -> Option<(SessionId, Departure, u64)> {
        let mut member = self.sessions.members.remove(&id)?;
        // A process whose Do succeeded counts as left, even if it crashes before its objects are freed.
        let reason = if self.is_done(member.process) { LeaveReason::FastShutdown } else { reason };
        self.sessions.departures[reason as usize] += 1;
        if let Some(connection) = self.peers.connections.get_mut(&member.connection) {
            connection.members.remove(&id);
            connection.remember(id, reason);
        }
        for (what, count) in [
            (Quota::Members, 1),
            (Quota::Objects, member.objects.len()),
            (Quota::Registrations, member.advises.len()),
            (Quota::Grants, member.waiting_grants.len()),
        ] {
            self.peers.processes.pay_back(member.process, what, count);
        }
        for (engine, record) in member.pending.keys() {
            if let Some(engine) = self.queues.engines.get_mut(*engine) {
                engine.disown(*record, id);
            }
        }
        for engine in member.unfollowed.keys() {
            if let Some(engine) = self.queues.engines.get_mut(*engine) {
                engine.unfollowed.remove(&id);
            }
        }
        if let MemberState::Draining(leaving) = &member.state {
            self.timers.clear(Timer::Leaving(id));
            if reason != LeaveReason::LoggedOff {
                self.answer(leaving.asker, Err(ended(reason)), turn);
            }
        }
        for asker in std::mem::take(&mut member.flushes) {
            self.answer(asker, Err(ended(reason)), turn);
        }
        self.end_grants(&member.waiting_grants, std::mem::take(&mut member.references), turn);
        self.note_lost(member.process, std::mem::take(&mut member.failed));
        let drafts = self.settle_drafts(&mut member, reason, turn);
        let session = self.sessions.all.get_mut(member.session).expect("it outlives its members");
        session.members.remove(&id);
        if session.has_mailboxes() {
            self.sessions.unsettled.insert(member.session);
        }
        session.with_mail -= usize::from(member.has_mail());
        session.listeners.remove(&id);
        session.curious.remove(&id);
        Some((member.session, Departure { member: id, reason }, drafts))
    }

    /// Reports departures to the members that registered for them, and checks whether the session has a reason to stay.
    fn tell_departed(&mut self, id: SessionId, departures: &[Departure], turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        let curious: Vec<_> = session.curious.iter().copied().collect();
        for departures in departures.chunks(DEPARTURES) {
            let news = match departures {
                [Departure { member, reason }] => {
                    News::MemberLeft { member: *member, reason: *reason }
                }
                many => News::MembersLeft(many.to_vec()),
            };
            for other in &curious {
                self.tell_asked(*other, &news, turn);
            }
        }
        self.check_vacated(id, turn);
    }

    /// Discards a member's unsaved drafts on a logoff, as documented; every other departure keeps them (design §3.9).
    fn settle_drafts(&mut self, member: &mut Member, reason: LeaveReason, turn: &mut Turn) -> u64 {
        let draft = |object| match object {
            Object::Draft(draft) => Some(draft),
            _ => None,
        };
        let drafts: Vec<_> = member.objects.drain().filter_map(draft).collect();
        let count = drafts.len() as u64;
        for draft in drafts {
            if reason != LeaveReason::LoggedOff {
                self.recover_draft(member, draft, turn);
                continue;
            }
            self.peers.processes.accounts.give_back(draft.charge);
            if let MessageContent::Uploaded(number) = draft.content {
                self.discard(member, draft.store, number, turn);
            }
        }
        for (_, upload) in std::mem::take(&mut member.uploads) {
            self.peers.processes.accounts.give_back(upload.charge);
            self.discard(member, upload.store, upload.number, turn);
        }
        count
    }

    /// Evicts the members that are left when the grace of a shared logoff is over.
    pub(crate) fn grace_over(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        if !matches!(session.state, SessionState::Ending { .. }) {
            return;
        }
        for member in session.members.clone() {
            self.check_leaving(member, turn);
        }
        let Some(session) = self.sessions.all.get(&id) else { return };
        let stay: Vec<_> = session.members.iter().copied().collect();
        self.note_stayed(id, &stay);
        for member in &stay {
            self.tell_always(*member, News::Evicted, turn);
        }
        self.remove_members(stay, LeaveReason::Evicted, turn);
    }

    /// Records the processes that stayed past the end of their session, for the logoffs that wait for it. A process whose Do
    /// succeeded counts as left, even before it is torn down.
    pub(crate) fn note_stayed(&mut self, id: SessionId, members: &[MemberId]) {
        let stayed = members.iter().filter(|id| !self.is_done(self.sessions.members[id].process));
        let stayed: Vec<_> = stayed.map(|member| self.peer(*member)).collect();
        if let Some(session) = self.sessions.all.get_mut(id) {
            session.evicted.extend(stayed);
        }
    }

    /// Removes members that leave together. They are not told of each other's departures, because notices of thousands to thousands
    /// would fill the memory. The other members are told of all in one notice.
    pub(crate) fn remove_members(
        &mut self,
        members: Vec<MemberId>,
        reason: LeaveReason,
        turn: &mut Turn,
    ) {
        if let [alone] = members[..] {
            self.remove_member(alone, reason, turn);
            return;
        }
        for id in &members {
            let session = self.sessions.members.get(id).map(|member| member.session);
            if let Some(session) = session.and_then(|id| self.sessions.all.get_mut(id)) {
                session.curious.remove(id);
            }
        }
        let mut departed: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for id in members {
            if let Some((session, departure, _)) = self.take_out(id, reason, turn) {
                departed.entry(session).or_default().push(departure);
            }
        }
        for (session, departures) in departed {
            self.tell_departed(session, &departures, turn);
        }
    }

    /// Checks after a departure, or after mail went out, whether a session has a reason to stay. If not, it closes.
    pub(crate) fn check_vacated(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        let idle = matches!(
            session.state,
            SessionState::Active | SessionState::Memberless | SessionState::Ending { .. }
        );
        if !idle || !session.members.is_empty() {
            return;
        }
        let now = turn.tick.millis();
        if session.is_joinable() && self.stopping.is_none() && self.lingers(session, now) {
            let linger = self.settings.shutdown.linger;
            let session = self.sessions.all.get_mut(id).expect("looked at just before");
            if session.state != SessionState::Memberless {
                session.state = SessionState::Memberless;
                if let Linger::For(time) = linger {
                    self.timers.set(turn.tick.boot + time, Timer::Linger(id));
                }
            }
            return;
        }
        self.close_session(id, turn);
    }

    fn lingers(&self, session: &Session, now: u64) -> bool {
        let is_lost = |engine| self.queues.engines.get(&engine).is_some_and(Engine::is_lost);
        if session.engines().any(|(_, engine)| is_lost(engine)) {
            return false;
        }
        // A session that was opened for its queue reads it, to give up messages that are too old, even if it sends nothing.
        (session.adopted || self.settings.shutdown.linger != Linger::Off)
            && session.engines().any(|(_, engine)| self.has_work(engine, session, now))
    }

    pub(crate) fn linger_over(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        if session.state != SessionState::Memberless {
            return;
        }
        // A session that was opened for its queue reads it first.
        let reads = |(_, engine)| self.queues.engines.get(&engine).is_some_and(Engine::reads);
        if session.adopted && session.engines().any(reads) {
            self.timers.set(turn.tick.boot + READING, Timer::Linger(id));
        } else {
            self.close_session(id, turn);
        }
    }

    /// Begins to close a session without members.
    pub(crate) fn close_session(&mut self, id: SessionId, turn: &mut Turn) {
        let session = &self.sessions.all[&id];
        let mail = match session.state {
            SessionState::Ending { .. } => MailAfter::GoesOn,
            SessionState::Active if !session.is_shared() => MailAfter::GoesOn,
            _ => MailAfter::Waits,
        };
        self.close_session_and(id, mail, turn);
    }

    fn close_session_and(&mut self, id: SessionId, mail: MailAfter, turn: &mut Turn) {
        let session = self.sessions.all.get_mut(id).expect("who closes it has it");
        if self.sessions.joinable.get(&session.key) == Some(&id) {
            self.sessions.joinable.remove(&session.key);
        }
        let (leavers, stayed) =
            (std::mem::take(&mut session.leavers), std::mem::take(&mut session.evicted));
        session.mail = mail;
        session.state = SessionState::Closing { phase: 0 };
        self.timers.clear(Timer::Grace(id));
        self.timers.clear(Timer::Linger(id));
        for (asker, account) in leavers {
            if let Some(connection) = self.peers.connections.get_mut(&asker.connection) {
                connection.leaving.retain(|session| *session != id);
            }
            let account = LoggedOff { stayed: stayed.clone(), ..account };
            self.answer(asker, Ok(Reply::LoggedOff(account)), turn);
        }
        self.enter_phase(id, 0, turn);
    }

    /// Calls Logoff on every provider of a phase's kind. Transports first finish what they have begun (PLOG-7).
    fn enter_phase(&mut self, id: SessionId, phase: u32, turn: &mut Turn) {
        let session = self.sessions.all.get_mut(id).expect("a closing session exists");
        session.state = SessionState::Closing { phase };
        if session.has_mailboxes() {
            self.sessions.unsettled.insert(id);
        }
        if (phase as usize) < ProviderType::SHUTDOWN_ORDER.len() {
            let deadline = turn.tick.boot + self.patience(phase as usize);
            self.timers.set(deadline, Timer::Closing(id));
        }
        self.advance_phase(id, turn);
    }

    /// How long the providers of a phase may take to log off. A broker that stops at once waits only for stores.
    fn patience(&self, phase: usize) -> Duration {
        if self.stops_now() && phase != ProviderType::Store.phase() {
            return Duration::ZERO;
        }
        self.settings.shutdown.deadline
    }

    /// Stops waiting for the transports and address books of closing sessions.
    pub(crate) fn hasten_closing(&mut self, turn: &mut Turn) {
        for session in self.sessions.all.values() {
            if let SessionState::Closing { phase } = session.state
                && phase as usize != ProviderType::Store.phase()
            {
                self.timers.set(turn.tick.boot, Timer::Closing(session.id));
            }
        }
    }

    /// Continues to close a session as far as its providers have answered.
    pub(crate) fn advance_phase(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let SessionState::Closing { phase } = session.state else {
            if session.version.leaving {
                self.log_off_leaving(id, turn);
            }
            return;
        };
        if phase as usize == ProviderType::SHUTDOWN_ORDER.len() {
            return self.end_session(id, turn);
        }
        let mut calls = Vec::new();
        let mut busy = false;
        for (place, provider) in session.providers.iter_mut().enumerate() {
            if provider.kind.phase() != phase as usize {
                continue;
            }
            match &provider.state {
                ProviderState::Available | ProviderState::Failed(_)
                    if provider.in_flight + provider.unanswered > 0 =>
                {
                    busy = true;
                }
                ProviderState::Available => {
                    provider.state = ProviderState::LoggingOff;
                    calls.push((provider.lane, place));
                    busy = true;
                }
                ProviderState::LoggingOff | ProviderState::LoggingOn(_) => busy = true,
                ProviderState::Configured | ProviderState::Failed(_) | ProviderState::Gone => {
                    provider.state = ProviderState::Gone;
                }
            }
        }
        for (lane, place) in calls {
            let after = AfterDone::LoggedOff(id, place);
            self.call(lane, Caller::broker(Some(id)), Ask::logoff(), after, turn);
        }
        if !busy {
            self.enter_phase(id, phase + 1, turn);
        }
    }

    pub(crate) fn provider_logged_off(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        session.providers[place].state = ProviderState::Gone;
        if session.closes() {
            self.advance_phase(id, turn);
        } else {
            self.has_left(id, place, turn);
        }
    }

    /// Abandons the providers of a phase that did not answer in time.
    pub(crate) fn phase_over(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let SessionState::Closing { phase } = session.state else { return };
        let mut left = Vec::new();
        for (place, provider) in session.providers.iter_mut().enumerate() {
            if provider.kind.phase() != phase as usize {
                continue;
            }
            self.timers.clear(Timer::Logon(id, place));
            if provider.state != ProviderState::Gone {
                provider.state = ProviderState::Gone;
                left.push(provider.lane);
            }
        }
        if phase as usize == ProviderType::Transport.phase() {
            self.abandon_flights(id, &left, turn);
        }
        self.advance_phase(id, turn);
    }

    fn end_session(&mut self, id: SessionId, turn: &mut Turn) {
        let session = self.sessions.all.remove(id).expect("it was closing");
        self.timers.clear(Timer::Closing(id));
        for place in 0..session.providers.len() {
            self.timers.clear(Timer::Reach(id, place));
        }
        for process in &session.kept_by {
            if let Some(process) = self.peers.processes.get_mut(*process) {
                process.forget_session(id);
            }
        }
        self.end_closed(session.tag, turn);
        if session.mail == MailAfter::Waits {
            self.remember_what_waits(&session, turn);
        }
        for provider in &session.providers {
            match provider.engine {
                Some(engine) => self.detach_engine(engine, id, turn),
                None => self.close_lane(provider.lane, turn),
            }
        }
        let goes_on = session.mail == MailAfter::GoesOn;
        let profile = session.key.profile.clone();
        let now = turn.tick.millis();
        let works = |(_, engine)| self.has_work(engine, &session, now);
        let goes_on = goes_on && session.engines().any(works);
        self.peers.processes.accounts.give_back(session.charge);
        if goes_on {
            self.adopt(session.key, turn);
        }
        self.profile_released(&profile, turn);
    }

    /// A member's process, as shown to people.
    pub(crate) fn peer(&self, id: MemberId) -> Peer {
        let process =
            self.sessions.members.get(&id).and_then(|m| self.peers.processes.get(m.process));
        let nobody = || Peer { pid: 0, program: "unknown".into() };
        process.map_or_else(nobody, |p| p.peer.clone())
    }
}

/// What the waiting requests of a member are answered when it leaves without them.
fn ended(reason: LeaveReason) -> Fault {
    match reason {
        LeaveReason::FastShutdown => shut_down(),
        _ => Fault::new(Code::E_END_OF_SESSION, "the session ended while this was waiting"),
    }
}
