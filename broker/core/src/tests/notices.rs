//! Notifications: who is told what, and where a notification goes besides the Inbox.

use sundown_protocol::reply::SubmissionState::{Bounced, Deferred, Queued, Sent};
use sundown_protocol::request::{Folder, Notify, Request};
use sundown_protocol::{Code, EntryId};

use super::fakes::Step;
use super::world::{Member, World, secs};
use crate::Returned;
use crate::provider::{Action, Outcome};
use crate::settings::Forward;

const TO: &str = "anna@example.org";

fn forwarding(forward: Forward) -> (World, Member) {
    let mut world = World::new();
    world.profile("default").forward = forward;
    let member = world.member(1);
    (world, member)
}

fn bounce(world: &mut World, member: Member) -> EntryId {
    world.script("b@x", &[Step::Says(Outcome::Failed)]);
    let entry = world.submit(member, "b@x");
    assert_eq!(world.state(entry), Bounced);
    entry
}

/// design §3.18: a forwarded notification is a submission without a sender, which is sent like any other.
#[test]
fn a_notification_is_forwarded_as_a_message_without_a_sender() {
    let (mut world, member) = forwarding(Forward::To(TO.into()));
    bounce(&mut world, member);
    assert_eq!(world.in_folder("default", Folder::INBOX), 1, "it stays in the Inbox");
    assert_eq!(world.wire.delivered_to(TO), 1);
    let store = world.store("default");
    let forwarded: Vec<_> = store.submissions.values().filter(|s| s.from.is_empty()).collect();
    assert_eq!(forwarded.len(), 1);
    assert_eq!(forwarded[0].state(), Sent);
    assert_eq!(forwarded[0].report.notify, Notify::NEVER);
}

/// design §3.18: there is none about a notification, so nothing goes in circles; the log has it.
#[test]
fn a_forwarded_notification_that_fails_is_only_logged() {
    let (mut world, member) = forwarding(Forward::To(TO.into()));
    world.script(TO, &[Step::Says(Outcome::Failed)]);
    let entry = bounce(&mut world, member);
    world.advance(secs(100_000));
    assert_eq!(world.store("default").notices.len(), 1);
    assert_eq!(world.in_folder("default", Folder::INBOX), 1);
    let [first, second] = world.came_back[..] else { panic!("{:?}", world.came_back) };
    assert_eq!(first, (entry, Returned::Message));
    assert_eq!(second.1, Returned::Notification);
}

/// design §3.18: an alias stands for the address that notifications go to, as it does in a message.
#[test]
fn notifications_go_where_an_alias_leads() {
    let (mut world, member) = forwarding(Forward::To("root".into()));
    let target = crate::local::Target::Address(TO.into());
    world.profile("default").local.aliases.insert("root".into(), vec![target]);
    world.logoff(member);
    let member = world.member(2);
    bounce(&mut world, member);
    assert_eq!(world.wire.delivered_to(TO), 1);
}

/// design §3.18: a broken list of recipients does not fill the mailbox of who looks after the host.
#[test]
fn of_many_notifications_ten_are_forwarded_in_a_minute_and_one_message_says_so() {
    let (mut world, member) = forwarding(Forward::To(TO.into()));
    for _ in 0..15 {
        bounce(&mut world, member);
    }
    assert_eq!(world.in_folder("default", Folder::INBOX), 15);
    assert_eq!(world.wire.delivered_to(TO), 11);
    let store = world.store("default");
    let more = store.messages.values().filter(|m| m.bytes == b"there are more");
    assert_eq!(more.count(), 1);
    world.advance(secs(61));
    bounce(&mut world, member);
    assert_eq!(world.wire.delivered_to(TO), 12);
}

/// design §3.18: a program reads each notification, up to the same number in a minute.
#[test]
fn a_command_reads_notifications() {
    let command = vec!["/usr/bin/tell".to_owned(), "me".to_owned()];
    let (mut world, member) = forwarding(Forward::Command(command.clone()));
    for _ in 0..12 {
        bounce(&mut world, member);
    }
    assert_eq!(world.ran, vec![(command, b"notice".to_vec()); 10]);
    assert_eq!(world.in_folder("default", Folder::INBOX), 12);
    assert_eq!(world.store("default").submissions.len(), 12, "nothing is forwarded");
}

