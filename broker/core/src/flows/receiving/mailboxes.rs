//! Mailboxes: when they watch, what they write into a store, and what they are told of changes there.
//!
//! ```text
//!  mailbox  Resting ──a process with a member with mail that gave no notice──► Watching
//!              ▲                                                        │
//!              └───── every such process has given notice or left ──────┘   unless the profile says watch = "always"
//! ```
//!
//! A mailbox writes by itself, and never more than one slice that the broker has not heard of: [`Event::StoreChanged`] is applied
//! before the mailbox goes on. A change that a process makes here is durable in the store before it is answered; the mailbox is
//! told that there is something to do, and finds it there.
//!
//! [`Event::StoreChanged`]: crate::Event::StoreChanged

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use sundown_protocol::reply::{MailboxState, Reply, Synced};
use sundown_protocol::request::Folder;
use sundown_protocol::{Code, EntryId, Fault, MemberId, SessionId};

use crate::broker::Broker;
use crate::flows::working::advise::StoreNews;
use crate::ground::event::{Effect, EngineId, LaneId, Trouble, Turn};
use crate::ground::provider::{
    MailboxCall, MailboxReport, News, ProviderError, ProviderType, StoreChange,
};
use crate::ground::settings::{Right, Watching};
use crate::peers::connection::Asker;
use crate::providers::ask::{Ask, Done};
use crate::providers::calls::Caller;
use crate::providers::view::{Poke, Provider, ProviderState};
use crate::sessions::session::{Session, SessionState};
use crate::then::{AfterDone, AfterPiece, Fetching, Reading, Syncing, Wanted};

/// The most sessions, and about the most mailboxes, of a page of how they fare.
const PAGE: usize = 1_000;

impl Broker {
    /// Tells the mailboxes of sessions whose members have changed to watch or to rest.
    pub(crate) fn settle_mailboxes(&mut self, turn: &mut Turn) {
        while let Some(id) = self.sessions.unsettled.pop_first() {
            self.settle_mailboxes_of(id, turn);
        }
    }

