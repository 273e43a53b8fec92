//! What may happen in a state, and the state after it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sundown_protocol::folder::Flags;
use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{
    Blob, Content, Durability, Folder, LogoffFlags, LogonFlags, Opening, Request, Submit,
};
use sundown_protocol::{
    Code, EntryId, Event as News, Events, Fault, MemberId, RequestId, SubmitKey, Token,
};

use super::super::world::{Member, OWNER, World, found, logoff_request, mailbox, secs, settings};
use super::fingerprint::{Now, Roles, Side, canonical, fingerprint};
use crate::Event;
use crate::ground::event::ConnectionId;
use crate::ground::event::LaneId;
use crate::provider::TransportFacts;
use crate::sessions::session::SessionState;
use crate::settings::FastShutdownBehavior;
use crate::settings::Settings;
use crate::settings::SharedLogoff;
use crate::settings::Shutdown;

/// One of the three processes. The second and the third play one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pid(pub(super) u32);

/// One thing that somebody does, or that befalls the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// It leaves fast.
    Do(Pid),
    /// It asks again whether it may.
    Query(Pid),
    /// It says that it will.
    Notify(Pid),
    /// It hands over a message; process 1 on its second connection, and does not wait until it is stored.
    Submit(Pid),
    /// Process 1 hands over the message it handed over before, on its other connection.
    Repeat,
    /// The second connection of process 1 breaks.
    Break,
    /// It logs off after its mail.
    Drain(Pid),
    /// It ends the session for all.
    Shared(Pid),
    /// It uses what process 1 granted.
    Redeem(Pid),
    /// It dies.
    Die(Pid),
    /// The store of the shared session cannot write once.
    Fail,
    /// That store does what it is told once more, and answers with something else.
    Lie,
    /// The transports do not answer any more.
    Hang,
    /// Whatever does not answer has had its time, and is looked at.
    Look,
    /// Fast shutdown is switched off, and the profile names another server.
    Reload,
    /// Nothing happens until the broker is woken.
    Wake,
    /// The mailbox finds a new message.
    Mail,
    /// A process moves a message that the mailbox has.
    File(Pid),
    /// Another copy of the library in process 1 asks whether that may leave fast.
    AddIn,
    /// The broker dies before stores have carried out what they were called for, and another one takes its place.
    Restart,
    /// It dies after that, and before they said so.
    LateRestart,
}

/// A copy of the library that is no host.
pub(super) const ADD_IN: [u8; 16] = [7; 16];

const ONE: Pid = Pid(1);
const TWO: Pid = Pid(2);
const THREE: Pid = Pid(3);

pub(super) const ACTS: [Act; 31] = [
    Act::Do(ONE),
    Act::Do(TWO),
    Act::Do(THREE),
    Act::Query(ONE),
    Act::Notify(ONE),
    Act::Submit(ONE),
    Act::Submit(TWO),
    Act::Submit(THREE),
    Act::Repeat,
    Act::Break,
    Act::Drain(TWO),
    Act::Drain(THREE),
    Act::Shared(ONE),
    Act::Shared(TWO),
    Act::Shared(THREE),
    Act::Redeem(TWO),
    Act::Redeem(THREE),
    Act::Die(ONE),
    Act::Die(TWO),
    Act::Die(THREE),
    Act::Fail,
    Act::Lie,
    Act::Hang,
    Act::Look,
    Act::Reload,
    Act::Wake,
    Act::Restart,
    Act::LateRestart,
    Act::AddIn,
    Act::Mail,
    Act::File(ONE),
];

/// How long it takes at most until something that does not answer is given up here.
const PATIENCE: Duration = Duration::from_secs(301);

/// How often an act that may be repeated is.
const WAKES: usize = 2;

/// The record of a message that the mailbox has.
const KEPT: u128 = 6_000_000;

/// Submit keys: the first process has this one, and each its own.
const KEY: u64 = 7_000_000;

impl Act {
    pub(super) fn is_of(self, pid: Pid) -> bool {
        use Act::{Die, Do, Drain, File, Notify, Query, Redeem, Shared, Submit};
        match self {
            Do(p) | Query(p) | Notify(p) | Submit(p) | Drain(p) | Shared(p) | Redeem(p)
            | Die(p) | File(p) => p == pid,
            Act::Repeat | Act::Break | Act::AddIn => pid == ONE,
            Act::Mail
            | Act::Fail
            | Act::Lie
            | Act::Hang
            | Act::Look
            | Act::Reload
            | Act::Wake
            | Act::Restart
            | Act::LateRestart => false,
        }
    }

