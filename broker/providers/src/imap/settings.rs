//! What a profile says of an account, as typed values.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use sundown_core::provider::{ProviderError, ProviderSpec};

use crate::Result;
use crate::network::connect::Way;
use crate::network::keys::{Keys, Login, Security, checked, is_loopback, wrong};
use crate::network::mechanism::Mechanism;
use crate::network::tls::Certificates;

/// How long an answer may take: RFC 9051 gives a server 30 minutes of silence, but only while it has nothing to do.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long it may take until a server can be talked to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a profile says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) login: Login,
    pub(super) certificates: Certificates,
    pub(super) way: Way,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// How long it may take to resolve, connect and negotiate TLS.
    pub(super) connect_timeout: Duration,
    pub(super) bodies: Bodies,
    /// The folder that the account's folders come into; nothing of the first mailbox of a profile.
    pub(super) heading: Option<String>,
    /// Where Maildirs are with what another program has fetched.
    pub(super) take_over: Option<PathBuf>,
    pub(super) sent: Sent,
    pub(super) compression: Compression,
    /// Which folders are shown.
    pub(super) folders: Vec<Glob>,
}

/// Which messages are fetched whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bodies {
    All,
    /// Those of the last 90 days.
    Recent,
    /// Those that somebody reads.
    OnDemand,
}

/// Who files a message that is sent from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The server, where it is known to do so; else the mailbox.
    Auto,
    /// The mailbox.
    Append,
    /// The server.
    Server,
}

/// Whether what goes to the server and comes from it is compressed, if the server can do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Wanted,
    Unwanted,
}

/// A pattern for the names of folders: `*` stands for any characters, `!` in front for what is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    shows: bool,
    pattern: String,
}

impl Glob {
    fn parse(text: &str) -> Self {
        let (shows, pattern) = text.strip_prefix('!').map_or((true, text), |rest| (false, rest));
        Self { shows, pattern: pattern.to_owned() }
    }

