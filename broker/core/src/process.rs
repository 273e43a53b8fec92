//! Processes: all connections of one operating-system process are one.

use std::collections::{BTreeSet, HashMap, VecDeque};

use sundown_protocol::SessionId;
use sundown_protocol::reply::Peer;
use sundown_protocol::request::Request;

use crate::broker::Broker;
use crate::connection::Asker;
use crate::event::{ConnectionId, PeerIdentity, ProcessKey};
use crate::member::Failed;
use crate::numbers::NumberMap;
use crate::quota::{Charge, Quota, Used};
use crate::session::{SessionKey, Sharing, Waiting};
use crate::ticket::Host;

/// Of how many processes without connections the host is remembered, whoever they belong to.
const FORMER: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u64);

/// One process and what it uses up.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Process {
    pub(crate) key: ProcessKey,
    pub(crate) peer: Peer,
    pub(crate) uid: u32,
    pub(crate) connections: BTreeSet<ConnectionId>,
    /// What quotas are about.
    pub(crate) used: Used,
    /// Bytes of deferred submissions that were answered and are not durable.
    pub(crate) unwritten: u64,
    /// Drafts of members that are gone, on their way to a store.
    pub(crate) recovering: usize,
    /// The copy of the library that speaks for the process.
    pub(crate) host: Host,
    /// The answer to `QueryFastShutdown`, for the life of the process (SEED-12).
    pub(crate) verdict: Option<bool>,
    /// Providers that made it no.
    pub(crate) refusing: BTreeSet<String>,
    /// Sessions whose providers were told by `NotifyProcessShutdown`.
    pub(crate) notified: BTreeSet<SessionId>,
    /// Whether it said that it will leave, to this broker or an earlier one.
    pub(crate) gave_notice: bool,
    pub(crate) departure: Departure,
    /// Whether a copy of the library in it keeps a ticket.
    pub(crate) has_ticket: bool,
    /// Providers that have answered a Do of this process with success, should the Do as a whole have failed: by session and place.
    pub(crate) told_do: BTreeSet<(SessionId, usize)>,
    /// What it asked while its Do runs, in order.
    pub(crate) held: Vec<Held>,
    /// What it handed over and is not stored, with no member left to be told: its Do says so.
    pub(crate) lost: Vec<Failed>,
}

/// Something that waits for the outcome of its process's Do.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum Held {
    Request {
        asker: Asker,
        request: Box<Request>,
    },
    /// A session has started meanwhile for this logon.
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

/// How far a process is with `DoFastShutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    No,
    /// What it handed over is being made durable.
    Doing,
    /// It takes no calls any more.
    Done,
}

#[cfg(test)]
impl Processes {
    /// Checks what is kept of processes that wait for nothing.
    pub(crate) fn check_at_rest(&self, broker: &Broker) {
        // What users use is compared with what their processes do elsewhere.
        let Self { by_id, by_key, former, users: _, left_behind, made: _ } = self;
        assert!(left_behind.is_empty(), "requests that were answered: {left_behind:?}");
        assert_eq!(by_id.len(), by_key.len(), "{by_key:?}");
        for (id, process) in by_id {
            assert_eq!(by_key.get(&process.key), Some(id), "each has its key");
            process.check_at_rest(*id, broker);
        }
        // The last of them, to know them again. Those that are here are known.
        let here = former.iter().any(|(key, _)| by_key.contains_key(key));
        assert!(former.len() <= FORMER && !here, "{former:?}");
    }

    /// Whether nothing is kept of any process but of those that may come back.
    pub(crate) fn are_gone(&self) -> bool {
        let Self { by_id, by_key, former: _, users, left_behind, made: _ } = self;
        by_id.is_empty() && by_key.is_empty() && users.is_empty() && left_behind.is_empty()
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
            // What its sessions were told: it ends with them.
            notified: _,
            told_do: _,
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
            // It is compared with what it has elsewhere.
            used: _,
        } = self;
        let known = |c: &ConnectionId| broker.connections.get(c).is_some_and(|c| c.process == id);
        assert!(connections.iter().all(known), "{connections:?} of {id:?}");
        assert!(
            !connections.is_empty() || self.is_marked(),
            "nothing is to be remembered of {id:?}"
        );
        assert_eq!((*unwritten, *recovering), (0, 0), "writes of {id:?} were answered");
        assert!(refusing.is_empty() || *verdict == Some(false), "{refusing:?}");
        let keeps = |s: &SessionId| broker.sessions.get(s).is_some_and(|s| s.kept_by.contains(&id));
        assert!(told.iter().all(keeps), "{id:?} keeps sessions that have ended: {told:?}");
        assert_ne!(*departure, Departure::Doing, "no Do is under way");
        assert!(held.is_empty(), "what was held by a Do of {id:?}: {held:?}");
        assert!(lost.len() <= crate::shutdown::MAX_LOST);
    }
}

