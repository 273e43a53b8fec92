//! Accounts: what each process, each user and the whole broker use.
//!
//! ```text
//!  process, as the kernel names it ──► user ──► broker
//! ```
//!
//! A use is charged to an account and to each account above it. A client names the image of its process, so an image has no account
//! of its own: all images of one kernel process share an account, as the connections of a process do. A process that the kernel
//! does not name has an account for each connection ([`ProcessKey::kernel`]). An account is kept while a process or an account
//! below needs it, and while something is charged to it: what a process left behind stays on its account.

use std::collections::BTreeMap;
use std::fmt;

use crate::ground::event::{KernelProcess, ProcessId, ProcessKey};
use crate::ground::numbers::NumberMap;
use crate::peers::quota::Quota;

/// The place of an account in the table. The place is reused when nothing needs the account and nothing is charged to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AccountId(u32);

impl AccountId {
    pub(crate) const BROKER: Self = Self(0);
}

/// The owner of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Process(KernelProcess, u32),
    User(u32),
    Broker,
}

/// The payer whose turn a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    Broker,
    User(u32, Source),
}

/// Which of a user's processes made a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Process(AccountId),
    /// Processes without connections.
    LeftBehind,
}

impl Payer {
    pub(crate) fn user(self) -> Option<u32> {
        match self {
            Self::Broker => None,
            Self::User(uid, _) => Some(uid),
        }
    }

    /// The source of the calls. The broker's own calls count as those of one process.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::Broker => Source::LeftBehind,
            Self::User(_, source) => source,
        }
    }
}

/// Proof of a charge. It belongs to what it pays for, and is [given back](Accounts::give_back) with it. A proof that is dropped
/// leaves its charge forever, and every test notices.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
#[must_use = "what is counted is to be given back"]
pub(crate) struct Charge {
    account: AccountId,
    what: Quota,
    count: usize,
}

/// How much of each quota is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used([usize; Quota::ALL.len()]);

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Account {
    whose: Whose,
    /// The broker's account is above itself.
    above: AccountId,
    used: Used,
    /// For a process, its images.
    images: Images,
    /// For a process, the connections of all its images.
    connections: usize,
    /// How many images of a process, or accounts below, need it.
    needed: usize,
    /// Bytes of unanswered requests whose connections have closed. They are part of `used`.
    left_behind: usize,
}

/// The images of a process, by the names that the client gives them. Most processes have one, which is found without a search.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Images {
    first: Option<(Image, ProcessId)>,
    others: BTreeMap<Image, ProcessId>,
}

/// The client's name for the image of its process: the end of a [`ProcessKey`].
type Image = [u8; 16];

/// Accounts by number. The first is the broker's.
#[cfg_attr(test, derive(Clone))]
struct Table {
    all: Vec<Account>,
    /// The place of a closed account. The account above it is the next closed one; above the last closed one is the broker's.
    free: AccountId,
    open: usize,
}

/// All accounts.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Accounts {
    table: Table,
    processes: NumberMap<KernelProcess, AccountId>,
    users: NumberMap<u32, AccountId>,
    /// The sum of what is left behind.
    left_behind: usize,
}

impl Used {
    pub(crate) fn of(&self, what: Quota) -> usize {
        self.0[what as usize]
    }

    pub(crate) fn add(&mut self, what: Quota, count: usize) {
        self.0[what as usize] += count;
    }

