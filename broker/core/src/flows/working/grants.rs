//! External references: another process holds one object of a session, without the session itself (SEED-7).
//!
//! A member grants a message or a folder with a token that it made. Another process of the same user redeems the token, once and
//! within a minute, and then holds a *reference*. A reference accepts list, read and release. It ends with its release, when the
//! grant is revoked, or with the granter.

use std::collections::BTreeSet;

use sundown_protocol::notification::EndReason;
use sundown_protocol::reply::{Granted, Peer, ReferenceStatus, Reply};
use sundown_protocol::request::{ReadSource, Request};
use sundown_protocol::{
    Code, Event as News, Fault, FaultDetail, MemberId, Notification, ObjectId, Token,
};

use crate::broker::Broker;
use crate::flows::working::advise::dead_object;
use crate::flows::working::folders::check_bookmark;
use crate::flows::working::messages::MAX_ROWS;
use crate::ground::event::{Effect, ProcessId, Turn};
use crate::ground::timers::Timer;
use crate::peers::connection::Asker;
use crate::peers::quota::Quota;
use crate::providers::ask::Ask;
use crate::providers::calls::Caller;
use crate::providers::lanes::Priority;
use crate::sessions::grants::{Expiry, Grant, MAX_GRANTS, OBJECT, Reference, TokenSum, VALID};
use crate::sessions::object::Object;
use crate::then::{AfterPiece, Reading};

impl Broker {
    pub(crate) fn grant(
        &mut self,
        asker: Asker,
        (id, object): (MemberId, ObjectId),
        token: Token,
        pid: Option<u32>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        if self.sessions.grants.reference(id).is_some() {
            let message = "what was granted cannot be granted on; ask its owner";
            return Err(Fault::new(Code::E_NO_ACCESS, message));
        }
        let member = self.attached(asker, id)?;
        let (store, granted) = match member.objects.get(object).ok_or_else(dead_object)? {
            Object::Folder(store, folder) => (*store, Granted::Folder(*folder)),
            Object::Message(entry) => {
                (self.engine_of_uid(member, entry.store)?.0, Granted::Message(*entry))
            }
            _ => {
                let message = "only a message or a folder can be granted";
                return Err(Fault::new(Code::E_NO_SUPPORT, message));
            }
        };
        if pid == Some(0) {
            let message = "pid 0 is of no process; name none, or one that the broker can see";
            return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
        }
        let process = member.process;
        let uid = self.peers.processes.get(process).map_or(u32::MAX, |p| p.uid);
        if member.waiting_grants.len() >= MAX_GRANTS {
            let message = format!("{MAX_GRANTS} grants were not redeemed yet; revoke some");
            return Err(Fault::new(Code::E_BUSY, message));
        }
        self.check_quota(process, Quota::Grants)?;
        let token = TokenSum::of(token);
        if self.sessions.grants.knows(token) {
            return Err(Fault::new(Code::E_COLLISION, "this token is in use; make another one"));
        }
        let expires = (turn.tick.boot + VALID, self.number());
        let grant = Grant { granter: id, uid, pid, store, granted, expires };
        self.sessions.grants.issue(token, grant);
        self.peers.processes.charge(process, Quota::Grants, 1);
        self.sessions
            .members
            .get_mut(&id)
            .expect("looked at before")
            .waiting_grants
            .insert(expires);
        self.timers.set_no_later(expires.0, Timer::Grants);
        self.answer(asker, Ok(Reply::Done), turn);
        Ok(())
    }

    /// Forgets the tokens that were not redeemed in time. Younger tokens are not looked at.
    pub(crate) fn expire_grants(&mut self, turn: &Turn) {
        while let Some(Grant { granter, expires, .. }) = self.sessions.grants.expire(turn.tick.boot)
        {
            if let Some(granter) = self.sessions.members.get_mut(&granter) {
                granter.waiting_grants.remove(&expires);
                self.peers.processes.pay_back(granter.process, Quota::Grants, 1);
            }
        }
        self.await_expiry();
    }

