//! Logons: joins a session or starts one.

use std::collections::BTreeMap;

use sundown_protocol::reply::{LoggedOn, Reply};
use sundown_protocol::request::{Logon, LogonFlags, Request};
use sundown_protocol::{Code, Fault, MemberId, SessionId, SessionTag};

use crate::broker::Broker;
use crate::flows::leaving::shutdown::shut_down;
use crate::ground::event::{Effect, LaneId, LaneSpec, Trouble, Turn};
use crate::ground::provider::{
    AskedBy, MailboxReport, ProviderError, ProviderSpec, ProviderType, TransportFacts,
};
use crate::ground::settings::{LoadedProfile, Profile, Right};
use crate::ground::timers::Timer;
use crate::peers::connection::{Asker, Counts};
use crate::peers::process::{Departure, Held};
use crate::peers::quota::Quota;
use crate::peers::waiting::{SessionKey, Sharing, Waiting};
use crate::providers::ask::{Ask, Ready};
use crate::providers::calls::Caller;
use crate::providers::lanes::PLACES;
use crate::providers::view::{Part, Poke, Provider, ProviderState, Reach};
use crate::sessions::member::{Member, MemberState};
use crate::sessions::object::Objects;
use crate::sessions::session::{InUse, MailAfter, Session, SessionState};
use crate::then::AfterLogon;

/// `cchProfileNameMax`.
const MAX_PROFILE_NAME: usize = 64;

/// The order in which providers log on (LOGON-12): a store may ask an address book, and a transport reads stores.
const START_ORDER: [ProviderType; 4] = [
    ProviderType::AddressBook,
    ProviderType::Store,
    ProviderType::Transport,
    ProviderType::Mailbox,
];

/// How long a provider may take to log on. The logons to its session wait for it.
const LOGON_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The most messages that a transport is handed at once, whatever it says. Each message has a call in progress, and half of the
/// places must stay free for the calls that finish those.
const MOST_AT_ONCE: usize = PLACES / 2;

/// The number of failed logons after which a provider is disabled for the life of the session (LOGON-11).
const LOGON_TRIES: u32 = 2;

impl Broker {
    pub(crate) fn logon(
        &mut self,
        asker: Asker,
        logon: Logon,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let Logon { profile, flags } = logon;
        if flags.0 & !LogonFlags::KNOWN != 0 {
            let message = format!("logon flags 0x{:X} are not known", flags.0 & !LogonFlags::KNOWN);
            return Err(Fault::new(Code::E_UNKNOWN_FLAGS, message));
        }
        let profile = profile.unwrap_or_else(|| "default".into());
        if profile.is_empty() || profile.chars().count() > MAX_PROFILE_NAME {
            let message = format!("a profile's name has 1 to {MAX_PROFILE_NAME} characters");
            return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
        }
        self.refuse_while_stopping()?;
        self.refuse_doomed(&profile)?;
        self.check_member_quota(asker)?;
        let process = self.peers.of(asker).expect("who asks is connected");
        let key = SessionKey { user: self.session_user(process.uid), profile };
        if flags.contains(LogonFlags::NEW_SESSION) {
            self.check_session_quota(asker, Sharing::Private)?;
            let waiting = Waiting::Logon(self.count_logon(asker), flags);
            self.start_session((key, None), Sharing::Private, Some(waiting), turn);
            return Ok(());
        }
        if flags.contains(LogonFlags::TIMEOUT_SHORT) && self.is_starting(&key) {
            let message = format!("the session of profile {:?} is still starting", key.profile);
            return Err(Fault::new(Code::E_TIMEOUT, message));
        }
        let waiting = Waiting::Logon(self.count_logon(asker), flags);
        self.with_session(key, waiting, turn);
        Ok(())
    }

    pub(crate) fn check_member_quota(&self, asker: Asker) -> Result<(), Fault> {
        match asker.counts {
            Counts::Nothing => self.check_account(asker.account, Quota::Members, 1),
            Counts::Member => self.check_account(asker.account, Quota::Members, 0),
        }
    }

    /// Whether one more session may start. A shared session is charged to its user, because every process of the user may continue
    /// to use it.
    pub(crate) fn check_session_quota(&self, asker: Asker, sharing: Sharing) -> Result<(), Fault> {
        let account = match sharing {
            Sharing::Private => asker.account,
            Sharing::Shared => self.peers.processes.accounts.whose(asker.account).1,
        };
        self.check_account(account, Quota::Sessions, 1)
    }

