//! What all initializations with one broker share: the connection, its loss and its return, and what is called over it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sundown_protocol::notification::{EndReason, Event};
use sundown_protocol::reply::{Previous, QueueRow, Status, SubmissionState};
use sundown_protocol::request::{QueueAction, Repeat, Request, StatusCursor};
use sundown_protocol::{Code, EntryId, Fault, MemberId, Notification, Reply, RequestId, Version};

use crate::autostart::{self, NotStarted};
use crate::connection::{Connection, Lost, Seeker, Turn, Wants};
use crate::error::Error;
use crate::limits::Limits;
use crate::link::{Hook, Link, Refusal, SharedLink, Watching};
use crate::logoff::Logoff;
use crate::mapi::Options;
use crate::notices::{self, Notices};
use crate::notify::{self, News, Told};
use crate::paths::{Paths, Whose};
use crate::process;
use crate::reference::ReferenceState;
use crate::session::{SessionState, go_on, unexpected};
use crate::shutdown::{Memory, Process};

/// How long the library looks for a broker that went away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a broker that is there again may take to say welcome, before another one is looked for.
const WELCOME: Duration = Duration::from_secs(10);
/// How long a logoff waits for sinks that are being called.
const TELLING: Duration = Duration::from_secs(5);
/// How often it looks. A broker that is restarted is back within a few of these.
pub(crate) const LOOK: Duration = Duration::from_millis(25);

/// No time at all is no time limit to the system.
const SHORTEST: Duration = Duration::from_millis(1);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all initializations with one broker share.
pub(crate) struct Library {
    options: Options,
    paths: Paths,
    /// A forked child has this library's memory and not its threads.
    incarnation: u32,
    /// How often it is initialized; none is the end, and nobody joins a library that ends.
    initialized: Mutex<u32>,
    connection: Connection<Link>,
    sessions: Mutex<Sessions>,
    references: Mutex<HashMap<MemberId, Arc<ReferenceState>>>,
    process: Arc<Process>,
    memory: Arc<Memory>,
    /// It was shut down in the traditional way.
    left: AtomicBool,
    notices: Arc<Notices<Told>>,
    /// The thread that calls sinks, once there is one.
    teller: Mutex<Option<thread::ThreadId>>,
}

/// The sessions of a library.
#[derive(Default)]
struct Sessions {
    /// Those that the broker knows, by their member's number there.
    here: HashMap<MemberId, Arc<SessionState>>,
    /// Those that were here when the connection was lost, and are not back yet.
    away: Vec<Arc<SessionState>>,
}

impl Sessions {
    fn add(&mut self, member: MemberId, session: Arc<SessionState>) {
        self.away.retain(|other| !Arc::ptr_eq(other, &session));
        self.here.insert(member, session);
    }

    fn remove(&mut self, session: &SessionState) {
        let is_it = |other: &Arc<SessionState>| std::ptr::eq(Arc::as_ptr(other), session);
        let member = session.member();
        if self.here.get(&member).is_some_and(is_it) {
            self.here.remove(&member);
        }
        self.away.retain(|other| !is_it(other));
    }

    fn are_none(&self) -> bool {
        self.here.is_empty() && self.away.is_empty()
    }

    fn all(&self) -> Vec<Arc<SessionState>> {
        self.here.values().chain(&self.away).cloned().collect()
    }

    fn take_all(&mut self) -> Vec<Arc<SessionState>> {
        let here = self.here.drain().map(|(_, session)| session);
        here.chain(self.away.drain(..)).collect()
    }

    /// The connection is another one: nobody is known there yet. In the order of their logons.
    fn all_away(&mut self) -> Vec<Arc<SessionState>> {
        self.away.extend(self.here.drain().map(|(_, session)| session));
        self.away.sort_by_key(|session| session.member());
        self.away.clone()
    }
}

/// What is asked together with the hello.
pub(crate) type First<'a> = dyn Fn() -> (Request, Hook) + 'a;

/// A new connection, and what was asked together with its hello.
type Greeted = (SharedLink, Option<RequestId>);

