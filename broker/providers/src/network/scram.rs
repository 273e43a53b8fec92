//! SCRAM: a password is proved and never said, and the server proves that it knows it too (RFC 5802, RFC 7677).
//!
//! ```text
//!  First ─► who, a nonce ─► Proof ─► the proof ─► Verify ─► the server's proof ─► Verified
//! ```

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

/// The least work for somebody who tries passwords that a server may ask for (RFC 7677, 4), and the most that we do for one.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=2_000_000;

/// No channel is bound: `n,,` in base64.
const CHANNEL: &str = "biws";

/// The hash that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    /// SHA-1. Nothing of what is known against it concerns its use here.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    fn derivation(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        self.hmac().digest_algorithm()
    }
}

/// A logon by SCRAM.
pub(crate) struct Scram {
    hash: Hash,
    password: Zeroizing<String>,
    nonce: String,
    /// The first message without its head.
    first: String,
    state: State,
}

enum State {
    First,
    Proof,
    /// The server's proof must be that of this key for this text.
    Verify(hmac::Key, String),
    Verified,
}

/// Why a server's words are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// They are not SCRAM.
    NotScram,
    /// They ask for too little or too much work.
    Iterations,
    /// The server does not know the password: it is not the one it seems to be.
    Proof,
    /// The server refuses, and goes on.
    Refused,
}

impl Scram {
    /// A logon with a nonce of 18 bytes that nobody can guess.
    pub(crate) fn new(hash: Hash, username: &str, password: &str) -> Self {
        let mut random = [0; 18];
        getrandom::fill(&mut random).expect("the system has random numbers");
        Self::with_nonce(hash, username, password, STANDARD.encode(random))
    }

    fn with_nonce(hash: Hash, username: &str, password: &str, nonce: String) -> Self {
        let name = prepared(username).replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={name},r={nonce}");
        Self { hash, password: prepared(password), nonce, first, state: State::First }
    }

    /// Whether the server has proved that it knows the password.
    pub(crate) fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified)
    }

    /// What is said next, when the server has said this.
    pub(crate) fn next(&mut self, said: &str) -> Result<Zeroizing<String>, Wrong> {
        match &self.state {
            State::First => {
                self.state = State::Proof;
                Ok(Zeroizing::new(format!("n,,{}", self.first)))
            }
            State::Proof => self.prove(said),
            State::Verify(key, text) => {
                if said.starts_with("e=") {
                    return Err(Wrong::Refused);
                }
                let proof = said.strip_prefix("v=").ok_or(Wrong::NotScram)?;
                let proof = proof.split(',').next().unwrap_or_default();
                let proof = STANDARD.decode(proof).map_err(|_| Wrong::NotScram)?;
                hmac::verify(key, text.as_bytes(), &proof).map_err(|_| Wrong::Proof)?;
                self.state = State::Verified;
                Ok(Zeroizing::default())
            }
            State::Verified => Err(Wrong::NotScram),
        }
    }

    fn prove(&mut self, said: &str) -> Result<Zeroizing<String>, Wrong> {
        let Asked { nonce, salt, iterations } = Asked::parse(said)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Wrong::NotScram);
        }
        let mut salted = Zeroizing::new(vec![0; self.hash.digest().output_len()]);
        let password = self.password.as_bytes();
        pbkdf2::derive(self.hash.derivation(), iterations, &salt, password, &mut salted);
        let salted = hmac::Key::new(self.hash.hmac(), &salted);
        let end = format!("c={CHANNEL},r={nonce}");
        let all = format!("{},{said},{end}", self.first);

        let client = hmac::sign(&salted, b"Client Key");
        let stored = digest::digest(self.hash.digest(), client.as_ref());
        let stored = hmac::Key::new(self.hash.hmac(), stored.as_ref());
        let signature = hmac::sign(&stored, all.as_bytes());
        let proof = client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b);
        let proof = STANDARD.encode(proof.collect::<Vec<_>>());

        let server = hmac::sign(&salted, b"Server Key");
        let server = hmac::Key::new(self.hash.hmac(), server.as_ref());
        self.state = State::Verify(server, all);
        Ok(Zeroizing::new(format!("{end},p={proof}")))
    }
}

