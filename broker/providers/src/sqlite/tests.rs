//! The store as its callers see it, on real files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rusqlite::Connection;
use sundown_core::provider::{
    Action, Dsn, Intent, KeptClock, MessageContent, Onward, Recipient, StoreRead, StoredDsn,
    Submission, SubmissionState, SubmissionUpdate,
};
use sundown_protocol::folder::Flags;
use sundown_protocol::request::{Folder, Report, Returned, Route, SettingChange};
use tempfile::TempDir;

use super::sum::By;
use super::*;
use crate::notice::MAX_RETURNED;

/// A store in a directory of its own.
pub(super) struct Fixture {
    _dir: Option<TempDir>,
    path: PathBuf,
    pub(super) store: SqliteStore,
}

/// Messages of these tests came in 1970, so the tests keep sent messages forever.
pub(super) fn spec(path: PathBuf) -> ProviderSpec {
    let options = vec![("keep_sent".to_owned(), "forever".to_owned())];
    ProviderSpec { path, options, ..ProviderSpec::new("sqlite") }
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("deep/store.db");
        Self { _dir: Some(dir), ..Self::at(path) }
    }

    /// A store in a directory of the caller.
    pub(super) fn at(path: PathBuf) -> Self {
        let mut store = SqliteStore::new(&spec(path.clone()));
        store.logon().expect("it logs on");
        Self { _dir: None, path, store }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(super) fn write(&mut self, write: StoreWrite) -> Result<ProviderAnswer> {
        self.batch(vec![write]).remove(0)
    }

    pub(super) fn batch(&mut self, batch: Vec<StoreWrite>) -> Vec<Result<ProviderAnswer>> {
        self.store.commit(batch, Sync::Full)
    }

    pub(super) fn read(&self, question: &StoreRead) -> Result<ProviderAnswer> {
        self.store.reader()?.read(question)
    }

    pub(super) fn content(&self, record: u128) -> String {
        let mut reader = self.store.reader().expect("a reader");
        let mut bytes = Vec::new();
        let mut body = reader.open(record).expect("the message is there");
        body.read_to_end(&mut bytes).expect("it reads");
        String::from_utf8(bytes).expect("text")
    }

    fn folder(&self, record: u128) -> Option<Folder> {
        match self.read(&StoreRead::Find { record }) {
            Ok(ProviderAnswer::Found { folder, .. }) => Some(folder),
            _ => None,
        }
    }

    pub(super) fn queue(&self, all: bool) -> Vec<u128> {
        match self.read(&StoreRead::Queue { all, after: 0, limit: 100 }) {
            Ok(ProviderAnswer::Queue { rows, next: None }) => {
                rows.iter().map(|row| row.record).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ends the broker without a logoff, and starts another.
    fn reopen(&mut self) -> StoreFacts {
        self.store = SqliteStore::new(&spec(self.path()));
        self.store.logon().expect("it logs on")
    }

    fn sql(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.path()).expect("the file opens");
        connection.query_row(sql, [], |row| row.get(0)).expect("it is a number")
    }

    /// Makes the store check all its files before the next batch, as if it had been idle.
    pub(super) fn look_again(&mut self) {
        self.store.engine.as_mut().expect("it is open").look_again();
    }

    pub(super) fn writer_mut(&mut self) -> &mut Connection {
        &mut self.store.engine.as_mut().expect("it is open").writer.connection
    }

    pub(super) fn writer(&self) -> &Connection {
        &self.store.engine.as_ref().expect("it is open").writer.connection
    }
}

/// Asserts that each body is held by the messages that name it, and by nothing else: it is whole, it is counted, and none is left over.
pub(crate) fn assert_bodies(path: &Path) {
    let connection = Connection::open(path).expect("the file opens");
    let pairs = |sql: &str| -> Vec<(u64, u64)> {
        let mut statement = connection.prepare(sql).expect("a query");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<rusqlite::Result<_>>().expect("numbers")
    };
    let mut bytes = BTreeMap::<_, u64>::new();
    for (id, length) in pairs("SELECT id, length(bytes) FROM body") {
        *bytes.entry(body::number_of(id)).or_default() += length;
    }
    let named = "FROM message WHERE body <> 0 GROUP BY body";
    for (body, size) in pairs(&format!("SELECT body, size {named}")) {
        assert_eq!(bytes.remove(&body).unwrap_or_default(), size, "body {body}");
    }
    for (body, size) in pairs("SELECT body, size FROM upload") {
        assert_eq!(bytes.remove(&body).unwrap_or_default(), size, "body {body} of an upload");
    }
    assert!(bytes.is_empty(), "no message has these bodies: {bytes:?}");
    let shared = pairs(&format!("SELECT body, count(*) {named} HAVING count(*) > 1"));
    assert_eq!(pairs("SELECT body, messages FROM shared ORDER BY body"), shared);
}

pub(crate) fn submission(record: u128) -> Submission {
    let recipient = |address: &str| Recipient {
        address: address.into(),
        state: SubmissionState::Queued,
        intent: None,
        reply: None,
    };
    Submission {
        record,
        profile: "default".into(),
        uid: 1000,
        from: "anna@example.org".into(),
        recipients: vec![recipient("bob@localhost"), recipient("eve@localhost")],
        subject: String::new(),
        size: 0,
        order: 0,
        no_mail: false,
        attempts: 0,
        due: 5_000,
        submitted: 5_000,
        last_error: None,
        report: Report::default(),
        route: None,
        born: None,
        delay_told: false,
    }
}

pub(super) const MESSAGE: &str = "Date: x\nMessage-ID: <y>\nFrom: Anna <anna@example.org>\nTo: Bob <bob@localhost>\n\
     Bcc: eve@localhost\nSubject: Hello\n\nbody\n";

pub(super) fn inline(text: &str) -> MessageContent {
    MessageContent::Inline(text.as_bytes().to_vec())
}

fn submit_of(submission: Submission, content: MessageContent) -> StoreWrite {
    StoreWrite::Submit { submission: Box::new(submission), content, deferred: false }
}

pub(super) fn submit(record: u128, content: MessageContent) -> StoreWrite {
    StoreWrite::Submit { submission: Box::new(submission(record)), content, deferred: false }
}

pub(super) fn save(record: u128, content: MessageContent) -> StoreWrite {
    saved(record, content, false, 7_000)
}

/// A message that is saved in Drafts.
fn saved(record: u128, content: MessageContent, recovered: bool, now: u64) -> StoreWrite {
    let (folder, flags) = (Folder::DRAFTS, Flags::default());
    StoreWrite::Save { record, folder, content, flags, recovered, now }
}

fn append(upload: u64, bytes: &[u8]) -> StoreWrite {
    StoreWrite::Append { upload, bytes: bytes.to_vec() }
}

/// The update of a submission whose recipients have all reached this state.
pub(super) fn update(record: u128, state: SubmissionState) -> StoreWrite {
    let mut submission = submission(record);
    let mut bounced = Vec::new();
    for (place, recipient) in submission.recipients.iter_mut().enumerate() {
        recipient.state = state;
        recipient.reply = Some("550 5.1.1 no such user".into());
        if state == SubmissionState::Bounced {
            bounced.push(place);
        }
    }
    let notice = Dsn::failed(record + 1_000_000, bounced);
    StoreWrite::Update(Box::new(SubmissionUpdate::whole(submission, notice, wall())))
}

pub(super) fn wall() -> u64 {
    super::write::wall()
}

pub(super) fn code(answer: &Result<ProviderAnswer>) -> Option<Code> {
    answer.as_ref().err().map(|error| error.code)
}

fn submitted(answer: Result<ProviderAnswer>) -> (Submission, bool) {
    match answer {
        Ok(ProviderAnswer::Submitted { submission, new }) => (*submission, new),
        other => panic!("{other:?}"),
    }
}

/// `SQLite` 3.7.0 to 3.51.2 can damage a database when the log starts over beside a checkpoint of another connection, which is how
/// this store checkpoints.
#[test]
fn the_bundled_sqlite_is_without_the_fault_of_a_log_that_starts_over() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

#[test]
fn a_submission_is_complete_when_it_is_answered() {
    let mut fixture = Fixture::new();
    let (stored, new) = submitted(fixture.write(submit(1, inline(MESSAGE))));
    assert!(new);
    assert_eq!((stored.subject.as_str(), stored.order), ("Hello", 1));
    assert_eq!(stored.size, MESSAGE.len() as u64);
    assert_eq!(fixture.content(1), MESSAGE);
    assert_eq!(fixture.folder(1), Some(Folder::OUTBOX));
    let rows = fixture.read(&StoreRead::Submission { record: 1 });
    assert_eq!(rows, Ok(ProviderAnswer::Queue { rows: vec![stored], next: None }));
    let missing = fixture.read(&StoreRead::Submission { record: 2 });
    assert_eq!(code(&missing), Some(Code::E_NOT_IN_QUEUE));
}

/// The fields that a message lacks are looked for in all of its head, however long that is: none goes out twice.
#[test]
fn what_stands_late_in_a_long_head_is_not_added() {
    let mut fixture = Fixture::new();
    let long = "X-Trace: 0123456789abcdef0123456789abcdef\n".repeat(20_000);
    let needed = "Date: x\nMessage-ID: <y>\nFrom: Anna <anna@example.org>\n";
    let has_all = format!("{long}{needed}\nDate: text\n");
    submitted(fixture.write(submit(1, inline(&has_all))));
    assert!(fixture.content(1) == has_all, "nothing was missing");
    let message = format!("{long}From: Anna <anna@example.org>\n\nDate: text\n");
    for part in message.as_bytes().chunks(100_000) {
        fixture.write(append(2, part)).expect("appended");
    }
    submitted(fixture.write(submit(2, MessageContent::Uploaded(2))));
    let stored = fixture.content(2);
    let front = stored.strip_suffix(&message).expect("it is as it was");
    let names: Vec<_> = front.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["Date", "Message-ID"]);
    // A long text is no head.
    let text = format!("{}\n{long}From: text\n", needed.replace("From", "X-From"));
    submitted(fixture.write(submit(3, inline(&text))));
    assert!(fixture.content(3).starts_with("From: "), "its From is text");
}

#[test]
fn the_oldest_is_the_first_that_is_not_final() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.read(&StoreRead::Oldest), Ok(ProviderAnswer::Oldest(None)));
    let (first, _) = submitted(fixture.write(submit(1, inline(MESSAGE))));
    submitted(fixture.write(submit(2, inline(MESSAGE))));
    let oldest = ProviderAnswer::Oldest(Some(first.submitted));
    assert_eq!(fixture.read(&StoreRead::Oldest), Ok(oldest));
}

#[test]
fn what_a_message_lacks_is_put_in_front() {
    let mut fixture = Fixture::new();
    let (stored, _) = submitted(fixture.write(submit(1, inline("Subject: s\r\n\r\nbody"))));
    let content = fixture.content(1);
    assert!(content.starts_with("Date: Thu, 1 Jan 1970 00:00:05 +0000\r\n"), "{content}");
    assert!(content.contains(&format!("Message-ID: <{:032x}@example.org>\r\n", 1)), "{content}");
    assert!(content.ends_with("From: anna@example.org\r\nSubject: s\r\n\r\nbody"), "{content}");
    assert_eq!(stored.size, content.len() as u64);

    submitted(fixture.write(submit(2, inline("no head at all\nBcc: nobody\n"))));
    assert!(fixture.content(2).ends_with("\n\nno head at all\nBcc: nobody\n"));
    for (record, line) in [(3, ""), (4, "in one line")] {
        submitted(fixture.write(submit(record, inline(line))));
        let content = fixture.content(record);
        assert!(content.ends_with(&format!("\n\n{line}")) && !content.contains('\r'), "{content}");
    }
}

