//! Which providers are in doubt, and what waits for their renewal.
//!
//! ```text
//!  sound ──gets a Do or a notice──► doubted ──has answered that, and anything else──► sound
//!                          ▲      └──says that it is over──► renewing ──logged on again──► sound
//!                          └─────────────could not be renewed───┘
//! ```
//!
//! While a provider is in doubt, its calls are kept until they are answered, except those that must not be made twice. A call that
//! the provider answers with one of [`OVER`] waits until the worker has renewed the provider, and is made again.

use std::collections::BTreeMap;

use sundown_protocol::Code;

use crate::ground::event::{CallId, LaneId};
use crate::ground::provider::{ProviderCall, ProviderError, Scope, TransportCall};
use crate::providers::calls::Caller;

/// The codes of a provider that is shut down: it says so, or it panics.
const OVER: [Code; 3] = [Code::E_NOT_INITIALIZED, Code::E_END_OF_SESSION, Code::E_CALL_FAILED];

/// Providers that got a notice or a Do, and providers that are being renewed.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Doubts<T> {
    /// Lanes of providers in doubt.
    doubted: BTreeMap<LaneId, Doubt>,
    /// Renewals in progress, by the lane that makes them.
    renewing: BTreeMap<LaneId, Renewing<T>>,
}

/// A provider that is being renewed.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Renewing<T> {
    /// The renewal call; `None` if its lane was closed already.
    call: Option<CallId>,
    /// Calls that wait for the renewal.
    waiting: Vec<Again<T>>,
}

/// The doubt whether a provider is shut down.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// The lane by which it is renewed: for a store, the writer's.
    by: LaneId,
    /// The newest call when the provider got the last notice or Do, or answered it. The answers to earlier calls say nothing.
    since: CallId,
}

/// A call that is made again.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Again<T> {
    pub(crate) lane: LaneId,
    pub(crate) caller: Caller,
    pub(crate) call: ProviderCall,
    pub(crate) then: T,
}

/// What an answer says of its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Answers,
    /// It works after its notice or Do, unless another one is in progress. The lane is the one that would renew it.
    Sound(LaneId),
    /// It is shut down, and is renewed by this lane.
    Over(LaneId),
}

impl<T> Default for Doubts<T> {
    fn default() -> Self {
        Self { doubted: BTreeMap::new(), renewing: BTreeMap::new() }
    }
}

impl<T> Doubts<T> {
    /// Puts a provider with these lanes in doubt, because it gets a notice or a Do or has answered it. `by` is the lane by which it
    /// is renewed.
    pub(crate) fn doubt(&mut self, by: LaneId, reader: Option<LaneId>, since: CallId) {
        let lanes = [by].into_iter().chain(reader);
        self.doubted.extend(lanes.map(|lane| (lane, Doubt { by, since })));
    }

    /// Whether a call must be kept until it is answered.
    pub(crate) fn keeps(&self, lane: LaneId, call: &ProviderCall) -> bool {
        if self.doubted.is_empty() || !self.doubted.contains_key(&lane) {
            return false;
        }
        match call {
            // A store is one object for all sessions: the next session finds it as the last one has left it.
            ProviderCall::Logon
            | ProviderCall::Write(_)
            | ProviderCall::Read(_)
            | ProviderCall::Address(_)
            | ProviderCall::Mailbox(_) => true,
            ProviderCall::Transport(call) => match call {
                TransportCall::Prepare(_)
                | TransportCall::Recover { .. }
                | TransportCall::Validate(_) => true,
                TransportCall::Complete { .. } | TransportCall::Cancel { .. } => false,
            },
            ProviderCall::Logoff
            | ProviderCall::Renew
            | ProviderCall::QueryFastShutdown
            | ProviderCall::NotifyProcessShutdown
            | ProviderCall::DoFastShutdown => false,
        }
    }

    /// Judges the provider by the answer to a call. A store whose files are lost is never renewed: a new object would open other
    /// files than this one has open.
    pub(crate) fn judge(
        &self,
        lane: LaneId,
        call: CallId,
        error: Option<&ProviderError>,
    ) -> Verdict {
        let Some(Doubt { by, since }) = self.doubted.get(&lane) else { return Verdict::Answers };
        if error.is_some_and(|e| e.scope == Scope::Call && OVER.contains(&e.code)) {
            Verdict::Over(*by)
        } else if call > *since {
            Verdict::Sound(*by)
        } else {
            Verdict::Answers
        }
    }

    /// Ends the doubt about a provider.
    pub(crate) fn trust(&mut self, by: LaneId) {
        self.doubted.retain(|_, doubt| doubt.by != by);
    }

    /// Keeps a call until its provider is renewed. Returns the call if no renewal is in progress.
    pub(crate) fn wait(&mut self, by: LaneId, again: Again<T>) -> Option<Again<T>> {
        match self.renewing.get_mut(&by) {
            Some(renewing) => {
                renewing.waiting.push(again);
                None
            }
            None => Some(again),
        }
    }

    /// Records a renewal that this call makes, with the first call that waits for it.
    pub(crate) fn renew(&mut self, by: LaneId, call: Option<CallId>, first: Again<T>) {
        self.renewing.insert(by, Renewing { call, waiting: vec![first] });
    }

    /// Ends a renewal and returns the calls that waited for it. The provider stays in doubt if the renewal failed or if it got a
    /// notice or a Do since; the next call that finds it shut down tries again.
    pub(crate) fn renewed(&mut self, by: LaneId, worked: bool) -> Option<Vec<Again<T>>> {
        let Renewing { call, waiting } = self.renewing.remove(&by)?;
        if worked {
            let is_sound = |doubt: &Doubt| call.is_some_and(|call| call > doubt.since);
            self.doubted.retain(|_, doubt| doubt.by != by || !is_sound(doubt));
        }
        Some(waiting)
    }

    /// Ends the renewals by a closed lane. Returns the calls that waited for them.
    pub(crate) fn close(&mut self, lane: LaneId) -> Vec<Again<T>> {
        self.doubted.remove(&lane);
        self.renewing.remove(&lane).map(|renewing| renewing.waiting).unwrap_or_default()
    }
}

#[cfg(test)]
impl<T: std::fmt::Debug> Doubts<T> {
    /// The continuations that wait for renewals.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.renewing.values().flat_map(|r| &r.waiting).map(|again| &again.then)
    }

    /// Checks that no call waits for a renewal, and that the lanes in doubt are open.
    pub(crate) fn check_at_rest(&self, is_open: impl Fn(LaneId) -> bool) {
        let Self { doubted, renewing } = self;
        assert!(renewing.is_empty(), "{renewing:?} wait to be made anew");
        let lanes = doubted.iter().flat_map(|(lane, doubt)| [*lane, doubt.by]);
        assert!(lanes.into_iter().all(is_open), "{doubted:?} are doubted and closed");
    }
}
