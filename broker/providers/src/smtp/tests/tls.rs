//! Protection: who is trusted, and that nothing is sent to anybody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sundown_core::provider::Scope;
use sundown_protocol::Code;
use tempfile::TempDir;

use super::super::dots::tests::{dots_in, memory};
use super::*;
use crate::network::trust::Fingerprint;

/// A CA, and where its certificate is.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Ca {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("CA number {}", COUNT.fetch_add(1, Ordering::SeqCst));
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, &*name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let dir = TempDir::new().expect("a directory");
        fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("it is written");
        Self { issuer, dir }
    }

    fn file(&self) -> String {
        self.dir.path().join("ca.pem").to_str().expect("text").to_owned()
    }

    /// A server's side with a certificate for that name, which may have expired.
    fn server(&self, name: &str, validity: Validity) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        validity.put_into(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        server(certificate.der().clone(), &key)
    }

    /// The same, of a server that wants to be shown a certificate of this CA.
    fn server_that_asks(&self, asked: &Self) -> Arc<ServerConfig> {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(asked.issuer.der().clone()).expect("a CA");
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let builder = ServerConfig::builder_with_provider(provider);
        let config = builder
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![certificate.der().clone()], private(&key));
        Arc::new(config.expect("a configuration"))
    }

    /// A client's certificate and its key, as files.
    fn client(&self) -> [String; 2] {
        let params = CertificateParams::new(Vec::new()).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = [("c.pem", certificate.pem()), ("k.pem", key.serialize_pem())];
        files.map(|(name, pem)| {
            let path = self.dir.path().join(name);
            fs::write(&path, pem).expect("it is written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is set");
            path.to_str().expect("text").to_owned()
        })
    }
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

fn server(certificate: CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private(key));
    Arc::new(config.expect("a configuration"))
}

/// A certificate as `openssl req -x509` makes it: signed by itself, and a CA's.
struct Own {
    config: Arc<ServerConfig>,
    fingerprint: String,
    dir: TempDir,
}

impl Own {
    fn new(name: &str, validity: Validity) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        validity.put_into(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let dir = TempDir::new().expect("a directory");
        fs::write(dir.path().join("c.pem"), certificate.pem()).expect("it is written");
        let fingerprint = Fingerprint::of(certificate.der()).to_string();
        Self { config: server(certificate.der().clone(), &key), fingerprint, dir }
    }

    fn file(&self) -> String {
        self.dir.path().join("c.pem").to_str().expect("text").to_owned()
    }
}

#[derive(Clone, Copy)]
enum Validity {
    Now,
    Over,
    NotYet,
}

impl Validity {
    fn put_into(self, params: &mut CertificateParams) {
        match self {
            Self::Now => {}
            Self::Over => params.not_after = date_time_ymd(2001, 1, 1),
            Self::NotYet => params.not_before = date_time_ymd(3000, 1, 1),
        }
    }
}

const STARTTLS: &str = "< 220 test\n> EHLO\n< 250-test\n< 250 STARTTLS\n> STARTTLS\n< 220 go\ntls";

/// What comes of one message over TLS to `localhost`.
fn over_tls(
    security: &str,
    script: &str,
    config: Arc<ServerConfig>,
    ca_file: &str,
) -> (Result<Vec<RecipientResult>>, Vec<Vec<String>>) {
    by_tls(&[("security", security), ("ca_file", ca_file)], script, config)
}

fn by_tls(
    options: &[(&str, &str)],
    script: &str,
    config: Arc<ServerConfig>,
) -> (Result<Vec<RecipientResult>>, Vec<Vec<String>>) {
    let server = Server::with_tls(&[script], Some(config));
    let options = [&[("host", "localhost")], options].concat();
    let mut client = Client::new(&server, &options);
    let results = client.send(to_bob(1));
    drop(client);
    (results, server.done())
}

const INSIDE: &str = "> EHLO\n< 250-test\n< 250 PIPELINING\nanything";

#[test]
fn a_message_goes_over_tls() {
    let ca = Ca::new();
    for (security, script) in [
        ("tls", format!("tls\n< 220 test\n{INSIDE}")),
        ("starttls", format!("{STARTTLS}\n{INSIDE}")),
    ] {
        let config = ca.server("localhost", Validity::Now);
        let (results, _) = over_tls(security, &script, config, &ca.file());
        assert_eq!(outcomes(&results.expect(security)), [Outcome::Sent]);
    }
}