    /// Counts a logon in progress as a member until it is answered.
    pub(crate) fn count_logon(&mut self, asker: Asker) -> Asker {
        if asker.counts == Counts::Nothing {
            self.peers.processes.accounts.charge(asker.account, Quota::Members, 1);
        }
        Asker { counts: Counts::Member, ..asker }
    }

    /// The user whose sessions a process uses. Root uses those of the broker's own user.
    pub(crate) fn session_user(&self, uid: u32) -> u32 {
        if uid == 0 { self.settings.owner } else { uid }
    }

    fn is_starting(&self, key: &SessionKey) -> bool {
        let session = self.sessions.joinable.get(key).and_then(|id| self.sessions.all.get(id));
        session.is_some_and(|s| s.state == SessionState::Starting)
    }

    /// Continues with the joinable session of this key, which is started if there is none.
    pub(crate) fn with_session(&mut self, key: SessionKey, waiting: Waiting, turn: &mut Turn) {
        let Some(id) = self.sessions.joinable.get(&key).copied() else {
            if let Err(fault) = self.check_session_quota(waiting.asker(), Sharing::Shared) {
                return self.answer(waiting.asker(), Err(fault), turn);
            }
            self.start_session((key, None), Sharing::Shared, Some(waiting), turn);
            return;
        };
        let session = self.sessions.all.get_mut(id).expect("a joinable session exists");
        if session.state == SessionState::Starting {
            session.waiting.push(waiting);
        } else {
            self.admit(id, waiting, turn);
        }
    }

    /// Starts a session without a member, for messages in the queue. It sends them; if sessions do not linger, it only gives up
    /// messages that are too old.
    pub(crate) fn adopt(&mut self, key: SessionKey, turn: &mut Turn) {
        if self.stopping.is_none() && !self.sessions.joinable.contains_key(&key) {
            self.start_session((key, None), Sharing::Shared, None, turn);
        }
    }

    /// Starts a session. A session that was ended before keeps its tag and is not joinable.
    pub(crate) fn start_session(
        &mut self,
        (key, ended): (SessionKey, Option<SessionTag>),
        sharing: Sharing,
        waiting: Option<Waiting>,
        turn: &mut Turn,
    ) -> SessionId {
        let id = SessionId(self.number());
        turn.emit(Effect::LoadProfile { session: id, name: key.profile.clone() });
        if sharing == Sharing::Shared && ended.is_none() {
            self.sessions.joinable.insert(key.clone(), id);
        }
        let accounts = &mut self.peers.processes.accounts;
        let account = match (sharing, &waiting) {
            (Sharing::Private, Some(waiting)) => waiting.asker().account,
            (Sharing::Private, None) | (Sharing::Shared, _) => accounts.of_user(key.user),
        };
        let charge = accounts.book(account, Quota::Sessions, 1);
        let tag = ended.unwrap_or_else(|| self.new_tag(turn));
        let session = Session {
            id,
            charge,
            tag,
            key,
            sharing,
            state: SessionState::Starting,
            profile: None,
            version: InUse::default(),
            providers: Vec::new(),
            members: std::collections::BTreeSet::new(),
            with_mail: 0,
            listeners: std::collections::BTreeSet::new(),
            curious: std::collections::BTreeSet::new(),
            kept_by: std::collections::BTreeSet::new(),
            adopted: waiting.is_none(),
            waiting: waiting.into_iter().collect(),
            leavers: Vec::new(),
            evicted: Vec::new(),
            mail: MailAfter::Waits,
        };
        self.sessions.all.insert(session);
        id
    }

    pub(crate) fn profile_loaded(
        &mut self,
        id: SessionId,
        result: Result<LoadedProfile, Fault>,
        turn: &mut Turn,
    ) {
        if !self.sessions.all.contains_key(&id) {
            return;
        }
        match result {
            Ok(LoadedProfile { profile, version }) => {
                let session = self.sessions.all.get_mut(id).expect("looked at before");
                session.profile = Some(profile);
                let (read, looked) = (turn.tick.millis(), turn.tick.boot);
                session.version = InUse { version, read, looked, ..InUse::default() };
                let name = session.key.profile.clone();
                self.look_for_others(&name, version, turn);
                let session = &self.sessions.all[&id];
                let first = session.waiting.first().map(Waiting::asker);
                turn.errand.correlation = first.and_then(|asker| self.peers.correlation(asker));
                if self.refuse_strangers(id, turn) {
                    let session = self.sessions.all.get_mut(id).expect("looked at before");
                    let others = std::mem::take(&mut session.waiting);
                    self.close_session(id, turn);
                    return self.pass_over(id, others, turn);
                }
                self.start_providers(id, turn);
            }
            Err(fault) => {
                self.refuse_outsiders(id, &fault, turn);
                self.fail_session(id, &fault, turn);
            }
        }
    }

