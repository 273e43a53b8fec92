//! How a transport is used, and what only transports owe.

use std::io::Read;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};
use sundown_core::provider::{
    AskedBy, Outcome, ProviderAnswer, ProviderError, RecipientResult, StoreRead, Transmission,
};
use sundown_protocol::Code;
use sundown_protocol::request::Report;

use crate::{
    LeavingProcess, Prepared, ProviderShutdown, Reply, Result, StoreReader, Support,
    TransportProvider,
};

use super::runner::{Broken, Check, Steps, Verdict, broken};
use super::shutdown::{self, Failure, Subject, Used};
use super::{
    ALWAYS_ANSWERS, CANCEL_FORGETS, LOGON_AGAIN, MARKER_IS_SHORT, NEIGHBOURS_UNAFFECTED,
    NOT_SENT_STAYS_SO, ONE_RESULT_EACH, RECOVER_FINDS_OUT, WORKS, unique,
};

type Make = Arc<dyn Fn() -> Result<Box<dyn TransportProvider>> + Send + Sync>;

/// The longest marker, in bytes.
const MARKER: usize = 4096;

/// A message that a transport can hand over, and the store that it is in.
#[derive(Clone)]
pub struct Mail {
    /// What the transport's logon gets.
    pub support: Arc<dyn Support>,
    /// What is prepared; the kit sets `id`.
    pub transmission: Transmission,
}

impl Mail {
    /// A short message to these recipients, in a store in memory.
    pub fn to(recipients: &[&str]) -> Self {
        let text = "From: anna@localhost\nSubject: conformance\n\nA message.\n";
        let recipients = recipients.iter().map(|address| (*address).to_owned()).enumerate();
        let transmission = Transmission {
            id: 0,
            store: 1,
            record: 1,
            from: "anna@localhost".into(),
            recipients: recipients.collect(),
            size: text.len() as u64,
            report: Report::default(),
        };
        Self { support: Arc::new(Memory(text)), transmission }
    }
}

/// A store with one message.
struct Memory(&'static str);

impl Support for Memory {
    fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
        self.another()
    }

    fn save(&self, _: u32, _: &str, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
}

impl StoreReader for Memory {
    fn read(&mut self, question: &StoreRead) -> Result<ProviderAnswer> {
        match question {
            StoreRead::Setting { .. } => Ok(ProviderAnswer::Setting(None)),
            StoreRead::Queue { .. } | StoreRead::Submission { .. } => {
                Ok(ProviderAnswer::Queue { rows: Vec::new(), next: None })
            }
            _ => Err(ProviderError::new(Code::E_NOT_FOUND, "the store has one message")),
        }
    }

    fn another(&self) -> Result<Box<dyn StoreReader>> {
        Ok(Box::new(Self(self.0)))
    }

    fn open(&mut self, _: u128) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.0.as_bytes()))
    }
}

/// A store that was closed.
struct Closed;

impl Support for Closed {
    fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
        Err(ProviderError::new(Code::E_NOT_INITIALIZED, "the store is not open"))
    }

    fn save(&self, _: u32, _: &str, _: &str, _: &str) -> Result<()> {
        Err(ProviderError::new(Code::E_NOT_INITIALIZED, "the store is not open"))
    }
}

/// A transport, and what it has prepared.
pub(super) struct Transport {
    make: Make,
    mail: Mail,
    made: Option<Box<dyn TransportProvider>>,
    /// Messages whose fate is not known, with their markers.
    prepared: Vec<(Transmission, String)>,
}

/// A constructor of subjects.
pub(super) fn subjects(
    make: impl Fn() -> Result<Box<dyn TransportProvider>> + Send + Sync + 'static,
    mail: Mail,
) -> impl Fn() -> Transport {
    let make: Make = Arc::new(make);
    move || Transport {
        make: Arc::clone(&make),
        mail: mail.clone(),
        made: None,
        prepared: Vec::new(),
    }
}

