//! The lowest layer: values that know nothing of the broker's state, such as events, provider calls, settings, timers and names.

pub mod address;
pub(crate) mod event;
pub(crate) mod expected;
pub mod expired;
pub mod local;
pub(crate) mod numbers;
pub mod provider;
pub mod settings;
pub(crate) mod timers;
