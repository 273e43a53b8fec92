//! The broker under clients that send valid frames in any order, providers that answer when and as they like, and time.
//!
//! Nothing happens by itself: the bytes say what does. Looked at after each step: every request is answered once and only
//! to whoever asked, nobody is told who is not there, every call goes to an open worker that has a place for it, and none
//! after its logoff. In the end everything is let go: every request was answered, credit is back to the last byte, and
//! when the clients are gone nothing is left of them.

// The same providers as in the tests of the core; not all of what they can do is used here.
#[allow(dead_code)]
#[path = "../../broker/core/src/tests/fakes.rs"]
mod fakes;
mod script;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sundown_core::address::Pattern;
use sundown_core::local::{LocalMail, Users};
use sundown_core::provider::{
    Mirror, MirrorChange, ProviderAnswer, ProviderCall, ProviderSpec, ProviderType, StoreWrite,
    TransportCall,
};
use sundown_core::settings::{
    Limits, LoadedProfile, Looked, MailboxSpec, Profile, QueuePolicy, Settings, TransportSpec,
    Version, Watching,
};
use sundown_core::{
    Behalf, Broker, CallId, ConnectionId, Effect, Event, LaneId, LaneSpec, PeerIdentity,
    ProcessKey, QuestionId, Stop, Tick,
};
use sundown_protocol::codec::{decode, encode};
use sundown_protocol::frame;
use sundown_protocol::reply::{LoggedOn, Peer};
use sundown_protocol::request::{Asked, Request, Ticket};
use sundown_protocol::{
    AdviseId, Code, EntryId, Fault, MemberId, ObjectId, Reply, RequestId, SessionId, SessionTag,
};

use fakes::{AddressBook, Answer, Mailbox, Store, Transport, Wire, error};

/// The broker's own user.
const OWNER: u32 = 1_000;
/// Calls that a worker holds at once.
const PLACES: usize = 256;
/// Longer than anything lasts: mail is given up after five days.
const FOR_GOOD: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bytes as a script of what clients, providers and time do to the broker.
pub fn broker(bytes: &[u8]) {
    script::play(bytes);
}

#[derive(Debug)]
enum Worker {
    Store { path: PathBuf, of: LaneId },
    Transport(Transport),
    AddressBook(AddressBook),
    Mailbox(Mailbox),
}

#[derive(Debug)]
struct Lane {
    kind: ProviderType,
    worker: Worker,
    waiting: VecDeque<(CallId, ProviderCall)>,
    /// Carried out, and not told yet.
    done: VecDeque<(CallId, Answer)>,
}

#[derive(Debug)]
struct Client {
    /// What was asked and not answered, and for which member.
    asked: HashMap<RequestId, Option<MemberId>>,
    /// What its hello granted, in bytes.
    granted: u64,
}

/// What clients were given, for them to use and misuse.
#[derive(Debug, Default)]
struct Seen {
    members: Vec<(ConnectionId, MemberId)>,
    objects: Vec<(MemberId, ObjectId)>,
    advises: Vec<(MemberId, AdviseId)>,
    entries: Vec<EntryId>,
    tickets: Vec<Ticket>,
    tags: Vec<SessionTag>,
}

/// A broker with everything around it.
#[derive(Debug)]
struct World {
    broker: Broker,
    settings: Settings,
    boot: Duration,
    seed: u64,
    armed: Option<Duration>,
    profiles: BTreeMap<String, (Profile, u64)>,
    /// How often files of profiles were written.
    versions: u64,
    /// Looks at profiles that are not answered.
    looks: VecDeque<(String, Version)>,
    stores: BTreeMap<PathBuf, Store>,
    wire: Wire,
    lanes: BTreeMap<LaneId, Lane>,
    closed: BTreeSet<LaneId>,
    ended: HashSet<(LaneId, SessionId)>,
    loads: VecDeque<(SessionId, String)>,
    /// Questions about users that are not answered.
    questions: VecDeque<(QuestionId, Vec<String>)>,
    deletions: VecDeque<String>,
    withdrawn: VecDeque<CallId>,
    ended_lanes: VecDeque<LaneId>,
    clients: BTreeMap<ConnectionId, Client>,
    /// Whose members are where: news may go nowhere else.
    members: HashMap<MemberId, ConnectionId>,
    seen: Seen,
    pids: BTreeSet<u32>,
    stopped: bool,
    made: u64,
}

