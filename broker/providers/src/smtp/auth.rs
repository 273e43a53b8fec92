//! Proving to a server who we are.
//!
//! A server may offer a way to log on and not take it. Then the next one is tried; a password that was refused is not tried again.
//!
//! What is made of a secret lives in memory that is overwritten, and a server that repeats it in its answer is not quoted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;
use zeroize::Zeroizing;

use super::answer::{Answer, Meaning};
use super::connection::{Connection, Trouble};
use super::mechanism::{Mechanism, NOT_SO, TRANSITION};
use super::scram::{Hash, Scram, Wrong};
use super::secret::{Age, Keeper};
use super::settings::Login;
use crate::Result;

/// The longest command with its end. What is longer goes out in two steps (RFC 4954, 4).
const MAX_COMMAND: usize = 512;

/// Proves to the server that we are whom the profile says.
pub(super) fn log_on(connection: &mut Connection, login: &Login, keeper: &Keeper) -> Result<()> {
    let mut left = choose(connection, login)?;
    let mut told = String::new();
    while !left.is_empty() {
        let mechanism = left.remove(0);
        match with_any_age(connection, mechanism, login, keeper)? {
            Tried::LoggedOn => return Ok(()),
            Tried::Refused(code, words) => {
                left.retain(|next| next.may_follow(mechanism, code));
                if left.is_empty() && code != NOT_SO {
                    keeper.refused();
                    let words = format!("{}: {words}", login.username);
                    return Err(not_logged_on(connection.place(), &words));
                }
                told = format!("{}: {words}", mechanism.name());
            }
        }
    }
    let text = format!("{} does not take AUTH {told}; change auth", connection.place());
    Err(ProviderError::new(Code::E_NO_SUPPORT, text))
}

/// A password was changed or a token has run out since it was fetched.
fn with_any_age(
    connection: &mut Connection,
    mechanism: Mechanism,
    login: &Login,
    keeper: &Keeper,
) -> Result<Tried> {
    let (secret, age) = keeper.get()?;
    let tried = attempt(connection, mechanism, &login.username, &secret)?;
    if matches!(tried, Tried::Refused(code, _) if code != NOT_SO) && age == Age::Kept {
        keeper.forget();
        let (fresh, _) = keeper.get()?;
        if fresh.expose_secret() != secret.expose_secret() {
            return attempt(connection, mechanism, &login.username, &fresh);
        }
    }
    Ok(tried)
}

/// A server wants somebody else, or a better proof.
pub(super) fn not_logged_on(place: &str, words: &str) -> ProviderError {
    let text = format!("{place} does not log on {words}");
    ProviderError::new(Code::E_LOGON_FAILED, text)
}

/// What may be tried, in this order. Of what the profile names there is nothing else.
fn choose(connection: &Connection, login: &Login) -> Result<Vec<Mechanism>> {
    let place = connection.place();
    let wanted = login.mechanism.as_ref().map_or(&Mechanism::DEFAULT[..], std::slice::from_ref);
    let offered = wanted.iter().copied().filter(|one| connection.offer.has_mechanism(*one));
    let found: Vec<_> = offered.collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let text = match login.mechanism {
        Some(one) => format!("{place} does not offer AUTH {}; change auth", one.name()),
        None if connection.offer.has("AUTH") => {
            format!("{place} offers neither AUTH PLAIN nor LOGIN nor SCRAM; auth may name XOAUTH2")
        }
        None => format!("{place} does not log anybody on; leave username out, or check the port"),
    };
    Err(ProviderError::new(Code::E_NO_SUPPORT, text))
}

/// What came of one try.
enum Tried {
    /// The server takes us for whom we say.
    LoggedOn,
    /// It does not, by this code and in its words.
    Refused(u16, String),
}