/// Those of shutdowns, and a transport's own.
pub(super) fn checks() -> Vec<Check<Transport>> {
    let mut checks = shutdown::checks();
    checks.extend([
        Check { name: "cancel forgets", run: cancel_forgets },
        Check { name: "a message in flight outlives a do", run: flight_outlives_a_do },
        Check { name: "what was prepared can be recovered", run: prepared_is_recovered },
        Check { name: "what is not sent is not sent later", run: not_sent_stays_so },
        Check { name: "every reply is answered", run: every_reply_is_answered },
        Check { name: "calls about unknown messages are answered", run: unknown_is_answered },
        Check { name: "a logon without a store can be repeated", run: a_failed_logon_is_repeated },
    ]);
    checks
}

type Answer<T> = Receiver<Result<T>>;

fn way<T: Send + 'static>() -> (Reply<T>, Answer<T>) {
    let (sender, answer) = bounded(1);
    (Reply::new(move |result| drop(sender.send(result))), answer)
}

/// Waits for an answer. The runner's deadline is over a check; a reply that is kept for ever would block it.
fn get<T>(call: &str, answer: &Answer<T>) -> Used<T> {
    let result = answer.recv().map_err(|_| format!("{call} has no answer"))?;
    result.map_err(|error| Failure::of(call, &error))
}

impl Transport {
    fn object(&mut self) -> Result<&mut Box<dyn TransportProvider>> {
        if self.made.is_none() {
            self.made = Some((self.make)()?);
        }
        let gone = || ProviderError::new(Code::E_NOT_INITIALIZED, "the kit has no object");
        self.made.as_mut().ok_or_else(gone)
    }

    fn next(&self) -> Transmission {
        Transmission { id: unique() as u64, ..self.mail.transmission.clone() }
    }

    fn prepare(&mut self, transmission: &Transmission) -> Result<Answer<Prepared>> {
        let (reply, answer) = way();
        self.object()?.prepare(transmission.clone(), reply);
        Ok(answer)
    }

    fn complete(&mut self, id: u64) -> Result<Answer<Vec<RecipientResult>>> {
        let (reply, answer) = way();
        self.object()?.complete(id, reply);
        Ok(answer)
    }

    fn recover(
        &mut self,
        transmission: &Transmission,
        marker: &str,
    ) -> Result<Answer<Vec<RecipientResult>>> {
        let (reply, answer) = way();
        self.object()?.recover(transmission.clone(), marker.to_owned(), reply);
        Ok(answer)
    }

    /// Prepares a message of which no recipient is refused.
    fn prepared(&mut self) -> Used<(Transmission, String)> {
        let transmission = self.next();
        let answer = self.prepare(&transmission).map_err(|error| Failure::of("a call", &error))?;
        let Prepared { marker, refused } = get("prepare", &answer)?;
        if !refused.is_empty() {
            return Err(format!("prepare refuses the kit's recipients: {refused:?}").into());
        }
        Ok((transmission, marker))
    }

    fn completed(&mut self, id: u64) -> Used<Vec<RecipientResult>> {
        let answer = self.complete(id).map_err(|error| Failure::of("a call", &error))?;
        get("complete", &answer)
    }

    fn recovered(
        &mut self,
        transmission: &Transmission,
        marker: &str,
    ) -> Used<Vec<RecipientResult>> {
        let answer =
            self.recover(transmission, marker).map_err(|error| Failure::of("a call", &error))?;
        get("recover", &answer)
    }

    /// What became of the message, from complete, or after a new logon from recover.
    fn settled(
        &mut self,
        transmission: &Transmission,
        marker: &str,
        steps: &Steps,
    ) -> std::result::Result<Vec<RecipientResult>, Broken> {
        steps.note("complete");
        if let Ok(results) = self.completed(transmission.id)
            && each_once(transmission, &results).is_ok()
        {
            return Ok(results);
        }
        steps.note("(it fails), a new object in its place, logon, recover");
        self.renew().or_else(|error| broken(NEIGHBOURS_UNAFFECTED, error.to_string()))?;
        self.logon().or_else(|error| broken(NEIGHBOURS_UNAFFECTED, error.to_string()))?;
        self.recovered(transmission, marker).or_else(|why| broken(RECOVER_FINDS_OUT, why))
    }

    fn ready(&mut self, steps: &Steps) -> Verdict {
        steps.note("logon");
        self.logon().or_else(|error| broken(WORKS, format!("the logon fails: {error}")))
    }

