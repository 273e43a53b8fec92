//! The spooler: the way of a message to its transports, in order, once, and again when it failed.

use std::time::Duration;

use sundown_protocol::reply::SubmissionState;
use sundown_protocol::request::{Folder, LogoffFlags, Report, Request};
use sundown_protocol::{Code, EntryId, Event as News, Events};

use super::fakes::Step;
use super::world::{Member, World, millis, secs, transport};
use crate::provider::Intent;
use crate::provider::Outcome;
use crate::provider::Recipient;
use crate::provider::Submission;
use crate::provider::TransportFacts;
use crate::settings::OnUnknown;

/// Where the records of earlier brokers begin.
pub(super) const OLD: u128 = 1 << 64;

/// A submission as an earlier broker left it in the store of the default profile.
pub(super) fn left(record: u128, state: SubmissionState, address: &str, now: u64) -> Submission {
    let intent = (state == SubmissionState::Transmitting)
        .then(|| Intent { transport: "relay".into(), marker: "mark".into() });
    Submission {
        record,
        profile: "default".into(),
        uid: super::world::OWNER,
        from: "me@here".into(),
        recipients: vec![Recipient { address: address.into(), state, intent, reply: None }],
        subject: String::new(),
        size: 1,
        order: 0,
        no_mail: false,
        attempts: 0,
        due: now,
        submitted: now,
        last_error: None,
        report: Report::default(),
        route: None,
        born: None,
        delay_told: false,
    }
}

fn entry(record: u128) -> EntryId {
    EntryId { store: 1, record }
}

fn queued(world: &mut World) -> [u64; 9] {
    world.status().queue
}

/// QUEUE-2, QUEUE-12: a message goes from the Outbox to its transport and then to Sent.
#[test]
fn a_message_goes_its_way() {
    use SubmissionState::{Queued, Sent, Transmitting};
    let mut world = World::new();
    let member = world.member(1);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), Sent);
    assert_eq!(world.calls_of("relay"), ["Logon", "SubmitMessage", "EndMessage"]);
    assert_eq!(world.in_folder("default", Folder::SENT), 1);
    assert_eq!(queued(&mut world)[SubmissionState::Sent as usize], 1);
    let history: Vec<_> = world.store("default").history.iter().map(|(_, s)| *s).collect();
    assert_eq!(history, [Queued, Transmitting, Sent]);
}

/// design §3.17: the intent is durable before the message is handed over.
#[test]
fn the_intent_is_stored_first() {
    let mut world = World::new();
    let member = world.member(1);
    world.silence("store", "UpdateSubmission");
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    assert_eq!(world.calls_of("relay"), ["Logon", "SubmitMessage"]);
    world.let_go("store");
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// design §3.17: an intent that cannot be stored cancels the message; it is tried again, and the try does not count.
#[test]
fn an_intent_that_cannot_be_stored_cancels() {
    let mut world = World::new();
    let member = world.member(1);
    world.store("default").failures.insert("UpdateSubmission", [Code::E_DISK_ERROR].into());
    let entry = world.submit(member, "b@x");
    assert_eq!(world.calls_of("relay"), ["Logon", "SubmitMessage", "TransportNotify"]);
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    assert_eq!(world.submission(entry).attempts, 0);
    world.advance(secs(31));
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// design §3.17: an intent of which is not known whether it was stored cancels nothing, because it may be found after a
/// restart and names what was prepared.
#[test]
fn an_intent_that_may_be_stored_cancels_nothing() {
    let mut world = World::new();
    let member = world.member(1);
    world.store("default").unknown.insert("UpdateSubmission", [Code::E_DISK_ERROR].into());
    let entry = world.submit(member, "b@x");
    assert_eq!(world.calls_of("relay"), ["Logon", "SubmitMessage"]);
    assert_eq!(world.state(entry), SubmissionState::Deferred);
}

/// design §3.17: a result that cannot be stored is stored again, at leisure, and never sent again.
#[test]
fn a_result_that_cannot_be_stored_is_not_sent_again() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    let failures = [Code::E_DISK_ERROR; 3];
    world.store("default").failures.insert("UpdateSubmission", failures.into());
    world.let_go("relay");
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.worked = 0;
    world.advance(secs(4));
    assert!(world.worked < 10, "it does not try in a circle");
    world.advance(secs(30));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    world.logoff(member);
    world.advance(secs(60));
    world.assert_empty();
}

/// design §3.18: a bounce whose update fails first still tells the sender, once.
#[test]
fn a_bounce_is_told_although_the_store_failed() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Failed)]);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.store("default").failures.insert("UpdateSubmission", [Code::E_DISK_ERROR; 2].into());
    world.let_go("relay");
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Bounced);
    assert_eq!(world.store("default").notices.len(), 1);
}

