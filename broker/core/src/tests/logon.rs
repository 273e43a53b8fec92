//! Logons: joining a session, and starting one.

use sundown_protocol::Code;
use sundown_protocol::reply::SessionStatus;
use sundown_protocol::request::{LogonFlags, Opening, Request};

use super::fakes::Step;
use super::world::{World, logon_request, settings, store, transport};
use crate::settings::Limits;
use crate::settings::Right;
use crate::settings::Settings;

/// design §3.1: a logon without a profile means the default profile; it is shared.
#[test]
fn no_profile_means_the_default_one() {
    let mut world = World::new();
    let at = world.connect(1);
    let on = world.try_logon(at, None, LogonFlags::default()).expect("it logs on");
    assert_eq!((on.profile.as_str(), on.shared), ("default", true));
    assert_eq!(on.stores, ["store"]);
    assert_eq!(on.identity, "me@here");
}

/// LOGON-2: bits that mean nothing are refused.
#[test]
fn unknown_flags_are_refused() {
    let mut world = World::new();
    let at = world.connect(1);
    let code = world.refused(at, logon_request(None, LogonFlags(0x1_0000)));
    assert_eq!(code, Code::E_UNKNOWN_FLAGS);
}

/// LOGON-1: a profile's name has at most 64 characters, whatever their bytes.
#[test]
fn the_length_of_a_profile_name_is_checked() {
    let mut world = World::new();
    let at = world.connect(1);
    for (name, code) in [
        (String::new(), Code::E_INVALID_PARAMETER),
        ("ü".repeat(65), Code::E_INVALID_PARAMETER),
        ("ü".repeat(64), Code::E_NOT_FOUND),
    ] {
        assert_eq!(world.refused(at, logon_request(Some(&name), LogonFlags::default())), code);
    }
}

/// design §8: an unknown profile is `MAPI_E_NOT_FOUND`, for everybody who waited, and nothing is left of it.
#[test]
fn an_unknown_profile_fails_everybody_who_waits() {
    let mut world = World::new();
    world.hold_profiles = true;
    let (a, b) = (world.connect(1), world.connect(2));
    let first = world.ask(a, logon_request(Some("nowhere"), LogonFlags::default()));
    let second = world.ask(b, logon_request(Some("nowhere"), LogonFlags::default()));
    world.let_all_go();
    for (at, id) in [(a, first), (b, second)] {
        let fault = world.answer(at, id).expect("answered").expect_err("refused");
        assert_eq!(fault.code, Code::E_NOT_FOUND);
    }
    world.assert_empty();
}

/// SHARE-5, A-6: `NEW_SESSION` neither joins nor is joined.
#[test]
fn a_private_session_is_nobody_elses() {
    let mut world = World::new();
    let (a, b, c) = (world.connect(1), world.connect(2), world.connect(3));
    let shared = world.logon(a);
    let private = world.logon_with(b, "default", LogonFlags::NEW_SESSION);
    assert_ne!(shared.session, private.session);
    let other = world.logon_with(b, "default", LogonFlags::NEW_SESSION);
    assert_ne!(other.session, private.session);
    let joined = world.logon(c);
    assert_eq!(joined.session, shared.session);
}

/// SHARE-1, SHARE-2, LOGON-10: logons to one profile share its session; each is a member of its own.
#[test]
fn each_logon_is_a_member_of_its_own() {
    let mut world = World::new();
    let (a, b) = (world.connect(1), world.connect(2));
    let members = [world.logon(a), world.logon(a), world.logon(b)];
    assert!(members.iter().all(|m| m.session == members[0].session));
    assert_ne!(members[0].id, members[1].id);
    let elsewhere = world.logon_to(b, "work");
    assert_ne!(elsewhere.session, members[0].session);
    world.logoff(members[0]);
    world.open(members[1], Opening::Store(0));
}

