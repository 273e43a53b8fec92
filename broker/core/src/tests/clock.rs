//! The wall clock is set: by hours, forward and back, while mail waits for a time on it.

use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{Folder, Opening, QueueAction, Request};
use sundown_protocol::{Code, EntryId, Token};

use super::fakes::Step;
use super::world::{Member, World, profile, secs};
use crate::provider::Outcome;
use crate::settings::OnUnknown;
use crate::settings::Profile;
use crate::settings::QueuePolicy;

/// Hours of the tests, in seconds.
const HOURS: i64 = 3_600;

fn deferred(world: &mut World, member: Member) -> sundown_protocol::EntryId {
    world.script("x@y", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "x@y");
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    entry
}

/// design §7 `[queue]`: a retry that was due in half a minute is due in half a minute after the clock was set back by hours.
#[test]
fn a_retry_comes_at_its_time_after_the_clock_was_set_back() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = deferred(&mut world, member);
    world.clock_set -= 3 * HOURS;
    // Any event tells the time.
    world.status();
    world.advance(secs(31));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("x@y"), 1);
}

/// The same when nothing tells the broker: it looks at the clock once a minute at least.
#[test]
fn nobody_needs_to_tell_that_the_clock_was_set() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = deferred(&mut world, member);
    world.clock_set -= 100 * HOURS;
    world.advance(secs(91));
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// A broker that starts after the clock was set back finds due times in a future that no retry can have: it waits for the
/// longest wait and no longer.
#[test]
fn a_broker_that_starts_after_that_waits_for_the_longest_wait() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = deferred(&mut world, member);
    world.clock_set -= 300 * HOURS;
    world.crash();
    world.member(2);
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    world.advance(secs(3_601));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("x@y"), 1);
}

/// What waits because its transport has no room goes on as soon as there is some, wherever the clock stands.
#[test]
fn what_waits_for_room_goes_on() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "*");
    for n in 0..200 {
        world.submit(member, &format!("{n}@y"));
    }
    world.clock_set -= 3 * HOURS;
    world.let_go("relay");
    world.advance(secs(1));
    for n in 0..200 {
        assert_eq!(world.wire.delivered_to(&format!("{n}@y")), 1, "message {n}");
    }
}

/// Set forward, what waits is due at once; nothing is given up before it was tried again.
#[test]
fn nothing_is_lost_when_the_clock_is_set_forward() {
    let mut world = World::new();
    let queue = QueuePolicy { max_age: secs(7_200), ..QueuePolicy::default() };
    world.add_profile(Profile { queue, ..profile("default") });
    let member = world.member(1);
    let entry = deferred(&mut world, member);
    world.clock_set += 24 * HOURS;
    world.advance(secs(61));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    // And back again, with the next one on its way.
    let next = deferred(&mut world, member);
    world.clock_set -= 48 * HOURS;
    world.advance(secs(91));
    assert_eq!(world.state(next), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("x@y"), 2);
}

/// What is unknown is given up by its age on the wall: a clock that was set back makes that later, and never lost.
#[test]
fn what_is_unknown_keeps_its_age() {
    let mut world = World::new();
    let queue = QueuePolicy { on_unknown: OnUnknown::Hold, ..QueuePolicy::default() };
    world.add_profile(Profile { queue, ..profile("default") });
    let member = world.member(1);
    world.script("x@y", &[Step::Says(Outcome::Unknown)]);
    let entry = world.submit(member, "x@y");
    assert_eq!(world.state(entry), SubmissionState::Unknown);
    world.clock_set -= 24 * HOURS;
    world.advance(secs(5 * 24 * 3_600));
    assert_eq!(world.state(entry), SubmissionState::Unknown);
    world.advance(secs(24 * 3_600 + 120));
    assert_eq!(world.state(entry), SubmissionState::Bounced);
}

/// Design §3.11: a token lives a minute of its own, whatever the clock on the wall does.
#[test]
fn tokens_do_not_look_at_the_wall() {
    for set in [-5 * HOURS, 5 * HOURS] {
        let mut world = World::new();
        let (member, other) = (world.member(1), world.member(2));
        let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
        let grant = |token| Request::Grant {
            member: member.id,
            object: folder,
            token: Token(token),
            pid: None,
        };
        world.done(member.at, grant(1));
        world.done(member.at, grant(2));
        world.clock_set = set;
        world.advance(secs(59));
        assert!(world.call(other.at, Request::Redeem { token: Token(1) }).is_ok());
        world.advance(secs(2));
        assert_eq!(world.refused(other.at, Request::Redeem { token: Token(2) }), Code::E_NOT_FOUND);
    }
}

/// A wake-up that comes a little early is not the last one: the broker asks for another.
#[test]
fn an_early_wake_up_is_repeated() {
    let mut world = World::new();
    let member = world.member(1);
    deferred(&mut world, member);
    let at = world.armed().expect("the next try");
    world.early_wake();
    assert_eq!(world.armed(), Some(at), "it is not due yet");
    world.advance(secs(120));
    assert_eq!(world.wire.delivered_to("x@y"), 1);
}

/// When the queue says that the first message is tried, in its list and by itself.
fn next_tries(world: &mut World, entry: EntryId) -> [u64; 2] {
    let at = world.connect(9);
    let list = QueueAction::List { all: true, after: 0, limit: 9 };
    [list, QueueAction::Show(entry)].map(|action| {
        match world.call(at, Request::Queue { profile: Some("default".into()), action }) {
            Ok(Reply::Queue { rows, .. }) => rows[0].next_attempt.expect("it waits"),
            other => panic!("{other:?}"),
        }
    })
}

/// The queue shows when a message is tried, not the time that was stored before the clock was set back.
#[test]
fn the_queue_shows_the_next_try_as_it_will_be() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = deferred(&mut world, member);
    world.clock_set -= 3 * HOURS;
    let soon = world.wall()..=world.wall() + 31_000;
    let shown = next_tries(&mut world, entry);
    assert!(shown.iter().all(|at| soon.contains(at)), "{shown:?} is not in {soon:?}");
    world.clock_set -= 90_000 * HOURS;
    world.crash();
    world.member(2);
    let soon = world.wall()..=world.wall() + 3_600_000;
    let shown = next_tries(&mut world, entry);
    assert!(shown.iter().all(|at| soon.contains(at)), "{shown:?} is not in {soon:?}");
}
