//! Providers: the four kinds of services that a mail session logs on to, and the built-in ones.
//!
//! A provider is called from one thread at a time and may block it: no other work waits for that thread. A transport answers
//! through a [`Reply`], possibly later and from a thread of its own. A provider does not decide *when* it is called: the core does,
//! and gets the answer as an event.
//!
//! | kind | trait | ships |
//! |---|---|---|
//! | store | [`StoreProvider`] | [`sqlite`] |
//! | transport | [`TransportProvider`] | [`maildir`], [`smtp`], which speaks LMTP, too, [`pipe`] |
//! | mailbox | [`MailboxProvider`] | [`maildir`], [`imap`] |
//! | address book | [`AddressBookProvider`] | [`address_book`] |
//!
//! To add a provider, implement its trait and enter a constructor into a [`Registry`] under the word that profiles use for `kind`.
//! In a test, [`conformance`] checks it against what the founding texts ask of a provider.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use sundown_core::provider::{
    AddressCall, AskedBy, MailboxCall, MailboxReport, Mirror, Outcome, ProviderAnswer,
    ProviderError, ProviderSpec, RecipientResult, StoreFacts, StoreRead, StoreWrite, Synced,
    Transmission, TransportFacts,
};
use sundown_protocol::Code;

use self::runtime::Runtime;
use self::users::FindUser;

mod fault;
mod files;
mod mailbox;
mod network;

pub mod address_book;
pub mod conformance;
pub mod headers;
pub mod imap;
pub mod maildir;
pub mod notice;
pub mod pipe;
pub mod program;
mod rescue;
pub mod runtime;
pub mod search;
pub mod smtp;
pub mod sqlite;
pub mod users;

pub use files::{FileId, read_small};
pub use rescue::RESCUED;

/// The same result for all these recipients, by their places.
fn results(
    places: impl IntoIterator<Item = usize>,
    outcome: Outcome,
    reply: &str,
) -> Vec<RecipientResult> {
    let one = |recipient| RecipientResult { recipient, outcome, reply: reply.to_owned() };
    places.into_iter().map(one).collect()
}

/// The result of a call to a provider.
pub type Result<T> = std::result::Result<T, ProviderError>;

/// A store on disk (`IMSProvider` and `IMSLogon` in one): messages, the outgoing queue, profile sections.
///
/// There is one object for each store on disk, however many sessions use it. Its thread takes all waiting writes and commits them
/// together.
pub trait StoreProvider: Send {
    /// Opens the store for another session; the first call opens the files.
    fn logon(&mut self) -> Result<StoreFacts>;

    /// Applies every write in order, each whole or not at all, and answers each. With [`Sync::Full`] everything that succeeded is
    /// on the disk when it returns. If the sync fails, every write of the batch and every later write answers an error: a store
    /// whose sync failed must not be trusted again. [`StoreWrite::expects`] says which answer a write has.
    ///
    /// Between the commit and its answers it checks that its files still have their names. If they do not, the commit will not be
    /// found: the answers are errors whose [scope](sundown_core::provider::Scope) is the store.
    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Vec<Result<ProviderAnswer>>;

    /// Does occasional work that no call waits for. Called when the answers to a batch are on their way. The next batch waits for
    /// it, so it is short.
    fn tidy(&mut self) {}

    /// Makes a reader for another thread. It sees what was committed, and never waits for a commit.
    fn reader(&self) -> Result<Box<dyn StoreReader>>;

    /// Ends one session's use of the store. The last one closes the files. An error whose scope is the store means that its files
    /// are lost and their contents could not be saved: the store stays open, and this is called again.
    fn logoff(&mut self) -> Result<()>;

    /// Its shutdown interface, if it has one (`QueryInterface` for `IMAPIProviderShutdown`). Without it, fast shutdown is refused
    /// to every process that uses the provider, unless the settings say `opt-out`.
    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        None
    }
}

/// Whether a commit must reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Yes, before the commit returns.
    Full,
    /// No; the next full sync covers it.
    None,
}

