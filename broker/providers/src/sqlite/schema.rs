//! The tables of a store, and the numbers stored in them.
//!
//! * `message`: a row for each message, in one folder. `seq` is the order of arrival. It counts up and is never used twice, and
//!   is the cursor of lists. A submitted message has a `state` and the columns behind it: these rows are the outgoing queue. A
//!   message that is deleted for good keeps its row for a week, in no folder, because the row remembers a key.
//! * `body`: the bytes, in parts as they came. The key is the body's number and the part's; part 0 holds the header lines that
//!   the store added. No other row contains bodies, so that a list never reads them.
//! * `upload`: bodies that no message has yet. It is emptied at every start: an upload does not outlive its broker.
//! * `unsynced`: a row that each commit without a sync changes, and no other commit. By the page of this row the log shows which
//!   commits a power cut may have torn.
//! * `folder`: a row for each folder, also for the five of every store. A folder that a mailbox has is bound to its directory there.
//!   A folder's number is never used twice. `gone_dir`: directories whose folders were removed, until the mailbox has removed them.
//! * `mailbox`, `spot`: the mailboxes, a further one with the folder that its folders are in; where messages lie in them, and with which marks they were last seen there. A message with a spot and
//!   without a body is a file of the mailbox. A spot is pending (1) if the mailbox does not have yet what the store has; 0 of a message
//!   that vanished before it was moved to the spot's folder.
//! * `shared`: how many messages have a body, for bodies that several have.
//! * `account`: the mailboxes at servers; `cursor`: how far their directories are mirrored; `remote`: what tells a message of theirs from
//!   others, whether its bytes are to be fetched, and with which keywords it was last seen there.
//! * `recipient`: a row for each recipient of a submission with many; a few are stored in the row of their message.
//! * `setting`: profile sections.
//! * `meta`: the store's number; the lowest `seq` and the lowest body number that were never reserved; `clock`, `ahead` and `ran`, the
//!   store's clock.
//!
//! A submission is one row and as few index entries as possible, because each page that a commit changes is written and synced as a
//! whole. So the Outbox has no entries in the index on folders: it consists of the messages that are not final, which are found by
//! state.

use rusqlite::{Connection, OptionalExtension};
use sundown_core::provider::{KeptClock, ProviderError, SubmissionState};
use sundown_protocol::Code;
use sundown_protocol::folder::Role;
use sundown_protocol::request::Folder;

use super::numbers::{self, Mended};
use super::purge::{GIVES_BACK, KEEP_SENT};
use crate::fault::Failure;

/// `Sdwn`: marks the database as a store of Sundown.
const APPLICATION: i32 = 0x5364_776e;

/// The newest schema.
///
/// 12: the folder in which those of a further mailbox are.
/// 11: keywords of messages at servers.
/// 10: mailboxes at servers: `account`, `cursor`, `remote`, and `beyond` of a spot.
/// 9: folders, flags, mailboxes, bodies of several messages. The index on folders has the time of arrival.
/// 8: `born` and `delay_told`: when a submission was submitted by the store's clock, and whether its sender was told of a delay. `meta`
/// may have that clock.
/// 7: `route`: the author and the transport of a submission that says more than its envelope.
/// 6: `meta` has the lowest numbers that were never reserved; what is older derived them from the rows that were there, and
/// may have given out a body's number twice. `unsynced`, `recipient`. Sums name their format.
/// 5: sums of words in four rows, which an older broker takes for damage.
/// 4: sums of words; what is older has sums of bytes. The index on due times asks for a range of states: for a list of
/// them `SQLite` makes a table of its own with every row that it enters.
/// 3: sums over bodies, over where they are, and over envelopes; what is older has none.
/// 2: `report` and `seen`; what is unknown has a due time.
/// 1: the first one.
const VERSION: i32 = 12;

/// The first schema whose numbers are used only once.
const NUMBERED: i32 = 6;

/// The statements that lead from each schema to the next.
const STEPS: [&str; VERSION as usize - 1] = [
    "
ALTER TABLE message ADD COLUMN report INTEGER;
ALTER TABLE message ADD COLUMN seen INTEGER;
DROP INDEX message_due;
CREATE INDEX message_due ON message (due, seq) WHERE state IN (2, 3, 4, 5);
",
    "
ALTER TABLE message ADD COLUMN body_sum INTEGER;
ALTER TABLE message ADD COLUMN envelope_sum INTEGER;
ALTER TABLE body ADD COLUMN sum INTEGER;
",
    "
DROP INDEX message_due;
CREATE INDEX message_due ON message (due, seq) WHERE state BETWEEN 2 AND 5;
",
    "",
    ADDED,
    // These add columns, which contents recovered from a damaged store may have.
    "",
    "",
    // This adds columns too; what else it takes is done afterwards, because contents recovered from a damaged store may have it.
    "DROP INDEX IF EXISTS message_folder;",
    // Mailboxes at servers: new tables.
    "",
    // These add a column each.
    "",
    "",
];

