//! Tests of accounts: what servers say, and real servers.

mod compressed;
mod lies;
mod parsing;
mod server;
mod steps;
mod stories;
mod told;
mod world;
