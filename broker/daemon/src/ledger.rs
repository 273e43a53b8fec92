//! Accounts for the bytes that wait at the daemon's edge: messages that a process has not read, and requests that it has begun.
//!
//! ```text
//!  connection ──► process ──► user ──► all
//! ```
//!
//! A process is a kernel process, whatever name the client gives, and a connection without a hello counts as a process of its own.
//! At the limit of a process its connection ends. Beyond the limit of a user, or of all users, connections of the processes with
//! the most waiting bytes end first, until a quarter of the limit is free. A process that reads loses nothing because of others
//! that do not.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use rustc_hash::FxHashMap;
use sundown_core::settings::Limits;
use sundown_core::{ConnectionId, KernelProcess, ProcessKey};
use sundown_protocol::frame;

use crate::turns::Waiting;

/// The longest answer: a whole frame, in bytes.
const LONGEST: usize = frame::HEADER + frame::MAX_PAYLOAD as usize;

/// The bytes of a user, or of all users.
#[derive(Debug)]
struct Sum {
    used: Cell<usize>,
    most: Cell<usize>,
}

/// A user: the waiting bytes of its processes, and those processes that wait for their turn.
#[derive(Debug)]
pub(crate) struct User {
    sum: Sum,
    pub(crate) waiting: Waiting<Weak<Account>>,
}

/// The account of a process: its waiting bytes, and its connections that wait for their turn.
#[derive(Debug)]
pub(crate) struct Account {
    used: Cell<usize>,
    /// The most bytes that expected answers may have.
    expected: Cell<usize>,
    pub(crate) waiting: Waiting<ConnectionId>,
    user: Rc<User>,
    all: Rc<Sum>,
    /// Set when the sum of the user or of all is beyond its limit.
    beyond: Rc<Cell<bool>>,
}

/// Proof of a charge for some bytes. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Rc<Account>,
    bytes: usize,
}

/// An expected answer, which may be as long as a frame. Dropping it ends the expectation.
#[derive(Debug)]
pub(crate) struct Expected(Rc<Account>);

/// All accounts. The broker has one ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    all: Rc<Sum>,
    users: FxHashMap<u32, Rc<User>>,
    processes: HashMap<KernelProcess, Rc<Account>>,
    beyond: Rc<Cell<bool>>,
    user_limit: usize,
    /// The user that, beside root, has no limit.
    owner: u32,
    identity: Identity,
}

/// How a process is identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Kernel,
    /// By the client's name for it: a test is one process, and plays several.
    #[cfg(test)]
    Client,
}

/// The sum that is beyond its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    User(u32),
    All,
}

impl Sum {
    fn new(most: usize) -> Self {
        Self { used: Cell::new(0), most: Cell::new(most) }
    }

    fn add(&self, bytes: usize) -> bool {
        let used = self.used.get() + bytes;
        self.used.set(used);
        used > self.most.get()
    }

    fn take(&self, bytes: usize) {
        self.used.set(self.used.get() - bytes);
    }
}

impl User {
    fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { sum: Sum::new(most), waiting: Waiting::default() })
    }
}

impl Account {
    /// An account without a ledger.
    #[cfg(test)]
    pub(crate) fn alone() -> Rc<Self> {
        Rc::new(Self {
            used: Cell::new(0),
            expected: Cell::new(0),
            waiting: Waiting::default(),
            user: User::new(usize::MAX),
            all: Rc::new(Sum::new(usize::MAX)),
            beyond: Rc::default(),
        })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    /// How many bytes wait, including the expected answers.
    pub(crate) fn used_soon(&self) -> usize {
        self.used.get() + self.expected.get()
    }

    /// The user of the process.
    pub(crate) fn user(&self) -> &Rc<User> {
        &self.user
    }

    fn add(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
        let (user, all) = (self.user.sum.add(bytes), self.all.add(bytes));
        if user || all {
            self.beyond.set(true);
        }
    }

    fn take(&self, bytes: usize) {
        self.used.set(self.used.get() - bytes);
        self.user.sum.take(bytes);
        self.all.take(bytes);
    }
}

impl Charge {
    pub(crate) fn new(account: &Rc<Account>, bytes: usize) -> Self {
        account.add(bytes);
        Self { account: Rc::clone(account), bytes }
    }

