//! Programs that do something alike, as far as they are here: each private to the run, at a socket in its directory.
//!
//! `benches/peers` fetches those that are missing, and lets a command see them at their places.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bus::BusClient;
use crate::load::Speech;

/// `yes` where the peers are at their places, and what is written there is gone afterwards; `no` where that cannot be.
const PEERS: &str = "SUNDOWN_BENCH_PEERS";

/// How long a peer may take to accept.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the programs that `benches/peers` fetched are at their places.
pub(crate) fn at_their_places() -> bool {
    std::env::var_os(PEERS).is_some_and(|said| said == "yes")
}

/// This program again where the peers are at their places, if they were fetched and it may be.
pub(crate) fn again_beside_them() -> Option<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    if std::env::var_os(PEERS).is_some()
        || !fetched.is_dir()
        || !rustix::process::geteuid().is_root()
    {
        return None;
    }
    let mut command = Command::new(script);
    command.arg("run").arg(std::env::current_exe().ok()?).args(std::env::args_os().skip(1));
    Some(command)
}

/// Where a program is, if it is here.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(system).map(|folder| folder.join(name));
    found.into_iter().find(|path| path.is_file())
}

/// A server that ends with the run.
pub(crate) struct Peer {
    child: Child,
    pub(crate) address: Address,
    /// The process that does the work.
    works: u32,
}

pub(crate) enum Address {
    Socket(PathBuf),
    Port(u16),
}

impl Peer {
    fn start(name: &str, command: &mut Command, address: Address) -> Option<Self> {
        program(name)?;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let works = child.id();
        let peer = Self { child, address, works };
        let until = Instant::now() + PATIENCE;
        while !peer.accepts() {
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(peer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.works
    }

    fn accepts(&self) -> bool {
        match &self.address {
            Address::Socket(path) => UnixStream::connect(path).is_ok(),
            Address::Port(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok(),
        }
    }

    pub(crate) fn connect(&self) -> UnixStream {
        match &self.address {
            Address::Socket(path) => UnixStream::connect(path).expect("the peer accepts"),
            Address::Port(_) => panic!("it listens at a port"),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of the loopback that nobody has.
pub(crate) fn port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    listener.local_addr().expect("it has one").port()
}

/// A program in a session of its own, as service managers start them and as the broker makes itself one: Linux schedules what
/// shares a session otherwise.
fn server(program: &str) -> Command {
    let mut command = Command::new("setsid");
    command.arg(program);
    command
}

/// `redis-server`, which keeps nothing on the disk.
pub(crate) fn redis(home: &Path) -> Option<Peer> {
    let socket = home.join("redis.sock");
    let mut command = server("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    command.current_dir(home).stdin(Stdio::null());
    Peer::start("redis-server", &mut command, Address::Socket(socket))
}

/// `nats-server`, which has no sockets but those of the loopback.
pub(crate) fn nats(home: &Path) -> Option<Peer> {
    let port = port();
    let settings = home.join("nats.conf");
    std::fs::write(&settings, format!("listen: 127.0.0.1:{port}\nping_interval: \"1h\"\n")).ok()?;
    let mut command = server("nats-server");
    command.arg("--config").arg(settings);
    command.current_dir(home).stdin(Stdio::null());
    Peer::start("nats-server", &mut command, Address::Port(port))
}

/// Settings of a message bus. The limits are those of a session bus.
fn bus_settings(file: &Path, socket: &Path) -> std::io::Result<()> {
    let text = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
         <busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
         <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy>\
         <limit name=\"max_completed_connections\">100000</limit>\
         <limit name=\"max_connections_per_user\">100000</limit></busconfig>",
        socket.display()
    );
    std::fs::write(file, text)
}

/// `dbus-daemon`, the message bus.
pub(crate) fn bus(home: &Path) -> Option<Peer> {
    let (socket, settings) = (home.join("bus.sock"), home.join("bus.conf"));
    bus_settings(&settings, &socket).ok()?;
    let mut command = server("dbus-daemon");
    command.arg("--nofork").arg("--nopidfile").arg("--config-file").arg(&settings);
    Peer::start("dbus-daemon", command.stdin(Stdio::null()), Address::Socket(socket))
}

/// `dbus-broker`, the faster message bus. Its launcher takes its socket from systemd, logs to the journal, and finds its
/// program at one place only; so it is started where all of that is private.
pub(crate) fn dbus_broker(home: &Path) -> Option<Peer> {
    if !at_their_places() {
        return None;
    }
    let (socket, settings) = (home.join("dbus-broker.sock"), home.join("dbus-broker.conf"));
    bus_settings(&settings, &socket).ok()?;
    let journal = UnixDatagram::bind("/run/systemd/journal/socket").ok()?;
    std::thread::spawn(move || while journal.recv(&mut [0; 4096]).is_ok() {});
    let listener = UnixListener::bind(&socket).ok()?;
    let mut command = server("sh");
    let passed = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    command.args(["-c", passed, "sh", "dbus-broker-launch", "--scope", "user", "--config-file"]);
    command.arg(&settings).stdin(OwnedFd::from(listener));
    // It is a client of the bus that it starts.
    command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", socket.display()));
    let mut peer = Peer::start("dbus-broker-launch", &mut command, Address::Socket(socket))?;
    // Connections are accepted by the kernel, even before there is a broker.
    BusClient::connect(&peer);
    let launcher = peer.child.id();
    let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children"));
    peer.works = children.ok()?.split_whitespace().next()?.parse().ok()?;
    Some(peer)
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

/// Reads what there is.
pub(crate) fn more(stream: &mut impl Read, inbox: &mut Vec<u8>) {
    let have = inbox.len();
    inbox.resize(have + 4096, 0);
    let read = stream.read(&mut inbox[have..]).expect("read");
    assert!(read > 0, "the peer hung up");
    inbox.truncate(have + read);
}
