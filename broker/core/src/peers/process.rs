//! Processes: all connections of one operating-system process belong together.

use std::collections::{BTreeSet, HashMap, VecDeque};

use sundown_protocol::SessionId;
use sundown_protocol::reply::Peer;
use sundown_protocol::request::Request;

#[cfg(test)]
use crate::broker::Broker;
use crate::ground::event::{ConnectionId, KernelProcess, PeerIdentity, ProcessId, ProcessKey};
use crate::ground::numbers::NumberMap;
use crate::peers::account::{AccountId, Accounts, Charge, Payer, Source, Whose};
use crate::peers::connection::{Asker, Counts};
use crate::peers::quota::Quota;
use crate::peers::ticket::Host;
use crate::peers::waiting::{SessionKey, Sharing, Waiting};

/// The most processes without connections whose host is remembered, of all users.
const FORMER: usize = 256;

/// One image of a process. What it uses is charged to the account of the process as the kernel names it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Process {
    pub(crate) key: ProcessKey,
    pub(crate) peer: Peer,
    pub(crate) uid: u32,
    pub(crate) connections: BTreeSet<ConnectionId>,
    /// The account that pays for everything it uses. Other images of the process share it.
    pub(crate) account: AccountId,
    /// Bytes of deferred submissions that were answered and are not durable.
    pub(crate) unwritten: u64,
    /// Drafts of departed members that are being stored.
    pub(crate) recovering: usize,
    /// The copy of the library that speaks for the process.
    pub(crate) host: Host,
    /// The answer to `QueryFastShutdown`, for the life of the process (SEED-12).
    pub(crate) verdict: Option<bool>,
    /// The providers that made the answer no.
    pub(crate) refusing: BTreeSet<String>,
    /// Sessions whose providers were told by `NotifyProcessShutdown`.
    pub(crate) notified: BTreeSet<SessionId>,
    /// Those of them that it has logged on to since. Their mailboxes watch for it again.
    pub(crate) returned: BTreeSet<SessionId>,
    /// Whether the process said that it will leave, to this broker or an earlier one.
    pub(crate) gave_notice: bool,
    pub(crate) departure: Departure,
    /// Whether a copy of the library in it keeps a ticket.
    pub(crate) has_ticket: bool,
    /// Providers that answered a Do of this process with success, by session and place. They matter when the Do as a whole failed.
    pub(crate) told_do: BTreeSet<(SessionId, usize)>,
    /// The number of fast shutdown steps in progress for it.
    pub(crate) sweeps: usize,
    /// Its requests while its Do runs, in order.
    pub(crate) held: Vec<Held>,
    /// Submissions and drafts that it handed over and that are not stored, with no member left to be told. Its Do reports them.
    pub(crate) lost: Vec<Failed>,
}

/// What waits for the outcome of its process' Do.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Held {
    Request {
        asker: Asker,
        request: Box<Request>,
    },
    /// A logon whose session has started meanwhile.
    Logon {
        key: SessionKey,
        sharing: Sharing,
        waiting: Waiting,
    },
}

impl Held {
    pub(crate) fn asker(&self) -> Asker {
        match self {
            Self::Request { asker, .. } => *asker,
            Self::Logon { waiting, .. } => waiting.asker(),
        }
    }
}

/// The host of a process that has no connection and may come back.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Former {
    key: ProcessKey,
    uid: u32,
    host: Host,
}

/// How far a process is with `DoFastShutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    No,
    /// Its writes are being made durable.
    Doing,
    /// It may make no more calls.
    Done,
}

