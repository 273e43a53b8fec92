//! Asks which names are those of users of this host, beside the loop: the directory that knows may take its time.
//!
//! One thread reads the list of accounts, and answers what that knows. A question with another name goes on in a thread of its own, so
//! that a directory that hangs delays no question about a listed user. How many such questions wait is limited where the directory is
//! asked.

use std::sync::Arc;
use std::{io, thread};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use sundown_core::local::Found;
use sundown_core::{Event, QuestionId};
use sundown_protocol::{Code, Fault};

use crate::settings::{Accounts, AccountsError, Unlisted};

type Question = (QuestionId, Vec<String>);

/// The thread, which is there once it is needed.
pub(crate) struct Users {
    asking: Option<Sender<Question>>,
    teller: Teller,
    answers: Receiver<Event>,
}

/// What the threads need to answer.
#[derive(Clone)]
struct Teller {
    accounts: Accounts,
    waker: Arc<Waker>,
    answers: Sender<Event>,
}

impl Users {
    pub(crate) fn new(accounts: Accounts, waker: Arc<Waker>) -> Self {
        let (sender, answers) = unbounded();
        Self { asking: None, teller: Teller { accounts, waker, answers: sender }, answers }
    }

    /// Asks, and wakes the loop when there is an answer. Where there can be no thread, that is the answer.
    pub(crate) fn find(&mut self, question: QuestionId, names: Vec<String>) -> Option<Event> {
        if self.asking.is_none() {
            match self.begin() {
                Ok(asking) => self.asking = Some(asking),
                Err(error) => return Some(answer(question, Err(no_thread(&error)))),
            }
        }
        if let Some(asking) = &self.asking {
            let _ = asking.send((question, names));
        }
        None
    }

    /// The next answer.
    pub(crate) fn found(&self) -> Option<Event> {
        self.answers.try_recv().ok()
    }

    fn begin(&self) -> io::Result<Sender<Question>> {
        let (asking, asked) = unbounded();
        let teller = self.teller.clone();
        let serve = move || asked.into_iter().for_each(|question| teller.serve(question));
        thread::Builder::new().name("users".into()).spawn(serve)?;
        Ok(asking)
    }
}

impl Teller {
    fn serve(&self, (question, names): Question) {
        let listed = Accounts { unlisted: Unlisted::Refused, ..self.accounts.clone() };
        let result = found(&listed, &names);
        if !matches!(result, Err(AccountsError::Unlisted)) {
            return self.tell(question, result.map_err(|why| unknown(&why)));
        }
        let beside = self.clone();
        let ask = move || {
            let result = found(&beside.accounts, &names);
            beside.tell(question, result.map_err(|why| unknown(&why)));
        };
        if let Err(error) = thread::Builder::new().name("users".into()).spawn(ask) {
            self.tell(question, Err(no_thread(&error)));
        }
    }

    fn tell(&self, question: QuestionId, result: Result<Found, Fault>) {
        if self.answers.send(answer(question, result)).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

/// The first name that cannot be looked up ends it: the next one would have to wait as long.
fn found(accounts: &Accounts, names: &[String]) -> Result<Found, AccountsError> {
    names.iter().map(|name| Ok((name.clone(), accounts.has_user(name)?))).collect()
}

/// Asks for a user from a provider's thread, which may wait for the answer.
pub(crate) fn find_now(name: &str) -> Result<bool, String> {
    Accounts::system().has_user(name).map_err(|why| why.to_string())
}

fn answer(question: QuestionId, result: Result<Found, Fault>) -> Event {
    Event::UsersFound { question, result }
}

fn unknown(why: &AccountsError) -> Fault {
    let message = format!("whether a recipient is a user of this host is not known: {why}");
    Fault::new(Code::E_BUSY, message)
}

fn no_thread(error: &io::Error) -> Fault {
    let message = format!("cannot start a thread to look users up: {error}");
    Fault::new(Code::E_NOT_ENOUGH_RESOURCES, message)
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;

    /// Waits for the loop's waker, as the loop does.
    fn next(poll: &mut Poll, users: &Users) -> (QuestionId, Result<Found, Fault>) {
        loop {
            if let Some(Event::UsersFound { question, result }) = users.found() {
                return (question, result);
            }
            poll.poll(&mut Events::with_capacity(1), None).expect("it is woken");
        }
    }

    #[test]
    fn a_provider_may_ask_and_wait() {
        assert_eq!(find_now("root"), Ok(true));
        assert_eq!(find_now("no-such-user"), Ok(false));
    }

    #[test]
    fn questions_are_answered_beside_the_loop() {
        let root = tempfile::tempdir().expect("a directory");
        let passwd = root.path().join("passwd");
        std::fs::write(&passwd, "anna:x:1000:1000\n").expect("written");
        let accounts = Accounts { passwd, ..Accounts::system() };
        let mut poll = Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let mut users = Users::new(accounts.clone(), Arc::clone(&waker));
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (n, asked) in [(1, names(&["anna"])), (2, names(&["anna", "no-such-user"]))] {
            assert!(users.find(QuestionId(n), asked).is_none());
            let (question, result) = next(&mut poll, &users);
            assert_eq!(question, QuestionId(n));
            let found = result.expect("it is known");
            assert!(found["anna"] && found.get("no-such-user") != Some(&true));
            assert_eq!(found.len() as u64, n);
        }
        // A list that cannot be read says nothing of anybody.
        let unreadable = Accounts { passwd: root.path().to_owned(), ..accounts };
        let mut users = Users::new(unreadable, waker);
        assert!(users.find(QuestionId(3), names(&["anna"])).is_none());
        let (question, result) = next(&mut poll, &users);
        assert_eq!((question, result.expect_err("unreadable").code), (QuestionId(3), Code::E_BUSY));
    }
}
