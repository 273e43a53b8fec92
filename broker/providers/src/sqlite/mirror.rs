//! What a mailbox has seen and done, written into the store.
//!
//! What a program changed here and a mailbox does not have yet stays as it is; everything else becomes as the mailbox has it. For
//! flags this is decided for each mark: the spot has the mark as it was last seen in the mailbox, the row as programs here want it.
//!
//! A message that vanished keeps its row, like any that was deleted for good. If a message with its name comes back within a week,
//! in whatever directory, it is the same message: it was moved by another program, or the mailbox was away.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{OptionalExtension, params};
use sundown_core::provider::{
    Heading, MessageFacts, Mirror, MirrorChange, News, ProviderAnswer, Spot, StoreChange,
};
use sundown_protocol::folder::{Marks, Role};
use sundown_protocol::notification::FolderChange;
use sundown_protocol::request::Folder;
use twox_hash::XxHash3_128;

use super::folders::TOP;
use super::rows::{body_sum, key, keywords_text};
use super::schema::{self, GONE, folder_number, role_number};
use super::spots;
use super::sum::By;
use super::write::{Answer, Writer, wall};
use crate::fault::Failure;
use crate::maildir;

/// With more changes of one kind than this a slice says only that tables are to be read again.
const MANY: usize = 16;

/// A mailbox whose changes are written.
pub(super) struct Mailbox<'a> {
    pub(super) number: i64,
    path: &'a Path,
    /// Whether it is an account at a server.
    pub(super) is_account: bool,
}

/// A message that lies in a mailbox.
pub(super) struct Lying {
    pub(super) seq: u64,
    pub(super) record: u128,
    /// Where programs here want it.
    pub(super) folder: Option<Folder>,
    /// Where the mailbox had it.
    seen: Option<Folder>,
    /// As programs here want them; `None` of a message of the queue.
    marks: Option<Marks>,
    /// As the mailbox had them.
    marks_seen: Marks,
    /// The number of its body; zero if the store has none.
    pub(super) body: u64,
}

impl Writer {
    pub(super) fn mirror(&mut self, mirror: &Mirror) -> Answer {
        let number = self.mailbox(&mirror.mailbox)?;
        let is_account = self.is_account(number)?;
        let mut mailbox = Mailbox { number, path: &mirror.mailbox, is_account };
        let takes_room = |change: &MirrorChange| {
            matches!(change, MirrorChange::Found { .. } | MirrorChange::Bytes { .. })
        };
        if is_account && mirror.changes.iter().any(takes_room) {
            self.leave_room()?;
        }
        let mut changes = Vec::new();
        for change in &mirror.changes {
            mailbox.is_account |= matches!(change, MirrorChange::Account { .. });
            self.mirror_one(&mailbox, change, &mut changes)?;
        }
        Ok(ProviderAnswer::Mirrored(in_few(changes)))
    }

    /// The number of a mailbox, which the store may see for the first time, or in another place: a home that was moved, or restored
    /// elsewhere.
    fn mailbox(&self, path: &Path) -> rusqlite::Result<i64> {
        if let Some(number) = spots::number_of(&self.connection, path)? {
            return Ok(number);
        }
        let identity = maildir::identity(path);
        let bytes = path.as_os_str().as_bytes();
        if let Some(moved) = self.moved_mailbox(identity.as_deref())? {
            let sql = "UPDATE mailbox SET path = ?2 WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute(params![moved, bytes])?;
            return Ok(moved);
        }
        let sql = "INSERT INTO mailbox (path, identity) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![bytes, identity])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// The mailbox with this identity that is not where it was. One that is still there has been copied.
    fn moved_mailbox(&self, identity: Option<&str>) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT id, path FROM mailbox WHERE identity = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query([identity])?;
        while let Some(row) = found.next()? {
            let path: Vec<u8> = row.get(1)?;
            if maildir::identity(Path::new(OsStr::from_bytes(&path))).as_deref() != identity {
                return row.get(0).map(Some);
            }
        }
        Ok(None)
    }

