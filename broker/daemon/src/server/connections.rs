//! All connections: which has something to read or to write, which must say hello or end by when, and who pays for what waits on
//! them.

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
use sundown_protocol::{Code, Correlation, Event as News, Fault, Notification, Version};

use super::token_of_connection;
use crate::descriptors::Descriptors;
use crate::ledger::Ledger;
use crate::link::{FAREWELL, Intake, Link, LinkState};
use crate::metrics::Metrics;
use crate::outbox::{Pushed, TooSlow};
use crate::peer::Credentials;
use crate::refusals::Refusals;
use crate::turns::{Budget, Round, Turns};

/// The first connection: below it are the loop's own tokens.
const FIRST: u64 = 3;

/// The connections, each from the time it is accepted until its descriptor is closed.
pub(super) struct Connections {
    /// Their numbers are the broker's own: nobody can choose some that collide.
    links: FxHashMap<ConnectionId, Link>,
    made: u64,
    /// How many connections each user has, those included that have not said hello.
    users: FxHashMap<u32, usize>,
    descriptors: Descriptors,
    /// Who pays for what waits on them.
    ledger: Ledger,
    /// Connections in their order, and until when each must have said hello.
    greeting: VecDeque<(Instant, ConnectionId)>,
    /// Connections that are ending, with their deadlines.
    ending: BTreeSet<(Instant, ConnectionId)>,
    /// Those with something to write.
    dirty: VecDeque<ConnectionId>,
    /// Those with something to read.
    turns: Turns,
    refusals: Refusals,
    metrics: Option<Arc<Metrics>>,
}

/// What is left to do for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Left {
    Something,
    /// Nothing: it is to be removed.
    Nothing,
}

/// A connection that was removed.
pub(super) struct Gone {
    /// The process at its other end, if it had said hello.
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

    /// Other limits hold from now on.
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
    /// Takes an accepted connection, or tells it why it cannot stay.
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
            // It is a line, and a new socket has room for it.
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
        // Its hello is often there already.
        self.mark_unread(id);
        Ok(())
    }

    /// Whether quotas of users bind this one: they bind neither root nor the broker's own user.
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

    /// Why a user may not have another connection. The core counts those that are open; one that says nothing has descriptors
    /// too, and would keep the others out by them.
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
        // It waits with its process from here on.
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

/// What a connection says.
impl Connections {
    /// Notes what the poll says of a connection.
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

    /// Begins to give each connection that waits its turn.
    pub(super) fn begin_round(&self) -> Round {
        Round::new(&self.turns)
    }

    /// Whose turn it is, when the connection before it has had so many requests applied.
    pub(super) fn next_turn(
        &mut self,
        round: &mut Round,
        spent: usize,
    ) -> Option<(ConnectionId, Budget)> {
        round.next(&mut self.turns, spent)
    }

    /// Reads one piece of a connection: how many bytes of it are in the buffer.
    pub(super) fn read(&mut self, id: ConnectionId, scratch: &mut Vec<u8>) -> Option<usize> {
        let link = self.links.get_mut(&id)?;
        link.unread = false;
        let (read, intake) = link.read(scratch);
        if intake == Intake::More {
            Self::wait_for_turn(&mut self.turns, link, id);
        }
        Some(read)
    }

    /// Keeps what was read of a connection and must wait for its next turn.
    pub(super) fn keep_for_next_turn(
        &mut self,
        id: ConnectionId,
        read: &[u8],
    ) -> Result<(), TooSlow> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        Self::wait_for_turn(&mut self.turns, link, id);
        link.keep(read)
    }

    /// Whether everything was applied that a process had sent on this connection when it ended. If not, it is read further.
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