/// RFC 3461: who wants no report of a failure gets none, and nor does who has no address. The log has both.
#[test]
fn nobody_is_told_who_does_not_want_it() {
    let (mut world, member) = forwarding(Forward::To(TO.into()));
    for (from, notify) in
        [(None, Notify::NEVER), (None, Notify::DELAY), (Some(""), Notify::FAILURE)]
    {
        world.script("b@x", &[Step::Says(Outcome::Failed)]);
        let mut submit = world.submit_request(member, &["b@x"]);
        submit.from = from.map(str::to_owned);
        submit.report.notify = notify;
        assert!(world.call(member.at, Request::Submit(submit)).is_ok());
    }
    assert_eq!(world.in_folder("default", Folder::INBOX), 0);
    assert_eq!(world.wire.delivered_to(TO), 0);
    let what: Vec<_> = world.came_back.iter().map(|(_, what)| *what).collect();
    assert_eq!(what, [Returned::Message, Returned::Message, Returned::Notification]);
}

/// design §3.18: a notification that could not be stored is made again, and forwarded once.
#[test]
fn a_notification_is_forwarded_once_although_the_store_failed() {
    let (mut world, member) = forwarding(Forward::To(TO.into()));
    world.script("b@x", &[Step::Says(Outcome::Failed)]);
    world.hold("relay", "EndMessage");
    let entry = world.submit(member, "b@x");
    world.store("default").failures.insert("UpdateSubmission", [Code::E_DISK_ERROR; 2].into());
    world.let_go("relay");
    world.advance(secs(60));
    assert_eq!(world.state(entry), Bounced);
    assert_eq!(world.store("default").notices.len(), 1);
    assert_eq!(world.wire.delivered_to(TO), 1);
    assert_eq!(world.came_back.len(), 1);
}

/// What the store's notifications say, one after the other.
fn told(world: &mut World) -> Vec<Vec<&'static str>> {
    let word = |action: &Action| match action {
        Action::Failed => "failed",
        Action::Delayed { .. } => "delayed",
        Action::Relayed => "relayed",
        Action::Delivered => "delivered",
    };
    let actions = &world.store("default").actions;
    actions.iter().map(|actions| actions.iter().map(word).collect()).collect()
}

const HOUR: std::time::Duration = secs(3_600);

/// design §3.18: whose message is delayed for hours learns of it, once, and until when it is tried; later that it failed.
#[test]
fn a_delay_is_told_once() {
    let mut world = World::new();
    let member = world.member(1);
    world.script("b@x", &[Step::Says(Outcome::Later); 1_000]);
    let entry = world.try_submit(member, &["b@x", "c@x"]).expect("submitted");
    world.advance(HOUR * 3);
    assert_eq!(told(&mut world), [[""; 0]; 0]);
    world.advance(HOUR * 2);
    assert_eq!(told(&mut world), [["delayed"]]);
    let store = world.store("default");
    assert_eq!(store.notices[0].1, ["b@x"], "the other one has it");
    let Action::Delayed { until } = store.actions[0][0] else { panic!("{:?}", store.actions) };
    let submission = world.submission(entry);
    assert_eq!((submission.state(), submission.delay_told), (Deferred, true));
    assert_eq!(until, submission.submitted + 5 * 24 * 3_600_000);
    world.crash();
    world.apply(crate::Event::Adopt { profile: "default".into() });
    world.advance(HOUR * 24);
    assert_eq!(told(&mut world), [["delayed"]]);
    world.advance(HOUR * 24 * 5);
    assert_eq!(told(&mut world), [["delayed"], ["failed"]]);
    assert_eq!(world.state(entry), Bounced);
}

/// RFC 3461: who names occasions without DELAY is told of no delay; nor is anybody of a notification's, nor where the profile says so.
#[test]
fn nobody_is_told_of_a_delay_who_does_not_want_it() {
    for (from, notify, off) in [
        (None, Notify::FAILURE, false),
        (None, Notify::NEVER, false),
        (Some(""), Notify::default(), false),
        (None, Notify::default(), true),
    ] {
        let mut world = World::new();
        if off {
            world.profile("default").queue.delay_after = None;
        }
        let member = world.member(1);
        world.script("b@x", &[Step::Says(Outcome::Later); 1_000]);
        let mut submit = world.submit_request(member, &["b@x"]);
        submit.from = from.map(str::to_owned);
        submit.report.notify = notify;
        assert!(world.call(member.at, Request::Submit(submit)).is_ok());
        world.advance(HOUR * 24);
        assert_eq!(told(&mut world), [[""; 0]; 0], "{from:?} {notify:?} {off}");
    }
}

