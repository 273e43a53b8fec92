//! What each write changes in the tables. The caller holds a transaction, and undoes it if the write fails.
//!
//! The module `queue` has the writes of the outgoing queue.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};
use sundown_core::provider::{KeptClock, MessageContent, ProviderAnswer, StoreWrite, Submission};
use sundown_protocol::folder::{Flags, Marks};
use sundown_protocol::reply::Place;
use sundown_protocol::request::{Folder, SettingChange};
use sundown_protocol::{Code, EntryId};

use super::Options;
use super::body;
use super::numbers::Numbers;
use super::purge::{KeepSent, Slices};
use super::reader::{no_message, setting};
use super::recipients::{self, Envelope, Rows};
use super::remote;
use super::rows::{
    body_sum, encode_keywords, encode_report, encode_route, envelope_sum, is_of, key,
};
use super::schema::{self, GONE, folder_number, state_number};
use super::sum::By;
use crate::fault::{self, Failure};
use crate::headers::{Head, MAX_HEAD};

pub(super) type Answer = Result<ProviderAnswer, Failure>;

/// The size of the parts into which an inline body is cut, so that a piece far behind is read without the parts before it. The
/// pieces of an upload have at most this size.
const PART: usize = 256 << 10;

/// How much of the disk an uploaded message leaves free, in bytes.
const RESERVE: u64 = 4 << 20;

/// The only connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) uid: u32,
    seqs: Numbers,
    bodies: Numbers,
    /// The recipients that were changed last, if they have rows of their own: a message to many is changed many times.
    pub(super) changed_last: Option<Rows>,
    /// Whether there are mailboxes at servers.
    pub(super) has_accounts: bool,
    /// Whether a message that had vanished is back since the index for searches was told.
    pub(super) came_back: bool,
    /// Whether there are commits that no sync covers yet.
    pub(super) unsynced: Unsynced,
    pub(super) keep_sent: KeepSent,
    /// The name of this host, which notifications show.
    pub(super) host: String,
    /// Whether the purge has more to do.
    pub(super) purge: Slices,
    /// How far the purge of Sent has come.
    pub(super) purged_to: (i64, i64),
    /// Whether there may be pages to give back.
    pub(super) room: Slices,
}

/// Whether there are commits that no sync covers yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsynced {
    Nothing,
    Something,
}

/// What a row of a folder shows.
pub(super) struct Shown {
    pub(super) subject: String,
    pub(super) from: String,
    pub(super) to: String,
    /// When it was written, in milliseconds since 1970.
    pub(super) date: Option<u64>,
}

/// A message that is found by its record.
pub(super) struct Known {
    pub(super) seq: u64,
    pub(super) body: u64,
    /// `None` if it is deleted for good.
    pub(super) folder: Option<Folder>,
    /// Its state, if it was submitted.
    pub(super) state: Option<u8>,
}

/// A message to be entered.
pub(super) struct Entry<'a> {
    pub(super) body: u64,
    pub(super) record: u128,
    pub(super) folder: Folder,
    pub(super) shown: Shown,
    pub(super) size: u64,
    pub(super) received: u64,
    pub(super) recovered: bool,
    /// Its flags; a message of the queue has none, and counts as read.
    pub(super) flags: Option<Flags>,
    /// Its submission, if it is to be sent.
    pub(super) submission: Option<&'a Submission>,
}

impl Writer {
    pub(super) fn new(connection: Connection, options: &Options) -> Result<Self, Failure> {
        let uid = schema::uid(&connection)?;
        forget_uploads(&connection)?;
        let seqs = Numbers::load(&connection, "seq")?;
        let bodies = Numbers::load(&connection, "body")?;
        let keep_sent = options.keep_sent.or_stored(&connection)?;
        let has_accounts = remote::has_accounts(&connection)?;
        Ok(Self {
            connection,
            uid,
            seqs,
            bodies,
            changed_last: None,
            has_accounts,
            came_back: false,
            unsynced: Unsynced::Nothing,
            keep_sent,
            host: options.host.clone(),
            purge: Slices::More,
            purged_to: super::purge::START,
            room: Slices::More,
        })
    }

