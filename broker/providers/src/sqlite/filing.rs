//! What changes where a message is and which flags it has, and what of that a mailbox must still be told.
//!
//! A message that a mailbox has gets a *pending* spot: the mailbox finds it and does the same. What a message is to be like is in its
//! row, and what the mailbox has in its spot; there is no list of steps, so that any number of changes are one piece of work and a
//! repeat does no harm.

use rusqlite::{OptionalExtension, params};
use sundown_core::provider::ProviderAnswer;
use sundown_protocol::Code;
use sundown_protocol::folder::{Flags, MAX_KEYWORDS, Marks};
use sundown_protocol::request::Folder;

use super::body;
use super::reader::no_message;
use super::remote;
use super::rows::{body_sum, decode_flags, encode_keywords, key};
use super::schema::folder_number;
use super::spots::{self, TMP};
use super::sum::By;
use super::write::{Answer, Known, Writer, collision};
use crate::fault::Failure;

/// Whose a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Mailbox(i64),
    /// It has all folders of a mailbox in it, and is none of them: what is put there stays in the store.
    Headed,
}

impl Writer {
    pub(super) fn set_flags(&self, record: u128, add: &Flags, remove: &Flags) -> Answer {
        let known = self.known(record)?.ok_or_else(no_message)?;
        let folder = known.folder.ok_or_else(no_message)?;
        let before = self.flags(known.seq)?;
        let flags = before.changed(add, remove);
        if flags.keywords.len() > MAX_KEYWORDS {
            let text = format!("a message has at most {MAX_KEYWORDS} keywords; remove some");
            return Err(Failure::refused(Code::E_TOO_COMPLEX, text));
        }
        let changed = flags != before;
        if changed {
            self.write_flags(known.seq, &flags)?;
            self.tell_mailbox(known.seq)?;
        }
        Ok(ProviderAnswer::Flagged { folder, flags, changed })
    }

