//! Submissions: into the queue, out of it again, and what an acknowledgement means.
//!
//! A submit is answered after the commit that contains it. A deferred one is answered at once; its outcome is noted
//! with the member, so that flush and logoff can say what was lost, once.

use sundown_protocol::reply::{QueueRow, RecipientRow, Reply, SubmissionState};
use sundown_protocol::request::{Durability, QueueAction, Submit};
use sundown_protocol::{Code, EntryId, Event as News, Fault, FaultDetail, MemberId};

use crate::address;
use crate::advise::StoreNews;
use crate::broker::{Broker, Caller, Then};
use crate::connection::Asker;
use crate::engine::{Engine, Entry};
use crate::event::{EngineId, Turn};
use crate::member::{Failed, Waits};
use crate::process::ProcessId;
use crate::provider::{
    MessageContent, ProviderAnswer, ProviderCall, ProviderError, Recipient, StoreRead, StoreWrite,
    Submission, SubmissionUpdate,
};
use crate::session::{Session, SessionKey, SessionState, Waiting};
use crate::settings::{Profile, Right};

/// Rows of one page of the queue: each may have many recipients, and a page must fit a frame.
const MAX_QUEUE_ROWS: u32 = 64;
/// A page's cursor is the place of a store among the open ones and the place in its queue.
const CURSOR_BITS: u32 = 48;

/// Bytes of a page of the queue: with what frames it, it must fit a frame.
const PAGE_BYTES: usize = 640 << 10;

/// A submission on its way to its store.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// Who waits for it; `None` when it was answered on acceptance.
    pub(crate) asker: Option<Asker>,
    pub(crate) member: MemberId,
    pub(crate) process: ProcessId,
    pub(crate) bytes: u64,
    pub(crate) engine: EngineId,
    pub(crate) record: u128,
    /// The upload it uses.
    pub(crate) upload: Option<u64>,
}

