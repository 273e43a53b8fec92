//! The flows of logoff, fast shutdown, and the end of the broker.

pub(crate) mod ends;
pub(crate) mod logoff;
pub(crate) mod shutdown;
pub(crate) mod stop;
pub(crate) mod store_logoff;
pub(crate) mod sweeps;
