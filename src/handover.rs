//! Handing one message over although the broker may be stopped, or crash, in front of it: the next one takes it, by the same key.

use std::time::{Duration, Instant};

use sundown_client::socket::{Credentials, connect_within};
use sundown_client::{Code, Error, Mapi, Message, Session, Submitted};

/// How long another broker is looked for, or started.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a broker may take to accept the connection that shows its process.
const LOOK: Duration = Duration::from_secs(1);

/// A library that is initialized, and a session.
pub(crate) type LoggedOn = (Mapi, Session);

/// The message without what only the server that delivers it may write (RFC 5321, 4.4).
pub(crate) fn without_trace(message: Message) -> Message {
    message.without_fields("Return-Path")
}

/// What to say if this process is the first of its container: the kernel ends the broker with it, and what is queued waits for another
/// one. `None` elsewhere, and for a broker outside, whose process this one does not see.
pub(crate) fn ends_with_this_process(mapi: &Mapi) -> Option<String> {
    if std::process::id() != 1 {
        return None;
    }
    let broker = connect_within(mapi.socket(), LOOK).ok()?;
    let inside = Credentials::of(&broker).is_ok_and(|broker| broker.pid.is_some());
    inside.then(|| {
        "this command is process 1 of a container, and the broker ends with it: nobody sends what is still queued. Run `sundown serve` \
         as process 1, or have `sundown send --wait` wait until the mail is sent"
            .to_owned()
    })
}

/// Submits a message that has a key; where the session has gone with its broker, over another one.
pub(crate) fn submit(
    logged_on: &mut LoggedOn,
    message: &Message,
    log_on: impl Fn() -> Result<LoggedOn, Error>,
) -> Result<Submitted, Error> {
    let until = Instant::now() + PATIENCE;
    let mut first = match logged_on.1.submit(message) {
        Ok(submitted) => return Ok(submitted),
        Err(error) => error,
    };
    while is_gone(&first) && Instant::now() < until {
        let next = log_on().and_then(|next| {
            *logged_on = next;
            logged_on.1.submit(message)
        });
        match next {
            Ok(submitted) => return Ok(submitted),
            // That nobody knows what became of the first one is not made up for by a refusal.
            Err(error) if !first.is_outcome_unknown() || error.is_outcome_unknown() => {
                first = error;
            }
            Err(error) if is_gone(&error) => {}
            Err(_) => return Err(first),
        }
    }
    Err(first)
}

/// Whether it is the broker that is gone, and not the message that is refused.
fn is_gone(error: &Error) -> bool {
    error.is_outcome_unknown()
        || error.is_disconnected()
        || error.is_end_of_session()
        || error.is_dead_handle()
}

/// Whether the message may be stored although the error says otherwise. With its key a repeat is harmless.
pub(crate) fn may_be_stored(error: &Error) -> bool {
    let codes = [Code::E_DISK_ERROR, Code::E_TIMEOUT, Code::E_CORRUPT_DATA];
    error.is_outcome_unknown() || codes.contains(&error.code())
}