#[cfg(test)]
impl Processes {
    /// Checks the state of processes that wait for nothing.
    pub(crate) fn check_at_rest(&self, broker: &Broker) {
        // Quotas are compared with what there is elsewhere.
        let Self { by_id, former, accounts, gone, made: _ } = self;
        assert!(gone.is_empty(), "{gone:?} may have something under way");
        assert!(!accounts.has_left_behind(), "requests that were answered: {accounts:?}");
        assert_eq!(by_id.len(), accounts.images(), "{accounts:?}");
        for (id, process) in by_id {
            assert_eq!(accounts.find(&process.key), Some(*id), "each has its key");
            process.check_at_rest(*id, broker);
        }
        // The last ones, to recognize them. Processes with a connection are not among them.
        let here = former.iter().any(|former| accounts.find(&former.key).is_some());
        assert!(former.len() <= FORMER && !here, "{former:?}");
    }

    /// Whether nothing is kept of any process, except the hosts of those that may come back.
    pub(crate) fn are_gone(&self) -> bool {
        let Self { by_id, former: _, accounts, gone: _, made: _ } = self;
        by_id.is_empty() && accounts.are_at_the_start()
    }
}

#[cfg(test)]
impl Process {
    fn check_at_rest(&self, id: ProcessId, broker: &Broker) {
        let told = self.told();
        let Self {
            connections,
            unwritten,
            recovering,
            verdict,
            refusing,
            // What its sessions were told. It ends with the sessions.
            notified: _,
            returned: _,
            told_do: _,
            sweeps,
            departure,
            held,
            lost,
            // What it is, and what holds for its life (SEED-12, SEED-15).
            key: _,
            peer: _,
            uid: _,
            host: _,
            gave_notice: _,
            has_ticket: _,
            // The account is compared with what there is elsewhere.
            account: _,
        } = self;
        assert_eq!(*sweeps, broker.sweeps.of_process(id).len());
        let known =
            |c: &ConnectionId| broker.peers.connections.get(c).is_some_and(|c| c.process == id);
        assert!(connections.iter().all(known), "{connections:?} of {id:?}");
        assert!(
            !connections.is_empty() || self.is_marked(),
            "nothing is to be remembered of {id:?}"
        );
        assert_eq!((*unwritten, *recovering), (0, 0), "writes of {id:?} were answered");
        assert!(refusing.is_empty() || *verdict == Some(false), "{refusing:?}");
        let keeps =
            |s: &SessionId| broker.sessions.all.get(s).is_some_and(|s| s.kept_by.contains(&id));
        assert!(told.iter().all(keeps), "{id:?} keeps sessions that have ended: {told:?}");
        assert_ne!(*departure, Departure::Doing, "no Do is under way");
        assert!(held.is_empty(), "what was held by a Do of {id:?}: {held:?}");
        assert!(lost.len() <= crate::peers::process::MAX_LOST);
    }
}

impl Process {
    /// Whether something must be remembered of it as long as it lives, connected or not.
    fn is_marked(&self) -> bool {
        self.verdict.is_some()
            || self.gave_notice
            || self.departure == Departure::Done
            || !self.lost.is_empty()
    }

    /// Sessions whose providers were told of its leaving.
    pub(crate) fn told(&self) -> BTreeSet<SessionId> {
        self.notified.iter().copied().chain(self.told_do.iter().map(|(id, _)| *id)).collect()
    }

    /// Whether it has said that it leaves a session, and has not logged on to it since.
    pub(crate) fn is_leaving(&self, id: SessionId) -> bool {
        self.notified.contains(&id) && !self.returned.contains(&id)
    }

    /// Forgets a session that has ended.
    pub(crate) fn forget_session(&mut self, id: SessionId) {
        self.notified.remove(&id);
        self.returned.remove(&id);
        self.told_do.retain(|(session, _)| *session != id);
    }

    /// Whether a store still has to answer one of its writes. If the write fails, its Do reports that.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.unwritten > 0 || self.recovering > 0
    }
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Processes {
    by_id: NumberMap<ProcessId, Process>,
    /// The most recent hosts of processes without connections that may come back. A copy of the library that comes while the host
    /// is away is not the host.
    former: VecDeque<Former>,
    /// What processes, their users and the broker use.
    pub(crate) accounts: Accounts,
    /// Processes that were forgotten while a sweep ran for them.
    gone: Vec<ProcessId>,
    made: u64,
}

