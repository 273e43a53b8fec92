//! One connection to a broker: requests out, answers and notifications in.
//!
//! A thread that waits for an answer reads the socket itself, which saves a thread switch on every call. If several threads wait,
//! one of them reads and the others wait for it. While no call waits, the *watch* reads: a thread that sleeps until something
//! arrives unasked. It is armed only while there is no call, so that an answer wakes one thread and not two. A call disarms it
//! before it sends its request, because the answer may arrive before sending has returned. A brief program has no such thread
//! ([`Watching::Callers`]).

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use interprocess::local_socket::Stream;
use interprocess::local_socket::traits::Stream as _;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::Pid;
use sundown_protocol::hello::{Answer, Hello, MAGIC, Welcome};
use sundown_protocol::notification::{EndReason, Event};
use sundown_protocol::reply::{FromBroker, ReplyKind};
use sundown_protocol::request::{Asked, Request};
use sundown_protocol::{
    Code, Correlation, Fault, Notification, Reply, RequestId, Version, codec, frame,
};

use crate::error::Error;
use crate::library::lock;
use crate::limits::Limits;
use crate::process::parent;
use crate::socket::{Credentials, connect_within};

type Outcome = Result<Reply, Fault>;

/// The broker's refusal of a request, and the identifier of that request in the broker's log.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    pub(crate) correlation: Correlation,
}

/// Is called with the answer, before the caller gets it and before later frames are handed out.
pub(crate) type Hook = Box<dyn FnOnce(&Outcome) + Send>;

/// Takes notifications in the order in which they come. It must not block.
pub(crate) type Deliver = Box<dyn Fn(Notification) + Send + Sync>;

pub(crate) struct Link {
    stream: Stream,
    /// Held by the thread that writes.
    writing: Mutex<()>,
    /// A buffer for a small request, kept for the next one.
    spare: Mutex<Vec<u8>>,
    state: Mutex<State>,
    changed: Condvar,
    /// Held by the thread that reads.
    inbox: Mutex<Inbox>,
    /// The epoll descriptor on which the watch sleeps, if there is a watch.
    watch: Option<OwnedFd>,
    welcome: Welcome,
    /// The key of the library's copy that was sent in the hello.
    library: [u8; 16],
    deliver: Deliver,
}

/// What reads arriving frames while no call waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    /// A thread, as soon as they arrive.
    Thread,
    /// The next call.
    Callers,
}

#[derive(Default)]
struct State {
    waiting: HashMap<RequestId, Waiting>,
    /// How many requests are under way, and their bytes.
    requests: u32,
    bytes: u64,
    reading: Reading,
    /// How many calls are under way. One of them reads or will read. The watch is armed at zero.
    callers: usize,
    /// How many threads wait for a change of the state.
    waiters: usize,
    /// The broker has announced that it stops for good.
    stopping: bool,
    dead: Option<String>,
}

impl State {
    /// Counts the request that is sent with the hello, and appends its frame.
    fn begin_with(
        &mut self,
        request: Request,
        hook: Hook,
        frame: &mut Vec<u8>,
    ) -> io::Result<RequestId> {
        let (id, free, asked) = (next_number(), request.is_free(), what(&request));
        codec::encode_into(&Asked { id, request }, frame).map_err(io::Error::other)?;
        let cost = (!free).then_some(frame.len() as u64);
        self.requests = u32::from(!free);
        self.bytes = cost.unwrap_or_default();
        self.callers = 1;
        let (hook, interest) = (Some(hook), Interest::Waits);
        let waiting = Waiting { asked, cost, hook, outcome: None, interest };
        self.waiting.insert(id, waiting);
        Ok(id)
    }
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    #[default]
    Nobody,
    Somebody,
}

struct Waiting {
    asked: What,
    cost: Option<u64>,
    hook: Option<Hook>,
    outcome: Option<Outcome>,
    interest: Interest,
}

