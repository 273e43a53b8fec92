//! What nobody sends is given up at its age limit, as what cannot be sent is.

use std::time::Duration;

use sundown_protocol::reply::SubmissionState::{Bounced, Deferred, Queued, Sent, Unknown};
use sundown_protocol::request::{LogonFlags, Request};
use sundown_protocol::{Code, EntryId};

use super::fakes::Step;
use super::world::{Member, World, secs, settings};
use crate::Event;
use crate::provider::Outcome;
use crate::settings::Linger;
use crate::settings::Settings;
use crate::settings::Shutdown;

const HOUR: Duration = secs(3_600);
const LINGERS: [Linger; 4] =
    [Linger::UntilEmpty, Linger::Off, Linger::For(Duration::ZERO), Linger::For(secs(100))];

fn with(linger: Linger) -> World {
    let shutdown = Shutdown { linger, ..Shutdown::default() };
    World::with(Settings { shutdown, ..settings() })
}

fn adopt(world: &mut World) {
    world.apply(Event::Adopt { profile: "default".into() });
    world.settle();
}

fn without_mail(world: &mut World) -> (Member, EntryId) {
    let at = world.connect(1);
    let member = world.logon_with(at, "default", LogonFlags::NO_MAIL);
    let entry = world.submit(member, "b@x");
    (member, entry)
}

fn age(world: &mut World) -> Duration {
    world.profile("default").queue.max_age
}

fn assert_given_up(world: &mut World, entry: EntryId, attempts: u32) {
    assert_eq!(world.state(entry), Bounced);
    assert_eq!(world.store("default").notices.len(), 1, "the sender is told, once");
    assert_eq!(world.submission(entry).attempts, attempts, "that is no try");
    assert_eq!(world.wire.delivered_to("b@x"), 0);
    let why = world.submission(entry).last_error.clone().expect("it says why");
    assert!(why.starts_with("4.4.7 "), "{why}");
}

/// A-39, design §10 (8): what a member without mail submitted, whether it stays, leaves, or the broker is killed.
#[test]
fn mail_of_members_without_mail() {
    for linger in LINGERS {
        for what in ["stays", "leaves", "is killed"] {
            let mut world = with(linger);
            let (member, entry) = without_mail(&mut world);
            match what {
                "leaves" => _ = world.logoff(member),
                "is killed" => {
                    world.crash();
                    adopt(&mut world);
                }
                _ => {}
            }
            let age = age(&mut world);
            world.advance(age.saturating_sub(HOUR));
            assert_eq!(world.state(entry), Queued, "{linger:?}, it {what}");
            world.advance(HOUR + secs(1));
            assert_given_up(&mut world, entry, 0);
            if what == "stays" {
                world.logoff(member);
            }
            world.advance(secs(300));
            world.assert_empty();
        }
    }
}

/// SEED-2, design §10 (8): any mail of a session that did not linger.
#[test]
fn mail_that_waits_for_a_logon() {
    for linger in [Linger::Off, Linger::For(secs(10))] {
        for restart in [false, true] {
            let mut world = with(linger);
            world.script("b@x", &[Step::Says(Outcome::Later); 100]);
            let member = world.member(1);
            let entry = world.submit(member, "b@x");
            world.logoff(member);
            if restart && linger == Linger::Off {
                world.crash();
                adopt(&mut world);
            }
            let age = age(&mut world);
            world.advance(age.saturating_sub(HOUR));
            assert_eq!(world.state(entry), Deferred, "{linger:?}");
            assert_eq!(world.submission(entry).attempts, 1, "{linger:?}");
            assert!(world.sessions().is_empty());
            world.advance(HOUR + secs(60));
            assert_eq!(world.state(entry), Bounced, "{linger:?}, restart: {restart}");
            assert_eq!(world.store("default").notices.len(), 1);
            world.advance(secs(300));
            world.assert_empty();
        }
    }
}

/// Design §3.17: what is unknown, also where no session lingers.
#[test]
fn what_is_unknown() {
    for linger in LINGERS {
        let mut world = with(linger);
        let member = world.member(1);
        world.script("b@x", &[Step::Says(Outcome::Unknown)]);
        let entry = world.submit(member, "b@x");
        world.logoff(member);
        let age = age(&mut world);
        world.advance(age.saturating_sub(HOUR));
        assert_eq!(world.state(entry), Unknown, "{linger:?}");
        world.advance(HOUR + secs(60));
        assert_eq!(world.state(entry), Bounced, "{linger:?}");
        let why = world.submission(entry).last_error.clone().expect("it says why");
        assert!(why.starts_with("4.4.2 it is not known"), "{why}");
        world.advance(secs(300));
        world.assert_empty();
    }
}

/// Design §3.18: while no broker runs, mail does not grow older. A broker that opens its store at the age limit leaves a minute to whoever is
/// about to log on.
#[test]
fn a_logon_after_a_long_night_sends_it() {
    for linger in LINGERS {
        for comes in [true, false] {
            let mut world = with(linger);
            let (_, entry) = without_mail(&mut world);
            world.crash();
            let age = age(&mut world);
            world.advance(age * 2);
            adopt(&mut world);
            world.advance(age.saturating_sub(HOUR));
            assert_eq!(world.state(entry), Queued, "{linger:?}");
            // The store is kept by another broker for some hours.
            world.running.ran += HOUR * 2;
            world.crash();
            adopt(&mut world);
            world.advance(secs(50));
            assert_eq!(world.state(entry), Queued, "{linger:?}");
            if comes {
                world.member(2);
                assert_eq!(world.state(entry), Sent, "{linger:?}");
                assert_eq!(world.store("default").notices.len(), 0);
            } else {
                world.advance(secs(11));
                assert_given_up(&mut world, entry, 0);
            }
        }
    }
}

