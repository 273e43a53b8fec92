//! The outgoing queue as people change it: every state has a way out, also over a restart.

use sundown_protocol::reply::Resource;
use sundown_protocol::reply::SubmissionState::{
    self, Aborted, Bounced, Deferred, Held, Queued, Sent, Transmitting, Unknown,
};
use sundown_protocol::request::{LogoffFlags, LogonFlags, QueueAction, QueueChange, Request};
use sundown_protocol::{Code, EntryId, Fault, Reply, RequestId};

use super::fakes::Step;
use super::world::{Member, OWNER, World, logon_request, secs, transport};
use crate::ground::event::ConnectionId;
use crate::provider::Outcome;
use crate::provider::TransportFacts;
use crate::settings::Right;

fn change(
    world: &mut World,
    at: ConnectionId,
    entry: EntryId,
    change: QueueChange,
) -> Result<SubmissionState, Fault> {
    let action = QueueAction::Change(entry, change);
    match world.call(at, Request::Queue { profile: Some("default".into()), action })? {
        Reply::Queue { rows, .. } => Ok(rows[0].state),
        other => panic!("{other:?} to a change"),
    }
}

fn code(result: Result<SubmissionState, Fault>) -> Code {
    result.expect_err("it is refused").code
}

fn flush(world: &mut World, at: ConnectionId) -> u64 {
    let flush = Request::Queue { profile: Some("default".into()), action: QueueAction::Flush };
    match world.call(at, flush) {
        Ok(Reply::Flushed(found)) => found,
        other => panic!("{other:?} to a flush"),
    }
}

/// A world with a message in this state.
fn with_message_in(state: SubmissionState) -> (World, Member, EntryId) {
    let mut world = World::new();
    let member = world.member(1);
    match state {
        Queued => world.hold("relay", "SubmitMessage"),
        Transmitting => world.hold("relay", "EndMessage"),
        Deferred | Held => world.script("b@x", &[Step::Says(Outcome::Later)]),
        Unknown => world.script("b@x", &[Step::Says(Outcome::Unknown)]),
        Bounced => world.script("b@x", &[Step::Says(Outcome::Failed)]),
        Sent | Aborted | SubmissionState::Accepted => {}
    }
    let entry = world.submit(member, "b@x");
    if state == Held {
        assert_eq!(change(&mut world, member.at, entry, QueueChange::Hold), Ok(Held));
    }
    assert_eq!(world.state(entry), state);
    (world, member, entry)
}

/// QUEUE-9 and design §2: what each change does in each state.
#[test]
fn each_change_in_each_state() {
    use QueueChange::{Abort, Hold, Release, Retry};
    let refused = |code| Err(code);
    let senseless = refused(Code::E_INVALID_PARAMETER);
    let gone = refused(Code::E_NOT_IN_QUEUE);
    let table = [
        // A message that is being prepared is with its transport already.
        (Queued, Retry, refused(Code::E_BUSY)),
        (Queued, Abort, refused(Code::E_UNABLE_TO_ABORT)),
        (Transmitting, Retry, refused(Code::E_BUSY)),
        (Transmitting, Hold, refused(Code::E_BUSY)),
        (Transmitting, Release, refused(Code::E_BUSY)),
        (Transmitting, Abort, refused(Code::E_UNABLE_TO_ABORT)),
        (Deferred, Retry, Ok(Sent)),
        (Deferred, Hold, Ok(Held)),
        (Deferred, Release, senseless),
        (Deferred, Abort, Ok(Aborted)),
        (Held, Retry, Ok(Sent)),
        (Held, Hold, Ok(Held)),
        (Held, Release, Ok(Sent)),
        (Held, Abort, Ok(Aborted)),
        (Unknown, Retry, Ok(Sent)),
        (Unknown, Hold, senseless),
        (Unknown, Release, senseless),
        (Unknown, Abort, Ok(Aborted)),
        (Sent, Retry, gone),
        (Bounced, Retry, gone),
        (Bounced, Abort, gone),
        (Sent, Hold, gone),
        (Sent, Release, gone),
        (Sent, Abort, gone),
    ];
    for (state, wish, outcome) in table {
        let (mut world, member, entry) = with_message_in(state);
        let answer = change(&mut world, member.at, entry, wish);
        match outcome {
            Ok(after) => {
                assert!(answer.is_ok(), "{wish:?} of {state:?}: {answer:?}");
                assert_eq!(world.state(entry), after, "{wish:?} of {state:?}");
            }
            Err(wanted) => {
                assert_eq!(answer.map_err(|f| f.code), Err(wanted), "{wish:?} of {state:?}");
                assert_eq!(world.state(entry), state, "{wish:?} of {state:?}");
            }
        }
    }
}

