//! Events and effects: the closed lists of what can happen and what is to be done about it.

use std::time::{Duration, SystemTime};

use sundown_protocol::reply::{Peer, Reply};
use sundown_protocol::request::Asked;
use sundown_protocol::{
    Correlation, EntryId, Fault, Notification, RequestId, SessionId, SessionTag,
};

use crate::ground::expected::Wrong;
use crate::ground::local::Found;
use crate::ground::provider::{
    MailboxReport, News, ProviderAnswer, ProviderCall, ProviderError, ProviderSpec, ProviderType,
    StoreChange,
};
use crate::ground::settings::{LoadedProfile, Looked, Settings, Version};

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A provider call that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// The lane to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u64);

/// A question about users of this host that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub u64);

/// An open store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EngineId(pub u64);

/// Identifies a process, as the kernel states it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProcessKey(pub [u8; 32]);

/// A process as the kernel names it: a [`ProcessKey`] without the image, which the client names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelProcess(pub [u8; 16]);

impl ProcessKey {
    /// What the kernel says of the process, which all images of the process have in common. If the kernel does not name the
    /// process, it is different for each connection.
    pub fn kernel(&self) -> KernelProcess {
        let (kernel, _) = self.0.split_first_chunk().expect("32 bytes have 16");
        KernelProcess(*kernel)
    }
}

/// The identity of the peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The process.
    pub key: ProcessKey,
    /// Its process id and the name it gave, for people.
    pub peer: Peer,
    /// Its user.
    pub uid: u32,
    /// The copy of the library, in a program that may have several.
    pub library: [u8; 16],
    /// When it said hello, since the machine started: the same clock for all brokers of a machine.
    pub since: Duration,
    /// Whether an earlier broker may have served the process.
    pub served_before: bool,
}

/// Monotonic time for timers, wall time for what is stored, entropy for jitter and ids.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// Since the machine started.
    pub boot: Duration,
    /// The wall time.
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
        /// Its identity.
        identity: PeerIdentity,
    },
    /// A peer sent a request.
    Request {
        /// Its connection.
        connection: ConnectionId,
        /// The request.
        asked: Asked,
        /// The size of the frame, charged to its account.
        bytes: usize,
    },
    /// A connection closed.
    Disconnected {
        /// The connection.
        connection: ConnectionId,
    },
    /// The kernel says that a process ended, though its sockets are still open.
    ProcessEnded {
        /// The process.
        process: ProcessKey,
    },
    /// A profile's settings were read, or could not be.
    ProfileLoaded {
        /// The session that needs the profile.
        session: SessionId,
        /// The profile.
        result: Result<LoadedProfile, Fault>,
    },
    /// A profile's file was looked at, or its present version could not be read.
    ProfileLooked {
        /// The profile's name.
        name: String,
        /// What was found.
        result: Result<Looked, Fault>,
    },
    /// The system said which names are those of users, or did not say.
    UsersFound {
        /// The question.
        question: QuestionId,
        /// Each name of the question, and whether it is a user's.
        result: Result<Found, Fault>,
    },
    /// The profile has a store on disk, which may have messages in its queue. Sent once at start.
    Adopt {
        /// The profile's name.
        profile: String,
    },
    /// Shared sessions that were ending when an earlier broker ended. Sent once at start.
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
        /// The call.
        call: CallId,
        /// The answer.
        result: Result<ProviderAnswer, ProviderError>,
    },
    /// A mailbox has written into a store: what has changed there. The mailbox goes on when this was applied.
    StoreChanged {
        /// The lane of the store's writer.
        lane: LaneId,
        /// What has changed.
        changes: Vec<StoreChange>,
    },
    /// A mailbox says how far it is.
    MailboxReports {
        /// Its lane.
        lane: LaneId,
        /// What it says.
        report: MailboxReport,
    },
    /// A mailbox says that it works, or why it does not.
    MailboxSaid {
        /// Its lane.
        lane: LaneId,
        /// What it says.
        said: Result<(), ProviderError>,
    },
    /// A provider was not called after all: its worker had not begun the call when it was taken back.
    Withdrawn {
        /// The call.
        call: CallId,
    },
    /// The worker of a closed lane has ended, and so has its thread.
    LaneEnded(LaneId),
    /// The armed time has come.
    Timer,
    /// Some seconds have passed: calls that providers do not answer are checked.
    Look,
    /// The figures are read: those that only stores know are to be brought up to date.
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

