//! Whose requests are applied next: turns go round users, in each user round its processes, and in each process round its
//! connections.
//!
//! ```text
//!  Turns ──► user ──► process ──► connection with something to read
//!    ▲                                 │
//!    └─── behind the others of its ────┘  while it has more
//!         process, user, and all
//! ```
//!
//! In one turn of the loop a process has [`PROCESS`], and all processes of a user together [`USER`]: so many requests, or so much
//! time. A read that brings no whole request counts as one. A process that asks one thing waits for one share of each other user, and
//! for one of each other process of its own user; how many connections and requests those have adds nothing. Between two turns the
//! loop looks for what has come meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use sundown_core::ConnectionId;

use crate::ledger::{Account, User};

/// What a process has in one turn of the loop.
const PROCESS: Share = Share { requests: 64, time: Duration::from_micros(25) };
/// What all processes of a user have in it.
const USER: Share = Share { requests: 256, time: Duration::from_micros(100) };

/// A part of a turn. One request is always applied whole, however long it takes.
#[derive(Debug, Clone, Copy)]
struct Share {
    requests: usize,
    time: Duration,
}

/// What is left of a share. Its time begins when it is first asked for: one request alone costs no look at a clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    requests: usize,
    time: Duration,
    /// Set when something of it is spent.
    began: Began,
}

#[derive(Debug, Clone, Copy)]
enum Began {
    No,
    Yes,
    Until(Instant),
}

/// Those of one level that wait for their turn, each once.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    these: RefCell<VecDeque<T>>,
    /// Whether this level waits among those of the level above.
    listed: Cell<bool>,
}

/// The users that wait, and what each has in a turn of the loop.
#[derive(Debug)]
pub(crate) struct Turns {
    users: VecDeque<Weak<User>>,
    process: Share,
    user: Share,
}

impl Default for Turns {
    fn default() -> Self {
        Self { users: VecDeque::new(), process: PROCESS, user: USER }
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { these: RefCell::default(), listed: Cell::new(false) }
    }
}

impl<T> Waiting<T> {
    fn push(&self, one: T) {
        self.these.borrow_mut().push_back(one);
    }

    fn pop(&self) -> Option<T> {
        self.these.borrow_mut().pop_front()
    }

    fn len(&self) -> usize {
        self.these.borrow().len()
    }
}

impl Budget {
    fn of(share: Share) -> Self {
        Self { requests: share.requests, time: share.time, began: Began::No }
    }

    /// The part of it that one share is.
    fn part(&self, share: Share) -> Self {
        Self { requests: self.requests.min(share.requests), time: share.time, began: Began::No }
    }

    fn spend(&mut self, requests: usize) {
        self.requests = self.requests.saturating_sub(requests);
        if let Began::No = self.began
            && requests > 0
        {
            self.began = Began::Yes;
        }
    }

    /// Whether more may be applied behind so many.
    pub(crate) fn takes_more(&mut self, applied: usize) -> bool {
        if applied >= self.requests {
            return false;
        }
        let until = match self.began {
            Began::No if applied == 0 => return true,
            Began::No | Began::Yes => Instant::now() + self.time,
            Began::Until(until) => {
                return Instant::now() < until;
            }
        };
        self.began = Began::Until(until);
        true
    }
}

impl Turns {
    /// Shares are counted in requests alone: a test knows how many those are.
    #[cfg(test)]
    pub(crate) fn forget_time(&mut self) {
        let time = Duration::from_secs(1 << 20);
        self.process.time = time;
        self.user.time = time;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// A connection has something to read.
    pub(crate) fn add(&mut self, account: &Rc<Account>, id: ConnectionId) {
        account.waiting.push(id);
        if !account.waiting.listed.replace(true) {
            self.list(account);
        }
    }

    /// A process has connections that wait.
    fn list(&mut self, account: &Rc<Account>) {
        let user = account.user();
        user.waiting.push(Rc::downgrade(account));
        if !user.waiting.listed.replace(true) {
            self.users.push_back(Rc::downgrade(user));
        }
    }
}

/// Where a turn of the loop is: each user that waited when it began, then each process of that user, then each connection of that
/// process.
#[derive(Debug)]
pub(crate) struct Round {
    users: usize,
    user: Option<(Rc<User>, usize, Budget)>,
    process: Option<(Rc<Account>, usize, Budget)>,
}

impl Round {
    pub(crate) fn new(turns: &Turns) -> Self {
        Self { users: turns.users.len(), user: None, process: None }
    }

    /// The connection before this one has had so many requests applied. The next one, and what it may have; `None` when each that
    /// waited has had its turn.
    pub(crate) fn next(
        &mut self,
        turns: &mut Turns,
        spent: usize,
    ) -> Option<(ConnectionId, Budget)> {
        if let (Some((_, _, process)), Some((_, _, user))) = (&mut self.process, &mut self.user) {
            process.spend(spent);
            user.spend(spent);
        }
        loop {
            if let Some(next) = self.next_of_process() {
                return Some(next);
            }
            self.end_process();
            if self.begin_process(turns) {
                continue;
            }
            self.end_user(turns);
            if !self.begin_user(turns) {
                return None;
            }
        }
    }

    fn next_of_process(&mut self) -> Option<(ConnectionId, Budget)> {
        let (process, left, budget) = self.process.as_mut()?;
        if *left == 0 || !budget.takes_more(0) {
            return None;
        }
        *left -= 1;
        Some((process.waiting.pop()?, *budget))
    }

