//! The threads that start programs and wait for them, so that the transport's own thread never waits for one.
//!
//! ```text
//!  given ─► waits for a free place ─► runs ─► its result is sent
//!             └─ the session ends: it is not started any more
//! ```
//!
//! A thread takes the next message when its program has ended, and ends when there is none.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use sundown_core::provider::{Outcome, RecipientResult};

use super::places::{NoPlace, Place};
use super::verdict::{Of, Said, judge};
use super::{Ready, cut_off};
use crate::Reply;
use crate::program::{self, Ended, Limit, Output, Programs};
use crate::smtp::{Dot, Fate, Leave};

/// How long a program may take to end that has been told to.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How long a message waits while other sessions have all places.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long an orderly end of the session waits for programs that were told to end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where programs look for others, if the broker has no `PATH`.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What a program sees of the broker's environment.
pub(super) const KEPT: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"];

/// What is said of a message for which no program is started any more.
const NOT_ANY_MORE: &str = "4.3.0 the session ended before the program was started";

/// A message to hand over, and the way back for its result.
pub(super) struct Run {
    /// The message.
    pub(super) ready: Ready,
    /// The way back.
    pub(super) reply: Reply<Vec<RecipientResult>>,
}

impl Run {
    /// Says that no program was started for it.
    fn not_started(self, why: String) {
        let (outcome, recipient) = (Outcome::Offline, self.ready.recipient);
        self.reply.send(Ok(vec![RecipientResult { recipient, outcome, reply: why }]));
    }
}

/// The programs of one session.
pub(super) struct Runs {
    name: String,
    shared: Arc<Shared>,
}

struct Shared {
    program: String,
    timeout: Duration,
    most: usize,
    place: Arc<Place>,
    programs: Programs,
    state: Mutex<State>,
    /// Stirred when a thread ends.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Run>,
    threads: usize,
}

/// Whether to wait for an orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// A little.
    Short,
    /// Not at all.
    None,
}

impl Runs {
    /// Those of a session, with so many programs at once.
    pub(super) fn new(
        name: &str,
        program: &str,
        timeout: Duration,
        (most, place): (usize, &Arc<Place>),
    ) -> Self {
        let shared = Shared {
            program: program.to_owned(),
            timeout,
            most,
            place: Arc::clone(place),
            programs: Programs::default(),
            state: Mutex::default(),
            ended: Condvar::new(),
        };
        Self { name: name.to_owned(), shared: Arc::new(shared) }
    }

    /// Has a program started for a message, as soon as there is a place.
    pub(super) fn give(&self, run: Run) {
        let mut state = self.shared.state();
        state.waiting.push_back(run);
        if state.threads == self.shared.most {
            return;
        }
        state.threads += 1;
        let shared = Arc::clone(&self.shared);
        let spawned =
            thread::Builder::new().name(format!("pipe {}", self.name)).spawn(move || shared.work());
        let Err(error) = spawned else { return };
        state.threads -= 1;
        // Another thread comes to it.
        if state.threads > 0 {
            return;
        }
        let refused = state.waiting.pop_back();
        drop(state);
        if let Some(run) = refused {
            run.not_started(format!("4.3.0 no thread for transport {}: {error}", self.name));
        }
    }

    /// Ends the session: what waits is not started, and what runs is ended.
    pub(super) fn close(self, patience: Patience) {
        let Shared { programs, .. } = &*self.shared;
        let waiting = std::mem::take(&mut self.shared.state().waiting);
        for run in waiting {
            run.not_started(NOT_ANY_MORE.to_owned());
        }
        if patience == Patience::Short {
            programs.end(Signal::TERM);
            self.shared.place.stir();
            let state = self.shared.state();
            let running = |state: &mut State| state.threads > 0;
            drop(self.shared.ended.wait_timeout_while(state, FAREWELL, running));
        }
        programs.end(Signal::KILL);
        self.shared.place.stir();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(run) = self.next() {
            // What panicked has lost its way back, which tells that the call has failed.
            let _ = catch_unwind(AssertUnwindSafe(|| self.perform(run)));
        }
    }

    fn next(&self) -> Option<Run> {
        let mut state = self.state();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.threads -= 1;
            self.ended.notify_all();
        }
        next
    }

    fn perform(&self, Run { ready, reply }: Run) {
        let Ready { recipient, arguments, envelope, message, dot, taken } = ready;
        let mut command = program::command(&self.program);
        command.args(arguments).stdin(message).current_dir("/");
        set_environment(&mut command, envelope);
        let (outcome, words) = self.hand_over(command, dot.as_ref());
        let outcome = if outcome == Outcome::Sent { taken } else { outcome };
        reply.send(Ok(vec![RecipientResult { recipient, outcome, reply: words }]));
        // Until here the slot of the attempt says what became of it.
        drop(dot);
    }

    fn hand_over(&self, command: Command, dot: Option<&Dot>) -> (Outcome, String) {
        let wanted = || !self.programs.are_ended();
        let _place = match self.place.take(self.most, PATIENCE, wanted) {
            Ok(place) => place,
            Err(NoPlace::Unwanted) => return (Outcome::Offline, NOT_ANY_MORE.to_owned()),
            Err(NoPlace::TooLong) => {
                let (program, most) = (&self.program, self.most);
                let words = format!("4.3.2 other sessions have all {most} places for {program}");
                return (Outcome::Offline, words);
            }
        };
        let _leave = match Leave::take(dot) {
            Ok(leave) => leave,
            Err(why) => return (Outcome::Later, format!("4.3.0 {why}")),
        };
        let mut said = Said::default();
        let limit = Limit { time: self.timeout, grace: GRACE };
        let mut take = |piece: &[u8]| said.take(piece);
        let ended = self.programs.run(command, limit, Output::Both(&mut take));
        let of = Of { program: &self.program, timeout: self.timeout };
        let (outcome, words) = if self.was_ended(&ended) {
            (Outcome::Unknown, cut_off(&self.program))
        } else {
            judge(of, &ended, &said)
        };
        let fate = match outcome {
            Outcome::Sent => Some(Fate::Sent),
            Outcome::Unknown => None,
            _ => Some(Fate::NotSent),
        };
        if let (Some(dot), Some(fate)) = (dot, fate) {
            dot.answered(fate);
        }
        (outcome, words)
    }

    /// Whether a program was ended with its session, before it had done what it does.
    fn was_ended(&self, ended: &io::Result<Ended>) -> bool {
        match ended {
            Ok(Ended::With(status)) => !status.success() && self.programs.are_ended(),
            Ok(Ended::TooLong) => self.programs.are_ended(),
            Ok(Ended::Lost(_)) | Err(_) => false,
        }
    }
}

/// A clean environment: some of the broker's, and the envelope.
fn set_environment(command: &mut Command, envelope: [(&'static str, String); 2]) {
    command.env_clear().env("PATH", PATH);
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(envelope);
}
