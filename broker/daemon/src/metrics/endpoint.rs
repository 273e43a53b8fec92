//! Where figures can be asked for: a port of the loopback interface or a socket, and just enough HTTP.
//!
//! ```text
//!  connection ──► Asking ──its head is whole──► Answering ──written──► Draining ──end──► gone
//!                    └──────────── two seconds are over, or too many others came ───────►
//! ```
//!
//! One thread serves all connections side by side. A connection that is silent holds up no other one. A place that cannot be
//! listened on is tried again: whether figures can be asked for decides nothing about mail.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use sundown_core::Figures;

use super::{Format, Metrics};
use crate::socket::listens;

/// How long one connection may take, and how long the loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a place is left alone that could not be listened on, or had no descriptor for a connection.
const REST: Duration = Duration::from_secs(2);

/// The longest request that is read.
const LONGEST: usize = 8 << 10;

/// How many connections are open at once. For one more the one is ended that has taken longest to ask.
const MOST: usize = 64;

/// The listener's token. Connections count from zero.
const LISTENER: Token = Token(usize::MAX);

/// Where figures can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A port of the loopback interface: every local user may look.
    Port(SocketAddr),
    /// A socket with mode 0600: only the broker's user and root may.
    Socket(PathBuf),
    /// Such a socket in the broker's runtime directory, named like the broker's own with `.metrics` behind it.
    Default,
}

impl Listen {
    /// What `[metrics] listen` says; `None` for what is neither a port of the loopback interface nor an absolute path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return (!text.contains('\0')).then(|| Self::Socket(text.into()));
        }
        let address = text.replacen("localhost:", "127.0.0.1:", 1);
        let address: SocketAddr = address.parse().ok()?;
        address.ip().is_loopback().then_some(Self::Port(address))
    }

    /// The place itself, for a broker whose runtime directory is this one, and whose socket has this name.
    pub(crate) fn of_broker(&self, directory: &Path, socket: &str) -> Self {
        match self {
            Self::Default => Self::Socket(directory.join(format!("{socket}.metrics"))),
            place => place.clone(),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
            Self::Default => f.write_str("the default place"),
        }
    }
}

/// One connection of a client.
trait Stream: Read + Write + Source + Send {
    /// Says that nothing more is written.
    fn end(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

enum Listener {
    Port(TcpListener),
    Socket(UnixListener),
}

impl Listener {
    /// Listens. A socket's file that no process listens on is replaced.
    fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Port(address) => TcpListener::bind(*address).map(Self::Port),
            Listen::Socket(path) => bind(path).map(Self::Socket),
            Listen::Default => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Where it listens. Port 0 means any; which one it is now is known only here.
    fn place(&self, listen: &Listen) -> Listen {
        match self {
            Self::Port(port) => port.local_addr().map_or_else(|_| listen.clone(), Listen::Port),
            Self::Socket(_) => listen.clone(),
        }
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Port(listener) => Box::new(listener.accept()?.0),
            Self::Socket(listener) => Box::new(listener.accept()?.0),
        })
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Port(listener) => listener,
            Self::Socket(listener) => listener,
        }
    }
}

fn bind(path: &PathBuf) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if listens(path).unwrap_or(true) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The loop does not answer.
struct NoAnswer;

/// The way to the loop.
pub(crate) struct Asking {
    sender: Sender<Sender<Figures>>,
    waker: Arc<Waker>,
}

impl Asking {
    /// The way, and what the loop answers from.
    pub(crate) fn new(waker: Arc<Waker>) -> (Self, Receiver<Sender<Figures>>) {
        let (sender, receiver) = unbounded();
        (Self { sender, waker }, receiver)
    }

    fn ask(&self) -> Result<Figures, NoAnswer> {
        let (sender, answer) = bounded(1);
        self.sender.send(sender).map_err(|_| NoAnswer)?;
        self.waker.wake().map_err(|_| NoAnswer)?;
        answer.recv_timeout(PATIENCE).map_err(|_| NoAnswer)
    }
}

/// Serves figures from now on, on a thread of its own that ends with the process.
pub(crate) fn serve(listen: Listen, metrics: Arc<Metrics>, asking: Asking) -> io::Result<()> {
    let poll = Poll::new()?;
    let serve = move || {
        let listener = listen_at_last(&listen);
        tracing::info!(listen = %listener.place(&listen), "metrics can be asked for");
        let desk = Desk { metrics, asking, figures: None };
        let endpoint =
            Endpoint { poll, listener, desk, peers: BTreeMap::new(), made: 0, accept_again: None };
        if let Err(error) = endpoint.run() {
            tracing::error!(%error, "metrics cannot be asked for any more");
        }
    };
    thread::Builder::new().name("metrics".into()).spawn(serve).map(drop)
}

