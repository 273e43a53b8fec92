//! `sundown sendmail`, also as `sendmail`, `mailq`, `runq` and `newaliases`: mail is handed over as programs have always done it.
//!
//! ```text
//! arguments  what was asked for            report   -N and -R
//! input      the message                   smtp     -bs: the same by SMTP
//! counter    which broker, and a session   status   what it ends with
//! listing    -bp: the queue as Postfix prints it
//! ```
//!
//! The whole message is read before any of it is handed over, so whoever is interrupted has stored nothing.

mod arguments;
mod counter;
mod input;
mod listing;
mod report;
mod smtp;
mod status;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use serde_json::Value;
use sundown_client::{Error, Message, QueueRow, SubmissionState};
use sundown_mail::address::to_ascii;
use sundown_mail::name::with_address;

use crate::bounded::{Bounded, Budget, largest_message};
use crate::cli::{Context, Visit};
use crate::output;
use crate::profile;
use crate::queue;
use crate::safe;

use arguments::{Head, Invocation, Mode, Verbosity};
use counter::Counter;
use listing::Seen;
use status::{Exit, Failure};

const HELP: &str = "\
Usage: sundown sendmail [FLAGS] [RECIPIENT]…
       links: sendmail, mailq (-bp), runq (-q), newaliases (-bi)

Reads a message from standard input and puts it into the outgoing queue. Status
0 means that the message is safe on disk.

  -t             send to the addresses in To, Cc and Bcc, and to those on the
                 command line
  -i             a line with a single dot does not end the message
  -f ADDRESS     the envelope's sender; with -f '' nobody is told if the message
                 fails
  -a TRANSPORT   the transport that sends the message
  -F NAME        the sender's full name, if the message has no From
  -N WHEN        when to notify the sender: never, or some of
                 failure,delay,success [default: failure,delay]
  -R WHAT        what notifications contain of the message: full, or hdrs for its
                 headers
  -v             print what was stored
  -bp            list the queue
  -bs            speak SMTP on standard input and output
  -bi            check the aliases, and print how many there are
  -q             send deferred messages now; with -qITEXT, -qRTEXT, -qSTEXT only
                 those with TEXT in the ID, in a recipient, in the sender
  -L LABEL       the program's name in the status and the log

All flags and exit statuses: docs/command.md
";

/// Does what these arguments ask for.
pub(crate) fn run(context: &Context, arguments: &[OsString]) -> ExitCode {
    if arguments == ["--help"] {
        let printed = output::print_bytes(HELP.as_bytes());
        return printed.map_or_else(|e| failed(&e).report(), |_| ExitCode::SUCCESS);
    }
    let done = arguments::parse(arguments.iter().cloned())
        .map_err(Failure::from)
        .and_then(|invocation| carry_out(context, &invocation));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Says why options and environment lead to no broker.
pub(crate) fn misconfigured(error: &Error) -> ExitCode {
    Failure::new(Exit::Settings, error.to_string()).report()
}

/// Says something on standard error; nothing depends on anybody reading it.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "sendmail: {}", safe::text(text));
}

fn carry_out(context: &Context, invocation: &Invocation) -> Result<(), Failure> {
    match invocation.mode {
        Mode::Deliver => deliver(context, invocation),
        Mode::List => list(context),
        Mode::Smtp => serve(context, invocation),
        Mode::Flush => flush(context, invocation),
        Mode::Aliases => aliases(context),
    }
}

fn deliver(context: &Context, invocation: &Invocation) -> Result<(), Failure> {
    if invocation.head == Head::Ignored && invocation.recipients.is_empty() {
        return Err(nobody("name them behind the flags, or say -t if the message does"));
    }
    let mut budget = Budget::new(|| largest_message(&counter::connect(context).ok()?.0));
    let mut stdin = Bounded::new(std::io::stdin().lock(), &mut budget);
    let read = input::read(&mut stdin, invocation.end);
    let bytes = read.map_err(|error| {
        let exit = match error.kind() {
            ErrorKind::FileTooLarge => Exit::Data,
            _ => Exit::Input,
        };
        Failure::new(exit, format!("the message cannot be read: {error}; nothing was stored"))
    })?;
    let message = addressed(bytes, invocation);
    if message.recipients().is_empty() {
        return Err(nobody("the message has no To, Cc or Bcc, and the command line names none"));
    }
    let mut counter = Counter::open(context, invocation.label.as_deref(), Visit::Brief)?;
    let message = signed(message, invocation, &counter);
    let recipients = message.recipients().join(", ");
    let entry = counter.submit(message)?;
    if let Some(warning) = counter.ends_with_this_process() {
        say(&warning);
    }
    if invocation.verbosity == Verbosity::Verbose {
        say(&format!("{entry} is stored, for {recipients}"));
    }
    counter.close();
    Ok(())
}

fn nobody(what_to_do: &str) -> Failure {
    Failure::new(Exit::Usage, format!("no recipients: {what_to_do}; nothing was stored"))
}

