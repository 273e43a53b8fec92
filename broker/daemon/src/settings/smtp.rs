//! How what an SMTP transport needs is spelled: hosts, ports, words, and where its password is.
//!
//! What is refused is not shown where it may be a password: people write one where its place belongs.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use sundown_mail::address;

use super::value::Spelling;

/// `host`.
pub(super) enum Host {}

impl Spelling for Host {
    type Value = String;
    const EXPECTED: &'static str = "a host's name or its IP address, without a port";

    fn text(text: &str) -> Option<String> {
        valid_host(text).then(|| text.to_owned())
    }
}

/// Whether a text can be the `host` of an SMTP transport: a name or an IP address.
pub fn valid_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_domain(text)
}

/// Addresses in brackets are domains in mail, and not in settings.
fn is_domain(text: &str) -> bool {
    !text.starts_with('[') && address::is_domain(text)
}

/// Whether mail to that host stays on this machine.
pub fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

/// `security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    /// It starts in the clear; nothing but `STARTTLS` is said before it is encrypted.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// Encrypted if the server offers that, whoever it is.
    Opportunistic,
    /// In the clear.
    None,
}

impl Security {
    const ALL: [Self; 4] = [Self::Starttls, Self::Tls, Self::Opportunistic, Self::None];

    /// The word in settings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Tls => "tls",
            Self::Opportunistic => "opportunistic",
            Self::None => "none",
        }
    }

    /// The port that is meant when none is given: submission, submission by TLS (RFC 8314), relay.
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::Opportunistic | Self::None => 25,
        }
    }
}

/// `security`.
pub(super) enum SecurityWord {}

impl Spelling for SecurityWord {
    type Value = Security;
    const EXPECTED: &'static str = "\"starttls\", \"tls\", \"opportunistic\" or \"none\"";

    fn text(text: &str) -> Option<Security> {
        Security::ALL.into_iter().find(|word| word.name() == text)
    }
}

/// `security` of an account. A password goes there, so it is encrypted, or does not leave this host.
pub(super) enum AccountSecurityWord {}

impl Spelling for AccountSecurityWord {
    type Value = Security;
    const EXPECTED: &'static str = "\"tls\", \"starttls\" or \"none\"";

    fn text(text: &str) -> Option<Security> {
        SecurityWord::text(text).filter(|word| *word != Security::Opportunistic)
    }
}

/// `auth` of an account.
pub(super) enum AccountAuthWord {}

impl Spelling for AccountAuthWord {
    type Value = String;
    const EXPECTED: &'static str =
        "\"plain\", \"login\", \"scram-sha-256\", \"scram-sha-1\", \"xoauth2\" or \"oauthbearer\"";

    fn text(text: &str) -> Option<String> {
        AuthWord::text(text).or_else(|| (text == "oauthbearer").then(|| text.to_owned()))
    }
}

/// `plaintext`.
pub(super) enum Plaintext {}

impl Spelling for Plaintext {
    type Value = String;
    const EXPECTED: &'static str = "\"i-understand\"";

    fn text(text: &str) -> Option<String> {
        (text == "i-understand").then(|| text.to_owned())
    }
}

/// `auth`.
pub(super) enum AuthWord {}

impl Spelling for AuthWord {
    type Value = String;
    const EXPECTED: &'static str =
        "\"plain\", \"login\", \"scram-sha-256\", \"scram-sha-1\" or \"xoauth2\"";

    fn text(text: &str) -> Option<String> {
        let known = ["plain", "login", "scram-sha-256", "scram-sha-1", "xoauth2"];
        known.contains(&text).then(|| text.to_owned())
    }
}

/// `tls_fingerprint`.
pub(super) enum Fingerprint {}

impl Spelling for Fingerprint {
    type Value = String;
    const EXPECTED: &'static str = "the SHA-256 of a certificate: 64 hexadecimal digits, or 32 pairs of them with colons between";

    fn text(text: &str) -> Option<String> {
        let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let whole = text.len() == 64 && hexadecimal(text);
        let pairs = text.split(':').all(|pair| pair.len() == 2 && hexadecimal(pair));
        (whole || text.len() == 95 && pairs).then(|| text.to_owned())
    }
}

