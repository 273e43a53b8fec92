//! The loop by hand: the test controls its turns, its reads and its clock, so that bytes arrive in the pieces that a test wants.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use mio::Interest;
use sundown_protocol::hello::{Answer, Hello, MAGIC};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::{
    AdviseSource, Asked, Blob, Content, Durability, Logoff, LogoffFlags, Logon, LogonFlags,
    Opening, ReadSource, Report, Request, Submit,
};
use sundown_protocol::{
    Code, Events as Told, Fault, MemberId, ObjectId, Reply, RequestId, SubmitKey, Version, codec,
    frame,
};

use super::*;
use crate::link::{FAREWELL, LinkState, READ};

/// How long a step may take. A test that passes does not wait for it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A profile whose mail waits for a retry.
const STUCK: &str = "[[transport]]\nkind = \"maildir\"\npath = \"/dev/null/nowhere\"\n";

/// A request that costs no credit and is refused.
const NOTHING_TO_RELEASE: Request =
    Request::Release { member: MemberId(u64::MAX), object: ObjectId { place: 0, generation: 0 } };

/// A broker whose loop turns when the test calls for it.
struct ByHand {
    server: Server,
    events: Events,
    socket: PathBuf,
    _root: tempfile::TempDir,
}

impl ByHand {
    fn new() -> Self {
        Self::with_settings("")
    }

    fn with_settings(settings: &str) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir(path("profiles")).expect("made");
        std::fs::write(path("profiles/default.toml"), STUCK).expect("written");
        std::fs::write(path("sundown.toml"), settings).expect("written");
        let locations = Locations {
            socket: path("run/broker.sock"),
            data: path("data"),
            settings: vec![path("sundown.toml")],
            required: None,
            profiles: vec![path("profiles")],
            home: None,
            runtime: None,
        };
        let (socket, registry) = (locations.socket.clone(), Registry::shipped());
        let server = Server::start(Options { locations, registry, passed: Vec::new() });
        let (mut server, events) = (server.expect("it starts"), Events::with_capacity(1024));
        server.connections.believe_clients();
        Self { server, events, socket, _root: root }
    }

    /// Does one turn of the loop, which waits for an event.
    fn turn(&mut self) {
        self.turn_within(DEADLINE);
    }

    /// Does one turn of the loop with the present events.
    fn turn_now(&mut self) {
        self.turn_within(Duration::ZERO);
    }

    fn turn_within(&mut self, patience: Duration) {
        let more = self.server.connections.is_turn_waited_for();
        let waits = if more { Duration::ZERO } else { patience };
        self.server.poll.poll(&mut self.events, Some(waits)).expect("it can be waited for");
        assert!(waits < DEADLINE || !self.events.is_empty(), "nothing happens");
        self.server.clock.read();
        self.server.turn(&self.events);
    }

    fn turn_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            assert!(since.elapsed() < DEADLINE, "waiting for {what}");
            self.turn();
        }
    }

    /// Connects a peer that says nothing.
    fn connect(&self) -> Peer {
        let socket = UnixStream::connect(&self.socket).expect("it listens");
        socket.set_nonblocking(true).expect("set");
        Peer { socket, heard: Vec::new(), asked: 0, ended: false, member: MemberId(0) }
    }

    /// Connects a process, one for each image, that has said hello.
    fn process(&mut self, image: u8) -> Peer {
        let mut peer = self.connect();
        self.say(&mut peer, &hello(image));
        while peer.welcomes() == 0 {
            self.turn();
            peer.hear();
        }
        peer.heard.remove(0);
        peer
    }

    /// Logs a member on to the shared session.
    fn member(&mut self, image: u8) -> Peer {
        let mut peer = self.process(image);
        let asked = peer.asks(logon());
        self.say(&mut peer, &asked);
        match self.answer(&mut peer) {
            Ok(Reply::LoggedOn(on)) => peer.member = on.member,
            other => panic!("{other:?}"),
        }
        peer
    }

    /// Sends bytes of a peer, however many the socket takes at once.
    fn say(&mut self, peer: &mut Peer, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match peer.socket.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.turn_now(),
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// The same, but the broker may end the connection meanwhile.
    fn say_or_end(peer: &mut Peer, bytes: &[u8]) {
        match peer.socket.write(bytes) {
            Ok(n) => assert_eq!(n, bytes.len(), "the broker reads"),
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
            Err(e) => panic!("{e}"),
        }
    }

    /// Waits for the next answer to a peer.
    fn answer(&mut self, peer: &mut Peer) -> std::result::Result<Reply, Fault> {
        loop {
            let is_answer = |m: &FromBroker| matches!(m, FromBroker::Answer { .. });
            if let Some(place) = peer.messages().iter().position(is_answer) {
                let FromBroker::Answer { result, .. } = peer.messages().remove(place) else {
                    unreachable!("it was looked at")
                };
                peer.heard.drain(..=place);
                return result;
            }
            assert!(!peer.ended, "the connection has ended");
            self.turn();
            peer.hear();
        }
    }

    /// Reads all messages to a peer until the connection ends.
    fn until_end(&mut self, peer: &mut Peer) {
        peer.hear();
        while !peer.ended {
            self.turn();
            peer.hear();
        }
    }

    /// How many messages are stored in the broker's queue.
    fn queued(&self) -> u64 {
        self.server.broker.figures().queue.iter().sum()
    }

    fn members(&self) -> u64 {
        self.server.broker.figures().members.values().sum()
    }
}

