//! `sundown queue`: the outgoing queue.

mod flush;

pub(crate) use flush::hastened;

use std::process::ExitCode;

use serde_json::{Value, json};
use sundown_client::{EntryId, Error, QueueRow};

use crate::cli::{Autostart, Context, QueueAction, QueueArguments};
use crate::output::{self, ago, until};

pub(crate) fn run(context: &Context, arguments: &QueueArguments) -> Result<ExitCode, Error> {
    let action = arguments.action.as_ref().unwrap_or(&QueueAction::List { all: false });
    // Invalid arguments are refused before a broker is started.
    check(action)?;
    let mapi = context.initialize(Autostart::Yes)?;
    let profile = context.profile.as_deref();
    match action {
        QueueAction::List { all } => {
            let rows = mapi.queue(profile, *all)?;
            let value = rows.iter().map(value).collect();
            output::show(context.json, &value, || list(&rows))?;
        }
        QueueAction::Show { entry } => {
            let row = mapi.queue_entry(profile, identifier(entry)?)?;
            output::show(context.json, &whole(&row), || show(&row))?;
        }
        QueueAction::Retry { entry } => changed(context, &mapi.retry(profile, identifier(entry)?)?),
        QueueAction::Hold { entry } => changed(context, &mapi.hold(profile, identifier(entry)?)?),
        QueueAction::Release { entry } => {
            changed(context, &mapi.release(profile, identifier(entry)?)?);
        }
        QueueAction::Abort { entry } => changed(context, &mapi.abort(profile, identifier(entry)?)?),
        QueueAction::Flush { wait } => return flush::run(context, &mapi, *wait),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(action: &QueueAction) -> Result<(), Error> {
    match action {
        QueueAction::List { .. } | QueueAction::Flush { .. } => Ok(()),
        QueueAction::Show { entry }
        | QueueAction::Retry { entry }
        | QueueAction::Hold { entry }
        | QueueAction::Release { entry }
        | QueueAction::Abort { entry } => identifier(entry).map(drop),
    }
}

fn identifier(entry: &str) -> Result<EntryId, Error> {
    entry.parse().map_err(|e| output::invalid(format!("{entry:?}: {e}")))
}

fn changed(context: &Context, row: &QueueRow) {
    output::print(context.json, &value(row), || format!("{} {}\n", row.entry, row.state.name()));
}

pub(crate) fn value(row: &QueueRow) -> Value {
    let to: Vec<_> = row.recipients.iter().map(|r| r.address.as_str()).collect();
    json!({
        "entry": row.entry.to_string(),
        "profile": row.profile,
        "state": row.state.name(),
        "from": row.from,
        "to": to,
        "subject": row.subject,
        "attempts": row.attempts,
        "next_attempt": row.next_attempt,
        "last_error": row.last_error,
        "submitted": row.submitted,
    })
}

fn whole(row: &QueueRow) -> Value {
    let recipients: Vec<_> = row
        .recipients
        .iter()
        .map(|r| json!({ "address": r.address, "state": r.state.name(), "reply": r.reply }))
        .collect();
    let mut value = value(row);
    value["size"] = json!(row.size);
    value["recipients"] = json!(recipients);
    value
}

pub(crate) fn list(rows: &[QueueRow]) -> String {
    if rows.is_empty() {
        return "the queue is empty\n".into();
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let first = row.recipients.first().map_or("", |r| r.address.as_str());
            let more = match row.recipients.len() {
                0 | 1 => String::new(),
                n => format!(" +{}", n - 1),
            };
            vec![
                row.entry.to_string(),
                row.state.name().into(),
                ago(row.submitted),
                row.next_attempt.map_or_else(|| "-".into(), |at| format!("in {}", until(at))),
                format!("{first}{more}"),
                row.subject.clone(),
                row.last_error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::table(&["entry", "state", "age", "next try", "to", "subject", "last error"], &rows)
}

fn show(row: &QueueRow) -> String {
    let entry = row.entry.to_string();
    let mut lines = vec![
        ("profile", row.profile.clone()),
        ("state", row.state.name().to_owned()),
        ("from", row.from.clone()),
        ("subject", row.subject.clone()),
        ("size", format!("{} bytes", row.size)),
        ("submitted", format!("{} ago", ago(row.submitted))),
        ("attempts", row.attempts.to_string()),
    ];
    lines.extend(row.next_attempt.map(|at| ("next try", format!("in {}", until(at)))));
    lines.extend(row.last_error.clone().map(|error| ("last error", error)));
    let lines: Vec<_> = lines.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    let text = output::table(&["entry", &entry], &lines);
    let recipients: Vec<_> = row
        .recipients
        .iter()
        .map(|r| {
            vec![r.address.clone(), r.state.name().into(), r.reply.clone().unwrap_or_default()]
        })
        .collect();
    text + "\n" + &output::table(&["recipient", "state", "reply"], &recipients)
}
