//! All connections: which have something to read or to write, until when each must say hello or end, and which accounts their
//! waiting bytes are charged to.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustc_hash::FxHashMap;
use sundown_core::settings::Limits;
use sundown_core::{ConnectionId, ProcessKey};
use sundown_protocol::reply::{FromBroker, Peer};
use sundown_protocol::{Code, Correlation, Fault, Notification, Reply, RequestId, Version};

use super::token_of_connection;
use crate::descriptors::Descriptors;
use crate::ledger::Ledger;
use crate::link::{FAREWELL, Intake, Link, LinkState};
use crate::metrics::Metrics;
use crate::outbox::{Pushed, TooSlow};
use crate::peer::Credentials;
use crate::refusals::Refusals;
use crate::turns::{Budget, Round, Turns};

/// The first connection number. The loop's own tokens are below those of connections.
const FIRST: u64 = 3;

/// The connections, each from its acceptance until its descriptor is closed.
pub(super) struct Connections {
    /// The broker assigns the numbers, so no client can choose colliding ones.
    links: FxHashMap<ConnectionId, Link>,
    made: u64,
    /// How many connections each user has, including those without a hello.
    users: FxHashMap<u32, usize>,
    descriptors: Descriptors,
    /// The accounts for bytes that wait on connections.
    ledger: Ledger,
    /// Connections in the order of their acceptance, and until when each must say hello.
    greeting: VecDeque<(Instant, ConnectionId)>,
    /// Connections that are ending, with their deadlines.
    ending: BTreeSet<(Instant, ConnectionId)>,
    /// Connections with something to write.
    dirty: VecDeque<ConnectionId>,
    /// Connections with something to read.
    turns: Turns,
    refusals: Refusals,
    metrics: Option<Arc<Metrics>>,
}

/// Whether work is left for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Left {
    Something,
    /// The connection must be removed.
    Nothing,
}

/// A connection that was removed.
pub(super) struct Gone {
    /// The process at its other end, if the connection had said hello.
    pub(super) process: Option<ProcessKey>,
}

impl Connections {
    pub(super) fn new(
        limits: &Limits,
        descriptors: Descriptors,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        Self {
            links: FxHashMap::default(),
            made: FIRST,
            users: FxHashMap::default(),
            descriptors,
            ledger: Ledger::new(limits, rustix::process::geteuid().as_raw()),
            greeting: VecDeque::new(),
            ending: BTreeSet::new(),
            dirty: VecDeque::new(),
            turns: Turns::default(),
            refusals: Refusals::default(),
            metrics,
        }
    }

    /// Sets new limits.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.ledger.set_limits(limits);
        self.keep_room();
    }

    pub(super) fn link(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }
}