/// design §10 (8): every state has a way out, also over a restart.
#[test]
fn every_state_has_a_way_out_over_a_restart() {
    for state in [Queued, Transmitting, Deferred, Held, Unknown] {
        let (mut world, _, entry) = with_message_in(state);
        world.crash();
        world.clear_holds();
        world.apply(crate::Event::Adopt { profile: "default".into() });
        world.settle();
        let at = world.connect(2);
        match state {
            Held => {
                assert_eq!(world.state(entry), Held);
                assert_eq!(change(&mut world, at, entry, QueueChange::Release), Ok(Queued));
            }
            Unknown => {
                assert_eq!(world.state(entry), Unknown);
                assert_eq!(change(&mut world, at, entry, QueueChange::Retry), Ok(Queued));
            }
            _ => {}
        }
        world.advance(secs(60));
        assert_eq!(world.state(entry), Sent, "after {state:?}");
    }
}

/// design §3.17: at the age limit what is unknown is given up, and the sender is told, also after a restart.
#[test]
fn what_is_unknown_is_given_up_in_the_end() {
    for restart in ["no", "yes"] {
        let (mut world, member, entry) = with_message_in(Unknown);
        let age = world.profile("default").queue.max_age;
        let hour = secs(3_600);
        world.advance(age.saturating_sub(hour));
        assert_eq!(world.state(entry), Unknown);
        assert_eq!(world.store("default").notices.len(), 0);
        if restart == "yes" {
            world.crash();
            world.member(2);
        }
        world.advance(hour + secs(120));
        assert_eq!(world.state(entry), Bounced, "restart: {restart}");
        assert_eq!(world.store("default").notices.len(), 1);
        assert_eq!(world.wire.delivered_to("b@x"), 0, "it is not sent again");
        if restart == "no" {
            world.logoff(member);
        }
    }
}

/// QUEUE-6: what is held does not go, whatever else happens, and a drain does not wait for it.
#[test]
fn what_is_held_stays() {
    let (mut world, member, entry) = with_message_in(Held);
    world.advance(secs(7 * 24 * 3_600));
    assert_eq!(flush(&mut world, member.at), 0);
    world.advance(secs(60));
    assert_eq!(world.state(entry), Held);
    let logoff = super::world::logoff_request(member.id, LogoffFlags::default(), Some(secs(60)));
    let left = super::world::logged_off(world.call(member.at, logoff).expect("at once"));
    assert_eq!(left.queued, 1);
    world.advance(secs(60));
    world.assert_empty();
}

/// FLUSH-1, FLUSH-4: a flush tries everything that waits for its time, at once.
#[test]
fn a_flush_tries_what_is_deferred() {
    let mut world = World::new();
    let member = world.member(1);
    let mut entries = Vec::new();
    for address in ["a@x", "b@x", "c@x"] {
        world.script(address, &[Step::Says(Outcome::Later); 5]);
        entries.push(world.submit(member, address));
    }
    world.advance(secs(300));
    let tries = world.submission(entries[0]).attempts;
    assert_eq!(flush(&mut world, member.at), 3);
    world.settle();
    for entry in &entries {
        assert_eq!(world.submission(*entry).attempts, tries + 1);
    }
    world.wire.steps.clear();
    assert_eq!(flush(&mut world, member.at), 3);
    for entry in entries {
        assert_eq!(world.state(entry), Sent);
    }
    assert_eq!(flush(&mut world, member.at), 0);
}

