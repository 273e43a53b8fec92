//! `sundown profile reload`: has running sessions use a profile's file as it is now.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::{Value, json};
use sundown_client::{Error, Mapi, Reload, Reloaded};
use sundown_daemon::settings::Places;

use crate::cli::{Autostart, Context};
use crate::output;

/// Without a name, every profile that a session uses is read again. The exit status says whether all could be used.
pub(super) fn run(
    context: &Context,
    places: &Places,
    name: Option<&str>,
) -> Result<ExitCode, Error> {
    if let Some(name) = name {
        // A mistake is said where it stands, whether or not a broker runs.
        super::load(name, places)?;
    }
    let mapi = match context.initialize(Autostart::No) {
        Ok(mapi) => mapi,
        Err(error) if error.is_unreachable() => {
            let text = "no broker runs: the next one reads the profiles as they are\n";
            output::print(context.json, &json!({ "profiles": [] }), || text.to_owned());
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error),
    };
    let names = match name {
        Some(name) => BTreeSet::from([name.to_owned()]),
        None => used(&mapi)?,
    };
    let mut all = Vec::new();
    for name in names {
        let reloaded = mapi.reload(&name)?;
        all.push((name, reloaded));
    }
    let refused = all.iter().any(|(_, r)| matches!(r.result, Reload::Refused(_)));
    let profiles: Vec<_> = all.iter().map(|(name, reloaded)| value(name, reloaded)).collect();
    output::print(context.json, &json!({ "profiles": profiles }), || {
        if all.is_empty() {
            return "no session runs: the next one reads its profile as it is\n".to_owned();
        }
        all.iter().map(|(name, reloaded)| text(name, reloaded)).collect()
    });
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The profiles that sessions use.
fn used(mapi: &Mapi) -> Result<BTreeSet<String>, Error> {
    Ok(mapi.status()?.sessions.into_iter().map(|session| session.profile).collect())
}

fn word(result: &Reload) -> &'static str {
    match result {
        Reload::Unchanged => "unchanged",
        Reload::Changed => "changed",
        Reload::Refused(_) => "refused",
        Reload::Later => "later",
    }
}

fn value(name: &str, Reloaded { sessions, result }: &Reloaded) -> Value {
    let why = if let Reload::Refused(why) = result { Some(why) } else { None };
    json!({ "profile": name, "sessions": sessions, "result": word(result), "why": why })
}

fn text(name: &str, Reloaded { sessions, result }: &Reloaded) -> String {
    let (by, keeps) = match sessions {
        0 => return format!("{name}: no session uses it; the next one reads it as it is\n"),
        1 => ("1 session".to_owned(), "its session keeps what it has"),
        many => (format!("{many} sessions"), "its sessions keep what they have"),
    };
    match result {
        Reload::Unchanged => format!("{name}: unchanged, used by {by}; what waits is tried now\n"),
        Reload::Changed => format!("{name}: changed, and used by {by} from now on\n"),
        Reload::Refused(why) => {
            format!("{name}: not used, {keeps}: {}\n", crate::safe::line(why))
        }
        Reload::Later => format!(
            "{name}: changed; a directory service is asked about its users, then {by} will use it\n"
        ),
    }
}
