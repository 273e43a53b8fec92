//! An account at a server that says anything, beside a real store: the mailbox ends or goes on, and what the store has stays sound.
//!
//! The bytes are what the server says behind the logon, in up to four connections that are separated by lines `CUT`. To each command it
//! says what comes up to a line that begins with `TAG`, which gets that of the command; to what asks it to go on, also up to a line that
//! begins with `+`. Between two connections a program changes what it finds.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;

use sundown_core::provider::{
    MailboxReport, MessageContent, Mirror, ProviderAnswer, ProviderSpec, StoreRead, StoreWrite,
};
use sundown_protocol::Code;
use sundown_protocol::folder::{ContentsRow, Filter, Flags, FolderRow, Marks, Sort};
use sundown_protocol::request::Folder;
use sundown_providers::imap::play;
use sundown_providers::sqlite::SqliteStore;
use sundown_providers::{MailboxSupport, Result, StoreProvider, StoreReader, Sync};
use tempfile::TempDir;

/// The most connections.
const CONNECTIONS: usize = 4;

/// The most rows that are read: a server cannot say more messages in so few bytes.
const ROWS: u32 = 100_000;

/// Bytes as what an IMAP server says in a few connections.
pub fn account(bytes: &[u8]) {
    let home = tempfile::tempdir().expect("a directory");
    let broker = Arc::new(Broker::begin(home.path()));
    let support: Arc<dyn MailboxSupport> = broker.clone();
    let mut next = 1 << 100;
    for said in split(bytes) {
        let (near, far) = UnixStream::pair().expect("sockets");
        thread::scope(|scope| {
            scope.spawn(|| serve(&far, said));
            let _ = play(&spec(), near, &support);
        });
        broker.check();
        broker.change(&mut next);
    }
    broker.check();
}

/// The account, on which nothing is waited for that is not there.
fn spec() -> ProviderSpec {
    let options = [
        ("host", "imap.example.org"),
        ("username", "anna"),
        ("password_file", "/nowhere"),
        ("timeout", "50"),
        ("bodies", "all"),
    ];
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    ProviderSpec { options: options.map(own).to_vec(), ..ProviderSpec::new("imap") }
}

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, window) in bytes.windows(6).enumerate() {
        if window == b"\nCUT\r\n" && parts.len() + 1 < CONNECTIONS && at >= begin {
            parts.push(&bytes[begin..=at]);
            begin = at + window.len();
        }
    }
    parts.push(&bytes[begin..]);
    parts
}

