//! The machine of providers by itself: whatever happens, what goes on with a call goes on once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use sundown_protocol::Code;

use crate::Tick;
use crate::ground::event::{CallId, Effect, LaneId, Turn};
use crate::ground::provider::{ProviderCall, ProviderError, ProviderType, StoreRead};
use crate::peers::account::{AccountId, Payer, Source};
use crate::providers::Providers;
use crate::providers::calls::{Called, Caller};
use crate::providers::doubts::{Again, Verdict};
use crate::providers::lanes::{PLACES, Priority};

/// What may happen to the providers. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Act {
    Open,
    Call {
        lane: usize,
        user: u32,
        priority: Priority,
        asks: bool,
    },
    /// The worker answers its oldest call, or another one.
    Answer {
        lane: usize,
        at: usize,
        over: bool,
    },
    TakeBack {
        call: usize,
    },
    GiveBack {
        call: usize,
    },
    Leave {
        user: u32,
    },
    Doubt {
        lane: usize,
    },
    Renewed {
        lane: usize,
        worked: bool,
    },
    Close {
        lane: usize,
    },
}

fn acts() -> impl Strategy<Value = Act> {
    let priority = prop_oneof![
        8 => Just(Priority::InTurn),
        1 => Just(Priority::First),
        1 => Just(Priority::Last)
    ];
    let call = (any::<usize>(), 0..3u32, priority, any::<bool>());
    prop_oneof![
        1 => Just(Act::Open),
        12 => call.prop_map(|(lane, user, priority, asks)| Act::Call { lane, user, priority, asks }),
        8 => (any::<usize>(), 0..3usize, any::<bool>())
            .prop_map(|(lane, at, over)| Act::Answer { lane, at, over }),
        1 => any::<usize>().prop_map(|call| Act::TakeBack { call }),
        1 => any::<usize>().prop_map(|call| Act::GiveBack { call }),
        1 => (0..3u32).prop_map(|user| Act::Leave { user }),
        1 => any::<usize>().prop_map(|lane| Act::Doubt { lane }),
        1 => (any::<usize>(), any::<bool>())
            .prop_map(|(lane, worked)| Act::Renewed { lane, worked }),
        1 => any::<usize>().prop_map(|lane| Act::Close { lane }),
    ]
}

/// What the test knows of the machine: what must go on, and what each worker has.
#[derive(Default)]
struct Model {
    providers: Providers<u64>,
    lanes: Vec<LaneId>,
    made: u64,
    /// What goes on with calls that were made and have not ended.
    waits: BTreeSet<u64>,
    /// What a worker has, in the order in which it was called.
    with_worker: BTreeMap<LaneId, Vec<CallId>>,
    renewing: BTreeSet<LaneId>,
}

impl Model {
    fn turn(&mut self, act: impl FnOnce(&mut Self, &mut Turn)) {
        let mut effects = Vec::new();
        let tick = Tick { boot: Duration::ZERO, wall: SystemTime::UNIX_EPOCH, seed: 1 };
        act(self, &mut Turn::new(tick, &mut effects));
        for effect in effects {
            match effect {
                Effect::Call { lane, call, .. } => {
                    self.with_worker.entry(lane).or_default().push(call);
                }
                Effect::CloseLane(lane) => {
                    self.with_worker.remove(&lane);
                }
                other => panic!("{other:?}"),
            }
        }
        while let Some(lost) = self.providers.next_lost() {
            self.goes_on(lost.then);
        }
    }

    fn goes_on(&mut self, then: u64) {
        assert!(self.waits.remove(&then), "{then} goes on twice, or was never to");
    }

    fn lane(&self, at: usize) -> Option<LaneId> {
        self.lanes.get(at.checked_rem(self.lanes.len())?).copied()
    }

    /// A call that was not answered, whichever this number chooses.
    fn pick(&self, at: usize) -> Option<CallId> {
        let mut calls: Vec<_> = self.providers.calls().map(|(id, _)| id).collect();
        calls.sort_unstable();
        calls.get(at.checked_rem(calls.len())?).copied()
    }

