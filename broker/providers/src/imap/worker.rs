//! The thread of an account: it stays connected while somebody is there, and tries again later what fails.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sundown_core::provider::{MailboxReport, MirrorChange, ProviderError, Syncing};
use sundown_protocol::Code;

use super::account::{Account, Carried};
use super::copies::{Copies, WORTH};
use super::logon::Dialer;
use super::notify::Told;
use super::settings::Settings;
use crate::MailboxSupport;
use crate::mailbox::{
    Answered, Book, Halt, Leave, Order, Orders, Waiting, Waker, Work, answer, answer_with,
    milliseconds, now,
};

/// How soon an account is tried again that cannot be reached, first; each time it is twice as long.
const RETRY: Duration = Duration::from_secs(5);

/// The longest time between two tries.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// How soon a logon is tried again that was refused, first; each time it is twice as long. Servers lock accounts of those who try often.
const RETRY_LOGON: Duration = Duration::from_secs(60);

/// The longest time between two tries of a logon.
const LONGEST_RETRY_LOGON: Duration = Duration::from_secs(3600);

/// How soon changes are tried again that could not be carried out.
const RETRY_CHANGES: Duration = Duration::from_secs(60);

/// How often it is said how far a mailbox is that is at work.
const REPORT: Duration = Duration::from_secs(1);

/// How soon changes are carried out that were found to be pending.
const RETRY_SOON: Duration = Duration::from_secs(2);

/// How often the folders that the server does not tell of are looked at from outside; and the longest that it is listened to at once.
const SURVEY: Duration = Duration::from_secs(60);

/// How soon the folders are looked at from outside again when the server tells of other folders.
const SURVEY_SOON: Duration = Duration::from_secs(5);

/// How often folders are looked at whose changes cannot be seen from outside.
const SLOW_SURVEY: Duration = Duration::from_secs(15 * 60);

impl Work for Settings {
    const THREAD: &'static str = "imap";

    fn work(self, support: Arc<dyn MailboxSupport>, orders: Arc<Orders>) {
        let dialer = Dialer::new(self);
        Worker { dialer, support, orders, said: None, reported: MailboxReport::default() }.run();
    }
}

/// Tries, on the calling thread, whether the account can be used.
pub(super) fn try_out(
    settings: Settings,
    connected: impl FnOnce(OwnedFd),
) -> Result<(), ProviderError> {
    let dialer = Dialer::new(settings);
    let mut talk = dialer.dial(connected)?;
    talk.run("LIST \"\" \"INBOX\"")?.expect(&dialer.settings.place(), "a list of the folders")?;
    Ok(())
}

struct Worker {
    dialer: Dialer,
    support: Arc<dyn MailboxSupport>,
    orders: Arc<Orders>,
    said: Option<Result<(), ProviderError>>,
    reported: MailboxReport,
}

/// The changes that are carried out at a server. A server may end the connection at one of them each time: then all changes wait for a
/// while, and new mail does not wait for them.
#[derive(Default)]
struct Changes {
    /// They are being carried out.
    begun: bool,
    /// How many connections in a row were lost by that.
    broken: u32,
    /// Until then they wait.
    until: Option<Instant>,
}

impl Changes {
    /// The connection was lost.
    fn are_cut_off(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.broken += 1;
            // One time may be chance.
            let doubled =
                self.broken.checked_sub(2).map(|times| RETRY_CHANGES * (1 << times.min(5)));
            self.until = doubled.map(|time| Instant::now() + time);
        }
    }

    /// How long they still wait.
    fn wait(&self) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

impl Worker {
    /// Works until the account is logged off.
    fn run(mut self) {
        while let Some(order) = self.orders.next() {
            match order {
                Order::Watch(store, leave) => self.watch(store, &leave),
                // It is carried out as soon as somebody is there again: a connection for this alone would keep who leaves.
                Order::CarryOut(_, _, mut changed) => answer(&mut changed, &Ok(())),
                Order::Look(leave, mut looks) => {
                    self.dialer.forget();
                    let settings = self.dialer.settings.clone();
                    let tried =
                        try_out(settings, |socket| self.orders.connected(Some(socket), &leave));
                    self.orders.connected(None, &leave);
                    answer(&mut looks, &tried);
                }
            }
        }
    }

