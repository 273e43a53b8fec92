//! What the broker is doing, for people and for the status table.

use sundown_protocol::reply::{
    BrokerStatus, LimitStatus, MemberStatus, ProviderStatus, Reply, Resource, SessionStatus,
    Status, StatusRow, status_code,
};
use sundown_protocol::{Code, Fault, MemberId, SessionId};

use crate::account::AccountId;
use crate::answer::{Ask, Done};
use crate::broker::Broker;
use crate::connection::Asker;
use crate::event::Turn;
use crate::member::{Member, MemberState};
use crate::provider::{ProviderError, ProviderType};
use crate::quota::Quota;
use crate::session::{Provider, ProviderState, Session, SessionState};
use crate::settings::{Limits, Linger};
use crate::then::AfterDone;

/// What is wrong with a provider that goes on. The first of a kind is kept; damage counts more than a wrong answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Something in it is damaged.
    Damage(String),
    /// It answered a call with something that is no answer to it.
    WrongAnswer(String),
}

impl Trouble {
    pub(crate) fn note(known: &mut Option<Self>, trouble: Self) {
        let counts = match (&*known, &trouble) {
            (None, _) | (Some(Self::WrongAnswer(_)), Self::Damage(_)) => true,
            (Some(_), _) => false,
        };
        if counts {
            *known = Some(trouble);
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Damage(what) => format!("damaged: {what}"),
            Self::WrongAnswer(what) => format!("wrong: {what}"),
        }
    }
}

impl Broker {
    /// `IMAPIStatus::ValidateState`: a transport really tries; of the others the state is known.
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
        let it = |p: &Provider| p.name == name && resource(p.kind) == kind;
        let Some(place) = session.providers.iter().position(it) else {
            let (profile, kind) = (&session.key.profile, kind.name());
            let message = format!("profile {profile:?} has no {kind} {name:?}");
            return Err(Fault::new(Code::E_NOT_FOUND, message));
        };
        let provider = &session.providers[place];
        if provider.kind == ProviderType::Transport && self.lanes.is_open(provider.lane) {
            let (lane, session) = (provider.lane, session.id);
            if provider.validating {
                let message = format!("somebody finds out just now whether {name} works");
                return Err(Fault::new(Code::E_BUSY, message));
            }
            let state = self.sessions.get_mut(&session).expect("a member's session outlives it");
            state.providers[place].validating = true;
            let after = AfterDone::Validated(asker, session, place);
            self.call(lane, caller, Ask::validate(), after, turn);
            return Ok(());
        }
        let result = match &provider.state {
            ProviderState::Failed(why) => Err(Fault::new(Code::E_LOGON_FAILED, why.clone())),
            _ => Ok(Reply::Done),
        };
        self.answer(asker, result, turn);
        Ok(())
    }

    /// What was out works again if somebody tried, and it did.
    pub(crate) fn validated(
        &mut self,
        asker: Asker,
        (session, place): (SessionId, usize),
        result: Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.providers[place].validating = false;
        }
        let works = result.is_ok();
        self.reply(asker, result.map(|Done| Reply::Done), turn);
        if works {
            self.try_reaching(session, place, turn);
            self.revive(session, place, turn);
        }
    }

    /// What `sundown status` shows to a user: everything, or only its own sessions and those it administers. Sessions that
    /// only close are not listed any more, and those that only look for what is to be given up never are;
    /// those that could not start are, until one can.
    pub(crate) fn status(&self, uid: u32) -> Status {
        let only_looks = |s: &&Session| s.adopted && self.settings.shutdown.linger == Linger::Off;
        let listed = |s: &&Session| {
            !matches!(s.state, SessionState::Closing { .. })
                && !only_looks(s)
                && (s.key.user == uid || self.administers(uid, &s.key.profile))
        };
        let started = self.sessions.values().filter(listed).map(|s| self.session_status(s));
        let failed = self
            .failed
            .iter()
            .filter(|((profile, user), _)| *user == uid || self.administers(uid, profile));
        let facts = &self.settings.broker;
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: facts.pid,
            socket: facts.socket.clone(),
            started: facts.started,
            sessions: started.chain(failed.map(|(_, status)| status.clone())).collect(),
            queue: self.queue_counts(),
            waiting_for_mail_member: self.waiting_for_mail(),
        }
    }

    /// What `sundown status` shows of the broker itself, to everybody.
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
        let (mut limits, accounts) = (Vec::new(), &self.processes.accounts);
        for what in Quota::ALL {
            if let Some((name, most)) = what.of_broker(&self.settings.limits) {
                let used = accounts.used(AccountId::BROKER).of(what);
                limits.push(limit(name, most as u64, Some(used)));
            }
            let (name, most) = what.of_process(&self.settings.limits);
            let used = accounts.processes().map(|used| used.of(what)).max();
            limits.push(limit(name, most as u64, Some(used.unwrap_or(0))));
            let (name, most) = what.of_user(&self.settings.limits);
            let bound = accounts.users().filter(|(uid, _)| self.is_bound(*uid));
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

    fn session_status(&self, session: &Session) -> SessionStatus {
        SessionStatus {
            id: session.id,
            profile: session.key.profile.clone(),
            shared: session.is_shared(),
            state: session.state_name().into(),
            members: session.members.iter().map(|m| self.member_status(*m)).collect(),
            providers: session.providers.iter().map(|p| self.provider_status(p)).collect(),
            references: self.references_of(session),
        }
    }

    fn provider_status(&self, provider: &Provider) -> ProviderStatus {
        let engine = provider.engine.and_then(|engine| self.engines.get(&engine));
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

    /// What is shown of a session whose providers do not let it start: those.
    pub(crate) fn failed_status(&self, id: SessionId) -> Option<SessionStatus> {
        let session = self.sessions.get(&id).filter(|s| s.profile.is_some())?;
        let failed = |p: &&Provider| matches!(p.state, ProviderState::Failed(_));
        let providers = session.providers.iter().filter(failed).map(|p| self.provider_status(p));
        let providers = providers.collect();
        Some(SessionStatus { state: "failed".into(), providers, ..self.session_status(session) })
    }

    fn member_status(&self, id: MemberId) -> MemberStatus {
        let member = &self.members[&id];
        let state = match member.state {
            MemberState::Attached => "attached",
            MemberState::Draining(_) if self.is_held(id) => "waiting",
            MemberState::Draining(_) => "draining",
        };
        MemberStatus {
            id,
            peer: self.peer(id),
            uid: self.processes.get(member.process).map_or(u32::MAX, |p| p.uid),
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
        let waiting = self.engines.values().map(|e| e.counts.iter().sum::<i64>()).sum::<i64>();
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
        for provider in &session.providers {
            let hidden = provider.kind == ProviderType::Transport && !member.has_mail();
            if provider.state != ProviderState::Gone && !hidden {
                let (resource, code) = (resource(provider.kind), code(provider));
                rows.push(row(&provider.name, resource, code, &state_text(provider), 0));
            }
        }
        rows
    }
}

fn resource(provider_type: ProviderType) -> Resource {
    match provider_type {
        ProviderType::Transport => Resource::TransportProvider,
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
        _ => works,
    }
}

fn state_text(provider: &Provider) -> String {
    match &provider.state {
        ProviderState::Configured | ProviderState::LoggingOn(_) => "starting".into(),
        ProviderState::Available if provider.reach.waits() => "unreachable".into(),
        ProviderState::Available => "available".into(),
        ProviderState::Failed(why) => format!("failed: {why}"),
        ProviderState::LoggingOff => "logging off".into(),
        ProviderState::Gone => "logged off".into(),
    }
}
