//! Open objects: stores, folders, messages, drafts, the address book, the status table. Dropping one releases it.

use std::sync::{Arc, Mutex};

use sundown_protocol::notification::Events;
use sundown_protocol::reply::{AddressRow, MessageRow, StatusRow, TableRows};
use sundown_protocol::request::{
    AddressAction, Durability, Folder as FolderKind, Opening, ReadSource, Request, StoreLogoff,
};
use sundown_protocol::{Code, EntryId, MemberId, ObjectId, Reply, SubmitKey, Token, Version};

use crate::error::Error;
use crate::library::lock;
use crate::link::SharedLink;
use crate::mapi::new_key;
use crate::message::{Message, Submitted};
use crate::notify::{Notice, Sink, SinkFunction};
use crate::session::{SessionState, done_before, go_on, unexpected};

/// An open object. After the broker was away it is opened again when it is used; an unsaved draft cannot be.
pub(crate) struct ObjectState {
    session: Arc<SessionState>,
    /// How to open it again.
    what: Option<Opening>,
    handle: Mutex<(u64, ObjectId)>,
}

impl std::fmt::Debug for ObjectState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} as {}", self.what, lock(&self.handle).1)
    }
}

impl ObjectState {
    pub(crate) fn new(
        session: Arc<SessionState>,
        what: Option<Opening>,
        object: ObjectId,
    ) -> Arc<Self> {
        let epoch = session.epoch();
        Arc::new(Self { session, what, handle: Mutex::new((epoch, object)) })
    }

    /// The handle, opened again if the broker was away.
    pub(crate) fn id(&self) -> Result<ObjectId, Error> {
        let (epoch, object) = *lock(&self.handle);
        if epoch == self.session.epoch() {
            return Ok(object);
        }
        let Some(what) = &self.what else {
            return Err(draft_is_lost());
        };
        match self.session.call(|member| Request::Open { member, what: what.clone() })? {
            Reply::Opened(object) => {
                *lock(&self.handle) = (self.session.epoch(), object);
                Ok(object)
            }
            _ => Err(unexpected()),
        }
    }

    /// Opens it again over a new connection.
    pub(crate) fn come_back(&self, link: &SharedLink, member: MemberId) -> Result<ObjectId, Error> {
        let Some(what) = self.what.clone() else {
            return Err(Error::fault(Code::E_INVALID_OBJECT, "an unsaved draft is gone"));
        };
        match link.call(Request::Open { member, what }, None)?? {
            Reply::Opened(object) => {
                *lock(&self.handle) = (self.session.epoch(), object);
                Ok(object)
            }
            _ => Err(unexpected()),
        }
    }

    fn call(&self, request: impl Fn(MemberId, ObjectId) -> Request) -> Result<Reply, Error> {
        self.session.retrying(|_, member| Ok(request(member, self.id()?)))
    }

    fn advise(
        self: &Arc<Self>,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        let sink: SinkFunction = Arc::new(sink);
        SessionState::advise(&self.session, Some(self), events, &sink)
    }

    /// Lets another process have it.
    fn grant(&self, pid: Option<u32>) -> Result<Token, Error> {
        let token = Token(crate::process::chance());
        match self.call(|member, object| Request::Grant { member, object, token, pid })? {
            Reply::Done => Ok(token),
            _ => Err(unexpected()),
        }
    }

    /// All rows of a table.
    fn rows(&self) -> Result<Vec<TableRows>, Error> {
        let mut pages = Vec::new();
        let mut after = 0;
        loop {
            let list = |member, object| Request::List { member, object, after, limit: 256 };
            let Reply::Rows(page) = self.call(list)? else { return Err(unexpected()) };
            pages.push(page.rows);
            match go_on(after, page.next)? {
                Some(next) => after = next,
                None => return Ok(pages),
            }
        }
    }
}

impl Drop for ObjectState {
    fn drop(&mut self) {
        let (epoch, object) = *lock(&self.handle);
        if epoch == self.session.epoch() {
            self.session.tell(|member| Request::Release { member, object });
        }
    }
}

/// An open message store (`IMsgStore`).
#[derive(Debug)]
pub struct Store {
    object: Arc<ObjectState>,
    place: u16,
}

impl Store {
    pub(crate) fn new(object: Arc<ObjectState>, place: u16) -> Self {
        Self { object, place }
    }

    /// Opens a folder.
    pub fn folder(&self, folder: FolderKind) -> Result<Folder, Error> {
        let what = Opening::Folder(self.place, folder);
        Ok(Folder { object: self.object.session.open(what)?, kind: folder })
    }

    /// Opens the Outbox, where messages are submitted.
    pub fn outbox(&self) -> Result<Outbox, Error> {
        Ok(Outbox { folder: self.folder(FolderKind::Outbox)?, place: self.place })
    }