/// Listens, however long that takes: the place may be another program's, or not be there yet.
fn listen_at_last(listen: &Listen) -> Listener {
    let mut told = false;
    loop {
        match Listener::bind(listen) {
            Ok(listener) => return listener,
            Err(error) if !told => {
                told = true;
                tracing::warn!(
                    %error,
                    "cannot listen on {listen} for metrics; it is tried again. Mail goes on. Choose another place in [metrics] listen, or take it out"
                );
            }
            Err(_) => {}
        }
        thread::sleep(REST);
    }
}

/// A place that is listened on, and its connections.
struct Endpoint {
    poll: Poll,
    listener: Listener,
    desk: Desk,
    /// Connections by their token.
    peers: BTreeMap<usize, Peer>,
    made: usize,
    /// When to look for connections again, after there was no descriptor for one.
    accept_again: Option<Instant>,
}

impl Endpoint {
    fn run(mut self) -> io::Result<()> {
        let readable = Interest::READABLE;
        self.poll.registry().register(self.listener.source(), LISTENER, readable)?;
        let mut events = Events::with_capacity(MOST);
        loop {
            let ends = self.peers.values().map(|peer| peer.until);
            let next = ends.chain(self.accept_again).min();
            let wait = next.map(|at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.desk.figures = None;
            let now = Instant::now();
            if self.accept_again.is_some_and(|at| at <= now) {
                self.accept();
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(id) => self.go_on(id),
                }
            }
            self.peers.retain(|_, peer| peer.until > now);
        }
    }

    fn accept(&mut self) {
        self.accept_again = None;
        loop {
            let stream = match self.listener.accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(_) => {
                    self.accept_again = Some(Instant::now() + REST);
                    return;
                }
            };
            if self.peers.len() >= MOST {
                self.make_room();
            }
            let id = self.made;
            self.made += 1;
            let until = Instant::now() + PATIENCE;
            let mut peer = Peer { stream, stage: Stage::Asking(Head::default()), until };
            let both = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut *peer.stream, Token(id), both).is_ok() {
                self.peers.insert(id, peer);
                self.go_on(id);
            }
        }
    }

    /// Ends the connection that has been here for longest and has not asked; if all have, the oldest one.
    fn make_room(&mut self) {
        let asks = |peer: &Peer| matches!(peer.stage, Stage::Asking(_));
        let oldest = self.peers.iter().min_by_key(|(id, peer)| (!asks(peer), **id));
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.peers.remove(&id);
        }
    }

    fn go_on(&mut self, id: usize) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match peer.go_on(&mut self.desk) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // It is through, or has hung up.
            Ok(()) | Err(_) => drop(self.peers.remove(&id)),
        }
    }
}

/// Answers requests.
struct Desk {
    metrics: Arc<Metrics>,
    asking: Asking,
    /// What the loop has said for the requests of this turn, if it was asked.
    figures: Option<Result<Figures, NoAnswer>>,
}

impl Desk {
    fn answer(&mut self, asked: &Asked) -> Vec<u8> {
        let plain = "text/plain; charset=utf-8";
        if let Asked::Else(status) = asked {
            return answer(status, plain, &format!("{status}\n"));
        }
        match (asked, self.figures.get_or_insert_with(|| self.asking.ask())) {
            (_, Err(NoAnswer)) => answer(UNAVAILABLE, plain, "the loop does not answer\n"),
            (Asked::Metrics(format), Ok(figures)) => {
                answer("200 OK", format.media(), &self.metrics.text(figures, *format))
            }
            (_, Ok(figures)) if figures.stopping => answer(UNAVAILABLE, plain, "stopping\n"),
            (_, Ok(_)) => answer("200 OK", plain, "ok\n"),
        }
    }
}

const UNAVAILABLE: &str = "503 Service Unavailable";

