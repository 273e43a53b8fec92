//! Leaving fast (`IMAPIClientShutdown`): for the whole process, over all its sessions.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use sundown_protocol::request::Request;
use sundown_protocol::{Code, Fault, Reply};

use crate::error::Error;
use crate::mapi::{Library, lock};

/// Controls the shutdown of this process, with all its sessions; any session gives it
/// ([`Session::client_shutdown`](crate::Session::client_shutdown)).
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

/// What a process remembers of its shutdown, for its life: also when the broker is another one meanwhile, or the library
/// was uninitialized and is initialized again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    state: AtomicU8,
    refused: Mutex<Option<Fault>>,
}

const ASKED_YES: u8 = 1;
const DONE: u8 = 2;

/// What this process, and no child of it, remembers of each broker, by its socket.
static MEMORIES: Mutex<Vec<(PathBuf, u32, Arc<Memory>)>> = Mutex::new(Vec::new());

impl Memory {
    /// Of the broker with this socket.
    pub(crate) fn of(socket: &Path) -> Arc<Self> {
        let (mut memories, pid) = (lock(&MEMORIES), std::process::id());
        let found = memories.iter().find(|(path, of, _)| path == socket && *of == pid);
        if let Some((_, _, memory)) = found {
            return Arc::clone(memory);
        }
        let memory = Arc::default();
        memories.push((socket.to_owned(), pid, Arc::clone(&memory)));
        memory
    }

    /// Whether a fast shutdown was done: no call may be made any more.
    pub(crate) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }

    pub(crate) fn done(&self) {
        self.state.store(DONE, Ordering::Release);
    }

    fn yes(&self) -> bool {
        self.state.load(Ordering::Acquire) == ASKED_YES
    }
}

impl ClientShutdown {
    pub(crate) fn new(library: Arc<Library>) -> Self {
        Self { library }
    }

    /// Whether every provider of every session of this process supports a fast shutdown. `MAPI_E_NO_SUPPORT` names those
    /// that do not. The first answer holds for the life of the process.
    pub fn query_fast_shutdown(&self) -> Result<(), Error> {
        let memory = self.library.memory();
        if memory.yes() {
            return self.library.check_alive();
        }
        if let Some(refused) = lock(&memory.refused).clone() {
            self.library.check_alive()?;
            return Err(refused.into());
        }
        match self.library.call_fault(|| Request::QueryFastShutdown)? {
            Ok(_) => {
                let _ = memory.state.compare_exchange(
                    0,
                    ASKED_YES,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                Ok(())
            }
            Err(fault) => {
                if fault.code == Code::E_NO_SUPPORT {
                    *lock(&memory.refused) = Some(fault.clone());
                }
                Err(fault.into())
            }
        }
    }

    /// Tells every provider that the process is going to leave, whatever the answer to the query was. A normal life may
    /// follow.
    pub fn notify_process_shutdown(&self) -> Result<(), Error> {
        self.done(|| Request::NotifyProcessShutdown)
    }

    /// Leaves: when this returns, everything that this process handed over is durable, its unsaved drafts too, and the
    /// process may be ended in any way. Every call fails with `MAPI_E_NOT_INITIALIZED` from now on, and dropping guards
    /// does nothing.
    ///
    /// When it fails nothing was torn down: `MAPI_E_NO_SUPPORT` without a yes or where the settings forbid it,
    /// `MAPI_E_BUSY` while other processes hold objects of this one and the settings want them waited for,
    /// `MAPI_E_DISK_ERROR`, `MAPI_E_NOT_ENOUGH_DISK` or `MAPI_E_TIMEOUT` when something could not be persisted. Try
    /// again, or log off.
    pub fn do_fast_shutdown(self) -> Result<(), Error> {
        self.try_fast_shutdown()
    }

    pub(crate) fn try_fast_shutdown(&self) -> Result<(), Error> {
        let remembered = self.library.memory().yes();
        self.done(|| Request::DoFastShutdown { remembered })?;
        self.library.memory().done();
        Ok(())
    }

    fn done(&self, request: impl Fn() -> Request) -> Result<(), Error> {
        match self.library.call_fault(request)?? {
            Reply::Done => Ok(()),
            _ => Err(crate::session::unexpected()),
        }
    }
}

impl Library {
    /// Asks for something that is about the whole process.
    fn call_fault(
        self: &Arc<Self>,
        request: impl Fn() -> Request,
    ) -> Result<Result<Reply, Fault>, Error> {
        match self.call(None, |_| Ok(request())) {
            Ok(reply) => Ok(Ok(reply)),
            Err(error) => error.into_fault().map(Err),
        }
    }
}
