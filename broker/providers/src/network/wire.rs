//! A socket on which nothing lasts longer than it may.
//!
//! A time limit of the socket itself is for one call: a server that sends a byte now and then would never meet it, and
//! TLS makes many calls for one. Here there is a moment, set in front of each step, at which every call ends.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::{ClientConnection, StreamOwned};

use super::deflate::Deflated;

/// A connection of either family.
#[derive(Debug)]
pub(crate) enum Socket {
    /// To a port.
    Tcp(TcpStream),
    /// To a path.
    Unix(UnixStream),
}

impl Socket {
    fn set_read_timeout(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(Some(time)),
            Self::Unix(socket) => socket.set_read_timeout(Some(time)),
        }
    }

    fn set_write_timeout(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_write_timeout(Some(time)),
            Self::Unix(socket) => socket.set_write_timeout(Some(time)),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(into),
            Self::Unix(socket) => socket.read(into),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// A connection with a moment at which everything on it ends.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    until: Instant,
    sent: u64,
}

impl Wire {
    /// A wire on which nothing may last yet.
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, until: Instant::now(), sent: 0 }
    }

    /// From now on everything ends at that moment.
    pub(crate) fn set_deadline(&mut self, until: Instant) {
        self.until = until;
    }

    /// Another handle of the socket.
    pub(crate) fn another(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Has the kernel end the connection if what was sent is not acknowledged for so long: the other end, or the network, is gone.
    pub(crate) fn end_if_unheard(&self, time: Duration) -> io::Result<()> {
        let time = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        match &self.socket {
            Socket::Tcp(socket) => {
                rustix::net::sockopt::set_tcp_user_timeout(socket, time)?;
                rustix::net::sockopt::set_socket_keepalive(socket, true)?;
                Ok(())
            }
            Socket::Unix(_) => Ok(()),
        }
    }

    /// The socket's own address, if it is one of a network.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().ok().map(|address| address.ip()),
            Socket::Unix(_) => None,
        }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// Waits until there is something to read, or until woken. Whether there is something to read.
    fn wait(&self, wake: BorrowedFd<'_>, most: Duration) -> io::Result<bool> {
        let until = Instant::now() + most;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let time = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(wake, PollFlags::IN),
            ];
            match poll(&mut fds, Some(&time)) {
                Ok(_) => return Ok(!fds[0].revents().is_empty()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let peeked = recv(&self.socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        peeked.is_err_and(|error| error == Errno::WOULDBLOCK)
    }
}

/// The socket's own limit shows as if there were nothing to read just now.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(into).map_err(in_words)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        let n = self.socket.write(bytes).map_err(in_words)?;
        self.sent += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A way to a server, in the open or not.
#[derive(Debug)]
pub(crate) enum Stream {
    /// In the open.
    Plain(Wire),
    /// Protected.
    Tls(Box<StreamOwned<ClientConnection, Wire>>),
    /// Compressed, in the open or protected.
    Deflated(Box<Deflated>),
}

impl Stream {
    /// What is below.
    pub(crate) fn wire(&mut self) -> &mut Wire {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => &mut tls.sock,
            Self::Deflated(deflated) => deflated.below.wire(),
        }
    }

    /// How many bytes the socket has taken.
    pub(crate) fn sent(&self) -> u64 {
        match self {
            Self::Plain(wire) => wire.sent,
            Self::Tls(tls) => tls.sock.sent,
            Self::Deflated(deflated) => deflated.below.sent(),
        }
    }

    /// Whether the server has neither said anything unasked nor closed the connection.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(wire) => wire.is_quiet(),
            Self::Tls(tls) => {
                let inside = tls.conn.process_new_packets();
                inside.is_ok_and(|inside| inside.plaintext_bytes_to_read() == 0)
                    && tls.sock.is_quiet()
            }
            Self::Deflated(deflated) => deflated.is_quiet(),
        }
    }

    /// Waits until the server says something or closes the connection, until `wake` can be read, or until so much time has passed. Whether
    /// a read would not wait. Of what is protected or compressed this reads, so the wire's deadline must be behind that time.
    pub(crate) fn wait(&mut self, wake: BorrowedFd<'_>, most: Duration) -> io::Result<bool> {
        match self {
            Self::Plain(wire) => wire.wait(wake, most),
            Self::Tls(tls) => {
                let inside = tls.conn.process_new_packets().map_err(io::Error::other)?;
                if inside.plaintext_bytes_to_read() > 0 {
                    return Ok(true);
                }
                tls.sock.wait(wake, most)
            }
            Self::Deflated(deflated) => deflated.wait(wake, most),
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls) => {
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
            Self::Deflated(deflated) => deflated.below.close(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.read(into),
            Self::Tls(tls) => tls.read(into),
            Self::Deflated(deflated) => deflated.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
            Self::Deflated(deflated) => deflated.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(wire) => wire.flush(),
            Self::Tls(tls) => tls.flush(),
            Self::Deflated(deflated) => deflated.flush(),
        }
    }
}
