//! What the subcommands print: JSON values with stable keys, tables for people, errors for both.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sundown_client::{Code, Error, FaultDetail, Peer, Previous};

pub(crate) use crate::table::table;
use crate::{safe, terminal};

/// Exit status of a command that waits for mail which is not final when the time is over (`EX_TEMPFAIL`).
pub(crate) const NOT_FINAL: u8 = 75;

/// An error of the command line.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    error(Code::E_INVALID_PARAMETER, message)
}

/// An error with a code.
pub(crate) fn error(code: Code, message: impl Into<String>) -> Error {
    Error::new(code, message)
}

/// Prints an error where it belongs. The exit status.
pub(crate) fn fail(json: bool, error: &Error) -> ExitCode {
    if json {
        print(true, &json!({ "error": error_value(error) }), String::new);
    } else {
        complain(&with_code(error, std::io::stderr().is_terminal()));
    }
    ExitCode::FAILURE
}

/// An error in words, and its code behind them, for scripts and logs. On a terminal the words are enough.
pub(crate) fn with_code(error: &Error, on_terminal: bool) -> String {
    if on_terminal {
        return error.to_string();
    }
    format!("{error} ({} {})", error.code().name(), error.code())
}

/// Says something on standard error. Nothing depends on its being read.
pub(crate) fn complain(text: &str) {
    let lines: Vec<_> = text.lines().map(safe::line).collect();
    let text = terminal::for_stderr(&format!("sundown: {}", lines.join("\n")));
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `{"code","hresult","message"}`, what the broker's log calls the request, and what the error knows beside them.
pub(crate) fn error_value(error: &Error) -> Value {
    let mut value = json!({
        "code": error.code().name(),
        "hresult": error.code().to_string(),
        "message": error.to_string(),
    });
    if let Some(correlation) = error.correlation() {
        value["correlation"] = json!(correlation.to_string());
    }
    match error.detail() {
        FaultDetail::None => {}
        FaultDetail::Owner(owner) => value["owner"] = peer(owner),
        FaultDetail::Addresses(addresses) => value["addresses"] = json!(addresses),
        FaultDetail::Providers(providers) => value["providers"] = json!(providers),
        FaultDetail::Holders(holders) => value["holders"] = holders.iter().map(peer).collect(),
        FaultDetail::Entries(entries) => {
            value["entries"] = entries.iter().map(|e| json!(e.to_string())).collect();
        }
    }
    value
}

/// `{"pid","program"}`.
pub(crate) fn peer(peer: &Peer) -> Value {
    json!({ "pid": peer.pid, "program": peer.program })
}

/// `{"pid","started","ended","end","why"}` of a broker that ended.
pub(crate) fn previous(previous: &Previous) -> Value {
    json!({
        "pid": previous.pid,
        "started": previous.started,
        "ended": previous.ended,
        "end": previous.end.name(),
        "why": previous.why,
    })
}

/// Prints what was done, as one JSON document or as text for people. It is done also where it cannot be printed.
pub(crate) fn print(json: bool, value: &Value, text: impl FnOnce() -> String) {
    let _ = show(json, value, text);
}

/// The same of what was asked for: that it cannot be printed is a failure, unless its reader went away early.
pub(crate) fn show(
    json: bool,
    value: &Value,
    text: impl FnOnce() -> String,
) -> Result<Reader, Error> {
    let text = if json { document(value) } else { safe::printed(&text()) };
    print_bytes(text.as_bytes())
}

/// A JSON document as a line. A terminal obeys nothing in it.
pub(crate) fn document(value: &Value) -> String {
    safe::json(&format!("{value}\n"))
}

/// Whether somebody still reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    There,
    Gone,
}

/// Prints a document as it is. Whoever reads it may go away early.
pub(crate) fn print_bytes(document: &[u8]) -> Result<Reader, Error> {
    let mut output = std::io::stdout().lock();
    match output.write_all(document).and_then(|()| output.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(self::error(Code::E_CALL_FAILED, format!("cannot write: {error}"))),
    }
}

/// How long ago, for people.
pub(crate) fn ago(millis: u64) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let age = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    span(age)
}

/// How long until then, for people.
pub(crate) fn until(millis: u64) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    span(then.duration_since(SystemTime::now()).unwrap_or_default().as_secs())
}

/// So long, for people.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}
