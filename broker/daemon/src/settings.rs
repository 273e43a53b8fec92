//! Settings and profiles from TOML files, checked to the last key.
//!
//! ```text
//! source    one file: what it says at which line, and which key stands there
//! value     how durations, sizes, words and names are spelled
//! smtp      how what an SMTP transport needs is spelled
//! accounts  users and groups by name; `directory`: as the system's directory services know them
//! kinds     the kinds of providers that ship, with their keys
//! profile   profiles/NAME.toml
//! ```
//!
//! A missing or empty file means that everything has its default; a key of a later file overrides that of an earlier
//! one. Each file is checked by itself, so that an error names its file, line, column and key.

mod accounts;
mod directory;
mod kinds;
mod profile;
mod smtp;
mod source;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sundown_core::settings::{Limits, Settings, Shutdown};
use toml::Spanned;

pub use accounts::{Accounts, AccountsError, Unlisted};
pub use kinds::{KINDS, Key, Kind};
pub use profile::{
    KnownKinds, Places, ProfileError, RemoveError, Serves, load_profile, profile_files,
    profile_names, remove_profile,
};
pub use smtp::{is_loopback, valid_host};
pub use source::{Position, SettingsError};
pub use sundown_providers::read_small;
pub use value::valid_name;

use crate::metrics::Listen;
use source::Source;
use value::{
    Behavior, BufferSize, BusyPoll, Count, Disabled, Grace, GroupName, LingerTime, ListenPlace,
    PositiveTime, SharedLogoffWord, Size, Spelled,
};

/// What the settings files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What the core is to know. `owner` and `broker` are not in files: the caller fills them in.
    pub settings: Settings,
    /// `[socket]`, `group`: who besides the owner may connect. The socket has mode 0660 then, its directory 0750.
    pub socket_group: Option<Group>,
    /// `[socket]`, `busy_poll`: how long the loop looks for more before it sleeps. No time: not at all.
    pub busy_poll: Duration,
    /// `[metrics]`, `listen`: where figures can be asked for, if anywhere.
    pub metrics: Option<Listen>,
    /// The files that were there, in the order in which they were read.
    pub files: Vec<PathBuf>,
}

/// A group of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As the settings name it.
    pub name: String,
    /// Its number.
    pub gid: u32,
}

/// Refuses to do without a settings file that was asked for.
pub fn require(file: Option<&Path>) -> Result<(), SettingsError> {
    match file {
        // It is not read: a pipe can be read once.
        Some(file) if !file.exists() => Err(SettingsError::missing(file)),
        Some(_) | None => Ok(()),
    }
}

