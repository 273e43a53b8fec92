//! What Sundown's broker decides.

pub mod address;
pub mod provider;
pub mod settings;