/// Reads a store while its writer works.
pub trait StoreReader: Send {
    /// Answers a read, as [`StoreRead::expects`] says.
    fn read(&mut self, question: &StoreRead) -> Result<ProviderAnswer>;

    /// Another reader of the same store, for another thread.
    fn another(&self) -> Result<Box<dyn StoreReader>>;

    /// The bytes of a message, as they were submitted.
    fn open(&mut self, record: u128) -> Result<Box<dyn Read + Send + '_>>;
}

/// The stores of a session, for a transport (part of `IMAPISupport`). They work whenever a transport is called, also during its
/// shutdown: stores are shut down after it (SEED-16).
pub trait Support: Send + std::marker::Sync {
    /// A reader of the store with this number, which is one of the session's.
    fn store(&self, uid: u32) -> Result<Box<dyn StoreReader>>;

    /// Saves data of the transport in a profile section of that store (`OpenProfileSection`). The data is on the disk when this
    /// returns.
    fn save(&self, uid: u32, section: &str, name: &str, value: &str) -> Result<()>;
}

/// Delivers messages (`IXPProvider` and `IXPLogon` in one). There is one object for each session and configured transport.
pub trait TransportProvider: Send {
    /// Prepares for a session. It need not connect yet. After a failure it may be called again, and then begins anew.
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts>;

    /// Does everything except handing the message over. An error that is [of the server](ProviderError::of_server) as a whole is no try of
    /// the message: the broker hands over none until [`validate`](Self::validate) finds out that the server works. It may be repeated after a crash without harm. The marker in its answer is
    /// made durable before [`complete`](Self::complete) is called.
    fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>);

    /// Hands a prepared message over. The answer has one result for each recipient that prepare did not refuse. An answer with
    /// other recipients is ignored as a whole, and the outcome of the message is unknown.
    fn complete(&mut self, id: u64, reply: Reply<Vec<RecipientResult>>);

    /// Drops a prepared message.
    fn cancel(&mut self, id: u64);

    /// Finds out the outcome of a message, or finishes it, after a crash between prepare and the answer to complete. It is also
    /// called if the object that prepared the message was left behind with its session, and may still be working. If the answer is
    /// [`Outcome::NotSent`] then, that object must never hand the message over, because it is prepared again.
    ///
    /// [`Outcome::NotSent`]: sundown_core::provider::Outcome::NotSent
    fn recover(
        &mut self,
        transmission: Transmission,
        marker: String,
        reply: Reply<Vec<RecipientResult>>,
    );

    /// Really tries to work, and says in words what is wrong (`IMAPIStatus::ValidateState`). If its server as a whole is what does not
    /// work, the error [says so](ProviderError::of_server). A server that is left alone for a while is not tried for the broker, and is
    /// tried for a user.
    fn validate(&mut self, asked_by: AskedBy, reply: Reply<()>) {
        let _ = asked_by;
        reply.send(Ok(()));
    }

    /// Ends the session. An error changes nothing (PLOG-5).
    fn logoff(&mut self) -> Result<()>;

    /// Its shutdown interface, if it has one (`QueryInterface` for `IMAPIProviderShutdown`). Without it, fast shutdown is refused
    /// to every process that uses the provider, unless the settings say `opt-out`.
    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        None
    }

    /// Whether it supports fast shutdown and then has nothing of its own to save, like [`NothingToSave`]. It is called on a new
    /// object. If true, none of the three calls of a fast shutdown is made, and a leaving process does not wait for its thread.
    fn has_nothing_to_save(&self) -> bool {
        false
    }
}

/// The channel for one answer. It may be used later and from any thread: a transport that waits for the network must not keep its
/// own thread from the calls of a shutdown. If it is dropped unused, the call has failed.
///
/// ```
/// use sundown_providers::Reply;
///
/// let (sender, answer) = std::sync::mpsc::channel();
/// let reply = Reply::new(move |result| sender.send(result).unwrap());
/// std::thread::spawn(move || reply.send(Ok(7)));
/// assert_eq!(answer.recv().unwrap(), Ok(7));
/// ```
pub struct Reply<T>(Option<Tell<T>>);

