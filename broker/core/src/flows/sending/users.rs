//! Submissions that wait until the system has said which of their recipients are users of this host (`local_users = "system"`).
//!
//! The directory that knows the users may be far away, so it is asked outside of the core. Until its answer the submission counts as one
//! that its store is writing: a flush, a logoff, a fast shutdown and a stop of the broker wait for it. It is answered, and so accepted, only
//! then, whatever durability was asked for.
//!
//! ```text
//!  submit ─► counted ─all recipients known─────────────────────► store
//!               └─FindUsers─► asking ─found─► all known ───────► store
//!                                └─not found, or no answer─► refused, nothing was stored
//! ```

use std::collections::BTreeSet;

use sundown_protocol::{Code, Fault, SessionId};

use crate::broker::Broker;
use crate::flows::sending::submit::{Counted, InFlight, Way, queued};
use crate::ground::event::{Effect, Errand, QuestionId, Turn};
use crate::ground::local::{Expanded, Found};
use crate::providers::calls::Caller;
use crate::queue::engine::Engine;
use crate::sessions::session::Session;

/// A submission whose question is not answered.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Asking {
    counted: Counted,
    /// As the client named them.
    recipients: Vec<String>,
    session: SessionId,
    errand: Errand,
}

impl Asking {
    pub(crate) fn new(
        counted: Counted,
        recipients: Vec<String>,
        session: SessionId,
        turn: &Turn,
    ) -> Self {
        Self { counted, recipients, session, errand: turn.errand }
    }
}

impl Broker {
    /// Asks for the names that a submission must know.
    pub(crate) fn find_users(&mut self, names: BTreeSet<String>, asking: Asking, turn: &mut Turn) {
        let question = QuestionId(self.number());
        self.asking.insert(question, asking);
        turn.emit(Effect::FindUsers { question, names: names.into_iter().collect() });
    }

    /// Goes on with the submission that asked.
    pub(crate) fn users_found(
        &mut self,
        question: QuestionId,
        result: Result<Found, Fault>,
        turn: &mut Turn,
    ) {
        let Some(asking) = self.asking.remove(&question) else { return };
        let Asking { mut counted, recipients, session, errand } = asking;
        turn.errand = errand;
        let routed = result.and_then(|found| {
            let way = Way::of_submission(&counted.submission);
            self.routed_now(session, recipients, way, &found)
        });
        // A session that closes may have logged off its store, which the broker itself may keep open.
        let holds = self.sessions.all.get(&session).is_some_and(Session::may_send);
        match routed.and_then(|to| self.check_open(&counted.in_flight, holds).map(|()| to)) {
            Ok(to) => {
                counted.submission.recipients = to.into_iter().map(queued).collect();
                if !holds {
                    counted.caller.session = None;
                }
                self.give_to_store(counted, turn);
            }
            Err(fault) => self.refuse_counted(&counted.in_flight, fault, turn),
        }
    }

    fn routed_now(
        &self,
        session: SessionId,
        recipients: Vec<String>,
        way: Way<'_>,
        found: &Found,
    ) -> Result<Vec<String>, Fault> {
        let session = self.sessions.all.get(&session).ok_or_else(over)?;
        match self.routed(session.profile(), recipients, way, Some(found))? {
            Expanded::To(recipients) => Ok(recipients),
            Expanded::Ask(names) => {
                let message = format!("it is not known whether {names:?} are users of this host");
                Err(Fault::new(Code::E_BUSY, message))
            }
        }
    }

    /// Its store may have been closed or lost meanwhile. If its session holds the store, that is enough.
    fn check_open(&self, in_flight: &InFlight, holds: bool) -> Result<(), Fault> {
        let is_open = if holds { Engine::may_be_asked } else { Engine::is_open };
        let engine = self.queues.engines.get(&in_flight.engine);
        if engine.is_some_and(is_open) { Ok(()) } else { Err(over()) }
    }

    /// Refuses a submission that its store never saw.
    fn refuse_counted(&mut self, in_flight: &InFlight, fault: Fault, turn: &mut Turn) {
        self.uncount(in_flight);
        if let Some(upload) = in_flight.upload {
            self.discard_from(Some(in_flight.engine), Caller::broker(None), upload, turn);
        }
        if let Some(asker) = in_flight.asker {
            self.answer(asker, Err(fault), turn);
        }
        self.written(in_flight.member, turn);
        self.written_of(in_flight.process, turn);
    }
}

fn over() -> Fault {
    Fault::new(Code::E_CANCEL, "the session or its store was closed before the message was stored")
}
