//! Sweeps of a fast shutdown when providers hang: the order, each kind's share of the time, and what waits for a Do.

use std::collections::BTreeSet;

use sundown_protocol::reply::Reply;
use sundown_protocol::request::{
    Blob, Content, Folder, LogoffFlags, LogonFlags, Opening, Request, SettingChange,
};
use sundown_protocol::{Code, FaultDetail};

use super::fakes::Interface;
use super::shutdown::{everything, providers, with};
use super::world::{OWNER, World, logon_request, millis, secs, settings};
use crate::settings::DisableFastShutdown;
use crate::settings::Limits;
use crate::settings::Settings;
use crate::settings::Shutdown;

const SWEEPS: [(Request, &str); 3] = [
    (Request::QueryFastShutdown, "QueryFastShutdown"),
    (Request::NotifyProcessShutdown, "NotifyProcessShutdown"),
    (Request::DoFastShutdown { remembered: false }, "DoFastShutdown"),
];

/// A deadline of one second for all three.
fn world() -> World {
    with(Shutdown { deadline: secs(1), ..Shutdown::default() })
}

/// SEED-16, design §3.6: transports have half of the time, address books half of the rest, stores what is left. A kind is called
/// when each provider of the earlier one has answered or was given up; a call that was given up and not begun never arrives.
#[test]
fn each_kind_has_its_share() {
    for (request, call) in SWEEPS {
        let mut world = world();
        let member = world.member(1);
        if call == "DoFastShutdown" {
            assert_eq!(world.query(member.at), Ok(Reply::Done));
        }
        for provider in ["relay", "people", "store"] {
            world.hold(provider, call);
        }
        let id = world.ask(member.at, request);
        let called = |world: &World| {
            let swept = world.swept().into_iter().filter(|(_, _, c)| *c == call);
            swept.map(|(_, provider, _)| provider).collect::<Vec<_>>()
        };
        for (passes, so_far) in [
            (499, &["relay"][..]),
            (1, &["relay", "people"]),
            (249, &["relay", "people"]),
            (1, &["relay", "people", "store"]),
            (249, &["relay", "people", "store"]),
        ] {
            world.advance(millis(passes));
            assert_eq!(called(&world), so_far, "{call}, after {passes} ms more");
            assert_eq!(world.answer(member.at, id), None, "{call}, after {passes} ms more");
        }
        world.advance(millis(1));
        let answer = world.answer(member.at, id).expect("answered at its deadline");
        match call {
            "NotifyProcessShutdown" => assert_eq!(answer, Ok(Reply::Done)),
            "QueryFastShutdown" => {
                assert_eq!(providers(&answer.expect_err("no")), ["people", "relay", "store"]);
            }
            _ => {
                let fault = answer.expect_err("not in time");
                assert_eq!((fault.code, providers(&fault)), (Code::E_TIMEOUT, vec!["store"]));
            }
        }
        let names: Vec<_> = world.given_up.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["relay", "people", "store"], "{call}: all are named");
        // None of them had begun, so none of them gets its call any more.
        for provider in ["relay", "people", "store"] {
            assert_eq!(world.waiting_calls(provider), 0, "{call}: a call of {provider} is late");
        }
        assert!(!world.broker.providers.awaits(), "{call}: {:?}", world.broker.providers);
        // Each has its places back, and nothing of the sweep is left.
        world.let_all_go();
        world.disconnect(member.at);
        world.end_process(1);
        world.advance(secs(60));
        world.assert_empty();
    }
}

/// SEED-16: an address book that is slow and a transport that hangs: the store is told when the book has returned.
#[test]
fn a_later_kind_waits_within_its_share_although_an_earlier_one_hangs() {
    let mut world = world();
    let member = world.member(1);
    world.hold("relay", "NotifyProcessShutdown");
    world.hold("people", "NotifyProcessShutdown");
    let id = world.ask(member.at, Request::NotifyProcessShutdown);
    world.advance(millis(600));
    assert_eq!(world.notified(), ["relay", "people"]);
    world.held_go("people");
    assert_eq!(world.notified(), ["relay", "people", "store"]);
    assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)), "the rest was not waited for");
}

