//! The ten invariants of design §10, each a function of its own.
//!
//! Some hold in a state, some are about what one step shows, and some about where a state leads. The last are looked at
//! where nothing happens by itself any more, because every other state leads there.

use std::collections::BTreeMap;
use std::time::Duration;

use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{Folder, LogoffFlags, Opening, Request};
use sundown_protocol::{Code, Event as News, Fault, MemberId, RequestId};

use super::super::world::{Member, OWNER, World, logoff_request, secs};
use super::acts::{ADD_IN, Act, Happened, Pid, State, Step, Way};
use crate::ground::event::ConnectionId;
use crate::peers::process::Departure;
use crate::provider::ProviderType;
use crate::providers::view::ProviderState;
use crate::sessions::session::SessionState;

const PIDS: [Pid; 3] = [Pid(1), Pid(2), Pid(3)];

/// Checks that need only the state.
pub(super) fn check_state(state: &State) {
    let _way = Way(state.way.clone());
    every_member_is_told_of_a_shared_logoff_once(state);
    no_later_kind_is_asked_beside_an_earlier_one(state);
    verdicts_stay(state);
    what_is_dead_takes_no_calls(state);
    what_was_acknowledged_is_there_once(state);
    nothing_is_called_from_two_places(state);
    whoever_breaks_off_is_gone(state);
}

/// Checks of what one step did and showed.
pub(super) fn check_transition(before: &State, step: Step, happened: &Happened, after: &State) {
    let _way = Way(after.way.clone());
    nobody_else_is_disturbed(before, step, happened, after);
    nobody_else_is_told_of_a_shared_logoff(before, happened, after);
    answers_fit_the_verdict(happened, after);
    an_add_in_is_refused(happened);
    a_do_keeps_everything_or_changes_nothing(before, happened, after);
}

/// Checks of where a state leads in which nothing happens by itself.
pub(super) fn check_rest(state: &State) {
    let _way = Way(state.way.clone());
    state.world.check_at_rest();
    there_is_a_way_out(state);
    whoever_wants_to_leave_can(state);
}

/// Of a process that is connected or remembered.
fn departure(world: &World, pid: Pid) -> Departure {
    world.broker.peers.processes.find(&World::key(pid.0)).map_or(Departure::No, |p| p.departure)
}

fn is_here(state: &State, member: &Member) -> bool {
    state.world.broker.sessions.members.contains_key(&member.id)
}

/// Whether the session was ended for all, and the grace that everybody had is over.
fn is_over(state: &State) -> bool {
    let grace = state.world.broker.settings.shutdown.grace.unwrap_or(Duration::MAX);
    state.known.ended.is_some_and(|since| state.world.now() >= since + grace)
}

