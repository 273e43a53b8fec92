//! Rows of the tables as values, and back.

use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};
use serde_json::{Value, json};
use sundown_core::provider::{Intent, Recipient, Submission, SubmissionState};
use sundown_protocol::EntryId;
use sundown_protocol::reply::MessageRow;
use sundown_protocol::request::{Notify, Report, Returned};

/// The columns that [`submission`] reads, in its order.
pub(super) const SUBMISSION: &str = "record, profile, uid, envelope_from, envelope_to, subject, \
     size, seq, no_mail, attempts, due, submitted, last_error, report";

/// The columns that [`message`] reads, in its order.
pub(super) const MESSAGE: &str =
    "seq, record, subject, sender, recipients, size, received, recovered";

/// A record as the tables key it.
pub(super) fn key(record: u128) -> [u8; 16] {
    record.to_be_bytes()
}

pub(super) fn submission(row: &Row<'_>) -> Result<Submission> {
    let recipients: String = row.get(4)?;
    let decoded = decode_recipients(&recipients)
        .ok_or_else(|| Error::InvalidColumnType(4, "recipients".into(), Type::Text))?;
    Ok(Submission {
        record: u128::from_be_bytes(row.get(0)?),
        profile: row.get(1)?,
        uid: row.get(2)?,
        from: row.get(3)?,
        recipients: decoded,
        subject: row.get(5)?,
        size: row.get(6)?,
        order: row.get(7)?,
        no_mail: row.get(8)?,
        attempts: row.get(9)?,
        due: row.get(10)?,
        submitted: row.get(11)?,
        last_error: row.get(12)?,
        report: decode_report(row.get(13)?),
    })
}

/// A folder's row and its cursor.
pub(super) fn message(row: &Row<'_>, store: u32) -> Result<(u64, MessageRow)> {
    let message = MessageRow {
        entry: EntryId { store, record: u128::from_be_bytes(row.get(1)?) },
        subject: row.get(2)?,
        from: row.get(3)?,
        to: row.get(4)?,
        size: row.get(5)?,
        received: row.get(6)?,
        recovered: row.get(7)?,
    };
    Ok((row.get(0)?, message))
}

/// What the sender wants to be told, as a number.
pub(super) fn encode_report(report: Report) -> u16 {
    let full = report.returned == Returned::Full;
    u16::from(report.notify.0) | u16::from(full) << 8
}

/// Rows of an older schema say nothing of it.
fn decode_report(number: Option<u16>) -> Report {
    number.map_or_else(Report::default, |number| Report {
        notify: Notify(number as u8),
        returned: if number >> 8 == 0 { Returned::Headers } else { Returned::Full },
    })
}

/// A submission's recipients as text; what is absent is left out.
pub(super) fn encode_recipients(recipients: &[Recipient]) -> String {
    let one = |recipient: &Recipient| {
        let mut value = json!({ "address": recipient.address, "state": recipient.state.name() });
        if let Some(intent) = &recipient.intent {
            value["transport"] = intent.transport.as_str().into();
            value["marker"] = intent.marker.as_str().into();
        }
        if let Some(reply) = &recipient.reply {
            value["reply"] = reply.as_str().into();
        }
        value
    };
    Value::Array(recipients.iter().map(one).collect()).to_string()
}

fn decode_recipients(text: &str) -> Option<Vec<Recipient>> {
    let values: Value = serde_json::from_str(text).ok()?;
    values.as_array()?.iter().map(decode_recipient).collect()
}

fn decode_recipient(value: &Value) -> Option<Recipient> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let state = text("state")?;
    let intent = match (text("transport"), text("marker")) {
        (Some(transport), Some(marker)) => Some(Intent { transport, marker }),
        _ => None,
    };
    Some(Recipient {
        address: text("address")?,
        state: SubmissionState::ALL.into_iter().find(|known| known.name() == state)?,
        intent,
        reply: text("reply"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_survive_their_text() {
        let intent = Intent { transport: "here".into(), marker: "a \"b\"\n".into() };
        let recipients: Vec<_> = SubmissionState::ALL
            .into_iter()
            .map(|state| Recipient {
                address: format!("ü{}@x", state.name()),
                state,
                intent: (state == SubmissionState::Transmitting).then(|| intent.clone()),
                reply: (state == SubmissionState::Deferred).then(|| "4.0.0 \u{1}".into()),
            })
            .collect();
        assert_eq!(decode_recipients(&encode_recipients(&recipients)), Some(recipients));
    }

    #[test]
    fn reports_survive_their_number() {
        for returned in [Returned::Headers, Returned::Full] {
            for notify in 0..=Notify::KNOWN {
                let report = Report { notify: Notify(notify), returned };
                assert_eq!(decode_report(Some(encode_report(report))), report);
            }
        }
        assert_eq!(decode_report(None), Report::default());
    }

    #[test]
    fn damaged_recipients_are_noticed() {
        for text in ["", "{}", "[{}]", r#"[{"address":"a","state":"x"}]"#, r#"[{"address":1}]"#] {
            assert_eq!(decode_recipients(text), None, "{text}");
        }
    }
}
