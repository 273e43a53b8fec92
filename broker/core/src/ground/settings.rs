//! Settings and profiles as the core needs them. The daemon reads them from files.

use std::fmt;
use std::time::Duration;

use sundown_protocol::reply::Previous;

use crate::ground::address::Pattern;
use crate::ground::local::LocalMail;
use crate::ground::provider::{FastShutdown, ProviderSpec};

/// The broker's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `[shutdown]`.
    pub shutdown: Shutdown,
    /// `[limits]`.
    pub limits: Limits,
    /// The broker's own user, who has every right.
    pub owner: u32,
    /// What `status` says about the broker.
    pub broker: BrokerFacts,
}

impl Settings {
    /// Whether the quotas of users bind this user. They do not bind root or the broker's own user.
    pub(crate) fn binds(&self, uid: u32) -> bool {
        uid != self.owner && uid != 0
    }
}

/// What `status` says about the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerFacts {
    /// Its process id.
    pub pid: u32,
    /// Its socket.
    pub socket: String,
    /// When it started, in milliseconds since 1970.
    pub started: u64,
    /// How the previous broker ended.
    pub previous: Option<Previous>,
    /// Signs what processes keep across a restart.
    pub ticket_key: TicketKey,
}

/// `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// `shared_logoff`: which members may end a shared session.
    pub shared_logoff: SharedLogoff,
    /// `shared_logoff_grace`: how long the other members may stay; `None` means without a limit.
    pub grace: Option<Duration>,
    /// `shutdown_deadline`: how long a provider's logoff may take before the provider is left behind.
    pub deadline: Duration,
    /// `linger`: how long a session stays after its last member.
    pub linger: Linger,
    /// `fast_shutdown_behavior`: the condition of a fast shutdown.
    pub fast_shutdown: FastShutdownBehavior,
    /// `disable_fast_shutdown`: programs that may not shut down fast, whatever the query answered (SEED-21).
    pub disable_fast_shutdown: DisableFastShutdown,
    /// `allow_shutdown_with_external_references`: whether a process may leave while other processes hold its objects.
    pub external_references: bool,
}

/// `fast_shutdown_behavior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastShutdownBehavior {
    /// Every provider must support it; a provider that does not know the interface refuses.
    OptIn,
    /// Every provider that knows the interface must support it.
    OptOut,
    /// Never.
    Disabled,
}

/// `disable_fast_shutdown`: which programs may not call `DoFastShutdown` (SEED-21). The key of MAPI binds one program, so a setting
/// of the broker names the programs that it binds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DisableFastShutdown {
    /// No program.
    #[default]
    No,
    /// Every program.
    All,
    /// Programs by the names they give in their hello.
    Programs(Vec<String>),
}

impl DisableFastShutdown {
    /// Whether it binds a program of this name.
    pub fn binds(&self, program: &str) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::Programs(names) => names.iter().any(|name| name == program),
        }
    }
}

/// `shared_logoff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedLogoff {
    /// The process that owns the session, through any of its members. It is the process of the oldest member.
    Owner,
    /// Any member.
    Any,
    /// No member.
    Deny,
}

