//! The workers that call providers: one for each transport and address book of a session, two for each store.
//!
//! ```text
//!  core ─call─► lane ([`lane`](crate::lane)) ─► worker ─► provider
//!  core ◄─answered─ answers (channel, and a waker for the loop) ◄┘
//! ```
//!
//! A lane has as many places as the core gives out, so putting a call into it never blocks. A store's writer takes every
//! write that waits and commits them together. A provider that panics fails that call only.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::deliveries::Deliveries;
use crate::lane::{Lane, Refused, Room, Threads, Worker};
use crate::metrics::Metrics;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use mio::Waker;
use sundown_core::provider::{
    FastShutdown, MailboxCall, MailboxReport, Mirror, ProviderAnswer, ProviderCall, ProviderError,
    ProviderSpec, ProviderType, StoreChange, StoreFacts, StoreWrite, Synced, TransportCall,
    Urgency,
};
use sundown_core::{Behalf, CallId, LaneId, LaneSpec};
use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::SettingChange;
use sundown_protocol::{Code, EntryId};
use sundown_providers::{
    AddressBookProvider, LeavingProcess, MailboxProvider, MailboxSupport, NothingToSave, Prepared,
    ProviderShutdown, Registry, Reply, StoreProvider, StoreReader, Support, Sync,
    TransportProvider, Written,
};

/// How long a deferred submission may wait for company.
const DEFERRED: Duration = Duration::from_millis(50);

/// How long a transport that saves something waits for the store.
const SAVED: Duration = Duration::from_secs(60);

/// The most characters that are kept of what a provider says of a failure.
const MOST_WORDS: usize = 2_000;

type Answer = Result<ProviderAnswer, ProviderError>;

/// What a worker says.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(CallId, Answer),
    /// A mailbox has written into a store, by the lane of its writer. The mailbox waits until this was dropped.
    Mirrored(LaneId, Vec<StoreChange>, Taken),
    /// A mailbox says how far it is.
    Reports(LaneId, MailboxReport),
    /// A mailbox says whether it works.
    Said(LaneId, Result<(), ProviderError>),
    /// A call was taken back before its provider had begun it.
    Withdrawn(CallId),
    /// The worker's thread has ended.
    Ended(LaneId),
}

/// One call on its way to a worker.
struct Work {
    from: Whoever,
    behalf: Behalf,
    provider: ProviderCall,
    /// Of a call that may be taken back.
    claim: Option<Arc<Claim>>,
}

impl Work {
    /// Begins the call, unless it was taken back.
    fn begin(&self) -> bool {
        self.claim.as_ref().is_none_or(|claim| claim.take())
    }
}

/// Who had a call first: the worker that begins it, or the core that takes it back.
#[derive(Debug, Default)]
struct Claim(AtomicBool);

impl Claim {
    /// Whether the one that asks is the first.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Whom a worker answers.
enum Whoever {
    Core(CallId),
    /// A transport that saves something, and waits for it on its own thread. A store never waits for a transport.
    Transport(Sender<Answer>),
    /// A mailbox that writes into this store, and waits for it on its own thread until the core has heard of it.
    Mailbox(LaneId, Sender<Answer>),
}

/// Held while the core does not know yet what a mailbox has written. The mailbox goes on when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken(Option<Sender<Answer>>);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(Ok(ProviderAnswer::Done));
        }
    }
}

/// All workers.
pub struct Workers {
    registry: Registry,
    lanes: HashMap<LaneId, Arc<Lane<Work>>>,
    threads: Arc<Threads<Work>>,
    /// Desks of providers that need not be called when a process leaves.
    carefree: HashMap<LaneId, Desk>,
    /// Calls that may be taken back, until they are answered.
    claims: HashMap<CallId, Arc<Claim>>,
    stores: Stores,
    answers: Answers,
    metrics: Option<Arc<Metrics>>,
}

/// The way back to the loop.
#[derive(Clone)]
struct Answers {
    sender: Sender<Outcome>,
    waker: Arc<Waker>,
}

impl Answers {
    fn send(&self, answers: impl IntoIterator<Item = (Whoever, Answer)>) {
        for (whom, answer) in answers {
            // Nobody listens any more when the loop has ended.
            let _ = match whom {
                Whoever::Core(call) => self.sender.send(Outcome::Answered(call, answer)).is_ok(),
                Whoever::Transport(sender) => sender.send(answer).is_ok(),
                Whoever::Mailbox(lane, sender) => match answer {
                    Ok(ProviderAnswer::Mirrored(changes)) => {
                        let taken = Taken(Some(sender));
                        self.sender.send(Outcome::Mirrored(lane, changes, taken)).is_ok()
                    }
                    other => sender.send(other).is_ok(),
                },
            };
        }
        let _ = self.waker.wake();
    }