fn answer(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One connection, and how far it is.
struct Peer {
    stream: Box<dyn Stream>,
    stage: Stage,
    until: Instant,
}

enum Stage {
    /// Its request comes.
    Asking(Head),
    /// What is left of the answer is written.
    Answering(Vec<u8>),
    /// A connection that is closed with bytes unread is reset, and a peer that still writes would not read the answer.
    Draining,
}

impl Peer {
    /// Goes on as far as the socket lets it. `Ok` when it is through.
    fn go_on(&mut self, desk: &mut Desk) -> io::Result<()> {
        loop {
            match &mut self.stage {
                Stage::Asking(head) => {
                    let mut piece = [0; 1024];
                    let room = piece.len().min(head.room());
                    let length = read(&mut *self.stream, &mut piece[..room])?;
                    if length == 0 {
                        return Ok(());
                    }
                    if let Some(asked) = head.take(&piece[..length]) {
                        self.stage = Stage::Answering(desk.answer(&asked));
                        self.until = Instant::now() + PATIENCE;
                    }
                }
                Stage::Answering(rest) => {
                    while !rest.is_empty() {
                        match self.stream.write(rest) {
                            Err(error) if error.kind() == ErrorKind::Interrupted => {}
                            written => drop(rest.drain(..written?)),
                        }
                    }
                    self.stream.end()?;
                    self.stage = Stage::Draining;
                }
                Stage::Draining => {
                    let mut piece = [0; 16 << 10];
                    if read(&mut *self.stream, &mut piece)? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn read(stream: &mut dyn Stream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The head of a request, as far as it has come.
#[derive(Debug, Default)]
struct Head(Vec<u8>);

impl Head {
    /// How much more of it is read.
    fn room(&self) -> usize {
        LONGEST - self.0.len()
    }

    /// Takes another piece, of at most the room there is. What is asked for, once that is known.
    fn take(&mut self, piece: &[u8]) -> Option<Asked> {
        self.0.extend_from_slice(piece);
        let too_long =
            || (self.room() == 0).then_some(Asked::Else("431 Request Header Fields Too Large"));
        asked(&self.0).or_else(too_long)
    }
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics(Format),
    Health,
    /// Something that is answered with this status.
    Else(&'static str),
}

/// What the head of a request asks for; `None` while it is not whole.
fn asked(head: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Some(Asked::Else("400 Bad Request")),
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Some(match (request.method, path) {
        (Some("GET"), "/metrics") => {
            let accepts = |h: &&httparse::Header<'_>| h.name.eq_ignore_ascii_case("accept");
            let accept = request.headers.iter().find(accepts).map_or(&b""[..], |h| h.value);
            Asked::Metrics(Format::accepted(accept))
        }
        (Some("GET"), "/healthz") => Asked::Health,
        (Some("GET"), _) => Asked::Else("404 Not Found"),
        _ => Asked::Else("405 Method Not Allowed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_local_can_be_listened_on() {
        let port = |text| Listen::parse(text).map(|listen| listen.to_string());
        assert_eq!(port("127.0.0.1:9464").as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(port("localhost:9464").as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(port("[::1]:9464").as_deref(), Some("[::1]:9464"));
        assert_eq!(port("/run/x/metrics.sock").as_deref(), Some("/run/x/metrics.sock"));
        for elsewhere in ["0.0.0.0:9464", "192.0.2.1:80", "9464", "metrics.sock", "", "host:1"] {
            assert_eq!(port(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_request_is_read_as_far_as_its_head_goes() {
        let of = |head: &str| asked(head.as_bytes());
        assert_eq!(
            of("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
            Some(Asked::Metrics(Format::Plain))
        );
        assert_eq!(of("GET /metrics?x=1 HTTP/1.0\r\n\r\n"), Some(Asked::Metrics(Format::Plain)));
        assert_eq!(of("GET /healthz HTTP/1.1\r\n\r\n"), Some(Asked::Health));
        let accepts =
            "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text;q=0.5,*/*\r\n\r\n";
        assert_eq!(of(accepts), Some(Asked::Metrics(Format::Open)));
        assert_eq!(of("GET /metrics HTTP/1.1\r\nHost:"), None);
        let refused = |head| matches!(of(head), Some(Asked::Else(_)));
        assert!(refused("GET / HTTP/1.1\r\n\r\n") && refused("POST /metrics HTTP/1.1\r\n\r\n"));
        assert!(refused("\u{1}\u{2}\r\n\r\n"));
    }

    /// What is asked for by a request that comes in these pieces.
    fn asked_in(pieces: &[&[u8]]) -> Option<Asked> {
        let mut head = Head::default();
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                let (now, later) = piece.split_at(piece.len().min(head.room()));
                if let Some(asked) = head.take(now) {
                    return Some(asked);
                }
                piece = later;
            }
        }
        None
    }

    #[test]
    fn a_request_may_be_cut_anywhere() {
        let head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nmore";
        for cut in 0..=head.len() {
            let asked = asked_in(&[&head[..cut], &head[cut..]]);
            assert_eq!(asked, Some(Asked::Metrics(Format::Plain)), "cut at {cut}");
        }
        assert_eq!(asked_in(&[&head[..20], &head[20..30]]), None, "its end does not come");
    }

    #[test]
    fn a_head_is_too_long_in_whatever_pieces_it_comes() {
        for (length, fits) in [(LONGEST - 1, true), (LONGEST, true), (LONGEST + 1, false)] {
            let [front, back] = ["GET /metrics HTTP/1.1\r\nX: ", "\r\n\r\n"];
            let head = [front, &"x".repeat(length - front.len() - back.len()), back].concat();
            for size in [1, 7, 1_000, 1_024, 4_000, length] {
                let pieces: Vec<_> = head.as_bytes().chunks(size).collect();
                let asked = asked_in(&pieces).expect("a request");
                assert_eq!(
                    asked == Asked::Metrics(Format::Plain),
                    fits,
                    "{length} bytes in pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn a_sockets_file_is_replaced_only_when_nobody_listens() {
        let root = tempfile::tempdir().expect("a directory");
        let listen = Listen::Default.of_broker(root.path(), "broker.sock");
        let path = root.path().join("broker.sock.metrics");
        drop(UnixListener::bind(&path).expect("bound"));
        let first = Listener::bind(&listen).expect("the file was left behind");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Listener::bind(&listen).err().expect("the first one listens");
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        drop(first);
    }
}
