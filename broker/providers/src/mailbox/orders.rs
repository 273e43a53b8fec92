//! What other threads ask a mailbox's thread for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use sundown_core::provider::{ProviderError, Synced};
use sundown_protocol::Code;

use super::halt::Halt;
use crate::Reply;

/// Those who wait for an answer.
#[derive(Default)]
pub(crate) struct Waiting {
    /// For pending changes to be carried out.
    pub(crate) changed: Vec<Answered>,
    /// For a look at everything.
    pub(crate) looks: Vec<Answered>,
    /// For the bytes of messages.
    pub(crate) fetches: Vec<(u128, Answered)>,
}

/// Somebody who waits for an answer.
pub(crate) type Answered = Reply<Option<Synced>>;

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.looks.is_empty() && self.fetches.is_empty()
    }

    /// Takes over those who came later.
    pub(crate) fn take(&mut self, later: &mut Self) {
        self.changed.append(&mut later.changed);
        self.looks.append(&mut later.looks);
        self.fetches.append(&mut later.fetches);
    }

    pub(crate) fn answer(&mut self, told: &Result<(), ProviderError>) {
        answer(&mut self.changed, told);
        answer(&mut self.looks, told);
        self.answer_fetches(told);
    }

    /// Answers those who wait for bytes, which are not here where nothing failed.
    pub(crate) fn answer_fetches(&mut self, told: &Result<(), ProviderError>) {
        let text = "the message is at the server, and the account is not connected now";
        let error = ProviderError::new(Code::E_OFFLINE, text);
        let error = told.clone().err().unwrap_or(error);
        for (_, reply) in self.fetches.drain(..) {
            reply.send(Err(error.clone()));
        }
    }
}

/// Answers everybody.
pub(crate) fn answer(replies: &mut Vec<Answered>, told: &Result<(), ProviderError>) {
    answer_with(replies, &told.clone().map(|()| None));
}

/// Answers everybody with what was found.
pub(crate) fn answer_with(
    replies: &mut Vec<Answered>,
    told: &Result<Option<Synced>, ProviderError>,
) {
    for reply in replies.drain(..) {
        reply.send(told.clone());
    }
}

/// What the thread is asked for.
#[derive(Default)]
struct Asked {
    /// The store to mirror into, while the mailbox is to watch.
    watch: Option<u32>,
    /// The store that was mirrored into last.
    store: Option<u32>,
    end: bool,
    waiting: Waiting,
    /// Ends the wait for changes of the mailbox.
    waker: Option<Waker>,
    /// The connection to a server, which ends when the thread is to rest: it may be waiting for an answer.
    connection: Option<OwnedFd>,
}

