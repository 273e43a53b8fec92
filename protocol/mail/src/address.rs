//! Mail addresses: `anna@example.org`, or `anna` for a user of this host.

use std::fmt;

/// The longest address, in bytes: RFC 5321 allows 64 for the mailbox, 255 for the domain, and an `@`.
pub const MAX_ADDRESS: usize = 64 + 1 + MAX_DOMAIN;

/// The longest domain, in bytes.
const MAX_DOMAIN: usize = 255;

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidAddress {
    /// There is nothing.
    Empty,
    /// It is longer than an address may be.
    TooLong,
    /// It has a control character, or outside quotes white space or a character that means something in a list.
    Character,
    /// A colon stands behind an address, as if that were the name of a group.
    Group,
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
            Self::Character => {
                "it has a space, a control character, or one of ()<>[]:;,@\"\\ outside quotes"
            }

            Self::Group => {
                "a colon stands behind an address, which is no name of a group; a comma or the end of a line is missing"
            }
            Self::NoMailbox => "nothing stands in front of the @",
            Self::Domain => "what stands behind the @ is not a domain",
        })
    }
}

/// Splits an address into mailbox and domain. Without an `@` the domain is empty: a user of this host.
///
/// ```
/// use sundown_mail::address::{InvalidAddress, split};
///
/// assert_eq!(split("anna@example.org"), Ok(("anna", "example.org")));
/// assert_eq!(split("\"an na\"@[192.0.2.1]"), Ok(("\"an na\"", "[192.0.2.1]")));
/// assert_eq!(split("anna"), Ok(("anna", "")));
/// let why = split("anna@").unwrap_err();
/// assert_eq!(why, InvalidAddress::Domain);
/// assert_eq!(why.to_string(), "what stands behind the @ is not a domain");
/// assert_eq!(split("an na@example.org"), Err(InvalidAddress::Character));
/// ```
pub fn split(address: &str) -> Result<(&str, &str), InvalidAddress> {
    match plain(address) {
        Some(parts) => Ok(parts),
        None => judge(address),
    }
}

/// The parts of an address as most are: letters, digits and a few more in ASCII. It is the same as what [`judge`] says of it.
fn plain(address: &str) -> Option<(&str, &str)> {
    let (mailbox, domain) = address.split_once('@')?;
    let in_mailbox = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let mut before = b'.';
    let in_domain = |b: u8| {
        let fits = b.is_ascii_alphanumeric() || (b == b'.' && before != b'.');
        before = b;
        fits
    };
    let fits = address.len() <= MAX_ADDRESS
        && domain.len() <= MAX_DOMAIN
        && !mailbox.is_empty()
        && mailbox.bytes().all(in_mailbox)
        && domain.bytes().all(in_domain)
        && before != b'.';
    fits.then_some((mailbox, domain))
}

fn judge(address: &str) -> Result<(&str, &str), InvalidAddress> {
    // Quotes around nothing name no user of this host.
    if address.is_empty() || address == "\"\"" {
        return Err(InvalidAddress::Empty);
    }
    if address.len() > MAX_ADDRESS {
        return Err(InvalidAddress::TooLong);
    }
    // A quoted mailbox may hold an @, so the last one counts.
    let (mailbox, domain) = match address.rsplit_once('@') {
        Some((mailbox, domain)) => (mailbox, Some(domain)),
        None => (address, None),
    };
    if domain == Some("") {
        return Err(InvalidAddress::Domain);
    }
    if mailbox.is_empty() {
        return Err(InvalidAddress::NoMailbox);
    }
    let quoted = is_quoted(mailbox);
    if !quoted && is_named_by_address(address) {
        return Err(InvalidAddress::Group);
    }
    let special = |c: char| {
        matches!(c, '(' | ')' | '<' | '>' | '[' | ']' | ':' | ';' | ',' | '@' | '"' | '\\')
    };
    let bad_in_mailbox = |c: char| c.is_control() || (!quoted && (c.is_whitespace() || special(c)));
    if mailbox.contains(bad_in_mailbox) {
        return Err(InvalidAddress::Character);
    }
    match domain {
        None => Ok((mailbox, "")),
        Some(domain) if is_domain(domain) => Ok((mailbox, domain)),
        Some(_) => Err(InvalidAddress::Domain),
    }
}

/// Whether a word with an `@` stands in front of a colon, as in `a@b Bcc: c@d`.
fn is_named_by_address(address: &str) -> bool {
    let literal = |word: &str| word.contains('[');
    address
        .split_once(": ")
        .is_some_and(|(name, _)| name.split(' ').any(|word| word.contains('@') && !literal(word)))
}

