//! TODO

use std::collections::BTreeMap;

use sundown_protocol::Code;

use crate::ground::event::{CallId, LaneId};
use crate::ground::provider::{ProviderCall, TransportCall};
use crate::providers::calls::Caller;
use crate::then::Then;

/// What a provider answers that is over: it says so, or it panics.
pub(crate) const OVER: [Code; 3] =
    [Code::E_NOT_INITIALIZED, Code::E_END_OF_SESSION, Code::E_CALL_FAILED];

/// Providers that have got a notice or a Do, and those that are made anew.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Renewals {
    /// Lanes of providers that are doubted.
    pub(crate) doubted: BTreeMap<LaneId, Doubt>,
    /// By that lane, the making of new incarnations.
    pub(crate) renewing: BTreeMap<LaneId, Renewing>,
}

/// A provider that is made anew.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Renewing {
    /// The call that makes it; `None` where its lane was closed already.
    pub(crate) call: Option<CallId>,
    /// What waits for it.
    pub(crate) waiting: Vec<Again>,
}

/// That a provider may be over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doubt {
    /// The lane by which it is made anew: the writer's, of a store.
    pub(crate) by: LaneId,
    /// The newest call when it got the last notice or Do, or answered it: what earlier ones are answered says nothing.
    pub(crate) since: CallId,
}

/// A call that is made again.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Again {
    pub(crate) lane: LaneId,
    pub(crate) caller: Caller,
    pub(crate) call: ProviderCall,
    pub(crate) then: Then,
}

impl Renewals {
    /// Whether a call must be kept until it is answered.
    pub(crate) fn keeps(&self, lane: LaneId, call: &ProviderCall) -> bool {
        if self.doubted.is_empty() || !self.doubted.contains_key(&lane) {
            return false;
        }
        match call {
            // A store is one object for all sessions: the next one finds it as the last one has left it.
            ProviderCall::Logon
            | ProviderCall::Write(_)
            | ProviderCall::Read(_)
            | ProviderCall::Address(_) => true,
            ProviderCall::Transport(call) => match call {
                TransportCall::Prepare(_)
                | TransportCall::Recover { .. }
                | TransportCall::Validate => true,
                TransportCall::Complete { .. } | TransportCall::Cancel { .. } => false,
            },
            ProviderCall::Logoff
            | ProviderCall::Renew
            | ProviderCall::QueryFastShutdown
            | ProviderCall::NotifyProcessShutdown
            | ProviderCall::DoFastShutdown => false,
        }
    }

    /// What goes on when a provider was made anew.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Then> {
        self.renewing.values().flat_map(|r| &r.waiting).map(|again| &again.then)
    }

    /// Checks that nothing waits for a new incarnation, and that what is doubted is open.
    #[cfg(test)]
    pub(crate) fn check_at_rest(&self, is_open: impl Fn(LaneId) -> bool) {
        let Self { doubted, renewing } = self;
        assert!(renewing.is_empty(), "{renewing:?} wait to be made anew");
        let lanes = doubted.iter().flat_map(|(lane, doubt)| [*lane, doubt.by]);
        assert!(lanes.into_iter().all(is_open), "{doubted:?} are doubted and closed");
    }
}
