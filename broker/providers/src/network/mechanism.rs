//! The ways to log on: their names, and which is tried when a server does not take another.

/// A way to log on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
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
    /// The same as a standard has it (RFC 7628).
    OauthBearer,
}

impl Mechanism {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Plain,
        Self::Login,
        Self::ScramSha256,
        Self::ScramSha1,
        Self::Xoauth2,
        Self::OauthBearer,
    ];

    /// What is tried if the profile does not say, in this order. A server that keeps its passwords in a form of its own offers SCRAM and
    /// refuses everybody by it; PLAIN works wherever it is offered, and it is said over TLS or on this host only.
    pub(crate) const DEFAULT: [Self; 4] =
        [Self::Plain, Self::Login, Self::ScramSha256, Self::ScramSha1];

    /// The name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Xoauth2 => "XOAUTH2",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// Whether the password is proved and not said.
    pub(crate) fn is_scram(self) -> bool {
        matches!(self, Self::ScramSha256 | Self::ScramSha1)
    }
}
