//! Folders and what is in them: hierarchy and contents tables, flags, moves, copies, appended messages, search.

use sundown_protocol::folder::{Bookmark, Filter, Flags, Key, MAX_FOLDER_NAME, MAX_KEY, Sort};
use sundown_protocol::notification::FolderChange;
use sundown_protocol::reply::Reply;
use sundown_protocol::request::{Content, Folder, MAX_WORDS};
use sundown_protocol::{Code, EntryId, Fault, MemberId, ObjectId, SubmitKey};

use crate::broker::Broker;
use crate::flows::working::advise::{StoreNews, dead_object};
use crate::flows::working::messages::MAX_ROWS;
use crate::ground::event::{EngineId, LaneId, Turn};
use crate::ground::provider::{ProviderError, Scope};
use crate::peers::connection::Asker;
use crate::peers::quota::Quota;
use crate::providers::ask::{Ask, Done, Flagged, FolderMade, Folders, Moved, Saved};
use crate::providers::calls::Caller;
use crate::sessions::object::Object;
use crate::then::{AfterDone, AfterFolders, AfterSave, Changing, Copying, Foldering, Wanted};

/// Where an appended message goes, and how.
pub(crate) struct Filing {
    pub(crate) key: SubmitKey,
    pub(crate) folder: Folder,
    pub(crate) flags: Flags,
    pub(crate) received: Option<u64>,
}

/// Folders.
impl Broker {
    pub(crate) fn folders(
        &mut self,
        asker: Asker,
        (id, store): (MemberId, u16),
        after: Option<Folder>,
        limit: u32,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let engine = self.engine_for(member, store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].read);
        let ask = Ask::folders(after, limit.clamp(1, MAX_ROWS));
        self.call(lane, caller, ask, AfterFolders::Listed(asker), turn);
        Ok(())
    }

    /// Opens a folder that is not in every store, if its store has it.
    pub(crate) fn open_folder(
        &mut self,
        asker: Asker,
        id: MemberId,
        (store, folder): (u16, Folder),
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let engine = self.engine_for(member, store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].read);
        let after = AfterFolders::Opened { asker, member: id, store, folder };
        self.call(lane, caller, Ask::folder(folder), after, turn);
        Ok(())
    }

    pub(crate) fn folders_read(
        &mut self,
        after: AfterFolders,
        result: Result<Folders, ProviderError>,
        turn: &mut Turn,
    ) {
        match after {
            AfterFolders::Listed(asker) => {
                let rows = |Folders { rows, next }| Reply::Folders { rows, next };
                self.reply(asker, result.map(rows), turn);
            }
            AfterFolders::Opened { asker, member, store, folder } => {
                let opened = result.map_err(Fault::from).and_then(|_| {
                    self.check_object_quota(self.attached(asker, member)?)?;
                    let object = Object::Folder(store, folder);
                    Ok(Reply::Opened(self.insert_object(member, object)))
                });
                self.answer(asker, opened, turn);
            }
        }
    }

    pub(crate) fn make_folder(
        &mut self,
        asker: Asker,
        (id, store): (MemberId, u16),
        parent: Option<Folder>,
        name: String,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        check_name(&name)?;
        let member = self.attached(asker, id)?;
        let engine = self.engine_for(member, store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].write);
        let after = Foldering { asker, engine, folder: None };
        self.call(lane, caller, Ask::make_folder(parent, name), after, turn);
        Ok(())
    }

    pub(crate) fn folder_made(
        &mut self,
        Foldering { asker, engine, .. }: Foldering,
        result: Result<FolderMade, ProviderError>,
        turn: &mut Turn,
    ) {
        let made = result.map(|FolderMade(folder)| folder);
        let news = made.as_ref().ok().copied();
        self.reply(asker, made.map(Reply::Made), turn);
        if let Some(folder) = news {
            self.folder_news(engine, folder, FolderChange::Made, turn);
        }
    }

    pub(crate) fn rename_folder(
        &mut self,
        asker: Asker,
        of: (MemberId, u16),
        folder: Folder,
        name: String,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        check_name(&name)?;
        refuse_built_in(folder, "renamed")?;
        let ask = Ask::rename_folder(folder, name);
        self.change_folder(asker, of, (folder, FolderChange::Renamed), ask, turn)
    }

    pub(crate) fn remove_folder(
        &mut self,
        asker: Asker,
        of: (MemberId, u16),
        folder: Folder,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        refuse_built_in(folder, "removed")?;
        let ask = Ask::remove_folder(folder);
        self.change_folder(asker, of, (folder, FolderChange::Removed), ask, turn)
    }

    fn change_folder(
        &mut self,
        asker: Asker,
        (id, store): (MemberId, u16),
        change: (Folder, FolderChange),
        ask: Ask<Done>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let member = self.attached(asker, id)?;
        let engine = self.engine_for(member, store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].write);
        let after = Foldering { asker, engine, folder: Some(change) };
        self.call(lane, caller, ask, AfterDone::FolderChanged(after), turn);
        Ok(())
    }

    pub(crate) fn folder_changed(
        &mut self,
        Foldering { asker, engine, folder }: Foldering,
        result: Result<Done, ProviderError>,
        turn: &mut Turn,
    ) {
        let done = result.is_ok();
        self.reply(asker, result.map(|Done| Reply::Done), turn);
        if let Some((folder, change)) = folder.filter(|_| done) {
            self.folder_news(engine, folder, change, turn);
            self.poke_mailboxes(engine, turn);
        }
    }
}

