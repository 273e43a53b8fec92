//! How a mailbox is used, and what only mailboxes owe.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::bounded;
use sundown_core::provider::{
    MailboxCall, MailboxReport, MessageContent, Mirror, ProviderAnswer, ProviderError, StoreWrite,
};
use sundown_protocol::Code;
use sundown_protocol::folder::Flags;
use sundown_protocol::request::Folder;

use crate::{
    MailboxProvider, MailboxSupport, ProviderShutdown, Reply, Result, SLICE, StoreProvider,
    StoreReader, Sync,
};

use super::runner::{Check, Steps, Verdict, broken};
use super::shutdown::{self, Failure, Subject, Used};
use super::{NEIGHBOURS_UNAFFECTED, RESTS_AT_ONCE, SLICES_ARE_SHORT, WORKS, unique};

type Make = Arc<dyn Fn() -> Result<Box<dyn MailboxProvider>> + Send + std::marker::Sync>;

/// The number by which the mailbox knows the store.
const STORE: u32 = 1;

/// What the mailbox sees of a broker: a store.
pub(super) struct Host {
    store: Mutex<Box<dyn StoreProvider>>,
    /// The largest slice that it was given.
    longest: Mutex<usize>,
}

impl Host {
    fn write(&self, write: StoreWrite) -> Result<ProviderAnswer> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = || ProviderError::new(Code::E_CALL_FAILED, "the store gives no answer");
        store.commit(vec![write], Sync::Full).pop().ok_or_else(nothing)?
    }
}

impl MailboxSupport for Host {
    fn report(&self, _: MailboxReport) {}

    fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).reader()
    }

    fn mirror(&self, _: u32, mirror: Mirror) -> Result<()> {
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = (*longest).max(mirror.changes.len());
        drop(longest);
        self.write(StoreWrite::Mirror(Box::new(mirror))).map(drop)
    }

    fn say(&self, _: Result<()>) {}
}

/// A mailbox, and the messages that it was to take.
pub(super) struct Mailbox {
    make: Make,
    host: Arc<Host>,
    made: Option<Box<dyn MailboxProvider>>,
    filed: Vec<(u128, Vec<u8>)>,
}

/// A constructor of subjects.
pub(super) fn subjects(
    make: impl Fn() -> Result<Box<dyn MailboxProvider>> + Send + std::marker::Sync + 'static,
    store: Box<dyn StoreProvider>,
) -> impl Fn() -> Mailbox {
    let make: Make = Arc::new(make);
    let host = Arc::new(Host { store: Mutex::new(store), longest: Mutex::default() });
    move || Mailbox {
        make: Arc::clone(&make),
        host: Arc::clone(&host),
        made: None,
        filed: Vec::new(),
    }
}

/// Those of shutdowns, and a mailbox's own.
pub(super) fn checks() -> Vec<Check<Mailbox>> {
    let mut checks = shutdown::checks();
    checks.extend([
        Check { name: "what rests carries out changes", run: what_rests_carries_out_changes },
        Check { name: "every session has an object", run: every_session_has_an_object },
        Check { name: "slices are short", run: slices_are_short },
    ]);
    checks
}

impl Mailbox {
    fn object(&mut self) -> Result<&mut Box<dyn MailboxProvider>> {
        if self.made.is_none() {
            self.made = Some((self.make)()?);
        }
        let gone = || ProviderError::new(Code::E_NOT_INITIALIZED, "the kit has no object");
        self.made.as_mut().ok_or_else(gone)
    }

    /// Makes a call and waits for its answer.
    fn call(&mut self, call: MailboxCall) -> Used {
        let words = format!("{call:?}");
        let (sender, answer) = bounded(1);
        let reply = Reply::new(move |result| drop(sender.send(result)));
        self.object().map_err(|error| Failure::of(&words, &error))?.call(call, reply);
        let result = answer.recv().map_err(|_| format!("{words} has no answer"))?;
        result.map(drop).map_err(|error| Failure::of(&words, &error))
    }

    /// Has a program put a message into the Inbox.
    fn file(&mut self) -> Used {
        let record = unique();
        let text = format!("Subject: conformance {record:x}\n\nA message.\n").into_bytes();
        let saved = self.host.write(StoreWrite::Save {
            record,
            folder: Folder::INBOX,
            content: MessageContent::Inline(text.clone()),
            flags: Flags::default(),
            recovered: false,
            now: super::now(),
        });
        saved.map_err(|error| Failure::of("saving a message", &error))?;
        self.filed.push((record, text));
        Ok(())
    }
}