    fn settle_mailboxes_of(&mut self, id: SessionId, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id).filter(|s| s.has_mailboxes()) else {
            return;
        };
        let store = session.engines().next().and_then(|(_, e)| self.queues.engines.get(&e)?.uid);
        let attended = self.is_attended(session);
        let mut calls = Vec::new();
        let session = self.sessions.all.get_mut(id).expect("looked at just before");
        let runs = match session.state {
            SessionState::Active | SessionState::Memberless | SessionState::Ending { .. } => true,
            SessionState::Starting => false,
            // The logoff is next: a mailbox is told nothing more, so that nothing keeps it.
            SessionState::Closing { .. } => {
                return session.providers.iter_mut().for_each(|p| p.watching = false);
            }
        };
        let profile = session.profile.as_deref();
        for (place, provider) in session.providers.iter_mut().enumerate() {
            if !is_there(provider) {
                continue;
            }
            let configured = profile.and_then(|p| p.mailboxes.get(provider.spec));
            let always = configured.is_some_and(|m| m.watch == Watching::Always);
            // What is being carried out is finished first: other programs of the Maildir wait for it.
            let busy = provider.watching && provider.poke != Poke::Idle;
            let watches = busy || runs && provider.is_in_use() && (attended || always);
            let store = store.filter(|_| watches);
            if std::mem::replace(&mut provider.watching, store.is_some()) != store.is_some() {
                let call = store.map_or(MailboxCall::Rest, |store| MailboxCall::Watch { store });
                calls.push((place, provider.lane, call));
            }
        }
        for (place, lane, call) in calls {
            let after = AfterDone::Told(id, place);
            self.call(lane, Caller::broker(Some(id)), Ask::mailbox(call), after, turn);
            self.status_changed(id, place, turn);
        }
    }

    /// Whether a process has a member with mail in the session (LOGON-15), and has not said that it leaves.
    fn is_attended(&self, session: &Session) -> bool {
        let stays = |id| {
            let member = self.sessions.members.get(id).filter(|member| member.has_mail())?;
            let process = self.peers.processes.get(member.process)?;
            Some(!process.is_leaving(session.id))
        };
        // Whoever came last mostly stays longest.
        session.members.iter().rev().any(|id| stays(id).unwrap_or(false))
    }

    /// Tells the mailboxes of a store that there may be pending changes in it.
    pub(crate) fn poke_mailboxes(&mut self, engine: EngineId, turn: &mut Turn) {
        let Some(state) = self.queues.engines.get(&engine) else { return };
        let mut calls = Vec::new();
        for id in &state.sessions {
            let Some(session) = self.sessions.all.get_mut(*id) else { continue };
            for (place, provider) in session.providers.iter_mut().enumerate() {
                if is_there(provider) && provider.next_poke() {
                    calls.push((*id, place, provider.lane));
                }
            }
        }
        for (id, place, lane) in calls {
            self.call_poke((id, place), lane, turn);
        }
    }

    /// A mailbox was told that a process leaves. If it goes on watching for the others it is called, so that it is made anew if it is
    /// shut down for good: nobody else may call it until the last process leaves.
    pub(crate) fn mailbox_swept(&mut self, id: SessionId, place: usize, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        if is_there(provider) && provider.watching && provider.next_poke() {
            let lane = provider.lane;
            self.call_poke((id, place), lane, turn);
        }
    }

    fn call_poke(&mut self, (id, place): (SessionId, usize), lane: LaneId, turn: &mut Turn) {
        let ask = Ask::mailbox(MailboxCall::Changed);
        self.call(lane, Caller::broker(Some(id)), ask, AfterDone::Poked(id, place), turn);
    }

    /// A mailbox has carried out pending changes, or says why it has not. If there were more meanwhile, it is told again. A session
    /// that closes waits for it: the change of a program that is gone at once is seen by the next one.
    pub(crate) fn poked(
        &mut self,
        id: SessionId,
        place: usize,
        result: Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        self.mailbox_told(id, place, result, turn);
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        let again = std::mem::take(&mut provider.poke) == Poke::Again;
        self.sessions.unsettled.insert(id);
        if again && is_there(provider) {
            provider.poke = Poke::Called;
            let lane = provider.lane;
            self.call_poke((id, place), lane, turn);
        }
    }

    /// A mailbox was told what to do. What it says against that is shown.
    pub(crate) fn mailbox_told(
        &mut self,
        id: SessionId,
        place: usize,
        result: Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        let provider = self.sessions.all.get(&id).map(|session| &session.providers[place]);
        if let (Err(error), Some(provider)) = (result, provider)
            && is_there(provider)
        {
            self.mailbox_said(provider.lane, &Err(error), turn);
        }
    }

    /// A provider was made anew, or could not be. A mailbox knows nothing of what the one before it was told. One that is still shut
    /// down is told to watch by the next process that comes.
    pub(crate) fn mailbox_renewed(
        &mut self,
        session: Option<SessionId>,
        lane: LaneId,
        error: Option<&ProviderError>,
        turn: &mut Turn,
    ) {
        let Some(session) = session.and_then(|id| self.sessions.all.get_mut(id)) else { return };
        let is_it = |p: &Provider| p.lane == lane && p.kind == ProviderType::Mailbox;
        let Some(place) = session.providers.iter().position(is_it) else { return };
        session.providers[place].watching = false;
        let id = session.id;
        match error {
            None => drop(self.sessions.unsettled.insert(id)),
            Some(error) => self.mailbox_told(id, place, Err(error.clone()), turn),
        }
    }

    /// Has every mailbox of a session look at everything, one behind the other, and answers what they have found.
    pub(crate) fn sync(
        &mut self,
        asker: Asker,
        id: MemberId,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let session = self.session_of(member).id;
        self.sync_next(Syncing { asker, session, place: 0, found: Synced::default() }, turn);
        Ok(())
    }

    /// Asks the first mailbox from a place on.
    fn sync_next(&mut self, mut syncing: Syncing, turn: &mut Turn) {
        let Some(place) = self.mailbox_from(syncing.session, syncing.place) else {
            return self.answer(syncing.asker, Ok(Reply::Synced(syncing.found)), turn);
        };
        syncing.place = place;
        let lane = self.sessions.all[&syncing.session].providers[place].lane;
        self.call(lane, Caller::broker(Some(syncing.session)), Ask::sync(), syncing, turn);
    }

    /// The first place from this one on with a mailbox that can be called.
    fn mailbox_from(&self, session: SessionId, place: usize) -> Option<usize> {
        let session = self.sessions.all.get(&session)?;
        let can_be_called = |p: &Provider| is_there(p) && self.providers.is_open(p.lane);
        let behind = session.providers.iter().skip(place).position(can_be_called)?;
        Some(place + behind)
    }

    /// A mailbox has looked at everything, or says why it has not: then the others are not asked.
    pub(crate) fn synced(
        &mut self,
        mut syncing: Syncing,
        result: Result<Synced, ProviderError>,
        turn: &mut Turn,
    ) {
        let Syncing { session, place, .. } = syncing;
        // That the mailbox works is for itself to say: one with changes that were refused looks at everything, too.
        if let Err(error) = &result
            && self.mailbox_from(session, place) == Some(place)
        {
            self.mailbox_fares(session, place, Err(error), turn);
        }
        match result {
            Ok(Synced { new, changed, removed, pending }) => {
                let found = &mut syncing.found;
                found.new += new;
                found.changed += changed;
                found.removed += removed;
                found.pending += pending;
                syncing.place += 1;
                self.sync_next(syncing, turn);
            }
            Err(error) => self.reply(syncing.asker, Err(error), turn),
        }
    }

    /// Has a mailbox fetch a message that somebody reads or copies. Whether there is one.
    pub(crate) fn fetch_first(&mut self, wanted: Wanted, turn: &mut Turn) -> bool {
        let Some(engine) = self.queues.engines.get(&wanted.engine()) else { return false };
        let mut sessions = engine.sessions.iter().copied();
        let found = sessions.find_map(|id| Some((id, self.mailbox_from(id, 0)?)));
        let Some((session, place)) = found else { return false };
        self.fetch_from(Fetching { wanted, session, place }, turn);
        true
    }

    fn fetch_from(&mut self, fetching: Fetching, turn: &mut Turn) {
        let Fetching { wanted, session, place } = fetching;
        let lane = self.sessions.all[&session].providers[place].lane;
        let (caller, ask) = (Caller::broker(Some(session)), Ask::fetch(wanted.record()));
        self.call(lane, caller, ask, AfterDone::Fetched(fetching), turn);
    }

    /// A mailbox has fetched a message, or does not have it: then the next one is asked.
    pub(crate) fn fetched(
        &mut self,
        mut fetching: Fetching,
        result: Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        let asker = *fetching.wanted.asker();
        match result {
            Ok(Done) => {
                let reading = match fetching.wanted {
                    Wanted::Read(reading) => Reading { fetched: true, ..reading },
                    Wanted::Copied(copying) => return self.copy_fetched(copying, turn),
                };
                let engine = self.queues.engines.get(&reading.engine).filter(|e| e.is_open());
                let Some(lane) = engine.map(|engine| engine.read) else {
                    let text = "the store was closed while the message was fetched";
                    let fault = Fault::new(Code::E_NOT_FOUND, text);
                    return self.answer(reading.asker, Err(fault), turn);
                };
                let (caller, ask) =
                    (Caller::broker(None), Ask::piece(reading.record, reading.offset));
                self.call(lane, caller, ask, AfterPiece::Read(reading), turn);
            }
            Err(error) if error.code == Code::E_NOT_FOUND => {
                match self.mailbox_from(fetching.session, fetching.place + 1) {
                    Some(place) => {
                        fetching.place = place;
                        self.fetch_from(fetching, turn);
                    }
                    None => self.reply(asker, Err(error), turn),
                }
            }
            Err(error) => self.reply(asker, Err(error), turn),
        }
    }

    /// A mailbox says how far it is.
    pub(crate) fn mailbox_reports(&mut self, lane: LaneId, report: MailboxReport, turn: &mut Turn) {
        let Some((id, place)) = self.mailbox_of(lane) else { return };
        let Some(session) = self.sessions.all.get_mut(id) else { return };
        let provider = &mut session.providers[place];
        let before = provider.receives();
        provider.report = report;
        if provider.receives() != before {
            self.status_changed(id, place, turn);
        }
    }

    /// How the mailboxes fare of the sessions behind this one that a user may see, as many as fit into a frame.
    pub(crate) fn mailboxes_page(&self, uid: u32, after: SessionId) -> Reply {
        let sees_all = self.right(uid, &[]) >= Right::Admin;
        let (mut mailboxes, mut next, mut last) = (Vec::new(), None, None);
        for (looked_at, (id, session)) in
            self.sessions.all.range((Excluded(after), Unbounded)).enumerate()
        {
            if mailboxes.len() >= PAGE || looked_at >= PAGE {
                next = last;
                break;
            }
            last = Some(*id);
            let key = &session.key;
            if session.closes()
                || !(sees_all || key.user == uid || self.administers(uid, &key.profile))
            {
                continue;
            }
            let of_session = session.providers.iter().filter(|p| is_there(p) && p.is_in_use());
            mailboxes.extend(of_session.map(|p| MailboxState {
                session: *id,
                name: p.name.clone(),
                connections: p.report.connections,
                pending: p.report.pending,
                syncing: p.report.syncing,
                checked: p.report.checked,
                changed: p.report.changed,
            }));
        }
        Reply::Mailboxes { mailboxes, next }
    }

    /// Tells everybody whom it concerns what a mailbox has written into a store.
    pub(crate) fn store_changed(
        &mut self,
        lane: LaneId,
        changes: Vec<StoreChange>,
        turn: &mut Turn,
    ) {
        let Some(engine) = self.queues.engines.of_lane(lane) else { return };
        if let Some(state) = self.queues.engines.get(&engine) {
            self.queues.tally.mirrored(&state.profile, changes.len());
        }
        for change in changes {
            match change {
                StoreChange::Created { record, folder, news } => {
                    self.store_news(engine, (record, None), &StoreNews::Created(folder), turn);
                    if let Some(news) = news {
                        self.new_mail(engine, (record, folder), news, turn);
                    }
                }
                StoreChange::Modified { record, folder } => {
                    self.store_news(engine, (record, None), &StoreNews::Modified(folder), turn);
                }
                StoreChange::Moved { record, from, to } => {
                    let news = StoreNews::Moved { from, to };
                    self.store_news(engine, (record, None), &news, turn);
                }
                StoreChange::Deleted { record, folder } => {
                    self.store_news(engine, (record, None), &StoreNews::Deleted(folder), turn);
                }
                StoreChange::Folder { folder, change } => {
                    self.folder_news(engine, folder, change, turn);
                }
                StoreChange::Reload(folder) => self.folder_reload(engine, folder, turn),
            }
        }
    }

    /// Tells of new mail, and runs the command that a profile has for it.
    pub(crate) fn new_mail(
        &mut self,
        engine: EngineId,
        (record, folder): (u128, Folder),
        news: Box<News>,
        turn: &mut Turn,
    ) {
        let Some(state) = self.queues.engines.get(&engine) else { return };
        self.queues.tally.new_mail(&state.profile);
        let entry = EntryId { store: state.uid.unwrap_or(0), record };
        let sessions = state.sessions.iter().filter_map(|id| self.sessions.all.get(id));
        let mut told = BTreeSet::new();
        for session in sessions {
            let Some(profile) = &session.profile else { continue };
            if let Some(command) = &profile.on_new_mail
                && told.insert(&profile.name)
            {
                turn.emit(Effect::RunForMail {
                    profile: profile.name.clone(),
                    command: command.clone(),
                    entry,
                    news: news.clone(),
                });
            }
        }
        self.store_news(engine, (record, None), &StoreNews::NewMail(folder, news), turn);
    }

    /// A mailbox says whether it works.
    pub(crate) fn mailbox_said(
        &mut self,
        lane: LaneId,
        said: &Result<(), ProviderError>,
        turn: &mut Turn,
    ) {
        let Some((id, place)) = self.mailbox_of(lane) else { return };
        self.mailbox_fares(id, place, said.as_ref(), turn);
    }

    /// The mailbox with this lane.
    fn mailbox_of(&self, lane: LaneId) -> Option<(SessionId, usize)> {
        let of_lane = |p: &Provider| p.lane == lane && p.kind == ProviderType::Mailbox;
        self.sessions
            .all
            .values()
            .find_map(|session| Some((session.id, session.providers.iter().position(of_lane)?)))
    }

    /// Notes whether a mailbox works, as it has said.
    pub(crate) fn mailbox_fares(
        &mut self,
        id: SessionId,
        place: usize,
        said: Result<&(), &ProviderError>,
        turn: &mut Turn,
    ) {
        match said {
            Ok(()) => {
                self.note_use((id, place), true, "it works", turn);
                self.log_end_of(id, place, &Trouble::ALL, turn);
            }
            Err(error) => {
                self.note_use((id, place), false, &error.message, turn);
                self.log_trouble(id, place, Trouble::Unreachable, &error.message, turn);
            }
        }
        self.status_changed(id, place, turn);
    }
}

fn is_there(provider: &Provider) -> bool {
    provider.kind == ProviderType::Mailbox && provider.state == ProviderState::Available
}
