//! One connection: bytes come in and are cut into frames; frames go out. This stair knows lengths and the hello.
//!
//! ```text
//!  AwaitHello ──hello──► Open ──goodbye──► Closing ──everything written──► gone
//!      └──not a hello, too late, another version──► Closing
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::Interest;
use sundown_core::settings::Limits;
use sundown_core::{ConnectionId, PeerIdentity, ProcessKey};
use sundown_protocol::hello::{Answer, Hello, MAGIC, Refused, Welcome};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::{Asked, Request};
use sundown_protocol::{Code, Fault, Version, codec, frame};

use crate::outbox::{Account, Outbox, TooSlow};
use crate::peer::Credentials;
use crate::tickets::Tickets;

/// How long a peer may take for its hello.
pub(crate) const HELLO: Duration = Duration::from_secs(10);
/// Read at once. A connection that sends more takes turns with the others.
const READ: usize = 64 << 10;
/// So much of requests that are not whole yet costs nothing: most reads bring whole ones.
const FREE: usize = 4 << 10;

/// One connection.
pub(crate) struct Link {
    /// Read and written by the C library, where tests of power cuts look on.
    socket: UnixStream,
    pub(crate) credentials: Credentials,
    pub(crate) state: LinkState,
    /// What the loop is woken for.
    pub(crate) wants: Interest,
    /// Whether the loop has it on its list of those with more to read.
    pub(crate) unread: bool,
    /// Whether the peer says nothing more behind what the socket has.
    pub(crate) said_all: bool,
    /// Whether it has something that was not tried to be written.
    pub(crate) dirty: bool,
    /// The process at the other end, once it has said hello.
    pub(crate) process: Option<ProcessKey>,
    /// What was read and not used: requests that are not whole yet, and those that wait for the connection's next turn.
    inbox: Vec<u8>,
    /// How much of the inbox was used.
    used: usize,
    pub(crate) outbox: Outbox,
    /// Bytes of the answer to one who may not stay, or never said hello: they are nobody's.
    raw: Vec<u8>,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// It must say hello by then.
    AwaitHello(Instant),
    /// Both sides speak this version.
    Open(Version),
    /// What waits is written, and then it ends.
    Closing,
}

/// One frame of a peer.
pub(crate) enum Incoming {
    Hello(Hello, Version),
    /// A request, and the size of its frame.
    Request(Asked, usize),
}

