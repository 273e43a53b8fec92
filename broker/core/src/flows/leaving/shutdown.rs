//! Fast shutdown: query, notify, do, strictly for one process (`IMAPIClientShutdown`).
//!
//! ```text
//!  process:   verdict  None ──query──► Yes | No       for the life of the process
//!             notified no ──notify──► yes             whatever the verdict is; each session once
//!             leaving  No ──do, verdict Yes──► Doing ──everything durable──► Done
//!                      ▲                         │
//!                      └──could not be persisted─┘    nothing was torn down
//! ```
//!
//! Each of the three calls is a *sweep* over the sessions of the process, in the order of their creation. Within each session
//! transports and mailboxes come first, then address books, then stores (SEED-16). A later kind is called only when every provider of the earlier
//! kind has answered or was given up. Sessions do not wait for each other.
//!
//! ```text
//!  0 ── transports and mailboxes ────── T/2 ─── address books ─── 3T/4 ─── stores ─── T
//! ```
//!
//! A sweep has a deadline T, of which each kind has a share. A provider that has not answered by the end of its kind's share is
//! given up for this sweep. Its call is withdrawn, so that a provider that was busy until then never gets it, and `status` and the
//! log name the provider. A call that had reached the provider runs on; its answer comes too late for the sweep.
//!
//! While a Do runs, the other requests of the process wait for its outcome. After a success they are answered
//! `MAPI_E_NOT_INITIALIZED`; after a failure they are carried out. Do makes durable what the process handed over, answers, and only
//! then tears down, so open objects do not delay the answer. For every other process it is a member that left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::request::Request;
use sundown_protocol::{Code, Fault, FaultDetail, MemberId, ObjectId, Reply, SessionId};

use crate::broker::Broker;
use crate::ground::event::{Behalf, CallId, Effect, EngineId, ProcessId, Turn};
use crate::ground::provider::{FastShutdown, ProviderError, ProviderType};
use crate::ground::settings::FastShutdownBehavior;
use crate::ground::timers::Timer;
use crate::peers::connection::Asker;
use crate::peers::process::{Departure, Failed, Held, MAX_LOST, Process};
use crate::peers::quota::Quota;
use crate::peers::ticket::Host;
use crate::providers::ask::{Ask, Saved, Shutdown};
use crate::providers::calls::Caller;
use crate::providers::lanes::Priority;
use crate::providers::view::{Provider, ProviderState, Stance};
use crate::sessions::object::Object;
use crate::sessions::session::Session;
use crate::then::{AfterDone, AfterSave};

/// How long providers may take to answer a query or a notice.
const THINK: Duration = Duration::from_secs(1);

/// The charge for a request that joins a sweep, in bytes: about what it takes until it is answered.
const JOINING: usize = 256;

/// A call of a sweep, which its answer refers to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    sweep: u64,
    session: SessionId,
    place: usize,
    call: Visits,
}

impl Visit {
    /// Whether the provider may be shut down by the call.
    pub(crate) fn tells_of_leaving(&self) -> bool {
        match self.call {
            Visits::Notify | Visits::Do => true,
            Visits::Query | Visits::Flush => false,
        }
    }
}

/// What a sweep calls a provider for. A Do first queries providers that are younger than the verdict, and flushes stores that are
/// not told to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visits {
    Query,
    Notify,
    Do,
    Flush,
}

/// One of the three calls, in progress through the providers of a process.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Sweep {
    pub(crate) what: What,
    pub(crate) process: ProcessId,
    askers: Vec<Asker>,
    legs: BTreeMap<SessionId, Leg>,
    /// Providers that said no or gave no answer in time.
    refusing: BTreeSet<String>,
    /// Stores that gave no answer in time.
    silent: BTreeSet<String>,
    /// Mailboxes that have answered the Do.
    mailboxes: Vec<(SessionId, usize)>,
    /// The first failure to make something durable.
    failed: Option<ProviderError>,
    /// When it began, and how long it may take.
    began: Duration,
    deadline: Duration,
    /// The kind of provider whose share of the time is running.
    share: usize,
}

impl Sweep {
    /// Whether it waits for the provider at this place.
    pub(crate) fn waits_for(&self, session: SessionId, place: usize) -> bool {
        self.legs.get(&session).is_some_and(|leg| leg.waiting.contains_key(&place))
    }
}

/// A step of a fast shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Query,
    Notify,
    Do,
}

impl What {
    pub(crate) const ALL: [Self; 3] = [Self::Query, Self::Notify, Self::Do];
}

/// When the share of a phase ends in a sweep of this length. Phases are numbered as in [`ProviderType::SHUTDOWN_ORDER`].
fn share(deadline: Duration, phase: usize) -> Duration {
    match phase {
        0 => deadline / 2,
        1 => deadline * 3 / 4,
        _ => deadline,
    }
}