    fn mirror_one(
        &mut self,
        of: &Mailbox<'_>,
        change: &MirrorChange,
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let mailbox = of.number;
        match change {
            MirrorChange::Account { append_sent, heading } => {
                self.account(mailbox, *append_sent)?;
                if let Some(name) = heading {
                    self.head_folders(mailbox, name, changes)?;
                }
            }
            MirrorChange::Cursor { dir, cursor } => self.set_cursor(mailbox, dir, *cursor)?,
            MirrorChange::Unfetched { spot } => {
                if let Some(lying) = self.lying(mailbox, spot)? {
                    self.forget_bytes(&lying)?;
                }
            }
            MirrorChange::Bytes { spot, first, bytes, last } => {
                if let Some(lying) = self.lying(mailbox, spot)? {
                    self.fetched(&lying, (*first, bytes, *last), changes)?;
                }
            }
            MirrorChange::Traced { spot, trace } => {
                if let Some(lying) = self.lying(mailbox, spot)? {
                    self.set_trace((lying.seq, mailbox), Some(*trace))?;
                }
            }
            MirrorChange::Folder { dir, parent, name, role } => {
                self.mirror_folder(mailbox, (dir, parent.as_deref()), (name, *role), changes)?;
            }
            MirrorChange::FolderMade { folder, dir, name } => {
                self.folder_made(mailbox, (*folder, name), dir)?;
            }
            MirrorChange::FolderGone { dir } => self.folder_gone(mailbox, dir, changes)?,
            MirrorChange::FolderMoved { from, to, name } => {
                self.folder_moved(mailbox, (from, to), name)?;
            }
            MirrorChange::Passed => {
                let sql = "UPDATE mailbox SET passed = 1 WHERE id = ?1";
                self.connection.prepare_cached(sql)?.execute([mailbox])?;
                if of.is_account {
                    self.forget_vanished(mailbox)?;
                }
            }
            MirrorChange::FolderKept { dir, name: Some(name) } => {
                self.name_tried(mailbox, dir, name)?;
            }
            MirrorChange::FolderKept { dir, name: None } => self.removed_there(mailbox, dir)?,
            MirrorChange::Found { spot, marks, news, facts } => match self.lying(mailbox, spot)? {
                Some(lying) => {
                    self.seen_at(&lying, spot, (mailbox, *marks), changes)?;
                    self.found_again(of, spot, facts, changes)?;
                }
                None => self.found(of, (spot, *marks), (*news, facts), changes)?,
            },
            MirrorChange::Keywords { spot, keywords } => {
                self.keywords_seen(of, spot, keywords, changes)?;
            }
            MirrorChange::KeywordsSet { spot, keywords } => {
                if let Some(lying) = self.lying(mailbox, spot)? {
                    self.set_keywords((lying.seq, mailbox), keywords)?;
                }
            }
            MirrorChange::Marked { spot, marks } => {
                if let Some(lying) = self.lying(mailbox, spot)? {
                    self.seen_at(&lying, spot, (mailbox, *marks), changes)?;
                }
            }
            MirrorChange::Moved { from, to, marks } => {
                // A message that is there already is another one, which has come there before this was said.
                if self.lying(mailbox, to)?.is_none()
                    && let Some(lying) = self.lying(mailbox, from)?
                {
                    self.lies_at(lying.seq, to)?;
                    self.seen_at(&lying, to, (mailbox, *marks), changes)?;
                }
            }
            MirrorChange::Vanished { spot } => {
                if let Some(lying) = self.lying(mailbox, spot)? {
                    self.vanished(of, &lying, changes)?;
                }
            }
            MirrorChange::Leaves { record, from, to } => {
                self.leaves(mailbox, *record, (from.as_ref(), to), changes)?;
            }
            MirrorChange::Done { record, spot, marks, wanted } => {
                self.carried_out(of, (*record, *wanted), (spot.as_ref(), *marks), changes)?;
            }
        }
        Ok(())
    }

    /// The message that lies at a place, also one that is gone here and not there yet.
    pub(super) fn lying(&self, mailbox: i64, spot: &Spot) -> rusqlite::Result<Option<Lying>> {
        let sql = "SELECT seq, record, message.folder, spot.folder, flags, spot.marks, body
                   FROM spot JOIN message ON message.seq = spot.message
                   WHERE mailbox = ?1 AND dir = ?2 AND name = ?3
                       AND (message.folder <> 0 OR pending = 1)";
        let parameters = params![mailbox, spot.dir, spot.name];
        self.connection.prepare_cached(sql)?.query_row(parameters, lying).optional()
    }

    /// The folder that a directory is.
    fn folder_of(&self, mailbox: i64, dir: &str) -> rusqlite::Result<Option<Folder>> {
        let sql = "SELECT id FROM folder WHERE mailbox = ?1 AND dir = ?2";
        let parameters = params![mailbox, dir];
        let number = self
            .connection
            .prepare_cached(sql)?
            .query_row(parameters, |row| row.get(0))
            .optional()?;
        number.map_or(Ok(None), schema::folder)
    }

    /// The folder of a message with these marks in that directory. What is marked as deleted is in Deleted.
    fn place_for(&self, mailbox: i64, dir: &str, marks: Marks) -> Result<Folder, Failure> {
        if marks.contains(Marks::DELETED) {
            return Ok(Folder::DELETED);
        }
        // A directory that was not announced is the Inbox's: nothing in it is lost from sight.
        Ok(self.folder_of(mailbox, dir)?.unwrap_or(Folder::INBOX))
    }

    /// Puts a known message where the mailbox has it now.
    fn lies_at(&self, seq: u64, spot: &Spot) -> rusqlite::Result<()> {
        // A message that has vanished may be remembered there; it lies elsewhere or nowhere now.
        let sql = "UPDATE OR REPLACE spot SET dir = ?2, name = ?3 WHERE message = ?1";
        self.connection.prepare_cached(sql)?.execute(params![seq, spot.dir, spot.name])?;
        Ok(())
    }

