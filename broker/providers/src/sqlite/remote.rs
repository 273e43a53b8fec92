//! Messages of accounts at servers: how far each directory is mirrored, which bytes are still to be fetched, and which message is the same
//! as one that vanished.
//!
//! The store has the bytes of these messages like those of its own. A message that vanished keeps them until the next look at the whole
//! account is through: another program may have moved it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use sundown_core::provider::{
    Cursor, MessageFacts, ProviderAnswer, ProviderError, Spot, StoreChange, Tally,
};
use sundown_protocol::Code;
use sundown_protocol::folder::{Flags, MAX_KEYWORDS};
use sundown_protocol::request::Folder;

use super::body;
use super::mirror::{Lying, Mailbox, lying};
use super::rows::{body_sum, decode_flags, key, keywords_text};
use super::schema::{GONE, folder_number};
use super::spots;
use super::sum::By;
use super::write::{Writer, wall};
use crate::fault::Failure;

/// How much of the disk fetching leaves free, in bytes: mail that programs hand over needs some, too.
const RESERVE: u64 = 64 << 20;

/// Uploads of the broker's own have lower numbers.
const FETCHED: u64 = 1 << 63;

/// How long a message that vanished keeps its bytes at least, in milliseconds.
const SURELY_GONE: u64 = 60_000;

/// The most messages whose bytes are given back at once.
const SLICE: u32 = 100;

impl Writer {
    /// The mailbox is an account.
    pub(super) fn account(&mut self, mailbox: i64, append_sent: bool) -> rusqlite::Result<()> {
        self.has_accounts = true;
        let sql = "INSERT INTO account VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET append_sent = excluded.append_sent";
        self.connection.prepare_cached(sql)?.execute(params![mailbox, append_sent])?;
        Ok(())
    }