/// Protected bytes wait in TLS before they are sent: of a dot that may not begin nothing is given to it.
#[test]
fn a_dot_that_may_not_begin_is_not_given_to_tls() {
    let Some(memory) = memory() else { return };
    let ca = Ca::new();
    let transaction = "> MAIL\n> RCPT\n< 250 ok\n< 250 ok\n> DATA\n< 354 go on\nrest";
    let script = format!("{STARTTLS}\n> EHLO\n< 250-test\n< 250 PIPELINING\n{transaction}");
    let server = Server::with_tls(&[&script], Some(ca.server("localhost", Validity::Now)));
    let options = [("host", "localhost"), ("security", "starttls"), ("ca_file", &ca.file())];
    let spec = spec(server.port, &options);
    let mut client = Client::of(&spec, MESSAGE, &Destinations::default(), &dots_in(memory.path()));
    let marker = get(&client.prepare(to_bob(1))).expect("prepared").marker;
    assert_eq!(outcomes(&client.recover(to_bob(2), &marker)), [Outcome::NotSent]);
    assert_eq!(outcomes(&get(&client.complete(1)).expect("results")), [Outcome::Later]);
    let told = server.done();
    assert_eq!(told[0].last().map(String::as_str), Some("..dot"), "{told:?}");
}

#[test]
fn who_is_not_trusted_is_told_nothing() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let cases = [
        (&ca, "localhost", Validity::Over, "has expired"),
        (&ca, "localhost", Validity::NotYet, "is not valid yet"),
        (&ca, "other.example.org", Validity::Now, "is for another name"),
        (&stranger, "localhost", Validity::Now, "ca_file adds a CA"),
    ];
    for (signer, name, validity, words) in cases {
        for (security, script) in [("tls", "tls"), ("starttls", STARTTLS)] {
            let config = signer.server(name, validity);
            let (results, told) = over_tls(security, script, config, &ca.file());
            let error = results.expect_err(words);
            assert_eq!(error.code, Code::E_NO_ACCESS, "{error}");
            assert!(error.message.contains(words), "{error}");
            assert!(error.message.contains("localhost:"), "{error}");
            assert!(!told[0].iter().any(|line| line.starts_with("MAIL")), "{told:?}");
        }
    }
}

/// A certificate is a matter of the server and of no message.
#[test]
fn who_is_not_trusted_is_asked_once() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let config = stranger.server("localhost", Validity::Now);
    let server = Server::with_tls(&["tls"], Some(config));
    let ca_file = ca.file();
    let options = [("host", "localhost"), ("security", "tls"), ("ca_file", ca_file.as_str())];
    let mut client = Client::new(&server, &options);
    let answers: Vec<_> = (1..=100).map(|id| client.prepare(to_bob(id))).collect();
    for answer in answers {
        let error = get(&answer).expect_err("it is a stranger");
        assert_eq!((error.code, error.scope), (Code::E_NO_ACCESS, Scope::Server), "{error}");
    }
    drop(client);
    server.done();
}

#[test]
fn without_starttls_nothing_is_sent() {
    let ca = Ca::new();
    let scripts = [
        ("< 220 test\n> EHLO\n< 250-test\n< 250 AUTH PLAIN", Code::E_NO_SUPPORT),
        ("< 220 test\n> EHLO\n< 250-STARTTLS\n< 250 HELP", Code::E_NO_SUPPORT),
        ("< 220 test\n> EHLO\n< 250-x\n< 250 STARTTLS\n> STARTTLS\n< 454 no", Code::E_CALL_FAILED),
        // No way back to a server of thirty years ago, which would have no TLS.
        ("< 220 test\n> EHLO\n< 502 what", Code::E_CALL_FAILED),
    ];
    for (script, code) in scripts {
        let config = ca.server("localhost", Validity::Now);
        let (results, told) = over_tls("starttls", script, config, &ca.file());
        assert_eq!(results.expect_err(script).code, code, "{script}");
        let commands: Vec<_> = told[0].iter().map(|line| line.split(' ').next()).collect();
        assert!(
            commands.iter().all(|c| matches!(c, Some("EHLO" | "STARTTLS" | "QUIT"))),
            "{told:?}"
        );
    }
}

#[test]
fn what_comes_behind_starttls_in_the_open_ends_it() {
    let ca = Ca::new();
    let script = STARTTLS.replace("\ntls", "\n< 250-evil\n< 250 AUTH PLAIN");
    let config = ca.server("localhost", Validity::Now);
    let (results, told) = over_tls("starttls", &script, config, &ca.file());
    let error = results.expect_err("an injection");
    assert_eq!(error.code, Code::E_NO_ACCESS);
    assert_eq!(told[0].len(), 2, "{told:?}");
}

