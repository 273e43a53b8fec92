//! The ways to log on: their names, and which is tried when a server does not take another.

/// A way to log on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// The password, in one step.
    Plain,
    /// The password, in two.
    Login,
    /// A proof that both sides know the password (RFC 7677).
    ScramSha256,
    /// The same with an older hash (RFC 5802).
    ScramSha1,
    /// An access token.
    Xoauth2,
}

impl Mechanism {
    /// All of them.
    pub(super) const ALL: [Self; 5] =
        [Self::Plain, Self::Login, Self::ScramSha256, Self::ScramSha1, Self::Xoauth2];

    /// What is tried if the profile does not say, in this order. A server that keeps its passwords in a form of its own offers SCRAM and
    /// refuses everybody by it; PLAIN works wherever it is offered, and it is said over TLS or on this host only.
    pub(super) const DEFAULT: [Self; 4] =
        [Self::Plain, Self::Login, Self::ScramSha256, Self::ScramSha1];

    /// The name on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Xoauth2 => "XOAUTH2",
        }
    }

    /// Whether it may be tried when a server has refused the one before by this code, which is about the mechanism and not about the
    /// password.
    pub(super) fn may_follow(self, before: Self, code: u16) -> bool {
        match code {
            NOT_SO => true,
            // The one before is too weak, or may not be said so: only a stronger one is better.
            534 | 538 => self.is_scram() && !before.is_scram(),
            // The server must see the password once, to keep it in another form.
            TRANSITION => !self.is_scram(),
            _ => false,
        }
    }

    fn is_scram(self) -> bool {
        matches!(self, Self::ScramSha256 | Self::ScramSha1)
    }
}

/// An answer that does not take the mechanism (RFC 4954, 4).
pub(super) const NOT_SO: u16 = 504;

/// An answer that wants the password in the open once, which is for a person or another mechanism, and not for later (RFC 4954, 6).
pub(super) const TRANSITION: u16 = 432;
