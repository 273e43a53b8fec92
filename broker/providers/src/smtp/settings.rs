//! What a profile says to an SMTP transport, as typed values.
//!
//! Whoever reads a profile has shown its author every mistake with file and line; here a mistake names its key.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sundown_core::address::Pattern;
use sundown_core::provider::ProviderSpec;

use super::author::{Authors, Rewrite};
use super::dialect::Dialect;
use super::rate::Rate;
use crate::Result;
use crate::network::connect::Way;
use crate::network::keys::{Keys, Login, Security, checked, is_loopback, wrong};
use crate::network::mechanism::Mechanism;
use crate::network::tls::Certificates;

/// Connections of one destination at once. Submission servers commonly allow ten for each user; others of the same user
/// want theirs.
const CONNECTIONS: usize = 4;
/// How long an answer may take. RFC 5321 asks for five minutes for most commands.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How long it may take until a server can be talked to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Recipients of one message. RFC 5321 makes every server take so many.
const MAX_RECIPIENTS: usize = 100;

/// What `plaintext` must say, so that it is not said by chance.
const PLAINTEXT: &str = "i-understand";

/// What a profile says to an SMTP transport.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// What the server is spoken to in.
    pub(super) dialect: Dialect,
    /// The server's name or address; of one on a socket, nothing.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// The socket of a server that has neither.
    pub(super) socket: Option<PathBuf>,
    /// How the way there is protected.
    pub(super) security: Security,
    /// Who the server is told we are, and how that is proved.
    pub(super) login: Option<Login>,
    /// Whom TLS trusts, and who we are there.
    pub(super) certificates: Certificates,
    /// What we call ourselves.
    pub(super) helo: Option<String>,
    /// Connections at once.
    pub(super) connections: usize,
    /// How long an answer may take as a whole.
    pub(super) timeout: Duration,
    /// How long it may take to resolve, connect and negotiate TLS.
    pub(super) connect_timeout: Duration,
    /// Most recipients in one transaction.
    pub(super) max_recipients: usize,
    /// How it is reached.
    pub(super) way: Way,
    /// Whose messages it takes for whose.
    pub(super) authors: Authors,
    /// Most recipients in so much time.
    pub(super) rate: Option<Rate>,
}

impl Settings {
    /// Reads a provider's section.
    pub(super) fn of(spec: &ProviderSpec) -> Result<Self> {
        let dialect = Dialect::of(&spec.kind);
        match Keys(&spec.options).get("host") {
            None if dialect == Dialect::Lmtp => Self::at_socket(&spec.path, &spec.options),
            _ => Self::at_host(dialect, &spec.options),
        }
    }

    /// Reads the keys of a section. Keys that belong to others are passed over.
    fn at_host(dialect: Dialect, options: &[(String, String)]) -> Result<Self> {
        let keys = Keys(options);
        let host = keys.get("host").ok_or_else(|| wrong("host", "is missing"))?;
        let host = checked("host", host)?;
        let security = keys.security(&host, dialect)?;
        let port = keys.port()?.unwrap_or_else(|| dialect.port(security));
        match dialect.forbids(port) {
            Some(why) => Err(wrong("port", why)),
            None => Ok(Self { host, port, ..keys.common(dialect, security)? }),
        }
    }

    /// A server on this host, which only processes of this host can reach.
    fn at_socket(path: &Path, options: &[(String, String)]) -> Result<Self> {
        let strange = |c: char| c.is_control() || c.is_whitespace();
        if !path.is_absolute() || path.to_str().is_none_or(|path| path.contains(strange)) {
            let why =
                "is not the absolute path of a socket, without blanks, and there is no `host`";
            return Err(wrong("path", why));
        }
        let settings = Keys(options).common(Dialect::Lmtp, Security::None)?;
        Ok(Self { socket: Some(path.to_owned()), ..settings })
    }

    /// The server as people know it: `HOST:PORT`, or the path of its socket.
    pub(super) fn place(&self) -> String {
        match (&self.socket, self.host.parse()) {
            (Some(path), _) => path.display().to_string(),
            (None, Ok(IpAddr::V6(address))) => format!("[{address}]:{}", self.port),
            (None, _) => format!("{}:{}", self.host, self.port),
        }
    }

