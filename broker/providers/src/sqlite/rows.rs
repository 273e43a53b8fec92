//! Conversion between rows of the tables and values.

use std::borrow::Cow;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, Row};
use serde::{Deserialize, Serialize};
use sundown_core::provider::{Intent, Recipient, Submission, SubmissionState};
use sundown_protocol::EntryId;
use sundown_protocol::folder::{Flags, Marks};
use sundown_protocol::reply::MessageRow;
use sundown_protocol::request::{Notify, Report, Returned, Route};

use super::recipients::{self, Envelope};
use super::schema::state_number;
use super::sum::{self, By, Sum, damaged};

/// The columns that [`submission`] reads, in order.
pub(super) const SUBMISSION: &str = "record, profile, uid, envelope_from, envelope_to, subject, \
     size, seq, no_mail, attempts, due, submitted, last_error, report, envelope_sum, route, born, \
     delay_told";

/// The columns that [`message`] reads, in order.
pub(super) const MESSAGE: &str =
    "seq, record, subject, sender, recipients, size, received, recovered";

/// A record as the key in the tables.
pub(super) fn key(record: u128) -> [u8; 16] {
    record.to_be_bytes()
}

/// Fails if a damaged index led to another row.
pub(super) fn is_of(found: [u8; 16], record: u128) -> Result<()> {
    if found == key(record) { Ok(()) } else { Err(damaged()) }
}

/// The columns that [`placed`] reads, in order.
pub(super) fn placed_columns() -> String {
    format!("{SUBMISSION}, state")
}

/// Reads a submission whose state is consistent. The state is in its recipients, which a sum covers, and again in a column, by
/// which the row is found. If the two differ the row is damaged.
pub(super) fn placed(connection: &Connection, row: &Row<'_>) -> Result<Submission> {
    let found = submission(connection, row)?;
    let stands = row.get::<_, i64>(18)?;
    if stands == i64::from(state_number(found.state())) { Ok(found) } else { Err(damaged()) }
}

pub(super) fn submission(connection: &Connection, row: &Row<'_>) -> Result<Submission> {
    let record = u128::from_be_bytes(row.get(0)?);
    let (recipients, envelope) = recipients::load(connection, row.get(7)?, record, row.get(4)?)?;
    let found = Submission {
        record,
        profile: row.get(1)?,
        uid: row.get(2)?,
        from: row.get(3)?,
        recipients,
        subject: row.get(5)?,
        size: row.get(6)?,
        order: row.get(7)?,
        no_mail: row.get(8)?,
        attempts: row.get(9)?,
        due: row.get(10)?,
        submitted: row.get(11)?,
        last_error: row.get(12)?,
        report: decode_report(row.get(13)?),
        route: decode_route(row.get_ref(15)?.as_str_or_null()?),
        born: row.get::<_, Option<i64>>(16)?.map(|born| born as u64),
        delay_told: row.get::<_, Option<bool>>(17)?.unwrap_or_default(),
    };
    sum::check(row.get(14)?, |by| envelope_sum(by, &found, &envelope))?;
    Ok(found)
}

/// Reads what can be read of a damaged row, for people to see: it is never used to send. The column after those of a submission is
/// its state.
pub(super) fn damaged_submission(connection: &Connection, row: &Row<'_>) -> Result<Submission> {
    let text = |place| match row.get_ref(place) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => String::new(),
    };
    let number = |place| row.get::<_, i64>(place).unwrap_or_default();
    let state = match row.get::<_, u8>(18) {
        Ok(state) if state == state_number(SubmissionState::Bounced) => SubmissionState::Bounced,
        _ => SubmissionState::Unknown,
    };
    let unreadable = || vec![UNREADABLE.to_owned()];
    let record = row.get(0).map_or(0, u128::from_be_bytes);
    let order = row.get(7)?;
    let known = recipients::load(connection, order, record, text(4)).ok();
    let addresses = known.map(|(known, _)| known.into_iter().map(|known| known.address).collect());
    let addresses = addresses.filter(|known: &Vec<_>| !known.is_empty());
    let addresses = addresses.unwrap_or_else(unreadable);
    let recipient =
        |address| Recipient { address, state, intent: None, reply: Some(DAMAGED.to_owned()) };
    Ok(Submission {
        record,
        profile: text(1),
        uid: number(2) as u32,
        from: text(3),
        recipients: addresses.into_iter().map(recipient).collect(),
        subject: text(5),
        size: number(6) as u64,
        order,
        no_mail: false,
        attempts: number(9) as u32,
        due: number(10) as u64,
        submitted: number(11) as u64,
        last_error: Some(DAMAGED.to_owned()),
        report: Report::default(),
        route: None,
        born: None,
        delay_told: false,
    })
}

/// The reply shown for a recipient of a damaged row.
const DAMAGED: &str = "the message is damaged in the store and is not sent";

/// Stands for recipients that cannot be read.
const UNREADABLE: &str = "(its recipients cannot be read)";

