//! What each write does to the tables. Whoever calls holds a transaction and undoes it if this fails.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};
use sundown_core::provider::{
    MessageContent, ProviderAnswer, StoreWrite, Submission, SubmissionState, SubmissionUpdate,
};
use sundown_protocol::reply::Place;
use sundown_protocol::request::{Folder, SettingChange};
use sundown_protocol::{Code, EntryId};

use super::reader::{NOT_READ, no_message, setting, submission_of};
use super::rows::{encode_recipients, key};
use super::schema::{self, KEPT, folder_number, state_number};
use super::{body, reader};
use crate::fault::Failure;
use crate::headers::{Facts, Head, MAX_HEAD};
use crate::notice::{self, Notice};

type Answer = Result<ProviderAnswer, Failure>;

/// Bodies that come at once are cut into parts of this size, so that a piece far behind is read without the ones
/// before it. It is what an upload's pieces have at most.
const PART: usize = 256 << 10;

/// The most rows that one purge removes, so that it never holds a commit up for long.
const PURGE: u32 = 10_000;

/// The one connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) uid: u32,
    next_seq: u64,
    /// Whether something was committed that no sync covers yet.
    pub(super) unsynced: Unsynced,
}

/// Whether something was committed that no sync covers yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsynced {
    Nothing,
    Something,
}

/// What a row of a folder shows.
struct Shown {
    subject: String,
    from: String,
    to: String,
}

/// A message to be entered.
struct Entry {
    seq: u64,
    record: u128,
    folder: Folder,
    shown: Shown,
    size: u64,
    received: u64,
    recovered: bool,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Result<Self, Failure> {
        let uid = schema::uid(&connection)?;
        forget_uploads(&connection)?;
        let next_seq = highest_seq(&connection)? + 1;
        Ok(Self { connection, uid, next_seq, unsynced: Unsynced::Nothing })
    }

    pub(super) fn apply(&mut self, write: &StoreWrite) -> Answer {
        match write {
            StoreWrite::Append { upload, bytes } => self.append(*upload, bytes),
            StoreWrite::Discard { upload } => self.discard(*upload),
            StoreWrite::Submit { submission, content, deferred: _ } => {
                self.submit(submission, content)
            }
            StoreWrite::Save { record, content, recovered, now } => {
                self.save(*record, content, *recovered, *now)
            }
            StoreWrite::Update(update) => self.update(update),
            StoreWrite::Delete { record } => self.delete(*record),
            StoreWrite::Setting { section, name, change } => self.set(section, name, change),
            StoreWrite::Flush => self.flush(),
        }
    }

    /// A number that no message had. What a failed write took stays unused.
    fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    fn append(&mut self, upload: u64, bytes: &[u8]) -> Answer {
        let (seq, parts) = match self.upload(upload)? {
            Some(found) => (found.seq, found.parts),
            None => (self.begin_upload(upload)?, 0),
        };
        let part = body::FIRST + parts;
        if part > body::LAST {
            let text = "the message came in too many pieces; send larger ones";
            return Err(Failure::refused(Code::E_TOO_BIG, text));
        }
        body::insert(&self.connection, seq, part, bytes)?;
        let sql = "UPDATE upload SET parts = parts + 1, size = size + ?2 WHERE number = ?1
                   RETURNING size";
        let mut statement = self.connection.prepare_cached(sql)?;
        let size = statement.query_row((upload as i64, bytes.len()), |row| row.get(0))?;
        Ok(ProviderAnswer::Appended(size))
    }

    fn begin_upload(&mut self, upload: u64) -> Result<u64, Failure> {
        let seq = self.take_seq();
        let sql = "INSERT INTO upload (number, seq, parts, size) VALUES (?1, ?2, 0, 0)";
        self.connection.prepare_cached(sql)?.execute((upload as i64, seq))?;
        Ok(seq)
    }

