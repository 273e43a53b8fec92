//! `sundown profile`: the accounts that sessions are for.
//!
//! ```text
//! add       makes a profile's file from options
//! ask       asks for what is missing, on a terminal
//! servers   finds the servers of a mail address
//! import    makes one from the settings of msmtp or nullmailer
//! show      what a profile consists of; nothing of a password but where it is
//! check     whether its providers work
//! reload    has sessions use the file as it is now
//! mistakes  what is wrong with files, for `sundown doctor`
//! ```

mod add;
mod ask;
mod check;
mod import;
pub(crate) mod mistakes;
mod reload;
mod servers;
mod show;

use std::process::ExitCode;

use serde_json::json;
use sundown_client::{Code, Deletion, Error};
use sundown_daemon::settings::{self, Places, ProfileError};
use sundown_daemon::{Profile, Registry};

use crate::cli::{Autostart, Context, ProfileAction, ProfileArguments};
use crate::output;

pub(crate) fn run(context: &Context, arguments: &ProfileArguments) -> Result<ExitCode, Error> {
    let places = places(context);
    match &arguments.action {
        ProfileAction::List => list(context, &places)?,
        ProfileAction::Show { name } => {
            let profile = load(name, &places)?;
            output::show(context.json, &show::value(&profile), || show::text(&profile))?;
        }
        ProfileAction::Add(arguments) => add::run(context, &places, arguments)?,
        ProfileAction::Import(arguments) => import::run(context, &places, arguments)?,
        ProfileAction::Check { name } => {
            load(name, &places)?;
            return check::run(context, name);
        }
        ProfileAction::Reload { name } => {
            return reload::run(context, &places, name.as_deref());
        }
        ProfileAction::Remove { name } => {
            // A broker that could only refuse the name is not started.
            if let Err(error @ ProfileError::Name(_)) = settings::load_profile(name, &places) {
                return Err(output::invalid(error.to_string()));
            }
            remove(context, name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn places(context: &Context) -> Places {
    sundown_daemon::places(&crate::serve::locations(&context.paths), &Registry::shipped())
}

pub(crate) fn load(name: &str, places: &Places) -> Result<Profile, Error> {
    settings::load_profile(name, places).map_err(|error| {
        let code = match error {
            ProfileError::NotFound { .. } => Code::E_NOT_FOUND,
            ProfileError::Name(_) => Code::E_INVALID_PARAMETER,
            ProfileError::Invalid(_) | ProfileError::Unlisted(_) => Code::E_UNCONFIGURED,
        };
        output::error(code, error.to_string())
    })
}

fn list(context: &Context, places: &Places) -> Result<(), Error> {
    let names = settings::profile_names(places);
    let default = context.profile.as_deref().unwrap_or("default");
    let shown = output::show(context.json, &json!(names), || {
        let mark = |name: &str| if name == default { "*" } else { "" };
        let row = |name: &String| vec![name.clone(), transports(name, places), mark(name).into()];
        let rows: Vec<_> = names.iter().map(row).collect();
        output::table(&["profile", "transports", "default"], &rows)
    });
    shown.map(drop)
}

/// The names of a profile's transports, or why they cannot be read.
fn transports(name: &str, places: &Places) -> String {
    match settings::load_profile(name, places) {
        Ok(profile) => {
            let names = profile.transports.iter().map(|t| t.provider.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
        Err(ProfileError::NotFound { .. }) => "(its file is gone, its data is there)".to_owned(),
        Err(_) => format!("(a mistake in its file; see `sundown profile show {name}`)"),
    }
}

/// Removes a profile through the broker, because sessions may still use it.
fn remove(context: &Context, name: &str) -> Result<(), Error> {
    let mapi = context.initialize(Autostart::Yes)?;
    let deferred = mapi.delete_profile(name)? == Deletion::WhenUnused;
    let value = json!({ "profile": name, "deferred": deferred });
    output::print(context.json, &value, || {
        if deferred {
            format!("{name} is in use; it is removed when its sessions have ended\n")
        } else {
            format!("removed {name}; its data stays\n")
        }
    });
    Ok(())
}
