//! Why work on a mailbox ends.

use std::path::Path;

use sundown_core::provider::ProviderError;

use crate::fault;

/// Why work on a mailbox ends.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The mailbox is to rest, or its session has ended.
    Told,
    /// The directory of the mailbox is not at its path.
    Lost(Standing),
    /// A server refuses what one folder or message needs, or says of it what cannot be. The others go on.
    Refused(ProviderError),
    /// The store, the file system or the server fails.
    Failed(ProviderError),
}

impl From<ProviderError> for Halt {
    fn from(error: ProviderError) -> Self {
        Self::Failed(error)
    }
}

impl Halt {
    /// That a path could not be used.
    pub(crate) fn at(path: &Path, error: &std::io::Error) -> Self {
        Self::Failed(fault::io(path, error))
    }
}

/// What is at the path of a Maildir that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The directory that was opened, or what cannot be looked at.
    There,
    /// Nothing.
    Removed,
    /// Something else: another directory, or the empty one below a file system that was unmounted.
    Replaced,
}
