//! Stores whose files are removed under the broker: nothing is sent from them, and everybody is told.

use sundown_protocol::notification::EndReason;
use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{LogoffFlags, LogonFlags, Opening, QueueAction, Request};
use sundown_protocol::{Code, Event as News, Events};

use super::fakes::Step;
use super::world::{Member, World, logged_off, logon_request, secs, settings};
use crate::ground::event::ConnectionId;
use crate::ground::event::Stop;
use crate::provider::Outcome;
use crate::settings::Linger;
use crate::settings::Settings;
use crate::settings::Shutdown;

/// What a member is told when its session ends with a store.
fn lost() -> News {
    let (code, reason) = (Code::E_END_OF_SESSION, EndReason::StoreLost);
    News::CriticalError { code, reason, by: None, grace: Some(0) }
}

fn lose(world: &mut World, profile: &str) {
    world.store(profile).lost = true;
}

/// Asks for something that a store must write.
fn write(world: &mut World, member: Member) -> Code {
    world.try_submit(member, &["b@x"]).expect_err("the store is lost").code
}

/// That a session's members are told once and are out.
fn is_told_and_out(world: &mut World, member: Member) {
    assert_eq!(world.news(member), [lost(), News::Evicted]);
    let opening = Request::Open { member: member.id, what: Opening::Store(0) };
    assert_eq!(world.refused(member.at, opening), Code::E_END_OF_SESSION);
}

/// design §3.16: whoever writes is refused, each member of each session on the store is told once, registered or not, whoever
/// noticed it; members of other stores are not. The sessions are over at once.
#[test]
fn every_member_of_a_lost_store_is_told_once() {
    let mut world = World::new();
    let (writer, other, registered) = (world.member(1), world.member(2), world.member(3));
    let advise = world.advise(registered, Events::CRITICAL_ERROR);
    let at = world.connect(4);
    let private = world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    let elsewhere = world.logon_to(at, "work");
    lose(&mut world, "default");
    let asked = world.submit_request(writer, &["b@x"]);
    let asked = world.ask(writer.at, Request::Submit(asked));
    world.settle();
    let heard = world.heard(writer.at);
    let place = |what: &dyn Fn(&super::world::Heard) -> bool| heard.iter().position(what);
    let answer = place(&|h| *h == super::world::Heard::Answer(asked)).expect("it is answered");
    let told = place(&|h| *h == super::world::Heard::News(writer.id, lost())).expect("told");
    assert!(answer < told, "its own call returns first");
    assert_eq!(
        world.answer(writer.at, asked).expect("so").expect_err("refused").code,
        Code::E_END_OF_SESSION
    );
    assert_eq!(world.notifications(registered)[0].advises, [advise]);
    for member in [writer, other, private] {
        is_told_and_out(&mut world, member);
    }
    assert_eq!(world.news(elsewhere), []);
    world.open(elsewhere, Opening::Store(0));
    assert_eq!(world.sessions(), ["active"], "that of the other store");
}

/// Who was told already that its session ends is not told again, and is out.
#[test]
fn an_ending_session_is_not_told_twice() {
    let mut world = World::new();
    let (ends, stays) = (world.member(1), world.member(2));
    let flags = LogoffFlags(LogoffFlags::SHARED.0 | LogoffFlags::WAIT.0);
    let asked = world.ask_logoff(ends, flags, None);
    world.settle();
    assert_eq!(world.critical_errors(stays), 1);
    world.news(stays);
    lose(&mut world, "default");
    assert_eq!(write(&mut world, stays), Code::E_END_OF_SESSION);
    assert_eq!(world.news(stays), [News::Evicted]);
    assert_eq!(world.sessions(), [""; 0]);
    let left = world.answer(ends.at, asked).expect("the session is over").expect("it has left");
    assert_eq!(
        logged_off(left).stayed,
        [world.peer(stays.at)],
        "whoever ended it knows who was put out"
    );
}