/// design §2 (rights): strangers see and change nothing; who may submit changes its own; an admin changes everything.
#[test]
fn changes_take_a_right() {
    let mut world = World::new();
    world.profile("default").access = vec![(7, Right::Submit), (8, Right::Admin)];
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    for (pid, uid, wanted) in
        [(20, 9, Err(Code::E_NO_ACCESS)), (21, 7, Err(Code::E_NO_ACCESS)), (22, OWNER, Ok(Held))]
    {
        let at = world.connect_as(pid, uid);
        let answer = change(&mut world, at, entry, QueueChange::Hold);
        assert_eq!(answer.map_err(|f| f.code), wanted, "user {uid}");
    }
}

/// LOGON-11: an account that is refused twice puts its transport out for the session; what waits is kept, and a flush tries
/// it again.
#[test]
fn an_account_that_is_refused_twice_is_not_tried_again() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    let entry = world.submit(member, "b@x");
    let status = |world: &mut World| {
        let providers = world.status().sessions[0].providers.clone();
        providers.into_iter().find(|p| p.name == "relay").expect("it is there").status
    };
    assert!(status(&mut world).starts_with("failing: "), "{}", status(&mut world));
    world.advance(secs(30));
    assert!(status(&mut world).starts_with("failed: "), "{}", status(&mut world));
    assert_eq!(world.submission(entry).attempts, 0, "it is not the message's fault");
    let tries =
        |world: &World| world.calls_of("relay").iter().filter(|c| **c == "SubmitMessage").count();
    assert_eq!(tries(&world), 2);
    world.advance(secs(24 * 3_600));
    assert_eq!(tries(&world), 2, "its account would be locked");
    assert_eq!(world.state(entry), Deferred);
    // The password is right now. Whoever wants the mail to go says so.
    world.wire.broken.clear();
    assert_eq!(flush(&mut world, member.at), 1);
    world.settle();
    assert_eq!(world.state(entry), Sent);
    assert_eq!(status(&mut world), "available");
}

/// One more refusal puts a revived transport out again, at once.
#[test]
fn a_revived_transport_has_one_try() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    world.submit(member, "b@x");
    world.advance(secs(30));
    let tries = |world: &World| {
        let tries = ["SubmitMessage", "ValidateState"];
        world.calls_of("relay").iter().filter(|c| tries.contains(c)).count()
    };
    let before = tries(&world);
    flush(&mut world, member.at);
    world.advance(secs(3_600));
    assert_eq!(tries(&world), before + 1);
}

/// design §10 (8): nobody is logged on who could flush, so the broker tries a transport that is out by itself, at the pace of
/// its messages.
#[test]
fn a_memberless_session_tries_its_transports_again() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    let entry = world.submit(member, "b@x");
    world.logoff(member);
    world.advance(secs(24 * 3_600));
    let tries = world.calls_of("relay").iter().filter(|c| **c == "SubmitMessage").count();
    assert!((10..60).contains(&tries), "{tries} in a day");
    world.wire.broken.clear();
    world.advance(secs(2 * 3_600));
    assert_eq!(world.state(entry), Sent);
    world.advance(secs(60));
    world.assert_empty();
}

