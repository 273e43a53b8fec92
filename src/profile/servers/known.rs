//! Mail services that many people have an account at, with the servers that they publish.

/// A mail service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    /// The domains of its addresses, with a space between two.
    domains: &'static str,
    /// The server that takes mail: its host, and how the connection is encrypted.
    pub(super) outgoing: (&'static str, &'static str),
    /// The host of the IMAP server, which has TLS at port 993.
    pub(super) incoming: &'static str,
    /// What logs on to the IMAP server.
    pub(super) login: Login,
    /// The way to log on, if it is not a password.
    pub(super) auth: Option<&'static str>,
    /// What people have to know before they log on.
    pub(super) hint: Option<&'static str>,
}

/// The user name at the IMAP server. The server for outgoing mail always takes the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    Address,
    /// The part of the address in front of the `@`.
    LocalPart,
}

/// The usual service, for those below.
const USUAL: Service = Service {
    name: "",
    domains: "",
    outgoing: ("", "tls"),
    incoming: "",
    login: Login::Address,
    auth: None,
    hint: None,
};

const SERVICES: [Service; 15] = [
    Service {
        name: "Gmail",
        domains: "gmail.com googlemail.com",
        outgoing: ("smtp.gmail.com", "tls"),
        incoming: "imap.gmail.com",
        hint: Some(
            "Gmail takes an app password (https://myaccount.google.com/apppasswords), not that of the account",
        ),
        ..USUAL
    },
    Service {
        name: "Outlook.com",
        domains: "outlook.com outlook.at outlook.de outlook.es outlook.fr outlook.it hotmail.com \
                  hotmail.co.uk hotmail.de hotmail.es hotmail.fr hotmail.it live.com live.co.uk live.de live.fr live.it \
                  live.nl msn.com windowslive.com",
        outgoing: ("smtp-mail.outlook.com", "starttls"),
        incoming: "outlook.office365.com",
        auth: Some("xoauth2"),
        hint: Some(
            "Microsoft takes no password but an OAuth 2.0 access token: --password-command must print one",
        ),
        ..USUAL
    },
    Service {
        name: "iCloud",
        domains: "icloud.com me.com mac.com",
        outgoing: ("smtp.mail.me.com", "starttls"),
        incoming: "imap.mail.me.com",
        login: Login::LocalPart,
        hint: Some(
            "iCloud takes an app-specific password (https://account.apple.com), not that of the account",
        ),
        ..USUAL
    },
    Service {
        name: "Fastmail",
        domains: "fastmail.com fastmail.fm fastmail.net fastmail.org",
        outgoing: ("smtp.fastmail.com", "tls"),
        incoming: "imap.fastmail.com",
        hint: Some(
            "Fastmail takes an app password (Settings, Privacy & Security), not that of the account",
        ),
        ..USUAL
    },
    Service {
        name: "Yahoo",
        domains: "yahoo.com yahoo.co.in yahoo.co.nz yahoo.co.uk yahoo.com.ar \
                  yahoo.com.au yahoo.com.br yahoo.com.mx yahoo.de yahoo.es yahoo.fr yahoo.it yahoo.se myyahoo.com rocketmail.com ymail.com",
        outgoing: ("smtp.mail.yahoo.com", "tls"),
        incoming: "imap.mail.yahoo.com",
        hint: Some("Yahoo takes an app password (Account security), not that of the account"),
        ..USUAL
    },
    Service {
        name: "AOL",
        domains: "aol.com aol.co.uk aol.de aol.fr aol.it aim.com",
        outgoing: ("smtp.aol.com", "tls"),
        incoming: "imap.aol.com",
        hint: Some("AOL takes an app password (Account security), not that of the account"),
        ..USUAL
    },
    Service {
        name: "GMX",
        domains: "gmx.net gmx.de gmx.at gmx.ch gmx.eu gmx.org gmx.info",
        outgoing: ("mail.gmx.net", "tls"),
        incoming: "imap.gmx.net",
        hint: Some(MUST_BE_ALLOWED),
        ..USUAL
    },
    Service {
        name: "GMX",
        domains: "gmx.com gmx.us gmx.co.uk gmx.es gmx.fr",
        outgoing: ("mail.gmx.com", "tls"),
        incoming: "imap.gmx.com",
        hint: Some(MUST_BE_ALLOWED),
        ..USUAL
    },
    Service {
        name: "WEB.DE",
        domains: "web.de",
        outgoing: ("smtp.web.de", "tls"),
        incoming: "imap.web.de",
        hint: Some(MUST_BE_ALLOWED),
        ..USUAL
    },
    Service {
        name: "mailbox.org",
        domains: "mailbox.org",
        outgoing: ("smtp.mailbox.org", "tls"),
        incoming: "imap.mailbox.org",
        hint: Some("with two-factor authentication, mailbox.org takes an app password"),
        ..USUAL
    },
    Service {
        name: "Posteo",
        domains: "posteo.de posteo.at posteo.ch posteo.com posteo.eu posteo.net posteo.nl posteo.org posteo.uk posteo.us",
        outgoing: ("posteo.de", "tls"),
        incoming: "posteo.de",
        ..USUAL
    },
    Service {
        name: "Zoho",
        domains: "zoho.com zohomail.com",
        outgoing: ("smtp.zoho.com", "tls"),
        incoming: "imap.zoho.com",
        hint: Some(
            "Zoho must be told first to allow IMAP (Settings, Mail Accounts); with two-factor authentication it takes an app password",
        ),
        ..USUAL
    },
    Service {
        name: "Zoho",
        domains: "zoho.eu zohomail.eu",
        outgoing: ("smtp.zoho.eu", "tls"),
        incoming: "imap.zoho.eu",
        hint: Some(
            "Zoho must be told first to allow IMAP (Settings, Mail Accounts); with two-factor authentication it takes an app password",
        ),
        ..USUAL
    },
    Service {
        name: "T-Online",
        domains: "t-online.de magenta.de",
        outgoing: ("securesmtp.t-online.de", "tls"),
        incoming: "secureimap.t-online.de",
        hint: Some(
            "T-Online takes the password for e-mail programs, which is not that of the web pages",
        ),
        ..USUAL
    },
    Service {
        name: "Yandex",
        domains: "yandex.com yandex.ru yandex.by yandex.kz ya.ru",
        outgoing: ("smtp.yandex.com", "tls"),
        incoming: "imap.yandex.com",
        hint: Some(
            "Yandex must be told first to allow IMAP, and takes an app password, not that of the account",
        ),
        ..USUAL
    },
];

