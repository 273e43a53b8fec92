//! Profiles: `profiles/NAME.toml`, and what holds where it says nothing.
//!
//! A section that is missing altogether has the default: a store and an address book of kind `sqlite`, a transport of
//! kind `maildir` for local addresses. Each profile has its own directory in the data directory, which relative paths
//! start from:
//!
//! ```text
//! <data>/NAME/store.db           the first store; a further one is <its name>.db
//! <data>/NAME/address-book.db    the first address book; a further one is <its name>.db
//! <data>/NAME/Maildir            a transport of kind maildir
//! ```
//!
//! Without a section there is also a mailbox: what that transport delivers for the user (`mailbox`).

mod account;
mod local;
mod mailbox;
mod notices;
mod remove;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sundown_core::provider::{FastShutdown, ProviderSpec, ProviderType};
use sundown_core::settings::{Profile, QueuePolicy, Right};
use toml::Spanned;

use super::accounts::{Accounts, AccountsError, Unlisted};
use super::kinds::{IMAP, MAILDIR};
use super::source::{SettingsError, Source};
use super::value::{
    FastShutdownWord, KeepSent, MailAddress, Name, OnUnknownWord, PathText, PositiveTime, Spelled,
    Time, User, valid_name,
};
use local::{Alias, MailSection};
use mailbox::{Around, InboxSection, MailboxSection};
use notices::NoticesSection;
use transport::{Authors, TransportSection};

pub use remove::{RemoveError, remove_profile};

/// The profile of those who name none. It exists even when its file does not.
const DEFAULT: &str = "default";

/// What profiles depend on besides their files.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folders with profile files; an earlier one wins.
    pub folders: Vec<PathBuf>,
    /// The data directory.
    pub data: PathBuf,
    /// What `~` stands for.
    pub home: Option<PathBuf>,
    /// The user whose mail it is.
    pub user: String,
    /// Whose mail the broker is for.
    pub serves: Serves,
    /// The host's name.
    pub hostname: String,
    /// The file with the domain of the host's mail.
    pub mailname: PathBuf,
    /// The providers that exist.
    pub kinds: KnownKinds,
    /// Who has which number.
    pub accounts: Accounts,
}

/// Whose mail a broker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// The user's that it runs as.
    User,
    /// That of the users of a host. The user that it runs as is nobody's account, so without a section no mailbox is its own.
    Host,
}

/// The kinds of providers that exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKinds {
    /// Of stores.
    pub stores: Vec<String>,
    /// Of transports.
    pub transports: Vec<String>,
    /// Of mailboxes.
    pub mailboxes: Vec<String>,
    /// Of address books.
    pub address_books: Vec<String>,
}

