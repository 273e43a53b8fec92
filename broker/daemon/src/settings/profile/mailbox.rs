//! `[[mailbox]]` and `[inbox]`: what a profile receives, and the program that is started for new mail.
//!
//! ```text
//!  [[mailbox]] sections        these mailboxes
//!  none, local = false         no mailbox
//!  none, the host's broker     no mailbox: it delivers for other users
//!  none                        the Maildir into which a transport delivers this user's mail, if there is one: its
//!                              directory alone, and of its messages those to the user's addresses
//! ```

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sundown_core::address::Pattern;
use sundown_core::local::{LocalMail, Users, is_user_name};
use sundown_core::provider::{ProviderSpec, ProviderType};
use sundown_core::settings::{MailboxSpec, TransportSpec, Watching};
use sundown_providers::users::PLACEHOLDER;
use toml::Spanned;

use super::super::kinds::{IMAP, MAILDIR};
use super::super::smtp::{
    AccountAuthWord, AccountSecurityWord, CommandLine, Credential, Fingerprint, Host, Port, Proxy,
    SourceAddress, UserName, Variable,
};
use super::super::source::SettingsError;
use super::super::value::{
    BodiesWord, CompressionWord, FastShutdownWord, FoldersWord, Name, OwnAddress, PathText,
    PositiveTime, SentWord, Spelled, Spelling, WatchWord,
};
use super::transport::Given;
use super::{ProviderSection, Reader, Serves, span_of};

/// The option with an address of the user, which [`Pattern::own`] reads. There may be several, or none.
const ADDRESS_OPTION: &str = "address";

/// The option that says which folders are shown.
const FOLDERS_OPTION: &str = "folders";

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct MailboxSection {
    name: Option<Spanned<Spelled<Name>>>,
    kind: Option<String>,
    pub(super) path: Option<Spanned<Spelled<PathText>>>,
    watch: Option<Spelled<WatchWord>>,
    /// A word of a Maildir, and a list of patterns of an account.
    pub(super) folders: Option<Spanned<toml::Value>>,
    pub(super) address: Option<Spanned<Vec<Spelled<OwnAddress>>>>,
    fast_shutdown: Option<Spelled<FastShutdownWord>>,
    pub(super) host: Given<Host>,
    pub(super) port: Given<Port>,
    pub(super) security: Given<AccountSecurityWord>,
    pub(super) username: Given<UserName>,
    pub(super) password_command: Given<CommandLine>,
    pub(super) password_file: Given<PathText>,
    pub(super) password_credential: Given<Credential>,
    pub(super) password_env: Given<Variable>,
    pub(super) auth: Given<AccountAuthWord>,
    pub(super) ca_file: Given<PathText>,
    pub(super) tls_fingerprint: Given<Fingerprint>,
    pub(super) tls_certificate: Given<PathText>,
    pub(super) tls_key: Given<PathText>,
    pub(super) proxy: Given<Proxy>,
    pub(super) source_address: Given<SourceAddress>,
    pub(super) timeout: Given<PositiveTime>,
    pub(super) connect_timeout: Given<PositiveTime>,
    pub(super) bodies: Given<BodiesWord>,
    pub(super) sent: Given<SentWord>,
    pub(super) take_over: Given<PathText>,
    pub(super) compression: Given<CompressionWord>,
}

impl MailboxSection {
    pub(super) fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(MAILDIR)
    }
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [inbox]")]
pub(super) struct InboxSection {
    local: Option<bool>,
    on_new_mail: Option<Spanned<Vec<String>>>,
}

/// What the mailboxes of a profile depend on.
pub(super) struct Around<'a> {
    /// Its stores and address books.
    pub(super) databases: Vec<&'a ProviderSpec>,
    /// Its transports.
    pub(super) transports: &'a [TransportSpec],
    /// Who its user is.
    pub(super) identity: &'a str,
    /// The addresses of this host.
    pub(super) local: &'a LocalMail,
}

/// The folder for the folders of an account that is not the first mailbox: it is called as the mailbox, or as the user at the server.
fn heading(provider: &ProviderSpec, is_named: bool) -> Option<(String, String)> {
    let (_, username) = provider.options.iter().find(|(key, _)| key == "username")?;
    let name = if is_named { &provider.name } else { username };
    Some(("heading".to_owned(), name.clone()))
}

