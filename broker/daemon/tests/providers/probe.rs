//! Probing providers: one of each type, which does in each of the three shutdown calls what a test tells it, and a log of
//! all calls with their beginnings and ends.
//!
//! A test makes [`Probes`], plans what each provider does by the name that its section in the profile has, and gives
//! their registry to a broker. A provider without a plan answers. Nothing sleeps to wait for something: a test waits until a call
//! was noted, and a provider that hangs does so at a [`Gate`] until the test, or the end of its broker, opens it.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sundown_core::provider::{
    AddressCall, MailboxCall, MessageFacts, Mirror, MirrorChange, Outcome, ProviderAnswer,
    ProviderError, ProviderSpec, RecipientResult, Spot, StoreFacts, StoreWrite, Synced,
    Transmission, TransportFacts,
};
use sundown_daemon::Registry;
use sundown_protocol::Code;
use sundown_protocol::folder::{Marks, Role};
use sundown_providers::sqlite::SqliteStore;
use sundown_providers::{
    AddressBookProvider, LeavingProcess, MailboxProvider, MailboxSupport, Prepared,
    ProviderShutdown, Reply, Result, StoreProvider, StoreReader, Support, Sync, TransportProvider,
};

/// How long anything may take. A test that passes does not wait for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// One of the three shutdown calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Query,
    Notify,
    Do,
}

impl Call {
    /// In the order in which a program makes them.
    pub(crate) const ALL: [Self; 3] = [Self::Query, Self::Notify, Self::Do];

    /// The word in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Notify => "notify",
            Self::Do => "do",
        }
    }
}

/// What a provider does in a call.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// It succeeds.
    Answers,
    /// It succeeds after this time.
    Takes(Duration),
    /// It fails with this code.
    Refuses(Code),
    /// It panics.
    Panics,
    /// It does not return before the gate is open; then it succeeds.
    Hangs(Gate),
    /// It hangs until the gate is open, and does the rest then.
    Waits(Gate, Box<Act>),
    /// It succeeds, and is over: every later call but the three fails.
    IsOver,
}

/// Whether a provider has the shutdown interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface {
    There,
    Absent,
    /// It panics when it is asked for the interface.
    Panics,
    /// It has nothing to save, and is not asked.
    NothingToSave,
}

/// What the providers of one name do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    interface: Interface,
    acts: HashMap<Call, Vec<Act>>,
    /// Whether a transport reads its last message and saves a setting when it is told to shut down.
    has_last_words: bool,
    /// Whether a store answers what it has submitted or set with something else.
    lies: bool,
    /// New mail that a mailbox finds when it begins to watch: who each message is from, and its subject.
    news: Vec<(String, String)>,
    /// What is wrong with a mailbox, until the gate is open.
    ails: Option<(Gate, &'static str)>,
}

impl Default for Plan {
    /// It has the interface, and succeeds.
    fn default() -> Self {
        let (interface, acts) = (Interface::There, HashMap::new());
        let (has_last_words, lies, news, ails) = (false, false, Vec::new(), None);
        Self { interface, acts, has_last_words, lies, news, ails }
    }
}

impl Plan {
    /// With this interface.
    pub(crate) fn with(interface: Interface) -> Self {
        Self { interface, ..Self::default() }
    }

    /// What each of its objects does in this call: the first time, the second, and so on. The last act repeats.
    pub(crate) fn on(mut self, call: Call, acts: impl IntoIterator<Item = Act>) -> Self {
        self.acts.insert(call, acts.into_iter().collect());
        self
    }

    /// A transport that uses its stores while it shuts down.
    pub(crate) fn with_last_words(mut self) -> Self {
        self.has_last_words = true;
        self
    }

    /// A store that answers what it has submitted or set with something else.
    pub(crate) fn that_lies(mut self) -> Self {
        self.lies = true;
        self
    }

    /// A mailbox with new mail of this sender.
    pub(crate) fn with_news(mut self, from: &str, subject: &str) -> Self {
        self.news.push((from.to_owned(), subject.to_owned()));
        self
    }

    /// A mailbox that does not work before the gate is open.
    pub(crate) fn that_ails(mut self, until: &Gate, why: &'static str) -> Self {
        self.ails = Some((until.clone(), why));
        self
    }

    fn act(&self, call: Call, times: usize) -> Act {
        let acts = self.acts.get(&call).map_or(&[][..], Vec::as_slice);
        acts.get(times).or(acts.last()).cloned().unwrap_or(Act::Answers)
    }
}

