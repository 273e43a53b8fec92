//! Floors: what the same machine does without a broker in between.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::epoll;

use crate::load::Speech;

/// Tells this program to be the echo.
pub(crate) const ECHO: &str = "SUNDOWN_BENCH_ECHO";

/// A process that writes back what it reads: one thread, epoll, the same socket type, and a length in front.
pub(crate) struct Echo {
    child: Child,
    path: PathBuf,
}

impl Echo {
    pub(crate) fn start(path: &Path) -> Self {
        let own = std::env::current_exe().expect("this program");
        let child = Command::new(own).env(ECHO, path).spawn().expect("it starts");
        let echo = Self { child, path: path.to_owned() };
        while UnixStream::connect(path).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        echo
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> Plain {
        Plain { stream: UnixStream::connect(&self.path).expect("it accepts"), buffer: Vec::new() }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Frames of the size of a small request and its answer.
pub(crate) struct EchoSpeech<'a>(pub(crate) &'a Echo);

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
    pub(crate) fn round_trip(&mut self, bytes: usize) {
        self.buffer.resize(bytes, 0);
        self.stream.write_all(&self.buffer).expect("written");
        self.stream.read_exact(&mut self.buffer).expect("read");
    }
}

pub(crate) fn serve_echo(path: &Path) {
    let listener = UnixListener::bind(path).expect("bound");
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    epoll::add(&poll, &listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
        .expect("added");
    let mut clients: Vec<Option<UnixStream>> = vec![None];
    let mut buffer = vec![0; 64 << 10];
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).expect("events");
        for event in &events {
            let token = event.data.u64() as usize;
            if token == 0 {
                let (client, _) = listener.accept().expect("accepted");
                let data = epoll::EventData::new_u64(clients.len() as u64);
                epoll::add(&poll, &client, data, epoll::EventFlags::IN).expect("added");
                clients.push(Some(client));
                continue;
            }
            let Some(client) = &mut clients[token] else { continue };
            match client.read(&mut buffer) {
                Ok(n @ 1..) => client.write_all(&buffer[..n]).unwrap_or_default(),
                _ => clients[token] = None,
            }
        }
    }
}

/// One table, one insert a commit, synced.
pub(crate) struct SqliteFloor(rusqlite::Connection);

impl SqliteFloor {
    pub(crate) fn open(path: &Path) -> Self {
        let connection = rusqlite::Connection::open(path).expect("opened");
        let set = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;
                   CREATE TABLE message(id INTEGER PRIMARY KEY, bytes BLOB);";
        connection.execute_batch(set).expect("set up");
        Self(connection)
    }

    /// So many inserts, one commit.
    pub(crate) fn commit_together(&mut self, bytes: &[u8], messages: usize) {
        self.0.execute_batch("BEGIN").expect("begun");
        (0..messages).for_each(|_| self.commit(bytes));
        self.0.execute_batch("COMMIT").expect("committed");
    }

    pub(crate) fn commit(&mut self, bytes: &[u8]) {
        let insert = "INSERT INTO message(bytes) VALUES (?1)";
        let mut insert = self.0.prepare_cached(insert).expect("prepared");
        insert.execute([bytes]).expect("committed");
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

/// As many connections as there are members, and one loop that writes to all of them.
pub(crate) struct WriteLoop {
    near: Vec<UnixStream>,
    _far: Vec<UnixStream>,
}

impl WriteLoop {
    pub(crate) fn new(count: usize) -> Self {
        let pairs = (0..count).map(|_| UnixStream::pair().expect("a pair"));
        let (near, far) = pairs.unzip();
        Self { near, _far: far }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.near.iter_mut().for_each(|stream| stream.write_all(bytes).expect("written"));
    }
}