#[test]
fn one_bad_write_leaves_the_others() {
    let mut fixture = Fixture::new();
    let answers = fixture.batch(vec![
        submit(1, inline(MESSAGE)),
        submit(2, MessageContent::Uploaded(99)),
        StoreWrite::Delete { record: 77 },
        update(77, SubmissionState::Sent),
        save(3, inline(MESSAGE)),
        StoreWrite::Flush,
    ]);
    let codes: Vec<_> = answers.iter().map(code).collect();
    assert_eq!(
        codes,
        [
            None,
            Some(Code::E_INVALID_PARAMETER),
            Some(Code::E_NOT_FOUND),
            Some(Code::E_NOT_IN_QUEUE),
            None,
            None
        ]
    );
    assert_eq!(fixture.folder(1), Some(Folder::OUTBOX));
    assert_eq!(fixture.folder(2), None);
    assert_eq!(fixture.folder(3), Some(Folder::DRAFTS));
}

#[test]
fn a_failed_write_leaves_no_half() {
    let mut fixture = Fixture::new();
    fixture.write(save(5, inline("x"))).expect("it is saved");
    fixture.write(append(1, b"Subject: up\n\nx")).expect("it is appended");
    let parts = fixture.sql("SELECT count(*) FROM body");
    let taken = submit(5, MessageContent::Uploaded(1));
    let answers = fixture.batch(vec![taken, StoreWrite::Flush]);
    assert_eq!(code(&answers[0]), Some(Code::E_COLLISION));
    assert_eq!(fixture.sql("SELECT count(*) FROM body"), parts);
    submitted(fixture.write(submit(6, MessageContent::Uploaded(1))));
    assert!(fixture.content(6).ends_with("Subject: up\n\nx"));
}

#[test]
fn a_repeated_key_makes_no_second_message() {
    let mut fixture = Fixture::new();
    let (first, _) = submitted(fixture.write(submit(1, inline(MESSAGE))));
    fixture.write(append(9, b"again")).expect("it is appended");
    let answers =
        fixture.batch(vec![submit(1, MessageContent::Uploaded(9)), submit(1, inline(MESSAGE))]);
    for answer in answers {
        assert_eq!(submitted(answer), (first.clone(), false));
    }
    assert_eq!(fixture.sql("SELECT count(*) FROM message"), 1);
    assert_eq!(fixture.sql("SELECT count(*) FROM body"), 1);
    assert_eq!(code(&fixture.write(save(1, inline("x")))), Some(Code::E_COLLISION));

    let place = |answer| match answer {
        Ok(ProviderAnswer::Saved { place, new }) => (place.entry.record, place.folder, new),
        other => panic!("{other:?}"),
    };
    assert_eq!(place(fixture.write(save(2, inline("x")))), (2, Folder::DRAFTS, true));
    assert_eq!(place(fixture.write(save(2, inline("y")))), (2, Folder::DRAFTS, false));
    assert_eq!(fixture.content(2), "x");
    assert_eq!(code(&fixture.write(submit(2, inline("x")))), Some(Code::E_COLLISION));
}

/// A key of another user, or of another message, is not a repeat: the answer would be the entry of a message that was not
/// submitted.
#[test]
fn a_key_of_another_message_is_refused() {
    let mut fixture = Fixture::new();
    let (first, _) = submitted(fixture.write(submit(1, inline("Subject: one\n\nx"))));
    let stranger = Submission { uid: 1001, ..submission(1) };
    let refused = [
        submit_of(stranger, inline("Subject: one\n\nx")),
        submit(1, inline("Subject: two\n\nx")),
        submit(1, inline("Subject: one\n\nxx")),
    ];
    for write in refused {
        assert_eq!(code(&fixture.write(write)), Some(Code::E_COLLISION));
    }
    let (again, new) = submitted(fixture.write(submit(1, inline("Subject: one\n\nx"))));
    assert_eq!((again, new), (first, false));
}

#[test]
fn a_key_outlives_its_message_for_a_week() {
    let mut fixture = Fixture::new();
    for write in [
        submit(1, inline(MESSAGE)),
        save(2, inline("x")),
        update(1, SubmissionState::Sent),
        StoreWrite::Delete { record: 1 },
        StoreWrite::Delete { record: 1 },
        StoreWrite::Delete { record: 2 },
        StoreWrite::Delete { record: 2 },
    ] {
        fixture.write(write).expect("it is done");
    }
    fixture.reopen();
    assert_eq!((fixture.folder(1), fixture.folder(2)), (None, None));
    assert_eq!(fixture.sql("SELECT count(*) FROM body"), 0);
    let (again, new) = submitted(fixture.write(submit(1, inline(MESSAGE))));
    assert_eq!((again.state(), new), (SubmissionState::Sent, false));
    let Ok(ProviderAnswer::Saved { place, new: false }) = fixture.write(save(2, inline("x")))
    else {
        panic!("the save was forgotten")
    };
    assert_eq!(place.folder, Folder::DELETED);
    assert_eq!(fixture.sql("SELECT count(*) FROM message WHERE folder <> 0"), 0);
    assert_eq!(fixture.queue(true), [1]);

    purge_all(&mut fixture, wall() + 6 * 24 * 3600 * 1000);
    assert_eq!(fixture.sql("SELECT count(*) FROM message WHERE state IS NOT NULL"), 1);
    purge_all(&mut fixture, wall() + 8 * 24 * 3600 * 1000);
    assert_eq!(fixture.sql("SELECT count(*) FROM message WHERE state IS NOT NULL"), 0);
    assert_eq!(fixture.sql("SELECT count(*) FROM message WHERE folder = 0"), 0);
}

#[test]
fn an_upload_comes_in_pieces() {
    let mut fixture = Fixture::new();
    let pieces: [&[u8]; 4] = [b"Subject: pie", b"", b"ces\n\n", &[b'x'; 5000]];
    let whole = pieces.concat();
    let mut size = 0;
    for piece in pieces {
        size += piece.len() as u64;
        let answers = fixture.store.commit(vec![append(4, piece)], Sync::None);
        assert_eq!(answers, [Ok(ProviderAnswer::Appended(size))]);
    }
    let (stored, _) = submitted(fixture.write(submit(1, MessageContent::Uploaded(4))));
    assert_eq!(stored.subject, "pieces");
    let content = fixture.content(1).into_bytes();
    assert!(content.ends_with(&whole));

    let mut reader = fixture.store.reader().expect("a reader");
    for (offset, limit) in [(0, 10), (0, 1 << 20), (90, 40), (content.len() as u64 - 3, 9)] {
        let answer = reader.read(&StoreRead::Piece { record: 1, offset, limit });
        let from = offset as usize;
        let bytes = content[from..content.len().min(from + limit as usize)].to_vec();
        assert_eq!(
            answer,
            Ok(ProviderAnswer::Piece { size: stored.size, bytes, unread_notice: false })
        );
    }
    for offset in [content.len() as u64, u64::MAX] {
        let answer = reader.read(&StoreRead::Piece { record: 1, offset, limit: 9 });
        assert_eq!(
            answer,
            Ok(ProviderAnswer::Piece {
                size: stored.size,
                bytes: Vec::new(),
                unread_notice: false
            })
        );
    }
    let again = fixture.write(submit(2, MessageContent::Uploaded(4)));
    assert_eq!(code(&again), Some(Code::E_INVALID_PARAMETER));
}

#[test]
fn uploads_end_with_their_broker() {
    let mut fixture = Fixture::new();
    fixture.write(save(1, inline("kept"))).expect("it is saved");
    for upload in [1, 2, 3] {
        fixture.write(append(upload, b"piece")).expect("it is appended");
    }
    fixture.write(StoreWrite::Discard { upload: 2 }).expect("it is discarded");
    fixture.write(StoreWrite::Discard { upload: 50 }).expect("nothing is discarded");
    assert_eq!(fixture.sql("SELECT count(*) FROM body"), 3);
    fixture.reopen();
    assert_eq!(fixture.sql("SELECT count(*) FROM body"), 1);
    assert_eq!(fixture.content(1), "kept");
    let unknown = fixture.write(submit(2, MessageContent::Uploaded(1)));
    assert_eq!(code(&unknown), Some(Code::E_INVALID_PARAMETER));
}

#[test]
fn a_cursor_never_meets_a_number_again() {
    let mut fixture = Fixture::new();
    fixture.write(save(1, inline("x"))).expect("it is saved");
    fixture.write(StoreWrite::Delete { record: 1 }).expect("it is deleted");
    fixture.write(StoreWrite::Delete { record: 1 }).expect("it is gone");
    purge_all(&mut fixture, u64::MAX >> 2);
    assert_eq!(fixture.sql("SELECT count(*) FROM message"), 0);
    fixture.reopen();
    fixture.write(save(2, inline("x"))).expect("it is saved");
    assert!(fixture.sql("SELECT seq FROM message") > 1);
}

/// An empty draft has a body number and no body. Without its row in `meta` the number would be used again.
#[test]
fn deleting_an_empty_draft_spares_other_messages() {
    let mut fixture = Fixture::new();
    fixture.write(save(1, inline(""))).expect("it is saved");
    fixture.reopen();
    fixture.write(submit(2, inline(MESSAGE))).expect("it is submitted");
    for _ in 0..2 {
        fixture.write(StoreWrite::Delete { record: 1 }).expect("it is deleted");
    }
    assert_eq!(fixture.content(2), MESSAGE);
}

/// A store of schema 5 in which body numbers were used twice.
#[test]
fn messages_that_share_a_number_are_parted() {
    let mut fixture = Fixture::new();
    for (record, content) in [(1, ""), (2, MESSAGE), (3, ""), (4, "longer than it was"), (5, "new")]
    {
        fixture.write(save(record, inline(content))).expect("it is saved");
    }
    // Messages 1 and 3 are empty and share the number of 2. The body of 4 was deleted, and 5 has its number since.
    let share = |record: u128, body: u64| {
        let writer = fixture.writer();
        let key = rows::key(record);
        let select = "SELECT size FROM message WHERE record = ?1";
        let size: u64 = writer.query_row(select, [key], |row| row.get(0)).expect("a row");
        let sum = rows::body_sum(By::Xxh3, record, body, size);
        let sql = "UPDATE message SET body = ?2, body_sum = ?3 WHERE record = ?1";
        writer.execute(sql, (key, body, sum)).expect("it is as it was");
    };
    for (record, body) in [(1, 2), (3, 2), (4, 5)] {
        share(record, body);
    }
    let older = "DELETE FROM body WHERE id >> 20 = 4;
        DELETE FROM meta WHERE name = 'body';
        UPDATE meta SET value = 0 WHERE name = 'seq';
        PRAGMA user_version = 5;";
    fixture.writer().execute_batch(older).expect("it is as it was");
    fixture.reopen();
    assert_eq!(fixture.sql("SELECT count(DISTINCT body) FROM message"), 5);
    for record in [1, 3] {
        assert_eq!(fixture.content(record), "");
        for _ in 0..2 {
            fixture.write(StoreWrite::Delete { record }).expect("it is deleted");
        }
    }
    assert_eq!((fixture.content(2), fixture.content(5)), (MESSAGE.to_owned(), "new".to_owned()));
    let piece = fixture.read(&StoreRead::Piece { record: 4, offset: 0, limit: 100 });
    assert_eq!(code(&piece), Some(Code::E_CORRUPT_STORE));
    fixture.write(save(6, inline("after"))).expect("it is saved");
    assert!(fixture.sql("SELECT max(seq) FROM message") > 5);
    assert_eq!(fixture.sql("SELECT count(DISTINCT body) FROM message WHERE folder <> 0"), 4);
}

