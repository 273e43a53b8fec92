//! From a host's name to a server that takes messages: resolve, connect, greet, protect, log on.
//!
//! ```text
//!  tls:       connect ─► TLS ─► greeting ─► EHLO ───────────────────────► AUTH
//!  starttls:  connect ────────► greeting ─► EHLO ─► STARTTLS ─► TLS ─► EHLO ─► AUTH
//!  opportunistic: like starttls where that is offered and works, and like none where not
//!  none:      connect ────────► greeting ─► EHLO, or HELO ──────────────► AUTH
//! ```
//!
//! A server that speaks LMTP may be at a path, and is greeted by LHLO.
//!
//! What cannot be protected as the profile says is not used at all.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lettre::transport::smtp::commands::Starttls;
use lettre::transport::smtp::extension::{ClientId, Extension};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::answer::{Answer, Meaning};
use super::auth;
use super::connection::{Connection, Offer, Unread};
use super::settings::Settings;
use crate::Result;
use crate::network::connect::LEAST;
use crate::network::keys::Security;
use crate::network::secret::Keeper;
use crate::network::tls::Trust;
use crate::network::trace::Trace;
use crate::network::trouble::Trouble;
use crate::network::wire::{Socket, Stream, Wire};

/// What connections are made of.
#[derive(Debug)]
pub(super) struct Dialer {
    /// What the profile says.
    pub(super) settings: Settings,
    trust: Trust,
    keeper: Option<Keeper>,
    /// What is left when a server wants a logon and the profile has no user.
    unnamed: Trace,
    /// What was wrong with the profile or its files, and when.
    wrong: Mutex<Option<(Instant, ProviderError)>>,
}

/// So long what is wrong with a profile's own files is not looked at anew: all messages that are handed over meanwhile are told the same,
/// without a connection.
const WRONG: Duration = Duration::from_secs(5);

impl Dialer {
    /// A dialer that touches neither network nor files yet.
    pub(super) fn new(settings: Settings) -> Self {
        let trust = Trust::new(settings.certificates.clone());
        let account = settings.account();
        let unnamed = Trace::of_none(&account);
        let login = settings.login.as_ref();
        let keeper = login.map(|login| Keeper::new(login.source.clone(), account));
        Self { settings, trust, keeper, unnamed, wrong: Mutex::default() }
    }

    /// Looks anew at what was wrong with the profile's files, because a user wants a try.
    pub(super) fn look_again(&self) {
        *self.wrong() = None;
    }

    fn wrong(&self) -> MutexGuard<'_, Option<(Instant, ProviderError)>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what it has read, so that the next connection is as the profile and its files say now.
    pub(super) fn forget(&self) {
        self.trust.forget();
        if let Some(keeper) = &self.keeper {
            keeper.forget();
        }
    }

    /// Drops a password that no connection has needed for so long.
    pub(super) fn forget_unused(&self, since: Duration) {
        if let Some(keeper) = &self.keeper {
            keeper.forget_unused(since);
        }
    }

    /// The trace of the password that was refused.
    pub(super) fn trace(&self) -> Trace {
        self.keeper.as_ref().map_or(self.unnamed, Keeper::trace)
    }

    /// Whether there is another password than those that left these traces, or another profile for it. Where it is kept is looked at
    /// anew.
    pub(super) fn has_another_password(&self, than: &[Trace]) -> bool {
        match &self.keeper {
            Some(keeper) => keeper.has_another(than).unwrap_or(false),
            None => !than.contains(&self.unnamed),
        }
    }

    /// Connects, and gives back a conversation in which a transaction can begin. Up to there each answer may take so long.
    pub(super) fn dial(&self, patience: Duration) -> Result<Connection> {
        if let Some((since, error)) = &*self.wrong()
            && since.elapsed() < WRONG
        {
            return Err(error.clone());
        }
        let dialed = self.dial_now(patience);
        let wrong = dialed.as_ref().err().filter(|error| error.code == Code::E_UNCONFIGURED);
        *self.wrong() = wrong.map(|error| (Instant::now(), error.clone()));
        dialed
    }

