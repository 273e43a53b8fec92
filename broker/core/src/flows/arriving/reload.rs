//! Profiles that change while sessions use them.
//!
//! ```text
//!  an attempt to send, a logon, a refused submission, SIGHUP, `profile reload`
//!      │
//!      ▼                       the file is another one
//!  look at the file ─────────────────────────────────────────► each session of the profile uses it
//!      │ it has a mistake                                        │ a provider that was changed or removed: Leaving ─► Gone
//!      └──► the sessions use what they have, and say why         └ a provider that was changed or added: a new one logs on
//! ```
//!
//! A changed transport or address book is a new provider object with a verdict of its own about fast shutdown (SEED-17). The answer
//! that a process got to its own query stays. The old object finishes what it transmits and logs off. Nothing that it was handed is
//! handed to another one: only recipients that are queued, deferred or held get a transport of the new profile.
//!
//! Stores do not change while a session has them open: the next session opens those of the file.

use std::collections::BTreeSet;
use std::time::Duration;

use sundown_protocol::reply::{Reload, Reloaded, Reply};
use sundown_protocol::request::Request;
use sundown_protocol::{Code, Fault, SessionId};

use crate::broker::Broker;
use crate::flows::arriving::logon::{changeable, provider};
use crate::flows::sending::changes::{Flush, Flushing};
use crate::ground::event::{Effect, Turn};
use crate::ground::provider::{ProviderSpec, ProviderType};
use crate::ground::settings::{LoadedProfile, Looked, Right, Version};
use crate::ground::timers::Timer;
use crate::peers::connection::Asker;
use crate::peers::waiting::SessionKey;
use crate::providers::ask::Ask;
use crate::providers::calls::Caller;
use crate::providers::view::{Part, Provider, ProviderState, Reach};
use crate::sessions::session::{Session, Stores};
use crate::then::AfterDone;

/// How long a look at a file counts. Many messages that go out at once share one.
const FRESH: Duration = Duration::from_millis(10);

/// The most providers of a session that are leaving. Each has threads until it has finished what it began.
const MOST_LEAVING: usize = 16;

impl Broker {
    /// Reads a profile anew, in the sessions that use it, and tries its transports and what is deferred.
    pub(crate) fn reload(
        &mut self,
        asker: Asker,
        profile: String,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let uid = self.peers.of(asker).map_or(u32::MAX, |p| p.uid);
        if self.right_in(uid, &profile) < Right::Admin {
            let message = "a profile is reloaded by who administers it";
            return Err(Fault::new(Code::E_NO_ACCESS, message));
        }
        self.refuse_while_stopping()?;
        if self.using(&profile).is_empty() {
            // What waits in its store may have waited for the file to be right.
            let user = self.settings.owner;
            self.adopt(SessionKey { user, profile }, turn);
            let reloaded = Reloaded { sessions: 0, result: Reload::Unchanged };
            self.answer(asker, Ok(Reply::Reloaded(reloaded)), turn);
            return Ok(());
        }
        let word = self.number();
        self.look_at(&profile, turn);
        let look = self.sessions.looks.entry(profile).or_default();
        look.word = Some(word);
        look.askers.push(asker);
        Ok(())
    }

    /// Reads the profiles of all sessions anew, and tries their transports.
    pub(crate) fn reload_all(&mut self, turn: &mut Turn) {
        if self.stopping.is_some() {
            return;
        }
        let used = self.sessions.all.values().filter(|s| s.may_send());
        let profiles: BTreeSet<_> = used.map(|s| s.key.profile.clone()).collect();
        for profile in profiles {
            let word = self.number();
            self.look_at(&profile, turn);
            self.sessions.looks.entry(profile).or_default().word = Some(word);
        }
    }

    /// Whether a session's profile is known to be that of its file, before a message is handed over.
    #[inline]
    pub(crate) fn is_fresh(&self, session: &Session, turn: &Turn) -> bool {
        let looks = &self.sessions.looks;
        session.version.looked + FRESH > turn.tick.boot
            && (looks.is_empty() || !looks.contains_key(&session.key.profile))
    }

    /// Looks at the file of a session's profile, unless that was just done. The queues of its stores go on with what is found.
    #[inline]
    pub(crate) fn look_at_file(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        if session.may_send() && self.stopping.is_none() && !self.is_fresh(session, turn) {
            let profile = session.key.profile.clone();
            self.look_at(&profile, turn);
        }
    }

    /// Has the other sessions of a profile use the version that one of them has read.
    pub(crate) fn look_for_others(&mut self, profile: &str, version: Version, turn: &mut Turn) {
        let differs = |s: &Session| s.may_send() && s.version.version != version;
        let differs = self.sessions.all.of_profile(profile).any(differs);
        if differs && self.stopping.is_none() {
            self.look_at(profile, turn);
        }
    }