/// A connection to the broker.
struct Peer {
    socket: UnixStream,
    /// The frames that the peer got.
    heard: Vec<Vec<u8>>,
    asked: u64,
    /// Whether the broker has closed its end.
    ended: bool,
    member: MemberId,
}

impl Peer {
    /// Encodes a request.
    fn asks(&mut self, request: Request) -> Vec<u8> {
        self.asked += 1;
        codec::encode(&Asked { id: RequestId(self.asked), request }).expect("it encodes")
    }

    /// Encodes this many requests for the status, which cost no credit.
    fn asks_for_status(&mut self, times: usize) -> Vec<u8> {
        (0..times).flat_map(|_| self.asks(Request::Status)).collect()
    }

    fn asks_to_submit(&mut self, key: u128) -> Vec<u8> {
        let request = Request::Submit(Submit {
            member: self.member,
            store: 0,
            key: SubmitKey(key),
            from: None,
            recipients: vec!["anna@localhost".into()],
            content: Content::Inline(Blob(b"Subject: x\n\nx\n".to_vec())),
            when: Durability::Durable,
            report: Report::default(),
        });
        self.asks(request)
    }

    fn asks_to_leave(&mut self, drain: Option<u64>) -> Vec<u8> {
        let (member, flags) = (self.member, LogoffFlags::default());
        self.asks(Request::Logoff(Logoff { member, flags, drain }))
    }

    /// Reads what has arrived.
    fn hear(&mut self) {
        let mut bytes = Vec::new();
        match (&self.socket).read_to_end(&mut bytes) {
            Ok(_) => self.ended = true,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => self.ended = true,
            Err(e) => panic!("{e}"),
        }
        let begun = self.heard.pop_if(|last| !matches!(frame::cut(last), Ok(Some(_))));
        let bytes = [begun.unwrap_or_default(), bytes].concat();
        let mut rest = &bytes[..];
        while let Some((_, taken)) = frame::cut(rest).expect("frames") {
            self.heard.push(rest[..taken].to_vec());
            rest = &rest[taken..];
        }
        if !rest.is_empty() {
            self.heard.push(rest.to_vec());
        }
    }

    fn whole(&self) -> impl Iterator<Item = &[u8]> {
        self.heard.iter().map_while(|bytes| Some(frame::cut(bytes).ok()??.0))
    }

    fn welcomes(&self) -> usize {
        let welcome = |payload: &&[u8]| matches!(codec::decode(payload), Ok(Answer::Welcome(_)));
        self.whole().filter(welcome).count()
    }

    /// The messages that the peer got after its welcome.
    fn messages(&self) -> Vec<FromBroker> {
        self.whole().map(|payload| codec::decode(payload).expect("a message")).collect()
    }

    /// The numbers of the answered requests, sorted.
    fn answered(&self) -> Vec<u64> {
        let number = |message| match message {
            FromBroker::Answer { id, .. } => Some(id.0),
            FromBroker::Notify(_) | FromBroker::Goodbye(_) => None,
        };
        let mut answered: Vec<_> = self.messages().into_iter().filter_map(number).collect();
        answered.sort_unstable();
        answered
    }

    fn goodbye(&self) -> Option<Code> {
        self.messages().into_iter().find_map(|message| match message {
            FromBroker::Goodbye(why) => Some(why.code),
            FromBroker::Answer { .. } | FromBroker::Notify(_) => None,
        })
    }

    fn closes_half(&self) {
        self.socket.shutdown(Shutdown::Write).expect("it is connected");
    }
}

fn hello(image: u8) -> Vec<u8> {
    let (oldest, newest) = (Version::OLDEST as u16, Version::NEWEST as u16);
    let (image, library) = ([image; 16], [image; 16]);
    let hello = Hello { magic: MAGIC, oldest, newest, image, library, program: "test".into() };
    codec::encode(&hello).expect("it encodes")
}

fn logon() -> Request {
    Request::Logon(Logon { profile: None, flags: LogonFlags::default() })
}

/// Pseudo-random numbers, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % most
    }
}

