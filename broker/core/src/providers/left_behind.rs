//! Workers that were left behind because they hang, and what they may still answer.

use std::collections::BTreeMap;

use sundown_protocol::{Code, SessionId};

use crate::ground::event::{CallId, LaneId};
use crate::ground::provider::{Intent, ProviderError, RecipientResult};

/// Workers of one provider of a session that are left behind before it is out.
const MOST: usize = 3;

/// Workers of all providers that are left behind before no session starts any more.
const MOST_IN_ALL: usize = 256;

/// Late answers that are awaited, and corrections that wait. Of more the oldest are forgotten: their messages stay unknown.
const AWAITED: usize = 4_096;

/// Whose a worker is: the session, and the provider's place in it.
pub(crate) type View = (SessionId, usize);

/// Workers that were left behind, and what they may still answer.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct LeftBehind {
    /// By the lanes, whose they were.
    workers: BTreeMap<LaneId, Option<View>>,
    /// Messages that they were handing over.
    awaited: BTreeMap<CallId, Attempt>,
    /// Answers that came, for messages that something else is done with.
    late: Vec<Correction>,
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
    /// A provider's worker hangs, and is used no more.
    pub(crate) fn leave(&mut self, lane: LaneId, view: View) {
        self.workers.insert(lane, Some(view));
    }

    /// A lane is closed, and its worker has begun a call of it. What that says of a message is of use also later.
    pub(crate) fn leave_call(&mut self, lane: LaneId, call: CallId, attempt: Option<Attempt>) {
        self.workers.entry(lane).or_insert(None);
        if let Some(attempt) = attempt {
            self.awaited.insert(call, attempt);
        }
        if self.awaited.len() > AWAITED {
            self.awaited.pop_first();
        }
    }

    /// A worker's thread has ended. Whose it was, if that is still to be had.
    pub(crate) fn ended(&mut self, lane: LaneId) -> Option<View> {
        self.workers.remove(&lane).flatten()
    }

    /// What a call was handing over that is answered late.
    pub(crate) fn answered(&mut self, call: CallId) -> Option<Attempt> {
        self.awaited.remove(&call)
    }

    /// A correction waits for its message.
    pub(crate) fn wait(&mut self, correction: Correction) {
        self.late.push(correction);
        if self.late.len() > AWAITED {
            self.late.remove(0);
        }
    }

    pub(crate) fn has_corrections(&self) -> bool {
        !self.late.is_empty()
    }

    /// The corrections that wait for messages of a store.
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
