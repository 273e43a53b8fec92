//! Timers, in order. Each timer has one time, and its owner maintains it: setting it again replaces the time, and the owner's end
//! clears it. So there are never more timers than owners, and no timer fires for an owner that is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use sundown_protocol::{MemberId, SessionId, SessionTag};

use crate::ground::event::{EngineId, ProcessId};
use crate::ground::numbers::NumberMap;

/// A timer and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// The grace of a shared logoff ends.
    Grace(SessionId),
    /// A logoff has waited long enough for what it waits for now.
    Leaving(MemberId),
    /// A memberless session has waited long enough.
    Linger(SessionId),
    /// The provider at this place has had its time to log on.
    Logon(SessionId, usize),
    /// The providers of a closing session have had their time for its phase.
    Closing(SessionId),
    /// A transport that could not be reached is checked again, or has not said whether it works.
    Reach(SessionId, usize),
    /// Something in a store's queue may be due.
    Due(EngineId),
    /// Messages of profiles without a session may have to be given up.
    GiveUp,
    /// A store was not used for a while.
    Idle(EngineId),
    /// The share of a kind of provider in a fast shutdown's sweep is over.
    Sweep(u64),
    /// A process whose Do succeeded has its answer.
    TearDown(ProcessId),
    /// Tokens may have expired.
    Grants,
    /// An end was kept long enough.
    End(SessionTag),
    /// A stopping broker checks whether it is quiet.
    Stop,
}

/// A time, and a number that distinguishes timers with the same time.
type At = (Duration, u64);

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Timers {
    waiting: BTreeMap<At, Timer>,
    set: NumberMap<Timer, At>,
    made: u64,
    armed: Option<Duration>,
}

impl Timers {
    /// Sets a timer to this time alone.
    pub(crate) fn set(&mut self, at: Duration, timer: Timer) {
        self.made += 1;
        let at = (at, self.made);
        if let Some(before) = self.set.insert(timer, at) {
            self.waiting.remove(&before);
        }
        self.waiting.insert(at, timer);
    }

    /// Sets a timer to this time, unless it is set to an earlier one.
    pub(crate) fn set_no_later(&mut self, at: Duration, timer: Timer) {
        if self.set.get(&timer).is_none_or(|(known, _)| at < *known) {
            self.set(at, timer);
        }
    }

    /// Clears a timer.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.set.remove(&timer) {
            self.waiting.remove(&at);
        }
    }

    /// Takes one timer whose time has come.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Timer> {
        let first = self.waiting.first_entry()?;
        let timer = (first.key().0 <= now).then(|| first.remove())?;
        self.set.remove(&timer);
        Some(timer)
    }

    /// The time to arm for, if it differs from the armed one.
    pub(crate) fn rearm(&mut self) -> Option<Duration> {
        let first = self.waiting.first_key_value().map(|((at, _), _)| *at);
        if first == self.armed {
            return None;
        }
        self.armed = first;
        first
    }

    /// Clears all timers.
    pub(crate) fn clear_all(&mut self) {
        self.waiting.clear();
        self.set.clear();
    }

    /// Notes that the armed time has come and is used up.
    pub(crate) fn fired(&mut self) {
        self.armed = None;
    }

    /// Checks that both maps agree, and that the owner of each timer wants it.
    #[cfg(test)]
    pub(crate) fn check(&self, is_wanted: impl Fn(Timer) -> bool) {
        let Self { waiting, set, made: _, armed: _ } = self;
        assert_eq!(waiting.len(), set.len(), "{waiting:?} and {set:?}");
        for (at, timer) in waiting {
            assert_eq!(set.get(timer), Some(at), "{timer:?} has one time");
            assert!(is_wanted(*timer), "{timer:?} is set, and of no use any more");
        }
    }

    /// The number of timers.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// The time of a timer, if it is set.
    pub(crate) fn at(&self, timer: Timer) -> Option<Duration> {
        self.set.get(&timer).map(|(at, _)| *at)
    }

    /// Whether a timer is set.
    #[cfg(test)]
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.set.contains_key(&timer)
    }
}
