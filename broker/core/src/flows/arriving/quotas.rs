//! Checks quotas against the settings in force.

use sundown_protocol::Fault;

use crate::broker::Broker;
use crate::ground::event::ProcessId;
use crate::peers::account::AccountId;
#[cfg(test)]
use crate::peers::account::Charge;
use crate::peers::quota::Quota;
#[cfg(test)]
use crate::sessions::object::Object;
#[cfg(test)]
use crate::then::{AfterSave, Then};

impl Broker {
    /// Whether a process may have one more.
    #[inline]
    pub(crate) fn check_quota(&self, process: ProcessId, what: Quota) -> Result<(), Fault> {
        self.check_room(process, what, 1)
    }

    /// Whether a process is within its quota, with everything already counted.
    #[inline]
    pub(crate) fn check_counted(&self, process: ProcessId, what: Quota) -> Result<(), Fault> {
        self.check_room(process, what, 0)
    }

    /// Whether a process may have `more`.
    #[inline]
    pub(crate) fn check_room(
        &self,
        process: ProcessId,
        what: Quota,
        more: usize,
    ) -> Result<(), Fault> {
        self.peers.check_process(process, what, more, &self.settings)
    }

    /// Whether `more` may be charged to an account and those above it.
    #[inline]
    pub(crate) fn check_account(
        &self,
        account: AccountId,
        what: Quota,
        more: usize,
    ) -> Result<(), Fault> {
        self.peers.check_account(account, what, more, &self.settings)
    }
}

#[cfg(test)]
impl Broker {
    /// All charges that are still to be given back.
    pub(crate) fn charges(&self) -> impl Iterator<Item = &Charge> {
        let objects = self.sessions.members.values().flat_map(|member| member.objects.iter());
        let drafts = objects.filter_map(|object| match object {
            Object::Draft(draft) => Some(&draft.charge),
            _ => None,
        });
        let uploads = self.sessions.members.values().flat_map(|member| member.uploads.values());
        let uploads = uploads.map(|upload| &upload.charge);
        let on_the_way = self.providers.thens();
        let sessions = self.sessions.all.values().map(|session| &session.charge);
        sessions.chain(drafts).chain(uploads).chain(on_the_way.filter_map(|then| match then {
            Then::Submitted(in_flight) => in_flight.charge.as_deref(),
            Then::Saved(
                AfterSave::Saved { charge, .. }
                | AfterSave::Filed { charge, .. }
                | AfterSave::Recovered { charge, .. }
                | AfterSave::Kept { charge, .. },
            ) => Some(charge),
            _ => None,
        }))
    }
}
