//! Whether a transport can be reached.
//!
//! ```text
//!            a message could not be begun: no network, no server, a server that refuses to talk
//!    Yes ──────────────────────────────────────────────► No ◄─────────────┐
//!     ▲                                                   │ its time, or   │ not reached
//!     │                                                   │ a user's word  │
//!     │ it answered something else                        ▼                │
//!     └───────────────── Trying ◄─── it works ──────── Asked ──────────────┤
//!                           └──────────── not reached ─────────────────────┘
//! ```
//!
//! Being offline costs nothing: while a transport cannot be reached, its messages stay in the queue, and none is read or written.
//! From time to time the broker asks the transport whether it works, which needs no message. If it does, the broker hands it one.
//! A server that refuses to talk before it has heard of a message (its greeting, its certificate, its word that it takes no logon
//! now) counts as one that cannot be reached: each message would be told the same, and would be one connection more.
//!
//! A user who retries a message or flushes the queue has the transport asked at once. The question says so, and everything that
//! waits for the transport waits for the answer.
//!
//! Messages that reach their age limit meanwhile are given up, and the senders of others are told of the delay. However many messages
//! wait for the transport, only a few of them stay in the schedule, which leaves room for those of other transports.

use std::time::Duration;

use sundown_protocol::{Code, SessionId};

use crate::broker::Broker;
use crate::ground::event::{EngineId, Trouble, Turn};
use crate::ground::provider::{AskedBy, ProviderError};
use crate::ground::settings::QueuePolicy;
use crate::ground::timers::Timer;
use crate::providers::ask::{Ask, Done};
use crate::providers::calls::Caller;
use crate::providers::view::{ProviderState, Reach};
use crate::queue::settle::backoff;
use crate::sessions::session::Session;
use crate::then::AfterDone;

/// The longest time between two checks whether a transport can be reached. It is short, so that mail leaves soon after the network
/// is back.
const LONGEST: Duration = Duration::from_secs(300);

/// How long a transport may take to say whether it works. After that it is handed a message without an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is said of a transport that was asked whether it works, and does.
pub(crate) const WORKS: &str = "it answers, and says that it takes mail";

/// How many messages the schedule keeps for a transport that cannot be reached. They are tried first. The others are in the store
/// alone; they are read when the transport can be reached or when the kept ones are gone.
const KEPT: usize = if cfg!(test) { 3 } else { 128 };

impl Broker {
    /// Notes that a transport could not be reached. It is checked again later, each time after a longer wait.
    pub(crate) fn not_reached(
        &mut self,
        id: SessionId,
        place: usize,
        error: &ProviderError,
        turn: &mut Turn,
    ) {
        self.log_error_of(id, place, error, turn);
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let policy = session.profile.as_ref().map(|p| p.queue.clone()).unwrap_or_default();
        let provider = &mut session.providers[place];
        if matches!(provider.reach, Reach::No { .. }) || !provider.is_in_use() {
            return;
        }
        let tries = provider.reach.tries() + 1;
        let wait = Duration::from_millis(backoff(tries, &policy, turn)).min(LONGEST);
        provider.reach = Reach::No { tries };
        provider.not_reached_at = turn.tick.boot;
        self.timers.set(turn.tick.boot + wait, Timer::Reach(id, place));
        self.wake_old((id, place), &policy, turn);
        let engines: Vec<_> = self.sessions.all[&id].engines().map(|(_, engine)| engine).collect();
        for engine in engines {
            self.keep_few(engine, (id, place), turn);
        }
        self.provider_changed(id, place, turn);
    }

    /// Notes that a transport can be reached: it gave an answer.
    pub(crate) fn reached(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        self.log_end_of(id, place, &[Trouble::Unreachable], turn);
        self.set_reach(id, place, Reach::Yes, turn);
    }

