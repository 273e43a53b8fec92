//! A broker's socket: connecting to it, and the process at its other end.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::limits::Limits;
pub use crate::process::Credentials;

/// The shortest timeout. The kernel takes a timeout of zero for none.
const SHORTEST: Duration = Duration::from_millis(1);

/// Connects to a socket, and waits at most `patience` while its backlog is full, as if the broker is stopped or very busy. After
/// that it fails with [`TimedOut`](io::ErrorKind::TimedOut), as it does when the thread's limits end the call.
pub fn connect_within(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + patience;
    let limits = Limits::of_this_thread();
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    loop {
        let left = limits.next_look(until).saturating_duration_since(Instant::now());
        // The kernel wakes the waiting thread as soon as there is room. This timeout ends the wait with EAGAIN.
        set_socket_timeout(&socket, Timeout::Send, Some(left.max(SHORTEST)))?;
        match connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR | Errno::AGAIN) if Instant::now() < until && limits.check().is_ok() => {
            }
            Err(Errno::INTR | Errno::AGAIN) => {
                let why = "its backlog is full: the broker accepts no connections";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(error) => return Err(error.into()),
        }
    }
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::limits::within;

    /// A socket whose backlog is full, and the connections that fill it.
    fn full(directory: &tempfile::TempDir) -> (UnixListener, Vec<UnixStream>) {
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).expect("bound");
        rustix::net::listen(&listener, 0).expect("a short backlog");
        let connect = || connect_within(&path, SHORTEST);
        let waiting: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        assert!(!waiting.is_empty());
        (listener, waiting)
    }

    #[test]
    fn a_full_backlog_is_no_connection_and_no_refusal() {
        let directory = tempfile::tempdir().expect("a directory");
        let (_listener, _waiting) = full(&directory);
        let path = directory.path().join("s");
        let error = connect_within(&path, SHORTEST).expect_err("there is no room");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        let hour = Duration::from_secs(3600);
        let error = within(SHORTEST, || connect_within(&path, hour)).expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[test]
    fn room_in_the_backlog_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let (listener, _waiting) = full(&directory);
        let path = directory.path().join("s");
        thread::scope(|scope| {
            let late = scope.spawn(|| connect_within(&path, Duration::from_secs(60)));
            listener.accept().expect("one of those that wait");
            let late = late.join().expect("no panic").expect("it has the room");
            assert_eq!(late.write_timeout().expect("an option"), None);
        });
    }

    #[test]
    fn who_is_not_there_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let hour = Duration::from_secs(3600);
        let error = connect_within(&path, hour).expect_err("nothing is there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        drop(UnixListener::bind(&path).expect("bound"));
        let error = connect_within(&path, hour).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let long = Path::new("/tmp").join("x".repeat(200));
        assert!(connect_within(&long, hour).is_err());
    }
}