/// Whether quotes are around all of it, and none is within that is not escaped.
pub(crate) fn is_quoted(mailbox: &str) -> bool {
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

/// Whether a text is what may stand behind the `@`: a domain, or an address in brackets.
///
/// ```
/// use sundown_mail::address::is_domain;
///
/// assert!(is_domain("example.org") && is_domain("bücher.example.") && is_domain("[IPv6:::1]"));
/// assert!(!is_domain("") && !is_domain("a..b") && !is_domain("-a.b") && !is_domain("[]"));
/// ```
pub fn is_domain(text: &str) -> bool {
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let in_literal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-');
    let in_label = |c: char| {
        let plain = c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        plain || (!c.is_ascii() && !c.is_whitespace() && !c.is_control())
    };
    let is_label = |l: &str| {
        !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.chars().all(in_label)
    };
    match literal {
        _ if text.len() > MAX_DOMAIN => false,
        Some(inner) => !inner.is_empty() && inner.chars().all(in_literal),
        None => text.strip_suffix('.').unwrap_or(text).split('.').all(is_label),
    }
}

/// Whether an address has a domain of several words, so that it can mean something on another host.
///
/// ```
/// use sundown_mail::address::is_full;
///
/// assert!(is_full("anna@example.org"));
/// assert!(!is_full("anna") && !is_full("anna@vm") && !is_full("anna@localhost.localdomain") && !is_full("a b@c.d"));
/// ```
pub fn is_full(address: &str) -> bool {
    let is_one = |domain: &str| domain.eq_ignore_ascii_case("localhost.localdomain");
    split(address).is_ok_and(|(_, domain)| domain.contains('.') && !is_one(domain))
}

/// A domain in its ASCII form, in lower case where it had another; `None` if it has none. A domain that is ASCII stays as it is.
///
/// Some characters are mapped to others, also to those that end an address or a command; what they come to must be a domain.
///
/// ```
/// use sundown_mail::address::domain_to_ascii;
///
/// assert_eq!(domain_to_ascii("Bücher.example").as_deref(), Some("xn--bcher-kva.example"));
/// assert_eq!(domain_to_ascii("Example.ORG").as_deref(), Some("Example.ORG"));
/// assert_eq!(domain_to_ascii("a\u{ff1e}b"), None);
/// ```
#[cfg(feature = "idn")]
pub fn domain_to_ascii(domain: &str) -> Option<std::borrow::Cow<'_, str>> {
    use std::borrow::Cow;

    let mapped = match domain {
        ascii if ascii.is_ascii() => Cow::Borrowed(ascii),
        other => Cow::Owned(idna::domain_to_ascii(other).ok()?),
    };
    Some(mapped).filter(|mapped| is_domain(mapped))
}

/// An address whose domain is in its ASCII form, without the dot that may end it, as it stands in a field. What is no address, or has
/// a domain without such a form, stays as it is.
///
/// ```
/// use sundown_mail::address::to_ascii;
///
/// assert_eq!(to_ascii("anna@b\u{fc}cher.example."), "anna@xn--bcher-kva.example");
/// assert_eq!(to_ascii("anna@Example.ORG"), "anna@Example.ORG");
/// assert_eq!(to_ascii("anna"), "anna");
/// ```
#[cfg(feature = "idn")]
pub fn to_ascii(address: &str) -> std::borrow::Cow<'_, str> {
    use std::borrow::Cow;

    let Ok((mailbox, domain)) = split(address) else { return Cow::Borrowed(address) };
    match domain_to_ascii(domain.strip_suffix('.').unwrap_or(domain)) {
        Some(mapped) if mapped != domain => Cow::Owned(format!("{mailbox}@{mapped}")),
        Some(_) | None => Cow::Borrowed(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is plain is judged as anything else: every short text of some characters, and long ones.
    #[test]
    fn a_plain_address_is_what_it_is_judged_to_be() {
        let mut plain_ones = 0;
        let mut compare = |text: &str| {
            if let Some(parts) = plain(text) {
                plain_ones += 1;
                assert_eq!(judge(text), Ok(parts), "{text:?}");
            }
        };
        let alphabet = ['a', '1', '.', '-', '_', '+', '@', '"', ' ', '['];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            texts = texts
                .iter()
                .flat_map(|t| alphabet.iter().map(move |c| format!("{t}{c}")))
                .collect();
            for text in &texts {
                compare(text);
            }
        }
        for (mailbox, domain) in [(64, 255), (65, 255), (1, 256), (1, 400), (400, 1)] {
            compare(&format!("{}@{}", "a".repeat(mailbox), "b".repeat(domain)));
        }
        assert!(plain_ones > 500, "{plain_ones} were plain");
    }

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
            "a@[]",
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
    fn each_reason_is_told() {
        let cases = [
            ("", InvalidAddress::Empty),
            ("\"\"", InvalidAddress::Empty),
            ("@", InvalidAddress::Domain),
            ("@b", InvalidAddress::NoMailbox),
            ("a@", InvalidAddress::Domain),
            ("a@b c", InvalidAddress::Domain),
            ("a b@c", InvalidAddress::Character),
            ("\"a@b\"", InvalidAddress::Character),
            ("a@b Bcc: c@d", InvalidAddress::Group),
            ("a@b: c", InvalidAddress::Group),
            ("g: a@b", InvalidAddress::Character),
        ];
        for (text, why) in cases {
            assert_eq!(split(text), Err(why), "{text:?}");
        }
        let longest = format!("{}@{}b", "a".repeat(64), "b.".repeat(127));
        assert!(longest.len() == MAX_ADDRESS && split(&longest).is_ok());
        assert_eq!(split(&format!("a{longest}")), Err(InvalidAddress::TooLong));
        assert_eq!(split(&format!("a@{}b", "b.".repeat(128))), Err(InvalidAddress::Domain));
    }

    /// What is mapped must be a domain: some characters beyond ASCII stand for those that end an address.
    #[test]
    fn a_mapped_domain_is_a_domain() {
        for domain in
            ["ex\u{ff1e}\u{3000}NOTIFY\u{ff1d}never", "x\u{ff1c}", "a\u{ff20}b", "\u{ff0e}\u{fc}"]
        {
            assert_eq!(domain_to_ascii(domain), None, "{domain}");
        }
        for (domain, ascii) in
            [("b\u{fc}cher.example", "xn--bcher-kva.example"), ("\u{fc}\u{3002}b", "xn--tda.b")]
        {
            assert_eq!(domain_to_ascii(domain).as_deref(), Some(ascii));
        }
        assert_eq!(domain_to_ascii("[192.0.2.1]").as_deref(), Some("[192.0.2.1]"));
        assert_eq!(domain_to_ascii("a b"), None);
    }
}
