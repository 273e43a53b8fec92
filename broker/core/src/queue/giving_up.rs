//! TODO

use std::collections::BTreeMap;
use std::time::Duration;

use sundown_protocol::SessionId;

/// What is to be given up, of each profile.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct GivingUp {
    /// When the first is, in milliseconds since 1970.
    pub(crate) first: BTreeMap<String, u64>,
    /// The time of the broker's first event.
    pub(crate) began: Option<Duration>,
}

/// What becomes of a message that nobody present may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// It is given up now, by this session.
    GivenUp(SessionId),
    /// It waits, and may be given up then, if that is known here.
    Waits(Option<u64>),
}

#[cfg(test)]
impl GivingUp {
    /// Whether a message of some profile is to be given up.
    pub(crate) fn waits(&self) -> bool {
        // What began is so for the broker's life.
        let Self { first, began: _ } = self;
        !first.is_empty()
    }
}

impl GivingUp {
    /// When the broker began; now, if nothing has happened yet.
    pub(crate) fn began(&self, now: Duration) -> Duration {
        self.began.unwrap_or(now)
    }
}
