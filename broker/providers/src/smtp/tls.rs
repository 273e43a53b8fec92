//! TLS: whom we trust, and in words why we do not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::connection::Trouble;
use super::secret::unconfigured;
use super::wire::Wire;
use crate::{Result, fault};

/// The CAs that are trusted: the system's, and one that a profile adds.
#[derive(Debug)]
pub(super) struct Trust {
    ca_file: Option<PathBuf>,
    /// Reading all the system's certificates takes milliseconds, so it is done once.
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl Trust {
    /// Trust that has read no file yet.
    pub(super) fn new(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, config: Mutex::new(None) }
    }

    /// Forgets what was read.
    pub(super) fn forget(&self) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn config(&self) -> Result<Arc<ClientConfig>> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*config {
            return Ok(config.clone());
        }
        let made = Arc::new(configured(self.roots()?)?);
        *config = Some(made.clone());
        Ok(made)
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "a certificate of the system was passed over");
        }
        roots.add_parsable_certificates(system.certs);
        if let Some(path) = &self.ca_file {
            add(&mut roots, path)?;
        }
        if roots.is_empty() {
            let text = "this machine trusts no CA at all; install its certificates (the package is \
                        mostly called ca-certificates) or name one with ca_file";
            return Err(unconfigured(text.to_owned()));
        }
        Ok(roots)
    }

    /// Negotiates TLS with the server of that name before the wire's deadline.
    pub(super) fn protect(
        &self,
        mut wire: Wire,
        (host, place): (&str, &str),
    ) -> Result<StreamOwned<ClientConnection, Wire>> {
        let name = server_name(host)?;
        let started = ClientConnection::new(self.config()?, name);
        let mut tls = started.map_err(|error| refused(place, &error))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut wire).map_err(|error| failed(place, &error))?;
        }
        tracing::debug!(
            server = place,
            version = ?tls.protocol_version(),
            suite = ?tls.negotiated_cipher_suite().map(|suite| suite.suite()),
            "TLS"
        );
        Ok(StreamOwned::new(tls, wire))
    }
}

fn configured(roots: RootCertStore) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| {
        ProviderError::new(Code::E_CALL_FAILED, format!("TLS cannot be used: {error}"))
    })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<()> {
    let wrong = |why: String| unconfigured(format!("ca_file {}: {why}", path.display()));
    let pem = fs::read(path).map_err(|error| wrong(fault::words(&error).1))?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(format!("is not PEM ({error})")))?;
        roots.add(certificate).map_err(|error| wrong(format!("has no certificate ({error})")))?;
        found = true;
    }
    if found { Ok(()) } else { Err(wrong("has no certificate in it".to_owned())) }
}

fn server_name(host: &str) -> Result<ServerName<'static>> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let ascii = if name.is_ascii() { Ok(name.to_owned()) } else { idna::domain_to_ascii(name) };
    let name = ascii.ok().and_then(|name| ServerName::try_from(name).ok());
    name.ok_or_else(|| unconfigured(format!("host is {host:?}, which no certificate can name")))
}

fn failed(place: &str, error: &io::Error) -> ProviderError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => refused(place, inner),
        None => Trouble::of(place, error).unreached().into_error(),
    }
}

fn refused(place: &str, error: &rustls::Error) -> ProviderError {
    let words = match error {
        rustls::Error::InvalidCertificate(error) => {
            format!("the certificate of {place} {}", in_words(error))
        }
        rustls::Error::InvalidMessage(_) => {
            format!("{place} does not speak TLS there; check port and security ({error})")
        }
        _ => format!("TLS with {place} failed: {error}"),
    };
    ProviderError::new(Code::E_NO_ACCESS, words)
}

fn in_words(error: &CertificateError) -> String {
    use CertificateError as E;
    let words = match error {
        E::Expired | E::ExpiredContext { .. } => "has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "is not valid yet; check this machine's clock"
        }
        E::NotValidForName => "is for another name",
        E::NotValidForNameContext { presented, .. } => {
            return format!("is for another name ({})", presented.join(", "));
        }
        E::UnknownIssuer => "is signed by nobody this machine trusts; ca_file adds a CA",
        E::BadSignature => "is not signed by whom it says; ca_file may have an old CA",
        E::Revoked => "was revoked",
        other => return format!("is not accepted: {other}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_must_have_a_certificate() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("ca.pem");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in [None, Some(""), Some("words"), Some(broken)] {
            if let Some(content) = content {
                fs::write(&path, content).expect("it is written");
            }
            let error = Trust::new(Some(path.clone())).config().expect_err("no certificate");
            assert_eq!(error.code, Code::E_UNCONFIGURED);
            assert!(error.message.contains("ca.pem"), "{}", error.message);
        }
    }

    #[test]
    fn names_that_certificates_can_have() {
        for host in ["smtp.example.org", "smtp.example.org.", "b\u{fc}cher.example", "::1"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
        assert!(server_name("a..b").is_err());
    }

    #[test]
    fn reasons_are_told_in_words() {
        let words = in_words(&CertificateError::UnknownIssuer);
        assert!(words.contains("ca_file"), "{words}");
        assert_eq!(in_words(&CertificateError::Expired), "has expired");
    }
}