/// Design §10.1: fast shutdown or crash of one process changes nothing another can observe, except that its members
/// left, that references were lost, and what happens in stores.
fn nobody_else_is_disturbed(before: &State, step: Step, happened: &Happened, after: &State) {
    if after.is_restarted() {
        return;
    }
    for member in &after.members {
        let pid = after.process_of(member);
        let left = is_here(before, member) && !is_here(after, member);
        let broke = !after.world.is_open(member.at);
        let by_itself = broke || after.known.done.contains(&pid);
        let asked = after.known.logged_off.contains(&member.id);
        let put_out = is_over(after) && after.known.evicted.contains(&member.id);
        assert!(!left || by_itself || asked || put_out, "{member:?} left without a reason");
        let ended = |act: &Act| match act {
            Act::Die(_) => act.is_of(pid),
            Act::Break => member.at == after.members[1].at,
            _ => false,
        };
        assert!(!broke || after.did.iter().any(ended), "{member:?} lost its connection");
    }
    for (member, news) in &happened.news {
        let is_reference = after.known.reference.is_some_and(|(_, id)| id == member.id);
        let may = match news {
            News::MemberLeft { member: left, .. } => *left != member.id,
            News::CriticalError { code: Code::E_END_OF_SESSION, .. } => after.known.ended.is_some(),
            News::Evicted => is_over(after),
            News::CriticalError { code: Code::RPC_E_DISCONNECTED, .. } => is_reference,
            News::Durable(entries) => {
                let own = u128::from(after.process_of(member).0);
                entries.iter().all(|e| e.record % 1_000 == own)
            }
            News::Arrived(_) => after.did.contains(&Act::Mail),
            News::LogoffProgress { .. } => {
                after.did.contains(&Act::Drain(after.process_of(member)))
            }
            _ => false,
        };
        assert!(may, "{member:?} was told {news:?}");
    }
    // What a process does or suffers is not seen in what another has, unless that one is leaving and waits for it.
    let Step::Act(act) = step else { return };
    let stays = |m: &&Member| {
        before.world.broker.sessions.members.get(&m.id).is_some_and(|member| !member.is_leaving())
    };
    for member in before.members.iter().filter(stays) {
        let pid = before.process_of(member);
        if act.is_of(pid) || matches!(act, Act::Wake) {
            continue;
        }
        let [was, is] =
            [before, after].map(|state| state.world.broker.sessions.members.get(&member.id));
        let (was, is) = (was.expect("it is here"), is.expect("it is here still"));
        assert_eq!((&was.advises, &was.drafts), (&is.advises, &is.drafts), "{act:?}");
        assert_eq!(was.objects.len(), is.objects.len(), "{act:?}");
        assert!(matches!(act, Act::Shared(_)) || was.state == is.state, "{act:?}");
    }
}

/// Design §10.2: one shared logoff, and every other member is told exactly once.
fn every_member_is_told_of_a_shared_logoff_once(state: &State) {
    if !state.is_restarted() {
        assert_eq!(state.known.told, state.known.heard, "who was to be told, and who was");
    }
}

/// Design §10.2: nobody is told at any other time, and the session cannot be joined from then on. A shared logoff that a Do of
/// its process held takes effect when that Do has failed.
fn nobody_else_is_told_of_a_shared_logoff(before: &State, happened: &Happened, after: &State) {
    let ends = before.known.ended.is_none() && after.known.ended.is_some();
    for (member, news) in &happened.news {
        if matches!(news, News::CriticalError { code: Code::E_END_OF_SESSION, .. }) {
            let other = after.known.told.contains_key(&member.id);
            assert!(ends && other, "{member:?} is told of the end");
        }
    }
    if after.known.ended.is_some() && !after.is_restarted() {
        let session = after.world.broker.sessions.all.get(&after.members[0].session);
        let over = |s: &SessionState| {
            matches!(s, SessionState::Ending { .. } | SessionState::Closing { .. })
        };
        assert!(session.is_none_or(|s| over(&s.state)), "an ended session goes on");
        let joinable =
            after.world.broker.sessions.joinable.values().any(|id| *id == after.members[0].session);
        assert!(!joinable, "an ended session can be joined");
    }
}

/// Design §10.3: in each phase of a shutdown transports, then address books, then stores; a later kind waits. When time
/// has passed somebody may have been left behind; who may be, the harness looks at with each call, and at the order in which a
/// session that closes logs its providers off.
fn no_later_kind_is_asked_beside_an_earlier_one(state: &State) {
    let beside = state.world.out_of_order();
    assert!(
        beside.is_none(),
        "an earlier kind has not answered, a later one was called: {beside:?}"
    );
}

/// Design §10.4: a verdict never changes, as long as its process lives.
fn verdicts_stay(state: &State) {
    if state.is_restarted() {
        return;
    }
    for pid in PIDS {
        let process = state.world.broker.peers.processes.find(&World::key(pid.0));
        assert!(process.is_none_or(|p| p.verdict == Some(true)), "the verdict of {pid:?}");
    }
}

