//! Lanes, and the threads that serve them. A lane has a thread while it has calls, and for a little while after them.
//!
//! ```text
//!           a call, there is room                         closed, all calls made
//!  Resting ───────────────────────► Served ─────────────────────────────────────► Ended
//!     │  ◄──────────────────────────  ▲ │
//!     │     no call for LINGER        │ │ another lane waits
//!     │ a call, no room               │ ▼
//!     └───────────────────────────► Waiting
//! ```
//!
//! A thread that has nothing to do hands its worker back and ends, or serves a lane that waits for a thread. So an idle lane
//! costs no thread, and sets no timer.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

/// How long a thread waits for its lane's next call. A lane in use does not pay for a thread's start at each call.
const LINGER: Duration = Duration::from_secs(2);

/// The most threads that serve lanes. The kernel allows a process 65,530 mappings, a thread has up to four, and the standard
/// library aborts a process whose new thread gets none.
const MOST_THREADS: usize = 4_096;

/// What makes a lane's calls. It moves from thread to thread, and is on one at a time.
pub(crate) trait Worker<T>: Send {
    /// Makes this call, and may take more that wait.
    fn serve(&mut self, first: T, calls: &Receiver<T>);
}

/// Whether a call waits when there is no room for a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Wait,
    /// A thread that serves another lane waits for this call: it must not wait for that thread.
    Exceed,
}

/// A call that was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The lane is closed, or its worker has panicked.
    Closed,
    /// No thread could be started.
    NoThread(io::Error),
}

/// Calls of one provider, made one after the other.
pub(crate) struct Lane<T> {
    /// Of its thread.
    name: String,
    calls: Receiver<T>,
    state: Mutex<State<T>>,
    threads: Arc<Threads<T>>,
    /// Called once when nothing of the lane runs any more.
    ended: Box<dyn Fn() + Send + Sync>,
}

struct State<T> {
    /// The way in, until the lane is closed.
    way: Option<Sender<T>>,
    at: At<T>,
}

/// Where a lane's worker is.
enum At<T> {
    Resting(Box<dyn Worker<T>>),
    /// There are calls, but no thread.
    Waiting(Box<dyn Worker<T>>),
    Served,
    Ended,
}

impl<T> State<T> {
    /// The worker of a lane that waits for a thread. Another thread may have taken it.
    fn take_waiting(&mut self) -> Option<Box<dyn Worker<T>>> {
        match std::mem::replace(&mut self.at, At::Served) {
            At::Waiting(worker) => Some(worker),
            other => {
                self.at = other;
                None
            }
        }
    }

    /// No thread was started. A lane that had calls before goes on waiting.
    fn rest(&mut self, had_calls: bool) {
        if !had_calls && let Some(worker) = self.take_waiting() {
            self.at = At::Resting(worker);
        }
    }
}