/// How far a sweep is in one session.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Leg {
    phase: usize,
    /// Providers that have not answered, by their place in the session, with their pending call.
    waiting: BTreeMap<usize, Option<CallId>>,
    /// How many drafts are being stored.
    saving: usize,
}

impl Broker {
    /// The process of a request, if this connection may speak for its shutdown (SEED-15).
    fn host(&self, asker: Asker) -> Result<ProcessId, Fault> {
        let connection =
            self.peers.connections.get(&asker.connection).expect("who asks is connected");
        let process = self.peers.processes.get(connection.process).expect("it is connected");
        let message = match process.host {
            Host::Copy { library, .. } if library == connection.library => {
                return Ok(connection.process);
            }
            Host::Copy { .. } => {
                "this copy of the library was not the first in its program; only the program itself may shut its process \
                 down, and may hand on its key"
            }
            Host::Unproven => {
                "an earlier broker may have served this process, and no copy of the library has shown that broker's ticket: \
                 log off instead"
            }
        };
        Err(Fault::new(Code::E_NO_ACCESS, message))
    }

    /// Whether a request is a Do by the copy of the library that speaks for its process.
    pub(crate) fn is_hosts_do(&self, asker: Asker, request: &Request) -> bool {
        matches!(request, Request::DoFastShutdown { .. }) && self.host(asker).is_ok()
    }

    pub(crate) fn query_fast_shutdown(
        &mut self,
        asker: Asker,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let id = self.host(asker)?;
        let process = self.peers.processes.get_mut(id).expect("it is connected");
        if self.settings.shutdown.fast_shutdown == FastShutdownBehavior::Disabled
            && process.verdict.is_none()
        {
            process.verdict = Some(false);
            self.tell_ticket(id, turn);
        }
        let process = self.peers.processes.get(id).expect("it is connected");
        if let Some(verdict) = process.verdict {
            let answer = if verdict { Ok(Reply::Done) } else { Err(refused(&process.refusing)) };
            self.answer(asker, answer, turn);
            return Ok(());
        }
        if self.joins(id, What::Query, asker, turn) {
            return Ok(());
        }
        let sessions = self.sessions_of(id);
        self.sweep(What::Query, (id, sessions), asker, THINK, turn);
        Ok(())
    }

    pub(crate) fn notify_process_shutdown(
        &mut self,
        asker: Asker,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let id = self.host(asker)?;
        let sessions = self.sessions_of(id);
        let process = self.peers.processes.get_mut(id).expect("it is connected");
        let first = !std::mem::replace(&mut process.gave_notice, true);
        // Each session is told only once: a provider that stopped may have stopped for good.
        let again = std::mem::take(&mut process.returned);
        let sessions = sessions.into_iter();
        let untold: Vec<_> = sessions.filter(|s| process.notified.insert(*s)).collect();
        for session in &untold {
            let session =
                self.sessions.all.get_mut(*session).expect("a member's session outlives it");
            session.kept_by.insert(id);
        }
        self.sessions.unsettled.extend(again.iter().chain(&untold));
        if first {
            self.tell_ticket(id, turn);
        }
        if untold.is_empty() && self.joins(id, What::Notify, asker, turn) {
            return Ok(());
        }
        self.sweep(What::Notify, (id, untold), asker, THINK, turn);
        Ok(())
    }

    pub(crate) fn do_fast_shutdown(&mut self, asker: Asker, turn: &mut Turn) -> Result<(), Fault> {
        let id = self.host(asker)?;
        if self.joins(id, What::Do, asker, turn) {
            return Ok(());
        }
        let process = self.peers.processes.get(id).expect("it is connected");
        let shutdown = &self.settings.shutdown;
        let no = |message: &str| Err(Fault::new(Code::E_NO_SUPPORT, message));
        if shutdown.disable_fast_shutdown.binds(&process.peer.program) {
            return no("disable_fast_shutdown is set for this program: log off instead");
        }
        if shutdown.fast_shutdown == FastShutdownBehavior::Disabled {
            return no("fast_shutdown_behavior is \"disabled\": log off instead");
        }
        let deadline = shutdown.deadline;
        if process.verdict != Some(true) {
            return no(
                "QueryFastShutdown has not said yes to this process: ask it, or log off instead",
            );
        }
        self.refuse_while_held(id)?;
        let process = self.peers.processes.get_mut(id).expect("it is connected");
        process.departure = Departure::Doing;
        self.end_notices(id, turn);
        let sessions = self.sessions_of(id);
        let process = self.peers.processes.get_mut(id).expect("it is connected");
        let told = process.told();
        process.told_do.retain(|(session, _)| sessions.contains(session));
        for left in told.difference(&process.told()) {
            if let Some(session) = self.sessions.all.get_mut(*left) {
                session.kept_by.remove(&id);
            }
        }
        self.sweep(What::Do, (id, sessions), asker, deadline, turn);
        Ok(())
    }