/// Answers commands until nothing is left to say.
fn serve(stream: &UnixStream, said: &[u8]) {
    let mut lines = said.split_inclusive(|byte| *byte == b'\n');
    let mut reader = BufReader::new(stream);
    let (mut line, mut tag) = (Vec::new(), Vec::new());
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let is_done = line == b"DONE\r\n";
        if tag.is_empty() && !is_done {
            tag = line.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
        }
        let literal = literal(&line);
        let may_go_on = literal.is_some() || line.ends_with(b" IDLE\r\n");
        let (mut out, mut goes_on) = (Vec::new(), None);
        for words in lines.by_ref() {
            if let Some(rest) = words.strip_prefix(b"TAG ") {
                out.extend_from_slice(&[&tag[..], b" ", rest].concat());
                goes_on = Some(false);
            } else {
                out.extend_from_slice(words);
                goes_on = (may_go_on && words.starts_with(b"+")).then_some(true);
            }
            if goes_on.is_some() {
                break;
            }
        }
        if (&*stream).write_all(&out).is_err() {
            return;
        }
        match (goes_on, literal) {
            (None, _) => break,
            (Some(false), _) => tag.clear(),
            (Some(true), Some(length)) => {
                let mut bytes = vec![0; length];
                if reader.read_exact(&mut bytes).is_err() {
                    return;
                }
            }
            (Some(true), None) => {}
        }
        line.clear();
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// The length of the literal that a line announces. The mailbox has none of many bytes.
fn literal(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix("}\r\n")?;
    let (_, digits) = text.rsplit_once('{')?;
    digits.parse().ok().filter(|length| *length < 1 << 20)
}

/// The broker, as a mailbox sees it.
struct Broker(Mutex<SqliteStore>);

impl Broker {
    /// A broker with an empty store in a directory.
    fn begin(home: &Path) -> Self {
        static EMPTY: OnceLock<(TempDir, Vec<u8>)> = OnceLock::new();
        let (_, empty) = EMPTY.get_or_init(|| {
            let home = tempfile::tempdir().expect("a directory");
            let path = home.path().join("store.db");
            let mut store = SqliteStore::new(&ProviderSpec {
                path: path.clone(),
                ..ProviderSpec::new("sqlite")
            });
            store.logon().expect("it opens");
            store.logoff().expect("it closes");
            let bytes = std::fs::read(&path).expect("it was made");
            (home, bytes)
        });
        let path = home.join("store.db");
        std::fs::write(&path, empty).expect("a file");
        let mut store = SqliteStore::new(&ProviderSpec { path, ..ProviderSpec::new("sqlite") });
        store.logon().expect("it opens");
        Self(Mutex::new(store))
    }

    fn store(&self) -> MutexGuard<'_, SqliteStore> {
        self.0.lock().expect("no panic")
    }

    fn write(&self, write: StoreWrite) -> Result<ProviderAnswer> {
        self.store().commit(vec![write], Sync::None).remove(0)
    }

    fn read(&self, question: &StoreRead) -> ProviderAnswer {
        let reader = self.store().reader();
        reader.expect("a reader").read(question).expect("it answers")
    }

    fn folders(&self) -> Vec<FolderRow> {
        match self.read(&StoreRead::Folders { after: None, limit: ROWS }) {
            ProviderAnswer::Folders { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    fn rows(&self, folder: Folder) -> Vec<ContentsRow> {
        let (sort, only) = (Sort::NEWEST, Filter::default());
        match self.read(&StoreRead::Contents { folder, sort, only, after: None, limit: ROWS }) {
            ProviderAnswer::Contents { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    /// What must hold of a store: each message is in one folder, is counted there, and can be read or is at the server.
    fn check(&self) {
        let mut records = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut reader = self.store().reader().expect("a reader");
        for folder in self.folders() {
            assert!(
                names.insert((folder.parent, folder.name.clone())),
                "{folder:?} is there twice"
            );
            let rows = self.rows(folder.folder);
            if folder.folder != Folder::OUTBOX {
                assert_eq!(folder.total, rows.len() as u64, "{folder:?}");
                let is_unread = |row: &&ContentsRow| row.flags.marks.0 & Marks::READ.0 == 0;
                assert_eq!(
                    folder.unread,
                    rows.iter().filter(is_unread).count() as u64,
                    "{folder:?}"
                );
            }
            for row in rows {
                assert!(records.insert(row.entry.record), "{row:?} is in two folders");
                match reader.open(row.entry.record) {
                    Ok(mut message) => {
                        let mut text = Vec::new();
                        message.read_to_end(&mut text).expect("it can be read");
                    }
                    Err(error) => assert_eq!(error.code, Code::E_OFFLINE, "{row:?}: {error}"),
                }
            }
        }
    }

    /// A program saves a message, moves one, flags one, deletes one, and makes a folder.
    fn change(&self, next: &mut u128) {
        *next += 1;
        let folders = self.folders();
        let others = |row: &&FolderRow| row.folder.0 > Folder::DELETED.0;
        let to = folders.iter().find(others).map_or(Folder::DELETED, |row| row.folder);
        let content = MessageContent::Inline(b"Subject: saved\r\n\r\nhi\r\n".to_vec());
        let (record, flags, now) = (*next, Flags::default(), 1_700_000_000_000);
        let mut writes = vec![
            StoreWrite::Save {
                record,
                folder: Folder::INBOX,
                content,
                flags,
                recovered: false,
                now,
            },
            StoreWrite::MakeFolder { parent: None, name: format!("Made {}", record & 0xff) },
        ];
        let records: Vec<_> = self.rows(Folder::INBOX).iter().map(|row| row.entry.record).collect();
        if let [first, second, ..] = records[..] {
            writes.push(StoreWrite::Move { record: first, to });
            let add = Flags { marks: Marks::FLAGGED, ..Flags::default() };
            let remove = Flags::default();
            writes.push(StoreWrite::SetFlags { record: second, add, remove });
        }
        if let Some(last) = records.last() {
            writes.push(StoreWrite::Delete { record: *last });
        }
        for write in writes {
            self.write(write).expect("it is written");
        }
    }
}

impl MailboxSupport for Broker {
    fn store(&self, _: u32) -> Result<Box<dyn StoreReader>> {
        self.store().reader()
    }

    fn mirror(&self, _: u32, mirror: Mirror) -> Result<()> {
        match self.write(StoreWrite::Mirror(Box::new(mirror)))? {
            ProviderAnswer::Mirrored(_) => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    fn report(&self, _: MailboxReport) {}

    fn say(&self, _: Result<()>) {}
}
