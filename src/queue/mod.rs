//! `sundown queue`: the outgoing queue.

mod flush;
mod select;

pub(crate) use flush::hastened;
pub(crate) use select::{short, state};

use std::process::ExitCode;

use serde_json::{Value, json};
use sundown_client::{EntryId, Error, Mapi, QueueRow};

use crate::cli::{Autostart, Context, QueueAction, QueueArguments, Selection};
use crate::grid::{Column, Grid, column};
use crate::output::{self, ago, until};
use crate::safe;
use crate::terminal;

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
    match terminal::columns() {
        Some(columns) => list_in(rows, columns),
        None => whole_list(rows),
    }
}

/// Elsewhere than on a terminal nothing is cut.
fn whole_list(rows: &[QueueRow]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .zip(select::short(rows))
        .map(|(row, short)| {
            vec![
                short,
                row.state.name().into(),
                ago(row.submitted),
                row.next_attempt.map_or_else(|| "-".into(), |at| format!("in {}", until(at))),
                to(row),
                row.subject.clone(),
                row.last_error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::table(&["entry", "state", "age", "next try", "to", "subject", "last error"], &rows)
}

/// The first recipient, and how many more there are.
pub(crate) fn to(row: &QueueRow) -> String {
    let first = row.recipients.first().map_or("", |r| r.address.as_str());
    match row.recipients.len() {
        0 | 1 => first.to_owned(),
        n => format!("{first} +{}", n - 1),
    }
}

/// The columns on a terminal.
const COLUMNS: [Column; 6] = [
    column("entry", 8, 32),
    column("state", 6, 12),
    column("age", 4, 6),
    column("next try", 4, 9),
    column("to", 10, 40),
    column("subject", 8, usize::MAX),
];

/// How many different errors stand below the list.
const ERRORS: usize = 5;

/// On a terminal each message is one line, with `…` where something is cut. Its error, which many have in common, stands below.
fn list_in(rows: &[QueueRow], columns: usize) -> String {
    let shorts = select::short(rows);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .zip(&shorts)
        .map(|(row, short)| {
            let next =
                row.next_attempt.map_or_else(|| "-".into(), |at| format!("in {}", until(at)));
            let subject = safe::line(&row.subject);
            let state = row.state.name().into();
            vec![short.clone(), state, ago(row.submitted), next, safe::line(&to(row)), subject]
        })
        .collect();
    let slices: Vec<&[String]> = cells.iter().map(Vec::as_slice).collect();
    let grid = Grid::new(&COLUMNS, &slices, columns);
    let clipped = |line: String| terminal::clip(&line, columns) + "\n";
    let mut text = clipped(grid.heading(&COLUMNS));
    for row in &cells {
        text += &clipped(grid.line(row, |place, shown| match place {
            1 => terminal::painted(&shown, &row[1]),
            _ => shown,
        }));
    }
    text + &errors(rows, &shorts, columns)
}

/// Each error once, with the first of the messages that have it.
fn errors(rows: &[QueueRow], shorts: &[String], columns: usize) -> String {
    let mut found: Vec<(&str, &str, usize)> = Vec::new();
    for (row, short) in rows.iter().zip(shorts) {
        let Some(error) = row.last_error.as_deref() else { continue };
        match found.iter_mut().find(|(known, ..)| *known == error) {
            Some((.., more)) => *more += 1,
            None => found.push((error, short, 0)),
        }
    }
    let mut text = String::new();
    for (error, short, more) in found.iter().take(ERRORS) {
        let others = if *more > 0 { format!(" and {more} more") } else { String::new() };
        let sentence = safe::line(&format!("{short}{others}: {error}"));
        text += &(format!(
            "\n{}\n",
            terminal::wrapped(&sentence, columns.saturating_sub(2)).join("\n  ")
        ));
    }
    match found.len().saturating_sub(ERRORS) {
        0 => text,
        n => text + &format!("\n… and {n} other errors; `sundown queue show ENTRY` has each\n"),
    }
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
