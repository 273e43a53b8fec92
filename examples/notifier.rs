//! Tells of each new mail, once: prints it, or runs a command for it.
//!
//! ```text
//! notifier [--profile NAME] [COMMAND [ARGUMENT…]]
//! ```
//!
//! The command has `SUNDOWN_FROM`, `SUNDOWN_SUBJECT` and `SUNDOWN_ENTRY` in its environment. The sender of the mail chose the first two.
//!
//! The sink hands each notice to `main` through a bounded channel, and waits while the channel is full. So while a command hangs, the
//! library counts the notices that have no room, and then says how many were missed. After that, and after the broker was away, some mail
//! was not told of. The notifier finds it in the newest rows of the Inbox, and remembers its entries so that it tells of none twice.
//! What a program copied into the Inbox meanwhile counts as new mail then.

#[allow(dead_code)] // the other examples use the rest
mod support;

use std::collections::HashSet;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{SystemTime, UNIX_EPOCH};

use sundown_client::{
    ContentsRow, EndReason, EntryId, Event, Events, FolderKind, Logon, Mapi, News, Options, Session,
};
use support::{Failure, at_signal, ended, seen};

/// How many entries are remembered at least.
const REMEMBERED: usize = 10_000;
/// How much older than the newest row a message may be that comes into the Inbox after it, in milliseconds.
const OVERTAKEN: u64 = 600_000;

enum Happened {
    News(News),
    Signal,
}

struct Notifier {
    logon: Logon,
    command: Vec<String>,
    /// Mail that came before is not new; in milliseconds since 1970.
    since: u64,
    told: HashSet<EntryId>,
    /// How many entries are remembered before the old ones are forgotten.
    room: usize,
}

fn main() -> ExitCode {
    let usage = "notifier [--profile NAME] [COMMAND [ARGUMENT…]]";
    support::run("notifier", usage, |logon, command| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        let mut notifier =
            Notifier { logon, command, since, told: HashSet::new(), room: REMEMBERED };
        let (sender, happened) = mpsc::sync_channel(64);
        let by_signal = sender.clone();
        at_signal(move || drop(by_signal.send(Happened::Signal)))?;
        loop {
            match notifier.watch(&sender, &happened)? {
                None => return Ok(()),
                // The library has looked for the broker for half a minute. Another initialization starts one.
                Some(EndReason::BrokerLost) => {
                    eprintln!("notifier: the broker is lost; looking for another");
                }
                Some(reason) => return ended(reason),
            }
        }
    })
}

impl Notifier {
    /// Tells of new mail until the session ends, and returns why; `None` after a signal.
    fn watch(
        &mut self,
        sender: &SyncSender<Happened>,
        happened: &Receiver<Happened>,
    ) -> Result<Option<EndReason>, Failure> {
        let (mapi, session) =
            Mapi::initialize_and_logon(Options::new("notifier"), self.logon.clone())?;
        let sender = sender.clone();
        let _sink = session.advise(Events::NEW_MAIL, move |notice| {
            let _ = sender.send(Happened::News(notice.news.clone()));
        })?;
        // After the registration: mail that comes before this look is found by it, and later mail is told.
        self.look(&session)?;
        for happened in happened {
            match happened {
                Happened::News(News::Broker(Event::Arrived(mail))) => {
                    if self.told.insert(mail.place.entry) {
                        self.tell(mail.place.entry, &mail.from, &mail.subject)?;
                    }
                    if self.told.len() > self.room {
                        self.look(&session)?;
                    }
                }
                Happened::News(News::Broker(Event::Lagged { missed })) => {
                    eprintln!("notifier: {missed} notifications were missed; looking for the mail");
                    self.look(&session)?;
                }
                Happened::News(News::Reconnected { .. }) => self.look(&session)?,
                Happened::News(News::Broker(Event::CriticalError { reason, .. })) => {
                    // The library logs off by itself, because the sink has returned.
                    mapi.uninitialize()?;
                    return Ok(Some(reason));
                }
                Happened::News(_) => {}
                Happened::Signal => break,
            }
        }
        // Makes room in the channel, for which the sink may wait.
        while happened.try_recv().is_ok() {}
        mapi.shut_down()?;
        Ok(None)
    }

    /// Tells of mail in the Inbox that was not told of, the oldest first. Forgets what is too old to be found again.
    fn look(&mut self, session: &Session) -> Result<(), Failure> {
        let (mut recent, mut untold, mut newest) = (HashSet::new(), Vec::new(), self.since);
        let inbox = session.folder(FolderKind::INBOX).map(|inbox| inbox.contents());
        let read = inbox.and_then(|rows| {
            for row in rows {
                let ContentsRow { entry, from, subject, received, .. } = row?;
                if received < self.since {
                    break;
                }
                newest = newest.max(received);
                if recent.insert(entry) && !self.told.contains(&entry) {
                    untold.push((entry, from, subject));
                }
            }
            Ok(())
        });
        match read {
            Err(error) if support::is_end(&error) => return Ok(()), // what becomes of it is the next that happens
            read => read?,
        }
        for (entry, from, subject) in untold.iter().rev() {
            self.tell(*entry, from, subject)?;
        }
        self.room = REMEMBERED.max(2 * recent.len());
        if self.told.len() > self.room {
            self.told.clear();
        }
        self.told.extend(recent);
        self.since = self.since.max(newest.saturating_sub(OVERTAKEN));
        Ok(())
    }

    fn tell(&self, entry: EntryId, from: &str, subject: &str) -> io::Result<()> {
        let Some((program, arguments)) = self.command.split_first() else {
            return writeln!(io::stdout(), "{entry} {}: {}", seen(from), seen(subject));
        };
        let mut command = Command::new(program);
        command.args(arguments).env("SUNDOWN_ENTRY", entry.to_string());
        // A variable cannot have a NUL.
        command.env("SUNDOWN_FROM", from.replace('\0', ""));
        command.env("SUNDOWN_SUBJECT", subject.replace('\0', ""));
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => eprintln!("notifier: {program}, called for {entry}, ended with {status}"),
            Err(error) => eprintln!("notifier: cannot start {program} for {entry}: {error}"),
        }
        Ok(())
    }
}
