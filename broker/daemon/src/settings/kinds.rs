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
            key("path", "store.db; for a second store NAME.db", "its file"),
            key(
                "keep_sent",
                "30d; forever for a store that is older than this key",
                "how long sent messages stay in Sent: a duration, `forever`, or `off` (they are not kept)",
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
        about: "Sends mail through a server.",
        keys: SMTP_KEYS,
    },
    Kind {
        of_type: ProviderType::Transport,
        name: LMTP,
        about: "Delivers mail to a server with mailboxes.",
        keys: LMTP_KEYS,
    },
    Kind {
        of_type: ProviderType::Transport,
        name: PIPE,
        about: "Delivers mail to a program on this host, on its standard input.",
        keys: PIPE_KEYS,
    },
    Kind {
        of_type: ProviderType::Mailbox,
        name: MAILDIR,
        about: "Shows the messages and folders of a Maildir on this host.",
        keys: MAILBOX_KEYS,
    },
    Kind {
        of_type: ProviderType::Mailbox,
        name: IMAP,
        about: "Shows the messages and folders of an account at a server.",
        keys: IMAP_KEYS,
    },
    Kind {
        of_type: ProviderType::AddressBook,
        name: "sqlite",
        about: "Keeps names and lists of addresses in a file.",
        keys: &[
            NAME,
            KIND,
            key("path", "address-book.db; for a second address book NAME.db", "its file"),
            FAST_SHUTDOWN,
        ],
    },
];

/// The kind of transport that delivers into a Maildir, and the kind of mailbox that shows one.
pub(super) const MAILDIR: &str = "maildir";

/// The kind of mailbox that is an account at a server.
pub(super) const IMAP: &str = "imap";

/// The kind that speaks SMTP.
pub(super) const SMTP: &str = "smtp";

/// The kind that speaks LMTP.
pub(super) const LMTP: &str = "lmtp";

/// The kind that starts programs.
pub(super) const PIPE: &str = "pipe";

const NAME: Key = key(
    "name",
    "its kind",
    "the name in `status` and in the log; two providers of one type must have different names",
);
const KIND: Key =
    key("kind", "sqlite; for a transport or a mailbox maildir", "the kind of the provider");
const FAST_SHUTDOWN: Key = key(
    "fast_shutdown",
    "supported",
    "its answer to a fast shutdown: `supported`, `refused`, or `absent` (as a provider without the interface)",
);

const SENDERS: Key = key(
    "senders",
    "every author",
    "the authors that the transport is for, as patterns like in `accept`: their messages go through it before any other transport, and messages of other authors do not",
);
const CA_FILE: Key = key(
    "ca_file",
    "the system's certificates",
    "a file with certificates (PEM) that are trusted in addition to the system's: of CAs, or the server's own",
);
const TLS_FINGERPRINT: Key = key(
    "tls_fingerprint",
    "",
    "the SHA-256 fingerprint of the only certificate that is trusted, in hexadecimal digits. The names and dates in the certificate are not checked",
);
const TLS_CERTIFICATE: Key = key(
    "tls_certificate",
    "no client certificate",
    "a file with the client certificate (PEM), for a server that asks for one; the other certificates of its chain may follow",
);
const TLS_KEY: Key =
    key("tls_key", "", "the key of `tls_certificate`, in a file that others cannot read");
const CONNECTIONS: Key = key("connections", "4", "the most connections at once, from 1 to 64");
const TIMEOUT: Key = key("timeout", "5m", "how long the server may take for an answer");
const CONNECT_TIMEOUT: Key =
    key("connect_timeout", "30s", "how long a connection to the server may take");
const MAX_RECIPIENTS: Key =
    key("max_recipients", "100", "the most recipients of one transaction, from 1 to 10000");

const PASSWORD_COMMAND: Key = key(
    "password_command",
    "",
    "a command line for `/bin/sh`; the first line of its output is the password",
);
const PASSWORD_FILE: Key =
    key("password_file", "", "a file that others cannot read; its first line is the password");
