//! One connection to a broker: requests out, answers and notifications in.
//!
//! Whoever waits for an answer reads the socket itself: that saves a thread change on every call. The others wait for
//! the one who reads. When nobody waits, the *watch* does: a thread that sleeps until something arrives unasked. It is
//! armed only while nobody else reads, so that an answer wakes one thread and not two. A brief program has no such thread
//! ([`Watching::Callers`]).

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use interprocess::ConnectWaitMode;
use interprocess::local_socket::traits::Stream as _;
use interprocess::local_socket::{ConnectOptions, GenericFilePath, Stream, ToFsName};
use rustix::event::epoll;
use sundown_protocol::hello::{Answer, Hello, MAGIC, Welcome};
use sundown_protocol::notification::{EndReason, Event};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::{Asked, Request};
use sundown_protocol::{
    Code, Correlation, Fault, Notification, Reply, RequestId, Version, codec, frame,
};

use crate::error::Error;

type Outcome = Result<Reply, Fault>;

/// What the broker says to a request that it does not carry out, and which request that was.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    pub(crate) correlation: Correlation,
}

/// Runs before anybody can see what follows the answer.
pub(crate) type Hook = Box<dyn FnOnce(&Outcome) + Send>;

/// Takes notifications in the order in which they come. It must not wait.
pub(crate) type Deliver = Box<dyn Fn(Notification) + Send + Sync>;

pub(crate) struct Link {
    stream: Stream,
    /// One writer at a time.
    writing: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
    /// Of whoever reads.
    scratch: Mutex<Vec<u8>>,
    /// What the watch sleeps on, if there is one.
    watch: Option<OwnedFd>,
    welcome: Welcome,
    /// As which copy of the library it said hello.
    library: [u8; 16],
    deliver: Deliver,
}

/// Who reads what arrives while nobody waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    /// A thread, at once.
    Thread,
    /// Whoever calls next.
    Callers,
}

#[derive(Default)]
struct State {
    waiting: HashMap<RequestId, Waiting>,
    /// What is on its way: requests and their bytes.
    requests: u32,
    bytes: u64,
    reading: Reading,
    /// How many threads wait for a change.
    waiters: usize,
    inbox: Inbox,
    /// The broker has said that it stops for good.
    stopping: bool,
    dead: Option<String>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Nobody; the watch is armed.
    #[default]
    Nobody,
    Somebody,
}

struct Waiting {
    cost: Option<u64>,
    hook: Option<Hook>,
    outcome: Option<Outcome>,
    /// Nobody wants the answer.
    abandoned: bool,
}

#[derive(Default)]
struct Inbox {
    bytes: VecDeque<u8>,
}

