//! Shared logoffs: one ends a session for everybody, and everybody is told why.

use sundown_protocol::notification::EndReason;
use sundown_protocol::reply::Reply;
use sundown_protocol::request::{Folder, LogoffFlags, LogonFlags, Opening, Request};
use sundown_protocol::{Code, Event as News, Events, FaultDetail};

use super::world::{Member, World, logged_off, secs, settings};
use crate::settings::Right;
use crate::settings::Settings;
use crate::settings::SharedLogoff;
use crate::settings::Shutdown;

fn with(shared_logoff: SharedLogoff) -> World {
    let shutdown = Shutdown { shared_logoff, ..Shutdown::default() };
    World::with(Settings { shutdown, ..settings() })
}

fn refuse(world: &mut World, member: Member, flags: LogoffFlags) -> sundown_protocol::Fault {
    let fault = world.try_logoff(member, flags).expect_err("it is refused");
    assert_eq!(fault.code, Code::E_NO_ACCESS);
    world.open(member, Opening::Store(0));
    fault
}

/// SEED-4, LOGOFF-5, LOGOFF-6, A-8, A-9, A-34, design §3.2, §10.2: every other member, also one of the caller's own
/// process, is told exactly once, registered or not; the caller, private sessions and other sessions are not.
#[test]
fn every_other_member_is_told_exactly_once() {
    let mut world = World::new();
    let at = world.connect(1);
    let (caller, sibling) = (world.logon(at), world.logon(at));
    let second = world.connect(1);
    let cousin = world.logon(second);
    let (registered, silent) = (world.member(2), world.member(3));
    let advises = [
        world.advise(registered, Events::EXTENDED),
        world.advise(registered, Events::CRITICAL_ERROR),
        world.advise(registered, Events::default()),
    ];
    let elsewhere = world.connect(4);
    let (private, work) = (
        world.logon_with(elsewhere, "default", LogonFlags::NEW_SESSION),
        world.logon_to(elsewhere, "work"),
    );
    world.logoff_shared(caller);
    let critical = News::CriticalError {
        code: Code::E_END_OF_SESSION,
        reason: EndReason::SharedLogoff,
        by: Some(world.peer(at)),
        grace: Some(30_000),
    };
    let told = world.notifications(registered);
    assert_eq!((told[0].event.clone(), &told[0].advises[..]), (critical.clone(), &advises[..]));
    assert_eq!(told.len(), 2, "and that the caller left");
    for member in [sibling, cousin, silent] {
        let told = world.notifications(member);
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0].event, told[0].advises.is_empty()), (&critical, true));
    }
    for member in [caller, private, work] {
        assert_eq!(world.news(member), []);
    }
}

/// it is advice: members keep working until they leave.
#[test]
fn members_keep_working() {
    let mut world = World::new();
    let (caller, other) = (world.member(1), world.member(2));
    let folder = world.open(other, Opening::Folder(0, Folder::SENT));
    world.logoff_shared(caller);
    world.submit(other, "b@x");
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    let list = Request::List { member: other.id, object: folder, after: 0, limit: 9 };
    assert!(world.call(other.at, list).is_ok());
    assert_eq!(world.sessions(), ["ending"]);
    world.logoff(other);
    assert_eq!(world.sessions(), [""; 0]);
}

/// A-8, design §3.2: an ending session is not joinable; a new logon starts a fresh one beside it.
#[test]
fn a_new_logon_starts_a_fresh_session() {
    let mut world = World::new();
    let (caller, other) = (world.member(1), world.member(2));
    world.logoff_shared(caller);
    let fresh = world.member(3);
    assert_ne!(fresh.session, other.session);
    let joined = world.member(4);
    assert_eq!(joined.session, fresh.session);
    assert_eq!(world.sessions(), ["ending", "active"]);
    world.logoff_shared(fresh);
    assert_eq!(world.critical_errors(joined), 1);
    assert_eq!(world.critical_errors(other), 1, "its own, and no more");
}

