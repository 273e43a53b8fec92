//! Any order of anything: logons, logoffs, shared logoffs, fast shutdowns, grants, crashes, submissions, providers that are
//! slow, hang, fail and panic, brokers that die and start again, and time.
//!
//! What is checked is simple, and must hold however things are interleaved. A case that fails is made as short as it
//! can be and printed, and its seed is noted in `proptest-regressions/`, which is part of the source. A seed means
//! another case when the acts change, so [`found`](super::found) keeps the cases themselves; both are replayed.
//!
//! ```sh
//! PROPTEST_CASES=100000 cargo test --release -p sundown-core model   # 256 cases of each test unless said
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use sundown_protocol::folder::{Filter, Flags, Marks, Sort};
use sundown_protocol::reply::{Reply, Resource, SubmissionState};
use sundown_protocol::request::{
    Content, Durability, Folder, LogoffFlags, LogonFlags, Opening, QueueAction, QueueChange,
    Request, StoreLogoff, Submit,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, Event as News, Events, MemberId, ObjectId, RequestId, SessionId,
    SubmitKey, Token,
};

use super::fakes::{Interface, Step};
use super::world::{
    Member, OWNER, World, found, logoff_request, logon_request, mailbox, millis, secs, settings,
    transport,
};
use crate::ground::event::ConnectionId;
use crate::peers::process::Departure;
use crate::peers::ticket::Host;
use crate::provider::MirrorChange;
use crate::provider::Outcome;
use crate::provider::Spot;
use crate::provider::Submission;
use crate::providers::view::Provider;
use crate::providers::view::ProviderState;
use crate::sessions::member::Member as Logged;
use crate::sessions::session::Session;
use crate::sessions::session::SessionState;
use crate::settings::FastShutdownBehavior;
use crate::settings::Linger;
use crate::settings::Settings;
use crate::settings::SharedLogoff;
use crate::settings::Shutdown;
use crate::settings::Watching;
use crate::{Event, Stop};

/// One thing that happens. Numbers choose among what is there.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Every profile has a mailbox from now on.
    Mailboxes,
    Connect(u32),
    /// Another copy of the library in a process connects: no host, whatever happens.
    AddIn(u32),
    Disconnect(usize),
    EndProcess(u32),
    Logon {
        at: usize,
        profile: usize,
        flags: usize,
    },
    Logoff {
        who: usize,
        flags: usize,
        drain: Option<u64>,
    },
    Submit {
        who: usize,
        to: usize,
        deferred: bool,
    },
    Repeat {
        who: usize,
        which: usize,
    },
    Abort {
        who: usize,
        which: usize,
    },
    Query(usize),
    Notify(usize),
    Do(usize),
    /// A program that leaves as it should: query, and do when everything has gone on.
    Leave(usize),
    /// Somebody tries a handle, on the connection it is of or on another one.
    Try {
        at: usize,
        handle: usize,
    },
    Grant(usize),
    Redeem {
        at: usize,
        token: usize,
    },
    UseReference {
        which: usize,
        how: usize,
    },
    Revoke {
        who: usize,
        token: usize,
    },
    Interface {
        provider: usize,
        what: usize,
    },
    Flush(usize),
    Draft(usize),
    Save(usize),
    Open {
        who: usize,
        what: usize,
    },
    Advise(usize),
    Unadvise(usize),
    Queue(usize),
    Change {
        at: usize,
        which: usize,
        change: usize,
    },
    FlushQueues(usize),
    StoreLogoff {
        who: usize,
        flag: usize,
    },
    Validate(usize),
    /// A mailbox has seen something, if it watches.
    Mirror {
        profile: usize,
        what: usize,
    },
    /// A mailbox says whether it works.
    Say {
        works: bool,
    },
    /// Somebody changes a message: its flags, its folder, or it is copied or deleted.
    File {
        who: usize,
        which: usize,
        what: usize,
    },
    /// Somebody makes, renames or removes a folder, looks into it, or looks for words.
    Folder {
        who: usize,
        what: usize,
    },
    Steps(Vec<usize>),
    Settle,
    Pass(u64),
    Hold {
        provider: usize,
        call: usize,
    },
    Silence {
        provider: usize,
        call: usize,
    },
    LetGo(usize),
    Script {
        to: usize,
        step: usize,
    },
    Fail {
        call: usize,
        times: usize,
    },
    /// A provider panics at its next calls of a name: the worker says that the call failed.
    Panic {
        profile: usize,
        call: usize,
    },
    Broken(usize),
    /// A transport does not know any more what became of what it was handed over.
    Mute(bool),
    /// A provider shuts down for good at the next Do, as its interface's letter allows.
    Literal(usize),
    /// The broker dies, and another one takes its place.
    Restart,
    /// It dies when providers have carried out what they were called for, and have not said so.
    LateRestart,
    Reload(usize),
}

/// The copy of the library that is no host.
const ADD_IN: [u8; 16] = [7; 16];

const PROFILES: [&str; 2] = ["default", "work"];
const PROVIDERS: [&str; 5] = ["store", "relay", "here", "people", "account"];
const CALLS: [&str; 18] = [
    "*",
    "SubmitMessage",
    "EndMessage",
    "UpdateSubmission",
    "GetOutgoingQueue",
    "Logoff",
    "QueryQueue",
    "Logon",
    "QueryFastShutdown",
    "DoFastShutdown",
    "NotifyProcessShutdown",
    "Watch",
    "Rest",
    "StoreChanged",
    "SetMessageFlags",
    "MoveMessages",
    "SaveChanges",
    "CreateFolder",
];
const INTERFACES: [Interface; 4] = [
    Interface::Supports,
    Interface::Refuses(Code::E_NO_SUPPORT),
    Interface::Unaware,
    Interface::Refuses(Code::E_CALL_FAILED),
];
const FAILING: [&str; 10] = [
    "SubmitMessage",
    "UpdateSubmission",
    "GetOutgoingQueue",
    "SaveChanges",
    "Logoff",
    "QueryQueue",
    "DoFastShutdown",
    "SetMessageFlags",
    "CopyMessages",
    "OpenFolder",
];
const ADDRESSES: [&[&str]; 5] =
    [&["a@x"], &["b@x"], &["a@localhost"], &["a@x", "b@x", "c@localhost"], &["b@x", "d@x"]];