/// Contents tables and search.
impl Broker {
    pub(crate) fn contents(
        &mut self,
        asker: Asker,
        (id, object): (MemberId, ObjectId),
        wanted: (Sort, Filter),
        (after, limit): (Option<Bookmark>, u32),
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        check_bookmark(after.as_ref())?;
        let member = self.attached(asker, id)?;
        let Object::Folder(store, folder) = *member.objects.get(object).ok_or_else(dead_object)?
        else {
            let message = "this object is not a folder; it has no contents table of messages";
            return Err(Fault::new(Code::E_NO_SUPPORT, message));
        };
        let engine = self.engine_for(member, store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].read);
        let ask = Ask::contents(folder, wanted, after, limit.clamp(1, MAX_ROWS));
        self.call(lane, caller, ask, asker, turn);
        Ok(())
    }

    pub(crate) fn search(
        &mut self,
        asker: Asker,
        (id, store): (MemberId, u16),
        (words, folder): (String, Option<Folder>),
        (after, limit): (u64, u32),
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        if words.len() > MAX_WORDS {
            let message =
                format!("{} bytes of words to look for; the limit is {MAX_WORDS}", words.len());
            return Err(Fault::new(Code::E_TOO_BIG, message));
        }
        let member = self.attached(asker, id)?;
        let engine = self.engine_for(member, store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].read);
        let ask = Ask::search(words, folder, after, limit.clamp(1, MAX_ROWS));
        self.call(lane, caller, ask, asker, turn);
        Ok(())
    }
}