/// What was noted in a log, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.lock().push(what.into());
        self.0.1.notify_all();
    }

    /// All lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// How often a line was noted.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.lock().iter().filter(|line| *line == what).count()
    }

    /// Waits until a line was noted so often.
    pub(crate) fn until_times(&self, what: &str, times: usize) {
        let is_missing =
            |lines: &mut Vec<String>| lines.iter().filter(|line| *line == what).count() < times;
        let waited = self.0.1.wait_timeout_while(self.lock(), DEADLINE, is_missing);
        let (lines, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "{what:?} was not noted {times} times: {lines:?}");
    }

    /// Waits until a line was noted.
    pub(crate) fn until(&self, what: &str) {
        self.until_times(what, 1);
    }
}

/// Where a provider hangs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets through whoever waits, and all who come later.
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self) {
        let is_open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(is_open, |is_open| !*is_open));
    }
}

/// Plans, the log, and the gates at which something may hang.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probes {
    /// What the providers were called.
    pub(crate) log: Log,
    plans: Arc<Mutex<HashMap<String, Plan>>>,
    gates: Arc<Mutex<Vec<Gate>>>,
}

impl Probes {
    /// Probes of which the provider with this name does as planned.
    pub(crate) fn of(name: &str, plan: Plan) -> Self {
        Self::default().and(name, plan)
    }

    /// Plans another one.
    pub(crate) fn and(self, name: &str, plan: Plan) -> Self {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), plan);
        self
    }

    /// A gate that is opened at the end of the broker at the latest.
    pub(crate) fn gate(&self) -> Gate {
        let gate = Gate::default();
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).push(gate.clone());
        gate
    }

    /// Opens all gates.
    pub(crate) fn open_gates(&self) {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Gate::open);
    }

    /// Makes the kind `probe` of each type.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        let probes = self.clone();
        registry.stores.insert(
            "probe".into(),
            Arc::new(move |spec: &ProviderSpec| {
                let (probe, inner) = (probes.probe(spec), SqliteStore::new(spec));
                Ok(Box::new(ProbeStore { probe, inner }) as Box<dyn StoreProvider>)
            }),
        );
        let probes = self.clone();
        registry.transports.insert(
            "probe".into(),
            Arc::new(move |spec: &ProviderSpec| {
                let probe = probes.probe(spec);
                let made = ProbeTransport { probe, support: None, last: None };
                Ok(Box::new(made) as Box<dyn TransportProvider>)
            }),
        );
        let probes = self.clone();
        registry.mailboxes.insert(
            "probe".into(),
            Arc::new(move |spec: &ProviderSpec| {
                let (probe, path) = (probes.probe(spec), spec.path.clone());
                Ok(Box::new(ProbeMailbox { probe, path, support: None })
                    as Box<dyn MailboxProvider>)
            }),
        );
        let probes = self.clone();
        registry.address_books.insert(
            "probe".into(),
            Arc::new(move |spec: &ProviderSpec| {
                let made = ProbeBook(probes.probe(spec));
                Ok(Box::new(made) as Box<dyn AddressBookProvider>)
            }),
        );
        registry
    }

    fn probe(&self, spec: &ProviderSpec) -> Probe {
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plans.get(&spec.name).cloned().unwrap_or_default();
        let (name, log) = (spec.name.clone(), self.log.clone());
        Probe { name, log, plan, calls: HashMap::new(), is_over: false }
    }
}

/// The part of a provider that the three types share.
struct Probe {
    name: String,
    log: Log,
    plan: Plan,
    /// How often it was called.
    calls: HashMap<Call, usize>,
    is_over: bool,
}

impl Probe {
    fn note(&self, what: &str) {
        self.log.note(format!("{} {what}", self.name));
    }

    fn log_on(&self) -> Result<()> {
        self.note("logon");
        self.works()
    }

    fn works(&self) -> Result<()> {
        let text = format!("{} has shut down", self.name);
        if self.is_over { Err(ProviderError::new(Code::E_NOT_INITIALIZED, text)) } else { Ok(()) }
    }

    /// Whether it has the interface.
    fn has_interface(&self) -> bool {
        assert!(self.plan.interface != Interface::Panics, "it fails inside");
        self.plan.interface != Interface::Absent
    }

    /// Does what is planned, and notes its beginning and its end.
    fn act(&mut self, call: Call) -> Result<()> {
        let times = self.calls.entry(call).or_default();
        let act = self.plan.act(call, *times);
        *times += 1;
        self.note(call.name());
        let end =
            End { log: self.log.clone(), line: format!("{} {} ends", self.name, call.name()) };
        let answer = self.perform(act);
        drop(end);
        answer
    }

