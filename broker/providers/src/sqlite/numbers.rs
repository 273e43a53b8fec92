//! Numbers of messages and bodies. Each number is used once in the life of a store.
//!
//! A number must not be derived from existing rows: the row with the highest number may have been deleted, and an empty body has a
//! number and no row. So `meta` keeps for each kind the lowest number that was never reserved. The transaction that uses the first
//! number of a block reserves the block, and a broker begins with a new block. That costs one page in about a thousand commits.

use rusqlite::{Connection, Result, params};

use super::body::{self, Layout};
use super::rows::body_sum;
use super::sum::{self, By, Stored};

/// How many numbers are reserved at once.
const BLOCK: u64 = 1024;

/// Assigns the numbers of one kind.
#[derive(Debug)]
pub(super) struct Numbers {
    /// The name of its row in `meta`.
    name: &'static str,
    next: u64,
    /// The lowest number that is not reserved.
    end: u64,
}

impl Numbers {
    /// Continues where the store's last block ended.
    pub(super) fn load(connection: &Connection, name: &'static str) -> Result<Self> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        let next = connection.query_row(sql, [name], |row| row.get(0))?;
        Ok(Self { name, next, end: next })
    }

    /// Takes the next number. The caller is in the transaction that uses it.
    pub(super) fn take(&mut self, connection: &Connection) -> Result<u64> {
        if self.next == self.end {
            let end = self.next + BLOCK;
            let sql = "UPDATE meta SET value = ?2 WHERE name = ?1";
            connection.prepare_cached(sql)?.execute(params![self.name, end])?;
            self.end = end;
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Notes that a transaction was undone, possibly with the reservation of a block. The numbers that it took stay unused.
    pub(super) fn undone(&mut self) {
        self.end = self.next;
    }
}

/// How many messages had wrong body numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mended {
    /// Empty messages that had the number of another message's body.
    pub(super) empty: usize,
    /// Messages whose body was deleted with an empty message, and whose body number another message has got since.
    pub(super) lost: usize,
}

/// Brings a store to schema 6, in the caller's transaction. New numbers begin after those in use. Messages that share a body's
/// number get numbers of their own, except the message to which the bytes belong.
pub(super) fn mend(connection: &Connection) -> Result<Mended> {
    let highest = |sql: &str| -> Result<u64> {
        let found: Option<u64> = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(found.unwrap_or(0))
    };
    let part = body::number_of(highest("SELECT max(id) FROM body")?);
    let named = highest("SELECT max(body) FROM message")?;
    let uploaded = highest("SELECT max(body) FROM upload")?;
    let before = highest("SELECT max(value) FROM meta WHERE name = 'body'")?;
    let row = highest("SELECT max(seq) FROM message")?;
    let forgotten = highest("SELECT max(value) FROM meta WHERE name = 'seq'")?;
    let mut next = part.max(named).max(uploaded).max(before) + 1;
    let mut mended = Mended::default();
    for (body, group) in &shared(connection)? {
        let size = Layout::of(connection, *body)?.size();
        let owner = group.iter().rev().find(|message| size > 0 && message.size == size);
        for message in group.iter().filter(|one| owner.is_none_or(|owner| owner.seq != one.seq)) {
            renumber(connection, message, *body, next)?;
            next += 1;
            let count = if message.size == 0 { &mut mended.empty } else { &mut mended.lost };
            *count += 1;
        }
    }
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.execute(sql, params!["body", next])?;
    connection.execute(sql, params!["seq", row.max(forgotten) + 1])?;
    Ok(mended)
}

/// A message that shares a body's number.
struct Sharer {
    seq: u64,
    record: [u8; 16],
    size: u64,
    sum: Option<Stored>,
}

/// The messages that share a number, for each such number, in order of arrival.
fn shared(connection: &Connection) -> Result<Vec<(u64, Vec<Sharer>)>> {
    let sql = "SELECT body, seq, record, size, body_sum FROM message
               WHERE folder <> 0 AND body IN
                   (SELECT body FROM message WHERE folder <> 0 GROUP BY body HAVING count(*) > 1)
               ORDER BY body, seq";
    let mut statement = connection.prepare(sql)?;
    let mut groups: Vec<(u64, Vec<Sharer>)> = Vec::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let body = row.get(0)?;
        let (seq, record, size) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let sharer = Sharer { seq, record, size, sum: row.get(4)? };
        match groups.last_mut().filter(|(of, _)| *of == body) {
            Some((_, group)) => group.push(sharer),
            None => groups.push((body, vec![sharer])),
        }
    }
    Ok(groups)
}

/// Gives a message another body number. A wrong sum stays wrong.
fn renumber(connection: &Connection, message: &Sharer, from: u64, to: u64) -> Result<()> {
    let record = u128::from_be_bytes(message.record);
    let sum_at = |by, body| body_sum(by, record, body, message.size);
    let sound = sum::check(message.sum, |by| sum_at(by, from)).is_ok();
    let sum = if sound { message.sum.map(|_| sum_at(By::Xxh3, to)) } else { message.sum };
    let sql = "UPDATE message SET body = ?2, body_sum = ?3 WHERE seq = ?1";
    connection.execute(sql, params![message.seq, to, sum])?;
    Ok(())
}
