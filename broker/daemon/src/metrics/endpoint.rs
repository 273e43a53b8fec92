//! Where figures can be asked for: a port of the loopback interface or a socket, and just enough HTTP.
//!
//! One thread takes one connection after the other, and gives each two seconds. Whoever is slow keeps others who look at
//! figures waiting for so long, and nobody else.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use mio::Waker;
use sundown_core::Figures;

use super::Metrics;
use crate::socket::listens;

/// How long one connection may take, and how long the loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest request that is read.
const LONGEST: usize = 8 << 10;

/// Where figures can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A port of the loopback interface: every local user may look.
    Port(SocketAddr),
    /// A socket with mode 0600: only the broker's user and root may.
    Socket(PathBuf),
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
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// Why figures cannot be asked for there.
#[derive(Debug)]
pub struct EndpointError {
    listen: Listen,
    error: io::Error,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, error } = self;
        write!(
            f,
            "cannot listen on {listen} for metrics: {error}; choose another place in [metrics] listen, or take it out"
        )
    }
}

impl std::error::Error for EndpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A place that listens, with nobody behind it yet.
pub(crate) struct Endpoint {
    listener: Listener,
    listen: Listen,
}

enum Listener {
    Port(TcpListener),
    Socket(UnixListener),
}

/// One connection.
trait Stream: Read + Write + Send {
    fn limit(&self, time: Duration) -> io::Result<()>;
    /// Says that nothing more is written.
    fn end(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

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

    /// The figures; `None` when the loop does not answer.
    fn ask(&self) -> Option<Figures> {
        let (sender, answer) = bounded(1);
        self.sender.send(sender).ok()?;
        self.waker.wake().ok()?;
        answer.recv_timeout(PATIENCE).ok()
    }
}

impl Endpoint {
    /// Listens. A socket's file that nobody listens on is replaced.
    pub(crate) fn listen(listen: &Listen) -> Result<Self, EndpointError> {
        let made = match listen {
            Listen::Port(address) => TcpListener::bind(address).map(Listener::Port),
            Listen::Socket(path) => bind(path).map(Listener::Socket),
        };
        let listener = made.map_err(|error| EndpointError { listen: listen.clone(), error })?;
        let listen = match &listener {
            // Port 0 means any; which one it is now is known only here.
            Listener::Port(port) => port.local_addr().map_or(listen.clone(), Listen::Port),
            Listener::Socket(_) => listen.clone(),
        };
        Ok(Self { listener, listen })
    }

    /// Answers from now on, on a thread of its own that ends with the process.
    pub(crate) fn serve(self, metrics: Arc<Metrics>, asking: Asking) -> io::Result<()> {
        tracing::info!(listen = %self.listen, "metrics can be asked for");
        let answer = move || {
            loop {
                match self.accept() {
                    // Whoever hangs up has had enough.
                    Ok(mut stream) => drop(answer(&mut *stream, &metrics, &asking)),
                    // No descriptor is left, or the like; it passes.
                    Err(_) => thread::sleep(Duration::from_millis(100)),
                }
            }
        };
        thread::Builder::new().name("metrics".into()).spawn(answer).map(drop)
    }

    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.listener {
            Listener::Port(listener) => Box::new(listener.accept()?.0),
            Listener::Socket(listener) => Box::new(listener.accept()?.0),
        })
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

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics,
    Health,
    /// Something that is answered with this status.
    Else(&'static str),
}

fn answer(stream: &mut dyn Stream, metrics: &Metrics, asking: &Asking) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let asked = read(stream, until)?;
    let plain = "text/plain; charset=utf-8";
    let (status, kind, body) = match (&asked, asking.ask()) {
        (Asked::Else(status), _) => (*status, plain, format!("{status}\n")),
        (_, None) => ("503 Service Unavailable", plain, "the loop does not answer\n".to_owned()),
        (Asked::Metrics, Some(figures)) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ("200 OK", kind, metrics.text(&figures))
        }
        (Asked::Health, Some(figures)) if figures.stopping => {
            ("503 Service Unavailable", plain, "stopping\n".to_owned())
        }
        (Asked::Health, Some(_)) => ("200 OK", plain, "ok\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.flush()?;
    stream.end()?;
    // A connection that is closed with bytes unread is reset: a peer that still writes would not read the answer.
    let mut piece = vec![0; 64 << 10];
    while read_piece(stream, &mut piece, until)? > 0 {}
    Ok(())
}

/// Reads one request, as far as its head goes.
fn read(stream: &mut dyn Stream, until: Instant) -> io::Result<Asked> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let room = piece.len().min(LONGEST - head.len());
        let length = read_piece(stream, &mut piece[..room], until)?;
        head.extend_from_slice(&piece[..length]);
        match asked(&head) {
            Some(asked) => return Ok(asked),
            None if length == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            None if head.len() == LONGEST => {
                return Ok(Asked::Else("431 Request Header Fields Too Large"));
            }
            None => {}
        }
    }
}

