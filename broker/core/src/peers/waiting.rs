//! Requests that wait for a session which has not started yet.

use sundown_protocol::SessionId;
use sundown_protocol::request::{LogonFlags, QueueAction};

use crate::peers::connection::Asker;

/// What identifies a shared session: the user and the profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionKey {
    pub(crate) user: u32,
    pub(crate) profile: String,
}

/// Whether other members may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Private,
}

/// A request that waits for a session to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waiting {
    Logon(Asker, LogonFlags),
    /// A client that was in this session before it was ended, and whether it was told of the end.
    Return {
        asker: Asker,
        flags: LogonFlags,
        told: bool,
    },
    /// The queue of one profile.
    Queue(Asker, String, QueueAction),
    /// The queues of all open stores. It waits until the sessions up to this one have opened their stores.
    Queues {
        asker: Asker,
        action: QueueAction,
        newest: SessionId,
    },
}

impl Waiting {
    pub(crate) fn asker(&self) -> Asker {
        match self {
            Self::Logon(asker, _)
            | Self::Return { asker, .. }
            | Self::Queue(asker, ..)
            | Self::Queues { asker, .. } => *asker,
        }
    }
}
