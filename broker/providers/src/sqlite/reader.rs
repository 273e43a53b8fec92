//! Answers reads while the writer works, on a read-only connection of its own.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use sundown_core::provider::{ProviderAnswer, StoreRead, Submission, SubmissionState};
use sundown_protocol::Code;
use sundown_protocol::request::Folder;

use super::body::{BodyReader, Layout};
use super::rows::{self, key};
use super::schema::{self, DUE, NO_STATE, folder_number, state_number};
use super::searching::{self, Searching};
use super::spots::Place;
use super::sum::{self, damaged};
use super::{contents, remote, spots};
use crate::fault::{self, Failure};
use crate::notice;
use crate::search::{Reader, path_of};
use crate::{Result, StoreReader};

type Answer = std::result::Result<ProviderAnswer, Failure>;

/// A reader of a store. Its first read opens the connection.
pub(super) struct SqliteReader {
    path: PathBuf,
    uid: u32,
    connection: Option<Connection>,
    /// The layout of the message that was read last; programs read messages from front to back.
    layout: Option<Layout>,
    searching: Option<Searching>,
    /// The index of the store, since the first search.
    index: Option<Reader>,
}

impl SqliteReader {
    pub(super) fn new(path: PathBuf, uid: u32) -> Self {
        Self { path, uid, connection: None, layout: None, searching: None, index: None }
    }

    /// The same, with the index of the store.
    pub(super) fn with(self, searching: Option<Searching>) -> Self {
        Self { searching, ..self }
    }

    fn connection(&mut self) -> Result<&mut Connection> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.path)?);
        }
        Ok(self.connection.as_mut().expect("it was opened just now"))
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    });
    opened.map_err(|error| fault::sql(path, &error))
}

impl StoreReader for SqliteReader {
    fn read(&mut self, question: &StoreRead) -> Result<ProviderAnswer> {
        self.connection()?;
        let connection = self.connection.as_ref().expect("it was opened just now");
        if let StoreRead::Search { words, folder, after, limit } = question {
            let index = self.index.get_or_insert_with(|| match &self.searching {
                Some(searching) => searching.reader(),
                None => Reader::new(&path_of(&self.path), self.uid),
            });
            return searching::search(
                connection,
                index,
                self.uid,
                (words, *folder),
                (*after, *limit),
            )
            .map_err(|failure| failure.told(&self.path));
        }
        answer(connection, self.uid, &mut self.layout, question)
            .map_err(|failure| failure.told(&self.path))
    }

    fn another(&self) -> Result<Box<dyn StoreReader>> {
        let another = Self::new(self.path.clone(), self.uid);
        Ok(Box::new(another.with(self.searching.clone())))
    }

    fn open(&mut self, record: u128) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.path.clone();
        let connection = self.connection()?;
        let opened = with_bytes(connection, record, |Lying { size, at }| {
            Ok(match at {
                At::Body(body) => Opened::Body { body: *body, size: *size },
                At::File(place) => Opened::File(opened(connection, place)?),
            })
        });
        match opened.map_err(|failure| failure.told(&path))? {
            Opened::Body { body, size } => Ok(Box::new(BodyReader::new(connection, body, size))),
            Opened::File(file) => Ok(Box::new(file)),
        }
    }
}