/// A submission is stored, behind any number of requests, although its peer has closed both ends.
#[test]
fn what_was_sent_before_a_close_is_applied() {
    let mut broker = ByHand::new();
    let _stays = broker.member(1);
    for count in 0..=200 {
        let mut peer = broker.member(2);
        let mut bytes = peer.asks_for_status(count);
        bytes.extend(peer.asks_to_submit(count as u128 + 1));
        broker.say(&mut peer, &bytes);
        drop(peer);
        broker.turn_until("the peer's end", |broker| broker.server.connections.links().len() == 1);
        broker.turn_until("its submission", |broker| broker.queued() == count as u64 + 1);
    }
    assert_eq!(broker.members(), 1);
}

/// A peer that has closed its sending end gets all answers, also those that need a disk, and then the connection ends.
#[test]
fn what_was_asked_before_a_half_close_is_answered() {
    let mut broker = ByHand::new();
    for count in 0..=200 {
        let mut peer = broker.member(2);
        let mut bytes = peer.asks_for_status(count);
        bytes.extend(peer.asks_to_submit(count as u128 + 1));
        broker.say(&mut peer, &bytes);
        peer.closes_half();
        broker.until_end(&mut peer);
        assert_eq!(peer.answered(), (2..=peer.asked).collect::<Vec<_>>(), "{count} in front");
        assert_eq!((broker.queued(), broker.members()), (count as u64 + 1, 0));
        assert!(
            broker.server.connections.deadlines().is_empty()
                && broker.server.connections.links().len() == 0
        );
    }
}

/// The same bytes, hello included, lead to the same answers, wherever they are cut and whenever the end is read.
#[test]
fn cuts_change_nothing() {
    let mut broker = ByHand::new();
    let none = MemberId(u64::MAX);
    let mut unconnected = broker.connect();
    let mut bytes = hello(3);
    let source = AdviseSource::Session;
    for request in [
        Request::Flush { member: none },
        Request::Advise { member: none, source, events: Told::CRITICAL_ERROR },
        Request::QueryFastShutdown,
    ] {
        bytes.extend(unconnected.asks(request));
    }
    let whole: Vec<_> = {
        broker.say(&mut unconnected, &bytes);
        unconnected.closes_half();
        broker.until_end(&mut unconnected);
        unconnected.heard
    };
    assert_eq!(whole.len(), 4, "a welcome and three answers");
    for cut in 0..=bytes.len() {
        for ends_with_the_last in [false, true] {
            let mut peer = broker.connect();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                broker.say(&mut peer, piece);
                if !(ends_with_the_last && piece.len() == bytes.len() - cut) {
                    broker.turn_now();
                    broker.turn_now();
                }
            }
            peer.closes_half();
            broker.until_end(&mut peer);
            assert_eq!(peer.heard, whole, "cut at {cut}");
        }
    }
}

/// The same for many requests in many random pieces, of which some are as long as a read takes.
#[test]
fn pieces_by_chance_change_nothing() {
    let mut broker = ByHand::new();
    let request = Request::Flush { member: MemberId(u64::MAX) };
    let long = |n: usize| Request::DeleteProfile { name: "/".repeat(n) };
    let mut chance = Chance(7);
    for round in 0..30 {
        let mut peer = broker.process(4);
        let mut bytes = Vec::new();
        while bytes.len() < 3 * READ {
            let many = chance.below(200);
            bytes.extend((0..many).flat_map(|_| peer.asks(request.clone())));
            bytes.extend(peer.asks(long(chance.below(2 * READ))));
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let size = match chance.below(4) {
                0 => READ,
                1 => READ + 1 - chance.below(3),
                2 => 1 + chance.below(40),
                _ => 1 + chance.below(100_000),
            };
            let (now, later) = rest.split_at(size.min(rest.len()));
            broker.say(&mut peer, now);
            (0..chance.below(3)).for_each(|_| broker.turn_now());
            peer.hear();
            rest = later;
        }
        peer.closes_half();
        broker.until_end(&mut peer);
        assert_eq!(peer.answered(), (1..=peer.asked).collect::<Vec<_>>(), "round {round}");
    }
}

/// Exactly as many bytes as a read takes, with the end behind them: reported with them, or later.
#[test]
fn an_end_behind_a_full_read_is_met() {
    let mut broker = ByHand::new();
    for (reads, ends_with_the_last) in [(1, true), (1, false), (2, true), (2, false)] {
        let mut peer = broker.process(5);
        let mut bytes = peer.asks_for_status(70);
        let room = reads * READ - bytes.len() - peer.asks(long_name(0)).len();
        peer.asked -= 1;
        bytes.extend(peer.asks(long_name(room)));
        assert_eq!(bytes.len(), reads * READ);
        broker.say(&mut peer, &bytes);
        if !ends_with_the_last {
            (0..5).for_each(|_| broker.turn_now());
        }
        peer.closes_half();
        broker.until_end(&mut peer);
        assert_eq!(peer.answered(), (1..=71).collect::<Vec<_>>(), "{reads} reads");
    }
}