    /// What a server that refuses a logon refuses beside the password: the way to it, how it is spoken to, and who we are there.
    pub(super) fn account(&self) -> String {
        // What is only about messages, or about patience, is left out.
        let Self {
            dialect,
            host: _,
            port: _,
            socket: _,
            security,
            login,
            certificates,
            helo,
            connections: _,
            timeout: _,
            connect_timeout: _,
            max_recipients: _,
            way,
            authors: _,
            rate: _,
        } = self;
        let (place, login) = (self.place(), login.as_ref());
        let login = login.map(|login| (&login.username, login.mechanism.map(Mechanism::name)));
        format!(
            "{place}\n{login:?}\n{dialect:?}\n{security:?}\n{certificates:?}\n{helo:?}\n{way:?}"
        )
    }

    /// What tells one server from another: a host's name in any case, or a path.
    pub(super) fn server(&self) -> String {
        let socket = self.socket.as_ref().map(|path| path.display().to_string());
        socket.unwrap_or_else(|| self.host.to_ascii_lowercase())
    }
}

impl Keys<'_> {
    /// All but the place.
    fn common(&self, dialect: Dialect, security: Security) -> Result<Settings> {
        Ok(Settings {
            dialect,
            host: String::new(),
            port: 0,
            socket: None,
            security,
            login: self.login()?,
            certificates: self.certificates()?,
            helo: self.get("helo").map(|helo| checked("helo", helo)).transpose()?,
            connections: self.positive("connections")?.unwrap_or(CONNECTIONS),
            timeout: self.duration("timeout")?.unwrap_or(TIMEOUT),
            connect_timeout: self.duration("connect_timeout")?.unwrap_or(CONNECT_TIMEOUT),
            max_recipients: self.positive("max_recipients")?.unwrap_or(MAX_RECIPIENTS),
            way: self.way()?,
            authors: self.authors()?,
            rate: self.rate()?,
        })
    }

    fn rate(&self) -> Result<Option<Rate>> {
        let parse = |text: &str| {
            let why = format!("is {text:?}; it must be like \"100/h\"");
            text.parse().map_err(|()| wrong("rate", &why))
        };
        self.get("rate").map(parse).transpose()
    }

    fn security(&self, host: &str, dialect: Dialect) -> Result<Security> {
        let security = match self.get("security") {
            None => dialect.security(),
            Some("starttls") => Security::StartTls,
            Some("tls") => Security::Tls,
            Some("opportunistic") => Security::Opportunistic,
            Some("none") => Security::None,
            Some(other) => {
                let why = format!("is {other:?}; it must be starttls, tls, opportunistic or none");
                return Err(wrong("security", &why));
            }
        };
        self.check_plaintext(host, security)?;
        Ok(security)
    }

    /// In the open goes only what is meant to, and never a password.
    fn check_plaintext(&self, host: &str, security: Security) -> Result<()> {
        let said = match self.get("plaintext") {
            None => false,
            Some(PLAINTEXT) if security == Security::None => true,
            Some(PLAINTEXT) => return Err(wrong("plaintext", "is for security = \"none\" only")),
            Some(other) => {
                return Err(wrong("plaintext", &format!("is {other:?}; it must be {PLAINTEXT}")));
            }
        };
        let is_open = match security {
            Security::StartTls | Security::Tls => false,
            Security::Opportunistic => true,
            // Behind a proxy no host is this one.
            Security::None => !is_loopback(host) || self.get("proxy").is_some(),
        };
        if security == Security::None && is_open && !said {
            let why = format!(
                "is \"none\", and {host} is not this host: take \"starttls\", \"tls\" or \"opportunistic\", or say \
                 plaintext = {PLAINTEXT:?}"
            );
            return Err(wrong("security", &why));
        }
        if is_open && self.get("username").is_some() {
            let why = "is there, and a password does not go where anybody may read it; take security = \"starttls\" or \"tls\"";
            return Err(wrong("username", why));
        }
        Ok(())
    }

    fn authors(&self) -> Result<Authors> {
        let Some(word) = self.get("rewrite_from") else { return Ok(Authors::as_they_are()) };
        let rewrite = Rewrite::parse(word).ok_or_else(|| {
            let why = format!("is {word:?}; it must be never, unqualified or always");
            wrong("rewrite_from", &why)
        })?;
        let senders = self.get("senders").unwrap_or_default().split('\n').filter(|s| !s.is_empty());
        let pattern = |text: &str| {
            let why = format!("is {text:?}, which is neither an address nor a domain");
            Pattern::parse(text).ok_or_else(|| wrong("senders", &why))
        };
        let senders = senders.map(pattern).collect::<Result<Vec<_>>>()?;
        let identity = self.get("identity").unwrap_or_default();
        let host = self.get("mail_host").unwrap_or_default();
        Ok(Authors::new(rewrite, identity, senders, (host, self.get("mail_domain"))))
    }
}

