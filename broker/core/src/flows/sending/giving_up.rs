//! Gives up unsent messages at their age limit, even if no session that could send them is there.
//!
//! A session gives up the messages in its schedule. A message that no present session may send is in no schedule, and neither is
//! any message once its session has ended. So the broker remembers for each profile when the first of those messages reaches its
//! limit. At that time the profile's sessions read the queue again; if there is no session, the broker opens one.

use std::time::Duration;

use sundown_protocol::reply::SubmissionState;

use crate::broker::Broker;
use crate::ground::event::{EngineId, Turn};
use crate::ground::provider::Submission;
use crate::ground::timers::Timer;
use crate::peers::waiting::SessionKey;
use crate::queue::giving_up::Unsent;
use crate::sessions::session::Session;

/// The longest time between two checks for messages to give up: the wall clock may be set meanwhile. For the same time after its
/// start a broker gives up no message that lacks a sender, because a member that may send it may be about to log on.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long the broker waits before it opens a profile again after its session failed to start.
const LEFT_ALONE: Duration = Duration::from_secs(3_600);

impl Broker {
    /// Decides what happens to a message that no present session may send.
    pub(crate) fn unsent(&self, id: EngineId, submission: &Submission, turn: &Turn) -> Unsent {
        let engine = self.queues.engines.get(&id).into_iter();
        let sessions = engine.flat_map(|e| &e.sessions).filter_map(|s| self.sessions.all.get(s));
        let mut sessions = sessions.filter(|s| s.key.profile == submission.profile);
        let Some(session) = sessions.clone().find(|s| s.profile.is_some()) else {
            return Unsent::Waits(None);
        };
        let policy = &session.profile().queue;
        let began = self.queues.giving_up.began(turn.tick.boot);
        let early = (began + policy.max_age.min(LOOK_AGAIN)).saturating_sub(turn.tick.boot);
        let Some(clocks) = self.queues.engines.get(&id).map(|e| e.clocks(turn.tick)) else {
            return Unsent::Waits(None);
        };
        let (limit, now) = (clocks.given_up(submission, policy), clocks.now);
        if limit >= now || !early.is_zero() {
            let at = limit.saturating_add(1).max(now + early.as_millis() as u64 + 1);
            return Unsent::Waits(Some(at));
        }
        match sessions.find(|s| s.may_send()) {
            Some(session) => Unsent::GivenUp(session.id),
            None => Unsent::Waits(Some(now + LOOK_AGAIN.as_millis() as u64)),
        }
    }

    /// Remembers that a message of a profile is to be given up at this time. No session may know the message by then.
    pub(crate) fn remember(&mut self, profile: &str, at: u64, turn: &mut Turn) {
        if self.queues.giving_up.remember(profile, at) {
            self.look_again(turn);
        }
    }

    /// Remembers the first age limit of the messages that wait in the profile of a session that ends. There may be no session of
    /// the profile at that time.
    pub(crate) fn remember_what_waits(&mut self, session: &Session, turn: &mut Turn) {
        let Some(policy) = session.profile.as_ref().map(|p| &p.queue) else { return };
        let profile = &session.key.profile;
        let waits = |s: &&Submission| {
            let state = s.state();
            s.profile == *profile && state != SubmissionState::Held && !state.is_final()
        };
        let mut first = None;
        let engines = session.engines().filter_map(|(_, engine)| self.queues.engines.get(&engine));
        // A lost store holds no waiting messages.
        for engine in engines.filter(|engine| !engine.is_lost()) {
            let known = engine.entries.values().map(|e| &e.submission).filter(waits);
            let clocks = engine.clocks(turn.tick);
            let known = known.map(|s| clocks.given_up(s, policy)).min();
            // A message that was not read may be older than all known ones.
            let unread = engine.is_unread().then_some(turn.tick.millis());
            first = [first, known.or(unread)].into_iter().flatten().min();
        }
        if let Some(first) = first {
            self.remember(profile, first, turn);
        }
    }

    /// Schedules another try to open a profile whose session, opened by the broker itself, failed to start.
    pub(crate) fn remember_failed(&mut self, profile: &str, turn: &mut Turn) {
        let later = turn.tick.millis() + LEFT_ALONE.as_millis() as u64;
        self.remember(profile, later, turn);
    }

    /// Forgets a profile that was deleted with all its waiting messages.
    pub(crate) fn forget_what_waits(&mut self, profile: &str) {
        self.queues.paces.remove(profile);
        if self.queues.giving_up.forget(profile) {
            self.timers.clear(Timer::GiveUp);
        }
    }

    fn look_again(&mut self, turn: &mut Turn) {
        let Some(first) = self.queues.giving_up.first() else { return };
        let sleep = Duration::from_millis(first.saturating_sub(turn.tick.millis()));
        self.timers.set_no_later(turn.tick.boot + sleep.min(LOOK_AGAIN), Timer::GiveUp);
    }

    /// Has the profiles with overdue messages read their queues again.
    pub(crate) fn give_up(&mut self, turn: &mut Turn) {
        let now = turn.tick.millis();
        for profile in self.queues.giving_up.take_due(now) {
            let of_it = self.sessions.all.of_profile(&profile).filter(|s| s.may_send());
            let engines: Vec<_> = of_it.flat_map(Session::engines).map(|(_, e)| e).collect();
            if engines.is_empty() {
                let user = self.settings.owner;
                self.adopt(SessionKey { user, profile }, turn);
            }
            for engine in engines {
                self.unpark(engine);
            }
        }
        self.look_again(turn);
    }
}
