//! Takes submissions into the queue, and defines what their acknowledgement means.
//!
//! A submit is answered after the commit that contains it. A deferred submit is answered at once; if it is lost, the loss is noted
//! with the member, so that a flush or the logoff reports it once.

use sundown_mail::address;
use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{Durability, Notify, Route, Submit};
use sundown_protocol::{Code, EntryId, Event as News, Fault, FaultDetail, MemberId};

use crate::broker::Broker;
use crate::flows::sending::users::Asking;
use crate::flows::working::advise::StoreNews;
use crate::ground::event::{EngineId, LaneId, ProcessId, Turn};
use crate::ground::local::{AliasError, Expanded, Found};
use crate::ground::provider::{Effect, MessageContent, ProviderError, Recipient, Submission};
use crate::ground::settings::{Profile, TransportSpec};
use crate::peers::account::Charge;
use crate::peers::connection::Asker;
use crate::peers::process::Failed;
use crate::peers::quota::Quota;
use crate::providers::ask::{Ask, OneSubmission, Submitted};
use crate::providers::calls::Caller;
use crate::sessions::member::Waits;
use crate::then::{AfterDone, AfterSubmission};

/// A submission being written to its store.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct InFlight {
    /// The request that waits for the answer; `None` when it was answered on acceptance.
    pub(crate) asker: Option<Asker>,
    pub(crate) member: MemberId,
    pub(crate) process: ProcessId,
    pub(crate) bytes: u64,
    pub(crate) engine: EngineId,
    pub(crate) record: u128,
    /// The upload that the submission uses.
    pub(crate) upload: Option<u64>,
    /// When it was submitted. The time tells this submission in the store from an earlier one with the same key.
    pub(crate) submitted: u64,
    /// The memory charged for a submission that was answered on acceptance.
    pub(crate) charge: Option<Box<Charge>>,
}

/// A submission that is counted as being written, and was not given to its store yet.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Counted {
    pub(crate) submission: Box<Submission>,
    pub(crate) content: MessageContent,
    pub(crate) in_flight: InFlight,
    pub(crate) caller: Caller,
    pub(crate) lane: LaneId,
    pub(crate) when: Durability,
}

/// What is unknown about a submission after a failed write that may have been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Whether it is stored, with this submit time and at a place in the queue after `behind`.
    Submitted { at: u64, behind: u64 },
    /// Whether it is still in the state under which it is counted.
    Changed(SubmissionState),
}