type Tell<T> = Box<dyn FnOnce(Result<T>) + Send>;

impl<T> Reply<T> {
    /// Makes a reply that passes its answer to this function.
    pub fn new(tell: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Sends the answer.
    pub fn send(mut self, answer: Result<T>) {
        if let Some(tell) = self.0.take() {
            tell(answer);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            let text = "the provider failed inside; its log may say why";
            tell(Err(ProviderError::new(Code::E_CALL_FAILED, text)));
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A message that is ready to be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What [`TransportProvider::recover`] needs: at most 4 KiB.
    pub marker: String,
    /// Recipients that were refused; complete has no results for them.
    pub refused: Vec<RecipientResult>,
}

/// What a mailbox uses of the broker. All of it may be called from any thread.
pub trait MailboxSupport: Send + std::marker::Sync {
    /// A reader of the session's store with this number.
    fn store(&self, uid: u32) -> Result<Box<dyn StoreReader>>;

    /// Writes into that store what the mailbox has seen or done, and waits until everybody whom it concerns was told. A mailbox
    /// writes slices of at most [`SLICE`] changes, so that programs do not wait for it.
    fn mirror(&self, uid: u32, mirror: Mirror) -> Result<()>;

    /// The same, without waiting: the mailbox goes on while the store commits. What is returned waits.
    fn hand_over(&self, uid: u32, mirror: Mirror) -> Written {
        let written = self.mirror(uid, mirror);
        Box::new(move || written)
    }

    /// Says that the mailbox works, or why it does not. It is shown in `status`, and logged once.
    fn say(&self, said: Result<()>);

    /// Says how far the mailbox is. It is shown by `sundown mailbox`.
    fn report(&self, report: MailboxReport);
}

/// Waits until what a mailbox has handed over is committed, and everybody whom it concerns was told.
pub type Written = Box<dyn FnOnce() -> Result<()> + Send>;

/// The most changes of one [`Mirror`]. New marks of a message cost the store little: four messages' marks count as one change.
pub const SLICE: usize = 32;

/// Receives messages: keeps a store and an account or a directory alike. The founding texts count this among the work of a transport.
/// There is one object for each session and configured mailbox.
///
/// Its calls are answered at once: the work is done on a thread of its own, so that a mailbox that waits for a network or a disk holds
/// up neither a shutdown nor a logoff.
pub trait MailboxProvider: Send {
    /// Prepares for a session. It does not watch yet.
    fn logon(&mut self, support: Arc<dyn MailboxSupport>) -> Result<()>;

    /// Makes a call. [`MailboxCall::Changed`] is answered when what was pending is carried out or cannot be now, and
    /// [`MailboxCall::Validate`] when everything was looked at, both possibly later. So are [`MailboxCall::Sync`], with what was found, and
    /// [`MailboxCall::Fetch`], when the store has the bytes. The others are answered at once, with nothing.
    fn call(&mut self, call: MailboxCall, reply: Reply<Option<Synced>>);

    /// Ends the session. What is pending stays in the store. An error changes nothing (PLOG-5).
    fn logoff(&mut self) -> Result<()>;

    /// Its shutdown interface, if it has one (`QueryInterface` for `IMAPIProviderShutdown`). Without it, fast shutdown is refused
    /// to every process that uses the provider, unless the settings say `opt-out`.
    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        None
    }

    /// Whether it supports fast shutdown and then has nothing of its own to save, like [`NothingToSave`]. It is called on a new
    /// object. If true, none of the three calls of a fast shutdown is made: [`MailboxCall::Rest`] tells the mailbox when the last
    /// process of its session has given notice or left.
    fn has_nothing_to_save(&self) -> bool {
        false
    }
}

/// Resolves people and lists (`IABProvider` and `IABLogon` in one). There is one object for each session and configured address
/// book.
pub trait AddressBookProvider: Send {
    /// Prepares for a session.
    fn logon(&mut self) -> Result<()>;

    /// Answers a call, as [`AddressCall::expects`] says.
    fn call(&mut self, call: &AddressCall) -> Result<ProviderAnswer>;

    /// Ends the session.
    fn logoff(&mut self) -> Result<()>;

    /// Its shutdown interface, if it has one (`QueryInterface` for `IMAPIProviderShutdown`). Without it, fast shutdown is refused
    /// to every process that uses the provider, unless the settings say `opt-out`.
    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        None
    }

    /// Whether it supports fast shutdown and then has nothing of its own to save, like [`NothingToSave`]. It is called on a new
    /// object. If true, none of the three calls of a fast shutdown is made, and a leaving process does not wait for its thread.
    fn has_nothing_to_save(&self) -> bool {
        false
    }
}

/// The fast shutdown interface of a provider (`IMAPIProviderShutdown`), exposed by providers that support it.
///
/// Its calls are about one *client process* that leaves, and never about the session: other processes may continue to use the same
/// provider, and so does a session that lingers for its mail.
///
/// ```
/// use sundown_providers::{LeavingProcess, ProviderShutdown, Result};
///
/// /// A transport with nothing of its own to save.
/// struct Forwarder {
///     checks_for_mail: bool,
/// }
///
/// impl ProviderShutdown for Forwarder {
///     fn query_fast_shutdown(&mut self) -> Result<()> {
///         Ok(())
///     }
///
///     fn notify_process_shutdown(&mut self, _process: LeavingProcess) -> Result<()> {
///         self.checks_for_mail = false; // nothing that is not needed to save data
///         Ok(())
///     }
///
///     fn do_fast_shutdown(&mut self, _process: LeavingProcess) -> Result<()> {
///         Ok(()) // everything it was handed is in its store
///     }
/// }
/// ```
pub trait ProviderShutdown {
    /// Whether the provider supports fast shutdown; any error means no. The first answer holds for the life of the provider object,
    /// whatever later answers are (SEED-17). The call has no effect.
    fn query_fast_shutdown(&mut self) -> Result<()>;