    /// A call was taken back before it was begun.
    fn withdrawn(&self, work: &Work) {
        if let Whoever::Core(call) = work.from {
            let _ = self.sender.send(Outcome::Withdrawn(call));
            let _ = self.waker.wake();
        }
    }

    fn ended(&self, lane: LaneId) {
        let _ = self.sender.send(Outcome::Ended(lane));
        let _ = self.waker.wake();
    }
}

/// Open stores by their number: where transports read messages, and save what is their own.
#[derive(Clone, Default)]
struct Stores(Arc<Mutex<HashMap<u32, OpenStore>>>);

/// The two ways into an open store.
struct OpenStore {
    reader: Box<dyn StoreReader>,
    /// Its writer's lane, as long as that is open.
    writer: Weak<Lane<Work>>,
    lane: LaneId,
}

impl Stores {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, OpenStore>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Support for Stores {
    fn store(&self, uid: u32) -> Result<Box<dyn StoreReader>, ProviderError> {
        let stores = self.lock();
        stores.get(&uid).ok_or_else(|| not_open(uid))?.reader.another()
    }

    fn save(&self, uid: u32, section: &str, name: &str, value: &str) -> Result<(), ProviderError> {
        let writer = self.lock().get(&uid).and_then(|store| store.writer.upgrade());
        let change = SettingChange::Set(value.to_owned());
        let write =
            StoreWrite::Setting { section: section.to_owned(), name: name.to_owned(), change };
        let (sender, answer) = bounded(1);
        let (from, provider) = (Whoever::Transport(sender), ProviderCall::Write(write));
        let sent = writer.is_some_and(|writer| {
            let work = Work { from, behalf: Behalf::default(), provider, claim: None };
            writer.send(work, Room::Exceed).is_ok()
        });
        match answer.recv_timeout(SAVED) {
            Err(RecvTimeoutError::Timeout) => Err(not_saved_in_time(uid)),
            Ok(Ok(ProviderAnswer::Setting(Some(_)))) if sent => Ok(()),
            Ok(Ok(other)) if sent => Err(not_saved(uid, &other)),
            Ok(Err(error)) if sent => Err(error),
            _ => Err(not_open(uid)),
        }
    }
}

/// What a mailbox uses.
struct OfMailbox {
    stores: Stores,
    answers: Answers,
    lane: LaneId,
}

impl OfMailbox {
    /// Sends a slice to the writer of a store. What it answers comes through the receiver.
    fn send(&self, uid: u32, mirror: Mirror) -> Result<Receiver<Answer>, ProviderError> {
        let open = {
            let stores = self.stores.lock();
            stores.get(&uid).and_then(|store| Some((store.writer.upgrade()?, store.lane)))
        };
        let (writer, lane) = open.ok_or_else(|| not_open(uid))?;
        let (sender, answer) = bounded(1);
        let (from, write) = (Whoever::Mailbox(lane, sender), StoreWrite::Mirror(Box::new(mirror)));
        let provider = ProviderCall::Write(write);
        let work = Work { from, behalf: Behalf::default(), provider, claim: None };
        writer.send(work, Room::Exceed).map_err(|_| not_open(uid))?;
        Ok(answer)
    }
}

impl MailboxSupport for OfMailbox {
    fn store(&self, uid: u32) -> Result<Box<dyn StoreReader>, ProviderError> {
        self.stores.store(uid)
    }

    fn mirror(&self, uid: u32, mirror: Mirror) -> Result<(), ProviderError> {
        self.hand_over(uid, mirror)()
    }

    fn hand_over(&self, uid: u32, mirror: Mirror) -> Written {
        let sent = self.send(uid, mirror);
        // A store that hangs is left behind, and its calls are dropped with it.
        Box::new(move || match sent?.recv() {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(not_open(uid)),
        })
    }

    fn report(&self, report: MailboxReport) {
        let _ = self.answers.sender.send(Outcome::Reports(self.lane, report));
        let _ = self.answers.waker.wake();
    }

    fn say(&self, said: Result<(), ProviderError>) {
        let _ = self.answers.sender.send(Outcome::Said(self.lane, said));
        let _ = self.answers.waker.wake();
    }
}

/// A store does not answer a transport that saves something.
fn not_saved_in_time(uid: u32) -> ProviderError {
    let message = format!("store {uid:08x} gave no answer within {} s", SAVED.as_secs());
    ProviderError::new(Code::E_TIMEOUT, message).effect_unknown()
}

fn not_open(uid: u32) -> ProviderError {
    ProviderError::new(Code::E_NOT_FOUND, format!("store {uid:08x} is not open"))
}

/// A store answered a transport that saves something with what is no answer to that.
fn not_saved(uid: u32, answer: &ProviderAnswer) -> ProviderError {
    let message = format!(
        "store {uid:08x} answered {} to a change of a setting; it is not known whether it was made",
        answer.name()
    );
    ProviderError::new(Code::E_CORRUPT_DATA, message).effect_unknown()
}

impl Workers {
    /// No workers yet. Answers come through the receiver; the waker says when.
    pub(crate) fn new(
        registry: Registry,
        waker: Arc<Waker>,
        metrics: Option<Arc<Metrics>>,
    ) -> (Self, Receiver<Outcome>) {
        let (sender, receiver) = unbounded();
        let answers = Answers { sender, waker };
        let (lanes, carefree, claims) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (stores, threads) = (Stores::default(), Arc::default());
        (Self { registry, lanes, threads, carefree, claims, stores, answers, metrics }, receiver)
    }