const STEPS: [Step; 6] = [
    Step::Says(Outcome::Later),
    Step::Says(Outcome::Failed),
    Step::Says(Outcome::Offline),
    Step::Says(Outcome::Unknown),
    Step::SentButUnknown,
    Step::Refuses,
];

fn act() -> impl Strategy<Value = Act> {
    let any = || 0..8usize;
    prop_oneof![
        3 => (1..4u32).prop_map(Act::Connect),
        1 => (1..4u32).prop_map(Act::AddIn),
        1 => any().prop_map(Act::Disconnect),
        2 => (1..4u32).prop_map(Act::EndProcess),
        6 => (any(), 0..2usize, any())
            .prop_map(|(at, profile, flags)| Act::Logon { at, profile, flags }),
        4 => (any(), any(), prop::option::of(0..90_000u64))
            .prop_map(|(who, flags, drain)| Act::Logoff { who, flags, drain }),
        8 => (any(), any(), prop::bool::ANY)
            .prop_map(|(who, to, deferred)| Act::Submit { who, to, deferred }),
        1 => (any(), any()).prop_map(|(who, which)| Act::Repeat { who, which }),
        2 => (any(), any()).prop_map(|(who, which)| Act::Abort { who, which }),
        4 => any().prop_map(Act::Query),
        1 => any().prop_map(Act::Notify),
        2 => any().prop_map(Act::Do),
        4 => any().prop_map(Act::Leave),
        3 => (any(), 0..64usize).prop_map(|(at, handle)| Act::Try { at, handle }),
        3 => any().prop_map(Act::Grant),
        4 => (any(), 0..4usize).prop_map(|(at, token)| Act::Redeem { at, token }),
        2 => (any(), any()).prop_map(|(which, how)| Act::UseReference { which, how }),
        1 => (any(), any()).prop_map(|(who, token)| Act::Revoke { who, token }),
        1 => (any(), any()).prop_map(|(provider, what)| Act::Interface { provider, what }),
        1 => any().prop_map(Act::Flush),
        1 => any().prop_map(Act::Draft),
        1 => any().prop_map(Act::Save),
        3 => (any(), any()).prop_map(|(who, what)| Act::Open { who, what }),
        3 => any().prop_map(Act::Advise),
        1 => any().prop_map(Act::Unadvise),
        1 => any().prop_map(Act::Queue),
        8 => prop::collection::vec(0..64usize, 1..12).prop_map(Act::Steps),
        3 => Just(Act::Settle),
        4 => (0..40_000u64).prop_map(Act::Pass),
        2 => (any(), 0..CALLS.len()).prop_map(|(provider, call)| Act::Hold { provider, call }),
        2 => (any(), 0..CALLS.len()).prop_map(|(provider, call)| Act::Silence { provider, call }),
        3 => any().prop_map(Act::LetGo),
        3 => (any(), any()).prop_map(|(to, step)| Act::Script { to, step }),
        3 => (0..FAILING.len(), 1..3usize).prop_map(|(call, times)| Act::Fail { call, times }),
        1 => (0..2usize, any()).prop_map(|(profile, call)| Act::Panic { profile, call }),
        2 => (0..4usize).prop_map(Act::Broken),
        1 => prop::bool::ANY.prop_map(Act::Mute),
        1 => (0..PROVIDERS.len()).prop_map(Act::Literal),
        1 => Just(Act::Restart),
        1 => Just(Act::LateRestart),
        2 => any().prop_map(Act::Reload),
        4 => (any(), any(), any())
            .prop_map(|(at, which, change)| Act::Change { at, which, change }),
        2 => any().prop_map(Act::FlushQueues),
        1 => (any(), any()).prop_map(|(who, flag)| Act::StoreLogoff { who, flag }),
        1 => any().prop_map(Act::Validate),
        5 => (0..2usize, any()).prop_map(|(profile, what)| Act::Mirror { profile, what }),
        1 => prop::bool::ANY.prop_map(|works| Act::Say { works }),
        5 => (any(), 0..32usize, any())
            .prop_map(|(who, which, what)| Act::File { who, which, what }),
        3 => (any(), any()).prop_map(|(who, what)| Act::Folder { who, what }),
    ]
}

/// Mostly, three processes are here already, two of them in both profiles.
fn acts(most: usize) -> impl Strategy<Value = Vec<Act>> {
    let here = prop::bool::weighted(0.8);
    (here, prop::collection::vec(act(), 1..most)).prop_map(|(here, acts)| {
        let mut all = vec![Act::Mailboxes];
        if !here {
            all.extend(acts);
            return all;
        }
        let logon = |at, profile| Act::Logon { at, profile, flags: 7 };
        all.extend([1, 1, 2, 3].map(Act::Connect));
        all.extend(
            [(0, 0), (1, 1), (2, 0), (2, 1), (3, 0)].map(|(at, profile)| logon(at, profile)),
        );
        all.push(Act::Settle);
        all.extend(acts);
        all
    })
}

fn pick<T: Copy>(all: &[T], n: usize) -> Option<T> {
    if all.is_empty() { None } else { Some(all[n % all.len()]) }
}

