//! Whether something waits for a call, and whether the call changes anything.

use sundown_protocol::Code;
use sundown_protocol::request::AddressAction;

use crate::ground::provider::{
    AddressCall, MailboxCall, ProviderCall, ProviderError, StoreRead, TransportCall,
};

/// Whether something waits for a call, and whether the call changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// An answer is waited for, and nothing is changed.
    Question,
    /// A change is waited for.
    Change,
    /// Nothing waits for the answer any more.
    OverForQuestion,
    /// Nothing waits any more. The change still counts when the answer comes.
    OverForChange,
}

impl Patience {
    pub(crate) fn of(call: &ProviderCall) -> Self {
        match call {
            ProviderCall::Read(
                StoreRead::List { .. }
                | StoreRead::Find { .. }
                | StoreRead::Piece { .. }
                | StoreRead::Setting { .. }
                | StoreRead::Due { .. }
                | StoreRead::Queue { .. }
                | StoreRead::Submission { .. }
                | StoreRead::Oldest
                | StoreRead::Folders { .. }
                | StoreRead::FindFolder { .. }
                | StoreRead::Contents { .. }
                | StoreRead::Search { .. }
                | StoreRead::Mirrored { .. }
                | StoreRead::Directories { .. }
                | StoreRead::ChangedFolders { .. }
                | StoreRead::Pending { .. }
                | StoreRead::Cursor { .. }
                | StoreRead::Fetches { .. }
                | StoreRead::Lies { .. }
                | StoreRead::Tally { .. },
            )
            | ProviderCall::Mailbox(
                MailboxCall::Validate | MailboxCall::Sync | MailboxCall::Fetch { .. },
            )
            | ProviderCall::Address(
                AddressCall::List { .. } | AddressCall::Act(AddressAction::Resolve { .. }),
            )
            | ProviderCall::Transport(TransportCall::Validate(_)) => Self::Question,
            ProviderCall::Logon
            | ProviderCall::Renew
            | ProviderCall::Logoff
            | ProviderCall::Write(_)
            | ProviderCall::Transport(_)
            | ProviderCall::Mailbox(_)
            | ProviderCall::Address(_)
            | ProviderCall::QueryFastShutdown
            | ProviderCall::NotifyProcessShutdown
            | ProviderCall::DoFastShutdown => Self::Change,
        }
    }

    pub(crate) fn over(self) -> Self {
        match self {
            Self::Question | Self::OverForQuestion => Self::OverForQuestion,
            Self::Change | Self::OverForChange => Self::OverForChange,
        }
    }

    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::OverForQuestion | Self::OverForChange)
    }
}

/// The result of a question that was given up: its answer is not used.
pub(crate) fn given_up() -> ProviderError {
    ProviderError::new(Code::E_TIMEOUT, "the provider answered when nothing waited for it any more")
}