    /// A known message was seen where it lies, with these marks.
    fn seen_at(
        &self,
        lying: &Lying,
        spot: &Spot,
        (mailbox, marks): (i64, Marks),
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let place = self.place_for(mailbox, &spot.dir, marks)?;
        let seq = lying.seq;
        let Some(folder) = lying.folder else {
            let sql = "UPDATE spot SET marks = ?2, folder = ?3, heading = NULL WHERE message = ?1";
            let parameters = params![seq, marks.0, folder_number(place)];
            self.connection.prepare_cached(sql)?.execute(parameters)?;
            return Ok(());
        };
        // A mark that differs from the one last seen was changed here, and is pending; the others are as in the mailbox.
        let here = lying.marks.unwrap_or(Marks::READ).0 & Marks::KNOWN;
        let own = here ^ lying.marks_seen.0;
        let merged = (here & own) | (marks.0 & !own);
        if merged != here {
            self.write_marks(seq, Marks(merged))?;
        }
        let moved_here = lying.seen.is_some_and(|seen| seen != folder);
        let lies = if moved_here { folder } else { place };
        if lies != folder {
            let sql = "UPDATE message SET folder = ?2 WHERE seq = ?1";
            self.connection.prepare_cached(sql)?.execute(params![seq, folder_number(lies)])?;
            changes.push(StoreChange::Moved { record: lying.record, from: folder, to: lies });
        }
        if merged != here {
            changes.push(StoreChange::Modified { record: lying.record, folder: lies });
        }
        Ok(self.seen_in_mailbox(seq, (place, marks))?)
    }

