//! The end of a shared session, kept as long as a member may come back to it.

use sundown_protocol::SessionId;

use crate::ground::event::End;

/// An end, and its session in this broker, if there is one.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Kept {
    pub(crate) end: End,
    pub(crate) session: Option<SessionId>,
}

impl Kept {
    /// Whether its session is not in this broker.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        self.session.is_none()
    }
}
