//! Who is at the other end: connections, processes, what each of them uses, and what they are waiting for.

pub(crate) mod account;
pub(crate) mod connection;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod ticket;
pub(crate) mod waiting;
