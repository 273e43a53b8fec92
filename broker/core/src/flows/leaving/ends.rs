//! Ends of shared sessions, kept across a restart of the broker.
//!
//! ```text
//!  shared logoff ──kept, then told──► Ending ──closed──► kept a while ──► forgotten
//!                                        ▲
//!        next broker: a member returns ──┘ within the grace; after it, MAPI_E_END_OF_SESSION
//! ```
//!
//! A shared logoff is final (SEED-4): a broker that dies within the grace must not undo it. So each end is stored in the runtime
//! directory before the first member is told. A client that comes back names the session by its *tag*, 128 bits, 64 of them random,
//! and says whether it was told of the end. It gets into the same ending session, started again with the grace that remains, and is
//! told of the end only if it was not before. A tag of an ended session never leads into a fresh session.
//!
//! After a restart, the first client of a session that comes back gets a session with a new tag, and the clients after it join that
//! one. If that session is ended meanwhile, the clients that are not back yet were in the ended session, too. A tag says when its
//! broker began, so that they are recognized.

use std::time::Duration;

use sundown_protocol::notification::EndReason;
use sundown_protocol::reply::Peer;
use sundown_protocol::request::Logon;
use sundown_protocol::{Code, Event as News, Fault, MemberId, Notification, SessionId, SessionTag};

use crate::broker::Broker;
use crate::ground::event::{Effect, End, Turn};
use crate::ground::timers::Timer;
use crate::peers::connection::Asker;
use crate::peers::waiting::{SessionKey, Sharing, Waiting};
use crate::sessions::end::Kept;
use crate::sessions::session::SessionState;

/// How long an end is kept after its session has closed. It is longer than a client looks for its broker.
const KEPT: Duration = Duration::from_secs(120);

/// When the broker began that made a session, in microseconds since the machine started.
fn began(SessionTag(tag): SessionTag) -> u64 {
    (tag >> 64) as u64
}

impl Broker {
    /// Stores the end of a shared session, before any member is told of it.
    pub(crate) fn keep_end(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        let SessionState::Ending { by, deadline } = &session.state else { return };
        let end = End {
            tag: session.tag,
            user: session.key.user,
            profile: session.key.profile.clone(),
            by: by.clone(),
            until: *deadline,
        };
        turn.emit(Effect::KeepEnd(Box::new(end.clone())));
        self.sessions.ends.insert(session.tag, Kept { end, session: Some(id) });
    }

    /// Takes the ends that an earlier broker stored.
    pub(crate) fn ends_found(&mut self, ends: Vec<End>, turn: &mut Turn) {
        for end in ends {
            let forgotten = end.until.unwrap_or_default().max(turn.tick.boot) + KEPT;
            self.timers.set(forgotten, Timer::End(end.tag));
            self.sessions.ends.insert(end.tag, Kept { end, session: None });
        }
    }

    /// Notes that an ending session is closed. For a while, a client that comes back to it is told that it has ended.
    pub(crate) fn end_closed(&mut self, tag: SessionTag, turn: &mut Turn) {
        if let Some(kept) = self.sessions.ends.get_mut(&tag) {
            kept.session = None;
            if self.stopping.is_some() {
                // Its members come back to the next broker.
                return;
            }
            // No member is left that could stay.
            kept.end.until = Some(turn.tick.boot);
            turn.emit(Effect::KeepEnd(Box::new(kept.end.clone())));
            self.timers.set(turn.tick.boot + KEPT, Timer::End(tag));
        }
    }

    /// Forgets an end that was kept long enough, unless its session is open again.
    pub(crate) fn forget_end(&mut self, tag: SessionTag, turn: &mut Turn) {
        if self.sessions.ends.get(&tag).is_some_and(|kept| kept.session.is_none()) {
            self.sessions.ends.remove(&tag);
            turn.emit(Effect::ForgetEnd(tag));
        }
    }

