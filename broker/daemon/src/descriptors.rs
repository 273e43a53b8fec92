//! How many descriptors connections may have, and whose.
//!
//! ```text
//! 0 ───── connections of other users ─────┬─ of root and the broker's user ─┬─ stores, deliveries, servers ─ limit
//! ```
//!
//! The system gives the lowest number that is free, so a high one says how many are in use, whatever for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that connections may not have: stores, deliveries and servers that mail goes to need some as long as the broker
/// works, and without them a flood of connections would stop what is under way.
const RESERVE: usize = 128;

/// The descriptors of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptors {
    limit: usize,
}

impl Descriptors {
    /// Raises the limit of descriptors as far as the system allows.
    pub(crate) fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of descriptors stays as it is");
        }
        let now = getrlimit(Resource::Nofile).current;
        Self { limit: now.map_or(usize::MAX, |now| usize::try_from(now).unwrap_or(usize::MAX)) }
    }

    /// Processes that may be watched.
    pub(crate) fn to_watch(self) -> usize {
        self.limit / 2
    }

    /// Connections have numbers below this one. The last eighth is kept for root and the broker's own user, who must get in to see
    /// who has the others.
    pub(crate) fn below(self, is_bound: bool) -> usize {
        let all = self.limit - (self.limit / 4).min(RESERVE);
        if is_bound { all - all / 8 } else { all }
    }

    /// How many connections one user may have, by its quota and by what there is: one that has not said hello has two descriptors, and
    /// at least half are for others.
    pub(crate) fn of_user(self, quota: usize) -> usize {
        quota.min(self.below(true) / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the limit: no user takes what the others need, and all of them leave something for who administers the broker.
    #[test]
    fn nobody_takes_all() {
        for limit in [64, 120, 1_024, 4_096, 65_536, 1_048_576, usize::MAX] {
            let descriptors = Descriptors { limit };
            let (users, all) = (descriptors.below(true), descriptors.below(false));
            assert!(users < all && all < limit, "{limit}: {users}, {all}");
            let one = descriptors.of_user(usize::MAX);
            assert!(one > 4 && 2 * one <= users / 2, "{limit}: {one} of {users}");
        }
        assert_eq!(Descriptors { limit: 65_536 }.of_user(12_288), 12_288, "the default is not cut");
    }
}
