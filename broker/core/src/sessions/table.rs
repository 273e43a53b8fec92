//! All sessions, found by number and by profile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Deref;

use sundown_protocol::SessionId;

use crate::sessions::session::Session;

/// All sessions.
#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct SessionTable {
    by_id: BTreeMap<SessionId, Session>,
    by_profile: HashMap<String, BTreeSet<SessionId>>,
}

impl SessionTable {
    pub(crate) fn insert(&mut self, session: Session) {
        let of_profile = self.by_profile.entry(session.key.profile.clone()).or_default();
        of_profile.insert(session.id);
        self.by_id.insert(session.id, session);
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.by_id.remove(&id)?;
        if let Some(of_profile) = self.by_profile.get_mut(&session.key.profile) {
            of_profile.remove(&id);
            if of_profile.is_empty() {
                self.by_profile.remove(&session.key.profile);
            }
        }
        Some(session)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    /// The sessions in a range of numbers, to be changed.
    pub(crate) fn range_mut(
        &mut self,
        range: impl std::ops::RangeBounds<SessionId>,
    ) -> impl Iterator<Item = (&SessionId, &mut Session)> {
        self.by_id.range_mut(range)
    }

    /// The sessions of a profile, the oldest first.
    pub(crate) fn of_profile<'a>(
        &'a self,
        profile: &str,
    ) -> impl Iterator<Item = &'a Session> + use<'a> {
        let ids = self.by_profile.get(profile).into_iter().flatten();
        ids.filter_map(|id| self.by_id.get(id))
    }

    /// Checks that the index is complete.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let Self { by_id, by_profile } = self;
        assert_eq!(by_profile.values().map(BTreeSet::len).sum::<usize>(), by_id.len());
        for session in by_id.values() {
            let of_profile = &by_profile[&session.key.profile];
            assert!(of_profile.contains(&session.id), "{} is not found", session.id);
        }
    }
}

impl Deref for SessionTable {
    type Target = BTreeMap<SessionId, Session>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

impl fmt::Debug for SessionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.by_id.fmt(f)
    }
}
