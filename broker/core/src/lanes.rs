//! Who may call a provider next.
//!
//! A worker has a fixed number of places. Calls that find none wait here, one queue for each process, and the processes
//! take turns: one that has a thousand calls waiting delays another's single call by one. Calls that end things go
//! in front of all that.

use std::collections::{HashSet, VecDeque};

use crate::event::{Behalf, CallId, Effect, LaneId, Turn};
use crate::numbers::NumberMap;
use crate::process::ProcessId;
use crate::provider::{ProviderCall, ProviderType};

/// Calls that a worker may hold at once. A store commits as many together as it holds.
pub(crate) const PLACES: usize = 256;

/// On whose account a call waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    Broker,
    Process(ProcessId),
}

/// Where in its lane a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Behind what its payer asked before, in turn with the others.
    InTurn,
    /// In front of everything.
    First,
    /// When nothing else waits: what was handed over before is not lost behind it.
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
    /// The provider that it leads to.
    name: String,
    provider_type: ProviderType,
    free: usize,
    first: VecDeque<Outgoing>,
    turns: VecDeque<Payer>,
    waiting: NumberMap<Payer, VecDeque<Outgoing>>,
    last: VecDeque<Outgoing>,
}

impl Lane {
    fn next(&mut self) -> Option<Outgoing> {
        if let Some(outgoing) = self.first.pop_front() {
            return Some(outgoing);
        }
        let Some(payer) = self.turns.pop_front() else { return self.last.pop_front() };
        let queue = self.waiting.get_mut(&payer).expect("whoever has a turn has a queue");
        let outgoing = queue.pop_front().expect("a queue with a turn is not empty");
        if queue.is_empty() {
            self.waiting.remove(&payer);
        } else {
            self.turns.push_back(payer);
        }
        Some(outgoing)
    }

    /// How many calls wait for a place.
    fn waits(&self) -> usize {
        let queued: usize = self.waiting.values().map(VecDeque::len).sum();
        self.first.len() + self.last.len() + queued
    }

    /// Calls the worker: one place less is free.
    fn emit(&mut self, id: LaneId, Outgoing { call, behalf, provider }: Outgoing, turn: &mut Turn) {
        self.free -= 1;
        turn.emit(Effect::Call { lane: id, call, behalf, provider });
    }
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Lanes {
    lanes: NumberMap<LaneId, Lane>,
    made: u64,
}

impl Lanes {
    /// A lane to this provider.
    pub(crate) fn open(&mut self, provider_type: ProviderType, name: &str) -> LaneId {
        self.made += 1;
        let lane = Lane {
            name: name.to_owned(),
            provider_type,
            free: PLACES,
            first: VecDeque::new(),
            turns: VecDeque::new(),
            waiting: NumberMap::default(),
            last: VecDeque::new(),
        };
        self.lanes.insert(LaneId(self.made), lane);
        LaneId(self.made)
    }

    pub(crate) fn is_open(&self, id: LaneId) -> bool {
        self.lanes.contains_key(&id)
    }

    /// The type of the provider that an open lane leads to.
    pub(crate) fn provider_type(&self, id: LaneId) -> Option<ProviderType> {
        Some(self.lanes.get(&id)?.provider_type)
    }

    /// The name of the provider that a lane leads to.
    pub(crate) fn provider_name(&self, id: LaneId) -> &str {
        self.lanes.get(&id).map_or("a provider", |lane| &lane.name)
    }

    /// Closes a lane. What still waited is never called: these calls.
    pub(crate) fn close(&mut self, id: LaneId, turn: &mut Turn) -> HashSet<CallId> {
        let Some(mut lane) = self.lanes.remove(&id) else { return HashSet::new() };
        turn.emit(Effect::CloseLane(id));
        std::iter::from_fn(|| lane.next()).map(|outgoing| outgoing.call).collect()
    }

    /// Takes back a call that still waits here for a place. Whether it did.
    pub(crate) fn withdraw(&mut self, id: LaneId, call: CallId) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let before = lane.waits();
        let other = |outgoing: &Outgoing| outgoing.call != call;
        lane.first.retain(other);
        lane.last.retain(other);
        for queue in lane.waiting.values_mut() {
            queue.retain(other);
        }
        lane.waiting.retain(|_, queue| !queue.is_empty());
        let waiting = &lane.waiting;
        lane.turns.retain(|payer| waiting.contains_key(payer));
        lane.waits() < before
    }

    pub(crate) fn send(
        &mut self,
        id: LaneId,
        payer: Payer,
        urgency: Urgency,
        outgoing: Outgoing,
        turn: &mut Turn,
    ) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        // Where there is a place nothing waits for one.
        if lane.free > 0 {
            return lane.emit(id, outgoing, turn);
        }
        match urgency {
            Urgency::First => lane.first.push_back(outgoing),
            Urgency::InTurn => {
                let queue = lane.waiting.entry(payer).or_default();
                if queue.is_empty() {
                    lane.turns.push_back(payer);
                }
                queue.push_back(outgoing);
            }
            Urgency::Last => lane.last.push_back(outgoing),
        }
    }

    /// Checks that each lane has as many calls, with a worker or waiting for a place, as are known of it.
    #[cfg(test)]
    pub(crate) fn check(&self, calls: impl Fn(LaneId) -> usize) {
        for (id, lane) in &self.lanes {
            assert_eq!(PLACES - lane.free + lane.waits(), calls(*id), "calls of {id:?}");
        }
    }

    /// Checks that these are the open lanes, and that nothing waits in them.
    #[cfg(test)]
    pub(crate) fn check_at_rest(&self, used: &std::collections::BTreeSet<LaneId>) {
        let Self { lanes, made: _ } = self;
        let open: std::collections::BTreeSet<_> = lanes.keys().copied().collect();
        assert_eq!(open, *used, "lanes that are open, and those that lead to something");
        for (id, lane) in lanes {
            let Lane { name: _, provider_type: _, free, first, turns, waiting, last } = lane;
            assert_eq!(*free, PLACES, "places of {id:?}");
            let idle = first.is_empty() && turns.is_empty() && waiting.is_empty();
            assert!(idle && last.is_empty(), "calls wait in {id:?}");
        }
    }

    /// A call was answered: its place is free.
    pub(crate) fn answered(&mut self, id: LaneId, turn: &mut Turn) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.free += 1;
            if let Some(outgoing) = lane.next() {
                lane.emit(id, outgoing, turn);
            }
        }
    }
}
