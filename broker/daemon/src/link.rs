//! One connection: bytes come in and are cut into frames; frames go out. This stair knows lengths, the hello, and how a connection ends.
//!
//! ```text
//!  AwaitHello ──hello──► Open ──goodbye──► Closing ──everything written, or deadline──► gone
//!      │                  ├──the peer's end, everything answered and written, or deadline──► gone
//!      │                  └──beyond its account──► Overdrawn ──► gone
//!      ├──not a hello, too late, another version──► Closing
//!      └──the peer's end──► gone
//! ```
//!
//! A connection whose client does not read is held back: nothing more of it is read or applied until the client has read. A peer that
//! can send nothing more, because it has closed its sending end or its process has ended, is not held back.
//!
//! A peer can close each direction. When it closes the one in which it sends, everything it sent before is applied and answered. When
//! it closes the one in which it reads, answers are dropped.

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
use sundown_protocol::{Code, Fault, Version, codec};

use crate::inbox::{Came, Inbox};
use crate::ledger::Account;
use crate::outbox::{Outbox, Pushed, TooSlow};
use crate::peer::Credentials;
use crate::tickets::Tickets;

/// How long a peer may take for its hello.
pub(crate) const HELLO: Duration = Duration::from_secs(10);
/// How long a connection may take to end: to answer what was asked before the peer closed its sending end, or to write a goodbye. A
/// logoff that waits out the default grace of a shared session, 30 s, is answered within it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(60);
/// Read at once. A connection that sends more takes turns with the others.
pub(crate) const READ: usize = 64 << 10;
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
    /// Whether it has something that was not tried to be written.
    pub(crate) dirty: bool,
    /// The process at the other end, once it has said hello.
    pub(crate) process: Option<ProcessKey>,
    /// The deadline of a connection that is ending.
    pub(crate) until: Option<Instant>,
    inbox: Inbox,
    /// How many requests were applied and not answered.
    unanswered: usize,
    requests: Requests,
    pub(crate) outbox: Outbox,
    /// Bytes of the answer to one who may not stay, or never said hello: they are nobody's.
    raw: Vec<u8>,
    /// Whether the peer has closed its reading end: what is written does not arrive.
    output_closed: bool,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// It must say hello by then.
    AwaitHello(Instant),
    /// Both sides speak this version.
    Open(Version),
    /// It ends when the outbox is written. What the peer still sends is read and dropped: a peer that blocks in a write would else
    /// never read the goodbye.
    Closing,
    /// The account of its process is full. It ends at once.
    Overdrawn,
}

/// What becomes of the requests of an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requests {
    Applied,
    /// They wait until the client has read.
    HeldBack,
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
}

