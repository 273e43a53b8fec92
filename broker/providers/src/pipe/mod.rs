//! The transport that hands each message to a program of this host, on its standard input: procmail, maildrop, a script.
//!
//! | module | what it owns |
//! |---|---|
//! | `template` | the arguments of the profile, and what their placeholders stand for |
//! | `message` | the message as the program reads it |
//! | `runs` | the threads that start programs and wait for them |
//! | `places` | how many run at once in all sessions of the broker |
//! | `verdict` | what the end of a program says about the message |
//!
//! A program is started for each recipient. Before that the whole message is in a file without a name, which becomes its standard
//! input: a program gets a message to its end or is not started.
//!
//! From the start of the program until its end nobody knows whether it has delivered the message, and nothing can be found out later.
//! After a crash the slot of the attempt ([`Dots`]) says whether the program was started, and how it ended.

mod message;
mod places;
mod runs;
mod template;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use sundown_core::provider::{
    AskedBy, Outcome, ProviderError, ProviderSpec, RecipientResult, Transmission, TransportFacts,
};
use sundown_protocol::Code;
use sundown_protocol::request::Notify;

use crate::headers::clean;
use crate::smtp::{Dot, Dots, Fate, Marker};
use crate::users::{FindUser, Users};
use crate::{
    NothingToSave, Prepared, ProviderShutdown, Reply, Result, Support, TransportProvider, results,
};

use self::message::Spooled;
use self::places::Place;
use self::runs::{Patience, Run, Runs};
use self::template::Values;

pub use self::places::Places;
pub use self::template::Template;

/// The option for each argument of the program, in their order.
pub const ARGUMENT_OPTION: &str = "argument";

/// How long a program may run where the profile says nothing.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// How long a message may take for its copy.
const COPY: Duration = Duration::from_secs(60);

/// The longest program that a marker names, in bytes. A marker has 4 KiB at most.
const NAMED: usize = 1 << 10;

/// Hands messages to the program at the spec's path.
pub struct Pipe {
    name: String,
    program: String,
    template: Template,
    users: Users,
    timeout: Duration,
    connections: usize,
    place: Arc<Place>,
    common: Common,
    session: Option<Session>,
}

/// What the transports of this kind have in common in a broker.
#[derive(Clone, Default)]
pub struct Common {
    /// Asks the system for a user.
    pub users: Arc<OnceLock<FindUser>>,
    /// The broker's data directory, which has the messages that programs read. Without it they are in the system's for temporary files.
    pub data: Arc<OnceLock<PathBuf>>,
    /// The slots of attempts.
    pub dots: Arc<Dots>,
    /// How many programs run.
    pub places: Arc<Places>,
}

/// What there is from a logon to its logoff.
struct Session {
    support: Arc<dyn Support>,
    prepared: HashMap<u64, Ready>,
    runs: Runs,
}

/// A message that waits to be handed over.
struct Ready {
    recipient: usize,
    arguments: Vec<String>,
    envelope: [(&'static str, String); 2],
    message: File,
    dot: Option<Dot>,
    /// What became of it when the program has taken it. A program that passes it on reports nothing.
    taken: Outcome,
}

impl Pipe {
    /// A transport that touches no file and starts no program before its first message.
    ///
    /// ```
    /// use sundown_core::provider::ProviderSpec;
    /// use sundown_providers::pipe::{Common, Pipe};
    ///
    /// let spec = ProviderSpec { path: "/usr/bin/procmail".into(), ..ProviderSpec::new("pipe") };
    /// assert!(Pipe::new(&spec, &Common::default()).is_ok());
    /// ```
    pub fn new(spec: &ProviderSpec, common: &Common) -> Result<Self> {
        let wrong = |why: String| {
            let text = format!("transport {}: {why}", spec.name);
            ProviderError::new(Code::E_UNCONFIGURED, text)
        };
        let values = |key: &'static str| {
            let options = spec.options.iter().filter(move |(known, _)| known == key);
            options.map(|(_, value)| value.clone())
        };
        let number = |key: &'static str, default: u64| {
            let given = values(key).next();
            given.map_or(Ok(default), |text| {
                text.parse().map_err(|_| wrong(format!("{key} = {text:?} is no number")))
            })
        };
        let program = spec.path.to_string_lossy().into_owned();
        let arguments: Vec<_> = values(ARGUMENT_OPTION).collect();
        let template = Template::of(&program, &arguments).map_err(wrong)?;
        let timeout = Duration::from_millis(number("timeout", TIMEOUT.as_millis() as u64)?);
        let connections = number("connections", 1)?.clamp(1, 64) as usize;
        let place = common.places.of(&program, &arguments);
        Ok(Self {
            name: spec.name.clone(),
            program,
            template,
            users: Users::of(spec, &common.users),
            timeout,
            connections,
            place,
            common: common.clone(),
            session: None,
        })
    }

