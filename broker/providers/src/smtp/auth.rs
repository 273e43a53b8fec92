//! Proving to a server who we are: PLAIN, LOGIN and XOAUTH2.
//!
//! What is made of a secret lives in memory that is overwritten, and a server that repeats it in its answer is not quoted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::transport::smtp::authentication::{DEFAULT_MECHANISMS, Mechanism};
use secrecy::{ExposeSecret, SecretString};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;
use zeroize::Zeroizing;

use super::answer::{Answer, Meaning};
use super::connection::{Connection, Trouble};
use super::secret::{Age, Keeper};
use super::settings::Login;
use crate::Result;

/// The longest command with its end. What is longer goes out in two steps (RFC 4954, 4).
const MAX_COMMAND: usize = 512;

/// Proves to the server that we are whom the profile says.
pub(super) fn log_on(connection: &mut Connection, login: &Login, keeper: &Keeper) -> Result<()> {
    let mechanism = choose(connection, login)?;
    let (secret, age) = keeper.get()?;
    let mut words = attempt(connection, mechanism, &login.username, &secret)?;
    if words.is_some() && age == Age::Kept {
        // A password was changed or a token has run out since it was fetched.
        keeper.forget();
        let (fresh, _) = keeper.get()?;
        if fresh.expose_secret() != secret.expose_secret() {
            words = attempt(connection, mechanism, &login.username, &fresh)?;
        }
    }
    let Some(words) = words else { return Ok(()) };
    keeper.refused();
    Err(not_logged_on(connection.place(), &format!("{}: {words}", login.username)))
}

/// A server wants somebody else, or a better proof.
pub(super) fn not_logged_on(place: &str, words: &str) -> ProviderError {
    let text = format!("{place} does not log on {words}");
    ProviderError::new(Code::E_LOGON_FAILED, text)
}

fn choose(connection: &Connection, login: &Login) -> Result<Mechanism> {
    let place = connection.place();
    let found = match &login.mechanism {
        Some(one) => connection.offer.mechanism(std::slice::from_ref(one)),
        None => connection.offer.mechanism(DEFAULT_MECHANISMS),
    };
    found.ok_or_else(|| {
        let text = match login.mechanism {
            Some(one) => format!("{place} does not offer AUTH {one}; change auth"),
            None if connection.offer.has("AUTH") => {
                format!("{place} offers neither AUTH PLAIN nor LOGIN; auth may name XOAUTH2")
            }
            None => {
                format!("{place} does not log anybody on; leave username out, or check the port")
            }
        };
        ProviderError::new(Code::E_NO_SUPPORT, text)
    })
}

/// Tries once; gives back the server's words if it refused.
fn attempt(
    connection: &mut Connection,
    mechanism: Mechanism,
    username: &str,
    secret: &SecretString,
) -> Result<Option<String>> {
    tracing::debug!(server = connection.place(), mechanism = %mechanism, "AUTH");
    let steps = steps(mechanism, username, secret.expose_secret());
    let done = converse(connection, mechanism, &steps).map_err(Trouble::into_error)?;
    let words = quotable(&done, &steps, secret);
    tracing::debug!(server = connection.place(), answer = words);
    match done.meaning() {
        Meaning::Done => Ok(None),
        Meaning::Never => Ok(Some(words)),
        Meaning::Later | Meaning::GoOn => {
            let text = format!("{} does not log on now: {words}", connection.place());
            Err(ProviderError::new(Code::E_CALL_FAILED, text))
        }
    }
}

type Step = Zeroizing<String>;

/// What is said one after the other, as it goes over the wire.
fn steps(mechanism: Mechanism, username: &str, secret: &str) -> Vec<Step> {
    match mechanism {
        Mechanism::Plain => vec![encoded(&["\0", username, "\0", secret])],
        Mechanism::Login => vec![encoded(&[username]), encoded(&[secret])],
        Mechanism::Xoauth2 => {
            vec![encoded(&["user=", username, "\x01auth=Bearer ", secret, "\x01\x01"])]
        }
    }
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

fn converse(
    connection: &mut Connection,
    mechanism: Mechanism,
    steps: &[Step],
) -> std::result::Result<Answer, Trouble> {
    let name = mechanism.to_string();
    let mut rest = steps;
    let mut first = line(&["AUTH ", &name, "\r\n"]);
    if mechanism.supports_initial_response() {
        let whole = line(&["AUTH ", &name, " ", &steps[0], "\r\n"]);
        if whole.len() <= MAX_COMMAND {
            (first, rest) = (whole, &steps[1..]);
        }
    }
    let mut answer = said(connection, &first)?;
    while answer.meaning() == Meaning::GoOn {
        let Some((step, behind)) = rest.split_first() else {
            // XOAUTH2 explains itself before it refuses; others have asked for something that there is not.
            let end = if mechanism == Mechanism::Xoauth2 { "\r\n" } else { "*\r\n" };
            return said(connection, end);
        };
        rest = behind;
        answer = said(connection, &line(&[step, "\r\n"]))?;
    }
    Ok(answer)
}

fn said(connection: &mut Connection, line: &str) -> std::result::Result<Answer, Trouble> {
    connection.send(line.as_bytes())?;
    connection.unlogged_answer(connection.timeout())
}

/// The words of an answer, unless it repeats what it was not meant to.
fn quotable(answer: &Answer, steps: &[Step], secret: &SecretString) -> String {
    let raw = answer.lines().collect::<Vec<_>>().join("");
    // The last step is the one with the secret in it.
    let hidden = steps.last().map(|step| step.as_str()).into_iter().chain([secret.expose_secret()]);
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
            let steps = steps(mechanism, "me", "secret");
            steps.iter().map(|step| step.as_str().to_owned()).collect::<Vec<_>>()
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
        let steps = steps(Mechanism::Plain, "me", "hunter2");
        for (said, shown) in [("hunter2 is wrong", false), ("no", true), (steps[0].as_str(), false)]
        {
            let mut inbox = Inbox::default();
            inbox.feed(format!("501 {said}\r\n").as_bytes());
            let answer = inbox.next().expect("SMTP").expect("an answer");
            let words = quotable(&answer, &steps, &secret);
            assert_eq!(words.contains(said), shown, "{words}");
        }
    }
}