    /// Stays connected until the account is to rest.
    fn watch(&mut self, store: u32, leave: &Leave) {
        let mut held = Waiting::default();
        let copies = Copies::below(self.dialer.settings.take_over.clone(), WORTH);
        let carried = Carried { copies: RefCell::new(copies), ..Carried::default() };
        let mut changes = Changes::default();
        let (mut retry, mut retry_logon) = (RETRY, RETRY_LOGON);
        while leave.go_on().is_ok() {
            let begun = Instant::now();
            let halt = match self.attempt((store, leave), (&mut held, &mut changes), &carried) {
                Ok(never) => match never {},
                Err(halt) => halt,
            };
            self.orders.connected(None, leave);
            self.orders.wake_by(None);
            let error = match halt {
                Halt::Failed(error) | Halt::Refused(error) => error,
                Halt::Told | Halt::Lost(_) => break,
            };
            if leave.go_on().is_err() {
                break;
            }
            changes.are_cut_off();
            self.orders.take_waiting(&mut held);
            self.report_without_connection((store, leave));
            self.say(Err(error.clone()));
            held.answer(&Err(error.clone()));
            // A connection that lasted was not the trouble.
            if begun.elapsed() > 2 * LONGEST_RETRY {
                retry = RETRY;
            }
            let time = if error.code == Code::E_LOGON_FAILED {
                let time = retry_logon;
                retry_logon = (retry_logon * 2).min(LONGEST_RETRY_LOGON);
                time
            } else {
                retry_logon = RETRY_LOGON;
                let time = retry;
                retry = (retry * 2).min(LONGEST_RETRY);
                time
            };
            self.pause(spread(time), (store, leave), &error, &mut held);
        }
        self.support.report(MailboxReport::default());
        self.orders.put_back(held);
    }

    /// Waits for the time of another try. Somebody who wants a look has it at once; a change waits, and is told why.
    fn pause(
        &mut self,
        time: Duration,
        (store, leave): (u32, &Leave),
        error: &ProviderError,
        held: &mut Waiting,
    ) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || leave.go_on().is_err() {
                return;
            }
            self.orders.pause(left, leave);
            self.orders.take_waiting(held);
            if !held.looks.is_empty() {
                self.dialer.forget();
                return;
            }
            if !held.changed.is_empty() {
                self.report_without_connection((store, leave));
            }
            answer(&mut held.changed, &Err(error.clone()));
            held.answer_fetches(&Err(error.clone()));
        }
    }

    /// Says how many changes the account does not have yet, which more may be without a connection; and what it was when there was one.
    fn report_without_connection(&mut self, (store, leave): (u32, &Leave)) {
        let name = self.dialer.settings.account();
        let book = Book::open(&self.support, store, &name, leave.clone());
        if let Ok(tally) = book.and_then(|mut book| book.tally()) {
            self.reported.pending = tally.pending;
        }
        let MailboxReport { pending, changed, checked, .. } = self.reported;
        self.support.report(MailboxReport {
            pending,
            changed,
            checked,
            ..MailboxReport::default()
        });
    }

    /// Says how far the account is; and how many changes it does not have yet.
    fn report(&mut self, account: &mut Account<'_>, checked: Option<u64>) -> Result<u64, Halt> {
        let tally = account.book.tally()?;
        let total = account.messages();
        // A message without its bytes is half here.
        let done = total.saturating_sub(account.untaken()? + tally.fetches.div_ceil(2));
        let syncing = (account.is_behind()? && done < total).then_some(Syncing { done, total });
        let (pending, changed) = (tally.pending, account.book.changed.map(milliseconds));
        let report = MailboxReport { connections: 1, pending, syncing, checked, changed };
        self.support.report(report);
        self.reported = report;
        Ok(pending)
    }

    fn say(&mut self, now: Result<(), ProviderError>) {
        if self.said.as_ref() != Some(&now) {
            self.support.say(now.clone());
            self.said = Some(now);
        }
    }

    fn attempt(
        &mut self,
        (store, leave): (u32, &Leave),
        (held, changes): (&mut Waiting, &mut Changes),
        carried: &Carried,
    ) -> Result<std::convert::Infallible, Halt> {
        let waker = Waker::new().map_err(|error| failed(&error))?;
        let talk = self.dialer.dial(|socket| self.orders.connected(Some(socket), leave))?;
        self.orders.wake_by(Some(waker.clone()));
        let name = self.dialer.settings.account();
        let book = Book::open(&self.support, store, &name, leave.clone())?;
        let settings = self.dialer.settings.clone();
        let mut account = Account::begin(&settings, talk, book, carried)?;
        let (mut surveyed, mut looked) = (None::<Instant>, None::<Instant>);
        let mut retry = None::<Instant>;
        let (mut passed, mut checked, mut reported) = (false, None, None);
        loop {
            leave.go_on()?;
            self.orders.take_waiting(held);
            let is_look = !held.looks.is_empty() || !passed;
            let is_slow = is_look || looked.is_none_or(|at| at.elapsed() >= SLOW_SURVEY);
            let soon = account.has_other_folders();
            let every = match account.is_told {
                _ if soon => SURVEY_SOON,
                Told::Open | Told::Own => SURVEY,
                Told::All => SLOW_SURVEY,
            };
            if is_slow || surveyed.is_none_or(|at| at.elapsed() >= every) {
                account.survey(is_slow)?;
                if is_look {
                    account.pass_over_unchanged()?;
                }
                surveyed = Some(Instant::now());
                looked = if is_slow { surveyed } else { looked };
            }
            let is_due = retry.is_some_and(|at| Instant::now() >= at);
            let wait = changes.wait();
            if let Some(wait) = wait {
                let text =
                    "the connection was lost while a change was made; it is tried again later";
                answer(&mut held.changed, &Err(ProviderError::new(Code::E_NETWORK_ERROR, text)));
                retry = Some(Instant::now() + wait);
            } else if is_look || is_due || !held.changed.is_empty() {
                changes.begun = true;
                let failed = account.carry_out()?;
                *changes = Changes::default();
                retry = failed.as_ref().map(|_| Instant::now() + RETRY_CHANGES);
                let outcome = failed.map_or(Ok(()), Err);
                answer(&mut held.changed, &outcome);
                self.say(outcome);
            }
            account.look_around()?;
            if is_look {
                account.book.say(MirrorChange::Passed)?;
                account.book.write()?;
                passed = true;
                checked = Some(now());
                if !held.looks.is_empty() {
                    // Said first, so that who then waits for the rest knows that there is one.
                    self.report(&mut account, checked)?;
                    let found = account.book.take_found()?;
                    answer_with(&mut held.looks, &Ok(Some(found)));
                }
            }
            for (record, reply) in held.fetches.drain(..) {
                reply.send(account.fetch_now(record)?.map(|()| None));
            }
            let busy = !account.is_current() || account.work()?;
            if !busy || reported.is_none_or(|at: Instant| at.elapsed() >= REPORT) {
                reported = Some(Instant::now());
                let pending = self.report(&mut account, checked)?;
                if pending > 0 && retry.is_none() {
                    // What came back has changes that were not made before it was gone.
                    retry = Some(Instant::now() + RETRY_SOON);
                }
            }
            if busy {
                continue;
            }
            let mut most = if account.has_other_folders() { SURVEY_SOON } else { SURVEY };
            if let Some(at) = retry {
                most = most.min(at.saturating_duration_since(Instant::now()));
            }
            account.wait(&waker, most)?;
        }
    }
}

