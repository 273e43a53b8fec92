//! The ground floor: values that know nothing of the broker's state: what can happen, what is asked of providers, settings,
//! times and names.

pub mod address;
pub(crate) mod event;
pub(crate) mod expected;
pub mod local;
pub(crate) mod numbers;
pub mod provider;
pub mod settings;
pub(crate) mod timers;