impl Broker {
    /// Whether there is such a process: with a connection, or with something that must be remembered of it until it ends.
    pub fn remembers(&self, process: &ProcessKey) -> bool {
        self.processes.find(process).is_some()
    }

    /// The connections of a process.
    pub fn connections_of(&self, process: &ProcessKey) -> impl Iterator<Item = ConnectionId> + '_ {
        self.processes.find(process).into_iter().flat_map(|p| p.connections.iter().copied())
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

    /// A session has ended.
    pub(crate) fn forget_session(&mut self, id: SessionId) {
        self.notified.remove(&id);
        self.told_do.retain(|(session, _)| *session != id);
    }

    /// Whether a store still has to answer for something that it handed over: if that is lost, its Do says so.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.unwritten > 0 || self.recovering > 0
    }
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Processes {
    by_id: NumberMap<ProcessId, Process>,
    by_key: HashMap<ProcessKey, ProcessId>,
    /// Hosts of processes that have no connection any more and may come back, the last of them. A copy of the library that comes
    /// while the host is away is no host.
    former: VecDeque<(ProcessKey, Host)>,
    /// What all processes of a user use, and what they have left behind.
    users: NumberMap<u32, Used>,
    /// Of each user, what requests cost whose connections are gone and that are not answered.
    left_behind: NumberMap<u32, usize>,
    made: u64,
}

impl Processes {
    /// The process behind a new connection.
    pub(crate) fn connect(
        &mut self,
        identity: PeerIdentity,
        connection: ConnectionId,
    ) -> ProcessId {
        let id = *self.by_key.entry(identity.key.clone()).or_insert_with(|| {
            self.made += 1;
            ProcessId(self.made)
        });
        // Another connection of a process that is here looks for nothing.
        let former = if self.by_id.contains_key(&id) {
            None
        } else {
            let place = self.former.iter().position(|(key, _)| *key == identity.key);
            place.and_then(|place| self.former.remove(place)).map(|(_, host)| host)
        };
        let process = self.by_id.entry(id).or_insert_with(|| Process {
            key: identity.key,
            peer: identity.peer,
            uid: identity.uid,
            connections: BTreeSet::new(),
            used: Used::default(),
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
            gave_notice: false,
            departure: Departure::No,
            has_ticket: false,
            told_do: BTreeSet::new(),
            held: Vec::new(),
            lost: Vec::new(),
        });
        process.connections.insert(connection);
        self.charge(id, Quota::Connections, 1);
        id
    }

    /// A connection is gone; with the last one the process is, unless it must be remembered until it ends. What of it waited for
    /// its Do, and waits for nothing any more.
    pub(crate) fn disconnect(&mut self, id: ProcessId, connection: ConnectionId) -> Vec<Held> {
        self.pay_back(id, Quota::Connections, 1);
        let Some(process) = self.by_id.get_mut(&id) else { return Vec::new() };
        process.connections.remove(&connection);
        self.forget_if_over(id)
    }

    /// Forgets a process without connections of which there is nothing to be remembered. What of it waited for its Do.
    pub(crate) fn forget_if_over(&mut self, id: ProcessId) -> Vec<Held> {
        let over = |p: &&Process| p.connections.is_empty() && !p.is_marked() && !p.is_unwritten();
        if let Some(process) = self.by_id.get(&id).filter(over) {
            if process.has_ticket {
                if self.former.len() == FORMER {
                    self.former.pop_front();
                }
                self.former.push_back((process.key.clone(), process.host));
            }
            self.by_key.remove(&process.key);
            return self.by_id.remove(&id).map(|process| process.held).unwrap_or_default();
        }
        Vec::new()
    }

