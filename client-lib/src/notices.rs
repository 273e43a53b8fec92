//! The queue of the thread that calls sinks. It is bounded, however slow a sink is.
//!
//! ```text
//!  ordinary ones ──room──► in their turn
//!       └─none─► counted ──room again──► one that says how many were missed, in their place
//!  the end of a session, the loss of a reference, …  always in their turn: there are only so many of them
//! ```

use std::collections::VecDeque;
use std::sync::PoisonError;

// Shuttle runs the tests of this file in every order of its steps.
#[cfg(test)]
use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(test))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// How many ordinary notices may wait for the sinks of a library.
pub(crate) const ROOM: usize = 4_096;

/// A notice that may wait in the queue.
pub(crate) trait Waits: Sized {
    /// The receiver of a notice.
    type Whom: PartialEq;

    /// The receiver that may miss this notice, and how many notices it stands for. `None` if it must not be missed.
    fn may_be_missed_by(&self) -> Option<(Self::Whom, u64)>;

    /// Makes the notice that says how many were missed.
    fn missed(whom: Self::Whom, missed: u64) -> Self;

    /// Merges a later notice that repeats this one. Returns whether it did.
    fn takes_in(&mut self, later: &Self) -> bool;
}

/// The waiting notices, in the order in which they came.
pub(crate) struct Notices<T: Waits> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
    room: usize,
}

struct Inner<T: Waits> {
    waiting: VecDeque<T>,
    /// How many of the waiting notices may be missed.
    ordinary: usize,
    /// How many notices each receiver misses.
    missed: Vec<(T::Whom, u64)>,
    closed: bool,
}