/// A session that is back, and how many drafts it has lost.
type Back = (Arc<SessionState>, u64);

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Library({})", self.paths.socket.display())
    }
}

impl Library {
    pub(crate) fn new(
        options: Options,
        paths: Paths,
        process: Arc<Process>,
    ) -> Result<Arc<Self>, Error> {
        let memory = process.memory(&paths.socket);
        let library = Arc::new(Self {
            options,
            paths,
            incarnation: process::incarnation(),
            initialized: Mutex::new(1),
            connection: Connection::default(),
            sessions: Mutex::default(),
            references: Mutex::default(),
            process,
            memory,
            left: AtomicBool::new(false),
            notices: Arc::new(Notices::new(notices::ROOM)),
            teller: Mutex::default(),
        });
        if library.options.watching == Watching::Thread {
            library.start_teller()?;
        }
        Ok(library)
    }

    /// Starts the thread that calls sinks, if it does not run yet.
    pub(crate) fn start_teller(&self) -> Result<(), Error> {
        let mut teller = lock(&self.teller);
        if teller.is_some() {
            return Ok(());
        }
        let notices = Arc::clone(&self.notices);
        let spawned = thread::Builder::new()
            .name("sundown-notify".into())
            .spawn(move || notify::serve(&notices));
        let thread =
            spawned.map_err(|e| Error::fault(Code::E_NOT_ENOUGH_RESOURCES, e.to_string()))?;
        *teller = Some(thread.thread().id());
        Ok(())
    }

    /// Has the notify thread tell somebody something.
    pub(crate) fn tell(&self, told: Told) {
        // The thread lives as long as the library; where none could be started, it waits for the next attempt.
        self.notices.push(told);
        let _ = self.start_teller();
    }

    /// Waits until everything that has come was told, unless this is the thread that tells it. A sink that takes its time is
    /// not waited for without end.
    pub(crate) fn tell_all(&self) {
        let teller = *lock(&self.teller);
        if teller.is_none_or(|teller| teller == thread::current().id()) {
            return;
        }
        let (waits, told) = crossbeam_channel::bounded(1);
        self.notices.push(Told::Until(waits));
        let (limits, until) = (Limits::of_this_thread(), Instant::now() + TELLING);
        while limits.check().is_ok() && Instant::now() < until {
            match told.recv_deadline(limits.next_look(until)) {
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                _ => return,
            }
        }
    }

    /// Initializes it once more, unless it ends.
    pub(crate) fn join(&self) -> bool {
        let mut initialized = lock(&self.initialized);
        let joined = *initialized > 0;
        *initialized += u32::from(joined);
        joined
    }

    /// How often it is initialized.
    pub(crate) fn initialized(&self) -> u32 {
        *lock(&self.initialized)
    }

    /// Takes one initialization back. Whether it was the last: nobody joins it any more.
    pub(crate) fn leave(&self) -> bool {
        let mut initialized = lock(&self.initialized);
        *initialized = initialized.saturating_sub(1);
        *initialized == 0
    }

    /// The last initialization could not be taken back.
    pub(crate) fn stay(&self) {
        *lock(&self.initialized) += 1;
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.paths.socket
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Whether there is a connection to its broker, or may be one soon.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_used()
    }

    /// What names this copy of the library, unless the host has handed on its own.
    pub(crate) fn key(&self) -> u128 {
        static OWN: OnceLock<u128> = OnceLock::new();
        self.options.host_key.unwrap_or_else(|| *OWN.get_or_init(process::chance))
    }

