//! What the sender of a message has not been told yet of its recipients.
//!
//! ```text
//!  results ─► news ─► an update with a notification ─┬─ stored: told
//!              ▲                                     └─ not stored, or unknown: the same notification again
//! ```
//!
//! A notification that may be stored already is repeated as it is, by its record: the store has it once, and forwards it once.

use crate::ground::provider::{Action, Dsn};

/// What no update has told yet.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Untold {
    /// What became of recipients, by their places.
    news: Vec<(usize, Action)>,
    /// What was in updates that failed.
    again: Vec<Told>,
}

/// What an update tells.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Told {
    pub(crate) news: Vec<(usize, Action)>,
    /// The notification, if the sender wants one.
    pub(crate) notice: Option<Box<Dsn>>,
}

impl Untold {
    /// Notes what became of a recipient.
    pub(crate) fn note(&mut self, place: usize, action: Action) {
        self.news.push((place, action));
    }

    /// Takes what the next update tells again.
    pub(crate) fn take_again(&mut self) -> Option<Told> {
        self.again.pop()
    }

    /// Takes what is new.
    pub(crate) fn take_news(&mut self) -> Vec<(usize, Action)> {
        std::mem::take(&mut self.news)
    }

    /// An update failed: what it told is told again.
    pub(crate) fn repeat(&mut self, told: Told) {
        if !told.news.is_empty() {
            self.again.push(told);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.news.is_empty() && self.again.is_empty()
    }
}
