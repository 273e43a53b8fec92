//! The connection to the broker: one for all calls of a library, made by one thread at a time.
//!
//! ```text
//!             ┌──────────── it failed ───────────┐
//!             ▼                                  │
//!  Off ──a call, an initialization──► Connecting ┴─made─► Up ──lost, with sessions──► Down ──found──► Up
//!   ▲                                                     │                            │
//!   ├──────────────── lost, nothing to bring back ────────┘                            │
//!   └──────────────── given up ────────────────────────────────────────────────────────┘
//!
//!  any ──the broker stops, uninitialized──► Ended ──an initialization──► Connecting ──it failed──► Ended
//! ```
//!
//! Connecting and Down belong to one thread each. That thread holds a guard, which leaves the state even if the thread panics. The
//! result of an attempt counts only while the state still belongs to that attempt: a connection that is made after the end is given
//! back. Calls made meanwhile wait.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

// Shuttle runs the tests of this file in every order of its steps.
#[cfg(test)]
use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(test))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// The state of a library's connection to its broker.
pub(crate) struct Connection<L> {
    state: Mutex<Inner<L>>,
    changed: Condvar,
}

struct Inner<L> {
    state: State<L>,
    /// How many attempts were made. Each attempt has a number of its own.
    attempts: u64,
}

enum State<L> {
    /// There is no connection; the next call makes one.
    Off,
    /// A thread makes the connection.
    Connecting(Attempt),
    Up(Arc<L>),
    /// The connection was lost, and a thread looks for the broker.
    Down(Attempt),
    /// The broker was stopped for good, or the library was uninitialized. Holds the reason.
    Ended(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempt(u64);

/// What wants the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// A call. It fails if the connection has ended.
    Call,
    /// An initialization. It connects anew after the end, and does not wait while a thread looks for the broker.
    Initialization,
}

/// What a thread gets that wants the connection.
pub(crate) enum Turn<'a, L> {
    /// The connection.
    Up(Arc<L>),
    /// The task to connect: no other thread does.
    Connect(Connector<'a, L>),
    /// The connection was lost, and a thread looks for the broker.
    Down,
    /// There will be no connection. Holds the reason.
    Ended(String),
    /// Another thread connects or looks for the broker, and was not done in time.
    TimedOut,
}

/// What follows the loss of a connection.
pub(crate) enum Lost {
    /// There are sessions to bring back: look for the broker until then.
    Look(Instant),
    /// The next call makes another connection.
    Off,
    /// There will be no other connection. Holds the reason.
    Ended(String),
}

impl<L> Default for Connection<L> {
    fn default() -> Self {
        let state = Inner { state: State::Off, attempts: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<L> Connection<L> {
    fn lock(&self) -> MutexGuard<'_, Inner<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        inner: MutexGuard<'a, Inner<L>>,
        patience: Duration,
    ) -> MutexGuard<'a, Inner<L>> {
        self.changed.wait_timeout(inner, patience).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Returns the connection, or the task to make it. A call waits at most until `until` for a thread that connects or looks for
    /// the broker.
    pub(crate) fn turn(&self, wants: Wants, until: Instant) -> Turn<'_, L> {
        let mut inner = self.lock();
        loop {
            let ended = match &inner.state {
                State::Up(link) => return Turn::Up(Arc::clone(link)),
                State::Ended(why) if wants == Wants::Call => return Turn::Ended(why.clone()),
                State::Ended(why) => Some(why.clone()),
                State::Off => None,
                State::Down(_) if wants == Wants::Initialization => return Turn::Down,
                State::Connecting(_) | State::Down(_) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Turn::TimedOut;
                    }
                    inner = self.wait(inner, left);
                    continue;
                }
            };
            let attempt = inner.attempt();
            inner.state = State::Connecting(attempt);
            return Turn::Connect(Connector { connection: self, attempt, ended });
        }
    }

    /// The connection, if there is one at this moment.
    pub(crate) fn up(&self) -> Option<Arc<L>> {
        match &self.lock().state {
            State::Up(link) => Some(Arc::clone(link)),
            State::Off | State::Connecting(_) | State::Down(_) | State::Ended(_) => None,
        }
    }

    /// Whether there is a connection, or may be one soon.
    pub(crate) fn is_used(&self) -> bool {
        match self.lock().state {
            State::Up(_) | State::Connecting(_) | State::Down(_) => true,
            State::Off | State::Ended(_) => false,
        }
    }

