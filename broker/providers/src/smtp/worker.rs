//! One thread of a transport, and the connection that it keeps.
//!
//! ```text
//!  wait for a job ─► connection: kept, or new ─► begin ─► wait for the word ─► finish ─┐
//!        ▲                                                  └─ none comes: reset ──────┤
//!        └─────────────── keep the connection a while, unless somebody waits ◄─────────┘
//! ```

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, select};
use sundown_core::provider::{AskedBy, Outcome, ProviderError, RecipientResult, Transmission};
use sundown_protocol::Code;
use sundown_protocol::request::Notify;

use super::body::Survey;
use super::connection::Connection;
use super::crew::{Job, Shared, Word};
use super::destinations::{NoPermit, Permit};
use super::dots::{Dot, Marker};
use super::form::{self, Form};
use super::standing::{Failed, Password};
use super::transaction::{self, After, At, Begun, Finished, NotBegun, Said};
use crate::fault;
use crate::network::trouble::Kind;
use crate::{Prepared, Reply, Result};

/// How long each answer may take when the question is whether the server works.
const PATIENCE_OF_A_QUESTION: Duration = Duration::from_secs(30);

/// How long a connection that nobody uses is kept. A burst of mail uses one again at once; servers do not like idlers.
const IDLE: Duration = Duration::from_secs(10);

/// How long a password is kept that no connection needs. A broker that has nothing to send holds none.
const UNUSED: Duration = Duration::from_secs(600);

/// One thread of a transport.
pub(super) struct Worker {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    over: Receiver<Infallible>,
    line: Option<Line>,
}

/// A connection, and the right to it.
struct Line {
    connection: Connection,
    permit: Permit,
}

/// How long a connection has been there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

/// What a refusal is about that ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Message,
    Server,
}

/// Why there is no connection to keep any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Orderly,
    Lost,
}

impl Worker {
    /// A worker that takes jobs from there until the session is over.
    pub(super) fn new(
        shared: Arc<Shared>,
        jobs: Receiver<Job>,
        over: Receiver<Infallible>,
    ) -> Self {
        Self { shared, jobs, over, line: None }
    }

    /// Works until there is nothing left to do.
    pub(super) fn run(mut self) {
        while let Some(job) = self.next() {
            // What panicked has lost its way back for an answer, which tells that the call has failed.
            let served = catch_unwind(AssertUnwindSafe(|| self.serve(job)));
            self.shared.done();
            if served.is_err() {
                self.hang_up(End::Lost);
            }
        }
        self.hang_up(End::Orderly);
    }

    fn next(&mut self) -> Option<Job> {
        if self.line.as_ref().is_some_and(|line| line.permit.is_overdue()) {
            self.hang_up(End::Orderly);
        }
        let Some(line) = &self.line else { return self.wait() };
        if let Some(rest) = line.permit.rest() {
            select! {
                recv(self.jobs) -> job => return job.ok(),
                recv(rest.wanted()) -> _ => {}
                default(IDLE) => {}
            }
        } else if let Ok(job) = self.jobs.try_recv() {
            return Some(job);
        }
        self.hang_up(End::Orderly);
        self.wait()
    }

    /// Waits for a job without a connection. A password that none needs for a while is dropped.
    fn wait(&self) -> Option<Job> {
        match self.jobs.recv_timeout(UNUSED) {
            Err(RecvTimeoutError::Timeout) => {
                self.shared.dialer.forget_unused(UNUSED);
                self.jobs.recv().ok()
            }
            job => job.ok(),
        }
    }

    fn hang_up(&mut self, end: End) {
        let Some(Line { connection, permit }) = self.line.take() else { return };
        if end == End::Orderly {
            connection.quit();
        }
        drop(permit);
    }

    fn serve(&mut self, job: Job) {
        match job {
            Job::Send { transmission, reply, word, ticket } => {
                self.send(&transmission, reply, &word);
                drop(ticket);
            }
            Job::Validate(asked_by, reply) => self.validate(asked_by, reply),
        }
    }