    pub(super) fn is_account(&self, mailbox: i64) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached("SELECT 1 FROM account WHERE mailbox = ?1")?
            .exists([mailbox])
    }

    pub(super) fn set_cursor(
        &self,
        mailbox: i64,
        dir: &str,
        cursor: Cursor,
    ) -> rusqlite::Result<()> {
        let Cursor { validity, next, low, modseq, messages } = cursor;
        let sql = "INSERT OR REPLACE INTO cursor VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let parameters = params![mailbox, dir, validity, next, low, modseq as i64, messages];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    pub(super) fn set_trace(
        &self,
        (seq, mailbox): (u64, i64),
        trace: Option<u128>,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO remote (message, mailbox, trace) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET trace = excluded.trace";
        let parameters = params![seq, mailbox, trace.map(key)];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    /// Notes what is known of a message that is new.
    pub(super) fn set_remote(
        &self,
        (seq, mailbox): (u64, i64),
        facts: &MessageFacts,
        keywords: Option<&str>,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO remote (message, mailbox, trace, keywords, fetch)
                   VALUES (?1, ?2, ?3, ?4, iif(?5, 1, NULL))";
        let parameters = params![seq, mailbox, facts.trace.map(key), keywords, facts.fetch];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    /// A message that was known, and is found again: what the account says of it, and whether its bytes are still to be fetched. What tells it
    /// from others is not known yet of one that was put there from here.
    pub(super) fn found_again(
        &self,
        of: &Mailbox<'_>,
        spot: &Spot,
        facts: &MessageFacts,
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        self.keywords_seen(of, spot, &facts.keywords, changes)?;
        if !of.is_account {
            return Ok(());
        }
        let Some(lying) = self.lying(of.number, spot)? else { return Ok(()) };
        if facts.trace.is_some() {
            self.set_trace((lying.seq, of.number), facts.trace)?;
        }
        if facts.fetch { self.want_bytes(&lying) } else { Ok(()) }
    }

    /// A known message has these keywords at the server. Those that were set or removed here since it was last seen stay so.
    pub(super) fn keywords_seen(
        &self,
        of: &Mailbox<'_>,
        spot: &Spot,
        keywords: &[String],
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        // A Maildir has no keywords of messages.
        if !of.is_account {
            return Ok(());
        }
        let Some(lying) = self.lying(of.number, spot)? else { return Ok(()) };
        let seq = lying.seq;
        let sql = "SELECT keywords FROM remote WHERE message = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok(decode_flags(None, row.get_ref(0)?.as_str_or_null()?).keywords)
        };
        let seen = self.connection.prepare_cached(sql)?.query_row([seq], row).optional()?;
        let seen = seen.unwrap_or_default();
        let flags = self.flags(seq)?;
        let less = |all: &[String], without: &[String]| Flags {
            keywords: all.iter().filter(|one| !without.contains(one)).cloned().collect(),
            ..Flags::default()
        };
        let (set, removed) = (less(&flags.keywords, &seen), less(&seen, &flags.keywords));
        let there = Flags { marks: flags.marks, keywords: keywords.to_vec() };
        let mut merged = there.changed(&set, &removed);
        merged.keywords.truncate(MAX_KEYWORDS);
        if merged != flags {
            self.write_flags(seq, &merged)?;
            let modified = |folder| StoreChange::Modified { record: lying.record, folder };
            changes.extend(lying.folder.map(modified));
        }
        Ok(self.set_keywords((seq, of.number), keywords)?)
    }

    /// Notes which keywords a message has at the server.
    pub(super) fn set_keywords(
        &self,
        (seq, mailbox): (u64, i64),
        keywords: &[String],
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO remote (message, mailbox, keywords) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET keywords = excluded.keywords";
        let parameters = params![seq, mailbox, keywords_text(keywords)];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        self.tell_mailbox(seq)
    }

    /// Notes that the bytes of a message are to be fetched, if the store has none.
    fn want_bytes(&self, lying: &Lying) -> Result<(), Failure> {
        let sql = "UPDATE remote SET fetch = 1
                   WHERE message = ?1
                       AND (SELECT body FROM message WHERE seq = ?1 AND folder <> 0) = 0";
        self.connection.prepare_cached(sql)?.execute([lying.seq])?;
        Ok(())
    }

    /// Notes that the bytes of a message cannot be fetched, and forgets those that have come.
    pub(super) fn forget_bytes(&self, lying: &Lying) -> Result<(), Failure> {
        self.forget_fetched(lying.seq)?;
        let sql = "UPDATE remote SET fetch = NULL WHERE message = ?1";
        self.connection.prepare_cached(sql)?.execute([lying.seq])?;
        Ok(())
    }

    pub(super) fn forget_cursor(&self, mailbox: i64, dir: &str) -> rusqlite::Result<()> {
        let sql = "DELETE FROM cursor WHERE mailbox = ?1 AND dir = ?2";
        self.connection.prepare_cached(sql)?.execute(params![mailbox, dir])?;
        Ok(())
    }

    /// A piece of the bytes of a message. What has come so far is an upload, which ends with the last piece, or with the broker.
    pub(super) fn fetched(
        &mut self,
        lying: &Lying,
        (first, bytes, last): (bool, &[u8], bool),
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let upload = FETCHED | lying.seq;
        if first {
            self.forget_fetched(lying.seq)?;
        }
        let Some(folder) = lying.folder.filter(|_| lying.body == 0) else { return Ok(()) };
        // A restart has forgotten the pieces before.
        if !first && !self.has_upload(upload)? {
            return Ok(());
        }
        let (body, size) = if first && last {
            // Most messages come in one piece, and need no upload.
            let body = self.take_body()?;
            body::insert(&self.connection, body, body::FIRST, bytes)?;
            (body, bytes.len() as u64)
        } else {
            self.append(upload, bytes)?;
            if !last {
                return Ok(());
            }
            let Some(whole) = self.take_upload(upload)? else { return Ok(()) };
            whole
        };
        let sql = "UPDATE message SET body = ?2, size = ?3, body_sum = ?4 WHERE seq = ?1";
        let sum = body_sum(By::Xxh3, lying.record, body, size);
        self.connection.prepare_cached(sql)?.execute(params![lying.seq, body, size, sum])?;
        let sql = "UPDATE remote SET fetch = NULL WHERE message = ?1";
        self.connection.prepare_cached(sql)?.execute([lying.seq])?;
        changes.push(StoreChange::Modified { record: lying.record, folder });
        Ok(())
    }

    /// Forgets the pieces that have come of a message.
    pub(super) fn forget_fetched(&self, seq: u64) -> Result<(), Failure> {
        if let Some((body, _)) = self.take_upload(FETCHED | seq)? {
            body::delete(&self.connection, body)?;
        }
        Ok(())
    }

    /// The message that one which was found is: it vanished, or lies in the same directory under a number that is not valid any more. Of
    /// twins it is the one with the lowest number.
    pub(super) fn same_message(
        &self,
        mailbox: &Mailbox<'_>,
        spot: &Spot,
        trace: u128,
    ) -> rusqlite::Result<Option<Lying>> {
        // Of most there is none, which the index on traces says alone.
        let sql = "SELECT 1 FROM remote WHERE mailbox = ?1 AND trace = ?2";
        let is_known = params![mailbox.number, key(trace)];
        if !self.connection.prepare_cached(sql)?.exists(is_known)? {
            return Ok(None);
        }
        let sql = "SELECT seq, record, message.folder, spot.folder, flags, spot.marks, body
                   FROM remote
                   JOIN spot ON spot.message = remote.message AND spot.mailbox = remote.mailbox
                   JOIN message ON message.seq = remote.message
                   WHERE remote.mailbox = ?1 AND trace = ?2 AND name IS NOT NULL
                       AND (message.folder = 0 AND pending IS NOT 1
                           OR dir = ?3 AND substr(name, 1, 10) <> substr(?4, 1, 10))
                   ORDER BY dir <> ?3, name LIMIT 1";
        let parameters = params![mailbox.number, key(trace), spot.dir, spot.name];
        self.connection.prepare_cached(sql)?.query_row(parameters, lying).optional()
    }

    /// The whole account was looked at. The bytes of messages that vanished before are given back.
    pub(super) fn forget_vanished(&self, mailbox: i64) -> Result<(), Failure> {
        let before = wall().saturating_sub(SURELY_GONE) as i64;
        let sql = format!(
            "SELECT seq, body FROM message
             JOIN remote ON remote.message = seq
             WHERE final_at < ?2 AND folder = {GONE} AND body <> 0 AND remote.mailbox = ?1
             LIMIT {SLICE}"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map(params![mailbox, before], |row| {
            Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?))
        })?;
        let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
        for (seq, body) in found {
            self.drop_body(body)?;
            let sql = "UPDATE message SET body = 0, body_sum = NULL WHERE seq = ?1";
            self.connection.prepare_cached(sql)?.execute([seq])?;
        }
        Ok(())
    }

    /// Fails if fetching would take what programs need of the disk.
    pub(super) fn leave_room(&self) -> Result<(), Failure> {
        let Some(found) = self.connection.path().and_then(|path| rustix::fs::statvfs(path).ok())
        else {
            return Ok(());
        };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free >= RESERVE {
            return Ok(());
        }
        let text = format!(
            "the disk has {} MB left; fetching mail goes on when there are {} MB, so that mail can still be sent",
            free >> 20,
            RESERVE >> 20
        );
        Err(Failure::refused(Code::E_NOT_ENOUGH_DISK, text))
    }

    /// Whether a folder is one of an account.
    pub(super) fn is_of_an_account(&self, folder: Folder) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM folder JOIN account ON account.mailbox = folder.mailbox
                   WHERE folder.id = ?1 AND folder.dir IS NOT NULL";
        self.connection.prepare_cached(sql)?.exists([folder_number(folder)])
    }

    /// Has the account take a message that was sent from here, if it wants it in its folder of sent messages. Whether it does.
    pub(super) fn hand_sent(&self, record: u128) -> rusqlite::Result<bool> {
        let sql = "INSERT INTO spot (message, mailbox, marks, folder, pending)
                       SELECT seq, folder.mailbox, 0, 0, 1
                       FROM message JOIN folder ON folder.id = message.folder
                       JOIN account ON account.mailbox = folder.mailbox
                       WHERE record = ?1 AND folder.id = 3 AND folder.dir IS NOT NULL
                           AND append_sent
                   ON CONFLICT DO NOTHING";
        Ok(self.connection.prepare_cached(sql)?.execute([key(record)])? > 0)
    }
}

