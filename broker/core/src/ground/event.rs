//! What can happen, and what should be done about it: two closed lists.

use std::time::{Duration, SystemTime};

use sundown_protocol::reply::{Peer, Reply};
use sundown_protocol::request::Asked;
use sundown_protocol::{
    Correlation, EntryId, Fault, Notification, RequestId, SessionId, SessionTag,
};

use crate::ground::expected::Wrong;
use crate::ground::provider::{
    ProviderAnswer, ProviderCall, ProviderError, ProviderSpec, ProviderType,
};
use crate::ground::settings::{Profile, Settings};

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// One call of a provider that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// The way to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u64);

/// One open store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EngineId(pub u64);

/// What makes a process that process, as the kernel says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProcessKey(pub [u8; 32]);

/// A process as the kernel names it: a [`ProcessKey`] without the image, which the client names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelProcess(pub [u8; 16]);

impl ProcessKey {
    /// What the kernel says of the process. The images of one process have it in common. It is a connection's own where the kernel
    /// does not name the process.
    pub fn kernel(&self) -> KernelProcess {
        let (kernel, _) = self.0.split_first_chunk().expect("32 bytes have 16");
        KernelProcess(*kernel)
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Which process.
    pub key: ProcessKey,
    /// Its process id and the name it gave, for people.
    pub peer: Peer,
    /// Its user.
    pub uid: u32,
    /// Which copy of the library it is, in a program that may have several.
    pub library: [u8; 16],
    /// When it said hello, since the machine started: the same clock for each broker of a machine.
    pub since: Duration,
    /// Whether an earlier broker may have served the process.
    pub served_before: bool,
}

/// Monotonic time for timers, wall time for what is stored, entropy for jitter and ids.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// Since the machine started.
    pub boot: Duration,
    /// On the wall.
    pub wall: SystemTime,
    /// A fresh number each time.
    pub seed: u64,
}

impl Tick {
    /// Wall time in milliseconds since 1970.
    pub fn millis(&self) -> u64 {
        let since = self.wall.duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |d| d.as_millis() as u64)
    }
}

/// What can happen.
#[derive(Debug)]
pub enum Event {
    /// A peer said hello.
    Connected {
        /// Its connection.
        connection: ConnectionId,
        /// Who it is.
        identity: PeerIdentity,
    },
    /// A peer asked for something.
    Request {
        /// On which connection.
        connection: ConnectionId,
        /// What.
        asked: Asked,
        /// The size of the frame, for its account.
        bytes: usize,
    },
    /// A connection ended.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// The kernel says that a process ended, though something still holds its sockets.
    ProcessEnded {
        /// Which.
        process: ProcessKey,
    },
    /// A profile's settings were read, or could not be.
    ProfileLoaded {
        /// For which session.
        session: SessionId,
        /// The profile.
        result: Result<Box<Profile>, Fault>,
    },
    /// The profile has a store on disk, which may have mail in its queue. Said once at start.
    Adopt {
        /// The profile's name.
        profile: String,
    },
    /// Shared sessions that were ending when an earlier broker ended. Said once at start.
    Ends(Vec<End>),
    /// A profile was deleted, or could not be.
    ProfileDeleted {
        /// Its name.
        name: String,
        /// Why it could not.
        result: Result<(), Fault>,
    },
    /// A provider answered.
    Answered {
        /// Which call.
        call: CallId,
        /// What.
        result: Result<ProviderAnswer, ProviderError>,
    },
    /// A provider was not called after all: its worker had not begun the call when it was taken back.
    Withdrawn {
        /// Which call.
        call: CallId,
    },
    /// The worker of a lane that was closed has ended: its thread is no more.
    LaneEnded(LaneId),
    /// The time asked for has come.
    Timer,
    /// Some seconds have passed: calls that providers do not answer are looked at.
    Look,
    /// Somebody watches: figures that stores must be asked for are to be brought up to date.
    Measure,
    /// Settings were read again.
    Reload(Box<Settings>),
    /// The broker is to stop.
    Stop(Stop),
}

/// How the broker is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// For a restart: members are told and will come back.
    Restart,
    /// For good: members' sessions end.
    Final,
    /// For good, without waiting for members. Transports finish what they have begun.
    Fast,
    /// At once after a sync: a second signal.
    Now,
}

