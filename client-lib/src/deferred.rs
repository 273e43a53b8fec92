//! A session's deferred submissions, kept until they are durable so that they can be repeated.
//!
//! ```text
//!  Asked ──the broker has it──► Accepted ──durable──► gone
//!    └─refused: the caller knows      │  ▲
//!                                     ▼  └ repeated
//!                                   Lost     a store could not keep it; the caller knows by the next flush or logoff
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use sundown_protocol::EntryId;
use sundown_protocol::SubmitKey;

use crate::message::Message;

/// A session's deferred submissions.
#[derive(Default)]
pub(crate) struct Deferred {
    kept: BTreeMap<u128, Kept>,
}

struct Kept {
    submission: Submission,
    stage: Stage,
}

/// A submission, with what its repetition needs.
#[derive(Clone)]
pub(crate) struct Submission {
    /// Kept whatever its size: the broker may lose it until it is durable.
    pub(crate) message: Arc<Message>,
    /// The store, by its place in the profile.
    pub(crate) store: u16,
    /// Makes the repetition harmless.
    pub(crate) key: SubmitKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The broker is asked. The submitting call itself repeats the request if that is necessary.
    Asked,
    /// The broker has the message.
    Accepted,
    /// The broker had the message, and could not store it.
    Lost,
}

impl Deferred {
    /// Adds a submission, before the broker is asked.
    pub(crate) fn begin(&mut self, submission: Submission) {
        let (key, stage) = (submission.key.0, Stage::Asked);
        self.kept.insert(key, Kept { submission, stage });
    }

    /// Notes that the broker has the message. The message may be durable already.
    pub(crate) fn accepted(&mut self, key: SubmitKey) {
        if let Some(kept) = self.kept.get_mut(&key.0) {
            kept.stage = Stage::Accepted;
        }
    }

    /// Removes a submission that is durable, or whose failure the caller knows.
    pub(crate) fn forget(&mut self, key: SubmitKey) {
        self.kept.remove(&key.0);
    }

    /// Removes submissions that are durable.
    pub(crate) fn durable(&mut self, entries: &[EntryId]) {
        for entry in entries {
            self.kept.remove(&entry.record);
        }
    }

    /// Notes that a store could not keep these.
    pub(crate) fn lost(&mut self, entries: &[EntryId]) {
        for entry in entries {
            if let Some(kept) = self.kept.get_mut(&entry.record) {
                kept.stage = Stage::Lost;
            }
        }
    }

    /// Notes that the broker refused the submission with this key.
    pub(crate) fn refused(&mut self, key: SubmitKey) {
        if let Some(kept) = self.kept.get_mut(&key.0) {
            kept.stage = Stage::Lost;
        }
    }

    /// The submissions that a flush or logoff covers if it begins now. Submissions that other threads are making meanwhile are not
    /// covered.
    pub(crate) fn covered(&self) -> Vec<SubmitKey> {
        self.at(Stage::Accepted).map(|kept| kept.submission.key).collect()
    }

    /// The submissions that a store could not keep.
    pub(crate) fn to_repeat(&self) -> Vec<Submission> {
        self.at(Stage::Lost).map(|kept| kept.submission.clone()).collect()
    }

    /// The submissions that must be repeated to another broker.
    pub(crate) fn to_bring_back(&self) -> Vec<Submission> {
        let here = self.kept.values().filter(|kept| kept.stage != Stage::Asked);
        here.map(|kept| kept.submission.clone()).collect()
    }

    /// Removes all submissions: none can be repeated any more.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }

    fn at(&self, stage: Stage) -> impl Iterator<Item = &Kept> {
        self.kept.values().filter(move |kept| kept.stage == stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(key: u128) -> Submission {
        let message = Arc::new(Message::new(key.to_string()));
        Submission { message, store: 0, key: SubmitKey(key) }
    }

    fn entry(key: u128) -> EntryId {
        let mut entry: EntryId = "0".repeat(40).parse().expect("an entry");
        entry.record = key;
        entry
    }

    fn keys(submissions: &[Submission]) -> Vec<u128> {
        submissions.iter().map(|submission| submission.key.0).collect()
    }

    /// Three submissions: asked, accepted and lost.
    fn three() -> Deferred {
        let mut deferred = Deferred::default();
        for key in [1, 2, 3] {
            deferred.begin(submission(key));
        }
        deferred.accepted(SubmitKey(2));
        deferred.accepted(SubmitKey(3));
        deferred.lost(&[entry(3)]);
        deferred
    }

    #[test]
    fn a_flush_is_about_what_was_accepted_before() {
        let mut deferred = three();
        let covered = deferred.covered();
        assert_eq!(covered, [SubmitKey(2)]);
        deferred.begin(submission(4));
        deferred.accepted(SubmitKey(4));
        for key in covered {
            deferred.forget(key);
        }
        assert_eq!(deferred.covered(), [SubmitKey(4)], "another thread's is kept");
    }

    #[test]
    fn what_is_lost_is_repeated_until_it_is_durable() {
        let mut deferred = three();
        assert_eq!(keys(&deferred.to_repeat()), [3]);
        assert_eq!(keys(&deferred.to_bring_back()), [2, 3]);
        deferred.refused(SubmitKey(2));
        assert_eq!(keys(&deferred.to_repeat()), [2, 3]);
        deferred.durable(&[entry(3)]);
        deferred.forget(SubmitKey(2));
        assert!(deferred.to_repeat().is_empty() && deferred.to_bring_back().is_empty());
    }

    #[test]
    fn what_is_durable_before_it_is_answered_is_not_kept() {
        let mut deferred = three();
        deferred.durable(&[entry(1)]);
        deferred.accepted(SubmitKey(1));
        deferred.lost(&[entry(1)]);
        assert_eq!((keys(&deferred.to_bring_back()), deferred.covered().len()), (vec![2, 3], 1));
    }
}
