//! When unsent messages are to be given up, by profile.

use std::collections::BTreeMap;
use std::time::Duration;

use sundown_protocol::SessionId;

/// The next time at which a message of each profile is to be given up.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct GivingUp {
    /// The first of those times, in milliseconds since 1970.
    first: BTreeMap<String, u64>,
    /// The time of the broker's first event.
    began: Option<Duration>,
}

/// What happens to a message that no present session may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// It is given up now, by this session.
    GivenUp(SessionId),
    /// It waits, and may be given up at this time if the time is known.
    Waits(Option<u64>),
}

impl GivingUp {
    /// Notes the time of the broker's first event. Later calls do nothing.
    pub(crate) fn note_begin(&mut self, now: Duration) {
        self.began.get_or_insert(now);
    }

    /// When the broker began; now, if nothing has happened yet.
    pub(crate) fn began(&self, now: Duration) -> Duration {
        self.began.unwrap_or(now)
    }

    /// Notes that a message of a profile is to be given up at this time. Returns whether that is earlier than the known time.
    pub(crate) fn remember(&mut self, profile: &str, at: u64) -> bool {
        let is_earlier = self.first.get(profile).is_none_or(|known| at < *known);
        if is_earlier {
            self.first.insert(profile.to_owned(), at);
        }
        is_earlier
    }

    /// Forgets the times of a profile. Returns whether no profile has any left.
    pub(crate) fn forget(&mut self, profile: &str) -> bool {
        self.first.remove(profile);
        self.first.is_empty()
    }

    /// The wall clock was set back by so many milliseconds: what was so far away is so still.
    pub(crate) fn clock_was_set_back(&mut self, back: u64) {
        self.first.values_mut().for_each(|at| *at = at.saturating_sub(back));
    }

    /// When the first message of all is to be given up.
    pub(crate) fn first(&self) -> Option<u64> {
        self.first.values().min().copied()
    }

    /// Takes the profiles in which messages are to be given up by now.
    pub(crate) fn take_due(&mut self, now: u64) -> Vec<String> {
        let is_due = |at: &u64| *at <= now;
        let due = self.first.iter().filter(|(_, at)| is_due(at));
        let due: Vec<_> = due.map(|(profile, _)| profile.clone()).collect();
        self.first.retain(|_, at| !is_due(at));
        due
    }

    /// Whether a message of some profile is to be given up.
    #[cfg(test)]
    pub(crate) fn waits(&self) -> bool {
        // `began` stays for the broker's life.
        let Self { first, began: _ } = self;
        !first.is_empty()
    }
}
