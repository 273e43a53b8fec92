//! The flows of a member's requests in its session.

pub(crate) mod advise;
pub(crate) mod figures;
pub(crate) mod folders;
pub(crate) mod grants;
pub(crate) mod messages;
pub(crate) mod status;
