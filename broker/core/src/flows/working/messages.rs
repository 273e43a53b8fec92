//! The objects of a session and their contents: open, list, read, upload, drafts, settings, address books.

use sundown_protocol::reply::{Reply, Rows, TableRows};
use sundown_protocol::request::{
    AddressAction, Blob, Content, Folder, Opening, ReadSource, SettingChange,
};
use sundown_protocol::{
    Code, EntryId, Fault, MemberId, ObjectId, SessionId, SubmitKey, UploadId, frame,
};

use crate::broker::{Broker, DRAFTS};
use crate::flows::working::advise::{StoreNews, dead_object};
use crate::ground::event::{EngineId, LaneId, Turn};
use crate::ground::provider::{MessageContent, ProviderError, ProviderType, Scope};
use crate::peers::account::Charge;
use crate::peers::connection::Asker;
use crate::peers::quota::Quota;
use crate::providers::ask::{Address, Appended, Ask, Found, Piece, Removed, Saved};
use crate::providers::calls::Caller;
use crate::providers::view::{Provider, ProviderState};
use crate::sessions::member::{Member, Upload};
use crate::sessions::object::{Draft, Object};
use crate::then::{
    AfterAddress, AfterDone, AfterPiece, AfterSave, Appending, Deleting, Finding, Reading,
    Resolving, Wanted,
};

/// The most rows of one page, whatever was asked for: they must fit into a frame.
pub(crate) const MAX_ROWS: u32 = 256;

/// The longest section, name or value of a setting, in bytes.
const MAX_SETTING: usize = 64 << 10;

/// The most uploads that one member may have begun.
pub(crate) const MAX_UPLOADS: usize = 64;

