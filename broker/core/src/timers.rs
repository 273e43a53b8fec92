//! What is to happen later, in order. Nothing is cancelled: who fires looks whether it still matters.

use std::collections::BTreeMap;
use std::time::Duration;

use sundown_protocol::{MemberId, SessionId, SessionTag};

use crate::event::EngineId;
use crate::process::ProcessId;

/// What is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The grace of a shared logoff ends.
    Grace(SessionId),
    /// A logoff has waited long enough.
    Leaving(MemberId),
    /// A memberless session has waited long enough.
    Linger(SessionId),
    /// A provider had time enough to log on.
    Logon(SessionId, usize, u64),
    /// The providers of a closing session had time enough for this phase.
    Closing(SessionId, u32),
    /// A transport that could not be reached is asked again.
    Reach(SessionId, usize),
    /// Something in a store's queue may be due.
    Due(EngineId),
    /// Messages of profiles without a session may have to be given up.
    GiveUp,
    /// A store nobody used for a while.
    Idle(EngineId, u64),
    /// A fast shutdown's sweep does not wait for this kind of provider any more.
    Sweep(u64, usize),
    /// A process is done and has its answer.
    TearDown(ProcessId),
    /// Tokens may have expired.
    Grants,
    /// An end was kept long enough.
    End(SessionTag),
    /// A stopping broker looks whether it is quiet.
    Stop,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Timers {
    waiting: BTreeMap<(Duration, u64), Timer>,
    made: u64,
    armed: Option<Duration>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Duration, timer: Timer) {
        self.made += 1;
        self.waiting.insert((at, self.made), timer);
    }

    /// Takes one timer whose time has come.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Timer> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// The time to arm for, if it is another one than was armed before.
    pub(crate) fn rearm(&mut self) -> Option<Duration> {
        let first = self.waiting.first_key_value().map(|((at, _), _)| *at);
        if first == self.armed {
            return None;
        }
        self.armed = first;
        first
    }

    /// Nothing is to happen any more.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The armed time has come; what was asked for is used up.
    pub(crate) fn fired(&mut self) {
        self.armed = None;
    }
}
