//! The library as programs see it: initialize it, use it, uninitialize it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{PidfdFlags, pidfd_open};
use sundown_protocol::reply::{
    BrokerStatus, Deletion, MailboxState, QueueRow, Reloaded, SessionHealth, Status,
    SubmissionState,
};
use sundown_protocol::request::{QueueAction, QueueChange, Request, Stopping};
use sundown_protocol::{Code, EntryId, Reply, SessionId, Token, Version};

use crate::autostart::Logging;
use crate::error::Error;
use crate::library::{Library, PATIENCE, left, lock};
use crate::limits::within;
use crate::link::{Watching, wait_readable_within};
use crate::paths::{Arguments, Environment, Paths};
use crate::process;
use crate::reference::Reference;
use crate::session::{Logon, Session, done_before, unexpected};
use crate::shutdown::{ClientShutdown, ExitPath, Process};

/// How to initialize the library.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) program: String,
    arguments: Arguments,
    pub(crate) start: Option<PathBuf>,
    pub(crate) logging: Logging,
    pub(crate) patience: Duration,
    pub(crate) host_key: Option<u128>,
    pub(crate) watching: Watching,
}

impl Options {
    /// Options for a program with this name, which is shown to other members of its sessions. The broker is the user's own, which
    /// is started if none runs. A user who has none and may use the host's broker gets that ([`Paths::of_program`]).
    pub fn new(program: impl Into<String>) -> Self {
        let start = Some(PathBuf::from("sundown"));
        Self {
            program: program.into(),
            arguments: Arguments::default(),
            start,
            logging: Logging::of(&Environment::of_this_process()),
            patience: PATIENCE,
            host_key: None,
            watching: Watching::Thread,
        }
    }

    /// Uses the broker with this socket (`SUNDOWN_SOCKET`).
    #[must_use]
    pub fn socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.arguments.socket = Some(socket.into());
        self
    }

    /// Sets the data directory of a broker that is started (`SUNDOWN_DATA_DIR`).
    #[must_use]
    pub fn data_dir(mut self, data: impl Into<PathBuf>) -> Self {
        self.arguments.data_dir = Some(data.into());
        self
    }

    /// Sets the settings file of a broker that is started (`SUNDOWN_CONFIG`).
    #[must_use]
    pub fn config(mut self, config: impl Into<PathBuf>) -> Self {
        self.arguments.config = Some(config.into());
        self
    }

    /// Sets the program that starts a broker when it is called with `serve`; by default `sundown` from the `PATH`.
    #[must_use]
    pub fn start_with(mut self, program: impl Into<PathBuf>) -> Self {
        self.start = Some(program.into());
        self
    }

    /// Sets what a broker that is started logs (`SUNDOWN_LOG`): a level, or directives as `sundown serve --log-level` takes them. A broker
    /// that runs already goes on as it is.
    ///
    /// ```
    /// let options = sundown_client::Options::new("nightly-report").log_level("debug").log_format("json");
    /// ```
    #[must_use]
    pub fn log_level(mut self, level: impl Into<String>) -> Self {
        self.logging.level = Some(level.into().into());
        self
    }

    /// Sets how a broker that is started logs (`SUNDOWN_LOG_FORMAT`): `text`, `json` or `journald`. One that it does not know keeps the
    /// broker from starting. A broker that runs already goes on as it is.
    #[must_use]
    pub fn log_format(mut self, format: impl Into<String>) -> Self {
        self.logging.format = Some(format.into().into());
        self
    }

    /// Sets the key of the host program, for a library inside it that may shut the process down.
    #[must_use]
    pub fn host_key(mut self, key: u128) -> Self {
        self.host_key = Some(key);
        self
    }

    /// Sets how long an initialization waits while a socket accepts connections and no broker sends its welcome, as while a service
    /// manager starts one; 30 seconds unless set.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// For a program that makes a few calls and leaves: the library starts no threads unless a call needs one. Whatever arrives
    /// between two calls is noticed by the next call: notifications, and the end of the broker. Only that call brings a session
    /// back.
    #[must_use]
    pub fn brief(mut self) -> Self {
        self.watching = Watching::Callers;
        self
    }

    /// Starts no broker. The command does the same with `SUNDOWN_NO_AUTOSTART=1`. The library does not read this variable: a program
    /// that wants to obey it calls this.
    #[must_use]
    pub fn no_autostart(mut self) -> Self {
        self.start = None;
        self
    }
}

/// The initialized library. Initializations are counted: each one adds one, and dropping this guard or
/// [`uninitialize`](Self::uninitialize) takes one away. The last one logs off the sessions that are still logged on.
#[derive(Debug)]
pub struct Mapi {
    library: Arc<Library>,
    /// This initialization was taken back already: dropping the guard does nothing.
    taken_back: bool,
}

