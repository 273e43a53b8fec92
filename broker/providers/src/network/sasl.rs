//! What is said to log on, by whatever protocol: SASL (RFC 4422).
//!
//! What is made of a secret lives in memory that is overwritten.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;
use zeroize::Zeroizing;

use super::mechanism::Mechanism;
use super::scram::{Hash, Scram, Wrong};

/// What is said in one go. It is overwritten in memory.
pub(crate) type Step = Zeroizing<String>;

/// What is said one after the other, as it goes over the wire.
pub(crate) enum Talk {
    /// Known before.
    Steps(Vec<Step>, usize),
    /// By what the server says.
    Scram(Box<Scram>),
}

impl Talk {
    /// The conversation that logs this user on.
    pub(crate) fn new(mechanism: Mechanism, username: &str, secret: &str) -> Self {
        let scram = |hash| Self::Scram(Box::new(Scram::new(hash, username, secret)));
        let steps = match mechanism {
            Mechanism::Plain => vec![encoded(&["\0", username, "\0", secret])],
            Mechanism::Login => vec![encoded(&[username]), encoded(&[secret])],
            Mechanism::Xoauth2 => {
                vec![encoded(&["user=", username, "\x01auth=Bearer ", secret, "\x01\x01"])]
            }
            Mechanism::OauthBearer => {
                // Both separate what is said (RFC 5801, 4).
                let name = username.replace('=', "=3D").replace(',', "=2C");
                vec![encoded(&["n,a=", &name, ",\x01auth=Bearer ", secret, "\x01\x01"])]
            }
            Mechanism::ScramSha256 => return scram(Hash::Sha256),
            Mechanism::ScramSha1 => return scram(Hash::Sha1),
        };
        Self::Steps(steps, 0)
    }

    /// What follows this answer; nothing, if there is no more to say.
    pub(crate) fn next(&mut self, said: &str) -> std::result::Result<Option<Step>, Wrong> {
        match self {
            Self::Steps(steps, next) => {
                *next += 1;
                Ok(steps.get(*next - 1).cloned())
            }
            Self::Scram(scram) => {
                let said = STANDARD.decode(said.trim()).map_err(|_| Wrong::NotScram)?;
                let said = String::from_utf8(said).map_err(|_| Wrong::NotScram)?;
                Ok(Some(encoded(&[&scram.next(&said)?])))
            }
        }
    }

    /// Whether the server may be believed that it knows us.
    pub(crate) fn is_believed(&self) -> bool {
        match self {
            Self::Steps(..) => true,
            Self::Scram(scram) => scram.is_verified(),
        }
    }

    /// Whether words repeat what they were not meant to.
    pub(crate) fn is_repeated_in(&self, words: &str, secret: &SecretString) -> bool {
        let hidden = self.secret().into_iter().chain([secret.expose_secret()]);
        hidden.into_iter().any(|text| words.contains(text))
    }

    /// The step with the secret in it, which is the last one.
    fn secret(&self) -> Option<&str> {
        match self {
            Self::Steps(steps, _) => steps.last().map(|step| step.as_str()),
            Self::Scram(_) => None,
        }
    }
}

/// The error of a server that does not prove what it must, or asks for what it must not.
pub(crate) fn distrusted(place: &str, wrong: Wrong) -> ProviderError {
    let (code, words) = match wrong {
        Wrong::Proof => (
            Code::E_NO_ACCESS,
            "says that it logs on, and does not know the password: it may be another server",
        ),
        Wrong::NotScram => (Code::E_CALL_FAILED, "does not speak SCRAM as it is written"),
        Wrong::Iterations => (
            Code::E_NO_ACCESS,
            "asks for a proof that is too easy to guess from, or that takes too long",
        ),
        Wrong::Refused => (Code::E_LOGON_FAILED, "refuses the proof of the password"),
    };
    ProviderError::new(code, format!("{place} {words}"))
}

/// Buffers that are large enough from the start leave no copies behind.
fn encoded(parts: &[&str]) -> Step {
    let mut bytes = Zeroizing::new(Vec::with_capacity(parts.iter().map(|p| p.len()).sum()));
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    STANDARD.encode_string(&*bytes, &mut text);
    text
}

/// A line of such parts, in a buffer that is overwritten.
pub(crate) fn line(parts: &[&str]) -> Step {
    let mut line = Zeroizing::new(String::with_capacity(parts.iter().map(|p| p.len()).sum()));
    line.extend(parts.iter().copied());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_over_the_wire() {
        let say = |mechanism| {
            let mut talk = Talk::new(mechanism, "me", "secret");
            let steps = std::iter::from_fn(|| talk.next("").expect("a step"));
            steps.map(|step| step.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(say(Mechanism::Plain), ["AG1lAHNlY3JldA=="]);
        assert_eq!(say(Mechanism::Login), ["bWU=", "c2VjcmV0"]);
        let wanted = STANDARD.encode("user=me\x01auth=Bearer secret\x01\x01");
        assert_eq!(say(Mechanism::Xoauth2), [wanted]);
        let wanted = STANDARD.encode("n,a=me,\x01auth=Bearer secret\x01\x01");
        assert_eq!(say(Mechanism::OauthBearer), [wanted]);
    }

    #[test]
    fn buffers_do_not_grow() {
        for length in 0..100 {
            let step = encoded(&["x".repeat(length).as_str()]);
            assert!(step.len() <= length.div_ceil(3) * 4);
        }
    }
}