impl Link {
    pub(crate) fn new(
        socket: OwnedFd,
        now: Instant,
        account: impl FnOnce(&Credentials) -> Rc<Account>,
        limit: usize,
    ) -> io::Result<Self> {
        let credentials = Credentials::of(socket.as_fd())?;
        let outbox = Outbox::new(account(&credentials), limit);
        Ok(Self {
            socket: socket.into(),
            credentials,
            state: LinkState::AwaitHello(now + HELLO),
            wants: Interest::READABLE,
            unread: false,
            dirty: false,
            process: None,
            until: None,
            inbox: Inbox::default(),
            unanswered: 0,
            requests: Requests::Applied,
            outbox,
            raw: Vec::new(),
            output_closed: false,
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

    /// The peer has closed its sending end: what the socket has is read, and nothing comes behind it.
    pub(crate) fn expect_end(&mut self) {
        self.inbox.ends();
    }

    /// The peer has closed its reading end: what waits for it, and what would, is dropped.
    pub(crate) fn close_output(&mut self) {
        self.output_closed = true;
        self.raw.clear();
        self.outbox.clear();
    }

    /// It ends at once, and nothing of it is kept.
    pub(crate) fn overdraw(&mut self) {
        self.state = LinkState::Overdrawn;
        self.raw = Vec::new();
        self.inbox = Inbox::default();
        self.outbox.clear();
        let _ = self.outbox.hold(0);
    }

    /// The peer's process has ended: of what comes, only the bytes that the socket has now are its own and are read. Returns whether
    /// all requests in them were applied.
    pub(crate) fn process_ended(&mut self) -> bool {
        match self.state {
            LinkState::Closing | LinkState::Overdrawn => true,
            LinkState::AwaitHello(_) | LinkState::Open(_) => {
                let waits = || rustix::io::ioctl_fionread(&self.socket).unwrap_or(0) as usize;
                self.inbox.ends_after(waits);
                self.inbox.is_over()
            }
        }
    }

    /// Whether its requests wait until the client has read. Everything in front of an end is applied: it is no more than the socket has.
    fn hold_back(&mut self) -> bool {
        let held_back = self.outbox.is_full()
            && matches!(self.state, LinkState::Open(_))
            && !self.output_closed
            && self.inbox.is_open();
        self.requests = if held_back { Requests::HeldBack } else { Requests::Applied };
        held_back
    }

    /// Whether its requests have waited and go on now.
    pub(crate) fn go_on(&mut self) -> bool {
        self.requests == Requests::HeldBack && !self.hold_back()
    }

    /// Reads once: how many bytes, and whether there may be more. While the connection closes, [`next`](Self::next) ignores them.
    pub(crate) fn read(&mut self, scratch: &mut Vec<u8>) -> (usize, Intake) {
        if self.hold_back() {
            return (0, Intake::Drained);
        }
        scratch.resize(READ, 0);
        let room = match self.state {
            LinkState::AwaitHello(_) | LinkState::Open(_) => self.inbox.room(READ),
            LinkState::Closing => READ,
            LinkState::Overdrawn => 0,
        };
        if room == 0 {
            // The socket may have more behind the requests that wait.
            return (0, if self.inbox.has_frame() { Intake::More } else { Intake::Drained });
        }
        let came = match (&self.socket).read(&mut scratch[..room]) {
            Ok(0) => Came::End,
            Ok(n) => Came::Bytes(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Came::NothingNow,
            Err(e) if e.kind() == ErrorKind::Interrupted => return (0, Intake::More),
            Err(_) => {
                self.close_output();
                Came::End
            }
        };
        self.inbox.note(came);
        let read = if let Came::Bytes(n) = came { n } else { 0 };
        // A short read has emptied the socket. The poll tells of an end that follows, but not again of one that it told before.
        let more = read == READ || self.inbox.expects_more();
        (read, if more { Intake::More } else { Intake::Drained })
    }

    /// The next whole frame of what waits and of what was read just now, decoded as what this connection may say now. None while the
    /// connection is held back.
    pub(crate) fn next(&mut self, read: &mut &[u8]) -> Result<Option<Incoming>, Fault> {
        let version = match self.state {
            LinkState::AwaitHello(_) => None,
            LinkState::Open(version) => Some(version),
            LinkState::Closing | LinkState::Overdrawn => return Ok(None),
        };
        if self.hold_back() {
            return Ok(None);
        }
        let decode = |payload: &[u8], taken| match version {
            Some(version) => request(payload, version).map(|asked| Incoming::Request(asked, taken)),
            None => hello(payload),
        };
        let next = self.inbox.next(read, decode).map_err(|NotSaid(why)| why)?;
        if let Some(Incoming::Request(asked, _)) = &next {
            self.unanswered += 1;
            if has_long_answer(&asked.request) && !self.output_closed {
                self.outbox.expect(asked.id);
            }
        }
        Ok(next)
    }

    /// Keeps what was read and not used, and has the process pay for it. What a connection has in any case is not looked at.
    pub(crate) fn keep(&mut self, read: &[u8]) -> Result<(), TooSlow> {
        if !self.is_active() {
            return Ok(());
        }
        let bytes = self.inbox.keep(read);
        self.outbox.hold(if bytes > FREE { bytes } else { 0 })
    }

    /// Whether nothing waits that was read, nor is paid for.
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.inbox.is_empty() && !self.outbox.holds()
    }

    /// Queues a message, or drops it where the peer has closed its reading end.
    pub(crate) fn push(&mut self, message: &FromBroker) -> Result<Pushed, TooSlow> {
        if let FromBroker::Answer { .. } = message {
            self.unanswered -= 1;
        }
        if self.output_closed { Ok(Pushed::Discarded) } else { self.outbox.push(message) }
    }

    /// Whether requests of the peer are applied and messages are queued for it.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.state, LinkState::AwaitHello(_) | LinkState::Open(_))
    }

    /// Whether no more requests will be applied.
    pub(crate) fn is_ending(&self) -> bool {
        !self.is_active() || self.inbox.has_ended()
    }

    /// Whether nothing is left to do for it. A peer that has closed its sending end can ask for nothing more, so its connection ends
    /// with the last answer.
    pub(crate) fn is_over(&self) -> bool {
        let written = self.output_closed || self.is_flushed();
        match self.state {
            LinkState::AwaitHello(_) => self.inbox.has_ended(),
            LinkState::Open(_) => {
                self.inbox.has_ended() && (self.output_closed || written && self.unanswered == 0)
            }
            LinkState::Closing => written,
            LinkState::Overdrawn => true,
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
            LinkState::Closing | LinkState::Overdrawn => return,
        };
        if !said {
            self.raw.clear();
        }
        // Requests that wait are not applied, so the process no longer pays for them.
        self.inbox = Inbox::default();
        let _ = self.outbox.hold(0);
        self.outbox.expect_nothing();
        self.state = LinkState::Closing;
    }

    /// Writes what the socket takes. Whether everything is written.
    pub(crate) fn flush(&mut self) -> Result<bool, TooSlow> {
        self.dirty = false;
        if self.output_closed {
            self.close_output();
        }
        loop {
            let waits = if self.raw.is_empty() { self.outbox.front() } else { Some(&self.raw[..]) };
            let Some(waits) = waits else { return Ok(true) };
            match (&self.socket).write(waits) {
                Ok(n) if self.raw.is_empty() => self.outbox.advance(n)?,
                Ok(n) => drop(self.raw.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // What the peer sent before is still read.
                Err(_) => self.close_output(),
            }
        }
    }

    fn is_flushed(&self) -> bool {
        self.raw.is_empty() && self.outbox.is_empty()
    }
}

/// Why a frame is not a hello or a request that this connection may send.
struct NotSaid(Fault);

impl<E: std::fmt::Display> From<E> for NotSaid {
    fn from(error: E) -> Self {
        Self(Fault::new(Code::E_CORRUPT_DATA, error.to_string()))
    }
}

fn request(payload: &[u8], version: Version) -> Result<Asked, NotSaid> {
    let asked: Asked = codec::decode(payload)?;
    if asked.request.since() > version {
        return Err(too_new(&asked.request, version).into());
    }
    Ok(asked)
}

/// Whether a provider is asked for what may fill a frame. What the core answers at once is there before another request is applied.
fn has_long_answer(request: &Request) -> bool {
    matches!(
        request,
        Request::Read { .. }
            | Request::List { .. }
            | Request::AddressBook { .. }
            | Request::Setting { .. }
            | Request::Queue { .. }
    )
}

fn hello(payload: &[u8]) -> Result<Incoming, NotSaid> {
    let hello: Hello = codec::decode(payload)?;
    let version = agree(&hello).map_err(NotSaid)?;
    Ok(Incoming::Hello(hello, version))
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
            let mut link = Link::new(near.into(), Instant::now(), |_| Account::alone(), 1 << 20)
                .expect("a link");
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
                assert!(ends.link.keeps_nothing(), "nothing waits");
            }
        }
    }