fn spec(name: &str, path: &str) -> ProviderSpec {
    ProviderSpec { name: name.into(), path: path.into(), ..ProviderSpec::new("fake") }
}

fn profile(name: &str, linger: &[&str]) -> Profile {
    let transport = |name: &&str| TransportSpec {
        provider: spec(name, ""),
        accept: vec![Pattern::parse("*").expect("a pattern")],
        senders: Vec::new(),
    };
    Profile {
        name: name.into(),
        identity: "me@here".into(),
        stores: vec![spec("store", &format!("/{name}/store"))],
        transports: linger.iter().map(transport).collect(),
        address_books: vec![spec("people", "")],
        queue: QueuePolicy::default(),
        access: vec![(7, sundown_core::settings::Right::Submit)],
        local: LocalMail { users: Users::System, ..LocalMail::default() },
        forward: sundown_core::settings::Forward::No,
        mailboxes: vec![MailboxSpec {
            provider: spec("account", ""),
            watch: if name == "work" { Watching::Always } else { Watching::Members },
        }],
        on_new_mail: (name == "work").then(|| vec!["ring".into()]),
    }
}

impl World {
    fn new(settings: Settings) -> Self {
        let profiles = [profile("default", &["relay"]), profile("work", &["relay", "second"])];
        let paths = profiles.iter().flat_map(|p| p.stores.iter().map(|s| s.path.clone()));
        let stores = paths.zip(1..).map(|(path, uid)| (path, Store::new(uid))).collect();
        Self {
            broker: Broker::new(settings.clone()),
            settings,
            boot: Duration::from_secs(1_000),
            seed: 1,
            armed: None,
            profiles: profiles.into_iter().map(|p| (p.name.clone(), (p, 0))).collect(),
            versions: 0,
            looks: VecDeque::new(),
            stores,
            wire: Wire::default(),
            lanes: BTreeMap::new(),
            closed: BTreeSet::new(),
            ended: HashSet::new(),
            loads: VecDeque::new(),
            questions: VecDeque::new(),
            deletions: VecDeque::new(),
            withdrawn: VecDeque::new(),
            ended_lanes: VecDeque::new(),
            clients: BTreeMap::new(),
            members: HashMap::new(),
            seen: Seen::default(),
            pids: BTreeSet::new(),
            stopped: false,
            made: 0,
        }
    }

    // --- what happens ---

