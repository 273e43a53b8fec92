//! The servers that all sessions of a broker share: how many connections each has, and how it goes.
//!
//! Whoever wants to connect takes a [`Permit`] and has it for as long as the connection lives. Permits are given in the
//! order in which they were asked for. While nobody knows whether a server can be reached, one tries and the others wait;
//! if it cannot, they are told so at once, and for a moment nobody tries again.
//!
//! ```text
//!  Untried ──one tries──► Tried ──it works──► Works
//!     ▲                     │                   │ it does not
//!     └──── a moment ──── Down ◄────────────────┘
//! ```

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::settings::Settings;

/// How long nobody tries to reach a server that could not be reached. What waits behind a message that found out must
/// not find out again, one by one, each for the whole time of a connect.
const REST: Duration = Duration::from_secs(2);

/// How long a busy connection is kept while somebody else waits: long enough to be worth its TLS.
const TURN: Duration = Duration::from_secs(2);

/// All servers, by host, port and user.
#[derive(Debug, Default)]
pub struct Destinations(Mutex<HashMap<Key, Weak<Destination>>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    host: String,
    port: u16,
    username: Option<String>,
}

impl Destinations {
    /// The one that these settings name.
    pub(super) fn of(&self, settings: &Settings) -> Arc<Destination> {
        let key = Key {
            host: settings.server(),
            port: settings.port,
            username: settings.login.as_ref().map(|login| login.username.clone()),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, destination| destination.strong_count() > 0);
        if let Some(found) = known.get(&key).and_then(Weak::upgrade) {
            return found;
        }
        let made = Arc::new(Destination::default());
        known.insert(key, Arc::downgrade(&made));
        made
    }
}

/// One server and one user of it.
#[derive(Debug, Default)]
pub(super) struct Destination {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    /// Who waits, by number: the lowest is the first.
    waiting: BTreeSet<u64>,
    /// Connections that nobody uses just now, and the way to tell who keeps them.
    idle: HashMap<u64, Sender<()>>,
    standing: Standing,
    last_number: u64,
}

#[derive(Debug, Default)]
enum Standing {
    #[default]
    Untried,
    Tried,
    Works,
    Down(Instant, ProviderError),
}

impl State {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn down(&self) -> Option<&ProviderError> {
        match &self.standing {
            Standing::Down(since, error) if since.elapsed() < REST => Some(error),
            _ => None,
        }
    }

    fn is_tried(&self) -> bool {
        matches!(self.standing, Standing::Tried)
    }

    fn take(&mut self) -> Trial {
        self.held += 1;
        if matches!(self.standing, Standing::Works) {
            return Trial::Over;
        }
        self.standing = Standing::Tried;
        Trial::Open
    }
}

/// What to do about a server that could not be reached just before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfDown {
    /// Believe it.
    GiveUp,
    /// Try all the same.
    Try,
}

/// Why there is no permit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPermit {
    /// The server cannot be reached.
    Down(ProviderError),
    /// It is not wanted any more.
    Unwanted,
}

