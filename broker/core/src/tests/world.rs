//! A broker with everything around it: clients, providers, time. Nothing happens by itself; tests say what does.
//!
//! What must hold in every test is checked here and in [`checks`], with each event: a request is answered once, nobody is
//! told who is not there or has left, no lane gets more calls than it has places, no provider is called after its logoff, no
//! recipient is with two transports at once, nothing is handed over whose intent is not stored or that somebody is about to
//! change, a shutdown calls no provider while an earlier kind has not answered, what a process handed over is stored when it
//! is told that it may end, and it is told in time.

mod checks;
mod rest;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sundown_protocol::folder::Marks;
use sundown_protocol::notification::TableChange;
use sundown_protocol::reply::{LoggedOff, LoggedOn, Peer, Reply, Status, SubmissionState};
use sundown_protocol::request::{
    AdviseSource, Asked, Blob, Content, Durability, Folder, Logoff, LogoffFlags, Logon, LogonFlags,
    Opening, Request, Submit, Ticket,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, Event as News, Events, Fault, FaultDetail, MemberId, Notification,
    ObjectId, RequestId, SessionId, SessionTag, SubmitKey,
};

use checks::{Seen, is_shutdown};

use super::fakes::{
    AddressBook, Answer, How, Interface, Lie, Mailbox, Message, Step, Store, Transport, Wire, error,
};
use crate::address::Pattern;
use crate::broker::Broker;
use crate::ground::event::Behalf;
use crate::ground::event::CallId;
use crate::ground::event::ConnectionId;
use crate::ground::event::Effect;
use crate::ground::event::End;
use crate::ground::event::Event;
use crate::ground::event::LaneId;
use crate::ground::event::LaneSpec;
use crate::ground::event::PeerIdentity;
use crate::ground::event::ProcessKey;
use crate::ground::event::ProviderNews;
use crate::ground::event::QuestionId;
use crate::ground::event::Returned;
use crate::ground::event::Stop;
use crate::ground::event::Tick;
use crate::ground::expected::Wrong;
use crate::provider::AskedBy;
use crate::provider::MessageFacts;
use crate::provider::Mirror;
use crate::provider::MirrorChange;
use crate::provider::ProviderAnswer;
use crate::provider::ProviderCall;
use crate::provider::ProviderSpec;
use crate::provider::ProviderType;
use crate::provider::Spot;
use crate::provider::StoreChange;
use crate::provider::StoreWrite;
use crate::provider::Submission;
use crate::provider::TransportCall;
use crate::queue::age::Running;
use crate::sessions::object::Object;
use crate::settings::LoadedProfile;
use crate::settings::Looked;
use crate::settings::MailboxSpec;
use crate::settings::Profile;
use crate::settings::QueuePolicy;
use crate::settings::Settings;
use crate::settings::TransportSpec;
use crate::settings::Version;
use crate::settings::Watching;

/// The broker's own user.
pub(super) const OWNER: u32 = 1_000;
/// What mailboxes have written, by the name under which it is held back from the broker.
pub(super) const WRITTEN: &str = "what mailboxes have written";
/// Calls that a worker holds at once.
const PLACES: usize = 256;

/// A logon, as the test holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) at: ConnectionId,
    pub(super) id: MemberId,
    pub(super) session: SessionId,
}

/// One call, as a worker got it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Called {
    pub(super) provider: String,
    pub(super) kind: ProviderType,
    pub(super) session: Option<SessionId>,
    pub(super) pid: Option<u32>,
    pub(super) call: &'static str,
    /// For a question whether a transport works.
    pub(super) asked_by: Option<AskedBy>,
}

#[derive(Debug, Clone)]
enum Worker {
    Store { path: PathBuf, of: LaneId },
    Transport(Transport),
    AddressBook(AddressBook),
    Mailbox(Mailbox),
}

