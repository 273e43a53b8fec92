//! What must hold in every test, looked at with each event and each effect.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{AdviseSource, Request};
use sundown_protocol::{
    AdviseId, Code, Event as News, Events, Fault, MemberId, RequestId, SessionId,
};

use super::{Called, Store, World, secs};
use crate::ground::event::CallId;
use crate::ground::event::ConnectionId;
use crate::ground::event::LaneId;
use crate::ground::event::ProcessKey;
use crate::peers::account::AccountId;
use crate::peers::account::Charge;
use crate::peers::account::Used;
use crate::peers::connection::Counts;
use crate::peers::process::Departure;
use crate::peers::process::Held;
use crate::peers::quota::Quota;
use crate::peers::waiting::Waiting;
use crate::provider::MailboxCall;
use crate::provider::ProviderCall;
use crate::provider::ProviderType;
use crate::provider::StoreChange;
use crate::provider::StoreWrite;
use crate::provider::TransportCall;
use crate::providers::view::{Poke, ProviderState};
use crate::queue::engine::Engine;
use crate::sessions::member::Member;
use crate::sessions::object::Object;
use crate::sessions::session::{Session, SessionState};
use crate::settings::{Right, Watching};

/// What is remembered of what was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Processes that were told that they may end.
    left: HashSet<ProcessKey>,
    /// What they asked since.
    late: HashSet<(ConnectionId, RequestId)>,
    /// When a process must have its answer to one of the three requests to leave.
    due: BTreeMap<(ConnectionId, RequestId), Duration>,
    /// Of each shutdown call for a process in a session, the kind of provider that got the latest.
    swept: HashMap<(SessionId, u32, &'static str), ProviderType>,
    /// Mailboxes that have logged on, and were not logged off.
    logged_on: HashSet<LaneId>,
    /// Mailboxes that were told to watch, and not to rest since.
    watching: HashSet<LaneId>,
    /// Mailboxes that have not answered that they know of changes.
    poked: HashMap<CallId, LaneId>,
}

/// Members of a process that waits to be told that it may end.
pub(super) type Staying = Vec<(ProcessKey, MemberId, ConnectionId)>;

impl World {
    /// Somebody asks.
    pub(super) fn note_asked(&mut self, at: ConnectionId, id: RequestId, request: &Request) {
        let client = &self.clients[&at];
        let keeps = matches!(request, Request::Ticket { .. });
        if self.seen.left.contains(&client.process) && !keeps {
            self.seen.late.insert((at, id));
        }
        let (patience, calls): (_, &[&str]) = match request {
            Request::QueryFastShutdown => (secs(1), &["QueryFastShutdown"]),
            Request::NotifyProcessShutdown => (secs(1), &["NotifyProcessShutdown"]),
            Request::DoFastShutdown { .. } => {
                let deadline = self.broker.settings.shutdown.deadline;
                (deadline, &["QueryFastShutdown", "DoFastShutdown"])
            }
            _ => return,
        };
        // While a Do of the process runs it waits for the outcome first.
        let process = self.broker.peers.connections.get(&at).map(|c| c.process);
        let doing =
            process.is_some_and(|process| self.broker.departure(process) == Departure::Doing);
        let patience =
            if doing { patience + self.broker.settings.shutdown.deadline } else { patience };
        self.seen.due.insert((at, id), self.boot + patience);
        let pid = client.pid;
        self.seen.swept.retain(|(_, of, call), _| *of != pid || !calls.contains(call));
    }

    /// Whoever was told that it may end is told nothing but that it has left.
    pub(super) fn check_answer(
        &mut self,
        (at, id): (ConnectionId, RequestId),
        result: &Result<Reply, Fault>,
    ) {
        self.seen.due.remove(&(at, id));
        if self.seen.late.remove(&(at, id)) {
            let code = result.as_ref().err().map(|fault| fault.code);
            assert_eq!(code, Some(Code::E_NOT_INITIALIZED), "after a Do");
        }
    }

    pub(super) fn check_told(&self, at: ConnectionId, news: &News) {
        let left = self.seen.left.contains(&self.clients[&at].process);
        assert!(!left, "a process that has left is told {news:?}");
    }

    pub(super) fn note_left(&mut self, process: ProcessKey) {
        self.seen.left.insert(process);
    }

    /// What a process of that number did is over.
    pub(super) fn forget_seen(&mut self, process: &ProcessKey) {
        self.seen.left.remove(process);
    }

