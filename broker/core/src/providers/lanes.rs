//! Lanes decide which waiting call a worker gets next.
//!
//! A worker has a fixed number of places. Calls that find none wait here. Turns go round the users and, for each user, round its
//! processes as the kernel names them. A process with a thousand waiting calls delays another process' single call by one, and a
//! user with a thousand processes delays another user's call by one. The calls of processes without connections wait in one queue
//! of their user, which has one turn among the processes: reconnecting as another process gives no further turn. Calls that finish
//! earlier ones go ahead of all that.

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

use crate::ground::event::{Behalf, CallId, Effect, LaneId, Turn};
use crate::ground::numbers::NumberMap;
use crate::ground::provider::{ProviderCall, ProviderType};
use crate::peers::account::{AccountId, Payer, Source};
use crate::providers::calls::Called;
use crate::providers::patience::Patience;

/// The most calls that a worker may hold at once. A store commits all the calls it holds together.
pub(crate) const PLACES: usize = 256;

/// The queues of all that have calls waiting, in the order of their turns.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Turns<K, Q> {
    order: VecDeque<K>,
    queues: NumberMap<K, Q>,
}

/// The calls that wait for their turn, by user and by process. The broker counts as a user.
type Waiting = Turns<Option<u32>, Turns<Source, VecDeque<Outgoing>>>;

impl<K, Q> Default for Turns<K, Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: NumberMap::default() }
    }
}

impl<K: Copy + Eq + Hash, Q: Default> Turns<K, Q> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The queue of a key. The key has a turn from now on.
    fn queue(&mut self, key: K) -> &mut Q {
        self.queues.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            Q::default()
        })
    }

    /// Takes from the queue whose turn it is. A queue that is not empty then waits behind the others.
    fn take<T>(
        &mut self,
        take: impl FnOnce(&mut Q) -> T,
        is_empty: impl Fn(&Q) -> bool,
    ) -> Option<T> {
        let key = self.order.pop_front()?;
        let queue = self.queues.get_mut(&key).expect("each that has a turn has a queue");
        let taken = take(queue);
        if is_empty(queue) {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        Some(taken)
    }

    /// Changes each queue. A queue that is empty then has no turn.
    fn change(&mut self, mut change: impl FnMut(&mut Q), is_empty: impl Fn(&Q) -> bool) {
        self.queues.values_mut().for_each(&mut change);
        self.queues.retain(|_, queue| !is_empty(queue));
        let queues = &self.queues;
        self.order.retain(|key| queues.contains_key(key));
    }
}

impl Waiting {
    fn push(&mut self, payer: Payer, outgoing: Outgoing) {
        self.queue(payer.user()).queue(payer.source()).push_back(outgoing);
    }

    fn pop(&mut self) -> Option<Outgoing> {
        let of_process = |processes: &mut Turns<Source, VecDeque<Outgoing>>| {
            processes.take(VecDeque::pop_front, VecDeque::is_empty).flatten()
        };
        self.take(of_process, Turns::is_empty).flatten()
    }

    fn len(&self) -> usize {
        self.queues.values().flat_map(|user| user.queues.values()).map(VecDeque::len).sum()
    }

    fn retain(&mut self, keep: impl Fn(&Outgoing) -> bool) {
        let of_user = |user: &mut Turns<Source, VecDeque<Outgoing>>| {
            user.change(|queue| queue.retain(&keep), VecDeque::is_empty);
        };
        self.change(of_user, Turns::is_empty);
    }

    /// Handles the loss of a process' last connection. Its calls move behind those that other processes of its user left behind.
    /// Its questions are dropped and returned.
    fn leave_behind(&mut self, uid: u32, account: AccountId) -> Vec<CallId> {
        let Some(user) = self.queues.get_mut(&Some(uid)) else { return Vec::new() };
        let source = Source::Process(account);
        let Some(left) = user.queues.remove(&source) else { return Vec::new() };
        user.order.retain(|other| *other != source);
        let asks = |outgoing: &Outgoing| Patience::of(&outgoing.provider) == Patience::Question;
        let (questions, mut changes): (VecDeque<_>, VecDeque<_>) = left.into_iter().partition(asks);
        if !changes.is_empty() {
            user.queue(Source::LeftBehind).append(&mut changes);
        } else if user.is_empty() {
            self.queues.remove(&Some(uid));
            self.order.retain(|other| *other != Some(uid));
        }
        questions.into_iter().map(|outgoing| outgoing.call).collect()
    }
}

