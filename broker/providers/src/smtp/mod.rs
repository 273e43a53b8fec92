//! The transport that hands messages to a submission server, by SMTP, or to a server that puts them into mailboxes, by LMTP.
//!
//! | module | what it owns |
//! |---|---|
//! | `settings` | what a profile says |
//! | `answer`, `connection` | the conversation: lines there, answers back |
//! | `dialect` | what is different in LMTP |
//! | `dial`, `auth` | from a host's name to a server that takes messages; the way there is `network`'s |
//! | `author`, `envelope`, `head`, `form`, `body`, `transaction` | one message |
//! | `dots` | what a crash must not take away: whether a message's end has begun |
//! | `destinations` | how many connections all sessions of the broker have to one server, and how much it is handed |
//! | `standing`, `book` | servers that refuse: when they are tried again, and what the next broker knows of it |
//! | `rate` | how many recipients in how much time |
//! | `crew`, `worker` | the threads that do all this |
//!
//! A message's outcome is certain up to the dot that ends it: whatever fails before, the server did not take it. From the
//! dot's first byte to the server's answer nobody knows, and nothing can be found out later. Also after a crash, as long as the
//! machine runs: `dots` keeps whether the dot has begun.

mod answer;
mod auth;
mod author;
mod body;
mod book;
mod connection;
mod crew;
mod destinations;
mod dial;
mod dialect;
mod dots;
mod envelope;
mod form;
mod head;
mod rate;
mod settings;
mod standing;
mod transaction;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use sundown_core::provider::{
    AskedBy, Outcome, ProviderError, ProviderSpec, RecipientResult, Transmission, TransportFacts,
};
use sundown_protocol::Code;

use crate::headers::clean;
use crate::{
    NothingToSave, Prepared, ProviderShutdown, Reply, Result, Support, TransportProvider, results,
};

use self::crew::{Crew, Patience};
use self::destinations::Destination;
use self::dial::Dialer;
use self::settings::Settings;

pub use self::destinations::Destinations;
pub use self::dots::Dots;
pub(crate) use self::dots::{Dot, Fate, Leave, Marker};

/// Hands messages to the server of a profile's section.
pub struct Smtp {
    name: String,
    dialer: Arc<Dialer>,
    destination: Arc<Destination>,
    dots: Arc<Dots>,
    crew: Option<Crew>,
}

impl Smtp {
    /// A transport that touches neither network nor files before its first message. Destinations and dots are those of the
    /// whole broker.
    pub fn new(spec: &ProviderSpec, destinations: &Destinations, dots: &Arc<Dots>) -> Result<Self> {
        let settings = Settings::of(spec).map_err(|e| {
            ProviderError::new(e.code, format!("transport {}: {}", spec.name, e.message))
        })?;
        let destination = destinations.of(&settings);
        let dialer = Arc::new(Dialer::new(settings));
        let (name, dots) = (spec.name.clone(), Arc::clone(dots));
        Ok(Self { name, dialer, destination, dots, crew: None })
    }

    fn not_logged_on(&self) -> ProviderError {
        let text = format!("{}: no session is logged on to it", self.name);
        ProviderError::new(Code::E_NOT_INITIALIZED, text)
    }

    /// What became of a message that was cut off.
    fn found_out(&self, marker: &str) -> (Outcome, String) {
        let marker = Marker::parse(marker);
        let place = match marker.place {
            "" => self.dialer.settings.place(),
            place => clean(place),
        };
        let Some(mark) = marker.mark else { return cut_off(&place) };
        match self.dots.find_out(&mark) {
            Ok(Fate::Sent) => (Outcome::Sent, format!("{place} took it before the broker ended")),
            Ok(Fate::NotSent) => {
                let words =
                    format!("the broker ended before {place} had taken it; it is sent again");
                (Outcome::NotSent, words)
            }
            Err(why) => {
                tracing::info!(server = place, %why, "what became of a message is unknown");
                cut_off(&place)
            }
        }
    }

    fn close(&mut self, patience: Patience) {
        if let Some(crew) = self.crew.take() {
            crew.close(patience);
        }
    }
}

impl TransportProvider for Smtp {
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts> {
        self.close(Patience::None);
        self.dialer.forget();
        let (dialer, destination) = (self.dialer.clone(), self.destination.clone());
        let dots = Arc::clone(&self.dots);
        self.crew = Some(Crew::new(&self.name, dialer, destination, dots, support));
        let settings = &self.dialer.settings;
        // Each connection has one message at work and one behind it, so that it never waits for the queue.
        let window = settings.connections.saturating_mul(2);
        // Two messages, each of a dozen answers: a server that takes all its time for each of them is slow, and does not hang.
        let longest = settings.connect_timeout.saturating_add(settings.timeout.saturating_mul(24));
        Ok(TransportFacts { window, recipients: settings.max_recipients, longest })
    }

    fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>) {
        match &mut self.crew {
            Some(crew) => crew.prepare(transmission, reply),
            None => reply.send(Err(self.not_logged_on())),
        }
    }

    fn complete(&mut self, id: u64, reply: Reply<Vec<RecipientResult>>) {
        let unsent = match &self.crew {
            Some(crew) => crew.complete(id, reply).err(),
            None => Some(reply),
        };
        // Not one that was prepared here: whoever asks knows more about it than we do.
        if let Some(reply) = unsent {
            reply.send(Ok(Vec::new()));
        }
    }

    fn cancel(&mut self, id: u64) {
        if let Some(crew) = &self.crew {
            crew.cancel(id);
        }
    }

    fn recover(
        &mut self,
        transmission: Transmission,
        marker: String,
        reply: Reply<Vec<RecipientResult>>,
    ) {
        let (outcome, words) = self.found_out(&marker);
        let recipients = transmission.recipients.iter().map(|(recipient, _)| *recipient);
        reply.send(Ok(results(recipients, outcome, &words)));
    }

    fn validate(&mut self, asked_by: AskedBy, reply: Reply<()>) {
        match &mut self.crew {
            Some(crew) => crew.validate(asked_by, reply),
            None => reply.send(Err(self.not_logged_on())),
        }
    }

    fn logoff(&mut self) -> Result<()> {
        self.close(Patience::Short);
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        Some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        true
    }
}

fn cut_off(place: &str) -> (Outcome, String) {
    let words = format!(
        "the broker ended while the message was handed over to {place}; it may have gone out"
    );
    (Outcome::Unknown, words)
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.close(Patience::None);
    }
}

/// What a process hands over is in its store until the server has it, so there is nothing of it here to save.
impl NothingToSave for Smtp {}