/// design §3.18: recipients refused before the intent fails are told too, once.
#[test]
fn a_refusal_is_told_although_the_intent_failed() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("bad@x", &[Step::Refuses]);
    world.store("default").failures.insert("UpdateSubmission", [Code::E_DISK_ERROR].into());
    let entry = world.try_submit(member, &["bad@x", "good@x"]).expect("it is taken");
    world.advance(secs(60));
    assert_eq!(world.wire.delivered_to("good@x"), 1);
    let states: Vec<_> = world.submission(entry).recipients.iter().map(|r| r.state).collect();
    assert_eq!(states, [SubmissionState::Bounced, SubmissionState::Sent]);
    let told: Vec<_> = world.store("default").notices.iter().map(|(_, to)| to.clone()).collect();
    assert_eq!(told, [["bad@x"]]);
    assert_eq!(world.state(entry), SubmissionState::Bounced, "somebody did not get it");
}

/// design §3.18: a permanent failure puts a notification into the Inbox and tells of it; a bounce of a bounce does not.
#[test]
fn a_permanent_failure_is_told_to_the_sender() {
    let mut world = World::new();
    let member = world.member(1);
    world.advise(member, Events::NEW_MAIL);
    world.script("b@x", &[Step::Says(Outcome::Failed); 2]);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Bounced);
    assert_eq!(world.in_folder("default", Folder::INBOX), 1);
    let news = world.news(member);
    let [News::Arrived(mail)] = &news[..] else { panic!("{news:?}") };
    assert_eq!(mail.place.folder, Folder::INBOX);
    assert_eq!((&mail.from[..], &mail.subject[..]), ("MAILER-DAEMON", "not delivered"));
    let mut submit = world.submit_request(member, &["b@x"]);
    submit.from = Some(String::new());
    assert!(world.call(member.at, Request::Submit(submit)).is_ok());
    assert_eq!(world.in_folder("default", Folder::INBOX), 1);
    assert_eq!(queued(&mut world)[SubmissionState::Bounced as usize], 2);
}

/// design §7: a message with recipients of two transports goes through both, each recipient through the first that
/// takes it.
#[test]
fn two_transports_share_a_message() {
    let mut world = World::new();
    world.profile("default").transports =
        vec![transport("here", &["localhost"]), transport("relay", &["*"])];
    let member = world.member(1);
    let to = ["a@localhost", "b@x", "c@localhost", "d@x"];
    let entry = world.try_submit(member, &to).expect("it is taken");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    let by = |name: &str| -> Vec<String> {
        let mine = world.wire.delivered.iter().filter(|(t, ..)| t == name);
        mine.map(|(_, _, a)| a.clone()).collect()
    };
    assert_eq!(
        (by("here"), by("relay")),
        (
            vec!["a@localhost".to_owned(), "c@localhost".to_owned()],
            vec!["b@x".to_owned(), "d@x".to_owned()],
        )
    );
}

