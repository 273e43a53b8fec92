//! Programs that do something alike, as far as they are installed: each private to the run, at a socket in its directory.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::load::Speech;

/// How long a peer may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that ends with the run.
pub(crate) struct Peer {
    child: Child,
    socket: PathBuf,
}

impl Peer {
    fn start(command: &mut Command, socket: PathBuf) -> Option<Self> {
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let peer = Self { child: child.ok()?, socket };
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(&peer.socket).is_err() {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(peer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).expect("the peer accepts")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `redis-server`, which keeps nothing on the disk.
pub(crate) fn redis(home: &Path) -> Option<Peer> {
    let socket = home.join("redis.sock");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    Peer::start(command.current_dir(home), socket)
}

/// `dbus-daemon`, the message bus.
pub(crate) fn bus(home: &Path) -> Option<Peer> {
    let socket = home.join("bus.sock");
    let config = home.join("bus.conf");
    // The limits are those of a session bus.
    let text = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
         <busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy>\
         <limit name=\"max_completed_connections\">100000</limit>\
         <limit name=\"max_connections_per_user\">100000</limit></busconfig>",
        socket.display()
    );
    std::fs::write(&config, text).ok()?;
    let mut command = Command::new("dbus-daemon");
    command.arg("--nofork").arg("--nopidfile").arg("--config-file").arg(&config);
    Peer::start(&mut command, socket)
}

/// `GET` of a small value.
pub(crate) struct RedisGet<'a>(pub(crate) &'a Peer);

const GOT: &[u8] = b"$5\r\nhello\r\n";

impl Speech for RedisGet<'_> {
    fn connect(&mut self) -> UnixStream {
        let mut stream = self.0.connect();
        stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n").expect("written");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"+OK\r\n");
        stream
    }

    fn request(&mut self, _client: usize, _number: u64, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }

    fn answer(&self, bytes: &[u8]) -> Option<usize> {
        (bytes.len() >= GOT.len()).then_some(GOT.len())
    }
}

/// `org.freedesktop.DBus.GetId`, which the bus answers itself.
pub(crate) struct BusGetId<'a>(pub(crate) &'a Peer);

impl Speech for BusGetId<'_> {
    fn connect(&mut self) -> UnixStream {
        let mut stream = self.0.connect();
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
        // The answer to the hello, and the signal that there is a name: two messages.
        let (mut inbox, mut seen) = (Vec::new(), 0);
        while seen < 2 {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).expect("an answer");
            inbox.extend_from_slice(&piece[..read]);
            while let Some(length) = message(&inbox) {
                inbox.drain(..length);
                seen += 1;
            }
        }
        stream
    }

    fn request(&mut self, _client: usize, number: u64, bytes: &mut Vec<u8>) {
        call("GetId", number as u32 | 1, bytes);
    }

    fn answer(&self, bytes: &[u8]) -> Option<usize> {
        message(bytes)
    }
}

/// A call of one of the bus's own methods without arguments.
fn call(method: &str, serial: u32, bytes: &mut Vec<u8>) {
    let bus = "org.freedesktop.DBus";
    let fields =
        [(1, 'o', "/org/freedesktop/DBus"), (2, 's', bus), (3, 's', method), (6, 's', bus)];
    let start = bytes.len();
    bytes.extend_from_slice(&[b'l', 1, 0, 1]);
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&serial.to_le_bytes());
    let length_at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    let array = bytes.len();
    for (code, kind, text) in fields {
        pad(bytes, start);
        bytes.extend_from_slice(&[code, 1, kind as u8, 0]);
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