/// A request's name, and the kind of its reply.
type What = (&'static str, ReplyKind);

fn what(request: &Request) -> What {
    (request.name(), request.reply())
}

/// Why a frame was not written.
enum NotWritten {
    Failed(io::Error),
    /// The program's limit ended the wait.
    Late(Error, Written),
}

/// How much of a frame was written.
enum Written {
    Nothing,
    Half,
}

/// How often a thread with limits checks whether another thread has finished writing.
const NEXT_WRITER: Duration = Duration::from_millis(5);

/// Whether a call waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    Waits,
    None,
}

/// The bytes that were read and not handed out: whole frames, and the beginning of one.
struct Inbox {
    bytes: Vec<u8>,
    /// How many of the bytes were read.
    have: usize,
}

/// How many bytes are read at first; most answers are small. The buffer grows for longer frames, and when more arrives at once.
const READ: usize = 4 << 10;
/// The largest buffer that is kept for the next request.
const SPARE: usize = 4 << 10;

impl Inbox {
    /// Reads once.
    fn read(&mut self, mut stream: &Stream) -> io::Result<usize> {
        if self.have == self.bytes.len() {
            self.bytes.resize(2 * self.have, 0);
        }
        loop {
            match stream.read(&mut self.bytes[self.have..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(n) => {
                    self.have += n;
                    return Ok(n);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Drops the first bytes, which were handed out.
    fn forget(&mut self, used: usize) {
        self.bytes.copy_within(used..self.have, 0);
        self.have -= used;
    }
}

/// Fails unless the listening process belongs to root, to this user, or to the owner of the socket's directory. Another user who
/// replaced the broker's socket would receive everything that is sent. The directory's owner can replace the socket anyway, and the
/// host's broker is such a user.
fn refuse_strangers(stream: &Stream, socket: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let broker = Credentials::of(as_fd(stream))?.uid;
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
    /// Connects and says hello, and waits at most `patience` for each. A first request may go with the hello: its call has then
    /// begun, and [`answer`](Self::answer) ends it.
    pub(crate) fn connect(
        socket: &Path,
        program: &str,
        library: [u8; 16],
        patience: Duration,
        watching: Watching,
        deliver: Deliver,
        first: Option<(Request, Hook)>,
    ) -> io::Result<(Self, Option<RequestId>)> {
        let stream = Stream::UdSocket(connect_within(socket, patience)?.into());
        refuse_strangers(&stream, socket)?;
        let (mut state, mut behind) = (State::default(), Vec::new());
        let first = first.map(|(request, hook)| state.begin_with(request, hook, &mut behind));
        let first = first.transpose()?;
        let welcome = say_hello(&stream, program, library, patience, &behind)?;
        let watch = match watching {
            Watching::Thread if state.callers == 0 => Some(sleep_on(&stream, ARMED)?),
            Watching::Thread => Some(sleep_on(&stream, OFF)?),
            Watching::Callers => None,
        };
        let link = Self {
            stream,
            writing: Mutex::new(()),
            spare: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            inbox: Mutex::new(Inbox { bytes: vec![0; READ], have: 0 }),
            watch,
            welcome,
            library,
            deliver,
        };
        Ok((link, first))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether the broker has announced that it stops for good: the end of this connection is expected.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// The broker's process id, as its welcome gives it.
    pub(crate) fn broker(&self) -> u32 {
        self.welcome.pid
    }

    /// The broker's process id, if the kernel confirms it: the process listens, or is a child of the service manager that listens.
    /// In another pid namespace the id from the welcome belongs to another process.
    pub(crate) fn proven_broker(&self) -> Option<Pid> {
        let listens = Credentials::of(self.as_fd()).ok()?.pid?;
        let said = i32::try_from(self.broker()).ok().and_then(Pid::from_raw)?;
        (said == listens || parent(said) == Some(listens)).then_some(said)
    }

    /// Whether the broker speaks this version.
    pub(crate) fn speaks(&self, version: Version) -> bool {
        self.welcome.version >= version as u16
    }

    /// Fails if the broker is older than this version, which brought a request. It would end the connection if it were asked.
    pub(crate) fn needs(&self, since: Version, request: &str) -> Result<(), Error> {
        if self.speaks(since) {
            return Ok(());
        }
        let (has, takes) = (self.welcome.version, since as u16);
        let message = format!(
            "the broker is older than this program: it speaks version {has} of the protocol, and this request, {request}, takes version {takes}; \
             update Sundown, and let `sundown stop` end the old broker"
        );
        Err(Error::fault(Code::E_VERSION, message))
    }

    /// Sends a request, and waits for the answer.
    pub(crate) fn call(
        &self,
        request: Request,
        hook: Option<Hook>,
    ) -> Result<Result<Reply, Refusal>, Error> {
        self.enter(&mut self.lock());
        match self.send(request, hook, Interest::Waits) {
            Ok(id) => self.answer(id),
            Err(error) => {
                self.leave(&mut self.lock());
                Err(error)
            }
        }
    }

    /// Waits for the answer to a request whose call has begun, and ends the call.
    pub(crate) fn answer(&self, id: RequestId) -> Result<Result<Reply, Refusal>, Error> {
        let outcome = self.wait(id);
        self.leave(&mut self.lock());
        let correlation = Correlation::new(&self.library, id);
        Ok(outcome?.map_err(|fault| Refusal { fault, correlation }))
    }

    /// Begins a call. The first call disarms the watch, because it reads itself.
    fn enter(&self, state: &mut State) {
        state.callers += 1;
        if state.callers == 1 {
            self.set_watch(OFF);
        }
    }

    /// Ends a call. The last call arms the watch.
    fn leave(&self, state: &mut State) {
        state.callers -= 1;
        if state.callers == 0 {
            self.set_watch(ARMED);
        }
    }

    fn set_watch(&self, flags: epoll::EventFlags) {
        if let Some(watch) = &self.watch {
            let _ = epoll::modify(watch, self.as_fd(), epoll::EventData::new_u64(0), flags);
        }
    }

    /// Sends a request without waiting for the answer, which only the hook sees.
    pub(crate) fn tell(&self, request: Request, hook: Option<Hook>) {
        // An error is ignored: no answer is expected.
        let _ = self.send(request, hook, Interest::None);
    }

    fn send(
        &self,
        request: Request,
        hook: Option<Hook>,
        interest: Interest,
    ) -> Result<RequestId, Error> {
        self.needs(request.since(), request.name())?;
        let (free, asked) = (request.is_free(), what(&request));
        let id = next_number();
        let mut frame = std::mem::take(&mut *lock(&self.spare));
        codec::encode_into(&Asked { id, request }, &mut frame)
            .map_err(|e| Error::fault(Code::E_TOO_BIG, e.to_string()))?;
        let cost = (!free).then_some(frame.len() as u64);
        self.book((id, asked), cost, hook, interest)?;
        let written = self.write(&frame);
        if frame.capacity() <= SPARE {
            frame.clear();
            *lock(&self.spare) = frame;
        }
        if let Err(NotWritten::Late(error, how_much)) = written {
            match how_much {
                Written::Nothing => self.unbook(id),
                // The broker would take the next frame for the rest of this one.
                Written::Half => self.die("a request was given up half written"),
            }
            return Err(error);
        }
        if let Err(NotWritten::Failed(error)) = written {
            // Answers, the goodbye and other frames that the broker sent before it closed may be unread.
            self.wait_for_end(Instant::now() + LAST_WORDS);
            self.die(&error.to_string());
            // The broker ignores a frame that is not complete.
            return Err(Error::not_asked(error.to_string()));
        }
        Ok(id)
    }

    /// Writes a frame once no other thread writes. With limits, waits no longer than they allow.
    fn write(&self, frame: &[u8]) -> Result<(), NotWritten> {
        let limits = Limits::of_this_thread();
        if limits.are_none() {
            let _writing = lock(&self.writing);
            return frame::write(&mut &self.stream, frame).map_err(NotWritten::Failed);
        }
        let mut written = 0;
        let late = |error, written| match written {
            0 => NotWritten::Late(error, Written::Nothing),
            _ => NotWritten::Late(error, Written::Half),
        };
        let _writing = loop {
            match self.writing.try_lock() {
                Ok(writing) => break writing,
                Err(TryLockError::Poisoned(writing)) => break writing.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    limits.check().map_err(|error| late(error, 0))?;
                    std::thread::sleep(NEXT_WRITER.min(limits.next_wait()));
                }
            }
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while written < frame.len() {
            match send(self.as_fd(), &frame[written..], flags) {
                Ok(more) => written += more,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    limits.check().map_err(|error| late(error, written))?;
                    wait_for(self.as_fd(), PollFlags::OUT, limits.next_wait());
                }
                Err(error) => return Err(NotWritten::Failed(error.into())),
            }
        }
        Ok(())
    }

    /// Gives back the credit of a request that was not sent.
    fn unbook(&self, id: RequestId) {
        let mut state = self.lock();
        if let Some(Waiting { cost: Some(cost), .. }) = state.waiting.remove(&id) {
            state.requests -= 1;
            state.bytes -= cost;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Books a request, after waiting until the broker's credit allows it.
    fn book(
        &self,
        (id, asked): (RequestId, What),
        cost: Option<u64>,
        hook: Option<Hook>,
        interest: Interest,
    ) -> Result<(), Error> {
        let limits = Limits::of_this_thread();
        let mut state = self.lock();
        loop {
            if let Some(why) = &state.dead {
                return Err(Error::not_asked(why.clone()));
            }
            let Some(cost) = cost else { break };
            let fits = state.requests < self.welcome.requests
                && (state.bytes + cost <= self.welcome.bytes || state.requests == 0);
            if fits {
                state.requests += 1;
                state.bytes += cost;
                break;
            }
            limits.check()?;
            self.enter(&mut state);
            state = self.read_or_wait(state, &limits);
            self.leave(&mut state);
        }
        let waiting = Waiting { asked, cost, hook, outcome: None, interest };
        state.waiting.insert(id, waiting);
        Ok(())
    }

    fn wait(&self, id: RequestId) -> Result<Outcome, Error> {
        let limits = Limits::of_this_thread();
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
            if let Err(error) = limits.check() {
                // The answer may still come, and is then passed to the hook.
                if let Some(entry) = state.waiting.get_mut(&id) {
                    entry.interest = Interest::None;
                }
                return Err(error.while_asked());
            }
            state = self.read_or_wait(state, &limits);
        }
    }

    /// Reads once if no other thread reads; otherwise waits until that thread has read something. The calling thread must have
    /// begun a call. With limits it returns when they must be checked again.
    fn read_or_wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        limits: &Limits,
    ) -> MutexGuard<'a, State> {
        if state.reading == Reading::Somebody {
            state.waiters += 1;
            state = if limits.are_none() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.changed.wait_timeout(state, limits.next_wait());
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            state.waiters -= 1;
            return state;
        }
        if limits.are_none() {
            return self.read_once(state);
        }
        self.read_within(state, limits.next_wait())
    }

    /// Reads once if the connection becomes readable in time.
    fn read_within<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        patience: Duration,
    ) -> MutexGuard<'a, State> {
        state.reading = Reading::Somebody;
        drop(state);
        let readable = wait_readable(self.as_fd(), patience);
        let mut state = self.lock();
        if readable {
            return self.read_once(state);
        }
        self.stop_reading(&mut state);
        state
    }

    /// Waits for bytes, reads them and hands their frames out.
    fn read_once<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.reading = Reading::Somebody;
        drop(state);
        let mut inbox = lock(&self.inbox);
        let read = inbox.read(&self.stream);
        let mut state = self.lock();
        match read {
            Ok(0) => {
                state.dead.get_or_insert_with(|| "the broker closed it".into());
            }
            Ok(_) => {
                self.hand_out(&mut inbox, &mut state);
                if state.dead.is_some() {
                    self.hang_up();
                }
            }
            Err(error) => {
                state.dead.get_or_insert_with(|| error.to_string());
            }
        }
        self.stop_reading(&mut state);
        state
    }

    /// Lets another thread read.
    fn stop_reading(&self, state: &mut State) {
        state.reading = Reading::Nobody;
        // A wake-up is a system call even if no thread waits.
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }

    fn hand_out(&self, inbox: &mut Inbox, state: &mut State) {
        let mut used = 0;
        loop {
            let message = match frame::cut(&inbox.bytes[used..inbox.have]) {
                Ok(None) => break,
                Ok(Some((payload, taken))) => {
                    used += taken;
                    codec::decode::<FromBroker>(payload).map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match message {
                Ok(FromBroker::Answer { id, result }) => {
                    if let Err(why) = answered(state, id, result) {
                        state.dead = Some(why);
                        return;
                    }
                }
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
        inbox.forget(used);
    }

    /// Sleeps until something arrives while there is no call, hands it out, and returns when the connection has ended.
    pub(crate) fn watch(&self) {
        let Some(watch) = &self.watch else { return };
        let mut events = Vec::with_capacity(1);
        loop {
            events.clear();
            let _ = epoll::wait(watch, rustix::buffer::spare_capacity(&mut events), None);
            let mut state = self.lock();
            if state.callers == 0 && state.dead.is_none() {
                state = self.read_once(state);
            }
            if state.dead.is_some() {
                return;
            }
            // Otherwise the last call arms the watch.
            if state.callers == 0 {
                self.set_watch(ARMED);
            }
        }
    }

    /// Reads until the connection ends, at most until `until`. Returns whether it has ended.
    pub(crate) fn wait_for_end(&self, until: Instant) -> bool {
        let mut state = self.lock();
        self.enter(&mut state);
        while state.dead.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if state.reading == Reading::Nobody {
                state = self.read_within(state, left);
                continue;
            }
            state.waiters += 1;
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiters -= 1;
        }
        self.leave(&mut state);
        state.dead.is_some()
    }

    /// Ends the connection from this side, for this reason.
    pub(crate) fn die(&self, why: &str) {
        self.lock().dead.get_or_insert_with(|| why.to_owned());
        self.hang_up();
        self.changed.notify_all();
    }

    /// Shuts the connection down once nothing more is read from it. This wakes the watch.
    fn hang_up(&self) {
        let _ = rustix::net::shutdown(self.as_fd(), rustix::net::Shutdown::Both);
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        as_fd(&self.stream)
    }
}

/// Makes the number of a request. It is unique in the life of the process, so that requests differ in the broker's log.
fn next_number() -> RequestId {
    static ASKED: AtomicU64 = AtomicU64::new(1);
    RequestId(ASKED.fetch_add(1, Ordering::Relaxed))
}

/// How long reading the end of a connection may take after a write has failed. That end has arrived already.
const LAST_WORDS: Duration = Duration::from_secs(1);

const ARMED: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);
const OFF: epoll::EventFlags = epoll::EventFlags::ONESHOT;

/// Makes the epoll descriptor on which a watch sleeps.
fn sleep_on(stream: &Stream, flags: epoll::EventFlags) -> io::Result<OwnedFd> {
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&watch, as_fd(stream), epoll::EventData::new_u64(0), flags)?;
    Ok(watch)
}

/// Waits until a descriptor is readable. Returns whether it became readable in time.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    wait_for(fd, PollFlags::IN, patience)
}

/// The same, until `until` and within the thread's limits.
pub(crate) fn wait_readable_within(fd: BorrowedFd<'_>, until: Instant) -> Result<bool, Error> {
    let limits = Limits::of_this_thread();
    loop {
        limits.check()?;
        let next = limits.next_look(until).saturating_duration_since(Instant::now());
        if wait_readable(fd, next) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
    }
}

fn wait_for(fd: BorrowedFd<'_>, what: PollFlags, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).ok();
    let mut watched = [PollFd::from_borrowed_fd(fd, what)];
    matches!(poll(&mut watched, timeout.as_ref()), Ok(1..))
}

fn as_fd(stream: &Stream) -> BorrowedFd<'_> {
    let Stream::UdSocket(stream) = stream;
    stream.as_fd()
}

