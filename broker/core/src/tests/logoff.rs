//! Logoffs of one member: now, after its mail, against a failing store; what becomes of objects and drafts; and the
//! order in which providers are left.

use sundown_protocol::notification::LeaveReason;
use sundown_protocol::reply::{Reply, SubmissionState};
use sundown_protocol::request::{Folder, LogoffFlags, LogonFlags, Opening, ReadSource, Request};
use sundown_protocol::{Code, Event as News, Events, SubmitKey};

use super::fakes::Step;
use super::world::{
    Heard, Member, World, entries_of, logged_off, logoff_request, millis, secs, settings, transport,
};
use crate::provider::Outcome;
use crate::settings::Linger;
use crate::settings::Settings;
use crate::settings::Shutdown;

fn with(shutdown: Shutdown) -> World {
    World::with(Settings { shutdown, ..settings() })
}

/// LOGOFF-9, OBJ-2, A-11: logoff succeeds with objects open, counts them, and nothing of the member accepts a call after.
#[test]
fn objects_die_with_their_member() {
    let mut world = World::new();
    let member = world.member(1);
    let stays = world.member(2);
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    world.open(member, Opening::AddressBook);
    world.open(member, Opening::StatusTable);
    let advise = world.advise(member, Events::EXTENDED);
    let off = world.logoff(member);
    assert_eq!((off.invalidated, off.discarded, off.queued), (3, 0, 0));
    assert!(off.stayed.is_empty());
    let id = member.id;
    let calls = [
        Request::List { member: id, object: folder, after: 0, limit: 1 },
        Request::Release { member: id, object: folder },
        Request::Unadvise { member: id, advise },
        Request::Open { member: id, what: Opening::Store(0) },
        Request::Flush { member: id },
        Request::Read { member: id, source: ReadSource::Object(folder), offset: 0 },
        logoff_request(id, LogoffFlags::default(), None),
    ];
    for call in calls {
        assert_eq!(world.refused(member.at, call), Code::E_INVALID_OBJECT);
    }
    world.open(stays, Opening::Store(0));
}

/// bits that mean nothing are refused, and the member stays.
#[test]
fn unknown_flags_are_refused() {
    let mut world = World::new();
    let member = world.member(1);
    let refused = world.try_logoff(member, LogoffFlags(0x10)).expect_err("refused");
    assert_eq!(refused.code, Code::E_UNKNOWN_FLAGS);
    world.logoff(member);
}

/// LOGOFF-3: the flag that allows dialogs is known, and passed over: whoever asks does so in its own program.
#[test]
fn a_flag_for_dialogs_asks_nobody() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.try_logoff(member, LogoffFlags::UI).expect("it is known");
    world.try_logoff(other, LogoffFlags::SHARED.with(LogoffFlags::UI)).expect("it is known");
}

/// SEED-2, QUEUE-10: a logoff now loses nothing: what was submitted is still queued, and goes out.
#[test]
fn logoff_now_loses_nothing() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entry = world.submit(member, "b@x");
    assert_eq!(world.logoff(member).queued, 1);
    world.let_go("relay");
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// SEED-1, design §3.4: a drain waits until every submission of this member is final, and says how far it is.
#[test]
fn a_drain_waits_for_this_members_mail() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.advise(member, Events::EXTENDED);
    world.hold("relay", "SubmitMessage");
    let mine = [world.submit(member, "a@x"), world.submit(member, "b@x")];
    world.script("never@x", &[Step::Says(Outcome::Later); 9]);
    world.submit(other, "never@x");
    let id = world.ask_logoff(member, LogoffFlags::default(), Some(secs(60)));
    world.settle();
    assert_eq!(world.answer(member.at, id), None);
    let status = world.status();
    assert_eq!(status.sessions[0].members[0].state, "draining");
    world.let_go("relay");
    let answer = world.answer(member.at, id).expect("answered").expect("logged off");
    assert_eq!(logged_off(answer).queued, 0);
    assert!(mine.iter().all(|e| world.state(*e) == SubmissionState::Sent));
    let progress = News::LogoffProgress { waiting: 1, finished: 1 };
    assert_eq!(world.news(member), [progress]);
}

