//! What peers make the log say: requests for what is not theirs, refused connections, and connections that the broker ends.
//!
//! A peer can repeat its mistake as often as it likes. So each user has a few lines a minute; further ones are counted, and the
//! user's next line says how many there were.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sundown_protocol::reply::Peer;
use sundown_protocol::{Correlation, Fault};

/// Lines of one user in one [`SPAN`].
const LINES: u32 = 10;
const SPAN: Duration = Duration::from_secs(60);

/// What was said of each user. They are few: who may connect at all has an account here.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    refused: HashMap<u32, Lines>,
    ended: HashMap<u32, Lines>,
}

/// Lines of one kind, or about one user: so many a minute are said, further ones are counted.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Refusals {
    /// Writes down a refusal.
    pub(crate) fn note(&mut self, uid: u32, peer: &Peer, request: Correlation, why: &Fault) {
        let Some(unsaid) = self.may_say_refused(uid, Instant::now()) else { return };
        let Peer { pid, program } = peer;
        let correlation = request.to_string();
        tracing::warn!(
            event = "refused",
            uid,
            pid,
            program,
            correlation,
            %why,
            unsaid,
            "a request was refused, because this process has no right to what it asked for"
        );
    }

    /// Writes down that a user was turned away at the door.
    pub(crate) fn note_connection(&mut self, uid: u32, pid: u32, why: &Fault) {
        let Some(unsaid) = self.may_say_refused(uid, Instant::now()) else { return };
        tracing::warn!(event = "refused", uid, pid, %why, unsaid, "a connection was turned away");
    }

    /// Whether a line may say that the broker ends a connection of a user, and how many such lines were left out before it.
    pub(crate) fn may_say_ended(&mut self, uid: u32) -> Option<u64> {
        self.ended.entry(uid).or_default().may_say()
    }

    fn may_say_refused(&mut self, uid: u32, now: Instant) -> Option<u64> {
        self.refused.entry(uid).or_default().may_say_at(now)
    }
}

impl Lines {
    /// How many were not said since the last line, if this one may be.
    pub(crate) fn may_say(&mut self) -> Option<u64> {
        self.may_say_at(Instant::now())
    }

    fn may_say_at(&mut self, now: Instant) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= SPAN {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said >= LINES {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_lines_a_minute_and_the_rest_is_counted() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        for _ in 0..LINES {
            assert_eq!(refusals.may_say_refused(1, start), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(refusals.may_say_refused(1, start), None);
        }
        assert_eq!(
            refusals.may_say_refused(2, start),
            Some(0),
            "another user has lines of its own"
        );
        assert_eq!(refusals.may_say_ended(1), Some(0), "ends are counted apart from refusals");
        assert_eq!(refusals.may_say_refused(1, start + SPAN), Some(1_000));
        assert_eq!(refusals.may_say_refused(1, start + SPAN), Some(0));
    }
}