    /// Sets the timer for the token that expires next.
    fn await_expiry(&mut self) {
        match self.sessions.grants.next_expiry() {
            Some(at) => self.timers.set(at, Timer::Grants),
            None => self.timers.clear(Timer::Grants),
        }
    }

    /// Removes a token of this granter that was redeemed or revoked, and moves the timer if it was the next to expire.
    fn waits_no_more(&mut self, granter: MemberId, expires: Expiry, was_next: bool) {
        if let Some(granter) = self.sessions.members.get_mut(&granter) {
            granter.waiting_grants.remove(&expires);
            self.peers.processes.pay_back(granter.process, Quota::Grants, 1);
        }
        if was_next {
            self.await_expiry();
        }
    }

    pub(crate) fn redeem(
        &mut self,
        asker: Asker,
        token: Token,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let connection =
            self.peers.connections.get(&asker.connection).expect("who asks is connected");
        let process = connection.process;
        let state = self.peers.processes.get(process).expect("it is connected");
        let (uid, pid) = (state.uid, state.peer.pid);
        self.check_quota(process, Quota::Objects)?;
        let token = TokenSum::of(token);
        let fits = |g: &&Grant| {
            let meant = g.uid == uid && g.pid.is_none_or(|wanted| wanted == pid);
            meant && g.expires.0 > turn.tick.boot
        };
        let Some(grant) = self.sessions.grants.waiting_for(token).filter(fits) else {
            let message =
                "no such token: it was used, revoked, is too old, or is meant for another process";
            let why = Fault::new(Code::E_NOT_FOUND, message);
            self.log_refusal(asker, &why, turn);
            return Err(why);
        };
        let Grant { granter, store, granted, expires, .. } = *grant;
        let member = MemberId(self.number());
        let owner = self.sessions.members.get_mut(&granter).expect("grants end with their granter");
        owner.references.insert(member);
        let (owner, session) = (owner.process, owner.session);
        let reference = |token| Reference {
            token,
            granter,
            owner,
            session,
            connection: asker.connection,
            process,
            store,
            granted,
        };
        let was_next = self.sessions.grants.redeem(token, (member, expires), reference);
        self.waits_no_more(granter, expires, was_next);
        self.peers.processes.charge(process, Quota::Objects, 1);
        let connection = self.peers.connections.get_mut(&asker.connection).expect("it asks");
        connection.references.insert(member);
        let redeemed = Reply::Redeemed { member, object: OBJECT, granted };
        self.answer(asker, Ok(redeemed), turn);
        Ok(())
    }

    pub(crate) fn revoke(
        &mut self,
        asker: Asker,
        id: MemberId,
        token: Token,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        self.member(asker, id)?;
        let token = TokenSum::of(token);
        let own = |grant: &&Grant| grant.granter == id;
        if let Some(expires) =
            self.sessions.grants.waiting_for(token).filter(own).map(|g| g.expires)
        {
            self.answer(asker, Ok(Reply::Done), turn);
            let was_next = self.sessions.grants.withdraw(expires);
            self.waits_no_more(id, expires, was_next);
            return Ok(());
        }
        let held = self.sessions.grants.held_by_token(token).filter(|(_, held)| held.granter == id);
        let Some((held, _)) = held else {
            let message = "this session has granted nothing by this token, or it is over already";
            return Err(Fault::new(Code::E_NOT_FOUND, message));
        };
        self.answer(asker, Ok(Reply::Done), turn);
        self.disconnect(held, turn);
        Ok(())
    }

    /// Serves a request about a granted object. Returns whether it is one. A reference accepts only list, read and release.
    pub(crate) fn about_reference(
        &mut self,
        asker: Asker,
        request: &Request,
        turn: &mut Turn,
    ) -> Result<bool, Fault> {
        let Some(id) = request.member() else { return Ok(false) };
        if self.sessions.grants.reference(id).is_some_and(|r| r.connection == asker.connection) {
            self.serve_reference(asker, id, request, turn)?;
            return Ok(true);
        }
        let connection = self.peers.connections.get(&asker.connection);
        if connection.is_some_and(|c| c.has_lost(id)) {
            let message = "the process that granted this object has left, or has taken it back";
            return Err(Fault::new(Code::RPC_E_DISCONNECTED, message));
        }
        Ok(false)
    }