    /// A message was found that lies nowhere else: it is new, or it comes back.
    fn found(
        &mut self,
        of: &Mailbox<'_>,
        (spot, marks): (&Spot, Marks),
        (news, facts): (bool, &MessageFacts),
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let (mailbox, path) = (of.number, of.path);
        if of.is_account {
            if let Some(trace) = facts.trace
                && let Some(same) = self.same_message(of, spot, trace)?
            {
                match same.folder {
                    None if !self.is_pending(same.seq)? => {
                        self.comes_back((same.seq, same.record), (of, spot, marks), changes)?;
                    }
                    _ => {
                        self.lies_at(same.seq, spot)?;
                        self.seen_at(&same, spot, (mailbox, marks), changes)?;
                    }
                }
                return self.found_again(of, spot, facts, changes);
            }
        } else if self.was_filed(of, spot, marks, changes)? {
            return Ok(());
        }
        let folder = self.place_for(mailbox, &spot.dir, marks)?;
        let record = if of.is_account {
            remote_record(path, spot, facts.received)
        } else {
            let plain = record_of(path, None, &spot.name);
            match self.known(plain)? {
                Some(known) if known.folder.is_none() => {
                    return self.comes_back((known.seq, plain), (of, spot, marks), changes);
                }
                // There is one with this name in another directory.
                Some(_) => record_of(path, Some(&spot.dir), &spot.name),
                None => plain,
            }
        };
        let seq = self.take_seq()?;
        let keywords = keywords_text(&facts.keywords);
        // To check first whether the record is known would search the index twice.
        let sql = "INSERT INTO message (seq, record, folder, body, subject, sender, recipients,
                       size, received, recovered, flags, date, keywords, body_sum)
                   VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12)
                   ON CONFLICT (record) DO NOTHING";
        let entered = self.connection.prepare_cached(sql)?.execute(params![
            seq,
            key(record),
            folder_number(folder),
            facts.subject,
            facts.from,
            facts.to,
            facts.size,
            facts.received as i64,
            marks.0,
            facts.date.map(|date| date as i64),
            keywords,
            body_sum(By::Xxh3, record, 0, facts.size),
        ])?;
        if entered == 0 {
            return match self.known(record)? {
                Some(known) if known.folder.is_none() => {
                    self.comes_back((known.seq, record), (of, spot, marks), changes)?;
                    self.found_again(of, spot, facts, changes)
                }
                _ => Ok(()),
            };
        }
        let sql =
            "INSERT OR REPLACE INTO spot VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, NULL, NULL, NULL)";
        let parameters = params![seq, mailbox, spot.dir, spot.name, marks.0, folder_number(folder)];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        if of.is_account {
            self.set_remote((seq, mailbox), facts, keywords.as_deref())?;
        }
        let told = News { from: facts.from.clone(), subject: facts.subject.clone() };
        let news = (news && folder == Folder::INBOX).then(|| Box::new(told));
        changes.push(StoreChange::Created { record, folder, news });
        Ok(())
    }

    /// Whether a file is a message of the store that the mailbox has filed, and could not say so before it was cut off; or one that
    /// had vanished.
    fn was_filed(
        &mut self,
        of: &Mailbox<'_>,
        spot: &Spot,
        marks: Marks,
        changes: &mut Vec<StoreChange>,
    ) -> Result<bool, Failure> {
        let mailbox = of.number;
        let Some(record) = maildir::filed_as(&spot.name) else { return Ok(false) };
        let Some(known) = self.known(record)? else { return Ok(false) };
        if known.folder.is_none() {
            let sql = "SELECT 1 FROM spot WHERE message = ?1 AND mailbox = ?2 AND pending IS NOT 1";
            let vanished =
                self.connection.prepare_cached(sql)?.exists(params![known.seq, mailbox])?;
            if vanished {
                self.comes_back((known.seq, record), (of, spot, marks), changes)?;
            }
            return Ok(vanished);
        }
        let place = self.place_for(mailbox, &spot.dir, marks)?;
        let sql = "UPDATE OR IGNORE spot SET dir = ?2, name = ?3, marks = ?4, folder = ?5,
                       heading = NULL WHERE message = ?1 AND mailbox = ?6 AND name IS NULL";
        let parameters =
            params![known.seq, spot.dir, spot.name, marks.0, folder_number(place), mailbox];
        if self.connection.prepare_cached(sql)?.execute(parameters)? == 0 {
            return Ok(false);
        }
        self.tell_mailbox(known.seq)?;
        Ok(true)
    }

    /// A message that had vanished is here again.
    fn comes_back(
        &mut self,
        (seq, record): (u64, u128),
        (of, spot, marks): (&Mailbox<'_>, &Spot, Marks),
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let mailbox = of.number;
        let sql =
            "SELECT pending, spot.folder, EXISTS (SELECT 1 FROM folder WHERE id = spot.folder)
                   FROM spot WHERE message = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, Option<bool>>(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?))
        };
        let before = self.connection.prepare_cached(sql)?.query_row([seq], row).optional()?;
        let place = self.place_for(mailbox, &spot.dir, marks)?;
        let wanted = match before {
            // It was deleted here, and the mailbox is about to do the same.
            Some((Some(true), ..)) => return Ok(()),
            Some((Some(false), folder, true)) => schema::folder(folder)?,
            _ => None,
        };
        // What programs here have changed, and the mailbox had not done when it was missed, is still to be done.
        let folder = wanted.unwrap_or(place);
        let (mut flags, seen) = (self.flags(seq)?, self.marks_seen(seq)?);
        let here = flags.marks.0 & Marks::KNOWN;
        let own = if before.is_some() { here ^ (seen.0 & Marks::KNOWN) } else { 0 };
        let own = own & !Marks::DELETED.0;
        flags.marks = Marks((here & own) | (marks.0 & !own));
        self.write_flags(seq, &flags)?;
        // An account's message has kept its bytes.
        let sql = "UPDATE message SET folder = ?2, body = iif(?3, body, 0),
                       final_at = CASE WHEN state IS NOT NULL THEN final_at END WHERE seq = ?1";
        let parameters = params![seq, folder_number(folder), of.is_account];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        self.sum_up(seq, record)?;
        let sql =
            "INSERT OR REPLACE INTO spot VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, NULL, NULL, NULL)";
        let parameters = params![seq, mailbox, spot.dir, spot.name, marks.0, folder_number(place)];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        self.tell_mailbox(seq)?;
        changes.push(StoreChange::Created { record, folder, news: None });
        self.came_back = true;
        Ok(())
    }

    /// Whether a program has changed a message, and the mailbox has not done so yet.
    fn is_pending(&self, seq: u64) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM spot WHERE message = ?1 AND pending = 1";
        self.connection.prepare_cached(sql)?.exists([seq])
    }

    /// A message is not in the mailbox any more.
    fn vanished(
        &self,
        of: &Mailbox<'_>,
        lying: &Lying,
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let Some(folder) = lying.folder else {
            // It was deleted here.
            let sql = "DELETE FROM spot WHERE message = ?1";
            self.connection.prepare_cached(sql)?.execute([lying.seq])?;
            return Ok(());
        };
        if of.is_account {
            self.forget_fetched(lying.seq)?;
        } else {
            let sql = "SELECT body FROM message WHERE seq = ?1";
            let body: u64 =
                self.connection.prepare_cached(sql)?.query_row([lying.seq], |row| row.get(0))?;
            if body != 0 {
                self.drop_body(body)?;
            }
        }
        let sql = "UPDATE message SET folder = ?2, body = iif(?4, body, 0),
                       body_sum = iif(?4, body_sum, NULL), final_at = coalesce(final_at, ?3)
                   WHERE seq = ?1";
        let parameters = params![lying.seq, GONE, wall() as i64, of.is_account];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        // Where it was to be moved is remembered, should it come back.
        let is_moved = lying.seen.is_some_and(|seen| seen != folder);
        let sql = "UPDATE spot SET pending = iif(?2, 0, NULL), folder = iif(?2, ?3, folder),
                       heading = NULL
                   WHERE message = ?1";
        let parameters = params![lying.seq, is_moved, folder_number(folder)];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        changes.push(StoreChange::Deleted { record: lying.record, folder });
        Ok(())
    }

    /// The mailbox is about to move a message. It is pending until the mailbox says that it has.
    fn leaves(
        &self,
        mailbox: i64,
        record: u128,
        (from, to): (Option<&(Spot, Marks)>, &Heading),
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let Some(known) = self.known(record)? else { return Ok(()) };
        if let Some((spot, marks)) = from {
            let (mut flags, before) = (self.flags(known.seq)?, self.marks_seen(known.seq)?);
            let deleted = |marks: Marks| marks.contains(Marks::DELETED);
            let is_marked = deleted(*marks);
            if let Some(folder) = known.folder
                && is_marked == (folder == Folder::DELETED)
                && [flags.marks, before].map(deleted) == [!is_marked; 2]
            {
                // It has the mark of its place from a mailbox that was cut off before it said so.
                flags.marks.0 ^= Marks::DELETED.0;
                self.write_flags(known.seq, &flags)?;
                changes.push(StoreChange::Modified { record, folder });
            }
            let place = folder_number(self.place_for(mailbox, &spot.dir, *marks)?);
            let sql = "UPDATE OR IGNORE spot SET dir = ?3, name = ?4, marks = ?5, folder = ?6
                       WHERE message = ?1 AND mailbox = ?2";
            let parameters = params![known.seq, mailbox, spot.dir, spot.name, marks.0, place];
            self.connection.prepare_cached(sql)?.execute(parameters)?;
        }
        let sql = "UPDATE spot SET heading = ?3, heading_marks = ?4, beyond = ?5, pending = 1
                   WHERE message = ?1 AND mailbox = ?2";
        let parameters = params![known.seq, mailbox, to.dir, to.marks.0, to.beyond];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    /// The marks with which the mailbox had a message.
    fn marks_seen(&self, seq: u64) -> rusqlite::Result<Marks> {
        let sql = "SELECT marks FROM spot WHERE message = ?1";
        let marks = self.connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0));
        Ok(Marks(marks.optional()?.unwrap_or_default()))
    }

    /// The mailbox has what was pending. There may be more by now, which stays as programs want it and is pending still.
    fn carried_out(
        &mut self,
        of: &Mailbox<'_>,
        (record, wanted): (u128, Option<(Folder, Marks)>),
        (spot, marks): (Option<&Spot>, Marks),
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let mailbox = of.number;
        let Some(known) = self.known(record)? else { return Ok(()) };
        let seq = known.seq;
        let Some(spot) = spot else {
            // What is not deleted here stays pending: it was moved or flagged after the mailbox looked.
            if known.folder.is_none() {
                let sql = "DELETE FROM spot WHERE message = ?1";
                self.connection.prepare_cached(sql)?.execute([seq])?;
                self.forget_fetched(seq)?;
            }
            return Ok(());
        };
        let place = self.place_for(mailbox, &spot.dir, marks)?;
        // Another session's mailbox may have taken the file for a new message before this one could say what it is.
        if let Some(twin) = self.lying(mailbox, spot)?.filter(|twin| twin.seq != seq) {
            self.vanished(of, &twin, changes)?;
        }
        let sql = "SELECT folder, marks, pending IS NOT 1 FROM spot WHERE message = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, i64>(0)?, Marks(row.get(1)?), row.get::<_, bool>(2)?))
        };
        let before = self.connection.prepare_cached(sql)?.query_row([seq], row).optional()?;
        if known.folder.is_none() && before.is_some_and(|(.., is_settled)| is_settled) {
            // No program has deleted it: a reading has missed it on its way.
            return self.comes_back((seq, record), (of, spot, marks), changes);
        }
        let sql = "UPDATE OR REPLACE spot SET dir = ?2, name = ?3, marks = ?4, folder = ?5,
                       heading = NULL WHERE message = ?1 AND mailbox = ?6";
        let parameters = params![seq, spot.dir, spot.name, marks.0, folder_number(place), mailbox];
        if self.connection.prepare_cached(sql)?.execute(parameters)? == 0 {
            if known.folder.is_none() {
                // It was deleted for good while the mailbox filed it, which is to remove it again.
                let sql = "INSERT OR REPLACE INTO spot VALUES (?1, ?6, ?2, ?3, ?4, ?5, 1, NULL, NULL, NULL)";
                self.connection.prepare_cached(sql)?.execute(parameters)?;
            }
            return Ok(());
        }
        let Some((folder_before, marks_before, _)) = before else { return Ok(()) };
        let (folder_wanted, marks_wanted) = wanted.unzip();
        // A message that no program has moved is where its mark of deletion says, and one that was moved has the mark of its place.
        let as_wanted = known.folder.filter(|folder| Some(*folder) == folder_wanted);
        let unmoved = as_wanted.filter(|folder| folder_before == folder_number(*folder));
        if let Some(from) = unmoved.filter(|folder| *folder != place) {
            let sql = "UPDATE message SET folder = ?2 WHERE seq = ?1";
            self.connection.prepare_cached(sql)?.execute(params![seq, folder_number(place)])?;
            changes.push(StoreChange::Moved { record, from, to: place });
        }
        let mut flags = self.flags(seq)?;
        let here = flags.marks.0 & Marks::KNOWN;
        let looked = marks_wanted.map_or(here, |marks| marks.0 & Marks::KNOWN);
        // A mark that no program here has changed, neither before the mailbox looked nor since, is as in the mailbox.
        let mut taken = (marks.0 ^ looked) & !(here ^ looked) & !(looked ^ marks_before.0);
        if as_wanted.is_none() {
            taken &= !Marks::DELETED.0;
        }
        if let Some(folder) = known.folder
            && taken & Marks::KNOWN != 0
        {
            flags.marks.0 ^= taken & Marks::KNOWN;
            self.write_flags(seq, &flags)?;
            let folder = if unmoved.is_some() { place } else { folder };
            changes.push(StoreChange::Modified { record, folder });
        }
        if known.body != 0 && spot.dir != spots::TMP && !of.is_account {
            // The mailbox has its bytes now.
            self.drop_body(known.body)?;
            let sql = "UPDATE message SET body = 0 WHERE seq = ?1";
            self.connection.prepare_cached(sql)?.execute([seq])?;
            self.sum_up(seq, record)?;
        }
        match known.folder {
            Some(_) => self.tell_mailbox(seq)?,
            None => self.leave_mailbox(seq)?,
        }
        Ok(())
    }

    /// A mailbox has this directory.
    fn mirror_folder(
        &self,
        mailbox: i64,
        (dir, parent): (&str, Option<&str>),
        (name, role): (&str, Option<Role>),
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        if let Some(folder) = self.folder_of(mailbox, dir)? {
            return Ok(self.renamed_there(folder, name, changes)?);
        }
        let sql = "SELECT 1 FROM gone_dir WHERE mailbox = ?1 AND dir = ?2";
        if self.connection.prepare_cached(sql)?.exists(params![mailbox, dir])? {
            // Its folder was removed here, and the directory is about to be.
            return Ok(());
        }
        let bind = "UPDATE folder SET mailbox = ?2, dir = ?3
                    WHERE id = ?1 AND dir IS NULL";
        let heading = self.heading(mailbox)?;
        if let Some(built_in) = role.and_then(Role::built_in).filter(|_| heading == TOP) {
            let parameters = params![folder_number(built_in), mailbox, dir];
            if self.connection.prepare_cached(bind)?.execute(parameters)? > 0 {
                return Ok(());
            }
        }
        let parent = match parent {
            None => heading,
            Some(parent) => self.folder_of(mailbox, parent)?.map_or(heading, folder_number),
        };
        let sql = "SELECT dir FROM folder WHERE parent = ?1 AND name = ?2 AND mailbox = ?3
                       AND renamed = 1";
        let parameters = params![parent, name, mailbox];
        let before: Option<String> = self
            .connection
            .prepare_cached(sql)?
            .query_row(parameters, |row| row.get(0))
            .optional()?;
        if let Some(before) = before {
            // The mailbox has renamed it, and was cut off before it said so.
            return self.folder_moved(mailbox, (&before, dir), name);
        }
        let sql = "SELECT id FROM folder WHERE parent = ?1 AND name = ?2 AND dir IS NULL
                       AND id > 5";
        let known: Option<i64> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![parent, name], |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            // A folder that was made here, and that the mailbox has now.
            self.connection.prepare_cached(bind)?.execute(params![known, mailbox, dir])?;
            return self.take_in(mailbox, (dir, schema::folder(known)?), changes);
        }
        let name = self.free_name(parent, name)?;
        let role = role.filter(|role| role.built_in().is_none()).map(role_number);
        let sql = "INSERT INTO folder (parent, name, role, mailbox, dir)
                   SELECT ?1, ?2, CASE WHEN EXISTS (SELECT 1 FROM folder WHERE role = ?3)
                       THEN NULL ELSE ?3 END, ?4, ?5";
        let parameters = params![parent, name, role, mailbox, dir];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        let made = schema::folder(self.connection.last_insert_rowid())?;
        if let Some(folder) = made {
            changes.push(StoreChange::Folder { folder, change: FolderChange::Made });
        }
        self.take_in(mailbox, (dir, made), changes)
    }

    /// Shows in a folder what was found in its directory while that had none: it was in the Inbox, unless a program has moved it.
    fn take_in(
        &self,
        mailbox: i64,
        (dir, folder): (&str, Option<Folder>),
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let Some(to) = folder else { return Ok(()) };
        let inbox = folder_number(Folder::INBOX);
        let sql = "SELECT seq, record FROM spot JOIN message ON seq = spot.message
                   WHERE mailbox = ?1 AND dir = ?2 AND spot.folder = ?3 AND message.folder = ?3";
        let mut found = self.connection.prepare_cached(sql)?;
        let found = found.query_map(params![mailbox, dir, inbox], |row| {
            Ok((row.get::<_, u64>(0)?, u128::from_be_bytes(row.get(1)?)))
        })?;
        for (seq, record) in found.collect::<rusqlite::Result<Vec<_>>>()? {
            let number = folder_number(to);
            for sql in [
                "UPDATE message SET folder = ?2 WHERE seq = ?1",
                "UPDATE spot SET folder = ?2 WHERE message = ?1",
            ] {
                self.connection.prepare_cached(sql)?.execute(params![seq, number])?;
            }
            changes.push(StoreChange::Moved { record, from: Folder::INBOX, to });
        }
        Ok(())
    }

    /// The folder in which the folders of a mailbox are.
    fn heading(&self, mailbox: i64) -> rusqlite::Result<i64> {
        let sql = "SELECT folder.id FROM mailbox JOIN folder ON folder.id = inside
                   WHERE mailbox.id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let heading = statement.query_row([mailbox], |row| row.get(0)).optional()?;
        Ok(heading.unwrap_or(TOP))
    }

    /// Makes a folder of that name for the folders of a mailbox that has none yet. Others stay where they are.
    fn head_folders(
        &self,
        mailbox: i64,
        name: &str,
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        let sql = "SELECT 1 FROM mailbox WHERE id = ?1 AND inside IS NULL
                   AND NOT EXISTS (SELECT 1 FROM folder WHERE folder.mailbox = ?1)";
        if !self.connection.prepare_cached(sql)?.exists([mailbox])? {
            return Ok(());
        }
        let name = self.free_name(TOP, name)?;
        let sql = "INSERT INTO folder (parent, name) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![TOP, name])?;
        let heading = self.connection.last_insert_rowid();
        let sql = "UPDATE mailbox SET inside = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![mailbox, heading])?;
        if let Some(folder) = schema::folder(heading)? {
            changes.push(StoreChange::Folder { folder, change: FolderChange::Made });
        }
        Ok(())
    }

    /// A mailbox has made a directory for a folder, which may have another name by now, or be gone: the mailbox is told of that. The
    /// Outbox is no mailbox's: what is in it is in the queue.
    fn folder_made(
        &self,
        mailbox: i64,
        (folder, name): (Folder, &str),
        dir: &str,
    ) -> Result<(), Failure> {
        if folder == Folder::OUTBOX || self.folder_of(mailbox, dir)?.is_some() {
            return Ok(());
        }
        let number = folder_number(folder);
        let sql = "UPDATE folder SET mailbox = ?2, dir = ?3,
                       renamed = CASE WHEN name <> ?4 AND id > 5 THEN 1 END
                   WHERE id = ?1 AND dir IS NULL";
        let parameters = params![number, mailbox, dir, name];
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        if self.connection.prepare_cached("SELECT 1 FROM folder WHERE id = ?1")?.exists([number])? {
            return Ok(());
        }
        let sql = "INSERT OR IGNORE INTO gone_dir VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![mailbox, dir])?;
        Ok(())
    }

    /// Takes over another name. The folders of every store keep theirs.
    fn renamed_there(
        &self,
        folder: Folder,
        name: &str,
        changes: &mut Vec<StoreChange>,
    ) -> rusqlite::Result<()> {
        if folder.built_in().is_some() {
            return Ok(());
        }
        let sql = "UPDATE OR IGNORE folder SET name = ?2
                   WHERE id = ?1 AND name <> ?2 AND renamed IS NULL
                       AND substr(name, 1, length(?2) + 2) <> ?2 || ' ('";
        let parameters = params![folder_number(folder), name];
        if self.connection.prepare_cached(sql)?.execute(parameters)? > 0 {
            changes.push(StoreChange::Folder { folder, change: FolderChange::Renamed });
        }
        Ok(())
    }

    /// A name that no folder in the same place has: this one, or this one with a number.
    fn free_name(&self, parent: i64, name: &str) -> rusqlite::Result<String> {
        let sql = "SELECT 1 FROM folder WHERE parent = ?1 AND name = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut free = name.to_owned();
        let mut number = 1;
        while statement.exists(params![parent, free])? {
            number += 1;
            free = format!("{name} ({number})");
        }
        Ok(free)
    }

    /// A directory has another name, and so have those below it, also those that are to be removed.
    fn folder_moved(
        &self,
        mailbox: i64,
        (from, to): (&str, &str),
        name: &str,
    ) -> Result<(), Failure> {
        for (table, dir) in [
            ("folder", "dir"),
            ("spot", "dir"),
            ("spot", "heading"),
            ("gone_dir", "dir"),
            ("cursor", "dir"),
        ] {
            let sql = format!(
                "UPDATE OR IGNORE {table} SET {dir} = ?3 || substr({dir}, length(?2) + 1)
                 WHERE mailbox = ?1 AND ({dir} = ?2 OR substr({dir}, 1, length(?2) + 1) = ?2 || '.')"
            );
            self.connection.prepare_cached(&sql)?.execute(params![mailbox, from, to])?;
        }
        // Also where something else has that name here: it is not tried for ever.
        self.name_tried(mailbox, from, name)?;
        self.name_tried(mailbox, to, name)
    }

    /// A directory was to have the name of its folder, which it has now or cannot have. What the folder is called since is still to be
    /// done.
    fn name_tried(&self, mailbox: i64, dir: &str, name: &str) -> Result<(), Failure> {
        let sql = "UPDATE folder SET renamed = NULL WHERE mailbox = ?1 AND dir = ?2 AND name = ?3";
        self.connection.prepare_cached(sql)?.execute(params![mailbox, dir, name])?;
        Ok(())
    }

    /// A directory is not to be removed any more: it is gone, or it stays, and then its folder is that again.
    fn removed_there(&self, mailbox: i64, dir: &str) -> Result<(), Failure> {
        let sql = "DELETE FROM gone_dir WHERE mailbox = ?1 AND dir = ?2";
        self.connection.prepare_cached(sql)?.execute(params![mailbox, dir])?;
        Ok(())
    }

    /// A mailbox does not have this directory any more. Its folder stays as long as it has messages or folders.
    fn folder_gone(
        &self,
        mailbox: i64,
        dir: &str,
        changes: &mut Vec<StoreChange>,
    ) -> Result<(), Failure> {
        self.removed_there(mailbox, dir)?;
        self.forget_cursor(mailbox, dir)?;
        let Some(folder) = self.folder_of(mailbox, dir)? else { return Ok(()) };
        let number = folder_number(folder);
        let sql = "UPDATE folder SET mailbox = NULL, dir = NULL, renamed = NULL WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute([number])?;
        let sql = "DELETE FROM folder WHERE id = ?1 AND id > 5
                       AND NOT EXISTS (SELECT 1 FROM message WHERE folder = ?1 AND folder <> 2)
                       AND NOT EXISTS (SELECT 1 FROM folder AS inner WHERE inner.parent = ?1)";
        if self.connection.prepare_cached(sql)?.execute([number])? > 0 {
            changes.push(StoreChange::Folder { folder, change: FolderChange::Removed });
        }
        Ok(())
    }
}

