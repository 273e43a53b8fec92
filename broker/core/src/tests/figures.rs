//! Figures: what is counted, and what stores are asked for.

use sundown_protocol::reply::{Reply, Resource};
use sundown_protocol::request::{Folder, Request};
use sundown_protocol::{Code, SessionId};

use super::fakes::Step;
use super::world::{Member, World, mailbox, secs};
use crate::ground::event::{Event, LaneId};
use crate::provider::{News, Outcome, ProviderError, ProviderType, StoreChange};
use crate::{MailboxFigures, ProfileFigures};

/// design §2: what is there, by state; what has happened, by outcome and reason.
#[test]
fn figures_count_what_is_there_and_what_has_happened() {
    let mut world = World::new();
    let (first, second) = (world.member(1), world.member(2));
    world.script("late@x", &[Step::Says(Outcome::Later)]);
    world.submit(first, "bo@x");
    world.submit(first, "late@x");
    world.logoff(second);
    let figures = world.broker.figures();
    assert_eq!((figures.connections, figures.processes), (2, 2));
    assert_eq!((figures.sessions["active"], figures.sessions["ending"]), (1, 0));
    assert_eq!((figures.members["attached"], figures.members["draining"]), (1, 0));
    let [.., deferred, _, sent, _, _] = figures.queue;
    assert_eq!((deferred, sent), (1, 1));
    assert_eq!(figures.departures, [1, 0, 0, 0, 0]);
    assert!(!figures.stopping);
}

/// The age of the oldest message is the store's to say: it is asked when somebody looks, and not twice at once.
#[test]
fn the_oldest_message_is_asked_for() {
    let mut world = World::new();
    let member = world.member(1);
    let submitted = world.wall();
    world.script("late@x", &[Step::Says(Outcome::Later)]);
    world.submit(member, "late@x");
    assert_eq!(world.broker.figures().oldest, None);
    world.hold("store", "QueryQueue");
    world.apply(Event::Measure);
    world.apply(Event::Measure);
    world.settle();
    assert_eq!(world.waiting_calls("store"), 1);
    world.let_go("store");
    assert_eq!(world.broker.figures().oldest, Some(submitted));
    world.advance(secs(3600));
    world.settle();
    assert_eq!(world.broker.figures().oldest, None, "nothing waits any more");
}

/// design §2: what became of the messages of each profile, and of the use of each transport. It outlives the session.
#[test]
fn figures_are_kept_by_profile_and_transport() {
    let mut world = World::new();
    let member = world.member(1);
    let started = world.broker.figures();
    let before = &started.profiles["default"].transports["relay"];
    assert_eq!((before.works, before.used, before.has_session), (None, None, true));
    world.script("late@x", &[Step::Says(Outcome::Later), Step::Says(Outcome::Later)]);
    world.submit(member, "bo@x");
    let worked = world.wall();
    world.submit(member, "late@x");
    let figures = world.broker.figures().profiles.remove("default").expect("it has a store");
    let [.., deferred, _, sent, _, _] = figures.queue;
    assert_eq!((deferred, sent, figures.deferrals), (1, 1, 1));
    let smtp = &figures.transports["relay"];
    assert_eq!((smtp.works, smtp.worked, smtp.in_flight), (Some(false), Some(worked), 0));
    // Two more tries: it is deferred once more, and goes then.
    world.advance(secs(3600));
    world.settle();
    world.advance(secs(3600));
    world.settle();
    world.logoff(member);
    world.advance(secs(3600));
    world.settle();
    let figures = world.broker.figures();
    assert_eq!(figures.sessions["active"] + figures.sessions["memberless"], 0);
    let of = &figures.profiles["default"];
    let [.., deferred, _, sent, _, _] = of.queue;
    assert_eq!((deferred, sent, of.deferrals), (0, 2, 2));
    let smtp = &of.transports["relay"];
    assert_eq!((smtp.works, smtp.has_session), (Some(true), false));
    assert_eq!(of.oldest, None);
    assert!(figures.requests >= 4, "{}", figures.requests);
}

