//! Patterns of the addresses that a transport takes.

use std::fmt;

use sundown_mail::address::{is_domain, split};

/// The addresses that a transport takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// `*`: every address.
    Everything,
    /// An address without a domain.
    NoDomain,
    /// `example.org`: that domain.
    Domain(String),
    /// `*.example.org`: every domain below that one.
    Below(String),
    /// `anna@example.org`: that address.
    Address(String),
    /// Every address with a domain that is neither `localhost` nor the host with this name. No `accept` spells it.
    Elsewhere(String),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::NoDomain => f.write_str("users of this host"),
            Self::Domain(domain) => f.write_str(domain),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Address(address) => f.write_str(address),
            Self::Elsewhere(_) => f.write_str("addresses elsewhere"),
        }
    }
}

impl Pattern {
    /// The pattern that a profile's `accept` spells.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        match text.as_str() {
            "" => None,
            "*" => Some(Self::Everything),
            _ if text.starts_with("*@") => Self::parse(&text[2..]).filter(Self::is_domain),
            _ if text.contains('@') => split(&text).is_ok().then_some(Self::Address(text)),
            _ => {
                let below = text.strip_prefix("*.");
                let domain = below.unwrap_or(&text);
                let domain = is_domain(domain).then(|| domain.to_owned())?;
                Some(if below.is_some() { Self::Below(domain) } else { Self::Domain(domain) })
            }
        }
    }

    fn is_domain(&self) -> bool {
        matches!(self, Self::Domain(_) | Self::Below(_))
    }

    /// Whether it takes this address, which must be valid.
    pub fn takes(&self, address: &str) -> bool {
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let below = |suffix: &str| {
            let (d, s) = (domain.to_lowercase(), suffix);
            d.strip_suffix(s).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
        };
        match self {
            Self::Everything => true,
            Self::NoDomain => domain.is_empty(),
            Self::Domain(wanted) => !domain.is_empty() && domain.to_lowercase() == *wanted,
            Self::Below(suffix) => below(suffix),
            Self::Address(wanted) => address.to_lowercase() == *wanted,
            Self::Elsewhere(host) => {
                // The final dot of a rooted name does not change whose mail it is.
                let domain = domain.strip_suffix('.').unwrap_or(domain).to_lowercase();
                !domain.is_empty() && domain != "localhost" && domain != *host
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_what_they_say() {
        let takes = |pattern: &str, address: &str| {
            Pattern::parse(pattern).expect("a pattern").takes(address)
        };
        assert!(takes("*", "a@b") && takes("*", "a"));
        assert!(takes("localhost", "a@LOCALHOST") && !takes("localhost", "a"));
        assert!(takes("*.lan", "a@x.lan") && takes("*.lan", "a@y.x.LAN"));
        assert!(!takes("*.lan", "a@lan") && !takes("*.lan", "a@xlan"));
        assert!(takes("*@b.c", "a@b.c") && !takes("*@b.c", "a@x.b.c"));
        assert_eq!(Pattern::parse("*@a@b.c"), None);
        assert!(takes("a@b.c", "A@B.C") && !takes("a@b.c", "b@b.c"));
        assert!(Pattern::NoDomain.takes("root") && !Pattern::NoDomain.takes("root@x"));
        assert_eq!(Pattern::parse("a b"), None);
    }

    #[test]
    fn elsewhere_is_every_domain_but_this_host() {
        let elsewhere = Pattern::Elsewhere("host.lan".to_owned());
        for address in ["a@example.org", "a@lan", "a@x.host.lan", "a@localhost.lan", "a@[::1]"] {
            assert!(elsewhere.takes(address), "{address}");
        }
        for address in ["root", "a@localhost", "a@LocalHost", "a@HOST.Lan", "a@localhost."] {
            assert!(!elsewhere.takes(address), "{address}");
        }
        let unnamed = Pattern::Elsewhere(String::new());
        assert!(unnamed.takes("a@b") && !unnamed.takes("a") && !unnamed.takes("a@localhost"));
        assert_eq!(elsewhere.to_string(), "addresses elsewhere");
    }
}
