//! Profiles that change while sessions use them.

use sundown_protocol::reply::{ProviderHealth, Reload, Reply, SessionHealth, SubmissionState};
use sundown_protocol::request::{
    AddressAction, Folder, Logoff, LogoffFlags, LogonFlags, Opening, QueueAction, QueueChange,
    Request,
};
use sundown_protocol::{Code, Fault, SessionId};

use super::fakes::{Interface, Step};
use super::world::{Member, OWNER, World, millis, profile, secs, store, transport};
use crate::ground::event::ConnectionId;
use crate::provider::{Outcome, ProviderSpec, TransportFacts};
use crate::settings::{Right, TransportSpec};
use crate::{Event, Stop};

/// A transport whose settings differ from those of another version by these words.
fn configured(name: &str, words: &str) -> TransportSpec {
    let transport = transport(name, &["*"]);
    let options = vec![("host".to_owned(), words.to_owned())];
    TransportSpec { provider: ProviderSpec { options, ..transport.provider }, ..transport }
}

/// The profile's file names another server.
fn move_server(world: &mut World, words: &str) {
    world.profile("default").transports = vec![configured("relay", words)];
}

fn calls(world: &World, provider: &str, call: &str) -> usize {
    world.calls_of(provider).into_iter().filter(|made| *made == call).count()
}

fn try_reload(world: &mut World, at: ConnectionId) -> Result<(u32, Reload), Fault> {
    match world.call(at, Request::Reload { profile: "default".into() })? {
        Reply::Reloaded(reloaded) => Ok((reloaded.sessions, reloaded.result)),
        other => panic!("{other:?}"),
    }
}

fn reload(world: &mut World, member: Member) -> (u32, Reload) {
    try_reload(world, member.at).expect("it may")
}

fn health(world: &mut World, at: ConnectionId) -> Vec<SessionHealth> {
    let (mut after, mut all) = (SessionId(0), Vec::new());
    loop {
        let Ok(Reply::Health { sessions, next, requests: _ }) =
            world.call(at, Request::Health { after })
        else {
            panic!("a health")
        };
        all.extend(sessions);
        match next {
            Some(next) => after = next,
            None => return all,
        }
    }
}

fn relay(world: &mut World, at: ConnectionId) -> ProviderHealth {
    let sessions = health(world, at);
    let providers = &sessions.first().expect("there is one").providers;
    providers.iter().find(|p| p.name == "relay").expect("it is there").clone()
}

fn statuses(world: &mut World) -> Vec<String> {
    let providers = world.status().sessions[0].providers.clone();
    providers.into_iter().map(|p| format!("{} {}", p.name, p.status)).collect()
}

fn change(world: &mut World, member: Member, action: QueueAction) {
    world
        .call(member.at, Request::Queue { profile: Some("default".into()), action })
        .expect("changed");
}

/// The file is looked at before each attempt: nobody has to say that it was changed.
#[test]
fn the_next_attempt_uses_the_changed_file() {
    let mut world = World::new();
    let member = world.member(1);
    world.submit(member, "a@x");
    assert_eq!(calls(&world, "relay", "Logon"), 1);
    world.profile("default").transports = vec![transport("other", &["*"])];
    world.pass(millis(20));
    world.submit(member, "b@x");
    let by: Vec<_> = world.wire.delivered.iter().map(|(by, ..)| by.as_str()).collect();
    assert_eq!(by, ["relay", "other"]);
    assert_eq!(calls(&world, "relay", "Logoff"), 1, "nothing needs it any more");
    world.everybody_leaves();
}

/// So is it for a message that is tried again, and for all the ways in which somebody says that now is the time.
#[test]
fn what_is_deferred_goes_out_by_the_new_transport() {
    type Way = fn(&mut World, Member);
    let ways: [(&str, Way); 5] = [
        ("its next try", |world, _| world.advance(secs(60))),
        ("a reload", |world, member| assert_eq!(reload(world, member), (1, Reload::Changed))),
        ("SIGHUP", |world, _| {
            world.apply(Event::Reload(Box::new(world.broker.settings.clone())));
            world.settle();
        }),
        ("a flush", |world, member| {
            world.pass(millis(20));
            change(world, member, QueueAction::Flush);
        }),
        ("another logon", |world, _| {
            world.pass(millis(20));
            world.member(2);
        }),
    ];
    for (said, way) in ways {
        let mut world = World::new();
        let member = world.member(1);
        world.script("b@x", &[Step::Says(Outcome::Later)]);
        let entry = world.submit(member, "b@x");
        assert_eq!(world.state(entry), SubmissionState::Deferred, "{said}");
        move_server(&mut world, "elsewhere");
        way(&mut world, member);
        assert_eq!(world.state(entry), SubmissionState::Sent, "{said}");
        assert_eq!(calls(&world, "relay", "Logon"), 2, "{said}: a new object");
        world.assert_counts();
        world.everybody_leaves();
    }
}

