//! The loop: a thread that waits for sockets, signals, workers and the clock, and owns all state that decides.
//!
//! | file | its part of the loop |
//! |---|---|
//! | `locations` | the broker's paths, and why it does not start there |
//! | `listener` | the listening socket and the lock of the data directory |
//! | `connections` | the connections |
//! | `processes` | the processes at their other ends |
//! | `profiles` | the core's requests about profiles |
//! | `clock` | the time, and when the loop wakes by itself |
//! | `signals` | stops and reloads |

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token, Waker};
use sundown_core::settings::BrokerFacts;
use sundown_core::{Broker, ConnectionId, Effect, Event, Figures, ProcessKey, Returned, Stop};
use sundown_protocol::Version;
use sundown_protocol::hello::Hello;
use sundown_protocol::reply::{End, Previous};
use sundown_providers::Registry;

use crate::commands::{Command, Commands};
use crate::descriptors::Descriptors;
use crate::ends::Ends;
use crate::last_exit::LastExit;
use crate::link::Incoming;
use crate::metrics::{self, Asking, Listen, Metrics};
use crate::outbox::TooSlow;
use crate::running::RunningClock;
use crate::service::{Manager, Passed};
use crate::settings::Loaded;
use crate::socket::{DataLock, Place};
use crate::tickets::Tickets;
use crate::troubles;
use crate::turns::Budget;
use crate::users::Users;
use crate::workers::{Outcome, Workers};

mod clock;
mod connections;
mod listener;
mod locations;
mod processes;
mod profiles;
mod signals;
#[cfg(test)]
mod tests;

use clock::Clock;
use connections::{Connections, Left};
use listener::{Coming, Data, Listener};
pub use locations::{Locations, StartupError, places};
use locations::{runtime, system};
use processes::{Memory, Processes};
use profiles::Profiles;
use signals::Signals;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const SIGNALS: Token = Token(2);
const ALARM: Token = Token(3);
const PLACE: Token = Token(4);

/// The token of a connection is twice its id. The first id is above the other tokens.
fn token_of_connection(id: ConnectionId) -> Token {
    Token(id.0 as usize * 2)
}

/// The token of a process is that of its first connection plus one.
fn token_of_process(id: ConnectionId) -> Token {
    Token(id.0 as usize * 2 + 1)
}

/// How long after the end of a connection memory is given back: storing what the connection submitted may take a while.
const TRIM: Duration = Duration::from_secs(5);

/// How often profiles that could not be used are looked at.
const LOOK_AT_PROFILES: Duration = Duration::from_secs(10);

/// How often unanswered calls to providers are looked at.
const LOOK_AT_CALLS: Duration = Duration::from_secs(5);

/// The parts from which a broker is made.
pub struct Options {
    /// The broker's paths.
    pub locations: Locations,
    /// The kinds of providers that the broker knows.
    pub registry: Registry,
    /// What a service manager has passed: a socket to use instead of listening, or nothing.
    pub passed: Vec<Passed>,
}

/// A broker whose socket accepts connections.
pub struct Server {
    broker: Broker,
    workers: Workers,
    answers: Receiver<Outcome>,
    /// When unanswered calls to providers are looked at again.
    look_at_calls: Instant,
    /// When profiles that could not be used, and whose stores may have mail, are looked at again.
    look_at_profiles: Instant,
    /// Questions of the metrics endpoint for figures; `None` without an endpoint.
    asked: Option<Receiver<Sender<Figures>>>,
    poll: Poll,
    clock: Clock,
    listener: Listener,
    connections: Connections,
    processes: Processes,
    profiles: Profiles,
    users: Users,
    signals: Signals,
    manager: Manager,
    exit: LastExit,
    running: RunningClock,
    ends: Ends,
    commands: Commands,
    locations: Locations,
    loaded: Loaded,
    pid: u32,
    /// When freed memory is given back, after the end of a connection.
    trim_memory: Option<Instant>,
    effects: Vec<Effect>,
    /// Events that effects have caused at once, for the core.
    arisen: VecDeque<Event>,
    scratch: Vec<u8>,
    over: bool,
}

