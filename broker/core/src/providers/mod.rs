//! Providers as the broker sees them: the sessions' views of them, the lanes to their workers, and their unanswered calls.
//!
//! ```text
//!  call ──► lane ──a place is free──► worker ──answer──► ended: something goes on with it, once
//!              │                         └──its lane is closed──► lost, after it was called
//!              └──taken back, or its lane is closed──► lost, before it was called
//! ```
//!
//! [`Providers`] owns what was begun, and ends it: each call's continuation runs once, with an answer or as [`Lost`]. It knows
//! nothing of the continuation (`T`), of sessions or of queues. Its functions return what it finds out.

#![expect(
    clippy::inline_always,
    reason = "each request makes a call and ends one; moved as a whole both cost more than they do"
)]

pub(crate) mod ask;
pub(crate) mod calls;
pub(crate) mod doubts;
pub(crate) mod lanes;
pub(crate) mod left_behind;
pub(crate) mod logged;
pub(crate) mod patience;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use std::collections::VecDeque;

use crate::ground::event::{Behalf, CallId, Errand, LaneId, Turn};
use crate::ground::numbers::NumberMap;
use crate::ground::provider::{ProviderCall, ProviderType};
use crate::peers::account::{AccountId, Payer};
use crate::providers::calls::{Call, Called, Caller, Lost};
use crate::providers::doubts::Doubts;
use crate::providers::lanes::{Lanes, Outgoing};
use crate::providers::left_behind::LeftBehind;
use crate::providers::logged::Logged;
use crate::providers::patience::Patience;

/// The lanes to providers, and their unanswered calls. `T` is the continuation of a call.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Providers<T> {
    lanes: Lanes,
    calls: NumberMap<CallId, Call<T>>,
    /// Continuations of calls that no provider will answer.
    lost: VecDeque<Lost<T>>,
    doubts: Doubts<T>,
    pub(crate) left_behind: LeftBehind,
    /// What the log has said of those that do not work.
    pub(crate) logged: Logged,
}

impl<T> Default for Providers<T> {
    fn default() -> Self {
        Self {
            lanes: Lanes::default(),
            calls: NumberMap::default(),
            lost: VecDeque::new(),
            doubts: Doubts::default(),
            left_behind: LeftBehind::default(),
            logged: Logged::default(),
        }
    }
}

impl<T> Providers<T> {
    /// Opens a lane to this provider.
    pub(crate) fn open(&mut self, provider_type: ProviderType, name: &str) -> LaneId {
        self.lanes.open(provider_type, name)
    }

    pub(crate) fn is_open(&self, lane: LaneId) -> bool {
        self.lanes.is_open(lane)
    }

    /// Whether a call of this lane is not answered.
    pub(crate) fn is_busy(&self, lane: LaneId) -> bool {
        self.lanes.is_busy(lane)
    }

    /// The type of the provider behind an open lane.
    pub(crate) fn provider_type(&self, lane: LaneId) -> Option<ProviderType> {
        self.lanes.provider_type(lane)
    }

    /// The name of the provider behind a lane.
    pub(crate) fn provider_name(&self, lane: LaneId) -> &str {
        self.lanes.provider_name(lane)
    }

    /// Calls a provider as soon as there is a place for the call. If its lane is closed, the call is lost.
    #[inline(always)]
    pub(crate) fn call(
        &mut self,
        id: CallId,
        lane: LaneId,
        (caller, payer, pid): (Caller, Payer, Option<u32>),
        provider: ProviderCall,
        then: T,
        turn: &mut Turn,
    ) {
        let Some(provider_type) = self.lanes.provider_type(lane) else {
            return self.lose(then, Called::Never, caller);
        };
        let (session, errand) = (caller.session, turn.errand);
        let kept = self.doubts.keeps(lane, &provider);
        let call = Call {
            lane,
            session,
            errand,
            name: provider.name(),
            expected: provider.expects(provider_type),
            again: kept.then(|| Box::new((caller, provider.clone()))),
            then,
            since: turn.tick.boot,
            waits: Patience::of(&provider),
        };
        self.calls.insert(id, call);
        let Errand { correlation, entry } = errand;
        let behalf = Box::new(Behalf { session, pid, correlation, entry });
        let outgoing = Outgoing { call: id, behalf, provider };
        self.lanes.send(lane, payer, caller.priority, outgoing, turn);
    }

    /// A call that was not answered yet.
    #[inline]
    pub(crate) fn get(&self, id: CallId) -> Option<&Call<T>> {
        self.calls.get(&id)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: CallId) -> Option<&mut Call<T>> {
        self.calls.get_mut(&id)
    }

