//! A broker whose providers answer at once and say yes.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use sundown_core::address::Pattern;
use sundown_core::provider::{
    KeptClock, Outcome, ProviderAnswer, ProviderCall, ProviderSpec, ProviderType, Recipient,
    RecipientResult, StoreChange, StoreFacts, StoreRead, StoreWrite, Submission, SubmissionState,
    TransportCall, TransportFacts,
};
use sundown_core::settings::{
    LoadedProfile, Looked, Profile, QueuePolicy, Settings, TransportSpec, Version,
};
use sundown_core::{
    Broker, CallId, ConnectionId, Effect, Event, LaneId, PeerIdentity, ProcessKey, Tick,
};
use sundown_protocol::reply::{Peer, Reply};
use sundown_protocol::request::{Asked, Folder, Logon, LogonFlags, Request};
use sundown_protocol::{MemberId, RequestId};

/// The broker's own user.
const OWNER: u32 = 1_000;
/// The store's number.
pub(crate) const STORE: u32 = 1;

/// A member, and where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) at: ConnectionId,
    pub(crate) id: MemberId,
}

pub(crate) struct World {
    broker: Broker,
    pub(crate) boot: Duration,
    seed: u64,
    /// What came out of the last event.
    pub(crate) effects: Vec<Effect>,
    calls: VecDeque<(CallId, LaneId, ProviderCall)>,
    lanes: HashMap<LaneId, ProviderType>,
    /// Recipients of what a transport has prepared.
    prepared: HashMap<u64, Vec<usize>>,
    /// Messages that wait in the store's queue.
    queue: u64,
    order: u64,
    requests: u64,
    processes: u64,
    last: Option<Reply>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_queue(0)
    }

    /// So many messages are in the queue, each due a millisecond after the other, the first in a minute.
    pub(crate) fn with_queue(queue: u64) -> Self {
        Self {
            broker: Broker::new(Settings { owner: OWNER, ..Settings::default() }),
            boot: Duration::from_secs(1_000),
            seed: 1,
            effects: Vec::new(),
            calls: VecDeque::new(),
            lanes: HashMap::new(),
            prepared: HashMap::new(),
            queue,
            order: 0,
            requests: 0,
            processes: 0,
            last: None,
        }
    }

    fn tick(&self) -> Tick {
        // The machine started on the first of September 2020.
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_598_918_400) + self.boot;
        Tick { boot: self.boot, wall, seed: self.seed }
    }

    /// Applies one event, and nothing else.
    pub(crate) fn apply(&mut self, event: Event) {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let tick = self.tick();
        self.broker.apply(tick, event, &mut self.effects);
    }

    /// Applies an event and forgets what came out of it.
    pub(crate) fn apply_one(&mut self, event: Event) {
        self.apply(event);
        self.effects.clear();
    }

    /// Applies an event and everything that follows from it.
    pub(crate) fn settle(&mut self, event: Event) {
        self.apply(event);
        loop {
            self.carry_out();
            let Some((call, lane, provider)) = self.calls.pop_front() else { return };
            let answer = self.answer(lane, provider);
            self.apply(Event::Answered { call, result: Ok(answer) });
        }
    }

    fn carry_out(&mut self) {
        while !self.effects.is_empty() {
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::OpenLane(spec) => {
                        self.lanes.insert(spec.lane, spec.provider_type);
                        self.lanes.extend(spec.reader.map(|reader| (reader, ProviderType::Store)));
                    }
                    Effect::Call { lane, call, provider, .. } => {
                        self.calls.push_back((call, lane, provider));
                    }
                    Effect::LoadProfile { session, .. } => {
                        let profile = Box::new(profile());
                        let result = Ok(LoadedProfile { profile, version: Version::default() });
                        self.apply(Event::ProfileLoaded { session, result });
                    }
                    Effect::LookAtProfile { name, .. } => {
                        self.apply(Event::ProfileLooked { name, result: Ok(Looked::Same) });
                    }
                    Effect::Answer { result, .. } => {
                        self.last = Some(result.expect("it is not refused"));
                    }
                    _ => {}
                }
            }
            if self.effects.is_empty() {
                self.effects = effects;
            }
        }
    }

    fn answer(&mut self, lane: LaneId, call: ProviderCall) -> ProviderAnswer {
        match call {
            ProviderCall::Logon => match self.lanes[&lane] {
                ProviderType::Store => {
                    let mut queue = [0; 9];
                    queue[SubmissionState::Deferred as usize] = self.queue;
                    ProviderAnswer::StoreOpened(StoreFacts {
                        uid: STORE,
                        queue,
                        no_mail: 0,
                        damage: None,
                        clock: KeptClock::default(),
                    })
                }
                ProviderType::Transport => {
                    ProviderAnswer::TransportReady(TransportFacts::default())
                }
                ProviderType::AddressBook | ProviderType::Mailbox => ProviderAnswer::Done,
            },
            ProviderCall::Write(StoreWrite::Submit { submission, .. }) => {
                self.order += 1;
                let submission = Box::new(Submission { order: self.order, ..*submission });
                ProviderAnswer::Submitted { submission, new: true }
            }
            ProviderCall::Write(StoreWrite::Update(_)) => {
                ProviderAnswer::Updated { moved: None, notice: None, pending: false }
            }
            ProviderCall::Write(StoreWrite::Delete { .. } | StoreWrite::DeleteFrom { .. }) => {
                ProviderAnswer::Removed { from: Folder::INBOX, to: Some(Folder::DELETED) }
            }
            ProviderCall::Write(StoreWrite::SetFlags { add, .. }) => {
                ProviderAnswer::Flagged { folder: Folder::INBOX, flags: add, changed: true }
            }
            ProviderCall::Read(StoreRead::Due { after, limit }) => {
                let first = after.map_or(0, |(_, order)| order);
                let last = (first + u64::from(limit)).min(self.queue);
                let submissions = (first..last).map(|order| self.waiting(order + 1)).collect();
                ProviderAnswer::Due { submissions, more: last < self.queue, damaged: 0 }
            }
            ProviderCall::Transport(TransportCall::Prepare(transmission)) => {
                let recipients = transmission.recipients.iter().map(|(place, _)| *place).collect();
                self.prepared.insert(transmission.id, recipients);
                ProviderAnswer::Prepared { marker: String::new(), refused: Vec::new() }
            }
            ProviderCall::Transport(TransportCall::Complete { id }) => {
                let recipients = self.prepared.remove(&id).expect("it was prepared");
                let sent = |recipient| RecipientResult {
                    recipient,
                    outcome: Outcome::Sent,
                    reply: "250 2.0.0 taken".to_owned(),
                };
                ProviderAnswer::Results(recipients.into_iter().map(sent).collect())
            }
            _ => ProviderAnswer::Done,
        }
    }

    /// A message that was tried and waits.
    fn waiting(&self, order: u64) -> Submission {
        let now = self.tick().millis();
        let recipient = Recipient {
            address: "anna@example.org".to_owned(),
            state: SubmissionState::Deferred,
            intent: None,
            reply: None,
        };
        Submission {
            record: u128::from(order),
            profile: "default".to_owned(),
            uid: OWNER,
            from: "me@here".to_owned(),
            recipients: vec![recipient],
            subject: "report".to_owned(),
            size: 1_000,
            order,
            no_mail: false,
            attempts: 1,
            due: now + 60_000 + order,
            submitted: now,
            last_error: None,
            report: sundown_protocol::request::Report::default(),
            route: None,
            born: None,
            delay_told: false,
        }
    }

    // --- clients ---

    /// The hello of another process.
    pub(crate) fn hello(&mut self) -> (ConnectionId, Event) {
        self.processes += 1;
        let mut key = [7; 32];
        key[8..16].copy_from_slice(&self.processes.to_le_bytes());
        let identity = PeerIdentity {
            key: ProcessKey(key),
            peer: Peer { pid: self.processes as u32, program: "mail-notifier".to_owned() },
            uid: OWNER,
            library: [3; 16],
            since: std::time::Duration::ZERO,
            served_before: false,
        };
        let connection = ConnectionId(self.processes);
        (connection, Event::Connected { connection, identity })
    }

    pub(crate) fn connect(&mut self) -> ConnectionId {
        let (connection, hello) = self.hello();
        self.settle(hello);
        connection
    }

    /// A mailbox has written into the store.
    pub(crate) fn stored(&self, changes: Vec<StoreChange>) -> Event {
        let stores = self.lanes.iter().filter(|(_, kind)| **kind == ProviderType::Store);
        // The writer of a store was opened before its reader.
        let lane = *stores.map(|(lane, _)| lane).min().expect("a store is open");
        Event::StoreChanged { lane, changes }
    }

    /// A request as an event.
    pub(crate) fn asks(&mut self, connection: ConnectionId, request: Request) -> Event {
        self.requests += 1;
        let asked = Asked { id: RequestId(self.requests), request };
        Event::Request { connection, asked, bytes: 64 }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, connection: ConnectionId, request: Request) -> Reply {
        let event = self.asks(connection, request);
        self.last = None;
        self.settle(event);
        self.last.take().expect("it is answered")
    }

    /// A member of the shared session, in a process of its own.
    pub(crate) fn member(&mut self) -> Member {
        let at = self.connect();
        let Reply::LoggedOn(logged_on) = self.ask(at, logon()) else { panic!("logged on") };
        Member { at, id: logged_on.member }
    }

    /// What a request does before a provider answers, and then the answer as an event.
    pub(crate) fn answer_to(&mut self, connection: ConnectionId, request: Request) -> Event {
        let event = self.asks(connection, request);
        self.apply(event);
        self.carry_out();
        let (call, lane, provider) = self.calls.pop_front().expect("a provider is called");
        let answer = self.answer(lane, provider);
        Event::Answered { call, result: Ok(answer) }
    }
}

pub(crate) fn logon() -> Request {
    Request::Logon(Logon { profile: None, flags: LogonFlags::default() })
}

/// A profile with one provider of each type.
fn profile() -> Profile {
    let everything = Pattern::parse("*").expect("a pattern");
    let spec = |kind: &str| ProviderSpec { path: kind.into(), ..ProviderSpec::new(kind) };
    Profile {
        name: "default".to_owned(),
        identity: "me@here".to_owned(),
        stores: vec![spec("store")],
        transports: vec![TransportSpec {
            provider: spec("relay"),
            accept: vec![everything],
            senders: Vec::new(),
        }],
        address_books: vec![spec("people")],
        queue: QueuePolicy::default(),
        access: Vec::new(),
        local: sundown_core::local::LocalMail::default(),
        forward: sundown_core::settings::Forward::No,
        mailboxes: Vec::new(),
        on_new_mail: None,
    }
}