impl Reader<'_> {
    pub(super) fn mailboxes(
        &self,
        sections: Vec<Spanned<MailboxSection>>,
        inbox: &InboxSection,
        around: &Around<'_>,
    ) -> Result<Vec<MailboxSpec>, SettingsError> {
        if sections.is_empty() {
            let shown = inbox.local.unwrap_or(true) && self.places.serves == Serves::User;
            return Ok(self.local_mailbox(around).filter(|_| shown).into_iter().collect());
        }
        let mut mailboxes: Vec<MailboxSpec> = Vec::new();
        for section in sections {
            let (span, section) = (section.span(), section.into_inner());
            let name = span_of(section.name.as_ref(), &span);
            let path = span_of(section.path.as_ref(), &span);
            let is_named = section.name.is_some();
            let mut mailbox = self.mailbox(section, &span, around)?;
            if !mailboxes.is_empty() {
                mailbox.provider.options.extend(heading(&mailbox.provider, is_named));
            }
            let specs: Vec<_> = mailboxes.iter().map(|m| m.provider.clone()).collect();
            self.check_name(&mailbox.provider, ProviderType::Mailbox, name, &specs)?;
            if let Some(why) = collision(&mailbox, &mailboxes, &around.databases) {
                return Err(self.source.error(path, why));
            }
            mailboxes.push(mailbox);
        }
        Ok(mailboxes)
    }

    fn mailbox(
        &self,
        section: MailboxSection,
        span: &Range<usize>,
        around: &Around<'_>,
    ) -> Result<MailboxSpec, SettingsError> {
        self.check_mailbox_keys(&section)?;
        if section.kind() == IMAP {
            let options = self.account(&section, span)?;
            let MailboxSection { name, kind, watch, fast_shutdown, .. } = section;
            let section = ProviderSection { name, kind, path: None, fast_shutdown };
            let provider = self.provider(&section, MAILDIR, "")?;
            let watch = watch.map_or_else(Watching::default, |word| word.0);
            let path = PathBuf::new();
            return Ok(MailboxSpec { provider: ProviderSpec { path, options, ..provider }, watch });
        }
        let folders = self.folders_word(section.folders.as_ref())?;
        let MailboxSection { name, kind, path, watch, address, fast_shutdown, .. } = section;
        let given = path.as_ref().filter(|path| path.get_ref().0.contains(PLACEHOLDER));
        if let Some(given) = given {
            let why = format!(
                "a mailbox is one user's: {PLACEHOLDER} stands for nothing in its `path`; write the directory itself"
            );
            return Err(self.source.error(given.span(), why));
        }
        let delivered = self.delivered(around);
        if path.is_none() && delivered.is_none() {
            let why = "the mailbox needs the key `path`: the profile has no transport that delivers this user's mail into a Maildir";
            return Err(self.source.error(span.clone(), why));
        }
        let section = ProviderSection { name, kind, path, fast_shutdown };
        let provider = self.provider(&section, MAILDIR, "")?;
        let path = match (&section.path, delivered) {
            (None, Some(delivered)) => delivered,
            _ => provider.path,
        };
        let mut options = folders_option(folders);
        if let Some(list) = address {
            if list.get_ref().is_empty() {
                let why = "the list has no address, so that no message would be shown; without the key all are";
                return Err(self.source.error(list.span(), why));
            }
            for own in list.into_inner() {
                options.extend(self.addresses_of(&own.0, around.local));
            }
        }
        let watch = watch.map_or_else(Watching::default, |word| word.0);
        Ok(MailboxSpec { provider: ProviderSpec { path, options, ..provider }, watch })
    }

    fn folders_word(
        &self,
        folders: Option<&Spanned<toml::Value>>,
    ) -> Result<&'static str, SettingsError> {
        let Some(folders) = folders else { return Ok(FoldersWord::ALL) };
        let word = folders.get_ref().as_str().and_then(FoldersWord::text);
        word.ok_or_else(|| {
            let shown = folders.get_ref();
            let why = format!("invalid value {shown}; expected {}", FoldersWord::EXPECTED);
            self.source.error(folders.span(), why)
        })
    }

    /// The mailbox of a profile without a section: what a transport delivers for the user.
    fn local_mailbox(&self, around: &Around<'_>) -> Option<MailboxSpec> {
        // Who brings other kinds of providers need not have this one.
        let is_known = self.places.kinds.mailboxes.iter().any(|kind| kind == MAILDIR);
        let path = self.delivered(around).filter(|_| is_known)?;
        let mut options = folders_option(FoldersWord::INBOX);
        options.extend(self.own_addresses(around));
        let provider = ProviderSpec { path, options, ..ProviderSpec::new(MAILDIR) };
        Some(MailboxSpec { provider, watch: Watching::Members })
    }

    /// The Maildir into which the first transport that takes one of the user's addresses delivers.
    fn delivered(&self, around: &Around<'_>) -> Option<PathBuf> {
        let own: Vec<_> = self.own_addresses(around).into_iter().map(|(_, own)| own).collect();
        let takes = |t: &&TransportSpec| {
            t.provider.kind == MAILDIR && own.iter().any(|address| t.takes(address))
        };
        let mut transports = around.transports.iter().filter(takes);
        transports.find_map(|t| self.maildir_of_user(&t.provider.path, &around.local.users))
    }

    /// The Maildir of the user at a transport's path, which may be one for each user.
    fn maildir_of_user(&self, path: &Path, users: &Users) -> Option<PathBuf> {
        let Some(text) = path.to_str().filter(|path| path.contains(PLACEHOLDER)) else {
            return Some(path.to_owned());
        };
        let user = &self.places.user;
        let is_user = match users {
            Users::Any => false,
            Users::System => is_user_name(user),
            Users::Listed(users) => is_user_name(user) && users.contains(user),
        };
        is_user.then(|| text.replace(PLACEHOLDER, user).into())
    }

    /// The addresses of the user, as options: those on this host, and the profile's identity.
    fn own_addresses(&self, around: &Around<'_>) -> Vec<(String, String)> {
        let mut own = self.addresses_of(&self.places.user, around.local);
        let identity = address_option(around.identity);
        own.extend(identity.filter(|identity| !own.contains(identity)));
        own
    }

    /// What an address of the settings stands for, as options. A name without a domain is a user of this host, with every address
    /// that the user has here.
    fn addresses_of(&self, text: &str, local: &LocalMail) -> Vec<(String, String)> {
        let mut all = vec![text.to_owned()];
        if !text.contains('@') {
            let domains = ["localhost", "localhost.localdomain", &self.places.hostname];
            let domains = domains.into_iter().chain(local.domain.as_deref());
            all.extend(domains.map(|domain| format!("{text}@{domain}")));
        }
        let mut options = Vec::new();
        for option in all.iter().filter_map(|address| address_option(address)) {
            if !options.contains(&option) {
                options.push(option);
            }
        }
        options
    }

    /// `on_new_mail`.
    pub(super) fn on_new_mail(
        &self,
        inbox: InboxSection,
    ) -> Result<Option<Vec<String>>, SettingsError> {
        inbox.on_new_mail.map(|command| self.program(command)).transpose()
    }

    /// A program and its arguments.
    pub(super) fn program(
        &self,
        command: Spanned<Vec<String>>,
    ) -> Result<Vec<String>, SettingsError> {
        let wrong = |why: &str| Err(self.source.error(command.span(), why));
        let words = command.get_ref();
        if words.first().is_none_or(String::is_empty) {
            return wrong(
                "expected a program and its arguments, such as [\"/usr/bin/tell\", \"anna\"]",
            );
        }
        if words.iter().any(|word| word.contains('\0')) {
            return wrong("neither a program nor an argument can contain the character NUL");
        }
        Ok(command.into_inner())
    }
}

