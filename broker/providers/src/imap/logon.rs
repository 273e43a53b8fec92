//! From a host's name to a conversation with a server that knows who we are.
//!
//! ```text
//!  tls:       connect ─► TLS ─► greeting ─► CAPABILITY ──────────────────────► AUTHENTICATE or LOGIN
//!  starttls:  connect ────────► greeting ─► CAPABILITY ─► STARTTLS ─► TLS ───► AUTHENTICATE or LOGIN
//!  none:      connect ────────► greeting ─► CAPABILITY ──────────────────────► AUTHENTICATE or LOGIN
//! ```
//!
//! Then both sides compress, if the server can and the profile wants it.
//!
//! A password that was refused is not tried again until it is another one, or until a while has passed: servers lock accounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::End;
use super::conversation::{Conversation, Done, Part, Told};
use super::settings::{Compression, Settings};
use crate::Result;
use crate::network::keys::{Login, Security};
use crate::network::mechanism::Mechanism;
use crate::network::sasl::{Talk, distrusted, line};
use crate::network::scram::Wrong;
use crate::network::secret::{Age, Keeper};
use crate::network::tls::Trust;
use crate::network::wire::{Stream, Wire};

/// After so long without an acknowledgement a connection is gone.
const UNHEARD: Duration = Duration::from_secs(60);

/// What conversations with an account's server are made of.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) settings: Settings,
    trust: Trust,
    keeper: Keeper,
    /// Whether the server has sent something else when it was to compress.
    is_compressed_wrong: Arc<AtomicBool>,
}

impl Dialer {
    /// A dialer that touches neither network nor files yet.
    pub(super) fn new(settings: Settings) -> Self {
        let trust = Trust::new(settings.certificates.clone());
        let keeper = Keeper::new(settings.login.source.clone(), settings.logon());
        Self { settings, trust, keeper, is_compressed_wrong: Arc::default() }
    }

    /// Forgets what it has read, so that the next connection is as the profile and its files say now.
    pub(super) fn forget(&self) {
        self.trust.forget();
        self.keeper.forget();
    }

    /// Connects and logs on. The function gets another handle of the socket as soon as there is one, by which another thread can end it.
    pub(super) fn dial(
        &self,
        connected: impl FnOnce(std::os::fd::OwnedFd),
    ) -> Result<Conversation> {
        self.keeper.may_try()?;
        let (place, timeout) = (self.settings.place(), self.settings.timeout);
        let until = Instant::now() + self.settings.connect_timeout;
        let wire = self.settings.way.connect(&self.settings.host, self.settings.port, until)?;
        // Where the kernel has no such limit, a dead connection is noticed by its next answer.
        let _ = wire.end_if_unheard(UNHEARD);
        if let Ok(socket) = wire.another() {
            connected(socket);
        }
        let until = Instant::now() + timeout;
        let stream = match self.settings.security {
            Security::Tls => self.protect(wire)?,
            Security::StartTls | Security::Opportunistic | Security::None => Stream::Plain(wire),
        };
        let mut conversation = Conversation::new(stream, place, timeout);
        conversation.set_until(Some(until));
        let mut is_known = conversation.greeting().map_err(|error| self.ungreeted(error))?;
        conversation.learn()?;
        if self.settings.security == Security::StartTls {
            conversation = self.upgrade(conversation, is_known)?;
            conversation.set_until(Some(until));
            is_known = false;
        }
        if !conversation.offer.is_imap() {
            let place = conversation.place();
            let text = format!("{place} is too old: it does not offer IMAP4rev1");
            return Err(ProviderError::new(Code::E_NO_SUPPORT, text));
        }
        if !is_known {
            log_on(&mut conversation, &self.settings.login, &self.keeper)?;
        }
        conversation.learn()?;
        let wrong = &self.is_compressed_wrong;
        if self.settings.compression == Compression::Wanted && !wrong.load(Ordering::Relaxed) {
            conversation = conversation.compressed(wrong)?;
        }
        conversation.set_until(None);
        Ok(conversation)
    }

    /// A server without a greeting may wait for TLS.
    fn ungreeted(&self, error: ProviderError) -> ProviderError {
        if error.code != Code::E_TIMEOUT || self.settings.security == Security::Tls {
            return error;
        }
        let text =
            format!("{}; if this port takes TLS alone, take security = \"tls\"", error.message);
        ProviderError::new(error.code, text)
    }

