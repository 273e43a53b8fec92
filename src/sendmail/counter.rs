//! Where mail is handed over: the broker that takes it, and one session with it.

use std::io::ErrorKind;

use sundown_client::paths::{Environment, Paths};
use sundown_client::{EntryId, Error, Logoff, Mapi, Message};
use sundown_mail::address::to_ascii;
use sundown_mail::author;

use crate::bounded::{UNASKED, largest_message};
use crate::cli::{Autostart, Context, Visit};
use crate::handover::{self, LoggedOn};

use super::status::Failure;

/// What members of the session are shown when no label was given.
const PROGRAM: &str = "sendmail";

/// A session with the broker that takes mail.
pub(crate) struct Counter<'a> {
    logged_on: LoggedOn,
    broker: Broker,
    /// Reaches a broker once more.
    again: Box<dyn Fn() -> Result<LoggedOn, Error> + 'a>,
}

/// Whose broker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    /// That of all users of this host.
    Systems,
    /// The user's own, or one whose socket was asked for.
    Own,
    /// The user's own, because the system's is not for this user.
    Instead,
}

impl<'a> Counter<'a> {
    /// Finds the broker, and logs on.
    pub(crate) fn open(
        context: &'a Context,
        label: Option<&str>,
        visit: Visit,
    ) -> Result<Self, Failure> {
        let log_on =
            move |program: &_, paths: &_, start| context.log_on(program, paths, start, visit);
        let reached = reach(context, label, log_on).map_err(|e| Failure::before(&e))?;
        let (logged_on, broker) = reached;
        let label = label.map(str::to_owned);
        let again = move || reach(context, label.as_deref(), log_on).map(|(reached, _)| reached);
        Ok(Self { logged_on, broker, again: Box::new(again) })
    }

    /// The address of the user. A broker of all users has an identity of its own, of which only the domain is theirs.
    pub(crate) fn user(&self) -> String {
        let identity = self.logged_on.1.identity();
        let user = match self.broker {
            Broker::Own | Broker::Instead => None,
            Broker::Systems => Environment::of_this_process().user_name(),
        };
        match (user, identity.rsplit_once('@')) {
            (Some(user), Some((_, domain))) => format!("{user}@{domain}"),
            (Some(user), None) => user,
            (None, _) => identity,
        }
    }

    /// Hands a message over, over another session if somebody has ended this one since. When this returns it is durable.
    pub(crate) fn submit(&mut self, message: Message) -> Result<EntryId, Failure> {
        let message = self.completed(message).keyed();
        let submitted = handover::submit(&mut self.logged_on, &message, &self.again);
        match submitted {
            Ok(submitted) => Ok(submitted.entry),
            Err(error) => Err(Failure::while_submitting(&error)),
        }
    }

    /// The message as it is submitted: its From says whose it is, and not the envelope. The broker makes a From of the envelope's sender, and must have one of an author where there is none.
    fn completed(&self, message: Message) -> Message {
        let message = handover::without_trace(message);
        let message = match author::of(message.bytes()) {
            Some(author) => message.author(author),
            None => message,
        };
        match message.envelope_sender() {
            Some("") => message.missing_fields(&[("From", to_ascii(&self.user()).into_owned())]),
            Some(_) | None => message,
        }
    }

    /// The largest message that the broker takes.
    pub(crate) fn largest_message(&self) -> u64 {
        largest_message(&self.logged_on.0).unwrap_or(UNASKED)
    }

    /// What to say where the broker ends with this process.
    pub(crate) fn ends_with_this_process(&self) -> Option<String> {
        handover::ends_with_this_process(&self.logged_on.0)
    }

    /// Leaves. What was handed over stays so, whatever comes of this.
    pub(crate) fn close(self) {
        let _ = self.logged_on.1.logoff(Logoff::now());
    }
}

/// The library with the broker that takes mail.
pub(crate) fn connect(context: &Context) -> Result<(Mapi, Broker), Error> {
    let connect =
        |program: &_, paths: &_, start| context.connect(program, paths, start, Visit::Brief);
    reach(context, None, connect)
}

/// Reaches the broker that takes mail: the one whose socket was asked for; else the system's, if there is one for this
/// user; else the user's own, started if none runs.
fn reach<T>(
    context: &Context,
    label: Option<&str>,
    try_at: impl Fn(&str, &Paths, Autostart) -> Result<T, Error>,
) -> Result<(T, Broker), Error> {
    let program = label.map(program).filter(|label| !label.is_empty());
    let program = program.as_deref().unwrap_or(PROGRAM);
    let mut broker = Broker::Own;
    if let Some(system) = context.paths.host_socket.as_deref().filter(|path| path.exists()) {
        let paths = Paths { socket: system.to_owned(), host_socket: None, ..context.paths.clone() };
        match try_at(program, &paths, Autostart::No) {
            Ok(reached) => return Ok((reached, Broker::Systems)),
            Err(error) if kind(&error) == Some(ErrorKind::PermissionDenied) => {
                broker = Broker::Instead;
                warn_of_lock_out(system);
            }
            Err(error) if nobody_is_there(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((try_at(program, context.own()?, Autostart::Yes)?, broker))
}

/// Whether no broker listens there. One that is there and does not answer is not passed over: mail would go another way than it
/// always does.
fn nobody_is_there(error: &Error) -> bool {
    use ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(kind(error), Some(ConnectionRefused | NotADirectory | NotFound))
}

/// What the system said.
fn kind(error: &Error) -> Option<ErrorKind> {
    let source = std::error::Error::source(error);
    source.and_then(|e| e.downcast_ref::<std::io::Error>()).map(std::io::Error::kind)
}

/// Mail that goes another way than the system's because this user may not use that is worth a word.
fn warn_of_lock_out(system: &std::path::Path) {
    super::say(&format!(
        "the system's broker at {} is not for this user; the user's own is used. Who may use it is in the group of its socket (sundown)",
        system.display()
    ));
}

/// A label as the broker takes it for the name of a program.
fn program(label: &str) -> String {
    let mut name = String::new();
    for c in label.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > 255 {
            break;
        }
        name.push(c);
    }
    name
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use sundown_client::Options;
    use sundown_client::socket::connect_within;

    use super::*;

    /// Its mail waits for it, and does not go another way.
    #[test]
    fn a_broker_with_a_full_backlog_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let (socket, moment) = (directory.path().join("s"), Duration::from_millis(1));
        let reach = || {
            let options = Options::new("test").socket(&socket).data_dir(directory.path());
            Mapi::initialize(options.patience(moment).no_autostart()).expect_err("no broker")
        };
        assert!(nobody_is_there(&reach()));
        let listener = UnixListener::bind(&socket).expect("bound");
        rustix::net::listen(&listener, 0).expect("a short backlog");
        let waiting: Vec<_> = std::iter::from_fn(|| connect_within(&socket, moment).ok()).collect();
        let error = reach();
        assert!(!waiting.is_empty() && !nobody_is_there(&error), "{error}");
        drop(listener);
        assert!(nobody_is_there(&reach()));
    }
}