const PASSWORD_CREDENTIAL: Key = key(
    "password_credential",
    "",
    "the name of a systemd credential; its first line is the password",
);
const PASSWORD_ENV: Key = key(
    "password_env",
    "",
    "the name of a variable of the broker's environment; its first line is the password",
);
const PROXY: Key = key(
    "proxy",
    "",
    "a SOCKS 5 proxy without a login, `socks5://HOST:PORT`; the proxy resolves `host`",
);
const SOURCE_ADDRESS: Key = key(
    "source_address",
    "any of this host",
    "the address of this host that connections come from",
);
const TIMEOUT_OF_ACCOUNT: Key = key("timeout", "2m", "how long the server may take for an answer");

const MAILDIR_KEYS: &[Key] = &[
    NAME,
    KIND,
    key(
        "path",
        "Maildir",
        "its directory; `{user}` in it stands for the recipient's user name (see `local_users`)",
    ),
    key("accept", "addresses of this host", "the recipients that the transport takes"),
    SENDERS,
    FAST_SHUTDOWN,
];

const MAILBOX_KEYS: &[Key] = &[
    NAME,
    KIND,
    key(
        "path",
        "the Maildir into which a transport delivers this user's mail",
        "its directory. It must be given if no transport of the profile delivers such mail into a Maildir",
    ),
    WATCH,
    key(
        "folders",
        "all",
        "which folders are shown: `all`, or `inbox`: only the messages of the directory itself",
    ),
    key(
        "address",
        "every message",
        "the user's addresses, in a list: a message whose `Delivered-To:` fields name none of them is not shown. `anna` stands for that user's addresses on this host, `*@example.org` for all of a domain",
    ),
    FAST_SHUTDOWN,
];

const WATCH: Key = key(
    "watch",
    "members",
    "when new mail and changes of other programs are noticed: `members`: while a program is logged on that has not announced a fast shutdown; `attached` is another word for it; `always`: as long as there is a session",
);

const IMAP_KEYS: &[Key] = &[
    NAME,
    KIND,
    key("host", "", "the server's name or IP address. It must be given"),
    key("port", "993; with `starttls` and `none` 143", "the server's port"),
    key(
        "security",
        "tls",
        "`tls`: TLS from the first byte; `starttls`: TLS before anything else is sent; `none`: no encryption, for a server on this host only",
    ),
    key("username", "", "the user name at the server. It must be given"),
    PASSWORD_COMMAND,
    PASSWORD_FILE,
    PASSWORD_CREDENTIAL,
    PASSWORD_ENV,
    key(
        "auth",
        "plain, login or scram, whichever the server offers",
        "how to log on: `plain`, `login`, `scram-sha-256`, `scram-sha-1`, or `xoauth2` or `oauthbearer` with an access token in the place of the password",
    ),
    CA_FILE,
    TLS_FINGERPRINT,
    TLS_CERTIFICATE,
    TLS_KEY,
    PROXY,
    SOURCE_ADDRESS,
    TIMEOUT_OF_ACCOUNT,
    CONNECT_TIMEOUT,
    key(
        "bodies",
        "recent; with `take_over` all",
        "which messages are fetched whole: `all`; `recent`: those of the last 90 days; `on-demand`: those that are read. Of the others the store has what tables show, and the rest is fetched when it is read",
    ),
    WATCH,
    key(
        "folders",
        "[\"*\"]",
        "which folders are shown, as patterns: `*` stands for any characters, `!` in front for folders that are not shown, such as `[\"*\", \"!Spam\"]`; the last pattern that fits counts. The Inbox is always shown",
    ),
    key(
        "sent",
        "auto",
        "who files a message that was sent from here: `append`: the broker, in the folder for sent messages; `server`: the server; `auto`: the server where it is known to do so (Gmail), else the broker",
    ),
    key(
        "take_over",
        "",
        "a directory with Maildirs of this account that mbsync or offlineimap has fetched, at any depth; a leading `~/` means the user's home directory. Messages whose files are there are taken from them, and only their heads are fetched",
    ),
    key(
        "compression",
        "auto",
        "whether both sides compress what they send, if the server can (COMPRESS=DEFLATE): `auto`: unless the server is on this host; `always`, or `never`",
    ),
    FAST_SHUTDOWN,
];

