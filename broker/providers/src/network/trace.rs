//! The trace of a refused password: enough to see that there is another one now, and too little to find it out.

use std::fmt;

use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// What is kept of a password that was refused, and of what the profile says about the server and the way to log on
/// ([`Settings::account`](super::settings::Settings::account)).
///
/// It is kept on the disk. All it says are sixteen bits: a reader of it can rule out guesses, and cannot tell which of the others is
/// right. That a new password is taken for the old one happens once in 65,536 times; a flush has it tried then.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace(u16);

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    /// The trace of a password that is not known any more.
    pub(crate) const NONE: Self = Self(0);

    /// The trace of a server that wants a logon where the profile has no user.
    pub(crate) fn of_none(account: &str) -> Self {
        Self::of(account, &SecretString::default())
    }

    /// The trace of a password of this account.
    pub(crate) fn of(account: &str, secret: &SecretString) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, account.as_bytes());
        let sum = hmac::sign(&key, secret.expose_secret().as_bytes());
        Self(u16::from_le_bytes([sum.as_ref()[0], sum.as_ref()[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_password_or_account_leaves_another_trace() {
        let of = |account: &str, secret: &str| Trace::of(account, &SecretString::from(secret));
        assert_eq!(of("anna", "one"), of("anna", "one"));
        assert_ne!(of("anna", "one"), of("anna", "two"));
        assert_ne!(of("anna", "one"), of("bo", "one"));
        assert_eq!(format!("{:?}", of("anna", "one")), "Trace");
    }
}
