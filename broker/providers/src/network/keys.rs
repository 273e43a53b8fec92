//! What a profile says about a server, as typed values: how it is reached, whom TLS trusts, and who we are there.
//!
//! Whoever reads a profile has shown its author every mistake with file and line; here a mistake names its key.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::connect::{Proxy, Way};
use super::mechanism::Mechanism;
use super::secret::Source;
use super::tls::{Certificates, Proof};
use crate::Result;

/// The longest time that anything is waited for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The keys that say where a password is.
const SOURCES: [&str; 4] =
    ["password_command", "password_file", "password_credential", "password_env"];

/// How the way to a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// It begins in the open and must become TLS before anything that matters.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// It becomes TLS if the server offers that, and nobody looks at its certificate. No password goes there.
    Opportunistic,
    /// Not at all: for a server on this host, or where the profile says that it is meant so and no password goes there.
    None,
}

/// Who a server is told we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// The name.
    pub(crate) username: String,
    /// Where its secret comes from.
    pub(crate) source: Source,
    /// How it is proved; `None` takes the best of what the server offers.
    pub(crate) mechanism: Option<Mechanism>,
}

/// The keys of a section.
pub(crate) struct Keys<'a>(pub(crate) &'a [(String, String)]);

impl<'a> Keys<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn number<N: FromStr>(&self, key: &str) -> Result<Option<N>> {
        let parse = |text: &str| {
            text.parse().map_err(|_| wrong(key, &format!("is {text:?}, which is no such number")))
        };
        self.get(key).map(parse).transpose()
    }

    pub(crate) fn positive(&self, key: &str) -> Result<Option<usize>> {
        match self.number(key)? {
            Some(0) => Err(wrong(key, "is 0; it must be at least 1")),
            number => Ok(number),
        }
    }

    pub(crate) fn port(&self) -> Result<Option<u16>> {
        match self.number("port")? {
            Some(0) => Err(wrong("port", "is 0; nothing listens there")),
            port => Ok(port),
        }
    }

    /// Durations come as whole milliseconds.
    pub(crate) fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let duration = self.positive(key)?.map(|n| Duration::from_millis(n as u64));
        match duration {
            Some(long) if long > LONGEST => Err(wrong(key, "is longer than a day")),
            duration => Ok(duration),
        }
    }

    pub(crate) fn way(&self) -> Result<Way> {
        let proxy = |text| {
            let why = format!("is {text:?}; it must be socks5://HOST:PORT");
            Proxy::parse(text).ok_or_else(|| wrong("proxy", &why))
        };
        let proxy = self.get("proxy").map(proxy).transpose()?;
        let source = |text: &str| {
            text.parse()
                .map_err(|_| wrong("source_address", &format!("is {text:?}, no IP address")))
        };
        let source = self.get("source_address").map(source).transpose()?;
        Ok(Way { proxy, source })
    }

    pub(crate) fn certificates(&self) -> Result<Certificates> {
        let fingerprint = self.get("tls_fingerprint").map(|text| {
            text.parse()
                .map_err(|_| wrong("tls_fingerprint", "is not the SHA-256 of a certificate"))
        });
        let path = |key| self.get(key).map(PathBuf::from);
        let wanted = match self.get("security") {
            Some("opportunistic") => Proof::None,
            _ => Proof::Certificate,
        };
        let client = match (path("tls_certificate"), path("tls_key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("tls_certificate", "is there, and no tls_key")),
            (None, Some(_)) => return Err(wrong("tls_key", "is there, and no tls_certificate")),
        };
        Ok(Certificates {
            wanted,
            ca_file: path("ca_file"),
            fingerprint: fingerprint.transpose()?,
            client,
        })
    }

    pub(crate) fn login(&self) -> Result<Option<Login>> {
        let (source, mechanism) = (self.source()?, self.mechanism()?);
        match (self.get("username"), source) {
            (Some(username), Some(source)) => {
                if username.is_empty() || username.contains(|c: char| c.is_control()) {
                    return Err(wrong("username", "is empty or has a control character"));
                }
                Ok(Some(Login { username: username.to_owned(), source, mechanism }))
            }
            (Some(_), None) => Err(wrong(
                "username",
                "is there, and none of password_command, password_file, password_credential and \
                 password_env",
            )),
            (None, Some(_)) => Err(wrong("username", "is missing; there is a password for it")),
            (None, None) if mechanism.is_some() => {
                Err(wrong("auth", "is there, and no username and password"))
            }
            (None, None) => Ok(None),
        }
    }

    pub(crate) fn source(&self) -> Result<Option<Source>> {
        let mut found = SOURCES.iter().filter_map(|key| self.get(key).map(|value| (*key, value)));
        let Some((first, value)) = found.next() else { return Ok(None) };
        if let Some((second, _)) = found.next() {
            return Err(wrong(second, &format!("is there beside {first}; keep one")));
        }
        Ok(Some(match first {
            "password_command" => Source::Command(value.to_owned()),
            "password_file" => Source::File(value.into()),
            "password_credential" => Source::Credential(value.to_owned()),
            _ => Source::Environment(value.to_owned()),
        }))
    }

    pub(crate) fn mechanism(&self) -> Result<Option<Mechanism>> {
        let Some(word) = self.get("auth") else { return Ok(None) };
        let known = Mechanism::ALL.into_iter().find(|one| one.name().to_ascii_lowercase() == word);
        known.map(Some).ok_or_else(|| {
            let names = Mechanism::ALL.map(|one| one.name().to_ascii_lowercase());
            wrong("auth", &format!("is {word:?}; it must be one of {}", names.join(", ")))
        })
    }
}

/// A name that goes into a command as it stands.
pub(crate) fn checked(key: &str, name: &str) -> Result<String> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || "<>/@".contains(c);
    if name.is_empty() || name.contains(bad) {
        return Err(wrong(key, &format!("is {name:?}, which is not the name of a host")));
    }
    Ok(name.to_owned())
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

pub(crate) fn wrong(key: &str, why: &str) -> ProviderError {
    ProviderError::new(Code::E_UNCONFIGURED, format!("{key} {why}"))
}
