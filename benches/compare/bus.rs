//! A client of a message bus, as small as the measures need it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::load::Speech;
use crate::notices::Tell;
use crate::peers::{PATIENCE, Peer, more};

/// `org.freedesktop.DBus.GetId`, which the bus answers itself.
pub(crate) struct BusGetId<'a>(pub(crate) &'a Peer);

impl Speech for BusGetId<'_> {
    fn connect(&mut self) -> UnixStream {
        BusClient::connect(self.0).stream
    }

    fn request(&mut self, _client: usize, number: u64, bytes: &mut Vec<u8>) {
        call("GetId", number as u32 | 1, bytes);
    }

    fn answer(&self, bytes: &[u8]) -> Option<usize> {
        message(bytes)
    }
}

/// A client of a message bus.
pub(crate) struct BusClient {
    stream: UnixStream,
    inbox: Vec<u8>,
    /// What the bus calls it.
    name: String,
}

impl BusClient {
    pub(crate) fn connect(peer: &Peer) -> Self {
        let mut stream = peer.connect();
        stream.set_read_timeout(Some(PATIENCE)).expect("it has a timeout");
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        write!(stream, "\0AUTH EXTERNAL {hex}\r\n").expect("written");
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            line.push(byte[0]);
        }
        assert!(line.starts_with(b"OK "), "{}", String::from_utf8_lossy(&line));
        stream.write_all(b"BEGIN\r\n").expect("written");
        let mut hello = Vec::new();
        call("Hello", u32::MAX, &mut hello);
        stream.write_all(&hello).expect("written");
        let mut client = Self { stream, inbox: Vec::new(), name: String::new() };
        // The answer to the hello, which ends with the name, and the signal that there is one.
        let answer = client.next();
        let text: Vec<_> = answer.rsplit(|byte| *byte == 0).nth(1).expect("a name").to_vec();
        client.name = String::from_utf8(text).expect("it is text");
        assert!(client.name.starts_with(':'), "{}", client.name);
        client.next();
        client
    }

    /// The next message.
    fn next(&mut self) -> Vec<u8> {
        loop {
            if let Some(length) = message(&self.inbox) {
                return self.inbox.drain(..length).collect();
            }
            more(&mut self.stream, &mut self.inbox);
        }
    }
}

/// Signals from one client of a bus to another. Nobody answers a signal.
pub(crate) struct BusSignals {
    pairs: Vec<(BusClient, BusClient)>,
    signals: Vec<Vec<u8>>,
}

impl BusSignals {
    pub(crate) fn connect(bus: &Peer, pairs: usize) -> Self {
        let connect = |_| (BusClient::connect(bus), BusClient::connect(bus));
        let pairs: Vec<_> = (0..pairs).map(connect).collect();
        let signal = |(_, told): &(_, BusClient)| {
            let mut bytes = Vec::new();
            let fields = [
                (1, 'o', "/org/example/Sundown"),
                (2, 's', "org.example.Sundown"),
                (3, 's', "Told"),
                (6, 's', told.name.as_str()),
            ];
            marshal(4, 1, &fields, &mut bytes);
            bytes
        };
        let signals = pairs.iter().map(signal).collect();
        Self { pairs, signals }
    }
}

impl Tell for BusSignals {
    fn tell(&mut self, pair: usize) {
        self.pairs[pair].0.stream.write_all(&self.signals[pair]).expect("written");
    }

    fn hear(&mut self, pair: usize) {
        self.pairs[pair].1.next();
    }
}

/// A call of one of the bus's own methods without arguments.
fn call(method: &str, serial: u32, bytes: &mut Vec<u8>) {
    let bus = "org.freedesktop.DBus";
    let fields =
        [(1, 'o', "/org/freedesktop/DBus"), (2, 's', bus), (3, 's', method), (6, 's', bus)];
    marshal(1, serial, &fields, bytes);
}

/// A message of that type without a body.
fn marshal(kind: u8, serial: u32, fields: &[(u8, char, &str)], bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[b'l', kind, 0, 1]);
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&serial.to_le_bytes());
    let length_at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    let array = bytes.len();
    for (code, kind, text) in fields {
        pad(bytes, start);
        bytes.extend_from_slice(&[*code, 1, *kind as u8, 0]);
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    let length = (bytes.len() - array) as u32;
    bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    pad(bytes, start);
}

fn pad(bytes: &mut Vec<u8>, start: usize) {
    while !(bytes.len() - start).is_multiple_of(8) {
        bytes.push(0);
    }
}

/// How long the first message is, if it is whole.
fn message(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| {
        let word = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(word.try_into().expect("four bytes")) as usize)
    };
    let (body, fields) = (number(4)?, number(12)?);
    let length = (16 + fields).next_multiple_of(8) + body;
    (bytes.len() >= length).then_some(length)
}
