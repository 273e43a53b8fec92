//! The state of the broker, for people and for the status table.

use std::ops::Bound::{Excluded, Unbounded};

use sundown_protocol::reply::{
    BrokerStatus, LimitStatus, MemberStatus, Peer, ProfileInUse, ProviderHealth, ProviderStatus,
    Reply, Resource, SessionHealth, SessionStatus, Status, StatusRow, status_code,
};
use sundown_protocol::request::StatusCursor;
use sundown_protocol::{Code, Fault, MemberId, SessionId};

use crate::broker::Broker;
use crate::flows::sending::reach::WORKS;
use crate::ground::event::{Trouble, Turn};
use crate::ground::provider::{AskedBy, MailboxCall, ProviderError, ProviderType};
use crate::ground::settings::{Limits, Linger, Right};
use crate::ground::timers::Timer;
use crate::peers::account::AccountId;
use crate::peers::connection::Asker;
use crate::peers::quota::Quota;
use crate::providers::ask::{Ask, Done};
use crate::providers::view::{Provider, ProviderState};
use crate::queue::engine::Engine;
use crate::sessions::member::{Member, MemberState};
use crate::sessions::session::{Session, SessionState};
use crate::then::AfterDone;

/// The most bytes of a page of the status. With its framing a page must fit into a frame.
const PAGE_BYTES: usize = 640 << 10;

/// The most rows of a page: sessions, members and references. A page must not cost much more than another request.
const PAGE_ROWS: usize = 4_096;

/// The session of a cursor into the sessions that could not start.
const FAILED: u64 = u64::MAX;

impl Broker {
    /// `IMAPIStatus::ValidateState`: a transport is really tried; the state of the other providers is known.
    pub(crate) fn validate_state(
        &mut self,
        asker: Asker,
        id: MemberId,
        (kind, name): (Resource, &str),
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let caller = Self::caller(member);
        let session = self.session_of(member);
        let it = |p: &Provider| p.name == name && resource(p.kind) == kind && p.is_in_use();
        let Some(place) = session.providers.iter().position(it) else {
            let (profile, kind) = (&session.key.profile, kind.name());
            let message = format!("profile {profile:?} has no {kind} {name:?}");
            return Err(Fault::new(Code::E_NOT_FOUND, message));
        };
        let provider = &session.providers[place];
        if is_tried(provider) && self.providers.is_open(provider.lane) {
            let (lane, session, provider_type) = (provider.lane, session.id, provider.kind);
            if provider.validating {
                let message = format!("another request is checking just now whether {name} works");
                return Err(Fault::new(Code::E_BUSY, message));
            }
            let state = self.sessions.all.get_mut(session).expect("a member's session outlives it");
            state.providers[place].validating = true;
            let after = AfterDone::Validated(asker, session, place);
            let ask = match provider_type {
                ProviderType::Mailbox => Ask::mailbox(MailboxCall::Validate),
                _ => Ask::validate(AskedBy::User { word: self.number() }),
            };
            self.call(lane, caller, ask, after, turn);
            return Ok(());
        }
        let result = match &provider.state {
            ProviderState::Failed(why) => Err(Fault::new(Code::E_LOGON_FAILED, why.clone())),
            _ => Ok(Reply::Done),
        };
        self.answer(asker, result, turn);
        Ok(())
    }

    /// Handles the answer of a transport or a mailbox whether it works. If it does and is disabled, it is enabled again.
    pub(crate) fn validated(
        &mut self,
        asker: Asker,
        (session, place): (SessionId, usize),
        result: Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        let mut is_mailbox = false;
        if let Some(session) = self.sessions.all.get_mut(session) {
            let provider = &mut session.providers[place];
            provider.validating = false;
            is_mailbox = provider.kind == ProviderType::Mailbox;
        }
        let works = result.is_ok();
        match &result {
            said if is_mailbox => {
                self.mailbox_fares(session, place, said.as_ref().map(|Done| &()), turn);
            }
            Ok(Done) => self.note_use((session, place), true, WORKS, turn),
            Err(error) => {
                self.note_failed_use((session, place), error, turn);
                self.log_error_of(session, place, error, turn);
            }
        }
        self.reply(asker, result.map(|Done| Reply::Done), turn);
        if works {
            self.log_end_of(session, place, &Trouble::ALL, turn);
            self.try_one(session, place, turn);
            self.revive(session, place, turn);
        }
    }