/// Saving, submitting, refusing, deleting, forgetting and restarting in any order: every message keeps its bytes, and no number is
/// used twice.
#[test]
fn no_number_is_given_out_twice() {
    for seed in 0..8 {
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut fixture = Fixture::new();
        let mut held: BTreeMap<u128, String> = BTreeMap::new();
        let mut given: BTreeMap<(&str, u64), u128> = BTreeMap::new();
        for record in 1..60 {
            let text = ["", "x", MESSAGE][random.next_u32() as usize % 3];
            let some = held.keys().nth(random.next_u32() as usize % held.len().max(1)).copied();
            match random.next_u32() % 7 {
                0 | 1 => {
                    fixture.write(save(record, inline(text))).expect("it is saved");
                    held.insert(record, text.to_owned());
                }
                2 => {
                    fixture.write(submit(record, inline(MESSAGE))).expect("it is submitted");
                    fixture.write(update(record, SubmissionState::Sent)).expect("it is sent");
                    held.insert(record, MESSAGE.to_owned());
                }
                3 => {
                    // The numbers that an undone batch takes stay unused.
                    let batch = vec![
                        save(record, inline(text)),
                        submit(record, inline(MESSAGE)),
                        StoreWrite::Delete { record: 1_000 },
                    ];
                    let answers = fixture.batch(batch);
                    assert_eq!(code(&answers[1]), Some(Code::E_COLLISION));
                    held.insert(record, text.to_owned());
                }
                4 | 5 if let Some(some) = some => {
                    fixture.write(StoreWrite::Delete { record: some }).expect("it is deleted");
                    fixture.write(StoreWrite::Delete { record: some }).expect("it is gone");
                    held.remove(&some);
                }
                _ => {
                    purge_all(&mut fixture, u64::MAX >> 2);
                    fixture.reopen();
                }
            }
            for (record, text) in &held {
                assert_eq!(fixture.content(*record), *text, "seed {seed}");
            }
            let mut statement =
                fixture.writer().prepare("SELECT record, seq, body FROM message").expect("SQL");
            let mut rows = statement.query([]).expect("rows");
            while let Some(row) = rows.next().expect("a row") {
                let record = u128::from_be_bytes(row.get(0).expect("a record"));
                for (place, kind) in [(1, "seq"), (2, "body")] {
                    let number: u64 = row.get(place).expect("a number");
                    if number == 0 {
                        // It has given its body back.
                        continue;
                    }
                    let owner = *given.entry((kind, number)).or_insert(record);
                    assert_eq!(owner, record, "seed {seed}: {kind} {number}");
                }
            }
        }
    }
}

#[test]
fn what_was_sent_is_a_message_like_any_other_after_a_week() {
    let mut fixture = Fixture::new();
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    fixture.write(update(1, SubmissionState::Sent)).expect("it is sent");
    purge_all(&mut fixture, wall() + 8 * 24 * 3600 * 1000);
    assert!(fixture.queue(true).is_empty());
    assert_eq!(fixture.folder(1), Some(Folder::SENT));
    assert_eq!(fixture.content(1), MESSAGE);
    assert_eq!(code(&fixture.write(submit(1, inline(MESSAGE)))), Some(Code::E_COLLISION));
    assert_eq!(
        code(&fixture.write(update(1, SubmissionState::Queued))),
        Some(Code::E_NOT_IN_QUEUE)
    );
    fixture.write(StoreWrite::Delete { record: 1 }).expect("it is deleted");
}