fn answer(
    connection: &Connection,
    uid: u32,
    layout: &mut Option<Layout>,
    question: &StoreRead,
) -> Answer {
    // What takes several looks is answered from one state of the store.
    let takes_several = matches!(
        question,
        StoreRead::Folders { .. }
            | StoreRead::FindFolder { .. }
            | StoreRead::ChangedFolders { .. }
            | StoreRead::Pending { .. }
            | StoreRead::Lies { .. }
            | StoreRead::Tally { .. }
            | StoreRead::Oldest
    );
    let _state = takes_several.then(|| connection.unchecked_transaction()).transpose()?;
    match question {
        StoreRead::List { folder, after, limit } => list(connection, uid, *folder, *after, *limit),
        StoreRead::Folders { after, limit } => contents::folders(connection, *after, *limit),
        StoreRead::FindFolder { folder } => contents::folder(connection, *folder),
        StoreRead::Contents { folder, sort, only, after, limit } => {
            contents::contents(connection, uid, (*folder, *sort, *only), after.as_ref(), *limit)
        }
        StoreRead::Search { .. } => unreachable!("it is answered with the index"),
        StoreRead::Mirrored { mailbox, dir, after, limit } => {
            contents::mirrored(connection, mailbox, (dir, after), *limit)
        }
        StoreRead::Directories { mailbox, after, limit } => {
            contents::directories(connection, mailbox, after.as_deref(), *limit)
        }
        StoreRead::ChangedFolders { mailbox, limit } => {
            contents::changed_folders(connection, mailbox, *limit)
        }
        StoreRead::Pending { mailbox, after, limit } => {
            contents::pending(connection, mailbox, *after, *limit)
        }
        StoreRead::Cursor { mailbox, dir } => remote::cursor(connection, mailbox, dir),
        StoreRead::Fetches { mailbox, after, limit } => {
            remote::fetches(connection, mailbox, *after, *limit)
        }
        StoreRead::Lies { mailbox, record } => remote::lies(connection, mailbox, *record),
        StoreRead::Tally { mailbox, dir } => remote::tally(connection, mailbox, dir.as_deref()),
        StoreRead::Find { record } => find(connection, *record),
        StoreRead::Piece { record, offset, limit } => {
            piece(connection, layout, *record, *offset, *limit)
        }
        StoreRead::Setting { section, name } => {
            Ok(ProviderAnswer::Setting(setting(connection, section, name)?))
        }
        StoreRead::Due { after, limit } => due(connection, *after, *limit),
        StoreRead::Queue { all, after, limit } => queue(connection, *all, *after, *limit),
        StoreRead::Submission { record } => submission(connection, *record),
        StoreRead::Oldest => Ok(ProviderAnswer::Oldest(oldest(connection)?)),
    }
}

/// Rows up to a limit, and whether there are more.
struct Page<T> {
    rows: Vec<T>,
    more: bool,
}

fn page<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    limit: u32,
    decode: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Page<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(parameters, decode)?;
    let mut rows = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    Ok(Page { rows, more })
}

/// Converts a cursor. It comes from a client, and may be larger than any row's.
fn cursor(after: u64) -> i64 {
    i64::try_from(after).unwrap_or(i64::MAX)
}

fn list(connection: &Connection, uid: u32, folder: Folder, after: u64, limit: u32) -> Answer {
    let limit = limit.max(1);
    let sql = match folder {
        Folder::OUTBOX => in_states(rows::MESSAGE, |state| !state.is_final()),
        folder => in_folder(folder),
    };
    let parameters = (cursor(after), u64::from(limit) + 1);
    let page = page(connection, &sql, parameters, limit, |row| rows::message(row, uid))?;
    let next = page.rows.last().filter(|_| page.more).map(|(seq, _)| *seq);
    let rows = page.rows.into_iter().map(|(_, row)| row).collect();
    Ok(ProviderAnswer::Messages { rows, next })
}

/// Rows behind a message, in the order of their arrival. A row of the cursor's number is there for at least a week after the message
/// was deleted; without it, that of the message before it says about when that was.
fn in_folder(folder: Folder) -> String {
    let (columns, number) = (rows::MESSAGE, folder_number(folder));
    format!(
        "SELECT {columns} FROM message WHERE folder = {number} AND folder <> 2 AND (received, seq) > (ifnull(
             (SELECT before.received FROM message AS before WHERE before.seq <= ?1
                 ORDER BY before.seq DESC LIMIT 1), -1), ?1)
         ORDER BY received, seq LIMIT ?2"
    )
}

/// Merges a query for each state. Each follows the index on states, so that rows in other states cost nothing.
fn in_states(columns: &str, wanted: impl Fn(SubmissionState) -> bool) -> String {
    let one = |state: SubmissionState| {
        let number = state_number(state);
        format!("SELECT {columns} FROM message WHERE state = {number} AND seq > ?1")
    };
    let states = SubmissionState::ALL.into_iter().filter(|state| wanted(*state));
    let selects: Vec<_> = states.map(one).collect();
    format!("{} ORDER BY seq LIMIT ?2", selects.join(" UNION ALL "))
}

