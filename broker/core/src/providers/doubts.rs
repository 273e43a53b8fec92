//! Which providers may be over, and what waits for those that are made anew.
//!
//! ```text
//!  sound ──gets a Do or a notice──► doubted ──has answered that, and anything else──► sound
//!                          ▲      └──says that it is over──► renewing ──logged on again──► sound
//!                          └────────────could not be made anew──┘
//! ```
//!
//! While a provider is doubted its calls are kept until they are answered, but for those that must not be made twice. One that the
//! provider answers with one of [`OVER`] waits until the worker has made the provider anew, and is made again.

use std::collections::BTreeMap;

use sundown_protocol::Code;

use crate::ground::event::{CallId, LaneId};
use crate::ground::provider::{ProviderCall, ProviderError, Scope, TransportCall};
use crate::providers::calls::Caller;

/// What a provider answers that is over: it says so, or it panics.
const OVER: [Code; 3] = [Code::E_NOT_INITIALIZED, Code::E_END_OF_SESSION, Code::E_CALL_FAILED];

/// Providers that have got a notice or a Do, and those that are made anew.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Doubts<T> {
    /// Lanes of providers that are doubted.
    doubted: BTreeMap<LaneId, Doubt>,
    /// By that lane, the making of new incarnations.
    renewing: BTreeMap<LaneId, Renewing<T>>,
}

/// A provider that is made anew.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Renewing<T> {
    /// The call that makes it; `None` where its lane was closed already.
    call: Option<CallId>,
    /// What waits for it.
    waiting: Vec<Again<T>>,
}

/// That a provider may be over.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// The lane by which it is made anew: the writer's, of a store.
    by: LaneId,
    /// The newest call when it got the last notice or Do, or answered it: what earlier ones are answered says nothing.
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

/// What an answer of a provider says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing that matters.
    Answers,
    /// It answers after its notice or its Do, unless one is on its way to it still. It is made anew by this lane if it is not sound.
    Sound(LaneId),
    /// It is over, and is made anew by this lane.
    Over(LaneId),
}

impl<T> Default for Doubts<T> {
    fn default() -> Self {
        Self { doubted: BTreeMap::new(), renewing: BTreeMap::new() }
    }
}

impl<T> Doubts<T> {
    /// A provider with these lanes gets a notice or a Do, or has answered it. The first lane is that by which it is made anew.
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

    /// What the answer to a call says of its provider. Of a store whose files are lost a new object would find other files than
    /// this one has open.
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

    /// A provider is doubted no more.
    pub(crate) fn trust(&mut self, by: LaneId) {
        self.doubted.retain(|_, doubt| doubt.by != by);
    }

    /// A call waits for a provider that is made anew. It comes back if nothing makes that yet.
    pub(crate) fn wait(&mut self, by: LaneId, again: Again<T>) -> Option<Again<T>> {
        match self.renewing.get_mut(&by) {
            Some(renewing) => {
                renewing.waiting.push(again);
                None
            }
            None => Some(again),
        }
    }

    /// A provider is being made anew by this call, and the first one waits for it.
    pub(crate) fn renew(&mut self, by: LaneId, call: Option<CallId>, first: Again<T>) {
        self.renewing.insert(by, Renewing { call, waiting: vec![first] });
    }

    /// A provider was made anew, or could not be: what waited for it. One that could not be is doubted on, and so is one that has got
    /// a notice or a Do since: the next call that finds it over tries again.
    pub(crate) fn renewed(&mut self, by: LaneId, worked: bool) -> Option<Vec<Again<T>>> {
        let Renewing { call, waiting } = self.renewing.remove(&by)?;
        if worked {
            let is_sound = |doubt: &Doubt| call.is_some_and(|call| call > doubt.since);
            self.doubted.retain(|_, doubt| doubt.by != by || !is_sound(doubt));
        }
        Some(waiting)
    }

    /// A lane is closed: nothing is made anew by it. What waited for that.
    pub(crate) fn close(&mut self, lane: LaneId) -> Vec<Again<T>> {
        self.doubted.remove(&lane);
        self.renewing.remove(&lane).map(|renewing| renewing.waiting).unwrap_or_default()
    }
}

#[cfg(test)]
impl<T: std::fmt::Debug> Doubts<T> {
    /// What goes on when a provider was made anew.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.renewing.values().flat_map(|r| &r.waiting).map(|again| &again.then)
    }

    /// Checks that nothing waits for a new incarnation, and that what is doubted is open.
    pub(crate) fn check_at_rest(&self, is_open: impl Fn(LaneId) -> bool) {
        let Self { doubted, renewing } = self;
        assert!(renewing.is_empty(), "{renewing:?} wait to be made anew");
        let lanes = doubted.iter().flat_map(|(lane, doubt)| [*lane, doubt.by]);
        assert!(lanes.into_iter().all(is_open), "{doubted:?} are doubted and closed");
    }
}
