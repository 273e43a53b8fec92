//! Transports that cannot be reached: nothing is read or written for what waits, and everything goes out when they can.

use sundown_protocol::reply::{Resource, SubmissionState};
use sundown_protocol::request::{LogonFlags, QueueAction, QueueChange, Request};
use sundown_protocol::{Code, EntryId};

use super::fakes::Step;
use super::spooler::{OLD, left};
use super::world::{Member, World, secs, transport};
use crate::provider::{AskedBy, TransportFacts};

const MANY: usize = 40;

/// A world whose transport cannot be reached, and messages that wait for it; the first of them has been tried.
fn offline() -> (World, Member, Vec<EntryId>) {
    let mut world = World::new();
    world.profile("default").queue.delay_after = None;
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entries = (0..MANY).map(|_| world.submit(member, "b@x")).collect();
    (world, member, entries)
}

fn states(world: &World, entries: &[EntryId]) -> Vec<SubmissionState> {
    entries.iter().map(|entry| world.state(*entry)).collect()
}

fn calls(world: &World, provider: &str, call: &str) -> usize {
    world.calls_of(provider).into_iter().filter(|made| *made == call).count()
}

fn status_of(world: &mut World, provider: &str) -> String {
    let status = world.status();
    let mut providers = status.sessions.iter().flat_map(|s| &s.providers);
    providers.find(|p| p.name == provider).expect("it is there").status.clone()
}

/// One message finds out that there is no network. From then on no message is read, and none is written.
#[test]
fn being_offline_costs_nothing() {
    let (mut world, _, entries) = offline();
    assert_eq!(calls(&world, "relay", "SubmitMessage"), 1);
    assert_eq!(status_of(&mut world, "relay"), "unreachable");
    let written = calls(&world, "store", "UpdateSubmission");
    world.advance(secs(24 * 3_600));
    assert_eq!(calls(&world, "relay", "SubmitMessage"), 1);
    assert_eq!(calls(&world, "store", "UpdateSubmission"), written);
    let asked = calls(&world, "relay", "ValidateState");
    assert!((200..=400).contains(&asked), "it is asked every five minutes: {asked} times");
    assert!(!states(&world, &entries).contains(&SubmissionState::Sent));
}

/// It is handed one message, and when that is taken all others.
#[test]
fn all_goes_out_when_it_can_be_reached() {
    let (mut world, _, entries) = offline();
    world.advance(secs(3_600));
    world.wire.broken.clear();
    world.hold("relay", "SubmitMessage");
    world.advance(secs(301));
    assert_eq!(world.waiting_calls("relay"), 1, "one is tried");
    world.let_go("relay");
    assert_eq!(states(&world, &entries), [SubmissionState::Sent; MANY]);
    assert_eq!(world.wire.delivered_to("b@x"), MANY);
    assert_eq!(status_of(&mut world, "relay"), "available");
}

/// That it works says little: a network that is lost again takes one message more.
#[test]
fn one_message_is_tried_each_time() {
    let (mut world, _, _) = offline();
    for tried in 2..10 {
        world.wire.broken.clear();
        world.hold("relay", "SubmitMessage");
        world.advance(secs(301));
        assert_eq!(world.waiting_calls("relay"), 1);
        world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
        world.let_go("relay");
        assert_eq!(calls(&world, "relay", "SubmitMessage"), tried);
    }
}

/// A transport that does not say whether it works is handed a message all the same.
#[test]
fn a_transport_that_says_nothing_is_tried() {
    let (mut world, _, entries) = offline();
    world.wire.broken.clear();
    world.silence("relay", "ValidateState");
    world.advance(secs(60));
    assert_eq!(calls(&world, "relay", "SubmitMessage"), 1);
    world.clear_holds();
    world.advance(secs(121));
    assert_eq!(states(&world, &entries), [SubmissionState::Sent; MANY]);
}

/// What waits is given up at its age limit, and its sender is told.
#[test]
fn what_waits_too_long_bounces() {
    let (mut world, _, entries) = offline();
    world.advance(secs(5 * 24 * 3_600 + 700));
    assert_eq!(states(&world, &entries), [SubmissionState::Bounced; MANY]);
    assert_eq!(world.store("default").notices.len(), MANY);
    assert_eq!(calls(&world, "relay", "SubmitMessage"), 1);
}

