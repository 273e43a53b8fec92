//! Sessions and what belongs to them: members, objects, grants.

pub(crate) mod grants;
pub(crate) mod member;
pub(crate) mod object;
pub(crate) mod session;
pub(crate) mod sessions;
