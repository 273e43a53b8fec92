//! Which dots have begun: a slot for each attempt, in a file that outlives the broker and not the machine's run.
//!
//! From the first byte of the dot that ends a message until the server's answer, what became of the message is unknown. After a
//! crash the intent says only that the message was to be handed over. Its slot says whether the dot had begun:
//!
//! ```text
//!            ┌─ the dot is about to leave ─► begun ─ the server answers ─► taken, or refused
//!  clear ────┤
//!            └─ a recovery asks ───────────► withdrawn: the dot may not begin any more
//! ```
//!
//! Only what was begun is unknown: what is taken was sent, and all else is queued again.
//!
//! A slot is cleared before the intent that names it is stored. It is begun before the call that can send the dot's first byte,
//! which needs the [`Leave`] that this gives. An attempt has a number of its own in its slot, so that a slot can be used again
//! while a store still has an intent that names it: that intent's number is another one then, and its message unknown.
//!
//! Slots are written by `pwrite`, and not through a mapping. When `pwrite` has returned, the bytes are in the kernel's pages: they
//! stay there however the process ends, and no compiler moves them behind the call that sends the dot. A mapping would save a
//! microsecond, and cost `unsafe`, a fence, and a SIGBUS where the file system is full.
//!
//! The transport `pipe` has slots in the same file. What begins there is a program.
//!
//! Only the file of a broker that is gone is believed, which its lock shows, or the own one, where a recovery withdraws the dot
//! first: the thread of a session that was left behind may still be at work.

mod file;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::file::{SLOTS, Slots, State};
use crate::runtime::{BootId, Runtime, number};

/// Between the parts of a mark.
const SEPARATOR: char = '.';

/// The dots of a broker's life, of all its transports. Their file is made for the first attempt. By default there is no place for it.
#[derive(Debug, Default)]
pub struct Dots {
    runtime: Arc<OnceLock<Runtime>>,
    ledger: OnceLock<Option<Arc<Mutex<Ledger>>>>,
}

/// The own file, and who has its slots.
#[derive(Debug)]
struct Ledger {
    slots: Slots,
    /// Slots of no attempt, the one that is free for longest in front.
    free: VecDeque<u16>,
    /// The number of the last attempt.
    last: u64,
    health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Sound,
    /// A slot could not be written: no further attempt gets one.
    Failed,
}

impl Dots {
    /// Those of a broker, which is told where it may keep them before its first attempt.
    pub fn new(runtime: Arc<OnceLock<Runtime>>) -> Self {
        Self { runtime, ledger: OnceLock::new() }
    }

    /// A clear slot for one attempt; `None` where none can be kept.
    pub(crate) fn take(&self) -> Option<Dot> {
        let ledger = self.ledger.get_or_init(|| self.open()).as_ref()?;
        let mark = lock(ledger).take()?;
        Some(Dot { ledger: Arc::clone(ledger), mark })
    }

    /// What became of an attempt. A dot that has not begun never will.
    pub(crate) fn find_out(&self, mark: &Mark) -> Result<Fate, Doubt> {
        let runtime = self.runtime.get().ok_or(Doubt::NoBootId)?;
        let here = runtime.boot.ok_or(Doubt::NoBootId)?;
        if mark.boot != here {
            return Err(Doubt::OtherRun);
        }
        let own = self.ledger.get().and_then(Option::as_ref).map(|ledger| lock(ledger));
        if let Some(mut own) = own.filter(|own| own.slots.id == mark.file) {
            return own.find_out(mark);
        }
        Slots::of_a_dead_broker(runtime, mark.file, here)?.fate(mark.slot, mark.attempt)
    }