    /// Refuses users who may not use every profile, when the profile could not be read and it is unknown who may use it. They learn
    /// only that it cannot be used; where its file is and what is wrong with it is told to the others.
    fn refuse_outsiders(&mut self, id: SessionId, fault: &Fault, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let (name, waiting) = (session.key.profile.clone(), std::mem::take(&mut session.waiting));
        let (outside, others): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|waiting| self.is_outside(waiting));
        if let Some(session) = self.sessions.all.get_mut(id) {
            session.waiting = others;
        }
        let message = match fault.code {
            Code::E_NOT_FOUND => format!("there is no profile {name:?} that this user may use"),
            _ => format!(
                "profile {name:?} cannot be used: ask who administers the broker, whose log says why"
            ),
        };
        for waiting in outside {
            self.answer(waiting.asker(), Err(Fault::new(fault.code, message.clone())), turn);
        }
    }

    /// Whether the asker may not use every profile. A list of all queues is not about one profile, so it goes on without the
    /// session.
    fn is_outside(&self, waiting: &Waiting) -> bool {
        let uid = self.peers.of(waiting.asker()).map_or(u32::MAX, |p| p.uid);
        !matches!(waiting, Waiting::Queues { .. }) && self.right(uid, &[]) < Right::Admin
    }

    /// Opens the providers of a session whose profile was read, and logs them on.
    pub(crate) fn start_providers(&mut self, id: SessionId, turn: &mut Turn) {
        if let Err(error) = self.providers.left_behind.check_all() {
            return self.fail_session(id, &error.into(), turn);
        }
        let Some(session) = self.sessions.all.get(&id) else { return };
        let profile = session.profile().clone();
        if !self.waits_for_lost_store(id, &profile) {
            self.open_providers(id, &profile, turn);
            self.log_on_next(id, turn);
        }
    }

    /// Refuses users who may not use the profile, before a provider is called for them. Returns whether none of the requests for
    /// the session is left.
    fn refuse_strangers(&mut self, id: SessionId, turn: &mut Turn) -> bool {
        let session = self.sessions.all.get_mut(id).expect("it is starting");
        let waiting = std::mem::take(&mut session.waiting);
        let asks = |waiting: &Waiting| !matches!(waiting, Waiting::Queues { .. });
        let asked = waiting.iter().any(asks);
        let mut allowed = Vec::new();
        for waiting in waiting {
            match self.check_right(id, &waiting) {
                Ok(()) => allowed.push(waiting),
                Err(fault) => self.refuse(waiting.asker(), fault, turn),
            }
        }
        let none_left = asked && !allowed.iter().any(asks);
        self.sessions.all.get_mut(id).expect("it is starting").waiting = allowed;
        none_left
    }

    /// Whether the asker may do with a session's profile what it waits for.
    fn check_right(&self, id: SessionId, waiting: &Waiting) -> Result<(), Fault> {
        let uid = self.peers.of(waiting.asker()).map_or(u32::MAX, |p| p.uid);
        let session = &self.sessions.all[&id];
        let needed = match waiting {
            // With less than the right session a member can submit and little else.
            Waiting::Logon(..) | Waiting::Return { .. } | Waiting::Queue(..) => Right::Submit,
            // The request is not about this profile. The rights to its rows are checked later.
            Waiting::Queues { .. } => Right::None,
        };
        if self.right(uid, &session.profile().access) >= needed {
            return Ok(());
        }
        let name = &session.key.profile;
        let message = format!("user {uid} may not use profile {name:?}; its [access] says who may");
        Err(Fault::new(Code::E_NO_ACCESS, message))
    }

    fn open_providers(&mut self, id: SessionId, profile: &Profile, turn: &mut Turn) {
        let mut providers = Vec::new();
        for spec in &profile.stores {
            let engine = self.attach_engine(id, spec, turn);
            let state = &self.queues.engines[&engine];
            let (lane, reader) = (state.write, Some(state.read));
            let view = provider(ProviderType::Store, spec, lane);
            providers.push(Provider { reader, engine: Some(engine), ..view });
        }
        for (kind, place, spec) in changeable(profile) {
            let lane = self.open_lane(kind, spec, turn);
            providers.push(Provider { spec: place, ..provider(kind, spec, lane) });
        }
        let has = |kind, name: &str| providers.iter().any(|p| p.kind == kind && p.name == name);
        self.providers.logged.keep(&profile.name, has);
        self.sessions.all.get_mut(id).expect("it is starting").providers = providers;
    }

    pub(crate) fn open_lane(
        &mut self,
        provider_type: ProviderType,
        spec: &ProviderSpec,
        turn: &mut Turn,
    ) -> LaneId {
        let lane = self.providers.open(provider_type, &spec.name);
        turn.emit(Effect::OpenLane(Box::new(LaneSpec {
            lane,
            reader: None,
            provider_type,
            spec: spec.clone(),
        })));
        lane
    }

    /// Calls the logons of the next kind. When no provider is left, the session has started.
    fn log_on_next(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let running = |p: &Provider| matches!(p.state, ProviderState::LoggingOn(_));
        if session.state != SessionState::Starting || session.providers.iter().any(running) {
            return;
        }
        let next_type = START_ORDER.into_iter().find(|t| {
            let fresh = |p: &Provider| p.kind == *t && p.state == ProviderState::Configured;
            session.providers.iter().any(fresh)
        });
        let Some(next_type) = next_type else { return self.session_started(id, turn) };
        let mut calls = Vec::new();
        for (place, provider) in session.providers.iter_mut().enumerate() {
            if provider.kind == next_type {
                provider.state = ProviderState::LoggingOn(0);
                calls.push(place);
            }
        }
        for place in calls {
            self.call_logon(id, place, turn);
        }
    }

    /// Logs a provider on with another worker. One failure disables it.
    pub(crate) fn log_on_anew(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let session = &self.sessions.all[&id];
        let provider = &session.providers[place];
        let profile = session.profile();
        let (kind, spec) = match provider.kind {
            ProviderType::Transport => {
                (ProviderType::Transport, &profile.transports[provider.spec].provider)
            }
            ProviderType::Mailbox => {
                (ProviderType::Mailbox, &profile.mailboxes[provider.spec].provider)
            }
            kind => (kind, &profile.address_books[provider.spec]),
        };
        let lane = self.open_lane(kind, &spec.clone(), turn);
        let session = self.sessions.all.get_mut(id).expect("looked at just before");
        session.providers[place].lane = lane;
        session.providers[place].state = ProviderState::LoggingOn(LOGON_TRIES - 1);
        self.call_logon(id, place, turn);
    }

    /// Disables a provider of a session.
    pub(crate) fn put_out(&mut self, id: SessionId, place: usize, why: &str, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let profile = session.profile.as_deref();
        put_out(&mut session.providers[place], why, profile, turn);
        self.log_trouble(id, place, Trouble::Disabled, why, turn);
    }

    /// Logs what is wrong with a provider, once.
    pub(crate) fn log_trouble(
        &mut self,
        id: SessionId,
        place: usize,
        trouble: Trouble,
        why: &str,
        turn: &mut Turn,
    ) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        let provider = &session.providers[place];
        let it = (session.key.profile.as_str(), provider.kind, provider.name.as_str());
        self.providers.logged.begins(it, trouble, why, turn);
    }

    /// Logs that something is wrong with a provider no more, if the log says that it is.
    pub(crate) fn log_end_of(
        &mut self,
        id: SessionId,
        place: usize,
        over: &[Trouble],
        turn: &mut Turn,
    ) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        let provider = &session.providers[place];
        let it = (session.key.profile.as_str(), provider.kind, provider.name.as_str());
        self.providers.logged.ends(it, over, turn);
    }

    /// Logs what is wrong with a transport that gave this error to a call that needs its server. An error that is about one message
    /// says that the server can be reached. One that asks to wait, as an allowance that is used up, is no trouble.
    pub(crate) fn log_error_of(
        &mut self,
        id: SessionId,
        place: usize,
        error: &ProviderError,
        turn: &mut Turn,
    ) {
        if error.is_of_the_server() {
            if error.code != Code::E_BUSY {
                self.log_trouble(id, place, Trouble::Unreachable, &error.message, turn);
            }
        } else if error.code == Code::E_LOGON_FAILED {
            self.log_trouble(id, place, Trouble::LogonRefused, &error.message, turn);
        }
    }

    pub(crate) fn call_logon(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let session = self.sessions.all.get(&id).expect("who logs its providers on has it");
        let lane = session.providers[place].lane;
        let after = AfterLogon::LoggedOn(id, place);
        self.call(lane, Caller::broker(Some(id)), Ask::logon(), after, turn);
        self.timers.set(turn.tick.boot + LOGON_PATIENCE, Timer::Logon(id, place));
    }

    /// Disables a provider that does not answer its logon, and stops waiting for it.
    pub(crate) fn logon_over(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        if !matches!(provider.state, ProviderState::LoggingOn(_)) {
            return;
        }
        // It has used up its tries, so this failure is final.
        provider.state = ProviderState::LoggingOn(LOGON_TRIES);
        let (lane, is_store) = (provider.lane, provider.engine.is_some());
        let message = format!("no answer to its logon within {} s", LOGON_PATIENCE.as_secs());
        let error = ProviderError::new(Code::E_TIMEOUT, message);
        self.provider_logged_on(id, place, Err(error), turn);
        if !is_store {
            self.close_lane(lane, turn);
        }
        self.advance_phase(id, turn);
    }

    pub(crate) fn provider_logged_on(
        &mut self,
        id: SessionId,
        place: usize,
        result: Result<Ready, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let starts = session.state == SessionState::Starting;
        let provider = &mut session.providers[place];
        let ProviderState::LoggingOn(failed) = provider.state else { return };
        let (engine, is_transport) = (provider.engine, provider.kind == ProviderType::Transport);
        match result {
            Ok(ready) => {
                provider.state = ProviderState::Available;
                if provider.kind == ProviderType::Mailbox {
                    (provider.watching, provider.poke) = (false, Poke::Idle);
                    if provider.last.as_ref().is_some_and(|last| !last.worked) {
                        provider.note_outcome(turn.tick.millis(), true, "it has logged on");
                    }
                    self.sessions.unsettled.insert(id);
                }
                let probe = provider.probe.take();
                self.timers.clear(Timer::Logon(id, place));
                if let Ready::Transport(facts) = ready {
                    provider.is_ready(facts);
                }
                if let Some(engine) = engine {
                    self.engine_works(engine, ready, turn);
                }
                // Whether a transport's server takes the account is known when it has taken a message.
                let over: &[Trouble] =
                    if is_transport { &[Trouble::Disabled] } else { &Trouble::ALL };
                self.log_end_of(id, place, over, turn);
                if let Some(word) = probe {
                    self.ask_reach(id, place, AskedBy::User { word }, turn);
                }
            }
            Err(_) if failed + 1 < LOGON_TRIES && provider.is_in_use() => {
                provider.state = ProviderState::LoggingOn(failed + 1);
                let (lane, after) = (provider.lane, AfterLogon::LoggedOn(id, place));
                self.call(lane, Caller::broker(Some(id)), Ask::logon(), after, turn);
            }
            Err(error) => {
                let at = turn.tick.millis();
                provider.note_outcome(at, false, &error.message);
                if provider.kind == ProviderType::Transport && provider.is_in_use() {
                    self.queues.tally.used(&session.key.profile, &provider.name, false, at);
                }
                put_out(provider, &error.message, session.profile.as_deref(), turn);
                self.timers.clear(Timer::Logon(id, place));
                let default_store = session.engines().next().map(|(_, engine)| engine);
                let ends_it = starts && engine.is_some() && engine == default_store;
                if !ends_it {
                    // Otherwise the log says that no session can start.
                    let trouble = match error.code {
                        Code::E_LOGON_FAILED => Trouble::LogonRefused,
                        _ => Trouble::Disabled,
                    };
                    self.log_trouble(id, place, trouble, &error.message, turn);
                }
                if ends_it {
                    let Fault { code, message: why, .. } = error.into();
                    let message = format!("the profile's default store: {why}");
                    return self.fail_session(id, &Fault::new(code, message), turn);
                }
            }
        }
        if starts {
            self.log_on_next(id, turn);
        } else {
            self.provider_changed(id, place, turn);
        }
    }

    /// Notes the limits that a renewed transport states.
    pub(crate) fn transport_ready(
        &mut self,
        session: Option<SessionId>,
        lane: LaneId,
        facts: TransportFacts,
    ) {
        let session = session.and_then(|id| self.sessions.all.get_mut(id));
        let mut providers = session.into_iter().flat_map(|s| &mut s.providers);
        if let Some(provider) = providers.find(|p| p.lane == lane) {
            provider.is_ready(facts);
        }
    }

    /// Announces that a provider of a started session works or has stopped working.
    pub(crate) fn provider_changed(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let session = &self.sessions.all[&id];
        for (_, engine) in session.engines() {
            if let Some(engine) = self.queues.engines.get_mut(engine) {
                engine.stirred = true;
            }
        }
        self.status_changed(id, place, turn);
    }

    /// Notes that a transport was reached and its account was accepted.
    pub(crate) fn accepted_by(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        provider.refusals = 0;
        provider.outages = 0;
        let reach = provider.reach;
        self.log_end_of(id, place, &Trouble::ALL, turn);
        if reach != Reach::Yes {
            self.reached(id, place, turn);
        }
    }

    /// Notes that a transport's account was refused. The second refusal disables the transport, like a failed logon (LOGON-11),
    /// because further tries would only lock the account.
    pub(crate) fn refused_by(&mut self, id: SessionId, place: usize, why: &str, turn: &mut Turn) {
        self.log_trouble(id, place, Trouble::LogonRefused, why, turn);
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        provider.refusals += 1;
        if provider.refusals >= LOGON_TRIES && provider.state == ProviderState::Available {
            put_out(provider, why, session.profile.as_deref(), turn);
            self.provider_changed(id, place, turn);
        }
    }

    /// Has transports that are disabled or cannot be reached tried now, because a user asked for it. Each is asked whether it works,
    /// and its messages wait for the answer: they would be one try each.
    pub(crate) fn revive_transports(&mut self, id: SessionId, word: u64, turn: &mut Turn) {
        let places = self.sessions.all.get(&id).map_or(0, |s| s.providers.len());
        (0..places).for_each(|place| self.probe(id, place, word, turn));
        for place in self.failed(ProviderType::Transport, id) {
            self.sessions.all.get_mut(id).expect("it has it").providers[place].probe = Some(word);
            self.revive(id, place, turn);
        }
        for place in self.failed(ProviderType::Mailbox, id) {
            self.revive(id, place, turn);
        }
    }

    /// Enables disabled transports again in a session without members, where no user could ask for it and waiting messages must
    /// still have a way out. It follows the pace of retries, however many messages wait. Returns whether any was enabled.
    pub(crate) fn revive_by_itself(&mut self, id: SessionId, turn: &mut Turn) -> bool {
        let Some(session) = self.sessions.all.get(&id).filter(|s| s.members.is_empty()) else {
            return false;
        };
        let rested = |place: &usize| session.providers[*place].rests_until <= turn.tick.boot;
        let rested: Vec<_> =
            self.failed(ProviderType::Transport, id).into_iter().filter(rested).collect();
        for place in &rested {
            self.revive(id, *place, turn);
        }
        !rested.is_empty()
    }

    fn failed(&self, kind: ProviderType, id: SessionId) -> Vec<usize> {
        let failed = |p: &Provider| {
            let is_out = matches!(p.state, ProviderState::Failed(_));
            p.kind == kind && p.is_in_use() && is_out
        };
        let session = self.sessions.all.get(&id).filter(|s| s.may_send());
        let providers = session.into_iter().flat_map(|s| s.providers.iter().enumerate());
        providers.filter(|(_, p)| failed(p)).map(|(place, _)| place).collect()
    }

    /// Enables a disabled provider again. A single refusal disables it again.
    pub(crate) fn revive(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id).filter(|s| s.may_send()) else { return };
        let provider = &mut session.providers[place];
        if !matches!(provider.state, ProviderState::Failed(_)) || !provider.is_in_use() {
            return;
        }
        provider.refusals = LOGON_TRIES - 1;
        let lane = provider.lane;
        // Another logon would interrupt the messages it is handling.
        if provider.in_flight > 0 && self.providers.is_open(lane) {
            provider.state = ProviderState::Available;
            if let Some(word) = provider.probe.take() {
                self.ask_reach(id, place, AskedBy::User { word }, turn);
            }
            return self.provider_changed(id, place, turn);
        }
        if self.providers.is_open(lane) {
            provider.state = ProviderState::LoggingOn(LOGON_TRIES - 1);
            return self.call_logon(id, place, turn);
        }
        match self.providers.left_behind.check((id, place)) {
            Ok(()) => self.log_on_anew(id, place, turn),
            Err(error) => self.put_out(id, place, &error.message, turn),
        }
    }

    fn session_started(&mut self, id: SessionId, turn: &mut Turn) {
        let session = self.sessions.all.get_mut(id).expect("it has just started");
        session.state = SessionState::Active;
        if session.has_mailboxes() {
            self.sessions.unsettled.insert(id);
        }
        self.providers.logged.has_started(&session.key.profile, turn);
        self.sessions.failed.remove(&(session.key.profile.clone(), session.key.user));
        let waiting = std::mem::take(&mut session.waiting);
        let engines: Vec<_> = session.engines().collect();
        self.goes_on_ending(id, turn);
        for (_, engine) in engines {
            self.unpark(engine);
        }
        for waiting in waiting {
            self.admit(id, waiting, turn);
        }
        // The session may never have had a waiting request, or all of them have gone.
        self.check_vacated(id, turn);
    }

    pub(crate) fn fail_session(&mut self, id: SessionId, fault: &Fault, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        // What is wrong with a profile's file is logged where it is read.
        if session.profile.is_some() {
            let profile = &session.key.profile;
            self.providers.logged.cannot_start(profile, &fault.message, turn);
        }
        let (profile, user) = (session.key.profile.clone(), session.key.user);
        let adopted = session.adopted;
        let (others, asked): (Vec<_>, Vec<_>) = std::mem::take(&mut session.waiting)
            .into_iter()
            .partition(|waiting| matches!(waiting, Waiting::Queues { .. }));
        for waiting in asked {
            self.answer(waiting.asker(), Err(fault.clone()), turn);
        }
        if fault.code == Code::E_NOT_FOUND {
            self.sessions.failed.remove(&(profile, user));
        } else {
            if let Some(failed) = self.failed_status(id) {
                self.sessions.failed.insert((profile.clone(), user), failed);
            }
            if adopted {
                self.remember_failed(&profile, turn);
            }
        }
        self.close_session(id, turn);
        self.pass_over(id, others, turn);
    }

    /// Continues a request that waited for a session, now that the session has started.
    pub(crate) fn admit(&mut self, id: SessionId, waiting: Waiting, turn: &mut Turn) {
        let asker = waiting.asker();
        if self.peers.of(asker).is_none() {
            return self.peers.processes.pay_left_behind(asker);
        }
        let departure = self.departure(asker.process);
        if departure == Departure::Doing
            && let Some(session) = self.sessions.all.get(&id)
        {
            let (key, sharing) = (session.key.clone(), session.sharing);
            let held = match waiting {
                // Its session may have ended when the Do is over.
                Waiting::Return { asker, flags, told } => {
                    let logon = Logon { profile: Some(key.profile), flags };
                    let request = Box::new(Request::Return { logon, tag: session.tag, told });
                    Held::Request { asker, request }
                }
                waiting => Held::Logon { key, sharing, waiting },
            };
            return self.hold(held);
        }
        let quota = match waiting {
            Waiting::Logon(..) | Waiting::Return { .. } => self.check_member_quota(asker),
            Waiting::Queue(..) | Waiting::Queues { .. } => Ok(()),
        };
        let here = if departure == Departure::Done { Err(shut_down()) } else { Ok(()) };
        let allowed = here.and(quota);
        if let Err(fault) = allowed.and_then(|()| self.check_right(id, &waiting)) {
            return self.refuse(asker, fault, turn);
        }
        match waiting {
            Waiting::Logon(asker, flags) => {
                self.add_member(id, asker, flags, turn);
            }
            Waiting::Return { asker, flags, told } => {
                let member = self.add_member(id, asker, flags, turn);
                if !told {
                    self.tell_end(member, turn);
                }
            }
            Waiting::Queue(asker, profile, action) => {
                self.queue_of(asker, Some(profile), &action, turn);
            }
            Waiting::Queues { asker, action, newest } => {
                self.queues_behind(id, newest, (asker, action), turn);
            }
        }
    }

    /// Continues a logon that waited for the outcome of its process' Do. Its session may have ended meanwhile.
    pub(crate) fn admit_held(
        &mut self,
        key: SessionKey,
        sharing: Sharing,
        waiting: Waiting,
        turn: &mut Turn,
    ) {
        let asker = waiting.asker();
        let free = self.refuse_departed(asker).and_then(|()| self.refuse_while_stopping());
        let free = free.and_then(|()| self.refuse_doomed(&key.profile));
        let room = |()| match sharing {
            Sharing::Private => self.check_session_quota(asker, sharing),
            Sharing::Shared => Ok(()),
        };
        if let Err(fault) = free.and_then(room) {
            return self.answer(asker, Err(fault), turn);
        }
        match sharing {
            Sharing::Shared => self.with_session(key, waiting, turn),
            Sharing::Private => {
                self.start_session((key, None), Sharing::Private, Some(waiting), turn);
            }
        }
    }

    fn add_member(
        &mut self,
        id: SessionId,
        asker: Asker,
        flags: LogonFlags,
        turn: &mut Turn,
    ) -> MemberId {
        let member = MemberId(self.number());
        let connection =
            self.peers.connections.get_mut(&asker.connection).expect("who asks is connected");
        connection.members.insert(member);
        let keeps = connection.told_tickets;
        let process = connection.process;
        self.peers.processes.charge(process, Quota::Members, 1);
        let state = self.peers.processes.get_mut(process).expect("it is connected");
        let uid = state.uid;
        if state.notified.contains(&id) {
            state.returned.insert(id);
        }
        let right = self.right(uid, &self.sessions.all[&id].profile().access);
        let session = self.sessions.all.get_mut(id).expect("it has started");
        session.members.insert(member);
        session.adopted = false;
        if session.state == SessionState::Memberless {
            session.state = SessionState::Active;
            self.timers.clear(Timer::Linger(id));
        }
        let new = Member {
            id: member,
            session: id,
            connection: asker.connection,
            process,
            flags,
            right,
            since: turn.tick.millis(),
            state: MemberState::Attached,
            objects: Objects::default(),
            drafts: std::collections::BTreeSet::new(),
            references: std::collections::BTreeSet::new(),
            waiting_grants: std::collections::BTreeSet::new(),
            advises: BTreeMap::new(),
            advised: 0,
            uploads: BTreeMap::new(),
            failed_uploads: std::collections::VecDeque::new(),
            pending: BTreeMap::new(),
            waiting: 0,
            unfollowed: BTreeMap::new(),
            unwritten: 0,
            failed: Vec::new(),
            flushes: Vec::new(),
        };
        let has_mail = new.has_mail();
        session.with_mail += usize::from(has_mail);
        let first_with_mail = has_mail && session.with_mail == 1;
        let reply = LoggedOn {
            member,
            session: id,
            profile: session.key.profile.clone(),
            shared: session.is_shared(),
            stores: session.profile().stores.iter().map(|s| s.name.clone()).collect(),
            identity: session.profile().identity.clone(),
        };
        let receives = session.has_mailboxes();
        self.sessions.members.insert(member, new);
        if receives {
            self.sessions.unsettled.insert(id);
        }
        self.answer(asker, Ok(Reply::LoggedOn(reply)), turn);
        if keeps {
            self.tell_tag(member, turn);
        }
        // What this member is about to send may need what the profile's file has by now.
        self.look_at_file(id, turn);
        if first_with_mail {
            let engines: Vec<_> =
                self.sessions.all[&id].engines().map(|(_, engine)| engine).collect();
            for engine in engines {
                self.unpark(engine);
            }
        }
        member
    }
}

