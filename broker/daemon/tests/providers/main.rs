//! Providers that somebody else wrote, in a broker of this process: what they are called, when, and what they may do then.
//!
//! | module | what it has |
//! |---|---|
//! | `probe` | stores, transports, mailboxes and address books that hang, refuse, panic, are slow or lack the interface, as a test says |
//! | `broker` | a broker with such providers, and its clients |
//! | `shutdowns` | stories of Query, Notify and Do with providers that answer |
//! | `misbehaviour` | one provider of each type misbehaves in each of the three calls |
//! | `sweeps` | the order of a sweep when a provider hangs, what it costs other processes, and what is said meanwhile |
//! | `lies` | a store that answers with something else |
//! | `floods` | providers that answer too much |
//! | `mailboxes` | when a mailbox watches, what is shown of it, and the command for its new mail |

mod broker;
mod floods;
mod lies;
mod mailboxes;
mod misbehaviour;
mod probe;
mod shutdowns;
mod sweeps;
