//! The loop: one thread that waits for sockets, signals, workers and the clock, and owns everything that decides.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustc_hash::FxHashMap;
use rustix::event::epoll;
use sundown_core::provider::{ProviderAnswer, ProviderError};
use sundown_core::settings::{BrokerFacts, Profile};
use sundown_core::{Broker, CallId, ConnectionId, Effect, Event, Figures, ProcessKey, Stop, Tick};
use sundown_protocol::reply::{End, FromBroker, Previous};
use sundown_protocol::{Code, Event as News, Fault, Notification, SessionId};
use sundown_providers::Registry;
use sundown_providers::runtime::{BootId, Runtime};

use crate::alarm::Alarm;
use crate::descriptors::Descriptors;
use crate::ends::Ends;
use crate::last_exit::LastExit;
use crate::ledger::Ledger;
use crate::link::{FAREWELL, Incoming, Intake, Link, LinkState};
use crate::loader::Loader;
use crate::metrics::{self, Asking, Listen, Metrics};
use crate::outbox::{Pushed, TooSlow};
use crate::refusals::Refusals;
use crate::service::{Manager, Passed};
use crate::settings::{self, Accounts, KnownKinds, Loaded, Places, ProfileError, Unlisted};
use crate::socket::{DataLock, PassedError, Place, PlaceError};
use crate::tickets::{self, Tickets};
use crate::turns::{Budget, Round, Turns};
use crate::workers::{Outcome, Workers};

#[cfg(test)]
mod tests;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const SIGNALS: Token = Token(2);
const ALARM: Token = Token(3);
const PLACE: Token = Token(4);
/// A connection's token is twice its id, the token of its process one more.
const FIRST: u64 = 3;

/// How long after the end of a connection memory is given back: what it handed over may take a while to be stored.
const TRIM: Duration = Duration::from_secs(5);

/// How often calls that providers do not answer are looked at.
const LOOK_AT_CALLS: Duration = Duration::from_secs(5);

/// How often it is looked whether the data directory is still this broker's.
const LOOK_AT_LOCK: Duration = Duration::from_secs(1);

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// Its socket.
    pub socket: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Settings files, a later one wins.
    pub settings: Vec<PathBuf>,
    /// The one of them that must be there, if one must: it was asked for.
    pub required: Option<PathBuf>,
    /// Folders with profiles, an earlier one wins.
    pub profiles: Vec<PathBuf>,
    /// What `~` means in a profile.
    pub home: Option<PathBuf>,
    /// A directory of the broker's own that lasts as long as the machine runs, if a service manager made one
    /// (`RUNTIME_DIRECTORY`); the socket's otherwise.
    pub runtime: Option<PathBuf>,
}

impl Locations {
    fn load_settings(&self) -> Result<Loaded, settings::SettingsError> {
        settings::require(self.required.as_deref())?;
        settings::load_settings(&self.settings, &Accounts::system())
    }

    /// Where things for the next broker may be kept, the best place first.
    fn runtime_directories(&self) -> Vec<PathBuf> {
        let sockets = self.socket.parent().map(PathBuf::from);
        self.runtime.iter().cloned().chain(sockets).chain([self.data.clone()]).collect()
    }

    /// The place that `[metrics]` means.
    fn metrics(&self, listen: &Listen) -> Listen {
        let name = self.socket.file_name().unwrap_or_default().to_string_lossy();
        listen.of_broker(&self.runtime_directories()[0], &name)
    }
}

/// What a broker is made of.
pub struct Options {
    /// Where it is.
    pub locations: Locations,
    /// The kinds of providers it knows.
    pub registry: Registry,
    /// What a service manager has passed: the socket to use instead of listening, or nothing.
    pub passed: Vec<Passed>,
}

/// Why a broker does not start.
#[derive(Debug)]
pub enum StartupError {
    /// The settings are wrong.
    Settings(settings::SettingsError),
    /// Its place is not to be had.
    Place(PlaceError),
    /// The system refused something it cannot do without.
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => error.fmt(f),
            Self::Place(error) => error.fmt(f),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for StartupError {}

impl From<PlaceError> for StartupError {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
    }
}

