//! Tickets: what the broker knows of a process, in a form that the next broker believes.
//!
//! ```text
//!  host      Unproven ──a copy shows a ticket──► Copy          never back
//!            └ an earlier broker may have served the process
//!  ticket    version │ host │ since │ facts │ MAC over all that, the process and its user
//!            1 byte    16     8       1       32
//! ```
//!
//! A broker's memory ends with it, but a process outlives brokers: its host, its verdict and whether it was shut down hold for the
//! life of the process (SEED-12, SEED-15). The client library keeps them as a ticket and shows it to the next broker. The MAC uses
//! a key that the brokers of one runtime directory share. It covers the process as the kernel names it, so a ticket of one process
//! is worth nothing to another.
//!
//! Facts are only added: a ticket that is older than the broker's knowledge removes nothing. If two tickets name two hosts, the
//! earlier host is right, because the later ticket was issued while the first copy was away.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sundown_protocol::request::{Blob, Ticket};

use crate::ground::settings::TicketKey;
use crate::peers::process::{Departure, Process};

/// The first byte of a ticket.
const VERSION: u8 = 1;

/// Keeps the MAC of a ticket distinct from MACs of other data.
const PURPOSE: &[u8] = b"sundown ticket 1";

const HAS_HOST: u8 = 1;

const SAID_YES: u8 = 1 << 1;

const SAID_NO: u8 = 1 << 2;

const NOTICED: u8 = 1 << 3;

const DONE: u8 = 1 << 4;

/// The bytes before the MAC.
const BODY: usize = 1 + 16 + 8 + 1;

/// The copy of the library that may shut its process down (SEED-15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// The copy that came first, and when it came, since the machine started.
    Copy { library: [u8; 16], since: Duration },
    /// An earlier broker may have served the process, so the copy that came first is unknown. No copy has the right until one shows
    /// a ticket.
    Unproven,
}

/// What a ticket states about its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) host: Host,
    pub(crate) verdict: Option<bool>,
    pub(crate) noticed: bool,
    pub(crate) done: bool,
}

impl Claims {
    pub(crate) fn of(process: &Process) -> Self {
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

    pub(crate) fn seal(self, key: TicketKey, process: &Process) -> Ticket {
        let body = self.body();
        let mac = mac(key, process, &body).finalize().into_bytes();
        Ticket(Blob([&body[..], &mac[..]].concat()))
    }

    /// What a ticket states, if it was made with this key for this process.
    pub(crate) fn open(key: TicketKey, process: &Process, ticket: &Ticket) -> Option<Self> {
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

/// The host that came first.
pub(crate) fn earlier(one: Host, other: Host) -> Host {
    match (one, other) {
        (Host::Copy { since, .. }, Host::Copy { since: before, .. }) if before < since => other,
        (Host::Unproven, host) | (host, _) => host,
    }
}
