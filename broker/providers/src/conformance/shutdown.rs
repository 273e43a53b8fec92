//! What every type of provider owes a process that leaves, and the processes beside it.
//!
//! A provider may fail after the Do of one process, cleanly: the broker logs it on again. Until then nothing that it was
//! handed may be lost.

use crate::{LeavingProcess, ProviderShutdown, Result};

use super::runner::{Check, Steps, Verdict, broken};
use super::{
    ANSWER_HOLDS, CALLED_SEVERAL_TIMES, LOGON_AGAIN, NEIGHBOURS_UNAFFECTED, NO_DATA_LOSS,
    NORMAL_SHUTDOWN, NOTIFY_ANY_TIME, NOTIFY_KEEPS_SAVING, QUERY_ONLY_ASKS, STORE_IS_OPERATIONAL,
    Sentence, WORKS,
};

/// How one use of a provider ended; an error in words.
pub(super) type Used = std::result::Result<(), String>;

/// A provider object and what it was handed.
pub(super) trait Subject: Send {
    /// Makes a new object over the same data, after the old one was dropped.
    fn renew(&mut self) -> Result<()>;

    /// Calls the provider's logon.
    fn logon(&mut self) -> Result<()>;

    /// Calls the provider's logoff.
    fn logoff(&mut self) -> Result<()>;

    /// The shutdown interface.
    fn interface(&mut self) -> Option<&mut dyn ProviderShutdown>;

    /// Whether it promises to have nothing to save.
    fn has_nothing_to_save(&self) -> bool;

    /// Uses it as a process does, and reads back what that changed.
    fn work(&mut self) -> Used;

    /// Hands something over that need not be finished when this returns.
    fn hand_over(&mut self) -> Used;

    /// Looks for everything that was handed over.
    fn is_kept(&mut self) -> Used;

    /// Looks for it with a second object while this one is there, where the provider allows two.
    fn is_kept_beside(&mut self) -> Used {
        Ok(())
    }

    /// Whether it keeps what it is handed in files of its own: notices of a process may not stop it from saving.
    fn is_primary_store(&self) -> bool {
        false
    }
}

/// The checks of the shutdown interface.
pub(super) fn checks<S: Subject>() -> Vec<Check<S>> {
    vec![
        Check { name: "works without a shutdown", run: works },
        Check { name: "the first answer holds", run: first_answer_holds },
        Check { name: "a query changes nothing", run: query_changes_nothing },
        Check {
            name: "life goes on after a notice",
            run: |s, t| after_notice(s, t, Asked::Before),
        },
        Check { name: "a notice needs no query", run: |s, t| after_notice(s, t, Asked::Never) },
        Check { name: "a do leaves other processes alone", run: do_leaves_others_alone },
        Check { name: "nothing is lost by a do", run: do_loses_nothing },
        Check { name: "what was not finished outlives a do", run: unfinished_outlives_a_do },
        Check { name: "a do may come twice", run: do_comes_twice },
        Check { name: "a logoff and a logon follow a do", run: normal_shutdown_follows_a_do },
        Check { name: "a logon follows a logoff", run: logon_follows_logoff },
    ]
}

/// Whether a check asks Query first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Before,
    Never,
}

/// The process that leaves, and the one that stays. They share a session.
#[derive(Debug, Clone, Copy)]
enum Who {
    Leaves,
    Stays,
}

impl Who {
    fn process(self) -> LeavingProcess {
        let own = std::process::id();
        let pid = if matches!(self, Self::Leaves) { own } else { own + 1 };
        LeavingProcess { pid, session: 1 }
    }
}

/// A subject, with every call noted.
struct Exam<'a, S> {
    subject: &'a mut S,
    steps: &'a Steps,
}

/// What a provider says to Query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stance {
    Supports,
    Refuses,
    Unaware,
}

impl<'a, S: Subject> Exam<'a, S> {
    /// A subject that was logged on and used.
    fn begin(
        subject: &'a mut S,
        steps: &'a Steps,
    ) -> std::result::Result<Self, super::runner::Broken> {
        let mut exam = Self { subject, steps };
        exam.logon(WORKS)?;
        exam.work(WORKS)?;
        Ok(exam)
    }

    fn logon(&mut self, sentence: Sentence) -> Verdict {
        self.steps.note("logon");
        self.subject.logon().or_else(|error| broken(sentence, format!("the logon fails: {error}")))
    }

    /// An error of a logoff changes nothing (PLOG-5).
    fn logoff(&mut self) {
        self.steps.note("logoff");
        let _ = self.subject.logoff();
    }

    fn work(&mut self, sentence: Sentence) -> Verdict {
        self.steps.note("work");
        self.subject.work().or_else(|why| broken(sentence, why))
    }

    fn is_kept(&mut self, sentence: Sentence) -> Verdict {
        self.steps.note("look for what was handed over");
        self.subject.is_kept().or_else(|why| broken(sentence, why))
    }

    fn query(&mut self) -> Stance {
        self.steps.note("query");
        match self.subject.interface().map(ProviderShutdown::query_fast_shutdown) {
            Some(Ok(())) => Stance::Supports,
            Some(Err(_)) => Stance::Refuses,
            None => Stance::Unaware,
        }
    }

    /// Gives notice. Its error stops no shutdown.
    fn notify(&mut self, who: Who) {
        self.steps.note(format!("notify ({who:?})"));
        if let Some(interface) = self.subject.interface() {
            let _ = interface.notify_process_shutdown(who.process());
        }
    }