fn folders_option(word: &'static str) -> Vec<(String, String)> {
    vec![(FOLDERS_OPTION.to_owned(), word.to_owned())]
}

/// An address as an option. What is no address matches no message.
fn address_option(text: &str) -> Option<(String, String)> {
    let text = text.to_lowercase();
    Pattern::own(&text).map(|_| (ADDRESS_OPTION.to_owned(), text))
}

/// Why a mailbox cannot be where it is: another provider of the profile is there.
fn collision(
    mailbox: &MailboxSpec,
    others: &[MailboxSpec],
    databases: &[&ProviderSpec],
) -> Option<String> {
    let account = |mailbox: &MailboxSpec| {
        let value = |key| {
            let mut options = mailbox.provider.options.iter();
            options.find(|(name, _)| name == key).map(|(_, value)| value.to_lowercase())
        };
        (mailbox.provider.kind == IMAP).then(|| (value("host"), value("username")))
    };
    if let Some(own) = account(mailbox) {
        let same = others.iter().find(|other| account(other).as_ref() == Some(&own))?;
        let name = &same.provider.name;
        return Some(format!(
            "the account is that of {name:?} already; its messages would be there twice"
        ));
    }
    let path = &mailbox.provider.path;
    if let Some(database) = databases.iter().find(|database| database.path == *path) {
        let name = &database.name;
        return Some(format!(
            "{} is the file of {name:?}; a mailbox is a directory, give it another `path`",
            path.display()
        ));
    }
    let inside = |inner: &MailboxSpec, outer: &MailboxSpec| {
        if account(outer).is_some() || account(inner).is_some() {
            return false;
        }
        let below = inner.provider.path.strip_prefix(&outer.provider.path).ok();
        let first = below.and_then(|below| below.components().next());
        match first {
            None => below.is_some(),
            Some(Component::Normal(first)) => {
                let first = first.to_string_lossy();
                ["cur", "new", "tmp"].contains(&&*first)
                    || (first.starts_with('.') && shows_all(outer))
            }
            Some(_) => false,
        }
    };
    let other = others.iter().find(|other| inside(mailbox, other) || inside(other, mailbox))?;
    let (at, name) = (&other.provider.path, &other.provider.name);
    Some(if at == path {
        format!("{} is used by {name:?} already; give this one another `path`", path.display())
    } else {
        format!(
            "its messages would be there twice: {} and {}, which is the mailbox {name:?}, share messages; give this one another \
             `path`",
            path.display(),
            at.display()
        )
    })
}

