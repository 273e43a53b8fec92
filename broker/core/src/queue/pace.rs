//! How many notifications of a profile are forwarded: after so many within a minute one message says that there are more.

use std::time::Duration;

/// The most notifications that are forwarded one by one within a minute.
const MOST: u32 = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// The notifications of a profile within the present minute, which begins with the first of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Minute {
    began: Duration,
    count: u32,
}

/// What happens to the next notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It is forwarded.
    Goes,
    /// It is the first of those that are not forwarded, and one message says so.
    FirstTooMany,
    /// It is another of those.
    TooMany,
}

impl Minute {
    /// Counts a notification.
    pub(crate) fn next(&mut self, now: Duration) -> Pace {
        if self.count == 0 || now.saturating_sub(self.began) >= MINUTE {
            *self = Self { began: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        match self.count {
            0..=MOST => Pace::Goes,
            count if count == MOST + 1 => Pace::FirstTooMany,
            _ => Pace::TooMany,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_go_in_a_minute_and_one_says_that_there_are_more() {
        let mut minute = Minute::default();
        for began in [7, 67, 1_000] {
            let paces: Vec<_> =
                (0..13).map(|n| minute.next(Duration::from_secs(began + n))).collect();
            assert_eq!(paces[..10], [Pace::Goes; 10]);
            assert_eq!(paces[10..], [Pace::FirstTooMany, Pace::TooMany, Pace::TooMany]);
            let late = Duration::from_millis(began * 1_000 + 59_999);
            assert_eq!(minute.next(late), Pace::TooMany);
        }
    }
}
