//! Registrations and notifications.
//!
//! A member's right decides what it may hear (design §2). With the right submit it hears of its user's submissions and of no other
//! message; a member that may read hears of all messages. The end of a session and news about the member itself are told to all
//! members.

use sundown_protocol::notification::{Arrival, FolderChange, TableChange};
use sundown_protocol::request::{AdviseSource, Folder};
use sundown_protocol::{
    AdviseId, Code, EntryId, Event as News, Events, Fault, MemberId, Notification, ObjectId,
    SessionId,
};

use crate::broker::Broker;
use crate::ground::event::{Effect, EngineId, Turn};
use crate::ground::provider::News as NewMail;
use crate::ground::settings::Right;
use crate::peers::connection::Asker;
use crate::peers::quota::Quota;
use crate::sessions::member::{Advise, Member};
use crate::sessions::object::Object;
use crate::sessions::session::Session;

/// What happened to a message in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreNews {
    Created(Folder),
    Modified(Folder),
    Moved { from: Folder, to: Folder },
    Deleted(Folder),
    NewMail(Folder, Box<NewMail>),
}

impl Broker {
    pub(crate) fn advise(
        &mut self,
        asker: Asker,
        id: MemberId,
        source: AdviseSource,
        events: Events,
    ) -> Result<AdviseId, Fault> {
        let member = self.attached(asker, id)?;
        let unsupported = |what: &str| {
            let message = format!("{what} does not notify of all these events ({events:?})");
            Err(Fault::new(Code::E_NO_SUPPORT, message))
        };
        if events.0 & Events::STATUS_OBJECT_MODIFIED.0 != 0 {
            return unsupported("nothing that a client may register on");
        }
        if events.0 & !Events::all().0 != 0 {
            let message = format!("{events:?} has events that are not known");
            return Err(Fault::new(Code::E_UNKNOWN_FLAGS, message));
        }
        if let AdviseSource::Object(object) = source {
            match member.objects.get(object) {
                None => return Err(dead_object()),
                Some(Object::StatusTable | Object::AddressBook)
                    if events != Events::TABLE_MODIFIED =>
                {
                    return unsupported("a table");
                }
                Some(Object::Draft(_)) => return unsupported("an unsaved message"),
                Some(_) if events.contains(Events::EXTENDED) => return unsupported("an object"),
                Some(_) => {}
            }
        }
        let (session, process) = (member.session, member.process);
        self.check_quota(process, Quota::Registrations)?;
        self.peers.processes.charge(process, Quota::Registrations, 1);
        let member = self.sessions.members.get_mut(&id).expect("looked at before");
        member.advised = member.advised.checked_add(1).unwrap_or(1);
        let advise = AdviseId(member.advised);
        member.advises.insert(advise, Advise { source, events });
        self.listen(id, session);
        Ok(advise)
    }

    pub(crate) fn unadvise(
        &mut self,
        asker: Asker,
        id: MemberId,
        advise: AdviseId,
    ) -> Result<(), Fault> {
        let member = self.member_mut(asker, id)?;
        let (session, process) = (member.session, member.process);
        member.advises.remove(&advise).ok_or_else(|| {
            let message = format!("this session has no registration {}", advise.0);
            Fault::new(Code::E_NOT_FOUND, message)
        })?;
        self.peers.processes.pay_back(process, Quota::Registrations, 1);
        self.listen(id, session);
        Ok(())
    }

    /// Updates the session's lists of members that registered for store and table events, and for arrivals and departures.
    fn listen(&mut self, id: MemberId, session: SessionId) {
        let quiet = (Events::CRITICAL_ERROR | Events::EXTENDED).0;
        let advises = &self.sessions.members[&id].advises;
        let listens = advises.values().any(|a| a.events.0 & !quiet != 0);
        let curious = advises.values().any(|a| a.events.contains(Events::EXTENDED));
        let session = self.sessions.all.get_mut(session).expect("it outlives its members");
        for (list, belongs) in [(&mut session.listeners, listens), (&mut session.curious, curious)]
        {
            if belongs {
                list.insert(id);
            } else {
                list.remove(&id);
            }
        }
    }

    /// A member, unless its connection has just closed or its process has left.
    fn reachable(&self, id: MemberId) -> Option<&Member> {
        let here = |m: &&Member| {
            self.peers.connections.contains_key(&m.connection) && !self.is_done(m.process)
        };
        self.sessions.members.get(&id).filter(here)
    }