/// How a connection begins.
impl Connections {
    /// Adds an accepted connection, or refuses it with the reason.
    pub(super) fn take(
        &mut self,
        socket: OwnedFd,
        limits: &Limits,
        now: Instant,
        registry: &Registry,
    ) -> io::Result<()> {
        let id = ConnectionId(self.made);
        self.made += 1;
        let account = |who: &Credentials| self.ledger.of_stranger(who.uid);
        let mut link = Link::new(socket, now, account, limits.outbox_bytes)?;
        let refused = self.beyond_descriptors(&link).or_else(|| self.beyond_quota(&link, limits));
        if let Some(why) = refused {
            self.refusals.note_connection(link.credentials.uid, link.credentials.pid, &why);
            link.say_goodbye(why);
            // The goodbye is a single line, for which a new socket has room.
            let _ = link.flush();
            return Ok(());
        }
        let fd = link.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), token_of_connection(id), Interest::READABLE)?;
        if let LinkState::AwaitHello(deadline) = link.state {
            self.greeting.push_back((deadline, id));
        }
        *self.users.entry(link.credentials.uid).or_default() += 1;
        self.links.insert(id, link);
        // The hello has often arrived already.
        self.mark_unread(id);
        Ok(())
    }

    /// Whether quotas apply to this user. They apply neither to root nor to the broker's own user.
    fn is_bound(uid: u32) -> bool {
        uid != 0 && uid != rustix::process::geteuid().as_raw()
    }

    /// Why there are no descriptors for another connection of this user.
    fn beyond_descriptors(&self, link: &Link) -> Option<Fault> {
        let below = self.descriptors.below(Self::is_bound(link.credentials.uid));
        if (link.as_fd().as_raw_fd() as usize) < below {
            return None;
        }
        let message = "the broker has no descriptors left for another connection; try again later, or raise its limit \
                       (LimitNOFILE=, ulimit -n)";
        Some(Fault::new(Code::E_NOT_ENOUGH_RESOURCES, message))
    }

    /// Why a user may not have another connection. The core counts only open connections; a connection without a hello has a
    /// descriptor too, and such connections could keep other users out.
    fn beyond_quota(&self, link: &Link, limits: &Limits) -> Option<Fault> {
        let uid = link.credentials.uid;
        let most = self.descriptors.of_user(limits.user_connections);
        let used = self.users.get(&uid).copied().unwrap_or_default();
        if !Self::is_bound(uid) || used < most {
            return None;
        }
        let message = format!(
            "user {uid} has {most} connections in all its processes, its limit (user_connections, and a share of the broker's \
             descriptors, LimitNOFILE=); close one first"
        );
        Some(Fault::new(Code::E_NOT_ENOUGH_RESOURCES, message))
    }

    /// Opens a connection for the process that has said hello on it.
    pub(super) fn welcome(
        &mut self,
        id: ConnectionId,
        key: &ProcessKey,
        version: Version,
        (broker, limits): (u32, &Limits),
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let account = self.ledger.of_process(key, link.credentials.uid);
        link.welcome(key.clone(), version, account, (broker, limits));
        // From here on the connection waits as one of its process.
        if std::mem::take(&mut link.unread) {
            Self::wait_for_turn(&mut self.turns, link, id);
        }
        Self::wait_for_write(&mut self.dirty, link, id);
    }

    /// Ends connections that have not said hello in time.
    pub(super) fn end_late_hellos(&mut self, now: Instant) {
        while let Some((_, id)) = self.greeting.front().copied().filter(|(at, _)| *at <= now) {
            self.greeting.pop_front();
            if self.awaits_hello(id) {
                self.close(id, Fault::new(Code::E_TIMEOUT, "no hello came in time"));
            }
        }
    }

    fn awaits_hello(&self, id: ConnectionId) -> bool {
        self.links.get(&id).is_some_and(|link| matches!(link.state, LinkState::AwaitHello(_)))
    }
}

/// Input of connections.
impl Connections {
    /// Notes an event of the poll.
    pub(super) fn note(&mut self, id: ConnectionId, event: &mio::event::Event) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if event.is_read_closed() {
            link.expect_end();
        }
        if event.is_write_closed() {
            link.close_output();
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            Self::wait_for_turn(&mut self.turns, link, id);
        }
        if event.is_writable() {
            Self::wait_for_write(&mut self.dirty, link, id);
        }
    }

    /// Whether a connection waits for its turn to be read.
    pub(super) fn is_turn_waited_for(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Begins a round, in which each waiting connection has its turn.
    pub(super) fn begin_round(&self) -> Round {
        Round::new(&self.turns)
    }

    /// The connection whose turn is next. `spent` is how many requests of the previous connection were applied.
    pub(super) fn next_turn(
        &mut self,
        round: &mut Round,
        spent: usize,
    ) -> Option<(ConnectionId, Budget)> {
        round.next(&mut self.turns, spent)
    }

    /// Reads a piece of a connection into the buffer. Returns its size in bytes.
    pub(super) fn read(&mut self, id: ConnectionId, scratch: &mut Vec<u8>) -> Option<usize> {
        let link = self.links.get_mut(&id)?;
        link.unread = false;
        let (read, intake) = link.read(scratch);
        if intake == Intake::More {
            Self::wait_for_turn(&mut self.turns, link, id);
        }
        Some(read)
    }

    /// Keeps bytes that were read and must wait for the connection's next turn.
    pub(super) fn keep_for_next_turn(
        &mut self,
        id: ConnectionId,
        read: &[u8],
    ) -> Result<(), TooSlow> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        Self::wait_for_turn(&mut self.turns, link, id);
        link.keep(read)
    }

    /// Whether everything is applied that a process had sent on this connection when it ended. If not, the connection is read
    /// further.
    pub(super) fn is_drained(&mut self, id: ConnectionId) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return true };
        let is_drained = link.process_ended();
        if !is_drained {
            Self::wait_for_turn(&mut self.turns, link, id);
        }
        is_drained
    }

    fn mark_unread(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id) {
            Self::wait_for_turn(&mut self.turns, link, id);
        }
    }

    fn wait_for_turn(turns: &mut Turns, link: &mut Link, id: ConnectionId) {
        if !std::mem::replace(&mut link.unread, true) {
            turns.add(link.outbox.account(), id);
        }
    }
}

