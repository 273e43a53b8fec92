//! Open objects: stores, folders, messages, drafts, the address book, the status table. Dropping an object releases it.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use sundown_protocol::folder::{Flags, FolderRow};
use sundown_protocol::notification::Events;
use sundown_protocol::reply::{AddressRow, MessageRow, StatusRow, TableRows};
use sundown_protocol::request::{
    AddressAction, Durability, Folder as FolderKind, Opening, ReadSource, Request, StoreLogoff,
};
use sundown_protocol::{Code, EntryId, MemberId, ObjectId, Reply, SubmitKey, Token, Version};

use crate::contents::{Contents, Search};
use crate::error::Error;
use crate::library::lock;
use crate::link::SharedLink;
use crate::mapi::new_key;
use crate::message::{Message, Submitted};
use crate::notify::{Notice, Sink, SinkFunction};
use crate::session::{SessionState, done_before, go_on, of_key, unexpected};

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

    pub(crate) fn call(
        &self,
        request: impl Fn(MemberId, ObjectId) -> Request,
    ) -> Result<Reply, Error> {
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

    /// Opens a folder: one that every store has, as [`FolderKind::INBOX`], or one of [`folders`](Self::folders). A folder that was
    /// removed is `MAPI_E_NOT_FOUND`, also if it was open and the library opens it again because the broker was restarted. With a
    /// broker that is too old for folders beyond the five of every store it is `MAPI_E_VERSION`.
    pub fn folder(&self, folder: FolderKind) -> Result<Folder, Error> {
        let place = self.place;
        let object = self.object.session.open(Opening::Folder(place, folder))?;
        Ok(Folder { object, place, kind: folder })
    }

    /// The folders of the store, in the order of their numbers (`IMAPIFolder::GetHierarchyTable`). All rows are fetched, 256
    /// with each request. `MAPI_E_VERSION` with a broker that is too old.
    ///
    /// ```no_run
    /// # fn show(session: &sundown_client::Session) -> Result<(), sundown_client::Error> {
    /// for row in session.default_store()?.folders()? {
    ///     println!("{} {}: {} messages, {} unread", row.folder, row.name, row.total, row.unread);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn folders(&self) -> Result<Vec<FolderRow>, Error> {
        let (mut folders, mut after) = (Vec::new(), None);
        loop {
            let store = self.place;
            let list = |member| Request::Folders { member, store, after, limit: 256 };
            let Reply::Folders { rows, next } = self.object.session.call(list)? else {
                return Err(unexpected());
            };
            folders.extend(rows);
            match next {
                // The numbers grow; a cursor that does not would be asked for forever.
                Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
                Some(_) => return Err(unexpected()),
                None => return Ok(folders),
            }
        }
    }

    /// Makes a folder in another one, or at the top (`IMAPIFolder::CreateFolder`). Its number is never that of another folder of this
    /// store, also after it was removed. A name has at most 255 bytes; one that another folder in the same place has is
    /// `MAPI_E_COLLISION`, one that is empty or has control characters `MAPI_E_INVALID_PARAMETER`. Folders too deep in each other are
    /// `MAPI_E_TOO_COMPLEX`. Every program that registered for [`Events::OBJECT_CREATED`] on the session or the store is told.
    ///
    /// ```no_run
    /// # fn make(store: &sundown_client::Store) -> Result<(), sundown_client::Error> {
    /// let work = store.make_folder(None, "Work")?;
    /// let invoices = store.make_folder(Some(work), "Invoices")?;
    /// println!("{invoices}"); // f17
    /// # Ok(())
    /// # }
    /// ```
    pub fn make_folder(&self, parent: Option<FolderKind>, name: &str) -> Result<FolderKind, Error> {
        let made = self.object.session.call(|member| {
            let (store, name) = (self.place, name.to_owned());
            Request::MakeFolder { member, store, parent, name }
        });
        match made {
            Ok(Reply::Made(folder)) => Ok(folder),
            Ok(_) => Err(unexpected()),
            // The first attempt made the folder, or it existed before.
            Err(error) if error.repeat_says(Code::E_COLLISION) => {
                let is_it = |row: &FolderRow| row.parent == parent && row.name == name;
                let folders = self.folders().unwrap_or_default();
                folders.into_iter().find(is_it).map(|row| row.folder).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a folder another name. The five folders of every store keep theirs (`MAPI_E_NO_ACCESS`); a name that another folder in
    /// the same place has is `MAPI_E_COLLISION`. Programs that registered for [`Events::OBJECT_MODIFIED`] are told.
    ///
    /// ```no_run
    /// # fn rename(store: &sundown_client::Store) -> Result<(), sundown_client::Error> {
    /// let folder = store.make_folder(None, "Bills")?;
    /// store.rename_folder(folder, "Invoices")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn rename_folder(&self, folder: FolderKind, name: &str) -> Result<(), Error> {
        self.object.session.done(|member| {
            let (store, name) = (self.place, name.to_owned());
            Request::RenameFolder { member, store, folder, name }
        })
    }

    /// Removes an empty folder (`IMAPIFolder::DeleteFolder`). One with messages is `MAPI_E_HAS_MESSAGES`, one with folders
    /// `MAPI_E_HAS_FOLDERS`, one of the five of every store `MAPI_E_NO_ACCESS`. Programs that registered for
    /// [`Events::OBJECT_DELETED`] are told. If the broker goes away before it answers, the request is repeated.
    ///
    /// ```no_run
    /// # fn remove(store: &sundown_client::Store) -> Result<(), sundown_client::Error> {
    /// let empty = store.folders()?.into_iter().filter(|row| row.role.is_none() && row.total == 0);
    /// for row in empty {
    ///     store.remove_folder(row.folder)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove_folder(&self, folder: FolderKind) -> Result<(), Error> {
        let store = self.place;
        let removed =
            self.object.session.done(|member| Request::RemoveFolder { member, store, folder });
        removed.or_else(|error| done_before(error, Code::E_NOT_FOUND))
    }

    /// Searches for messages with all of these words in their subject, addresses, text or names of attachments. The broker is asked
    /// when the first page is wanted; [`Search`] says how to choose a folder.
    ///
    /// ```no_run
    /// # fn search(store: &sundown_client::Store) -> Result<(), sundown_client::Error> {
    /// for row in store.search("invoice march").limit(50) {
    ///     println!("{}", row?.subject);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn search(&self, words: impl Into<String>) -> Search {
        Search::new(Arc::clone(&self.object.session), self.place, words.into())
    }

    /// Opens the Outbox, where messages are submitted.
    pub fn outbox(&self) -> Result<Outbox, Error> {
        Ok(Outbox { folder: self.folder(FolderKind::OUTBOX)?, place: self.place })
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

    /// Registers a sink for events of this store: of its messages, its folders, and of new mail. [`Events`] says when there are
    /// none for a message.
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
    /// The store, by its place in the profile.
    place: u16,
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

    /// The messages of this folder, in the order in which the store got them. All rows are fetched, without flags;
    /// [`contents`](Self::contents) fetches them by pages, sorted, and with flags.
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

    /// The contents table of this folder, newest message first; [`Contents`] says how to choose another order and to leave rows out.
    /// The broker is asked when the first page is wanted. It answers `MAPI_E_VERSION` if it is too old.
    ///
    /// ```no_run
    /// # fn newest(inbox: &sundown_client::Folder) -> Result<(), sundown_client::Error> {
    /// if let Some(page) = inbox.contents().limit(200).next_page()? {
    ///     let unread = page.iter().filter(|row| !row.flags.marks.contains(sundown_client::Marks::READ));
    ///     println!("{} of the newest 200 are unread", unread.count());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn contents(&self) -> Contents {
        Contents::new(Arc::clone(&self.object))
    }

    /// Searches in this folder; see [`Store::search`].
    ///
    /// ```no_run
    /// # fn search(folder: &sundown_client::Folder) -> Result<(), sundown_client::Error> {
    /// for row in folder.search("invoice march").limit(50) {
    ///     println!("{}", row?.subject);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn search(&self, words: impl Into<String>) -> Search {
        let session = Arc::clone(&self.object.session);
        Search::new(session, self.place, words.into()).in_folder(self.kind)
    }

    /// Puts a message into this folder as it is, with flags (`IMAPIFolder::CreateMessage` and `SaveChanges`). The message is durable
    /// when this returns; it is not submitted, and its envelope does not count. `received` is when it came, for a message that is
    /// brought from elsewhere; `None` means now.
    ///
    /// A repeat with the same [key](Message::key) returns the first entry and makes no second one. Without a key each call makes its
    /// own, with which the library repeats the request if the broker goes away before it answers.
    ///
    /// The errors: `MAPI_E_COLLISION` if another message has the key, `MAPI_E_TOO_BIG` for a message above the broker's limit,
    /// `MAPI_E_INVALID_PARAMETER` for a wrong flag or a time before 1970, `MAPI_E_NO_ACCESS` for the Outbox, into which messages come
    /// only by being submitted, `MAPI_E_VERSION` with a broker that is too old.
    ///
    /// ```no_run
    /// use sundown_client::{Flags, FolderKind, Message};
    ///
    /// # fn import(session: &sundown_client::Session, bytes: Vec<u8>) -> Result<(), sundown_client::Error> {
    /// let flags: Flags = "read,$imported".parse().expect("these are flags");
    /// let inbox = session.folder(FolderKind::INBOX)?;
    /// let entry = inbox.append(&Message::new(bytes), &flags, None)?;
    /// println!("{entry}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn append(
        &self,
        message: &Message,
        flags: &Flags,
        received: Option<SystemTime>,
    ) -> Result<EntryId, Error> {
        let received = received.map(since_1970).transpose()?;
        let key = message.key.unwrap_or_else(new_key);
        let session = &self.object.session;
        let appended = session.retrying(|link, member| {
            // Before the pieces of a long message are sent for nothing.
            link.needs(Version::V4, "Append")?;
            let content = session.content(link, member, self.place, &message.bytes)?;
            let (store, folder, flags) = (self.place, self.kind, flags.clone());
            let flags = Box::new(flags);
            Ok(Request::Append { member, key, store, folder, content, flags, received })
        })?;
        of_key(&appended, key)
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

    /// Registers a sink for events of this folder and of its messages or, with [`Events::TABLE_MODIFIED`], for changes of its rows.
    /// Each change is a [`TableChange`](crate::TableChange), whose key is the text of an [`EntryId`]; a message that is moved is
    /// deleted from one table and added to the other.
    ///
    /// After many changes of a mailbox at once there is one [`TableChange::Reload`](crate::TableChange::Reload) in place of them, and
    /// no event for each message: a program that must know every change registers for it on every folder.
    ///
    /// ```no_run
    /// use sundown_client::{Event, Events, News, TableChange};
    ///
    /// # fn follow(folder: &sundown_client::Folder) -> Result<(), sundown_client::Error> {
    /// let sink = folder.advise(Events::TABLE_MODIFIED, |notice| {
    ///     if let News::Broker(Event::Table { change: TableChange::Added(key), .. }) = &notice.news {
    ///         let entry: sundown_client::EntryId = key.parse().expect("the key of a folder's row");
    ///         println!("{entry}");
    ///     }
    /// })?;
    /// # drop(sink);
    /// # Ok(())
    /// # }
    /// ```
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

    /// The entry identifier of the message. It stays the same when the message is moved, and so does this object.
    pub fn entry(&self) -> EntryId {
        self.entry
    }

    /// Sets and removes flags of the message; see [`Session::set_flags`](crate::Session::set_flags).
    ///
    /// ```no_run
    /// use sundown_client::{Flags, Marks};
    ///
    /// # fn read(message: &sundown_client::OpenMessage) -> Result<(), sundown_client::Error> {
    /// let read = Flags { marks: Marks::READ, ..Flags::default() };
    /// message.set_flags(&read, &Flags::default())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_flags(&self, add: &Flags, remove: &Flags) -> Result<Flags, Error> {
        self.object.session.set_flags(self.entry, add, remove)
    }

    /// Moves the message into another folder of its store; see [`Session::move_to`](crate::Session::move_to).
    ///
    /// ```no_run
    /// # fn keep(message: &sundown_client::OpenMessage) -> Result<(), sundown_client::Error> {
    /// message.move_to(sundown_client::FolderKind::INBOX)?;
    /// message.read_at(0)?; // it is the same message, and the object is still open
    /// # Ok(())
    /// # }
    /// ```
    pub fn move_to(&self, folder: FolderKind) -> Result<(), Error> {
        self.object.session.move_to(self.entry, folder)
    }

    /// Copies the message into a folder of its store; see [`Session::copy_to`](crate::Session::copy_to).
    ///
    /// ```no_run
    /// # fn copy(message: &sundown_client::OpenMessage) -> Result<(), sundown_client::Error> {
    /// let copy = message.copy_to(sundown_client::FolderKind::DRAFTS)?;
    /// assert_ne!(copy, message.entry());
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_to(&self, folder: FolderKind) -> Result<EntryId, Error> {
        self.object.session.copy_to(self.entry, folder)
    }

    /// Lets another process of this user read this message, without the session; see [`Folder::grant`].
    pub fn grant(&self, pid: Option<u32>) -> Result<Token, Error> {
        self.object.grant(pid)
    }

    /// Reads the piece of the message that begins at this byte. Returns it with the size of the whole message. At the end the piece
    /// is empty. The broker chooses how long a piece is, at most 256 KiB. Reading sets no flag.
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
        let object = self.object.session.open(Opening::Folder(0, FolderKind::DRAFTS))?;
        let drafts = Folder { object, place: 0, kind: FolderKind::DRAFTS }.messages()?;
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

/// A time in milliseconds since 1970.
fn since_1970(time: SystemTime) -> Result<u64, Error> {
    let since = time.duration_since(UNIX_EPOCH).ok();
    since.and_then(|since| u64::try_from(since.as_millis()).ok()).ok_or_else(|| {
        let message = "a message cannot have come before 1970; say when it came, or nothing";
        Error::fault(Code::E_INVALID_PARAMETER, message)
    })
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