    /// Makes a worker. It gets a thread when it is called.
    pub fn open(&mut self, spec: LaneSpec) {
        let LaneSpec { lane, reader, provider_type, spec, .. } = spec;
        let desk = Desk {
            name: spec.name.clone(),
            fast_shutdown: spec.fast_shutdown,
            provider_type,
            answers: self.answers.clone(),
            metrics: self.metrics.clone(),
        };
        match provider_type {
            ProviderType::Store => {
                let reader = reader.expect("a store has a reader's lane");
                self.open_store(desk, (lane, reader), &spec);
            }
            ProviderType::Transport => {
                let made = make(&self.registry.transports, &spec);
                if made.as_ref().is_ok_and(|transport| transport.has_nothing_to_save()) {
                    self.carefree.insert(lane, desk.clone());
                }
                let support: Arc<dyn Support> = Arc::new(self.stores.clone());
                let remake = maker(&self.registry.transports, &spec);
                let deliveries = Deliveries::default();
                self.begin(
                    lane,
                    "transport",
                    &spec,
                    Transport { desk, made, support, remake, deliveries },
                );
            }
            ProviderType::Mailbox => {
                let made = make(&self.registry.mailboxes, &spec);
                if made.as_ref().is_ok_and(|mailbox| mailbox.has_nothing_to_save()) {
                    self.carefree.insert(lane, desk.clone());
                }
                let (stores, answers) = (self.stores.clone(), self.answers.clone());
                let support: Arc<dyn MailboxSupport> =
                    Arc::new(OfMailbox { stores, answers, lane });
                let remake = maker(&self.registry.mailboxes, &spec);
                self.begin(lane, "mailbox", &spec, Mailbox { desk, made, support, remake });
            }
            ProviderType::AddressBook => {
                let made = make(&self.registry.address_books, &spec);
                if made.as_ref().is_ok_and(|book| book.has_nothing_to_save()) {
                    self.carefree.insert(lane, desk.clone());
                }
                let remake = maker(&self.registry.address_books, &spec);
                self.begin(lane, "address-book", &spec, AddressBook { desk, made, remake });
            }
        }
    }

    fn open_store(&mut self, desk: Desk, (lane, reader): (LaneId, LaneId), spec: &ProviderSpec) {
        let made = make(&self.registry.stores, spec);
        let (hand_over, readers) = unbounded();
        self.begin(
            reader,
            "store-read",
            spec,
            Reader { desk: desk.clone(), readers, newest: None },
        );
        let stores = self.stores.clone();
        let remake = maker(&self.registry.stores, spec);
        let answers = self.answers.clone();
        let opened = Lane::new(
            format!("store-write {}", spec.name),
            |way| {
                let access = Access { desk, stores, way, lane, hand_over, open: None };
                Box::new(Writer { access, made, remake })
            },
            &self.threads,
            move || answers.ended(lane),
        );
        self.lanes.insert(lane, opened);
    }

    /// Makes a worker's lane.
    fn begin(
        &mut self,
        lane: LaneId,
        what: &str,
        spec: &ProviderSpec,
        worker: impl Worker<Work> + 'static,
    ) {
        let answers = self.answers.clone();
        let name = format!("{what} {}", spec.name);
        let ended = move || answers.ended(lane);
        self.lanes.insert(lane, Lane::new(name, |_| Box::new(worker), &self.threads, ended));
    }

    /// Hands a call to a worker, or answers it at once: the loop need not be woken for what it does itself.
    pub fn call(
        &mut self,
        lane: LaneId,
        call: CallId,
        behalf: Behalf,
        provider: ProviderCall,
    ) -> Option<Answer> {
        let mut work = Work { from: Whoever::Core(call), behalf, provider, claim: None };
        let mut carefree = Carefree;
        if let Some(desk) = self.carefree.get(&lane).filter(|_| is_shutdown(&work)) {
            let answer = desk.shutdown_call(&work, || Some(&mut carefree));
            return Some(answer.map(|answer| match answer {
                ProviderAnswer::Done => ProviderAnswer::Untouched,
                other => other,
            }));
        }
        let Some(lane) = self.lanes.get(&lane) else { return Some(Err(no_worker())) };
        if is_shutdown(&work) {
            let claim = self.claims.entry(call).or_default();
            work.claim = Some(Arc::clone(claim));
        }
        let refused = lane.send(work, Room::Wait).err()?;
        if let Refused::NoThread(error) = refused {
            tracing::error!(lane = lane.name(), %error, "cannot start a thread for a provider");
        }
        Some(Err(no_worker()))
    }

