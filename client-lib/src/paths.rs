//! The paths of the broker's socket, data and settings: from options, then the environment, then the defaults.
//!
//! ```text
//! socket    --socket     SUNDOWN_SOCKET     $XDG_RUNTIME_DIR/sundown/broker.sock
//!                                           else /run/user/UID/sundown/broker.sock, if /run/user/UID is the user's
//!                                           else run/broker.sock in the data directory
//! data      --data-dir   SUNDOWN_DATA_DIR   $XDG_DATA_HOME/sundown
//!                                           else ~/.local/share/sundown
//! settings  --config     SUNDOWN_CONFIG     /etc/sundown/config.toml
//!                                           then $XDG_CONFIG_HOME/sundown/config.toml
//!                                           or ~/.config/sundown/config.toml
//! ```
//!
//! A runtime directory counts if it exists and belongs to the user, and the user may make files in it and others may not. A logout
//! removes it. For root, neither XDG directories nor a HOME of another user count. With raised privileges no variable counts.
//!
//! The home directory `~` is `$HOME`. If that is not set, as for jobs of a service manager, it is the user's home from
//! `/etc/passwd` or from a directory service. Mail that is submitted as with `sendmail` goes to the host's broker first, at
//! `/run/sundown/broker.sock`, unless a socket is given.
//!
//! Every other program uses the broker of its user, or else the host's ([`Paths::of_program`]). All paths are the host's if none of
//! the three is given, the user has no socket, data or settings, and the user may use the host's socket.
//!
//! ```text
//! host's    socket /run/sundown/broker.sock   data /var/lib/sundown   settings /etc/sundown/config.toml
//! ```
//!
//! Profiles are in the folder `profiles` beside a settings file. Nothing is created here. Of the file system only owners and modes
//! of these directories, `/etc/passwd`, and the existence of sockets and data directories are read. A relative XDG variable counts
//! as unset, as its specification demands; so does an empty variable or option.

use std::ffi::OsString;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest path of a socket, in bytes: `sun_path` has 108 bytes, and the last is a zero.
pub const MAX_SOCKET_PATH: usize = 107;

const SETTINGS_FILE: &str = "config.toml";

/// The paths given on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
}

/// What the paths depend on besides the command line.
pub struct Environment<'a> {
    /// Reads the environment variable with this name.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether variables count.
    pub privileges: Privileges,
    /// The user whose broker it is.
    pub uid: u32,
    /// The current directory, from which relative paths start. Without it they stay relative.
    pub directory: Option<PathBuf>,
    /// The directory of runtime directories: the system's, and in `user` those of users.
    pub run: PathBuf,
    /// The directory of the system's settings and of the list of users.
    pub etc: PathBuf,
    /// The directory in which the system's services keep their data.
    pub lib: PathBuf,
}

/// Whether the program can do more than the user who started it. If so, that user must not choose its files or the programs that it
/// starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// The program cannot: variables count.
    Ordinary,
    /// The program can, as by set-user-id: no variable counts.
    Raised,
}

/// The owner of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The user. Also used for a broker that was chosen by an option or variable. A program may start it.
    Own,
    /// The host. A service manager starts this broker.
    Host,
}

/// The resolved paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The owner of this broker.
    pub whose: Whose,
    /// The broker's socket.
    pub socket: PathBuf,
    /// The socket of the host's broker; `None` if a socket is given.
    pub host_socket: Option<PathBuf>,
    /// The data directory.
    pub data: PathBuf,
    /// The settings file that is given; `None` with the default files.
    pub config: Option<PathBuf>,
    /// Settings files in the order in which they are read: a later file wins. Only [`required`](Self::required) must exist.
    pub settings: Vec<PathBuf>,
    /// The settings file that must exist: the given one, unless it is the system's.
    pub required: Option<PathBuf>,
    /// Folders with profiles in the order in which they are searched: an earlier folder wins. They need not exist.
    pub profiles: Vec<PathBuf>,
    /// The home directory, if the user has one.
    pub home: Option<PathBuf>,
}

/// Sundown's own variables.
const OWN: [&str; 7] = [
    "SUNDOWN_SOCKET",
    "SUNDOWN_DATA_DIR",
    "SUNDOWN_CONFIG",
    "SUNDOWN_PROFILE",
    "SUNDOWN_NO_AUTOSTART",
    "SUNDOWN_LOG",
    "SUNDOWN_LOG_FORMAT",
];

/// Variables that name directories of the user.
const DIRECTORIES: [&str; 3] = ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME"];

