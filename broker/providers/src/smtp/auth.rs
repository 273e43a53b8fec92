//! Proving to a server who we are.
//!
//! A server may offer a way to log on and not take it. Then the next one is tried; a password that was refused is not tried again.
//!
//! What is made of a secret lives in memory that is overwritten, and a server that repeats it in its answer is not quoted.

use secrecy::{ExposeSecret, SecretString};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::answer::{Answer, Meaning};
use super::connection::Connection;
use crate::Result;
use crate::network::keys::Login;
use crate::network::mechanism::Mechanism;
use crate::network::sasl::{Talk, distrusted, line};
use crate::network::scram::Wrong;
use crate::network::secret::{Age, Keeper};
use crate::network::trouble::Trouble;

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
                left.retain(|next| may_follow(*next, mechanism, code));
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
    if talk.is_repeated_in(&raw, secret) {
        return format!("{} (its words are not shown: the password is among them)", answer.code());
    }
    answer.words()
}

/// Whether a mechanism may be tried when a server has refused the one before by this code, which is about the mechanism and not about the
/// password.
fn may_follow(next: Mechanism, before: Mechanism, code: u16) -> bool {
    match code {
        NOT_SO => true,
        // The one before is too weak, or may not be said so: only a stronger one is better.
        534 | 538 => next.is_scram() && !before.is_scram(),
        // The server must see the password once, to keep it in another form.
        TRANSITION => !next.is_scram(),
        _ => false,
    }
}

/// An answer that does not take the mechanism (RFC 4954, 4).
const NOT_SO: u16 = 504;

/// An answer that wants the password in the open once, which is for a person or another mechanism, and not for later (RFC 4954, 6).
const TRANSITION: u16 = 432;

#[cfg(test)]
mod tests {
    use super::super::answer::Inbox;
    use super::*;

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