    /// A page of what `sundown status` shows to a user: everything, or only the user's own sessions and those they administer.
    /// Sessions that are closing are not listed, nor are sessions that only look for messages to give up. Sessions that could not
    /// start are listed after the others, until one starts.
    pub(crate) fn status_page(
        &self,
        uid: u32,
        after: StatusCursor,
    ) -> (Status, Option<StatusCursor>) {
        self.status_on(Page::new(PAGE_BYTES, PAGE_ROWS), uid, after)
    }

    /// [`status_page`](Self::status_page) with a page of any size.
    pub(crate) fn status_on(
        &self,
        mut page: Page,
        uid: u32,
        after: StatusCursor,
    ) -> (Status, Option<StatusCursor>) {
        let facts = &self.settings.broker;
        let next = self.fill(&mut page, uid, after);
        let (queue, waiting_for_mail_member) = self.counts_for(uid);
        let status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: facts.pid,
            socket: facts.socket.clone(),
            started: facts.started,
            sessions: page.sessions,
            queue,
            waiting_for_mail_member,
        };
        (status, next)
    }

    /// The first page, for clients that know no further pages. A member without a number marks that something is missing.
    pub(crate) fn status(&self, uid: u32) -> Status {
        let (mut status, next) = self.status_page(uid, StatusCursor::default());
        if next.is_some()
            && let Some(session) = status.sessions.last_mut()
        {
            session.members.push(MemberStatus {
                id: MemberId(0),
                peer: Peer { pid: 0, program: "and more".into() },
                uid: u32::MAX,
                since: 0,
                state: "cut".into(),
                no_mail: false,
                objects: 0,
            });
        }
        status
    }

    /// Fills a page. Returns where the next one begins.
    fn fill(&self, page: &mut Page, uid: u32, after: StatusCursor) -> Option<StatusCursor> {
        let only_looks = |s: &Session| s.adopted && self.settings.shutdown.linger == Linger::Off;
        // Checked once, so that the broker's own user is not looked up for each session.
        let sees_all = self.right(uid, &[]) >= Right::Admin;
        let sees =
            |user: u32, profile: &str| sees_all || user == uid || self.administers(uid, profile);
        for session in self.sessions.all.range(SessionId(after.session)..).map(|(_, s)| s) {
            let listed = !matches!(session.state, SessionState::Closing { .. })
                && !only_looks(session)
                && sees(session.key.user, &session.key.profile);
            if listed && let Some(next) = self.fill_from(page, session, after) {
                return Some(next);
            }
        }
        // After the sessions, the cursor counts the sessions that could not start.
        let listed = after.session == FAILED;
        let skipped = if listed { after.member as usize } else { 0 };
        for (place, ((profile, user), failed)) in
            self.sessions.failed.iter().enumerate().skip(skipped)
        {
            if !sees(*user, profile) {
                continue;
            }
            let header = header_size(failed);
            if !page.has_room_for(header) {
                return Some(StatusCursor { session: FAILED, member: place as u64, reference: 0 });
            }
            page.take(header);
            page.sessions.push(failed.clone());
        }
        None
    }

    /// Puts a session on a page, beginning at the cursor if it is in this session.
    fn fill_from(
        &self,
        page: &mut Page,
        session: &Session,
        after: StatusCursor,
    ) -> Option<StatusCursor> {
        let begun = after.session == session.id.0;
        let mut shown = self.session_status(session);
        if begun {
            shown.providers.clear();
        } else {
            let header = header_size(&shown);
            if !page.has_room_for(header) {
                return Some(in_front_of(session.id));
            }
            page.take(header);
        }
        let first = StatusCursor { session: session.id.0, member: 0, reference: 0 };
        let mut last = if begun { after } else { first };
        let next = loop {
            // The references of a member are listed after it. A cursor comes from a client: the member may be of another session,
            // or gone.
            let granter = session.members.get(&MemberId(last.member)).copied();
            let held = granter.map(|id| self.references_behind(id, MemberId(last.reference)));
            let mut full = false;
            for (id, reference) in held.into_iter().flatten() {
                let size = 64 + reference.holder.program.len();
                if !page.has_room_for(size) {
                    full = true;
                    break;
                }
                page.take(size);
                shown.references.push(reference);
                last.reference = id.0;
            }
            let behind = (Excluded(MemberId(last.member)), Unbounded);
            let Some(member) = session.members.range(behind).next().filter(|_| !full) else {
                break full.then_some(last);
            };
            let row = self.member_status(*member);
            let size = 80 + row.peer.program.len() + row.state.len();
            if !page.has_room_for(size) {
                break Some(last);
            }
            page.take(size);
            shown.members.push(row);
            last = StatusCursor { session: session.id.0, member: member.0, reference: 0 };
        };
        if !begun || !shown.members.is_empty() || !shown.references.is_empty() {
            page.sessions.push(shown);
        }
        next
    }

    /// The queue's counts that a user may see. The broker's own user sees those of all stores, and the final ones. Other users see
    /// those of the stores whose profiles they administer; what a user has submitted is in the list of the queue.
    fn counts_for(&self, uid: u32) -> ([u64; 9], u64) {
        if self.right(uid, &[]) >= Right::Admin {
            return (self.queue_counts(), self.waiting_for_mail());
        }
        let seen = |e: &&Engine| {
            let sessions = e.sessions.iter().filter_map(|id| self.sessions.all.get(id));
            let mut profiles = sessions.map(|s| &s.key.profile).peekable();
            profiles.peek().is_some() && profiles.all(|p| self.administers(uid, p))
        };
        let mut queue = [0; 9];
        let mut waiting = 0;
        for engine in self.queues.engines.values().filter(seen) {
            engine.add_counts(&mut queue);
            waiting += engine.waiting_for_mail();
        }
        (queue, waiting)
    }

    /// How the providers fare of the sessions behind this one that a user may see, as many as fit into a frame.
    pub(crate) fn health_page(&self, uid: u32, after: SessionId, turn: &Turn) -> Reply {
        let sees_all = self.right(uid, &[]) >= Right::Admin;
        let mut room = PAGE_BYTES;
        let (mut sessions, mut next) = (Vec::new(), None);
        let behind = (Excluded(after), Unbounded);
        for (looked_at, (id, session)) in self.sessions.all.range(behind).enumerate() {
            let key = &session.key;
            let sees = sees_all || key.user == uid || self.administers(uid, &key.profile);
            if session.closes() || session.profile.is_none() || !sees {
                continue;
            }
            let health = self.session_health(session, turn);
            let size = health_size(&health);
            if !sessions.is_empty() && (size > room || looked_at >= PAGE_ROWS) {
                next = sessions.last().map(|last: &SessionHealth| last.session);
                break;
            }
            room = room.saturating_sub(size);
            debug_assert_eq!(*id, session.id);
            sessions.push(health);
        }
        let requests = sees_all.then_some(self.peers.requests_made);
        Reply::Health { sessions, next, requests }
    }

    fn session_health(&self, session: &Session, turn: &Turn) -> SessionHealth {
        let in_use = &session.version;
        let profile = ProfileInUse {
            changed: in_use.version.changed,
            read: in_use.read,
            note: in_use.note(),
        };
        let health = |(place, p): (usize, &Provider)| {
            let reach = self.timers.at(Timer::Reach(session.id, place));
            let next = p.tried_again_at().or(reach).filter(|_| p.is_in_use());
            let next_try = next.map(|at| {
                turn.tick.millis() + at.saturating_sub(turn.tick.boot).as_millis() as u64
            });
            ProviderHealth {
                name: p.name.clone(),
                kind: resource(p.kind),
                last: p.last.clone(),
                worked: p.worked,
                next_try,
                in_flight: p.in_flight as u32,
            }
        };
        let providers = shown_places(session).map(health).collect();
        SessionHealth { session: session.id, profile, providers }
    }

    /// What `sundown status` shows of the broker itself, to every user.
    pub(crate) fn broker_status(&self) -> BrokerStatus {
        let Limits { requests, request_bytes, .. } = self.settings.limits;
        let Limits { outbox_bytes, user_outbox_bytes, total_outbox_bytes, .. } =
            self.settings.limits;
        let Limits { message, recipients, .. } = self.settings.limits;
        let limit = |name: &str, most: u64, used: Option<usize>| LimitStatus {
            name: name.into(),
            most,
            used: used.map(|used| used as u64),
        };
        let (mut limits, accounts) = (Vec::new(), &self.peers.processes.accounts);
        for what in Quota::ALL {
            if let Some((name, most)) = what.of_broker(&self.settings.limits) {
                let used = accounts.used(AccountId::BROKER).of(what);
                limits.push(limit(name, most as u64, Some(used)));
            }
            let (name, most) = what.of_process(&self.settings.limits);
            let used = accounts.processes().map(|used| used.of(what)).max();
            limits.push(limit(name, most as u64, Some(used.unwrap_or(0))));
            let (name, most) = what.of_user(&self.settings.limits);
            let bound = accounts.users().filter(|(uid, _)| self.settings.binds(*uid));
            let used = bound.map(|(_, used)| used.of(what)).max();
            limits.push(limit(name, most as u64, Some(used.unwrap_or(0))));
        }
        limits.extend([
            limit("requests", requests.into(), None),
            limit("request_bytes", request_bytes, None),
            limit("outbox_bytes", outbox_bytes as u64, None),
            limit("user_outbox_bytes", user_outbox_bytes as u64, None),
            limit("total_outbox_bytes", total_outbox_bytes as u64, None),
            limit("message", message, None),
            limit("recipients", recipients as u64, None),
        ]);
        BrokerStatus { previous: self.settings.broker.previous.clone(), limits }
    }

    /// A session without its members and references.
    fn session_status(&self, session: &Session) -> SessionStatus {
        SessionStatus {
            id: session.id,
            profile: session.key.profile.clone(),
            shared: session.is_shared(),
            state: session.state_name().into(),
            members: Vec::new(),
            providers: shown(session).map(|p| self.provider_status(p)).collect(),
            references: Vec::new(),
        }
    }

    fn provider_status(&self, provider: &Provider) -> ProviderStatus {
        let engine = provider.engine.and_then(|engine| self.queues.engines.get(&engine));
        let trouble = engine.map_or(&provider.trouble, |e| &e.trouble).as_ref();
        let status = match trouble.filter(|_| provider.state == ProviderState::Available) {
            Some(trouble) => trouble.text(),
            None => match provider.late {
                Some(call) if provider.state == ProviderState::Available => {
                    format!("late: no answer to {call} in time")
                }
                _ => state_text(provider),
            },
        };
        ProviderStatus {
            name: provider.name.clone(),
            kind: resource(provider.kind),
            status,
            fast_shutdown: provider.fast_shutdown.name().into(),
        }
    }

    /// The status of a session that failed to start, with the providers that failed.
    pub(crate) fn failed_status(&self, id: SessionId) -> Option<SessionStatus> {
        let session = self.sessions.all.get(&id).filter(|s| s.profile.is_some())?;
        let failed = |p: &&Provider| matches!(p.state, ProviderState::Failed(_));
        let providers = session.providers.iter().filter(failed).map(|p| self.provider_status(p));
        let providers = providers.collect();
        Some(SessionStatus { state: "failed".into(), providers, ..self.session_status(session) })
    }

    fn member_status(&self, id: MemberId) -> MemberStatus {
        let member = &self.sessions.members[&id];
        let state = match member.state {
            MemberState::Attached => "attached",
            MemberState::Draining(_) if self.is_held(id) => "waiting",
            MemberState::Draining(_) => "draining",
        };
        MemberStatus {
            id,
            peer: self.peer(id),
            uid: self.peers.processes.get(member.process).map_or(u32::MAX, |p| p.uid),
            since: member.since,
            state: state.into(),
            no_mail: !member.has_mail(),
            objects: member.objects.len() as u64,
        }
    }

    /// The rows of a session's status table (STAT-1). A member without mail sees no transports (LOGON-15).
    pub(crate) fn status_rows(&self, member: &Member) -> Vec<StatusRow> {
        let session = self.session_of(member);
        let row = |name: &str, resource, code, text: &str, methods| StatusRow {
            name: name.into(),
            resource,
            code,
            text: text.into(),
            methods,
        };
        let engines = session.engines().filter_map(|(_, engine)| self.queues.engines.get(&engine));
        let waiting = engines.map(|e| e.counts.iter().sum::<i64>()).sum::<i64>();
        let spooler = if session.with_mail > 0 || session.state == SessionState::Memberless {
            status_code::AVAILABLE
        } else {
            status_code::FAILURE
        };
        let mut rows = vec![
            row("Sundown", Resource::Subsystem, status_code::AVAILABLE, session.state_name(), 0),
            row(
                "Spooler",
                Resource::Spooler,
                spooler,
                &format!("{waiting} submissions in the queue"),
                status_code::METHOD_FLUSH_QUEUES,
            ),
            row("Address Book", Resource::AddressBook, status_code::AVAILABLE, "", 0),
        ];
        for provider in shown(session) {
            let is_mail = matches!(provider.kind, ProviderType::Transport | ProviderType::Mailbox);
            let hidden = is_mail && !member.has_mail();
            if provider.state != ProviderState::Gone && !hidden {
                let (resource, code) = (resource(provider.kind), code(provider));
                rows.push(row(&provider.name, resource, code, &state_text(provider), 0));
            }
        }
        rows
    }
}

