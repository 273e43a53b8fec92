//! What Sundown's broker decides, and nothing of how it is done.
//!
//! [`Broker`] is one owned state with one function, [`Broker::apply`]: an [`Event`] goes in, [`Effect`]s come out. Time
//! and chance are arguments ([`Tick`]). There is no thread, socket, file, clock, lock, environment or randomness here,
//! so every behaviour can be tested by a list of events.
//!
//! The flow goes down once and up once:
//!
//! ```text
//!  Event ─► connection ─► process ─► session ─► object / provider call
//!                                                   │
//!  Effect ◄─ answer to the asker, notifications ◄───┘
//! ```
//!
//! A provider's answer comes back as an event of its own. Where to look for what:
//!
//! | file | story |
//! |---|---|
//! | [`event`](Event) | what can happen, and what can be done about it |
//! | `broker` | the one owner of all state; `apply` |
//! | `requests` | the table of all requests |
//! | `connection`, `process` | who asks, and what it may use up |
//! | `session`, `logon`, `logoff` | sessions and their members, from the first logon to the last departure |
//! | `member`, `object`, `advise` | what a member owns; who is told |
//! | `messages`, `submit` | what goes to a store and back |
//! | `answer`, `expected`, `then` | what a provider must answer to which call, and what goes on with that |
//! | `engine`, `spooler` | a store and its outgoing queue; the way of a message to its transport |
//! | `lanes` | who may call a provider next |
//! | `shutdown` | fast shutdown: query, notify, do, for one process |
//! | `renewal` | providers that are made anew for others after one process's Do |
//! | `ends` | shared logoffs over a restart of the broker |
//! | `ticket` | what a process keeps over a restart of the broker |
//! | `grants` | one object in the hands of another process |
//! | `stop`, `status`, `timers`, `numbers` | as they say |

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
pub use ground::{address, provider, settings};