impl Broker {
    pub(crate) fn submit(
        &mut self,
        asker: Asker,
        submit: Submit,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let id = submit.member;
        self.attached(asker, id)?;
        self.refuse_while_stopping()?;
        let recipients = distinct(submit.recipients);
        self.check_recipients(&recipients)?;
        let member = self.member(asker, id)?;
        let profile = self.session_of(member).profile();
        check_routes(profile, &recipients)?;
        let from = submit.from.unwrap_or_else(|| profile.identity.clone());
        if !from.is_empty() {
            check_addresses(std::slice::from_ref(&from))?;
        }
        let profile = profile.name.clone();
        let (engine, process) = (self.engine_for(member, submit.store)?, member.process);
        let (no_mail, caller) = (!member.has_mail(), Self::caller(member));
        let content = self.take_content(id, submit.store, submit.content)?;
        let uid = self.processes.get(process).map_or(u32::MAX, |p| p.uid);
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
        };
        let bytes = asker.bytes.unwrap_or(0);
        let deferred = submit.when == Durability::Deferred && self.may_defer(process, bytes);
        let entry = EntryId { store: self.store_uid(engine), record: submit.key.0 };
        let member = self.members.get_mut(&id).expect("looked at before");
        member.unwritten += 1;
        let process_state = self.processes.get_mut(process).expect("it is connected");
        process_state.unwritten += bytes;
        let state = self.engines.get_mut(&engine).expect("it is open");
        state.accepted += 1;
        let lane = state.write;
        let later = deferred.then_some(asker);
        let in_flight = InFlight {
            asker: (!deferred).then_some(asker),
            member: id,
            process,
            bytes,
            engine,
            record: submit.key.0,
            upload: match &content {
                MessageContent::Uploaded(number) => Some(*number),
                MessageContent::Inline(_) => None,
            },
        };
        if let Some(asker) = later {
            let state = SubmissionState::Accepted;
            self.answer(asker, Ok(Reply::Submitted { entry, state }), turn);
        }
        let submission = Box::new(submission);
        let write = ProviderCall::Write(StoreWrite::Submit { submission, content, deferred });
        self.call(lane, caller, write, Then::Submitted(in_flight), turn);
        Ok(())
    }

    /// A submission answered on acceptance waits in memory until it is durable. A process may have only so much of that;
    /// beyond it the answer comes when the submission is durable.
    fn may_defer(&self, process: ProcessId, bytes: u64) -> bool {
        let unwritten = self.processes.get(process).map_or(0, |p| p.unwritten);
        unwritten + bytes <= self.settings.limits.request_bytes
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
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        let InFlight { asker, member: id, process, bytes, engine, record, upload } = *in_flight;
        if let Some(process) = self.processes.get_mut(process) {
            process.unwritten -= bytes;
        }
        if let Some(state) = self.engines.get_mut(&engine) {
            state.accepted -= 1;
        }
        let entry = EntryId { store: self.store_uid(engine), record };
        if let Some(member) = self.members.get_mut(&id) {
            member.unwritten -= 1;
        }
        let new = match result {
            Ok(ProviderAnswer::Submitted { submission, new }) => {
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
            Ok(_) => None,
            Err(why) => {
                if let Some(upload) = upload {
                    self.discard_from(Some(engine), Caller::broker(None), upload, turn);
                }
                match asker {
                    Some(asker) => self.answer(asker, Err(why.into()), turn),
                    None => match self.members.get_mut(&id) {
                        Some(member) => member.failed.push(Failed { entry, why }),
                        None => self.note_lost(process, [Failed { entry, why }]),
                    },
                }
                None
            }
        };
        if let Some(submission) = new {
            self.store_news(
                engine,
                record,
                StoreNews::Created(sundown_protocol::request::Folder::Outbox),
                turn,
            );
            self.enqueue(engine, *submission);
        }
        self.written(id, turn);
        self.written_of(process, turn);
    }

    /// A submission belongs to a member as long as both last.
    fn own(&mut self, id: MemberId, engine: EngineId, record: u128, state: SubmissionState) {
        if let Some(member) = self.members.get_mut(&id)
            && !state.is_final()
        {
            member.note((engine, record), Some(waits(state)));
            self.engines.get_mut(&engine).expect("it is open").own(record, id);
        }
    }

    /// One of a member's writes was answered: flushes and its logoff may go on.
    pub(crate) fn written(&mut self, id: MemberId, turn: &mut Turn) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.unwritten == 0 && !member.flushes.is_empty() {
            let flushes = std::mem::take(&mut member.flushes);
            for asker in flushes {
                let failed = self
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

    /// Says which accepted submissions were lost, and why.
    pub(crate) fn failed_fault(failed: Vec<Failed>) -> Fault {
        let why = failed[0].why.clone();
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

    /// Has the stores of a member commit now what they were allowed to keep a little.
    pub(crate) fn hurry(&mut self, id: MemberId, turn: &mut Turn) {
        let member = &self.members[&id];
        if member.unwritten == 0 {
            return;
        }
        let caller = Self::caller(member);
        let engines: Vec<_> = self.session_of(member).engines().map(|(_, e)| e).collect();
        for engine in engines {
            let lane = self.engines[&engine].write;
            let then = Then::Flushed(id);
            self.call(lane, caller, ProviderCall::Write(StoreWrite::Flush), then, turn);
        }
    }

    pub(crate) fn abort(
        &mut self,
        asker: Asker,
        id: MemberId,
        entry: EntryId,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let (_, engine) = self.engine_of_uid(member, entry.store)?;
        self.refuse_locked(engine, entry.record)?;
        let call = ProviderCall::Read(StoreRead::Submission { record: entry.record });
        let (caller, lane) = (Self::caller(member), self.engines[&engine].read);
        // What is read of it must still be true when the answer is there: until then it does not depart.
        let state = self.engines.get_mut(&engine).expect("the session uses it");
        state.aborting.insert(entry.record);
        let then = Then::AbortFound { asker, member: id, engine, record: entry.record };
        self.call(lane, caller, call, then, turn);
        Ok(())
    }

    /// A message that a transport has, or somebody else takes back, cannot be taken back (QUEUE-9).
    fn refuse_locked(&self, engine: EngineId, record: u128) -> Result<(), Fault> {
        let Some(state) = self.engines.get(&engine) else { return Ok(()) };
        let flies = state.entries.get(&record).is_some_and(|e| e.flights > 0);
        if !flies && !state.aborting.contains(&record) {
            return Ok(());
        }
        let message = "the message is with its transport and cannot be taken back";
        Err(Fault::new(Code::E_UNABLE_TO_ABORT, message))
    }

    pub(crate) fn abort_found(
        &mut self,
        asker: Asker,
        id: MemberId,
        (engine, record): (EngineId, u128),
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        if let Some(state) = self.engines.get_mut(&engine) {
            state.aborting.remove(&record);
            state.stirred = true;
        }
        if let Err(fault) = self.abort_now(asker, id, engine, result, turn) {
            self.answer(asker, Err(fault), turn);
        }
    }

    fn abort_now(
        &mut self,
        asker: Asker,
        id: MemberId,
        engine: EngineId,
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.member(asker, id)?;
        let caller = Self::caller(member);
        let uid = self.processes.get(member.process).map_or(u32::MAX, |p| p.uid);
        let right = self.right(uid, &self.session_of(member).profile().access);
        let Ok(ProviderAnswer::Queue { rows, .. }) = result else {
            return Err(not_in_queue());
        };
        let stored = rows.into_iter().next().ok_or_else(not_in_queue)?;
        let record = stored.record;
        self.refuse_locked(engine, record)?;
        let state = self.engines.get_mut(&engine).ok_or_else(not_in_queue)?;
        // What is known here is newer than what was read.
        let mut submission =
            state.entries.get(&record).map_or(stored, |entry| entry.submission.clone());
        if submission.state().is_final() {
            return Err(not_in_queue());
        }
        if submission.uid != uid && right < Right::Admin {
            let message = "the message was submitted by another user; it takes the right admin";
            return Err(Fault::new(Code::E_NO_ACCESS, message));
        }
        if submission.recipients.iter().any(|r| r.state == SubmissionState::Transmitting) {
            let message = "the message is with its transport and cannot be taken back";
            return Err(Fault::new(Code::E_UNABLE_TO_ABORT, message));
        }
        let shown = submission.state();
        for recipient in &mut submission.recipients {
            if !recipient.state.is_final() {
                recipient.state = SubmissionState::Aborted;
            }
        }
        state.forget(record);
        let entry = Entry { submission: submission.clone(), shown, flights: 1, untold: Vec::new() };
        state.entries.insert(record, entry);
        let lane = state.write;
        let update = SubmissionUpdate {
            submission,
            bounced: Vec::new(),
            notice: 0,
            now: turn.tick.millis(),
        };
        let write = ProviderCall::Write(StoreWrite::Update(Box::new(update)));
        self.call(lane, caller, write, Then::Aborted { asker, engine, record }, turn);
        Ok(())
    }

    pub(crate) fn aborted(
        &mut self,
        asker: Asker,
        engine: EngineId,
        record: u128,
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        let failed = result.as_ref().err().cloned();
        let reply = result.as_ref().map(|_| Reply::Done).map_err(|e| Fault::from(e.clone()));
        self.answer(asker, reply, turn);
        if failed.is_some() {
            // What is stored still stands; it is read again.
            if let Some(state) = self.engines.get_mut(&engine) {
                state.entries.remove(&record);
                state.reload();
            }
            return;
        }
        let parked = self.engines.get_mut(&engine).filter(|e| e.parked > 0);
        if let Some(state) = parked {
            // It may have been one of them.
            state.reload();
        }
        self.recorded((engine, record), None, Vec::new(), result, turn);
    }

    pub(crate) fn queue(
        &mut self,
        asker: Asker,
        profile: Option<String>,
        action: QueueAction,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        if profile.is_none() {
            // What is in a store that is still being opened must not be missing.
            let starting = |s: &&mut Session| s.state == SessionState::Starting;
            if let Some(session) = self.sessions.values_mut().find(starting) {
                session.waiting.push(Waiting::Queue(asker, None, action));
                return Ok(());
            }
            if self.open_engines().next().is_some() {
                self.queue_of(asker, None, &action, turn);
                return Ok(());
            }
        }
        self.refuse_while_stopping()?;
        let uid = self.peer_of(asker).map_or(u32::MAX, |p| p.uid);
        let profile = profile.unwrap_or_else(|| "default".into());
        let key = SessionKey { user: self.session_user(uid), profile: profile.clone() };
        self.with_session(key, Waiting::Queue(asker, Some(profile), action), turn);
        Ok(())
    }

    fn open_engines(&self) -> impl Iterator<Item = &Engine> {
        self.engines.values().filter(|engine| engine.uid.is_some())
    }

    /// Lists the queue of the open stores, one after the other, a page at a time.
    pub(crate) fn queue_of(
        &mut self,
        asker: Asker,
        profile: Option<String>,
        action: &QueueAction,
        turn: &mut Turn,
    ) {
        let (question, place) = match action {
            QueueAction::List { all, after, limit } => {
                let (place, after) = (after >> CURSOR_BITS, after & ((1 << CURSOR_BITS) - 1));
                let limit = (*limit).clamp(1, MAX_QUEUE_ROWS);
                (StoreRead::Queue { all: *all, after, limit }, place as usize)
            }
            QueueAction::Show(entry) => {
                let held = self.open_engines().position(|e| e.uid == Some(entry.store));
                let question = StoreRead::Submission { record: entry.record };
                (question, held.unwrap_or(usize::MAX))
            }
        };
        let Some((engine, lane)) = self.open_engines().nth(place).map(|e| (e.id, e.read)) else {
            let result = match action {
                QueueAction::List { .. } => Ok(Reply::Queue { rows: Vec::new(), next: None }),
                QueueAction::Show(_) => Err(not_in_queue()),
            };
            return self.answer(asker, result, turn);
        };
        let page = matches!(action, QueueAction::List { .. }).then_some(place as u64);
        let then = Then::Queue { asker, engine, profile, page };
        self.call(lane, Caller::broker(None), ProviderCall::Read(question), then, turn);
    }

    pub(crate) fn queue_listed(
        &mut self,
        asker: Asker,
        engine: EngineId,
        profile: Option<&str>,
        page: Option<u64>,
        result: Result<ProviderAnswer, ProviderError>,
        turn: &mut Turn,
    ) {
        let state = self.engines.get(&engine);
        let uid = self.peer_of(asker).map_or(u32::MAX, |p| p.uid);
        let reply = result.map_err(Fault::from).and_then(|answer| {
            let (Some(state), ProviderAnswer::Queue { rows, next }) = (state, answer) else {
                return Err(not_in_queue());
            };
            let mine = |s: &Submission| s.uid == uid || self.administers(uid, &s.profile);
            let shown = |s: Submission| {
                // What is known here is newer than what is stored.
                let row =
                    state.entries.get(&s.record).map_or_else(|| s.row(0), |e| e.submission.row(0));
                let entry = EntryId { store: state.uid.unwrap_or(0), record: s.record };
                QueueRow { entry, ..row }
            };
            let wanted = |s: &Submission| profile.is_none_or(|p| p == s.profile) && mine(s);
            let mut last_shown = None;
            let mut room = PAGE_BYTES;
            let mut whole = true;
            let mut page_rows = Vec::new();
            for row in rows.into_iter().filter(wanted) {
                let order = row.order;
                let row = shown(row);
                let size = wire_size(&row);
                if size > room && !page_rows.is_empty() {
                    whole = false;
                    break;
                }
                room = room.saturating_sub(size);
                last_shown = Some(order);
                page_rows.push(short_enough(row));
            }
            let rows = page_rows;
            let next = if whole { next } else { last_shown };
            let Some(page) = page else {
                let found = !rows.is_empty();
                return found.then_some(Reply::Queue { rows, next: None }).ok_or_else(not_in_queue);
            };
            let last = self.open_engines().count() as u64 <= page + 1;
            let next = match next {
                Some(after) => Some(page << CURSOR_BITS | after),
                None if last => None,
                None => Some((page + 1) << CURSOR_BITS),
            };
            Ok(Reply::Queue { rows, next })
        });
        self.answer(asker, reply, turn);
    }
}

/// About how many bytes of a frame a row takes.
fn wire_size(row: &QueueRow) -> usize {
    let texts = row.from.len() + row.subject.len() + row.last_error.as_ref().map_or(0, String::len);
    let recipient =
        |r: &RecipientRow| 32 + r.address.len() + r.reply.as_ref().map_or(0, String::len);
    128 + texts + row.recipients.iter().map(recipient).sum::<usize>()
}

/// A row that alone would not fit a page is shown without what was said about each recipient.
fn short_enough(mut row: QueueRow) -> QueueRow {
    if wire_size(&row) > PAGE_BYTES {
        row.recipients.iter_mut().for_each(|r| r.reply = None);
    }
    row
}

/// Whether a drain waits for a submission in this state.
pub(crate) fn waits(state: SubmissionState) -> Waits {
    match state {
        SubmissionState::Held | SubmissionState::Unknown => Waits::No,
        _ => Waits::Yes,
    }
}

fn queued(address: String) -> Recipient {
    Recipient { address, state: SubmissionState::Queued, intent: None, reply: None }
}

/// The recipients in their order, each once.
fn distinct(recipients: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    recipients.into_iter().filter(|r| seen.insert(r.clone())).collect()
}

/// Refuses what is no address, naming all of it.
pub(crate) fn check_addresses(addresses: &[String]) -> Result<(), Fault> {
    let wrong: Vec<_> =
        addresses.iter().filter_map(|a| address::split(a).err().map(|why| (a, why))).collect();
    let Some((first, why)) = wrong.first() else { return Ok(()) };
    let message = format!("{first:?} is not an address: {why}");
    let all = wrong.iter().map(|(a, _)| (*a).clone()).collect();
    Err(Fault::new(Code::E_INVALID_PARAMETER, message).with(FaultDetail::Addresses(all)))
}

/// Refuses a message as a whole when a recipient has no transport (design §3.20).
fn check_routes(profile: &Profile, recipients: &[String]) -> Result<(), Fault> {
    let taken = |address: &String| profile.transports.iter().any(|t| t.takes(address));
    let lost: Vec<_> = recipients.iter().filter(|r| !taken(r)).cloned().collect();
    if lost.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = lost.iter().take(5).map(String::as_str).collect();
    let more = if lost.len() > shown.len() { ", …" } else { "" };
    let message = format!(
        "no transport of profile {:?} takes {}{more}; nothing was stored. \
         `sundown profile add` makes a profile with a transport that does",
        profile.name,
        shown.join(", ")
    );
    Err(Fault::new(Code::E_UNCONFIGURED, message).with(FaultDetail::Addresses(lost)))
}

fn not_in_queue() -> Fault {
    let message = "the message is not, or no longer, in the outgoing queue";
    Fault::new(Code::E_NOT_IN_QUEUE, message)
}
