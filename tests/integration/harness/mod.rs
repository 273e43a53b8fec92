//! Real processes for tests: each test has a home of its own, and waits for what it needs with a deadline.
//!
//! ```text
//! home     a directory with everything that a user's programs look at, and the processes that run in it
//! broker   `sundown serve`, killed at the end of its test; its log is printed if the test failed
//! shell    `sundown shell --json`: commands, replies and events
//! maildir  what was delivered
//! terminal a command at a pseudo terminal: keys, and what is shown
//! copies   a process with copies of the client library that were loaded into it
//! lines    what a process has said so far, and waiting for it to say more
//! ```
//!
//! Nothing sleeps: whoever waits is woken by a line, by the end of a process or by the deadline.

mod broker;
mod copies;
mod documented;
mod home;
mod lines;
mod maildir;
mod shell;
mod terminal;

use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

pub(crate) use broker::Broker;
pub(crate) use copies::{Copies, carry_out_if_asked};
pub(crate) use documented::{assert_as_documented, documented};
pub(crate) use home::{Home, Ran, binary, run, under_umask};
pub(crate) use lines::Lines;
pub(crate) use maildir::Maildir;
pub(crate) use shell::{Shell, says};
pub(crate) use terminal::{Output, Terminal};

/// How long anything may take. It is generous, because a test that passes does not wait for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// The names of an object's keys in alphabetical order.
pub(crate) fn keys(value: &Value) -> String {
    let object = value.as_object().unwrap_or_else(|| panic!("not an object: {value}"));
    let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

/// Waits until a process has ended.
pub(crate) fn wait_for_end(child: &mut Child) -> ExitStatus {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("it has a pid");
    if child.try_wait().expect("it can be waited for").is_none() {
        let process = pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped yet");
        let timeout = Timespec::try_from(DEADLINE).expect("it fits");
        let mut watched = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        let ready = poll(&mut watched, Some(&timeout)).expect("it can be watched");
        assert!(ready > 0, "process {} has not ended within {DEADLINE:?}", child.id());
    }
    child.wait().expect("it has ended")
}

/// Sends a signal to a process of this test.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("it has a pid");
    kill_process(pid, signal).expect("it is there");
}

/// How much of the deadline is left.
pub(crate) fn left(since: Instant) -> Duration {
    DEADLINE.saturating_sub(since.elapsed())
}

/// How many descriptors a process has for others and for what it does for them. Its files, and how it is told of their changes, are not
/// counted: the index of a store and the watch of a mailbox begin by themselves a while after the first message.
#[allow(dead_code, reason = "tests beside these ones use it")]
pub(crate) fn descriptors_of(pid: impl std::fmt::Display) -> usize {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let links = all.filter_map(|one| std::fs::read_link(one.ok()?.path()).ok());
    let counts = |link: &std::path::PathBuf| {
        let link = link.to_string_lossy();
        let of_files = link.starts_with('/') && !link.starts_with("/memfd:");
        !of_files && !link.contains("inotify") && !link.contains("eventfd")
    };
    links.filter(counts).count()
}