impl From<PassedError> for StartupError {
    fn from(error: PassedError) -> Self {
        Self::Place(PlaceError::Passed(error))
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartupError {
    move |error| StartupError::System { what, error }
}

/// A broker whose socket accepts.
pub struct Server {
    broker: Broker,
    workers: Workers,
    answers: Receiver<Outcome>,
    /// When calls that providers do not answer are looked at again.
    look_at_calls: Instant,
    /// What is measured, and those who ask for it; `None` when nobody can.
    metrics: Option<Measured>,
    poll: Poll,
    place: Place,
    lock: DataLock,
    /// When it is looked again whether the data directory is still this broker's.
    look_at_lock: Instant,
    /// When another socket is made in place of one that was removed.
    listen_again: Option<Instant>,
    /// Why the broker cannot go on, once it is so.
    no_place: Option<PlaceError>,
    exit: LastExit,
    signals: Signals,
    manager: Manager,
    tickets: Tickets,
    ends: Ends,
    locations: Locations,
    places: Places,
    loaded: Loaded,
    /// Their numbers are the broker's own: nobody can choose some that collide.
    links: FxHashMap<ConnectionId, Link>,
    /// Who pays for what waits on them.
    ledger: Ledger,
    /// Connections in their order, and until when each must have said hello.
    greeting: VecDeque<(Instant, ConnectionId)>,
    /// Connections that are ending, with their deadlines.
    ending: BTreeSet<(Instant, ConnectionId)>,
    /// Those with connections, and those of which the core remembers something as long as they live.
    processes: HashMap<ProcessKey, Process>,
    watched: FxHashMap<Token, ProcessKey>,
    /// Those of them that have ended and may have sent requests that are not applied yet.
    ended: Vec<Token>,
    refusals: Refusals,
    /// How many connections each user has, those included that have not said hello.
    users: FxHashMap<u32, usize>,
    made: u64,
    pid: u32,
    began: Instant,
    /// The same, since the machine started: the core's times are of that clock, which each broker has.
    began_at: Duration,
    /// When this turn of the loop began: what happens in a turn happens at once.
    now: Instant,
    /// The same for the core, by both clocks.
    tick: Tick,
    /// When the wall's clock was looked at.
    wall_read: Instant,
    /// When the core wants to look again.
    look_again: Option<Duration>,
    alarm: Alarm,
    /// Links with something to write.
    dirty: Vec<ConnectionId>,
    /// Links with something to read.
    turns: Turns,
    /// Whether somebody came in the turn before this one.
    came: bool,
    /// Whether there are no descriptors for another connection.
    full: bool,
    descriptors: Descriptors,
    /// When to look for new connections again, after there were no descriptors for one.
    accept_again: Option<Instant>,
    /// When memory that was freed is given back, after the end of a connection.
    trim_memory: Option<Instant>,
    effects: Vec<Effect>,
    /// Profiles that sessions wait for.
    to_load: VecDeque<(SessionId, String)>,
    loader: Loader,
    /// Profiles that nobody uses any more.
    to_delete: VecDeque<String>,
    /// Calls that were answered at once.
    answered: VecDeque<(CallId, Result<ProviderAnswer, ProviderError>)>,
    scratch: Vec<u8>,
    over: bool,
}

/// How many are to be accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coming {
    /// One: another one is told in the next turn.
    One,
    /// All there are: somebody came in the turn before, too.
    Crowd,
}

/// One process.
#[derive(Default)]
struct Process {
    /// The kernel's word on when it ends, and the token that says so.
    watch: Option<(Token, OwnedFd)>,
    /// How many connections it has.
    links: usize,
}

/// Signals as bytes in a pipe.
struct Signals {
    restart: std::os::unix::net::UnixStream,
    reload: std::os::unix::net::UnixStream,
    stops: u32,
}

impl Server {
    /// Takes the data directory, listens, and finds out which profiles may have mail in their queues.
    pub fn start(options: Options) -> Result<Self, StartupError> {
        let Options { mut locations, registry, passed } = options;
        let loaded = locations.load_settings().map_err(StartupError::Settings)?;
        let managers = Place::of_manager(passed)?;
        if let Some(place) = &managers {
            place.path().clone_into(&mut locations.socket);
            if loaded.socket_group.is_some() {
                tracing::warn!(
                    "[socket] group changes nothing: the service manager made the socket"
                );
            }
        }
        let lock = DataLock::take(&locations.data, &locations.socket)?;
        let descriptors = Descriptors::raise();
        let place = match managers {
            Some(place) => place,
            None => Place::listen(&locations.socket, loaded.socket_group.as_ref(), &lock)?,
        };
        let poll = Poll::new().map_err(system("watch descriptors"))?;
        let waker =
            Waker::new(poll.registry(), WAKER).map_err(system("watch the providers' threads"))?;
        let waker = Arc::new(waker);
        crate::platform::take_signals().map_err(system("take signals"))?;
        let signals = Signals::install(&poll).map_err(system("catch signals"))?;
        let alarm = Alarm::new().map_err(system("make a timer"))?;
        poll.registry()
            .register(&mut SourceFd(&alarm.as_fd().as_raw_fd()), ALARM, Interest::READABLE)
            .map_err(system("watch a timer"))?;
        watch_place(&poll, &place).map_err(system("watch the socket"))?;
        let tickets = Tickets::open(&locations.runtime_directories(), &locations.socket)
            .map_err(system("make a key for tickets"))?;
        // A registry that has had a broker before says where that one was.
        let _ = registry.runtime.set(runtime(&locations));
        let (ends, known_ends) = Ends::open(&locations.runtime_directories(), &locations.socket);
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let broker = BrokerFacts {
            pid: std::process::id(),
            socket: locations.socket.display().to_string(),
            started: started.as_millis() as u64,
            previous: LastExit::read(&locations.data),
            ticket_key: tickets.key(),
        };
        if let Some(previous) = &broker.previous {
            tell_of(previous);
        }
        let exit = LastExit::ready(&locations.data, broker.started);
        let places = places(&locations, &registry);
        // The loop waits for no directory service.
        let accounts = Accounts { unlisted: Unlisted::Refused, ..places.accounts.clone() };
        let places = Places { accounts, ..places };
        let loader = Loader::new(Arc::clone(&waker));
        let listen = loaded.metrics.as_ref().map(|listen| locations.metrics(listen));
        let metrics = listen.map(|listen| serve_metrics(listen, broker.started, &waker));
        let metrics = metrics.transpose().map_err(system("start a thread for metrics"))?;
        let measured = metrics.as_ref().map(|(metrics, _)| Arc::clone(metrics));
        let (workers, answers) = Workers::new(registry, waker, measured);
        let (began, began_at) = (Instant::now(), tickets::since_boot());
        let ledger = Ledger::new(&loaded.settings.limits, rustix::process::geteuid().as_raw());
        let mut server = Self {
            broker: Broker::new(sundown_core::settings::Settings::default()),
            workers,
            answers,
            metrics,
            poll,
            place,
            lock,
            look_at_lock: began,
            look_at_calls: began,
            listen_again: None,
            no_place: None,
            exit,
            signals,
            manager: Manager::of_this_process(),
            tickets,
            ends,
            locations,
            places,
            loaded,
            links: FxHashMap::default(),
            ledger,
            greeting: VecDeque::new(),
            ending: BTreeSet::new(),
            processes: HashMap::new(),
            watched: FxHashMap::default(),
            ended: Vec::new(),
            refusals: Refusals::default(),
            users: FxHashMap::default(),
            made: FIRST,
            pid: broker.pid,
            began,
            began_at,
            now: began,
            tick: Tick { boot: began_at, wall: SystemTime::now(), seed: seed()? },
            wall_read: began,
            look_again: None,
            alarm,
            dirty: Vec::new(),
            turns: Turns::default(),
            came: false,
            full: false,
            descriptors,
            accept_again: None,
            trim_memory: None,
            effects: Vec::new(),
            to_load: VecDeque::new(),
            loader,
            to_delete: VecDeque::new(),
            answered: VecDeque::new(),
            scratch: Vec::new(),
            over: false,
        };
        server.broker = Broker::new(server.core_settings(broker));
        server.apply(Event::Ends(known_ends));
        for profile in settings::profile_names(&server.places) {
            if server.has_store(&profile) {
                server.apply(Event::Adopt { profile });
            }
        }
        tracing::info!(
            socket = %server.locations.socket.display(),
            data = %server.locations.data.display(),
            "ready"
        );
        Ok(server)
    }