impl Broker {
    pub(crate) fn submit(
        &mut self,
        asker: Asker,
        submit: Submit,
        route: Option<Box<Route>>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let id = submit.member;
        self.attached(asker, id)?;
        self.refuse_while_stopping()?;
        let recipients = distinct(submit.recipients);
        self.check_recipients(&recipients)?;
        if submit.report.notify.0 & !Notify::KNOWN != 0 {
            let message = format!("report flags 0x{:X} are not known", submit.report.notify.0);
            return Err(Fault::new(Code::E_UNKNOWN_FLAGS, message));
        }
        let member = self.member(asker, id)?;
        let session = self.session_of(member);
        let (session, profile) = (session.id, session.profile());
        let from = submit.from.unwrap_or_else(|| profile.identity.clone());
        if !from.is_empty() {
            check_sender(&from, &profile.identity)?;
        }
        let route = route.and_then(|route| needed(route, &from));
        let way = Way::of(&from, route.as_deref());
        let unexpanded = profile.local.asks_the_system().then(|| recipients.clone());
        let routed = self.routed(profile, recipients, way, None);
        let profile = profile.name.clone();
        if routed.is_err() {
            // By now the profile's file may have what is missing.
            self.look_at_file(session, turn);
        }
        let (recipients, unknown) = match routed? {
            Expanded::To(recipients) => (recipients, None),
            Expanded::Ask(names) => (Vec::new(), Some(names)),
        };
        let member = self.member(asker, id)?;
        let (engine, process) = (self.engine_for(member, submit.store)?, member.process);
        let (no_mail, caller) = (!member.has_mail(), Self::caller(member));
        let (content, uploaded) = self.take_content(id, submit.store, submit.content)?;
        if let Some(charge) = uploaded {
            self.peers.processes.accounts.give_back(charge);
        }
        let uid = self.peers.processes.get(process).map_or(u32::MAX, |p| p.uid);
        let now = turn.tick.millis();
        let submission = Submission {
            record: submit.key.0,
            profile,
            uid,
            from,
            recipients: recipients.into_iter().map(queued).collect(),
            subject: String::new(),
            size: 0,
            order: 0,
            no_mail,
            attempts: 0,
            due: now,
            submitted: now,
            last_error: None,
            report: submit.report,
            route,
            born: self.queues.engines.get(&engine).map(|e| e.ran(turn.tick.boot)),
            delay_told: false,
        };
        let entry = EntryId { store: self.store_uid(engine), record: submit.key.0 };
        turn.errand.entry = Some(entry);
        let mut in_flight = InFlight {
            charge: None,
            asker: Some(asker),
            member: id,
            process,
            bytes: asker.bytes.unwrap_or(0),
            engine,
            record: submit.key.0,
            upload: match &content {
                MessageContent::Uploaded(number) => Some(*number),
                MessageContent::Inline(_) => None,
            },
            submitted: now,
        };
        let lane = self.count(&in_flight);
        if let (Some(names), Some(recipients)) = (unknown, unexpanded) {
            let (submission, when) = (Box::new(submission), submit.when);
            let counted = Counted { submission, content, in_flight, caller, lane, when };
            self.find_users(names, Asking::new(counted, recipients, session, turn), turn);
            return Ok(());
        }
        let sync = self.accept(&mut in_flight, submit.when, turn);
        let ask = Ask::submit(Box::new(submission), content, sync == Durability::Deferred);
        self.call(lane, caller, ask, in_flight, turn);
        Ok(())
    }

    /// Counts a submission as one that is being written, by this lane.
    #[inline]
    fn count(&mut self, in_flight: &InFlight) -> LaneId {
        let InFlight { member, process, bytes, engine, .. } = *in_flight;
        let member = self.sessions.members.get_mut(&member).expect("looked at before");
        member.unwritten += 1;
        let process = self.peers.processes.get_mut(process).expect("it is connected");
        process.unwritten += bytes;
        let state = self.queues.engines.get_mut(engine).expect("it is open");
        state.accepted += 1;
        state.write
    }

    /// The opposite of [`count`](Self::count).
    #[inline]
    pub(crate) fn uncount(&mut self, in_flight: &InFlight) {
        if let Some(process) = self.peers.processes.get_mut(in_flight.process) {
            process.unwritten -= in_flight.bytes;
        }
        if let Some(state) = self.queues.engines.get_mut(in_flight.engine) {
            state.accepted -= 1;
            // A session without members may have stayed only for this submit, even if the submit was refused.
            state.stirred = true;
        }
        if let Some(member) = self.sessions.members.get_mut(&in_flight.member) {
            member.unwritten -= 1;
        }
    }

    /// Gives a submission that waited for its recipients to its store.
    pub(crate) fn give_to_store(&mut self, counted: Counted, turn: &mut Turn) {
        let Counted { submission, content, mut in_flight, caller, lane, when } = counted;
        let sync = self.accept(&mut in_flight, when, turn);
        let ask = Ask::submit(submission, content, sync == Durability::Deferred);
        self.call(lane, caller, ask, in_flight, turn);
    }