/// `IMAPIStatus::ValidateState`: a transport tries, and what was out works again when it succeeds.
#[test]
fn a_provider_can_be_asked_whether_it_works() {
    let mut world = World::new();
    let member = world.member(1);
    let ask = |world: &mut World, name: &str| {
        let kind = match name {
            "store" => Resource::StoreProvider,
            _ => Resource::TransportProvider,
        };
        let request = Request::ValidateState { member: member.id, kind, provider: name.into() };
        world.call(member.at, request).map_err(|f| f.code)
    };
    assert_eq!(ask(&mut world, "relay"), Ok(Reply::Done));
    assert_eq!(ask(&mut world, "store"), Ok(Reply::Done));
    assert_eq!(ask(&mut world, "nobody"), Err(Code::E_NOT_FOUND));
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    assert_eq!(ask(&mut world, "relay"), Err(Code::E_LOGON_FAILED));
    let entry = world.submit(member, "b@x");
    world.advance(secs(600));
    world.wire.broken.clear();
    assert_eq!(ask(&mut world, "relay"), Ok(Reply::Done));
    world.advance(secs(3_600));
    assert_eq!(world.state(entry), Sent);
}

/// A transport is handed as many messages as it wants; what waits behind them can still be taken back.
#[test]
fn a_transport_says_how_much_it_takes() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { window: 2, recipients: 10, ..TransportFacts::default() };
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entries: Vec<_> = (0..4).map(|n| world.submit(member, &format!("{n}@x"))).collect();
    assert_eq!(
        code(change(&mut world, member.at, entries[1], QueueChange::Abort)),
        Code::E_UNABLE_TO_ABORT
    );
    assert_eq!(change(&mut world, member.at, entries[2], QueueChange::Abort), Ok(Aborted));
    world.let_go("relay");
    for entry in [entries[0], entries[1], entries[3]] {
        assert_eq!(world.state(entry), Sent);
    }
}

/// A message with more recipients than a transport takes at once goes in several parts, each recipient once.
#[test]
fn many_recipients_go_in_parts() {
    let mut world = World::new();
    world.profile("default").transports = vec![transport("relay", &["*"])];
    world.wire.facts = TransportFacts { window: 2, recipients: 10, ..TransportFacts::default() };
    let member = world.member(1);
    let to: Vec<_> = (0..25).map(|n| format!("{n}@x")).collect();
    world.script("7@x", &[Step::Says(Outcome::Later)]);
    let entry = world
        .try_submit(member, &to.iter().map(String::as_str).collect::<Vec<_>>())
        .expect("it is taken");
    let parts = world.calls_of("relay").iter().filter(|c| **c == "EndMessage").count();
    assert_eq!(parts, 3);
    assert_eq!(world.state(entry), Deferred);
    world.advance(secs(60));
    assert_eq!(world.state(entry), Sent);
    for address in &to {
        assert_eq!(world.wire.delivered_to(address), 1, "{address}");
    }
}

/// A message with more recipients than all of a transport's places for calls goes out, and keeps nobody from leaving
/// meanwhile.
///
/// design §1, §10 (10)
#[test]
fn any_number_of_recipients_goes_out() {
    for count in [8, 250, 260, 600] {
        let mut world = World::new();
        world.wire.facts = TransportFacts { window: 8, recipients: 1, ..TransportFacts::default() };
        world.crew = 4;
        let member = world.member(1);
        let to: Vec<_> = (0..count).map(|n| format!("{n}@x")).collect();
        let to: Vec<_> = to.iter().map(String::as_str).collect();
        let entry = world.try_submit(member, &to).expect("it is taken");
        world.advance(secs(1));
        assert_eq!(world.state(entry), Sent, "{count}");
        assert_eq!(world.wire.delivered.len(), count);
        assert_eq!(world.submission(entry).attempts, 1, "it is one try");
        assert_eq!(world.query(member.at), Ok(Reply::Done), "{count}");
    }
}

