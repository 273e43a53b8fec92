//! How far something is that takes long: one line on standard error, rewritten in place and cleared at the end.
//!
//! It is there for people: without a terminal, and with `--json`, nothing is shown. Ctrl-C says in both cases what stays true
//! without this command, which is why one may go away here.
//!
//! A few lines of our own rather than a library for progress bars: what is done is counted in single messages, and the
//! estimates of such a library are made for thousands of steps a second; its clipping is needed for the screen as well.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use crate::output;
use crate::output::{span, until};
use crate::safe;
use crate::terminal::{self, Size};

/// What is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often it looks.
const TICK: Duration = Duration::from_millis(500);

/// The exit status of a command that was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is waited for.
    pub(crate) what: String,
    /// How much is done.
    pub(crate) done: u64,
    /// How much is left.
    pub(crate) left: u64,
    /// When it goes on, if all that is left waits for its time; in milliseconds since 1970.
    pub(crate) next_try: Option<u64>,
}

/// Shown while it lives.
pub(crate) struct Progress {
    line: Arc<Line>,
}

/// What the threads share. Whoever writes to the terminal has it locked.
#[derive(Default)]
struct Line {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    over: bool,
    shown: bool,
}

impl Progress {
    /// From now on Ctrl-C says what stays true, and a terminal shows what `look` finds.
    ///
    /// The threads are not joined: `look` may be waiting for a broker, and what this is the progress of is over then.
    pub(crate) fn begin(
        json: bool,
        stays: impl Into<String>,
        look: impl FnMut() -> Option<Step> + Send + 'static,
    ) -> Self {
        let line = Arc::new(Line::default());
        let (interrupted, stays) = (Arc::clone(&line), stays.into());
        // Without threads it goes on in silence, and Ctrl-C ends it as it ends everything.
        if let Ok(mut signals) = Signals::new([SIGINT]) {
            let wait = move || {
                if signals.forever().next().is_some() {
                    interrupted.give_up(&stays);
                }
            };
            let _ = thread::Builder::new().name("sundown-interrupt".into()).spawn(wait);
        }
        if !json && std::io::stderr().is_terminal() && !terminal::is_dumb() {
            let drawn = Arc::clone(&line);
            let draw = move || drawn.keep_drawing(look);
            let _ = thread::Builder::new().name("sundown-progress".into()).spawn(draw);
        }
        Self { line }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        state.clear();
        state.over = true;
        self.line.over.notify_all();
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_drawing(&self, mut look: impl FnMut() -> Option<Step>) {
        let began = Instant::now();
        let (mut base, mut pause) = (None, PATIENCE);
        while !self.is_over_after(pause) {
            pause = TICK;
            let Some(step) = look() else { continue };
            let base = *base.get_or_insert(step.done);
            self.lock().show(&words(&step, base, began.elapsed()));
        }
    }

    fn is_over_after(&self, pause: Duration) -> bool {
        let waited = self.over.wait_timeout_while(self.lock(), pause, |state| !state.over);
        waited.unwrap_or_else(PoisonError::into_inner).0.over
    }

    fn give_up(&self, stays: &str) -> ! {
        let mut state = self.lock();
        state.clear();
        if !state.over {
            output::complain(&format!("interrupted; {stays}"));
        }
        std::process::exit(INTERRUPTED)
    }
}

impl State {
    fn show(&mut self, text: &str) {
        if self.over {
            return;
        }
        let mut output = std::io::stderr();
        let columns = Size::of(&output).columns;
        // Written at once, so that nobody sees half a line; a terminal that is gone is no reason to stop.
        let line = format!("\r{}\x1b[K", terminal::clip(text, columns.saturating_sub(1)));
        let _ = output.write_all(line.as_bytes());
        self.shown = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// What is waited for, what is done and left, when it goes on or will be done, and for how long this has been shown. `base`
/// was done before.
fn words(step: &Step, base: u64, elapsed: Duration) -> String {
    let mut words = vec![safe::line(&step.what)];
    if step.done + step.left > 1 {
        words.push(format!("{} done, {} left", step.done, step.left));
    }
    if step.left > 0 {
        match step.next_try {
            Some(at) => words.push(format!("waiting for the next try in {}", until(at))),
            None => words.extend(estimate(step, base, elapsed)),
        }
    }
    words.push(format!("{} so far", span(elapsed.as_secs())));
    words.join("; ")
}

/// How long it takes at the rate so far, and that rate where it is more than one a second; without a rate nobody knows.
fn estimate(step: &Step, base: u64, elapsed: Duration) -> Option<String> {
    let done = step.done.saturating_sub(base);
    let rate = done as f64 / elapsed.as_secs_f64();
    if done == 0 {
        return None;
    }
    let rest = span((step.left as f64 / rate).ceil() as u64);
    Some(if rate > 1.0 {
        format!("{rate:.0}/s, about {rest} to go")
    } else {
        format!("about {rest} to go")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(done: u64, left: u64) -> Step {
        Step { what: "sending".into(), done, left, next_try: None }
    }

    #[test]
    fn there_is_no_estimate_without_a_rate() {
        let ten = Duration::from_secs(10);
        assert_eq!(words(&step(0, 4), 0, ten), "sending; 0 done, 4 left; 10 s so far");
        let shown = words(&step(2, 4), 0, ten);
        assert_eq!(shown, "sending; 2 done, 4 left; about 20 s to go; 10 s so far");
        // What was done before says nothing about how fast it goes now.
        assert_eq!(words(&step(2, 4), 2, ten), "sending; 2 done, 4 left; 10 s so far");
        assert_eq!(words(&step(0, 1), 0, ten), "sending; 10 s so far");
        let shown = words(&step(4300, 15700), 300, ten);
        assert_eq!(shown, "sending; 4300 done, 15700 left; 400/s, about 40 s to go; 10 s so far");
        assert_eq!(words(&step(4, 0), 0, ten), "sending; 4 done, 0 left; 10 s so far");
    }

    #[test]
    fn what_waits_for_its_time_has_no_estimate() {
        let waits = Step { next_try: Some(0), ..step(2, 4) };
        let shown = words(&waits, 0, Duration::from_secs(10));
        let wanted = "sending; 2 done, 4 left; waiting for the next try in 0 s; 10 s so far";
        assert_eq!(shown, wanted);
    }
}
