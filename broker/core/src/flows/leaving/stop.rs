//! Stops the broker: tells all members, lets them finish, and then closes everything in order.
//!
//! ```text
//!  running ──stop──► Telling ──no members, quiet, or time up──► Closing ──sessions and stores closed──► Stopped
//! ```

use std::time::Duration;

use sundown_protocol::notification::{EndReason, LeaveReason};
use sundown_protocol::reply::Peer;
use sundown_protocol::request::Stopping as How;
use sundown_protocol::{Code, Event as News, Fault, Reply};

use crate::broker::Broker;
use crate::ground::event::{Effect, Stop, Turn};
use crate::ground::settings::Right;
use crate::ground::timers::Timer;
use crate::peers::connection::Asker;
use crate::sessions::member::Member;
use crate::sessions::session::SessionState;

/// How long members that are leaving are served.
const SERVED: Duration = Duration::from_secs(20);

/// After this long without a request, every process that wanted to leave has done so.
const QUIET: Duration = Duration::from_secs(1);

/// A stop in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopping {
    how: Stop,
    /// The process that asked for the stop, if one did.
    by: Option<Peer>,
    phase: Phase,
    began: Duration,
    /// The time of the last request.
    asked: Duration,
    /// Until when providers may take to close, once they are closing.
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Telling,
    Closing,
    Over,
}