/// LOGON-3, design §2: who comes while a session starts waits for it, unless it asked not to.
#[test]
fn logons_wait_for_a_session_that_starts() {
    let mut world = World::new();
    world.hold("store", "Logon");
    let (a, b) = (world.connect(1), world.connect(2));
    let first = world.ask(a, logon_request(None, LogonFlags::default()));
    let second = world.ask(b, logon_request(None, LogonFlags::default()));
    world.settle();
    assert!(world.answer(a, first).is_none() && world.answer(b, second).is_none());
    assert_eq!(world.refused(b, logon_request(None, LogonFlags::TIMEOUT_SHORT)), Code::E_TIMEOUT);
    world.let_go("store");
    assert!(world.answer(a, first).expect("answered").is_ok());
    assert!(world.answer(b, second).expect("answered").is_ok());
    assert!(world.try_logon(b, None, LogonFlags::TIMEOUT_SHORT).is_ok());
}

/// LOGON-12: address books log on before stores, stores before transports; a later kind waits for the earlier.
#[test]
fn providers_log_on_in_order() {
    let mut world = World::new();
    world.hold("people", "Logon");
    let at = world.connect(1);
    let id = world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    assert_eq!(world.order_of("Logon"), ["people"]);
    world.hold("store", "Logon");
    world.let_go("people");
    assert_eq!(world.order_of("Logon"), ["people", "store"]);
    world.let_go("store");
    assert_eq!(world.order_of("Logon"), ["people", "store", "relay"]);
    assert!(world.answer(at, id).is_some());
}

/// LOGON-11, LOGON-13: a provider whose logon fails is tried once more, then it is out for the session's life.
#[test]
fn a_provider_that_fails_twice_is_out() {
    let mut world = World::new();
    world.profile("default").transports.push(transport("other", &["*"]));
    world.script("relay.Logon", &[Step::Refuses, Step::Refuses]);
    world.script("other.Logon", &[Step::Refuses]);
    let member = world.member(1);
    assert_eq!(world.calls_of("relay"), ["Logon", "Logon"]);
    let status = world.status();
    let said = |name: &str| {
        let found = status.sessions[0].providers.iter().find(|p| p.name == name);
        found.expect("it is listed").status.clone()
    };
    assert!(said("relay").starts_with("failed: "), "{}", said("relay"));
    assert_eq!(said("other"), "available");
    world.logoff(member);
    world.advance(super::world::secs(20));
    world.assert_empty();
    assert_eq!(world.calls_of("relay"), ["Logon", "Logon"], "it was never logged on");
}

/// LOGON-13, design §10.8: a provider that never answers its logon is out after a while, and nobody waits longer.
#[test]
fn a_provider_that_hangs_at_its_logon_is_out() {
    let mut world = World::new();
    world.hold("relay", "Logon");
    let at = world.connect(1);
    let asked = world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    world.advance(super::world::secs(29));
    assert!(world.answer(at, asked).is_none());
    world.advance(super::world::secs(2));
    assert!(world.answer(at, asked).expect("answered").is_ok());
    let status = world.status();
    let relay = status.sessions[0].providers.iter().find(|p| p.name == "relay");
    assert!(relay.expect("listed").status.contains("no answer"), "{relay:?}");
}

/// LOGON-13, design §10.8: a default store that never answers fails the logon.
#[test]
fn a_default_store_that_hangs_fails_the_logon() {
    let mut world = World::new();
    world.hold("store", "Logon");
    let at = world.connect(1);
    let asked = world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    world.advance(super::world::secs(31));
    let fault = world.answer(at, asked).expect("answered").expect_err("refused");
    assert_eq!(fault.code, Code::E_TIMEOUT);
}

/// LOGON-13: without its default store a session does not start, and everybody who waits is told why.
#[test]
fn a_failing_default_store_fails_the_logon() {
    let mut world = World::new();
    let code = Code::E_CORRUPT_STORE;
    world.store("default").failures.insert("Logon", [code; 4].into());
    world.hold("people", "Logon");
    let (a, b) = (world.connect(1), world.connect(2));
    let first = world.ask(a, logon_request(None, LogonFlags::default()));
    let second = world.ask(b, logon_request(None, LogonFlags::default()));
    world.let_go("people");
    for (at, id) in [(a, first), (b, second)] {
        let fault = world.answer(at, id).expect("answered").expect_err("refused");
        assert_eq!(fault.code, code);
    }
    world.advance(super::world::secs(20));
    world.assert_empty();
    assert_eq!(world.order_of("Logoff"), ["people"], "what was logged on is logged off");
    let status = world.status();
    let shown = |s: &SessionStatus| (s.profile.clone(), s.state.clone(), s.providers.len());
    let failed = ("default".to_owned(), "failed".to_owned(), 1);
    assert_eq!(status.sessions.iter().map(shown).collect::<Vec<_>>(), [failed]);
    assert!(status.sessions[0].providers[0].status.starts_with("failed: "), "{status:?}");
    world.store("default").failures.clear();
    world.logon(a);
    assert_eq!(world.sessions(), ["active"]);
}