/// What other threads ask a mailbox's thread for. Nobody waits for that thread.
#[derive(Default)]
pub(crate) struct Orders {
    asked: Mutex<Asked>,
    news: Condvar,
    /// Another number ends what the thread is doing.
    epoch: Arc<AtomicU64>,
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, asked: &Asked) {
        self.news.notify_all();
        if let Some(waker) = &asked.waker {
            waker.wake();
        }
    }

    /// Has the thread watch, and mirror into that store.
    pub(crate) fn watch(&self, store: u32) {
        let mut asked = self.lock();
        (asked.watch, asked.store) = (Some(store), Some(store));
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.tell(&asked);
    }

    /// Ends the watch. What was pending before is still carried out.
    pub(crate) fn rest(&self) {
        let mut waiting = {
            let mut asked = self.lock();
            asked.watch = None;
            self.epoch.fetch_add(1, Ordering::SeqCst);
            self.tell(&asked);
            hang_up(&mut asked);
            let Waiting { looks, fetches, .. } = &mut asked.waiting;
            let (looks, fetches) = (std::mem::take(looks), std::mem::take(fetches));
            Waiting { looks, fetches, ..Waiting::default() }
        };
        waiting.answer(&Ok(()));
    }

    /// Ends the thread.
    pub(crate) fn end(&self) {
        let mut waiting = {
            let mut asked = self.lock();
            (asked.watch, asked.end) = (None, true);
            self.epoch.fetch_add(1, Ordering::SeqCst);
            self.tell(&asked);
            hang_up(&mut asked);
            std::mem::take(&mut asked.waiting)
        };
        // What is pending stays in the store: it cannot be carried out now.
        waiting.answer(&Ok(()));
    }

    /// Has pending changes carried out.
    pub(crate) fn changed(&self, reply: Answered) {
        let mut asked = self.lock();
        // A mailbox that has never watched has nothing that could be pending.
        if asked.end || asked.store.is_none() {
            drop(asked);
            return reply.send(Ok(None));
        }
        asked.waiting.changed.push(reply);
        self.tell(&asked);
    }

    /// Has everything looked at.
    pub(crate) fn look(&self, reply: Answered) {
        let mut asked = self.lock();
        if asked.end {
            let text = "the mailbox is logged off";
            drop(asked);
            return reply.send(Err(ProviderError::new(Code::E_NOT_INITIALIZED, text)));
        }
        asked.waiting.looks.push(reply);
        self.tell(&asked);
    }

    /// Has the bytes of a message fetched.
    pub(crate) fn fetch(&self, record: u128, reply: Answered) {
        let mut asked = self.lock();
        if asked.watch.is_none() {
            drop(asked);
            let mut nobody = Waiting::default();
            nobody.fetches.push((record, reply));
            return nobody.answer_fetches(&Ok(()));
        }
        asked.waiting.fetches.push((record, reply));
        self.tell(&asked);
    }

    /// Waits before the thread begins anew. Those who wait are told why.
    pub(crate) fn begin_anew(&self, time: Duration, error: &ProviderError) {
        let until = Instant::now() + time;
        let mut asked = self.lock();
        (asked.waker, asked.connection) = (None, None);
        while !asked.end && Instant::now() < until {
            let mut waiting = std::mem::take(&mut asked.waiting);
            drop(asked);
            waiting.answer(&Err(error.clone()));
            asked = self.lock();
            if asked.waiting.is_empty() && !asked.end {
                let left = until.saturating_duration_since(Instant::now());
                let woken = self.news.wait_timeout(asked, left);
                asked = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Takes over those who wait for what the thread does next.
    pub(crate) fn take_waiting(&self, held: &mut Waiting) {
        held.take(&mut self.lock().waiting);
    }

    /// Leaves those who wait to what the mailbox does next. If it rests by now, looks and fetches are answered, and changes stay.
    pub(crate) fn put_back(&self, mut held: Waiting) {
        let mut asked = self.lock();
        if !asked.end && asked.watch.is_none() {
            asked.waiting.changed.append(&mut held.changed);
        } else if !asked.end {
            return asked.waiting.take(&mut held);
        }
        drop(asked);
        held.answer(&Ok(()));
    }

    /// What ends the wait of the thread from now on; nothing if it does not wait for anything else.
    pub(crate) fn wake_by(&self, waker: Option<Waker>) {
        self.lock().waker = waker;
    }

    /// The connection that ends when the thread is to rest. One that came too late ends at once.
    pub(crate) fn connected(&self, connection: Option<OwnedFd>, leave: &Leave) {
        let mut asked = self.lock();
        asked.connection = connection;
        if leave.go_on().is_err() {
            hang_up(&mut asked);
        }
    }

    /// Waits for something to do: a store to mirror into, or a look while the mailbox rests. Nothing when it ends.
    pub(crate) fn next(&self) -> Option<Order> {
        let mut asked = self.lock();
        loop {
            if asked.end {
                return None;
            }
            let leave = Leave::of(&self.epoch);
            if let Some(store) = asked.watch {
                return Some(Order::Watch(store, leave));
            }
            if let Some(store) = asked.store
                && !asked.waiting.changed.is_empty()
            {
                let changed = std::mem::take(&mut asked.waiting.changed);
                return Some(Order::CarryOut(store, leave, changed));
            }
            if !asked.waiting.looks.is_empty() {
                return Some(Order::Look(leave, std::mem::take(&mut asked.waiting.looks)));
            }
            asked = self.news.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the time of another try, or until somebody asks for something.
    pub(crate) fn pause(&self, time: Duration, leave: &Leave) {
        let asked = self.lock();
        let is_quiet = |asked: &mut Asked| leave.go_on().is_ok() && asked.waiting.is_empty();
        let _ = self.news.wait_timeout_while(asked, time, is_quiet);
    }
}

/// Ends a connection, without a word to the server.
fn hang_up(asked: &mut Asked) {
    if let Some(connection) = asked.connection.take() {
        let _ = rustix::net::shutdown(connection, rustix::net::Shutdown::Both);
    }
}

/// What a thread does next.
pub(crate) enum Order {
    Watch(u32, Leave),
    /// While the mailbox rests.
    CarryOut(u32, Leave, Vec<Answered>),
    /// While the mailbox rests.
    Look(Leave, Vec<Answered>),
}

/// Says whether work is to go on. It ends when the number is another one than at the beginning.
#[derive(Debug, Clone)]
pub(crate) struct Leave {
    epoch: Arc<AtomicU64>,
    begun: u64,
}

impl Leave {
    pub(crate) fn of(epoch: &Arc<AtomicU64>) -> Self {
        Self { epoch: Arc::clone(epoch), begun: epoch.load(Ordering::SeqCst) }
    }

    pub(crate) fn go_on(&self) -> std::result::Result<(), Halt> {
        if self.epoch.load(Ordering::SeqCst) == self.begun { Ok(()) } else { Err(Halt::Told) }
    }
}

/// Ends a wait from another thread.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(made)))
    }

    /// Ends the present wait at once, or else the next one.
    pub(crate) fn wake(&self) {
        // It fails only if it was woken so often that the wait ends anyway.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Waits until it is woken, or so much time has passed.
    pub(crate) fn wait(&self, most: Duration) {
        let mut own = [PollFd::new(&self.0, PollFlags::IN)];
        let most = Timespec::try_from(most).ok();
        // An interrupted wait is a short one.
        let _ = poll(&mut own, most.as_ref());
    }

    /// Whether it was woken since the last time.
    pub(crate) fn was_woken(&self) -> bool {
        rustix::io::read(&*self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