/// Who has the profile read again wants its mail to go, also where the file is what it was: a password that it refers to may be another
/// one. SIGHUP, which is about everything, lets each message wait for its time.
#[test]
fn a_reload_tries_what_is_deferred() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    world.apply(Event::Reload(Box::new(world.broker.settings.clone())));
    world.settle();
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    assert_eq!(reload(&mut world, member), (1, Reload::Unchanged));
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// Messages that wait for a transport that cannot be reached do not wait for it any more, however many there are.
#[test]
fn nothing_waits_for_what_the_profile_does_not_have() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entries: Vec<_> = (0..20).map(|_| world.submit(member, "b@x")).collect();
    world.profile("default").transports = vec![transport("other", &["*"])];
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    assert!(entries.iter().all(|entry| world.state(*entry) == SubmissionState::Sent));
    world.everybody_leaves();
}

/// Nor do messages that wait until a transport has room.
#[test]
fn nothing_waits_for_room_at_what_the_profile_does_not_have() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { window: 1, ..TransportFacts::default() };
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entries: Vec<_> = (0..5).map(|_| world.submit(member, "b@x")).collect();
    world.profile("default").transports = vec![transport("other", &["*"])];
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    let sent = entries.iter().filter(|entry| world.state(**entry) == SubmissionState::Sent);
    assert_eq!(sent.count(), 4, "all but the one that the old transport has");
    world.let_go("relay");
    assert!(entries.iter().all(|entry| world.state(*entry) == SubmissionState::Sent));
    assert_eq!(world.wire.delivered.len(), 5);
    world.everybody_leaves();
}

/// A transport that is disabled, as after a wrong password, is replaced by the corrected one at once.
#[test]
fn a_corrected_password_is_used() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    let entry = world.submit(member, "b@x");
    world.advance(secs(60));
    assert!(statuses(&mut world)[2].starts_with("relay failed: "), "{:?}", statuses(&mut world));
    world.wire.broken.clear();
    move_server(&mut world, "elsewhere");
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.everybody_leaves();
}

/// What the old transport has it finishes, and nobody else gets that; the new one takes what comes after. Then the old one logs off.
#[test]
fn the_old_transport_finishes_what_it_has() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let first = world.submit(member, "a@x");
    move_server(&mut world, "elsewhere");
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    let shown = statuses(&mut world);
    assert_eq!(shown[2], "relay available", "{shown:?}");
    let leaving = "relay leaving: the profile has changed; it finishes messages: 1";
    assert_eq!(shown[3], leaving, "{shown:?}");
    assert_eq!(calls(&world, "relay", "Logoff"), 0, "it has a message");
    world.clear_holds();
    let second = world.submit(member, "b@x");
    assert_eq!(world.state(first), SubmissionState::Sent);
    assert_eq!(world.state(second), SubmissionState::Sent);
    assert_eq!(world.wire.delivered.len(), 2);
    assert_eq!(calls(&world, "relay", "Logoff"), 1, "the old one alone");
    assert_eq!(statuses(&mut world).len(), 3, "{:?}", statuses(&mut world));
    world.everybody_leaves();
}

/// What the old transport has not prepared is taken from it: a server that never greets, as on a wrong port, keeps no mail.
#[test]
fn what_is_not_prepared_goes_by_the_new_transport() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entries: Vec<_> = (0..5).map(|_| world.submit(member, "a@x")).collect();
    world.stick("relay");
    world.clear_holds();
    move_server(&mut world, "elsewhere");
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    assert!(entries.iter().all(|entry| world.state(*entry) == SubmissionState::Sent));
    assert_eq!(world.wire.delivered.len(), 5);
    // The old one is left behind when it has had its time.
    assert_eq!(statuses(&mut world).len(), 4);
    world.advance(secs(7_400));
    assert_eq!(statuses(&mut world).len(), 3);
    assert_eq!(world.wire.delivered.len(), 5);
}

