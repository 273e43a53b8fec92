//! `sundown send`: one message from a file or standard input into the queue.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use sundown_client::{
    Code, Error, Event, Events, Logoff, Mapi, Message, News, Session, SubmissionState, Submitted,
    addresses,
};

use crate::cli::{Autostart, Context, SendArguments, seconds};
use crate::output;

/// Exit status of a message that is not final when the time is over (`EX_TEMPFAIL`).
const NOT_FINAL: u8 = 75;

pub(crate) fn run(context: &Context, arguments: &SendArguments) -> Result<ExitCode, Error> {
    let message = compose(read(arguments)?, arguments);
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
