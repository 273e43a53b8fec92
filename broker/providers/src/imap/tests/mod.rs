//! Tests of accounts: what servers say, and real servers.

mod lies;
mod logons;
mod parsing;
mod server;
mod steps;
mod stories;
mod world;
