//! What the TLS library says, in sentences that tell what to do.

use std::io;

use rustls::{AlertDescription as Alert, CertificateError, OtherError, PeerIncompatible};

use super::trust::{Distrust, Why};
use crate::headers::{clean, date};

/// The TLS library's error in one of a socket.
pub(crate) fn library(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why there is no TLS with a server.
pub(crate) fn sentence(place: &str, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(place, error),
        rustls::Error::InvalidMessage(_) => {
            format!("{place} does not speak TLS there; check port and security ({error})")
        }
        rustls::Error::PeerIncompatible(what) => of_server(place, what),
        rustls::Error::AlertReceived(alert) => of_alert(place, *alert),
        rustls::Error::NoCertificatesPresented => {
            format!("{place} has no certificate, so that anybody could stand in for it")
        }
        rustls::Error::FailedToGetCurrentTime => {
            "this machine's clock does not work, and certificates have dates".to_owned()
        }
        // Words of the library's own; an error of another library inside would show its names.
        rustls::Error::Other(_) => format!("TLS with {place} failed"),
        _ => format!("TLS with {place} failed: {error}"),
    }
}

fn of_server(place: &str, what: &PeerIncompatible) -> String {
    match what {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => too_old(place),
        PeerIncompatible::ExtendedMasterSecretExtensionRequired
        | PeerIncompatible::NoCipherSuitesInCommon
        | PeerIncompatible::NoEcPointFormatsInCommon
        | PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NoSignatureSchemesInCommon => nothing_in_common(place),
        PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            format!("{place} takes no key of the kind that tls_key has; make one of another kind")
        }
        other => format!("{place} and Sundown have no form of TLS in common ({other:?})"),
    }
}

fn of_alert(place: &str, alert: Alert) -> String {
    match alert {
        Alert::ProtocolVersion => too_old(place),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => nothing_in_common(place),
        Alert::CertificateRequired | Alert::NoCertificate => {
            format!("{place} wants a certificate of ours; tls_certificate and tls_key name one")
        }
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::AccessDenied => {
            format!("{place} does not take our certificate ({alert:?}); check tls_certificate")
        }
        Alert::UnrecognisedName => {
            format!("{place} has no certificate for that name; check host")
        }
        other => format!("{place} ended TLS, and says no more than {other:?}"),
    }
}

fn too_old(place: &str) -> String {
    format!(
        "{place} offers only TLS that is older than 1.2 and not safe any more; its owner must update it"
    )
}

fn nothing_in_common(place: &str) -> String {
    format!(
        "{place} offers only ciphers that are not safe any more, or wants a certificate of ours; \
         its owner must allow ECDHE with AES-GCM or ChaCha20, or tls_certificate name a certificate"
    )
}

fn of_certificate(place: &str, error: &CertificateError) -> String {
    let CertificateError::Other(OtherError(other)) = error else {
        return format!("the certificate of {place} {}", by_rules(error));
    };
    let Some(Distrust { why, found }) = other.downcast_ref() else {
        return format!("the certificate of {place} cannot be used");
    };
    let way_out = match why {
        Why::NotPinned => {
            return format!(
                "the certificate of {place} is another than tls_fingerprint names: its fingerprint \
                 is {found}; ask its owner whether it was changed"
            );
        }
        Why::IsCa => {
            "is that of a CA, or one that somebody made for one machine; ca_file may name \
                      this very certificate"
                .to_owned()
        }
        Why::Rules(error) => by_rules(error),
    };
    format!(
        "the certificate of {place} {way_out} (if its owner says that its fingerprint is {found}, \
         tls_fingerprint may name it)"
    )
}