    /// The process is going to leave, in one way or another. Work that is not needed to save its data may stop, for good if
    /// necessary. Ordinary use, a logoff or [`do_fast_shutdown`](Self::do_fast_shutdown) may follow (SEED-19). A transport or
    /// address book that stops for good answers later calls as after a Do.
    fn notify_process_shutdown(&mut self, process: LeavingProcess) -> Result<()>;

    /// The process leaves. When this returns, everything that the process submitted is on the disk. Transports and address books
    /// are called before stores, so that they can still use them (SEED-16).
    ///
    /// Other processes continue to use the same object (SEED-9). An object that shuts down for good answers their calls with
    /// `MAPI_E_NOT_INITIALIZED`, or fails inside: the broker drops it, makes a new object, logs that on as often as the old one
    /// was, and repeats the call. The first answer to the query stays valid. A store must not answer so for a write that it has
    /// applied, and `complete` is not repeated: the outcome of that message is unknown.
    fn do_fast_shutdown(&mut self, process: LeavingProcess) -> Result<()>;
}

/// A provider with nothing of its own to save when a process leaves. It supports fast shutdown without doing anything.
pub trait NothingToSave {}

impl<T: NothingToSave> ProviderShutdown for T {
    fn query_fast_shutdown(&mut self) -> Result<()> {
        Ok(())
    }

    fn notify_process_shutdown(&mut self, _process: LeavingProcess) -> Result<()> {
        Ok(())
    }

    fn do_fast_shutdown(&mut self, _process: LeavingProcess) -> Result<()> {
        Ok(())
    }
}

/// The leaving process, and the session in which it uses the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeavingProcess {
    /// The id of the process.
    pub pid: u32,
    /// The session, as `status` numbers it.
    pub session: u64,
}

/// Makes a provider from its section in a profile. It does nothing that can block; `logon` does.
pub type Constructor<P> = Arc<dyn Fn(&ProviderSpec) -> Result<Box<P>> + Send + std::marker::Sync>;