    /// Runs until somebody stops it.
    pub fn run(mut self) -> Result<(), StartupError> {
        let over = self.turn_until_over();
        if let Some(error) = self.no_place.take() {
            // What stands in the data directory is another broker's.
            return Err(error.into());
        }
        match &over {
            Ok(()) => self.exit.stopped(match self.broker.stopped_by() {
                Some(peer) => format!("asked to by {} (pid {})", peer.program, peer.pid),
                None => "asked to by a signal".to_owned(),
            }),
            Err(error) => self.exit.failed(error.to_string()),
        }
        over
    }

    fn turn_until_over(&mut self) -> Result<(), StartupError> {
        let mut events = Events::with_capacity(1024);
        self.manager.ready(&format!("Accepting at {}", self.locations.socket.display()));
        while !self.over {
            match self.wait(&mut events) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(system("wait for events"))?,
            }
            self.look_at_clocks();
            self.look_at_place();
            self.turn(&events);
            if self.broker.is_stopping() {
                self.manager.stopping();
            }
        }
        // What was said last should arrive: a goodbye, the answer to a stop.
        for link in self.links.values_mut() {
            let _ = link.flush();
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// One turn of the loop.
    fn turn(&mut self, events: &Events) {
        let came = std::mem::take(&mut self.came);
        for event in events {
            match event.token() {
                LISTENER => {
                    self.came = true;
                    self.accept(if came { Coming::Crowd } else { Coming::One });
                }
                WAKER => {
                    self.take_answers();
                    self.take_profiles();
                    self.tell_figures();
                }
                PLACE => self.look_at_socket(),
                SIGNALS => self.take_signals(),
                ALARM => self.alarm.rang(),
                Token(token) if token % 2 == 1 => self.ended.push(Token(token)),
                Token(token) => self.note_event(ConnectionId(token as u64 / 2), event),
            }
        }
        // An answer goes out before anything else is begun: what follows a fast shutdown waits for no one.
        self.write_all();
        self.tell_time();
        self.read_some();
        self.tell_ends();
        self.write_all();
    }

    /// Notes what the poll says of a connection.
    fn note_event(&mut self, id: ConnectionId, event: &mio::event::Event) {
        if (event.is_read_closed() || event.is_write_closed())
            && let Some(link) = self.links.get_mut(&id)
        {
            if event.is_read_closed() {
                link.expect_end();
            }
            if event.is_write_closed() {
                link.close_output();
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.mark_unread(id);
        }
        if event.is_writable() {
            self.mark_dirty(id);
        }
    }

    /// Once a second, while there is something to do, it is looked whether the data directory is still this broker's. If it is not,
    /// the broker stops in order, as for a restart: another one, or the next one, has what is there now.
    fn look_at_place(&mut self) {
        if self.now < self.look_at_lock {
            return;
        }
        self.look_at_lock = self.now + LOOK_AT_LOCK;
        if self.no_place.is_none()
            && let Err(error) = self.lock.keep()
        {
            tracing::error!(%error, "the broker cannot go on");
            self.no_place = Some(error);
            self.apply(Event::Stop(Stop::Restart));
        }
    }

    /// Something happened to the socket's file. If it is gone another one is made, but not while its directory is being removed.
    fn look_at_socket(&mut self) {
        if !self.place.is_there() {
            self.listen_again.get_or_insert(self.now + LOOK_AT_LOCK);
        }
    }

    /// Where the socket's file was removed it is made again, or one in the data directory where that is not possible: the lock says
    /// which, and clients look there. A broker that nobody can reach would keep the data, so it stops as for a restart.
    fn listen_again(&mut self) {
        if self.place.is_there() {
            return;
        }
        self.accept(Coming::Crowd);
        let group = self.loaded.socket_group.as_ref();
        let another = self.locations.data.join("run/broker.sock");
        let place = Place::listen(&self.locations.socket, group, &self.lock)
            .or_else(|_| Place::listen(&another, None, &self.lock));
        let listens = place.map_err(StartupError::from).and_then(|place| {
            watch_place(&self.poll, &place).map_err(system("watch the socket"))?;
            self.lock.name(place.path()).map_err(system("write where the broker listens"))?;
            Ok(place)
        });
        match listens {
            Ok(place) => {
                let socket = place.path().display();
                tracing::warn!(%socket, "the socket was removed; a new one was made");
                self.place = place;
            }
            Err(error) => {
                tracing::error!(%error, "the socket was removed, and no other one can be made");
                self.apply(Event::Stop(Stop::Restart));
            }
        }
    }

    /// The wall's clock is looked at once in a millisecond: nothing shows it finer.
    fn look_at_clocks(&mut self) {
        self.now = Instant::now();
        self.tick.boot = self.began_at + (self.now - self.began);
        if self.now.duration_since(self.wall_read) >= Duration::from_millis(1) {
            self.wall_read = self.now;
            self.tick.wall = SystemTime::now();
        }
    }

    /// Waits until there is something to do. For a while, if the settings say so, without sleeping: who asks in that time is
    /// answered sooner, at the price of a busy processor.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        if !self.turns.is_empty() {
            return self.poll.poll(events, Some(Duration::ZERO));
        }
        self.alarm.by(self.soonest(), self.now)?;
        let busy = self.loaded.busy_poll;
        if !busy.is_zero() {
            let began = Instant::now();
            while began.elapsed() < busy {
                self.poll.poll(events, Some(Duration::ZERO))?;
                if !events.is_empty() {
                    return Ok(());
                }
            }
        }
        self.poll.poll(events, None)
    }