    fn perform(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Answers => {}
            // Nothing waits for its end: it is late, or it is not.
            Act::Takes(time) => std::thread::sleep(time),
            Act::Refuses(code) => {
                return Err(ProviderError::new(code, format!("{} refuses", self.name)));
            }
            Act::Panics => panic!("{} fails inside", self.name),
            Act::Hangs(gate) => gate.pass(),
            Act::Waits(gate, then) => {
                gate.pass();
                return self.perform(*then);
            }
            Act::IsOver => self.is_over = true,
        }
        Ok(())
    }
}

/// Notes the end of a call, also of one that panics.
struct End {
    log: Log,
    line: String,
}

impl Drop for End {
    fn drop(&mut self) {
        self.log.note(std::mem::take(&mut self.line));
    }
}

/// All processes of a test are this one; the broker tells them apart by their program images.
fn check(process: LeavingProcess) {
    assert_eq!(process.pid, std::process::id());
    assert!(process.session > 0);
}

impl ProviderShutdown for Probe {
    fn query_fast_shutdown(&mut self) -> Result<()> {
        self.act(Call::Query)
    }

    fn notify_process_shutdown(&mut self, process: LeavingProcess) -> Result<()> {
        check(process);
        self.act(Call::Notify)
    }

    fn do_fast_shutdown(&mut self, process: LeavingProcess) -> Result<()> {
        check(process);
        self.act(Call::Do)
    }
}

/// The store that ships, watched.
struct ProbeStore {
    probe: Probe,
    inner: SqliteStore,
}

impl StoreProvider for ProbeStore {
    fn logon(&mut self) -> Result<StoreFacts> {
        self.probe.log_on()?;
        self.inner.logon()
    }

    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Vec<Result<ProviderAnswer>> {
        if let Err(error) = self.probe.works() {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        for write in &batch {
            match write {
                StoreWrite::Setting { name, .. } => self.probe.note(&format!("keeps {name}")),
                StoreWrite::Submit { .. } => self.probe.note("submit"),
                _ => {}
            }
        }
        let answers = self.inner.commit(batch, sync);
        if !self.probe.plan.lies {
            return answers;
        }
        let lie = |answer| match answer {
            ProviderAnswer::Submitted { .. } | ProviderAnswer::Setting(_) => ProviderAnswer::Done,
            answer => answer,
        };
        answers.into_iter().map(|answer| answer.map(lie)).collect()
    }

    fn reader(&self) -> Result<Box<dyn StoreReader>> {
        self.inner.reader()
    }

    fn logoff(&mut self) -> Result<()> {
        self.probe.note("logoff");
        self.inner.logoff()
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.probe.has_interface().then_some(&mut self.probe)
    }
}

/// A transport that delivers nowhere.
struct ProbeTransport {
    probe: Probe,
    support: Option<Arc<dyn Support>>,
    /// The last message it sent: its store and record.
    last: Option<(u32, u128)>,
}

impl ProbeTransport {
    /// Reads what it sent last, and saves how far it is.
    fn say_last_words(&self) -> Result<()> {
        let support = self.support.as_ref().expect("logged on");
        let (uid, record) = self.last.expect("it sent something");
        let mut text = String::new();
        let mut store = support.store(uid)?;
        store.open(record)?.read_to_string(&mut text).expect("it is text");
        self.probe.log.note(format!("read {}", text.lines().last().unwrap_or_default()));
        support.save(uid, "witness", "sent", &format!("{record:x}"))?;
        self.probe.log.note("saved");
        let unknown = support.save(uid + 1, "witness", "sent", "").expect_err("no such store");
        assert_eq!(unknown.code, Code::E_NOT_FOUND);
        Ok(())
    }
}

impl TransportProvider for ProbeTransport {
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts> {
        self.probe.log_on()?;
        self.support = Some(support);
        Ok(TransportFacts::default())
    }

    fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>) {
        self.last = Some((transmission.store, transmission.record));
        let prepared = Prepared { marker: "m".into(), refused: Vec::new() };
        reply.send(self.probe.works().map(|()| prepared));
    }

    fn complete(&mut self, _: u64, reply: Reply<Vec<RecipientResult>>) {
        if let Err(error) = self.probe.works() {
            return reply.send(Err(error));
        }
        self.probe.log.note("sent");
        let result =
            RecipientResult { recipient: 0, outcome: Outcome::Sent, reply: "taken".into() };
        reply.send(Ok(vec![result]));
    }

