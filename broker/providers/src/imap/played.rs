//! An account without a network and without a thread of its own: for the fuzzer.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use sundown_core::provider::{MirrorChange, ProviderSpec};

use super::account::{Account, Carried};
use super::conversation::{Conversation, failed};
use super::settings::Settings;
use crate::mailbox::{Book, Halt, Leave, Waker};
use crate::network::wire::{Socket, Stream, Wire};
use crate::{MailboxSupport, Result};

/// Does at the other end of a socket what a mailbox does behind its logon: looks at everything, waits for a moment, and looks again.
///
/// # Errors
///
/// Fails when the server breaks off.
#[doc(hidden)]
pub fn play(
    spec: &ProviderSpec,
    socket: UnixStream,
    support: &Arc<dyn MailboxSupport>,
) -> Result<()> {
    let settings = Settings::of(spec)?;
    let stream = Stream::Plain(Wire::new(Socket::Unix(socket)));
    let mut talk = Conversation::new(stream, settings.place(), settings.timeout);
    talk.learn()?;
    let book = Book::open(support, 1, &settings.account(), Leave::of(&Arc::default()))?;
    work(&settings, talk, book).map_err(failed)
}

fn work(settings: &Settings, talk: Conversation, book: Book) -> std::result::Result<(), Halt> {
    let carried = Carried::default();
    let mut account = Account::begin(settings, talk, book, &carried)?;
    let waker = Waker::new().map_err(|error| Halt::at("the waker".as_ref(), &error))?;
    for everything in [true, false] {
        account.hear();
        account.survey(everything)?;
        account.carry_out()?;
        account.look_around()?;
        account.book.say(MirrorChange::Passed)?;
        account.book.write()?;
        while !account.is_current() || account.work()? {
            account.look_around()?;
        }
        account.wait(&waker, Duration::ZERO)?;
    }
    Ok(())
}