    pub(super) fn flags(&self, seq: u64) -> rusqlite::Result<Flags> {
        let sql = "SELECT flags, keywords FROM message WHERE seq = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok(decode_flags(row.get(0)?, row.get_ref(1)?.as_str_or_null()?))
        };
        self.connection.prepare_cached(sql)?.query_row([seq], row)
    }

    /// Writes the marks of a message, whose keywords stay.
    pub(super) fn write_marks(&self, seq: u64, marks: Marks) -> rusqlite::Result<()> {
        let sql = "UPDATE message SET flags = ?2, seen = CASE WHEN ?2 & 1 THEN 1 ELSE seen END
                   WHERE seq = ?1";
        self.connection.prepare_cached(sql)?.execute(params![seq, marks.0])?;
        Ok(())
    }

    /// Writes the flags of a message. A notification that was read is not listed any more.
    pub(super) fn write_flags(&self, seq: u64, flags: &Flags) -> rusqlite::Result<()> {
        let sql = "UPDATE message SET flags = ?2, keywords = ?3,
                       seen = CASE WHEN ?2 & 1 THEN 1 ELSE seen END WHERE seq = ?1";
        let parameters = params![seq, flags.marks.0, encode_keywords(flags)];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    pub(super) fn move_to(&self, record: u128, to: Folder) -> Answer {
        let known = self.known(record)?.ok_or_else(no_message)?;
        let from = known.folder.ok_or_else(no_message)?;
        if from != to {
            Self::refuse_queued(known.state)?;
            self.known_folder(to)?;
            self.refuse_other_mailbox(known.seq, to)?;
            self.put_into(&known, to)?;
            self.hand_to_mailbox(known.seq, to)?;
        }
        Ok(ProviderAnswer::Moved { from, to })
    }

    /// Fails if a message lies in one mailbox and the folder in another. Each mailbox has a Deleted of its own.
    fn refuse_other_mailbox(&self, seq: u64, to: Folder) -> Result<(), Failure> {
        let sql = "SELECT mailbox FROM spot WHERE message = ?1";
        let of: Option<i64> =
            self.connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0)).optional()?;
        let Some(of) = of.filter(|_| to != Folder::DELETED) else { return Ok(()) };
        if self.mailbox_of(to)?.is_some_and(|owner| owner != Owner::Mailbox(of)) {
            let text = "the message is in one mailbox and the folder in another; append the message \
                        there, and delete it where it is";
            return Err(Failure::refused(Code::E_NO_SUPPORT, text));
        }
        Ok(())
    }

    /// Whose a folder is: that of its directory, or of the nearest one that it is in. Nobody's is one that a program has made elsewhere.
    fn mailbox_of(&self, folder: Folder) -> rusqlite::Result<Option<Owner>> {
        let sql = "SELECT 1 FROM mailbox WHERE inside = ?1";
        if self.connection.prepare_cached(sql)?.exists([folder_number(folder)])? {
            return Ok(Some(Owner::Headed));
        }
        let sql = "WITH RECURSIVE above (id, parent, mailbox, depth) AS (
                       SELECT id, parent, mailbox, 0 FROM folder WHERE id = ?1
                       UNION ALL SELECT folder.id, folder.parent,
                               ifnull(folder.mailbox,
                                   (SELECT mailbox.id FROM mailbox WHERE inside = folder.id)),
                               depth + 1
                           FROM folder, above WHERE folder.id = above.parent
                               AND above.mailbox IS NULL AND depth < 64)
                   SELECT mailbox FROM above WHERE mailbox IS NOT NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row([folder_number(folder)], |row| row.get(0)).optional()?;
        Ok(found.map(Owner::Mailbox))
    }

    /// Puts a message into a folder, and tells its mailbox, if one has it.
    pub(super) fn put_into(&self, known: &Known, to: Folder) -> Result<(), Failure> {
        let sql = "UPDATE message SET folder = ?2 WHERE seq = ?1";
        self.connection.prepare_cached(sql)?.execute(params![known.seq, folder_number(to)])?;
        self.tell_mailbox(known.seq)?;
        Ok(())
    }

    pub(super) fn copy(&mut self, record: u128, copy: u128, to: Folder) -> Answer {
        if let Some(before) = self.known(copy)? {
            if before.state.is_some() || copy == record {
                return Err(collision());
            }
            return Ok(self.saved(copy, before.folder.unwrap_or(Folder::DELETED), false));
        }
        let known = self.known(record)?.ok_or_else(no_message)?;
        known.folder.ok_or_else(no_message)?;
        Self::refuse_queued(known.state)?;
        self.known_folder(to)?;
        self.refuse_other_mailbox(known.seq, to)?;
        let spot = spots::of(&self.connection, known.seq)?;
        let file = match &spot {
            Some(spot) if known.body == 0 => Some(spot),
            _ => None,
        };
        let staged = match file {
            None => None,
            Some(_) if remote::is_of_account(&self.connection, known.seq)? => {
                return Err(remote::not_here());
            }
            // The copy has the file under another name before it is answered: the first one may be removed by another program.
            Some(spot) => {
                let name = spots::name_of(copy);
                if !spot.stage(&self.connection, &name)? {
                    return Err(no_message());
                }
                Some((spot.number, name))
            }
        };
        let seq = self.take_seq()?;
        let sql =
            "INSERT INTO message (seq, record, folder, body, subject, sender, recipients, size,
                       received, recovered, body_sum, flags, keywords, date)
                   SELECT ?2, ?3, ?4, body, subject, sender, recipients, size, received, 0, NULL,
                       flags, keywords, date FROM message WHERE seq = ?1";
        let parameters = params![known.seq, seq, key(copy), folder_number(to)];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        self.sum_up(seq, copy)?;
        if known.body != 0 {
            self.share_body(known.body)?;
        }
        match staged {
            Some((mailbox, name)) => {
                let sql = "INSERT INTO spot VALUES (?1, ?2, ?3, ?4, 0, 0, 1, NULL, NULL, NULL)";
                let parameters = params![seq, mailbox, TMP, name];
                self.connection.prepare_cached(sql)?.execute(parameters)?;
            }
            None => self.hand_to_mailbox(seq, to)?,
        }
        Ok(self.saved(copy, to, true))
    }

    /// Writes the sum over a row's body, its number and its size.
    pub(super) fn sum_up(&self, seq: u64, record: u128) -> rusqlite::Result<()> {
        let sql = "SELECT body, size FROM message WHERE seq = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (body, size) = self.connection.prepare_cached(sql)?.query_row([seq], row)?;
        let sql = "UPDATE message SET body_sum = ?2 WHERE seq = ?1";
        let sum = body_sum(By::Xxh3, record, body, size);
        self.connection.prepare_cached(sql)?.execute(params![seq, sum])?;
        Ok(())
    }

    /// Notes that another message has the body.
    fn share_body(&self, body: u64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO shared VALUES (?1, 2)
                   ON CONFLICT DO UPDATE SET messages = messages + 1";
        self.connection.prepare_cached(sql)?.execute([body])?;
        Ok(())
    }

    /// Deletes a body that a message had, unless another message has it too.
    pub(super) fn drop_body(&self, body: u64) -> rusqlite::Result<()> {
        let sql = "UPDATE shared SET messages = messages - 1 WHERE body = ?1 RETURNING messages";
        let left: Option<u64> =
            self.connection.prepare_cached(sql)?.query_row([body], |row| row.get(0)).optional()?;
        match left {
            None => body::delete(&self.connection, body),
            Some(left) if left > 1 => Ok(()),
            Some(_) => {
                let sql = "DELETE FROM shared WHERE body = ?1";
                self.connection.prepare_cached(sql)?.execute([body])?;
                Ok(())
            }
        }
    }
}