fn says_stop(event: &Event) -> bool {
    matches!(event, Event::CriticalError { reason: EndReason::BrokerStopped, .. })
}

/// Takes an answer. A reply of the wrong kind fails its request, and the returned error ends the connection: nothing else that this
/// broker sends can be trusted.
fn answered(state: &mut State, id: RequestId, result: Outcome) -> Result<(), String> {
    let Some(waiting) = state.waiting.get_mut(&id) else { return Ok(()) };
    let (request, expected) = waiting.asked;
    let wrong = result.as_ref().ok().map(Reply::kind).filter(|kind| *kind != expected);
    let wrong = wrong.map(|kind| format!("the broker answered {request} with {kind:?}"));
    let result = match &wrong {
        Some(why) => Err(does_not_fit(why)),
        None => result,
    };
    if let Some(hook) = waiting.hook.take() {
        hook(&result);
    }
    let cost = waiting.cost;
    if waiting.interest == Interest::None {
        state.waiting.remove(&id);
    } else {
        waiting.outcome = Some(result);
    }
    if let Some(cost) = cost {
        state.requests -= 1;
        state.bytes -= cost;
    }
    wrong.map_or(Ok(()), Err)
}

/// The error of a call whose reply does not fit its request.
pub(crate) fn does_not_fit(why: &str) -> Fault {
    let message = format!("{why}, which is no answer to it; what it has done of that is not known");
    Fault::new(Code::E_CORRUPT_DATA, message)
}