/// A request that is refused, of any length.
fn long_name(length: usize) -> Request {
    Request::DeleteProfile { name: "/".repeat(length) }
}

/// A connection that was closed before the broker accepted it is read to its end, hello included.
#[test]
fn a_connection_that_ended_before_it_was_accepted_is_active() {
    let mut broker = ByHand::new();
    let _stays = broker.member(1);
    let mut peer = broker.connect();
    let bytes = [hello(2), peer.asks_for_status(100), peer.asks(logon())].concat();
    broker.say(&mut peer, &bytes);
    drop(peer);
    let disconnected = |broker: &ByHand| broker.server.broker.figures().departures[2];
    broker.turn_until("its member's departure", |broker| disconnected(broker) == 1);
    assert_eq!(broker.members(), 1);
}

/// Descriptors that a peer sends with its bytes cut reads short, and so does an out-of-band byte. The bytes behind are read at the
/// end at the latest.
#[test]
fn what_cuts_reads_short_hides_nothing() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
    let mut broker = ByHand::new();
    for out_of_band in [false, true] {
        let mut peer = broker.process(2);
        let asks: Vec<_> = (0..4).map(|_| peer.asks_for_status(50)).collect();
        for (place, bytes) in asks.iter().enumerate() {
            if out_of_band {
                broker.say(&mut peer, bytes);
                if place == 1 {
                    // It is not part of the stream, as long as no other follows.
                    send(&peer.socket, b"!", SendFlags::OOB).expect("sent");
                }
                continue;
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            let passed = [peer.socket.as_fd()];
            assert!(beside.push(SendAncillaryMessage::ScmRights(&passed)));
            let pieces = [io::IoSlice::new(bytes)];
            let sent = sendmsg(&peer.socket, &pieces, &mut beside, SendFlags::empty());
            assert_eq!(sent.expect("sent"), bytes.len());
        }
        peer.closes_half();
        broker.until_end(&mut peer);
        assert_eq!(peer.answered(), (1..=200).collect::<Vec<_>>(), "out of band: {out_of_band}");
    }
}

/// A half-closed connection is kept for a slow answer, gets its member's notifications meanwhile, and is given up at its deadline.
/// Then its member is gone, as after a disconnect.
#[test]
fn an_answer_that_takes_long_is_waited_for_until_the_deadline() {
    let mut broker = ByHand::new();
    let mut peer = broker.member(2);
    let (member, source) = (peer.member, AdviseSource::Session);
    let mut bytes = peer.asks(Request::Advise { member, source, events: Told::EXTENDED });
    bytes.extend(peer.asks_to_submit(1));
    bytes.extend(peer.asks_to_leave(Some(3_600_000)));
    broker.say(&mut peer, &bytes);
    peer.closes_half();
    while peer.answered().len() < 2 {
        broker.turn();
        peer.hear();
    }
    // Another member logs on and leaves, and this one is told.
    let told = peer.messages().len();
    let mut other = broker.member(3);
    let leaves = other.asks_to_leave(None);
    broker.say(&mut other, &leaves);
    broker.answer(&mut other).expect("it logs off");
    peer.hear();
    assert!(peer.messages().len() > told && !peer.ended);
    drop(other);
    let until = *broker.server.connections.deadlines().first().expect("it has one");
    broker.turn_until("the other's end", |broker| broker.server.connections.links().len() == 1);
    broker.server.clock.set(until.checked_sub(Duration::from_millis(1)).expect("a time"));
    broker.server.tell_time();
    assert_eq!(broker.members(), 1);
    broker.server.clock.set(until);
    broker.server.tell_time();
    assert_eq!(broker.members(), 0);
    assert!(
        broker.server.connections.links().len() == 0
            && broker.server.connections.deadlines().is_empty()
    );
    peer.hear();
    assert_eq!((peer.answered(), peer.ended), (vec![2, 3], true), "the logoff is not answered");
    assert_eq!(broker.server.broker.figures().departures, [1, 0, 1, 0, 0]);
}

/// A peer that closes its sending end and then the other, too, waits for no slow answers.
#[test]
fn the_other_half_ends_what_waits_for_an_answer() {
    let mut broker = ByHand::new();
    let mut peer = broker.member(2);
    let bytes = [peer.asks_to_submit(1), peer.asks_to_leave(Some(3_600_000))].concat();
    broker.say(&mut peer, &bytes);
    peer.closes_half();
    while peer.answered().is_empty() {
        broker.turn();
        peer.hear();
    }
    assert_eq!((broker.members(), broker.server.connections.deadlines().len()), (1, 1));
    drop(peer);
    broker.turn();
    assert_eq!((broker.members(), broker.server.connections.deadlines().len()), (0, 0));
    assert!(
        broker.server.connections.links().len() == 0 && broker.server.processes.links().is_empty()
    );
}

