//! Time limits for provider calls, and what happens when they expire.
//!
//! | what waits | how long | what happens then |
//! |---|---|---|
//! | a request that asks something | [`ASKED`] | it is told that the provider did not answer, and nothing goes on |
//! | a request that changes something | [`ASKED`] | it is told that the outcome is unknown; the change goes on when the provider answers |
//! | a message that a transport prepares, hands over or recovers | what the transport says, and a second for each KiB | the transport's worker is left behind |
//! | a message whose intent is being stored | [`ASKED`] | it gives up its place with the transport, and is not handed over |
//! | a question to an address book that has begun | [`HANGS`] | the address book's worker is left behind |
//! | a call that tells a mailbox something and has begun | [`HANGS`] | the mailbox's worker is left behind |
//! | the logoff of a provider that the profile does not have any more | [`HANGS`] | its worker is left behind |
//! | a provider that is being renewed | [`RENEWED`] | the renewal fails, as if the provider had answered so |
//!
//! Logons, logoffs and fast shutdowns have their own time limits, and so does the check whether a transport can be reached. The
//! broker's own calls of a store have none: a store cannot be left behind, and the broker can do nothing without it.
//!
//! A call that is given up stays in its lane and with its payer until the provider answers. A change is never taken back, because
//! it may be done at any time. Every few seconds [`Event::Look`](crate::Event::Look) has the calls checked.

use std::time::Duration;

use sundown_protocol::{Code, Fault};

use crate::broker::Broker;
use crate::flows::sending::changes::Flush;
use crate::ground::event::{Behalf, CallId, Effect, Turn};
use crate::ground::provider::{ProviderError, ProviderType};
use crate::peers::connection::{Asker, Hears};
use crate::providers::calls::Call;
use crate::providers::lanes::Lanes;
use crate::providers::patience::Patience;
use crate::then::{
    AfterAddress, AfterDone, AfterFolders, AfterLogon, AfterPiece, AfterSave, AfterSubmission,
    AfterUpdate, Copying, Then,
};

/// How long a request waits for a provider.
const ASKED: Duration = Duration::from_secs(60);

/// How long an address book may take for one question, and a mailbox to be told something, before its worker is left behind.
const HANGS: Duration = Duration::from_secs(300);

/// How long a provider may take to be renewed.
const RENEWED: Duration = Duration::from_secs(30);

/// The lowest speed of a message, in bytes a second. A transport has this much more time for a long message.
const SLOWEST: u64 = 1 << 10;

/// What is done with a call whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The request is answered.
    Request,
    /// The flight no longer waits for its intent.
    Mark(u64),
    /// The worker is left behind.
    Worker,
    /// The renewal of a provider fails.
    Renewal,
}

impl Broker {
    /// Ends the wait for calls whose time is over.
    #[cold]
    pub(crate) fn look_at_calls(&mut self, turn: &mut Turn) {
        let now = turn.tick.boot;
        let Self { providers, queues, sessions, .. } = self;
        let patience = |flight: &u64| {
            let flight = queues.flights.get(flight)?;
            let for_size = Duration::from_secs(flight.size(&queues.engines) / SLOWEST);
            let (session, place) = flight.view();
            let longest = sessions.all.get(&session)?.providers.get(place)?.longest;
            Some(longest.saturating_add(for_size))
        };
        let (calls, lanes) = providers.calls_mut();
        let mut over: Vec<_> = calls
            .filter_map(|(id, call)| Some((id, is_over(id, call, now, lanes, patience)?)))
            .collect();
        over.sort_unstable_by_key(|(call, _)| *call);
        let mut said = Vec::new();
        for (call, over) in over {
            // The handling of an earlier call may have ended this one.
            let Some(lane) = self.providers.get(call).map(|c| c.lane) else { continue };
            // The log gets one line for each worker, however many calls wait for it.
            if !said.contains(&lane) {
                said.push(lane);
                self.note_hanging(call, turn);
            }
            match over {
                Over::Request => self.give_up_request(call, turn),
                Over::Mark(flight) => self.give_up_mark(call, flight),
                Over::Worker => self.leave_worker(call, turn),
                Over::Renewal => self.give_up_renewal(call, turn),
            }
        }
    }

