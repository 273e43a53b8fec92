//! The broker's place: its listening socket, which is made again where its file was removed, and its data directory, which must stay
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

/// How often it is looked whether the data directory is still this broker's, and how long a socket's file must be gone before another
/// one is made: its directory may be about to be removed, too.
const LOOK: Duration = Duration::from_secs(1);

/// How long no connection is accepted after there was no descriptor for one.
const FULL: Duration = Duration::from_millis(100);

/// The socket and the lock, and when each is looked at again.
pub(super) struct Listener {
    place: Place,
    lock: DataLock,
    /// Where the socket is made again: where it was, or else in the data directory.
    paths: [PathBuf; 2],
    /// When it is looked again whether the data directory is still this broker's.
    look_at_lock: Instant,
    /// Why the broker cannot go on, once it is so.
    lost: Option<PlaceError>,
    /// When another socket is made in place of one that was removed.
    listen_again: Option<Instant>,
    /// When connections are accepted again, after there were no descriptors for one.
    accept_again: Option<Instant>,
    /// Whether there were no descriptors for the last connection.
    full: bool,
    /// How many are accepted when the next one comes.
    coming: Coming,
    /// Lines about connections that could not be taken.
    untaken: Lines,
}

/// How many connections are accepted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// One: the next turn is told of another one.
    One,
    /// Until the backlog is empty, because the turn before accepted one, too.
    Crowd,
}

/// What became of the data directory since it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Kept,
    /// It is another broker's, or will be: this one cannot go on.
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

    /// Looks, once a second while there is something to do, whether the data directory is still this broker's.
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

    /// Why the broker could not go on.
    pub(super) fn lost(&mut self) -> Option<PlaceError> {
        self.lost.take()
    }

    /// How many connections are accepted in this turn. `One` in the next, unless this one [`accepts`](Self::accepts).
    pub(super) fn begin_turn(&mut self) -> Coming {
        std::mem::replace(&mut self.coming, Coming::One)
    }

    /// A connection came in this turn.
    pub(super) fn accepts(&mut self) {
        self.coming = Coming::Crowd;
    }

    /// The next connection that waits, if there is one and a descriptor for it.
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
                    // Said once, and then again only when it has worked in between.
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

    /// Writes down that a connection was accepted and cannot be served.
    pub(super) fn note_untaken(&mut self, error: &io::Error) {
        if let Some(unsaid) = self.untaken.may_say() {
            tracing::warn!(%error, unsaid, "a connection could not be taken");
        }
    }

    /// Whether connections are accepted again now, after there were no descriptors for one.
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

    /// Something happened to the socket's file. If it is gone another one is made, but not while its directory is being removed.
    pub(super) fn look_at_socket(&mut self, now: Instant) {
        if !self.place.is_there() {
            self.listen_again.get_or_insert(now + LOOK);
        }
    }

    /// Whether another socket is to be made now, in place of one that was removed.
    pub(super) fn listens_again(&mut self, now: Instant) -> bool {
        take_due(&mut self.listen_again, now) && !self.place.is_there()
    }

    /// Makes another socket where the removed one was, or in the data directory where that is not possible: the lock says which, and
    /// clients look there.
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

    /// Has the loop told of connections, and of what happens to the socket's file.
    pub(super) fn watch(&self, registry: &Registry) -> Result<(), StartupError> {
        watch(&self.place, registry).map_err(system("watch the socket"))
    }
}

fn take_due(at: &mut Option<Instant>, now: Instant) -> bool {
    at.take_if(|at| *at <= now).is_some()
}

/// Watches the listening socket, and its file. Unlike the others, and unlike what mio does, the socket is told of as long as a
/// connection waits: one that was accepted may be the only one, and asking whether there are more is a call of the system.
fn watch(place: &Place, registry: &Registry) -> io::Result<()> {
    let token = epoll::EventData::new_u64(LISTENER.0 as u64);
    epoll::add(registry, place.as_fd(), token, epoll::EventFlags::IN)?;
    let Some(file) = place.watch() else { return Ok(()) };
    // Told once for each change, and never read: there are few.
    registry.register(&mut SourceFd(&file.as_raw_fd()), PLACE, Interest::READABLE)
}