    fn do_if_it_can(&mut self, steps: &Steps) {
        steps.note("do");
        if let Some(interface) = self.interface() {
            let _ =
                interface.do_fast_shutdown(LeavingProcess { pid: std::process::id(), session: 1 });
        }
    }
}

/// Each recipient has one result.
fn each_once(transmission: &Transmission, results: &[RecipientResult]) -> Used {
    let mut wanted: Vec<_> = transmission.recipients.iter().map(|(place, _)| *place).collect();
    let mut found: Vec<_> = results.iter().map(|result| result.recipient).collect();
    wanted.sort_unstable();
    found.sort_unstable();
    if wanted == found {
        return Ok(());
    }
    Err(format!("recipients {wanted:?} have results {results:?}").into())
}

impl Subject for Transport {
    fn renew(&mut self) -> Result<()> {
        self.made = None;
        self.object().map(drop)
    }

    fn logon(&mut self) -> Result<()> {
        let support = Arc::clone(&self.mail.support);
        self.object()?.logon(support).map(drop)
    }

    fn logoff(&mut self) -> Result<()> {
        self.object()?.logoff()
    }

    fn interface(&mut self) -> Option<&mut dyn ProviderShutdown> {
        self.made.as_mut()?.shutdown()
    }

    fn has_nothing_to_save(&self) -> bool {
        self.made.as_ref().is_some_and(|transport| transport.has_nothing_to_save())
    }

    fn work(&mut self) -> Used {
        let (transmission, _) = self.prepared()?;
        let results = self.completed(transmission.id)?;
        each_once(&transmission, &results)?;
        match results.iter().find(|result| result.outcome != Outcome::Sent) {
            Some(unsent) => Err(format!("a message is not sent: {unsent:?}").into()),
            None => Ok(()),
        }
    }

    fn hand_over(&mut self) -> Used {
        let prepared = self.prepared()?;
        self.prepared.push(prepared);
        Ok(())
    }

    fn is_kept(&mut self) -> Used {
        for (transmission, marker) in std::mem::take(&mut self.prepared) {
            let results = self.recovered(&transmission, &marker)?;
            each_once(&transmission, &results)?;
        }
        Ok(())
    }
}

fn cancel_forgets(transport: &mut Transport, steps: &Steps) -> Verdict {
    transport.ready(steps)?;
    steps.note("prepare");
    let (transmission, _) = transport.prepared().or_else(|why| broken(WORKS, why))?;
    steps.note("cancel");
    let object = transport.object().or_else(|error| broken(WORKS, error.to_string()))?;
    object.cancel(transmission.id);
    object.cancel(transmission.id);
    steps.note("complete");
    let results = transport.completed(transmission.id).unwrap_or_default();
    if let Some(sent) = results.iter().find(|result| result.outcome == Outcome::Sent) {
        return broken(CANCEL_FORGETS, format!("it is sent all the same: {sent:?}"));
    }
    transport.work().or_else(|why| broken(CANCEL_FORGETS, why))
}

/// SEED-9: the neighbour's message is prepared when the process leaves.
fn flight_outlives_a_do(transport: &mut Transport, steps: &Steps) -> Verdict {
    transport.ready(steps)?;
    steps.note("prepare");
    let (transmission, marker) = transport.prepared().or_else(|why| broken(WORKS, why))?;
    transport.do_if_it_can(steps);
    let results = transport.settled(&transmission, &marker, steps)?;
    each_once(&transmission, &results).or_else(|why| broken(ONE_RESULT_EACH, why))?;
    transport.work().or_else(|why| broken(NEIGHBOURS_UNAFFECTED, why))
}

fn prepared_is_recovered(transport: &mut Transport, steps: &Steps) -> Verdict {
    transport.ready(steps)?;
    steps.note("prepare");
    let (transmission, marker) = transport.prepared().or_else(|why| broken(WORKS, why))?;
    if marker.len() > MARKER {
        return broken(MARKER_IS_SHORT, format!("the marker has {} bytes", marker.len()));
    }
    steps.note("drop, as in a crash");
    transport.renew().or_else(|error| broken(LOGON_AGAIN, error.to_string()))?;
    transport.ready(steps)?;
    steps.note("recover");
    let results = transport
        .recovered(&transmission, &marker)
        .or_else(|why| broken(RECOVER_FINDS_OUT, why))?;
    each_once(&transmission, &results).or_else(|why| broken(RECOVER_FINDS_OUT, why))?;
    transport.work().or_else(|why| broken(RECOVER_FINDS_OUT, why))
}

