//! Profiles for the core: loading, looking at and deleting them, and finding those with stores at the start.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mio::Waker;
use sundown_core::Event;
use sundown_core::settings::{LoadedProfile, Looked, Profile, Version};
use sundown_protocol::{Code, Fault, SessionId};

use crate::loader::{Loader, Wanted};
use crate::refusals::Lines;
use crate::settings::{self, Accounts, Places, ProfileError, Unlisted};

/// The folders of profiles, and the thread that loads profiles that take long.
pub(super) struct Profiles {
    places: Places,
    loader: Loader,
    /// Profiles that could not be used and whose stores may have mail, and the version that was tried.
    awaited: BTreeMap<String, Option<Version>>,
    /// What was last seen of profiles, by name.
    known: HashMap<String, Known>,
    /// How many versions of files were seen.
    versions: u64,
    /// Profiles of which the log says that they cannot be used, and why. Their files are there, so they are as many as the administrator
    /// made.
    unusable: HashMap<String, String>,
    /// Limits the lines about profiles that do not exist: any user may ask for one.
    missing: Lines,
}

/// How long a file may be empty until it counts as an empty profile.
const WRITING: Duration = Duration::from_secs(3);

/// What was last seen of a profile.
struct Known {
    files: Vec<(PathBuf, Identity)>,
    version: Version,
    read: Read,
}

/// Whether a version of a profile can be used.
#[derive(Clone)]
enum Read {
    /// As far as is known.
    Usable,
    Refused(Fault),
}

/// What tells whether a file is still the same, without reading it: its device, number, length, and the times of its last changes.
/// `None` if it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(Option<[i64; 7]>);

impl Identity {
    fn of(file: &Path) -> Self {
        let of = |m: Metadata| {
            let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
            let [seconds, nanos, change, change_nanos] = times;
            let numbers = [m.dev() as i64, m.ino() as i64, m.size() as i64];
            let [device, number, size] = numbers;
            [device, number, size, seconds, nanos, change, change_nanos]
        };
        Self(std::fs::metadata(file).ok().map(of))
    }

    /// When it was last written, in milliseconds since 1970.
    fn changed(self) -> Option<u64> {
        let [_, _, _, seconds, nanos, ..] = self.0?;
        u64::try_from(seconds * 1_000 + nanos / 1_000_000).ok()
    }
}

impl Profiles {
    pub(super) fn new(places: Places, waker: Arc<Waker>) -> Self {
        // The loop must not wait for a directory service.
        let accounts = Accounts { unlisted: Unlisted::Refused, ..places.accounts.clone() };
        let places = Places { accounts, ..places };
        Self {
            places,
            loader: Loader::new(waker),
            awaited: BTreeMap::new(),
            known: HashMap::new(),
            versions: 0,
            unusable: HashMap::new(),
            missing: Lines::default(),
        }
    }

    /// The profiles that have a store, whose queue may contain mail.
    pub(super) fn with_stores(&mut self) -> Vec<String> {
        let mut names = settings::profile_names(&self.places);
        names.retain(|profile| self.has_store(profile));
        names
    }

    fn has_store(&mut self, profile: &str) -> bool {
        let accounts = Accounts { unlisted: Unlisted::PassedOver, ..self.places.accounts.clone() };
        let places = Places { accounts, ..self.places.clone() };
        match settings::load_profile(profile, &places) {
            Ok(profile) => profile.stores.iter().any(|store| store.path.exists()),
            Err(error) => {
                // Nothing of its queue is sent.
                self.note(profile, Some(&unusable(&error)));
                self.wait_for(profile);
                false
            }
        }
    }