    fn upload(&self, upload: u64) -> rusqlite::Result<Option<Upload>> {
        let sql = "SELECT seq, parts, size FROM upload WHERE number = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Upload { seq: row.get(0)?, parts: row.get(1)?, size: row.get(2)? })
        };
        self.connection.prepare_cached(sql)?.query_row([upload as i64], row).optional()
    }

    fn discard(&self, upload: u64) -> Answer {
        if let Some(found) = self.end_upload(upload)? {
            body::delete(&self.connection, found.seq)?;
        }
        Ok(ProviderAnswer::Done)
    }

    /// Forgets an upload and leaves its bytes where they are.
    fn end_upload(&self, upload: u64) -> rusqlite::Result<Option<Upload>> {
        let found = self.upload(upload)?;
        let sql = "DELETE FROM upload WHERE number = ?1";
        self.connection.prepare_cached(sql)?.execute([upload as i64])?;
        Ok(found)
    }

    fn submit(&mut self, submission: &Submission, content: &MessageContent) -> Answer {
        if let Some(first) = submission_of(&self.connection, submission.record)? {
            self.drop_content(content)?;
            return Ok(ProviderAnswer::Submitted { submission: Box::new(first), new: false });
        }
        if self.message(submission.record)?.is_some() || self.is_gone(submission.record)? {
            return Err(collision());
        }
        let (seq, mut size) = self.place_content(content)?;
        let beginning = self.beginning(seq, content)?;
        let head = Head::of(&beginning);
        let (from, submitted) = (submission.from.as_str(), submission.submitted);
        let front = head.additions(&Facts { record: submission.record, from, submitted });
        if !front.is_empty() {
            body::insert(&self.connection, seq, body::FRONT, &front)?;
            size += front.len() as u64;
        }
        let shown = shown_of_submission(&head, submission);
        let stored = Submission { subject: shown.subject.clone(), size, ..submission.clone() };
        self.enter(&Entry {
            seq,
            record: submission.record,
            folder: Folder::Outbox,
            shown,
            size,
            received: submitted,
            recovered: false,
        })?;
        let stored = self.enqueue(stored)?;
        Ok(ProviderAnswer::Submitted { submission: Box::new(stored), new: true })
    }

    fn enqueue(&self, submission: Submission) -> rusqlite::Result<Submission> {
        let sql = "INSERT INTO submission (record, state, due, attempts, profile, uid, sender,
                       recipients, subject, size, no_mail, submitted, last_error)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                   RETURNING ord";
        let parameters = params![
            key(submission.record),
            state_number(submission.state()),
            submission.due as i64,
            submission.attempts,
            submission.profile,
            submission.uid,
            submission.from,
            encode_recipients(&submission.recipients),
            submission.subject,
            submission.size,
            submission.no_mail,
            submission.submitted as i64,
            submission.last_error,
        ];
        let mut statement = self.connection.prepare_cached(sql)?;
        let order = statement.query_row(parameters, |row| row.get(0))?;
        Ok(Submission { order, ..submission })
    }

    fn save(
        &mut self,
        record: u128,
        content: &MessageContent,
        recovered: bool,
        now: u64,
    ) -> Answer {
        if submission_of(&self.connection, record)?.is_some() {
            return Err(collision());
        }
        let there = self.message(record)?.map(|(_, folder)| folder);
        let gone = || Ok(self.is_gone(record)?.then_some(Folder::Deleted));
        if let Some(folder) = there.map_or_else(gone, |folder| Ok::<_, Failure>(Some(folder)))? {
            self.drop_content(content)?;
            return Ok(self.saved(record, folder, false));
        }
        let (seq, size) = self.place_content(content)?;
        let beginning = self.beginning(seq, content)?;
        let shown = shown(&Head::of(&beginning));
        let folder = Folder::Drafts;
        self.enter(&Entry { seq, record, folder, shown, size, received: now, recovered })?;
        Ok(self.saved(record, folder, true))
    }

    fn saved(&self, record: u128, folder: Folder, new: bool) -> ProviderAnswer {
        let place = Place { entry: EntryId { store: self.uid, record }, folder };
        ProviderAnswer::Saved { place, new }
    }

    /// Where a message's bytes are and how many; writes them unless they were uploaded.
    fn place_content(&mut self, content: &MessageContent) -> Result<(u64, u64), Failure> {
        match content {
            MessageContent::Inline(bytes) => Ok((self.place(bytes)?, bytes.len() as u64)),
            MessageContent::Uploaded(upload) => {
                let unknown = || {
                    let text = "there is no such upload; hand the message over again";
                    Failure::refused(Code::E_INVALID_PARAMETER, text)
                };
                let found = self.end_upload(*upload)?.ok_or_else(unknown)?;
                Ok((found.seq, found.size))
            }
        }
    }

    fn place(&mut self, bytes: &[u8]) -> rusqlite::Result<u64> {
        let seq = self.take_seq();
        for (part, bytes) in (body::FIRST..).zip(bytes.chunks(PART)) {
            body::insert(&self.connection, seq, part, bytes)?;
        }
        Ok(seq)
    }

    /// A repeat brings its bytes again; they are not needed.
    fn drop_content(&self, content: &MessageContent) -> Result<(), Failure> {
        if let MessageContent::Uploaded(upload) = content {
            self.discard(*upload)?;
        }
        Ok(())
    }

    fn beginning<'a>(
        &self,
        seq: u64,
        content: &'a MessageContent,
    ) -> rusqlite::Result<Cow<'a, [u8]>> {
        match content {
            MessageContent::Inline(bytes) => Ok(Cow::Borrowed(bytes)),
            MessageContent::Uploaded(_) => {
                body::beginning(&self.connection, seq, MAX_HEAD).map(Cow::Owned)
            }
        }
    }

    fn enter(&self, entry: &Entry) -> rusqlite::Result<()> {
        let sql = "INSERT INTO message (seq, record, folder, subject, sender, recipients, size,
                       received, recovered)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.connection.prepare_cached(sql)?.execute(params![
            entry.seq,
            key(entry.record),
            folder_number(entry.folder),
            entry.shown.subject,
            entry.shown.from,
            entry.shown.to,
            entry.size,
            entry.received as i64,
            entry.recovered,
        ])?;
        Ok(())
    }

    fn message(&self, record: u128) -> rusqlite::Result<Option<(u64, Folder)>> {
        let sql = "SELECT seq, folder FROM message WHERE record = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, schema::folder(row.get(1)?)?));
        self.connection.prepare_cached(sql)?.query_row([key(record)], row).optional()
    }

    fn is_gone(&self, record: u128) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM gone WHERE record = ?1";
        self.connection.prepare_cached(sql)?.exists([key(record)])
    }

    fn update(&mut self, update: &SubmissionUpdate) -> Answer {
        self.overwrite(update)?;
        let submission = &update.submission;
        let moved = match folder_after(submission.state()) {
            Some(folder) => self.leave_outbox(submission.record, folder)?,
            None => None,
        };
        let told = !update.bounced.is_empty() && !submission.from.is_empty();
        let notice = if told { Some(self.put_notice(update)?) } else { None };
        Ok(ProviderAnswer::Updated { moved, notice })
    }

    fn overwrite(&self, update: &SubmissionUpdate) -> Result<(), Failure> {
        let submission = &update.submission;
        let sql = "UPDATE submission SET state = ?2, due = ?3, attempts = ?4, recipients = ?5,
                       no_mail = ?6, last_error = ?7,
                       final_at = CASE WHEN ?8 THEN coalesce(final_at, ?9) END
                   WHERE record = ?1";
        let changed = self.connection.prepare_cached(sql)?.execute(params![
            key(submission.record),
            state_number(submission.state()),
            submission.due as i64,
            submission.attempts,
            encode_recipients(&submission.recipients),
            submission.no_mail,
            submission.last_error,
            submission.state().is_final(),
            update.now as i64,
        ])?;
        let missing = || Failure::refused(Code::E_NOT_IN_QUEUE, "the message is not in the queue");
        if changed == 0 { Err(missing()) } else { Ok(()) }
    }

    fn leave_outbox(&self, record: u128, folder: Folder) -> rusqlite::Result<Option<Folder>> {
        let sql = "UPDATE message SET folder = ?2 WHERE record = ?1 AND folder = ?3";
        let (to, from) = (folder_number(folder), folder_number(Folder::Outbox));
        let changed = self.connection.prepare_cached(sql)?.execute((key(record), to, from))?;
        Ok((changed > 0).then_some(folder))
    }

    fn put_notice(&mut self, update: &SubmissionUpdate) -> Result<u128, Failure> {
        let record = update.notice;
        if self.message(record)?.is_none() {
            let text = self.compose_notice(update)?;
            let (subject, from, to) = notice::shown(&text);
            let seq = self.place(&text)?;
            self.enter(&Entry {
                seq,
                record,
                folder: Folder::Inbox,
                shown: Shown { subject, from, to },
                size: text.len() as u64,
                received: update.now,
                recovered: false,
            })?;
        }
        let sql = "UPDATE submission SET notice = ?2 WHERE record = ?1";
        let parameters = (key(update.submission.record), key(record));
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(record)
    }

    fn compose_notice(&self, update: &SubmissionUpdate) -> Result<Vec<u8>, Failure> {
        let submission = &update.submission;
        let original = match self.message(submission.record)? {
            Some((seq, _)) => body::beginning(&self.connection, seq, MAX_HEAD)?,
            None => Vec::new(),
        };
        let stored = submission_of(&self.connection, submission.record)?;
        let failures: Vec<_> = update
            .bounced
            .iter()
            .filter_map(|place| submission.recipients.get(*place))
            .map(|recipient| notice::Failure {
                address: &recipient.address,
                reply: recipient.reply.as_deref().unwrap_or_default(),
            })
            .collect();
        Ok(Notice {
            record: update.notice,
            to: &submission.from,
            subject: stored.as_ref().map_or("", |stored| &stored.subject),
            submitted: submission.submitted,
            now: update.now,
            failures: &failures,
            original: &original,
        }
        .compose())
    }

    fn delete(&self, record: u128) -> Answer {
        let (seq, from) = self.message(record)?.ok_or_else(no_message)?;
        if self.is_queued(record)? {
            let text = "the message is in the outgoing queue; abort it first";
            return Err(Failure::refused(Code::E_SUBMITTED, text));
        }
        if from == Folder::Deleted {
            self.delete_for_good(record, seq)?;
            return Ok(ProviderAnswer::Removed { from, to: None });
        }
        let sql = "UPDATE message SET folder = ?2 WHERE record = ?1";
        let parameters = (key(record), folder_number(Folder::Deleted));
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(ProviderAnswer::Removed { from, to: Some(Folder::Deleted) })
    }

    fn is_queued(&self, record: u128) -> rusqlite::Result<bool> {
        let found = submission_of(&self.connection, record)?;
        Ok(found.is_some_and(|submission| !submission.state().is_final()))
    }

    fn delete_for_good(&self, record: u128, seq: u64) -> rusqlite::Result<()> {
        body::delete(&self.connection, seq)?;
        let run = |sql, parameters: &[&dyn rusqlite::ToSql]| {
            self.connection.prepare_cached(sql)?.execute(parameters)
        };
        run("DELETE FROM message WHERE seq = ?1", params![seq])?;
        // The highest of all may go; without this a later start would use its number again.
        run("UPDATE meta SET value = max(value, ?1) WHERE name = 'seq'", params![seq])?;
        let at = wall() as i64;
        run("INSERT OR REPLACE INTO gone (record, at) VALUES (?1, ?2)", params![key(record), at])?;
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

    /// A commit that changes nothing syncs nothing; so something is changed if there is anything to sync.
    fn flush(&self) -> Answer {
        if self.unsynced == Unsynced::Something {
            let sql = "UPDATE meta SET value = value + 1 WHERE name = 'touched'";
            self.connection.prepare_cached(sql)?.execute([])?;
        }
        Ok(ProviderAnswer::Done)
    }

    /// Forgets what became of submissions, and keys, a week after. A bounce stays while its notification does.
    pub(super) fn purge(&self, now: u64) -> rusqlite::Result<()> {
        let before = now.saturating_sub(KEPT) as i64;
        let bounced = state_number(SubmissionState::Bounced);
        let sql = format!(
            "DELETE FROM submission WHERE ord IN (
                 SELECT ord FROM submission WHERE final_at < ?1
                     AND NOT (state = {bounced} AND notice IS NOT NULL{NOT_READ})
                 LIMIT {PURGE})"
        );
        self.connection.execute(&sql, [before])?;
        self.connection.execute("DELETE FROM gone WHERE at < ?1", [before])?;
        Ok(())
    }

    /// Submissions by state, without the final ones.
    pub(super) fn count(&self) -> rusqlite::Result<[u64; 9]> {
        let sql = "SELECT state, count(*) FROM submission WHERE state < 6 GROUP BY state";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut counts = [0; 9];
        while let Some(row) = rows.next()? {
            counts[row.get::<_, usize>(0)?] = row.get(1)?;
        }
        Ok(counts)
    }
}