    /// Lists, reads or releases the object of a reference.
    fn serve_reference(
        &mut self,
        asker: Asker,
        id: MemberId,
        request: &Request,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let reference = self.sessions.grants.reference(id).expect("looked at just before");
        let engine =
            self.sessions.all.get(&reference.session).and_then(|s| s.engine(reference.store));
        let read =
            engine.and_then(|e| self.queues.engines.get(&e)).map(|e| e.read).ok_or_else(|| {
                Fault::new(Code::E_NOT_FOUND, "the store of this object does not work any more")
            });
        let caller = Caller {
            session: Some(reference.session),
            process: Some(reference.process),
            priority: Priority::InTurn,
        };
        match (request, reference.granted) {
            (Request::Release { object: OBJECT, .. }, _) => {
                self.let_go(id, turn);
                self.answer(asker, Ok(Reply::Done), turn);
            }
            (Request::List { object: OBJECT, after, limit, .. }, Granted::Folder(folder)) => {
                let list = Ask::list(folder, *after, (*limit).clamp(1, MAX_ROWS));
                self.call(read?, caller, list, asker, turn);
            }
            (
                Request::Contents { object: OBJECT, sort, only, after, limit, .. },
                Granted::Folder(folder),
            ) => {
                check_bookmark(after.as_ref())?;
                let limit = (*limit).clamp(1, MAX_ROWS);
                let ask = Ask::contents(folder, (*sort, *only), after.clone(), limit);
                self.call(read?, caller, ask, asker, turn);
            }
            (
                Request::Read { source: ReadSource::Object(OBJECT), offset, .. },
                Granted::Message(entry),
            ) => {
                let (lane, record, offset) = (read?, entry.record, *offset);
                let engine = engine.expect("it has the lane");
                let reading =
                    Reading { asker, engine, record, offset, tells: false, fetched: false };
                self.call(
                    lane,
                    caller,
                    Ask::piece(record, offset),
                    AfterPiece::Read(reading),
                    turn,
                );
            }
            _ => {
                let message = "a granted folder can be listed, a granted message read, and both released; \
                               nothing else can be done with them";
                return Err(Fault::new(Code::E_NO_ACCESS, message));
            }
        }
        Ok(())
    }

    /// Ends a reference.
    fn let_go(&mut self, id: MemberId, turn: &mut Turn) -> Option<Reference> {
        let reference = self.sessions.grants.let_go(id)?;
        self.peers.processes.pay_back(reference.process, Quota::Objects, 1);
        if let Some(connection) = self.peers.connections.get_mut(&reference.connection) {
            connection.references.remove(&id);
        }
        if let Some(granter) = self.sessions.members.get_mut(&reference.granter) {
            granter.references.remove(&id);
            self.check_leaving(reference.granter, turn);
        }
        Some(reference)
    }

    /// Takes a reference away from its holder. The holder is told once, unless its process has left.
    fn disconnect(&mut self, id: MemberId, turn: &mut Turn) {
        let Some(reference) = self.let_go(id, turn) else { return };
        if self.is_done(reference.process) {
            return;
        }
        let Some(connection) = self.peers.connections.get_mut(&reference.connection) else {
            return;
        };
        connection.remember_lost(id);
        let by = self.peers.processes.get(reference.owner).map(|p| p.peer.clone());
        let event = News::CriticalError {
            code: Code::RPC_E_DISCONNECTED,
            reason: EndReason::ReferenceLost,
            by,
            grace: None,
        };
        let notification = Notification { member: id, advises: Vec::new(), event };
        turn.emit(Effect::Notify { connection: reference.connection, notification });
    }