/// What it gives back goes by the new transport at once, and counts as no try.
#[test]
fn what_the_old_transport_gives_back_goes_at_once() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    world.script("a@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "a@x");
    world.profile("default").transports = vec![transport("other", &["*"])];
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.let_go("relay");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered.len(), 1);
    world.everybody_leaves();
}

/// However often a profile changes while its server hangs: only so many old providers are there at once.
#[test]
fn old_transports_are_bounded() {
    let mut world = World::new();
    let member = world.member(1);
    for day in 0..50 {
        move_server(&mut world, &day.to_string());
        world.pass(millis(20));
        world.submit(member, "b@x");
        world.stick("relay");
    }
    let (count, result) = reload(&mut world, member);
    assert!(count == 1 && matches!(result, Reload::Refused(_)), "{result:?}");
    let relays = world.open_lanes().filter(|(.., name)| *name == "relay").count();
    assert!(relays <= 17, "{relays}");
}

/// A profile that is written anew before its sessions have ended is not deleted.
#[test]
fn a_profile_that_is_written_anew_stays() {
    let mut world = World::new();
    let member = world.member(1);
    world.call(member.at, Request::DeleteProfile { name: "default".into() }).expect("later");
    move_server(&mut world, "elsewhere");
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    world.logoff(member);
    assert_eq!(world.deleted, Vec::<String>::new());
    world.member(2);
}

/// A request that waits for the look is carried out behind those before it, and is paid for until then. Its process may have gone.
#[test]
fn requests_wait_for_the_look() {
    let mut world = World::new();
    world.profile("default").access = vec![(7, Right::Session)];
    let at = world.connect_as(2, 7);
    let guest = world.logon(at);
    for goes in [false, true] {
        world.pass(millis(20));
        world.hold_looks = true;
        let open = Opening::Folder(0, Folder::INBOX);
        let asked =
            [0, 1].map(|_| world.ask(at, Request::Open { member: guest.id, what: open.clone() }));
        world.settle();
        assert!(asked.iter().all(|id| world.answer(at, *id).is_none()));
        if goes {
            world.disconnect(at);
            world.end_process(2);
        }
        world.hold_looks = false;
        world.settle();
        if !goes {
            assert!(asked.iter().all(|id| matches!(world.answer(at, *id), Some(Ok(_)))));
        }
    }
    world.everybody_leaves();
}

/// Who may not do everything has the file looked at with each request; a logon that reads a new file has all sessions of the profile use
/// it.
#[test]
fn rights_are_looked_at() {
    let mut world = World::new();
    world.profile("default").access = vec![(7, Right::Session)];
    let at = world.connect_as(2, 7);
    let guest = world.logon(at);
    world.profile("default").access = Vec::new();
    world.pass(millis(20));
    let open = |world: &mut World| {
        let opened = world.try_open(guest, Opening::Folder(0, Folder::INBOX));
        opened.map(drop).map_err(|f| f.code)
    };
    assert_eq!(open(&mut world), Err(Code::E_NO_ACCESS));
    world.profile("default").access = vec![(7, Right::Session)];
    world.pass(millis(20));
    // Of another user, whose session is another one.
    world.member(1);
    assert_eq!(open(&mut world), Ok(()));
}

/// A refusal that is about every message, such as one of the sender, is no sign that a transport works.
#[test]
fn a_server_that_refuses_the_sender_does_not_work() {
    for (reply, works) in [("550 5.1.1 no such user", true), ("550 5.7.1 not your address", false)]
    {
        let mut world = World::new();
        let member = world.member(1);
        world.script("b@x", &[Step::Refuses]);
        world.wire.refusal = Some(reply.to_owned());
        world.submit(member, "b@x");
        let last = relay(&mut world, member.at).last.expect("it was used");
        assert_eq!((last.worked, last.text.as_str()), (works, reply));
    }
}

