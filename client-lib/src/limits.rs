//! Limits on the calls of a thread: a deadline, and interrupts by other threads.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sundown_protocol::Code;

use crate::error::Error;

/// How soon a call notices an interrupt.
const NOTICE: Duration = Duration::from_millis(20);

thread_local! {
    static LIMITS: RefCell<Limits> = const { RefCell::new(Limits { until: None, interrupts: Vec::new() }) };
}

/// Limits all calls of this library that `calls` makes on this thread to this time together. A call without an answer by then fails
/// with `MAPI_E_TIMEOUT`. The broker may carry out its request all the same, and [`Error::is_outcome_unknown`] says whether that
/// matters. Without a limit a call waits as long as its own description says: for most calls, as long as the broker is there, which
/// answers a minute after a provider should have.
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
    // A limit beyond the clock's range is no limit.
    let until = Instant::now().checked_add(limit);
    let mut limits = Limits::of_this_thread();
    limits.until = match (limits.until, until) {
        // The earlier limit counts.
        (Some(outer), Some(until)) => Some(outer.min(until)),
        (outer, until) => outer.or(until),
    };
    limits.during(calls)
}

/// Lets one thread interrupt the calls of others. Those fail with `MAPI_E_CANCEL` within a moment.
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
    /// Makes an interrupt that has not happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `calls`. The calls of this library that it makes on this thread can be interrupted.
    pub fn during<T>(&self, calls: impl FnOnce() -> T) -> T {
        let mut limits = Limits::of_this_thread();
        limits.interrupts.push(Arc::clone(&self.0));
        limits.during(calls)
    }

    /// Interrupts all these calls, later ones too.
    pub fn interrupt(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The limits on the calls of a thread.
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
        /// Restores the previous limits, also after a panic.
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

    /// Whether there are no limits. Then nothing needs to be checked during a wait.
    pub(crate) fn are_none(&self) -> bool {
        self.until.is_none() && self.interrupts.is_empty()
    }

    /// Fails if the call must give up.
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

    /// When a wait that ends at `until` must pause for a [`check`](Self::check).
    pub(crate) fn next_look(&self, until: Instant) -> Instant {
        let mut next = self.until.map_or(until, |limit| limit.min(until));
        if !self.interrupts.is_empty() {
            next = next.min(Instant::now() + NOTICE);
        }
        next
    }

    /// How long a wait without an end may last before the next [`check`](Self::check).
    pub(crate) fn next_wait(&self) -> Duration {
        let far = Instant::now() + Duration::from_secs(3600);
        self.next_look(far).saturating_duration_since(Instant::now())
    }

    /// `patience`, or the time that is left if that is shorter.
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
