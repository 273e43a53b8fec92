//! Sundown's daemon: the edge where the broker meets sockets, threads, signals and files.
//!
//! One thread runs everything that decides: it waits for sockets, signals and workers, cuts and decodes frames, applies
//! events to [`sundown_core::Broker`] and carries the effects out. It never blocks on a send and never does a provider's
//! I/O: providers run on workers of their own.
//!
//! | file | story |
//! |---|---|
//! | [`server`] | the loop |
//! | `alarm` | when the loop wakes by itself |
//! | [`socket`] | the socket, its directory, and the lock that keeps a second broker out |
//! | [`service`] | what a service manager gives and hears |
//! | `last_exit` | how the broker before this one ended, and how this one does |
//! | `link` | one connection: bytes in, frames out |
//! | `inbox` | frames of what comes in, however it was cut |
//! | `outbox` | what waits for a client that does not read |
//! | `ledger` | who pays for it |
//! | `users` | which names are those of users of this host |
//! | `loader` | profiles whose users only a directory service knows |
//! | `commands` | the commands that profiles have for notifications and new mail |
//! | `descriptors` | how many connections there may be, and whose |
//! | `turns` | whose requests are applied next |
//! | `peer` | who is at the other end, as the kernel says it |
//! | [`workers`] | what calls providers |
//! | `lane` | the threads that calls are made on |
//! | `platform` | the few calls that need `unsafe` |
//! | [`metrics`] | figures for whoever watches, and a health check |
//! | [`settings`], [`log`] | as they say |

pub mod log;
pub mod metrics;
pub mod server;
pub mod service;
pub mod settings;
pub mod socket;
mod tickets;
pub mod workers;

mod alarm;
mod commands;
mod deliveries;
mod descriptors;
mod detach;
mod ends;
mod inbox;
mod lane;
mod last_exit;
mod ledger;
mod link;
mod loader;
mod outbox;
mod peer;
mod platform;
mod readiness;
mod refusals;
mod running;
mod state;
mod troubles;
mod turns;
mod users;

pub use detach::{Detached, detach, let_go_of_output, take_umask};
pub use readiness::Starting;
pub use server::{Locations, Options, Server, StartupError, places};
pub use service::{Passed, take_passed};
pub use socket::PassedError;
pub use sundown_core::local::Users;
pub use sundown_core::provider::ProviderSpec;
pub use sundown_core::settings::TransportSpec;
pub use sundown_core::settings::{MailboxSpec, Profile, Watching};
pub use sundown_providers::{RESCUED, Registry};
