//! The kinds of providers that ship, as data: what each is, and its keys with meaning and default.
//!
//! Profiles are checked against it, the command shows it, and `docs/settings.md` has the same rows, which a test compares.

use sundown_core::provider::ProviderType;

/// A kind of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What it is for.
    pub of_type: ProviderType,
    /// The word in `kind`.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// The keys of its section.
    pub keys: &'static [Key],
}

/// A key of a provider's section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What holds without it, in words or as it would be written. Empty: nothing.
    pub default: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

/// Every kind that ships; where a type has several, the first is the default one.
pub const KINDS: &[Kind] = &[
    Kind {
        of_type: ProviderType::Store,
        name: "sqlite",
        about: "Keeps messages, the outgoing queue and programs' settings in a file.",
        keys: &[
            NAME,
            KIND,
            key("path", "store.db; of a second store NAME.db", "its file"),
            key(
                "keep_sent",
                "30d; of a store that was made before there was this key, forever",
                "how long what was sent stays in Sent: a time, `forever`, or `off` for not at all",
            ),
            FAST_SHUTDOWN,
        ],
    },
    Kind {
        of_type: ProviderType::Transport,
        name: MAILDIR,
        about: "Delivers into a Maildir on this host.",
        keys: MAILDIR_KEYS,
    },
    Kind {
        of_type: ProviderType::Transport,
        name: SMTP,
        about: "Hands mail over to a server that takes it further.",
        keys: SMTP_KEYS,
    },
    Kind {
        of_type: ProviderType::Transport,
        name: LMTP,
        about: "Hands mail over to a server that puts it into mailboxes.",
        keys: LMTP_KEYS,
    },
    Kind {
        of_type: ProviderType::Transport,
        name: PIPE,
        about: "Hands mail over to a program of this host, on its standard input.",
        keys: PIPE_KEYS,
    },
    Kind {
        of_type: ProviderType::AddressBook,
        name: "sqlite",
        about: "Keeps people and lists in a file, and finds their addresses.",
        keys: &[
            NAME,
            KIND,
            key("path", "address-book.db; of a second address book NAME.db", "its file"),
            FAST_SHUTDOWN,
        ],
    },
];

/// The kind that delivers into a Maildir.
pub(super) const MAILDIR: &str = "maildir";

/// The kind that speaks SMTP.
pub(super) const SMTP: &str = "smtp";

/// The kind that speaks LMTP.
pub(super) const LMTP: &str = "lmtp";

/// The kind that starts programs.
pub(super) const PIPE: &str = "pipe";

const NAME: Key = key(
    "name",
    "its kind",
    "as `status` and the log show it; no two of one type may have the same",
);
const KIND: Key = key("kind", "sqlite; of a transport maildir", "what it is");
const FAST_SHUTDOWN: Key = key(
    "fast_shutdown",
    "supported",
    "what it says to a fast shutdown: `supported`, `refused`, or `absent` as if it did not know the interface",
);

const SENDERS: Key = key(
    "senders",
    "every author",
    "the authors it is for, spelled as in `accept`: their messages go this way before any other, and messages of other authors never",
);
const CA_FILE: Key = key(
    "ca_file",
    "the system's alone",
    "a file with certificates (PEM) that vouch for the server, beside the system's; the server's own may be in it",
);
const TLS_FINGERPRINT: Key = key(
    "tls_fingerprint",
    "",
    "the SHA-256 of the only certificate that is trusted, in hexadecimal digits. Its names and dates do not count",
);
const TLS_CERTIFICATE: Key = key(
    "tls_certificate",
    "none is shown",
    "a file with our own certificate (PEM), for a server that asks for one; others of its chain may follow",
);
const TLS_KEY: Key =
    key("tls_key", "", "the key of `tls_certificate`, in a file that others cannot read");
const CONNECTIONS: Key = key("connections", "4", "connections at once, from 1 to 64");
const TIMEOUT: Key = key("timeout", "5m", "how long the server may take for an answer");
const CONNECT_TIMEOUT: Key =
    key("connect_timeout", "30s", "how long it may take to reach the server");
const MAX_RECIPIENTS: Key =
    key("max_recipients", "100", "recipients of one transaction, from 1 to 10000");

const MAILDIR_KEYS: &[Key] = &[
    NAME,
    KIND,
    key(
        "path",
        "Maildir",
        "its directory; `{user}` in it stands for the user whose mail it is, by `local_users`",
    ),
    key("accept", "addresses of this host", "which recipients it takes"),
    SENDERS,
    FAST_SHUTDOWN,
];

