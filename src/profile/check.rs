//! `sundown profile check`: logs on and tries each provider.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use sundown_client::{Error, Logoff, Logon, Mapi, Session};

use crate::cli::{Autostart, Context};
use crate::output;
use crate::progress::{Progress, Step};

/// A provider, and the result of its test.
struct Tried {
    kind: &'static str,
    name: String,
    status: String,
    result: Result<(), Error>,
}

/// Tests the providers of a profile. No mail is sent: the session is private and without mail.
pub(super) fn run(context: &Context, name: &str) -> Result<ExitCode, Error> {
    let mapi = context.initialize(Autostart::Yes)?;
    let session = mapi.logon(Logon::private().profile(name).no_mail())?;
    let step = Arc::new(Mutex::new(Step::default()));
    let shown = Arc::clone(&step);
    let progress = Progress::begin(context.json, "nothing was changed", move || {
        Some(shown.lock().unwrap_or_else(PoisonError::into_inner).clone())
    });
    let tried = try_providers(&mapi, &session, &step)?;
    drop(progress);
    session.logoff(Logoff::now())?;
    let works = tried.iter().all(|provider| provider.result.is_ok());
    let providers: Vec<_> = tried.iter().map(value).collect();
    let value = json!({ "profile": name, "works": works, "providers": providers });
    output::show(context.json, &value, || {
        let rows: Vec<_> = tried.iter().map(row).collect();
        let verdict = if works { "everything works" } else { "not everything works" };
        output::table(&["provider", "name", "status"], &rows) + "\n" + verdict + "\n"
    })?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn try_providers(mapi: &Mapi, session: &Session, step: &Mutex<Step>) -> Result<Vec<Tried>, Error> {
    let status = mapi.status()?;
    let mut sessions = status.sessions.into_iter();
    let ours = sessions.find(|s| s.members.iter().any(|m| m.id == session.member()));
    let providers = ours.map(|session| session.providers).unwrap_or_default();
    let all = providers.len();
    let tried = providers.into_iter().enumerate().map(|(done, provider)| {
        *step.lock().unwrap_or_else(PoisonError::into_inner) = Step {
            what: format!("trying {} {}", provider.kind.name(), provider.name),
            done: done as u64,
            left: (all - done) as u64,
            next_try: None,
        };
        Tried {
            kind: provider.kind.name(),
            result: session.validate_state(provider.kind, &provider.name),
            name: provider.name,
            status: provider.status,
        }
    });
    Ok(tried.collect())
}

fn value(tried: &Tried) -> Value {
    json!({
        "kind": tried.kind,
        "name": tried.name,
        "status": tried.status,
        "works": tried.result.is_ok(),
        "error": tried.result.as_ref().err().map(output::error_value),
    })
}

fn row(tried: &Tried) -> Vec<String> {
    let how = match &tried.result {
        Ok(()) => "works".to_owned(),
        Err(error) => error.to_string(),
    };
    vec![tried.kind.to_owned(), tried.name.clone(), how]
}