/// The same for messages that wait for a transport that cannot be reached, of which no try is made, however many there are.
#[test]
fn what_waits_for_a_server_is_told_to_be_delayed() {
    const MANY: usize = 20;
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entries: Vec<_> = (0..MANY).map(|n| world.submit(member, &format!("{n}@x"))).collect();
    world.advance(HOUR.saturating_mul(4).saturating_sub(secs(1)));
    assert_eq!(told(&mut world), [[""; 0]; 0]);
    let young = world.submit(member, "young@x");
    world.advance(secs(600));
    assert_eq!(told(&mut world), [["delayed"]; MANY]);
    let last = world.submission(entries[MANY - 1]);
    assert_eq!((last.state(), last.attempts), (Queued, 0));
    let why = last.recipients[0].reply.clone().expect("it says why");
    assert_eq!(why, "transport relay cannot be reached");
    world.advance(HOUR * 24);
    assert_eq!(told(&mut world), [["delayed"]; MANY + 1]);
    world.wire.broken.clear();
    world.advance(secs(301));
    for entry in entries.into_iter().chain([young]) {
        assert_eq!(world.state(entry), Sent);
    }
    assert_eq!(told(&mut world).len(), MANY + 1);
}

/// A store that fails in between makes no second notification of a delay.
#[test]
fn a_delay_is_told_once_although_the_store_failed() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    let entry = world.submit(member, "b@x");
    world.advance(HOUR.saturating_mul(4).saturating_sub(secs(1)));
    world.store("default").unknown.insert("UpdateSubmission", [Code::E_DISK_ERROR; 3].into());
    world.advance(HOUR * 2);
    assert_eq!(told(&mut world), [["delayed"]]);
    world.wire.broken.clear();
    world.advance(secs(301));
    assert_eq!(world.state(entry), Sent);
}

/// RFC 3461, 5.2.2 and 5.2.3: who wants to know of the delivery is told where a message was handed over, if the next server tells nothing; and
/// where it was put into a mailbox.
#[test]
fn success_is_told_where_nobody_else_tells_it() {
    let cases = [
        (Outcome::Sent, Notify::SUCCESS, None),
        (Outcome::Relayed, Notify::SUCCESS, Some("relayed")),
        (Outcome::Delivered, Notify::SUCCESS.with(Notify::FAILURE), Some("delivered")),
        (Outcome::Relayed, Notify::default(), None),
        (Outcome::Delivered, Notify::NEVER, None),
    ];
    for (outcome, notify, says) in cases {
        let mut world = World::new();
        let member = world.member(1);
        world.script("b@x", &[Step::Says(outcome)]);
        let mut submit = world.submit_request(member, &["b@x"]);
        submit.report.notify = notify;
        let Ok(sundown_protocol::Reply::Submitted { entry, .. }) =
            world.call(member.at, Request::Submit(submit))
        else {
            panic!("it is submitted")
        };
        assert_eq!(world.state(entry), Sent);
        let expected: Vec<_> = says.into_iter().map(|word| vec![word]).collect();
        assert_eq!(told(&mut world), expected, "{outcome:?} {notify:?}");
        assert_eq!(world.came_back.len(), 0, "nothing came back");
    }
}

/// One notification names all whom the message has not reached, also where each goes by a transmission of its own.
#[test]
fn a_delay_is_told_of_all_recipients() {
    let mut world = World::new();
    world.wire.facts.recipients = 1;
    let member = world.member(1);
    let to = ["a@x", "b@x", "c@x", "d@x"];
    for address in to {
        world.script(address, &[Step::Says(Outcome::Later); 100]);
    }
    world.try_submit(member, &to).expect("submitted");
    world.advance(HOUR * 5);
    let named: Vec<_> = world.store("default").notices.iter().map(|(_, to)| to.clone()).collect();
    assert_eq!(named, [to.map(str::to_owned).to_vec()]);
}