/// A logon that comes while a lost store is being closed waits for that, and gets the store that is there then; the old one is
/// closed before the new one is opened.
#[test]
fn the_next_logon_opens_what_is_there() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = world.submit(member, "b@x");
    lose(&mut world, "default");
    world.hold("store", "Logoff");
    write(&mut world, member);
    let at = world.connect(2);
    let asked = world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    assert!(world.answer(at, asked).is_none(), "the old one is open");
    world.let_go("store");
    let answer = world.answer(at, asked).expect("it is closed");
    let Ok(Reply::LoggedOn(on)) = answer else { panic!("{answer:?}") };
    let next = Member { at, id: on.member, session: on.session };
    assert_ne!(world.submit(next, "c@x").store, entry.store);
    assert_eq!(world.wire.delivered_to("c@x"), 1);
    assert_eq!(world.wire.delivered_to("b@x"), 1, "what the old one had sent");
}

/// What a lost store had in its queue is in no count any more, keeps no session, and opens none later.
#[test]
fn a_queue_that_is_lost_is_forgotten() {
    for private in [false, true] {
        let shutdown = Shutdown { linger: Linger::UntilEmpty, ..Shutdown::default() };
        let mut world = World::with(Settings { shutdown, ..settings() });
        let at = world.connect(1);
        let flags = if private { LogonFlags::NEW_SESSION } else { LogonFlags::default() };
        let member = world.logon_with(at, "default", flags);
        world.script("b@x", &[Step::Says(Outcome::Later)]);
        world.submit(member, "b@x");
        lose(&mut world, "default");
        assert_eq!(write(&mut world, member), Code::E_END_OF_SESSION);
        assert_eq!(world.sessions(), [""; 0]);
        assert_eq!(world.status().queue, [0; 9]);
        let called = world.calls_of("store").len();
        world.advance(secs(8 * 24 * 3_600));
        assert_eq!(world.calls_of("store").len(), called, "it was opened again");
        world.assert_empty();
    }
}

/// A session without members has its store lost when it would send the next time: it ends, and nothing is sent.
#[test]
fn a_memberless_session_ends_with_its_store() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    world.submit(member, "b@x");
    world.logoff(member);
    assert_eq!(world.sessions(), ["memberless"]);
    lose(&mut world, "default");
    world.advance(secs(3_600));
    assert_eq!(world.sessions(), [""; 0]);
    assert_eq!(world.wire.delivered_to("b@x"), 0);
    world.assert_empty();
}

/// design §10.6: whenever a store is lost, nothing is handed over whose mark is not known to be in it, everybody is told once,
/// and everything ends.
#[test]
fn nothing_is_sent_from_a_lost_store() {
    for lost_after in 0..16 {
        let mut world = World::new();
        let (member, other) = (world.member(1), world.member(2));
        let submit = world.submit_request(member, &["b@x"]);
        let id = world.ask(member.at, Request::Submit(submit));
        for _ in 0..lost_after {
            world.step(0);
        }
        let taken = world.answer(member.at, id).is_some_and(|answer| answer.is_ok());
        let marked = world
            .store("default")
            .submissions
            .values()
            .any(|s| s.recipients[0].state == SubmissionState::Transmitting);
        let before = world.wire.delivered_to("b@x");
        lose(&mut world, "default");
        world.settle();
        write(&mut world, other);
        let sent = world.wire.delivered_to("b@x");
        assert!(sent <= 1 && (sent == before || marked), "after {lost_after}: {sent}, {taken}");
        is_told_and_out(&mut world, other);
        is_told_and_out(&mut world, member);
        world.advance(secs(60));
        world.assert_empty();
    }
}

