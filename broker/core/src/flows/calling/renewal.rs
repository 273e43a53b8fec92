//! New incarnations of providers. A provider written to the letter of its interface is over after `DoFastShutdown`, though
//! that was about one process and its neighbours go on (SEED-9). What it stops at `NotifyProcessShutdown` it may stop for good
//! as well (SEED-19). Which provider is in doubt, and what waits for a new one: [`doubts`](crate::providers::doubts).
//!
//! What the provider said first of fast shutdown stays (SEED-17), because the session's view of it does. `EndMessage` is never
//! made twice: what became of that message is not known.

use sundown_protocol::SessionId;

use crate::broker::Broker;
use crate::ground::event::{CallId, LaneId, Turn};
use crate::ground::provider::{Effect, ProviderAnswer, ProviderCall, ProviderError};
use crate::providers::ask::{Ask, Ready};
use crate::providers::calls::{Called, Caller};
use crate::providers::doubts::{Again, Verdict};
use crate::providers::view::{Provider, ProviderState};
use crate::then::{AfterLogon, Then};

impl Broker {
    /// A provider gets a notice or a Do, or has answered it, in whatever way: whether it goes on for its other processes is seen at
    /// its next answer.
    pub(crate) fn doubt(&mut self, session: SessionId, place: usize) {
        let Some(provider) = self.sessions.all.get(&session).map(|s| &s.providers[place]) else {
            return;
        };
        let (lane, reader) = (provider.lane, provider.reader);
        if self.providers.is_open(lane) {
            let since = CallId(self.number());
            self.providers.doubts().doubt(lane, reader, since);
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
        let by = match self.providers.doubts().judge(lane, number, result.as_ref().err()) {
            Verdict::Answers => return Some((then, result)),
            Verdict::Sound(by) => {
                // While it has a notice or a Do, an answer to something else says nothing of what comes after that.
                if !self.is_told_of_leaving(by) {
                    self.providers.doubts().trust(by);
                }
                return Some((then, result));
            }
            Verdict::Over(by) => by,
        };
        let again = Again { lane, caller, call, then };
        let again = self.providers.doubts().wait(by, again)?;
        let caller = Caller::broker(caller.session).first();
        let after = AfterLogon::Renewed(by, caller.session);
        let call = self.call(by, caller, Ask::renew(), after, turn);
        self.providers.doubts().renew(by, call, again);
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
        let Some(waiting) = self.providers.doubts().renewed(by, result.is_ok()) else { return };
        if let Ok(Ready::Transport(facts)) = result {
            self.transport_ready(session, by, *facts);
        }
        for Again { lane, caller, call, then } in waiting {
            match result {
                // Its session has logged it off meanwhile: nothing more is asked for that.
                Ok(_) if self.has_logged_off(caller.session, lane) => {
                    self.providers.lose(then, Called::Never, caller);
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
}
