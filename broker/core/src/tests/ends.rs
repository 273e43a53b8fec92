//! A shared logoff and a restart of the broker within its grace (SEED-4).

use std::time::Duration;

use sundown_protocol::notification::EndReason;
use sundown_protocol::request::{LogoffFlags, Opening, Request};
use sundown_protocol::{Code, Event as News, SessionTag};

use super::world::{Member, OWNER, World, secs, settings};
use crate::Stop;
use crate::ground::event::ConnectionId;
use crate::settings::Settings;
use crate::settings::Shutdown;

/// A member whose library keeps what outlives a broker.
fn member(world: &mut World, pid: u32) -> Member {
    let at = connect(world, pid);
    world.logon(at)
}

fn connect(world: &mut World, pid: u32) -> ConnectionId {
    let at = world.connect(pid);
    world.ticket(at).expect("given");
    at
}

fn grace_of(news: &[News]) -> Option<u64> {
    match news {
        [
            News::CriticalError {
                code: Code::E_END_OF_SESSION,
                reason: EndReason::SharedLogoff,
                by,
                grace,
            },
        ] => {
            assert_eq!(by.as_ref().map(|by| by.pid), Some(1), "who did it");
            *grace
        }
        other => panic!("{other:?} instead of the end"),
    }
}

/// SEED-4, design §3.2: it is written down before a member is told; after a restart, by a crash or in order, who was told comes
/// back into the same ending session in silence, who was not is told once, and both have the grace that remains.
#[test]
fn a_restart_within_the_grace_undoes_nothing() {
    for orderly in [false, true] {
        let mut world = World::new();
        let (leaves, told, untold) =
            (member(&mut world, 1), member(&mut world, 2), member(&mut world, 3));
        let tag = world.tag(told);
        assert_eq!(world.tag(untold), tag, "one session, one name");
        world.logoff_shared(leaves);
        assert_eq!(grace_of(&world.news(told)), Some(30_000));
        world.advance(secs(10));
        if orderly {
            world.stop(Stop::Restart);
            world.advance(secs(2));
            assert_eq!(world.stopped, 1);
        }
        world.crash_and_read();
        let at = connect(&mut world, 2);
        let back = world.try_return(at, (tag, true)).expect("the grace is not over");
        assert_eq!(world.news(back), [], "it was told before");
        let at = connect(&mut world, 3);
        let other = world.try_return(at, (tag, false)).expect("the grace is not over");
        assert_eq!(other.session, back.session);
        let rest = grace_of(&world.news(other)).expect("a grace");
        assert!((17_000..=20_000).contains(&rest), "{rest} ms of the grace remain");
        world.open(back, Opening::Store(0));
        // Whoever logs on without a name gets a session of its own.
        let fresh = member(&mut world, 4);
        assert_ne!(fresh.session, back.session);
        assert_ne!(world.tag(fresh), tag);
        world.logoff(other);
        world.advance(secs(21));
        assert_eq!(world.news(back), [News::Evicted], "{orderly}");
        world.logoff(fresh);
        world.advance(secs(200));
        world.assert_empty();
        assert!(world.ends.is_empty(), "an end is kept no longer than it must be");
    }
}

/// After the grace, and after the session has closed, who comes back is told that it is over: in this broker as in the next one.
/// Nobody gets into a fresh session by the name of an old one.
#[test]
fn after_the_grace_there_is_no_way_back() {
    for restarts in [false, true] {
        let mut world = World::new();
        let (leaves, other) = (member(&mut world, 1), member(&mut world, 2));
        let tag = world.tag(other);
        world.logoff_shared(leaves);
        world.disconnect(other.at);
        world.advance(secs(31));
        if restarts {
            world.crash_and_read();
        }
        let at = connect(&mut world, 2);
        for told in [true, false] {
            let refused = world.try_return(at, (tag, told)).expect_err("it is over");
            assert_eq!(refused.code, Code::E_END_OF_SESSION, "{refused}");
        }
        assert_eq!(world.broker.sessions.all.len(), 0);
        // An end that nobody comes back to is forgotten.
        world.advance(secs(200));
        assert!(world.ends.is_empty());
        assert!(world.try_return(at, (tag, true)).is_ok(), "then it is a logon");
    }
}

/// Of a session that was not ended nothing is written down, and who returns to it joins it.
#[test]
fn what_was_not_ended_is_joined() {
    let mut world = World::new();
    let (stays, leaves) = (member(&mut world, 1), member(&mut world, 2));
    let tag = world.tag(leaves);
    world.disconnect(leaves.at);
    let at = connect(&mut world, 2);
    let back = world.try_return(at, (tag, false)).expect("it goes on");
    assert_eq!(back.session, stays.session);
    assert!(world.ends.is_empty());
    world.crash_and_read();
    let at = connect(&mut world, 2);
    assert!(world.try_return(at, (tag, false)).is_ok());
}