    /// Takes a call back that its worker has not begun. The worker says so when it comes to it.
    pub fn withdraw(&mut self, call: CallId) {
        if let Some(claim) = self.claims.remove(&call) {
            claim.take();
        }
    }

    /// A call is over.
    pub fn over(&mut self, call: CallId) {
        if !self.claims.is_empty() {
            self.claims.remove(&call);
        }
    }

    /// Lets a worker end when it has done what it was given. One that hangs is left behind.
    pub fn close(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.remove(&lane) {
            lane.close();
        }
        self.carefree.remove(&lane);
    }
}

/// Stands for a provider that need not be called when a process leaves.
struct Carefree;

impl NothingToSave for Carefree {}

/// Makes a provider; without its kind every call of it says so.
fn make<P: ?Sized>(
    kinds: &HashMap<String, sundown_providers::Constructor<P>>,
    spec: &ProviderSpec,
) -> Result<Box<P>, ProviderError> {
    let constructor = kinds.get(&spec.kind).ok_or_else(|| {
        let mut known: Vec<_> = kinds.keys().map(String::as_str).collect();
        known.sort_unstable();
        let message = format!("there is no kind {:?}; there are: {}", spec.kind, known.join(", "));
        ProviderError::new(Code::E_NOT_FOUND, message)
    })?;
    constructor(spec)
}

/// Makes a provider anew.
type Maker<P> = Box<dyn Fn() -> Made<P> + Send>;

/// A provider, or why there is none.
type Made<P> = Result<Box<P>, ProviderError>;

/// Makes the same provider anew, for a worker whose provider says that it is over.
fn maker<P: ?Sized + 'static>(
    kinds: &HashMap<String, sundown_providers::Constructor<P>>,
    spec: &ProviderSpec,
) -> Maker<P> {
    let kinds: HashMap<_, _> = kinds
        .iter()
        .filter(|(kind, _)| **kind == spec.kind)
        .map(|(k, c)| (k.clone(), Arc::clone(c)))
        .collect();
    let spec = spec.clone();
    Box::new(move || make(&kinds, &spec))
}

/// A provider whose thread could not be begun, or has ended.
fn no_worker() -> ProviderError {
    let message =
        "the provider has no thread; the log says why, and a limit of the system may be too low";
    ProviderError::new(Code::E_NOT_ENOUGH_RESOURCES, message)
}

/// Where one worker leaves its answers.
#[derive(Clone)]
struct Desk {
    name: String,
    fast_shutdown: FastShutdown,
    provider_type: ProviderType,
    answers: Answers,
    metrics: Option<Arc<Metrics>>,
}

