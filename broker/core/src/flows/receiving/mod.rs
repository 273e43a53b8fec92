//! The flows of mail that comes in: what mailboxes see and do, and when they watch.

pub(crate) mod mailboxes;