    /// Ends the running notices of a process, because the process leaves now.
    fn end_notices(&mut self, process: ProcessId, turn: &mut Turn) {
        while let Some(notice) = self.sweeps.running(process, What::Notify) {
            self.finish_sweep(notice, turn);
        }
    }

    /// Refuses requests of a process that has left.
    pub(crate) fn refuse_departed(&self, asker: Asker) -> Result<(), Fault> {
        if self.is_done(asker.process) { Err(shut_down()) } else { Ok(()) }
    }

    /// How far a process is with its Do. While one runs, requests of the process wait until it is known whether it has left.
    pub(crate) fn departure(&self, process: ProcessId) -> Departure {
        self.peers.processes.get(process).map_or(Departure::No, |p| p.departure)
    }

    /// Holds a request of a process while its Do runs. The request was charged, because waiting costs memory.
    pub(crate) fn hold(&mut self, held: Held) {
        if let Some(process) = self.peers.processes.get_mut(held.asker().process) {
            process.held.push(held);
        }
    }

    /// Answers or carries out the requests that waited for a Do, in their order.
    fn release_held(&mut self, id: ProcessId, turn: &mut Turn) {
        let Some(process) = self.peers.processes.get_mut(id) else { return };
        let held = std::mem::take(&mut process.held);
        for held in held {
            match held {
                Held::Request { asker, request } => self.serve(asker, request, turn),
                Held::Logon { key, sharing, waiting } => {
                    self.admit_held(key, sharing, waiting, turn);
                }
            }
        }
    }

    /// Whether a process has left.
    pub(crate) fn is_done(&self, process: ProcessId) -> bool {
        self.peers.processes.get(process).is_some_and(|p| p.departure == Departure::Done)
    }

    /// Whether a write of a process is pending at a store. Its member or session may be gone already.
    fn is_unwritten(&self, process: ProcessId) -> bool {
        self.peers.processes.get(process).is_some_and(Process::is_unwritten)
    }

    /// Forgets a process without connections, unless something of it is still to be remembered.
    fn forget_away(&mut self, id: ProcessId, turn: &mut Turn) {
        let Some(process) = self.peers.processes.get(id).map(|p| p.key.clone()) else { return };
        for held in self.peers.processes.forget_if_over(id) {
            self.peers.processes.pay_left_behind(held.asker());
        }
        if !self.remembers(&process) {
            turn.emit(Effect::Forgotten { process });
        }
    }

    /// Continues after a store has answered a write of a process: its Do may be complete.
    pub(crate) fn written_of(&mut self, process: ProcessId, turn: &mut Turn) {
        if let Some(number) = self.sweeps.running(process, What::Do) {
            self.end_if_swept(number, turn);
        }
        // The write may have been the last reason to remember a process without connections.
        if self.peers.processes.get(process).is_some_and(|p| p.connections.is_empty()) {
            self.forget_away(process, turn);
        }
    }

    /// Records that a write of a process failed when no member is left to be told.
    pub(crate) fn note_lost(
        &mut self,
        process: ProcessId,
        failed: impl IntoIterator<Item = Failed>,
    ) {
        if let Some(process) = self.peers.processes.get_mut(process) {
            let room = MAX_LOST.saturating_sub(process.lost.len());
            process.lost.extend(failed.into_iter().take(room));
        }
    }

    /// Drops the sweeps of processes that are gone. Providers never get the calls that they have not begun.
    pub(crate) fn drop_sweeps(&mut self, turn: &mut Turn) {
        let gone = self.peers.processes.take_gone();
        let of_them = gone.into_iter().flat_map(|process| self.sweeps.of_process(process));
        for number in of_them.collect::<Vec<_>>() {
            let Some(sweep) = self.sweeps.remove(number) else { continue };
            self.timers.clear(Timer::Sweep(number));
            for asker in sweep.askers {
                self.peers.processes.pay_left_behind(asker);
            }
            for (id, place) in sweep.mailboxes {
                self.mailbox_swept(id, place, turn);
            }
            let legs = sweep.legs.into_values();
            for call in legs.flat_map(|leg| leg.waiting.into_values()).flatten() {
                self.withdraw(call, turn);
            }
        }
    }