/// Design §10.4: and whoever asks again is answered so.
fn answers_fit_the_verdict(happened: &Happened, after: &State) {
    for (act, answer) in &happened.answers {
        if let Act::Query(pid) = act {
            let gone = departure(&after.world, *pid) != Departure::No;
            let code = answer.as_ref().err().map(|fault| fault.code);
            let fits = code.is_none() || (gone && code == Some(Code::E_NOT_INITIALIZED));
            assert!(fits, "{pid:?} was answered yes before, and now {answer:?}");
        }
    }
}

/// SEED-15: only the host speaks for its process.
fn an_add_in_is_refused(happened: &Happened) {
    for (act, answer) in happened.answers.iter().filter(|(act, _)| *act == Act::AddIn) {
        let code = answer.as_ref().expect_err("an add-in is no host").code;
        assert!([Code::E_NO_ACCESS, Code::E_NOT_INITIALIZED].contains(&code), "{act:?}: {code}");
    }
}

fn code_of(world: &mut World, at: ConnectionId, request: Request) -> Option<Code> {
    let id = world.ask(at, request);
    world.answer(at, id)?.err().map(|fault| fault.code)
}

/// Design §10.5, §3.12: a handle of a member that is gone, or is somebody else's, is refused, each with its code.
fn what_is_dead_takes_no_calls(state: &State) {
    if state.is_restarted() {
        return;
    }
    let mut world = state.world.clone();
    let gone = |world: &World, pid| departure(world, pid) != Departure::No;
    let done = |world: &World, pid| departure(world, pid) == Departure::Done;
    let open = |id: MemberId| Request::Open { member: id, what: Opening::StatusTable };
    for member in &state.members {
        let pid = state.process_of(member);
        if !world.is_open(member.at) {
            continue;
        }
        if is_here(state, member) {
            let attached = !state.world.broker.sessions.members[&member.id].is_leaving();
            let free = attached && !gone(&world, pid);
            let code = code_of(&mut world, member.at, open(member.id));
            assert!(!free || code.is_none(), "{member:?} is here and is refused: {code:?}");
            continue;
        }
        let wanted = if done(&world, pid) {
            Some(Code::E_NOT_INITIALIZED)
        } else if gone(&world, pid) {
            // It waits for the outcome of the Do.
            None
        } else if state.known.evicted.contains(&member.id) {
            Some(Code::E_END_OF_SESSION)
        } else {
            Some(Code::E_INVALID_OBJECT)
        };
        assert_eq!(code_of(&mut world, member.at, open(member.id)), wanted, "{member:?}");
    }
    for (thief, owner) in [(1, 2), (2, 3), (3, 1)].map(|(a, b)| (Pid(a), state.member(Pid(b)))) {
        let at = state.member(thief).at;
        if world.is_open(at) && !gone(&world, thief) {
            let code = code_of(&mut world, at, open(owner.id));
            assert_eq!(
                code,
                Some(Code::E_INVALID_OBJECT),
                "{thief:?} with the handle of {owner:?}"
            );
        }
    }
    if let Some((at, id)) = state.known.reference
        && world.is_open(at)
    {
        let object = the_object();
        let list = Request::List { member: id, object, after: 0, limit: 1 };
        let holder = PIDS.into_iter().find(|pid| state.member(*pid).at == at);
        let code = code_of(&mut world, at, list);
        let wanted = match state.known.reference_lost {
            _ if holder.is_some_and(|pid| done(&world, pid)) => Some(Code::E_NOT_INITIALIZED),
            _ if holder.is_some_and(|pid| gone(&world, pid)) => None,
            true => Some(Code::RPC_E_DISCONNECTED),
            false => None,
        };
        assert_eq!(code, wanted, "what process 1 granted");
        // Whoever has left is not told any more.
        let granter = is_here(state, &state.members[0]) || holder.is_some_and(|p| gone(&world, p));
        assert!(granter || state.known.reference_lost, "a reference outlives its granter");
    }
}

fn the_object() -> sundown_protocol::ObjectId {
    sundown_protocol::ObjectId { place: 0, generation: 0 }
}

