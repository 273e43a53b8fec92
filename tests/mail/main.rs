//! Mail by real servers: through the command as it was built, to `smtp-sink`, to a private Postfix, to servers that
//! misbehave, from programs that people send with.
//!
//! A program that is not installed, or a right that is missing, does not fail a test: it says `skipped:` and why.

// The other suite uses all of it.
#[allow(dead_code, unused_imports)]
#[path = "../integration/harness/mod.rs"]
mod harness;
mod queue;
mod servers;

mod accounts;
mod authors;
mod bad;
mod changed;
mod clients;
mod composed;
mod jobs;
mod large;
mod lmtp;
mod load;
mod monitors;
mod notices;
mod pipe;
mod postfix;
mod refusals;
mod sink;
mod tls;
mod tokens;
mod warnings;
