//! What a power cut has left, opened again: whether everything that was promised is there, once, and nothing else is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sundown_core::provider::{
    AddressCall, FastShutdown, Outcome, ProviderAnswer, ProviderSpec, StoreRead, Transmission,
};
use sundown_protocol::reply::MessageRow;
use sundown_protocol::request::{Folder, Report};
use sundown_providers::address_book::SqliteAddressBook;
use sundown_providers::maildir::Maildir;
use sundown_providers::runtime::{BootId, Runtime};
use sundown_providers::smtp::{Destinations, Dots, Smtp};
use sundown_providers::sqlite::SqliteStore;
use sundown_providers::{
    AddressBookProvider, Reply, StoreProvider, StoreReader, Support, TransportProvider,
};

use crate::claims::{Claims, Message, Promise};
use crate::recorder::{Record, Sync};

/// Where a broker keeps its data in a home.
pub(crate) const DATA: &str = ".local/share/sundown";

/// Answers that left before a sync which could cover them had returned.
///
/// What a request changes is written after it was heard: a sync must begin behind that. What only has to make durable what
/// is there needs one behind the last write before it. The sync of the store's log is what makes a commit durable, that of
/// its file one of the address book.
pub(crate) fn early_answers(records: &[Record], claims: &Claims) -> Vec<String> {
    let covered = |from: usize, to: usize, file: &str| {
        let began = |number: u64| {
            let begins =
                |r: &Record| matches!(r, Record::Sync(Sync { number: n, .. }) if *n == number);
            records[from..to].iter().any(begins)
        };
        records[from..to].iter().any(|record| {
            matches!(record, Record::Synced(Sync { path, number, .. })
                if path.ends_with(file) && began(*number))
        })
    };
    let last_write = |before: usize, file: &str| {
        let writes = |record: &Record| matches!(record, Record::Written { path, .. } if path.ends_with(file));
        records[..before].iter().rposition(writes)
    };
    let early = claims.acknowledged.iter().filter(|acknowledged| {
        let (asked, answered) = (acknowledged.asked, acknowledged.answered);
        match acknowledged.what {
            "AddressBook" => !covered(asked, answered, "address-book.db"),
            // They wait for what was deferred, which may be durable already, while somebody else's commit is being written. The
            // states of the disk show whether it is.
            "Flush" | "Logoff" => false,
            "DoFastShutdown" => last_write(asked, "store.db-wal")
                .is_some_and(|from| !covered(from, answered, "store.db-wal")),
            _ => !covered(asked, answered, "store.db-wal"),
        }
    });
    early.map(|acknowledged| format!("no sync covers {acknowledged}")).collect()
}

/// What is in a row of the queue, as the store wrote it.
#[derive(Debug)]
struct Row {
    record: u128,
    from: String,
    address: String,
    state: String,
    marker: Option<String>,
    transport: Option<String>,
}

/// Opens what was left at a place of the record; says what is wrong.
pub(crate) fn examine(home: &Path, claims: &Claims, place: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let data = home.join(DATA);
    if let Ok(text) = fs::read(data.join("last-exit.json"))
        && let Err(error) = serde_json::from_slice::<Value>(&text)
    {
        wrong.push(format!("last-exit.json is half written: {error}"));
    }
    let mut profiles: Vec<_> = claims.messages.values().map(|m| m.profile.clone()).collect();
    profiles.sort();
    profiles.dedup();
    for profile in profiles {
        let path = data.join(&profile);
        let promised: Vec<_> = claims.promised(place).filter(|p| of(p, claims, &profile)).collect();
        if path.is_dir() {
            one_book(&path.join("address-book.db"), &promised, &mut wrong);
        }
        if path.join("store.db").exists() {
            one_store(&path, claims, &promised, place, &mut wrong);
        } else if !promised.is_empty() {
            wrong.push(format!("{profile}: the store is lost, and {} promises", promised.len()));
        }
    }
    wrong
}

fn of(promise: &Promise, claims: &Claims, wanted: &str) -> bool {
    match promise {
        // What was saved came as a draft; only the default profile has some.
        Promise::Message(record) => {
            claims.messages.get(record).map_or("default", |m| &m.profile) == wanted
        }
        Promise::Setting { profile, .. } => profile == wanted,
        Promise::Person(_) | Promise::Draft(_) => wanted == "default",
    }
}

pub(crate) fn spec(kind: &str, path: &Path) -> ProviderSpec {
    ProviderSpec {
        name: kind.to_owned(),
        kind: kind.to_owned(),
        path: path.to_owned(),
        options: Vec::new(),
        fast_shutdown: FastShutdown::Supported,
    }
}