    pub(super) fn apply(&mut self, write: &StoreWrite) -> Answer {
        match write {
            StoreWrite::Append { upload, bytes } => self.append(*upload, bytes),
            StoreWrite::Discard { upload } => self.discard(*upload),
            StoreWrite::Submit { submission, content, deferred: _ } => {
                self.submit(submission, content)
            }
            StoreWrite::Save { record, folder, content, flags, recovered, now } => {
                self.save(*record, (*folder, flags), content, *recovered, *now)
            }
            StoreWrite::Copy { record, copy, to } => self.copy(*record, *copy, *to),
            StoreWrite::Move { record, to } => self.move_to(*record, *to),
            StoreWrite::SetFlags { record, add, remove } => self.set_flags(*record, add, remove),
            StoreWrite::MakeFolder { parent, name } => self.make_folder(*parent, name),
            StoreWrite::RenameFolder { folder, name } => self.rename_folder(*folder, name),
            StoreWrite::RemoveFolder { folder } => self.remove_folder(*folder),
            StoreWrite::Mirror(mirror) => self.mirror(mirror),
            StoreWrite::Update(update) => self.update(update),
            StoreWrite::Hasten { profile, uid, after, now } => {
                self.hasten((profile.as_deref(), *uid), *after, *now)
            }
            StoreWrite::Seen { record } => self.seen(*record),
            StoreWrite::Delete { record } => self.delete(*record),
            StoreWrite::DeleteFrom { record, from } => self.delete_from(*record, *from),
            StoreWrite::Setting { section, name, change } => self.set(section, name, change),
            StoreWrite::Clock(kept) => self.keep_clock(*kept),
            StoreWrite::Flush => self.flush(),
        }
    }

    fn keep_clock(&self, kept: KeptClock) -> Answer {
        let KeptClock { clock, ahead, ran } = kept;
        let sql = "INSERT INTO meta VALUES ('clock', ?1), ('ahead', ?2), ('ran', ?3)
                   ON CONFLICT DO UPDATE SET value = excluded.value";
        let parameters = (clock as i64, ahead, ran.min(i64::MAX as u64) as i64);
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(ProviderAnswer::Done)
    }

    pub(super) fn take_seq(&mut self) -> rusqlite::Result<u64> {
        self.seqs.take(&self.connection)
    }

    pub(super) fn take_body(&mut self) -> rusqlite::Result<u64> {
        self.bodies.take(&self.connection)
    }

    /// Notes that the last writes were undone.
    pub(super) fn undone(&mut self) {
        self.seqs.undone();
        self.bodies.undone();
        self.changed_last = None;
    }

    pub(super) fn append(&mut self, upload: u64, bytes: &[u8]) -> Answer {
        self.leave_a_reserve(bytes.len())?;
        let (number, parts) = match self.upload(upload)? {
            Some(found) => (found.body, found.parts),
            None => (self.begin_upload(upload)?, 0),
        };
        let part = body::FIRST + parts;
        if part > body::LAST {
            let text = "the message came in too many pieces; send larger ones";
            return Err(Failure::refused(Code::E_TOO_BIG, text));
        }
        body::insert(&self.connection, number, part, bytes)?;
        let sql = "UPDATE upload SET parts = parts + 1, size = size + ?2 WHERE number = ?1
                   RETURNING size";
        let mut statement = self.connection.prepare_cached(sql)?;
        let size = statement.query_row((upload as i64, bytes.len()), |row| row.get(0))?;
        Ok(ProviderAnswer::Appended(size))
    }

    /// Fails if a large message would take the last of the disk. What it takes is given back only within the store, and small
    /// messages, the log and updates of mail under way need some of the disk too.
    fn leave_a_reserve(&self, bytes: usize) -> Result<(), Failure> {
        let Some(found) = self.connection.path().and_then(|path| rustix::fs::statvfs(path).ok())
        else {
            return Ok(());
        };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free >= RESERVE + bytes as u64 {
            return Ok(());
        }
        let text = format!(
            "the disk has {} MB left, too few for a message of this size; make room and hand it over again",
            free >> 20
        );
        Err(Failure::refused(Code::E_NOT_ENOUGH_DISK, text))
    }

