//! What is kept of sessions and members where nothing is under way, and of stores beside what is in them.

use super::{Store, Worker, World};
use crate::broker::Broker;
use crate::provider::SubmissionState;
use crate::providers::view::Part;
use crate::providers::view::Poke;
use crate::providers::view::Provider;
use crate::providers::view::ProviderState;
use crate::providers::view::Reach;
use crate::sessions::member::FOLLOWED;
use crate::sessions::member::Member;
use crate::sessions::member::MemberState;
use crate::sessions::member::Waits;
use crate::sessions::object::Object;
use crate::sessions::session::Session;
use crate::sessions::session::SessionState;
use sundown_protocol::Events;

/// Where there are more things than these nobody looks at each, whenever nothing is under way: that would take the time of a test.
const FEW: usize = 64;

impl Session {
    /// Checks what is kept of a session that waits for nothing.
    pub(crate) fn check_at_rest(&self, broker: &Broker) {
        let Self {
            id,
            key,
            state,
            profile,
            providers,
            members,
            with_mail,
            listeners,
            curious,
            kept_by,
            waiting,
            leavers,
            evicted,
            version,
            // What it is, and how it began and will end.
            tag: _,
            charge: _,
            sharing: _,
            adopted: _,
            mail: _,
        } = self;
        let mut lost = broker.queues.engines.values().filter_map(|e| e.lost.as_ref());
        let goes_on = match state {
            SessionState::Active | SessionState::Memberless | SessionState::Ending { .. } => true,
            SessionState::Starting => lost.any(|store| store.keeps_waiting(*id)),
            SessionState::Closing { .. } => false,
        };
        assert!(goes_on && profile.is_some(), "{id} is neither here nor gone: {state:?}");
        assert_eq!(
            broker.sessions.joinable.get(key) == Some(id),
            self.is_joinable(),
            "{id} in {key:?}"
        );
        let of_it = |m: &&Member| m.session == *id;
        let here: Vec<_> = broker.sessions.members.values().filter(of_it).collect();
        assert_eq!(members.len(), here.len(), "members of {id}");
        assert_eq!(*with_mail, here.iter().filter(|m| m.has_mail()).count(), "of {id} with mail");
        let quiet = (Events::CRITICAL_ERROR | Events::EXTENDED).0;
        for member in here {
            let advises = || member.advises.values().map(|a| a.events);
            let listens = advises().any(|events| events.0 & !quiet != 0);
            assert_eq!(listeners.contains(&member.id), listens, "{}", member.id);
            let asks = advises().any(|events| events.contains(Events::EXTENDED));
            assert_eq!(curious.contains(&member.id), asks, "{}", member.id);
        }
        assert!(listeners.is_subset(members) && curious.is_subset(members));
        assert!(kept_by.iter().all(|p| broker.peers.processes.get(*p).is_some()), "{kept_by:?}");
        assert!(waiting.is_empty() && leavers.is_empty(), "{waiting:?}, {leavers:?}");
        assert!(evicted.is_empty() || !self.is_joinable(), "{evicted:?}");
        assert!(!version.leaving, "providers of {id} are leaving, and nothing is called");
        for (place, provider) in providers.iter().enumerate() {
            provider.check_at_rest();
            let asked_again = broker.timers.is_set(crate::ground::timers::Timer::Reach(*id, place));
            assert_eq!(asked_again, provider.reach.waits(), "{provider:?}");
        }
    }
}

impl Provider {
    fn check_at_rest(&self) {
        let Self {
            name,
            state,
            in_flight,
            validating,
            unanswered,
            reach,
            probe,
            // What it is, and what it said of itself.
            kind: _,
            lane: _,
            reader: _,
            engine: _,
            part,
            spec: _,
            configured: _,
            fast_shutdown: _,
            stance: _,
            window: _,
            most_recipients: _,
            // How it did lately.
            report: _,
            late: _,
            refusals: _,
            outages: _,
            rests_until: _,
            watching: _,
            poke,
            longest: _,
            trouble: _,
            not_reached_at: _,
            last: _,
            worked: _,
        } = self;
        let settled = match part {
            Part::InUse => matches!(state, ProviderState::Available | ProviderState::Failed(_)),
            Part::Leaving => *state == ProviderState::Gone,
        };
        assert!(settled, "{name} is {state:?}, and nothing is called");
        assert!(!matches!(reach, Reach::Asked { .. }), "{name} was asked whether it works");
        assert_eq!(*poke, Poke::Idle, "{name} is told of changes");
        assert_eq!(*probe, None, "{name} is to be tried");
        assert_eq!((*in_flight, *validating, *unanswered), (0, false, 0), "calls of {name}");
    }
}

