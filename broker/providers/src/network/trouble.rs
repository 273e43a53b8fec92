//! A conversation with a server that broke off, and what that means.

use std::io;

use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::distrust::{library, sentence};

/// A conversation that broke off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// How.
    pub(crate) kind: Kind,
    /// In words, with the server's name.
    pub(crate) words: String,
}

/// How a conversation broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The connection is gone.
    Lost,
    /// Nothing came in time.
    Silent,
    /// What came was no answer.
    Nonsense,
}

impl Trouble {
    /// What an error of a socket means.
    pub(crate) fn of(place: &str, error: &io::Error) -> Self {
        let (kind, words) = match error.kind() {
            io::ErrorKind::TimedOut => (Kind::Silent, format!("{place} did not answer in time")),
            io::ErrorKind::UnexpectedEof => (Kind::Lost, format!("{place} closed the connection")),
            _ => {
                let words = match library(error) {
                    Some(error) => sentence(place, error),
                    None => format!("the connection to {place} was lost ({error})"),
                };
                (Kind::Lost, words)
            }
        };
        Self { kind, words }
    }

    /// The same from a server that never said anything: silence means that it cannot be reached.
    #[must_use]
    pub(crate) fn unreached(self) -> Self {
        let kind = if self.kind == Kind::Silent { Kind::Lost } else { self.kind };
        Self { kind, ..self }
    }

    /// What a caller is told.
    pub(crate) fn into_error(self) -> ProviderError {
        let code = match self.kind {
            Kind::Lost => Code::E_NETWORK_ERROR,
            Kind::Silent => Code::E_TIMEOUT,
            Kind::Nonsense => Code::E_CALL_FAILED,
        };
        ProviderError::new(code, self.words)
    }
}
