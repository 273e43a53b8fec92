//! The servers that all sessions of a broker share: how many connections each has, how it goes, and how much it is handed.
//!
//! A worker that wants to connect takes a [`Permit`] and has it for as long as the connection lives. Permits are given in the
//! order in which they were asked for. While it is not known whether a server can be used, one worker tries and the others wait. A
//! server that cannot be used is left alone for a while ([`standing`](super::standing)), and those that want to connect are told so
//! at once.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use sundown_core::provider::{AskedBy, ProviderError};
use sundown_protocol::Code;

use super::book::{self, Book, Clocks, Known};
use super::rate::{Meter, Rate};
use super::settings::Settings;
use super::standing::{Failed, May, Password, Standing, Trial};
use crate::network::trace::Trace;

/// How long a busy connection is kept while somebody else waits: long enough to be worth its TLS.
const TURN: Duration = Duration::from_secs(2);

/// All servers, by host, port and user.
#[derive(Debug, Default)]
pub struct Destinations {
    known: Mutex<HashMap<String, Arc<Destination>>>,
    book: Arc<Book>,
}

impl Destinations {
    /// Destinations whose refusals outlive the broker, in this data directory.
    pub fn new(data: Arc<OnceLock<PathBuf>>) -> Self {
        Self { known: Mutex::default(), book: Arc::new(Book::new(data)) }
    }

    /// The one that these settings name.
    pub(super) fn of(&self, settings: &Settings) -> Arc<Destination> {
        let username = settings.login.as_ref().map(|login| login.username.as_str());
        let name = book::name(&settings.server(), settings.port, username);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.retain(|_, one| Arc::strong_count(one) > 1 || !one.lock().meter.is_full(now));
        let made = || Arc::new(Destination::new(name.clone(), settings.place(), self.book.clone()));
        known.entry(name.clone()).or_insert_with(made).clone()
    }
}

/// One server and one user of it.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// Its name in the book.
    name: String,
    /// The server as people know it.
    place: String,
    book: Arc<Book>,
    read: OnceLock<()>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// Who waits, by number: the lowest is the first.
    waiting: BTreeSet<u64>,
    /// Connections that nobody uses just now, and the way to tell who keeps them.
    idle: HashMap<u64, Sender<()>>,
    standing: Standing,
    meter: Meter,
    last_number: u64,
}

impl State {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

/// Why there is no permit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPermit {
    /// The server cannot be used.
    Down(ProviderError),
    /// The server may be tried with another password than those that left these traces.
    Refused(Vec<Trace>, ProviderError),
    /// It is not wanted any more.
    Unwanted,
}

impl Destination {
    fn new(name: String, place: String, book: Arc<Book>) -> Self {
        Self { name, place, book, ..Self::default() }
    }