    /// Whether calls may be made: not in a forked child, and not after a fast shutdown.
    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        self.check_fork()?;
        let done = self.process.is_done() || self.memory.is_done();
        if done || self.left.load(Ordering::Acquire) {
            return Err(left());
        }
        Ok(())
    }

    pub(crate) fn add_reference(&self, reference: Arc<ReferenceState>) {
        lock(&self.references).insert(reference.member, reference);
    }

    pub(crate) fn reference(&self, member: MemberId) -> Option<Arc<ReferenceState>> {
        lock(&self.references).get(&member).cloned()
    }

    pub(crate) fn remove_reference(&self, reference: &Arc<ReferenceState>) {
        let mut references = lock(&self.references);
        // Another broker gives out the same numbers again.
        if references.get(&reference.member).is_some_and(|r| Arc::ptr_eq(r, reference)) {
            references.remove(&reference.member);
        }
    }

    /// References end with their connection, and whoever holds them is told.
    fn lose_references(&self) {
        for (_, reference) in lock(&self.references).drain() {
            self.tell(Told::Reference(reference, reference_lost()));
        }
    }

    /// Whether this process is the one that initialized the library.
    pub(crate) fn check_fork(&self) -> Result<(), Error> {
        if self.incarnation == process::incarnation() {
            return Ok(());
        }
        let message = "this process was forked from the one that initialized the library; \
                       initialize it here before any call";
        Err(Error::fault(Code::E_NOT_INITIALIZED, message))
    }

    /// Connects if there is no connection, starting a broker if that is allowed. The first request goes with the hello then.
    pub(crate) fn connect_now(
        self: &Arc<Self>,
        first: Option<&First>,
    ) -> Result<Option<(SharedLink, RequestId)>, Error> {
        let until = Instant::now() + self.options.patience.max(LOOK);
        match self.turn(Wants::Initialization, until)? {
            Turn::Up(_) | Turn::Down => Ok(None),
            Turn::Ended(why) => Err(Error::fault(Code::E_END_OF_SESSION, why)),
            Turn::TimedOut => Err(self.unreachable(io::ErrorKind::TimedOut.into())),
            Turn::Connect(connector) => {
                // A ticket comes before anything else.
                let first = first.filter(|_| self.memory.ticket().is_none());
                let (link, asked) = self.greet(first)?;
                let back = self.come_back(&link).inspect_err(|e| link.die(&e.to_string()))?;
                self.made(&link, connector.made(&link))?;
                self.say_who_is_back(&link, back);
                Ok(asked.map(|asked| (link, asked)))
            }
        }
    }

    /// The program that starts a broker, if this one may be started: the host's is its service manager's.
    fn starts(&self) -> Option<&Path> {
        self.options.start.as_deref().filter(|_| self.paths.whose == Whose::Own)
    }

    /// Connects; for as long as it may take. Where a service manager listens, a broker that ends before it has said welcome is
    /// followed by the next. Where none listens one is started, if that is allowed: also behind one that is about to end.
    fn greet(self: &Arc<Self>, first: Option<&First>) -> Result<Greeted, Error> {
        let limits = Limits::of_this_thread();
        let until = Instant::now() + self.options.patience;
        let mut was_here = false;
        loop {
            limits.check()?;
            let left = until.saturating_duration_since(Instant::now());
            let error = match self.connect_within(left.max(LOOK), first) {
                Ok(greeted) => return Ok(greeted),
                Err(error) => error,
            };
            limits.check()?;
            was_here |= was_cut_off(&error);
            let again = match self.starts() {
                Some(program) if looks_absent(&error) => {
                    match autostart::start(program, &self.paths, || self.connect().is_ok()) {
                        Ok(()) => true,
                        Err(NotStarted::Occupied(_)) if Instant::now() < until => true,
                        Err(NotStarted::Occupied(why) | NotStarted::Failed(why)) => {
                            return Err(why);
                        }
                    }
                }
                // Somebody else starts the next one.
                _ => was_cut_off(&error) || was_here && looks_absent(&error),
            };
            if !again || Instant::now() >= until {
                return Err(self.unreachable(error));
            }
            thread::sleep(LOOK);
        }
    }

    fn connect(self: &Arc<Self>) -> std::io::Result<SharedLink> {
        self.connect_within(WELCOME, None).map(|(link, _)| link)
    }

    fn connect_within(
        self: &Arc<Self>,
        patience: Duration,
        first: Option<&First>,
    ) -> std::io::Result<Greeted> {
        match self.connect_at(&self.paths.socket, patience, first) {
            Err(error) if is_not_there(&error) => match autostart::elsewhere(&self.paths) {
                Some(other) => self.connect_at(&other, patience, first).map_err(|_| error),
                None => Err(error),
            },
            connected => connected,
        }
    }

    fn connect_at(
        self: &Arc<Self>,
        socket: &Path,
        patience: Duration,
        first: Option<&First>,
    ) -> std::io::Result<Greeted> {
        let program = &self.options.program;
        let key = self.key().to_le_bytes();
        let library = Arc::downgrade(self);
        let deliver = move |notification| {
            if let Some(library) = library.upgrade() {
                library.deliver(notification);
            }
        };
        let (deliver, first) = (Box::new(deliver), first.map(|make| make()));
        let watching = self.options.watching;
        let patience = Limits::of_this_thread().at_most(patience).max(SHORTEST);
        let connected = Link::connect(socket, program, key, patience, watching, deliver, first);
        let (link, asked) = connected?;
        self.show_ticket(&link);
        Ok((Arc::new(link), asked))
    }

    /// Shows the broker what an earlier one has said of this process, and asks for what this one says, before anything else is
    /// asked over this connection; nobody waits for the answer. A brief program leaves before another broker comes.
    fn show_ticket(&self, link: &Link) {
        if self.options.watching == Watching::Callers || !link.speaks(Version::V3) {
            return;
        }
        let (memory, shown) = (Arc::clone(&self.memory), self.memory.ticket());
        let hook = move |outcome: &Result<Reply, Fault>| match outcome {
            Ok(Reply::Ticket(ticket)) => memory.keep_ticket(ticket.clone()),
            // It is not believed. The next broker is asked without it.
            Err(fault) if fault.code == Code::E_NO_ACCESS => memory.forget_ticket(),
            Ok(_) | Err(_) => {}
        };
        link.tell(Request::Ticket { shown }, Some(Box::new(hook)));
    }

    /// Has the notify thread tell whomever a notification is for. A ticket is for the library.
    fn deliver(&self, notification: Notification) {
        let member = notification.member;
        if let Event::Ticket(ticket) = notification.event {
            return self.memory.keep_ticket(ticket);
        }
        if let Some(reference) = self.reference(member) {
            return self.tell(Told::Reference(reference, notification.event));
        }
        let Some(session) = self.session(member) else { return };
        match &notification.event {
            // It is for the library, and must not wait behind a sink.
            Event::Durable(entries) => session.durable(entries),
            Event::Session(tag) => session.is_called(*tag),
            Event::CriticalError { reason: EndReason::SharedLogoff, .. } => {
                session.end_is_known();
                self.tell(Told::Session(session, notification));
            }
            // The broker has no member any more.
            Event::CriticalError { reason: EndReason::StoreLost, .. } => {
                session.end(EndReason::StoreLost);
                self.tell(Told::Session(session, notification));
            }
            _ => self.tell_each(&session, notification),
        }
    }

    /// Programs are told of each departure by itself, however many came at once.
    fn tell_each(&self, session: &Arc<SessionState>, notification: Notification) {
        let Notification { member, advises, event } = notification;
        for event in event.each() {
            let notification = Notification { member, advises: advises.clone(), event };
            self.tell(Told::Session(Arc::clone(session), notification));
        }
    }

    fn unreachable(&self, error: std::io::Error) -> Error {
        let socket = self.paths.socket.display();
        let what = if looks_absent(&error) {
            let start = match self.paths.whose {
                Whose::Own => "start one with `sundown serve`",
                Whose::Host => "it is the host's: `systemctl start sundown.socket` as root",
            };
            format!("no broker runs at {socket}; {start}")
        } else if says_nothing(&error) {
            format!("what listens at {socket} does not answer: `sundown doctor` looks why")
        } else {
            format!("the broker at {socket} cannot be reached: {error}")
        };
        Error::unreachable(what, Some(error))
    }

    /// A new connection is used, if nothing has ended meanwhile: from now on a thread watches it, unless the program is brief.
    fn made(self: &Arc<Self>, link: &SharedLink, used: Result<(), String>) -> Result<(), Error> {
        if let Err(why) = used {
            link.die(&why);
            return Err(Error::fault(Code::E_END_OF_SESSION, why));
        }
        if self.options.watching == Watching::Callers {
            return Ok(());
        }
        self.start_watch(link).inspect_err(|error| {
            self.connection.lost(link, || Lost::Off);
            link.die(&error.to_string());
        })
    }

    fn start_watch(self: &Arc<Self>, link: &SharedLink) -> Result<(), Error> {
        let (library, watched) = (Arc::downgrade(self), Arc::clone(link));
        thread::Builder::new()
            .name("sundown-watch".into())
            .spawn(move || {
                watched.watch();
                if let Some(library) = library.upgrade() {
                    library.lost(&watched);
                }
            })
            .map_err(|e| Error::fault(Code::E_NOT_ENOUGH_RESOURCES, e.to_string()))?;
        Ok(())
    }

    /// A connection has ended: looks for the broker as long as there are sessions to bring back.
    fn lost(self: &Arc<Self>, link: &SharedLink) {
        let mut stopped = false;
        let seeker = self.connection.lost(link, || {
            self.lose_references();
            stopped = link.is_stopping();
            if stopped {
                let why = "the broker was stopped; initialize the library again to start another";
                return Lost::Ended(why.into());
            }
            if self.check_alive().is_err() || lock(&self.sessions).are_none() {
                return Lost::Off;
            }
            Lost::Look(Instant::now() + PATIENCE)
        });
        if stopped {
            self.end_sessions(EndReason::BrokerStopped);
        }
        if let Some(seeker) = seeker {
            self.look_for_broker(seeker);
        }
    }

    fn look_for_broker(self: &Arc<Self>, seeker: Seeker<'_, Link>) {
        let mut may_start = self.options.watching == Watching::Callers;
        // Where a caller looks, it is the caller's time; the next one looks on.
        let limits = Limits::of_this_thread();
        while seeker.goes_on() && limits.check().is_ok() {
            match self.connect() {
                Ok(link) => match self.come_back(&link) {
                    Ok(back) => return self.back(&link, seeker.found(&link), back),
                    // Those that are back already leave with it, and come again over the next one.
                    Err(error) => link.die(&error.to_string()),
                },
                Err(error) if may_start && looks_absent(&error) => may_start = self.start_another(),
                Err(_) => {}
            }
            if Instant::now() >= seeker.until() {
                if seeker.give_up() {
                    self.lose_all();
                }
                return;
            }
            thread::sleep(LOOK);
        }
    }

    /// Starts a broker for a brief program, which wants one call answered and leaves; others wait for whoever starts the next.
    /// Whether that may be tried again.
    fn start_another(self: &Arc<Self>) -> bool {
        let Some(program) = self.starts() else { return false };
        match autostart::start(program, &self.paths, || self.connect().is_ok()) {
            Ok(()) | Err(NotStarted::Occupied(_)) => true,
            Err(NotStarted::Failed(_)) => false,
        }
    }

    /// Brings every session back over a new connection, which calls use only then. Those that are back, and how many drafts each
    /// has lost.
    fn come_back(self: &Arc<Self>, link: &SharedLink) -> Result<Vec<Back>, Error> {
        let away = lock(&self.sessions).all_away();
        // Notifications may come as soon as a member is back, so this connection must be read from now on.
        let mut back = Vec::new();
        for session in away {
            match session.come_back(self, link) {
                Ok(lost_drafts) => back.push((session, lost_drafts)),
                Err(error) if error.is_disconnected() || error.code() == Code::E_WAIT => {
                    return Err(error);
                }
                Err(error) if error.code() == Code::E_END_OF_SESSION => self.is_over(session),
                Err(_) => self.lose(session),
            }
        }
        Ok(back)
    }

    /// The sessions are back, if nothing has ended meanwhile.
    fn back(self: &Arc<Self>, link: &SharedLink, used: Result<(), String>, back: Vec<Back>) {
        if self.made(link, used).is_ok() {
            self.say_who_is_back(link, back);
        }
    }

    /// Tells the programs of sessions that are back; those that nobody uses any more leave.
    fn say_who_is_back(self: &Arc<Self>, link: &SharedLink, back: Vec<Back>) {
        if back.is_empty() {
            return;
        }
        let previous = previous(link);
        for (session, lost_drafts) in back {
            if session.is_leaving() {
                session.leave_later();
                continue;
            }
            let news = News::Reconnected { lost_drafts, previous: previous.clone() };
            self.tell(Told::News(session, news));
        }
    }

    fn lose_all(&self) {
        let sessions = lock(&self.sessions).take_all();
        for session in sessions {
            self.lose(session);
        }
    }

    /// A session that does not come back: its program is told.
    fn lose(&self, session: Arc<SessionState>) {
        session.end(EndReason::BrokerLost);
        let news = News::Broker(Event::CriticalError {
            code: Code::E_END_OF_SESSION,
            reason: EndReason::BrokerLost,
            by: None,
            grace: None,
        });
        self.tell(Told::News(session, news));
    }

    /// A shared session that was ended, and its grace is over: its program is told, unless it was before.
    fn is_over(&self, session: Arc<SessionState>) {
        let known = session.end_is_known();
        session.evicted();
        if !known {
            let (code, reason) = (Code::E_END_OF_SESSION, EndReason::SharedLogoff);
            let news =
                News::Broker(Event::CriticalError { code, reason, by: None, grace: Some(0) });
            self.tell(Told::News(Arc::clone(&session), news));
        }
        self.tell(Told::News(session, News::Broker(Event::Evicted)));
    }

    fn end_sessions(&self, reason: EndReason) {
        let sessions = lock(&self.sessions).take_all();
        for session in sessions {
            session.end(reason);
        }
    }

    /// The connection, waiting for it while the broker is away, and made anew if there is none. Only an initialization starts a
    /// broker, and what looks for one on behalf of a brief program.
    pub(crate) fn link(self: &Arc<Self>) -> Result<SharedLink, Error> {
        self.check_alive()?;
        // Who looks for the broker gives up before that.
        let until = Instant::now() + PATIENCE + WELCOME;
        match self.turn(Wants::Call, until)? {
            Turn::Up(link) => Ok(link),
            Turn::Ended(why) => Err(Error::fault(Code::E_END_OF_SESSION, why)),
            Turn::Down | Turn::TimedOut => Err(self.unreachable(io::ErrorKind::TimedOut.into())),
            Turn::Connect(connector) => {
                let connected = self.connect();
                if connected.is_err() {
                    // The program's own impatience is not the broker's silence.
                    Limits::of_this_thread().check()?;
                }
                let link = connected.map_err(|e| self.unreachable(e))?;
                // Who looked for the broker may not have had the time to find it.
                let back = self.come_back(&link).inspect_err(|e| link.die(&e.to_string()))?;
                self.made(&link, connector.made(&link))?;
                self.say_who_is_back(&link, back);
                Ok(link)
            }
        }
    }

    /// The connection or the task to make it, waiting for it as long as the program does.
    fn turn(&self, wants: Wants, until: Instant) -> Result<Turn<'_, Link>, Error> {
        let limits = Limits::of_this_thread();
        loop {
            limits.check()?;
            match self.connection.turn(wants, limits.next_look(until)) {
                Turn::TimedOut if Instant::now() < until => {}
                turn => return Ok(turn),
            }
        }
    }

    /// Asks; and asks again when the broker was away meanwhile, if the request bears a repetition.
    pub(crate) fn call(
        self: &Arc<Self>,
        hook: Option<&dyn Fn() -> Hook>,
        request: impl Fn(&SharedLink) -> Result<Request, Error>,
    ) -> Result<Reply, Error> {
        let until = Instant::now() + PATIENCE;
        // What was asked, and may have been carried out.
        let mut before = None;
        loop {
            let (asked, answer) = match self.ask_once(hook, &request) {
                Ok(asked) => asked,
                Err(error) => return Err(unknown_if(before, error)),
            };
            let (link, repeat) = asked;
            match answer {
                Ok(Err(refusal))
                    if refusal.fault.code == Code::E_WAIT && Instant::now() < until =>
                {
                    self.wait_for_another(&link, until);
                }
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(refusal)) if before.is_some() => {
                    return Err(Error::from(refusal).of_a_repeat());
                }
                Ok(Err(refusal)) => return Err(refusal.into()),
                Err(error) if error.has_given_up() => {
                    let asked = error.may_be_done().then_some(repeat);
                    return Err(unknown_if(before.or(asked), error));
                }
                Err(error) if error.is_disconnected() => {
                    let known = before.is_some_and(|before| before != Repeat::Harmless);
                    if error.may_be_done() && !known {
                        before = Some(repeat);
                    }
                    if before == Some(Repeat::Never) || Instant::now() >= until {
                        return Err(unknown_if(before, error));
                    }
                    self.wait_for_another(&link, until);
                }
                Err(error) => return Err(unknown_if(before, error)),
            }
        }
    }

    /// Asks over the connection that there is, and how the request may be repeated. An error is one of those before it is asked.
    #[allow(clippy::type_complexity)]
    fn ask_once(
        self: &Arc<Self>,
        hook: Option<&dyn Fn() -> Hook>,
        request: impl Fn(&SharedLink) -> Result<Request, Error>,
    ) -> Result<((SharedLink, Repeat), Result<Result<Reply, Refusal>, Error>), Error> {
        let link = self.link()?;
        let (repeat, answer) = match request(&link) {
            Ok(asked) => (asked.repeat(), link.call(asked, hook.map(|make| make()))),
            // What comes before it, as the pieces of a long message, may be asked again.
            Err(error) => (Repeat::Harmless, Err(error)),
        };
        Ok(((link, repeat), answer))
    }

    /// Waits until this connection is not the one that is used any more.
    pub(crate) fn wait_for_another(self: &Arc<Self>, old: &SharedLink, until: Instant) {
        let limits = Limits::of_this_thread();
        while self.is_used(old) && Instant::now() < until && limits.check().is_ok() {
            let next = limits.next_look(until);
            if self.options.watching == Watching::Callers && old.wait_for_end(next) {
                self.lost(old);
            }
            self.connection.wait_for_another(old, next);
        }
    }

    /// Whether calls use this connection.
    fn is_used(&self, link: &SharedLink) -> bool {
        self.connection.up().is_some_and(|now| Arc::ptr_eq(&now, link))
    }

    pub(crate) fn status(self: &Arc<Self>) -> Result<Status, Error> {
        let mut after = StatusCursor::default();
        let mut whole: Option<Status> = None;
        loop {
            let (page, next) = self.status_page(after)?;
            let status = match whole.take() {
                Some(mut begun) if begun.is_of_broker_of(&page) => {
                    begun.append(page);
                    begun
                }
                // Another broker knows nothing of that cursor.
                Some(_) => {
                    after = StatusCursor::default();
                    continue;
                }
                None => page,
            };
            match next {
                None => return Ok(status),
                Some(next) if next > after => (after, whole) = (next, Some(status)),
                Some(_) => return Err(unexpected()),
            }
        }
    }

    /// A page of the status; of a broker of an older version all that it shows.
    fn status_page(
        self: &Arc<Self>,
        after: StatusCursor,
    ) -> Result<(Status, Option<StatusCursor>), Error> {
        let reply = self.call(None, |link| {
            Ok(if link.speaks(Version::V3) {
                Request::StatusPage { after }
            } else {
                Request::Status
            })
        })?;
        match reply {
            Reply::StatusPage { status, next } => Ok((*status, next)),
            Reply::Status(status) => Ok((*status, None)),
            _ => Err(unexpected()),
        }
    }

    /// The outgoing queue of a profile, row by row.
    pub(crate) fn each_queued(
        self: &Arc<Self>,
        profile: Option<&str>,
        all: bool,
        mut each: impl FnMut(QueueRow),
    ) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let action = QueueAction::List { all, after, limit: 64 };
            let (page, next) = self.queue_page(profile, &action)?;
            page.into_iter().for_each(&mut each);
            match go_on(after, next)? {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    /// What the queue says of a message.
    pub(crate) fn submission_state(
        self: &Arc<Self>,
        profile: &str,
        entry: EntryId,
    ) -> Option<SubmissionState> {
        let (rows, _) = self.queue_page(Some(profile), &QueueAction::Show(entry)).ok()?;
        rows.first().map(|row| row.state)
    }

    pub(crate) fn queue_page(
        self: &Arc<Self>,
        profile: Option<&str>,
        action: &QueueAction,
    ) -> Result<(Vec<QueueRow>, Option<u64>), Error> {
        let reply = self.call(None, |_| {
            Ok(Request::Queue { profile: profile.map(str::to_owned), action: action.clone() })
        })?;
        match reply {
            Reply::Queue { rows, next } => Ok((rows, next)),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn add_session(&self, member: MemberId, session: Arc<SessionState>) {
        lock(&self.sessions).add(member, session);
    }

    pub(crate) fn remove_session(&self, session: &SessionState) {
        lock(&self.sessions).remove(session);
    }

    fn session(&self, member: MemberId) -> Option<Arc<SessionState>> {
        lock(&self.sessions).here.get(&member).cloned()
    }

    /// Submits again what stores could not keep of any session.
    pub(crate) fn repeat_lost(&self) -> Result<(), Error> {
        let sessions = lock(&self.sessions).all();
        sessions.iter().try_for_each(|session| session.repeat_lost())
    }

    /// The broker says what its stores could not keep, of whichever session.
    pub(crate) fn note_lost(&self, error: &Error) {
        let sessions = lock(&self.sessions).all();
        for session in sessions {
            session.note_lost(error);
        }
    }

    /// Logs every session off. When it fails those that could not be logged off can still be used.
    pub(crate) fn log_everything_off(self: &Arc<Self>) -> Result<(), Error> {
        let sessions = lock(&self.sessions).all();
        for session in sessions {
            match session.log_off(&Logoff::now()) {
                Ok(_) => {}
                // There is nothing left to log off.
                Err(error) if error.is_dead_handle() || error.is_end_of_session() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The connection, if there is one at this moment.
    pub(crate) fn link_if_up(&self) -> Option<SharedLink> {
        self.connection.up()
    }

    /// It was shut down in the traditional way: every call says so.
    pub(crate) fn shut_down(&self) {
        self.left.store(true, Ordering::Release);
        self.end("the process was shut down");
    }

    /// No connection is made any more.
    pub(crate) fn end(&self, why: &str) {
        if let Some(link) = self.connection.end(why) {
            link.die(why);
        }
    }
}

/// The error of a request that is not asked again. What it would have changed may be changed.
fn unknown_if(before: Option<Repeat>, error: Error) -> Error {
    match before {
        Some(Repeat::Keyed | Repeat::Settled | Repeat::Never) => error.outcome_unknown(),
        Some(Repeat::Harmless) | None => error,
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.notices.close();
    }
}

/// How the broker ended that was there before this one, if this one knows.
fn previous(link: &SharedLink) -> Option<Previous> {
    if !link.speaks(Version::V2) {
        return None;
    }
    match link.call(Request::Broker, None) {
        Ok(Ok(Reply::Broker(status))) => status.previous,
        _ => None,
    }
}

/// What every call answers when the process has left.
pub(crate) fn left() -> Error {
    let message = "this process was shut down; it takes no calls any more";
    Error::fault(Code::E_NOT_INITIALIZED, message)
}

/// What the broker says when a reference ends, where no broker is left to say it.
fn reference_lost() -> Event {
    Event::CriticalError {
        code: Code::RPC_E_DISCONNECTED,
        reason: EndReason::ReferenceLost,
        by: None,
        grace: None,
    }
}

/// Whether the error says that nobody listens.
fn looks_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused)
}

/// The same, or that there cannot be a socket: something else has the place of its directory.
fn is_not_there(error: &std::io::Error) -> bool {
    looks_absent(error) || error.kind() == std::io::ErrorKind::NotADirectory
}

/// Whether nobody said anything in time.
fn says_nothing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// Whether somebody listened, and went away before it said anything.
fn was_cut_off(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}
