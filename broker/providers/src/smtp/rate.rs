//! How many recipients a server is handed in so much time.
//!
//! A whole allowance may be used at once; what is used comes back evenly. A message with more recipients than an allowance has goes
//! when none of it is used.
//!
//! What is used outlives the broker. So that not each message writes a file, what is written down is a little more than what is used:
//! the next broker hands over no more than the allowance, and at most a twentieth of it less.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// So many recipients in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    recipients: u32,
    per: Duration,
    unit: char,
}

impl FromStr for Rate {
    type Err = ();

    /// `100/h`, by `s`, `m`, `h` or `d`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (recipients, unit) = text.split_once('/').ok_or(())?;
        let digits = recipients.bytes().all(|byte| byte.is_ascii_digit());
        let recipients = recipients.parse().ok().filter(|n| digits && *n > 0).ok_or(())?;
        let (unit, seconds) = match unit {
            "s" => ('s', 1),
            "m" => ('m', 60),
            "h" => ('h', 3_600),
            "d" => ('d', 86_400),
            _ => return Err(()),
        };
        Ok(Self { recipients, per: Duration::from_secs(seconds), unit })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.recipients, self.unit)
    }
}

/// The most time that is written down beyond what is used.
const MOST_BEYOND: Duration = Duration::from_secs(60);

impl Rate {
    /// The time that is written down beyond what is used.
    fn beyond(self) -> Duration {
        (self.per / 20).min(MOST_BEYOND)
    }

    fn cost(self, recipients: usize) -> Duration {
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        (self.per / self.recipients).saturating_mul(recipients)
    }
}

/// What of an allowance is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    /// The allowance.
    pub(super) rate: Rate,
    /// When all of it has come back.
    pub(super) back: Instant,
}