    /// Charges more bytes.
    pub(crate) fn extend(&mut self, bytes: usize) {
        self.account.add(bytes);
        self.bytes += bytes;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.take(self.bytes);
    }
}

impl Expected {
    pub(crate) fn new(account: &Rc<Account>) -> Self {
        account.expected.set(account.expected.get() + LONGEST);
        Self(Rc::clone(account))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.expected.set(self.0.expected.get() - LONGEST);
    }
}

impl Ledger {
    pub(crate) fn new(limits: &Limits, owner: u32) -> Self {
        Self {
            all: Rc::new(Sum::new(limits.total_outbox_bytes)),
            users: FxHashMap::default(),
            processes: HashMap::new(),
            beyond: Rc::default(),
            user_limit: limits.user_outbox_bytes,
            owner,
            identity: Identity::Kernel,
        }
    }

    /// Sets new limits.
    pub(crate) fn set_limits(&mut self, limits: &Limits) {
        self.user_limit = limits.user_outbox_bytes;
        self.all.most.set(limits.total_outbox_bytes);
        for (uid, user) in &self.users {
            user.sum.most.set(self.limit_of(*uid));
        }
        self.beyond.set(true);
    }

    /// The limit of a user. Root and the broker's own user have none: they can harm the broker without a quota.
    fn limit_of(&self, uid: u32) -> usize {
        if uid == 0 || uid == self.owner { usize::MAX } else { self.user_limit }
    }

    /// An account for a connection whose process is not known yet.
    pub(crate) fn of_stranger(&mut self, uid: u32) -> Rc<Account> {
        let limit = self.limit_of(uid);
        let user = self.users.entry(uid).or_insert_with(|| User::new(limit));
        Rc::new(Account {
            used: Cell::new(0),
            expected: Cell::new(0),
            waiting: Waiting::default(),
            user: Rc::clone(user),
            all: Rc::clone(&self.all),
            beyond: Rc::clone(&self.beyond),
        })
    }

    /// The account of a process, opened if it is new.
    pub(crate) fn of_process(&mut self, process: &ProcessKey, uid: u32) -> Rc<Account> {
        let kernel = kernel_process(process, self.identity);
        if let Some(account) = self.processes.get(&kernel) {
            return Rc::clone(account);
        }
        let account = self.of_stranger(uid);
        self.processes.insert(kernel, Rc::clone(&account));
        account
    }

    #[cfg(test)]
    pub(crate) fn believe_clients(&mut self) {
        self.identity = Identity::Client;
    }

    /// Removes the accounts that have no connection after the end of this one.
    pub(crate) fn forget(&mut self, process: Option<&ProcessKey>, uid: u32) {
        if let Some(kernel) = process.map(|process| kernel_process(process, self.identity))
            && self.processes.get(&kernel).is_some_and(|account| Rc::strong_count(account) == 1)
        {
            self.processes.remove(&kernel);
        }
        if self.users.get(&uid).is_some_and(|user| Rc::strong_count(user) == 1) {
            self.users.remove(&uid);
        }
    }

    /// Whether a sum may be beyond its limit. The check is cheap, because it follows every message.
    pub(crate) fn is_beyond(&self) -> bool {
        self.beyond.get()
    }

    /// The largest sum that is beyond its limit. Used after [`is_beyond`](Self::is_beyond).
    pub(crate) fn full(&self) -> Option<Full> {
        let is_full = |sum: &Sum| sum.used.get() > sum.most.get();
        if is_full(&self.all) {
            return Some(Full::All);
        }
        let user =
            self.users.iter().find(|(_, user)| is_full(&user.sum)).map(|(uid, _)| Full::User(*uid));
        if user.is_none() {
            self.beyond.set(false);
        }
        user
    }