impl Desk {
    /// Makes one call of a provider: timed, logged, and safe from its panics.
    fn make_call(&self, work: &Work, call: impl FnOnce() -> Answer) -> Answer {
        let began = Instant::now();
        let answer = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(self.panicked()));
        let (answer, took) = (in_few_words(answer), began.elapsed());
        self.log_call(&work.behalf, work.provider.name(), &answer, took);
        answer
    }

    fn panicked(&self) -> ProviderError {
        let message = format!("the provider {} failed inside; its log may say why", self.name);
        ProviderError::new(Code::E_CALL_FAILED, message).effect_unknown()
    }

    fn log_call(&self, behalf: &Behalf, call: &'static str, answer: &Answer, took: Duration) {
        let (result, why) = match answer {
            Ok(_) => ("S_OK", None),
            Err(error) => (error.code.name(), Some(error.message.as_str())),
        };
        if let Some(metrics) = &self.metrics {
            let kind = self.provider_type.name();
            metrics.called(&self.name, (kind, call), result, took);
        }
        if matches!(answer, Ok(ProviderAnswer::Mirrored(_))) {
            // No program has asked for it, and a first sync has thousands of them.
            return;
        }
        tracing::info!(
            event = "provider-call",
            session = behalf.session.map(|s| s.0),
            pid = behalf.pid,
            provider = self.name,
            kind = self.provider_type.name(),
            call,
            result,
            why,
            micros = took.as_micros() as u64,
            correlation = behalf.correlation.map(tracing::field::display),
            entry = behalf.entry.map(tracing::field::display),
        );
    }

    /// One of the three shutdown calls. A provider without the interface is not called, and neither is one that the
    /// administrator treats as such.
    fn shutdown_call<'a>(
        &self,
        work: &Work,
        interface: impl FnOnce() -> Option<&'a mut dyn ProviderShutdown>,
    ) -> Answer {
        if self.fast_shutdown == FastShutdown::Absent {
            return Ok(ProviderAnswer::Unaware);
        }
        let interface = catch_unwind(AssertUnwindSafe(interface)).map_err(|_| self.panicked())?;
        let Some(interface) = interface else { return Ok(ProviderAnswer::Unaware) };
        let process = LeavingProcess {
            pid: work.behalf.pid.unwrap_or(0),
            session: work.behalf.session.map_or(0, |session| session.0),
        };
        self.make_call(work, || {
            let done = match work.provider {
                ProviderCall::QueryFastShutdown if self.fast_shutdown == FastShutdown::Refused => {
                    let message = "the profile says fast_shutdown = \"refused\"";
                    Err(ProviderError::new(Code::E_NO_SUPPORT, message))
                }
                ProviderCall::QueryFastShutdown => interface.query_fast_shutdown(),
                ProviderCall::NotifyProcessShutdown => interface.notify_process_shutdown(process),
                _ => interface.do_fast_shutdown(process),
            };
            done.map(|()| ProviderAnswer::Done)
        })
    }

    /// A transport's answer may come later, from another thread.
    fn call_transport(
        &self,
        made: &mut Result<Box<dyn TransportProvider>, ProviderError>,
        work: Work,
        (support, deliveries): (&Arc<dyn Support>, &Deliveries),
    ) {
        let (slip, provider) = Slip::of(work, self);
        let transport = match made {
            Ok(transport) => transport.as_mut(),
            Err(error) => return slip.hand_in(Err(error.clone())),
        };
        // A provider that panics drops the slip, which answers for it.
        let _ = catch_unwind(AssertUnwindSafe(move || match provider {
            ProviderCall::Logon => {
                let ready = transport.logon(Arc::clone(support));
                slip.hand_in(ready.map(ProviderAnswer::TransportReady));
            }
            ProviderCall::Logoff => slip.hand_in(transport.logoff().map(|()| ProviderAnswer::Done)),
            ProviderCall::Transport(TransportCall::Prepare(transmission)) => {
                let (deliveries, id) = (deliveries.clone(), transmission.id);
                deliveries.begin(&transmission);
                let reply = Reply::new(move |done: Result<Prepared, ProviderError>| {
                    match &done {
                        Ok(prepared) => deliveries.tell(id, slip.place(), &prepared.refused),
                        Err(error) => deliveries.fail(id, slip.place(), error),
                    }
                    let answer =
                        |Prepared { marker, refused }| ProviderAnswer::Prepared { marker, refused };
                    slip.hand_in(done.map(answer));
                });
                transport.prepare(*transmission, reply);
            }
            ProviderCall::Transport(TransportCall::Complete { id }) => {
                let deliveries = deliveries.clone();
                let reply = Reply::new(move |done: Result<Vec<_>, ProviderError>| {
                    if let Ok(results) = &done {
                        deliveries.tell(id, slip.place(), results);
                    }
                    deliveries.end(id);
                    slip.hand_in(done.map(ProviderAnswer::Results));
                });
                transport.complete(id, reply);
            }
            ProviderCall::Transport(TransportCall::Cancel { id }) => {
                transport.cancel(id);
                deliveries.end(id);
                slip.hand_in(Ok(ProviderAnswer::Done));
            }
            ProviderCall::Transport(TransportCall::Recover { transmission, marker }) => {
                let reply = Reply::new(move |done| slip.hand_in(done.map(ProviderAnswer::Results)));
                transport.recover(*transmission, marker, reply);
            }
            ProviderCall::Transport(TransportCall::Validate(asked_by)) => {
                let reply =
                    Reply::new(move |done| slip.hand_in(done.map(|()| ProviderAnswer::Done)));
                transport.validate(asked_by, reply);
            }
            _ => slip.hand_in(Err(misdirected())),
        }));
    }
}

/// Calls a transport.
struct Transport {
    desk: Desk,
    made: Made<dyn TransportProvider>,
    support: Arc<dyn Support>,
    remake: Maker<dyn TransportProvider>,
    deliveries: Deliveries,
}

impl Worker<Work> for Transport {
    fn serve(&mut self, work: Work, _: &Receiver<Work>) {
        let Self { desk, made, support, remake, deliveries } = self;
        if !work.begin() {
            desk.answers.withdrawn(&work);
        } else if is_shutdown(&work) {
            let answer =
                desk.shutdown_call(&work, || made.as_mut().ok().and_then(|t| t.shutdown()));
            desk.answers.send([(work.from, answer)]);
        } else if work.provider == ProviderCall::Renew {
            let answer = desk.make_call(&work, || {
                *made = remake();
                let transport = made.as_mut().map_err(|e| e.clone())?;
                transport.logon(Arc::clone(support)).map(ProviderAnswer::TransportReady)
            });
            desk.answers.send([(work.from, answer)]);
        } else {
            desk.call_transport(made, work, (support, deliveries));
        }
    }
}

/// Calls a mailbox.
struct Mailbox {
    desk: Desk,
    made: Made<dyn MailboxProvider>,
    support: Arc<dyn MailboxSupport>,
    remake: Maker<dyn MailboxProvider>,
}