/// Design §10: a store that says that it is damaged goes on, and whoever asks for the status knows, until it is opened anew.
#[test]
fn a_damaged_store_is_shown() {
    let mut world = World::new();
    let member = world.member(1);
    let shown = |world: &mut World| world.status().sessions[0].providers[0].status.clone();
    assert_eq!(shown(&mut world), "available");
    let code = Code::E_CORRUPT_STORE;
    world.store("default").failures.insert("SubmitMessage", [code].into());
    assert_eq!(world.try_submit(member, &["b@x"]).expect_err("refused").code, code);
    assert!(shown(&mut world).starts_with("damaged: "), "{}", shown(&mut world));
    world.submit(member, "b@x");
    world.logoff(member);
    world.advance(super::world::secs(20));
    world.assert_empty();
    world.member(2);
    assert_eq!(shown(&mut world), "available");
}

/// LOGON-13: a second store that fails leaves the session its default store.
#[test]
fn a_failing_second_store_is_only_out() {
    let mut world = World::new();
    let mut both = world.profile("default").clone();
    both.stores.push(store("archive", "/archive"));
    world.add_profile(both);
    let archive = world.stores.get_mut(std::path::Path::new("/archive")).expect("a store");
    archive.failures.insert("Logon", [Code::E_DISK_ERROR; 9].into());
    let member = world.member(1);
    let refused = world.try_open(member, Opening::Store(1)).expect_err("refused");
    assert_eq!(refused.code, Code::E_NOT_FOUND);
    world.submit(member, "b@x");
    world.logoff(member);
    world.advance(super::world::secs(30));
    world.assert_empty();
}

/// design §2 *rights*: other users have what the access list says, by default nothing; root has admin.
#[test]
fn other_users_have_what_the_access_list_says() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_001, Right::Submit), (2_002, Right::Session)];
    let logon = || logon_request(None, LogonFlags::default());
    for (uid, allowed) in [(2_000, false), (2_001, true), (2_002, true), (0, true)] {
        let at = world.connect_as(uid + 1, uid);
        let answer = world.call(at, logon());
        assert_eq!(answer.is_ok(), allowed, "{uid}: {answer:?}");
        if let Err(fault) = answer {
            assert_eq!(fault.code, Code::E_NO_ACCESS);
        }
    }
}

/// design §2 *rights*: who may only submit can hand mail over, abort it and leave, and nothing else.
#[test]
fn who_may_only_submit_can_do_nothing_else() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_001, Right::Submit)];
    let at = world.connect_as(7, 2_001);
    let member = world.logon(at);
    world.submit(member, "b@x");
    for what in [Opening::StatusTable, Opening::AddressBook, Opening::Store(0)] {
        let refused = world.try_open(member, what).expect_err("refused");
        assert_eq!(refused.code, Code::E_NO_ACCESS);
    }
    let others = world.member(1);
    let sessions = world.status().sessions;
    assert!(sessions.iter().any(|s| s.id == others.session), "the broker's own user sees all");
    world.logoff(member);
}

/// design §3.1: sessions are of a user and a profile; root uses those of the broker's own user.
#[test]
fn sessions_belong_to_a_user() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_002, Right::Session)];
    let own = world.member(1);
    let (root, other) = (world.connect_as(2, 0), world.connect_as(3, 2_002));
    assert_eq!(world.logon(root).session, own.session);
    assert_ne!(world.logon(other).session, own.session);
}

