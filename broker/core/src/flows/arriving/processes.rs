//! TODO

use crate::broker::Broker;
use crate::ground::event::{ConnectionId, ProcessKey};

impl Broker {
    /// Whether there is such a process: with a connection, or with something that must be remembered of it until it ends.
    pub fn remembers(&self, process: &ProcessKey) -> bool {
        self.peers.processes.find(process).is_some()
    }

    /// The connections of a process.
    pub fn connections_of(&self, process: &ProcessKey) -> impl Iterator<Item = ConnectionId> + '_ {
        self.peers.processes.find(process).into_iter().flat_map(|p| p.connections.iter().copied())
    }
}
