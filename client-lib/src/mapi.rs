//! The library itself: initialized, used, uninitialized; and its way to the broker.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sundown_protocol::notification::{EndReason, Event};
use sundown_protocol::reply::{BrokerStatus, Deletion, Previous, QueueRow, Status};
use sundown_protocol::request::{QueueAction, QueueChange, Request, Stopping};
use sundown_protocol::{Code, EntryId, MemberId, Notification, Reply, RequestId, Token, Version};

use crate::error::Error;
use crate::link::{Hook, Link, SharedLink, Watching, wait_readable};
use crate::logoff::Logoff;
use crate::notify::{self, News, Told};
use crate::paths::{Arguments, Environment, Paths, Whose};
use crate::reference::{Reference, ReferenceState};
use crate::session::{Logon, Session, SessionState, unexpected};
use crate::shutdown::{ClientShutdown, ExitPath, Memory, Process};
use crate::{autostart, process};

/// How long the library looks for a broker that went away.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a broker that is there again may take to say welcome, before another one is looked for.
const WELCOME: Duration = Duration::from_secs(10);
/// How long a logoff waits for sinks that are being called.
const TELLING: Duration = Duration::from_secs(5);
/// How often it looks. A broker that is restarted is back within a few of these.
const LOOK: Duration = Duration::from_millis(25);

/// How to initialize the library.
#[derive(Debug, Clone)]
pub struct Options {
    program: String,
    arguments: Arguments,
    start: Option<PathBuf>,
    patience: Duration,
    host_key: Option<u128>,
    watching: Watching,
}

impl Options {
    /// For a program of this name, which other members of its sessions are shown. The broker is the user's own, which is
    /// started if none runs; or the host's, for a user who has none and may use that ([`Paths::of_program`]).
    pub fn new(program: impl Into<String>) -> Self {
        let start = Some(PathBuf::from("sundown"));
        Self {
            program: program.into(),
            arguments: Arguments::default(),
            start,
            patience: PATIENCE,
            host_key: None,
            watching: Watching::Thread,
        }
    }

    /// The broker with this socket (`SUNDOWN_SOCKET`).
    #[must_use]
    pub fn socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.arguments.socket = Some(socket.into());
        self
    }

    /// The data directory of a broker that is started (`SUNDOWN_DATA_DIR`).
    #[must_use]
    pub fn data_dir(mut self, data: impl Into<PathBuf>) -> Self {
        self.arguments.data_dir = Some(data.into());
        self
    }

    /// The settings file of a broker that is started (`SUNDOWN_CONFIG`).
    #[must_use]
    pub fn config(mut self, config: impl Into<PathBuf>) -> Self {
        self.arguments.config = Some(config.into());
        self
    }

    /// The program that starts a broker when it is called with `serve`; by default `sundown` from the `PATH`.
    #[must_use]
    pub fn start_with(mut self, program: impl Into<PathBuf>) -> Self {
        self.start = Some(program.into());
        self
    }

    /// The key of the host program, for a library inside it that may shut the process down.
    #[must_use]
    pub fn host_key(mut self, key: u128) -> Self {
        self.host_key = Some(key);
        self
    }

    /// How long an initialization waits where a socket takes connections and no broker says welcome, as while a service
    /// manager starts one; 30 seconds unless set.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// For a program that makes a few calls and leaves: the library starts no threads while nothing asks for one. What comes
    /// between two calls is noticed by the next one: notifications, and the end of the broker, from which a session comes
    /// back only then.
    #[must_use]
    pub fn brief(mut self) -> Self {
        self.watching = Watching::Callers;
        self
    }

    /// Start no broker (`SUNDOWN_NO_AUTOSTART=1`).
    #[must_use]
    pub fn no_autostart(mut self) -> Self {
        self.start = None;
        self
    }
}

/// The initialized library. It is counted: each initialization adds one, dropping it or [`uninitialize`](Self::uninitialize)
/// removes one, and with the last the sessions that are still logged on are logged off.
#[derive(Debug)]
pub struct Mapi {
    library: Arc<Library>,
}