/// Two members, each with more submissions than are followed one by one: by itself, and with the other. These are tried again and again.
fn very_many(tried_again: usize) -> (World, [Member; 2]) {
    let mut world = World::new();
    let members = [world.member(1), world.member(2)];
    world.script("never@x", &[Step::Says(Outcome::Later); 9]);
    world.hold("relay", "SubmitMessage");
    for (member, count) in members.into_iter().zip([240, 120]) {
        for n in 0..count {
            world.submit(member, if n < tried_again { "never@x" } else { "a@x" });
        }
    }
    (world, members)
}

/// design §3.4: of very many submissions not each is followed. A drain waits for them all the same.
#[test]
fn a_drain_of_very_many_waits_for_all() {
    let (mut world, members) = very_many(0);
    let asked = members.map(|m| world.ask_logoff(m, LogoffFlags::default(), Some(secs(60))));
    world.settle();
    for (member, id) in members.iter().zip(asked) {
        assert_eq!(world.answer(member.at, id), None, "the transport has them");
    }
    world.let_go("relay");
    for (member, id) in members.iter().zip(asked) {
        let answer = world.answer(member.at, id).expect("answered").expect("logged off");
        assert_eq!(logged_off(answer).queued, 0);
    }
}

/// design §3.4: at the deadline of such a drain the logoff says how many are in the queue.
#[test]
fn a_drain_of_very_many_says_what_stays() {
    let (mut world, members) = very_many(3);
    let asked = members.map(|m| world.ask_logoff(m, LogoffFlags::default(), Some(secs(10))));
    world.let_go("relay");
    world.advance(millis(9_999));
    for (member, id) in members.iter().zip(asked) {
        assert_eq!(world.answer(member.at, id), None, "some are tried again");
    }
    world.advance(millis(1));
    let queued: Vec<_> = members
        .iter()
        .zip(asked)
        .map(|(member, id)| world.answer(member.at, id).expect("answered").expect("logged off"))
        .map(|answer| logged_off(answer).queued)
        .collect();
    // Of what is not followed it is known that it is no more than what is in the queue.
    assert!(queued.iter().all(|queued| (3..=9).contains(queued)), "{queued:?}");
}

/// Nothing is kept of submissions that are not followed once nothing is to be sent.
#[test]
fn what_is_not_followed_is_over_when_all_is_sent() {
    let (mut world, members) = very_many(0);
    for member in members {
        assert_ne!(world.broker.sessions.members[&member.id].waits_for(), 0);
        assert!(!world.broker.sessions.members[&member.id].unfollowed.is_empty());
    }
    world.let_go("relay");
    for member in members {
        assert_eq!(world.broker.sessions.members[&member.id].waits_for(), 0);
    }
    world.check_at_rest();
}

/// design §3.4: at the deadline what is deferred stays queued, and the logoff succeeds.
#[test]
fn a_drain_ends_at_its_deadline() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later); 9]);
    world.submit(member, "b@x");
    let id = world.ask_logoff(member, LogoffFlags::default(), Some(secs(10)));
    world.advance(millis(9_999));
    assert_eq!(world.answer(member.at, id), None);
    let again = logoff_request(member.id, LogoffFlags::default(), None);
    assert_eq!(world.refused(member.at, again), Code::E_BUSY);
    world.advance(millis(1));
    let answer = world.answer(member.at, id).expect("answered").expect("logged off");
    assert_eq!(logged_off(answer).queued, 1);
}

/// design §3.4: because of a critical error what was asked of a drain is skipped.
#[test]
fn a_critical_logoff_does_not_drain() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    world.submit(member, "b@x");
    let id = world.ask_logoff(member, LogoffFlags::CRITICAL, Some(secs(60)));
    let answer = world.answer(member.at, id).expect("at once").expect("logged off");
    assert_eq!(logged_off(answer).queued, 1);
}

