//! Patterns of the addresses that a transport takes, and which addresses are the same one.

use std::borrow::Cow;
use std::fmt;

use sundown_mail::address::{domain_to_ascii, is_domain, split};

/// Which addresses a transport takes. Domains in it are in their ASCII form, in lower case, without the dot that may end them.
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
    /// `anna@example.org`: that address; `anna`: that address without a domain.
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
            _ if text.contains('@') => {
                let (mailbox, domain) = split(&text).ok()?;
                Some(Self::Address(format!("{mailbox}@{}", ascii(domain)?)))
            }
            _ => {
                let below = text.strip_prefix("*.");
                let domain = ascii(below.unwrap_or(&text))?;
                Some(if below.is_some() { Self::Below(domain) } else { Self::Domain(domain) })
            }
        }
    }

    /// The pattern of an address that somebody owns: `anna@example.org`; `*@example.org`, all of a domain; or `anna`, a name without
    /// a domain. A domain alone is none.
    ///
    /// ```
    /// use sundown_core::address::Pattern;
    ///
    /// let own = Pattern::own("anna").unwrap();
    /// assert!(own.takes("Anna") && !own.takes("anna@example.org"));
    /// assert!(Pattern::own("*@example.org").unwrap().takes("sales@example.org"));
    /// assert_eq!(Pattern::own("*"), None);
    /// ```
    pub fn own(text: &str) -> Option<Self> {
        if text.contains('@') {
            return Self::parse(text);
        }
        let name = text.to_lowercase();
        (name != "*" && split(&name).is_ok()).then_some(Self::Address(name))
    }

    fn is_domain(&self) -> bool {
        matches!(self, Self::Domain(_) | Self::Below(_))
    }

    /// Whether it takes this address, which must be valid.
    pub fn takes(&self, address: &str) -> bool {
        let (mailbox, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        let is = |wanted: &str| !domain.is_empty() && same(&canonical(domain), wanted);
        match self {
            Self::Everything => true,
            Self::NoDomain => domain.is_empty(),
            Self::Domain(wanted) => is(wanted),
            Self::Below(suffix) => is_below(&canonical(domain), suffix),
            Self::Address(wanted) => {
                let (wanted, at) = wanted.rsplit_once('@').unwrap_or((wanted, ""));
                let is_there = if at.is_empty() { domain.is_empty() } else { is(at) };
                // An address that was typed in a profile is meant in any case.
                is_there && (same(mailbox, wanted) || mailbox.to_lowercase() == wanted)
            }
            Self::Elsewhere(host) => !domain.is_empty() && !is("localhost") && !is(host),
        }
    }
}

/// A domain as it is compared, but for the case of its letters: in its ASCII form, if it has one, without the dot that may end it.
fn canonical(domain: &str) -> Cow<'_, str> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.is_ascii() {
        return Cow::Borrowed(domain);
    }
    domain_to_ascii(domain).unwrap_or(Cow::Borrowed(domain))
}

/// A domain of a pattern; `None` if it is none, or cannot be written in ASCII.
fn ascii(domain: &str) -> Option<String> {
    let mapped = is_domain(domain).then(|| canonical(domain)).filter(|mapped| mapped.is_ascii())?;
    Some(mapped.to_ascii_lowercase())
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn is_below(domain: &str, suffix: &str) -> bool {
    let front = domain.len().checked_sub(suffix.len()).and_then(|at| domain.split_at_checked(at));
    front.is_some_and(|(front, end)| same(end, suffix) && front.len() > 1 && front.ends_with('.'))
}

/// The address in the form that all spellings of it share. Who a mailbox is, its domain alone knows: its case stays.
pub(crate) fn recipient(address: &str) -> Cow<'_, str> {
    let Some((mailbox, domain)) = address.rsplit_once('@') else { return Cow::Borrowed(address) };
    let mapped = canonical(domain);
    if mapped == domain && !domain.bytes().any(|b| b.is_ascii_uppercase()) {
        return Cow::Borrowed(address);
    }
    Cow::Owned(format!("{mailbox}@{}", mapped.to_ascii_lowercase()))
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
        assert!(takes("ä@b.c", "Ä@B.C") && !takes("b.c", "b") && !takes("*.b.c", "a@b.c"));
    }

    #[test]
    fn an_own_address_has_a_domain_or_none() {
        let takes = |own: &str, address: &str| Pattern::own(own).expect("a pattern").takes(address);
        assert!(takes("Anna", "anna") && takes("anna", "ANNA") && takes("j.doe", "j.doe"));
        assert!(!takes("anna", "anna@b.c") && !takes("anna", "bo") && !takes("b.c", "a@b.c"));
        assert!(takes("a@b.c", "A@B.C.") && !takes("a@b.c", "a"));
        assert!(takes("*@b.c", "x@b.c") && !takes("*@b.c", "x@d.b.c"));
        for none in ["", "*", "a b", "@", "a@", "@b.c", "*@*", "a@b@c"] {
            assert_eq!(Pattern::own(none), None, "{none:?}");
        }
    }

    /// However a domain is written, it is the same one.
    #[test]
    fn spellings_of_a_domain_are_one_domain() {
        let spellings = [
            "müller.example",
            "MÜLLER.Example.",
            "xn--mller-kva.example",
            "XN--Mller-KVA.example.",
        ];
        for pattern in spellings {
            let parse = |text: String| Pattern::parse(&text).expect("a pattern");
            assert_eq!(
                parse(pattern.to_owned()),
                Pattern::Domain("xn--mller-kva.example".to_owned())
            );
            for address in spellings.map(|domain| format!("a@{domain}")) {
                assert!(parse(pattern.to_owned()).takes(&address), "{pattern} {address}");
                assert!(parse(format!("*@{pattern}")).takes(&address));
                assert!(parse(format!("A@{pattern}")).takes(&address));
                assert!(!parse(format!("b@{pattern}")).takes(&address));
                assert!(!parse(format!("*.{pattern}")).takes(&address));
                assert!(parse(format!("*.{pattern}")).takes(&address.replace('@', "@mail.")));
                assert_eq!(recipient(&address), "a@xn--mller-kva.example");
            }
        }
        let host = Pattern::Elsewhere("xn--mller-kva.example".to_owned());
        assert!(spellings.iter().all(|domain| !host.takes(&format!("a@{domain}"))));
        assert_eq!(Pattern::parse("ex\u{ff1e}ample.org"), None);
    }

    #[test]
    fn a_mailbox_keeps_its_case() {
        for (address, same) in [
            ("A@B.C", "A@b.c"),
            ("A@b.c.", "A@b.c"),
            ("Root", "Root"),
            ("\"a@B\"@C", "\"a@B\"@c"),
            ("a@b.c", "a@b.c"),
        ] {
            assert_eq!(recipient(address), same);
        }
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
