//! `sundown sync` and `sundown mailbox`: what mailboxes find, and how they fare.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sundown_client::{Error, MailboxState, Mapi, SessionStatus, Synced, Syncing};

use crate::cli::{Autostart, Context, SyncArguments, seconds};
use crate::output::{self, ago};
use crate::progress::{Progress, Step};
use crate::{reading, safe, table};

/// How often it is looked how far a mailbox is.
const LOOK: Duration = Duration::from_millis(250);

/// `sundown sync`
pub(crate) fn sync(context: &Context, arguments: &SyncArguments) -> Result<ExitCode, Error> {
    let mapi = context.initialize(Autostart::Yes)?;
    let found = reading::visit_with(context, &mapi, |session| {
        let mut found = session.sync()?;
        if let Some(limit) = arguments.wait
            && wait(context, &mapi, seconds(limit))?
        {
            // What came meanwhile was found by nobody else's look.
            let Synced { new, changed, removed, pending } = session.sync()?;
            found.new += new;
            found.changed += changed;
            found.removed += removed;
            found.pending = pending;
        }
        Ok(found)
    })?;
    output::print(context.json, &self::found(&found), || in_words(&found));
    Ok(ExitCode::SUCCESS)
}

/// What was found, as JSON.
pub(crate) fn found(found: &Synced) -> Value {
    let Synced { new, changed, removed, pending } = found;
    json!({ "new": new, "changed": changed, "removed": removed, "pending": pending })
}

fn in_words(found: &Synced) -> String {
    let Synced { new, changed, removed, pending } = found;
    let mut text = format!("{new} new, {changed} changed, {removed} gone\n");
    if *pending > 0 {
        text += &format!(
            "{pending} changes are not made in the mailbox yet; `sundown mailbox` says why\n"
        );
    }
    text
}

/// Waits until everything that is to be fetched is here, or until a time is over. Whether there was anything to wait for.
fn wait(context: &Context, mapi: &Mapi, limit: Duration) -> Result<bool, Error> {
    let until = Instant::now() + limit;
    let far = Arc::new(Mutex::new(Syncing::default()));
    let shown = Arc::clone(&far);
    let stays = "the broker goes on fetching while a program with mail is logged on";
    let progress = Progress::begin(context.json, stays, move || {
        let Syncing { done, total } = *shown.lock().unwrap_or_else(PoisonError::into_inner);
        let what = "fetching messages".to_owned();
        Some(Step { what, done, left: total.saturating_sub(done), next_try: None })
    });
    let mut waited = false;
    loop {
        let all: Vec<_> = mapi.mailboxes()?.iter().filter_map(|mailbox| mailbox.syncing).collect();
        if all.is_empty() || Instant::now() >= until {
            drop(progress);
            return Ok(waited);
        }
        waited = true;
        let sum = |of: fn(&Syncing) -> u64| all.iter().map(of).sum();
        *far.lock().unwrap_or_else(PoisonError::into_inner) =
            Syncing { done: sum(|syncing| syncing.done), total: sum(|syncing| syncing.total) };
        thread::sleep(LOOK);
    }
}

/// `sundown mailbox`
pub(crate) fn list(context: &Context) -> Result<ExitCode, Error> {
    let mapi = context.initialize(Autostart::No)?;
    let (sessions, mailboxes) = (mapi.status()?.sessions, mapi.mailboxes()?);
    let status = |mailbox: &MailboxState| of(&sessions, mailbox);
    let rows: Vec<_> = mailboxes.iter().map(|mailbox| value(mailbox, status(mailbox))).collect();
    output::print(context.json, &json!(rows), || {
        if mailboxes.is_empty() {
            return "no session has a mailbox now\n".to_owned();
        }
        let heading = ["profile", "mailbox", "checked", "changed", "pending", "fetched", "status"];
        let rows: Vec<_> = mailboxes.iter().map(|mailbox| row(mailbox, status(mailbox))).collect();
        table::table(&heading, &rows)
    });
    Ok(ExitCode::SUCCESS)
}

/// The profile of a mailbox, and its status.
fn of(sessions: &[SessionStatus], mailbox: &MailboxState) -> (String, String) {
    let session = sessions.iter().find(|session| session.id == mailbox.session);
    let Some(session) = session else { return ("?".to_owned(), "logged off".to_owned()) };
    let provider = session
        .providers
        .iter()
        .find(|p| p.kind == sundown_client::Resource::Mailbox && p.name == mailbox.name);
    let status = provider.map_or_else(|| "logged off".to_owned(), |p| p.status.clone());
    (session.profile.clone(), status)
}

fn value(mailbox: &MailboxState, (profile, status): (String, String)) -> Value {
    json!({
        "session": mailbox.session.0,
        "profile": profile,
        "name": mailbox.name,
        "kind": "mailbox",
        "status": status,
        "connections": mailbox.connections,
        "pending": mailbox.pending,
        "syncing": syncing(mailbox.syncing),
        "checked": mailbox.checked,
        "changed": mailbox.changed,
    })
}

/// How far a mailbox is, as JSON.
pub(crate) fn syncing(syncing: Option<Syncing>) -> Value {
    syncing.map_or(Value::Null, |Syncing { done, total }| json!({ "done": done, "total": total }))
}

fn row(mailbox: &MailboxState, (profile, status): (String, String)) -> Vec<String> {
    let age = |at: Option<u64>| at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", ago(at)));
    let fetched = match mailbox.syncing {
        Some(Syncing { done, total }) => format!("{done} of {total}"),
        None => "all".to_owned(),
    };
    let connected = match mailbox.connections {
        0 => status,
        1 => format!("{status}, 1 connection"),
        many => format!("{status}, {many} connections"),
    };
    vec![
        profile,
        mailbox.name.clone(),
        age(mailbox.checked),
        age(mailbox.changed),
        mailbox.pending.to_string(),
        fetched,
        safe::line(&connected),
    ]
}