/// What waits in the store of a profile that no session uses goes out when it is reloaded: its file may have been wrong until then.
#[test]
fn a_reload_without_a_session_begins_one() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    world.crash_and_read();
    let wrong = Fault::new(Code::E_UNCONFIGURED, "a mistake");
    world.wrong_profiles.insert("default".into(), wrong);
    world.apply(Event::Adopt { profile: "default".into() });
    world.settle();
    world.wrong_profiles.clear();
    let at = world.connect(9);
    assert_eq!(try_reload(&mut world, at), Ok((0, Reload::Unchanged)));
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// An old transport that hangs is left behind, like any other. The new one finds out what became of its message.
#[test]
fn an_old_transport_that_hangs_is_left_behind() {
    for held in ["SubmitMessage", "EndMessage", "Logoff"] {
        let mut world = World::new();
        world.profile("default").queue.max_age = secs(1_000_000);
        world.wire.recover = Some(Outcome::NotSent);
        let member = world.member(1);
        world.hold("relay", held);
        let entry = world.submit(member, "a@x");
        world.stick("relay");
        world.clear_holds();
        world.profile("default").transports = vec![configured("relay", "elsewhere")];
        assert_eq!(reload(&mut world, member), (1, Reload::Changed));
        world.advance(secs(7_400));
        assert_eq!(world.state(entry), SubmissionState::Sent, "{held}");
        assert_eq!(world.wire.delivered_to("a@x"), 1, "{held}");
        assert_eq!(statuses(&mut world).len(), 3, "{held}: {:?}", statuses(&mut world));
    }
}

/// SEED-17: the new object has a verdict of its own. SEED-12: the process's answer stays what it was.
#[test]
fn a_new_transport_is_asked_itself() {
    for interface in [Interface::Supports, Interface::Refuses(Code::E_NO_SUPPORT)] {
        let mut world = World::new();
        let member = world.member(1);
        world.query(member.at).expect("it may");
        move_server(&mut world, "elsewhere");
        assert_eq!(reload(&mut world, member), (1, Reload::Changed));
        world.interfaces.insert("relay".into(), interface);
        world.calls.clear();
        world.leave_fast(member.at);
        let calls = world.calls_of("relay");
        let asked = calls.iter().filter(|call| **call == "QueryFastShutdown").count();
        assert_eq!(asked, 1, "{calls:?}");
        let told = calls.contains(&"DoFastShutdown");
        assert_eq!(told, interface == Interface::Supports, "{calls:?}");
    }
}

/// A file with a mistake, or one that is gone, changes nothing. The session says why it does not use it.
#[test]
fn a_mistake_keeps_what_there_is() {
    let mut world = World::new();
    let member = world.member(1);
    for code in [Code::E_UNCONFIGURED, Code::E_NOT_FOUND] {
        let fault = Fault::new(code, "default.toml, line 3: no such key");
        world.wrong_profiles.insert("default".into(), fault);
        let refused = Reload::Refused("default.toml, line 3: no such key".into());
        assert_eq!(reload(&mut world, member), (1, refused));
        let note = health(&mut world, member.at)[0].profile.note.clone().expect("it says why");
        assert!(note.contains("line 3") && note.contains("keeps what it has"), "{note}");
        let entry = world.submit(member, "b@x");
        assert_eq!(world.state(entry), SubmissionState::Sent);
    }
    world.wrong_profiles.clear();
    assert_eq!(reload(&mut world, member), (1, Reload::Unchanged));
    assert_eq!(health(&mut world, member.at)[0].profile.note, None);
    assert_eq!(calls(&world, "relay", "Logon"), 1);
    world.everybody_leaves();
}

/// Stores change with the next session, and this one says so: also one that stays for its mail alone, whose mail is in the old store.
#[test]
fn other_stores_are_those_of_the_next_session() {
    for memberless in [false, true] {
        let mut world = World::new();
        let member = world.member(1);
        world.script("b@x", &[Step::Says(Outcome::Later); 3]);
        let entry = world.submit(member, "b@x");
        let mut changed = profile("default");
        changed.stores = vec![store("archive", "/archive")];
        if memberless {
            world.logoff(member);
        }
        world.add_profile(changed);
        let at = world.connect(9);
        assert_eq!(try_reload(&mut world, at), Ok((1, Reload::Changed)));
        assert_eq!(calls(&world, "archive", "Logon"), 0);
        let note = health(&mut world, at)[0].profile.note.clone();
        assert!(note.is_some_and(|note| note.contains("next session")));
        world.advance(secs(3_600));
        if memberless {
            assert_eq!(world.sessions(), Vec::<String>::new(), "its mail is gone");
        } else {
            assert_eq!(world.state(entry), SubmissionState::Sent);
        }
        world.logon_with(at, "default", LogonFlags::NEW_SESSION);
        assert!(calls(&world, "archive", "Logon") > 0);
    }
}

