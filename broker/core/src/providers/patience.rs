//! Whether something waits for a call, by what the call does.

use sundown_protocol::Code;
use sundown_protocol::request::AddressAction;

use crate::ground::provider::{AddressCall, ProviderCall, ProviderError, StoreRead, TransportCall};

/// Whether something waits for a call, by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// For an answer, and nothing else is changed.
    Question,
    /// For something to be done.
    Change,
    /// Nothing waits for the answer any more.
    OverForQuestion,
    /// Nothing waits, and what was changed is taken into account when the answer comes.
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
                | StoreRead::Oldest,
            )
            | ProviderCall::Address(
                AddressCall::List { .. } | AddressCall::Act(AddressAction::Resolve { .. }),
            )
            | ProviderCall::Transport(TransportCall::Validate) => Self::Question,
            _ => Self::Change,
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

/// What goes on with a question that was given up: nothing that needs its answer.
pub(crate) fn given_up() -> ProviderError {
    ProviderError::new(Code::E_TIMEOUT, "the provider answered when nothing waited for it any more")
}
