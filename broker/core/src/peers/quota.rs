//! Quotas: what a process, all processes of a user, and all processes may use at once.
//!
//! Each use is charged to the [account](crate::peers::account) of its process and to the accounts above it. A user may have any
//! number of processes, so only the user's quota keeps one user from taking everything from the others. It does not bind root or
//! the broker's own user: they can stop the broker and need no quota to harm it, and they must be able to get in to repair it.

use sundown_protocol::{Code, Fault};

use crate::ground::settings::{Limits, Settings};
use crate::peers::account::Whose;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    Connections,
    /// Logons, including those in progress.
    Members,
    /// Running sessions: for a process its private ones, for a user also the shared ones.
    Sessions,
    Objects,
    Registrations,
    /// Objects that are granted and not redeemed.
    Grants,
    /// Bytes of unanswered requests.
    RequestBytes,
    /// Bytes of unsaved drafts, and of their copies that are being stored.
    DraftBytes,
    /// Bytes that were uploaded to a store and are not a message yet.
    UploadBytes,
}

/// One limit: its key in the settings, and its value.
type Limit = (&'static str, usize);

impl Quota {
    pub(crate) const ALL: [Self; 9] = [
        Self::Connections,
        Self::Members,
        Self::Sessions,
        Self::Objects,
        Self::Registrations,
        Self::Grants,
        Self::RequestBytes,
        Self::DraftBytes,
        Self::UploadBytes,
    ];

    #[inline]
    pub(crate) fn of_process(self, limits: &Limits) -> Limit {
        match self {
            Self::Connections => ("process_connections", limits.process_connections),
            Self::Members => ("members", limits.members),
            Self::Sessions => ("process_sessions", limits.process_sessions),
            Self::Objects => ("objects", limits.objects),
            Self::Registrations => ("registrations", limits.registrations),
            Self::Grants => ("grants", limits.grants),
            Self::RequestBytes => ("process_request_bytes", limits.process_request_bytes),
            Self::DraftBytes => ("process_draft_bytes", limits.process_draft_bytes),
            Self::UploadBytes => ("process_upload_bytes", limits.process_upload_bytes),
        }
    }

    #[inline]
    pub(crate) fn of_user(self, limits: &Limits) -> Limit {
        match self {
            Self::Connections => ("user_connections", limits.user_connections),
            Self::Members => ("user_members", limits.user_members),
            Self::Sessions => ("user_sessions", limits.user_sessions),
            Self::Objects => ("user_objects", limits.user_objects),
            Self::Registrations => ("user_registrations", limits.user_registrations),
            Self::Grants => ("user_grants", limits.user_grants),
            Self::RequestBytes => ("user_request_bytes", limits.user_request_bytes),
            Self::DraftBytes => ("user_draft_bytes", limits.user_draft_bytes),
            Self::UploadBytes => ("user_upload_bytes", limits.user_upload_bytes),
        }
    }

    /// The limit for all users together, if there is one.
    #[inline]
    pub(crate) fn of_broker(self, limits: &Limits) -> Option<Limit> {
        match self {
            Self::Connections => Some(("connections", limits.connections)),
            Self::Sessions => Some(("sessions", limits.sessions)),
            Self::Members
            | Self::Objects
            | Self::Registrations
            | Self::Grants
            | Self::RequestBytes
            | Self::DraftBytes
            | Self::UploadBytes => None,
        }
    }

    /// The limit of an account; `None` if it has none.
    #[inline]
    fn of(self, whose: Whose, limits: &Limits) -> Option<Limit> {
        match whose {
            Whose::Process(..) => Some(self.of_process(limits)),
            Whose::User(_) => Some(self.of_user(limits)),
            Whose::Broker => self.of_broker(limits),
        }
    }

    /// Whether an account may use this much. Limits of users do not bind every user.
    #[inline]
    pub(crate) fn check(self, whose: Whose, used: usize, settings: &Settings) -> Result<(), Fault> {
        let Some(limit) = self.of(whose, &settings.limits).filter(|(_, most)| used > *most) else {
            return Ok(());
        };
        match whose {
            Whose::User(uid) if !settings.binds(uid) => Ok(()),
            _ => Err(too_much(self, whose, limit)),
        }
    }

    /// The words for it in a message, and the remedy.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Connections => ("connections", "close one first"),
            Self::Members => ("sessions", "log one off first"),
            Self::Sessions => ("sessions to run", "log one off first"),
            Self::Objects => ("open objects", "release some"),
            Self::Registrations => ("registrations", "unadvise some"),
            Self::Grants => ("grants that were not redeemed", "revoke some"),
            Self::RequestBytes => ("bytes of unanswered requests", "wait for answers"),
            Self::DraftBytes => ("bytes of unsaved drafts", "save or release some"),
            Self::UploadBytes => ("bytes of unused uploads", "submit, save or release some"),
        }
    }

    /// The code beyond the limit. `MAPI_E_BUSY` concerns what the process itself has.
    fn code(self, whose: Whose) -> Code {
        match (self, whose) {
            (Self::Members | Self::Sessions, Whose::Process(..) | Whose::User(_)) => {
                Code::E_SESSION_LIMIT
            }
            (Self::Connections, _) | (_, Whose::User(_) | Whose::Broker) => {
                Code::E_NOT_ENOUGH_RESOURCES
            }
            (
                Self::Objects
                | Self::Registrations
                | Self::Grants
                | Self::RequestBytes
                | Self::DraftBytes
                | Self::UploadBytes,
                Whose::Process(..),
            ) => Code::E_BUSY,
        }
    }
}

/// The fault beyond a limit, with the limit and the remedy.
#[cold]
fn too_much(what: Quota, whose: Whose, (key, most): Limit) -> Fault {
    let (things, remedy) = what.words();
    let message = match whose {
        Whose::Process(..) => {
            format!("this process has {most} {things}, its limit ({key}); {remedy}")
        }
        Whose::User(uid) => format!(
            "user {uid} has {most} {things} in all its processes, its limit ({key}); {remedy}, or in another of \
             its programs"
        ),
        Whose::Broker => {
            format!("the broker has {most} {things}, its limit ({key}); try again later")
        }
    };
    Fault::new(what.code(whose), message)
}
