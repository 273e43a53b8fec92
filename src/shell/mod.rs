//! `sundown shell`: a process that is driven by lines on standard input.
//!
//! Commands are carried out in order, with a reply line each; notifications are lines of their own, printed as they arrive.
//! `docs/command.md` is the contract with scripts.

mod commands;
mod events;
mod folders;
mod line;

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use sundown_client::Error;

use crate::cli::{Autostart, Context};
use crate::{output, safe};
use commands::Shell;

pub(crate) fn run(context: &Context) -> Result<ExitCode, Error> {
    let printer: &'static Printer = Box::leak(Box::new(Printer::new(context.json)));
    let mapi = context.initialize(Autostart::Yes)?;
    let mut shell = Shell::new(mapi, context.profile.clone(), printer);
    let mut count = 0;
    for line in std::io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { break };
        let words = match line::words(&String::from_utf8_lossy(&line)) {
            Ok(words) if words.is_empty() => continue,
            words => words,
        };
        count += 1;
        let result = words.map_err(output::invalid).and_then(|words| shell.carry_out(&words));
        printer.reply(count, result);
    }
    // The end of input ends the process without a logoff: nothing is cleaned up.
    std::mem::forget(shell);
    printer.end().map(|()| ExitCode::SUCCESS)
}

/// Standard output, written one whole line at a time.
pub(crate) struct Printer {
    json: bool,
    /// Why a line could not be printed, if one could not. It is locked while a line is written.
    unprinted: Mutex<Option<Error>>,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self { json, unprinted: Mutex::default() }
    }

    fn line(&self, line: &str) {
        let mut unprinted = self.unprinted.lock().unwrap_or_else(PoisonError::into_inner);
        // What a message says must not control a terminal.
        let line = if self.json { safe::json(line) } else { safe::printed(line) };
        // A reader that has gone is no failure: the end of the input follows.
        if let Err(error) = output::print_bytes(format!("{line}\n").as_bytes()) {
            *unprinted = Some(error);
        }
    }

    /// Fails if a line could not be printed.
    fn end(&self) -> Result<(), Error> {
        self.unprinted.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    fn reply(&self, count: u64, result: Result<Value, Error>) {
        if !self.json {
            return self.line(&match result {
                Ok(value) => format!("{count}: ok{}", pairs(&value)),
                Err(error) => {
                    let on_terminal = std::io::stdout().is_terminal();
                    format!("{count}: {}", output::with_code(&error, on_terminal))
                }
            });
        }
        let mut reply = json!({ "reply": count, "ok": result.is_ok() });
        match result {
            Ok(Value::Object(keys)) => {
                let reply = reply.as_object_mut().expect("it was made as one");
                reply.extend(keys);
            }
            Ok(_) => {}
            Err(error) => reply["error"] = output::error_value(&error),
        }
        self.line(&reply.to_string());
    }

    /// Prints a notification.
    pub(crate) fn event(&self, value: &Value) {
        if self.json {
            self.line(&value.to_string());
        } else {
            self.line(&format!("*{}", pairs(value)));
        }
    }
}

/// The pairs ` key=value` of an object, for people.
fn pairs(value: &Value) -> String {
    let Value::Object(keys) = value else { return String::new() };
    let pair = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!(" {key}={text}"),
        Value::Array(words) if words.first().is_some_and(Value::is_string) => {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            format!(" {key}={}", words.join(","))
        }
        Value::Array(rows) => {
            let rows = rows.iter().map(|row| format!("\n   {}", pairs(row).trim_start()));
            format!(" {key}:{}", rows.collect::<String>())
        }
        other => format!(" {key}={other}"),
    };
    keys.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_words_or_rows() {
        let value = json!({"flags": ["read", "$work"], "none": [], "rows": [{"a": 1}, {"a": 2}]});
        assert_eq!(pairs(&value), " flags=read,$work none: rows:\n   a=1\n   a=2");
    }
}
