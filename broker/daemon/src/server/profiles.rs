//! Profiles for the core: loading and deleting them, and finding those with stores at the start.

use std::collections::HashMap;
use std::sync::Arc;

use mio::Waker;
use sundown_core::Event;
use sundown_core::settings::Profile;
use sundown_protocol::{Code, Fault, SessionId};

use crate::loader::Loader;
use crate::refusals::Lines;
use crate::settings::{self, Accounts, Places, ProfileError, Unlisted};

/// The folders of profiles, and the thread that loads profiles that take long.
pub(super) struct Profiles {
    places: Places,
    loader: Loader,
    /// Profiles of which the log says that they cannot be used, and why. Their files are there, so they are as many as the administrator
    /// made.
    unusable: HashMap<String, String>,
    /// Limits the lines about profiles that do not exist: any user may ask for one.
    missing: Lines,
}

impl Profiles {
    pub(super) fn new(places: Places, waker: Arc<Waker>) -> Self {
        // The loop must not wait for a directory service.
        let accounts = Accounts { unlisted: Unlisted::Refused, ..places.accounts.clone() };
        let places = Places { accounts, ..places };
        Self {
            places,
            loader: Loader::new(waker),
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
                false
            }
        }
    }

    /// Loads a profile. The loop itself reads the small file. The loader's thread looks up users who are in no list, which may take
    /// a while: [`loaded`](Self::loaded) returns such a profile later.
    pub(super) fn load(&mut self, session: SessionId, name: &str) -> Option<Event> {
        let result = match settings::load_profile(name, &self.places) {
            Err(ProfileError::Unlisted(_)) => match self.loader.load(session, name, &self.places) {
                Ok(()) => return None,
                Err(error) => {
                    let message = format!("cannot start a thread for profiles: {error}");
                    Err(Fault::new(Code::E_NOT_ENOUGH_RESOURCES, message))
                }
            },
            result => result.map_err(|error| unusable(&error)),
        };
        Some(self.loaded_as(session, name, result))
    }

    /// The next profile that the loader's thread has loaded.
    pub(super) fn loaded(&mut self) -> Option<Event> {
        let (session, name, result) = self.loader.loaded.try_recv().ok()?;
        Some(self.loaded_as(session, &name, result.map_err(|error| unusable(&error))))
    }

    fn loaded_as(
        &mut self,
        session: SessionId,
        name: &str,
        result: Result<Profile, Fault>,
    ) -> Event {
        self.note(name, result.as_ref().err());
        Event::ProfileLoaded { session, result: result.map(Box::new) }
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
    pub(super) fn delete(&self, name: String) -> Event {
        let removed = settings::remove_profile(&name, &self.places);
        match &removed {
            Ok(()) => tracing::info!(profile = name, "a profile was deleted"),
            Err(error) => tracing::warn!(profile = name, %error, "a profile was not deleted"),
        }
        let result = removed.map_err(|error| Fault::new(error.code(), error.to_string()));
        Event::ProfileDeleted { name, result }
    }
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