    /// Fast shutdown is answered in time, whatever providers do (design §10.10).
    pub(super) fn check_in_time(&mut self) {
        let (clients, now) = (&self.clients, self.boot);
        self.seen.due.retain(|(at, id), _| clients[at].asked.contains(id));
        let late = self.seen.due.iter().find(|(_, until)| now >= **until);
        assert!(late.is_none(), "{late:?} is not answered at {now:?}");
    }

    /// Members of those who wait for the answer to their Do, but for those that log off: their own logoff takes them out.
    pub(super) fn staying(&self) -> Staying {
        let leaving: Vec<_> =
            self.clients.values().filter(|c| c.open && !c.leaving.is_empty()).collect();
        if leaving.is_empty() {
            return Vec::new();
        }
        let waits = |process: &ProcessKey| leaving.iter().any(|c| c.process == *process);
        let staying = self
            .broker
            .sessions
            .members
            .values()
            .filter(|m| !m.is_leaving())
            .map(|m| (self.clients[&m.connection].process.clone(), m.id, m.connection));
        staying.filter(|(process, ..)| waits(process)).collect()
    }

    /// What a process has is torn down after it was told that it may end, and not in the same breath.
    pub(super) fn check_torn_down(&self, staying: &Staying, evicted: &[MemberId]) {
        for (process, member, at) in staying {
            let torn_down = !self.broker.sessions.members.contains_key(member)
                && self.broker.peers.connections.contains_key(at)
                && !evicted.contains(member);
            assert!(!torn_down || !self.seen.left.contains(process), "torn down before the answer");
        }
    }

    /// What no event may leave behind.
    pub(super) fn check_state(&self) {
        let broker = &self.broker;
        if broker.providers.calls().count() < 64 {
            broker.check_calls();
        }
        broker.queues.engines.check();
        broker.sessions.all.check();
        broker.sweeps.check();
        self.check_watching();
        for sweep in broker.sweeps.values() {
            let process = broker.peers.processes.get(sweep.process).expect("it asked");
            assert!(process.sweeps > 0, "a sweep that is not known to run");
        }
        for session in broker.sessions.joinable.values() {
            assert!(broker.sessions.all[session].is_joinable(), "{session} ends and can be joined");
        }
        for granter in broker.sessions.grants.granters() {
            let here = broker.sessions.members.contains_key(&granter);
            assert!(here, "what {granter} granted outlives it");
        }
        for (id, member) in &broker.sessions.members {
            let waiting = broker.sessions.grants.waiting().filter(|granter| granter == id).count();
            assert_eq!(member.waiting_grants.len(), waiting, "tokens of {id} that wait");
        }
    }

    /// When a member has left, no message is its any more.
    pub(super) fn check_owners(&self, members_before: usize) {
        let broker = &self.broker;
        if broker.sessions.members.len() >= members_before {
            return;
        }
        for owner in
            broker.queues.engines.values().flat_map(|engine| engine.owners.values().flatten())
        {
            assert!(
                broker.sessions.members.contains_key(owner),
                "a message is {owner}'s, which has left"
            );
        }
    }

    /// When a session closes, a kind of provider is logged off when the earlier kinds are (design §10.3).
    pub(super) fn check_logoff(&self, called: &Called) {
        let session = called.session.and_then(|id| self.broker.sessions.all.get(&id));
        for provider in session.into_iter().flat_map(|s| &s.providers) {
            let over =
                phase(provider.kind) >= phase(called.kind) || provider.state == ProviderState::Gone;
            assert!(over, "{called:?} before {} was over", provider.name);
        }
    }

    /// A mailbox is told to watch while it rests, and to rest while it watches. It is told of changes also while it rests, and not
    /// a second time before it has answered.
    pub(super) fn check_mailbox(&mut self, lane: LaneId, call: CallId, provider: &ProviderCall) {
        match provider {
            ProviderCall::Logon | ProviderCall::Renew | ProviderCall::Logoff => {
                self.seen.watching.remove(&lane);
                if *provider != ProviderCall::Renew {
                    self.seen.logged_on.remove(&lane);
                }
            }
            ProviderCall::Mailbox(_) if !self.seen.logged_on.contains(&lane) => {
                panic!("{lane:?} has not logged on, and is called: {}", provider.name());
            }
            ProviderCall::Mailbox(MailboxCall::Watch { .. }) => {
                assert!(self.seen.watching.insert(lane), "{lane:?} watches and is told to");
            }
            ProviderCall::Mailbox(MailboxCall::Rest) => {
                assert!(self.seen.watching.remove(&lane), "{lane:?} rests and is told to");
            }
            ProviderCall::Mailbox(MailboxCall::Changed) => {
                let again = self.seen.poked.values().any(|poked| *poked == lane);
                assert!(!again, "{lane:?} is told of changes twice");
                self.seen.poked.insert(call, lane);
            }
            _ => {}
        }
    }