    /// Loads a profile for a session. The loop itself reads the small file. The loader's thread looks up users who are in no list,
    /// which may take a while: [`loaded`](Self::loaded) returns such a profile later.
    pub(super) fn load(&mut self, session: SessionId, name: &str) -> Option<Event> {
        let version = self.version(name);
        let wanted = Wanted { name: name.to_owned(), version, session: Some(session) };
        let result = match settings::load_profile(name, &self.places) {
            Err(ProfileError::Unlisted(_)) => {
                match self.loader.load(wanted.clone(), &self.places) {
                    Ok(()) => return None,
                    Err(error) => Err(no_thread(&error)),
                }
            }
            result => result.map_err(|error| unusable(&error)),
        };
        Some(self.loaded_as(wanted, result))
    }

    /// Remembers a profile that cannot be used now, if it may have mail.
    fn wait_for(&mut self, profile: &str) {
        if self.places.data.join(profile).is_dir() {
            let tried = self.known.get(profile).map(|known| known.version);
            self.awaited.insert(profile.to_owned(), tried);
        }
    }

    /// Whether profiles that may have mail cannot be used.
    pub(super) fn are_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Those of them that can be used by now.
    pub(super) fn mended(&mut self) -> Vec<String> {
        let mut mended = Vec::new();
        for (name, tried) in std::mem::take(&mut self.awaited) {
            let present = self.version(&name);
            let is_new = tried != Some(present);
            // Users whom only a directory service knows are looked up when a session begins.
            let usable = || {
                let read = settings::load_profile(&name, &self.places);
                matches!(read, Ok(_) | Err(ProfileError::Unlisted(_)))
            };
            if is_new && usable() {
                self.note(&name, None);
                mended.push(name);
            } else {
                self.awaited.insert(name, Some(present));
            }
        }
        mended
    }

    /// Looks whether a profile is still of this version, and reads it if not.
    pub(super) fn look(&mut self, name: &str, version: Version) -> Event {
        let present = self.version(name);
        let known = self.known.get(name).filter(|known| known.version == present);
        let result = match known.map(|known| known.read.clone()) {
            Some(Read::Refused(why)) => Err(why),
            _ if present == version || self.is_being_written(name) => Ok(Looked::Same),
            _ if present.changed.is_none() && version.changed.is_some() => {
                let message = format!("the file of profile {name:?} is gone");
                Err(Fault::new(Code::E_NOT_FOUND, message))
            }
            _ => {
                let wanted = Wanted { name: name.to_owned(), version: present, session: None };
                match settings::load_profile(name, &self.places) {
                    Err(ProfileError::Unlisted(_)) => {
                        match self.loader.load(wanted, &self.places) {
                            Ok(()) => Ok(Looked::Later),
                            Err(error) => Err(no_thread(&error)),
                        }
                    }
                    result => self.looked(&wanted, result),
                }
            }
        };
        Event::ProfileLooked { name: name.to_owned(), result }
    }

    /// Notes what a look has found, and logs it once for each version of the file.
    fn looked(
        &mut self,
        wanted: &Wanted,
        result: Result<Profile, ProfileError>,
    ) -> Result<Looked, Fault> {
        let result = result.map_err(|error| unusable(&error));
        let profile = &wanted.name;
        let read = match &result {
            Ok(_) => Read::Usable,
            Err(why) => Read::Refused(why.clone()),
        };
        if let Some(known) = self.known.get_mut(profile) {
            known.read = read;
        }
        self.note(profile, result.as_ref().err());
        if result.is_ok() {
            tracing::info!(event = "profile-changed", profile, "a profile has changed");
        }
        let version = wanted.version;
        result.map(|profile| Looked::Changed(LoadedProfile { profile: Box::new(profile), version }))
    }

    /// Whether a profile's file is empty since just now, as one is between its truncation and the write of its new text.
    fn is_being_written(&self, name: &str) -> bool {
        let files = self.known.get(name).into_iter().flat_map(|known| &known.files);
        let present = files.take(self.places.folders.len()).find_map(|(_, identity)| identity.0);
        let Some([_, _, size, seconds, ..]) = present else { return false };
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
        size == 0 && then.elapsed().unwrap_or_default() < WRITING
    }

