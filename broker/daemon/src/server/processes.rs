//! The processes that have connections: how many each has, and when it ends.
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
    /// Those with connections, and those of which the core remembers something as long as they live.
    these: HashMap<ProcessKey, Process>,
    watched: FxHashMap<Token, ProcessKey>,
    most_watched: usize,
    /// Watched processes that have ended, and may have sent requests that are not applied yet.
    ended: Vec<Token>,
    tickets: Tickets,
}

/// One process.
#[derive(Default)]
struct Process {
    /// The descriptor that becomes readable when it ends, and its token.
    watch: Option<(Token, OwnedFd)>,
    /// How many connections it has.
    links: usize,
}

/// What the core knows of a process whose last connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Something that holds as long as the process lives.
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

    /// What the next broker must know of the processes of this one, and what an earlier one has left.
    pub(super) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Writes down for the next broker that a process said hello which this one does not know.
    pub(super) fn note_new(&mut self, identity: &PeerIdentity) {
        self.tickets.note(identity.since);
    }

    /// A process has one connection more. It is watched by the descriptor, if it is not yet and more may be.
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

    /// A process has one connection less. With the last one it is forgotten, unless the core remembers something of it and its
    /// end is watched. Returns a process that ends for the core by this: it is remembered and cannot be watched.
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

    /// The core remembers nothing of a process any more. Without connections it is forgotten.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        let Entry::Occupied(process) = self.these.entry(key) else { return };
        if process.get().links == 0 {
            let process = process.remove();
            self.unwatch(&process);
        }
    }

    /// A process whose descriptor is closed is not watched any more.
    fn unwatch(&mut self, process: &Process) {
        if let Some((token, _)) = &process.watch {
            self.watched.remove(token);
        }
    }

    /// The kernel says that a watched process has ended.
    pub(super) fn note_end(&mut self, token: Token) {
        self.ended.push(token);
    }

    /// The processes that have ended, of which the core was not told.
    pub(super) fn take_ended(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.ended)
    }

    /// The process that is watched by this token.
    pub(super) fn watched_by(&self, token: Token) -> Option<&ProcessKey> {
        self.watched.get(&token)
    }

    /// A process that has ended is not watched any more, and is forgotten with its last connection.
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

    /// How many connections each has.
    #[cfg(test)]
    pub(super) fn links(&self) -> Vec<usize> {
        self.these.values().map(|process| process.links).collect()
    }
}
