//! The end of the broker.

use sundown_protocol::notification::EndReason;
use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::{Folder, LogoffFlags, LogonFlags, Opening, Request, Stopping};
use sundown_protocol::{Code, Event as News, Events, RequestId, SubmitKey};

use super::fakes::Step;
use super::world::{Member, World, logon_request, millis, secs};
use crate::Stop;
use crate::provider::Outcome;

/// design §3.21: a broker that nobody uses stops at once, closes what it holds, and says so once.
#[test]
fn an_idle_broker_stops_at_once() {
    let mut world = World::new();
    world.stop(Stop::Restart);
    assert_eq!(world.stopped, 1);
    let mut world = World::new();
    let member = world.member(1);
    world.logoff(member);
    assert_eq!(world.broker.queues.engines.len(), 1);
    world.stop(Stop::Restart);
    assert_eq!(world.stopped, 1);
    world.assert_empty();
    assert_eq!(world.store("default").logons, 0);
}

/// design §3.21: for a restart members are told that the broker stops; leaving, saving and flushing is served, nothing
/// new is begun.
#[test]
fn a_restart_serves_those_who_leave() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    let advise = world.advise(member, Events::EXTENDED);
    let draft = world.draft(member, "kept");
    world.stop(Stop::Restart);
    for member in [member, other] {
        assert_eq!(world.news(member), [News::BrokerStopping { within: 20_000 }]);
    }
    assert_eq!(world.try_submit(member, &["b@x"]).expect_err("refused").code, Code::E_WAIT);
    let logon = logon_request(None, LogonFlags::default());
    assert_eq!(world.refused(member.at, logon), Code::E_WAIT);
    let save = Request::Save { member: member.id, object: draft, key: SubmitKey(5) };
    assert!(world.call(member.at, save).is_ok());
    world.done(member.at, Request::Flush { member: member.id });
    world.done(member.at, Request::Unadvise { member: member.id, advise });
    world.logoff(member);
    assert_eq!(world.stopped, 0);
    world.logoff(other);
    assert_eq!(world.stopped, 1);
    world.assert_empty();
}

/// design §3.21: what a member waits for when the broker stops is served for 20 seconds, however quiet it is meanwhile: a flush, a
/// save, a Do.
#[test]
fn what_takes_longer_than_a_second_is_served() {
    type Asks = fn(&mut World, Member) -> RequestId;
    let flush: Asks = |world, member| world.ask(member.at, Request::Flush { member: member.id });
    let save: Asks = |world, member| {
        let object = world.draft(member, "kept");
        world.ask(member.at, Request::Save { member: member.id, object, key: SubmitKey(5) })
    };
    let leave: Asks = |world, member| world.ask_do(member.at);
    for (name, call, asks) in [
        ("flush", "SubmitMessage", flush),
        ("save", "SaveChanges", save),
        ("Do", "DoFastShutdown", leave),
    ] {
        let mut world = World::new();
        let (member, _other) = (world.member(1), world.member(2));
        world.query(member.at).expect("yes");
        world.hold("store", call);
        if name == "flush" {
            world.submit_deferred(member, "b@x");
        }
        let asked = asks(&mut world, member);
        world.stop(Stop::Restart);
        world.advance(secs(8));
        assert_eq!((world.answer(member.at, asked), world.stopped), (None, 0), "{name}");
        world.let_go("store");
        let answer = world.answer(member.at, asked).expect("answered");
        assert!(answer.is_ok(), "{name}: {answer:?}");
        world.advance(secs(2));
        assert_eq!(world.stopped, 1, "{name}: a second of quiet is enough again");
    }
}

/// design §3.21: when nobody asks for anything any more, a second is enough; members' drafts are kept.
#[test]
fn a_quiet_broker_stops_in_a_second() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.advise(other, Events::EXTENDED);
    world.draft(member, "kept");
    world.stop(Stop::Restart);
    world.news(other);
    world.advance(millis(700));
    world.done(member.at, Request::Flush { member: member.id });
    world.advance(millis(900));
    assert_eq!(world.stopped, 0, "somebody asked");
    // Who watches the broker does not keep it.
    let id = world.ask(other.at, Request::Status);
    assert!(matches!(
        world.answer(other.at, id),
        Some(Ok(sundown_protocol::reply::Reply::Status(_)))
    ));
    // Nor do those who come back too early, and are sent to the next one.
    let early = world.connect(3);
    assert_eq!(world.refused(early, logon_request(None, LogonFlags::default())), Code::E_WAIT);
    world.advance(millis(500));
    assert_eq!(world.stopped, 1);
    assert_eq!(world.news(other), [], "who leaves at once is not told of others");
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
    assert!(world.store("default").messages.values().all(|m| m.recovered));
    world.assert_empty();
}