/// A half-closed connection that expects no answer ends at once: no member of a program that died is kept.
#[test]
fn with_nothing_to_be_answered_a_half_close_is_the_end() {
    let mut broker = ByHand::new();
    let mut peer = broker.member(2);
    peer.closes_half();
    broker.turn();
    assert_eq!(broker.members(), 0);
    peer.hear();
    assert!(peer.ended);
}

/// A peer that has closed only its reading end is still heard: answers are dropped, requests are applied.
#[test]
fn a_peer_that_only_sends_is_active() {
    let mut broker = ByHand::new();
    let mut peer = broker.member(2);
    peer.socket.shutdown(Shutdown::Read).expect("it is connected");
    for key in 1..=3 {
        let bytes = [peer.asks_for_status(100), peer.asks_to_submit(key)].concat();
        broker.say(&mut peer, &bytes);
        broker.turn_until("the submission", |broker| broker.queued() == key as u64);
    }
    assert_eq!(broker.members(), 1);
    peer.closes_half();
    broker.turn();
    assert_eq!(broker.members(), 0);
}

/// A connection that has ended gets one turn in each round, like any other: a peer that asks meanwhile is answered in the same
/// round. A thousand requests of each of twenty such connections are applied nevertheless.
#[test]
fn a_crowd_that_has_ended_takes_turns() {
    let mut broker = ByHand::new();
    let mut bystander = broker.member(1);
    let mut crowd: Vec<_> = (0..20).map(|_| broker.member(2)).collect();
    for (key, peer) in crowd.iter_mut().enumerate() {
        let flush = Request::Flush { member: MemberId(u64::MAX) };
        let bytes: Vec<u8> = (0..1_000).flat_map(|_| peer.asks(NOTHING_TO_RELEASE)).collect();
        let bytes = [bytes, peer.asks(flush), peer.asks_to_submit(key as u128 + 1)].concat();
        peer.socket.set_nonblocking(false).expect("set");
        peer.socket.write_all(&bytes).expect("it fits into the socket");
    }
    drop(crowd);
    let mut rounds = 0;
    while broker.server.connections.links().len() > 1 {
        let status = bystander.asks(Request::Status);
        broker.say(&mut bystander, &status);
        broker.turn_now();
        bystander.hear();
        rounds += 1;
        assert_eq!(bystander.answered().len(), rounds, "it is answered in its round");
    }
    assert!(rounds > 10, "they were done in {rounds} rounds");
    broker.turn_until("all submissions", |broker| broker.queued() == 20);
    assert_eq!(broker.members(), 1);
}

/// Requests that wait for their turn stay in the socket, so that a peer that asks faster than its turns come is not disconnected.
#[test]
fn a_flood_of_free_requests_waits_in_the_socket() {
    let mut broker = ByHand::with_settings("[limits]\noutbox_bytes = \"1MiB\"\n");
    let mut peer = broker.process(2);
    for _ in 0..100 {
        let flood: Vec<u8> = (0..1_000).flat_map(|_| peer.asks(NOTHING_TO_RELEASE)).collect();
        broker.say_and_hear(&mut peer, flood);
    }
    peer.closes_half();
    broker.until_end(&mut peer);
    assert_eq!((peer.goodbye(), peer.answered().len()), (None, 100_000));
}

/// Any number of flooding connections are one process: another process is answered in each turn of the loop, behind one share of
/// theirs.
#[test]
fn a_flood_of_many_connections_is_one_share() {
    let mut broker = ByHand::new();
    let mut bystander = broker.process(1);
    let mut flood: Vec<_> = (0..40).map(|_| broker.process(2)).collect();
    for peer in &mut flood {
        let bytes: Vec<u8> = (0..1_000).flat_map(|_| peer.asks(NOTHING_TO_RELEASE)).collect();
        peer.socket.write_all(&bytes).expect("it fits into the socket");
    }
    for round in 1..=100 {
        let status = bystander.asks(Request::Status);
        broker.say(&mut bystander, &status);
        broker.turn_now();
        bystander.hear();
        assert_eq!(bystander.answered().len(), round, "it is answered in its turn");
        let answered = flood.iter_mut().map(|peer| {
            peer.hear();
            peer.answered().len()
        });
        assert_eq!(answered.sum::<usize>(), round * 64);
    }
}

