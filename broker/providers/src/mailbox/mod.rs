//! What every mailbox has, whatever it mirrors: a thread that many sessions share, the orders it is given, and the store's side of it.
//!
//! | … | file |
//! |---|---|
//! | one thread for many sessions | `desk.rs` |
//! | what other threads ask it for | `orders.rs` |
//! | why its work ends | `halt.rs` |
//! | the store's pages and slices | `book.rs` |
//! | modified UTF-7 | `utf7.rs` |

mod book;
mod desk;
mod halt;
mod orders;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod utf7;

pub(crate) use book::{Book, PAGE, milliseconds, now};
pub(crate) use desk::{Desks, Seat, Work};
pub(crate) use halt::{Halt, Standing};
pub(crate) use orders::{Answered, Leave, Order, Orders, Waiting, Waker, answer, answer_with};