    fn open(&self) -> Option<Arc<Mutex<Ledger>>> {
        match Slots::create(self.runtime.get()?) {
            Ok(slots) => {
                let free = (0..SLOTS).collect();
                let ledger = Ledger { slots, free, last: 0, health: Health::Sound };
                Some(Arc::new(Mutex::new(ledger)))
            }
            Err(why) => {
                tracing::info!(%why, "what a crash cuts off while it is handed to a server will be unknown");
                None
            }
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    fn take(&mut self) -> Option<Mark> {
        if self.health == Health::Failed {
            return None;
        }
        let slot = self.free.pop_front()?;
        self.last += 1;
        let Slots { id: file, boot, .. } = self.slots;
        let mark = Mark { file, slot, attempt: self.last, boot };
        self.write(&mark, State::Clear).ok().map(|()| mark)
    }

    fn begin(&mut self, mark: &Mark) -> Result<(), Withheld> {
        match self.slots.read(mark.slot) {
            Ok(found) if found == (mark.attempt, State::Clear) => {}
            Ok(_) => return Err(Withheld::Withdrawn),
            Err(error) => return Err(Withheld::Unwritten(error)),
        }
        self.write(mark, State::Begun).map_err(Withheld::Unwritten)
    }

    /// The thread of a session that was left behind may be about to send the dot.
    fn find_out(&mut self, mark: &Mark) -> Result<Fate, Doubt> {
        let fate = self.slots.fate(mark.slot, mark.attempt)?;
        if self.slots.read(mark.slot).is_ok_and(|(_, state)| state == State::Clear) {
            self.write(mark, State::Withdrawn)?;
        }
        Ok(fate)
    }

    fn write(&mut self, mark: &Mark, state: State) -> io::Result<()> {
        let written = self.slots.write(mark.slot, mark.attempt, state);
        if let Err(error) = &written {
            tracing::warn!(%error, "what a crash cuts off while it is handed to a server will be unknown from now on");
            self.health = Health::Failed;
        }
        written
    }
}

/// The dot of one attempt, with the slot that it has as long as the attempt lasts.
#[derive(Debug)]
pub(crate) struct Dot {
    ledger: Arc<Mutex<Ledger>>,
    mark: Mark,
}

impl Dot {
    /// What the intent says of it.
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    fn begin(&self) -> Result<(), Withheld> {
        lock(&self.ledger).begin(&self.mark)
    }

    /// The server has answered, and the dot had begun. Until the outcome is in the store, a crash finds it here.
    pub(crate) fn answered(&self, fate: Fate) {
        let state = match fate {
            Fate::Sent => State::Taken,
            Fate::NotSent => State::Refused,
        };
        // Should it fail, it stays begun, and the message is unknown after a crash.
        let _ = lock(&self.ledger).write(&self.mark, state);
    }
}

impl Drop for Dot {
    fn drop(&mut self) {
        lock(&self.ledger).free.push_back(self.mark.slot);
    }
}

/// Leave to send a dot: it is written down that it has begun, or cannot be, and then a crash leaves the message unknown.
#[derive(Debug)]
pub(crate) struct Leave(());

impl Leave {
    /// Writes down that a dot begins.
    pub(crate) fn take(dot: Option<&Dot>) -> Result<Self, Withheld> {
        dot.map_or(Ok(()), Dot::begin).map(|()| Self(()))
    }
}

/// Why a dot may not be sent.
#[derive(Debug)]
pub(crate) enum Withheld {
    /// A recovery was told that it has not begun.
    Withdrawn,
    /// It could not be written down.
    Unwritten(io::Error),
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Withdrawn => f.write_str("the message was taken back before its end was sent"),
            Self::Unwritten(error) => {
                write!(
                    f,
                    "the message has no end: that it was sent could not be written down ({error})"
                )
            }
        }
    }
}

/// Which slot an attempt has, as its intent says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    file: u128,
    slot: u16,
    attempt: u64,
    boot: BootId,
}

impl Mark {
    /// Reads one; nothing else is taken for one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(SEPARATOR);
        let (file, slot, attempt, boot) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let mark = Self {
            file: number(file)?,
            slot: slot.parse().ok()?,
            attempt: attempt.parse().ok()?,
            boot: BootId::parse(boot)?,
        };
        (mark.to_string() == text).then_some(mark)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, slot, attempt, boot } = self;
        write!(f, "{file:032x}{SEPARATOR}{slot}{SEPARATOR}{attempt}{SEPARATOR}{boot}")
    }
}

/// What an intent says: where the message was handed to, and the slot of its dot. Without a slot nothing can be found out; so were
/// the intents of brokers before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker<'a> {
    /// The server, as people know it.
    pub(crate) place: &'a str,
    /// The slot.
    pub(crate) mark: Option<Mark>,
}

impl<'a> Marker<'a> {
    /// Reads one.
    pub(crate) fn parse(text: &'a str) -> Self {
        let parted = text.rsplit_once(' ').map(|(place, mark)| (place, Mark::parse(mark)));
        match parted {
            Some((place, mark @ Some(_))) => Self { place, mark },
            _ => Self { place: text, mark: None },
        }
    }
}

impl fmt::Display for Marker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.place)?;
        self.mark.map_or(Ok(()), |mark| write!(f, " {mark}"))
    }
}

/// What certainly became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server has it.
    Sent,
    /// The server does not have it.
    NotSent,
}

/// Why what became of a message is not certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The broker does not know which run of the machine this is.
    NoBootId,
    /// The attempt was made in another run of the machine.
    OtherRun,
    /// Its file is not there.
    NoFile,
    /// What is in its place is not a file of this user alone in memory, or not that file.
    Strange,
    /// The broker whose file it is may be at work.
    InUse,
    /// The slot is another attempt's by now.
    OtherAttempt,
    /// The dot has begun.
    Begun,
    /// The file could not be read, or written.
    Unreadable(String),
}

impl From<io::Error> for Doubt {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoBootId => "the broker cannot see the machine's boot id",
            Self::OtherRun => "the machine was started again since",
            Self::NoFile => "the file in which that is kept is gone",
            Self::Strange => "the file in which that is kept is not this user's alone",
            Self::InUse => "the broker that tried it still runs",
            Self::OtherAttempt => "too much was tried since",
            Self::Begun => "the end of the message was about to leave",
            Self::Unreadable(error) => return write!(f, "the file in which that is kept: {error}"),
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
