//! Things that go wrong, with real processes: each costs only its owner, and everything comes back after.
//!
//! In every test a *bystander* is at work while something is broken beside it: what it submits is answered and delivered, and
//! it is notified. Afterwards the figures are those of before: connections, members, objects, descriptors, memory.
//!
//! `SUNDOWN_FAULTS=long` runs the long forms. A right that is missing does not fail a test: it says `skipped:` and why.

// The other suite uses all of it.
mod bystander;
#[allow(dead_code, unused_imports)]
#[path = "../integration/harness/mod.rs"]
mod harness;
mod stranger;

mod access;
mod clocks;
mod crowds;
mod damage;
mod disks;
mod quotas;

use std::io::Write;

/// Copies of the client library, in a process of their own.
mod copies {
    /// Not a test of its own: see the other suite.
    #[test]
    fn a_process_with_copies() {
        crate::harness::carry_out_if_asked();
    }
}

/// Says why a test proves nothing here. It goes past the capture of tests: a suite that skips must be seen to.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stdout(), "skipped: {why}");
}

/// Whether this is root; if not, the test says so and passes.
fn root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(&format!("{what} needs root"));
    }
    root
}

/// Whether the long forms were asked for.
fn long() -> bool {
    std::env::var_os("SUNDOWN_FAULTS").is_some_and(|form| form == "long")
}