/// Reads once, until the deadline of the connection.
fn read_piece(stream: &mut dyn Stream, piece: &mut [u8], until: Instant) -> io::Result<usize> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.limit(left)?;
        match stream.read(piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
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
        (Some("GET"), "/metrics") => Asked::Metrics,
        (Some("GET"), "/healthz") => Asked::Health,
        (Some("GET"), _) => Asked::Else("404 Not Found"),
        _ => Asked::Else("405 Method Not Allowed"),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

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
        assert_eq!(of("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Some(Asked::Metrics));
        assert_eq!(of("GET /metrics?x=1 HTTP/1.0\r\n\r\n"), Some(Asked::Metrics));
        assert_eq!(of("GET /healthz HTTP/1.1\r\n\r\n"), Some(Asked::Health));
        assert_eq!(of("GET /metrics HTTP/1.1\r\nHost:"), None);
        let refused = |head| matches!(of(head), Some(Asked::Else(_)));
        assert!(refused("GET / HTTP/1.1\r\n\r\n") && refused("POST /metrics HTTP/1.1\r\n\r\n"));
        assert!(refused("\u{1}\u{2}\r\n\r\n"));
    }

    /// A connection whose bytes come in these pieces.
    struct Pieces<'a>(VecDeque<&'a [u8]>);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.pop_front() else { return Ok(0) };
            let (now, later) = piece.split_at(piece.len().min(into.len()));
            if !later.is_empty() {
                self.0.push_front(later);
            }
            into[..now.len()].copy_from_slice(now);
            Ok(now.len())
        }
    }

    impl Write for Pieces<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Pieces<'_> {
        fn limit(&self, _: Duration) -> io::Result<()> {
            Ok(())
        }

        fn end(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn asked_in(pieces: &[&[u8]]) -> io::Result<Asked> {
        // An empty piece would be an end.
        let pieces = pieces.iter().copied().filter(|piece| !piece.is_empty()).collect();
        read(&mut Pieces(pieces), Instant::now() + PATIENCE)
    }

    #[test]
    fn a_request_may_be_cut_anywhere() {
        let head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nmore";
        for cut in 0..=head.len() {
            let asked = asked_in(&[&head[..cut], &head[cut..]]).expect("a request");
            assert_eq!(asked, Asked::Metrics, "cut at {cut}");
        }
        let end = asked_in(&[&head[..20], &head[20..30]]).expect_err("its end does not come");
        assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_head_is_too_long_in_whatever_pieces_it_comes() {
        for (length, fits) in [(LONGEST - 1, true), (LONGEST, true), (LONGEST + 1, false)] {
            let [front, back] = ["GET /metrics HTTP/1.1\r\nX: ", "\r\n\r\n"];
            let head = [front, &"x".repeat(length - front.len() - back.len()), back].concat();
            for size in [1, 7, 1_000, 1_024, 4_000, length] {
                let pieces: Vec<_> = head.as_bytes().chunks(size).collect();
                let asked = asked_in(&pieces).expect("a request");
                assert_eq!(asked == Asked::Metrics, fits, "{length} bytes in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_sockets_file_is_replaced_only_when_nobody_listens() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("metrics.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        let listen = Listen::Socket(path.clone());
        let first = Endpoint::listen(&listen).expect("the file was left behind");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Endpoint::listen(&listen).err().expect("somebody listens").to_string();
        assert!(second.contains("metrics.sock") && second.contains("[metrics]"), "{second}");
        drop(first);
    }
}