const SMTP_KEYS: &[Key] = &[
    NAME,
    KIND,
    key("host", "", "the server's name or IP address. It must be given"),
    key(
        "identity",
        "that of the profile",
        "the address that its account may send from: other authors become it where `rewrite_from` says so",
    ),
    key("port", "587; with `tls` 465, with `opportunistic` and `none` 25", "the server's port"),
    key(
        "security",
        "starttls",
        "`starttls`: encrypted before anything is said; `tls`: from the first byte; `opportunistic`: encrypted if the server offers that, whoever it is; `none`: in the clear, on this host or with `plaintext`",
    ),
    key(
        "plaintext",
        "",
        "`i-understand`: mail may go over a network with `security = \"none\"`. A password may not",
    ),
    key("username", "nobody logs on", "who logs on to the server"),
    key(
        "password_command",
        "",
        "a command line for `/bin/sh`; the first line of its output is the password",
    ),
    key("password_file", "", "a file that others cannot read; its first line is the password"),
    key(
        "password_credential",
        "",
        "the name of a systemd credential; its first line is the password",
    ),
    key(
        "password_env",
        "",
        "the name of a variable of the broker's environment; its first line is the password",
    ),
    key(
        "auth",
        "plain, login or scram, as the server offers",
        "how to log on: `plain`, `login`, `scram-sha-256`, `scram-sha-1`, or `xoauth2` with an access token for a password",
    ),
    CA_FILE,
    TLS_FINGERPRINT,
    TLS_CERTIFICATE,
    TLS_KEY,
    key(
        "proxy",
        "",
        "a SOCKS 5 proxy that wants no login, `socks5://HOST:PORT`; it resolves `host`",
    ),
    key(
        "source_address",
        "any of this host",
        "the address of this host that connections come from",
    ),
    key("helo", "this host's name", "as whom the server is greeted"),
    CONNECTIONS,
    TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_RECIPIENTS,
    key(
        "rate",
        "",
        "most recipients in a second, minute, hour or day, such as `100/h` (`s`, `m`, `h`, `d`); what is beyond waits, also over a restart",
    ),
    key("accept", "addresses elsewhere", "which recipients it takes"),
    SENDERS,
    FAST_SHUTDOWN,
];

const LMTP_KEYS: &[Key] = &[
    NAME,
    KIND,
    key("path", "", "the server's socket. It or `host` must be given"),
    key("host", "", "the server's name or IP address"),
    key("port", "24", "the server's port; 25 is for SMTP"),
    key("security", "none", "as of `smtp`"),
    key("plaintext", "", "as of `smtp`; for a `host` that is not this one also without `security`"),
    CA_FILE,
    TLS_FINGERPRINT,
    TLS_CERTIFICATE,
    TLS_KEY,
    key("helo", "this host's name", "as whom the server is greeted"),
    CONNECTIONS,
    TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_RECIPIENTS,
    key("accept", "addresses of this host", "which recipients it takes"),
    FAST_SHUTDOWN,
];

const PIPE_KEYS: &[Key] = &[
    NAME,
    KIND,
    key(
        "command",
        "",
        "the absolute path of the program and its arguments, in a list; in the arguments `{recipient}`, `{sender}` and `{user}` stand for what they say. It must be given",
    ),
    key("timeout", "5m", "how long the program may run"),
    key("connections", "1", "programs at once, from 1 to 64"),
    key("accept", "addresses of this host", "which recipients it takes"),
    SENDERS,
    FAST_SHUTDOWN,
];

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, default, meaning }
}

/// The keys of a transport. One that does not ship has those of a Maildir.
pub(super) fn keys_of_transport(kind: &str) -> &'static [Key] {
    let shipped = |k: &&Kind| k.of_type == ProviderType::Transport && k.name == kind;
    KINDS.iter().find(shipped).map_or(MAILDIR_KEYS, |kind| kind.keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_kinds_have_one_entry_each() {
        for (n, kind) in KINDS.iter().enumerate() {
            let same = |other: &Kind| (other.of_type, other.name) == (kind.of_type, kind.name);
            assert!(!KINDS[..n].iter().any(same), "{kind:?}");
            for (n, key) in kind.keys.iter().enumerate() {
                assert!(!kind.keys[..n].iter().any(|other| other.name == key.name), "{key:?}");
            }
        }
    }

    #[test]
    fn the_kinds_are_those_that_are_known() {
        let known = super::super::KnownKinds::default();
        let names = |of_type| {
            let of_type = KINDS.iter().filter(move |kind| kind.of_type == of_type);
            of_type.map(|kind| kind.name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(ProviderType::Store), known.stores);
        assert_eq!(names(ProviderType::Transport), known.transports);
        assert_eq!(names(ProviderType::AddressBook), known.address_books);
    }
}
