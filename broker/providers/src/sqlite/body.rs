//! The bytes of messages: parts with consecutive keys, written once and never changed.

use std::io::{self, Read};
use std::ops::{ControlFlow, RangeInclusive};

use rusqlite::{Connection, OptionalExtension, Result};

use super::schema::PART_BITS;
use super::sum::{self, By, Stored, Sum, damaged};

/// The part for the header lines that the store adds in front of a message.
pub(super) const FRONT: u64 = 0;

/// The first part of the message itself.
pub(super) const FIRST: u64 = 1;

/// The highest part.
pub(super) const LAST: u64 = (1 << PART_BITS) - 1;

fn id(body: u64, part: u64) -> u64 {
    (body << PART_BITS) | part
}

fn ids(body: u64) -> RangeInclusive<u64> {
    id(body, FRONT)..=id(body, LAST)
}

/// The body that a part belongs to.
pub(super) fn number_of(id: u64) -> u64 {
    id >> PART_BITS
}

/// Writes a part.
pub(super) fn insert(connection: &Connection, body: u64, part: u64, bytes: &[u8]) -> Result<()> {
    let sql = "INSERT INTO body (id, bytes, sum) VALUES (?1, ?2, ?3)";
    let id = id(body, part);
    connection.prepare_cached(sql)?.execute((id, bytes, sum_of(By::Xxh3, id, bytes)))?;
    Ok(())
}

pub(super) fn sum_of(by: By, id: u64, bytes: &[u8]) -> Stored {
    Sum::new(by).number(id.into()).bytes(bytes).value()
}

/// Fails if a part is not what was written.
fn check(id: u64, bytes: &[u8], sum: Option<Stored>) -> Result<()> {
    sum::check(sum, |by| sum_of(by, id, bytes))
}

/// Deletes all parts of a message.
pub(super) fn delete(connection: &Connection, body: u64) -> Result<()> {
    let (first, last) = ids(body).into_inner();
    let sql = "DELETE FROM body WHERE id BETWEEN ?1 AND ?2";
    connection.prepare_cached(sql)?.execute((first, last))?;
    Ok(())
}

/// The first bytes of a message: at least `wanted` if there are so many.
pub(super) fn beginning(connection: &Connection, body: u64, wanted: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut at = id(body, FRONT);
    while bytes.len() < wanted {
        let Some((id, part)) = next_part(connection, at, body)? else { break };
        bytes.extend(part);
        at = id + 1;
    }
    Ok(bytes)
}

/// Reads a message part by part, as long as more is wanted.
pub(super) fn each_part(
    connection: &Connection,
    body: u64,
    mut use_it: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<()> {
    let mut at = id(body, FRONT);
    while let Some((id, part)) = next_part(connection, at, body)? {
        if use_it(&part).is_break() {
            break;
        }
        at = id + 1;
    }
    Ok(())
}

fn next_part(connection: &Connection, from: u64, body: u64) -> Result<Option<(u64, Vec<u8>)>> {
    let sql = "SELECT id, bytes, sum FROM body WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1";
    let last = *ids(body).end();
    let row = |row: &rusqlite::Row<'_>| {
        let (id, bytes): (u64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        check(id, &bytes, row.get(2)?)?;
        Ok((id, bytes))
    };
    connection.prepare_cached(sql)?.query_row((from, last), row).optional()
}

/// The end of each part of a message. It is made once for a message, so that a piece far behind is found without reading the parts
/// before it.
#[derive(Debug)]
pub(super) struct Layout {
    /// The number of its body. A body never changes, so the layout stays valid.
    pub(super) body: u64,
    parts: Vec<(u64, u64)>,
}

impl Layout {
    pub(super) fn of(connection: &Connection, body: u64) -> Result<Self> {
        // The length is stored in front of the bytes, so this reads none of them.
        let sql = "SELECT id, length(bytes) FROM body WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
        let (first, last) = ids(body).into_inner();
        let mut statement = connection.prepare_cached(sql)?;
        let mut end = 0;
        let row = |row: &rusqlite::Row<'_>| {
            end += row.get::<_, u64>(1)?;
            Ok((row.get(0)?, end))
        };
        let parts = statement.query_map((first, last), row)?.collect::<Result<_>>()?;
        Ok(Self { body, parts })
    }

    /// The size of the message in bytes.
    pub(super) fn size(&self) -> u64 {
        self.parts.last().map_or(0, |(_, end)| *end)
    }

    /// At most `limit` bytes from `offset` on; `None` if the message was deleted meanwhile.
    pub(super) fn piece(
        &self,
        connection: &Connection,
        offset: u64,
        limit: usize,
    ) -> Result<Option<Vec<u8>>> {
        let mut piece = Vec::new();
        let first = self.parts.partition_point(|(_, end)| *end <= offset);
        for (id, end) in &self.parts[first..] {
            if piece.len() == limit {
                break;
            }
            let sql = "SELECT bytes, sum FROM body WHERE id = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([id])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let part = row.get_ref(0)?.as_blob()?;
            check(*id, part, row.get(1)?)?;
            let begin = end.checked_sub(part.len() as u64).ok_or_else(damaged)?;
            let part = &part[offset.saturating_sub(begin) as usize..];
            piece.extend_from_slice(&part[..part.len().min(limit - piece.len())]);
        }
        Ok(Some(piece))
    }
}

/// Reads a message from its beginning to its end.
pub(super) struct BodyReader<'a> {
    connection: &'a mut Connection,
    body: u64,
    next: u64,
    left: u64,
    part: Vec<u8>,
    given: usize,
}

impl<'a> BodyReader<'a> {
    pub(super) fn new(connection: &'a mut Connection, body: u64, size: u64) -> Self {
        Self { connection, body, next: id(body, FRONT), left: size, part: Vec::new(), given: 0 }
    }

    fn advance(&mut self) -> io::Result<()> {
        let found = next_part(self.connection, self.next, self.body).map_err(io::Error::other)?;
        let Some((id, part)) = found else {
            // A part of a message must never be taken for the whole.
            let text = "the message was deleted while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        };
        self.next = id + 1;
        // If parts were deleted, those of another message must not be read in their place.
        let left = self.left.checked_sub(part.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other(damaged()))?;
        self.part = part;
        self.given = 0;
        Ok(())
    }
}

impl Read for BodyReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.part.len() {
            if self.left == 0 || out.is_empty() {
                return Ok(0);
            }
            self.advance()?;
        }
        let n = out.len().min(self.part.len() - self.given);
        out[..n].copy_from_slice(&self.part[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}