    fn begin_upload(&mut self, upload: u64) -> Result<u64, Failure> {
        let body = self.take_body()?;
        let sql = "INSERT INTO upload (number, body, parts, size) VALUES (?1, ?2, 0, 0)";
        self.connection.prepare_cached(sql)?.execute((upload as i64, body))?;
        Ok(body)
    }

    fn upload(&self, upload: u64) -> rusqlite::Result<Option<Upload>> {
        let sql = "SELECT body, parts, size FROM upload WHERE number = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Upload { body: row.get(0)?, parts: row.get(1)?, size: row.get(2)? })
        };
        self.connection.prepare_cached(sql)?.query_row([upload as i64], row).optional()
    }

    pub(super) fn has_upload(&self, upload: u64) -> rusqlite::Result<bool> {
        Ok(self.upload(upload)?.is_some())
    }

    /// The number of the body that an upload has become, and its size.
    pub(super) fn take_upload(&self, upload: u64) -> rusqlite::Result<Option<(u64, u64)>> {
        Ok(self.end_upload(upload)?.map(|found| (found.body, found.size)))
    }

    fn discard(&self, upload: u64) -> Answer {
        if let Some(found) = self.end_upload(upload)? {
            body::delete(&self.connection, found.body)?;
        }
        Ok(ProviderAnswer::Done)
    }

    /// Removes an upload, and leaves its bytes where they are.
    fn end_upload(&self, upload: u64) -> rusqlite::Result<Option<Upload>> {
        let found = self.upload(upload)?;
        // Most messages that are fetched have none.
        if found.is_some() {
            let sql = "DELETE FROM upload WHERE number = ?1";
            self.connection.prepare_cached(sql)?.execute([upload as i64])?;
        }
        Ok(found)
    }

    fn save(
        &mut self,
        record: u128,
        (folder, flags): (Folder, &Flags),
        content: &MessageContent,
        recovered: bool,
        now: u64,
    ) -> Answer {
        // A repeat may name an upload that was used long ago.
        if let MessageContent::Uploaded(_) = content
            && let Some(known) = self.known(record)?
        {
            return self.saved_before(record, &known, content);
        }
        self.known_folder(folder)?;
        let (body, size) = self.place_content(content)?;
        let beginning = self.beginning(body, content)?;
        let shown = shown(&Head::of(&beginning));
        let is_draft = folder == Folder::DRAFTS;
        // A draft stays in a store without an account until a program moves it.
        let hands = !is_draft || self.has_accounts && self.is_of_an_account(folder)?;
        let mut flags = flags.clone();
        if is_draft && hands {
            flags.marks = Marks(flags.marks.0 | Marks::DRAFT.0);
        }
        let (received, submission, flags) = (now, None, Some(flags));
        let entry =
            Entry { body, record, folder, shown, size, received, recovered, flags, submission };
        let Some(seq) = self.enter(&entry)? else {
            let known = self.known(record)?.ok_or_else(collision)?;
            return self.saved_before(record, &known, content);
        };
        if let MessageContent::Inline(bytes) = content {
            self.write_body(body, bytes)?;
        }
        if hands {
            self.hand_to_mailbox(seq, folder)?;
        }
        Ok(self.saved(record, folder, true))
    }

    fn saved_before(&self, record: u128, known: &Known, content: &MessageContent) -> Answer {
        if known.state.is_some() {
            return Err(collision());
        }
        self.drop_content(content)?;
        Ok(self.saved(record, known.folder.unwrap_or(Folder::DELETED), false))
    }

    pub(super) fn saved(&self, record: u128, folder: Folder, new: bool) -> ProviderAnswer {
        let place = Place { entry: EntryId { store: self.uid, record }, folder };
        ProviderAnswer::Saved { place, new }
    }

    /// The body number and size of a message. An inline body is written only when its row is entered, because it may be a repeat.
    pub(super) fn place_content(
        &mut self,
        content: &MessageContent,
    ) -> Result<(u64, u64), Failure> {
        match content {
            MessageContent::Inline(bytes) => Ok((self.take_body()?, bytes.len() as u64)),
            MessageContent::Uploaded(upload) => {
                let unknown = || {
                    let text = "there is no such upload; hand the message over again";
                    Failure::refused(Code::E_INVALID_PARAMETER, text)
                };
                let found = self.end_upload(*upload)?.ok_or_else(unknown)?;
                Ok((found.body, found.size))
            }
        }
    }

    pub(super) fn write_body(&self, number: u64, bytes: &[u8]) -> rusqlite::Result<()> {
        for (part, bytes) in (body::FIRST..).zip(bytes.chunks(PART)) {
            body::insert(&self.connection, number, part, bytes)?;
        }
        Ok(())
    }

    /// Drops the bytes that a repeat brings again.
    pub(super) fn drop_content(&self, content: &MessageContent) -> Result<(), Failure> {
        if let MessageContent::Uploaded(upload) = content {
            self.discard(*upload)?;
        }
        Ok(())
    }

    pub(super) fn beginning<'a>(
        &self,
        body: u64,
        content: &'a MessageContent,
    ) -> rusqlite::Result<Cow<'a, [u8]>> {
        match content {
            MessageContent::Inline(bytes) => Ok(Cow::Borrowed(bytes)),
            MessageContent::Uploaded(_) => {
                body::beginning(&self.connection, body, MAX_HEAD).map(Cow::Owned)
            }
        }
    }

    /// Enters a message with all its columns at once: a row that grows later would be written twice, and looked up in its indexes
    /// again. `None` if the record is known; checking that first would search the index twice.
    pub(super) fn enter(&mut self, entry: &Entry<'_>) -> rusqlite::Result<Option<u64>> {
        let seq = self.seqs.take(&self.connection)?;
        let sql = "INSERT INTO message (seq, record, folder, body, subject, sender, recipients,
                       size, received, recovered, body_sum, state, due, attempts, profile, uid,
                       envelope_from, envelope_to, no_mail, submitted, last_error, report,
                       envelope_sum, route, born, flags, keywords, date)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                       ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)
                   ON CONFLICT (record) DO NOTHING";
        let queued = entry.submission;
        let envelope = queued.map(|s| (s, Envelope::of(s.record, &s.recipients)));
        let entered = self.connection.prepare_cached(sql)?.execute(params![
            seq,
            key(entry.record),
            folder_number(entry.folder),
            entry.body,
            entry.shown.subject,
            entry.shown.from,
            entry.shown.to,
            entry.size,
            entry.received as i64,
            entry.recovered,
            body_sum(By::Xxh3, entry.record, entry.body, entry.size),
            queued.map(|s| state_number(s.state())),
            queued.map(|s| s.due as i64),
            queued.map(|s| s.attempts),
            queued.map(|s| &s.profile),
            queued.map(|s| s.uid),
            queued.map(|s| &s.from),
            envelope.as_ref().map(|(_, envelope)| &envelope.text),
            queued.map(|s| s.no_mail),
            queued.map(|s| s.submitted as i64),
            queued.and_then(|s| s.last_error.as_ref()),
            queued.map(|s| encode_report(s.report)),
            envelope.as_ref().map(|(s, envelope)| envelope_sum(By::Xxh3, s, envelope)),
            queued.and_then(|s| s.route.as_ref()).map(|route| encode_route(route)),
            queued.and_then(|s| s.born).map(|born| born as i64),
            entry.flags.as_ref().map(|flags| flags.marks.0),
            entry.flags.as_ref().and_then(encode_keywords),
            entry.shown.date.map(|date| date as i64),
        ])?;
        if entered == 0 {
            return Ok(None);
        }
        if let Some(submission) = queued {
            recipients::insert(&self.connection, seq, &submission.recipients)?;
        }
        Ok(Some(seq))
    }

    pub(super) fn known(&self, record: u128) -> rusqlite::Result<Option<Known>> {
        let sql = "SELECT seq, body, folder, state, record FROM message WHERE record = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            is_of(row.get(4)?, record)?;
            let folder = schema::folder(row.get(2)?)?;
            Ok(Known { seq: row.get(0)?, body: row.get(1)?, folder, state: row.get(3)? })
        };
        self.connection.prepare_cached(sql)?.query_row([key(record)], row).optional()
    }

    fn delete(&self, record: u128) -> Answer {
        let known = self.known(record)?.ok_or_else(no_message)?;
        let from = known.folder.ok_or_else(no_message)?;
        Self::refuse_queued(known.state)?;
        if from == Folder::DELETED {
            self.delete_for_good(&known)?;
            return Ok(ProviderAnswer::Removed { from, to: None });
        }
        self.put_into(&known, Folder::DELETED)?;
        Ok(ProviderAnswer::Removed { from, to: Some(Folder::DELETED) })
    }

    fn delete_from(&self, record: u128, from: Folder) -> Answer {
        let known = self.known(record)?.ok_or_else(no_message)?;
        if known.folder != Some(from) {
            return Err(no_message());
        }
        self.delete(record)
    }

    fn seen(&self, record: u128) -> Answer {
        let sql = "UPDATE message SET seen = 1 WHERE record = ?1";
        self.connection.prepare_cached(sql)?.execute([key(record)])?;
        Ok(ProviderAnswer::Done)
    }

    pub(super) fn delete_for_good(&self, known: &Known) -> rusqlite::Result<()> {
        self.drop_body(known.body)?;
        self.leave_mailbox(known.seq)?;
        // A row has no body that it has given back: a copy may still have it.
        let sql = "UPDATE message SET folder = ?2, body = 0, body_sum = NULL,
                       final_at = coalesce(final_at, ?3)
                   WHERE seq = ?1";
        let parameters = (known.seq, GONE, wall() as i64);
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    fn set(&self, section: &str, name: &str, change: &SettingChange) -> Answer {
        let before = setting(&self.connection, section, name)?;
        let after = match change {
            SettingChange::Keep => before,
            SettingChange::Set(value) => {
                let sql = "INSERT INTO setting (section, name, value) VALUES (?1, ?2, ?3)
                           ON CONFLICT DO UPDATE SET value = excluded.value";
                self.connection.prepare_cached(sql)?.execute([section, name, value])?;
                Some(value.clone())
            }
            SettingChange::Remove => {
                let sql = "DELETE FROM setting WHERE section = ?1 AND name = ?2";
                self.connection.prepare_cached(sql)?.execute([section, name])?;
                before
            }
        };
        Ok(ProviderAnswer::Setting(after))
    }

    /// Changes a row if there is something to sync, because a commit without changes syncs nothing.
    fn flush(&self) -> Answer {
        if self.unsynced == Unsynced::Something {
            let sql = "UPDATE meta SET value = value + 1 WHERE name = 'touched'";
            self.connection.prepare_cached(sql)?.execute([])?;
        }
        Ok(ProviderAnswer::Done)
    }
}

struct Upload {
    body: u64,
    parts: u64,
    size: u64,
}

/// Removes uploads, which do not outlive their broker. Each has a transaction of its own: together they may be large.
fn forget_uploads(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT number, body FROM upload")?;
    let uploads = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let uploads = uploads.collect::<rusqlite::Result<Vec<(i64, u64)>>>()?;
    drop(statement);
    for (number, body) in uploads {
        let transaction = connection.unchecked_transaction()?;
        connection.execute("DELETE FROM upload WHERE number = ?1", [number])?;
        match body::delete(connection, body) {
            // The remaining bytes do no harm.
            Err(error) if fault::is_damaged_page(&error) => {}
            done => done?,
        }
        transaction.commit()?;
    }
    Ok(())
}

pub(super) fn shown(head: &Head<'_>) -> Shown {
    let (subject, from, to) = (head.subject(), head.from(), head.to());
    Shown { subject, from, to, date: head.date() }
}

pub(super) fn collision() -> Failure {
    let text = "the key was used for another message; take a new one";
    Failure::refused(Code::E_COLLISION, text)
}

/// Wall time in milliseconds since 1970.
pub(super) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
