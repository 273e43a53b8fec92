//! Crashes: SIGKILL keeps what the kernel has in memory, a power cut does not. Both are tried, at every step.
//!
//! ```text
//! record.c   preloaded into a broker: writes down each write, rename, sync, answer to a client and line to a server,
//!            and fails at a named one if told to
//! recorder   builds it, starts brokers with it, reads what it wrote
//! disk       what of a record is surely on the disk after a power cut, and what may be
//! claims     what was promised to clients, what was given to servers
//! check      opens what was left: nothing promised is lost, nothing is there or goes out twice
//! folders    both, for what programs file: folders, flags, moves, copies, messages that are appended and deleted
//! cuts       power cuts: at each sync and each answer, and that a missing sync would be noticed
//! steps      SIGKILL at each step between accepting and acknowledging, and of a delivery
//! load       SIGKILL at random, while clients submit
//! ```
//!
//! `SUNDOWN_TEST_LONG=1` cuts the power at every record, in more ways, and kills 200 times in each test of `load`.

// The other suite uses all of it.
#[allow(dead_code, unused_imports)]
#[path = "../integration/harness/mod.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../mail/queue.rs"]
mod queue;
#[allow(dead_code, unused_imports)]
#[path = "../mail/servers/mod.rs"]
mod servers;

mod chance;
mod check;
mod claims;
mod disk;
mod recorder;

mod accounts;
mod cuts;
mod folders;
mod load;
mod steps;

/// Whether everything is tried that takes minutes.
fn long() -> bool {
    std::env::var_os("SUNDOWN_TEST_LONG").is_some_and(|said| !said.is_empty())
}

/// Says a figure where it is seen although the test passes.
fn tell(words: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{words}\n").as_bytes());
}
