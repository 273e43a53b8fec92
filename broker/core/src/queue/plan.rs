//! Plans one message: which of a session's transports get which recipients, and which recipients are given up.
//!
//! Planning changes nothing. A plan depends on the message, the session's profile and its view of its transports.

use sundown_protocol::SessionId;
use sundown_protocol::reply::SubmissionState;

use crate::ground::provider::{Outcome, ProviderType, Recipient, RecipientResult, Submission};
use crate::ground::settings::Profile;
use crate::providers::view::{Provider, ProviderState};
use crate::queue::age::Clocks;
use crate::queue::settle::nobody_sent;

/// The enhanced status code of a recipient that is given up with an unknown outcome: bad connection (RFC 3463).
const UNKNOWN_STATUS: &str = "4.4.2";

/// What decides in a session where a message goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) session: SessionId,
    pub(crate) profile: &'a Profile,
    pub(crate) providers: &'a [Provider],
}

/// What to do with one message.
pub(crate) struct Plan {
    pub(crate) session: SessionId,
    /// For each transport, by its place among the session's providers, the recipients it takes.
    pub(crate) groups: Vec<(usize, Vec<usize>)>,
    /// Recipients that no transport takes, and their results.
    pub(crate) lost: Vec<RecipientResult>,
    /// Whether a transport for some of them is disabled.
    pub(crate) disabled: bool,
    /// A transport that has no room at all for some of them.
    pub(crate) full: Option<usize>,
}

impl Plan {
    /// Gives up every unsettled recipient of a message that no present session could send.
    pub(crate) fn give_up(session: SessionId, submission: &Submission) -> Self {
        use SubmissionState::{Deferred, Queued, Transmitting, Unknown};
        let lost =
            submission.recipients.iter().enumerate().filter_map(
                |(index, recipient)| match recipient.state {
                    Unknown | Transmitting => Some(nobody_knows(recipient, index)),
                    Queued | Deferred => Some(nobody_sent(recipient, index)),
                    _ => None,
                },
            );
        let lost = lost.collect();
        Self { session, groups: Vec::new(), lost, disabled: false, full: None }
    }

    /// How many transmissions the plan has for a transport.
    fn groups_for(&self, place: usize) -> usize {
        self.groups.iter().filter(|(p, _)| *p == place).count()
    }
}

impl<'a> Sender<'a> {
    /// Whether an unsettled recipient needs a transport of the session that does not work.
    pub(crate) fn lacks_transport(&self, submission: &Submission) -> bool {
        let is_out = |p: &Provider| {
            let is_out = matches!(p.state, ProviderState::Failed(_));
            p.kind == ProviderType::Transport && p.is_in_use() && is_out
        };
        // Usually all of them work.
        if !self.providers.iter().any(is_out) {
            return false;
        }
        let open = submission.recipients.iter().filter(|r| !r.state.is_final());
        let mut needed = open.filter_map(|recipient| self.transport_for(submission, recipient));
        needed.any(|(_, provider)| is_out(provider))
    }

    /// The transport named by a recipient's intent or, without an intent, the one that takes the message for the recipient; with its
    /// place among the session's providers.
    fn transport_for(
        &self,
        submission: &Submission,
        recipient: &Recipient,
    ) -> Option<(usize, &'a Provider)> {
        let transports = self.providers.iter().enumerate();
        let mut transports =
            transports.filter(|(_, p)| p.kind == ProviderType::Transport && p.is_in_use());
        if let Some(intent) = &recipient.intent {
            return transports.find(|(_, p)| p.name == intent.transport);
        }
        let (author, account) = (submission.author(), submission.account());
        let place = self.profile.transport_for(&recipient.address, author, account)?;
        transports.find(|(_, p)| p.spec == place)
    }