/// What a crash has cut off is not recovered, which may hand it over, from a store that is lost by then.
#[test]
fn nothing_is_recovered_from_a_lost_store() {
    for is_lost in [false, true] {
        let mut world = World::new();
        let member = world.member(1);
        world.hold("relay", "EndMessage");
        world.submit(member, "b@x");
        world.crash();
        world.clear_holds();
        world.hold("store", "Flush");
        let member = world.member(1);
        assert_eq!(world.wire.delivered_to("b@x"), 0, "it is not recovered before");
        world.store("default").lost = is_lost;
        world.let_go("store");
        assert_eq!(world.wire.delivered_to("b@x"), usize::from(!is_lost));
        assert_eq!(world.critical_errors(member), usize::from(is_lost));
        assert_eq!(world.calls_of("relay").contains(&"Recover"), !is_lost);
    }
}

/// A store that cannot be looked at for another reason is asked again in a while, not at once.
#[test]
fn what_cannot_be_looked_at_is_not_recovered_and_rests() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    world.submit(member, "b@x");
    world.crash();
    world.clear_holds();
    let fails = [Code::E_DISK_ERROR; 3].into();
    world.store("default").failures.insert("Flush", fails);
    let member = world.member(1);
    for asked in 1..=3 {
        let flushes = world.calls_of("store").into_iter().filter(|call| *call == "Flush");
        assert_eq!((flushes.count(), world.wire.delivered_to("b@x")), (asked, 0));
        world.advance(secs(60));
    }
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    assert_eq!(world.critical_errors(member), 0);
}

/// Where what is in a lost store cannot be saved it stays open, and is tried again; who logs on meanwhile is told why it
/// cannot, and can once it is saved.
#[test]
fn a_lost_store_stays_open_until_it_is_saved() {
    let mut world = World::new();
    let member = world.member(1);
    world.logon_to(member.at, "work");
    world.hold("relay", "EndMessage");
    world.submit(member, "b@x");
    lose(&mut world, "default");
    world.store("default").unsaved = 2;
    world.hold("store", "Logoff");
    write(&mut world, member);
    let at = world.connect(2);
    let asked = world.ask(at, logon_request(None, LogonFlags::default()));
    // What became of it cannot be written down any more.
    world.let_go("relay");
    world.let_go("store");
    let answer = world.answer(at, asked).expect("it waits no longer");
    assert_eq!(answer.expect_err("no room").code, Code::E_NOT_ENOUGH_DISK);
    assert!(world.store("default").lost, "it is open");
    let action = QueueAction::List { all: true, after: 0, limit: 9 };
    let listed = world.call(at, Request::Queue { profile: None, action });
    assert_eq!(listed, Ok(Reply::Queue { rows: Vec::new(), next: None }), "it is not asked");
    let asked = world.ask(at, logon_request(None, LogonFlags::default()));
    world.advance(secs(5));
    let answer = world.answer(at, asked).expect("it was tried again");
    assert_eq!(answer.expect_err("no room").code, Code::E_NOT_ENOUGH_DISK);
    world.advance(secs(5));
    assert!(!world.store("default").lost, "it is saved");
    world.logon(at);
}

/// A store that nobody uses and that finds itself lost when it is closed is closed once it is saved.
#[test]
fn an_idle_store_is_saved_when_it_closes() {
    let mut world = World::new();
    let member = world.member(1);
    world.logoff(member);
    lose(&mut world, "default");
    world.store("default").unsaved = 1;
    world.advance(secs(11));
    assert!(world.store("default").lost, "it could not be saved");
    world.advance(secs(5));
    assert!(!world.store("default").lost);
    world.assert_empty();
}

/// What is opened for its queue alone waits for a lost store to be closed, too.
#[test]
fn what_nobody_asked_for_waits_for_a_lost_store() {
    let mut world = World::new();
    let member = world.member(1);
    world.logoff(member);
    lose(&mut world, "default");
    world.store("default").unsaved = 1;
    world.advance(secs(11));
    world.apply(crate::Event::Adopt { profile: "default".into() });
    world.settle();
    assert_eq!(world.broker.sessions.all.len(), 1, "it waits");
    world.advance(secs(5));
    assert!(!world.store("default").lost);
    world.advance(secs(60));
    world.assert_empty();
}