#[test]
fn what_was_offered_in_the_open_is_forgotten() {
    let ca = Ca::new();
    let open = STARTTLS.replace("250-test", "250-test\n< 250-SIZE 1\n< 250-DSN");
    let config = ca.server("localhost", Validity::Now);
    let (results, told) = over_tls("starttls", &format!("{open}\n{INSIDE}"), config, &ca.file());
    assert_eq!(outcomes(&results.expect("results")), [Outcome::Sent]);
    assert!(told[0].contains(&"MAIL FROM:<anna@example.org>".to_owned()), "{told:?}");
}

#[test]
fn a_server_without_tls_is_told_apart() {
    let ca = Ca::new();
    let config = ca.server("localhost", Validity::Now);
    let (results, _) = over_tls("tls", "< 220 test in the open", config, &ca.file());
    let error = results.expect_err("no TLS");
    assert_eq!(error.code, Code::E_NO_ACCESS);
    assert!(error.message.contains("does not speak TLS"), "{error}");
}

#[test]
fn a_connection_lost_within_tls_is_a_lost_connection() {
    let ca = Ca::new();
    let inside =
        "tls\n< 220 test\n> EHLO\n< 250-test\n< 250 PIPELINING\n> MAIL\n> RCPT\n< 250 ok\n< 250 ok";
    for (rest, outcome) in [
        ("> DATA\nclose", Outcome::Offline),
        ("> DATA\n< 354 go on\nmessage\nclose", Outcome::Unknown),
    ] {
        let config = ca.server("localhost", Validity::Now);
        let (results, _) = over_tls("tls", &format!("{inside}\n{rest}"), config, &ca.file());
        assert_eq!(outcomes(&results.expect("results")), [outcome], "{rest}");
    }
    let config = ca.server("localhost", Validity::Now);
    let (results, _) = over_tls("tls", "close", config, &ca.file());
    assert_eq!(results.expect_err("closed").code, Code::E_NETWORK_ERROR);
}

#[test]
fn a_connection_over_tls_is_used_again_and_replaced() {
    let ca = Ca::new();
    let takes_all = format!("tls\n< 220 test\n{INSIDE}");
    let one = "tls\n< 220 test\n> EHLO\n< 250 test\n> MAIL\n< 250 ok\n> RCPT\n< 250 ok\n> DATA\n\
               < 354 go on\nmessage\n< 250 ok\nclose";
    let config = ca.server("localhost", Validity::Now);
    let server = Server::with_tls(&[one, &takes_all], Some(config));
    let file = ca.file();
    let options =
        [("host", "localhost"), ("security", "tls"), ("ca_file", &file), ("connections", "1")];
    let mut client = Client::new(&server, &options);
    for id in 1..=3 {
        assert_eq!(outcomes(&client.send(to_bob(id)).expect("results")), [Outcome::Sent]);
    }
    drop(client);
    let told = server.done();
    assert_eq!(told[1].iter().filter(|line| line.starts_with("MAIL")).count(), 2);
}

