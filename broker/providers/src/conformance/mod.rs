//! Checks a provider against the founding texts: what fast shutdown asks of it, and what it owes other processes.
//!
//! The texts describe providers that live in the process that leaves. Here a provider lives in the broker and outlives that
//! process: other processes use the same object. A provider that follows the texts to the letter and shuts down at Do must
//! therefore not break its neighbours (SEED-9): it answers them that it is not initialized, and a new object in its place
//! is whole. The kit calls a provider as the broker does, in the orders that the texts
//! allow, and reports each sentence that the provider breaks.
//!
//! A test of a provider calls the function for its type with a constructor, and [`Report::assert_holds`] on the result. Each
//! check makes an object of its own, over the same data. The kit leaves messages, settings and names behind, so the data
//! is made for the test.
//!
//! ```
//! use sundown_core::provider::ProviderSpec;
//! use sundown_providers::{conformance, sqlite::SqliteStore};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let spec = ProviderSpec { path: folder.path().join("store.db"), ..ProviderSpec::new("sqlite") };
//! let report = conformance::store(move || Ok(Box::new(SqliteStore::new(&spec))));
//! report.assert_holds();
//! ```
//!
//! A transport also needs a message that it can hand over, and a next hop that takes it:
//!
//! ```
//! use sundown_core::provider::ProviderSpec;
//! use sundown_providers::{conformance, maildir::Maildir};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let spec = ProviderSpec { path: folder.path().join("mail"), ..ProviderSpec::new("maildir") };
//! let mail = conformance::Mail::to(&["bob@localhost"]);
//! conformance::transport(move || Ok(Box::new(Maildir::new(&spec))), mail).assert_holds();
//! ```
//!
//! | module | what it checks |
//! |---|---|
//! | `shutdown` | Query, Notify and Do of every type of provider |
//! | `store`, `transport`, `mailbox`, `address_book` | how each type is used, and what only that type owes |
//! | `runner` | panics and calls that do not return |

mod address_book;
mod mailbox;
mod runner;
mod shutdown;
mod store;
mod transport;

#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sundown_core::provider::{Expected, Known, ProviderAnswer};

use crate::{AddressBookProvider, MailboxProvider, Result, StoreProvider, TransportProvider};

pub use transport::Mail;

use runner::{Check, Runner};

/// A sentence that a provider must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentence {
    /// Its number in `docs/semantics.md`, such as `SEED-17`, or the method of the trait that says it.
    pub id: &'static str,
    /// The sentence.
    pub text: &'static str,
}