/// However many there are, and however many of another age are before them.
#[test]
fn many_at_once() {
    for linger in [Linger::Off, Linger::UntilEmpty] {
        let mut world = with(linger);
        let (member, first) = without_mail(&mut world);
        let entries: Vec<_> = (0..1_500).map(|n| world.submit(member, &format!("{n}@x"))).collect();
        let age = age(&mut world);
        world.advance(age.saturating_sub(HOUR));
        let late = world.submit(member, "late@x");
        world.logoff(member);
        world.advance(HOUR + secs(60));
        for entry in entries.into_iter().chain([first]) {
            assert_eq!(world.state(entry), Bounced);
        }
        assert_eq!(world.state(late), Queued);
        world.advance(age);
        assert_eq!(world.state(late), Bounced);
        assert_eq!(world.store("default").notices.len(), 1_502);
        world.advance(secs(300));
        world.assert_empty();
    }
}

/// A message whose age limit is over, in a profile that could not be opened when that time came.
fn could_not_be_opened() -> (World, EntryId) {
    let mut world = World::new();
    let (member, entry) = without_mail(&mut world);
    world.logoff(member);
    world.advance(HOUR);
    let code = Code::E_CORRUPT_STORE;
    world.store("default").failures.insert("Logon", [code; 4].into());
    let age = age(&mut world);
    world.advance(age);
    assert_eq!(world.state(entry), Queued, "its store cannot be opened");
    (world, entry)
}

/// A clock that was set back makes it no later when a profile is tried again that could not be opened.
#[test]
fn a_profile_is_tried_again_in_an_hour_by_any_clock() {
    let (mut world, _) = could_not_be_opened();
    let asked = world.calls.len();
    world.clock_set -= 10_000;
    world.advance(HOUR);
    assert!(world.calls.len() > asked, "its store is opened again");
}

/// What could not be opened when the time came is tried again; a profile that was deleted is not.
#[test]
fn a_profile_that_cannot_be_opened_is_tried_again() {
    let (mut world, entry) = could_not_be_opened();
    world.advance(HOUR);
    assert_given_up(&mut world, entry, 0);

    let mut world = World::new();
    let at = world.connect(1);
    let member = world.logon_with(at, "work", LogonFlags::NO_MAIL);
    world.submit(member, "b@x");
    world.logoff(member);
    world.advance(secs(60));
    let delete = Request::DeleteProfile { name: "work".into() };
    world.call(at, delete).expect("it is deleted");
    world.worked = 0;
    let age = age(&mut world);
    world.advance(age + HOUR);
    assert_eq!(world.worked, 0, "nobody looks into it");
}

/// Design §3.5: a session that only looks for what is too old is none that anybody sees.
#[test]
fn nobody_sees_who_only_looks() {
    let mut world = with(Linger::Off);
    without_mail(&mut world);
    world.crash();
    world.hold("store", "Logon");
    adopt(&mut world);
    assert_eq!(world.broker.sessions.all.len(), 1);
    assert_eq!(world.sessions(), [""; 0]);
    world.let_go("store");
    world.advance(secs(60));
    world.assert_empty();
}

/// Design §3.18: the age of a message is the time for which a broker ran with its store, be the store open or closed. A jump of the wall
/// clock changes nothing, and a crash takes back ten minutes at most.
#[test]
fn mail_ages_while_a_broker_runs() {
    for linger in [Linger::Off, Linger::UntilEmpty] {
        let mut world = with(linger);
        world.script("b@x", &[Step::Says(Outcome::Later); 1_000]);
        let member = world.member(1);
        let entry = world.submit(member, "b@x");
        world.logoff(member);
        let (age, mut ran) = (age(&mut world), Duration::ZERO);
        for night in 0..5 {
            let day = HOUR * 20;
            world.advance(day);
            ran += day;
            assert_eq!(world.state(entry), Deferred, "{linger:?}, night {night}");
            world.stop(crate::ground::event::Stop::Final);
            world.advance(secs(10));
            world.crash();
            world.advance(HOUR * 24 * 30);
            world.clock_set += 365 * 24 * 3_600;
            adopt(&mut world);
        }
        world.advance(age.saturating_sub(ran + HOUR));
        assert_eq!(world.state(entry), Deferred, "{linger:?}");
        world.advance(HOUR * 6);
        assert_eq!(world.state(entry), Bounced, "{linger:?}");
    }
}

/// A message that comes to its next try behind its age limit, while its transport cannot be reached, is given up when the transport was
/// tried once more, and not before.
#[test]
fn the_last_try_is_behind_the_age_limit() {
    let mut world = World::new();
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let (age, now) = (age(&mut world).as_millis() as u64, world.wall());
    let mut old = super::spooler::left(9, Deferred, "b@x", now + 61_000);
    old.submitted = now + 60_000 - age;
    world.store("default").leave(old);
    let member = world.member(1);
    world.submit(member, "c@y");
    world.advance(secs(59));
    let entry = EntryId { store: 1, record: 9 };
    let asked = |world: &World| {
        world.calls_of("relay").iter().filter(|call| **call == "ValidateState").count()
    };
    let before = asked(&world);
    world.advance(secs(3));
    assert_eq!((asked(&world), world.state(entry)), (before, Deferred), "nobody knows yet");
    world.advance(secs(300));
    assert!(asked(&world) > before);
    assert_eq!(world.state(entry), Bounced);
}
