//! `IMsgStore::StoreLogoff`: what happens to a store's mail when a program is done with the store.
//!
//! In MAPI the spooler works only while a process holds the store, so the flags decide what happens to mail under way. Here the
//! broker holds the store and goes on sending after a process has left. So the flags decide only *whether* to release the store
//! (quiet) and *how soon* to try the waiting messages (purge); the reply says what the store is doing. A process that wants to wait
//! for its own mail logs off with a drain.

use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::StoreLogoff;
use sundown_protocol::{Code, Fault, MemberId, ObjectId};

use crate::broker::Broker;
use crate::flows::sending::changes::{Flush, Flushing};
use crate::flows::working::advise::dead_object;
use crate::ground::event::{EngineId, Turn};
use crate::peers::connection::Asker;
use crate::providers::view::Provider;
use crate::sessions::member::Member;
use crate::sessions::object::Object;

impl Broker {
    pub(crate) fn store_logoff(
        &mut self,
        asker: Asker,
        (id, object): (MemberId, ObjectId),
        flags: StoreLogoff,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        check(flags)?;
        let member = self.attached(asker, id)?;
        let Some(Object::Store(place)) = member.objects.get(object) else {
            let known = member.objects.get(object).is_some();
            let message = "only an open store takes this; the object is another one";
            let other = Fault::new(Code::E_INVALID_OBJECT, message);
            return Err(if known { other } else { dead_object() });
        };
        let engine = self.engine_for(member, *place)?;
        if self.is_shared_with_others(member, engine) {
            // Other processes keep the store in use (STORE-9, STORE-10).
            self.remove_object(id, object);
            let reply = Reply::StoreLoggedOff(StoreLogoff::COMPLETE);
            self.answer(asker, Ok(reply), turn);
            return Ok(());
        }
        let activity = self.activity(engine);
        if flags == StoreLogoff::QUIET && activity.0 != 0 {
            self.answer(asker, Ok(Reply::StoreLoggedOff(activity)), turn);
            return Ok(());
        }
        if flags == StoreLogoff::PURGE {
            let profile = self.session_of(member).profile().name.clone();
            let uid = self.peers.processes.get(member.process).map_or(u32::MAX, |p| p.uid);
            // Only a user who administers the profile makes other users' mail due.
            let whose = (!self.administers(uid, &profile)).then_some(uid);
            let (profile, uid, whose) = (Some(profile), whose, Flush::Store);
            self.hasten(Flushing { whose, profile, uid, engine, found: 0 }, 0, turn);
        }
        self.remove_object(id, object);
        let reply = Reply::StoreLoggedOff(activity.with(StoreLogoff::COMPLETE));
        self.answer(asker, Ok(reply), turn);
        Ok(())
    }

    /// Whether another process is logged on to a session with this store.
    fn is_shared_with_others(&self, member: &Member, engine: EngineId) -> bool {
        let sessions = self.queues.engines.get(&engine).into_iter().flat_map(|e| &e.sessions);
        let members = sessions.filter_map(|s| self.sessions.all.get(s)).flat_map(|s| &s.members);
        members.filter_map(|m| self.sessions.members.get(m)).any(|m| m.process != member.process)
    }

    fn activity(&self, engine: EngineId) -> StoreLogoff {
        use SubmissionState::{Deferred, Queued, Transmitting};
        let Some(engine) = self.queues.engines.get(&engine) else { return StoreLogoff(0) };
        let sessions = engine.sessions.iter().filter_map(|id| self.sessions.all.get(id));
        let receives = sessions.flat_map(|session| &session.providers).any(Provider::receives);
        let count = |state: SubmissionState| engine.counts[state as usize];
        let mut activity = StoreLogoff(0);
        if receives {
            activity = activity.with(StoreLogoff::INBOUND);
        }
        if count(Transmitting) > 0 {
            activity = activity.with(StoreLogoff::OUTBOUND);
        }
        if count(Queued) + count(Deferred) > 0 || engine.accepted > 0 {
            activity = activity.with(StoreLogoff::OUTBOUND_QUEUE);
        }
        activity
    }
}

/// Checks that exactly one flag is given (STORE-1).
fn check(flags: StoreLogoff) -> Result<(), Fault> {
    if flags.0 & !StoreLogoff::KNOWN != 0 {
        let message = format!("store logoff flags 0x{:X} are not known", flags.0);
        return Err(Fault::new(Code::E_UNKNOWN_FLAGS, message));
    }
    if flags.0.count_ones() != 1 {
        let message = "a store logoff takes exactly one flag";
        return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
    }
    Ok(())
}