/// What should happen in the world. An effect is never refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer a request.
    Answer {
        /// On which connection.
        connection: ConnectionId,
        /// Which request.
        request: RequestId,
        /// The answer.
        result: Result<Reply, Fault>,
    },
    /// Write down that somebody wanted what is not theirs to have. It is told apart from other faults because whoever
    /// runs the broker should see it.
    Refused {
        /// Who asked: its program, and its user.
        peer: Peer,
        /// The user.
        uid: u32,
        /// The request.
        request: Correlation,
        /// What was refused, and why.
        why: Fault,
    },
    /// A process without connections was remembered for what it had on its way into a store, and is so no more: its end need not be
    /// awaited.
    Forgotten {
        /// Which one.
        process: ProcessKey,
    },
    /// Tell a member something.
    Notify {
        /// On which connection.
        connection: ConnectionId,
        /// What.
        notification: Notification,
    },
    /// End a connection, after saying why.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        why: Fault,
    },
    /// Make a worker, or two for a store: one that writes and one that reads beside it.
    OpenLane(Box<LaneSpec>),
    /// Call a provider. There is a place for it.
    Call {
        /// By which worker.
        lane: LaneId,
        /// The answer names it.
        call: CallId,
        /// For whom and about what.
        behalf: Box<Behalf>,
        /// The call.
        provider: ProviderCall,
    },
    /// Take a call back. If its provider has not begun it, it never does, and [`Event::Withdrawn`] says so; otherwise the call
    /// is answered as ever.
    Withdraw {
        /// Which worker has it.
        lane: LaneId,
        /// Which call.
        call: CallId,
    },
    /// Write down that a provider gave no answer within its kind's share of a fast shutdown, and is not waited for.
    GaveUp {
        /// The provider.
        provider: String,
        /// Its type.
        provider_type: ProviderType,
        /// What it was called for.
        call: &'static str,
        /// For whom.
        behalf: Box<Behalf>,
    },
    /// Write down that a provider does not answer, and for how long it has not.
    Hangs {
        /// The provider.
        provider: String,
        /// Its type.
        provider_type: ProviderType,
        /// What it was called for.
        call: &'static str,
        /// Since when.
        waited: Duration,
        /// For whom it was called, and about what.
        behalf: Box<Behalf>,
    },
    /// Write down that a provider answered a call with something that is no answer to it.
    WrongAnswer {
        /// The provider.
        provider: String,
        /// What it was called for.
        call: &'static str,
        /// What is wrong with the answer.
        wrong: Wrong,
        /// For whom it was called, and about what.
        behalf: Box<Behalf>,
    },
    /// Write down for the next broker that a shared session ends. What is said of it afterwards waits for that.
    KeepEnd(Box<End>),
    /// It need not be known any more.
    ForgetEnd(SessionTag),
    /// Let a worker end after what it has; a hung one is left behind.
    CloseLane(LaneId),
    /// Read a profile's settings.
    LoadProfile {
        /// For which session.
        session: SessionId,
        /// The profile's name.
        name: String,
    },
    /// Delete a profile's settings, and say [`Event::ProfileDeleted`].
    DeleteProfile {
        /// Its name.
        name: String,
    },
    /// Say [`Event::Timer`] at this time since the machine started; it replaces what was asked before.
    Arm(Duration),
    /// Everything is over.
    Stopped,
}

/// For whom a provider is called, and about what: its line in the log says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behalf {
    /// For which session, if for one.
    pub session: Option<SessionId>,
    /// For which process, if for one.
    pub pid: Option<u32>,
    /// The request that led to it, if a client's did.
    pub correlation: Option<Correlation>,
    /// The message it is about, if about one.
    pub entry: Option<EntryId>,
}

/// A worker to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneSpec {
    /// Its lane.
    pub lane: LaneId,
    /// For a store, the lane of its reader.
    pub reader: Option<LaneId>,
    /// What the provider is.
    pub provider_type: ProviderType,
    /// Its section in the profile.
    pub spec: ProviderSpec,
}

/// What provider calls are made for, as long as one thing leads to the next.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Errand {
    pub(crate) correlation: Option<Correlation>,
    pub(crate) entry: Option<EntryId>,
}

/// One event being applied: when, and where its effects go.
pub(crate) struct Turn<'a> {
    pub(crate) tick: Tick,
    pub(crate) errand: Errand,
    pub(crate) effects: &'a mut Vec<Effect>,
    drawn: u64,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(tick: Tick, effects: &'a mut Vec<Effect>) -> Self {
        Self { tick, errand: Errand::default(), effects, drawn: 0 }
    }

    /// A number by chance: the tick's seed, drawn out by `SplitMix64`.
    pub(crate) fn chance(&mut self) -> u64 {
        self.drawn += 1;
        let mut z = self.tick.seed.wrapping_add(self.drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A record's identifier by chance.
    pub(crate) fn record(&mut self) -> u128 {
        u128::from(self.chance()) << 64 | u128::from(self.chance())
    }

    /// Moves the answer to a request in front of what came out since: the call that causes an event returns before
    /// anybody is told of it (NOTIF-15).
    pub(crate) fn answer_first(
        &mut self,
        since: usize,
        connection: ConnectionId,
        request: RequestId,
    ) {
        let is_it = |effect: &Effect| {
            matches!(effect, Effect::Answer { connection: c, request: r, .. }
                if *c == connection && *r == request)
        };
        if let Some(place) = self.effects[since..].iter().position(is_it) {
            self.effects[since..=since + place].rotate_right(1);
        }
    }

    pub(crate) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u64);

/// A shared session that was ended for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The session's name for brokers to come.
    pub tag: SessionTag,
    /// Its user.
    pub user: u32,
    /// Its profile.
    pub profile: String,
    /// Who ended it.
    pub by: Peer,
    /// Until when its members may stay, since the machine started; `None` is without a limit.
    pub until: Option<Duration>,
}