fn failed(error: &std::io::Error) -> Halt {
    let text = format!("the connection cannot be used: {error}");
    Halt::Failed(ProviderError::new(Code::E_CALL_FAILED, text))
}

/// A time, and up to a quarter of it: not all come back at once.
fn spread(time: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or_default() % 256;
    time + time / 4 * part / 256
}

/// Tries, on the calling thread, whether the account can be used, and whether there is what it is to take over.
fn try_all(settings: Settings) -> Result<(), ProviderError> {
    let take_over = settings.take_over.clone();
    try_out(settings, drop)?;
    match take_over.as_ref().map(|path| (path, path.read_dir())) {
        Some((path, Err(error))) => {
            let path = path.display();
            let text = format!(
                "take_over: {path} cannot be read: {error}; correct the key, or remove it when all messages are fetched"
            );
            Err(ProviderError::new(Code::E_UNCONFIGURED, text))
        }
        Some((_, Ok(_))) | None => Ok(()),
    }
}

/// Tries an account, on a thread for this alone.
pub(super) fn try_apart(settings: Settings, reply: Answered) {
    // Without a thread the reply says that the call failed.
    let _ = std::thread::Builder::new()
        .name("imap".into())
        .spawn(move || reply.send(try_all(settings).map(|()| None)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_end_connections_wait_longer_and_longer() {
        let mut changes = Changes::default();
        changes.are_cut_off();
        assert_eq!(changes.wait(), None, "no change was being made");
        let mut waits = Vec::new();
        for _ in 0..9 {
            changes.begun = true;
            changes.are_cut_off();
            waits.push(changes.wait().map_or(0, |wait| wait.as_secs().div_ceil(60)));
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 32, 32]);
    }
}