/// Unfinished requests count for the sums like unread messages, also before a hello: a crowd of connections that only begin
/// requests has one limit.
#[test]
fn what_a_crowd_has_begun_has_a_limit() {
    let mut broker = ByHand::with_settings("[limits]\ntotal_outbox_bytes = \"1MiB\"\n");
    let mut bystander = broker.process(1);
    let begun = [&frame::MAX_PAYLOAD.to_le_bytes()[..], &vec![0; 60_000]].concat();
    let mut crowd = Vec::new();
    for n in 0..60 {
        let mut peer = if n % 2 == 0 { broker.process(2 + n) } else { broker.connect() };
        broker.say(&mut peer, &begun);
        broker.turn_now();
        broker.turn_now();
        assert!(
            broker.server.connections.waiting() <= 1 << 20,
            "{n}: {}",
            broker.server.connections.waiting()
        );
        crowd.push(peer);
    }
    let left = broker.server.connections.links().len();
    assert!((10..30).contains(&left), "{left} are left");
    let status = bystander.asks(Request::Status);
    broker.say(&mut bystander, &status);
    broker.answer(&mut bystander).expect("it goes on");
}

/// A read without a request is part of a share, too: a crowd that says hello, or begins requests, gets no more of a turn than a
/// crowd that asks.
#[test]
fn a_crowd_that_asks_nothing_has_its_share() {
    let mut broker = ByHand::new();
    let mut crowd: Vec<_> = (0..300).map(|_| broker.connect()).collect();
    broker.turn_until("all are accepted", |broker| broker.server.connections.links().len() == 300);
    for (n, peer) in crowd.iter_mut().enumerate() {
        let hello = hello(u8::try_from(n % 200).expect("a byte"));
        peer.socket.write_all(&hello).expect("it fits into the socket");
    }
    let opened = |broker: &ByHand| {
        broker
            .server
            .connections
            .links()
            .filter(|link| matches!(link.state, LinkState::Open(_)))
            .count()
    };
    broker.turn_now();
    assert_eq!(opened(&broker), 256);
    broker.turn_now();
    assert_eq!(opened(&broker), 300);
}

/// A peer that sends until nothing more fits, and only then reads, still gets its goodbye.
#[test]
fn a_goodbye_is_not_lost_to_one_that_is_busy_sending() {
    let mut broker = ByHand::new();
    let mut peer = broker.process(2);
    // The answers fill the socket, so that the goodbye does not fit.
    let mut asked = 0;
    while broker.server.connections.links().all(|link| link.wants == Interest::READABLE) {
        let bytes = peer.asks_for_status(64);
        broker.say(&mut peer, &bytes);
        broker.turn_now();
        asked += 64;
    }
    broker.say(&mut peer, &[0; 8]);
    broker.turn_now();
    assert!(broker.server.connections.links().all(|link| link.state == LinkState::Closing));
    for _ in 0..100 {
        broker.say(&mut peer, &[7; 10_000]);
    }
    broker.until_end(&mut peer);
    assert_eq!((peer.goodbye(), peer.answered().len()), (Some(Code::E_CORRUPT_DATA), asked));
}

/// An unread goodbye is kept until its deadline. Meanwhile its process is charged for it, also for a new connection.
#[test]
fn a_goodbye_that_close_output_is_paid_for() {
    let mut broker = ByHand::with_settings("[limits]\noutbox_bytes = \"1MiB\"\n");
    let mut peer = broker.process(2);
    while broker.server.connections.links().all(|link| link.wants == Interest::READABLE) {
        let bytes = peer.asks_for_status(64);
        broker.say(&mut peer, &bytes);
        broker.turn_now();
    }
    broker.say(&mut peer, &[0; 8]);
    broker.turn_now();
    let _again = broker.process(2);
    let connections = broker.server.processes.links();
    assert_eq!((broker.server.connections.links().len(), connections), (2, vec![2]));
    let until = *broker.server.connections.deadlines().first().expect("it has one");
    assert!(until - broker.server.clock.now() <= FAREWELL);
    broker.server.clock.set(until.checked_sub(Duration::from_millis(1)).expect("a time"));
    broker.server.tell_time();
    assert_eq!(broker.server.connections.links().len(), 2);
    assert_eq!(broker.server.soonest(), Some(until), "the loop wakes for that");
    broker.server.clock.set(until);
    broker.server.tell_time();
    assert_eq!(
        (broker.server.connections.links().len(), broker.server.connections.deadlines().len()),
        (1, 0)
    );
}

