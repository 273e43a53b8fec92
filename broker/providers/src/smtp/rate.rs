//! How many recipients a server is handed in so much time.
//!
//! A whole allowance may be used at once; what is used comes back evenly. A message with more recipients than an allowance has goes
//! when none of it is used.

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

impl Rate {
    fn cost(self, recipients: usize) -> Duration {
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        (self.per / self.recipients).saturating_mul(recipients)
    }
}

/// What of an allowance is used.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// When all of it has come back.
    back: Option<Instant>,
    /// The recipients of the message that found too little.
    wanted: usize,
}

impl Meter {
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
        self.back = Some(now + self.used(now) + rate.cost(recipients));
        Ok(())
    }

    /// Whether there is enough for the message that found too little, or for any.
    pub(super) fn is_enough(&self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.check(rate, self.wanted.max(1), now)
    }

    /// Takes back what was not used.
    pub(super) fn give_back(&mut self, rate: Rate, recipients: usize) {
        self.back = self.back.and_then(|back| back.checked_sub(rate.cost(recipients)));
    }

    /// Whether nothing is used.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.used(now).is_zero()
    }

    fn check(&self, rate: Rate, recipients: usize, now: Instant) -> Result<(), Duration> {
        let room = rate.per.saturating_sub(rate.cost(recipients));
        match self.used(now).checked_sub(room) {
            Some(left) if !left.is_zero() => Err(left),
            Some(_) | None => Ok(()),
        }
    }

    fn used(&self, now: Instant) -> Duration {
        self.back.map(|back| back.saturating_duration_since(now)).unwrap_or_default()
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
        meter.give_back(rate, 1);
        assert_eq!(meter.take(rate, 1, now), Ok(()));
        assert!(meter.take(rate, 1, now).is_err());
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
