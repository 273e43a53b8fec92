//! What a store forgets, and the free pages that it gives back. Both are done in slices, between two batches.
//!
//! A week after a message is final, its submission and its key are forgotten. A sent message stays in Sent as long as the profile's
//! `keep_sent` says, or else the store: 30 days in a new store, and forever in a store that was made before there was a limit. Free
//! pages go back to the file system when there are many.

use rusqlite::{Connection, OptionalExtension};
use sundown_core::provider::{ProviderSpec, SubmissionState};
use sundown_protocol::request::Folder;

use super::reader::NOT_READ;
use super::recipients;
use super::schema::{GONE, KEPT, folder_number, state_number};
use super::write::{Known, Writer};

/// The most rows that a slice of a purge forgets, so that it does not delay a commit for long.
const PURGE: usize = 500;

/// The most pages that a slice gives back: at most 2 MiB are moved, and as many written to the log.
const PAGES: u64 = 512;

/// Up to so many free pages, 4 MiB, are kept for later messages.
const FEW: u64 = 1 << 10;

/// Up to this share of the file, as a divisor, is kept too.
const FEW_OF_ALL: u64 = 8;

/// The largest store that is written anew to give pages back, in pages: 1 GiB, which takes some seconds.
const WRITTEN_ANEW: u64 = 1 << 18;

/// How long a new store keeps sent messages, in milliseconds: 30 days.
pub(super) const KEEP_SENT: u64 = 30 * 24 * 3600 * 1000;

/// The longest time between two purges, in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// How long a sent message stays in Sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeepSent {
    /// As long as the store says.
    Unsaid,
    /// Until it is sent.
    Off,
    /// So many milliseconds after it was submitted.
    For(u64),
    Forever,
}

impl KeepSent {
    /// The profile's setting: `off`, `forever` or milliseconds.
    pub(super) fn of(spec: &ProviderSpec) -> Self {
        let said = spec.options.iter().find(|(key, _)| key == "keep_sent");
        match said.map(|(_, value)| value.as_str()) {
            None => Self::Unsaid,
            Some("off") => Self::Off,
            Some(number) => number.parse().map_or(Self::Forever, Self::For),
        }
    }

    /// This setting, or the store's if the profile has none.
    pub(super) fn or_stored(self, connection: &Connection) -> rusqlite::Result<Self> {
        if self != Self::Unsaid {
            return Ok(self);
        }
        let sql = "SELECT value FROM meta WHERE name = 'keep_sent'";
        let stored = connection.query_row(sql, [], |row| row.get(0)).optional()?;
        Ok(stored.map_or(Self::Forever, Self::For))
    }

    /// How often the store looks for messages that have been kept long enough, in milliseconds.
    pub(super) fn purge_every(self) -> u64 {
        match self {
            Self::For(time) => (time / 8).clamp(60_000, DAY),
            Self::Unsaid | Self::Off | Self::Forever => DAY,
        }
    }
}

/// In front of all rows of a folder.
pub(super) const START: (i64, i64) = (-1, 0);

/// Whether work in slices is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slices {
    /// There may be another slice.
    More,
    Done,
}

impl Writer {
    /// Does one slice of a purge, in a transaction of its own.
    pub(super) fn purge(&mut self, now: u64) -> rusqlite::Result<Slices> {
        if self.purge_submissions(now)? == Slices::More {
            return Ok(Slices::More);
        }
        self.purge_sent(now)
    }