fn say_hello(
    stream: &Stream,
    program: &str,
    library: [u8; 16],
    patience: Duration,
    behind: &[u8],
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
    let mut bytes = codec::encode(&hello).map_err(|e| invalid(e.to_string()))?;
    bytes.extend_from_slice(behind);
    stream.set_recv_timeout(Some(patience))?;
    let written = frame::write(&mut &*stream, &bytes);
    let (limits, until) = (Limits::of_this_thread(), Instant::now() + patience);
    while !limits.are_none() && limits.check().is_ok() && Instant::now() < until {
        let next = limits.next_look(until).saturating_duration_since(Instant::now());
        if wait_readable(as_fd(stream), next) {
            break;
        }
    }
    if limits.check().is_err() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut payload = Vec::new();
    let read = frame::read(&mut &*stream, &mut payload);
    // A broker that refuses a connection on accepting it sends its reason at once, and reads no hello.
    if !matches!(read, Ok(true)) {
        written?;
    }
    if !read? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.set_recv_timeout(None)?;
    match codec::decode(&payload).map_err(|e| invalid(e.to_string()))? {
        Answer::Welcome(welcome) => Ok(welcome),
        // Only this refusal has a code of its own for programs: it says who can do something about it.
        Answer::Refused(refused) if refused.code == Code::E_NOT_ENOUGH_RESOURCES.0 => {
            Err(io::Error::new(io::ErrorKind::QuotaExceeded, refused.message))
        }
        Answer::Refused(refused) => Err(io::Error::other(refused.message)),
    }
}