/// Who was late in a try that takes many rounds waits for the next one, and is not tried again in between.
///
/// design §3.18
#[test]
fn a_try_of_many_rounds_takes_each_recipient_once() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { window: 2, recipients: 1, ..TransportFacts::default() };
    let member = world.member(1);
    let to: Vec<_> = (0..10).map(|n| format!("{n}@x")).collect();
    for late in ["0@x", "5@x"] {
        world.script(late, &[Step::Says(Outcome::Later); 2]);
    }
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let entry = world.try_submit(member, &to).expect("it is taken");
    let prepares =
        |world: &World| world.calls_of("relay").iter().filter(|c| **c == "SubmitMessage").count();
    assert_eq!((prepares(&world), world.submission(entry).attempts), (10, 1));
    assert_eq!(world.state(entry), Deferred);
    world.advance(secs(31));
    assert_eq!((prepares(&world), world.submission(entry).attempts), (12, 2));
    world.advance(secs(61));
    assert_eq!(world.state(entry), Sent);
    assert_eq!((prepares(&world), world.submission(entry).attempts), (14, 3));
}

/// design §2 (rights): a flush takes the right session, and disturbs nobody when there is nothing to flush.
#[test]
fn strangers_flush_nothing() {
    let mut world = World::new();
    world.profile("default").access = vec![(7, Right::Submit)];
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    for (pid, uid) in [(20, 4242), (21, 7)] {
        for profile in [None, Some("default".to_owned())] {
            let at = world.connect_as(pid, uid);
            let flush = Request::Queue { profile, action: QueueAction::Flush };
            let refused = world.call(at, flush).expect_err("it is refused");
            assert_eq!(refused.code, Code::E_NO_ACCESS);
        }
    }
    assert_eq!(world.state(entry), Deferred);
}

/// LOGON-11: however many messages wait, a session that nobody is in tries a refused account at the pace of retries.
#[test]
fn many_messages_do_not_lock_an_account() {
    let mut world = World::new();
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    let member = world.member(1);
    for n in 0..200 {
        world.submit(member, &format!("{n}@x"));
    }
    world.logoff(member);
    world.advance(secs(60));
    let before = world.calls_of("relay").iter().filter(|c| **c == "SubmitMessage").count();
    let (mut seconds, mut last) = (0, before);
    for _ in 0..3_600 {
        world.advance(secs(1));
        let now = world.calls_of("relay").iter().filter(|c| **c == "SubmitMessage").count();
        seconds += usize::from(now > last);
        last = now;
    }
    assert!(seconds <= 8, "tried in {seconds} seconds of an hour");
}

