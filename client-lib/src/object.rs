//! Open objects: stores, folders, messages, drafts, the address book, the status table. Dropping an object releases it.

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

/// An open object. If the broker was away, the object is opened again when it is used; an unsaved draft cannot be.
pub(crate) struct ObjectState {
    session: Arc<SessionState>,
    /// How to open the object again; `None` for an unsaved draft.
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

    /// The handle. The object is opened again if the broker was away.
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

    /// Opens the object again over a new connection.
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

    /// Grants the object to another process.
    fn grant(&self, pid: Option<u32>) -> Result<Token, Error> {
        let token = Token(crate::process::chance());
        match self.call(|member, object| Request::Grant { member, object, token, pid })? {
            Reply::Done => Ok(token),
            _ => Err(unexpected()),
        }
    }

    /// Fetches all rows of a table.
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

    /// `IMsgStore::StoreLogoff`: releases the store, with exactly one of the input flags. The result describes the store's state;
    /// without [`StoreLogoff::COMPLETE`] the object remains usable. Waiting mail is sent in any case: to wait for it, log off
    /// [after outbound mail](crate::Logoff::after_outbound).
    pub fn store_logoff(&self, flags: StoreLogoff) -> Result<StoreLogoff, Error> {
        let reply =
            self.object.call(|member, object| Request::StoreLogoff { member, object, flags })?;
        match reply {
            Reply::StoreLoggedOff(flags) => Ok(flags),
            _ => Err(unexpected()),
        }
    }

    /// Registers a sink for events of the messages in this store.
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
    /// The kind of this folder.
    pub fn kind(&self) -> FolderKind {
        self.kind
    }

    /// Lets another process of this user see this folder, without the session. The token can be redeemed once, within a minute, and
    /// only by the process with this id if one is given. Pass it on by a way that others cannot read.
    pub fn grant(&self, pid: Option<u32>) -> Result<Token, Error> {
        self.object.grant(pid)
    }

    /// The messages of this folder.
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

    /// Deletes a message that is in this folder: moves it into Deleted, or deletes it for good from there. A message elsewhere is
    /// `MAPI_E_NOT_FOUND`. If the broker goes away before it answers, the request is repeated and still deletes once. With a broker
    /// of wire version 2 or older this calls [`Session::delete`](crate::Session::delete).
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

    /// Registers a sink for events of its messages or, with [`Events::TABLE_MODIFIED`], for changes of its rows.
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
    /// Submits a message (`IMessage::SubmitMessage`). The message is durable when this returns, and will be sent.
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

    /// The entry identifier of the message.
    pub fn entry(&self) -> EntryId {
        self.entry
    }

    /// Lets another process of this user read this message, without the session; see [`Folder::grant`].
    pub fn grant(&self, pid: Option<u32>) -> Result<Token, Error> {
        self.object.grant(pid)
    }

    /// Reads the piece of the message that begins at this byte. Returns it with the size of the whole message. At the end the piece
    /// is empty.
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

    /// Registers a sink for events of this message.
    pub fn advise(
        &self,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        self.object.advise(events, sink)
    }
}

/// An unsaved message. A logoff discards it; a crash, an eviction or a fast shutdown keeps it in Drafts.
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

    /// Saves the message in Drafts (`IMAPIProp::SaveChanges`). It is durable when this returns, and the object is then that
    /// message.
    pub fn save(&self) -> Result<EntryId, Error> {
        let key = new_key();
        let saved = self.object.session.save(|| self.object.id(), key);
        let entry = saved.or_else(|error| self.saved_before(key, error))?;
        self.object.session.remove_draft(self.number);
        Ok(entry)
    }

    /// Finds the saved message by its key, after a save whose outcome is unknown. The save cannot be repeated, because the draft is
    /// gone with its broker.
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
        // A draft that the program drops is not one that a restart lost.
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
    /// All entries of the address book.
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

    /// Adds a person or, with several addresses, a list.
    pub fn add(&self, name: &str, addresses: &[&str]) -> Result<EntryId, Error> {
        let addresses: Vec<_> = addresses.iter().map(|a| (*a).to_owned()).collect();
        let action = AddressAction::Add { name: name.to_owned(), addresses: addresses.clone() };
        match self.act(&action) {
            Ok(Reply::Added(entry)) => Ok(entry),
            Ok(_) => Err(unexpected()),
            // The first attempt added the entry, or it existed before.
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

    /// Resolves a name (`ResolveName`): `MAPI_E_NOT_FOUND` without a match, `MAPI_E_AMBIGUOUS_RECIP` with several.
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

    /// Registers a sink for changes of its rows; tables take [`Events::TABLE_MODIFIED`] only.
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
    /// The rows: the subsystem, the spooler, the address book and each provider.
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

    /// Registers a sink for changes of its rows; tables take [`Events::TABLE_MODIFIED`] only.
    pub fn advise(
        &self,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        self.0.advise(events, sink)
    }
}