impl Processes {
    /// The process of a new connection, and its account.
    pub(crate) fn connect(
        &mut self,
        identity: PeerIdentity,
        connection: ConnectionId,
    ) -> (ProcessId, AccountId) {
        let account = self.accounts.of_process(&identity.key, identity.uid);
        self.accounts.connected(account);
        if let Some(id) = self.accounts.image(account, &identity.key) {
            let process = self.by_id.get_mut(&id).expect("an image is known");
            // A process that is remembered without a connection counts as one connection.
            if !process.connections.is_empty() {
                self.accounts.charge(account, Quota::Connections, 1);
            }
            process.connections.insert(connection);
            return (id, account);
        }
        self.accounts.charge(account, Quota::Connections, 1);
        self.made += 1;
        let id = ProcessId(self.made);
        self.accounts.add_image(account, &identity.key, id);
        let place = self.former.iter().position(|former| former.key == identity.key);
        let former = place.and_then(|place| self.former.remove(place)).map(|former| former.host);
        let process = Process {
            account,
            key: identity.key,
            peer: identity.peer,
            uid: identity.uid,
            connections: BTreeSet::from([connection]),
            unwritten: 0,
            recovering: 0,
            host: match former {
                Some(host) => host,
                None if identity.served_before => Host::Unproven,
                None => Host::Copy { library: identity.library, since: identity.since },
            },
            verdict: None,
            refusing: BTreeSet::new(),
            notified: BTreeSet::new(),
            returned: BTreeSet::new(),
            gave_notice: false,
            departure: Departure::No,
            has_ticket: false,
            told_do: BTreeSet::new(),
            sweeps: 0,
            held: Vec::new(),
            lost: Vec::new(),
        };
        self.by_id.insert(id, process);
        (id, account)
    }

    /// Removes a connection. With the last one the process is forgotten, unless it must be remembered until it ends. Then it counts
    /// as one connection, because it costs memory and a descriptor that signals its end. Returns the requests that waited for its
    /// Do and are dropped.
    pub(crate) fn disconnect(&mut self, id: ProcessId, connection: ConnectionId) -> Vec<Held> {
        let Some(process) = self.by_id.get_mut(&id) else { return Vec::new() };
        process.connections.remove(&connection);
        self.accounts.disconnected(process.account);
        if process.connections.is_empty() {
            return self.forget_if_over(id);
        }
        self.accounts.pay_back(process.account, Quota::Connections, 1);
        Vec::new()
    }

    /// Forgets a process without connections, unless something of it must be remembered. Returns the requests that waited for its
    /// Do.
    pub(crate) fn forget_if_over(&mut self, id: ProcessId) -> Vec<Held> {
        let over = |p: &&Process| p.connections.is_empty() && !p.is_marked() && !p.is_unwritten();
        if let Some(process) = self.by_id.get(&id).filter(over) {
            if process.has_ticket {
                let Process { key, uid, host, .. } = process;
                self.former.push_back(Former { key: key.clone(), uid: *uid, host: *host });
                if self.former.len() > FORMER {
                    self.forget_former();
                }
            }
            return self.remove(id).map(|process| process.held).unwrap_or_default();
        }
        Vec::new()
    }

    /// Forgets the oldest host of the process with the most hosts, of the user with the most. So a user with many processes, or a
    /// process with many images, costs no other process its host.
    fn forget_former(&mut self) {
        let mut of_user: HashMap<u32, usize> = HashMap::new();
        let mut of_process: HashMap<(u32, KernelProcess), usize> = HashMap::new();
        for former in &self.former {
            *of_user.entry(former.uid).or_default() += 1;
            *of_process.entry((former.uid, former.key.kernel())).or_default() += 1;
        }
        let count = |f: &Former| (of_user[&f.uid], of_process[&(f.uid, f.key.kernel())]);
        let most = self.former.iter().map(count).max();
        let place = self.former.iter().position(|former| Some(count(former)) == most);
        place.and_then(|place| self.former.remove(place));
    }

