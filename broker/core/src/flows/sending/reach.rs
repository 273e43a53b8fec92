//! Whether a transport can be reached.
//!
//! ```text
//!            a message could not be begun: no network, no server
//!    Yes ──────────────────────────────────────────────► No ◄─────────────┐
//!     ▲                                                   │ its time       │ not reached
//!     │ it answered something else                        ▼                │
//!     └───────────────── Trying ◄─── it works ──────── Asked ──────────────┤
//!                           └──────────── not reached ─────────────────────┘
//! ```
//!
//! Being offline costs nothing: while a transport cannot be reached, its messages stay where they are. None is read and none is
//! written. Once in a while the transport is asked whether it works, which needs no message, and then it is handed one. Messages
//! whose age limit comes meanwhile are given up. However many messages wait for it, a few of them are known: the schedule has
//! room for those of other transports.

use std::time::Duration;

use sundown_protocol::{Code, SessionId};

use crate::broker::Broker;
use crate::ground::event::{EngineId, Turn};
use crate::ground::provider::ProviderError;
use crate::ground::settings::QueuePolicy;
use crate::ground::timers::Timer;
use crate::providers::ask::{Ask, Done};
use crate::providers::calls::Caller;
use crate::providers::view::{ProviderState, Reach};
use crate::queue::settle::{backoff, given_up};
use crate::sessions::session::Session;
use crate::then::AfterDone;

/// The longest time between two questions whether a transport can be reached: mail leaves soon after a network is back.
const LONGEST: Duration = Duration::from_secs(300);

/// How long it may take for a transport to say whether it works, before it is handed a message without that.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many messages are known that wait for a transport which cannot be reached. They are tried first; the others are in the
/// store alone, and are read when it can be reached, or when these are gone.
const KEPT: usize = if cfg!(test) { 3 } else { 128 };

impl Broker {
    /// A transport could not be reached. It is asked again later, each time after a longer while.
    pub(crate) fn not_reached(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let policy = session.profile.as_ref().map(|p| p.queue.clone()).unwrap_or_default();
        let provider = &mut session.providers[place];
        if matches!(provider.reach, Reach::No { .. }) {
            return;
        }
        let tries = provider.reach.tries() + 1;
        let wait = Duration::from_millis(backoff(tries, &policy, turn)).min(LONGEST);
        provider.reach = Reach::No { tries };
        self.timers.set(turn.tick.boot + wait, Timer::Reach(id, place));
        self.wake_overdue((id, place), &policy, turn);
        let engines: Vec<_> = self.sessions.all[&id].engines().map(|(_, engine)| engine).collect();
        for engine in engines {
            self.keep_few(engine, (id, place));
        }
        self.provider_changed(id, place, turn);
    }

    /// A transport answered something: it is there.
    pub(crate) fn reached(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        self.set_reach(id, place, Reach::Yes, turn);
    }

    /// A transport is tried now, by one message: a user has asked for it, or it was found to work.
    pub(crate) fn try_reaching(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let reach = self.sessions.all.get(&id).map(|s| s.providers[place].reach);
        if let Some(reach) = reach.filter(|reach| reach.waits()) {
            self.set_reach(id, place, Reach::Trying { tries: reach.tries() }, turn);
        }
    }

    fn set_reach(&mut self, id: SessionId, place: usize, reach: Reach, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        if std::mem::replace(&mut provider.reach, reach) != reach {
            self.timers.clear(Timer::Reach(id, place));
            self.provider_changed(id, place, turn);
        }
    }

    /// Its time has come: asks a transport whether it works.
    pub(crate) fn ask_reach(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id).filter(|s| s.may_send()) else { return };
        let provider = &mut session.providers[place];
        let (Reach::No { tries } | Reach::Asked { tries }) = provider.reach else { return };
        let answers =
            self.providers.is_open(provider.lane) && matches!(provider.reach, Reach::No { .. });
        if !answers || provider.state != ProviderState::Available {
            // It did not say whether it works; or its state says what becomes of its messages.
            return self.set_reach(id, place, Reach::Trying { tries }, turn);
        }
        provider.reach = Reach::Asked { tries };
        self.timers.set(turn.tick.boot + PATIENCE, Timer::Reach(id, place));
        let (lane, after) = (provider.lane, AfterDone::Reached(id, place));
        self.call(lane, Caller::broker(Some(id)), Ask::validate(), after, turn);
    }

    /// A transport said whether it works. Whatever it says but that it cannot be reached, a message finds out more.
    pub(crate) fn reach_answered(
        &mut self,
        (id, place): (SessionId, usize),
        result: &Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        let reach = self.sessions.all.get(&id).map(|s| s.providers[place].reach);
        let Some(Reach::Asked { tries }) = reach else { return };
        match result {
            Err(error) if error.is_of_the_network() => self.not_reached(id, place, turn),
            // Each question is a try of the password.
            Err(error) if error.code == Code::E_LOGON_FAILED => {
                self.set_reach(id, place, Reach::Trying { tries }, turn);
                self.refused_by(id, place, &error.message, turn);
            }
            _ => self.set_reach(id, place, Reach::Trying { tries }, turn),
        }
    }

    /// Messages that wait for a transport, and whose age limit is over, are looked at: they are given up.
    fn wake_overdue(&mut self, key: (SessionId, usize), policy: &QueuePolicy, turn: &mut Turn) {
        let engines = self.sessions.all.get(&key.0).into_iter().flat_map(Session::engines);
        let engines: Vec<EngineId> = engines.map(|(_, engine)| engine).collect();
        let now = turn.tick.millis();
        for engine in engines {
            let Some(engine) = self.queues.engines.get_mut(engine) else { continue };
            let Some(line) = engine.full.get_mut(&key) else { continue };
            let over = |(_, _, record): &(u64, u64, u128)| {
                given_up(&engine.entries[record].submission, policy) <= now
            };
            let overdue: Vec<_> = line.keys.iter().copied().filter(over).collect();
            for key in overdue {
                line.keys.remove(&key);
                engine.ready.insert(key);
            }
            if line.forgotten.is_some_and(|forgotten| forgotten.given_up <= now) {
                engine.reload();
            }
        }
    }

    /// Of the messages that wait for a transport which cannot be reached, the last are forgotten. One that was begun is not: it is
    /// recovered, which waits for nothing at the other end.
    pub(crate) fn keep_few(&mut self, id: EngineId, key: (SessionId, usize)) {
        let session = &self.sessions.all[&key.0];
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        if session.providers[key.1].reach == Reach::Yes {
            return;
        }
        let policy = &session.profile().queue;
        while let Some(line) = engine.full.get_mut(&key).filter(|line| line.keys.len() > KEPT)
            && let Some((.., record)) = line.keys.last().copied()
        {
            let submission = &engine.entries[&record].submission;
            if submission.recipients.iter().any(|r| r.intent.is_some()) {
                return;
            }
            line.note_forgotten(given_up(submission, policy), submission.no_mail);
            engine.forget(record);
        }
    }
}
