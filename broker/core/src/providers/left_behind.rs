//! Workers that were left behind because they hang, and the late answers they may still give.

use std::collections::BTreeMap;

use sundown_protocol::{Code, SessionId};

use crate::ground::event::{CallId, LaneId};
use crate::ground::provider::{Intent, ProviderError, RecipientResult};

/// The most workers of one provider of a session that may be left behind before it is disabled.
const MOST: usize = 3;

/// The most workers of all providers that may be left behind before no session starts any more.
const MOST_IN_ALL: usize = 256;

/// The most late answers that are awaited, and the most corrections that wait. Beyond that the oldest are forgotten, and the
/// outcome of their messages stays unknown.
const AWAITED: usize = 4_096;

/// The view a worker belongs to: the session, and the provider's place in it.
pub(crate) type View = (SessionId, usize);

/// Workers that were left behind, and what they may still answer.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct LeftBehind {
    /// By lane, the view each worker belonged to.
    workers: BTreeMap<LaneId, Option<View>>,
    /// Messages that they were handing over.
    awaited: BTreeMap<CallId, Attempt>,
    /// Late answers about messages that are busy.
    late: Vec<Correction>,
}

/// A message that was being handed over.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Attempt {
    /// The store's number, because the store may be closed and opened meanwhile.
    pub(crate) store: u32,
    pub(crate) record: u128,
    pub(crate) recipients: Vec<usize>,
    /// The mark of this attempt. Another attempt has another mark.
    pub(crate) intent: Intent,
}

/// The outcome of an attempt that became known late.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Correction {
    pub(crate) attempt: Attempt,
    pub(crate) results: Vec<RecipientResult>,
}

impl LeftBehind {
    /// Records a provider's worker that hangs and is no longer used.
    pub(crate) fn leave(&mut self, lane: LaneId, view: View) {
        self.workers.insert(lane, Some(view));
    }

    /// Records a call that the worker of a closed lane has begun. Its answer about a message is still useful.
    pub(crate) fn leave_call(&mut self, lane: LaneId, call: CallId, attempt: Option<Attempt>) {
        self.workers.entry(lane).or_insert(None);
        if let Some(attempt) = attempt {
            self.awaited.insert(call, attempt);
        }
        if self.awaited.len() > AWAITED {
            self.awaited.pop_first();
        }
    }

    /// Whether a worker of this view is still there.
    pub(crate) fn has(&self, view: View) -> bool {
        self.workers.values().any(|of| *of == Some(view))
    }

    /// Forgets a worker whose thread has ended. Returns its view, if it was recorded for one.
    pub(crate) fn ended(&mut self, lane: LaneId) -> Option<View> {
        self.workers.remove(&lane).flatten()
    }

    /// The attempt of a call that is answered late.
    pub(crate) fn answered(&mut self, call: CallId) -> Option<Attempt> {
        self.awaited.remove(&call)
    }

    /// Keeps a correction until its message is free.
    pub(crate) fn wait(&mut self, correction: Correction) {
        self.late.push(correction);
        if self.late.len() > AWAITED {
            self.late.remove(0);
        }
    }

    pub(crate) fn has_corrections(&self) -> bool {
        !self.late.is_empty()
    }

    /// Takes the corrections that wait for messages of a store.
    pub(crate) fn corrections_of(&mut self, store: Option<u32>) -> Vec<Correction> {
        self.late.extract_if(.., |c| Some(c.attempt.store) == store).collect()
    }

    /// Whether a provider may have one more worker.
    pub(crate) fn check(&self, view: View) -> Result<(), ProviderError> {
        let left = self.workers.values().filter(|of| **of == Some(view)).count();
        if left < MOST {
            return Ok(());
        }
        let message = format!(
            "it does not answer: {left} of its workers hang; it is tried again when one of them has ended"
        );
        Err(ProviderError::new(Code::E_TIMEOUT, message))
    }

    /// Whether another session may have workers.
    pub(crate) fn check_all(&self) -> Result<(), ProviderError> {
        let left = self.workers.len();
        if left < MOST_IN_ALL {
            return Ok(());
        }
        let message = format!(
            "{left} workers of providers hang, and no more are begun; the log names the providers; a restart of the broker ends them"
        );
        Err(ProviderError::new(Code::E_NOT_ENOUGH_RESOURCES, message))
    }

    /// Checks that no correction waits for a store that is open.
    #[cfg(test)]
    pub(crate) fn check_at_rest(&self, is_open: impl Fn(u32) -> bool) {
        let Self { workers: _, awaited: _, late } = self;
        assert!(!late.iter().any(|c| is_open(c.attempt.store)), "{late:?}");
    }
}
