//! A session's view of a provider: how far its logon is, what it said of fast shutdown, whether it can be reached.
//!
//! A view outlives the workers of its provider: one that hangs is left behind, and another one begins.

use std::time::Duration;

use crate::ground::event::{EngineId, LaneId};
use crate::ground::provider::{FastShutdown, ProviderType};

/// A session's view on one configured provider.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Provider {
    pub(crate) kind: ProviderType,
    pub(crate) name: String,
    pub(crate) lane: LaneId,
    /// Of a store, the lane of its reader.
    pub(crate) reader: Option<LaneId>,
    /// Of a store, its engine.
    pub(crate) engine: Option<EngineId>,
    /// Of a transport, its place in the profile.
    pub(crate) transport: usize,
    pub(crate) state: ProviderState,
    pub(crate) fast_shutdown: FastShutdown,
    /// Its first answer to `QueryFastShutdown`; a store's is its engine's.
    pub(crate) stance: Option<Stance>,
    /// The call that it was last given up for in a fast shutdown, until it answers something.
    pub(crate) late: Option<&'static str>,
    /// Messages a transport is busy with.
    pub(crate) in_flight: usize,
    /// Messages that a transport may be handed at once.
    pub(crate) window: usize,
    /// The most recipients that a transport takes at once.
    pub(crate) most_recipients: usize,
    /// How long a transport may be busy with a message of no size.
    pub(crate) longest: Duration,
    /// Whether a transport can be reached.
    pub(crate) reach: Reach,
    /// How often a transport's account was refused since it worked last.
    pub(crate) refusals: u32,
    /// How often it was put out since it worked last.
    pub(crate) outages: u32,
    /// Until when the broker leaves it out by itself.
    pub(crate) rests_until: Duration,
    /// Whether somebody finds out whether it works.
    pub(crate) validating: bool,
    /// What was found wrong with it first; a store's is its engine's.
    pub(crate) trouble: Option<Trouble>,
    /// Calls made for this session that it has not answered.
    pub(crate) unanswered: usize,
}

/// Where a provider is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProviderState {
    /// It was not called yet.
    Configured,
    /// Its logon runs; how many failed before.
    LoggingOn(u32),
    Available,
    /// Its logon failed twice: it is out for the life of the session (LOGON-11), unless somebody flushes the queue.
    Failed(String),
    LoggingOff,
    Gone,
}

/// What is wrong with a provider that goes on. The first of a kind is kept; damage counts more than a wrong answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Something in it is damaged.
    Damage(String),
    /// It answered a call with something that is no answer to it.
    WrongAnswer(String),
    /// It takes nothing more until it is opened again.
    Failed(String),
}

impl Trouble {
    pub(crate) fn note(known: &mut Option<Self>, trouble: Self) {
        let counts = match (&*known, &trouble) {
            (None, _) | (Some(Self::WrongAnswer(_)), Self::Damage(_)) => true,
            (Some(known), Self::Failed(_)) => !matches!(known, Self::Failed(_)),
            (Some(_), _) => false,
        };
        if counts {
            *known = Some(trouble);
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Damage(what) => format!("damaged: {what}"),
            Self::WrongAnswer(what) => format!("wrong: {what}"),
            Self::Failed(what) => format!("failed: {what}"),
        }
    }
}

/// Whether a transport can be reached. The number counts the tries since it was reached last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As far as is known.
    Yes,
    /// It is left alone for a while.
    No { tries: u32 },
    /// It was asked whether it works, and may take a while for an answer.
    Asked { tries: u32 },
    /// It is handed one message.
    Trying { tries: u32 },
}

impl Reach {
    /// Messages wait until it is tried again.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::No { .. } | Self::Asked { .. })
    }

    pub(crate) fn tries(self) -> u32 {
        match self {
            Self::Yes => 0,
            Self::No { tries } | Self::Asked { tries } | Self::Trying { tries } => tries,
        }
    }
}

impl Provider {
    /// How many more messages a transport may be handed; none while it logs on again or cannot be reached.
    pub(crate) fn room(&self) -> usize {
        let most = match (&self.state, self.reach) {
            (ProviderState::Available, reach) if reach.waits() => 0,
            (ProviderState::Available, Reach::Trying { .. }) => 1,
            _ => usize::MAX,
        };
        self.room_to_recover().min(most.saturating_sub(self.in_flight))
    }

    /// How many more messages a transport may be asked about that a crash cut off: what became of one is found out here, and not at
    /// the other end.
    pub(crate) fn room_to_recover(&self) -> usize {
        match self.state {
            ProviderState::LoggingOn(_) => 0,
            _ => self.window.saturating_sub(self.in_flight),
        }
    }

    /// Whether its messages wait because it cannot be reached.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.state == ProviderState::Available && self.reach.waits()
    }
}

/// What a provider said first about fast shutdown; it holds for the provider's life (SEED-17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    Supports,
    Refuses,
    /// It does not know the interface.
    Unaware,
}