    /// `IMsgStore::StoreLogoff`: lets go of the store with exactly one of the flags that go in. What comes out says what the
    /// store is at; without [`StoreLogoff::COMPLETE`] the object can be used as before. Mail that waits is sent in any case:
    /// whoever wants to wait for it logs off [after outbound mail](crate::Logoff::after_outbound).
    pub fn store_logoff(&self, flags: StoreLogoff) -> Result<StoreLogoff, Error> {
        let reply =
            self.object.call(|member, object| Request::StoreLogoff { member, object, flags })?;
        match reply {
            Reply::StoreLoggedOff(flags) => Ok(flags),
            _ => Err(unexpected()),
        }
    }

    /// Registers for what happens to messages of this store.
    pub fn advise(
        &self,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        self.object.advise(events, sink)
    }
}

/// An open folder and its contents table (`IMAPIFolder`, `IMAPITable`).
#[derive(Debug)]
pub struct Folder {
    object: Arc<ObjectState>,
    kind: FolderKind,
}

impl Folder {
    /// Which folder it is.
    pub fn kind(&self) -> FolderKind {
        self.kind
    }

    /// Lets another process of this user see this folder, without the session: by a token that can be redeemed once, within
    /// a minute, and only by the process with this id if one is given. Hand it on by a way that others cannot read.
    pub fn grant(&self, pid: Option<u32>) -> Result<Token, Error> {
        self.object.grant(pid)
    }

    /// Its messages.
    pub fn messages(&self) -> Result<Vec<MessageRow>, Error> {
        let mut messages = Vec::new();
        for page in self.object.rows()? {
            match page {
                TableRows::Messages(rows) => messages.extend(rows),
                _ => return Err(unexpected()),
            }
        }
        Ok(messages)
    }

    /// Deletes a message that is in this folder: into Deleted, or for good from there. One that is elsewhere is `MAPI_E_NOT_FOUND`. It
    /// is repeated if the broker goes away before it answers, and deletes once; a broker of wire version 2 and older knows
    /// [`Session::delete`](crate::Session::delete) only, which is called then.
    pub fn delete(&self, entry: EntryId) -> Result<(), Error> {
        let from = self.kind;
        let deleted = self.object.session.retrying(|link, member| {
            Ok(if link.speaks(Version::V3) {
                Request::DeleteFrom { member, entry, from }
            } else {
                Request::Delete { member, entry }
            })
        });
        match deleted {
            Ok(Reply::Done) => Ok(()),
            Ok(_) => Err(unexpected()),
            Err(error) => done_before(error, Code::E_NOT_FOUND),
        }
    }

    /// Registers for what happens to its messages or, with [`Events::TABLE_MODIFIED`], to its rows.
    pub fn advise(
        &self,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        self.object.advise(events, sink)
    }
}

/// The open Outbox.
#[derive(Debug)]
pub struct Outbox {
    folder: Folder,
    place: u16,
}

impl Outbox {
    /// Submits a message (`IMessage::SubmitMessage`). It is durable when this returns, and will be sent.
    pub fn submit(&self, message: &Message) -> Result<Submitted, Error> {
        self.folder.object.session.submit(self.place, message, Durability::Durable)
    }

    /// Submits a message and returns when the broker has it; see [`Session::submit_deferred`](crate::Session::submit_deferred).
    pub fn submit_deferred(&self, message: &Message) -> Result<Submitted, Error> {
        self.folder.object.session.submit(self.place, message, Durability::Deferred)
    }
}

impl std::ops::Deref for Outbox {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

/// An open message (`IMessage`).
#[derive(Debug)]
pub struct OpenMessage {
    object: Arc<ObjectState>,
    entry: EntryId,
}

impl OpenMessage {
    pub(crate) fn new(object: Arc<ObjectState>, entry: EntryId) -> Self {
        Self { object, entry }
    }

    /// Its entry identifier.
    pub fn entry(&self) -> EntryId {
        self.entry
    }

    /// Lets another process of this user read this message, without the session; see [`Folder::grant`].
    pub fn grant(&self, pid: Option<u32>) -> Result<Token, Error> {
        self.object.grant(pid)
    }

    /// The piece of it that begins at this byte, and the size of the whole. The piece is empty at the end.
    pub fn read_at(&self, offset: u64) -> Result<(Vec<u8>, u64), Error> {
        let read = |member, object| {
            let source = ReadSource::Object(object);
            Request::Read { member, source, offset }
        };
        match self.object.call(read)? {
            Reply::Piece { size, bytes } => Ok((bytes.0, size)),
            _ => Err(unexpected()),
        }
    }

