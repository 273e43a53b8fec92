//! Calls of providers, and what becomes of providers that do not answer.

pub(crate) mod calls;
pub(crate) mod patience;
pub(crate) mod renewal;
pub(crate) mod workers;