/// Messages in folders.
impl Broker {
    pub(crate) fn set_flags(
        &mut self,
        asker: Asker,
        id: MemberId,
        entry: EntryId,
        (add, remove): (Flags, Flags),
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        for flags in [&add, &remove] {
            check_flags(flags)?;
        }
        let member = self.attached(asker, id)?;
        let (_, engine) = self.engine_of_uid(member, entry.store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].write);
        let after = Changing { asker, engine, entry };
        self.call(lane, caller, Ask::set_flags(entry.record, add, remove), after, turn);
        Ok(())
    }

    pub(crate) fn flagged(
        &mut self,
        Changing { asker, engine, entry }: Changing,
        result: Result<Flagged, ProviderError>,
        turn: &mut Turn,
    ) {
        let Flagged { folder, flags, changed } = match result {
            Ok(flagged) => flagged,
            Err(error) => return self.reply(asker, Err(error), turn),
        };
        self.reply(asker, Ok(Reply::Flags(flags)), turn);
        if changed {
            self.store_news(engine, (entry.record, None), &StoreNews::Modified(folder), turn);
            self.poke_mailboxes(engine, turn);
        }
    }

    pub(crate) fn move_to(
        &mut self,
        asker: Asker,
        id: MemberId,
        entry: EntryId,
        to: Folder,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        refuse_outbox(to)?;
        let member = self.attached(asker, id)?;
        let (_, engine) = self.engine_of_uid(member, entry.store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].write);
        let after = Changing { asker, engine, entry };
        self.call(lane, caller, Ask::move_to(entry.record, to), after, turn);
        Ok(())
    }

    pub(crate) fn moved(
        &mut self,
        Changing { asker, engine, entry }: Changing,
        result: Result<Moved, ProviderError>,
        turn: &mut Turn,
    ) {
        let Moved { from, to } = match result {
            Ok(moved) => moved,
            Err(error) => return self.reply(asker, Err(error), turn),
        };
        self.reply(asker, Ok(Reply::Done), turn);
        if from != to {
            self.store_news(engine, (entry.record, None), &StoreNews::Moved { from, to }, turn);
            self.poke_mailboxes(engine, turn);
        }
    }

    pub(crate) fn copy_to(
        &mut self,
        asker: Asker,
        id: MemberId,
        (key, entry): (SubmitKey, EntryId),
        to: Folder,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        refuse_outbox(to)?;
        let member = self.attached(asker, id)?;
        let (_, engine) = self.engine_of_uid(member, entry.store)?;
        let (caller, lane) = (Self::caller(member), self.queues.engines[&engine].write);
        let (record, copy, fetched) = (entry.record, (key.0, to), false);
        let copying = Copying { asker, member: id, engine, record, copy, fetched };
        self.copy(lane, caller, copying, turn);
        Ok(())
    }

    fn copy(&mut self, lane: LaneId, caller: Caller, copying: Copying, turn: &mut Turn) {
        if let Some(member) = self.sessions.members.get_mut(&copying.member) {
            member.unwritten += 1;
        }
        let (copy, to) = copying.copy;
        let ask = Ask::copy(copying.record, copy, to);
        self.call(lane, caller, ask, AfterSave::Copied(copying), turn);
    }

    /// Copies a message whose bytes have been fetched for that.
    pub(crate) fn copy_fetched(&mut self, copying: Copying, turn: &mut Turn) {
        let engine = self.queues.engines.get(&copying.engine).filter(|engine| engine.is_open());
        let Some(lane) = engine.map(|engine| engine.write) else {
            let text = "the store was closed while the message was fetched";
            return self.answer(copying.asker, Err(Fault::new(Code::E_NOT_FOUND, text)), turn);
        };
        self.copy(lane, Caller::broker(None), Copying { fetched: true, ..copying }, turn);
    }

    /// Announces a copy. What is at a server is fetched first.
    pub(crate) fn copied(
        &mut self,
        copying: Copying,
        result: Result<Saved, ProviderError>,
        turn: &mut Turn,
    ) {
        let Copying { asker, member: id, engine, fetched, .. } = copying;
        let is_elsewhere = |error: &ProviderError| error.scope == Scope::Elsewhere;
        if !fetched
            && result.as_ref().is_err_and(is_elsewhere)
            && self.fetch_first(Wanted::Copied(copying), turn)
        {
            if let Some(member) = self.sessions.members.get_mut(&id) {
                member.unwritten -= 1;
            }
            return self.written(id, turn);
        }
        self.filed(asker, (id, engine), result, turn);
    }

    pub(crate) fn append_to(
        &mut self,
        asker: Asker,
        (id, store): (MemberId, u16),
        Filing { key, folder, flags, received }: Filing,
        content: Content,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        refuse_outbox(folder)?;
        check_flags(&flags)?;
        let member = self.attached(asker, id)?;
        let engine = self.engine_for(member, store)?;
        let (process, caller) = (member.process, Self::caller(member));
        if let Content::Inline(bytes) = &content {
            self.check_room(process, Quota::DraftBytes, bytes.0.len())?;
        }
        let (content, uploaded) = self.take_content(id, store, content)?;
        let charge = uploaded.unwrap_or_else(|| {
            self.peers.processes.book(process, Quota::DraftBytes, content.in_memory())
        });
        let lane = self.queues.engines[&engine].write;
        let member = self.sessions.members.get_mut(&id).expect("looked at before");
        member.unwritten += 1;
        let received = received.unwrap_or_else(|| turn.tick.millis());
        let ask = Ask::file(key.0, folder, content, flags, received);
        let after = AfterSave::Filed { asker, member: id, engine, charge };
        self.call(lane, caller, ask, after, turn);
        Ok(())
    }

    /// Announces a message that was put into a folder.
    pub(crate) fn filed(
        &mut self,
        asker: Asker,
        (id, engine): (MemberId, EngineId),
        result: Result<Saved, ProviderError>,
        turn: &mut Turn,
    ) {
        if let Some(member) = self.sessions.members.get_mut(&id) {
            member.unwritten -= 1;
        }
        let new = result.as_ref().ok().filter(|saved| saved.new).map(|saved| saved.place);
        self.reply(asker, result.map(|saved| Reply::Saved(saved.place.entry)), turn);
        if let Some(place) = new {
            let record = (place.entry.record, None);
            self.store_news(engine, record, &StoreNews::Created(place.folder), turn);
            self.poke_mailboxes(engine, turn);
        }
        self.written(id, turn);
    }
}

fn check_name(name: &str) -> Result<(), Fault> {
    if name.trim().is_empty() || name.len() > MAX_FOLDER_NAME || name.contains(char::is_control) {
        let message =
            format!("a folder's name has 1 to {MAX_FOLDER_NAME} bytes and no control characters");
        return Err(Fault::new(Code::E_INVALID_PARAMETER, message));
    }
    Ok(())
}

fn check_flags(flags: &Flags) -> Result<(), Fault> {
    flags.check().map_err(|wrong| Fault::new(Code::E_INVALID_PARAMETER, wrong.to_string()))
}

pub(crate) fn check_bookmark(after: Option<&Bookmark>) -> Result<(), Fault> {
    match after {
        Some(Bookmark { key: Key::Text(text), .. }) if text.len() > MAX_KEY => {
            let message = "no reply has such a place of a table; begin with the first page";
            Err(Fault::new(Code::E_INVALID_BOOKMARK, message))
        }
        _ => Ok(()),
    }
}

fn refuse_built_in(folder: Folder, what: &str) -> Result<(), Fault> {
    match folder.built_in() {
        Some(name) => {
            let message = format!("{name} is a folder of every store and cannot be {what}");
            Err(Fault::new(Code::E_NO_ACCESS, message))
        }
        None => Ok(()),
    }
}

/// The Outbox is the outgoing queue: what is in it is sent.
fn refuse_outbox(folder: Folder) -> Result<(), Fault> {
    if folder == Folder::OUTBOX {
        let message = "a message comes into the Outbox only by being submitted";
        return Err(Fault::new(Code::E_NO_ACCESS, message));
    }
    Ok(())
}