    /// Finds a transport for each unsettled recipient.
    pub(crate) fn plan(&self, submission: &Submission, clocks: Clocks) -> Plan {
        let Self { session, profile, .. } = *self;
        let mut plan =
            Plan { session, groups: Vec::new(), lost: Vec::new(), disabled: false, full: None };
        let overdue = clocks.overdue(submission, &profile.queue);
        let expired = overdue.is_some();
        // While a try still has queued recipients, it does not begin again with the deferred ones.
        let fresh = submission.recipients.iter().any(|r| r.state == SubmissionState::Queued);
        let mut out_of_reach = None;
        for (index, recipient) in submission.recipients.iter().enumerate() {
            use SubmissionState::{Deferred, Queued, Transmitting, Unknown};
            if recipient.state == Unknown && expired {
                plan.lost.push(nobody_knows(recipient, index));
            }
            let its_turn = match recipient.state {
                Queued | Transmitting => true,
                Deferred => !fresh,
                _ => false,
            };
            if !its_turn {
                continue;
            }
            match self.transport_for(submission, recipient) {
                // The other recipients of the message do not wait for this transport.
                Some((place, provider))
                    if provider.is_out_of_reach()
                        && recipient.intent.is_none()
                        && !provider.was_tried_within(overdue, clocks.boot) =>
                {
                    out_of_reach = Some(place);
                }
                Some((_, provider)) if provider.is_out_of_reach() && recipient.intent.is_none() => {
                    let reply = format!("transport {} cannot be reached", provider.name);
                    let outcome = Outcome::Offline;
                    plan.lost.push(RecipientResult { recipient: index, outcome, reply });
                }
                Some((place, provider))
                    if matches!(
                        provider.state,
                        ProviderState::Available | ProviderState::LoggingOn(_)
                    ) =>
                {
                    let intent = &recipient.intent;
                    // A recovery is one transmission, exactly as it was handed over.
                    let (most, room) = match intent {
                        Some(_) => (usize::MAX, provider.room_to_recover()),
                        None => (provider.most_recipients, provider.room()),
                    };
                    let same = |(p, group): &&mut (usize, Vec<usize>)| {
                        *p == place
                            && group.len() < most
                            && submission.recipients[group[0]].intent == *intent
                    };
                    let groups = plan.groups_for(place);
                    match plan.groups.iter_mut().find(same) {
                        Some((_, group)) => group.push(index),
                        None if room == 0 => plan.full = Some(place),
                        None if groups < room => plan.groups.push((place, vec![index])),
                        // The other recipients follow when these are done.
                        None => {}
                    }
                }
                Some((_, provider)) if recipient.intent.is_some() => {
                    plan.disabled |= matches!(provider.state, ProviderState::Failed(_));
                    if expired {
                        plan.lost.push(nobody_knows(recipient, index));
                    }
                }
                Some((_, provider)) => {
                    plan.disabled |= matches!(provider.state, ProviderState::Failed(_));
                    let reply = unavailable(provider);
                    plan.lost.push(RecipientResult {
                        recipient: index,
                        outcome: Outcome::Later,
                        reply,
                    });
                }
                None => {
                    // The transport that had the message may have handed it over, so no other one may do so again.
                    let outcome = match recipient.intent {
                        Some(_) => Outcome::Unknown,
                        None => Outcome::Later,
                    };
                    let which = submission.account().map_or_else(
                        || "no transport".to_owned(),
                        |account| format!("no transport {account:?}, which the message names,"),
                    );
                    let reply = format!(
                        "{which} of profile {:?} takes {} any more; add one to the profile, \
                     or abort the message",
                        profile.name, recipient.address
                    );
                    plan.lost.push(RecipientResult { recipient: index, outcome, reply });
                }
            }
        }
        if plan.groups.is_empty() && plan.lost.is_empty() {
            plan.full = plan.full.or(out_of_reach);
        }
        plan
    }
}

/// Gives up a recipient for whom it is unknown whether the message was delivered.
fn nobody_knows(recipient: &Recipient, index: usize) -> RecipientResult {
    let last = recipient.reply.as_deref().unwrap_or("no reply was read");
    let reply = format!("{UNKNOWN_STATUS} it is not known whether it was delivered: {last}");
    RecipientResult { recipient: index, outcome: Outcome::Failed, reply }
}

fn unavailable(provider: &Provider) -> String {
    match &provider.state {
        ProviderState::Failed(why) => format!("transport {} does not work: {why}", provider.name),
        _ => format!("transport {} is not ready", provider.name),
    }
}
