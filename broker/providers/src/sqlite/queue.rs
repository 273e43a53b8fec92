//! The outgoing queue: what submissions and updates change in the tables, and how damaged submissions are given up.

use std::ops::ControlFlow;

use rusqlite::{OptionalExtension, params};
use sundown_core::provider::{
    Action, Dsn, MessageContent, Onward, ProviderAnswer, StoredDsn, Submission, SubmissionState,
    SubmissionUpdate,
};
use sundown_mail::head::Lookout;
use sundown_protocol::Code;
use sundown_protocol::folder::Flags;
use sundown_protocol::request::{Folder, Returned};

use super::body;
use super::purge::{KeepSent, Slices};
use super::reader::submission_of;
use super::recipients::{self, Envelope, MANY};
use super::rows::{self, envelope_sum, key};
use super::schema::{NO_STATE, folder_number, state_number};
use super::sum::By;
use super::write::{Answer, Entry, Known, Shown, Writer, collision, shown};
use crate::fault::Failure;
use crate::headers::{Facts, Head, MAX_HEAD, clean};
use crate::notice::{self, MAX_RETURNED, Notice, Original};

/// The most rows that a slice of a flush looks at.
const HASTEN: usize = 500;

/// The age at which a damaged submission is given up, in milliseconds: 5 days, the default of profiles.
const MAX_AGE: u64 = 5 * 24 * 3600 * 1000;

/// The most rows of a state that are checked for damage at once.
const LOOKED_AT: usize = 1_000;

/// A message that was examined and has no row yet.
struct Placed {
    body: u64,
    size: u64,
    shown: Shown,
    rest: Rest,
}

/// The part of a message that must still be written.
enum Rest {
    /// The whole message, with the header lines in front that it lacks.
    Whole(Vec<u8>),
    /// The missing header lines, as a part of their own: the message was uploaded and is stored already.
    Front(Vec<u8>),
}

impl Writer {
    pub(super) fn submit(&mut self, submission: &Submission, content: &MessageContent) -> Answer {
        let record = submission.record;
        // A repeat may name an upload that was used long ago.
        if let MessageContent::Uploaded(_) = content
            && let Some(known) = self.known(record)?
        {
            return self.submitted_before(submission, &known, content);
        }
        let Placed { body, size, shown, rest } = self.place_submission(submission, content)?;
        let stored = Submission { subject: shown.subject.clone(), size, ..submission.clone() };
        let entered = self.enter(&Entry {
            body,
            record,
            folder: Folder::OUTBOX,
            shown,
            size,
            received: submission.submitted,
            recovered: false,
            flags: None,
            submission: Some(submission),
        })?;
        let Some(order) = entered else {
            let known = self.known(record)?.ok_or_else(collision)?;
            return self.submitted_before(submission, &known, content);
        };
        match rest {
            Rest::Whole(bytes) => self.write_body(body, &bytes)?,
            Rest::Front(front) if front.is_empty() => {}
            Rest::Front(front) => body::insert(&self.connection, body, body::FRONT, &front)?,
        }
        let submission = Box::new(Submission { order, ..stored });
        Ok(ProviderAnswer::Submitted { submission, new: true })
    }

    /// Examines a message, without writing any of it: a repeat is noticed only when its row is entered.
    fn place_submission(
        &mut self,
        submission: &Submission,
        content: &MessageContent,
    ) -> Result<Placed, Failure> {
        let Submission { record, submitted, .. } = *submission;
        let facts = Facts { record, from: &submission.from, submitted };
        let (body, size) = self.place_content(content)?;
        let beginning = self.beginning(body, content)?;
        let head = Head::of(&beginning);
        let shown = shown_of_submission(&head, submission);
        let mut missing = head.missing();
        if let Some(mut lookout) = head.lookout() {
            self.look_for(&mut lookout, body, content)?;
            missing.retain(|needed| lookout.missing().contains(&needed.name()));
        }
        let mut front = head.additions_of(&missing, &facts);
        let size = size + front.len() as u64;
        let rest = match content {
            MessageContent::Inline(bytes) => {
                front.extend_from_slice(bytes);
                Rest::Whole(front)
            }
            MessageContent::Uploaded(_) => Rest::Front(front),
        };
        Ok(Placed { body, size, shown, rest })
    }