    /// The process has ended. What was known of it, if it was.
    pub(crate) fn end(&mut self, key: &ProcessKey) -> Option<(ProcessId, Process)> {
        self.former.retain(|(former, _)| former != key);
        let gone = |id: &ProcessId| self.by_id.get(id).is_some_and(|p| p.connections.is_empty());
        let id = self.by_key.get(key).copied().filter(gone)?;
        self.by_key.remove(key);
        Some((id, self.by_id.remove(&id)?))
    }

    /// A process has so many more, and its user too.
    pub(crate) fn charge(&mut self, id: ProcessId, what: Quota, count: usize) {
        let Some(process) = self.by_id.get_mut(&id) else { return };
        process.used.add(what, count);
        self.users.entry(process.uid).or_default().add(what, count);
    }

    /// A process has so many less, and its user too.
    pub(crate) fn pay_back(&mut self, id: ProcessId, what: Quota, count: usize) {
        let Some(process) = self.by_id.get_mut(&id) else { return };
        process.used.take(what, count);
        let uid = process.uid;
        self.take_from_user(uid, what, count);
    }

    /// Something counts for a process until it is given back.
    pub(crate) fn book(&mut self, id: ProcessId, what: Quota, count: usize) -> Charge {
        let uid = self.by_id.get(&id).map_or(u32::MAX, |process| process.uid);
        self.charge(id, what, count);
        Charge { process: id, uid, what, count }
    }

    /// What counts already has grown by so many.
    pub(crate) fn book_more(&mut self, charge: &mut Charge, count: usize) {
        self.charge(charge.process, charge.what, count);
        charge.count += count;
    }

    /// What was counted is no more.
    pub(crate) fn give_back(&mut self, Charge { process, uid, what, count }: Charge) {
        if let Some(process) = self.by_id.get_mut(&process) {
            process.used.take(what, count);
        }
        self.take_from_user(uid, what, count);
    }

    /// A connection is gone before its requests are answered: its user pays for them.
    pub(crate) fn leave_behind(&mut self, id: ProcessId, bytes: usize) {
        let Some(process) = self.by_id.get_mut(&id).filter(|_| bytes > 0) else { return };
        process.used.take(Quota::RequestBytes, bytes);
        *self.left_behind.entry(process.uid).or_default() += bytes;
    }

    /// A request is answered whose connection is gone, or will never be.
    pub(crate) fn pay_left_behind(&mut self, Asker { uid, bytes, .. }: Asker) {
        let Some(bytes) = bytes.map(|bytes| bytes as usize).filter(|bytes| *bytes > 0) else {
            return;
        };
        if let Some(left) = self.left_behind.get_mut(&uid) {
            *left -= bytes;
            if *left == 0 {
                self.left_behind.remove(&uid);
            }
        }
        self.take_from_user(uid, Quota::RequestBytes, bytes);
    }

    fn take_from_user(&mut self, uid: u32, what: Quota, count: usize) {
        if let Some(user) = self.users.get_mut(&uid) {
            user.take(what, count);
            if user.is_nothing() {
                self.users.remove(&uid);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn find_id(&self, key: &ProcessKey) -> Option<ProcessId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn has_left_behind(&self) -> bool {
        !self.left_behind.is_empty()
    }

    /// What users have left behind.
    #[cfg(test)]
    pub(crate) fn left_behind(&self) -> impl Iterator<Item = (u32, usize)> {
        self.left_behind.iter().map(|(uid, bytes)| (*uid, *bytes))
    }

    /// What all processes of a user use.
    pub(crate) fn used_by(&self, uid: u32) -> Used {
        self.users.get(&uid).copied().unwrap_or_default()
    }

    /// Users who use something.
    pub(crate) fn users(&self) -> impl Iterator<Item = (u32, Used)> {
        self.users.iter().map(|(uid, used)| (*uid, *used))
    }

    pub(crate) fn find(&self, key: &ProcessKey) -> Option<&Process> {
        self.by_id.get(self.by_key.get(key)?)
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