/// What must come true in the end.
struct Model {
    world: World,
    connections: Vec<ConnectionId>,
    /// Logons and submissions that were asked for.
    asked: Vec<(ConnectionId, RequestId)>,
    members: Vec<Member>,
    objects: Vec<(Member, ObjectId)>,
    folders: Vec<(Member, ObjectId)>,
    references: Vec<(ConnectionId, MemberId, ObjectId)>,
    /// All who were ever logged on, and the sessions they were in.
    handles: Vec<Member>,
    registrations: Vec<(Member, AdviseId)>,
    /// What each process was answered, until it ended.
    verdicts: BTreeMap<u32, bool>,
    /// The copy of the library that asked first.
    answered_to: BTreeMap<u32, [u8; 16]>,
    queries: Vec<(ConnectionId, RequestId)>,
    dos: Vec<(ConnectionId, RequestId)>,
    /// Who may end a session for all.
    rule: SharedLogoff,
    /// When each session was ended for all.
    ended: BTreeMap<SessionId, Duration>,
    evicted: BTreeSet<MemberId>,
    /// Who was told of whose leaving.
    left: BTreeSet<(MemberId, MemberId)>,
    /// Shared logoffs each member is to be told of.
    told: BTreeMap<MemberId, usize>,
    heard: BTreeMap<MemberId, usize>,
    /// With the profile whose store has the key.
    submits: Vec<(String, Submit)>,
    durable: BTreeSet<EntryId>,
    /// What somebody wanted sent again, although it may have gone out.
    retried: BTreeSet<u128>,
    /// What was made so far: messages in mailboxes, and keys.
    seen: u32,
}

impl Model {
    fn new(linger: Linger, shared_logoff: SharedLogoff) -> Self {
        let shutdown = Shutdown { shared_logoff, linger, ..Shutdown::default() };
        let mut world = World::with(Settings { shutdown, ..settings() });
        for profile in PROFILES {
            world.profile(profile).transports =
                vec![transport("here", &["localhost"]), transport("relay", &["*"])];
        }
        Self::around(world, shared_logoff)
    }

    fn around(world: World, rule: SharedLogoff) -> Self {
        Self {
            world,
            connections: Vec::new(),
            asked: Vec::new(),
            members: Vec::new(),
            objects: Vec::new(),
            folders: Vec::new(),
            references: Vec::new(),
            handles: Vec::new(),
            registrations: Vec::new(),
            verdicts: BTreeMap::new(),
            answered_to: BTreeMap::new(),
            queries: Vec::new(),
            dos: Vec::new(),
            rule,
            ended: BTreeMap::new(),
            evicted: BTreeSet::new(),
            left: BTreeSet::new(),
            told: BTreeMap::new(),
            heard: BTreeMap::new(),
            submits: Vec::new(),
            durable: BTreeSet::new(),
            retried: BTreeSet::new(),
            seen: 0,
        }
    }