/// SEED-14, SEED-16: a transport that hangs in Notify never gets the Do that was given up meanwhile; when it answers again,
/// `status` calls it late no more.
#[test]
fn a_call_that_was_given_up_never_arrives() {
    let mut world = world();
    let (member, other) = (world.member(1), world.member(2));
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    world.silence("relay", "NotifyProcessShutdown");
    world.notify_late(member.at);
    let late = |world: &mut World| {
        let status = world.status();
        let providers = status.sessions.into_iter().flat_map(|s| s.providers);
        providers.filter(|p| p.name == "relay").map(|p| p.status).collect::<Vec<_>>()
    };
    assert_eq!(late(&mut world), ["late: no answer to NotifyProcessShutdown in time"]);
    // Its worker is busy with the notice: the Do waits behind that.
    world.hold("relay", "*");
    let id = world.ask_do(member.at);
    world.advance(secs(1));
    assert_eq!(world.answer(member.at, id), Some(Ok(Reply::Done)), "stores keep, and that counts");
    assert_eq!(late(&mut world), ["late: no answer to DoFastShutdown in time"]);
    world.let_go("relay");
    let told = world.swept().into_iter().filter(|(_, p, c)| p == "relay" && *c == "DoFastShutdown");
    assert_eq!(told.count(), 1, "it was put into the worker's lane once");
    assert_eq!(world.carried_out("relay", "DoFastShutdown"), 0, "and was never carried out");
    assert_eq!(late(&mut world), ["available"]);
    assert!(world.try_submit(other, &["b@x"]).is_ok());
    world.settle();
    assert_eq!(world.wire.delivered_to("b@x"), 1, "the neighbour's mail goes out");
}

/// SEED-17: a store is one object for every session and process that uses it, and its first answer holds for all of them.
#[test]
fn a_stores_first_answer_holds_in_every_session() {
    for refuses_first in [true, false] {
        let mut world = World::new();
        let no = Interface::Refuses(Code::E_NO_SUPPORT);
        let (first, second) = (world.member(1), world.connect(2));
        // Another session with the same store.
        world.logon_with(second, "default", LogonFlags::NEW_SESSION);
        if refuses_first {
            world.interfaces.insert("store".into(), no);
        }
        let answer = world.query(first.at);
        assert_eq!(answer.is_err(), refuses_first);
        world.interfaces.clear();
        if !refuses_first {
            world.interfaces.insert("store".into(), no);
        }
        assert_eq!(world.query(second).is_err(), refuses_first, "the same object answers the same");
    }
}

/// CFS-10, design §3.7: while a Do runs everything else the process asks waits; after a success it answers
/// `MAPI_E_NOT_INITIALIZED`, whatever it is.
#[test]
fn what_is_asked_during_a_do_that_succeeds_is_refused_then() {
    let mut world = World::new();
    let (leaves, sibling) = (world.member(1), world.connect(1));
    let second = world.logon(sibling);
    assert_eq!(world.query(leaves.at), Ok(Reply::Done));
    world.hold("store", "DoFastShutdown");
    let id = world.ask_do(leaves.at);
    let requests = everything(&mut world, second);
    let kinds: BTreeSet<_> = requests.iter().map(Request::name).collect();
    assert_eq!(kinds.len(), 33, "every kind of request");
    let mut asked = Vec::new();
    for request in requests {
        let joins = matches!(request, Request::DoFastShutdown { .. });
        asked.push((request.name(), joins, world.ask(sibling, request)));
    }
    world.settle();
    assert!(asked.iter().all(|(_, _, id)| world.answer(sibling, *id).is_none()), "all wait");
    world.let_go("store");
    assert_eq!(world.answer(leaves.at, id), Some(Ok(Reply::Done)));
    for (name, joins, id) in asked {
        let answer = world.answer(sibling, id).expect(name);
        if joins {
            assert_eq!(answer, Ok(Reply::Done), "a second Do joins the first");
        } else if name == "Ticket" {
            assert!(answer.is_ok(), "it says that the process was shut down");
        } else {
            assert_eq!(answer.expect_err(name).code, Code::E_NOT_INITIALIZED, "{name}");
        }
    }
}