/// `linger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// Not at all: mail waits for a logon.
    Off,
    /// Until nothing is queued, transmitting or deferred.
    UntilEmpty,
    /// For this time, or until nothing is left to do.
    For(Duration),
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections of one process.
    pub process_connections: usize,
    /// Connections of one user.
    pub user_connections: usize,
    /// Members of one process.
    pub members: usize,
    /// Members of one user.
    pub user_members: usize,
    /// Sessions at once.
    pub sessions: usize,
    /// Private sessions of one process.
    pub process_sessions: usize,
    /// Sessions of one user.
    pub user_sessions: usize,
    /// Open objects of one process.
    pub objects: usize,
    /// Open objects of one user.
    pub user_objects: usize,
    /// Registrations of one process.
    pub registrations: usize,
    /// Registrations of one user.
    pub user_registrations: usize,
    /// Objects that one process has granted and that were not redeemed.
    pub grants: usize,
    /// Objects that the processes of one user have granted and that were not redeemed.
    pub user_grants: usize,
    /// Unanswered requests of one connection.
    pub requests: u32,
    /// Bytes of unanswered requests of one connection.
    pub request_bytes: u64,
    /// Bytes of unanswered requests of one process.
    pub process_request_bytes: usize,
    /// Bytes of unanswered requests of one user.
    pub user_request_bytes: usize,
    /// Bytes of unsaved drafts of one process.
    pub process_draft_bytes: usize,
    /// Bytes of unsaved drafts of one user.
    pub user_draft_bytes: usize,
    /// Bytes that one process has uploaded and not used.
    pub process_upload_bytes: usize,
    /// Bytes that one user has uploaded and not used.
    pub user_upload_bytes: usize,
    /// Bytes waiting for one process to read them; notifications are dropped at half of it.
    pub outbox_bytes: usize,
    /// Bytes waiting for one user's processes. Beyond it, the connections of the processes with the most bytes waiting are closed
    /// first.
    pub user_outbox_bytes: usize,
    /// Bytes waiting for all processes.
    pub total_outbox_bytes: usize,
    /// The largest message, in bytes.
    pub message: u64,
    /// Recipients of one message.
    pub recipients: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            process_connections: 8_192,
            user_connections: 12_288,
            members: 1_024,
            user_members: 65_536,
            sessions: 4_096,
            process_sessions: 256,
            user_sessions: 1_024,
            objects: 100_000,
            user_objects: 1_000_000,
            registrations: 65_536,
            user_registrations: 1_000_000,
            grants: 16_384,
            user_grants: 262_144,
            requests: 256,
            request_bytes: 4 << 20,
            process_request_bytes: 256 << 20,
            user_request_bytes: 1 << 30,
            process_draft_bytes: 64 << 20,
            user_draft_bytes: 256 << 20,
            process_upload_bytes: 1 << 30,
            user_upload_bytes: 4 << 30,
            outbox_bytes: 64 << 20,
            user_outbox_bytes: 256 << 20,
            total_outbox_bytes: 512 << 20,
            message: 100 << 20,
            recipients: 10_000,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            shared_logoff: SharedLogoff::Owner,
            grace: Some(Duration::from_secs(30)),
            deadline: Duration::from_secs(10),
            linger: Linger::UntilEmpty,
            fast_shutdown: FastShutdownBehavior::OptIn,
            disable_fast_shutdown: DisableFastShutdown::No,
            external_references: true,
        }
    }
}

/// A profile: the providers of an account, and who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The sender of messages that name none, such as `anna@host`.
    pub identity: String,
    /// Stores; the first is the default one. Never empty.
    pub stores: Vec<ProviderSpec>,
    /// Transports in the order they are tried, each with the addresses it takes.
    pub transports: Vec<TransportSpec>,
    /// Mailboxes; the first one has the Inbox and the other folders of every store.
    pub mailboxes: Vec<MailboxSpec>,
    /// Address books in the order they are asked.
    pub address_books: Vec<ProviderSpec>,
    /// `[queue]`.
    pub queue: QueuePolicy,
    /// `[access]`: other users' rights.
    pub access: Vec<(u32, Right)>,
    /// `[mail]` and `[aliases]`: what becomes of recipients on this host.
    pub local: LocalMail,
    /// `[notices]`: where notifications go besides the Inbox.
    pub forward: Forward,
    /// `[inbox] on_new_mail`: a program and its arguments, started for new mail.
    pub on_new_mail: Option<Vec<String>>,
}

/// A mailbox of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxSpec {
    /// Its section.
    pub provider: ProviderSpec,
    /// When it watches.
    pub watch: Watching,
}

/// `watch` of a mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Watching {
    /// While a process that has not said that it leaves has a member in the session.
    #[default]
    Members,
    /// As long as there is a session.
    Always,
}

