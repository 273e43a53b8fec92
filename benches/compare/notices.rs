//! One process tells another, through the broker, through as little as can be, and through peers.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use sundown_protocol::request::{Folder, LogonFlags, Opening};
use sundown_protocol::{MemberId, ObjectId, Reply, Request, Token};

use crate::Bench;
use crate::bus::BusSignals;
use crate::floor::{Floor, Plain, TOLD};
use crate::load::processor_time;
use crate::measure::{Cost, Goal, Line, Measure, Side};
use crate::peers::{Address, Peer, more};
use crate::wire::{self, Broker, Client};

/// Times that all pairs are at it in a round.
const TIMES: usize = 20;
/// Before that, for all alike.
const PAUSE: Duration = Duration::from_millis(2);

impl Bench<'_> {
    pub(crate) fn notices(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for pairs in [8, 64] {
            let times = self.asked.scaled(TIMES);
            let bus = |name, peer: &Option<Peer>| {
                let peer = peer.as_ref()?;
                let signals = BusSignals::connect(peer, pairs);
                Some(telling(name, signals, (pairs, times), peer.pid()))
            };
            let redis = self.redis.as_ref().map(|redis| {
                let publish = RedisPublish::connect(redis, pairs);
                telling("redis publish, answered", publish, (pairs, times), redis.pid())
            });
            let nats = self.nats.as_ref().map(|nats| {
                let publish = NatsPublish::connect(nats, pairs);
                telling("nats publish, TCP, not answered", publish, (pairs, times), nats.pid())
            });
            let revocations = Revocations::connect(&self.broker, pairs);
            let ours = telling("sundown", revocations, (pairs, times), self.broker.pid());
            let relayed = Relayed::connect(&self.relay, pairs);
            let relay = telling("epoll relay, answered", relayed, (pairs, times), self.relay.pid());
            let measure = Measure::new(format!("notification, {pairs} pairs of processes"), ours)
                .beside(relay, Goal::Times(0.9))
                .peer(
                    "dbus-broker",
                    bus("dbus-broker signal, not answered", &self.dbus_broker),
                    Goal::Times(1.0),
                )
                .peer(
                    "dbus-daemon",
                    bus("dbus-daemon signal, not answered", &self.bus),
                    Goal::Times(1.0),
                )
                .peer("redis-server", redis, Goal::Times(1.0))
                .peer("nats-server", nats, Goal::None);
            lines.extend(measure.run(self.asked.rounds));
        }
        lines
    }
}

/// All pairs at once: each of the ones writes, then everything is read.
fn telling<'a>(
    name: &'static str,
    mut pairs: impl Tell + 'a,
    (count, times): (usize, usize),
    server: u32,
) -> Side<'a> {
    Side::new(name, move || {
        pairs.prepare(times);
        // Preparing leaves the kernel with a debt to whoever had less of the processor, which would be paid while it is timed.
        std::thread::sleep(PAUSE);
        let before = processor_time(server);
        let began = Instant::now();
        for _ in 0..times {
            (0..count).for_each(|pair| pairs.tell(pair));
            (0..count).for_each(|pair| pairs.hear(pair));
        }
        let took = began.elapsed();
        let used = processor_time(server).saturating_sub(before);
        let each = used.as_secs_f64() / (count * times) as f64;
        Cost { processor: Some(each), ..Cost::of(took, count * times) }
    })
}

/// Pairs of clients, of which one tells the other.
pub(crate) trait Tell {
    /// Before they are timed, for so many times.
    fn prepare(&mut self, _times: usize) {}

    fn tell(&mut self, pair: usize);

    /// Waits until the other of that pair has heard, and the one has its answer.
    fn hear(&mut self, pair: usize);
}

/// One has granted an object to the other and takes it back: a request, its answer, and a notification that says so. It
/// is the only one of the broker's that needs neither a store nor a logon.
struct Revocations {
    pairs: Vec<Pair>,
}

struct Pair {
    one: Client,
    member: MemberId,
    object: ObjectId,
    tokens: Vec<Token>,
    other: Client,
}

impl Revocations {
    fn connect(broker: &Broker, pairs: usize) -> Self {
        let pair = |_| {
            let (mut one, other) = (broker.connect(), broker.connect());
            let member = one.log_on(LogonFlags::default());
            let what = Opening::Folder(0, Folder::INBOX);
            let object = match one.ask(Request::Open { member, what }) {
                Ok(Reply::Opened(object)) => object,
                refused => panic!("{refused:?}"),
            };
            Pair { one, member, object, tokens: Vec::new(), other }
        };
        Self { pairs: (0..pairs).map(pair).collect() }
    }
}