#[cfg(test)]
mod tests {
    use sundown_protocol::Code;

    use super::*;
    use crate::network::secret::Source;
    use crate::network::tls::Proof;

    fn parse(options: &[(&str, &str)]) -> Result<Settings> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let options = options.iter().map(own).collect();
        Settings::of(&ProviderSpec { options, ..ProviderSpec::new("smtp") })
    }

    #[test]
    fn a_host_is_enough() {
        let settings = parse(&[("host", "smtp.example.org")]).expect("settings");
        assert_eq!(settings.place(), "smtp.example.org:587");
        assert_eq!(settings.security, Security::StartTls);
        assert_eq!((settings.connections, settings.max_recipients), (4, 100));
        assert_eq!((settings.timeout, settings.connect_timeout), (TIMEOUT, CONNECT_TIMEOUT));
        assert!(
            settings.login.is_none()
                && settings.helo.is_none()
                && settings.certificates.ca_file.is_none()
        );
    }

    #[test]
    fn the_port_follows_the_security() {
        let port = |security, host| {
            parse(&[("host", host), ("security", security)]).expect("settings").port
        };
        assert_eq!(port("tls", "smtp.example.org"), 465);
        assert_eq!(port("starttls", "smtp.example.org"), 587);
        assert_eq!(port("none", "localhost"), 25);
        let given = parse(&[("host", "::1"), ("security", "none"), ("port", "2525")]);
        assert_eq!(given.expect("settings").place(), "[::1]:2525");
    }

    #[test]
    fn everything_can_be_said() {
        let settings = parse(&[
            ("host", "127.0.0.1"),
            ("security", "none"),
            ("username", "me"),
            ("password_command", "pass show x"),
            ("auth", "xoauth2"),
            ("ca_file", "/etc/ca.pem"),
            ("helo", "me.example.org"),
            ("connections", "2"),
            ("timeout", "1500"),
            ("connect_timeout", "250"),
            ("max_recipients", "7"),
            ("rate", "100/h"),
            ("accept", "not ours"),
        ])
        .expect("settings");
        let login = settings.login.expect("a login");
        assert_eq!(login.mechanism, Some(Mechanism::Xoauth2));
        assert!(matches!(login.source, Source::Command(text) if text == "pass show x"));
        assert_eq!(settings.timeout, Duration::from_millis(1500));
        assert_eq!((settings.connections, settings.max_recipients), (2, 7));
        assert_eq!(settings.rate, "100/h".parse().ok());
    }

    #[test]
    fn an_open_way_stays_on_this_host() {
        for host in ["localhost", "LocalHost.", "127.0.0.1", "127.8.8.8", "::1"] {
            assert!(parse(&[("host", host), ("security", "none")]).is_ok(), "{host}");
        }
        for host in ["example.org", "10.0.0.1", "::2", "localhost.example.org", "0.0.0.0"] {
            let error = parse(&[("host", host), ("security", "none")]).expect_err(host);
            assert_eq!(error.code, Code::E_UNCONFIGURED);
            assert!(error.message.starts_with("security "), "{}", error.message);
        }
    }

    #[test]
    fn an_open_way_elsewhere_is_said_to_be_meant() {
        let open = [("host", "relay.lan"), ("security", "none"), ("plaintext", "i-understand")];
        assert_eq!(parse(&open).expect("settings").security, Security::None);
        let either = parse(&[("host", "relay.lan"), ("security", "opportunistic")]);
        let either = either.expect("settings");
        assert_eq!((either.security, either.port), (Security::Opportunistic, 25));
        assert_eq!(either.certificates.wanted, Proof::None);
    }

    #[test]
    fn a_mistake_names_its_key() {
        let login = [("username", "me"), ("password_env", "X")];
        let open = [("host", "a"), ("security", "none"), ("plaintext", "i-understand")];
        let either = [("host", "localhost"), ("security", "opportunistic")];
        let cases: [(&str, &[(&str, &str)]); 30] = [
            (
                "security",
                &[("host", "localhost"), ("security", "none"), ("proxy", "socks5://localhost")],
            ),
            ("proxy", &[("host", "a"), ("proxy", "localhost:9050")]),
            ("source_address", &[("host", "a"), ("source_address", "here")]),
            ("username", &[&open[..], &login].concat()),
            ("username", &[&either[..], &login].concat()),
            ("plaintext", &[("host", "a"), ("security", "none"), ("plaintext", "yes")]),
            ("plaintext", &[("host", "a"), ("plaintext", "i-understand")]),
            ("security", &open[..2]),
            ("tls_fingerprint", &[("host", "a"), ("tls_fingerprint", "AB:CD")]),
            ("tls_certificate", &[("host", "a"), ("tls_certificate", "/c.pem")]),
            ("tls_key", &[("host", "a"), ("tls_key", "/k.pem")]),
            ("port", &[("host", "a"), ("port", "0")]),
            ("rate", &[("host", "a"), ("rate", "100")]),
            ("timeout", &[("host", "a"), ("timeout", "86400001")]),
            ("host", &[]),
            ("host", &[("host", "")]),
            ("host", &[("host", "a b")]),
            ("host", &[("host", "a\r\nb")]),
            ("port", &[("host", "a"), ("port", "70000")]),
            ("security", &[("host", "a"), ("security", "ssl")]),
            ("auth", &[("host", "a"), ("auth", "ntlm")]),
            ("auth", &[("host", "a"), ("auth", "plain")]),
            ("username", &[("host", "a"), ("username", "me")]),
            ("username", &[("host", "a"), ("password_env", "X")]),
            ("username", &[("host", "a"), ("password_env", "X"), ("username", "a\nb")]),
            ("password_env", &[("host", "a"), ("password_env", "X"), ("password_file", "/x")]),
            ("helo", &[("host", "a"), ("helo", "x\r\nMAIL")]),
            ("connections", &[("host", "a"), ("connections", "0")]),
            ("timeout", &[("host", "a"), ("timeout", "5m")]),
            ("max_recipients", &[("host", "a"), ("max_recipients", "-1")]),
        ];
        for (key, options) in cases {
            let error = parse(options).expect_err(key);
            assert_eq!(error.code, Code::E_UNCONFIGURED, "{key}");
            assert!(error.message.starts_with(&format!("{key} ")), "{key}: {}", error.message);
        }
    }

    fn lmtp(path: &str, options: &[(&str, &str)]) -> Result<Settings> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let options = options.iter().map(own).collect();
        Settings::of(&ProviderSpec { path: path.into(), options, ..ProviderSpec::new("lmtp") })
    }

    #[test]
    fn a_server_for_mailboxes_is_on_a_socket_or_a_host() {
        let socket = lmtp("/run/dovecot/lmtp", &[("timeout", "1500")]).expect("settings");
        assert_eq!((socket.place(), socket.dialect), ("/run/dovecot/lmtp".into(), Dialect::Lmtp));
        assert_eq!((socket.security, socket.timeout.as_millis()), (Security::None, 1500));
        let host = lmtp("/nowhere", &[("host", "::1")]).expect("settings");
        assert_eq!((host.place(), host.security), ("[::1]:24".into(), Security::None));
        let far = [("host", "mail.lan"), ("security", "starttls"), ("port", "2424")];
        assert_eq!(lmtp("", &far).expect("settings").place(), "mail.lan:2424");
        let (upper, lower) = (lmtp("/run/A", &[]), lmtp("/run/a", &[]));
        assert_ne!(upper.expect("settings").server(), lower.expect("settings").server());
        for (key, path, options) in [
            ("security", "", &[("host", "mail.lan")][..]),
            ("port", "", &[("host", "localhost"), ("port", "25")]),
            ("path", "", &[]),
            ("path", "lmtp", &[]),
            ("path", "/run/my socket", &[]),
        ] {
            let error = lmtp(path, options).expect_err(key);
            assert!(error.message.starts_with(&format!("{key} ")), "{key}: {}", error.message);
        }
    }
}