    /// Joins a request to a running sweep, if there is one. The request is charged, because waiting costs memory; a connection that
    /// asks without end is closed.
    fn joins(&mut self, process: ProcessId, what: What, asker: Asker, turn: &mut Turn) -> bool {
        if self.running(process, what).is_none() {
            return false;
        }
        if let Some(asker) = self.charge_waiting(asker, JOINING, turn)
            && let Some(sweep) = self.running(process, what)
        {
            sweep.askers.push(asker);
        }
        true
    }

    fn running(&mut self, process: ProcessId, what: What) -> Option<&mut Sweep> {
        let number = self.sweeps.running(process, what)?;
        self.sweeps.get_mut(number)
    }

    /// The members of a process, ordered by session.
    pub(crate) fn members_of(&self, process: ProcessId) -> Vec<(SessionId, MemberId)> {
        let connections =
            self.peers.processes.get(process).into_iter().flat_map(|p| &p.connections);
        let members =
            connections.filter_map(|c| self.peers.connections.get(c)).flat_map(|c| &c.members);
        let mut members: Vec<_> =
            members.map(|id| (self.sessions.members[id].session, *id)).collect();
        members.sort_by_key(|(session, _)| *session);
        members
    }

    /// The sessions of a process, without duplicates.
    fn sessions_of(&self, process: ProcessId) -> Vec<SessionId> {
        let members = self.members_of(process).into_iter();
        let mut sessions: Vec<_> = members.map(|(session, _)| session).collect();
        sessions.dedup();
        sessions
    }

    fn sweep(
        &mut self,
        what: What,
        (process, sessions): (ProcessId, Vec<SessionId>),
        asker: Asker,
        deadline: Duration,
        turn: &mut Turn,
    ) {
        let number = self.number();
        let legs = sessions.iter().map(|s| (*s, Leg::default())).collect();
        let (refusing, silent) = (BTreeSet::new(), BTreeSet::new());
        let (askers, failed, began) = (vec![asker], None, turn.tick.boot);
        let sweep = Sweep {
            what,
            process,
            askers,
            legs,
            refusing,
            silent,
            mailboxes: Vec::new(),
            failed,
            began,
            deadline,
            share: 0,
        };
        self.timers.set(began + share(deadline, 0), Timer::Sweep(number));
        self.sweeps.insert(number, sweep);
        if let Some(process) = self.peers.processes.get_mut(process) {
            process.sweeps += 1;
        }
        for session in sessions {
            self.enter_leg(number, session, turn);
        }
        self.end_if_swept(number, turn);
    }

    /// Calls the providers of a session's present phase. A phase without providers to wait for is skipped.
    fn enter_leg(&mut self, number: u64, id: SessionId, turn: &mut Turn) {
        loop {
            let Some(sweep) = self.sweeps.get_mut(number) else { return };
            let (what, process) = (sweep.what, sweep.process);
            let Some(leg) = sweep.legs.get_mut(&id) else { return };
            let phase = leg.phase;
            if phase == ProviderType::SHUTDOWN_ORDER.len() {
                return;
            }
            let Some(session) = self.sessions.all.get(&id) else { return };
            let places = loaded(session, phase);
            leg.waiting = places.iter().map(|place| (*place, None)).collect();
            match what {
                What::Do if phase == ProviderType::Store.phase() => {
                    self.keep_drafts(number, id, turn);
                }
                What::Query => self.count_unloaded(number, id, phase),
                What::Do | What::Notify => {}
            }
            for place in places {
                self.call_swept((number, what, process), id, place, turn);
            }
            let Some(leg) = self.sweeps.get_mut(number).and_then(|s| s.legs.get_mut(&id)) else {
                return;
            };
            if !leg.waiting.is_empty() || leg.saving > 0 {
                return;
            }
            leg.phase += 1;
        }
    }