/// Query can be asked at any time and changes nothing.
pub const QUERY_ONLY_ASKS: Sentence = Sentence {
    id: "SEED-12",
    text: "The client can call QueryFastShutdown to see if a Fast Shutdown is supported.",
};
/// The first answer to Query holds.
pub const ANSWER_HOLDS: Sentence = Sentence {
    id: "SEED-17",
    text: "Once a provider returns a success/failure, that state cannot change for the remainder of the provider's \
           lifetime.",
};
/// Notify may come in any state.
pub const NOTIFY_ANY_TIME: Sentence = Sentence {
    id: "SEED-13",
    text: "This may be called regardless whether the provider indicates Fast Shutdown support.",
};
/// Notify stops only what does not serve saving.
pub const NOTIFY_KEEPS_SAVING: Sentence = Sentence {
    id: "SEED-19",
    text: "The provider should shut down everything that is non-essential to saving data to its primary data store.",
};
/// A normal shutdown may follow Notify, also after a Do of another process.
pub const NORMAL_SHUTDOWN: Sentence = Sentence {
    id: "SEED-19",
    text: "The provider can expect MAPI to either perform a normal shutdown or call DoFastShutdown.",
};
/// A transport or address book that shuts down still uses the store.
pub const STORE_IS_OPERATIONAL: Sentence = Sentence {
    id: "SEED-16",
    text: "For example, when a transport provider is shutting down, it can rely on an operational store provider.",
};
/// Calls are repeated.
pub const CALLED_SEVERAL_TIMES: Sentence = Sentence {
    id: "SEED-18",
    text: "MAPI may call a given provider multiple times if there are multiple stores open that are serviced by the \
           same provider.",
};
/// One process's fast shutdown is not another's.
pub const NEIGHBOURS_UNAFFECTED: Sentence = Sentence {
    id: "SEED-9",
    text: "Fast Shutdown will not affect MAPI sessions in other processes, including any shared sessions.",
};
/// How the broker knows that a provider has shut down.
pub const SAYS_IT_IS_OVER: Sentence = Sentence {
    id: "ProviderShutdown::do_fast_shutdown",
    text: "One that shuts down for good answers their calls with MAPI_E_NOT_INITIALIZED, or fails inside.",
};
/// Do loses nothing.
pub const NO_DATA_LOSS: Sentence = Sentence {
    id: "SEED-20",
    text: "The provider should immediately shut down without causing data loss.",
};
/// A provider works before anything is asked of it.
pub const WORKS: Sentence = Sentence {
    id: "conformance",
    text: "The kit checks a provider that works: it logs on, is used and logs off.",
};
/// Logon may be repeated.
pub const LOGON_AGAIN: Sentence = Sentence {
    id: "StoreProvider::logon, TransportProvider::logon, AddressBookProvider::logon",
    text: "After a failure or a logoff it may be called again, and then begins anew.",
};
/// A provider never panics.
pub const NEVER_PANICS: Sentence = Sentence {
    id: "conformance",
    text: "A provider answers a call it cannot carry out with an error.",
};
/// A provider returns.
pub const ALWAYS_ANSWERS: Sentence = Sentence {
    id: "conformance",
    text: "Each call returns, and each Reply is answered, within the deadline.",
};
/// A batch is answered write by write.
pub const EACH_WRITE: Sentence = Sentence {
    id: "StoreProvider::commit",
    text: "Applies every write in order, each whole or not at all, and answers each.",
};
/// An answer is one to its call.
pub const ANSWERS_FIT: Sentence = Sentence {
    id: "provider::Expected",
    text: "Each call has an answer of its own kind, about what it was asked for.",
};
/// A mailbox holds nobody up.
pub const RESTS_AT_ONCE: Sentence = Sentence {
    id: "MailboxProvider::call",
    text: "Changed is answered when what was pending is carried out or cannot be now. Watch and Rest are answered at once.",
};
/// The bound of a slice.
pub const SLICES_ARE_SHORT: Sentence = Sentence {
    id: "MailboxSupport::mirror",
    text: "A mailbox writes slices of at most SLICE changes, so that programs do not wait for it.",
};
/// A store's session count.
pub const LAST_SESSION_CLOSES: Sentence = Sentence {
    id: "StoreProvider::logoff",
    text: "One session less. After the last one the files are closed.",
};
/// What was cancelled is not sent.
pub const CANCEL_FORGETS: Sentence =
    Sentence { id: "TransportProvider::cancel", text: "Forgets a prepared message." };
/// What became of a message can be found out.
pub const RECOVER_FINDS_OUT: Sentence = Sentence {
    id: "TransportProvider::recover",
    text: "After a crash between prepare and the answer to complete: finds out what became of the message, or \
           finishes it.",
};
/// What is queued again is not handed over by the one that had it before.
pub const NOT_SENT_STAYS_SO: Sentence = Sentence {
    id: "TransportProvider::recover",
    text: "What is NotSent is never handed over by the object that prepared it, which may be at work.",
};
/// Each recipient has one result.
pub const ONE_RESULT_EACH: Sentence = Sentence {
    id: "TransportProvider::complete",
    text: "One result for each recipient that prepare did not refuse.",
};
/// The bound of a marker.
pub const MARKER_IS_SHORT: Sentence =
    Sentence { id: "Prepared::marker", text: "What recover will need: at most 4 KiB." };

/// What the kit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The names of the checks that were run, in order.
    pub checks: Vec<&'static str>,
    /// What does not hold, at most one violation for each check.
    pub violations: Vec<Violation>,
}

/// A sentence that the provider breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    /// The sentence.
    pub sentence: Sentence,
    /// What the provider did, after which calls.
    pub found: String,
}