    /// The profile whose file is to be looked at before a request of another user than the broker's own: its `[access]` may be another
    /// one.
    #[inline]
    pub(crate) fn rights_to_look_at(
        &self,
        asker: Asker,
        request: &Request,
        turn: &Turn,
    ) -> Option<String> {
        let uid = self.peers.of(asker)?.uid;
        if !self.settings.binds(uid) || self.stopping.is_some() {
            return None;
        }
        let stale = |session: &&Session| session.may_send() && !self.is_fresh(session, turn);
        let session = match (request, request.member()) {
            (Request::Reload { profile } | Request::Queue { profile: Some(profile), .. }, _) => {
                self.sessions.all.of_profile(profile).find(stale)?
            }
            (_, Some(member)) => {
                let member = self.sessions.members.get(&member)?;
                self.sessions.all.get(&member.session).filter(stale)?
            }
            (_, None) => return None,
        };
        Some(session.key.profile.clone())
    }

    /// Has a request wait until a profile's file was looked at.
    #[cold]
    pub(crate) fn look_for(
        &mut self,
        profile: &str,
        (asker, request): (Asker, Request),
        turn: &mut Turn,
    ) {
        self.look_at(profile, turn);
        let look = self.sessions.looks.entry(profile.to_owned()).or_default();
        look.requests.push((asker, Box::new(request)));
    }

    /// Asks for a look at a profile's file, unless one is on its way.
    fn look_at(&mut self, profile: &str, turn: &mut Turn) {
        if self.sessions.looks.contains_key(profile) {
            return;
        }
        let used = self.sessions.all.of_profile(profile).filter(|s| s.profile.is_some());
        let version = used.map(|s| s.version.version).min_by_key(|version| version.number);
        let version = version.unwrap_or_default();
        self.sessions.looks.entry(profile.to_owned()).or_default();
        turn.emit(Effect::LookAtProfile { name: profile.to_owned(), version });
    }

    /// The sessions that use a profile and may change with it.
    fn using(&self, profile: &str) -> Vec<SessionId> {
        let used = self.sessions.all.of_profile(profile);
        used.filter(|s| s.profile.is_some() && s.may_send()).map(|s| s.id).collect()
    }

    /// Handles what a look at a profile's file has found.
    pub(crate) fn profile_looked(
        &mut self,
        name: &str,
        found: &Result<Looked, Fault>,
        turn: &mut Turn,
    ) {
        let look = self.sessions.looks.remove(name).unwrap_or_default();
        let using = self.using(name);
        let mut result = Reload::Unchanged;
        for id in &using {
            let Some(session) = self.sessions.all.get_mut(*id) else { continue };
            session.version.looked = turn.tick.boot;
            match found {
                Ok(Looked::Same) => session.version.refused = None,
                Ok(Looked::Changed(LoadedProfile { version, .. }))
                    if *version == session.version.version =>
                {
                    session.version.refused = None;
                }
                Ok(Looked::Changed(loaded)) => {
                    result = Reload::Changed;
                    self.stays_after_all(name);
                    if let Err(why) = self.use_profile(*id, loaded.clone(), turn) {
                        self.keep_profile(*id, &why.message);
                        result = Reload::Refused(why.message);
                    }
                }
                Ok(Looked::Later) => result = Reload::Later,
                Err(why) => {
                    self.keep_profile(*id, &why.message);
                    result = Reload::Refused(why.message.clone());
                }
            }
        }
        if let Some(word) = look.word {
            for id in &using {
                self.revive_transports(*id, word, turn);
            }
        }
        // Who has a profile read again wants its mail to go now: a password that it refers to may be another one.
        let tries = !look.askers.is_empty() && !matches!(result, Reload::Refused(_));
        for id in using {
            self.stir(id);
            if tries {
                self.try_deferred(id, turn);
            }
        }
        for asker in look.askers {
            let sessions = self.using(name).len() as u32;
            let reloaded = Reloaded { sessions, result: result.clone() };
            self.answer(asker, Ok(Reply::Reloaded(reloaded)), turn);
        }
        for (asker, request) in look.requests {
            self.serve(asker, request, turn);
        }
    }

    fn keep_profile(&mut self, id: SessionId, why: &str) {
        if let Some(session) = self.sessions.all.get_mut(id) {
            session.version.refused = Some(why.to_owned());
        }
    }