/// What all initializations with one broker share.
pub(crate) struct Library {
    options: Options,
    paths: Paths,
    /// A forked child has this library's memory and not its threads.
    incarnation: u32,
    initialized: Mutex<u32>,
    connection: Mutex<Connection>,
    changed: Condvar,
    sessions: Mutex<HashMap<MemberId, Arc<SessionState>>>,
    references: Mutex<HashMap<MemberId, Arc<ReferenceState>>>,
    process: Arc<Process>,
    memory: Arc<Memory>,
    /// It was shut down in the traditional way.
    left: AtomicBool,
    notices: (Sender<Told>, Receiver<Told>),
    /// The thread that calls sinks, once there is one.
    teller: Mutex<Option<thread::ThreadId>>,
}

/// What is asked together with the hello.
pub(crate) type First<'a> = dyn Fn() -> (Request, Hook) + 'a;

/// A new connection, and what was asked together with its hello.
type Greeted = (SharedLink, Option<RequestId>);

enum Connection {
    Up(SharedLink),
    /// The library looks for the broker, until then.
    Down(Instant),
    /// It was not connected, or gave up; the next call tries again.
    Off,
    /// The broker was stopped for good, or the library was uninitialized.
    Ended(String),
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Library({})", self.paths.socket.display())
    }
}

/// Libraries of this process by their socket.
static LIBRARIES: Mutex<Vec<Weak<Library>>> = Mutex::new(Vec::new());

impl Mapi {
    /// `MAPIInitialize`: connects to the broker, and starts the user's own if none runs. Later initializations of one process
    /// with the same broker share the first one's connection and its program name.
    pub fn initialize(options: Options) -> Result<Self, Error> {
        let mapi = Self::of(options)?;
        mapi.library.connect_now(None)?;
        Ok(mapi)
    }

    /// Both at once (`MAPILogon` of Simple MAPI): what [`initialize`](Self::initialize) and [`logon`](Self::logon) do, with one
    /// question to the broker instead of two. When it fails nothing is initialized.
    pub fn initialize_and_logon(options: Options, logon: Logon) -> Result<(Self, Session), Error> {
        let mapi = Self::of(options)?;
        let session = Session::begin(&mapi.library, logon)?;
        Ok((mapi, session))
    }

    /// One initialization more, without a connection if it is the first.
    fn of(options: Options) -> Result<Self, Error> {
        let environment = Environment::of_this_process();
        let paths = Paths::of_program(&options.arguments, &environment)
            .map_err(|e| Error::fault(Code::E_INVALID_PARAMETER, e.to_string()))?;
        let process = Process::this();
        let mut libraries = lock(&LIBRARIES);
        // Whether the process has left is decided with the same list in hand.
        if process.is_done() || process.memory(&paths.socket).is_done() {
            return Err(left());
        }
        libraries.retain(|library| library.strong_count() > 0);
        let here = |library: &Arc<Library>| {
            library.paths.socket == paths.socket
                && library.options.watching == options.watching
                && library.check_alive().is_ok()
        };
        if let Some(library) = libraries.iter().filter_map(Weak::upgrade).find(here) {
            *lock(&library.initialized) += 1;
            return Ok(Self { library });
        }
        let library = Library::new(options, paths, process)?;
        libraries.push(Arc::downgrade(&library));
        Ok(Self { library })
    }

    /// `MAPILogonEx`: joins the profile's shared session, or makes one.
    pub fn logon(&self, logon: Logon) -> Result<Session, Error> {
        Session::log_on(&self.library, logon)
    }

    /// Takes what another process has granted. It needs no logon.
    pub fn redeem(&self, token: Token) -> Result<Reference, Error> {
        Reference::redeem(&self.library, token)
    }

    /// What controls the shutdown of this process; the same as [`Session::client_shutdown`].
    pub fn client_shutdown(&self) -> ClientShutdown {
        ClientShutdown::new(Arc::clone(&self.library))
    }

    /// Leaves in the right way, whatever that is: query, notify, and do when every provider supports it; otherwise, or when
    /// doing it fails, the traditional steps. It is about every broker that this process is connected to. It fails only when
    /// something could not be made durable; what is still logged on can be used then.
    pub fn shut_down(self) -> Result<ExitPath, Error> {
        self.begin_shut_down()
    }