    /// Answers a submission on acceptance, if it may be; how its store may write it.
    #[inline]
    fn accept(
        &mut self,
        in_flight: &mut InFlight,
        when: Durability,
        turn: &mut Turn,
    ) -> Durability {
        let Some(asker) = in_flight.asker.filter(|_| when == Durability::Deferred) else {
            return Durability::Durable;
        };
        if !self.may_defer(asker) {
            return Durability::Durable;
        }
        // The request is answered before the submission is stored, and its connection may close.
        let bytes = in_flight.bytes as usize;
        let charge = self.peers.processes.book(in_flight.process, Quota::RequestBytes, bytes);
        (in_flight.asker, in_flight.charge) = (None, Some(Box::new(charge)));
        let entry = EntryId { store: self.store_uid(in_flight.engine), record: in_flight.record };
        let state = SubmissionState::Accepted;
        self.answer(asker, Ok(Reply::Submitted { entry, state }), turn);
        when
    }

    /// Whether the submission may be answered on acceptance. Such a submission waits in memory until it is durable. A process may
    /// hold only so much in memory, answered or not; beyond that a submit is answered when it is durable.
    fn may_defer(&self, asker: Asker) -> bool {
        let used = self.peers.processes.accounts.used(asker.account).of(Quota::RequestBytes);
        used as u64 <= self.settings.limits.request_bytes
    }

    /// The recipients with addresses of this host replaced, each of which has a transport. What aliases stand for counts as recipients.
    #[inline]
    pub(crate) fn routed(
        &self,
        profile: &Profile,
        recipients: Vec<String>,
        way: Way<'_>,
        found: Option<&Found>,
    ) -> Result<Expanded, Fault> {
        if profile.local.is_nothing() {
            check_routes(profile, &recipients, way)?;
            return Ok(Expanded::To(recipients));
        }
        self.expanded(profile, recipients, way, found)
    }

    fn expanded(
        &self,
        profile: &Profile,
        recipients: Vec<String>,
        way: Way<'_>,
        found: Option<&Found>,
    ) -> Result<Expanded, Fault> {
        let takes = |address: &str| way.transport(profile, address).is_some();
        let expanded = profile.local.expand(recipients, takes, found.unwrap_or(&Found::new()));
        let expanded = expanded.map_err(|why| {
            let message = format!("profile {:?}: {why}; nothing was stored", profile.name);
            let fault = Fault::new(Code::E_INVALID_PARAMETER, message);
            match why {
                AliasError::NoUser(names) => fault.with(FaultDetail::Addresses(names)),
                AliasError::Loop(_) | AliasError::Deep(_) | AliasError::Unsupported { .. } => fault,
            }
        })?;
        let Expanded::To(recipients) = expanded else { return Ok(expanded) };
        let recipients = distinct(recipients);
        self.check_recipients(&recipients)?;
        check_routes(profile, &recipients, way)?;
        Ok(Expanded::To(recipients))
    }

    fn check_recipients(&self, recipients: &[String]) -> Result<(), Fault> {
        if recipients.is_empty() {
            let message = "the message has no recipients; add a To, Cc or Bcc";
            return Err(Fault::new(Code::E_NO_RECIPIENTS, message));
        }
        let limit = self.settings.limits.recipients;
        if recipients.len() > limit {
            let message = format!(
                "{} recipients; the limit is {limit} ([limits] recipients)",
                recipients.len()
            );
            return Err(Fault::new(Code::E_TOO_BIG, message));
        }
        check_addresses(recipients)
    }