    /// Records that a connection has ended. Calls `fate` only if that connection is in use. The caller gets the task to look for
    /// the broker, if `fate` decides that.
    pub(crate) fn lost(&self, link: &Arc<L>, fate: impl FnOnce() -> Lost) -> Option<Seeker<'_, L>> {
        let mut inner = self.lock();
        if !inner.is_up_with(link) {
            return None;
        }
        let mut seeker = None;
        inner.state = match fate() {
            Lost::Off => State::Off,
            Lost::Ended(why) => State::Ended(why),
            Lost::Look(until) => {
                let attempt = inner.attempt();
                seeker = Some(Seeker { connection: self, attempt, until });
                State::Down(attempt)
            }
        };
        drop(inner);
        self.changed.notify_all();
        seeker
    }

    /// Waits until this connection is no longer in use, at most until `until`.
    pub(crate) fn wait_for_another(&self, old: &Arc<L>, until: Instant) {
        let mut inner = self.lock();
        while inner.is_up_with(old) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            inner = self.wait(inner, left);
        }
    }

    /// Ends the connection, whatever its state. Returns the connection that was in use, if there was one.
    pub(crate) fn end(&self, why: &str) -> Option<Arc<L>> {
        let mut inner = self.lock();
        let old = std::mem::replace(&mut inner.state, State::Ended(why.to_owned()));
        drop(inner);
        self.changed.notify_all();
        match old {
            State::Up(link) => Some(link),
            State::Off | State::Connecting(_) | State::Down(_) | State::Ended(_) => None,
        }
    }

    /// Replaces the state, if it still belongs to this attempt. Fails otherwise, with the reason.
    fn finish(&self, attempt: Attempt, next: State<L>) -> Result<(), String> {
        let mut inner = self.lock();
        match &inner.state {
            State::Connecting(now) | State::Down(now) if *now == attempt => {
                inner.state = next;
                drop(inner);
                self.changed.notify_all();
                Ok(())
            }
            State::Ended(why) => Err(why.clone()),
            State::Off | State::Connecting(_) | State::Up(_) | State::Down(_) => {
                Err("another connection is used".into())
            }
        }
    }
}

impl<L> Inner<L> {
    fn attempt(&mut self) -> Attempt {
        self.attempts += 1;
        Attempt(self.attempts)
    }

    fn is_up_with(&self, link: &Arc<L>) -> bool {
        matches!(&self.state, State::Up(now) if Arc::ptr_eq(now, link))
    }
}

/// The task to connect. If it is dropped without a connection it has failed, and the next thread may try.
pub(crate) struct Connector<'a, L> {
    connection: &'a Connection<L>,
    attempt: Attempt,
    /// The reason of the end, if the connection had ended before. It is ended again if this attempt fails.
    ended: Option<String>,
}

impl<L> Connector<'_, L> {
    /// Puts a new connection to use. Fails with the reason if the connection has ended meanwhile.
    pub(crate) fn made(self, link: &Arc<L>) -> Result<(), String> {
        self.connection.finish(self.attempt, State::Up(Arc::clone(link)))
    }
}

impl<L> Drop for Connector<'_, L> {
    fn drop(&mut self) {
        let before = self.ended.take().map_or(State::Off, State::Ended);
        // Changes nothing if the connection was made or has ended.
        let _ = self.connection.finish(self.attempt, before);
    }
}

/// The task to look for the broker. If it is dropped without a connection the search is given up.
pub(crate) struct Seeker<'a, L> {
    connection: &'a Connection<L>,
    attempt: Attempt,
    until: Instant,
}

impl<L> Seeker<'_, L> {
    /// Whether the search is still this task's.
    pub(crate) fn goes_on(&self) -> bool {
        let state = &self.connection.lock().state;
        matches!(state, State::Down(now) if *now == self.attempt)
    }

    /// When to give up.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Puts a connection that was found to use. Fails with the reason if the connection has ended meanwhile.
    pub(crate) fn found(self, link: &Arc<L>) -> Result<(), String> {
        self.connection.finish(self.attempt, State::Up(Arc::clone(link)))
    }

    /// Gives up: the next call makes a connection. Returns whether the search was still this task's.
    pub(crate) fn give_up(self) -> bool {
        self.connection.finish(self.attempt, State::Off).is_ok()
    }
}

impl<L> Drop for Seeker<'_, L> {
    fn drop(&mut self) {
        let _ = self.connection.finish(self.attempt, State::Off);
    }
}

#[cfg(test)]
mod tests {
    use shuttle::sync::atomic::{AtomicUsize, Ordering};
    use shuttle::thread;

    use super::*;

    /// A connection with a number, for tests.
    type Numbered = Connection<usize>;