    /// Lets the queues of a session's stores be looked at.
    fn stir(&mut self, id: SessionId) {
        let engines: Vec<_> =
            self.sessions.all.get(&id).into_iter().flat_map(Session::engines).collect();
        for (_, engine) in engines {
            if let Some(engine) = self.queues.engines.get_mut(engine) {
                engine.stirred = true;
            }
        }
    }

    /// Has a session use another version of its profile.
    fn use_profile(
        &mut self,
        id: SessionId,
        loaded: LoadedProfile,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        self.providers.left_behind.check_all().map_err(Fault::from)?;
        let session = &self.sessions.all[&id];
        let leaves = |p: &&Provider| !p.is_in_use() && p.state != ProviderState::Gone;
        if session.providers.iter().filter(leaves).count() >= MOST_LEAVING {
            let message = format!(
                "{MOST_LEAVING} providers of earlier versions have not finished yet; the file is used when they have"
            );
            return Err(Fault::new(Code::E_BUSY, message));
        }
        let LoadedProfile { profile: mut new, version } = loaded;
        let session = self.sessions.all.get_mut(id).expect("it is listed");
        let old = session.profile.take().expect("it has started");
        let stores = if new.stores == old.stores { Stores::OfProfile } else { Stores::Others };
        let rerouted = new.transports != old.transports;
        new.stores.clone_from(&old.stores);
        let (read, use_) = (turn.tick.millis(), &mut session.version);
        (use_.version, use_.read, use_.stores, use_.refused) = (version, read, stores, None);
        session.profile = Some(new);
        self.change_rights(id);
        self.change_providers(id, turn);
        if rerouted {
            self.try_deferred(id, turn);
        }
        Ok(())
    }

    /// Gives the members of a session the rights that the profile's `[access]` gives them now.
    fn change_rights(&mut self, id: SessionId) {
        let session = &self.sessions.all[&id];
        let access = session.profile().access.clone();
        for member in session.members.clone() {
            let process = self.sessions.members.get(&member).map(|m| m.process);
            let process = process.and_then(|process| self.peers.processes.get(process));
            let right = self.right(process.map_or(u32::MAX, |p| p.uid), &access);
            if let Some(member) = self.sessions.members.get_mut(&member) {
                member.right = right;
            }
        }
    }

    /// Retires the providers that the profile does not have any more as they are, and logs on those that it has and the session has
    /// not.
    fn change_providers(&mut self, id: SessionId, turn: &mut Turn) {
        let profile = self.sessions.all[&id].profile().clone();
        let wanted: Vec<_> = changeable(&profile).collect();
        let before = self.sessions.all[&id].providers.len();
        let mut kept = Vec::new();
        for place in 0..before {
            let session = self.sessions.all.get_mut(id).expect("looked at before");
            let provider = &mut session.providers[place];
            if provider.kind == ProviderType::Store || !provider.is_in_use() {
                continue;
            }
            let same = |(kind, _, spec): &(ProviderType, usize, &ProviderSpec)| {
                *kind == provider.kind && **spec == *provider.configured
            };
            match wanted.iter().find(|wanted| same(wanted)) {
                Some((kind, spec, _)) => {
                    provider.spec = *spec;
                    kept.push((*kind, *spec));
                }
                None => self.retire(id, place, turn),
            }
        }
        for (kind, spec, configured) in wanted {
            if !kept.contains(&(kind, spec)) {
                let lane = self.open_lane(kind, configured, turn);
                let new = Provider { spec, ..provider(kind, configured, lane) };
                self.add_provider(id, new, turn);
            }
        }
        self.log_off_leaving(id, turn);
    }

    fn add_provider(&mut self, id: SessionId, new: Provider, turn: &mut Turn) {
        let place = self.free_place(id);
        let session = self.sessions.all.get_mut(id).expect("looked at before");
        let new = Provider { state: ProviderState::LoggingOn(0), ..new };
        let place = if let Some(place) = place {
            session.providers[place] = new;
            place
        } else {
            session.providers.push(new);
            session.providers.len() - 1
        };
        self.call_logon(id, place, turn);
        self.provider_changed(id, place, turn);
    }

    /// The place of a provider that has left and to which nothing refers any more.
    fn free_place(&self, id: SessionId) -> Option<usize> {
        let session = self.sessions.all.get(&id)?;
        let is_free = |place: &usize| {
            let provider = &session.providers[*place];
            provider.part == Part::Leaving
                && provider.state == ProviderState::Gone
                && !self.queues.flights.values().any(|f| f.view() == (id, *place))
                && !self.providers.left_behind.has((id, *place))
                && !self.sweeps.wait_for(id, *place)
                && !self.peers.processes.iter().any(|p| p.told_do.contains(&(id, *place)))
        };
        (0..session.providers.len()).find(is_free)
    }

