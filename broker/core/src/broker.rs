//! The owner of all state, and the function that changes it.

#[cfg(test)]
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sundown_protocol::request::Folder;
use sundown_protocol::{Code, Fault};

use crate::flows::leaving::stop::Stopping;
use crate::flows::leaving::sweeps::Sweeps;
use crate::flows::sending::users::Asking;
use crate::ground::event::{Effect, Errand, Event, ProcessKey, QuestionId, Tick, Turn};
use crate::ground::numbers::NumberMap;
use crate::ground::provider::ProviderError;
use crate::ground::settings::Settings;
use crate::ground::timers::{Timer, Timers};
use crate::peers::Peers;
use crate::peers::waiting::SessionKey;
use crate::providers::Providers;
use crate::providers::calls::{Called, Lost};
use crate::queue::Queues;
use crate::queue::age::Running;
use crate::queue::engine::Engine;
use crate::sessions::Sessions;
#[cfg(test)]
use crate::sessions::end::Kept;
#[cfg(test)]
use crate::sessions::session::SessionState;
use crate::then::Then;

/// How far the wall clock must go back at once to count as set back, in milliseconds. A smaller step delays nothing that matters.
const SET_BACK: u64 = 1_000;

/// Everything the broker knows.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use sundown_core::{Broker, Effect, Event, Stop, Tick, settings::Settings};
///
/// let mut broker = Broker::new(Settings::default());
/// let mut effects = Vec::new();
/// let tick = Tick { boot: Duration::ZERO, wall: SystemTime::UNIX_EPOCH, seed: 1 };
/// broker.apply(tick, Event::Stop(Stop::Now), &mut effects);
/// assert_eq!(effects, [Effect::Stopped]);
/// ```
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Broker {
    pub(crate) settings: Settings,
    pub(crate) timers: Timers,
    pub(crate) peers: Peers,
    pub(crate) providers: Providers<Then>,
    pub(crate) queues: Queues,
    pub(crate) sessions: Sessions,
    /// Steps of fast shutdowns in progress.
    pub(crate) sweeps: Sweeps,
    /// Submissions that wait to be told which of their recipients are users.
    pub(crate) asking: NumberMap<QuestionId, Asking>,
    /// How far the broker's own stop is.
    pub(crate) stopping: Option<Stopping>,
    /// As of the last event.
    clocks: Option<Clocks>,
    made: u64,
}

/// What the clocks showed, and how many milliseconds the wall clock is ahead of the timers' clock.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    boot: Duration,
    wall: SystemTime,
    ahead: i64,
}

