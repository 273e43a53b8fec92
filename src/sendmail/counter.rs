//! Where mail is handed over: the broker that takes it, and one session with it.

use sundown_client::paths::{Environment, Paths};
use sundown_client::{EntryId, Error, Logoff, Mapi, Message, Session};

use crate::cli::{Autostart, Context, Visit};

use super::status::Failure;

/// What members of the session are shown when no label was given.
const PROGRAM: &str = "sendmail";

/// A session with the broker that takes mail.
pub(crate) struct Counter<'a> {
    context: &'a Context,
    mapi: Mapi,
    broker: Broker,
    session: Option<Session>,
}

/// Whose broker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    /// That of all users of this host.
    Systems,
    /// The user's own, or one whose socket was asked for.
    Own,
}

impl<'a> Counter<'a> {
    /// Finds the broker, and logs on.
    pub(crate) fn open(
        context: &'a Context,
        label: Option<&str>,
        visit: Visit,
    ) -> Result<Self, Failure> {
        let log_on = |program: &_, paths: &_, start| context.log_on(program, paths, start, visit);
        let reached = reach(context, label, log_on).map_err(|e| Failure::before(&e))?;
        let ((mapi, session), broker) = reached;
        Ok(Self { context, mapi, broker, session: Some(session) })
    }

    /// The session. Another one if somebody has ended it since.
    fn session(&mut self) -> Result<&Session, Error> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.mapi.logon(self.context.logon())?,
        };
        Ok(self.session.insert(session))
    }

    /// The address of the user. A broker of all users has an identity of its own, of which only the domain is theirs.
    pub(crate) fn user(&mut self) -> Result<String, Failure> {
        let broker = self.broker;
        let identity = self.session().map_err(|e| Failure::before(&e))?.identity();
        let user = match broker {
            Broker::Own => None,
            Broker::Systems => Environment::of_this_process().user_name(),
        };
        Ok(match (user, identity.rsplit_once('@')) {
            (Some(user), Some((_, domain))) => format!("{user}@{domain}"),
            (Some(user), None) => user,
            (None, _) => identity,
        })
    }

    /// Hands a message over. When this returns it is durable.
    pub(crate) fn submit(&mut self, message: &Message) -> Result<EntryId, Failure> {
        let session = self.session().map_err(|e| Failure::before(&e))?;
        match session.submit(message) {
            Ok(submitted) => Ok(submitted.entry),
            Err(error) => {
                if error.is_end_of_session() {
                    self.session = None;
                }
                Err(Failure::while_submitting(&error))
            }
        }
    }

    /// Leaves. What was handed over stays so, whatever comes of this.
    pub(crate) fn close(self) {
        if let Some(session) = &self.session {
            let _ = session.logoff(Logoff::now());
        }
    }
}

/// The library with the broker that takes mail.
pub(crate) fn connect(context: &Context) -> Result<Mapi, Error> {
    let connect =
        |program: &_, paths: &_, start| context.connect(program, paths, start, Visit::Brief);
    reach(context, None, connect).map(|(mapi, _)| mapi)
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
    if let Some(system) = context.paths.host_socket.as_deref().filter(|path| path.exists()) {
        let paths = Paths { socket: system.to_owned(), ..context.paths.clone() };
        match try_at(program, &paths, Autostart::No) {
            Ok(reached) => return Ok((reached, Broker::Systems)),
            Err(error) if nobody_is_there(&error) => warn_if_locked_out(&error, system),
            Err(error) => return Err(error),
        }
    }
    Ok((try_at(program, context.own()?, Autostart::Yes)?, Broker::Own))
}

/// Whether no broker listens there, or none that this user may talk to. One that is there and does not answer is not
/// passed over: mail would go another way than it always does.
fn nobody_is_there(error: &Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound, PermissionDenied};
    let source = std::error::Error::source(error);
    let kind = source.and_then(|e| e.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    matches!(kind, Some(ConnectionRefused | NotADirectory | NotFound | PermissionDenied))
}

/// Mail that goes another way than the system's because this user may not use that is worth a word.
fn warn_if_locked_out(error: &Error, system: &std::path::Path) {
    let source = std::error::Error::source(error);
    let kind = source.and_then(|e| e.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    if kind == Some(std::io::ErrorKind::PermissionDenied) {
        super::say(&format!(
            "the system's broker at {} is not for this user; the user's own takes the message",
            system.display()
        ));
    }
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
