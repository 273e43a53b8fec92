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
use sundown_core::provider::{Outcome, ProviderError, Transmission};
use sundown_protocol::Code;

use super::body::Survey;
use super::connection::{Connection, Kind};
use super::crew::{Job, Shared, Word};
use super::destinations::{IfDown, NoPermit, Permit};
use super::dots::{Dot, Marker};
use super::form::{self, Form};
use super::transaction::{self, After, Begun, Finished, NotBegun, Said};
use crate::fault;
use crate::{Prepared, Reply, Result};

/// How long each answer may take when somebody wants to know whether the server works.
const SOMEBODYS_PATIENCE: Duration = Duration::from_secs(30);

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
            Job::Validate(reply) => self.validate(reply),
        }
    }

    fn validate(&mut self, reply: Reply<()>) {
        self.hang_up(End::Orderly);
        self.shared.dialer.forget();
        let over = self.over.clone();
        // Somebody waits for this.
        let patience = self.shared.dialer.settings.timeout.min(SOMEBODYS_PATIENCE);
        let connected = self.connect(IfDown::Try, patience, &|| !is_closed(&over));
        reply.send(connected);
    }

    fn send(&mut self, transmission: &Transmission, reply: Reply<Prepared>, word: &Receiver<Word>) {
        let begun = self.begin(transmission, &|| !is_closed(word));
        let (Begun { accepted, refused }, form) = match begun {
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
            Ok(reply) => self.finish((transmission, &form), &accepted, dot.as_ref(), reply),
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
        let survey = self.shared.read_message(transmission, |message| Survey::of(message))?;
        let survey = survey.map_err(|error| fault::unreadable(&error))?;
        loop {
            let made = self.be_connected(wanted)?;
            let Some(line) = &mut self.line else { return Err(unwanted()) };
            let (form, survey) = self.shared.form(transmission, &line.connection, survey)?;
            let error = match transaction::begin(&mut line.connection, transmission, &survey) {
                Ok(begun) => return Ok((begun, form)),
                Err(error) => error,
            };
            let told = error.clone().into_error(line.connection.place());
            let stale = match error {
                NotBegun::NotLoggedOn(_) => false,
                NotBegun::Broken(trouble) => trouble.kind == Kind::Lost,
                NotBegun::Closing(_) => true,
            };
            self.hang_up(End::Lost);
            // A server may close what was not used for a while at any time. That is nobody's fault and no message's delay.
            if made == Made::Now || !stale {
                return Err(told);
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
        self.connect(IfDown::GiveUp, patience, wanted)?;
        Ok(Made::Now)
    }

    fn connect(
        &mut self,
        if_down: IfDown,
        patience: Duration,
        wanted: &dyn Fn() -> bool,
    ) -> Result<()> {
        let Shared { dialer, destination, .. } = &*self.shared;
        let permit = destination.permit(dialer.settings.connections, if_down, wanted);
        let mut permit = permit.map_err(|why| match why {
            NoPermit::Down(error) => error,
            NoPermit::Unwanted => unwanted(),
        })?;
        let dialed = dialer.dial(patience);
        match &dialed {
            Ok(_) => permit.works(),
            Err(error) => permit.failed(error),
        }
        self.line = Some(Line { connection: dialed?, permit });
        Ok(())
    }

    fn finish(
        &mut self,
        (transmission, form): (&Transmission, &Form),
        accepted: &[usize],
        dot: Option<&Dot>,
        reply: Word,
    ) {
        let Some(line) = &mut self.line else { return };
        let connection = &mut line.connection;
        let finished = self.shared.read_message(transmission, |message| {
            transaction::finish(connection, form.of(message), accepted.len(), dot)
        });
        let Finished { said, after } = finished.unwrap_or_else(|error| Finished {
            said: Said::OfAll(Outcome::Later, error.message),
            after: After::Unfinished,
        });
        reply.send(Ok(said.of(accepted)));
        match after {
            After::Clean => {}
            After::Unfinished => self.reset(),
            After::Broken => self.hang_up(End::Lost),
        }
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
    /// The form in which the server at the other end takes a message, and what the message is like then.
    fn form(
        &self,
        transmission: &Transmission,
        connection: &Connection,
        mut survey: Survey,
    ) -> Result<(Form, Survey)> {
        let wanted = form::wanted(&connection.offer);
        if !form::is_in_question(&survey, wanted) {
            return Ok((Form::Stored, survey));
        }
        let facts = self.read_message(transmission, |message| form::facts(message))?;
        let facts = facts.map_err(|error| fault::unreadable(&error))?;
        let form = form::choose(facts, wanted, connection.place(), &mut survey);
        if matches!(form, Form::Stored) {
            return Ok((form, survey));
        }
        let survey = self.read_message(transmission, |message| Survey::of(form.of(message)))?;
        Ok((form, survey.map_err(|error| fault::unreadable(&error))?))
    }
}

fn is_closed<T>(channel: &Receiver<T>) -> bool {
    channel.is_empty() && channel.try_recv().is_err_and(|e| e == TryRecvError::Disconnected)
}

fn unwanted() -> ProviderError {
    ProviderError::new(Code::E_CANCEL, "it was called off")
}
