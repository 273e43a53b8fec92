//! Settings and profiles as a broker reads them, to find mistakes.

use std::path::PathBuf;

use sundown_client::Error;
use sundown_daemon::settings::{self, Accounts, ProfileError};
use sundown_daemon::{MailboxSpec, Profile, ProviderSpec};

use crate::cli::Context;
use crate::output;

/// The beginning of the names of copies that a broker makes of databases whose files were removed.
pub(crate) use sundown_daemon::RESCUED;

/// Facts of settings that could be read.
pub(crate) struct Settings {
    /// The files that exist.
    pub(crate) files: Vec<PathBuf>,
    /// Whether a group may use the socket.
    pub(crate) group: bool,
}

/// A profile, and whether it could be read.
pub(crate) struct Read {
    pub(crate) name: String,
    pub(crate) result: Result<(), Mistake>,
}

/// Why there is no profile with this name.
pub(crate) enum Mistake {
    /// Its file is gone, but its data exists.
    OnlyData,
    /// Nothing has this name, or the name is not valid.
    None(String),
    /// Its sender is no address, because it is made of this host's name; the sender, and why.
    Sender(String),
    /// Its file has a mistake, with its place.
    Wrong(String),
}

/// Fails if a settings file is asked for and is not there: it is a typing mistake, or not mounted yet, and its profiles are not those
/// beside it.
pub(crate) fn required(context: &Context) -> Result<(), Error> {
    let required = settings::require(context.paths.required.as_deref());
    required.map_err(|error| output::invalid(error.to_string()))
}

/// Reads the settings. Fails with the first mistake in them.
pub(crate) fn of_settings(context: &Context) -> Result<Settings, String> {
    let paths = &context.paths;
    let loaded = settings::require(paths.required.as_deref())
        .and_then(|()| settings::load_settings(&paths.settings, &Accounts::system()));
    let loaded = loaded.map_err(|error| error.to_string())?;
    Ok(Settings { files: loaded.files, group: loaded.socket_group.is_some() })
}

/// The files of all stores and address books that profiles name.
pub(crate) fn databases(context: &Context) -> Vec<PathBuf> {
    let places = super::places(context);
    let names = settings::profile_names(&places);
    let profiles = names.iter().filter_map(|name| settings::load_profile(name, &places).ok());
    let databases = |profile: Profile| profile.stores.into_iter().chain(profile.address_books);
    profiles.flat_map(databases).map(|provider| provider.path).collect()
}

/// A mailbox of a profile.
pub(crate) struct Mailbox {
    pub(crate) profile: String,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Whether a transport of the profile delivers into it, and makes it.
    pub(crate) is_delivered_into: bool,
}

/// The mailboxes of all profiles that can be read.
pub(crate) fn mailboxes(context: &Context) -> Vec<Mailbox> {
    let places = super::places(context);
    let names = settings::profile_names(&places);
    let profiles = names.iter().filter_map(|name| settings::load_profile(name, &places).ok());
    let of_profile = |profile: Profile| {
        // `{user}` in the path of a transport stands for this user, too.
        let made = profile.transports.iter().map(|transport| {
            let path = transport.provider.path.to_string_lossy();
            PathBuf::from(path.replace("{user}", &places.user))
        });
        let made: Vec<_> = made.collect();
        let of_mailbox = |mailbox: &MailboxSpec| {
            let ProviderSpec { name, path, .. } = mailbox.provider.clone();
            let is_delivered_into = made.contains(&path);
            Mailbox { profile: profile.name.clone(), name, path, is_delivered_into }
        };
        profile.mailboxes.iter().map(of_mailbox).collect::<Vec<_>>()
    };
    profiles.flat_map(of_profile).collect()
}

/// Looks whether the sender of messages that name none is an address.
fn of_sender(identity: &str) -> Result<(), Mistake> {
    let wrong = |why| Mistake::Sender(format!("{identity:?} is not an address: {why}"));
    sundown_mail::address::split(identity).map(|_| ()).map_err(wrong)
}

/// All profiles, and the requested profile if it is not among them.
pub(crate) fn of_profiles(context: &Context) -> Vec<Read> {
    let places = super::places(context);
    let mut names = settings::profile_names(&places);
    let asked = context.profile.clone().filter(|asked| !names.contains(asked));
    let known = names.len();
    names.extend(asked);
    let read = |(place, name): (usize, String)| {
        let result = match settings::load_profile(&name, &places) {
            Ok(profile) => of_sender(&profile.identity),
            Err(ProfileError::NotFound { .. }) if place < known => Err(Mistake::OnlyData),
            Err(ProfileError::Invalid(error)) => Err(Mistake::Wrong(error.to_string())),
            Err(error) => Err(Mistake::None(error.to_string())),
        };
        Read { name, result }
    };
    names.into_iter().enumerate().map(read).collect()
}
