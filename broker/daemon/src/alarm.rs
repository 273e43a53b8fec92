//! When the loop must wake though nobody says anything: a descriptor like all others it waits for.
//!
//! A limit to each wait would do, too, but the kernel would set and clear a timer for each.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timer that becomes readable.
pub(crate) struct Alarm {
    timer: OwnedFd,
    set: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { timer: timerfd_create(TimerfdClockId::Monotonic, flags)?, set: None })
    }

    /// It rings at this time at the latest. One that rings earlier, for what is not wanted any more, stays as it is: most times
    /// that are asked for never come.
    pub(crate) fn by(&mut self, at: Option<Instant>, now: Instant) -> io::Result<()> {
        let Some(at) = at.filter(|at| self.set.is_none_or(|set| *at < set)) else { return Ok(()) };
        // Nothing at all would clear it.
        let left = at.saturating_duration_since(now).max(Duration::from_nanos(1));
        let value = Timespec::try_from(left).unwrap_or(FAR);
        let setting = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        self.set = Some(at);
        Ok(())
    }

    /// It has rung.
    pub(crate) fn rang(&mut self) {
        self.set = None;
    }
}

/// Further away than anybody waits.
const FAR: Timespec = Timespec { tv_sec: 1 << 40, tv_nsec: 0 };

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn rings_within(alarm: &Alarm, patience: Duration) -> bool {
        let mut fds = [PollFd::new(alarm, PollFlags::IN)];
        let limit = Timespec::try_from(patience).expect("it is short");
        poll(&mut fds, Some(&limit)).expect("it can be waited for") == 1
    }

    #[test]
    fn it_rings_by_the_earliest_time_it_was_asked_for() {
        let mut alarm = Alarm::new().expect("a timer");
        let now = Instant::now();
        let hour = Duration::from_secs(3_600);
        alarm.by(Some(now + hour), now).expect("set");
        assert!(!rings_within(&alarm, Duration::ZERO));
        alarm.by(None, now).expect("nothing is wanted");
        alarm.by(Some(now + Duration::from_millis(1)), now).expect("set");
        alarm.by(Some(now + hour), now).expect("later is wanted, too");
        assert!(rings_within(&alarm, Duration::from_secs(60)));
        // What is over already rings at once.
        alarm.rang();
        alarm.by(Some(now), now + hour).expect("set");
        assert!(rings_within(&alarm, Duration::from_secs(60)));
        alarm.rang();
        alarm.by(Some(now + hour * 24 * 365 * 1_000_000), now).expect("set");
        assert!(!rings_within(&alarm, Duration::ZERO));
    }
}