    fn act(&mut self, act: Act) {
        let world = &mut self.world;
        match act {
            Act::Mailboxes => {
                for profile in PROFILES {
                    world.profile(profile).mailboxes = vec![mailbox("account")];
                }
                world.profile("work").mailboxes[0].watch = Watching::Always;
                world.profile("work").on_new_mail = Some(vec!["ring".into()]);
            }
            Act::Connect(pid) => {
                if self.connections.len() < 6 {
                    let at = world.connect(pid);
                    world.ask_ticket(at);
                    self.connections.push(at);
                }
            }
            Act::AddIn(pid) => {
                if self.connections.len() < 6 {
                    let at = world.connect_with(pid, OWNER, ADD_IN);
                    world.ask_ticket(at);
                    self.connections.push(at);
                }
            }
            Act::Disconnect(n) => {
                if let Some(at) = pick(&self.connections, n) {
                    world.disconnect(at);
                }
            }
            Act::EndProcess(pid) => {
                world.end_process(pid);
                self.verdicts.remove(&pid);
                self.answered_to.remove(&pid);
            }
            Act::Query(at) => {
                if let Some(at) = pick(&self.connections, at) {
                    let id = world.ask(at, Request::QueryFastShutdown);
                    self.queries.push((at, id));
                }
            }
            Act::Notify(at) => {
                if let Some(at) = pick(&self.connections, at) {
                    world.ask(at, Request::NotifyProcessShutdown);
                }
            }
            Act::Do(at) => {
                if let Some(at) = pick(&self.connections, at) {
                    self.dos.push((at, world.ask_do(at)));
                }
            }
            Act::Leave(at) => {
                if let Some(at) = pick(&self.connections, at) {
                    let id = world.ask(at, Request::QueryFastShutdown);
                    let pid = world.peer(at).pid;
                    self.queries.push((at, id));
                    self.look();
                    if !self.verdicts.contains_key(&pid) {
                        self.world.settle();
                        self.look();
                    }
                    if self.world.is_open(at) {
                        self.dos.push((at, self.world.ask_do(at)));
                    }
                }
            }
            Act::Try { at, handle } => self.try_handle(at, handle),
            Act::Grant(which) => {
                if let Some((member, object)) = pick(&self.folders, which)
                    && self.members.contains(&member)
                {
                    let token = Token(self.folders.len() as u128);
                    world.ask(
                        member.at,
                        Request::Grant { member: member.id, object, token, pid: None },
                    );
                }
            }
            Act::Redeem { at, token } => {
                if let Some(at) = pick(&self.connections, at) {
                    let id = world.ask(at, Request::Redeem { token: Token(token as u128 + 1) });
                    if let Some(Ok(Reply::Redeemed { member, object, .. })) = world.answer(at, id) {
                        self.references.push((at, member, object));
                    }
                }
            }
            Act::UseReference { which, how } => {
                if let Some((at, member, object)) = pick(&self.references, which)
                    && world.is_open(at)
                {
                    let request = match how {
                        0..=4 => Request::List { member, object, after: 0, limit: 9 },
                        _ => Request::Release { member, object },
                    };
                    world.ask(at, request);
                }
            }
            Act::Revoke { who, token } => {
                if let Some(member) = pick(&self.members, who) {
                    let token = Token(token as u128 + 1);
                    world.ask(member.at, Request::Revoke { member: member.id, token });
                }
            }
            Act::Interface { provider, what } => {
                let name = PROVIDERS[provider % PROVIDERS.len()];
                world.interfaces.insert(name.into(), INTERFACES[what % INTERFACES.len()]);
            }
            Act::Logon { at, profile, flags } => {
                let flags = match flags {
                    0 => LogonFlags::NEW_SESSION,
                    1 => LogonFlags::NO_MAIL,
                    2 => LogonFlags::TIMEOUT_SHORT,
                    _ => LogonFlags::default(),
                };
                if let Some(at) = pick(&self.connections, at) {
                    let id = world.ask(at, logon_request(Some(PROFILES[profile]), flags));
                    self.asked.push((at, id));
                }
            }
            Act::Logoff { who, flags, drain } => self.logoff(who, flags, drain),
            Act::Submit { who, to, deferred } => {
                if let Some(member) = pick(&self.members, who) {
                    let to = ADDRESSES[to % ADDRESSES.len()];
                    let mut submit = world.submit_request(member, to);
                    if deferred {
                        submit.when = Durability::Deferred;
                    }
                    let profile = world.broker.sessions.all[&member.session].key.profile.clone();
                    self.submits.push((profile, submit.clone()));
                    let id = world.ask(member.at, Request::Submit(submit));
                    self.asked.push((member.at, id));
                }
            }
            Act::Repeat { who, which } => {
                if let (Some(member), false) = (pick(&self.members, who), self.submits.is_empty()) {
                    let (home, submit) = self.submits[which % self.submits.len()].clone();
                    // A key is of one store.
                    if self.world.broker.sessions.all[&member.session].key.profile == home {
                        let submit = Submit { member: member.id, ..submit };
                        let id = self.world.ask(member.at, Request::Submit(submit));
                        self.asked.push((member.at, id));
                    }
                }
            }
            Act::Abort { who, which } => {
                let durable: Vec<_> = self.durable.iter().copied().collect();
                if let (Some(member), Some(entry)) =
                    (pick(&self.members, who), pick(&durable, which))
                {
                    world.ask(member.at, Request::AbortSubmit { member: member.id, entry });
                }
            }
            Act::Flush(who) => {
                if let Some(member) = pick(&self.members, who) {
                    world.ask(member.at, Request::Flush { member: member.id });
                }
            }
            Act::Draft(who) => {
                if let Some(member) = pick(&self.members, who) {
                    let content = Content::Inline(sundown_protocol::request::Blob(b"x".to_vec()));
                    let draft = Request::Draft { member: member.id, store: 0, content };
                    let id = world.ask(member.at, draft);
                    if let Some(Ok(Reply::Opened(object))) = world.answer(member.at, id) {
                        self.objects.push((member, object));
                    }
                }
            }
            Act::Save(which) => {
                if let Some((member, object)) = pick(&self.objects, which)
                    && self.members.contains(&member)
                {
                    let key = SubmitKey(u128::from(object.place) << 64 | u128::from(member.id.0));
                    world.ask(member.at, Request::Save { member: member.id, object, key });
                }
            }
            Act::Open { who, what } => {
                if let Some(member) = pick(&self.members, who) {
                    let what = match what {
                        0 => Opening::AddressBook,
                        1 => Opening::StatusTable,
                        _ => Opening::Folder(0, Folder::OUTBOX),
                    };
                    let open = Request::Open { member: member.id, what: what.clone() };
                    let id = world.ask(member.at, open);
                    if let Some(Ok(Reply::Opened(object))) = world.answer(member.at, id) {
                        if !matches!(what, Opening::AddressBook | Opening::StatusTable) {
                            self.folders.push((member, object));
                        }
                        let list = Request::List { member: member.id, object, after: 0, limit: 10 };
                        world.ask(member.at, list);
                    }
                }
            }
            Act::Advise(who) => {
                if let Some(member) = pick(&self.members, who) {
                    let source = sundown_protocol::request::AdviseSource::Session;
                    let events = Events::all();
                    let advise = Request::Advise { member: member.id, source, events };
                    let id = world.ask(member.at, advise);
                    if let Some(Ok(Reply::Advised(advise))) = world.answer(member.at, id) {
                        self.registrations.push((member, advise));
                    }
                }
            }
            Act::Unadvise(which) => {
                if let Some((member, advise)) = pick(&self.registrations, which)
                    && world.is_open(member.at)
                {
                    world.ask(member.at, Request::Unadvise { member: member.id, advise });
                }
            }
            Act::Queue(at) => {
                if let Some(at) = pick(&self.connections, at) {
                    let action = QueueAction::List { all: true, after: 0, limit: 3 };
                    let profile = Some("work".to_owned());
                    world.ask(at, Request::Queue { profile, action });
                }
            }
            Act::Steps(choices) => {
                for choice in choices {
                    world.step(choice);
                }
            }
            Act::Settle => world.settle(),
            Act::Pass(time) => world.advance(millis(time)),
            Act::Hold { provider, call } => {
                world.hold(PROVIDERS[provider % PROVIDERS.len()], CALLS[call % CALLS.len()]);
            }
            Act::Silence { provider, call } => {
                world.silence(PROVIDERS[provider % PROVIDERS.len()], CALLS[call % CALLS.len()]);
            }
            Act::LetGo(provider) => world.let_go(PROVIDERS[provider % PROVIDERS.len()]),
            Act::Script { to, step } => {
                let address = ADDRESSES[to % ADDRESSES.len()][0];
                world.script(address, &[STEPS[step % STEPS.len()]]);
            }
            Act::Fail { call, times } => {
                let call = FAILING[call % FAILING.len()];
                let failures = vec![Code::E_DISK_ERROR; times];
                world.store("default").failures.insert(call, failures.into());
            }
            Act::Panic { profile, call } => {
                let call = FAILING[call % FAILING.len()];
                let failures = vec![Code::E_CALL_FAILED];
                world.store(PROFILES[profile]).failures.insert(call, failures.into());
            }
            Act::Mute(true) => {
                world.wire.mute.insert("relay".into());
            }
            Act::Mute(false) => world.wire.mute.clear(),
            Act::Literal(provider) => {
                world.literal.insert(PROVIDERS[provider % PROVIDERS.len()].into());
            }
            Act::Restart => self.restart(),
            Act::LateRestart => {
                world.carry_out_everything();
                self.restart();
            }
            Act::Reload(how) => {
                use crate::settings::FastShutdownBehavior::Disabled;
                use crate::settings::FastShutdownBehavior::OptIn;
                use crate::settings::FastShutdownBehavior::OptOut;
                let mut settings = world.broker.settings.clone();
                settings.shutdown.fast_shutdown = [OptIn, OptOut, Disabled][how % 3];
                // Each file may have been written anew meanwhile, with other servers.
                for (profile, name) in PROFILES.iter().enumerate() {
                    let server = (how >> profile) % 3;
                    for transport in &mut world.profile(name).transports {
                        let host = ("host".to_owned(), server.to_string());
                        transport.provider.options = vec![host];
                    }
                }
                world.apply(Event::Reload(Box::new(settings)));
            }
            Act::Broken(how) => {
                world.wire.broken.clear();
                let codes = [Code::E_NETWORK_ERROR, Code::E_LOGON_FAILED, Code::E_CALL_FAILED];
                if let Some(code) = codes.get(how) {
                    world.wire.broken.insert("relay".into(), *code);
                }
            }
            Act::Change { at, which, change } => {
                let durable: Vec<_> = self.durable.iter().copied().collect();
                let (at, entry) = (pick(&self.connections, at), pick(&durable, which));
                if let (Some(at), Some(entry)) = (at, entry) {
                    let changes = [QueueChange::Retry, QueueChange::Hold, QueueChange::Release];
                    let change = changes[change % changes.len()];
                    if change == QueueChange::Retry {
                        self.retried.insert(entry.record);
                    }
                    let profile = Some(PROFILES[which % PROFILES.len()].to_owned());
                    let action = QueueAction::Change(entry, change);
                    world.ask(at, Request::Queue { profile, action });
                }
            }
            Act::FlushQueues(at) => {
                if let Some(at) = pick(&self.connections, at) {
                    let profile = Some("default".to_owned());
                    world.ask(at, Request::Queue { profile, action: QueueAction::Flush });
                }
            }
            Act::StoreLogoff { who, flag } => {
                if let (Some(member), Some((_, object))) =
                    (pick(&self.members, who), pick(&self.objects, flag))
                {
                    let flags = StoreLogoff(1 << (flag % 5));
                    world.ask(member.at, Request::StoreLogoff { member: member.id, object, flags });
                }
            }
            Act::Validate(who) => {
                if let Some(member) = pick(&self.members, who) {
                    let provider = PROVIDERS[who % PROVIDERS.len()];
                    let kind = match provider {
                        "account" => Resource::Mailbox,
                        _ => Resource::TransportProvider,
                    };
                    let (member_id, provider) = (member.id, provider.to_owned());
                    let validate = Request::ValidateState { member: member_id, kind, provider };
                    world.ask(member.at, validate);
                }
            }
            Act::Mirror { profile, what } => self.mirror(PROFILES[profile], what),
            Act::Say { works } => {
                world.mailbox_says("account", if works { Ok(()) } else { Err(Code::E_NO_ACCESS) });
            }
            Act::File { who, which, what } => self.file(who, which, what),
            Act::Folder { who, what } => self.use_folder(who, what),
        }
        self.look();
    }

