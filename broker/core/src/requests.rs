//! The table of all requests: what each needs, and which flow carries it out.

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::request::{AdviseSource, Asked, Request};
use sundown_protocol::{Code, Fault, MemberId, Reply, UploadId};

use crate::broker::Broker;
use crate::flows::leaving::shutdown::shut_down;
use crate::flows::working::folders::Filing;
use crate::ground::event::{ConnectionId, EngineId, Turn};
use crate::ground::settings::Right;
use crate::peers::connection::{Asker, Connection};
use crate::peers::process::{Departure, Held};
use crate::peers::quota::Quota;
use crate::providers::calls::Caller;
use crate::providers::lanes::Priority;
use crate::sessions::member::Member;
use crate::sessions::session::Session;

impl Broker {
    pub(crate) fn request(
        &mut self,
        connection: ConnectionId,
        Asked { id, request }: Asked,
        bytes: usize,
        turn: &mut Turn,
    ) {
        let cost = (!request.is_free()).then_some(bytes as u64);
        self.peers.requests_made += 1;
        let Some(asker) = self.charge(connection, id, cost, turn) else { return };
        match self.departure(asker.process) {
            Departure::Doing if !self.is_hosts_do(asker, &request) => {
                if let Some(asker) = self.charge_waiting(asker, bytes, turn) {
                    // The requests that wait are limited like those that are carried out.
                    match self.check_counted(asker.process, Quota::RequestBytes) {
                        Ok(()) => self.hold(Held::Request { asker, request: Box::new(request) }),
                        Err(fault) => {
                            if let Some((member, upload)) = self.piece_of(asker, &request) {
                                self.fail_upload(member, upload, turn);
                            }
                            self.answer(asker, Err(fault), turn);
                        }
                    }
                }
                self.note_activity(turn);
            }
            departure => self.carry_out(asker, request, departure, turn),
        }
    }

    /// Carries out or refuses a request that waited for the outcome of a Do, or holds it for another Do.
    pub(crate) fn serve(&mut self, asker: Asker, request: Box<Request>, turn: &mut Turn) {
        if !self.peers.connections.contains_key(&asker.connection) {
            return self.peers.processes.pay_left_behind(asker);
        }
        match self.departure(asker.process) {
            Departure::Doing if !self.is_hosts_do(asker, &request) => {
                self.hold(Held::Request { asker, request });
            }
            departure => self.carry_out(asker, *request, departure, turn),
        }
    }

    #[inline]
    fn carry_out(&mut self, asker: Asker, request: Request, departure: Departure, turn: &mut Turn) {
        if let Some(profile) = self.rights_to_look_at(asker, &request, turn) {
            return self.look_for(&profile, (asker, request), turn);
        }
        let watches = matches!(
            request,
            Request::Status
                | Request::StatusPage { .. }
                | Request::Broker
                | Request::Health { .. }
                | Request::Mailboxes { .. }
        );
        let about = request.member();
        let own = about.and_then(|id| self.sessions.members.get(&id));
        let right = own.filter(|m| m.connection == asker.connection).map(|m| m.right);
        let piece = self.piece_of(asker, &request);
        // A copy of the library keeps the fact that the process was shut down, so that the next broker knows it.
        let keeps = matches!(request, Request::Ticket { .. });
        let gone = departure == Departure::Done && !keeps;
        let here = if gone { Err(shut_down()) } else { Ok(()) };
        let result = here.and_then(|()| {
            if right.is_none() && self.about_reference(asker, &request, turn)? {
                return Ok(());
            }
            if asker.bytes.is_some() {
                self.check_counted(asker.process, Quota::RequestBytes)?;
            }
            if let Some(right) = right {
                refuse_beyond(right, &request)?;
            }
            self.dispatch(asker, request, turn)
        });
        // A process that only reads the status is not leaving, and a process that is sent on to the next broker has nothing to do
        // here. Their requests do not delay a stop.
        let sent_on = matches!(&result, Err(fault) if fault.code == Code::E_WAIT);
        if !watches && !sent_on {
            self.note_activity(turn);
        }
        if let Err(fault) = result {
            if let Some((member, upload)) = piece {
                self.fail_upload(member, upload, turn);
            }
            if fault.code != Code::E_NO_ACCESS
                && about.is_some_and(|id| self.is_of_another_process(asker, id))
            {
                self.log_refusal(asker, &fault, turn);
            }
            self.refuse(asker, fault, turn);
        }
    }

