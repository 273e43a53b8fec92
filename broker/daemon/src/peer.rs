//! Who is at the other end of a connection, as the kernel says it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use sundown_core::{ConnectionId, PeerIdentity, ProcessKey};
use sundown_protocol::hello::{Hello, MAX_PROGRAM};
use sundown_protocol::reply::Peer;

use crate::platform;
use crate::tickets::{self, Tickets};

/// What the kernel says about a peer when it connects.
pub(crate) struct Credentials {
    /// 0 for a process that the broker's pid namespace does not show.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    /// Where the kernel offers it, once it has said hello: who says nothing must not cost another descriptor.
    pub(crate) pidfd: Option<OwnedFd>,
}

impl Credentials {
    pub(crate) fn of(socket: BorrowedFd<'_>) -> std::io::Result<Self> {
        let said = platform::peer_credentials(socket)?;
        Ok(Self { pid: said.pid.cast_unsigned(), uid: said.uid, pidfd: None })
    }

    /// The identity, with what the peer adds to it: its program's name, and the sixteen bytes that tell one program
    /// image from the next in the same process.
    pub(crate) fn identity(
        &mut self,
        socket: BorrowedFd<'_>,
        connection: ConnectionId,
        hello: Hello,
        tickets: &Tickets,
    ) -> PeerIdentity {
        self.pidfd = platform::peer_pidfd(socket);
        let mut key = [0; 32];
        let (kind, number, more) = self.process(connection);
        key[0] = kind;
        key[1..8].copy_from_slice(&more.to_le_bytes()[..7]);
        key[8..16].copy_from_slice(&number.to_le_bytes());
        key[16..].copy_from_slice(&hello.image);
        let mut program = hello.program;
        program.retain(|c| !c.is_control());
        if let Some((end, _)) = program.char_indices().nth(MAX_PROGRAM) {
            program.truncate(end);
        }
        // What was cut off would be kept as room.
        program.shrink_to_fit();
        PeerIdentity {
            key: ProcessKey(key),
            peer: Peer { pid: self.pid, program },
            uid: self.uid,
            library: hello.library,
            since: tickets::since_boot(),
            served_before: tickets.served_before(|| start_time(self.pid)),
        }
    }

    fn process(&self, connection: ConnectionId) -> (u8, u64, u64) {
        let inode = self.pidfd.as_ref().and_then(unique_inode);
        match inode {
            // A process that changes its user is another one: it has other rights.
            Some(inode) => (1, inode, u64::from(self.uid)),
            None => match start_time(self.pid) {
                Some(started) => (2, u64::from(self.pid) | u64::from(self.uid) << 32, started),
                // A process that the kernel cannot name is one per connection.
                None => (3, connection.0, 0),
            },
        }
    }
}

/// On a kernel whose pidfds have a file system of their own (Linux 6.9) their inode is unique for the machine's life.
fn unique_inode(pidfd: &OwnedFd) -> Option<u64> {
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    static HAS_PIDFS: OnceLock<bool> = OnceLock::new();
    let has_pidfs = || {
        let system = rustix::fs::fstatfs(pidfd.as_fd());
        system.is_ok_and(|system| system.f_type as u64 == PIDFS_MAGIC)
    };
    HAS_PIDFS.get_or_init(has_pidfs).then_some(())?;
    rustix::fs::fstat(pidfd.as_fd()).ok().map(|s| s.st_ino)
}

/// When a process started, in clock ticks since the machine did: field 22 of its `stat`. `None` for a process that this pid
/// namespace does not show.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind_name = &stat[stat.rfind(')')? + 1..];
    behind_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_connections_of_one_process_are_one_process_and_another_image_is_another() {
        let (a, _a) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let (b, _b) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let hello = |image| Hello {
            magic: sundown_protocol::hello::MAGIC,
            oldest: 1,
            newest: 1,
            image: [image; 16],
            library: [0; 16],
            program: "a\nb".into(),
        };
        let tickets = Tickets::open(&[], std::path::Path::new("s")).expect("in memory");
        let identity = |socket: &std::os::unix::net::UnixStream, connection, image| {
            let mut credentials = Credentials::of(socket.as_fd()).expect("the kernel says");
            let mut identity = credentials.identity(
                socket.as_fd(),
                ConnectionId(connection),
                hello(image),
                &tickets,
            );
            identity.since = std::time::Duration::ZERO;
            identity
        };
        assert_eq!(identity(&a, 1, 7), identity(&b, 2, 7));
        assert_ne!(identity(&a, 1, 7).key, identity(&b, 2, 8).key);
        let mut other_user = Credentials::of(a.as_fd()).expect("the kernel says");
        other_user.uid += 1;
        let other_user = other_user.identity(
            a.as_fd(),
            ConnectionId(1),
            hello(7),
            &Tickets::open(&[], std::path::Path::new("s")).expect("in memory"),
        );
        assert_ne!(
            other_user.key,
            identity(&a, 1, 7).key,
            "a process that changed its user is another one"
        );
        let identity = identity(&a, 1, 7);
        assert_eq!(identity.peer, Peer { pid: std::process::id(), program: "ab".into() });
    }

    #[test]
    fn a_process_has_a_start_time() {
        assert!(start_time(std::process::id()).is_some_and(|t| t > 0));
        assert_eq!(start_time(u32::MAX), None);
    }
}