    /// The version of a profile's files as they are now.
    fn version(&mut self, name: &str) -> Version {
        if let Some(known) = self.known.get(name)
            && known.files.iter().all(|(file, identity)| *identity == Identity::of(file))
        {
            return known.version;
        }
        let files = settings::profile_files(name, &self.places);
        let with_identity = |file: PathBuf| {
            let identity = Identity::of(&file);
            (file, identity)
        };
        let files: Vec<_> = files.into_iter().map(with_identity).collect();
        self.versions += 1;
        let folders = self.places.folders.len();
        let changed = files.iter().take(folders).find_map(|(_, identity)| identity.changed());
        let version = Version { number: self.versions, changed };
        // Anybody may ask for a profile that does not exist.
        if changed.is_some() || self.known.contains_key(name) || name == "default" {
            self.known.insert(name.to_owned(), Known { files, version, read: Read::Usable });
        }
        version
    }

    /// The next profile that the loader's thread has loaded.
    pub(super) fn loaded(&mut self) -> Option<Event> {
        let (wanted, result) = self.loader.loaded.try_recv().ok()?;
        if wanted.session.is_none() {
            let result = self.looked(&wanted, result);
            return Some(Event::ProfileLooked { name: wanted.name, result });
        }
        Some(self.loaded_as(wanted, result.map_err(|error| unusable(&error))))
    }

    fn loaded_as(&mut self, wanted: Wanted, result: Result<Profile, Fault>) -> Event {
        let Wanted { name, version, session } = wanted;
        self.note(&name, result.as_ref().err());
        if result.is_err() {
            self.wait_for(&name);
        }
        let result = result.map(|profile| LoadedProfile { profile: Box::new(profile), version });
        Event::ProfileLoaded { session: session.expect("a session waits"), result }
    }

    /// Logs that a profile cannot be used, once for each reason, and that it can be used again. A client that asked for the profile may
    /// not be allowed to learn the reason.
    fn note(&mut self, name: &str, wrong: Option<&Fault>) {
        match wrong {
            None => {
                if self.unusable.remove(name).is_some() {
                    tracing::info!(
                        event = "profile-usable",
                        profile = name,
                        "a profile can be used again"
                    );
                }
            }
            Some(why) if matches!(why.code, Code::E_NOT_FOUND | Code::E_INVALID_PARAMETER) => {
                self.unusable.remove(name);
                if let Some(unsaid) = self.missing.may_say() {
                    let event = "profile-missing";
                    tracing::info!(event, profile = name, %why, unsaid, "there is no such profile");
                }
            }
            Some(why) => {
                let text = why.to_string();
                if self.unusable.get(name) != Some(&text) {
                    let event = "profile-unusable";
                    tracing::warn!(event, profile = name, %why, "a profile cannot be used");
                    self.unusable.insert(name.to_owned(), text);
                }
            }
        }
    }

    /// Deletes a profile that no session uses.
    pub(super) fn delete(&mut self, name: String) -> Event {
        self.known.remove(&name);
        let removed = settings::remove_profile(&name, &self.places);
        match &removed {
            Ok(()) => tracing::info!(profile = name, "a profile was deleted"),
            Err(error) => tracing::warn!(profile = name, %error, "a profile was not deleted"),
        }
        let result = removed.map_err(|error| Fault::new(error.code(), error.to_string()));
        Event::ProfileDeleted { name, result }
    }
}

fn no_thread(error: &std::io::Error) -> Fault {
    let message = format!("cannot start a thread for profiles: {error}");
    Fault::new(Code::E_NOT_ENOUGH_RESOURCES, message)
}

/// The error for a member that asked for a profile.
fn unusable(error: &ProfileError) -> Fault {
    let code = match error {
        ProfileError::NotFound { .. } => Code::E_NOT_FOUND,
        ProfileError::Name(_) => Code::E_INVALID_PARAMETER,
        ProfileError::Invalid(_) | ProfileError::Unlisted(_) => Code::E_UNCONFIGURED,
    };
    Fault::new(code, error.to_string())
}