fn by_rules(error: &CertificateError) -> String {
    use CertificateError as E;
    let words = match error {
        E::ExpiredContext { not_after, .. } => {
            return format!("has expired on {}", day(not_after.as_secs()));
        }
        E::NotValidYetContext { not_before, .. } => {
            let day = day(not_before.as_secs());
            return format!("is not valid yet, but from {day} on; check this machine's clock");
        }
        E::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "is for another name (it names no host in subjectAltName)"
        }
        E::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            return format!("is for another name ({}); host must be one of them", names.join(", "));
        }
        E::Expired => "has expired",
        E::NotValidYet => "is not valid yet; check this machine's clock",
        E::NotValidForName => "is for another name",
        E::UnknownIssuer => "is signed by a CA that this machine does not trust; ca_file adds a CA",
        E::BadSignature => "is not signed by whom it says; ca_file may have an old CA",
        E::Revoked => "was revoked",
        E::BadEncoding => "is damaged, or of a form that is not used any more",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "is not one for servers",
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed in a way that is not safe any more, or not known; its owner must replace it"
        }
        _ => "breaks a rule for certificates; its owner must replace it",
    };
    words.to_owned()
}

/// A name as the certificate has it: the library shows its kind as well, as in `DnsName("mail.example.org")`.
fn bare(presented: &str) -> String {
    let inside = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    clean(inside.unwrap_or(presented).trim_matches('"'))
}

/// The day of a moment in seconds since 1970, such as `1 Jan 2001`.
fn day(seconds: u64) -> String {
    let date = date(seconds.saturating_mul(1000));
    date.split(' ').skip(1).take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::pki_types::{CertificateDer, UnixTime};

    use super::super::trust::Fingerprint;
    use super::*;

    fn distrust(why: Why) -> rustls::Error {
        let found = Fingerprint::of(&CertificateDer::from_slice(b""));
        let other = OtherError(Arc::new(Distrust { why, found }));
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
    }

    #[test]
    fn reasons_are_told_in_words() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext {
            time: at(2_000_000_000),
            not_after: at(978_307_200),
        };
        let early =
            CertificateError::NotValidYetContext { time: at(0), not_before: at(978_307_200) };
        let cases = [
            (distrust(Why::Rules(expired)), "has expired on 1 Jan 2001 (if"),
            (distrust(Why::Rules(early)), "from 1 Jan 2001 on; check this machine's clock"),
            (distrust(Why::Rules(CertificateError::UnknownIssuer)), "ca_file adds a CA"),
            (distrust(Why::IsCa), "ca_file may name this very certificate"),
            (distrust(Why::NotPinned), "is another than tls_fingerprint names"),
            (
                PeerIncompatible::ServerDoesNotSupportTls12Or13.into(),
                "offers only TLS that is older",
            ),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), "offers only ciphers"),
            (rustls::Error::AlertReceived(Alert::ProtocolVersion), "offers only TLS that is older"),
            (rustls::Error::AlertReceived(Alert::HandshakeFailure), "offers only ciphers"),
            (rustls::Error::AlertReceived(Alert::CertificateRequired), "tls_certificate"),
            (rustls::Error::AlertReceived(Alert::UnknownCA), "does not take our certificate"),
            (rustls::Error::NoCertificatesPresented, "has no certificate"),
        ];
        for (error, words) in cases {
            let told = sentence("there:25", &error);
            assert!(told.contains(words) && told.contains("there:25"), "{told}");
            assert!(!told.contains("Error") && !told.contains("Other"), "{told}");
        }
    }

    /// Names of the library's own types are for those who have its source.
    #[test]
    fn a_certificate_that_breaks_any_other_rule_is_told_without_names_of_types() {
        let inner = OtherError(Arc::new(io::Error::other("inside")));
        for error in [CertificateError::Other(inner), CertificateError::UnhandledCriticalExtension]
        {
            for told in [
                sentence("there", &distrust(Why::Rules(error.clone()))),
                sentence("there", &rustls::Error::InvalidCertificate(error)),
            ] {
                assert!(!told.contains("Error") && !told.contains("Unhandled"), "{told}");
            }
        }
    }
}