impl Provider {
    fn is_ready(&mut self, facts: TransportFacts) {
        self.window = facts.window.clamp(1, MOST_AT_ONCE);
        self.most_recipients = facts.recipients.max(1);
        self.longest = facts.longest;
    }
}

/// Disables a provider. It stays disabled for a while, longer each time.
fn put_out(provider: &mut Provider, why: &str, profile: Option<&Profile>, turn: &Turn) {
    let queue = profile.map(|p| p.queue.clone()).unwrap_or_default();
    let longer = queue.retry_min.saturating_mul(1 << provider.outages.min(16));
    provider.rests_until = turn.tick.boot + longer.min(queue.retry_max).max(queue.retry_min);
    provider.outages += 1;
    provider.probe = None;
    provider.state = ProviderState::Failed(why.to_owned());
}

/// The providers of a profile that may change while a session uses it, each with its place among those of its kind. The stores stay.
pub(crate) fn changeable(
    profile: &Profile,
) -> impl Iterator<Item = (ProviderType, usize, &ProviderSpec)> {
    let books = profile.address_books.iter().enumerate();
    let books = books.map(|(place, spec)| (ProviderType::AddressBook, place, spec));
    let transports = profile.transports.iter().enumerate();
    let transports = transports.map(|(place, t)| (ProviderType::Transport, place, &t.provider));
    let mailboxes = profile.mailboxes.iter().enumerate();
    let mailboxes = mailboxes.map(|(place, m)| (ProviderType::Mailbox, place, &m.provider));
    books.chain(transports).chain(mailboxes)
}

pub(crate) fn provider(kind: ProviderType, spec: &ProviderSpec, lane: LaneId) -> Provider {
    let facts = TransportFacts::default();
    Provider {
        kind,
        name: spec.name.clone(),
        lane,
        reader: None,
        engine: None,
        configured: Box::new(spec.clone()),
        spec: 0,
        part: Part::InUse,
        state: ProviderState::Configured,
        fast_shutdown: spec.fast_shutdown,
        stance: None,
        late: None,
        in_flight: 0,
        window: facts.window,
        longest: facts.longest,
        most_recipients: facts.recipients,
        reach: Reach::Yes,
        not_reached_at: std::time::Duration::ZERO,
        probe: None,
        refusals: 0,
        outages: 0,
        rests_until: std::time::Duration::ZERO,
        watching: false,
        poke: Poke::Idle,
        report: MailboxReport::default(),
        validating: false,
        trouble: None,
        unanswered: 0,
        last: None,
        worked: None,
    }
}