/// The variable that names the user's runtime directory.
const RUNTIME: &str = "XDG_RUNTIME_DIR";

/// A variable that is set and does not count. Its text names the variable and the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ignored {
    /// The variable's name.
    pub variable: &'static str,
    /// Why the variable does not count.
    pub why: Why,
}

/// Why a variable does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The program can do more than the user who started it.
    Raised,
    /// The variable names no absolute path.
    Relative,
    /// The variable names another user's directory.
    Anothers,
    /// The variable names a runtime directory to which others may write.
    Shared,
    /// The variable names a runtime directory that does not exist, as after a logout.
    Missing,
    /// The variable names a runtime directory in which the user cannot make files.
    Unusable,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Raised => "the program has raised privileges, as by set-user-id",
            Why::Relative => "it is not an absolute path",
            Why::Anothers => "the directory is another user's",
            Why::Shared => "others may write to the directory",
            Why::Missing => "the directory is not there, as after a logout",
            Why::Unusable => "nothing can be made in the directory",
        };
        write!(f, "{} does not count: {why}", self.variable)
    }
}

/// The part of an error that names variables that do not count and may have been meant to choose the broker. Empty without any.
pub(crate) fn note_of_ignored(environment: &Environment<'_>) -> String {
    let says_which = |ignored: &Ignored| {
        ["SUNDOWN_SOCKET", "SUNDOWN_DATA_DIR", RUNTIME].contains(&ignored.variable)
    };
    let ignored = environment.ignored().into_iter().filter(says_which);
    ignored.map(|ignored| format!("; {ignored}")).collect()
}

/// Why there is no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathsError {
    /// There is no home directory, so the data directory has no default.
    NoHome,
    /// The socket's path is too long for the kernel's structure.
    SocketTooLong(PathBuf),
}

impl fmt::Display for PathsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHome => f.write_str(
                "there is no place for the data: HOME is not set to an absolute path, neither is XDG_DATA_HOME, \
                 and the system knows no home for the user; set HOME, or name a directory with --data-dir or SUNDOWN_DATA_DIR",
            ),
            Self::SocketTooLong(path) => write!(
                f,
                "the path of the socket is too long: {} has {} bytes, and {MAX_SOCKET_PATH} are allowed; \
                 choose a shorter one with --socket or SUNDOWN_SOCKET",
                path.display(),
                path.as_os_str().len()
            ),
        }
    }
}

impl std::error::Error for PathsError {}

impl Paths {
    /// The paths of the broker that a program of this user talks to. They are the host's if nothing is given and the user has no
    /// broker; otherwise the same as [`resolve`](Self::resolve).
    pub fn of_program(
        arguments: &Arguments,
        environment: &Environment<'_>,
    ) -> Result<Self, PathsError> {
        let own = Self::resolve(arguments, environment);
        let host = environment.host_socket();
        let has_own = || own.as_ref().is_ok_and(|own| own.is_in_use(environment));
        if asks_for_nothing(arguments, environment) && may_connect(&host) && !has_own() {
            return Ok(Self::of_host(host, environment));
        }
        own
    }

    /// Whether a broker with these paths has left something: its socket, its data, or settings of the user.
    fn is_in_use(&self, environment: &Environment<'_>) -> bool {
        let mut settings = self.settings.iter().filter_map(|file| file.parent());
        self.socket.exists()
            || self.data.exists()
            || settings.any(|folder| !folder.starts_with(&environment.etc) && folder.exists())
    }

    fn of_host(socket: PathBuf, environment: &Environment<'_>) -> Self {
        let config = environment.system_settings();
        Self {
            whose: Whose::Host,
            host_socket: Some(socket.clone()),
            socket,
            data: environment.lib.join("sundown"),
            settings: vec![config.clone()],
            required: None,
            profiles: vec![config.with_file_name("profiles")],
            config: Some(config),
            home: environment.home(),
        }
    }

    /// Resolves all paths of the user's broker, or of the given one, from options and environment.
    pub fn resolve(
        arguments: &Arguments,
        environment: &Environment<'_>,
    ) -> Result<Self, PathsError> {
        let config = explicit_config(arguments, environment);
        let settings = match &config {
            Some(file) => vec![file.clone()],
            None => default_settings(environment),
        };
        let system = environment.system_settings();
        let required = config.clone().filter(|file| *file != system);
        // The last settings file wins, so its profiles come first.
        let profiles = settings.iter().rev().map(|file| file.with_file_name("profiles")).collect();
        Ok(Self {
            whose: Whose::Own,
            socket: socket(arguments, environment)?,
            host_socket: host_socket(arguments, environment),
            data: data_directory(arguments, environment)?,
            config,
            settings,
            required,
            profiles,
            home: environment.home(),
        })
    }
}