/// Whoever is not of the session has nothing by its name; nor has another profile.
#[test]
fn a_name_is_worth_nothing_to_others() {
    let shutdown = Shutdown { grace: None, ..Shutdown::default() };
    let mut world = World::with(Settings { shutdown, ..settings() });
    world.profile("default").access = vec![(OWNER + 1, crate::settings::Right::Session)];
    let (leaves, other) = (member(&mut world, 1), member(&mut world, 2));
    let tag = world.tag(other);
    world.logoff_shared(leaves);
    let stranger = world.connect_as(3, OWNER + 1);
    assert_eq!(
        world.try_return(stranger, (tag, false)).expect_err("not its own").code,
        Code::E_NO_ACCESS
    );
    let logon = sundown_protocol::request::Logon {
        profile: Some("work".into()),
        flags: sundown_protocol::request::LogonFlags::default(),
    };
    let at = connect(&mut world, 2);
    assert_eq!(world.refused(at, Request::Return { logon, tag, told: false }), Code::E_NO_ACCESS);
    // Without a limit of the grace it goes on ending until the last member has left.
    world.advance(secs(3_600));
    let back = world.try_return(at, (tag, true)).expect("it has not ended");
    world.logoff(other);
    world.logoff(back);
    assert_eq!(world.try_return(at, (tag, true)).expect_err("over").code, Code::E_END_OF_SESSION);
}

/// A logoff that waits for the others is asked again after a crash, and waits for those who came back.
#[test]
fn a_logoff_that_waits_goes_on_waiting() {
    let mut world = World::new();
    let (leaves, _other) = (member(&mut world, 1), member(&mut world, 2));
    let tag = world.tag(leaves);
    let wait = LogoffFlags::SHARED.with(LogoffFlags::WAIT);
    world.ask_logoff(leaves, wait, None);
    world.crash_and_read();
    let at = connect(&mut world, 1);
    let again = world.try_return(at, (tag, true)).expect("it ended it and has not left");
    let at = connect(&mut world, 2);
    let stays = world.try_return(at, (tag, true)).expect("it has its grace");
    let id = world.ask_logoff(again, wait, None);
    world.settle();
    assert_eq!(world.answer(again.at, id), None, "it waits");
    world.advance(secs(31));
    let off = world.answer(again.at, id).expect("the grace is over").expect("it leaves");
    let off = super::world::logged_off(off);
    assert_eq!(off.stayed, [world.peer(stays.at)]);
}

/// Clients of older versions log on without a name: they get a fresh session, and so does whoever joins it.
#[test]
fn an_older_client_gets_a_fresh_session() {
    let mut world = World::new();
    let (leaves, other) = (world.member(1), world.member(2));
    world.logoff_shared(leaves);
    assert_eq!(world.critical_errors(other), 1);
    world.crash_and_read();
    let back = world.member(2);
    assert_eq!(world.news(back), []);
    world.advance(Duration::from_secs(40));
    world.open(back, Opening::Store(0));
    assert_eq!(
        world.try_return(back.at, (SessionTag(u128::MAX), false)).expect("a logon").session,
        back.session
    );
}

/// Behind a restart another process is first, and ends the session that it gets. A member that is back after that was in what was ended: it is told once,
/// and is in no fresh session.
#[test]
fn who_is_back_after_the_end_of_its_heir_is_told() {
    for stays in [false, true] {
        let mut world = World::new();
        let (_early, late) = (member(&mut world, 1), member(&mut world, 2));
        let tag = world.tag(late);
        world.advance(secs(1));
        world.crash_and_read();
        let at = connect(&mut world, 1);
        let again = world.try_return(at, (tag, false)).expect("it is back");
        let other = stays.then(|| member(&mut world, 3));
        world.logoff_shared(again);
        let at = connect(&mut world, 2);
        let back = world.try_return(at, (tag, false));
        match (other, back) {
            (None, back) => {
                let fault = back.expect_err("it has ended");
                assert_eq!(fault.code, Code::E_END_OF_SESSION, "{}", fault.message);
            }
            (Some(other), back) => {
                let on = back.expect("within the grace");
                assert_eq!(on.session, other.session, "into what was ended");
                assert_eq!(grace_of(&world.news(on)), Some(30_000));
                assert_eq!(world.critical_errors(other), 1);
            }
        }
    }
}

/// What began after an end is not ended by it, in the same broker and in later ones.
#[test]
fn what_began_after_an_end_goes_on() {
    let mut world = World::new();
    let before = member(&mut world, 1);
    let old = world.tag(before);
    world.advance(secs(1));
    world.crash_and_read();
    let ends = member(&mut world, 1);
    world.logoff_shared(ends);
    world.advance(secs(1));
    let after = member(&mut world, 2);
    let tag = world.tag(after);
    world.disconnect(after.at);
    let at = connect(&mut world, 2);
    world.try_return(at, (tag, false)).expect("it goes on in the same broker");
    world.advance(secs(1));
    world.crash_and_read();
    let at = connect(&mut world, 2);
    world.try_return(at, (tag, false)).expect("and in the next one");
    let at = connect(&mut world, 3);
    let fault = world.try_return(at, (old, false)).expect_err("that one was ended");
    assert_eq!(fault.code, Code::E_END_OF_SESSION);
    // Another profile has another session.
    world.add_profile(super::world::profile("work"));
    let at = connect(&mut world, 4);
    world.logon_to(at, "work");
}
