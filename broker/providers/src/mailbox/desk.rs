//! One thread for one mailbox in one store, however many sessions show it.
//!
//! A session's mailbox joins the desk of its Maildir or account when it is first to watch. The thread watches as long as one of them is to watch, and
//! ends when the last has left: what it writes into the store is told to all sessions of that store.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use sundown_core::provider::{MailboxReport, Mirror, ProviderError};
use sundown_protocol::Code;

use super::orders::{Answered, Orders};
use crate::{MailboxSupport, Result, StoreReader, Written};

/// How long a mailbox that failed inside is left alone.
const BEGINS_ANEW: Duration = Duration::from_secs(30);

/// The desks of a broker for mailboxes with such settings.
pub(crate) struct Desks<S>(Mutex<Vec<(S, u32, Weak<Desk>)>>);

impl<S> Default for Desks<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// What the thread of a desk does: it works until its orders end.
pub(crate) trait Work: Clone + PartialEq + Send + 'static {
    /// The name of the thread.
    const THREAD: &'static str;

    /// Works for the mailbox with these settings.
    fn work(self, support: Arc<dyn MailboxSupport>, orders: Arc<Orders>);
}

impl<S: Work> Desks<S> {
    /// The desk of a mailbox in a store. The first to ask has it made.
    pub(crate) fn join(
        &self,
        settings: &S,
        store: u32,
        support: &Arc<dyn MailboxSupport>,
    ) -> Result<Seat> {
        let mut desks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        desks.retain(|(_, _, desk)| desk.strong_count() > 0);
        let is_it = |(of, number, _): &&(S, u32, Weak<Desk>)| of == settings && *number == store;
        let known = desks.iter().find(is_it).and_then(|(_, _, desk)| desk.upgrade());
        if let Some(seat) = known.and_then(|desk| desk.seat(support)) {
            return Ok(seat);
        }
        let desk = Arc::new(Desk::new(store));
        let seat = desk.seat(support).expect("nobody has left it");
        desk.begin(settings)?;
        desks.retain(|(of, number, _)| of != settings || *number != store);
        desks.push((settings.clone(), store, Arc::downgrade(&desk)));
        Ok(seat)
    }
}

/// A mailbox that sessions of one store show.
pub(crate) struct Desk {
    store: u32,
    orders: Arc<Orders>,
    members: Arc<Mutex<Members>>,
}

/// The mailboxes of sessions.
#[derive(Default)]
struct Members {
    all: BTreeMap<u64, Member>,
    made: u64,
    /// What was said last.
    said: Option<Result<()>>,
    reported: Option<MailboxReport>,
    /// The last has left, and the thread ends.
    over: bool,
}

struct Member {
    support: Arc<dyn MailboxSupport>,
    watches: bool,
}

impl Members {
    fn watch(&self) -> bool {
        self.all.values().any(|member| member.watches)
    }
}

/// What the thread uses: the store by any of the mailboxes, and what it says goes to all of them.
struct ByMembers(Arc<Mutex<Members>>);

fn lock(members: &Mutex<Members>) -> MutexGuard<'_, Members> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ByMembers {
    fn any(&self) -> Result<Arc<dyn MailboxSupport>> {
        let members = lock(&self.0);
        let first = members.all.values().next().map(|member| Arc::clone(&member.support));
        first.ok_or_else(|| {
            ProviderError::new(Code::E_NOT_INITIALIZED, "no session is logged on to the mailbox")
        })
    }
}

impl MailboxSupport for ByMembers {
    fn store(&self, uid: u32) -> Result<Box<dyn StoreReader>> {
        self.any()?.store(uid)
    }

    fn mirror(&self, uid: u32, mirror: Mirror) -> Result<()> {
        self.any()?.mirror(uid, mirror)
    }

    fn hand_over(&self, uid: u32, mirror: Mirror) -> Written {
        match self.any() {
            Ok(member) => member.hand_over(uid, mirror),
            Err(error) => Box::new(move || Err(error)),
        }
    }