    /// Notes whether configured providers refuse that cannot be asked. A provider cannot be asked if its logon failed or it is
    /// getting another worker. Its earlier answer stands, and so does the administrator's setting for it.
    fn count_unloaded(&mut self, number: u64, id: SessionId, phase: usize) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        let opted_out = self.settings.shutdown.fast_shutdown == FastShutdownBehavior::OptOut;
        let refuses = |p: &&Provider| match (self.stance(p), p.fast_shutdown) {
            (Some(Stance::Refuses), _) | (None, FastShutdown::Refused) => true,
            (Some(Stance::Unaware), _) | (None, FastShutdown::Absent) => !opted_out,
            (Some(Stance::Supports), _) | (None, FastShutdown::Supported) => false,
        };
        let of_kind = session.providers.iter().filter(|p| p.kind.phase() == phase && p.is_in_use());
        let unloaded = of_kind.filter(|p| !is_loaded(p));
        let names: Vec<_> = unloaded.filter(refuses).map(|p| p.name.clone()).collect();
        if let Some(sweep) = self.sweeps.get_mut(number) {
            sweep.refusing.extend(names);
        }
    }

    fn call_swept(
        &mut self,
        (number, what, process): (u64, What, ProcessId),
        id: SessionId,
        place: usize,
        turn: &mut Turn,
    ) {
        let provider = &self.sessions.all[&id].providers[place];
        let is_store = provider.kind == ProviderType::Store;
        let told =
            self.peers.processes.get(process).is_some_and(|p| p.told_do.contains(&(id, place)));
        let call = match (what, self.stance(provider)) {
            (What::Query, _) | (What::Do, None) => Visits::Query,
            (What::Notify, _) => Visits::Notify,
            (What::Do, Some(Stance::Supports)) if !told => Visits::Do,
            // The provider answered an earlier Do of this process, or it is logged off with its session in the ordinary way. The
            // writes of the process are made durable in any case.
            (What::Do, Some(_)) => Visits::Flush,
        };
        let visit = Visit { sweep: number, session: id, place, call };
        if call == Visits::Flush && !is_store {
            return self.swept(visit, Ok(Shutdown::Unaware), turn);
        }
        // A store must first have done what the process asked before. The other providers are asked ahead of that.
        let covers = is_store && matches!(call, Visits::Do | Visits::Flush);
        let priority = if covers { Priority::InTurn } else { Priority::First };
        let caller = Caller { session: Some(id), process: Some(process), priority };
        let lane = provider.lane;
        if matches!(call, Visits::Notify | Visits::Do) {
            // A later call may find the provider shut down.
            self.doubt(id, place);
        }
        let call = match call {
            Visits::Query => self.call(lane, caller, Ask::query_fast_shutdown(), visit, turn),
            Visits::Notify => self.call(lane, caller, Ask::notify_process_shutdown(), visit, turn),
            Visits::Do => self.call(lane, caller, Ask::do_fast_shutdown(), visit, turn),
            Visits::Flush => self.call(lane, caller, Ask::flush(), AfterDone::Swept(visit), turn),
        };
        let leg = self.sweeps.get_mut(number).and_then(|s| s.legs.get_mut(&id));
        if let Some(waits) = leg.and_then(|leg| leg.waiting.get_mut(&place)) {
            *waits = call;
        }
    }

    /// The first answer of a provider object. A store object is shared by all its sessions.
    pub(crate) fn stance(&self, provider: &Provider) -> Option<Stance> {
        match provider.engine.and_then(|id| self.queues.engines.get(&id)) {
            Some(engine) => engine.stance,
            None => provider.stance,
        }
    }

    /// Notes whether a provider object supports fast shutdown. Its first answer holds for its life (SEED-17).
    fn note_stance(&mut self, id: SessionId, place: usize, said: Stance) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        match provider.engine.and_then(|id| self.queues.engines.get_mut(id)) {
            Some(engine) => engine.stance.get_or_insert(said),
            None => provider.stance.get_or_insert(said),
        };
    }

    /// Handles a provider's answer.
    pub(crate) fn swept(
        &mut self,
        Visit { sweep: number, session: id, place, call }: Visit,
        result: Result<Shutdown, ProviderError>,
        turn: &mut Turn,
    ) {
        if call == Visits::Query {
            let said = match &result {
                Ok(Shutdown::Unaware) => Stance::Unaware,
                Ok(Shutdown::Done | Shutdown::Untouched) => Stance::Supports,
                Err(_) => Stance::Refuses,
            };
            self.note_stance(id, place, said);
        }
        // A notice may shut the provider down for good, too (SEED-19). A call made meanwhile may have been answered before.
        let called = matches!(result, Ok(Shutdown::Done) | Err(_))
            && matches!(call, Visits::Notify | Visits::Do);
        if called {
            self.doubt(id, place);
        }
        let Some(session) = self.sessions.all.get(&id) else {
            return self.lose_leg(number, id, turn);
        };
        let provider = &session.providers[place];
        let (name, kind) = (provider.name.clone(), provider.kind);
        let stance = self.stance(provider);
        let opted_out = self.settings.shutdown.fast_shutdown == FastShutdownBehavior::OptOut;
        if called && kind == ProviderType::Mailbox {
            match (call, self.sweeps.get_mut(number)) {
                // Who leaves does not wait for that.
                (Visits::Do, Some(sweep)) => sweep.mailboxes.push((id, place)),
                _ => self.mailbox_swept(id, place, turn),
            }
        }
        let Some(sweep) = self.sweeps.get_mut(number) else { return };
        let (what, process) = (sweep.what, sweep.process);
        // The provider was given up, and its answer comes too late: a later kind has been called since.
        if !sweep.legs.get(&id).is_some_and(|leg| leg.waiting.contains_key(&place)) {
            return;
        }
        match what {
            What::Query => {
                let accepted = match stance {
                    Some(Stance::Supports) => true,
                    Some(Stance::Unaware) => opted_out,
                    Some(Stance::Refuses) | None => false,
                };
                if !accepted {
                    sweep.refusing.insert(name);
                }
            }
            What::Do
                if call == Visits::Query
                    && (stance == Some(Stance::Supports) || kind == ProviderType::Store) =>
            {
                // It was queried only now, because its session is younger than the verdict.
                return self.call_swept((number, What::Do, process), id, place, turn);
            }
            // Failures of transports and address books are in the log. Only a failure to make something durable keeps the process.
            What::Do => match result {
                Ok(_) => {
                    if let (Some(state), Some(session)) =
                        (self.peers.processes.get_mut(process), self.sessions.all.get_mut(id))
                    {
                        state.told_do.insert((id, place));
                        session.kept_by.insert(process);
                    }
                }
                Err(error) if kind == ProviderType::Store => {
                    sweep.failed.get_or_insert(error);
                }
                Err(_) => {}
            },
            What::Notify => {}
        }
        if let Some(leg) = sweep.legs.get_mut(&id) {
            leg.waiting.remove(&place);
        }
        self.leg_on(number, id, turn);
    }

    /// Ends a sweep's part in a session that ended before the sweep was complete there.
    fn lose_leg(&mut self, number: u64, id: SessionId, turn: &mut Turn) {
        let Some(sweep) = self.sweeps.get_mut(number) else { return };
        let Some(leg) = sweep.legs.get_mut(&id).filter(|leg| leg.phase < 3) else { return };
        leg.phase = 3;
        let message = "a session ended before all of its providers had answered";
        sweep.failed.get_or_insert_with(|| ProviderError::new(Code::E_TIMEOUT, message));
        self.end_if_swept(number, turn);
    }

    /// Continues a sweep in a session when nothing of its present phase is pending.
    fn leg_on(&mut self, number: u64, id: SessionId, turn: &mut Turn) {
        let Some(leg) = self.sweeps.get_mut(number).and_then(|s| s.legs.get_mut(&id)) else {
            return;
        };
        if leg.waiting.is_empty() && leg.saving == 0 && leg.phase < 3 {
            leg.phase += 1;
            self.enter_leg(number, id, turn);
        }
        self.end_if_swept(number, turn);
    }

    /// Stores the unsaved drafts of a process in Drafts, before its stores are called.
    fn keep_drafts(&mut self, number: u64, id: SessionId, turn: &mut Turn) {
        let process = self.sweeps[&number].process;
        let members = self.members_of(process).into_iter().filter(|(session, _)| *session == id);
        for (_, member) in members {
            let drafts: Vec<_> = self.sessions.members[&member].drafts.iter().copied().collect();
            for object in drafts {
                if self.keep_draft(number, member, object, turn) {
                    let sweep = self.sweeps.get_mut(number).expect("it is running");
                    sweep.legs.get_mut(&id).expect("it is in this leg").saving += 1;
                }
            }
        }
    }

    fn keep_draft(&mut self, number: u64, id: MemberId, object: ObjectId, turn: &mut Turn) -> bool {
        let record = turn.record();
        let member = self.sessions.members.get_mut(&id).expect("it is of the process");
        let Some(Object::Draft(draft)) = member.objects.get_mut(object) else { return false };
        let record = *draft.saving.get_or_insert(record);
        let (store, content) = (draft.store, draft.content.clone());
        let member = &self.sessions.members[&id];
        let caller = Self::caller(member);
        let Ok(engine) = self.engine_for(member, store) else { return false };
        let (session, process, copied) = (member.session, member.process, content.in_memory());
        let save = Ask::recover_draft(record, content, turn.tick.millis());
        let lane = self.queues.engines[&engine].write;
        // A process that leaves is never refused for its quota.
        let charge = self.peers.processes.book(process, Quota::DraftBytes, copied);
        let after = AfterSave::Kept { sweep: number, session, member: id, object, engine, charge };
        self.call(lane, caller, save, after, turn);
        true
    }

    /// Handles the answer about a draft that was stored for a process in its fast shutdown.
    pub(crate) fn kept(
        &mut self,
        (number, engine): (u64, EngineId),
        (session, id, object): (SessionId, MemberId, ObjectId),
        result: Result<Saved, ProviderError>,
        turn: &mut Turn,
    ) {
        if let Ok(saved) = &result {
            self.recovered(engine, saved, turn);
            if let Some(member) = self.sessions.members.get_mut(&id) {
                member.drafts.remove(&object);
                if let Some(kept) = member.objects.get_mut(object) {
                    let draft = std::mem::replace(kept, Object::Message(saved.place.entry));
                    self.pay_for_draft(draft);
                }
            }
        }
        let Some(sweep) = self.sweeps.get_mut(number) else { return };
        if let Err(error) = result {
            sweep.failed.get_or_insert(error);
        }
        // The member may have left meanwhile, but the sweep still waited for its draft.
        if let Some(leg) = sweep.legs.get_mut(&session) {
            leg.saving -= 1;
        }
        self.leg_on(number, session, turn);
    }

    /// Ends the share of a kind: its providers that have not answered are given up, and the next kind is called. After the last
    /// share the sweep ends.
    pub(crate) fn share_over(&mut self, number: u64, turn: &mut Turn) {
        let Some(sweep) = self.sweeps.get_mut(number) else { return };
        let phase = sweep.share;
        if phase + 1 < ProviderType::SHUTDOWN_ORDER.len() {
            sweep.share += 1;
            self.timers.set(sweep.began + share(sweep.deadline, phase + 1), Timer::Sweep(number));
        }
        let late = sweep.legs.iter().filter(|(_, leg)| leg.phase <= phase).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            self.give_up_leg(number, id, turn);
            if phase + 1 < ProviderType::SHUTDOWN_ORDER.len() {
                self.leg_on(number, id, turn);
            }
        }
        if phase + 1 == ProviderType::SHUTDOWN_ORDER.len() {
            self.sweep_over(number, turn);
        }
    }

    /// Gives up the providers of a session for which a sweep still waits.
    fn give_up_leg(&mut self, number: u64, id: SessionId, turn: &mut Turn) {
        let Some(sweep) = self.sweeps.get_mut(number) else { return };
        let (what, process) = (sweep.what, sweep.process);
        let Some(leg) = sweep.legs.get_mut(&id) else { return };
        let waiting = std::mem::take(&mut leg.waiting);
        let pid = self.peers.processes.get(process).map(|p| p.peer.pid);
        for (place, call) in waiting {
            let called = call.and_then(|call| self.withdraw(call, turn));
            let Some(session) = self.sessions.all.get_mut(id) else { continue };
            let provider = &mut session.providers[place];
            let (name, provider_type) = (provider.name.clone(), provider.kind);
            if let Some(sweep) = self.sweeps.get_mut(number) {
                sweep.refusing.insert(name.clone());
                if what == What::Do && provider_type == ProviderType::Store {
                    sweep.silent.insert(name.clone());
                }
            }
            let Some((called, correlation)) = called else { continue };
            provider.late = Some(called);
            let behalf = Box::new(Behalf { session: Some(id), pid, correlation, entry: None });
            turn.emit(Effect::GaveUp { provider: name, provider_type, call: called, behalf });
        }
    }

    /// Ends a sweep whose time is over.
    fn sweep_over(&mut self, number: u64, turn: &mut Turn) {
        let Some(sweep) = self.sweeps.get(&number) else { return };
        let saving = sweep.legs.values().any(|leg| leg.saving > 0);
        let unwritten = saving || self.is_unwritten(sweep.process);
        let Some(sweep) = self.sweeps.get_mut(number) else { return };
        if !sweep.silent.is_empty() || unwritten {
            let names: Vec<_> = sweep.silent.iter().map(String::as_str).collect();
            let message = match names.join(", ") {
                names if names.is_empty() => "not everything was stored in time".into(),
                names => format!("no answer in time from {names}"),
            };
            sweep.failed.get_or_insert(ProviderError::new(Code::E_TIMEOUT, message));
        }
        self.finish_sweep(number, turn);
    }

    fn end_if_swept(&mut self, number: u64, turn: &mut Turn) {
        let Some(sweep) = self.sweeps.get(&number) else { return };
        let waits = sweep.what == What::Do && self.is_unwritten(sweep.process);
        if !waits && sweep.legs.values().all(|leg| leg.phase >= 3) {
            self.finish_sweep(number, turn);
        }
    }

    fn finish_sweep(&mut self, number: u64, turn: &mut Turn) {
        let Some(sweep) = self.sweeps.remove(number) else { return };
        if let Some(process) = self.peers.processes.get_mut(sweep.process) {
            process.sweeps -= 1;
        }
        self.timers.clear(Timer::Sweep(number));
        let Some(process) = self.peers.processes.get_mut(sweep.process) else {
            return sweep.mailboxes.iter().for_each(|(id, at)| self.mailbox_swept(*id, *at, turn));
        };
        let answer = match sweep.what {
            What::Query => {
                let verdict = *process.verdict.get_or_insert(sweep.refusing.is_empty());
                process.refusing.extend(sweep.refusing);
                let answer =
                    if verdict { Ok(Reply::Done) } else { Err(refused(&process.refusing)) };
                self.tell_ticket(sweep.process, turn);
                answer
            }
            What::Notify => Ok(Reply::Done),
            What::Do => {
                let silent = sweep.silent.into_iter().collect();
                self.persisted(sweep.process, (sweep.failed, silent), &sweep.askers, turn)
            }
        };
        for asker in sweep.askers {
            self.answer(asker, answer.clone(), turn);
        }
        if sweep.what == What::Do {
            self.release_held(sweep.process, turn);
        }
        for (id, place) in sweep.mailboxes {
            self.mailbox_swept(id, place, turn);
        }
    }

    /// Handles the end of a Do. If everything that the process handed over is durable, the process has left. Nothing of it is torn
    /// down before it has its answer.
    fn persisted(
        &mut self,
        id: ProcessId,
        (failed, silent): (Option<ProviderError>, Vec<String>),
        askers: &[Asker],
        turn: &mut Turn,
    ) -> Result<Reply, Fault> {
        let members: Vec<_> = self.members_of(id).into_iter().map(|(_, id)| id).collect();
        let process = self.peers.processes.get_mut(id).expect("looked at before");
        let mut lost = std::mem::take(&mut process.lost);
        for member in members {
            if let Some(member) = self.sessions.members.get_mut(&member) {
                lost.append(&mut member.failed);
            }
        }
        let process = self.peers.processes.get_mut(id).expect("looked at before");
        if lost.is_empty() && failed.is_none() {
            process.departure = Departure::Done;
            self.timers.set(turn.tick.boot, Timer::TearDown(id));
            self.tell_ticket(id, turn);
            return Ok(Reply::Done);
        }
        process.departure = Departure::No;
        if lost.is_empty() {
            let Fault { code, message: why, .. } = failed.expect("something failed").into();
            let message = format!(
                "not everything could be made durable, and nothing was torn down: {why}; \
                 try again, or log off"
            );
            let fault = Fault::new(code, message);
            let detail = Some(silent).filter(|silent| !silent.is_empty());
            return Err(match detail {
                Some(silent) => fault.with(FaultDetail::Providers(silent)),
                None => fault,
            });
        }
        if !askers.iter().any(|asker| self.peers.connections.contains_key(&asker.connection)) {
            // The connections that asked are closed, so the next one is told.
            self.note_lost(id, lost.iter().cloned());
        }
        Err(Self::failed_fault(lost))
    }

    /// Removes the members of a process whose Do succeeded, after it has its answer.
    pub(crate) fn tear_down(&mut self, id: ProcessId, turn: &mut Turn) {
        let members = self.members_of(id).into_iter().map(|(_, id)| id).collect();
        self.remove_members(members, LeaveReason::FastShutdown, turn);
        let connections = self.peers.processes.get(id).map(|p| p.connections.clone());
        for connection in connections.unwrap_or_default() {
            let held = self
                .peers
                .connections
                .get_mut(&connection)
                .map(|c| std::mem::take(&mut c.references));
            self.drop_references(&held.unwrap_or_default(), turn);
        }
    }
}