/// design §3.18: a retry is for the recipients that failed; one that was sent is never repeated.
#[test]
fn a_retry_never_repeats_who_was_sent() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("late@x", &[Step::Says(Outcome::Later), Step::Says(Outcome::Later)]);
    let entry = world.try_submit(member, &["a@x", "late@x", "c@x"]).expect("it is taken");
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    world.advance(secs(200));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    for address in ["a@x", "late@x", "c@x"] {
        assert_eq!(world.wire.delivered_to(address), 1, "{address}");
    }
    assert_eq!(world.submission(entry).attempts, 3);
}

/// design §3.18: a try counts once, also if the server refuses one recipient before it takes the message for the others, or
/// if the message goes in several transactions.
#[test]
fn a_try_counts_once() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("nobody@x", &[Step::Refuses]);
    let entry = world.try_submit(member, &["a@x", "nobody@x"]).expect("it is taken");
    assert_eq!(world.submission(entry).attempts, 1);

    let mut world = World::new();
    world.wire.facts = TransportFacts { recipients: 1, ..TransportFacts::default() };
    let member = world.member(1);
    let late = ["a@x", "b@x", "c@x"];
    for address in late {
        world.script(address, &[Step::Says(Outcome::Later)]);
    }
    let entry = world.try_submit(member, &late).expect("it is taken");
    assert_eq!(world.submission(entry).attempts, 1);
    let longest = 30_000;
    assert!(world.submission(entry).due - world.wall() <= longest);
    world.advance(millis(longest));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.submission(entry).attempts, 2);
}

/// design §2, §3.4: a message in several transactions has gone out when the last of them is durable. Before that neither its
/// row says so, nor does a logoff that waits for it end.
#[test]
fn nothing_is_over_before_all_of_it_is_durable() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { recipients: 1, ..TransportFacts::default() };
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = world.try_submit(member, &["a@x", "b@x"]).expect("it is taken");
    let logoff = world.ask_logoff(member, LogoffFlags::default(), Some(secs(60)));
    world.hold("store", "UpdateSubmission");
    world.let_go("relay");
    assert_eq!(world.wire.delivered.len(), 2);
    world.carry_out_some("store", 1);
    world.settle();
    assert!(world.answer(member.at, logoff).is_none(), "one of them is not durable");
    world.let_go("store");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert!(world.answer(member.at, logoff).is_some());
}

/// design §3.18: the waits double up to the longest, each up to a fifth shorter by chance.
#[test]
fn waits_grow_and_differ() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later); 12]);
    let entry = world.submit(member, "b@x");
    let mut waits = Vec::new();
    for _ in 0..11 {
        let wait = world.submission(entry).due - world.wall();
        waits.push(wait);
        world.advance(millis(wait - 1));
        let tries = world.submission(entry).attempts;
        world.advance(millis(1));
        assert_eq!(world.submission(entry).attempts, tries + 1, "not earlier, not later");
    }
    for (tries, wait) in waits.iter().enumerate() {
        let longest = (30_000 << tries).min(3_600_000);
        assert!(*wait <= longest && *wait >= longest * 4 / 5, "{tries}: {wait}");
    }
    let exact = |(tries, wait): (usize, &u64)| *wait == (30_000 << tries).min(3_600_000);
    assert!(!waits.iter().enumerate().all(exact), "some of it is chance");
}

/// design §3.18: past the age limit a message bounces, and the sender is told.
#[test]
fn old_messages_bounce() {
    let mut world = World::new();
    world.profile("default").queue.max_age = secs(3_600);
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later); 50]);
    let entry = world.submit(member, "b@x");
    world.advance(secs(3_500));
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    world.advance(secs(3_600));
    assert_eq!(world.state(entry), SubmissionState::Bounced);
    assert_eq!(world.store("default").notices.len(), 1);
}