/// `proxy`.
pub(super) enum Proxy {}

impl Spelling for Proxy {
    type Value = String;
    const EXPECTED: &'static str = "\"socks5://HOST:PORT\", a proxy that wants no login";

    fn text(text: &str) -> Option<String> {
        let place = text.strip_prefix("socks5://")?;
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')?),
            None => place.rsplit_once(':')?,
        };
        let port: u16 = port.parse().ok()?;
        (valid_host(host) && host.is_ascii() && port > 0).then(|| text.to_owned())
    }

    fn shown(_value: &str) -> String {
        unseen()
    }
}

/// `source_address`.
pub(super) enum SourceAddress {}

impl Spelling for SourceAddress {
    type Value = IpAddr;
    const EXPECTED: &'static str = "an IP address of this host";

    fn text(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }
}

/// `username`.
pub(super) enum UserName {}

impl Spelling for UserName {
    type Value = String;
    const EXPECTED: &'static str = "a name without control characters";

    fn text(text: &str) -> Option<String> {
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
    }
}

/// `password_command`.
pub(super) enum CommandLine {}

impl Spelling for CommandLine {
    type Value = String;
    const EXPECTED: &'static str = "a command line as a text";

    fn text(text: &str) -> Option<String> {
        (!text.trim().is_empty() && !text.contains('\0')).then(|| text.to_owned())
    }

    fn shown(_value: &str) -> String {
        unseen()
    }
}

/// `password_credential`.
pub(super) enum Credential {}

impl Spelling for Credential {
    type Value = String;
    const EXPECTED: &'static str = "the name of a credential: no \"/\" in it, no \".\" first";

    fn text(text: &str) -> Option<String> {
        let refused = |c: char| c == '/' || c.is_control();
        let plain = !text.contains(refused) && !text.starts_with('.');
        (plain && (1..=255).contains(&text.len())).then(|| text.to_owned())
    }

    fn shown(_value: &str) -> String {
        unseen()
    }
}

/// `password_env`.
pub(super) enum Variable {}

impl Spelling for Variable {
    type Value = String;
    const EXPECTED: &'static str =
        "the name of a variable: letters, digits and \"_\", no digit first";

    fn text(text: &str) -> Option<String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let named = !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit());
        (named && text.bytes().all(allowed)).then(|| text.to_owned())
    }

    fn shown(_value: &str) -> String {
        unseen()
    }
}

fn unseen() -> String {
    "the value (not shown here)".to_owned()
}

/// `helo`.
pub(super) enum HeloName {}

impl Spelling for HeloName {
    type Value = String;
    const EXPECTED: &'static str = "a host's name in ASCII, or an address such as \"[192.0.2.1]\"";

    fn text(text: &str) -> Option<String> {
        (address::is_domain(text) && text.is_ascii()).then(|| text.to_owned())
    }
}

/// `port`.
pub(super) enum Port {}

impl Spelling for Port {
    type Value = u16;
    const EXPECTED: &'static str = "a whole number from 1 to 65535";

    fn text(_text: &str) -> Option<u16> {
        None
    }

    fn integer(number: i64) -> Option<u16> {
        within(number, 1..=u16::MAX)
    }
}

/// `connections`.
pub(super) enum Connections {}

impl Spelling for Connections {
    type Value = u16;
    const EXPECTED: &'static str = "a whole number from 1 to 64";

    fn text(_text: &str) -> Option<u16> {
        None
    }

    fn integer(number: i64) -> Option<u16> {
        within(number, 1..=64)
    }
}

/// `max_recipients`.
pub(super) enum MaxRecipients {}

impl Spelling for MaxRecipients {
    type Value = u16;
    const EXPECTED: &'static str = "a whole number from 1 to 10000";

    fn text(_text: &str) -> Option<u16> {
        None
    }

    fn integer(number: i64) -> Option<u16> {
        within(number, 1..=10_000)
    }
}