/// The columns that later schemas added, with their tables and types.
const COLUMNS: [(&str, &str, &str); 9] = [
    ("message", "route", "TEXT"),
    ("message", "born", "INTEGER"),
    ("message", "delay_told", "INTEGER"),
    ("message", "flags", "INTEGER"),
    ("message", "keywords", "TEXT"),
    ("message", "date", "INTEGER"),
    ("spot", "beyond", "TEXT"),
    ("remote", "keywords", "TEXT"),
    ("mailbox", "inside", "INTEGER"),
];

/// Written so that it can be repeated, for the same reason as [`ADDED`]. The numbers of the five folders are those of
/// [`folder_number`].
const FOLDERS: &str = "
CREATE TABLE IF NOT EXISTS folder (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    parent INTEGER NOT NULL,
    name TEXT NOT NULL,
    role INTEGER UNIQUE,
    mailbox INTEGER,
    dir TEXT,
    renamed INTEGER,
    UNIQUE (parent, name)
);
INSERT OR IGNORE INTO folder (id, parent, name, role) VALUES
    (1, 0, 'Inbox', 1), (2, 0, 'Outbox', 2), (3, 0, 'Sent', 3), (4, 0, 'Drafts', 4),
    (5, 0, 'Deleted', 5);
INSERT INTO sqlite_sequence SELECT 'folder', 16
    WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'folder');