    /// The same for a program that keeps its guards. After it every call fails with `MAPI_E_NOT_INITIALIZED`.
    pub fn begin_shut_down(&self) -> Result<ExitPath, Error> {
        let exit = self.client_shutdown();
        let fast = exit.query_fast_shutdown().is_ok();
        let _ = exit.notify_process_shutdown();
        if fast && exit.try_fast_shutdown().is_ok() {
            return Ok(ExitPath::Fast);
        }
        let libraries = alive();
        if libraries.is_empty() {
            return Err(left());
        }
        for library in &libraries {
            library.log_everything_off()?;
        }
        for library in &libraries {
            library.left.store(true, Ordering::Release);
            library.end("the process was shut down");
        }
        Ok(ExitPath::Traditional)
    }

    /// The key that lets a library inside this program shut the process down. It is the program's to hand on, or not.
    pub fn host_key(&self) -> u128 {
        self.library.key()
    }

    /// How often the library is initialized in this process with this broker.
    pub fn initialized(&self) -> u32 {
        *lock(&self.library.initialized)
    }

    /// The broker's process id, while there is a connection.
    pub fn broker(&self) -> Option<u32> {
        match &*lock(&self.library.connection) {
            Connection::Up(link) => Some(link.broker()),
            _ => None,
        }
    }

    /// The broker's socket.
    pub fn socket(&self) -> &Path {
        &self.library.paths.socket
    }

    /// What the broker has come from, and how much of its limits is used; `None` from a broker that is too old to say.
    pub fn broker_status(&self) -> Result<Option<BrokerStatus>, Error> {
        if !self.library.link()?.speaks(Version::V2) {
            return Ok(None);
        }
        match self.library.call(None, |_| Ok(Request::Broker))? {
            Reply::Broker(status) => Ok(Some(*status)),
            _ => Err(unexpected()),
        }
    }

    /// What the broker is doing.
    pub fn status(&self) -> Result<Status, Error> {
        self.library.status()
    }

    /// The outgoing queue of a profile; without one of the default profile and all that have a session. With `all` also
    /// what is final.
    pub fn queue(&self, profile: Option<&str>, all: bool) -> Result<Vec<QueueRow>, Error> {
        let mut rows = Vec::new();
        self.library.each_queued(profile, all, |row| rows.push(row))?;
        Ok(rows)
    }

    /// One entry of the outgoing queue, with all its recipients.
    pub fn queue_entry(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        let (rows, _) = self.library.queue_page(profile, &QueueAction::Show(entry))?;
        rows.into_iter().next().ok_or_else(unexpected)
    }

    /// Tries an entry of the outgoing queue now. One whose outcome is unknown may arrive twice then.
    pub fn retry(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        self.change_entry(profile, entry, QueueChange::Retry)
    }

    /// Keeps an entry of the outgoing queue until it is released.
    pub fn hold(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        self.change_entry(profile, entry, QueueChange::Hold)
    }

    /// Lets a held entry of the outgoing queue go.
    pub fn release(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        self.change_entry(profile, entry, QueueChange::Release)
    }

    /// Takes an entry of the outgoing queue back, into Drafts: `MAPI_E_UNABLE_TO_ABORT` when a transport has it,
    /// `MAPI_E_NOT_IN_QUEUE` when it is final. Without a session; with one it is
    /// [`Session::abort_submit`](crate::Session::abort_submit).
    pub fn abort(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        self.change_entry(profile, entry, QueueChange::Abort)
    }

    fn change_entry(
        &self,
        profile: Option<&str>,
        entry: EntryId,
        change: QueueChange,
    ) -> Result<QueueRow, Error> {
        let (rows, _) = self.library.queue_page(profile, &QueueAction::Change(entry, change))?;
        rows.into_iter().next().ok_or_else(unexpected)
    }

    /// `IMAPIStatus::FlushQueues`: tries everything deferred at once, through transports that were disabled too. How many
    /// messages had to wait until now. It does not wait for what becomes of them.
    pub fn flush_queues(&self, profile: Option<&str>) -> Result<u64, Error> {
        let profile = profile.map(str::to_owned);
        let reply = self.library.call(None, |_| {
            Ok(Request::Queue { profile: profile.clone(), action: QueueAction::Flush })
        })?;
        match reply {
            Reply::Flushed(found) => Ok(found),
            _ => Err(unexpected()),
        }
    }

