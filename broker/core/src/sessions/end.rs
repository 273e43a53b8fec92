//! The end of a shared session, as long as a member may come back to it.

use sundown_protocol::SessionId;

use crate::ground::event::End;

/// An end, and the session that it is of in this broker, if one is there.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Kept {
    pub(crate) end: End,
    pub(crate) session: Option<SessionId>,
}

impl Kept {
    /// Whether its session is not here.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        self.session.is_none()
    }
}