/// design §3.18: a message that was tried until its age limit says for how long, and what the server said last.
#[test]
fn a_message_too_old_says_how_long_it_was_tried() {
    for outcome in [Outcome::Later, Outcome::Offline, Outcome::Failed] {
        let mut world = World::new();
        world.profile("default").queue.max_age = secs(7_200);
        let member = world.member(1);
        world.script("b@x", &[Step::Says(outcome); 500]);
        let entry = world.submit(member, "b@x");
        world.advance(secs(14_400));
        assert_eq!(world.state(entry), SubmissionState::Bounced);
        let reply = world.submission(entry).recipients[0].reply.clone().expect("a reply");
        let tried = "4.4.7 it was tried for 2 hours; the last answer was: ";
        assert_eq!(reply.starts_with(tried), outcome != Outcome::Failed, "{reply}");
        assert_eq!(crate::expired::last_answer(&reply).is_some(), outcome != Outcome::Failed);
    }
}

/// design §3.18: offline means hold and not failure.
#[test]
fn offline_does_not_count() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entry = world.submit(member, "b@x");
    world.advance(secs(3_600));
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    assert_eq!(world.submission(entry).attempts, 0);
    world.wire.broken.clear();
    world.advance(secs(301));
    assert_eq!(world.state(entry), SubmissionState::Sent);
}

/// design §3.17 `hold`: an unknown outcome stays visible; it is not sent again and a drain does not wait for it.
#[test]
fn an_unknown_outcome_is_held() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::SentButUnknown]);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Unknown);
    world.advance(secs(10_000));
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    assert_eq!(queued(&mut world)[SubmissionState::Unknown as usize], 1);
    let id = world.ask_logoff(member, LogoffFlags::default(), Some(secs(60)));
    let answer = world.answer(member.at, id).expect("at once").expect("logged off");
    assert_eq!(super::world::logged_off(answer).queued, 1);
}

/// design §3.17 `retry`: an unknown outcome is sent again, perhaps for the second time.
#[test]
fn an_unknown_outcome_is_tried_again() {
    let mut world = World::new();
    world.profile("default").queue.on_unknown = OnUnknown::Retry;
    let member = world.member(1);
    world.wire.mute.insert("relay".into());
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), SubmissionState::Deferred);
    world.wire.mute.clear();
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 2);
}

/// design §3.17: an intent found at start is asked after, and not sent again.
#[test]
fn an_intent_found_at_start_is_recovered() {
    let mut world = World::new();
    let member = world.member(1);
    world.silence("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    world.crash();
    assert_eq!(world.state(entry), SubmissionState::Transmitting);
    world.calls.clear();
    world.apply(crate::Event::Adopt { profile: "default".into() });
    world.settle();
    let calls = world.calls_of("relay");
    assert_eq!(
        calls.iter().filter(|c| **c != "Logoff").collect::<Vec<_>>(),
        [&"Logon", &"Recover"]
    );
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    let _ = member;
}

/// design §3.17: what a transport certainly has not handed over before a crash is queued again at once, and the try does not count.
#[test]
fn what_a_crash_left_unsent_is_queued_again() {
    let mut world = World::new();
    world.wire.recover = Some(Outcome::NotSent);
    let now = world.wall();
    world.store("default").leave(left(7, SubmissionState::Transmitting, "b@x", now));
    world.hold("relay", "SubmitMessage");
    world.apply(crate::Event::Adopt { profile: "default".into() });
    world.settle();
    assert_eq!(world.calls_of("relay"), ["Logon", "Recover", "SubmitMessage"]);
    let queued = world.submission(entry(7)).clone();
    assert_eq!(queued.recipients[0].state, SubmissionState::Queued);
    assert_eq!((&queued.recipients[0].intent, queued.attempts, queued.due), (&None, 0, now));
    world.let_go("relay");
    assert_eq!(world.state(entry(7)), SubmissionState::Sent);
    assert_eq!(world.submission(entry(7)).attempts, 1);
    assert_eq!(world.wire.delivered_to("b@x"), 1);
}

/// design §3.17, §3.18: a transport that says so of a message it did not recover is waited for like one that is offline.
#[test]
fn only_a_recovery_queues_again_at_once() {
    for step in [Step::Says(Outcome::NotSent), Step::RefusesAs(Outcome::NotSent)] {
        let mut world = World::new();
        let member = world.member(1);
        world.script("b@x", &[step]);
        let entry = world.submit(member, "b@x");
        assert_eq!(world.state(entry), SubmissionState::Deferred, "{step:?}");
        assert_eq!(world.submission(entry).attempts, 0, "{step:?}");
        world.advance(secs(31));
        assert_eq!(world.state(entry), SubmissionState::Sent, "{step:?}");
    }
}

/// design §3.17: a server takes so many recipients at once. The others follow with what is next, and do not wait.
#[test]
fn recipients_without_room_follow_at_once() {
    let mut world = World::new();
    let member = world.member(1);
    let to = ["a@x", "b@x", "c@x", "d@x"];
    for (number, address) in to.iter().enumerate() {
        world.script(address, &vec![Step::RefusesAs(Outcome::NotSent); number]);
    }
    let entry = world.try_submit(member, &to).expect("it is taken");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.submission(entry).attempts, 1);
    for address in to {
        assert_eq!(world.wire.delivered_to(address), 1, "{address}");
    }
}

