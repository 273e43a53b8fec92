//! Providers that make one mistake each: the kit finds it, by the check and the sentence that it is about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sundown_core::provider::{
    AddressCall, MailboxCall, MailboxReport, Mirror, ProviderAnswer, ProviderError, ProviderSpec,
    RecipientResult, StoreFacts, StoreWrite, Synced, Transmission, TransportFacts,
};
use sundown_protocol::Code;
use sundown_protocol::request::AddressAction;
use tempfile::TempDir;

use crate::address_book::SqliteAddressBook;
use crate::conformance::{self, Kit, Mail, Report, Sentence};
use crate::maildir::{Maildir, MaildirMailbox};
use crate::sqlite::SqliteStore;
use crate::{
    AddressBookProvider, LeavingProcess, MailboxProvider, MailboxSupport, Prepared,
    ProviderShutdown, Reply, Result, StoreProvider, StoreReader, Support, Sync, TransportProvider,
};

/// What a provider here does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// Nothing: it shuts down at Do for all processes, as the founding text says to the letter, and a logon mends that.
    ShutsDownUntilLogon,
    /// Nothing: no logon mends this object, and it says so by the code.
    ShutsDownForGood,
    /// Nothing: it does not know the interface.
    Unaware,
    /// Nothing: it refuses, and each of the three calls is an error.
    Refuses,
    ShutsDownForAll,
    ShutsDownWithoutAWord,
    ChangesItsMind,
    ForgetsItsInterface,
    HasNothingToSaveAndRefuses,
    ShutsDownAtQuery,
    ShutsDownAtNotify,
    NotifyEndsItForGood,
    PanicsAtQuery,
    PanicsAtNotify,
    PanicsAtDo,
    PanicsAtTheSecondDo,
    HangsInDo,
    LogsOnOnce,
    NeverForgivesAFailedLogon,
    LosesWhatIsNotSynced,
    LosesAtDo,
    AnswersTooFewWrites,
    AnswersNothingButDone,
    AnswersForAnother,
    ClosesWithTheFirstSession,
    SendsWhatIsCancelled,
    ForgetsReplies,
    LeavesOutRecipients,
    WritesLongMarkers,
    /// Says that a message was not sent, and lets the object that has it send it.
    SendsWhatIsNotSent,
    RecoversNothing,
    ForgetsFlightsAtDo,
    TakesUnknownMessages,
    NeverRests,
    WritesLongSlices,
}

use Mistake::*;

/// How far a provider has shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Down {
    No,
    UntilLogon,
    ForGood,
}

/// The part of a provider that makes mistakes of all types.
struct Bent {
    mistake: Mistake,
    down: Down,
    queries: usize,
    dos: usize,
    logons: usize,
    /// That all objects over the same data are down.
    all: Arc<AtomicBool>,
}

fn error() -> ProviderError {
    ProviderError::new(Code::E_NOT_INITIALIZED, "it is down")
}

impl Bent {
    fn new(mistake: Mistake, all: &Arc<AtomicBool>) -> Self {
        let all = Arc::clone(all);
        Self { mistake, down: Down::No, queries: 0, dos: 0, logons: 0, all }
    }

    fn error(&self) -> ProviderError {
        let code = if self.is(ShutsDownWithoutAWord) { Code::E_NO_ACCESS } else { error().code };
        ProviderError { code, ..error() }
    }

    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    /// Whether it works.
    fn up(&self) -> Result<()> {
        let is_down = self.down != Down::No || self.all.load(Ordering::SeqCst);
        if is_down { Err(self.error()) } else { Ok(()) }
    }

    fn logon(&mut self) -> Result<()> {
        self.logons += 1;
        let is_down = self.down == Down::ForGood || self.all.load(Ordering::SeqCst);
        if is_down || (self.is(LogsOnOnce) && self.logons > 1) {
            return Err(self.error());
        }
        self.down = Down::No;
        Ok(())
    }

