//! Sessions: logging on, registering, submitting, logging off.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use sundown_protocol::code::Fault;
use sundown_protocol::folder::Flags;
use sundown_protocol::notification::{EndReason, Event, Events};
use sundown_protocol::reply::{LoggedOn, Resource, SubmissionState, Synced};
use sundown_protocol::request::{
    AdviseSource, Blob, Content, Durability, Folder as FolderKind, Logoff as LogoffRequest,
    LogoffFlags, Logon as LogonRequest, LogonFlags, Opening, ReadSource, Request, SettingChange,
    Submit,
};
use sundown_protocol::{
    AdviseId, Code, EntryId, FaultDetail, MemberId, ObjectId, Reply, SessionId, SessionTag,
    SubmitKey, Token, UploadId, Version, frame,
};

use crate::deferred::{Deferred, Submission};
use crate::error::Error;
use crate::library::{LOOK, Library, PATIENCE, lock};
use crate::limits::within;
use crate::link::{Hook, SharedLink, does_not_fit};
use crate::logoff::{LoggedOff, Logoff, LogoffAnswer, LogoffQuestion, Submissions};
use crate::mapi::new_key;
use crate::message::{Message, Submitted};
use crate::notify::{self, News, Notice, Sink, SinkFunction, Told};
use crate::object::{AddressBook, Draft, Folder, ObjectState, OpenMessage, StatusTable, Store};
use crate::shutdown::ClientShutdown;

/// How to log on (`MAPILogonEx`).
#[derive(Debug, Clone)]
pub struct Logon {
    profile: Option<String>,
    flags: LogonFlags,
    on_end: OnEndOfSession,
    mail: NewMail,
}

/// Whether a logon waits for new mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NewMail {
    InBackground,
    /// For so long at most.
    First(Duration),
}

/// How long a logon waits for new mail.
const DOWNLOAD: Duration = Duration::from_secs(30);

/// What the library does when another member ends the shared session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEndOfSession {
    /// Logs the session off, once a sink of this session was told and has returned. Without a sink the session stays until the
    /// program leaves or the grace is over.
    LogOff,
    /// Nothing: the program leaves by itself, or is evicted when the grace is over.
    Stay,
}

impl Logon {
    /// Logs on to the shared session of the default profile. `SUNDOWN_PROFILE` is a variable of the command, which the library does not
    /// read.
    pub fn shared() -> Self {
        Self {
            profile: None,
            flags: LogonFlags::default(),
            on_end: OnEndOfSession::LogOff,
            mail: NewMail::InBackground,
        }
    }

    /// Logs on to a session that no other member can join (`MAPI_NEW_SESSION`).
    pub fn private() -> Self {
        Self { flags: LogonFlags::NEW_SESSION, ..Self::shared() }
    }

    /// Uses this profile.
    #[must_use]
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// Logs on without mail (`MAPI_NO_MAIL`): what this member submits waits for a member with mail.
    #[must_use]
    pub fn no_mail(mut self) -> Self {
        self.flags = self.flags.with(LogonFlags::NO_MAIL);
        self
    }

    /// Fails with `MAPI_E_TIMEOUT` instead of waiting for a session that is starting (`MAPI_TIMEOUT_SHORT`).
    #[must_use]
    pub fn timeout_short(mut self) -> Self {
        self.flags = self.flags.with(LogonFlags::TIMEOUT_SHORT);
        self
    }

    /// Has every mailbox of the session look for new mail before the logon returns (`MAPI_FORCE_DOWNLOAD`), for 30 seconds at most.
    /// Then, and when a mailbox cannot be reached, the logon succeeds all the same, and [`Mapi::mailboxes`](crate::Mapi::mailboxes) and
    /// [`Mapi::status`](crate::Mapi::status) say how they fare. Brokers before version 4 of the protocol have no mailboxes to ask.
    ///
    /// ```no_run
    /// use sundown_client::{Logon, Mapi, Options};
    ///
    /// # fn main() -> Result<(), sundown_client::Error> {
    /// let mapi = Mapi::initialize(Options::new("fetch-then-print"))?;
    /// let session = mapi.logon(Logon::shared().force_download())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn force_download(mut self) -> Self {
        self.mail = NewMail::First(DOWNLOAD);
        self
    }

    /// The same as [`force_download`](Self::force_download), for another time at most.
    #[must_use]
    pub fn force_download_for(mut self, limit: Duration) -> Self {
        self.mail = NewMail::First(limit);
        self
    }

    /// Sets what the library does when another member ends the shared session.
    #[must_use]
    pub fn on_end_of_session(mut self, what: OnEndOfSession) -> Self {
        self.on_end = what;
        self
    }
}

/// How long dropping a session may take.
const DROPPING: Duration = Duration::from_secs(1);

/// A logon to a session (`IMAPISession`). Dropping it logs off: it waits at most a second, and the library then does the rest.
pub struct Session {
    pub(crate) state: Arc<SessionState>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} in {})", self.member(), self.id())
    }
}

/// How many notices may wait in a default event queue.
const EVENTS: usize = 1_024;
/// How many of these places are reserved for the end of the session. It is reported once by each member that ends the session, and
/// once more when the grace is over.
const RESERVED: usize = 16;

/// The state that a session, its objects and its sinks share.
pub(crate) struct SessionState {
    library: Weak<Library>,
    logon: LogonRequest,
    pub(crate) on_end: OnEndOfSession,
    inner: Mutex<Inner>,
    events: (Sender<Notice>, Receiver<Notice>),
    /// How many notices found no room in the queue.
    missed: Mutex<u64>,
    connections: AtomicU32,
    uploads: AtomicU32,
}

struct Inner {
    facts: LoggedOn,
    /// Counts the logons: after a reconnect every handle is a new one.
    epoch: u64,
    ended: Option<Ended>,
    /// A sink is dropped only where this is not locked: it may have the last reference to its object, whose end locks it, and what the
    /// program's function holds may do anything at its end.
    sinks: BTreeMap<u32, Registered>,
    /// Deferred submissions that the broker has not reported as durable.
    deferred: Deferred,
    /// Open unsaved drafts, by number.
    drafts: BTreeSet<u32>,
    /// The program no longer uses the session, which logs off as soon as it can.
    unwanted: bool,
    /// What this member submitted, for the question before a logoff.
    submissions: Submissions,
    /// The name by which the session can be returned to, if the broker knows such names.
    tag: Option<SessionTag>,
    /// Whether the program knows of the session's end: it was told, or this member ended the session.
    end_known: bool,
}

