//! Floors: what the same machine does without a broker in between.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::epoll;

use crate::load::Speech;

/// Tells this program to be a floor: which, and at what path.
pub(crate) const FLOOR: &str = "SUNDOWN_BENCH_FLOOR";

/// What a process of one thread, epoll and the same socket type does with what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Writes it back.
    Echo,
    /// Acknowledges it, and tells another client.
    Relay,
    /// Commits so many messages of that many bytes together, and acknowledges each.
    Store { together: usize, bytes: usize },
}

impl Does {
    /// The words that tell a floor to do this.
    fn words(self) -> String {
        match self {
            Self::Echo => "echo ".to_owned(),
            Self::Relay => "relay ".to_owned(),
            Self::Store { together, bytes } => format!("store {together} {bytes} "),
        }
    }
}

/// A process that does as little as can be done.
pub(crate) struct Floor {
    child: Child,
    path: PathBuf,
}

impl Floor {
    pub(crate) fn start(does: Does, path: &Path) -> Self {
        let own = std::env::current_exe().expect("this program");
        let mut words = std::ffi::OsString::from(does.words());
        words.push(path);
        let mut child = Command::new(own).env(FLOOR, words).spawn().expect("it starts");
        while UnixStream::connect(path).is_err() {
            assert!(child.try_wait().expect("a child").is_none(), "the floor has ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { child, path: path.to_owned() }
    }

    /// Does what [`FLOOR`] says, until it is killed.
    pub(crate) fn serve(words: &str) {
        // As the broker and the peers.
        rustix::process::setsid().expect("it leads none");
        let (does, rest) = words.split_once(' ').expect("two words");
        match does {
            "echo" => serve(Path::new(rest), |clients, token, bytes| {
                clients.get(token).write_all(bytes).is_ok()
            }),
            "relay" => {
                let mut relay = Relay::default();
                serve(Path::new(rest), move |clients, token, bytes| {
                    relay.read(clients, token, bytes)
                });
            }
            _ => {
                let mut words = rest.splitn(3, ' ');
                let mut word = || words.next().expect("a word");
                let (together, bytes) = (number(word()), number(word()));
                let path = Path::new(word());
                let mut store = Store::open(&path.with_extension("db"), together, bytes);
                serve(path, move |clients, token, bytes| store.read(clients, token, bytes));
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> Plain {
        Plain { stream: UnixStream::connect(&self.path).expect("it accepts"), buffer: Vec::new() }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The clients of a floor, by token; nobody has the first.
pub(crate) struct Served(Vec<Option<UnixStream>>);

impl Served {
    fn get(&self, token: usize) -> &UnixStream {
        self.0[token].as_ref().expect("it is connected")
    }
}

/// Accepts, reads, and has something done with it; `false` closes the connection.
fn serve(path: &Path, mut read: impl FnMut(&mut Served, usize, &[u8]) -> bool) {
    let listener = UnixListener::bind(path).expect("bound");
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    epoll::add(&poll, &listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
        .expect("added");
    let mut clients = Served(vec![None]);
    let mut buffer = vec![0; 64 << 10];
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).expect("events");
        for event in &events {
            let token = event.data.u64() as usize;
            if token == 0 {
                let (client, _) = listener.accept().expect("accepted");
                let data = epoll::EventData::new_u64(clients.0.len() as u64);
                epoll::add(&poll, &client, data, epoll::EventFlags::IN).expect("added");
                clients.0.push(Some(client));
                continue;
            }
            let Some(client) = &mut clients.0[token] else { continue };
            let some = client.read(&mut buffer).unwrap_or_default();
            if some == 0 || !read(&mut clients, token, &buffer[..some]) {
                clients.0[token] = None;
            }
        }
    }
}

/// How long a revocation of ours is, its answer, and the notification of it, with their lengths.
pub(crate) const TOLD: [usize; 3] = [40, 24, 55];

/// Who is told by whom. The first byte of a connection says which it is, and then comes the number of the pair.
#[derive(Default)]
struct Relay {
    /// The pair of each client that tells.
    pairs: std::collections::HashMap<usize, usize>,
    /// Who is told.
    told: Vec<usize>,
}

impl Relay {
    fn read(&mut self, clients: &mut Served, token: usize, bytes: &[u8]) -> bool {
        let pair = |bytes: &[u8]| usize::from(bytes[1]);
        match self.pairs.get(&token) {
            None if bytes[0] == b't' => {
                let number = pair(bytes);
                self.told.resize(self.told.len().max(number + 1), 0);
                self.told[number] = token;
                clients.get(token).write_all(b"t").is_ok()
            }
            None => {
                self.pairs.insert(token, pair(bytes));
                clients.get(token).write_all(b"s").is_ok()
            }
            Some(number) => (0..bytes.len() / TOLD[0]).all(|_| {
                clients.get(self.told[*number]).write_all(&[0; TOLD[2]]).is_ok()
                    && clients.get(token).write_all(&[0; TOLD[1]]).is_ok()
            }),
        }
    }
}

fn number(word: &str) -> usize {
    word.parse().expect("a number")
}

/// As long as our answer to a submit, with its length.
pub(crate) const ANSWER: usize = 60;

/// Takes messages, commits so many together, and then acknowledges each: what a broker that stores mail cannot do without.
struct Store {
    sqlite: SqliteFloor,
    together: usize,
    bytes: usize,
    /// What came of the message of each client.
    come: std::collections::HashMap<usize, Vec<u8>>,
    whole: Vec<usize>,
}

impl Store {
    fn open(path: &Path, together: usize, bytes: usize) -> Self {
        let (come, whole) = (std::collections::HashMap::new(), Vec::new());
        Self { sqlite: SqliteFloor::open(path), together, bytes, come, whole }
    }

    fn read(&mut self, clients: &mut Served, token: usize, bytes: &[u8]) -> bool {
        let message = self.come.entry(token).or_default();
        message.extend_from_slice(bytes);
        if message.len() < self.bytes {
            return true;
        }
        self.whole.push(token);
        if self.whole.len() < self.together {
            return true;
        }
        let Self { sqlite, whole, come, .. } = self;
        sqlite.commit_all(whole.iter().map(|token| &*come[token]));
        whole.drain(..).all(|token| {
            come.get_mut(&token).expect("it came").clear();
            clients.get(token).write_all(&[0; ANSWER]).is_ok()
        })
    }
}

/// Frames of the size of a small request and its answer.
pub(crate) struct EchoSpeech<'a>(pub(crate) &'a Floor);

/// As long as a request of ours that is about a member, with its length.
const FRAME: usize = 24;

impl Speech for EchoSpeech<'_> {
    fn connect(&mut self) -> UnixStream {
        self.0.connect().stream
    }

    fn request(&mut self, _client: usize, _number: u64, bytes: &mut Vec<u8>) {
        bytes.resize(FRAME, 0);
    }

    fn answer(&self, bytes: &[u8]) -> Option<usize> {
        (bytes.len() >= FRAME).then_some(FRAME)
    }
}

/// A client of the echo.
pub(crate) struct Plain {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Plain {
    /// The other side of a pair of a relay.
    pub(crate) fn introduce(&mut self, side: u8, pair: usize) {
        self.stream.write_all(&[side, u8::try_from(pair).expect("few pairs")]).expect("written");
        self.read(1);
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("written");
    }

    /// Reads so many bytes, with as many reads as they come in.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.buffer.resize(bytes, 0);
        self.stream.read_exact(&mut self.buffer).expect("read");
    }

    pub(crate) fn round_trip(&mut self, bytes: usize) {
        self.buffer.resize(bytes, 0);
        self.stream.write_all(&self.buffer).expect("written");
        self.stream.read_exact(&mut self.buffer).expect("read");
    }
}

/// One table, one insert a commit, synced; every 4 MiB a thread of its own moves the log into the database.
pub(crate) struct SqliteFloor {
    connection: rusqlite::Connection,
    written: usize,
    poke: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is written between two checkpoints, as the broker's store does.
const STEP: usize = 4 << 20;

impl SqliteFloor {
    pub(crate) fn open(path: &Path) -> Self {
        let open = || {
            let connection = rusqlite::Connection::open(path).expect("opened");
            let set =
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;";
            connection.execute_batch(set).expect("set up");
            connection
        };
        let connection = open();
        let table = "CREATE TABLE message(id INTEGER PRIMARY KEY, bytes BLOB);";
        connection.execute_batch(table).expect("made");
        let (poke, poked) = std::sync::mpsc::sync_channel(1);
        let other = open();
        let thread = std::thread::spawn(move || {
            while poked.recv().is_ok() {
                let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
                other.query_row(checkpoint, [], |_| Ok(())).expect("checkpointed");
            }
        });
        Self { connection, written: 0, poke: Some(poke), thread: Some(thread) }
    }

    /// So many inserts, one commit.
    pub(crate) fn commit_together(&mut self, bytes: &[u8], messages: usize) {
        self.commit_all(std::iter::repeat_n(bytes, messages));
    }

    /// One commit of all of them.
    fn commit_all<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]>) {
        self.connection.execute_batch("BEGIN").expect("begun");
        let bytes = messages.map(|bytes| {
            self.insert(bytes);
            bytes.len()
        });
        let bytes = bytes.sum();
        self.connection.execute_batch("COMMIT").expect("committed");
        self.wrote(bytes);
    }

    pub(crate) fn commit(&mut self, bytes: &[u8]) {
        self.insert(bytes);
        self.wrote(bytes.len());
    }

    fn insert(&self, bytes: &[u8]) {
        let insert = "INSERT INTO message(bytes) VALUES (?1)";
        let mut insert = self.connection.prepare_cached(insert).expect("prepared");
        insert.execute([bytes]).expect("inserted");
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written > STEP {
            self.written = 0;
            if let Some(poke) = &self.poke {
                let _ = poke.try_send(());
            }
        }
    }
}

impl Drop for SqliteFloor {
    fn drop(&mut self) {
        self.poke = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A thread that is asked and answers: what it costs to change threads, there and back.
pub(crate) struct Hop {
    ask: Option<SyncSender<()>>,
    answer: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Hop {
    pub(crate) fn start() -> Self {
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        let (answering, answer) = std::sync::mpsc::sync_channel(1);
        let thread =
            std::thread::spawn(move || while asked.recv().is_ok() && answering.send(()).is_ok() {});
        Self { ask: Some(ask), answer, thread: Some(thread) }
    }

    pub(crate) fn round_trip(&self) {
        self.ask.as_ref().expect("it runs").send(()).expect("it listens");
        self.answer.recv().expect("it answers");
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A file that is appended to and synced.
pub(crate) struct AppendFloor(std::fs::File);

impl AppendFloor {
    pub(crate) fn open(path: &Path) -> Self {
        Self(std::fs::File::options().append(true).create(true).open(path).expect("opened"))
    }

    pub(crate) fn commit(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).and_then(|()| self.0.sync_data()).expect("synced");
    }
}

/// As many connections as there are members, one loop that writes to all of them, and one that reads.
pub(crate) struct WriteLoop(Vec<(UnixStream, UnixStream)>);

impl WriteLoop {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|_| UnixStream::pair().expect("a pair")).collect())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|(near, _)| near.write_all(bytes).expect("written"));
        // As much room as any client has.
        let mut buffer = vec![0; 16 << 10];
        for (_, far) in &mut self.0 {
            assert_eq!(far.read(&mut buffer).expect("read"), bytes.len());
        }
    }
}