    /// It remembers a logon that failed, if that is its mistake.
    fn after_logon<T>(&mut self, logon: Result<T>) -> Result<T> {
        if logon.is_err() && self.is(NeverForgivesAFailedLogon) {
            self.down = Down::ForGood;
        }
        logon
    }

    fn interface(&mut self) -> Option<&mut dyn ProviderShutdown> {
        let none = self.is(Unaware) || (self.is(ForgetsItsInterface) && self.dos > 0);
        (!none).then_some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        self.is(HasNothingToSaveAndRefuses)
    }
}

impl ProviderShutdown for Bent {
    fn query_fast_shutdown(&mut self) -> Result<()> {
        self.queries += 1;
        match self.mistake {
            PanicsAtQuery => panic!("it fails in Query"),
            ShutsDownAtQuery => self.down = Down::ForGood,
            ChangesItsMind if self.queries > 1 => return Err(error()),
            Refuses | HasNothingToSaveAndRefuses => return Err(error()),
            _ => {}
        }
        Ok(())
    }

    fn notify_process_shutdown(&mut self, _: LeavingProcess) -> Result<()> {
        match self.mistake {
            PanicsAtNotify => panic!("it fails in Notify"),
            ShutsDownAtNotify => self.down = Down::UntilLogon,
            NotifyEndsItForGood => self.down = Down::ForGood,
            Refuses => return Err(error()),
            _ => {}
        }
        Ok(())
    }

    fn do_fast_shutdown(&mut self, _: LeavingProcess) -> Result<()> {
        self.dos += 1;
        match self.mistake {
            PanicsAtDo => panic!("it fails in Do"),
            PanicsAtTheSecondDo => assert!(self.dos < 2, "it fails in the second Do"),
            ShutsDownUntilLogon => self.down = Down::UntilLogon,
            ShutsDownForGood | ShutsDownWithoutAWord => self.down = Down::ForGood,
            ShutsDownForAll => self.all.store(true, Ordering::SeqCst),
            HangsInDo => loop {
                std::thread::park();
            },
            Refuses => return Err(error()),
            _ => {}
        }
        Ok(())
    }
}

struct BadStore {
    bent: Bent,
    inner: SqliteStore,
    unsynced: Vec<StoreWrite>,
}

impl StoreProvider for BadStore {
    fn logon(&mut self) -> Result<StoreFacts> {
        self.bent.logon()?;
        let facts = self.inner.logon();
        self.bent.after_logon(facts)
    }

    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Vec<Result<ProviderAnswer>> {
        if let Err(error) = self.bent.up() {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        match self.bent.mistake {
            LosesWhatIsNotSynced if sync == Sync::None => {
                self.unsynced.extend(batch.iter().cloned());
                batch.iter().map(|_| Ok(ProviderAnswer::Done)).collect()
            }
            LosesWhatIsNotSynced => {
                let before = self.unsynced.len();
                let all = std::mem::take(&mut self.unsynced).into_iter().chain(batch).collect();
                self.inner.commit(all, sync).split_off(before)
            }
            AnswersTooFewWrites => {
                let mut answers = self.inner.commit(batch, sync);
                answers.truncate(2);
                answers
            }
            AnswersNothingButDone => {
                let answers = self.inner.commit(batch, sync);
                answers.into_iter().map(|answer| answer.map(|_| ProviderAnswer::Done)).collect()
            }
            AnswersForAnother => {
                let answers = self.inner.commit(batch, sync);
                answers.into_iter().map(|answer| answer.map(of_another)).collect()
            }
            _ => self.inner.commit(batch, sync),
        }
    }

    fn reader(&self) -> Result<Box<dyn StoreReader>> {
        self.bent.up()?;
        self.inner.reader()
    }

    fn logoff(&mut self) -> Result<()> {
        if self.bent.is(ClosesWithTheFirstSession) {
            self.bent.down = Down::ForGood;
        }
        self.inner.logoff()
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.bent.interface()
    }
}

/// The same answer about another message.
fn of_another(answer: ProviderAnswer) -> ProviderAnswer {
    match answer {
        ProviderAnswer::Saved { mut place, new } => {
            place.entry.record += 1;
            ProviderAnswer::Saved { place, new }
        }
        answer => answer,
    }
}

struct BadTransport {
    bent: Bent,
    inner: Maildir,
    last: u64,
}

impl TransportProvider for BadTransport {
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts> {
        self.bent.logon()?;
        if self.bent.is(NeverForgivesAFailedLogon) && support.store(1).is_err() {
            return self.bent.after_logon(Err(error()));
        }
        self.inner.logon(support)
    }

    fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>) {
        self.last = transmission.id;
        if let Err(error) = self.bent.up() {
            return reply.send(Err(error));
        }
        match self.bent.mistake {
            ForgetsReplies => std::mem::forget(reply),
            WritesLongMarkers => {
                self.inner.prepare(transmission, Reply::new(|_| ()));
                reply.send(Ok(Prepared { marker: "m".repeat(4097), refused: Vec::new() }));
            }
            _ => self.inner.prepare(transmission, reply),
        }
    }

    fn complete(&mut self, id: u64, reply: Reply<Vec<RecipientResult>>) {
        let mistake = self.bent.mistake;
        if self.bent.up().is_err() || (mistake == ForgetsFlightsAtDo && self.bent.dos > 0) {
            return reply.send(Err(error()));
        }
        let id = if mistake == TakesUnknownMessages { self.last } else { id };
        let bent = move |results: Result<Vec<_>>| {
            let mut results = results?;
            match mistake {
                LeavesOutRecipients => drop(results.pop()),
                TakesUnknownMessages if results.is_empty() => results.push(RecipientResult {
                    recipient: 0,
                    outcome: sundown_core::provider::Outcome::Sent,
                    reply: String::new(),
                }),
                _ => {}
            }
            Ok(results)
        };
        self.inner.complete(id, Reply::new(move |results| reply.send(bent(results))));
    }

    fn cancel(&mut self, id: u64) {
        if !self.bent.is(SendsWhatIsCancelled) {
            self.inner.cancel(id);
        }
    }

    fn recover(
        &mut self,
        transmission: Transmission,
        marker: String,
        reply: Reply<Vec<RecipientResult>>,
    ) {
        match self.bent.mistake {
            RecoversNothing => reply.send(Ok(Vec::new())),
            SendsWhatIsNotSent => {
                let not_sent = |(recipient, _): &(usize, String)| RecipientResult {
                    recipient: *recipient,
                    outcome: sundown_core::provider::Outcome::NotSent,
                    reply: String::new(),
                };
                reply.send(Ok(transmission.recipients.iter().map(not_sent).collect()));
            }
            ForgetsFlightsAtDo => reply.send(Err(error())),
            _ => self.inner.recover(transmission, marker, reply),
        }
    }

    fn logoff(&mut self) -> Result<()> {
        self.inner.logoff()
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.bent.interface()
    }

    fn has_nothing_to_save(&self) -> bool {
        self.bent.has_nothing_to_save()
    }
}

struct BadBook {
    bent: Bent,
    inner: SqliteAddressBook,
    /// The last name that was added.
    last: Option<String>,
}

impl AddressBookProvider for BadBook {
    fn logon(&mut self) -> Result<()> {
        self.bent.logon()?;
        self.inner.logon()
    }

    fn call(&mut self, call: &AddressCall) -> Result<ProviderAnswer> {
        self.bent.up()?;
        if let AddressCall::Act(AddressAction::Add { name, .. }) = call {
            self.last = Some(name.clone());
        }
        let answer = self.inner.call(call);
        // What is said to a removal is looked at nowhere else.
        let removes = matches!(call, AddressCall::Act(AddressAction::Remove { .. }));
        if self.bent.is(AnswersForAnother) && removes {
            return Ok(ProviderAnswer::Addresses { rows: Vec::new(), next: None });
        }
        answer
    }

    fn logoff(&mut self) -> Result<()> {
        self.inner.logoff()
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.bent.interface()?;
        Some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        self.bent.has_nothing_to_save()
    }
}