/// Another transport's recipients of the same message go out, and other messages do.
#[test]
fn other_transports_go_on() {
    let mut world = World::new();
    world.profile("default").transports =
        vec![transport("far", &["*@x"]), transport("near", &["*"])];
    let member = world.member(1);
    world.wire.broken.insert("far".into(), Code::E_NETWORK_ERROR);
    world.submit(member, "b@x");
    let both = world.try_submit(member, &["b@x", "c@y"]).expect("submitted");
    let other = world.submit(member, "d@y");
    assert_eq!(world.state(other), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("c@y"), 1);
    assert_eq!(calls(&world, "far", "SubmitMessage"), 1);
    world.wire.broken.clear();
    world.advance(secs(301));
    assert_eq!(world.state(both), SubmissionState::Sent);
    assert_eq!((world.wire.delivered_to("b@x"), world.wire.delivered_to("c@y")), (2, 1));
}

/// However many messages wait for a transport that cannot be reached, those of another one behind them go out, and all of them do
/// once it can be. Meanwhile few of them are known here.
#[test]
fn many_that_wait_hide_nothing() {
    const LONG: usize = 5_000;
    let mut world = World::new();
    world.profile("default").transports =
        vec![transport("far", &["*@x"]), transport("near", &["*"])];
    world.wire.broken.insert("far".into(), Code::E_NETWORK_ERROR);
    let due = world.wall();
    for record in 0..LONG as u128 {
        let state = SubmissionState::Queued;
        world.store("default").leave(left(OLD + record, state, "b@x", due));
    }
    let last = OLD + LONG as u128;
    world.store("default").leave(left(last, SubmissionState::Queued, "c@y", due));
    let member = world.member(1);
    assert_eq!(world.state(EntryId { store: 1, record: last }), SubmissionState::Sent);
    let new = world.submit(member, "d@y");
    assert_eq!(world.state(new), SubmissionState::Sent);
    let known: usize =
        world.broker.queues.engines.values().map(|engine| engine.entries.len()).sum();
    let tried = calls(&world, "far", "SubmitMessage");
    assert!(known <= tried + 3, "{known} are known, {tried} were tried");
    world.advance(secs(3_600));
    assert_eq!(calls(&world, "far", "SubmitMessage"), tried);
    world.wire.broken.clear();
    world.advance(secs(301));
    assert_eq!(world.wire.delivered_to("b@x"), LONG);
}

/// Those that are known may be taken back: the others are read then, and one of them is tried.
#[test]
fn what_was_forgotten_is_read_when_it_is_needed() {
    let (mut world, member, entries) = offline();
    let known = |world: &World| {
        let entries = world.broker.queues.engines.values().flat_map(|engine| engine.entries.keys());
        entries.copied().collect::<Vec<u128>>()
    };
    for round in 0..4 {
        let before = known(&world);
        assert!(!before.is_empty(), "{round}");
        for record in before {
            let entry = EntryId { store: 1, record };
            world.done(member.at, Request::AbortSubmit { member: member.id, entry });
        }
    }
    world.wire.broken.clear();
    world.advance(secs(301));
    let sent = states(&world, &entries).iter().filter(|s| **s == SubmissionState::Sent).count();
    let aborted = states(&world, &entries);
    let aborted = aborted.iter().filter(|s| **s == SubmissionState::Aborted).count();
    assert!(aborted >= 4 && sent + aborted == MANY, "{sent} sent, {aborted} taken back");
}

/// The questions whether a transport works so far, by who asked.
fn questions(world: &World, provider: &str) -> Vec<AskedBy> {
    let of_it = world.calls.iter().filter(|called| called.provider == provider);
    of_it.filter_map(|called| called.asked_by).collect()
}

fn flush(world: &mut World, member: Member) {
    let flush = Request::Queue { profile: Some("default".into()), action: QueueAction::Flush };
    world.call(member.at, flush).expect("it is flushed");
}

/// A server that refuses to talk before it has heard of a message is like one that is not there: no message has failed, and the
/// others wait where they are.
#[test]
fn a_server_that_refuses_to_talk_cannot_be_reached() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.shut.insert("relay".into());
    let entries: Vec<_> = (0..MANY).map(|_| world.submit(member, "b@x")).collect();
    world.advance(secs(24 * 3_600));
    assert_eq!(calls(&world, "relay", "SubmitMessage"), 1);
    assert_eq!(status_of(&mut world, "relay"), "unreachable");
    assert!(entries.iter().all(|entry| world.submission(*entry).attempts == 0));
    let asked = questions(&world, "relay");
    assert!(asked.len() > 200 && asked.iter().all(|by| *by == AskedBy::Broker), "{asked:?}");
    world.wire.shut.clear();
    world.advance(secs(301));
    assert_eq!(states(&world, &entries), [SubmissionState::Sent; MANY]);
    assert_eq!(world.wire.delivered_to("b@x"), MANY);
}