/// The providers of a session that are shown, each with its place: first those in use, as the profile lists them.
fn shown_places(session: &Session) -> impl Iterator<Item = (usize, &Provider)> {
    let there = |p: &Provider| p.is_in_use() || p.state != ProviderState::Gone;
    let providers = session.providers.iter().enumerate();
    let mut shown: Vec<_> = providers.filter(|(_, p)| there(p)).collect();
    let kind = |p: &Provider| ProviderType::ALL.iter().rev().position(|k| *k == p.kind);
    shown.sort_by_key(|(place, p)| (!p.is_in_use(), kind(p), p.spec, *place));
    shown.into_iter()
}

fn shown(session: &Session) -> impl Iterator<Item = &Provider> {
    shown_places(session).map(|(_, provider)| provider)
}

/// The approximate size of a session's health in a frame, in bytes.
fn health_size(health: &SessionHealth) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let last = |p: &ProviderHealth| p.last.as_ref().map_or(0, |last| 24 + last.text.len());
    let providers = health.providers.iter().map(|p| 64 + p.name.len() + last(p)).sum::<usize>();
    64 + text(&health.profile.note) + providers
}

/// The cursor after everything of the sessions before this one.
fn in_front_of(SessionId(session): SessionId) -> StatusCursor {
    StatusCursor { session: session - 1, member: u64::MAX, reference: u64::MAX }
}