impl Server {
    /// Takes the data directory, listens, and finds the profiles that may have mail in their queues.
    pub fn start(options: Options) -> Result<Self, StartupError> {
        crate::platform::share_heaps();
        let Options { mut locations, registry, passed } = options;
        let loaded = locations.load_settings().map_err(StartupError::Settings)?;
        let (place, lock) = take_place(&mut locations, &loaded, passed)?;
        let descriptors = Descriptors::raise();
        let poll = Poll::new().map_err(system("watch descriptors"))?;
        let waker =
            Waker::new(poll.registry(), WAKER).map_err(system("watch the providers' threads"))?;
        let waker = Arc::new(waker);
        crate::platform::take_signals().map_err(system("take signals"))?;
        let signals = Signals::install(&poll).map_err(system("catch signals"))?;
        let clock = Clock::start(&poll)?;
        let listener = Listener::new(place, lock, &locations.data, clock.now());
        listener.watch(poll.registry())?;
        let tickets = Tickets::open(&locations.runtime_directories(), &locations.socket)
            .map_err(system("make a key for tickets"))?;
        // A registry that an earlier broker used keeps the runtime of that broker.
        let _ = registry.runtime.set(runtime(&locations));
        let _ = registry.users.set(Arc::new(crate::users::find_now));
        let _ = registry.data.set(locations.data.clone());
        let (ends, known_ends) = Ends::open(&locations.runtime_directories(), &locations.socket);
        let facts = facts(&locations, &tickets);
        let exit = LastExit::ready(&locations.data, facts.started);
        let running = RunningClock::open(&locations.data, clock.now());
        let places = places(&locations, &registry);
        let users = Users::new(places.accounts.clone(), Arc::clone(&waker));
        let profiles = Profiles::new(places, Arc::clone(&waker));
        let listen = loaded.metrics.as_ref().map(|listen| locations.metrics(listen));
        let measured =
            listen.map(|listen| serve_metrics(listen, (facts.started, &locations.data), &waker));
        let measured = measured.transpose().map_err(system("start a thread for metrics"))?;
        let (metrics, asked) = measured.unzip();
        let (workers, answers) = Workers::new(registry, waker, metrics.clone());
        let connections = Connections::new(&loaded.settings.limits, descriptors, metrics);
        let mut server = Self {
            broker: Broker::new(sundown_core::settings::Settings::default()),
            workers,
            answers,
            look_at_calls: clock.now(),
            look_at_profiles: clock.now() + LOOK_AT_PROFILES,
            asked,
            poll,
            clock,
            listener,
            connections,
            processes: Processes::new(descriptors.to_watch(), tickets),
            profiles,
            users,
            signals,
            manager: Manager::of_this_process(),
            exit,
            running,
            ends,
            commands: Commands::default(),
            locations,
            loaded,
            pid: facts.pid,
            trim_memory: None,
            effects: Vec::new(),
            arisen: VecDeque::new(),
            scratch: Vec::new(),
            over: false,
        };
        let broker = Broker::new(server.core_settings(facts));
        server.broker = broker.going_on(server.running.before());
        server.apply(Event::Ends(known_ends));
        for profile in server.profiles.with_stores() {
            server.apply(Event::Adopt { profile });
        }
        tracing::info!(
            socket = %server.locations.socket.display(),
            data = %server.locations.data.display(),
            "ready"
        );
        Ok(server)
    }

