//! Renews providers. A provider that follows its interface literally ends with `DoFastShutdown`, although the call concerned one
//! process and other processes still use the provider (SEED-9). It may also stop for good what it stops at `NotifyProcessShutdown`
//! (SEED-19). [`doubts`](crate::providers::doubts) records which providers are in doubt and what waits for a new incarnation.
//!
//! A provider's first answer about fast shutdown stays in force (SEED-17), because the session's view of the provider does.
//! `EndMessage` is never called twice: what became of that message is unknown.

use sundown_protocol::SessionId;

use crate::broker::Broker;
use crate::ground::event::{CallId, LaneId, Turn};
use crate::ground::provider::{Effect, MailboxCall, ProviderAnswer, ProviderCall, ProviderError};
use crate::providers::ask::{Ask, Ready};
use crate::providers::calls::{Called, Caller};
use crate::providers::doubts::{Again, Verdict};
use crate::providers::view::{Provider, ProviderState};
use crate::then::{AfterLogon, Then};

impl Broker {
    /// Puts a provider in doubt when it gets a notice or a Do, and when it has answered it. Its next answer shows whether it goes
    /// on for its other processes.
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

    /// Judges the answer of a provider that may be in doubt. Returns what to continue with; `None` when the call is made again.
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
                // While a notice or a Do is in progress, the answer to another call does not show the state after it.
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

    /// Repeats the calls that waited for a renewed provider, or fails them if it could not be renewed.
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
        self.mailbox_renewed(session, by, result.as_ref().err(), turn);
        for Again { lane, caller, call, then } in waiting {
            match result {
                // The session has logged the provider off meanwhile and makes no more calls, or the message was taken from it.
                Ok(_) if self.has_logged_off(caller.session, lane) || self.is_taken_back(&then) => {
                    self.providers.lose(then, Called::Never, caller);
                }
                // The new incarnation is told anew what the old one was told.
                Ok(_) if is_told_anew(&call) => self.go_on(then, Ok(ProviderAnswer::Done), turn),
                Ok(_) => {
                    self.make_call(lane, caller, call, then, turn);
                }
                // The old incarnation refused the call, and the new one never got it.
                Err(error) => {
                    let error = ProviderError { effect: Effect::Nothing, ..error.clone() };
                    self.go_on(then, Err(error), turn);
                }
            }
        }
    }

    /// Whether a call prepares a message that was taken from its transport, because the profile does not have that any more.
    fn is_taken_back(&self, then: &Then) -> bool {
        matches!(then, Then::Prepared(flight) if !self.queues.flights.contains_key(flight))
    }

    fn has_logged_off(&mut self, session: Option<SessionId>, lane: LaneId) -> bool {
        use ProviderState::{Gone, LoggingOff};
        let is_off = |p: &mut Provider| matches!(p.state, LoggingOff | Gone);
        session.is_some() && self.provider_at(session, lane).is_none_or(is_off)
    }
}

/// Whether a call tells a mailbox what it is to do. One that was made anew is told what holds by now.
fn is_told_anew(call: &ProviderCall) -> bool {
    match call {
        ProviderCall::Mailbox(call) => match call {
            MailboxCall::Watch { .. } | MailboxCall::Rest | MailboxCall::Changed => true,
            MailboxCall::Validate | MailboxCall::Sync | MailboxCall::Fetch { .. } => false,
        },
        _ => false,
    }
}