/// A page, and the room left on it.
#[derive(Debug)]
pub(crate) struct Page {
    sessions: Vec<SessionStatus>,
    /// In bytes.
    room: usize,
    /// In rows.
    rows: usize,
    filled: Filled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Nothing,
    Something,
}

impl Page {
    pub(crate) fn new(room: usize, rows: usize) -> Self {
        Self { sessions: Vec::new(), room, rows, filled: Filled::Nothing }
    }

    /// Whether a row of about this many bytes fits. The first row always does, so that each page makes progress.
    fn has_room_for(&self, size: usize) -> bool {
        self.filled == Filled::Nothing || (self.rows > 0 && size <= self.room)
    }

    fn take(&mut self, size: usize) {
        self.room = self.room.saturating_sub(size);
        self.rows = self.rows.saturating_sub(1);
        self.filled = Filled::Something;
    }
}

/// The approximate size of a session in a frame without its members, in bytes.
fn header_size(session: &SessionStatus) -> usize {
    let provider = |p: &ProviderStatus| 64 + p.name.len() + p.status.len() + p.fast_shutdown.len();
    let providers = session.providers.iter().map(provider).sum::<usize>();
    96 + session.profile.len() + session.state.len() + providers
}

/// Whether a provider is really tried when somebody asks for its state. A mailbox that has not logged on takes no calls.
fn is_tried(provider: &Provider) -> bool {
    match provider.kind {
        ProviderType::Transport => true,
        ProviderType::Mailbox => provider.state == ProviderState::Available,
        ProviderType::AddressBook | ProviderType::Store => false,
    }
}