#[derive(Clone)]
enum Ended {
    LoggedOff,
    /// Something else ended the session. Holds the reason.
    By(String),
}

struct Registered {
    source: Option<Arc<ObjectState>>,
    events: Events,
    advise: AdviseId,
    /// The epoch of the logon that it belongs to.
    epoch: u64,
    sink: SinkFunction,
}

impl Session {
    pub(crate) fn log_on(library: &Arc<Library>, logon: Logon) -> Result<Self, Error> {
        let has_mail = !logon.flags.contains(LogonFlags::NO_MAIL);
        let mail = logon.mail;
        let state = SessionState::new(library, logon);
        state.log_on(library)?;
        match mail {
            NewMail::First(limit) if has_mail => state.download(limit),
            NewMail::First(_) | NewMail::InBackground => {}
        }
        Ok(Self { state })
    }

    /// Connects, and logs on together with the hello. If there is a connection it only logs on.
    pub(crate) fn begin(library: &Arc<Library>, logon: Logon) -> Result<Self, Error> {
        let state = SessionState::new(library, logon);
        let until = Instant::now() + PATIENCE;
        let mut was_here = false;
        loop {
            let error = match state.begin_once(library, until, &mut was_here) {
                Ok(()) => return Ok(Self { state }),
                Err(error) => error,
            };
            let is_gone =
                error.is_disconnected() || error.is_unreachable() || error.is_end_of_session();
            if !was_here || !is_gone || Instant::now() >= until {
                return Err(error);
            }
            // The broker was stopped or crashed during the logon. Another broker is started, or comes up.
            thread::sleep(LOOK);
        }
    }

    /// The session's number with this broker.
    pub fn id(&self) -> SessionId {
        lock(&self.state.inner).facts.session
    }

    /// The member's number, unique in the life of the broker; `status` shows it.
    pub fn member(&self) -> MemberId {
        self.state.member()
    }

    /// The profile's name.
    pub fn profile(&self) -> String {
        lock(&self.state.inner).facts.profile.clone()
    }

    /// Whether other members may join.
    pub fn is_shared(&self) -> bool {
        lock(&self.state.inner).facts.shared
    }

    /// The sender of messages that name no sender.
    pub fn identity(&self) -> String {
        lock(&self.state.inner).facts.identity.clone()
    }

    /// The default event queue: notices that must reach the program and for which it registered no sink; [`Notice`] says which. It
    /// holds 1,024. If notices
    /// find no room, the next one says how many were missed ([`Event::Lagged`](crate::Event::Lagged)). The end of the session
    /// always finds room.
    pub fn events(&self) -> &Receiver<Notice> {
        &self.state.events.1
    }

    /// `IMAPISession::Advise`: registers a sink for these events of all stores of the session: of messages, folders, new mail and
    /// members. Critical errors are always included. [`Notice`] says on which thread it is called, and which news every sink of a
    /// session gets.
    ///
    /// Tables have their own registrations, as [`Folder::advise`](crate::Folder::advise): [`Events::TABLE_MODIFIED`] has no effect
    /// here.
    ///
    /// ```no_run
    /// use std::sync::mpsc;
    /// use sundown_client::{Event, Events, News};
    ///
    /// # fn follow(session: &sundown_client::Session) -> Result<(), sundown_client::Error> {
    /// let (notices, happened) = mpsc::sync_channel(64); // the sink waits while it is full
    /// let sink = session.advise(Events::NEW_MAIL, move |notice| {
    ///     let _ = notices.send(notice.news.clone());
    /// })?;
    /// for news in happened {
    ///     match news {
    ///         News::Broker(Event::Arrived(mail)) => println!("{}: {}", mail.from, mail.subject),
    ///         News::Broker(Event::Lagged { .. }) | News::Reconnected { .. } => { /* look at the Inbox */ }
    ///         News::Broker(Event::CriticalError { .. }) => break, // the library logs off
    ///         _ => {}
    ///     }
    /// }
    /// # drop(sink);
    /// # Ok(())
    /// # }
    /// ```
    pub fn advise(
        &self,
        events: Events,
        sink: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> Result<Sink, Error> {
        let sink: SinkFunction = Arc::new(sink);
        SessionState::advise(&self.state, None, events, &sink)
    }

    /// Opens the profile's default store (`OpenMsgStore`).
    pub fn default_store(&self) -> Result<Store, Error> {
        self.store(0)
    }

    /// Opens a folder of the default store.
    pub fn folder(&self, folder: FolderKind) -> Result<Folder, Error> {
        self.default_store()?.folder(folder)
    }

    /// Opens a store by its place in the profile: the default store is 0, and the others follow in the order of the profile. The
    /// status table has a row for each, also if it does not work. A place without a working store is `MAPI_E_NOT_FOUND`.
    ///
    /// ```no_run
    /// use sundown_client::Resource;
    ///
    /// # fn show(session: &sundown_client::Session) -> Result<(), sundown_client::Error> {
    /// let rows = session.status_table()?.rows()?;
    /// let stores = rows.iter().filter(|row| row.resource == Resource::StoreProvider);
    /// for (place, row) in stores.enumerate() {
    ///     println!("{} has {} folders", row.name, session.store(place as u16)?.folders()?.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn store(&self, place: u16) -> Result<Store, Error> {
        Ok(Store::new(self.state.open(Opening::Store(place))?, place))
    }

    /// Opens a message (`OpenEntry`).
    pub fn open_message(&self, entry: EntryId) -> Result<OpenMessage, Error> {
        Ok(OpenMessage::new(self.state.open(Opening::Message(entry))?, entry))
    }

    /// Opens the address book (`OpenAddressBook`).
    pub fn address_book(&self) -> Result<AddressBook, Error> {
        Ok(AddressBook(self.state.open(Opening::AddressBook)?))
    }

    /// Opens the status table (`GetStatusTable`).
    pub fn status_table(&self) -> Result<StatusTable, Error> {
        Ok(StatusTable(self.state.open(Opening::StatusTable)?))
    }