/// What waits for such a server is given up at its age limit.
#[test]
fn a_server_that_refuses_to_talk_is_given_up() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.shut.insert("relay".into());
    let entry = world.submit(member, "b@x");
    world.advance(secs(5 * 24 * 3_600 + 700));
    assert_eq!(world.state(entry), SubmissionState::Bounced);
}

/// A flush and a retry have each transport asked for the user, once; all that waits waits for the answer.
#[test]
fn a_user_buys_one_question() {
    let (mut world, member, entries) = offline();
    flush(&mut world, member);
    let retry = QueueAction::Change(entries[3], QueueChange::Retry);
    let retry = Request::Queue { profile: Some("default".into()), action: retry };
    world.call(member.at, retry).expect("it is made due");
    world.settle();
    let asked = questions(&world, "relay");
    let [AskedBy::User { word: first }, AskedBy::User { word: second }] = asked[..] else {
        panic!("one each: {asked:?}");
    };
    assert!(first < second, "a later request has a higher number");
    assert_eq!(calls(&world, "relay", "SubmitMessage"), 1, "no message was a try");
    world.advance(secs(24 * 3_600));
    let by_itself = &questions(&world, "relay")[2..];
    assert!(by_itself.len() > 200, "it goes on asking by itself");
    assert!(by_itself.iter().all(|by| *by == AskedBy::Broker));
}

/// While a transport is asked for a user, another request waits for the same answer. A question of the broker's own does not keep a
/// user from asking, and its answer is not the user's.
#[test]
fn a_question_for_a_user_is_asked_once() {
    let (mut world, member, entries) = offline();
    world.hold("relay", "ValidateState");
    world.advance(secs(31));
    assert_eq!(questions(&world, "relay"), [AskedBy::Broker]);
    for _ in 0..3 {
        flush(&mut world, member);
    }
    let asked = questions(&world, "relay");
    assert!(matches!(asked[..], [AskedBy::Broker, AskedBy::User { .. }]), "{asked:?}");
    world.let_go("relay");
    assert_eq!(status_of(&mut world, "relay"), "unreachable");
    world.wire.broken.clear();
    world.advance(secs(301));
    assert_eq!(states(&world, &entries), [SubmissionState::Sent; MANY]);
}

/// The sessions that one flush is about have one number: they may have the same server.
#[test]
fn a_flush_has_one_number() {
    let mut world = World::new();
    world.wire.shut.insert("relay".into());
    for profile in ["default", "work"] {
        let at = world.connect(1);
        let member = world.logon_with(at, profile, LogonFlags::default());
        world.submit(member, "b@x");
    }
    let at = world.connect(2);
    let flush = Request::Queue { profile: None, action: QueueAction::Flush };
    world.call(at, flush).expect("it is flushed");
    let asked = questions(&world, "relay");
    assert!(asked.len() == 2 && asked[0] == asked[1], "{asked:?}");
}

/// LOGON-11: a transport that is out is logged on again for a user's flush, and asked. Its messages wait for the answer, so that a
/// password that is still wrong has one try.
#[test]
fn a_transport_that_is_out_is_asked_for_a_user() {
    let (mut world, member, entries) = offline();
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    world.advance(secs(600));
    assert!(status_of(&mut world, "relay").starts_with("failed"));
    let before = calls(&world, "relay", "SubmitMessage");
    let asked = questions(&world, "relay").len();
    flush(&mut world, member);
    assert!(status_of(&mut world, "relay").starts_with("failed"));
    let now = questions(&world, "relay");
    assert!(matches!(now[asked..], [AskedBy::User { .. }]), "{now:?}");
    assert_eq!(calls(&world, "relay", "SubmitMessage"), before);
    world.wire.broken.clear();
    flush(&mut world, member);
    assert_eq!(states(&world, &entries), [SubmissionState::Sent; MANY]);
}

/// A transport that is out and does not log on is not asked, and what was wanted of it is forgotten.
#[test]
fn a_transport_that_does_not_log_on_is_not_asked() {
    let (mut world, member, _) = offline();
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    world.advance(secs(600));
    let asked = questions(&world, "relay").len();
    world.script("relay.Logon", &[Step::Refuses]);
    flush(&mut world, member);
    assert!(status_of(&mut world, "relay").starts_with("failed"));
    assert_eq!(questions(&world, "relay").len(), asked);
    world.assert_counts();
}