    fn mirror(&mut self, profile: &str, what: usize) {
        let world = &mut self.world;
        let spots = world.store(profile).messages.values().filter_map(|m| m.spot.clone());
        let known: Vec<Spot> = spots.collect();
        self.seen += 1;
        let new = |n: u32| found(&format!("{n}"), what.is_multiple_of(2));
        let known = known.get(what * 7 % known.len().max(1)).cloned();
        let marks = Marks(what as u16);
        let changes = match (what, known) {
            (0 | 1, _) | (_, None) => vec![new(self.seen)],
            (2, _) => (0..3).map(|n| new(self.seen * 1_000 + n)).collect(),
            (3, Some(spot)) => vec![MirrorChange::Marked { spot, marks }],
            (4, Some(spot)) => vec![MirrorChange::Vanished { spot }],
            (5, Some(from)) => {
                let to = Spot { dir: "work".into(), ..from.clone() };
                vec![MirrorChange::Moved { from, to, marks }, new(self.seen)]
            }
            (6, _) => {
                let (dir, name) = ("work".to_owned(), "work".to_owned());
                vec![MirrorChange::Folder { dir, parent: None, name, role: None }]
            }
            (_, Some(_)) => vec![MirrorChange::FolderGone { dir: "work".into() }],
        };
        world.mailbox_writes(profile, changes);
    }

    fn file(&mut self, who: usize, which: usize, what: usize) {
        let Some(member) = pick(&self.members, who) else { return };
        let world = &mut self.world;
        let profile = world.broker.sessions.all[&member.session].key.profile.clone();
        let store = world.store(&profile);
        let waits = |m: &&u128| store.messages[*m].folder != Folder::OUTBOX;
        let records: Vec<_> = store.messages.keys().filter(waits).copied().collect();
        let Some(record) = pick(&records, which) else { return };
        let entry = EntryId { store: store.uid, record };
        let others: Vec<_> = store.folders.keys().copied().collect();
        let to = pick(&others, which).unwrap_or(Folder::DELETED);
        self.seen += 1;
        let (id, key) = (member.id, SubmitKey(u128::from(self.seen) << 90));
        let flags = |marks| Flags { marks, keywords: Vec::new() };
        let (add, remove) = (flags(Marks::READ), flags(Marks::FLAGGED));
        let request = match what {
            0 => Request::SetFlags {
                member: id,
                entry,
                add: Box::new(add),
                remove: Box::new(remove),
            },
            1 => Request::SetFlags {
                member: id,
                entry,
                add: Box::new(remove),
                remove: Box::new(add),
            },
            2 => Request::Move { member: id, entry, to },
            3 => Request::Move { member: id, entry, to: Folder::INBOX },
            4 => Request::Copy { member: id, key, entry, to },
            5 => Request::Delete { member: id, entry },
            _ => {
                let content = Content::Inline(sundown_protocol::request::Blob(b"mail".to_vec()));
                let (store, folder, flags) = (0, to, flags(Marks::READ));
                let received = None;
                Request::Append {
                    member: id,
                    key,
                    store,
                    folder,
                    content,
                    flags: Box::new(flags),
                    received,
                }
            }
        };
        world.ask(member.at, request);
    }