#[test]
fn the_outbox_lists_what_is_not_final() {
    let mut fixture = Fixture::new();
    fixture.batch((1..=4).map(|record| submit(record, inline(MESSAGE))).collect());
    fixture.write(update(2, SubmissionState::Sent)).expect("it is sent");
    fixture.write(update(3, SubmissionState::Held)).expect("it is held");
    let list = |folder| StoreRead::List { folder, after: 0, limit: 9 };
    let records = |answer| match answer {
        Ok(ProviderAnswer::Messages { rows, next: None }) => {
            rows.iter().map(|row| row.entry.record).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(records(fixture.read(&list(Folder::OUTBOX))), [1, 3, 4]);
    assert_eq!(records(fixture.read(&list(Folder::SENT))), [2]);
}

#[test]
fn a_restart_sees_the_queue() {
    let mut fixture = Fixture::new();
    let uid = fixture.store.logon().expect("a second session").uid;
    assert_ne!(uid, 0);
    for record in 1..=5 {
        let mut due = submission(record);
        due.due = 1_000 - record as u64;
        let write = StoreWrite::Submit {
            submission: Box::new(due),
            content: inline(MESSAGE),
            deferred: true,
        };
        fixture.write(write).expect("it is submitted");
    }
    fixture.write(update(5, SubmissionState::Sent)).expect("it is sent");
    // A message whose outcome is unknown is given up at its due time, which the last update set.
    fixture.write(update(4, SubmissionState::Unknown)).expect("it is unknown");
    let facts = fixture.reopen();
    assert_eq!(
        facts,
        StoreFacts {
            uid,
            queue: [0, 0, 3, 0, 0, 1, 0, 0, 0],
            no_mail: 0,
            damage: None,
            clock: KeptClock::default()
        }
    );

    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = fixture.read(&StoreRead::Due { after, limit: 2 });
        let Ok(ProviderAnswer::Due { submissions, more, .. }) = page else { panic!("{page:?}") };
        after = submissions.last().map(|last| (last.due, last.order));
        seen.extend(submissions.iter().map(|submission| submission.record));
        if !more {
            break;
        }
    }
    assert_eq!(seen, [3, 2, 1, 4]);
    assert_eq!(fixture.queue(false), [1, 2, 3, 4]);
    assert_eq!(fixture.queue(true), [1, 2, 3, 4, 5]);
    let page = fixture.read(&StoreRead::Queue { all: false, after: 1, limit: 2 });
    let Ok(ProviderAnswer::Queue { rows, next: Some(3) }) = page else { panic!("{page:?}") };
    assert_eq!(rows.len(), 2);
}

#[test]
fn what_is_due_at_one_time_comes_in_order() {
    let mut fixture = Fixture::new();
    fixture.batch((1..=5).map(|record| submit(record, inline(MESSAGE))).collect());
    let page = fixture.read(&StoreRead::Due { after: Some((5_000, 3)), limit: 9 });
    let Ok(ProviderAnswer::Due { submissions, more: false, .. }) = page else { panic!("{page:?}") };
    assert_eq!(submissions.iter().map(|s| s.order).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn an_update_keeps_what_it_says() {
    let mut fixture = Fixture::new();
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    let mut changed = submission(1);
    changed.attempts = 3;
    changed.due = 99;
    changed.last_error = Some("421 later".into());
    changed.recipients[0].state = SubmissionState::Transmitting;
    changed.recipients[0].intent =
        Some(Intent { transport: "here".into(), marker: "a/b \"c\"".into() });
    changed.recipients[1].state = SubmissionState::Sent;
    changed.recipients[1].reply = Some("250 ok".into());
    let answer = fixture.write(StoreWrite::Update(Box::new(SubmissionUpdate::whole(
        changed.clone(),
        None,
        1,
    ))));
    assert_eq!(answer, Ok(ProviderAnswer::Updated { moved: None, notice: None, pending: false }));
    fixture.reopen();
    let rows = fixture.read(&StoreRead::Submission { record: 1 });
    let Ok(ProviderAnswer::Queue { rows, .. }) = rows else { panic!("{rows:?}") };
    let expected =
        Submission { subject: "Hello".into(), size: MESSAGE.len() as u64, order: 1, ..changed };
    assert_eq!(rows, [expected]);
}

#[test]
fn a_final_submission_leaves_the_outbox() {
    let mut fixture = Fixture::new();
    let cases = [
        (1, SubmissionState::Sent, Folder::SENT),
        (2, SubmissionState::Aborted, Folder::DRAFTS),
        (3, SubmissionState::Bounced, Folder::SENT),
    ];
    for (record, state, folder) in cases {
        fixture.write(submit(record, inline(MESSAGE))).expect("it is submitted");
        let answer = fixture.write(update(record, state));
        let Ok(ProviderAnswer::Updated { moved, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(moved, Some(folder));
        assert_eq!(fixture.folder(record), Some(folder));
        let again = fixture.write(update(record, state));
        assert!(matches!(again, Ok(ProviderAnswer::Updated { moved: None, .. })), "{again:?}");
    }
}

#[test]
fn a_bounce_is_told_and_listed_until_the_notice_is_deleted() {
    let mut fixture = Fixture::new();
    fixture.write(submit(3, inline(MESSAGE))).expect("it is submitted");
    let answer = fixture.write(update(3, SubmissionState::Bounced));
    let Ok(ProviderAnswer::Updated { notice: Some(notice), .. }) = answer else {
        panic!("{answer:?}")
    };
    let notice = notice.record;
    assert_eq!(fixture.folder(notice), Some(Folder::INBOX));
    let text = fixture.content(notice);
    for expected in [
        "Final-Recipient: rfc822; bob@localhost",
        "Final-Recipient: rfc822; eve@localhost",
        "Status: 5.1.1",
        "Subject: Hello",
        "To: anna@example.org",
        // A line of the head of the original message.
        "Message-ID: <y>",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
    assert!(!text.contains("Bcc"), "{text}");
    let rows = fixture.read(&StoreRead::List { folder: Folder::INBOX, after: 0, limit: 9 });
    let Ok(ProviderAnswer::Messages { rows, next: None }) = rows else { panic!("{rows:?}") };
    assert_eq!(rows[0].subject, crate::notice::SUBJECT);
    assert_eq!(rows[0].size, text.len() as u64);

    purge_all(&mut fixture, u64::MAX >> 2);
    assert_eq!(fixture.queue(false), [3]);
    fixture.write(StoreWrite::Delete { record: notice }).expect("it is deleted");
    assert!(fixture.queue(false).is_empty());
    assert_eq!(fixture.queue(true), [3]);
    purge_all(&mut fixture, u64::MAX >> 2);
    assert!(fixture.queue(true).is_empty());
}

/// What is returned of a message that bounces, whose sender wants all of it (RFC 3461, `RET=FULL`).
fn returned(message: &str, damage: &str) -> String {
    let mut fixture = Fixture::new();
    let mut wants = submission(1);
    wants.report.returned = Returned::Full;
    let write = StoreWrite::Submit {
        submission: Box::new(wants.clone()),
        content: inline(message),
        deferred: false,
    };
    fixture.write(write).expect("it is submitted");
    fixture.writer().execute_batch(damage).expect("it is damaged");
    wants.recipients.iter_mut().for_each(|r| r.state = SubmissionState::Bounced);
    let update = SubmissionUpdate::whole(wants, Dsn::failed(9, [0, 1]), 1);
    fixture.write(StoreWrite::Update(Box::new(update))).expect("it bounces");
    let notice = fixture.content(9);
    notice.split("Content-Type: ").last().expect("a part").to_owned()
}

/// Sum and size are looked at: a part of a message never passes for the whole.
#[test]
fn a_whole_message_is_returned_if_it_is_small_and_sound() {
    let body = |size| format!("Subject: x\n\n{}\n", "its text\n".repeat(size));
    let small = returned(&body(1), "");
    assert!(small.starts_with("message/rfc822\r\n") && small.contains("its text"), "{small}");
    let large = returned(&body(MAX_RETURNED / 9), "");
    assert!(large.starts_with("text/rfc822-headers\r\n"), "{large}");
    assert!(large.contains("Subject: x") && !large.contains("its text"), "{large}");
    let damaged = "UPDATE body SET sum = 1 WHERE id = (SELECT max(id) FROM body)";
    let damaged = returned(&body(1), damaged);
    assert!(damaged.starts_with("text/rfc822-headers\r\n"), "{damaged}");
}

/// A bounce whose notification goes on in this way; the answer about it.
fn told_with(fixture: &mut Fixture, onward: Onward) -> StoredDsn {
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    let mut bounced = submission(1);
    bounced.recipients.iter_mut().for_each(|r| r.state = SubmissionState::Bounced);
    let told = vec![(0, Action::Failed), (1, Action::Failed)];
    let notice = Some(Box::new(Dsn { record: 9, told, onward }));
    let update = SubmissionUpdate::whole(bounced, notice, wall());
    match fixture.write(StoreWrite::Update(Box::new(update))) {
        Ok(ProviderAnswer::Updated { notice: Some(notice), .. }) => *notice,
        answer => panic!("{answer:?}"),
    }
}

/// The submission that forwards it.
fn forwarding() -> Box<Submission> {
    let mut submission = submission(10);
    submission.from.clear();
    submission.recipients.truncate(1);
    Box::new(submission)
}

/// It is one commit: after a crash both are there, or neither.
#[test]
fn a_notification_is_in_the_inbox_and_in_the_queue() {
    let mut fixture = Fixture::new();
    let told = told_with(&mut fixture, Onward::Copy(forwarding()));
    let forwarded = told.forwarded.expect("it is forwarded");
    assert_eq!((forwarded.record, forwarded.from.as_str()), (10, ""));
    assert_eq!(told.text, None);
    fixture.reopen();
    assert_eq!(fixture.folder(9), Some(Folder::INBOX));
    assert_eq!(fixture.folder(10), Some(Folder::OUTBOX));
    assert_eq!(stored(&fixture, 10), *forwarded);
    let again = told_with(&mut fixture, Onward::Copy(forwarding()));
    assert_eq!(again.forwarded, Some(forwarded), "an update whose answer is lost is repeated");
    assert_eq!(fixture.queue(true), [1, 10]);
    let (kept, sent) = (fixture.content(9), fixture.content(10));
    assert_eq!(kept, format!("Return-Path: <>\r\n{sent}"), "a Return-Path is not sent");
    assert!(sent.contains("\r\nAuto-Submitted: auto-replied\r\n"), "{sent}");
}

#[test]
fn one_message_says_that_there_are_more_notifications() {
    let mut fixture = Fixture::new();
    let told = told_with(&mut fixture, Onward::More(forwarding()));
    assert!(told.forwarded.is_some() && told.text.is_none());
    let sent = fixture.content(10);
    for line in ["To: bob@localhost", "Auto-Submitted: auto-replied"] {
        assert!(sent.lines().any(|l| l == line), "{line} is missing in\n{sent}");
    }
    assert!(sent.contains("only in the Inbox of profile default"), "{sent}");
    assert!(!sent.contains("Final-Recipient"), "{sent}");
}

#[test]
fn the_text_of_a_notification_is_given_to_who_asks_for_it() {
    let mut fixture = Fixture::new();
    let told = told_with(&mut fixture, Onward::Text);
    assert_eq!(told.text, Some(fixture.content(9).into_bytes()));
    assert_eq!(told.forwarded, None);
}

#[test]
fn deleting_takes_two_steps_and_spares_the_queue() {
    let mut fixture = Fixture::new();
    let delete = |record| StoreWrite::Delete { record };
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    assert_eq!(code(&fixture.write(delete(1))), Some(Code::E_SUBMITTED));
    fixture.write(save(2, inline("x"))).expect("it is saved");
    let moved = ProviderAnswer::Removed { from: Folder::DRAFTS, to: Some(Folder::DELETED) };
    assert_eq!(fixture.write(delete(2)), Ok(moved));
    let gone = ProviderAnswer::Removed { from: Folder::DELETED, to: None };
    assert_eq!(fixture.write(delete(2)), Ok(gone));
    assert_eq!(code(&fixture.write(delete(2))), Some(Code::E_NOT_FOUND));
    let question = StoreRead::Piece { record: 2, offset: 0, limit: 1 };
    assert_eq!(code(&fixture.read(&question)), Some(Code::E_NOT_FOUND));
}

#[test]
fn a_deletion_from_a_folder_spares_what_is_elsewhere() {
    let mut fixture = Fixture::new();
    let delete = |from| StoreWrite::DeleteFrom { record: 1, from };
    fixture.write(submit(2, inline(MESSAGE))).expect("it is submitted");
    let queued = StoreWrite::DeleteFrom { record: 2, from: Folder::OUTBOX };
    assert_eq!(code(&fixture.write(queued)), Some(Code::E_SUBMITTED));
    fixture.write(save(1, inline("x"))).expect("it is saved");
    assert_eq!(code(&fixture.write(delete(Folder::INBOX))), Some(Code::E_NOT_FOUND));
    let moved = ProviderAnswer::Removed { from: Folder::DRAFTS, to: Some(Folder::DELETED) };
    assert_eq!(fixture.write(delete(Folder::DRAFTS)), Ok(moved));
    assert_eq!(code(&fixture.write(delete(Folder::DRAFTS))), Some(Code::E_NOT_FOUND));
    let gone = ProviderAnswer::Removed { from: Folder::DELETED, to: None };
    assert_eq!(fixture.write(delete(Folder::DELETED)), Ok(gone));
    assert_eq!(code(&fixture.write(delete(Folder::DELETED))), Some(Code::E_NOT_FOUND));
}

#[test]
fn a_reader_notices_that_a_message_was_deleted() {
    let mut fixture = Fixture::new();
    fixture.write(append(1, &vec![b'a'; 200_000])).expect("it is appended");
    fixture.write(append(1, &vec![b'b'; 200_000])).expect("it is appended");
    fixture.write(save(1, MessageContent::Uploaded(1))).expect("it is saved");
    let mut reader = fixture.store.reader().expect("a reader");
    let mut body = reader.open(1).expect("it is there");
    let mut half = vec![0; 200_000];
    body.read_exact(&mut half).expect("the first half is there");
    fixture.write(StoreWrite::Delete { record: 1 }).expect("it is deleted");
    fixture.write(StoreWrite::Delete { record: 1 }).expect("it is gone");
    let error = body.read(&mut half).expect_err("the rest is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn folders_are_listed_in_pages() {
    let mut fixture = Fixture::new();
    let recovered = saved(3, inline("x"), true, 7_001);
    fixture.batch(vec![save(1, inline(MESSAGE)), save(2, inline("x")), recovered]);
    let list = |after, limit| StoreRead::List { folder: Folder::DRAFTS, after, limit };
    let page = fixture.read(&list(0, 2));
    let Ok(ProviderAnswer::Messages { rows, next: Some(next) }) = page else { panic!("{page:?}") };
    assert_eq!(rows[0].subject, "Hello");
    assert_eq!(rows[0].from, "Anna <anna@example.org>");
    assert_eq!(rows[0].to, "Bob");
    assert_eq!((rows[0].received, rows[0].recovered), (7_000, false));
    let page = fixture.read(&list(next, 2));
    let Ok(ProviderAnswer::Messages { rows, next: None }) = page else { panic!("{page:?}") };
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].entry.record, rows[0].received, rows[0].recovered), (3, 7_001, true));
}

#[test]
fn a_cursor_beyond_everything_finds_nothing() {
    let mut fixture = Fixture::new();
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    let after = u64::MAX;
    let rows = fixture.read(&StoreRead::List { folder: Folder::OUTBOX, after, limit: 1 });
    assert_eq!(rows, Ok(ProviderAnswer::Messages { rows: Vec::new(), next: None }));
    let rows = fixture.read(&StoreRead::Queue { all: true, after, limit: 1 });
    assert_eq!(rows, Ok(ProviderAnswer::Queue { rows: Vec::new(), next: None }));
}

#[test]
fn settings_are_kept() {
    let mut fixture = Fixture::new();
    let change = |change| StoreWrite::Setting { section: "a".into(), name: "b".into(), change };
    let value = |text: &str| Ok(ProviderAnswer::Setting(Some(text.into())));
    assert_eq!(fixture.write(change(SettingChange::Set("1".into()))), value("1"));
    assert_eq!(fixture.write(change(SettingChange::Set("2".into()))), value("2"));
    fixture.reopen();
    let read = StoreRead::Setting { section: "a".into(), name: "b".into() };
    assert_eq!(fixture.read(&read), value("2"));
    assert_eq!(fixture.write(change(SettingChange::Remove)), value("2"));
    assert_eq!(fixture.read(&read), Ok(ProviderAnswer::Setting(None)));
    assert_eq!(fixture.write(change(SettingChange::Remove)), Ok(ProviderAnswer::Setting(None)));
}

#[test]
fn a_store_has_one_engine() {
    let mut fixture = Fixture::new();
    let mut second = SqliteStore::new(&spec(fixture.path()));
    let error = second.logon().expect_err("it is taken");
    assert_eq!(error.code, Code::E_DISK_ERROR);
    assert!(error.message.contains("store.db.lock"), "{error}");
    assert!(second.reader().is_err());

    fixture.store.logon().expect("a second session");
    fixture.store.logoff().expect("one session less");
    assert!(second.logon().is_err());
    fixture.store.logoff().expect("the last session");
    second.logon().expect("it is free");
    let answers = fixture.store.commit(vec![StoreWrite::Flush], Sync::Full);
    assert_eq!(code(&answers[0]), Some(Code::E_NOT_INITIALIZED));
}

#[test]
fn the_last_logoff_leaves_one_file() {
    let mut fixture = Fixture::new();
    fixture.write(save(1, inline("x"))).expect("it is saved");
    fixture.store.logoff().expect("it closes");
    let log = fixture.path().with_extension("db-wal");
    assert!(!log.exists(), "the log is still there");
    assert_eq!(fixture.sql("SELECT count(*) FROM message"), 1);
}

#[test]
fn only_the_owner_may_look() {
    let fixture = Fixture::new();
    let mode =
        |path: PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(fixture.path()), 0o600);
    assert_eq!(mode(fixture.path().with_extension("db-wal")), 0o600);
    assert_eq!(mode(fixture.path().with_file_name("")), 0o700);
}

#[test]
fn a_damaged_store_is_named() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("store.db");
    let connection = Connection::open(dir.path().join("other.db")).expect("it opens");
    connection.execute_batch("CREATE TABLE other (x)").expect("a table");
    connection.close().expect("it closes");
    let other = fs::read(dir.path().join("other.db")).expect("a file");
    let letter = b"Dear reader, this is no database, however long one looks at it.".to_vec();
    for content in [letter, other] {
        fs::write(&path, &content).expect("a file");
        let error = SqliteStore::new(&spec(path.clone())).logon().expect_err("it is damaged");
        assert_eq!(error.code, Code::E_CORRUPT_STORE, "{error}");
        assert!(fs::read(&path).expect("a file") == content, "it was written to");
    }
    let error = SqliteStore::new(&spec(path.clone())).logon().expect_err("it is damaged");
    assert!(error.message.contains("move it away"), "{error}");
}

/// Changes a recipient of a submission behind the store's back.
fn damage_envelope(fixture: &Fixture, record: u128) {
    let sql =
        "UPDATE message SET envelope_to = replace(envelope_to, 'bob', 'rob') WHERE record = ?1";
    let changed = fixture.writer().execute(sql, [rows::key(record)]).expect("it is damaged");
    assert_eq!(changed, 1);
}

fn shown(fixture: &Fixture, all: bool) -> Vec<Submission> {
    match fixture.read(&StoreRead::Queue { all, after: 0, limit: 100 }) {
        Ok(ProviderAnswer::Queue { rows, next: None }) => rows,
        other => panic!("{other:?}"),
    }
}

/// A damaged submission is neither sent nor hidden. When it is old it is given up, and the Inbox says so.
#[test]
fn a_damaged_submission_is_shown_and_given_up() {
    let mut fixture = Fixture::new();
    let now = wall();
    let young = |record| Submission { submitted: now, ..submission(record) };
    fixture.write(submit_of(young(1), inline(MESSAGE))).expect("it is submitted");
    fixture.write(submit_of(young(2), inline(MESSAGE))).expect("it is submitted");
    damage_envelope(&fixture, 1);
    fixture.reopen();
    let rows = shown(&fixture, false);
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].record, rows[0].state()), (1, SubmissionState::Unknown));
    assert!(rows[0].last_error.as_ref().is_some_and(|error| error.contains("damaged")));
    assert_eq!((rows[0].subject.as_str(), rows[0].submitted), ("Hello", now));

    let age = "UPDATE message SET submitted = submitted - 6 * 24 * 3600 * 1000";
    fixture.writer().execute(age, []).expect("time passes");
    let facts = fixture.reopen();
    assert_eq!(facts.queue.iter().sum::<u64>(), 1);
    let rows = shown(&fixture, false);
    assert_eq!((rows[0].record, rows[0].state()), (1, SubmissionState::Bounced));
    assert_eq!((rows[1].record, rows[1].state()), (2, SubmissionState::Queued));
    let inbox = StoreRead::List { folder: Folder::INBOX, after: 0, limit: 9 };
    let Ok(ProviderAnswer::Messages { rows, next: None }) = fixture.read(&inbox) else {
        panic!("a list")
    };
    assert_eq!(rows.len(), 1);
    let notice = fixture.content(rows[0].entry.record);
    assert!(
        notice.contains("damaged in the store") && notice.contains("Subject: Hello"),
        "{notice}"
    );
    fixture.reopen();
    assert_eq!(fixture.sql("SELECT count(*) FROM message WHERE folder = 1"), 1);

    fixture.write(StoreWrite::Delete { record: rows[0].entry.record }).expect("it is read");
    purge_all(&mut fixture, wall() + (8 << 30));
    assert_eq!(shown(&fixture, true).iter().map(|row| row.record).collect::<Vec<_>>(), [2]);
}