    #[test]
    fn what_waits_for_its_turn_comes_before_what_is_read_then() {
        let mut ends = Ends::new();
        ends.peer.write_all(&three_requests()).expect("written");
        assert_eq!(ends.hear(1), [1]);
        ends.peer.write_all(&three_requests()).expect("written");
        assert_eq!(ends.hear(3), [2, 3]);
        assert_eq!(ends.hear(2), [1, 2]);
        assert_eq!(ends.hear(usize::MAX), [3]);
        assert_eq!(ends.hear(usize::MAX), [0; 0]);
    }

    /// However the end is met: the poll tells of it before the last bytes are read, or a read meets it.
    #[test]
    fn it_is_over_when_what_came_before_the_end_is_used_and_answered() {
        let bytes = three_requests();
        for sent in 0..=bytes.len() {
            for told in [false, true] {
                let mut ends = Ends::new();
                ends.peer.write_all(&bytes[..sent]).expect("written");
                ends.peer.shutdown(std::net::Shutdown::Write).expect("it is connected");
                if told {
                    ends.link.expect_end();
                }
                let mut heard = Vec::new();
                for _ in 0..5 {
                    heard.extend(ends.hear(1));
                }
                let whole = sent * 3 / bytes.len();
                assert_eq!(heard, (1..=whole as u64).collect::<Vec<_>>(), "{sent} bytes");
                assert!(ends.link.is_ending());
                for id in heard {
                    assert!(!ends.link.is_over(), "{id} is not answered");
                    let (id, result) = (RequestId(id), Ok(sundown_protocol::Reply::Done));
                    ends.link.push(&FromBroker::Answer { id, result }).expect("room");
                }
                assert_eq!(ends.link.is_over(), whole == 0, "answers are not written");
                assert!(ends.link.flush().expect("room") && ends.link.is_over());
            }
        }
    }

