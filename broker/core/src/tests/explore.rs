//! Every order of a few things, up to a bound: three processes, one of them with two connections, in two sessions with three
//! providers each, with a grant across processes, a failing and a silent provider, time, and a restart.
//!
//! Each of the things happens at most once. After each, either everything that follows from it happens, or one step of
//! it, or nothing yet. The harness looks at each effect; here it is what must hold in between and at the end.

use std::collections::BTreeMap;

use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{Folder, LogoffFlags, LogonFlags, Opening, Request};
use sundown_protocol::{
    Code, EntryId, Event as News, Events, MemberId, ObjectId, RequestId, Token,
};

use super::world::{Member, World, secs, settings};
use crate::Event;
use crate::event::ConnectionId;
use crate::process::Departure;
use crate::session::SessionState;
use crate::settings::{Settings, SharedLogoff, Shutdown};

/// How many things happen in one run. Five, which take minutes, held as well.
const DEPTH: usize = 3;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Process 1 leaves fast, on its first connection.
    Do,
    /// So does process 2.
    OtherDo,
    /// Process 1 says that it will.
    Notify,
    /// Process 1 hands over one more message, on its second connection.
    Submit,
    /// The second connection of process 1 breaks.
    Break,
    /// Process 2 logs off after its mail.
    Drain,
    /// Process 3 ends the session for all.
    Shared,
    /// Process 3 uses what process 1 granted to it.
    Redeem,
    /// Process 3 dies.
    Die,
    /// The store cannot write once.
    Fail,
    /// The transport does not answer, until the end.
    Hang,
    /// Half a minute passes.
    Pass,
    /// The broker dies, and another one takes its place.
    Restart,
}

const ACTS: [Act; 13] = [
    Act::Do,
    Act::OtherDo,
    Act::Notify,
    Act::Submit,
    Act::Break,
    Act::Drain,
    Act::Shared,
    Act::Redeem,
    Act::Die,
    Act::Fail,
    Act::Hang,
    Act::Pass,
    Act::Restart,
];

/// How much of what follows from a thing happens before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    All,
    One,
    Nothing,
}

/// The things of one run, and what is known of it.
struct Run {
    world: World,
    path: Vec<Act>,
    pace: Pace,
    first: Member,
    second: Member,
    archive: Member,
    other: Member,
    third: Member,
    folder: ObjectId,
    asked: Vec<(Act, ConnectionId, RequestId)>,
    /// What must be stored at the end, and sent once.
    handed_over: Vec<EntryId>,
    told: BTreeMap<MemberId, usize>,
    heard: BTreeMap<MemberId, usize>,
    lost: usize,
    verdicts: BTreeMap<u32, bool>,
    /// Who was there when process 1 began its Do.
    before: Vec<MemberId>,
    restarted: bool,
}

impl Run {
    fn new(external_references: bool, pace: Pace) -> Self {
        let shutdown = Shutdown {
            shared_logoff: SharedLogoff::Any,
            external_references,
            ..Shutdown::default()
        };
        let mut world = World::with(Settings { shutdown, ..settings() });
        let (at, sibling) = (world.connect(1), world.connect(1));
        let first = world.logon(at);
        let second = world.logon(sibling);
        let archive = world.logon_with(sibling, "work", LogonFlags::default());
        let (other, third) = (world.member(2), world.member(3));
        for member in [first, second, archive, other, third] {
            world.advise(member, Events::EXTENDED);
        }
        for pid in [at, other.at] {
            assert_eq!(world.query(pid), Ok(Reply::Done));
        }
        for member in [first, second, archive, other] {
            world.draft(member, &format!("draft of {}", member.id));
        }
        let folder = world.open(first, Opening::Folder(0, Folder::Inbox));
        let grant = Request::Grant { member: first.id, object: folder, token: Token(1), pid: None };
        world.done(at, grant);
        let handed_over = [first, other].map(|m| world.submit(m, "b@x")).into();
        let verdicts = BTreeMap::from([(1, true), (2, true)]);
        Self {
            world,
            path: Vec::new(),
            pace,
            first,
            second,
            archive,
            other,
            third,
            folder,
            asked: Vec::new(),
            handed_over,
            told: BTreeMap::new(),
            heard: BTreeMap::new(),
            lost: 0,
            verdicts,
            before: Vec::new(),
            restarted: false,
        }
    }

    fn is_here(&self, member: Member) -> bool {
        self.world.broker.members.contains_key(&member.id)
    }

    fn may_ask(&self, at: ConnectionId) -> bool {
        !self.restarted && self.world.is_open(at)
    }

    fn ask(&mut self, act: Act, at: ConnectionId, request: Request) {
        if self.may_ask(at) {
            let id = self.world.ask(at, request);
            self.asked.push((act, at, id));
        }
    }

