//! Notifications: who is told what, and where a notification goes besides the Inbox.

use sundown_protocol::reply::SubmissionState::{Bounced, Sent};
use sundown_protocol::request::{Folder, Notify, Request};
use sundown_protocol::{Code, EntryId};

use super::fakes::Step;
use super::world::{Member, World, secs};
use crate::Returned;
use crate::provider::Outcome;
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
    assert_eq!(world.in_folder("default", Folder::Inbox), 1, "it stays in the Inbox");
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
    assert_eq!(world.in_folder("default", Folder::Inbox), 1);
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
    assert_eq!(world.in_folder("default", Folder::Inbox), 15);
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
    assert_eq!(world.in_folder("default", Folder::Inbox), 12);
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
    assert_eq!(world.in_folder("default", Folder::Inbox), 0);
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