/// Tries once.
fn attempt(
    connection: &mut Connection,
    mechanism: Mechanism,
    username: &str,
    secret: &SecretString,
) -> Result<Tried> {
    tracing::debug!(server = connection.place(), mechanism = mechanism.name(), "AUTH");
    let mut talk = Talk::new(mechanism, username, secret.expose_secret());
    let done = converse(connection, mechanism, &mut talk)?;
    let words = quotable(&done, &talk, secret);
    tracing::debug!(server = connection.place(), answer = words);
    match done.meaning() {
        Meaning::Done if talk.is_believed() => Ok(Tried::LoggedOn),
        Meaning::Done => Err(distrusted(connection.place(), Wrong::Proof)),
        Meaning::Never => Ok(Tried::Refused(done.code(), words)),
        _ if done.code() == TRANSITION => Ok(Tried::Refused(TRANSITION, words)),
        Meaning::Later | Meaning::GoOn => {
            let text = format!("{} does not log on now: {words}", connection.place());
            Err(ProviderError::new(Code::E_CALL_FAILED, text))
        }
    }
}

type Step = Zeroizing<String>;

/// What is said one after the other, as it goes over the wire.
enum Talk {
    /// Known before.
    Steps(Vec<Step>, usize),
    /// By what the server says.
    Scram(Box<Scram>),
}

impl Talk {
    fn new(mechanism: Mechanism, username: &str, secret: &str) -> Self {
        let scram = |hash| Self::Scram(Box::new(Scram::new(hash, username, secret)));
        let steps = match mechanism {
            Mechanism::Plain => vec![encoded(&["\0", username, "\0", secret])],
            Mechanism::Login => vec![encoded(&[username]), encoded(&[secret])],
            Mechanism::Xoauth2 => {
                vec![encoded(&["user=", username, "\x01auth=Bearer ", secret, "\x01\x01"])]
            }
            Mechanism::ScramSha256 => return scram(Hash::Sha256),
            Mechanism::ScramSha1 => return scram(Hash::Sha1),
        };
        Self::Steps(steps, 0)
    }

    /// What follows this answer; nothing, if there is no more to say.
    fn next(&mut self, said: &str) -> std::result::Result<Option<Step>, Wrong> {
        match self {
            Self::Steps(steps, next) => {
                *next += 1;
                Ok(steps.get(*next - 1).cloned())
            }
            Self::Scram(scram) => {
                let said = STANDARD.decode(said.trim()).map_err(|_| Wrong::NotScram)?;
                let said = String::from_utf8(said).map_err(|_| Wrong::NotScram)?;
                Ok(Some(encoded(&[&scram.next(&said)?])))
            }
        }
    }

    /// Whether the server may be believed that it knows us.
    fn is_believed(&self) -> bool {
        match self {
            Self::Steps(..) => true,
            Self::Scram(scram) => scram.is_verified(),
        }
    }

    /// The step with the secret in it, which is the last one.
    fn secret(&self) -> Option<&str> {
        match self {
            Self::Steps(steps, _) => steps.last().map(|step| step.as_str()),
            Self::Scram(_) => None,
        }
    }
}

fn distrusted(place: &str, wrong: Wrong) -> ProviderError {
    let (code, words) = match wrong {
        Wrong::Proof => (
            Code::E_NO_ACCESS,
            "says that it logs on, and does not know the password: it may be another server",
        ),
        Wrong::NotScram => (Code::E_CALL_FAILED, "does not speak SCRAM as it is written"),
        Wrong::Iterations => (
            Code::E_NO_ACCESS,
            "asks for a proof that is too easy to guess from, or that takes too long",
        ),
        Wrong::Refused => (Code::E_LOGON_FAILED, "refuses the proof of the password"),
    };
    ProviderError::new(code, format!("{place} {words}"))
}

/// Buffers that are large enough from the start leave no copies behind.
fn encoded(parts: &[&str]) -> Step {
    let mut bytes = Zeroizing::new(Vec::with_capacity(parts.iter().map(|p| p.len()).sum()));
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    STANDARD.encode_string(&*bytes, &mut text);
    text
}

fn line(parts: &[&str]) -> Step {
    let mut line = Zeroizing::new(String::with_capacity(parts.iter().map(|p| p.len()).sum()));
    line.extend(parts.iter().copied());
    line
}