    /// Reports in the log and in `status` that a provider does not answer.
    fn note_hanging(&mut self, id: CallId, turn: &mut Turn) {
        let call = self.providers.get(id).expect("looked at just before");
        let (lane, session, name) = (call.lane, call.session, call.name);
        let (since, errand) = (call.since, call.errand);
        let Some(provider_type) = self.providers.provider_type(lane) else { return };
        let provider = self.providers.provider_name(lane).to_owned();
        if let Some(view) = self.provider_at(session, lane) {
            view.late = Some(name);
        }
        let (correlation, entry) = (errand.correlation, errand.entry);
        let behalf = Box::new(Behalf { session, pid: None, correlation, entry });
        let waited = turn.tick.boot.saturating_sub(since);
        turn.emit(Effect::Hangs { provider, provider_type, call: name, waited, behalf });
    }

    /// Answers a request whose provider does not answer. What it asked for may go on.
    fn give_up_request(&mut self, id: CallId, turn: &mut Turn) {
        let call = self.providers.get_mut(id).expect("looked at just before");
        let (lane, name) = (call.lane, call.name);
        let question = call.waits == Patience::Question;
        call.waits = call.waits.over();
        let seconds = ASKED.as_secs();
        let provider = self.providers.provider_name(lane);
        if !question {
            let message = format!(
                "{provider}: no answer to {name} within {seconds} s; it is not known whether it was done, and it may be done later"
            );
            return self.tell_waiting(id, Fault::new(Code::E_TIMEOUT, message), turn);
        }
        let message = format!("{provider}: no answer to {name} within {seconds} s");
        if let Some(call) = self.providers.take_back(id) {
            let error = ProviderError::new(Code::E_TIMEOUT, message);
            return self.forget_call(call, error, turn);
        }
        self.tell_waiting(id, Fault::new(Code::E_TIMEOUT, message), turn);
    }

    /// Answers the request that waits for a call. The request still counts, and its bytes stay charged, until the provider has
    /// answered.
    fn tell_waiting(&mut self, id: CallId, fault: Fault, turn: &mut Turn) {
        let then = &mut self.providers.get_mut(id).expect("looked at just before").then;
        let Some(asker) = then.asker() else { return };
        let Asker { connection, request, .. } = *asker;
        if std::mem::replace(&mut asker.hears, Hears::Nothing) == Hears::Answer
            && self.peers.connections.contains_key(&connection)
        {
            turn.emit(Effect::Answer { connection, request, result: Err(fault) });
        }
    }

    /// Fails a call that was never begun.
    fn forget_call(&mut self, call: Call<Then>, error: ProviderError, turn: &mut Turn) {
        self.settle_view(call.session, call.lane);
        turn.errand = call.errand;
        self.go_on(call.then, Err(error), turn);
        if let Some(session) = call.session {
            self.advance_phase(session, turn);
        }
    }

    /// Fails the questions of a process without connections that no worker has begun.
    #[cold]
    pub(crate) fn forget_questions(&mut self, questions: Vec<Call<Then>>, turn: &mut Turn) {
        for call in questions {
            let message = "the process that asked has gone";
            self.forget_call(call, ProviderError::new(Code::E_CANCEL, message), turn);
        }
    }

    fn give_up_mark(&mut self, id: CallId, flight: u64) {
        let call = self.providers.get_mut(id).expect("looked at just before");
        call.waits = call.waits.over();
        self.delay_flight(flight);
    }

    /// Fails the renewal of a provider that does not answer. A provider that is not a store gets another worker.
    fn give_up_renewal(&mut self, id: CallId, turn: &mut Turn) {
        let lane = self.providers.get(id).expect("looked at just before").lane;
        if self.providers.provider_type(lane) != Some(ProviderType::Store) {
            return self.leave_worker(id, turn);
        }
        let call = self.providers.get_mut(id).expect("looked at just before");
        call.waits = call.waits.over();
        let then = std::mem::replace(&mut call.then, Then::Done(AfterDone::Nothing));
        let message = format!("it was not made anew within {} s", RENEWED.as_secs());
        self.go_on(then, Err(ProviderError::new(Code::E_TIMEOUT, message)), turn);
    }
}

