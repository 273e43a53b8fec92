//! Deletes a profile: at once or, while sessions use it, when the last of them has ended (LOGON-17).
//!
//! Until then no process can log on to it, and the messages in its queue still go out. Its data stays in place.

use sundown_protocol::reply::{Deletion, Reply};
use sundown_protocol::{Code, Fault};

use crate::broker::Broker;
use crate::ground::event::{Effect, Turn};
use crate::ground::settings::Right;
use crate::peers::connection::Asker;

impl Broker {
    /// `IProfAdmin::DeleteProfile`.
    pub(crate) fn delete_profile(
        &mut self,
        asker: Asker,
        name: String,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
        if self.right(uid, &[]) < Right::Admin {
            let message = "profiles are deleted by the broker's own user";
            return Err(Fault::new(Code::E_NO_ACCESS, message));
        }
        if self.is_used(&name) {
            self.sessions.doomed.entry(name).or_default();
            let reply = Reply::ProfileDeleted(Deletion::WhenUnused);
            self.answer(asker, Ok(reply), turn);
            return Ok(());
        }
        let waiting = self.sessions.doomed.entry(name.clone()).or_default();
        waiting.push(asker);
        if waiting.len() == 1 {
            turn.emit(Effect::DeleteProfile { name });
        }
        Ok(())
    }

    fn is_used(&self, profile: &str) -> bool {
        self.sessions.all.of_profile(profile).next().is_some()
    }

    /// Refuses logons to a profile that is being deleted.
    pub(crate) fn refuse_doomed(&self, profile: &str) -> Result<(), Fault> {
        if !self.sessions.doomed.contains_key(profile) {
            return Ok(());
        }
        let message = format!(
            "profile {profile:?} was deleted; it goes when the sessions that use it have ended"
        );
        Err(Fault::new(Code::E_PROFILE_DELETED, message))
    }

    /// Deletes a doomed profile when its last session has ended.
    pub(crate) fn profile_released(&mut self, profile: &str, turn: &mut Turn) {
        if self.sessions.doomed.contains_key(profile) && !self.is_used(profile) {
            turn.emit(Effect::DeleteProfile { name: profile.to_owned() });
        }
    }

    pub(crate) fn profile_deleted(
        &mut self,
        name: &str,
        result: &Result<(), Fault>,
        turn: &mut Turn,
    ) {
        if result.is_ok() {
            self.forget_what_waits(name);
            self.sessions.failed.retain(|(profile, _), _| profile != name);
            self.providers.logged.forget(name);
        }
        for asker in self.sessions.doomed.remove(name).unwrap_or_default() {
            let reply = result.clone().map(|()| Reply::ProfileDeleted(Deletion::Done));
            self.answer(asker, reply, turn);
        }
    }
}