    fn use_folder(&mut self, who: usize, what: usize) {
        let Some(member) = pick(&self.members, who) else { return };
        let world = &mut self.world;
        let profile = world.broker.sessions.all[&member.session].key.profile.clone();
        let others: Vec<_> = world.store(&profile).folders.keys().copied().collect();
        let folder = pick(&others, who).unwrap_or(Folder(99));
        let (id, store) = (member.id, 0);
        let name = format!("folder {}", what * 3 + who);
        let request = match what {
            0 | 1 => Request::MakeFolder { member: id, store, parent: None, name },
            2 => Request::RenameFolder { member: id, store, folder, name },
            3 => Request::RemoveFolder { member: id, store, folder },
            4 => Request::Folders { member: id, store, after: None, limit: 3 },
            5 => Request::Open { member: id, what: Opening::Folder(store, folder) },
            6 => {
                let (words, folder) = ("mail".into(), None);
                Request::Search { member: id, store, words, folder, after: 0, limit: 3 }
            }
            _ => {
                let Some((member, object)) = pick(&self.folders, who) else { return };
                if !world.is_open(member.at) {
                    return;
                }
                let (member, only, after) = (member.id, Filter::default(), None);
                Request::Contents { member, object, sort: Sort::NEWEST, only, after, limit: 3 }
            }
        };
        world.ask(member.at, request);
    }

    /// Whoever was there has to come back. What was acknowledged is there, and keys that were used are.
    fn restart(&mut self) {
        self.look();
        self.world.crash();
        for profile in PROFILES {
            self.world.apply(Event::Adopt { profile: profile.into() });
        }
        let world = std::mem::replace(&mut self.world, World::new());
        let submits = std::mem::take(&mut self.submits);
        let durable = std::mem::take(&mut self.durable);
        let (retried, seen) = (std::mem::take(&mut self.retried), self.seen);
        // What a process was answered holds for its life.
        let verdicts = std::mem::take(&mut self.verdicts);
        let answered_to = std::mem::take(&mut self.answered_to);
        *self = Self {
            verdicts,
            answered_to,
            submits,
            durable,
            retried,
            seen,
            ..Self::around(world, self.rule)
        };
    }

    /// A handle works on its own connection as long as its member is here, and says why anywhere else (design §3.12).
    fn try_handle(&mut self, at: usize, handle: usize) {
        let (Some(at), Some(member)) = (pick(&self.connections, at), pick(&self.handles, handle))
        else {
            return;
        };
        let world = &mut self.world;
        let process = world.broker.peers.processes.find(&World::key(world.peer(at).pid));
        let departure = process.map_or(Departure::No, |p| p.departure);
        let here = world.broker.sessions.members.get(&member.id).filter(|_| at == member.at);
        let wanted = match here {
            _ if departure == Departure::Done => Some(Code::E_NOT_INITIALIZED),
            Some(member) if member.is_leaving() => Some(Code::E_BUSY),
            Some(_) => None,
            None if at == member.at && self.evicted.contains(&member.id) => {
                Some(Code::E_END_OF_SESSION)
            }
            None => Some(Code::E_INVALID_OBJECT),
        };
        let open = Request::Open { member: member.id, what: Opening::StatusTable };
        let id = world.ask(at, open);
        if departure == Departure::Doing {
            // It waits for the outcome, and then is answered as ever.
            assert_eq!(world.answer(at, id), None, "answered during a Do");
            return;
        }
        let code = world.answer(at, id).expect("answered at once").err().map(|fault| fault.code);
        assert_eq!(code, wanted, "{member:?} at {at:?}");
    }

    fn logoff(&mut self, who: usize, flags: usize, drain: Option<u64>) {
        let Some(member) = pick(&self.members, who) else { return };
        let process = self.world.broker.sessions.members[&member.id].process;
        let flags = match flags {
            // It would wait for the outcome: whom it is told to then, exploration looks at.
            0..=3 if self.world.broker.departure(process) == Departure::Doing => {
                LogoffFlags::default()
            }
            0 | 1 => LogoffFlags::SHARED,
            2 => LogoffFlags::SHARED.with(LogoffFlags::WAIT),
            3 => LogoffFlags::SHARED.with(LogoffFlags::FORCE),
            4 => LogoffFlags::CRITICAL,
            _ => LogoffFlags::default(),
        };
        let others = |world: &World| -> Vec<MemberId> {
            let session = world.broker.sessions.all.get(&member.session);
            let members = session.map(|s| s.members.clone()).unwrap_or_default();
            // Whoever has left fast is not told, though it is not torn down yet.
            let here = |m: &MemberId| {
                *m != member.id && !world.broker.is_done(world.broker.sessions.members[m].process)
            };
            members.into_iter().filter(here).collect()
        };
        let ending = |world: &World, id: SessionId| {
            let session = world.broker.sessions.all.get(&id);
            session.is_none_or(|s| {
                matches!(s.state, SessionState::Ending { .. } | SessionState::Closing { .. })
            })
        };
        let (others, before) = (others(&self.world), ending(&self.world, member.session));
        let session = self.world.broker.sessions.all.get(&member.session);
        let process_of =
            |id| self.world.broker.sessions.members.get(id).map(|m: &Logged| m.process);
        let owner = session.and_then(|s| s.members.first()).and_then(process_of);
        let owns = owner.is_some() && owner == process_of(&member.id);
        let may = match self.rule {
            _ if flags.contains(LogoffFlags::FORCE) => true,
            SharedLogoff::Owner => owns,
            SharedLogoff::Any => true,
            SharedLogoff::Deny => false,
        };
        let shared = session.is_some_and(Session::is_shared);
        self.world.ask(member.at, logoff_request(member.id, flags, drain.map(millis)));
        let now = ending(&self.world, member.session);
        if flags.contains(LogoffFlags::SHARED) && !before && now {
            assert!(may || !shared || others.is_empty(), "{member:?} may not end the session");
            self.ended.insert(member.session, self.world.now());
            for other in others {
                *self.told.entry(other).or_default() += 1;
            }
        }
    }