/// Output of connections.
impl Connections {
    /// Sends a notification in the version of the client.
    pub(super) fn notify(&mut self, id: ConnectionId, notification: Notification) {
        if notification.event.differs()
            && let Some(link) = self.links.get(&id)
            && let LinkState::Open(version) = link.state
        {
            let Notification { member, advises, event } = notification;
            for event in event.in_version(version) {
                let advises = advises.clone();
                self.send(id, &FromBroker::Notify(Notification { member, advises, event }));
            }
            return;
        }
        self.send(id, &FromBroker::Notify(notification));
    }

    /// Answers a request in the version of the client.
    pub(super) fn answer(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        result: Result<Reply, Fault>,
    ) {
        let result = match self.links.get(&connection).map(|link| &link.state) {
            Some(LinkState::Open(version)) => result.and_then(|reply| reply.in_version(*version)),
            _ => result,
        };
        self.send(connection, &FromBroker::Answer { id, result });
    }

    /// Queues a message for a client.
    pub(super) fn send(&mut self, id: ConnectionId, message: &FromBroker) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_active()) else { return };
        let pushed = link.push(message);
        if let Some(metrics) = &self.metrics {
            match (message, pushed) {
                (_, Ok(Pushed::Dropped)) => metrics.lagged.inc(),
                (FromBroker::Notify(_), Ok(Pushed::Queued)) => metrics.notifications.inc(),
                _ => 0,
            };
        }
        if pushed == Err(TooSlow) {
            self.overdrawn(id);
            return;
        }
        Self::wait_for_write(&mut self.dirty, link, id);
        self.keep_room();
    }

    /// The next connection with something to write. A connection that ends may add others, behind those that wait.
    pub(super) fn next_to_write(&mut self) -> Option<ConnectionId> {
        self.dirty.pop_front()
    }

    /// Removes a connection that was just written to from the end of the list, so that it need not be looked up again.
    pub(super) fn unmark_last(&mut self, id: ConnectionId) {
        if self.dirty.back() == Some(&id) {
            self.dirty.pop_back();
        }
    }

    /// Writes as much as a connection's socket takes, if there is something to write.
    pub(super) fn write(&mut self, id: ConnectionId, now: Instant, registry: &Registry) -> Left {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.dirty) else {
            return Left::Something;
        };
        let flushed = link.flush();
        // Only a connection with unwritten bytes waits for room: otherwise each read of the client would wake this loop.
        let wants = match &flushed {
            Ok(true) => Interest::READABLE,
            _ => Interest::READABLE | Interest::WRITABLE,
        };
        if std::mem::replace(&mut link.wants, wants) != wants {
            let fd = link.as_fd().as_raw_fd();
            let _ = registry.reregister(&mut SourceFd(&fd), token_of_connection(id), wants);
        }
        if link.go_on() {
            Self::wait_for_turn(&mut self.turns, link, id);
        }
        if flushed.is_err() {
            self.overdrawn(id);
        }
        self.left(id, now)
    }

    fn wait_for_write(dirty: &mut VecDeque<ConnectionId>, link: &mut Link, id: ConnectionId) {
        if !std::mem::replace(&mut link.dirty, true) {
            dirty.push_back(id);
        }
    }

    /// Writes as much as all sockets take, so that the last messages arrive.
    pub(super) fn flush(&mut self) {
        for link in self.links.values_mut() {
            let _ = link.flush();
        }
    }
}