/// design §2 *rights*: somebody without rights cannot have providers called.
#[test]
fn a_stranger_starts_nothing() {
    let mut world = World::new();
    let at = world.connect_as(7, 2_000);
    assert_eq!(world.refused(at, logon_request(None, LogonFlags::default())), Code::E_NO_ACCESS);
    assert!(world.calls.is_empty(), "{:?}", world.calls);
    world.assert_empty();
}

/// design §8 *quotas*: a process has so many members, over all its connections, also while a session starts.
#[test]
fn a_process_has_so_many_members() {
    let limits = Limits { members: 2, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    world.hold_profiles = true;
    let (a, b, c) = (world.connect(1), world.connect(1), world.connect(2));
    let logon = || logon_request(None, LogonFlags::default());
    let asked: Vec<_> = [a, a, b].into_iter().map(|at| (at, world.ask(at, logon()))).collect();
    world.let_all_go();
    let answers: Vec<_> =
        asked.into_iter().map(|(at, id)| world.answer(at, id).expect("answered")).collect();
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 2);
    assert_eq!(answers[2].as_ref().expect_err("refused").code, Code::E_SESSION_LIMIT);
    assert_eq!(world.refused(b, logon()), Code::E_SESSION_LIMIT);
    world.logon(c);
}

/// SHARE-6: flags belong to the member. A creator without mail does not keep a joiner's mail back.
#[test]
fn flags_belong_to_the_member() {
    let mut world = World::new();
    let (a, b) = (world.connect(1), world.connect(2));
    let creator = world.logon_with(a, "default", LogonFlags::NO_MAIL);
    let entry = world.submit(creator, "x@y");
    assert_eq!(world.wire.delivered_to("x@y"), 0);
    assert_eq!(world.status().waiting_for_mail_member, 1);
    let joiner = world.logon(b);
    assert_eq!(world.wire.delivered_to("x@y"), 1);
    world.submit(joiner, "j@y");
    assert_eq!(world.wire.delivered_to("j@y"), 1);
    let status = world.status();
    let no_mail: Vec<_> = status.sessions[0].members.iter().map(|m| m.no_mail).collect();
    assert_eq!(no_mail, [true, false]);
    assert_eq!(status.waiting_for_mail_member, 0);
    assert!(world.state(entry).is_final());
}

/// design §2: a process that waits for a session and dies gets none, and the session does not wait for it.
#[test]
fn who_dies_waiting_leaves_nothing() {
    let mut world = World::new();
    world.hold("store", "Logon");
    let at = world.connect(1);
    world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    world.disconnect(at);
    world.let_go("store");
    world.advance(super::world::secs(20));
    world.assert_empty();
}

/// design §2: a session that fails while a provider is logging on logs that one off once it has answered.
#[test]
fn a_provider_still_logging_on_when_a_session_fails_is_logged_off() {
    let mut world = World::new();
    let mut both = world.profile("default").clone();
    both.stores.push(store("archive", "/archive"));
    world.add_profile(both);
    world.store("default").failures.insert("Logon", [Code::E_DISK_ERROR; 9].into());
    world.hold("archive", "Logon");
    let at = world.connect(1);
    assert!(world.try_logon(at, None, LogonFlags::default()).is_err());
    world.advance(super::world::secs(1));
    world.let_go("archive");
    assert_eq!(world.order_of("Logoff"), ["people", "archive"]);
    world.advance(super::world::secs(20));
    world.assert_empty();
    assert!(world.stores.values().all(|s| s.logons == 0));
}

/// design §8: a request of an unknown member is none of this connection's business.
#[test]
fn status_lists_who_is_here() {
    let mut world = World::new();
    let member = world.member(1);
    world.open(member, Opening::StatusTable);
    let status = world.status();
    let seen = &status.sessions[0].members[0];
    assert_eq!((seen.id, seen.objects, seen.state.as_str()), (member.id, 1, "attached"));
    assert_eq!(seen.peer.pid, 1);
    let names: Vec<_> = status.sessions[0].providers.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["store", "people", "relay"]);
    world.done(member.at, Request::Flush { member: member.id });
}