/// Whether a store has accounts.
pub(super) fn has_accounts(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare("SELECT 1 FROM account")?.exists([])
}

/// Whether a message is one of an account.
pub(super) fn is_of_account(connection: &Connection, seq: u64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM remote WHERE message = ?1")?.exists([seq])
}

/// The error of a message whose bytes are at a server, and not here yet.
pub(super) fn not_here() -> Failure {
    let text = "the message is at the server, and is not fetched yet; it is fetched while the account can be reached";
    Failure::Refused(ProviderError::new(Code::E_OFFLINE, text).of_other_bytes())
}

/// How far a directory of an account is mirrored.
pub(super) fn cursor(
    connection: &Connection,
    mailbox: &Path,
    dir: &str,
) -> Result<ProviderAnswer, Failure> {
    let Some(number) = spots::number_of(connection, mailbox)? else {
        return Ok(ProviderAnswer::Cursor(None));
    };
    let sql =
        "SELECT validity, next, low, modseq, messages FROM cursor WHERE mailbox = ?1 AND dir = ?2";
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Cursor {
            validity: row.get(0)?,
            next: row.get(1)?,
            low: row.get(2)?,
            modseq: row.get::<_, i64>(3)? as u64,
            messages: row.get(4)?,
        })
    };
    let found = connection.prepare_cached(sql)?.query_row(params![number, dir], row).optional()?;
    Ok(ProviderAnswer::Cursor(found))
}