/// Ends of connections.
impl Connections {
    /// Ends a connection with a goodbye.
    pub(super) fn close(&mut self, id: ConnectionId, why: Fault) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(unsaid) = self.refusals.may_say_ended(link.credentials.uid) {
            tracing::info!(connection = id.0, %why, unsaid, "a connection is closed");
        }
        link.say_goodbye(why);
        Self::wait_for_write(&mut self.dirty, link, id);
    }

    /// Ends a connection at once because too many bytes wait for it. The core is told in a later turn.
    fn overdrawn(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(unsaid) = self.refusals.may_say_ended(link.credentials.uid) {
            tracing::warn!(connection = id.0, unsaid, "a client does not read; disconnected");
        }
        if let Some(metrics) = &self.metrics {
            metrics.too_slow.inc();
        }
        link.overdraw();
        Self::wait_for_turn(&mut self.turns, link, id);
        Self::wait_for_write(&mut self.dirty, link, id);
    }

    /// Makes room if a limit is exceeded. Called wherever waiting bytes may have grown: after a message, after a read, and after a
    /// change of limits.
    pub(super) fn keep_room(&mut self) {
        if self.ledger.is_beyond() {
            self.make_room();
        }
    }

    /// Ends the connections with the most waiting bytes, while those of a user's processes, or of all, exceed a limit.
    #[cold]
    fn make_room(&mut self) {
        while let Some(full) = self.ledger.full() {
            let of_it = self.links.iter().filter(|(_, link)| full.covers(link.credentials.uid));
            let waits = of_it.map(|(id, link)| (link.outbox.waiting(), *id));
            let mut waits: Vec<_> = waits.filter(|((_, own), _)| *own > 0).collect();
            waits.sort_unstable();
            while !self.ledger.has_room(full)
                && let Some((_, id)) = waits.pop()
            {
                self.overdrawn(id);
            }
        }
    }

    /// Logs that a process has begun more requests than its account allows.
    pub(super) fn note_unpaid(&mut self, id: ConnectionId) {
        if let Some(unsaid) = self.may_say_ended(id) {
            tracing::warn!(
                unsaid,
                "a process has begun more requests than may wait for it; disconnected"
            );
        }
    }

    /// Logs that a client was refused something that is not its own.
    pub(super) fn note_refused(
        &mut self,
        uid: u32,
        peer: &Peer,
        request: Correlation,
        why: &Fault,
    ) {
        self.refusals.note(uid, peer, request, why);
    }

    /// Whether a line may be logged about the end of a connection, and how many such lines of its user were left out before.
    fn may_say_ended(&mut self, id: ConnectionId) -> Option<u64> {
        let uid = self.links.get(&id)?.credentials.uid;
        self.refusals.may_say_ended(uid)
    }

    /// Whether work is left for a connection. A connection that is ending gets its deadline, once.
    pub(super) fn left(&mut self, id: ConnectionId, now: Instant) -> Left {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_ending()) else {
            return Left::Something;
        };
        if link.is_over() {
            return Left::Nothing;
        }
        let until = *link.until.get_or_insert(now + FAREWELL);
        self.ending.insert((until, id));
        Left::Something
    }

    /// The next connection that has not ended in time.
    pub(super) fn next_overdue(&mut self, now: Instant) -> Option<ConnectionId> {
        let (_, id) = *self.ending.first().filter(|(at, _)| *at <= now)?;
        self.ending.pop_first();
        if let Some(unsaid) = self.may_say_ended(id) {
            tracing::info!(
                connection = id.0,
                unsaid,
                "a connection took too long to end; disconnected"
            );
        }
        Some(id)
    }

    /// When the next connection must have said hello, and when the next must have ended.
    pub(super) fn wakes(&self) -> [Option<Instant>; 2] {
        [self.greeting.front().map(|(at, _)| *at), self.ending.first().map(|(at, _)| *at)]
    }

    /// Removes a connection and closes its descriptor.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Gone> {
        let mut link = self.links.remove(&id)?;
        if let Some(until) = link.until {
            self.ending.remove(&(until, id));
        }
        // Removes entries of connections that are gone or have said hello. Otherwise many short connections would stay in the list
        // until their time is over.
        while self.greeting.front().is_some_and(|(_, id)| !self.awaits_hello(*id)) {
            self.greeting.pop_front();
        }
        let (process, uid) = (link.process.take(), link.credentials.uid);
        if let Some(connections) = self.users.get_mut(&uid) {
            *connections -= 1;
            if *connections == 0 {
                self.users.remove(&uid);
            }
        }
        // The link holds the only copy of this descriptor, so closing it ends the watch.
        drop(link);
        self.ledger.forget(process.as_ref(), uid);
        Some(Gone { process })
    }
}

/// Access for tests.
#[cfg(test)]
impl Connections {
    pub(super) fn links(&self) -> impl ExactSizeIterator<Item = &Link> {
        self.links.values()
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.links.keys().copied().collect()
    }

    /// How many bytes wait for all users.
    pub(super) fn waiting(&self) -> usize {
        self.ledger.used()
    }

    /// The deadlines of ending connections, in order.
    pub(super) fn deadlines(&self) -> Vec<Instant> {
        self.ending.iter().map(|(at, _)| *at).collect()
    }

    /// Takes the images in the test's process for separate processes, and counts shares in requests alone.
    pub(super) fn believe_clients(&mut self) {
        self.ledger.believe_clients();
        self.turns.forget_time();
    }
}