    /// A mailbox has logged on.
    pub(super) fn note_logon(&mut self, lane: LaneId) {
        self.seen.logged_on.insert(lane);
    }

    /// Whom new mail is told to, once each and by which registrations, and for how many profiles a command is run.
    pub(super) fn expected_arrivals(
        &self,
        lane: LaneId,
        changes: &[StoreChange],
    ) -> (Vec<(MemberId, u128, Vec<AdviseId>)>, usize) {
        let broker = &self.broker;
        let is_news = |change: &StoreChange| match change {
            StoreChange::Created { record, folder, news: Some(_) } => Some((*record, *folder)),
            _ => None,
        };
        let records: Vec<_> = changes.iter().filter_map(is_news).collect();
        let Some(engine) = broker.queues.engines.of_lane(lane) else { return (Vec::new(), 0) };
        let uses = |s: &&Session| s.engines().any(|(_, of)| of == engine);
        let sessions: Vec<_> = broker.sessions.all.values().filter(uses).collect();
        let profiles = sessions.iter().filter_map(|s| s.profile.as_ref());
        let runs: HashSet<_> =
            profiles.filter(|p| p.on_new_mail.is_some()).map(|p| &p.name).collect();
        let mut all = Vec::new();
        let members = || sessions.iter().flat_map(|s| &s.members);
        let told = records.iter().flat_map(|of| members().map(move |member| (*of, member)));
        for ((record, folder), member) in told {
            let member = &broker.sessions.members[member];
            let hears = matches!(member.right, Right::Session | Right::Admin)
                && self.clients[&member.connection].open
                && !broker.is_done(member.process);
            let by = member.advises.iter().filter(|(_, advise)| {
                let of_it = match advise.source {
                    AdviseSource::Session => true,
                    AdviseSource::Object(object) => match member.objects.get(object) {
                        Some(Object::Store(0)) => true,
                        Some(Object::Folder(0, it)) => *it == folder,
                        _ => false,
                    },
                };
                of_it && advise.events.contains(Events::NEW_MAIL)
            });
            let by: Vec<_> = by.map(|(id, _)| *id).collect();
            if hears && !by.is_empty() {
                all.push((member.id, record, by));
            }
        }
        all.sort_unstable();
        (all, runs.len() * records.len())
    }

    /// A mailbox watches while a process that has not said that it leaves has a member in its session, or always, and until it has
    /// carried out what it was told of.
    fn check_watching(&self) {
        let broker = &self.broker;
        for session in broker.sessions.all.values() {
            let runs =
                !matches!(session.state, SessionState::Starting | SessionState::Closing { .. });
            let stays = |member: &MemberId| {
                let member = &broker.sessions.members[member];
                let process = broker.peers.processes.get(member.process);
                member.has_mail()
                    && process.is_some_and(|p| {
                        !p.notified.contains(&session.id) || p.returned.contains(&session.id)
                    })
            };
            let attended = session.members.iter().any(stays);
            for provider in session.providers.iter().filter(|p| p.kind == ProviderType::Mailbox) {
                if provider.state != ProviderState::Available {
                    continue;
                }
                let spec = session.profile.as_ref().and_then(|p| p.mailboxes.get(provider.spec));
                let always = spec.is_some_and(|spec| spec.watch == Watching::Always);
                let watches = runs && provider.is_in_use() && (attended || always);
                let busy = provider.poke != Poke::Idle;
                assert!(
                    !provider.watching || watches || busy,
                    "{} watches for nobody",
                    provider.name
                );
                // One that is shut down and could not be made anew is told nothing more.
                let told = provider.watching || self.over.contains(&provider.lane) || self.lied > 0;
                assert!(!watches || told, "{} is not told to watch", provider.name);
            }
        }
    }

    /// A call was answered, or its lane was closed.
    pub(super) fn note_answered(&mut self, call: CallId) {
        self.seen.poked.remove(&call);
    }

