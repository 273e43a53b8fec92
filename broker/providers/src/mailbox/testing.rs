//! What a mailbox of a test uses of the broker: a real store, and a broker that dies when it is told to.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use sundown_core::provider::{
    MailboxReport, Mirror, ProviderAnswer, ProviderError, ProviderSpec, StoreChange, StoreWrite,
};
use sundown_protocol::Code;

use crate::sqlite::SqliteStore;
use crate::{MailboxSupport, Result, StoreProvider, StoreReader, Sync, Written};

/// When a mailbox is killed: before a slice is committed, or before it hears of the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

/// Something that happens before a mailbox does what is said.
pub(crate) type Happening = Box<dyn FnMut(&str) + Send>;

/// What happens while a mailbox is at work, each time before it does something.
#[derive(Default)]
pub(crate) struct Meanwhile(pub(crate) Option<Happening>);

impl Meanwhile {
    pub(crate) fn happens(&mut self, before: &str) {
        if let Some(happens) = &mut self.0 {
            happens(before);
        }
    }
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "something" } else { "nothing" })
    }
}

/// The broker, as a mailbox sees it.
pub(crate) struct Broker {
    pub(crate) store: Mutex<SqliteStore>,
    pub(crate) kill: Mutex<Option<(usize, When)>>,
    /// What programs change while the mailbox is at work: it is written just before its next slice.
    pub(crate) crossing: Mutex<Vec<StoreWrite>>,
    /// The same, before the slice that comes behind so many others.
    pub(crate) later: Mutex<Option<(usize, Vec<StoreWrite>)>>,
    /// What happens in front of each slice.
    pub(crate) meanwhile: Mutex<Meanwhile>,
    pub(crate) slices: Mutex<Vec<usize>>,
    told: Sender<StoreChange>,
    said: Sender<Result<()>>,
    own: Weak<Self>,
}

impl Broker {
    pub(crate) fn new(
        spec: &ProviderSpec,
    ) -> (Arc<Self>, Receiver<StoreChange>, Receiver<Result<()>>) {
        let mut store = SqliteStore::new(spec);
        store.logon().expect("it logs on");
        let (told, hears) = channel();
        let (said, hears_said) = channel();
        let (kill, slices, crossing) = (Mutex::new(None), Mutex::default(), Mutex::default());
        let (store, later) = (Mutex::new(store), Mutex::default());
        let meanwhile = Mutex::default();
        let broker = Arc::new_cyclic(|own| {
            let own = Weak::clone(own);
            Self { store, kill, crossing, later, meanwhile, slices, told, said, own }
        });
        (broker, hears, hears_said)
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, SqliteStore> {
        self.store.lock().expect("no panic")
    }

    pub(crate) fn write(&self, write: StoreWrite) -> Result<ProviderAnswer> {
        self.store().commit(vec![write], Sync::None).remove(0)
    }
}

impl MailboxSupport for Broker {
    fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
        self.store().reader()
    }

    fn mirror(&self, _: u32, mirror: Mirror) -> Result<()> {
        let killed = |when| {
            let mut kill = self.kill.lock().expect("no panic");
            let is_now = *kill == Some((0, when));
            if let Some((left, _)) = kill.as_mut().filter(|(_, at)| *at == when) {
                *left = left.saturating_sub(1);
            }
            if is_now { Err(ProviderError::new(Code::E_CALL_FAILED, "killed")) } else { Ok(()) }
        };
        self.meanwhile.lock().expect("no panic").happens(&format!("{:?}", mirror.changes));
        for write in std::mem::take(&mut *self.crossing.lock().expect("no panic")) {
            let _ = self.write(write);
        }
        let now = self.later.lock().expect("no panic").take_if(|(left, _)| {
            let is_now = *left == 0;
            *left = left.saturating_sub(1);
            is_now
        });
        for write in now.into_iter().flat_map(|(_, writes)| writes) {
            self.write(write).expect("it is written");
        }
        killed(When::Before)?;
        self.slices.lock().expect("no panic").push(mirror.changes.len());
        match self.write(StoreWrite::Mirror(Box::new(mirror)))? {
            ProviderAnswer::Mirrored(changes) => {
                for change in changes {
                    let _ = self.told.send(change);
                }
            }
            other => panic!("{other:?}"),
        }
        killed(When::After)
    }

    /// The store is as slow as can be: it commits when that is waited for.
    fn hand_over(&self, uid: u32, mirror: Mirror) -> Written {
        let own = self.own.upgrade().expect("it is used");
        Box::new(move || own.mirror(uid, mirror))
    }

    fn report(&self, _: MailboxReport) {}

    fn say(&self, said: Result<()>) {
        let _ = self.said.send(said);
    }
}