    /// Forgets submissions and keys: a message stays as an ordinary message, and the row of a deleted message is removed. A bounce
    /// stays as long as its notification is unread.
    fn purge_submissions(&mut self, now: u64) -> rusqlite::Result<Slices> {
        let before = now.saturating_sub(KEPT) as i64;
        let bounced = state_number(SubmissionState::Bounced);
        let old = format!(
            "SELECT seq, folder, body FROM message WHERE final_at < ?1
                AND NOT (state IS {bounced} AND notice IS NOT NULL{NOT_READ})
                AND NOT EXISTS (SELECT 1 FROM spot WHERE spot.message = seq AND spot.pending = 1)
                LIMIT {PURGE}"
        );
        let transaction = self.connection.unchecked_transaction()?;
        let mut statement = transaction.prepare_cached(&old)?;
        let found =
            statement.query_map([before], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let found = found.collect::<rusqlite::Result<Vec<(u64, i64, u64)>>>()?;
        drop(statement);
        for (seq, folder, body) in &found {
            recipients::forget(&transaction, *seq)?;
            let sql = match *folder {
                GONE => {
                    // A message of an account that vanished.
                    if *body != 0 {
                        self.drop_body(*body)?;
                    }
                    for table in ["spot", "remote"] {
                        let sql = format!("DELETE FROM {table} WHERE message = ?1");
                        transaction.prepare_cached(&sql)?.execute([seq])?;
                    }
                    FORGET
                }
                _ => {
                    "UPDATE message SET state = NULL, envelope_from = NULL, envelope_to = NULL,
                         notice = NULL, final_at = NULL, route = NULL
                     WHERE seq = ?1"
                }
            };
            transaction.prepare_cached(sql)?.execute([seq])?;
        }
        transaction.commit()?;
        Ok(if found.len() < PURGE { Slices::Done } else { Slices::More })
    }

    /// Removes messages from Sent that have been there long enough. Messages lie in the order of their arrival, so it stops at the
    /// first that is too young. A bounced message stays as long as its submission is known; a key is remembered for its week in any
    /// case. What lies in a mailbox, and what a program has put there, was not sent from here and stays.
    fn purge_sent(&mut self, now: u64) -> rusqlite::Result<Slices> {
        let before = match self.keep_sent {
            KeepSent::Off => u64::MAX,
            KeepSent::For(time) => now.saturating_sub(time),
            KeepSent::Unsaid | KeepSent::Forever => return Ok(Slices::Done),
        };
        let sql = format!(
            "SELECT seq, body, state, received,
                     submitted IS NULL OR EXISTS (SELECT 1 FROM spot WHERE spot.message = seq)
                 FROM message WHERE folder = {} AND folder <> 2 AND (received, seq) > (?1, ?2) ORDER BY received, seq LIMIT {PURGE}",
            folder_number(Folder::SENT)
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let row = |row: &rusqlite::Row<'_>| {
            let old = Old {
                known: Known {
                    seq: row.get(0)?,
                    body: row.get(1)?,
                    folder: None,
                    state: row.get(2)?,
                },
                is_of_others: row.get(4)?,
            };
            Ok((old, row.get::<_, i64>(3)? as u64))
        };
        let found = statement.query_map(self.purged_to, row)?;
        let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
        drop(statement);
        let old: Vec<_> = found.iter().take_while(|(_, at)| *at < before).collect();
        if !old.is_empty() {
            let transaction = self.connection.unchecked_transaction()?;
            old.iter().try_for_each(|(old, _)| self.take_out_of_sent(old))?;
            transaction.commit()?;
        }
        if old.len() < PURGE {
            self.purged_to = START;
            return Ok(Slices::Done);
        }
        self.purged_to = old.last().map_or(START, |(old, at)| (*at as i64, old.known.seq as i64));
        Ok(Slices::More)
    }

    fn take_out_of_sent(&self, old: &Old) -> rusqlite::Result<()> {
        let sent = state_number(SubmissionState::Sent);
        // Of one without a state the submission is forgotten already.
        let is_over = old.known.state.is_none_or(|state| state == sent);
        if is_over && !old.is_of_others { self.delete_for_good(&old.known) } else { Ok(()) }
    }

    /// Gives a slice of free pages back, if there are many. Returns whether there are more.
    pub(super) fn give_back(&self) -> rusqlite::Result<Slices> {
        if !has_much_room(&self.connection)? {
            return Ok(Slices::Done);
        }
        let before = pages(&self.connection, "freelist_count")?;
        // Each step gives one page back.
        let sql = format!("PRAGMA incremental_vacuum({PAGES})");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        drop(steps);
        // A store that cannot give single pages back does not change.
        let less = pages(&self.connection, "freelist_count")? < before;
        Ok(if less { Slices::More } else { Slices::Done })
    }
}

/// A message in Sent.
struct Old {
    known: Known,
    /// Whether it was not sent from here.
    is_of_others: bool,
}

const FORGET: &str = "DELETE FROM message WHERE seq = ?1";

fn pages(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

fn has_much_room(connection: &Connection) -> rusqlite::Result<bool> {
    let free = pages(connection, "freelist_count")?;
    Ok(free > FEW && free > pages(connection, "page_count")? / FEW_OF_ALL)
}

/// Writes a store anew that was made when single pages could not be given back, if it has many free pages. That is one transaction:
/// a crash leaves the store unchanged. Returns whether it was written anew.
pub(super) fn write_anew(connection: &Connection) -> rusqlite::Result<bool> {
    let gives_back = pages(connection, "auto_vacuum")? != 0;
    if gives_back || !has_much_room(connection)? {
        return Ok(false);
    }
    let used = pages(connection, "page_count")? - pages(connection, "freelist_count")?;
    if used > WRITTEN_ANEW {
        return Ok(false);
    }
    connection.execute_batch(&format!("PRAGMA auto_vacuum = {GIVES_BACK}; VACUUM"))?;
    Ok(true)
}

/// The mode of a store that can give single free pages back.
pub(super) const GIVES_BACK: u8 = 2;