    /// The upload that a request is a piece of, if it belongs to a member of the asker's connection.
    fn piece_of(&self, asker: Asker, request: &Request) -> Option<(MemberId, UploadId)> {
        let Request::Upload { member, upload, .. } = request else { return None };
        let own =
            self.sessions.members.get(member).is_some_and(|m| m.connection == asker.connection);
        own.then_some((*member, *upload))
    }

    /// Whether another process has this handle now. The owner of a handle that is gone is unknown.
    fn is_of_another_process(&self, asker: Asker, id: MemberId) -> bool {
        let own = self.peers.connections.get(&asker.connection).map(|c| c.process);
        let owner = self.sessions.members.get(&id).map(|m| m.process).or_else(|| self.holder(id));
        owner.is_some() && owner != own
    }

    /// Passes each request to its flow. A flow that returns `Ok` has answered, or will.
    fn dispatch(&mut self, asker: Asker, request: Request, turn: &mut Turn) -> Result<(), Fault> {
        match request {
            Request::Logon(logon) => self.logon(asker, logon, turn),
            Request::Logoff(logoff) => self.logoff(asker, &logoff, turn),
            Request::Advise { member, source, events } => {
                let advise = self.advise(asker, member, source, events)?;
                self.answer(asker, Ok(Reply::Advised(advise)), turn);
                Ok(())
            }
            Request::Unadvise { member, advise } => {
                self.unadvise(asker, member, advise)?;
                self.answer(asker, Ok(Reply::Done), turn);
                Ok(())
            }
            Request::Open { member, what } => self.open(asker, member, &what, turn),
            Request::Release { member, object } => {
                self.release(asker, member, object, turn)?;
                self.answer(asker, Ok(Reply::Done), turn);
                Ok(())
            }
            Request::List { member, object, after, limit } => {
                self.list(asker, member, object, (after, limit), turn)
            }
            Request::Read { member, source, offset } => {
                self.read(asker, member, source, offset, turn)
            }
            Request::Upload { member, store, upload, bytes } => {
                self.upload(asker, member, (store, upload), bytes.0, turn)
            }
            Request::Submit(submit) => self.submit(asker, submit, None, turn),
            Request::SubmitVia { submit, route } => self.submit(asker, *submit, Some(route), turn),
            Request::Draft { member, store, content } => {
                let object = self.draft(asker, member, store, content)?;
                self.answer(asker, Ok(Reply::Opened(object)), turn);
                Ok(())
            }
            Request::Save { member, object, key } => self.save(asker, member, object, key, turn),
            Request::Delete { member, entry } => self.delete(asker, member, entry, None, turn),
            Request::DeleteFrom { member, entry, from } => {
                self.delete(asker, member, entry, Some(from), turn)
            }
            Request::Setting { member, section, name, change } => {
                self.setting(asker, member, (section, name), change, turn)
            }
            Request::AbortSubmit { member, entry } => self.abort(asker, member, entry, turn),
            Request::Flush { member } => self.flush(asker, member, turn),
            Request::AddressBook { member, object, action } => {
                self.address_book(asker, member, object, action, turn)
            }
            Request::QueryFastShutdown => self.query_fast_shutdown(asker, turn),
            Request::NotifyProcessShutdown => self.notify_process_shutdown(asker, turn),
            // The client's memory of the process is not trusted; its ticket is.
            Request::DoFastShutdown { remembered: _ } => self.do_fast_shutdown(asker, turn),
            Request::Grant { member, object, token, pid } => {
                self.grant(asker, (member, object), token, pid, turn)
            }
            Request::Redeem { token } => self.redeem(asker, token, turn),
            Request::Revoke { member, token } => self.revoke(asker, member, token, turn),
            Request::Status => {
                let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
                let status = Box::new(self.status(uid));
                self.answer(asker, Ok(Reply::Status(status)), turn);
                Ok(())
            }
            Request::Queue { profile, action } => self.queue(asker, profile, action, turn),
            Request::MessageId { entry } => self.identify_entry(asker, entry, turn),
            Request::Stop { how } => self.stop_asked(asker, how, turn),
            Request::ValidateState { member, kind, provider } => {
                self.validate_state(asker, member, (kind, &provider), turn)
            }
            Request::StoreLogoff { member, object, flags } => {
                self.store_logoff(asker, (member, object), flags, turn)
            }
            Request::DeleteProfile { name } => self.delete_profile(asker, name, turn),
            Request::Return { logon, tag, told } => self.return_to(asker, logon, (tag, told), turn),
            Request::Ticket { shown } => self.ticket(asker, shown.as_ref(), turn),
            Request::StatusPage { after } => {
                let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
                let (status, next) = self.status_page(uid, after);
                let page = Reply::StatusPage { status: Box::new(status), next };
                self.answer(asker, Ok(page), turn);
                Ok(())
            }
            Request::Health { after } => {
                let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
                let health = self.health_page(uid, after, turn);
                if let Reply::Health { sessions, .. } = &health {
                    // The next answer tells what is found.
                    for seen in sessions {
                        self.look_at_file(seen.session, turn);
                    }
                }
                self.answer(asker, Ok(health), turn);
                Ok(())
            }
            Request::Folders { member, store, after, limit } => {
                self.folders(asker, (member, store), after, limit, turn)
            }
            Request::MakeFolder { member, store, parent, name } => {
                self.make_folder(asker, (member, store), parent, name, turn)
            }
            Request::RenameFolder { member, store, folder, name } => {
                self.rename_folder(asker, (member, store), folder, name, turn)
            }
            Request::RemoveFolder { member, store, folder } => {
                self.remove_folder(asker, (member, store), folder, turn)
            }
            Request::Contents { member, object, sort, only, after, limit } => {
                self.contents(asker, (member, object), (sort, only), (after, limit), turn)
            }
            Request::SetFlags { member, entry, add, remove } => {
                self.set_flags(asker, member, entry, (*add, *remove), turn)
            }
            Request::Move { member, entry, to } => self.move_to(asker, member, entry, to, turn),
            Request::Copy { member, key, entry, to } => {
                self.copy_to(asker, member, (key, entry), to, turn)
            }
            Request::Append { member, key, store, folder, content, flags, received } => {
                let filing = Filing { key, folder, flags: *flags, received };
                self.append_to(asker, (member, store), filing, content, turn)
            }
            Request::Search { member, store, words, folder, after, limit } => {
                self.search(asker, (member, store), (words, folder), (after, limit), turn)
            }
            Request::Sync { member } => self.sync(asker, member, turn),
            Request::Mailboxes { after } => {
                let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
                let page = self.mailboxes_page(uid, after);
                self.answer(asker, Ok(page), turn);
                Ok(())
            }
            Request::Reload { profile } => self.reload(asker, profile, turn),
            Request::Broker => {
                let status = Box::new(self.broker_status());
                self.answer(asker, Ok(Reply::Broker(status)), turn);
                Ok(())
            }
        }
    }

