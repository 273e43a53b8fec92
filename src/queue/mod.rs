//! `sundown queue`: the outgoing queue.

mod flush;
mod select;

pub(crate) use flush::hastened;
pub(crate) use select::state;

use std::process::ExitCode;

use serde_json::{Value, json};
use sundown_client::{EntryId, Error, Mapi, QueueRow};

use crate::cli::{Autostart, Context, QueueAction, QueueArguments, Selection};
use crate::output::{self, ago, until};

pub(crate) fn run(context: &Context, arguments: &QueueArguments) -> Result<ExitCode, Error> {
    let action = arguments.action.as_ref().unwrap_or(&QueueAction::List { all: false });
    // Invalid arguments are refused before a broker is started.
    check(action)?;
    let mapi = context.initialize(Autostart::Yes)?;
    let profile = context.profile.as_deref();
    let change = |selection, change: Change| change_all(context, &mapi, selection, change);
    match action {
        QueueAction::List { all } => {
            let rows = mapi.queue(profile, *all)?;
            let value = rows.iter().map(value).collect();
            output::show(context.json, &value, || list(&rows))?;
        }
        QueueAction::Show { entry } => {
            let found = select::find(&mapi, profile, &one(entry))?;
            for entry in found {
                let row = mapi.queue_entry(profile, entry)?;
                // A message that is no longer kept has no field to read.
                let id = mapi.message_id(entry).unwrap_or_default();
                output::show(context.json, &whole(&row, id.as_deref()), || show(&row, id.clone()))?;
            }
        }
        QueueAction::Retry(selection) => return change(selection, Mapi::retry),
        QueueAction::Hold(selection) => return change(selection, Mapi::hold),
        QueueAction::Release(selection) => return change(selection, Mapi::release),
        QueueAction::Abort(selection) => return change(selection, Mapi::abort),
        QueueAction::Flush { wait } => return flush::run(context, &mapi, *wait),
    }
    Ok(ExitCode::SUCCESS)
}

/// A change of an entry.
type Change = fn(&Mapi, Option<&str>, EntryId) -> Result<QueueRow, Error>;

fn check(action: &QueueAction) -> Result<(), Error> {
    match action {
        QueueAction::List { .. } | QueueAction::Flush { .. } => Ok(()),
        QueueAction::Show { entry } => select::check(&one(entry)).map(drop),
        QueueAction::Retry(selection)
        | QueueAction::Hold(selection)
        | QueueAction::Release(selection)
        | QueueAction::Abort(selection) => select::check(selection).map(drop),
    }
}

fn one(entry: &str) -> Selection {
    Selection { entries: vec![entry.to_owned()], ..Selection::default() }
}

/// Changes all entries that are meant. One that cannot be changed is said, and holds up no other.
fn change_all(
    context: &Context,
    mapi: &Mapi,
    selection: &Selection,
    change: Change,
) -> Result<ExitCode, Error> {
    let profile = context.profile.as_deref();
    let found = select::find(mapi, profile, selection)?;
    if let ([entry], false) = (&found[..], selection.all) {
        changed(context, &change(mapi, profile, *entry)?);
        return Ok(ExitCode::SUCCESS);
    }
    let results: Vec<_> =
        found.iter().map(|entry| (*entry, change(mapi, profile, *entry))).collect();
    let failed = results.iter().any(|(_, result)| result.is_err());
    let one = |(entry, result): &(EntryId, Result<QueueRow, Error>)| match result {
        Ok(row) => value(row),
        Err(error) => {
            json!({ "entry": entry.to_string(), "error": output::error_value(error) })
        }
    };
    let line = |(entry, result): &(EntryId, Result<QueueRow, Error>)| match result {
        Ok(row) => format!("{entry} {}\n", row.state.name()),
        Err(error) => format!("{entry} {error}\n"),
    };
    let none = || "no entry fits\n".to_owned();
    let text = || if results.is_empty() { none() } else { results.iter().map(line).collect() };
    output::print(context.json, &results.iter().map(one).collect(), text);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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

fn whole(row: &QueueRow, message_id: Option<&str>) -> Value {
    let recipients: Vec<_> = row
        .recipients
        .iter()
        .map(|r| json!({ "address": r.address, "state": r.state.name(), "reply": r.reply }))
        .collect();
    let mut value = value(row);
    value["message_id"] = json!(message_id);
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
        .zip(select::short(rows))
        .map(|(row, short)| {
            let first = row.recipients.first().map_or("", |r| r.address.as_str());
            let more = match row.recipients.len() {
                0 | 1 => String::new(),
                n => format!(" +{}", n - 1),
            };
            vec![
                short,
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

fn show(row: &QueueRow, message_id: Option<String>) -> String {
    let entry = row.entry.to_string();
    let mut lines = vec![
        ("profile", row.profile.clone()),
        ("state", row.state.name().to_owned()),
        ("from", row.from.clone()),
        ("subject", row.subject.clone()),
        ("message-id", message_id.unwrap_or_else(|| "-".into())),
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
