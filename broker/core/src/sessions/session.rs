//! Sessions: their providers are logged on, and their members share them.
//!
//! ```text
//!            joinable                              not joinable
//!  ┌─────────────────────────────────┐   ┌──────────────────────────────┐
//!  Starting ──► Active ⇄ Memberless        Ending ──vacated──► Closing ──► ended
//!     │            └───shared logoff──────────┘                   ▲
//!     │            └──vacated, nothing to linger for──────────────┘
//!     └──► failed: the waiting requests are told
//! ```
//!
//! A private session is never joinable and never memberless.

use std::collections::BTreeSet;
use std::time::Duration;

use sundown_protocol::reply::{LoggedOff, Peer};
use sundown_protocol::{MemberId, SessionId, SessionTag};

use crate::ground::event::{EngineId, ProcessId};
use crate::ground::provider::ProviderType;
use crate::ground::settings::{Profile, Version};
use crate::peers::account::Charge;
use crate::peers::connection::Asker;
use crate::peers::waiting::{SessionKey, Sharing, Waiting};
use crate::providers::view::{Provider, ProviderState};
use crate::queue::plan::Sender;

/// A session.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// Its name for later brokers.
    pub(crate) tag: SessionTag,
    pub(crate) key: SessionKey,
    pub(crate) sharing: Sharing,
    pub(crate) state: SessionState,
    /// Known once the profile was read.
    pub(crate) profile: Option<Box<Profile>>,
    pub(crate) version: InUse,
    pub(crate) providers: Vec<Provider>,
    /// In the order of their logons, which is that of their numbers. The first member owns the session.
    pub(crate) members: BTreeSet<MemberId>,
    /// How many of the members have mail.
    pub(crate) with_mail: usize,
    /// Members that registered for store events.
    pub(crate) listeners: BTreeSet<MemberId>,
    /// Members that registered for extended events. When thousands of members leave, a departure need not look at all of them.
    pub(crate) curious: BTreeSet<MemberId>,
    /// Processes that remember the session, because its providers were told that they leave.
    pub(crate) kept_by: BTreeSet<ProcessId>,
    /// Requests that wait for the session to start.
    pub(crate) waiting: Vec<Waiting>,
    /// The charge for its providers and their threads, until it is closed.
    pub(crate) charge: Charge,
    /// Logoffs that wait until all members are gone.
    pub(crate) leavers: Vec<(Asker, LoggedOff)>,
    /// Processes that were evicted.
    pub(crate) evicted: Vec<Peer>,
    /// Whether the broker opened it by itself, for mail in the queue, and no member joined since.
    pub(crate) adopted: bool,
    /// What happens to its mail after it has closed.
    pub(crate) mail: MailAfter,
}

/// Which version of its profile's file a session uses, and when the file was last looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    pub(crate) version: Version,
    /// When it was read, in milliseconds since 1970.
    pub(crate) read: u64,
    /// When the file was last looked at, as time since the machine started.
    pub(crate) looked: Duration,
    /// Why the present version of the file is not used.
    pub(crate) refused: Option<String>,
    /// Whether the profile names other stores than those that the session has open.
    pub(crate) stores: Stores,
    /// Whether providers are leaving, because the profile does not have them any more.
    pub(crate) leaving: bool,
}

/// Whether a session's stores are those of its profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stores {
    #[default]
    OfProfile,
    /// The next session opens those of the profile.
    Others,
}

/// What happens to a closed session's mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailAfter {
    /// It waits for a logon: the session stayed as long as the settings say.
    Waits,
    /// It goes on in the joinable session of the same profile, which is started if there is none.
    GoesOn,
}

/// The states of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// Its profile is read and its providers log on.
    Starting,
    Active,
    /// It has no member, and its mail goes out.
    Memberless,
    /// A member ended it for all. The others may stay until the deadline.
    Ending {
        by: Peer,
        deadline: Option<Duration>,
    },
    /// Its providers log off, in the order of the phases.
    Closing {
        phase: u32,
    },
}

impl Session {
    pub(crate) fn is_shared(&self) -> bool {
        self.sharing == Sharing::Shared
    }

    /// Whether logons may join, now or once it has started.
    pub(crate) fn is_joinable(&self) -> bool {
        use SessionState::{Active, Memberless, Starting};
        self.is_shared() && matches!(self.state, Starting | Active | Memberless)
    }

    /// Whether it is starting and one of its stores is not open yet.
    pub(crate) fn opens_stores(&self) -> bool {
        let opens = |p: &Provider| {
            let opening =
                matches!(p.state, ProviderState::Configured | ProviderState::LoggingOn(_));
            p.kind == ProviderType::Store && opening
        };
        let stores = self.providers.is_empty() || self.providers.iter().any(opens);
        self.state == SessionState::Starting && stores
    }

    /// Whether its transports may begin a message.
    pub(crate) fn may_send(&self) -> bool {
        use SessionState::{Active, Ending, Memberless};
        matches!(self.state, Active | Memberless | Ending { .. })
    }

    /// Whether its profile has mailboxes, or had.
    pub(crate) fn has_mailboxes(&self) -> bool {
        self.providers.iter().any(|provider| provider.kind == ProviderType::Mailbox)
    }

    /// Whether its providers are logging off and take no other calls.
    pub(crate) fn closes(&self) -> bool {
        matches!(self.state, SessionState::Closing { .. })
    }

    /// The engine of the store at this place in the profile, if the store is available.
    pub(crate) fn engine(&self, store: u16) -> Option<EngineId> {
        let mut stores = self.providers.iter().filter_map(|p| p.engine.map(|e| (p, e)));
        let (provider, engine) = stores.nth(store as usize)?;
        (provider.state == ProviderState::Available).then_some(engine)
    }

    /// The places and engines of its stores.
    pub(crate) fn engines(&self) -> impl Iterator<Item = (u16, EngineId)> {
        (0u16..).zip(self.providers.iter().filter_map(|p| p.engine))
    }

    pub(crate) fn profile(&self) -> &Profile {
        self.profile.as_ref().expect("a session that started has read its profile")
    }

    /// The session's part in planning a message.
    pub(crate) fn sender(&self) -> Sender<'_> {
        Sender { session: self.id, profile: self.profile(), providers: &self.providers }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            SessionState::Starting => "starting",
            SessionState::Active => "active",
            SessionState::Memberless => "memberless",
            SessionState::Ending { .. } | SessionState::Closing { .. } => "ending",
        }
    }
}
