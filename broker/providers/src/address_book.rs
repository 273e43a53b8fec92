//! The built-in address book: people and lists in an `SQLite` database.
//!
//! Every session has a connection of its own; `SQLite` isolates them. Names are compared without regard to case.
//!
//! If the file is removed or replaced while it is open, the next call notices it, and a change notices it before it is answered.
//! The contents are saved beside the file's name, and the call fails and names the copy. The next call opens the file that is
//! there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use sundown_core::provider::{AddressCall, ProviderAnswer, ProviderError, ProviderSpec};
use sundown_mail::address;
use sundown_protocol::reply::AddressRow;
use sundown_protocol::request::AddressAction;
use sundown_protocol::{Code, EntryId};

use crate::fault::{self, Failure};
use crate::files::private_database;
use crate::{AddressBookProvider, NothingToSave, ProviderShutdown, Result, rescue};

/// `SdwA`: marks the database as an address book of Sundown.
const APPLICATION: i32 = 0x5364_7741;

/// The newest schema.
///
/// 1: the first one.
const VERSION: i32 = 1;

/// How many names an error lists if several match.
const NAMED: usize = 5;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    record BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    folded TEXT NOT NULL UNIQUE
);
CREATE TABLE address (
    entry INTEGER NOT NULL,
    place INTEGER NOT NULL,
    address TEXT NOT NULL,
    folded TEXT NOT NULL,
    PRIMARY KEY (entry, place)
) WITHOUT ROWID;
CREATE INDEX address_folded ON address (folded);
";

type Outcome<T> = std::result::Result<T, Failure>;

/// An address book in an `SQLite` database. The spec's path is the database file.
#[derive(Debug)]
pub struct SqliteAddressBook {
    path: PathBuf,
    book: Option<Book>,
    /// Whether a write or a sync failed since the logon. Then no change is made any more, because a later successful sync would
    /// prove nothing.
    health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Sound,
    Failed,
    /// The file was lost, and its contents are saved.
    Lost,
}

/// What a call has done by the time its file is found to be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Nothing,
    Perhaps,
}

impl SqliteAddressBook {
    /// Makes an address book, which touches no file before its logon.
    pub fn new(spec: &ProviderSpec) -> Self {
        Self { path: spec.path.clone(), book: None, health: Health::Sound }
    }
}

impl AddressBookProvider for SqliteAddressBook {
    fn logon(&mut self) -> Result<()> {
        private_database(&self.path)?;
        let book = Book::open(&self.path).map_err(|failure| failure.told(&self.path))?;
        self.book = Some(book);
        self.health = Health::Sound;
        Ok(())
    }

    fn call(&mut self, call: &AddressCall) -> Result<ProviderAnswer> {
        self.refuse_if_lost(Done::Nothing)?;
        if self.health == Health::Lost {
            self.logon()?;
        }
        let answer = self.ask(call);
        self.refuse_if_lost(Done::Perhaps)?;
        answer
    }

    fn logoff(&mut self) -> Result<()> {
        let lost = self.refuse_if_lost(Done::Nothing);
        self.book = None;
        lost
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        Some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        true
    }
}

impl SqliteAddressBook {
    /// Refuses a call if the file is lost, and closes the file once its contents are saved. Until then the file stays open.
    fn refuse_if_lost(&mut self, done: Done) -> Result<()> {
        let has_moved = |book: &&Book| rescue::has_moved(&book.connection);
        let Some(book) = self.book.as_ref().filter(has_moved) else { return Ok(()) };
        if done == Done::Nothing && book.is_empty() {
            // There is nothing to lose.
            (self.book, self.health) = (None, Health::Lost);
            return Ok(());
        }
        let saved = rescue::save(&book.connection, &self.path);
        let error = lost(&self.path, done, &saved);
        tracing::error!("{}", error.message);
        if saved.is_ok() {
            (self.book, self.health) = (None, Health::Lost);
        }
        Err(error)
    }

