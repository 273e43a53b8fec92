//! A broker in the foreground.

use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::{Home, Lines, signal, wait_for_end};

/// A running broker. It is killed at the end of its test.
pub(crate) struct Broker {
    child: Child,
    log: Lines,
}

impl Broker {
    /// Starts one and waits until its socket accepts.
    pub(crate) fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(&["serve", "--log-format", "json"]);
        command.args(arguments);
        let broker = Self::spawn(command);
        broker.log_line("the broker is ready", |line| line["message"] == "ready");
        broker
    }

    /// Starts one that says nothing when it is ready.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the broker starts");
        let log = Lines::of(child.stderr.take().expect("it is a pipe"));
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line of the log, from the beginning on, that fits.
    pub(crate) fn log_line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.log_line_from(0, what, fits)
    }

    /// The first line of the log that fits, after so many lines.
    pub(crate) fn log_line_from(
        &self,
        from: usize,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        self.log.find(what, from, |line| serde_json::from_str(line).ok().filter(&fits))
    }

    /// The first line that fits, whatever its form.
    pub(crate) fn raw_line(&self, what: &str, fits: impl Fn(&str) -> bool) {
        self.log.find(what, 0, |line| fits(line).then_some(()));
    }

    /// The log so far, line by line as it was written.
    pub(crate) fn raw_log(&self) -> Vec<String> {
        self.log.all()
    }

    /// The log so far: the lines that are JSON.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many lines the log has so far.
    pub(crate) fn log_length(&self) -> usize {
        self.log.count()
    }

    /// Waits until a condition holds that follows from what providers do: each of their calls is a line of the log, so
    /// it is looked at again with every line.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        loop {
            let lines = self.log.count();
            if holds() {
                return;
            }
            self.log.wait_beyond(what, lines);
        }
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(&self.child, which);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = wait_for_end(&mut self.child);
        self.log.wait_for_end();
        status
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGTERM, and the end that must follow it.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "SIGTERM is an orderly stop: {status}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of broker {}:\n{}", self.child.id(), self.log.all().join("\n"));
        }
    }
}
