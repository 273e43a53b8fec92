//! The recipients of a submission.
//!
//! A few recipients are stored as text in the row of their message, so that a change of their states writes a page or two. Many
//! recipients have a row each, so that an update writes only the changed ones: a message to ten thousand is sent in hundreds of
//! transmissions, each of which changes some. The message's row then contains their number, and its sum covers their rows: no row
//! can be lost or changed unnoticed.

use rusqlite::{Connection, Result, params};
use sundown_core::provider::{Recipient, SubmissionUpdate};

use super::rows::{decode_one, decode_recipients, encode_one, encode_recipients};
use super::sum::{By, Sum, damaged};

/// From this number on, each recipient has a row.
pub(super) const MANY: usize = 32;

/// The prefix of the number of recipients with rows, in place of their text.
const ROWS: &str = "rows ";

/// How the recipients are represented in the row of their message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) text: String,
    /// The sum over their own rows, if they have rows.
    pub(super) rows: Option<u64>,
}

impl Envelope {
    /// The envelope of a new submission.
    pub(super) fn of(record: u128, recipients: &[Recipient]) -> Self {
        match recipients.len() {
            ..MANY => Self { text: encode_recipients(recipients), rows: None },
            _ => Rows::new(0, record, recipients).envelope(),
        }
    }
}

/// Recipients with a row each, as the tables have them, and the sum of each row.
#[derive(Debug)]
pub(super) struct Rows {
    /// The order of their message.
    pub(super) order: u64,
    record: u128,
    each: Vec<(Recipient, u64)>,
}

impl Rows {
    fn new(order: u64, record: u128, recipients: &[Recipient]) -> Self {
        let sum = |(place, one): (usize, &Recipient)| {
            (one.clone(), row_sum(record, place, &encode_one(one)))
        };
        Self { order, record, each: recipients.iter().enumerate().map(sum).collect() }
    }

    /// Reads the rows; `None` if the text in the message's row is the recipients themselves.
    fn load(connection: &Connection, order: u64, record: u128, text: &str) -> Result<Option<Self>> {
        let Some(count) = text.strip_prefix(ROWS) else { return Ok(None) };
        let count: usize = count.parse().map_err(|_| damaged())?;
        let sql = "SELECT place, content FROM recipient WHERE message = ?1 ORDER BY place";
        let mut statement = connection.prepare_cached(sql)?;
        let mut found = statement.query([order])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let content = row.get_ref(1)?.as_str()?;
            if row.get::<_, usize>(0)? != rows.len() {
                return Err(damaged());
            }
            let recipient = decode_one(content).ok_or_else(damaged)?;
            rows.push((recipient, row_sum(record, rows.len(), content)));
        }
        if rows.len() != count {
            return Err(damaged());
        }
        Ok(Some(Self { order, record, each: rows }))
    }

    fn envelope(&self) -> Envelope {
        let text = format!("{ROWS}{}", self.each.len());
        // Each sum includes the place, so that two exchanged recipients are noticed.
        let rows = self.each.iter().fold(0, |sum, (_, row)| sum ^ row);
        Envelope { text, rows: Some(rows) }
    }

    /// Writes the recipients that differ from the tables.
    fn change(&mut self, connection: &Connection, update: &SubmissionUpdate) -> Result<()> {
        if update.places.is_none() && update.submission.recipients.len() != self.each.len() {
            return Err(damaged());
        }
        for (place, new) in update.recipients() {
            let row = self.each.get_mut(place).ok_or_else(damaged)?;
            if row.0 != *new {
                let content = encode_one(new);
                write(connection, self.order, place, &content)?;
                *row = (new.clone(), row_sum(self.record, place, &content));
            }
        }
        Ok(())
    }
}

/// Writes the rows of a new submission, or of one that had no rows.
pub(super) fn insert(connection: &Connection, order: u64, recipients: &[Recipient]) -> Result<()> {
    if recipients.len() < MANY {
        return Ok(());
    }
    let write_one =
        |(place, one): (usize, &Recipient)| write(connection, order, place, &encode_one(one));
    recipients.iter().enumerate().try_for_each(write_one)
}

/// Updates the recipients of a message. `before` is their text in its row; `known` are the rows that were changed last, which need
/// not be read again.
pub(super) fn change(
    connection: &Connection,
    known: &mut Option<Rows>,
    (order, record, before): (u64, u128, &str),
    update: &SubmissionUpdate,
) -> Result<Envelope> {
    let rows = match known.take().filter(|rows| rows.order == order) {
        Some(rows) => Some(rows),
        None => Rows::load(connection, order, record, before)?,
    };
    let mut rows = if let Some(rows) = rows {
        rows
    } else {
        // The message was submitted when all recipients were stored in its row.
        let mut recipients = decode_recipients(before).ok_or_else(damaged)?;
        if recipients.len() < MANY {
            for (place, new) in update.recipients() {
                new.clone_into(recipients.get_mut(place).ok_or_else(damaged)?);
            }
            return Ok(Envelope::of(record, &recipients));
        }
        insert(connection, order, &recipients)?;
        Rows::new(order, record, &recipients)
    };
    rows.change(connection, update)?;
    let envelope = rows.envelope();
    *known = Some(rows);
    Ok(envelope)
}

/// Reads the recipients of a message, given their text in its row.
pub(super) fn load(
    connection: &Connection,
    order: u64,
    record: u128,
    text: String,
) -> Result<(Vec<Recipient>, Envelope)> {
    if let Some(rows) = Rows::load(connection, order, record, &text)? {
        let envelope = rows.envelope();
        return Ok((rows.each.into_iter().map(|(recipient, _)| recipient).collect(), envelope));
    }
    let recipients = decode_recipients(&text).ok_or_else(damaged)?;
    Ok((recipients, Envelope { text, rows: None }))
}

/// Removes the rows of a message.
pub(super) fn forget(connection: &Connection, order: u64) -> Result<()> {
    let sql = "DELETE FROM recipient WHERE message = ?1";
    connection.prepare_cached(sql)?.execute([order])?;
    Ok(())
}

fn write(connection: &Connection, order: u64, place: usize, content: &str) -> Result<()> {
    let sql = "INSERT INTO recipient (message, place, content) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET content = excluded.content";
    connection.prepare_cached(sql)?.execute(params![order, place, content])?;
    Ok(())
}

fn row_sum(record: u128, place: usize, content: &str) -> u64 {
    Sum::new(By::Xxh3).number(record).number(place as u128).bytes(content.as_bytes()).number64()
}