/// design §3.17: only the transport that had a message can say what became of it. While it does not work nothing
/// happens; when it is gone from the profile the outcome is unknown. Nobody else sends it.
#[test]
fn nobody_else_sends_what_a_transport_may_have_sent() {
    for gone in [false, true] {
        let mut world = World::new();
        let now = world.wall();
        world.store("default").leave(left(7, SubmissionState::Transmitting, "b@x", now));
        let mut names = vec![transport("other", &["*"])];
        if !gone {
            names.insert(0, transport("relay", &["*"]));
            world.script("relay.Logon", &[Step::Refuses; 2]);
        }
        world.profile("default").transports = names;
        let member = world.member(1);
        world.advance(secs(600));
        assert!(world.wire.delivered.is_empty());
        let state = if gone { SubmissionState::Unknown } else { SubmissionState::Transmitting };
        assert_eq!(world.state(entry(7)), state);
        world.logoff(member);
    }
}

/// design §3.20: mail whose transport was removed is Deferred and says why.
#[test]
fn mail_whose_transport_was_removed_says_why() {
    let mut world = World::new();
    let now = world.wall();
    world.store("default").leave(left(7, SubmissionState::Queued, "b@x", now));
    world.profile("default").transports = vec![transport("here", &["localhost"])];
    let _member = world.member(1);
    let submission = world.submission(entry(7));
    assert_eq!(submission.state(), SubmissionState::Deferred);
    let why = submission.last_error.clone().expect("it says why");
    assert!(why.contains("b@x") && why.contains("no transport"), "{why}");
}

/// design §3.20: a transport that does not work defers its mail and says why.
#[test]
fn mail_of_a_broken_transport_says_why() {
    let mut world = World::new();
    world.script("relay.Logon", &[Step::Refuses; 2]);
    let member = world.member(1);
    let entry = world.submit(member, "b@x");
    let submission = world.submission(entry);
    assert_eq!(submission.state(), SubmissionState::Deferred);
    assert!(submission.last_error.as_deref().expect("it says why").contains("relay"));
}

/// QUEUE-3: messages reach the transport in the order in which they were submitted.
#[test]
fn messages_keep_their_order() {
    let mut world = World::new();
    let (a, b) = (world.member(1), world.member(2));
    let mut expected = Vec::new();
    for n in 0..300 {
        let address = format!("a{n}@x");
        world.submit(if n % 2 == 0 { a } else { b }, &address);
        expected.push(address);
    }
    world.hold("relay", "EndMessage");
    for n in 300..500 {
        let address = format!("a{n}@x");
        world.submit(if n % 2 == 0 { a } else { b }, &address);
        expected.push(address);
    }
    world.let_go("relay");
    let delivered: Vec<_> = world.wire.delivered.iter().map(|(_, _, a)| a.clone()).collect();
    assert_eq!(delivered, expected);
}