fn converse(connection: &mut Connection, mechanism: Mechanism, talk: &mut Talk) -> Result<Answer> {
    let mut answer = begin(connection, mechanism, talk)?;
    let mut said_all = false;
    while answer.meaning() == Meaning::GoOn {
        if said_all {
            let text = format!("{} asks for more than AUTH has", connection.place());
            return Err(ProviderError::new(Code::E_CALL_FAILED, text));
        }
        let challenge = answer.lines().collect::<String>();
        let next = talk.next(&challenge);
        said_all = !matches!(next, Ok(Some(_)));
        let (line, wrong) = match next {
            Ok(Some(step)) => (line(&[&step, "\r\n"]), None),
            // XOAUTH2 explains itself before it refuses; others have asked for something that there is not.
            Ok(None) if mechanism == Mechanism::Xoauth2 => (line(&["\r\n"]), None),
            Ok(None) => (line(&["*\r\n"]), None),
            Err(wrong) => (line(&["*\r\n"]), Some(wrong)),
        };
        answer = said(connection, &line).map_err(Trouble::into_error)?;
        match wrong {
            // The server's words about it follow.
            None | Some(Wrong::Refused) => {}
            Some(wrong) => return Err(distrusted(connection.place(), wrong)),
        }
    }
    Ok(answer)
}

/// The command, with the first step in it where that is allowed and short enough.
fn begin(connection: &mut Connection, mechanism: Mechanism, talk: &mut Talk) -> Result<Answer> {
    let name = mechanism.name();
    let bare = line(&["AUTH ", name, "\r\n"]);
    let first = match mechanism {
        Mechanism::Login => None,
        _ => talk.next("").ok().flatten(),
    };
    let whole = first.as_ref().map(|first| line(&["AUTH ", name, " ", first, "\r\n"]));
    let answer = match (whole, first) {
        (Some(whole), _) if whole.len() <= MAX_COMMAND => said(connection, &whole),
        (_, Some(first)) => said(connection, &bare).and_then(|answer| match answer.meaning() {
            Meaning::GoOn => said(connection, &line(&[&first, "\r\n"])),
            _ => Ok(answer),
        }),
        (_, None) => said(connection, &bare),
    };
    answer.map_err(Trouble::into_error)
}

fn said(connection: &mut Connection, line: &str) -> std::result::Result<Answer, Trouble> {
    connection.send(line.as_bytes())?;
    connection.unlogged_answer(connection.timeout())
}

/// The words of an answer, unless it repeats what it was not meant to.
fn quotable(answer: &Answer, talk: &Talk, secret: &SecretString) -> String {
    let raw = answer.lines().collect::<Vec<_>>().join("");
    let hidden = talk.secret().into_iter().chain([secret.expose_secret()]);
    if hidden.into_iter().any(|text| raw.contains(text)) {
        return format!("{} (its words are not shown: the password is among them)", answer.code());
    }
    answer.words()
}

#[cfg(test)]
mod tests {
    use super::super::answer::Inbox;
    use super::*;

    #[test]
    fn what_goes_over_the_wire() {
        let say = |mechanism| {
            let mut talk = Talk::new(mechanism, "me", "secret");
            let steps = std::iter::from_fn(|| talk.next("").expect("a step"));
            steps.map(|step| step.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(say(Mechanism::Plain), ["AG1lAHNlY3JldA=="]);
        assert_eq!(say(Mechanism::Login), ["bWU=", "c2VjcmV0"]);
        let wanted = STANDARD.encode("user=me\x01auth=Bearer secret\x01\x01");
        assert_eq!(say(Mechanism::Xoauth2), [wanted]);
    }

    #[test]
    fn buffers_do_not_grow() {
        for length in 0..100 {
            let step = encoded(&["x".repeat(length).as_str()]);
            assert!(step.len() <= length.div_ceil(3) * 4);
        }
    }

    #[test]
    fn a_server_that_repeats_the_secret_is_not_quoted() {
        let secret = SecretString::from("hunter2");
        let talk = Talk::new(Mechanism::Plain, "me", "hunter2");
        for (said, shown) in
            [("hunter2 is wrong", false), ("no", true), ("AG1lAGh1bnRlcjI=", false)]
        {
            let mut inbox = Inbox::default();
            inbox.feed(format!("501 {said}\r\n").as_bytes());
            let answer = inbox.next().expect("SMTP").expect("an answer");
            let words = quotable(&answer, &talk, &secret);
            assert_eq!(words.contains(said), shown, "{words}");
        }
    }
}