/// The place of a call among the calls that wait in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// After its payer's earlier calls, in turn with the other payers.
    InTurn,
    /// Ahead of all waiting calls.
    First,
    /// When nothing else waits. What was handed over before is done first.
    Last,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Outgoing {
    pub(crate) call: CallId,
    pub(crate) behalf: Box<Behalf>,
    pub(crate) provider: ProviderCall,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Lane {
    /// The name of the provider.
    name: String,
    provider_type: ProviderType,
    /// The calls that its worker has, each in a place.
    begun: VecDeque<CallId>,
    first: VecDeque<Outgoing>,
    waiting: Waiting,
    last: VecDeque<Outgoing>,
}

impl Lane {
    fn next(&mut self) -> Option<Outgoing> {
        if let Some(outgoing) = self.first.pop_front() {
            return Some(outgoing);
        }
        self.waiting.pop().or_else(|| self.last.pop_front())
    }

    /// How many calls wait for a place.
    fn waits(&self) -> usize {
        self.first.len() + self.last.len() + self.waiting.len()
    }

    /// Calls the worker, which takes a place.
    fn emit(&mut self, id: LaneId, Outgoing { call, behalf, provider }: Outgoing, turn: &mut Turn) {
        self.begun.push_back(call);
        turn.emit(Effect::Call { lane: id, call, behalf, provider });
    }
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Lanes {
    by_id: NumberMap<LaneId, Lane>,
    /// Lanes in which calls may wait for a turn. Most lanes have places for all.
    crowded: BTreeSet<LaneId>,
    made: u64,
}

impl Lanes {
    /// Opens a lane to this provider.
    pub(crate) fn open(&mut self, provider_type: ProviderType, name: &str) -> LaneId {
        self.made += 1;
        let lane = Lane {
            name: name.to_owned(),
            provider_type,
            begun: VecDeque::with_capacity(4),
            first: VecDeque::new(),
            waiting: Waiting::default(),
            last: VecDeque::new(),
        };
        self.by_id.insert(LaneId(self.made), lane);
        LaneId(self.made)
    }

    pub(crate) fn is_open(&self, id: LaneId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Whether a worker has a call of this lane. While any waits for a place, it has.
    pub(crate) fn is_busy(&self, id: LaneId) -> bool {
        self.by_id.get(&id).is_some_and(|lane| !lane.begun.is_empty())
    }

    /// The type of the provider behind an open lane.
    pub(crate) fn provider_type(&self, id: LaneId) -> Option<ProviderType> {
        Some(self.by_id.get(&id)?.provider_type)
    }

    /// The name of the provider behind a lane.
    pub(crate) fn provider_name(&self, id: LaneId) -> &str {
        self.by_id.get(&id).map_or("a provider", |lane| &lane.name)
    }

    /// Closes a lane. Returns the calls that its worker has begun, and the calls that still waited and are never made.
    pub(crate) fn close(&mut self, id: LaneId, turn: &mut Turn) -> Vec<(CallId, Called)> {
        let Some(mut lane) = self.by_id.remove(&id) else { return Vec::new() };
        self.crowded.remove(&id);
        turn.emit(Effect::CloseLane(id));
        let begun = std::mem::take(&mut lane.begun).into_iter().map(|call| (call, Called::Yes));
        let waited = std::iter::from_fn(|| lane.next());
        let waited = waited.map(|outgoing| (outgoing.call, Called::Never));
        let mut calls: Vec<_> = begun.chain(waited).collect();
        calls.sort_unstable_by_key(|(call, _)| *call);
        calls
    }

    /// Takes back a call that still waits for a place. Returns whether it did.
    pub(crate) fn withdraw(&mut self, id: LaneId, call: CallId) -> bool {
        let Some(lane) = self.by_id.get_mut(&id) else { return false };
        let before = lane.waits();
        let other = |outgoing: &Outgoing| outgoing.call != call;
        lane.first.retain(other);
        lane.last.retain(other);
        lane.waiting.retain(other);
        lane.waits() < before
    }

    /// Whether a worker has a call of an open lane.
    pub(crate) fn has_begun(&self, id: LaneId, call: CallId) -> bool {
        self.by_id.get(&id).is_some_and(|lane| lane.begun.contains(&call))
    }

    /// The calls of a lane that its worker has, and those that wait outside the turns.
    pub(crate) fn apart(&self, id: LaneId) -> impl Iterator<Item = CallId> {
        let lane = self.by_id.get(&id);
        let begun = lane.into_iter().flat_map(|lane| lane.begun.iter().copied());
        let waiting = lane.into_iter().flat_map(|lane| lane.first.iter().chain(&lane.last));
        begun.chain(waiting.map(|outgoing| outgoing.call))
    }

    pub(crate) fn send(
        &mut self,
        id: LaneId,
        payer: Payer,
        priority: Priority,
        outgoing: Outgoing,
        turn: &mut Turn,
    ) {
        let Some(lane) = self.by_id.get_mut(&id) else { return };
        // While a place is free, no call waits for one.
        if lane.begun.len() < PLACES {
            return lane.emit(id, outgoing, turn);
        }
        match priority {
            Priority::First => lane.first.push_back(outgoing),
            Priority::InTurn => {
                lane.waiting.push(payer, outgoing);
                self.crowded.insert(id);
            }
            Priority::Last => lane.last.push_back(outgoing),
        }
    }

    /// Checks that each lane has as many calls as are known of it, whether with a worker or waiting for a place.
    #[cfg(test)]
    pub(crate) fn check(&self, calls: impl Fn(LaneId) -> usize) {
        for (id, lane) in &self.by_id {
            assert!(lane.begun.len() <= PLACES);
            assert_eq!(lane.begun.len() + lane.waits(), calls(*id), "calls of {id:?}");
        }
    }

    /// Checks that these are the open lanes, and that no call waits in them.
    #[cfg(test)]
    pub(crate) fn check_at_rest(&self, used: &std::collections::BTreeSet<LaneId>) {
        let Self { by_id, crowded: _, made: _ } = self;
        let open: std::collections::BTreeSet<_> = by_id.keys().copied().collect();
        assert_eq!(open, *used, "lanes that are open, and those that lead to something");
        for (id, lane) in by_id {
            let Lane { name: _, provider_type: _, begun, first, waiting, last } = lane;
            assert!(begun.is_empty(), "calls of {id:?}: {begun:?}");
            let idle = first.is_empty() && waiting.is_empty();
            assert!(idle && last.is_empty(), "calls wait in {id:?}");
        }
    }

    /// Handles the loss of a process' last connection. Its waiting calls now take turns of its user. Its questions are dropped and
    /// returned.
    pub(crate) fn leave_behind(&mut self, uid: u32, account: AccountId) -> Vec<CallId> {
        let lanes = &mut self.by_id;
        let mut questions = Vec::new();
        self.crowded.retain(|id| match lanes.get_mut(id) {
            Some(lane) if !lane.waiting.is_empty() => {
                questions.extend(lane.waiting.leave_behind(uid, account));
                true
            }
            _ => false,
        });
        questions
    }

    /// Ends a call that was answered: its place is free.
    pub(crate) fn answered(&mut self, id: LaneId, call: CallId, turn: &mut Turn) {
        if let Some(lane) = self.by_id.get_mut(&id) {
            // Most calls are answered in the order in which they were made.
            if lane.begun.front() == Some(&call) {
                lane.begun.pop_front();
            } else if let Some(place) = lane.begun.iter().position(|begun| *begun == call) {
                lane.begun.remove(place);
            }
            if let Some(outgoing) = lane.next() {
                lane.emit(id, outgoing, turn);
            }
        }
    }
}