    /// Runs until the broker is stopped.
    pub fn run(mut self) -> Result<(), StartupError> {
        let over = self.turn_until_over();
        if let Some(error) = self.listener.lost() {
            // The record in the data directory is another broker's.
            return Err(error.into());
        }
        self.running.end(Instant::now());
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
            self.clock.read();
            self.look_at_data();
            self.turn(&events);
            if self.broker.is_stopping() {
                self.manager.stopping();
            }
        }
        self.connections.flush();
        tracing::info!("stopped");
        Ok(())
    }

    /// Waits for events, or until a time is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        if self.connections.is_turn_waited_for() {
            return self.poll.poll(events, Some(Duration::ZERO));
        }
        let soonest = self.soonest();
        self.clock.sleep(&mut self.poll, events, soonest, self.loaded.busy_poll)
    }

    /// When the loop must wake without an event.
    fn soonest(&self) -> Option<Instant> {
        let calls = self.broker.awaits_providers().then_some(self.look_at_calls);
        let clock = Some(self.running.next());
        let profiles = self.profiles.are_awaited().then_some(self.look_at_profiles);
        let core = self.clock.core_wakes();
        let own = [self.trim_memory, self.manager.next(), core, calls, clock, profiles];
        let others = self.listener.wakes().into_iter().chain(self.connections.wakes());
        own.into_iter().chain(others).flatten().min()
    }

    /// Does one turn of the loop.
    fn turn(&mut self, events: &Events) {
        let coming = self.listener.begin_turn();
        for event in events {
            match event.token() {
                LISTENER => {
                    self.listener.accepts();
                    self.accept(coming);
                }
                WAKER => {
                    self.take_answers();
                    self.take_profiles();
                    self.take_users();
                    self.tell_figures();
                }
                PLACE => self.listener.look_at_socket(self.clock.now()),
                SIGNALS => self.take_signals(),
                ALARM => self.clock.rang(),
                token @ Token(number) if number % 2 == 1 => self.processes.note_end(token),
                Token(number) => self.connections.note(ConnectionId(number as u64 / 2), event),
            }
        }
        // Answers are written before any other work: no process waits for what follows a fast shutdown.
        self.write_all();
        self.tell_time();
        self.read_some();
        self.tell_ends();
        self.write_all();
    }

    /// Checks the data directory. If it is no longer this broker's, the broker stops in order, as for a restart: another broker, or
    /// the next, uses the files that are there.
    fn look_at_data(&mut self) {
        match self.listener.look_at_data(self.clock.now()) {
            Data::Kept => {}
            Data::Lost => self.apply(Event::Stop(Stop::Restart)),
        }
    }

    fn tell_time(&mut self) {
        let now = self.clock.now();
        self.manager.turn(now);
        if self.clock.is_core_due() {
            self.apply(Event::Timer);
        }
        if self.look_at_calls <= now {
            self.look_at_calls = now + LOOK_AT_CALLS;
            self.apply(Event::Look);
        }
        if self.profiles.are_awaited() && self.look_at_profiles <= now {
            self.look_at_profiles = now + LOOK_AT_PROFILES;
            for profile in self.profiles.mended() {
                self.apply(Event::Adopt { profile });
            }
        }
        self.running.keep(now, || self.broker.holds_mail());
        if self.trim_memory.is_some_and(|at| at <= now) {
            self.give_memory_back();
        }
        if self.listener.accepts_again(now, self.poll.registry()) {
            self.accept(Coming::Crowd);
        }
        if self.listener.listens_again(now) {
            self.listen_again();
        }
        self.connections.end_late_hellos(now);
        while let Some(id) = self.connections.next_overdue(now) {
            self.remove(id);
        }
    }

    fn give_memory_back(&mut self) {
        // Memory of a submission is freed when it is stored, which may be later.
        let given = crate::platform::give_memory_back();
        let more = given || self.broker.has_left_behind();
        self.trim_memory = more.then(|| self.clock.now() + TRIM);
        if given {
            tracing::debug!("memory that was freed is given back to the system");
        }
    }

    /// Makes another socket in place of a removed one. If that fails the broker stops as for a restart, because no client can reach
    /// it, and it would keep the data.
    fn listen_again(&mut self) {
        self.accept(Coming::Crowd);
        let group = self.loaded.socket_group.as_ref();
        if let Err(error) = self.listener.listen(group, self.poll.registry()) {
            tracing::error!(%error, "the socket was removed, and no other one can be made");
            self.apply(Event::Stop(Stop::Restart));
        }
    }

    fn accept(&mut self, coming: Coming) {
        let (now, registry) = (self.clock.now(), self.poll.registry());
        while let Some(socket) = self.listener.accept(now, registry) {
            let limits = &self.loaded.settings.limits;
            if let Err(error) = self.connections.take(socket, limits, now, registry) {
                self.listener.note_untaken(&error);
            }
            if coming == Coming::One {
                return;
            }
        }
    }
}

