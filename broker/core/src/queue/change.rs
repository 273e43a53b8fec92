//! Changes of one entry of a queue, and its row as it is shown.
//!
//! ```text
//!   Queued, Deferred ──hold──► Held ──release──► Queued
//!   Deferred, Held, Unknown, Transmitting without a transport ──retry──► Queued
//!   everything that is not with a transport and not final ──abort──► Aborted
//! ```

use sundown_mail::head::Fields;
use sundown_protocol::reply::{QueueRow, RecipientRow, SubmissionState};
use sundown_protocol::request::QueueChange;
use sundown_protocol::{Code, Fault};

use crate::ground::provider::Submission;

/// The most bytes of a page of the queue. With its framing a page must fit into a frame.
pub(crate) const PAGE_BYTES: usize = 640 << 10;

/// The approximate size of a row in a frame, in bytes.
pub(crate) fn wire_size(row: &QueueRow) -> usize {
    let texts = row.from.len() + row.subject.len() + row.last_error.as_ref().map_or(0, String::len);
    let recipient =
        |r: &RecipientRow| 32 + r.address.len() + r.reply.as_ref().map_or(0, String::len);
    128 + texts + row.recipients.iter().map(recipient).sum::<usize>()
}

/// Shortens a row that alone would not fit into a page: the replies about its recipients are left out.
pub(crate) fn short_enough(mut row: QueueRow) -> QueueRow {
    if wire_size(&row) > PAGE_BYTES {
        row.recipients.iter_mut().for_each(|r| r.reply = None);
    }
    // Ten thousand of the longest addresses do not fit into a frame, so some of the recipients are left out.
    while wire_size(&row) > PAGE_BYTES && row.recipients.len() > 1 {
        row.recipients.truncate(row.recipients.len() / 2);
    }
    row
}

/// Applies a change to a submission, or says why it does not apply.
pub(crate) fn apply(
    change: QueueChange,
    submission: &mut Submission,
    now: u64,
) -> Result<(), Fault> {
    use SubmissionState::{Aborted, Deferred, Held, Queued, Transmitting, Unknown};
    let before = submission.state();
    let transmitting = submission.recipients.iter().any(|r| r.state == Transmitting);
    if transmitting && matches!(change, QueueChange::Hold | QueueChange::Release) {
        return Err(locked(change));
    }
    // A recipient in `Transmitting` without a transport was cut off: its outcome is unknown, as in `Unknown`.
    let (from, to) = match change {
        QueueChange::Retry => (&[Queued, Deferred, Held, Unknown, Transmitting][..], Queued),
        QueueChange::Hold => (&[Queued, Deferred, Held][..], Held),
        QueueChange::Release => (&[Held][..], Queued),
        QueueChange::Abort => (&[Queued, Deferred, Held, Unknown, Transmitting][..], Aborted),
    };
    let changed = submission.recipients.iter_mut().filter(|r| from.contains(&r.state));
    let changed = changed.map(|recipient| {
        recipient.state = to;
        // An aborted recipient keeps its intent: the message may have gone out.
        recipient.intent = recipient.intent.take().filter(|_| to == Aborted);
    });
    if changed.count() == 0 {
        return Err(senseless(change, before));
    }
    if to == Queued {
        submission.due = now;
    }
    Ok(())
}

fn senseless(change: QueueChange, state: SubmissionState) -> Fault {
    let message = match change {
        QueueChange::Release => {
            format!("the message is not held, it is {}; only a held one is released", state.name())
        }
        _ => format!(
            "the message is {}, and not sent again by itself; `retry` sends it, `abort` gives it up",
            state.name()
        ),
    };
    Fault::new(Code::E_INVALID_PARAMETER, message)
}

pub(crate) fn locked(change: QueueChange) -> Fault {
    if change == QueueChange::Abort {
        let message = "the message is with its transport and cannot be taken back";
        return Fault::new(Code::E_UNABLE_TO_ABORT, message);
    }
    let message = "the message is with its transport; try again when that is done";
    Fault::new(Code::E_BUSY, message)
}

pub(crate) fn not_in_queue() -> Fault {
    let message = "the message is not, or no longer, in the outgoing queue";
    Fault::new(Code::E_NOT_IN_QUEUE, message)
}

/// The longest `Message-ID` that is shown: a line of a message has no more bytes (RFC 5322).
const LONGEST_ID: usize = 998;

/// The value of the field `Message-ID` of a message that begins with these bytes, without the blanks around it. A longer value is
/// no identifier, and one whose end is not among these bytes would be wrong.
pub(crate) fn message_id(beginning: &[u8]) -> Option<String> {
    let field = Fields::of(beginning).find(|field| field.is("Message-ID"))?;
    let value = String::from_utf8_lossy(field.value());
    let ends = field.raw().ends_with(b"\n");
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    (ends && !value.is_empty() && value.len() <= LONGEST_ID).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_a_whole_field() {
        let id = |text: &str| message_id(text.as_bytes());
        assert_eq!(id("To: a@b\nMESSAGE-ID:\r\n <1@x>\r\n\r\ntext").as_deref(), Some("<1@x>"));
        for none in ["", "To: a@b\n\nMessage-ID: <1@x>\n", "Message-ID: <1@x", "Message-ID: \n\n"] {
            assert_eq!(id(none), None, "{none:?}");
        }
        let long = |length| format!("Message-ID: {}\n\n", "x".repeat(length));
        assert_eq!(id(&long(LONGEST_ID)).map(|id| id.len()), Some(LONGEST_ID));
        assert_eq!(id(&long(LONGEST_ID + 1)), None);
    }
}