/// Submissions behind any number of damaged ones are found.
#[test]
fn damaged_submissions_do_not_hide_the_queue_behind_them() {
    let mut fixture = Fixture::new();
    for record in 1..=5 {
        fixture.write(submit(record, inline(MESSAGE))).expect("it is submitted");
    }
    (1..=3).for_each(|record| damage_envelope(&fixture, record));
    let answer = fixture.read(&StoreRead::Due { after: None, limit: 1 });
    let Ok(ProviderAnswer::Due { submissions, more: true, damaged: 3 }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(submissions[0].record, 4);
}

fn due(fixture: &Fixture, limit: u32) -> (Vec<u128>, usize) {
    let (mut found, mut damaged, mut after) = (Vec::new(), 0, None);
    loop {
        let answer = fixture.read(&StoreRead::Due { after, limit });
        let Ok(ProviderAnswer::Due { submissions, more, damaged: left_out }) = answer else {
            panic!("{answer:?}")
        };
        let keys: Vec<_> = submissions.iter().map(|s| (s.due, s.order)).collect();
        assert!(after.into_iter().chain(keys.iter().copied()).is_sorted_by(|a, b| a < b));
        assert!(!more || !submissions.is_empty());
        after = keys.last().copied();
        damaged += left_out;
        found.extend(submissions.iter().map(|s| s.record));
        if !more {
            return (found, damaged);
        }
    }
}

/// A row with a damaged place in the queue delays no other, whatever the damage, and is shown.
#[test]
fn a_damaged_place_in_the_queue_holds_up_no_other() {
    // Sent, and in the queue again; out of every list; sent at no time.
    for (damage, of) in [
        ("UPDATE message SET state = 2 WHERE record = ?1", 9),
        ("UPDATE message SET state = 4 WHERE record = ?1", 9),
        ("UPDATE message SET state = 6 WHERE record = ?1", 2),
        ("UPDATE message SET state = 12 WHERE record = ?1", 2),
        ("UPDATE message SET state = -1 WHERE record = ?1", 2),
        ("UPDATE message SET due = 'soon' WHERE record = ?1", 2),
        ("UPDATE message SET due = 1e300 WHERE record = ?1", 2),
        ("UPDATE message SET due = NULL WHERE record = ?1", 2),
    ] {
        for limit in [1, 2, 3, 100] {
            let mut fixture = Fixture::new();
            for record in 1..=5 {
                fixture.write(submit(record, inline(MESSAGE))).expect("it is submitted");
            }
            fixture.write(submit(9, inline(MESSAGE))).expect("it is submitted");
            fixture.write(update(9, SubmissionState::Sent)).expect("it is sent");
            let changed = fixture.writer().execute(damage, [rows::key(of)]).expect("it is SQL");
            assert_eq!(changed, 1);
            let sound: Vec<_> = (1..=5).filter(|record| *record != of).collect();
            assert_eq!(due(&fixture, limit).0, sound, "{damage}, {limit} at a time");
            let known = |all| shown(&fixture, all).iter().any(|row| row.record == of);
            assert!(known(true), "{damage}: it is nowhere");
            if of == 2 && !damage.contains("= 6") {
                assert!(known(false), "{damage}: it waits and is not listed");
            }
        }
    }
}

/// A damaged row of the index on due times, or one that is missing with the index, delays nothing.
#[test]
fn a_damaged_index_of_the_queue_is_not_followed() {
    let mut fixture = Fixture::new();
    for record in 1..=60 {
        fixture.write(submit(record, inline(MESSAGE))).expect("it is submitted");
    }
    let all: Vec<_> = (1..=60).collect();
    assert_eq!(due(&fixture, 7).0, all);
    let page = fixture
        .sql("SELECT pageno FROM dbstat WHERE name = 'message_due' AND pagetype = 'leaf' LIMIT 1")
        as u64;
    fixture.store.logoff().expect("everything is in the database");
    let file = fs::File::options().read(true).write(true).open(fixture.path()).expect("it opens");
    let mut bytes = [0; 4096];
    file.read_exact_at(&mut bytes, (page - 1) * 4096).expect("it is read");
    // Two entries of the index are exchanged: each is a pointer of two bytes behind the header.
    bytes.swap(8 + 10, 8 + 40);
    bytes.swap(8 + 11, 8 + 41);
    file.write_all_at(&bytes, (page - 1) * 4096).expect("it is damaged");
    fixture.reopen();
    assert_eq!(due(&fixture, 7).0, all);
    fixture.writer().execute_batch("DROP INDEX message_due").expect("it is gone");
    fixture.reopen();
    assert_eq!(due(&fixture, 7).0, all);
}

/// A page of the table is overwritten: the messages on it are not sent, and all others are.
#[test]
fn a_damaged_page_does_not_hide_the_queue_behind_it() {
    let mut fixture = Fixture::new();
    for record in 1..=60 {
        fixture.write(submit(record, inline(MESSAGE))).expect("it is submitted");
    }
    let leaves = "SELECT pageno FROM dbstat WHERE name = 'message' AND pagetype = 'leaf'
        ORDER BY pageno LIMIT 1 OFFSET 1";
    let page = fixture.sql(leaves) as u64;
    fixture.store.logoff().expect("everything is in the database");
    let file = fs::File::options().write(true).open(fixture.path()).expect("it opens");
    file.write_all_at(&[0xA5; 4096], (page - 1) * 4096).expect("it is damaged");
    fixture.reopen();
    let (mut found, mut after, mut more) = (Vec::new(), None, true);
    while more {
        let answer = fixture.read(&StoreRead::Due { after, limit: 5 });
        let Ok(ProviderAnswer::Due { submissions, more: left, .. }) = answer else {
            panic!("{answer:?}")
        };
        after = submissions.last().map(|last| (last.due, last.order));
        found.extend(submissions.iter().map(|found| found.record));
        more = left;
    }
    assert!(found.len() >= 40 && found.len() < 60, "{found:?}");
    assert_eq!(found.last(), Some(&60));
    let listed: Vec<_> = shown(&fixture, false).iter().map(|row| row.record).collect();
    assert_eq!(listed, found);
    fixture.write(update(60, SubmissionState::Sent)).expect("it is sent");
}

/// A message that cannot be read still bounces, and its sender is told.
#[test]
fn a_message_with_a_damaged_body_can_bounce() {
    let mut fixture = Fixture::new();
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    fixture.writer().execute("UPDATE body SET sum = 1", []).expect("it is damaged");
    let answer = fixture.write(update(1, SubmissionState::Bounced));
    let Ok(ProviderAnswer::Updated { notice: Some(notice), .. }) = answer else {
        panic!("{answer:?}")
    };
    let notice = notice.record;
    assert!(fixture.content(notice).contains("550 5.1.1"));
}

/// A submission with this many recipients.
fn to_many(record: u128, count: usize) -> Submission {
    let one = submission(record).recipients[0].clone();
    let recipient = |n| Recipient { address: format!("recipient-{n}@example.org"), ..one.clone() };
    Submission { recipients: (0..count).map(recipient).collect(), ..submission(record) }
}

fn change(submission: &Submission) -> StoreWrite {
    let update = SubmissionUpdate::whole(submission.clone(), None, wall());
    StoreWrite::Update(Box::new(update))
}

fn stored(fixture: &Fixture, record: u128) -> Submission {
    match fixture.read(&StoreRead::Submission { record }) {
        Ok(ProviderAnswer::Queue { rows, .. }) => rows[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// For any number of recipients, every change of any of them is kept, also over restarts and refused writes.
#[test]
fn recipients_keep_what_became_of_them() {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let mut fixture = Fixture::new();
    let mut messages: Vec<Submission> = Vec::new();
    for (record, count) in (1..).zip([1, 31, 32, 33, 200]) {
        let (entered, _) =
            submitted(fixture.write(submit_of(to_many(record, count), inline(MESSAGE))));
        messages.push(entered);
    }
    for round in 0..60 {
        let one = random.next_u32() as usize % messages.len();
        let mut changed = messages[one].clone();
        let mut places = Vec::new();
        for _ in 0..=random.next_u32() % 4 {
            let place = random.next_u32() as usize % changed.recipients.len();
            places.push(place);
            let recipient = &mut changed.recipients[place];
            let marker = format!("round {round}");
            recipient.state = SubmissionState::Transmitting;
            recipient.intent = Some(Intent { transport: "here".into(), marker });
            recipient.reply = Some(format!("250 {round}"));
        }
        changed.attempts += 1;
        let write = if random.next_u32().is_multiple_of(2) {
            change(&changed)
        } else {
            let part = SubmissionUpdate::part(&changed, places, None, wall());
            StoreWrite::Update(Box::new(part))
        };
        match random.next_u32() % 4 {
            // The second write is refused, and undoes nothing of the first.
            0 => {
                let answers = fixture.batch(vec![write, StoreWrite::Delete { record: 99 }]);
                assert!(answers[0].is_ok() && answers[1].is_err(), "{answers:?}");
                messages[one] = changed;
            }
            1 => drop(fixture.reopen()),
            _ => {
                fixture.write(write).expect("it is changed");
                messages[one] = changed;
            }
        }
        for message in &messages {
            assert_eq!(stored(&fixture, message.record), *message, "round {round}");
        }
    }
    assert_eq!(fixture.sql("SELECT count(DISTINCT message) FROM recipient"), 3);
    for mut message in messages {
        message.recipients.iter_mut().for_each(|one| one.state = SubmissionState::Sent);
        fixture.write(change(&message)).expect("it is sent");
    }
    purge_all(&mut fixture, wall() + (8 << 30));
    assert_eq!(fixture.sql("SELECT count(*) FROM recipient"), 0);
}

/// A message to many that was submitted when all recipients were stored in its row.
#[test]
fn recipients_of_an_older_store_get_rows() {
    let mut fixture = Fixture::new();
    let (mut message, _) = submitted(fixture.write(submit_of(to_many(1, 40), inline(MESSAGE))));
    let text = rows::encode_recipients(&message.recipients);
    let envelope = recipients::Envelope { text: text.clone(), rows: None };
    let sum = rows::envelope_sum(By::Lanes, &message, &envelope);
    let writer = fixture.writer();
    let older = "UPDATE message SET envelope_to = ?1, envelope_sum = ?2";
    writer.execute(older, (text, sum)).expect("it is as it was");
    writer.execute_batch("DROP TABLE recipient; PRAGMA user_version = 5").expect("as it was");
    fixture.reopen();
    assert_eq!(stored(&fixture, 1), message);
    message.recipients[7].state = SubmissionState::Sent;
    fixture.write(change(&message)).expect("it is changed");
    fixture.reopen();
    assert_eq!(stored(&fixture, 1), message);
    assert_eq!(fixture.sql("SELECT count(*) FROM recipient"), 40);
}

/// If a recipient is changed, lost, exchanged or given to another message behind the store's back, the message is not sent.
#[test]
fn a_damaged_recipient_is_noticed() {
    for damage in [
        "UPDATE recipient SET content = replace(content, 'recipient-3@', 'recipient-4@') WHERE place = 3",
        "UPDATE recipient SET content = replace(content, 'sent', 'queued') WHERE place = 3",
        "DELETE FROM recipient WHERE place = 3",
        "DELETE FROM recipient WHERE place = 39",
        "DELETE FROM recipient",
        "UPDATE recipient SET place = CASE place WHEN 3 THEN 103 ELSE place END",
        "UPDATE message SET envelope_to = 'rows 39'",
    ] {
        let mut fixture = Fixture::new();
        let mut message = to_many(1, 40);
        fixture.write(submit_of(message.clone(), inline(MESSAGE))).expect("it is submitted");
        message.recipients[3].state = SubmissionState::Sent;
        fixture.write(change(&message)).expect("it is changed");
        assert!(fixture.writer().execute(damage, []).expect("it is damaged") > 0, "{damage}");
        let answer = fixture.read(&StoreRead::Due { after: None, limit: 9 });
        let Ok(ProviderAnswer::Due { submissions, damaged: 1, .. }) = answer else {
            panic!("{damage}: {answer:?}")
        };
        assert!(submissions.is_empty(), "{damage}");
    }
}

/// A change of a few of many recipients writes a few pages.
#[test]
fn a_change_writes_what_changed() {
    let mut fixture = Fixture::new();
    let (mut message, _) = submitted(fixture.write(submit_of(to_many(1, 10_000), inline(MESSAGE))));
    let log = fixture.path().with_file_name("store.db-wal");
    let written = |fixture: &Fixture| {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let truncate = || fixture.writer().query_row(sql, [], |_| Ok(())).expect("it is moved");
        let size = fs::metadata(&log).expect("a log").len();
        truncate();
        size
    };
    written(&fixture);
    for first in (0..10_000).step_by(1_000) {
        for recipient in &mut message.recipients[first..first + 50] {
            recipient.state = SubmissionState::Sent;
        }
        fixture.write(change(&message)).expect("it is changed");
        let bytes = written(&fixture);
        assert!(bytes < 128 << 10, "{bytes} bytes for 50 recipients");
    }
    assert_eq!(stored(&fixture, 1), message);
}

/// A purge in slices continues until nothing is left, however much there was.
#[test]
fn a_purge_comes_to_its_end() {
    let mut fixture = Fixture::new();
    for record in 1..=1_200 {
        fixture.store.commit(vec![save(record, inline("x"))], Sync::None);
    }
    let old = "UPDATE message SET final_at = 1, folder = 0";
    fixture.writer().execute(old, []).expect("they are old");
    fixture.reopen();
    let left = |fixture: &Fixture| fixture.sql("SELECT count(*) FROM message");
    assert_eq!(left(&fixture), 700, "a start forgets one slice");
    let mut slices = 0;
    while left(&fixture) > 0 && slices < 9 {
        fixture.store.tidy();
        slices += 1;
    }
    assert_eq!((left(&fixture), slices), (0, 2));
}

/// A store of the first schema is brought to the present one, with all its contents.
#[test]
fn an_older_store_is_brought_up_to_date() {
    let mut fixture = Fixture::new();
    let mut first = submission(1);
    first.due = 7;
    fixture.write(submit_of(first, inline(MESSAGE))).expect("it is submitted");
    fixture.write(update(1, SubmissionState::Unknown)).expect("it is unknown");
    let older = "
        DROP INDEX message_due;
        CREATE INDEX message_due ON message (due, seq) WHERE state IN (2, 3, 4);
        ALTER TABLE message DROP COLUMN report;
        ALTER TABLE message DROP COLUMN seen;
        ALTER TABLE message DROP COLUMN body_sum;
        ALTER TABLE message DROP COLUMN envelope_sum;
        ALTER TABLE body DROP COLUMN sum;
        ALTER TABLE message DROP COLUMN route;
        ALTER TABLE message DROP COLUMN born;
        ALTER TABLE message DROP COLUMN delay_told;
        DROP INDEX message_unread;
        ALTER TABLE message DROP COLUMN flags;
        ALTER TABLE message DROP COLUMN keywords;
        ALTER TABLE message DROP COLUMN date;
        DROP TABLE folder;
        DROP TABLE mailbox;
        DROP TABLE spot;
        DROP TABLE shared;
        DROP TABLE account;
        DROP TABLE cursor;
        DROP TABLE remote;
        PRAGMA user_version = 1;";
    fixture.writer().execute_batch(older).expect("it is as it was");
    fixture.reopen();
    let page = fixture.read(&StoreRead::Due { after: None, limit: 2 });
    let Ok(ProviderAnswer::Due { submissions, more: false, .. }) = page else { panic!("{page:?}") };
    assert_eq!(submissions.len(), 1);
    assert_eq!(submissions[0].report, Report::default());
    assert_eq!(fixture.content(1), MESSAGE);
    let version: i32 = fixture
        .writer()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .expect("a number");
    assert_eq!(version, 12);
    let folders = fixture.read(&StoreRead::Folders { after: None, limit: 9 });
    let Ok(ProviderAnswer::Folders { rows, next: None }) = folders else { panic!("{folders:?}") };
    assert_eq!(rows.len(), 5);
}

/// A store that cannot be brought up to date keeps its tables: an earlier release still opens it.
#[test]
fn an_upgrade_that_fails_changes_nothing() {
    let mut fixture = Fixture::new();
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    // The columns that the steps from here on add exist already.
    fixture.writer().pragma_update(None, "user_version", 1).expect("it says so");
    let path = fixture.path();
    drop(fixture.store);
    let tables = || -> (String, i32) {
        let connection = Connection::open(&path).expect("the file opens");
        let select =
            "SELECT group_concat(sql, ';'), user_version FROM sqlite_schema, pragma_user_version";
        connection.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("tables")
    };
    let before = tables();
    assert!(SqliteStore::new(&spec(path.clone())).logon().is_err());
    assert_eq!(tables(), before);
}

/// The sums of schemas 3 to 5 differ from the present ones, and still show what is damaged.
#[test]
fn sums_of_an_older_store_are_understood() {
    understands_sums(3, By::Bytes);
    understands_sums(4, By::Words);
    understands_sums(5, By::Lanes);
}

fn understands_sums(schema: i32, by: By) {
    let mut fixture = Fixture::new();
    let (stored, _) = submitted(fixture.write(submit(1, inline(MESSAGE))));
    let writer = fixture.writer();
    let (id, body): (u64, u64) = writer
        .query_row("SELECT body.id, body FROM body, message", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("one of each");
    let bytes = body::sum_of(by, id, MESSAGE.as_bytes());
    writer.execute("UPDATE body SET sum = ?1", [bytes]).expect("it is as it was");
    let place = rows::body_sum(by, 1, body, stored.size);
    let envelope = recipients::Envelope::of(1, &stored.recipients);
    let envelope = rows::envelope_sum(by, &stored, &envelope);
    writer
        .execute("UPDATE message SET body_sum = ?1, envelope_sum = ?2", [place, envelope])
        .expect("it is as it was");
    writer.pragma_update(None, "user_version", schema).expect("it is as it was");
    fixture.reopen();
    assert_eq!(fixture.content(1), MESSAGE);
    let found = fixture.read(&StoreRead::Submission { record: 1 });
    assert_eq!(found, Ok(ProviderAnswer::Queue { rows: vec![stored], next: None }));
    let other = MESSAGE.replace("body", "bady");
    fixture
        .writer()
        .execute("UPDATE body SET bytes = ?1", [other.as_bytes()])
        .expect("it is damaged");
    let piece = fixture.read(&StoreRead::Piece { record: 1, offset: 0, limit: 1_000 });
    assert_eq!(code(&piece), Some(Code::E_CORRUPT_STORE));
}

/// A flush makes deferred messages due, of one profile and user.
#[test]
fn what_is_deferred_can_be_hastened() {
    let mut fixture = Fixture::new();
    for record in 1..=4 {
        let mut one = submission(record);
        one.uid = if record == 3 { 1 } else { 1000 };
        one.profile = if record == 4 { "other".into() } else { "default".into() };
        fixture.write(submit_of(one, inline(MESSAGE))).expect("it is submitted");
    }
    for record in 2..=4 {
        let StoreWrite::Update(mut update) = update(record, SubmissionState::Deferred) else {
            unreachable!("it is an update")
        };
        update.submission.due = 9_000;
        fixture.write(StoreWrite::Update(update)).expect("it is deferred");
    }
    let hasten = |profile: Option<&str>, uid| StoreWrite::Hasten {
        profile: profile.map(str::to_owned),
        uid,
        after: 0,
        now: 6_000,
    };
    assert_eq!(hastened(fixture.write(hasten(Some("default"), Some(1000)))), (1, None));
    assert_eq!(hastened(fixture.write(hasten(Some("default"), None))), (1, None));
    assert_eq!(hastened(fixture.write(hasten(None, None))), (1, None));
    assert_eq!(hastened(fixture.write(hasten(None, None))), (0, None));
}

fn hastened(answer: Result<ProviderAnswer>) -> (u64, Option<u64>) {
    match answer {
        Ok(ProviderAnswer::Hastened { found, next }) => (found, next),
        answer => panic!("{answer:?}"),
    }
}

/// A flush of a queue of any length changes some hundred rows in a commit, and in the end all.
#[test]
fn a_flush_goes_in_slices() {
    let mut fixture = Fixture::new();
    let many = 1_203;
    let batch = (1..=many).map(|record| submit(record, inline("x"))).collect();
    assert!(fixture.batch(batch).iter().all(Result::is_ok));
    let deferred = "UPDATE message SET state = 4, due = 9_000, envelope_sum = NULL";
    fixture.writer().execute(deferred, []).expect("they are deferred");
    let (mut after, mut slices, mut all) = (Some(0), 0, 0);
    while let Some(behind) = after {
        let (profile, uid) = (None, None);
        let answer = fixture.write(StoreWrite::Hasten { profile, uid, after: behind, now: 6_000 });
        let (found, next) = hastened(answer);
        assert!(found <= 500, "{found} at once");
        assert!(next.is_none_or(|next| next > behind), "it goes on");
        (after, slices, all) = (next, slices + 1, all + found);
    }
    assert_eq!((slices, u128::from(all)), (3, many));
    assert_eq!(fixture.sql("SELECT count(*) FROM message WHERE due = 6000"), many as i64);
}

/// The store's clock is kept, and with each submission its time by that clock, which its sum covers.
#[test]
fn what_tells_the_age_is_kept() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.reopen().clock, KeptClock::default());
    let kept = KeptClock { clock: u64::MAX >> 1, ahead: -7, ran: 90_000 };
    for kept in [KeptClock { ran: 80_000, ..kept }, kept] {
        assert_eq!(fixture.write(StoreWrite::Clock(kept)), Ok(ProviderAnswer::Done));
        assert_eq!(fixture.reopen().clock, kept);
    }
    for (record, born) in [(1, None), (2, Some(0)), (3, Some(85_000))] {
        let submission = Submission { born, ..submission(record) };
        fixture.write(submit_of(submission, inline(MESSAGE))).expect("it is submitted");
        assert_eq!(stored(&fixture, record).born, born);
    }
    let told = Submission { delay_told: true, ..stored(&fixture, 3) };
    let update = SubmissionUpdate::whole(told.clone(), None, 1);
    fixture.write(StoreWrite::Update(Box::new(update))).expect("it is updated");
    fixture.reopen();
    assert_eq!(stored(&fixture, 3), told);
    fixture.writer().execute("UPDATE message SET born = born - 1", []).expect("it is damaged");
    for (record, is_damaged) in [(1, false), (2, true), (3, true)] {
        let read = fixture.read(&StoreRead::Submission { record });
        assert_eq!(read.is_err(), is_damaged, "{record}: {read:?}");
    }
}

/// Whose message it is, and by which transport it goes, is kept with it, and covered by its sum.
#[test]
fn what_chooses_the_transport_is_kept() {
    let mut fixture = Fixture::new();
    let owned = |text: &str| Some(text.to_owned());
    let routes = [
        (owned("anna@work.example"), owned("work")),
        (None, owned("work")),
        (owned("anna@work.example"), None),
    ];
    for (record, (author, account)) in (1..).zip(routes.clone()) {
        let route = Some(Box::new(Route { author, account }));
        let submission = Submission { route, ..submission(record) };
        fixture.write(submit_of(submission, inline(MESSAGE))).expect("it is submitted");
    }
    fixture.write(submit(9, inline(MESSAGE))).expect("it is submitted");
    fixture.reopen();
    for (record, (author, account)) in (1..).zip(routes) {
        let found = stored(&fixture, record);
        assert_eq!(found.route, Some(Box::new(Route { author, account })));
    }
    assert_eq!(stored(&fixture, 9).route, None);
    let damage = "UPDATE message SET route = replace(route, 'work', 'home')";
    fixture.writer().execute(damage, []).expect("it is damaged");
    for (record, is_damaged) in [(1, true), (2, true), (3, true), (9, false)] {
        let read = fixture.read(&StoreRead::Submission { record });
        assert_eq!(read.is_err(), is_damaged, "{record}: {read:?}");
    }
}

#[test]
fn a_newer_store_is_left_alone() {
    let mut fixture = Fixture::new();
    fixture.store.logoff().expect("it closes");
    let connection = Connection::open(fixture.path()).expect("it opens");
    connection.pragma_update(None, "user_version", 1_000).expect("a number");
    connection.close().expect("it closes");
    let error = fixture.store.logon().expect_err("it is newer");
    assert_eq!(error.code, Code::E_VERSION);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let mut fixture = Fixture::new();
    fixture.write(submit(1, inline(MESSAGE))).expect("it is submitted");
    let pages: i64 = fixture.sql("PRAGMA page_count") + 20;
    fixture.writer().pragma_update(None, "max_page_count", pages).expect("a limit");
    let large = "x".repeat(200_000);
    let answers = fixture.batch(vec![
        save(2, inline("small")),
        save(3, inline(&large)),
        submit(4, inline(&large)),
        save(5, inline("small")),
        append(6, large.as_bytes()),
        update(1, SubmissionState::Sent),
    ]);
    let full = Some(Code::E_NOT_ENOUGH_DISK);
    let codes: Vec<_> = answers.iter().map(code).collect();
    assert_eq!(codes, [None, full, full, None, full, None]);
    assert_eq!(code(&fixture.write(save(3, inline(&large)))), full);
    assert_eq!(fixture.folder(1), Some(Folder::SENT));
    assert_eq!(fixture.content(2), "small");
    assert_eq!((fixture.folder(3), fixture.folder(4)), (None, None));

    fixture.writer().pragma_update(None, "max_page_count", 1 << 30).expect("no limit");
    fixture.write(save(3, inline(&large))).expect("there is room again");
    fixture.reopen();
    assert_eq!(fixture.content(3), large);
    assert_eq!(fixture.content(5), "small");
    assert_eq!(fixture.sql("SELECT count(*) FROM body"), 4);
}

#[test]
fn a_store_whose_sync_failed_takes_nothing_more() {
    let mut fixture = Fixture::new();
    fixture.write(save(1, inline("x"))).expect("it is saved");
    fixture.store.engine.as_ref().expect("it is open").health.fail();
    let answers = fixture.batch(vec![save(2, inline("x")), StoreWrite::Flush]);
    for answer in &answers {
        assert_eq!(code(answer), Some(Code::E_DISK_ERROR));
    }
    assert_eq!(fixture.content(1), "x");
    fixture.store.logoff().expect("it closes");
    fixture.store.logon().expect("it opens anew");
    fixture.write(save(2, inline("x"))).expect("it is saved");
}

#[test]
fn another_program_that_writes_is_waited_for_or_named() {
    let mut fixture = Fixture::new();
    fixture.writer().busy_timeout(std::time::Duration::ZERO).expect("no patience");
    let other = Connection::open(fixture.path()).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("it locks");
    let answers = fixture.batch(vec![save(1, inline("x")), StoreWrite::Flush]);
    assert_eq!(code(&answers[0]), Some(Code::E_DISK_ERROR));
    other.execute_batch("ROLLBACK").expect("it unlocks");
    fixture.write(save(1, inline("x"))).expect("it is saved");
}

#[test]
fn a_flush_of_what_is_durable_waits_for_no_other_program() {
    let mut fixture = Fixture::new();
    fixture.writer().busy_timeout(std::time::Duration::ZERO).expect("no patience");
    fixture.batch(vec![save(1, inline("x")), StoreWrite::Flush]);
    let other = Connection::open(fixture.path()).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("it locks");
    assert_eq!(fixture.write(StoreWrite::Flush), Ok(ProviderAnswer::Done));
}

#[test]
fn a_flush_syncs_what_was_not() {
    let mut fixture = Fixture::new();
    let touched = "SELECT value FROM meta WHERE name = 'touched'";
    fixture.write(StoreWrite::Flush).expect("it is done");
    assert_eq!(fixture.sql(touched), 0);
    fixture.store.commit(vec![append(1, b"x")], Sync::None);
    fixture.write(StoreWrite::Flush).expect("it is done");
    fixture.write(StoreWrite::Flush).expect("it is done");
    assert_eq!(fixture.sql(touched), 1);
}

/// A store as a crash leaves it, with a log of some commits.
struct Crashed {
    dir: TempDir,
    log: Vec<u8>,
    /// Where the frames of each commit begin and end.
    commits: Vec<(usize, usize)>,
}

/// The sizes of the log's head, of a frame's header, and of a page.
const LOG_SIZES: (usize, usize, usize) = (32, 24, 4096);

impl Crashed {
    fn of(fixture: &Fixture) -> Self {
        let dir = TempDir::new().expect("a directory");
        let log = fs::read(fixture.path().with_file_name("store.db-wal")).expect("a log");
        fs::copy(fixture.path(), dir.path().join("store.db")).expect("copied");
        let (head, frame, page) = LOG_SIZES;
        let (mut commits, mut begin) = (Vec::new(), head);
        for at in (head..log.len()).step_by(frame + page) {
            if log[at + 4..at + 8] != [0; 4] {
                commits.push((begin, at + frame + page));
                begin = at + frame + page;
            }
        }
        Self { dir, log, commits }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Changes a byte in the first page of a commit, counted from the last commit.
    fn damage(&mut self, from_last: usize) {
        let (begin, _) = self.commits[self.commits.len() - 1 - from_last];
        self.log[begin + LOG_SIZES.1 + 100] ^= 1;
        fs::write(self.file("store.db-wal"), &self.log).expect("written");
    }

    fn open(&self) -> (SqliteStore, Result<StoreFacts>) {
        let mut store = SqliteStore::new(&spec(self.path()));
        let facts = store.logon();
        (store, facts)
    }

    fn is_called_damaged(&self) -> bool {
        let (_store, facts) = self.open();
        let damaged = facts.expect("it opens").damage.is_some();
        assert_eq!(self.file("store.db-wal.damaged").exists(), damaged);
        damaged
    }
}

fn with_commits(count: u128) -> Fixture {
    let mut fixture = Fixture::new();
    for record in 1..=count {
        fixture.write(save(record, inline("x"))).expect("it is saved");
    }
    fixture
}

/// A power cut tears what was not synced. Only answered commits behind the place show that something else damaged the log.
#[test]
fn a_torn_end_of_a_log_is_no_damage_and_a_torn_middle_is() {
    for (from_last, damaged) in [(0, false), (1, true), (3, true)] {
        let mut crashed = Crashed::of(&with_commits(6));
        crashed.damage(from_last);
        assert_eq!(crashed.is_called_damaged(), damaged, "{from_last} commits before the last");
        if damaged {
            let kept = fs::read(crashed.file("store.db-wal.damaged")).expect("it is kept");
            assert!(kept == crashed.log, "it is kept as it was");
        }
    }
}

/// Pieces of uploads are not synced: any of them may be missing, and the commit that follows them as well.
#[test]
fn torn_commits_without_a_sync_are_no_damage() {
    for (synced_behind, damaged) in [(0, false), (1, false), (2, true)] {
        let mut fixture = with_commits(1);
        for piece in 0..4 {
            fixture.store.commit(vec![append(piece, &[b'x'; 9_000])], Sync::None);
        }
        for record in 0..synced_behind {
            fixture.write(save(100 + record, inline("x"))).expect("it is saved");
        }
        let mut crashed = Crashed::of(&fixture);
        crashed.damage(2 + synced_behind as usize);
        assert_eq!(crashed.is_called_damaged(), damaged, "{synced_behind} commits behind them");
    }
}

/// A log that cannot be copied stays unchanged, and the store closed. A second copy does not replace a first.
#[test]
fn a_damaged_log_is_copied_before_it_is_overwritten() {
    let mut fixture = with_commits(4);
    // A change of the schema would write, too.
    let older = "DELETE FROM meta WHERE name = 'body'; PRAGMA user_version = 5;
        PRAGMA wal_checkpoint(TRUNCATE);";
    fixture.writer().execute_batch(older).expect("it is as it was");
    for record in 11..=14 {
        fixture.write(save(record, inline("x"))).expect("it is saved");
    }
    let mut crashed = Crashed::of(&fixture);
    crashed.damage(2);
    let before = fs::read(crashed.path()).expect("it reads");
    fs::create_dir(crashed.file("store.db-wal.damaged.part")).expect("it is in the way");
    let (_, facts) = crashed.open();
    assert!(facts.is_err(), "{facts:?}");
    assert!(fs::read(crashed.file("store.db-wal")).expect("it is there") == crashed.log);
    assert!(fs::read(crashed.path()).expect("it is there") == before);

    fs::remove_dir(crashed.file("store.db-wal.damaged.part")).expect("it is away");
    fs::write(crashed.file("store.db-wal.damaged"), "the first").expect("written");
    let (store, facts) = crashed.open();
    assert!(facts.expect("it opens").damage.is_some());
    drop(store);
    assert_eq!(fs::read(crashed.file("store.db-wal.damaged")).expect("kept"), b"the first");
    assert!(fs::read(crashed.file("store.db-wal.damaged.2")).expect("kept") == crashed.log);
}

#[test]
fn checkpoints_run_beside_commits() {
    let mut fixture = Fixture::new();
    let megabyte = "x".repeat(1 << 20);
    for record in 1..=20 {
        fixture.write(save(record, inline(&megabyte))).expect("it is saved");
    }
    fixture.store.logoff().expect("it closes");
    fixture.store.logon().expect("it opens");
    for record in 1..=20 {
        assert_eq!(fixture.content(record).len(), 1 << 20);
    }
}

/// Under a steady load the log does not grow forever: it starts over, and its head then has other salts.
#[test]
fn the_log_starts_over_under_a_load_that_never_pauses() {
    let mut fixture = Fixture::new();
    let log = fixture.path().with_file_name("store.db-wal");
    let salts = || {
        let mut salts = [0; 8];
        let file = fs::File::open(&log).expect("a log");
        file.read_exact_at(&mut salts, 16).expect("it has a head");
        salts
    };
    fixture.write(save(1, inline(MESSAGE))).expect("it is saved");
    let (before, megabyte) = (salts(), "x".repeat(1 << 20));
    for record in 2..12 {
        fixture.write(save(record, inline(&megabyte))).expect("it is saved");
    }
    let began = std::time::Instant::now();
    for record in 12.. {
        fixture.write(save(record, inline(MESSAGE))).expect("it is saved");
        fixture.store.tidy();
        if salts() != before {
            return;
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "it goes on and on");
    }
}

/// A day in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

fn purge_all(fixture: &mut Fixture, now: u64) {
    let writer = &mut fixture.store.engine.as_mut().expect("it is open").writer;
    while writer.purge(now).expect("it purges") == purge::Slices::More {}
}

/// Sent messages, a bounced one, and a draft.
fn sent(fixture: &mut Fixture, count: u128) {
    for record in 1..=count {
        fixture.write(submit(record, inline(MESSAGE))).expect("it is submitted");
        fixture.write(update(record, SubmissionState::Sent)).expect("it is sent");
    }
    fixture.write(submit(900, inline(MESSAGE))).expect("it is submitted");
    fixture.write(update(900, SubmissionState::Bounced)).expect("it bounced");
    let sql = "UPDATE message SET received = ?1";
    fixture.writer().execute(sql, [wall() as i64]).expect("they came now");
    fixture.write(save(901, inline(MESSAGE))).expect("it is saved");
}

fn in_sent(fixture: &Fixture) -> i64 {
    fixture.sql("SELECT count(*) FROM message WHERE folder = 3")
}

#[test]
fn a_new_store_keeps_what_was_sent_for_30_days() {
    let mut fixture = Fixture::new();
    keeping(&mut fixture, None);
    sent(&mut fixture, 3);
    purge_all(&mut fixture, wall() + 29 * DAY);
    assert_eq!(in_sent(&fixture), 4);
    purge_all(&mut fixture, wall() + 31 * DAY);
    assert_eq!(in_sent(&fixture), 1, "of what bounced somebody is still to be told");
    assert_eq!(fixture.sql("SELECT count(*) FROM body"), 3, "that, its notice and the draft");
    assert_eq!(fixture.folder(901), Some(Folder::DRAFTS));
}

/// A store that was made before there was a limit keeps sent messages forever, unless its profile says otherwise.
#[test]
fn an_older_store_keeps_what_was_sent_for_ever() {
    let mut fixture = Fixture::new();
    sent(&mut fixture, 3);
    fixture.writer().execute("DELETE FROM meta WHERE name = 'keep_sent'", []).expect("older");
    keeping(&mut fixture, None);
    purge_all(&mut fixture, wall() + 4_000 * DAY);
    assert_eq!(in_sent(&fixture), 4);
    keeping(&mut fixture, Some("86400000"));
    purge_all(&mut fixture, wall() + 2 * DAY);
    assert_eq!(in_sent(&fixture), 1);
}

/// Opens the store again with a setting of its profile, or none.
fn keeping(fixture: &mut Fixture, keep_sent: Option<&str>) {
    fixture.store.logoff().expect("it closes");
    let said = keep_sent.map(|word| ("keep_sent".to_owned(), word.to_owned()));
    let options = said.into_iter().collect();
    fixture.store = SqliteStore::new(&ProviderSpec { options, ..spec(fixture.path()) });
    fixture.store.logon().expect("it opens");
}

/// `keep_sent = "off"`: sent messages go with the next purge, their keys stay for a week, and bounced messages are kept.
#[test]
fn what_was_sent_goes_at_once() {
    let mut fixture = Fixture::new();
    keeping(&mut fixture, Some("off"));
    sent(&mut fixture, 3);
    assert_eq!(in_sent(&fixture), 4);
    fixture.store.tidy();
    assert_eq!(in_sent(&fixture), 1);
    assert_eq!(fixture.sql("SELECT count(*) FROM body"), 3);
    let (_, new) = submitted(fixture.write(submit(1, inline(MESSAGE))));
    assert!(!new, "its key is known");
    purge_all(&mut fixture, wall() + 8 * DAY);
    assert_eq!(fixture.sql("SELECT count(*) FROM message WHERE folder = 0"), 0);
}

/// However many messages go, each slice takes some hundred rows, and none twice.
#[test]
fn a_purge_of_sent_goes_in_slices() {
    let mut fixture = Fixture::new();
    keeping(&mut fixture, Some("1000"));
    let many = 1_203;
    let batch = (1..=many).map(|record| submit(record, inline("x"))).collect();
    assert!(fixture.batch(batch).iter().all(Result::is_ok));
    let sent = "UPDATE message SET folder = 3, state = NULL, final_at = NULL";
    fixture.writer().execute(sent, []).expect("they were sent long ago");
    let now = wall() + 31 * DAY;
    let writer = &mut fixture.store.engine.as_mut().expect("it is open").writer;
    let mut slices = 1;
    while writer.purge(now).expect("it purges") == purge::Slices::More {
        slices += 1;
    }
    assert_eq!(slices, 5, "three take them out, and two full ones before the last forget them");
    assert_eq!(writer.purge(now), Ok(purge::Slices::Done));
    assert_eq!(fixture.sql("SELECT count(*) FROM message"), 0);
}

/// Free pages go back to the file system, some at a time, and the rest when the store is closed.
#[test]
fn free_pages_are_given_back() {
    let mut fixture = Fixture::new();
    let large = "x".repeat(200 << 10);
    for record in 1..=100 {
        fixture.write(save(record, inline(&large))).expect("it is saved");
    }
    fixture.write(save(101, inline("small"))).expect("it is saved");
    let size = |fixture: &Fixture| fixture.sql("SELECT page_count FROM pragma_page_count()");
    let full = size(&fixture);
    for record in (1..=100).chain(1..=100) {
        fixture.write(StoreWrite::Delete { record }).expect("it is deleted");
    }
    assert_eq!(size(&fixture), full, "a deletion moves nothing");
    fixture.store.tidy();
    let less = full - size(&fixture);
    assert!((512..520).contains(&less), "{less} pages at once, and those that say where they were");
    keeping(&mut fixture, None);
    assert!(size(&fixture) < full / 4, "{} of {full} pages", size(&fixture));
    assert_eq!(fixture.content(101), "small");
}

/// A store that was made before pages could be given back is written anew when much of it is free.
#[test]
fn an_older_store_with_much_room_is_written_anew() {
    let mut fixture = Fixture::new();
    fixture.writer().execute_batch("PRAGMA auto_vacuum = 0; VACUUM").expect("as it was");
    let large = "x".repeat(200 << 10);
    for record in 1..=100 {
        fixture.write(save(record, inline(&large))).expect("it is saved");
    }
    fixture.reopen();
    let before = fixture.sql("SELECT page_count FROM pragma_page_count()");
    assert_eq!(fixture.sql("SELECT auto_vacuum FROM pragma_auto_vacuum()"), 0);
    for record in (2..=100).chain(2..=100) {
        fixture.write(StoreWrite::Delete { record }).expect("it is deleted");
    }
    let writer = &fixture.store.engine.as_ref().expect("it is open").writer;
    // Otherwise the store would try again and again to give pages back.
    assert_eq!(writer.give_back(), Ok(purge::Slices::Done), "it cannot give pages back one by one");
    fixture.reopen();
    assert_eq!(fixture.sql("SELECT auto_vacuum FROM pragma_auto_vacuum()"), 2);
    assert!(fixture.sql("SELECT page_count FROM pragma_page_count()") < before / 10);
    assert_eq!(fixture.content(1), large);
    assert_eq!(
        fixture.sql("SELECT count(*) FROM pragma_integrity_check() WHERE integrity_check = 'ok'"),
        1
    );
}
