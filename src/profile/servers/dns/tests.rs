//! The exchange with nameservers that say what the test wants, and read datagrams that mean nothing.

use std::net::TcpListener;
use std::thread::JoinHandle;

use proptest::prelude::*;
use simple_dns::ResourceRecord;
use simple_dns::rdata::{CNAME, SRV};

use super::*;

const NAME: &str = "_imaps._tcp.example.org";

/// Long enough for any answer that comes.
const LONG: Duration = Duration::from_secs(20);

/// What a nameserver says to a question.
type Says = fn(Packet<'_>) -> Vec<u8>;

/// What the nameserver of a test does with a question: the datagrams that it sends, and what it says over TCP.
#[derive(Default)]
struct Script {
    datagrams: Vec<Says>,
    stream: Option<Says>,
}

/// A nameserver. Somebody else answers each question before it does. It ends with its test.
struct Nameserver {
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Nameserver {
    fn start(script: Script) -> Self {
        let (listener, socket) = loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            let address = listener.local_addr().expect("it has one");
            if let Ok(socket) = UdpSocket::bind(address) {
                break (listener, socket);
            }
        };
        let address = listener.local_addr().expect("it has one");
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let datagrams = std::thread::spawn(move || {
            let mut question = [0; 512];
            // An empty datagram ends it.
            while let Ok((length @ 1.., from)) = socket.recv_from(&mut question) {
                let asked = || Packet::parse(&question[..length]).expect("a question");
                stranger.send_to(&bytes(&forged(asked())), from).expect("sent");
                for answer in &script.datagrams {
                    socket.send_to(&answer(asked()), from).expect("sent");
                }
            }
        });
        let streams = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut question = vec![0; 2];
                // So does a connection without a question.
                if stream.read_exact(&mut question).is_err() {
                    return;
                }
                question.resize(u16::from_be_bytes([question[0], question[1]]).into(), 0);
                stream.read_exact(&mut question).expect("a question");
                let asked = Packet::parse(&question).expect("a question");
                let answer = script.stream.expect("nothing is asked over TCP")(asked);
                // Byte by byte, as a network may deliver it.
                for byte in u16::try_from(answer.len()).expect("short").to_be_bytes() {
                    stream.write_all(&[byte]).expect("sent");
                }
                stream.write_all(&answer).expect("sent");
            }
        });
        Self { address, threads: vec![datagrams, streams] }
    }

    /// One that answers with these datagrams.
    fn saying(datagrams: Vec<Says>) -> Self {
        Self::start(Script { datagrams, stream: None })
    }

    /// What it is heard to say.
    fn asked(&self, patience: Duration) -> Result<Vec<Record>, String> {
        Resolver { servers: vec![self.address], patience }.services(NAME)
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        let any = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        any.send_to(&[], self.address).expect("sent");
        drop(TcpStream::connect(self.address));
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the nameserver failed");
        }
    }
}

/// A reply to a question, without answers.
fn reply(asked: Packet<'_>) -> Packet<'_> {
    let mut reply = asked.into_reply();
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    reply
}

fn record(owner: &'static str, target: &'static str) -> ResourceRecord<'static> {
    let target = Name::new_unchecked(target);
    let record = SRV { priority: 10, weight: 1, port: 993, target };
    ResourceRecord::new(Name::new_unchecked(owner), CLASS::IN, 60, RData::SRV(record))
}

fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    packet.build_bytes_vec_compressed().expect("a packet")
}

fn good(asked: Packet<'_>) -> Vec<u8> {
    let mut reply = reply(asked);
    reply.answers.push(record("_IMAPS._tcp.Example.org", "imap.example.org"));
    bytes(&reply)
}

/// The answer that somebody else wants to be taken.
fn forged(asked: Packet<'_>) -> Packet<'_> {
    let mut reply = reply(asked);
    reply.answers.push(record(NAME, "evil.example.net"));
    reply
}

fn cut(asked: Packet<'_>) -> Vec<u8> {
    let mut reply = reply(asked);
    reply.set_flags(PacketFlag::TRUNCATION);
    bytes(&reply)
}

fn with_code(asked: Packet<'_>, code: RCODE) -> Vec<u8> {
    let mut reply = reply(asked);
    *reply.rcode_mut() = code;
    bytes(&reply)
}

fn imap() -> Vec<Record> {
    vec![Record { priority: 10, weight: 1, port: 993, target: "imap.example.org".into() }]
}

#[test]
fn a_nameserver_names_a_server() {
    assert_eq!(Nameserver::saying(vec![good]).asked(LONG), Ok(imap()));
}

#[test]
fn a_name_that_does_not_exist_has_no_servers() {
    let none = Nameserver::saying(vec![|asked| with_code(asked, RCODE::NameError)]);
    assert_eq!(none.asked(LONG), Ok(vec![]));
    let empty = Nameserver::saying(vec![|asked| bytes(&reply(asked))]);
    assert_eq!(empty.asked(LONG), Ok(vec![]));
}

#[test]
fn an_alias_leads_to_the_servers() {
    let answer = |asked: Packet<'_>| {
        let mut reply = reply(asked);
        let alias = CNAME(Name::new_unchecked("mail.example.net"));
        let alias =
            ResourceRecord::new(Name::new_unchecked(NAME), CLASS::IN, 60, RData::CNAME(alias));
        reply.answers.extend([record("mail.example.net", "imap.example.org"), alias]);
        // What belongs to no name that was asked for.
        reply.answers.push(record("_imaps._tcp.example.com", "evil.example.net"));
        bytes(&reply)
    };
    assert_eq!(Nameserver::saying(vec![answer]).asked(LONG), Ok(imap()));
    let circle = |asked: Packet<'_>| {
        let mut reply = reply(asked);
        let alias = RData::CNAME(CNAME(Name::new_unchecked(NAME)));
        reply.answers.push(ResourceRecord::new(Name::new_unchecked(NAME), CLASS::IN, 60, alias));
        bytes(&reply)
    };
    assert_eq!(Nameserver::saying(vec![circle]).asked(LONG), Ok(vec![]));
}