impl<T: Waits> Notices<T> {
    pub(crate) fn new(room: usize) -> Self {
        let (waiting, missed) = (VecDeque::new(), Vec::new());
        let inner = Inner { waiting, ordinary: 0, missed, closed: false };
        Self { inner: Mutex::new(inner), changed: Condvar::new(), room }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a notice. It does not block.
    pub(crate) fn push(&self, notice: T) {
        let mut inner = self.lock();
        match notice.may_be_missed_by() {
            // Once a notice is missed, later ones are missed too until the receiver is told: that notice stands in their place.
            Some((whom, count)) if !inner.has_room(self.room) || inner.misses(&whom) => {
                return inner.miss(whom, count);
            }
            Some(_) => inner.ordinary += 1,
            None if inner.waiting.iter_mut().any(|earlier| earlier.takes_in(&notice)) => return,
            None => {}
        }
        inner.waiting.push_back(notice);
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits for the next notice and takes it; `None` once the queue is closed and empty.
    pub(crate) fn next(&self) -> Option<T> {
        let mut inner = self.lock();
        loop {
            if let Some(notice) = inner.waiting.pop_front() {
                inner.ordinary -= usize::from(notice.may_be_missed_by().is_some());
                inner.say_what_was_missed(self.room / 2);
                return Some(notice);
            }
            if inner.closed {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes the queue: no notice comes after this.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

impl<T: Waits> Inner<T> {
    fn has_room(&self, room: usize) -> bool {
        self.ordinary < room
    }

    fn misses(&self, whom: &T::Whom) -> bool {
        self.missed.iter().any(|(other, _)| other == whom)
    }

    fn miss(&mut self, whom: T::Whom, count: u64) {
        match self.missed.iter_mut().find(|(other, _)| *other == whom) {
            Some((_, missed)) => *missed += count,
            None => self.missed.push((whom, count)),
        }
    }

    /// Queues what each receiver misses, if the queue has this much room.
    fn say_what_was_missed(&mut self, room: usize) {
        if !self.has_room(room.max(1)) {
            return;
        }
        for (whom, missed) in self.missed.drain(..) {
            let notice = T::missed(whom, missed);
            self.ordinary += usize::from(notice.may_be_missed_by().is_some());
            self.waiting.push_back(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shuttle::thread;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Told {
        Ordinary(u8, u64),
        Missed(u8, u64),
        Always(u64),
        Again(u64),
    }

    impl Waits for Told {
        type Whom = u8;

        fn may_be_missed_by(&self) -> Option<(u8, u64)> {
            match self {
                Self::Ordinary(whom, _) => Some((*whom, 1)),
                Self::Missed(whom, missed) => Some((*whom, *missed)),
                Self::Always(_) | Self::Again(_) => None,
            }
        }

        fn missed(whom: u8, missed: u64) -> Self {
            Self::Missed(whom, missed)
        }

        fn takes_in(&mut self, later: &Self) -> bool {
            match (self, later) {
                (Self::Again(sum), Self::Again(more)) => {
                    *sum += more;
                    true
                }
                _ => false,
            }
        }
    }

    fn all(notices: &Notices<Told>) -> Vec<Told> {
        notices.close();
        std::iter::from_fn(|| notices.next()).collect()
    }

    #[test]
    fn what_has_no_room_is_counted_and_said_in_its_place() {
        shuttle::check_dfs(
            || {
                let notices = Notices::new(4);
                for n in 0..9 {
                    notices.push(Told::Ordinary(1, n));
                }
                notices.push(Told::Missed(1, 10));
                notices.push(Told::Ordinary(2, 0));
                assert_eq!(notices.next(), Some(Told::Ordinary(1, 0)));
                // There is room, and what comes behind a missed notice is missed with it.
                notices.push(Told::Ordinary(1, 9));
                for n in 1..3 {
                    assert_eq!(notices.next(), Some(Told::Ordinary(1, n)));
                }
                notices.push(Told::Ordinary(1, 10));
                let rest = [
                    Told::Ordinary(1, 3),
                    Told::Missed(1, 16),
                    Told::Missed(2, 1),
                    Told::Ordinary(1, 10),
                ];
                assert_eq!(all(&notices), rest);
            },
            None,
        );
    }

    #[test]
    fn what_must_be_told_is_told() {
        shuttle::check_dfs(
            || {
                let notices = Notices::new(1);
                for n in 0..3 {
                    notices.push(Told::Ordinary(1, n));
                    notices.push(Told::Always(n));
                    notices.push(Told::Again(1));
                }
                let expected = [
                    Told::Ordinary(1, 0),
                    Told::Always(0),
                    Told::Again(3),
                    Told::Always(1),
                    Told::Always(2),
                    Told::Missed(1, 2),
                ];
                assert_eq!(all(&notices), expected);
            },
            None,
        );
    }

    #[test]
    fn it_is_woken_by_a_notice_and_by_the_end() {
        shuttle::check_dfs(
            || {
                let notices = Arc::new(Notices::new(2));
                let other = Arc::clone(&notices);
                let tells = thread::spawn(move || std::iter::from_fn(|| other.next()).count());
                notices.push(Told::Ordinary(1, 0));
                notices.push(Told::Always(0));
                notices.close();
                assert_eq!(tells.join().expect("it ended"), 2);
            },
            None,
        );
    }

    #[test]
    fn nothing_is_told_out_of_order_or_twice() {
        shuttle::check_random(
            || {
                let notices = Arc::new(Notices::new(2));
                let other = Arc::clone(&notices);
                let tells =
                    thread::spawn(move || std::iter::from_fn(|| other.next()).collect::<Vec<_>>());
                for n in 0..6 {
                    notices.push(Told::Ordinary(1, n));
                }
                notices.close();
                let mut expected = 0;
                for told in tells.join().expect("it ended") {
                    match told {
                        Told::Ordinary(_, n) => {
                            assert_eq!(n, expected);
                            expected += 1;
                        }
                        Told::Missed(_, missed) => expected += missed,
                        Told::Always(_) | Told::Again(_) => unreachable!("nobody pushed one"),
                    }
                }
                assert_eq!(expected, 6, "each is told or counted");
            },
            500,
        );
    }
}