    /// Lets one message try a transport now, because the transport was found to work.
    pub(crate) fn try_one(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
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

    /// Asks a transport whether it works, because its next check is due. One that was asked gave no answer in time.
    pub(crate) fn reach_due(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let reach = self.sessions.all.get(&id).map(|s| s.providers[place].reach);
        match reach {
            Some(Reach::No { .. }) => {
                // What held it up may have been corrected in the profile. Then another transport takes its messages.
                self.look_at_file(id, turn);
                self.ask_reach(id, place, AskedBy::Broker, turn);
            }
            Some(Reach::Asked { .. }) => self.try_one(id, place, turn),
            Some(Reach::Yes | Reach::Trying { .. }) | None => {}
        }
    }

    /// Has a transport that cannot be reached, or whose account was refused once, asked now, because a user wants its mail to go. While
    /// it is being asked for a user, another user's request waits for the same answer.
    pub(crate) fn probe(&mut self, id: SessionId, place: usize, word: u64, turn: &mut Turn) {
        let Some(provider) = self.sessions.all.get(&id).map(|s| &s.providers[place]) else {
            return;
        };
        let asks = match provider.reach {
            Reach::No { .. } | Reach::Asked { asked_by: AskedBy::Broker, .. } => true,
            // Its account was refused once. A message would be told so, and not that the password is another one by now.
            Reach::Yes => provider.refusals > 0 && provider.state == ProviderState::Available,
            Reach::Asked { asked_by: AskedBy::User { .. }, .. } | Reach::Trying { .. } => false,
        };
        if asks && provider.is_in_use() {
            self.ask_reach(id, place, AskedBy::User { word }, turn);
        }
    }

    /// Asks a transport whether it works. Its messages wait for the answer.
    pub(crate) fn ask_reach(
        &mut self,
        id: SessionId,
        place: usize,
        asked_by: AskedBy,
        turn: &mut Turn,
    ) {
        let Some(session) = self.sessions.all.get_mut(id).filter(|s| s.may_send()) else { return };
        let provider = &mut session.providers[place];
        let tries = provider.reach.tries();
        if !self.providers.is_open(provider.lane) || provider.state != ProviderState::Available {
            // It gives no answer, or its state decides what becomes of its messages.
            return self.set_reach(id, place, Reach::Trying { tries }, turn);
        }
        provider.reach = Reach::Asked { tries, asked_by };
        let lane = provider.lane;
        self.timers.set(turn.tick.boot + PATIENCE, Timer::Reach(id, place));
        let after = AfterDone::Reached(id, place, asked_by);
        self.call(lane, Caller::broker(Some(id)), Ask::validate(asked_by), after, turn);
    }

    /// Handles a transport's answer whether it works. Unless it says that it cannot be reached, a message is sent to find out more.
    pub(crate) fn reach_answered(
        &mut self,
        (id, place): (SessionId, usize),
        asked: AskedBy,
        result: &Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        let reach = self.sessions.all.get(&id).map(|s| s.providers[place].reach);
        let Some(Reach::Asked { tries, asked_by }) = reach else { return };
        match result {
            Ok(_) => self.note_use((id, place), true, WORKS, turn),
            Err(error) => self.note_failed_use((id, place), error, turn),
        }
        match result {
            // It was asked again meanwhile, and that answer counts.
            Err(error) if error.is_of_the_server() && asked_by != asked => {}
            Err(error) if error.is_of_the_server() => self.not_reached(id, place, error, turn),
            // Each check tries the password.
            Err(error) if error.code == Code::E_LOGON_FAILED => {
                self.set_reach(id, place, Reach::Trying { tries }, turn);
                self.refused_by(id, place, &error.message, turn);
                self.log_end_of(id, place, &[Trouble::Unreachable], turn);
            }
            _ => self.set_reach(id, place, Reach::Trying { tries }, turn),
        }
    }

    /// Puts messages that wait for a transport back into the schedule if they are past their age limit, where they are given up, or if
    /// their senders are to be told of the delay.
    fn wake_old(&mut self, key: (SessionId, usize), policy: &QueuePolicy, turn: &mut Turn) {
        let engines = self.sessions.all.get(&key.0).into_iter().flat_map(Session::engines);
        let engines: Vec<EngineId> = engines.map(|(_, engine)| engine).collect();
        for engine in engines {
            let Some(engine) = self.queues.engines.get_mut(engine) else { continue };
            let clocks = engine.clocks(turn.tick);
            let Some(line) = engine.full.get(&key) else { continue };
            let wakes = |(_, _, record): &(u64, u64, u128)| {
                clocks.wakes(&engine.entries[record].submission, policy) <= clocks.now
            };
            let woken: Vec<_> = line.keys.iter().copied().filter(wakes).collect();
            let reads = line.forgotten.is_some_and(|forgotten| forgotten.wakes <= clocks.now);
            engine.leave_line(&key, &woken);
            if reads {
                engine.reload();
            }
        }
    }

    /// Keeps the first few of the messages that wait for a transport that cannot be reached, and forgets the last. A message with
    /// an intent is kept: its recovery does not need the network.
    pub(crate) fn keep_few(&mut self, id: EngineId, key: (SessionId, usize), turn: &Turn) {
        let session = &self.sessions.all[&key.0];
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        if session.providers[key.1].reach == Reach::Yes {
            return;
        }
        let policy = &session.profile().queue;
        let clocks = engine.clocks(turn.tick);
        while let Some(line) = engine.full.get_mut(&key).filter(|line| line.keys.len() > KEPT)
            && let Some((.., record)) = line.keys.last().copied()
        {
            let submission = &engine.entries[&record].submission;
            if submission.recipients.iter().any(|r| r.intent.is_some()) {
                return;
            }
            line.note_forgotten(clocks.wakes(submission, policy), submission.no_mail);
            engine.forget(record);
        }
    }
}
