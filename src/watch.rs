//! `sundown status --watch` on a terminal: the broker's state, updated on a screen, and changes of messages in its queue.
//!
//! ```text
//! asker    asks the broker in its own rhythm; one that hangs does not stop the screen. It changes messages, too
//! signals  size, end, suspension      keys  ──►  one channel, one loop that draws
//! ```

mod board;
mod rates;
mod rows;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use sundown_client::{Code, Error, Mapi, QueueRow};

use self::board::{Board, Change, Then};
use self::rows::Message;
use crate::cli::{Autostart, Context};
use crate::keys::{self, Key};
use crate::output;
use crate::screen::Screen;
use crate::status::Said;
use crate::terminal;

/// How long a broker may take to answer before the screen says that it does not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The most messages that are asked for: the oldest ones. A queue may have a million.
const LISTED: u32 = 512;

/// What the screen's loop waits for.
enum News {
    Said(Box<Heard>),
    /// No broker runs, or it refuses. Holds the error.
    Nothing(String),
    /// What came of a change.
    Changed(String),
    Signal(i32),
    Key(Key),
}

/// What the broker said.
struct Heard {
    said: Said,
    /// The oldest messages of the queue, or why they are not told.
    waiting: Result<Vec<QueueRow>, String>,
}

/// What the asker is told.
enum Order {
    Change(Change, Message),
}

/// Whether the output is a terminal that can be drawn on. Otherwise each status is printed after the one before.
pub(crate) fn can_draw(context: &Context) -> bool {
    !context.json && std::io::stdout().is_terminal() && !terminal::is_dumb()
}

pub(crate) fn run(context: &Context, mapi: Mapi, interval: Duration) -> Result<ExitCode, Error> {
    let (tell, news) = mpsc::channel();
    let (order, orders) = mpsc::channel();
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
    let asker = Asker { context: context.clone(), interval, tell: tell.clone(), orders };
    spawn("sundown-asker", move || asker.run(mapi))?;
    let screen = Screen::enter();
    if std::io::stdin().is_terminal() {
        keys::listen(tell, News::Key);
    }
    let status = watch(&screen, &news, &order, interval);
    drop(screen);
    Ok(ExitCode::from(status))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(drop).map_err(|e| output::error(Code::E_NOT_ENOUGH_RESOURCES, e.to_string()))
}

/// Asks the broker repeatedly, and tells it what is to be changed. If it is gone, looks for a broker until there is one.
struct Asker {
    context: Context,
    interval: Duration,
    tell: Sender<News>,
    orders: Receiver<Order>,
}

impl Asker {
    fn run(&self, mapi: Mapi) {
        let mut mapi = Some(mapi);
        loop {
            let there = mapi.take().map_or_else(|| self.context.initialize(Autostart::No), Ok);
            let said = there.and_then(|there| {
                let said = Said::ask(&there)?;
                let waiting = there.queue_begins(self.context.profile.as_deref(), LISTED);
                let waiting = waiting.map_err(|error| error.to_string());
                Ok((Heard { said, waiting }, there))
            });
            let news = match said {
                Ok((heard, there)) => {
                    mapi = Some(there);
                    News::Said(Box::new(heard))
                }
                Err(error) => News::Nothing(error.to_string()),
            };
            if self.tell.send(news).is_err() {
                return;
            }
            // What was changed is seen at once.
            match self.orders.recv_timeout(self.interval) {
                Ok(Order::Change(change, message)) => {
                    let done = match &mapi {
                        Some(mapi) => change.make(mapi, &message),
                        None => "there is no broker now; nothing was changed".to_owned(),
                    };
                    if self.tell.send(News::Changed(done)).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Draws every change until a key or a signal ends it. Returns the exit status, as shells have it for signals.
fn watch(screen: &Screen, news: &Receiver<News>, order: &Sender<Order>, interval: Duration) -> u8 {
    let mut board = Board::new(interval);
    loop {
        match news.recv_timeout(PATIENCE) {
            Ok(News::Said(heard)) => board.hear(*heard, Instant::now()),
            Ok(News::Nothing(why)) => board.hear_nothing(why),
            Ok(News::Changed(what)) => board.say(what),
            Ok(News::Key(key)) => match board.press(key, Screen::size()) {
                Then::GoOn => {}
                Then::End => return 0,
                Then::Change(change, message) => drop(order.send(Order::Change(change, message))),
            },
            Err(RecvTimeoutError::Disconnected) => return 0,
            Ok(News::Signal(SIGTSTP)) => {
                screen.give_back();
                // Only this stops a process that handles the signal itself.
                let _ = emulate_default_handler(SIGTSTP);
                screen.take();
            }
            Ok(News::Signal(signal)) if signal != SIGWINCH => return 128 + signal as u8,
            Ok(News::Signal(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
        let size = Screen::size();
        Screen::draw(&board.lines(size), size);
    }
}
