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

use sundown_protocol::SessionId;

use crate::broker::Broker;
use crate::ground::event::{CallId, LaneId, Turn};
use crate::ground::provider::{Effect, ProviderAnswer, ProviderCall, ProviderError, Scope};
use crate::providers::ask::{Ask, Ready};
use crate::providers::calls::{Called, Caller, Lost};
use crate::providers::doubts::{Again, Doubt, OVER, Renewing};
use crate::providers::view::{Provider, ProviderState};
use crate::then::{AfterLogon, Then};

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
