//! How fast counters grow: what was counted within the last minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back a rate looks.
const WINDOW: Duration = Duration::from_secs(60);

/// Counters as they were heard, the oldest first. Others begin anew, as those of a broker that starts again: `K` says whose they are.
#[derive(Debug)]
pub(super) struct Rates<K, const N: usize> {
    heard: VecDeque<(Instant, [u64; N])>,
    whose: Option<K>,
}

impl<K, const N: usize> Default for Rates<K, N> {
    fn default() -> Self {
        Self { heard: VecDeque::new(), whose: None }
    }
}

impl<K: PartialEq, const N: usize> Rates<K, N> {
    pub(super) fn hear(&mut self, whose: K, at: Instant, counters: [u64; N]) {
        if self.whose.as_ref() != Some(&whose) {
            self.heard.clear();
            self.whose = Some(whose);
        }
        self.heard.push_back((at, counters));
        // One that is older than the window stays, so that the whole window is looked at.
        while self.heard.get(1).is_some_and(|(then, _)| at.duration_since(*then) >= WINDOW) {
            self.heard.pop_front();
        }
    }

    /// By how much each has grown in a minute. `None` before a second has passed.
    pub(super) fn per_minute(&self) -> Option<[f64; N]> {
        let (first, last) = (self.heard.front()?, self.heard.back()?);
        let took = last.0.duration_since(first.0).as_secs_f64();
        let grown = |place: usize| last.1[place].saturating_sub(first.1[place]) as f64;
        (took >= 1.0).then(|| std::array::from_fn(|place| grown(place) * 60.0 / took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        rates.hear(1, at(0), [100]);
        assert_eq!(rates.per_minute(), None);
        rates.hear(1, at(30), [110]);
        assert_eq!(rates.per_minute(), Some([20.0]));
        for second in 31..=600 {
            rates.hear(1, at(second), [110]);
        }
        assert_eq!(rates.per_minute(), Some([0.0]));
        assert!(rates.heard.len() <= 62, "{}", rates.heard.len());
        rates.hear(2, at(601), [5]);
        assert_eq!(rates.per_minute(), None, "another broker counts anew");
    }
}
