//! Who is at the other end: connections, processes, what each of them uses, and what they are waiting for.

pub(crate) mod account;
pub(crate) mod connection;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod ticket;
pub(crate) mod waiting;

use crate::ground::event::ConnectionId;
use crate::ground::numbers::NumberMap;
use crate::peers::connection::Connection;
use crate::peers::process::Processes;

/// Who is at the other end.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Peers {
    pub(crate) connections: NumberMap<ConnectionId, Connection>,
    pub(crate) processes: Processes,
}