#[test]
fn what_answers_another_question_is_left_out() {
    let nameserver = Nameserver::saying(vec![
        // Another number.
        |asked| {
            let number = asked.id().wrapping_add(1);
            let mut forged = forged(asked);
            forged.set_id(number);
            bytes(&forged)
        },
        // Another name, another type, no question, two questions.
        |asked| {
            let mut forged = forged(asked);
            forged.questions[0].qname = Name::new_unchecked("_imaps._tcp.example.com");
            bytes(&forged)
        },
        |asked| {
            let mut forged = forged(asked);
            forged.questions[0].qtype = QTYPE::TYPE(TYPE::TXT);
            bytes(&forged)
        },
        |asked| {
            let mut forged = forged(asked);
            forged.questions.clear();
            bytes(&forged)
        },
        |asked| {
            let mut forged = forged(asked);
            forged.questions.push(forged.questions[0].clone());
            bytes(&forged)
        },
        // A question, and nonsense.
        |asked| bytes(&asked),
        |_| b"what?".to_vec(),
        |_| vec![0xff; 4000],
        |_| vec![],
        good,
    ]);
    assert_eq!(nameserver.asked(LONG), Ok(imap()));
}

#[test]
fn a_long_answer_comes_over_tcp() {
    let script =
        |stream: fn(Packet<'_>) -> Vec<u8>| Script { datagrams: vec![cut], stream: Some(stream) };
    assert_eq!(Nameserver::start(script(good)).asked(LONG), Ok(imap()));
    let cases: [(Says, &str); 3] = [
        (|_| b"what?".to_vec(), "not one to the question"),
        (cut, "cuts"),
        (|_| vec![], "not one"),
    ];
    for (stream, word) in cases {
        let error = Nameserver::start(script(stream)).asked(LONG).expect_err("no answer");
        assert!(error.contains(word) && error.contains("127.0.0.1"), "{error}");
    }
}

#[test]
fn silence_ends() {
    let short = Duration::from_millis(20);
    let silent = Nameserver::saying(vec![]);
    let error = silent.asked(short).expect_err("no answer");
    assert_eq!(error, "the nameserver 127.0.0.1 does not answer");
    let nonsense = Nameserver::saying(vec![|_| b"what?".to_vec()]);
    assert_eq!(nonsense.asked(short), Err(error.clone()));
    // A listener that never accepts: the connection is there, and nothing comes.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("it has one");
    let query = Query::new(NAME).expect("a question");
    let error = query.over_tcp(address, Instant::now() + short).expect_err("no answer");
    assert!(is_late(&error), "{error}");
}

#[test]
fn the_next_nameserver_is_asked() {
    let failing = Nameserver::saying(vec![|asked| with_code(asked, RCODE::ServerFailure)]);
    let error = failing.asked(LONG).expect_err("no answer");
    assert_eq!(error, "the nameserver 127.0.0.1 has no answer (ServerFailure)");
    let good = Nameserver::saying(vec![good]);
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let servers = vec![nobody.expect("it has one"), failing.address, good.address];
    assert_eq!(Resolver { servers, patience: LONG }.services(NAME), Ok(imap()));
}

#[test]
fn the_nameservers_are_those_of_the_settings() {
    let named = |settings: &str| {
        let servers = nameservers(settings);
        servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let settings = "# nameserver 192.0.2.9\nsearch lan\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # ours\n\
                    nameserver fe80::1%eth0\nnameserver\noptions edns0\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
    assert_eq!(named(settings), "192.0.2.1:53 [2001:db8::1]:53 192.0.2.3:53");
    assert_eq!(named(""), "127.0.0.1:53");
}

#[test]
fn a_name_that_is_too_long_is_not_asked_for() {
    let resolver = Resolver { servers: vec![([127, 0, 0, 1], 9).into()], patience: LONG };
    let error = resolver.services(&"a".repeat(300)).expect_err("it cannot be asked for");
    assert!(error.contains("cannot be asked"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_are_read_as_an_answer_by_accident(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let query = Query::new(NAME).expect("a question");
        prop_assert_eq!(query.read(&bytes), None);
    }

    #[test]
    fn a_damaged_answer_is_read_or_left_out(at in 0_usize..120, byte in any::<u8>(), length in 0_usize..120) {
        let query = Query::new(NAME).expect("a question");
        let mut answer = good(Packet::parse(&query.bytes).expect("a question"));
        let at = at % answer.len();
        answer[at] = byte;
        answer.truncate(length);
        if let Some(Answer::Records(records)) = query.read(&answer) {
            prop_assert!(records.len() <= 1);
        }
    }
}