/// The session of the object that prepared a message was left behind, and another session asks.
fn not_sent_stays_so(transport: &mut Transport, steps: &Steps) -> Verdict {
    transport.ready(steps)?;
    steps.note("prepare");
    let (transmission, marker) = transport.prepared().or_else(|why| broken(WORKS, why))?;
    steps.note("another object beside it, logon, recover");
    let behind = transport.made.take();
    transport.renew().or_else(|error| broken(LOGON_AGAIN, error.to_string()))?;
    transport.ready(steps)?;
    let results = transport
        .recovered(&transmission, &marker)
        .or_else(|why| broken(RECOVER_FINDS_OUT, why))?;
    steps.note("complete by the first object");
    let asked = std::mem::replace(&mut transport.made, behind);
    let late = transport.completed(transmission.id).unwrap_or_default();
    transport.made = asked;
    let twice = late.iter().find(|late| {
        let of_it = |r: &&RecipientResult| r.recipient == late.recipient;
        let found = results.iter().find(of_it).map(|result| result.outcome);
        found == Some(Outcome::NotSent) && late.outcome != Outcome::Later
    });
    match twice {
        Some(late) => broken(NOT_SENT_STAYS_SO, format!("it says {late:?} after NotSent")),
        None => Ok(()),
    }
}

/// Also those that wait when the transport is logged off and dropped.
fn every_reply_is_answered(transport: &mut Transport, steps: &Steps) -> Verdict {
    transport.ready(steps)?;
    steps.note("prepare, validate");
    let first = transport.next();
    let mut waiting =
        vec![transport.prepare(&first).or_else(|error| broken(WORKS, error.to_string()))?];
    let (reply, validated) = way();
    let object = transport.object().or_else(|error| broken(WORKS, error.to_string()))?;
    object.validate(AskedBy::User { word: 1 }, reply);
    transport.do_if_it_can(steps);
    steps.note("prepare");
    let second = transport.next();
    waiting.push(transport.prepare(&second).or_else(|error| broken(WORKS, error.to_string()))?);
    steps.note("logoff");
    let _ = transport.logoff();
    steps.note("drop");
    transport.made = None;
    for answer in waiting {
        // An error is an answer. The channel is closed without one only if the reply was forgotten.
        answer.recv().or_else(|_| broken(ALWAYS_ANSWERS, "prepare has no answer"))?.ok();
    }
    validated.recv().or_else(|_| broken(ALWAYS_ANSWERS, "validate has no answer"))?.ok();
    Ok(())
}

fn unknown_is_answered(transport: &mut Transport, steps: &Steps) -> Verdict {
    transport.ready(steps)?;
    let unknown = transport.next();
    steps.note("cancel, complete of a message that was not prepared");
    transport.object().or_else(|error| broken(WORKS, error.to_string()))?.cancel(unknown.id);
    let sent = transport.completed(unknown.id).unwrap_or_default();
    if !sent.iter().all(|result| result.outcome != Outcome::Sent) {
        return broken(ONE_RESULT_EACH, format!("it says that it has sent it: {sent:?}"));
    }
    steps.note("recover with another transport's marker");
    let _ = transport.recovered(&unknown, "not/one of its own\u{1}");
    transport.work().or_else(|why| broken(WORKS, why))
}

fn a_failed_logon_is_repeated(transport: &mut Transport, steps: &Steps) -> Verdict {
    steps.note("logon, with a store that is closed");
    let object = transport.object().or_else(|error| broken(WORKS, error.to_string()))?;
    let _ = object.logon(Arc::new(Closed));
    transport.ready(steps).or_else(|_| broken(LOGON_AGAIN, "a later logon fails, too"))?;
    transport.work().or_else(|why| broken(LOGON_AGAIN, why))
}
