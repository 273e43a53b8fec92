//! Providers that are not there: a store between sessions, one that opens or closes, a transport that was left behind.

use sundown_protocol::Reply;
use sundown_protocol::reply::Resource;
use sundown_protocol::request::{LogonFlags, QueueAction, QueueChange, Request};

use super::fakes::Step;
use super::world::{World, logon_request, secs};
use crate::ground::event::ConnectionId;
use crate::provider::Outcome;

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