    fn not_logged_on(&self) -> ProviderError {
        let text = format!("{}: no session is logged on to it", self.name);
        ProviderError::new(Code::E_NOT_INITIALIZED, text)
    }

    /// Whether the program is there and may be executed. Without it no message can be handed over, whatever it is like.
    fn has_program(&self) -> Result<()> {
        let program = PathBuf::from(&self.program);
        let found = program.metadata().and_then(|found| {
            if !found.is_file() {
                return Err(std::io::Error::other("it is not a file"));
            }
            Ok(accessat(CWD, &program, Access::EXEC_OK, AtFlags::EACCESS)?)
        });
        found.map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "there is no such program".to_owned(),
                std::io::ErrorKind::PermissionDenied => {
                    "the broker's user may not execute it".to_owned()
                }
                _ => error.to_string(),
            };
            let text = format!("4.3.5 {}: {why}; check `command` and the program", self.program);
            ProviderError::new(Code::E_UNCONFIGURED, text).of_server()
        })
    }

    /// Prepares a message for its first recipient that a program can be started for. The others go in transmissions of their own.
    fn put(&mut self, transmission: &Transmission) -> Result<Prepared> {
        if self.session.is_none() {
            return Err(self.not_logged_on());
        }
        self.has_program()?;
        let mut refused = Vec::new();
        for (n, (recipient, address)) in transmission.recipients.iter().enumerate() {
            let arguments = match self.arguments(*recipient, address, &transmission.from) {
                Ok(arguments) => arguments,
                Err(result) => {
                    refused.push(result);
                    continue;
                }
            };
            let Some(marker) = self.put_for((*recipient, address), arguments, transmission)? else {
                let reply = format!("5.4.6 a mail forwarding loop for {address}");
                let (recipient, outcome) = (*recipient, Outcome::Failed);
                refused.push(RecipientResult { recipient, outcome, reply });
                continue;
            };
            let rest = transmission.recipients[n + 1..].iter();
            refused.extend(rest.map(|(recipient, _)| RecipientResult {
                recipient: *recipient,
                outcome: Outcome::NotSent,
                reply: "one program for each recipient".to_owned(),
            }));
            return Ok(Prepared { marker, refused });
        }
        Ok(Prepared { marker: String::new(), refused })
    }

    /// The arguments for a recipient.
    fn arguments(
        &self,
        recipient: usize,
        address: &str,
        sender: &str,
    ) -> std::result::Result<Vec<String>, RecipientResult> {
        let user = if self.template.names_user() {
            self.users.find(address).map_err(|why| why.result(recipient))?
        } else {
            ""
        };
        self.template
            .expand(Values { recipient: address, sender, user })
            .map_err(|reply| RecipientResult { recipient, outcome: Outcome::Failed, reply })
    }

    /// Makes a message ready for a recipient; nothing, if the recipient has had it.
    fn put_for(
        &mut self,
        (recipient, address): (usize, &str),
        arguments: Vec<String>,
        transmission: &Transmission,
    ) -> Result<Option<String>> {
        let Some(session) = &mut self.session else { return Err(self.not_logged_on()) };
        let directory = self.common.data.get().cloned().unwrap_or_else(std::env::temp_dir);
        let mut store = session.support.store(transmission.store)?;
        let stored = store.open(transmission.record)?;
        let spooled = message::spool(&directory, stored, (&transmission.from, address))?;
        let Spooled::Ready(message) = spooled else { return Ok(None) };
        let dot = self.common.dots.take();
        let place = if self.program.len() > NAMED { "" } else { self.program.as_str() };
        let marker = Marker { place, mark: dot.as_ref().map(Dot::mark).copied() };
        let envelope = [("SENDER", transmission.from.clone()), ("RECIPIENT", address.to_owned())];
        let marker = marker.to_string();
        let wants = transmission.report.notify.contains(Notify::SUCCESS);
        let taken = if wants { Outcome::Relayed } else { Outcome::Sent };
        let ready = Ready { recipient, arguments, envelope, message, dot, taken };
        session.prepared.insert(transmission.id, ready);
        Ok(Some(marker))
    }

    /// What became of a message that was cut off.
    fn found_out(&self, marker: &str) -> (Outcome, String) {
        let marker = Marker::parse(marker);
        // The profile may have another one by now.
        let program = &clean(if marker.place.is_empty() { &self.program } else { marker.place });
        let fate = marker.mark.map(|mark| self.common.dots.find_out(&mark));
        match fate {
            Some(Ok(Fate::Sent)) => {
                (Outcome::Sent, format!("delivered by {program} before the broker ended"))
            }
            Some(Ok(Fate::NotSent)) => {
                let words = format!(
                    "the broker ended before {program} was started, or after it had failed; it is started again"
                );
                (Outcome::NotSent, words)
            }
            Some(Err(why)) => {
                tracing::info!(program, %why, "what became of a message is unknown");
                (Outcome::Unknown, cut_off(program))
            }
            None => (Outcome::Unknown, cut_off(program)),
        }
    }

    fn close(&mut self, patience: Patience) {
        if let Some(Session { prepared, runs, .. }) = self.session.take() {
            drop(prepared);
            runs.close(patience);
        }
    }
}

