//! Providers as the broker sees them: views of sessions, lanes with their turns, and calls until they are answered.

pub(crate) mod ask;
pub(crate) mod calls;
pub(crate) mod doubts;
pub(crate) mod lanes;
pub(crate) mod left_behind;
pub(crate) mod patience;
pub(crate) mod view;