fn one_store(
    profile: &Path,
    claims: &Claims,
    promised: &[&Promise],
    place: usize,
    wrong: &mut Vec<String>,
) {
    let path = profile.join("store.db");
    let mut store = SqliteStore::new(&spec("sqlite", &path));
    match store.logon() {
        // A power cut is no damage.
        Ok(facts) => wrong.extend(facts.damage),
        Err(error) => {
            wrong.push(format!("the store cannot be opened: {}", error.message));
            return;
        }
    }
    let mut reader = store.reader().expect("it is open");
    keeps_promises(reader.as_mut(), claims, promised, place, wrong);
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let connection = connection.expect("it is a database");
    let whole: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it answers");
    if whole != "ok" {
        wrong.push(format!("the database is damaged: {whole}"));
    }
    let rows = rows(&connection);
    for row in &rows {
        match claims.messages.get(&row.record) {
            Some(message) => is_whole(reader.as_mut(), row.record, message, wrong),
            None => wrong.push(format!("{:032x} was never submitted", row.record)),
        }
    }
    if profile.ends_with("far") {
        for row in &rows {
            by_smtp(row, claims, (place, profile.parent().expect("profiles are in it")), wrong);
        }
    } else {
        by_maildir(&profile.join("Maildir"), &rows, claims, wrong);
    }
    if let Err(error) = store.logoff() {
        wrong.push(format!("the store cannot be closed: {}", error.message));
    }
}

fn keeps_promises(
    reader: &mut dyn StoreReader,
    claims: &Claims,
    promised: &[&Promise],
    place: usize,
    wrong: &mut Vec<String>,
) {
    for promise in promised {
        let question = match promise {
            Promise::Message(record) => StoreRead::Find { record: *record },
            Promise::Setting { section, name, .. } => {
                StoreRead::Setting { section: section.clone(), name: name.clone() }
            }
            Promise::Draft(bytes) => {
                if !drafts(reader).iter().any(|draft| draft == bytes) {
                    wrong.push("a draft is lost".to_owned());
                }
                continue;
            }
            // Not in the store.
            Promise::Person(_) => continue,
        };
        match (promise, reader.read(&question)) {
            (Promise::Message(_), Ok(_)) => {}
            (Promise::Setting { name, value, .. }, Ok(ProviderAnswer::Setting(Some(found))))
                if found == *value || claims.changed_later(name, value, &found, place) => {}
            (_, answer) => wrong.push(format!("lost: {promise:?}; the store says {answer:?}")),
        }
    }
}

/// What is in Drafts.
fn drafts(reader: &mut dyn StoreReader) -> Vec<Vec<u8>> {
    let all = StoreRead::List { folder: Folder::DRAFTS, after: 0, limit: 1000 };
    let Ok(ProviderAnswer::Messages { rows, .. }) = reader.read(&all) else { return Vec::new() };
    let read = |row: &MessageRow| {
        let mut bytes = Vec::new();
        let read = reader.open(row.entry.record).map(|mut body| body.read_to_end(&mut bytes));
        if matches!(read, Ok(Ok(_))) { bytes } else { Vec::new() }
    };
    rows.iter().map(read).collect()
}

/// Whether everybody is in an address book who was promised to be.
fn one_book(path: &Path, promised: &[&Promise], wrong: &mut Vec<String>) {
    let people = promised.iter().filter_map(|promise| match promise {
        Promise::Person(record) => Some(*record),
        _ => None,
    });
    let mut book = SqliteAddressBook::new(&spec("sqlite", path));
    if let Err(error) = book.logon() {
        wrong.push(format!("the address book cannot be opened: {}", error.message));
        return;
    }
    let found = match book.call(&AddressCall::List { after: 0, limit: 1000 }) {
        Ok(ProviderAnswer::Addresses { rows, .. }) => rows,
        other => panic!("a list is answered by {other:?}"),
    };
    for person in people.filter(|p| found.iter().all(|row| row.entry.record != *p)) {
        wrong.push(format!("{person:032x} is lost from the address book"));
    }
}

/// The store puts header lines in front of what it was given; the rest is as it came.
fn is_whole(
    reader: &mut dyn StoreReader,
    record: u128,
    message: &Message,
    wrong: &mut Vec<String>,
) {
    let mut bytes = Vec::new();
    let read = reader.open(record).map(|mut body| body.read_to_end(&mut bytes));
    if !matches!(read, Ok(Ok(_))) || !bytes.ends_with(&message.bytes) {
        wrong.push(format!("{record:032x} is not as it was handed over, {} bytes", bytes.len()));
    }
}

fn rows(connection: &Connection) -> Vec<Row> {
    let sql = "SELECT record, envelope_from, envelope_to FROM message WHERE state IS NOT NULL";
    let mut statement = connection.prepare(sql).expect("the tables are there");
    let row = |row: &rusqlite::Row<'_>| {
        let recipients: String = row.get(2)?;
        let recipients: Value = serde_json::from_str(&recipients).expect("JSON");
        let text = |key: &str| recipients[0][key].as_str().map(str::to_owned);
        Ok(Row {
            record: u128::from_be_bytes(row.get(0)?),
            from: row.get(1)?,
            address: text("address").expect("an address"),
            state: text("state").expect("a state"),
            marker: text("marker"),
            transport: text("transport"),
        })
    };
    let rows = statement.query_map([], row).expect("it answers");
    rows.map(|row| row.expect("a row")).collect()
}

