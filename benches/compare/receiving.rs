//! Mail that comes in: how soon programs are told of it, and the newest of a mailbox, however large it is.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use rustix::fs::inotify;
use sundown_protocol::folder::{Filter, Sort};
use sundown_protocol::request::{AdviseSource, Blob, Content, LogonFlags};
use sundown_protocol::{Events, Flags, Folder, MemberId, ObjectId, Reply, Request, SubmitKey};

use crate::Bench;
use crate::growth::Growth;
use crate::measure::{Goal, Line, Measure, Side, one_by_one};
use crate::wire::{self, Broker, Client, body};

/// Messages that come in a round.
const MESSAGES: usize = 32;

/// Pages that are listed in a round.
const PAGES: usize = 50;

/// What a program shows first of a folder.
const NEWEST: u32 = 200;

impl Bench<'_> {
    pub(crate) fn receiving(&self) -> Vec<Line> {
        [1, 10].into_iter().flat_map(|count| self.told_to(count)).collect()
    }

    /// A message comes into a Maildir, and so many programs are told.
    fn told_to(&self, count: usize) -> Vec<Line> {
        let home = self.home.join(format!("told-{count}"));
        let (ours, theirs) = (Maildir::make(&home.join("ours")), Maildir::make(&home.join("bare")));
        let profile = format!("[[mailbox]]\npath = \"{}\"\n", ours.0.display());
        let broker = Broker::with(&home, "", &[("default", &profile)]);
        let mut clients: Vec<_> = (0..count).map(|_| listener(&broker)).collect();
        ours.is_watched(&broker);
        let bare = BareReader::start(&theirs, &home.join("bare.db"), count);
        let letter = body();
        let times = self.asked.scaled(MESSAGES);
        let (mut here, mut there) = (0, 0);
        let told = one_by_one(times, || {
            here += 1;
            ours.deliver(here, &letter);
            clients.iter_mut().for_each(Client::hear);
        });
        let read = one_by_one(times, || {
            there += 1;
            theirs.deliver(there, &letter);
            bare.told.iter().for_each(|mut stream| stream.read_exact(&mut [0]).expect("told"));
        });
        let programs = if count == 1 { "program" } else { "programs" };
        let name = format!("new mail of 4 kB in a Maildir, told to {count} {programs}");
        let measure = Measure::new(name, Side::new("sundown", told))
            .beside(Side::new("inotify, read, SQLite FULL commit, tell", read), Goal::AtMost(2.0));
        let lines = measure.run(self.asked.rounds);
        bare.end();
        lines
    }

    /// The newest of a folder, and what is found in it, with more and more messages.
    pub(crate) fn with_the_mailbox(&self) -> Growth {
        let mut growth =
            Growth::of("growth-mailbox", "The newest 200 and a search", "messages in the Inbox");
        let home = self.home.join("mailbox");
        let mut there = 0;
        for place in self.places(&[1_000, 10_000, 100_000, 1_000_000], usize::MAX) {
            fill(&home, there..place);
            there = place;
            let broker = Broker::again(&home);
            let mut client = broker.connect();
            let member = client.log_on(LogonFlags::NO_MAIL);
            let object = client.open_inbox(member);
            while unindexed(&mut client, member) > 0 {
                std::thread::sleep(Duration::from_millis(50));
            }
            let mut finder = broker.connect();
            let other = finder.log_on(LogonFlags::NO_MAIL);
            let newest =
                one_by_one(self.asked.scaled(PAGES), || newest(&mut client, member, object));
            let rare = one_by_one(self.asked.scaled(PAGES), || {
                assert_eq!(search(&mut finder, other, "needle").0, 1);
            });
            let measure = Measure::new("", Side::new("newest 200", newest))
                .with(Side::new("search, one message", rare));
            growth.add(place, measure.medians(self.growth_rounds()));
            let mut finder = broker.connect();
            let other = finder.log_on(LogonFlags::NO_MAIL);
            let common = one_by_one(self.asked.scaled(PAGES), || {
                assert!(search(&mut finder, other, "hello").0 > 0);
            });
            let measure = Measure::new("", Side::new("search, every message", common));
            growth.add(place, measure.medians(self.growth_rounds()));
            broker.stop();
        }
        growth
    }
}

/// A Maildir that the bench delivers into, as a local delivery agent does.
struct Maildir(PathBuf);

impl Maildir {
    fn make(path: &Path) -> Self {
        for folder in ["tmp", "new", "cur"] {
            fs::create_dir_all(path.join(folder)).expect("made");
        }
        Self(path.to_owned())
    }

    fn deliver(&self, number: usize, letter: &[u8]) {
        let name = format!("1700000000.{number}.bench");
        let tmp = self.0.join("tmp").join(&name);
        fs::write(&tmp, letter).expect("written");
        fs::rename(tmp, self.0.join("new").join(name)).expect("delivered");
    }

    /// Waits until the broker watches: what is there when it looks first is no news.
    fn is_watched(&self, broker: &Broker) {
        let mut client = listener(broker);
        for number in 1_000_000.. {
            self.deliver(number, b"Subject: is anybody there?\n\n");
            if client.hears_within(Duration::from_millis(500)) {
                return;
            }
        }
    }
}

/// A client that is told of new mail.
pub(crate) fn listener(broker: &Broker) -> Client {
    let mut client = broker.connect();
    // A mailbox watches for programs with mail.
    let member = client.log_on(LogonFlags::default());
    let (source, events) = (AdviseSource::Session, Events::NEW_MAIL);
    client.ask(Request::Advise { member, source, events }).expect("registered");
    client
}