impl Broker {
    pub(crate) fn stop_asked(
        &mut self,
        asker: Asker,
        how: How,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
        if self.right(uid, &[]) < Right::Admin {
            let message = format!("user {uid} may not stop this broker; its own user and root may");
            return Err(Fault::new(Code::E_NO_ACCESS, message));
        }
        self.answer(asker, Ok(Reply::Done), turn);
        let how = match how {
            How::Orderly => Stop::Final,
            How::Fast => Stop::Fast,
        };
        let by = self.peers.of(asker).map(|process| process.peer.clone());
        self.stop(how, turn);
        if let Some(stopping) = &mut self.stopping {
            stopping.by = by;
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self, how: Stop, turn: &mut Turn) {
        let now = turn.tick.boot;
        let before = self.stopping.as_ref().map(|s| s.how);
        // A stop never becomes slower than an earlier request asked for.
        let how = before.filter(|before| *before as u8 > how as u8).unwrap_or(how);
        let fresh = Stopping {
            how,
            by: None,
            phase: Phase::Telling,
            began: now,
            asked: now,
            patience: now,
        };
        let stopping = self.stopping.get_or_insert(fresh);
        (stopping.how, stopping.asked) = (how, now);
        match stopping.phase {
            Phase::Telling => {
                let ends = matches!(how, Stop::Final | Stop::Fast);
                if before.is_none() || (ends && before == Some(Stop::Restart)) {
                    self.tell_stop(how, turn);
                }
                if matches!(how, Stop::Fast | Stop::Now) {
                    self.close_everything(turn);
                } else {
                    self.timers.set(now + QUIET, Timer::Stop);
                }
            }
            Phase::Closing if how == Stop::Now => {
                self.hasten_closing(turn);
                self.limit_closing(turn);
            }
            Phase::Closing | Phase::Over => {}
        }
    }

    /// Whether the broker is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The process that asked for the stop, if one did.
    pub fn stopped_by(&self) -> Option<&Peer> {
        self.stopping.as_ref()?.by.as_ref()
    }

    /// Whether the broker stops without waiting for transports.
    pub(crate) fn stops_now(&self) -> bool {
        self.stopping.as_ref().is_some_and(|s| s.how == Stop::Now)
    }

    fn tell_stop(&mut self, how: Stop, turn: &mut Turn) {
        let mut members: Vec<_> = self.sessions.members.keys().copied().collect();
        members.sort_unstable();
        for member in members {
            let news = match how {
                Stop::Restart | Stop::Now => {
                    News::BrokerStopping { within: SERVED.as_millis() as u64 }
                }
                Stop::Final | Stop::Fast => News::CriticalError {
                    code: Code::E_END_OF_SESSION,
                    reason: EndReason::BrokerStopped,
                    by: None,
                    grace: Some(if how == Stop::Fast { 0 } else { SERVED.as_millis() as u64 }),
                },
            };
            self.tell_always(member, news, turn);
        }
    }

    /// Refuses new work while the broker stops. The library asks again when it is back.
    pub(crate) fn refuse_while_stopping(&self) -> Result<(), Fault> {
        if self.stopping.is_none() {
            return Ok(());
        }
        Err(Fault::new(Code::E_WAIT, "the broker is stopping; ask again when it is back"))
    }

    /// Notes that a process is still leaving.
    pub(crate) fn note_activity(&mut self, turn: &Turn) {
        if let Some(stopping) = &mut self.stopping {
            stopping.asked = turn.tick.boot;
        }
    }

    pub(crate) fn stop_tick(&mut self, turn: &mut Turn) {
        let Some(stopping) = &self.stopping else { return };
        let now = turn.tick.boot;
        match stopping.phase {
            Phase::Telling => {
                let quiet = now >= stopping.asked + QUIET && !self.is_being_served();
                if quiet || now >= stopping.began + SERVED {
                    self.close_everything(turn);
                } else {
                    self.timers.set(now + QUIET / 4, Timer::Stop);
                }
            }
            // A store that hangs is abandoned: what it acknowledged is durable.
            Phase::Closing if now >= stopping.patience => {
                let hung: Vec<_> = self.queues.engines.keys().copied().collect();
                for engine in hung {
                    self.drop_engine(engine, turn);
                }
            }
            Phase::Closing | Phase::Over => {}
        }
    }

    /// Whether a logoff, a flush, a save or a step of a fast shutdown is in progress: a stop waits for its answer (design §3.21).
    fn is_being_served(&self) -> bool {
        // A flush waits for unanswered writes.
        let served = |m: &Member| m.is_leaving() || m.unwritten > 0;
        !self.sweeps.is_empty() || self.sessions.members.values().any(served)
    }

    fn close_everything(&mut self, turn: &mut Turn) {
        let stopping = self.stopping.as_mut().expect("it is stopping");
        if stopping.phase != Phase::Telling {
            return;
        }
        stopping.phase = Phase::Closing;
        let mut members: Vec<_> = self.sessions.members.keys().copied().collect();
        members.sort_unstable();
        self.remove_members(members, LeaveReason::BrokerStopped, turn);
        let sessions: Vec<_> = self.sessions.all.keys().copied().collect();
        for session in sessions {
            let waiting =
                self.sessions.all.get_mut(session).map(|s| std::mem::take(&mut s.waiting));
            for waiting in waiting.unwrap_or_default() {
                let fault = Fault::new(Code::E_WAIT, "the broker is stopping; ask again later");
                self.answer(waiting.asker(), Err(fault), turn);
            }
            let open = self.sessions.all.get(&session);
            if open.is_some_and(|s| !matches!(s.state, SessionState::Closing { .. })) {
                self.close_session(session, turn);
            }
        }
        let engines: Vec<_> = self.queues.engines.keys().copied().collect();
        for engine in engines {
            self.close_engine(engine, turn);
        }
        self.limit_closing(turn);
    }

    /// Sets the time by which everything must be closed: each kind of provider has its share, and then the stores.
    fn limit_closing(&mut self, turn: &mut Turn) {
        let kinds = if self.stops_now() { 2 } else { 4 };
        let until = turn.tick.boot + self.settings.shutdown.deadline * kinds + QUIET;
        let stopping = self.stopping.as_mut().expect("it is stopping");
        stopping.patience = until;
        self.timers.set(until, Timer::Stop);
    }

    pub(crate) fn stop_if_over(&mut self, turn: &mut Turn) {
        let Some(stopping) = &mut self.stopping else { return };
        if stopping.phase == Phase::Telling
            && self.sessions.members.is_empty()
            && self.queues.flights.is_empty()
        {
            self.close_everything(turn);
        }
        let Some(stopping) = &mut self.stopping else { return };
        let closed = self.sessions.all.is_empty()
            && self.queues.engines.is_empty()
            && !self.providers.has_lost();
        if stopping.phase == Phase::Closing && closed {
            stopping.phase = Phase::Over;
            self.timers.clear_all();
            turn.emit(Effect::Stopped);
        }
    }
}