/// Events and their effects.
impl Server {
    /// Applies an event and carries out its effects. An effect that is answered at once causes an event, which is applied after all
    /// effects of the previous one.
    fn apply(&mut self, mut event: Event) {
        loop {
            let tick = self.clock.tick();
            let mut effects = std::mem::take(&mut self.effects);
            self.broker.apply(tick, event, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
            self.effects = effects;
            let Some(arisen) = self.arisen.pop_front() else { return };
            event = arisen;
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { connection, request, result } => {
                self.connections.answer(connection, request, result);
            }
            Effect::Notify { connection, notification } => {
                self.connections.notify(connection, notification);
            }
            Effect::Refused { peer, uid, request, why } => {
                self.connections.note_refused(uid, &peer, request, &why);
            }
            Effect::Forgotten { process } => self.processes.forget(process),
            Effect::Close { connection, why } => self.connections.close(connection, why),
            Effect::OpenLane(spec) => self.workers.open(*spec),
            Effect::CloseLane(lane) => self.workers.close(lane),
            Effect::Call { lane, call, behalf, provider } => {
                if let Some(result) = self.workers.call(lane, call, *behalf, provider) {
                    self.arisen.push_back(Event::Answered { call, result });
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
            Effect::ProviderNews { profile, provider, provider_type, news } => {
                troubles::of_provider(&profile, (&provider, provider_type), &news);
            }
            Effect::ProfileNews { profile, why } => {
                troubles::of_profile(&profile, why.as_deref());
            }
            Effect::CameBack { entry, profile, recipients, why, what } => {
                let event = "came-back";
                match what {
                    Returned::Message => {
                        tracing::warn!(event, %entry, profile, recipients, why, "a message came back");
                    }
                    Returned::Notification => tracing::warn!(
                        event,
                        %entry,
                        profile,
                        recipients,
                        why,
                        "a message without a sender, as a forwarded notification is, failed"
                    ),
                }
            }
            Effect::OutcomeUnknown { entry, profile, recipients, why } => tracing::warn!(
                event = "outcome-unknown",
                %entry,
                profile,
                recipients,
                why,
                "nobody knows whether a message arrived, so it is held: retry or abort it"
            ),
            Effect::RunForMail { profile, command, entry, news } => {
                let socket = self.locations.socket.display().to_string();
                self.commands.run(Command::for_mail(profile, command, (entry, &news), socket));
            }
            Effect::RunForNotice { profile, command, text } => {
                self.commands.run(Command::for_notice(profile, command, text));
            }
            Effect::LoadProfile { session, name } => {
                self.arisen.extend(self.profiles.load(session, &name));
            }
            Effect::LookAtProfile { name, version } => {
                self.arisen.push_back(self.profiles.look(&name, version));
            }
            Effect::FindUsers { question, names } => {
                self.arisen.extend(self.users.find(question, names));
            }
            Effect::DeleteProfile { name } => self.arisen.push_back(self.profiles.delete(name)),
            Effect::Arm(at) => self.clock.wake_core(at),
            Effect::Stopped => self.over = true,
        }
    }

    fn take_answers(&mut self) {
        while let Ok(outcome) = self.answers.try_recv() {
            if let Outcome::Answered(call, _) | Outcome::Withdrawn(call) = &outcome {
                self.workers.over(*call);
            }
            // A mailbox goes on when the broker has heard of what it wrote.
            let mut taken = None;
            self.apply(match outcome {
                Outcome::Mirrored(lane, changes, until) => {
                    taken = Some(until);
                    Event::StoreChanged { lane, changes }
                }
                Outcome::Reports(lane, report) => Event::MailboxReports { lane, report },
                Outcome::Said(lane, said) => Event::MailboxSaid { lane, said },
                Outcome::Answered(call, result) => Event::Answered { call, result },
                Outcome::Withdrawn(call) => Event::Withdrawn { call },
                Outcome::Ended(lane) => Event::LaneEnded(lane),
            });
            drop(taken);
        }
    }

    fn take_profiles(&mut self) {
        while let Some(event) = self.profiles.loaded() {
            self.apply(event);
        }
    }

    fn take_users(&mut self) {
        while let Some(event) = self.users.found() {
            self.apply(event);
        }
    }

    /// Answers the questions of the metrics endpoint.
    fn tell_figures(&mut self) {
        let asked = self.asked.as_ref().map(|asked| asked.try_iter().collect::<Vec<_>>());
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return };
        let figures = self.broker.figures();
        for who in asked {
            // A question that timed out has been answered without new figures.
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
        self.look_at_profiles = self.clock.now();
        match self.locations.load_settings() {
            Err(error) => {
                tracing::error!(%error, "settings stay as they were");
                // The profiles are other files.
                let settings = self.core_settings(BrokerFacts::default());
                self.apply(Event::Reload(Box::new(settings)));
                self.manager.ready(&format!("Settings stay as they were: {error}"));
            }
            Ok(loaded) => {
                if loaded.socket_group != self.loaded.socket_group {
                    tracing::warn!("the socket's group changes when the broker starts again");
                }
                if loaded.metrics != self.loaded.metrics {
                    tracing::warn!("[metrics] changes when the broker starts again");
                }
                self.connections.set_limits(&loaded.settings.limits);
                self.loaded = loaded;
                // Facts about the broker do not change with a reload.
                let settings = self.core_settings(BrokerFacts::default());
                self.apply(Event::Reload(Box::new(settings)));
                tracing::info!("settings were read again, and so were the profiles in use");
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
}

/// Connections: reading, applying, writing, and their ends.
impl Server {
    /// Reads each connection that has something, within its turn, and applies its requests.
    fn read_some(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut round = self.connections.begin_round();
        let mut applied = 0;
        while let Some((id, budget)) = self.connections.next_turn(&mut round, applied) {
            applied = self.read_one(id, &mut scratch, budget);
        }
        self.scratch = scratch;
    }

    /// Reads a piece of a connection, and applies its requests. Returns how much of a share that was.
    fn read_one(&mut self, id: ConnectionId, scratch: &mut Vec<u8>, budget: Budget) -> usize {
        let Some(read) = self.connections.read(id, scratch) else { return 0 };
        let (applied, kept) = self.take_requests(id, &scratch[..read], budget);
        if kept.is_err() {
            self.connections.note_unpaid(id);
        }
        // Writes once for all requests of this piece: the answers do not wait for the turns of other connections.
        self.write(id);
        self.connections.unmark_last(id);
        if kept.is_err() {
            self.remove(id);
        }
        self.connections.keep_room();
        self.end_if_over(id);
        // A piece without a whole request counts too.
        applied.max(1)
    }

    /// Applies the requests in the kept and in the new bytes, and keeps the rest. Returns how many requests were applied.
    fn take_requests(
        &mut self,
        id: ConnectionId,
        mut read: &[u8],
        mut budget: Budget,
    ) -> (usize, Result<(), TooSlow>) {
        let mut applied = 0;
        loop {
            let Some(link) = self.connections.link(id) else { return (applied, Ok(())) };
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
                        return (applied, self.connections.keep_for_next_turn(id, read));
                    }
                }
                Err(why) => {
                    self.connections.close(id, why);
                    // The process pays for the connection until the goodbye is written.
                    self.apply(Event::Disconnected { connection: id });
                    return (applied, Ok(()));
                }
            }
        }
    }

    fn open(&mut self, id: ConnectionId, hello: Hello, version: Version) {
        let link = self.connections.link(id).expect("it said hello just now");
        let identity = link.identity(id, hello, self.processes.tickets());
        let key = identity.key.clone();
        if !self.broker.remembers(&key) {
            self.processes.note_new(&identity);
        }
        // A process beyond a quota gets a refusal in place of a welcome: its program sees which quota, and not a broken connection.
        self.apply(Event::Connected { connection: id, identity });
        let link = self.connections.link(id).filter(|link| link.is_active());
        let Some(link) = link else { return };
        let pidfd = link.credentials.pidfd.take();
        self.processes.connect(&key, id, pidfd, self.poll.registry());
        let limits = &self.loaded.settings.limits;
        self.connections.welcome(id, &key, version, (self.pid, limits));
    }

    /// Tells the core which processes have ended, after everything that they had sent, however many turns that takes.
    fn tell_ends(&mut self) {
        for token in self.processes.take_ended() {
            if !self.is_drained(token) {
                self.processes.note_end(token);
            } else if let Some(process) = self.processes.end(token) {
                self.apply(Event::ProcessEnded { process });
            }
        }
    }

    /// Whether everything is applied that a process had sent on all its connections when it ended.
    fn is_drained(&mut self, token: Token) -> bool {
        let Some(key) = self.processes.watched_by(token) else { return true };
        let connections: Vec<_> = self.broker.connections_of(key).collect();
        let mut all = true;
        for id in connections {
            // Every connection must be checked: bytes that follow the process' end are another process'.
            all &= self.connections.is_drained(id);
        }
        all
    }

    /// Writes to every connection that has something to write.
    fn write_all(&mut self) {
        while let Some(id) = self.connections.next_to_write() {
            self.write(id);
        }
    }

    fn write(&mut self, id: ConnectionId) {
        let left = self.connections.write(id, self.clock.now(), self.poll.registry());
        self.go_on(id, left);
    }

    fn end_if_over(&mut self, id: ConnectionId) {
        let left = self.connections.left(id, self.clock.now());
        self.go_on(id, left);
    }

    /// Removes a connection if nothing is left to do for it.
    fn go_on(&mut self, id: ConnectionId, left: Left) {
        match left {
            Left::Something => {}
            Left::Nothing => self.remove(id),
        }
    }

    /// Removes a connection. The core is told, and then what follows for its process.
    fn remove(&mut self, id: ConnectionId) {
        let Some(gone) = self.connections.remove(id) else { return };
        self.trim_memory.get_or_insert(self.clock.now() + TRIM);
        self.apply(Event::Disconnected { connection: id });
        let Some(key) = gone.process else { return };
        let broker = &self.broker;
        let memory = |key: &ProcessKey| {
            if broker.remembers(key) { Memory::Some } else { Memory::None }
        };
        if let Some(process) = self.processes.disconnect(key, memory) {
            self.apply(Event::ProcessEnded { process });
        }
    }
}

/// Uses a service manager's socket, or listens, and takes the data directory.
fn take_place(
    locations: &mut Locations,
    loaded: &Loaded,
    passed: Vec<Passed>,
) -> Result<(Place, DataLock), StartupError> {
    let group = loaded.socket_group.as_ref();
    let managers = Place::of_manager(passed)?;
    if let Some(place) = &managers {
        place.path().clone_into(&mut locations.socket);
        if group.is_some() {
            tracing::warn!("[socket] group changes nothing: the service manager made the socket");
        }
    }
    let lock = DataLock::take(&locations.data, &locations.socket)?;
    let place = match managers {
        Some(place) => place,
        None => Place::listen(&locations.socket, group, &lock)?,
    };
    Ok((place, lock))
}

/// Facts about this broker and the previous one.
fn facts(locations: &Locations, tickets: &Tickets) -> BrokerFacts {
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let facts = BrokerFacts {
        pid: std::process::id(),
        socket: locations.socket.display().to_string(),
        started: started.as_millis() as u64,
        previous: LastExit::read(&locations.data),
        ticket_key: tickets.key(),
    };
    if let Some(previous) = &facts.previous {
        tell_of(previous);
    }
    facts
}

/// Logs how the previous broker ended.
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

/// The figures, and the questions for them that the loop answers.
type Measured = (Arc<Metrics>, Receiver<Sender<Figures>>);

fn serve_metrics(
    listen: Listen,
    (started, data): (u64, &Path),
    waker: &Arc<Waker>,
) -> io::Result<Measured> {
    let (asking, asked) = Asking::new(Arc::clone(waker));
    let metrics = Metrics::new(started, data.to_owned());
    metrics::serve(listen, Arc::clone(&metrics), asking)?;
    Ok((metrics, asked))
}