impl Worker<Work> for Mailbox {
    fn serve(&mut self, work: Work, _: &Receiver<Work>) {
        let Self { desk, made, support, remake } = self;
        if !work.begin() {
            return desk.answers.withdrawn(&work);
        }
        if is_shutdown(&work) {
            let answer =
                desk.shutdown_call(&work, || made.as_mut().ok().and_then(|m| m.shutdown()));
            return desk.answers.send([(work.from, answer)]);
        }
        let (slip, provider) = Slip::of(work, desk);
        if provider == ProviderCall::Renew {
            *made = remake();
        }
        let mailbox = match made {
            Ok(mailbox) => mailbox.as_mut(),
            Err(error) => return slip.hand_in(Err(error.clone())),
        };
        // A provider that panics drops the slip, which answers for it.
        let _ = catch_unwind(AssertUnwindSafe(move || {
            let done = |()| ProviderAnswer::Done;
            match provider {
                ProviderCall::Logon | ProviderCall::Renew => {
                    slip.hand_in(mailbox.logon(Arc::clone(support)).map(done));
                }
                ProviderCall::Logoff => slip.hand_in(mailbox.logoff().map(done)),
                ProviderCall::Mailbox(call) => {
                    let answered = move |found: Option<Synced>| match (call, found) {
                        (MailboxCall::Sync, found) => {
                            ProviderAnswer::Synced(found.unwrap_or_default())
                        }
                        _ => ProviderAnswer::Done,
                    };
                    let reply = Reply::new(move |answer: Result<_, _>| {
                        slip.hand_in(answer.map(answered));
                    });
                    mailbox.call(call, reply);
                }
                _ => slip.hand_in(Err(misdirected())),
            }
        }));
    }
}

/// Calls an address book.
struct AddressBook {
    desk: Desk,
    made: Made<dyn AddressBookProvider>,
    remake: Maker<dyn AddressBookProvider>,
}

impl Worker<Work> for AddressBook {
    fn serve(&mut self, work: Work, _: &Receiver<Work>) {
        let Self { desk, made, remake } = self;
        if !work.begin() {
            return desk.answers.withdrawn(&work);
        }
        let answer = if is_shutdown(&work) {
            desk.shutdown_call(&work, || made.as_mut().ok().and_then(|b| b.shutdown()))
        } else {
            desk.make_call(&work, || {
                if work.provider == ProviderCall::Renew {
                    *made = remake();
                }
                let book = made.as_mut().map_err(|e| e.clone())?;
                call_address_book(book.as_mut(), &work.provider)
            })
        };
        desk.answers.send([(work.from, answer)]);
    }
}

/// A store's reader.
struct Reader {
    desk: Desk,
    readers: Receiver<Box<dyn StoreReader>>,
    newest: Option<Box<dyn StoreReader>>,
}

impl Worker<Work> for Reader {
    fn serve(&mut self, work: Work, _: &Receiver<Work>) {
        // The newest one: after the store was closed and opened again an older one reads nothing.
        if let Some(reader) = self.readers.try_iter().last() {
            self.newest = Some(reader);
        }
        let reader = self.newest.as_mut();
        let answer = self.desk.make_call(&work, || match (&work.provider, reader) {
            (ProviderCall::Read(question), Some(reader)) => reader.read(question),
            (ProviderCall::Read(_), None) => {
                Err(ProviderError::new(Code::E_NOT_INITIALIZED, "the store is not open"))
            }
            _ => Err(misdirected()),
        });
        self.desk.answers.send([(work.from, answer)]);
    }
}

/// An answer as it is logged and shown: what a provider says of a failure is in everybody's status, and that must fit a frame.
fn in_few_words(mut answer: Answer) -> Answer {
    if let Err(error) = &mut answer
        && error.message.len() > MOST_WORDS
    {
        error.message = error.message.chars().take(MOST_WORDS).chain(['…']).collect();
    }
    answer
}

/// A call that was made and not answered yet. Dropped, it says that the provider failed.
struct Slip {
    desk: Desk,
    from: Option<Whoever>,
    behalf: Behalf,
    name: &'static str,
    began: Instant,
}

impl Slip {
    fn of(work: Work, desk: &Desk) -> (Self, ProviderCall) {
        let Work { from, behalf, provider, .. } = work;
        let (desk, name, from) = (desk.clone(), provider.name(), Some(from));
        (Self { desk, from, behalf, name, began: Instant::now() }, provider)
    }

    /// Which provider it is, and which message.
    fn place(&self) -> (&str, Option<EntryId>) {
        (&self.desk.name, self.behalf.entry)
    }

    fn hand_in(mut self, answer: Answer) {
        self.answer(answer);
    }

