//! Figures for monitoring: how much there is of everything, and what has happened since the broker started.

use std::collections::BTreeMap;

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::reply::{LimitStatus, SubmissionState};

use crate::broker::Broker;
use crate::ground::event::{EngineId, Turn};
use crate::ground::provider::{ProviderError, ProviderType};
use crate::providers::ask::{self, Ask};
use crate::providers::calls::Caller;
use crate::providers::view::ProviderState;
use crate::queue::engine::Engine;
use crate::queue::tally::{Happened, TRANSPORTS, Used};
use crate::sessions::member::MemberState;
use crate::sessions::session::Session;

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
    /// The queue and the transports of each profile that had an open store, by its name. From the hundredth profile on they stand
    /// together under `(others)`, without their transports.
    pub profiles: BTreeMap<String, ProfileFigures>,
    /// Requests since the broker started, those that were refused included.
    pub requests: u64,
    /// Members that have left since the broker started, in the order of [`DEPARTURES`].
    pub departures: [u64; 5],
    /// Limits, and how much of each is used.
    pub limits: Vec<LimitStatus>,
    /// Whether the broker is stopping.
    pub stopping: bool,
}

/// The figures of one profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileFigures {
    /// Submissions by state, in the order of [`SubmissionState::ALL`](sundown_protocol::reply::SubmissionState::ALL); final ones
    /// since the broker started. Those that wait are counted in the profile that opened their store, if several share one.
    pub queue: [u64; 9],
    /// How often a message was deferred since the broker started.
    pub deferrals: u64,
    /// When the oldest message that waits was submitted, in milliseconds since 1970, as of the stores' last answers.
    pub oldest: Option<u64>,
    /// Its transports by name.
    pub transports: BTreeMap<String, TransportFigures>,
    /// The mailboxes of its sessions by name.
    pub mailboxes: BTreeMap<String, MailboxFigures>,
    /// Of how many messages programs were told as new mail since the broker started.
    pub new_mail: u64,
    /// How many changes its mailboxes have written into stores since the broker started.
    pub mirrored: u64,
}

/// The figures of one mailbox. All sessions of its profile count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailboxFigures {
    /// Whether it works in all of them.
    pub works: bool,
    /// Whether it watches in one of them.
    pub watching: bool,
}

/// The figures of one transport. All sessions of its profile count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransportFigures {
    /// Whether its last use worked; `None` before the first.
    pub works: Option<bool>,
    /// When it was last used, in milliseconds since 1970.
    pub used: Option<u64>,
    /// When it last worked, in milliseconds since 1970.
    pub worked: Option<u64>,
    /// Whether a session has it now. Of a profile without a session its transports are known that were used.
    pub has_session: bool,
    /// Messages that it is handling.
    pub in_flight: u64,
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
            profiles: self.profile_figures(),
            requests: self.peers.requests_made,
            departures: self.sessions.departures,
            limits: self.broker_status().limits,
            stopping: self.is_stopping(),
        }
    }

    fn profile_figures(&self) -> BTreeMap<String, ProfileFigures> {
        let tally = &self.queues.tally;
        let mut profiles = BTreeMap::new();
        for (name, happened) in tally.profiles() {
            let mut figures = ProfileFigures::default();
            for (state, count) in SubmissionState::ALL.into_iter().zip(happened.became) {
                if state.is_final() {
                    figures.queue[state as usize] = count;
                }
            }
            figures.deferrals = happened.became[SubmissionState::Deferred as usize];
            (figures.new_mail, figures.mirrored) = (happened.new_mail, happened.mirrored);
            profiles.insert(name.to_owned(), (figures, happened));
        }
        let mut add = |profile: &str, queue: &dyn Fn(&mut [u64; 9]), oldest: Option<u64>| {
            if let Some((figures, _)) = profiles.get_mut(tally.name(profile)) {
                queue(&mut figures.queue);
                figures.oldest = figures.oldest.into_iter().chain(oldest).min();
            }
        };
        for engine in self.queues.engines.values() {
            let oldest = engine.oldest().filter(|_| engine.waits());
            add(&engine.profile, &|queue| engine.add_counts(queue), oldest);
        }
        for closed in self.queues.closed.values() {
            let counts = |queue: &mut [u64; 9]| {
                for (sum, count) in queue.iter_mut().zip(closed.queue) {
                    *sum += count;
                }
            };
            add(&closed.profile, &counts, None);
        }
        let with_transports =
            |(name, (mut figures, happened)): (String, (ProfileFigures, &Happened))| {
                figures.transports = self.transport_figures(&name, happened);
                figures.mailboxes = self.mailbox_figures(&name);
                (name, figures)
            };
        profiles.into_iter().map(with_transports).collect()
    }

    /// The transports of a profile: those of its sessions, or, without a session, those that were used.
    fn transport_figures(
        &self,
        profile: &str,
        happened: &Happened,
    ) -> BTreeMap<String, TransportFigures> {
        let used = |used: &Used| TransportFigures {
            works: Some(used.works),
            used: Some(used.at),
            worked: used.worked,
            ..TransportFigures::default()
        };
        let open = |session: &&Session| !session.closes() && !session.providers.is_empty();
        let mut sessions = self.sessions.all.of_profile(profile).filter(open).peekable();
        if sessions.peek().is_none() {
            let of = |(name, of): (&String, &Used)| (name.clone(), used(of));
            return happened.transports.iter().map(of).collect();
        }
        let mut transports: BTreeMap<String, TransportFigures> = BTreeMap::new();
        for provider in sessions.flat_map(|session| &session.providers) {
            if provider.kind != ProviderType::Transport || !provider.is_in_use() {
                continue;
            }
            let has_room = transports.len() < TRANSPORTS;
            if !has_room && !transports.contains_key(&provider.name) {
                continue;
            }
            let figures = transports.entry(provider.name.clone()).or_insert_with(|| {
                happened.transports.get(&provider.name).map(used).unwrap_or_default()
            });
            figures.has_session = true;
            figures.in_flight += provider.in_flight as u64;
        }
        transports
    }

    /// The mailboxes of a profile's sessions, as far as it is known whether they work.
    fn mailbox_figures(&self, profile: &str) -> BTreeMap<String, MailboxFigures> {
        let sessions = self.sessions.all.of_profile(profile).filter(|session| !session.closes());
        let mut mailboxes: BTreeMap<String, MailboxFigures> = BTreeMap::new();
        for provider in sessions.flat_map(|session| &session.providers) {
            if provider.kind != ProviderType::Mailbox || !provider.is_in_use() {
                continue;
            }
            let fails = provider.last.as_ref().is_some_and(|last| !last.worked);
            let works = match provider.state {
                ProviderState::Available => !fails,
                ProviderState::Failed(_) => false,
                ProviderState::Configured
                | ProviderState::LoggingOn(_)
                | ProviderState::LoggingOff
                | ProviderState::Gone => continue,
            };
            let has_room = mailboxes.len() < TRANSPORTS;
            if !has_room && !mailboxes.contains_key(&provider.name) {
                continue;
            }
            let unknown = MailboxFigures { works: true, watching: false };
            let figures = mailboxes.entry(provider.name.clone()).or_insert(unknown);
            figures.works &= works;
            figures.watching |= provider.watching && works;
        }
        mailboxes
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
