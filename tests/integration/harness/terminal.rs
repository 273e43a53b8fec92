//! A command at a terminal of its own: what is typed there, and what is shown.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{left, signal, wait_for_end};

/// A pseudo terminal of 80 columns and 24 rows with a command in it, which is killed at the end of its test.
pub(crate) struct Terminal {
    child: Child,
    /// The side of the keyboard and the screen.
    side: File,
    /// The side of programs. It is kept, so that what was shown can be read to its end.
    end: File,
    shown: Arc<(Mutex<Vec<u8>>, Condvar)>,
}

impl Terminal {
    /// Runs a command with its standard input and standard error here, and its standard output too unless it goes
    /// elsewhere already.
    pub(crate) fn run(mut command: Command, output: Output) -> Self {
        let side = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("there are terminals");
        grantpt(&side).and_then(|()| unlockpt(&side)).expect("it can be used");
        let name = ptsname(&side, Vec::new()).expect("it has a name");
        let end = File::options().read(true).write(true).open(name.to_str().expect("text"));
        let end = end.expect("it opens");
        let clone = || end.try_clone().expect("cloned");
        command.stdin(clone()).stderr(clone());
        if command.get_envs().all(|(name, _)| name != "TERM") {
            command.env("TERM", "xterm");
        }
        match output {
            Output::Here => command.stdout(clone()),
            Output::Pipe => command.stdout(Stdio::piped()),
        };
        let terminal = Self {
            child: {
                resize(&side, 80, 24);
                command.spawn().expect("it starts")
            },
            shown: Arc::default(),
            side: File::from(side),
            end,
        };
        terminal.keep_reading();
        terminal
    }

    fn keep_reading(&self) {
        let mut side = self.side.try_clone().expect("cloned");
        let shown = Arc::clone(&self.shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = side.read(&mut bytes) {
                shown
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&bytes[..read]);
                shown.1.notify_all();
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.shown.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was written to it so far.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.lock()).into_owned()
    }

    /// How much that is, to look only at what comes.
    pub(crate) fn mark(&self) -> usize {
        self.lock().len()
    }

    /// Waits until something is shown.
    pub(crate) fn shows(&self, words: &str) {
        self.shows_after(0, words);
    }

    /// Waits until something is shown behind what was there.
    pub(crate) fn shows_after(&self, mark: usize, words: &str) {
        let since = Instant::now();
        let mut shown = self.lock();
        while !String::from_utf8_lossy(&shown[mark..]).contains(words) {
            let waited = self.shown.1.wait_timeout(shown, left(since));
            shown = waited.unwrap_or_else(PoisonError::into_inner).0;
            let all = String::from_utf8_lossy(&shown);
            assert!(!left(since).is_zero(), "waiting for {words:?}:\n{all}");
        }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.side.write_all(keys.as_bytes()).expect("typed");
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.side, columns, rows);
        // It is nobody's controlling terminal, so nobody is told.
        self.signal(Signal::WINCH);
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(&self.child, which);
    }

    /// Whether keys are shown as they are typed.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.end).expect("a terminal").local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the end of the command: its status, and what it printed elsewhere.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let status = wait_for_end(&mut self.child);
        let mut printed = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut printed).expect("read");
        }
        // What is shown behind all that was shown has come when this has.
        let mark = "\x07end of the test";
        self.end.write_all(mark.as_bytes()).expect("written");
        self.shows(mark);
        let mut shown = self.lock();
        let length = shown.len() - mark.len();
        shown.truncate(length);
        drop(shown);
        (status, printed)
    }
}

/// Where standard output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Here,
    Pipe,
}

fn resize(side: impl std::os::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(side, size).expect("it has a size");
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
