//! SMTP and LMTP (RFC 2033): all that is different between them.
//!
//! LMTP hands a message over to what puts it into mailboxes. There the fate of a message is that of each recipient: behind the dot the server
//! answers once for each recipient that it has accepted, in their order.

use lettre::transport::smtp::{SMTP_PORT, SUBMISSION_PORT, SUBMISSIONS_PORT};
use sundown_core::provider::Outcome;

use crate::network::keys::Security;

/// The port that servers commonly listen at for LMTP. 25 is for SMTP alone.
const LMTP_PORT: u16 = 24;

/// What a server is spoken to in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Towards a server that takes mail further.
    #[default]
    Smtp,
    /// Towards a server that puts it into mailboxes.
    Lmtp,
}

impl Dialect {
    /// That of a kind of transport.
    pub(super) fn of(kind: &str) -> Self {
        if kind == "lmtp" { Self::Lmtp } else { Self::Smtp }
    }

    /// The word that begins a conversation.
    pub(super) fn hello(self) -> &'static str {
        match self {
            Self::Smtp => "EHLO",
            Self::Lmtp => "LHLO",
        }
    }

    /// What became of a message that a server took, and whether nobody is left to report it whom the sender wants to hear from.
    pub(super) fn sent(self, is_reported: bool) -> Outcome {
        match self {
            _ if is_reported => Outcome::Sent,
            Self::Smtp => Outcome::Relayed,
            Self::Lmtp => Outcome::Delivered,
        }
    }

    /// The word for a server that does not know the first one.
    pub(super) fn old_hello(self) -> Option<&'static str> {
        match self {
            Self::Smtp => Some("HELO"),
            Self::Lmtp => None,
        }
    }

    /// How a way is protected about which a profile says nothing.
    pub(super) fn security(self) -> Security {
        match self {
            Self::Smtp => Security::StartTls,
            Self::Lmtp => Security::None,
        }
    }

    /// Where a server listens about which a profile says nothing more.
    pub(super) fn port(self, security: Security) -> u16 {
        match (self, security) {
            (Self::Lmtp, _) => LMTP_PORT,
            (Self::Smtp, Security::StartTls) => SUBMISSION_PORT,
            (Self::Smtp, Security::Tls) => SUBMISSIONS_PORT,
            (Self::Smtp, Security::Opportunistic | Security::None) => SMTP_PORT,
        }
    }

    /// Why a server may not listen there, if it may not (RFC 2033, 5).
    pub(super) fn forbids(self, port: u16) -> Option<&'static str> {
        let forbidden = self == Self::Lmtp && port == SMTP_PORT;
        forbidden.then_some("is 25, where LMTP must not be spoken")
    }
}