impl Broker {
    /// A broker without connections.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            timers: Timers::default(),
            peers: Peers::default(),
            providers: Providers::default(),
            queues: Queues::default(),
            sessions: Sessions::default(),
            sweeps: Sweeps::default(),
            asking: NumberMap::default(),
            stopping: None,
            clocks: None,
            made: 0,
        }
    }

    /// Goes on with the clock of the broker before this one. Without one, mail grows older from here on.
    #[must_use]
    pub fn going_on(mut self, running: Running) -> Self {
        self.queues.running = running;
        self
    }

    /// Whether mail waits in any store, and grows older.
    pub fn holds_mail(&self) -> bool {
        let closed = || self.queues.closed.values().any(|closed| closed.queue != [0; 9]);
        self.queues.engines.values().any(Engine::waits) || closed()
    }

    /// Whether data of a process that has left is still being stored, and held in memory until then.
    pub fn has_left_behind(&self) -> bool {
        self.peers.processes.accounts.has_left_behind()
    }

    /// Whether provider calls are unanswered, so that [`Event::Look`] is of use.
    pub fn awaits_providers(&self) -> bool {
        self.providers.awaits()
    }

    /// Applies one event. Time and chance are arguments; what is to be done comes out as effects.
    pub fn apply(&mut self, tick: Tick, event: Event, effects: &mut Vec<Effect>) {
        let mut turn = Turn::new(tick, effects);
        let turn = &mut turn;
        self.look_at_clock(tick);
        self.queues.giving_up.note_begin(tick.boot);
        match event {
            Event::Connected { connection, identity } => self.connected(connection, identity, turn),
            Event::Request { connection, asked, bytes } => {
                self.request(connection, asked, bytes, turn);
            }
            Event::Disconnected { connection } => self.disconnected(connection, turn),
            Event::ProcessEnded { process } => {
                let held = self.peers.processes.find(&process).map(|p| p.connections.clone());
                for connection in held.unwrap_or_default() {
                    let why = Fault::new(Code::E_NOT_FOUND, "the process has ended");
                    self.hang_up(connection, why, turn);
                }
                self.process_ended(&process);
            }
            Event::ProfileLoaded { session, result } => self.profile_loaded(session, result, turn),
            Event::ProfileLooked { name, result } => self.profile_looked(&name, &result, turn),
            Event::UsersFound { question, result } => self.users_found(question, result, turn),
            Event::Ends(ends) => self.ends_found(ends, turn),
            Event::ProfileDeleted { name, result } => self.profile_deleted(&name, &result, turn),
            Event::Adopt { profile } => {
                let user = self.settings.owner;
                self.adopt(SessionKey { user, profile }, turn);
            }
            Event::Answered { call, result } => self.answered(call, result, turn),
            Event::StoreChanged { lane, changes } => self.store_changed(lane, changes, turn),
            Event::MailboxReports { lane, report } => self.mailbox_reports(lane, report, turn),
            Event::MailboxSaid { lane, said } => self.mailbox_said(lane, &said, turn),
            Event::Withdrawn { call } => self.withdrawn(call, turn),
            Event::LaneEnded(lane) => self.lane_ended(lane, turn),
            Event::Look => self.look_at_calls(turn),
            Event::Timer => {
                self.timers.fired();
                while let Some(timer) = self.timers.due(turn.tick.boot) {
                    self.timer(timer, turn);
                }
            }
            Event::Measure => self.measure(turn),
            Event::Reload(settings) => {
                let broker = std::mem::take(&mut self.settings.broker);
                self.settings = Settings { broker, ..*settings };
                self.reload_all(turn);
            }
            Event::Stop(how) => self.stop(how, turn),
        }
        self.tidy(turn);
    }

    /// Forgets a process that has ended.
    fn process_ended(&mut self, key: &ProcessKey) {
        if let Some((id, process)) = self.peers.processes.end(key) {
            self.timers.clear(Timer::TearDown(id));
            for held in &process.held {
                self.peers.processes.pay_left_behind(held.asker());
            }
            for session in process.told() {
                if let Some(session) = self.sessions.all.get_mut(session) {
                    session.kept_by.remove(&id);
                }
            }
        }
    }

    /// Detects that the wall clock was set back. Entries that wait for a wall clock time would wait that much longer. If it was set
    /// forward, they are only due sooner.
    fn look_at_clock(&mut self, tick: Tick) {
        let Tick { boot, wall, .. } = tick;
        // Many events happen at the same time.
        if self.clocks.is_some_and(|clocks| (clocks.boot, clocks.wall) == (boot, wall)) {
            return;
        }
        let ahead = tick.millis() as i64 - tick.boot.as_millis() as i64;
        let before = self.clocks.replace(Clocks { boot, wall, ahead }).map_or(ahead, |c| c.ahead);
        if let Ok(back) = u64::try_from(before - ahead)
            && back >= SET_BACK
        {
            self.queues.engines.each_mut().for_each(|engine| engine.clock_was_set_back(back));
            self.queues.giving_up.clock_was_set_back(back);
        }
    }

    /// Completes the consequences of an event, so that the next event starts from a consistent state.
    fn tidy(&mut self, turn: &mut Turn) {
        turn.errand = Errand::default();
        if self.peers.processes.some_are_gone() {
            self.drop_sweeps(turn);
        }
        loop {
            while let Some(Lost { then, called, session }) = self.providers.next_lost() {
                let (code, message) = match called {
                    Called::Yes => {
                        (Code::E_TIMEOUT, "the provider did not answer and was left behind")
                    }
                    Called::Never => {
                        (Code::E_CANCEL, "the provider was left behind before it was called")
                    }
                };
                let error = ProviderError::new(code, message);
                let error = match called {
                    Called::Yes => error.effect_unknown(),
                    Called::Never => error,
                };
                self.go_on(then, Err(error), turn);
                // The closing of its session may have waited only for this call.
                if let Some(session) = session {
                    self.advance_phase(session, turn);
                }
            }
            self.pump_all(turn);
            self.stop_if_over(turn);
            // Behind all that may end a session.
            self.settle_mailboxes(turn);
            if !self.providers.has_lost() {
                break;
            }
        }
        if let Some(at) = self.timers.rearm() {
            turn.emit(Effect::Arm(at));
        }
    }

    fn timer(&mut self, timer: Timer, turn: &mut Turn) {
        match timer {
            Timer::Grace(session) => self.grace_over(session, turn),
            Timer::Leaving(member) => self.check_leaving(member, turn),
            Timer::Linger(session) => self.linger_over(session, turn),
            Timer::Logon(session, place) => self.logon_over(session, place, turn),
            Timer::Closing(session) => self.phase_over(session, turn),
            Timer::Due(engine) => self.due(engine),
            Timer::Reach(session, place) => self.reach_due(session, place, turn),
            Timer::GiveUp => self.give_up(turn),
            Timer::Idle(engine) => self.idle(engine, turn),
            Timer::Sweep(sweep) => self.share_over(sweep, turn),
            Timer::TearDown(process) => self.tear_down(process, turn),
            Timer::Grants => self.expire_grants(turn),
            Timer::End(tag) => self.forget_end(tag, turn),
            Timer::Stop => self.stop_tick(turn),
        }
    }

    /// A number that is unique in this broker.
    pub(crate) fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Checks the state of a broker at rest: no call and no request is unanswered, and what was due has happened. Each table and
    /// counter must match its owners. A new field does not compile until this function decides what must be true of it.
    #[cfg(test)]
    pub(crate) fn check_at_rest(&self) {
        let Self {
            timers,
            peers,
            providers,
            queues,
            sessions,
            sweeps,
            asking,
            stopping,
            // What the broker was told, and what counts up in its life.
            settings: _,
            clocks: _,
            made: _,
        } = self;
        let Peers { connections, processes, requests_made: _ } = peers;
        let Queues {
            engines,
            closed,
            flights,
            giving_up,
            finals: _,
            tally: _,
            paces: _,
            running: _,
        } = queues;
        let Sessions { all, joinable, members, grants, ends, doomed, looks, unsettled, .. } =
            sessions;
        assert!(unsettled.is_empty(), "mailboxes are not told: {unsettled:?}");
        assert!(looks.is_empty(), "profiles are looked at: {looks:?}");
        // A session that could not start is shown until one of its profile can start or the profile is deleted.
        let Sessions { failed: _, departures: _, .. } = sessions;
        assert!(flights.is_empty() && sweeps.is_empty() && asking.is_empty());
        let is_open = |store| engines.values().any(|e| e.uid == Some(store));
        providers.left_behind.check_at_rest(is_open);
        processes.check_at_rest(self);
        for connection in connections.values() {
            connection.check_at_rest(self);
        }
        for session in all.values() {
            session.check_at_rest(self);
        }
        for member in members.values() {
            member.check_at_rest(self);
        }
        for engine in engines.values() {
            engine.check_at_rest(self);
        }
        grants.check_at_rest(self);
        let may_be_joined = all.values().filter(|s| s.is_joinable());
        assert_eq!(joinable.len(), may_be_joined.count(), "{joinable:?}");
        let open = |path: &PathBuf| engines.at(path).is_some_and(|e| engines[&e].uid.is_some());
        assert!(!closed.keys().any(open), "a store that is open counts as closed: {closed:?}");
        let views = all.values().flat_map(|s| &s.providers).filter(|p| p.engine.is_none());
        let views = views.map(|p| p.lane).filter(|lane| providers.is_open(*lane));
        let used = engines.values().flat_map(|e| [e.write, e.read]).chain(views).collect();
        providers.check_at_rest(&used);
        for (profile, waiting) in doomed {
            let used = all.values().any(|s| s.key.profile == *profile);
            assert!(used && waiting.is_empty(), "profile {profile:?} can go");
        }
        timers.check(|timer| self.is_wanted(timer));
        assert!(timers.is_set(Timer::GiveUp) || !giving_up.waits() || stopping.is_some());
        assert_eq!(timers.is_set(Timer::Grants), grants.waiting().next().is_some());
        for (tag, kept) in ends.iter().filter(|_| stopping.is_none()) {
            assert_eq!(timers.is_set(Timer::End(*tag)), kept.is_closed(), "{kept:?}");
        }
    }

    /// Whether a timer may be set in a broker at rest.
    #[cfg(test)]
    fn is_wanted(&self, timer: Timer) -> bool {
        let state = |id| self.sessions.all.get(&id).map(|s| &s.state);
        match timer {
            Timer::Grace(id) => {
                matches!(state(id), Some(SessionState::Ending { deadline: Some(_), .. }))
            }
            Timer::Linger(id) => state(id) == Some(&SessionState::Memberless),
            Timer::Due(engine) => self.queues.engines.contains_key(&engine),
            Timer::Idle(engine) => {
                let engine = self.queues.engines.get(&engine);
                engine.is_some_and(|e| e.sessions.is_empty() || e.is_not_logged_on())
            }
            Timer::GiveUp => self.queues.giving_up.waits(),
            Timer::Reach(id, place) => {
                self.sessions.all.get(&id).is_some_and(|s| s.providers[place].reach.waits())
            }
            Timer::Grants => self.sessions.grants.waiting().next().is_some(),
            Timer::End(tag) => self.sessions.ends.get(&tag).is_some_and(Kept::is_closed),
            Timer::Stop => self.stopping.is_some(),
            // These belong to something in progress.
            Timer::Leaving(_)
            | Timer::Logon(..)
            | Timer::Closing(_)
            | Timer::Sweep(_)
            | Timer::TearDown(_) => false,
        }
    }

    /// Checks that nothing is left when all processes have left and the stores are closed: the broker is as it was at the start.
    #[cfg(test)]
    pub(crate) fn check_as_at_the_start(&self) {
        let Self {
            timers,
            peers,
            providers,
            queues,
            sessions,
            sweeps,
            asking,
            // What the broker was told, what counts up in its life, and whether it is about to stop.
            settings: _,
            clocks: _,
            made: _,
            stopping: _,
        } = self;
        let Peers { connections, processes, requests_made: _ } = peers;
        // What `status` shows of queues, and when waiting messages are given up and how many notifications were forwarded, by profile
        // (design §3.18).
        let Queues {
            engines,
            flights,
            closed: _,
            giving_up: _,
            finals: _,
            tally: _,
            paces: _,
            running: _,
        } = queues;
        // What `status` shows of sessions that could not start.
        let Sessions { all, joinable, members, grants, ends, doomed, looks, .. } = sessions;
        let Sessions { failed: _, departures: _, .. } = sessions;
        assert!(looks.is_empty(), "profiles are looked at: {looks:?}");
        assert!(connections.is_empty(), "connections are left: {connections:?}");
        assert!(processes.are_gone(), "processes are left: {processes:?}");
        assert!(all.is_empty(), "sessions are left: {all:?}");
        assert!(joinable.is_empty(), "joinable sessions are left: {joinable:?}");
        // They are kept for two minutes: a client may come back to one (SEED-4).
        assert!(ends.values().all(Kept::is_closed), "sessions that ended are left: {ends:?}");
        assert!(members.is_empty(), "members are left: {members:?}");
        assert!(engines.is_empty(), "stores are left: {engines:?}");
        assert!(flights.is_empty(), "flights are left: {flights:?}");
        providers.check_at_rest(&std::collections::BTreeSet::new());
        let lasts = |timer| matches!(timer, Timer::GiveUp | Timer::End(_) | Timer::Stop);
        timers.check(|timer| lasts(timer) && self.is_wanted(timer));
        assert!(sweeps.is_empty(), "sweeps are left: {sweeps:?}");
        assert!(asking.is_empty(), "questions are left: {asking:?}");
        grants.check_at_rest(self);
        assert!(grants.waiting().next().is_none() && doomed.is_empty(), "{grants:?}, {doomed:?}");
    }
}

/// The folder of a recovered or saved message.
pub(crate) const DRAFTS: Folder = Folder::DRAFTS;
