//! Addresses and the patterns of those that a transport takes.

use std::fmt;

/// The longest address, in bytes: RFC 5321 allows 64 for the mailbox, 255 for the domain, and an `@`.
const MAX_ADDRESS: usize = 64 + 1 + 255;

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidAddress {
    /// There is nothing.
    Empty,
    /// It is longer than an address may be.
    TooLong,
    /// It has white space or a control character outside quotes.
    Character,
    /// The part in front of the `@` is missing.
    NoMailbox,
    /// The part behind the `@` is missing or is not a domain.
    Domain,
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is longer than 320 bytes",
            Self::Character => "it has a space or a control character",
            Self::NoMailbox => "nothing stands in front of the @",
            Self::Domain => "what stands behind the @ is not a domain",
        })
    }
}

/// Whether quotes are around all of it, and none is within that is not escaped.
fn is_quoted(mailbox: &str) -> bool {
    let inner = mailbox.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else { return false };
    let mut escaped = false;
    let ends = |c: char| {
        let ends = !escaped && c == '"';
        escaped = !escaped && c == '\\';
        ends
    };
    !inner.contains(ends) && !escaped
}

/// Splits an address into mailbox and domain. Without an `@` the domain is empty: a user of this host.
///
/// ```
/// use sundown_core::address::split;
///
/// assert_eq!(split("anna@example.org"), Ok(("anna", "example.org")));
/// assert_eq!(split("anna"), Ok(("anna", "")));
/// assert!(split("anna@").is_err());
/// assert!(split("an na@example.org").is_err());
/// ```
pub fn split(address: &str) -> Result<(&str, &str), InvalidAddress> {
    if address.is_empty() {
        return Err(InvalidAddress::Empty);
    }
    if address.len() > MAX_ADDRESS {
        return Err(InvalidAddress::TooLong);
    }
    // A quoted mailbox may hold an @, so the last one counts.
    let (mailbox, domain) = match address.rsplit_once('@') {
        Some((_, "")) => return Err(InvalidAddress::Domain),
        Some((mailbox, domain)) => (mailbox, domain),
        None => (address, ""),
    };
    if mailbox.is_empty() {
        return Err(InvalidAddress::NoMailbox);
    }
    let quoted = is_quoted(mailbox);
    let special = |c: char| {
        matches!(c, '(' | ')' | '<' | '>' | '[' | ']' | ':' | ';' | ',' | '@' | '"' | '\\')
    };
    let bad_in_mailbox = |c: char| c.is_control() || (!quoted && (c.is_whitespace() || special(c)));
    if mailbox.contains(bad_in_mailbox) {
        return Err(InvalidAddress::Character);
    }
    let literal = domain.len() >= 2 && domain.starts_with('[') && domain.ends_with(']');
    let in_label = |c: char| {
        let plain = c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        plain || (!c.is_ascii() && !c.is_whitespace() && !c.is_control())
    };
    let label = |l: &str| {
        !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.chars().all(in_label)
    };
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-');
    let fits = if literal {
        domain[1..domain.len() - 1].chars().all(inside)
    } else {
        domain.is_empty() || domain.strip_suffix('.').unwrap_or(domain).split('.').all(label)
    };
    if fits { Ok((mailbox, domain)) } else { Err(InvalidAddress::Domain) }
}

/// Which addresses a transport takes.
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
    /// Every address with a domain that is neither `localhost` nor the host of that name; no `accept` spells it.
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
                split(&format!("x@{domain}")).ok()?;
                let domain = domain.to_owned();
                Some(if below.is_some() { Self::Below(domain) } else { Self::Domain(domain) })
            }
        }
    }

    fn is_domain(&self) -> bool {
        matches!(self, Self::Domain(_) | Self::Below(_))
    }

    /// Whether it takes this address, which must be one.
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
                // The dot of a rooted name changes nothing about whose mail it is.
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
    fn what_is_no_address_is_refused() {
        let bad = [
            "",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b c",
            "a@b..c",
            "a@-b",
            "<a@b>",
            "a,b@c",
            "a\n@b",
            "a@b@c",
            "a@[",
            "a@.",
            "\u{7f}@b",
            "a@b\u{3000}c",
            "a@b\u{85}",
            "\"a\"b\"@c",
            "\"a\\\"@b",
            "\"",
        ];
        for text in bad {
            assert!(split(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(split(&"a".repeat(321)), Err(InvalidAddress::TooLong));
    }

    #[test]
    fn what_is_an_address_is_taken() {
        let good = [
            "a",
            "a@b",
            "a.b+c@d.example",
            "\"a b@c\"@d",
            "\"a \\\" b\\\\\"@c",
            "ü@ö.example",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "o'neil@b.c",
        ];
        for text in good {
            assert!(split(text).is_ok(), "{text:?} was refused");
        }
    }

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