    /// Waits for a permit to connect.
    pub(super) fn permit(
        self: &Arc<Self>,
        limit: usize,
        (asked_by, password): (AskedBy, Password),
        wanted: impl Fn() -> bool,
    ) -> Result<Permit, NoPermit> {
        self.remember();
        let mut state = self.lock();
        let (number, failures) = (state.number(), state.standing.failures());
        state.waiting.insert(number);
        let got = loop {
            if !wanted() {
                break Err(NoPermit::Unwanted);
            }
            let now = Instant::now();
            let is_first = state.waiting.first() == Some(&number);
            let mut wait = None;
            match state.standing.may((asked_by, failures), password, now) {
                May::No(error) => break Err(NoPermit::Down(error)),
                May::WithAnotherPassword(traces, error) => {
                    break Err(NoPermit::Refused(traces, error));
                }
                May::From(then) => wait = Some(then - now),
                May::Now if is_first && !state.standing.is_tried() => {
                    if state.held < state.standing.most(limit, now) {
                        state.held += 1;
                        break Ok(state.standing.begin());
                    }
                    wake_one_idle(&mut state);
                }
                May::Now => {}
            }
            state = self.wait(state, wait);
        };
        state.waiting.remove(&number);
        drop(state);
        self.changed.notify_all();
        let since = Instant::now();
        got.map(|trial| Permit { destination: self.clone(), since, asked_by, trial })
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        most: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match most {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(most) => {
                let waited = self.changed.wait_timeout(state, most);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Makes everybody who waits ask again whether it is still wanted.
    pub(super) fn stir(&self) {
        // The lock makes sure that nobody is between asking and waiting.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Takes from the allowance for the recipients of a message.
    pub(super) fn take(
        self: &Arc<Self>,
        rate: Option<Rate>,
        recipients: usize,
    ) -> Result<Toll, ProviderError> {
        if let Some(rate) = rate {
            self.remember();
            let mut state = self.lock();
            let taken = state.meter.take(rate, recipients, Instant::now());
            let is_new = state.meter.is_to_be_noted();
            drop(state);
            taken.map_err(|left| self.used_up(rate, left))?;
            if is_new {
                self.keep();
            }
        }
        let is_counted = rate.is_some();
        Ok(Toll { destination: self.clone(), is_counted, unused: recipients })
    }

    /// Whether the allowance is enough for a message.
    pub(super) fn has_allowance(&self, rate: Option<Rate>) -> Result<(), ProviderError> {
        let Some(rate) = rate else { return Ok(()) };
        self.remember();
        let enough = self.lock().meter.is_enough(rate, Instant::now());
        enough.map_err(|left| self.used_up(rate, left))
    }

    fn used_up(&self, rate: Rate, left: Duration) -> ProviderError {
        let seconds = left.as_secs() + 1;
        let text = format!("{}: rate = \"{rate}\" is used up for {seconds} s", self.place);
        ProviderError::new(Code::E_BUSY, text).of_server()
    }

    /// Reads how the server refused an earlier broker, and how much that has handed over.
    fn remember(&self) {
        self.read.get_or_init(|| {
            let Known { refused, used } = self.book.find(&self.name, Clocks::read());
            let mut state = self.lock();
            state.standing.refused = refused;
            if let Some(used) = used {
                state.meter.remember(used);
            }
        });
    }

    /// Writes down how the server refuses, or that it does not, and how much it was handed.
    fn keep(&self) {
        let known = || {
            let state = self.lock();
            Known { refused: state.standing.refused.clone(), used: state.meter.noted() }
        };
        self.book.note(&self.name, known, Clocks::read());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message has taken from the allowance. What is not used goes back.
#[derive(Debug)]
pub(super) struct Toll {
    destination: Arc<Destination>,
    is_counted: bool,
    unused: usize,
}

impl Toll {
    /// So many recipients were, or may have been, handed over.
    pub(super) fn spend(&mut self, recipients: usize) {
        self.unused = self.unused.saturating_sub(recipients);
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        if self.is_counted && self.unused > 0 {
            self.destination.lock().meter.give_back(self.unused);
        }
    }
}

fn wake_one_idle(state: &mut State) {
    let one = state.idle.keys().min().copied();
    if let Some(sender) = one.and_then(|number| state.idle.remove(&number)) {
        let _ = sender.send(());
    }
}

/// The right to one connection.
#[derive(Debug)]
pub(super) struct Permit {
    destination: Arc<Destination>,
    since: Instant,
    asked_by: AskedBy,
    trial: Trial,
}

impl Permit {
    /// The server can be used.
    pub(super) fn works(&mut self) {
        self.trial = Trial::Over;
        let mut state = self.destination.lock();
        let refused = !state.standing.refused.is_nothing();
        state.standing.works();
        drop(state);
        self.destination.changed.notify_all();
        if refused {
            tracing::info!(server = self.destination.place, "the server can be used again");
            self.destination.keep();
        }
    }

    /// The server cannot be used with this permit. What follows depends on the others.
    pub(super) fn failed(&mut self, error: ProviderError, trace: Trace) -> Failed {
        self.trial = Trial::Over;
        let (now, chance) = (Instant::now(), getrandom::u64().unwrap_or(0));
        let mut state = self.destination.lock();
        let others = state.held - 1;
        let failed = state.standing.failed(error, (self.asked_by, trace), others, (now, chance));
        let is_new = state.standing.refused.is_new();
        drop(state);
        self.destination.changed.notify_all();
        let server = &self.destination.place;
        match &failed {
            Failed::Nothing(_) => {}
            Failed::Fewer => {
                tracing::info!(
                    server,
                    others,
                    "a connection was refused beside others; there are fewer for a while"
                );
            }
            Failed::Down(error) => {
                tracing::debug!(server, %error, "the server is left alone for a while");
                if is_new {
                    self.destination.keep();
                }
            }
        }
        failed
    }

    /// Whether others have waited long enough for it.
    pub(super) fn is_overdue(&self) -> bool {
        self.since.elapsed() > TURN && !self.destination.lock().waiting.is_empty()
    }

    /// Says that its connection is not used for now. `None` if somebody waits for it already.
    pub(super) fn rest(&self) -> Option<Rest<'_>> {
        let mut state = self.destination.lock();
        if !state.waiting.is_empty() {
            return None;
        }
        let (sender, wanted) = bounded(1);
        let number = state.number();
        state.idle.insert(number, sender);
        Some(Rest { permit: self, number, wanted })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.destination.lock();
        state.held -= 1;
        // It gave up without a word, or it was the last one: whether the server still works, one finds out for all.
        if self.trial == Trial::Open || state.held == 0 {
            state.standing.is_unknown();
        }
        drop(state);
        self.destination.changed.notify_all();
    }
}

/// A connection that is not used for now.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    permit: &'a Permit,
    number: u64,
    wanted: Receiver<()>,
}

impl Rest<'_> {
    /// Tells when somebody else wants the permit.
    pub(super) fn wanted(&self) -> &Receiver<()> {
        &self.wanted
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.permit.destination.lock().idle.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use sundown_core::provider::ProviderSpec;

    use super::*;

    fn settings(host: &str) -> Settings {
        let options = vec![("host".into(), host.into())];
        Settings::of(&ProviderSpec { options, ..ProviderSpec::new("smtp") }).expect("settings")
    }

    fn always() -> bool {
        true
    }

    fn ask(
        destination: &Arc<Destination>,
        limit: usize,
        asked_by: AskedBy,
    ) -> Result<Permit, NoPermit> {
        destination.permit(limit, (asked_by, Password::NotLookedAt), always)
    }

    fn get(destination: &Arc<Destination>, limit: usize) -> Permit {
        ask(destination, limit, AskedBy::Broker).expect("a permit")
    }

    fn refusal() -> ProviderError {
        ProviderError::new(Code::E_CALL_FAILED, "421 not now")
    }

    fn wait_for(destination: &Destination, waiting: usize) {
        while destination.lock().waiting.len() < waiting {
            thread::yield_now();
        }
    }

    #[test]
    fn sessions_share_a_destination() {
        let all = Destinations::default();
        let one = all.of(&settings("smtp.example.org"));
        assert!(Arc::ptr_eq(&one, &all.of(&settings("SMTP.example.org"))));
        assert!(!Arc::ptr_eq(&one, &all.of(&settings("other.example.org"))));
        drop(one);
        all.of(&settings("third.example.org"));
        assert_eq!(all.known.lock().expect("a lock").len(), 1);
    }

    /// A session that ends gives back no allowance.
    #[test]
    fn what_is_used_of_an_allowance_outlives_a_session() {
        let all = Destinations::default();
        let rate: Option<Rate> = "1/d".parse().ok();
        let one = all.of(&settings("smtp.example.org"));
        one.take(rate, 1).expect("all of it").spend(1);
        drop(one);
        all.of(&settings("other.example.org"));
        let again = all.of(&settings("smtp.example.org"));
        let error = again.take(rate, 1).expect_err("it is used up");
        assert_eq!(error.scope, sundown_core::provider::Scope::Server);
        assert!(error.message.contains("1/d"), "{error}");
        assert!(again.has_allowance(rate).is_err());
    }

    /// Nor does a broker that ends, however it does.
    #[test]
    fn what_is_used_of_an_allowance_outlives_a_broker() {
        let home = tempfile::tempdir().expect("a directory");
        let brokers = [(), ()].map(|()| {
            let data: Arc<OnceLock<PathBuf>> = Arc::default();
            data.set(home.path().to_owned()).expect("once");
            Destinations::new(data)
        });
        let rate: Option<Rate> = "3/d".parse().ok();
        let [first, next] = brokers.each_ref().map(|all| all.of(&settings("smtp.example.org")));
        first.take(rate, 2).expect("some of it").spend(2);
        // What it writes is there before the message goes out.
        assert!(next.has_allowance(rate).is_err(), "a little more is written than is used");
        assert!(next.take(rate, 1).is_err() && first.take(rate, 1).is_ok());
        let other: Option<Rate> = "1000/d".parse().ok();
        next.take(other, 900).expect("it is another allowance").spend(900);
    }

    #[test]
    fn what_is_not_spent_goes_back() {
        let destination = Arc::new(Destination::default());
        let rate: Option<Rate> = "2/d".parse().ok();
        let mut toll = destination.take(rate, 2).expect("all of it");
        toll.spend(1);
        assert!(destination.take(rate, 1).is_err());
        drop(toll);
        drop(destination.take(rate, 1).expect("the other one"));
    }

    /// A session that begins later knows how the server refused an earlier one, though none is left.
    #[test]
    fn refusals_outlive_sessions_and_brokers() {
        let home = tempfile::tempdir().expect("a directory");
        let data: Arc<OnceLock<PathBuf>> = Arc::default();
        data.set(home.path().to_owned()).expect("once");
        let all = Destinations::new(data.clone());
        let one = all.of(&settings("smtp.example.org"));
        let failed = get(&one, 1).failed(refusal(), Trace::NONE);
        assert_eq!(failed, Failed::Down(refusal().of_server()));
        drop(one);
        all.of(&settings("other.example.org"));
        for all in [&all, &Destinations::new(data)] {
            let later = all.of(&settings("smtp.example.org"));
            let answer = ask(&later, 1, AskedBy::Broker).expect_err("it rests");
            assert_eq!(answer, NoPermit::Down(refusal().of_server()));
            drop(get(&all.of(&settings("other.example.org")), 1));
        }
    }

    #[test]
    fn there_are_as_many_connections_as_allowed() {
        let destination = Arc::new(Destination::default());
        let mut first = get(&destination, 2);
        first.works();
        let second = get(&destination, 2);
        let (asks, other) = (destination.clone(), AtomicBool::new(false));
        thread::scope(|scope| {
            let third = scope.spawn(|| {
                let permit = get(&asks, 2);
                assert!(other.load(Ordering::SeqCst), "before one was free");
                drop(permit);
            });
            wait_for(&destination, 1);
            assert!(second.rest().is_none(), "somebody waits");
            other.store(true, Ordering::SeqCst);
            drop(second);
            third.join().expect("it got one");
        });
        drop(first);
        assert_eq!(destination.lock().held, 0);
    }

    #[test]
    fn who_rests_is_told_that_somebody_waits() {
        let destination = Arc::new(Destination::default());
        let mut permit = get(&destination, 1);
        permit.works();
        thread::scope(|scope| {
            let rest = permit.rest().expect("nobody waits");
            scope.spawn(|| drop(get(&destination, 1)));
            rest.wanted().recv().expect("somebody wants it");
            drop(rest);
            drop(permit);
        });
    }

    /// One tries for all, and what it is told all are told, for a user and for the broker.
    #[test]
    fn one_tries_for_all() {
        let destination = Arc::new(Destination::default());
        let mut permit = get(&destination, 4);
        thread::scope(|scope| {
            let words = [AskedBy::Broker, AskedBy::User { word: 1 }, AskedBy::User { word: 2 }];
            let others = words.map(|word| {
                let destination = &destination;
                scope.spawn(move || ask(destination, 4, word))
            });
            wait_for(&destination, 3);
            permit.failed(refusal(), Trace::NONE);
            drop(permit);
            for other in others {
                let answer = other.join().expect("it ended").expect_err("it is down");
                assert_eq!(answer, NoPermit::Down(refusal().of_server()));
            }
        });
    }

    /// A user's request has the server tried while it rests, once for all sessions that the request is about.
    #[test]
    fn a_users_request_buys_one_try() {
        let destination = Arc::new(Destination::default());
        get(&destination, 4).failed(refusal(), Trace::NONE);
        assert!(ask(&destination, 4, AskedBy::Broker).is_err());
        let word = AskedBy::User { word: 7 };
        ask(&destination, 4, word).expect("it buys one").failed(refusal(), Trace::NONE);
        assert!(ask(&destination, 4, word).is_err(), "one");
        ask(&destination, 4, AskedBy::User { word: 8 }).expect("another one").works();
        drop(get(&destination, 4));
    }

    /// One that is refused beside another one waits for that, and nothing else stops.
    #[test]
    fn a_connection_that_is_refused_beside_others_is_one_too_many() {
        let destination = Arc::new(Destination::default());
        let mut first = get(&destination, 4);
        first.works();
        let mut second = get(&destination, 4);
        assert_eq!(second.failed(refusal(), Trace::NONE), Failed::Fewer);
        drop(second);
        thread::scope(|scope| {
            let rest = first.rest().expect("no worker waits");
            let next = scope.spawn(|| get(&destination, 4));
            rest.wanted().recv().expect("it waits for the first one");
            drop(rest);
            drop(first);
            next.join().expect("it got one").works();
        });
    }

    #[test]
    fn who_gives_up_without_a_word_blocks_nobody() {
        let destination = Arc::new(Destination::default());
        drop(get(&destination, 1));
        let mut permit = get(&destination, 1);
        permit.failed(ProviderError::new(Code::E_CANCEL, "called off"), Trace::NONE);
        drop(permit);
        drop(get(&destination, 1));
    }

    #[test]
    fn what_is_not_wanted_any_more_does_not_wait() {
        let destination = Arc::new(Destination::default());
        let mut permit = get(&destination, 1);
        permit.works();
        let wanted = AtomicBool::new(true);
        let asked = (AskedBy::Broker, Password::NotLookedAt);
        thread::scope(|scope| {
            let waits =
                scope.spawn(|| destination.permit(1, asked, || wanted.load(Ordering::SeqCst)));
            wait_for(&destination, 1);
            wanted.store(false, Ordering::SeqCst);
            destination.stir();
            let answer = waits.join().expect("it ended");
            assert_eq!(answer.expect_err("it is not wanted"), NoPermit::Unwanted);
        });
        assert!(destination.lock().waiting.is_empty());
    }
}