    /// The member, if it belongs to this connection; otherwise the fault for its handle (design §3.12).
    pub(crate) fn member(&self, asker: Asker, id: MemberId) -> Result<&Member, Fault> {
        let member = self.sessions.members.get(&id).filter(|m| m.connection == asker.connection);
        member.ok_or_else(|| why_gone(self.peers.connections.get(&asker.connection), id))
    }

    pub(crate) fn member_mut(&mut self, asker: Asker, id: MemberId) -> Result<&mut Member, Fault> {
        let member =
            self.sessions.members.get_mut(&id).filter(|m| m.connection == asker.connection);
        member.ok_or_else(|| why_gone(self.peers.connections.get(&asker.connection), id))
    }

    /// The member, if it may begin something new.
    pub(crate) fn attached(&self, asker: Asker, id: MemberId) -> Result<&Member, Fault> {
        let member = self.member(asker, id)?;
        if member.is_leaving() {
            let message = "this session is logging off; wait for its logoff, or log on again";
            return Err(Fault::new(Code::E_BUSY, message));
        }
        Ok(member)
    }

    /// A member's session.
    pub(crate) fn session_of(&self, member: &Member) -> &Session {
        self.sessions.all.get(&member.session).expect("a member's session outlives it")
    }

    /// The engine behind a store of a member's session.
    pub(crate) fn engine_for(&self, member: &Member, store: u16) -> Result<EngineId, Fault> {
        self.session_of(member).engine(store).ok_or_else(|| {
            let message = format!("the profile has no working store number {store}");
            Fault::new(Code::E_NOT_FOUND, message)
        })
    }