impl<T: Send + 'static> Lane<T> {
    /// Makes a lane. Its worker may keep the way back to it.
    pub(crate) fn new(
        name: String,
        worker: impl FnOnce(Weak<Self>) -> Box<dyn Worker<T>>,
        threads: &Arc<Threads<T>>,
        ended: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (way, calls) = unbounded();
        Arc::new_cyclic(|lane| {
            let at = At::Resting(worker(lane.clone()));
            let state = Mutex::new(State { way: Some(way), at });
            let (threads, ended) = (Arc::clone(threads), Box::new(ended));
            Self { name, calls, state, threads, ended }
        })
    }

    /// Of its thread.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a call in. Its thread is started if it has none.
    pub(crate) fn send(self: &Arc<Self>, call: T, room: Room) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.way.is_none() || matches!(state.at, At::Ended) {
            return Err(Refused::Closed);
        }
        self.wake(&mut state, room).map_err(Refused::NoThread)?;
        let way = state.way.as_ref().expect("it was looked at above");
        way.send(call).map_err(|_| Refused::Closed)
    }

    /// Lets the worker end when it has made the calls that were put in. One that hangs is left behind.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut state = self.lock();
        state.way = None;
        // The worker is dropped on a thread of its own, because that may close files.
        if self.wake(&mut state, Room::Wait).is_err() {
            drop(state);
            self.end();
        }
    }

    /// Sees to it that the lane has a thread, or waits for one.
    fn wake(self: &Arc<Self>, state: &mut State<T>, room: Room) -> io::Result<()> {
        let worker = match std::mem::replace(&mut state.at, At::Served) {
            At::Resting(worker) => worker,
            At::Waiting(worker) if room == Room::Exceed => worker,
            other => {
                state.at = other;
                return Ok(());
            }
        };
        state.at = At::Waiting(worker);
        if !self.threads.enter(self, room) {
            return Ok(());
        }
        let (lane, threads) = (Arc::clone(self), Arc::clone(&self.threads));
        let builder = thread::Builder::new().name(self.name.clone());
        let started = (self.threads.start)(builder, Box::new(move || threads.run(lane)));
        if let Err(error) = started {
            self.threads.lock().count -= 1;
            state.rest(!self.calls.is_empty());
            return Err(error);
        }
        Ok(())
    }

    /// Makes calls on this thread until there are none.
    fn serve(self: &Arc<Self>) {
        let Some(worker) = self.lock().take_waiting() else { return };
        self.name_thread();
        // What a provider does is caught call by call. A panic here is the worker's own, and ends its lane.
        if catch_unwind(AssertUnwindSafe(|| self.make_calls(worker))).is_err() {
            self.end();
        }
    }

    fn make_calls(self: &Arc<Self>, mut worker: Box<dyn Worker<T>>) {
        loop {
            match self.calls.recv_timeout(self.threads.linger()) {
                Ok(call) => {
                    worker.serve(call, &self.calls);
                    if !self.threads.is_wanted() {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    drop(worker);
                    return self.end();
                }
            }
            match self.hand_back(worker) {
                Some(kept) => worker = kept,
                None => return,
            }
        }
    }

    /// Lets the thread go, unless there is a call to make or the lane was closed. A lane that has calls goes behind the
    /// lanes that wait.
    fn hand_back(self: &Arc<Self>, worker: Box<dyn Worker<T>>) -> Option<Box<dyn Worker<T>>> {
        let mut state = self.lock();
        if !self.calls.is_empty() && self.threads.is_wanted() {
            state.at = At::Waiting(worker);
            let threads = &self.threads;
            threads.wait(&mut threads.lock(), self);
        } else if self.calls.is_empty() && state.way.is_some() {
            state.at = At::Resting(worker);
        } else {
            return Some(worker);
        }
        None
    }

    /// A debugger shows which lane a thread serves, also when it served another one before.
    fn name_thread(&self) {
        #[cfg(target_os = "linux")]
        if thread::current().name() != Some(&self.name)
            && let Ok(name) = std::ffi::CString::new(self.name.as_str())
        {
            let _ = rustix::thread::set_name(&name);
        }
    }

    /// Nothing of the lane runs any more.
    fn end(&self) {
        let mut state = self.lock();
        let at = std::mem::replace(&mut state.at, At::Ended);
        state.way = None;
        drop(state);
        drop(at);
        // What a worker that panicked has left: a transport may wait for it.
        while self.calls.try_recv().is_ok() {}
        (self.ended)();
    }
}

/// Starts a thread.
type Start = fn(thread::Builder, Box<dyn FnOnce() + Send>) -> io::Result<()>;

/// The threads that serve lanes.
pub(crate) struct Threads<T> {
    start: Start,
    most: usize,
    linger: Duration,
    /// Whether a lane waits for a thread. Read at each call, so it has no lock.
    wanted: AtomicBool,
    crowd: Mutex<Crowd<T>>,
}

struct Crowd<T> {
    count: usize,
    waiting: VecDeque<Arc<Lane<T>>>,
}

impl<T> Default for Threads<T> {
    fn default() -> Self {
        Self::new(MOST_THREADS, LINGER, |builder, run| builder.spawn(run).map(drop))
    }
}

impl<T> Threads<T> {
    fn new(most: usize, linger: Duration, start: Start) -> Self {
        let crowd = Mutex::new(Crowd { count: 0, waiting: VecDeque::new() });
        Self { start, most, linger, wanted: AtomicBool::new(false), crowd }
    }

    fn lock(&self) -> MutexGuard<'_, Crowd<T>> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// How long a thread waits for its lane's next call.
    fn linger(&self) -> Duration {
        if self.is_wanted() { Duration::ZERO } else { self.linger }
    }

    /// Whether a thread may be started for this lane now. If not, the lane gets the next thread that is free.
    fn enter(&self, lane: &Arc<Lane<T>>, room: Room) -> bool {
        let mut crowd = self.lock();
        let enters = crowd.count < self.most || room == Room::Exceed;
        if enters {
            crowd.count += 1;
        } else {
            self.wait(&mut crowd, lane);
        }
        enters
    }