/// How often calls are looked at.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
struct Lane {
    name: String,
    kind: ProviderType,
    worker: Worker,
    waiting: VecDeque<(CallId, ProviderCall)>,
    /// Carried out, and not told yet.
    done: VecDeque<(CallId, &'static str, Answer)>,
}

#[derive(Debug, Clone)]
struct Client {
    pid: u32,
    process: ProcessKey,
    /// Whether the broker has forgotten the process since, or it was another one of that number.
    earlier: bool,
    open: bool,
    asked: HashSet<RequestId>,
    /// Those of them that are a `DoFastShutdown`.
    leaving: HashSet<RequestId>,
    /// Submissions that were answered on acceptance, and not said to be lost.
    accepted: HashSet<EntryId>,
    answers: HashMap<RequestId, Result<Reply, Fault>>,
    /// Notifications that came, however many events are in each.
    notified: usize,
    news: Vec<Notification>,
    /// Answers and news in the order they came.
    heard: Vec<Heard>,
    closed: Option<Fault>,
    /// Whether its process has ended.
    over: bool,
    /// The copy of the library at its end.
    library: [u8; 16],
}

/// What a client heard.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    Answer(RequestId),
    News(MemberId, News),
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) broker: Broker,
    boot: Duration,
    /// By how many seconds the wall clock was set forward since the beginning.
    pub(super) clock_set: i64,
    seed: u64,
    armed: Option<Duration>,
    pub(super) profiles: BTreeMap<String, Profile>,
    pub(super) stores: BTreeMap<PathBuf, Store>,
    pub(super) wire: Wire,
    lanes: BTreeMap<LaneId, Lane>,
    closed: BTreeSet<LaneId>,
    loads: VecDeque<(SessionId, String)>,
    /// Questions about users that are not answered.
    pub(super) questions: VecDeque<(QuestionId, Vec<String>)>,
    /// For how long brokers had run when this one began.
    pub(super) running: Running,
    /// The users of the host.
    pub(super) users: BTreeSet<String>,
    /// Questions about users are not answered.
    pub(super) hold_users: bool,
    deletions: VecDeque<String>,
    /// Providers that shut down for good at a Do, by name.
    pub(super) literal: BTreeSet<String>,
    /// The call at which they are over: `DoFastShutdown`, or `NotifyProcessShutdown`.
    pub(super) over_at: ProviderCall,
    /// Those of them that are over until they are made anew, by lane; a store's is its writer's.
    over: BTreeSet<LaneId>,
    /// How often each provider carried out each shutdown call.
    carried_out: BTreeMap<String, usize>,
    /// Calls that were taken back in this event.
    withdrawn: VecDeque<CallId>,
    /// Lanes that were closed in this event and have nothing to do.
    threads_ended: VecDeque<LaneId>,
    /// Workers that were left behind, with what they have.
    left: BTreeMap<LaneId, Lane>,
    /// When calls were looked at last.
    looked: Duration,
    /// What the log says of providers that do not answer.
    pub(super) hanging: Vec<(String, &'static str)>,
    /// Messages of which the log says that their outcome is not known, and for how many recipients.
    pub(super) unknown: Vec<(EntryId, usize)>,
    /// Profile, provider and what the log says of it.
    pub(super) provider_news: Vec<(String, String, ProviderNews)>,
    /// Profiles whose sessions cannot start, and why; without a reason those whose sessions start again.
    pub(super) profile_news: Vec<(String, Option<String>)>,
    /// What the log says of messages that came back.
    pub(super) came_back: Vec<(EntryId, Returned)>,
    /// The commands that were run, and what they read.
    pub(super) ran: Vec<(Vec<String>, Vec<u8>)>,
    /// Commands that were run for new mail: the profile, the command and the message.
    pub(super) ran_for_mail: Vec<(String, Vec<String>, EntryId)>,
    /// Profiles that were deleted.
    pub(super) deleted: Vec<String>,
    clients: BTreeMap<ConnectionId, Client>,
    members: HashMap<MemberId, ConnectionId>,
    /// The newest ticket of each copy of the library, and which processes a broker has served.
    tickets: BTreeMap<(u32, [u8; 16]), Ticket>,
    served: BTreeSet<u32>,
    /// What was written down of ended sessions.
    pub(super) ends: BTreeMap<SessionTag, End>,
    /// By which name each member can return.
    tags: HashMap<MemberId, SessionTag>,
    /// Providers that were given up in a fast shutdown: provider and call.
    pub(super) given_up: Vec<(String, &'static str)>,
    /// What providers answer instead of the truth.
    pub(super) lies: Vec<Lie>,
    /// How often one did.
    pub(super) lied: usize,
    /// Calls that were answered with something else: provider, call, and what is wrong with it.
    pub(super) wrong: Vec<(String, &'static str, Wrong)>,
    /// Every call, in order.
    pub(super) calls: Vec<Called>,
    /// Views that were logged off: no call of that session may follow.
    ended: HashSet<(LaneId, SessionId)>,
    /// Recipients with a transport, by record and place; the flight that has them.
    flying: HashMap<(u128, usize), (u64, LaneId)>,
    /// Flights that a transport was told to complete.
    completed: HashSet<u64>,
    /// Flights of these that find out what became of a message.
    recovering: BTreeSet<u64>,
    /// What providers have of the shutdown interface, by name; all support it otherwise.
    pub(super) interfaces: HashMap<String, Interface>,
    /// Shutdown calls that were neither answered nor given up.
    sweeping: Vec<(CallId, Called)>,
    /// Providers whose calls are not carried out: all (`*`) or those of one name.
    held: HashMap<String, BTreeSet<&'static str>>,
    /// Providers whose answers are not told.
    silent: HashMap<String, BTreeSet<&'static str>>,
    /// Workers that do nothing.
    stuck: BTreeSet<LaneId>,
    pub(super) hold_profiles: bool,
    /// What mailboxes have written into stores and the broker has not heard of, by the lane of the store's writer.
    mirrored: VecDeque<(LaneId, Vec<StoreChange>)>,
    /// What mailboxes answer next, by their names and calls.
    mailboxes_say: HashMap<String, VecDeque<Result<(), Code>>>,
    /// Looks at profiles that were asked for.
    looks: VecDeque<(String, Version)>,
    /// Looks at profiles are not answered.
    pub(super) hold_looks: bool,
    /// What was read of each profile, by version.
    versions: BTreeMap<String, Vec<Profile>>,
    /// Processes without connections whose ends are awaited, because the broker remembers them.
    watched: HashSet<ProcessKey>,
    /// Profiles that cannot be loaded, and why.
    pub(super) wrong_profiles: HashMap<String, Fault>,
    /// Messages that a transport can have prepared at once; until one of them is completed it answers no other prepare.
    pub(super) crew: usize,
    pub(super) stopped: usize,
    /// Process, user and code of what was refused as somebody else's.
    pub(super) refusals: Vec<(u32, u32, Code)>,
    /// How many effects came since the last time this was looked at.
    pub(super) worked: u64,
    made: u64,
    seen: Seen,
}

pub(super) fn transport(name: &str, accept: &[&str]) -> TransportSpec {
    let accept = accept.iter().map(|p| Pattern::parse(p).expect("a pattern")).collect();
    TransportSpec {
        provider: ProviderSpec { name: name.into(), ..ProviderSpec::new("fake") },
        accept,
        senders: Vec::new(),
    }
}

pub(super) fn store(name: &str, path: &str) -> ProviderSpec {
    ProviderSpec { name: name.into(), path: path.into(), ..ProviderSpec::new("fake") }
}

/// A mailbox that watches while somebody is there.
pub(super) fn mailbox(name: &str) -> MailboxSpec {
    let provider = ProviderSpec { name: name.into(), ..ProviderSpec::new("fake") };
    MailboxSpec { provider, watch: Watching::Members }
}

/// A mailbox finds a message in its top directory.
pub(super) fn found(name: &str, news: bool) -> MirrorChange {
    let facts = MessageFacts { from: "a@x".into(), subject: "hello".into(), ..Default::default() };
    let (spot, marks) = (Spot { dir: String::new(), name: name.into() }, Marks::default());
    MirrorChange::Found { spot, marks, news, facts: Box::new(facts) }
}

/// A profile with one store, an address book, and a transport for everything.
pub(super) fn profile(name: &str) -> Profile {
    Profile {
        name: name.into(),
        identity: "me@here".into(),
        stores: vec![store("store", &format!("/{name}/store"))],
        transports: vec![transport("relay", &["*"])],
        address_books: vec![ProviderSpec { name: "people".into(), ..ProviderSpec::new("fake") }],
        queue: QueuePolicy::default(),
        access: Vec::new(),
        local: crate::local::LocalMail::default(),
        forward: crate::settings::Forward::No,
        mailboxes: Vec::new(),
        on_new_mail: None,
    }
}

pub(super) fn settings() -> Settings {
    Settings { owner: OWNER, ..Settings::default() }
}

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Lane {
    /// A transport whose crew is busy does what ends a message first. Whether it can do what comes first now.
    fn pass_over_prepares(&mut self, crew: usize) -> bool {
        let Worker::Transport(transport) = &self.worker else { return true };
        if transport.busy() < crew {
            return true;
        }
        let other = self.waiting.iter().position(|(_, call)| call.name() != "SubmitMessage");
        let Some(call) = other.and_then(|at| self.waiting.remove(at)) else { return false };
        self.waiting.push_front(call);
        true
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(settings())
    }

    pub(super) fn with(settings: Settings) -> Self {
        let mut world = Self {
            broker: Broker::new(settings),
            boot: secs(1_000),
            clock_set: 0,
            seed: 1,
            armed: None,
            profiles: BTreeMap::new(),
            stores: BTreeMap::new(),
            wire: Wire::default(),
            lanes: BTreeMap::new(),
            closed: BTreeSet::new(),
            loads: VecDeque::new(),
            questions: VecDeque::new(),
            running: Running::default(),
            users: BTreeSet::new(),
            hold_users: false,
            deletions: VecDeque::new(),
            withdrawn: VecDeque::new(),
            threads_ended: VecDeque::new(),
            left: BTreeMap::new(),
            looked: Duration::ZERO,
            hanging: Vec::new(),
            unknown: Vec::new(),
            provider_news: Vec::new(),
            profile_news: Vec::new(),
            came_back: Vec::new(),
            ran: Vec::new(),
            ran_for_mail: Vec::new(),
            literal: BTreeSet::new(),
            over_at: ProviderCall::DoFastShutdown,
            over: BTreeSet::new(),
            carried_out: BTreeMap::new(),
            deleted: Vec::new(),
            clients: BTreeMap::new(),
            members: HashMap::new(),
            tickets: BTreeMap::new(),
            served: BTreeSet::new(),
            ends: BTreeMap::new(),
            tags: HashMap::new(),
            given_up: Vec::new(),
            lies: Vec::new(),
            lied: 0,
            wrong: Vec::new(),
            calls: Vec::new(),
            ended: HashSet::new(),
            flying: HashMap::new(),
            completed: HashSet::new(),
            recovering: BTreeSet::new(),
            interfaces: HashMap::new(),
            sweeping: Vec::new(),
            held: HashMap::new(),
            silent: HashMap::new(),
            stuck: BTreeSet::new(),
            hold_profiles: false,
            mirrored: VecDeque::new(),
            mailboxes_say: HashMap::new(),
            looks: VecDeque::new(),
            hold_looks: false,
            versions: BTreeMap::new(),
            watched: HashSet::new(),
            wrong_profiles: HashMap::new(),
            crew: usize::MAX,
            stopped: 0,
            refusals: Vec::new(),
            worked: 0,
            made: 0,
            seen: Seen::default(),
        };
        world.add_profile(profile("default"));
        world.add_profile(profile("work"));
        world
    }

    pub(super) fn add_profile(&mut self, profile: Profile) {
        for spec in &profile.stores {
            let uid = self.stores.len() as u32 + 1;
            self.stores.entry(spec.path.clone()).or_insert_with(|| Store::new(uid));
        }
        self.profiles.insert(profile.name.clone(), profile);
    }

    pub(super) fn profile(&mut self, name: &str) -> &mut Profile {
        self.profiles.get_mut(name).expect("there is such a profile")
    }

    /// What a mailbox answers to its next call of that name, without doing anything.
    pub(super) fn answers_for(&mut self, call: &str, said: Result<(), Code>) {
        self.mailboxes_say.entry(call.to_owned()).or_default().push_back(said);
    }

    /// The first store of a profile.
    pub(super) fn store(&mut self, profile: &str) -> &mut Store {
        let path = self.profiles[profile].stores[0].path.clone();
        self.stores.get_mut(&path).expect("there is such a store")
    }

    /// The broker dies; what is stored stays. A new one takes its place.
    pub(super) fn crash(&mut self) {
        let served = self.clients.values().filter(|c| !c.over).map(|c| c.pid);
        self.served.extend(served);
        let began = self.broker.queues.giving_up.began(self.boot);
        self.running.ran += self.boot.saturating_sub(began);
        self.broker = Broker::new(self.broker.settings.clone()).going_on(self.running);
        self.watched.clear();
        self.armed = None;
        self.lanes.clear();
        self.closed.clear();
        self.loads.clear();
        self.mirrored.clear();
        self.questions.clear();
        self.clients.clear();
        self.members.clear();
        self.ended.clear();
        self.flying.clear();
        self.recovering.clear();
        self.sweeping.clear();
        self.over.clear();
        self.seen = Seen::default();
        self.held.clear();
        self.silent.clear();
        self.lies.clear();
        self.stopped = 0;
        for store in self.stores.values_mut() {
            store.logons = 0;
            store.uploads.clear();
        }
    }

    // --- time ---

    pub(super) fn now(&self) -> Duration {
        self.boot
    }

    /// Wall time in milliseconds since 1970.
    pub(super) fn wall(&self) -> u64 {
        self.tick().millis()
    }

    fn tick(&self) -> Tick {
        // The machine started on the first of September 2020.
        let wall = SystemTime::UNIX_EPOCH + secs(1_598_918_400) + self.boot;
        let set = Duration::from_secs(self.clock_set.unsigned_abs());
        let wall = if self.clock_set < 0 { wall - set } else { wall + set };
        Tick { boot: self.boot, wall, seed: self.seed }
    }

    /// Lets time pass, and everything happen that is due meanwhile.
    pub(super) fn advance(&mut self, by: Duration) {
        let until = self.boot + by;
        self.settle();
        loop {
            let look = self.broker.awaits_providers().then(|| self.looked + LOOK);
            let Some(at) = self.armed.into_iter().chain(look).min().filter(|at| *at <= until)
            else {
                break;
            };
            self.boot = self.boot.max(at);
            if look == Some(at) {
                self.look();
            } else {
                self.fire();
            }
            self.settle();
        }
        self.boot = until;
        self.settle();
    }

    /// Calls that are not answered are looked at.
    pub(super) fn look(&mut self) {
        self.looked = self.boot;
        self.apply(Event::Look);
    }

    /// A worker that was left behind answers what it was called for after all, and its thread ends.
    pub(super) fn answers_late(
        &mut self,
        provider: &str,
        answer: impl Fn(&ProviderCall) -> Answer,
    ) {
        let of_it = |(_, lane): &(&LaneId, &Lane)| lane.name == provider;
        let lanes: Vec<_> = self.left.iter().filter(of_it).map(|(id, _)| *id).collect();
        for id in lanes {
            let lane = self.left.remove(&id).expect("listed just before");
            for (call, provider) in lane.waiting {
                let result = answer(&provider);
                self.apply(Event::Answered { call, result });
            }
            self.apply(Event::LaneEnded(id));
        }
        self.settle();
    }

    /// Lets time pass in which nothing happens, although it is due.
    pub(super) fn oversleep(&mut self, by: Duration) {
        self.boot += by;
        self.settle();
    }

    /// Lets time pass, and nothing happen yet.
    pub(super) fn pass(&mut self, by: Duration) {
        self.boot += by;
    }

    fn fire(&mut self) {
        self.armed = None;
        self.apply(Event::Timer);
    }

    // --- the flow ---

    pub(super) fn apply(&mut self, event: Event) {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut effects = Vec::new();
        let (staying, members) = (self.staying(), self.broker.sessions.members.len());
        self.broker.apply(self.tick(), event, &mut effects);
        let mut evicted = Vec::new();
        for effect in effects {
            assert_eq!(self.stopped, 0, "{effect:?} after the end");
            if let Effect::Notify { notification, .. } = &effect
                && notification.event == News::Evicted
            {
                evicted.push(notification.member);
            }
            self.worked += 1;
            self.carry_out(effect);
        }
        self.check_torn_down(&staying, &evicted);
        self.check_state();
        self.check_owners(members);
        while let Some(call) = self.withdrawn.pop_front() {
            self.apply(Event::Withdrawn { call });
        }
        while let Some(lane) = self.threads_ended.pop_front() {
            self.apply(Event::LaneEnded(lane));
        }
        while let Some(name) = self.deletions.pop_front() {
            self.deleted.push(name.clone());
            self.apply(Event::ProfileDeleted { name, result: Ok(()) });
        }
        // The broker's loop looks at files itself.
        while !self.hold_looks && !self.looks.is_empty() && self.stopped == 0 {
            self.look_at_profile();
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { connection, request, result } => {
                self.check_answer((connection, request), &result);
                let client = self.clients.get_mut(&connection).expect("answers go to clients");
                assert!(client.open, "an answer to a connection that ended");
                assert!(client.asked.remove(&request), "{request} is answered and was not asked");
                match &result {
                    Ok(
                        Reply::LoggedOn(LoggedOn { member, .. }) | Reply::Redeemed { member, .. },
                    ) => {
                        self.members.insert(*member, connection);
                    }
                    Ok(Reply::Ticket(ticket)) => {
                        self.tickets.insert((client.pid, client.library), ticket.clone());
                    }
                    Ok(Reply::Submitted { entry, state: SubmissionState::Accepted }) => {
                        client.accepted.insert(*entry);
                    }
                    _ => {}
                }
                let left = client.leaving.remove(&request) && result.is_ok();
                // It was said that these are not stored.
                let lost = match &result {
                    Err(Fault { detail: FaultDetail::Entries(lost), .. }) => lost.clone(),
                    _ => Vec::new(),
                };
                client.heard.push(Heard::Answer(request));
                client.answers.insert(request, result);
                let process = client.process.clone();
                for client in self.clients.values_mut().filter(|c| c.process == process) {
                    client.accepted.retain(|entry| !lost.contains(entry));
                }
                if left {
                    self.check_nothing_lost(&process);
                    self.note_left(process);
                }
            }
            Effect::Notify {
                connection,
                notification: Notification { event: News::Ticket(ticket), .. },
            } => {
                self.keep_ticket(connection, ticket);
            }
            Effect::Notify {
                connection,
                notification: Notification { member, event: News::Session(tag), .. },
            } => {
                assert_eq!(self.members.get(&member), Some(&connection), "told of its own session");
                self.tags.insert(member, tag);
            }
            Effect::Notify { connection, notification } => {
                self.check_told(connection, &notification.event);
                let client = self.clients.get_mut(&connection).expect("news go to clients");
                assert!(client.open, "news for a connection that ended");
                assert_eq!(self.members.get(&notification.member), Some(&connection));
                client.notified += 1;
                // As the library tells a program.
                let Notification { member, advises, event } = notification;
                for event in event.each() {
                    client.heard.push(Heard::News(member, event.clone()));
                    client.news.push(Notification { member, advises: advises.clone(), event });
                }
            }
            Effect::Forgotten { process } => {
                assert!(!self.broker.remembers(&process), "it is remembered");
                self.watched.remove(&process);
            }
            Effect::Refused { peer, uid, why, .. } => self.refusals.push((peer.pid, uid, why.code)),
            Effect::Close { connection, why } => {
                let client = self.clients.get_mut(&connection).expect("only clients are cut off");
                client.open = false;
                client.asked.clear();
                client.closed = Some(why);
            }
            Effect::OpenLane(spec) => self.open_lane(*spec),
            Effect::Call { lane, call, behalf, provider } => {
                self.called(lane, call, &behalf, provider);
            }
            Effect::CloseLane(lane) => {
                let closed = self.lanes.remove(&lane).expect("a lane is closed once");
                let calls = closed.waiting.iter().map(|(call, _)| *call);
                let calls: Vec<_> = calls.chain(closed.done.iter().map(|(c, ..)| *c)).collect();
                self.sweeping.retain(|(call, _)| !calls.contains(call));
                for call in &calls {
                    self.note_answered(*call);
                }
                // A transport that was left behind does not have its messages any more.
                self.flying.retain(|_, (_, at)| *at != lane);
                if calls.is_empty() {
                    self.threads_ended.push_back(lane);
                } else {
                    self.left.insert(lane, closed);
                }
                self.closed.insert(lane);
            }
            Effect::Hangs { provider, call, .. } => self.hanging.push((provider, call)),
            Effect::ProviderNews { profile, provider, news, .. } => {
                self.provider_news.push((profile, provider, news));
            }
            Effect::ProfileNews { profile, why } => self.profile_news.push((profile, why)),
            Effect::CameBack { entry, what, .. } => self.came_back.push((entry, what)),
            Effect::OutcomeUnknown { entry, recipients, .. } => {
                self.unknown.push((entry, recipients));
            }
            Effect::RunForNotice { command, text, .. } => self.ran.push((command, text)),
            Effect::RunForMail { profile, command, entry, .. } => {
                self.ran_for_mail.push((profile, command, entry));
            }
            Effect::Withdraw { lane, call } => self.take_back(lane, call),
            Effect::KeepEnd(end) => {
                self.ends.insert(end.tag, *end);
            }
            Effect::ForgetEnd(tag) => {
                self.ends.remove(&tag);
            }
            Effect::GaveUp { provider, call, .. } => self.given_up.push((provider, call)),
            Effect::WrongAnswer { provider, call, wrong, .. } => {
                assert!(self.wrong.len() < self.lied, "an honest {provider}: {call} was {wrong}");
                self.wrong.push((provider, call, wrong));
            }
            Effect::LoadProfile { session, name } => self.loads.push_back((session, name)),
            Effect::LookAtProfile { name, version } => self.looks.push_back((name, version)),
            Effect::FindUsers { question, names } => self.questions.push_back((question, names)),
            Effect::DeleteProfile { name } => self.deletions.push_back(name),
            Effect::Arm(at) => self.armed = Some(at),
            Effect::Stopped => self.stopped += 1,
        }
    }

    fn keep_ticket(&mut self, connection: ConnectionId, ticket: Ticket) {
        let client = &self.clients[&connection];
        assert!(client.open, "a ticket for a connection that ended");
        self.tickets.insert((client.pid, client.library), ticket);
    }

    /// A call is taken back: the provider never gets it, unless it has begun it.
    fn take_back(&mut self, lane: LaneId, call: CallId) {
        let Some(lane) = self.lanes.get_mut(&lane) else { return };
        let before = lane.waiting.len();
        lane.waiting.retain(|(waiting, _)| *waiting != call);
        if lane.waiting.len() < before {
            self.note_answered(call);
            self.withdrawn.push_back(call);
        }
        // One that has begun it may go on: nobody waits for it in this sweep any more.
        self.sweeping.retain(|(sweeping, _)| *sweeping != call);
    }

    fn open_lane(&mut self, spec: LaneSpec) {
        let LaneSpec { lane, reader, provider_type, spec } = spec;
        assert!(!self.lanes.contains_key(&lane) && !self.closed.contains(&lane));
        let worker = match provider_type {
            ProviderType::Store => Worker::Store { path: spec.path.clone(), of: lane },
            ProviderType::Transport => Worker::Transport(Transport::new(&spec.name)),
            ProviderType::AddressBook => Worker::AddressBook(AddressBook::default()),
            ProviderType::Mailbox => Worker::Mailbox(Mailbox::default()),
        };
        let new = |worker| Lane {
            name: spec.name.clone(),
            kind: provider_type,
            worker,
            waiting: VecDeque::new(),
            done: VecDeque::new(),
        };
        if let Some(reader) = reader {
            let path = spec.path.clone();
            self.lanes.insert(reader, new(Worker::Store { path, of: lane }));
        }
        self.lanes.insert(lane, new(worker));
    }

    fn called(&mut self, id: LaneId, call: CallId, behalf: &Behalf, provider: ProviderCall) {
        assert!(!self.closed.contains(&id), "{} on a closed lane", provider.name());
        let lane = self.lanes.get(&id).expect("only open lanes are called");
        assert!(lane.waiting.len() + lane.done.len() < PLACES, "no place for a call");
        let view = if let Worker::Store { of, .. } = lane.worker { of } else { id };
        let called = Called {
            provider: lane.name.clone(),
            kind: lane.kind,
            session: behalf.session,
            pid: behalf.pid,
            call: provider.name(),
            asked_by: match provider {
                ProviderCall::Transport(TransportCall::Validate(asked_by)) => Some(asked_by),
                _ => None,
            },
        };
        if let Some(session) = behalf.session {
            let ended = self.ended.contains(&(view, session));
            assert!(!ended, "{called:?} after its logoff");
            if provider == ProviderCall::Logoff {
                self.ended.insert((view, session));
            }
        }
        if provider == ProviderCall::Logoff {
            self.check_logoff(&called);
        }
        self.check_flight(id, &provider);
        self.check_mailbox(id, call, &provider);
        self.check_sweep(call, &called, &provider);
        self.calls.push(called);
        let lane = self.lanes.get_mut(&id).expect("looked at before");
        lane.waiting.push_back((call, provider));
    }

    fn may(held: &HashMap<String, BTreeSet<&'static str>>, name: &str, call: &str) -> bool {
        held.get(name).is_none_or(|calls| !calls.contains("*") && !calls.contains(call))
    }

    /// Carries out the first call of a lane.
    fn carry_out_call(&mut self, id: LaneId) {
        let lane = self.lanes.get_mut(&id).expect("a lane");
        let (call, provider) = lane.waiting.pop_front().expect("a call waits");
        let name = provider.name();
        if is_shutdown(&provider) {
            *self.carried_out.entry(format!("{}.{name}", lane.name)).or_default() += 1;
        }
        let view = if let Worker::Store { of, .. } = lane.worker { of } else { id };
        let over = self.over.contains(&view);
        let lie = Lie::next(&mut self.lies, lane.kind, &provider);
        if let Some((How::Undone, answer)) = &lie {
            self.lied += 1;
            lane.done.push_back((call, name, Ok(answer(&provider, ProviderAnswer::Done))));
            return;
        }
        let asked = lie.is_some().then(|| provider.clone());
        let interface = self.interfaces.get(&lane.name);
        let unaware = matches!(interface, Some(Interface::Unaware | Interface::Untouched));
        if provider == self.over_at && self.literal.contains(&lane.name) && !unaware {
            self.over.insert(view);
        } else if provider == ProviderCall::Renew {
            self.over.remove(&view);
        }
        let answer = match (&mut lane.worker, provider) {
            (_, provider) if over && !is_shutdown(&provider) && provider != ProviderCall::Renew => {
                Err(error(Code::E_NOT_INITIALIZED))
            }
            (worker, provider) if is_shutdown(&provider) => {
                let interface = self.interfaces.get(&lane.name).copied();
                let store = match worker {
                    Worker::Store { path, .. } => self.stores.get_mut(path),
                    _ => None,
                };
                match (interface.unwrap_or(Interface::Supports), provider) {
                    (Interface::Unaware, _) => Ok(ProviderAnswer::Unaware),
                    (Interface::Untouched, _) => Ok(ProviderAnswer::Untouched),
                    (Interface::Refuses(code), ProviderCall::QueryFastShutdown) => Err(error(code)),
                    _ => match store.and_then(|s| s.scripted(name)) {
                        Some(error) => Err(error),
                        None => Ok(ProviderAnswer::Done),
                    },
                }
            }
            (Worker::Store { path, .. }, provider) => {
                let store = self.stores.get_mut(path).expect("there is such a store");
                match provider {
                    ProviderCall::Logon => store.logon(),
                    ProviderCall::Renew => Ok(store.facts()),
                    ProviderCall::Logoff => store.logoff(),
                    ProviderCall::Write(write) => store.write(name, write),
                    ProviderCall::Read(question) => store.read(name, question),
                    other => panic!("{other:?} to a store"),
                }
            }
            (Worker::Transport(transport), ProviderCall::Transport(call)) => {
                transport.call(call, &mut self.wire)
            }
            (Worker::AddressBook(book), ProviderCall::Address(call)) => book.call(call),
            (Worker::Mailbox(mailbox), ProviderCall::Mailbox(call)) => {
                let key = format!("{}.{name}", lane.name);
                match self.mailboxes_say.get_mut(&key).and_then(VecDeque::pop_front) {
                    Some(said) => said.map(|()| ProviderAnswer::Done).map_err(error),
                    None => mailbox.call(call, self.stores.values_mut()),
                }
            }
            (worker, ProviderCall::Logon | ProviderCall::Renew | ProviderCall::Logoff) => {
                if let Worker::Mailbox(mailbox) = worker {
                    *mailbox = Mailbox::default();
                }
                let key = format!("{}.{name}", lane.name);
                match (self.wire.steps.get_mut(&key).and_then(VecDeque::pop_front), worker) {
                    (Some(Step::Refuses), _) => Err(error(Code::E_FAILONEPROVIDER)),
                    (_, Worker::Transport(_)) if name != "Logoff" => {
                        Ok(ProviderAnswer::TransportReady(self.wire.facts))
                    }
                    _ => Ok(ProviderAnswer::Done),
                }
            }
            (_, other) => panic!("{other:?} to the wrong provider"),
        };
        let answer = match (lie, asked, answer) {
            (Some((_, lie)), Some(asked), Ok(answer)) => {
                self.lied += 1;
                Ok(lie(&asked, answer))
            }
            (_, _, answer) => answer,
        };
        lane.done.push_back((call, name, answer));
    }

    fn tell(&mut self, id: LaneId) {
        let lane = self.lanes.get_mut(&id).expect("a lane");
        let (call, name, result) = lane.done.pop_front().expect("an answer waits");
        let logs_on = lane.kind == ProviderType::Mailbox && matches!(name, "Logon" | "Renew");
        self.sweeping.retain(|(sweeping, _)| *sweeping != call);
        self.note_answered(call);
        if logs_on && result.is_ok() {
            self.note_logon(id);
        }
        self.apply(Event::Answered { call, result });
    }

    fn can_carry_out(&self) -> Vec<LaneId> {
        let front = |lane: &Lane| {
            let front = lane.waiting.front();
            front.is_some_and(|(_, p)| Self::may(&self.held, &lane.name, p.name()))
        };
        let moves = |(id, lane): &(&LaneId, &Lane)| front(lane) && !self.stuck.contains(id);
        self.lanes.iter().filter(moves).map(|(id, _)| *id).collect()
    }

    fn can_tell(&self) -> Vec<LaneId> {
        let front = |lane: &Lane| {
            let front = lane.done.front();
            front.is_some_and(|(_, name, _)| Self::may(&self.silent, &lane.name, name))
        };
        self.lanes.iter().filter(|(_, lane)| front(lane)).map(|(id, _)| *id).collect()
    }

    /// One thing that can happen without time passing, chosen by a number. False when there is none.
    pub(super) fn step(&mut self, choice: usize) -> bool {
        let (calls, answers) = (self.can_carry_out(), self.can_tell());
        let loads = usize::from(!self.loads.is_empty() && !self.hold_profiles);
        let mirrored = usize::from(self.mailbox_waits());
        let all = calls.len() + answers.len() + loads + mirrored;
        if all == 0 {
            return false;
        }
        let choice = choice % all;
        if let Some(lane) = calls.get(choice) {
            self.carry_out_call(*lane);
        } else if let Some(lane) = answers.get(choice - calls.len()) {
            self.tell(*lane);
        } else if choice - calls.len() - answers.len() < loads {
            self.load_profile();
        } else {
            self.tell_mirrored();
        }
        true
    }

    // --- mailboxes ---

    /// The mailbox of a profile's first store writes what it has seen there, if it watches. It waits until the broker has heard of
    /// what it wrote before.
    pub(super) fn mailbox_writes(&mut self, profile: &str, changes: Vec<MirrorChange>) -> bool {
        let path = self.profiles[profile].stores[0].path.clone();
        let uid = self.stores[&path].uid;
        let watches = |(id, lane): &(&LaneId, &Lane)| {
            let here = matches!(&lane.worker, Worker::Mailbox(m) if m.watches == Some(uid));
            here && !self.over.contains(id) && !self.stuck.contains(id)
        };
        let of_store = |lane: &Lane| match &lane.worker {
            Worker::Store { path: at, of } if *at == path => Some(*of),
            _ => None,
        };
        let writer = self.lanes.values().find_map(of_store);
        let Some(writer) = writer.filter(|_| self.lanes.iter().any(|lane| watches(&lane))) else {
            return false;
        };
        if self.mirrored.iter().any(|(lane, _)| *lane == writer) {
            return false;
        }
        let store = self.stores.get_mut(&path).expect("it is open");
        if store.logons == 0 {
            return false;
        }
        let mirror = Mirror { mailbox: PathBuf::new(), changes };
        match store.write("Mirror", StoreWrite::Mirror(Box::new(mirror))) {
            Ok(ProviderAnswer::Mirrored(changes)) => self.mirrored.push_back((writer, changes)),
            Ok(other) => panic!("{other:?} to a mirror"),
            Err(_) => return false,
        }
        true
    }

    /// A message comes into the mailbox, and everybody hears of it.
    pub(super) fn mail_comes(&mut self, profile: &str, name: &str) -> EntryId {
        assert!(self.mailbox_writes(profile, vec![found(name, true)]), "the mailbox watches");
        self.settle();
        let store = self.store(profile);
        let of_it = |m: &Message| m.spot.as_ref().is_some_and(|spot| spot.name == name);
        let record = store.messages.iter().find(|(_, m)| of_it(m)).map(|(record, _)| *record);
        EntryId { store: store.uid, record: record.expect("it is in the store") }
    }

    /// Whether a mailbox waits until the broker has heard of what it has written.
    pub(super) fn mailbox_waits(&self) -> bool {
        !self.mirrored.is_empty() && Self::may(&self.held, WRITTEN, "Mirror")
    }

    /// Whether a mailbox watches.
    pub(super) fn has_mailbox(&self) -> bool {
        let watches =
            |lane: &Lane| matches!(&lane.worker, Worker::Mailbox(m) if m.watches.is_some());
        self.lanes.values().any(watches)
    }

    /// The broker hears of what a mailbox has written first.
    pub(super) fn tell_mirrored(&mut self) {
        let (lane, changes) = self.mirrored.pop_front().expect("a mailbox has written");
        let expected = self.expected_arrivals(lane, &changes);
        let before: HashMap<_, _> =
            self.clients.iter().map(|(at, client)| (*at, client.news.len())).collect();
        let ran = self.ran_for_mail.len();
        self.apply(Event::StoreChanged { lane, changes });
        let told = self.clients.iter().flat_map(|(at, client)| &client.news[before[at]..]);
        let mut arrived: Vec<_> = told
            .filter_map(|n| match &n.event {
                News::Arrived(mail) => Some((n.member, mail.place.entry.record, n.advises.clone())),
                _ => None,
            })
            .collect();
        arrived.sort_unstable();
        assert_eq!(arrived, expected.0, "who is told of new mail");
        assert_eq!(self.ran_for_mail.len() - ran, expected.1, "commands that are run for it");
    }

    /// A mailbox says whether it works.
    pub(super) fn mailbox_says(&mut self, name: &str, said: Result<(), Code>) {
        let of_it = |(_, lane): &(&LaneId, &Lane)| lane.name == name;
        if let Some(lane) = self.lanes.iter().find(of_it).map(|(id, _)| *id) {
            self.apply(Event::MailboxSaid { lane, said: said.map_err(error) });
        }
    }

    // --- one thing after the other, in an order that somebody chooses ---

    /// Lanes whose provider may answer next.
    pub(super) fn answerable(&self) -> Vec<LaneId> {
        let mut lanes = self.can_tell();
        lanes.extend(self.can_carry_out().into_iter().filter(|l| self.lanes[l].done.is_empty()));
        lanes.sort_unstable();
        lanes
    }

    /// The provider of a lane carries out what it was called for first, if it has not yet, and says so.
    pub(super) fn answer_next(&mut self, lane: LaneId) {
        if self.lanes[&lane].done.is_empty() {
            self.carry_out_call(lane);
        }
        self.tell(lane);
    }

    /// Stores carry out everything that they were called for, and do not say so yet.
    pub(super) fn carry_out_all_writes(&mut self) {
        let is_store = |(_, l): &(&LaneId, &Lane)| l.kind == ProviderType::Store;
        let stores: Vec<_> = self.lanes.iter().filter(is_store).map(|(id, _)| *id).collect();
        for lane in stores {
            while !self.lanes[&lane].waiting.is_empty() {
                self.carry_out_call(lane);
            }
        }
    }

    /// Everybody does what it was called for, and does not say so yet.
    pub(super) fn carry_out_everything(&mut self) {
        for lane in self.can_carry_out() {
            while self.can_carry_out().contains(&lane) {
                self.carry_out_call(lane);
            }
        }
    }

    pub(super) fn profile_waits(&self) -> bool {
        !self.loads.is_empty()
    }

    /// When the broker wants to be woken next.
    pub(super) fn armed(&self) -> Option<Duration> {
        self.armed
    }

    /// The time has come for which the broker wanted to be woken, and nothing else happens.
    pub(super) fn wake(&mut self) {
        self.boot = self.armed.map_or(self.boot, |at| at.max(self.boot));
        self.fire();
    }

    /// The broker is woken before the time that it wanted.
    pub(super) fn early_wake(&mut self) {
        self.fire();
        self.settle();
    }

    /// Asks under a number that is the same whatever happened before.
    pub(super) fn ask_as(&mut self, at: ConnectionId, id: RequestId, request: Request) {
        let made = std::mem::replace(&mut self.made, id.0 - 1);
        self.ask(at, request);
        self.made = made;
    }

    /// What only tests with an end look at is forgotten.
    pub(super) fn forget_history(&mut self) {
        for store in self.stores.values_mut() {
            store.history.clear();
        }
        for client in self.clients.values_mut() {
            client.heard.clear();
        }
        self.calls.clear();
    }

    /// The open lanes, and to which provider each leads.
    pub(super) fn open_lanes(&self) -> impl Iterator<Item = (LaneId, ProviderType, &str)> {
        self.lanes.iter().map(|(id, lane)| (*id, lane.kind, lane.name.as_str()))
    }

    /// Accepted submissions of a process that nobody said are lost.
    pub(super) fn accepted_by(&self, pid: u32) -> Vec<EntryId> {
        let clients = self.clients.values().filter(|c| c.pid == pid);
        clients.flat_map(|c| c.accepted.iter().copied()).collect()
    }

    /// Everything that what happens next depends on, calls that wait first.
    pub(super) fn describe(&self) -> String {
        use std::fmt::Write as _;
        let mut flying: Vec<_> = self.flying.iter().collect();
        flying.sort_unstable();
        let mut text = String::from("[");
        let lanes: Vec<_> = self.lanes.iter().collect();
        let (stores, wire) = (&self.stores, &self.wire);
        write!(text, "{lanes:?}, {:?}, {stores:?}, {wire:?}, ", self.broker).expect("memory");
        write!(text, "{:?}, {:?}, {:?}, ", self.armed, self.loads, self.held).expect("memory");
        write!(text, "{:?}, ", self.mirrored).expect("memory");
        write!(text, "{:?}, {:?}, ", self.ended, self.sweeping).expect("memory");
        let lies: Vec<_> = self.lies.iter().map(|lie| (lie.call, lie.times)).collect();
        write!(text, "{lies:?}, ").expect("memory");
        for ((record, place), (flight, lane)) in flying {
            write!(
                text,
                "Flying {{ record: {record}, place: {place}, flight: {flight}, lane: {lane:?} }}, "
            )
            .expect("memory");
        }
        text.push('{');
        for (at, client) in &self.clients {
            let Client { pid, open, asked, leaving, accepted, .. } = client;
            write!(text, "{at:?}: [Pid({pid}), {open}, {{{}}}, ", join(asked)).expect("memory");
            write!(text, "{{{}}}, {{{}}}], ", join(leaving), join(accepted)).expect("memory");
        }
        text.push_str("}]");
        text
    }

    /// The system answers the first question about users.
    pub(super) fn find_users(&mut self) {
        let (question, names) = self.questions.pop_front().expect("users are asked for");
        let one = |name: String| (name.clone(), self.users.contains(&name));
        let result = Ok(names.into_iter().map(one).collect());
        self.apply(Event::UsersFound { question, result });
    }

    pub(super) fn load_profile(&mut self) {
        let (session, name) = self.loads.pop_front().expect("a profile is asked for");
        let result = self.read_profile(&name);
        self.apply(Event::ProfileLoaded { session, result });
    }

    /// What is in a profile's file.
    fn read_profile(&mut self, name: &str) -> Result<LoadedProfile, Fault> {
        let found = self.profiles.get(name).cloned();
        let unknown = || Fault::new(Code::E_NOT_FOUND, format!("no profile {name:?} in /etc"));
        let wrong = self.wrong_profiles.get(name).cloned();
        let profile = wrong.map_or_else(|| found.ok_or_else(unknown), Err)?;
        let versions = self.versions.entry(name.to_owned()).or_default();
        if versions.last() != Some(&profile) {
            versions.push(profile.clone());
        }
        let number = versions.len() as u64;
        let version = Version { number, changed: Some(number) };
        Ok(LoadedProfile { profile: Box::new(profile), version })
    }

    /// The first look at a profile's file is answered.
    pub(super) fn look_at_profile(&mut self) {
        let (name, known) = self.looks.pop_front().expect("a profile is looked at");
        let result = self.read_profile(&name).map(|loaded| {
            if loaded.version == known { Looked::Same } else { Looked::Changed(loaded) }
        });
        self.apply(Event::ProfileLooked { name, result });
    }

    /// Lets everything happen that needs no time and is not held.
    pub(super) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 2_000_000, "it never ends");
            if self.armed.is_some_and(|at| at <= self.boot) {
                self.fire();
                continue;
            }
            if !self.hold_profiles && !self.loads.is_empty() {
                self.load_profile();
                continue;
            }
            if !self.hold_looks && !self.looks.is_empty() {
                self.look_at_profile();
                continue;
            }
            if !self.hold_users && !self.questions.is_empty() {
                self.find_users();
                continue;
            }
            if self.mailbox_waits() {
                self.tell_mirrored();
                continue;
            }
            let moving = self.lanes.keys().filter(|id| !self.stuck.contains(id));
            let lanes: Vec<_> = moving.copied().collect();
            let mut moved = false;
            for id in lanes {
                while let Some(lane) = self.lanes.get_mut(&id) {
                    let idle = lane.pass_over_prepares(self.crew);
                    let name = &lane.name;
                    let call = lane.waiting.front().map(|(_, p)| p.name());
                    let answer = lane.done.front().map(|(_, name, _)| *name);
                    if answer.is_some_and(|call| Self::may(&self.silent, name, call)) {
                        self.tell(id);
                    } else if idle && call.is_some_and(|call| Self::may(&self.held, name, call)) {
                        self.carry_out_call(id);
                    } else {
                        break;
                    }
                    moved = true;
                }
            }
            if !moved {
                self.check_at_rest();
                return self.check_in_time();
            }
        }
    }

    /// A store answers each of its writes with something else, once, and a Do.
    pub(super) fn lies_once(&mut self) {
        self.wire.lies = true;
        let writes = Lie::WRITES.map(|call| Lie {
            provider: ProviderType::Store,
            call,
            how: How::Done,
            answer: |_, _| ProviderAnswer::Oldest(None),
            times: 1,
        });
        self.lies.extend(writes);
    }

    /// From now on the present workers of a provider do nothing; those that come later do.
    pub(super) fn stick(&mut self, provider: &str) {
        let of_it = self.lanes.iter().filter(|(_, lane)| lane.name == provider);
        self.stuck.extend(of_it.map(|(id, _)| *id));
    }

    /// From now on a provider does not carry out calls of that name; `*` is all of them.
    pub(super) fn hold(&mut self, provider: &str, call: &'static str) {
        self.held.entry(provider.into()).or_default().insert(call);
    }

    /// From now on a provider carries out calls of that name, but does not say so.
    pub(super) fn silence(&mut self, provider: &str, call: &'static str) {
        self.silent.entry(provider.into()).or_default().insert(call);
    }

    pub(super) fn let_go(&mut self, provider: &str) {
        self.held.remove(provider);
        self.silent.remove(provider);
        self.settle();
    }

    /// Its calls are carried out again; what is not told stays so.
    pub(super) fn held_go(&mut self, provider: &str) {
        self.held.remove(provider);
        self.settle();
    }

    /// Nothing is held any more, and nothing happens yet.
    pub(super) fn clear_holds(&mut self) {
        self.held.clear();
        self.silent.clear();
    }

    /// Carries out so many calls of a provider although it is held.
    pub(super) fn carry_out_some(&mut self, provider: &str, count: usize) {
        for _ in 0..count {
            let waits = |l: &Lane| l.name == provider && !l.waiting.is_empty();
            let lane = self.lanes.iter().find(|(_, l)| waits(l)).map(|(id, _)| *id);
            let lane = lane.expect("a call waits");
            self.carry_out_call(lane);
            self.tell(lane);
        }
    }

    pub(super) fn let_all_go(&mut self) {
        self.held.clear();
        self.silent.clear();
        self.hold_profiles = false;
        self.settle();
    }

    /// What an address meets, one step a try.
    pub(super) fn script(&mut self, address: &str, steps: &[Step]) {
        self.wire.steps.entry(address.into()).or_default().extend(steps);
    }

    /// The calls of a provider since the beginning.
    pub(super) fn calls_of(&self, provider: &str) -> Vec<&'static str> {
        self.calls.iter().filter(|c| c.provider == provider).map(|c| c.call).collect()
    }

    /// The providers that were called so, in order.
    pub(super) fn order_of(&self, call: &str) -> Vec<String> {
        let so = self.calls.iter().filter(|c| c.call == call && c.session.is_some());
        so.map(|c| c.provider.clone()).collect()
    }

    /// The shutdown calls so far: session, provider and call. One without the interface is not called.
    pub(super) fn swept(&self) -> Vec<(SessionId, String, &'static str)> {
        let unaware = |c: &&Called| self.interfaces.get(&c.provider) != Some(&Interface::Unaware);
        let sweeps = ["QueryFastShutdown", "NotifyProcessShutdown", "DoFastShutdown"];
        let swept = self.calls.iter().filter(|c| sweeps.contains(&c.call)).filter(unaware);
        swept.map(|c| (c.session.expect("it is for one"), c.provider.clone(), c.call)).collect()
    }

    /// The same, in short: `relay.Query`, for all sessions in one line.
    pub(super) fn swept_words(&self) -> String {
        let word = |call: &str| call.find("Fast").or(call.find("Process")).unwrap_or(call.len());
        let words = self.swept().into_iter().map(|(_, p, c)| format!("{p}.{}", &c[..word(c)]));
        words.collect::<Vec<_>>().join(" ")
    }

    pub(super) fn waiting_calls(&self, provider: &str) -> usize {
        self.lanes.values().filter(|l| l.name == provider).map(|l| l.waiting.len()).sum()
    }

    // --- clients ---

    pub(super) fn connect(&mut self, pid: u32) -> ConnectionId {
        self.connect_as(pid, OWNER)
    }

    pub(super) fn connect_as(&mut self, pid: u32, uid: u32) -> ConnectionId {
        self.connect_with(pid, uid, [0; 16])
    }

    /// Through this copy of the library.
    pub(super) fn connect_with(&mut self, pid: u32, uid: u32, library: [u8; 16]) -> ConnectionId {
        self.connect_process((pid, Self::key(pid)), uid, library)
    }

    /// Another process, that got the number of one that has ended.
    pub(super) fn connect_again(&mut self, pid: u32) -> ConnectionId {
        let ProcessKey(mut key) = Self::key(pid);
        key[15] += 1;
        self.connect_process((pid, ProcessKey(key)), OWNER, [0; 16])
    }

    /// A peer that the kernel gave no process id for: each of its connections is a process of its own.
    pub(super) fn connect_without_pid(&mut self, connection: u8) -> ConnectionId {
        let mut key = [0; 32];
        key[30] = connection;
        self.connect_process((0, ProcessKey(key)), OWNER, [0; 16])
    }

    /// Another image of a process, as the client names it.
    pub(super) fn connect_image(&mut self, (pid, image): (u32, u8), uid: u32) -> ConnectionId {
        self.connect_process((pid, Self::image(pid, image)), uid, [0; 16])
    }

    fn connect_process(
        &mut self,
        (pid, key): (u32, ProcessKey),
        uid: u32,
        library: [u8; 16],
    ) -> ConnectionId {
        self.made += 1;
        let connection = ConnectionId(self.made);
        self.watched.remove(&key);
        if self.broker.peers.processes.find(&key).is_none() {
            let same = self.clients.values_mut().filter(|c| c.process == key);
            same.for_each(|client| client.earlier = true);
        }
        let client = Client {
            pid,
            process: key.clone(),
            earlier: false,
            open: true,
            asked: HashSet::new(),
            leaving: HashSet::new(),
            accepted: HashSet::new(),
            answers: HashMap::new(),
            notified: 0,
            news: Vec::new(),
            heard: Vec::new(),
            closed: None,
            over: false,
            library,
        };
        self.clients.insert(connection, client);
        let peer = Peer { pid, program: format!("program-{pid}") };
        let (since, served_before) = (self.boot, self.served.contains(&pid));
        let identity = PeerIdentity { key, peer, uid, library, since, served_before };
        self.apply(Event::Connected { connection, identity });
        connection
    }

    /// Asks for the ticket, as a client library does on a new connection, and shows the newest it has.
    pub(super) fn ticket(&mut self, at: ConnectionId) -> Result<Ticket, Fault> {
        let client = &self.clients[&at];
        let shown = self.tickets.get(&(client.pid, client.library)).cloned();
        match self.call(at, Request::Ticket { shown })? {
            Reply::Ticket(ticket) => Ok(ticket),
            other => panic!("{other:?} to a ticket"),
        }
    }

    /// By which name a member can return to its session.
    pub(super) fn tag(&self, member: Member) -> SessionTag {
        self.tags[&member.id]
    }

    /// Logs on to the session that was called so.
    pub(super) fn try_return(
        &mut self,
        at: ConnectionId,
        (tag, told): (SessionTag, bool),
    ) -> Result<Member, Fault> {
        let logon = Logon { profile: Some("default".into()), flags: LogonFlags::default() };
        match self.call(at, Request::Return { logon, tag, told })? {
            Reply::LoggedOn(on) => Ok(Member { at, id: on.member, session: on.session }),
            other => panic!("{other:?} to a return"),
        }
    }

    /// The broker dies, and the next one reads what this one has written down of ended sessions.
    pub(super) fn crash_and_read(&mut self) {
        self.crash();
        let ends = self.ends.values().cloned().collect();
        self.apply(Event::Ends(ends));
    }

    /// The same, and does not wait.
    pub(super) fn ask_ticket(&mut self, at: ConnectionId) {
        let client = &self.clients[&at];
        if client.open {
            let shown = self.tickets.get(&(client.pid, client.library)).cloned();
            self.ask(at, Request::Ticket { shown });
        }
    }

    /// The copy of the library at the other end.
    pub(super) fn library(&self, at: ConnectionId) -> [u8; 16] {
        self.clients[&at].library
    }

    /// The newest ticket that a copy of the library in a process holds.
    pub(super) fn kept_ticket(&self, pid: u32, library: [u8; 16]) -> Option<Ticket> {
        self.tickets.get(&(pid, library)).cloned()
    }

    pub(super) fn key(pid: u32) -> ProcessKey {
        Self::image(pid, 0)
    }

    /// A process as the kernel knows it, in front, and its image.
    fn image(pid: u32, image: u8) -> ProcessKey {
        let mut key = [image; 32];
        key[..16].fill(0);
        key[..4].copy_from_slice(&pid.to_le_bytes());
        ProcessKey(key)
    }

    pub(super) fn peer(&self, connection: ConnectionId) -> Peer {
        let pid = self.clients[&connection].pid;
        Peer { pid, program: format!("program-{pid}") }
    }

    pub(super) fn disconnect(&mut self, connection: ConnectionId) {
        let client = self.clients.get_mut(&connection).expect("a client");
        client.open = false;
        client.asked.clear();
        let process = client.process.clone();
        self.apply(Event::Disconnected { connection });
        let mut here = self.clients.values().filter(|c| c.open);
        if self.broker.remembers(&process) && !here.any(|c| c.process == process) {
            self.watched.insert(process);
        }
    }

    pub(super) fn end_process(&mut self, pid: u32) {
        let mut images = vec![Self::key(pid)];
        for process in self.clients.values().map(|client| &client.process) {
            if process.kernel() == images[0].kernel() && !images.contains(process) {
                images.push(process.clone());
            }
        }
        for process in images {
            self.watched.remove(&process);
            self.apply(Event::ProcessEnded { process });
        }
        // The next one of that number is another one.
        self.clients.values_mut().filter(|c| c.pid == pid).for_each(|client| client.over = true);
        self.served.remove(&pid);
        self.tickets.retain(|(of, _), _| *of != pid);
        self.forget_seen(&Self::key(pid));
    }

    /// Every connection breaks, and every process ends.
    pub(super) fn everybody_leaves(&mut self) {
        let open = self.clients.iter().filter(|(_, client)| client.open).map(|(at, _)| *at);
        for connection in open.collect::<Vec<_>>() {
            self.disconnect(connection);
        }
        let pids: BTreeSet<_> = self.clients.values().map(|client| client.pid).collect();
        for pid in pids {
            self.end_process(pid);
        }
    }

    /// The connections that were made, the first one first.
    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        self.clients.keys().copied().collect()
    }

    /// Whether an object of a member is a folder.
    pub(super) fn is_folder(&self, member: Member, object: ObjectId) -> bool {
        let object = self.broker.sessions.members[&member.id].objects.get(object);
        matches!(object, Some(Object::Folder(..)))
    }

    pub(super) fn is_open(&self, connection: ConnectionId) -> bool {
        self.clients[&connection].open
    }

    pub(super) fn closed(&self, connection: ConnectionId) -> Option<Code> {
        self.clients[&connection].closed.as_ref().map(|why| why.code)
    }

    /// What the client of a connection was told when it was closed.
    pub(super) fn why_closed(&self, connection: ConnectionId) -> Fault {
        self.clients[&connection].closed.clone().expect("it was closed with a reason")
    }

    pub(super) fn heard(&mut self, connection: ConnectionId) -> Vec<Heard> {
        std::mem::take(&mut self.clients.get_mut(&connection).expect("a client").heard)
    }

    /// Asks, and does not wait.
    pub(super) fn ask(&mut self, connection: ConnectionId, request: Request) -> RequestId {
        self.ask_with(connection, request, 100)
    }

    pub(super) fn ask_with(
        &mut self,
        connection: ConnectionId,
        request: Request,
        bytes: usize,
    ) -> RequestId {
        self.made += 1;
        let id = RequestId(self.made);
        let client = self.clients.get_mut(&connection).expect("a client");
        assert!(client.open, "who asks is connected");
        client.asked.insert(id);
        if matches!(request, Request::DoFastShutdown { .. }) {
            client.leaving.insert(id);
        }
        self.note_asked(connection, id, &request);
        self.apply(Event::Request { connection, asked: Asked { id, request }, bytes });
        id
    }

    /// The answer to a request, if it came.
    pub(super) fn answer(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
    ) -> Option<Result<Reply, Fault>> {
        self.clients.get_mut(&connection).expect("a client").answers.remove(&request)
    }

    pub(super) fn unanswered(&self) -> usize {
        self.clients.values().map(|c| c.asked.len()).sum()
    }

    /// Asks, and lets everything happen that needs no time.
    pub(super) fn call(&mut self, at: ConnectionId, request: Request) -> Result<Reply, Fault> {
        let name = request.name();
        let id = self.ask(at, request);
        self.settle();
        self.answer(at, id).unwrap_or_else(|| panic!("{name} was not answered"))
    }

    pub(super) fn done(&mut self, at: ConnectionId, request: Request) {
        assert_eq!(self.call(at, request), Ok(Reply::Done));
    }

    pub(super) fn refused(&mut self, at: ConnectionId, request: Request) -> Code {
        self.call(at, request).expect_err("it is refused").code
    }

    // --- sessions ---

    pub(super) fn logon(&mut self, at: ConnectionId) -> Member {
        self.logon_to(at, "default")
    }

    pub(super) fn logon_to(&mut self, at: ConnectionId, profile: &str) -> Member {
        self.logon_with(at, profile, LogonFlags::default())
    }

    pub(super) fn logon_with(
        &mut self,
        at: ConnectionId,
        profile: &str,
        flags: LogonFlags,
    ) -> Member {
        let on = self.try_logon(at, Some(profile), flags).expect("it logs on");
        Member { at, id: on.member, session: on.session }
    }

    pub(super) fn try_logon(
        &mut self,
        at: ConnectionId,
        profile: Option<&str>,
        flags: LogonFlags,
    ) -> Result<LoggedOn, Fault> {
        match self.call(at, logon_request(profile, flags))? {
            Reply::LoggedOn(on) => Ok(on),
            other => panic!("{other:?} to a logon"),
        }
    }

    /// A member of a process of its own.
    pub(super) fn member(&mut self, pid: u32) -> Member {
        let at = self.connect(pid);
        self.logon(at)
    }

    pub(super) fn ask_logoff(
        &mut self,
        member: Member,
        flags: LogoffFlags,
        drain: Option<Duration>,
    ) -> RequestId {
        self.ask(member.at, logoff_request(member.id, flags, drain))
    }

    pub(super) fn try_logoff(
        &mut self,
        member: Member,
        flags: LogoffFlags,
    ) -> Result<LoggedOff, Fault> {
        let answer = self.call(member.at, logoff_request(member.id, flags, None));
        answer.map(logged_off)
    }

    pub(super) fn logoff(&mut self, member: Member) -> LoggedOff {
        self.try_logoff(member, LogoffFlags::default()).expect("it logs off")
    }

    pub(super) fn logoff_shared(&mut self, member: Member) -> LoggedOff {
        self.try_logoff(member, LogoffFlags::SHARED).expect("it logs off")
    }

    // --- what members do ---

    pub(super) fn advise(&mut self, member: Member, events: Events) -> AdviseId {
        self.try_advise(member, AdviseSource::Session, events).expect("it is registered")
    }

    pub(super) fn try_advise(
        &mut self,
        member: Member,
        source: AdviseSource,
        events: Events,
    ) -> Result<AdviseId, Fault> {
        match self.call(member.at, Request::Advise { member: member.id, source, events })? {
            Reply::Advised(id) => Ok(id),
            other => panic!("{other:?} to an advise"),
        }
    }

    pub(super) fn open(&mut self, member: Member, what: Opening) -> ObjectId {
        self.try_open(member, what).expect("it opens")
    }

    pub(super) fn try_open(&mut self, member: Member, what: Opening) -> Result<ObjectId, Fault> {
        match self.call(member.at, Request::Open { member: member.id, what })? {
            Reply::Opened(object) => Ok(object),
            other => panic!("{other:?} to an open"),
        }
    }

    pub(super) fn draft(&mut self, member: Member, text: &str) -> ObjectId {
        let content = Content::Inline(Blob(text.as_bytes().to_vec()));
        match self.call(member.at, Request::Draft { member: member.id, store: 0, content }) {
            Ok(Reply::Opened(object)) => object,
            other => panic!("{other:?} to a draft"),
        }
    }

    /// A submit that nobody sent yet.
    pub(super) fn submit_request(&mut self, member: Member, to: &[&str]) -> Submit {
        self.made += 1;
        Submit {
            member: member.id,
            store: 0,
            key: SubmitKey(u128::from(self.made)),
            from: None,
            recipients: to.iter().map(|a| (*a).to_owned()).collect(),
            content: Content::Inline(Blob(b"Subject: x\r\n\r\nhello".to_vec())),
            when: Durability::Durable,
            report: sundown_protocol::request::Report::default(),
        }
    }

    pub(super) fn try_submit(&mut self, member: Member, to: &[&str]) -> Result<EntryId, Fault> {
        let submit = self.submit_request(member, to);
        match self.call(member.at, Request::Submit(submit))? {
            Reply::Submitted { entry, .. } => Ok(entry),
            other => panic!("{other:?} to a submit"),
        }
    }

    pub(super) fn submit(&mut self, member: Member, to: &str) -> EntryId {
        self.try_submit(member, &[to]).expect("it is taken")
    }

    /// Submits deferred; answered on acceptance, also while the store is held.
    pub(super) fn submit_deferred(&mut self, member: Member, to: &str) -> EntryId {
        let submit = self.submit_request(member, &[to]);
        let submit = Submit { when: Durability::Deferred, ..submit };
        let id = self.ask(member.at, Request::Submit(submit));
        match self.answer(member.at, id) {
            Some(Ok(Reply::Submitted { entry, state: SubmissionState::Accepted })) => entry,
            other => panic!("{other:?} to a deferred submit"),
        }
    }

    /// What a member was told since this was asked last.
    pub(super) fn news(&mut self, member: Member) -> Vec<News> {
        self.notifications(member).into_iter().map(|n| n.event).collect()
    }

    /// How many notifications came to a client, however many events were in each.
    pub(super) fn notices(&self, at: ConnectionId) -> usize {
        self.clients[&at].notified
    }

    pub(super) fn notifications(&mut self, member: Member) -> Vec<Notification> {
        let client = self.clients.get_mut(&member.at).expect("a client");
        let news = std::mem::take(&mut client.news);
        let (mine, others) = news.into_iter().partition(|n| n.member == member.id);
        client.news = others;
        mine
    }

    pub(super) fn critical_errors(&mut self, member: Member) -> usize {
        let critical = |n: &News| matches!(n, News::CriticalError { .. });
        self.news(member).iter().filter(|n| critical(n)).count()
    }

    // --- leaving fast ---

    pub(super) fn query(&mut self, at: ConnectionId) -> Result<Reply, Fault> {
        self.call(at, Request::QueryFastShutdown)
    }

    pub(super) fn notify(&mut self, at: ConnectionId) {
        self.done(at, Request::NotifyProcessShutdown);
    }

    pub(super) fn do_fast(&mut self, at: ConnectionId) -> Result<Reply, Fault> {
        self.call(at, Request::DoFastShutdown { remembered: false })
    }

    pub(super) fn ask_do(&mut self, at: ConnectionId) -> RequestId {
        self.ask(at, Request::DoFastShutdown { remembered: false })
    }

    /// Query, which must say yes, and do.
    pub(super) fn leave_fast(&mut self, at: ConnectionId) {
        assert_eq!(self.query(at), Ok(Reply::Done));
        assert_eq!(self.do_fast(at), Ok(Reply::Done));
    }

    /// Notifies, of which some providers hear too late.
    pub(super) fn notify_late(&mut self, at: ConnectionId) {
        let id = self.ask(at, Request::NotifyProcessShutdown);
        self.advance(secs(1));
        assert_eq!(self.answer(at, id), Some(Ok(Reply::Done)));
    }

    /// Whether a provider of that name has shut down for good.
    pub(super) fn is_over(&self, provider: &str) -> bool {
        self.over.iter().any(|lane| self.lanes.get(lane).is_some_and(|l| l.name == provider))
    }

    /// Providers that were told that a process leaves, in order.
    pub(super) fn notified(&self) -> Vec<String> {
        let swept = self.swept().into_iter().filter(|(_, _, c)| *c == "NotifyProcessShutdown");
        swept.map(|(_, provider, _)| provider).collect()
    }

    /// How often a provider carried out a call.
    pub(super) fn carried_out(&self, provider: &str, call: &str) -> usize {
        self.carried_out.get(&format!("{provider}.{call}")).copied().unwrap_or_default()
    }

    // --- looking ---

    /// Where a submission stands in its store.
    pub(super) fn submission(&self, entry: EntryId) -> &Submission {
        let store = self.stores.values().find(|s| s.uid == entry.store).expect("a store");
        &store.submissions[&entry.record]
    }

    pub(super) fn state(&self, entry: EntryId) -> SubmissionState {
        self.submission(entry).state()
    }

    pub(super) fn status(&mut self) -> Status {
        let at = self.connect(u32::MAX);
        let id = self.ask(at, Request::Status);
        let answer = self.answer(at, id);
        self.disconnect(at);
        match answer {
            Some(Ok(Reply::Status(status))) => *status,
            other => panic!("{other:?} to a status"),
        }
    }

    /// The states of the sessions that are listed.
    pub(super) fn sessions(&mut self) -> Vec<String> {
        self.status().sessions.into_iter().map(|s| s.state).collect()
    }

    pub(super) fn in_folder(&mut self, profile: &str, folder: Folder) -> usize {
        self.store(profile).messages.values().filter(|m| m.folder == folder).count()
    }

    pub(super) fn stop(&mut self, how: Stop) {
        self.apply(Event::Stop(how));
        self.settle();
    }
}

fn join<T: std::fmt::Debug>(all: &HashSet<T>) -> String {
    all.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ")
}

pub(super) fn logon_request(profile: Option<&str>, flags: LogonFlags) -> Request {
    Request::Logon(Logon { profile: profile.map(str::to_owned), flags })
}

pub(super) fn logoff_request(
    member: MemberId,
    flags: LogoffFlags,
    drain: Option<Duration>,
) -> Request {
    let drain = drain.map(|d| d.as_millis() as u64);
    Request::Logoff(Logoff { member, flags, drain })
}

pub(super) fn logged_off(reply: Reply) -> LoggedOff {
    match reply {
        Reply::LoggedOff(off) => off,
        other => panic!("{other:?} to a logoff"),
    }
}

/// The entries a fault names.
pub(super) fn entries_of(fault: &Fault) -> Vec<EntryId> {
    match &fault.detail {
        FaultDetail::Entries(entries) => entries.clone(),
        other => panic!("{other:?} instead of entries"),
    }
}

/// Whether news tell of a row that came or went.
pub(super) fn is_table_news(news: &News) -> bool {
    matches!(news, News::Table { change: TableChange::Added(_) | TableChange::Deleted(_), .. })
}