    /// The engine of the member's session that holds entries of this store.
    pub(crate) fn engine_of_uid(
        &self,
        member: &Member,
        uid: u32,
    ) -> Result<(u16, EngineId), Fault> {
        let mut engines = self.session_of(member).engines();
        let held = |e: &EngineId| self.queues.engines.get(e).is_some_and(|e| e.uid == Some(uid));
        engines.find(|(_, engine)| held(engine)).ok_or_else(|| {
            Fault::new(Code::E_UNKNOWN_ENTRYID, "the entry is in none of this session's stores")
        })
    }

    /// A caller for a member.
    pub(crate) fn caller(member: &Member) -> Caller {
        Caller {
            session: Some(member.session),
            process: Some(member.process),
            priority: Priority::InTurn,
        }
    }

    /// What a user may do with a profile, given its `[access]`; with an empty one, what the user may do with the broker.
    pub(crate) fn right(&self, uid: u32, access: &[(u32, Right)]) -> Right {
        if uid == self.settings.owner || uid == 0 {
            return Right::Admin;
        }
        let granted = access.iter().filter(|(user, _)| *user == uid).map(|(_, right)| *right);
        granted.max().unwrap_or(Right::None)
    }

    /// What a user may do in a profile that is in use.
    pub(crate) fn right_in(&self, uid: u32, profile: &str) -> Right {
        let mut used = self.sessions.all.of_profile(profile);
        let access = used.find_map(|s| s.profile.as_ref()).map(|p| &p.access[..]);
        self.right(uid, access.unwrap_or_default())
    }

    /// Whether a user has the right admin in a profile that is in use.
    pub(crate) fn administers(&self, uid: u32, profile: &str) -> bool {
        self.right_in(uid, profile) >= Right::Admin
    }
}

/// The fault for a member's handle that this connection does not have.
#[cold]
fn why_gone(connection: Option<&Connection>, id: MemberId) -> Fault {
    match connection.and_then(|c| c.why_gone(id)) {
        Some(LeaveReason::Evicted) => Fault::new(
            Code::E_END_OF_SESSION,
            "the session was ended, and the broker has removed this member from it; log on again",
        ),
        Some(LeaveReason::FastShutdown) => shut_down(),
        Some(_) => Fault::new(Code::E_END_OF_SESSION, "the broker has ended this session"),
        None => Fault::new(
            Code::E_INVALID_OBJECT,
            "no such session: it was logged off, or it belongs to another connection",
        ),
    }
}

/// Refuses requests beyond a right. A member that may only submit may hand messages over, see and abort its user's own, and leave.
fn refuse_beyond(right: Right, request: &Request) -> Result<(), Fault> {
    let submits = matches!(
        request,
        Request::Submit(_)
            | Request::SubmitVia { .. }
            | Request::Upload { .. }
            | Request::AbortSubmit { .. }
            | Request::Flush { .. }
            | Request::Logoff(_)
            | Request::Advise { source: AdviseSource::Session, .. }
            | Request::Unadvise { .. }
            | Request::Release { .. }
    );
    let leaves =
        matches!(request, Request::Logoff(_) | Request::Unadvise { .. } | Request::Release { .. });
    if right == Right::None && !leaves {
        let message =
            "this user may not use this profile any more: its [access] was changed; log off";
        return Err(Fault::new(Code::E_NO_ACCESS, message));
    }
    if right >= Right::Session || submits {
        return Ok(());
    }
    let message = "this user may submit mail with this profile and nothing else; its [access] says who may more";
    Err(Fault::new(Code::E_NO_ACCESS, message))
}