    fn answer(&mut self, answer: Answer) {
        let Some(from) = self.from.take() else { return };
        let (answer, took) = (in_few_words(answer), self.began.elapsed());
        self.desk.log_call(&self.behalf, self.name, &answer, took);
        self.desk.answers.send([(from, answer)]);
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        if self.from.is_some() {
            self.answer(Err(self.desk.panicked()));
        }
    }
}

fn call_address_book(book: &mut dyn AddressBookProvider, call: &ProviderCall) -> Answer {
    match call {
        ProviderCall::Logon | ProviderCall::Renew => book.logon().map(|()| ProviderAnswer::Done),
        ProviderCall::Logoff => book.logoff().map(|()| ProviderAnswer::Done),
        ProviderCall::Address(call) => book.call(call),
        _ => Err(misdirected()),
    }
}

fn is_shutdown(work: &Work) -> bool {
    matches!(
        work.provider,
        ProviderCall::QueryFastShutdown
            | ProviderCall::NotifyProcessShutdown
            | ProviderCall::DoFastShutdown
    )
}

fn misdirected() -> ProviderError {
    ProviderError::new(Code::E_NO_SUPPORT, "this provider does not take such a call")
}

/// A store's writer: it groups commits.
struct Writer {
    access: Access,
    made: Made<dyn StoreProvider>,
    remake: Maker<dyn StoreProvider>,
}

/// The ways into a store, while it is open.
struct Access {
    desk: Desk,
    stores: Stores,
    /// The writer's own lane.
    way: Weak<Lane<Work>>,
    lane: LaneId,
    hand_over: Sender<Box<dyn StoreReader>>,
    /// The store's number while it is open, and how many have it open.
    open: Option<(u32, usize)>,
}

