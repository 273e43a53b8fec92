//! Who is served next, and who has asked for too much.

use sundown_protocol::request::{Durability, LogoffFlags, Opening, Request, Submit};
use sundown_protocol::{Code, Events};

use super::world::{Member, World, logoff_request, profile, secs, settings};
use crate::settings::Limits;
use crate::settings::Profile;
use crate::settings::Right;
use crate::settings::Settings;

const ANNA: u32 = 2_001;
const BEN: u32 = 2_002;

fn submit_many(world: &mut World, member: Member, count: usize) {
    for _ in 0..count {
        let submit = world.submit_request(member, &["b@x"]);
        let request = Request::Submit(Submit { when: Durability::Deferred, ..submit });
        world.ask_with(member.at, request, 1);
    }
}

/// design §1 *an effect is never refused*: a worker gets no more calls than it has places, and processes take turns: one
/// with thousands of calls delays another's single call by one of them. (The places are checked in every test.)
#[test]
fn processes_take_turns() {
    let limits = Limits { requests: 10_000, request_bytes: 1 << 40, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let (greedy, modest) = (world.member(1), world.member(2));
    world.hold("store", "*");
    submit_many(&mut world, greedy, 2_000);
    assert_eq!(world.waiting_calls("store"), 256);
    let before = world.calls.len();
    let submit = world.submit_request(modest, &["m@x"]);
    let id = world.ask(modest.at, Request::Submit(submit));
    assert_eq!(world.calls.len(), before, "no place for it yet");
    world.carry_out_some("store", 2);
    let next: Vec<_> = world.calls[before..].iter().filter_map(|c| c.pid).collect();
    assert_eq!(next, [1, 2], "each in turn");
    world.carry_out_some("store", 256);
    assert!(world.answer(modest.at, id).is_some(), "it did not wait for the others");
    world.let_go("store");
    assert_eq!(world.wire.delivered_to("b@x"), 2_000);
    assert_eq!(world.wire.delivered_to("m@x"), 1);
}

/// Four hundred deferred submits that wait for the store; of those that came first 256 are with the worker.
fn fill(world: &mut World, member: Member) {
    world.hold("store", "*");
    submit_many(world, member, 400);
    assert_eq!(world.waiting_calls("store"), 256);
}

/// The processes whose calls come next, one for each place that is free again.
fn next(world: &mut World, count: usize) -> Vec<u32> {
    let before = world.calls.len();
    world.carry_out_some("store", count);
    world.calls[before..].iter().filter_map(|call| call.pid).collect()
}

/// A broker of which two other users may use the profile, whose sessions share one store.
fn users() -> World {
    let limits = Limits { requests: 10_000, request_bytes: 1 << 40, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let access = vec![(ANNA, Right::Session), (BEN, Right::Session)];
    world.add_profile(Profile { access, ..profile("default") });
    world
}

fn member_as(world: &mut World, process: (u32, u8), uid: u32) -> Member {
    let at = world.connect_image(process, uid);
    world.logon(at)
}

/// Turns in a lane go round users, then processes as the kernel knows them: neither many processes of a user nor many images of a
/// process have more of another's time.
#[test]
fn users_take_turns_then_their_processes() {
    let mut world = users();
    let first = member_as(&mut world, (1, 0), ANNA);
    let image = member_as(&mut world, (1, 1), ANNA);
    let second = member_as(&mut world, (2, 0), ANNA);
    let third = member_as(&mut world, (3, 0), ANNA);
    let ben = member_as(&mut world, (4, 0), BEN);
    fill(&mut world, first);
    for member in [image, second, third, ben] {
        submit_many(&mut world, member, 10);
    }
    assert_eq!(next(&mut world, 8), [1, 4, 2, 4, 3, 4, 1, 4]);
    world.let_all_go();
    assert_eq!(world.wire.delivered_to("b@x"), 440);
}

/// What processes have left behind takes one turn of their user, however many they were: those that hang up and come again as another
/// process have no more turns than one that stays, and a process that is here has its own.
#[test]
fn those_that_left_have_one_turn_of_their_user() {
    let mut world = users();
    let stays = member_as(&mut world, (1, 0), ANNA);
    let ben = member_as(&mut world, (2, 0), BEN);
    fill(&mut world, ben);
    for pid in 10..30 {
        let leaves = member_as(&mut world, (pid, 0), ANNA);
        submit_many(&mut world, leaves, 3);
        world.disconnect(leaves.at);
    }
    submit_many(&mut world, stays, 3);
    let turns = next(&mut world, 12);
    let of = |turns: &[u32], pids: std::ops::Range<u32>| {
        turns.iter().filter(|pid| pids.contains(pid)).count()
    };
    assert_eq!((of(&turns, 2..3), of(&turns, 1..2)), (6, 3), "{turns:?}");
    assert_eq!(of(&turns, 10..30), 3, "{turns:?}");
    world.let_all_go();
    assert_eq!(world.wire.delivered_to("b@x"), 463);
}

/// design §1: overdraft of the credit ends that connection, and only that.
#[test]
fn overdraft_ends_the_connection() {
    let limits = Limits { requests: 4, request_bytes: 1_000, ..Limits::default() };
    for (count, bytes) in [(5, 10), (2, 600)] {
        let mut world = World::with(Settings { limits: limits.clone(), ..settings() });
        let at = world.connect(1);
        let sibling = world.connect(1);
        let (member, sibling) = (world.logon(at), world.logon(sibling));
        world.hold("store", "*");
        for n in 1..=count {
            assert!(world.is_open(at), "{n} requests");
            let submit = world.submit_request(member, &["b@x"]);
            world.ask_with(at, Request::Submit(submit), bytes);
        }
        assert_eq!(world.closed(at), Some(Code::E_TOO_BIG));
        assert!(world.is_open(sibling.at));
        world.let_go("store");
        world.open(sibling, Opening::Store(0));
    }
}

/// design §1: answers give the credit back.
#[test]
fn answers_give_credit_back() {
    let limits = Limits { requests: 1, request_bytes: 100, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    for _ in 0..10 {
        world.open(member, Opening::Store(0));
        world.submit(member, "b@x");
        assert!(world.try_open(member, Opening::Store(9)).is_err());
    }
}

/// design §1, §10.10: logoff, release, unadvise and status need no credit: a full process can always leave.
#[test]
fn a_full_process_can_leave() {
    let limits = Limits { requests: 2, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    let object = world.open(member, Opening::Store(0));
    let advise = world.advise(member, Events::EXTENDED);
    world.hold("store", "OpenProperty");
    let entry = sundown_protocol::EntryId { store: 1, record: 1 };
    let source = sundown_protocol::request::ReadSource::Entry(entry);
    for _ in 0..2 {
        world.ask(member.at, Request::Read { member: member.id, source, offset: 0 });
    }
    for request in [
        Request::Status,
        Request::Release { member: member.id, object },
        Request::Unadvise { member: member.id, advise },
        logoff_request(member.id, LogoffFlags::default(), None),
    ] {
        assert!(world.call(member.at, request).is_ok());
    }
    assert!(world.is_open(member.at));
    world.let_go("store");
    world.advance(secs(20));
    assert_eq!(world.unanswered(), 0);
    world.assert_empty();
}

/// design §10.7: what a process handed over before it left reaches the store before the store is closed.
#[test]
fn a_store_closes_behind_what_waits_for_it() {
    let limits = Limits { requests: 10_000, request_bytes: 1 << 40, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    submit_many(&mut world, member, 1_000);
    world.disconnect(member.at);
    world.stop(crate::Stop::Fast);
    assert_eq!(world.stopped, 0);
    world.let_go("store");
    assert_eq!(world.stopped, 1);
    assert_eq!(world.store("default").submissions.len(), 1_000);
    world.assert_empty();
}

/// design §10.7, §10.8: a store with much to do is closed behind all of it, also when its sessions could not wait for it.
#[test]
fn a_slow_store_closes_behind_what_waits_for_it() {
    let limits = Limits { requests: 10_000, request_bytes: 1 << 40, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    world.hold("store", "*");
    submit_many(&mut world, member, 1_000);
    world.stop(crate::Stop::Fast);
    world.advance(secs(30));
    assert_eq!(world.stopped, 0);
    world.let_go("store");
    assert_eq!(world.stopped, 1);
    assert_eq!(world.store("default").submissions.len(), 1_000);
}

/// design §8 *quotas*: the broker has so many connections.
#[test]
fn the_broker_has_so_many_connections() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let (a, b, c) = (world.connect(1), world.connect(1), world.connect(2));
    assert!(world.is_open(a) && world.is_open(b));
    assert_eq!(world.closed(c), Some(Code::E_NOT_ENOUGH_RESOURCES));
    world.disconnect(a);
    let d = world.connect(2);
    assert!(world.is_open(d));
}