/// What a server asks to be proved.
struct Asked<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> Asked<'a> {
    /// Attributes behind these three are extensions that may be passed over; one in front of them may not.
    fn parse(said: &'a str) -> Result<Self, Wrong> {
        let mut parts = said.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = part("r=").ok_or(Wrong::NotScram)?;
        let salt = part("s=").and_then(|salt| STANDARD.decode(salt).ok()).ok_or(Wrong::NotScram)?;
        let iterations: u32 =
            part("i=").and_then(|number| number.parse().ok()).ok_or(Wrong::NotScram)?;
        let within = Some(iterations).filter(|number| ITERATIONS.contains(number));
        let iterations = within.and_then(NonZeroU32::new).ok_or(Wrong::Iterations)?;
        Ok(Self { nonce, salt, iterations })
    }
}

/// A name or a password as both sides write it. What the rules forbid goes as it is: the server may have taken it so.
fn prepared(text: &str) -> Zeroizing<String> {
    let prepared = stringprep::saslprep(text);
    Zeroizing::new(prepared.map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hash, nonce, the server's words, our proof and the server's; from RFC 5802, 5 and RFC 7677, 3.
    const EXAMPLES: [(Hash, &str, &str, &str, &str); 2] = [
        (
            Hash::Sha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (
            Hash::Sha256,
            "rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ];

    fn begun((hash, nonce, ..): (Hash, &str, &str, &str, &str)) -> Scram {
        let mut scram = Scram::with_nonce(hash, "user", "pencil", nonce.to_owned());
        let first = scram.next("").expect("the first message");
        assert_eq!(*first, format!("n,,n=user,r={nonce}"));
        scram
    }

    #[test]
    fn the_examples_of_the_rfcs_come_out() {
        for example in EXAMPLES {
            let (_, _, asked, proof, answer) = example;
            let mut scram = begun(example);
            assert_eq!(scram.next(asked).expect("a proof").as_str(), proof);
            assert!(!scram.is_verified());
            assert_eq!(scram.next(answer).expect("it is right").as_str(), "");
            assert!(scram.is_verified());
        }
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for example in EXAMPLES {
            let (_, _, asked, proof, answer) = example;
            for (said, wrong) in [
                ("v=AAAA", Wrong::Proof),
                ("v=", Wrong::Proof),
                ("", Wrong::NotScram),
                (proof, Wrong::NotScram),
                ("e=invalid-proof", Wrong::Refused),
            ] {
                let mut scram = begun(example);
                scram.next(asked).expect("a proof");
                assert_eq!(scram.next(said).expect_err(said), wrong);
                assert!(!scram.is_verified() && answer != said);
            }
        }
    }

    #[test]
    fn what_is_no_challenge_gets_no_proof() {
        let nonce = EXAMPLES[1].1;
        for (said, wrong) in [
            ("", Wrong::NotScram),
            ("r=other,s=QSXCR+Q6sek8bf92,i=4096", Wrong::NotScram),
            (&format!("r={nonce},s=QSXCR+Q6sek8bf92,i=4096"), Wrong::NotScram),
            (&format!("m=x,r={nonce}x,s=QSXCR+Q6sek8bf92,i=4096"), Wrong::NotScram),
            (&format!("r={nonce}x,s=!,i=4096"), Wrong::NotScram),
            (&format!("r={nonce}x,s=QSXCR+Q6sek8bf92,i=-1"), Wrong::NotScram),
            (&format!("r={nonce}x,s=QSXCR+Q6sek8bf92,i=1"), Wrong::Iterations),
            (&format!("r={nonce}x,s=QSXCR+Q6sek8bf92,i=4294967295"), Wrong::Iterations),
        ] {
            assert_eq!(begun(EXAMPLES[1]).next(said).expect_err(said), wrong, "{said}");
        }
    }

    #[test]
    fn names_are_written_as_the_rfc_says() {
        let mut scram = Scram::with_nonce(Hash::Sha1, "a,b=c\u{ad}\u{2168}", "x", "n".to_owned());
        assert_eq!(scram.next("").expect("the first message").as_str(), "n,,n=a=2Cb=3DcIX,r=n");
        let nonces = [(); 2].map(|()| Scram::new(Hash::Sha256, "a", "b").nonce);
        assert!(nonces[0] != nonces[1] && nonces[0].len() == 24);
    }
}