    fn matches(&self, name: &str) -> bool {
        let mut parts = self.pattern.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut parts: Vec<_> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl Settings {
    /// Reads a provider's section.
    pub(super) fn of(spec: &ProviderSpec) -> Result<Self> {
        let keys = Keys(&spec.options);
        let host = keys.get("host").ok_or_else(|| wrong("host", "is missing"))?;
        let host = checked("host", host)?;
        let security = security(&keys, &host)?;
        let port = keys.port()?.unwrap_or(if security == Security::Tls { 993 } else { 143 });
        let login = keys.login()?.ok_or_else(|| wrong("username", "is missing"))?;
        let values = |key: &str| {
            let named = spec.options.iter().filter(move |(name, _)| name == key);
            named.map(|(_, value)| Glob::parse(value)).collect::<Vec<_>>()
        };
        Ok(Self {
            port,
            security,
            login,
            certificates: keys.certificates()?,
            way: keys.way()?,
            timeout: keys.duration("timeout")?.unwrap_or(TIMEOUT),
            connect_timeout: keys.duration("connect_timeout")?.unwrap_or(CONNECT_TIMEOUT),
            heading: keys.get("heading").map(str::to_owned),
            take_over: keys.get("take_over").map(PathBuf::from),
            bodies: match keys.get("bodies") {
                // What is here already costs nothing.
                None if keys.get("take_over").is_some() => Bodies::All,
                None | Some("recent") => Bodies::Recent,
                Some("all") => Bodies::All,
                Some("on-demand") => Bodies::OnDemand,
                Some(other) => return Err(unknown("bodies", other, "all, recent or on-demand")),
            },
            sent: match keys.get("sent") {
                None | Some("auto") => Sent::Auto,
                Some("append") => Sent::Append,
                Some("server") => Sent::Server,
                Some(other) => return Err(unknown("sent", other, "auto, append or server")),
            },
            compression: match keys.get("compression") {
                // On this host it costs more than it saves.
                None | Some("auto") if stays(&keys, &host) => Compression::Unwanted,
                None | Some("auto" | "always") => Compression::Wanted,
                Some("never") => Compression::Unwanted,
                Some(other) => return Err(unknown("compression", other, "auto, always or never")),
            },
            folders: values("folder"),
            host,
        })
    }

    /// The server as people know it.
    pub(super) fn place(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// What the store calls the account. Another way to the same server is the same account.
    pub(super) fn account(&self) -> PathBuf {
        format!("imap://{}@{}", self.login.username, self.host.to_lowercase()).into()
    }

    /// What a server that refuses a logon refuses beside the password.
    pub(super) fn logon(&self) -> String {
        let Self { security, certificates, way, login, .. } = self;
        let mechanism = login.mechanism.map(Mechanism::name);
        let (place, name) = (self.place(), &login.username);
        format!("{place}\n{name:?}\n{mechanism:?}\n{security:?}\n{certificates:?}\n{way:?}")
    }

    /// Whether a folder with this name is shown: by the last pattern that says something of it, and without any that shows some, unless one
    /// says no.
    pub(super) fn shows(&self, name: &str) -> bool {
        let shown = !self.folders.iter().any(|glob| glob.shows);
        self.folders.iter().rfind(|glob| glob.matches(name)).map_or(shown, |glob| glob.shows)
    }
}

/// Whether nothing that is sent leaves this host.
fn stays(keys: &Keys<'_>, host: &str) -> bool {
    is_loopback(host) && keys.get("proxy").is_none()
}

/// A password goes over a network only where nobody else reads it.
fn security(keys: &Keys<'_>, host: &str) -> Result<Security> {
    match keys.get("security") {
        None | Some("tls") => Ok(Security::Tls),
        Some("starttls") => Ok(Security::StartTls),
        Some("none") if stays(keys, host) => Ok(Security::None),
        Some("none") => {
            let why =
                format!("is \"none\", and {host} is not this host: take \"tls\" or \"starttls\"");
            Err(wrong("security", &why))
        }
        Some(other) => Err(unknown("security", other, "tls, starttls or none")),
    }
}

fn unknown(key: &str, value: &str, known: &str) -> ProviderError {
    wrong(key, &format!("is {value:?}; it must be {known}"))
}

#[cfg(test)]
mod tests {
    use sundown_protocol::Code;

    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Settings> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let options = options.iter().map(own).collect();
        Settings::of(&ProviderSpec { options, ..ProviderSpec::new("imap") })
    }

    const LEAST: [(&str, &str); 3] =
        [("host", "imap.example.org"), ("username", "anna"), ("password_file", "/p")];

    fn with(more: &[(&str, &str)]) -> Result<Settings> {
        parse(&[&LEAST, more].concat())
    }

    #[test]
    fn little_must_be_said() {
        let settings = parse(&LEAST).expect("settings");
        assert_eq!((settings.port, settings.security), (993, Security::Tls));
        assert_eq!((settings.bodies, settings.sent), (Bodies::Recent, Sent::Auto));
        assert_eq!(settings.account(), PathBuf::from("imap://anna@imap.example.org"));
        assert_eq!(settings.place(), "imap.example.org:993");
        let other = with(&[("security", "starttls"), ("bodies", "all")]).expect("settings");
        assert_eq!((other.port, other.bodies), (143, Bodies::All));
        assert_eq!(other.account(), settings.account());
        let second = with(&[("heading", "work")]).expect("settings");
        assert_eq!((settings.heading, second.heading), (None, Some("work".into())));
        let taking = with(&[("take_over", "/mail")]).expect("settings");
        assert_eq!((taking.take_over, taking.bodies), (Some("/mail".into()), Bodies::All));
        let taking = with(&[("take_over", "/mail"), ("bodies", "recent")]).expect("settings");
        assert_eq!(taking.bodies, Bodies::Recent);
        for (key, value) in [
            ("security", "none"),
            ("security", "opportunistic"),
            ("bodies", "some"),
            ("sent", "never"),
            ("compression", "gzip"),
            ("port", "0"),
            ("auth", "magic"),
        ] {
            let error = with(&[(key, value)]).expect_err(value);
            assert_eq!(error.code, Code::E_UNCONFIGURED);
            assert!(error.message.starts_with(key), "{}", error.message);
        }
        assert!(parse(&LEAST[..1]).is_err() && parse(&LEAST[..2]).is_err());
    }

    #[test]
    fn what_stays_on_this_host_is_not_compressed() {
        let (here, away) = (("host", "127.0.0.1"), ("host", "imap.example.org"));
        let proxy = ("proxy", "socks5://127.0.0.1:1080");
        for (options, wanted) in [
            (vec![away], Compression::Wanted),
            (vec![here], Compression::Unwanted),
            (vec![here, proxy], Compression::Wanted),
            (vec![here, ("compression", "always")], Compression::Wanted),
            (vec![away, ("compression", "never")], Compression::Unwanted),
            (vec![away, ("compression", "auto")], Compression::Wanted),
        ] {
            let settings = parse(&[&LEAST[1..], &options].concat()).expect("settings");
            assert_eq!(settings.compression, wanted, "{options:?}");
        }
    }

    #[test]
    fn folders_are_shown_by_patterns() {
        let shown = |patterns: &[&str], name| {
            let options: Vec<_> = patterns.iter().map(|pattern| ("folder", *pattern)).collect();
            with(&options).expect("settings").shows(name)
        };
        assert!(shown(&[], "INBOX") && shown(&["*"], "a/b"));
        assert!(shown(&["INBOX", "Work/*"], "Work/a/b") && !shown(&["INBOX", "Work/*"], "Other"));
        assert!(!shown(&["!Spam"], "Spam") && shown(&["!Spam"], "Spam/a"));
        assert!(shown(&["!a*", "ab*z"], "abcz") && !shown(&["!a*", "ab*z"], "abc"));
        assert!(shown(&["*b*c"], "abbc") && !shown(&["*b*c"], "acb") && !shown(&["ab"], "abc"));
    }
}