/// What reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intake {
    /// Nothing more for now.
    Drained,
    /// There may be more; others have their turn first.
    More,
    /// The peer has ended.
    Ended,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd, now: Instant, limit: usize) -> io::Result<Self> {
        let credentials = Credentials::of(socket.as_fd())?;
        Ok(Self {
            socket: socket.into(),
            credentials,
            state: LinkState::AwaitHello(now + HELLO),
            wants: Interest::READABLE,
            unread: false,
            said_all: false,
            dirty: false,
            process: None,
            inbox: Vec::new(),
            used: 0,
            outbox: Outbox::new(Rc::default(), limit),
            raw: Vec::new(),
        })
    }

    /// Who has said this hello.
    pub(crate) fn identity(
        &mut self,
        id: ConnectionId,
        hello: Hello,
        tickets: &Tickets,
    ) -> PeerIdentity {
        self.credentials.identity(self.socket.as_fd(), id, hello, tickets)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads once: how many bytes, and whether there may be more.
    pub(crate) fn read(&mut self, scratch: &mut Vec<u8>) -> (usize, Intake) {
        scratch.resize(READ, 0);
        match (&self.socket).read(scratch) {
            Ok(0) => (0, Intake::Ended),
            Ok(READ) => (READ, Intake::More),
            // A short read has emptied the socket. An end that follows is an event of its own, one that is there already
            // is not.
            Ok(n) => (n, if self.said_all { Intake::Ended } else { Intake::Drained }),
            Err(e) if e.kind() == ErrorKind::WouldBlock => (0, Intake::Drained),
            Err(e) if e.kind() == ErrorKind::Interrupted => (0, Intake::More),
            Err(_) => (0, Intake::Ended),
        }
    }

    /// The next whole frame, decoded as what this connection may say now. It is looked for in what waits and then in what
    /// was read just now, so that a request that came whole is not copied before it is decoded.
    pub(crate) fn next(&mut self, read: &mut &[u8]) -> Result<Option<Incoming>, Fault> {
        if self.state == LinkState::Closing {
            return Ok(None);
        }
        if !self.inbox.is_empty() {
            self.inbox.extend_from_slice(std::mem::take(read));
        }
        let bytes = if self.inbox.is_empty() { *read } else { &self.inbox[self.used..] };
        let cut = frame::cut(bytes).map_err(|e| protocol_fault(&e))?;
        let Some((payload, taken)) = cut else { return Ok(None) };
        let incoming = if let LinkState::Open(version) = self.state {
            let asked: Asked = codec::decode(payload).map_err(|e| protocol_fault(&e))?;
            if asked.request.since() > version {
                return Err(protocol_fault(&too_new(&asked.request, version)));
            }
            Incoming::Request(asked, taken)
        } else {
            let hello: Hello = codec::decode(payload).map_err(|e| protocol_fault(&e))?;
            let version = agree(&hello)?;
            Incoming::Hello(hello, version)
        };
        if self.inbox.is_empty() {
            *read = &read[taken..];
        } else {
            self.used += taken;
            self.shrink();
        }
        Ok(Some(incoming))
    }

    /// Keeps what was read and not used, and has the process pay for it. What a connection has in any case is not looked at.
    pub(crate) fn keep(&mut self, read: &[u8]) -> Result<(), TooSlow> {
        self.inbox.drain(..self.used);
        self.used = 0;
        self.inbox.extend_from_slice(read);
        let bytes = self.inbox.len();
        self.outbox.hold(if bytes > FREE { bytes } else { 0 })
    }

    /// Whether nothing waits that was read, nor is paid for.
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.inbox.is_empty() && !self.outbox.holds()
    }

    /// An idle connection keeps no buffer.
    fn shrink(&mut self) {
        if self.used == self.inbox.len() {
            self.used = 0;
            self.inbox.clear();
            self.inbox.shrink_to(512);
        }
    }

    /// Opens the connection for a process that pays from this account.
    pub(crate) fn welcome(
        &mut self,
        key: ProcessKey,
        version: Version,
        account: Rc<Account>,
        (broker, limits): (u32, &Limits),
    ) {
        self.state = LinkState::Open(version);
        self.process = Some(key);
        self.outbox = Outbox::new(account, limits.outbox_bytes);
        let welcome = Welcome {
            version: version as u16,
            pid: broker,
            requests: limits.requests,
            bytes: limits.request_bytes,
        };
        // With it goes the answer to what came behind the hello.
        self.outbox.greet(&Answer::Welcome(welcome));
    }

    /// Says why, and ends when that is written.
    pub(crate) fn say_goodbye(&mut self, why: Fault) {
        let said = match self.state {
            LinkState::AwaitHello(_) => {
                let refused = Refused { code: why.code.0, message: why.message };
                codec::encode_into(&Answer::Refused(refused), &mut self.raw).is_ok()
            }
            LinkState::Open(_) => self.outbox.push(&FromBroker::Goodbye(why)).is_ok(),
            LinkState::Closing => true,
        };
        if !said {
            self.raw.clear();
        }
        self.state = LinkState::Closing;
    }

    /// Writes what the socket takes. Whether everything is written; an error ends the connection.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        self.dirty = false;
        let too_slow = |TooSlow| io::Error::from(ErrorKind::OutOfMemory);
        while !self.raw.is_empty() {
            match (&self.socket).write(&self.raw) {
                Ok(n) => drop(self.raw.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        while let Some(front) = self.outbox.front() {
            match (&self.socket).write(front) {
                Ok(n) => self.outbox.advance(n).map_err(too_slow)?,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.raw.is_empty() && self.outbox.is_empty()
    }
}

/// The version both sides speak.
fn agree(hello: &Hello) -> Result<Version, Fault> {
    if hello.magic != MAGIC {
        return Err(Fault::new(Code::E_VERSION, "this is not Sundown's protocol"));
    }
    Version::negotiate(hello.oldest, hello.newest).ok_or_else(|| {
        let message = format!(
            "the client speaks versions {} to {}, the broker {} to {}; update the older one",
            hello.oldest,
            hello.newest,
            Version::OLDEST as u16,
            Version::NEWEST as u16
        );
        Fault::new(Code::E_VERSION, message)
    })
}

fn too_new(request: &Request, version: Version) -> String {
    format!("version {} has no request {}", version as u16, request.name())
}

fn protocol_fault(error: &impl std::fmt::Display) -> Fault {
    Fault::new(Code::E_CORRUPT_DATA, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sundown_protocol::{MemberId, RequestId};

    struct Ends {
        link: Link,
        peer: UnixStream,
        scratch: Vec<u8>,
    }

    impl Ends {
        fn new() -> Self {
            let (near, peer) = UnixStream::pair().expect("a pair");
            near.set_nonblocking(true).expect("set");
            let mut link = Link::new(near.into(), Instant::now(), 1 << 20).expect("a link");
            link.state = LinkState::Open(Version::NEWEST);
            Self { link, peer, scratch: Vec::new() }
        }

        /// The numbers of at most so many requests that come now.
        fn hear(&mut self, most: usize) -> Vec<u64> {
            let (read, _) = self.link.read(&mut self.scratch);
            let mut read = &self.scratch[..read];
            let mut heard = Vec::new();
            while heard.len() < most
                && let Some(Incoming::Request(asked, _)) = self.link.next(&mut read).expect("sound")
            {
                heard.push(asked.id.0);
            }
            self.link.keep(read).expect("it is paid for");
            heard
        }
    }

    fn three_requests() -> Vec<u8> {
        let mut bytes = Vec::new();
        for id in 1..=3 {
            let asked =
                Asked { id: RequestId(id), request: Request::Flush { member: MemberId(7) } };
            codec::encode_into(&asked, &mut bytes).expect("it fits");
        }
        bytes
    }

    #[test]
    fn requests_may_be_cut_anywhere() {
        let bytes = three_requests();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut ends = Ends::new();
                let mut heard = Vec::new();
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    ends.peer.write_all(piece).expect("written");
                    heard.extend(ends.hear(usize::MAX));
                }
                assert_eq!(heard, [1, 2, 3], "cut at {first} and {second}");
                assert!(ends.link.inbox.is_empty(), "nothing waits");
            }
        }
    }

    #[test]
    fn what_waits_for_its_turn_comes_before_what_is_read_then() {
        let mut ends = Ends::new();
        ends.peer.write_all(&three_requests()).expect("written");
        assert_eq!(ends.hear(1), [1]);
        ends.peer.write_all(&three_requests()).expect("written");
        assert_eq!(ends.hear(3), [2, 3, 1]);
        assert_eq!(ends.hear(usize::MAX), [2, 3]);
        assert_eq!(ends.hear(usize::MAX), [0; 0]);
    }
}