    /// Notes what was answered and told.
    fn look(&mut self) {
        self.world.assert_counts();
        self.connections.retain(|at| self.world.is_open(*at));
        for (at, id) in std::mem::take(&mut self.queries) {
            let pid = self.world.peer(at).pid;
            let verdict = match self.world.answer(at, id) {
                None if self.world.is_open(at) => {
                    self.queries.push((at, id));
                    continue;
                }
                Some(Ok(_)) => true,
                Some(Err(fault)) if fault.code == Code::E_NO_SUPPORT => false,
                _ => continue,
            };
            if self.world.is_open(at) {
                let first = *self.verdicts.entry(pid).or_insert(verdict);
                self.answered_to.entry(pid).or_insert(self.world.library(at));
                assert_eq!(first, verdict, "the verdict of process {pid}");
            }
        }
        for (pid, verdict) in &self.verdicts {
            let process = self.world.broker.peers.processes.find(&World::key(*pid));
            // After a restart it is known as soon as the copy that was answered has shown its ticket.
            let Some(process) = process else { continue };
            let answered = self.answered_to.get(pid).copied();
            let mut own = self.connections.iter().filter(|at| self.world.peer(**at).pid == *pid);
            if own.any(|at| Some(self.world.library(*at)) == answered) {
                assert_eq!(process.verdict, Some(*verdict), "the verdict of process {pid} is kept");
            }
        }
        self.look_at_departures();
        let mut asked = std::mem::take(&mut self.asked);
        asked.retain(|(at, id)| match self.world.answer(*at, *id) {
            None => self.world.is_open(*at),
            Some(Ok(Reply::LoggedOn(on))) => {
                let member = Member { at: *at, id: on.member, session: on.session };
                self.members.push(member);
                self.handles.push(member);
                false
            }
            Some(Ok(Reply::Submitted { entry, state })) if state != SubmissionState::Accepted => {
                self.durable.insert(entry);
                false
            }
            Some(_) => false,
        });
        self.asked = asked;
        for member in self.members.clone() {
            for news in self.world.news(member) {
                match news {
                    News::CriticalError { .. } => *self.heard.entry(member.id).or_default() += 1,
                    News::Durable(entries) => self.durable.extend(entries),
                    News::Evicted => {
                        let grace = self.world.broker.settings.shutdown.grace.unwrap_or_default();
                        let ended = self.ended.get(&member.session);
                        let over = ended.is_some_and(|ended| self.world.now() >= *ended + grace);
                        assert!(over, "{member:?} is put out before its grace is over");
                        self.evicted.insert(member.id);
                    }
                    News::MemberLeft { member: left, .. } => {
                        assert!(
                            !self.world.broker.sessions.members.contains_key(&left),
                            "{left} is here"
                        );
                        let first = self.left.insert((member.id, left));
                        assert!(first, "{member:?} is told twice that {left} has left");
                    }
                    _ => {}
                }
            }
        }
        self.members.retain(|m| self.world.broker.sessions.members.contains_key(&m.id));
    }

    /// A Do that succeeds had a yes; one that fails says why, and its process goes on as if it had not asked.
    fn look_at_departures(&mut self) {
        for (at, id) in std::mem::take(&mut self.dos) {
            let answer = match self.world.answer(at, id) {
                None if self.world.is_open(at) => {
                    self.dos.push((at, id));
                    continue;
                }
                None => continue,
                Some(answer) => answer,
            };
            let pid = self.world.peer(at).pid;
            let Some(process) = self.world.broker.peers.processes.find(&World::key(pid)) else {
                continue;
            };
            let disabled =
                self.world.broker.settings.shutdown.fast_shutdown == FastShutdownBehavior::Disabled;
            let code = answer.err().map(|fault| fault.code);
            let (departure, verdict) = (process.departure, process.verdict);
            let library = self.world.library(at);
            let is_host =
                matches!(process.host, Host::Copy { library: host, .. } if host == library);
            let right = match code {
                None => verdict == Some(true) && departure == Departure::Done,
                Some(Code::E_NO_ACCESS) => !is_host,
                Some(Code::E_NO_SUPPORT) => verdict != Some(true) || disabled,
                Some(Code::E_NOT_INITIALIZED) => departure != Departure::No,
                Some(Code::E_DISK_ERROR | Code::E_CALL_FAILED | Code::E_TIMEOUT) => {
                    departure == Departure::No
                }
                Some(_) => false,
            };
            assert!(right, "{code:?} to a Do, with {verdict:?} and then {departure:?}");
        }
    }

    /// Everything works again and everybody leaves.
    fn wind_up(&mut self) {
        self.world.wire.broken.clear();
        self.world.wire.mute.clear();
        self.world.wire.steps.clear();
        for store in self.world.stores.values_mut() {
            store.failures.clear();
        }
        self.world.let_all_go();
        self.world.advance(secs(60));
        self.look();
        for at in std::mem::take(&mut self.connections) {
            self.world.disconnect(at);
        }
        for pid in 1..4 {
            self.world.end_process(pid);
            self.verdicts.remove(&pid);
        }
        self.world.advance(secs(60));
        self.look();
    }

