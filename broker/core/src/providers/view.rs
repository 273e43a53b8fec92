//! A session's view of a provider: its logon, its answer about fast shutdown, and whether it can be reached.
//!
//! A view outlives the workers of its provider: a worker that hangs is left behind, and another one replaces it.

use std::time::Duration;

use sundown_protocol::reply::LastOutcome;

use crate::ground::event::{EngineId, LaneId};
use crate::ground::provider::{AskedBy, FastShutdown, MailboxReport, ProviderSpec, ProviderType};

/// A session's view of one configured provider.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Provider {
    pub(crate) kind: ProviderType,
    pub(crate) name: String,
    pub(crate) lane: LaneId,
    /// For a store, the lane of its reader.
    pub(crate) reader: Option<LaneId>,
    /// For a store, its engine.
    pub(crate) engine: Option<EngineId>,
    /// As what it was logged on.
    pub(crate) configured: Box<ProviderSpec>,
    /// Its place among the providers of its kind in the profile.
    pub(crate) spec: usize,
    pub(crate) part: Part,
    pub(crate) state: ProviderState,
    pub(crate) fast_shutdown: FastShutdown,
    /// Its first answer to `QueryFastShutdown`. The answer of a store is in its engine.
    pub(crate) stance: Option<Stance>,
    /// The call for which a fast shutdown last gave it up, until it answers a call.
    pub(crate) late: Option<&'static str>,
    /// How many messages a transport is handling.
    pub(crate) in_flight: usize,
    /// How many messages a transport may be handed at once.
    pub(crate) window: usize,
    /// The most recipients that a transport takes at once.
    pub(crate) most_recipients: usize,
    /// How long a transport may take for a message, apart from the time for its size.
    pub(crate) longest: Duration,
    /// Whether a transport can be reached.
    pub(crate) reach: Reach,
    /// When it was last found that it could not be reached, as time since the machine started.
    pub(crate) not_reached_at: Duration,
    /// A user's request to try a transport, which waits for its logon.
    pub(crate) probe: Option<u64>,
    /// How often a transport's account was refused since it last worked.
    pub(crate) refusals: u32,
    /// How often it was disabled since it last worked.
    pub(crate) outages: u32,
    /// Until when the broker does not enable it again by itself.
    pub(crate) rests_until: Duration,
    /// Whether a mailbox was told to watch.
    pub(crate) watching: bool,
    /// Whether a mailbox was told of pending changes.
    pub(crate) poke: Poke,
    /// What a mailbox last said of itself.
    pub(crate) report: MailboxReport,
    /// Whether a `ValidateState` is in progress.
    pub(crate) validating: bool,
    /// The first thing found wrong with it. The trouble of a store is in its engine.
    pub(crate) trouble: Option<Trouble>,
    /// Calls for this session that it has not answered.
    pub(crate) unanswered: usize,
    /// For a transport, what came of its last use.
    pub(crate) last: Option<LastOutcome>,
    /// When a transport last worked, in milliseconds since 1970.
    pub(crate) worked: Option<u64>,
}

/// Whether a mailbox was told that there are pending changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Poke {
    #[default]
    Idle,
    /// The call is not answered yet.
    Called,
    /// Nor is it, and there were more changes since.
    Again,
}

/// Whether the session's profile still has a provider as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It has.
    InUse,
    /// It was changed or removed. The provider finishes what it has begun and logs off.
    Leaving,
}

/// The longest text of an outcome, in bytes. A server may say more.
const MAX_OUTCOME: usize = 512;

/// The states of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProviderState {
    /// It was not called yet.
    Configured,
    /// Its logon is in progress, after this many failures.
    LoggingOn(u32),
    Available,
    /// Its logon failed twice. It is disabled for the life of the session (LOGON-11), unless a user flushes the queue.
    Failed(String),
    LoggingOff,
    Gone,
}

/// What is wrong with a provider that goes on. The first of a kind is kept; damage counts more than a wrong answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Some of its data is damaged.
    Damage(String),
    /// It answered a call with something that does not fit the call.
    WrongAnswer(String),
    /// It accepts no more writes until it is opened again.
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

/// Whether a transport can be reached. The number counts the tries since it was last reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As far as is known.
    Yes,
    /// It is not tried for a while.
    No { tries: u32 },
    /// It was asked whether it works, and may take a while to answer.
    Asked { tries: u32, asked_by: AskedBy },
    /// It is handed one message.
    Trying { tries: u32 },
}

impl Reach {
    /// Whether messages wait until the transport is tried again.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::No { .. } | Self::Asked { .. })
    }

    pub(crate) fn tries(self) -> u32 {
        match self {
            Self::Yes => 0,
            Self::No { tries } | Self::Asked { tries, .. } | Self::Trying { tries } => tries,
        }
    }
}

impl Provider {
    /// Whether messages are arriving by this mailbox.
    pub(crate) fn receives(&self) -> bool {
        self.watching && self.report.syncing.is_some()
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.part == Part::InUse
    }

    /// Notes what came of using a transport.
    pub(crate) fn note_outcome(&mut self, at: u64, worked: bool, text: &str) {
        if worked {
            self.worked = Some(at);
        }
        // A server mostly says the same.
        if let Some(last) = self.last.as_mut().filter(|last| last.text == text) {
            (last.at, last.worked) = (at, worked);
            return;
        }
        let boundaries = text.char_indices().map(|(place, c)| place + c.len_utf8());
        let end = boundaries.take_while(|end| *end <= MAX_OUTCOME).last().unwrap_or(0);
        let text = text[..end].replace(char::is_control, " ");
        self.last = Some(LastOutcome { at, worked, text });
    }

    /// Notes that there are changes a mailbox is to be told of. Whether it is called now.
    pub(crate) fn next_poke(&mut self) -> bool {
        let idle = self.poke == Poke::Idle;
        self.poke = if idle { Poke::Called } else { Poke::Again };
        idle
    }

    /// When the broker tries a transport again that does not work now, as time since the machine started.
    pub(crate) fn tried_again_at(&self) -> Option<Duration> {
        matches!(self.state, ProviderState::Failed(_)).then_some(self.rests_until)
    }

    /// How many more messages a transport may be handed. None while it logs on again or cannot be reached.
    pub(crate) fn room(&self) -> usize {
        let most = match (&self.state, self.reach) {
            _ if self.part == Part::Leaving => 0,
            (ProviderState::Available, reach) if reach.waits() => 0,
            (ProviderState::Available, Reach::Trying { .. }) => 1,
            _ => usize::MAX,
        };
        self.room_to_recover().min(most.saturating_sub(self.in_flight))
    }

    /// How many more messages, cut off by a crash, a transport may be asked to recover. A recovery is done locally, so it does not
    /// matter whether the transport can be reached.
    pub(crate) fn room_to_recover(&self) -> usize {
        match self.state {
            ProviderState::LoggingOn(_) => 0,
            _ => self.window.saturating_sub(self.in_flight),
        }
    }

    /// Whether messages wait because the transport cannot be reached.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.state == ProviderState::Available && self.reach.waits()
    }

    /// Whether the last vain try to reach it was made since a message is over its age limit, by so much. A message that waits for it
    /// is given up only then: the transport may work by now.
    pub(crate) fn was_tried_within(&self, overdue: Option<Duration>, now: Duration) -> bool {
        overdue.is_some_and(|overdue| self.not_reached_at + overdue >= now)
    }
}

/// A provider's first answer about fast shutdown. It holds for the provider's life (SEED-17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    Supports,
    Refuses,
    /// It does not know the interface.
    Unaware,
}
