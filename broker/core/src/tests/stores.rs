//! Providers that are not there: a store between sessions, one that opens or closes, a transport that was left behind.

use sundown_protocol::reply::Resource;
use sundown_protocol::request::{LogonFlags, QueueAction, QueueChange, Request};
use sundown_protocol::{Code, Reply};

use super::fakes::Step;
use super::world::{Member, World, logon_request, millis, secs};
use crate::ground::event::{ConnectionId, Stop};
use crate::provider::Outcome;
use crate::queue::engine::Engine;

/// Whether nothing is logged on to the store of this profile.
fn is_closed(world: &mut World, profile: &str) -> bool {
    world.store(profile).logons == 0
}

fn flush(world: &mut World, at: ConnectionId) {
    let flush = Request::Queue { profile: Some("default".into()), action: QueueAction::Flush };
    match world.call(at, flush) {
        Ok(Reply::Flushed(_)) => {}
        other => panic!("{other:?} to a flush"),
    }
}

/// A store stays open for ten seconds behind its last session, not behind an earlier one.
#[test]
fn a_store_stays_open_behind_its_last_session() {
    let mut world = World::new();
    for pid in 1..=3 {
        let member = world.member(pid);
        world.logoff(member);
        world.advance(secs(6));
        assert!(!is_closed(&mut world, "default"), "it was used six seconds ago");
    }
    world.advance(secs(5));
    assert!(is_closed(&mut world, "default"));
}

/// FLUSH-1: a flush asks all stores that are open, because each may have mail of the profile. One that is being opened or closed is none of them: it is
/// not waited for.
#[test]
fn a_flush_does_not_wait_for_stores_that_open_or_close() {
    let mut world = World::new();
    world.profile("work").stores[0].name = "archive".into();
    let asks = world.member(1);
    world.hold("archive", "*");
    let at = world.connect(2);
    world.ask(at, logon_request(Some("work"), LogonFlags::default()));
    world.settle();
    flush(&mut world, asks.at);
    world.let_go("archive");
    world.disconnect(at);
    world.advance(secs(5));
    world.hold("archive", "*");
    world.advance(secs(6));
    assert_eq!(world.waiting_calls("archive"), 1, "it closes");
    flush(&mut world, asks.at);
    world.let_go("archive");
    assert!(is_closed(&mut world, "work"));
    assert!(!world.calls_of("archive").contains(&"FlushQueues"));
}

/// QUEUE-9: what is given up keeps the mark of the transport that had it, because it may have gone out. What is tried again is
/// nobody's.
#[test]
fn what_is_given_up_keeps_who_had_it() {
    for (change, keeps) in [(QueueChange::Abort, true), (QueueChange::Retry, false)] {
        let mut world = World::new();
        let member = world.member(1);
        world.script("b@x", &[Step::Says(Outcome::Unknown)]);
        let entry = world.submit(member, "b@x");
        assert!(world.submission(entry).recipients[0].intent.is_some());
        world.hold("relay", "SubmitMessage");
        let action = QueueAction::Change(entry, change);
        let changed =
            world.call(member.at, Request::Queue { profile: Some("default".into()), action });
        assert!(changed.is_ok(), "{changed:?}");
        assert_eq!(world.submission(entry).recipients[0].intent.is_some(), keeps, "{change:?}");
    }
}

