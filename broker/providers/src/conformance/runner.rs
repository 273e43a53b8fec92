//! Runs each check on a thread of its own, so that a panic or a call that does not return is a finding.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::{ALWAYS_ANSWERS, NEVER_PANICS, Report, Sentence, Violation};

/// One check of a kind of subject.
pub(super) struct Check<S> {
    pub(super) name: &'static str,
    pub(super) run: fn(&mut S, &Steps) -> Verdict,
}

/// What a check found.
pub(super) type Verdict = std::result::Result<(), Broken>;

/// A sentence that does not hold.
pub(super) struct Broken {
    sentence: Sentence,
    what: String,
}

/// Says that a sentence does not hold.
pub(super) fn broken<T>(
    sentence: Sentence,
    what: impl Into<String>,
) -> std::result::Result<T, Broken> {
    Err(Broken { sentence, what: what.into() })
}

/// The calls that a check has made, for people who read what it found.
#[derive(Clone, Default)]
pub(super) struct Steps(Arc<Mutex<Vec<String>>>);

impl Steps {
    /// Notes a call before it is made.
    pub(super) fn note(&self, step: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step.into());
    }

    fn told(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join(", ")
    }
}

/// Runs checks one after the other.
pub(super) struct Runner {
    pub(super) report: Report,
    deadline: Duration,
    hangs: bool,
}

impl Runner {
    pub(super) fn new(deadline: Duration) -> Self {
        Self { report: Report::default(), deadline, hangs: false }
    }

    /// Runs a check, unless an earlier one hangs.
    pub(super) fn run<S: Send + 'static>(&mut self, check: &Check<S>, mut subject: S) {
        if self.hangs {
            return;
        }
        self.report.checks.push(check.name);
        let (run, steps) = (check.run, Steps::default());
        let noted = steps.clone();
        let (done, verdict) = bounded(1);
        thread::spawn(move || {
            let verdict = catch_unwind(AssertUnwindSafe(|| run(&mut subject, &noted)));
            // Dropping it is a call, too.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(subject)));
            let panicked = |panic: Box<dyn Any + Send>| {
                broken(NEVER_PANICS, format!("panics: {}", words(&*panic)))
            };
            let verdict = verdict.unwrap_or_else(panicked);
            let _ = done.send(verdict.and(dropped.or_else(panicked)));
        });
        let verdict = verdict.recv_timeout(self.deadline).unwrap_or_else(|_| {
            self.hangs = true;
            broken(
                ALWAYS_ANSWERS,
                format!("no answer in {:?}; no further check was run", self.deadline),
            )
        });
        if let Err(Broken { sentence, what }) = verdict {
            let found = format!("after {}: {what}", steps.told());
            self.report.violations.push(Violation { check: check.name, sentence, found });
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