/// design §3.17: what was surely not handed over is not unknown, though its session ended meanwhile.
#[test]
fn what_was_not_handed_over_is_not_unknown() {
    let mut world = World::new();
    world.wire.recover = Some(Outcome::Unknown);
    let member = world.member(1);
    world.silence("store", "UpdateSubmission");
    let entry = world.submit(member, "b@x");
    let flags = LogoffFlags::SHARED;
    world.ask(member.at, super::world::logoff_request(member.id, flags, None));
    world.advance(secs(15));
    world.let_go("store");
    world.advance(secs(60));
    assert_eq!(world.state(entry), Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// design §10 (8): what is unknown is given up at its time also when nobody is here, and after a restart.
#[test]
fn what_is_unknown_is_given_up_although_nobody_is_here() {
    for restart in ["no", "yes"] {
        let (mut world, member, entry) = with_message_in(Unknown);
        let age = world.profile("default").queue.max_age;
        world.logoff(member);
        world.advance(secs(60));
        world.assert_empty();
        if restart == "yes" {
            world.crash();
            world.apply(crate::Event::Adopt { profile: "default".into() });
            world.settle();
        }
        world.advance(age + secs(300));
        assert_eq!(world.state(entry), Bounced, "restart: {restart}");
        assert_eq!(world.store("default").notices.len(), 1);
        world.assert_empty();
    }
}

/// design §10 (8): a message that was cut off, and whose transport does not come back, is given up in the end; before that
/// somebody may decide.
#[test]
fn what_was_cut_off_has_a_way_out() {
    for decision in [None, Some(QueueChange::Abort), Some(QueueChange::Retry)] {
        let (mut world, _, entry) = with_message_in(Transmitting);
        world.crash();
        world.clear_holds();
        world.script("relay.Logon", &vec![Step::Refuses; 10_000]);
        world.apply(crate::Event::Adopt { profile: "default".into() });
        world.settle();
        world.advance(secs(3_600));
        assert_eq!(world.state(entry), Transmitting);
        let at = world.connect(2);
        if let Some(wish) = decision {
            let after = change(&mut world, at, entry, wish).expect("somebody decides");
            let wanted = if wish == QueueChange::Abort { Aborted } else { Queued };
            assert_eq!(after, wanted);
            continue;
        }
        let age = world.profile("default").queue.max_age;
        world.advance(age + secs(300));
        assert_eq!(world.state(entry), Bounced);
        assert_eq!(world.store("default").notices.len(), 1);
        world.assert_empty();
    }
}

/// A change of one entry keeps new mail from nothing, however much is known.
///
/// design §3.18
#[test]
fn new_mail_goes_although_much_is_known() {
    let mut world = World::new();
    let member = world.member(1);
    let mut entries = Vec::new();
    for n in 0..3_700 {
        let address = format!("{n}@x");
        world.script(&address, &[Step::Says(Outcome::Later); 7]);
        entries.push(world.submit(member, &address));
    }
    let quiet = world.connect(2);
    let flags = sundown_protocol::request::LogonFlags::NO_MAIL;
    let quiet = world.logon_with(quiet, "default", flags);
    world.logoff(member);
    world.submit(quiet, "parked@x");
    let at = world.connect(3);
    assert_eq!(change(&mut world, at, entries[0], QueueChange::Hold), Ok(Held));
    let member = world.member(4);
    let new = world.submit(member, "new@x");
    world.advance(secs(1));
    assert_eq!(world.state(new), Sent);
}

fn asks_for_all(world: &mut World, at: ConnectionId) -> RequestId {
    let action = QueueAction::List { all: true, after: 0, limit: 64 };
    world.ask(at, Request::Queue { profile: None, action })
}

fn listed(world: &mut World, at: ConnectionId, asked: RequestId) -> Option<Vec<EntryId>> {
    match world.answer(at, asked)? {
        Ok(Reply::Queue { rows, .. }) => Some(rows.iter().map(|row| row.entry).collect()),
        other => panic!("{other:?} to a list of all queues"),
    }
}

/// A message in the queue of the default profile, and two more profiles whose stores take long to open.
fn beside_slow_stores() -> (World, Member, EntryId) {
    let mut world = World::new();
    for (name, slow, its_relay) in [("b", "slow", "relay-b"), ("c", "slower", "relay-c")] {
        let mut profile = super::world::profile(name);
        profile.stores[0].name = slow.into();
        profile.transports[0].provider.name = its_relay.into();
        world.add_profile(profile);
        world.hold(slow, "Logon");
    }
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let entry = world.submit(member, "b@x");
    (world, member, entry)
}

fn starts(world: &mut World, pid: u32, profile: &str) {
    let at = world.connect(pid);
    world.ask(at, logon_request(Some(profile), LogonFlags::default()));
    world.settle();
}

/// A list of all queues waits for the stores that are being opened when it is asked for. A session that cannot start is
/// passed over: why it cannot is for those that asked for it.
#[test]
fn a_session_that_cannot_start_is_passed_over() {
    let (mut world, member, entry) = beside_slow_stores();
    let codes = [Code::E_DISK_ERROR; 4];
    world.store("b").failures.insert("Logon", codes.into());
    let at = world.connect(2);
    let logon = world.ask(at, logon_request(Some("b"), LogonFlags::default()));
    world.settle();
    let asked = asks_for_all(&mut world, member.at);
    world.settle();
    assert_eq!(listed(&mut world, member.at, asked), None, "a store is being opened");
    world.let_go("slow");
    assert_eq!(listed(&mut world, member.at, asked), Some(vec![entry]));
    let refused = world.answer(at, logon).expect("answered").expect_err("its store fails");
    assert_eq!(refused.code, Code::E_DISK_ERROR);
}

/// Sessions that begin to start later are not waited for, however many do.
#[test]
fn a_list_does_not_wait_for_sessions_that_start_later() {
    let (mut world, member, entry) = beside_slow_stores();
    starts(&mut world, 2, "b");
    let asked = asks_for_all(&mut world, member.at);
    starts(&mut world, 3, "c");
    assert_eq!(listed(&mut world, member.at, asked), None);
    world.let_go("slow");
    assert_eq!(listed(&mut world, member.at, asked), Some(vec![entry]));
}

/// A session whose stores are open is not waited for, though its transport still logs on.
#[test]
fn a_list_waits_for_stores_alone() {
    let (mut world, member, entry) = beside_slow_stores();
    world.hold("relay-b", "Logon");
    starts(&mut world, 2, "b");
    world.let_go("slow");
    let asked = asks_for_all(&mut world, member.at);
    world.settle();
    assert_eq!(listed(&mut world, member.at, asked), Some(vec![entry]));
}

/// design §2 *rights*: a list of all queues starts no session for a user without a right: it is not about that session.
#[test]
fn a_list_lets_no_stranger_in() {
    let mut world = World::new();
    world.hold_profiles = true;
    let at = world.connect_as(7, 2_000);
    let logon = world.ask(at, logon_request(None, LogonFlags::default()));
    world.settle();
    let asked = asks_for_all(&mut world, at);
    world.let_all_go();
    for id in [logon, asked] {
        let refused = world.answer(at, id).expect("answered").expect_err("refused");
        assert_eq!(refused.code, Code::E_NO_ACCESS);
    }
    assert!(world.calls.is_empty(), "{:?}", world.calls);
    world.assert_empty();
}

/// A list of all queues goes on without a profile that cannot be loaded, also that of a user who may not know why.
#[test]
fn a_list_is_not_told_what_is_wrong_with_a_profile() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_000, Right::Session)];
    let at = world.connect_as(7, 2_000);
    world.logon(at);
    let why = Fault::new(Code::E_UNCONFIGURED, "/etc/profiles/wrong.toml, line 3");
    world.wrong_profiles.insert("wrong".into(), why);
    world.hold_profiles = true;
    let owner = world.connect(1);
    let logon = world.ask(owner, logon_request(Some("wrong"), LogonFlags::default()));
    let asked = asks_for_all(&mut world, at);
    world.settle();
    assert_eq!(listed(&mut world, at, asked), None, "a session starts");
    world.let_all_go();
    assert_eq!(listed(&mut world, at, asked), Some(vec![]));
    world.answer(owner, logon).expect("answered").expect_err("its profile is wrong");
}

/// LOGON-11: a message goes out by the oldest session of its profile. Where a transport of that session is out, it goes out by the
/// oldest whose transport works.
#[test]
fn a_session_whose_transport_is_out_keeps_no_mail_back() {
    let mut world = World::new();
    let at = world.connect(1);
    world.script("relay.Logon", &[Step::Refuses, Step::Refuses]);
    let private = world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    let shared = world.member(2);
    let sessions = world.status().sessions;
    let relays = sessions.iter().flat_map(|s| s.providers.iter().filter(|p| p.name == "relay"));
    let out: Vec<_> = relays.map(|p| p.status.starts_with("failed: ")).collect();
    assert_eq!(out, [true, false], "of the older session, and of the younger one");
    for member in [private, shared] {
        let entry = world.submit(member, "b@x");
        assert_eq!(world.state(entry), Sent);
    }
}