/// design §3.21: at most 20 seconds are given to those who leave, also to one who drains and one who always asks.
#[test]
fn a_restart_takes_twenty_seconds_at_most() {
    let mut world = World::new();
    let (drains, asks) = (world.member(1), world.member(2));
    world.script("b@x", &[Step::Says(Outcome::Later); 9]);
    world.submit(drains, "b@x");
    world.stop(Stop::Restart);
    let id = world.ask_logoff(drains, LogoffFlags::default(), Some(secs(600)));
    for _ in 0..39 {
        world.advance(millis(500));
        world.done(asks.at, Request::Flush { member: asks.id });
        assert_eq!(world.stopped, 0);
    }
    world.advance(millis(500));
    assert_eq!(world.stopped, 1);
    let fault = world.answer(drains.at, id).expect("answered").expect_err("not logged off");
    assert_eq!(fault.code, Code::E_END_OF_SESSION);
}

/// design §3.21, §3.12: a stop for good is a critical error, once; handles answer `MAPI_E_END_OF_SESSION` after it.
#[test]
fn a_stop_for_good_is_a_critical_error() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.done(other.at, Request::Stop { how: Stopping::Orderly });
    world.done(other.at, Request::Stop { how: Stopping::Orderly });
    world.stop(Stop::Final);
    world.stop(Stop::Restart);
    let critical = News::CriticalError {
        code: Code::E_END_OF_SESSION,
        reason: EndReason::BrokerStopped,
        by: None,
        grace: Some(20_000),
    };
    assert_eq!(world.news(member), std::slice::from_ref(&critical));
    assert_eq!(world.news(other), [critical]);
    world.hold("people", "Logoff");
    world.advance(secs(2));
    assert_eq!(world.stopped, 0);
    let dead = world.try_open(member, Opening::Store(0)).expect_err("it is gone");
    assert_eq!(dead.code, Code::E_END_OF_SESSION);
    world.let_all_go();
    assert_eq!(world.stopped, 1);
}

/// design §3.21: what began as a restart can become a stop for good; then members are told that too.
#[test]
fn a_restart_can_become_a_stop_for_good() {
    let mut world = World::new();
    let member = world.member(1);
    world.stop(Stop::Restart);
    world.stop(Stop::Final);
    let news = world.news(member);
    assert!(matches!(&news[..], [News::BrokerStopping { .. }, News::CriticalError { .. }]));
}

/// design §8 `stop --fast`: members are told and put out at once; what was accepted is stored first.
#[test]
fn a_fast_stop_waits_for_nobody() {
    let mut world = World::new();
    let member = world.member(1);
    world.draft(member, "kept");
    world.hold("store", "SubmitMessage");
    world.submit_deferred(member, "b@x");
    world.done(member.at, Request::Stop { how: Stopping::Fast });
    assert!(matches!(world.news(member)[0], News::CriticalError { grace: Some(0), .. }));
    assert_eq!(world.stopped, 0, "the store is not done");
    world.let_go("store");
    assert_eq!(world.stopped, 1);
    assert_eq!(world.store("default").submissions.len(), 1);
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
    assert_eq!(world.wire.delivered_to("b@x"), 0, "it goes out after the restart");
    world.assert_empty();
}

/// design §3.21: the transmission in flight finishes and is written down; nothing new begins; providers log off in
/// order, then the stores close.
#[test]
fn transmissions_in_flight_finish() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entries: Vec<_> = (0..70).map(|n| world.submit(member, &format!("a{n}@x"))).collect();
    world.stop(Stop::Restart);
    world.advance(secs(5));
    assert_eq!(world.stopped, 0);
    assert_eq!(world.order_of("Logoff"), [""; 0]);
    world.let_go("relay");
    assert_eq!(world.stopped, 1);
    let sent = entries.iter().filter(|e| world.state(**e) == SubmissionState::Sent).count();
    assert_eq!(sent, 64);
    assert_eq!(world.wire.delivered.len(), 64);
    assert_eq!(world.order_of("Logoff"), ["relay", "people", "store"]);
    world.assert_empty();
}

