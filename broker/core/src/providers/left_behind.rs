//! TODO

use std::collections::BTreeMap;

use sundown_protocol::SessionId;

use crate::ground::event::{CallId, LaneId};
use crate::ground::provider::{Intent, RecipientResult};
use crate::queue::engine::Engine;

/// Workers that were left behind, and what they may still answer.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct LeftBehind {
    /// By the lanes, whose they were: the session and the provider's place in it.
    pub(crate) workers: BTreeMap<LaneId, Option<(SessionId, usize)>>,
    /// Messages that they were handing over.
    pub(crate) awaited: BTreeMap<CallId, Attempt>,
    /// Answers that came, for messages that something else is done with.
    pub(crate) late: Vec<Correction>,
}

/// A message that was being handed over.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Attempt {
    /// The store's number: it may be closed and opened meanwhile.
    pub(crate) store: u32,
    pub(crate) record: u128,
    pub(crate) recipients: Vec<usize>,
    /// The mark of this attempt. Another attempt has another one.
    pub(crate) intent: Intent,
}

/// What became of it is known after all.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Correction {
    pub(crate) attempt: Attempt,
    pub(crate) results: Vec<RecipientResult>,
}

impl LeftBehind {
    /// How many workers of a session's provider there are.
    pub(crate) fn count(&self, view: (SessionId, usize)) -> usize {
        self.workers.values().filter(|of| **of == Some(view)).count()
    }

    /// Checks that no correction waits for a store that is open.
    #[cfg(test)]
    pub(crate) fn check_at_rest<'a>(&self, mut open: impl Iterator<Item = &'a Engine>) {
        let Self { workers: _, awaited: _, late } = self;
        let waits = open.any(|e| late.iter().any(|c| e.uid == Some(c.attempt.store)));
        assert!(!waits, "{late:?}");
    }
}