    /// Deletes a profile's settings (`IProfAdmin::DeleteProfile`): at once, or when the sessions that use it have ended. Its
    /// data stays. Takes the right *admin*.
    pub fn delete_profile(&self, name: &str) -> Result<Deletion, Error> {
        let reply =
            self.library.call(None, |_| Ok(Request::DeleteProfile { name: name.to_owned() }))?;
        match reply {
            Reply::ProfileDeleted(deletion) => Ok(deletion),
            _ => Err(unexpected()),
        }
    }

    /// Stops the broker for good, and waits until its process has ended, at most so long (`MAPI_E_TIMEOUT`).
    pub fn stop(&self, how: Stopping, patience: Duration) -> Result<(), Error> {
        let link = self.library.link_now()?;
        let pid = i32::try_from(link.broker()).ok().and_then(Pid::from_raw);
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        link.call(Request::Stop { how }, None)??;
        // Where the process cannot be watched the end of the connection must do.
        let ended = match process {
            Some(process) => wait_readable(process.as_fd(), patience),
            None => link.wait_for_end(Instant::now() + patience),
        };
        self.library.end("the broker was stopped");
        if ended {
            return Ok(());
        }
        let message = format!("the broker is stopping and not done after {} s", patience.as_secs());
        Err(Error::fault(Code::E_TIMEOUT, message))
    }

    /// Logs off every session of this process with this broker. What could not be made durable stays logged on.
    pub fn log_everything_off(&self) -> Result<(), Error> {
        self.library.check_alive()?;
        self.library.log_everything_off()
    }

    /// `OleInitialize` of a companion library: it is uninitialized when the guard is dropped, and as the guard borrows the
    /// initialized library, that is before the library itself is. The wrong order does not compile:
    ///
    /// ```compile_fail
    /// # fn wrong(mapi: sundown_client::Mapi) {
    /// let ole = mapi.companion(|| println!("OleUninitialize"));
    /// mapi.uninitialize().unwrap(); // MAPIUninitialize while OLE is still initialized
    /// drop(ole);
    /// # }
    /// ```
    pub fn companion<'mapi>(&'mapi self, uninitialize: impl FnOnce() + 'mapi) -> Companion<'mapi> {
        Companion { uninitialize: Some(Box::new(uninitialize)) }
    }

    /// `MAPIUninitialize`: logs off what this was the last initialization of. Deferred submissions are made durable first;
    /// if that fails it says so, and nothing is uninitialized.
    pub fn uninitialize(self) -> Result<(), Error> {
        self.library.check_alive()?;
        if *lock(&self.library.initialized) == 1 {
            self.library.log_everything_off()?;
        }
        Ok(())
    }
}

impl Drop for Mapi {
    fn drop(&mut self) {
        if self.library.check_alive().is_err() {
            return;
        }
        let left = {
            let mut initialized = lock(&self.library.initialized);
            *initialized -= 1;
            *initialized
        };
        if left == 0 {
            let _ = self.library.log_everything_off();
            self.library.end("the library was uninitialized");
        }
    }
}

/// A companion library (`OleInitialize`), uninitialized on drop.
pub struct Companion<'mapi> {
    uninitialize: Option<Box<dyn FnOnce() + 'mapi>>,
}

impl std::fmt::Debug for Companion<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Companion")
    }
}

impl Drop for Companion<'_> {
    fn drop(&mut self) {
        if let Some(uninitialize) = self.uninitialize.take() {
            uninitialize();
        }
    }
}

/// Utilities-only mode (`ScInitMapiUtil`, `DeinitMapiUtil`): what needs no broker. It cannot log on.
///
/// ```
/// use sundown_client::Utilities;
///
/// let utilities = Utilities::initialize();
/// let message = utilities.parse("To: anna@localhost\n\nHi\n");
/// assert_eq!(message.recipients(), ["anna@localhost"]);
/// ```
///
/// ```compile_fail
/// # use sundown_client::{Logon, Utilities};
/// Utilities::initialize().logon(Logon::shared());
/// ```
#[derive(Debug)]
pub struct Utilities(());

impl Utilities {
    /// Ready at once.
    pub fn initialize() -> Self {
        Self(())
    }

