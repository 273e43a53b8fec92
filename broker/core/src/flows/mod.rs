//! What happens, each from a request or an event to its end. A flow leads through several machines, so it is the broker's.

pub(crate) mod arriving;
pub(crate) mod calling;
pub(crate) mod leaving;
pub(crate) mod sending;
pub(crate) mod working;
