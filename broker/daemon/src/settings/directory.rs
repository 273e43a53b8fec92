//! Accounts that the system's directory services know (`getpwnam_r` and its like, by `nsswitch.conf`): LDAP, SSSD, `systemd-homed`.
//!
//! Such a service may hang. So each question has a thread and a deadline, and few questions wait at once.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions that wait for an answer at once, those given up among them: a service that hangs takes no more threads than that.
const MOST: usize = 8;

/// How many wait.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Why it is not known whether there is such an account.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// None came in time.
    Late,
    /// Too many questions wait.
    Busy,
    /// The system said so.
    System(io::Error),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => {
                let seconds = PATIENCE.as_secs();
                write!(f, "the system's directory of accounts did not answer within {seconds} s")
            }
            Self::Busy => f.write_str("the system's directory of accounts does not answer"),
            Self::System(error) => write!(f, "the system's directory of accounts: {error}"),
        }
    }
}

/// Asks, and waits for the answer for a while.
pub(super) fn ask<T: Send + 'static>(
    question: impl FnOnce() -> io::Result<Option<T>> + Send + 'static,
) -> Result<Option<T>, NoAnswer> {
    ask_for(&WAITING, PATIENCE, question)
}

fn ask_for<T: Send + 'static>(
    waiting: &'static AtomicUsize,
    patience: Duration,
    question: impl FnOnce() -> io::Result<Option<T>> + Send + 'static,
) -> Result<Option<T>, NoAnswer> {
    if waiting.fetch_add(1, Ordering::AcqRel) >= MOST {
        waiting.fetch_sub(1, Ordering::AcqRel);
        return Err(NoAnswer::Busy);
    }
    let (sender, answer) = bounded(1);
    let ask = move || {
        let found = question();
        waiting.fetch_sub(1, Ordering::AcqRel);
        // It may have been given up.
        let _ = sender.send(found);
    };
    if let Err(error) = thread::Builder::new().name("accounts".into()).spawn(ask) {
        waiting.fetch_sub(1, Ordering::AcqRel);
        return Err(NoAnswer::System(error));
    }
    match answer.recv_timeout(patience) {
        Ok(found) => found.map_err(NoAnswer::System),
        Err(RecvTimeoutError::Timeout) => Err(NoAnswer::Late),
        Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that hangs is given up, takes no more threads than few, and is asked again when it answers.
    #[test]
    fn a_service_that_hangs_is_given_up() {
        // Other tests ask meanwhile.
        static HERE: AtomicUsize = AtomicUsize::new(0);
        let (go, wait) = crossbeam_channel::unbounded::<()>();
        for _ in 0..MOST {
            let wait = wait.clone();
            let hangs = move || {
                let _ = wait.recv();
                Ok(Some(1))
            };
            assert!(matches!(ask_for(&HERE, Duration::ZERO, hangs), Err(NoAnswer::Late)));
        }
        assert!(matches!(ask_for(&HERE, PATIENCE, || Ok(Some(2))), Err(NoAnswer::Busy)));
        drop(go);
        while HERE.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
        assert!(matches!(ask_for(&HERE, PATIENCE, || Ok(Some(3))), Ok(Some(3))));
        assert!(matches!(ask_for(&HERE, PATIENCE, || Ok(None::<u32>)), Ok(None)));
    }
}