/// The broker's socket. The data directory is resolved only if the socket is in it.
pub fn socket(arguments: &Arguments, environment: &Environment<'_>) -> Result<PathBuf, PathsError> {
    let path = match explicit_socket(arguments, environment) {
        Some(path) => path,
        None => default_socket(arguments, environment)?,
    };
    check_socket(path)
}

fn explicit_socket(arguments: &Arguments, environment: &Environment<'_>) -> Option<PathBuf> {
    environment.given(arguments.socket.as_deref(), "SUNDOWN_SOCKET")
}

/// The socket of the host's broker, unless a socket is given.
fn host_socket(arguments: &Arguments, environment: &Environment<'_>) -> Option<PathBuf> {
    let asked = explicit_socket(arguments, environment).is_some();
    (!asked).then(|| environment.host_socket())
}

/// Whether no option and no variable chooses the broker.
fn asks_for_nothing(arguments: &Arguments, environment: &Environment<'_>) -> bool {
    explicit_socket(arguments, environment).is_none()
        && explicit_data(arguments, environment).is_none()
        && explicit_config(arguments, environment).is_none()
}

/// Whether the socket exists and this user may connect to it.
fn may_connect(socket: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, socket, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// Fails if the path is too long to be bound.
pub fn check_socket(path: PathBuf) -> Result<PathBuf, PathsError> {
    let fits = path.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH;
    if fits { Ok(path) } else { Err(PathsError::SocketTooLong(path)) }
}

fn default_socket(
    arguments: &Arguments,
    environment: &Environment<'_>,
) -> Result<PathBuf, PathsError> {
    let runtime = environment.runtime_directory().or_else(|| environment.own_run_user());
    match runtime {
        Some(runtime) => Ok(runtime.join("sundown/broker.sock")),
        // Never /tmp: the first user to make the socket there could pretend to be the broker.
        None => Ok(data_directory(arguments, environment)?.join("run/broker.sock")),
    }
}

/// The data directory.
pub fn data_directory(
    arguments: &Arguments,
    environment: &Environment<'_>,
) -> Result<PathBuf, PathsError> {
    explicit_data(arguments, environment)
        .or_else(|| Some(environment.absolute("XDG_DATA_HOME")?.join("sundown")))
        .or_else(|| Some(environment.home()?.join(".local/share/sundown")))
        .ok_or(PathsError::NoHome)
}

fn explicit_data(arguments: &Arguments, environment: &Environment<'_>) -> Option<PathBuf> {
    environment.given(arguments.data_dir.as_deref(), "SUNDOWN_DATA_DIR")
}

/// The settings file that is given, if any.
pub fn explicit_config(arguments: &Arguments, environment: &Environment<'_>) -> Option<PathBuf> {
    environment.given(arguments.config.as_deref(), "SUNDOWN_CONFIG")
}

/// The system's settings file and, if the user has a place for one, the user's.
fn default_settings(environment: &Environment<'_>) -> Vec<PathBuf> {
    let user = environment
        .absolute("XDG_CONFIG_HOME")
        .or_else(|| Some(environment.home()?.join(".config")));
    let folders = [Some(environment.etc.clone()), user];
    folders.into_iter().flatten().map(|folder| folder.join("sundown").join(SETTINGS_FILE)).collect()
}

impl Environment<'_> {
    /// The environment of this process.
    pub fn of_this_process() -> Self {
        Self {
            variable: &|name| std::env::var_os(name),
            privileges: Privileges::of_this_process(),
            uid: rustix::process::geteuid().as_raw(),
            directory: std::env::current_dir().ok(),
            run: PathBuf::from("/run"),
            etc: PathBuf::from("/etc"),
            lib: PathBuf::from("/var/lib"),
        }
    }

    fn system_settings(&self) -> PathBuf {
        self.etc.join("sundown").join(SETTINGS_FILE)
    }

    fn host_socket(&self) -> PathBuf {
        self.run.join("sundown/broker.sock")
    }

    /// The user's name, from the list of users or else from the system's directory services.
    pub fn user_name(&self) -> Option<String> {
        self.user_field(0).or_else(|| Some(self.unlisted()?.0))
    }

    fn home(&self) -> Option<PathBuf> {
        let listed = || self.user_field(5).map(PathBuf::from).or_else(|| Some(self.unlisted()?.1));
        self.absolute("HOME").or_else(|| listed().filter(|path| path.is_absolute()))
    }

    /// Name and home of a user missing from the list of users. If the list is another system's, as in tests, there is nothing else
    /// to ask.
    fn unlisted(&self) -> Option<(String, PathBuf)> {
        if self.etc == Path::new("/etc") { crate::process::account(self.uid) } else { None }
    }

    /// A field of the user's line in the list of users: name, password, number, group, description, home, shell.
    fn user_field(&self, place: usize) -> Option<String> {
        let list = std::fs::read(self.etc.join("passwd")).ok()?;
        let list = String::from_utf8_lossy(&list);
        let mut users = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let number = self.uid.to_string();
        let user = users.find(|fields| fields.get(2) == Some(&number.as_str()))?;
        user.get(place).filter(|field| !field.is_empty()).map(|&field| field.to_owned())
    }

    /// The option or else its variable, as an absolute path, because the broker may run in another directory than its client.
    fn given(&self, option: Option<&Path>, variable: &str) -> Option<PathBuf> {
        let option = option.filter(|path| !path.as_os_str().is_empty()).map(Path::to_path_buf);
        let path = option.or_else(|| self.own_variable(variable).map(PathBuf::from))?;
        Some(match &self.directory {
            Some(directory) => directory.join(path),
            None => path,
        })
    }

    /// The value of one of Sundown's own variables, if it is set, not empty, and counts.
    pub fn own_variable(&self, variable: &str) -> Option<OsString> {
        self.counts(variable).ok()?
    }

    /// The value of a variable, if it is set, or why it does not count.
    fn counts(&self, variable: &str) -> Result<Option<OsString>, Why> {
        match (self.variable)(variable).filter(|value| !value.is_empty()) {
            Some(_) if self.privileges == Privileges::Raised => Err(Why::Raised),
            value => Ok(value),
        }
    }

    /// The directory that a variable of the user names, if it counts.
    fn absolute(&self, variable: &str) -> Option<PathBuf> {
        self.directory_counts(variable).ok()?
    }

    /// The same, or why it does not count. For root, another user's directory does not count, as after `sudo -E`: files that root
    /// makes there lock that user out, and settings there are not root's. A directory that is not there yet is that of the user
    /// whose directory it would be made in.
    fn directory_counts(&self, variable: &str) -> Result<Option<PathBuf>, Why> {
        let Some(path) = self.counts(variable)?.map(PathBuf::from) else { return Ok(None) };
        if !path.is_absolute() {
            return Err(Why::Relative);
        }
        let anothers = || {
            let existing = path.ancestors().find_map(|above| std::fs::metadata(above).ok());
            existing.is_some_and(|found| found.uid() != self.uid)
        };
        if self.uid == 0 && anothers() { Err(Why::Anothers) } else { Ok(Some(path)) }
    }

    /// The value of `$XDG_RUNTIME_DIR`, if it counts.
    fn runtime_directory(&self) -> Option<PathBuf> {
        self.runtime_counts().ok()?
    }

    fn runtime_counts(&self) -> Result<Option<PathBuf>, Why> {
        let Some(path) = self.directory_counts(RUNTIME)? else { return Ok(None) };
        let Ok(found) = std::fs::metadata(&path) else { return Err(Why::Missing) };
        match found {
            found if found.uid() != self.uid => Err(Why::Anothers),
            found if found.mode() & 0o022 != 0 => Err(Why::Shared),
            found if self.is_for_sockets(&path, &found) => Ok(Some(path)),
            _ => Err(Why::Unusable),
        }
    }

    /// The variables that are set and do not count, with the reasons.
    pub fn ignored(&self) -> Vec<Ignored> {
        let own = OWN.map(|variable| (variable, self.counts(variable).err()));
        let directories = DIRECTORIES.map(|name| (name, self.directory_counts(name).err()));
        let all =
            own.into_iter().chain(directories).chain([(RUNTIME, self.runtime_counts().err())]);
        all.filter_map(|(variable, why)| Some(Ignored { variable, why: why? })).collect()
    }

    /// `/run/user/UID`, if it belongs to that user.
    fn own_run_user(&self) -> Option<PathBuf> {
        let path = self.run.join("user").join(self.uid.to_string());
        // A link could lead into another user's directory, so it is not followed.
        let found = std::fs::symlink_metadata(&path).ok()?;
        self.is_for_sockets(&path, &found).then_some(path)
    }

    /// Whether the user can make sockets in a directory and others cannot; otherwise mail could go to the first user who makes the
    /// socket. Only the system makes the directory itself: a directory made by a broker would outlive a logout, or could not be
    /// made at all.
    fn is_for_sockets(&self, path: &Path, found: &Metadata) -> bool {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        let use_it = Access::WRITE_OK | Access::EXEC_OK;
        found.is_dir()
            && found.uid() == self.uid
            && found.mode() & 0o022 == 0
            && accessat(CWD, path, use_it, AtFlags::EACCESS).is_ok()
    }
}