/// What a connection is told.
impl Connections {
    /// Tells a client in words of its version. Only ends, of sessions and of members, have words that an earlier one lacks.
    pub(super) fn notify(&mut self, id: ConnectionId, notification: Notification) {
        if let News::CriticalError { .. } | News::MembersLeft(_) = notification.event
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

    /// The next connection with something to write. One that ends tells others, which come behind those that wait.
    pub(super) fn next_to_write(&mut self) -> Option<ConnectionId> {
        self.dirty.pop_front()
    }

    /// A connection was written to just now: at the end of the list it need not be looked for again.
    pub(super) fn unmark_last(&mut self, id: ConnectionId) {
        if self.dirty.back() == Some(&id) {
            self.dirty.pop_back();
        }
    }

    /// Writes what a connection's socket takes, if it has anything.
    pub(super) fn write(&mut self, id: ConnectionId, now: Instant, registry: &Registry) -> Left {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.dirty) else {
            return Left::Something;
        };
        let flushed = link.flush();
        // Only a connection with something left is told of room: otherwise each read of the client would wake this loop.
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

    /// Writes what the sockets take, of all connections: what was said last should arrive.
    pub(super) fn flush(&mut self) {
        for link in self.links.values_mut() {
            let _ = link.flush();
        }
    }
}

/// How a connection ends.
impl Connections {
    /// Says goodbye and ends a connection.
    pub(super) fn close(&mut self, id: ConnectionId, why: Fault) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(unsaid) = self.refusals.may_say_ended(link.credentials.uid) {
            tracing::info!(connection = id.0, %why, unsaid, "a connection is closed");
        }
        link.say_goodbye(why);
        Self::wait_for_write(&mut self.dirty, link, id);
    }

    /// Ends a connection at once because too much waits for it. The core is told in a turn of its own.
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

    /// Called wherever more may wait than before: behind a message, behind what was read, and when a limit has changed.
    pub(super) fn keep_room(&mut self) {
        if self.ledger.is_beyond() {
            self.make_room();
        }
    }

    /// Ends connections on which most waits, while more waits for a user's processes, or for all, than may.
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

    /// Writes down that a process has begun more requests than it can pay for.
    pub(super) fn note_unpaid(&mut self, id: ConnectionId) {
        if let Some(unsaid) = self.may_say_ended(id) {
            tracing::warn!(
                unsaid,
                "a process has begun more requests than may wait for it; disconnected"
            );
        }
    }

    /// Writes down that a client has asked for what is not its own.
    pub(super) fn note_refused(
        &mut self,
        uid: u32,
        peer: &Peer,
        request: Correlation,
        why: &Fault,
    ) {
        self.refusals.note(uid, peer, request, why);
    }

    /// Whether a line may say that a connection ends, and how many such lines of its user were left out before it.
    fn may_say_ended(&mut self, id: ConnectionId) -> Option<u64> {
        let uid = self.links.get(&id)?.credentials.uid;
        self.refusals.may_say_ended(uid)
    }

    /// What is left to do for a connection. One that is ending gets its deadline, once.
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

    /// When a connection must have said hello, or have ended.
    pub(super) fn wakes(&self) -> [Option<Instant>; 2] {
        [self.greeting.front().map(|(at, _)| *at), self.ending.first().map(|(at, _)| *at)]
    }

    /// Closes a connection's descriptor, and forgets it.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Gone> {
        let mut link = self.links.remove(&id)?;
        if let Some(until) = link.until {
            self.ending.remove(&(until, id));
        }
        // Connections that are gone or have said hello are passed over. Crowds that come and go would else wait here for their time
        // to be over.
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
        // Nobody else has this descriptor: with it goes that it is watched.
        drop(link);
        self.ledger.forget(process.as_ref(), uid);
        Some(Gone { process })
    }
}

/// What tests look at.
#[cfg(test)]
impl Connections {
    pub(super) fn links(&self) -> impl ExactSizeIterator<Item = &Link> {
        self.links.values()
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.links.keys().copied().collect()
    }

    /// How many bytes wait, for all.
    pub(super) fn waiting(&self) -> usize {
        self.ledger.used()
    }

    /// The deadlines of those that are ending, in their order.
    pub(super) fn deadlines(&self) -> Vec<Instant> {
        self.ending.iter().map(|(at, _)| *at).collect()
    }

    /// Images of the test's process are processes of their own, and shares are counted in requests alone.
    pub(super) fn believe_clients(&mut self) {
        self.ledger.believe_clients();
        self.turns.forget_time();
    }
}
