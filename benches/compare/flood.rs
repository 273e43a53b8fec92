//! A process that asks as fast as it is answered, beside one that asks one thing at a time.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use sundown_protocol::request::{Asked, LogonFlags};
use sundown_protocol::{MemberId, ObjectId, Request, RequestId, codec};

use crate::Bench;
use crate::floor::EchoSpeech;
use crate::load::{Speech, asking};
use crate::measure::{Goal, Line, Measure, Side};
use crate::wire::{self, SmallRequest};

/// Tells this program to be a flood: of what, and against which socket.
pub(crate) const FLOOD: &str = "SUNDOWN_BENCH_FLOOD";

/// Requests in one write of the flood.
const TOGETHER: u64 = 1_000;
/// Members whose states a dear request is answered with.
const MEMBERS: usize = 20;
/// Requests of a round.
const REQUESTS: usize = 500;

/// What the flood asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// As little as can be asked.
    Small,
    /// The status of a broker with [`MEMBERS`] members.
    Dear,
    /// Bytes, of a server that writes them back.
    Bytes,
}

impl Asks {
    const ALL: [Self; 3] = [Self::Small, Self::Dear, Self::Bytes];

    fn word(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Dear => "dear",
            Self::Bytes => "bytes",
        }
    }

    fn request(self, number: u64) -> Vec<u8> {
        let object = ObjectId { place: 0, generation: 0 };
        let request = match self {
            Self::Dear => Request::Status,
            Self::Small | Self::Bytes => Request::Release { member: MemberId(u64::MAX), object },
        };
        codec::encode(&Asked { id: RequestId(number), request }).expect("it is small")
    }
}

/// A process that floods while it is let.
struct Flood(Child);

impl Flood {
    /// One that waits.
    fn start(asks: Asks, socket: &Path) -> Self {
        let own = std::env::current_exe().expect("this program");
        let mut words = std::ffi::OsString::from(format!("{} ", asks.word()));
        words.push(socket);
        let flood = Self(Command::new(own).env(FLOOD, words).spawn().expect("it starts"));
        flood.signal(Signal::STOP);
        flood
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    /// The same side, beside the flood.
    fn beside(self, mut side: Side<'_>) -> Side<'_> {
        Side::new(side.name, move || {
            self.signal(Signal::CONT);
            let cost = (side.run)();
            self.signal(Signal::STOP);
            cost
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does what [`FLOOD`] says, until it is killed.
pub(crate) fn flood(words: &str) {
    let (asks, socket) = words.split_once(' ').expect("two words");
    let asks = Asks::ALL.into_iter().find(|known| known.word() == asks).expect("a known word");
    let mut writes = if asks == Asks::Bytes {
        UnixStream::connect(socket).expect("it accepts")
    } else {
        wire::connect(Path::new(socket)).stream
    };
    let mut reads = writes.try_clone().expect("a descriptor");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while reads.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let bytes: Vec<u8> = (1..=TOGETHER).flat_map(|number| asks.request(number)).collect();
    while writes.write_all(&bytes).is_ok() {}
}

impl Bench<'_> {
    /// What one that asks one thing at a time notices of a process that floods, beside what it notices of that at a bare echo.
    pub(crate) fn floods(&self) -> Vec<Line> {
        let broker = self.another("flooded", "");
        let mut members = broker.connect();
        (0..self.asked.scaled(MEMBERS)).for_each(|_| {
            members.log_on(LogonFlags::NO_MAIL);
        });
        let lines = [(Asks::Small, "small"), (Asks::Dear, "dear")].map(|(asks, word)| {
            let ours =
                self.beside_flood(asks, broker.socket(), "sundown", SmallRequest::of(&broker));
            let echo = EchoSpeech(&self.echo);
            let path = self.echo.path();
            let echo = self.beside_flood(Asks::Bytes, path, "epoll echo, flooded alike", echo);
            let name = format!("request round trip beside a flood of {word} requests");
            let measure = Measure::new(name, ours).beside(echo, Goal::AtMost(1.1));
            measure.run(self.asked.rounds)
        });
        lines.into_iter().flatten().collect()
    }

    fn beside_flood<'a, S: Speech + 'a>(
        &self,
        asks: Asks,
        socket: &Path,
        name: &'static str,
        speech: S,
    ) -> Side<'a> {
        let requests = self.asked.scaled(REQUESTS);
        Flood::start(asks, socket).beside(asking(name, speech, 1, requests, 0))
    }
}
