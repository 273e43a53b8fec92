//! The one owner of all state, and the one function that changes it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sundown_protocol::reply::SessionStatus;
use sundown_protocol::request::Folder;
use sundown_protocol::{Code, Correlation, Fault, MemberId, SessionId, SessionTag};

use crate::answer::{Answer, Ask, wrong_answer};
use crate::connection::{Asker, Connection};
use crate::ends::Kept;
use crate::engine::{ClosedStore, Engine};
use crate::event::{
    Behalf, CallId, ConnectionId, Effect, EngineId, Errand, Event, LaneId, ProcessKey, Tick, Turn,
};
use crate::giving_up::GivingUp;
use crate::grants::Grants;
use crate::lanes::{Lanes, Outgoing, Payer, Urgency};
use crate::member::Member;
use crate::numbers::NumberMap;
use crate::process::{ProcessId, Processes};
use crate::provider::{Expected, Known, ProviderAnswer, ProviderCall, ProviderError, Scope, Wrong};
use crate::renewal::Renewals;
#[cfg(test)]
use crate::session::SessionState;
use crate::session::{Provider, Session, SessionKey};
use crate::settings::Settings;
use crate::shutdown::Sweep;
use crate::spooler::Flight;
use crate::status::Trouble;
use crate::stop::Stopping;
use crate::then::Then;
use crate::timers::{Timer, Timers};

/// By how much the wall clock must go back at once to have been set, in milliseconds. Less delays nothing that matters.
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
    pub(crate) connections: NumberMap<ConnectionId, Connection>,
    pub(crate) processes: Processes,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) joinable: BTreeMap<SessionKey, SessionId>,
    /// Shared sessions that were ended, as long as a member may come back to one.
    pub(crate) ends: BTreeMap<SessionTag, Kept>,
    pub(crate) members: NumberMap<MemberId, Member>,
    pub(crate) engines: BTreeMap<EngineId, Engine>,
    pub(crate) engine_of: HashMap<PathBuf, EngineId>,
    /// What is in the queues of stores that are not open.
    pub(crate) closed: BTreeMap<PathBuf, ClosedStore>,
    pub(crate) flights: NumberMap<u64, Flight>,
    pub(crate) lanes: Lanes,
    pub(crate) renewals: Renewals,
    pub(crate) calls: NumberMap<CallId, Call>,
    /// What waited for calls that no provider will answer any more.
    pub(crate) lost: VecDeque<Lost>,
    pub(crate) timers: Timers,
    /// Submissions that became final since the start, by state.
    pub(crate) finals: [u64; 9],
    /// Members that left since the start, by reason.
    pub(crate) departures: [u64; 5],
    pub(crate) stopping: Option<Stopping>,
    pub(crate) sweeps: BTreeMap<u64, Sweep>,
    pub(crate) grants: Grants,
    /// Profiles that go when nobody uses them any more, and who waits for that.
    pub(crate) doomed: BTreeMap<String, Vec<Asker>>,
    pub(crate) giving_up: GivingUp,
    /// Sessions that could not start, by profile and user, as `status` shows them until one can.
    pub(crate) failed: BTreeMap<(String, u32), SessionStatus>,
    /// As of the last event.
    clocks: Option<Clocks>,
    made: u64,
}

/// What the clocks showed, and how many milliseconds the wall's is ahead of that of the timers.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    boot: Duration,
    wall: SystemTime,
    ahead: i64,
}

/// Whether a call that is lost had reached its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    Yes,
    Never,
}

/// What waited for a call that no provider will answer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Lost {
    pub(crate) then: Then,
    pub(crate) called: Called,
    /// The session it was made for.
    pub(crate) session: Option<SessionId>,
}

/// A call that was not answered yet.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Call {
    lane: LaneId,
    session: Option<SessionId>,
    errand: Errand,
    /// What is called.
    name: &'static str,
    /// What it must be answered with.
    expected: Expected,
    /// The call itself and who made it, should it have to be made again.
    again: Option<Box<(Caller, ProviderCall)>>,
    pub(crate) then: Then,
}

/// Who makes a call: for whom it is logged, and whose turn it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) session: Option<SessionId>,
    pub(crate) process: Option<ProcessId>,
    pub(crate) urgency: Urgency,
}