/// Design §10.6: what was acknowledged as durable is in its store, once, and went out once at most; a repeated key made
/// no second one.
fn what_was_acknowledged_is_there_once(state: &State) {
    let world = &state.world;
    for entry in &state.known.durable {
        let stores = world.stores.values().filter(|s| s.uid == entry.store);
        let found = stores.filter(|s| s.submissions.contains_key(&entry.record));
        assert_eq!(found.count(), 1, "{entry} was acknowledged");
    }
    let mut sent = BTreeMap::new();
    for (_, record, address) in &world.wire.delivered {
        *sent.entry((record, address)).or_insert(0) += 1;
    }
    assert!(sent.values().all(|times| *times == 1), "{sent:?}");
    for store in world.stores.values() {
        for submission in store.submissions.values() {
            for recipient in &submission.recipients {
                let times = sent.get(&(&submission.record, &recipient.address)).copied();
                let right = recipient.state != SubmissionState::Sent || times == Some(1);
                assert!(right, "{submission:?} went out {times:?} times");
            }
        }
    }
}

/// Design §10.7: each provider of each session has one lane, one that was changed another one until it has left, and each store one
/// that writes and one that reads, whatever the number of sessions; a recipient that is with a transport is being transmitted. That nothing is called
/// after its logoff, and that no recipient is with two transports, the harness looks at with each call.
fn nothing_is_called_from_two_places(state: &State) {
    let mut lanes = BTreeMap::new();
    for (_, kind, name) in state.world.open_lanes() {
        *lanes.entry((kind, name)).or_insert(0) += 1;
    }
    let sessions = state.world.broker.sessions.all.len();
    let engines = state.world.broker.queues.engines.len();
    for ((kind, name), count) in lanes {
        let views = state.world.broker.sessions.all.values().flat_map(|s| &s.providers);
        let views = views.filter(|p| (p.kind, p.name.as_str()) == (kind, name));
        let (in_use, leaving): (Vec<_>, Vec<_>) = views.partition(|p| p.is_in_use());
        assert!(in_use.len() <= sessions, "{in_use:?} are of {sessions} sessions");
        let leaving = leaving.iter().filter(|p| p.state != ProviderState::Gone).count();
        let most = if kind == ProviderType::Store { 2 * engines } else { sessions + leaving };
        assert!(
            count <= most,
            "{count} lanes lead to {name}, of {sessions} sessions and {engines} stores"
        );
    }
    let paths = state
        .world
        .broker
        .queues
        .engines
        .values()
        .map(crate::queue::engine::Engine::path)
        .collect::<std::collections::BTreeSet<_>>()
        .len();
    assert_eq!(paths, engines, "two engines for one store");
}

/// Design §10.8: when everything works again and everybody leaves, nothing is left, what was acknowledged went out
/// once, and every draft is there once. A broker that took the place of another one serves whoever comes back.
fn there_is_a_way_out(state: &State) {
    let mut world = state.world.clone();
    for store in world.stores.values_mut() {
        store.failures.clear();
    }
    world.lies.clear();
    world.let_all_go();
    world.advance(secs(40));
    if state.is_restarted() {
        let at = if state.did.contains(&Act::Die(Pid(1))) {
            let at = world.connect(1);
            world.logon(at);
            assert!(world.query(at).is_ok() || state.did.contains(&Act::Reload));
            at
        } else {
            come_back(&mut world)
        };
        an_end_stays_one(&mut world);
        let leave = Request::DoFastShutdown { remembered: true };
        let disabled = state.did.contains(&Act::Reload);
        let answer = world.call(at, leave);
        assert!(disabled || answer == Ok(Reply::Done), "{answer:?} after a restart");
        world.disconnect(at);
    } else {
        assert_eq!(world.unanswered(), 0, "requests without an answer");
        for member in state.members {
            if world.is_open(member.at) {
                world.disconnect(member.at);
            }
        }
    }
    for pid in PIDS {
        world.end_process(pid.0);
    }
    world.advance(secs(120));
    mail(state, &world);
    drafts(state, &world);
    world.assert_empty();
}