impl Privileges {
    /// The privileges of this process, by its ids and the kernel's `AT_SECURE`.
    pub fn of_this_process() -> Self {
        let ids_differ = rustix::process::getuid() != rustix::process::geteuid()
            || rustix::process::getgid() != rustix::process::getegid();
        if ids_differ || crate::process::is_secure() { Self::Raised } else { Self::Ordinary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables = &'static [(&'static str, &'static str)];

    /// Resolves with these variables, in /work, without /run and /etc.
    fn resolve(arguments: &Arguments, variables: Variables) -> Result<Paths, PathsError> {
        resolve_below(arguments, variables, Path::new("/nonexistent"), Privileges::Ordinary)
    }

    fn resolve_below(
        arguments: &Arguments,
        variables: Variables,
        run: &Path,
        privileges: Privileges,
    ) -> Result<Paths, PathsError> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        let environment = Environment {
            variable: &variable,
            privileges,
            uid: rustix::process::geteuid().as_raw(),
            directory: Some("/here".into()),
            run: run.to_owned(),
            etc: "/nonexistent/etc".into(),
            lib: "/nonexistent/lib".into(),
        };
        Paths::resolve(arguments, &environment)
    }

    fn options(socket: &str, data: &str, config: &str) -> Arguments {
        let given = |path: &str| Some(PathBuf::from(path));
        Arguments { socket: given(socket), data_dir: given(data), config: given(config) }
    }

    const TWINS: Variables = &[
        ("HOME", "/home/anna"),
        ("SUNDOWN_SOCKET", "/v/s"),
        ("SUNDOWN_DATA_DIR", "/v/d"),
        ("SUNDOWN_CONFIG", "/v/c.toml"),
    ];

    #[test]
    fn sockets_and_data_are_where_the_table_says() {
        let cases: &[(Variables, &str, &str)] = &[
            (
                &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/nonexistent/r"), ("XDG_DATA_HOME", "/d")],
                "/d/sundown/run/broker.sock",
                "/d/sundown",
            ),
            (
                &[("HOME", "/h")],
                "/h/.local/share/sundown/run/broker.sock",
                "/h/.local/share/sundown",
            ),
            (
                &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "r"), ("XDG_DATA_HOME", "")],
                "/h/.local/share/sundown/run/broker.sock",
                "/h/.local/share/sundown",
            ),
            (
                &[("HOME", "/h"), ("SUNDOWN_DATA_DIR", "/v"), ("SUNDOWN_SOCKET", "")],
                "/v/run/broker.sock",
                "/v",
            ),
            (&[("SUNDOWN_DATA_DIR", "v"), ("SUNDOWN_SOCKET", "s")], "/here/s", "/here/v"),
        ];
        for (variables, socket, data) in cases {
            let paths = resolve(&Arguments::default(), variables).expect("paths");
            assert_eq!(paths.socket, Path::new(socket), "{variables:?}");
            assert_eq!(paths.data, Path::new(data), "{variables:?}");
        }
    }

    #[test]
    fn options_win_over_variables() {
        let paths = resolve(&Arguments::default(), TWINS).expect("paths");
        assert_eq!(paths.socket, Path::new("/v/s"));
        assert_eq!(paths.data, Path::new("/v/d"));
        assert_eq!(paths.config.as_deref(), Some(Path::new("/v/c.toml")));
        let paths = resolve(&options("/o/s", "o", "/o/c.toml"), TWINS).expect("paths");
        assert_eq!(paths.socket, Path::new("/o/s"));
        assert_eq!(paths.data, Path::new("/here/o"));
        assert_eq!(paths.settings, [PathBuf::from("/o/c.toml")]);
        assert_eq!(paths.profiles, [PathBuf::from("/o/profiles")]);
        assert_eq!(paths.required.as_deref(), Some(Path::new("/o/c.toml")));
        let system = options("", "", "/nonexistent/etc/sundown/config.toml");
        let paths = resolve(&system, TWINS).expect("paths");
        assert_eq!((paths.settings.len(), paths.required), (1, None));
    }

    #[test]
    fn raised_privileges_ignore_every_variable() {
        const ALL: Variables = &[
            ("HOME", "/v/h"),
            ("XDG_RUNTIME_DIR", "/v/r"),
            ("XDG_DATA_HOME", "/v/d"),
            ("XDG_CONFIG_HOME", "/v/c"),
            ("SUNDOWN_SOCKET", "/v/s"),
            ("SUNDOWN_DATA_DIR", "/v/d"),
            ("SUNDOWN_CONFIG", "/v/c.toml"),
        ];
        let root = tempfile::tempdir().expect("a directory");
        let uid = rustix::process::geteuid().as_raw();
        let list = format!("anna:x:{uid}:7::/home/anna:/bin/sh\n");
        std::fs::write(root.path().join("passwd"), list).expect("written");
        let variable =
            |name: &str| ALL.iter().find(|(known, _)| *known == name).map(|(_, v)| v.into());
        let environment = Environment {
            variable: &variable,
            privileges: Privileges::Raised,
            run: "/nonexistent".into(),
            etc: root.path().to_owned(),
            ..Environment::of_this_process()
        };
        let paths = Paths::resolve(&Arguments::default(), &environment).expect("paths");
        assert_eq!(paths.data, Path::new("/home/anna/.local/share/sundown"));
        assert_eq!(paths.socket, paths.data.join("run/broker.sock"));
        assert_eq!(paths.settings[1], Path::new("/home/anna/.config/sundown/config.toml"));
        assert_eq!((paths.config, paths.home), (None, Some("/home/anna".into())));
        let ignored = environment.ignored();
        assert_eq!(ignored.len(), ALL.len());
        assert!(ignored.iter().all(|ignored| ignored.why == Why::Raised), "{ignored:?}");
        let note = note_of_ignored(&environment);
        assert!(
            note.starts_with("; SUNDOWN_SOCKET does not count: the program has raised privileges")
        );
        assert!(!note.contains("HOME"), "{note}");
        assert_eq!(Privileges::of_this_process(), Privileges::Ordinary);
    }

    /// A variable that does not count is named with its reason; a variable that is not set or empty is not named.
    #[test]
    fn variables_that_do_not_count_are_named() {
        use std::os::unix::fs::PermissionsExt;
        let shared = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(shared.path(), PermissionsExt::from_mode(0o777)).expect("set");
        let variable = |name: &str| match name {
            "XDG_RUNTIME_DIR" => Some(shared.path().into()),
            "XDG_DATA_HOME" => Some("data".into()),
            "XDG_CONFIG_HOME" => Some("".into()),
            "SUNDOWN_SOCKET" => Some("s".into()),
            _ => None,
        };
        let environment = Environment { variable: &variable, ..Environment::of_this_process() };
        let ignored = environment.ignored().into_iter().map(|i| (i.variable, i.why));
        assert_eq!(
            ignored.collect::<Vec<_>>(),
            [("XDG_DATA_HOME", Why::Relative), ("XDG_RUNTIME_DIR", Why::Shared)]
        );
        assert_eq!(
            note_of_ignored(&environment),
            "; XDG_RUNTIME_DIR does not count: others may write to the directory"
        );
        let none = Environment { variable: &|_| None, ..Environment::of_this_process() };
        assert_eq!(none.ignored(), []);
    }

    /// A directory to which others may write, that belongs to another user or does not exist, does not count as a runtime
    /// directory.
    #[test]
    fn a_runtime_directory_that_is_shared_or_gone_does_not_count() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().expect("a directory");
        let runtime = root.path().join("r");
        std::fs::create_dir(&runtime).expect("made");
        let found = |uid| {
            let variable = |name: &str| match name {
                "XDG_RUNTIME_DIR" => Some(runtime.clone().into()),
                _ => None,
            };
            let environment = Environment {
                variable: &variable,
                uid,
                run: "/nonexistent".into(),
                ..Environment::of_this_process()
            };
            environment.runtime_directory()
        };
        let user = rustix::process::geteuid().as_raw();
        for (mode, counts) in [(0o700, true), (0o755, true), (0o770, false), (0o1777, false)] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&runtime, mode.clone()).expect("changed");
            assert_eq!(found(user).is_some(), counts, "{mode:?}");
            assert_eq!(found(user + 1), None, "it is another user's");
        }
        std::fs::remove_dir(&runtime).expect("removed");
        assert_eq!(found(user), None, "it is gone, as after a logout");
        std::fs::write(&runtime, "").expect("written");
        std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700))
            .expect("changed");
        assert_eq!(found(user), None, "it is a file");
    }

    /// After `sudo -E` root has the variables of another user.
    #[test]
    fn for_root_the_directories_of_another_user_do_not_count() {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: another user's directory needs root");
        }
        let root = tempfile::tempdir().expect("a directory");
        let variable = |_: &str| Some(root.path().to_owned().into());
        let environment = Environment {
            variable: &variable,
            etc: "/nonexistent".into(),
            ..Environment::of_this_process()
        };
        assert_eq!(environment.home().as_deref(), Some(root.path()));
        std::os::unix::fs::chown(root.path(), Some(7), None).expect("given away");
        for name in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
            assert_eq!(environment.absolute(name), None, "{name}");
        }
        let below = root.path().join("not/there");
        let variable = |_: &str| Some(below.clone().into());
        let beneath = Environment { variable: &variable, uid: 0, ..Environment::of_this_process() };
        assert_eq!(beneath.absolute("XDG_DATA_HOME"), None, "root would make it in the other's");
        assert_eq!(Environment { uid: 8, ..environment }.home().as_deref(), Some(root.path()));
    }

    #[test]
    fn settings_are_the_systems_then_the_users() {
        let paths = resolve(&Arguments::default(), &[("HOME", "/h")]).expect("paths");
        let files = ["/nonexistent/etc/sundown/config.toml", "/h/.config/sundown/config.toml"];
        assert_eq!(paths.settings, files.map(PathBuf::from));
        let folders = ["/h/.config/sundown/profiles", "/nonexistent/etc/sundown/profiles"];
        assert_eq!(paths.profiles, folders.map(PathBuf::from));
        let variables = &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")];
        let paths = resolve(&Arguments::default(), variables).expect("paths");
        assert_eq!(paths.settings[1], Path::new("/c/sundown/config.toml"));
    }

    #[test]
    fn without_a_home_only_the_data_directory_must_be_given() {
        let error = resolve(&Arguments::default(), &[("HOME", "relative")]).expect_err("no home");
        assert_eq!(error, PathsError::NoHome);
        let text = error.to_string();
        assert!(text.contains("HOME") && text.contains("--data-dir"), "{text}");
        let arguments = Arguments { data_dir: Some("/d".into()), ..Arguments::default() };
        let paths = resolve(&arguments, &[]).expect("paths");
        assert_eq!(paths.socket, Path::new("/d/run/broker.sock"));
        assert_eq!(paths.settings, [PathBuf::from("/nonexistent/etc/sundown/config.toml")]);
    }

    #[test]
    fn the_runtime_directory_must_be_the_users_own() {
        let root = tempfile::tempdir().expect("a directory");
        let uid = rustix::process::geteuid().as_raw().to_string();
        let look = || {
            let variables = &[("HOME", "/h")];
            let none = Arguments::default();
            resolve_below(&none, variables, root.path(), Privileges::Ordinary)
                .expect("paths")
                .socket
        };
        let fallback = Path::new("/h/.local/share/sundown/run/broker.sock");
        assert_eq!(look(), fallback);
        std::fs::create_dir(root.path().join("user")).expect("made");
        let own = root.path().join("user").join(&uid);
        std::os::unix::fs::symlink("/", &own).expect("a link");
        assert_eq!(look(), fallback);
        std::fs::remove_file(&own).expect("removed");
        std::fs::create_dir(&own).expect("made");
        assert_eq!(look(), own.join("sundown/broker.sock"));
        let other = rustix::process::geteuid().as_raw() + 1;
        std::fs::create_dir(root.path().join("user").join(other.to_string())).expect("made");
        let environment = Environment {
            uid: other,
            run: root.path().to_owned(),
            ..Environment::of_this_process()
        };
        assert_eq!(environment.own_run_user(), None);
    }

    #[test]
    fn a_socket_path_has_at_most_107_bytes() {
        let path = |length: usize| PathBuf::from(format!("/{}", "s".repeat(length - 1)));
        assert!(check_socket(path(107)).is_ok());
        let error = check_socket(path(108)).expect_err("too long").to_string();
        for part in ["108 bytes", "107", "--socket"] {
            assert!(error.contains(part), "{error}");
        }
        let arguments = Arguments { socket: Some(path(300)), ..Arguments::default() };
        assert!(resolve(&arguments, &[("HOME", "/h")]).is_err());
    }

    /// cron and service managers start jobs with little more than a user.
    #[test]
    fn without_home_the_list_of_users_has_it() {
        let root = tempfile::tempdir().expect("a directory");
        let list =
            b"anna:x:7:7:\xc4 A:/home/anna:/bin/sh\nshort:x\nbo:x:8:8::relative:\n+nis:x:9:9\n";
        std::fs::write(root.path().join("passwd"), list).expect("written");
        let paths = |uid, variables: Variables| {
            let find = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            };
            let environment = Environment {
                variable: &find,
                uid,
                run: "/nonexistent".into(),
                etc: root.path().to_owned(),
                ..Environment::of_this_process()
            };
            Paths::resolve(&Arguments::default(), &environment)
        };
        let anna = paths(7, &[]).expect("paths");
        assert_eq!(anna.home.as_deref(), Some(Path::new("/home/anna")));
        assert_eq!(anna.data, Path::new("/home/anna/.local/share/sundown"));
        assert_eq!(anna.settings[1], Path::new("/home/anna/.config/sundown/config.toml"));
        assert_eq!(paths(7, &[("HOME", "/h")]).expect("paths").home, Some("/h".into()));
        for unknown in [8, 9, 10] {
            assert_eq!(paths(unknown, &[]), Err(PathsError::NoHome), "{unknown}");
        }
    }

    #[test]
    fn the_hosts_socket_is_for_those_who_ask_for_none() {
        let system =
            |arguments, variables| resolve(&arguments, variables).expect("paths").host_socket;
        let home: Variables = &[("HOME", "/h"), ("SUNDOWN_SOCKET", "")];
        let found = Some("/nonexistent/sundown/broker.sock".into());
        assert_eq!(system(Arguments::default(), home), found);
        assert_eq!(system(options("", "/d", "/c"), home), found);
        assert_eq!(system(options("/o/s", "", ""), home), None);
        assert_eq!(system(Arguments::default(), TWINS), None);
    }

    /// A machine below a directory: `/run`, `/etc`, `/var/lib` and the user's home.
    struct Machine {
        root: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            Self { root: tempfile::tempdir().expect("a directory") }
        }

        fn make(&self, file: &str) -> PathBuf {
            let path = self.root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(&path, "").expect("written");
            path
        }

        fn paths(&self, arguments: &Arguments, variables: Variables) -> Paths {
            let home = self.root.path().join("home");
            let find = |name: &str| match name {
                "HOME" => Some(home.clone().into()),
                name => variables.iter().find(|(known, _)| *known == name).map(|(_, v)| v.into()),
            };
            let environment = Environment {
                variable: &find,
                run: self.root.path().join("run"),
                etc: self.root.path().join("etc"),
                lib: self.root.path().join("lib"),
                ..Environment::of_this_process()
            };
            Paths::of_program(arguments, &environment).expect("paths")
        }
    }

    #[test]
    fn programs_use_the_hosts_broker_when_the_user_has_none() {
        let machine = Machine::new();
        let none = Arguments::default();
        assert_eq!(machine.paths(&none, &[]).whose, Whose::Own);
        let socket = machine.make("run/sundown/broker.sock");
        let paths = machine.paths(&none, &[]);
        assert_eq!((paths.whose, &paths.socket), (Whose::Host, &socket));
        assert_eq!(paths.data, machine.root.path().join("lib/sundown"));
        assert_eq!(paths.settings, [machine.root.path().join("etc/sundown/config.toml")]);
        assert_eq!(paths.profiles, [machine.root.path().join("etc/sundown/profiles")]);
    }

    #[test]
    fn whoever_asks_for_a_broker_or_has_one_does_not_get_the_hosts() {
        let machine = Machine::new();
        machine.make("run/sundown/broker.sock");
        let none = Arguments::default();
        let asking = [
            machine.paths(&options("/s", "", ""), &[]),
            machine.paths(&options("", "/d", ""), &[]),
            machine.paths(&options("", "", "/c"), &[]),
            machine.paths(&none, &[("SUNDOWN_DATA_DIR", "/d")]),
        ];
        for paths in asking {
            assert_eq!(paths.whose, Whose::Own, "{paths:?}");
        }
        for own in ["home/.local/share/sundown/broker.lock", "home/.config/sundown/config.toml"] {
            let machine = Machine::new();
            machine.make("run/sundown/broker.sock");
            machine.make(own);
            assert_eq!(machine.paths(&none, &[]).whose, Whose::Own, "{own}");
        }
    }
}