impl Caller {
    /// The broker itself, for a session.
    pub(crate) fn broker(session: Option<SessionId>) -> Self {
        Self { session, process: None, urgency: Urgency::InTurn }
    }

    /// The same, in front of everything that waits.
    pub(crate) fn first(self) -> Self {
        Self { urgency: Urgency::First, ..self }
    }

    /// The same, behind everything that waits.
    pub(crate) fn last(self) -> Self {
        Self { urgency: Urgency::Last, ..self }
    }
}

impl Broker {
    /// A broker that nobody talks to yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            connections: NumberMap::default(),
            processes: Processes::default(),
            sessions: BTreeMap::new(),
            joinable: BTreeMap::new(),
            ends: BTreeMap::new(),
            members: NumberMap::default(),
            engines: BTreeMap::new(),
            engine_of: HashMap::new(),
            closed: BTreeMap::new(),
            flights: NumberMap::default(),
            lanes: Lanes::default(),
            renewals: Renewals::default(),
            calls: NumberMap::default(),
            lost: VecDeque::new(),
            timers: Timers::default(),
            finals: [0; 9],
            departures: [0; 5],
            stopping: None,
            sweeps: BTreeMap::new(),
            grants: Grants::default(),
            doomed: BTreeMap::new(),
            giving_up: GivingUp::default(),
            failed: BTreeMap::new(),
            clocks: None,
            made: 0,
        }
    }

    /// Whether something of a process that has left is still on its way into a store, and held in memory until then.
    pub fn has_left_behind(&self) -> bool {
        self.processes.accounts.has_left_behind()
    }

    /// Applies one event. Time and chance are arguments; what should happen in the world comes out as effects.
    pub fn apply(&mut self, tick: Tick, event: Event, effects: &mut Vec<Effect>) {
        let mut turn = Turn::new(tick, effects);
        let turn = &mut turn;
        self.look_at_clock(tick);
        self.note_begin(tick.boot);
        match event {
            Event::Connected { connection, identity } => self.connected(connection, identity, turn),
            Event::Request { connection, asked, bytes } => {
                self.request(connection, asked, bytes, turn);
            }
            Event::Disconnected { connection } => self.disconnected(connection, turn),
            Event::ProcessEnded { process } => {
                let held = self.processes.find(&process).map(|p| p.connections.clone());
                for connection in held.unwrap_or_default() {
                    let why = Fault::new(Code::E_NOT_FOUND, "the process has ended");
                    self.hang_up(connection, why, turn);
                }
                self.process_ended(&process, turn);
            }
            Event::ProfileLoaded { session, result } => self.profile_loaded(session, result, turn),
            Event::Ends(ends) => self.ends_found(ends, turn),
            Event::ProfileDeleted { name, result } => self.profile_deleted(&name, &result, turn),
            Event::Adopt { profile } => {
                let user = self.settings.owner;
                self.adopt(SessionKey { user, profile }, turn);
            }
            Event::Answered { call, result } => self.answered(call, result, turn),
            Event::Withdrawn { call } => self.withdrawn(call, turn),
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
            }
            Event::Stop(how) => self.stop(how, turn),
        }
        self.tidy(turn);
    }

    /// A process is no more, and nothing is kept of it.
    fn process_ended(&mut self, key: &ProcessKey, turn: &mut Turn) {
        if let Some((id, process)) = self.processes.end(key) {
            self.timers.clear(Timer::TearDown(id));
            for held in &process.held {
                self.processes.pay_left_behind(held.asker());
            }
            for session in process.told() {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.kept_by.remove(&id);
                }
            }
        }
        self.drop_sweeps(turn);
    }

    /// Notices when the wall clock was set back. What waits for a time on it would wait so much longer. When it was set
    /// forward, what waits is only due sooner.
    fn look_at_clock(&mut self, tick: Tick) {
        let Tick { boot, wall, .. } = tick;
        // Many events happen at once.
        if self.clocks.is_some_and(|clocks| (clocks.boot, clocks.wall) == (boot, wall)) {
            return;
        }
        let ahead = tick.millis() as i64 - tick.boot.as_millis() as i64;
        let before = self.clocks.replace(Clocks { boot, wall, ahead }).map_or(ahead, |c| c.ahead);
        if let Ok(back) = u64::try_from(before - ahead)
            && back >= SET_BACK
        {
            self.engines.values_mut().for_each(|engine| engine.clock_was_set_back(back));
        }
    }

    /// Brings the state back to normal, so that the next event starts from a known one.
    fn tidy(&mut self, turn: &mut Turn) {
        turn.errand = Errand::default();
        loop {
            while let Some(Lost { then, called, session }) = self.lost.pop_front() {
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
                // Its closing may have waited for this call alone.
                if let Some(session) = session {
                    self.advance_phase(session, turn);
                }
            }
            self.pump_all(turn);
            self.stop_if_over(turn);
            if self.lost.is_empty() {
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
            Timer::Reach(session, place) => self.ask_reach(session, place, turn),
            Timer::GiveUp => self.give_up(turn),
            Timer::Idle(engine) => self.idle(engine, turn),
            Timer::Sweep(sweep) => self.share_over(sweep, turn),
            Timer::TearDown(process) => self.tear_down(process, turn),
            Timer::Grants => self.expire_grants(turn),
            Timer::End(tag) => self.forget_end(tag, turn),
            Timer::Stop => self.stop_tick(turn),
        }
    }

    /// A number that no other thing of this broker has.
    pub(crate) fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Calls a provider, as soon as there is a place for the call. `None` when its lane is closed.
    pub(crate) fn call<A: Answer>(
        &mut self,
        lane: LaneId,
        caller: Caller,
        ask: Ask<A>,
        after: A::After,
        turn: &mut Turn,
    ) -> Option<CallId> {
        self.make_call(lane, caller, ask.call, A::then(after), turn)
    }

    /// The same of a call that goes on with an answer of its kind.
    pub(crate) fn make_call(
        &mut self,
        lane: LaneId,
        caller: Caller,
        provider: ProviderCall,
        then: Then,
        turn: &mut Turn,
    ) -> Option<CallId> {
        let Some(provider_type) = self.lanes.provider_type(lane) else {
            let (called, session) = (Called::Never, caller.session);
            self.lost.push_back(Lost { then, called, session });
            return None;
        };
        let call = CallId(self.number());
        let (session, errand) = (caller.session, turn.errand);
        let name = provider.name();
        let kept = self.renewals.keeps(lane, &provider);
        let again = kept.then(|| Box::new((caller, provider.clone())));
        let expected = provider.expects(provider_type);
        self.calls.insert(call, Call { lane, session, errand, name, expected, again, then });
        if let Some(provider) = self.provider_at(session, lane) {
            provider.unanswered += 1;
        }
        let process = caller.process.and_then(|id| self.processes.get(id));
        let pid = process.map(|p| p.peer.pid);
        let Errand { correlation, entry } = errand;
        let behalf = Box::new(Behalf { session, pid, correlation, entry });
        let outgoing = Outgoing { call, behalf, provider };
        let payer = process.map_or(Payer::Broker, |process| self.processes.payer(process));
        self.lanes.send(lane, payer, caller.urgency, outgoing, turn);
        Some(call)
    }

    /// Takes a call back that its provider has not begun. What waited for it is told nothing. The name of the call, and the
    /// request that led to it.
    pub(crate) fn withdraw(
        &mut self,
        call: CallId,
        turn: &mut Turn,
    ) -> Option<(&'static str, Option<Correlation>)> {
        let Call { lane, session, errand, name, .. } = self.calls.get(&call)?;
        let (lane, session, named) = (*lane, *session, (*name, errand.correlation));
        if self.lanes.withdraw(lane, call) {
            self.calls.remove(&call);
            if let Some(provider) = self.provider_at(session, lane) {
                provider.unanswered -= 1;
            }
        } else {
            turn.emit(Effect::Withdraw { lane, call });
        }
        Some(named)
    }

    /// A worker has not begun a call that was taken back: its place is free.
    fn withdrawn(&mut self, call: CallId, turn: &mut Turn) {
        let Some(Call { lane, session, .. }) = self.calls.remove(&call) else { return };
        if let Some(provider) = self.provider_at(session, lane) {
            provider.unanswered -= 1;
        }
        self.lanes.answered(lane, turn);
        if let Some(session) = session {
            self.advance_phase(session, turn);
        }
    }

    fn answered(
        &mut self,
        call: CallId,
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        let checked = match (&result, self.calls.get(&call)) {
            (Ok(answer), Some(call)) => call.expected.check(answer, self.known_of(call)),
            (Err(_), _) | (_, None) => Ok(()),
        };
        let result = match checked {
            Ok(()) => result,
            Err(wrong) => self.answered_wrongly(call, wrong, turn),
        };
        let Some(Call { lane, session, errand, again, then, .. }) = self.calls.remove(&call) else {
            return;
        };
        turn.errand = errand;
        if let Some(provider) = self.provider_at(session, lane) {
            provider.unanswered -= 1;
            if provider.lane == lane {
                provider.late = None;
            }
        }
        self.lanes.answered(lane, turn);
        let (then, result) = match again {
            Some(again) => match self.judge((lane, call), *again, (then, result), turn) {
                Some(judged) => judged,
                None => return,
            },
            None => (then, result),
        };
        if let Err(error) = &result
            && error.code == Code::E_CORRUPT_STORE
        {
            self.note_damage((session, lane), &then, &error.message);
        }
        let lost = result.as_ref().err().filter(|error| error.scope == Scope::Store).cloned();
        self.go_on(then, result, turn);
        // Whoever asked has its own answer before everybody is told.
        if let Some(why) = lost {
            self.lose_store(lane, &why, turn);
        }
        if let Some(session) = session {
            self.advance_phase(session, turn);
        }
    }

    /// Of a call that was answered with something that is no answer to it, it is not known what it has done. The log and `status`
    /// say so.
    #[cold]
    fn answered_wrongly(
        &mut self,
        call: CallId,
        wrong: Wrong,
        turn: &mut Turn,
    ) -> Result<ProviderAnswer, ProviderError> {
        let Call { lane, session, errand, name, .. } = &self.calls[&call];
        let (lane, session, name) = (*lane, *session, *name);
        let Errand { correlation, entry } = *errand;
        let trouble = Trouble::WrongAnswer(format!("{name} was {wrong}"));
        let engine = self.engines.values_mut().find(|e| e.write == lane || e.read == lane);
        match engine {
            Some(engine) => Trouble::note(&mut engine.trouble, trouble),
            None => {
                if let Some(provider) = self.provider_at(session, lane) {
                    Trouble::note(&mut provider.trouble, trouble);
                }
            }
        }
        let provider = self.lanes.provider_name(lane).to_owned();
        let behalf = Box::new(Behalf { session, pid: None, correlation, entry });
        let error = wrong_answer(&provider, name, wrong);
        turn.emit(Effect::WrongAnswer { provider, call: name, wrong, behalf });
        Err(error)
    }

    /// What is known of a call that its answer must agree with.
    fn known_of(&self, call: &Call) -> Known<'_> {
        let recipients = match &call.then {
            Then::Prepared(flight) | Then::Results(flight) => {
                self.flights.get(flight).map(Flight::recipients)
            }
            _ => None,
        };
        let store = || {
            let mut engines = self.engines.values();
            engines.find(|e| e.write == call.lane || e.read == call.lane)?.uid
        };
        let store = if call.expected.names_its_store() { store() } else { None };
        Known { store, recipients }
    }

    /// A store or address book said that it is damaged, or a transport could not read a message for that.
    fn note_damage(&mut self, at: (Option<SessionId>, LaneId), then: &Then, what: &str) {
        let (session, lane) = at;
        let of_message = match then {
            Then::Prepared(flight) => self.flights.get(flight).map(Flight::engine),
            _ => None,
        };
        let here = |e: &&mut Engine| e.write == lane || e.read == lane || Some(e.id) == of_message;
        let damage = Trouble::Damage(what.to_owned());
        if let Some(engine) = self.engines.values_mut().find(here) {
            Trouble::note(&mut engine.trouble, damage);
        } else if let Some(provider) = self.provider_at(session, lane) {
            Trouble::note(&mut provider.trouble, damage);
        }
    }

    /// Checks that what is counted of calls agrees with the calls: what each provider has not answered for its sessions, and the
    /// places of each lane.
    #[cfg(test)]
    pub(crate) fn check_calls(&self) {
        for session in self.sessions.values() {
            for provider in &session.providers {
                let of_it = |c: &&Call| {
                    c.session == Some(session.id)
                        && (c.lane == provider.lane || provider.reader == Some(c.lane))
                };
                let unanswered = self.calls.values().filter(of_it).count();
                assert_eq!(provider.unanswered, unanswered, "calls of {}", provider.name);
            }
        }
        self.lanes.check(|lane| self.calls.values().filter(|c| c.lane == lane).count());
    }

    /// Checks what is kept where nothing is under way: no call is out, no request waits for its answer, and what was due has
    /// happened. Each table and counter is what its owners account for. A new field does not compile until it is decided here what
    /// must be true of it.
    #[cfg(test)]
    pub(crate) fn check_at_rest(&self) {
        let Self {
            connections,
            processes,
            sessions,
            joinable,
            ends,
            members,
            engines,
            engine_of,
            closed,
            flights,
            lanes,
            renewals,
            calls,
            lost,
            timers,
            stopping,
            sweeps,
            grants,
            doomed,
            giving_up,
            // What the broker was told, and what counts up in its life.
            settings: _,
            finals: _,
            departures: _,
            clocks: _,
            made: _,
            // Until a session of that profile can start, or the profile is gone.
            failed: _,
        } = self;
        assert!(calls.is_empty() && lost.is_empty() && flights.is_empty() && sweeps.is_empty());
        processes.check_at_rest(self);
        for connection in connections.values() {
            connection.check_at_rest(self);
        }
        for session in sessions.values() {
            session.check_at_rest(self);
        }
        for member in members.values() {
            member.check_at_rest(self);
        }
        for engine in engines.values() {
            engine.check_at_rest(self);
        }
        grants.check_at_rest(self);
        let may_be_joined = sessions.values().filter(|s| s.is_joinable());
        assert_eq!(joinable.len(), may_be_joined.count(), "{joinable:?}");
        assert_eq!(engine_of.len(), engines.len(), "{engine_of:?}");
        let open = |path: &PathBuf| engine_of.get(path).is_some_and(|e| engines[e].uid.is_some());
        assert!(!closed.keys().any(open), "a store that is open counts as closed: {closed:?}");
        let views = sessions.values().flat_map(|s| &s.providers).filter(|p| p.engine.is_none());
        let views = views.map(|p| p.lane).filter(|lane| lanes.is_open(*lane));
        let used = engines.values().flat_map(|e| [e.write, e.read]).chain(views).collect();
        lanes.check_at_rest(&used);
        renewals.check_at_rest(|lane| lanes.is_open(lane));
        for (profile, waiting) in doomed {
            let used = sessions.values().any(|s| s.key.profile == *profile);
            assert!(used && waiting.is_empty(), "profile {profile:?} can go");
        }
        timers.check(|timer| self.is_wanted(timer));
        assert!(timers.is_set(Timer::GiveUp) || !giving_up.waits() || stopping.is_some());
        assert_eq!(timers.is_set(Timer::Grants), grants.waiting().next().is_some());
        for (tag, kept) in ends.iter().filter(|_| stopping.is_none()) {
            assert_eq!(timers.is_set(Timer::End(*tag)), kept.is_closed(), "{kept:?}");
        }
    }

    /// Whether something may still happen where nothing is under way.
    #[cfg(test)]
    fn is_wanted(&self, timer: Timer) -> bool {
        let state = |id| self.sessions.get(&id).map(|s| &s.state);
        match timer {
            Timer::Grace(id) => {
                matches!(state(id), Some(SessionState::Ending { deadline: Some(_), .. }))
            }
            Timer::Linger(id) => state(id) == Some(&SessionState::Memberless),
            Timer::Due(engine) => self.engines.contains_key(&engine),
            Timer::Idle(engine) => self.engines.get(&engine).is_some_and(|e| e.sessions.is_empty()),
            Timer::GiveUp => self.giving_up.waits(),
            Timer::Reach(id, place) => {
                self.sessions.get(&id).is_some_and(|s| s.providers[place].reach.waits())
            }
            Timer::Grants => self.grants.waiting().next().is_some(),
            Timer::End(tag) => self.ends.get(&tag).is_some_and(Kept::is_closed),
            Timer::Stop => self.stopping.is_some(),
            // They are of something that is under way.
            Timer::Leaving(_)
            | Timer::Logon(..)
            | Timer::Closing(_)
            | Timer::Sweep(_)
            | Timer::TearDown(_) => false,
        }
    }

    /// Checks that nothing is left when everybody has left and stores are closed: the broker is what it was at the start.
    #[cfg(test)]
    pub(crate) fn check_as_at_the_start(&self) {
        let Self {
            connections,
            processes,
            sessions,
            joinable,
            ends,
            members,
            engines,
            engine_of,
            flights,
            lanes,
            renewals,
            calls,
            lost,
            timers,
            sweeps,
            grants,
            doomed,
            // What `status` shows of queues and of sessions that could not start.
            closed: _,
            failed: _,
            // When what waits is given up, by profile (design §3.18).
            giving_up: _,
            // What the broker was told, what counts up in its life, and whether that is about to end.
            settings: _,
            finals: _,
            departures: _,
            clocks: _,
            made: _,
            stopping: _,
        } = self;
        assert!(connections.is_empty(), "connections are left: {connections:?}");
        assert!(processes.are_gone(), "processes are left: {processes:?}");
        assert!(sessions.is_empty(), "sessions are left: {sessions:?}");
        assert!(joinable.is_empty(), "joinable sessions are left: {joinable:?}");
        // For two minutes: a client may come back to one (SEED-4).
        assert!(ends.values().all(Kept::is_closed), "sessions that ended are left: {ends:?}");
        assert!(members.is_empty(), "members are left: {members:?}");
        assert!(engines.is_empty(), "stores are left: {engines:?}");
        assert!(engine_of.is_empty(), "paths of stores are left: {engine_of:?}");
        assert!(flights.is_empty(), "flights are left: {flights:?}");
        lanes.check_at_rest(&std::collections::BTreeSet::new());
        renewals.check_at_rest(|_| false);
        assert!(calls.is_empty() && lost.is_empty(), "calls are left: {calls:?}, {lost:?}");
        let lasts = |timer| matches!(timer, Timer::GiveUp | Timer::End(_) | Timer::Stop);
        timers.check(|timer| lasts(timer) && self.is_wanted(timer));
        assert!(sweeps.is_empty(), "sweeps are left: {sweeps:?}");
        grants.check_at_rest(self);
        assert!(grants.waiting().next().is_none() && doomed.is_empty(), "{grants:?}, {doomed:?}");
    }

    /// Whether a notice or a Do is on its way to the provider behind a lane.
    pub(crate) fn is_told_of_leaving(&self, lane: LaneId) -> bool {
        let tells = |call: &Call| match &call.then {
            Then::Shutdown(visit) => visit.tells_of_leaving(),
            _ => false,
        };
        self.calls.values().any(|call| call.lane == lane && tells(call))
    }

    /// A session's view on the provider behind a lane.
    pub(crate) fn provider_at(
        &mut self,
        session: Option<SessionId>,
        lane: LaneId,
    ) -> Option<&mut Provider> {
        let session = self.sessions.get_mut(&session?)?;
        session.providers.iter_mut().find(|p| p.lane == lane || p.reader == Some(lane))
    }

    /// Lets a worker go. Whoever waits for one of its answers is told that none comes.
    pub(crate) fn close_lane(&mut self, id: LaneId, turn: &mut Turn) {
        let never = self.lanes.close(id, turn);
        self.drop_renewals(id);
        let mut lost: Vec<_> = self.calls.extract_if(|_, call| call.lane == id).collect();
        lost.sort_unstable_by_key(|(call, _)| *call);
        for (call, Call { session, then, .. }) in lost {
            if let Some(provider) = self.provider_at(session, id) {
                provider.unanswered -= 1;
            }
            let called = if never.contains(&call) { Called::Never } else { Called::Yes };
            self.lost.push_back(Lost { then, called, session });
        }
    }
}

/// The folder a recovered or saved message stands in.
pub(crate) const DRAFTS: Folder = Folder::Drafts;
