//! New incarnations of providers. A provider written to the letter of its interface is over after `DoFastShutdown`, though
//! that was about one process and its neighbours go on (SEED-9). What it stops at `NotifyProcessShutdown` it may stop for good
//! as well (SEED-19).
//!
//! ```text
//!  sound ──gets a Do or a notice──► doubted ──has answered that, and anything else──► sound
//!                          ▲      └──says that it is over──► renewing ──logged on again──► sound
//!                          └────────────could not be made anew──┘
//! ```
//!
//! While a provider is doubted its calls are kept until they are answered. One that the provider answers with one of
//! [`OVER`] waits until the worker has made the provider anew, and is made again. What the provider said first of fast shutdown
//! stays (SEED-17), because the session's view of it does. `EndMessage` is never made twice: what became of that message is
//! not known.

use std::collections::BTreeMap;

use sundown_protocol::{Code, SessionId};

use crate::answer::{Ask, Ready};
use crate::broker::Broker;
use crate::calls::{Called, Caller, Lost};
use crate::event::{CallId, LaneId, Turn};
use crate::provider::{Effect, ProviderAnswer, ProviderCall, ProviderError, Scope, TransportCall};
use crate::session::{Provider, ProviderState};
use crate::then::{AfterLogon, Then};

/// What a provider answers that is over: it says so, or it panics.
const OVER: [Code; 3] = [Code::E_NOT_INITIALIZED, Code::E_END_OF_SESSION, Code::E_CALL_FAILED];

/// Providers that have got a notice or a Do, and those that are made anew.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Renewals {
    /// Lanes of providers that are doubted.
    doubted: BTreeMap<LaneId, Doubt>,
    /// By that lane, the making of new incarnations.
    renewing: BTreeMap<LaneId, Renewing>,
}

/// A provider that is made anew.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Renewing {
    /// The call that makes it; `None` where its lane was closed already.
    call: Option<CallId>,
    /// What waits for it.
    waiting: Vec<Again>,
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
pub(crate) struct Again {
    lane: LaneId,
    caller: Caller,
    call: ProviderCall,
    then: Then,
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

impl Broker {
    /// A provider gets a notice or a Do, or has answered it, in whatever way: whether it goes on for its other processes is seen at
    /// its next answer.
    pub(crate) fn doubt(&mut self, session: SessionId, place: usize) {
        let Some(provider) = self.sessions.get(&session).map(|s| &s.providers[place]) else {
            return;
        };
        let (lane, reader) = (provider.lane, provider.reader);
        if self.lanes.is_open(lane) {
            let doubt = Doubt { by: lane, since: CallId(self.number()) };
            self.renewals.doubted.extend([lane].into_iter().chain(reader).map(|l| (l, doubt)));
        }
    }

    /// A provider that is doubted has answered. What is left to go on with; `None` when the call is made again.
    pub(crate) fn judge(
        &mut self,
        (lane, number): (LaneId, CallId),
        (caller, call): (Caller, ProviderCall),
        (then, result): (Then, Result<ProviderAnswer, ProviderError>),
        turn: &mut Turn,
    ) -> Option<(Then, Result<ProviderAnswer, ProviderError>)> {
        // A new object would find other files than the lost ones, which this one has open.
        let over = result
            .as_ref()
            .is_err_and(|error| error.scope == Scope::Call && OVER.contains(&error.code));
        let Some(Doubt { by, since }) = self.renewals.doubted.get(&lane).copied() else {
            return Some((then, result));
        };
        if !over {
            // While it has a notice or a Do, an answer to something else says nothing of what comes after that.
            if number > since && !self.is_told_of_leaving(by) {
                self.renewals.doubted.retain(|_, doubt| doubt.by != by);
            }
            return Some((then, result));
        }
        let again = Again { lane, caller, call, then };
        if let Some(renewing) = self.renewals.renewing.get_mut(&by) {
            renewing.waiting.push(again);
            return None;
        }
        let caller = Caller::broker(caller.session).first();
        let after = AfterLogon::Renewed(by, caller.session);
        let call = self.call(by, caller, Ask::renew(), after, turn);
        self.renewals.renewing.insert(by, Renewing { call, waiting: vec![again] });
        None
    }

    /// A provider was made anew, or could not be: what waited for it is called again, or fails.
    pub(crate) fn renewed(
        &mut self,
        by: LaneId,
        session: Option<SessionId>,
        result: &Result<Ready, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(Renewing { call, waiting }) = self.renewals.renewing.remove(&by) else { return };
        // One that could not be made anew is doubted on, and so is one that has got a notice or a Do since: the next call that
        // finds it over tries again.
        if result.is_ok() {
            let is_sound = |doubt: &Doubt| call.is_some_and(|call| call > doubt.since);
            self.renewals.doubted.retain(|_, doubt| doubt.by != by || !is_sound(doubt));
        }
        if let Ok(Ready::Transport(facts)) = result {
            self.transport_ready(session, by, *facts);
        }
        for Again { lane, caller, call, then } in waiting {
            match result {
                // Its session has logged it off meanwhile: nothing more is asked for that.
                Ok(_) if self.has_logged_off(caller.session, lane) => {
                    let (called, session) = (Called::Never, caller.session);
                    self.lost.push_back(Lost { then, called, session });
                }
                Ok(_) => {
                    self.make_call(lane, caller, call, then, turn);
                }
                // It was refused by the old incarnation, and the new one never got it.
                Err(error) => {
                    let error = ProviderError { effect: Effect::Nothing, ..error.clone() };
                    self.go_on(then, Err(error), turn);
                }
            }
        }
    }

    fn has_logged_off(&mut self, session: Option<SessionId>, lane: LaneId) -> bool {
        use ProviderState::{Gone, LoggingOff};
        let is_off = |p: &mut Provider| matches!(p.state, LoggingOff | Gone);
        session.is_some() && self.provider_at(session, lane).is_none_or(is_off)
    }

    /// A lane is closed: nothing is made anew by it.
    pub(crate) fn drop_renewals(&mut self, id: LaneId) {
        self.renewals.doubted.remove(&id);
        let renewing = self.renewals.renewing.remove(&id);
        for Again { caller, then, .. } in renewing.into_iter().flat_map(|r| r.waiting) {
            let (called, session) = (Called::Yes, caller.session);
            self.lost.push_back(Lost { then, called, session });
        }
    }
}
