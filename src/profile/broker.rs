//! What `profile` asks the broker for, in one place.

use sundown_client::{Code, Error, Mapi, Session};
use sundown_daemon::settings::{self, Places};

use crate::output;

/// Removes a profile. Whether that waits for the end of its sessions.
pub(super) fn delete_profile(_mapi: &Mapi, places: &Places, name: &str) -> Result<bool, Error> {
    let removed = settings::remove_profile(name, places);
    removed.map(|()| false).map_err(|error| output::error(error.code(), error.to_string()))
}

/// Whether a provider of the session works. `status` is what the broker has said of it.
pub(super) fn validate_state(
    _session: &Session,
    _provider: &str,
    status: &str,
) -> Result<(), Error> {
    match status {
        "available" => Ok(()),
        other => Err(output::error(Code::E_FAILONEPROVIDER, other)),
    }
}
