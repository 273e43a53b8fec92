//! The queue of lines, and the thread that writes them.
//!
//! The queue has no bound of its own. What bounds it is the room that lines take up, those of provider calls apart: a line pays for its
//! bytes when it enters and gets them back when it is written.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::Format;
use super::line::{Keep, Line};

/// Room for ordinary lines that wait, in bytes: some ten thousand of them.
pub(super) const ROOM: usize = 4 << 20;

/// Room for lines of provider calls that wait, in bytes: a reader that stops for a while, as a terminal does, costs none of them. One
/// that has stopped for good costs no more memory than this.
pub(super) const CALLS_ROOM: usize = 64 << 20;

/// How much is written at once to what takes lines.
const BATCH: usize = 64 << 10;

/// How long the end of the program waits for whoever reads the log.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for a writer that does not block and has no room.
const BUSY_WAIT: Duration = Duration::from_millis(5);

/// Where lines go in. It never blocks.
pub(super) struct Queue {
    sender: Sender<Message>,
    account: Arc<Account>,
    room: Room,
}

/// How many bytes of lines may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) ordinary: usize,
    pub(super) calls: usize,
}

enum Message {
    /// A line, and of which kind it is.
    Line(String, Keep),
    /// Nothing behind this is written.
    End,
}

/// What the two ends of the queue know together.
#[derive(Default)]
struct Account {
    /// Room taken up by ordinary lines, in bytes.
    ordinary: AtomicUsize,
    /// Room taken up by lines of provider calls, in bytes.
    calls: AtomicUsize,
    /// Lines dropped that no line has told of.
    untold: AtomicU64,
    /// Lines dropped.
    dropped: AtomicU64,
}

impl Queue {
    /// Puts a line in, or drops and counts it.
    pub(super) fn push(&self, line: String, keep: Keep) {
        let room = match keep {
            Keep::Longer => self.room.calls,
            Keep::IfRoom => self.room.ordinary,
        };
        if self.account.take(keep, line.len(), room) {
            // After the end there is nobody to write it, and nobody to tell.
            drop(self.sender.send(Message::Line(line, keep)));
        } else {
            self.account.count(1);
        }
    }
}

impl Account {
    fn used(&self, keep: Keep) -> &AtomicUsize {
        match keep {
            Keep::Longer => &self.calls,
            Keep::IfRoom => &self.ordinary,
        }
    }

    fn take(&self, keep: Keep, size: usize, room: usize) -> bool {
        let fits = |used: usize| used.checked_add(size).filter(|sum| *sum <= room);
        self.used(keep).fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }

    fn give_back(&self, taken: Room) {
        self.ordinary.fetch_sub(taken.ordinary, Ordering::AcqRel);
        self.calls.fetch_sub(taken.calls, Ordering::AcqRel);
    }

    fn count(&self, lines: u64) {
        self.untold.fetch_add(lines, Ordering::AcqRel);
        self.dropped.fetch_add(lines, Ordering::AcqRel);
    }
}

/// Keeps the log's thread. Dropping it writes what waits and ends the thread.
#[must_use = "the log ends when this is dropped"]
pub struct Guard {
    sender: Sender<Message>,
    account: Arc<Account>,
    /// Closed when the thread is done.
    done: Receiver<()>,
    patience: Duration,
}

impl Guard {
    /// How many lines were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.account.dropped.load(Ordering::Acquire)
    }

    /// How long dropping it waits for a reader that does not read; 5 seconds unless set.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::End);
        // Nothing is ever sent here; the thread's end closes it. One that is stuck is left behind.
        let _ = self.done.recv_timeout(self.patience);
    }
}

/// Starts the thread.
pub(super) fn start(
    writer: Box<dyn Write + Send>,
    format: Format,
    room: Room,
) -> std::io::Result<(Queue, Guard)> {
    let (sender, receiver) = unbounded();
    let (alive, done) = bounded(0);
    let account = Arc::new(Account::default());
    // The journal takes one entry with each write.
    let batch = if format == Format::Journal { 0 } else { BATCH };
    let thread = WriterThread { receiver, writer, format, batch, account: Arc::clone(&account) };
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        thread.run();
        drop::<Sender<()>>(alive);
    })?;
    let guard =
        Guard { sender: sender.clone(), account: Arc::clone(&account), done, patience: PATIENCE };
    Ok((Queue { sender, account, room }, guard))
}

struct WriterThread {
    receiver: Receiver<Message>,
    writer: Box<dyn Write + Send>,
    format: Format,
    /// How much is written at once.
    batch: usize,
    account: Arc<Account>,
}

/// Whether more is to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Yes,
    No,
}

impl WriterThread {
    fn run(mut self) {
        let mut batch = String::new();
        loop {
            let (more, taken) = self.fill(&mut batch);
            let lost = self.write(&mut batch);
            self.account.count(self.lines(lost));
            self.account.give_back(taken);
            self.tell_of_dropped(&mut batch);
            if more == More::No {
                return;
            }
        }
    }

    /// Waits for a line and takes those behind it, as far as they fit. Also says how much room they took.
    fn fill(&self, batch: &mut String) -> (More, Room) {
        let mut taken = Room { ordinary: 0, calls: 0 };
        let mut next = self.receiver.recv().unwrap_or(Message::End);
        loop {
            match next {
                Message::End => return (More::No, taken),
                Message::Line(line, keep) => {
                    batch.push_str(&line);
                    match keep {
                        Keep::Longer => taken.calls += line.len(),
                        Keep::IfRoom => taken.ordinary += line.len(),
                    }
                }
            }
            if batch.len() >= self.batch {
                return (More::Yes, taken);
            }
            match self.receiver.try_recv() {
                Ok(message) => next = message,
                Err(_) => return (More::Yes, taken),
            }
        }
    }

    /// How many lines ends of lines are: an entry of the journal has several.
    fn lines(&self, ends: u64) -> u64 {
        if self.format == Format::Journal { ends.min(1) } else { ends }
    }

    /// The reader reads again, so it can be told what it missed.
    fn tell_of_dropped(&mut self, batch: &mut String) {
        let untold = self.account.untold.swap(0, Ordering::AcqRel);
        if untold > 0 {
            batch.push_str(&Line::about_dropped(untold).text(self.format));
            if self.write(batch) > 0 {
                self.account.untold.fetch_add(untold, Ordering::AcqRel);
            }
        }
    }

    /// Writes all of it, and gives back how many lines could not be. There is nowhere to say that a log cannot be written, so they are
    /// given up.
    fn write(&mut self, batch: &mut String) -> u64 {
        let mut rest = batch.as_bytes();
        while !rest.is_empty() {
            match self.writer.write(rest) {
                Ok(0) => break,
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody set the terminal or pipe, which is shared, to non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(BUSY_WAIT),
                Err(_) => break,
            }
        }
        let _ = self.writer.flush();
        let lost = rest.split(|byte| *byte == b'\n').count() - 1;
        batch.clear();
        lost as u64
    }
}