/// What is to be done outside the core. An effect is never refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer a request.
    Answer {
        /// Its connection.
        connection: ConnectionId,
        /// The request.
        request: RequestId,
        /// The answer.
        result: Result<Reply, Fault>,
    },
    /// Log that a process asked for something that it may not have. This is distinct from other faults, because the administrator
    /// should see it.
    Refused {
        /// The process that asked.
        peer: Peer,
        /// Its user.
        uid: u32,
        /// The request.
        request: Correlation,
        /// What was refused, and why.
        why: Fault,
    },
    /// Stop waiting for the end of a process without connections: it was remembered only until its data was stored.
    Forgotten {
        /// The process.
        process: ProcessKey,
    },
    /// Notify a member.
    Notify {
        /// Its connection.
        connection: ConnectionId,
        /// The notification.
        notification: Notification,
    },
    /// Close a connection after saying why.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// The reason.
        why: Fault,
    },
    /// Start a worker, or two for a store: one that writes and one that reads beside it.
    OpenLane(Box<LaneSpec>),
    /// Call a provider. The worker has a place for the call.
    Call {
        /// The worker's lane.
        lane: LaneId,
        /// The call. The answer names it.
        call: CallId,
        /// What it is called for.
        behalf: Box<Behalf>,
        /// The call itself.
        provider: ProviderCall,
    },
    /// Take a call back. If its provider has not begun it, it never does, and [`Event::Withdrawn`] says so; otherwise the call is
    /// answered as usual.
    Withdraw {
        /// The worker that has it.
        lane: LaneId,
        /// The call.
        call: CallId,
    },
    /// Log that a provider gave no answer within its kind's share of a fast shutdown and is no longer waited for.
    GaveUp {
        /// The provider.
        provider: String,
        /// Its type.
        provider_type: ProviderType,
        /// The name of the call.
        call: &'static str,
        /// What it was called for.
        behalf: Box<Behalf>,
    },
    /// Log that a provider does not answer, and for how long.
    Hangs {
        /// The provider.
        provider: String,
        /// Its type.
        provider_type: ProviderType,
        /// The name of the call.
        call: &'static str,
        /// How long the call has waited.
        waited: Duration,
        /// What it was called for.
        behalf: Box<Behalf>,
    },
    /// Log that a provider answered a call with something that does not fit it.
    WrongAnswer {
        /// The provider.
        provider: String,
        /// The name of the call.
        call: &'static str,
        /// What is wrong with the answer.
        wrong: Wrong,
        /// What it was called for.
        behalf: Box<Behalf>,
    },
    /// Log that a provider of a profile does not work, or does so again. It is said once when it begins, whatever the number of
    /// sessions and messages.
    ProviderNews {
        /// The profile.
        profile: String,
        /// The provider.
        provider: String,
        /// Its type.
        provider_type: ProviderType,
        /// What is new.
        news: ProviderNews,
    },
    /// Log that no session of a profile can start, or that one has started again.
    ProfileNews {
        /// The profile.
        profile: String,
        /// Why none can start; `None` if one has started.
        why: Option<String>,
    },
    /// Log that recipients of a message failed for good.
    CameBack {
        /// The message.
        entry: EntryId,
        /// Its profile.
        profile: String,
        /// How many recipients failed.
        recipients: usize,
        /// The last reply about the first of them.
        why: String,
        /// What failed.
        what: Returned,
    },
    /// Log that nobody knows whether recipients of a message got it, and that somebody must decide.
    OutcomeUnknown {
        /// The message.
        entry: EntryId,
        /// Its profile.
        profile: String,
        /// How many recipients.
        recipients: usize,
        /// What is known of the first of them.
        why: String,
    },
    /// Run the command of a profile for a notification, which it reads.
    RunForNotice {
        /// The profile.
        profile: String,
        /// The program and its arguments.
        command: Vec<String>,
        /// The notification.
        text: Vec<u8>,
    },
    /// Run the command of a profile for new mail.
    RunForMail {
        /// The profile.
        profile: String,
        /// The program and its arguments.
        command: Vec<String>,
        /// The message.
        entry: EntryId,
        /// Who it is from, and its subject.
        news: Box<News>,
    },
    /// Store for the next broker that a shared session ends. Later effects about this end wait for that.
    KeepEnd(Box<End>),
    /// Delete a stored end that is no longer needed.
    ForgetEnd(SessionTag),
    /// Let a worker end after the calls it has. A hung worker is left behind.
    CloseLane(LaneId),
    /// Read a profile's settings.
    LoadProfile {
        /// The session that needs the profile.
        session: SessionId,
        /// The profile's name.
        name: String,
    },
    /// Look whether a profile's file is still of this version, and report [`Event::ProfileLooked`].
    LookAtProfile {
        /// The profile's name.
        name: String,
        /// The version.
        version: Version,
    },
    /// Ask the system which names are those of its users, and report [`Event::UsersFound`]. That may take a while.
    FindUsers {
        /// The question.
        question: QuestionId,
        /// The names.
        names: Vec<String>,
    },
    /// Delete a profile's settings, and report [`Event::ProfileDeleted`].
    DeleteProfile {
        /// Its name.
        name: String,
    },
    /// Report [`Event::Timer`] at this time since the machine started. It replaces the time armed before.
    Arm(Duration),
    /// The broker has stopped.
    Stopped,
}

