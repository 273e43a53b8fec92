//! Profiles for the core: loading and deleting them, and finding those with stores at the start.

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
    /// Limits the lines about profiles that cannot be used: any user may ask for one.
    refused: Lines,
}

impl Profiles {
    pub(super) fn new(places: Places, waker: Arc<Waker>) -> Self {
        // The loop must not wait for a directory service.
        let accounts = Accounts { unlisted: Unlisted::Refused, ..places.accounts.clone() };
        let places = Places { accounts, ..places };
        Self { places, loader: Loader::new(waker), refused: Lines::default() }
    }

    /// The profiles that have a store, whose queue may contain mail.
    pub(super) fn with_stores(&self) -> Vec<String> {
        let mut names = settings::profile_names(&self.places);
        names.retain(|profile| self.has_store(profile));
        names
    }

    fn has_store(&self, profile: &str) -> bool {
        let accounts = Accounts { unlisted: Unlisted::PassedOver, ..self.places.accounts.clone() };
        let places = Places { accounts, ..self.places.clone() };
        let read = settings::load_profile(profile, &places);
        read.is_ok_and(|p| p.stores.iter().any(|store| store.path.exists()))
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
        // A client that asked for the profile may not be allowed to learn why it cannot be used, so the reason is logged.
        if let Err(why) = &result
            && let Some(unsaid) = self.refused.may_say()
        {
            tracing::warn!(event = "refused", profile = name, %why, unsaid, "a profile cannot be used");
        }
        Event::ProfileLoaded { session, result: result.map(Box::new) }
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