/// The sum over sender, recipients and their states. Mail for another person, or sent twice, is worse than mail that waits.
pub(super) fn envelope_sum(by: By, submission: &Submission, envelope: &Envelope) -> sum::Stored {
    let sum = Sum::new(by)
        .number(submission.record)
        .number(submission.uid.into())
        .bytes(submission.profile.as_bytes())
        .bytes(submission.from.as_bytes())
        .bytes(envelope.text.as_bytes())
        .number(encode_report(submission.report).into());
    let sum = envelope.rows.map_or(sum, |rows| sum.number(rows.into()));
    let route = submission.route.as_ref();
    let sum = route.map_or(sum, |route| sum.bytes(encode_route(route).as_bytes()));
    submission.born.map_or(sum, |born| sum.number(born.into())).value()
}

/// The sum over the place of a message's bytes and their number.
pub(super) fn body_sum(by: By, record: u128, body: u64, size: u64) -> sum::Stored {
    Sum::new(by).number(record).number(body.into()).number(size.into()).value()
}

/// A row of a folder, and its cursor.
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

/// Encodes keywords as text: each in a line. None are no text.
pub(super) fn encode_keywords(flags: &Flags) -> Option<String> {
    keywords_text(&flags.keywords)
}

/// Keywords as text, for a column.
pub(super) fn keywords_text(keywords: &[String]) -> Option<String> {
    (!keywords.is_empty()).then(|| keywords.join("\n"))
}

/// The flags of a row. A message of the queue has none, and counts as read.
pub(super) fn decode_flags(marks: Option<u16>, keywords: Option<&str>) -> Flags {
    let keywords = keywords.map(|text| text.split('\n').map(str::to_owned).collect());
    Flags { marks: Marks(marks.unwrap_or(Marks::READ.0)), keywords: keywords.unwrap_or_default() }
}

/// Encodes what chooses the transports as text: the author, a line end, the account. Neither an address nor a name has a line end.
pub(super) fn encode_route(route: &Route) -> String {
    let Route { author, account } = route;
    format!("{}\n{}", author.as_deref().unwrap_or_default(), account.as_deref().unwrap_or_default())
}

/// Decodes that text. Most rows have none.
fn decode_route(text: Option<&str>) -> Option<Box<Route>> {
    let (author, account) = text?.split_once('\n')?;
    let word = |word: &str| (!word.is_empty()).then(|| word.to_owned());
    Some(Box::new(Route { author: word(author), account: word(account) }))
}

/// Encodes as a number which reports the sender wants.
pub(super) fn encode_report(report: Report) -> u16 {
    let full = report.returned == Returned::Full;
    u16::from(report.notify.0) | u16::from(full) << 8
}

/// Decodes that number. Rows of an older schema have none.
fn decode_report(number: Option<u16>) -> Report {
    number.map_or_else(Report::default, |number| Report {
        notify: Notify(number as u8),
        returned: if number >> 8 == 0 { Returned::Headers } else { Returned::Full },
    })
}

/// A recipient in its stored form, without absent fields.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    address: Cow<'a, str>,
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    transport: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    marker: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    reply: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Recipient> for Stored<'a> {
    fn from(recipient: &'a Recipient) -> Self {
        let intent = recipient.intent.as_ref();
        Self {
            address: Cow::Borrowed(&recipient.address),
            state: Cow::Borrowed(recipient.state.name()),
            transport: intent.map(|intent| Cow::Borrowed(&*intent.transport)),
            marker: intent.map(|intent| Cow::Borrowed(&*intent.marker)),
            reply: recipient.reply.as_deref().map(Cow::Borrowed),
        }
    }
}

/// A submission's recipients as text.
pub(super) fn encode_recipients(recipients: &[Recipient]) -> String {
    let stored: Vec<_> = recipients.iter().map(Stored::from).collect();
    serde_json::to_string(&stored).expect("text has a JSON form")
}

/// A recipient as text.
pub(super) fn encode_one(recipient: &Recipient) -> String {
    serde_json::to_string(&Stored::from(recipient)).expect("text has a JSON form")
}

pub(super) fn decode_one(text: &str) -> Option<Recipient> {
    decode_recipient(serde_json::from_str(text).ok()?)
}

pub(super) fn decode_recipients(text: &str) -> Option<Vec<Recipient>> {
    let stored: Vec<Stored<'_>> = serde_json::from_str(text).ok()?;
    stored.into_iter().map(decode_recipient).collect()
}

fn decode_recipient(stored: Stored<'_>) -> Option<Recipient> {
    let state = SubmissionState::ALL.into_iter().find(|known| known.name() == stored.state)?;
    let intent = match (stored.transport, stored.marker) {
        (Some(transport), Some(marker)) => {
            Some(Intent { transport: transport.into_owned(), marker: marker.into_owned() })
        }
        _ => None,
    };
    let reply = stored.reply.map(Cow::into_owned);
    Some(Recipient { address: stored.address.into_owned(), state, intent, reply })
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