    /// When there is something to do though nobody says anything.
    fn soonest(&self) -> Option<Instant> {
        let look_again = self.look_again.map(|at| self.instant(at));
        let hello = self.greeting.front().map(|(at, _)| *at);
        let end = self.ending.first().map(|(at, _)| *at);
        let own = [self.accept_again, self.listen_again, self.trim_memory, self.manager.next()];
        let calls = self.broker.awaits_providers().then_some(self.look_at_calls);
        own.into_iter().chain([look_again, hello, end, calls]).flatten().min()
    }

    /// A time of the core's as one of the loop's.
    fn instant(&self, at: Duration) -> Instant {
        self.began + at.saturating_sub(self.began_at)
    }

    fn tell_time(&mut self) {
        let now = self.now;
        self.manager.turn(now);
        if self.look_again.is_some_and(|at| self.instant(at) <= now) {
            self.look_again = None;
            self.apply(Event::Timer);
        }
        if self.look_at_calls <= now {
            self.look_at_calls = now + LOOK_AT_CALLS;
            self.apply(Event::Look);
        }
        if self.trim_memory.is_some_and(|at| at <= now) {
            // What was handed over is freed when it is stored, which may be later.
            let given = crate::platform::give_memory_back();
            let more = given || self.broker.has_left_behind();
            self.trim_memory = more.then(|| now + TRIM);
            if given {
                tracing::debug!("memory that was freed is given back to the system");
            }
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            self.watch_listener(epoll::EventFlags::IN);
            self.accept(Coming::Crowd);
        }
        if self.listen_again.is_some_and(|at| at <= now) {
            self.listen_again = None;
            self.listen_again();
        }
        while let Some((_, id)) = self.greeting.front().copied().filter(|(at, _)| *at <= now) {
            self.greeting.pop_front();
            if self.awaits_hello(id) {
                let fault = Fault::new(Code::E_TIMEOUT, "no hello came in time");
                self.close(id, fault);
            }
        }
        while self.ending.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.ending.pop_first() else { return };
            if let Some(unsaid) = self.may_say_ended(id) {
                let connection = id.0;
                tracing::info!(
                    connection,
                    unsaid,
                    "a connection took too long to end; disconnected"
                );
            }
            self.remove(id);
        }
    }

    fn awaits_hello(&self, id: ConnectionId) -> bool {
        self.links.get(&id).is_some_and(|link| matches!(link.state, LinkState::AwaitHello(_)))
    }

    /// Applies one event and carries out what follows from it.
    fn apply(&mut self, event: Event) {
        // Drawn out by the core; the beginning comes from the system.
        self.tick.seed = self.tick.seed.wrapping_add(0xD1B5_4A32_D192_ED03);
        let tick = self.tick;
        let mut effects = std::mem::take(&mut self.effects);
        self.broker.apply(tick, event, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
        // What an effect brings about is an event of its own, after all effects of this one.
        while let Some((session, name)) = self.to_load.pop_front() {
            self.load_profile(session, &name);
        }
        while let Some(name) = self.to_delete.pop_front() {
            self.delete_profile(name);
        }
        while let Some((call, result)) = self.answered.pop_front() {
            self.apply(Event::Answered { call, result });
        }
    }

    fn delete_profile(&mut self, name: String) {
        let removed = settings::remove_profile(&name, &self.places);
        match &removed {
            Ok(()) => tracing::info!(profile = name, "a profile was deleted"),
            Err(error) => tracing::warn!(profile = name, %error, "a profile was not deleted"),
        }
        let result = removed.map_err(|error| Fault::new(error.code(), error.to_string()));
        self.apply(Event::ProfileDeleted { name, result });
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { connection, request, result } => {
                self.send(connection, &FromBroker::Answer { id: request, result });
            }
            Effect::Notify { connection, notification } => self.notify(connection, notification),
            Effect::Refused { peer, uid, request, why } => {
                self.refusals.note(uid, &peer, request, &why);
            }
            Effect::Forgotten { process } => self.watch_no_more(process),
            Effect::Close { connection, why } => self.close(connection, why),
            Effect::OpenLane(spec) => self.workers.open(*spec),
            Effect::CloseLane(lane) => self.workers.close(lane),
            Effect::Call { lane, call, behalf, provider } => {
                if let Some(result) = self.workers.call(lane, call, *behalf, provider) {
                    self.answered.push_back((call, result));
                }
            }
            Effect::KeepEnd(end) => self.ends.keep(&end),
            Effect::ForgetEnd(tag) => self.ends.forget(tag),
            Effect::Withdraw { call, .. } => self.workers.withdraw(call),
            Effect::GaveUp { provider, provider_type, call, behalf } => {
                let (session, pid) = (behalf.session.map(|s| s.0), behalf.pid);
                let correlation = behalf.correlation.map(tracing::field::display);
                let kind = provider_type.name();
                tracing::warn!(
                    event = "gave-up",
                    session,
                    pid,
                    provider,
                    kind,
                    call,
                    correlation,
                    "a provider gave no answer in its share of a fast shutdown's time and is not waited for"
                );
            }
            Effect::Hangs { provider, provider_type, call, waited, behalf } => {
                let (session, kind) = (behalf.session.map(|s| s.0), provider_type.name());
                let correlation = behalf.correlation.map(tracing::field::display);
                let entry = behalf.entry.map(tracing::field::display);
                let seconds = waited.as_secs();
                tracing::warn!(
                    event = "hangs",
                    session,
                    provider,
                    kind,
                    call,
                    seconds,
                    correlation,
                    entry,
                    "a provider does not answer"
                );
            }
            Effect::WrongAnswer { provider, call, wrong, behalf } => {
                tracing::warn!(
                    event = "wrong-answer",
                    session = behalf.session.map(|s| s.0),
                    provider,
                    call,
                    correlation = behalf.correlation.map(tracing::field::display),
                    entry = behalf.entry.map(tracing::field::display),
                    "a provider's call was {wrong}, which is no answer to it; what the call has done is not known"
                );
            }
            Effect::LoadProfile { session, name } => self.to_load.push_back((session, name)),
            Effect::DeleteProfile { name } => self.to_delete.push_back(name),
            Effect::Arm(at) => self.look_again = Some(at),
            Effect::Stopped => self.over = true,
        }
    }