    pub(crate) fn submitted(
        &mut self,
        in_flight: &InFlight,
        result: Result<Submitted, ProviderError>,
        turn: &mut Turn,
    ) {
        let InFlight { asker, member: id, process, .. } = *in_flight;
        let InFlight { engine, record, upload, submitted, .. } = *in_flight;
        self.uncount(in_flight);
        let entry = EntryId { store: self.store_uid(engine), record };
        let new = match result {
            Ok(Submitted { submission, new }) => {
                let state = submission.state();
                self.own(id, engine, record, state);
                match asker {
                    Some(asker) => {
                        self.answer(asker, Ok(Reply::Submitted { entry, state }), turn);
                    }
                    None => self.tell_always(id, News::Durable(vec![entry]), turn),
                }
                new.then_some(submission)
            }
            Err(why) => {
                if why.effect == Effect::Unknown {
                    self.doubt_submit((engine, record), submitted, turn);
                }
                if let Some(upload) = upload {
                    self.discard_from(Some(engine), Caller::broker(None), upload, turn);
                }
                match asker {
                    Some(asker) => self.answer(asker, Err(why.into()), turn),
                    None => match self.sessions.members.get_mut(&id) {
                        Some(member) => member.failed.push(Failed { entry, why }),
                        None => self.note_lost(process, [Failed { entry, why }]),
                    },
                }
                None
            }
        };
        if let Some(submission) = new {
            let news = StoreNews::Created(sundown_protocol::request::Folder::OUTBOX);
            self.store_news(engine, (record, Some(submission.uid)), &news, turn);
            self.enqueue(engine, *submission, turn);
        }
        self.written(id, turn);
        self.written_of(process, turn);
    }

    /// Notes that it is unknown whether a failed submit was done, and asks the store. If a question about the same key is already
    /// open, this submit is not the one that stored the message.
    fn doubt_submit(
        &mut self,
        (engine, record): (EngineId, u128),
        submitted: u64,
        turn: &mut Turn,
    ) {
        let Some(state) = self.queues.engines.get_mut(engine).filter(|e| e.may_be_asked()) else {
            return;
        };
        if state.doubted.insert(record) {
            let doubt = Doubt::Submitted { at: submitted, behind: state.newest };
            self.find_out((engine, record), doubt, turn);
        }
    }

    /// Asks the store whether a failed write was done.
    pub(crate) fn find_out(
        &mut self,
        (engine, record): (EngineId, u128),
        doubt: Doubt,
        turn: &mut Turn,
    ) {
        let Some(lane) =
            self.queues.engines.get(&engine).filter(|e| e.may_be_asked()).map(|e| e.read)
        else {
            return;
        };
        let after = AfterSubmission::Doubted { engine, record, doubt };
        self.call(lane, Caller::broker(None), Ask::submission(record), after, turn);
    }

    /// Handles the store's answer about a doubtful write: a stored submission is sent and counted like any other.
    pub(crate) fn found_out(
        &mut self,
        (engine, record): (EngineId, u128),
        doubt: Doubt,
        result: Result<OneSubmission, ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(state) = self.queues.engines.get_mut(engine) else { return };
        match (doubt, result) {
            (Doubt::Submitted { at, behind }, result) => {
                // Another submit with the same key may have stored the message meanwhile, and then enqueued it.
                let doubted = state.doubted.remove(&record);
                let Ok(OneSubmission(submission)) = result else { return };
                // A submission from another time, or at a place up to what was counted then, was counted before.
                let new = submission.submitted == at && submission.order > behind;
                if doubted && new && !submission.state().is_final() {
                    self.enqueue(engine, submission, turn);
                }
            }
            (Doubt::Changed(_), Err(_)) => {}
            (Doubt::Changed(from), Ok(OneSubmission(submission))) => {
                let now = state.moved(from, &submission);
                if let Some(now) = now.filter(|now| now.is_final()) {
                    self.queues.finals[now as usize] += 1;
                    self.queues.tally.became(&submission.profile, now);
                }
                self.tell_owners((engine, record), submission.state(), turn);
            }
        }
    }

    /// Makes a submission a member's as long as both exist.
    fn own(&mut self, id: MemberId, engine: EngineId, record: u128, state: SubmissionState) {
        if let Some(member) = self.sessions.members.get_mut(&id)
            && !state.is_final()
        {
            let store = self.queues.engines.get_mut(engine).expect("it is open");
            let follows = member.follows() || member.pending.contains_key(&(engine, record));
            if store.own(record, id, follows) {
                member.note((engine, record), Some(waits(state)));
            } else {
                *member.unfollowed.entry(engine).or_default() += 1;
            }
        }
    }