fn find(connection: &Connection, record: u128) -> Answer {
    let sql = "SELECT folder, size FROM message WHERE record = ?1";
    let row = |row: &Row<'_>| Ok((schema::folder(row.get(0)?)?, row.get(1)?));
    let found = connection.prepare_cached(sql)?.query_row([key(record)], row).optional()?;
    let Some((Some(folder), size)) = found else { return Err(no_message()) };
    Ok(ProviderAnswer::Found { folder, size })
}

/// The bytes of a message, to be read from the first one on.
enum Opened {
    /// The number of the body, and its size.
    Body {
        body: u64,
        size: u64,
    },
    File(File),
}

/// Where the bytes of a message are, as the store says.
#[derive(PartialEq)]
struct Lying {
    size: u64,
    at: At,
}

#[derive(PartialEq)]
enum At {
    /// In the store, under this number.
    Body(u64),
    /// In a file of a mailbox.
    File(Place),
}

fn lying(connection: &Connection, record: u128) -> std::result::Result<Lying, Failure> {
    let (body, size) = body_of(connection, record)?;
    if body != 0 {
        return Ok(Lying { size, at: At::Body(body) });
    }
    let sql = "SELECT seq FROM message WHERE record = ?1";
    let seq = connection.prepare_cached(sql)?.query_row([key(record)], |row| row.get(0))?;
    if remote::is_of_account(connection, seq)? {
        return Err(remote::not_here());
    }
    let place = spots::of(connection, seq)?.ok_or_else(no_message)?;
    Ok(Lying { size, at: At::File(place) })
}

/// Uses the bytes of a message. Meanwhile a mailbox may move them, out of the store or to another file: what fails is tried again as long
/// as the store says something new.
fn with_bytes<T>(
    connection: &Connection,
    record: u128,
    mut using: impl FnMut(&Lying) -> std::result::Result<T, Failure>,
) -> std::result::Result<T, Failure> {
    let mut said = lying(connection, record)?;
    loop {
        let failure = match using(&said) {
            Err(failure) => failure,
            used => return used,
        };
        let now = lying(connection, record)?;
        if now == said {
            return Err(failure);
        }
        said = now;
    }
}

fn opened(connection: &Connection, place: &Place) -> std::result::Result<File, Failure> {
    place.open(connection)?.map_err(|error| {
        let text = format!(
            "the file of the message in {} cannot be read: {error}; another program may have moved or deleted it",
            place.mailbox.display()
        );
        let code = if error.kind() == std::io::ErrorKind::NotFound {
            Code::E_NOT_FOUND
        } else {
            Code::E_DISK_ERROR
        };
        Failure::refused(code, text)
    })
}

fn body_of(connection: &Connection, record: u128) -> std::result::Result<(u64, u64), Failure> {
    let sql = "SELECT body, size, body_sum FROM message WHERE record = ?1 AND folder <> 0";
    let row = |row: &Row<'_>| {
        let (body, size) = (row.get(0)?, row.get(1)?);
        sum::check(row.get(2)?, |by| rows::body_sum(by, record, body, size))?;
        Ok((body, size))
    };
    let found = connection.prepare_cached(sql)?.query_row([key(record)], row).optional()?;
    found.ok_or_else(no_message)
}

fn piece(
    connection: &Connection,
    layout: &mut Option<Layout>,
    record: u128,
    offset: u64,
    limit: u32,
) -> Answer {
    with_bytes(connection, record, |Lying { size, at }| {
        let body = match at {
            At::Body(body) => *body,
            At::File(place) => return piece_of_file(&opened(connection, place)?, offset, limit),
        };
        if layout.as_ref().is_none_or(|known| known.body != body) {
            *layout = Some(Layout::of(connection, body)?);
        }
        let layout = layout.as_ref().expect("it was made just now");
        if layout.size() != *size {
            return Err(damaged().into());
        }
        let bytes = layout.piece(connection, offset, limit as usize)?.ok_or_else(damaged)?;
        let unread_notice = offset == 0 && is_unread_notice(connection, record)?;
        Ok(ProviderAnswer::Piece { size: *size, bytes, unread_notice })
    })
}