    /// Makes an unsaved message in Drafts. [`Draft::save`] keeps it; a logoff discards it.
    pub fn draft(&self, message: &Message) -> Result<Draft, Error> {
        let bytes = &message.bytes;
        let reply = self.state.retrying(|link, member| {
            let content = self.state.content(link, member, 0, bytes)?;
            Ok(Request::Draft { member, store: 0, content })
        })?;
        match reply {
            Reply::Opened(object) => {
                Ok(Draft::new(ObjectState::new(Arc::clone(&self.state), None, object)))
            }
            _ => Err(unexpected()),
        }
    }

    /// Submits a message through the default store. The message is durable when this returns, and will be sent.
    pub fn submit(&self, message: &Message) -> Result<Submitted, Error> {
        self.state.submit(0, message, Durability::Durable)
    }

    /// Submits a message and returns when the broker has it. The message is durable within 50 ms, or when [`flush`](Self::flush), a
    /// logoff or a fast shutdown has returned. If the broker is killed before that, the library submits it again.
    pub fn submit_deferred(&self, message: &Message) -> Result<Submitted, Error> {
        self.state.submit(0, message, Durability::Deferred)
    }

    /// Makes everything durable that this session submitted. If something could not be stored it fails, and names it: the
    /// submission is kept in this process, and the next flush or logoff tries again.
    pub fn flush(&self) -> Result<(), Error> {
        self.state.flush()
    }

    /// `AbortSubmit`: fails with `MAPI_E_UNABLE_TO_ABORT` if a transport has the message, or with `MAPI_E_NOT_IN_QUEUE`.
    pub fn abort_submit(&self, entry: EntryId) -> Result<(), Error> {
        let aborted = self.state.done(|member| Request::AbortSubmit { member, entry });
        aborted.or_else(|error| {
            let library = self.state.library()?;
            let done = error.repeat_says(Code::E_NOT_IN_QUEUE)
                && library.submission_state(&self.profile(), entry)
                    == Some(SubmissionState::Aborted);
            if done { Ok(()) } else { Err(error) }
        })
    }

    /// `IMAPIStatus::ValidateState` of a provider of this session, by name: a transport really connects and authenticates. The
    /// error says in words what is wrong.
    pub fn validate_state(&self, kind: Resource, provider: &str) -> Result<(), Error> {
        self.state.done(|member| {
            let provider = provider.to_owned();
            Request::ValidateState { member, kind, provider }
        })
    }