/// Where a message of an account is whose bytes are not in the store.
pub(super) fn lies(
    connection: &Connection,
    mailbox: &Path,
    record: u128,
) -> Result<ProviderAnswer, Failure> {
    let number = spots::number_of(connection, mailbox)?;
    let sql = "SELECT dir, name, size FROM message
               JOIN remote ON remote.message = seq
               JOIN spot ON spot.message = seq AND spot.mailbox = remote.mailbox
               WHERE record = ?1 AND remote.mailbox = ?2 AND message.folder <> 0
                   AND name IS NOT NULL";
    let row = |row: &rusqlite::Row<'_>| {
        Ok((Spot { dir: row.get(0)?, name: row.get(1)? }, row.get::<_, u64>(2)?))
    };
    let parameters = params![key(record), number];
    let found = connection.prepare_cached(sql)?.query_row(parameters, row).optional()?;
    Ok(ProviderAnswer::Fetches { rows: found.into_iter().collect(), next: None })
}

/// Figures of a mailbox.
pub(super) fn tally(
    connection: &Connection,
    mailbox: &Path,
    dir: Option<&str>,
) -> Result<ProviderAnswer, Failure> {
    let number = spots::number_of(connection, mailbox)?;
    let count = |sql: &str| -> rusqlite::Result<u64> {
        connection.prepare_cached(sql)?.query_row([number], |row| row.get(0))
    };
    // A message that is gone keeps its spot. All are counted in the index alone, and from the index on folders those that are gone: to look
    // at each message takes far longer. The order of the tables is given, because without statistics another one is taken.
    let there = "SELECT (SELECT count(*) FROM spot
                         WHERE mailbox = ?1 AND dir = ?2 AND name IS NOT NULL)
                     - (SELECT count(*) FROM message CROSS JOIN spot ON spot.message = seq
                         WHERE message.folder = 0 AND message.folder <> 2 AND mailbox = ?1
                             AND dir = ?2 AND name IS NOT NULL AND pending IS NOT 1)";
    let messages = match dir {
        None => 0,
        Some(dir) => {
            connection.prepare_cached(there)?.query_row(params![number, dir], |row| row.get(0))?
        }
    };
    Ok(ProviderAnswer::Tally(Tally {
        pending: count("SELECT count(*) FROM spot WHERE mailbox = ?1 AND pending = 1")?
            + count("SELECT count(*) FROM folder WHERE mailbox = ?1 AND renamed = 1")?
            + count("SELECT count(*) FROM gone_dir WHERE mailbox = ?1")?,
        fetches: count("SELECT count(*) FROM remote WHERE mailbox = ?1 AND fetch = 1")?,
        messages,
    }))
}

/// Messages of an account whose bytes are to be fetched, in the order in which they were found.
pub(super) fn fetches(
    connection: &Connection,
    mailbox: &Path,
    after: u64,
    limit: u32,
) -> Result<ProviderAnswer, Failure> {
    let Some(number) = spots::number_of(connection, mailbox)? else {
        return Ok(ProviderAnswer::Fetches { rows: Vec::new(), next: None });
    };
    let sql = "SELECT seq, dir, name, size FROM remote
               JOIN spot ON spot.message = remote.message AND spot.mailbox = remote.mailbox
               JOIN message ON message.seq = remote.message
               WHERE remote.mailbox = ?1 AND fetch = 1 AND remote.message > ?2
                   AND name IS NOT NULL AND message.folder <> 0
               ORDER BY remote.message LIMIT ?3";
    let most = limit.max(1);
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let row = |row: &rusqlite::Row<'_>| {
        let spot = Spot { dir: row.get(1)?, name: row.get(2)? };
        Ok((row.get::<_, u64>(0)?, (spot, row.get::<_, u64>(3)?)))
    };
    let found = statement.query_map(params![number, after, u64::from(most) + 1], row)?;
    let mut found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = found.len() > most as usize;
    found.truncate(most as usize);
    let next = found.last().filter(|_| more).map(|(seq, _)| *seq);
    let rows = found.into_iter().map(|(_, row)| row).collect();
    Ok(ProviderAnswer::Fetches { rows, next })
}
