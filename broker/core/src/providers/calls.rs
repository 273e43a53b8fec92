//! A call of a provider, and who made it.

use std::time::Duration;

use sundown_protocol::SessionId;

use crate::ground::event::{Errand, LaneId, ProcessId};
use crate::ground::expected::Expected;
use crate::ground::provider::ProviderCall;
use crate::providers::lanes::Urgency;
use crate::providers::patience::Patience;

/// Whether a call that is lost had reached its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    Yes,
    Never,
}

/// What waited for a call that no provider will answer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Lost<T> {
    pub(crate) then: T,
    pub(crate) called: Called,
    /// The session it was made for.
    pub(crate) session: Option<SessionId>,
}

/// A call that was not answered yet.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Call<T> {
    pub(crate) lane: LaneId,
    pub(crate) session: Option<SessionId>,
    pub(crate) errand: Errand,
    /// What is called.
    pub(crate) name: &'static str,
    /// What it must be answered with.
    pub(crate) expected: Expected,
    /// The call itself and who made it, should it have to be made again.
    pub(crate) again: Option<Box<(Caller, ProviderCall)>>,
    pub(crate) then: T,
    /// When it was made.
    pub(crate) since: Duration,
    pub(crate) waits: Patience,
}

/// Who makes a call: for whom it is logged, and whose turn it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) session: Option<SessionId>,
    pub(crate) process: Option<ProcessId>,
    pub(crate) urgency: Urgency,
}

impl Caller {
    /// The broker itself, for a session.
    pub(crate) fn broker(session: Option<SessionId>) -> Self {
        Self { session, process: None, urgency: Urgency::InTurn }
    }

    /// The same, in front of everything that waits.
    pub(crate) fn first(self) -> Self {
        Self { urgency: Urgency::First, ..self }
    }

    /// The same, behind everything that waits.
    pub(crate) fn last(self) -> Self {
        Self { urgency: Urgency::Last, ..self }
    }
}
