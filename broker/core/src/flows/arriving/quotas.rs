//! TODO

use sundown_protocol::Fault;

use crate::broker::Broker;
use crate::ground::event::ProcessId;
#[cfg(test)]
use crate::peers::account::Charge;
use crate::peers::account::{AccountId, Whose};
use crate::peers::quota::{Limit, Quota, too_much};
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

    /// Whether what a process has, the newest included, is not too much.
    #[inline]
    pub(crate) fn check_counted(&self, process: ProcessId, what: Quota) -> Result<(), Fault> {
        self.check_room(process, what, 0)
    }

    /// Whether a process may have so many more.
    #[inline]
    pub(crate) fn check_room(
        &self,
        process: ProcessId,
        what: Quota,
        more: usize,
    ) -> Result<(), Fault> {
        let Some(process) = self.peers.processes.get(process) else { return Ok(()) };
        self.check_account(process.account, what, more)
    }

    /// Whether so many more may count on an account and those above it.
    #[inline]
    pub(crate) fn check_account(
        &self,
        account: AccountId,
        what: Quota,
        more: usize,
    ) -> Result<(), Fault> {
        let (accounts, limits) = (&self.peers.processes.accounts, &self.settings.limits);
        let mut next = account;
        loop {
            let (whose, above) = accounts.whose(next);
            let full = |(_, most): &Limit| accounts.used(next).of(what) + more > *most;
            if let Some(limit) = what.of(whose, limits).filter(full)
                && self.binds(whose)
            {
                return Err(too_much(what, whose, limit));
            }
            if next == AccountId::BROKER {
                return Ok(());
            }
            next = above;
        }
    }

    /// Whether quotas bind an account. Those of users do not bind each.
    fn binds(&self, whose: Whose) -> bool {
        match whose {
            Whose::User(uid) => self.is_bound(uid),
            Whose::Process(..) | Whose::Broker => true,
        }
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
                | AfterSave::Recovered { charge, .. }
                | AfterSave::Kept { charge, .. },
            ) => Some(charge),
            _ => None,
        }))
    }
}
