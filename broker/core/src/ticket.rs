//! Tickets: what the broker knows of a process, in a form that the next broker believes.
//!
//! ```text
//!  host      Unproven ──a copy shows a ticket──► Copy          never back
//!            └ an earlier broker may have served the process
//!  ticket    version │ host │ since │ facts │ MAC over all that, the process and its user
//!            1 byte    16     8       1       32
//! ```
//!
//! A broker's memory ends with it, and a process outlives brokers: its host, its verdict and whether it was shut down hold for
//! the life of the process (SEED-12, SEED-15). The client library keeps them as a ticket and shows it to the next broker. The MAC
//! is made with a key that the brokers of one runtime directory share. It covers the process as the kernel names it, so a ticket
//! of one process is worth nothing to another.
//!
//! Facts only grow: a ticket that is older than what the broker knows takes nothing back. Where two tickets name two hosts,
//! the earlier one is right: the later one was given while the first copy was away.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::time::Duration;
use sundown_protocol::request::{Blob, Ticket};
use sundown_protocol::{Code, Event as News, Fault, MemberId, Notification, Reply};

use crate::broker::Broker;
use crate::connection::Asker;
use crate::event::{Effect, Turn};
use crate::process::{Departure, Process, ProcessId};
use crate::timers::Timer;

/// What the first byte of a ticket says.
const VERSION: u8 = 1;
/// Keeps a MAC of a ticket from being one of anything else.
const PURPOSE: &[u8] = b"sundown ticket 1";

const HAS_HOST: u8 = 1;
const SAID_YES: u8 = 1 << 1;
const SAID_NO: u8 = 1 << 2;
const NOTICED: u8 = 1 << 3;
const DONE: u8 = 1 << 4;

/// The bytes in front of the MAC.
const BODY: usize = 1 + 16 + 8 + 1;

/// The key that the brokers of one runtime directory share.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TicketKey(pub [u8; 32]);

impl fmt::Debug for TicketKey {
    /// It is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(…)")
    }
}

/// Which copy of the library may shut its process down (SEED-15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// The copy that came first, and when, since the machine started.
    Copy { library: [u8; 16], since: Duration },
    /// An earlier broker may have served the process, so the copy that came first is not known. No copy has the right until
    /// one shows a ticket.
    Unproven,
}

/// What a ticket says of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claims {
    host: Host,
    verdict: Option<bool>,
    noticed: bool,
    done: bool,
}

impl Claims {
    fn of(process: &Process) -> Self {
        Self {
            host: process.host,
            verdict: process.verdict,
            noticed: process.gave_notice,
            done: process.departure == Departure::Done,
        }
    }

    fn body(self) -> [u8; BODY] {
        let mut body = [0; BODY];
        body[0] = VERSION;
        let mut facts = 0;
        if let Host::Copy { library, since } = self.host {
            body[1..17].copy_from_slice(&library);
            body[17..25].copy_from_slice(&(since.as_nanos() as u64).to_le_bytes());
            facts |= HAS_HOST;
        }
        facts |= match self.verdict {
            Some(true) => SAID_YES,
            Some(false) => SAID_NO,
            None => 0,
        };
        facts |= if self.noticed { NOTICED } else { 0 };
        facts |= if self.done { DONE } else { 0 };
        body[25] = facts;
        body
    }

    fn seal(self, key: TicketKey, process: &Process) -> Ticket {
        let body = self.body();
        let mac = mac(key, process, &body).finalize().into_bytes();
        Ticket(Blob([&body[..], &mac[..]].concat()))
    }

    /// What a ticket says, if it was made with this key for this process.
    fn open(key: TicketKey, process: &Process, ticket: &Ticket) -> Option<Self> {
        let (body, sum) = ticket.0.0.split_first_chunk::<BODY>()?;
        mac(key, process, body).verify_slice(sum).ok()?;
        if body[0] != VERSION {
            return None;
        }
        let has = |fact| body[25] & fact != 0;
        let library = body[1..17].try_into().expect("sixteen bytes");
        let since = u64::from_le_bytes(body[17..25].try_into().expect("eight bytes"));
        let host = if has(HAS_HOST) {
            Host::Copy { library, since: Duration::from_nanos(since) }
        } else {
            Host::Unproven
        };
        let verdict = has(SAID_YES).then_some(true).or(has(SAID_NO).then_some(false));
        Some(Self { host, verdict, noticed: has(NOTICED), done: has(DONE) })
    }
}

fn mac(key: TicketKey, process: &Process, body: &[u8; BODY]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("any length of key will do");
    mac.update(PURPOSE);
    mac.update(&process.key.0);
    mac.update(&process.uid.to_le_bytes());
    mac.update(body);
    mac
}

impl Broker {
    /// Takes what an earlier broker said of the process, and gives the process its ticket, now and at each change of it.
    pub(crate) fn ticket(
        &mut self,
        asker: Asker,
        shown: Option<&Ticket>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let id = asker.process;
        if let Some(shown) = shown {
            self.believe(id, shown, turn)?;
        }
        let connection =
            self.connections.get_mut(&asker.connection).expect("who asks is connected");
        connection.told_tickets = true;
        if let Some(process) = self.processes.get_mut(id) {
            process.has_ticket = true;
        }
        let ticket = self.sealed(id);
        self.answer(asker, Ok(Reply::Ticket(ticket)), turn);
        let members = self.connections.get(&asker.connection).map(|c| c.members.clone());
        for member in members.unwrap_or_default() {
            self.tell_tag(member, turn);
        }
        Ok(())
    }

    fn believe(&mut self, id: ProcessId, shown: &Ticket, turn: &mut Turn) -> Result<(), Fault> {
        let key = self.settings.broker.ticket_key;
        let process = self.processes.get_mut(id).expect("who asks is connected");
        let Some(claims) = Claims::open(key, process, shown) else {
            let message = "this ticket was not given to this process by a broker with this runtime directory; \
                           go on without it: log off instead of shutting down fast";
            return Err(Fault::new(Code::E_NO_ACCESS, message));
        };
        let before = Claims::of(process);
        process.host = earlier(process.host, claims.host);
        process.verdict = process.verdict.or(claims.verdict);
        process.gave_notice |= claims.noticed;
        if claims.done && process.departure == Departure::No {
            process.departure = Departure::Done;
            self.timers.set(turn.tick.boot, Timer::TearDown(id));
        }
        if self.processes.get(id).is_some_and(|process| Claims::of(process) != before) {
            self.tell_ticket(id, turn);
        }
        Ok(())
    }

    fn sealed(&self, id: ProcessId) -> Ticket {
        let process = self.processes.get(id).expect("a process with a connection is known");
        Claims::of(process).seal(self.settings.broker.ticket_key, process)
    }

    /// What a process keeps has changed: each connection that asked for tickets is told, before the answer that shows the
    /// change.
    pub(crate) fn tell_ticket(&self, id: ProcessId, turn: &mut Turn) {
        let connections = self.processes.get(id).into_iter().flat_map(|p| &p.connections);
        let wants = |c: &&_| self.connections.get(*c).is_some_and(|c| c.told_tickets);
        for connection in connections.filter(wants).copied() {
            let event = News::Ticket(self.sealed(id));
            let notification = Notification { member: MemberId(0), advises: Vec::new(), event };
            turn.emit(Effect::Notify { connection, notification });
        }
    }
}

/// Of two hosts the one that came first.
fn earlier(one: Host, other: Host) -> Host {
    match (one, other) {
        (Host::Copy { since, .. }, Host::Copy { since: before, .. }) if before < since => other,
        (Host::Unproven, host) | (host, _) => host,
    }
}