    /// Within a session a later kind is called when each provider of the earlier kinds has answered or was given up, and none is
    /// called once a later kind was (SEED-16).
    pub(super) fn check_sweep(&mut self, call: CallId, called: &Called, provider: &ProviderCall) {
        if !is_shutdown(provider) {
            return;
        }
        if let (Some(session), Some(pid)) = (called.session, called.pid) {
            let latest = self.seen.swept.entry((session, pid, called.call)).or_insert(called.kind);
            assert!(phase(*latest) <= phase(called.kind), "{called:?} after {latest:?}");
            *latest = called.kind;
        }
        let of = |c: &Called| (c.session, c.pid, c.call);
        for (_, earlier) in self.sweeping.iter().filter(|(_, earlier)| of(earlier) == of(called)) {
            assert!(phase(earlier.kind) >= phase(called.kind), "{called:?} beside {earlier:?}");
        }
        self.sweeping.push((call, called.clone()));
    }

    /// A process was told that it may end: what it handed over is stored.
    pub(super) fn check_nothing_lost(&self, process: &ProcessKey) {
        let of_it = self.clients.values().filter(|c| c.process == *process && !c.earlier);
        for entry in of_it.flat_map(|c| &c.accepted) {
            let stored =
                |s: &Store| s.uid == entry.store && s.submissions.contains_key(&entry.record);
            assert!(self.stores.values().any(stored), "{entry} of a process that left is lost");
        }
        let of_it = |m: &&Member| self.clients[&m.connection].process == *process;
        for member in self.broker.sessions.members.values().filter(of_it) {
            assert!(member.drafts.is_empty(), "an unsaved draft of a process that left");
            assert_eq!(member.unwritten, 0, "writes of a process that left");
        }
    }

    pub(super) fn check_flight(&mut self, lane: LaneId, provider: &ProviderCall) {
        match provider {
            ProviderCall::Transport(
                TransportCall::Prepare(transmission) | TransportCall::Recover { transmission, .. },
            ) => {
                if let ProviderCall::Transport(TransportCall::Recover { .. }) = provider {
                    self.check_store_is_there(transmission.id);
                }
                let of_it = |e: &&Engine| e.entries.contains_key(&transmission.record);
                let engine = self.broker.queues.engines.values().find(of_it);
                let changing = engine.is_some_and(|e| e.changing.contains(&transmission.record));
                assert!(!changing, "a message departs that somebody is about to change");
                if matches!(provider, ProviderCall::Transport(TransportCall::Recover { .. })) {
                    self.recovering.insert(transmission.id);
                }
                for (place, _) in &transmission.recipients {
                    let key = (transmission.record, *place);
                    let flight = (transmission.id, lane);
                    let other = self.flying.insert(key, flight);
                    // A transport that was made anew is asked the same again. What was only prepared may be taken from a transport.
                    let same = other.is_none_or(|other| {
                        let taken = !self.broker.queues.flights.contains_key(&other.0);
                        other == flight || (taken && !self.completed.contains(&other.0))
                    });
                    assert!(same, "a recipient is with two transports: {other:?}");
                }
            }
            ProviderCall::Transport(TransportCall::Complete { id }) => {
                self.completed.insert(*id);
                self.check_store_is_there(*id);
                let flying = self.flying.iter().filter(|(_, (flight, _))| flight == id);
                for ((record, place), _) in flying {
                    let stored = self.stores.values().find_map(|s| s.submissions.get(record));
                    let recipient = &stored.expect("it is in a store").recipients[*place];
                    let marked = recipient.state == SubmissionState::Transmitting;
                    assert!(marked, "handed over without a stored intent");
                }
            }
            ProviderCall::Transport(TransportCall::Cancel { id }) => {
                self.flying.retain(|_, (flight, _)| flight != id);
            }
            ProviderCall::Write(StoreWrite::Update(update)) => {
                // What is settled is not with a transport any more; what was refused never was.
                let submission = &update.submission;
                let handed = submission.recipients.iter().enumerate().filter_map(|(place, r)| {
                    let (flight, _) = self.flying.get(&(submission.record, place))?;
                    (r.state == SubmissionState::Transmitting).then_some(*flight)
                });
                let handed: HashSet<_> = handed.collect();
                for (place, recipient) in submission.recipients.iter().enumerate() {
                    let key = (submission.record, place);
                    // What is prepared is queued still; what a recovery says is queued was not sent, and what is queued beside
                    // others of its flight that are handed over had no room.
                    let is_back = || {
                        let flight = self.flying.get(&key).map(|(flight, _)| flight);
                        flight.is_some_and(|flight| {
                            let over = self.completed.contains(flight);
                            over || self.recovering.contains(flight) || handed.contains(flight)
                        })
                    };
                    match recipient.state {
                        SubmissionState::Transmitting => {}
                        SubmissionState::Queued if !is_back() => {}
                        _ => drop(self.flying.remove(&key)),
                    }
                }
            }
            _ => {}
        }
    }