impl Report {
    /// Whether no check found a violation.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// Panics with all violations, if there are any. For the end of a test.
    #[track_caller]
    pub fn assert_holds(&self) {
        assert!(self.holds(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (checks, violations) = (self.checks.len(), self.violations.len());
        writeln!(f, "{violations} of {checks} checks found a violation")?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "{violation}"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, sentence: Sentence { id, text }, found } = self;
        write!(f, "{check}: {found}\n    breaks {id}: \"{text}\"")
    }
}

/// Runs the checks.
#[derive(Debug, Clone, Copy)]
pub struct Kit {
    deadline: Duration,
}

impl Default for Kit {
    /// A check may take a minute.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60) }
    }
}

impl Kit {
    /// How long a check may take. After a check that takes longer no further one is run, because the object may still
    /// hold locks on its data.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline }
    }

    /// Checks a store. The constructor makes an object over the same data each time. The kit has two at once only to see
    /// that the second may be refused.
    pub fn store(
        self,
        make: impl Fn() -> Result<Box<dyn StoreProvider>> + Send + Sync + 'static,
    ) -> Report {
        let new = store::subjects(make);
        self.run(&new, &store::checks())
    }

    /// Checks a transport. The next hop takes each message that the kit hands over.
    pub fn transport(
        self,
        make: impl Fn() -> Result<Box<dyn TransportProvider>> + Send + Sync + 'static,
        mail: Mail,
    ) -> Report {
        let new = transport::subjects(make, mail);
        self.run(&new, &transport::checks())
    }

    /// Checks a mailbox, which gets this store, logged on and empty. The Inbox of the mailbox takes messages.
    pub fn mailbox(
        self,
        make: impl Fn() -> Result<Box<dyn MailboxProvider>> + Send + Sync + 'static,
        store: Box<dyn StoreProvider>,
    ) -> Report {
        let new = mailbox::subjects(make, store);
        self.run(&new, &mailbox::checks())
    }

    /// Checks an address book. One that refuses to add names with `MAPI_E_NO_SUPPORT` or `MAPI_E_NO_ACCESS` is listed only.
    pub fn address_book(
        self,
        make: impl Fn() -> Result<Box<dyn AddressBookProvider>> + Send + Sync + 'static,
    ) -> Report {
        let new = address_book::subjects(make);
        self.run(&new, &address_book::checks())
    }

    fn run<S: shutdown::Subject + 'static>(
        self,
        new: &dyn Fn() -> S,
        checks: &[Check<S>],
    ) -> Report {
        let mut runner = Runner::new(self.deadline);
        for check in checks {
            runner.run(check, new());
        }
        runner.report
    }
}

/// Whether an answer is one to its call. An error is.
fn fits(
    call: &str,
    expected: Expected,
    answer: &Result<ProviderAnswer>,
    known: Known<'_>,
) -> runner::Verdict {
    let Ok(answer) = answer else { return Ok(()) };
    let wrong = expected.check(answer, known).err();
    wrong.map_or(Ok(()), |wrong| runner::broken(ANSWERS_FIT, format!("{call} is {wrong}")))
}

/// A number that no other check has, in this process and those before it.
fn unique() -> u128 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let chance = RandomState::new().hash_one(count);
    u128::from(now()) << 80 | u128::from(count) << 64 | u128::from(chance)
}

/// Wall time in milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// [`Kit::store`] with the usual deadline.
pub fn store(make: impl Fn() -> Result<Box<dyn StoreProvider>> + Send + Sync + 'static) -> Report {
    Kit::default().store(make)
}

/// [`Kit::transport`] with the usual deadline.
pub fn transport(
    make: impl Fn() -> Result<Box<dyn TransportProvider>> + Send + Sync + 'static,
    mail: Mail,
) -> Report {
    Kit::default().transport(make, mail)
}

/// [`Kit::mailbox`] with the usual deadline.
pub fn mailbox(
    make: impl Fn() -> Result<Box<dyn MailboxProvider>> + Send + Sync + 'static,
    store: Box<dyn StoreProvider>,
) -> Report {
    Kit::default().mailbox(make, store)
}

/// [`Kit::address_book`] with the usual deadline.
pub fn address_book(
    make: impl Fn() -> Result<Box<dyn AddressBookProvider>> + Send + Sync + 'static,
) -> Report {
    Kit::default().address_book(make)
}
