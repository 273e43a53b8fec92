//! `sundown profile`: the accounts that sessions are for.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use sundown_client::{Code, Error, Logoff, Logon};
use sundown_daemon::settings::{self, Places, ProfileError};
use sundown_daemon::{Profile, ProviderSpec, Registry};

use crate::cli::{Autostart, Context, ProfileAction, ProfileArguments};
use crate::output;

pub(crate) fn run(context: &Context, arguments: &ProfileArguments) -> Result<ExitCode, Error> {
    let places = sundown_daemon::places(&crate::serve::locations(context), &Registry::shipped());
    match &arguments.action {
        ProfileAction::List => list(context, &places),
        ProfileAction::Show { name } => {
            let profile = load(name, &places)?;
            output::print(context.json, &value(&profile), || text(&profile));
        }
        ProfileAction::Add { name, maildir, accept } => {
            add(context, &places, name, maildir.as_ref(), accept)?;
        }
        ProfileAction::Check { name } => return check(context, &places, name),
    }
    Ok(ExitCode::SUCCESS)
}

fn load(name: &str, places: &Places) -> Result<Profile, Error> {
    settings::load_profile(name, places).map_err(|error| {
        let code = match error {
            ProfileError::NotFound { .. } => Code::E_NOT_FOUND,
            ProfileError::Name(_) => Code::E_INVALID_PARAMETER,
            ProfileError::Invalid(_) => Code::E_UNCONFIGURED,
        };
        output::error(code, error.to_string())
    })
}

fn list(context: &Context, places: &Places) {
    let names = settings::profile_names(places);
    output::print(context.json, &json!(names), || {
        names.iter().map(|name| format!("{name}\n")).collect()
    });
}

fn value(profile: &Profile) -> Value {
    let provider = |spec: &ProviderSpec| {
        json!({
            "name": spec.name,
            "kind": spec.kind,
            "path": spec.path,
            "fast_shutdown": spec.fast_shutdown.name(),
        })
    };
    let transports: Vec<_> = profile
        .transports
        .iter()
        .map(|transport| {
            let mut value = provider(&transport.provider);
            let accept: Vec<_> = transport.accept.iter().map(ToString::to_string).collect();
            value["accept"] = json!(accept);
            value
        })
        .collect();
    json!({
        "profile": profile.name,
        "identity": profile.identity,
        "stores": profile.stores.iter().map(provider).collect::<Vec<_>>(),
        "transports": transports,
        "address_books": profile.address_books.iter().map(provider).collect::<Vec<_>>(),
    })
}

fn text(profile: &Profile) -> String {
    let row = |what: &str, spec: &ProviderSpec, accept: String| {
        vec![
            what.to_owned(),
            spec.name.clone(),
            spec.kind.clone(),
            spec.path.display().to_string(),
            accept,
        ]
    };
    let mut rows: Vec<_> =
        profile.stores.iter().map(|spec| row("store", spec, String::new())).collect();
    for transport in &profile.transports {
        let accept: Vec<_> = transport.accept.iter().map(ToString::to_string).collect();
        rows.push(row("transport", &transport.provider, accept.join(", ")));
    }
    rows.extend(profile.address_books.iter().map(|spec| row("address book", spec, String::new())));
    let heading = ["provider", "name", "kind", "where", "takes"];
    format!(
        "profile {}, sender {}\n\n{}",
        profile.name,
        profile.identity,
        output::table(&heading, &rows)
    )
}

/// Writes a profile's file. One that is there is never overwritten.
fn add(
    context: &Context,
    places: &Places,
    name: &str,
    maildir: Option<&PathBuf>,
    accept: &[String],
) -> Result<(), Error> {
    if !settings::valid_name(name) {
        return Err(load(name, places).err().unwrap_or_else(|| output::invalid("not a name")));
    }
    let folder = places.folders.first().ok_or_else(|| {
        output::invalid("no folder for profiles is known: HOME is not set; say --config")
    })?;
    let mut content = "[[transport]]\nkind = \"maildir\"\n".to_owned();
    if let Some(path) = maildir {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        content += &format!("path = {}\n", quoted(&path.display().to_string()));
    }
    if !accept.is_empty() {
        let accept: Vec<_> = accept.iter().map(|pattern| quoted(pattern)).collect();
        content += &format!("accept = [{}]\n", accept.join(", "));
    }
    let file = folder.join(format!("{name}.toml"));
    let cannot = |e: std::io::Error| {
        let code = match e.kind() {
            std::io::ErrorKind::AlreadyExists => Code::E_COLLISION,
            _ => Code::E_NO_ACCESS,
        };
        output::error(code, format!("cannot make {}: {e}", file.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    let made = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&file);
    made.and_then(|mut made| made.write_all(content.as_bytes())).map_err(cannot)?;
    // What does not make sense is not left behind.
    if let Err(error) = load(name, places) {
        let _ = std::fs::remove_file(&file);
        return Err(error);
    }
    let value = json!({ "profile": name, "file": file });
    output::print(context.json, &value, || {
        format!("made {}; try it with `sundown profile check {name}`\n", file.display())
    });
    Ok(())
}

/// A string as TOML writes it; the escapes are those of JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Logs on to a profile, and says of each provider how it is.
fn check(context: &Context, places: &Places, name: &str) -> Result<ExitCode, Error> {
    load(name, places)?;
    let mapi = context.initialize(Autostart::Yes)?;
    let session = mapi.logon(Logon::private().profile(name).no_mail())?;
    let status = mapi.status()?;
    session.logoff(Logoff::now())?;
    let of_this =
        status.sessions.iter().find(|s| s.members.iter().any(|m| m.id == session.member()));
    let providers = of_this.map(|s| s.providers.clone()).unwrap_or_default();
    let rows: Vec<_> = providers
        .iter()
        .map(|p| vec![p.kind.name().to_owned(), p.name.clone(), p.status.clone()])
        .collect();
    let works = providers.iter().all(|p| p.status == "available");
    let list: Vec<_> = providers
        .iter()
        .map(|p| json!({ "kind": p.kind.name(), "name": p.name, "status": p.status }))
        .collect();
    let value = json!({ "profile": name, "works": works, "providers": list });
    output::print(context.json, &value, || {
        let verdict = if works { "everything works" } else { "not everything works" };
        output::table(&["provider", "name", "status"], &rows) + "\n" + verdict + "\n"
    });
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
