//! The flows of provider calls, and of providers that do not answer.

pub(crate) mod calls;
pub(crate) mod patience;
pub(crate) mod renewal;
pub(crate) mod workers;