/// A broker that stops waits for a lost store to be saved as long as it waits for providers.
#[test]
fn a_broker_that_stops_tries_to_save_a_lost_store() {
    for (unsaved, saved) in [(1, true), (usize::MAX, false)] {
        let mut world = World::new();
        let member = world.member(1);
        lose(&mut world, "default");
        world.store("default").unsaved = unsaved;
        write(&mut world, member);
        world.stop(Stop::Restart);
        world.advance(secs(60));
        assert_eq!(world.store("default").lost, !saved);
        assert_eq!(world.stopped, 1);
    }
}

/// A Do that finds the store lost fails, and everybody is told.
#[test]
fn a_do_fails_on_a_lost_store() {
    let mut world = World::new();
    let (leaves, other) = (world.member(1), world.member(2));
    assert!(world.query(leaves.at).is_ok());
    lose(&mut world, "default");
    let fault = world.do_fast(leaves.at).expect_err("nothing was kept");
    assert_eq!(fault.code, Code::E_END_OF_SESSION);
    assert_eq!(world.critical_errors(leaves), 1);
    assert_eq!(world.critical_errors(other), 1);
}

/// After a Do of one process a store is made anew if it says that it is over; not if its files are lost, which only the old
/// one has open.
#[test]
fn a_lost_store_is_not_made_anew() {
    let mut world = World::new();
    let (leaves, stays) = (world.member(1), world.member(2));
    assert!(world.query(leaves.at).is_ok());
    world.leave_fast(leaves.at);
    lose(&mut world, "default");
    write(&mut world, stays);
    assert!(!world.calls_of("store").contains(&"Renew"));
    is_told_and_out(&mut world, stays);
}

/// Deferred submissions that a lost store had not written are said to be lost, to a process that asks.
#[test]
fn deferred_submissions_of_a_lost_store_are_not_lost_in_silence() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    world.submit_deferred(member, "b@x");
    let flush = world.ask(member.at, Request::Flush { member: member.id });
    lose(&mut world, "default");
    world.let_go("store");
    let answer = world.answer(member.at, flush).expect("it is answered");
    assert_eq!(answer.expect_err("not stored").code, Code::E_END_OF_SESSION);
    assert_eq!(world.critical_errors(member), 1);
}

/// A session of two stores ends with either.
#[test]
fn a_session_ends_with_its_second_store() {
    let mut world = World::new();
    let second = super::world::store("archive", "/data/archive.db");
    world.profile("default").stores.push(second.clone());
    world.stores.insert(second.path.clone(), super::fakes::Store::new(77));
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    world.submit(member, "b@x");
    world.stores.get_mut(&second.path).expect("it is there").lost = true;
    let mut submit = world.submit_request(member, &["c@x"]);
    submit.store = 1;
    let refused = world.refused(member.at, Request::Submit(submit));
    assert_eq!(refused, Code::E_END_OF_SESSION);
    is_told_and_out(&mut world, member);
    assert_eq!(world.sessions(), [""; 0], "though the first store has something to send");
}

/// Whoever waits for the session to start when its store is lost is refused.
#[test]
fn a_session_that_starts_on_a_lost_store_fails() {
    let mut world = World::new();
    let member = world.member(1);
    let at: ConnectionId = world.connect(2);
    world.hold("relay", "Logon");
    let asked = world.ask(at, logon_request(None, LogonFlags::NEW_SESSION));
    world.settle();
    lose(&mut world, "default");
    write(&mut world, member);
    let answer = world.answer(at, asked).expect("it does not wait");
    assert_eq!(answer.expect_err("lost").code, Code::E_END_OF_SESSION);
    world.let_go("relay");
    world.advance(secs(30));
    world.assert_empty();
}
