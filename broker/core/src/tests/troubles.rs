//! What the log says of providers that do not work: each trouble once, whatever waits for it, and once that it is over.

use sundown_protocol::Code;
use sundown_protocol::reply::{Resource, SubmissionState};
use sundown_protocol::request::{LogonFlags, QueueAction, Request};

use super::fakes::Step;
use super::figures::{says, with_mailbox};
use super::world::{Member, World, secs};
use crate::ProviderNews::{self, Reached, Works};
use crate::Trouble::{self, Disabled, LogonRefused, Unreachable};
use crate::provider::Outcome;
use crate::settings::OnUnknown;

const MANY: usize = 40;

fn fails(trouble: Trouble) -> ProviderNews {
    ProviderNews::Fails { trouble, why: "as the script says".into() }
}

/// What the log has said of the transport since the last look.
fn said(world: &mut World) -> Vec<ProviderNews> {
    let news = std::mem::take(&mut world.provider_news);
    let of_relay = |(profile, provider, news): (String, String, ProviderNews)| {
        assert_eq!((profile.as_str(), provider.as_str()), ("default", "relay"));
        news
    };
    news.into_iter().map(of_relay).collect()
}

fn flush(world: &mut World, member: Member) {
    let flush = Request::Queue { profile: None, action: QueueAction::Flush };
    world.call(member.at, flush).expect("it is flushed");
    world.settle();
}

fn validate(world: &mut World, member: Member) -> Result<(), Code> {
    let (kind, provider) = (Resource::TransportProvider, "relay".into());
    let request = Request::ValidateState { member: member.id, kind, provider };
    world.call(member.at, request).map(drop).map_err(|fault| fault.code)
}

/// design §8: a network that is lost for a day is one line, for all messages and sessions, and its return another.
#[test]
fn a_transport_without_network_is_said_once() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    for _ in 0..MANY {
        world.submit(member, "b@x");
    }
    let at = world.connect(2);
    let other = world.logon_with(at, "default", LogonFlags::NEW_SESSION);
    world.submit(other, "b@x");
    world.advance(secs(24 * 3_600));
    assert_eq!(said(&mut world), [fails(Unreachable)]);
    world.wire.broken.clear();
    world.advance(secs(301));
    assert_eq!(said(&mut world), [Works]);
    world.submit(member, "b@x");
    assert_eq!(said(&mut world), [], "what works is not said again");
}

/// design §8: a mailbox that does not work is one line, and its return another, whatever it says meanwhile.
#[test]
fn a_mailbox_that_does_not_work_is_said_once() {
    let (mut world, _) = with_mailbox();
    says(&mut world, Ok(()));
    assert_eq!(said(&mut world), [], "what works is not said");
    for _ in 0..3 {
        says(&mut world, Err("as the script says"));
    }
    assert_eq!(said(&mut world), [fails(Unreachable)]);
    says(&mut world, Ok(()));
    assert_eq!(said(&mut world), [Works]);
}

/// design §8: a server that answers again with a word about the message is said to answer, and when it takes one nothing is left
/// to be said.
#[test]
fn a_server_that_answers_again_is_said_to() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.shut.insert("relay".into());
    world.submit(member, "b@x");
    assert_eq!(said(&mut world), [fails(Unreachable)]);
    world.wire.shut.clear();
    world.wire.broken.insert("relay".into(), Code::E_CALL_FAILED);
    world.advance(secs(301));
    assert_eq!(said(&mut world), [Reached]);
}

/// LOGON-11, design §8: a password that is refused is one line, also when the transport is disabled for it, asked by users and
/// logged on again; the message that is taken is the other.
#[test]
fn a_refused_password_is_said_once() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    for _ in 0..MANY {
        world.submit(member, "b@x");
    }
    world.advance(secs(600));
    flush(&mut world, member);
    assert_eq!(validate(&mut world, member), Err(Code::E_LOGON_FAILED));
    world.advance(secs(24 * 3_600));
    assert_eq!(said(&mut world), [fails(LogonRefused)]);
    world.wire.broken.clear();
    flush(&mut world, member);
    assert_eq!(said(&mut world), [Works]);
}

/// design §8: where the network comes back and the password is refused then, the log says both, in this order.
#[test]
fn one_trouble_follows_another() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    world.submit(member, "b@x");
    world.wire.broken.insert("relay".into(), Code::E_LOGON_FAILED);
    world.advance(secs(600));
    assert_eq!(said(&mut world), [fails(Unreachable), fails(LogonRefused), Reached]);
    world.wire.broken.clear();
    assert_eq!(validate(&mut world, member), Ok(()));
    assert_eq!(said(&mut world), [Works]);
}