    fn play(&mut self, act: &Act) {
        match *act {
            Act::Open => {
                let lane = self.providers.open(ProviderType::Store, "a store");
                self.lanes.push(lane);
            }
            Act::Call { lane, user, priority, asks } => {
                let Some(lane) = self.lane(lane) else { return };
                self.made += 1;
                let (number, caller) =
                    (self.made, Caller { session: None, process: None, priority });
                let question = ProviderCall::Read(StoreRead::Oldest);
                let call = if asks { question } else { ProviderCall::Logon };
                let payer = match user {
                    0 => Payer::Broker,
                    uid => Payer::User(uid, Source::Process(AccountId::BROKER)),
                };
                self.waits.insert(number);
                self.turn(|model, turn| {
                    let by = (caller, payer, None);
                    model.providers.call(CallId(number), lane, by, call, number, turn);
                });
            }
            Act::Answer { lane, at, over } => {
                let Some(lane) = self.lane(lane) else { return };
                let worker = self.with_worker.entry(lane).or_default();
                let Some(at) = at.checked_rem(worker.len()) else { return };
                let call = worker.remove(at);
                self.turn(|model, turn| model.answered(lane, call, over, turn));
            }
            Act::TakeBack { call } => {
                let Some(call) = self.pick(call) else { return };
                let lane = self.providers.get(call).map(|call| call.lane);
                let has_begun = lane.is_some_and(|lane| self.providers.has_begun(lane, call));
                let taken = self.providers.take_back(call);
                assert_eq!(taken.is_none(), has_begun, "what a worker has stays with it");
                if let Some(call) = taken {
                    self.goes_on(call.then);
                }
            }
            Act::GiveBack { call } => {
                let Some(call) = self.pick(call) else { return };
                let worker = self.with_worker.values_mut().find(|w| w.contains(&call));
                let Some(worker) = worker else { return };
                worker.retain(|c| *c != call);
                self.turn(|model, turn| {
                    let call = model.providers.end(call, turn).expect("its worker had it");
                    model.goes_on(call.then);
                });
            }
            Act::Leave { user } => {
                for call in self.providers.leave_behind(user, AccountId::BROKER) {
                    assert_eq!(call.name, "Oldest", "only what is asked is given up");
                    self.goes_on(call.then);
                }
            }
            Act::Doubt { lane } => {
                let Some(lane) = self.lane(lane) else { return };
                if self.providers.is_open(lane) {
                    self.made += 1;
                    self.providers.doubts().doubt(lane, None, CallId(self.made));
                }
            }
            Act::Renewed { lane, worked } => {
                let Some(lane) = self.lane(lane) else { return };
                if self.renewing.remove(&lane) {
                    let waited = self.providers.doubts().renewed(lane, worked);
                    for again in waited.expect("it was being made anew") {
                        self.goes_on(again.then);
                    }
                }
            }
            Act::Close { lane } => {
                let Some(lane) = self.lane(lane) else { return };
                let worker = self.with_worker.get(&lane).cloned().unwrap_or_default();
                self.renewing.remove(&lane);
                self.turn(|model, turn| {
                    for (id, called, call) in model.providers.close(lane, turn) {
                        assert_eq!(called == Called::Yes, worker.contains(&id), "{id:?}");
                        model.goes_on(call.then);
                    }
                });
            }
        }
    }

    fn answered(&mut self, lane: LaneId, id: CallId, over: bool, turn: &mut Turn) {
        let call = self.providers.end(id, turn).expect("a worker has only what was called");
        let error = over.then(|| ProviderError::new(Code::E_NOT_INITIALIZED, "it is over"));
        let again = call.again.map(|again| {
            let (caller, provider) = *again;
            Again { lane, caller, call: provider, then: call.then }
        });
        let verdict = self.providers.doubts().judge(lane, id, error.as_ref());
        match (again, verdict) {
            (Some(again), Verdict::Over(by)) => {
                if let Some(first) = self.providers.doubts().wait(by, again) {
                    self.made += 1;
                    self.providers.doubts().renew(by, Some(CallId(self.made)), first);
                    self.renewing.insert(by);
                }
            }
            (_, verdict) => {
                if let Verdict::Sound(by) = verdict {
                    self.providers.doubts().trust(by);
                }
                self.goes_on(call.then);
            }
        }
    }

    /// The machine has what is known of it, and nothing waits while there is a place.
    fn check(&self) {
        self.providers.check();
        let thens: BTreeSet<_> = self.providers.thens().copied().collect();
        assert_eq!(thens, self.waits, "what is kept is what must go on");
        for (lane, worker) in &self.with_worker {
            assert!(worker.len() <= PLACES, "a worker has more than it has places");
            let of_it = self.providers.calls().filter(|(_, call)| call.lane == *lane).count();
            assert!(worker.len() == of_it || worker.len() == PLACES, "a place is free");
        }
        assert_eq!(self.providers.awaits(), self.providers.calls().next().is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each call goes on once: with its answer, taken back, or lost with its lane. When all lanes are closed nothing is left.
    #[test]
    fn what_waits_for_a_call_goes_on_once(acts in prop::collection::vec(acts(), 1..200)) {
        let mut model = Model::default();
        model.play(&Act::Open);
        for act in acts {
            model.play(&act);
            model.check();
        }
        for lane in 0..model.lanes.len() {
            model.play(&Act::Close { lane });
        }
        prop_assert!(model.waits.is_empty(), "{:?} never went on", model.waits);
        model.providers.check_at_rest(&BTreeSet::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// With more calls than places, so that turns matter: those of one payer keep their order.
    #[test]
    fn a_payers_calls_keep_their_order(users in prop::collection::vec(1..4u32, 260..360)) {
        let mut model = Model::default();
        model.play(&Act::Open);
        let mut payers = BTreeMap::new();
        for user in users {
            let priority = Priority::InTurn;
            model.play(&Act::Call { lane: 0, user, priority, asks: true });
            payers.insert(model.made, user);
        }
        let mut last = BTreeMap::new();
        while let Some(call) = model.with_worker.values().flatten().next().copied() {
            let user = payers[&call.0];
            prop_assert!(last.insert(user, call).is_none_or(|before| before < call));
            model.play(&Act::Answer { lane: 0, at: 0, over: false });
            model.check();
        }
        prop_assert!(model.waits.is_empty());
    }
}