    /// Registers for what happens to it.
    pub fn advise(
        &self,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        self.object.advise(events, sink)
    }
}

/// A message that was not saved yet. A logoff throws it away; a crash, an eviction or a fast shutdown keeps it in Drafts.
#[derive(Debug)]
pub struct Draft {
    object: Arc<ObjectState>,
    number: u32,
}

impl Draft {
    pub(crate) fn new(object: Arc<ObjectState>) -> Self {
        let number = object.session.add_draft();
        Self { object, number }
    }

    /// Saves it in Drafts (`IMAPIProp::SaveChanges`). It is durable when this returns; the object is that message then.
    pub fn save(&self) -> Result<EntryId, Error> {
        let key = new_key();
        let saved = self.object.session.save(|| self.object.id(), key);
        let entry = saved.or_else(|error| self.saved_before(key, error))?;
        self.object.session.remove_draft(self.number);
        Ok(entry)
    }

    /// A save cannot be repeated where the draft went with its broker; but its key says what it has become.
    fn saved_before(&self, key: SubmitKey, error: Error) -> Result<EntryId, Error> {
        if !error.is_outcome_unknown() {
            return Err(error);
        }
        let drafts = self.object.session.open(Opening::Folder(0, FolderKind::Drafts))?;
        let drafts = Folder { object: drafts, kind: FolderKind::Drafts }.messages()?;
        let saved = drafts.into_iter().find(|message| message.entry.record == key.0);
        saved.map(|message| message.entry).ok_or_else(draft_is_lost)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What the program throws away is not what a restart lost.
        self.object.session.remove_draft(self.number);
    }
}

fn draft_is_lost() -> Error {
    let message = "the unsaved draft was lost when the broker was away; look into Drafts";
    Error::fault(Code::E_INVALID_OBJECT, message)
}

/// The open address book (`IAddrBook`).
#[derive(Debug)]
pub struct AddressBook(pub(crate) Arc<ObjectState>);

impl AddressBook {
    /// Everybody in it.
    pub fn entries(&self) -> Result<Vec<AddressRow>, Error> {
        let mut entries = Vec::new();
        for page in self.0.rows()? {
            match page {
                TableRows::Addresses(rows) => entries.extend(rows),
                _ => return Err(unexpected()),
            }
        }
        Ok(entries)
    }

    /// Adds a person, or with several addresses a list.
    pub fn add(&self, name: &str, addresses: &[&str]) -> Result<EntryId, Error> {
        let addresses: Vec<_> = addresses.iter().map(|a| (*a).to_owned()).collect();
        let action = AddressAction::Add { name: name.to_owned(), addresses: addresses.clone() };
        match self.act(&action) {
            Ok(Reply::Added(entry)) => Ok(entry),
            Ok(_) => Err(unexpected()),
            // The first time it was added, or it was there before.
            Err(error) if error.repeat_says(Code::E_COLLISION) => {
                let is_it = |row: &AddressRow| row.name == name && row.addresses == addresses;
                self.resolve(name).ok().filter(is_it).map(|row| row.entry).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a person or list by its display name.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let removed = self.act(&AddressAction::Remove { name: name.to_owned() });
        removed.map(drop).or_else(|error| done_before(error, Code::E_NOT_FOUND))
    }

    /// What a name stands for (`ResolveName`): `MAPI_E_NOT_FOUND` for nobody, `MAPI_E_AMBIGUOUS_RECIP` for several.
    pub fn resolve(&self, name: &str) -> Result<AddressRow, Error> {
        match self.act(&AddressAction::Resolve { name: name.to_owned() })? {
            Reply::Resolved(row) => Ok(row),
            _ => Err(unexpected()),
        }
    }

    fn act(&self, action: &AddressAction) -> Result<Reply, Error> {
        self.0.call(|member, object| Request::AddressBook {
            member,
            object,
            action: action.clone(),
        })
    }

    /// Registers for changes of it; tables take [`Events::TABLE_MODIFIED`] only.
    pub fn advise(
        &self,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        self.0.advise(events, sink)
    }
}

/// The open status table.
#[derive(Debug)]
pub struct StatusTable(pub(crate) Arc<ObjectState>);

impl StatusTable {
    /// Its rows: the subsystem, the spooler, the address book and each provider.
    pub fn rows(&self) -> Result<Vec<StatusRow>, Error> {
        let mut all = Vec::new();
        for page in self.0.rows()? {
            match page {
                TableRows::Status(rows) => all.extend(rows),
                _ => return Err(unexpected()),
            }
        }
        Ok(all)
    }

    /// Registers for changes of it; tables take [`Events::TABLE_MODIFIED`] only.
    pub fn advise(
        &self,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        self.0.advise(events, sink)
    }
}