/// Design §3.7, §10.9: and after a failure it is carried out, in its order; also a logon whose session started meanwhile.
#[test]
fn what_is_asked_during_a_do_that_fails_is_carried_out() {
    let mut world = World::new();
    let (stays, sibling) = (world.member(1), world.connect(1));
    assert_eq!(world.query(stays.at), Ok(Reply::Done));
    world.hold_profiles = true;
    let before = world.ask(sibling, logon_request(Some("work"), LogonFlags::default()));
    let private = world.ask(sibling, logon_request(Some("work"), LogonFlags::NEW_SESSION));
    world.hold("store", "DoFastShutdown");
    world.store("default").failures.insert("DoFastShutdown", vec![Code::E_DISK_ERROR].into());
    let id = world.ask_do(stays.at);
    let set = |value: &str| Request::Setting {
        member: stays.id,
        section: "s".into(),
        name: "n".into(),
        change: SettingChange::Set(value.into()),
    };
    let asked = ["one", "two"].map(|value| world.ask(stays.at, set(value)));
    let logon = world.ask(sibling, logon_request(None, LogonFlags::default()));
    let status = world.ask(sibling, Request::Status);
    world.hold_profiles = false;
    world.settle();
    for id in asked {
        assert_eq!(world.answer(stays.at, id), None);
    }
    for id in [before, private, logon, status] {
        assert_eq!(world.answer(sibling, id), None);
    }
    world.let_go("store");
    let failed = world.answer(stays.at, id).expect("answered").expect_err("it failed");
    assert_eq!(failed.code, Code::E_DISK_ERROR);
    for (id, value) in asked.into_iter().zip(["one", "two"]) {
        assert_eq!(world.answer(stays.at, id), Some(Ok(Reply::Setting(Some(value.into())))));
    }
    for id in [before, private, logon, status] {
        assert!(world.answer(sibling, id).expect("carried out").is_ok());
    }
    assert_eq!(world.do_fast(stays.at), Ok(Reply::Done));
    world.advance(secs(60));
    world.assert_empty();
}