impl ProviderShutdown for BadBook {
    fn query_fast_shutdown(&mut self) -> Result<()> {
        self.bent.query_fast_shutdown()
    }

    fn notify_process_shutdown(&mut self, process: LeavingProcess) -> Result<()> {
        self.bent.notify_process_shutdown(process)
    }

    fn do_fast_shutdown(&mut self, process: LeavingProcess) -> Result<()> {
        if self.bent.is(LosesAtDo)
            && let Some(name) = self.last.take()
        {
            self.inner.call(&AddressCall::Act(AddressAction::Remove { name }))?;
        }
        self.bent.do_fast_shutdown(process)
    }
}

struct BadMailbox {
    bent: Bent,
    inner: MaildirMailbox,
}

impl MailboxProvider for BadMailbox {
    fn logon(&mut self, support: Arc<dyn MailboxSupport>) -> Result<()> {
        self.bent.logon()?;
        let support: Arc<dyn MailboxSupport> = match self.bent.mistake {
            WritesLongSlices => Arc::new(Careless(support)),
            _ => support,
        };
        let logon = self.inner.logon(support);
        self.bent.after_logon(logon)
    }

    fn call(&mut self, call: MailboxCall, reply: Reply<Option<Synced>>) {
        match (self.bent.up(), &call) {
            (Err(error), _) => reply.send(Err(error)),
            (Ok(()), MailboxCall::Rest) if self.bent.is(NeverRests) => {
                reply.send(Err(ProviderError::new(Code::E_BUSY, "it is at work")));
            }
            (Ok(()), _) => self.inner.call(call, reply),
        }
    }

    fn logoff(&mut self) -> Result<()> {
        self.inner.logoff()
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.bent.interface()
    }

    fn has_nothing_to_save(&self) -> bool {
        self.bent.has_nothing_to_save()
    }
}

/// A mailbox that says everything twice, to be sure.
struct Careless(Arc<dyn MailboxSupport>);

impl MailboxSupport for Careless {
    fn report(&self, report: MailboxReport) {
        self.0.report(report);
    }

    fn store(&self, uid: u32) -> Result<Box<dyn StoreReader>> {
        self.0.store(uid)
    }

    fn mirror(&self, uid: u32, mut mirror: Mirror) -> Result<()> {
        mirror.changes.extend(mirror.changes.clone());
        self.0.mirror(uid, mirror)
    }

    fn say(&self, said: Result<()>) {
        self.0.say(said);
    }
}

/// A provider that hangs is waited for less long than usual.
fn kit(mistake: Mistake) -> Kit {
    match mistake {
        HangsInDo | ForgetsReplies => Kit::default().with_deadline(Duration::from_secs(1)),
        _ => Kit::default(),
    }
}

fn store(mistake: Mistake) -> Report {
    let folder = TempDir::new().expect("a directory");
    let spec = ProviderSpec { path: folder.path().join("s"), ..ProviderSpec::new("sqlite") };
    let all = Arc::default();
    kit(mistake).store(move || {
        let (bent, inner) = (Bent::new(mistake, &all), SqliteStore::new(&spec));
        Ok(Box::new(BadStore { bent, inner, unsynced: Vec::new() }))
    })
}

fn transport(mistake: Mistake) -> Report {
    let folder = TempDir::new().expect("a directory");
    let spec = ProviderSpec { path: folder.path().join("m"), ..ProviderSpec::new("maildir") };
    let all = Arc::default();
    let make = move || {
        let (bent, inner) = (Bent::new(mistake, &all), Maildir::new(&spec));
        Ok(Box::new(BadTransport { bent, inner, last: 0 }) as Box<dyn TransportProvider>)
    };
    kit(mistake).transport(make, Mail::to(&["bob@localhost", "eve@localhost"]))
}

