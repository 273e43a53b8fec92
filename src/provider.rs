//! `sundown provider`: the kinds of stores, transports, mailboxes and address books that profiles can name.

use std::process::ExitCode;

use serde_json::{Value, json};
use sundown_client::{Code, Error};
use sundown_daemon::settings::{KINDS, Key, Kind};

use crate::cli::{Context, ProviderAction, ProviderArguments};
use crate::output;

pub(crate) fn run(context: &Context, arguments: &ProviderArguments) -> Result<ExitCode, Error> {
    let all: Vec<_> = KINDS.iter().collect();
    match &arguments.action {
        ProviderAction::List => output::show(context.json, &value(&all), || list(&all))?,
        ProviderAction::Show { kind } => {
            let kinds = named(kind)?;
            output::show(context.json, &value(&kinds), || {
                kinds.iter().map(|kind| page(kind)).collect::<Vec<_>>().join("\n")
            })?
        }
    };
    Ok(ExitCode::SUCCESS)
}

/// The kinds of that name: providers of different types may share one.
fn named(name: &str) -> Result<Vec<&'static Kind>, Error> {
    let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.name == name).collect();
    if !kinds.is_empty() {
        return Ok(kinds);
    }
    let mut known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    known.sort_unstable();
    known.dedup();
    let message = format!("there is no kind {name:?}; known: {}", known.join(", "));
    Err(output::error(Code::E_NOT_FOUND, message))
}

fn value(kinds: &[&Kind]) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let keys = |kind: &Kind| -> Value {
        let key =
            |k: &Key| json!({ "key": k.name, "default": text(k.default), "meaning": k.meaning });
        kind.keys.iter().map(key).collect()
    };
    kinds
        .iter()
        .map(|kind| {
            json!({
                "type": kind.of_type.name(),
                "kind": kind.name,
                "about": kind.about,
                "keys": keys(kind),
            })
        })
        .collect()
}

fn list(kinds: &[&Kind]) -> String {
    let row = |kind: &&Kind| vec![words(kind), kind.name.to_owned(), kind.about.to_owned()];
    let rows: Vec<_> = kinds.iter().map(row).collect();
    output::table(&["provider", "kind", "what it does"], &rows)
}

fn page(kind: &Kind) -> String {
    let row = |key: &Key| {
        // The words are those of a page, where backticks set words of settings off.
        let plain = |text: &str| text.replace('`', "\"");
        vec![key.name.to_owned(), plain(key.default), plain(key.meaning)]
    };
    let rows: Vec<_> = kind.keys.iter().map(row).collect();
    let heading = format!("{} {}: {}", words(kind), kind.name, kind.about);
    format!("{heading}\n\n{}", output::table(&["key", "without it", "meaning"], &rows))
}

fn words(kind: &Kind) -> String {
    kind.of_type.name().replace('-', " ")
}
