//! How old a message is: for how long brokers ran with it since it was submitted.
//!
//! A machine that is off or asleep tries nothing, so that time does not count towards the age limit. Nor does a jump of the wall clock.
//! The broker's clock goes while it runs, and the next broker goes on with it. A store has a clock of its own, which is a fixed time
//! ahead of the broker's: it goes whether the store is open or not. A store that comes to another broker goes on from what it kept last.
//!
//! ```text
//!  broker:  ──runs──┐      ┌──runs──┐   ┌──runs──►
//!  clock:   0 ─► 3h │  3h  │ 3h ─► 8h   8h ─► …        a message submitted at 2h is 6 h old at 8h
//! ```

use std::time::Duration;

use sundown_protocol::request::Notify;

use crate::ground::event::Tick;
use crate::ground::provider::{KeptClock, Submission};
use crate::ground::settings::QueuePolicy;

/// A store keeps what its clock shows when it is closed, if that is so much more than it kept before. In milliseconds.
const WORTH_KEEPING: u64 = 60 * 1000;

/// How far in the future a message may have been submitted by its store's clock. A crash takes the broker's clock back a little; what
/// is further ahead was not stored by this clock, and its age is told by the wall clock. In milliseconds.
const BEHIND: u64 = 3600 * 1000;

/// For how long brokers have run here: the broker's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Running {
    /// Which clock it is: a random number, chosen with its beginning. A store that knows another one comes from another broker.
    pub clock: u64,
    /// What it showed when the broker began.
    pub ran: Duration,
}

/// The clock of an open store.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreClock {
    /// The broker's clock.
    id: u64,
    /// How many milliseconds it is ahead of the broker's clock.
    ahead: i64,
    /// How many milliseconds the broker's clock is ahead of the time since the machine started.
    shift: i64,
    /// What the store has of it.
    kept: KeptClock,
}

impl StoreClock {
    /// The clock of a store that is opened. The broker began at this time since the machine started.
    pub(crate) fn start(
        kept: KeptClock,
        (running, began): (Running, Duration),
        now: Duration,
    ) -> Self {
        let (id, shift) = (running.clock, millis(running.ran) - millis(began));
        let ran = |ahead: i64| millis(now).saturating_add(shift).saturating_add(ahead);
        let known = (kept.clock == id).then_some(kept.ahead);
        // What it kept is behind it unless the broker's clock went back.
        let known = known.filter(|ahead| ran(*ahead) >= kept.ran as i64);
        let ahead = known.unwrap_or_else(|| (kept.ran as i64).saturating_sub(ran(0)));
        Self { id, ahead, shift, kept }
    }

    /// What the clock shows, in milliseconds.
    pub(crate) fn ran(&self, now: Duration) -> u64 {
        millis(now).saturating_add(self.shift).saturating_add(self.ahead).max(0) as u64
    }

    /// What the store is to keep, if it does not know this clock, or if it is closed behind what grew older in it. It counts as kept
    /// from here on.
    pub(crate) fn keep(&mut self, now: Duration, closes: bool) -> Option<KeptClock> {
        let (clock, ahead, ran) = (self.id, self.ahead, self.ran(now));
        let is_new = (clock, ahead) != (self.kept.clock, self.kept.ahead);
        let is_old = closes && ran.saturating_sub(self.kept.ran) >= WORTH_KEEPING;
        (is_new || is_old).then(|| {
            self.kept = KeptClock { clock, ahead, ran };
            self.kept
        })
    }
}

/// The clocks by which the age of a message of one store is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    /// Wall time in milliseconds since 1970.
    pub(crate) now: u64,
    /// Since the machine started.
    pub(crate) boot: Duration,
    /// The store's clock, in milliseconds.
    ran: u64,
}

impl Clocks {
    pub(crate) fn new(clock: &StoreClock, tick: Tick) -> Self {
        Self { now: tick.millis(), boot: tick.boot, ran: clock.ran(tick.boot) }
    }

    /// For how long brokers ran with the message.
    pub(crate) fn age(self, submission: &Submission) -> Duration {
        let by_wall = self.now.saturating_sub(submission.submitted);
        let born = submission.born.filter(|born| *born <= self.ran.saturating_add(BEHIND));
        Duration::from_millis(born.map_or(by_wall, |born| self.ran.saturating_sub(born)))
    }

    /// When a submission that is not final is given up if the broker runs until then, in milliseconds since 1970.
    pub(crate) fn given_up(self, submission: &Submission, policy: &QueuePolicy) -> u64 {
        self.at_age(submission, policy.max_age)
    }

    /// When a submission is that old if the broker runs until then, or when it was, in milliseconds since 1970.
    pub(crate) fn at_age(self, submission: &Submission, age: Duration) -> u64 {
        let (until, is) = (age.as_millis() as u64, self.age(submission).as_millis() as u64);
        self.now.saturating_add(until).saturating_sub(is)
    }

    /// Whether the sender is to be told now that the message is delayed.
    pub(crate) fn is_delay_due(self, submission: &Submission, policy: &QueuePolicy) -> bool {
        may_be_told(submission, policy).is_some_and(|delay| self.age(submission) >= delay)
    }

    /// When something is to be done with a message that waits for a transport: its sender is told, or it is given up. In milliseconds
    /// since 1970, if the broker runs until then.
    pub(crate) fn wakes(self, submission: &Submission, policy: &QueuePolicy) -> u64 {
        let given_up = self.given_up(submission, policy);
        let told = may_be_told(submission, policy).map(|delay| self.at_age(submission, delay));
        told.map_or(given_up, |told| told.min(given_up))
    }

    /// By how much a submission is older than its age limit; `None` if it is younger.
    pub(crate) fn overdue(self, submission: &Submission, policy: &QueuePolicy) -> Option<Duration> {
        self.age(submission).checked_sub(policy.max_age)
    }
}