    fn validate(&mut self, asked_by: AskedBy, reply: Reply<()>) {
        self.hang_up(End::Orderly);
        self.shared.dialer.forget();
        let over = self.over.clone();
        let Shared { dialer, destination, .. } = &*self.shared;
        // Mail waits for this, and maybe a user.
        let patience = dialer.settings.timeout.min(PATIENCE_OF_A_QUESTION);
        let allowed = match asked_by {
            // No message could follow.
            AskedBy::Broker => destination.has_allowance(dialer.settings.rate),
            AskedBy::User { .. } => Ok(()),
        };
        let connected =
            allowed.and_then(|()| self.connect(asked_by, patience, &|| !is_closed(&over)));
        reply.send(connected);
    }

    fn send(&mut self, transmission: &Transmission, reply: Reply<Prepared>, word: &Receiver<Word>) {
        let Shared { dialer, destination, .. } = &*self.shared;
        let taken = destination.take(dialer.settings.rate, transmission.recipients.len());
        let begun =
            taken.and_then(|toll| Ok((toll, self.begin(transmission, &|| !is_closed(word))?)));
        let (mut toll, (Begun { accepted, refused }, form)) = match begun {
            Ok(begun) => begun,
            Err(error) => return reply.send(Err(error)),
        };
        if accepted.is_empty() {
            reply.send(Ok(Prepared { marker: String::new(), refused }));
            return self.reset();
        }
        let place = self.shared.dialer.settings.place();
        let dot = self.shared.dots.take();
        let marker = Marker { place: &place, mark: dot.as_ref().map(Dot::mark).copied() };
        reply.send(Ok(Prepared { marker: marker.to_string(), refused }));
        match word.recv() {
            Ok(reply) => {
                let taken = self.finish((transmission, &form), &accepted, dot.as_ref(), reply);
                toll.spend(taken);
            }
            Err(_) => self.reset(),
        }
    }

