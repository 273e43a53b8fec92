//! Providers: the three kinds of things a mail session is logged on to, and the ones that Sundown ships.
//!
//! A provider is called from one thread at a time and may block it: nothing else waits for that thread. A transport
//! answers through a [`Reply`], which may come later from a thread of its own. A provider keeps no
//! opinion on *when* it is called; the core decides that, and is told the answer as an event.
//!
//! | kind | trait | ships |
//! |---|---|---|
//! | store | [`StoreProvider`] | [`sqlite`] |
//! | transport | [`TransportProvider`] | [`maildir`], [`smtp`] |
//! | address book | [`AddressBookProvider`] | [`address_book`] |
//!
//! To bring one of your own, implement its trait and enter a constructor into a [`Registry`] under the word that
//! profiles use for `kind`. [`conformance`] checks it, in a test, against what the founding texts ask of a provider.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, OnceLock};

use sundown_core::provider::{
    AddressCall, ProviderAnswer, ProviderError, ProviderSpec, RecipientResult, StoreFacts,
    StoreRead, StoreWrite, Transmission, TransportFacts,
};
use sundown_protocol::Code;

use self::runtime::Runtime;

mod fault;
mod files;

pub mod address_book;
pub mod conformance;
pub mod headers;
pub mod maildir;
pub mod notice;
mod rescue;
pub mod runtime;
pub mod smtp;
pub mod sqlite;

pub use files::FileId;
pub use rescue::RESCUED;

/// What a provider gives back.
pub type Result<T> = std::result::Result<T, ProviderError>;

/// One store on disk (`IMSProvider` and `IMSLogon` in one): messages, the outgoing queue, profile sections.
///
/// There is one for each store on disk, however many sessions use it. Its thread takes whatever writes wait and hands
/// them over together.
pub trait StoreProvider: Send {
    /// Opens the store for one more session; the first call opens the files.
    fn logon(&mut self) -> Result<StoreFacts>;

    /// Applies every write in order, each whole or not at all, and answers each. With [`Sync::Full`] everything that
    /// succeeded is on the disk when it returns; if that fails, every write of the batch answers an error, and so does
    /// every later one: a store whose sync failed is not to be trusted again. What the answer to a write is says
    /// [`StoreWrite::expects`].
    ///
    /// Between the commit and its answers it looks whether its files are still under their names. If they are not, what it has
    /// committed will not be found: the answers are errors whose [scope](sundown_core::provider::Scope) is the store.
    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Vec<Result<ProviderAnswer>>;

    /// Called after the answers to a batch are on their way: for what must be done now and then and nobody waits for.
    /// The next batch does, so it is short.
    fn tidy(&mut self) {}

    /// A reader of its own, for another thread. It sees what was committed, and never waits for a commit.
    fn reader(&self) -> Result<Box<dyn StoreReader>>;

    /// One session less. After the last one the files are closed. An error whose scope is the store says that its files are lost
    /// and that what is in it could not be saved: it stays open, and this is called again.
    fn logoff(&mut self) -> Result<()>;

    /// Its shutdown interface, if it has one (`QueryInterface` for `IMAPIProviderShutdown`). Without it, fast shutdown is
    /// refused to every process that uses the provider, unless the settings say `opt-out`.
    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        None
    }
}

/// Whether a commit must reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Yes, before it returns.
    Full,
    /// No; the next full one covers it.
    None,
}

/// Reads a store beside its writer.
pub trait StoreReader: Send {
    /// Answers one question, as [`StoreRead::expects`] says.
    fn read(&mut self, question: &StoreRead) -> Result<ProviderAnswer>;

    /// Another reader of the same store, for another thread.
    fn another(&self) -> Result<Box<dyn StoreReader>>;

    /// The bytes of a message, as they were handed over.
    fn open(&mut self, record: u128) -> Result<Box<dyn Read + Send + '_>>;
}

/// The stores of a session for a transport (part of `IMAPISupport`). They work whenever a transport is called, also when
/// it shuts down: stores are called after it (SEED-16).
pub trait Support: Send + std::marker::Sync {
    /// A reader of the store with this number, which is one of the session's.
    fn store(&self, uid: u32) -> Result<Box<dyn StoreReader>>;

    /// Saves something of the transport's own in a profile section of that store (`OpenProfileSection`). It is on the disk
    /// when this returns.
    fn save(&self, uid: u32, section: &str, name: &str, value: &str) -> Result<()>;
}

/// Takes messages to where they go (`IXPProvider` and `IXPLogon` in one). One for each session and configured transport.
pub trait TransportProvider: Send {
    /// Gets ready for a session. It need not connect anywhere yet. After a failure it may be called again, and then
    /// begins anew.
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts>;

    /// Does everything short of handing the message over, and may be repeated after a crash without harm. What it
    /// answers as marker is made durable before [`complete`](Self::complete) is called.
    fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>);

    /// Hands a prepared message over. One result for each recipient that prepare did not refuse. Of an answer with others nothing
    /// is believed, and the message is unknown.
    fn complete(&mut self, id: u64, reply: Reply<Vec<RecipientResult>>);

    /// Forgets a prepared message.
    fn cancel(&mut self, id: u64);

    /// After a crash between prepare and the answer to complete: finds out what became of the message, or finishes it. So it is
    /// asked, too, when the object that prepared it was left behind with its session, and may be at work: what is
    /// [`Outcome::NotSent`] then is never handed over by that one, because it is prepared again.
    ///
    /// [`Outcome::NotSent`]: sundown_core::provider::Outcome::NotSent
    fn recover(
        &mut self,
        transmission: Transmission,
        marker: String,
        reply: Reply<Vec<RecipientResult>>,
    );

    /// Really tries what it is for, and says in words what is wrong (`IMAPIStatus::ValidateState`).
    fn validate(&mut self, reply: Reply<()>) {
        reply.send(Ok(()));
    }

    /// Ends the session. An error changes nothing (PLOG-5).
    fn logoff(&mut self) -> Result<()>;

    /// Its shutdown interface, if it has one (`QueryInterface` for `IMAPIProviderShutdown`). Without it, fast shutdown is
    /// refused to every process that uses the provider, unless the settings say `opt-out`.
    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        None
    }

    /// Whether it supports fast shutdown and has nothing of its own to save then, like [`NothingToSave`]. It is asked when
    /// it was just made; if so, none of the three calls is made: who leaves does not wait for its thread.
    fn has_nothing_to_save(&self) -> bool {
        false
    }
}