    /// Logs a client on that was in this session before, with this broker or an earlier one.
    pub(crate) fn return_to(
        &mut self,
        asker: Asker,
        logon: Logon,
        (tag, told): (SessionTag, bool),
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
        let user = self.session_user(uid);
        let profile = logon.profile.as_deref().unwrap_or("default");
        let kept = self.sessions.ends.get(&tag).or_else(|| self.end_of_heir(tag, user, profile));
        let Some(kept) = kept else { return self.logon(asker, logon, turn) };
        let tag = kept.end.tag;
        if user != kept.end.user || profile != kept.end.profile {
            let message = "this session is another user's, or of another profile; log on again";
            return Err(Fault::new(Code::E_NO_ACCESS, message));
        }
        self.refuse_while_stopping()?;
        let closed = |id| {
            let state = self.sessions.all.get(&id).map(|s| &s.state);
            !matches!(state, Some(SessionState::Starting | SessionState::Ending { .. }))
        };
        let over = kept.end.until.is_some_and(|until| until <= turn.tick.boot);
        if over || kept.session.is_some_and(closed) {
            let Peer { pid, program } = &kept.end.by;
            let message = format!(
                "the shared session was ended by {program} (pid {pid}) and its grace is over; log on again"
            );
            return Err(Fault::new(Code::E_END_OF_SESSION, message));
        }
        if kept.session.is_none() {
            self.check_session_quota(asker, Sharing::Shared)?;
        }
        self.check_member_quota(asker)?;
        let (session, user, profile) = (kept.session, kept.end.user, kept.end.profile.clone());
        let asker = self.count_logon(asker);
        let waiting = Waiting::Return { asker, flags: logon.flags, told };
        match session {
            Some(id) if self.sessions.all[&id].state == SessionState::Starting => {
                let session = self.sessions.all.get_mut(id).expect("looked at just before");
                session.waiting.push(waiting);
            }
            Some(id) => self.admit(id, waiting, turn),
            None => {
                let key = SessionKey { user, profile };
                let id = self.start_session((key, Some(tag)), Sharing::Shared, Some(waiting), turn);
                self.sessions.ends.get_mut(&tag).expect("looked at before").session = Some(id);
                self.timers.clear(Timer::End(tag));
            }
        }
        Ok(())
    }

    /// The end of the session that replaced another one: it was made for the same user and profile by a broker that began later. A
    /// client that was in the replaced session and comes back after the end belongs to the ended session.
    fn end_of_heir(&self, tag: SessionTag, user: u32, profile: &str) -> Option<&Kept> {
        let is_heir = |kept: &&Kept| {
            let End { tag: heir, user: of, profile: to, .. } = &kept.end;
            (*of, &to[..]) == (user, profile) && began(tag) < began(*heir)
        };
        // If there are several, the one that goes on longest.
        let ends = self.sessions.ends.values().filter(is_heir);
        ends.max_by_key(|kept| kept.end.until.unwrap_or(Duration::MAX))
    }

    /// A unique tag for a session, which says when its broker began.
    pub(crate) fn new_tag(&mut self, turn: &mut Turn) -> SessionTag {
        let began = self.queues.giving_up.began(turn.tick.boot).as_micros();
        SessionTag(began << 64 | u128::from(turn.record() as u64))
    }

    /// Lets a session that has just started go on ending, if an earlier broker ended it.
    pub(crate) fn goes_on_ending(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let Some(kept) = self.sessions.ends.get(&session.tag) else { return };
        let End { by, until, .. } = kept.end.clone();
        session.state = SessionState::Ending { by, deadline: until };
        if let Some(until) = until {
            self.timers.set(until.max(turn.tick.boot), Timer::Grace(id));
        }
    }

    /// Tells a member of the end of its session if it came back without having been told.
    pub(crate) fn tell_end(&mut self, member: MemberId, turn: &mut Turn) {
        let session =
            self.sessions.members.get(&member).and_then(|m| self.sessions.all.get(&m.session));
        let Some(SessionState::Ending { by, deadline }) = session.map(|s| s.state.clone()) else {
            return;
        };
        let grace = deadline.map(|until| until.saturating_sub(turn.tick.boot).as_millis() as u64);
        let (code, reason, by) = (Code::E_END_OF_SESSION, EndReason::SharedLogoff, Some(by));
        self.tell_always(member, News::CriticalError { code, reason, by, grace }, turn);
    }

    /// Tells a member the tag by which it can return to its session, on a connection that keeps what outlives a broker.
    pub(crate) fn tell_tag(&self, id: MemberId, turn: &mut Turn) {
        let Some(member) = self.sessions.members.get(&id) else { return };
        let keeps = self.peers.connections.get(&member.connection).is_some_and(|c| c.told_tickets);
        let session = &self.sessions.all[&member.session];
        if keeps && session.is_shared() {
            let event = News::Session(session.tag);
            let notification = Notification { member: id, advises: Vec::new(), event };
            turn.emit(Effect::Notify { connection: member.connection, notification });
        }
    }
}