UPDATE sqlite_sequence SET seq = max(seq, 16) WHERE name = 'folder';
CREATE UNIQUE INDEX IF NOT EXISTS folder_dir ON folder (mailbox, dir) WHERE dir IS NOT NULL;
CREATE TABLE IF NOT EXISTS mailbox (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    passed INTEGER,
    identity TEXT,
    inside INTEGER
);
CREATE TABLE IF NOT EXISTS spot (
    message INTEGER PRIMARY KEY,
    mailbox INTEGER NOT NULL,
    dir TEXT,
    name TEXT,
    marks INTEGER NOT NULL,
    folder INTEGER NOT NULL,
    pending INTEGER,
    heading TEXT,
    heading_marks INTEGER,
    beyond TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS spot_name ON spot (mailbox, dir, name) WHERE name IS NOT NULL;
CREATE INDEX IF NOT EXISTS spot_pending ON spot (mailbox, message) WHERE pending = 1;
CREATE TABLE IF NOT EXISTS gone_dir (
    mailbox INTEGER NOT NULL,
    dir TEXT NOT NULL,
    PRIMARY KEY (mailbox, dir)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS account (mailbox INTEGER PRIMARY KEY, append_sent INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS cursor (
    mailbox INTEGER NOT NULL,
    dir TEXT NOT NULL,
    validity INTEGER NOT NULL,
    next INTEGER NOT NULL,
    low INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (mailbox, dir)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS remote (
    message INTEGER PRIMARY KEY,
    mailbox INTEGER NOT NULL,
    trace BLOB,
    fetch INTEGER,
    keywords TEXT
);
CREATE INDEX IF NOT EXISTS remote_trace ON remote (mailbox, trace) WHERE trace IS NOT NULL;
CREATE INDEX IF NOT EXISTS remote_fetch ON remote (mailbox, message) WHERE fetch = 1;
CREATE TABLE IF NOT EXISTS shared (body INTEGER PRIMARY KEY, messages INTEGER NOT NULL);
";

/// Messages that nobody has read, by this condition. The index and the query must spell this the same. A message of the queue has
/// no flags, and counts as read.
pub(super) const UNREAD: &str = "flags & 1 = 0";

/// The first schema with flags. What was in the Inbox before are notifications.
const FLAGGED: i32 = 9;

/// Written so that it can be repeated: contents recovered from a damaged store may have these tables, and are of schema 3.
const ADDED: &str = "
CREATE TABLE IF NOT EXISTS unsynced (commits INTEGER NOT NULL);
INSERT INTO unsynced SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM unsynced);
CREATE TABLE IF NOT EXISTS recipient (
    message INTEGER NOT NULL,
    place INTEGER NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (message, place)
) WITHOUT ROWID;
";

/// How many parts a body may have, as bits of its key. With pieces of 256 KiB that is 256 GiB.
pub(super) const PART_BITS: u32 = 20;

/// How long a key is remembered after the final state, in milliseconds: 7 days.
pub(super) const KEPT: u64 = 7 * 24 * 3600 * 1000;

/// The states in which the spooler has work. The index and every query must spell this the same, or the index is not used.
pub(super) const DUE: &str = "state BETWEEN 2 AND 5";

/// Numbers outside the states of a submission, as ranges for which the index on states is used.
pub(super) const NO_STATE: [&str; 2] = ["state < 0", "state > 8"];

/// Submissions that wait for a member with mail. The index and the query must spell this the same.
pub(super) const NO_MAIL: &str = "no_mail = 1 AND state < 6";

/// The lowest number of a final state. From there on a submission no longer changes.
pub(super) const FIRST_FINAL: u8 = 6;

const INDEXES: &str = "
CREATE INDEX message_arrived ON message (folder, received) WHERE folder <> 2;
CREATE INDEX message_unread ON message (folder, received) WHERE flags & 1 = 0;
CREATE INDEX message_due ON message (due, seq) WHERE state BETWEEN 2 AND 5;
CREATE INDEX message_state ON message (state) WHERE state IS NOT NULL;
CREATE INDEX message_final ON message (final_at) WHERE final_at IS NOT NULL;
";

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE message (
    seq INTEGER PRIMARY KEY,
    record BLOB NOT NULL UNIQUE,
    folder INTEGER NOT NULL,
    body INTEGER NOT NULL,
    subject TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    size INTEGER NOT NULL,
    received INTEGER NOT NULL,
    recovered INTEGER NOT NULL,
    state INTEGER,
    due INTEGER,
    attempts INTEGER,
    profile TEXT,
    uid INTEGER,
    envelope_from TEXT,
    envelope_to TEXT,
    no_mail INTEGER,
    submitted INTEGER,
    last_error TEXT,
    notice BLOB,
    final_at INTEGER,
    report INTEGER,
    seen INTEGER,
    body_sum INTEGER,
    envelope_sum INTEGER,
    route TEXT,
    born INTEGER,
    delay_told INTEGER,
    flags INTEGER,
    keywords TEXT,
    date INTEGER
);
CREATE TABLE body (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL, sum INTEGER);
CREATE TABLE upload (
    number INTEGER PRIMARY KEY,
    body INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    size INTEGER NOT NULL
);
CREATE TABLE setting (
    section TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (section, name)
) WITHOUT ROWID;
";

/// Whether the database is marked as a store of Sundown.
pub(super) fn is_ours(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(pragma(connection, "application_id")? == APPLICATION)
}

/// Makes the tables if they do not exist. Fails if the database is not a store, or is newer than this program. After a failure the
/// connection must be closed, which undoes what was begun.
pub(super) fn prepare(connection: &Connection) -> Result<(), Failure> {
    let application: i32 = pragma(connection, "application_id")?;
    let version: i32 = pragma(connection, "user_version")?;
    match (application, version) {
        (APPLICATION, VERSION) => index(connection),
        (APPLICATION, 1..VERSION) => upgrade(connection, version).and_then(|()| index(connection)),
        (APPLICATION, VERSION..) => Err(Failure::Refused(newer(version))),
        (0, 0) if is_empty(connection)? => create(connection).and_then(|()| index(connection)),
        _ => Err(Failure::refused(
            Code::E_CORRUPT_STORE,
            "the database is not a store of Sundown; move it away or name another path",
        )),
    }
}

/// Makes missing indexes: the index that a later release added to this schema, which earlier releases ignore; and those that a
/// repaired store has lost.
fn index(connection: &Connection) -> Result<(), Failure> {
    let indexes = INDEXES.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS");
    let no_mail =
        format!("CREATE INDEX IF NOT EXISTS message_no_mail ON message (state) WHERE {NO_MAIL}");
    Ok(connection.execute_batch(&format!("{indexes}{no_mail}"))?)
}

fn newer(version: i32) -> ProviderError {
    let text = format!(
        "the store was written by a newer Sundown (its schema is {version}, this one knows \
         {VERSION}); start the newer one"
    );
    ProviderError::new(Code::E_VERSION, text)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

/// Makes the tables in one transaction: a crash leaves an empty database, not half a store.
fn create(connection: &Connection) -> Result<(), Failure> {
    // Has an effect only before the first table is made.
    connection.pragma_update(None, "auto_vacuum", GIVES_BACK)?;
    let script = format!(
        "BEGIN IMMEDIATE;
         {TABLES}
         {INDEXES}
         {ADDED}
         {FOLDERS}
         INSERT INTO meta VALUES ('seq', 1), ('body', 1), ('touched', 0);
         INSERT INTO meta VALUES ('keep_sent', {KEEP_SENT});
         INSERT INTO meta SELECT 'uid', 1 + abs(random() % 4294967294);
         PRAGMA application_id = {APPLICATION};
         PRAGMA user_version = {VERSION};
         COMMIT;"
    );
    Ok(connection.execute_batch(&script)?)
}

/// Does all steps in one transaction: a crash leaves the older schema.
fn upgrade(connection: &Connection, version: i32) -> Result<(), Failure> {
    let mended = step_up(connection, version)?;
    if mended != Mended::default() {
        let Mended { empty, lost } = mended;
        tracing::warn!(
            path = ?connection.path(), empty, lost,
            "messages shared the number of a body; those that are counted as lost cannot be read"
        );
    }
    Ok(())
}

fn step_up(connection: &Connection, version: i32) -> rusqlite::Result<Mended> {
    let steps = STEPS[version as usize - 1..].concat();
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {steps}"))?;
    let mended = if version < NUMBERED { numbers::mend(connection)? } else { Mended::default() };
    connection.execute_batch(FOLDERS)?;
    let known = "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2";
    for (table, column, holds) in COLUMNS {
        if !connection.prepare(known)?.exists([table, column])? {
            let add = format!("ALTER TABLE {table} ADD COLUMN {column} {holds}");
            connection.execute_batch(&add)?;
        }
    }
    if version < FLAGGED {
        let sql =
            "UPDATE message SET flags = (seen IS NOT NULL) WHERE folder = 1 AND flags IS NULL";
        connection.execute(sql, [])?;
    }
    connection.execute_batch(&format!("PRAGMA user_version = {VERSION}; COMMIT;"))?;
    Ok(mended)
}

/// The store's number.
pub(super) fn uid(connection: &Connection) -> Result<u32, Failure> {
    let select = "SELECT value FROM meta WHERE name = 'uid'";
    let found: Option<u32> = connection.query_row(select, [], |row| row.get(0)).optional()?;
    let missing = || {
        Failure::refused(Code::E_CORRUPT_STORE, "the store has lost its number; restore a backup")
    };
    found.filter(|uid| *uid != 0).ok_or_else(missing)
}

/// What the store has of its clock.
pub(super) fn clock(connection: &Connection) -> rusqlite::Result<KeptClock> {
    let mut statement = connection.prepare("SELECT value FROM meta WHERE name = ?1")?;
    let mut value = |name| statement.query_row([name], |row| row.get(0)).optional();
    let mut number = |name| value(name).map(|found: Option<i64>| found.unwrap_or(0));
    let (clock, ran) = (number("clock")? as u64, number("ran")?.max(0) as u64);
    Ok(KeptClock { clock, ahead: number("ahead")?, ran })
}

/// The folder number of a message that is deleted for good.
pub(super) const GONE: i64 = 0;

/// A folder's number in the tables.
pub(super) fn folder_number(folder: Folder) -> i64 {
    i64::from(folder.0) + 1
}

/// The folder with this number; `None` for a message that is deleted for good.
pub(super) fn folder(number: i64) -> rusqlite::Result<Option<Folder>> {
    if number == GONE {
        return Ok(None);
    }
    let found = u32::try_from(number - 1)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, number))?;
    Ok(Some(Folder(found)))
}

/// A role's number in the tables.
pub(super) fn role_number(role: Role) -> u8 {
    match role {
        Role::Inbox => 1,
        Role::Outbox => 2,
        Role::Sent => 3,
        Role::Drafts => 4,
        Role::Deleted => 5,
        Role::Junk => 6,
        Role::Archive => 7,
        Role::All => 8,
    }
}

/// The role with this number; `None` if it is not that of a role.
pub(super) fn role(number: u8) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role_number(*role) == number)
}