    /// Has the mailboxes of the session look at everything now, and try the changes that they do not have yet
    /// (`IMAPIStatus::FlushQueues` with `FLUSH_DOWNLOAD`). Returns what they have found, when that is through. An account that is mirrored
    /// for the first time goes on with its older messages afterwards: [`Mapi::mailboxes`](crate::Mapi::mailboxes) says how far it is.
    ///
    /// The errors: what is wrong with a mailbox, `MAPI_E_VERSION` with a broker that is too old.
    ///
    /// ```no_run
    /// # fn check(session: &sundown_client::Session) -> Result<(), sundown_client::Error> {
    /// let found = session.sync()?;
    /// println!("{} new, {} changed, {} gone", found.new, found.changed, found.removed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sync(&self) -> Result<Synced, Error> {
        self.state.sync()
    }

    /// Deletes a message: moves it into Deleted, or deletes it for good if it is there. The request is not repeated, because a
    /// repetition would delete for good what the first attempt moved: if the broker goes away before it answers, the outcome is
    /// unknown ([`Error::is_outcome_unknown`](crate::Error::is_outcome_unknown)). If the folder is known, use
    /// [`Folder::delete`](crate::Folder::delete).
    pub fn delete(&self, entry: EntryId) -> Result<(), Error> {
        self.state.done(|member| Request::Delete { member, entry })
    }

    /// Sets and removes flags of a message (`IMessage::SetReadFlag`, `IMAPIFolder::SetMessageStatus`). A flag that is in both is
    /// removed; the other flags stay as they are, so programs that set different flags do not undo each other's change. Returns all
    /// flags that the message has now. The change is durable then, and every program that registered for
    /// [`Events::OBJECT_MODIFIED`] is told.
    ///
    /// The errors: `MAPI_E_UNKNOWN_ENTRYID` or `MAPI_E_NOT_FOUND` if there is no such message, `MAPI_E_INVALID_PARAMETER` for a wrong
    /// flag, `MAPI_E_VERSION` with a broker that is too old.
    ///
    /// ```no_run
    /// # fn mark(session: &sundown_client::Session, entry: sundown_client::EntryId) -> Result<(), sundown_client::Error> {
    /// let add = "read,$work".parse().expect("these are flags");
    /// let remove = "flagged".parse().expect("this is a flag");
    /// let flags = session.set_flags(entry, &add, &remove)?;
    /// println!("{}", flags.names().collect::<Vec<_>>().join(" "));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_flags(&self, entry: EntryId, add: &Flags, remove: &Flags) -> Result<Flags, Error> {
        self.state.set_flags(entry, add, remove)
    }

    /// Moves a message into another folder of its store (`IMAPIFolder::CopyMessages` with `MESSAGE_MOVE`). The message keeps its
    /// entry identifier and its flags. It is durable when this returns, and every program that registered for
    /// [`Events::OBJECT_MOVED`] is told.
    ///
    /// The errors: `MAPI_E_NOT_FOUND` if there is no such message or folder, `MAPI_E_SUBMITTED` for a message in the outgoing queue,
    /// `MAPI_E_NO_ACCESS` for the Outbox, into which messages come only by being submitted, `MAPI_E_VERSION` with a broker that is
    /// too old.
    ///
    /// ```no_run
    /// # fn archive(session: &sundown_client::Session, entry: sundown_client::EntryId) -> Result<(), sundown_client::Error> {
    /// let folders = session.default_store()?.folders()?;
    /// if let Some(row) = folders.iter().find(|row| row.name == "Archive") {
    ///     session.move_to(entry, row.folder)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn move_to(&self, entry: EntryId, folder: FolderKind) -> Result<(), Error> {
        self.state.move_to(entry, folder)
    }

    /// Copies a message into a folder of its store (`IMAPIFolder::CopyMessages`), with its flags. Returns the entry identifier of the
    /// copy, which is durable then; every program that registered for [`Events::OBJECT_CREATED`] is told. If the broker goes away
    /// before it answers, the request is repeated with the same key, and makes one copy.
    ///
    /// The errors are those of [`move_to`](Self::move_to).
    ///
    /// ```no_run
    /// use sundown_client::FolderKind;
    ///
    /// # fn again(session: &sundown_client::Session, entry: sundown_client::EntryId) -> Result<(), sundown_client::Error> {
    /// let copy = session.copy_to(entry, FolderKind::DRAFTS)?;
    /// assert_ne!(copy, entry);
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_to(&self, entry: EntryId, folder: FolderKind) -> Result<EntryId, Error> {
        self.state.copy_to(entry, folder)
    }

    /// The bytes of a message, all of them at once; [`OpenMessage::read_at`](crate::OpenMessage::read_at) reads them in pieces. Reading
    /// sets no flag. `MAPI_E_NOT_FOUND` if there is no such message any more, `MAPI_E_NOT_ENOUGH_MEMORY` if it is too large for that.
    pub fn read(&self, entry: EntryId) -> Result<Vec<u8>, Error> {
        let source = ReadSource::Entry(entry);
        read_whole(|offset| self.state.call(|member| Request::Read { member, source, offset }))
    }

    /// A program's setting in its section of the profile.
    pub fn setting(&self, section: &str, name: &str) -> Result<Option<String>, Error> {
        self.change_setting(section, name, &SettingChange::Keep)
    }

    /// Sets a setting to a value.
    pub fn set_setting(&self, section: &str, name: &str, value: &str) -> Result<(), Error> {
        self.change_setting(section, name, &SettingChange::Set(value.to_owned())).map(drop)
    }

    /// Removes a setting. Returns its previous value.
    pub fn remove_setting(&self, section: &str, name: &str) -> Result<Option<String>, Error> {
        self.change_setting(section, name, &SettingChange::Remove)
    }

    fn change_setting(
        &self,
        section: &str,
        name: &str,
        change: &SettingChange,
    ) -> Result<Option<String>, Error> {
        let reply = self.state.call(|member| Request::Setting {
            member,
            section: section.to_owned(),
            name: name.to_owned(),
            change: change.clone(),
        })?;
        match reply {
            Reply::Setting(value) => Ok(value),
            _ => Err(unexpected()),
        }
    }

    /// Controls the shutdown of the whole process (`QueryInterface` for `IMAPIClientShutdown`).
    pub fn client_shutdown(&self) -> Result<ClientShutdown, Error> {
        self.state.alive()?;
        Ok(ClientShutdown::new(self.state.library()?))
    }

    /// Takes back what this token grants, whether it was redeemed or not. The process that holds the object is told.
    pub fn revoke(&self, token: Token) -> Result<(), Error> {
        let revoked = self.state.done(|member| Request::Revoke { member, token });
        revoked.or_else(|error| done_before(error, Code::E_NOT_FOUND))
    }

    /// Logs off. Objects that are still open become invalid; the result counts them. If something could not be made durable, or a
    /// shared logoff was refused, it fails: the session stays logged on and can be used again.
    ///
    /// The program is not asked; [`logoff_asking`](Self::logoff_asking) asks.
    pub fn logoff(&self, how: Logoff) -> Result<LoggedOff, Error> {
        self.state.log_off(&how)
    }

    /// Logs off with `MAPI_LOGOFF_UI`: calls `ask` first, on this thread, before anything has changed. `ask` may call the library.
    /// After [`LogoffAnswer::Cancel`] nothing has changed: the error is `MAPI_E_USER_CANCEL`, and the session goes on. After
    /// [`LogoffAnswer::LogOff`] it is [`logoff`](Self::logoff), which does not ask again, also if the broker is restarted
    /// meanwhile.
    ///
    /// ```no_run
    /// # use sundown_client::{Error, Logoff, LogoffAnswer, Session};
    /// # fn leave(session: &Session) -> Result<(), Error> {
    /// session.logoff_asking(Logoff::now().shared(), |question| match question.others() {
    ///     Ok(others) if others.is_empty() => LogoffAnswer::LogOff,
    ///     _ => LogoffAnswer::Cancel, // other members still work here
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn logoff_asking(
        &self,
        how: Logoff,
        ask: impl FnOnce(&LogoffQuestion<'_>) -> LogoffAnswer,
    ) -> Result<LoggedOff, Error> {
        self.state.alive()?;
        match ask(&LogoffQuestion::new(&self.state, how)) {
            LogoffAnswer::LogOff => self.state.log_off(&how.asked()),
            LogoffAnswer::Cancel => Err(crate::logoff::cancelled()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = within(DROPPING, || self.state.log_off(&Logoff::now()))
            && error.has_given_up()
        {
            self.state.leave_later();
        }
    }
}

impl SessionState {
    fn new(library: &Arc<Library>, logon: Logon) -> Arc<Self> {
        Arc::new(Self {
            library: Arc::downgrade(library),
            logon: LogonRequest { profile: logon.profile, flags: logon.flags },
            on_end: logon.on_end,
            inner: Mutex::new(Inner {
                facts: nobody(),
                epoch: 0,
                ended: None,
                sinks: BTreeMap::new(),
                deferred: Deferred::default(),
                drafts: BTreeSet::new(),
                unwanted: false,
                submissions: Submissions::default(),
                tag: None,
                end_known: false,
            }),
            events: crossbeam_channel::bounded(EVENTS),
            missed: Mutex::default(),
            connections: AtomicU32::new(0),
            uploads: AtomicU32::new(0),
        })
    }

    /// Connects, and logs on together with the hello. Sets `was_here` once a broker is reached.
    fn begin_once(
        self: &Arc<Self>,
        library: &Arc<Library>,
        until: Instant,
        was_here: &mut bool,
    ) -> Result<(), Error> {
        let first = || (Request::Logon(self.logon.clone()), self.logged_on_hook(library));
        let asked = library.connect_now(Some(&first))?;
        *was_here = true;
        // There was a connection, so the logon is a request of its own.
        let Some((link, asked)) = asked else { return self.log_on(library) };
        match link.answer(asked) {
            Ok(Ok(Reply::LoggedOn(_))) => Ok(()),
            Ok(Ok(_)) => Err(unexpected()),
            Ok(Err(refusal)) if refusal.fault.code == Code::E_WAIT => {
                library.wait_for_another(&link, until);
                Err(Error::not_asked(refusal.fault.message))
            }
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(error) if error.has_given_up() => {
                self.is_unwanted();
                Err(error)
            }
            Err(error) => {
                library.wait_for_another(&link, until);
                Err(error)
            }
        }
    }

    fn log_on(self: &Arc<Self>, library: &Arc<Library>) -> Result<(), Error> {
        let hook = || self.logged_on_hook(library);
        match library.call(Some(&hook), |_| Ok(Request::Logon(self.logon.clone()))) {
            Ok(Reply::LoggedOn(_)) => Ok(()),
            Ok(_) => Err(unexpected()),
            Err(error) => {
                if error.has_given_up() {
                    self.is_unwanted();
                }
                Err(error)
            }
        }
    }

    /// Gives up a logon whose caller no longer waits. The logon may still succeed, or have succeeded.
    fn is_unwanted(&self) {
        let logged_on = {
            let mut inner = lock(&self.inner);
            inner.unwanted = true;
            inner.epoch > 0
        };
        if logged_on {
            self.leave_later();
        }
    }

    /// Logs off without waiting: at once, or when the broker is back and has the deferred submissions.
    pub(crate) fn leave_later(&self) {
        let Ok(library) = self.library() else { return };
        let (member, sinks) = {
            let mut inner = lock(&self.inner);
            inner.unwanted = true;
            inner.ended.get_or_insert(Ended::LoggedOff);
            (inner.facts.member, std::mem::take(&mut inner.sinks))
        };
        drop(sinks);
        if let Some(link) = library.link_if_up() {
            let flags = LogoffFlags::default();
            let logoff = LogoffRequest { member, flags, drain: None };
            link.tell(Request::Logoff(logoff), None);
            library.remove_session(self);
        }
    }

    /// Whether the session logs off as soon as the broker is back.
    pub(crate) fn is_leaving(&self) -> bool {
        lock(&self.inner).unwanted
    }

    /// Makes the hook of a logon. It lists the session before anything that follows the logon can arrive.
    fn logged_on_hook(self: &Arc<Self>, library: &Arc<Library>) -> Hook {
        let (state, library) = (Arc::clone(self), Arc::downgrade(library));
        Box::new(move |outcome| {
            let (Ok(Reply::LoggedOn(facts)), Some(library)) = (outcome, library.upgrade()) else {
                return;
            };
            let member = facts.member;
            let mut inner = lock(&state.inner);
            inner.facts = facts.clone();
            inner.epoch += 1;
            let unwanted = inner.unwanted && inner.epoch == 1;
            drop(inner);
            library.add_session(member, Arc::clone(&state));
            if unwanted {
                library.tell(Told::Unwanted(state));
            }
        })
    }

    pub(crate) fn member(&self) -> MemberId {
        lock(&self.inner).facts.member
    }

    /// What the broker said of the session at the last logon.
    pub(crate) fn facts(&self) -> LoggedOn {
        lock(&self.inner).facts.clone()
    }

    /// Whether this member submitted the entry, as far as the session remembers.
    pub(crate) fn has_submitted(&self, entry: EntryId) -> bool {
        lock(&self.inner).submissions.contains(entry)
    }

    pub(crate) fn epoch(&self) -> u64 {
        lock(&self.inner).epoch
    }

    pub(crate) fn library(&self) -> Result<Arc<Library>, Error> {
        self.library
            .upgrade()
            .ok_or_else(|| Error::fault(Code::E_NOT_INITIALIZED, "the library was uninitialized"))
    }

    /// The member of the session, or why it is not logged on.
    fn alive(&self) -> Result<MemberId, Error> {
        self.library()?.check_alive()?;
        let inner = lock(&self.inner);
        match &inner.ended {
            None => Ok(inner.facts.member),
            Some(Ended::LoggedOff) => {
                Err(Error::fault(Code::E_INVALID_OBJECT, "this session was logged off"))
            }
            Some(Ended::By(why)) => Err(Error::fault(Code::E_END_OF_SESSION, why.clone())),
        }
    }

    pub(crate) fn call(&self, request: impl Fn(MemberId) -> Request) -> Result<Reply, Error> {
        self.retrying(|_, member| Ok(request(member)))
    }

    /// Sends a request, and repeats it over another connection if this one ends. The request is built anew each time, because the
    /// handles have changed then.
    pub(crate) fn retrying(
        &self,
        request: impl Fn(&SharedLink, MemberId) -> Result<Request, Error>,
    ) -> Result<Reply, Error> {
        self.alive()?;
        let result = self.library()?.call(None, |link| request(link, self.alive()?));
        // If the session ended meanwhile, that is the reason, and not an unknown handle.
        result.map_err(|error| match self.alive() {
            Err(ended) if error.is_dead_handle() || error.is_disconnected() => ended,
            _ => error,
        })
    }

    fn sync(&self) -> Result<Synced, Error> {
        match self.call(|member| Request::Sync { member })? {
            Reply::Synced(found) => Ok(found),
            _ => Err(unexpected()),
        }
    }

    /// Waits until mailboxes have looked for new mail, but not for long. How they fare is asked for by those who want to know.
    fn download(self: &Arc<Self>, limit: Duration) {
        let (done, waits) = std::sync::mpsc::channel();
        let state = Arc::clone(self);
        let looks = std::thread::Builder::new().name("download".into()).spawn(move || {
            let _ = done.send(state.sync());
        });
        if looks.is_ok() {
            let _ = waits.recv_timeout(limit);
        }
    }

    pub(crate) fn done(&self, request: impl Fn(MemberId) -> Request) -> Result<(), Error> {
        match self.call(request)? {
            Reply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Sends a request without waiting, for guards that are dropped.
    pub(crate) fn tell(&self, request: impl Fn(MemberId) -> Request) {
        if let (Ok(member), Ok(library)) = (self.alive(), self.library())
            && library.check_alive().is_ok()
            && let Some(link) = library.link_if_up()
        {
            link.tell(request(member), None);
        }
    }

    pub(crate) fn open(self: &Arc<Self>, what: Opening) -> Result<Arc<ObjectState>, Error> {
        match self.call(|member| Request::Open { member, what: what.clone() })? {
            Reply::Opened(object) => Ok(ObjectState::new(Arc::clone(self), Some(what), object)),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn advise(
        state: &Arc<Self>,
        source: Option<&Arc<ObjectState>>,
        events: Events,
        sink: &SinkFunction,
    ) -> Result<Sink, Error> {
        state.alive()?;
        state.library()?.start_teller()?;
        let connection = state.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let wanted = Arc::new(AtomicBool::new(true));
        let hook = || {
            let registered = (source.cloned(), events, Arc::clone(sink));
            state.advised_hook(connection, registered, Arc::clone(&wanted))
        };
        let library = state.library()?;
        let reply = library.call(Some(&hook), |_| {
            let source = match &source {
                None => AdviseSource::Session,
                Some(object) => AdviseSource::Object(object.id()?),
            };
            Ok(Request::Advise { member: state.alive()?, source, events })
        });
        match reply {
            Ok(Reply::Advised(_)) => Ok(Sink::new(Arc::clone(state), connection)),
            Ok(_) => Err(unexpected()),
            Err(error) => {
                // The registration may still succeed. A sink that the program does not know of must not be called.
                wanted.store(false, Ordering::Release);
                if let Some((advise, epoch)) = state.forget_sink(connection)
                    && epoch == state.epoch()
                {
                    state.tell(|member| Request::Unadvise { member, advise });
                }
                Err(state.alive().err().unwrap_or(error))
            }
        }
    }

    pub(crate) fn set_flags(
        &self,
        entry: EntryId,
        add: &Flags,
        remove: &Flags,
    ) -> Result<Flags, Error> {
        let reply = self.call(|member| {
            let (add, remove) = (add.clone(), remove.clone());
            Request::SetFlags { member, entry, add: Box::new(add), remove: Box::new(remove) }
        })?;
        match reply {
            Reply::Flags(flags) => Ok(flags),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn move_to(&self, entry: EntryId, to: FolderKind) -> Result<(), Error> {
        self.done(|member| Request::Move { member, entry, to })
    }

    pub(crate) fn copy_to(&self, entry: EntryId, to: FolderKind) -> Result<EntryId, Error> {
        let key = new_key();
        of_key(&self.call(|member| Request::Copy { member, key, entry, to })?, key)
    }

    /// Makes the hook of a registration. It lists the sink before an event for it can arrive, if the caller still wants it.
    fn advised_hook(
        self: &Arc<Self>,
        connection: u32,
        (source, events, sink): (Option<Arc<ObjectState>>, Events, SinkFunction),
        wanted: Arc<AtomicBool>,
    ) -> Hook {
        let state = Arc::clone(self);
        Box::new(move |outcome| {
            if let Ok(Reply::Advised(advise)) = outcome
                && wanted.load(Ordering::Acquire)
            {
                let mut inner = lock(&state.inner);
                let (advise, epoch) = (*advise, inner.epoch);
                let registered = Registered { source, events, advise, epoch, sink };
                inner.sinks.insert(connection, registered);
            }
        })
    }

    /// Removes a sink. Returns its number and the epoch of its logon: another logon assigns the same numbers again.
    pub(crate) fn forget_sink(&self, connection: u32) -> Option<(AdviseId, u64)> {
        let removed = lock(&self.inner).sinks.remove(&connection);
        removed.map(|r| (r.advise, r.epoch))
    }

    pub(crate) fn sinks_of(&self, advises: &[AdviseId]) -> Vec<(u32, SinkFunction)> {
        let inner = lock(&self.inner);
        let asked = inner.sinks.iter().filter(|(_, r)| advises.contains(&r.advise));
        asked.map(|(connection, r)| (*connection, Arc::clone(&r.sink))).collect()
    }

    /// Puts a notice into the default event queue. The queue does not grow if the program does not read it: ordinary notices are
    /// only counted then, and the end of the session has a reserved place.
    pub(crate) fn queue(&self, notice: Notice) {
        let must =
            matches!(notice.news, News::Broker(Event::CriticalError { .. } | Event::Evicted));
        let events = &self.events.0;
        let mut missed = lock(&self.missed);
        let room = events.len() < EVENTS - RESERVED;
        if *missed > 0 && room {
            let lagged = News::Broker(Event::Lagged { missed: *missed });
            *missed = 0;
            let _ = events.try_send(Notice::queued(lagged));
        }
        if !must && !room {
            *missed += match notice.news {
                News::Broker(Event::Lagged { missed }) => missed,
                _ => 1,
            };
            return;
        }
        let _ = events.try_send(notice);
    }

    /// Tells the program news of the library, through its session sinks or the default event queue.
    pub(crate) fn tell_news(&self, news: &News) {
        notify::deliver(self, &self.session_advises(), news.clone());
    }

    /// The registrations on the session itself.
    pub(crate) fn session_advises(&self) -> Vec<AdviseId> {
        let inner = lock(&self.inner);
        inner.sinks.values().filter(|r| r.source.is_none()).map(|r| r.advise).collect()
    }

    pub(crate) fn durable(&self, entries: &[EntryId]) {
        lock(&self.inner).deferred.durable(entries);
    }

    pub(crate) fn evicted(&self) {
        self.end_with("the shared session was ended and its grace is over; log on again");
    }

    pub(crate) fn is_logged_off(&self) -> bool {
        matches!(lock(&self.inner).ended, Some(Ended::LoggedOff))
    }

    pub(crate) fn end(&self, reason: EndReason) {
        let why = match reason {
            EndReason::SharedLogoff => "the shared session was ended; log on again",
            EndReason::BrokerStopped => "the broker was stopped",
            EndReason::ReferenceLost => "the process that granted it has left",
            EndReason::StoreLost => {
                "the files of its store were removed or replaced; log on again, and see `sundown doctor`"
            }
            EndReason::BrokerLost => "the broker went away and did not come back",
        };
        self.end_with(why);
    }

    fn end_with(&self, why: &str) {
        lock(&self.inner).ended.get_or_insert_with(|| Ended::By(why.to_owned()));
        if let Ok(library) = self.library() {
            library.remove_session(self);
        }
    }

    /// Logs off after the end of a shared session, once the program's sinks have returned.
    pub(crate) fn leave_because_of_error(&self) {
        if self.alive().is_ok() && self.log_off(&Logoff::critical_error()).is_ok() {
            let mut inner = lock(&self.inner);
            inner.ended = Some(Ended::By("the shared session was ended; log on again".into()));
        }
    }

    pub(crate) fn log_off(&self, how: &Logoff) -> Result<LoggedOff, Error> {
        self.repeat_lost()?;
        // A member that ends the session is not told of that end, nor by a later broker that completes it.
        let known = how.flags.contains(LogoffFlags::SHARED).then(|| self.end_is_known());
        let drain = how.drain.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let reply = self.retrying(|link, member| {
            let flags = how.flags_for(link);
            Ok(Request::Logoff(LogoffRequest { member, flags, drain }))
        });
        if let (Err(_), Some(known)) = (&reply, known) {
            lock(&self.inner).end_known = known;
        }
        let Reply::LoggedOff(account) = reply.inspect_err(|error| self.note_lost(error))? else {
            return Err(unexpected());
        };
        // Notices that came before the answer are delivered before this returns; later ones are not delivered (A-38).
        self.library()?.tell_all();
        let sinks = {
            let mut inner = lock(&self.inner);
            inner.ended = Some(Ended::LoggedOff);
            inner.deferred.clear();
            std::mem::take(&mut inner.sinks)
        };
        drop(sinks);
        if let Ok(library) = self.library() {
            library.remove_session(self);
        }
        Ok(LoggedOff {
            invalidated: account.invalidated,
            discarded: account.discarded,
            queued: account.queued,
            stayed: account.stayed,
        })
    }

    pub(crate) fn submit(
        &self,
        store: u16,
        message: &Message,
        when: Durability,
    ) -> Result<Submitted, Error> {
        let message = &*self.with_author(message);
        let key = message.key.unwrap_or_else(new_key);
        if when == Durability::Durable {
            return self.submit_as((message, store, key), when);
        }
        self.alive()?;
        let message = Arc::new(message.clone());
        let submission = Submission { message: Arc::clone(&message), store, key };
        lock(&self.inner).deferred.begin(submission);
        let submitted = self.submit_as((&message, store, key), when);
        let mut inner = lock(&self.inner);
        match &submitted {
            Ok(submitted) if submitted.state == SubmissionState::Accepted => {
                inner.deferred.accepted(key);
            }
            // The message is durable, or the caller gets the error.
            Ok(_) | Err(_) => inner.deferred.forget(key),
        }
        drop(inner);
        submitted
    }

    /// Adds the profile's identity as the author if the envelope's sender is empty and the message has no From. The broker makes a
    /// missing From of the envelope's sender.
    fn with_author<'m>(&self, message: &'m Message) -> Cow<'m, Message> {
        let nobody = message.envelope_sender() == Some("");
        if !nobody || message.has_field("From") {
            return Cow::Borrowed(message);
        }
        let author = lock(&self.inner).facts.identity.clone();
        Cow::Owned(message.clone().missing_fields(&[("From", author)]))
    }

    fn submit_as(
        &self,
        (message, store, key): (&Message, u16, SubmitKey),
        when: Durability,
    ) -> Result<Submitted, Error> {
        let reply = self
            .retrying(|link, member| self.submission(link, member, (message, store, key), when))?;
        let Reply::Submitted { entry, state } = reply else { return Err(unexpected()) };
        if entry.record != key.0 {
            return Err(unexpected());
        }
        lock(&self.inner).submissions.add(entry);
        Ok(Submitted { entry, state })
    }

    /// Builds a submission. The bytes of a long message are uploaded first.
    fn submission(
        &self,
        link: &SharedLink,
        member: MemberId,
        (message, store, key): (&Message, u16, SubmitKey),
        when: Durability,
    ) -> Result<Request, Error> {
        let route = message.route();
        if route.as_ref().is_some_and(|r| r.account.is_some()) && !link.speaks(Version::V3) {
            let text =
                "this broker is older than this program, and chooses no transport by its name";
            return Err(Error::new(Code::E_NO_SUPPORT, text));
        }
        let submit = Submit {
            member,
            store,
            key,
            from: message.from.clone(),
            recipients: message.recipients.clone(),
            content: self.content(link, member, store, &message.bytes)?,
            when,
            report: message.report,
        };
        Ok(match route {
            Some(route) if link.speaks(Version::V3) => {
                Request::SubmitVia { submit: Box::new(submit), route: Box::new(route) }
            }
            _ => Request::Submit(submit),
        })
    }

    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.repeat_lost()?;
        let covered = lock(&self.inner).deferred.covered();
        let flushed = self.done(|member| Request::Flush { member });
        flushed.inspect_err(|error| self.note_lost(error))?;
        let deferred = &mut lock(&self.inner).deferred;
        for key in covered {
            deferred.forget(key);
        }
        Ok(())
    }

    /// Marks the deferred submissions that the error names. The broker reports once what its stores could not keep; the session
    /// still has it, and repeats it.
    pub(crate) fn note_lost(&self, error: &Error) {
        if let FaultDetail::Entries(entries) = error.detail() {
            lock(&self.inner).deferred.lost(entries);
        }
    }

    /// Submits again what stores could not keep. A submission stays here as long as a store may take it later; a final refusal is
    /// returned once.
    pub(crate) fn repeat_lost(&self) -> Result<(), Error> {
        let lost = lock(&self.inner).deferred.to_repeat();
        let mut refused = Ok(());
        for Submission { message, store, key } in lost {
            match self.submit_as((&message, store, key), Durability::Durable) {
                Ok(_) => {}
                Err(error) if may_be_stored_later(&error) => return Err(error),
                Err(error) => refused = refused.and(Err(error)),
            }
            lock(&self.inner).deferred.forget(key);
        }
        refused
    }

    /// A message's bytes for a request: inline, or as an upload that is sent before.
    pub(crate) fn content(
        &self,
        link: &SharedLink,
        member: MemberId,
        store: u16,
        bytes: &[u8],
    ) -> Result<Content, Error> {
        if bytes.len() <= frame::MAX_BLOB {
            return Ok(Content::Inline(Blob(bytes.to_vec())));
        }
        let upload = UploadId(self.uploads.fetch_add(1, Ordering::Relaxed));
        for piece in bytes.chunks(frame::MAX_BLOB) {
            let bytes = Blob(piece.to_vec());
            let request = Request::Upload { member, store, upload, bytes };
            link.call(request, None)??;
        }
        Ok(Content::Uploaded(upload))
    }

    /// Logs on again over a new connection, and restores the registrations and deferred submissions of the session. Returns how
    /// many unsaved drafts were lost.
    pub(crate) fn come_back(
        self: &Arc<Self>,
        library: &Arc<Library>,
        link: &SharedLink,
    ) -> Result<u64, Error> {
        let hook = self.logged_on_hook(library);
        link.call(self.logon_again(link), Some(hook))??;
        let member = self.member();
        self.register_again(link, member)?;
        let deferred = lock(&self.inner).deferred.to_bring_back();
        for Submission { message, store, key } in deferred {
            // The submission is durable this time, so nothing remains to be repeated.
            let again = self.submission(link, member, (&message, store, key), Durability::Durable);
            let answer = again.and_then(|again| Ok(link.call(again, None)??));
            match answer {
                Ok(Reply::Submitted { entry, .. }) if entry.record == key.0 => {
                    lock(&self.inner).deferred.forget(key);
                }
                Err(error) if error.is_disconnected() || error.code() == Code::E_WAIT => {
                    return Err(error);
                }
                // The session continues without it; the next flush or logoff tries again, and reports the failure.
                Ok(_) | Err(_) => lock(&self.inner).deferred.refused(key),
            }
        }
        Ok(std::mem::take(&mut lock(&self.inner).drafts).len() as u64)
    }

    /// The logon that returns to the session of this member, if the broker can tell which session that is.
    fn logon_again(&self, link: &SharedLink) -> Request {
        let inner = lock(&self.inner);
        match inner.tag {
            Some(tag) if link.speaks(Version::V3) => {
                Request::Return { logon: self.logon.clone(), tag, told: inner.end_known }
            }
            _ => Request::Logon(self.logon.clone()),
        }
    }

    /// Notes the session's name, as the broker reports it.
    pub(crate) fn is_called(&self, tag: SessionTag) {
        let mut inner = lock(&self.inner);
        inner.end_known &= inner.tag == Some(tag);
        inner.tag = Some(tag);
    }

    /// Notes that the session's end is known. Returns whether it was known before.
    pub(crate) fn end_is_known(&self) -> bool {
        std::mem::replace(&mut lock(&self.inner).end_known, true)
    }

    /// Registers every sink again. A sink is removed if its registration is refused or its object is gone, because its old number
    /// may belong to another sink now.
    fn register_again(&self, link: &SharedLink, member: MemberId) -> Result<(), Error> {
        let sinks: Vec<_> = {
            let inner = lock(&self.inner);
            let source = |r: &Registered| (r.source.clone(), r.events);
            inner.sinks.iter().map(|(c, r)| (*c, source(r))).collect()
        };
        for (connection, (source, events)) in sinks {
            let source = match source {
                None => Ok(AdviseSource::Session),
                Some(object) => object.come_back(link, member).map(AdviseSource::Object),
            };
            let advise = |source| -> Result<AdviseId, Error> {
                match link.call(Request::Advise { member, source, events }, None)?? {
                    Reply::Advised(advise) => Ok(advise),
                    _ => Err(unexpected()),
                }
            };
            let advised = source.and_then(advise);
            let mut refused = None;
            let mut inner = lock(&self.inner);
            let epoch = inner.epoch;
            match (advised, inner.sinks.get_mut(&connection)) {
                (Ok(advise), Some(registered)) => {
                    (registered.advise, registered.epoch) = (advise, epoch);
                }
                // The registration was cancelled meanwhile.
                (Ok(advise), None) => link.tell(Request::Unadvise { member, advise }, None),
                (Err(error), _) if error.is_disconnected() => return Err(error),
                (Err(_), _) => refused = inner.sinks.remove(&connection),
            }
            drop(inner);
            drop(refused);
        }
        Ok(())
    }

    /// Counts an open unsaved draft. Returns its number.
    pub(crate) fn add_draft(&self) -> u32 {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        lock(&self.inner).drafts.insert(number);
        number
    }

    pub(crate) fn remove_draft(&self, number: u32) {
        lock(&self.inner).drafts.remove(&number);
    }

    pub(crate) fn save(
        &self,
        object: impl Fn() -> Result<ObjectId, Error>,
        key: SubmitKey,
    ) -> Result<EntryId, Error> {
        let reply =
            self.retrying(|_, member| Ok(Request::Save { member, object: object()?, key }))?;
        match reply {
            Reply::Saved(entry) => Ok(entry),
            _ => Err(unexpected()),
        }
    }
}

/// Treats the refusal of a repeated request as success, if this code says that the first attempt was carried out.
pub(crate) fn done_before(error: Error, code: Code) -> Result<(), Error> {
    if error.repeat_says(code) { Ok(()) } else { Err(error) }
}

/// Whether a store that could not keep something may be able to later.
fn may_be_stored_later(error: &Error) -> bool {
    error.is_temporary()
        || error.is_outcome_unknown()
        || error.is_disconnected()
        || error.is_unreachable()
        // With these codes the message may be stored or not. Its key makes a repetition harmless.
        || matches!(error.code(), Code::E_DISK_ERROR | Code::E_CORRUPT_DATA)
}

fn nobody() -> LoggedOn {
    LoggedOn {
        member: MemberId(0),
        session: SessionId(0),
        profile: String::new(),
        shared: false,
        stores: Vec::new(),
        identity: String::new(),
    }
}

/// Reads a whole message, piece by piece.
pub(crate) fn read_whole(ask: impl Fn(u64) -> Result<Reply, Error>) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    loop {
        let Reply::Piece { size, bytes } = ask(whole.len() as u64)? else {
            return Err(unexpected());
        };
        if whole.try_reserve(bytes.0.len()).is_err() {
            let text = format!("there is no memory for {size} bytes; read the message in pieces");
            return Err(Error::from(Fault::new(Code::E_NOT_ENOUGH_MEMORY, text)));
        }
        whole.extend_from_slice(&bytes.0);
        if whole.len() as u64 >= size {
            return Ok(whole);
        }
        if bytes.0.is_empty() {
            return Err(unexpected());
        }
    }
}

/// The entry of a message that was made with this key, whose record the key is.
pub(crate) fn of_key(reply: &Reply, key: SubmitKey) -> Result<EntryId, Error> {
    match reply {
        Reply::Saved(entry) if entry.record == key.0 => Ok(*entry),
        _ => Err(unexpected()),
    }
}

/// The error of a reply of the right kind with impossible contents.
pub(crate) fn unexpected() -> Error {
    does_not_fit("the broker answered with something else than it was asked for").into()
}

/// The cursor of the next page. A cursor that does not advance is an error, because it would be asked for forever.
pub(crate) fn go_on(after: u64, next: Option<u64>) -> Result<Option<u64>, Error> {
    if next.is_none_or(|next| next > after) { Ok(next) } else { Err(unexpected()) }
}
