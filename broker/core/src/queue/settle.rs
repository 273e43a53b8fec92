//! Applies the results of transports to a message: its states, its next try, and the recipients to report as failed.

use sundown_protocol::reply::SubmissionState;

use crate::ground::event::Turn;
use crate::ground::expired;
use crate::ground::provider::{Action, Outcome, Recipient, RecipientResult, Submission};
use crate::ground::settings::{OnUnknown, QueuePolicy};
use crate::queue::age::Clocks;
use crate::queue::engine::{Entry, Try};
use crate::queue::untold::Untold;

/// The most characters kept of a transport's reply about a recipient: two long lines of a server.
const MAX_REPLY: usize = 500;

/// The result for a recipient whose age limit has passed without a session that could send the message. It does not count as a try.
pub(crate) fn nobody_sent(recipient: &Recipient, index: usize) -> RecipientResult {
    let reply = expired::not_sent(recipient.reply.as_deref());
    RecipientResult { recipient: index, outcome: Outcome::Offline, reply }
}

/// Treats `NotSent` as `Offline` where no recipient of the call is handed over and the call is no recovery: a message that is queued
/// again at once, try after try, would keep the broker busy. Where a recipient is handed over, each try has fewer.
pub(crate) fn none_follows_at_once(results: &mut [RecipientResult]) {
    let wrong = results.iter_mut().filter(|result| result.outcome == Outcome::NotSent);
    wrong.for_each(|result| result.outcome = Outcome::Offline);
}

/// Applies results to a submission, and notes the recipients whose final failure the sender is told of.
pub(crate) fn settle(
    entry: &mut Entry,
    results: &[RecipientResult],
    policy: &QueuePolicy,
    clocks: Clocks,
    turn: &mut Turn,
) {
    let Entry { submission, untold, tried, changed, .. } = entry;
    let now = clocks.now;
    let age = clocks.age(submission);
    let expired = clocks.overdue(submission, policy).is_some();
    let (mut again, mut counts) = (false, false);
    for result in results {
        let Some(recipient) = submission.recipients.get_mut(result.recipient) else { continue };
        changed.note(result.recipient);
        recipient.reply = Some(short(&result.reply));
        recipient.intent = recipient.intent.take().filter(|_| result.outcome == Outcome::Unknown);
        recipient.state = match result.outcome {
            Outcome::Sent | Outcome::Relayed | Outcome::Delivered => SubmissionState::Sent,
            Outcome::Failed => SubmissionState::Bounced,
            Outcome::NotSent => SubmissionState::Queued,
            Outcome::Unknown if policy.on_unknown == OnUnknown::Hold => SubmissionState::Unknown,
            Outcome::Later | Outcome::Offline | Outcome::Unknown if expired => {
                SubmissionState::Bounced
            }
            Outcome::Later | Outcome::Offline | Outcome::Unknown => {
                recipient.intent = None;
                SubmissionState::Deferred
            }
        };
        if recipient.state == SubmissionState::Bounced {
            untold.note(result.recipient, Action::Failed);
            if result.outcome != Outcome::Failed {
                recipient.reply = Some(short(&expired::tried(age, &result.reply)));
            }
        }
        match result.outcome {
            Outcome::Relayed => untold.note(result.recipient, Action::Relayed),
            Outcome::Delivered => untold.note(result.recipient, Action::Delivered),
            _ => {}
        }
        if recipient.state != SubmissionState::Sent {
            submission.last_error = recipient.reply.clone();
        }
        again |= recipient.state == SubmissionState::Deferred;
        counts |= !matches!(result.outcome, Outcome::Offline | Outcome::NotSent);
    }
    // A try counts once, however many transactions it takes and however early or late the server refuses a recipient.
    if counts && *tried != Try::Counted {
        *tried = Try::Counted;
        submission.attempts += 1;
    }
    let goes_on = submission.recipients.iter().any(|r| r.state == SubmissionState::Queued);
    if goes_on {
        // The other recipients of this try follow at once.
        return;
    }
    // What other transmissions of this try bring is told with it.
    let flies = submission.recipients.iter().any(|r| r.state == SubmissionState::Transmitting);
    if !flies && clocks.is_delay_due(submission, policy) {
        note_delay(submission, untold, clocks.given_up(submission, policy));
    }
    let late = submission.recipients.iter().any(|r| r.state == SubmissionState::Deferred);
    if again || (late && submission.due <= now) {
        submission.due = now + backoff(submission.attempts, policy, turn);
    } else if submission.state() == SubmissionState::Unknown {
        submission.due = clocks.given_up(submission, policy);
    }
}

/// Notes that the sender is told of the recipients that do not have the message yet. That is done once for a message.
pub(crate) fn note_delay(submission: &mut Submission, untold: &mut Untold, until: u64) {
    let waits = |r: &Recipient| {
        matches!(r.state, SubmissionState::Queued | SubmissionState::Deferred) && r.intent.is_none()
    };
    let waiting = submission.recipients.iter().enumerate().filter(|(_, r)| waits(r));
    for (place, _) in waiting {
        untold.note(place, Action::Delayed { until });
        submission.delay_told = true;
    }
}

/// Shortens a transport's reply, so that the replies of many recipients fit into a row.
fn short(reply: &str) -> String {
    reply.chars().take(MAX_REPLY).collect()
}

/// How long to wait after this many tries, in milliseconds. The wait doubles up to the longest; up to a fifth is taken off at
/// random, so that messages that failed together do not come back together.
pub(crate) fn backoff(attempts: u32, policy: &QueuePolicy, turn: &mut Turn) -> u64 {
    let (min, max) = (policy.retry_min.as_millis() as u64, policy.retry_max.as_millis() as u64);
    let doubled = min.saturating_mul(1 << attempts.saturating_sub(1).min(32));
    let wait = doubled.min(max.max(min));
    wait - turn.chance() % (wait / 5 + 1)
}