/// design §3.4, §3.16: deferred submissions are durable before the logoff is answered, and the store is told to hurry.
#[test]
fn deferred_mail_is_durable_first() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("store", "SubmitMessage");
    let entry = world.submit_deferred(member, "b@x");
    let id = world.ask_logoff(member, LogoffFlags::default(), None);
    world.settle();
    assert_eq!(world.answer(member.at, id), None);
    assert!(world.waiting_calls("store") >= 2, "the submit and a flush");
    world.let_go("store");
    let answer = world.answer(member.at, id).expect("answered").expect("logged off");
    assert_eq!(logged_off(answer).queued, 1);
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// design §3.8 in spirit, §3.16: if the store fails, logoff is refused once and names what is lost; the next one works.
#[test]
fn a_failing_store_refuses_the_logoff_once() {
    let mut world = World::new();
    let member = world.member(1);
    world.store("default").failures.insert("SubmitMessage", [Code::E_NOT_ENOUGH_DISK; 2].into());
    world.hold("store", "SubmitMessage");
    let lost = [world.submit_deferred(member, "a@x"), world.submit_deferred(member, "b@x")];
    let id = world.ask_logoff(member, LogoffFlags::default(), None);
    world.let_go("store");
    let fault = world.answer(member.at, id).expect("answered").expect_err("refused");
    assert_eq!((fault.code, entries_of(&fault)), (Code::E_NOT_ENOUGH_DISK, lost.to_vec()));
    world.open(member, Opening::Store(0));
    world.logoff(member);
}

/// design §10.10: a store that does not answer refuses a logoff after its time; the member can still leave by hanging up.
#[test]
fn a_hung_store_refuses_the_logoff_in_time() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("store", "*");
    world.submit_deferred(member, "a@x");
    let id = world.ask_logoff(member, LogoffFlags::default(), None);
    world.advance(millis(9_999));
    assert_eq!(world.answer(member.at, id), None);
    world.advance(millis(1));
    let fault = world.answer(member.at, id).expect("answered").expect_err("refused");
    assert_eq!(fault.code, Code::E_TIMEOUT);
    world.disconnect(member.at);
    world.let_all_go();
    world.advance(secs(60));
    world.assert_empty();
    assert_eq!(world.wire.delivered_to("a@x"), 1, "it was accepted, and the store came back");
}

/// design §3.9: a logoff throws unsaved drafts away and counts them; a crash keeps them.
#[test]
fn drafts_are_discarded_or_recovered() {
    let mut world = World::new();
    let (leaves, dies) = (world.member(1), world.member(2));
    world.draft(leaves, "thrown away");
    world.draft(dies, "kept");
    assert_eq!(world.logoff(leaves).discarded, 1);
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 0);
    world.disconnect(dies.at);
    world.settle();
    let drafts: Vec<_> = world.store("default").messages.values().cloned().collect();
    assert_eq!(drafts.len(), 1);
    assert!(drafts[0].recovered && drafts[0].bytes == b"kept");
}

/// design §3.9, §3.16: a draft whose save is under way when its program dies is there once, whether the save works or not.
#[test]
fn a_draft_being_saved_is_kept_once() {
    for fails in [false, true] {
        let mut world = World::new();
        let member = world.member(1);
        let draft = world.draft(member, "kept");
        world.hold("store", "SaveChanges");
        let save = Request::Save { member: member.id, object: draft, key: SubmitKey(77) };
        world.ask(member.at, save);
        world.disconnect(member.at);
        if fails {
            world.store("default").failures.insert("SaveChanges", [Code::E_DISK_ERROR].into());
        }
        world.let_go("store");
        assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
        world.advance(secs(60));
        world.assert_empty();
    }
}