/// What is known of a message whose program was cut off.
fn cut_off(program: &str) -> String {
    format!("the broker ended while {program} had the message; it may have been delivered")
}

impl TransportProvider for Pipe {
    fn logon(&mut self, support: Arc<dyn Support>) -> Result<TransportFacts> {
        self.close(Patience::None);
        let runs =
            Runs::new(&self.name, &self.program, self.timeout, (self.connections, &self.place));
        self.session = Some(Session { support, prepared: HashMap::new(), runs });
        let around = COPY + runs::PATIENCE + runs::GRACE;
        let longest = self.timeout.saturating_add(around);
        Ok(TransportFacts { window: self.connections, recipients: 1, longest })
    }

    fn prepare(&mut self, transmission: Transmission, reply: Reply<Prepared>) {
        reply.send(self.put(&transmission));
    }

    fn complete(&mut self, id: u64, reply: Reply<Vec<RecipientResult>>) {
        let Some(session) = &mut self.session else { return reply.send(Ok(Vec::new())) };
        let Some(ready) = session.prepared.remove(&id) else { return reply.send(Ok(Vec::new())) };
        session.runs.give(Run { ready, reply });
    }

    fn cancel(&mut self, id: u64) {
        if let Some(session) = &mut self.session {
            session.prepared.remove(&id);
        }
    }

    fn recover(
        &mut self,
        transmission: Transmission,
        marker: String,
        reply: Reply<Vec<RecipientResult>>,
    ) {
        let (outcome, words) = self.found_out(&marker);
        let recipients = transmission.recipients.iter().map(|(recipient, _)| *recipient);
        reply.send(Ok(results(recipients, outcome, &words)));
    }

    fn validate(&mut self, _: AskedBy, reply: Reply<()>) {
        reply.send(self.has_program());
    }

    fn logoff(&mut self) -> Result<()> {
        self.close(Patience::Short);
        Ok(())
    }

    fn shutdown(&mut self) -> Option<&mut dyn ProviderShutdown> {
        Some(self)
    }

    fn has_nothing_to_save(&self) -> bool {
        true
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.close(Patience::None);
    }
}

/// A submitted message is in its store until the program has ended, so the transport has nothing of it to save.
impl NothingToSave for Pipe {}
