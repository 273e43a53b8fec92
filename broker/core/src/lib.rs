//! What Sundown's broker decides. How it is carried out is not part of this crate.
//!
//! [`Broker`] is one owned state with one function, [`Broker::apply`]: an [`Event`] goes in, [`Effect`]s come out. Time and chance
//! are arguments ([`Tick`]). There is no thread, socket, file, clock, lock, environment or randomness here, so every behaviour can
//! be tested by a list of events.
//!
//! The state is held by state machines, each in its folder, in layers. A machine calls those below it, knows none above it, and
//! reports what it finds out in the results of its functions. Flows use several machines, so they are methods of the broker. A test
//! (`tests::house`) enforces the rule.
//!
//! ```text
//!  Event ─► broker · requests · then          which flow it is, and the continuation of a provider's answer
//!             │
//!             ▼
//!           flows      arriving · working · sending · leaving · calling
//!             │
//!             ▼
//!           sessions   sessions, members, objects, grants
//!           queue      stores, schedules, flights, what is decided about one message
//!           providers  views, lanes, calls, workers that hang
//!           peers      connections, processes, accounts, tickets
//!           ground     events and effects, calls of providers, settings, timers
//! ```
//!
//! Where to look for what:
//!
//! | file | story |
//! |---|---|
//! | `ground/event` | what can happen, and what is to be done about it |
//! | `broker` | the one owner of all state; `apply` |
//! | `requests` | the table of all requests |
//! | `then` | the continuation of each answer of a provider |
//! | `flows/arriving` | from a connection to a session: logons, profiles, tickets |
//! | `flows/working` | what a member does in its session: objects, messages, grants, notifications, `Status` |
//! | `flows/sending` | a message from its submit to its last recipient |
//! | `flows/leaving` | logoff, fast shutdown, and the end of the broker |
//! | `flows/calling` | calls of providers, and providers that do not answer |

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
pub use flows::working::figures::{
    DEPARTURES, Figures, MailboxFigures, ProfileFigures, TransportFigures,
};
pub use ground::event::{
    Behalf, CallId, ConnectionId, Effect, End, EngineId, Event, KernelProcess, LaneId, LaneSpec,
    PeerIdentity, ProcessKey, ProviderNews, QuestionId, Returned, Stop, Tick, Trouble,
};
pub use ground::settings::TicketKey;
pub use ground::{address, expired, local, provider, settings};
pub use queue::age::Running;