    fn cancel(&mut self, _: u64) {}

    fn recover(&mut self, _: Transmission, _: String, reply: Reply<Vec<RecipientResult>>) {
        reply.send(Ok(Vec::new()));
    }

    fn logoff(&mut self) -> Result<()> {
        self.probe.note("logoff");
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.probe.has_interface().then_some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        self.probe.plan.interface == Interface::NothingToSave
    }
}

impl ProviderShutdown for ProbeTransport {
    fn query_fast_shutdown(&mut self) -> Result<()> {
        self.probe.query_fast_shutdown()
    }

    fn notify_process_shutdown(&mut self, process: LeavingProcess) -> Result<()> {
        self.probe.notify_process_shutdown(process)
    }

    fn do_fast_shutdown(&mut self, process: LeavingProcess) -> Result<()> {
        self.probe.do_fast_shutdown(process)?;
        if self.probe.plan.has_last_words { self.say_last_words() } else { Ok(()) }
    }
}

/// A mailbox that has what its plan says, and notes what it is told.
struct ProbeMailbox {
    probe: Probe,
    path: PathBuf,
    support: Option<Arc<dyn MailboxSupport>>,
}

impl ProbeMailbox {
    /// Whether it works. The broker is told.
    fn says(&self) -> Result<()> {
        let ails = self.probe.plan.ails.as_ref().filter(|(until, _)| !until.is_open());
        let said =
            ails.map_or(Ok(()), |(_, why)| Err(ProviderError::new(Code::E_CALL_FAILED, *why)));
        self.support.as_ref().expect("logged on").say(said.clone());
        said
    }

    /// Mirrors its news, on a thread of its own.
    fn mirror(&self, store: u32) {
        let (news, log) = (self.probe.plan.news.clone(), self.probe.log.clone());
        let (support, mailbox) = (self.support.clone().expect("logged on"), self.path.clone());
        std::thread::spawn(move || {
            let inbox = MirrorChange::Folder {
                dir: String::new(),
                parent: None,
                name: "Inbox".into(),
                role: Some(Role::Inbox),
            };
            let found = news.into_iter().enumerate().map(|(n, (from, subject))| {
                let facts = MessageFacts { from, subject, size: 1, ..MessageFacts::default() };
                MirrorChange::Found {
                    spot: Spot { dir: String::new(), name: format!("message-{n}") },
                    marks: Marks::default(),
                    news: true,
                    facts: Box::new(facts),
                }
            });
            let changes = [inbox].into_iter().chain(found).collect();
            let mirrored = support.mirror(store, Mirror { mailbox, changes });
            log.note(format!("mirrored {mirrored:?}"));
        });
    }
}

impl MailboxProvider for ProbeMailbox {
    fn logon(&mut self, support: Arc<dyn MailboxSupport>) -> Result<()> {
        self.support = Some(support);
        self.probe.log_on()
    }

    fn call(&mut self, call: MailboxCall, reply: Reply<Option<Synced>>) {
        let said = match call {
            MailboxCall::Watch { store } => {
                self.probe.note("watch");
                let _ = self.says();
                self.mirror(store);
                Ok(())
            }
            MailboxCall::Rest => {
                self.probe.note("rest");
                Ok(())
            }
            MailboxCall::Changed => {
                self.probe.note("changed");
                Ok(())
            }
            MailboxCall::Validate | MailboxCall::Sync => self.says(),
            MailboxCall::Fetch { .. } => {
                Err(ProviderError::new(Code::E_NOT_FOUND, "it has no such message"))
            }
        };
        reply.send(said.map(|()| None));
    }

    fn logoff(&mut self) -> Result<()> {
        self.probe.note("logoff");
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.probe.has_interface().then_some(&mut self.probe)
    }

    fn has_nothing_to_save(&self) -> bool {
        self.probe.plan.interface == Interface::NothingToSave
    }
}

/// An address book without people.
struct ProbeBook(Probe);

impl AddressBookProvider for ProbeBook {
    fn logon(&mut self) -> Result<()> {
        self.0.log_on()
    }

    fn call(&mut self, _: &AddressCall) -> Result<ProviderAnswer> {
        self.0.works()?;
        self.0.note("called");
        Ok(ProviderAnswer::Addresses { rows: Vec::new(), next: None })
    }

    fn logoff(&mut self) -> Result<()> {
        self.0.note("logoff");
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.0.has_interface().then_some(&mut self.0)
    }

    fn has_nothing_to_save(&self) -> bool {
        self.0.plan.interface == Interface::NothingToSave
    }
}
