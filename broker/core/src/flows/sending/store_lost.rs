//! Stores whose files were removed or replaced while they were open.
//!
//! ```text
//!  open ──an answer says so──► lost ──sessions closed──► its logoff ──saved──► dropped; sessions that waited start
//!                                                          ▲   │
//!                                           tried again ───┘   └─ not saved: it stays open, and the waiting sessions are refused
//! ```
//!
//! A lost store accepts no writes, and nothing is sent from it. Its sessions end at once, and every member is told. The store
//! provider saves its contents. A session that starts meanwhile waits until the old files are closed, because the same file must
//! not be open twice. It then opens what is under their names.

use sundown_protocol::notification::{EndReason, LeaveReason};
use sundown_protocol::{Code, Event as News, Fault, MemberId, SessionId};

use crate::broker::Broker;
use crate::ground::event::{EngineId, LaneId, Turn};
use crate::ground::provider::ProviderError;
use crate::ground::settings::Profile;
use crate::queue::engine::LostStore;
use crate::sessions::session::SessionState;

/// Whether a member has already been told that its session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knows {
    No,
    Yes,
}

impl Broker {
    /// Handles a store's report that its files are lost: its sessions end. Later reports do nothing.
    pub(crate) fn lose_store(&mut self, lane: LaneId, why: &ProviderError, turn: &mut Turn) {
        let engine = self.queues.engines.of_lane(lane);
        let Some(engine) = engine.and_then(|id| self.queues.engines.get_mut(id)) else { return };
        if engine.lost.is_some() {
            return;
        }
        engine.lost = Some(LostStore::default());
        // Pumping the engine checks whether a session without members has a reason to stay, and ends it.
        engine.stirred = true;
        for session in engine.sessions.clone() {
            self.end_with_store(session, why, turn);
        }
    }

    /// Ends a session that uses a lost store.
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

    /// Whether a session that starts must wait until a lost store of its profile is closed. If so, it is queued.
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

    /// Keeps a lost store open that could not save its contents. The waiting sessions fail, and its logoff is tried again later.
    pub(crate) fn keep_lost_store(&mut self, id: EngineId, why: &ProviderError, turn: &mut Turn) {
        let Some(engine) = self.queues.engines.get_mut(id) else { return };
        let lost = engine.lost.get_or_insert_default();
        let waiting = std::mem::take(&mut lost.waiting);
        for session in waiting {
            self.fail_session(session, &Fault::from(why.clone()), turn);
        }
        self.close_again(id, turn);
    }

    /// Starts the sessions that waited for a lost store to close. They open what is under its name now.
    pub(crate) fn start_waiting(&mut self, lost: Option<LostStore>, turn: &mut Turn) {
        for session in lost.into_iter().flat_map(|lost| lost.waiting) {
            self.start_providers(session, turn);
        }
    }
}
