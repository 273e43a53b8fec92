//! The flows of a message, from its submit to its last recipient.

pub(crate) mod changes;
pub(crate) mod delivery;
pub(crate) mod giving_up;
pub(crate) mod notices;
pub(crate) mod reach;
pub(crate) mod store_lost;
pub(crate) mod stores;
pub(crate) mod submit;
pub(crate) mod users;