    fn apply(&mut self, event: Event) {
        if self.stopped {
            // Whoever carries effects out ends with the last one.
            return;
        }
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_598_918_400) + self.boot;
        let tick = Tick { boot: self.boot, wall, seed: self.seed };
        let mut effects = Vec::new();
        self.broker.apply(tick, event, &mut effects);
        for effect in effects {
            assert!(!self.stopped, "{effect:?} after the end");
            self.carry_out(effect);
        }
        while let Some(call) = self.withdrawn.pop_front() {
            self.apply(Event::Withdrawn { call });
        }
        while let Some(lane) = self.ended_lanes.pop_front() {
            self.apply(Event::LaneEnded(lane));
        }
        while let Some((name, version)) = self.looks.pop_front() {
            self.look_at_profile(name, version);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { connection, request, result } => {
                let client = self.clients.get_mut(&connection).expect("who is answered is there");
                let asked = client.asked.remove(&request);
                let member = asked.expect("what is answered was asked, and not answered before");
                if let Ok(reply) = &result {
                    self.note(connection, member, reply);
                }
                // What the broker says fits into a frame.
                let said = sundown_protocol::reply::FromBroker::Answer { id: request, result };
                let said = encode(&said).expect("an answer fits into a frame");
                assert!(matches!(frame::cut(&said), Ok(Some(_))));
            }
            Effect::Notify { connection, notification } => {
                assert!(self.clients.contains_key(&connection), "who is told is there");
                if let sundown_protocol::Event::Session(tag) = &notification.event {
                    self.seen.tags.push(*tag);
                }
                if let sundown_protocol::Event::Ticket(ticket) = &notification.event {
                    self.seen.tickets.push(ticket.clone());
                } else {
                    assert_eq!(self.members.get(&notification.member), Some(&connection));
                }
                let said = sundown_protocol::reply::FromBroker::Notify(notification);
                encode(&said).expect("news fit into a frame");
            }
            Effect::Close { connection, .. } => {
                self.clients.remove(&connection).expect("a connection ends once");
            }
            Effect::Forgotten { process } => assert!(!self.broker.remembers(&process)),
            Effect::Refused { why, .. } => assert!(!why.message.is_empty(), "it says nothing"),
            Effect::OpenLane(spec) => self.open_lane(*spec),
            Effect::Call { lane, call, behalf, provider } => {
                self.called(lane, call, &behalf, provider);
            }
            Effect::CloseLane(lane) => {
                let closed = self.lanes.remove(&lane).expect("a lane is closed once");
                if closed.waiting.is_empty() && closed.done.is_empty() {
                    self.ended_lanes.push_back(lane);
                }
                self.closed.insert(lane);
            }
            Effect::Withdraw { lane, call } => {
                let Some(lane) = self.lanes.get_mut(&lane) else { return };
                let before = lane.waiting.len();
                lane.waiting.retain(|(waiting, _)| *waiting != call);
                if lane.waiting.len() < before {
                    self.withdrawn.push_back(call);
                }
            }
            Effect::KeepEnd(end) => assert!(!end.profile.is_empty(), "it names its profile"),
            Effect::ForgetEnd(_) => {}
            Effect::GaveUp { call, .. } | Effect::Hangs { call, .. } => {
                assert!(!call.is_empty(), "it says nothing");
            }
            Effect::ProviderNews { provider, .. } => assert!(!provider.is_empty(), "it names none"),
            Effect::ProfileNews { profile, .. } => assert!(!profile.is_empty(), "it names none"),
            Effect::CameBack { recipients, .. } => assert!(recipients > 0, "it is about nobody"),
            Effect::OutcomeUnknown { recipients, .. } => {
                assert!(recipients > 0, "it is about nobody");
            }
            Effect::RunForNotice { command, .. } => panic!("no profile has {command:?}"),
            Effect::RunForMail { profile, .. } => assert_eq!(profile, "work", "it has a command"),
            Effect::WrongAnswer { provider, call, wrong, .. } => {
                panic!("what {provider} says is so, and {call} was {wrong}")
            }
            Effect::FindUsers { question, names } => self.questions.push_back((question, names)),
            Effect::LoadProfile { session, name } => self.loads.push_back((session, name)),
            Effect::LookAtProfile { name, version } => self.looks.push_back((name, version)),
            Effect::DeleteProfile { name } => self.deletions.push_back(name),
            Effect::Arm(at) => self.armed = Some(at),
            Effect::Stopped => self.stopped = true,
        }
    }

    fn note(&mut self, connection: ConnectionId, member: Option<MemberId>, reply: &Reply) {
        match reply {
            Reply::LoggedOn(LoggedOn { member, .. }) => {
                assert_eq!(self.members.insert(*member, connection), None, "a number is new");
                self.seen.members.push((connection, *member));
            }
            Reply::Redeemed { member, object, .. } => {
                assert_eq!(self.members.insert(*member, connection), None, "a number is new");
                self.seen.members.push((connection, *member));
                self.seen.objects.push((*member, *object));
            }
            Reply::Ticket(ticket) => self.seen.tickets.push(ticket.clone()),
            Reply::Submitted { entry, .. } | Reply::Saved(entry) => self.seen.entries.push(*entry),
            Reply::Contents { rows, .. } | Reply::Found { rows, .. } => {
                self.seen.entries.extend(rows.iter().map(|row| row.entry));
            }
            Reply::Opened(object) => self.seen.objects.extend(member.map(|m| (m, *object))),
            Reply::Advised(advise) => self.seen.advises.extend(member.map(|m| (m, *advise))),
            _ => {}
        }
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
        let lane = self.lanes.get_mut(&id).expect("only open lanes are called");
        assert!(lane.waiting.len() + lane.done.len() < PLACES, "no place for a call");
        let fits = match &provider {
            ProviderCall::Write(_) | ProviderCall::Read(_) => lane.kind == ProviderType::Store,
            ProviderCall::Transport(_) => lane.kind == ProviderType::Transport,
            ProviderCall::Address(_) => lane.kind == ProviderType::AddressBook,
            ProviderCall::Mailbox(_) => lane.kind == ProviderType::Mailbox,
            ProviderCall::Logon
            | ProviderCall::Renew
            | ProviderCall::Logoff
            | ProviderCall::QueryFastShutdown
            | ProviderCall::NotifyProcessShutdown
            | ProviderCall::DoFastShutdown => true,
        };
        assert!(fits, "{provider:?} to a {:?}", lane.kind);
        let view = if let Worker::Store { of, .. } = lane.worker { of } else { id };
        if let Some(session) = behalf.session {
            assert!(!self.ended.contains(&(view, session)), "{provider:?} after its logoff");
            if provider == ProviderCall::Logoff {
                self.ended.insert((view, session));
            }
        }
        let lane = self.lanes.get_mut(&id).expect("looked at before");
        lane.waiting.push_back((call, provider));
    }

    // --- providers ---

    /// The mailbox of a profile's store writes what it has seen there, if it watches, and the broker hears of it.
    fn mailbox_writes(&mut self, profile: &str, changes: Vec<MirrorChange>) {
        let path = PathBuf::from(format!("/{profile}/store"));
        let of_store = |lane: &Lane| match &lane.worker {
            Worker::Store { path: at, of } if *at == path => Some(*of),
            _ => None,
        };
        let Some(lane) = self.lanes.values().find_map(of_store) else { return };
        let store = self.stores.get_mut(&path).expect("there is such a store");
        let watches = |lane: &Lane| matches!(&lane.worker, Worker::Mailbox(mailbox) if mailbox.watches == Some(store.uid));
        if store.logons == 0 || !self.lanes.values().any(watches) {
            return;
        }
        let mirror = StoreWrite::Mirror(Box::new(Mirror { mailbox: PathBuf::new(), changes }));
        if let Ok(ProviderAnswer::Mirrored(changes)) = store.write("Mirror", mirror) {
            self.apply(Event::StoreChanged { lane, changes });
        }
    }

    /// A mailbox says whether it works.
    fn mailbox_says(&mut self, works: bool) {
        let mailboxes = self.lanes.iter().filter(|(_, lane)| lane.kind == ProviderType::Mailbox);
        let Some(lane) = mailboxes.map(|(id, _)| *id).next() else { return };
        let said = if works { Ok(()) } else { Err(error(Code::E_NO_ACCESS)) };
        self.apply(Event::MailboxSaid { lane, said });
    }

    /// Carries out the first call of a lane, or fails it.
    fn work(&mut self, id: LaneId, fails: Option<Code>) {
        let lane = self.lanes.get_mut(&id).expect("a lane");
        let Some((call, provider)) = lane.waiting.pop_front() else { return };
        let name = provider.name();
        let answer = match (&mut lane.worker, provider) {
            // A logoff happens, whatever it says. What was prepared is forgotten with its cancel.
            (_, provider) if fails.is_some() && may_fail(&provider) => {
                Err(error(fails.expect("it was asked just now")))
            }
            (
                _,
                ProviderCall::QueryFastShutdown
                | ProviderCall::NotifyProcessShutdown
                | ProviderCall::DoFastShutdown,
            ) => Ok(ProviderAnswer::Done),
            (Worker::Store { path, .. }, provider) => {
                let store = self.stores.get_mut(path).expect("there is such a store");
                match provider {
                    ProviderCall::Logon => store.logon(),
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
                mailbox.call(call, self.stores.values_mut())
            }
            (Worker::Transport(_), ProviderCall::Logon) => {
                Ok(ProviderAnswer::TransportReady(self.wire.facts))
            }
            (_, ProviderCall::Logon | ProviderCall::Renew | ProviderCall::Logoff) => {
                Ok(ProviderAnswer::Done)
            }
            (_, other) => panic!("{other:?} to the wrong provider"),
        };
        lane.done.push_back((call, answer));
    }

    fn tell(&mut self, id: LaneId) {
        let lane = self.lanes.get_mut(&id).expect("a lane");
        if let Some((call, result)) = lane.done.pop_front() {
            self.apply(Event::Answered { call, result });
        }
    }

    fn load_profile(&mut self) -> bool {
        let Some((session, name)) = self.loads.pop_front() else { return false };
        let result = self.read_profile(&name);
        self.apply(Event::ProfileLoaded { session, result });
        true
    }

    /// What is in a profile's file.
    fn read_profile(&self, name: &str) -> Result<LoadedProfile, Fault> {
        let unknown = || Fault::new(Code::E_NOT_FOUND, format!("no profile {name:?}"));
        let (profile, number) = self.profiles.get(name).ok_or_else(unknown)?;
        let version = Version { number: *number, changed: None };
        Ok(LoadedProfile { profile: Box::new(profile.clone()), version })
    }

    /// A profile's file is written anew: with other servers, one transport less, another address book, another store, fewer rights, or a
    /// mistake, which is as if it were not there.
    fn change_profile(&mut self, name: &str, how: usize) {
        if !matches!(name, "default" | "work") {
            return;
        }
        self.versions += 1;
        let mut changed =
            profile(name, if name == "work" { &["relay", "second"] } else { &["relay"] });
        for transport in &mut changed.transports {
            let number = self.versions % 3;
            transport.provider.options = vec![("host".to_owned(), number.to_string())];
        }
        match how {
            1 => drop(changed.transports.pop()),
            2 => changed.address_books.push(spec("company", "")),
            3 => changed.stores.push(spec("archive", "/archive")),
            4 => changed.access.clear(),
            5 => {
                self.profiles.remove(name);
                return;
            }
            _ => {}
        }
        if how == 3 && !self.stores.contains_key(Path::new("/archive")) {
            self.stores.insert("/archive".into(), Store::new(7));
        }
        self.profiles.insert(name.to_owned(), (changed, self.versions));
    }

    /// The loop looks at files itself.
    fn look_at_profile(&mut self, name: String, known: Version) {
        let result = self.read_profile(&name).map(|loaded| {
            if loaded.version == known { Looked::Same } else { Looked::Changed(loaded) }
        });
        self.apply(Event::ProfileLooked { name, result });
    }

    /// A name of an odd length is a user's, and the system does not say who has a name of five letters.
    fn find_users(&mut self) -> bool {
        let Some((question, names)) = self.questions.pop_front() else { return false };
        let one = |name: String| match name.len() {
            5 => Err(Fault::new(Code::E_BUSY, "no answer")),
            length => Ok((name, length % 2 == 1)),
        };
        let result = names.into_iter().map(one).collect();
        self.apply(Event::UsersFound { question, result });
        true
    }

    fn delete_profile(&mut self) -> bool {
        let Some(name) = self.deletions.pop_front() else { return false };
        self.apply(Event::ProfileDeleted { name, result: Ok(()) });
        true
    }

    // --- time ---

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "it never ends");
            let lane = self.lanes.iter().find(|(_, l)| !l.done.is_empty() || !l.waiting.is_empty());
            if self.armed.is_some_and(|at| at <= self.boot) {
                self.armed = None;
                self.apply(Event::Timer);
            } else if let Some((&id, lane)) = lane {
                if lane.done.is_empty() { self.work(id, None) } else { self.tell(id) }
            } else if !self.load_profile() && !self.find_users() && !self.delete_profile() {
                return;
            }
        }
    }

    /// Time passes in which no provider answers, and their calls are looked at.
    fn look_after(&mut self, by: Duration) {
        self.boot += by;
        self.apply(Event::Look);
    }

    /// Lets time pass, and everything happen that is due meanwhile.
    fn advance(&mut self, by: Duration) {
        let until = self.boot + by;
        self.settle();
        for round in 0.. {
            assert!(round < 100_000, "timers never end");
            let Some(at) = self.armed.filter(|at| *at <= until && !self.stopped) else { break };
            self.boot = self.boot.max(at);
            self.settle();
        }
        self.boot = until;
    }

    // --- clients ---

    fn connect(&mut self, pid: u32, uid: u32, library: u8) {
        self.made += 1;
        let connection = ConnectionId(self.made);
        let granted = self.settings.limits.request_bytes;
        self.clients.insert(connection, Client { asked: HashMap::new(), granted });
        self.pids.insert(pid);
        let peer = Peer { pid, program: format!("program-{pid}") };
        let since = self.boot;
        let served_before = pid.is_multiple_of(3);
        let key = key(pid);
        let identity =
            PeerIdentity { key, peer, uid, library: [library; 16], since, served_before };
        self.apply(Event::Connected { connection, identity });
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        if self.clients.remove(&connection).is_some() {
            self.apply(Event::Disconnected { connection });
        }
    }

    /// Asks by a frame, as it comes from a socket.
    fn ask(&mut self, connection: ConnectionId, request: Request, bytes: Option<u64>) {
        self.made += 1;
        let id = RequestId(self.made);
        let asked = encode(&Asked { id, request }).expect("it fits into a frame");
        let (payload, used) = frame::cut(&asked).expect("a frame").expect("a whole one");
        let asked: Asked = decode(payload).expect("what was encoded");
        let client = self.clients.get_mut(&connection).expect("who asks is connected");
        client.asked.insert(id, asked.request.member());
        let bytes = bytes.map_or(used, |bytes| bytes as usize);
        self.apply(Event::Request { connection, asked, bytes });
    }

    // --- the end ---

    /// Everybody gets what is due to them, and leaves.
    fn finish(&mut self) {
        self.settle();
        self.advance(Duration::from_secs(3600));
        if !self.stopped {
            self.check_answered();
            self.check_credit();
        }
        for connection in self.clients.keys().copied().collect::<Vec<_>>() {
            self.disconnect(connection);
        }
        for pid in std::mem::take(&mut self.pids) {
            self.apply(Event::ProcessEnded { process: key(pid) });
        }
        self.advance(FOR_GOOD);
        if !self.stopped {
            self.check_nothing_left();
            self.apply(Event::Stop(Stop::Final));
            self.advance(Duration::from_secs(60));
        }
        assert!(self.stopped, "the broker does not stop");
        assert!(self.lanes.is_empty(), "workers are left: {:?}", self.lanes);
    }

    fn check_answered(&self) {
        for (connection, client) in &self.clients {
            assert!(
                client.asked.is_empty(),
                "{:?} of {connection:?} is not answered",
                client.asked
            );
        }
    }

    /// A request of all the bytes that were granted is taken: nothing of what was answered is still charged.
    fn check_credit(&mut self) {
        for (connection, granted) in
            self.clients.iter().map(|(c, client)| (*c, client.granted)).collect::<Vec<_>>()
        {
            self.ask(connection, Request::Broker, Some(granted));
            assert!(self.clients.contains_key(&connection), "credit did not come back");
        }
    }

    fn check_nothing_left(&self) {
        let figures = self.broker.figures();
        assert_eq!((figures.connections, figures.processes), (0, 0), "{figures:?}");
        assert!(figures.members.values().all(|n| *n == 0), "members are left: {figures:?}");
        let left: u64 = figures.sessions.values().sum();
        assert_eq!(left, 0, "sessions are left: {figures:?}");
    }
}

/// Whether a call may fail without the provider being at fault: what ends something does not.
fn may_fail(call: &ProviderCall) -> bool {
    match call {
        ProviderCall::Renew
        | ProviderCall::Logoff
        | ProviderCall::Transport(TransportCall::Cancel { .. } | TransportCall::Complete { .. }) => {
            false
        }
        ProviderCall::Logon
        | ProviderCall::Write(_)
        | ProviderCall::Read(_)
        | ProviderCall::Transport(_)
        | ProviderCall::Address(_)
        | ProviderCall::Mailbox(_)
        | ProviderCall::QueryFastShutdown
        | ProviderCall::NotifyProcessShutdown
        | ProviderCall::DoFastShutdown => true,
    }
}

fn key(pid: u32) -> ProcessKey {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&pid.to_le_bytes());
    ProcessKey(key)
}

/// Limits that a script can reach.
fn small_limits() -> Limits {
    Limits {
        connections: 6,
        members: 4,
        objects: 6,
        requests: 8,
        request_bytes: 4096,
        recipients: 3,
        ..Limits::default()
    }
}