    /// Notifies a member whether or not it registered: through its session registrations, or else in the default event queue.
    pub(crate) fn tell_always(&mut self, id: MemberId, news: News, turn: &mut Turn) {
        let Some(member) = self.reachable(id) else { return };
        let advises = news.mask().map_or_else(Vec::new, |mask| member.session_advises(mask));
        notify(member, advises, news, turn);
    }

    /// Notifies a member if it registered on its session.
    pub(crate) fn tell_asked(&mut self, id: MemberId, news: &News, turn: &mut Turn) {
        let Some(member) = self.reachable(id) else { return };
        let advises = news.mask().map_or_else(Vec::new, |mask| member.session_advises(mask));
        if !advises.is_empty() {
            notify(member, advises, news.clone(), turn);
        }
    }

    /// Tells the members that registered and may hear it what happened to a message, in all sessions of the store. `submitter` is
    /// the user that submitted the message, if it is in the queue.
    pub(crate) fn store_news(
        &mut self,
        engine: EngineId,
        (record, submitter): (u128, Option<u32>),
        news: &StoreNews,
        turn: &mut Turn,
    ) {
        let Some(state) = self.queues.engines.get(&engine) else { return };
        let entry = EntryId { store: state.uid.unwrap_or(0), record };
        for session in &state.sessions {
            let Some(session) = self.sessions.all.get(session) else { continue };
            let store = session.engines().find(|(_, e)| *e == engine).map(|(place, _)| place);
            let Some(store) = store else { continue };
            let listeners = session.listeners.iter().filter_map(|id| self.reachable(*id));
            for member in listeners.filter(|m| self.may_hear_of(m, submitter)) {
                tell_of_message(member, store, entry, news, turn);
            }
        }
    }

    /// Tells the members that registered and may hear it what happened to a folder, in all sessions of the store.
    pub(crate) fn folder_news(
        &mut self,
        engine: EngineId,
        folder: Folder,
        change: FolderChange,
        turn: &mut Turn,
    ) {
        let Some(state) = self.queues.engines.get(&engine) else { return };
        let event = News::Folder { store: state.uid.unwrap_or(0), folder, change };
        let mask = event.mask().unwrap_or_default();
        self.each_listener(engine, |member, place| {
            let concerns = |advise: &Advise| match advise.source {
                AdviseSource::Session => true,
                AdviseSource::Object(object) => match member.objects.get(object) {
                    Some(Object::Store(store)) => *store == place,
                    Some(Object::Folder(store, it)) => *store == place && *it == folder,
                    _ => false,
                },
            };
            let told =
                member.advises.iter().filter(|(_, a)| a.events.contains(mask) && concerns(a));
            let told: Vec<_> = told.map(|(id, _)| *id).collect();
            if !told.is_empty() {
                notify(member, told, event.clone(), turn);
            }
        });
    }

    /// Tells the members with an open table of a folder that it is to be read again.
    pub(crate) fn folder_reload(&mut self, engine: EngineId, folder: Folder, turn: &mut Turn) {
        self.each_listener(engine, |member, place| {
            let is_table = |o: &Object| *o == Object::Folder(place, folder);
            tell_of_table(member, is_table, || TableChange::Reload, turn);
        });
    }

    /// Calls a function for each member that registered for events of messages and may hear of all messages, in all sessions of the
    /// store, with the place of the store in the member's profile.
    fn each_listener(&self, engine: EngineId, mut tell: impl FnMut(&Member, u16)) {
        let Some(state) = self.queues.engines.get(&engine) else { return };
        for session in &state.sessions {
            let Some(session) = self.sessions.all.get(session) else { continue };
            let store = session.engines().find(|(_, e)| *e == engine).map(|(place, _)| place);
            let Some(store) = store else { continue };
            let listeners = session.listeners.iter().filter_map(|id| self.reachable(*id));
            for member in listeners.filter(|m| self.may_hear_of(m, None)) {
                tell(member, store);
            }
        }
    }

    /// Whether a member may hear of a message that this user submitted, or that is in no queue.
    fn may_hear_of(&self, member: &Member, submitter: Option<u32>) -> bool {
        match member.right {
            Right::Session | Right::Admin => true,
            Right::Submit => {
                let user = self.peers.processes.get(member.process).map(|p| p.uid);
                submitter.is_some() && submitter == user
            }
            Right::None => false,
        }
    }

    /// Tells the members with an open table of a session that the table changed.
    fn table_news(
        &self,
        session: SessionId,
        is_table: impl Fn(&Object) -> bool,
        change: impl Fn(&Session) -> TableChange,
        turn: &mut Turn,
    ) {
        let Some(session) = self.sessions.all.get(&session) else { return };
        for member in session.listeners.iter().filter_map(|id| self.reachable(*id)) {
            tell_of_table(member, &is_table, || change(session), turn);
        }
    }