/// The places of a session's working providers of a phase.
fn loaded(session: &Session, phase: usize) -> Vec<usize> {
    let providers = session.providers.iter().enumerate();
    let loaded = providers.filter(|(_, p)| p.kind.phase() == phase && is_loaded(p));
    loaded.map(|(place, _)| place).collect()
}

fn is_loaded(provider: &Provider) -> bool {
    provider.state == ProviderState::Available && provider.is_in_use()
}

/// The fault that every call of a process gets after it has left.
pub(crate) fn shut_down() -> Fault {
    let message = "this process was shut down by DoFastShutdown; it takes no calls any more";
    Fault::new(Code::E_NOT_INITIALIZED, message)
}

/// The fault of a Query that says no. It names the providers that refused, if this broker asked them.
pub(crate) fn refused(providers: &BTreeSet<String>) -> Fault {
    if providers.is_empty() {
        let message = "QueryFastShutdown says no to this process, for its life: fast_shutdown_behavior is \"disabled\" or was \
                       when it asked, or an earlier broker said so; log off instead";
        return Fault::new(Code::E_NO_SUPPORT, message);
    }
    let names: Vec<_> = providers.iter().cloned().collect();
    let message = format!(
        "these providers do not support a fast shutdown, or did not answer in time: {}; \
         log off instead",
        names.join(", ")
    );
    Fault::new(Code::E_NO_SUPPORT, message).with(FaultDetail::Providers(names))
}