/// design §3.18, QUEUE-7: a slow transport does not hold up another one's messages, however many wait for it.
#[test]
fn a_slow_transport_blocks_only_itself() {
    let mut world = World::new();
    world.profile("default").transports =
        vec![transport("slow", &["slow"]), transport("fast", &["*"])];
    let member = world.member(1);
    world.hold("slow", "*");
    for n in 0..500 {
        world.submit(member, &format!("a{n}@slow"));
    }
    assert_eq!(world.waiting_calls("slow"), 64);
    let fast = world.submit(member, "b@fast");
    assert_eq!(world.state(fast), SubmissionState::Sent);
    world.let_go("slow");
    assert_eq!(world.wire.delivered.len(), 501);
}

/// design §1: more messages than are known at once all go out, each once, and in order.
#[test]
fn a_long_queue_goes_out() {
    let mut world = World::new();
    let now = world.wall();
    for n in 0..10_000 {
        world.store("default").leave(left(
            OLD + n,
            SubmissionState::Queued,
            &format!("a{n}@x"),
            now,
        ));
    }
    let member = world.member(1);
    assert_eq!(world.wire.delivered.len(), 10_000);
    let expected: Vec<u128> = (OLD..OLD + 10_000).collect();
    let delivered: Vec<_> = world.wire.delivered.iter().map(|(_, record, _)| *record).collect();
    assert_eq!(delivered, expected);
    assert_eq!(queued(&mut world)[SubmissionState::Sent as usize], 10_000);
    world.logoff(member);
    world.advance(secs(20));
    world.assert_empty();
}

/// design §1: what is submitted while the queue is being read goes out too, once, and what waits for later does not
/// hide what is due now.
#[test]
fn what_comes_while_the_queue_is_read_goes_out() {
    let mut world = World::new();
    let (now, later) = (world.wall(), world.wall() + 3_600_000);
    for n in 0..9_000 {
        let due = if n % 3 == 0 { now } else { later };
        world.store("default").leave(left(
            OLD + n,
            SubmissionState::Queued,
            &format!("a{n}@x"),
            due,
        ));
    }
    let member = world.member(1);
    let entries: Vec<_> = (0..50).map(|n| world.submit(member, &format!("early{n}@x"))).collect();
    world.silence("store", "GetOutgoingQueue");
    let more: Vec<_> = (0..50).map(|n| world.submit(member, &format!("late{n}@x"))).collect();
    world.let_go("store");
    for entry in entries.into_iter().chain(more) {
        assert_eq!(world.state(entry), SubmissionState::Sent);
    }
    world.advance(secs(3_700));
    assert_eq!(world.wire.delivered.len(), 9_100);
    let mut addresses: Vec<_> = world.wire.delivered.iter().map(|(_, _, a)| a).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 9_100, "each once");
}

/// design §1: only so much of a queue is known at once, whatever is submitted; all of it goes out, once.
#[test]
fn what_is_known_of_a_queue_is_limited() {
    let mut world = World::new();
    let later = world.wall() + 3_600_000;
    for n in 0..5_000 {
        let left = left(OLD + n, SubmissionState::Queued, &format!("a{n}@x"), later);
        world.store("default").leave(left);
    }
    let member = world.member(1);
    world.hold("relay", "*");
    for n in 0..6_000 {
        world.submit(member, &format!("b{n}@x"));
    }
    let known = world.broker.queues.engines.values().map(|e| e.entries.len()).max();
    assert!(known <= Some(8_192), "{known:?}");
    world.let_go("relay");
    assert_eq!(world.wire.delivered.len(), 6_000);
    world.advance(secs(3_700));
    assert_eq!(world.wire.delivered.len(), 11_000);
}