/// A piece of a file. Its size is what the file has now: a program may have written another one under its name.
fn piece_of_file(file: &File, offset: u64, limit: u32) -> Answer {
    let unreadable = |error| Failure::Refused(fault::unreadable(&error));
    let size = file.metadata().map_err(unreadable)?.len();
    let wanted = size.saturating_sub(offset).min(limit.into()) as usize;
    let mut bytes = vec![0; wanted];
    let mut read = 0;
    while read < wanted {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    bytes.truncate(read);
    // A file that became shorter ends here.
    let size = if read < wanted { offset + read as u64 } else { size };
    Ok(ProviderAnswer::Piece { size, bytes, unread_notice: false })
}

/// Whether the message is an unread notification. The store makes notifications itself, with a sender of its own.
fn is_unread_notice(connection: &Connection, record: u128) -> rusqlite::Result<bool> {
    let sql = "SELECT sender FROM message WHERE record = ?1 AND seen IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let sender: Option<String> = statement.query_row([key(record)], |row| row.get(0)).optional()?;
    Ok(sender.is_some_and(|sender| notice::is_sender(&sender)))
}

/// A property of a profile section.
pub(super) fn setting(
    connection: &Connection,
    section: &str,
    name: &str,
) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM setting WHERE section = ?1 AND name = ?2";
    connection.prepare_cached(sql)?.query_row([section, name], |row| row.get(0)).optional()
}

/// Due time and order of a submission: its place in the queue. Both are in the index, and no sum covers them.
type DueKey = (i64, i64);

/// Reads due submissions. Continues past pages with damaged rows only, so that the caller gets a sound submission to continue from,
/// or the end.
fn due(connection: &Connection, after: Option<(u64, u64)>, limit: u32) -> Answer {
    let limit = limit.max(1);
    let mut after = after.map_or((-1, 0), |(due, order)| (due as i64, order as i64));
    let mut damaged = 0;
    loop {
        let page = due_page(connection, after, limit)?;
        let found = page.rows.len();
        after = page.rows.last().map_or(after, |(key, _)| *key);
        let submissions: Vec<_> = page.rows.into_iter().filter_map(|(_, row)| row).collect();
        damaged += found - submissions.len();
        if !submissions.is_empty() || !page.more {
            return Ok(ProviderAnswer::Due { submissions, more: page.more, damaged });
        }
    }
}

fn due_page(
    connection: &Connection,
    after: DueKey,
    limit: u32,
) -> rusqlite::Result<Page<(DueKey, Option<Submission>)>> {
    let parameters = (after.0, after.1, u64::from(limit) + 1);
    let row = |row: &Row<'_>| Ok((due_key(row, 10, 7)?, sound(connection, row)?));
    let columns = rows::placed_columns();
    let read = page(connection, &what_is_due(&columns, BY_INDEX), parameters, limit, row);
    let error = match read {
        Err(error) if fault::is_damaged_page(&error) => error,
        Ok(read) if !follow(after, &read) => {
            tracing::error!("the index of the queue is damaged; the queue is read without it");
            let sorted = what_is_due(&columns, "NOT INDEXED");
            return Ok(last_of(page(connection, &sorted, parameters, limit, row)?));
        }
        read => return read.map(last_of),
    };
    tracing::error!(%error, "a page of the queue is damaged; what is on it is not sent");
    let key = |row: &Row<'_>| due_key(row, 0, 1);
    let keys = page(connection, &what_is_due("due, seq", BY_INDEX), parameters, limit, key)?;
    let one = |key: DueKey| {
        Ok((key, one_by_one(connection, key.1, |row| sound(connection, row))?.flatten()))
    };
    let rows = keys.rows.into_iter().map(one).collect::<rusqlite::Result<_>>()?;
    Ok(Page { rows, more: keys.more })
}

/// Whether the rows are in the order of the queue, and behind the last known one.
fn follow<T>(after: DueKey, page: &Page<(DueKey, T)>) -> bool {
    std::iter::once(after).chain(page.rows.iter().map(|(key, _)| *key)).is_sorted_by(|a, b| a < b)
}

/// Ends the queue behind rows whose due time is not a number: they have no order that a cursor could follow.
fn last_of<T>(mut page: Page<(DueKey, T)>) -> Page<(DueKey, T)> {
    page.more &= page.rows.last().is_none_or(|((due, _), _)| *due != NO_TIME);
    page
}

/// The place of a row in the queue. A due time that is not a number sorts behind all others.
fn due_key(row: &Row<'_>, due: usize, order: usize) -> rusqlite::Result<DueKey> {
    Ok((row.get(due).unwrap_or(NO_TIME), row.get(order)?))
}

