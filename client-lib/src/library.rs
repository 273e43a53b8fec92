//! The state that all initializations with one broker share: the connection, its loss and return, and the calls made over it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sundown_protocol::notification::{Arrival, EndReason, Event};
use sundown_protocol::reply::{Previous, QueueRow, Status, SubmissionState};
use sundown_protocol::request::{QueueAction, Repeat, Request, StatusCursor};
use sundown_protocol::{Code, EntryId, Fault, MemberId, Notification, Reply, RequestId, Version};

use crate::autostart::{self, Logging, NotStarted};
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
/// How long a broker that accepts a connection may take to send its welcome. After that the library looks again.
pub(crate) const WELCOME: Duration = Duration::from_secs(10);
/// How long a logoff waits for sinks that are being called.
const TELLING: Duration = Duration::from_secs(5);
/// How often the library looks for a broker. A broker that is restarted is back within a few of these.
pub(crate) const LOOK: Duration = Duration::from_millis(25);

/// The shortest timeout. The system takes a timeout of zero for none.
const SHORTEST: Duration = Duration::from_millis(1);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state that all initializations with one broker share.
pub(crate) struct Library {
    options: Options,
    paths: Paths,
    /// Tells a forked child from this process: the child has the library's memory, but not its threads.
    incarnation: u32,
    /// How often the library is initialized. At zero it ends, and no initialization joins it.
    initialized: Mutex<u32>,
    connection: Connection<Link>,
    sessions: Mutex<Sessions>,
    references: Mutex<HashMap<MemberId, Arc<ReferenceState>>>,
    process: Arc<Process>,
    memory: Arc<Memory>,
    /// Whether the library was shut down in the traditional way.
    left: AtomicBool,
    notices: Arc<Notices<Told>>,
    /// The thread that calls sinks, once it runs.
    teller: Mutex<Option<thread::ThreadId>>,
}

/// The sessions of a library.
#[derive(Default)]
struct Sessions {
    /// Sessions that the broker knows, by their members' numbers there.
    here: HashMap<MemberId, Arc<SessionState>>,
    /// Sessions that were logged on when the connection was lost, and are not back yet.
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

    /// Marks all sessions as away, because a new broker knows none of them. Returns them in the order of their logons.
    fn all_away(&mut self) -> Vec<Arc<SessionState>> {
        self.away.extend(self.here.drain().map(|(_, session)| session));
        self.away.sort_by_key(|session| session.member());
        self.away.clone()
    }
}

/// Makes the request that is sent together with the hello.
pub(crate) type First<'a> = dyn Fn() -> (Request, Hook) + 'a;

/// A new connection, and the number of the request that was sent together with its hello.
type Greeted = (SharedLink, Option<RequestId>);

