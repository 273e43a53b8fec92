//! Tests of accounts: what servers say, and real servers.

mod compressed;
mod lies;
mod logons;
mod parsing;
mod server;
mod steps;
mod stories;
mod taken_over;
mod told;
mod world;