/// A state's number in the tables.
pub(super) fn state_number(state: SubmissionState) -> u8 {
    match state {
        SubmissionState::Accepted => 0,
        SubmissionState::Held => 1,
        SubmissionState::Queued => 2,
        SubmissionState::Transmitting => 3,
        SubmissionState::Deferred => 4,
        SubmissionState::Unknown => 5,
        SubmissionState::Sent => 6,
        SubmissionState::Bounced => 7,
        SubmissionState::Aborted => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_the_indexes_say() {
        for state in SubmissionState::ALL {
            assert_eq!(state_number(state) >= FIRST_FINAL, state.is_final(), "{state:?}");
        }
        let due = [
            SubmissionState::Queued,
            SubmissionState::Transmitting,
            SubmissionState::Deferred,
            SubmissionState::Unknown,
        ];
        assert_eq!(due.map(state_number), [2, 3, 4, 5]);
        assert_eq!((folder_number(Folder::OUTBOX), folder_number(Folder::DELETED)), (2, 5));
        for known in Folder::BUILT_IN {
            assert_eq!(folder(folder_number(known)), Ok(Some(known)));
        }
        assert_eq!(folder(GONE), Ok(None));
        assert_eq!(folder(99), Ok(Some(Folder(98))));
        assert!(folder(-1).is_err() && folder(i64::MAX).is_err());
        for known in Role::ALL {
            assert_eq!(role(role_number(known)), Some(known));
            let built_in = known.built_in().map(folder_number);
            assert!(built_in.is_none_or(|number| number == i64::from(role_number(known))));
        }
        assert_eq!(role(9), None);
    }
}