    /// Looks for fields in a whole head, which is longer than what is looked at otherwise.
    fn look_for(
        &self,
        lookout: &mut Lookout,
        body: u64,
        content: &MessageContent,
    ) -> rusqlite::Result<()> {
        match content {
            MessageContent::Inline(bytes) => lookout.feed(bytes),
            MessageContent::Uploaded(_) => {
                body::each_part(&self.connection, body, |part| {
                    lookout.feed(part);
                    if lookout.is_over() {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Answers a submission whose key is known. A key belongs to a user. Using another user's key, or the same key for another
    /// message, is refused: the answer would be the entry of a message that was not submitted.
    fn submitted_before(
        &self,
        submission: &Submission,
        known: &Known,
        content: &MessageContent,
    ) -> Answer {
        if known.state.is_none() {
            return Err(collision());
        }
        let first = submission_of(&self.connection, submission.record)?.ok_or_else(collision)?;
        if first.uid != submission.uid || !self.is_repeated(known.body, content)? {
            return Err(collision());
        }
        self.drop_content(content)?;
        Ok(ProviderAnswer::Submitted { submission: Box::new(first), new: false })
    }

    /// Whether a message is the same as the earlier one, as far as that is still stored. The body of a deleted message is not
    /// stored, and an uploaded message may have been used already.
    fn is_repeated(&self, body: u64, content: &MessageContent) -> Result<bool, Failure> {
        let MessageContent::Inline(bytes) = content else { return Ok(true) };
        match body::beginning(&self.connection, body, usize::MAX) {
            // The stored message has header lines in front that the store added.
            Ok(stored) => Ok(stored.is_empty() || stored.ends_with(bytes)),
            // The stored body is damaged, so that the messages cannot be compared.
            Err(error) if error.sqlite_error_code().is_none() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes deferred messages due, in one slice. So a flush of a long queue does not delay other commits.
    pub(super) fn hasten(
        &self,
        (profile, uid): (Option<&str>, Option<u32>),
        after: u64,
        now: u64,
    ) -> Answer {
        let deferred = state_number(SubmissionState::Deferred);
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let last = "SELECT seq FROM message WHERE state = ?1 AND seq > ?2
                    ORDER BY seq LIMIT 1 OFFSET ?3";
        let parameters = (deferred, after, HASTEN - 1);
        let mut statement = self.connection.prepare_cached(last)?;
        let last = statement.query_row(parameters, |row| row.get(0)).optional()?;
        let sql = "UPDATE message SET due = ?1
                   WHERE state = ?2 AND seq > ?3 AND seq <= ?4 AND due > ?1
                       AND profile = coalesce(?5, profile) AND uid = coalesce(?6, uid)";
        let behind = last.unwrap_or(i64::MAX);
        let parameters = (now as i64, deferred, after, behind, profile, uid);
        let found = self.connection.prepare_cached(sql)?.execute(parameters)? as u64;
        Ok(ProviderAnswer::Hastened { found, next: last.map(|last| last as u64) })
    }

    pub(super) fn update(&mut self, update: &SubmissionUpdate) -> Answer {
        self.overwrite(update)?;
        let submission = &update.submission;
        let moved = match folder_after(update.state) {
            Some(folder) => self.leave_outbox(submission.record, folder)?,
            None => None,
        };
        if moved == Some(Folder::SENT) && self.keep_sent == KeepSent::Off {
            self.purge = Slices::More;
        }
        let is_sent = moved.is_some() && update.state == SubmissionState::Sent;
        let pending = is_sent && self.has_accounts && self.hand_sent(submission.record)?;
        let notice =
            update.notice.as_deref().map(|dsn| self.put_notice(update, dsn)).transpose()?;
        Ok(ProviderAnswer::Updated { moved, notice: notice.map(Box::new), pending })
    }

    /// The recipients as text for the row of their message. Writes those recipients that have rows of their own.
    fn change_recipients(&mut self, update: &SubmissionUpdate) -> Result<Envelope, Failure> {
        let Submission { record, recipients, .. } = &update.submission;
        if update.places.is_none() && recipients.len() < MANY {
            return Ok(Envelope::of(*record, recipients));
        }
        let sql = "SELECT seq, envelope_to FROM message WHERE record = ?1 AND state IS NOT NULL";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
        let found =
            self.connection.prepare_cached(sql)?.query_row([key(*record)], row).optional()?;
        let (order, before) = found.ok_or_else(not_in_queue)?;
        let place = (order, *record, &*before);
        Ok(recipients::change(&self.connection, &mut self.changed_last, place, update)?)
    }

    fn overwrite(&mut self, update: &SubmissionUpdate) -> Result<(), Failure> {
        let submission = &update.submission;
        let sql = "UPDATE message SET state = ?2, due = ?3, attempts = ?4, envelope_to = ?5,
                       no_mail = ?6, last_error = ?7, envelope_sum = ?10, delay_told = ?11,
                       final_at = CASE WHEN ?8 THEN coalesce(final_at, ?9) END
                   WHERE record = ?1 AND state IS NOT NULL";
        let envelope = self.change_recipients(update)?;
        let changed = self.connection.prepare_cached(sql)?.execute(params![
            key(submission.record),
            state_number(update.state),
            submission.due as i64,
            submission.attempts,
            envelope.text,
            submission.no_mail,
            submission.last_error,
            update.state.is_final(),
            update.now as i64,
            envelope_sum(By::Xxh3, submission, &envelope),
            submission.delay_told.then_some(true),
        ])?;
        if changed == 0 { Err(not_in_queue()) } else { Ok(()) }
    }

    fn leave_outbox(&self, record: u128, folder: Folder) -> rusqlite::Result<Option<Folder>> {
        let sql = "UPDATE message SET folder = ?2 WHERE record = ?1 AND folder = ?3";
        let (to, from) = (folder_number(folder), folder_number(Folder::OUTBOX));
        let changed = self.connection.prepare_cached(sql)?.execute((key(record), to, from))?;
        Ok((changed > 0).then_some(folder))
    }

    /// Puts a notification into the Inbox and, if it is forwarded, a message about it into the queue.
    fn put_notice(&mut self, update: &SubmissionUpdate, dsn: &Dsn) -> Result<StoredDsn, Failure> {
        let record = dsn.record;
        let text = self.compose_notice(update, dsn)?;
        let (subject, from, _) = notice::shown(&text);
        if self.known(record)?.is_none() {
            self.enter_notice(record, &text, update.now)?;
        }
        let sql = "UPDATE message SET notice = ?2 WHERE record = ?1";
        let parameters = (key(update.submission.record), key(record));
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        let (forwarded, text) = match &dsn.onward {
            Onward::Nowhere => (None, None),
            Onward::Text => (None, Some(text)),
            Onward::Copy(submission) => {
                // The server that delivers a message writes this field.
                let text = sundown_mail::head::without(&text, "Return-Path");
                (Some(self.forward(submission, text)?), None)
            }
            Onward::More(submission) => {
                let text = notice::more(&self.host, submission);
                (Some(self.forward(submission, text)?), None)
            }
        };
        Ok(StoredDsn { record, forwarded, text, from, subject })
    }

    /// Puts a message about a notification into the queue.
    fn forward(
        &mut self,
        submission: &Submission,
        text: Vec<u8>,
    ) -> Result<Box<Submission>, Failure> {
        // The update may be repeated, and then its text has another time.
        if self.known(submission.record)?.is_some() {
            let before = submission_of(&self.connection, submission.record)?;
            return before.map(Box::new).ok_or_else(collision);
        }
        match self.submit(submission, &MessageContent::Inline(text))? {
            ProviderAnswer::Submitted { submission, .. } => Ok(submission),
            _ => Err(collision()),
        }
    }

    fn enter_notice(&mut self, record: u128, text: &[u8], now: u64) -> Result<(), Failure> {
        let (subject, from, to) = notice::shown(text);
        let body = self.take_body()?;
        self.write_body(body, text)?;
        self.enter(&Entry {
            body,
            record,
            folder: Folder::INBOX,
            shown: Shown { subject, from, to, date: Some(now) },
            size: text.len() as u64,
            received: now,
            recovered: false,
            flags: Some(Flags::default()),
            submission: None,
        })?;
        Ok(())
    }

    /// The first bytes of a message. Empty if the message is damaged, because that must not prevent a notification.
    fn beginning_of(&self, record: u128, wanted: usize) -> Vec<u8> {
        let known = self.known(record).ok().flatten();
        let read = known.map(|known| body::beginning(&self.connection, known.body, wanted));
        read.and_then(Result::ok).unwrap_or_default()
    }

    /// What a notification returns of a message of this size.
    fn returned(&self, submission: &Submission, size: u64) -> Original {
        let beginning = |wanted| self.beginning_of(submission.record, wanted);
        match submission.report.returned {
            Returned::Headers => Original::Head(beginning(MAX_HEAD)),
            Returned::Full if size > MAX_RETURNED as u64 => {
                Original::HeadOfLarge(beginning(MAX_HEAD))
            }
            Returned::Full => {
                let whole = beginning(MAX_RETURNED);
                // A damaged part is no reason to leave out the head, which may be sound.
                if whole.is_empty() {
                    Original::Head(beginning(MAX_HEAD))
                } else if whole.contains(&0) {
                    Original::HeadOfBinary(beginning(MAX_HEAD))
                } else {
                    Original::Whole(whole)
                }
            }
        }
    }

    /// Gives up damaged submissions that are old: they become bounces, and a notification in the Inbox says so. Their sender and
    /// their age limit cannot be trusted, so the limit is the default of profiles. The oldest of each state are checked. The caller
    /// is in no transaction.
    pub(super) fn give_up_damaged(&mut self, now: u64) -> Result<usize, Failure> {
        let mut given_up = 0;
        for damaged in self.old_and_damaged(now.saturating_sub(MAX_AGE))? {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            let done = self.give_up(&damaged, now);
            let ended = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
            self.connection.execute_batch(ended).inspect_err(|_| self.undone())?;
            if let Err(failure) = done {
                self.undone();
                return Err(failure);
            }
            given_up += 1;
        }
        Ok(given_up)
    }

    fn old_and_damaged(&self, before: u64) -> rusqlite::Result<Vec<Submission>> {
        let columns = rows::placed_columns();
        let open = SubmissionState::ALL.into_iter().filter(|state| !state.is_final());
        let open = open.map(|state| format!("state = {}", state_number(state)));
        let mut found = Vec::new();
        for these in open.chain(NO_STATE.map(str::to_owned)) {
            let sql = format!("SELECT {columns} FROM message WHERE {these} ORDER BY seq");
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            for _ in 0..LOOKED_AT {
                let Some(row) = rows.next()? else { break };
                if row.get::<_, i64>(11).is_ok_and(|submitted| submitted as u64 > before) {
                    break;
                }
                match rows::placed(&self.connection, row) {
                    Err(error) if error.sqlite_error_code().is_none() => {
                        found.push(rows::damaged_submission(&self.connection, row)?);
                    }
                    read => drop(read?),
                }
            }
        }
        Ok(found)
    }

    fn give_up(&mut self, damaged: &Submission, now: u64) -> Result<(), Failure> {
        let record = u128::from(random()?) << 64 | u128::from(random()?);
        let told = damaged.recipients.iter().map(|recipient| notice::Told {
            address: &recipient.address,
            reply: recipient.reply.as_deref().unwrap_or_default(),
            action: Action::Failed,
        });
        let text = Notice {
            record,
            host: &self.host,
            to: &damaged.from,
            subject: &damaged.subject,
            submitted: damaged.submitted,
            now,
            told: &told.collect::<Vec<_>>(),
            original: Original::Head(self.beginning_of(damaged.record, MAX_HEAD)),
        }
        .compose();
        self.enter_notice(record, &text, now)?;
        let sql = "UPDATE message SET state = ?2, folder = ?3, final_at = ?4, notice = ?5
                   WHERE seq = ?1";
        self.connection.execute(
            sql,
            params![
                damaged.order,
                state_number(SubmissionState::Bounced),
                folder_number(Folder::SENT),
                now as i64,
                key(record),
            ],
        )?;
        Ok(())
    }

    fn compose_notice(&self, update: &SubmissionUpdate, dsn: &Dsn) -> Result<Vec<u8>, Failure> {
        let submission = &update.submission;
        let stored = submission_of(&self.connection, submission.record)?;
        let size = stored.as_ref().map_or(u64::MAX, |stored| stored.size);
        let told: Vec<_> = dsn
            .told
            .iter()
            .filter_map(|(place, action)| Some((update.recipient(*place)?, *action)))
            .map(|(recipient, action)| notice::Told {
                address: &recipient.address,
                reply: recipient.reply.as_deref().unwrap_or_default(),
                action,
            })
            .collect();
        // Only of a failure the whole message is returned (RFC 3461, 6.2).
        let original = if told.iter().any(|told| told.action == Action::Failed) {
            self.returned(submission, size)
        } else {
            Original::Head(self.beginning_of(submission.record, MAX_HEAD))
        };
        Ok(Notice {
            record: dsn.record,
            host: &self.host,
            to: &submission.from,
            subject: stored.as_ref().map_or("", |stored| &stored.subject),
            submitted: submission.submitted,
            now: update.now,
            told: &told,
            original,
        }
        .compose())
    }

    /// Counts submissions by state, without the final states. A query for each state takes half the time of one for all.
    pub(super) fn count(&self) -> rusqlite::Result<[u64; 9]> {
        let sql = "SELECT count(*) FROM message WHERE state = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut counts = [0; 9];
        for state in SubmissionState::ALL.into_iter().filter(|state| !state.is_final()) {
            let number = state_number(state);
            counts[number as usize] = statement.query_row([number], |row| row.get(0))?;
        }
        Ok(counts)
    }

    /// Counts submissions that wait for a member with mail.
    pub(super) fn count_no_mail(&self) -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM message WHERE {}", super::schema::NO_MAIL);
        self.connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))
    }
}

fn random() -> Result<u64, Failure> {
    let failed = |error| Failure::refused(Code::E_CALL_FAILED, format!("no random bytes: {error}"));
    getrandom::u64().map_err(failed)
}

fn not_in_queue() -> Failure {
    Failure::refused(Code::E_NOT_IN_QUEUE, "the message is not in the queue")
}

/// The folder to which a message moves when its submission is final. An aborted message becomes a draft, to be changed and sent
/// again.
fn folder_after(state: SubmissionState) -> Option<Folder> {
    match state {
        SubmissionState::Sent | SubmissionState::Bounced => Some(Folder::SENT),
        SubmissionState::Aborted => Some(Folder::DRAFTS),
        _ => None,
    }
}

/// What a list shows of a submission. Where the head lacks a field, the envelope is shown.
fn shown_of_submission(head: &Head<'_>, submission: &Submission) -> Shown {
    let mut shown = shown(head);
    if shown.from.is_empty() {
        shown.from.clone_from(&submission.from);
    }
    if shown.to.is_empty() {
        let to: Vec<_> = submission.recipients.iter().map(|r| r.address.as_str()).collect();
        shown.to = clean(&to.join(", "));
    }
    shown
}
