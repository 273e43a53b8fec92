//! Figures for monitoring: how much there is of everything, and what has happened since the broker started.

use std::collections::BTreeMap;

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::reply::LimitStatus;

use crate::broker::Broker;
use crate::ground::event::{EngineId, Turn};
use crate::ground::provider::ProviderError;
use crate::providers::ask::{self, Ask};
use crate::providers::calls::Caller;
use crate::queue::engine::Engine;
use crate::sessions::member::MemberState;

/// The figures at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Open connections.
    pub connections: u64,
    /// Processes with a connection, and processes that are remembered until they end.
    pub processes: u64,
    /// Sessions by state, as `status` names it, closing ones included.
    pub sessions: BTreeMap<&'static str, u64>,
    /// Members by state.
    pub members: BTreeMap<&'static str, u64>,
    /// Submissions by state, in the order of [`SubmissionState::ALL`](sundown_protocol::reply::SubmissionState::ALL); final ones
    /// since the broker started.
    pub queue: [u64; 9],
    /// Submissions that no present session may send.
    pub waiting_for_mail_member: u64,
    /// When the oldest message in the queue was submitted, in milliseconds since 1970, as of the stores' last answers.
    pub oldest: Option<u64>,
    /// Members that have left since the broker started, in the order of [`DEPARTURES`].
    pub departures: [u64; 5],
    /// Limits, and how much of each is used.
    pub limits: Vec<LimitStatus>,
    /// Whether the broker is stopping.
    pub stopping: bool,
}

/// The reasons why members leave, in the order in which they are counted.
pub const DEPARTURES: [LeaveReason; 5] = [
    LeaveReason::LoggedOff,
    LeaveReason::FastShutdown,
    LeaveReason::Disconnected,
    LeaveReason::Evicted,
    LeaveReason::BrokerStopped,
];

impl Broker {
    /// The figures at this moment.
    pub fn figures(&self) -> Figures {
        let mut sessions = BTreeMap::from(["starting", "active", "memberless", "ending"].map(zero));
        for session in self.sessions.all.values() {
            *sessions.entry(session.state_name()).or_default() += 1;
        }
        let mut members = BTreeMap::from(["attached", "draining"].map(zero));
        for member in self.sessions.members.values() {
            let state = match member.state {
                MemberState::Attached => "attached",
                MemberState::Draining(_) => "draining",
            };
            *members.entry(state).or_default() += 1;
        }
        let oldest = self.queues.engines.values().filter(|engine| engine.waits());
        Figures {
            connections: self.peers.connections.len() as u64,
            processes: self.peers.processes.iter().count() as u64,
            sessions,
            members,
            queue: self.queue_counts(),
            waiting_for_mail_member: self.waiting_for_mail(),
            oldest: oldest.filter_map(Engine::oldest).min(),
            departures: self.sessions.departures,
            limits: self.broker_status().limits,
            stopping: self.is_stopping(),
        }
    }

    /// Asks stores for the figures that the broker does not have. The answers appear in later figures.
    pub(crate) fn measure(&mut self, turn: &mut Turn) {
        let asked: Vec<_> =
            self.queues.engines.values().filter(|e| e.can_be_asked()).map(|e| e.id).collect();
        for id in asked {
            let engine = self.queues.engines.get_mut(id).expect("it was listed just now");
            engine.oldest_asked();
            let lane = engine.read;
            self.call(lane, Caller::broker(None).last(), Ask::oldest(), id, turn);
        }
    }

    pub(crate) fn measured(&mut self, id: EngineId, result: &Result<ask::Oldest, ProviderError>) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let said = result.as_ref().map_or(engine.oldest(), |ask::Oldest(submitted)| *submitted);
        engine.oldest_answered(said);
    }

    /// Submissions by state; final ones since the broker started.
    pub(crate) fn queue_counts(&self) -> [u64; 9] {
        let mut queue = self.queues.finals;
        for engine in self.queues.engines.values() {
            engine.add_counts(&mut queue);
        }
        for closed in self.queues.closed.values() {
            for (sum, count) in queue.iter_mut().zip(closed.queue) {
                *sum += count;
            }
        }
        queue
    }
}

pub(crate) fn zero(state: &'static str) -> (&'static str, u64) {
    (state, 0)
}