    fn begin(
        &mut self,
        transmission: &Transmission,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(Begun, Form)> {
        if !wanted() {
            return Err(unwanted());
        }
        let authors = &self.shared.dialer.settings.authors;
        let sender = authors.sender(&transmission.from);
        let looked_at = self.shared.read_message(transmission, |message| {
            let head = authors.head(message)?;
            let survey = Survey::of(head.with(message))?;
            Ok((head.new, survey))
        })?;
        let (authors, survey) = looked_at.map_err(|error| fault::unreadable(&error))?;
        let mut form = Form { authors, conversion: None };
        loop {
            let made = self.be_connected(wanted)?;
            let Some(line) = &mut self.line else { return Err(unwanted()) };
            let connection = &mut line.connection;
            let survey = self.shared.fit(&mut form, transmission, connection, survey)?;
            let error = match transaction::begin(connection, (transmission, &sender), &survey) {
                Ok(begun) => return Ok((begun, form)),
                Err(error) => error,
            };
            let told = error.clone().into_error(line.connection.place());
            let (stale, about) = match error {
                NotBegun::NotLoggedOn(_) => (false, About::Server),
                NotBegun::Broken(trouble) => (trouble.kind == Kind::Lost, About::Message),
                NotBegun::Closing(At::Sender, _) => (true, About::Server),
                NotBegun::Closing(At::Recipient, _) => (true, About::Message),
            };
            // A server may close what was not used for a while at any time. That is nobody's fault and no message's delay.
            let stale = stale && made == Made::Before;
            let failed = match about {
                About::Server if !stale => line.permit.failed(told, self.shared.dialer.trace()),
                About::Server | About::Message => Failed::Nothing(told),
            };
            self.hang_up(End::Lost);
            match failed {
                Failed::Nothing(_) if stale => {}
                // It waits until one of the other connections is free.
                Failed::Fewer => {}
                Failed::Down(error) | Failed::Nothing(error) => return Err(error),
            }
        }
    }

    fn be_connected(&mut self, wanted: &dyn Fn() -> bool) -> Result<Made> {
        if let Some(line) = &mut self.line {
            if line.connection.is_quiet() {
                return Ok(Made::Before);
            }
            self.hang_up(End::Lost);
        }
        let patience = self.shared.dialer.settings.timeout;
        self.connect(AskedBy::Broker, patience, wanted)?;
        Ok(Made::Now)
    }

    fn connect(
        &mut self,
        asked_by: AskedBy,
        patience: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<()> {
        loop {
            let mut permit = self.shared.permit(asked_by, wanted)?;
            if let AskedBy::User { .. } = asked_by {
                self.shared.dialer.look_again();
            }
            let error = match self.shared.dialer.dial(patience) {
                Ok(connection) => {
                    permit.works();
                    self.line = Some(Line { connection, permit });
                    return Ok(());
                }
                Err(error) => error,
            };
            match permit.failed(error, self.shared.dialer.trace()) {
                // It waits until one of the other connections is free.
                Failed::Fewer => {}
                Failed::Down(error) | Failed::Nothing(error) => return Err(error),
            }
        }
    }

    /// Hands the message over, and gives back how many of its recipients the server has it for, or may have it for.
    fn finish(
        &mut self,
        (transmission, form): (&Transmission, &Form),
        accepted: &[usize],
        dot: Option<&Dot>,
        reply: Word,
    ) -> usize {
        let Some(line) = &mut self.line else { return 0 };
        let connection = &mut line.connection;
        let finished = self.shared.read_message(transmission, |message| {
            form.with(message, |message| {
                transaction::finish(connection, message, accepted.len(), dot)
            })
        });
        let Finished { said, after } = finished.unwrap_or_else(|error| Finished {
            said: Said::OfAll(Outcome::Later, error.message),
            after: After::Unfinished,
        });
        let reports = connection.offer.has("DSN");
        let wants = transmission.report.notify.contains(Notify::SUCCESS);
        let sent = connection.dialect.sent(reports || !wants);
        let mut results = said.of(accepted);
        for result in results.iter_mut().filter(|result| result.outcome == Outcome::Sent) {
            result.outcome = sent;
        }
        let has_it = |result: &&RecipientResult| {
            result.outcome == sent || result.outcome == Outcome::Unknown
        };
        let taken = results.iter().filter(has_it).count();
        reply.send(Ok(results));
        match after {
            After::Clean => {}
            After::Unfinished => self.reset(),
            After::Broken => self.hang_up(End::Lost),
        }
        taken
    }

    /// Makes the connection good for another transaction.
    fn reset(&mut self) {
        if is_closed(&self.over) {
            // The server forgets what was begun when the connection closes.
            return self.hang_up(End::Orderly);
        }
        if self.line.as_mut().is_some_and(|line| !line.connection.reset()) {
            self.hang_up(End::Lost);
        }
    }
}

impl Shared {
    /// The right to one connection. Where the password was refused, it is looked up whether there is another one now.
    fn permit(&self, asked_by: AskedBy, wanted: &dyn Fn() -> bool) -> Result<Permit> {
        let Self { dialer, destination, .. } = self;
        let connections = dialer.settings.connections;
        let mut password = Password::NotLookedAt;
        loop {
            match destination.permit(connections, (asked_by, password), wanted) {
                Ok(permit) => return Ok(permit),
                Err(NoPermit::Refused(traces, _)) if dialer.has_another_password(&traces) => {
                    password = Password::Another;
                }
                Err(NoPermit::Down(error) | NoPermit::Refused(_, error)) => {
                    return Err(error.heard_before());
                }
                Err(NoPermit::Unwanted) => return Err(unwanted()),
            }
        }
    }

    /// Gives a message the form in which the server at the other end takes it, and says what the message is like then.
    fn fit(
        &self,
        form: &mut Form,
        transmission: &Transmission,
        connection: &Connection,
        mut survey: Survey,
    ) -> Result<Survey> {
        form.conversion = None;
        let wanted = form::wanted(&connection.offer);
        if !form::is_in_question(&survey, wanted) {
            return Ok(survey);
        }
        let facts = self.read_message(transmission, |message| form.with(message, form::facts))?;
        let facts = facts.map_err(|error| fault::unreadable(&error))?;
        form.conversion = form::choose(facts, wanted, connection.place(), &mut survey);
        if form.conversion.is_none() {
            return Ok(survey);
        }
        let survey = self.read_message(transmission, |message| {
            form.with(message, |message| Survey::of(message))
        })?;
        survey.map_err(|error| fault::unreadable(&error))
    }
}

fn is_closed<T>(channel: &Receiver<T>) -> bool {
    channel.is_empty() && channel.try_recv().is_err_and(|e| e == TryRecvError::Disconnected)
}

fn unwanted() -> ProviderError {
    ProviderError::new(Code::E_CANCEL, "it was called off")
}
