//! The flows from a connection to a session.

pub(crate) mod connections;
pub(crate) mod logon;
pub(crate) mod profiles;
pub(crate) mod quotas;
pub(crate) mod reload;
pub(crate) mod tickets;