    /// Tells a client in words of its version. Only ends, of sessions and of members, have words that an earlier one lacks.
    fn notify(&mut self, connection: ConnectionId, notification: Notification) {
        if let News::CriticalError { .. } | News::MembersLeft(_) = notification.event
            && let Some(link) = self.links.get(&connection)
            && let LinkState::Open(version) = link.state
        {
            let Notification { member, advises, event } = notification;
            for event in event.in_version(version) {
                let advises = advises.clone();
                self.send(connection, &FromBroker::Notify(Notification { member, advises, event }));
            }
            return;
        }
        self.send(connection, &FromBroker::Notify(notification));
    }

    fn send(&mut self, connection: ConnectionId, message: &FromBroker) {
        let Some(link) = self.links.get_mut(&connection).filter(|link| link.is_active()) else {
            return;
        };
        let pushed = link.push(message);
        if let Some((metrics, _)) = &self.metrics {
            match (message, pushed) {
                (_, Ok(Pushed::Dropped)) => metrics.lagged.inc(),
                (FromBroker::Notify(_), Ok(Pushed::Queued)) => metrics.notifications.inc(),
                _ => 0,
            };
        }
        if pushed == Err(TooSlow) {
            self.overdrawn(connection);
            return;
        }
        if !std::mem::replace(&mut link.dirty, true) {
            self.dirty.push(connection);
        }
        self.keep_room();
    }

    /// Called wherever more may wait than before: behind a message, behind what was read, and when a limit has changed.
    fn keep_room(&mut self) {
        if self.ledger.is_beyond() {
            self.make_room();
        }
    }

    /// Ends connections on which most waits, while more waits for a user's processes, or for all, than may.
    #[cold]
    fn make_room(&mut self) {
        while let Some(full) = self.ledger.full() {
            let of_it = self.links.iter().filter(|(_, link)| full.covers(link.credentials.uid));
            let waits = of_it.map(|(id, link)| (link.outbox.waiting(), *id));
            let mut waits: Vec<_> = waits.filter(|((_, own), _)| *own > 0).collect();
            waits.sort_unstable();
            while !self.ledger.has_room(full)
                && let Some((_, id)) = waits.pop()
            {
                self.overdrawn(id);
            }
        }
    }

