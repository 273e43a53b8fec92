//! What a session does when its last member has left, and what a broker does with mail it finds.

use sundown_protocol::Code;
use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::{LogoffFlags, LogonFlags};

use super::fakes::Step;
use super::world::{World, secs, settings};
use crate::Event;
use crate::provider::Outcome;
use crate::settings::Linger;
use crate::settings::Settings;
use crate::settings::Shutdown;

fn with(linger: Linger) -> World {
    let shutdown = Shutdown { linger, ..Shutdown::default() };
    World::with(Settings { shutdown, ..settings() })
}

fn adopt(world: &mut World, profile: &str) {
    world.apply(Event::Adopt { profile: profile.into() });
    world.settle();
}

/// design §3.5 `"until-empty"`: the session stays until nothing is queued, transmitting or deferred, and can be joined.
#[test]
fn a_session_stays_until_its_queue_is_empty() {
    let mut world = with(Linger::UntilEmpty);
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later); 2]);
    let entry = world.submit(member, "b@x");
    world.logoff(member);
    assert_eq!(world.sessions(), ["memberless"]);
    world.advance(secs(31));
    let joined = world.member(2);
    assert_eq!(joined.session, member.session);
    assert_eq!(world.sessions(), ["active"]);
    world.logoff(joined);
    assert_eq!(world.sessions(), ["memberless"]);
    world.advance(secs(100));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.assert_empty();
}

/// design §3.5: with an empty queue, or one of held and unknown messages only, it does not stay.
#[test]
fn an_idle_session_does_not_stay() {
    let mut world = with(Linger::UntilEmpty);
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Unknown)]);
    world.submit(member, "b@x");
    world.logoff(member);
    assert_eq!(world.sessions(), [""; 0]);
}

/// design §3.5: a session that stayed for a submission alone ends when its store refuses that.
#[test]
fn a_refused_submission_keeps_no_session() {
    let mut world = with(Linger::UntilEmpty);
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    world.submit_deferred(member, "b@x");
    world.apply(Event::Disconnected { connection: member.at });
    assert_eq!(world.sessions(), ["memberless"]);
    let failures = vec![Code::E_NOT_ENOUGH_DISK];
    world.store("default").failures.insert("SubmitMessage", failures.into());
    world.let_go("store");
    assert_eq!(world.sessions(), [""; 0]);
}

/// design §3.5, SEED-2 `"off"`: mail waits for a logon.
#[test]
fn without_linger_mail_waits_for_a_logon() {
    let mut world = with(Linger::Off);
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    world.logoff(member);
    assert_eq!(world.sessions(), [""; 0]);
    world.advance(secs(100_000));
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    adopt(&mut world, "default");
    assert_eq!(world.sessions(), [""; 0]);
    let _back = world.member(2);
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// design §3.5 *a duration*: it stays so long after the last member left, each time; then mail waits for a logon.
#[test]
fn a_session_stays_for_a_while() {
    let mut world = with(Linger::For(secs(100)));
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let member = world.member(1);
    world.submit(member, "b@x");
    world.logoff(member);
    world.advance(secs(90));
    let again = world.member(2);
    assert_eq!(again.session, member.session);
    world.logoff(again);
    world.advance(secs(99));
    assert_eq!(world.sessions(), ["memberless"]);
    world.advance(secs(1));
    assert_eq!(world.sessions(), [""; 0]);
    world.advance(secs(1_000));
    world.assert_empty();
}

/// design §3.5: it goes earlier when nothing is left to do.
#[test]
fn a_session_goes_when_nothing_is_left() {
    let mut world = with(Linger::For(secs(1_000)));
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    world.submit(member, "b@x");
    world.logoff(member);
    world.advance(secs(60));
    world.assert_empty();
}

/// SEED-2, design §3.5: at start a memberless session sends what an earlier broker left, and goes.
#[test]
fn what_was_left_is_adopted() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entry = world.submit(member, "b@x");
    world.crash();
    world.hold("relay", "SubmitMessage");
    adopt(&mut world, "default");
    adopt(&mut world, "default");
    adopt(&mut world, "work");
    assert_eq!(world.sessions(), ["memberless"]);
    world.let_go("relay");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.advance(secs(20));
    world.assert_empty();
}