/// design §3.2: a second shared logoff while it ends is an ordinary logoff: no new notice, the grace unchanged.
#[test]
fn a_second_shared_logoff_is_ordinary() {
    let mut world = World::new();
    let (caller, second, last) = (world.member(1), world.member(2), world.member(3));
    world.logoff_shared(caller);
    assert_eq!(world.critical_errors(last), 1);
    world.advance(secs(20));
    world.logoff_shared(second);
    assert_eq!(world.critical_errors(last), 0);
    world.advance(secs(9));
    world.open(last, Opening::Store(0));
    world.advance(secs(1));
    let dead = world.try_open(last, Opening::Store(0)).expect_err("it was put out");
    assert_eq!(dead.code, Code::E_END_OF_SESSION);
}

/// design §3.2, §3.12: when grace ends who stayed is put out, is told so once, and its handles answer
/// `MAPI_E_END_OF_SESSION`; its drafts are kept.
#[test]
fn who_stays_is_evicted() {
    let mut world = World::new();
    let (caller, stays, asked) = (world.member(1), world.member(2), world.member(3));
    world.advise(asked, Events::EXTENDED);
    world.draft(stays, "kept");
    world.logoff_shared(caller);
    world.news(stays);
    world.news(asked);
    world.advance(secs(30));
    assert_eq!(world.news(stays), [News::Evicted]);
    assert_eq!(world.news(asked), [News::Evicted], "who is put out is not told of others");
    for member in [stays, asked] {
        let dead = world.try_open(member, Opening::Store(0)).expect_err("it is gone");
        assert_eq!(dead.code, Code::E_END_OF_SESSION);
        let dead = world.try_logoff(member, LogoffFlags::default()).expect_err("it is gone");
        assert_eq!(dead.code, Code::E_END_OF_SESSION);
    }
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
    assert!(world.is_open(stays.at), "its connection lives");
    world.logon(stays.at);
}

/// design §3.2 `shared_logoff_grace = "none"`: nobody is ever forced.
#[test]
fn without_grace_nobody_is_forced() {
    let shutdown = Shutdown { grace: None, ..Shutdown::default() };
    let mut world = World::with(Settings { shutdown, ..settings() });
    let (caller, stays) = (world.member(1), world.member(2));
    world.logoff_shared(caller);
    let news = world.news(stays);
    assert!(matches!(&news[..], [News::CriticalError { grace: None, .. }]));
    world.advance(secs(1_000_000));
    world.open(stays, Opening::Store(0));
}

/// design §3.4: grace caps a drain, whether it began before or after.
#[test]
fn grace_caps_a_drain() {
    let mut world = World::new();
    let (caller, before, after) = (world.member(1), world.member(2), world.member(3));
    world.hold("relay", "SubmitMessage");
    world.submit(before, "a@x");
    world.submit(after, "b@x");
    let first = world.ask_logoff(before, LogoffFlags::default(), Some(secs(600)));
    world.logoff_shared(caller);
    world.advance(secs(10));
    let second = world.ask_logoff(after, LogoffFlags::default(), Some(secs(600)));
    world.advance(secs(19));
    assert!(world.answer(before.at, first).is_none() && world.answer(after.at, second).is_none());
    world.advance(secs(1));
    for (member, id) in [(before, first), (after, second)] {
        let answer = world.answer(member.at, id).expect("answered").expect("logged off");
        assert_eq!(logged_off(answer).queued, 1);
        assert!(!world.news(member).contains(&News::Evicted));
    }
}

/// design §3.2, §3.10: a process whose Do succeeds in the moment in which the grace ends has left: it is not listed among those
/// that stayed.
#[test]
fn a_do_that_succeeds_when_the_grace_ends_is_a_departure() {
    let mut world = World::new();
    let (caller, leaves, stays) = (world.member(1), world.member(2), world.member(3));
    world.query(leaves.at).expect("yes");
    let flags = LogoffFlags::SHARED.with(LogoffFlags::WAIT);
    let id = world.ask_logoff(caller, flags, None);
    world.advance(secs(25));
    world.hold("store", "DoFastShutdown");
    let done = world.ask_do(leaves.at);
    world.settle();
    world.clear_holds();
    world.pass(secs(5));
    while let Some(lane) = world.answerable().first() {
        world.answer_next(*lane);
    }
    assert_eq!(world.answer(leaves.at, done), Some(Ok(Reply::Done)));
    assert_eq!(world.answer(caller.at, id), None, "the grace ends in this moment, and after that");
    world.settle();
    let answer = world.answer(caller.at, id).expect("answered").expect("logged off");
    assert_eq!(logged_off(answer).stayed, [world.peer(stays.at)]);
    assert!(!world.news(leaves).contains(&News::Evicted));
}