    fn ask(&mut self, call: &AddressCall) -> Result<ProviderAnswer> {
        let book = self.book.as_mut().ok_or_else(|| {
            let text = format!("{}: no session is logged on to it", self.path.display());
            ProviderError::new(Code::E_NOT_INITIALIZED, text)
        })?;
        let changes = matches!(
            call,
            AddressCall::Act(AddressAction::Add { .. } | AddressAction::Remove { .. })
        );
        if changes && self.health == Health::Failed {
            let path = self.path.display();
            let text = format!("{path}: writing to the disk failed; check it, then log on again");
            return Err(ProviderError::new(Code::E_DISK_ERROR, text));
        }
        book.call(call).map_err(|failure| {
            if matches!(&failure, Failure::Sql(error) if fault::is_untrustworthy(error)) {
                self.health = Health::Failed;
            }
            failure.told(&self.path)
        })
    }
}

/// Every change is on the disk before it is answered.
impl NothingToSave for SqliteAddressBook {}

#[derive(Debug)]
struct Book {
    connection: Connection,
    uid: u32,
}

impl Book {
    fn open(path: &Path) -> Outcome<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        // Without a write-ahead log, a commit ends by removing its journal. FULL does not sync that removal: after a power cut the
        // journal may be there again, and undo an answered change.
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        prepare(&connection)?;
        let select = "SELECT value FROM meta WHERE name = 'uid'";
        let uid = connection.query_row(select, [], |row| row.get(0))?;
        Ok(Self { connection, uid })
    }

    /// Whether the book has no entries.
    fn is_empty(&self) -> bool {
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM entry)";
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap_or(false)
    }

    fn call(&mut self, call: &AddressCall) -> Outcome<ProviderAnswer> {
        match call {
            AddressCall::List { after, limit } => self.list(*after, *limit),
            AddressCall::Act(AddressAction::Add { name, addresses }) => self.add(name, addresses),
            AddressCall::Act(AddressAction::Remove { name }) => self.remove(name),
            AddressCall::Act(AddressAction::Resolve { name }) => self.resolve(name),
        }
    }

    fn list(&self, after: u64, limit: u32) -> Outcome<ProviderAnswer> {
        let limit = limit.max(1) as usize;
        let sql = "SELECT id, record, name FROM entry WHERE id > ?1 ORDER BY id LIMIT ?2";
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let mut entries = self.entries(sql, (after, limit + 1))?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|entry| entry.id);
        let rows = entries.iter().map(|entry| self.row(entry)).collect::<Outcome<_>>()?;
        Ok(ProviderAnswer::Addresses { rows, next })
    }

    fn add(&mut self, name: &str, addresses: &[String]) -> Outcome<ProviderAnswer> {
        let name = name.trim();
        check(name, addresses)?;
        if self.named(name)?.is_some() {
            let text = format!("{name:?} is in the address book already; remove it first");
            return Err(Failure::refused(Code::E_COLLISION, text));
        }
        let transaction = self.connection.transaction()?;
        let sql = "INSERT INTO entry (record, name, folded) VALUES (randomblob(16), ?1, ?2)
                   RETURNING id, record, name";
        let entry = transaction.query_row(sql, [name, &name.to_lowercase()], Entry::read)?;
        for (place, address) in addresses.iter().enumerate() {
            let sql = "INSERT INTO address (entry, place, address, folded) VALUES (?1, ?2, ?3, ?4)";
            let folded = address.to_lowercase();
            transaction.execute(sql, params![entry.id as i64, place, address, folded])?;
        }
        transaction.commit()?;
        Ok(ProviderAnswer::Address(self.row(&entry)?))
    }

    fn remove(&mut self, name: &str) -> Outcome<ProviderAnswer> {
        let entry = self.named(name.trim())?.ok_or_else(|| unknown(name))?;
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM address WHERE entry = ?1", [entry.id as i64])?;
        transaction.execute("DELETE FROM entry WHERE id = ?1", [entry.id as i64])?;
        transaction.commit()?;
        Ok(ProviderAnswer::Done)
    }

    /// Finds an entry by its whole name, else by the beginning of its name, else by a person's address. An address does not find a
    /// list, which stands for more than that address.
    fn resolve(&self, name: &str) -> Outcome<ProviderAnswer> {
        let wanted = name.trim();
        if wanted.is_empty() {
            return Err(unknown(name));
        }
        if let Some(entry) = self.named(wanted)? {
            return Ok(ProviderAnswer::Address(self.row(&entry)?));
        }
        let mut found = self.beginning_with(wanted)?;
        if found.is_empty() {
            found = self.with_address(wanted)?;
        }
        match found.as_slice() {
            [] => Err(unknown(name)),
            [entry] => Ok(ProviderAnswer::Address(self.row(entry)?)),
            several => Err(ambiguous(name, several)),
        }
    }

    fn named(&self, name: &str) -> Outcome<Option<Entry>> {
        let sql = "SELECT id, record, name FROM entry WHERE folded = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([name.to_lowercase()], Entry::read).optional()?)
    }

    fn beginning_with(&self, start: &str) -> Outcome<Vec<Entry>> {
        let sql = "SELECT id, record, name FROM entry WHERE folded >= ?1 AND folded < ?2
                   ORDER BY folded LIMIT ?3";
        let start = start.to_lowercase();
        let end = format!("{start}{}", char::MAX);
        self.entries(sql, params![start, end, NAMED + 1])
    }

    fn with_address(&self, address: &str) -> Outcome<Vec<Entry>> {
        let sql = "SELECT id, record, name FROM entry JOIN address ON entry = id
                   WHERE address.folded = ?1
                       AND NOT EXISTS (SELECT 1 FROM address AS a WHERE a.entry = id AND place > 0)
                   ORDER BY name LIMIT ?2";
        self.entries(sql, params![address.to_lowercase(), NAMED + 1])
    }

    fn entries(&self, sql: &str, parameters: impl rusqlite::Params) -> Outcome<Vec<Entry>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map(parameters, Entry::read)?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    fn row(&self, entry: &Entry) -> Outcome<AddressRow> {
        let sql = "SELECT address FROM address WHERE entry = ?1 ORDER BY place";
        let mut statement = self.connection.prepare_cached(sql)?;
        let addresses = statement.query_map([entry.id as i64], |row| row.get(0))?;
        Ok(AddressRow {
            entry: EntryId { store: self.uid, record: entry.record },
            name: entry.name.clone(),
            addresses: addresses.collect::<rusqlite::Result<_>>()?,
        })
    }
}