    #[test]
    fn behind_a_goodbye_nothing_is_active_and_nothing_kept() {
        let mut ends = Ends::new();
        ends.peer.write_all(&three_requests()).expect("written");
        ends.peer
            .write_all(&[&(10_000u32).to_le_bytes()[..], &[0; 9_000]].concat())
            .expect("written");
        assert_eq!(ends.hear(1), [1]);
        assert!(!ends.link.keeps_nothing());
        ends.link.say_goodbye(Fault::new(Code::E_CORRUPT_DATA, "wrong"));
        assert!(ends.link.keeps_nothing(), "it is not paid for any more");
        ends.peer.write_all(&three_requests()).expect("written");
        assert_eq!(ends.hear(usize::MAX), [0; 0]);
        assert!(ends.link.keeps_nothing() && !ends.link.is_over());
        assert!(ends.link.flush().expect("room") && ends.link.is_over());
    }

    #[test]
    fn a_peer_that_does_not_read_is_still_heard() {
        let mut ends = Ends::new();
        ends.peer.write_all(&three_requests()).expect("written");
        drop(std::mem::replace(&mut ends.peer, UnixStream::pair().expect("a pair").0));
        assert_eq!(ends.hear(1), [1]);
        let answer =
            FromBroker::Answer { id: RequestId(1), result: Ok(sundown_protocol::Reply::Done) };
        assert_eq!(ends.link.push(&answer), Ok(Pushed::Queued));
        assert_eq!(ends.link.flush(), Ok(true), "there is nobody to write to");
        assert!(!ends.link.is_over());
        assert_eq!(ends.hear(1), [2]);
        assert_eq!(ends.link.push(&answer), Ok(Pushed::Discarded));
        assert_eq!((ends.hear(1), ends.hear(1)), (vec![3], vec![]));
        assert!(ends.link.is_over(), "what is not answered is not waited for");
    }
}