fn book(mistake: Mistake) -> Report {
    let folder = TempDir::new().expect("a directory");
    let spec = ProviderSpec { path: folder.path().join("b"), ..ProviderSpec::new("sqlite") };
    let all = Arc::default();
    kit(mistake).address_book(move || {
        let (bent, inner) = (Bent::new(mistake, &all), SqliteAddressBook::new(&spec));
        Ok(Box::new(BadBook { bent, inner, last: None }))
    })
}

fn mailbox(mistake: Mistake) -> Report {
    let folder = TempDir::new().expect("a directory");
    let path = folder.path().join("Maildir");
    for sub in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(path.join(sub)).expect("made");
    }
    let place = ProviderSpec { path: folder.path().join("s"), ..ProviderSpec::new("sqlite") };
    let mut store = SqliteStore::new(&place);
    store.logon().expect("it logs on");
    let spec = ProviderSpec { path, ..ProviderSpec::new("maildir") };
    let (all, desks) = (Arc::default(), Arc::default());
    let make = move || {
        let (bent, inner) = (Bent::new(mistake, &all), MaildirMailbox::new(&spec, &desks)?);
        Ok(Box::new(BadMailbox { bent, inner }) as Box<dyn MailboxProvider>)
    };
    kit(mistake).mailbox(make, Box::new(store))
}

#[track_caller]
fn finds(report: &Report, mistake: Mistake, check: &str, sentence: Sentence) {
    let found = report.violations.iter().any(|v| v.check == check && v.sentence == sentence);
    assert!(found, "{mistake:?} is not found by {check:?} as {}: {report}", sentence.id);
    assert!(report.to_string().contains(sentence.text), "{report}");
}

/// Mistakes that providers of all types can make.
const OF_ALL: &[(Mistake, &str, Sentence)] = &[
    (ShutsDownForAll, "a do leaves other processes alone", conformance::NEIGHBOURS_UNAFFECTED),
    (ShutsDownWithoutAWord, "a do leaves other processes alone", conformance::SAYS_IT_IS_OVER),
    (ShutsDownWithoutAWord, "a logoff and a logon follow a do", conformance::SAYS_IT_IS_OVER),
    (ChangesItsMind, "the first answer holds", conformance::ANSWER_HOLDS),
    (ForgetsItsInterface, "the first answer holds", conformance::ANSWER_HOLDS),
    (ShutsDownAtQuery, "a query changes nothing", conformance::QUERY_ONLY_ASKS),
    (PanicsAtQuery, "a query changes nothing", conformance::NEVER_PANICS),
    (PanicsAtNotify, "life goes on after a notice", conformance::NEVER_PANICS),
    (PanicsAtDo, "nothing is lost by a do", conformance::NEVER_PANICS),
    (PanicsAtTheSecondDo, "a do may come twice", conformance::NEVER_PANICS),
    (LogsOnOnce, "a logon follows a logoff", conformance::LOGON_AGAIN),
];

/// SEED-9, SEED-17 to SEED-20.
#[test]
fn mistakes_of_every_type_are_found() {
    for &(mistake, check, sentence) in OF_ALL {
        finds(&store(mistake), mistake, check, sentence);
        finds(&transport(mistake), mistake, check, sentence);
        finds(&book(mistake), mistake, check, sentence);
        finds(&mailbox(mistake), mistake, check, sentence);
    }
}

#[test]
fn mistakes_of_mailboxes_are_found() {
    let found = [
        (NeverRests, "what rests carries out changes", conformance::RESTS_AT_ONCE),
        (WritesLongSlices, "slices are short", conformance::SLICES_ARE_SHORT),
        (HasNothingToSaveAndRefuses, "the first answer holds", conformance::ANSWER_HOLDS),
    ];
    for (mistake, check, sentence) in found {
        finds(&mailbox(mistake), mistake, check, sentence);
    }
}

