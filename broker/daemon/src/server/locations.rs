//! The broker's paths: its socket, its data, its settings and profiles; and why it does not start there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sundown_providers::Registry;
use sundown_providers::runtime::{BootId, Runtime};

use crate::metrics::Listen;
use crate::settings::{self, Accounts, KnownKinds, Loaded, Places, Serves};
use crate::socket::{PassedError, PlaceError};
use crate::tickets;

/// The broker's paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The socket.
    pub socket: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// Settings files; a later file wins.
    pub settings: Vec<PathBuf>,
    /// The settings file that must exist, if there is such a file: it was given.
    pub required: Option<PathBuf>,
    /// Folders with profiles; an earlier folder wins.
    pub profiles: Vec<PathBuf>,
    /// The directory for which `~` stands in a profile.
    pub home: Option<PathBuf>,
    /// The broker's runtime directory, which lasts as long as the machine runs, if a service manager made one
    /// (`RUNTIME_DIRECTORY`); otherwise the socket's directory is used.
    pub runtime: Option<PathBuf>,
}

impl Locations {
    pub(super) fn load_settings(&self) -> Result<Loaded, settings::SettingsError> {
        settings::require(self.required.as_deref())?;
        settings::load_settings(&self.settings, &Accounts::system())
    }

    /// The directories for data of the next broker, the best first.
    pub(super) fn runtime_directories(&self) -> Vec<PathBuf> {
        let sockets = self.socket.parent().map(PathBuf::from);
        self.runtime.iter().cloned().chain(sockets).chain([self.data.clone()]).collect()
    }

    /// Resolves the address in `[metrics]`.
    pub(super) fn metrics(&self, listen: &Listen) -> Listen {
        let name = self.socket.file_name().unwrap_or_default().to_string_lossy();
        listen.of_broker(&self.runtime_directories()[0], &name)
    }
}

/// Why a broker does not start.
#[derive(Debug)]
pub enum StartupError {
    /// The settings have a mistake.
    Settings(settings::SettingsError),
    /// The socket or the data directory cannot be used.
    Place(PlaceError),
    /// The system refused something that the broker needs.
    System {
        /// What was attempted.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => error.fmt(f),
            Self::Place(error) => error.fmt(f),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for StartupError {}

impl StartupError {
    /// Whether another broker runs with the same data directory, and nothing else is wrong.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Place(PlaceError::Running { .. }))
    }
}

impl From<PlaceError> for StartupError {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
    }
}

impl From<PassedError> for StartupError {
    fn from(error: PassedError) -> Self {
        Self::Place(PlaceError::Passed(error))
    }
}

/// Makes a startup error from an error of the system.
pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartupError {
    move |error| StartupError::System { what, error }
}

/// Where providers may keep what the next broker needs after a crash.
pub(super) fn runtime(locations: &Locations) -> Runtime {
    let name = locations.socket.file_name().unwrap_or_default();
    Runtime {
        directories: locations.runtime_directories(),
        name: name.to_string_lossy().into_owned(),
        boot: BootId::parse(&tickets::boot_id()),
    }
}

/// Where profiles are, and which kinds of providers they may name.
pub fn places(locations: &Locations, registry: &Registry) -> Places {
    let names = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let kinds = KnownKinds {
        stores: names(registry.stores.keys().cloned().collect()),
        transports: names(registry.transports.keys().cloned().collect()),
        mailboxes: names(registry.mailboxes.keys().cloned().collect()),
        address_books: names(registry.address_books.keys().cloned().collect()),
    };
    let uid = rustix::process::geteuid().as_raw();
    Places {
        folders: locations.profiles.clone(),
        data: locations.data.clone(),
        home: locations.home.clone(),
        user: Accounts::system().name(uid).unwrap_or_else(|| uid.to_string()),
        serves: serves(&locations.settings),
        hostname: rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
        mailname: "/etc/mailname".into(),
        kinds,
        accounts: Accounts::system(),
    }
}

/// Whose mail a broker with these settings is for. The broker of a user reads the user's file, too.
fn serves(settings: &[PathBuf]) -> Serves {
    let of_host = Path::new("/etc/sundown");
    let host = !settings.is_empty() && settings.iter().all(|file| file.starts_with(of_host));
    if host { Serves::Host } else { Serves::User }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_with_the_settings_of_the_host_serves_the_host() {
        let serves = |files: &[&str]| serves(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        let (host, user) = ("/etc/sundown/config.toml", "/home/anna/.config/sundown/config.toml");
        assert_eq!(serves(&[host]), Serves::Host);
        for files in [&[host, user][..], &[user], &["/tmp/config.toml"], &[]] {
            assert_eq!(serves(files), Serves::User, "{files:?}");
        }
    }
}