impl Broker {
    pub(crate) fn open(
        &mut self,
        asker: Asker,
        id: MemberId,
        what: &Opening,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        self.check_object_quota(member)?;
        let object = match *what {
            Opening::Store(store) => {
                self.engine_for(member, store)?;
                Object::Store(store)
            }
            Opening::Folder(store, folder) if folder.built_in().is_none() => {
                return self.open_folder(asker, id, (store, folder), turn);
            }
            Opening::Folder(store, folder) => {
                self.engine_for(member, store)?;
                Object::Folder(store, folder)
            }
            Opening::AddressBook => Object::AddressBook,
            Opening::StatusTable => Object::StatusTable,
            Opening::Message(entry) => {
                let (_, engine) = self.engine_of_uid(member, entry.store)?;
                let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].read);
                let after = Finding { asker, member: id, entry };
                self.call(lane, caller, Ask::find(entry.record), after, turn);
                return Ok(());
            }
        };
        let object = self.insert_object(id, object);
        self.answer(asker, Ok(Reply::Opened(object)), turn);
        Ok(())
    }

    pub(crate) fn found(
        &mut self,
        Finding { asker, member: id, entry }: Finding,
        result: Result<Found, ProviderError>,
        turn: &mut Turn,
    ) {
        let opened = result.map_err(Fault::from).and_then(|Found| {
            self.check_object_quota(self.attached(asker, id)?)?;
            Ok(Reply::Opened(self.insert_object(id, Object::Message(entry))))
        });
        self.answer(asker, opened, turn);
    }

    pub(crate) fn check_object_quota(&self, member: &Member) -> Result<(), Fault> {
        self.check_quota(member.process, Quota::Objects)
    }

    pub(crate) fn insert_object(&mut self, id: MemberId, object: Object) -> ObjectId {
        let member = self.sessions.members.get_mut(&id).expect("who opens is a member");
        self.peers.processes.charge(member.process, Quota::Objects, 1);
        let is_draft = matches!(object, Object::Draft(_));
        let id = member.objects.insert(object);
        if is_draft {
            member.drafts.insert(id);
        }
        id
    }

    pub(crate) fn remove_object(&mut self, id: MemberId, object: ObjectId) -> Option<Object> {
        let member = self.sessions.members.get_mut(&id)?;
        let removed = member.objects.remove(object)?;
        member.drafts.remove(&object);
        self.peers.processes.pay_back(member.process, Quota::Objects, 1);
        Some(removed)
    }

    pub(crate) fn release(
        &mut self,
        asker: Asker,
        id: MemberId,
        object: ObjectId,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        self.member(asker, id)?;
        let removed = self.remove_object(id, object).ok_or_else(dead_object)?;
        let Object::Draft(Draft { store, content, saving, charge }) = removed else {
            return Ok(());
        };
        self.peers.processes.accounts.give_back(charge);
        if let (MessageContent::Uploaded(number), None) = (content, saving) {
            let member = &self.sessions.members[&id];
            let (engine, caller) = (self.engine_for(member, store), Self::caller(member));
            self.discard_from(engine.ok(), caller, number, turn);
        }
        Ok(())
    }

    pub(crate) fn list(
        &mut self,
        asker: Asker,
        id: MemberId,
        object: ObjectId,
        (after, limit): (u64, u32),
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let limit = limit.clamp(1, MAX_ROWS);
        let caller = Self::caller(member);
        match *member.objects.get(object).ok_or_else(dead_object)? {
            Object::Folder(store, folder) => {
                let engine = self.engine_for(member, store)?;
                let lane = self.queues.engines[&engine].read;
                self.call(lane, caller, Ask::list(folder, after, limit), asker, turn);
            }
            Object::AddressBook => {
                let lane = self.address_book_lane(member)?;
                self.call(lane, caller, Ask::list_addresses(after, limit), asker, turn);
            }
            Object::StatusTable => {
                let rows = TableRows::Status(self.status_rows(member));
                self.answer(asker, Ok(Reply::Rows(Rows { rows, next: None })), turn);
            }
            Object::Store(_) | Object::Message(_) | Object::Draft(_) => {
                let message =
                    "this object has no rows; list a folder, an address book or the status table";
                return Err(Fault::new(Code::E_NO_SUPPORT, message));
            }
        }
        Ok(())
    }

    pub(crate) fn read(
        &mut self,
        asker: Asker,
        id: MemberId,
        source: ReadSource,
        offset: u64,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let entry = match source {
            ReadSource::Entry(entry) => entry,
            ReadSource::Object(object) => match member.objects.get(object) {
                Some(Object::Message(entry)) => *entry,
                Some(_) => {
                    let message = "this object has no content; read a message";
                    return Err(Fault::new(Code::E_NO_SUPPORT, message));
                }
                None => return Err(dead_object()),
            },
        };
        let (_, engine) = self.engine_of_uid(member, entry.store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].read);
        let record = entry.record;
        let reading = Reading { asker, engine, record, offset, tells: true, fetched: false };
        self.call(lane, caller, Ask::piece(record, offset), AfterPiece::Read(reading), turn);
        Ok(())
    }

    /// Answers with a piece of a message. Reading a notification marks it as seen. What is at a server is fetched first.
    pub(crate) fn piece_read(
        &mut self,
        reading: Reading,
        result: Result<Piece, ProviderError>,
        turn: &mut Turn,
    ) {
        let is_elsewhere = |error: &ProviderError| error.scope == Scope::Elsewhere;
        if !reading.fetched
            && result.as_ref().is_err_and(is_elsewhere)
            && self.fetch_first(Wanted::Read(reading), turn)
        {
            return;
        }
        let Reading { asker, engine, record, tells, .. } = reading;
        let unread = result.as_ref().is_ok_and(|piece| piece.unread_notice);
        let reply = |Piece { size, bytes, .. }| Reply::Piece { size, bytes: Blob(bytes) };
        self.reply(asker, result.map(reply), turn);
        if !(tells && unread) {
            return;
        }
        if let Some(lane) =
            self.queues.engines.get(&engine).filter(|e| e.is_open()).map(|e| e.write)
        {
            self.call(lane, Caller::broker(None), Ask::seen(record), AfterDone::Nothing, turn);
        }
    }

    pub(crate) fn upload(
        &mut self,
        asker: Asker,
        id: MemberId,
        (store, upload): (u16, UploadId),
        bytes: Vec<u8>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        if bytes.len() > frame::MAX_BLOB {
            let message =
                format!("a piece of {} bytes; send at most {}", bytes.len(), frame::MAX_BLOB);
            return Err(Fault::new(Code::E_TOO_BIG, message));
        }
        let member = self.attached(asker, id)?;
        let engine = self.engine_for(member, store)?;
        let known = member.uploads.get(&upload);
        if member.failed_uploads.contains(&upload) {
            let message = "a piece of this upload failed or was refused; begin another one";
            return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
        }
        if known.is_some_and(|u| u.store != store) {
            let message = "an upload goes to one store; begin another one";
            return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
        }
        let (limit, caller, process) =
            (self.settings.limits.message, Self::caller(member), member.process);
        let size = known.map_or(0, |u| u.size) + bytes.len() as u64;
        if size > limit {
            return Err(too_big(size, limit));
        }
        self.check_room(process, Quota::UploadBytes, bytes.len())?;
        let number = match known {
            Some(known) => known.number,
            None => self.begin_upload(id, (store, upload))?,
        };
        let member = self.sessions.members.get_mut(&id).expect("looked at before");
        let known = member.uploads.get_mut(&upload).expect("it is begun");
        known.size = size;
        known.unanswered += 1;
        self.peers.processes.accounts.book_more(&mut known.charge, bytes.len());
        let lane = self.queues.engines[&engine].write;
        let after = Appending { asker, member: id, upload, number };
        self.call(lane, caller, Ask::append(number, bytes), after, turn);
        Ok(())
    }

    /// Begins an upload of a member.
    fn begin_upload(
        &mut self,
        id: MemberId,
        (store, upload): (u16, UploadId),
    ) -> Result<u64, Fault> {
        let number = self.number();
        let member = self.sessions.members.get_mut(&id).expect("looked at before");
        if member.uploads.len() >= MAX_UPLOADS {
            let message =
                format!("{MAX_UPLOADS} uploads were begun and not used; submit or save one");
            return Err(Fault::new(Code::E_BUSY, message));
        }
        let charge = self.peers.processes.book(member.process, Quota::UploadBytes, 0);
        member.uploads.insert(upload, Upload { store, number, size: 0, unanswered: 0, charge });
        Ok(number)
    }

    /// Fails an upload because one of its pieces failed or was refused. A body with a hole must never be used: the store discards
    /// what it has, and later pieces begin no new upload.
    pub(crate) fn fail_upload(&mut self, id: MemberId, upload: UploadId, turn: &mut Turn) {
        let Some(member) = self.sessions.members.get_mut(&id) else { return };
        if !member.failed_uploads.contains(&upload) {
            if member.failed_uploads.len() == MAX_UPLOADS {
                member.failed_uploads.pop_front();
            }
            member.failed_uploads.push_back(upload);
        }
        let Some(Upload { store, number, charge, .. }) = member.uploads.remove(&upload) else {
            return;
        };
        self.peers.processes.accounts.give_back(charge);
        let member = &self.sessions.members[&id];
        let (engine, caller) = (self.engine_for(member, store), Self::caller(member));
        self.discard_from(engine.ok(), caller, number, turn);
    }

    pub(crate) fn appended(
        &mut self,
        Appending { asker, member: id, upload, number }: Appending,
        result: Result<Appended, ProviderError>,
        turn: &mut Turn,
    ) {
        if let Some(member) = self.sessions.members.get_mut(&id)
            && let Some(known) = member.uploads.get_mut(&upload).filter(|u| u.number == number)
        {
            known.unanswered -= 1;
            if result.is_err() {
                self.fail_upload(id, upload, turn);
            }
        }
        self.reply(asker, result.map(|Appended| Reply::Done), turn);
    }

    /// Takes the content of a message that a client hands over, and the charge of an uploaded one.
    pub(crate) fn take_content(
        &mut self,
        id: MemberId,
        store: u16,
        content: Content,
    ) -> Result<(MessageContent, Option<Charge>), Fault> {
        let limit = self.settings.limits.message;
        match content {
            Content::Inline(blob) if blob.0.len() as u64 > limit => {
                Err(too_big(blob.0.len() as u64, limit))
            }
            Content::Inline(blob) => Ok((MessageContent::Inline(blob.0), None)),
            Content::Uploaded(upload) => {
                let member = self.sessions.members.get_mut(&id).expect("looked at before");
                match member.uploads.get(&upload) {
                    Some(known) if known.unanswered > 0 => Err(Fault::new(
                        Code::E_BUSY,
                        "pieces of this upload are not answered yet; one of them may fail",
                    )),
                    Some(known) if known.store == store => {
                        let number = known.number;
                        let charge = member.uploads.remove(&upload).map(|known| known.charge);
                        Ok((MessageContent::Uploaded(number), charge))
                    }
                    _ => Err(Fault::new(
                        Code::E_INVALID_PARAMETER,
                        "no such upload to this store: it was used, it failed, or it was never begun",
                    )),
                }
            }
        }
    }

    pub(crate) fn draft(
        &mut self,
        asker: Asker,
        id: MemberId,
        store: u16,
        content: Content,
    ) -> Result<ObjectId, Fault> {
        let member = self.attached(asker, id)?;
        self.engine_for(member, store)?;
        self.check_object_quota(member)?;
        let process = member.process;
        if let Content::Inline(bytes) = &content {
            self.check_room(process, Quota::DraftBytes, bytes.0.len())?;
        }
        let (content, charge) = self.take_content(id, store, content)?;
        let charge = match charge {
            Some(uploaded) => uploaded,
            None => self.peers.processes.book(process, Quota::DraftBytes, content.in_memory()),
        };
        Ok(self.insert_object(id, Object::Draft(Draft { store, content, saving: None, charge })))
    }

    pub(crate) fn save(
        &mut self,
        asker: Asker,
        id: MemberId,
        object: ObjectId,
        key: SubmitKey,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let (store, content) = match member.objects.get(object).ok_or_else(dead_object)? {
            Object::Draft(draft) => {
                self.check_room(member.process, Quota::DraftBytes, draft.content.in_memory())?;
                (draft.store, draft.content.clone())
            }
            Object::Message(entry) => {
                let saved = Reply::Saved(*entry);
                self.answer(asker, Ok(saved), turn);
                return Ok(());
            }
            _ => {
                let message = "there is nothing to save in this object";
                return Err(Fault::new(Code::E_NO_SUPPORT, message));
            }
        };
        let engine = self.engine_for(member, store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].write);
        let (process, copied) = (member.process, content.in_memory());
        let charge = self.peers.processes.book(process, Quota::DraftBytes, copied);
        let member = self.sessions.members.get_mut(&id).expect("looked at before");
        member.unwritten += 1;
        let mut record = key.0;
        if let Some(Object::Draft(draft)) = member.objects.get_mut(object) {
            // It is one message, even if it is saved with several keys meanwhile.
            record = *draft.saving.get_or_insert(record);
        }
        let save = Ask::save(record, content, turn.tick.millis());
        let after = AfterSave::Saved { asker, member: id, object, engine, record, charge };
        self.call(lane, caller, save, after, turn);
        Ok(())
    }

    pub(crate) fn saved(
        &mut self,
        asker: Asker,
        (id, object): (MemberId, ObjectId),
        (engine, record): (EngineId, u128),
        result: Result<Saved, ProviderError>,
        turn: &mut Turn,
    ) {
        let entry = EntryId { store: self.store_uid(engine), record };
        let new = result.as_ref().is_ok_and(|saved| saved.new);
        if let Some(member) = self.sessions.members.get_mut(&id) {
            member.unwritten -= 1;
            if result.is_ok()
                && let Some(place) = member.objects.get_mut(object)
            {
                let saved = std::mem::replace(place, Object::Message(entry));
                member.drafts.remove(&object);
                self.pay_for_draft(saved);
            }
        }
        self.reply(asker, result.map(|_| Reply::Saved(entry)), turn);
        if new {
            self.store_news(engine, (record, None), &StoreNews::Created(DRAFTS), turn);
        }
        self.written(id, turn);
    }

    /// Gives back the charge of an object that was a draft.
    pub(crate) fn pay_for_draft(&mut self, object: Object) {
        if let Object::Draft(Draft { charge, .. }) = object {
            self.peers.processes.accounts.give_back(charge);
        }
    }

    /// Stores the unsaved draft of a member that has left.
    pub(crate) fn recover_draft(&mut self, member: &Member, draft: Draft, turn: &mut Turn) {
        let Draft { store, content, saving, charge } = draft;
        let Ok(engine) = self.engine_for(member, store) else {
            return self.peers.processes.accounts.give_back(charge);
        };
        let record = saving.unwrap_or_else(|| turn.record());
        let save = Ask::recover_draft(record, content, turn.tick.millis());
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].write);
        if let Some(process) = self.peers.processes.get_mut(member.process) {
            process.recovering += 1;
        }
        let after = AfterSave::Recovered { engine, process: member.process, record, charge };
        self.call(lane, caller, save, after, turn);
    }

    /// Announces a draft that was stored for a program that did not save it.
    pub(crate) fn recovered(&mut self, engine: EngineId, saved: &Saved, turn: &mut Turn) {
        let record = saved.place.entry.record;
        self.store_news(engine, (record, None), &StoreNews::Created(DRAFTS), turn);
    }

    /// Discards an upload of a member that has left or does not need it.
    pub(crate) fn discard(&mut self, member: &Member, store: u16, number: u64, turn: &mut Turn) {
        let engine = self.engine_for(member, store).ok();
        self.discard_from(engine, Self::caller(member), number, turn);
    }

    pub(crate) fn discard_from(
        &mut self,
        engine: Option<EngineId>,
        caller: Caller,
        upload: u64,
        turn: &mut Turn,
    ) {
        if let Some(lane) = engine.and_then(|e| self.queues.engines.get(&e)).map(|e| e.write) {
            self.call(lane, caller, Ask::discard(upload), AfterDone::Nothing, turn);
        }
    }

    pub(crate) fn delete(
        &mut self,
        asker: Asker,
        id: MemberId,
        entry: EntryId,
        from: Option<Folder>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let (_, engine) = self.engine_of_uid(member, entry.store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].write);
        let after = Deleting { asker, engine, entry };
        self.call(lane, caller, Ask::delete(entry.record, from), after, turn);
        Ok(())
    }

    pub(crate) fn deleted(
        &mut self,
        Deleting { asker, engine, entry }: Deleting,
        result: Result<Removed, ProviderError>,
        turn: &mut Turn,
    ) {
        let Removed { from, to } = match result {
            Ok(removed) => removed,
            Err(error) => return self.reply(asker, Err(error), turn),
        };
        self.reply(asker, Ok(Reply::Done), turn);
        let moved = |to| StoreNews::Moved { from, to };
        self.store_news(
            engine,
            (entry.record, None),
            &to.map_or(StoreNews::Deleted(from), moved),
            turn,
        );
        self.poke_mailboxes(engine, turn);
    }

    pub(crate) fn setting(
        &mut self,
        asker: Asker,
        id: MemberId,
        (section, name): (String, String),
        change: SettingChange,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let value = if let SettingChange::Set(value) = &change { value.len() } else { 0 };
        let wrong = [section.len(), name.len()].iter().any(|l| !(1..=MAX_SETTING).contains(l));
        if wrong || value > MAX_SETTING {
            let message =
                format!("a section and a name have 1 to {MAX_SETTING} bytes, a value at most that");
            return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
        }
        let member = self.attached(asker, id)?;
        let engine = self.engine_for(member, 0)?;
        let (caller, engine) = (Self::caller(member), &self.queues.engines[&engine]);
        let (lane, ask) = if change == SettingChange::Keep {
            (engine.read, Ask::setting(section, name))
        } else {
            (engine.write, Ask::change_setting(section, name, change))
        };
        self.call(lane, caller, ask, asker, turn);
        Ok(())
    }

    pub(crate) fn address_book(
        &mut self,
        asker: Asker,
        id: MemberId,
        object: ObjectId,
        action: AddressAction,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        match member.objects.get(object) {
            Some(Object::AddressBook) => {}
            Some(_) => {
                return Err(Fault::new(Code::E_NO_SUPPORT, "this object is not an address book"));
            }
            None => return Err(dead_object()),
        }
        if let AddressAction::Add { name, addresses } = &action {
            check_entry(name, addresses)?;
        }
        let (lane, caller) = (self.address_book_lane(member)?, Self::caller(member));
        let session = member.session;
        match action {
            AddressAction::Add { name, addresses } => {
                let after = AfterAddress::Added(asker, session);
                self.call(lane, caller, Ask::add_address(name, addresses), after, turn);
            }
            AddressAction::Remove { name } => {
                let after = AfterDone::AddressRemoved(asker, session);
                self.call(lane, caller, Ask::remove_address(name), after, turn);
            }
            AddressAction::Resolve { name } => {
                let resolving = Resolving { asker, member: id, name: name.clone(), tried: 1 };
                let after = AfterAddress::Resolved(resolving);
                self.call(lane, caller, Ask::resolve(name), after, turn);
            }
        }
        Ok(())
    }

    pub(crate) fn address_added(
        &mut self,
        asker: Asker,
        session: SessionId,
        result: Result<Address, ProviderError>,
        turn: &mut Turn,
    ) {
        if result.is_ok() {
            self.address_book_changed(session, turn);
        }
        self.reply(asker, result.map(|Address(row)| Reply::Added(row.entry)), turn);
    }

    /// The working address books of a session, in the profile's order. Changes go to the first.
    fn address_books(&self, member: &Member) -> impl Iterator<Item = LaneId> {
        let works = |p: &&Provider| {
            p.kind == ProviderType::AddressBook
                && p.is_in_use()
                && p.state == ProviderState::Available
        };
        let providers = &self.session_of(member).providers;
        let mut books: Vec<_> = providers.iter().filter(works).collect();
        books.sort_by_key(|p| p.spec);
        books.into_iter().map(|p| p.lane)
    }

    /// Answers with a resolved name. If one address book does not know the name, the next is asked.
    pub(crate) fn resolved(
        &mut self,
        Resolving { asker, member: id, name, tried }: Resolving,
        result: Result<Address, ProviderError>,
        turn: &mut Turn,
    ) {
        let unknown = result.as_ref().is_err_and(|e| e.code == Code::E_NOT_FOUND);
        let next = self.sessions.members.get(&id).filter(|_| unknown).and_then(|member| {
            Some((self.address_books(member).nth(tried)?, Self::caller(member)))
        });
        if let Some((lane, caller)) = next {
            let ask = Ask::resolve(name.clone());
            let resolving = Resolving { asker, member: id, name, tried: tried + 1 };
            self.call(lane, caller, ask, AfterAddress::Resolved(resolving), turn);
            return;
        }
        self.reply(asker, result.map(|Address(row)| Reply::Resolved(row)), turn);
    }

    fn address_book_lane(&self, member: &Member) -> Result<LaneId, Fault> {
        self.address_books(member).next().ok_or_else(|| {
            let message = "the profile has no working address book; the status table says why";
            Fault::new(Code::E_NO_SUPPORT, message)
        })
    }
}

fn check_entry(name: &str, addresses: &[String]) -> Result<(), Fault> {
    if name.trim().is_empty() || name.len() > 1_024 || name.contains(char::is_control) {
        let message = "a display name has 1 to 1024 bytes and no control characters";
        return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
    }
    if addresses.is_empty() {
        let message = format!("{name:?} has no address; give at least one");
        return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
    }
    crate::flows::sending::submit::check_addresses(addresses)
}

fn too_big(size: u64, limit: u64) -> Fault {
    let message =
        format!("a message of {size} bytes or more; the limit is {limit} ([limits] message)");
    Fault::new(Code::E_TOO_BIG, message)
}