    fn act(&mut self, act: Act) {
        self.path.push(act);
        let (first, second) = (self.first, self.second);
        match act {
            Act::Do => {
                let process = self.world.broker.members.get(&first.id).map(|m| m.process);
                let members = process.map(|p| self.world.broker.members_of(p));
                self.before = members.into_iter().flatten().flat_map(|(_, m)| m).collect();
                self.ask(act, first.at, Request::DoFastShutdown { remembered: false });
            }
            Act::OtherDo => {
                self.ask(act, self.other.at, Request::DoFastShutdown { remembered: false });
            }
            Act::Notify => self.ask(act, first.at, Request::NotifyProcessShutdown),
            Act::Submit => {
                if self.may_ask(second.at) {
                    let submit = self.world.submit_request(second, &["b@x"]);
                    let when = sundown_protocol::request::Durability::Deferred;
                    let submit = sundown_protocol::request::Submit { when, ..submit };
                    self.ask(act, second.at, Request::Submit(submit));
                }
            }
            Act::Break => {
                if self.may_ask(second.at) {
                    self.world.disconnect(second.at);
                }
            }
            Act::Drain => {
                let other = self.other;
                let logoff =
                    super::world::logoff_request(other.id, LogoffFlags::default(), Some(secs(20)));
                self.ask(act, other.at, logoff);
            }
            Act::Shared => self.shared(),
            Act::Redeem => self.ask(act, self.third.at, Request::Redeem { token: Token(1) }),
            Act::Die => {
                if !self.restarted {
                    self.world.end_process(3);
                }
            }
            Act::Fail => {
                let store = self.world.store("default");
                for call in ["SubmitMessage", "SaveChanges", "DoFastShutdown"] {
                    store.failures.insert(call, vec![Code::E_NOT_ENOUGH_DISK].into());
                }
            }
            Act::Hang => self.world.hold("relay", "*"),
            Act::Pass => self.world.advance(secs(31)),
            Act::Restart => self.restart(),
        }
        match self.pace {
            Pace::All => self.world.settle(),
            Pace::One => drop(self.world.step(0)),
            Pace::Nothing => {}
        }
        self.look();
    }

    fn shared(&mut self) {
        let third = self.third;
        if !self.may_ask(third.at) {
            return;
        }
        let broker = &self.world.broker;
        let session = broker.sessions.get(&third.session);
        let joinable = session.is_some_and(crate::session::Session::is_joinable);
        let here = |m: &MemberId| *m != third.id && !broker.is_done(broker.members[m].process);
        let others: Vec<_> =
            session.map(|s| s.members.iter().copied().filter(here).collect()).unwrap_or_default();
        let logoff = super::world::logoff_request(third.id, LogoffFlags::SHARED, None);
        self.ask(Act::Shared, third.at, logoff);
        let session = self.world.broker.sessions.get(&third.session);
        let joinable_now = session.is_some_and(|s| !matches!(s.state, SessionState::Ending { .. }));
        if joinable && !joinable_now {
            for other in others {
                *self.told.entry(other).or_default() += 1;
            }
        }
    }

    fn restart(&mut self) {
        self.look();
        self.asked.clear();
        self.world.crash();
        self.world.apply(Event::Adopt { profile: "default".into() });
        self.restarted = true;
        // Nobody is told anything by a broker that is killed.
        self.told.clear();
        self.heard.clear();
    }

    /// What was answered and told, and what must hold at any time.
    fn look(&mut self) {
        if self.restarted {
            return;
        }
        let mut asked = std::mem::take(&mut self.asked);
        asked.retain(|(act, at, id)| match self.world.answer(*at, *id) {
            None => self.world.is_open(*at),
            Some(answer) => {
                self.answered(*act, answer);
                false
            }
        });
        self.asked = asked;
        for member in [self.first, self.second, self.archive, self.other, self.third] {
            for news in self.world.news(member) {
                if matches!(news, News::CriticalError { code: Code::E_END_OF_SESSION, .. }) {
                    *self.heard.entry(member.id).or_default() += 1;
                }
            }
        }
        for pid in 1..=3 {
            let Some(process) = self.world.broker.processes.find(&World::key(pid)) else {
                continue;
            };
            let verdict = self.verdicts.get(&pid).copied();
            assert_eq!(process.verdict, verdict, "{:?}: the verdict of {pid}", self.path);
        }
    }

    fn answered(&mut self, act: Act, answer: Result<Reply, sundown_protocol::Fault>) {
        let case = format!("{:?} at {:?}", self.path, self.pace);
        match (act, answer) {
            (Act::Submit, Ok(Reply::Submitted { entry, .. })) => self.handed_over.push(entry),
            (Act::Do, Err(fault)) => {
                // Nothing was torn down: who is not here any more left in another way.
                let may_fail = [
                    Code::E_NOT_ENOUGH_DISK,
                    Code::E_BUSY,
                    Code::E_TIMEOUT,
                    Code::E_NOT_INITIALIZED,
                ];
                assert!(may_fail.contains(&fault.code), "{case}: {fault}");
                let left = self.path.iter().any(|a| matches!(a, Act::Break | Act::Pass));
                let here = |m: &MemberId| self.world.broker.members.contains_key(m);
                assert!(left || self.before.iter().all(here), "{case}: {fault}");
                let departure =
                    self.world.broker.processes.find(&World::key(1)).map(|p| p.departure);
                assert_eq!(departure, Some(Departure::No), "{case}");
                if let sundown_protocol::FaultDetail::Entries(lost) = fault.detail {
                    self.handed_over.retain(|entry| !lost.contains(entry));
                }
            }
            (Act::Drain, Err(fault)) => {
                let may_fail =
                    [Code::E_NOT_INITIALIZED, Code::E_END_OF_SESSION, Code::E_INVALID_OBJECT];
                assert!(may_fail.contains(&fault.code), "{case}: {fault}");
            }
            (Act::Redeem, Ok(Reply::Redeemed { .. })) => self.lost += 1,
            _ => {}
        }
    }