    fn protect(&self, mut wire: Wire) -> Result<Stream> {
        wire.set_deadline(Instant::now() + self.settings.connect_timeout);
        let tls = self.trust.protect(wire, (&self.settings.host, &self.settings.place()))?;
        Ok(Stream::Tls(Box::new(tls)))
    }

    fn upgrade(&self, mut conversation: Conversation, is_known: bool) -> Result<Conversation> {
        let place = conversation.place().to_owned();
        if is_known || !conversation.offer.has("STARTTLS") {
            let text = format!(
                "{place} offers no STARTTLS; take security = \"tls\", which has port 993, or ask who runs it"
            );
            return Err(ProviderError::new(Code::E_NO_ACCESS, text));
        }
        conversation.run("STARTTLS")?.expect(&place, "STARTTLS")?;
        let Some(wire) = conversation.into_wire() else {
            // Somebody on the way put words in that would count as the server's, once protected.
            let text = format!("{place} went on in the open behind STARTTLS; that is an attack");
            return Err(ProviderError::new(Code::E_NO_ACCESS, text));
        };
        let stream = self.protect(wire)?;
        let mut conversation = Conversation::new(stream, place, self.settings.timeout);
        conversation.learn()?;
        Ok(conversation)
    }
}

/// What came of one try.
enum Tried {
    LoggedOn,
    Refused(Done),
}

/// Whether a server refuses the way to log on and not the person, as far as it says so.
fn is_about_the_way(done: &Done) -> bool {
    done.end == End::Bad || matches!(&done.note, Some(Told::Other(name)) if name == "CANNOT")
}

/// Whether a server refuses everybody for now (RFC 5530).
fn is_for_later(done: &Done) -> bool {
    const LATER: [&str; 4] = ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"];
    matches!(&done.note, Some(Told::Other(name)) if LATER.contains(&name.as_str()))
}

fn log_on(conversation: &mut Conversation, login: &Login, keeper: &Keeper) -> Result<()> {
    let place = conversation.place().to_owned();
    let mut last = None;
    for way in ways(conversation, login)? {
        match with_any_age(conversation, way, login, keeper)? {
            Tried::LoggedOn => return Ok(()),
            Tried::Refused(done) if is_for_later(&done) => {
                let text = format!("{place} logs nobody on now: {}", done.words);
                return Err(ProviderError::new(Code::E_NETWORK_ERROR, text));
            }
            Tried::Refused(done) if is_about_the_way(&done) => last = Some(done),
            Tried::Refused(done) => {
                keeper.refused();
                let (user, why) = (&login.username, why(&done));
                let text = format!("{place} does not log on {user}{why}: {}", done.words);
                return Err(ProviderError::new(Code::E_LOGON_FAILED, text));
            }
        }
    }
    let words = last.map(|done| done.words).unwrap_or_default();
    let text = format!("{place} takes none of the ways to log on: {words}; change `auth`");
    Err(ProviderError::new(Code::E_NO_SUPPORT, text))
}

/// Why a server refuses a person, as far as it says so in a code (RFC 5530).
fn why(done: &Done) -> &'static str {
    let Some(Told::Other(name)) = &done.note else { return "" };
    match name.as_str() {
        "AUTHENTICATIONFAILED" => ", because the user name or the password is wrong",
        "AUTHORIZATIONFAILED" => ", because this user may not use the account",
        "EXPIRED" => ", because the password has expired",
        "PRIVACYREQUIRED" => ", because it wants TLS",
        "CONTACTADMIN" => ", until its operator has been asked",
        _ => "",
    }
}

/// How it is said who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Authenticate(Mechanism),
    /// The command LOGIN.
    Login,
}

fn ways(conversation: &Conversation, login: &Login) -> Result<Vec<Way>> {
    let place = conversation.place();
    let wanted = login.mechanism.as_ref().map_or(&Mechanism::DEFAULT[..], std::slice::from_ref);
    let offered = wanted.iter().copied().filter(|one| conversation.offer.has_mechanism(*one));
    let mut ways: Vec<_> = offered.map(Way::Authenticate).collect();
    let by_command = login.mechanism.is_none_or(|one| one == Mechanism::Login);
    if by_command && !conversation.offer.has("LOGINDISABLED") {
        ways.push(Way::Login);
    }
    if !ways.is_empty() {
        return Ok(ways);
    }
    let takes_tokens = [Mechanism::Xoauth2, Mechanism::OauthBearer]
        .iter()
        .any(|one| conversation.offer.has_mechanism(*one));
    let text = match login.mechanism {
        Some(one) => format!("{place} does not offer {}; change `auth`", one.name()),
        None if takes_tokens => format!(
            "{place} takes no password; take `auth` = \"xoauth2\" or \"oauthbearer\", and an access token as the password"
        ),
        None => format!(
            "{place} logs nobody on with a password here; take security = \"tls\" or \"starttls\""
        ),
    };
    Err(ProviderError::new(Code::E_NO_SUPPORT, text))
}

