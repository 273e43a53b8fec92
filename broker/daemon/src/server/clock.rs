//! The loop's clock: the time of a turn, and when the loop wakes without an event.

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

/// How often the wall clock is read at most: no output shows finer times.
const WALL: Duration = Duration::from_millis(1);

/// The clocks that a turn reads, and the timer that ends a wait.
pub(super) struct Clock {
    /// When the broker began.
    began: Instant,
    /// The same, as time since the machine started. The core's times are of that clock, which all brokers share.
    began_at: Duration,
    /// When this turn of the loop began. All events of a turn have this time.
    now: Instant,
    /// The time of the turn for the core, by both clocks.
    tick: Tick,
    /// When the wall clock was read.
    wall_read: Instant,
    /// When the core must be woken.
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

    /// Reads the clocks at the beginning of a turn.
    pub(super) fn read(&mut self) {
        self.now = Instant::now();
        self.tick.boot = self.began_at + (self.now - self.began);
        if self.now.duration_since(self.wall_read) >= WALL {
            self.wall_read = self.now;
            self.tick.wall = SystemTime::now();
        }
    }

    /// The time and seed for the core's next event. The core expands the seed, whose first value comes from the system's random
    /// source.
    pub(super) fn tick(&mut self) -> Tick {
        self.tick.seed = self.tick.seed.wrapping_add(0xD1B5_4A32_D192_ED03);
        self.tick
    }

    /// Sets when the core must be woken.
    pub(super) fn wake_core(&mut self, at: Duration) {
        self.core = Some(at);
    }

    /// Whether the core is due now. Returns true once.
    pub(super) fn is_core_due(&mut self) -> bool {
        let is_due = self.core.is_some_and(|at| self.instant(at) <= self.now);
        if is_due {
            self.core = None;
        }
        is_due
    }

    /// When the core must be woken.
    pub(super) fn core_wakes(&self) -> Option<Instant> {
        self.core.map(|at| self.instant(at))
    }

    /// Converts a time of the core to one of the loop.
    fn instant(&self, at: Duration) -> Instant {
        self.began + at.saturating_sub(self.began_at)
    }

    /// Waits for an event, or until a time. If the settings say so it first polls without sleeping for a while: a request in that
    /// time is answered sooner, at the price of a busy processor.
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

    /// Notes that the timer has expired.
    pub(super) fn rang(&mut self) {
        self.alarm.rang();
    }

    /// Sets the time, for a test.
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
