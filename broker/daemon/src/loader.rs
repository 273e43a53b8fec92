//! Loads profiles that the loop cannot: those whose users are in no list of accounts. A directory service may know them, and
//! may take its time for an answer, so it is asked on a thread of its own.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use sundown_core::settings::{Profile, Version};
use sundown_protocol::SessionId;

use crate::settings::{self, Accounts, Places, ProfileError};

/// A profile that is to be loaded.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// The session that waits for it; without one, sessions that have another version of it.
    pub(crate) session: Option<SessionId>,
}

/// A profile, or why there is none.
pub(crate) type Loaded = (Wanted, Result<Profile, ProfileError>);

/// The thread, which is there once it is needed.
pub(crate) struct Loader {
    waker: Arc<Waker>,
    asking: Option<Sender<Wanted>>,
    /// What it has loaded.
    pub(crate) loaded: Receiver<Loaded>,
    answers: Sender<Loaded>,
}

impl Loader {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        let (answers, loaded) = unbounded();
        Self { waker, asking: None, loaded, answers }
    }

    /// Has a profile loaded; the loop is woken when it is. Where there can be no thread, the profile cannot be loaded, for this reason.
    pub(crate) fn load(&mut self, wanted: Wanted, places: &Places) -> std::io::Result<()> {
        if self.asking.is_none() {
            self.asking = Some(self.begin(places)?);
        }
        if let Some(asking) = &self.asking {
            let _ = asking.send(wanted);
        }
        Ok(())
    }

    fn begin(&self, places: &Places) -> std::io::Result<Sender<Wanted>> {
        let (asking, asked) = unbounded::<Wanted>();
        let places = Places { accounts: Accounts::system(), ..places.clone() };
        let (answers, waker) = (self.answers.clone(), Arc::clone(&self.waker));
        let load = move || {
            for wanted in asked {
                let result = settings::load_profile(&wanted.name, &places);
                if answers.send((wanted, result)).is_err() {
                    return;
                }
                let _ = waker.wake();
            }
        };
        thread::Builder::new().name("profiles".into()).spawn(load)?;
        Ok(asking)
    }
}