pub(super) fn lying(row: &rusqlite::Row<'_>) -> rusqlite::Result<Lying> {
    Ok(Lying {
        seq: row.get(0)?,
        record: u128::from_be_bytes(row.get(1)?),
        folder: schema::folder(row.get(2)?)?,
        seen: schema::folder(row.get(3)?)?,
        marks: row.get::<_, Option<u16>>(4)?.map(Marks),
        marks_seen: Marks(row.get(5)?),
        body: row.get(6)?,
    })
}

/// The record of a message of a mailbox. It is made of where the message lies, so that it stays the same when the store is lost and
/// made anew; and it begins with the time in the message's name, like the records that programs make.
fn record_of(mailbox: &Path, dir: Option<&str>, name: &str) -> u128 {
    let mut parts = vec![mailbox.as_os_str().as_bytes(), name.as_bytes()];
    parts.extend(dir.map(str::as_bytes));
    let hash = XxHash3_128::oneshot(&parts.join(&0));
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let seconds = name[..digits].parse().ok().filter(|seconds: &u64| *seconds < 1 << 35);
    let begin = seconds.map_or(hash >> 80, |seconds| u128::from(seconds * 1000));
    (begin & ((1 << 48) - 1)) << 80 | hash & ((1 << 80) - 1)
}