/// The kinds of providers that profiles can name.
#[derive(Clone, Default)]
pub struct Registry {
    /// Stores by kind.
    pub stores: HashMap<String, Constructor<dyn StoreProvider>>,
    /// Transports by kind.
    pub transports: HashMap<String, Constructor<dyn TransportProvider>>,
    /// Mailboxes by kind.
    pub mailboxes: HashMap<String, Constructor<dyn MailboxProvider>>,
    /// Address books by kind.
    pub address_books: HashMap<String, Constructor<dyn AddressBookProvider>>,
    /// Where providers may keep what lasts as long as the machine runs. The broker sets it before it makes the first provider.
    pub runtime: Arc<OnceLock<Runtime>>,
    /// Asks the system for a user. The broker sets it before it makes the first provider.
    pub users: Arc<OnceLock<FindUser>>,
    /// The broker's data directory, for what a provider keeps over restarts that belongs to no session. The broker sets it before it
    /// makes the first provider.
    pub data: Arc<OnceLock<PathBuf>>,
}

impl Registry {
    /// The built-in providers.
    pub fn shipped() -> Self {
        let mut registry = Self::default();
        registry.stores.insert(
            "sqlite".into(),
            Arc::new(|spec| Ok(Box::new(sqlite::SqliteStore::new(spec)) as Box<dyn StoreProvider>)),
        );
        let users = Arc::clone(&registry.users);
        registry
            .transports
            .insert("maildir".into(), Arc::new(move |spec| Ok(maildir_of(spec, &users))));
        let destinations = smtp::Destinations::new(Arc::clone(&registry.data));
        let dots = Arc::new(smtp::Dots::new(Arc::clone(&registry.runtime)));
        let common = pipe::Common {
            users: Arc::clone(&registry.users),
            data: Arc::clone(&registry.data),
            dots: Arc::clone(&dots),
            ..pipe::Common::default()
        };
        let pipe: Constructor<dyn TransportProvider> = Arc::new(move |spec| {
            let pipe = pipe::Pipe::new(spec, &common)?;
            Ok(Box::new(pipe) as Box<dyn TransportProvider>)
        });
        let smtp: Constructor<dyn TransportProvider> = Arc::new(move |spec| {
            let smtp = smtp::Smtp::new(spec, &destinations, &dots)?;
            Ok(Box::new(smtp) as Box<dyn TransportProvider>)
        });
        let desks = Arc::default();
        let mailbox: Constructor<dyn MailboxProvider> = Arc::new(move |spec| {
            let mailbox = maildir::MaildirMailbox::new(spec, &desks)?;
            Ok(Box::new(mailbox) as Box<dyn MailboxProvider>)
        });
        registry.mailboxes.insert("maildir".into(), mailbox);
        let desks = Arc::default();
        let account: Constructor<dyn MailboxProvider> = Arc::new(move |spec| {
            let account = imap::ImapMailbox::new(spec, &desks)?;
            Ok(Box::new(account) as Box<dyn MailboxProvider>)
        });
        registry.mailboxes.insert("imap".into(), account);
        registry.transports.insert("smtp".into(), Arc::clone(&smtp));
        registry.transports.insert("lmtp".into(), smtp);
        registry.transports.insert("pipe".into(), pipe);
        registry.address_books.insert(
            "sqlite".into(),
            Arc::new(|spec| {
                Ok(Box::new(address_book::SqliteAddressBook::new(spec))
                    as Box<dyn AddressBookProvider>)
            }),
        );
        registry
    }
}

/// The Maildir of a section, or the Maildirs of users.
fn maildir_of(spec: &ProviderSpec, users: &Arc<OnceLock<FindUser>>) -> Box<dyn TransportProvider> {
    if maildir::UserMaildirs::is_meant(spec) {
        return Box::new(maildir::UserMaildirs::new(spec, users));
    }
    Box::new(maildir::Maildir::new(spec))
}