/// What `openssl req -x509` makes says that it is a CA's, and a CA is no server by the rules.
#[test]
fn a_certificate_of_ones_own_is_trusted_by_its_file() {
    let talk = format!("tls\n< 220 test\n{INSIDE}");
    let own = Own::new("localhost", Validity::Now);
    let (results, _) = over_tls("tls", &talk, own.config.clone(), &own.file());
    assert_eq!(outcomes(&results.expect("results")), [Outcome::Sent]);

    let same_name = Own::new("localhost", Validity::Now);
    let other_name = Own::new("other.example.org", Validity::Now);
    let over = Own::new("localhost", Validity::Over);
    for (server, file, words) in [
        (&own, &same_name, "ca_file may name this very certificate"),
        (&other_name, &other_name, "is for another name (other.example.org); host must"),
        (&over, &over, "has expired on 1 Jan 2001"),
    ] {
        let (results, told) = over_tls("tls", "tls", server.config.clone(), &file.file());
        let error = results.expect_err(words);
        assert_eq!(error.code, Code::E_NO_ACCESS, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert!(error.message.contains(&server.fingerprint), "{error}");
        assert!(told[0].is_empty(), "{told:?}");
    }
}

#[test]
fn a_fingerprint_trusts_one_certificate_and_no_other() {
    let talk = format!("tls\n< 220 test\n{INSIDE}");
    let ca = Ca::new();
    let own = Own::new("other.example.org", Validity::Over);
    let plain = own.fingerprint.replace(':', "").to_lowercase();
    for fingerprint in [&own.fingerprint, &plain] {
        let options = [("security", "tls"), ("tls_fingerprint", fingerprint.as_str())];
        let (results, _) = by_tls(&options, &talk, own.config.clone());
        assert_eq!(outcomes(&results.expect("results")), [Outcome::Sent]);
    }
    // A CA that is trusted makes no other one.
    let file = ca.file();
    let options = [("security", "tls"), ("tls_fingerprint", &plain), ("ca_file", &file)];
    let (results, told) = by_tls(&options, "tls", ca.server("localhost", Validity::Now));
    let error = results.expect_err("it is another");
    assert!(error.message.contains("is another than tls_fingerprint names"), "{error}");
    assert!(told[0].is_empty(), "{told:?}");
}

#[test]
fn a_server_that_asks_is_shown_our_certificate() {
    let (ca, other) = (Ca::new(), Ca::new());
    let talk = format!("tls\n< 220 test\n{INSIDE}");
    let (file, [certificate, key]) = (ca.file(), ca.client());
    let ours = [
        ("security", "tls"),
        ("ca_file", file.as_str()),
        ("tls_certificate", certificate.as_str()),
        ("tls_key", key.as_str()),
    ];
    let (results, _) = by_tls(&ours, &talk, ca.server_that_asks(&ca));
    assert_eq!(outcomes(&results.expect("results")), [Outcome::Sent]);
    let (results, _) = by_tls(&ours[..2], "tls", ca.server_that_asks(&ca));
    let error = results.expect_err("it wants one");
    assert!(error.message.contains("tls_certificate and tls_key name one"), "{error}");
    let (results, _) = by_tls(&ours, "tls", ca.server_that_asks(&other));
    let error = results.expect_err("it wants another");
    assert!(error.message.contains("check tls_certificate"), "{error}");
}

#[test]
fn a_key_is_looked_at_as_a_password_is() {
    let (ca, other) = (Ca::new(), Ca::new());
    let [certificate, key] = ca.client();
    let [_, foreign] = other.client();
    let open = ca.dir.path().join("open.pem");
    fs::copy(&key, &open).expect("it is copied");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).expect("it is set");
    let file = ca.file();
    for (key, words) in [
        (open.to_str().expect("text"), "is open to others; chmod 600"),
        (&foreign, "is not the key of"),
        ("/nowhere/k.pem", "tls_key /nowhere/k.pem: "),
    ] {
        let options = [
            ("security", "tls"),
            ("ca_file", file.as_str()),
            ("tls_certificate", certificate.as_str()),
            ("tls_key", key),
        ];
        let (results, _) = by_tls(&options, "hang", ca.server("localhost", Validity::Now));
        let error = results.expect_err(words);
        assert_eq!(error.code, Code::E_UNCONFIGURED, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}

/// TLS where it is offered, whosever certificate it is, and none where not: for a relay on a network of one's own.
#[test]
fn an_opportunistic_way_is_protected_if_it_can_be() {
    let options = [("security", "opportunistic")];
    let own = Own::new("other.example.org", Validity::Over);
    for script in [
        format!("{STARTTLS}\n{INSIDE}"),
        format!("< 220 test\n{INSIDE}"),
        "< 220 test\n> EHLO\n< 502 what\n> HELO\n< 250 x\nanything".to_owned(),
        STARTTLS.replace("220 go\ntls", "454 not now\nanything"),
    ] {
        let (results, told) = by_tls(&options, &script, own.config.clone());
        assert_eq!(outcomes(&results.expect("results")), [Outcome::Sent], "{script}");
        assert!(told[0].iter().any(|line| line.starts_with("MAIL FROM")), "{told:?}");
    }
}

#[test]
fn an_opportunistic_way_is_open_where_tls_does_not_work() {
    let own = Own::new("localhost", Validity::Now);
    let broken = STARTTLS.replace("\ntls", "\n< 220 this is no TLS\nhang");
    let open = "< 220 test\n> EHLO\n< 250-test\n< 250 STARTTLS\nanything";
    let server = Server::with_tls(&[&broken, open], Some(own.config.clone()));
    let options = [("host", "localhost"), ("security", "opportunistic")];
    let mut client = Client::new(&server, &options);
    assert_eq!(outcomes(&client.send(to_bob(1)).expect("results")), [Outcome::Sent]);
    drop(client);
    let told = server.done();
    assert!(told[1].iter().any(|line| line.starts_with("MAIL FROM")), "{told:?}");
}
