//! What the subcommands print: JSON values with stable keys, tables for people, errors for both.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sundown_client::{Code, Error, FaultDetail, Peer, Previous};

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
        println!("{}", json!({ "error": error_value(error) }));
    } else {
        eprintln!("sundown: {error} ({} {})", error.code().name(), error.code());
    }
    ExitCode::FAILURE
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

/// Prints one JSON document, or text for people.
pub(crate) fn print(json: bool, value: &Value, text: impl FnOnce() -> String) {
    if json {
        println!("{value}");
    } else {
        print!("{}", text());
    }
}

/// Prints a document as it is. Whoever reads it may go away early.
pub(crate) fn print_bytes(document: &[u8]) -> Result<(), Error> {
    let mut output = std::io::stdout().lock();
    match output.write_all(document).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(self::error(Code::E_CALL_FAILED, format!("cannot write: {error}")))
        }
        _ => Ok(()),
    }
}

/// Rows under a heading, in columns. What others chose, as subjects and names of programs, may hold what a terminal would
/// obey.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let plain = |row: &Vec<String>| row.iter().map(|c| c.replace(char::is_control, "?")).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(plain).collect();
    let mut widths: Vec<usize> = heading.iter().map(|h| h.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(&mut heading.iter().copied());
    for row in &rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
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

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}