fn resource(provider_type: ProviderType) -> Resource {
    match provider_type {
        ProviderType::Transport => Resource::TransportProvider,
        ProviderType::Mailbox => Resource::Mailbox,
        ProviderType::AddressBook => Resource::AddressBookProvider,
        ProviderType::Store => Resource::StoreProvider,
    }
}

fn code(provider: &Provider) -> u32 {
    let works = match provider.state {
        ProviderState::Available => status_code::AVAILABLE,
        _ => status_code::FAILURE,
    };
    match (provider.kind, provider.in_flight) {
        (ProviderType::Transport, 0) => works | status_code::OUTBOUND_ENABLED,
        (ProviderType::Transport, _) => {
            works | status_code::OUTBOUND_ENABLED | status_code::OUTBOUND_ACTIVE
        }
        (ProviderType::Mailbox, _) if provider.receives() => {
            works | status_code::INBOUND_ENABLED | status_code::INBOUND_ACTIVE
        }
        (ProviderType::Mailbox, _) if provider.watching => works | status_code::INBOUND_ENABLED,
        _ => works,
    }
}

fn state_text(provider: &Provider) -> String {
    match &provider.state {
        ProviderState::Configured | ProviderState::LoggingOn(_) => "starting".into(),
        _ if !provider.is_in_use() => match provider.in_flight {
            0 => "leaving: the profile has changed".into(),
            flying => format!("leaving: the profile has changed; it finishes messages: {flying}"),
        },
        ProviderState::Available if provider.reach.waits() => "unreachable".into(),
        ProviderState::Available
            if let Some(last) = provider.last.as_ref().filter(|last| !last.worked) =>
        {
            format!("failing: {}", last.text)
        }
        ProviderState::Available
            if provider.kind == ProviderType::Mailbox && !provider.watching =>
        {
            "resting".into()
        }
        ProviderState::Available => "available".into(),
        ProviderState::Failed(why) => format!("failed: {why}"),
        ProviderState::LoggingOff => "logging off".into(),
        ProviderState::Gone => "logged off".into(),
    }
}