    fn dial_now(&self, patience: Duration) -> Result<Connection> {
        if let Some(keeper) = &self.keeper {
            keeper.may_try()?;
        }
        let dialed = self.dial_once(patience, Upgrade::AsTheProfileSays);
        match dialed {
            Err(error)
                if self.settings.security == Security::Opportunistic
                    && error.code == Code::E_NO_ACCESS =>
            {
                let server = self.settings.place();
                tracing::info!(server, %error, "TLS does not work; mail goes there in the open");
                self.dial_once(patience, Upgrade::Not)
            }
            dialed => dialed,
        }
    }

    fn dial_once(&self, patience: Duration, upgrade: Upgrade) -> Result<Connection> {
        let place = self.settings.place();
        let until = Instant::now() + self.settings.connect_timeout;
        let wire = self.connect(until)?;
        let stream = match self.settings.security {
            Security::Tls => self.protect(wire)?,
            Security::StartTls | Security::Opportunistic | Security::None => Stream::Plain(wire),
        };
        let mut connection = Connection::new(stream, self.settings.dialect, place, patience);
        let greeting = connection.answer().map_err(|trouble| trouble.unreached().into_error())?;
        expect_done(&connection, &greeting)?;
        self.greet(&mut connection)?;
        match (self.settings.security, upgrade) {
            (Security::StartTls, _) => connection = self.upgrade(connection, patience)?,
            (Security::Opportunistic, Upgrade::AsTheProfileSays) => {
                connection = self.upgrade_if_offered(connection, patience)?;
            }
            (Security::Opportunistic, Upgrade::Not) | (Security::Tls | Security::None, _) => {}
        }
        if let (Some(login), Some(keeper)) = (&self.settings.login, &self.keeper) {
            auth::log_on(&mut connection, login, keeper)?;
        }
        connection.set_timeout(self.settings.timeout);
        Ok(connection)
    }

    fn connect(&self, until: Instant) -> Result<Wire> {
        let Settings { socket, way, host, port, .. } = &self.settings;
        let Some(path) = socket else { return way.connect(host, *port, until) };
        let mut wire = Wire::new(Socket::Unix(connect_to_path(path, until)?));
        wire.set_deadline(until);
        Ok(wire)
    }

    fn protect(&self, wire: Wire) -> Result<Stream> {
        let place = self.settings.place();
        let tls = self.trust.protect(wire, (&self.settings.host, &place))?;
        Ok(Stream::Tls(Box::new(tls)))
    }

    fn upgrade(&self, mut connection: Connection, patience: Duration) -> Result<Connection> {
        let place = connection.place().to_owned();
        if !connection.offer.supports(Extension::StartTls) {
            let text = format!(
                "{place} does not offer STARTTLS, and nothing is sent in the open; if it has a port \
                 for TLS (mostly 465) take security = \"tls\""
            );
            return Err(ProviderError::new(Code::E_NO_SUPPORT, text));
        }
        let answer = connection.command(&Starttls.to_string()).map_err(Trouble::into_error)?;
        if answer.meaning() != Meaning::Done
            && !answer.closes()
            && self.settings.security == Security::Opportunistic
        {
            let server = place;
            tracing::info!(server, answer = answer.words(), "no TLS; mail goes there in the open");
            return Ok(connection);
        }
        expect_done(&connection, &answer)?;
        let (stream, unread) = connection.into_stream();
        let (Stream::Plain(mut wire), Unread::Nothing) = (stream, unread) else {
            // Somebody on the way put words in that would count as the server's, once protected.
            let text = format!("{place} went on in the open behind STARTTLS; that is an attack");
            return Err(ProviderError::new(Code::E_NO_ACCESS, text));
        };
        wire.set_deadline(Instant::now() + self.settings.connect_timeout);
        let (stream, dialect) = (self.protect(wire)?, self.settings.dialect);
        let mut connection = Connection::new(stream, dialect, place, patience);
        self.greet(&mut connection)?;
        Ok(connection)
    }

