//! A provider call and its caller.

use std::time::Duration;

use sundown_protocol::SessionId;

use crate::ground::event::{Errand, LaneId, ProcessId};
use crate::ground::expected::Expected;
use crate::ground::provider::ProviderCall;
use crate::providers::lanes::Priority;
use crate::providers::patience::Patience;

/// Whether the provider had received a call that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    Yes,
    Never,
}

/// The continuation of a call that no provider will answer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Lost<T> {
    pub(crate) then: T,
    pub(crate) called: Called,
    /// The session for which the call was made.
    pub(crate) session: Option<SessionId>,
}

/// A call that was not answered yet.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Call<T> {
    pub(crate) lane: LaneId,
    pub(crate) session: Option<SessionId>,
    pub(crate) errand: Errand,
    /// The name of the call.
    pub(crate) name: &'static str,
    /// The answer it must get.
    pub(crate) expected: Expected,
    /// The call and its caller, in case it must be made again.
    pub(crate) again: Option<Box<(Caller, ProviderCall)>>,
    pub(crate) then: T,
    /// When it was made.
    pub(crate) since: Duration,
    pub(crate) waits: Patience,
}

/// The caller of a call: for whom it is logged, and in which order it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) session: Option<SessionId>,
    pub(crate) process: Option<ProcessId>,
    pub(crate) priority: Priority,
}

impl Caller {
    /// The broker itself, for a session.
    pub(crate) fn broker(session: Option<SessionId>) -> Self {
        Self { session, process: None, priority: Priority::InTurn }
    }

    /// The same caller, ahead of all waiting calls.
    pub(crate) fn first(self) -> Self {
        Self { priority: Priority::First, ..self }
    }

    /// The same caller, after all waiting calls.
    pub(crate) fn last(self) -> Self {
        Self { priority: Priority::Last, ..self }
    }
}
