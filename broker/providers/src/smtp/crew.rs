//! The threads that talk to a server, so that the transport's own thread never waits for one.
//!
//! There are as many as there is work for, up to the number of connections. They take work in order; whoever has prepared
//! a message waits with it for the word to hand it over. When the channels close they end: at once if they have nothing
//! to do, and otherwise when their server answers or its time is up.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendError, Sender, bounded, unbounded};
use sundown_core::provider::{AskedBy, ProviderError, RecipientResult, Transmission};
use sundown_protocol::Code;

use super::destinations::Destination;
use super::dial::Dialer;
use super::dots::Dots;
use super::head::ClearHead;
use super::worker::Worker;
use crate::headers::without_bcc;
use crate::{Prepared, Reply, Result, Support};

/// How long an orderly end may take. Who is slower is left behind.
const FAREWELL: Duration = Duration::from_secs(1);

/// The word to hand a prepared message over, with the way back for its answer. If the way for the word closes, the
/// message is to be forgotten.
pub(super) type Word = Reply<Vec<RecipientResult>>;

/// Something to do.
pub(super) enum Job {
    /// Takes a message as far as it goes without handing it over, and waits for the word.
    Send {
        /// The message.
        transmission: Transmission,
        /// The way back for what was prepared.
        reply: Reply<Prepared>,
        /// Where the word comes from.
        word: Receiver<Word>,
        /// Forgets the way for the word when the job is over.
        ticket: Ticket,
    },
    /// Says whether the server can be used.
    Validate(AskedBy, Reply<()>),
}

impl Job {
    fn refuse(self, error: ProviderError) {
        match self {
            Self::Send { reply, .. } => reply.send(Err(error)),
            Self::Validate(_, reply) => reply.send(Err(error)),
        }
    }
}

/// What the threads of a transport have in common.
pub(super) struct Shared {
    /// Makes connections.
    pub(super) dialer: Arc<Dialer>,
    /// Allows them.
    pub(super) destination: Arc<Destination>,
    /// Knows which messages' ends have begun.
    pub(super) dots: Arc<Dots>,
    support: Arc<dyn Support>,
    words: Mutex<HashMap<u64, (u64, Sender<Word>)>>,
    /// Jobs that are not done.
    load: AtomicUsize,
}

impl Shared {
    /// Reads a message from its store, as it is to go out.
    pub(super) fn read_message<T>(
        &self,
        transmission: &Transmission,
        use_it: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T> {
        let mut store = self.support.store(transmission.store)?;
        let message = store.open(transmission.record)?;
        Ok(use_it(&mut ClearHead::new(&mut without_bcc(message))))
    }

    /// One job is done.
    pub(super) fn done(&self) {
        self.load.fetch_sub(1, Ordering::SeqCst);
    }

    fn words(&self) -> MutexGuard<'_, HashMap<u64, (u64, Sender<Word>)>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one job among those that wait for a word.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    id: u64,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut words = self.shared.words();
        // The same message may have been prepared again meanwhile.
        if words.get(&self.id).is_some_and(|(number, _)| *number == self.number) {
            words.remove(&self.id);
        }
    }
}

/// The threads of one transport of one session.
pub(super) struct Crew {
    name: String,
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    /// Closes when the session is over.
    session: Sender<Infallible>,
    over: Receiver<Infallible>,
    /// Closes when all threads have ended.
    alive: Sender<Infallible>,
    ended: Receiver<Infallible>,
    threads: usize,
    last_number: u64,
}

impl Crew {
    /// A crew without threads.
    pub(super) fn new(
        name: &str,
        dialer: Arc<Dialer>,
        destination: Arc<Destination>,
        dots: Arc<Dots>,
        support: Arc<dyn Support>,
    ) -> Self {
        let (words, load) = (Mutex::default(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { dialer, destination, dots, support, words, load });
        let (jobs, queue) = unbounded();
        let (session, over) = bounded(0);
        let (alive, ended) = bounded(0);
        let (name, threads, last_number) = (name.to_owned(), 0, 0);
        Self { name, shared, jobs, queue, session, over, alive, ended, threads, last_number }
    }

    /// Has a message prepared.
    pub(super) fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>) {
        let (id, (sender, word)) = (transmission.id, bounded(1));
        self.last_number += 1;
        let number = self.last_number;
        self.shared.words().insert(id, (number, sender));
        let ticket = Ticket { shared: self.shared.clone(), id, number };
        self.give(Job::Send { transmission, reply, word, ticket });
    }

    /// Gives the word to hand a prepared message over; gives it back if nobody waits for it.
    pub(super) fn complete(&self, id: u64, word: Word) -> std::result::Result<(), Word> {
        let waiting = self.shared.words().remove(&id);
        let Some((_, sender)) = waiting else { return Err(word) };
        sender.send(word).map_err(SendError::into_inner)
    }

    /// Has a prepared message forgotten.
    pub(super) fn cancel(&self, id: u64) {
        self.shared.words().remove(&id);
    }

    /// Has the settings tried out.
    pub(super) fn validate(&mut self, asked_by: AskedBy, reply: Reply<()>) {
        self.give(Job::Validate(asked_by, reply));
    }

    /// Ends the session: what waits for a word is forgotten, what is being handed over is not.
    pub(super) fn close(self, patience: Patience) {
        let Self { shared, jobs, queue, session, alive, ended, .. } = self;
        shared.words().clear();
        drop((jobs, queue, session, alive));
        shared.destination.stir();
        if patience == Patience::Short {
            let _ = ended.recv_timeout(FAREWELL);
        }
    }

    fn give(&mut self, job: Job) {
        let load = self.shared.load.fetch_add(1, Ordering::SeqCst) + 1;
        let most = self.shared.dialer.settings.connections;
        if self.threads < load.min(most)
            && let Err(error) = self.hire()
            && self.threads == 0
        {
            self.shared.done();
            let text = format!("no thread for transport {}: {error}", self.name);
            return job.refuse(ProviderError::new(Code::E_NOT_ENOUGH_RESOURCES, text));
        }
        // Cannot fail: this side has a receiver too.
        let _ = self.jobs.send(job);
    }

    fn hire(&mut self) -> std::io::Result<()> {
        let worker = Worker::new(self.shared.clone(), self.queue.clone(), self.over.clone());
        let alive = self.alive.clone();
        let name = format!("smtp {}", self.name);
        thread::Builder::new().name(name).spawn(move || {
            worker.run();
            drop(alive);
        })?;
        self.threads += 1;
        Ok(())
    }
}

/// Whether to wait for an orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// A little.
    Short,
    /// Not at all.
    None,
}
