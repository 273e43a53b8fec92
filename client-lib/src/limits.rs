//! How long the calls of a thread may take, and who may interrupt them.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sundown_protocol::Code;

use crate::error::Error;

/// How soon a call notices that it was interrupted.
const NOTICE: Duration = Duration::from_millis(20);

thread_local! {
    static LIMITS: RefCell<Limits> = const { RefCell::new(Limits { until: None, interrupts: Vec::new() }) };
}

/// Gives the calls of this library that `calls` makes on this thread so long in all. One that is not answered by then fails with
/// `MAPI_E_TIMEOUT`; what it asked may be done all the same, and
/// [`Error::is_outcome_unknown`] says whether that matters. Without it a call waits as long as its own description says: for
/// most as long as the broker is there, which answers a minute after a provider should have.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn show(mapi: &sundown_client::Mapi) -> Result<(), sundown_client::Error> {
/// let status = sundown_client::within(Duration::from_secs(2), || mapi.status())?;
/// # drop(status);
/// # Ok(())
/// # }
/// ```
pub fn within<T>(limit: Duration, calls: impl FnOnce() -> T) -> T {
    // A limit that no clock reaches is none.
    let until = Instant::now().checked_add(limit);
    let mut limits = Limits::of_this_thread();
    limits.until = match (limits.until, until) {
        // The narrower one counts.
        (Some(outer), Some(until)) => Some(outer.min(until)),
        (outer, until) => outer.or(until),
    };
    limits.during(calls)
}

/// Lets one thread interrupt the calls of others: they fail with `MAPI_E_CANCEL`, within a moment.
///
/// ```no_run
/// # use sundown_client::Interrupt;
/// # fn wait(session: sundown_client::Session) {
/// let interrupt = Interrupt::new();
/// let other = interrupt.clone();
/// std::thread::spawn(move || interrupt.during(|| session.flush()));
/// other.interrupt();
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// One that has not happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// The calls that `calls` makes on this thread can be interrupted by it.
    pub fn during<T>(&self, calls: impl FnOnce() -> T) -> T {
        let mut limits = Limits::of_this_thread();
        limits.interrupts.push(Arc::clone(&self.0));
        limits.during(calls)
    }

    /// Interrupts all of them, those of later too.
    pub fn interrupt(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What holds for the calls of a thread.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    until: Option<Instant>,
    interrupts: Vec<Arc<AtomicBool>>,
}

impl Limits {
    pub(crate) fn of_this_thread() -> Self {
        LIMITS.with_borrow(Clone::clone)
    }

    fn during<T>(self, calls: impl FnOnce() -> T) -> T {
        /// Puts the limits from before back, however it ends.
        struct Before(Option<Limits>);

        impl Drop for Before {
            fn drop(&mut self) {
                if let Some(before) = self.0.take() {
                    LIMITS.set(before);
                }
            }
        }

        let _before = Before(Some(LIMITS.replace(self)));
        calls()
    }

    /// Whether there is any limit: without one nothing needs to be looked at.
    pub(crate) fn are_none(&self) -> bool {
        self.until.is_none() && self.interrupts.is_empty()
    }

    /// Whether a call may go on.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.interrupts.iter().any(|interrupt| interrupt.load(Ordering::Acquire)) {
            return Err(Error::gave_up(Code::E_CANCEL, "the call was interrupted"));
        }
        if self.until.is_some_and(|until| Instant::now() >= until) {
            let message = "the call has taken longer than the program lets it";
            return Err(Error::gave_up(Code::E_TIMEOUT, message));
        }
        Ok(())
    }

    /// The end of a wait that would be over then, as far as it may last before [`check`](Self::check) is asked again.
    pub(crate) fn next_look(&self, until: Instant) -> Instant {
        let mut next = self.until.map_or(until, |limit| limit.min(until));
        if !self.interrupts.is_empty() {
            next = next.min(Instant::now() + NOTICE);
        }
        next
    }

    /// The same of a wait without an end.
    pub(crate) fn next_wait(&self) -> Duration {
        let far = Instant::now() + Duration::from_secs(3600);
        self.next_look(far).saturating_duration_since(Instant::now())
    }

    /// As much of a time as is left.
    pub(crate) fn at_most(&self, patience: Duration) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.until.map_or(patience, |until| patience.min(left(until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Option<Code> {
        Limits::of_this_thread().check().err().map(|error| error.code())
    }

    #[test]
    fn the_narrower_limit_counts_and_each_ends_with_its_calls() {
        assert!(Limits::of_this_thread().are_none());
        within(Duration::MAX, || {
            assert_eq!(code(), None);
            within(Duration::ZERO, || {
                assert_eq!(code(), Some(Code::E_TIMEOUT));
                within(Duration::from_secs(3600), || assert_eq!(code(), Some(Code::E_TIMEOUT)));
            });
            assert_eq!(code(), None);
        });
        let panicked = std::panic::catch_unwind(|| within(Duration::ZERO, || panic!("on purpose")));
        assert!(panicked.is_err() && Limits::of_this_thread().are_none());
    }

    #[test]
    fn an_interrupt_is_for_its_calls_alone() {
        let (one, other) = (Interrupt::new(), Interrupt::new());
        one.during(|| {
            other.interrupt();
            assert_eq!(code(), None);
            other.during(|| assert_eq!(code(), Some(Code::E_CANCEL)));
            one.clone().interrupt();
            assert_eq!(code(), Some(Code::E_CANCEL));
        });
        assert_eq!(code(), None);
    }
}