/// design §3.2: the caller does not wait for the others unless it asks to; then it learns who did not leave.
#[test]
fn the_caller_may_wait_for_the_others() {
    let mut world = World::new();
    let (caller, leaves, stays) = (world.member(1), world.member(2), world.member(3));
    let flags = LogoffFlags::SHARED.with(LogoffFlags::WAIT);
    let id = world.ask_logoff(caller, flags, None);
    world.settle();
    assert_eq!(world.answer(caller.at, id), None);
    world.logoff(leaves);
    world.advance(secs(29));
    assert_eq!(world.answer(caller.at, id), None);
    world.advance(secs(1));
    let answer = world.answer(caller.at, id).expect("answered").expect("logged off");
    assert_eq!(logged_off(answer).stayed, [world.peer(stays.at)]);

    let (caller, leaves) = (world.member(4), world.member(5));
    let id = world.ask_logoff(caller, flags, None);
    world.logoff(leaves);
    let answer = world.answer(caller.at, id).expect("answered").expect("logged off");
    assert!(logged_off(answer).stayed.is_empty());
    let alone = world.member(6);
    assert!(world.try_logoff(alone, flags).is_ok());
    let (quiet, _other) = (world.member(7), world.member(8));
    assert!(
        world.try_logoff(quiet, LogoffFlags::WAIT).is_ok(),
        "nothing ends: nothing to wait for"
    );
}

/// LOGOFF-4: on a session that is not shared the flag is ignored.
#[test]
fn the_flag_means_nothing_on_a_private_session() {
    let mut world = with(SharedLogoff::Deny);
    let other = world.member(1);
    let at = world.connect(2);
    let private = world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    world.logoff_shared(private);
    assert_eq!(world.news(other), []);
    assert_eq!(world.sessions(), ["active"]);
}

/// SEED-4, A-7, design §3.2 `"owner"`: only the creator may; the refusal names it and leaves the caller attached.
#[test]
fn only_the_owner_may_end_it() {
    let mut world = with(SharedLogoff::Owner);
    let (owner, other) = (world.member(1), world.member(2));
    let fault = refuse(&mut world, other, LogoffFlags::SHARED);
    assert_eq!(fault.detail, FaultDetail::Owner(world.peer(owner.at)));
    assert_eq!(world.news(owner), []);
    assert_eq!(world.sessions(), ["active"]);
    world.logoff_shared(owner);
    assert_eq!(world.critical_errors(other), 1);
}

/// design §3.2: once the creator has left, the oldest member owns the session.
#[test]
fn the_oldest_member_inherits_it() {
    let mut world = with(SharedLogoff::Owner);
    let (creator, oldest, youngest) = (world.member(1), world.member(2), world.member(3));
    world.disconnect(creator.at);
    let fault = refuse(&mut world, youngest, LogoffFlags::SHARED);
    assert_eq!(fault.detail, FaultDetail::Owner(world.peer(oldest.at)));
    world.logoff_shared(oldest);
    assert_eq!(world.critical_errors(youngest), 1);
}

/// LOGOFF-7, design §3.2 `"any"`: any member may.
#[test]
fn any_member_may_if_settings_say_so() {
    let mut world = with(SharedLogoff::Any);
    let (creator, other) = (world.member(1), world.member(2));
    world.logoff_shared(other);
    assert_eq!(world.critical_errors(creator), 1);
}

