//! Stores and their outgoing queues: what is known of a queue, and what is decided of one message.

pub(crate) mod change;
pub(crate) mod engine;
pub(crate) mod engines;
pub(crate) mod flight;
pub(crate) mod giving_up;
pub(crate) mod plan;
pub(crate) mod settle;