/// How much others ask is told to those who see all sessions.
#[test]
fn the_number_of_requests_is_for_those_who_see_all_sessions() {
    let mut world = World::new();
    let (owner, stranger) = (world.member(1), world.connect_as(9, 4711));
    let mut requests = |at| {
        let Ok(Reply::Health { requests, .. }) =
            world.call(at, Request::Health { after: SessionId(0) })
        else {
            panic!("a health")
        };
        requests
    };
    let first = requests(owner.at).expect("the owner sees all sessions");
    assert_eq!(requests(stranger), None);
    assert_eq!(requests(owner.at), Some(first + 2));
}

/// The lane of the first provider of this type.
pub(super) fn lane_of(world: &World, kind: ProviderType) -> LaneId {
    let mut providers = world.broker.sessions.all.values().flat_map(|session| &session.providers);
    providers.find(|provider| provider.kind == kind).expect("there is one").lane
}

/// A mailbox tells whether it works.
pub(super) fn says(world: &mut World, said: Result<(), &str>) {
    let lane = lane_of(world, ProviderType::Mailbox);
    let said = said.map_err(|why| ProviderError::new(Code::E_CALL_FAILED, why));
    world.apply(Event::MailboxSaid { lane, said });
    world.settle();
}

/// A mailbox and a transport with one name, as both have the name of their kind, and a member.
pub(super) fn with_mailbox() -> (World, Member) {
    let mut world = World::new();
    world.profile("default").mailboxes.push(mailbox("relay"));
    let member = world.member(1);
    (world, member)
}

fn of_default(world: &World) -> ProfileFigures {
    world.broker.figures().profiles.remove("default").expect("it has a store")
}

/// design §2: what comes of a mailbox is not what comes of the transport with its name.
#[test]
fn figures_tell_a_mailbox_from_the_transport_of_its_name() {
    let (mut world, member) = with_mailbox();
    let (kind, provider) = (Resource::Mailbox, "relay".into());
    world.done(member.at, Request::ValidateState { member: member.id, kind, provider });
    let works = MailboxFigures { works: true, watching: true };
    assert_eq!(of_default(&world).mailboxes["relay"], works);
    says(&mut world, Err("it is no Maildir"));
    let figures = of_default(&world);
    assert_eq!(figures.mailboxes["relay"], MailboxFigures::default());
    assert_eq!(figures.transports["relay"].used, None, "nothing was sent");
    world.submit(member, "bo@x");
    says(&mut world, Ok(()));
    // Another mailbox is no other transport.
    world.profile("default").mailboxes[0].provider.path = "/elsewhere".into();
    let profile = "default".into();
    world.call(member.at, Request::Reload { profile }).expect("it may");
    world.settle();
    let figures = of_default(&world);
    assert_eq!(figures.transports["relay"].works, Some(true));
    assert_eq!(figures.mailboxes["relay"], works);
    world.done(member.at, Request::NotifyProcessShutdown);
    world.settle();
    assert_eq!(
        of_default(&world).mailboxes["relay"],
        MailboxFigures { works: true, watching: false }
    );
}

/// design §2: what mailboxes have written is counted by profile, and so is the new mail that programs were told of.
#[test]
fn what_mailboxes_write_is_counted() {
    let (mut world, _) = with_mailbox();
    let lane = lane_of(&world, ProviderType::Store);
    let created = |record, news: Option<&str>| StoreChange::Created {
        record,
        folder: Folder::INBOX,
        news: news.map(|from| Box::new(News { from: from.into(), subject: String::new() })),
    };
    let changes = vec![created(1, Some("a@x")), created(2, None)];
    world.apply(Event::StoreChanged { lane, changes });
    let changes = vec![StoreChange::Modified { record: 1, folder: Folder::INBOX }];
    world.apply(Event::StoreChanged { lane, changes });
    let figures = of_default(&world);
    assert_eq!((figures.mirrored, figures.new_mail), (3, 1));
}