    /// A provider that is out stays so for the life of its session. A new broker has new sessions.
    fn restart_if_somebody_is_out(&mut self) {
        let out = |p: &Provider| matches!(p.state, ProviderState::Failed(_));
        let mut sessions = self.world.broker.sessions.all.values();
        if sessions.any(|s| s.providers.iter().any(out)) {
            self.world.stop(Stop::Restart);
            self.world.advance(secs(62));
            self.world.crash();
        }
    }

    /// What is held waits for somebody to let it go.
    fn release_held(&mut self) {
        let at = self.world.connect(98);
        let mut held = Vec::new();
        for store in self.world.stores.values() {
            let is_held = |s: &&Submission| s.state() == SubmissionState::Held;
            held.extend(
                store
                    .submissions
                    .values()
                    .filter(is_held)
                    .map(|s| (s.profile.clone(), EntryId { store: store.uid, record: s.record })),
            );
        }
        for (profile, entry) in held {
            let action = QueueAction::Change(entry, QueueChange::Release);
            let released = self.world.call(at, Request::Queue { profile: Some(profile), action });
            assert!(released.is_ok(), "{released:?}");
        }
    }

    fn check(&mut self) {
        assert_eq!(self.told, self.heard, "shared logoffs, and who was told of them");
        assert_eq!(self.world.unanswered(), 0, "requests without an answer");
        self.release_held();
        self.restart_if_somebody_is_out();
        // Whoever logs on with mail sends what still waits.
        let at = self.world.connect(99);
        let members = PROFILES.map(|profile| self.world.logon_to(at, profile));
        self.world.advance(secs(3 * 3_600));
        for store in self.world.stores.values() {
            for submission in store.submissions.values() {
                for recipient in &submission.recipients {
                    let wire = &self.world.wire.delivered;
                    let times = wire
                        .iter()
                        .filter(|(_, r, a)| *r == submission.record && *a == recipient.address);
                    let (times, state) = (times.count(), recipient.state);
                    let right = match state {
                        _ if self.retried.contains(&submission.record) => {
                            state.is_final() || state == SubmissionState::Unknown
                        }
                        SubmissionState::Sent => times == 1,
                        SubmissionState::Unknown => times <= 1,
                        // Somebody may give up on what may have gone out.
                        SubmissionState::Aborted if recipient.intent.is_some() => times <= 1,
                        SubmissionState::Bounced | SubmissionState::Aborted => times == 0,
                        _ => false,
                    };
                    assert!(right, "{state:?} and delivered {times} times: {submission:?}");
                }
            }
        }
        for engine in self.world.broker.queues.engines.values() {
            let stored = self.world.stores.values().find(|s| Some(s.uid) == engine.uid);
            let mut counts = [0; 9];
            for submission in stored.expect("it is open").submissions.values() {
                let state = submission.state();
                counts[state as usize] += i64::from(!state.is_final());
            }
            assert_eq!(engine.counts, counts, "what status counts is what is stored");
        }
        for entry in &self.durable {
            self.world.submission(*entry);
        }
        for member in members {
            self.world.logoff(member);
        }
        self.world.disconnect(at);
        self.world.advance(secs(60));
        self.world.assert_empty();
    }
}

fn linger() -> impl Strategy<Value = Linger> {
    prop_oneof![
        2 => Just(Linger::UntilEmpty),
        1 => Just(Linger::Off),
        1 => Just(Linger::For(secs(20))),
    ]
}

fn rule() -> impl Strategy<Value = SharedLogoff> {
    prop_oneof![Just(SharedLogoff::Owner), Just(SharedLogoff::Any), Just(SharedLogoff::Deny)]
}

/// Plays a case to its end.
pub(super) fn play(linger: Linger, rule: SharedLogoff, acts: Vec<Act>) {
    let mut model = Model::new(linger, rule);
    for act in acts {
        model.act(act);
    }
    model.wind_up();
    model.check();
}

/// Plays a case until the broker is stopped, and goes on with the next broker.
pub(super) fn play_and_stop(
    linger: Linger,
    acts: Vec<Act>,
    how: Stop,
    again: Option<(u64, Stop)>,
    hung: bool,
) {
    let mut model = Model::new(linger, SharedLogoff::Any);
    for act in acts {
        model.act(act);
    }
    model.world.stop(how);
    if let Some((after, how)) = again {
        model.world.advance(millis(after));
        if model.world.stopped == 0 {
            model.world.stop(how);
        }
    }
    if !hung {
        model.world.let_all_go();
    }
    model.world.advance(secs(62));
    assert_eq!(model.world.stopped, 1);
    model.world.assert_empty();
    assert_eq!(model.world.unanswered(), 0);
    model.look();
    model.world.crash();
    model.world.wire.broken.clear();
    model.world.wire.mute.clear();
    model.world.wire.steps.clear();
    for store in model.world.stores.values_mut() {
        store.failures.clear();
    }
    for profile in PROFILES {
        model.world.apply(Event::Adopt { profile: profile.into() });
    }
    model.told.clear();
    model.heard.clear();
    model.check();
}

proptest! {
    /// design §10.2, §10.4, §10.6, §10.7, §10.8, §10.10: every request is answered once; every other member is told of a shared
    /// logoff once; what was acknowledged ends in one final state and reached each recipient at most once; in the end
    /// nothing is left.
    #[test]
    fn any_order_of_anything(
        linger in linger(),
        rule in rule(),
        acts in acts(120),
    ) {
        play(linger, rule, acts);
    }

    /// design §3.21, §10.6, §10.8: whenever the broker stops, and however, it does stop; what was acknowledged is there
    /// after the restart.
    #[test]
    fn a_stop_at_any_time(
        linger in linger(),
        acts in acts(80),
        how in prop_oneof![
            Just(Stop::Restart), Just(Stop::Final), Just(Stop::Fast), Just(Stop::Now)
        ],
        again in prop::option::of((0..30_000u64, Just(Stop::Now))),
        hung in prop::bool::ANY,
    ) {
        play_and_stop(linger, acts, how, again, hung);
    }
}
