//! The time in which a broker in the background must become ready.
//!
//! One that hangs, as on settings of a file server that does not answer, would stay when the program that started it has given up, and
//! each further program would start another one.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// A slow start is no hang: programs wait less.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// A start that is not done.
#[derive(Debug)]
pub struct Starting(Sender<()>);

impl Starting {
    /// From now on this process ends itself unless it is [`ready`](Self::ready) in time.
    pub fn begin() -> Self {
        Self::begin_within(READY_WITHIN, || {
            // The log's thread would not get to it.
            let seconds = READY_WITHIN.as_secs();
            crate::log::say_failure(format_args!("not ready after {seconds} s; ended"));
            std::process::exit(1);
        })
    }

    fn begin_within(limit: Duration, give_up: impl FnOnce() + Send + 'static) -> Self {
        let (ready, readiness) = mpsc::channel();
        thread::spawn(move || {
            if readiness.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                give_up();
            }
        });
        Self(ready)
    }

    /// It is done.
    pub fn ready(self) {
        let _ = self.0.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_hangs_is_given_up_and_one_that_is_done_is_not() {
        let (give_up, given_up) = mpsc::channel::<()>();
        let starting =
            Starting::begin_within(Duration::ZERO, move || give_up.send(()).unwrap_or(()));
        assert_eq!(given_up.recv(), Ok(()));
        drop(starting);

        let (give_up, given_up) = mpsc::channel::<()>();
        let hour = Duration::from_secs(3600);
        Starting::begin_within(hour, move || give_up.send(()).unwrap_or(())).ready();
        assert!(given_up.recv().is_err(), "the thread has ended without it");
    }
}
