//! What a process, and all processes of a user, may use at once, and what they do use.
//!
//! Each thing is counted twice: for the process that has it and for that process' user. A user may have as many processes
//! as it likes, so only the second sum keeps one user from taking everything from the others. It binds neither root nor
//! the broker's own user: whoever could stop the broker needs no quota to harm it, and must get in to put it right.

use sundown_protocol::{Code, Fault};

use crate::broker::Broker;
use crate::process::ProcessId;
use crate::settings::Limits;
#[cfg(test)]
use crate::{
    object::Object,
    then::{AfterSave, Then},
};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    Connections,
    Members,
    Objects,
    Registrations,
    /// Bytes of requests that were not answered.
    RequestBytes,
    /// Bytes of drafts that are not saved, and of copies of them on their way to a store.
    DraftBytes,
    /// Bytes that were uploaded to a store and are no message yet.
    UploadBytes,
}

/// Proof that something is counted. It goes with what it pays for, and is [given back](crate::process::Processes::give_back) when
/// that is no more: one that is dropped counts for ever, and every test notices.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
#[must_use = "what is counted is to be given back"]
pub(crate) struct Charge {
    pub(crate) process: ProcessId,
    pub(crate) uid: u32,
    pub(crate) what: Quota,
    pub(crate) count: usize,
}

/// How much of everything is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used([usize; 7]);

/// One limit: its key in the settings, and its value.
type Limit = (&'static str, usize);

impl Quota {
    pub(crate) const ALL: [Self; 7] = [
        Self::Connections,
        Self::Members,
        Self::Objects,
        Self::Registrations,
        Self::RequestBytes,
        Self::DraftBytes,
        Self::UploadBytes,
    ];

    pub(crate) fn of_process(self, limits: &Limits) -> Limit {
        match self {
            Self::Connections => ("process_connections", limits.process_connections),
            Self::Members => ("members", limits.members),
            Self::Objects => ("objects", limits.objects),
            Self::Registrations => ("registrations", limits.registrations),
            Self::RequestBytes => ("process_request_bytes", limits.process_request_bytes),
            Self::DraftBytes => ("process_draft_bytes", limits.process_draft_bytes),
            Self::UploadBytes => ("process_upload_bytes", limits.process_upload_bytes),
        }
    }

    pub(crate) fn of_user(self, limits: &Limits) -> Limit {
        match self {
            Self::Connections => ("user_connections", limits.user_connections),
            Self::Members => ("user_members", limits.user_members),
            Self::Objects => ("user_objects", limits.user_objects),
            Self::Registrations => ("user_registrations", limits.user_registrations),
            Self::RequestBytes => ("user_request_bytes", limits.user_request_bytes),
            Self::DraftBytes => ("user_draft_bytes", limits.user_draft_bytes),
            Self::UploadBytes => ("user_upload_bytes", limits.user_upload_bytes),
        }
    }

    /// What it is called, and what helps.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Connections => ("connections", "close one first"),
            Self::Members => ("sessions", "log one off first"),
            Self::Objects => ("open objects", "release some"),
            Self::Registrations => ("registrations", "unadvise some"),
            Self::RequestBytes => ("bytes of unanswered requests", "wait for answers"),
            Self::DraftBytes => ("bytes of unsaved drafts", "save or release some"),
            Self::UploadBytes => ("bytes of unused uploads", "submit, save or release some"),
        }
    }

    /// What is answered beyond it. `MAPI_E_BUSY` is about what the process itself has.
    fn code(self, whose: Whose) -> Code {
        match (self, whose) {
            (Self::Members, _) => Code::E_SESSION_LIMIT,
            (Self::Connections, _) | (_, Whose::User(_)) => Code::E_NOT_ENOUGH_RESOURCES,
            (
                Self::Objects
                | Self::Registrations
                | Self::RequestBytes
                | Self::DraftBytes
                | Self::UploadBytes,
                Whose::Process,
            ) => Code::E_BUSY,
        }
    }
}

/// Whose quota it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Process,
    User(u32),
}

/// What is answered beyond a limit: which, and what helps.
#[cold]
fn too_much(what: Quota, whose: Whose, limits: &Limits) -> Fault {
    let (things, remedy) = what.words();
    let message = match whose {
        Whose::Process => {
            let (key, most) = what.of_process(limits);
            format!("this process has {most} {things}, its limit ({key}); {remedy}")
        }
        Whose::User(uid) => {
            let (key, most) = what.of_user(limits);
            format!(
                "user {uid} has {most} {things} in all its processes, its limit ({key}); {remedy}, or in another of \
                 its programs"
            )
        }
    };
    Fault::new(what.code(whose), message)
}

impl Used {
    pub(crate) fn of(&self, what: Quota) -> usize {
        self.0[what as usize]
    }

    pub(crate) fn add(&mut self, what: Quota, count: usize) {
        self.0[what as usize] += count;
    }

    pub(crate) fn take(&mut self, what: Quota, count: usize) {
        self.0[what as usize] -= count;
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Broker {
    /// Whether a process may have one more.
    pub(crate) fn check_quota(&self, process: ProcessId, what: Quota) -> Result<(), Fault> {
        self.check_room(process, what, 1)
    }

    /// Whether what a process has, the newest included, is not too much.
    pub(crate) fn check_counted(&self, process: ProcessId, what: Quota) -> Result<(), Fault> {
        self.check_room(process, what, 0)
    }

    /// Whether a process may have so many more.
    pub(crate) fn check_room(
        &self,
        process: ProcessId,
        what: Quota,
        more: usize,
    ) -> Result<(), Fault> {
        let Some(process) = self.processes.get(process) else { return Ok(()) };
        let limits = &self.settings.limits;
        if process.used.of(what) + more > what.of_process(limits).1 {
            return Err(too_much(what, Whose::Process, limits));
        }
        let uid = process.uid;
        let bound = self.is_bound(uid);
        if bound && self.processes.used_by(uid).of(what) + more > what.of_user(limits).1 {
            return Err(too_much(what, Whose::User(uid), limits));
        }
        Ok(())
    }

    /// Whether the quotas of users bind this one.
    pub(crate) fn is_bound(&self, uid: u32) -> bool {
        uid != self.settings.owner && uid != 0
    }
}

#[cfg(test)]
impl Broker {
    /// All that is to be given back, wherever it is.
    pub(crate) fn charges(&self) -> impl Iterator<Item = &Charge> {
        let objects = self.members.values().flat_map(|member| member.objects.iter());
        let drafts = objects.filter_map(|object| match object {
            Object::Draft(draft) => Some(&draft.charge),
            _ => None,
        });
        let uploads = self.members.values().flat_map(|member| member.uploads.values());
        let uploads = uploads.map(|upload| &upload.charge);
        let calls = self.calls.values().map(|call| &call.then);
        let lost = self.lost.iter().map(|lost| &lost.then);
        let on_the_way = calls.chain(lost).chain(self.renewals.waiting());
        drafts.chain(uploads).chain(on_the_way.filter_map(|then| match then {
            Then::Submitted(in_flight) => in_flight.charge.as_deref(),
            Then::Saved(
                AfterSave::Saved { charge, .. }
                | AfterSave::Recovered { charge, .. }
                | AfterSave::Kept { charge, .. },
            ) => Some(charge),
            _ => None,
        }))
    }
}
