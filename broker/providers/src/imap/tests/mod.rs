//! Tests of accounts: what servers say, and real servers.

mod chaos;
mod compressed;
mod crossed;
mod lies;
mod logons;
mod parsing;
mod plain;
mod server;
mod steps;
mod stories;
mod taken_over;
mod told;
mod world;
