//! Leaving fast (`IMAPIClientShutdown`): for the whole process, over all its sessions with all its brokers.
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

/// Controls the shutdown of this process, with all its sessions, also those with other brokers; any session gives it
/// ([`Session::client_shutdown`](crate::Session::client_shutdown)), and all of them are the same.
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
/// Only the host of a process may call it. A library inside a host, with its own copy of this one, gets
/// `MAPI_E_NO_ACCESS`, unless the host has handed it its key ([`Mapi::host_key`](crate::Mapi::host_key),
/// [`Options::host_key`](crate::Options::host_key)).
#[derive(Debug)]
pub struct ClientShutdown {
    library: Arc<Library>,
}

/// Which way a process took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitPath {
    /// Query, notify, do.
    Fast,
    /// The eight steps: every session was logged off, and the library uninitialized.
    Traditional,
}

impl ExitPath {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Traditional => "traditional",
        }
    }
}

/// What a process remembers of its shutdown, for its life.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// The first answer to a query.
    verdict: Mutex<Option<Verdict>>,
    /// A fast shutdown was done, with every broker.
    done: AtomicBool,
    /// One Do at a time.
    doing: Mutex<()>,
    brokers: Mutex<Vec<(PathBuf, Arc<Memory>)>>,
}

/// What a broker, or all of them, said to a query.
type Verdict = Result<(), Fault>;

/// What a process remembers of one broker, by its socket: also when the broker is another one meanwhile, or the library was
/// uninitialized and is initialized again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    said: Mutex<Option<Verdict>>,
    done: AtomicBool,
    /// The newest ticket: what the next broker believes of this process.
    ticket: Mutex<Option<Ticket>>,
}

/// What this process, and no child of it, remembers.
static PROCESS: Mutex<Option<(u32, Arc<Process>)>> = Mutex::new(None);

impl Process {
    /// This one.
    pub(crate) fn this() -> Arc<Self> {
        let (mut known, pid) = (lock(&PROCESS), std::process::id());
        match &*known {
            Some((of, process)) if *of == pid => Arc::clone(process),
            _ => Arc::clone(&known.insert((pid, Arc::default())).1),
        }
    }

    /// What it remembers of the broker with this socket.
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

    /// The last broker was told.
    pub(crate) fn done(&self) {
        self.done.store(true, Ordering::Release);
    }

    fn verdict(&self) -> Option<Verdict> {
        lock(&self.verdict).clone()
    }

    /// The first verdict holds, also when two were found at the same time.
    fn decide(&self, verdict: Verdict) -> Verdict {
        lock(&self.verdict).get_or_insert(verdict).clone()
    }
}

impl Memory {
    /// Whether a fast shutdown was done with this broker: no call may be made to it any more.
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

    /// Whether every provider of every session of this process supports a fast shutdown, whatever broker it is with.
    /// `MAPI_E_NO_SUPPORT` names those that do not. The first answer holds for the life of the process; an error of another
    /// code, as of a broker that cannot be reached, is none.
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

    /// Tells every provider of every session that the process is going to leave, whatever the answer to the query was. A normal
    /// life may follow. All brokers are told, also after one has failed; the error is the first one's.
    pub fn notify_process_shutdown(&self) -> Result<(), Error> {
        let brokers = self.brokers()?;
        let mut told = Ok(());
        for broker in brokers.iter() {
            let notified = broker.done(|| Request::NotifyProcessShutdown);
            told = told.and(notified.map_err(|error| brokers.blamed(broker, error)));
        }
        told
    }

    /// Leaves: when this returns, everything that this process handed over is durable, its unsaved drafts too, and the
    /// process may be ended in any way. Every call fails with `MAPI_E_NOT_INITIALIZED` from now on, and dropping guards
    /// does nothing.
    ///
    /// When it fails nothing was torn down: `MAPI_E_NO_SUPPORT` without a yes or where the settings forbid it,
    /// `MAPI_E_BUSY` while other processes hold objects of this one and the settings want them waited for,
    /// `MAPI_E_DISK_ERROR`, `MAPI_E_NOT_ENOUGH_DISK` or `MAPI_E_TIMEOUT` when something could not be persisted. Try
    /// again, or log off.
    ///
    /// With several brokers all are asked who were not asked yet, before any is told; then they are told one after the other, in
    /// the order in which the library was initialized with them. Should one fail behind others, what the error says of those
    /// is for good: what they were handed is durable, and their sessions are over. It names the broker that failed, whose
    /// sessions are as they were: try again, which tells nobody twice, or log off from it.
    pub fn do_fast_shutdown(self) -> Result<(), Error> {
        self.try_fast_shutdown()
    }

    pub(crate) fn try_fast_shutdown(&self) -> Result<(), Error> {
        let process = Arc::clone(self.library.process());
        if process.is_done() {
            return Err(left());
        }
        let _one = lock(&process.doing);
        // Who has waited for another one is done with it.
        while !process.is_done() {
            self.do_with_those_here(&process)?;
            // A broker that was come to meanwhile has its turn; otherwise nothing is left.
            mapi::leave_if_all_done(&process);
        }
        Ok(())
    }

    fn do_with_those_here(&self, process: &Process) -> Result<(), Error> {
        let brokers = self.brokers()?;
        let remembered = match process.verdict() {
            Some(Ok(())) => true,
            Some(Err(refused)) => return Err(refused.into()),
            // Its broker says so, or knows of the yes that another copy with the same key was told.
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
                // It is done already: by another way to the same socket, or its answer was lost.
                Err(error) if error.code() == Code::E_NOT_INITIALIZED => broker.check_fork()?,
                Err(error) => return Err(self.after(brokers.blamed(broker, error))),
            }
            broker.memory().done();
        }
        Ok(())
    }

    /// An error of a Do, with what holds of those who were told before.
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

    /// The brokers that this process has to do with, in the order in which it came to them, without those that are done.
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

    /// Whether the process has one broker, and had no other: nothing needs to say which one is meant.
    fn are_one(&self) -> bool {
        self.0.len() == 1 && self.0[0].process().over().is_empty()
    }

    /// A broker's refusal, which says whose it is.
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

/// One refusal of several: it names everybody who refuses.
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
    /// What this broker says to a query, or has said: its verdict on this process. An error is none.
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
