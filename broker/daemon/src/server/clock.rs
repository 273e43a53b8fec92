//! The loop's clock: which time a turn has, and when the loop wakes though nothing has come.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use sundown_core::Tick;

use super::ALARM;
use super::locations::{StartupError, system};
use crate::alarm::Alarm;
use crate::tickets;

/// How often the wall's clock is read at most: nothing shows it finer.
const WALL: Duration = Duration::from_millis(1);

/// The clocks that a turn reads, and the timer that ends a wait.
pub(super) struct Clock {
    /// When the broker began.
    began: Instant,
    /// The same, since the machine started: the core's times are of that clock, which each broker has.
    began_at: Duration,
    /// When this turn of the loop began: what happens in a turn happens at once.
    now: Instant,
    /// The same for the core, by both clocks.
    tick: Tick,
    /// When the wall's clock was read.
    wall_read: Instant,
    /// When the core has something to do.
    core: Option<Duration>,
    alarm: Alarm,
}

impl Clock {
    pub(super) fn start(poll: &Poll) -> Result<Self, StartupError> {
        let alarm = Alarm::new().map_err(system("make a timer"))?;
        let fd = alarm.as_fd().as_raw_fd();
        let watched = poll.registry().register(&mut SourceFd(&fd), ALARM, Interest::READABLE);
        watched.map_err(system("watch a timer"))?;
        let (began, began_at) = (Instant::now(), tickets::since_boot());
        let tick = Tick { boot: began_at, wall: SystemTime::now(), seed: seed()? };
        Ok(Self { began, began_at, now: began, tick, wall_read: began, core: None, alarm })
    }

    /// When this turn of the loop began.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Reads the clocks, at the beginning of a turn.
    pub(super) fn read(&mut self) {
        self.now = Instant::now();
        self.tick.boot = self.began_at + (self.now - self.began);
        if self.now.duration_since(self.wall_read) >= WALL {
            self.wall_read = self.now;
            self.tick.wall = SystemTime::now();
        }
    }

    /// Time and chance for the core's next event. The core draws the seed out; its beginning comes from the system.
    pub(super) fn tick(&mut self) -> Tick {
        self.tick.seed = self.tick.seed.wrapping_add(0xD1B5_4A32_D192_ED03);
        self.tick
    }

    /// The core has something to do at this time.
    pub(super) fn wake_core(&mut self, at: Duration) {
        self.core = Some(at);
    }

    /// Whether the core has something to do now, which is asked once.
    pub(super) fn is_core_due(&mut self) -> bool {
        let is_due = self.core.is_some_and(|at| self.instant(at) <= self.now);
        if is_due {
            self.core = None;
        }
        is_due
    }

    /// When the core has something to do.
    pub(super) fn core_wakes(&self) -> Option<Instant> {
        self.core.map(|at| self.instant(at))
    }

    /// A time of the core's as one of the loop's.
    fn instant(&self, at: Duration) -> Instant {
        self.began + at.saturating_sub(self.began_at)
    }

    /// Waits until something has come, or until a time. For a while, if the settings say so, without sleeping: a request that comes in
    /// that time is answered sooner, at the price of a busy processor.
    pub(super) fn sleep(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        until: Option<Instant>,
        busy: Duration,
    ) -> io::Result<()> {
        self.alarm.by(until, self.now)?;
        if !busy.is_zero() {
            let began = Instant::now();
            while began.elapsed() < busy {
                poll.poll(events, Some(Duration::ZERO))?;
                if !events.is_empty() {
                    return Ok(());
                }
            }
        }
        poll.poll(events, None)
    }

    /// The timer has rung.
    pub(super) fn rang(&mut self) {
        self.alarm.rang();
    }

    /// A test says which time it is.
    #[cfg(test)]
    pub(super) fn set(&mut self, now: Instant) {
        self.now = now;
    }
}

fn seed() -> Result<u64, StartupError> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| system("get random bytes")(error.into()))?;
    Ok(u64::from_le_bytes(seed))
}