/// design §8: a certificate that is not trusted is a trouble of the transport. It is `MAPI_E_NO_ACCESS`, too, and no refusal of who asked.
#[test]
fn a_certificate_that_is_not_trusted_is_no_refusal() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.shut.insert("relay".into());
    assert_eq!(validate(&mut world, member), Err(Code::E_NO_ACCESS));
    assert_eq!(validate(&mut world, member), Err(Code::E_NO_ACCESS));
    assert_eq!((said(&mut world), world.refusals.len()), (vec![fails(Unreachable)], 0));
    world.wire.shut.clear();
    assert_eq!(validate(&mut world, member), Ok(()));
    assert_eq!(said(&mut world), [Works]);
}

/// design §8: the same of every provider: a store whose file may not be written refuses nobody.
#[test]
fn an_error_of_a_store_is_no_refusal() {
    let mut world = World::new();
    let member = world.member(1);
    world.store("default").failures.insert("SubmitMessage", [Code::E_NO_ACCESS; 9].into());
    assert_eq!(world.try_submit(member, &["b@x"]).expect_err("not stored").code, Code::E_NO_ACCESS);
    assert_eq!(world.refusals, []);
}

/// LOGON-11, design §8: a transport whose logon fails is disabled, which is one line however many sessions find it out.
#[test]
fn a_transport_that_does_not_log_on_is_said_once() {
    let mut world = World::new();
    world.script("relay.Logon", &[Step::Refuses; 4]);
    let first = world.member(1);
    let at = world.connect(2);
    world.try_logon(at, None, LogonFlags::NEW_SESSION).expect("a session of its own");
    let news = said(&mut world);
    assert!(
        matches!(&news[..], [ProviderNews::Fails { trouble: Disabled | LogonRefused, .. }]),
        "{news:?}"
    );
    flush(&mut world, first);
    world.submit(first, "b@x");
    assert_eq!(said(&mut world), [Works]);
}

/// design §8: an answer about one recipient is no trouble of the transport.
#[test]
fn a_message_that_is_refused_is_no_trouble() {
    let mut world = World::new();
    let member = world.member(1);
    let steps = [Step::Says(Outcome::Later), Step::Says(Outcome::Failed)];
    world.wire.steps.insert("b@x".into(), steps.into());
    world.submit(member, "b@x");
    world.advance(secs(3_600));
    assert_eq!((said(&mut world), world.came_back.len()), (vec![], 1));
}

/// design §8: a profile whose sessions cannot start is one line, and another when one starts. Its store is not named apart.
#[test]
fn a_session_that_cannot_start_is_said_once() {
    let mut world = World::new();
    world.store("default").failures.insert("Logon", [Code::E_DISK_ERROR; 99].into());
    for pid in 1..=3 {
        let at = world.connect(pid);
        world.try_logon(at, None, LogonFlags::default()).expect_err("it cannot start");
    }
    let [(profile, Some(why))] = &world.profile_news[..] else {
        panic!("{:?}", world.profile_news)
    };
    assert_eq!(profile, "default");
    assert!(why.contains("default store"), "{why}");
    world.store("default").failures.clear();
    world.member(4);
    assert_eq!(world.profile_news[1..], [("default".to_owned(), None)]);
    assert_eq!(world.provider_news, []);
    world.member(4);
    assert_eq!(world.profile_news.len(), 2);
}

/// design §8: a message of which nobody knows whether it arrived is one line for all of its recipients: somebody must decide.
#[test]
fn a_message_whose_outcome_is_not_known_is_said() {
    let mut world = World::new();
    let member = world.member(1);
    world.wire.mute.insert("relay".into());
    let entry = world.try_submit(member, &["b@x", "c@x"]).expect("submitted");
    assert_eq!(
        (world.state(entry), &world.unknown[..]),
        (SubmissionState::Unknown, &[(entry, 2)][..])
    );
    let mut world = World::new();
    world.profile("default").queue.on_unknown = OnUnknown::Retry;
    let member = world.member(1);
    world.wire.mute.insert("relay".into());
    world.submit(member, "b@x");
    assert_eq!(world.unknown, [], "it is sent again");
}