impl Subject for Mailbox {
    fn renew(&mut self) -> Result<()> {
        self.made = None;
        self.object().map(drop)
    }

    fn logon(&mut self) -> Result<()> {
        let support: Arc<dyn MailboxSupport> = self.host.clone();
        self.object()?.logon(support)
    }

    fn logoff(&mut self) -> Result<()> {
        self.object()?.logoff()
    }

    fn interface(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.made.as_mut()?.shutdown()
    }

    fn has_nothing_to_save(&self) -> bool {
        self.made.as_ref().is_some_and(|mailbox| mailbox.has_nothing_to_save())
    }

    fn work(&mut self) -> Used {
        self.call(MailboxCall::Watch { store: STORE })?;
        self.call(MailboxCall::Validate)?;
        self.file()?;
        self.call(MailboxCall::Changed)?;
        self.is_kept()
    }

    fn hand_over(&mut self) -> Used {
        self.file()?;
        let (sender, _) = bounded::<()>(1);
        let changed = self.object().map_err(|error| Failure::of("a call", &error))?;
        changed.call(MailboxCall::Changed, Reply::new(move |_| drop(sender)));
        Ok(())
    }

    /// Each message is in the store, whole, wherever the mailbox has put it.
    fn is_kept(&mut self) -> Used {
        let told = |error: ProviderError| Failure::of("reading a message", &error);
        let mut reader = self.host.store(STORE).map_err(told)?;
        for (record, text) in &self.filed {
            let mut bytes = Vec::new();
            let read = reader.open(*record).map_err(told)?.read_to_end(&mut bytes);
            if read.is_err() || bytes != *text {
                return Err(format!("a message has {} other bytes: {read:?}", bytes.len()).into());
            }
        }
        Ok(())
    }
}

/// A program's change is carried out also by a mailbox that does not watch, and Rest and Watch are answered at once.
fn what_rests_carries_out_changes(mailbox: &mut Mailbox, steps: &Steps) -> Verdict {
    steps.note("logon");
    mailbox.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    mailbox.work().or_else(|why| broken(WORKS, why))?;
    for _ in 0..3 {
        steps.note("Rest");
        mailbox.call(MailboxCall::Rest).or_else(|why| broken(RESTS_AT_ONCE, why))?;
        mailbox.file().or_else(|why| broken(WORKS, why))?;
        steps.note("Changed");
        mailbox.call(MailboxCall::Changed).or_else(|why| broken(RESTS_AT_ONCE, why))?;
        mailbox.is_kept().or_else(|why| broken(WORKS, why))?;
        steps.note("Watch");
        let watch = MailboxCall::Watch { store: STORE };
        mailbox.call(watch).or_else(|why| broken(RESTS_AT_ONCE, why))?;
    }
    mailbox.logoff().or_else(|error| broken(WORKS, error.to_string()))
}

/// Two sessions that show one mailbox have an object each. The end of one leaves the other alone.
fn every_session_has_an_object(mailbox: &mut Mailbox, steps: &Steps) -> Verdict {
    steps.note("logon");
    mailbox.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    mailbox.work().or_else(|why| broken(WORKS, why))?;
    steps.note("logon of a second object");
    let mut second = (mailbox.make)().or_else(|error| broken(WORKS, error.to_string()))?;
    let support: Arc<dyn MailboxSupport> = mailbox.host.clone();
    second.logon(support).or_else(|error| broken(NEIGHBOURS_UNAFFECTED, error.to_string()))?;
    mailbox.work().or_else(|why| broken(NEIGHBOURS_UNAFFECTED, why))?;
    steps.note("logoff of the first");
    let _ = mailbox.logoff();
    mailbox.made = Some(second);
    mailbox.work().or_else(|why| broken(NEIGHBOURS_UNAFFECTED, why))
}

fn slices_are_short(mailbox: &mut Mailbox, steps: &Steps) -> Verdict {
    steps.note("logon");
    mailbox.logon().or_else(|error| broken(WORKS, error.to_string()))?;
    for _ in 0..3 * SLICE {
        mailbox.file().or_else(|why| broken(WORKS, why))?;
    }
    mailbox.work().or_else(|why| broken(WORKS, why))?;
    let longest = *mailbox.host.longest.lock().unwrap_or_else(PoisonError::into_inner);
    if longest > SLICE {
        return broken(SLICES_ARE_SHORT, format!("a slice of {longest} changes"));
    }
    Ok(())
}