/// SEED-4: a session that was ended before the restart is not gone on with. Whoever was in it gets back into it within the grace, is
/// told once, and never gets into the session that others join.
fn an_end_stays_one(world: &mut World) {
    let Some(end) = world.ends.values().next().cloned() else { return };
    let over = end.until.is_some_and(|until| until <= world.now());
    let at = world.connect(2);
    let joined = world.logon(at);
    let joined = (joined.session, world.logoff(joined));
    match world.try_return(at, (end.tag, false)) {
        Ok(back) => {
            assert!(!over, "the grace is over");
            assert_eq!(world.critical_errors(back), 1, "it is told once");
            assert_ne!(back.session, joined.0, "an ended session was joined");
        }
        Err(fault) => {
            assert!(over && fault.code == Code::E_END_OF_SESSION, "{fault}");
        }
    }
    world.disconnect(at);
}

/// SEED-12, SEED-15: process 1 comes back to another broker. An add-in that comes first is no host, and a word without a ticket is
/// worth nothing.
fn come_back(world: &mut World) -> ConnectionId {
    let leave = Request::DoFastShutdown { remembered: true };
    let add_in = world.connect_with(1, OWNER, ADD_IN);
    let at = world.connect(1);
    for at in [add_in, at] {
        assert_eq!(world.refused(at, leave.clone()), Code::E_NO_ACCESS);
    }
    world.ticket(at).expect("believed");
    assert_eq!(world.refused(add_in, leave), Code::E_NO_ACCESS);
    world.disconnect(add_in);
    world.logon(at);
    at
}

/// Design §10.6: in the end.
fn mail(state: &State, world: &World) {
    for entry in &state.known.durable {
        assert_eq!(world.state(*entry), SubmissionState::Sent, "{entry}");
        let times = world.wire.delivered.iter().filter(|(_, r, _)| *r == entry.record);
        assert_eq!(times.count(), 1, "{entry}");
    }
    // What was accepted and not said to be lost is there too, unless the broker died or the store could not write.
    let may_miss = state.is_restarted() || fails(state);
    for entry in PIDS.into_iter().flat_map(|pid| state.world.accepted_by(pid.0)) {
        let stored = world.stores.values().any(|s| s.submissions.contains_key(&entry.record));
        assert!(may_miss || stored, "{entry} was accepted and is lost");
    }
}

/// Design §3.9, §10.9: a draft of whoever did not log off is in Drafts, once. Of whoever logged off after a Do that failed,
/// or while one ran, it may be: the Do may have stored it.
fn drafts(state: &State, world: &World) {
    let mut found: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for store in world.stores.values() {
        for message in store.messages.values().filter(|m| m.folder == Folder::DRAFTS) {
            assert!(message.recovered, "nobody saved it");
            *found.entry(message.bytes.clone()).or_default() += 1;
        }
    }
    let may_miss = state.is_restarted() || fails(state);
    let logged_off = |m: &Member| state.known.logged_off.contains(&m.id);
    // A logoff that waited for mail went through meanwhile.
    let leaving = |m: &Member| {
        let member = state.world.broker.sessions.members.get(&m.id);
        member.is_some_and(crate::sessions::member::Member::is_leaving)
    };
    let [first, second, archive, other, third] = state.members;
    let whose = [
        ("1", vec![first]),
        ("2", vec![second]),
        ("3", vec![archive]),
        ("theirs", vec![other, third]),
    ];
    for (text, whose) in whose {
        let count = found.get(text.as_bytes()).copied().unwrap_or(0);
        let tried = |m: &Member| state.did.contains(&Act::Do(state.process_of(m)));
        let most = whose.len() - whose.iter().filter(|m| logged_off(m) && !tried(m)).count();
        let least = whose.iter().filter(|m| !logged_off(m) && !leaving(m)).count();
        let right = count <= most && (may_miss || count >= least);
        assert!(right, "{count} drafts {text:?} instead of {least} to {most}");
    }
}