/// `rate`.
pub(super) enum Rate {}

impl Spelling for Rate {
    type Value = String;
    const EXPECTED: &'static str =
        "how many recipients in a second, minute, hour or day, such as \"100/h\" (s, m, h or d)";

    fn text(text: &str) -> Option<String> {
        let (recipients, unit) = text.split_once('/')?;
        let digits = recipients.bytes().all(|byte| byte.is_ascii_digit());
        let some = digits && recipients.parse::<u32>().is_ok_and(|number| number > 0);
        (some && ["s", "m", "h", "d"].contains(&unit)).then(|| text.to_owned())
    }
}

fn within(number: i64, range: RangeInclusive<u16>) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| range.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["mx", "smtp.example.org", "smtp.example.org.", "192.0.2.1", "::1", "ö.example"]
        {
            assert!(valid_host(good), "{good}");
        }
        let bad = ["", " ", "a b", "a:25", "[::1]", "a..b", "-a", "a/b", "a@b", "a\n", "a\u{85}b"];
        for bad in bad {
            assert!(!valid_host(bad), "{bad:?}");
        }
        for near in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.8.7", "::1"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["localhost.example.org", "128.0.0.1", "::2", "127.0.0.1.example.org", "lo"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn places_of_passwords() {
        assert!(CommandLine::text("pass show mail/work").is_some());
        assert_eq!((CommandLine::text(" "), CommandLine::text("a\0b")), (None, None));
        assert!(Credential::text("smtp.work").is_some());
        for bad in ["", ".", ".hidden", "a/b", "/run/x", "a\nb", &"x".repeat(256)] {
            assert_eq!(Credential::text(bad), None, "{bad:?}");
        }
        assert!(Variable::text("_MAIL_2").is_some());
        for bad in ["", "2MAIL", "A=B", "$MAIL", "my secret", "ä"] {
            assert_eq!(Variable::text(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ways() {
        for good in ["socks5://localhost:9050", "socks5://[::1]:1080", "socks5://192.0.2.1:1"] {
            assert_eq!(Proxy::text(good).as_deref(), Some(good));
        }
        for bad in [
            "localhost:9050",
            "socks5://a",
            "socks5://a:0",
            "socks5://u:p@a:1",
            "http://a:1",
            "socks5://:1",
        ] {
            assert_eq!(Proxy::text(bad), None, "{bad}");
        }
        assert!(SourceAddress::text("::1").is_some() && SourceAddress::text("localhost").is_none());
    }

    #[test]
    fn fingerprints() {
        let (plain, pairs) = ("aB".repeat(32), "aB:".repeat(32));
        for good in [&plain[..], &pairs[..95]] {
            assert_eq!(Fingerprint::text(good).as_deref(), Some(good));
        }
        for bad in ["", "aB", &plain[..63], &pairs, &pairs.replace(':', " ")[..95], &"g".repeat(64)]
        {
            assert_eq!(Fingerprint::text(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_words_and_numbers() {
        assert!(HeloName::text("host.lan").is_some() && HeloName::text("[192.0.2.1]").is_some());
        assert_eq!((HeloName::text("a b"), HeloName::text("ö.lan")), (None, None));
        assert_eq!((UserName::text(""), UserName::text("a\0b")), (None, None));
        assert_eq!(SecurityWord::text("tls"), Some(Security::Tls));
        assert_eq!((SecurityWord::text("TLS"), AuthWord::text("cram-md5")), (None, None));
        assert!(Rate::text("100/h").is_some() && Rate::text("1/s").is_some());
        for bad in ["", "100", "0/h", "-1/h", "+1/h", "1/w", "1 / h", "9999999999/d"] {
            assert_eq!(Rate::text(bad), None, "{bad:?}");
        }
        assert_eq!((Port::integer(65535), Port::integer(65536)), (Some(65535), None));
        assert_eq!((Connections::integer(64), Connections::integer(65)), (Some(64), None));
        assert_eq!(
            (MaxRecipients::integer(0), MaxRecipients::integer(10_000)),
            (None, Some(10_000))
        );
    }
}