/// The record of a message of an account: made in the same way, of its number, and with the time when it came to the server.
fn remote_record(account: &Path, spot: &Spot, received: u64) -> u128 {
    let parts = [account.as_os_str().as_bytes(), spot.dir.as_bytes(), spot.name.as_bytes()];
    let hash = XxHash3_128::oneshot(&parts.join(&0));
    u128::from(received & ((1 << 48) - 1)) << 80 | hash & ((1 << 80) - 1)
}

/// What is told of a slice: each change, or of many that are no news only which tables are to be read again.
fn in_few(changes: Vec<StoreChange>) -> Vec<StoreChange> {
    let is_plain = |change: &StoreChange| {
        !matches!(change, StoreChange::Created { news: Some(_), .. } | StoreChange::Folder { .. })
    };
    if changes.iter().filter(|change| is_plain(change)).count() <= MANY {
        return changes;
    }
    let mut folders = BTreeSet::new();
    let mut told = Vec::new();
    for change in changes {
        match change {
            StoreChange::Created { folder, news: None, .. }
            | StoreChange::Modified { folder, .. }
            | StoreChange::Deleted { folder, .. }
            | StoreChange::Reload(folder) => {
                folders.insert(folder);
            }
            StoreChange::Moved { from, to, .. } => folders.extend([from, to]),
            change => told.push(change),
        }
    }
    told.extend(folders.into_iter().map(StoreChange::Reload));
    told
}
