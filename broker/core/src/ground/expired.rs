//! The reply about a recipient whose message was given up at its age limit: the core writes it, a notification takes it apart.
//!
//! ```text
//!  4.4.7 it was tried for 5 days; the last answer was: 450 4.2.0 greylisted
//!  4.4.7 until its age limit no program was logged on that sends it; the last answer was: 421 try again later
//! ```

use std::time::Duration;

/// The enhanced status code of a message that was not sent in time: delivery time expired (RFC 3463).
const STATUS: &str = "4.4.7";

/// Stands in front of what the transport said last.
const LAST: &str = "; the last answer was: ";

/// A message that was tried until its age limit. A reply that says already why the message is given up stays as it is.
pub(crate) fn tried(age: Duration, last: &str) -> String {
    if last.starts_with(STATUS) {
        return last.to_owned();
    }
    format!("{STATUS} it was tried for {}{LAST}{last}", in_words(age))
}

/// A message that no session could send until its age limit.
pub(crate) fn not_sent(last: Option<&str>) -> String {
    let reply = format!("{STATUS} until its age limit no program was logged on that sends it");
    last.map_or(reply.clone(), |last| format!("{reply}{LAST}{last}"))
}

/// What the transport answered last, if a reply is that of a message that was given up at its age limit.
pub fn last_answer(reply: &str) -> Option<&str> {
    let words = reply.strip_prefix(STATUS)?;
    words.split_once(LAST).map(|(_, last)| last)
}

/// A time in its largest unit of which there are at least two.
pub fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(24 * 3600, "days"), (3600, "hours"), (60, "minutes")];
    match units.into_iter().find(|(size, _)| seconds >= 2 * size) {
        Some((size, unit)) => format!("{} {unit}", seconds / size),
        None if seconds == 1 => "1 second".to_owned(),
        None => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_the_last_answer() {
        let said = "450 4.2.0 greylisted; the last answer was: no";
        assert_eq!(last_answer(&tried(Duration::ZERO, said)), Some(said));
        assert_eq!(last_answer(&not_sent(Some(said))), Some(said));
        assert_eq!(last_answer(&not_sent(None)), None);
        assert_eq!(last_answer(said), None);
        let told = not_sent(None);
        assert_eq!(tried(Duration::ZERO, &told), told);
    }

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        let told = [0, 1, 119, 120, 7_199, 7_200, 172_799, 172_800, 432_030].map(|seconds| {
            let words = in_words(Duration::from_secs(seconds));
            words.replace("seconds", "s").replace("minutes", "m").replace("hours", "h")
        });
        let expected =
            ["0 s", "1 second", "119 s", "2 m", "119 m", "2 h", "47 h", "2 days", "5 days"];
        assert_eq!(told, expected);
    }
}
