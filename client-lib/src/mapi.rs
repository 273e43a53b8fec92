//! The library as programs see it: initialized, used, uninitialized.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{PidfdFlags, pidfd_open};
use sundown_protocol::reply::{BrokerStatus, Deletion, QueueRow, Status, SubmissionState};
use sundown_protocol::request::{QueueAction, QueueChange, Request, Stopping};
use sundown_protocol::{Code, EntryId, Reply, Token, Version};

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
    pub(crate) patience: Duration,
    pub(crate) host_key: Option<u128>,
    pub(crate) watching: Watching,
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
    /// It was taken back already: dropping it does nothing.
    taken_back: bool,
}

/// An end that could not be made, because something could not be made durable: why, and the library, which is as it was.
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
/// As an [`Error`], by `?`, it gives the library up: what cannot be made durable is lost then.
#[derive(Debug)]
pub struct Unfinished {
    mapi: Mapi,
    error: Error,
}

impl Unfinished {
    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The library.
    pub fn into_mapi(self) -> Mapi {
        self.mapi
    }

    /// Both.
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
    /// something could not be made durable; what is still logged on can be used then, and the error gives the library back.
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

    /// The key that lets a library inside this program shut the process down. It is the program's to hand on, or not.
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
        match self.library.queue_page(profile, &QueueAction::Change(entry, change)) {
            Ok((rows, _)) => rows.into_iter().next().ok_or_else(unexpected),
            // Where it stands says whether it was done the first time.
            Err(error) if error.is_of_a_repeat() => {
                let row = self.queue_entry(profile, entry).ok();
                row.filter(|row| is_as_wanted(row.state, change)).ok_or(error)
            }
            Err(error) => Err(error),
        }
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
            self.library.call(None, |_| Ok(Request::DeleteProfile { name: name.to_owned() }));
        match reply {
            Ok(Reply::ProfileDeleted(deletion)) => Ok(deletion),
            Ok(_) => Err(unexpected()),
            Err(error) => done_before(error, Code::E_NOT_FOUND).map(|()| Deletion::Done),
        }
    }

    /// Stops the broker for good, and waits until its process has ended, at most so long (`MAPI_E_TIMEOUT`).
    pub fn stop(&self, how: Stopping, patience: Duration) -> Result<(), Error> {
        let link = self.library.link()?;
        let process = link.proven_broker();
        let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        link.call(Request::Stop { how }, None)??;
        // Where the kernel does not name the process the end of the connection must do.
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
    /// if that fails nothing is uninitialized: the error says so, and gives the library back. Where the process has left it fails
    /// with `MAPI_E_NOT_INITIALIZED`.
    pub fn uninitialize(mut self) -> Result<(), Unfinished> {
        match self.take_back() {
            Ok(()) => Ok(()),
            Err(error) => Err(Unfinished { mapi: self, error }),
        }
    }

    fn take_back(&mut self) -> Result<(), Error> {
        self.library.check_alive()?;
        if self.library.leave() {
            // Another initialization makes a library of its own meanwhile.
            self.library.log_everything_off().inspect_err(|_| self.library.stay())?;
            self.library.end("the library was uninitialized");
        }
        self.taken_back = true;
        Ok(())
    }
}

impl Drop for Mapi {
    /// Nobody is told what fails here, and it does not stop the end: that is what [`uninitialize`](Self::uninitialize) is for.
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

/// Whether an entry of the queue is as a change would have it.
fn is_as_wanted(state: SubmissionState, change: QueueChange) -> bool {
    match change {
        QueueChange::Hold => state == SubmissionState::Held,
        QueueChange::Release => state != SubmissionState::Held,
        QueueChange::Abort => state == SubmissionState::Aborted,
        // It is not repeated.
        QueueChange::Retry => false,
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

/// The process has left if every broker that it is connected to is done.
pub(crate) fn leave_if_all_done(process: &Process) {
    let libraries = lock(&LIBRARIES);
    let remains = |library: &Arc<Library>| library.check_alive().is_ok() && library.is_connected();
    if !libraries.iter().filter_map(Weak::upgrade).any(|library| remains(&library)) {
        process.done();
    }
}

/// A key that no other client makes: the time in milliseconds since 1970 in its highest 48 bits, and 80 bits by chance.
///
/// Keys of one time are neighbours in a store's index, so that a commit of many messages writes few pages of it. No reader may
/// take a time out of a key: another client may make keys by chance alone.
pub(crate) fn new_key() -> sundown_protocol::SubmitKey {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    sundown_protocol::SubmitKey(key_of(since, process::chance()))
}

fn key_of(since_1970: Duration, chance: u128) -> u128 {
    (since_1970.as_millis() << CHANCE_BITS) | (chance >> (u128::BITS - CHANCE_BITS))
}

/// The bits of a key that are by chance.
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