const SMTP_KEYS: &[Key] = &[
    NAME,
    KIND,
    key("host", "", "the server's name or IP address. It must be given"),
    key(
        "identity",
        "that of the profile",
        "the address that the account may send from; `rewrite_from` says which other senders are rewritten to it",
    ),
    key("port", "587; with `tls` 465, with `opportunistic` and `none` 25", "the server's port"),
    key(
        "security",
        "starttls",
        "`starttls`: TLS before anything else is sent; `tls`: TLS from the first byte; `opportunistic`: TLS if the server offers it, without checking the certificate; `none`: no encryption, on this host or with `plaintext`",
    ),
    key(
        "plaintext",
        "",
        "`i-understand`: mail may be sent over a network with `security = \"none\"`, but no password",
    ),
    key("username", "no logon", "the user name at the server"),
    PASSWORD_COMMAND,
    PASSWORD_FILE,
    PASSWORD_CREDENTIAL,
    PASSWORD_ENV,
    key(
        "auth",
        "plain, login or scram, whichever the server offers",
        "how to log on: `plain`, `login`, `scram-sha-256`, `scram-sha-1`, or `xoauth2` with an access token in the place of the password",
    ),
    CA_FILE,
    TLS_FINGERPRINT,
    TLS_CERTIFICATE,
    TLS_KEY,
    PROXY,
    SOURCE_ADDRESS,
    key("helo", "this host's name", "the name that the broker gives in its greeting"),
    CONNECTIONS,
    TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_RECIPIENTS,
    key(
        "rate",
        "",
        "the most recipients in a second, minute, hour or day, such as `100/h` (`s`, `m`, `h`, `d`); further messages wait in the queue. The count outlives a restart",
    ),
    key("accept", "addresses elsewhere", "the recipients that the transport takes"),
    SENDERS,
    FAST_SHUTDOWN,
];

const LMTP_KEYS: &[Key] = &[
    NAME,
    KIND,
    key("path", "", "the server's socket. It or `host` must be given"),
    key("host", "", "the server's name or IP address"),
    key("port", "24", "the server's port; 25 is for SMTP"),
    key("security", "none", "as for `smtp`"),
    key(
        "plaintext",
        "",
        "as for `smtp`; for a `host` that is not this host it is needed also without `security`",
    ),
    CA_FILE,
    TLS_FINGERPRINT,
    TLS_CERTIFICATE,
    TLS_KEY,
    key("helo", "this host's name", "the name that the broker gives in its greeting"),
    CONNECTIONS,
    TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_RECIPIENTS,
    key("accept", "addresses of this host", "the recipients that the transport takes"),
    FAST_SHUTDOWN,
];

const PIPE_KEYS: &[Key] = &[
    NAME,
    KIND,
    key(
        "command",
        "",
        "the absolute path of the program and its arguments, in a list. In an argument `{recipient}`, `{sender}` and `{user}` are replaced by the address of the recipient, that of the sender, and the recipient's user name. It must be given",
    ),
    key("timeout", "5m", "how long the program may run"),
    key("connections", "1", "the most programs that run at once, from 1 to 64"),
    key("accept", "addresses of this host", "the recipients that the transport takes"),
    SENDERS,
    FAST_SHUTDOWN,
];

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, default, meaning }
}

/// The keys of a mailbox. One that does not ship has those of a Maildir.
pub(super) fn keys_of_mailbox(kind: &str) -> &'static [Key] {
    let shipped = |k: &&Kind| k.of_type == ProviderType::Mailbox && k.name == kind;
    KINDS.iter().find(shipped).map_or(MAILBOX_KEYS, |kind| kind.keys)
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
        assert_eq!(names(ProviderType::Mailbox), known.mailboxes);
        assert_eq!(names(ProviderType::AddressBook), known.address_books);
    }
}