    /// Continues a member's flushes and its logoff after one of its writes was answered.
    pub(crate) fn written(&mut self, id: MemberId, turn: &mut Turn) {
        let Some(member) = self.sessions.members.get_mut(&id) else { return };
        if member.unwritten == 0 && !member.flushes.is_empty() {
            let flushes = std::mem::take(&mut member.flushes);
            for asker in flushes {
                let failed = self
                    .sessions
                    .members
                    .get_mut(&id)
                    .map_or_else(Vec::new, |m| std::mem::take(&mut m.failed));
                let result = if failed.is_empty() {
                    Ok(Reply::Done)
                } else {
                    Err(Self::failed_fault(failed))
                };
                self.answer(asker, result, turn);
            }
        }
        self.check_leaving(id, turn);
    }

    /// The fault that names the accepted submissions that were lost, and why.
    pub(crate) fn failed_fault(failed: Vec<Failed>) -> Fault {
        let why = Fault::from(failed[0].why.clone());
        let message =
            format!("{} messages that were accepted are not stored: {}", failed.len(), why.message);
        let entries = failed.into_iter().map(|f| f.entry).collect();
        Fault::new(why.code, message).with(FaultDetail::Entries(entries))
    }

    pub(crate) fn flush(
        &mut self,
        asker: Asker,
        id: MemberId,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.member_mut(asker, id)?;
        if member.unwritten == 0 && member.failed.is_empty() {
            self.answer(asker, Ok(Reply::Done), turn);
            return Ok(());
        }
        member.flushes.push(asker);
        self.hurry(id, turn);
        self.written(id, turn);
        Ok(())
    }

    /// Has the stores of a member commit the deferred submissions now.
    pub(crate) fn hurry(&mut self, id: MemberId, turn: &mut Turn) {
        let member = &self.sessions.members[&id];
        if member.unwritten == 0 {
            return;
        }
        let caller = Self::caller(member);
        let engines: Vec<_> = self.session_of(member).engines().map(|(_, e)| e).collect();
        for engine in engines {
            let lane = self.queues.engines[&engine].write;
            self.call(lane, caller, Ask::flush(), AfterDone::Flushed(id), turn);
        }
    }
}

/// Whether a drain waits for a submission in this state.
pub(crate) fn waits(state: SubmissionState) -> Waits {
    match state {
        SubmissionState::Held | SubmissionState::Unknown => Waits::No,
        _ => Waits::Yes,
    }
}

pub(crate) fn queued(address: String) -> Recipient {
    Recipient { address, state: SubmissionState::Queued, intent: None, reply: None }
}

/// The recipients in their order, without duplicates.
fn distinct(mut recipients: Vec<String>) -> Vec<String> {
    // Most messages have one recipient.
    if recipients.len() > 1 {
        let mut seen = std::collections::HashSet::new();
        recipients.retain(|r| seen.insert(crate::address::recipient(r).into_owned()));
    }
    recipients
}

/// Refuses a sender that is no address. The profile's identity is one, unless it is made of the name of a host that is no domain:
/// then the host's name is the reason, and not what the program has written.
fn check_sender(sender: &str, identity: &str) -> Result<(), Fault> {
    let Err(why) = address::split(sender) else { return Ok(()) };
    let mut message = format!("the sender {sender:?} is not an address: {why}");
    if let (Err(_), Some((_, host))) = (address::split(identity), identity.rsplit_once('@'))
        && sender.ends_with(&format!("@{host}"))
    {
        message += &format!(
            "; {host:?} is the name of this host: set `identity` in the profile to an address, name the sender of the message, or give \
             the host a name that is a domain"
        );
    }
    let wrong = FaultDetail::Addresses(vec![sender.to_owned()]);
    Err(Fault::new(Code::E_INVALID_PARAMETER, message).with(wrong))
}