/// The bytes that wait for all together have a limit. Beyond it the connections with the most waiting bytes end first, until a
/// quarter is free: a peer that reads a little late, and a peer that reads at once, stay connected.
#[test]
fn who_has_most_waiting_ends_first() {
    let mut broker = ByHand::with_settings("[limits]\ntotal_outbox_bytes = \"1MiB\"\n");
    let mut reads = broker.process(1);
    let mut late = broker.process(2);
    let most: Vec<_> = (0..3).map(|_| broker.process(3)).collect();
    let mut asked = 0;
    let full = |broker: &ByHand| {
        broker.server.connections.links().filter(|link| link.wants != Interest::READABLE).count()
    };
    while full(&broker) == 0 {
        let bytes = late.asks_for_status(64);
        broker.say(&mut late, &bytes);
        broker.turn_now();
        asked += 64;
    }
    let mut highest = 0;
    for mut greedy in most {
        let before = broker.server.connections.links().len();
        while broker.server.connections.links().len() == before {
            let bytes = greedy.asks_for_status(64);
            ByHand::say_or_end(&mut greedy, &bytes);
            broker.turn_now();
            highest = highest.max(broker.server.connections.waiting());
        }
    }
    assert_eq!(broker.server.connections.links().len(), 2);
    assert!(highest > 1 << 19, "much waited");
    assert!(highest <= (1 << 20) + frame::MAX_PAYLOAD as usize, "{highest} bytes waited");
    let status = reads.asks(Request::Status);
    broker.say(&mut reads, &status);
    broker.answer(&mut reads).expect("it goes on");
    late.closes_half();
    broker.until_end(&mut late);
    assert_eq!((late.goodbye(), late.answered().len()), (None, asked));
    broker.turn_until("all is read", |broker| broker.server.connections.waiting() == 0);
}

/// Bytes beyond the account end a connection at once, even if the peer has closed its sending end and waits for an answer. A
/// request that the peer can no longer finish is not kept.
#[test]
fn an_overdraft_ends_at_once() {
    let mut broker = ByHand::with_settings("[limits]\noutbox_bytes = \"1MiB\"\n");
    let begun = [&frame::MAX_PAYLOAD.to_le_bytes()[..], &vec![0; 60_000]].concat();
    let most = (1 << 20) / begun.len();
    for closes in [false, true] {
        let mut peers: Vec<_> = (0..30).map(|_| broker.member(2)).collect();
        for (key, peer) in peers.iter_mut().enumerate() {
            let key = key as u128 + if closes { 1_000 } else { 1 };
            let waits = [peer.asks_to_submit(key), peer.asks_to_leave(Some(3_600_000))].concat();
            broker.say(peer, &waits);
            while peer.answered().is_empty() {
                broker.turn();
                peer.hear();
            }
            broker.say(peer, &begun);
            if closes {
                peer.closes_half();
            }
        }
        (0..5).for_each(|_| broker.turn_now());
        let left = broker.server.connections.links().len();
        if closes {
            assert_eq!(left, 30, "none of them holds what it began");
        } else {
            assert!((1..=most).contains(&left), "{left} are left");
        }
        drop(peers);
        broker.turn_until("all ends", |broker| broker.server.connections.links().len() == 0);
        assert_eq!((broker.members(), broker.server.connections.deadlines().len()), (0, 0));
    }
}

/// The smallest room that settings allow a process.
const LEAST: &str = "[limits]\noutbox_bytes = \"1MiB\"\n";

/// Room for all answers of these tests.
const FOUR: &str = "[limits]\noutbox_bytes = \"4MiB\"\n";

/// What waits for a client that does not read: a quarter of the smallest room, and requests that were read after that.
const QUARTER: std::ops::Range<usize> = 256 << 10..384 << 10;

impl ByHand {
    /// Sends what the peer's socket takes, without reading, until the broker reads no more of it. Returns the rest.
    fn is_asked_until_it_stops(&mut self, peer: &mut Peer, mut bytes: Vec<u8>) -> Vec<u8> {
        loop {
            let said = peer.says_some(&mut bytes);
            self.turn_now();
            if said == 0 && !self.server.connections.is_turn_waited_for() {
                return bytes;
            }
        }
    }

    /// Sends these bytes, and reads what arrives meanwhile.
    fn say_and_hear(&mut self, peer: &mut Peer, mut bytes: Vec<u8>) {
        while !bytes.is_empty() {
            peer.says_some(&mut bytes);
            self.turn_now();
            peer.hear();
        }
    }
}

impl Peer {
    fn says_some(&mut self, bytes: &mut Vec<u8>) -> usize {
        match self.socket.write(bytes) {
            Ok(n) => bytes.drain(..n).len(),
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => panic!("{e}"),
        }
    }
}