/// At which age the sender is told of a delay; `None` if they were, or want to hear nothing of it.
fn may_be_told(submission: &Submission, policy: &QueuePolicy) -> Option<Duration> {
    let wants = submission.report.notify.contains(Notify::DELAY) && !submission.from.is_empty();
    policy.delay_after.filter(|_| wants && !submission.delay_told)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hours(n: u64) -> Duration {
        Duration::from_secs(n * 3600)
    }

    fn in_hours(n: u64) -> u64 {
        hours(n).as_millis() as u64
    }

    /// A broker's clock that showed so many hours when it began, at this hour since the machine started.
    fn broker(clock: u64, ran: u64, began: u64) -> (Running, Duration) {
        (Running { clock, ran: hours(ran) }, hours(began))
    }

    #[test]
    fn a_stores_clock_goes_while_brokers_run() {
        let first = broker(7, 100, 10);
        let mut clock = StoreClock::start(KeptClock::default(), first, hours(11));
        assert_eq!(clock.ran(hours(14)), in_hours(3));
        let kept = clock.keep(hours(11), false).expect("the store does not know this clock");
        assert_eq!((kept.clock, kept.ran), (7, 0));
        assert_eq!(clock.keep(hours(14), false), None, "it is known");
        let closed = clock.keep(hours(14), true).expect("it grew older");
        assert_eq!(closed.ran, in_hours(3));
        assert_eq!(clock.keep(hours(14), true), None, "it was kept just now");
        // The broker opens it again, and the next one does: it went on while it was closed.
        assert_eq!(StoreClock::start(closed, first, hours(16)).ran(hours(16)), in_hours(5));
        let mut next = StoreClock::start(closed, broker(7, 110, 2), hours(3));
        assert_eq!(next.ran(hours(3)), in_hours(10));
        assert_eq!(next.keep(hours(3), false), None);
        // Another broker goes on from what the store kept, and so does one whose clock went back behind it.
        for other in [broker(8, 5_000, 1), broker(7, 0, 1)] {
            let mut clock = StoreClock::start(closed, other, hours(2));
            assert_eq!(clock.ran(hours(4)), in_hours(5));
            assert!(clock.keep(hours(4), false).is_some());
        }
    }

    #[test]
    fn a_stores_clock_takes_any_number() {
        for number in [0, 1, u64::MAX >> 1, u64::MAX] {
            let kept = KeptClock { clock: 1, ahead: number as i64, ran: number };
            for (running, began) in
                [broker(1, 0, 9), (Running { clock: 2, ran: Duration::MAX }, Duration::MAX)]
            {
                let mut clock = StoreClock::start(kept, (running, began), hours(10));
                let _ = (clock.ran(Duration::MAX), clock.keep(hours(11), true));
            }
        }
    }

    #[test]
    fn ages_are_told_by_the_stores_clock() {
        let ran = in_hours(8);
        let clocks = Clocks { now: in_hours(1_000), boot: hours(1), ran };
        let mut message = Submission { submitted: in_hours(900), ..Submission::default() };
        assert_eq!(clocks.age(&message), hours(100), "an older schema did not say");
        for (born, age) in [(0, 8), (2, 6), (8, 0)] {
            message.born = Some(in_hours(born));
            assert_eq!(clocks.age(&message), hours(age));
        }
        message.born = Some(ran + BEHIND);
        assert_eq!(clocks.age(&message), Duration::ZERO, "the clock went back after a crash");
        message.born = Some(ran + BEHIND + 1);
        assert_eq!(clocks.age(&message), hours(100), "it is not of this clock");
        message.born = Some(in_hours(2));
        let policy = QueuePolicy { max_age: hours(7), ..QueuePolicy::default() };
        assert_eq!(clocks.given_up(&message, &policy), in_hours(1_001));
        assert_eq!(clocks.overdue(&message, &policy), None);
        let policy = QueuePolicy { max_age: hours(5), ..policy };
        assert_eq!(clocks.given_up(&message, &policy), in_hours(999));
        assert_eq!(clocks.overdue(&message, &policy), Some(hours(1)));
    }

    #[test]
    fn a_message_that_waits_is_looked_at_when_something_is_due() {
        let (now, ran) = (in_hours(1_000), in_hours(8));
        let clocks = Clocks { now, boot: hours(1), ran };
        let message =
            Submission { born: Some(in_hours(2)), from: "me@here".into(), ..Submission::default() };
        let policy =
            |delay_after| QueuePolicy { max_age: hours(7), delay_after, ..QueuePolicy::default() };
        let told = Submission { delay_told: true, ..message.clone() };
        let nobodys = Submission { from: String::new(), ..message.clone() };
        let mut silent = message.clone();
        silent.report.notify = Notify::FAILURE;
        let given_up = now + in_hours(1);
        for (what, message, delay_after, is_due, wakes) in [
            ("late", &message, Some(hours(4)), true, now - in_hours(2)),
            ("late since now", &message, Some(hours(6)), true, now),
            ("soon", &message, Some(hours(6) + Duration::from_secs(9)), false, now + 9_000),
            ("never", &message, None, false, given_up),
            ("behind the limit", &message, Some(hours(9)), false, given_up),
            ("told", &told, Some(hours(4)), false, given_up),
            ("without a sender", &nobodys, Some(hours(4)), false, given_up),
            ("not wanted", &silent, Some(hours(4)), false, given_up),
        ] {
            let policy = policy(delay_after);
            assert_eq!(clocks.is_delay_due(message, &policy), is_due, "{what}");
            assert_eq!(clocks.wakes(message, &policy), wakes, "{what}");
        }
    }
}