/// A profile that was read, and which version of its file that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedProfile {
    /// The profile.
    pub profile: Box<Profile>,
    /// The version.
    pub version: Version,
}

/// A version of a profile's file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version {
    /// Another number for each change of the file.
    pub number: u64,
    /// When it was written, in milliseconds since 1970; `None` if there is no file.
    pub changed: Option<u64>,
}

/// What was found when a profile's file was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// It is the version that was named.
    Same,
    /// It is another version.
    Changed(LoadedProfile),
    /// It is another version, which takes a while to read: the same event comes again with it.
    Later,
}

/// `forward` or `command` of `[notices]`: where notifications go besides the Inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Forward {
    /// Nowhere.
    #[default]
    No,
    /// To this address.
    To(String),
    /// Each to this program and its arguments, as what it reads.
    Command(Vec<String>),
}

/// A transport of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportSpec {
    /// The provider.
    pub provider: ProviderSpec,
    /// The addresses it takes.
    pub accept: Vec<Pattern>,
    /// The authors whose messages it takes; empty means those of everybody who has no other transport.
    pub senders: Vec<Pattern>,
}

impl TransportSpec {
    /// Whether it takes this address.
    pub fn takes(&self, address: &str) -> bool {
        self.accept.iter().any(|pattern| pattern.takes(address))
    }

    /// Whether it is for this author.
    fn is_for(&self, author: &str) -> bool {
        self.senders.iter().any(|pattern| pattern.takes(author))
    }
}

impl Profile {
    /// The place of the transport that takes a message of this author, which may name a transport, to this recipient: the first that
    /// is for the author, or else the first that is for everybody.
    pub fn transport_for(
        &self,
        recipient: &str,
        author: &str,
        account: Option<&str>,
    ) -> Option<usize> {
        let (mut for_all, named) = (None, account.is_some());
        for (place, transport) in self.transports.iter().enumerate() {
            let is_it = match account {
                Some(name) => transport.provider.name == name,
                None => transport.is_for(author),
            };
            // The first that is for everybody waits for what comes behind it.
            let is_open = !named && for_all.is_none() && transport.senders.is_empty();
            if (is_it || is_open) && transport.takes(recipient) {
                if is_it {
                    return Some(place);
                }
                for_all = Some(place);
            }
        }
        for_all
    }
}

/// `[queue]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePolicy {
    /// The first wait after a failure; each further failure doubles it.
    pub retry_min: Duration,
    /// The longest wait.
    pub retry_max: Duration,
    /// The age at which a message is given up.
    pub max_age: Duration,
    /// The age at which the sender is told that a message is delayed; `None` for never.
    pub delay_after: Option<Duration>,
    /// What happens to a message that may have gone out.
    pub on_unknown: OnUnknown,
}

/// `on_unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknown {
    /// It stays visible until a user decides, or until its age limit.
    Hold,
    /// It is sent again, perhaps for the second time.
    Retry,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            retry_min: Duration::from_secs(30),
            retry_max: Duration::from_secs(3600),
            max_age: Duration::from_secs(5 * 24 * 3600),
            delay_after: Some(Duration::from_secs(4 * 3600)),
            on_unknown: OnUnknown::Hold,
        }
    }
}

/// What a user may do. Each right includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Nothing.
    None,
    /// Submit messages, and see and abort the user's own.
    Submit,
    /// Log on.
    Session,
    /// Stop the broker, change other users' entries, force a shared logoff.
    Admin,
}

impl ProviderSpec {
    /// A provider of that kind with nothing set.
    pub fn new(kind: &str) -> Self {
        Self {
            name: kind.to_owned(),
            kind: kind.to_owned(),
            path: std::path::PathBuf::new(),
            options: Vec::new(),
            fast_shutdown: FastShutdown::Supported,
        }
    }
}

/// The key that the brokers of one runtime directory share.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TicketKey(pub [u8; 32]);

impl fmt::Debug for TicketKey {
    /// It is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(…)")
    }
}