    /// Whether a line may say that a connection ends, and how many such lines of its user were left out before it.
    fn may_say_ended(&mut self, id: ConnectionId) -> Option<u64> {
        let uid = self.links.get(&id)?.credentials.uid;
        self.refusals.may_say_ended(uid)
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.dirty) {
            link.dirty = true;
            self.dirty.push(id);
        }
    }

    fn mark_unread(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.unread) {
            link.unread = true;
            self.turns.add(link.outbox.account(), id);
        }
    }

    /// Says goodbye and ends a connection.
    fn close(&mut self, connection: ConnectionId, why: Fault) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        if let Some(unsaid) = self.refusals.may_say_ended(link.credentials.uid) {
            tracing::info!(connection = connection.0, %why, unsaid, "a connection is closed");
        }
        link.say_goodbye(why);
        self.mark_dirty(connection);
    }

    /// Ends a connection at once because too much waits for it. The core is told in a turn of its own.
    fn overdrawn(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        if let Some(unsaid) = self.refusals.may_say_ended(link.credentials.uid) {
            tracing::warn!(
                connection = connection.0,
                unsaid,
                "a client does not read; disconnected"
            );
        }
        if let Some((metrics, _)) = &self.metrics {
            metrics.too_slow.inc();
        }
        link.overdraw();
        self.mark_unread(connection);
        self.mark_dirty(connection);
    }

    fn accept(&mut self, coming: Coming) {
        loop {
            match self.place.accept() {
                Ok(stream) => {
                    self.full = false;
                    if let Err(error) = self.accepted(stream)
                        && let Some(unsaid) = self.refusals.may_say_untaken()
                    {
                        tracing::warn!(%error, unsaid, "a connection could not be taken");
                    }
                    if coming == Coming::One {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Said once, and then again only when it has worked in between.
                    if !std::mem::replace(&mut self.full, true)
                        && let Some(unsaid) = self.refusals.may_say_untaken()
                    {
                        tracing::warn!(%error, unsaid, "no connection can be accepted for the moment");
                    }
                    self.watch_listener(epoll::EventFlags::empty());
                    self.accept_again = Some(self.now + Duration::from_millis(100));
                    return;
                }
            }
        }
    }

    fn watch_listener(&self, what: epoll::EventFlags) {
        let token = epoll::EventData::new_u64(LISTENER.0 as u64);
        let _ = epoll::modify(self.poll.registry(), self.place.as_fd(), token, what);
    }

    fn accepted(&mut self, socket: OwnedFd) -> io::Result<()> {
        let id = ConnectionId(self.made);
        self.made += 1;
        let account = |who: &crate::peer::Credentials| self.ledger.of_stranger(who.uid);
        let limit = self.loaded.settings.limits.outbox_bytes;
        let mut link = Link::new(socket, self.now, account, limit)?;
        if let Some(why) = self.beyond_descriptors(&link).or_else(|| self.beyond_quota(&link)) {
            self.refusals.note_connection(link.credentials.uid, link.credentials.pid, &why);
            link.say_goodbye(why);
            // It is a line, and a new socket has room for it.
            let _ = link.flush();
            return Ok(());
        }
        let fd = link.as_fd().as_raw_fd();
        self.poll.registry().register(
            &mut SourceFd(&fd),
            Token(id.0 as usize * 2),
            Interest::READABLE,
        )?;
        if let LinkState::AwaitHello(deadline) = link.state {
            self.greeting.push_back((deadline, id));
        }
        *self.users.entry(link.credentials.uid).or_default() += 1;
        self.links.insert(id, link);
        // Its hello is often there already.
        self.mark_unread(id);
        Ok(())
    }

    /// Whether quotas of users bind this one: they bind neither root nor the broker's own user.
    fn is_bound(uid: u32) -> bool {
        uid != 0 && uid != rustix::process::geteuid().as_raw()
    }

    /// Why there are no descriptors for another connection of this user.
    fn beyond_descriptors(&self, link: &Link) -> Option<Fault> {
        let below = self.descriptors.below(Self::is_bound(link.credentials.uid));
        if (link.as_fd().as_raw_fd() as usize) < below {
            return None;
        }
        let message = "the broker has no descriptors left for another connection; try again later, or raise its limit \
                       (LimitNOFILE=, ulimit -n)";
        Some(Fault::new(Code::E_NOT_ENOUGH_RESOURCES, message))
    }

    /// Why a user may not have another connection. The core counts those that are open; one that says nothing has descriptors
    /// too, and would keep the others out by them.
    fn beyond_quota(&self, link: &Link) -> Option<Fault> {
        let uid = link.credentials.uid;
        let most = self.descriptors.of_user(self.loaded.settings.limits.user_connections);
        let used = self.users.get(&uid).copied().unwrap_or_default();
        if !Self::is_bound(uid) || used < most {
            return None;
        }
        let message = format!(
            "user {uid} has {most} connections in all its processes, its limit (user_connections, and a share of the broker's \
             descriptors, LimitNOFILE=); close one first"
        );
        Some(Fault::new(Code::E_NOT_ENOUGH_RESOURCES, message))
    }

    /// Reads of every connection that has something, as far as its turn goes, and applies what it asks.
    fn read_some(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut round = Round::new(&self.turns);
        let mut applied = 0;
        while let Some((id, budget)) = round.next(&mut self.turns, applied) {
            applied = self.read_one(id, &mut scratch, budget);
        }
        self.scratch = scratch;
    }

    /// Reads one piece of a connection, and applies what it asks. How much of a share that was.
    fn read_one(&mut self, id: ConnectionId, scratch: &mut Vec<u8>, budget: Budget) -> usize {
        let Some(link) = self.links.get_mut(&id) else { return 0 };
        link.unread = false;
        let (read, intake) = link.read(scratch);
        if intake == Intake::More {
            self.mark_unread(id);
        }
        let (applied, kept) = self.take_requests(id, &scratch[..read], budget);
        if kept.is_err()
            && let Some(unsaid) = self.may_say_ended(id)
        {
            tracing::warn!(
                unsaid,
                "a process has begun more requests than may wait for it; disconnected"
            );
        }
        // One write for all that this piece has asked; nobody waits until others had their turn.
        self.write(id);
        // It came to the end of that list by this, and need not be looked for again.
        self.dirty.pop_if(|last| *last == id);
        if kept.is_err() {
            self.remove(id);
        }
        self.keep_room();
        self.end_if_over(id);
        // What brought no whole request was read all the same.
        applied.max(1)
    }

    /// Applies what was asked for by what waits and what was read just now, and keeps the rest. How many requests were applied.
    fn take_requests(
        &mut self,
        id: ConnectionId,
        mut read: &[u8],
        mut budget: Budget,
    ) -> (usize, Result<(), TooSlow>) {
        let mut applied = 0;
        loop {
            let Some(link) = self.links.get_mut(&id) else { return (applied, Ok(())) };
            match link.next(&mut read) {
                Ok(None) => return (applied, link.keep(read)),
                Ok(Some(Incoming::Hello(hello, version))) => self.open(id, hello, version),
                Ok(Some(Incoming::Request(asked, bytes))) => {
                    let last = read.is_empty() && link.keeps_nothing();
                    self.apply(Event::Request { connection: id, asked, bytes });
                    applied += 1;
                    if last {
                        return (applied, Ok(()));
                    }
                    if !budget.takes_more(applied) {
                        break;
                    }
                }
                Err(why) => {
                    self.close(id, why);
                    // The process keeps the connection on its account until the goodbye is written.
                    self.apply(Event::Disconnected { connection: id });
                    return (applied, Ok(()));
                }
            }
        }
        self.mark_unread(id);
        let kept = self.links.get_mut(&id).map_or(Ok(()), |link| link.keep(read));
        (applied, kept)
    }

    fn open(
        &mut self,
        id: ConnectionId,
        hello: sundown_protocol::hello::Hello,
        version: sundown_protocol::Version,
    ) {
        let link = self.links.get_mut(&id).expect("it said hello just now");
        let identity = link.identity(id, hello, &self.tickets);
        let key = identity.key.clone();
        if !self.broker.remembers(&key) {
            self.tickets.note(identity.since);
        }
        // Who is beyond a quota is refused in place of a welcome: a program sees which, and not a connection that broke.
        self.apply(Event::Connected { connection: id, identity });
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_active()) else { return };
        let process = self.processes.entry(key.clone()).or_default();
        process.links += 1;
        let account = self.ledger.of_process(&key, link.credentials.uid);
        let pidfd = link
            .credentials
            .pidfd
            .take()
            .filter(|_| self.watched.len() < self.descriptors.to_watch());
        if let Some(pidfd) = pidfd.filter(|_| process.links == 1 && process.watch.is_none()) {
            let (token, raw) = (Token(id.0 as usize * 2 + 1), pidfd.as_raw_fd());
            let ends = Interest::READABLE;
            let _ = self.poll.registry().register(&mut SourceFd(&raw), token, ends);
            self.watched.insert(token, key.clone());
            process.watch = Some((token, pidfd));
        }
        link.welcome(key, version, account, (self.pid, &self.loaded.settings.limits));
        // It waits with its process from here on.
        if std::mem::take(&mut link.unread) {
            self.mark_unread(id);
        }
        self.mark_dirty(id);
    }

    /// Tells the core of processes that have ended, behind everything that they had sent, however many turns that takes.
    fn tell_ends(&mut self) {
        for token in std::mem::take(&mut self.ended) {
            if self.is_drained(token) {
                self.process_ended(token);
            } else {
                self.ended.push(token);
            }
        }
    }

    /// Whether everything was applied that a process had sent on all its connections when it ended.
    fn is_drained(&mut self, token: Token) -> bool {
        let Some(key) = self.watched.get(&token) else { return true };
        let connections: Vec<_> = self.broker.connections_of(key).collect();
        let mut all = true;
        for id in connections {
            if self.links.get_mut(&id).is_some_and(|link| !link.process_ended()) {
                self.mark_unread(id);
                all = false;
            }
        }
        all
    }

    fn process_ended(&mut self, token: Token) {
        let Some(key) = self.watched.remove(&token) else { return };
        if let Some(process) = self.processes.get_mut(&key) {
            // With the descriptor goes that it is watched.
            process.watch = None;
            if process.links == 0 {
                self.processes.remove(&key);
            }
        }
        self.apply(Event::ProcessEnded { process: key });
    }

    /// A process has one connection less, as the core knows. With the last one it is forgotten, unless the core remembers
    /// something of it; that holds as long as it lives.
    fn watch_no_more(&mut self, key: ProcessKey) {
        let Entry::Occupied(process) = self.processes.entry(key) else { return };
        if process.get().links == 0
            && let Some((token, _)) = process.remove().watch
        {
            self.watched.remove(&token);
        }
    }

    fn forget_process(&mut self, key: ProcessKey) {
        let Entry::Occupied(mut process) = self.processes.entry(key) else { return };
        process.get_mut().links -= 1;
        if process.get().links > 0 {
            return;
        }
        let remembered = self.broker.remembers(process.key());
        if remembered && process.get().watch.is_some() {
            return;
        }
        let (key, process) = process.remove_entry();
        if let Some((token, _)) = process.watch {
            self.watched.remove(&token);
        }
        if remembered {
            // One that cannot be watched ends with its last connection.
            self.apply(Event::ProcessEnded { process: key });
        }
    }

    /// Ends a connection for which nothing is left to do. One that is ending gets its deadline, once.
    fn end_if_over(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_ending()) else { return };
        if link.is_over() {
            return self.remove(id);
        }
        let until = *link.until.get_or_insert(self.now + FAREWELL);
        self.ending.insert((until, id));
    }

    /// A connection is gone. The core is told, and then what that means for its process.
    fn remove(&mut self, id: ConnectionId) {
        let Some(mut link) = self.links.remove(&id) else { return };
        if let Some(until) = link.until {
            self.ending.remove(&(until, id));
        }
        // Who is gone, or has said hello, need not any more. Crowds that come and go would else wait here for their time to
        // be over.
        while self.greeting.front().is_some_and(|(_, id)| !self.awaits_hello(*id)) {
            self.greeting.pop_front();
        }
        if let Some(connections) = self.users.get_mut(&link.credentials.uid) {
            *connections -= 1;
            if *connections == 0 {
                self.users.remove(&link.credentials.uid);
            }
        }
        let (process, uid) = (link.process.take(), link.credentials.uid);
        // Nobody else has this descriptor: with it goes that it is watched.
        drop(link);
        self.ledger.forget(process.as_ref(), uid);
        self.trim_memory.get_or_insert(self.now + TRIM);
        self.apply(Event::Disconnected { connection: id });
        if let Some(key) = process {
            self.forget_process(key);
        }
    }

    /// Writes to everybody who has something. One that ends tells others, who are written to, too.
    fn write_all(&mut self) {
        while !self.dirty.is_empty() {
            let mut dirty = std::mem::take(&mut self.dirty);
            dirty.drain(..).for_each(|id| self.write(id));
            if self.dirty.is_empty() {
                self.dirty = dirty;
                return;
            }
        }
    }

    /// Writes what a connection's socket takes, if it has anything.
    fn write(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.dirty) else { return };
        let flushed = link.flush();
        // Only who has something left is told of room: otherwise each read of the client would wake this loop.
        let wants = match &flushed {
            Ok(true) => Interest::READABLE,
            _ => Interest::READABLE | Interest::WRITABLE,
        };
        if std::mem::replace(&mut link.wants, wants) != wants {
            let (fd, token) = (link.as_fd().as_raw_fd(), Token(id.0 as usize * 2));
            let _ = self.poll.registry().reregister(&mut SourceFd(&fd), token, wants);
        }
        if flushed.is_err() {
            self.overdrawn(id);
        }
        self.end_if_over(id);
    }

    fn take_answers(&mut self) {
        while let Ok(outcome) = self.answers.try_recv() {
            if let Outcome::Answered(call, _) | Outcome::Withdrawn(call) = &outcome {
                self.workers.over(*call);
            }
            self.apply(match outcome {
                Outcome::Answered(call, result) => Event::Answered { call, result },
                Outcome::Withdrawn(call) => Event::Withdrawn { call },
                Outcome::Ended(lane) => Event::LaneEnded(lane),
            });
        }
    }

    /// Answers those who ask for figures.
    fn tell_figures(&mut self) {
        let asked = self.metrics.as_ref().map(|(_, asked)| asked.try_iter().collect::<Vec<_>>());
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return };
        let figures = self.broker.figures();
        for who in asked {
            // Whoever does not wait any more has been answered otherwise.
            let _ = who.try_send(figures.clone());
        }
        self.apply(Event::Measure);
    }

    fn take_signals(&mut self) {
        if self.signals.reload_asked() {
            self.reload();
        }
        match self.signals.stops_asked() {
            0 => {}
            1 => self.apply(Event::Stop(Stop::Restart)),
            _ => self.apply(Event::Stop(Stop::Now)),
        }
    }

    fn reload(&mut self) {
        self.manager.reloading();
        match self.locations.load_settings() {
            Err(error) => {
                tracing::error!(%error, "settings stay as they were");
                self.manager.ready(&format!("Settings stay as they were: {error}"));
            }
            Ok(loaded) => {
                if loaded.socket_group != self.loaded.socket_group {
                    tracing::warn!("the socket's group changes when the broker starts again");
                }
                if loaded.metrics != self.loaded.metrics {
                    tracing::warn!("[metrics] changes when the broker starts again");
                }
                self.ledger.set_limits(&loaded.settings.limits);
                self.loaded = loaded;
                self.keep_room();
                // What the broker is stays as it was.
                let settings = self.core_settings(BrokerFacts::default());
                self.apply(Event::Reload(Box::new(settings)));
                tracing::info!("settings were read again; profiles are with each new session");
                let socket = self.locations.socket.display();
                self.manager.ready(&format!("Accepting at {socket}; settings were read again"));
            }
        }
    }

    fn core_settings(&self, broker: BrokerFacts) -> sundown_core::settings::Settings {
        sundown_core::settings::Settings {
            owner: rustix::process::geteuid().as_raw(),
            broker,
            ..self.loaded.settings.clone()
        }
    }

    /// A profile is a small file, and the loop reads it itself. Users who are in no list are looked up elsewhere, which may take a while.
    fn load_profile(&mut self, session: SessionId, name: &str) {
        let result = match settings::load_profile(name, &self.places) {
            Err(ProfileError::Unlisted(_)) => match self.loader.load(session, name, &self.places) {
                Ok(()) => return,
                Err(error) => {
                    let message = format!("cannot start a thread for profiles: {error}");
                    Err(Fault::new(Code::E_NOT_ENOUGH_RESOURCES, message))
                }
            },
            result => result.map_err(|error| unusable(&error)),
        };
        self.profile_loaded(session, name, result);
    }

    /// Takes the profiles that were loaded elsewhere.
    fn take_profiles(&mut self) {
        while let Ok((session, name, result)) = self.loader.loaded.try_recv() {
            self.profile_loaded(session, &name, result.map_err(|error| unusable(&error)));
        }
    }

    fn profile_loaded(&mut self, session: SessionId, name: &str, result: Result<Profile, Fault>) {
        if let Err(why) = &result {
            self.refusals.note_profile(name, why);
        }
        self.apply(Event::ProfileLoaded { session, result: result.map(Box::new) });
    }

    fn has_store(&self, profile: &str) -> bool {
        let accounts = Accounts { unlisted: Unlisted::PassedOver, ..self.places.accounts.clone() };
        let places = Places { accounts, ..self.places.clone() };
        let read = settings::load_profile(profile, &places);
        read.is_ok_and(|p| p.stores.iter().any(|store| store.path.exists()))
    }
}

