//! Fast shutdown (`IMAPIClientShutdown`): for the whole process, with all its sessions at all its brokers.
//!
//! ```text
//!  process   verdict  None ──every broker asked──► Yes | No     the first one, for the life of the process
//!            left     no ──done with every broker──► yes        no call is made any more, to no broker
//!
//!  broker    asked    None ──query, or within Do──► Yes | No    each broker has a verdict of its own
//!            done     no ──do──► yes                            never told twice
//! ```

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sundown_protocol::request::{Request, Ticket};
use sundown_protocol::{Code, Fault, FaultDetail, Reply};

use crate::error::Error;
use crate::library::{Library, left, lock};
use crate::mapi;

/// Controls the shutdown of this process with all its sessions, at all brokers. Every session returns it
/// ([`Session::client_shutdown`](crate::Session::client_shutdown)), and all of them are equivalent.
///
/// ```no_run
/// # fn leave(session: &sundown_client::Session) -> Result<(), sundown_client::Error> {
/// let exit = session.client_shutdown()?;
/// let fast = exit.query_fast_shutdown().is_ok(); // the answer holds for the life of the process
/// exit.notify_process_shutdown()?; // may be called whatever the answer was
/// if fast {
///     exit.do_fast_shutdown()?; // everything handed over is durable; no call works any more
///     std::process::exit(0);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Only the host of a process may call it. A library inside a host, with its own copy of this one, gets `MAPI_E_NO_ACCESS`, unless
/// the host has given it its key ([`Mapi::host_key`](crate::Mapi::host_key), [`Options::host_key`](crate::Options::host_key)).
#[derive(Debug)]
pub struct ClientShutdown {
    library: Arc<Library>,
}

/// How a process left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitPath {
    /// By query, notify and do.
    Fast,
    /// By the eight steps: every session was logged off, and the library uninitialized.
    Traditional,
}

impl ExitPath {
    /// The path's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Traditional => "traditional",
        }
    }
}

/// What a process remembers of its shutdown, for its whole life.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// The first answer to a query.
    verdict: Mutex<Option<Verdict>>,
    /// Whether a fast shutdown was done with every broker.
    done: AtomicBool,
    /// Held during a Do, so that there is one at a time.
    doing: Mutex<()>,
    brokers: Mutex<Vec<(PathBuf, Arc<Memory>)>>,
}

/// The answer of a broker, or of all brokers, to a query.
type Verdict = Result<(), Fault>;

/// What a process remembers of a broker, by its socket. It is kept when another broker takes the socket, and when the library is
/// uninitialized and initialized again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    said: Mutex<Option<Verdict>>,
    done: AtomicBool,
    /// The newest ticket, which the next broker accepts about this process.
    ticket: Mutex<Option<Ticket>>,
}

/// What this process remembers; a forked child starts afresh.
static PROCESS: Mutex<Option<(u32, Arc<Process>)>> = Mutex::new(None);

impl Process {
    /// The memory of this process.
    pub(crate) fn this() -> Arc<Self> {
        let (mut known, pid) = (lock(&PROCESS), std::process::id());
        match &*known {
            Some((of, process)) if *of == pid => Arc::clone(process),
            _ => Arc::clone(&known.insert((pid, Arc::default())).1),
        }
    }

    /// The memory of the broker with this socket.
    pub(crate) fn memory(&self, socket: &Path) -> Arc<Memory> {
        let mut brokers = lock(&self.brokers);
        if let Some((_, memory)) = brokers.iter().find(|(path, _)| path == socket) {
            return Arc::clone(memory);
        }
        let memory = Arc::default();
        brokers.push((socket.to_owned(), Arc::clone(&memory)));
        memory
    }

    /// Whether a fast shutdown was done with every broker: no call may be made any more, to no broker.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Marks the process as done, after the last broker.
    pub(crate) fn done(&self) {
        self.done.store(true, Ordering::Release);
    }

    fn verdict(&self) -> Option<Verdict> {
        lock(&self.verdict).clone()
    }

    /// Keeps the first verdict, also if two are found at the same time.
    fn decide(&self, verdict: Verdict) -> Verdict {
        lock(&self.verdict).get_or_insert(verdict).clone()
    }
}