    /// Whether a quarter of the limit is free again.
    pub(crate) fn has_room(&self, full: Full) -> bool {
        let sum = match full {
            Full::All => Some(&*self.all),
            Full::User(uid) => self.users.get(&uid).map(|user| &user.sum),
        };
        sum.is_none_or(|sum| sum.used.get() <= sum.most.get() / 4 * 3)
    }

    /// How many bytes wait for all users.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.all.used.get()
    }
}

fn kernel_process(process: &ProcessKey, identity: Identity) -> KernelProcess {
    match identity {
        Identity::Kernel => process.kernel(),
        #[cfg(test)]
        Identity::Client => KernelProcess(process.0[16..].try_into().expect("sixteen bytes")),
    }
}

impl Full {
    /// Whether the sum includes processes of this user.
    pub(crate) fn covers(self, uid: u32) -> bool {
        self == Self::All || self == Self::User(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn ledger() -> Ledger {
        let limits =
            Limits { user_outbox_bytes: 2 * MIB, total_outbox_bytes: 4 * MIB, ..Limits::default() };
        Ledger::new(&limits, 1_000)
    }

    fn process(number: u8, image: u8) -> ProcessKey {
        let mut key = [image; 32];
        key[..16].fill(number);
        ProcessKey(key)
    }

    #[test]
    fn an_image_that_a_client_names_is_no_account_of_its_own() {
        let mut ledger = ledger();
        let [one, same, other] = [(1, 1), (1, 2), (2, 1)]
            .map(|(number, image)| ledger.of_process(&process(number, image), 1_001));
        assert!(Rc::ptr_eq(&one, &same) && !Rc::ptr_eq(&one, &other));
    }

    #[test]
    fn processes_of_a_user_have_a_limit_together_and_root_and_the_owner_have_that_of_all() {
        let mut ledger = ledger();
        let of = |ledger: &mut Ledger, number: u8, uid| {
            Charge::new(&ledger.of_process(&process(number, 0), uid), MIB + 1)
        };
        let [first, second] = [1, 2].map(|number| of(&mut ledger, number, 1_001));
        assert!(ledger.is_beyond());
        assert_eq!(ledger.full(), Some(Full::User(1_001)));
        assert!(!ledger.has_room(Full::User(1_001)));
        drop(first);
        assert_eq!((ledger.full(), ledger.is_beyond()), (None, false));
        assert!(ledger.has_room(Full::User(1_001)));
        let [_third, _fourth] = [3, 4].map(|number| of(&mut ledger, number, 1_000));
        assert!(!ledger.is_beyond(), "the owner is not bound");
        let fifth = of(&mut ledger, 5, 0);
        assert_eq!(ledger.full(), Some(Full::All));
        drop((second, fifth));
        assert_eq!((ledger.full(), ledger.has_room(Full::All)), (None, true));
    }

    #[test]
    fn a_lower_limit_holds_at_once() {
        let mut ledger = ledger();
        let _charge = Charge::new(&ledger.of_process(&process(1, 0), 1_001), MIB + 1);
        assert!(!ledger.is_beyond());
        let limits = Limits { user_outbox_bytes: MIB, ..Limits::default() };
        ledger.set_limits(&limits);
        assert!(ledger.is_beyond());
        assert_eq!(ledger.full(), Some(Full::User(1_001)));
    }

    #[test]
    fn accounts_without_connections_are_forgotten() {
        let mut ledger = ledger();
        let key = process(1, 0);
        let stranger = ledger.of_stranger(1_001);
        let account = ledger.of_process(&key, 1_001);
        let mut charge = Charge::new(&account, 7);
        charge.extend(3);
        assert_eq!((charge.bytes(), account.used(), ledger.used()), (10, 10, 10));
        ledger.forget(Some(&key), 1_001);
        assert_eq!(ledger.processes.len(), 1, "it is used");
        drop((charge, account, stranger));
        ledger.forget(Some(&key), 1_001);
        assert_eq!((ledger.processes.len(), ledger.users.len(), ledger.used()), (0, 0, 0));
    }
}
