//! `sundown send`: one message from a file or standard input, with files, into the queue.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sundown_client::{
    Code, Error, Logoff, Mapi, Message, QueueRow, Session, SubmissionState, Submitted, addresses,
};
use sundown_mail::compose::{self, Attachment, address_list};
use sundown_mail::head::{self, Start};
use sundown_mail::name;

use crate::bounded::{Bounded, Budget, largest_message};
use crate::cli::{Autostart, Context, SendArguments, Visit, seconds};
use crate::handover::{self, may_be_stored};
use crate::output::{self, NOT_FINAL};
use crate::progress::{Progress, Step};

/// How many of the oldest messages are looked at for some that came back.
const LOOKED_AT: u32 = 64;

pub(crate) fn run(context: &Context, arguments: &SendArguments) -> Result<ExitCode, Error> {
    let (bytes, attachments) = read(context, arguments)?;
    let message = compose(&bytes, &attachments, arguments);
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
        None => submitted.state,
        Some(limit) => {
            warn_of_returned(&mapi, &session);
            wait(context, &mapi, &session, submitted, seconds(limit))?
        }
    };
    let value = json!({ "entry": submitted.entry.to_string(), "state": state.name() });
    output::print(context.json, &value, || format!("{} {}\n", submitted.entry, state.name()));
    if !state.is_final()
        && let Some(warning) = handover::ends_with_this_process(&mapi)
    {
        output::complain(&warning);
    }
    if arguments.wait.is_none() {
        // The message is durable and its entry is said: nothing that follows changes the outcome.
        warn_of_returned(&mapi, &session);
        let _ = session.logoff(Logoff::now());
    }
    Ok(match state {
        _ if arguments.wait.is_none() => ExitCode::SUCCESS,
        SubmissionState::Sent => ExitCode::SUCCESS,
        SubmissionState::Bounced | SubmissionState::Aborted => ExitCode::FAILURE,
        _ => ExitCode::from(NOT_FINAL),
    })
}

/// Says that earlier messages came back, while the queue lists them: a user who sends from a terminal may read no other mailbox here.
fn warn_of_returned(mapi: &Mapi, session: &Session) {
    let Ok(rows) = mapi.queue_begins(Some(&session.profile()), LOOKED_AT) else { return };
    let returned = rows.iter().filter(|row| row.state == SubmissionState::Bounced).count();
    let more = if rows.len() < LOOKED_AT as usize { "" } else { "at least " };
    let what = match returned {
        0 => return,
        1 => format!("{more}1 earlier message came back"),
        n => format!("{more}{n} earlier messages came back"),
    };
    output::complain(&format!("{what}; `sundown queue list` says why"));
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
        output::print(true, &json!({ "error": value }), String::new);
    } else {
        output::complain(&message);
    }
    ExitCode::from(NOT_FINAL)
}

/// The message, and the files that go with it. Together they are no longer than the broker takes.
fn read(context: &Context, arguments: &SendArguments) -> Result<(Vec<u8>, Vec<Attachment>), Error> {
    let mut budget = Budget::new(|| largest_message(&context.initialize(Autostart::Yes).ok()?));
    let mut all = |input: &mut dyn BufRead| {
        let mut bytes = Vec::new();
        Bounded::new(input, &mut budget).read_to_end(&mut bytes).map(|_| bytes)
    };
    let mut file = |path: &Path| {
        let read = File::open(path).and_then(|opened| all(&mut BufReader::new(opened)));
        read.map_err(|error| cannot_read(&path.display().to_string(), &error))
    };
    // A file that cannot be read is noticed before a person has typed the message.
    let attachments = arguments.attach.iter().map(|path| Ok(attachment(path, file(path)?)));
    let attachments = attachments.collect::<Result<_, Error>>()?;
    if let Some(path) = arguments.file.as_ref().filter(|path| path.as_os_str() != "-") {
        return Ok((file(path)?, attachments));
    }
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        output::complain("reading the message from the terminal; end it with Ctrl-D");
    }
    let read = all(&mut io::stdin().lock());
    Ok((read.map_err(|error| cannot_read("standard input", &error))?, attachments))
}

fn cannot_read(name: &str, error: &io::Error) -> Error {
    let code = match error.kind() {
        ErrorKind::FileTooLarge => Code::E_TOO_BIG,
        _ => Code::E_NOT_FOUND,
    };
    output::error(code, format!("cannot read {name}: {error}"))
}

/// A file as it goes with a message. Its type is that of its name; a message or a multipart may not be encoded, so its type is not told.
fn attachment(path: &Path, content: Vec<u8>) -> Attachment {
    let guess = mime_guess::from_path(path).first_raw();
    let encodable = |kind: &&str| !kind.starts_with("message/") && !kind.starts_with("multipart/");
    let media_type = guess.filter(encodable).unwrap_or("application/octet-stream").to_owned();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Attachment { name, media_type, content }
}

/// The message with what the options say, where it does not say it itself.
fn compose(bytes: &[u8], attachments: &[Attachment], arguments: &SendArguments) -> Message {
    let to = (!arguments.to.is_empty()).then(|| address_list(&arguments.to.join(", ")));
    let from = arguments.from.as_deref().map(address_list);
    let subject = arguments.subject.as_deref().map(name::text);
    let said = [("From", from), ("To", to), ("Subject", subject)];
    let mut fields: Vec<_> = said.into_iter().filter_map(|(name, v)| Some((name, v?))).collect();
    let mut written = match Start::of(bytes) {
        Start::Field if head::is_in(bytes) => bytes.to_vec(),
        Start::EmptyLine => compose::text(behind_empty_line(bytes)),
        Start::Field | Start::Body => compose::text(bytes),
    };
    if !attachments.is_empty() {
        written = compose::with_attachments(&written, attachments);
    }
    fields.extend(compose::label(&written).into_iter().map(|(name, v)| (name, v.to_owned())));
    // A To of the message stays as it is; the recipients of the options join it in the envelope, each once.
    let message = handover::without_trace(Message::new(written)).missing_fields(&fields);
    let message = Message::parse(message.into_bytes());
    let message = arguments.to.iter().flat_map(addresses).fold(message, Message::recipient);
    let message = match &arguments.account {
        Some(account) => message.account(account),
        None => message,
    };
    match &arguments.from {
        Some(from) => message.sender(sender(from)),
        None => message,
    }
}

fn behind_empty_line(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\r").unwrap_or(bytes);
    bytes.strip_prefix(b"\n").unwrap_or(bytes)
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