/// Refuses invalid addresses, and names all of them.
pub(crate) fn check_addresses(addresses: &[String]) -> Result<(), Fault> {
    let wrong: Vec<_> =
        addresses.iter().filter_map(|a| address::split(a).err().map(|why| (a, why))).collect();
    let Some((first, why)) = wrong.first() else { return Ok(()) };
    let message = format!("{first:?} is not an address: {why}");
    let all = wrong.iter().map(|(a, _)| (*a).clone()).collect();
    Err(Fault::new(Code::E_INVALID_PARAMETER, message).with(FaultDetail::Addresses(all)))
}

/// What chooses the transport of a message beside its recipients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    author: &'a str,
    account: Option<&'a str>,
}

impl<'a> Way<'a> {
    fn of(from: &'a str, route: Option<&'a Route>) -> Self {
        let author = route.and_then(|route| route.author.as_deref()).unwrap_or(from);
        Self { author, account: route.and_then(|route| route.account.as_deref()) }
    }

    /// That of a submission.
    pub(crate) fn of_submission(submission: &'a Submission) -> Self {
        Self { author: submission.author(), account: submission.account() }
    }

    fn transport(self, profile: &Profile, recipient: &str) -> Option<usize> {
        profile.transport_for(recipient, self.author, self.account)
    }
}

/// A route that says more than the envelope.
fn needed(mut route: Box<Route>, from: &str) -> Option<Box<Route>> {
    route.author = route.author.filter(|author| author != from && address::split(author).is_ok());
    (*route != Route::default()).then_some(route)
}

/// Refuses a whole message if one of its recipients has no transport (design §3.20).
fn check_routes(profile: &Profile, recipients: &[String], way: Way<'_>) -> Result<(), Fault> {
    let Way { author, account } = way;
    let taken = |address: &String| way.transport(profile, address).is_some();
    let lost: Vec<_> = recipients.iter().filter(|r| !taken(r)).cloned().collect();
    if lost.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = lost.iter().take(5).map(String::as_str).collect();
    let more = if lost.len() > shown.len() { ", …" } else { "" };
    let shown = format!("{}{more}", shown.join(", "));
    let message = format!(
        "{}; nothing was stored. {}",
        not_taken(profile, &shown, author, account),
        what_helps(profile, &lost, account)
    );
    Err(Fault::new(Code::E_UNCONFIGURED, message).with(FaultDetail::Addresses(lost)))
}

/// What is wrong with the way of a message.
fn not_taken(profile: &Profile, recipients: &str, author: &str, account: Option<&str>) -> String {
    let name = &profile.name;
    match account {
        Some(account) if profile.transports.iter().any(|t| t.provider.name == account) => {
            format!("transport {account:?} of profile {name:?} does not take {recipients}")
        }
        Some(account) => format!("profile {name:?} has no transport {account:?}"),
        None => {
            let by = if author.is_empty() { "no author" } else { author };
            let chosen = profile.transports.iter().any(|t| !t.senders.is_empty());
            let of = if chosen { format!(" from {by}") } else { String::new() };
            format!("no transport of profile {name:?} takes {recipients}{of}")
        }
    }
}

fn what_helps(profile: &Profile, lost: &[String], account: Option<&str>) -> String {
    let names = || {
        let names = profile.transports.iter().map(|t| t.provider.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let others = |t: &TransportSpec| !t.senders.is_empty() && lost.iter().any(|r| t.takes(r));
    match account {
        Some(_) => format!("Its transports: {}", names()),
        None if profile.transports.iter().any(others) => {
            "Add the author to the `senders` of a transport, or name the transport with --account"
                .to_owned()
        }
        None => "`sundown profile add` makes a profile with a transport that does".to_owned(),
    }
}