    /// The unanswered calls, in no order.
    #[cfg(test)]
    pub(crate) fn calls(&self) -> impl Iterator<Item = (CallId, &Call<T>)> {
        self.calls.iter().map(|(id, call)| (*id, call))
    }

    /// The unanswered calls, to be changed, and the lanes.
    pub(crate) fn calls_mut(&mut self) -> (impl Iterator<Item = (CallId, &mut Call<T>)>, &Lanes) {
        (self.calls.iter_mut().map(|(id, call)| (*id, call)), &self.lanes)
    }

    /// Whether any call is unanswered.
    pub(crate) fn awaits(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Ends a call that was answered or given back by its worker. Its place is free for the next one.
    #[inline(always)]
    pub(crate) fn end(&mut self, id: CallId, turn: &mut Turn) -> Option<Call<T>> {
        let ended = self.calls.remove(&id);
        if let Some(call) = &ended {
            self.lanes.answered(call.lane, id, turn);
        }
        ended
    }

    /// Takes back a call that waits for a place. `None` if its worker has it.
    pub(crate) fn take_back(&mut self, id: CallId) -> Option<Call<T>> {
        let lane = self.calls.get(&id)?.lane;
        if self.lanes.withdraw(lane, id) { self.calls.remove(&id) } else { None }
    }

    /// Handles the loss of a process' last connection. Its waiting calls now take turns of its user. Its questions that no worker
    /// has are dropped and returned.
    pub(crate) fn leave_behind(&mut self, uid: u32, account: AccountId) -> Vec<Call<T>> {
        let questions = self.lanes.leave_behind(uid, account);
        questions.into_iter().filter_map(|call| self.calls.remove(&call)).collect()
    }

    /// Whether a worker has a call of an open lane.
    pub(crate) fn has_begun(&self, lane: LaneId, call: CallId) -> bool {
        self.lanes.has_begun(lane, call)
    }

    /// The calls of a lane that its worker has, and those that wait outside the turns.
    pub(crate) fn apart(&self, lane: LaneId) -> impl Iterator<Item = (CallId, &Call<T>)> {
        self.lanes.apart(lane).filter_map(|id| Some((id, self.calls.get(&id)?)))
    }

    /// Closes a lane. Returns its unanswered calls in the order of their numbers, each with whether the provider had received it.
    /// Calls that waited for a renewal of the provider are lost.
    pub(crate) fn close(
        &mut self,
        lane: LaneId,
        turn: &mut Turn,
    ) -> Vec<(CallId, Called, Call<T>)> {
        let calls = self.lanes.close(lane, turn);
        for again in self.doubts.close(lane) {
            self.lose(again.then, Called::Yes, again.caller);
        }
        let known = |(id, called)| Some((id, called, self.calls.remove(&id)?));
        calls.into_iter().filter_map(known).collect()
    }

    /// Queues a continuation that gets no answer.
    pub(crate) fn lose(&mut self, then: T, called: Called, caller: Caller) {
        self.lost.push_back(Lost { then, called, session: caller.session });
    }

    /// Takes the next continuation that gets no answer.
    pub(crate) fn next_lost(&mut self) -> Option<Lost<T>> {
        self.lost.pop_front()
    }

    /// Whether continuations wait that get no answer.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Which providers are in doubt, and what waits for their renewal.
    pub(crate) fn doubts(&mut self) -> &mut Doubts<T> {
        &mut self.doubts
    }
}

#[cfg(test)]
impl<T: std::fmt::Debug> Providers<T> {
    /// All continuations, wherever they wait.
    pub(crate) fn thens(&self) -> impl Iterator<Item = &T> {
        let calls = self.calls.values().map(|call| &call.then);
        let lost = self.lost.iter().map(|lost| &lost.then);
        calls.chain(lost).chain(self.doubts.waiting())
    }

    /// Checks that each lane has the calls that are known of it.
    pub(crate) fn check(&self) {
        self.lanes.check(|lane| self.calls.values().filter(|c| c.lane == lane).count());
    }

    /// Checks that no call is unanswered, and that these are the open lanes.
    pub(crate) fn check_at_rest(&self, used: &std::collections::BTreeSet<LaneId>) {
        let Self { lanes, calls, lost, doubts, left_behind: _, logged: _ } = self;
        assert!(calls.is_empty() && lost.is_empty(), "{calls:?}, {lost:?}");
        lanes.check_at_rest(used);
        doubts.check_at_rest(|lane| lanes.is_open(lane));
    }
}