/// A client that asks without reading gets a quarter of its room, however much it asks. Then it holds up only itself: another
/// connection of its process, and another process, are answered. When it reads it gets all answers.
#[test]
fn a_client_that_does_not_read_is_read_no_further() {
    let mut broker = ByHand::with_settings(LEAST);
    let mut deaf = broker.process(2);
    let mut beside = broker.process(2);
    let mut bystander = broker.process(1);
    let asks = deaf.asks_for_status(30_000);
    let unsaid = broker.is_asked_until_it_stops(&mut deaf, asks);
    let waits = broker.server.connections.waiting();
    assert!(!unsaid.is_empty(), "all was read");
    assert!(QUARTER.contains(&waits), "{waits} bytes wait");
    for peer in [&mut beside, &mut bystander] {
        let status = peer.asks_for_status(100);
        broker.say_and_hear(peer, status);
        while peer.answered().len() < 100 {
            broker.turn();
            peer.hear();
        }
    }
    broker.say_and_hear(&mut deaf, unsaid);
    deaf.closes_half();
    broker.until_end(&mut deaf);
    assert_eq!((deaf.goodbye(), deaf.answered().len()), (None, 30_000));
    assert_eq!(broker.server.connections.waiting(), 0);
}

/// Requests that were sent before an end are carried out, even if the client has read nothing.
#[test]
fn a_client_that_is_gone_is_not_waited_for() {
    let mut broker = ByHand::with_settings(LEAST);
    let mut deaf = broker.member(2);
    let asks = [deaf.asks_for_status(5_000), deaf.asks_to_submit(1)].concat();
    let unsaid = broker.is_asked_until_it_stops(&mut deaf, asks);
    assert_eq!((unsaid.len(), broker.queued()), (0, 0), "the submission waits");
    drop(deaf);
    broker.turn_until("its end", |broker| broker.members() == 0);
    broker.turn_until("the submission", |broker| broker.queued() == 1);
}

/// Requests that were sent before a half-close are carried out, even if the client reads only afterwards. It gets every answer.
#[test]
fn a_half_close_waits_for_no_reader() {
    let mut broker = ByHand::with_settings(FOUR);
    let mut late = broker.member(2);
    let asks = [late.asks_for_status(4_000), late.asks_to_submit(1)].concat();
    let unsaid = broker.is_asked_until_it_stops(&mut late, asks);
    assert_eq!((unsaid.len(), broker.queued()), (0, 0), "the submission waits");
    late.closes_half();
    broker.turn_until("the submission", |broker| broker.queued() == 1);
    broker.until_end(&mut late);
    assert_eq!(late.answered(), (2..=late.asked).collect::<Vec<_>>());
    assert_eq!((broker.members(), broker.server.connections.waiting()), (0, 0));
}

/// All requests of a process that has ended are applied, although another process holds its socket and does not read.
#[test]
fn requests_of_a_process_that_has_ended_wait_for_no_reader() {
    let mut broker = ByHand::with_settings(FOUR);
    let mut deaf = broker.member(2);
    let asks = [deaf.asks_for_status(4_000), deaf.asks_to_submit(1)].concat();
    let unsaid = broker.is_asked_until_it_stops(&mut deaf, asks);
    assert_eq!((unsaid.len(), broker.queued()), (0, 0), "the submission waits");
    let id = *broker.server.connections.ids().first().expect("it is there");
    while !broker.server.connections.is_drained(id) {
        broker.turn_now();
    }
    broker.turn_until("the submission", |broker| broker.queued() == 1);
}

/// Expected long answers count before further requests reach a provider: a client that has asked for many of them, and reads late,
/// gets them all.
#[test]
fn long_answers_do_not_end_a_client_that_reads_late() {
    let mut broker = ByHand::with_settings("[limits]\noutbox_bytes = \"8MiB\"\n");
    let mut late = broker.member(2);
    let member = late.member;
    let mut message = b"Subject: long\n\n".to_vec();
    message.resize(1_000_000, b'x');
    let content = Content::Inline(Blob(message));
    let draft = late.asks(Request::Draft { member, store: 0, content });
    broker.say(&mut late, &draft);
    let Ok(Reply::Opened(object)) = broker.answer(&mut late) else { panic!("a draft") };
    let save = late.asks(Request::Save { member, object, key: SubmitKey(7) });
    broker.say(&mut late, &save);
    let Ok(Reply::Saved(entry)) = broker.answer(&mut late) else { panic!("saved") };
    let open = late.asks(Request::Open { member, what: Opening::Message(entry) });
    broker.say(&mut late, &open);
    let Ok(Reply::Opened(object)) = broker.answer(&mut late) else { panic!("opened") };
    let read = Request::Read { member, source: ReadSource::Object(object), offset: 0 };
    let reads: Vec<u8> = (0..50).flat_map(|_| late.asks(read.clone())).collect();
    broker.say(&mut late, &reads);
    let figure = |broker: &ByHand| broker.server.connections.waiting();
    broker.turn_until("two answers", |broker| figure(broker) > 1_500_000);
    broker.turn_now();
    assert!(figure(&broker) < 4 << 20, "{} bytes wait", figure(&broker));
    while late.answered().len() < 50 {
        broker.turn();
        late.hear();
    }
    assert_eq!((late.goodbye(), broker.members()), (None, 1));
}