/// A password was changed, or a token has run out, since it was fetched.
fn with_any_age(
    conversation: &mut Conversation,
    way: Way,
    login: &Login,
    keeper: &Keeper,
) -> Result<Tried> {
    let (secret, age) = keeper.get()?;
    let tried = attempt(conversation, way, &login.username, &secret)?;
    if matches!(&tried, Tried::Refused(done) if !is_about_the_way(done)) && age == Age::Kept {
        keeper.forget();
        let (fresh, _) = keeper.get()?;
        if fresh.expose_secret() != secret.expose_secret() {
            return attempt(conversation, way, &login.username, &fresh);
        }
    }
    Ok(tried)
}

fn attempt(
    conversation: &mut Conversation,
    way: Way,
    username: &str,
    secret: &SecretString,
) -> Result<Tried> {
    let done = match way {
        Way::Login => {
            let parts = [
                Part::Text("LOGIN "),
                Part::Value(username.as_bytes()),
                Part::Text(" "),
                Part::Value(secret.expose_secret().as_bytes()),
            ];
            let tag = conversation.begin(&parts)?;
            loop {
                match conversation.challenge(&tag)? {
                    Ok(_) => conversation.send(b"*\r\n")?,
                    Err(done) => break done,
                }
            }
        }
        Way::Authenticate(mechanism) => {
            let mut talk = Talk::new(mechanism, username, secret.expose_secret());
            let done = converse(conversation, mechanism, &mut talk)?;
            if done.end == End::Ok && !talk.is_believed() {
                return Err(distrusted(conversation.place(), Wrong::Proof));
            }
            if talk.is_repeated_in(&done.words, secret) {
                Done { words: "its words are not shown: the password is among them".into(), ..done }
            } else {
                done
            }
        }
    };
    let words = if done.words.contains(secret.expose_secret()) {
        "its words are not shown: the password is among them".to_owned()
    } else {
        done.words
    };
    let done = Done { words, ..done };
    tracing::debug!(server = conversation.place(), way = ?way, answer = done.words, "logon");
    Ok(if done.end == End::Ok { Tried::LoggedOn } else { Tried::Refused(done) })
}

fn converse(
    conversation: &mut Conversation,
    mechanism: Mechanism,
    talk: &mut Talk,
) -> Result<Done> {
    // Another state of the server offers other things.
    let at_once = conversation.offer.has("SASL-IR") && mechanism != Mechanism::Login;
    let first = if at_once { talk.next("").ok().flatten() } else { None };
    let command = match &first {
        Some(first) => line(&["AUTHENTICATE ", mechanism.name(), " ", first]),
        None => line(&["AUTHENTICATE ", mechanism.name()]),
    };
    conversation.forget_offer();
    let tag = conversation.begin(&[Part::Text(&command)])?;
    let (mut said_all, mut wrong) = (false, None);
    loop {
        let challenge = match conversation.challenge(&tag)? {
            Ok(challenge) => challenge,
            Err(done) => {
                return match wrong {
                    Some(wrong) => Err(distrusted(conversation.place(), wrong)),
                    None => Ok(done),
                };
            }
        };
        if said_all {
            conversation.send(b"*\r\n")?;
            continue;
        }
        match talk.next(&challenge) {
            Ok(Some(step)) => conversation.send(line(&[&step, "\r\n"]).as_bytes())?,
            // XOAUTH2 explains itself before it refuses; SCRAM's last word is an empty line.
            Ok(None) if mechanism == Mechanism::Xoauth2 => {
                said_all = true;
                conversation.send(b"\r\n")?;
            }
            // So does OAUTHBEARER, and waits for a byte (RFC 7628, 3.2.3).
            Ok(None) if mechanism == Mechanism::OauthBearer => {
                said_all = true;
                conversation.send(b"AQ==\r\n")?;
            }
            Ok(None) | Err(Wrong::Refused) => {
                said_all = true;
                conversation.send(b"*\r\n")?;
            }
            Err(other) => {
                (said_all, wrong) = (true, Some(other));
                conversation.send(b"*\r\n")?;
            }
        }
    }
}