impl Used {
    /// How long it takes until all of an allowance has come back, of which as many recipients are used as of this one.
    fn left(self, rate: Rate, now: Instant) -> Duration {
        let left = self.back.saturating_duration_since(now);
        if rate == self.rate {
            return left;
        }
        let (from, to) = (self.rate, rate);
        let share = f64::from(from.recipients) / f64::from(to.recipients);
        let seconds = left.as_secs_f64() * share * to.per.as_secs_f64() / from.per.as_secs_f64();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// How much of an allowance is used, and how much of that is written down.
#[derive(Debug, Default)]
pub(super) struct Meter {
    used: Option<Used>,
    /// The recipients of the message that found too little.
    wanted: usize,
    /// What is written down: as much as is used, or more.
    noted: Option<Used>,
}

impl Meter {
    /// Goes on with what an earlier broker has written down.
    pub(super) fn remember(&mut self, used: Used) {
        (self.used, self.noted) = (Some(used), Some(used));
    }

    /// What is to be written down, or is.
    pub(super) fn noted(&self) -> Option<Used> {
        self.noted
    }

    /// Whether more is used than is written down. Then a little more than that is to be written.
    pub(super) fn is_to_be_noted(&mut self) -> bool {
        let Some(Used { rate, back }) = self.used else { return false };
        if self.noted.is_some_and(|noted| noted.rate == rate && noted.back >= back) {
            return false;
        }
        self.noted = Some(Used { rate, back: back + rate.beyond() });
        true
    }

    /// Takes for the recipients of a message, or says how long it takes until there is enough.
    pub(super) fn take(
        &mut self,
        rate: Rate,
        recipients: usize,
        now: Instant,
    ) -> Result<(), Duration> {
        if let Err(left) = self.check(rate, recipients, now) {
            self.wanted = recipients;
            return Err(left);
        }
        self.wanted = 0;
        let left = self.left(rate, now).saturating_add(rate.cost(recipients));
        self.used = now.checked_add(left).map(|back| Used { rate, back });
        Ok(())
    }

    /// Whether there is enough for the message that found too little, or for any.
    pub(super) fn is_enough(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.check(rate, self.wanted.max(1), now)
    }

    /// Takes back what was not used.
    pub(super) fn give_back(&mut self, recipients: usize) {
        self.used = self.used.and_then(|used| {
            let back = used.back.checked_sub(used.rate.cost(recipients))?;
            Some(Used { back, ..used })
        });
    }

    /// Whether nothing is used.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.used.is_none_or(|used| used.back <= now)
    }

    fn check(&self, rate: Rate, recipients: usize, now: Instant) -> Result<(), Duration> {
        let room = rate.per.saturating_sub(rate.cost(recipients));
        match self.left(rate, now).checked_sub(room) {
            Some(left) if !left.is_zero() => Err(left),
            Some(_) | None => Ok(()),
        }
    }

    fn left(&self, rate: Rate, now: Instant) -> Duration {
        self.used.map(|used| used.left(rate, now)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn rates_are_read() {
        for good in ["1/s", "100/h", "5000/d", "30/m"] {
            assert_eq!(rate(good).to_string(), good);
        }
        for bad in
            ["", "100", "/h", "0/h", "-1/h", "+1/h", "1/w", "1/hour", "1.5/h", "99999999999/h"]
        {
            assert_eq!(bad.parse::<Rate>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn an_allowance_is_used_at_once_and_comes_back_evenly() {
        let (rate, start, mut meter) = (rate("100/h"), Instant::now(), Meter::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..100 {
            assert_eq!(meter.take(rate, 1, start), Ok(()));
        }
        assert_eq!(meter.take(rate, 1, start), Err(Duration::from_secs(36)));
        assert_eq!(meter.take(rate, 1, after(35)), Err(Duration::from_secs(1)));
        assert_eq!(meter.take(rate, 1, after(36)), Ok(()));
        assert_eq!(meter.take(rate, 10, after(36 * 10)), Err(Duration::from_secs(36)));
        assert_eq!(
            meter.is_enough(rate, after(36 * 10)),
            Err(Duration::from_secs(36)),
            "it is awaited"
        );
        assert_eq!(meter.take(rate, 10, after(36 * 11)), Ok(()));
        assert!(!meter.is_full(after(3_600)) && meter.is_full(after(3_600 + 36 * 11)));
    }

    #[test]
    fn what_was_not_handed_over_is_given_back() {
        let (rate, now, mut meter) = (rate("2/d"), Instant::now(), Meter::default());
        assert_eq!(meter.take(rate, 2, now), Ok(()));
        meter.give_back(1);
        assert_eq!(meter.take(rate, 1, now), Ok(()));
        assert!(meter.take(rate, 1, now).is_err());
    }

    /// What is used are recipients: of another allowance that is another time.
    #[test]
    fn what_is_used_is_used_of_another_allowance_as_well() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        assert_eq!(meter.take(rate("1/d"), 1, start), Ok(()));
        let seconds = |left: Result<(), Duration>| left.map_err(|left| left.as_secs_f64().round());
        assert_eq!(seconds(meter.is_enough(rate("1/h"), start)), Err(3_600.0));
        assert_eq!(meter.take(rate("100/h"), 99, start), Ok(()));
        assert_eq!(seconds(meter.take(rate("100/h"), 1, start)), Err(36.0));
        assert_eq!(seconds(meter.is_enough(rate("10/m"), start)), Err(546.0), "91 of 6 seconds");
        meter.give_back(99);
        assert_eq!(meter.take(rate("100/h"), 99, start), Ok(()));
    }

    #[test]
    fn what_is_written_down_is_a_little_more_than_what_is_used() {
        for text in ["2/s", "10/m", "100/h", "5000/d"] {
            let (rate, start, mut meter) = (rate(text), Instant::now(), Meter::default());
            assert!(!meter.is_to_be_noted());
            let mut writes = 0;
            for _ in 0..rate.recipients {
                meter.take(rate, 1, start).expect("all at once");
                writes += u32::from(meter.is_to_be_noted());
                let (used, noted) = (meter.used.expect("some"), meter.noted().expect("some"));
                let beyond = noted.back.checked_duration_since(used.back).expect("as much");
                assert!(beyond <= rate.per / 20, "{text}: {beyond:?}");
            }
            assert!(writes <= rate.recipients.min(24 * 60), "{text}: {writes}");
            let mut next = Meter::default();
            next.remember(meter.noted().expect("some"));
            assert!(next.take(rate, 1, start).is_err() && !next.is_to_be_noted());
            assert!(next.take(rate, 1, start + rate.per / 5 + rate.cost(1)).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_message_beyond_an_allowance_goes_alone() {
        let (rate, start, mut meter) = (rate("10/m"), Instant::now(), Meter::default());
        assert_eq!(meter.take(rate, 1, start), Ok(()));
        assert_eq!(meter.take(rate, 25, start), Err(Duration::from_secs(6)));
        let later = start + Duration::from_secs(6);
        assert_eq!(meter.take(rate, 25, later), Ok(()));
        assert_eq!(meter.take(rate, 1, later), Err(Duration::from_secs(96)));
    }
}
