//! `sundown status --watch` on a terminal: the broker's state, updated on a screen.
//!
//! ```text
//! asker    asks the broker in its own rhythm; one that hangs does not stop the screen
//! signals  size, end, suspension      keys  q         ──►  one channel, one loop that draws
//! ```

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use sundown_client::{Code, Error, Mapi};

use crate::cli::{Autostart, Context};
use crate::output;
use crate::screen::{self, Screen};
use crate::status::{Said, head, more, queue, session_text};
use crate::terminal::{self, Size, painted};

/// The smallest terminal on which the status can be read.
const SMALLEST: Size = Size { columns: 40, rows: 12 };

/// How long a broker may take to answer before the screen says that it does not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the screen's loop waits for.
enum News {
    Said(Box<Said>),
    /// No broker runs, or it refuses. Holds the error.
    Nothing(String),
    Signal(i32),
    Key(u8),
}

/// What the screen shows.
struct View {
    said: Option<Said>,
    /// Why there is no answer.
    why: String,
    heard: Instant,
    interval: Duration,
}

/// Whether the output is a terminal that can be drawn on. Otherwise each status is printed after the one before.
pub(crate) fn can_draw(context: &Context) -> bool {
    !context.json && std::io::stdout().is_terminal() && !terminal::is_dumb()
}

pub(crate) fn run(context: &Context, mapi: Mapi, interval: Duration) -> Result<ExitCode, Error> {
    let (tell, news) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP])
        .map_err(|error| output::error(Code::E_CALL_FAILED, error.to_string()))?;
    let signalled = tell.clone();
    spawn("sundown-signals", move || {
        for signal in signals.forever() {
            if signalled.send(News::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    let (context, asked) = (context.clone(), tell.clone());
    spawn("sundown-asker", move || ask(&context, mapi, interval, &asked))?;
    let screen = Screen::enter();
    if std::io::stdin().is_terminal() {
        screen::keys(tell, News::Key);
    }
    let status = watch(&screen, &news, interval);
    drop(screen);
    Ok(ExitCode::from(status))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(drop).map_err(|e| output::error(Code::E_NOT_ENOUGH_RESOURCES, e.to_string()))
}

/// Asks the broker repeatedly. If it is gone, looks for a broker until there is one.
fn ask(context: &Context, mapi: Mapi, interval: Duration, tell: &Sender<News>) {
    let mut mapi = Some(mapi);
    loop {
        let there = mapi.take().map_or_else(|| context.initialize(Autostart::No), Ok);
        let said = there.and_then(|there| {
            let said = Said::ask(&there)?;
            Ok((said, there))
        });
        let news = match said {
            Ok((said, there)) => {
                mapi = Some(there);
                News::Said(Box::new(said))
            }
            Err(error) => News::Nothing(error.to_string()),
        };
        if tell.send(news).is_err() {
            return;
        }
        thread::sleep(interval);
    }
}

/// Draws every change until a key or a signal ends it. Returns the exit status, as shells have it for signals.
fn watch(screen: &Screen, news: &Receiver<News>, interval: Duration) -> u8 {
    let why = "waiting for the broker".to_owned();
    let mut view = View { said: None, why, heard: Instant::now(), interval };
    loop {
        match news.recv_timeout(PATIENCE) {
            Ok(News::Said(said)) => view.hear(Some(*said), String::new()),
            Ok(News::Nothing(why)) => view.hear(None, why),
            Ok(News::Key(b'q' | b'Q')) | Err(RecvTimeoutError::Disconnected) => return 0,
            Ok(News::Signal(SIGTSTP)) => {
                screen.give_back();
                // Only this stops a process that handles the signal itself.
                let _ = emulate_default_handler(SIGTSTP);
                screen.take();
            }
            Ok(News::Signal(signal)) if signal != SIGWINCH => return 128 + signal as u8,
            Ok(News::Signal(_) | News::Key(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
        let size = Screen::size();
        Screen::draw(&view.lines(size), size);
    }
}

impl View {
    fn hear(&mut self, said: Option<Said>, why: String) {
        (self.said, self.why, self.heard) = (said, why, Instant::now());
    }

    /// The lines to show, at most as many as the terminal has.
    fn lines(&self, size: Size) -> Vec<String> {
        if size.columns < SMALLEST.columns || size.rows < SMALLEST.rows {
            let has = format!("{}×{}", size.columns, size.rows);
            let needs = format!("{}×{}", SMALLEST.columns, SMALLEST.rows);
            return vec!["too small:".into(), format!("{has}, needs {needs}")];
        }
        let footer = self.footer();
        let Some(said) = &self.said else {
            let mut lines = vec![painted("no broker; waiting", "waiting"), String::new()];
            lines.extend(terminal::wrapped(&self.why, size.columns));
            lines.push(String::new());
            lines.push(footer);
            return lines;
        };
        let mut lines = fitting(said, size.rows - 2);
        lines.push(String::new());
        lines.push(footer);
        lines
    }

    fn footer(&self) -> String {
        let silent = self.heard.elapsed().saturating_sub(self.interval);
        if silent >= PATIENCE {
            let text = format!("no answer for {}", output::span(silent.as_secs()));
            return painted(&text, "warning") + "; q ends this";
        }
        format!("every {}; q ends this", output::span(self.interval.as_secs()))
    }
}

/// A status in this many lines. First the longest lists become shorter, then sessions are left out.
fn fitting(said: &Said, rows: usize) -> Vec<String> {
    // Each session takes more than a line, so sessions beyond this number would never be shown.
    let sessions = said.status.sessions.len().min(rows);
    let fits = (1..=rows).rev().map(|most| whole(said, most, sessions));
    let fits = fits.chain((0..sessions).rev().map(|shown| whole(said, 1, shown)));
    let mut last = Vec::new();
    for lines in fits {
        if lines.len() <= rows {
            return lines;
        }
        last = lines;
    }
    last.truncate(rows);
    last
}

/// A status with at most `sessions` sessions, each with at most `most` members and providers.
fn whole(said: &Said, most: usize, sessions: usize) -> Vec<String> {
    let status = &said.status;
    let mut text = head(status, said.broker.as_ref()) + &queue(status);
    for session in status.sessions.iter().take(sessions) {
        text += "\n";
        text += &session_text(said, session, most);
    }
    if status.sessions.is_empty() {
        text += "\nno sessions\n";
    }
    let left_out = more(status.sessions.len(), sessions, "session");
    text += left_out.trim_start();
    text.lines().map(str::to_owned).collect()
}
