//! `sundown shell`: a process that is driven by lines on standard input.
//!
//! Commands are carried out in order, with a reply line each; notifications are lines of their own, printed as they arrive.
//! `docs/command.md` is the contract with scripts.

mod commands;
mod events;
mod folders;
pub(crate) mod help;
mod input;
mod line;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use sundown_client::Error;

use crate::bounded::largest_message;
use crate::cli::{Autostart, Context};
use crate::{output, safe};
use commands::Shell;
use line::Words;

/// What stands before a command that a person types.
const PROMPT: &str = "sundown> ";

pub(crate) fn run(context: &Context) -> Result<ExitCode, Error> {
    let printer: &'static Printer = Box::leak(Box::new(Printer::new(context.json)));
    let mapi = context.initialize(Autostart::Yes)?;
    let mut shell = Shell::new(mapi, context.profile.clone(), printer);
    let mut input = std::io::stdin().lock();
    let mut count = 0;
    loop {
        printer.prompt();
        let Ok(Some(given)) = input::next(&mut input, || largest_message(shell.mapi())) else {
            break;
        };
        printer.typed();
        if given.words.as_ref().is_ok_and(Words::is_empty) {
            continue;
        }
        count += 1;
        let words = given.words.map_err(output::invalid);
        printer.reply(count, words.and_then(|words| shell.carry_out(words, given.body)));
    }
    // The end of input ends the process without a logoff: nothing is cleaned up.
    std::mem::forget(shell);
    printer.end().map(|()| ExitCode::SUCCESS)
}

/// Standard output, written one whole line at a time.
pub(crate) struct Printer {
    json: bool,
    /// Whether a person types the commands.
    prompts: bool,
    /// It is locked while a line is written.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why a line could not be printed, if one could not.
    unprinted: Option<Error>,
    /// Whether the last thing on the screen is the prompt.
    prompted: bool,
}

impl State {
    fn print(&mut self, text: &str) {
        // A reader that has gone is no failure: the end of the input follows.
        if let Err(error) = output::print_bytes(text.as_bytes()) {
            self.unprinted = Some(error);
        }
    }
}

impl Printer {
    fn new(json: bool) -> Self {
        let prompts = !json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        Self { json, prompts, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prompt(&self) {
        if self.prompts {
            let mut state = self.state();
            state.print(PROMPT);
            state.prompted = true;
        }
    }

    /// The person has ended a line, and with it the prompt's.
    fn typed(&self) {
        self.state().prompted = false;
    }

    fn line(&self, line: &str) {
        // What a message says must not control a terminal.
        let line = if self.json { safe::json(line) } else { safe::printed(line) };
        let mut state = self.state();
        // A line that comes while a person types stands below what was typed, and the prompt comes again.
        let text = if state.prompted { format!("\n{line}\n{PROMPT}") } else { format!("{line}\n") };
        state.print(&text);
    }

    /// Fails if a line could not be printed.
    fn end(&self) -> Result<(), Error> {
        self.state().unprinted.take().map_or(Ok(()), Err)
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