struct Upload {
    seq: u64,
    parts: u64,
    size: u64,
}

/// Uploads do not outlive the broker that took them.
fn forget_uploads(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT seq FROM upload")?;
    let seqs = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<u64>>>()?;
    for seq in seqs {
        body::delete(connection, seq)?;
    }
    connection.execute("DELETE FROM upload", [])?;
    Ok(())
}

fn highest_seq(connection: &Connection) -> rusqlite::Result<u64> {
    let one = |sql| connection.query_row(sql, [], |row| row.get::<_, Option<u64>>(0));
    let message = one("SELECT max(seq) FROM message")?;
    let part = one("SELECT max(id) FROM body")?.map(body::seq_of);
    let gone = one("SELECT value FROM meta WHERE name = 'seq'")?;
    Ok(message.max(part).max(gone).unwrap_or(0))
}

/// Where a message goes when its submission is final. What was withdrawn can be changed and sent again.
fn folder_after(state: SubmissionState) -> Option<Folder> {
    match state {
        SubmissionState::Sent | SubmissionState::Bounced => Some(Folder::Sent),
        SubmissionState::Aborted => Some(Folder::Drafts),
        _ => None,
    }
}

fn shown(head: &Head<'_>) -> Shown {
    Shown { subject: head.subject(), from: head.from(), to: head.to() }
}

/// The envelope speaks where the head is silent.
fn shown_of_submission(head: &Head<'_>, submission: &Submission) -> Shown {
    let mut shown = shown(head);
    if shown.from.is_empty() {
        shown.from.clone_from(&submission.from);
    }
    if shown.to.is_empty() {
        let to: Vec<_> = submission.recipients.iter().map(|r| r.address.as_str()).collect();
        shown.to = crate::headers::clean(&to.join(", "));
    }
    shown
}

fn collision() -> Failure {
    let text = "the key was used for another message; take a new one";
    Failure::refused(Code::E_COLLISION, text)
}

/// Wall time in milliseconds since 1970.
pub(super) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