    /// What a store said of a message before it was lost is not acted upon.
    fn check_store_is_there(&self, flight: u64) {
        let flight = self.broker.queues.flights.get(&flight).expect("it is on its way");
        let lost = self.broker.queues.engines.get(&flight.engine()).is_none_or(Engine::is_lost);
        assert!(!lost, "a message of a lost store is handed over");
    }

    /// Shutdown calls that wait for an answer beside one of an earlier kind that does.
    pub(in crate::tests) fn out_of_order(&self) -> Option<(&Called, &Called)> {
        let of = |c: &Called| (c.session, c.pid, c.call);
        let mut calls = self.sweeping.iter().map(|(_, called)| called);
        calls.find_map(|later| {
            let mut same = self.sweeping.iter().map(|(_, called)| called);
            let earlier =
                same.find(|other| of(other) == of(later) && phase(other.kind) < phase(later.kind));
            earlier.map(|earlier| (earlier, later))
        })
    }

    /// What counts on each account is what there is that it pays for, and that of the accounts below it.
    pub(in crate::tests) fn assert_counts(&self) {
        let broker = &self.broker;
        for process in &self.watched {
            assert!(broker.remembers(process), "the end of {process:?} is awaited for nothing");
        }
        let accounts = &broker.peers.processes.accounts;
        let mut counts: BTreeMap<AccountId, (Used, usize)> = BTreeMap::new();
        for process in broker.peers.processes.iter() {
            let (used, needed) = counts.entry(process.account).or_default();
            *needed += 1;
            // One that is remembered counts as one connection.
            used.add(Quota::Connections, usize::from(process.connections.is_empty()));
            for connection in process.connections.iter().map(|c| &broker.peers.connections[c]) {
                used.add(Quota::Connections, 1);
                used.add(Quota::Objects, connection.references.len());
                used.add(Quota::RequestBytes, connection.bytes as usize);
                for member in connection.members.iter().map(|m| &broker.sessions.members[m]) {
                    used.add(Quota::Members, 1);
                    used.add(Quota::Objects, member.objects.len());
                    used.add(Quota::Registrations, member.advises.len());
                    used.add(Quota::Grants, member.waiting_grants.len());
                }
            }
        }
        let waiting = broker.sessions.all.values().flat_map(|session| &session.waiting);
        let held = broker.peers.processes.iter().flat_map(|process| &process.held);
        let askers = waiting.map(Waiting::asker).chain(held.map(Held::asker));
        for asker in askers.filter(|asker| asker.counts == Counts::Member) {
            counts.entry(asker.account).or_default().0.add(Quota::Members, 1);
        }
        for (account, what, count) in broker.charges().map(Charge::parts) {
            counts.entry(account).or_default().0.add(what, count);
        }
        for (id, above, whose, counted, left_behind, needed_by) in accounts.all() {
            let (mut used, needed) = counts.remove(&id).unwrap_or_default();
            used.add(Quota::RequestBytes, left_behind);
            assert_eq!((counted, needed_by), (&used, needed), "what counts for {whose:?}");
            assert!(needed > 0 || !used.is_nothing(), "{whose:?} is kept for nothing");
            let (sum, needed) = counts.entry(above).or_default();
            *needed += usize::from(above != AccountId::BROKER);
            for what in Quota::ALL {
                sum.add(what, used.of(what));
            }
        }
        let (used, _) = counts.remove(&AccountId::BROKER).unwrap_or_default();
        assert_eq!(*accounts.used(AccountId::BROKER), used, "what counts for the broker");
        assert!(counts.is_empty(), "accounts that are not there: {counts:?}");
    }

    /// Nothing may be left of anything.
    pub(in crate::tests) fn assert_empty(&self) {
        self.assert_counts();
        let mut left = self.clone();
        left.everybody_leaves();
        left.broker.check_as_at_the_start();
        assert!(self.lanes.is_empty(), "lanes are left");
    }
}

/// The place of a type of provider in every order that the seed fixes (SEED-16).
fn phase(kind: ProviderType) -> usize {
    match kind {
        ProviderType::Transport | ProviderType::Mailbox => 0,
        ProviderType::AddressBook => 1,
        ProviderType::Store => 2,
    }
}

pub(super) fn is_shutdown(call: &ProviderCall) -> bool {
    matches!(
        call,
        ProviderCall::QueryFastShutdown
            | ProviderCall::NotifyProcessShutdown
            | ProviderCall::DoFastShutdown
    )
}