    fn say(&self, said: Result<()>) {
        let mut members = lock(&self.0);
        for member in members.all.values() {
            member.support.say(said.clone());
        }
        members.said = Some(said);
    }

    fn report(&self, report: MailboxReport) {
        let mut members = lock(&self.0);
        for member in members.all.values() {
            member.support.report(report);
        }
        members.reported = Some(report);
    }
}

impl Desk {
    fn new(store: u32) -> Self {
        Self { store, orders: Arc::default(), members: Arc::default() }
    }

    fn begin<S: Work>(&self, settings: &S) -> Result<()> {
        let support: Arc<dyn MailboxSupport> = Arc::new(ByMembers(Arc::clone(&self.members)));
        let (settings, orders) = (settings.clone(), Arc::clone(&self.orders));
        // A fault inside is not the end of the mailbox: it begins anew, and not at once.
        let work = move || {
            while catch_unwind(AssertUnwindSafe(|| {
                settings.clone().work(Arc::clone(&support), Arc::clone(&orders));
            }))
            .is_err()
            {
                let text =
                    "the mailbox failed inside and begins anew; please report what the log says";
                let error = ProviderError::new(Code::E_CALL_FAILED, text);
                tracing::error!(mailbox = S::THREAD, "{text}");
                support.say(Err(error.clone()));
                orders.begin_anew(BEGINS_ANEW, &error);
            }
        };
        let begun = thread::Builder::new().name(S::THREAD.into()).spawn(work);
        begun.map(drop).map_err(|error| {
            let text = format!("the mailbox's thread cannot be started ({error})");
            ProviderError::new(Code::E_NOT_ENOUGH_MEMORY, text)
        })
    }

    /// A seat, unless the last has left.
    fn seat(self: &Arc<Self>, support: &Arc<dyn MailboxSupport>) -> Option<Seat> {
        let mut members = lock(&self.members);
        if members.over {
            return None;
        }
        members.made += 1;
        let id = members.made;
        members.all.insert(id, Member { support: Arc::clone(support), watches: false });
        Some(Seat { id, desk: Arc::clone(self) })
    }
}

/// A session's mailbox at a desk. It leaves when this is dropped.
pub(crate) struct Seat {
    id: u64,
    desk: Arc<Desk>,
}

impl Seat {
    pub(crate) fn is_of(&self, store: u32) -> bool {
        self.desk.store == store
    }

    /// Has the thread watch, if it does not yet. A mailbox that joins others hears what was said last.
    pub(crate) fn watch(&self) {
        let mut members = lock(&self.desk.members);
        let before = members.watch();
        let (said, reported) = (members.said.clone(), members.reported);
        let Some(member) = members.all.get_mut(&self.id) else { return };
        member.watches = true;
        if !before {
            self.desk.orders.watch(self.desk.store);
        } else if let Some(said) = said {
            member.support.say(said);
            if let Some(report) = reported {
                member.support.report(report);
            }
        }
    }

    /// The thread rests when nobody wants it to watch.
    pub(crate) fn rest(&self) {
        let mut members = lock(&self.desk.members);
        let before = members.watch();
        if let Some(member) = members.all.get_mut(&self.id) {
            member.watches = false;
        }
        let rests = before && !members.watch();
        drop(members);
        if rests {
            self.desk.orders.rest();
        }
    }

    pub(crate) fn fetch(&self, record: u128, reply: Answered) {
        self.desk.orders.fetch(record, reply);
    }

    pub(crate) fn changed(&self, reply: Answered) {
        self.desk.orders.changed(reply);
    }

    pub(crate) fn look(&self, reply: Answered) {
        self.desk.orders.look(reply);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.rest();
        let mut members = lock(&self.desk.members);
        members.all.remove(&self.id);
        members.over = members.all.is_empty();
        let over = members.over;
        drop(members);
        if over {
            self.desk.orders.end();
        }
    }
}