/// `[access]` holds from the next request on, also for those who are in the session.
#[test]
fn rights_change_with_the_file() {
    let mut world = World::new();
    world.profile("default").access = vec![(7, Right::Session)];
    let owner = world.member(1);
    let at = world.connect_as(2, 7);
    let guest = world.logon(at);
    world.try_submit(guest, &["b@x"]).expect("it may");
    for (access, submits, drafts) in [
        (vec![(7, Right::Submit)], Ok(()), Err(Code::E_NO_ACCESS)),
        (Vec::new(), Err(Code::E_NO_ACCESS), Err(Code::E_NO_ACCESS)),
        (vec![(7, Right::Admin)], Ok(()), Ok(())),
    ] {
        world.profile("default").access = access;
        // Each user has a session of their own.
        assert_eq!(reload(&mut world, owner), (2, Reload::Changed));
        let submitted = world.try_submit(guest, &["b@x"]).map(drop).map_err(|f| f.code);
        assert_eq!(submitted, submits);
        let opened = world.try_open(guest, Opening::Folder(0, Folder::INBOX));
        assert_eq!(opened.map(drop).map_err(|f| f.code), drafts);
    }
    // Who has lost every right can still leave.
    world.profile("default").access = Vec::new();
    reload(&mut world, owner);
    world.logoff(guest);
    assert_eq!(try_reload(&mut world, at).map_err(|f| f.code), Err(Code::E_NO_ACCESS));
}

/// A changed address book is a new object, too, and they are asked in the order of the file.
#[test]
fn address_books_are_in_the_order_of_the_file() {
    let book = |name: &str| ProviderSpec { name: name.into(), ..ProviderSpec::new("fake") };
    let mut world = World::new();
    let member = world.member(1);
    world.profile("default").address_books = vec![book("company"), book("people")];
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    let object = world.open(member, Opening::AddressBook);
    let action = AddressAction::Resolve { name: "anna".into() };
    world.refused(member.at, Request::AddressBook { member: member.id, object, action });
    assert_eq!(world.order_of("ResolveName"), ["company", "people"]);
    assert_eq!(calls(&world, "people", "Logon"), 1, "it is what it was");
    world.everybody_leaves();
}

/// A message that somebody holds is routed anew when it is released; one whose outcome is not known is not sent by anybody.
#[test]
fn held_mail_is_routed_anew_and_unknown_mail_is_not() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("h@x", &[Step::Says(Outcome::Later)]);
    world.script("u@x", &[Step::Says(Outcome::Unknown)]);
    let (held, unknown) = (world.submit(member, "h@x"), world.submit(member, "u@x"));
    change(&mut world, member, QueueAction::Change(held, QueueChange::Hold));
    world.profile("default").transports = vec![transport("other", &["*"])];
    assert_eq!(reload(&mut world, member), (1, Reload::Changed));
    world.advance(secs(3_600));
    assert_eq!(world.state(held), SubmissionState::Held);
    change(&mut world, member, QueueAction::Change(held, QueueChange::Release));
    assert_eq!(world.state(held), SubmissionState::Sent);
    assert_eq!(world.state(unknown), SubmissionState::Unknown);
    assert_eq!(world.wire.delivered.iter().filter(|(by, ..)| by == "other").count(), 1);
}

/// A profile that changes every day for years leaves nothing in its session.
#[test]
fn what_was_replaced_is_forgotten() {
    let mut world = World::new();
    let member = world.member(1);
    for day in 0..50 {
        move_server(&mut world, &day.to_string());
        assert_eq!(reload(&mut world, member), (1, Reload::Changed));
        world.submit(member, "b@x");
    }
    let providers = world.broker.sessions.all[&member.session].providers.len();
    assert!(providers <= 5, "{providers} places");
    assert_eq!(world.open_lanes().filter(|(.., name)| *name == "relay").count(), 1);
    assert_eq!(world.wire.delivered.len(), 50);
    world.everybody_leaves();
}

