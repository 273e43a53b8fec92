//! `sundown send`: one message from a file or standard input into the queue.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sundown_client::{
    Code, Error, Logoff, Mapi, Message, QueueRow, Session, SubmissionState, Submitted, addresses,
};

use crate::bounded::{Bounded, largest_message};
use crate::cli::{Autostart, Context, SendArguments, Visit, seconds};
use crate::handover::{self, may_be_stored};
use crate::output::{self, NOT_FINAL};
use crate::progress::{Progress, Step};
use crate::terminal;

pub(crate) fn run(context: &Context, arguments: &SendArguments) -> Result<ExitCode, Error> {
    let message = compose(read(context, arguments)?, arguments);
    let message = match arguments.key {
        Some(key) => message.key(key),
        None => message.keyed(),
    };
    let visit = if arguments.wait.is_some() { Visit::Long } else { Visit::Brief };
    let log_on = || context.log_on("sundown", &context.paths, Autostart::Yes, visit);
    let mut logged_on = log_on()?;
    let submitted = match handover::submit(&mut logged_on, &message, log_on) {
        Ok(submitted) => submitted,
        Err(error) if may_be_stored(&error) => return Ok(unknown(context, &error, &message)),
        Err(error) => return Err(error),
    };
    let (mapi, session) = logged_on;
    let state = match arguments.wait {
        None => {
            // It is durable: what comes of leaving changes nothing.
            let _ = session.logoff(Logoff::now());
            submitted.state
        }
        Some(limit) => wait(context, &mapi, &session, submitted, seconds(limit))?,
    };
    let value = json!({ "entry": submitted.entry.to_string(), "state": state.name() });
    output::print(context.json, &value, || format!("{} {}\n", submitted.entry, state.name()));
    Ok(match state {
        _ if arguments.wait.is_none() => ExitCode::SUCCESS,
        SubmissionState::Sent => ExitCode::SUCCESS,
        SubmissionState::Bounced | SubmissionState::Aborted => ExitCode::FAILURE,
        _ => ExitCode::from(NOT_FINAL),
    })
}

/// Nobody knows whether the message is stored, which is no failure: it says so, and how a repeat is harmless.
fn unknown(context: &Context, error: &Error, message: &Message) -> ExitCode {
    let key = message.submit_key().map(|key| format!("{:032x}", key.0)).unwrap_or_default();
    let message = format!(
        "{error}; whether the message was stored is not known: the same message with `--key {key}` is stored once"
    );
    if context.json {
        let mut value = output::error_value(error);
        value["message"] = json!(message);
        value["outcome"] = json!("unknown");
        value["key"] = json!(key);
        println!("{}", json!({ "error": value }));
    } else {
        eprintln!("{}", terminal::for_stderr(&format!("sundown: {message}")));
    }
    ExitCode::from(NOT_FINAL)
}

fn read(context: &Context, arguments: &SendArguments) -> Result<Vec<u8>, Error> {
    let cannot = |name: &str, error: &io::Error| {
        let code = match error.kind() {
            ErrorKind::FileTooLarge => Code::E_TOO_BIG,
            _ => Code::E_NOT_FOUND,
        };
        output::error(code, format!("cannot read {name}: {error}"))
    };
    let largest = || largest_message(&context.initialize(Autostart::Yes).ok()?);
    let all = |input: &mut dyn BufRead| {
        let mut bytes = Vec::new();
        Bounded::new(input, largest).read_to_end(&mut bytes).map(|_| bytes)
    };
    if let Some(file) = arguments.file.as_ref().filter(|file| file.as_os_str() != "-") {
        let read = File::open(file).and_then(|opened| all(&mut BufReader::new(opened)));
        return read.map_err(|error| cannot(&file.display().to_string(), &error));
    }
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        eprintln!("sundown: reading the message from the terminal; end it with Ctrl-D");
    }
    all(&mut io::stdin().lock()).map_err(|error| cannot("standard input", &error))
}

/// The message with what the options say, where it does not say it itself.
fn compose(bytes: Vec<u8>, arguments: &SendArguments) -> Message {
    let to = (!arguments.to.is_empty()).then(|| arguments.to.join(", "));
    let said = [("From", &arguments.from), ("To", &to), ("Subject", &arguments.subject)];
    let fields: Vec<_> = said.iter().filter_map(|(name, v)| Some((*name, (*v).clone()?))).collect();
    // A To of the message stays as it is; the recipients of the options join it in the envelope, each once.
    let message = Message::parse(Message::text(bytes).missing_fields(&fields).into_bytes());
    let message = arguments.to.iter().flat_map(addresses).fold(message, Message::recipient);
    match &arguments.from {
        Some(from) => message.sender(sender(from)),
        None => message,
    }
}

/// The address of a From; what is not exactly one stays as it is, for the broker to refuse.
fn sender(from: &str) -> String {
    match &addresses(from)[..] {
        [address] => address.clone(),
        _ => from.to_owned(),
    }
}

/// Stays until the message is final.
fn wait(
    context: &Context,
    mapi: &Mapi,
    session: &Session,
    submitted: Submitted,
    limit: Duration,
) -> Result<SubmissionState, Error> {
    let (profile, entry) = (session.profile(), submitted.entry);
    let (asker, asked) = (context.initialize(Autostart::No)?, profile.clone());
    let stays = format!(
        "the message is safe on the disk and goes out without this command; \
         `sundown queue show {entry}` says how it is"
    );
    let progress = Progress::begin(context.json, stays, move || {
        asker.queue_entry(Some(&asked), entry).ok().map(|row| step(&row))
    });
    session.logoff(Logoff::after_outbound(limit))?;
    drop(progress);
    Ok(mapi.queue_entry(Some(&profile), entry)?.state)
}

/// How many recipients are done.
fn step(row: &QueueRow) -> Step {
    let done = row.recipients.iter().filter(|recipient| recipient.state.is_final()).count();
    let first = row.recipients.first().map_or("", |recipient| recipient.address.as_str());
    let more = match row.recipients.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Step {
        what: format!("to {first}{more}: {}", row.state.name()),
        done: done as u64,
        left: (row.recipients.len() - done) as u64,
        next_try: row.next_attempt.filter(|_| row.state == SubmissionState::Deferred),
    }
}