/// A message whose dot may have left is not queued any more; one whose dot has not left is not sent.
fn by_smtp(row: &Row, claims: &Claims, (place, data): (usize, &Path), wrong: &mut Vec<String>) {
    let message = &claims.messages[&row.record].bytes;
    let name = message.split(|b| *b == b'\n').find(|line| line.starts_with(b"Message-ID:"));
    let name = name.expect("each message has a name");
    let names = |talk: &[u8]| talk.windows(name.len()).any(|window| window == name);
    let gone = claims.dots.iter().filter(|(at, talk)| *at < place && names(talk)).count();
    let fits = match row.state.as_str() {
        "transmitting" => gone <= 1 && row.marker.is_some() && row.transport.is_some(),
        "queued" | "deferred" => gone == 0,
        "sent" => gone == 1,
        _ => false,
    };
    if !fits {
        wrong.push(format!("{gone} dots have left: {row:?}"));
    }
    if let Some(marker) = &row.marker
        && recover(&mut after_the_cut(data), 0, row, marker) != [Outcome::Unknown]
    {
        wrong.push(format!("what the power cut off is not unknown: {row:?}"));
    }
}

/// The transport as the next broker has it: nothing is left in memory, but what was on the disk. That the boot id is another one
/// would be enough.
fn after_the_cut(data: &Path) -> Smtp {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let runtime = Runtime {
        directories: vec![data.to_owned()],
        name: "broker.sock".into(),
        boot: BootId::parse(&boot),
    };
    let dots = Arc::new(Dots::new(Arc::new(OnceLock::from(runtime))));
    let options = [("host", "127.0.0.1"), ("port", "25"), ("security", "none")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let spec = ProviderSpec { options, ..spec("smtp", Path::new("")) };
    Smtp::new(&spec, &Destinations::default(), &dots).expect("settings")
}

/// Nobody asks it for a store.
struct NoStores;

impl Support for NoStores {
    fn store(&self, _: u32) -> sundown_providers::Result<Box<dyn StoreReader>> {
        unreachable!("what was prepared is not read again")
    }

    fn save(&self, _: u32, _: &str, _: &str, _: &str) -> sundown_providers::Result<()> {
        unreachable!("a Maildir saves nothing")
    }
}

/// What is between `Queued` and `Sent` is found out as a broker would; then each message is in `new` once if it is sent,
/// and not at all if it is to be sent.
fn by_maildir(path: &Path, rows: &[Row], claims: &Claims, wrong: &mut Vec<String>) {
    let mut maildir = Maildir::new(&spec("maildir", path));
    maildir.logon(Arc::new(NoStores)).expect("it logs on");
    let mut sent = Vec::new();
    for (id, row) in rows.iter().enumerate() {
        match (row.state.as_str(), &row.marker) {
            ("transmitting", Some(marker)) => {
                sent.push((row, recover(&mut maildir, id as u64, row, marker) == [Outcome::Sent]));
            }
            ("sent", _) => sent.push((row, true)),
            ("queued" | "deferred", _) => sent.push((row, false)),
            _ => wrong.push(format!("no message can be so: {row:?}")),
        }
    }
    let mut delivered: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for entry in fs::read_dir(path.join("new")).expect("it is there") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("text");
        let record = name.split(['.', '-']).nth(1).expect("our names have it").to_owned();
        delivered.entry(record).or_default().push(fs::read(entry.path()).expect("a file"));
    }
    for (row, sent) in sent {
        let found = delivered.remove(&format!("{:032x}", row.record)).unwrap_or_default();
        if found.len() != usize::from(sent) {
            wrong.push(format!("delivered {} times: {row:?}", found.len()));
        }
        let Some(message) = claims.messages.get(&row.record) else { continue };
        if found.iter().any(|bytes| !bytes.ends_with(&message.bytes)) {
            wrong.push(format!("delivered in part: {row:?}"));
        }
    }
    for record in delivered.keys() {
        wrong.push(format!("{record} is delivered, and the store does not know it"));
    }
}

fn recover(
    transport: &mut dyn TransportProvider,
    id: u64,
    row: &Row,
    marker: &str,
) -> Vec<Outcome> {
    let (sender, answer) = std::sync::mpsc::channel();
    let transmission = Transmission {
        id,
        store: 1,
        record: row.record,
        from: row.from.clone(),
        recipients: vec![(0, row.address.clone())],
        size: 0,
        report: Report::default(),
    };
    let reply = Reply::new(move |results| drop(sender.send(results)));
    transport.recover(transmission, marker.to_owned(), reply);
    let results = answer.recv().expect("it answers").expect("for each recipient");
    results.into_iter().map(|result| result.outcome).collect()
}