/// LOGON-13: a transport that never answered its logon was left behind. It is not called any more: `ValidateState` says at
/// once what is wrong. A flush gives it another worker, and that one delivers.
#[test]
fn what_was_left_behind_is_not_called() {
    let mut world = World::new();
    world.hold("relay", "Logon");
    let at = world.connect(1);
    let asked = world.ask(at, logon_request(None, LogonFlags::default()));
    world.advance(secs(31));
    let Some(Ok(Reply::LoggedOn(on))) = world.answer(at, asked) else { panic!("logged on") };
    let validate = Request::ValidateState {
        member: on.member,
        kind: Resource::TransportProvider,
        provider: "relay".into(),
    };
    let fault = world.call(at, validate).expect_err("it does not work");
    assert!(fault.message.contains("no answer"), "{fault:?}");
    world.clear_holds();
    flush(&mut world, at);
    let member = world.member(2);
    world.submit(member, "b@x");
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// A store does not close while it has a call to answer: what the call is part of may go on with it.
#[test]
fn a_store_with_calls_is_in_use() {
    let mut world = World::new();
    let member = world.member(1);
    world.logoff(member);
    let at = world.connect(2);
    world.hold("store", "FlushQueues");
    let asked = world.ask(at, Request::Queue { profile: None, action: QueueAction::Flush });
    world.advance(secs(15));
    assert_eq!(world.waiting_calls("store"), 1, "no logoff behind a flush that is under way");
    world.let_go("store");
    assert!(matches!(world.answer(at, asked), Some(Ok(Reply::Flushed(0)))));
    world.advance(secs(15));
    assert!(is_closed(&mut world, "default"));
}

/// A flush does not go on in a store that is closing. Whoever asked for it is told to ask again.
#[test]
fn a_stop_ends_a_flush() {
    let mut world = World::new();
    let member = world.member(1);
    for address in ["a@x", "b@x", "c@x"] {
        world.script(address, &[Step::Says(Outcome::Later)]);
        world.submit(member, address);
    }
    world.hold("store", "FlushQueues");
    let flush = Request::Queue { profile: Some("default".into()), action: QueueAction::Flush };
    let asked = world.ask(member.at, flush);
    world.settle();
    world.stop(Stop::Final);
    while !world.broker.queues.engines.values().any(Engine::is_closing) {
        world.advance(millis(100));
    }
    world.let_go("store");
    let answer = world.answer(member.at, asked).expect("an answer");
    assert_eq!(answer.expect_err("it was cut short").code, Code::E_WAIT);
    assert_eq!(flushes(&world), 1);
    assert!(is_closed(&mut world, "default"));
}

/// How many calls of a flush the store got.
fn flushes(world: &World) -> usize {
    world.calls_of("store").iter().filter(|call| **call == "FlushQueues").count()
}

/// A session whose store has no logon but the session's: the broker's own failed twice.
pub(super) fn only_a_session_holds_it(world: &mut World) -> Member {
    world.hold("store", "*");
    let at = world.connect(1);
    let asked = world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    for fails in [true, false, true] {
        if fails {
            world.store("default").failures.insert("Logon", [Code::E_DISK_ERROR].into());
        }
        world.carry_out_some("store", 1);
        world.settle();
    }
    assert_eq!(world.store("default").logons, 1);
    world.let_go("store");
    let Some(Ok(Reply::LoggedOn(logged_on))) = world.answer(at, asked) else { panic!("logged on") };
    Member { at, id: logged_on.member, session: logged_on.session }
}

/// Where the broker's own logon failed, the last session closes the store, and nothing is asked of it behind that.
#[test]
fn without_a_logon_of_its_own_a_store_goes_with_its_session() {
    let mut world = World::new();
    let member = only_a_session_holds_it(&mut world);
    world.logoff(member);
    assert!(is_closed(&mut world, "default"));
    assert_eq!(world.broker.queues.engines.values().count(), 0);
    world.advance(secs(30));
    world.assert_empty();
}

/// The broker's own logon is made again while a session holds the store. Then the store stays open behind the session.
#[test]
fn a_store_is_logged_on_again() {
    let mut world = World::new();
    let member = only_a_session_holds_it(&mut world);
    world.advance(secs(11));
    assert_eq!(world.store("default").logons, 2);
    flush(&mut world, member.at);
    assert_eq!(flushes(&world), 1);
    world.logoff(member);
    assert!(!is_closed(&mut world, "default"), "it was used just now");
    world.advance(secs(11));
    assert!(is_closed(&mut world, "default"));
}
