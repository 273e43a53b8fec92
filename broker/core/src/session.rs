//! Sessions: what providers are logged on to and members share.
//!
//! ```text
//!            joinable                              not joinable
//!  ┌─────────────────────────────────┐   ┌──────────────────────────────┐
//!  Starting ──► Active ⇄ Memberless        Ending ──vacated──► Closing ──► ended
//!     │            └───shared logoff──────────┘                   ▲
//!     │            └──vacated, nothing to linger for──────────────┘
//!     └──► failed: whoever waited is told
//! ```
//!
//! A private session is never joinable and never memberless.

use std::collections::BTreeSet;
use std::time::Duration;

use sundown_protocol::reply::{LoggedOff, Peer};
use sundown_protocol::request::{LogonFlags, QueueAction};
use sundown_protocol::{MemberId, SessionId, SessionTag};

use crate::account::Charge;
use crate::connection::Asker;
use crate::event::{EngineId, LaneId};
use crate::process::ProcessId;
use crate::provider::{FastShutdown, ProviderType};
use crate::reach::Reach;
use crate::settings::Profile;
use crate::shutdown::Stance;
use crate::status::Trouble;

/// Who a shared session is for: the user and the profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionKey {
    pub(crate) user: u32,
    pub(crate) profile: String,
}

/// One session.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// Its name for brokers to come.
    pub(crate) tag: SessionTag,
    pub(crate) key: SessionKey,
    pub(crate) sharing: Sharing,
    pub(crate) state: SessionState,
    /// Known once the profile was read.
    pub(crate) profile: Option<Box<Profile>>,
    pub(crate) providers: Vec<Provider>,
    /// In the order of their logons, which is that of their numbers; the first one owns the session.
    pub(crate) members: BTreeSet<MemberId>,
    /// Those of them with mail.
    pub(crate) with_mail: usize,
    /// Members who registered for what happens in stores.
    pub(crate) listeners: BTreeSet<MemberId>,
    /// Members who registered for extended events: when thousands leave, the thousands are not all looked at each time.
    pub(crate) curious: BTreeSet<MemberId>,
    /// Processes that keep something of it: that its providers were told of their leaving.
    pub(crate) kept_by: BTreeSet<ProcessId>,
    /// Who waits for the session to start.
    pub(crate) waiting: Vec<Waiting>,
    /// What pays for its providers and their threads, until it is closed.
    pub(crate) charge: Charge,
    /// Logoffs that wait for everybody to be gone.
    pub(crate) leavers: Vec<(Asker, LoggedOff)>,
    /// Who was put out.
    pub(crate) evicted: Vec<Peer>,
    /// Whether the broker opened it by itself, for mail in the queue, and nobody joined since.
    pub(crate) adopted: bool,
    /// What becomes of its mail when it has closed.
    pub(crate) mail: MailAfter,
}

/// What becomes of a closed session's mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailAfter {
    /// It waits for a logon: the session stayed as long as settings wanted.
    Waits,
    /// It goes on in the joinable session of the same profile, made for it if there is none.
    GoesOn,
}

/// Whether others may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Private,
}

/// Where a session is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// Its profile is read and its providers log on.
    Starting,
    Active,
    /// Nobody is here, and mail goes out.
    Memberless,
    /// Somebody ended it for everybody; until when the others may stay.
    Ending {
        by: Peer,
        deadline: Option<Duration>,
    },
    /// Its providers log off; the phase counts.
    Closing {
        phase: u32,
    },
}

/// Who waits for a session to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waiting {
    Logon(Asker, LogonFlags),
    /// A client that was in this session before it was ended; whether it was told of that.
    Return {
        asker: Asker,
        flags: LogonFlags,
        told: bool,
    },
    /// The queue of one profile.
    Queue(Asker, String, QueueAction),
    /// The queues of all open stores, once the sessions up to this one have opened theirs.
    Queues {
        asker: Asker,
        action: QueueAction,
        newest: SessionId,
    },
}

impl Waiting {
    pub(crate) fn asker(&self) -> Asker {
        match self {
            Self::Logon(asker, _)
            | Self::Return { asker, .. }
            | Self::Queue(asker, ..)
            | Self::Queues { asker, .. } => *asker,
        }
    }
}

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

impl Session {
    pub(crate) fn is_shared(&self) -> bool {
        self.sharing == Sharing::Shared
    }

    /// Whether logons may join, now or once it has started.
    pub(crate) fn is_joinable(&self) -> bool {
        use SessionState::{Active, Memberless, Starting};
        self.is_shared() && matches!(self.state, Starting | Active | Memberless)
    }

    /// Whether it starts, and what is in one of its stores is not known yet.
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

    /// Whether its providers log off, and are used for nothing else.
    pub(crate) fn closes(&self) -> bool {
        matches!(self.state, SessionState::Closing { .. })
    }

    /// The engine of the store at this place in the profile.
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

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            SessionState::Starting => "starting",
            SessionState::Active => "active",
            SessionState::Memberless => "memberless",
            SessionState::Ending { .. } | SessionState::Closing { .. } => "ending",
        }
    }
}