fn shows_all(mailbox: &MailboxSpec) -> bool {
    let mut options = mailbox.provider.options.iter();
    options.any(|(key, value)| key == FOLDERS_OPTION && value == FoldersWord::ALL)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, fixture, load};
    use super::super::{Profile, ProfileError};
    use super::*;

    fn loaded(text: &str) -> Profile {
        load(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// The path of the only mailbox, its folders, and its addresses.
    fn only(profile: &Profile) -> (String, String, Vec<String>) {
        let [mailbox] = &profile.mailboxes[..] else { panic!("{:?}", profile.mailboxes) };
        let values = |wanted: &str| {
            let of = mailbox.provider.options.iter().filter(|(key, _)| key == wanted);
            of.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let path = mailbox.provider.path.display().to_string();
        (path, values("folders").concat(), values("address"))
    }

    const ANNA: [&str; 4] =
        ["anna", "anna@localhost", "anna@localhost.localdomain", "anna@host.lan"];

    #[test]
    fn without_a_section_the_inbox_is_what_a_transport_delivers_for_the_user() {
        let (path, folders, addresses) = only(&loaded(""));
        assert_eq!((path.as_str(), folders.as_str()), ("/data/work/Maildir", "inbox"));
        assert_eq!(addresses, ANNA);
        let text = "identity = \"Anna@Example.org\"\n[mail]\ndomain = \"example.net\"\n\
                    [[transport]]\nkind = \"smtp\"\nhost = \"h\"\n\
                    [[transport]]\nname = \"team\"\npath = \"~/Team\"\naccept = [\"team@example.org\"]\n\
                    [[transport]]\npath = \"~/Mail\"\n";
        let (path, _, addresses) = only(&loaded(text));
        assert_eq!(path, "/home/anna/Mail", "the team's Maildir has nothing for anna");
        assert_eq!(addresses, [&ANNA[..], &["anna@example.net", "anna@example.org"]].concat());
        // By the identity alone.
        let text = "identity = \"anna@example.org\"\n[[transport]]\npath = \"x\"\naccept = [\"example.org\"]\n";
        assert_eq!(only(&loaded(text)).0, "/data/work/x");
        let mailbox = &loaded("").mailboxes[0];
        assert_eq!((mailbox.provider.name.as_str(), mailbox.watch), ("maildir", Watching::Members));
    }

    #[test]
    fn of_a_maildir_for_each_user_it_is_the_users() {
        let path = "[[transport]]\npath = \"/var/mail/{user}/Maildir\"\n[mail]\n";
        let listed = |users: &str| loaded(&format!("{path}local_users = {users}\n"));
        assert_eq!(only(&listed("\"system\"")).0, "/var/mail/anna/Maildir");
        assert_eq!(only(&listed("[\"anna\", \"bo\"]")).0, "/var/mail/anna/Maildir");
        assert_eq!(listed("[\"bo\"]").mailboxes, []);
    }

    #[test]
    fn there_may_be_no_mailbox() {
        assert_eq!(loaded("[inbox]\nlocal = false\n").mailboxes, []);
        assert_eq!(loaded("[[transport]]\nkind = \"smtp\"\nhost = \"h\"\n").mailboxes, []);
        assert_eq!(loaded("[[transport]]\naccept = [\"example.com\"]\n").mailboxes, []);
        let of = |change: fn(&mut Fixture)| {
            let mut fixture = fixture();
            change(&mut fixture);
            fixture.load("default").expect("a profile").mailboxes
        };
        assert_eq!(of(|fixture| fixture.places.serves = Serves::Host), []);
        assert_eq!(of(|fixture| fixture.places.kinds.mailboxes.clear()), []);
        assert_eq!(of(|_| ()).len(), 1);
    }

    #[test]
    fn every_key_is_read() {
        let profile = loaded(
            r#"
            [[mailbox]]
            name = "mine"
            kind = "maildir"
            path = "~/Maildir"
            watch = "always"
            folders = "inbox"
            address = ["Anna", "anna@Example.org", "*@home.example"]
            fast_shutdown = "refused"
            [[mailbox]]
            path = "in"
            [inbox]
            local = false
            on_new_mail = ["/usr/bin/notify", "--mail"]
            "#,
        );
        let [mine, other] = &profile.mailboxes[..] else { panic!("two mailboxes") };
        let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let own = ANNA.into_iter().chain(["anna@example.org", "*@home.example"]);
        let mut options = vec![option("folders", "inbox")];
        options.extend(own.map(|own| option("address", own)));
        assert_eq!((mine.provider.name.as_str(), mine.watch), ("mine", Watching::Always));
        assert_eq!(mine.provider.path, Path::new("/home/anna/Maildir"));
        assert_eq!(mine.provider.fast_shutdown.name(), "refused");
        assert_eq!(mine.provider.options, options);
        assert_eq!(other.provider.name, "maildir");
        assert_eq!(other.provider.path, Path::new("/data/work/in"));
        assert_eq!(other.provider.options, [option("folders", "all")], "all of its messages");
        assert_eq!(other.watch, Watching::Members);
        let command = ["/usr/bin/notify", "--mail"].map(str::to_owned).to_vec();
        assert_eq!(profile.on_new_mail, Some(command));
    }

    /// A section changes how the mailbox is watched, and not which one it is.
    #[test]
    fn without_a_path_it_is_the_maildir_of_the_transport() {
        let profile = loaded("[[transport]]\npath = \"~/Mail\"\n[[mailbox]]\nwatch = \"always\"\n");
        assert_eq!(only(&profile), ("/home/anna/Mail".into(), "all".into(), Vec::new()));
    }

    /// A file of the system is read by the host's broker and by those of users.
    #[test]
    fn the_hosts_broker_has_the_mailboxes_of_sections() {
        let mut fixture = fixture();
        fixture.places.serves = Serves::Host;
        fixture.write("user/work.toml", "[[mailbox]]\npath = \"/var/mail/all\"\n");
        assert_eq!(fixture.load("work").expect("a profile").mailboxes.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases: &[(&str, usize, &str, &[&str])] = &[
            ("kind = \"pop3\"", 2, "mailbox[0].kind", &["unknown kind \"pop3\"", "maildir, imap"]),
            ("host = \"h\"", 2, "mailbox[0].host", &["has no key", "`watch`"]),
            ("accept = [\"*\"]", 2, "mailbox[0].accept", &["unknown key", "`address`"]),
            (
                "watch = \"never\"",
                2,
                "mailbox[0].watch",
                &["never", "\"members\", \"attached\" or \"always\""],
            ),
            ("folders = [\"a\"]", 2, "mailbox[0].folders", &["\"all\" or \"inbox\""]),
            ("address = \"anna\"", 2, "mailbox[0].address", &["array"]),
            ("address = []", 2, "mailbox[0].address", &["no address", "without the key"]),
            (
                "address = [\"a\", \"*\"]",
                2,
                "mailbox[0].address[1]",
                &["\"*\"", "anna@example.org"],
            ),
            ("address = [\"a@b@c\"]", 2, "mailbox[0].address[0]", &["a@b@c"]),
            ("path = \"/var/mail/{user}\"", 2, "mailbox[0].path", &["{user}", "one user's"]),
            ("path = \"store.db\"", 2, "mailbox[0].path", &["store.db", "the file of \"sqlite\""]),
            ("path = \"address-book.db\"", 2, "mailbox[0].path", &["is the file of"]),
            (
                "path = \"a\"\n[[mailbox]]\nname = \"b\"\npath = \"a\"",
                5,
                "mailbox[1].path",
                &["/data/work/a", "\"maildir\"", "another `path`"],
            ),
            (
                "path = \"a\"\n[[mailbox]]\nname = \"b\"\npath = \"a/.Sent\"",
                5,
                "mailbox[1].path",
                &["twice", "/data/work/a"],
            ),
            (
                "path = \"a/cur\"\n[[mailbox]]\nname = \"b\"\npath = \"a\"\nfolders = \"inbox\"",
                5,
                "mailbox[1].path",
                &["twice"],
            ),
            ("path = \"a\"\n[[mailbox]]\npath = \"b\"", 3, "mailbox[1]", &["maildir", "`name`"]),
            (
                "[[transport]]\nkind = \"smtp\"\nhost = \"h\"",
                1,
                "mailbox[0]",
                &["needs the key `path`"],
            ),
            ("path = \"a\"\n[inbox]\nlocal = \"no\"", 4, "inbox.local", &["a boolean"]),
            (
                "path = \"a\"\n[inbox]\non_new_mail = []",
                4,
                "inbox.on_new_mail",
                &["a program and its"],
            ),
            ("path = \"a\"\n[inbox]\non_new_mail = \"x\"", 4, "inbox.on_new_mail", &["array"]),
            (
                "path = \"a\"\n[inbox]\non_new_mail = [\"x\", \"\\u0000\"]",
                4,
                "inbox.on_new_mail",
                &["NUL"],
            ),
            (
                "path = \"a\"\n[inbox]\nremote = true",
                4,
                "inbox.remote",
                &["unknown key", "`on_new_mail`"],
            ),
        ];
        for (text, line, key, words) in cases {
            let loaded = load(&format!("[[mailbox]]\n{text}\n"));
            let Err(ProfileError::Invalid(error)) = loaded else { panic!("taken: {text}") };
            let shown = error.to_string();
            assert_eq!(error.position().map(|at| at.line), Some(*line), "{text}\n{shown}");
            assert_eq!(error.key(), *key, "{text}\n{shown}");
            for word in *words {
                assert!(shown.contains(word), "{shown} does not have {word}");
            }
        }
        // Directories side by side, and folders that the outer one does not show.
        loaded("[[mailbox]]\npath = \"a\"\n[[mailbox]]\nname = \"b\"\npath = \"a/work\"\n");
        loaded(
            "[[mailbox]]\npath = \"a\"\nfolders = \"inbox\"\n[[mailbox]]\nname = \"b\"\npath = \"a/.Sent\"\n",
        );
    }
}
