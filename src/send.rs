//! `sundown send`: one message from a file or standard input into the queue.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use sundown_client::{
    Code, Error, Event, Events, Logoff, Mapi, Message, News, Session, SubmissionState, Submitted,
};

use crate::cli::{Autostart, Context, SendArguments, seconds};
use crate::output;

/// Exit status of a message that is not final when the time is over (`EX_TEMPFAIL`).
const NOT_FINAL: u8 = 75;

pub(crate) fn run(context: &Context, arguments: &SendArguments) -> Result<ExitCode, Error> {
    let message = compose(&read(arguments)?, arguments);
    let mapi = context.initialize(Autostart::Yes)?;
    let session = mapi.logon(context.logon())?;
    let submitted = session.submit(&message)?;
    let state = match arguments.wait {
        None => {
            session.logoff(Logoff::now())?;
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

fn read(arguments: &SendArguments) -> Result<Vec<u8>, Error> {
    let cannot = |name: &str| {
        let name = name.to_owned();
        move |e| output::error(Code::E_NOT_FOUND, format!("cannot read {name}: {e}"))
    };
    if let Some(file) = arguments.file.as_ref().filter(|file| file.as_os_str() != "-") {
        return std::fs::read(file).map_err(cannot(&file.display().to_string()));
    }
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        eprintln!("sundown: reading the message from the terminal; end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(cannot("standard input"))?;
    Ok(bytes)
}

/// The message with what the options say, where it does not say it itself.
fn compose(bytes: &[u8], arguments: &SendArguments) -> Message {
    let has_fields = begins_with_field(bytes);
    let lower = head_of(bytes, has_fields).to_ascii_lowercase();
    let has = |field: &str| {
        has_fields && lower.split(|b| *b == b'\n').any(|l| l.starts_with(field.as_bytes()))
    };
    let mut added = String::new();
    let mut add = |field: &str, value: String| {
        if !has(&format!("{}:", field.to_lowercase())) {
            // A line end in an option must not become a field of its own.
            let value = value.replace(['\r', '\n'], " ");
            added.push_str(&format!("{field}: {value}\n"));
        }
    };
    if let Some(from) = &arguments.from {
        add("From", from.clone());
    }
    if !arguments.to.is_empty() {
        add("To", arguments.to.join(", "));
    }
    if let Some(subject) = &arguments.subject {
        add("Subject", subject.clone());
    }
    if !has_fields {
        added.push('\n');
    }
    let whole = [added.as_bytes(), bytes].concat();
    // A To of the message stays as it is; the recipients of the options join it in the envelope.
    let mut message = Message::parse(whole);
    for to in &arguments.to {
        if !message.recipients().contains(to) {
            message = message.recipient(to);
        }
    }
    if let Some(from) = &arguments.from {
        message = message.sender(from);
    }
    message
}

fn begins_with_field(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let name = line.split(|b| *b == b':').next().unwrap_or_default();
    name.len() < line.len() && !name.is_empty() && name.iter().all(|b| (33..=126).contains(b))
}

fn head_of(bytes: &[u8], has_fields: bool) -> &[u8] {
    if !has_fields {
        return &[];
    }
    let ends = [&b"\n\n"[..], b"\n\r\n"];
    let end = ends.iter().filter_map(|end| bytes.windows(end.len()).position(|w| w == *end)).min();
    &bytes[..end.unwrap_or(bytes.len())]
}

/// Stays until the message is final, with progress for people.
fn wait(
    context: &Context,
    mapi: &Mapi,
    session: &Session,
    submitted: Submitted,
    limit: Duration,
) -> Result<SubmissionState, Error> {
    let began = Instant::now();
    let shows = !context.json && std::io::stderr().is_terminal();
    let sink = session.advise(Events::EXTENDED, move |notice| {
        if let News::Broker(Event::LogoffProgress { waiting, .. }) = &notice.news
            && shows
        {
            eprintln!("sundown: {} s: {waiting} left to go out", began.elapsed().as_secs());
        }
    })?;
    if shows {
        eprintln!(
            "sundown: {} is {}; waiting until it is final",
            submitted.entry,
            submitted.state.name()
        );
    }
    let profile = session.profile();
    session.logoff(Logoff::after_outbound(limit))?;
    drop(sink);
    Ok(mapi.queue_entry(Some(&profile), submitted.entry)?.state)
}