    /// A message with the envelope that its fields say.
    #[allow(clippy::unused_self)]
    pub fn parse(&self, bytes: impl Into<Vec<u8>>) -> crate::Message {
        crate::Message::parse(bytes)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Library {
    fn new(options: Options, paths: Paths, process: Arc<Process>) -> Result<Arc<Self>, Error> {
        let memory = process.memory(&paths.socket);
        let library = Arc::new(Self {
            options,
            paths,
            incarnation: process::incarnation(),
            initialized: Mutex::new(1),
            connection: Mutex::new(Connection::Off),
            changed: Condvar::new(),
            sessions: Mutex::default(),
            references: Mutex::default(),
            process,
            memory,
            left: AtomicBool::new(false),
            notices: crossbeam_channel::unbounded(),
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
        let notices = self.notices.1.clone();
        let spawned = thread::Builder::new()
            .name("sundown-notify".into())
            .spawn(move || notify::serve(&notices));
        let thread =
            spawned.map_err(|e| Error::fault(Code::E_NOT_ENOUGH_RESOURCES, e.to_string()))?;
        *teller = Some(thread.thread().id());
        Ok(())
    }

    /// Has the notify thread tell somebody something.
    fn tell(&self, told: Told) {
        // The thread lives as long as the library; where none could be started, it waits for the next attempt.
        let _ = self.notices.0.send(told);
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
        let _ = self.notices.0.send(Told::Until(waits));
        let _ = told.recv_timeout(TELLING);
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

    /// Whether there is a connection to its broker, or may be one again.
    fn is_connected(&self) -> bool {
        matches!(&*lock(&self.connection), Connection::Up(_) | Connection::Down(_))
    }

    /// What names this copy of the library, unless the host has handed on its own.
    fn key(&self) -> u128 {
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
        if let Connection::Up(_) | Connection::Down(_) = &*lock(&self.connection) {
            return Ok(None);
        }
        let (link, asked) = match self.greet(first) {
            Ok(greeted) => greeted,
            Err(error) => {
                let Some(program) = self.starts() else {
                    return Err(self.unreachable(error));
                };
                if !looks_absent(&error) {
                    return Err(self.unreachable(error));
                }
                autostart::start(program, &self.paths, || self.connect().is_ok())?;
                self.connect_within(WELCOME, first).map_err(|e| self.unreachable(e))?
            }
        };
        self.up(Arc::clone(&link))?;
        Ok(asked.map(|asked| (link, asked)))
    }

    /// The program that starts a broker, if this one may be started: the host's is its service manager's.
    fn starts(&self) -> Option<&Path> {
        self.options.start.as_deref().filter(|_| self.paths.whose == Whose::Own)
    }

    /// Connects. Where a service manager listens, a broker that ends before it has said welcome is followed by the next.
    fn greet(self: &Arc<Self>, first: Option<&First>) -> std::io::Result<Greeted> {
        let until = Instant::now() + self.options.patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.connect_within(left.max(LOOK), first) {
                Err(error) if was_cut_off(&error) && Instant::now() < until => thread::sleep(LOOK),
                other => return other,
            }
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
        let (socket, program) = (&self.paths.socket, &self.options.program);
        let key = self.key().to_le_bytes();
        let library = Arc::downgrade(self);
        let deliver = move |notification| {
            if let Some(library) = library.upgrade() {
                library.deliver(notification);
            }
        };
        let (deliver, first) = (Box::new(deliver), first.map(|make| make()));
        let watching = self.options.watching;
        let link = Link::connect(socket, program, key, patience, watching, deliver, first);
        link.map(|(link, asked)| (Arc::new(link), asked))
    }

    /// Has the notify thread tell whomever a notification is for.
    fn deliver(&self, notification: Notification) {
        let told = match (self.reference(notification.member), self.session(notification.member)) {
            (Some(reference), _) => Told::Reference(reference, notification.event),
            (None, Some(session)) => Told::Session(session, notification),
            (None, None) => return,
        };
        self.tell(told);
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
            format!(
                "what listens at {socket} takes connections and says nothing: `sundown doctor` looks why"
            )
        } else {
            format!("the broker at {socket} cannot be reached: {error}")
        };
        Error::unreachable(what, Some(error))
    }

    /// A new connection is there: from now on a thread watches it, unless the program is brief.
    fn up(self: &Arc<Self>, link: SharedLink) -> Result<(), Error> {
        if self.options.watching == Watching::Thread {
            self.start_watch(&link)?;
        }
        *lock(&self.connection) = Connection::Up(link);
        self.changed.notify_all();
        Ok(())
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
        {
            let mut connection = lock(&self.connection);
            if !matches!(&*connection, Connection::Up(now) if Arc::ptr_eq(now, link)) {
                return;
            }
            self.lose_references();
            if link.is_stopping() {
                let why = "the broker was stopped; initialize the library again to start another";
                *connection = Connection::Ended(why.into());
                drop(connection);
                self.changed.notify_all();
                return self.end_sessions(EndReason::BrokerStopped);
            }
            if self.memory.is_done() || lock(&self.sessions).is_empty() {
                *connection = Connection::Off;
                return;
            }
            *connection = Connection::Down(Instant::now() + PATIENCE);
        }
        self.changed.notify_all();
        self.look_for_broker();
    }

    fn look_for_broker(self: &Arc<Self>) {
        loop {
            let Connection::Down(until) = *lock(&self.connection) else { return };
            if let Ok(link) = self.connect()
                && self.come_back(&link).is_ok()
            {
                return;
            }
            if Instant::now() >= until {
                return self.give_up();
            }
            thread::sleep(LOOK);
        }
    }

    /// Brings every session back over a new connection, and only then lets calls use it.
    fn come_back(self: &Arc<Self>, link: &SharedLink) -> Result<(), Error> {
        let sessions: Vec<_> = lock(&self.sessions).drain().map(|(_, s)| s).collect();
        // Notifications may come as soon as a member is back, so this connection must be read from now on.
        let mut back = Vec::new();
        for (done, session) in sessions.iter().enumerate() {
            match session.come_back(self, link) {
                Ok(lost_drafts) => back.push((session, lost_drafts)),
                Err(error) if error.is_disconnected() || error.code() == Code::E_WAIT => {
                    // Not yet: those that are not listed again must not be forgotten.
                    let mut listed = lock(&self.sessions);
                    for session in &sessions[done..] {
                        listed.insert(session.member(), Arc::clone(session));
                    }
                    return Err(error);
                }
                Err(_) => self.lose(Arc::clone(session)),
            }
        }
        self.up(Arc::clone(link))?;
        let previous = previous(link);
        for (session, lost_drafts) in back {
            let news = News::Reconnected { lost_drafts, previous: previous.clone() };
            self.tell(Told::News(Arc::clone(session), news));
        }
        Ok(())
    }

    fn give_up(&self) {
        *lock(&self.connection) = Connection::Off;
        self.changed.notify_all();
        let sessions: Vec<_> = lock(&self.sessions).drain().map(|(_, s)| s).collect();
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

    fn end_sessions(&self, reason: EndReason) {
        let sessions: Vec<_> = lock(&self.sessions).drain().map(|(_, s)| s).collect();
        for session in sessions {
            session.end(reason);
        }
    }

    /// The connection, waiting for it while the broker is away.
    pub(crate) fn link(self: &Arc<Self>) -> Result<SharedLink, Error> {
        self.check_alive()?;
        let mut connection = lock(&self.connection);
        loop {
            match &*connection {
                Connection::Up(link) => return Ok(Arc::clone(link)),
                Connection::Ended(why) => {
                    return Err(Error::fault(Code::E_END_OF_SESSION, why.clone()));
                }
                Connection::Off => {
                    drop(connection);
                    return self.link_now();
                }
                Connection::Down(until) => {
                    let wait = until.saturating_duration_since(Instant::now()) + LOOK;
                    let waited = self.changed.wait_timeout(connection, wait);
                    connection = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// The connection, made anew if there is none. Only an initialization starts a broker.
    fn link_now(self: &Arc<Self>) -> Result<SharedLink, Error> {
        self.check_fork()?;
        if let Connection::Up(link) = &*lock(&self.connection) {
            return Ok(Arc::clone(link));
        }
        let link = self.connect().map_err(|e| self.unreachable(e))?;
        self.up(Arc::clone(&link))?;
        Ok(link)
    }

    /// Asks; and asks again when the broker was away meanwhile. What is asked must bear a repetition.
    pub(crate) fn call(
        self: &Arc<Self>,
        hook: Option<&dyn Fn() -> Hook>,
        request: impl Fn(&SharedLink) -> Result<Request, Error>,
    ) -> Result<Reply, Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            let link = self.link()?;
            let asked = request(&link);
            let answer = asked.and_then(|asked| link.call(asked, hook.map(|make| make())));
            match answer {
                Ok(Err(refusal))
                    if refusal.fault.code == Code::E_WAIT && Instant::now() < until =>
                {
                    self.wait_for_another(&link, until);
                }
                Ok(result) => return Ok(result?),
                Err(error) if error.is_disconnected() && Instant::now() < until => {
                    self.wait_for_another(&link, until);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until this connection is not the one that is used any more.
    fn wait_for_another(self: &Arc<Self>, old: &SharedLink, until: Instant) {
        if self.options.watching == Watching::Callers && old.wait_for_end(until) {
            self.lost(old);
        }
        let mut connection = lock(&self.connection);
        while matches!(&*connection, Connection::Up(now) if Arc::ptr_eq(now, old)) {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(connection, wait.min(LOOK * 4));
            connection = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn status(self: &Arc<Self>) -> Result<Status, Error> {
        match self.call(None, |_| Ok(Request::Status))? {
            Reply::Status(status) => Ok(*status),
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
            match next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    fn queue_page(
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
        lock(&self.sessions).insert(member, session);
    }

    pub(crate) fn remove_session(&self, member: MemberId) {
        lock(&self.sessions).remove(&member);
    }

    pub(crate) fn session(&self, member: MemberId) -> Option<Arc<SessionState>> {
        lock(&self.sessions).get(&member).cloned()
    }

    fn log_everything_off(self: &Arc<Self>) -> Result<(), Error> {
        let sessions: Vec<_> = lock(&self.sessions).values().cloned().collect();
        for session in sessions {
            match session.log_off(&Logoff::now()) {
                Err(error) if error.is_temporary() || error.code() == Code::E_DISK_ERROR => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The connection, if there is one at this moment.
    pub(crate) fn link_if_up(&self) -> Option<SharedLink> {
        match &*lock(&self.connection) {
            Connection::Up(link) => Some(Arc::clone(link)),
            _ => None,
        }
    }

    fn end(&self, why: &str) {
        let mut connection = lock(&self.connection);
        let old = std::mem::replace(&mut *connection, Connection::Ended(why.to_owned()));
        drop(connection);
        if let Connection::Up(link) = old {
            link.die(why);
        }
        self.changed.notify_all();
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

/// The libraries of this process that take calls.
fn alive() -> Vec<Arc<Library>> {
    let libraries = lock(&LIBRARIES);
    let takes_calls = |library: &Arc<Library>| library.check_alive().is_ok();
    libraries.iter().filter_map(Weak::upgrade).filter(takes_calls).collect()
}

/// One library for each broker that this process is connected to, in the order in which it was initialized; without any the
/// one that asks, which knows why.
pub(crate) fn connected(asking: &Arc<Library>) -> Vec<Arc<Library>> {
    let mut found: Vec<Arc<Library>> = Vec::new();
    for library in alive().into_iter().filter(|library| library.is_connected()) {
        match found.iter_mut().find(|other| other.paths.socket == library.paths.socket) {
            Some(other) if Arc::ptr_eq(&library, asking) => *other = library,
            Some(_) => {}
            None => found.push(library),
        }
    }
    if found.is_empty() && asking.check_alive().is_ok() {
        found.push(Arc::clone(asking));
    }
    found
}

/// The process has left if every broker that it is connected to is done.
pub(crate) fn leave_if_all_done(process: &Process) {
    let libraries = lock(&LIBRARIES);
    let remains = |library: &Arc<Library>| library.check_alive().is_ok() && library.is_connected();
    if !libraries.iter().filter_map(Weak::upgrade).any(|library| remains(&library)) {
        process.done();
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

/// A key that nobody else makes.
pub(crate) fn new_key() -> sundown_protocol::SubmitKey {
    sundown_protocol::SubmitKey(process::chance())
}