/// design §3.2 `"deny"`: nobody may, not even the owner; an administrator may by force.
#[test]
fn nobody_may_if_settings_say_so() {
    let mut world = with(SharedLogoff::Deny);
    world.profile("default").access = vec![(2_002, Right::Session)];
    let owner = world.member(1);
    let root = world.connect_as(2, 0);
    let root = world.logon(root);
    refuse(&mut world, owner, LogoffFlags::SHARED);
    let off = world.try_logoff(root, LogoffFlags::SHARED.with(LogoffFlags::FORCE));
    assert!(off.is_ok());
    assert_eq!(world.critical_errors(owner), 1);
}

/// design §3.2: force takes the right admin; who has it not is refused as if it had not forced, owner named.
#[test]
fn force_takes_the_right_admin() {
    let mut world = with(SharedLogoff::Owner);
    world.profile("default").access = vec![(2_002, Right::Session)];
    let (a, b) = (world.connect_as(1, 2_002), world.connect_as(2, 2_002));
    let (owner, other) = (world.logon(a), world.logon(b));
    let forced = LogoffFlags::SHARED.with(LogoffFlags::FORCE);
    let fault = refuse(&mut world, other, forced);
    assert_eq!(fault.detail, FaultDetail::Owner(world.peer(owner.at)));
    assert!(world.try_logoff(owner, forced).is_ok(), "the owner needs no force");
}

/// design §3.2, §3.4: a shared logoff that waits for its mail has told the others at once.
#[test]
fn a_draining_shared_logoff_tells_at_once() {
    let mut world = World::new();
    let (caller, other) = (world.member(1), world.member(2));
    world.hold("relay", "SubmitMessage");
    world.submit(caller, "b@x");
    let id = world.ask_logoff(caller, LogoffFlags::SHARED, Some(secs(20)));
    assert_eq!(world.critical_errors(other), 1);
    world.advance(secs(19));
    assert_eq!(world.answer(caller.at, id), None);
    world.let_go("relay");
    assert!(world.answer(caller.at, id).expect("answered").is_ok());
    assert_eq!(world.critical_errors(caller), 0);
}

/// design §3.4, §10.6: mail that an ended session did not send goes on in the next one, also without a logon.
#[test]
fn mail_goes_on_after_the_session() {
    let mut world = World::new();
    let (caller, other) = (world.member(1), world.member(2));
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entry = world.submit(caller, "b@x");
    world.logoff_shared(caller);
    world.logoff(other);
    assert_eq!(world.sessions(), ["memberless"]);
    world.wire.broken.clear();
    world.advance(secs(60));
    assert!(world.state(entry).is_final());
    world.assert_empty();
}

/// design §10.10: a member whose process dies during the end counts as gone.
#[test]
fn who_dies_during_the_end_is_gone() {
    let mut world = World::new();
    let (caller, dies) = (world.member(1), world.member(2));
    let id = world.ask_logoff(caller, LogoffFlags::SHARED.with(LogoffFlags::WAIT), None);
    world.end_process(2);
    world.settle();
    let answer = world.answer(caller.at, id).expect("answered").expect("logged off");
    assert!(logged_off(answer).stayed.is_empty());
    assert_eq!(world.closed(dies.at), Some(Code::E_NOT_FOUND));
    world.advance(secs(60));
    world.assert_empty();
}

/// LOGOFF-11, design §3.2: who is put out is not told that others are: the notices of a crowd grow with the crowd, not with its
/// square. A member of another session, which is not put out, hears nothing either.
#[test]
fn the_end_of_a_crowd_is_told_to_each_once() {
    let mut world = World::new();
    let owner = world.member(1);
    let crowd: Vec<_> = (2..202).map(|pid| world.member(pid)).collect();
    for member in &crowd {
        world.advise(*member, Events::EXTENDED);
    }
    world.logoff_shared(owner);
    for member in &crowd {
        world.news(*member);
    }
    world.worked = 0;
    world.advance(secs(31));
    let effects = world.worked;
    for member in &crowd {
        assert_eq!(world.news(*member), [News::Evicted]);
    }
    assert!(effects < 10 * crowd.len() as u64, "{effects} effects");
}
