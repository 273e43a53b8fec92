//! What is left of what is over: nothing. That what is kept is accounted for is looked at in every test where nothing is under
//! way (`world/rest.rs`); here is what that found.

use sundown_protocol::request::{Folder, LogoffFlags, Opening, Request};
use sundown_protocol::{Code, Token};

use super::world::{World, logoff_request, secs};
use crate::sessions::session::SessionState;
use crate::settings::SharedLogoff;

/// Whoever comes and goes leaves no timer behind, however long it might have stayed: a drain of a year waits for no member that has
/// gone, and a minute of tokens for none that were taken back.
#[test]
fn what_comes_and_goes_leaves_no_timer() {
    let mut world = World::new();
    let stays = world.member(1);
    let folder = world.open(stays, Opening::Folder(0, Folder::INBOX));
    world.advance(secs(60));
    let before = world.broker.timers.count();
    world.hold("relay", "SubmitMessage");
    for pid in 2..12 {
        let leaves = world.member(pid);
        world.submit(leaves, "b@x");
        world.ask_logoff(leaves, LogoffFlags::default(), Some(secs(365 * 24 * 3_600)));
        world.disconnect(leaves.at);
        let token = Token(u128::from(pid));
        let grant = Request::Grant { member: stays.id, object: folder, token, pid: None };
        world.done(stays.at, grant);
        world.done(stays.at, Request::Revoke { member: stays.id, token });
    }
    world.settle();
    assert_eq!(world.broker.timers.count(), before);
}

/// A member that waits for one thing after the other has one timer, for what it waits for now.
#[test]
fn a_logoff_waits_for_one_thing_at_a_time() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    world.hold("store", "SubmitMessage");
    world.submit_deferred(member, "b@x");
    let before = world.broker.timers.count();
    let id = world.ask_logoff(member, LogoffFlags::default(), Some(secs(60)));
    assert_eq!(world.broker.timers.count(), before + 1, "for the store");
    world.let_go("store");
    assert_eq!(world.broker.timers.count(), before + 1, "for its mail");
    world.advance(secs(59));
    assert_eq!(world.answer(member.at, id), None);
    world.advance(secs(1));
    assert!(matches!(world.answer(member.at, id), Some(Ok(_))), "its time is up");
    world.let_all_go();
}

/// A session closes when the last call is over that its closing waits for, also if that was lost with its lane: a transport that
/// gives no answer to its logon is left behind, and nothing else holds the session.
#[test]
fn a_call_that_was_lost_holds_no_session() {
    let mut world = World::new();
    world.hold("relay", "Logon");
    world.apply(crate::Event::Adopt { profile: "default".into() });
    world.advance(secs(29));
    assert_eq!(world.broker.sessions.all.len(), 1, "its transport has its time");
    world.advance(secs(1));
    assert!(world.broker.sessions.all.is_empty(), "{:?}", world.broker.sessions.all);
}

/// A logoff that waits for the others waits no more when its connection has ended.
#[test]
fn who_has_gone_waits_for_nobody() {
    let mut world = World::new();
    let (first, other) = (world.member(1), world.member(2));
    world.broker.settings.shutdown.shared_logoff = SharedLogoff::Any;
    world.broker.settings.shutdown.grace = None;
    let wait = LogoffFlags(LogoffFlags::SHARED.0 | LogoffFlags::WAIT.0);
    world.ask(first.at, logoff_request(first.id, wait, None));
    let waits = |world: &World| world.broker.sessions.all[&other.session].leavers.len();
    assert_eq!(waits(&world), 1);
    world.disconnect(first.at);
    assert_eq!(waits(&world), 0);
    let state = &world.broker.sessions.all[&other.session].state;
    assert!(matches!(state, SessionState::Ending { .. }), "the other may stay: {state:?}");
    world.logoff(other);
}

/// What providers of a session were told by a Do that failed is forgotten with the next Do, if the process has left that
/// session meanwhile.
#[test]
fn a_session_that_was_left_keeps_nothing_of_a_do() {
    let mut world = World::new();
    let (tries, stays) = (world.member(1), world.connect(2));
    let (left, stays) = (world.logon_to(tries.at, "work"), world.logon_to(stays, "work"));
    assert!(world.query(tries.at).is_ok());
    let fails = |world: &mut World| {
        world.store("default").failures.insert("DoFastShutdown", [Code::E_DISK_ERROR].into());
        assert_eq!(world.do_fast(tries.at).expect_err("it failed").code, Code::E_DISK_ERROR);
    };
    let kept = |world: &World| world.broker.sessions.all[&stays.session].kept_by.len();
    fails(&mut world);
    assert_eq!(kept(&world), 1, "its providers were told");
    world.logoff(left);
    fails(&mut world);
    assert_eq!(kept(&world), 0);
}

/// SEED-12: what a process was told of a session ends with the session, and nothing of it is kept for those to come.
#[test]
fn notices_end_with_their_sessions() {
    let mut world = World::new();
    let at = world.connect(1);
    for _ in 0..3 {
        let member = world.logon(at);
        world.notify(at);
        let told = |world: &World| {
            let process =
                world.broker.peers.processes.find(&World::key(1)).expect("it is connected");
            process.told().len()
        };
        assert_eq!(told(&world), 1);
        world.logoff(member);
        assert_eq!(told(&world), 0);
    }
}
