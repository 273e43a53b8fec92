//! Figures: what is counted, and what stores are asked for.

use sundown_protocol::SessionId;
use sundown_protocol::reply::Reply;
use sundown_protocol::request::Request;

use super::fakes::Step;
use super::world::{World, secs};
use crate::ground::event::Event;
use crate::provider::Outcome;

/// design §2: what is there, by state; what has happened, by outcome and reason.
#[test]
fn figures_count_what_is_there_and_what_has_happened() {
    let mut world = World::new();
    let (first, second) = (world.member(1), world.member(2));
    world.script("late@x", &[Step::Says(Outcome::Later)]);
    world.submit(first, "bo@x");
    world.submit(first, "late@x");
    world.logoff(second);
    let figures = world.broker.figures();
    assert_eq!((figures.connections, figures.processes), (2, 2));
    assert_eq!((figures.sessions["active"], figures.sessions["ending"]), (1, 0));
    assert_eq!((figures.members["attached"], figures.members["draining"]), (1, 0));
    let [.., deferred, _, sent, _, _] = figures.queue;
    assert_eq!((deferred, sent), (1, 1));
    assert_eq!(figures.departures, [1, 0, 0, 0, 0]);
    assert!(!figures.stopping);
}

/// The age of the oldest message is the store's to say: it is asked when somebody looks, and not twice at once.
#[test]
fn the_oldest_message_is_asked_for() {
    let mut world = World::new();
    let member = world.member(1);
    let submitted = world.wall();
    world.script("late@x", &[Step::Says(Outcome::Later)]);
    world.submit(member, "late@x");
    assert_eq!(world.broker.figures().oldest, None);
    world.hold("store", "QueryQueue");
    world.apply(Event::Measure);
    world.apply(Event::Measure);
    world.settle();
    assert_eq!(world.waiting_calls("store"), 1);
    world.let_go("store");
    assert_eq!(world.broker.figures().oldest, Some(submitted));
    world.advance(secs(3600));
    world.settle();
    assert_eq!(world.broker.figures().oldest, None, "nothing waits any more");
}

/// design §2: what became of the messages of each profile, and of the use of each transport. It outlives the session.
#[test]
fn figures_are_kept_by_profile_and_transport() {
    let mut world = World::new();
    let member = world.member(1);
    let started = world.broker.figures();
    let before = &started.profiles["default"].transports["relay"];
    assert_eq!((before.works, before.used, before.has_session), (None, None, true));
    world.script("late@x", &[Step::Says(Outcome::Later), Step::Says(Outcome::Later)]);
    world.submit(member, "bo@x");
    let worked = world.wall();
    world.submit(member, "late@x");
    let figures = world.broker.figures().profiles.remove("default").expect("it has a store");
    let [.., deferred, _, sent, _, _] = figures.queue;
    assert_eq!((deferred, sent, figures.deferrals), (1, 1, 1));
    let smtp = &figures.transports["relay"];
    assert_eq!((smtp.works, smtp.worked, smtp.in_flight), (Some(false), Some(worked), 0));
    // Two more tries: it is deferred once more, and goes then.
    world.advance(secs(3600));
    world.settle();
    world.advance(secs(3600));
    world.settle();
    world.logoff(member);
    world.advance(secs(3600));
    world.settle();
    let figures = world.broker.figures();
    assert_eq!(figures.sessions["active"] + figures.sessions["memberless"], 0);
    let of = &figures.profiles["default"];
    let [.., deferred, _, sent, _, _] = of.queue;
    assert_eq!((deferred, sent, of.deferrals), (0, 2, 2));
    let smtp = &of.transports["relay"];
    assert_eq!((smtp.works, smtp.has_session), (Some(true), false));
    assert_eq!(of.oldest, None);
    assert!(figures.requests >= 4, "{}", figures.requests);
}

/// How much others ask is told to those who see all sessions.
#[test]
fn the_number_of_requests_is_for_those_who_see_all_sessions() {
    let mut world = World::new();
    let (owner, stranger) = (world.member(1), world.connect_as(9, 4711));
    let mut requests = |at| {
        let Ok(Reply::Health { requests, .. }) =
            world.call(at, Request::Health { after: SessionId(0) })
        else {
            panic!("a health")
        };
        requests
    };
    let first = requests(owner.at).expect("the owner sees all sessions");
    assert_eq!(requests(stranger), None);
    assert_eq!(requests(owner.at), Some(first + 2));
}