/// A row of `entry`.
struct Entry {
    id: u64,
    record: u128,
    name: String,
}

impl Entry {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let record = u128::from_be_bytes(row.get(1)?);
        Ok(Self { id: row.get(0)?, record, name: row.get(2)? })
    }
}

/// Makes the tables if they do not exist. Two sessions may do so at once, so it checks again once it may write.
fn prepare(connection: &Connection) -> Outcome<()> {
    if versions(connection)? == (APPLICATION, VERSION) {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let made = create(connection);
    connection.execute_batch(if made.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    made
}

fn create(connection: &Connection) -> Outcome<()> {
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match versions(connection)? {
        (APPLICATION, VERSION) => Ok(()),
        (APPLICATION, 1..) => {
            let text = "the address book was written by a newer Sundown; start that one";
            Err(Failure::refused(Code::E_VERSION, text))
        }
        (0, 0) if tables == 0 => Ok(connection.execute_batch(&format!(
            "{TABLES}
             INSERT INTO meta SELECT 'uid', 1 + abs(random() % 4294967294);
             PRAGMA application_id = {APPLICATION};
             PRAGMA user_version = {VERSION};"
        ))?),
        _ => Err(Failure::refused(
            Code::E_CORRUPT_STORE,
            "the database is not an address book of Sundown; move it away or name another path",
        )),
    }
}

fn versions(connection: &Connection) -> rusqlite::Result<(i32, i32)> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

fn check(name: &str, addresses: &[String]) -> Outcome<()> {
    let refused = |text: String| Err(Failure::refused(Code::E_INVALID_PARAMETER, text));
    if name.is_empty() || name.contains(char::is_control) {
        return refused(format!("{name:?} is no name; it is empty or has control characters"));
    }
    if addresses.is_empty() {
        return refused(format!("{name:?} needs an address"));
    }
    for text in addresses {
        if let Err(why) = address::split(text) {
            return refused(format!("{text:?} is no address: {why}"));
        }
    }
    Ok(())
}

/// The error of a call whose file was removed or replaced.
fn lost(path: &Path, done: Done, saved: &Result<PathBuf>) -> ProviderError {
    let done = match done {
        Done::Nothing => "nothing of this was done",
        Done::Perhaps => "it is not known whether this was done",
    };
    let saved = match saved {
        Ok(copy) => format!(
            "is saved in {}: `sundown doctor` says how to take that in. What is there now is used from now on",
            copy.display()
        ),
        Err(error) => {
            format!("cannot be saved, which is tried again with each call: {}", error.message)
        }
    };
    let text = format!(
        "{} was removed or replaced under the broker; {done}. What was in it {saved}",
        path.display()
    );
    ProviderError::new(Code::E_DISK_ERROR, text)
}

fn unknown(name: &str) -> Failure {
    Failure::refused(Code::E_NOT_FOUND, format!("{name:?} is not in the address book"))
}

fn ambiguous(name: &str, several: &[Entry]) -> Failure {
    let names: Vec<_> = several.iter().take(NAMED).map(|entry| entry.name.as_str()).collect();
    let more = if several.len() > NAMED { ", and more" } else { "" };
    let text = format!("{name:?} may be {}{more}; write more of it", names.join(", "));
    Failure::refused(Code::E_AMBIGUOUS_RECIP, text)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn book(path: PathBuf) -> SqliteAddressBook {
        let spec = ProviderSpec { path, ..ProviderSpec::new("sqlite") };
        let mut book = SqliteAddressBook::new(&spec);
        book.logon().expect("it logs on");
        book
    }

    fn add(book: &mut SqliteAddressBook, name: &str, addresses: &[&str]) -> Result<AddressRow> {
        let addresses = addresses.iter().map(|&address| address.to_owned()).collect();
        let add = AddressAction::Add { name: name.into(), addresses };
        match book.call(&AddressCall::Act(add))? {
            ProviderAnswer::Address(row) => Ok(row),
            other => panic!("{other:?}"),
        }
    }

    fn resolve(book: &mut SqliteAddressBook, name: &str) -> std::result::Result<String, Code> {
        let act = AddressCall::Act(AddressAction::Resolve { name: name.into() });
        match book.call(&act) {
            Ok(ProviderAnswer::Address(row)) => Ok(row.name),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    }

    #[test]
    fn names_stand_for_people_and_lists() {
        let dir = TempDir::new().expect("a directory");
        let mut book = book(dir.path().join("people.db"));
        let anna = add(&mut book, "Anna Ärger", &["anna@example.org"]).expect("added");
        add(&mut book, "Anna Berg", &["berg@example.org"]).expect("added");
        add(&mut book, "Team", &["anna@example.org", "berg@example.org"]).expect("added");
        add(&mut book, "Team West", &["west@example.org"]).expect("added");
        assert_ne!(anna.entry.store, 0);

        assert_eq!(resolve(&mut book, "anna ÄRGER").as_deref(), Ok("Anna Ärger"));
        assert_eq!(resolve(&mut book, "anna ä").as_deref(), Ok("Anna Ärger"));
        assert_eq!(resolve(&mut book, "ANNA@example.org").as_deref(), Ok("Anna Ärger"));
        assert_eq!(resolve(&mut book, "team").as_deref(), Ok("Team"));
        assert_eq!(resolve(&mut book, "anna"), Err(Code::E_AMBIGUOUS_RECIP));
        for nobody in ["bob", "", " ", "%", "a_na", "nna"] {
            assert_eq!(resolve(&mut book, nobody), Err(Code::E_NOT_FOUND), "{nobody:?}");
        }
    }

    #[test]
    fn several_matches_are_named() {
        let dir = TempDir::new().expect("a directory");
        let mut book = book(dir.path().join("people.db"));
        for name in ["Ann A", "Ann B"] {
            add(&mut book, name, &["a@b"]).expect("added");
        }
        let act = AddressCall::Act(AddressAction::Resolve { name: "ann".into() });
        let error = book.call(&act).expect_err("there are two");
        assert!(error.message.contains("Ann A, Ann B"), "{error}");
        assert_eq!(resolve(&mut book, "a@b"), Err(Code::E_AMBIGUOUS_RECIP));
    }

    #[test]
    fn a_name_is_there_once_and_can_be_removed() {
        let dir = TempDir::new().expect("a directory");
        let mut book = book(dir.path().join("people.db"));
        add(&mut book, "Anna", &["a@b"]).expect("added");
        assert_eq!(add(&mut book, "ANNA", &["c@d"]).map_err(|e| e.code), Err(Code::E_COLLISION));
        let remove = AddressCall::Act(AddressAction::Remove { name: "anna".into() });
        assert_eq!(book.call(&remove), Ok(ProviderAnswer::Done));
        assert_eq!(book.call(&remove).map_err(|e| e.code), Err(Code::E_NOT_FOUND));
        assert_eq!(resolve(&mut book, "a@b"), Err(Code::E_NOT_FOUND));
        let wrong = [("", &["a@b"][..]), ("a\nb", &["a@b"]), ("x", &[]), ("x", &["a@b", "@"])];
        for (name, addresses) in wrong {
            let code = add(&mut book, name, addresses).map_err(|error| error.code);
            assert_eq!(code, Err(Code::E_INVALID_PARAMETER), "{name:?} {addresses:?}");
        }
    }

    #[test]
    fn lists_come_in_pages_and_outlive_a_logoff() {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("below/people.db");
        let mut first = book(path.clone());
        let mut other = book(path.clone());
        let added: Vec<_> = ["C", "A", "B"]
            .iter()
            .map(|name| add(&mut first, name, &["a@b", "c@d"]).expect("added"))
            .collect();
        first.logoff().expect("it logs off");
        let page = other.call(&AddressCall::List { after: 0, limit: 2 });
        let Ok(ProviderAnswer::Addresses { rows, next: Some(next) }) = page else {
            panic!("{page:?}")
        };
        assert_eq!(rows, added[..2]);
        let mut again = book(path);
        let page = again.call(&AddressCall::List { after: next, limit: 2 });
        assert_eq!(page, Ok(ProviderAnswer::Addresses { rows: added[2..].to_vec(), next: None }));
        assert!(first.call(&AddressCall::List { after: 0, limit: 1 }).is_err());
    }

    #[test]
    fn what_is_no_address_book_is_refused() {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("people.db");
        std::fs::write(&path, "this is a letter to somebody, and no database at all")
            .expect("a file");
        let spec = ProviderSpec { path: path.clone(), ..ProviderSpec::new("sqlite") };
        let error = SqliteAddressBook::new(&spec).logon().expect_err("it is a letter");
        assert_eq!(error.code, Code::E_CORRUPT_STORE);
        assert!(error.message.contains("people.db"), "{error}");
    }

    fn names(book: &mut SqliteAddressBook) -> Result<Vec<String>> {
        match book.call(&AddressCall::List { after: 0, limit: 9 })? {
            ProviderAnswer::Addresses { rows, .. } => {
                Ok(rows.into_iter().map(|row| row.name).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    /// The copies of the address book in this directory.
    fn copies(dir: &TempDir) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir.path()).expect("it is there");
        let names = entries.map(|entry| entry.expect("an entry").path());
        let is_copy = |path: &PathBuf| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(crate::RESCUED))
        };
        names.filter(is_copy).collect()
    }

    /// If a file is removed or replaced, no change is lost and no name either; the file that is there is used from the next call
    /// on.
    #[test]
    fn a_file_that_was_removed_or_replaced_is_saved() {
        for by in [None, Some("bob")] {
            for change in [true, false] {
                let dir = TempDir::new().expect("a directory");
                let path = dir.path().join("people.db");
                let mut book = book(path.clone());
                add(&mut book, "anna", &["anna@example.org"]).expect("added");
                if let Some(name) = by {
                    let mut other = self::book(dir.path().join("other.db"));
                    add(&mut other, name, &["bob@example.org"]).expect("added");
                    std::fs::rename(dir.path().join("other.db"), &path).expect("replaced");
                } else {
                    std::fs::remove_file(&path).expect("removed");
                }
                let refused = if change {
                    add(&mut book, "eve", &["eve@example.org"]).map(drop)
                } else {
                    names(&mut book).map(drop)
                };
                let refused = refused.expect_err("its file is lost");
                assert_eq!(refused.code, Code::E_DISK_ERROR);
                assert!(refused.message.contains(crate::RESCUED), "{refused}");
                assert!(refused.message.contains("nothing of this was done"), "{refused}");
                let [copy] = &copies(&dir)[..] else { panic!("one copy") };
                assert_eq!(names(&mut self::book(copy.clone())).expect("listed"), ["anna"]);
                let there: Vec<_> = by.iter().map(|name| (*name).to_owned()).collect();
                assert_eq!(names(&mut book).expect("listed"), there);
                add(&mut book, "eve", &["eve@example.org"]).expect("added");
            }
        }
    }

    /// Removing an empty address book is not a loss.
    #[test]
    fn an_empty_file_that_was_removed_is_not_missed() {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("people.db");
        let mut book = book(path.clone());
        std::fs::remove_file(&path).expect("removed");
        add(&mut book, "anna", &["anna@example.org"]).expect("added");
        assert_eq!(names(&mut self::book(path)).expect("listed"), ["anna"]);
        assert_eq!(copies(&dir).len(), 0);
    }

    /// If the file is removed while a change is committed, the change is not answered as done.
    #[test]
    fn a_file_that_is_removed_under_a_change_is_not_answered() {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("people.db");
        let mut book = book(path.clone());
        add(&mut book, "anna", &["anna@example.org"]).expect("added");
        let connection = &mut book.book.as_mut().expect("it is open").connection;
        let hook = move || {
            let _ = std::fs::remove_file(&path);
            false
        };
        connection.commit_hook(Some(hook)).expect("a hook");
        let refused = add(&mut book, "eve", &["eve@example.org"]).expect_err("its file is lost");
        assert!(refused.message.contains("not known"), "{refused}");
        assert_eq!(copies(&dir).len(), 1);
    }

    /// A file that is removed between calls is saved at the logoff; if that fails it is tried again.
    #[test]
    fn a_file_that_was_removed_is_saved_at_the_end() {
        let dir = TempDir::new().expect("a directory");
        let deep = dir.path().join("deep");
        let mut book = book(deep.join("er/people.db"));
        add(&mut book, "anna", &["anna@example.org"]).expect("added");
        std::fs::remove_dir_all(&deep).expect("removed");
        std::fs::write(&deep, "no directory").expect("written");
        for _ in 0..2 {
            let refused = names(&mut book).expect_err("its file is lost");
            assert!(refused.message.contains("cannot be saved"), "{refused}");
        }
        std::fs::remove_file(&deep).expect("removed");
        book.logoff().expect_err("it says where it is");
        let copy = std::fs::read_dir(deep.join("er")).expect("made again").next();
        let copy = copy.expect("a copy").expect("an entry").path();
        assert_eq!(names(&mut self::book(copy)).expect("listed"), ["anna"]);
    }
}
