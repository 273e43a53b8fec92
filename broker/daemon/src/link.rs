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
    pub(crate) fn identity(&mut self, id: ConnectionId, hello: Hello) -> PeerIdentity {
        self.credentials.identity(self.socket.as_fd(), id, hello)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads once.
    pub(crate) fn read(&mut self, scratch: &mut Vec<u8>) -> Intake {
        scratch.resize(READ, 0);
        match (&self.socket).read(scratch) {
            Ok(0) => Intake::Ended,
            Ok(n) => {
                self.inbox.drain(..self.used);
                self.used = 0;
                self.inbox.extend_from_slice(&scratch[..n]);
                if self.hold().is_err() {
                    tracing::warn!(
                        "a process has begun more requests than may wait for it; disconnected"
                    );
                    return Intake::Ended;
                }
                // A short read has emptied the socket. An end that follows is an event of its own, one that is there already
                // is not.
                match n {
                    READ => Intake::More,
                    _ if self.said_all => Intake::Ended,
                    _ => Intake::Drained,
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Intake::Drained,
            Err(e) if e.kind() == ErrorKind::Interrupted => Intake::More,
            Err(_) => Intake::Ended,
        }
    }

    /// Has the process pay for what it has sent. What a connection has in any case is not looked at.
    fn hold(&mut self) -> Result<(), TooSlow> {
        let bytes = self.inbox.len() - self.used;
        self.outbox.hold(if bytes > FREE { bytes } else { 0 })
    }

    /// The next whole frame, decoded as what this connection may say now.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Fault> {
        if self.state == LinkState::Closing {
            return Ok(None);
        }
        let cut = frame::cut(&self.inbox[self.used..]).map_err(|e| protocol_fault(&e))?;
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
        self.used += taken;
        self.shrink();
        Ok(Some(incoming))
    }

    /// An idle connection keeps no buffer.
    fn shrink(&mut self) {
        if self.used == self.inbox.len() {
            self.used = 0;
            self.inbox.clear();
            self.inbox.shrink_to(512);
            let nothing = self.hold();
            debug_assert_eq!(nothing, Ok(()));
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
