//! What Sundown's broker decides, and nothing of how it is done.
//!
//! [`Broker`] is one owned state with one function, [`Broker::apply`]: an [`Event`] goes in, [`Effect`]s come out. Time
//! and chance are arguments ([`Tick`]). There is no thread, socket, file, clock, lock, environment or randomness here,
//! so every behaviour can be tested by a list of events.
//!
//! State is in machines, each in its folder, one above the other. A machine calls those below it, knows none above it, and says
//! what it found out by what its functions return. Flows lead through several machines, so they are the broker's. The rule is held
//! by a test (`tests::house`).
//!
//! ```text
//!  Event ─► broker · requests · then          which flow it is, and what goes on with a provider's answer
//!             │
//!             ▼
//!           flows      arriving · working · sending · leaving · calling
//!             │
//!             ▼
//!           sessions   sessions, members, objects, grants
//!           queue      stores, schedules, flights, what is decided of one message
//!           providers  views, lanes, calls, workers that hang
//!           peers      connections, processes, accounts, tickets
//!           ground     events and effects, calls of providers, settings, timers
//! ```
//!
//! Where to look for what:
//!
//! | file | story |
//! |---|---|
//! | `ground/event` | what can happen, and what can be done about it |
//! | `broker` | the one owner of all state; `apply` |
//! | `requests` | the table of all requests |
//! | `then` | what goes on with which answer of a provider |
//! | `flows/arriving` | from a connection to a session: logons, profiles, tickets |
//! | `flows/working` | what a member does in its session: objects, messages, grants, notifications, `Status` |
//! | `flows/sending` | a message from its submit to its last recipient |
//! | `flows/leaving` | logoff, fast shutdown, and the end of the broker |
//! | `flows/calling` | calls of providers, and what becomes of providers that do not answer |

mod broker;
mod flows;
mod ground;
mod peers;
mod providers;
mod queue;
mod requests;
mod sessions;
mod then;

#[cfg(test)]
mod tests;

pub use broker::Broker;
pub use flows::working::figures::{DEPARTURES, Figures};
pub use ground::event::{
    Behalf, CallId, ConnectionId, Effect, End, EngineId, Event, KernelProcess, LaneId, LaneSpec,
    PeerIdentity, ProcessKey, Stop, Tick,
};
pub use ground::settings::TicketKey;
pub use ground::{address, local, provider, settings};
