//! The broker's place: its listening socket, which is made again if its file is removed, and its data directory, which must remain
//! its own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::event::epoll;

use super::locations::{StartupError, system};
use super::{LISTENER, PLACE};
use crate::refusals::Lines;
use crate::settings::Group;
use crate::socket::{DataLock, Place, PlaceError};

/// How often the data directory is checked, and how long a socket's file must be gone before another socket is made: its directory
/// may be about to be removed, too.
const LOOK: Duration = Duration::from_secs(1);

/// How long no connection is accepted after descriptors ran out.
const FULL: Duration = Duration::from_millis(100);

/// The socket and the lock, and when each is checked again.
pub(super) struct Listener {
    place: Place,
    lock: DataLock,
    /// Where another socket is made: at the old path, or else in the data directory.
    paths: [PathBuf; 2],
    /// When the data directory is checked again.
    look_at_lock: Instant,
    /// Why the broker cannot continue, once that is so.
    lost: Option<PlaceError>,
    /// When another socket is made in place of a removed one.
    listen_again: Option<Instant>,
    /// When connections are accepted again, after descriptors ran out.
    accept_again: Option<Instant>,
    /// Whether there was no descriptor for the last connection.
    full: bool,
    /// How many connections are accepted when the next one comes.
    coming: Coming,
    /// Limits the lines about connections that could not be taken.
    untaken: Lines,
}

/// How many connections are accepted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// One: a further connection is reported in the next turn.
    One,
    /// Until the backlog is empty, because the turn before accepted one, too.
    Crowd,
}

/// The result of checking the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Kept,
    /// The directory is another broker's, or will be: this broker cannot continue.
    Lost,
}

impl Listener {
    pub(super) fn new(place: Place, lock: DataLock, data: &Path, now: Instant) -> Self {
        let paths = [place.path().to_owned(), data.join("run/broker.sock")];
        Self {
            place,
            lock,
            paths,
            look_at_lock: now,
            lost: None,
            listen_again: None,
            accept_again: None,
            full: false,
            coming: Coming::One,
            untaken: Lines::default(),
        }
    }

    /// When something is due.
    pub(super) fn wakes(&self) -> [Option<Instant>; 2] {
        [self.accept_again, self.listen_again]
    }

    /// Checks whether the data directory is still this broker's, at most once a second and only in turns of the loop.
    pub(super) fn look_at_data(&mut self, now: Instant) -> Data {
        if now < self.look_at_lock {
            return Data::Kept;
        }
        self.look_at_lock = now + LOOK;
        if self.lost.is_some() {
            return Data::Kept;
        }
        let Err(error) = self.lock.keep() else { return Data::Kept };
        tracing::error!(%error, "the broker cannot go on");
        self.lost = Some(error);
        Data::Lost
    }

    /// Takes the reason why the broker could not continue.
    pub(super) fn lost(&mut self) -> Option<PlaceError> {
        self.lost.take()
    }

    /// How many connections are accepted in this turn. It is `One` in the next turn, unless this turn [`accepts`](Self::accepts).
    pub(super) fn begin_turn(&mut self) -> Coming {
        std::mem::replace(&mut self.coming, Coming::One)
    }

    /// Notes that a connection came in this turn.
    pub(super) fn accepts(&mut self) {
        self.coming = Coming::Crowd;
    }

    /// Accepts the next waiting connection, if there is one and a descriptor for it.
    pub(super) fn accept(&mut self, now: Instant, registry: &Registry) -> Option<OwnedFd> {
        loop {
            match self.place.accept() {
                Ok(socket) => {
                    self.full = false;
                    return Some(socket);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Logged once, and again only after an accept has succeeded.
                    if !std::mem::replace(&mut self.full, true)
                        && let Some(unsaid) = self.untaken.may_say()
                    {
                        tracing::warn!(%error, unsaid, "no connection can be accepted for the moment");
                    }
                    self.watch_connections(registry, epoll::EventFlags::empty());
                    self.accept_again = Some(now + FULL);
                    return None;
                }
            }
        }
    }

    /// Logs that a connection was accepted and cannot be served.
    pub(super) fn note_untaken(&mut self, error: &io::Error) {
        if let Some(unsaid) = self.untaken.may_say() {
            tracing::warn!(%error, unsaid, "a connection could not be taken");
        }
    }

    /// Whether connections are accepted again now, after descriptors ran out.
    pub(super) fn accepts_again(&mut self, now: Instant, registry: &Registry) -> bool {
        let is_due = take_due(&mut self.accept_again, now);
        if is_due {
            self.watch_connections(registry, epoll::EventFlags::IN);
        }
        is_due
    }

    fn watch_connections(&self, registry: &Registry, what: epoll::EventFlags) {
        let token = epoll::EventData::new_u64(LISTENER.0 as u64);
        let _ = epoll::modify(registry, self.place.as_fd(), token, what);
    }

    /// Checks the socket's file after a change. If the file is gone another socket is made, but later: its directory may be being
    /// removed.
    pub(super) fn look_at_socket(&mut self, now: Instant) {
        if !self.place.is_there() {
            self.listen_again.get_or_insert(now + LOOK);
        }
    }

    /// Whether another socket must be made now in place of a removed one.
    pub(super) fn listens_again(&mut self, now: Instant) -> bool {
        take_due(&mut self.listen_again, now) && !self.place.is_there()
    }

    /// Makes another socket at the old path, or in the data directory if that fails. The lock file names the new path, where
    /// clients look for it.
    pub(super) fn listen(
        &mut self,
        group: Option<&Group>,
        registry: &Registry,
    ) -> Result<(), StartupError> {
        let [socket, another] = &self.paths;
        let place = Place::listen(socket, group, &self.lock)
            .or_else(|_| Place::listen(another, None, &self.lock))?;
        watch(&place, registry).map_err(system("watch the socket"))?;
        self.lock.name(place.path()).map_err(system("write where the broker listens"))?;
        let socket = place.path().display();
        tracing::warn!(%socket, "the socket was removed; a new one was made");
        self.place = place;
        Ok(())
    }

    /// Watches for connections, and for changes of the socket's file.
    pub(super) fn watch(&self, registry: &Registry) -> Result<(), StartupError> {
        watch(&self.place, registry).map_err(system("watch the socket"))
    }
}

fn take_due(at: &mut Option<Instant>, now: Instant) -> bool {
    at.take_if(|at| *at <= now).is_some()
}

/// Watches the listening socket, and its file. The event of this socket is level-triggered, unlike mio's: it repeats as long as a
/// connection waits. An accepted connection may be the only one, and checking for more is a system call.
fn watch(place: &Place, registry: &Registry) -> io::Result<()> {
    let token = epoll::EventData::new_u64(LISTENER.0 as u64);
    epoll::add(registry, place.as_fd(), token, epoll::EventFlags::IN)?;
    let Some(file) = place.watch() else { return Ok(()) };
    // The event comes once for each change and is never read, because changes are few.
    registry.register(&mut SourceFd(&file.as_raw_fd()), PLACE, Interest::READABLE)
}