/// How the broker's sessions fare: what [`Mapi::health`] says.
///
/// ```
/// let health = sundown_client::Health::default();
/// assert!(health.sessions.is_empty() && health.requests.is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The sessions, oldest first. Those that are closing or could not start are not among them.
    pub sessions: Vec<SessionHealth>,
    /// How many requests were made since the broker started, refused ones included; `None` if this user does not see all sessions,
    /// or the broker is too old to report it.
    pub requests: Option<u64>,
}

/// An end that failed because something could not be made durable. It contains the error, and the library, which is unchanged.
///
/// ```no_run
/// # fn leave(mapi: sundown_client::Mapi) -> Result<(), sundown_client::Error> {
/// if let Err(unfinished) = mapi.uninitialize() {
///     eprintln!("{}", unfinished.error()); // a full disk: make room, and try again
///     unfinished.into_mapi().uninitialize()?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// Turned into an [`Error`] by `?`, it drops the library: what cannot be made durable is lost then.
#[derive(Debug)]
pub struct Unfinished {
    mapi: Mapi,
    error: Error,
}

impl Unfinished {
    /// Why the end failed.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The library, to be used again.
    pub fn into_mapi(self) -> Mapi {
        self.mapi
    }

    /// The library and the error.
    pub fn into_parts(self) -> (Mapi, Error) {
        (self.mapi, self.error)
    }
}

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Unfinished {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<Unfinished> for Error {
    fn from(unfinished: Unfinished) -> Self {
        unfinished.error
    }
}

/// The libraries of this process. Each is for one socket.
static LIBRARIES: Mutex<Vec<Weak<Library>>> = Mutex::new(Vec::new());

impl Mapi {
    /// `MAPIInitialize`: connects to the broker, and starts the user's own if none runs. Later initializations of the process with
    /// the same broker share the connection and the program name of the first.
    pub fn initialize(options: Options) -> Result<Self, Error> {
        let mapi = Self::of(options)?;
        mapi.library.connect_now(None)?;
        Ok(mapi)
    }

    /// `MAPILogon` of Simple MAPI: does what [`initialize`](Self::initialize) and [`logon`](Self::logon) do, with one request to
    /// the broker instead of two. If it fails nothing is initialized.
    pub fn initialize_and_logon(options: Options, logon: Logon) -> Result<(Self, Session), Error> {
        let mapi = Self::of(options)?;
        let session = Session::begin(&mapi.library, logon)?;
        Ok((mapi, session))
    }

    /// Counts an initialization. The first one makes the library, without a connection.
    fn of(options: Options) -> Result<Self, Error> {
        let environment = Environment::of_this_process();
        let paths = Paths::of_program(&options.arguments, &environment)
            .map_err(|e| Error::fault(Code::E_INVALID_PARAMETER, e.to_string()))?;
        let process = Process::this();
        let mut libraries = lock(&LIBRARIES);
        // Checked under this lock, because the process is marked as done under it.
        if process.is_done() || process.memory(&paths.socket).is_done() {
            return Err(left());
        }
        libraries.retain(|library| library.strong_count() > 0);
        let here = |library: &Arc<Library>| {
            library.socket() == paths.socket
                && library.options().watching == options.watching
                && library.check_alive().is_ok()
                && library.join()
        };
        if let Some(library) = libraries.iter().filter_map(Weak::upgrade).find(here) {
            return Ok(Self { library, taken_back: false });
        }
        let library = Library::new(options, paths, process)?;
        libraries.push(Arc::downgrade(&library));
        Ok(Self { library, taken_back: false })
    }

    /// `MAPILogonEx`: joins the profile's shared session, or makes a session.
    pub fn logon(&self, logon: Logon) -> Result<Session, Error> {
        Session::log_on(&self.library, logon)
    }

    /// Opens an object that another process has granted. It needs no logon.
    pub fn redeem(&self, token: Token) -> Result<Reference, Error> {
        Reference::redeem(&self.library, token)
    }

    /// Controls the shutdown of this process; the same as [`Session::client_shutdown`].
    pub fn client_shutdown(&self) -> ClientShutdown {
        ClientShutdown::new(Arc::clone(&self.library))
    }

    /// Leaves in the right way: by query, notify and do if every provider supports that; otherwise, or if the do fails, by the
    /// traditional steps. It covers every broker that this process is connected to. It fails only if something could not be made
    /// durable: the sessions that are still logged on can be used then, and the error gives the library back.
    pub fn shut_down(self) -> Result<ExitPath, Unfinished> {
        match self.begin_shut_down() {
            Ok(path) => Ok(path),
            Err(error) => Err(Unfinished { mapi: self, error }),
        }
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
            library.shut_down();
        }
        Ok(ExitPath::Traditional)
    }

    /// The key that lets a library inside this program shut the process down. The program decides whether to hand it on.
    pub fn host_key(&self) -> u128 {
        self.library.key()
    }

    /// How often the library is initialized in this process with this broker.
    pub fn initialized(&self) -> u32 {
        self.library.initialized()
    }

    /// The broker's process id, while there is a connection.
    pub fn broker(&self) -> Option<u32> {
        self.library.link_if_up().map(|link| link.broker())
    }

    /// The broker's socket.
    pub fn socket(&self) -> &Path {
        self.library.socket()
    }

    /// How the previous broker ended, and how much of the broker's limits is used; `None` if the broker is too old to report it.
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

    /// How the providers of each session fare, and which version of its profile it has. Empty if the broker is too old to report it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), sundown_client::Error> {
    /// # let mapi = sundown_client::Mapi::initialize(sundown_client::Options::new("example"))?;
    /// for provider in mapi.health()?.sessions.iter().flat_map(|session| &session.providers) {
    ///     if let Some(last) = provider.last.as_ref().filter(|last| !last.worked) {
    ///         println!("{}: {}", provider.name, last.text);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn health(&self) -> Result<Health, Error> {
        let (mut after, mut all) = (SessionId(0), Health::default());
        while self.library.link()?.speaks(Version::V3) {
            let reply = self.library.call(None, |_| Ok(Request::Health { after }))?;
            let Reply::Health { sessions, next, requests } = reply else {
                return Err(unexpected());
            };
            all.sessions.extend(sessions);
            all.requests = requests;
            match next {
                Some(next) if next > after => after = next,
                Some(_) => return Err(unexpected()),
                None => break,
            }
        }
        Ok(all)
    }

    /// How the mailboxes of each session fare that this user may see. Empty if the broker is too old to report it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), sundown_client::Error> {
    /// # let mapi = sundown_client::Mapi::initialize(sundown_client::Options::new("example"))?;
    /// for mailbox in mapi.mailboxes()? {
    ///     if let Some(syncing) = mailbox.syncing {
    ///         println!("{}: {} of {} messages", mailbox.name, syncing.done, syncing.total);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn mailboxes(&self) -> Result<Vec<MailboxState>, Error> {
        let (mut after, mut all) = (SessionId(0), Vec::new());
        while self.library.link()?.speaks(Version::V4) {
            let reply = self.library.call(None, |_| Ok(Request::Mailboxes { after }))?;
            let Reply::Mailboxes { mailboxes, next } = reply else { return Err(unexpected()) };
            all.extend(mailboxes);
            match next {
                Some(next) if next > after => after = next,
                Some(_) => return Err(unexpected()),
                None => break,
            }
        }
        Ok(all)
    }

    /// Has the broker read a profile's file now, use it in the sessions of that profile, and try its transports. Takes the right
    /// *admin*. `MAPI_E_VERSION` if the broker is too old.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), sundown_client::Error> {
    /// # let mapi = sundown_client::Mapi::initialize(sundown_client::Options::new("example"))?;
    /// let reloaded = mapi.reload("work")?;
    /// println!("{} sessions use it: {:?}", reloaded.sessions, reloaded.result);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reload(&self, profile: &str) -> Result<Reloaded, Error> {
        if !self.library.link()?.speaks(Version::V3) {
            let message = "the broker is too old to read a profile again; restart it";
            return Err(Error::fault(Code::E_VERSION, message));
        }
        match self.library.call(None, |_| Ok(Request::Reload { profile: profile.to_owned() }))? {
            Reply::Reloaded(reloaded) => Ok(reloaded),
            _ => Err(unexpected()),
        }
    }

    /// The outgoing queue of a profile; without a name, of the default profile and of all profiles that have a session. With `all`,
    /// final messages too.
    pub fn queue(&self, profile: Option<&str>, all: bool) -> Result<Vec<QueueRow>, Error> {
        let mut rows = Vec::new();
        self.library.each_queued(profile, all, |row| rows.push(row))?;
        Ok(rows)
    }

    /// The oldest rows of that queue, among them messages that came back and whose notifications are unread. At most so many.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), sundown_client::Error> {
    /// # let mapi = sundown_client::Mapi::initialize(sundown_client::Options::new("example"))?;
    /// for row in mapi.queue_begins(Some("work"), 10)? {
    ///     println!("{} {}", row.entry, row.state.name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue_begins(&self, profile: Option<&str>, limit: u32) -> Result<Vec<QueueRow>, Error> {
        self.library.queue_begins(profile, limit)
    }

    /// An entry of the outgoing queue, with all its recipients.
    pub fn queue_entry(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        let (rows, _) = self.library.queue_page(profile, &QueueAction::Show(entry))?;
        rows.into_iter().next().ok_or_else(unexpected)
    }

    /// The `Message-ID` of an entry of the outgoing queue, as it stands in the message. `None`: the message has none, or the broker is
    /// of an older version. An entry whose message is no longer in the store is `MAPI_E_NOT_FOUND`.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), sundown_client::Error> {
    /// # let mapi = sundown_client::Mapi::initialize(sundown_client::Options::new("example"))?;
    /// for row in mapi.queue(None, false)? {
    ///     println!("{} {:?}", row.entry, mapi.message_id(row.entry)?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn message_id(&self, entry: EntryId) -> Result<Option<String>, Error> {
        self.library.message_id(entry)
    }

    /// Tries an entry of the outgoing queue now. A message whose outcome is unknown may arrive twice then.
    pub fn retry(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        self.change_entry(profile, entry, QueueChange::Retry)
    }

    /// Keeps an entry of the outgoing queue until it is released.
    pub fn hold(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        self.change_entry(profile, entry, QueueChange::Hold)
    }

    /// Releases a held entry of the outgoing queue.
    pub fn release(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        self.change_entry(profile, entry, QueueChange::Release)
    }

    /// Takes an entry of the outgoing queue back into Drafts: `MAPI_E_UNABLE_TO_ABORT` if a transport has it, `MAPI_E_NOT_IN_QUEUE`
    /// if it is final. It needs no session; with a session, use [`Session::abort_submit`](crate::Session::abort_submit).
    pub fn abort(&self, profile: Option<&str>, entry: EntryId) -> Result<QueueRow, Error> {
        self.change_entry(profile, entry, QueueChange::Abort)
    }

    fn change_entry(
        &self,
        profile: Option<&str>,
        entry: EntryId,
        change: QueueChange,
    ) -> Result<QueueRow, Error> {
        match self.library.queue_page(profile, &QueueAction::Change(entry, change)) {
            Ok((rows, _)) => rows.into_iter().next().ok_or_else(unexpected),
            // The entry's state says whether the first attempt was carried out.
            Err(error) if error.is_of_a_repeat() => {
                let row = self.queue_entry(profile, entry).ok();
                row.filter(|row| is_as_wanted(row.state, change)).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// `IMAPIStatus::FlushQueues`: tries all deferred messages at once, also through transports that were disabled. Returns how
    /// many messages had to wait until now, and does not wait for their outcome.
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

    /// Deletes a profile's settings (`IProfAdmin::DeleteProfile`): at once, or when the sessions that use it have ended. The
    /// profile's data stays. Takes the right *admin*.
    pub fn delete_profile(&self, name: &str) -> Result<Deletion, Error> {
        let reply =
            self.library.call(None, |_| Ok(Request::DeleteProfile { name: name.to_owned() }));
        match reply {
            Ok(Reply::ProfileDeleted(deletion)) => Ok(deletion),
            Ok(_) => Err(unexpected()),
            Err(error) => done_before(error, Code::E_NOT_FOUND).map(|()| Deletion::Done),
        }
    }

    /// Stops the broker for good, and waits at most `patience` until its process has ended (`MAPI_E_TIMEOUT`).
    pub fn stop(&self, how: Stopping, patience: Duration) -> Result<(), Error> {
        let link = self.library.link()?;
        let process = link.proven_broker();
        let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        link.call(Request::Stop { how }, None)??;
        // Without a process from the kernel, the end of the connection counts as the broker's end.
        let ended = match process {
            Some(process) => wait_readable_within(process.as_fd(), Instant::now() + patience)?,
            None => link.wait_for_end(Instant::now() + patience),
        };
        self.library.end("the broker was stopped");
        if ended {
            return Ok(());
        }
        let message = format!("the broker is stopping and not done after {} s", patience.as_secs());
        Err(Error::fault(Code::E_TIMEOUT, message))
    }

    /// Logs off every session of this process with this broker. A session with something that could not be made durable stays
    /// logged on.
    pub fn log_everything_off(&self) -> Result<(), Error> {
        self.library.check_alive()?;
        self.library.log_everything_off()
    }

    /// `OleInitialize` of a companion library: dropping the guard uninitializes it. The guard borrows the initialized library, so
    /// it is dropped before the library itself. The wrong order does not compile:
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

    /// `MAPIUninitialize`: takes this initialization back, and logs all sessions off if it was the last. Deferred submissions are
    /// made durable first; if that fails nothing is uninitialized, and the error gives the library back. After the process has left
    /// it fails with `MAPI_E_NOT_INITIALIZED`.
    pub fn uninitialize(mut self) -> Result<(), Unfinished> {
        match self.take_back() {
            Ok(()) => Ok(()),
            Err(error) => Err(Unfinished { mapi: self, error }),
        }
    }

    fn take_back(&mut self) -> Result<(), Error> {
        self.library.check_alive()?;
        if self.library.leave() {
            // Meanwhile another initialization makes its own library.
            self.library.log_everything_off().inspect_err(|_| self.library.stay())?;
            self.library.end("the library was uninitialized");
        }
        self.taken_back = true;
        Ok(())
    }
}

impl Drop for Mapi {
    /// Ends the library, and ignores errors; [`uninitialize`](Self::uninitialize) reports them.
    fn drop(&mut self) {
        if self.taken_back || self.library.check_alive().is_err() {
            return;
        }
        if self.library.leave() {
            let _ = within(DROPPING, || self.library.log_everything_off());
            self.library.end("the library was uninitialized");
        }
    }
}

/// How long dropping the library may take.
const DROPPING: Duration = Duration::from_secs(5);

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

/// Utilities-only mode (`ScInitMapiUtil`, `DeinitMapiUtil`): functions that need no broker. It cannot log on.
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
    /// Initializes the utilities, which is always possible.
    pub fn initialize() -> Self {
        Self(())
    }

    /// A message with the envelope that its fields name.
    #[allow(clippy::unused_self)]
    pub fn parse(&self, bytes: impl Into<Vec<u8>>) -> crate::Message {
        crate::Message::parse(bytes)
    }
}

/// Whether the entry's state is the one that the change asks for.
fn is_as_wanted(state: SubmissionState, change: QueueChange) -> bool {
    match change {
        QueueChange::Hold => state == SubmissionState::Held,
        QueueChange::Release => state != SubmissionState::Held,
        QueueChange::Abort => state == SubmissionState::Aborted,
        // A retry is never repeated.
        QueueChange::Retry => false,
    }
}

/// The libraries of this process that take calls.
fn alive() -> Vec<Arc<Library>> {
    let libraries = lock(&LIBRARIES);
    let takes_calls = |library: &Arc<Library>| library.check_alive().is_ok();
    libraries.iter().filter_map(Weak::upgrade).filter(takes_calls).collect()
}

/// One library for each broker that this process is connected to, in the order of their initialization. Without any connection it
/// is the asking library, which reports why.
pub(crate) fn connected(asking: &Arc<Library>) -> Vec<Arc<Library>> {
    let mut found: Vec<Arc<Library>> = Vec::new();
    for library in alive().into_iter().filter(|library| library.is_connected()) {
        match found.iter_mut().find(|other| other.socket() == library.socket()) {
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

/// Marks the process as done if it is done with every broker that it is connected to.
pub(crate) fn leave_if_all_done(process: &Process) {
    let libraries = lock(&LIBRARIES);
    let remains = |library: &Arc<Library>| library.check_alive().is_ok() && library.is_connected();
    if !libraries.iter().filter_map(Weak::upgrade).any(|library| remains(&library)) {
        process.done();
    }
}

/// Makes a key that no other client makes: the highest 48 bits are the time in milliseconds since 1970, the other 80 bits are
/// random.
///
/// Keys of the same time are neighbours in a store's index, so that a commit of many messages writes few pages of it. No reader may
/// take the time from a key: another client may make wholly random keys.
pub(crate) fn new_key() -> sundown_protocol::SubmitKey {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    sundown_protocol::SubmitKey(key_of(since, process::chance()))
}

fn key_of(since_1970: Duration, chance: u128) -> u128 {
    (since_1970.as_millis() << CHANCE_BITS) | (chance >> (u128::BITS - CHANCE_BITS))
}

/// The number of random bits of a key.
const CHANCE_BITS: u32 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_in_the_order_of_their_times() {
        let at = |millis, chance| key_of(Duration::from_millis(millis), chance);
        assert!(at(1, u128::MAX) < at(2, 0));
        assert_eq!(at(1, 5 << 48), 1 << 80 | 5, "the rest is by chance");
        assert_eq!(
            at(u64::MAX, 0) >> 80,
            (1 << 48) - 1,
            "a time too late for 48 bits loses the highest"
        );
        assert_ne!(new_key(), new_key());
    }
}