/// What the log says of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderNews {
    /// A trouble begins.
    Fails {
        /// The trouble.
        trouble: Trouble,
        /// What the provider said.
        why: String,
    },
    /// A transport's server answers again. Whether it takes messages is not known.
    Reached,
    /// The provider works again: all of its troubles are over.
    Works,
}

/// Why a provider does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// A transport's server as a whole cannot be reached, or refuses to talk: no network, no such host, no certificate that is
    /// trusted.
    Unreachable,
    /// The account was refused. A provider whose account is refused twice is disabled.
    LogonRefused,
    /// The provider is disabled for another reason: its logon failed or was not answered, or its workers hang.
    Disabled,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unreachable, Self::LogonRefused, Self::Disabled];
}

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// A message with a sender, who is told.
    Message,
    /// A message without a sender, such as a forwarded notification: only the log tells of it.
    Notification,
}

/// What a provider is called for, as its line in the log says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behalf {
    /// The session, if any.
    pub session: Option<SessionId>,
    /// The process, if any.
    pub pid: Option<u32>,
    /// The request that led to the call, if a client made one.
    pub correlation: Option<Correlation>,
    /// The message, if the call is about one.
    pub entry: Option<EntryId>,
}

/// A worker to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneSpec {
    /// Its lane.
    pub lane: LaneId,
    /// For a store, the lane of its reader.
    pub reader: Option<LaneId>,
    /// The provider's type.
    pub provider_type: ProviderType,
    /// Its section in the profile.
    pub spec: ProviderSpec,
}

/// What provider calls are made for, through a chain of calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Errand {
    pub(crate) correlation: Option<Correlation>,
    pub(crate) entry: Option<EntryId>,
}

/// One event being applied: its time, and where its effects go.
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

    /// A random number: the tick's seed, expanded by `SplitMix64`.
    pub(crate) fn chance(&mut self) -> u64 {
        self.drawn += 1;
        let mut z = self.tick.seed.wrapping_add(self.drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A random identifier for a record.
    pub(crate) fn record(&mut self) -> u128 {
        u128::from(self.chance()) << 64 | u128::from(self.chance())
    }

    /// Moves the answer to a request ahead of the effects since then: the call that causes an event returns before any member is
    /// told of it (NOTIF-15).
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

/// A shared session that was ended for all its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The session's name for later brokers.
    pub tag: SessionTag,
    /// Its user.
    pub user: u32,
    /// Its profile.
    pub profile: String,
    /// The process that ended it.
    pub by: Peer,
    /// Until when its members may stay, since the machine started; `None` means without a limit.
    pub until: Option<Duration>,
}
