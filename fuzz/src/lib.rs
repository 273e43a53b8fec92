//! What must hold whatever arrives, a function each: the fuzz targets, and the replay of their corpora on every test run.
//!
//! A function takes any bytes and panics when something does not hold. Where a door is closed from outside, the file
//! behind it is read here as it stands, so that what is fuzzed is what ships.

mod account;
mod answers;
mod broker;
mod codec;
mod dialogue;
mod frame;
mod head;
mod imap;
mod mail;
mod search;
mod settings;
mod transfer;

pub use account::account;
pub use answers::answers;
pub use broker::broker;
pub use codec::codec;
pub use dialogue::dialogue;
pub use frame::frame;
pub use head::head;
pub use imap::imap;
pub use mail::mail;
pub use search::search;
pub use settings::settings;
pub use transfer::transfer;

// Where the files that are read here look for what they use.
use sundown_core::provider;
use sundown_providers::headers;

/// What must hold for any bytes.
pub type Target = fn(&[u8]);

/// The targets, as their corpora are called.
pub const TARGETS: [(&str, Target); 12] = [
    ("frame", frame),
    ("codec", codec),
    ("head", head),
    ("mail", mail),
    ("search", search),
    ("transfer", transfer),
    ("settings", settings),
    ("answers", answers),
    ("dialogue", dialogue),
    ("imap", imap),
    ("account", account),
    ("broker", broker),
];