/// design §3.16: a draft that is saved twice at once, with two keys, is one message; also if the first save fails.
#[test]
fn a_draft_saved_twice_at_once_is_there_once() {
    for fails in [false, true] {
        let mut world = World::new();
        let member = world.member(1);
        let draft = world.draft(member, "twice");
        world.hold("store", "SaveChanges");
        if fails {
            world.store("default").failures.insert("SaveChanges", [Code::E_DISK_ERROR].into());
        }
        let save = |key| Request::Save { member: member.id, object: draft, key: SubmitKey(key) };
        let ids = [77, 78].map(|key| world.ask(member.at, save(key)));
        world.let_go("store");
        let [first, second] = ids.map(|id| world.answer(member.at, id).expect("answered"));
        let Ok(Reply::Saved(entry)) = second else { panic!("{second:?}") };
        let wanted = if fails { Err(Code::E_DISK_ERROR) } else { Ok(Reply::Saved(entry)) };
        assert_eq!(first.map_err(|fault| fault.code), wanted);
        assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
        world.logoff(member);
        assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
    }
}

/// LOGOFF-9: a saved draft is a message; it is neither discarded nor recovered.
#[test]
fn a_saved_draft_is_a_message() {
    let mut world = World::new();
    let member = world.member(1);
    let draft = world.draft(member, "saved");
    let save = Request::Save { member: member.id, object: draft, key: SubmitKey(77) };
    let Ok(Reply::Saved(entry)) = world.call(member.at, save.clone()) else { panic!("saved") };
    assert_eq!(world.call(member.at, save), Ok(Reply::Saved(entry)));
    let off = world.logoff(member);
    assert_eq!((off.discarded, off.invalidated), (0, 1));
    assert_eq!(world.in_folder("default", Folder::DRAFTS), 1);
}

/// NOTIF-31, NOTIF-32, A-10, design §3.3: each departure is told, with its reason, to the other members that asked for
/// it, and to nobody else; it is no critical error.
#[test]
fn departures_are_told_to_those_who_asked() {
    let mut world = World::new();
    let (asked, silent) = (world.member(1), world.member(2));
    world.advise(asked, Events::EXTENDED);
    world.advise(silent, Events::CRITICAL_ERROR);
    let (leaves, dies) = (world.member(3), world.member(4));
    world.advise(leaves, Events::EXTENDED);
    let at = world.connect(5);
    let elsewhere = world.logon_to(at, "work");
    world.advise(elsewhere, Events::EXTENDED);
    world.logoff(leaves);
    world.disconnect(dies.at);
    assert_eq!(
        world.news(asked),
        [
            News::MemberLeft { member: leaves.id, reason: LeaveReason::LoggedOff },
            News::MemberLeft { member: dies.id, reason: LeaveReason::Disconnected },
        ]
    );
    for member in [silent, leaves, elsewhere] {
        assert_eq!(world.news(member), []);
    }
}

/// NOTIF-15: a logoff is answered before others on its connection are told of it.
#[test]
fn the_answer_comes_before_the_news() {
    let mut world = World::new();
    let at = world.connect(1);
    let (leaves, stays) = (world.logon(at), world.logon(at));
    world.advise(stays, Events::EXTENDED);
    world.heard(at);
    let id = world.ask_logoff(leaves, LogoffFlags::SHARED, None);
    let heard = world.heard(at);
    assert_eq!(heard[0], Heard::Answer(id));
    assert!(matches!(heard[1], Heard::News(m, News::CriticalError { .. }) if m == stays.id));
    assert!(matches!(heard[2], Heard::News(m, News::MemberLeft { .. }) if m == stays.id));
    assert_eq!(heard.len(), 3);
}

/// after its logoff a member is told nothing.
#[test]
fn who_left_is_told_nothing() {
    let mut world = World::new();
    let (leaves, stays) = (world.member(1), world.member(2));
    world.advise(leaves, Events::all());
    world.logoff(leaves);
    world.submit(stays, "b@x");
    world.logoff_shared(stays);
    assert_eq!(world.news(leaves), []);
}

/// A-16, ORDER-1, design §10.3: at the end transports, then address books, then stores; a later kind waits.
#[test]
fn providers_log_off_in_order() {
    let mut world = World::new();
    world.profile("default").transports =
        vec![transport("first", &["*"]), transport("second", &["*"])];
    let member = world.member(1);
    world.hold("second", "Logoff");
    world.hold("people", "Logoff");
    world.logoff(member);
    assert_eq!(world.order_of("Logoff"), ["first", "second"]);
    world.let_go("second");
    assert_eq!(world.order_of("Logoff"), ["first", "second", "people"]);
    world.let_go("people");
    assert_eq!(world.order_of("Logoff"), ["first", "second", "people", "store"]);
}