/// Design §1: what waits for a Do is charged, free requests too; a peer that asks without end loses that connection.
#[test]
fn what_waits_for_a_do_has_a_limit() {
    let limits = Limits { requests: 8, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let (leaves, flooder) = (world.member(1), world.connect(1));
    assert_eq!(world.query(leaves.at), Ok(Reply::Done));
    world.hold("store", "DoFastShutdown");
    let id = world.ask_do(leaves.at);
    for _ in 0..8 {
        world.ask(flooder, Request::Status);
    }
    assert!(world.is_open(flooder));
    world.ask(flooder, Request::Status);
    assert_eq!(world.closed(flooder), Some(Code::E_TOO_BIG));
    world.let_go("store");
    assert_eq!(world.answer(leaves.at, id), Some(Ok(Reply::Done)));
    world.assert_counts();
}

/// Design §3.8: a Do that is repeated after a failure does not call those again who have answered it; what was handed over
/// since is written all the same.
#[test]
fn a_repeated_do_does_not_call_again_who_has_answered() {
    let mut world = World::new();
    let at = world.connect(1);
    let (member, _) = (world.logon(at), world.logon_to(at, "work"));
    assert_eq!(world.query(at), Ok(Reply::Done));
    world.store("work").failures.insert("DoFastShutdown", vec![Code::E_NOT_ENOUGH_DISK].into());
    assert_eq!(world.do_fast(at).expect_err("a disk is full").code, Code::E_NOT_ENOUGH_DISK);
    world.submit_deferred(member, "b@x");
    world.draft(member, "unsaved");
    let before = world.swept().len();
    assert_eq!(world.do_fast(at), Ok(Reply::Done));
    let again: Vec<_> = world.swept()[before..].iter().map(|(_, p, _)| p.clone()).collect();
    assert_eq!(again, ["store"], "the store that has failed");
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
    // Another process has its own calls.
    let other = world.member(2);
    world.leave_fast(other.at);
    let told = world.swept().into_iter().rev().take(3).map(|(_, p, _)| p).collect::<Vec<_>>();
    assert_eq!(told, ["store", "people", "relay"]);
}

/// SEED-21: the setting binds programs by name.
#[test]
fn some_programs_may_not_do() {
    let programs = DisableFastShutdown::Programs(vec!["program-1".into(), "tray".into()]);
    let mut world = with(Shutdown { disable_fast_shutdown: programs, ..Shutdown::default() });
    let (bound, free) = (world.member(1), world.member(2));
    for member in [bound, free] {
        assert_eq!(world.query(member.at), Ok(Reply::Done), "a query is answered as ever");
    }
    assert_eq!(world.do_fast(bound.at).expect_err("bound").code, Code::E_NO_SUPPORT);
    assert_eq!(world.do_fast(free.at), Ok(Reply::Done));
    world.logoff(bound);
}

/// LOGOFF-6, design §3.2: a process owns a shared session, with each of its members.
#[test]
fn the_owner_is_a_process() {
    let mut world = World::new();
    let at = world.connect(1);
    let (_first, second, other) = (world.logon(at), world.logon(at), world.member(2));
    let refused = world.try_logoff(other, LogoffFlags::SHARED).expect_err("it owns nothing");
    assert_eq!(refused.detail, FaultDetail::Owner(world.peer(at)));
    world.logoff_shared(second);
    assert_eq!(world.critical_errors(other), 1);
}

/// A body that is uploaded while a Do runs waits whole, and is appended once.
#[test]
fn an_upload_waits_for_a_do() {
    let mut world = World::new();
    let at = world.connect_as(1, OWNER);
    let member = world.logon(at);
    assert_eq!(world.query(at), Ok(Reply::Done));
    world.store("default").failures.insert("DoFastShutdown", vec![Code::E_DISK_ERROR].into());
    world.hold("store", "DoFastShutdown");
    let id = world.ask_do(at);
    let upload = sundown_protocol::UploadId(1);
    let bytes = Blob(b"Subject: x\r\n\r\nlong".to_vec());
    let piece = world.ask(at, Request::Upload { member: member.id, store: 0, upload, bytes });
    let content = Content::Uploaded(upload);
    world.let_go("store");
    assert_eq!(
        world.answer(at, id).expect("answered").expect_err("failed").code,
        Code::E_DISK_ERROR
    );
    assert_eq!(world.answer(at, piece), Some(Ok(Reply::Done)));
    let draft = Request::Draft { member: member.id, store: 0, content };
    assert!(matches!(world.call(at, draft), Ok(Reply::Opened(_))));
    world.open(member, Opening::Store(0));
}

/// Design §1: what waits for a Do is bound by the quotas of its process and user, over all its connections, and so is what joins a
/// sweep.
#[test]
fn what_waits_is_bound_over_all_connections() {
    let limits = Limits { process_request_bytes: 1_000, requests: 8, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let leaves = world.member(1);
    assert_eq!(world.query(leaves.at), Ok(Reply::Done));
    world.hold("store", "DoFastShutdown");
    let id = world.ask_do(leaves.at);
    let mut held = 0;
    for _ in 0..10 {
        let at = world.connect(1);
        for _ in 0..3 {
            let flush = world.ask(at, Request::Flush { member: leaves.id });
            match world.answer(at, flush) {
                None => held += 1,
                Some(answer) => assert_eq!(answer.expect_err("too much").code, Code::E_BUSY),
            }
        }
    }
    assert_eq!(held, 10, "of 100 bytes each");
    let joins = world.connect(1);
    for _ in 0..9 {
        if world.is_open(joins) {
            world.ask_do(joins);
        }
    }
    assert_eq!(world.closed(joins), Some(Code::E_TOO_BIG));
    world.let_go("store");
    assert_eq!(world.answer(leaves.at, id), Some(Ok(Reply::Done)));
    world.assert_counts();
}