/// Whoever could put a socket in place of the broker's would be told everything that is sent. Root may be behind it, oneself, or
/// whoever owns the directory it is in: that one can do so anyway, and the host's broker is such a user.
fn refuse_strangers(stream: &Stream, socket: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let broker = rustix::net::sockopt::socket_peercred(as_fd(stream))?.uid.as_raw();
    let user = rustix::process::geteuid().as_raw();
    let directory = socket.parent().filter(|p| !p.as_os_str().is_empty());
    let owner = std::fs::metadata(directory.unwrap_or(Path::new(".")))?.uid();
    if [0, user, owner].contains(&broker) {
        return Ok(());
    }
    let why = format!(
        "at {} answers a program of user {broker}, who is neither root nor user {user}, and does not own that directory",
        socket.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

impl Link {
    /// Connects and says hello, and waits so long for each.
    pub(crate) fn connect(
        socket: &Path,
        program: &str,
        library: [u8; 16],
        patience: Duration,
        watching: Watching,
        deliver: Deliver,
    ) -> io::Result<Self> {
        let name = socket.to_fs_name::<GenericFilePath>()?;
        let stream = ConnectOptions::new()
            .name(name)
            .wait_mode(ConnectWaitMode::Timeout(patience))
            .connect_sync()?;
        refuse_strangers(&stream, socket)?;
        let welcome = say_hello(&stream, program, library, patience)?;
        let watch = match watching {
            Watching::Thread => Some(armed(&stream)?),
            Watching::Callers => None,
        };
        Ok(Self {
            stream,
            writing: Mutex::new(()),
            state: Mutex::default(),
            changed: Condvar::new(),
            scratch: Mutex::new(vec![0; SCRATCH.start]),
            watch,
            welcome,
            library,
            deliver,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the broker has said that it stops for good: the end of this connection is no accident.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// The broker's process id.
    pub(crate) fn broker(&self) -> u32 {
        self.welcome.pid
    }

    /// Whether the broker speaks that version.
    pub(crate) fn speaks(&self, version: Version) -> bool {
        self.welcome.version >= version as u16
    }

    /// Asks, and waits for the answer.
    pub(crate) fn call(
        &self,
        request: Request,
        hook: Option<Hook>,
    ) -> Result<Result<Reply, Refusal>, Error> {
        let id = self.send(request, hook)?;
        let correlation = Correlation::new(&self.library, id);
        Ok(self.wait(id)?.map_err(|fault| Refusal { fault, correlation }))
    }

    /// Asks, and does not care for the answer.
    pub(crate) fn tell(&self, request: Request) {
        if let Ok(id) = self.send(request, None)
            && let Some(waiting) = self.lock().waiting.get_mut(&id)
        {
            waiting.abandoned = true;
        }
    }

    fn send(&self, request: Request, hook: Option<Hook>) -> Result<RequestId, Error> {
        let free = request.is_free();
        let id = next_number();
        let frame = codec::encode(&Asked { id, request })
            .map_err(|e| Error::fault(sundown_protocol::Code::E_TOO_BIG, e.to_string()))?;
        let cost = (!free).then_some(frame.len() as u64);
        self.book(id, cost, hook)?;
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = frame::write(&mut &self.stream, &frame);
        drop(writing);
        if let Err(error) = written {
            if self.watch.is_none() {
                // What the broker said before it went was read by nobody yet.
                self.wait_for_end(Instant::now() + LAST_WORDS);
            }
            self.die(&error.to_string());
            return Err(Error::disconnected(error.to_string()));
        }
        Ok(id)
    }

    /// Waits until the broker's credit allows one more request.
    fn book(&self, id: RequestId, cost: Option<u64>, hook: Option<Hook>) -> Result<(), Error> {
        let mut state = self.lock();
        loop {
            if let Some(why) = &state.dead {
                return Err(Error::disconnected(why.clone()));
            }
            let Some(cost) = cost else { break };
            let fits = state.requests < self.welcome.requests
                && (state.bytes + cost <= self.welcome.bytes || state.requests == 0);
            if fits {
                state.requests += 1;
                state.bytes += cost;
                break;
            }
            state = self.read_or_wait(state);
        }
        let waiting = Waiting { cost, hook, outcome: None, abandoned: false };
        state.waiting.insert(id, waiting);
        Ok(())
    }

    fn wait(&self, id: RequestId) -> Result<Outcome, Error> {
        let mut state = self.lock();
        loop {
            let entry = state.waiting.get_mut(&id).expect("who waits is listed");
            if let Some(outcome) = entry.outcome.take() {
                state.waiting.remove(&id);
                return Ok(outcome);
            }
            if let Some(why) = &state.dead {
                let error = Error::disconnected(why.clone());
                state.waiting.remove(&id);
                return Err(error);
            }
            state = self.read_or_wait(state);
        }
    }

    /// Reads once, if nobody does; else waits until whoever does has read something.
    fn read_or_wait<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.reading == Reading::Somebody {
            state.waiters += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
            return state;
        }
        state.reading = Reading::Somebody;
        drop(state);
        // Disarmed, an answer does not wake the watch too.
        self.set_watch(OFF);
        self.read_once();
        let state = self.lock();
        self.set_watch(ARMED);
        state
    }

    fn set_watch(&self, flags: epoll::EventFlags) {
        if let Some(watch) = &self.watch {
            let _ = epoll::modify(watch, self.as_fd(), epoll::EventData::new_u64(0), flags);
        }
    }

    /// Reads what is there, waiting for it, and hands it out. Whoever calls it has taken the reading.
    fn read_once(&self) {
        let mut buffer = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let read = loop {
            match (&self.stream).read(&mut buffer[..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let mut state = self.lock();
        match read {
            Ok(0) => {
                state.dead.get_or_insert_with(|| "the broker closed it".into());
            }
            Ok(n) => {
                state.inbox.bytes.extend(&buffer[..n]);
                if n == buffer.len() && n < SCRATCH.end {
                    buffer.resize(2 * n, 0);
                }
                drop(buffer);
                self.hand_out(&mut state);
            }
            Err(error) => {
                state.dead.get_or_insert_with(|| error.to_string());
            }
        }
        self.stop_reading(state);
    }

    /// Lets somebody else read.
    fn stop_reading(&self, mut state: MutexGuard<'_, State>) {
        state.reading = Reading::Nobody;
        let waiters = state.waiters;
        drop(state);
        // Waking nobody is a call of the system, too.
        if waiters > 0 {
            self.changed.notify_all();
        }
    }

    fn hand_out(&self, state: &mut State) {
        loop {
            let bytes = state.inbox.bytes.make_contiguous();
            let message = match frame::cut(bytes) {
                Ok(None) => return,
                Ok(Some((payload, taken))) => {
                    let message = codec::decode::<FromBroker>(payload).map_err(|e| e.to_string());
                    state.inbox.bytes.drain(..taken);
                    message
                }
                Err(error) => Err(error.to_string()),
            };
            match message {
                Ok(FromBroker::Answer { id, result }) => answered(state, id, result),
                Ok(FromBroker::Notify(notification)) => {
                    state.stopping |= says_stop(&notification.event);
                    (self.deliver)(notification);
                }
                Ok(FromBroker::Goodbye(why)) => {
                    state.dead = Some(why.to_string());
                    return;
                }
                Err(why) => {
                    state.dead = Some(format!("the broker does not speak the protocol: {why}"));
                    return;
                }
            }
        }
    }

    /// Sleeps until something arrives that nobody waits for, hands it out, and returns when the connection has ended.
    pub(crate) fn watch(&self) {
        let Some(watch) = &self.watch else { return };
        let mut events = Vec::with_capacity(1);
        loop {
            events.clear();
            let _ = epoll::wait(watch, rustix::buffer::spare_capacity(&mut events), None);
            let mut state = self.lock();
            if state.dead.is_some() {
                return;
            }
            if state.reading == Reading::Somebody {
                // Whoever reads arms the watch again.
                continue;
            }
            state.reading = Reading::Somebody;
            drop(state);
            self.read_once();
            self.set_watch(ARMED);
        }
    }

    /// Waits until the connection has ended. Whether it has in time.
    pub(crate) fn wait_for_end(&self, until: Instant) -> bool {
        let mut state = self.lock();
        while state.dead.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            if self.watch.is_none() && state.reading == Reading::Nobody {
                state.reading = Reading::Somebody;
                drop(state);
                if wait_readable(self.as_fd(), left) {
                    self.read_once();
                } else {
                    self.stop_reading(self.lock());
                }
                state = self.lock();
                continue;
            }
            state.waiters += 1;
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiters -= 1;
        }
        true
    }

    /// Ends the connection from this side.
    pub(crate) fn die(&self, why: &str) {
        self.lock().dead.get_or_insert_with(|| why.to_owned());
        let _ = rustix::net::shutdown(self.as_fd(), rustix::net::Shutdown::Both);
        self.changed.notify_all();
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        as_fd(&self.stream)
    }
}

/// A number for a request: its own in the life of the process, so that the broker's log tells all of them apart.
fn next_number() -> RequestId {
    static ASKED: AtomicU64 = AtomicU64::new(1);
    RequestId(ASKED.fetch_add(1, Ordering::Relaxed))
}

/// How long the end of a connection may take to be read, when it can be written to no more. It is there already.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many bytes are read at once: few at first, as answers are small, and more where more comes.
const SCRATCH: std::ops::Range<usize> = 4 << 10..64 << 10;

const ARMED: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);
const OFF: epoll::EventFlags = epoll::EventFlags::ONESHOT;

/// What a watch sleeps on.
fn armed(stream: &Stream) -> io::Result<OwnedFd> {
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&watch, as_fd(stream), epoll::EventData::new_u64(0), ARMED)?;
    Ok(watch)
}

/// Waits until a descriptor is readable. Whether it became so in time.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(patience).ok();
    let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut watched, timeout.as_ref()), Ok(1..))
}

fn as_fd(stream: &Stream) -> BorrowedFd<'_> {
    let Stream::UdSocket(stream) = stream;
    stream.as_fd()
}

