//! The peers: connections, processes, what each of them uses, and what they wait for.

#![expect(
    clippy::inline_always,
    reason = "each request is booked and settled once, by one caller each"
)]

pub(crate) mod account;
pub(crate) mod connection;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod ticket;
pub(crate) mod waiting;

use sundown_protocol::{Code, Correlation, Fault, RequestId};

use crate::ground::event::{ConnectionId, PeerIdentity, ProcessId};
use crate::ground::numbers::NumberMap;
use crate::ground::settings::Settings;
use crate::peers::account::{AccountId, Whose};
use crate::peers::connection::{Asker, Connection, Counts, Hears};
use crate::peers::process::{Process, Processes};
use crate::peers::quota::Quota;

/// All peers. Each request is charged here and given back here, once.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Peers {
    pub(crate) connections: NumberMap<ConnectionId, Connection>,
    pub(crate) processes: Processes,
    /// How many requests were made since the start, those that were refused included.
    pub(crate) requests_made: u64,
}

/// Whether the asker hears the answer to a request that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Yes,
    /// Its connection has closed, or it was told before that there is no answer.
    No,
}

impl Peers {
    /// Adds a connection of a process. A refused connection leaves no trace.
    pub(crate) fn connect(
        &mut self,
        id: ConnectionId,
        identity: PeerIdentity,
        settings: &Settings,
    ) -> Result<(), Fault> {
        let library = identity.library;
        let (process, account) = self.processes.connect(identity, id);
        if let Err(why) = self.check_process(process, Quota::Connections, 0, settings) {
            // The connection has asked nothing yet.
            let _ = self.processes.disconnect(process, id);
            return Err(why);
        }
        let granted = (settings.limits.requests, settings.limits.request_bytes);
        let connection = Connection::new((process, account), library, granted);
        self.connections.insert(id, connection);
        Ok(())
    }

    /// Charges a request of a connection, and returns its name in the log. The error says that the request exceeds what the
    /// connection was granted, which closes the connection. `None` if there is no such connection.
    #[inline(always)]
    pub(crate) fn charge(
        &mut self,
        id: ConnectionId,
        request: RequestId,
        bytes: Option<u64>,
    ) -> Option<Result<(Asker, Correlation), Fault>> {
        let connection = self.connections.get_mut(&id)?;
        let (process, account) = (connection.process, connection.account());
        if let Some(bytes) = bytes {
            if let Err((requests, most)) = connection.book(bytes) {
                let message =
                    format!("more than {requests} requests or {most} bytes unanswered at once");
                return Some(Err(Fault::new(Code::E_TOO_BIG, message)));
            }
            self.processes.accounts.charge(account, Quota::RequestBytes, bytes as usize);
        }
        let (counts, hears) = (Counts::Nothing, Hears::Answer);
        let called = Correlation::new(&connection.library, request);
        Some(Ok((
            Asker { connection: id, process, account, request, bytes, counts, hears },
            called,
        )))
    }

    /// Gives back what an answered request cost, even if its connection has closed.
    #[inline(always)]
    pub(crate) fn settle(&mut self, asker: Asker) -> Heard {
        let Some(connection) = self.connections.get_mut(&asker.connection) else {
            self.processes.pay_left_behind(asker);
            return Heard::No;
        };
        self.processes.pay_as_member(asker);
        if let Some(bytes) = asker.bytes {
            connection.give_back(bytes);
            let account = connection.account();
            self.processes.accounts.pay_back(account, Quota::RequestBytes, bytes as usize);
        }
        match asker.hears {
            Hears::Answer => Heard::Yes,
            Hears::Nothing => Heard::No,
        }
    }

    /// Removes a connection. Its unanswered requests stay charged, as left behind.
    pub(crate) fn disconnect(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        let bytes = connection.bytes as usize;
        self.processes.accounts.leave_behind(connection.account(), bytes);
        Some(connection)
    }

    /// Removes a connection from its process; nothing more is asked through it. If it was the last one, returns the user, and the
    /// account whose calls now wait as left behind.
    pub(crate) fn leave(
        &mut self,
        id: ConnectionId,
        connection: &Connection,
    ) -> Option<(u32, AccountId)> {
        let account = connection.account();
        let (whose, _) = self.processes.accounts.whose(account);
        for held in self.processes.disconnect(connection.process, id) {
            self.processes.pay_left_behind(held.asker());
        }
        match whose {
            Whose::Process(_, uid) if !self.processes.accounts.has_connections(account) => {
                Some((uid, account))
            }
            _ => None,
        }
    }

    /// The name of a request in the log.
    pub(crate) fn correlation(&self, asker: Asker) -> Option<Correlation> {
        let connection = self.connections.get(&asker.connection)?;
        Some(Correlation::new(&connection.library, asker.request))
    }

    /// The process of a request.
    pub(crate) fn of(&self, asker: Asker) -> Option<&Process> {
        self.processes.get(self.connections.get(&asker.connection)?.process)
    }

    /// Whether a process may have `more`.
    #[inline(always)]
    pub(crate) fn check_process(
        &self,
        process: ProcessId,
        what: Quota,
        more: usize,
        settings: &Settings,
    ) -> Result<(), Fault> {
        let Some(process) = self.processes.get(process) else { return Ok(()) };
        self.check_account(process.account, what, more, settings)
    }

    /// Whether `more` may be charged to an account and those above it.
    #[inline(always)]
    pub(crate) fn check_account(
        &self,
        account: AccountId,
        what: Quota,
        more: usize,
        settings: &Settings,
    ) -> Result<(), Fault> {
        let accounts = &self.processes.accounts;
        let mut next = account;
        loop {
            let (whose, above) = accounts.whose(next);
            what.check(whose, accounts.used(next).of(what) + more, settings)?;
            if next == AccountId::BROKER {
                return Ok(());
            }
            next = above;
        }
    }
}