    fn wait(&self, crowd: &mut Crowd<T>, lane: &Arc<Lane<T>>) {
        crowd.waiting.push_back(Arc::clone(lane));
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// The lane that a thread serves next. Without one the thread ends.
    fn next(&self) -> Option<Arc<Lane<T>>> {
        let mut crowd = self.lock();
        let next = crowd.waiting.pop_front();
        self.wanted.store(!crowd.waiting.is_empty(), Ordering::Relaxed);
        if next.is_none() {
            crowd.count -= 1;
        }
        next
    }
}

impl<T: Send + 'static> Threads<T> {
    /// What a thread does.
    fn run(&self, lane: Arc<Lane<T>>) {
        let mut next = Some(lane);
        while let Some(lane) = next {
            lane.serve();
            next = self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use std::cell::Cell;
    use std::thread::ThreadId;

    /// Tells what it was called with, and on which thread. Waits before that if it has something to wait for.
    struct Teller {
        told: Sender<(u32, ThreadId)>,
        hold: Option<Receiver<()>>,
    }

    impl Worker<u32> for Teller {
        fn serve(&mut self, first: u32, _: &Receiver<u32>) {
            assert_ne!(first, PANICS, "as the test wants it");
            if let Some(hold) = &self.hold {
                let _ = hold.recv();
            }
            let _ = self.told.send((first, thread::current().id()));
        }
    }

    thread_local! {
        /// Whether this thread can start others.
        static STARTS: Cell<bool> = const { Cell::new(true) };
    }

    fn threads(most: usize, linger: Duration) -> Arc<Threads<u32>> {
        Arc::new(Threads::new(most, linger, |builder, run| {
            if !STARTS.get() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            builder.spawn(run).map(drop)
        }))
    }

    const PANICS: u32 = u32::MAX;
    const LONG: Duration = Duration::from_secs(600);

    type Told = Receiver<(u32, ThreadId)>;

    fn lane(
        threads: &Arc<Threads<u32>>,
        hold: Option<Receiver<()>>,
    ) -> (Arc<Lane<u32>>, Told, Receiver<()>) {
        let (told, tells) = unbounded();
        let (end, ends) = unbounded();
        let worker = Box::new(Teller { told, hold });
        let lane = Lane::new(
            "lane".into(),
            |_| worker,
            threads,
            move || {
                let _ = end.send(());
            },
        );
        (lane, tells, ends)
    }

    fn until_no_thread(threads: &Threads<u32>) {
        while threads.lock().count > 0 {
            thread::yield_now();
        }
    }

    /// A lane that was opened has no thread, and one that was used has none after a while. It works when it is asked again.
    #[test]
    fn a_lane_that_rests_has_no_thread() {
        let threads = threads(8, Duration::ZERO);
        let (lane, tells, ends) = lane(&threads, None);
        assert_eq!(threads.lock().count, 0);
        for n in 0..100 {
            lane.send(n, Room::Wait).expect("taken");
            assert_eq!(tells.recv().expect("a call").0, n);
            until_no_thread(&threads);
            assert!(matches!(lane.lock().at, At::Resting(_)));
        }
        lane.close();
        ends.recv().expect("an end");
        assert!(tells.recv().is_err(), "the worker was dropped");
        assert!(matches!(lane.send(0, Room::Wait), Err(Refused::Closed)));
        assert!(ends.try_recv().is_err(), "it ended twice");
    }

    /// Calls one soon after the other are made on one thread.
    #[test]
    fn a_lane_in_use_keeps_its_thread() {
        let threads = threads(8, LONG);
        let (lane, tells, ends) = lane(&threads, None);
        let mut on = Vec::new();
        for n in 0..100 {
            lane.send(n, Room::Wait).expect("taken");
            on.push(tells.recv().expect("a call").1);
        }
        on.dedup();
        assert_eq!(on.len(), 1);
        lane.close();
        ends.recv().expect("an end");
    }

    /// Calls come while the thread goes, again and again: each is made once, in order.
    #[test]
    fn no_call_is_lost_while_a_thread_goes() {
        let threads = threads(1, Duration::ZERO);
        let lanes: Vec<_> = (0..4).map(|_| lane(&threads, None)).collect();
        for n in 0..2_000 {
            for (lane, ..) in &lanes {
                lane.send(n, Room::Wait).expect("taken");
            }
        }
        for (lane, tells, ends) in &lanes {
            lane.close();
            ends.recv().expect("an end");
            let told: Vec<_> = tells.try_iter().map(|(n, _)| n).collect();
            assert!(told.iter().copied().eq(0..2_000), "{} calls", told.len());
        }
        until_no_thread(&threads);
    }

    /// At the limit a lane waits for a thread, which is given over although its own lane could have more calls.
    #[test]
    fn beyond_the_limit_a_lane_waits_for_a_thread() {
        let threads = threads(1, LONG);
        let (go, hold) = bounded(0);
        let (busy, of_busy, _ends) = lane(&threads, Some(hold));
        let (other, of_other, _ends) = lane(&threads, None);
        busy.send(1, Room::Wait).expect("taken");
        busy.send(2, Room::Wait).expect("taken");
        other.send(3, Room::Wait).expect("taken");
        assert!(matches!(other.lock().at, At::Waiting(_)));
        go.send(()).expect("it waits");
        assert_eq!(of_other.recv().expect("a call").0, 3, "before the second call of the other");
        go.send(()).expect("it waits");
        let of_busy: Vec<_> = of_busy.iter().take(2).map(|(n, _)| n).collect();
        assert_eq!(of_busy, [1, 2]);
    }

    /// What another thread waits for does not wait for that thread.
    #[test]
    fn what_a_thread_waits_for_exceeds_the_limit() {
        let threads = threads(1, LONG);
        let (go, hold) = bounded(0);
        let (busy, _of_busy, _ends) = lane(&threads, Some(hold));
        let (other, of_other, _ends) = lane(&threads, None);
        busy.send(1, Room::Wait).expect("taken");
        other.send(2, Room::Wait).expect("taken");
        other.send(3, Room::Exceed).expect("taken");
        let told: Vec<_> = of_other.iter().take(2).map(|(n, _)| n).collect();
        assert_eq!(told, [2, 3]);
        go.send(()).expect("it waits");
    }

    /// A worker that panics ends its lane, and no other.
    #[test]
    fn a_worker_that_panics_ends_its_lane() {
        let threads = threads(1, Duration::ZERO);
        let (bad, _tells, ends) = lane(&threads, None);
        let (good, tells, _ends) = lane(&threads, None);
        bad.send(PANICS, Room::Wait).expect("taken");
        ends.recv().expect("an end");
        assert!(matches!(bad.send(0, Room::Wait), Err(Refused::Closed)));
        bad.close();
        good.send(1, Room::Wait).expect("taken");
        assert_eq!(tells.recv().expect("a call").0, 1);
        until_no_thread(&threads);
        assert!(ends.try_recv().is_err(), "it ended twice");
    }

    /// A lane that is closed while it rests tells its end, too.
    #[test]
    fn a_lane_that_never_had_a_call_ends() {
        let threads = threads(1, LONG);
        let (lane, tells, ends) = lane(&threads, None);
        lane.close();
        ends.recv().expect("an end");
        assert!(tells.recv().is_err());
        until_no_thread(&threads);
    }

    /// A thread that cannot be started fails the call, and the next call tries again. A lane that is closed ends all the same.
    #[test]
    fn a_thread_that_cannot_be_started_fails_the_call() {
        let threads = threads(1, LONG);
        let (lane, tells, ends) = lane(&threads, None);
        STARTS.set(false);
        assert!(matches!(lane.send(1, Room::Wait), Err(Refused::NoThread(_))));
        assert_eq!(threads.lock().count, 0);
        STARTS.set(true);
        lane.send(2, Room::Wait).expect("taken");
        assert_eq!(tells.recv().expect("a call").0, 2);
        lane.close();
        ends.recv().expect("an end");
        until_no_thread(&threads);
        let (lane, tells, ends) = self::lane(&threads, None);
        STARTS.set(false);
        lane.close();
        ends.try_recv().expect("an end");
        assert!(tells.recv().is_err(), "the worker was dropped");
    }

    /// A call that is refused while others of its lane wait for a thread does not take those away.
    #[test]
    fn calls_that_wait_for_a_thread_stay() {
        let threads = threads(1, LONG);
        let (go, hold) = bounded(0);
        let (busy, _of_busy, _ends) = lane(&threads, Some(hold));
        let (other, of_other, _ends) = lane(&threads, None);
        busy.send(1, Room::Wait).expect("taken");
        other.send(2, Room::Wait).expect("taken");
        STARTS.set(false);
        assert!(matches!(other.send(3, Room::Exceed), Err(Refused::NoThread(_))));
        go.send(()).expect("it waits");
        assert_eq!(of_other.recv().expect("a call").0, 2);
    }
}