/// A session that is back, and how many drafts it lost.
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

    /// Starts the thread that calls sinks, if it does not run.
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

    /// Queues something for the notify thread.
    pub(crate) fn tell(&self, told: Told) {
        // The thread lives as long as the library. If it could not be started, the notice waits for the next attempt.
        self.notices.push(told);
        let _ = self.start_teller();
    }

    /// Waits until the notify thread has handled everything that is queued. Returns at once on that thread itself. Waits at most
    /// [`TELLING`], because a sink may be slow.
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

    /// Counts another initialization. Returns false if the library ends.
    pub(crate) fn join(&self) -> bool {
        let mut initialized = lock(&self.initialized);
        let joined = *initialized > 0;
        *initialized += u32::from(joined);
        joined
    }

    /// How often the library is initialized.
    pub(crate) fn initialized(&self) -> u32 {
        *lock(&self.initialized)
    }

    /// Takes one initialization back. Returns whether it was the last: after it no initialization joins the library.
    pub(crate) fn leave(&self) -> bool {
        let mut initialized = lock(&self.initialized);
        *initialized = initialized.saturating_sub(1);
        *initialized == 0
    }

    /// Counts the last initialization again, because its end failed.
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

    /// Whether the library is connected to its broker, or may be soon.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_used()
    }

    /// The key of this copy of the library, unless the host program has handed on its own.
    pub(crate) fn key(&self) -> u128 {
        static OWN: OnceLock<u128> = OnceLock::new();
        self.options.host_key.unwrap_or_else(|| *OWN.get_or_init(process::chance))
    }

    /// Fails in a forked child and after a fast shutdown: calls cannot be made there.
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
        // Another broker assigns the same numbers again, so the reference itself is compared.
        if references.get(&reference.member).is_some_and(|r| Arc::ptr_eq(r, reference)) {
            references.remove(&reference.member);
        }
    }

    /// Ends all references with their connection, and tells their holders.
    fn lose_references(&self) {
        for (_, reference) in lock(&self.references).drain() {
            self.tell(Told::Reference(reference, reference_lost()));
        }
    }

    /// Fails unless this process is the one that initialized the library.
    pub(crate) fn check_fork(&self) -> Result<(), Error> {
        if self.incarnation == process::incarnation() {
            return Ok(());
        }
        let message = "this process was forked from the one that initialized the library; \
                       initialize it here before any call";
        Err(Error::fault(Code::E_NOT_INITIALIZED, message))
    }

    /// Connects if there is no connection, and starts a broker if that is allowed. On a new connection, `first` is sent with the
    /// hello.
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
                // A ticket must be the first request on a connection.
                let first = first.filter(|_| self.memory.ticket().is_none());
                let (link, asked) = self.greet(first)?;
                let back = self.come_back(&link).inspect_err(|e| link.die(&e.to_string()))?;
                self.made(&link, connector.made(&link))?;
                self.say_who_is_back(&link, back);
                Ok(asked.map(|asked| (link, asked)))
            }
        }
    }

    /// The program that starts a broker, and how the broker logs, if the library may start one. The host's broker is started by its service manager alone.
    fn starts(&self) -> Option<(&Path, &Logging)> {
        let program = self.options.start.as_deref().filter(|_| self.paths.whose == Whose::Own);
        program.map(|program| (program, &self.options.logging))
    }

    /// Connects, and tries again until the patience is over. If a broker that a service manager starts ends before its welcome, the
    /// next one is tried. If no broker listens, one is started where that is allowed, also while the previous broker is about to
    /// end.
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
                // Another process starts the next broker.
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

    /// Sends the ticket of an earlier broker, and asks for one of this broker, before any other request on this connection. No call
    /// waits for the answer. A brief program sends none: it leaves before another broker comes.
    fn show_ticket(&self, link: &Link) {
        if self.options.watching == Watching::Callers || !link.speaks(Version::V3) {
            return;
        }
        let (memory, shown) = (Arc::clone(&self.memory), self.memory.ticket());
        let hook = move |outcome: &Result<Reply, Fault>| match outcome {
            Ok(Reply::Ticket(ticket)) => memory.keep_ticket(ticket.clone()),
            // The broker does not accept the ticket. The next broker is asked without it.
            Err(fault) if fault.code == Code::E_NO_ACCESS => memory.forget_ticket(),
            Ok(_) | Err(_) => {}
        };
        link.tell(Request::Ticket { shown }, Some(Box::new(hook)));
    }

    /// Queues a notification for the notify thread, by its member. The library keeps tickets itself.
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
            // These events are for the library, and must not wait behind a sink.
            Event::Durable(entries) => session.durable(entries),
            Event::Session(tag) => session.is_called(*tag),
            Event::CriticalError { reason: EndReason::SharedLogoff, .. } => {
                session.end_is_known();
                self.tell(Told::Session(session, notification));
            }
            // The broker has removed the member.
            Event::CriticalError { reason: EndReason::StoreLost, .. } => {
                session.end(EndReason::StoreLost);
                self.tell(Told::Session(session, notification));
            }
            _ => self.tell_each(&session, notification),
        }
    }

    /// Tells programs an event in the words of the newest version: of several departures each by itself, and new mail of an older
    /// broker as an arrival of which it does not say who it is from.
    fn tell_each(&self, session: &Arc<SessionState>, notification: Notification) {
        let Notification { member, advises, event } = notification;
        let event = match event {
            Event::NewMail(place) => {
                let (from, subject) = (String::new(), String::new());
                Event::Arrived(Box::new(Arrival { place, from, subject }))
            }
            event => event,
        };
        for event in event.each() {
            let notification = Notification { member, advises: advises.clone(), event };
            self.tell(Told::Session(Arc::clone(session), notification));
        }
    }

    /// The process that has the lock on the data of this user's broker.
    fn holder(&self) -> Option<u32> {
        let own = self.paths.whose == Whose::Own && self.paths.host_socket.is_some();
        own.then(|| autostart::holder(&self.paths)).flatten()
    }

    fn unreachable(&self, error: std::io::Error) -> Error {
        let socket = self.paths.socket.display();
        let what = if looks_absent(&error) {
            let start = match self.paths.whose {
                Whose::Own => "start one with `sundown serve`",
                Whose::Host => "it is the host's: `systemctl start sundown.socket` as root",
            };
            match self.holder() {
                Some(pid) => format!(
                    "no broker answers at {socket}, and process {pid} has its data: `sundown doctor` says what to do"
                ),
                None => format!("no broker runs at {socket}; {start}"),
            }
        } else if says_nothing(&error) {
            format!("what listens at {socket} does not answer: `sundown doctor` looks why")
        } else {
            format!("the broker at {socket} cannot be reached: {error}")
        };
        Error::unreachable(what, Some(error))
    }

    /// Uses a new connection, unless the library has ended meanwhile, and starts the thread that watches it. A brief program has no
    /// such thread.
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

    /// Handles the end of a connection: looks for the broker if there are sessions to bring back.
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
        // The search takes the caller's time where a call looks for the broker; the next call continues.
        let limits = Limits::of_this_thread();
        while seeker.goes_on() && limits.check().is_ok() {
            match self.connect() {
                Ok(link) => match self.come_back(&link) {
                    Ok(back) => return self.back(&link, seeker.found(&link), back),
                    // Sessions that are back already leave with this connection, and come back over the next one.
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

    /// Starts a broker for a brief program, which makes one call and leaves. Other programs wait until a broker is started
    /// elsewhere. Returns whether another attempt may help.
    fn start_another(self: &Arc<Self>) -> bool {
        let Some(program) = self.starts() else { return false };
        match autostart::start(program, &self.paths, || self.connect().is_ok()) {
            Ok(()) | Err(NotStarted::Occupied(_)) => true,
            Err(NotStarted::Failed(_)) => false,
        }
    }

    /// Brings every session back over a new connection, before calls use it. Returns the sessions that are back, and how many
    /// drafts each of them lost.
    fn come_back(self: &Arc<Self>, link: &SharedLink) -> Result<Vec<Back>, Error> {
        let away = lock(&self.sessions).all_away();
        // Notifications may arrive as soon as a member is back, so this connection must be read from now on.
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

    /// Uses the connection of sessions that are back, unless the library has ended meanwhile.
    fn back(self: &Arc<Self>, link: &SharedLink, used: Result<(), String>, back: Vec<Back>) {
        if self.made(link, used).is_ok() {
            self.say_who_is_back(link, back);
        }
    }

    /// Tells the programs of sessions that are back. Sessions that their programs no longer use log off instead.
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

    /// Ends a session that does not come back, and tells its program.
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

    /// Ends a session whose shared session was ended and whose grace is over. Tells its program of the end, unless it was told
    /// before.
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

    /// Returns the connection. Waits for it while the broker is away, and connects if there is none. A call starts no broker; only
    /// an initialization does, and the search on behalf of a brief program.
    pub(crate) fn link(self: &Arc<Self>) -> Result<SharedLink, Error> {
        self.check_alive()?;
        // A thread that looks for the broker gives up before that.
        let until = Instant::now() + PATIENCE + WELCOME;
        match self.turn(Wants::Call, until)? {
            Turn::Up(link) => Ok(link),
            Turn::Ended(why) => Err(Error::fault(Code::E_END_OF_SESSION, why)),
            Turn::Down | Turn::TimedOut => Err(self.unreachable(io::ErrorKind::TimedOut.into())),
            Turn::Connect(connector) => {
                let connected = self.connect();
                if connected.is_err() {
                    // The limits are checked first: a wait that they cut short does not mean that the broker is silent.
                    Limits::of_this_thread().check()?;
                }
                let link = connected.map_err(|e| self.unreachable(e))?;
                // The thread that looked for the broker may have had no time to find it, so sessions may still be away.
                let back = self.come_back(&link).inspect_err(|e| link.die(&e.to_string()))?;
                self.made(&link, connector.made(&link))?;
                self.say_who_is_back(&link, back);
                Ok(link)
            }
        }
    }

    /// Returns the connection or the task to make it. Waits at most as long as the thread's limits allow.
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

    /// Sends a request and waits for the answer. If the broker goes away meanwhile, repeats the request if its kind allows that.
    pub(crate) fn call(
        self: &Arc<Self>,
        hook: Option<&dyn Fn() -> Hook>,
        request: impl Fn(&SharedLink) -> Result<Request, Error>,
    ) -> Result<Reply, Error> {
        let until = Instant::now() + PATIENCE;
        // How an earlier attempt may be repeated that may have been carried out.
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

    /// Sends a request over the current connection. Returns that connection, how the request may be repeated, and the answer. The
    /// outer error means that there is no connection.
    #[allow(clippy::type_complexity)]
    fn ask_once(
        self: &Arc<Self>,
        hook: Option<&dyn Fn() -> Hook>,
        request: impl Fn(&SharedLink) -> Result<Request, Error>,
    ) -> Result<((SharedLink, Repeat), Result<Result<Reply, Refusal>, Error>), Error> {
        let link = self.link()?;
        let (repeat, answer) = match request(&link) {
            Ok(asked) => (asked.repeat(), link.call(asked, hook.map(|make| make()))),
            // What precedes the request, as the pieces of a long message, may be repeated.
            Err(error) => (Repeat::Harmless, Err(error)),
        };
        Ok(((link, repeat), answer))
    }

    /// Waits until this connection is no longer in use.
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
                // Another broker does not know that cursor, so the status is read from the beginning.
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

    /// A page of the status. A broker of an older version returns the whole status as one page.
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

    /// Calls `each` with every row of the outgoing queue of a profile.
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

    pub(crate) fn queue_begins(
        self: &Arc<Self>,
        profile: Option<&str>,
        limit: u32,
    ) -> Result<Vec<QueueRow>, Error> {
        let (mut rows, mut after) = (Vec::new(), 0);
        while rows.len() < limit as usize {
            let limit = (limit - rows.len() as u32).min(64);
            let action = QueueAction::List { all: false, after, limit };
            let (page, next) = self.queue_page(profile, &action)?;
            rows.extend(page);
            match go_on(after, next)? {
                Some(next) => after = next,
                None => break,
            }
        }
        Ok(rows)
    }

    /// The state of a message in the queue, if the broker tells it.
    pub(crate) fn submission_state(
        self: &Arc<Self>,
        profile: &str,
        entry: EntryId,
    ) -> Option<SubmissionState> {
        let (rows, _) = self.queue_page(Some(profile), &QueueAction::Show(entry)).ok()?;
        rows.first().map(|row| row.state)
    }

    /// The `Message-ID` of a message in the queue. A broker of an older version has no such request.
    pub(crate) fn message_id(self: &Arc<Self>, entry: EntryId) -> Result<Option<String>, Error> {
        let reply = self.call(None, |link| {
            Ok(if link.speaks(Version::V3) {
                Request::MessageId { entry }
            } else {
                Request::Queue { profile: None, action: QueueAction::Show(entry) }
            })
        })?;
        match reply {
            Reply::MessageId(id) => Ok(id),
            Reply::Queue { .. } => Ok(None),
            _ => Err(unexpected()),
        }
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

    /// Submits again what stores could not keep, for all sessions.
    pub(crate) fn repeat_lost(&self) -> Result<(), Error> {
        let sessions = lock(&self.sessions).all();
        sessions.iter().try_for_each(|session| session.repeat_lost())
    }

    /// Notes for all sessions what the error names as lost: a store may have lost submissions of any of them.
    pub(crate) fn note_lost(&self, error: &Error) {
        let sessions = lock(&self.sessions).all();
        for session in sessions {
            session.note_lost(error);
        }
    }

    /// Logs every session off. After a failure the sessions that could not be logged off remain usable.
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

    /// The current connection, if there is one.
    pub(crate) fn link_if_up(&self) -> Option<SharedLink> {
        self.connection.up()
    }

    /// Ends the library after a traditional shutdown: every later call fails.
    pub(crate) fn shut_down(&self) {
        self.left.store(true, Ordering::Release);
        self.end("the process was shut down");
    }

    /// Ends the connection for good.
    pub(crate) fn end(&self, why: &str) {
        if let Some(link) = self.connection.end(why) {
            link.die(why);
        }
    }
}

/// The error of a request that is not repeated. The outcome is unknown if an attempt may have changed something.
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

/// How the previous broker ended, if this one knows.
fn previous(link: &SharedLink) -> Option<Previous> {
    if !link.speaks(Version::V2) {
        return None;
    }
    match link.call(Request::Broker, None) {
        Ok(Ok(Reply::Broker(status))) => status.previous,
        _ => None,
    }
}

/// The error of every call after the process has left.
pub(crate) fn left() -> Error {
    let message = "this process was shut down; it takes no calls any more";
    Error::fault(Code::E_NOT_INITIALIZED, message)
}

/// The end of a reference, as the broker reports it. The library makes this event when the broker is gone.
fn reference_lost() -> Event {
    Event::CriticalError {
        code: Code::RPC_E_DISCONNECTED,
        reason: EndReason::ReferenceLost,
        by: None,
        grace: None,
    }
}

/// Whether the error says that no program listens.
fn looks_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused)
}

/// The same, or that a file has the place of the socket's directory.
fn is_not_there(error: &std::io::Error) -> bool {
    looks_absent(error) || error.kind() == std::io::ErrorKind::NotADirectory
}

/// Whether no answer came in time.
fn says_nothing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// Whether a program accepted the connection, and closed it before it sent anything.
fn was_cut_off(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}