/// Reads settings files, an earlier one first. Those that do not exist are passed over.
pub fn load_settings(files: &[PathBuf], accounts: &Accounts) -> Result<Loaded, SettingsError> {
    let mut loaded = Loaded::default();
    for file in files {
        if let Some(source) = Source::open(file)? {
            source.parse::<SettingsFile>()?.apply(&mut loaded, &source, accounts)?;
            loaded.files.push(file.clone());
        }
    }
    Ok(loaded)
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct SettingsFile {
    shutdown: ShutdownSection,
    limits: LimitsSection,
    socket: SocketSection,
    metrics: Option<MetricsSection>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [shutdown]")]
struct ShutdownSection {
    fast_shutdown_behavior: Option<Spelled<Behavior>>,
    disable_fast_shutdown: Option<Disabled>,
    allow_shutdown_with_external_references: Option<bool>,
    shared_logoff: Option<Spelled<SharedLogoffWord>>,
    shared_logoff_grace: Option<Spelled<Grace>>,
    shutdown_deadline: Option<Spelled<PositiveTime>>,
    linger: Option<Spelled<LingerTime>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [limits]")]
struct LimitsSection {
    connections: Option<Spelled<Count>>,
    process_connections: Option<Spelled<Count>>,
    user_connections: Option<Spelled<Count>>,
    members: Option<Spelled<Count>>,
    user_members: Option<Spelled<Count>>,
    sessions: Option<Spelled<Count>>,
    process_sessions: Option<Spelled<Count>>,
    user_sessions: Option<Spelled<Count>>,
    objects: Option<Spelled<Count>>,
    user_objects: Option<Spelled<Count>>,
    registrations: Option<Spelled<Count>>,
    user_registrations: Option<Spelled<Count>>,
    grants: Option<Spelled<Count>>,
    user_grants: Option<Spelled<Count>>,
    requests: Option<Spelled<Count>>,
    request_bytes: Option<Spelled<BufferSize>>,
    process_request_bytes: Option<Spelled<BufferSize>>,
    user_request_bytes: Option<Spelled<BufferSize>>,
    process_draft_bytes: Option<Spelled<BufferSize>>,
    user_draft_bytes: Option<Spelled<BufferSize>>,
    process_upload_bytes: Option<Spelled<BufferSize>>,
    user_upload_bytes: Option<Spelled<BufferSize>>,
    outbox_bytes: Option<Spelled<BufferSize>>,
    user_outbox_bytes: Option<Spelled<BufferSize>>,
    total_outbox_bytes: Option<Spelled<BufferSize>>,
    message: Option<Spelled<Size>>,
    recipients: Option<Spelled<Count>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [socket]")]
struct SocketSection {
    group: Option<Spanned<Spelled<GroupName>>>,
    busy_poll: Option<Spelled<BusyPoll>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields, expecting = "a table: [metrics]")]
struct MetricsSection {
    listen: Option<Spelled<ListenPlace>>,
}

impl SettingsFile {
    fn apply(
        self,
        loaded: &mut Loaded,
        source: &Source,
        accounts: &Accounts,
    ) -> Result<(), SettingsError> {
        self.shutdown.apply(&mut loaded.settings.shutdown);
        self.limits.apply(&mut loaded.settings.limits);
        if let Some(name) = self.socket.group {
            loaded.socket_group = Some(find_group(&name, source, accounts)?);
        }
        set(&mut loaded.busy_poll, Spelled::of(self.socket.busy_poll));
        if let Some(metrics) = self.metrics {
            let listen = Spelled::of(metrics.listen);
            loaded.metrics = listen.or(loaded.metrics.take()).or(Some(Listen::Default));
        }
        Ok(())
    }
}

impl ShutdownSection {
    fn apply(self, shutdown: &mut Shutdown) {
        set(&mut shutdown.fast_shutdown, Spelled::of(self.fast_shutdown_behavior));
        set(&mut shutdown.disable_fast_shutdown, self.disable_fast_shutdown.map(|d| d.0));
        set(&mut shutdown.external_references, self.allow_shutdown_with_external_references);
        set(&mut shutdown.shared_logoff, Spelled::of(self.shared_logoff));
        set(&mut shutdown.grace, Spelled::of(self.shared_logoff_grace));
        set(&mut shutdown.deadline, Spelled::of(self.shutdown_deadline));
        set(&mut shutdown.linger, Spelled::of(self.linger));
    }
}

impl LimitsSection {
    fn apply(self, limits: &mut Limits) {
        let number = |count: Option<Spelled<Count>>| Spelled::of(count).map(|n| n as usize);
        let bytes = |size: Option<Spelled<BufferSize>>| Spelled::of(size).map(|n| n as usize);
        set(&mut limits.connections, number(self.connections));
        set(&mut limits.process_connections, number(self.process_connections));
        set(&mut limits.user_connections, number(self.user_connections));
        set(&mut limits.members, number(self.members));
        set(&mut limits.user_members, number(self.user_members));
        set(&mut limits.sessions, number(self.sessions));
        set(&mut limits.process_sessions, number(self.process_sessions));
        set(&mut limits.user_sessions, number(self.user_sessions));
        set(&mut limits.objects, number(self.objects));
        set(&mut limits.user_objects, number(self.user_objects));
        set(&mut limits.registrations, number(self.registrations));
        set(&mut limits.user_registrations, number(self.user_registrations));
        set(&mut limits.grants, number(self.grants));
        set(&mut limits.user_grants, number(self.user_grants));
        set(&mut limits.requests, Spelled::of(self.requests));
        set(&mut limits.request_bytes, Spelled::of(self.request_bytes));
        set(&mut limits.process_request_bytes, bytes(self.process_request_bytes));
        set(&mut limits.user_request_bytes, bytes(self.user_request_bytes));
        set(&mut limits.process_draft_bytes, bytes(self.process_draft_bytes));
        set(&mut limits.user_draft_bytes, bytes(self.user_draft_bytes));
        set(&mut limits.process_upload_bytes, bytes(self.process_upload_bytes));
        set(&mut limits.user_upload_bytes, bytes(self.user_upload_bytes));
        set(&mut limits.outbox_bytes, bytes(self.outbox_bytes));
        set(&mut limits.user_outbox_bytes, bytes(self.user_outbox_bytes));
        set(&mut limits.total_outbox_bytes, bytes(self.total_outbox_bytes));
        set(&mut limits.message, Spelled::of(self.message));
        set(&mut limits.recipients, number(self.recipients));
    }
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn find_group(
    group: &Spanned<Spelled<GroupName>>,
    source: &Source,
    accounts: &Accounts,
) -> Result<Group, SettingsError> {
    let at = |message| source.error(group.span(), message);
    let name = &group.get_ref().0;
    match accounts.gid(name) {
        Ok(Some(gid)) => Ok(Group { name: name.clone(), gid }),
        Ok(None) => Err(at(format!(
            "there is no group {name:?}, neither in {} nor in a directory service of the system",
            accounts.group.display()
        ))),
        Err(error) => Err(at(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use sundown_core::settings::{DisableFastShutdown, FastShutdownBehavior, Linger, SharedLogoff};

    use super::*;

    /// Loads files with these contents.
    fn load(texts: &[&str]) -> Result<Loaded, SettingsError> {
        let root = tempfile::tempdir().expect("a directory");
        let mut files = vec![root.path().join("missing.toml")];
        for (n, text) in texts.iter().enumerate() {
            let file = root.path().join(format!("{n}.toml"));
            std::fs::write(&file, text).expect("written");
            files.push(file);
        }
        let accounts = Accounts {
            passwd: root.path().join("passwd"),
            group: root.path().join("group"),
            unlisted: Unlisted::Asked,
        };
        std::fs::write(&accounts.group, "root:x:0:\nmail:x:8:anna\n").expect("written");
        load_settings(&files, &accounts)
    }

    #[test]
    fn without_files_everything_has_its_default() {
        assert_eq!(load(&[]).expect("defaults"), Loaded::default());
        let empty = load(&["", "# nothing\n[shutdown]\n[limits]\n[socket]\n"]).expect("defaults");
        assert_eq!(empty.files.len(), 2);
        assert_eq!(Loaded { files: Vec::new(), ..empty }, Loaded::default());
    }

    #[test]
    fn every_key_is_read() {
        let loaded = load(&[r#"
            [shutdown]
            fast_shutdown_behavior = "opt-out"
            disable_fast_shutdown = true
            allow_shutdown_with_external_references = false
            shared_logoff = "any"
            shared_logoff_grace = "none"
            shutdown_deadline = "500ms"
            linger = "10m"
            [limits]
            connections = 1
            process_connections = 9
            user_connections = 10
            members = 2
            user_members = 11
            sessions = 19
            process_sessions = 20
            user_sessions = 21
            objects = 3
            user_objects = 12
            registrations = 13
            user_registrations = 14
            grants = 17
            user_grants = 18
            requests = 4
            request_bytes = "5MiB"
            process_request_bytes = "15MiB"
            user_request_bytes = "16MiB"
            process_draft_bytes = "9MiB"
            user_draft_bytes = "10MiB"
            process_upload_bytes = "11MiB"
            user_upload_bytes = "12MiB"
            outbox_bytes = 6_000_000
            user_outbox_bytes = "7MiB"
            total_outbox_bytes = "8MiB"
            message = "7GiB"
            recipients = 8
            [socket]
            group = "mail"
            busy_poll = "50us"
            [metrics]
            listen = "localhost:9464"
        "#])
        .expect("settings");
        let shutdown = Shutdown {
            shared_logoff: SharedLogoff::Any,
            grace: None,
            deadline: Duration::from_millis(500),
            linger: Linger::For(Duration::from_secs(600)),
            fast_shutdown: FastShutdownBehavior::OptOut,
            disable_fast_shutdown: DisableFastShutdown::All,
            external_references: false,
        };
        assert_eq!(loaded.settings.shutdown, shutdown);
        let limits = Limits {
            connections: 1,
            process_connections: 9,
            user_connections: 10,
            members: 2,
            user_members: 11,
            sessions: 19,
            process_sessions: 20,
            user_sessions: 21,
            objects: 3,
            user_objects: 12,
            registrations: 13,
            user_registrations: 14,
            grants: 17,
            user_grants: 18,
            requests: 4,
            request_bytes: 5 << 20,
            process_request_bytes: 15 << 20,
            user_request_bytes: 16 << 20,
            process_draft_bytes: 9 << 20,
            user_draft_bytes: 10 << 20,
            process_upload_bytes: 11 << 20,
            user_upload_bytes: 12 << 20,
            outbox_bytes: 6_000_000,
            user_outbox_bytes: 7 << 20,
            total_outbox_bytes: 8 << 20,
            message: 7 << 30,
            recipients: 8,
        };
        assert_eq!(loaded.settings.limits, limits);
        assert_eq!(loaded.socket_group, Some(Group { name: "mail".into(), gid: 8 }));
        assert_eq!(loaded.busy_poll, Duration::from_micros(50));
        assert_eq!(loaded.metrics, Listen::parse("127.0.0.1:9464"));
    }

    #[test]
    fn a_group_is_named_or_numbered() {
        for (written, name, gid) in [("\"mail\"", "mail", 8), ("8", "8", 8), ("\"8\"", "8", 8)] {
            let loaded = load(&[&format!("[socket]\ngroup = {written}")]).expect(written);
            assert_eq!(loaded.socket_group, Some(Group { name: name.into(), gid }), "{written}");
        }
    }

    #[test]
    fn a_later_file_overrides_key_by_key() {
        let loaded = load(&[
            "[shutdown]\nlinger = \"off\"\nshared_logoff = \"deny\"\n[limits]\nmembers = 3\n",
            "[shutdown]\nlinger = \"until-empty\"\nshutdown_deadline = \"1h\"\n",
        ])
        .expect("settings");
        let shutdown = &loaded.settings.shutdown;
        assert_eq!(shutdown.linger, Linger::UntilEmpty);
        assert_eq!(shutdown.shared_logoff, SharedLogoff::Deny);
        assert_eq!(shutdown.deadline, Duration::from_secs(3600));
        assert_eq!(loaded.settings.limits.members, 3);
    }

    #[test]
    fn an_error_names_file_line_key_and_what_is_allowed() {
        type Case = (&'static str, (usize, usize), &'static str, &'static [&'static str]);
        // The text, then line and column, the key, and words that the message must have.
        let cases: &[Case] = &[
            ("[shutdown]\nlingr = \"off\"", (2, 1), "shutdown.lingr", &["unknown key", "`linger`"]),
            ("\n[shutdwn]", (2, 2), "shutdwn", &["unknown key", "`shutdown`", "`limits`"]),
            (
                "[shutdown]\nlinger = \"later\"",
                (2, 10),
                "shutdown.linger",
                &["later", "until-empty"],
            ),
            ("[shutdown]\nlinger = 30", (2, 10), "shutdown.linger", &["30", "\"30s\""]),
            ("shutdown.linger = \"2 weeks\"", (1, 19), "shutdown.linger", &["2 weeks", "10m"]),
            (
                "[shutdown]\n\nshared_logoff = \"all\"",
                (3, 17),
                "shutdown.shared_logoff",
                &["\"all\"", "owner", "any", "deny"],
            ),
            (
                "[shutdown]\nfast_shutdown_behavior = true",
                (2, 26),
                "shutdown.fast_shutdown_behavior",
                &["true", "opt-in", "opt-out", "disabled"],
            ),
            (
                "[shutdown]\ndisable_fast_shutdown = \"no\"",
                (2, 25),
                "shutdown.disable_fast_shutdown",
                &["no", "true, false, or a list of program names"],
            ),
            (
                "[shutdown]\nshutdown_deadline = \"none\"",
                (2, 21),
                "shutdown.shutdown_deadline",
                &["none", "above zero"],
            ),
            ("[limits]\nmembers = 0", (2, 11), "limits.members", &["0", "1 to 4294967295"]),
            ("[limits]\nmembers = -1", (2, 11), "limits.members", &["-1", "1 to 4294967295"]),
            ("[limits]\nmessage = \"1 MB\"", (2, 11), "limits.message", &["1 MB", "MiB"]),
            ("[limits]\noutbox_bytes = 7", (2, 16), "limits.outbox_bytes", &["7", "\"1MiB\""]),
            ("[socket]\ngroup = \"male\"", (2, 9), "socket.group", &["male", "group"]),
            ("[socket]\ngroup = -1", (2, 9), "socket.group", &["-1", "a group's name or number"]),
            ("[socket]\ngroup = 4294967295", (2, 9), "socket.group", &["4294967295"]),
            (
                "[metrics]\nlisten = \"0.0.0.0:9464\"",
                (2, 10),
                "metrics.listen",
                &["0.0.0.0:9464", "127.0.0.1"],
            ),
            ("shutdown = 3", (1, 12), "shutdown", &["3", "[shutdown]"]),
            ("[shutdown]\nlinger = off", (2, 10), "shutdown.linger", &["quoted"]),
            ("[limits]\nmembers = 1\nmembers = 2", (3, 1), "members", &["duplicate key"]),
            ("[limits]\nö = 'ü' x", (2, 9), "", &[]),
        ];
        for (text, (line, column), key, words) in cases {
            let error = load(&[text]).expect_err(text);
            let shown = error.to_string();
            assert!(error.file().ends_with("0.toml"), "{shown}");
            let position = Some(Position { line: *line, column: *column });
            assert_eq!(error.position(), position, "{text}\n{shown}");
            assert_eq!(error.key(), *key, "{text}\n{shown}");
            assert!(shown.contains("0.toml") && shown.contains(&format!("line {line}")), "{shown}");
            for word in *words {
                assert!(shown.contains(word), "{shown} does not have {word}");
            }
            assert!(!shown.contains("Section"), "{shown}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let root = tempfile::tempdir().expect("a directory");
        let accounts = Accounts::system();
        let error = load_settings(&[root.path().to_owned()], &accounts).expect_err("a directory");
        assert_eq!(error.position(), None);
        let file = root.path().join("latin-1.toml");
        std::fs::write(&file, b"# \xe4\n").expect("written");
        let error = load_settings(&[file], &accounts).expect_err("not UTF-8").to_string();
        assert!(error.contains("latin-1.toml") && error.contains("line 1"), "{error}");
    }
}