/// PLOG-7: a transport is not logged off in the middle of a message.
#[test]
fn a_transport_finishes_its_message_first() {
    let mut world = with(Shutdown { linger: Linger::Off, ..Shutdown::default() });
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.logoff(member);
    assert_eq!(world.order_of("Logoff"), [""; 0]);
    world.let_go("relay");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.order_of("Logoff"), ["relay", "people", "store"]);
}

/// PLOG-5: a provider cannot veto: an error of its logoff changes nothing.
#[test]
fn a_provider_cannot_veto() {
    let mut world = World::new();
    world.script("relay.Logoff", &[Step::Refuses]);
    world.script("people.Logoff", &[Step::Refuses]);
    world.store("default").failures.insert("Logoff", [Code::E_DISK_ERROR; 2].into());
    let member = world.member(1);
    world.logoff(member);
    assert_eq!(world.order_of("Logoff"), ["relay", "people", "store"]);
    world.advance(secs(20));
    world.assert_empty();
}

/// PLOG-5, design §10.8: a provider that hangs is left behind at the deadline; the later kinds log off all the same.
#[test]
fn a_hung_provider_is_left_behind() {
    for (hung, logged_off) in [("relay", 3), ("people", 3), ("store", 3)] {
        let mut world = World::new();
        let member = world.member(1);
        world.hold(hung, "Logoff");
        world.logoff(member);
        world.advance(secs(9));
        assert!(world.broker.sessions.all.len() == 1, "it waits for {hung}");
        world.advance(secs(2));
        assert_eq!(world.order_of("Logoff").len(), logged_off);
        assert!(world.broker.sessions.all.is_empty());
        world.let_go(hung);
        world.member(2);
    }
}

/// design §10.8: a request to a provider that is left behind is answered.
#[test]
fn who_waits_for_a_provider_left_behind_is_answered() {
    let mut world = World::new();
    let member = world.member(1);
    let book = world.open(member, Opening::AddressBook);
    world.hold("people", "*");
    let list = Request::List { member: member.id, object: book, after: 0, limit: 9 };
    let id = world.ask(member.at, list);
    world.logoff(member);
    world.advance(secs(9));
    assert_eq!(world.answer(member.at, id), None);
    world.advance(secs(30));
    let fault = world.answer(member.at, id).expect("answered").expect_err("it never came");
    assert_eq!(fault.code, Code::E_TIMEOUT);
    assert_eq!(world.order_of("Logoff"), ["relay", "store"]);
    world.assert_empty();
}

/// design §10.7, §10.8: a transport that hangs in a message is left behind with it; another session asks what became of it.
#[test]
fn a_message_of_a_hung_transport_is_recovered() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.logoff_shared(member);
    world.advance(secs(9));
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.advance(secs(2));
    assert!(world.calls_of("relay").contains(&"Recover"));
    world.let_go("relay");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    world.advance(secs(60));
    world.assert_empty();
}

/// SHARE-5: a private session ends with its member.
#[test]
fn a_private_session_ends_with_its_member() {
    let mut world = World::new();
    let at = world.connect(1);
    let member = world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    world.logoff(member);
    world.advance(secs(20));
    world.assert_empty();
}

/// design §2: a store that several sessions use is one engine, logged off by each of them.
#[test]
fn a_store_is_shared_by_sessions() {
    let mut world = World::new();
    let at = world.connect(1);
    let shared = world.logon(at);
    let private = world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    assert_eq!(world.store("default").logons, 3, "two sessions and the engine itself");
    world.logoff(private);
    assert_eq!(world.store("default").logons, 2);
    world.submit(shared, "b@x");
    world.logoff(shared);
    assert_eq!(world.store("default").logons, 1);
    world.advance(secs(11));
    assert_eq!(world.store("default").logons, 0);
    world.assert_empty();
}