    /// A time far away: in these tests no thread waits for time to pass.
    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn connector(connection: &Numbered, wants: Wants) -> Connector<'_, usize> {
        match connection.turn(wants, later()) {
            Turn::Connect(connector) => connector,
            _ => panic!("it is the caller's turn"),
        }
    }

    fn up(connection: &Numbered, number: usize) -> Arc<usize> {
        let link = Arc::new(number);
        connector(connection, Wants::Call).made(&link).expect("nobody has ended it");
        link
    }

    fn ended(connection: &Numbered) -> Option<String> {
        match connection.turn(Wants::Call, later()) {
            Turn::Ended(why) => Some(why),
            _ => None,
        }
    }

    /// Tries every order of a few steps.
    fn in_every_order(test: impl Fn() + Send + Sync + 'static) {
        shuttle::check_dfs(test, None);
    }

    /// Tries many orders of more steps.
    fn in_many_orders(test: impl Fn() + Send + Sync + 'static) {
        shuttle::check_random(test, 500);
    }

    #[test]
    fn off_becomes_connecting_and_up() {
        in_every_order(|| {
            let connection = Numbered::default();
            assert!(connection.up().is_none() && !connection.is_used());
            let first = connector(&connection, Wants::Call);
            assert!(connection.up().is_none() && connection.is_used());
            let link = Arc::new(1);
            first.made(&link).expect("nobody has ended it");
            assert_eq!(connection.up().as_deref(), Some(&1));
            assert!(matches!(connection.turn(Wants::Initialization, later()), Turn::Up(_)));
        });
    }

    #[test]
    fn an_attempt_that_fails_leaves_it_off() {
        in_every_order(|| {
            let connection = Numbered::default();
            drop(connector(&connection, Wants::Call));
            assert!(!connection.is_used());
            up(&connection, 2);
        });
    }

    #[test]
    fn whoever_waits_has_the_next_turn() {
        in_every_order(|| {
            let connection = Arc::new(Numbered::default());
            let first = connector(&connection, Wants::Initialization);
            let other = Arc::clone(&connection);
            let waits = thread::spawn(move || {
                let link = Arc::new(2);
                connector(&other, Wants::Initialization).made(&link).expect("it is its turn");
            });
            drop(first);
            waits.join().expect("it went on");
            assert_eq!(connection.up().as_deref(), Some(&2));
        });
    }

    #[test]
    fn one_thread_connects_and_all_use_its_connection() {
        in_many_orders(|| {
            let connection = Arc::new(Numbered::default());
            let made = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = [Wants::Call, Wants::Initialization, Wants::Initialization]
                .into_iter()
                .map(|wants| {
                    let (connection, made) = (Arc::clone(&connection), Arc::clone(&made));
                    thread::spawn(move || match connection.turn(wants, later()) {
                        Turn::Up(link) => *link,
                        Turn::Connect(connector) => {
                            let link = Arc::new(made.fetch_add(1, Ordering::SeqCst));
                            connector.made(&link).expect("nobody has ended it");
                            *link
                        }
                        Turn::Down | Turn::Ended(_) | Turn::TimedOut => unreachable!(),
                    })
                })
                .collect();
            for thread in threads {
                assert_eq!(thread.join().expect("it has one"), 0, "the only one");
            }
            assert_eq!(made.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn what_is_lost_with_sessions_is_looked_for_and_found() {
        in_every_order(|| {
            let connection = Arc::new(Numbered::default());
            let first = up(&connection, 1);
            let other = Arc::clone(&connection);
            let calls = thread::spawn(move || match other.turn(Wants::Call, later()) {
                Turn::Up(link) => *link,
                _ => panic!("a call waits for the next connection"),
            });
            let seeker = connection.lost(&first, || Lost::Look(later())).expect("to look for it");
            assert!(seeker.goes_on() && connection.is_used() && connection.up().is_none());
            assert!(matches!(connection.turn(Wants::Initialization, later()), Turn::Down));
            assert!(connection.lost(&first, || unreachable!("it is known")).is_none());
            seeker.found(&Arc::new(2)).expect("nobody has ended it");
            assert!([1, 2].contains(&calls.join().expect("it has one")));
            assert_eq!(connection.up().as_deref(), Some(&2));
            assert!(connection.lost(&first, || unreachable!("it is an old one")).is_none());
        });
    }

    #[test]
    fn what_is_looked_for_is_given_up() {
        in_every_order(|| {
            for dropped in [false, true] {
                let connection = Arc::new(Numbered::default());
                let first = up(&connection, 1);
                let seeker = connection.lost(&first, || Lost::Look(later())).expect("to look");
                let other = Arc::clone(&connection);
                let calls = thread::spawn(move || up(&other, 2));
                if dropped {
                    drop(seeker);
                } else {
                    assert!(seeker.give_up());
                }
                calls.join().expect("it connects itself");
                assert_eq!(connection.up().as_deref(), Some(&2));
            }
        });
    }

    #[test]
    fn what_is_lost_without_sessions_is_off() {
        in_every_order(|| {
            let connection = Arc::new(Numbered::default());
            let first = up(&connection, 1);
            let (other, old) = (Arc::clone(&connection), Arc::clone(&first));
            let waits = thread::spawn(move || other.wait_for_another(&old, later()));
            assert!(connection.lost(&first, || Lost::Off).is_none());
            waits.join().expect("it was told");
            assert!(!connection.is_used());
            up(&connection, 2);
        });
    }

    #[test]
    fn a_broker_that_stops_ends_it() {
        in_every_order(|| {
            let connection = Numbered::default();
            let first = up(&connection, 1);
            assert!(connection.lost(&first, || Lost::Ended("stopped".into())).is_none());
            assert_eq!(ended(&connection).as_deref(), Some("stopped"));
            assert!(connection.up().is_none() && !connection.is_used());
        });
    }

    #[test]
    fn the_end_wins_over_whatever_is_under_way() {
        in_every_order(|| {
            let connection = Arc::new(Numbered::default());
            let first = connector(&connection, Wants::Call);
            let other = Arc::clone(&connection);
            let ends = thread::spawn(move || other.end("over").map(|link| *link));
            let link = Arc::new(1);
            let made = first.made(&link);
            // The thread that ends the connection gets it, or it was not made: it is never left behind.
            assert_eq!(ends.join().expect("it ends"), made.is_ok().then_some(1));
            assert_eq!(ended(&connection).as_deref(), Some("over"));
            assert!(made.err().is_none_or(|why| why == "over"));
        });
    }

    #[test]
    fn the_end_wins_over_looking() {
        in_every_order(|| {
            let connection = Arc::new(Numbered::default());
            let first = up(&connection, 1);
            let seeker = connection.lost(&first, || Lost::Look(later())).expect("to look");
            let other = Arc::clone(&connection);
            let ends = thread::spawn(move || other.end("over").map(|link| *link));
            let found = seeker.goes_on().then(|| seeker.found(&Arc::new(2)).is_ok());
            assert_eq!(ends.join().expect("it ends"), (found == Some(true)).then_some(2));
            assert_eq!(ended(&connection).as_deref(), Some("over"));
        });
    }

    #[test]
    fn the_end_ends_all_waiting() {
        in_every_order(|| {
            let connection = Arc::new(Numbered::default());
            let first = connector(&connection, Wants::Call);
            let other = Arc::clone(&connection);
            let waits = thread::spawn(move || ended(&other));
            assert!(connection.end("over").is_none());
            assert_eq!(waits.join().expect("it was told").as_deref(), Some("over"));
            drop(first);
            assert_eq!(ended(&connection).as_deref(), Some("over"));
        });
    }

    #[test]
    fn an_initialization_begins_anew() {
        in_every_order(|| {
            let connection = Numbered::default();
            connection.end("stopped");
            drop(connector(&connection, Wants::Initialization));
            assert_eq!(ended(&connection).as_deref(), Some("stopped"), "it failed");
            let link = Arc::new(1);
            connector(&connection, Wants::Initialization).made(&link).expect("it is its turn");
            assert_eq!(connection.up().as_deref(), Some(&1));
        });
    }

    #[test]
    fn nobody_waits_for_longer_than_wanted() {
        in_every_order(|| {
            let connection = Numbered::default();
            let first = connector(&connection, Wants::Call);
            let over = Instant::now();
            assert!(matches!(connection.turn(Wants::Call, over), Turn::TimedOut));
            let link = Arc::new(1);
            first.made(&link).expect("nobody has ended it");
            connection.wait_for_another(&link, over);
        });
    }

    #[test]
    fn many_at_once_leave_nothing_behind() {
        in_many_orders(|| {
            let connection = Arc::new(Numbered::default());
            let live = Arc::new(AtomicUsize::new(0));
            let calls = (0..2).map(|_| {
                let (connection, live) = (Arc::clone(&connection), Arc::clone(&live));
                thread::spawn(move || {
                    if let Turn::Connect(connector) = connection.turn(Wants::Call, later()) {
                        live.fetch_add(1, Ordering::SeqCst);
                        let link = Arc::new(1);
                        if connector.made(&link).is_err() {
                            live.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                })
            });
            let calls: Vec<_> = calls.collect();
            let (other, held) = (Arc::clone(&connection), Arc::clone(&live));
            let loses = thread::spawn(move || {
                let Some(link) = other.up() else { return };
                let Some(seeker) = other.lost(&link, || Lost::Look(later())) else { return };
                if seeker.found(&Arc::new(2)).is_err() {
                    held.fetch_sub(1, Ordering::SeqCst);
                }
            });
            if connection.end("over").is_some() {
                live.fetch_sub(1, Ordering::SeqCst);
            }
            for thread in calls.into_iter().chain([loses]) {
                thread.join().expect("it went on");
            }
            assert_eq!(live.load(Ordering::SeqCst), 0, "each connection was given back once");
            assert_eq!(ended(&connection).as_deref(), Some("over"));
        });
    }
}