fn says_stop(event: &Event) -> bool {
    matches!(event, Event::CriticalError { reason: EndReason::BrokerStopped, .. })
}

fn answered(state: &mut State, id: RequestId, result: Outcome) {
    let Some(waiting) = state.waiting.get_mut(&id) else { return };
    if let Some(hook) = waiting.hook.take() {
        hook(&result);
    }
    let cost = waiting.cost;
    if waiting.abandoned {
        state.waiting.remove(&id);
    } else {
        waiting.outcome = Some(result);
    }
    if let Some(cost) = cost {
        state.requests -= 1;
        state.bytes -= cost;
    }
}

fn say_hello(
    stream: &Stream,
    program: &str,
    library: [u8; 16],
    patience: Duration,
) -> io::Result<Welcome> {
    let hello = Hello {
        magic: MAGIC,
        oldest: Version::OLDEST as u16,
        newest: Version::NEWEST as u16,
        image: crate::process::image(),
        library,
        program: program.to_owned(),
    };
    let invalid = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
    let bytes = codec::encode(&hello).map_err(|e| invalid(e.to_string()))?;
    stream.set_recv_timeout(Some(patience))?;
    frame::write(&mut &*stream, &bytes)?;
    let mut payload = Vec::new();
    if !frame::read(&mut &*stream, &mut payload)? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.set_recv_timeout(None)?;
    match codec::decode(&payload).map_err(|e| invalid(e.to_string()))? {
        Answer::Welcome(welcome) => Ok(welcome),
        // The one refusal that has a code of its own for programs: it says who can do something about it.
        Answer::Refused(refused) if refused.code == Code::E_NOT_ENOUGH_RESOURCES.0 => {
            Err(io::Error::new(io::ErrorKind::QuotaExceeded, refused.message))
        }
        Answer::Refused(refused) => Err(io::Error::other(refused.message)),
    }
}

/// A link that several threads use.
pub(crate) type SharedLink = Arc<Link>;
