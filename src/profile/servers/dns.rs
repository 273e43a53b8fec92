//! Asks the nameservers of this host for SRV records.
//!
//! ```text
//!  for each try:  question ─UDP─► answer ─► records
//!                                   └─ too long for UDP ─TCP─► records
//! ```
//!
//! A try takes two seconds at most, whatever a nameserver does. An answer counts if it comes from the nameserver that was asked, with the
//! number and the question of the query; the number and the port are random. `getaddrinfo` looks up no SRV records, and what else the C library
//! has for them takes unsafe code.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::srv::Record;

/// What names this host's nameservers.
const SETTINGS: &str = "/etc/resolv.conf";

/// How many nameservers are asked, as in the C library.
const MOST_SERVERS: usize = 3;

/// How often a question is asked, at least.
const TRIES: usize = 2;

/// How long one try takes, at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many aliases may lead to the records.
const MOST_ALIASES: usize = 8;

/// The nameservers, and how long each of them may take.
#[derive(Debug)]
pub(in crate::profile) struct Resolver {
    servers: Vec<SocketAddr>,
    patience: Duration,
}

impl Resolver {
    /// The nameservers of this host.
    pub(in crate::profile) fn of_this_host() -> Self {
        let settings = std::fs::read_to_string(SETTINGS).unwrap_or_default();
        Self { servers: nameservers(&settings), patience: PATIENCE }
    }

    /// The records of a name; none if there is no such name. Fails with the reason why no nameserver answers.
    pub(in crate::profile) fn services(&self, name: &str) -> Result<Vec<Record>, String> {
        let tries = self.servers.len().max(TRIES);
        let mut why = "no nameserver is known".to_owned();
        for &server in self.servers.iter().cycle().take(tries) {
            let asked = Query::new(name).and_then(|query| query.ask(server, self.patience));
            why = match asked {
                Ok(Answer::Records(records)) => return Ok(records),
                Ok(Answer::TooLong) => format!("the nameserver {} cuts its answer", server.ip()),
                Ok(Answer::Failed(code)) => {
                    format!("the nameserver {} has no answer ({code:?})", server.ip())
                }
                Err(error) if is_late(&error) => {
                    format!("the nameserver {} does not answer", server.ip())
                }
                Err(error) => format!("the nameserver {} cannot be asked: {error}", server.ip()),
            };
        }
        Err(why)
    }
}

/// The nameservers that `resolv.conf` names; without any, the one on this host.
fn nameservers(settings: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let word = words.next().filter(|word| *word == "nameserver").and(words.next());
        Some(SocketAddr::new(word?.parse().ok()?, 53))
    };
    let named: Vec<_> = settings.lines().filter_map(address).take(MOST_SERVERS).collect();
    if named.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { named }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What a nameserver says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Records(Vec<Record>),
    /// It does not fit into a datagram.
    TooLong,
    Failed(RCODE),
}

/// A question as it is sent.
struct Query<'a> {
    number: u16,
    question: Question<'a>,
    bytes: Vec<u8>,
}

impl<'a> Query<'a> {
    fn new(name: &'a str) -> io::Result<Self> {
        let number = getrandom::u32().map_err(io::Error::other)? as u16;
        let name = Name::new(name).map_err(io::Error::other)?;
        let (qtype, qclass) = (QTYPE::TYPE(TYPE::SRV), QCLASS::CLASS(CLASS::IN));
        let question = Question::new(name, qtype, qclass, false);
        let mut packet = Packet::new_query(number);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(question.clone());
        let bytes = packet.build_bytes_vec().map_err(io::Error::other)?;
        Ok(Self { number, question, bytes })
    }

    fn ask(&self, server: SocketAddr, patience: Duration) -> io::Result<Answer> {
        let until = Instant::now() + patience;
        match self.over_udp(server, until)? {
            Answer::TooLong => self.over_tcp(server, until),
            answer => Ok(answer),
        }
    }

    /// Waits for the answer. What does not answer this question is left out, because anybody can send datagrams.
    fn over_udp(&self, server: SocketAddr, until: Instant) -> io::Result<Answer> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        // From now on the kernel drops what others send.
        socket.connect(server)?;
        socket.send(&self.bytes)?;
        let mut datagram = [0; 4096];
        loop {
            socket.set_read_timeout(Some(left(until)?))?;
            let length = socket.recv(&mut datagram)?;
            if let Some(answer) = self.read(&datagram[..length]) {
                return Ok(answer);
            }
        }
    }

    fn over_tcp(&self, server: SocketAddr, until: Instant) -> io::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
        stream.set_write_timeout(Some(left(until)?))?;
        let length = u16::try_from(self.bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), &self.bytes[..]].concat())?;
        let mut length = [0; 2];
        fill(&mut stream, &mut length, until)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        fill(&mut stream, &mut answer, until)?;
        self.read(&answer).ok_or_else(|| io::Error::other("its answer is not one to the question"))
    }

    /// The answer in these bytes, if it is one to this question.
    fn read(&self, bytes: &[u8]) -> Option<Answer> {
        let packet = Packet::parse(bytes).ok()?;
        let Self { number, question, .. } = self;
        let is_ours = packet.id() == *number
            && packet.has_flags(PacketFlag::RESPONSE)
            && matches!(&packet.questions[..], [asked] if is_same(asked, question));
        if !is_ours {
            return None;
        }
        Some(match packet.rcode() {
            _ if packet.has_flags(PacketFlag::TRUNCATION) => Answer::TooLong,
            RCODE::NoError => Answer::Records(records(&packet, &question.qname)),
            RCODE::NameError => Answer::Records(Vec::new()),
            other => Answer::Failed(other),
        })
    }
}

fn is_same(one: &Question<'_>, other: &Question<'_>) -> bool {
    (&one.qname, one.qtype, one.qclass) == (&other.qname, other.qtype, other.qclass)
}

/// The SRV records of a name, or of the name that it is an alias of.
fn records(packet: &Packet<'_>, name: &Name<'_>) -> Vec<Record> {
    let mut name = name;
    for _ in 0..MOST_ALIASES {
        let alias = packet.answers.iter().find_map(|answer| match &answer.rdata {
            RData::CNAME(of) if answer.name == *name => Some(&of.0),
            _ => None,
        });
        let Some(of) = alias else { break };
        name = of;
    }
    let record = |answer: &simple_dns::ResourceRecord<'_>| match &answer.rdata {
        RData::SRV(record) if answer.name == *name => Some(Record {
            priority: record.priority,
            weight: record.weight,
            port: record.port,
            target: record.target.to_string(),
        }),
        _ => None,
    };
    packet.answers.iter().filter_map(record).collect()
}

/// Reads as many bytes as there is room for.
fn fill(stream: &mut TcpStream, mut room: &mut [u8], until: Instant) -> io::Result<()> {
    while !room.is_empty() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(room)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => room = &mut room[read..],
        }
    }
    Ok(())
}

/// How long it is until then; fails when it is over.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests;