impl Member {
    /// Checks what is kept of a member that waits for nothing.
    pub(crate) fn check_at_rest(&self, broker: &Broker) {
        let Self {
            id,
            session,
            connection,
            process,
            state,
            objects,
            drafts,
            references,
            uploads,
            failed_uploads,
            pending,
            waiting,
            unfollowed,
            unwritten,
            flushes,
            advises: _,
            // It is compared with the tokens elsewhere.
            waiting_grants: _,
            // Until it is told of them.
            failed: _,
            // What it is, and what counts up.
            flags: _,
            right: _,
            since: _,
            advised: _,
        } = self;
        assert!(broker.sessions.all[session].members.contains(id), "{id} is of {session}");
        let at = &broker.peers.connections[connection];
        assert!(at.members.contains(id) && at.process == *process, "{id} is at {connection:?}");
        assert_eq!(*state, MemberState::Attached, "{id} leaves, and nothing is waited for");
        let is_draft = |id| matches!(objects.get(id), Some(Object::Draft(_)));
        assert!(drafts.iter().all(|draft| is_draft(*draft)), "drafts of {id}");
        assert!(
            references.iter().all(|held| broker.sessions.grants.holds(*held)),
            "{references:?}"
        );
        assert!(uploads.values().all(|upload| upload.unanswered == 0), "{uploads:?}");
        assert!(
            failed_uploads.len() <= crate::flows::working::messages::MAX_UPLOADS,
            "{failed_uploads:?}"
        );
        for (engine, record) in pending.keys() {
            let owners = broker.queues.engines.get(engine).and_then(|e| e.owners.get(record));
            assert!(owners.is_some_and(|o| o.contains(id)), "{record:x} is not {id}'s any more");
        }
        for engine in unfollowed.keys() {
            let known =
                broker.queues.engines.get(engine).is_some_and(|e| e.unfollowed.contains(id));
            assert!(known, "nothing ends what is not followed of {id}");
        }
        assert!(pending.len() <= FOLLOWED, "{id} follows {}", pending.len());
        let waited_for = pending.values().filter(|waits| **waits == Waits::Yes).count();
        assert_eq!(*waiting, waited_for as u64, "what a drain of {id} waits for");
        assert!(*unwritten == 0 && flushes.is_empty(), "writes of {id}");
    }
}

impl World {
    /// Where nothing is under way, what is kept is accounted for; when everybody has left nothing is left.
    pub(in crate::tests) fn check_at_rest(&self) {
        let broker = &self.broker;
        let waits = self.lanes.values().any(|l| !l.waiting.is_empty() || !l.done.is_empty());
        let due = self.armed.is_some_and(|at| at <= self.boot);
        let asked = !self.loads.is_empty() || !self.looks.is_empty() || !self.questions.is_empty();
        let under_way = waits || due || asked || !self.mirrored.is_empty() || self.unanswered() > 0;
        let queued = self.stores.values().map(|s| s.submissions.len()).sum::<usize>();
        let many = broker.sessions.members.len() + broker.peers.processes.iter().count() + queued;
        let many = many + broker.sessions.grants.waiting().count() > FEW;
        if under_way || many || self.stopped > 0 || broker.providers.awaits() {
            return;
        }
        broker.check_at_rest();
        self.assert_counts();
        self.check_queues();
        self.check_nothing_overlooked();
        let gone =
            broker.peers.connections.is_empty() && broker.peers.processes.iter().next().is_none();
        if gone && broker.sessions.all.is_empty() && broker.queues.engines.is_empty() {
            broker.check_as_at_the_start();
        }
    }

    /// A mailbox that watches knows of every change in its store.
    fn check_nothing_overlooked(&self) {
        if self.lied > 0 {
            return;
        }
        for lane in self.lanes.values() {
            let Worker::Mailbox(mailbox) = &lane.worker else { continue };
            let of_it = |store: &&Store| Some(store.uid) == mailbox.watches;
            for store in self.stores.values().filter(of_it) {
                let overlooked = &store.pending;
                assert!(overlooked.is_empty(), "{} does not know of {overlooked:?}", lane.name);
            }
        }
    }

    /// What is counted of a store's queue is what is in it.
    fn check_queues(&self) {
        for engine in self.broker.queues.engines.values().filter(|e| e.uid.is_some()) {
            let store = &self.stores[engine.path()];
            let open = || store.submissions.values().filter(|s| !s.state().is_final());
            let (counts, no_mail) = engine.counted();
            if engine.entries.values().any(|entry| entry.flights > 0) {
                // What became of it could not be written down yet.
                continue;
            }
            for state in SubmissionState::ALL.into_iter().filter(|s| !s.is_final()) {
                let there = open().filter(|s| s.state() == state).count() as i64;
                assert_eq!(
                    counts[state as usize],
                    there,
                    "{} in {:?}",
                    state.name(),
                    engine.path()
                );
            }
            assert_eq!(no_mail, open().filter(|s| s.no_mail).count() as i64, "without mail");
        }
    }
}