impl Memory {
    /// Whether a fast shutdown was done with this broker: no call to it may be made any more.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    fn done(&self) {
        self.done.store(true, Ordering::Release);
    }

    pub(crate) fn ticket(&self) -> Option<Ticket> {
        lock(&self.ticket).clone()
    }

    pub(crate) fn keep_ticket(&self, ticket: Ticket) {
        *lock(&self.ticket) = Some(ticket);
    }

    pub(crate) fn forget_ticket(&self) {
        *lock(&self.ticket) = None;
    }

    fn said(&self) -> Option<Verdict> {
        lock(&self.said).clone()
    }
}

impl ClientShutdown {
    pub(crate) fn new(library: Arc<Library>) -> Self {
        Self { library }
    }

    /// Whether every provider of every session of this process supports a fast shutdown, at all brokers. `MAPI_E_NO_SUPPORT` names
    /// the providers that do not. The first answer holds for the life of the process; an error with another code, as of a broker
    /// that cannot be reached, is not an answer.
    pub fn query_fast_shutdown(&self) -> Result<(), Error> {
        let process = self.library.process();
        let brokers = self.brokers()?;
        if let Some(verdict) = process.verdict() {
            return Ok(verdict?);
        }
        let (mut refusals, mut failed) = (Vec::new(), None);
        for broker in brokers.iter() {
            match broker.ask() {
                Ok(Ok(())) => {}
                Ok(Err(refused)) => refusals.push(brokers.named(broker, refused)),
                Err(error) => failed = failed.or_else(|| Some(brokers.blamed(broker, error))),
            }
        }
        match (together(refusals), failed) {
            (Some(refused), _) => Ok(process.decide(Err(refused))?),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(process.decide(Ok(()))?),
        }
    }

    /// Tells every provider of every session that the process is going to leave, whatever the query answered. The process may
    /// continue as usual after it. All brokers are told, even after one has failed; the error is the first one's.
    pub fn notify_process_shutdown(&self) -> Result<(), Error> {
        let brokers = self.brokers()?;
        let mut told = Ok(());
        for broker in brokers.iter() {
            let notified = broker.done(|| Request::NotifyProcessShutdown);
            told = told.and(notified.map_err(|error| brokers.blamed(broker, error)));
        }
        told
    }

    /// Leaves: when this returns, everything that this process submitted is durable, its unsaved drafts too, and the process may be
    /// ended in any way. From now on every call fails with `MAPI_E_NOT_INITIALIZED`, and dropping guards does nothing.
    ///
    /// If it fails nothing was torn down: `MAPI_E_NO_SUPPORT` without a positive query or if the settings forbid it, `MAPI_E_BUSY`
    /// while other processes hold objects of this one and the settings require waiting for them, `MAPI_E_DISK_ERROR`,
    /// `MAPI_E_NOT_ENOUGH_DISK` or `MAPI_E_TIMEOUT` if something could not be persisted. Try again, or log off.
    ///
    /// With several brokers, those without a query are queried before any Do. The Dos follow one after the other, in the order in
    /// which the library was initialized with the brokers. If a later one fails, the earlier ones remain done: what those brokers
    /// were given is durable, and their sessions are over. The error says so, and names the broker that failed, whose sessions are
    /// unchanged: try again, which repeats no Do, or log off from it.
    pub fn do_fast_shutdown(self) -> Result<(), Error> {
        self.try_fast_shutdown()
    }

    pub(crate) fn try_fast_shutdown(&self) -> Result<(), Error> {
        let process = Arc::clone(self.library.process());
        if process.is_done() {
            return Err(left());
        }
        let _one = lock(&process.doing);
        // Another thread may have completed the Do while this one waited.
        while !process.is_done() {
            self.do_with_those_here(&process)?;
            // A broker that the process connected to meanwhile gets its Do; otherwise the process is done.
            mapi::leave_if_all_done(&process);
        }
        Ok(())
    }