/// A-39, design §3.5: mail of members without mail waits for one with mail, and does not keep a session.
#[test]
fn mail_without_mail_keeps_no_session() {
    let mut world = World::new();
    let at = world.connect(1);
    let member = world.logon_with(at, "default", LogonFlags::NO_MAIL);
    let entry = world.submit(member, "b@x");
    world.try_logoff(member, LogoffFlags::SHARED).expect("it logs off");
    world.worked = 0;
    world.advance(secs(100));
    assert!(world.worked < 100, "no session is made for it again and again");
    world.assert_empty();
    adopt(&mut world, "default");
    world.advance(secs(100));
    world.assert_empty();
    assert_eq!(world.state(entry), SubmissionState::Queued);
    let member = world.member(2);
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.logoff(member);
}

/// design §3.5: a private session's mail goes on in the joinable session of its profile.
#[test]
fn mail_of_a_private_session_goes_on() {
    let mut world = World::new();
    let at = world.connect(1);
    let member = world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    world.logoff(member);
    assert_eq!(world.sessions(), ["memberless"]);
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.assert_empty();
}

/// design §3.5: what was accepted and is not durable yet keeps the session.
#[test]
fn what_is_accepted_keeps_the_session() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    let entry = world.submit_deferred(member, "b@x");
    world.disconnect(member.at);
    assert_eq!(world.sessions(), ["memberless"]);
    world.let_go("store");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.advance(secs(20));
    world.assert_empty();
}

/// design §2: a store stays open a little after its last session; whoever comes meanwhile finds it open.
#[test]
fn a_store_stays_open_a_little() {
    let mut world = World::new();
    let member = world.member(1);
    world.logoff(member);
    world.advance(secs(9));
    let opened = world.broker.queues.engines.len();
    assert_eq!(opened, 1);
    let member = world.member(2);
    world.logoff(member);
    world.advance(secs(9));
    assert_eq!(world.broker.queues.engines.len(), 1, "its time began anew");
    world.advance(secs(2));
    world.assert_empty();
    world.member(3);
}

/// design §2: a store that is asked for while it closes is opened again.
#[test]
fn a_closing_store_is_opened_again() {
    let mut world = World::new();
    let member = world.member(1);
    world.logoff(member);
    world.hold("store", "Logoff");
    world.advance(secs(11));
    let at = world.connect(2);
    let id = world.ask(at, super::world::logon_request(None, LogonFlags::default()));
    world.settle();
    assert_eq!(world.answer(at, id), None);
    world.let_go("store");
    assert!(world.answer(at, id).expect("answered").is_ok());
    assert_eq!(world.store("default").logons, 2);
}

/// design §2: two profiles on one store: each sends its own mail.
#[test]
fn profiles_on_one_store_send_their_own() {
    let mut world = World::new();
    let path = world.profile("default").stores[0].path.clone();
    world.profile("work").stores[0].path = path;
    let at = world.connect(1);
    let (default, work) = (world.logon(at), world.logon_to(at, "work"));
    world.script("w@x", &[Step::Says(Outcome::Later)]);
    let (mine, theirs) = (world.submit(default, "d@x"), world.submit(work, "w@x"));
    world.logoff(work);
    assert_eq!(world.state(mine), SubmissionState::Sent);
    world.advance(secs(60));
    assert_eq!(world.state(theirs), SubmissionState::Sent);
    assert_eq!(world.sessions(), ["active"]);
}

/// LOGON-15, design §3.5: what waits for a member with mail, and what is queued, is counted by what the store says, also when
/// the member has left, and when nobody has the store open.
#[test]
fn what_waits_is_counted_when_nobody_is_here() {
    let mut world = World::new();
    let at = world.connect(1);
    let member = world.logon_with(at, "default", LogonFlags::NO_MAIL);
    for _ in 0..3 {
        world.submit(member, "b@x");
    }
    let counts = |world: &mut World| {
        let status = world.status();
        (status.waiting_for_mail_member, status.queue[SubmissionState::Queued as usize])
    };
    assert_eq!(counts(&mut world), (3, 3));
    world.logoff(member);
    assert_eq!(counts(&mut world), (3, 3), "its session has ended");
    world.advance(secs(60));
    world.assert_empty();
    assert_eq!(counts(&mut world), (3, 3), "its store is closed");
    world.hold("store", "GetOutgoingQueue");
    let other = world.member(2);
    assert_eq!(counts(&mut world).1, 3, "and open again");
    world.let_go("store");
    assert_eq!(counts(&mut world), (0, 0), "a member with mail sends it");
    world.logoff(other);
    world.advance(secs(60));
    assert_eq!(counts(&mut world), (0, 0));
}