    fn upgrade_if_offered(&self, connection: Connection, patience: Duration) -> Result<Connection> {
        let server = connection.place().to_owned();
        if !connection.offer.supports(Extension::StartTls) {
            tracing::info!(server, "STARTTLS is not offered; mail goes there in the open");
            return Ok(connection);
        }
        let upgraded = self.upgrade(connection, patience)?;
        tracing::info!(server, "TLS is used, and the certificate was not looked at");
        Ok(upgraded)
    }

    fn greet(&self, connection: &mut Connection) -> Result<()> {
        let (name, dialect) = (self.name(connection), connection.dialect);
        let line = format!("{} {name}\r\n", dialect.hello());
        let answer = connection.command(&line).map_err(Trouble::into_error)?;
        // Without EHLO there is neither STARTTLS nor AUTH, so only a server that needs neither may do so.
        let in_the_open =
            matches!(self.settings.security, Security::Opportunistic | Security::None);
        if let Some(hello) = dialect.old_hello()
            && answer.meaning() == Meaning::Never
            && in_the_open
        {
            let line = format!("{hello} {name}\r\n");
            let answer = connection.command(&line).map_err(Trouble::into_error)?;
            return expect_done(connection, &answer);
        }
        expect_done(connection, &answer)?;
        connection.offer = Offer::of(&answer);
        Ok(())
    }

    /// What we call ourselves: the profile's word, this host's name, or the connection's address.
    fn name(&self, connection: &mut Connection) -> ClientId {
        let given = self.settings.helo.clone().or_else(host_name);
        given.map_or_else(|| literal(connection.local_address()), ClientId::Domain)
    }
}

/// Whether a way in the open becomes TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    AsTheProfileSays,
    Not,
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    let fits = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let useful = !name.starts_with("localhost") && name.len() <= 255 && name.split('.').all(fits);
    useful.then_some(name)
}

fn literal(address: Option<IpAddr>) -> ClientId {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => ClientId::Ipv4(address),
        Some(IpAddr::V6(address)) => ClientId::Ipv6(address),
        None => ClientId::default(),
    }
}

/// Before a transaction a server can only say yes; everything else is for later.
fn expect_done(connection: &Connection, answer: &Answer) -> Result<()> {
    if answer.meaning() == Meaning::Done {
        return Ok(());
    }
    let text = format!("{} is not ready: {}", connection.place(), answer.words());
    Err(ProviderError::new(Code::E_CALL_FAILED, text))
}

/// A server whose line of clients is full lets the next one wait, which has its time as well.
fn connect_to_path(path: &Path, until: Instant) -> Result<UnixStream> {
    let connect = || {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let left = until.saturating_duration_since(Instant::now()).max(LEAST);
        set_socket_timeout(&socket, Timeout::Send, Some(left))?;
        rustix::net::connect(&socket, &address)?;
        Ok(UnixStream::from(socket))
    };
    connect().map_err(|error: Errno| {
        let why = match error {
            Errno::AGAIN | Errno::TIMEDOUT => "it does not answer in time".to_owned(),
            Errno::CONNREFUSED => "nothing listens there".to_owned(),
            Errno::NOENT => "there is no such socket".to_owned(),
            error => error.to_string(),
        };
        offline(format!("{} cannot be reached: {why}", path.display()))
    })
}

fn offline(text: String) -> ProviderError {
    ProviderError::new(Code::E_NETWORK_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_stands_in_for_a_name() {
        let shown = |address: &str| literal(address.parse().ok()).to_string();
        assert_eq!(shown("192.0.2.1"), "[192.0.2.1]");
        assert_eq!(shown("::ffff:192.0.2.1"), "[192.0.2.1]");
        assert_eq!(shown("2001:db8::1"), "[IPv6:2001:db8::1]");
        assert_eq!(shown("?"), "[127.0.0.1]");
    }
}
