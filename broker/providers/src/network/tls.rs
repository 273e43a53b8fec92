//! TLS: whom we trust, and in words why we do not.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::distrust::{library, sentence};
use super::secret::{from_file, unconfigured};
use super::trouble::Trouble;
use super::trust::{Fingerprint, Rule, Verifier};
use super::wire::Wire;
use crate::files::read_small;
use crate::{Result, fault};

/// What a profile says about whom to trust, and who we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// Whether a server must prove that it is the one.
    pub(crate) wanted: Proof,
    /// Certificates beside those that the system trusts.
    pub(crate) ca_file: Option<PathBuf>,
    /// The only certificate that is trusted.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Our own certificate, and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// How a server proves that it is the one that the profile names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Proof {
    /// By its certificate.
    #[default]
    Certificate,
    /// Not at all.
    None,
}

/// Makes ways to a server protected, as a profile says.
#[derive(Debug)]
pub(crate) struct Trust {
    certificates: Certificates,
    /// Reading all the system's certificates takes milliseconds, so it is done once.
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl Trust {
    /// Trust that has read no file yet.
    pub(crate) fn new(certificates: Certificates) -> Self {
        Self { certificates, config: Mutex::new(None) }
    }

    /// Forgets what was read.
    pub(crate) fn forget(&self) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn config(&self) -> Result<Arc<ClientConfig>> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*config {
            return Ok(config.clone());
        }
        let provider = Arc::new(ring::default_provider());
        let rule = match (self.certificates.wanted, self.certificates.fingerprint) {
            (Proof::None, _) => Rule::Any,
            (Proof::Certificate, Some(fingerprint)) => Rule::Pinned(fingerprint),
            (Proof::Certificate, None) => self.vouched(&provider)?,
        };
        let verifier = Arc::new(Verifier::new(rule, provider.clone()));
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let made = Arc::new(match &self.certificates.client {
            Some((certificate, key)) => with_client(builder, certificate, key)?,
            None => builder.with_no_client_auth(),
        });
        *config = Some(made.clone());
        Ok(made)
    }

    fn vouched(&self, provider: &Arc<CryptoProvider>) -> Result<Rule> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "a certificate of the system was passed over");
        }
        roots.add_parsable_certificates(system.certs);
        let own = match &self.certificates.ca_file {
            Some(path) => add(&mut roots, path)?,
            None => Vec::new(),
        };
        if roots.is_empty() {
            let text = "this machine trusts no CA at all; install its certificates (the package is \
                        mostly called ca-certificates) or name one with ca_file";
            return Err(unconfigured(text.to_owned()));
        }
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let authorities = builder.build().map_err(unusable)?;
        Ok(Rule::Vouched(authorities, own))
    }

    /// Negotiates TLS with the server of that name before the wire's deadline.
    pub(crate) fn protect(
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
            fingerprint = ?tls.peer_certificates().and_then(<[_]>::first).map(Fingerprint::of),
            version = ?tls.protocol_version(),
            suite = ?tls.negotiated_cipher_suite().map(|suite| suite.suite()),
            "TLS"
        );
        Ok(StreamOwned::new(tls, wire))
    }
}

fn unusable(error: impl fmt::Display) -> ProviderError {
    ProviderError::new(Code::E_CALL_FAILED, format!("TLS cannot be used: {error}"))
}

/// Trusts the certificates of a file, and gives them back.
fn add(roots: &mut RootCertStore, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |why: String| unconfigured(format!("ca_file {}: {why}", path.display()));
    let pem = read_small(path).map_err(|error| wrong(fault::words(&error).1))?;
    let own = certificates(&pem).map_err(wrong)?;
    for certificate in &own {
        let added = roots.add(certificate.clone());
        added.map_err(|error| wrong(format!("has no certificate ({error})")))?;
    }
    Ok(own)
}

fn certificates(pem: &[u8]) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("has no certificate in it".to_owned()),
        found => found.map_err(|error| format!("is not PEM ({error})")),
    }
}

/// A server is shown our certificate if it asks for one.
fn with_client(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: &Path,
    key: &Path,
) -> Result<ClientConfig> {
    let wrong = |why| unconfigured(format!("tls_certificate {}: {why}", certificate.display()));
    let pem = read_small(certificate).map_err(|error| wrong(fault::words(&error).1))?;
    let chain = certificates(&pem).map_err(wrong)?;
    let wrong = |why| unconfigured(format!("tls_key {}: {why}", key.display()));
    let pem = from_file("tls_key", key)?;
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound => wrong(
            "has no key that can be read; one with a passphrase must be written without it"
                .to_owned(),
        ),
        other => wrong(format!("is not PEM ({other})")),
    })?;
    builder.with_client_auth_cert(chain, secret).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong(format!("is not the key of {}", certificate.display()))
        }
        other => wrong(format!("cannot be used ({other})")),
    })
}

fn server_name(host: &str) -> Result<ServerName<'static>> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let ascii = if name.is_ascii() { Ok(name.to_owned()) } else { idna::domain_to_ascii(name) };
    let name = ascii.ok().and_then(|name| ServerName::try_from(name).ok());
    name.ok_or_else(|| unconfigured(format!("host is {host:?}, which no certificate can name")))
}

fn failed(place: &str, error: &io::Error) -> ProviderError {
    match library(error) {
        Some(inner) => refused(place, inner),
        None => Trouble::of(place, error).unreached().into_error(),
    }
}

fn refused(place: &str, error: &rustls::Error) -> ProviderError {
    ProviderError::new(Code::E_NO_ACCESS, sentence(place, error))
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
                std::fs::write(&path, content).expect("it is written");
            }
            let ca_file = Some(path.clone());
            let trust = Trust::new(Certificates { ca_file, ..Certificates::default() });
            let error = trust.config().expect_err("no certificate");
            assert_eq!(error.code, Code::E_UNCONFIGURED);
            assert!(error.message.contains("ca.pem"), "{}", error.message);
        }
        // A pipe that nothing is written to is not waited for.
        std::fs::remove_file(&path).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        for ca_file in [path.clone(), "/dev/zero".into()] {
            let ca_file = Some(ca_file);
            let trust = Trust::new(Certificates { ca_file, ..Certificates::default() });
            assert_eq!(trust.config().expect_err("no file").code, Code::E_UNCONFIGURED);
        }
    }

    #[test]
    fn names_that_certificates_can_have() {
        for host in ["smtp.example.org", "smtp.example.org.", "b\u{fc}cher.example", "::1"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
        assert!(server_name("a..b").is_err());
    }
}