/// What is to be done with a call if its time is over.
pub(crate) fn is_over(
    id: CallId,
    call: &mut Call<Then>,
    now: Duration,
    lanes: &Lanes,
    patience: impl Fn(&u64) -> Option<Duration>,
) -> Option<Over> {
    let waited = now.saturating_sub(call.since);
    if waited < RENEWED {
        return None;
    }
    let waits = !call.waits.is_over();
    match &mut call.then {
        Then::Prepared(flight) | Then::Results(flight) => {
            // A flight that was taken from its transport has no time of its own.
            (waited >= patience(flight).unwrap_or(HANGS)).then_some(Over::Worker)
        }
        Then::Updated(AfterUpdate::Marked(flight, _)) => {
            (waits && waited >= ASKED).then_some(Over::Mark(*flight))
        }
        Then::Ready(AfterLogon::Renewed(..)) => Some(Over::Renewal),
        then => {
            if waits && waited >= ASKED && then.asker().is_some() {
                return Some(Over::Request);
            }
            // A look at everything may take a mailbox longer.
            let answers_soon = match lanes.provider_type(call.lane) {
                Some(ProviderType::AddressBook) => true,
                Some(ProviderType::Mailbox) => {
                    !matches!(then, Then::Done(AfterDone::Validated(..)))
                }
                Some(ProviderType::Transport | ProviderType::Store) | None => false,
            };
            // The logoff of a closing session has the session's time.
            let leaves = matches!(then, Then::Done(AfterDone::LoggedOff(..)));
            let begun = lanes.has_begun(call.lane, id);
            ((answers_soon || leaves) && waited >= HANGS && begun).then_some(Over::Worker)
        }
    }
}

impl Then {
    /// The request that waits for the answer, if there is one.
    fn asker(&mut self) -> Option<&mut Asker> {
        match self {
            Self::Done(AfterDone::AddressRemoved(asker, _) | AfterDone::Validated(asker, ..))
            | Self::Saved(
                AfterSave::Saved { asker, .. }
                | AfterSave::Filed { asker, .. }
                | AfterSave::Copied(Copying { asker, .. }),
            )
            | Self::Folders(AfterFolders::Listed(asker) | AfterFolders::Opened { asker, .. })
            | Self::Contents(asker)
            | Self::Hits(asker)
            | Self::Setting(asker)
            | Self::Messages(asker)
            | Self::Addresses(asker)
            | Self::OneSubmission(
                AfterSubmission::Shown { asker, .. } | AfterSubmission::Identified { asker, .. },
            )
            | Self::Piece(AfterPiece::Identified(asker))
            | Self::Address(AfterAddress::Added(asker, _)) => Some(asker),
            Self::Updated(AfterUpdate::EntryChanged(wish))
            | Self::OneSubmission(AfterSubmission::Wanted(wish)) => Some(&mut wish.asker),
            Self::Submitted(in_flight) => in_flight.asker.as_mut(),
            Self::Appended(after) => Some(&mut after.asker),
            Self::Hastened(flushing) => match &mut flushing.whose {
                Flush::All { asker, .. } => Some(asker),
                Flush::Store => None,
            },
            Self::Removed(after) => Some(&mut after.asker),
            Self::Flagged(after) | Self::Moved(after) => Some(&mut after.asker),
            Self::FolderMade(after) | Self::Done(AfterDone::FolderChanged(after)) => {
                Some(&mut after.asker)
            }
            Self::Found(after) => Some(&mut after.asker),
            Self::Done(AfterDone::Fetched(after)) => Some(after.wanted.asker()),
            Self::Synced(after) => Some(&mut after.asker),
            Self::Piece(AfterPiece::Read(reading)) => Some(&mut reading.asker),
            Self::Queue(listing) => Some(&mut listing.asker),
            Self::Address(AfterAddress::Resolved(resolving)) => Some(&mut resolving.asker),
            Self::Done(_)
            | Self::Shutdown(_)
            | Self::Ready(_)
            | Self::Saved(_)
            | Self::Updated(_)
            | Self::Due(_)
            | Self::OneSubmission(_)
            | Self::Oldest(_)
            | Self::Prepared(_)
            | Self::Results(_) => None,
        }
    }
}