/// design §10.6: what is read of the queue may be older than what is known; it is not believed.
#[test]
fn an_old_reading_of_the_queue_sends_nothing_twice() {
    let mut world = World::new();
    let at = world.connect(1);
    let quiet = world.logon_with(at, "default", sundown_protocol::request::LogonFlags::NO_MAIL);
    world.hold("relay", "EndMessage");
    let member = world.member(2);
    let entry = world.submit(member, "b@x");
    world.logoff(member);
    let parked = world.submit(quiet, "parked@x");
    // The queue is read from its beginning while a message is with its transport, and its answer is slow.
    world.silence("store", "GetOutgoingQueue");
    let again = world.member(3);
    world.held_go("relay");
    assert_eq!(world.state(entry), SubmissionState::Sent);
    world.let_go("store");
    world.advance(secs(100));
    assert_eq!(world.wire.delivered_to("b@x"), 1);
    assert!(!world.calls_of("relay").contains(&"Recover"), "nobody asks what became of it");
    assert_eq!(world.state(parked), SubmissionState::Sent);
    world.logoff(again);
}

/// design §10.8: a store whose queue cannot be read is asked again, at leisure.
#[test]
fn a_queue_that_cannot_be_read_is_read_later() {
    let mut world = World::new();
    let now = world.wall();
    world.store("default").leave(left(7, SubmissionState::Queued, "b@x", now));
    let code = Code::E_DISK_ERROR;
    world.store("default").failures.insert("GetOutgoingQueue", [code; 3].into());
    let _member = world.member(1);
    let asked = |world: &World| {
        world.calls_of("store").iter().filter(|call| **call == "GetOutgoingQueue").count()
    };
    assert_eq!(asked(&world), 1, "it does not ask in a circle");
    world.advance(secs(6));
    assert_eq!(asked(&world), 2);
    world.advance(secs(10));
    assert_eq!(world.state(entry(7)), SubmissionState::Sent);
}

/// design §7: the age and waits of a profile are its own.
#[test]
fn profiles_have_their_own_policies() {
    let mut world = World::new();
    world.profile("work").queue.retry_min = secs(2);
    world.profile("work").queue.retry_max = secs(2);
    let at = world.connect(1);
    let (a, b): (Member, Member) = (world.logon(at), world.logon_to(at, "work"));
    world.script("a@x", &[Step::Says(Outcome::Later)]);
    world.script("b@x", &[Step::Says(Outcome::Later)]);
    let (slow, quick) = (world.submit(a, "a@x"), world.submit(b, "b@x"));
    world.advance(secs(3));
    assert_eq!(world.state(slow), SubmissionState::Deferred);
    assert_eq!(world.state(quick), SubmissionState::Sent);
    assert!(world.now() > Duration::ZERO);
}

fn submit_to_many(world: &mut World, member: Member, count: usize) -> EntryId {
    let addresses: Vec<_> = (0..count).map(|n| format!("a{n}@x")).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    world.try_submit(member, &addresses).expect("submitted")
}

/// A message to many is sent in many transmissions. What is written of each is about its own recipients.
#[test]
fn a_change_of_some_recipients_is_written_alone() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { recipients: 10, window: 1, ..TransportFacts::default() };
    let member = world.member(1);
    let entry = submit_to_many(&mut world, member, 1_000);
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered.len(), 1_000);
    let written = &world.store("default").written;
    assert!(written.len() >= 200, "an intent and an outcome for each transmission");
    assert!(written.iter().all(|recipients| *recipients <= 20), "{written:?}");
}

/// What a refused write was to say is said by the next one, of all recipients.
#[test]
fn a_refused_change_is_written_with_the_next() {
    let mut world = World::new();
    world.wire.facts = TransportFacts { recipients: 10, window: 1, ..TransportFacts::default() };
    let member = world.member(1);
    world.hold("relay", "EndMessage");
    let entry = submit_to_many(&mut world, member, 100);
    let failures = [Code::E_DISK_ERROR; 2];
    world.store("default").failures.insert("UpdateSubmission", failures.into());
    world.let_go("relay");
    world.advance(secs(60));
    assert_eq!(world.state(entry), SubmissionState::Sent);
    assert_eq!(world.wire.delivered.len(), 100);
}
