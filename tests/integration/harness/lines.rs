//! What a process says, line by line, as it says it.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::left;

/// Lines that a thread reads.
#[derive(Clone)]
pub(crate) struct Lines(Arc<(Mutex<Said>, Condvar)>);

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Those of a pipe, until it ends.
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let said = Self(Arc::default());
        let shared = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let Ok(line) = line else { break };
                shared.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                shared.0.1.notify_all();
            }
            shared.lock().ended = true;
            shared.0.1.notify_all();
        });
        said
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> usize {
        self.lock().lines.len()
    }

    /// The first line from this one on in which something is found.
    pub(crate) fn find<T>(
        &self,
        what: &str,
        mut from: usize,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        let since = Instant::now();
        let mut said = self.lock();
        loop {
            if let Some(found) =
                said.lines[from.min(said.lines.len())..].iter().find_map(|l| find(l))
            {
                return found;
            }
            from = said.lines.len();
            said = self.wait(what, from, since, said);
        }
    }

    /// Waits until there are more lines than so many.
    pub(crate) fn wait_beyond(&self, what: &str, count: usize) {
        let since = Instant::now();
        let mut said = self.lock();
        while said.lines.len() <= count {
            said = self.wait(what, count, since, said);
        }
    }

    /// Waits until the pipe has ended.
    pub(crate) fn wait_for_end(&self) {
        let since = Instant::now();
        let mut said = self.lock();
        while !said.ended {
            let waited = self.0.1.wait_timeout(said, left(since));
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
            assert!(!left(since).is_zero(), "a pipe has not ended in time");
        }
    }

    fn wait<'a>(
        &'a self,
        what: &str,
        count: usize,
        since: Instant,
        said: MutexGuard<'a, Said>,
    ) -> MutexGuard<'a, Said> {
        let idle = |said: &mut Said| said.lines.len() <= count && !said.ended;
        let waited = self.0.1.wait_timeout_while(said, left(since), idle);
        let said = waited.unwrap_or_else(PoisonError::into_inner).0;
        if said.lines.len() <= count {
            let why = if said.ended { "ended" } else { "was silent for too long" };
            let lines = said.lines.join("\n");
            drop(said);
            panic!("waiting for {what}: the process {why}; it said\n{lines}");
        }
        said
    }
}