    /// Ends everything that a departing member granted: waiting tokens and held references.
    pub(crate) fn end_grants(
        &mut self,
        waiting: &BTreeSet<Expiry>,
        held: BTreeSet<MemberId>,
        turn: &mut Turn,
    ) {
        for expires in waiting {
            self.sessions.grants.withdraw(*expires);
        }
        if !waiting.is_empty() {
            self.await_expiry();
        }
        for reference in held {
            self.disconnect(reference, turn);
        }
    }

    /// Ends the references that were held through a closed connection.
    pub(crate) fn drop_references(&mut self, held: &BTreeSet<MemberId>, turn: &mut Turn) {
        for reference in held {
            self.let_go(*reference, turn);
        }
    }

    /// The references to objects of this member.
    fn held_of(&self, granter: MemberId) -> impl Iterator<Item = &Reference> {
        let references =
            self.sessions.members.get(&granter).into_iter().flat_map(|m| &m.references);
        references.filter_map(|id| self.sessions.grants.reference(*id))
    }

    /// The other processes that hold objects of this member, without duplicates.
    fn holding(&self, granter: MemberId) -> BTreeSet<ProcessId> {
        let held = self.held_of(granter);
        held.filter(|r| r.process != r.owner).map(|r| r.process).collect()
    }

    /// The process that holds a reference.
    pub(crate) fn holder(&self, reference: MemberId) -> Option<ProcessId> {
        self.sessions.grants.reference(reference).map(|r| r.process)
    }

    /// The processes that hold objects of this member.
    pub(crate) fn holders(&self, granter: MemberId) -> Vec<Peer> {
        self.peers(self.holding(granter))
    }

    fn peers(&self, processes: BTreeSet<ProcessId>) -> Vec<Peer> {
        let processes = processes.into_iter().filter_map(|p| self.peers.processes.get(p));
        processes.map(|p| p.peer.clone()).collect()
    }

    /// Whether a member must wait because another process holds one of its objects and may not be cut off.
    pub(crate) fn is_held(&self, granter: MemberId) -> bool {
        !self.settings.shutdown.external_references
            && self.held_of(granter).any(|r| r.process != r.owner)
    }

    /// Refuses a fast shutdown of a process whose objects are held, if external references may not be cut off.
    pub(crate) fn refuse_while_held(&self, process: ProcessId) -> Result<(), Fault> {
        if self.settings.shutdown.external_references || !self.sessions.grants.are_held() {
            return Ok(());
        }
        let members = self.members_of(process).into_iter();
        let holders = self.peers(members.flat_map(|(_, m)| self.holding(m)).collect());
        if holders.is_empty() { Ok(()) } else { Err(held_by(holders)) }
    }

    /// The references to objects of this member after a given one, in the order in which they were redeemed.
    pub(crate) fn references_behind(
        &self,
        granter: MemberId,
        reference: MemberId,
    ) -> impl Iterator<Item = (MemberId, ReferenceStatus)> {
        let unknown = || Peer { pid: 0, program: "unknown".into() };
        let references = self.sessions.members.get(&granter).map(|member| &member.references);
        let behind = (std::ops::Bound::Excluded(reference), std::ops::Bound::Unbounded);
        let behind = references.into_iter().flat_map(move |all| all.range(behind));
        let held = behind.filter_map(|id| Some((*id, self.sessions.grants.reference(*id)?)));
        held.map(move |(id, r)| {
            let holder =
                self.peers.processes.get(r.process).map_or_else(unknown, |p| p.peer.clone());
            (id, ReferenceStatus { granter: r.granter, holder, granted: r.granted })
        })
    }
}

/// The fault of a process whose objects are held, with the holders that can release them.
pub(crate) fn held_by(holders: Vec<Peer>) -> Fault {
    let names: Vec<_> = holders.iter().map(|h| format!("{} (pid {})", h.program, h.pid)).collect();
    let message = format!(
        "objects of this process are still held by {}, and allow_shutdown_with_external_references is \
         false; have them released, or revoke the grants",
        names.join(", ")
    );
    Fault::new(Code::E_BUSY, message).with(FaultDetail::Holders(holders))
}