    /// Everything works again, and everybody leaves.
    fn finish(mut self) {
        let case = format!("{:?} at {:?}", self.path, self.pace);
        for store in self.world.stores.values_mut() {
            store.failures.clear();
        }
        self.world.let_all_go();
        self.look();
        self.world.advance(secs(40));
        self.look();
        if !self.restarted {
            assert_eq!(self.told, self.heard, "{case}");
            assert_eq!(self.world.unanswered(), 0, "{case}");
            self.dead_handles(&case);
            for at in [self.first, self.second, self.other, self.third].map(|m| m.at) {
                if self.world.is_open(at) {
                    self.world.disconnect(at);
                }
            }
            for pid in 1..=3 {
                self.world.end_process(pid);
            }
        }
        self.world.advance(secs(120));
        self.mail(&case);
        self.world.assert_empty();
    }

    /// After a Do no handle of the process takes a call, and without one every handle that is left does.
    fn dead_handles(&mut self, case: &str) {
        let done = |world: &World, pid| {
            let process = world.broker.processes.find(&World::key(pid));
            process.is_some_and(|p| p.departure == Departure::Done)
        };
        for member in [self.first, self.second, self.archive] {
            if !self.world.is_open(member.at) {
                continue;
            }
            let open = Request::Open { member: member.id, what: Opening::AddressBook };
            let code = self.world.call(member.at, open);
            let code = code.err().map(|fault| fault.code);
            let wanted = match (done(&self.world, 1), self.is_here(member)) {
                (true, here) => {
                    assert!(!here, "{case}: a member of a process that left");
                    Some(Code::E_NOT_INITIALIZED)
                }
                (false, true) => None,
                (false, false) => Some(Code::E_END_OF_SESSION),
            };
            assert_eq!(code, wanted, "{case}");
        }
        if self.is_here(self.first) {
            let list =
                Request::List { member: self.first.id, object: self.folder, after: 0, limit: 1 };
            assert!(self.world.call(self.first.at, list).is_ok(), "{case}");
        }
    }

    /// What was handed over was sent, once; and every draft is there once, however its process left.
    fn mail(&mut self, case: &str) {
        for entry in &self.handed_over {
            let store = self.world.stores.values().find(|s| s.uid == entry.store).expect("a store");
            let Some(submission) = store.submissions.get(&entry.record) else {
                // Accepted, not yet durable, and nobody was told that it is: the library repeats it.
                let killed = self.restarted || self.path.contains(&Act::Fail);
                assert!(killed, "{case}: {entry} is lost");
                continue;
            };
            assert_eq!(submission.state(), SubmissionState::Sent, "{case}");
            let times = self.world.wire.delivered.iter().filter(|(_, r, _)| *r == entry.record);
            assert_eq!(times.count(), 1, "{case}");
        }
        let mut drafts = BTreeMap::new();
        for store in self.world.stores.values() {
            for message in store.messages.values().filter(|m| m.folder == Folder::Drafts) {
                assert!(message.recovered, "{case}");
                *drafts.entry(message.bytes.clone()).or_insert(0) += 1;
            }
        }
        assert!(drafts.values().all(|times| *times == 1), "{case}: {drafts:?}");
        let may_miss = self.restarted || self.path.contains(&Act::Fail);
        let discarded = usize::from(self.path.contains(&Act::Drain));
        assert!(may_miss || drafts.len() + discarded >= 4, "{case}: {drafts:?}");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {:?} at {:?}", self.path, self.pace);
        }
    }
}

/// The number of runs.
fn explore(pace: Pace, external_references: bool, path: &mut Vec<Act>) -> usize {
    let mut run = Run::new(external_references, pace);
    for act in path.iter() {
        run.act(*act);
    }
    run.finish();
    let mut runs = 1;
    if path.len() < DEPTH && path.last() != Some(&Act::Restart) {
        for act in ACTS {
            if !path.contains(&act) {
                path.push(act);
                runs += explore(pace, external_references, path);
                path.pop();
            }
        }
    }
    runs
}

/// Design §10.1 to §10.10: in every order, where each thing is over before the next.
#[test]
fn every_order_of_a_few_things() {
    let runs = [true, false].map(|allowed| explore(Pace::All, allowed, &mut Vec::new()));
    assert_eq!(runs, [1_610; 2]);
}

/// Design §10.1 to §10.10: in every order, where each thing begins before the one before it is over.
#[test]
fn every_order_of_a_few_things_at_once() {
    let runs = [Pace::One, Pace::Nothing].map(|pace| explore(pace, true, &mut Vec::new()));
    assert_eq!(runs, [1_610; 2]);
}