/// Why there is no profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileError {
    /// No profile can have that name.
    Name(String),
    /// There is none of that name.
    NotFound {
        /// The name.
        name: String,
        /// The files that would have held it.
        looked_for: Vec<PathBuf>,
        /// The profiles that exist.
        existing: Vec<String>,
    },
    /// Its file is wrong.
    Invalid(SettingsError),
    /// It names a user who is in no list of accounts, and nothing else was asked.
    Unlisted(SettingsError),
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "{name:?} is not the name of a profile; \
                 expected 1 to 64 letters, digits, \".\", \"_\" or \"-\", not \".\" first"
            ),
            Self::NotFound { name, looked_for, existing } => {
                let files: Vec<_> = looked_for.iter().map(|f| f.display().to_string()).collect();
                write!(
                    f,
                    "there is no profile {name:?}: looked for {}; the profiles that exist: {}",
                    files.join(", "),
                    existing.join(", ")
                )
            }
            Self::Invalid(error) | Self::Unlisted(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProfileError {}

impl From<SettingsError> for ProfileError {
    fn from(error: SettingsError) -> Self {
        if error.is_unlisted() { Self::Unlisted(error) } else { Self::Invalid(error) }
    }
}

/// Reads the profile of that name.
pub fn load_profile(name: &str, places: &Places) -> Result<Profile, ProfileError> {
    if !valid_name(name) {
        return Err(ProfileError::Name(name.to_owned()));
    }
    let source = match find(name, places)? {
        Some(source) => source,
        None if name == DEFAULT => Source::empty(),
        None => return Err(not_found(name, places)),
    };
    check_kinds(&source, &places.kinds)?;
    let file: ProfileFile = source.parse()?;
    Ok(Reader { name, source: &source, places }.profile(file)?)
}

/// The files that a profile is made of: those that may hold it, the first of which that is there counts, and those that it refers to.
pub fn profile_files(name: &str, places: &Places) -> Vec<PathBuf> {
    /// What of a profile refers to another file, whatever else is in it.
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Refers {
        mail: RefersByMail,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct RefersByMail {
        aliases_file: Option<Spanned<Spelled<PathText>>>,
    }
    let mut all = files(name, places);
    all.push(places.mailname.clone());
    let source = find(name, places).ok().flatten();
    let refers = source.as_ref().and_then(|source| source.parse::<Refers>().ok());
    if let (Some(source), Some(file)) =
        (&source, refers.and_then(|refers| refers.mail.aliases_file))
    {
        all.extend(Reader { name, source, places }.path(&file));
    }
    all
}

/// The names of profiles: those with a file, `default`, and those whose data holds a store although their file is gone.
/// In alphabetical order. The last cannot be loaded, but mail may wait in them.
pub fn profile_names(places: &Places) -> Vec<String> {
    let mut names = names_of_files(places);
    names.extend(
        entries(&places.data)
            .filter(|entry| entry.join("store.db").is_file())
            .filter_map(|entry| file_name(&entry)),
    );
    names.into_iter().filter(|name| valid_name(name)).collect()
}

fn find(name: &str, places: &Places) -> Result<Option<Source>, SettingsError> {
    for file in files(name, places) {
        if let Some(source) = Source::open(&file)? {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

fn files(name: &str, places: &Places) -> Vec<PathBuf> {
    places.folders.iter().map(|folder| folder.join(format!("{name}.toml"))).collect()
}

fn not_found(name: &str, places: &Places) -> ProfileError {
    ProfileError::NotFound {
        name: name.to_owned(),
        looked_for: files(name, places),
        existing: names_of_files(places).into_iter().collect(),
    }
}

/// The profiles that can be loaded.
fn names_of_files(places: &Places) -> BTreeSet<String> {
    let found = places.folders.iter().flat_map(|folder| entries(folder));
    let named = found.filter_map(|file| Some(file_name(&file)?.strip_suffix(".toml")?.to_owned()));
    named.filter(|name| valid_name(name)).chain([DEFAULT.to_owned()]).collect()
}

/// What is in a directory. One that cannot be read has nothing.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

impl Default for KnownKinds {
    fn default() -> Self {
        let one = |kind: &str| vec![kind.to_owned()];
        let transports = ["maildir", "smtp", "lmtp", "pipe"].map(str::to_owned).into();
        let (stores, address_books) = (one("sqlite"), one("sqlite"));
        let mailboxes = [MAILDIR, IMAP].map(str::to_owned).into();
        Self { stores, transports, mailboxes, address_books }
    }
}

/// The kinds alone. They are looked at first: the keys of a kind that does not exist are not what is wrong.
#[derive(Deserialize, Default)]
#[serde(default)]
struct KindsOfFile {
    store: Vec<KindOfSection>,
    transport: Vec<KindOfSection>,
    mailbox: Vec<KindOfSection>,
    address_book: Vec<KindOfSection>,
}

#[derive(Deserialize)]
#[serde(expecting = "a table")]
struct KindOfSection {
    kind: Option<Spanned<String>>,
}

fn check_kinds(source: &Source, known: &KnownKinds) -> Result<(), SettingsError> {
    let file: KindsOfFile = source.parse()?;
    let sections = [
        (file.store, &known.stores),
        (file.transport, &known.transports),
        (file.mailbox, &known.mailboxes),
        (file.address_book, &known.address_books),
    ];
    for (sections, known) in sections {
        for kind in sections.into_iter().filter_map(|section| section.kind) {
            if !known.contains(kind.get_ref()) {
                let message =
                    format!("unknown kind {:?}; known: {}", kind.get_ref(), known.join(", "));
                return Err(source.error(kind.span(), message));
            }
        }
    }
    Ok(())
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct ProfileFile {
    identity: Option<Spelled<MailAddress>>,
    store: Vec<Spanned<StoreSection>>,
    transport: Vec<Spanned<TransportSection>>,
    mailbox: Vec<Spanned<MailboxSection>>,
    address_book: Vec<Spanned<ProviderSection>>,
    queue: QueueSection,
    access: AccessSection,
    mail: MailSection,
    aliases: BTreeMap<String, Spanned<Alias>>,
    notices: NoticesSection,
    inbox: InboxSection,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
struct ProviderSection {
    name: Option<Spanned<Spelled<Name>>>,
    kind: Option<String>,
    path: Option<Spanned<Spelled<PathText>>>,
    fast_shutdown: Option<Spelled<FastShutdownWord>>,
}

/// A store has what each provider has, and a key of its own.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
struct StoreSection {
    name: Option<Spanned<Spelled<Name>>>,
    kind: Option<String>,
    path: Option<Spanned<Spelled<PathText>>>,
    keep_sent: Option<Spelled<KeepSent>>,
    fast_shutdown: Option<Spelled<FastShutdownWord>>,
}

impl StoreSection {
    /// What each provider has, and its options.
    fn parted(self) -> (ProviderSection, Vec<(String, String)>) {
        let Self { name, kind, path, keep_sent, fast_shutdown } = self;
        let keep_sent = keep_sent.map(|word| ("keep_sent".to_owned(), word.0));
        (ProviderSection { name, kind, path, fast_shutdown }, keep_sent.into_iter().collect())
    }
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [queue]")]
struct QueueSection {
    retry_min: Option<Spanned<Spelled<PositiveTime>>>,
    retry_max: Option<Spanned<Spelled<PositiveTime>>>,
    max_age: Option<Spelled<Time>>,
    on_unknown: Option<Spelled<OnUnknownWord>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [access]")]
struct AccessSection {
    submit: Vec<Spanned<Spelled<User>>>,
    session: Vec<Spanned<Spelled<User>>>,
    admin: Vec<Spanned<Spelled<User>>>,
}

/// Makes a profile out of its file.
struct Reader<'a> {
    name: &'a str,
    source: &'a Source,
    places: &'a Places,
}

impl Reader<'_> {
    fn profile(&self, file: ProfileFile) -> Result<Profile, SettingsError> {
        let mut databases = BTreeMap::new();
        let stores = self.stores(file.store, &mut databases)?;
        let address_books =
            self.databases(ProviderType::AddressBook, file.address_book, &mut databases)?;
        let given = Spelled::of(file.identity);
        let identity = given.clone().unwrap_or_else(|| self.identity());
        let local = self.local_mail(&file.mail, &file.aliases)?;
        let rewrite = file.mail.rewrite_from.as_ref();
        let authors =
            Authors { identity: &identity, given: given.as_ref(), rewrite, local: &local };
        let transports = self.transports(file.transport, &authors)?;
        let around = Around {
            databases: stores.iter().chain(&address_books).collect(),
            transports: &transports,
            identity: &identity,
            local: &local,
        };
        let mailboxes = self.mailboxes(file.mailbox, &file.inbox, &around)?;
        Ok(Profile {
            name: self.name.to_owned(),
            identity,
            stores,
            transports,
            address_books,
            queue: self.queue(&file.queue, &file.notices)?,
            access: self.access(&file.access)?,
            local,
            forward: self.forward(file.notices)?,
            mailboxes,
            on_new_mail: self.on_new_mail(file.inbox)?,
        })
    }

    /// Who the user is on this host.
    fn identity(&self) -> String {
        let Places { user, hostname, .. } = self.places;
        if hostname.is_empty() { user.clone() } else { format!("{user}@{hostname}") }
    }

    fn stores(
        &self,
        sections: Vec<Spanned<StoreSection>>,
        paths: &mut BTreeMap<PathBuf, String>,
    ) -> Result<Vec<ProviderSpec>, SettingsError> {
        let parted = sections.into_iter().map(|section| {
            let (span, (section, options)) = (section.span(), section.into_inner().parted());
            (Spanned::new(span, section), options)
        });
        let (sections, options): (Vec<_>, Vec<_>) = parted.unzip();
        let mut stores = self.databases(ProviderType::Store, sections, paths)?;
        stores.iter_mut().zip(options).for_each(|(store, options)| store.options = options);
        // A store makes the notifications, which name this host. Without a section there is a store, too.
        let host = ("host".to_owned(), self.places.hostname.clone());
        for store in &mut stores {
            store.options.push(host.clone());
        }
        Ok(stores)
    }

    /// Stores or address books. `paths` has the databases of this profile, by path; what is in one would be read as the
    /// other's.
    fn databases(
        &self,
        of_type: ProviderType,
        sections: Vec<Spanned<ProviderSection>>,
        paths: &mut BTreeMap<PathBuf, String>,
    ) -> Result<Vec<ProviderSpec>, SettingsError> {
        let mut specs: Vec<ProviderSpec> = Vec::new();
        for section in or_default(sections) {
            let (span, section) = (section.span(), section.into_inner());
            let default = default_database(of_type, &section, specs.is_empty());
            let spec = self.provider(&section, "sqlite", &default)?;
            self.check_name(&spec, of_type, span_of(section.name.as_ref(), &span), &specs)?;
            let other = paths.insert(spec.path.clone(), spec.name.clone());
            if let Some(other) = other {
                let message = format!(
                    "{} is used by {other:?} already; give this one another `path`",
                    spec.path.display()
                );
                return Err(self.source.error(span_of(section.path.as_ref(), &span), message));
            }
            specs.push(spec);
        }
        Ok(specs)
    }

    fn provider(
        &self,
        section: &ProviderSection,
        default_kind: &str,
        default_path: &str,
    ) -> Result<ProviderSpec, SettingsError> {
        let kind = section.kind.as_deref().unwrap_or(default_kind);
        let given = section.path.as_ref();
        Ok(ProviderSpec {
            name: name_of(section, default_kind),
            path: match given {
                Some(path) => self.path(path)?,
                None => self.directory().join(default_path),
            },
            fast_shutdown: section
                .fast_shutdown
                .as_ref()
                .map_or(FastShutdown::Supported, |word| word.0),
            ..ProviderSpec::new(kind)
        })
    }

    fn directory(&self) -> PathBuf {
        self.places.data.join(self.name)
    }

    fn path(&self, path: &Spanned<Spelled<PathText>>) -> Result<PathBuf, SettingsError> {
        let text = path.get_ref().0.as_str();
        let below_home = if text == "~" { Some("") } else { text.strip_prefix("~/") };
        match (below_home, &self.places.home) {
            (None, _) => Ok(self.directory().join(text)),
            (Some(rest), Some(home)) => Ok(home.join(rest.trim_start_matches('/'))),
            (Some(_), None) => {
                let message = format!("{text:?} is in the home directory, and HOME is not set");
                Err(self.source.error(path.span(), message))
            }
        }
    }

    /// Refuses a second provider of one type with one name.
    fn check_name(
        &self,
        spec: &ProviderSpec,
        of_type: ProviderType,
        span: Range<usize>,
        earlier: &[ProviderSpec],
    ) -> Result<(), SettingsError> {
        if earlier.iter().all(|other| other.name != spec.name) {
            return Ok(());
        }
        let message = format!(
            "there is a {} named {:?} already; give this one another `name`",
            of_type.name(),
            spec.name
        );
        Err(self.source.error(span, message))
    }

    fn queue(
        &self,
        section: &QueueSection,
        notices: &NoticesSection,
    ) -> Result<QueuePolicy, SettingsError> {
        let default = QueuePolicy::default();
        let min = section.retry_min.as_ref().map_or(default.retry_min, |time| time.get_ref().0);
        let max = section.retry_max.as_ref().map_or(default.retry_max, |time| time.get_ref().0);
        let given = section.retry_max.as_ref().or(section.retry_min.as_ref());
        if let Some(given) = given.filter(|_| max < min) {
            let message = format!("retry_max ({max:?}) is shorter than retry_min ({min:?})");
            return Err(self.source.error(given.span(), message));
        }
        Ok(QueuePolicy {
            retry_min: min,
            retry_max: max,
            max_age: section.max_age.as_ref().map_or(default.max_age, |time| time.0),
            delay_after: notices.delay_after.as_ref().map_or(default.delay_after, |time| time.0),
            on_unknown: section.on_unknown.as_ref().map_or(default.on_unknown, |word| word.0),
        })
    }

    /// The highest right of each user, in order of their numbers.
    fn access(&self, section: &AccessSection) -> Result<Vec<(u32, Right)>, SettingsError> {
        let lists = [
            (&section.submit, Right::Submit),
            (&section.session, Right::Session),
            (&section.admin, Right::Admin),
        ];
        let mut rights = BTreeMap::new();
        for (users, right) in lists {
            for user in users {
                if let Some(uid) = self.uid(user)? {
                    rights.insert(uid, right);
                }
            }
        }
        Ok(rights.into_iter().collect())
    }

    fn uid(&self, user: &Spanned<Spelled<User>>) -> Result<Option<u32>, SettingsError> {
        let (name, accounts) = (&user.get_ref().0, &self.places.accounts);
        let at = |message| self.source.error(user.span(), message);
        match accounts.uid(name) {
            Ok(None) if accounts.unlisted == Unlisted::PassedOver => Ok(None),
            Ok(Some(uid)) => Ok(Some(uid)),
            Ok(None) => Err(at(format!(
                "there is no user {name:?}, neither in {} nor in a directory service of the system",
                accounts.passwd.display()
            ))),
            Err(AccountsError::Unlisted) => Err(at(AccountsError::Unlisted.to_string()).unlisted()),
            Err(error) => Err(at(error.to_string())),
        }
    }
}

/// Without a section there is one in which nothing is set.
fn or_default<T: Default>(sections: Vec<Spanned<T>>) -> Vec<Spanned<T>> {
    if sections.is_empty() { vec![Spanned::new(0..0, T::default())] } else { sections }
}

fn name_of(section: &ProviderSection, default_kind: &str) -> String {
    match (&section.name, &section.kind) {
        (Some(name), _) => name.get_ref().0.clone(),
        (None, Some(kind)) => kind.clone(),
        (None, None) => default_kind.to_owned(),
    }
}

fn default_database(of_type: ProviderType, section: &ProviderSection, first: bool) -> String {
    match of_type {
        ProviderType::Store if first => "store.db".to_owned(),
        ProviderType::AddressBook if first => "address-book.db".to_owned(),
        _ => format!("{}.db", name_of(section, "sqlite")),
    }
}

fn span_of<T>(value: Option<&Spanned<T>>, section: &Range<usize>) -> Range<usize> {
    value.map_or_else(|| section.clone(), Spanned::span)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sundown_core::address::Pattern;
    use sundown_core::local::LocalMail;
    use sundown_core::settings::{Forward, MailboxSpec, OnUnknown, TransportSpec, Watching};

    use super::*;

    pub(super) struct Fixture {
        pub(super) root: tempfile::TempDir,
        pub(super) places: Places,
    }

    /// Two empty folders `user` and `etc`, some accounts, data in `/data`.
    pub(super) fn fixture() -> Fixture {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        for folder in ["user", "etc"] {
            std::fs::create_dir(at(folder)).expect("made");
        }
        std::fs::write(at("passwd"), "anna:x:1000:1000\nbo:x:1001:1001\n").expect("written");
        let places = Places {
            folders: vec![at("user"), at("etc")],
            data: "/data".into(),
            home: Some("/home/anna".into()),
            user: "anna".into(),
            serves: Serves::User,
            hostname: "Host.Lan".into(),
            mailname: at("mailname"),
            kinds: KnownKinds::default(),
            accounts: Accounts {
                passwd: at("passwd"),
                group: at("group"),
                unlisted: Unlisted::Asked,
            },
        };
        Fixture { root, places }
    }

    impl Fixture {
        pub(super) fn write(&self, path: &str, text: &str) -> &Self {
            std::fs::write(self.root.path().join(path), text).expect("written");
            self
        }

        pub(super) fn load(&self, name: &str) -> Result<Profile, ProfileError> {
            load_profile(name, &self.places)
        }
    }

    pub(super) fn load(text: &str) -> Result<Profile, ProfileError> {
        fixture().write("user/work.toml", text).load("work")
    }

    fn default_profile(name: &str) -> Profile {
        let at = |file: &str| Path::new("/data").join(name).join(file);
        Profile {
            name: name.to_owned(),
            identity: "anna@Host.Lan".to_owned(),
            stores: vec![ProviderSpec {
                path: at("store.db"),
                options: vec![("host".to_owned(), "Host.Lan".to_owned())],
                ..ProviderSpec::new("sqlite")
            }],
            transports: vec![TransportSpec {
                provider: ProviderSpec { path: at("Maildir"), ..ProviderSpec::new("maildir") },
                accept: vec![
                    Pattern::NoDomain,
                    Pattern::Domain("localhost".to_owned()),
                    Pattern::Domain("host.lan".to_owned()),
                ],
                senders: Vec::new(),
            }],
            address_books: vec![ProviderSpec {
                path: at("address-book.db"),
                ..ProviderSpec::new("sqlite")
            }],
            queue: QueuePolicy::default(),
            access: Vec::new(),
            local: LocalMail { host: "Host.Lan".into(), ..LocalMail::default() },
            forward: Forward::No,
            mailboxes: vec![default_mailbox(at("Maildir"))],
            on_new_mail: None,
        }
    }

    /// The mailbox of a profile without a section.
    fn default_mailbox(path: PathBuf) -> MailboxSpec {
        let domains = ["", "@localhost", "@localhost.localdomain", "@host.lan"];
        let own = domains.map(|domain| ("address".to_owned(), format!("anna{domain}")));
        let options = [("folders".to_owned(), "inbox".to_owned())].into_iter().chain(own).collect();
        let provider = ProviderSpec { path, options, ..ProviderSpec::new("maildir") };
        MailboxSpec { provider, watch: Watching::Members }
    }

    #[test]
    fn an_empty_profile_and_the_default_without_a_file_have_all_defaults() {
        assert_eq!(fixture().load("default"), Ok(default_profile("default")));
        assert_eq!(load(""), Ok(default_profile("work")));
        let sections = "[[store]]\n[[transport]]\n[[address_book]]\n[queue]\n[access]\n[inbox]\n";
        assert_eq!(load(sections), Ok(default_profile("work")));
    }

    #[test]
    fn every_key_is_read() {
        let profile = load(
            r#"
            [[store]]
            kind = "sqlite"
            fast_shutdown = "refused"
            [[store]]
            name = "archive"
            [[store]]
            name = "far"
            path = "~/mail/far.db"
            [[transport]]
            name = "here"
            kind = "maildir"
            path = "in/here"
            accept = ["*.LAN", "bo@example.org"]
            fast_shutdown = "absent"
            [[transport]]
            path = "/var/mail/work"
            accept = ["*"]
            [[address_book]]
            name = "people"
            [queue]
            retry_min = "1s"
            retry_max = "2m"
            max_age = "3h"
            on_unknown = "retry"
            [access]
            submit = ["anna", "bo", "77"]
            session = ["bo", 78]
            admin = ["1000"]
            "#,
        )
        .expect("a profile");
        let store = |name: &str, path: &str| ProviderSpec {
            name: name.to_owned(),
            path: path.into(),
            options: vec![("host".to_owned(), "Host.Lan".to_owned())],
            ..ProviderSpec::new("sqlite")
        };
        let book =
            |name: &str, path: &str| ProviderSpec { options: Vec::new(), ..store(name, path) };
        let first = store("sqlite", "/data/work/store.db");
        let stores = [
            ProviderSpec { fast_shutdown: FastShutdown::Refused, ..first },
            store("archive", "/data/work/archive.db"),
            store("far", "/home/anna/mail/far.db"),
        ];
        assert_eq!(profile.stores, stores);
        let [here, rest] = &profile.transports[..] else { panic!("two transports") };
        assert_eq!(here.provider.name, "here");
        assert_eq!(here.provider.path, Path::new("/data/work/in/here"));
        assert_eq!(here.provider.fast_shutdown, FastShutdown::Absent);
        let patterns = [Pattern::Below("lan".into()), Pattern::Address("bo@example.org".into())];
        assert_eq!(here.accept, patterns);
        assert_eq!(rest.provider.name, "maildir");
        assert_eq!(rest.provider.path, Path::new("/var/mail/work"));
        assert_eq!(rest.accept, [Pattern::Everything]);
        assert_eq!(profile.address_books, [book("people", "/data/work/address-book.db")]);
        let queue = QueuePolicy {
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(120),
            max_age: Duration::from_secs(3 * 3600),
            delay_after: Some(Duration::from_secs(4 * 3600)),
            on_unknown: OnUnknown::Retry,
        };
        assert_eq!(profile.queue, queue);
        let access = [
            (77, Right::Submit),
            (78, Right::Session),
            (1000, Right::Admin),
            (1001, Right::Session),
        ];
        assert_eq!(profile.access, access);
    }

    #[test]
    fn an_error_names_line_key_and_what_is_allowed() {
        // The text, then the line, the key, and words that the message must have.
        let cases: &[(&str, usize, &str, &[&str])] = &[
            ("[[stores]]", 1, "stores", &["unknown key", "`store`"]),
            ("[[store]]\nhost = \"x\"", 2, "store[0].host", &["unknown key", "fast_shutdown"]),
            ("[store]\nkind = \"sqlite\"", 1, "store", &["[["]),
            ("[[store]]\nkind = \"imap\"", 2, "store[0].kind", &["imap", "sqlite"]),
            (
                "[[transport]]\nwings = \"x\"\nkind = \"pigeon\"",
                3,
                "transport[0].kind",
                &["unknown kind \"pigeon\"", "maildir, smtp"],
            ),
            (
                "[[transport]]\n[[transport]]\naccept = [\"*\",\n\"a b\"]",
                4,
                "transport[1].accept[1]",
                &["a b", "a domain"],
            ),
            ("[[transport]]\naccept = \"*\"", 2, "transport[0].accept", &["array"]),
            ("[[transport]]\n\n[[transport]]\n", 3, "transport[1]", &["maildir", "name"]),
            (
                "[[store]]\nname = \"a\"\n[[store]]\nname = \"a\"",
                4,
                "store[1].name",
                &["\"a\"", "another `name`"],
            ),
            ("[[store]]\nname = \"../a\"", 2, "store[0].name", &["../a", "64"]),
            (
                "[[store]]\n[[store]]\nname = \"b\"\npath = \"store.db\"",
                4,
                "store[1].path",
                &["/data/work/store.db", "another `path`"],
            ),
            (
                "[[store]]\n[[store]]\nname = \"address-book\"\n[[address_book]]",
                4,
                "address_book[0]",
                &["address-book.db", "another `path`"],
            ),
            ("\nidentity = \"anna@\"", 2, "identity", &["anna@example.org"]),
            ("[[store]]\npath = \"\"", 2, "store[0].path", &["a path"]),
            ("[[store]]\nkeep_sent = \"0d\"", 2, "store[0].keep_sent", &["off", "forever", "30d"]),
            (
                "[[address_book]]\nkeep_sent = \"1d\"",
                2,
                "address_book[0].keep_sent",
                &["unknown key"],
            ),
            ("[[store]]\nfast_shutdown = \"no\"", 2, "store[0].fast_shutdown", &["refused"]),
            ("[queue]\nretry_min = \"0s\"", 2, "queue.retry_min", &["above zero"]),
            ("[queue]\nretry_min = \"2h\"", 2, "queue.retry_min", &["retry_max", "shorter"]),
            ("[queue]\non_unknown = \"drop\"", 2, "queue.on_unknown", &["hold", "retry"]),
            ("[access]\nadmin = [\"bo\", \"eve\"]", 2, "access.admin[1]", &["eve", "passwd"]),
            ("[access]\nsubmit = [-1]", 2, "access.submit[0]", &["-1", "number"]),
            ("[access]\nreader = []", 2, "access.reader", &["unknown key", "session"]),
        ];
        for (text, line, key, words) in cases {
            let Err(ProfileError::Invalid(error)) = load(text) else { panic!("taken: {text}") };
            let shown = error.to_string();
            assert!(error.file().ends_with("user/work.toml"), "{shown}");
            assert_eq!(error.position().map(|at| at.line), Some(*line), "{text}\n{shown}");
            assert_eq!(error.key(), *key, "{text}\n{shown}");
            for word in *words {
                assert!(shown.contains(word), "{shown} does not have {word}");
            }
            assert!(!shown.contains("Section"), "{shown}");
        }
    }

    #[test]
    fn a_profile_says_who_its_user_is() {
        let profile = load("identity = \"anna@example.org\"").expect("it loads");
        assert_eq!(profile.identity, "anna@example.org");
        let profile = load("identity = \"anna@b\u{fc}cher.example.\"").expect("it loads");
        assert_eq!(profile.identity, "anna@xn--bcher-kva.example");
    }

    #[test]
    fn a_path_in_the_home_directory_needs_one() {
        let mut fixture = fixture();
        fixture.write("user/work.toml", "[[store]]\npath = \"~/a.db\"\n");
        fixture.places.home = None;
        let error = fixture.load("work").expect_err("no home").to_string();
        assert!(error.contains("store[0].path") && error.contains("HOME"), "{error}");
    }

    #[test]
    fn the_users_file_wins() {
        let fixture = fixture();
        fixture.write("etc/work.toml", "[queue]\nmax_age = \"1d\"\n");
        let day = Duration::from_secs(86_400);
        assert_eq!(fixture.load("work").expect("a profile").queue.max_age, day);
        fixture.write("user/work.toml", "");
        assert_eq!(fixture.load("work"), Ok(default_profile("work")));
    }

    #[test]
    fn a_profile_that_is_not_there_names_what_is() {
        let fixture = fixture();
        fixture.write("etc/work.toml", "").write("user/.hidden.toml", "").write("user/x", "");
        let error = fixture.load("home").expect_err("none");
        let ProfileError::NotFound { name, looked_for, existing } = &error else {
            panic!("{error}")
        };
        assert_eq!(name, "home");
        assert_eq!(looked_for.len(), 2);
        assert_eq!(existing, &["default", "work"]);
        let shown = error.to_string();
        assert!(shown.contains("user/home.toml") && shown.contains("default, work"), "{shown}");
        for name in ["", "..", "a/b", "../work"] {
            assert_eq!(fixture.load(name), Err(ProfileError::Name(name.to_owned())));
        }
    }

    #[test]
    fn a_store_is_told_how_long_to_keep_what_was_sent() {
        for (word, told) in [("off", "off"), ("forever", "forever"), ("2d", "172800000")] {
            let fixture = fixture();
            fixture.write("user/work.toml", &format!("[[store]]\nkeep_sent = \"{word}\"\n"));
            let profile = load_profile("work", &fixture.places).expect("it is right");
            assert_eq!(profile.stores[0].options[0], ("keep_sent".to_owned(), told.to_owned()));
        }
    }

    #[test]
    fn names_are_those_of_files_and_of_stores() {
        let mut fixture = fixture();
        fixture.write("etc/work.toml", "").write("user/work.toml", "").write("user/a b.toml", "");
        assert_eq!(profile_names(&fixture.places), ["default", "work"]);
        fixture.places.data = fixture.root.path().join("data");
        for name in ["old", "run", ".trash"] {
            std::fs::create_dir_all(fixture.places.data.join(name)).expect("made");
        }
        fixture.write("data/old/store.db", "").write("data/.trash/store.db", "");
        assert_eq!(profile_names(&fixture.places), ["default", "old", "work"]);
    }

    #[test]
    fn a_host_without_a_name_is_only_localhost() {
        let mut fixture = fixture();
        fixture.places.hostname = String::new();
        let profile = fixture.load("default").expect("a profile");
        assert_eq!(profile.identity, "anna");
        assert_eq!(profile.transports[0].accept.len(), 2);
    }
}