    pub(super) fn is_restart(self) -> bool {
        matches!(self, Self::Restart | Self::LateRestart)
    }

    fn place(self) -> u64 {
        ACTS.iter().position(|act| *act == self).expect("it is one of them") as u64
    }

    fn mirrored(self) -> Self {
        let swap = |pid| if pid == TWO { THREE } else { TWO };
        match self {
            Self::Do(p) if p != ONE => Self::Do(swap(p)),
            Self::Submit(p) if p != ONE => Self::Submit(swap(p)),
            Self::Drain(p) => Self::Drain(swap(p)),
            Self::Shared(p) if p != ONE => Self::Shared(swap(p)),
            Self::Redeem(p) => Self::Redeem(swap(p)),
            Self::Die(p) if p != ONE => Self::Die(swap(p)),
            other => other,
        }
    }
}

/// One step of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Act(Act),
    /// The provider behind a lane answers what it was called for first.
    Answer(LaneId),
    /// A profile is read.
    Load,
    /// The broker hears of what a mailbox has written.
    Mirrored,
    /// The broker is woken for what is due already.
    Due,
}

impl Step {
    pub(super) fn is_by_itself(self) -> bool {
        !matches!(self, Self::Act(_))
    }
}

/// What one step showed to those outside.
#[derive(Debug, Default)]
pub(super) struct Happened {
    pub(super) answers: Vec<(Act, Result<Reply, Fault>)>,
    pub(super) news: Vec<(Member, News)>,
}

/// What anybody outside knows, by what was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Acknowledged as durable.
    pub(super) durable: BTreeSet<EntryId>,
    /// Shared logoffs that each member was to be told of, and was.
    pub(super) told: BTreeMap<MemberId, usize>,
    pub(super) heard: BTreeMap<MemberId, usize>,
    /// Processes whose Do was answered with success.
    pub(super) done: BTreeSet<Pid>,
    pub(super) logged_off: BTreeSet<MemberId>,
    pub(super) evicted: BTreeSet<MemberId>,
    /// Who redeemed the grant, and as which member.
    pub(super) reference: Option<(ConnectionId, MemberId)>,
    pub(super) reference_lost: bool,
    /// When somebody ended the session for all.
    pub(super) ended: Option<Duration>,
}

/// One state, and the way to it.
#[derive(Clone)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) known: Known,
    pub(super) did: BTreeSet<Act>,
    wakes: usize,
    asked: Vec<(Act, ConnectionId, RequestId)>,
    pub(super) members: [Member; 5],
    /// The connection of another copy of the library in process 1.
    add_in: ConnectionId,
    roles: Roles,
    pub(super) way: Vec<Step>,
}

impl State {
    /// Everybody is here, has said what it has to say, and may leave fast.
    pub(super) fn new(external_references: bool) -> Self {
        Self::begin(external_references, false)
    }

    /// The same, and the profile of the shared session has a mailbox.
    pub(super) fn with_mailbox() -> Self {
        Self::begin(true, true)
    }

    fn begin(external_references: bool, receives: bool) -> Self {
        let shutdown = Shutdown {
            shared_logoff: SharedLogoff::Any,
            external_references,
            ..Shutdown::default()
        };
        let mut world = World::with(Settings { shutdown, ..settings() });
        world.wire.facts = TransportFacts { longest: PATIENCE, ..TransportFacts::default() };
        if receives {
            world.profile("default").mailboxes = vec![mailbox("account")];
        }
        let (at, sibling) = (world.connect(1), world.connect(1));
        let first = world.logon(at);
        let second = world.logon(sibling);
        let archive = world.logon_with(sibling, "work", LogonFlags::default());
        let (other, third) = (world.member(2), world.member(3));
        let members = [first, second, archive, other, third];
        let events = if receives { Events::EXTENDED | Events::NEW_MAIL } else { Events::EXTENDED };
        for member in members {
            world.advise(member, events);
        }
        if receives {
            let (id, key) = (first.id, SubmitKey(KEPT));
            let (folder, content) = (Folder::INBOX, Content::Inline(Blob(b"x".to_vec())));
            let (flags, received) = (Flags::default(), Some(0));
            let append = Request::Append {
                member: id,
                key,
                store: 0,
                folder,
                content,
                flags: Box::new(flags),
                received,
            };
            world.call(at, append).expect("it is kept");
        }
        let add_in = world.connect_with(1, OWNER, ADD_IN);
        for connection in [at, other.at, third.at, add_in] {
            world.ticket(connection).expect("given");
        }
        for connection in [at, other.at, third.at] {
            assert_eq!(world.query(connection), Ok(Reply::Done));
        }
        // What the logons and queries have left is over.
        world.advance(secs(60));
        for (member, text) in members.into_iter().zip(["1", "2", "3", "theirs", "theirs"]) {
            world.draft(member, text);
        }
        let folder = world.open(first, Opening::Folder(0, Folder::INBOX));
        let grant = Request::Grant { member: first.id, object: folder, token: Token(1), pid: None };
        world.done(at, grant);
        for member in members {
            world.news(member);
        }
        world.forget_history();
        let mut pairs = vec![
            ("MemberId", other.id.0, third.id.0),
            ("ConnectionId", other.at.0, third.at.0),
            ("ProcessId", 2, 3),
            ("AccountId", 3, 4),
            ("Pid", 2, 3),
            ("Key", KEY + 2, KEY + 3),
        ];
        for act in ACTS {
            let (one, other) = (request_id(act).0, request_id(act.mirrored()).0);
            if one < other {
                pairs.push(("RequestId", one, other));
            }
        }
        let first = BTreeMap::from([
            ("MemberId", third.id.0),
            ("SessionId", archive.session.0),
            ("LaneId", world.open_lanes().map(|(lane, ..)| lane.0).max().unwrap_or(0)),
            ("EngineId", world.broker.queues.engines.keys().map(|e| e.0).max().unwrap_or(0)),
        ]);
        Self {
            world,
            known: Known::default(),
            did: BTreeSet::new(),
            wakes: 0,
            asked: Vec::new(),
            members,
            add_in,
            roles: Roles { pairs, first },
            way: Vec::new(),
        }
    }

