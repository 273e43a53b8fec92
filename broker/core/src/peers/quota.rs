//! What a process, all processes of a user, and all processes may use at once.
//!
//! Each thing counts on the [account](crate::peers::account) of its process and on those above it. A user may have as many processes
//! as it likes, so only the second sum keeps one user from taking everything from the others. It binds neither root nor
//! the broker's own user: they can stop the broker and need no quota to harm it, and must get in to put it right.

use sundown_protocol::{Code, Fault};

use crate::ground::settings::{Limits, Settings};
use crate::peers::account::Whose;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    Connections,
    /// Logons, those under way included.
    Members,
    /// Sessions that run: of a process its private ones, of a user shared ones too.
    Sessions,
    Objects,
    Registrations,
    /// Objects that are granted and not redeemed.
    Grants,
    /// Bytes of requests that were not answered.
    RequestBytes,
    /// Bytes of drafts that are not saved, and of copies of them on their way to a store.
    DraftBytes,
    /// Bytes that were uploaded to a store and are no message yet.
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

    /// What there is a limit of for all users together.
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

    /// The limit of an account; `None` where it has none.
    #[inline]
    fn of(self, whose: Whose, limits: &Limits) -> Option<Limit> {
        match whose {
            Whose::Process(..) => Some(self.of_process(limits)),
            Whose::User(_) => Some(self.of_user(limits)),
            Whose::Broker => self.of_broker(limits),
        }
    }

    /// Whether an account may have so much. Those of users do not bind each.
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

    /// What it is called, and what helps.
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

    /// What is answered beyond it. `MAPI_E_BUSY` is about what the process itself has.
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

/// What is answered beyond a limit: which, and what helps.
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