    pub(crate) fn address_book_changed(&self, session: SessionId, turn: &mut Turn) {
        let is_table = |o: &Object| *o == Object::AddressBook;
        self.table_news(session, is_table, |_| TableChange::Reload, turn);
    }

    /// Announces the changed row of a provider in a session's status table.
    pub(crate) fn status_changed(&self, session: SessionId, place: usize, turn: &mut Turn) {
        let is_table = |o: &Object| *o == Object::StatusTable;
        let change = |s: &Session| TableChange::Modified(s.providers[place].name.clone());
        self.table_news(session, is_table, change, turn);
    }
}

fn notify(member: &Member, advises: Vec<AdviseId>, event: News, turn: &mut Turn) {
    let notification = Notification { member: member.id, advises, event };
    turn.emit(Effect::Notify { connection: member.connection, notification });
}

/// A change to the row with this key.
type RowChange = fn(String) -> TableChange;

fn tell_of_message(member: &Member, store: u16, entry: EntryId, news: &StoreNews, turn: &mut Turn) {
    use sundown_protocol::reply::Place;
    let at = |folder| Place { entry, folder };
    let (event, folders): (News, &[Folder]) = match news {
        StoreNews::Created(folder) => (News::Created(at(*folder)), std::slice::from_ref(folder)),
        StoreNews::Deleted(folder) => (News::Deleted(at(*folder)), std::slice::from_ref(folder)),
        StoreNews::Modified(folder) => (News::Modified(at(*folder)), std::slice::from_ref(folder)),
        StoreNews::NewMail(folder, mail) => {
            let (from, subject) = (mail.from.clone(), mail.subject.clone());
            let arrival = Arrival { place: at(*folder), from, subject };
            (News::Arrived(Box::new(arrival)), std::slice::from_ref(folder))
        }
        StoreNews::Moved { from, to } => (News::Moved(at(*to), *from), &[*from, *to]),
    };
    let mask = event.mask().unwrap_or_default();
    let concerns = |advise: &Advise| match advise.source {
        AdviseSource::Session => true,
        AdviseSource::Object(object) => match member.objects.get(object) {
            Some(Object::Store(place)) => *place == store,
            Some(Object::Folder(place, folder)) => *place == store && folders.contains(folder),
            Some(Object::Message(message)) => *message == entry,
            _ => false,
        },
    };
    let told = member.advises.iter().filter(|(_, a)| a.events.contains(mask) && concerns(a));
    let told: Vec<_> = told.map(|(id, _)| *id).collect();
    if !told.is_empty() {
        notify(member, told, event, turn);
    }
    let changes: [Option<(Folder, RowChange)>; 2] = match *news {
        StoreNews::Modified(folder) => [Some((folder, TableChange::Modified)), None],
        StoreNews::Created(folder) => [Some((folder, TableChange::Added)), None],
        StoreNews::Deleted(folder) => [Some((folder, TableChange::Deleted)), None],
        StoreNews::Moved { from, to } => {
            [Some((from, TableChange::Deleted)), Some((to, TableChange::Added))]
        }
        StoreNews::NewMail(..) => [None, None],
    };
    for (folder, change) in changes.into_iter().flatten() {
        let is_table = |o: &Object| *o == Object::Folder(store, folder);
        // Few members have a table open, so the row's key is formatted only for them.
        tell_of_table(member, is_table, || change(entry.to_string()), turn);
    }
}

/// Sends one notification for each open table, with the table's registrations.
fn tell_of_table(
    member: &Member,
    is_table: impl Fn(&Object) -> bool,
    change: impl Fn() -> TableChange,
    turn: &mut Turn,
) {
    let mut tables: Vec<(ObjectId, Vec<AdviseId>)> = Vec::new();
    for (id, advise) in &member.advises {
        let AdviseSource::Object(object) = advise.source else { continue };
        if !advise.events.contains(Events::TABLE_MODIFIED)
            || !member.objects.get(object).is_some_and(&is_table)
        {
            continue;
        }
        match tables.iter_mut().find(|(table, _)| *table == object) {
            Some((_, advises)) => advises.push(*id),
            None => tables.push((object, vec![*id])),
        }
    }
    for (object, advises) in tables {
        notify(member, advises, News::Table { object, change: change() }, turn);
    }
}

/// The fault of a handle that refers to no object, or to none any more.
pub(crate) fn dead_object() -> Fault {
    Fault::new(
        Code::E_INVALID_OBJECT,
        "no such object: it was released, its session was logged off, or it belongs to another session",
    )
}