/// The way back for one answer. It may be used later and from any thread: a transport that waits for the network must not
/// keep its own thread from the calls of a shutdown. Dropped unused, the call has failed.
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
    /// One that hands its answer to this function.
    pub fn new(tell: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Answers.
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

/// A message that a transport is ready to hand over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What [`TransportProvider::recover`] will need: at most 4 KiB.
    pub marker: String,
    /// Recipients that were refused; they are not part of what follows.
    pub refused: Vec<RecipientResult>,
}

/// Knows people (`IABProvider` and `IABLogon` in one). One for each session and configured address book.
pub trait AddressBookProvider: Send {
    /// Gets ready for a session.
    fn logon(&mut self) -> Result<()>;

    /// Answers one call, as [`AddressCall::expects`] says.
    fn call(&mut self, call: &AddressCall) -> Result<ProviderAnswer>;

    /// Ends the session.
    fn logoff(&mut self) -> Result<()>;

    /// Its shutdown interface, if it has one (`QueryInterface` for `IMAPIProviderShutdown`). Without it, fast shutdown is
    /// refused to every process that uses the provider, unless the settings say `opt-out`.
    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        None
    }

    /// Whether it supports fast shutdown and has nothing of its own to save then, like [`NothingToSave`]. It is asked when
    /// it was just made; if so, none of the three calls is made: who leaves does not wait for its thread.
    fn has_nothing_to_save(&self) -> bool {
        false
    }
}

/// Fast shutdown as a provider sees it (`IMAPIProviderShutdown`), exposed by providers that support it.
///
/// It is about one *client process* that leaves, and never about the session: other processes may go on using the same
/// provider, and a session that goes on lingering for its mail does too.
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
    /// Whether it supports fast shutdown; any error is a no. The first answer holds for the life of the provider object,
    /// whatever later ones are (SEED-17). It is asked without consequences.
    fn query_fast_shutdown(&mut self) -> Result<()>;

    /// The process is going to leave, in one way or the other: what is not needed to save its data may stop, for good if
    /// need be. An ordinary life, a logoff or [`do_fast_shutdown`](Self::do_fast_shutdown) may follow (SEED-19). A transport or
    /// address book that is over by it says so as after a Do.
    fn notify_process_shutdown(&mut self, process: LeavingProcess) -> Result<()>;

    /// The process leaves. When this returns, whatever the process handed over is on the disk. Transports and address
    /// books are called before stores, so that they can still use them (SEED-16).
    ///
    /// Other processes go on using the same object (SEED-9). One that shuts down for good answers their calls with
    /// `MAPI_E_NOT_INITIALIZED`, or fails inside: the broker drops it, makes a new object, logs that on as often as this one
    /// was, and makes the call again. What it said to the first query stays. A store must not answer so for what it has
    /// applied, and `complete` is not made again: what became of that message is unknown.
    fn do_fast_shutdown(&mut self, process: LeavingProcess) -> Result<()>;
}

/// A provider with nothing of its own to save when a process leaves: it supports fast shutdown, and that is all.
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

/// The process that leaves, and the session it uses the provider in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeavingProcess {
    /// Its process id.
    pub pid: u32,
    /// The session, as `status` numbers it.
    pub session: u64,
}

/// Makes a provider from its section in a profile. It does no work that can block; `logon` does.
pub type Constructor<P> = Arc<dyn Fn(&ProviderSpec) -> Result<Box<P>> + Send + std::marker::Sync>;

/// The kinds of providers that profiles can name.
#[derive(Clone, Default)]
pub struct Registry {
    /// Stores by kind.
    pub stores: HashMap<String, Constructor<dyn StoreProvider>>,
    /// Transports by kind.
    pub transports: HashMap<String, Constructor<dyn TransportProvider>>,
    /// Address books by kind.
    pub address_books: HashMap<String, Constructor<dyn AddressBookProvider>>,
    /// Where they may keep what lasts as long as the machine runs. The broker says it before it makes the first of them.
    pub runtime: Arc<OnceLock<Runtime>>,
}

impl Registry {
    /// The providers that ship.
    pub fn shipped() -> Self {
        let mut registry = Self::default();
        registry.stores.insert(
            "sqlite".into(),
            Arc::new(|spec| Ok(Box::new(sqlite::SqliteStore::new(spec)) as Box<dyn StoreProvider>)),
        );
        registry.transports.insert(
            "maildir".into(),
            Arc::new(
                |spec| Ok(Box::new(maildir::Maildir::new(spec)) as Box<dyn TransportProvider>),
            ),
        );
        let destinations = smtp::Destinations::default();
        let dots = Arc::new(smtp::Dots::new(Arc::clone(&registry.runtime)));
        registry.transports.insert(
            "smtp".into(),
            Arc::new(move |spec| {
                let smtp = smtp::Smtp::new(spec, &destinations, &dots)?;
                Ok(Box::new(smtp) as Box<dyn TransportProvider>)
            }),
        );
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