impl Tell for Revocations {
    fn prepare(&mut self, times: usize) {
        for Pair { one, member, object, tokens, other } in &mut self.pairs {
            for _ in 0..times {
                let token = Token(wire::chance());
                let grant = Request::Grant { member: *member, object: *object, token, pid: None };
                one.ask(grant).expect("granted");
                other.ask(Request::Redeem { token }).expect("redeemed");
                tokens.push(token);
            }
        }
    }

    fn tell(&mut self, pair: usize) {
        let Pair { one, member, tokens, .. } = &mut self.pairs[pair];
        let token = tokens.pop().expect("as many were granted");
        one.send(Request::Revoke { member: *member, token });
    }

    fn hear(&mut self, pair: usize) {
        self.pairs[pair].other.hear();
        self.pairs[pair].one.answer().expect("revoked");
    }
}

/// The same number of messages of the same lengths.
struct Relayed {
    pairs: Vec<(Plain, Plain)>,
}

impl Relayed {
    fn connect(relay: &Floor, pairs: usize) -> Self {
        let pair = |pair| {
            let (mut one, mut other) = (relay.connect(), relay.connect());
            other.introduce(b't', pair);
            one.introduce(b's', pair);
            (one, other)
        };
        Self { pairs: (0..pairs).map(pair).collect() }
    }
}

impl Tell for Relayed {
    fn tell(&mut self, pair: usize) {
        self.pairs[pair].0.write(&[0; TOLD[0]]);
    }

    fn hear(&mut self, pair: usize) {
        let (one, other) = &mut self.pairs[pair];
        other.read(TOLD[2]);
        one.read(TOLD[1]);
    }
}

/// `PUBLISH` of one client, which redis answers, to another that has subscribed.
pub(crate) struct RedisPublish {
    pairs: Vec<(UnixStream, UnixStream)>,
    inbox: Vec<u8>,
}

impl RedisPublish {
    pub(crate) fn connect(redis: &Peer, pairs: usize) -> Self {
        let connect = |pair| {
            let mut told = redis.connect();
            write!(told, "SUBSCRIBE c{pair:02}\r\n").expect("written");
            let mut inbox = Vec::new();
            while !inbox.ends_with(b":1\r\n") {
                more(&mut told, &mut inbox);
            }
            (redis.connect(), told)
        };
        Self { pairs: (0..pairs).map(connect).collect(), inbox: Vec::new() }
    }
}

impl Tell for RedisPublish {
    fn tell(&mut self, pair: usize) {
        let publish = format!("*3\r\n$7\r\nPUBLISH\r\n$3\r\nc{pair:02}\r\n$5\r\nhello\r\n");
        self.pairs[pair].0.write_all(publish.as_bytes()).expect("written");
    }

    fn hear(&mut self, pair: usize) {
        let (teller, told) = &mut self.pairs[pair];
        for (stream, end) in [(told, b"hello\r\n".as_slice()), (teller, b":1\r\n")] {
            self.inbox.clear();
            while !self.inbox.ends_with(end) {
                more(stream, &mut self.inbox);
            }
        }
    }
}

/// `PUB` of one client to another that has subscribed. Nobody answers it.
pub(crate) struct NatsPublish {
    pairs: Vec<(TcpStream, TcpStream)>,
    inbox: Vec<u8>,
}

impl NatsPublish {
    pub(crate) fn connect(nats: &Peer, pairs: usize) -> Self {
        let connect = || {
            let Address::Port(port) = nats.address else { panic!("it listens at a port") };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut stream = TcpStream::connect(address).expect("it accepts");
            stream.set_nodelay(true).expect("it can be set");
            stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").expect("written");
            let mut inbox = Vec::new();
            while !inbox.ends_with(b"PONG\r\n") {
                more(&mut stream, &mut inbox);
            }
            stream
        };
        let pair = |pair| {
            let mut told = connect();
            write!(told, "SUB c{pair} 1\r\nPING\r\n").expect("written");
            let mut inbox = Vec::new();
            while !inbox.ends_with(b"PONG\r\n") {
                more(&mut told, &mut inbox);
            }
            (connect(), told)
        };
        Self { pairs: (0..pairs).map(pair).collect(), inbox: Vec::new() }
    }
}

impl Tell for NatsPublish {
    fn tell(&mut self, pair: usize) {
        let publish = format!("PUB c{pair} 5\r\nhello\r\n");
        self.pairs[pair].0.write_all(publish.as_bytes()).expect("written");
    }

    fn hear(&mut self, pair: usize) {
        self.inbox.clear();
        // It may also ask whether the client is still there, soon after it came.
        while !self.inbox.windows(7).any(|bytes| bytes == b"hello\r\n") {
            more(&mut self.pairs[pair].1, &mut self.inbox);
        }
    }
}
