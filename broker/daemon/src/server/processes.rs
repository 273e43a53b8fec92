//! The processes that have connections: how many connections each has, and when it ends.
//!
//! ```text
//!  no ──its first connection──► with connections ──the last ends, the core remembers it──► watched ──► ended
//!                                    └──the last ends, nothing is remembered, or it cannot be watched──► no
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustc_hash::FxHashMap;
use sundown_core::{ConnectionId, PeerIdentity, ProcessKey};

use super::token_of_process;
use crate::tickets::Tickets;

/// All processes that the core knows.
pub(super) struct Processes {
    /// Processes with connections, and processes of which the core remembers something as long as they live.
    these: HashMap<ProcessKey, Process>,
    watched: FxHashMap<Token, ProcessKey>,
    most_watched: usize,
    /// Watched processes that have ended, whose requests may not all be applied yet.
    ended: Vec<Token>,
    tickets: Tickets,
}

/// A process.
#[derive(Default)]
struct Process {
    /// The descriptor that becomes readable when the process ends, and its token.
    watch: Option<(Token, OwnedFd)>,
    /// How many connections the process has.
    links: usize,
}

/// Whether the core remembers something of a process whose last connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// The core remembers something that is valid as long as the process lives.
    Some,
    None,
}

impl Processes {
    pub(super) fn new(most_watched: usize, tickets: Tickets) -> Self {
        Self {
            these: HashMap::new(),
            watched: FxHashMap::default(),
            most_watched,
            ended: Vec::new(),
            tickets,
        }
    }

    /// The tickets: what the next broker must know about processes, and what an earlier broker has left.
    pub(super) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Records for the next broker that a process said hello that this broker does not know.
    pub(super) fn note_new(&mut self, identity: &PeerIdentity) {
        self.tickets.note(identity.since);
    }

    /// Counts a connection of a process. Watches the process by the descriptor, unless it is watched or too many are.
    pub(super) fn connect(
        &mut self,
        key: &ProcessKey,
        id: ConnectionId,
        pidfd: Option<OwnedFd>,
        registry: &Registry,
    ) {
        let process = self.these.entry(key.clone()).or_default();
        process.links += 1;
        let pidfd = pidfd.filter(|_| self.watched.len() < self.most_watched);
        if let Some(pidfd) = pidfd.filter(|_| process.links == 1 && process.watch.is_none()) {
            let (token, raw) = (token_of_process(id), pidfd.as_raw_fd());
            let _ = registry.register(&mut SourceFd(&raw), token, Interest::READABLE);
            self.watched.insert(token, key.clone());
            process.watch = Some((token, pidfd));
        }
    }

    /// Counts a closed connection of a process. After the last one the process is forgotten, unless the core remembers something of
    /// it and its end is watched. Returns a process that is remembered and cannot be watched: for the core it ends now.
    pub(super) fn disconnect(
        &mut self,
        key: ProcessKey,
        memory: impl FnOnce(&ProcessKey) -> Memory,
    ) -> Option<ProcessKey> {
        let Entry::Occupied(mut process) = self.these.entry(key) else { return None };
        process.get_mut().links -= 1;
        if process.get().links > 0 {
            return None;
        }
        let memory = memory(process.key());
        if memory == Memory::Some && process.get().watch.is_some() {
            return None;
        }
        let (key, process) = process.remove_entry();
        self.unwatch(&process);
        (memory == Memory::Some).then_some(key)
    }

    /// Notes that the core remembers nothing of a process. Without connections it is forgotten.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        let Entry::Occupied(process) = self.these.entry(key) else { return };
        if process.get().links == 0 {
            let process = process.remove();
            self.unwatch(&process);
        }
    }

    /// Removes the token of a process whose descriptor is closed.
    fn unwatch(&mut self, process: &Process) {
        if let Some((token, _)) = &process.watch {
            self.watched.remove(token);
        }
    }

    /// Notes that a watched process has ended, as the kernel reports.
    pub(super) fn note_end(&mut self, token: Token) {
        self.ended.push(token);
    }

    /// Takes the processes that have ended, of which the core was not told.
    pub(super) fn take_ended(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.ended)
    }

    /// The process that is watched with this token.
    pub(super) fn watched_by(&self, token: Token) -> Option<&ProcessKey> {
        self.watched.get(&token)
    }

    /// Ends the watch of a process that has ended. The process is forgotten with its last connection.
    pub(super) fn end(&mut self, token: Token) -> Option<ProcessKey> {
        let key = self.watched.remove(&token)?;
        if let Some(process) = self.these.get_mut(&key) {
            process.watch = None;
            if process.links == 0 {
                self.these.remove(&key);
            }
        }
        Some(key)
    }

    /// How many connections each process has.
    #[cfg(test)]
    pub(super) fn links(&self) -> Vec<usize> {
        self.these.values().map(|process| process.links).collect()
    }
}