    fn described(&self) -> (String, Now) {
        let Self { known, did, wakes, asked, .. } = self;
        let asked = asked.iter().map(|(act, ..)| format!("{act:?}")).collect::<Vec<_>>().join(", ");
        let world = self.world.describe();
        let text = format!("[{world}, {known:?}, {did:?}, {wakes}, {{{asked}}}]");
        (text, Now { boot: self.world.now(), wall: self.world.wall() })
    }

    pub(super) fn text(&self) -> String {
        let (text, now) = self.described();
        canonical(&text, now, &self.roles, self.side())
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let (text, now) = self.described();
        fingerprint(&text, now, &self.roles, self.side())
    }

    /// What the two processes of one role did, as one would say it of either, tells which is which.
    fn side(&self) -> Side {
        let acts = |pid| self.did.iter().filter(move |act| act.is_of(pid));
        let two: Vec<_> = acts(TWO).copied().collect();
        let mut three: Vec<_> = acts(THREE).map(|act| act.mirrored()).collect();
        three.sort_unstable();
        match two.cmp(&three) {
            Ordering::Less => Side::Straight,
            Ordering::Greater => Side::Swapped,
            Ordering::Equal => Side::Either,
        }
    }

    pub(super) fn is_restarted(&self) -> bool {
        self.did.iter().any(|act| act.is_restart())
    }

    /// The member through which a process does what it does.
    pub(super) fn member(&self, pid: Pid) -> Member {
        let [first, _, _, other, third] = self.members;
        [first, other, third][pid.0 as usize - 1]
    }

    pub(super) fn process_of(&self, member: &Member) -> Pid {
        let [_, _, _, other, third] = self.members;
        if *member == other {
            TWO
        } else if *member == third {
            THREE
        } else {
            ONE
        }
    }

    pub(super) fn is_open(&self, at: ConnectionId) -> bool {
        !self.is_restarted() && self.world.is_open(at)
    }

    /// What may happen next, if so many acts may in all.
    pub(super) fn steps(&self, acts: usize) -> Vec<Step> {
        let mut steps: Vec<_> = self.world.answerable().into_iter().map(Step::Answer).collect();
        if self.world.profile_waits() {
            steps.push(Step::Load);
        }
        if self.world.mailbox_waits() {
            steps.push(Step::Mirrored);
        }
        let is_due = self.world.armed().is_some_and(|at| at <= self.world.now());
        if is_due {
            steps.push(Step::Due);
        }
        if self.did.len() + self.wakes.saturating_sub(1) >= acts {
            return steps;
        }
        let may = |act: &Act| match act {
            Act::Wake => !is_due && self.world.armed().is_some() && self.wakes < WAKES,
            _ if self.did.contains(act) => false,
            Act::Restart | Act::LateRestart | Act::Reload => !self.is_restarted(),
            Act::Fail | Act::Lie | Act::Hang => true,
            Act::Look => self.world.broker.awaits_providers(),
            Act::AddIn => self.is_open(self.add_in),
            Act::Mail => self.world.has_mailbox(),
            Act::File(pid) => self.world.has_mailbox() && self.is_open(self.member(*pid).at),
            Act::Submit(ONE) | Act::Break => self.is_open(self.members[1].at),
            Act::Repeat => self.did.contains(&Act::Submit(ONE)) && self.is_open(self.members[0].at),
            Act::Die(pid) => !self.is_restarted() && self.is_connected(*pid),
            Act::Do(pid)
            | Act::Query(pid)
            | Act::Notify(pid)
            | Act::Submit(pid)
            | Act::Drain(pid)
            | Act::Shared(pid)
            | Act::Redeem(pid) => self.is_open(self.member(*pid).at),
        };
        steps.extend(ACTS.into_iter().filter(may).map(Step::Act));
        steps
    }

