//! What is not sent is given up at its age limit, whoever is or is not here.
//!
//! A session gives up what its schedule knows. What nobody present may send is not in a schedule, and neither is anything once
//! its session has ended. So for each profile it is remembered here when the first of that reaches its limit. At that time
//! the profile's sessions read the queue again; if there is none, one is opened for it.

use std::time::Duration;

use sundown_protocol::reply::SubmissionState;

use crate::broker::Broker;
use crate::ground::event::{EngineId, Turn};
use crate::ground::provider::Submission;
use crate::ground::timers::Timer;
use crate::peers::waiting::SessionKey;
use crate::queue::giving_up::Unsent;
use crate::queue::settle::given_up;
use crate::sessions::session::Session;

/// The longest time until it is looked again whether something is to be given up: the wall clock may be set meanwhile. As long
/// a broker leaves what nobody may send alone after its start, for whoever is about to log on.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long a profile is left alone that could not be opened.
const LEFT_ALONE: Duration = Duration::from_secs(3_600);

impl Broker {
    /// What becomes of a message that nobody present may send.
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
        let (limit, now) = (given_up(submission, policy), turn.tick.millis());
        if limit >= now || !early.is_zero() {
            let at = limit.saturating_add(1).max(now + early.as_millis() as u64 + 1);
            return Unsent::Waits(Some(at));
        }
        match sessions.find(|s| s.may_send()) {
            Some(session) => Unsent::GivenUp(session.id),
            None => Unsent::Waits(Some(now + LOOK_AGAIN.as_millis() as u64)),
        }
    }

    /// A message of a profile is to be given up then, and perhaps nobody knows it at that time.
    pub(crate) fn remember(&mut self, profile: &str, at: u64, turn: &mut Turn) {
        if self.queues.giving_up.remember(profile, at) {
            self.look_again(turn);
        }
    }

    /// A session ends. What waits in its profile is given up at its time, though nobody may be here then.
    pub(crate) fn remember_what_waits(&mut self, session: &Session, turn: &mut Turn) {
        let Some(policy) = session.profile.as_ref().map(|p| &p.queue) else { return };
        let profile = &session.key.profile;
        let waits = |s: &&Submission| {
            let state = s.state();
            s.profile == *profile && state != SubmissionState::Held && !state.is_final()
        };
        let mut first = None;
        let engines = session.engines().filter_map(|(_, engine)| self.queues.engines.get(&engine));
        // What waited in a lost store waits there no more.
        for engine in engines.filter(|engine| !engine.is_lost()) {
            let known = engine.entries.values().map(|e| &e.submission).filter(waits);
            let known = known.map(|s| given_up(s, policy)).min();
            // What was not read may be older than anything.
            let unread = engine.is_unread().then_some(turn.tick.millis());
            first = [first, known.or(unread)].into_iter().flatten().min();
        }
        if let Some(first) = first {
            self.remember(profile, first, turn);
        }
    }

    /// A session that the broker opened by itself could not start: it is tried again, later.
    pub(crate) fn remember_failed(&mut self, profile: &str, turn: &mut Turn) {
        let later = turn.tick.millis() + LEFT_ALONE.as_millis() as u64;
        self.remember(profile, later, turn);
    }

    /// A profile was deleted, with all that waited in it.
    pub(crate) fn forget_what_waits(&mut self, profile: &str) {
        if self.queues.giving_up.forget(profile) {
            self.timers.clear(Timer::GiveUp);
        }
    }

    fn look_again(&mut self, turn: &mut Turn) {
        let Some(first) = self.queues.giving_up.first() else { return };
        let sleep = Duration::from_millis(first.saturating_sub(turn.tick.millis()));
        self.timers.set_no_later(turn.tick.boot + sleep.min(LOOK_AGAIN), Timer::GiveUp);
    }

    /// Lets profiles look into their queues that have something to give up.
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