    /// A process that has more waits behind the others of its user.
    fn end_process(&mut self) {
        let Some((process, ..)) = self.process.take() else { return };
        let more = process.waiting.len() > 0;
        process.waiting.listed.set(more);
        if more {
            process.user().waiting.push(Rc::downgrade(&process));
        }
    }

    fn begin_process(&mut self, turns: &Turns) -> bool {
        let Some((user, left, budget)) = self.user.as_mut() else { return false };
        while *left > 0 && budget.takes_more(0) {
            *left -= 1;
            // One that has ended is not there any more.
            let Some(process) = user.waiting.pop().and_then(|process| process.upgrade()) else {
                continue;
            };
            let share = budget.part(turns.process);
            let connections = process.waiting.len();
            self.process = Some((process, connections, share));
            return true;
        }
        false
    }

    fn end_user(&mut self, turns: &mut Turns) {
        let Some((user, ..)) = self.user.take() else { return };
        let more = user.waiting.len() > 0;
        user.waiting.listed.set(more);
        if more {
            turns.users.push_back(Rc::downgrade(&user));
        }
    }

    fn begin_user(&mut self, turns: &mut Turns) -> bool {
        while self.users > 0 {
            self.users -= 1;
            let Some(user) = turns.users.pop_front().and_then(|user| user.upgrade()) else {
                continue;
            };
            let processes = user.waiting.len();
            self.user = Some((user, processes, Budget::of(turns.user)));
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sundown_core::ProcessKey;
    use sundown_core::settings::Limits;

    use super::*;
    use crate::ledger::Ledger;

    /// Everybody who waits, by user, process and connection; each has requests without end.
    struct Crowd {
        turns: Turns,
        ledger: Ledger,
        accounts: BTreeMap<ConnectionId, Rc<Account>>,
    }

    impl Crowd {
        fn new() -> Self {
            let mut turns = Turns::default();
            turns.forget_time();
            let ledger = Ledger::new(&Limits::default(), 0);
            Self { turns, ledger, accounts: BTreeMap::new() }
        }

        fn floods(&mut self, uid: u32, process: u8, connections: std::ops::Range<u64>) {
            let mut key = [0; 32];
            key[0] = process;
            let account = self.ledger.of_process(&ProcessKey(key), uid);
            for id in connections.map(ConnectionId) {
                self.turns.add(&account, id);
                self.accounts.insert(id, Rc::clone(&account));
            }
        }

        /// One turn of the loop: how many requests of each connection were applied.
        fn turn(&mut self) -> BTreeMap<u64, usize> {
            let mut applied = BTreeMap::new();
            let (mut round, mut spent) = (Round::new(&self.turns), 0);
            while let Some((id, mut budget)) = round.next(&mut self.turns, spent) {
                spent = 1;
                while budget.takes_more(spent) {
                    spent += 1;
                }
                *applied.entry(id.0).or_default() += spent;
                self.turns.add(&self.accounts[&id], id);
            }
            applied
        }
    }

    #[test]
    fn many_connections_of_a_process_have_one_share() {
        let mut crowd = Crowd::new();
        crowd.floods(1, 1, 0..400);
        crowd.floods(1, 2, 400..401);
        for turn in 0..800 {
            assert_eq!(crowd.turn(), BTreeMap::from([(turn % 400, 64), (400, 64)]));
        }
    }

    #[test]
    fn many_processes_of_a_user_have_one_share_and_each_comes_to_it() {
        let mut crowd = Crowd::new();
        for process in 0..100 {
            crowd.floods(1, process, u64::from(process)..u64::from(process) + 1);
        }
        crowd.floods(2, 200, 200..201);
        let mut had = BTreeMap::new();
        for _ in 0..25 {
            let turn = crowd.turn();
            assert_eq!(
                turn.values().sum::<usize>(),
                256 + 64,
                "four of the crowd, and the other user"
            );
            assert_eq!(turn[&200], 64);
            had.extend(turn);
        }
        assert_eq!(had.len(), 101, "each had its turn");
    }

    #[test]
    fn a_share_is_spent_by_all_connections_of_a_process() {
        let mut crowd = Crowd::new();
        crowd.floods(1, 1, 0..3);
        let mut round = Round::new(&crowd.turns);
        let (first, mut budget) = round.next(&mut crowd.turns, 0).expect("it waits");
        assert!(first == ConnectionId(0) && budget.takes_more(63) && !budget.takes_more(64));
        let (second, mut budget) = round.next(&mut crowd.turns, 10).expect("it waits");
        assert!(second == ConnectionId(1) && budget.takes_more(53) && !budget.takes_more(54));
        assert_eq!(round.next(&mut crowd.turns, 54).map(|(id, _)| id), None, "all is spent");
        assert!(!crowd.turns.is_empty(), "the third waits for the next turn");
        let (third, _) = Round::new(&crowd.turns).next(&mut crowd.turns, 0).expect("it waits");
        assert_eq!(third, ConnectionId(2));
        assert!(crowd.turns.is_empty());
    }

    /// What an end leaves behind is passed over.
    #[test]
    fn a_process_that_has_ended_is_passed_over() {
        let mut crowd = Crowd::new();
        crowd.floods(1, 1, 0..1);
        crowd.floods(2, 2, 1..2);
        crowd.accounts.remove(&ConnectionId(0));
        let mut key = [0; 32];
        key[0] = 1;
        crowd.ledger.forget(Some(&ProcessKey(key)), 1);
        assert_eq!(crowd.turn(), BTreeMap::from([(1, 64)]));
    }
}
