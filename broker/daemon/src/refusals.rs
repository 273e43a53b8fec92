//! What is said in the log of those who want what is not theirs.
//!
//! Whoever is refused can try again at once, as often as it likes. So each user has a few lines a minute; the rest is
//! counted, and the next line says how many there were.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sundown_protocol::reply::Peer;
use sundown_protocol::{Correlation, Fault};

/// Lines of one user in one [`SPAN`].
const LINES: u32 = 10;
const SPAN: Duration = Duration::from_secs(60);

/// What was said of each user. They are few: who may connect at all has an account here.
#[derive(Debug, Default)]
pub(crate) struct Refusals(HashMap<u32, Said>);

#[derive(Debug)]
struct Said {
    since: Instant,
    lines: u32,
    unsaid: u64,
}

impl Refusals {
    /// Writes down a refusal.
    pub(crate) fn note(&mut self, uid: u32, peer: &Peer, request: Correlation, why: &Fault) {
        let Some(unsaid) = self.may_say(uid, Instant::now()) else { return };
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
            "somebody wanted what is not theirs"
        );
    }

    /// Writes down that a user was turned away at the door.
    pub(crate) fn note_connection(&mut self, uid: u32, pid: u32, why: &Fault) {
        let Some(unsaid) = self.may_say(uid, Instant::now()) else { return };
        tracing::warn!(event = "refused", uid, pid, %why, unsaid, "a connection was turned away");
    }

    /// How many were not said since the last line, if this one may be.
    fn may_say(&mut self, uid: u32, now: Instant) -> Option<u64> {
        let said = self.0.entry(uid).or_insert(Said { since: now, lines: 0, unsaid: 0 });
        if now.duration_since(said.since) >= SPAN {
            (said.since, said.lines) = (now, 0);
        }
        if said.lines >= LINES {
            said.unsaid += 1;
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_lines_a_minute_and_the_rest_is_counted() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        for _ in 0..LINES {
            assert_eq!(refusals.may_say(1, start), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(refusals.may_say(1, start), None);
        }
        assert_eq!(refusals.may_say(2, start), Some(0), "another user has lines of its own");
        assert_eq!(refusals.may_say(1, start + SPAN), Some(1_000));
        assert_eq!(refusals.may_say(1, start + SPAN), Some(0));
    }
}
