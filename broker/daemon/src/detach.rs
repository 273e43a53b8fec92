//! A broker in the background serves every program of its user, so it keeps nothing of the state of the program that started it:
//! terminal, descriptors, directory, signals, limits, priorities. In the foreground it keeps all of that but the umask.
//!
//! What only a privileged process can undo stays for other users, and the log says so: a hard limit takes `CAP_SYS_RESOURCE`, a nice value
//! `CAP_SYS_NICE`. What no process can undo stays in any case: the control group, namespaces, `no_new_privs`.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::platform;

/// The limits that a careful job sets for itself, and what they are of. A broker needs none of them: what it uses has limits of its own.
const LIMITS: [(Resource, &str); 5] = [
    (Resource::Fsize, "the size of files"),
    (Resource::Cpu, "processor time"),
    (Resource::As, "address space"),
    (Resource::Data, "data"),
    (Resource::Rss, "resident memory"),
];

/// A broker that has left the program that started it.
#[derive(Debug)]
#[must_use]
pub struct Detached {
    /// What it could not undo.
    kept: Vec<String>,
}

/// Gives this process the umask of a broker, in the foreground too: with another one files that it makes, `SQLite` makes and providers
/// make could not be used by itself, or be read by others.
pub fn take_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Leaves the terminal and the state of the program that started this process: the first thing a broker does in the background.
pub fn detach() -> io::Result<Detached> {
    platform::close_inherited()?;
    // One that leads its session already has nothing to leave.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/")?;
    let mut kept = Vec::new();
    for (resource, of) in LIMITS {
        if let Some(limit) = lift(resource) {
            kept.push(format!("a limit of {limit} for {of}"));
        }
    }
    platform::forget_scheduling();
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    let _ = sched_setaffinity(None, &all);
    if rustix::process::getpriority_process(None).is_ok_and(|nice| nice > 0)
        && setpriority_process(None, 0).is_err()
    {
        kept.push("a nice value".to_owned());
    }
    let oom = "/proc/self/oom_score_adj";
    if fs::read_to_string(oom).is_ok_and(|score| score.trim() != "0")
        && fs::write(oom, "0").is_err()
    {
        kept.push("an oom_score_adj".to_owned());
    }
    Ok(Detached { kept })
}

/// Lifts a limit as far as this process may. What is left of it, if anything is.
fn lift(resource: Resource) -> Option<u64> {
    let _ = setrlimit(resource, Rlimit { current: None, maximum: None });
    let now = getrlimit(resource);
    let _ = setrlimit(resource, Rlimit { current: now.maximum, maximum: now.maximum });
    getrlimit(resource).current
}

impl Detached {
    /// Writes down what could not be undone.
    pub fn note(&self) {
        for what in &self.kept {
            tracing::warn!("the program that started this broker had {what}, which stays");
        }
    }
}

/// Lets go of standard output, so that the program that reads it to its end goes on.
pub fn let_go_of_output() {
    if let Ok(nothing) = fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&nothing);
    }
}