impl Worker<Work> for Writer {
    fn serve(&mut self, first: Work, calls: &Receiver<Work>) {
        let (mut writes, mut done) = (Vec::new(), Vec::new());
        for work in batch(first, calls) {
            if matches!(work.provider, ProviderCall::Write(_)) {
                writes.push(work);
                continue;
            }
            if !work.begin() {
                self.access.desk.answers.withdrawn(&work);
                continue;
            }
            self.commit(std::mem::take(&mut writes), &mut done);
            if !is_shutdown(&work) {
                // It opens or closes files: what is done need not wait for that.
                self.access.desk.answers.send(done.drain(..));
            }
            if work.provider == ProviderCall::Renew {
                self.made = (self.remake)();
            }
            let answer = self.session_call(&work);
            done.push((work.from, answer));
        }
        self.commit(writes, &mut done);
        self.access.desk.answers.send(done);
        if let Ok(store) = &mut self.made {
            // What it leaves undone is done the next time.
            let _ = catch_unwind(AssertUnwindSafe(|| store.tidy()));
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if let Some((uid, _)) = self.open {
            self.stores.lock().remove(&uid);
        }
    }
}

/// Everything that waits. When it is all deferred, a little time for more to come.
fn batch(first: Work, calls: &Receiver<Work>) -> Vec<Work> {
    let mut most_urgent = urgency(&first);
    let mut batch = vec![first];
    let until = Instant::now() + DEFERRED;
    loop {
        for work in calls.try_iter() {
            most_urgent = most_urgent.max(urgency(&work));
            batch.push(work);
        }
        if most_urgent != Urgency::Deferred {
            return batch;
        }
        match calls.recv_deadline(until) {
            Ok(work) => {
                most_urgent = most_urgent.max(urgency(&work));
                batch.push(work);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return batch,
        }
    }
}

impl Writer {
    fn commit(&mut self, works: Vec<Work>, done: &mut Vec<(Whoever, Answer)>) {
        if works.is_empty() {
            return;
        }
        let sync = match works.iter().map(urgency).max() {
            Some(Urgency::Unsynced) => Sync::None,
            _ => Sync::Full,
        };
        let mut slips = Vec::with_capacity(works.len());
        let mut writes = Vec::with_capacity(works.len());
        for Work { from, behalf, provider, .. } in works {
            let name = provider.name();
            let ProviderCall::Write(write) = provider else { continue };
            slips.push((from, behalf, name));
            writes.push(write);
        }
        let began = Instant::now();
        let answers = match &mut self.made {
            Ok(store) => catch_unwind(AssertUnwindSafe(|| store.commit(writes, sync))),
            Err(error) => Ok(slips.iter().map(|_| Err(error.clone())).collect()),
        };
        let mut answers = answers.unwrap_or_default();
        // A store that panicked, or answered too little, has not committed anything that it may be believed.
        answers.resize_with(slips.len(), || Err(self.access.desk.panicked()));
        let answers: Vec<_> = answers.into_iter().map(in_few_words).collect();
        let took = began.elapsed();
        for ((_, behalf, name), answer) in slips.iter().zip(&answers) {
            self.access.desk.log_call(behalf, name, answer, took);
        }
        done.extend(slips.into_iter().map(|(from, ..)| from).zip(answers));
    }

    fn session_call(&mut self, work: &Work) -> Answer {
        let Self { access, made, .. } = self;
        let desk = access.desk.clone();
        if is_shutdown(work) {
            return desk.shutdown_call(work, || made.as_mut().ok().and_then(|s| s.shutdown()));
        }
        desk.make_call(work, || {
            let store = made.as_mut().map_err(|e| e.clone())?;
            match work.provider {
                ProviderCall::Logon => access.log_on(store.as_mut()),
                ProviderCall::Renew => access.renew(store.as_mut()),
                ProviderCall::Logoff => access.log_off(store.as_mut()),
                _ => Err(misdirected()),
            }
        })
    }
}

impl Access {
    fn log_on(&mut self, store: &mut dyn StoreProvider) -> Answer {
        let facts = store.logon()?;
        let sessions = self.open.map_or(0, |(_, sessions)| sessions);
        if sessions == 0 {
            self.tell_of_queue(&facts);
            let reader = store.reader()?;
            let (writer, lane) = (self.way.clone(), self.lane);
            let open = OpenStore { reader: reader.another()?, writer, lane };
            self.stores.lock().insert(facts.uid, open);
            let _ = self.hand_over.send(reader);
        }
        self.open = Some((facts.uid, sessions + 1));
        Ok(ProviderAnswer::StoreOpened(facts))
    }

    /// Logs a store that was made anew on as often as the one before it was.
    fn renew(&mut self, store: &mut dyn StoreProvider) -> Answer {
        let sessions = self.open.take().map_or(1, |(_, sessions)| sessions.max(1));
        let mut answer = self.log_on(store)?;
        for _ in 1..sessions {
            answer = self.log_on(store)?;
        }
        Ok(answer)
    }

    /// What a broker before this one has left in the queue.
    fn tell_of_queue(&self, facts: &StoreFacts) {
        let waiting = SubmissionState::ALL.iter().zip(facts.queue).filter(|(_, count)| *count > 0);
        let found: Vec<_> =
            waiting.map(|(state, count)| format!("{count} {}", state.name())).collect();
        if !found.is_empty() {
            let (provider, store) = (&self.desk.name, format_args!("{:08x}", facts.uid));
            tracing::info!(provider, %store, "mail in the queue: {}", found.join(", "));
        }
    }

    fn log_off(&mut self, store: &mut dyn StoreProvider) -> Answer {
        if let Some((uid, sessions)) = self.open {
            self.open = (sessions > 1).then_some((uid, sessions - 1));
            if self.open.is_none() {
                self.stores.lock().remove(&uid);
            }
        }
        store.logoff().map(|()| ProviderAnswer::Done)
    }
}

fn urgency(work: &Work) -> Urgency {
    match &work.provider {
        ProviderCall::Write(write) => StoreWrite::urgency(write),
        _ => Urgency::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Poll, Token};
    use sundown_core::provider::AddressCall;
    use sundown_providers::Result;

    struct Book;

    impl AddressBookProvider for Book {
        fn logon(&mut self) -> Result<()> {
            Ok(())
        }

        fn call(&mut self, _: &AddressCall) -> Result<ProviderAnswer> {
            Ok(ProviderAnswer::Done)
        }

        fn logoff(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn workers() -> (Workers, Receiver<Outcome>, Poll) {
        let poll = Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let mut registry = Registry::default();
        registry.address_books.insert("book".into(), Arc::new(|_| Ok(Box::new(Book))));
        let (workers, outcomes) = Workers::new(registry, waker, None);
        (workers, outcomes, poll)
    }

    fn book(lane: LaneId) -> LaneSpec {
        let spec = ProviderSpec::new("book");
        LaneSpec { lane, reader: None, provider_type: ProviderType::AddressBook, spec }
    }

    /// A worker answers what it was called for, and says when its thread has ended.
    #[test]
    fn a_worker_says_that_it_has_ended() {
        let (mut workers, outcomes, _poll) = workers();
        let (lane, call) = (LaneId(1), CallId(7));
        workers.open(book(lane));
        assert!(workers.call(lane, call, Behalf::default(), ProviderCall::Logon).is_none());
        workers.close(lane);
        let said = outcomes.recv().expect("an answer");
        assert!(matches!(said, Outcome::Answered(CallId(7), Ok(_))), "{said:?}");
        let said = outcomes.recv().expect("an end");
        assert!(matches!(said, Outcome::Ended(LaneId(1))), "{said:?}");
    }

    /// A call of a worker that has no thread fails at once.
    #[test]
    fn a_call_without_a_worker_fails() {
        let (mut workers, _outcomes, _poll) = workers();
        let (lane, call) = (LaneId(1), CallId(7));
        let answer = workers.call(lane, call, Behalf::default(), ProviderCall::Logon);
        let error = answer.expect("at once").expect_err("there is no worker");
        assert_eq!(error.code, Code::E_NOT_ENOUGH_RESOURCES);
    }
}