    fn is_connected(&self, pid: Pid) -> bool {
        self.members.iter().any(|m| self.process_of(m) == pid && self.is_open(m.at))
    }

    /// The state after one step, and what could be seen of it.
    pub(super) fn after(&self, step: Step) -> (Self, Happened) {
        let mut next = self.clone();
        next.way.push(step);
        let _way = Way(next.way.clone());
        let here = self.here();
        match step {
            Step::Act(act) => next.act(act),
            Step::Answer(lane) => next.world.answer_next(lane),
            Step::Load => next.world.load_profile(),
            Step::Mirrored => next.world.tell_mirrored(),
            Step::Due => next.world.wake(),
        }
        next.note_end(&here);
        let happened = next.look();
        (next, happened)
    }

    /// The state in which nothing happens by itself any more, by the shortest way.
    pub(super) fn settled(mut self) -> Self {
        while let Some(step) = self.steps(0).first().copied() {
            self = self.after(step).0;
        }
        self
    }

    fn ask(&mut self, act: Act, at: ConnectionId, request: Request) {
        let id = request_id(act);
        self.world.ask_as(at, id, request);
        self.asked.push((act, at, id));
    }

    fn act(&mut self, act: Act) {
        self.did.insert(act);
        let [first, second, ..] = self.members;
        match act {
            Act::Do(pid) => {
                let request = Request::DoFastShutdown { remembered: false };
                self.ask(act, self.member(pid).at, request);
            }
            Act::Query(pid) => self.ask(act, self.member(pid).at, Request::QueryFastShutdown),
            Act::Notify(pid) => self.ask(act, self.member(pid).at, Request::NotifyProcessShutdown),
            Act::Submit(ONE) => {
                self.ask(act, second.at, submit(second, ONE, Durability::Deferred));
            }
            Act::Submit(pid) => {
                let member = self.member(pid);
                self.ask(act, member.at, submit(member, pid, Durability::Durable));
            }
            Act::Repeat => self.ask(act, first.at, submit(first, ONE, Durability::Durable)),
            Act::Break => self.disconnect(second.at),
            Act::Drain(pid) => {
                let member = self.member(pid);
                let logoff = logoff_request(member.id, LogoffFlags::default(), Some(secs(20)));
                self.ask(act, member.at, logoff);
            }
            Act::Shared(pid) => {
                let member = self.member(pid);
                let shared = logoff_request(member.id, LogoffFlags::SHARED, None);
                self.ask(act, member.at, shared);
            }
            Act::AddIn => self.ask(act, self.add_in, Request::QueryFastShutdown),
            Act::Redeem(pid) => {
                self.ask(act, self.member(pid).at, Request::Redeem { token: Token(1) });
            }
            Act::Die(pid) => {
                self.world.end_process(pid.0);
            }
            Act::Mail => {
                self.world.mailbox_writes("default", vec![found("1", true)]);
            }
            Act::File(pid) => {
                let member = self.member(pid);
                let entry = EntryId { store: 1, record: KEPT };
                let file = Request::Move { member: member.id, entry, to: Folder::SENT };
                self.ask(act, member.at, file);
            }
            Act::Fail => {
                let store = self.world.store("default");
                for call in ["SubmitMessage", "SaveChanges", "DoFastShutdown"] {
                    store.failures.insert(call, vec![Code::E_NOT_ENOUGH_DISK].into());
                }
            }
            Act::Lie => self.world.lies_once(),
            Act::Hang => self.world.hold("relay", "*"),
            Act::Look => {
                self.world.pass(PATIENCE);
                self.world.look();
            }
            Act::Reload => {
                let mut settings = self.world.broker.settings.clone();
                settings.shutdown.fast_shutdown = FastShutdownBehavior::Disabled;
                let transports = &mut self.world.profile("default").transports;
                transports[0].provider.options = vec![("host".to_owned(), "another".to_owned())];
                self.world.apply(Event::Reload(Box::new(settings)));
            }
            Act::Wake => {
                self.wakes += 1;
                self.world.wake();
            }
            Act::Restart => self.restart(),
            Act::LateRestart => {
                self.world.carry_out_all_writes();
                self.restart();
            }
        }
    }