impl Destination {
    /// Waits for a permit to connect.
    pub(super) fn permit(
        self: &Arc<Self>,
        limit: usize,
        if_down: IfDown,
        wanted: impl Fn() -> bool,
    ) -> Result<Permit, NoPermit> {
        let mut state = self.lock();
        let number = state.number();
        state.waiting.insert(number);
        let got = loop {
            if !wanted() {
                break Err(NoPermit::Unwanted);
            }
            if let (IfDown::GiveUp, Some(error)) = (if_down, state.down()) {
                break Err(NoPermit::Down(error.clone()));
            }
            if state.waiting.first() == Some(&number) && !state.is_tried() {
                if state.held < limit {
                    break Ok(state.take());
                }
                wake_one_idle(&mut state);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiting.remove(&number);
        drop(state);
        self.changed.notify_all();
        got.map(|trial| Permit { destination: self.clone(), since: Instant::now(), trial })
    }

    /// Makes everybody who waits ask again whether it is still wanted.
    pub(super) fn stir(&self) {
        // The lock makes sure that nobody is between asking and waiting.
        drop(self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_one_idle(state: &mut State) {
    let one = state.idle.keys().min().copied();
    if let Some(sender) = one.and_then(|number| state.idle.remove(&number)) {
        let _ = sender.send(());
    }
}

/// The right to one connection.
#[derive(Debug)]
pub(super) struct Permit {
    destination: Arc<Destination>,
    since: Instant,
    trial: Trial,
}

/// Whether others wait for what this one finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    Open,
    Over,
}

impl Permit {
    /// The server can be used.
    pub(super) fn works(&mut self) {
        self.found(Standing::Works);
    }

    /// The server cannot be used. If it is not even reached, nobody else needs to try now.
    pub(super) fn failed(&mut self, error: &ProviderError) {
        self.found(match error.code {
            Code::E_NETWORK_ERROR => Standing::Down(Instant::now(), error.clone()),
            _ => Standing::Untried,
        });
    }

    fn found(&mut self, standing: Standing) {
        self.trial = Trial::Over;
        self.destination.lock().standing = standing;
        self.destination.changed.notify_all();
    }

    /// Whether others have waited long enough for it.
    pub(super) fn is_overdue(&self) -> bool {
        self.since.elapsed() > TURN && !self.destination.lock().waiting.is_empty()
    }

    /// Says that its connection is not used for now. `None` if somebody waits for it already.
    pub(super) fn rest(&self) -> Option<Rest<'_>> {
        let mut state = self.destination.lock();
        if !state.waiting.is_empty() {
            return None;
        }
        let (sender, wanted) = bounded(1);
        let number = state.number();
        state.idle.insert(number, sender);
        Some(Rest { permit: self, number, wanted })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.destination.lock();
        state.held -= 1;
        if self.trial == Trial::Open {
            // It gave up without a word.
            state.standing = Standing::Untried;
        }
        drop(state);
        self.destination.changed.notify_all();
    }
}

/// A connection that is not used for now.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    permit: &'a Permit,
    number: u64,
    wanted: Receiver<()>,
}

impl Rest<'_> {
    /// Tells when somebody else wants the permit.
    pub(super) fn wanted(&self) -> &Receiver<()> {
        &self.wanted
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.permit.destination.lock().idle.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use sundown_core::provider::ProviderSpec;

    use super::*;

    fn settings(host: &str) -> Settings {
        let options = vec![("host".into(), host.into())];
        Settings::of(&ProviderSpec { options, ..ProviderSpec::new("smtp") }).expect("settings")
    }

    fn always() -> bool {
        true
    }

    fn get(destination: &Arc<Destination>, limit: usize) -> Permit {
        destination.permit(limit, IfDown::GiveUp, always).expect("a permit")
    }

    #[test]
    fn sessions_share_a_destination() {
        let all = Destinations::default();
        let one = all.of(&settings("smtp.example.org"));
        assert!(Arc::ptr_eq(&one, &all.of(&settings("SMTP.example.org"))));
        assert!(!Arc::ptr_eq(&one, &all.of(&settings("other.example.org"))));
        drop(one);
        all.of(&settings("third.example.org"));
        assert_eq!(all.0.lock().expect("a lock").len(), 1);
    }

    #[test]
    fn there_are_as_many_connections_as_allowed() {
        let destination = Arc::new(Destination::default());
        let mut first = get(&destination, 2);
        first.works();
        let second = get(&destination, 2);
        let (ask, other) = (destination.clone(), AtomicBool::new(false));
        thread::scope(|scope| {
            let third = scope.spawn(|| {
                let permit = get(&ask, 2);
                assert!(other.load(Ordering::SeqCst), "before one was free");
                drop(permit);
            });
            while destination.lock().waiting.is_empty() {
                thread::yield_now();
            }
            assert!(second.rest().is_none(), "somebody waits");
            other.store(true, Ordering::SeqCst);
            drop(second);
            third.join().expect("it got one");
        });
        drop(first);
        assert_eq!(destination.lock().held, 0);
    }

    #[test]
    fn who_rests_is_told_that_somebody_waits() {
        let destination = Arc::new(Destination::default());
        let mut permit = get(&destination, 1);
        permit.works();
        thread::scope(|scope| {
            let rest = permit.rest().expect("nobody waits");
            scope.spawn(|| drop(get(&destination, 1)));
            rest.wanted().recv().expect("somebody wants it");
            drop(rest);
            drop(permit);
        });
    }

    #[test]
    fn one_tries_for_all() {
        let destination = Arc::new(Destination::default());
        let mut permit = get(&destination, 4);
        let offline = ProviderError::new(Code::E_NETWORK_ERROR, "no way there");
        thread::scope(|scope| {
            let others: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| destination.permit(4, IfDown::GiveUp, always)))
                .collect();
            while destination.lock().waiting.len() < 3 {
                thread::yield_now();
            }
            permit.failed(&offline);
            drop(permit);
            for other in others {
                let answer = other.join().expect("it ended").expect_err("it is down");
                assert_eq!(answer, NoPermit::Down(offline.clone()));
            }
        });
        let mut tries = destination.permit(4, IfDown::Try, always).expect("a permit");
        tries.works();
        drop(get(&destination, 4));
    }

    #[test]
    fn who_gives_up_without_a_word_blocks_nobody() {
        let destination = Arc::new(Destination::default());
        drop(get(&destination, 1));
        let mut permit = get(&destination, 1);
        permit.failed(&ProviderError::new(Code::E_NO_ACCESS, "not protected"));
        drop(permit);
        drop(get(&destination, 1));
    }

    #[test]
    fn what_is_not_wanted_any_more_does_not_wait() {
        let destination = Arc::new(Destination::default());
        let mut permit = get(&destination, 1);
        permit.works();
        let wanted = AtomicBool::new(true);
        thread::scope(|scope| {
            let waits = scope
                .spawn(|| destination.permit(1, IfDown::GiveUp, || wanted.load(Ordering::SeqCst)));
            while destination.lock().waiting.is_empty() {
                thread::yield_now();
            }
            wanted.store(false, Ordering::SeqCst);
            destination.stir();
            let answer = waits.join().expect("it ended");
            assert_eq!(answer.expect_err("it is not wanted"), NoPermit::Unwanted);
        });
        assert!(destination.lock().waiting.is_empty());
    }
}