    /// Takes a provider out of use. Messages that wait for it are routed anew.
    fn retire(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let session = self.sessions.all.get_mut(id).expect("looked at before");
        session.version.leaving = true;
        let provider = &mut session.providers[place];
        provider.part = Part::Leaving;
        if provider.kind == ProviderType::Transport {
            self.queues.tally.forget(&session.key.profile, &provider.name);
        }
        (provider.reach, provider.probe) = (Reach::Yes, None);
        self.timers.clear(Timer::Reach(id, place));
        self.take_back_unprepared((id, place));
        let session = self.sessions.all.get_mut(id).expect("looked at before");
        let engines: Vec<_> = session.engines().map(|(_, engine)| engine).collect();
        for engine in engines {
            if let Some(engine) = self.queues.engines.get_mut(engine) {
                engine.leave_whole_line(&(id, place));
            }
        }
        self.status_changed(id, place, turn);
    }

    /// Takes messages from a transport that has not prepared them: nothing was handed over, and another transport may take them. What it
    /// prepares after all it forgets when it logs off.
    fn take_back_unprepared(&mut self, view: (SessionId, usize)) {
        let flights = self.queues.flights.iter();
        let of_it = flights.filter(|(_, f)| f.view() == view && f.is_preparing());
        let mut of_it: Vec<_> = of_it.map(|(id, _)| *id).collect();
        of_it.sort_unstable();
        for flight in of_it {
            let Some(flight) = self.queues.flights.remove(&flight) else { continue };
            let session = self.sessions.all.get_mut(view.0).expect("looked at before");
            session.providers[view.1].in_flight -= 1;
            let (engine, record) = flight.message();
            self.free(engine, record);
        }
    }

    /// Keeps a profile that is to be deleted when its sessions have ended: its file was written anew since.
    fn stays_after_all(&mut self, profile: &str) {
        if self.sessions.doomed.get(profile).is_some_and(Vec::is_empty) {
            self.sessions.doomed.remove(profile);
        }
    }

    /// Logs off the leaving providers of a session that have finished what they were called for.
    pub(crate) fn log_off_leaving(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let (mut calls, mut gone) = (Vec::new(), Vec::new());
        for (place, provider) in session.providers.iter_mut().enumerate() {
            if provider.is_in_use() || provider.in_flight + provider.unanswered > 0 {
                continue;
            }
            match provider.state {
                ProviderState::Available => {
                    provider.state = ProviderState::LoggingOff;
                    calls.push((provider.lane, place));
                }
                ProviderState::Configured | ProviderState::Failed(_) => gone.push(place),
                ProviderState::LoggingOn(_) | ProviderState::LoggingOff | ProviderState::Gone => {}
            }
        }
        for (lane, place) in calls {
            let after = AfterDone::LoggedOff(id, place);
            self.call(lane, Caller::broker(Some(id)), Ask::logoff(), after, turn);
        }
        for place in gone {
            self.has_left(id, place, turn);
        }
    }

    /// Ends the use of a provider that the profile does not have any more.
    pub(crate) fn has_left(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        provider.state = ProviderState::Gone;
        let lane = provider.lane;
        let leaves = |p: &Provider| !p.is_in_use() && p.state != ProviderState::Gone;
        session.version.leaving = session.providers.iter().any(leaves);
        self.timers.clear(Timer::Logon(id, place));
        self.close_lane(lane, turn);
        self.status_changed(id, place, turn);
    }

    /// Makes the deferred messages of a session's profile due: another transport may take them now.
    fn try_deferred(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id).filter(|s| s.may_send()) else { return };
        let profile = session.key.profile.clone();
        let engines: Vec<_> = session.engines().map(|(_, engine)| engine).collect();
        for engine in engines {
            let waits = |e: &crate::queue::engine::Engine| e.is_open() && e.waits();
            if self.queues.engines.get(&engine).is_some_and(waits) {
                let (whose, profile) = (Flush::Store, Some(profile.clone()));
                let flushing = Flushing { whose, profile, uid: None, engine, found: 0 };
                self.hasten(flushing, 0, turn);
            }
        }
    }
}

impl crate::sessions::session::InUse {
    /// Why a session does not use all of the present file of its profile.
    pub(crate) fn note(&self) -> Option<String> {
        if let Some(why) = &self.refused {
            return Some(format!(
                "its file cannot be used, and the session keeps what it has: {why}"
            ));
        }
        let text = "its file names other stores, which the next session opens";
        (self.stores == Stores::Others).then(|| text.to_owned())
    }
}
