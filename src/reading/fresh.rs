//! What has come into the mailboxes of a session is in its store before a list is made.

use std::thread;
use std::time::{Duration, Instant};

use sundown_client::{Code, Error, Resource, Session, within};

use crate::output;

/// How long a list waits for all mailboxes.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon a mailbox is asked again that another program has asked just now.
const AGAIN: Duration = Duration::from_millis(20);

/// Lets the mailboxes of the session look for what has come: a session that this command begins has not looked yet. What keeps one from it
/// is said, and the list is made all the same.
pub(crate) fn look(session: &Session) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    let rows = session.status_table()?.rows()?;
    for row in rows.into_iter().filter(|row| row.resource == Resource::Mailbox) {
        let validate = || session.validate_state(Resource::Mailbox, &row.name);
        if let Err(error) = looked(until, validate) {
            output::complain(&missing(&row.name, &error));
        }
    }
    Ok(())
}

/// Validates a mailbox, again where another program does so just now.
fn looked(until: Instant, validate: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match within(left, &validate) {
            Err(error) if error.code() == Code::E_BUSY && left > AGAIN => thread::sleep(AGAIN),
            done => return done,
        }
    }
}

/// What is said of a mailbox that has not looked.
fn missing(name: &str, error: &Error) -> String {
    match error.code() {
        Code::E_TIMEOUT | Code::E_BUSY => {
            format!("mailbox {name} is still being read; messages may be missing here")
        }
        _ => format!("mailbox {name}: {error}; messages may be missing here"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_mailbox_that_is_asked_by_another_program_is_asked_again() {
        let asked = Cell::new(0);
        let busy_twice = || {
            asked.set(asked.get() + 1);
            if asked.get() < 3 { Err(output::error(Code::E_BUSY, "busy")) } else { Ok(()) }
        };
        let until = Instant::now() + Duration::from_secs(60);
        looked(until, busy_twice).expect("looked");
        assert_eq!(asked.get(), 3);
        let busy = || Err(output::error(Code::E_BUSY, "busy"));
        assert_eq!(looked(Instant::now(), busy).expect_err("gave up").code(), Code::E_BUSY);
        let gone = || Err(output::error(Code::E_NOT_FOUND, "it is gone"));
        assert_eq!(looked(until, gone).expect_err("at once").code(), Code::E_NOT_FOUND);
    }

    #[test]
    fn what_may_be_missing_is_said() {
        let late = missing("home", &output::error(Code::E_TIMEOUT, "no answer"));
        assert_eq!(late, "mailbox home is still being read; messages may be missing here");
        let gone = missing("home", &output::error(Code::E_NOT_FOUND, "/m is not mounted"));
        assert_eq!(gone, "mailbox home: /m is not mounted; messages may be missing here");
    }
}
