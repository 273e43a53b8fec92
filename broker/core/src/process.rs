//! Processes: all connections of one operating-system process are one.

use std::collections::{BTreeSet, HashMap};

use sundown_protocol::reply::Peer;

use crate::event::{ConnectionId, PeerIdentity, ProcessKey};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u64);

/// One process and what it uses up.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) key: ProcessKey,
    pub(crate) peer: Peer,
    pub(crate) uid: u32,
    pub(crate) connections: BTreeSet<ConnectionId>,
    pub(crate) members: usize,
    pub(crate) objects: usize,
    /// Bytes of deferred submissions that were answered and are not durable.
    pub(crate) unwritten: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Processes {
    by_id: HashMap<ProcessId, Process>,
    by_key: HashMap<ProcessKey, ProcessId>,
    made: u64,
}

impl Processes {
    /// The process behind a new connection.
    pub(crate) fn connect(
        &mut self,
        identity: PeerIdentity,
        connection: ConnectionId,
    ) -> ProcessId {
        let id = *self.by_key.entry(identity.key.clone()).or_insert_with(|| {
            self.made += 1;
            ProcessId(self.made)
        });
        let process = self.by_id.entry(id).or_insert_with(|| Process {
            key: identity.key,
            peer: identity.peer,
            uid: identity.uid,
            connections: BTreeSet::new(),
            members: 0,
            objects: 0,
            unwritten: 0,
        });
        process.connections.insert(connection);
        id
    }

    /// A connection is gone; with the last one the process is.
    pub(crate) fn disconnect(&mut self, id: ProcessId, connection: ConnectionId) {
        let Some(process) = self.by_id.get_mut(&id) else { return };
        process.connections.remove(&connection);
        if process.connections.is_empty() {
            self.by_key.remove(&process.key);
            self.by_id.remove(&id);
        }
    }

    pub(crate) fn find(&self, key: &ProcessKey) -> Option<&Process> {
        self.by_id.get(self.by_key.get(key)?)
    }

    pub(crate) fn get(&self, id: ProcessId) -> Option<&Process> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ProcessId) -> Option<&mut Process> {
        self.by_id.get_mut(&id)
    }
}
