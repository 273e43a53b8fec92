//! Stores whose files were removed or replaced while they were open.
//!
//! ```text
//!  open ──an answer says so──► lost ──sessions closed──► its logoff ──saved──► dropped; sessions that waited start
//!                                                          ▲   │
//!                                           tried again ───┘   └─ not saved: it stays open, and who waits is refused
//! ```
//!
//! Such a store takes nothing, and nothing is sent from it: its sessions end at once, and every member is told. The store
//! provider saves what is in it. A session that starts meanwhile waits until the old files are closed, and gets what is
//! under their names then: the same file must not be open twice.

use sundown_protocol::notification::{EndReason, LeaveReason};
use sundown_protocol::{Code, Event as News, Fault, MemberId, SessionId};

use crate::broker::Broker;
use crate::ground::event::{EngineId, LaneId, Turn};
use crate::ground::provider::ProviderError;
use crate::ground::settings::Profile;
use crate::queue::engine::LostStore;
use crate::sessions::session::SessionState;

/// Whether a member knows already that its session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knows {
    No,
    Yes,
}

impl Broker {
    /// A store says that its files are lost. Its sessions end, once.
    pub(crate) fn lose_store(&mut self, lane: LaneId, why: &ProviderError, turn: &mut Turn) {
        let engine = self.queues.engines.of_lane(lane);
        let Some(engine) = engine.and_then(|id| self.queues.engines.get_mut(id)) else { return };
        if engine.lost.is_some() {
            return;
        }
        engine.lost = Some(LostStore::default());
        // A session without members ends when it is next looked whether it has a reason to stay.
        engine.stirred = true;
        for session in engine.sessions.clone() {
            self.end_with_store(session, why, turn);
        }
    }

    /// Ends a session one of whose stores is lost.
    fn end_with_store(&mut self, id: SessionId, why: &ProviderError, turn: &mut Turn) {
        let Some(session) = self.sessions.all.get(&id) else { return };
        let knows = match session.state {
            SessionState::Closing { .. } => return,
            SessionState::Starting => {
                return self.fail_session(id, &Fault::from(why.clone()), turn);
            }
            SessionState::Active | SessionState::Memberless => Knows::No,
            SessionState::Ending { .. } => Knows::Yes,
        };
        let members: Vec<_> = session.members.iter().copied().collect();
        for member in &members {
            self.tell_of_lost_store(*member, knows, turn);
        }
        if knows == Knows::Yes {
            self.note_stayed(id, &members);
        }
        self.remove_members(members, LeaveReason::Evicted, turn);
    }

    fn tell_of_lost_store(&mut self, member: MemberId, knows: Knows, turn: &mut Turn) {
        if knows == Knows::No {
            let (code, reason) = (Code::E_END_OF_SESSION, EndReason::StoreLost);
            let news = News::CriticalError { code, reason, by: None, grace: Some(0) };
            self.tell_always(member, news, turn);
        }
        self.tell_always(member, News::Evicted, turn);
    }

    /// Whether a session that starts must wait until a lost store of its profile is closed.
    pub(crate) fn waits_for_lost_store(&mut self, id: SessionId, profile: &Profile) -> bool {
        for store in &profile.stores {
            let Some(engine) = self.queues.engines.at(&store.path) else { continue };
            let engine = self.queues.engines.get_mut(engine).expect("listed engines exist");
            if let Some(lost) = &mut engine.lost {
                lost.waiting.push(id);
                return true;
            }
        }
        false
    }

    /// A lost store was not closed, because what is in it could not be saved: it stays open, and its logoff is tried again.
    pub(crate) fn keep_lost_store(&mut self, id: EngineId, why: &ProviderError, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let lost = engine.lost.get_or_insert_default();
        let waiting = std::mem::take(&mut lost.waiting);
        for session in waiting {
            self.fail_session(session, &Fault::from(why.clone()), turn);
        }
        self.close_again(id, turn);
    }

    /// A lost store is closed: what waited for that starts with what is under its name now.
    pub(crate) fn start_waiting(&mut self, lost: Option<LostStore>, turn: &mut Turn) {
        for session in lost.into_iter().flat_map(|lost| lost.waiting) {
            self.start_providers(session, turn);
        }
    }
}