/// The message for its recipients: those of its head with `-t`, and those of the command line.
fn addressed(bytes: Vec<u8>, invocation: &Invocation) -> Message {
    let message = match invocation.head {
        Head::Counts => Message::parse(bytes).without_sender(),
        Head::Ignored => Message::new(bytes),
    };
    invocation.recipients.iter().fold(message, Message::recipient)
}

/// The message from its sender, who is that of the command line or else the user.
fn signed(message: Message, invocation: &Invocation, counter: &Counter<'_>) -> Message {
    let user = counter.user();
    let sender = invocation.sender.as_ref().unwrap_or(&user);
    let message = match &invocation.full_name {
        Some(name) => {
            // Whoever wants no notice still wrote the message.
            let author = if sender.is_empty() { &user } else { sender };
            message.missing_fields(&[("From", with_address(name, &to_ascii(author)))])
        }
        None => message,
    };
    by_account(message, invocation).sender(sender).report(invocation.report)
}

/// The message by the transport that `-a` names.
fn by_account(message: Message, invocation: &Invocation) -> Message {
    match &invocation.account {
        Some(account) => message.account(account),
        None => message,
    }
}

fn serve(context: &Context, invocation: &Invocation) -> Result<(), Failure> {
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut counter = match Counter::open(context, invocation.label.as_deref(), Visit::Long) {
        Ok(counter) => counter,
        Err(failure) => {
            smtp::turn_away(output);
            return Err(failure);
        }
    };
    // The dialogue has said who the sender is.
    let done = smtp::serve(input, output, counter.largest_message(), |message| {
        counter.submit(by_account(message, invocation))
    });
    counter.close();
    done.map_err(|error| Failure::new(Exit::Input, format!("the dialogue broke off: {error}")))
}

fn list(context: &Context) -> Result<(), Failure> {
    let (mapi, broker) = counter::connect(context).map_err(|e| failed(&e))?;
    let seen = listing::seen(&mapi, broker).map_err(|e| failed(&e))?;
    let rows = mapi.queue(context.profile.as_deref(), false).map_err(|e| failed(&e))?;
    let text = if context.json {
        output::document(&rows.iter().map(queue::value).collect::<Value>())
    } else {
        safe::printed(&listing::postfix(&rows, seen))
    };
    output::print_bytes(text.as_bytes()).map_err(|e| failed(&e))?;
    match seen {
        Seen::Everything => Ok(()),
        Seen::Own => Err(Failure::new(
            Exit::Permission,
            "only the broker's user and root see the whole queue; this is what this user may see of it",
        )),
    }
}

/// Says where the profile's aliases are, and whether they can be read. There is no database of them to be made.
fn aliases(context: &Context) -> Result<(), Failure> {
    let name = context.profile.as_deref().unwrap_or("default");
    let profile = profile::load(name, &profile::places(context));
    let profile = profile.map_err(|e| Failure::new(Exit::Settings, e.to_string()))?;
    let count = profile.local.aliases.len() + usize::from(profile.local.default.is_some());
    let aliases = if count == 1 { "1 alias".to_owned() } else { format!("{count} aliases") };
    let text = match &profile.local.file {
        Some(file) => {
            format!("profile {name:?} has {aliases}, with those of {}", file.display())
        }
        None => format!(
            "profile {name:?} has {aliases}, and reads no file of them; its [mail] aliases_file names one"
        ),
    };
    let text = format!("{text}; a change is used with the next message\n");
    output::print_bytes(safe::printed(&text).as_bytes()).map_err(|e| failed(&e))?;
    let complaints = profile.local.complaints();
    let Some((last, others)) = complaints.split_last() else { return Ok(()) };
    for why in others {
        say(why);
    }
    Err(Failure::new(Exit::Settings, last.clone()))
}

/// Has everything deferred tried at once, or what was selected, and does not wait for it.
fn flush(context: &Context, invocation: &Invocation) -> Result<(), Failure> {
    let (mapi, _) = counter::connect(context).map_err(|e| failed(&e))?;
    let profile = context.profile.as_deref();
    let hastened = match &invocation.selection {
        None => mapi.flush_queues(profile).map_err(|e| failed(&e))?,
        Some(selection) => {
            let rows = mapi.queue(profile, false).map_err(|e| failed(&e))?;
            let deferred = rows.iter().filter(|row| row.state == SubmissionState::Deferred);
            let selected = deferred.filter(|row| selection.takes(row));
            // One that has gone meanwhile needs no try.
            let tried = |row: &&QueueRow| mapi.retry(Some(&row.profile), row.entry).is_ok();
            selected.filter(tried).count() as u64
        }
    };
    if invocation.verbosity == Verbosity::Verbose {
        say(queue::hastened(hastened).trim_end());
    }
    Ok(())
}

fn failed(error: &Error) -> Failure {
    Failure::new(status::meaning(error.code()).exit, error.to_string())
}