/// While a file is looked at, no message departs; then all do.
#[test]
fn a_message_waits_for_the_look() {
    let mut world = World::new();
    let member = world.member(1);
    world.pass(millis(20));
    world.hold_looks = true;
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Queued);
    world.hold_looks = false;
    world.settle();
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// Who is refused because the profile lacks a transport is not refused again once the file has one.
#[test]
fn a_refused_submission_has_the_file_looked_at() {
    let mut world = World::new();
    world.profile("default").transports = vec![transport("relay", &["*@x"])];
    let member = world.member(1);
    world.pass(millis(20));
    world.profile("default").transports = vec![transport("relay", &["*"])];
    let first = world.try_submit(member, &["b@y"]).map_err(|f| f.code);
    assert_eq!(first, Err(Code::E_INVALID_PARAMETER).or(first), "it may be refused once");
    let entry = world.try_submit(member, &["b@y"]).expect("the file has it now");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(calls(&world, "relay", "Logon"), 1, "the object is the same");
}

/// A session that ends for all sends what it has by the changed profile; one that closes does not change.
#[test]
fn an_ending_session_changes_and_a_closing_one_does_not() {
    let mut world = World::new();
    let member = world.member(1);
    let other = world.member(2);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    let flags = LogoffFlags::SHARED;
    world.ask(member.at, Request::Logoff(Logoff { member: member.id, flags, drain: None }));
    world.settle();
    move_server(&mut world, "elsewhere");
    assert_eq!(reload(&mut world, other), (1, Reload::Changed));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.everybody_leaves();
    world.stop(Stop::Now);
}

/// What came of a transport's last use is known, and when it worked.
#[test]
fn health_says_what_came_of_the_last_use() {
    let mut world = World::new();
    let member = world.member(1);
    let fresh = relay(&mut world, member.at);
    assert_eq!((fresh.last, fresh.worked), (None, None));
    world.submit(member, "b@x");
    let good = relay(&mut world, member.at);
    let last = good.last.expect("it was used");
    assert!(last.worked && good.worked == Some(last.at), "{last:?}");
    for (code, state) in [(Code::E_LOGON_FAILED, "failing"), (Code::E_NETWORK_ERROR, "unreachable")]
    {
        world.wire.broken.insert("relay".into(), code);
        world.submit(member, "c@x");
        let bad = relay(&mut world, member.at);
        let last = bad.last.clone().expect("it was used");
        assert!(!last.worked && !last.text.is_empty() && bad.worked == good.worked, "{last:?}");
        let status = &statuses(&mut world)[2];
        assert!(status.starts_with(&format!("relay {state}")), "{status}");
        assert_eq!(bad.next_try.is_some(), code == Code::E_NETWORK_ERROR, "{bad:?}");
    }
    world.wire.broken.clear();
    world.advance(secs(300));
    assert_eq!(statuses(&mut world)[2], "relay available");
}

/// What a server said before, and was not asked again, is no use of it: the time stays that of when it said so.
#[test]
fn what_is_only_remembered_is_no_use() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    world.submit(member, "b@x");
    let first = relay(&mut world, member.at).last.expect("it was used");
    for remembers in [true, false] {
        world.wire.remembers = remembers;
        world.advance(secs(600));
        let last = relay(&mut world, member.at).last.expect("it was used");
        assert_eq!(last.at == first.at, remembers, "{last:?}");
    }
}

/// A user sees the sessions of their own and those that they administer.
#[test]
fn health_is_for_those_who_may_see_it() {
    let mut world = World::new();
    world.profile("default").access = vec![(7, Right::Session), (8, Right::Admin)];
    world.member(1);
    for (uid, seen) in [(OWNER, 1), (7, 0), (8, 1), (9, 0), (0, 1)] {
        let at = world.connect_as(100 + uid, uid);
        assert_eq!(health(&mut world, at).len(), seen, "user {uid}");
    }
}

/// An account that was refused once is asked about before a message is handed to its transport: the password may be another one by now.
#[test]
fn who_wants_mail_to_go_has_a_refused_account_tried() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    let entry = world.submit(member, "b@x");
    world.wire.broken.clear();
    assert_eq!(calls(&world, "relay", "ValidateState"), 0);
    reload(&mut world, member);
    assert_eq!(calls(&world, "relay", "ValidateState"), 1);
    assert_eq!(world.state(entry), SubmissionState::Sent);
}