/// The kit ends although a call does not. On a slow machine an earlier check may be the one that is late.
#[test]
fn a_provider_that_hangs_is_found() {
    let reports =
        [store(HangsInDo), transport(HangsInDo), book(HangsInDo), transport(ForgetsReplies)];
    for report in reports.into_iter().chain([mailbox(HangsInDo)]) {
        let last = report.violations.last().expect("a violation");
        assert_eq!(last.sentence, conformance::ALWAYS_ANSWERS, "{report}");
        assert_eq!(report.checks.last(), Some(&last.check), "no check follows it");
    }
}

/// SEED-9: a provider that shuts down at Do, and is whole after a new logon or as a new object, is one that the broker can
/// live with. So
/// are those that refuse, and those that do not know the interface (SEED-10).
#[test]
fn the_letter_of_the_text_conforms() {
    for right in [ShutsDownUntilLogon, ShutsDownForGood, Unaware, Refuses] {
        for report in [store(right), transport(right), book(right), mailbox(right)] {
            assert!(report.holds(), "{right:?}: {report}");
        }
    }
}

#[test]
fn mistakes_of_stores_are_found() {
    let found = [
        (ShutsDownAtNotify, "a notice needs no query", conformance::NOTIFY_KEEPS_SAVING),
        (NotifyEndsItForGood, "a notice needs no query", conformance::NOTIFY_KEEPS_SAVING),
        (LosesWhatIsNotSynced, "what was not finished outlives a do", conformance::NO_DATA_LOSS),
        (AnswersTooFewWrites, "each write is answered", conformance::EACH_WRITE),
        (AnswersNothingButDone, "each call has its answer", conformance::ANSWERS_FIT),
        (AnswersForAnother, "each call has its answer", conformance::ANSWERS_FIT),
        (ClosesWithTheFirstSession, "sessions share a store", conformance::LAST_SESSION_CLOSES),
        (
            NeverForgivesAFailedLogon,
            "a logon that failed can be repeated",
            conformance::LOGON_AGAIN,
        ),
    ];
    for (mistake, check, sentence) in found {
        finds(&store(mistake), mistake, check, sentence);
    }
}

/// A transport or an address book may stop at a notice, for good (SEED-19): the broker makes it anew.
#[test]
fn mistakes_of_transports_are_found() {
    let found = [
        (SendsWhatIsCancelled, "cancel forgets", conformance::CANCEL_FORGETS),
        (LeavesOutRecipients, "works without a shutdown", conformance::WORKS),
        (WritesLongMarkers, "what was prepared can be recovered", conformance::MARKER_IS_SHORT),
        (RecoversNothing, "what was prepared can be recovered", conformance::RECOVER_FINDS_OUT),
        (RecoversNothing, "what was not finished outlives a do", conformance::NO_DATA_LOSS),
        (SendsWhatIsNotSent, "what is not sent is not sent later", conformance::NOT_SENT_STAYS_SO),
        (ForgetsFlightsAtDo, "a message in flight outlives a do", conformance::RECOVER_FINDS_OUT),
        (
            TakesUnknownMessages,
            "calls about unknown messages are answered",
            conformance::ONE_RESULT_EACH,
        ),
        (
            NeverForgivesAFailedLogon,
            "a logon without a store can be repeated",
            conformance::LOGON_AGAIN,
        ),
        (HasNothingToSaveAndRefuses, "the first answer holds", conformance::ANSWER_HOLDS),
    ];
    for (mistake, check, sentence) in found {
        finds(&transport(mistake), mistake, check, sentence);
    }
    for stops in [ShutsDownAtNotify, NotifyEndsItForGood] {
        let reports = [transport(stops), book(stops)];
        assert!(reports.iter().all(Report::holds), "{stops:?}: {reports:?}");
    }
}

#[test]
fn mistakes_of_address_books_are_found() {
    let found = [
        (LosesAtDo, "nothing is lost by a do", conformance::NO_DATA_LOSS),
        (AnswersForAnother, "each call has its answer", conformance::ANSWERS_FIT),
        (HasNothingToSaveAndRefuses, "the first answer holds", conformance::ANSWER_HOLDS),
    ];
    for (mistake, check, sentence) in found {
        finds(&book(mistake), mistake, check, sentence);
    }
}