    fn do_with_those_here(&self, process: &Process) -> Result<(), Error> {
        let brokers = self.brokers()?;
        let remembered = match process.verdict() {
            Some(Ok(())) => true,
            Some(Err(refused)) => return Err(refused.into()),
            // The only broker decides: it may know of the yes that another copy of the library with the same key got.
            None if brokers.are_one() => false,
            None => return Err(never_asked()),
        };
        if remembered {
            for broker in brokers.iter() {
                let able = broker.ask().map_err(|error| brokers.blamed(broker, error))?;
                able.map_err(|refused| brokers.named(broker, refused))?;
            }
        }
        for broker in brokers.iter() {
            broker.repeat_lost().map_err(|error| self.after(brokers.blamed(broker, error)))?;
            let done = broker.done(|| Request::DoFastShutdown { remembered });
            match done.inspect_err(|error| broker.note_lost(error)) {
                Ok(()) => {}
                // The Do was done already: by another path to the same socket, or its answer was lost.
                Err(error) if error.code() == Code::E_NOT_INITIALIZED => broker.check_fork()?,
                Err(error) => return Err(self.after(brokers.blamed(broker, error))),
            }
            broker.memory().done();
        }
        Ok(())
    }

    /// The error of a Do, with what holds for the brokers that are done.
    fn after(&self, error: Error) -> Error {
        let over = self.library.process().over();
        if over.is_empty() {
            return error;
        }
        let over = over.iter().map(|socket| socket.display().to_string()).collect::<Vec<_>>();
        error.said(|what| {
            format!(
                "{what}. What was handed over at {} is durable, and the sessions there are over: \
                 do it again for the rest, or log off",
                over.join(", ")
            )
        })
    }

    /// The brokers of this process that are not done, in the order in which it connected to them.
    fn brokers(&self) -> Result<Brokers, Error> {
        self.library.check_fork()?;
        let brokers = Brokers(mapi::connected(&self.library));
        if brokers.0.is_empty() || self.library.process().is_done() {
            return Err(left());
        }
        Ok(brokers)
    }
}

impl Process {
    /// The sockets of brokers that are done.
    fn over(&self) -> Vec<PathBuf> {
        let brokers = lock(&self.brokers);
        let done = brokers.iter().filter(|(_, memory)| memory.is_done());
        done.map(|(socket, _)| socket.clone()).collect()
    }
}

/// One library for each broker.
struct Brokers(Vec<Arc<Library>>);

impl Brokers {
    fn iter(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.0.iter()
    }

    /// Whether the process has a single broker, and had no other: then errors need not name it.
    fn are_one(&self) -> bool {
        self.0.len() == 1 && self.0[0].process().over().is_empty()
    }

    /// A broker's refusal, with the broker's name if there are several.
    fn named(&self, broker: &Library, refused: Fault) -> Fault {
        if self.are_one() {
            return refused;
        }
        Fault { message: at(broker, &refused.message), ..refused }
    }

    fn blamed(&self, broker: &Library, error: Error) -> Error {
        if self.are_one() { error } else { error.said(|what| at(broker, what)) }
    }
}

fn at(broker: &Library, what: &str) -> String {
    format!("the broker at {}: {what}", broker.socket().display())
}

/// Joins several refusals into one, which names all refusing providers.
fn together(refusals: Vec<Fault>) -> Option<Fault> {
    let mut refusals = refusals.into_iter();
    let mut all = refusals.next()?;
    for refused in refusals {
        all.message = format!("{}; {}", all.message, refused.message);
        if let (FaultDetail::Providers(all), FaultDetail::Providers(more)) =
            (&mut all.detail, refused.detail)
        {
            all.extend(more);
        }
    }
    Some(all)
}

fn never_asked() -> Error {
    let message = "QueryFastShutdown has not said yes to this process: ask it, or log off instead";
    Error::fault(Code::E_NO_SUPPORT, message)
}

impl Library {
    /// This broker's verdict on the process, asked for once. An error is not a verdict.
    fn ask(self: &Arc<Self>) -> Result<Verdict, Error> {
        if let Some(said) = self.memory().said() {
            return Ok(said);
        }
        let said = match self.call(None, |_| Ok(Request::QueryFastShutdown)) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.into_refusal()?),
        };
        Ok(lock(&self.memory().said).get_or_insert(said).clone())
    }

    fn done(self: &Arc<Self>, request: impl Fn() -> Request) -> Result<(), Error> {
        match self.call(None, |_| Ok(request()))? {
            Reply::Done => Ok(()),
            _ => Err(crate::session::unexpected()),
        }
    }
}
