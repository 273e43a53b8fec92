//! Whether a server's certificate is trusted: by the CAs, as one's own, or as the one that is pinned.
//!
//! ```text
//!  TLS is opportunistic:    any certificate
//!  a fingerprint is given:  this certificate and no other, whatever its names and dates
//!  none is given:           a CA vouches for it ─► trusted
//!                           it is a CA itself ───► trusted if ca_file has this very certificate and it names the server
//! ```
//!
//! `openssl req -x509` writes into each certificate that it is a CA's, and rules for CAs say that a CA is no server.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

/// SHA-256 of a certificate as it is on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a certificate.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

/// Words for a text that is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// Two digits for each byte, in either case, with or without colons between them.
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        if text.contains(':') && text.split(':').any(|pair| pair.len() != 2) {
            return Err(NoFingerprint);
        }
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(NoFingerprint);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16).ok_or(NoFingerprint);
            *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let colon = if place == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a certificate is not trusted, and which one it is.
#[derive(Debug)]
pub(crate) struct Distrust {
    /// Why.
    pub(crate) why: Why,
    /// The server's.
    pub(crate) found: Fingerprint,
}

/// Why a certificate is not trusted.
#[derive(Debug)]
pub(crate) enum Why {
    /// It is not the one that is pinned.
    NotPinned,
    /// It says that it is a CA's, and is not in `ca_file`.
    IsCa,
    /// What the TLS library says.
    Rules(CertificateError),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a certificate that is not trusted: {:?}", self.why)
    }
}

impl std::error::Error for Distrust {}

/// What decides.
#[derive(Debug)]
pub(crate) struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

/// What is trusted.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Any certificate: who only listens learns nothing, and who stands in between everything.
    Any,
    /// One certificate.
    Pinned(Fingerprint),
    /// What CAs vouch for, and certificates of one's own.
    Vouched(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
}

impl Verifier {
    /// One that trusts so.
    pub(crate) fn new(rule: Rule, provider: Arc<CryptoProvider>) -> Self {
        Self { rule, provider }
    }
}

/// A CA cannot be a server by the rules. Its dates were looked at before that.
fn as_own(
    own: &[CertificateDer<'_>],
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), Why> {
    if !own.contains(certificate) {
        return Err(Why::IsCa);
    }
    let parsed = ParsedCertificate::try_from(certificate);
    parsed.and_then(|parsed| verify_server_name(&parsed, name)).map_err(Why::of_library)
}

impl Why {
    fn of_library(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(error) if says_ca(&error) => Self::IsCa,
            Error::InvalidCertificate(error) => Self::Rules(error),
            _ => Self::Rules(CertificateError::ApplicationVerificationFailure),
        }
    }
}

fn says_ca(error: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(other)) = error else { return false };
    let known = other.downcast_ref::<webpki::Error>();
    matches!(known, Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Fingerprint::of(end_entity);
        let result = match &self.rule {
            Rule::Any => Ok(()),
            Rule::Pinned(pinned) if *pinned == found => Ok(()),
            Rule::Pinned(_) => Err(Why::NotPinned),
            Rule::Vouched(authorities, own) => {
                let verified = authorities.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
                match verified.map_err(Why::of_library) {
                    Err(Why::IsCa) => as_own(own, end_entity, server_name),
                    other => other.map(drop),
                }
            }
        };
        result.map(|()| ServerCertVerified::assertion()).map_err(|why| {
            let distrust = OtherError(Arc::new(Distrust { why, found }));
            Error::InvalidCertificate(CertificateError::Other(distrust))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_written_in_several_ways() {
        let of_nothing = "E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:\
                          27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55";
        let found = Fingerprint::of(&CertificateDer::from_slice(b""));
        assert_eq!(found.to_string(), of_nothing);
        for text in [of_nothing, &of_nothing.to_lowercase(), &of_nothing.replace(':', "")] {
            assert_eq!(text.parse(), Ok(found), "{text}");
        }
        let halved = of_nothing.replacen(':', "", 1);
        for text in [
            "",
            "E3",
            &of_nothing[1..],
            &format!("{of_nothing}:"),
            &halved,
            "é".repeat(32).as_str(),
        ] {
            assert_eq!(text.parse::<Fingerprint>(), Err(NoFingerprint), "{text}");
        }
    }
}