/// Design §10.9: a Do that was answered with success lost nothing, and one that failed tore nothing down. What of it
/// is stored the harness looks at with each answer.
fn a_do_keeps_everything_or_changes_nothing(before: &State, happened: &Happened, after: &State) {
    for (act, answer) in &happened.answers {
        let Act::Do(pid) = act else { continue };
        match answer {
            Ok(_) => assert_eq!(departure(&after.world, *pid), Departure::Done),
            Err(fault) => {
                assert!(may_fail(after, fault.code), "{fault}");
                assert_eq!(departure(&after.world, *pid), Departure::No);
                let stays = |m: &&Member| {
                    before.process_of(m) == *pid
                        && is_here(before, m)
                        && !after.known.evicted.contains(&m.id)
                        // Its logoff was held by the Do.
                        && !after.known.logged_off.contains(&m.id)
                };
                for member in before.members.iter().filter(stays) {
                    assert!(is_here(after, member), "{member:?} was torn down by a Do that failed");
                }
            }
        }
    }
    // What was answered is not torn down in the same breath.
    for (act, _) in &happened.answers {
        if let Act::Do(pid) = act {
            let of_it = |m: &&Member| before.process_of(m) == *pid && is_here(before, m);
            let left = |m: &Member| {
                after.known.evicted.contains(&m.id) || after.known.logged_off.contains(&m.id)
            };
            let stays = |m: &Member| is_here(after, m) || left(m);
            assert!(before.members.iter().filter(of_it).all(stays), "torn down before the answer");
        }
    }
}

/// Whether the store of the shared session could not write something, or did not say that it has.
fn fails(state: &State) -> bool {
    state.did.contains(&Act::Fail) || state.did.contains(&Act::Lie)
}

fn may_fail(state: &State, code: Code) -> bool {
    let did = |act| state.did.contains(&act);
    match code {
        Code::E_NOT_ENOUGH_DISK => did(Act::Fail),
        Code::E_CORRUPT_DATA => did(Act::Lie),
        Code::E_BUSY => state.known.reference.is_some(),
        Code::E_TIMEOUT => did(Act::Wake) || did(Act::Look),
        Code::E_NO_SUPPORT => did(Act::Reload),
        _ => false,
    }
}

/// Design §10.10: whoever breaks its connections off is gone at once, whatever everybody else does.
fn whoever_breaks_off_is_gone(state: &State) {
    if state.is_restarted() {
        return;
    }
    let mut world = state.world.clone();
    for member in state.members {
        if world.is_open(member.at) {
            world.disconnect(member.at);
        }
        assert!(
            !world.broker.sessions.members.contains_key(&member.id),
            "{member:?} broke off and is here"
        );
    }
}

/// Design §10.10: when no provider answers any more, a process that asks to leave is answered all the same.
fn whoever_wants_to_leave_can(state: &State) {
    if state.is_restarted() {
        return;
    }
    let mut hung = state.world.clone();
    for provider in ["relay", "people", "store"] {
        hung.hold(provider, "*");
    }
    for pid in PIDS {
        let member = state.member(pid);
        if !hung.is_open(member.at) || departure(&hung, pid) == Departure::Done {
            continue;
        }
        let leave = Request::DoFastShutdown { remembered: false };
        let patience = state.world.broker.settings.shutdown.deadline + secs(1);
        answered_within(&hung, member.at, leave, patience);
        if is_here(state, &member) {
            let logoff = logoff_request(member.id, LogoffFlags::default(), Some(secs(20)));
            answered_within(&hung, member.at, logoff, secs(31));
        }
    }
}

fn answered_within(world: &World, at: ConnectionId, request: Request, patience: Duration) {
    let mut world = world.clone();
    let name = request.name();
    let id: RequestId = world.ask(at, request);
    world.advance(patience);
    let answer: Option<Result<Reply, Fault>> = world.answer(at, id);
    assert!(answer.is_some() || !world.is_open(at), "{name} was not answered in {patience:?}");
}