const MUST_BE_ALLOWED: &str = "IMAP must be allowed first, in the mail settings of the web pages; with two-factor authentication an app password \
     is needed";

/// Domains whose mail other programs cannot fetch, with the reason.
const CLOSED: [(&str, &str); 2] = [
    (
        "proton.me protonmail.com protonmail.ch pm.me",
        "Proton Mail has servers for mail programs only in its Bridge, a program that runs on your computer and shows their \
         host, ports, user name and password",
    ),
    (
        "tuta.com tuta.io tutamail.com tutanota.com tutanota.de keemail.me",
        "Tuta has no servers for mail programs",
    ),
];

/// The service with addresses in this domain.
pub(super) fn service(domain: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| is_among(domain, service.domains))
}

/// Why mail programs cannot use addresses in this domain.
pub(super) fn closed(domain: &str) -> Option<&'static str> {
    let found = CLOSED.iter().find(|(domains, _)| is_among(domain, domains));
    found.map(|(_, why)| *why)
}

fn is_among(domain: &str, domains: &str) -> bool {
    domains.split(' ').any(|known| domain.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sundown_daemon::settings::valid_host;

    use super::*;

    #[test]
    fn a_domain_is_of_one_service_at_most() {
        let closed = CLOSED.iter().map(|(domains, _)| *domains);
        let domains = SERVICES.iter().map(|service| service.domains).chain(closed);
        let all: Vec<_> = domains.flat_map(|domains| domains.split(' ')).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|domain| valid_host(domain) && domain.contains('.')));
    }

    #[test]
    fn every_service_is_complete() {
        for Service { name, outgoing: (host, security), incoming, auth, .. } in &SERVICES {
            assert!(!name.is_empty() && valid_host(host) && valid_host(incoming), "{name}");
            assert!(["tls", "starttls"].contains(security), "{name}");
            assert!(auth.is_none_or(|auth| auth == "xoauth2"), "{name}");
        }
    }

    #[test]
    fn domains_are_known_in_any_case() {
        assert_eq!(service("GMail.com").map(|service| service.name), Some("Gmail"));
        assert_eq!(service("mail.gmail.com").map(|service| service.name), None);
        assert!(closed("Proton.ME").is_some_and(|why| why.contains("Bridge")));
        assert_eq!(closed("example.org"), None);
    }
}
