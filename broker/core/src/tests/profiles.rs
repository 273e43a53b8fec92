//! Deleting profiles.

use sundown_protocol::reply::Deletion;
use sundown_protocol::request::{LogonFlags, Request};
use sundown_protocol::{Code, Reply};

use super::world::{World, logon_request, secs};

fn delete() -> Request {
    Request::DeleteProfile { name: "default".into() }
}

/// LOGON-17, INSTALL-11: a profile that nobody uses goes at once.
#[test]
fn a_profile_that_nobody_uses_goes_at_once() {
    let mut world = World::new();
    let at = world.connect(1);
    assert_eq!(world.call(at, delete()), Ok(Reply::ProfileDeleted(Deletion::Done)));
    assert_eq!(world.deleted, ["default"]);
}

/// LOGON-17: one in use goes when the last of its sessions has ended; until then nobody logs on to it.
#[test]
fn a_profile_in_use_goes_with_its_last_session() {
    let mut world = World::new();
    let (member, private) = (world.member(1), world.connect(2));
    let private = world.logon_with(private, "default", LogonFlags::NEW_SESSION);
    let at = world.connect(3);
    assert_eq!(world.call(at, delete()), Ok(Reply::ProfileDeleted(Deletion::WhenUnused)));
    assert_eq!(world.call(at, delete()), Ok(Reply::ProfileDeleted(Deletion::WhenUnused)));
    let refused = world.call(at, logon_request(None, LogonFlags::default()));
    assert_eq!(refused.expect_err("it is going").code, Code::E_PROFILE_DELETED);
    world.logoff(member);
    world.advance(secs(60));
    assert!(world.deleted.is_empty());
    world.logoff(private);
    world.advance(secs(60));
    assert_eq!(world.deleted, ["default"]);
    assert!(world.call(at, logon_request(None, LogonFlags::default())).is_ok(), "it is forgotten");
}

/// What is in the queue of a profile that is going still goes out.
#[test]
fn mail_of_a_profile_that_goes_is_sent() {
    let mut world = World::new();
    let member = world.member(1);
    world.hold("relay", "SubmitMessage");
    let entry = world.submit(member, "b@x");
    assert_eq!(world.call(member.at, delete()), Ok(Reply::ProfileDeleted(Deletion::WhenUnused)));
    world.logoff_shared(member);
    world.advance(secs(5));
    assert!(world.deleted.is_empty());
    world.let_go("relay");
    world.advance(secs(60));
    assert_eq!(world.state(entry), sundown_protocol::reply::SubmissionState::Sent);
    assert_eq!(world.deleted, ["default"]);
}

/// INSTALL-8: deleting is for the broker's own user.
#[test]
fn strangers_delete_nothing() {
    let mut world = World::new();
    let at = world.connect_as(1, 4711);
    let refused = world.call(at, delete()).expect_err("it is refused");
    assert_eq!(refused.code, Code::E_NO_ACCESS);
    assert!(world.deleted.is_empty());
}
