//! Full-text search of a store: an index in a database of its own beside the store's file, and a thread that builds it.
//!
//! The index can be deleted at any time, also while it is open. One that is missing, damaged, of another version or of another store is
//! made anew from the store's messages; no user sees an error of it. It holds words, and not the messages: a search answers the numbers
//! (`seq`) of messages in the store, the newest first.
//!
//! | file | is about |
//! |---|---|
//! | `document.rs`, `mime.rs` | what of a message can be searched |
//! | `words.rs` | how text becomes words |
//! | `query.rs` | what people type |
//! | `files.rs`, `index.rs`, `reader.rs` | the database: its files, its writer, its readers |
//! | `indexer.rs` | the thread |
//! | `source.rs` | the messages of a store |
//!
//! What was decided, and what it costs, is in `docs/decisions/0031-full-text-search.md`.

mod document;
mod files;
mod index;
mod indexer;
mod mime;
mod query;
mod reader;
mod source;
#[cfg(test)]
mod tests;
mod words;

pub use document::{Document, LOOKED_AT};
pub use files::path_of;
pub use index::Index;
pub use indexer::{Changed, Indexer, Pace, Progress, Row, Source};
pub use query::Query;
pub use reader::{Page, Reader};
pub use source::StoreSource;