/// design §3.21: while the broker stops no message is begun that was not, though its session is still there.
#[test]
fn nothing_new_begins_while_it_stops() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    for n in 0..70 {
        world.submit(member, &format!("a{n}@x"));
    }
    world.stop(Stop::Restart);
    world.let_go("relay");
    assert_eq!((world.wire.delivered.len(), world.stopped), (64, 0));
    world.logoff(member);
    assert_eq!((world.wire.delivered.len(), world.stopped), (64, 1));
}

/// design §10.8: whatever hangs, the broker stops.
#[test]
fn no_hung_provider_prevents_the_end() {
    for hung in ["relay", "people", "store"] {
        for how in [Stop::Restart, Stop::Final, Stop::Fast, Stop::Now] {
            let mut world = World::new();
            let member = world.member(1);
            world.hold("relay", "EndMessage");
            world.submit(member, "b@x");
            let book = world.open(member, Opening::AddressBook);
            world.hold(hung, "*");
            let list = Request::List { member: member.id, object: book, after: 0, limit: 9 };
            world.ask(member.at, list);
            let submit = world.submit_request(member, &["c@x"]);
            world.ask(member.at, Request::Submit(submit));
            world.stop(how);
            world.advance(secs(20 + 41));
            assert_eq!(world.stopped, 1, "{hung} {how:?}");
            assert_eq!(world.unanswered(), 0, "{hung} {how:?}");
            world.assert_empty();
        }
    }
}

/// design §8: a second signal does not wait for transports, only for the stores.
#[test]
fn a_second_signal_waits_for_stores_only() {
    for first in [Stop::Restart, Stop::Final] {
        let mut world = World::new();
        let member = world.member(1);
        world.hold("relay", "EndMessage");
        world.submit(member, "b@x");
        world.stop(first);
        world.advance(secs(3));
        assert_eq!(world.stopped, 0);
        world.hold("store", "Logoff");
        world.stop(Stop::Now);
        assert_eq!(world.stopped, 0);
        world.let_go("store");
        assert_eq!(world.stopped, 1);
        world.assert_empty();
    }
}

/// design §10.8: a store that is slow but alive is waited for while it has time.
#[test]
fn a_slow_store_is_waited_for() {
    let mut world = World::new();
    let member = world.member(1);
    world.stop(Stop::Restart);
    world.hold("store", "Logoff");
    world.advance(millis(300));
    world.logoff(member);
    world.advance(secs(8));
    assert_eq!(world.stopped, 0);
    world.let_go("store");
    assert_eq!(world.stopped, 1);
    assert_eq!(world.store("default").logons, 0);
}

/// design §3.21: who waits for a session that starts is sent away.
#[test]
fn a_logon_that_waits_is_sent_away() {
    let mut world = World::new();
    world.hold("store", "Logon");
    let at = world.connect(1);
    let id = world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    world.stop(Stop::Restart);
    let fault = world.answer(at, id).expect("answered").expect_err("refused");
    assert_eq!(fault.code, Code::E_WAIT);
    world.let_all_go();
    assert_eq!(world.stopped, 1);
    world.assert_empty();
}

/// design §2 *rights*: stopping takes the right admin.
#[test]
fn stopping_takes_the_right_admin() {
    let mut world = World::new();
    let stranger = world.connect_as(9, 2_000);
    let stop = Request::Stop { how: Stopping::Orderly };
    assert_eq!(world.refused(stranger, stop.clone()), Code::E_NO_ACCESS);
    assert_eq!(world.stopped, 0);
    let root = world.connect_as(10, 0);
    world.done(root, stop);
    assert_eq!(world.stopped, 1);
}

/// design §3.17: mail left by a stop goes out after the restart, once.
#[test]
fn mail_goes_out_after_the_restart() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.stop(Stop::Now);
    assert_eq!(world.stopped, 1);
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.crash();
    world.apply(crate::Event::Adopt { profile: "default".into() });
    world.settle();
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}
