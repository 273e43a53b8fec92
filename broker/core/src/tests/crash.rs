//! Processes that end without saying so, and brokers that do.

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::{LogoffFlags, Opening, Request};
use sundown_protocol::{Event as News, Events};

use super::world::{Member, World, secs};
use crate::Event;

/// design §3.9, A-25: the end of a connection is a logoff of its members and of nobody else.
#[test]
fn a_lost_connection_logs_its_members_off() {
    let mut world = World::new();
    let (at, sibling) = (world.connect(1), world.connect(1));
    let (a, b, c) = (world.logon(at), world.logon(at), world.logon(sibling));
    world.advise(c, Events::EXTENDED);
    let entry = world.submit(a, "b@x");
    world.disconnect(at);
    let left = |m| News::MemberLeft { member: m, reason: LeaveReason::Disconnected };
    assert_eq!(world.news(c), [left(a.id), left(b.id)]);
    world.open(c, Opening::Store(0));
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// Members that leave at once are told of in one notice, and not of each other: what they are told of is not a product of how many
/// leave and how many stay.
#[test]
fn departures_at_once_are_one_notice() {
    let mut world = World::new();
    let dies = world.connect(1);
    let leave: Vec<_> = (0..20).map(|_| world.logon(dies)).collect();
    let other = world.logon_to(dies, "work");
    let stays: Vec<_> = (2..5).map(|pid| world.member(pid)).collect();
    for member in leave.iter().chain(&stays).chain([&other]) {
        world.advise(*member, Events::EXTENDED);
    }
    let before: Vec<_> = stays.iter().map(|member| world.notices(member.at)).collect();
    world.disconnect(dies);
    let left = |m: &Member| News::MemberLeft { member: m.id, reason: LeaveReason::Disconnected };
    let left: Vec<_> = leave.iter().map(left).collect();
    for (member, before) in stays.iter().zip(before) {
        assert_eq!(world.notices(member.at) - before, 1);
        assert_eq!(world.news(*member), left);
    }
}

/// design §2 *process*: when the kernel says that a process ended, all its connections end, though something holds them.
#[test]
fn an_ended_process_loses_all_its_connections() {
    let mut world = World::new();
    let (first, second) = (world.connect(1), world.connect(1));
    let (a, b) = (world.logon(first), world.logon_to(second, "work"));
    let other = world.member(2);
    world.end_process(1);
    world.end_process(1);
    world.settle();
    for member in [a, b] {
        assert!(!world.is_open(member.at));
    }
    world.open(other, Opening::Store(0));
    assert_eq!(world.sessions(), ["active"]);
    let again = world.connect(1);
    world.logon(again);
}

/// design §10.1: a crash in the middle of everything disturbs nobody else.
#[test]
fn a_crash_disturbs_nobody() {
    let mut world = World::new();
    let (dies, lives) = (world.member(1), world.member(2));
    world.advise(lives, Events::CRITICAL_ERROR);
    let book = world.open(dies, Opening::AddressBook);
    world.draft(dies, "unsaved");
    for name in ["store", "people", "relay"] {
        world.hold(name, "*");
    }
    world.submit_deferred(dies, "b@x");
    let list = Request::List { member: dies.id, object: book, after: 0, limit: 9 };
    world.ask(dies.at, list);
    world.ask(dies.at, Request::Flush { member: dies.id });
    world.ask_logoff(dies, LogoffFlags::default(), Some(secs(60)));
    world.disconnect(dies.at);
    world.let_all_go();
    assert_eq!(world.news(lives), []);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    assert_eq!(world.store("default").messages.values().filter(|m| m.recovered).count(), 1);
    world.logoff(lives);
    world.advance(secs(60));
    world.assert_empty();
}

/// design §10.6: whenever the broker dies, what it had acknowledged as durable is sent, and sent once.
#[test]
fn a_broker_that_dies_loses_nothing() {
    for dies_after in 0..14 {
        let mut world = World::new();
        let member = world.member(1);
        world.hold("store", "SubmitMessage");
        let submit = world.submit_request(member, &["b@x"]);
        let id = world.ask(member.at, Request::Submit(submit));
        world.hold("store", "UpdateSubmission");
        world.hold("relay", "*");
        world.settle();
        world.clear_holds();
        for _ in 0..dies_after {
            world.step(0);
        }
        let acknowledged = world.answer(member.at, id).is_some();
        world.crash();
        world.apply(Event::Adopt { profile: "default".into() });
        world.advance(secs(20));
        let sent = world.wire.delivered_to("b@x");
        let stored = world.store("default").submissions.len();
        assert!(!acknowledged || sent == 1, "after {dies_after} steps it was sent {sent} times");
        assert_eq!(sent, stored);
        world.assert_empty();
    }
}