/// As little as can be: a thread that waits for names in `new`, reads each file, writes it into a database for good, and tells.
struct BareReader {
    told: Vec<UnixStream>,
    thread: JoinHandle<()>,
    maildir: PathBuf,
}

/// The name that ends the reader.
const END: &str = "end";

impl BareReader {
    fn start(maildir: &Maildir, database: &Path, count: usize) -> Self {
        let pairs = (0..count).map(|_| UnixStream::pair().expect("a pair"));
        let (mut tells, told): (Vec<_>, Vec<_>) = pairs.unzip();
        let new = maildir.0.join("new");
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).expect("it watches");
        inotify::add_watch(&watch, &new, inotify::WatchFlags::MOVED_TO).expect("it watches");
        let mut store = crate::floor::SqliteFloor::open(database);
        let thread = std::thread::spawn(move || {
            let mut room = [std::mem::MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(&watch, &mut room);
            loop {
                let event = events.next().expect("it is told");
                let name = event.file_name().expect("a name").to_str().expect("text").to_owned();
                if name == END {
                    return;
                }
                let bytes = fs::read(new.join(name)).expect("it is there");
                store.commit(&bytes);
                for stream in &mut tells {
                    stream.write_all(&[1]).expect("told");
                }
            }
        });
        Self { told, thread, maildir: maildir.0.clone() }
    }

    fn end(self) {
        let tmp = self.maildir.join("tmp").join(END);
        fs::write(&tmp, "").expect("written");
        fs::rename(tmp, self.maildir.join("new").join(END)).expect("moved");
        self.thread.join().expect("it ends");
    }
}

/// Makes a store with a range of messages in its Inbox. The first comes from a client; the others are copies of its row with bodies of
/// their own, so that a million of them do not take an hour.
fn fill(home: &Path, numbers: std::ops::Range<usize>) {
    if numbers.start == 0 {
        let broker = Broker::with(home, "", &[("default", "[inbox]\nlocal = false\n")]);
        let mut client = broker.connect();
        let member = client.log_on(LogonFlags::NO_MAIL);
        let letter =
            b"From: Anna <anna@example.org>\nTo: bob\nSubject: hello needle\n\nhello\n".to_vec();
        let append = Request::Append {
            member,
            key: SubmitKey(wire::chance()),
            store: 0,
            folder: Folder::INBOX,
            content: Content::Inline(Blob(letter)),
            flags: Box::new(Flags::default()),
            received: Some(1),
        };
        client.ask(append).expect("appended");
        broker.stop();
    }
    let more = numbers.len() - usize::from(numbers.start == 0);
    let store = Connection::open(home.join("data/default/store.db")).expect("opened");
    let count =
        "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?1)";
    store.execute_batch("PRAGMA synchronous = OFF; BEGIN").expect("set");
    let highest = "SELECT max(seq) FROM message";
    let last: i64 = store.query_row(highest, [], |row| row.get(0)).expect("a number");
    let rows = format!(
        "{count} INSERT INTO message (seq, record, folder, body, subject, sender, recipients, size, received,
             recovered, flags)
         SELECT ?2 + n, randomblob(16), 1, ?2 + n + 1000000000, 'hello ' || n, 'Anna <anna@example.org>', 'bob',
             61, ?2 + n, 0, 0 FROM count"
    );
    store.execute(&rows, (more as i64, last)).expect("entered");
    let bodies = format!(
        "{count} INSERT INTO body (id, bytes)
         SELECT ((?2 + n + 1000000000) << 20) | 1,
             CAST('From: Anna <anna@example.org>' || char(10) || 'Subject: hello ' || printf('%08d', n) || char(10, 10) || 'hello' || char(10) AS BLOB)
         FROM count"
    );
    store.execute(&bodies, (more as i64, last)).expect("entered");
    let sizes = "UPDATE message SET size = (SELECT length(bytes) FROM body
                     WHERE body.id = (message.body << 20) | 1) WHERE seq > ?1";
    store.execute(sizes, [last]).expect("sized");
    let reserved = "UPDATE meta SET value = (SELECT max(seq) + 1 FROM message) WHERE name = 'seq'";
    store.execute(reserved, []).expect("reserved");
    store.execute_batch("COMMIT").expect("committed");
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("moved");
}

fn newest(client: &mut Client, member: MemberId, object: ObjectId) {
    let (sort, only) = (Sort::NEWEST, Filter::default());
    let page = Request::Contents { member, object, sort, only, after: None, limit: NEWEST };
    match client.ask(page) {
        Ok(Reply::Contents { rows, .. }) => assert!(!rows.is_empty()),
        other => panic!("no rows: {other:?}"),
    }
}

/// How many rows a search has on its first page, and how many messages are not in the index yet.
fn search(client: &mut Client, member: MemberId, words: &str) -> (usize, u64) {
    let (store, words, folder) = (0, words.to_owned(), None);
    match client.ask(Request::Search { member, store, words, folder, after: 0, limit: 50 }) {
        Ok(Reply::Found { rows, unindexed, .. }) => (rows.len(), unindexed),
        other => panic!("no rows: {other:?}"),
    }
}

fn unindexed(client: &mut Client, member: MemberId) -> u64 {
    search(client, member, "needle").1
}