    fn disconnect(&mut self, at: ConnectionId) {
        self.world.disconnect(at);
    }

    /// Members that are logged on and have not left fast.
    fn here(&self) -> BTreeSet<MemberId> {
        let here = |m: &&Member| {
            let done = self.known.done.contains(&self.process_of(m));
            !done && self.world.broker.sessions.members.contains_key(&m.id)
        };
        self.members.iter().filter(here).map(|m| m.id).collect()
    }

    /// A shared logoff that took effect in this step, asked for in it or held by a Do before, is told to every other member of
    /// the session that was here.
    fn note_end(&mut self, here: &BTreeSet<MemberId>) {
        let session = self.world.broker.sessions.all.get(&self.members[0].session);
        let Some(SessionState::Ending { by, .. }) = session.map(|s| &s.state) else { return };
        if self.known.ended.is_some() || self.is_restarted() {
            return;
        }
        let by = self.member(Pid(by.pid));
        self.known.ended = Some(self.world.now());
        let others = self.members.iter().filter(|m| m.session == by.session && m.id != by.id);
        for other in others.filter(|m| here.contains(&m.id)).map(|m| m.id) {
            *self.known.told.entry(other).or_default() += 1;
        }
    }

    fn restart(&mut self) {
        self.asked.clear();
        self.world.crash_and_read();
        self.world.apply(Event::Adopt { profile: "default".into() });
        // Nobody is told anything by a broker that is killed, and everybody has to log on again.
        let durable = std::mem::take(&mut self.known.durable);
        self.known = Known { durable, ..Known::default() };
    }

    /// What was answered and told.
    fn look(&mut self) -> Happened {
        self.world.forget_history();
        let mut happened = Happened::default();
        if self.is_restarted() {
            return happened;
        }
        for (act, at, id) in std::mem::take(&mut self.asked) {
            match self.world.answer(at, id) {
                Some(answer) => {
                    self.answered(act, at, &answer);
                    happened.answers.push((act, answer));
                }
                None if self.world.is_open(at) => self.asked.push((act, at, id)),
                None => {}
            }
        }
        for member in self.members {
            for news in self.world.news(member) {
                self.heard(member.id, &news);
                happened.news.push((member, news));
            }
        }
        if let Some((at, id)) = self.known.reference {
            let session = self.members[0].session;
            let holder = Member { at, id, session };
            for news in self.world.news(holder) {
                self.known.reference_lost = true;
                happened.news.push((holder, news));
            }
        }
        happened
    }

    fn answered(&mut self, act: Act, at: ConnectionId, answer: &Result<Reply, Fault>) {
        match (act, answer) {
            (Act::Do(pid), Ok(_)) => {
                self.known.done.insert(pid);
            }
            (_, Ok(Reply::Submitted { entry, state })) if *state != SubmissionState::Accepted => {
                self.known.durable.insert(*entry);
            }
            (Act::Drain(pid) | Act::Shared(pid), Ok(Reply::LoggedOff(_))) => {
                self.known.logged_off.insert(self.member(pid).id);
            }
            (_, Ok(Reply::Redeemed { member, .. })) => self.known.reference = Some((at, *member)),
            _ => {}
        }
    }

    fn heard(&mut self, member: MemberId, news: &News) {
        match news {
            News::CriticalError { code: Code::E_END_OF_SESSION, .. } => {
                *self.known.heard.entry(member).or_default() += 1;
            }
            News::Evicted => {
                self.known.evicted.insert(member);
            }
            News::Durable(entries) => self.known.durable.extend(entries),
            _ => {}
        }
    }
}

fn request_id(act: Act) -> RequestId {
    RequestId(1_000 + act.place())
}

/// A submit of the one message that this process has.
fn submit(member: Member, pid: Pid, when: Durability) -> Request {
    Request::Submit(Submit {
        member: member.id,
        store: 0,
        key: SubmitKey(u128::from(KEY + u64::from(pid.0))),
        from: None,
        recipients: vec!["b@x".into()],
        content: Content::Inline(Blob(b"x".to_vec())),
        when,
        report: sundown_protocol::request::Report::default(),
    })
}

/// Says on which way a check failed.
pub(super) struct Way(pub(super) Vec<Step>);

impl Drop for Way {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("on the way {:?}", self.0);
        }
    }
}