impl Signals {
    fn install(poll: &Poll) -> io::Result<Self> {
        let stream = |signals: &[i32]| -> io::Result<std::os::unix::net::UnixStream> {
            let (read, write) = std::os::unix::net::UnixStream::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            let fd = read.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), SIGNALS, Interest::READABLE)?;
            Ok(read)
        };
        let restart = stream(&[signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
        let reload = stream(&[signal_hook::consts::SIGHUP])?;
        Ok(Self { restart, reload, stops: 0 })
    }

    fn reload_asked(&mut self) -> bool {
        drain(&mut self.reload) > 0
    }

    /// How often a stop was asked for so far, if it was asked for again.
    fn stops_asked(&mut self) -> u32 {
        let new = drain(&mut self.restart);
        self.stops += new;
        if new == 0 { 0 } else { self.stops }
    }
}

/// Watches the listening socket, and its file. Unlike the others, and unlike what mio does, the socket is told as long as somebody is
/// there: one that was accepted may be the only one, and asking whether there are more is a call of the system.
fn watch_place(poll: &Poll, place: &Place) -> io::Result<()> {
    let token = epoll::EventData::new_u64(LISTENER.0 as u64);
    epoll::add(poll.registry(), place.as_fd(), token, epoll::EventFlags::IN)?;
    let Some(file) = place.watch() else { return Ok(()) };
    // Told once for each change, and never read: there are few.
    poll.registry().register(&mut SourceFd(&file.as_raw_fd()), PLACE, Interest::READABLE)
}