/// Stands for a due time that is not a number.
const NO_TIME: i64 = i64::MAX;

/// A row of the queue by its order; `None` if its page is damaged.
fn one_by_one<T>(
    connection: &Connection,
    order: i64,
    decode: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let columns = rows::placed_columns();
    let sql = format!("SELECT {columns} FROM message WHERE seq = ?1");
    match connection.prepare_cached(&sql)?.query_row([order], decode).optional() {
        Err(error) if fault::is_damaged_page(&error) => Ok(None),
        read => read,
    }
}

/// The query for due submissions. It names the index: by the index on states the whole queue would be sorted for each page. For due
/// times and orders alone only the index is read, and no rows.
fn what_is_due(columns: &str, index: &str) -> String {
    format!(
        "SELECT {columns} FROM message {index}
         WHERE {DUE} AND (due, seq) > (?1, ?2) ORDER BY due, seq LIMIT ?3"
    )
}

const BY_INDEX: &str = "INDEXED BY message_due";

fn queue(connection: &Connection, all: bool, after: u64, limit: u32) -> Answer {
    let limit = limit.max(1);
    let columns = rows::placed_columns();
    let sql = if all { whole_queue(&columns) } else { open_queue(&columns) };
    let parameters = (cursor(after), u64::from(limit) + 1);
    let row = |row: &Row<'_>| Ok((row.get(7)?, Some(shown(connection, row)?)));
    let page = match page(connection, &sql, parameters, limit, row) {
        Err(error) if fault::is_damaged_page(&error) => queue_one_by_one(connection, after, limit)?,
        read => read?,
    };
    let next = page.rows.last().filter(|_| page.more).map(|(order, _)| *order);
    Ok(ProviderAnswer::Queue {
        rows: page.rows.into_iter().filter_map(|(_, row)| row).collect(),
        next,
    })
}

/// Reads the queue without the rows on damaged pages. It includes sent messages: leaving them out would need their rows.
fn queue_one_by_one(
    connection: &Connection,
    after: u64,
    limit: u32,
) -> rusqlite::Result<Page<(u64, Option<Submission>)>> {
    let parameters = (cursor(after), u64::from(limit) + 1);
    let sql = whole_queue("seq");
    let keys = page(connection, &sql, parameters, limit, |row| row.get::<_, i64>(0))?;
    let one = |order: i64| {
        Ok((order as u64, one_by_one(connection, order, |row| shown(connection, row))?))
    };
    let rows = keys.rows.into_iter().map(one).collect::<rusqlite::Result<_>>()?;
    Ok(Page { rows, more: keys.more })
}

/// A row for people to see: of a damaged row, whatever can be read.
fn shown(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<Submission> {
    match rows::placed(connection, row) {
        Err(error) if error.sqlite_error_code().is_none() => {
            rows::damaged_submission(connection, row)
        }
        read => read,
    }
}

/// A submission, or `None` if it is damaged: it must not delay the others. It stays in the queue until it is given up, and the log
/// names it.
fn sound(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<Option<Submission>> {
    match rows::placed(connection, row) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.sqlite_error_code().is_some() => Err(error),
        Err(error) => {
            let record = row.get(0).map(|record| format!("{:032x}", u128::from_be_bytes(record)));
            let record = record.unwrap_or_default();
            tracing::error!(%record, %error, "a message in the queue is damaged and is not sent");
            Ok(None)
        }
    }
}

fn open_queue(columns: &str) -> String {
    let unlisted = [SubmissionState::Sent, SubmissionState::Aborted];
    let sql = listed(columns, |state| !unlisted.contains(&state));
    let bounced = format!("state = {}", state_number(SubmissionState::Bounced));
    sql.replace(&bounced, &format!("{bounced}{NOT_READ}"))
}

fn whole_queue(columns: &str) -> String {
    listed(columns, |_| true)
}

/// Submissions in these states, and those whose state is not a state: they are damaged.
fn listed(columns: &str, wanted: impl Fn(SubmissionState) -> bool) -> String {
    // By order, SQLite would look through the whole queue for them.
    let of_none = NO_STATE.map(|none| {
        format!(
            "SELECT {columns} FROM message INDEXED BY message_state
             WHERE {none} AND seq > ?1 UNION ALL "
        )
    });
    format!("{}{}", of_none.concat(), in_states(columns, wanted))
}

/// The condition for a bounce whose notification is unread, or that has no notification.
pub(super) const NOT_READ: &str = " AND (notice IS NULL OR EXISTS
    (SELECT 1 FROM message AS told WHERE told.record = message.notice AND told.folder NOT IN (0, 5)
        AND told.seen IS NULL))";