/// Who flushes the queue does not wait.
#[test]
fn a_flush_tries_at_once() {
    let (mut world, member, entries) = offline();
    world.wire.broken.clear();
    let flush = Request::Queue { profile: Some("default".into()), action: QueueAction::Flush };
    let reply = world.call(member.at, flush);
    reply.expect("it is flushed");
    assert_eq!(states(&world, &entries), [SubmissionState::Sent; MANY]);
}

/// What waits keeps its session as long as other mail does, and a session that ends takes nothing along.
#[test]
fn a_session_that_lingers_sends_it_later() {
    let (mut world, member, entries) = offline();
    world.logoff(member);
    world.advance(secs(3_600));
    assert_eq!(world.sessions().len(), 1);
    world.wire.broken.clear();
    world.advance(secs(301));
    assert_eq!(states(&world, &entries), [SubmissionState::Sent; MANY]);
    world.advance(secs(60));
    world.assert_empty();
}

/// Each question whether it works is a try of the password: one that is refused counts, and the second puts the transport out.
#[test]
fn a_refused_password_is_not_tried_for_ever() {
    let (mut world, _, _) = offline();
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    world.advance(secs(24 * 3_600));
    let tries = calls(&world, "relay", "ValidateState") + calls(&world, "relay", "SubmitMessage");
    assert!(tries <= 1 + 2, "{tries} tries");
    assert!(status_of(&mut world, "relay").starts_with("failed"));
}

/// What became of a message that a crash cut off is found out at this end: it does not wait for the network.
#[test]
fn what_a_crash_cut_off_is_recovered_meanwhile() {
    let mut world = World::new();
    let due = world.wall() + 60_000;
    world.store("default").leave(left(OLD, SubmissionState::Transmitting, "b@x", due));
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let member = world.member(1);
    world.submit(member, "c@x");
    assert_eq!(status_of(&mut world, "relay"), "unreachable");
    world.advance(secs(61));
    assert_eq!(status_of(&mut world, "relay"), "unreachable");
    assert_eq!(world.state(EntryId { store: 1, record: OLD }), SubmissionState::Sent);
}

/// That one transport works says nothing of another.
#[test]
fn a_transport_that_works_is_tried_alone() {
    let mut world = World::new();
    world.profile("default").transports =
        vec![transport("far", &["*@x"]), transport("near", &["*"])];
    let member = world.member(1);
    for name in ["far", "near"] {
        world.wire.broken.insert(name.into(), Code::E_NETWORK_ERROR);
    }
    world.submit(member, "b@x");
    world.submit(member, "c@y");
    world.wire.broken.remove("near");
    let kind = Resource::TransportProvider;
    let validate = Request::ValidateState { member: member.id, kind, provider: "near".into() };
    world.done(member.at, validate);
    world.submit(member, "d@x");
    world.submit(member, "e@y");
    assert_eq!(calls(&world, "far", "SubmitMessage"), 1);
    assert_eq!(world.wire.delivered_to("e@y"), 1);
}

/// Recipients of one message go by their own transports: what one of them cannot take now holds up no other.
#[test]
fn a_transport_without_room_holds_up_no_other_recipient() {
    for unreachable in [false, true] {
        let mut world = World::new();
        world.wire.facts = TransportFacts { window: 1, ..TransportFacts::default() };
        world.profile("default").transports =
            vec![transport("far", &["*@x"]), transport("near", &["*"])];
        let member = world.member(1);
        world.hold("far", "SubmitMessage");
        world.submit(member, "a@x");
        let entry = world.try_submit(member, &["b@x", "b@here"]).expect("queued");
        assert_eq!(world.wire.delivered_to("b@here"), 1, "unreachable: {unreachable}");
        if unreachable {
            world.wire.broken.insert("far".into(), Code::E_NETWORK_ERROR);
        }
        world.let_go("far");
        world.advance(secs(60));
        assert_eq!(world.state(entry) == SubmissionState::Sent, !unreachable);
        world.wire.broken.clear();
        world.advance(secs(600));
        assert_eq!(world.state(entry), SubmissionState::Sent);
        assert_eq!((world.wire.delivered_to("b@x"), world.wire.delivered_to("b@here")), (1, 1));
        world.assert_counts();
    }
}
