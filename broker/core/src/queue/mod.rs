//! Stores and their outgoing queues: what the broker knows of a queue, and what it decides about one message.

pub(crate) mod age;
pub(crate) mod change;
pub(crate) mod engine;
pub(crate) mod engines;
pub(crate) mod flight;
pub(crate) mod giving_up;
pub(crate) mod pace;
pub(crate) mod plan;
pub(crate) mod settle;
pub(crate) mod tally;
pub(crate) mod untold;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ground::numbers::NumberMap;
use crate::queue::age::Running;
use crate::queue::engine::ClosedStore;
use crate::queue::engines::Engines;
use crate::queue::flight::Flight;
use crate::queue::giving_up::GivingUp;
use crate::queue::pace::Minute;
use crate::queue::tally::Tally;

/// The queues of all stores.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Queues {
    /// The open stores.
    pub(crate) engines: Engines,
    /// The queues of closed stores.
    pub(crate) closed: BTreeMap<PathBuf, ClosedStore>,
    /// Messages on their way through a transport.
    pub(crate) flights: NumberMap<u64, Flight>,
    pub(crate) giving_up: GivingUp,
    /// For how long brokers had run when this one began.
    pub(crate) running: Running,
    /// How many notifications each profile has forwarded.
    pub(crate) paces: BTreeMap<String, Minute>,
    /// Submissions that became final since the start, by state.
    pub(crate) finals: [u64; 9],
    /// What has happened in each profile since the start.
    pub(crate) tally: Tally,
}
