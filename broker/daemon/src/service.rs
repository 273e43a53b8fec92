//! What a service manager gives a broker, and what it hears from it: the protocol of systemd.
//!
//! It may give the socket (`LISTEN_FDS`). It hears that the socket accepts, that settings are read again, that the end has
//! begun, and from time to time that the loop still turns. Where there is no service manager nobody hears anything.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::platform;

/// A descriptor from a service manager, with the name it has there.
#[derive(Debug)]
pub struct Passed {
    pub(crate) fd: OwnedFd,
    pub(crate) name: String,
}

/// Takes what a service manager has passed to this process, and the variables that say so out of the environment. To be
/// called before anything is opened and before the first thread.
pub fn take_passed() -> io::Result<Vec<Passed>> {
    let taken = platform::take_listen_fds()?;
    Ok(taken.into_iter().map(|(fd, name)| Passed { fd, name }).collect())
}

/// Whoever wants to hear how the broker is.
pub(crate) struct Manager {
    /// How often it wants to hear that the loop turns, and when it must hear it next.
    watchdog: Option<(Duration, Instant)>,
    stopping: bool,
}

impl Manager {
    /// The one that started this process, if one did.
    pub(crate) fn of_this_process() -> Self {
        // Half of the time: one turn that comes late is no reason to be killed.
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let every = every.filter(|every| !every.is_zero());
        Self { watchdog: every.map(|every| (every, Instant::now())), stopping: false }
    }

    /// Settings are being read again. [`ready`](Self::ready) must follow.
    pub(crate) fn reloading(&self) {
        if self.stopping {
            return;
        }
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The socket accepts, and settings are read. A broker that stops is not ready again.
    pub(crate) fn ready(&self, status: &str) {
        if !self.stopping {
            tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
    }

    /// The end has begun. Only the first time is told.
    pub(crate) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            let status = "Stopping: those who leave are served, then providers close";
            tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
        }
    }

    /// When the loop must say that it turns.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.watchdog.map(|(_, next)| next)
    }

    /// Says so, if it is time.
    pub(crate) fn turn(&mut self, now: Instant) {
        if let Some((every, next)) = &mut self.watchdog
            && *next <= now
        {
            *next = now + *every;
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(news: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
