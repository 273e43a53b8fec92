//! A screen of its own: what was on the terminal before is there again when it ends, however it ends.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::safe;
use crate::terminal::{self, Size};

/// The alternate screen, without a cursor, and lines that are not broken by the terminal.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";

/// A terminal that is drawn on.
pub(crate) struct Screen {
    /// How the keyboard was set before: while the screen is there, keys are not shown.
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal of standard output.
    pub(crate) fn enter() -> Self {
        let before = tcgetattr(io::stdin()).ok();
        let screen = Self { before };
        screen.take();
        screen
    }

    /// Takes the terminal, again after it was given back for a while.
    pub(crate) fn take(&self) {
        if let Some(before) = &self.before {
            let mut quiet = before.clone();
            quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON;
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &quiet);
        }
        write(ENTER);
    }

    /// Gives the terminal back as it was.
    pub(crate) fn give_back(&self) {
        write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, before);
        }
    }

    /// How much it shows now.
    pub(crate) fn size() -> Size {
        Size::of(io::stdout())
    }

    /// Draws these lines over what is there, in one write: nothing is cleared before, so nothing flickers.
    pub(crate) fn draw(lines: &[String], size: Size) {
        let mut frame = String::from("\x1b[H");
        let mut is_full = false;
        for (row, line) in lines.iter().take(size.rows).enumerate() {
            let end = if row == 0 { "" } else { "\r\n" };
            let line = terminal::clip(&safe::printed(line), size.columns);
            // Behind a full line the cursor stands on its last character, which would be cleared.
            is_full = terminal::width_of(&line) >= size.columns;
            frame += &format!("{end}{line}{}", if is_full { "" } else { "\x1b[K" });
        }
        match (is_full, lines.len() < size.rows) {
            (true, true) => frame += "\r\n\x1b[J",
            (true, false) => {}
            (false, _) => frame += "\x1b[J",
        }
        write(frame.as_bytes());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A terminal that is gone sends a signal, which ends this.
fn write(bytes: &[u8]) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(bytes).and_then(|()| output.flush());
}