fn drain(pipe: &mut std::os::unix::net::UnixStream) -> u32 {
    let mut bytes = [0; 64];
    let mut count = 0;
    while let Ok(n @ 1..) = pipe.read(&mut bytes) {
        count += n as u32;
    }
    count
}

/// What a broker finds that comes after another one.
fn tell_of(previous: &Previous) {
    let Previous { pid, started, end, why, .. } = previous;
    let end = end.name();
    if previous.end == End::Stopped {
        tracing::info!(pid, started, why, end, "the broker before was stopped");
    } else {
        let found =
            "the broker before did not stop in order; what it acknowledged is in the stores";
        tracing::warn!(pid, started, why, end, "{found}");
    }
}

fn seed() -> Result<u64, StartupError> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)
        .map_err(|error| StartupError::System { what: "get random bytes", error: error.into() })?;
    Ok(u64::from_le_bytes(seed))
}

/// What a member is told that asked for a profile.
fn unusable(error: &ProfileError) -> Fault {
    let code = match error {
        ProfileError::NotFound { .. } => Code::E_NOT_FOUND,
        ProfileError::Name(_) => Code::E_INVALID_PARAMETER,
        ProfileError::Invalid(_) | ProfileError::Unlisted(_) => Code::E_UNCONFIGURED,
    };
    Fault::new(code, error.to_string())
}

/// Figures, and the questions for them that the loop answers.
type Measured = (Arc<Metrics>, Receiver<Sender<Figures>>);

fn serve_metrics(listen: Listen, started: u64, waker: &Arc<Waker>) -> io::Result<Measured> {
    let (asking, asked) = Asking::new(Arc::clone(waker));
    let metrics = Metrics::new(started);
    metrics::serve(listen, Arc::clone(&metrics), asking)?;
    Ok((metrics, asked))
}

/// Where providers may keep what the next broker needs after a crash.
fn runtime(locations: &Locations) -> Runtime {
    let name = locations.socket.file_name().unwrap_or_default();
    Runtime {
        directories: locations.runtime_directories(),
        name: name.to_string_lossy().into_owned(),
        boot: BootId::parse(&tickets::boot_id()),
    }
}

/// Where profiles are, and what they may name.
pub fn places(locations: &Locations, registry: &Registry) -> Places {
    let names = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let kinds = KnownKinds {
        stores: names(registry.stores.keys().cloned().collect()),
        transports: names(registry.transports.keys().cloned().collect()),
        address_books: names(registry.address_books.keys().cloned().collect()),
    };
    let uid = rustix::process::geteuid().as_raw();
    Places {
        folders: locations.profiles.clone(),
        data: locations.data.clone(),
        home: locations.home.clone(),
        user: Accounts::system().name(uid).unwrap_or_else(|| uid.to_string()),
        hostname: rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
        kinds,
        accounts: Accounts::system(),
    }
}