/// A link that several threads use.
pub(crate) type SharedLink = Arc<Link>;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use sundown_protocol::MemberId;
    use sundown_protocol::hello::Refused;

    use super::*;

    /// A link, and the broker's end of its connection.
    struct Ends {
        link: Link,
        broker: UnixStream,
        told: Arc<Mutex<Vec<Notification>>>,
    }

    impl Ends {
        fn new(watching: Watching) -> Self {
            let (near, broker) = UnixStream::pair().expect("a pair");
            let stream = stream(near);
            let watch = match watching {
                Watching::Thread => Some(sleep_on(&stream, ARMED).expect("watched")),
                Watching::Callers => None,
            };
            let told = Arc::new(Mutex::new(Vec::new()));
            let tell = Arc::clone(&told);
            let link = Link {
                stream,
                writing: Mutex::new(()),
                spare: Mutex::default(),
                state: Mutex::default(),
                changed: Condvar::new(),
                inbox: Mutex::new(Inbox { bytes: vec![0; READ], have: 0 }),
                watch,
                welcome: Welcome { version: 3, pid: 1, requests: 10, bytes: 1 << 20 },
                library: [0; 16],
                deliver: Box::new(move |notification| lock(&tell).push(notification)),
            };
            Self { link, broker, told }
        }

        /// Sends a request, without waiting for the answer.
        fn ask(&self) -> RequestId {
            let request = Request::Flush { member: MemberId(1) };
            self.link.send(request, None, Interest::Waits).expect("it is asked")
        }

        fn reads(&self) {
            drop(self.link.read_once(self.link.lock()));
        }
    }

    fn stream(socket: UnixStream) -> Stream {
        Stream::UdSocket(OwnedFd::from(socket).into())
    }

    fn done(id: RequestId) -> Vec<u8> {
        codec::encode(&FromBroker::Answer { id, result: Ok(Reply::Done) }).expect("encoded")
    }

    fn notice() -> Notification {
        let event = Event::CriticalError {
            code: Code::E_END_OF_SESSION,
            reason: EndReason::BrokerStopped,
            by: None,
            grace: None,
        };
        Notification { member: MemberId(1), advises: Vec::new(), event }
    }

    fn goodbye() -> Vec<u8> {
        let why = Fault::new(Code::E_TOO_BIG, "too much");
        codec::encode(&FromBroker::Goodbye(why)).expect("encoded")
    }

    #[test]
    fn what_a_broker_says_may_be_cut_anywhere() {
        let notify = codec::encode(&FromBroker::Notify(notice())).expect("encoded");
        let length = done(RequestId(0)).len() * 2 + notify.len() + goodbye().len();
        for cut in 0..=length {
            let mut ends = Ends::new(Watching::Callers);
            let ids = [ends.ask(), ends.ask()];
            let said = [done(ids[1]), notify.clone(), done(ids[0]), goodbye()].concat();
            for piece in [&said[..cut], &said[cut..]] {
                if !piece.is_empty() {
                    ends.broker.write_all(piece).expect("written");
                    ends.reads();
                }
            }
            for id in ids {
                assert_eq!(ends.link.wait(id).expect("answered"), Ok(Reply::Done), "cut at {cut}");
            }
            assert_eq!(*lock(&ends.told), [notice()], "cut at {cut}");
            assert!(ends.link.lock().dead.as_ref().is_some_and(|why| why.contains("too much")));
        }
    }

    /// A failed write hides neither the answers that came before nor the reason for the end.
    #[test]
    fn what_was_said_before_the_end_is_read_though_a_write_fails() {
        for watching in [Watching::Thread, Watching::Callers] {
            let mut ends = Ends::new(watching);
            let answered = ends.ask();
            let notify = codec::encode(&FromBroker::Notify(notice())).expect("encoded");
            let said = [done(answered), notify, goodbye()].concat();
            ends.broker.write_all(&said).expect("written");
            // The broker's end closes without reading the request, so the client sees a reset.
            ends.broker = UnixStream::pair().expect("a pair").0;
            let request = Request::Flush { member: MemberId(1) };
            let error = ends.link.call(request, None).expect_err("it is not asked");
            assert!(!error.is_outcome_unknown(), "{error}");
            assert_eq!(ends.link.wait(answered).expect("answered"), Ok(Reply::Done));
            assert!(ends.link.is_stopping(), "it was told so");
            assert!(ends.link.lock().dead.as_ref().is_some_and(|why| why.contains("too much")));
            assert_eq!(ends.link.lock().callers, 0);
        }
    }

    #[test]
    fn a_refusal_is_read_though_the_hello_cannot_be_written() {
        let (near, mut broker) = UnixStream::pair().expect("a pair");
        let code = Code::E_NOT_ENOUGH_RESOURCES.0;
        let refused = Answer::Refused(Refused { code, message: "no room".into() });
        broker.write_all(&codec::encode(&refused).expect("encoded")).expect("written");
        drop(broker);
        let error = say_hello(&stream(near), "test", [0; 16], LAST_WORDS, &[]);
        let error = error.expect_err("it is refused");
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::QuotaExceeded, "no room".into())
        );

        let (near, broker) = UnixStream::pair().expect("a pair");
        drop(broker);
        let error = say_hello(&stream(near), "test", [0; 16], LAST_WORDS, &[]);
        assert_eq!(error.expect_err("nobody is there").kind(), io::ErrorKind::BrokenPipe);
    }
}