    /// Forgets a process that has ended. Returns it if it was known.
    pub(crate) fn end(&mut self, key: &ProcessKey) -> Option<(ProcessId, Process)> {
        self.former.retain(|former| former.key != *key);
        let gone = |id: &ProcessId| self.by_id.get(id).is_some_and(|p| p.connections.is_empty());
        let id = self.accounts.find(key).filter(gone)?;
        Some((id, self.remove(id)?))
    }

    fn remove(&mut self, id: ProcessId) -> Option<Process> {
        let process = self.by_id.remove(&id)?;
        if process.sweeps > 0 {
            self.gone.push(id);
        }
        self.accounts.remove_image(process.account, &process.key);
        self.accounts.pay_back(process.account, Quota::Connections, 1);
        Some(process)
    }

    /// Whether processes were forgotten while a sweep ran for them.
    pub(crate) fn some_are_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Takes the processes that were forgotten while a sweep ran for them.
    pub(crate) fn take_gone(&mut self) -> Vec<ProcessId> {
        std::mem::take(&mut self.gone)
    }

    /// The account of a process; the broker's account if the process is gone.
    pub(crate) fn account(&self, id: ProcessId) -> AccountId {
        self.by_id.get(&id).map_or(AccountId::BROKER, |process| process.account)
    }

    /// The payer whose turn the calls of a process take.
    #[inline]
    pub(crate) fn payer(&self, process: &Process) -> Payer {
        let account = process.account;
        match self.accounts.whose(account).0 {
            Whose::Process(_, uid) if self.accounts.has_connections(account) => {
                Payer::User(uid, Source::Process(account))
            }
            Whose::Process(_, uid) | Whose::User(uid) => Payer::User(uid, Source::LeftBehind),
            Whose::Broker => Payer::Broker,
        }
    }

    /// Charges a process.
    pub(crate) fn charge(&mut self, id: ProcessId, what: Quota, count: usize) {
        let Some(process) = self.by_id.get(&id) else { return };
        self.accounts.charge(process.account, what, count);
    }

    /// Gives back a charge of a process.
    pub(crate) fn pay_back(&mut self, id: ProcessId, what: Quota, count: usize) {
        let Some(process) = self.by_id.get(&id) else { return };
        self.accounts.pay_back(process.account, what, count);
    }

    /// Charges a process until the charge is given back.
    pub(crate) fn book(&mut self, id: ProcessId, what: Quota, count: usize) -> Charge {
        let account = self.account(id);
        self.accounts.book(account, what, count)
    }

    /// Ends the charge of a logon in progress.
    #[inline]
    pub(crate) fn pay_as_member(&mut self, asker: Asker) {
        match asker.counts {
            Counts::Nothing => {}
            Counts::Member => self.accounts.pay_back(asker.account, Quota::Members, 1),
        }
    }

    /// Gives back what a request cost whose connection has closed, when it is answered or dropped.
    pub(crate) fn pay_left_behind(&mut self, asker: Asker) {
        self.pay_as_member(asker);
        let Asker { account, bytes, .. } = asker;
        if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
            self.accounts.pay_left_behind(account, bytes as usize);
        }
    }

    pub(crate) fn find(&self, key: &ProcessKey) -> Option<&Process> {
        self.by_id.get(&self.accounts.find(key)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.by_id.values()
    }

    pub(crate) fn get(&self, id: ProcessId) -> Option<&Process> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ProcessId) -> Option<&mut Process> {
        self.by_id.get_mut(&id)
    }
}

/// An accepted submission that was lost, and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failed {
    pub(crate) entry: sundown_protocol::EntryId,
    pub(crate) why: crate::ground::provider::ProviderError,
}

/// The most lost messages that a process is told of.
pub(crate) const MAX_LOST: usize = 1_024;