    /// Whether the process may end now. A provider without the interface is not asked, and the process leaves by a
    /// logoff.
    fn does(&mut self, who: Who) -> bool {
        self.steps.note(format!("do ({who:?})"));
        let done = self.subject.interface().map(|i| i.do_fast_shutdown(who.process()));
        matches!(done, Some(Ok(())))
    }

    /// Another process uses the provider, now or after a new logon, and finds what was handed over.
    fn others_go_on(&mut self, sentence: Sentence) -> Verdict {
        if self.work(sentence).is_err() {
            self.steps.note("(it fails)");
            self.logoff();
            self.logon(sentence)?;
            self.work(sentence)?;
        }
        self.is_kept(NO_DATA_LOSS)
    }
}

fn works<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    exam.is_kept(WORKS)?;
    exam.logoff();
    Ok(())
}

/// SEED-17: also after other calls, in another session and after another process's Do.
fn first_answer_holds<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    let first = exam.query();
    if exam.subject.has_nothing_to_save() && first != Stance::Supports {
        let found =
            format!("it says that it has nothing to save, and its answer to Query is: {first:?}");
        return broken(ANSWER_HOLDS, found);
    }
    let later: [fn(&mut Exam<'_, S>); 6] = [
        |_| {},
        |exam| drop(exam.subject.work()),
        |exam| exam.notify(Who::Leaves),
        |exam| {
            exam.does(Who::Leaves);
        },
        |exam| drop(exam.subject.work()),
        |exam| {
            exam.logoff();
            drop(exam.subject.logon());
        },
    ];
    for happens in later {
        happens(&mut exam);
        let now = exam.query();
        if now != first {
            return broken(
                ANSWER_HOLDS,
                format!("the first answer is {first:?}, a later one {now:?}"),
            );
        }
    }
    Ok(())
}

/// SEED-12: the process that asks need not leave.
fn query_changes_nothing<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    exam.query();
    exam.work(QUERY_ONLY_ASKS)?;
    exam.query();
    exam.is_kept(QUERY_ONLY_ASKS)?;
    exam.work(QUERY_ONLY_ASKS)
}

/// SEED-13, SEED-19: whatever Query said, and although the notice is repeated. A store goes on saving without a new
/// logon, because that is what it is told to keep.
fn after_notice<S: Subject>(subject: &mut S, steps: &Steps, asked: Asked) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    if asked == Asked::Before {
        exam.query();
    }
    exam.notify(Who::Leaves);
    if exam.subject.is_primary_store() {
        exam.work(NOTIFY_KEEPS_SAVING)?;
    }
    exam.notify(Who::Leaves);
    exam.notify(Who::Stays);
    if exam.subject.is_primary_store() {
        exam.work(STORE_IS_OPERATIONAL)?;
    }
    exam.others_go_on(NOTIFY_ANY_TIME)?;
    exam.logoff();
    exam.logon(NORMAL_SHUTDOWN)?;
    exam.is_kept(NO_DATA_LOSS)
}

/// SEED-9: whether it succeeds or fails.
fn do_leaves_others_alone<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    exam.query();
    exam.notify(Who::Leaves);
    exam.does(Who::Leaves);
    exam.others_go_on(NEIGHBOURS_UNAFFECTED)?;
    exam.does(Who::Stays);
    exam.others_go_on(NEIGHBOURS_UNAFFECTED)
}

/// SEED-20: a process that ends at once after a Do, and a broker that does, too.
fn do_loses_nothing<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    if exam.does(Who::Leaves) {
        all_is_kept_by_another(&mut exam)?;
    }
    Ok(())
}

/// SEED-20: what a store was handed without a sync, and a message that a transport has prepared.
fn unfinished_outlives_a_do<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    exam.steps.note("hand over, unfinished");
    exam.subject.hand_over().or_else(|why| broken(WORKS, why))?;
    if exam.does(Who::Leaves) {
        all_is_kept_by_another(&mut exam)?;
    }
    Ok(())
}

fn all_is_kept_by_another<S: Subject>(exam: &mut Exam<'_, S>) -> Verdict {
    exam.steps.note("look for what was handed over with a second object");
    exam.subject.is_kept_beside().or_else(|why| broken(NO_DATA_LOSS, why))?;
    exam.steps.note("drop");
    exam.subject.renew().or_else(|error| broken(LOGON_AGAIN, format!("no new object: {error}")))?;
    exam.logon(NO_DATA_LOSS)?;
    exam.is_kept(NO_DATA_LOSS)
}

/// SEED-18: for each store that it serves, and again for a process that asks twice.
fn do_comes_twice<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    exam.does(Who::Leaves);
    exam.does(Who::Leaves);
    exam.others_go_on(CALLED_SEVERAL_TIMES)?;
    all_is_kept_by_another(&mut exam)
}

/// SEED-19: the session ends after the process that left.
fn normal_shutdown_follows_a_do<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    exam.notify(Who::Leaves);
    exam.does(Who::Leaves);
    exam.logoff();
    exam.logon(NORMAL_SHUTDOWN)?;
    exam.work(NORMAL_SHUTDOWN)?;
    exam.is_kept(NO_DATA_LOSS)
}

fn logon_follows_logoff<S: Subject>(subject: &mut S, steps: &Steps) -> Verdict {
    let mut exam = Exam::begin(subject, steps)?;
    exam.logoff();
    exam.logon(LOGON_AGAIN)?;
    exam.work(LOGON_AGAIN)?;
    exam.is_kept(LOGON_AGAIN)
}