    pub(crate) fn take(&mut self, what: Quota, count: usize) {
        self.0[what as usize] -= count;
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Account {
    fn new(whose: Whose, above: AccountId) -> Self {
        let (used, images) = (Used::default(), Images::default());
        Self { whose, above, used, images, connections: 0, needed: 0, left_behind: 0 }
    }

    fn is_closed(&self) -> bool {
        self.needed == 0 && self.used.is_nothing() && self.whose != Whose::Broker
    }
}

fn image(key: &ProcessKey) -> Image {
    *key.0.last_chunk().expect("32 bytes have 16")
}

impl Images {
    fn find(&self, image: &Image) -> Option<ProcessId> {
        match &self.first {
            Some((first, id)) if first == image => Some(*id),
            _ => self.others.get(image).copied(),
        }
    }

    fn insert(&mut self, image: Image, id: ProcessId) {
        if self.first.is_none() {
            self.first = Some((image, id));
        } else {
            self.others.insert(image, id);
        }
    }

    fn remove(&mut self, image: &Image) {
        if self.first.take_if(|(first, _)| first == image).is_none() {
            self.others.remove(image);
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        let all = vec![Account::new(Whose::Broker, AccountId::BROKER)];
        Self { all, free: AccountId::BROKER, open: 1 }
    }
}

impl fmt::Debug for Table {
    /// Shows the open accounts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (0..).map(AccountId).zip(&self.all);
        f.debug_map().entries(all.filter(|(_, account)| !account.is_closed())).finish()
    }
}

impl Table {
    fn insert(&mut self, account: Account) -> AccountId {
        self.open += 1;
        if self.free != AccountId::BROKER {
            let id = self.free;
            self.free = self.get(id).above;
            *self.at(id) = account;
            return id;
        }
        self.all.push(account);
        AccountId(u32::try_from(self.all.len() - 1).expect("fewer accounts than connections"))
    }

    fn remove(&mut self, id: AccountId) {
        self.open -= 1;
        self.at(id).above = self.free;
        self.free = id;
    }

    fn get(&self, id: AccountId) -> &Account {
        &self.all[id.0 as usize]
    }

    fn at(&mut self, id: AccountId) -> &mut Account {
        &mut self.all[id.0 as usize]
    }
}

impl Accounts {
    /// The image with this key, if it is known.
    pub(crate) fn find(&self, key: &ProcessKey) -> Option<ProcessId> {
        self.image(*self.processes.get(&key.kernel())?, key)
    }

    /// The account of a process, opened if it is new.
    pub(crate) fn of_process(&mut self, key: &ProcessKey, uid: u32) -> AccountId {
        let kernel = key.kernel();
        if let Some(id) = self.processes.get(&kernel) {
            return *id;
        }
        let user = self.of_user(uid);
        self.table.at(user).needed += 1;
        let id = self.table.insert(Account::new(Whose::Process(kernel, uid), user));
        self.processes.insert(kernel, id);
        id
    }

    /// The account of a user, opened if it is new.
    pub(crate) fn of_user(&mut self, uid: u32) -> AccountId {
        let table = &mut self.table;
        let open = || table.insert(Account::new(Whose::User(uid), AccountId::BROKER));
        *self.users.entry(uid).or_insert_with(open)
    }

    /// The image with this key, of a process with this account.
    pub(crate) fn image(&self, id: AccountId, key: &ProcessKey) -> Option<ProcessId> {
        self.table.get(id).images.find(&image(key))
    }

    /// Adds an image of a process, which needs its account.
    pub(crate) fn add_image(&mut self, id: AccountId, key: &ProcessKey, process: ProcessId) {
        let account = self.table.at(id);
        account.images.insert(image(key), process);
        account.needed += 1;
    }

    /// Removes an image.
    pub(crate) fn remove_image(&mut self, id: AccountId, key: &ProcessKey) {
        self.table.at(id).images.remove(&image(key));
        self.need_less(id);
    }

    /// Counts a connection of a process.
    pub(crate) fn connected(&mut self, id: AccountId) {
        self.table.at(id).connections += 1;
    }

    /// Counts a closed connection of a process.
    pub(crate) fn disconnected(&mut self, id: AccountId) {
        self.table.at(id).connections -= 1;
    }

    /// Whether a process has a connection, as any image.
    pub(crate) fn has_connections(&self, id: AccountId) -> bool {
        self.table.get(id).connections > 0
    }

    fn need_less(&mut self, id: AccountId) {
        self.table.at(id).needed -= 1;
        self.close_unneeded(id);
    }

    fn close_unneeded(&mut self, id: AccountId) {
        let account = self.table.get(id);
        if !account.is_closed() {
            return;
        }
        let above = account.above;
        match account.whose {
            Whose::User(uid) => self.users.remove(&uid),
            Whose::Process(kernel, _) => self.processes.remove(&kernel),
            Whose::Broker => None,
        };
        self.table.remove(id);
        if above != AccountId::BROKER {
            self.need_less(above);
        }
    }

    /// Charges an account and those above it.
    #[inline]
    pub(crate) fn charge(&mut self, mut id: AccountId, what: Quota, count: usize) {
        while id != AccountId::BROKER {
            let account = self.table.at(id);
            account.used.add(what, count);
            id = account.above;
        }
        self.table.at(id).used.add(what, count);
    }

    /// Gives back a charge of an account and those above it.
    #[inline]
    pub(crate) fn pay_back(&mut self, first: AccountId, what: Quota, count: usize) {
        let (mut id, needed) = (first, self.table.get(first).needed > 0);
        while id != AccountId::BROKER {
            let account = self.table.at(id);
            account.used.take(what, count);
            id = account.above;
        }
        self.table.at(id).used.take(what, count);
        if !needed {
            self.close_unneeded(first);
        }
    }

    /// Charges an account until the charge is given back.
    pub(crate) fn book(&mut self, account: AccountId, what: Quota, count: usize) -> Charge {
        self.charge(account, what, count);
        Charge { account, what, count }
    }

    /// Increases a charge.
    pub(crate) fn book_more(&mut self, charge: &mut Charge, count: usize) {
        self.charge(charge.account, charge.what, count);
        charge.count += count;
    }

    /// Gives a charge back.
    pub(crate) fn give_back(&mut self, Charge { account, what, count }: Charge) {
        self.pay_back(account, what, count);
    }

    /// Marks bytes as left behind, because a connection closed before its requests were answered. Its process goes on paying for
    /// them.
    pub(crate) fn leave_behind(&mut self, id: AccountId, bytes: usize) {
        self.table.at(id).left_behind += bytes;
        self.left_behind += bytes;
    }

    /// Gives back the bytes of a request that was left behind, when it is answered or dropped.
    pub(crate) fn pay_left_behind(&mut self, id: AccountId, bytes: usize) {
        self.table.at(id).left_behind -= bytes;
        self.left_behind -= bytes;
        self.pay_back(id, Quota::RequestBytes, bytes);
    }

    pub(crate) fn has_left_behind(&self) -> bool {
        self.left_behind > 0
    }

    /// What is charged to an account.
    pub(crate) fn used(&self, id: AccountId) -> &Used {
        &self.table.get(id).used
    }

    /// The owner of an account, and the account above it.
    pub(crate) fn whose(&self, id: AccountId) -> (Whose, AccountId) {
        let account = self.table.get(id);
        (account.whose, account.above)
    }

    /// What each process uses.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Used> {
        self.processes.values().map(|id| self.used(*id))
    }

    /// What all processes of each user use.
    pub(crate) fn users(&self) -> impl Iterator<Item = (u32, &Used)> {
        self.users.iter().map(|(uid, id)| (*uid, self.used(*id)))
    }
}

#[cfg(test)]
impl Charge {
    pub(crate) fn parts(&self) -> (AccountId, Quota, usize) {
        (self.account, self.what, self.count)
    }
}

#[cfg(test)]
impl Accounts {
    /// All accounts but the broker's, those of processes first: the account, the one above, the owner, what is charged, what of
    /// that is left behind, and how many need it.
    pub(crate) fn all(
        &self,
    ) -> impl Iterator<Item = (AccountId, AccountId, Whose, &Used, usize, usize)> {
        self.processes.values().chain(self.users.values()).map(|id| {
            let Account { whose, above, used, images: _, connections: _, needed, left_behind } =
                self.table.get(*id);
            (*id, *above, *whose, used, *left_behind, *needed)
        })
    }

    /// How many images there are.
    pub(crate) fn images(&self) -> usize {
        let images = self.table.all.iter().map(|account| &account.images);
        images.map(|images| usize::from(images.first.is_some()) + images.others.len()).sum()
    }

    /// Whether nothing is charged and no account is kept.
    pub(crate) fn are_at_the_start(&self) -> bool {
        let Self { table, processes, users, left_behind } = self;
        let none = table.open == 1 && processes.is_empty() && users.is_empty();
        none && self.used(AccountId::BROKER).is_nothing() && *left_behind == 0
    }
}