fn submission(connection: &Connection, record: u128) -> Answer {
    let found = submission_of(connection, record)?;
    let missing = || Failure::refused(Code::E_NOT_IN_QUEUE, "the message is not in the queue");
    found.map(|row| ProviderAnswer::Queue { rows: vec![row], next: None }).ok_or_else(missing)
}

/// When the oldest submission was made. The index holds the submissions of each state in order, so this reads one row per state.
fn oldest(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let mut first = connection.prepare_cached(FIRST_OF_STATE)?;
    let states = SubmissionState::ALL.into_iter().filter(|state| !state.is_final());
    let found = states.map(|state| {
        let first = first.query_row([state_number(state)], |row| row.get::<_, i64>(0)).optional();
        first.map(|submitted| submitted.map(|submitted| submitted as u64))
    });
    let found: Vec<_> = found.collect::<rusqlite::Result<_>>()?;
    Ok(found.into_iter().flatten().min())
}

const FIRST_OF_STATE: &str = "SELECT submitted FROM message WHERE state = ?1 ORDER BY seq LIMIT 1";

/// The submission with this record.
pub(super) fn submission_of(
    connection: &Connection,
    record: u128,
) -> rusqlite::Result<Option<Submission>> {
    let columns = rows::SUBMISSION;
    let sql = format!("SELECT {columns} FROM message WHERE record = ?1 AND state IS NOT NULL");
    let row = |row: &Row<'_>| {
        let found = rows::submission(connection, row)?;
        rows::is_of(key(found.record), record)?;
        Ok(found)
    };
    connection.prepare_cached(&sql)?.query_row([key(record)], row).optional()
}

/// The error of a folder that does not exist.
pub(super) fn no_folder() -> Failure {
    Failure::refused(
        Code::E_NOT_FOUND,
        "there is no such folder in the store; `folders` lists them",
    )
}

/// The error of a message that does not exist.
pub(super) fn no_message() -> Failure {
    Failure::refused(Code::E_NOT_FOUND, "there is no such message in the store")
}

#[cfg(test)]
mod tests {
    use sundown_protocol::folder::{Filter, Sort};

    use super::*;

    fn plan(sql: &str, parameters: impl rusqlite::Params) -> String {
        let connection = Connection::open_in_memory().expect("memory opens");
        schema::prepare(&connection).expect("the schema is made");
        let mut statement =
            connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("it is SQL");
        let lines = statement.query_map(parameters, |row| row.get::<_, String>(3));
        let lines: rusqlite::Result<Vec<_>> = lines.expect("it runs").collect();
        lines.expect("it is text").join("\n")
    }

    #[test]
    fn questions_follow_their_indexes() {
        for plan in [
            plan(&what_is_due(&rows::placed_columns(), BY_INDEX), (0, 0, 1)),
            plan(&in_states(&rows::placed_columns(), |state| !state.is_final()), (0, 1)),
            plan(&in_states(rows::SUBMISSION, |_| true), (0, 1)),
            plan(&in_folder(Folder::INBOX), (0, 1)),
            plan(FIRST_OF_STATE, (0,)),
            plan(&contents::query((Folder::INBOX, Sort::NEWEST, Filter::default()), false), (1,)),
            plan(&contents::query((Folder(20), Sort::NEWEST, Filter::default()), true), (1, 2, 3)),
            plan(
                &contents::query((Folder::SENT, Sort::default(), Filter::UNREAD), true),
                (1, 2, 3),
            ),
        ] {
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
        }
        for plan in [plan(&open_queue("seq"), (0, 1)), plan(&whole_queue("seq"), (0, 1))] {
            // Rows without a valid state are found by the index, and almost nothing is sorted.
            let searched = ["(state<?)", "(state>?)"].map(|range| plan.contains(range));
            assert!(searched == [true; 2] && !plan.contains("SCAN message"), "{plan}");
        }
    }
}