/// Whether a mailbox must be told of a message, by what a spot has or is about to have: its heading, its folder and its marks. The last
/// parameter is the known marks.
macro_rules! pending {
    ($heading:literal, $folder:literal, $marks:literal, $known:literal) => {
        concat!(
            "(SELECT CASE WHEN spot.name IS NULL OR spot.dir = 'tmp' OR ",
            $heading,
            " IS NOT NULL
                  OR EXISTS (SELECT 1 FROM gone_dir
                      WHERE gone_dir.mailbox = spot.mailbox AND gone_dir.dir = spot.dir)
                  OR ",
            $folder,
            " <> message.folder OR ",
            $marks,
            " <> (ifnull(message.flags, 1) & ",
            $known,
            ")
                  OR EXISTS (SELECT 1 FROM remote WHERE remote.message = spot.message
                      AND remote.keywords IS NOT message.keywords)
              THEN 1 END
              FROM message WHERE message.seq = spot.message)"
        )
    };
}

/// What a mailbox must be told.
impl Writer {
    /// Notes that a message is not as its mailbox has it, if a mailbox has it.
    pub(super) fn tell_mailbox(&self, seq: u64) -> rusqlite::Result<()> {
        let sql = concat!(
            "UPDATE spot SET pending = ",
            pending!("spot.heading", "spot.folder", "spot.marks", "?2"),
            " WHERE message = ?1"
        );
        self.connection.prepare_cached(sql)?.execute(params![seq, Marks::KNOWN])?;
        Ok(())
    }

    /// The same for a message that its mailbox has in this folder, with these marks.
    pub(super) fn seen_in_mailbox(
        &self,
        seq: u64,
        (folder, marks): (Folder, Marks),
    ) -> rusqlite::Result<()> {
        let sql = concat!(
            "UPDATE spot SET folder = ?3, marks = ?4, heading = NULL, pending = ",
            pending!("NULL", "?3", "?4", "?2"),
            " WHERE message = ?1"
        );
        let parameters = params![seq, Marks::KNOWN, folder_number(folder), marks.0];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    /// Has a mailbox take a message that came into one of its folders by a program's wish. A folder that a program has made is of the
    /// mailbox in whose folders it is, or else of the Inbox's, which makes its directory for the first message.
    pub(super) fn hand_to_mailbox(&self, seq: u64, folder: Folder) -> rusqlite::Result<()> {
        let owner = match self.mailbox_of(folder)? {
            Some(Owner::Mailbox(owner)) => Some(owner),
            Some(Owner::Headed) => return Ok(()),
            None => None,
        };
        let sql = "INSERT INTO spot
                       SELECT ?1, coalesce(?3, inbox.mailbox), NULL, NULL, 0, 0, 1, NULL, NULL, NULL
                       FROM folder JOIN folder AS inbox ON inbox.id = 1
                       WHERE folder.id = ?2 AND (folder.dir IS NOT NULL OR folder.id > 5)
                           AND coalesce(?3, inbox.mailbox) IS NOT NULL
                   ON CONFLICT DO NOTHING";
        let parameters = params![seq, folder_number(folder), owner];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        self.tell_mailbox(seq)
    }

    /// Has a mailbox remove a message that was deleted for good. One that it has not begun to file is forgotten.
    pub(super) fn leave_mailbox(&self, seq: u64) -> rusqlite::Result<()> {
        let sql = "DELETE FROM spot WHERE message = ?1 AND name IS NULL AND heading IS NULL";
        self.connection.prepare_cached(sql)?.execute([seq])?;
        let sql = "UPDATE spot SET pending = 1 WHERE message = ?1";
        self.connection.prepare_cached(sql)?.execute([seq])?;
        Ok(())
    }
}
