//! The broker's flows: each one follows a request or an event to its end. A flow uses several state machines, so it is a method of
//! the broker.

pub(crate) mod arriving;
pub(crate) mod calling;
pub(crate) mod leaving;
pub(crate) mod receiving;
pub(crate) mod sending;
pub(crate) mod working;
