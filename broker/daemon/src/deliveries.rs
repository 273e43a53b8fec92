//! A line of the log for each recipient and try, in the words that people know from Postfix and look for.
//!
//! ```text
//! to=<bo@example.org>, relay=work, delay=0.31, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued)
//! ```
//!
//! `relay` is the transport, `delay` the seconds that this try took, and in the brackets is what the server said last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sundown_core::provider::{Outcome, ProviderError, RecipientResult, Transmission};
use sundown_mail::status::is_enhanced;
use sundown_protocol::EntryId;

/// What one transport has in hand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deliveries(Arc<Mutex<HashMap<u64, Handed>>>);

/// A message that a transport has.
#[derive(Debug)]
struct Handed {
    recipients: Vec<(usize, String)>,
    began: Instant,
}

impl Deliveries {
    /// A transport is asked to take a message.
    pub(crate) fn begin(&self, transmission: &Transmission) {
        let handed = Handed { recipients: transmission.recipients.clone(), began: Instant::now() };
        self.all().insert(transmission.id, handed);
    }

    /// A transport says what became of some recipients.
    pub(crate) fn tell(
        &self,
        id: u64,
        (relay, entry): (&str, Option<EntryId>),
        results: &[RecipientResult],
    ) {
        let mut all = self.all();
        let Some(handed) = all.get_mut(&id) else { return };
        let began = handed.began;
        for RecipientResult { recipient, outcome, reply } in results {
            let place = handed.recipients.iter().position(|(place, _)| place == recipient);
            let Some(place) = place else { continue };
            let (_, address) = handed.recipients.swap_remove(place);
            line((relay, entry), (&address, began), (*outcome, reply));
        }
        // Nothing more is asked of a message that is taken for none of them.
        if handed.recipients.is_empty() {
            all.remove(&id);
        }
    }

    /// A transport could not take a message: all its recipients wait.
    pub(crate) fn fail(&self, id: u64, of: (&str, Option<EntryId>), error: &ProviderError) {
        let handed = self.all().remove(&id);
        let Some(Handed { recipients, began }) = handed else { return };
        for (_, address) in &recipients {
            line(of, (address, began), (Outcome::Later, &error.message));
        }
    }

    /// A transport is done with a message.
    pub(crate) fn end(&self, id: u64) {
        self.all().remove(&id);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Handed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(
    (relay, entry): (&str, Option<EntryId>),
    (address, began): (&str, Instant),
    (outcome, reply): (Outcome, &str),
) {
    let delay = began.elapsed().as_secs_f64();
    if let Some(told) = text(relay, address, delay, (outcome, reply)) {
        tracing::info!(event = "delivery", entry = entry.map(tracing::field::display), "{told}");
    }
}

fn text(
    relay: &str,
    address: &str,
    delay: f64,
    (outcome, reply): (Outcome, &str),
) -> Option<String> {
    let (status, class) = words(outcome)?;
    let dsn = reply.split([' ', '-']).find(|word| is_enhanced(word));
    let dsn = dsn.map_or_else(|| format!("{class}.0.0"), str::to_owned);
    // Neither an address nor a server's words end what they stand in, or look like what follows.
    let address = address.replace(['<', '>', ',', ' ', '(', ')'], "?");
    let reply = reply.replace("status=", "status:").replace("to=<", "to:<");
    Some(format!(
        "to=<{address}>, relay={relay}, delay={delay:.2}, dsn={dsn}, status={status} ({reply})"
    ))
}

/// Postfix's word, and the class of the status; nothing of what is tried again at once.
fn words(outcome: Outcome) -> Option<(&'static str, char)> {
    match outcome {
        Outcome::Sent | Outcome::Relayed | Outcome::Delivered => Some(("sent", '2')),
        Outcome::Failed => Some(("bounced", '5')),
        Outcome::Later | Outcome::Offline => Some(("deferred", '4')),
        Outcome::Unknown => Some(("unknown", '4')),
        Outcome::NotSent => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_each_of_its_words_once() {
        let reply = "550 x), to=<b@c>, relay=r, status=sent (250 ok";
        let told = text("smtp", "\"a>, status=sent (y\"@z", 0.311, (Outcome::Failed, reply));
        let told = told.expect("it is told");
        let begin =
            "to=<\"a??_status=sent??y\"@z>, relay=smtp, delay=0.31, dsn=5.0.0, status=bounced (";
        assert_eq!(told.matches(" status=").count(), 1, "{told}");
        assert_eq!((told.matches("to=<").count(), told.matches('>').count()), (1, 2), "{told}");
        assert!(told.starts_with(&begin.replace('_', "?")), "{told}");
    }

    #[test]
    fn what_follows_at_once_is_not_told() {
        assert_eq!(words(Outcome::NotSent), None);
        assert_eq!(words(Outcome::Offline), Some(("deferred", '4')));
    }
}
