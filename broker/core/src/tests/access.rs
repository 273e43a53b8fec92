//! Who wants what is not theirs is refused, and that is written down.

use sundown_protocol::request::{Folder, LogonFlags, Opening, Request};
use sundown_protocol::{Code, Fault, MemberId, ObjectId, Token};

use super::world::{OWNER, World};

/// LOGON-10, design §2, §3.11: a right that somebody does not have, a handle of another process and a guessed token are
/// written down with process and user; a mistake with what is one's own, or nobody's, is not.
#[test]
fn what_is_refused_as_somebody_elses_is_written_down() {
    let mut world = World::new();
    let (owner, thief) = (world.member(1), world.member(2));
    let stranger = world.connect_as(3, 2_000);
    let fault = world.try_logon(stranger, None, LogonFlags::default()).expect_err("no right");
    assert_eq!(fault.code, Code::E_NO_ACCESS);
    let folder = world.open(owner, Opening::Folder(0, Folder::Inbox));
    let stolen = Request::List { member: owner.id, object: folder, after: 0, limit: 9 };
    assert_eq!(world.refused(thief.at, stolen), Code::E_INVALID_OBJECT);
    assert_eq!(world.refused(thief.at, Request::Redeem { token: Token(7) }), Code::E_NOT_FOUND);
    let written = [
        (3, 2_000, Code::E_NO_ACCESS),
        (2, OWNER, Code::E_INVALID_OBJECT),
        (2, OWNER, Code::E_NOT_FOUND),
    ];
    assert_eq!(world.refusals, written);
    let sibling = world.connect(1);
    world.refused(sibling, Request::Flush { member: owner.id });
    let none = ObjectId { place: 99, generation: 0 };
    world.refused(owner.at, Request::Release { member: owner.id, object: none });
    world.refused(thief.at, Request::Flush { member: MemberId(u64::MAX) });
    assert_eq!(world.refusals, written);
}

/// design §2 *process*: another process that got the number of one that has left is another process. What the first was told
/// and did is not the second's, and the second's handles are its own.
#[test]
fn a_number_that_is_used_again_is_another_process() {
    let mut world = World::new();
    let first = world.member(7);
    world.query(first.at).expect("yes");
    world.leave_fast(first.at);
    world.refused(first.at, Request::Flush { member: first.id });
    let later = world.connect_again(7);
    let later = world.logon(later);
    world.open(later, Opening::Store(0));
    let old = Request::Flush { member: first.id };
    assert_eq!(world.refused(later.at, old), Code::E_INVALID_OBJECT);
    // The end of the first is not the end of the second.
    world.end_process(7);
    assert!(world.is_open(later.at));
    world.open(later, Opening::Store(0));
}

/// LOGON-10: what is wrong with a profile's file, and which profiles there are, is told to those who may use every profile, and to no
/// other user.
#[test]
fn what_is_wrong_with_a_profile_is_not_told_to_every_user() {
    let mut world = World::new();
    let why = Fault::new(Code::E_UNCONFIGURED, "/etc/profiles/wrong.toml, line 3: password = …");
    world.wrong_profiles.insert("wrong".into(), why.clone());
    for (pid, uid, informed) in [(1, OWNER, true), (2, 0, true), (3, 2_000, false)] {
        let at = world.connect_as(pid, uid);
        for (profile, code) in [("wrong", why.code), ("other", Code::E_NOT_FOUND)] {
            let fault = world.try_logon(at, Some(profile), LogonFlags::default());
            let fault = fault.expect_err("it cannot be used");
            assert_eq!(fault.code, code, "{fault}");
            assert_eq!(fault.message.contains("/etc"), informed, "{uid}: {fault}");
            assert!(fault.message.contains(profile), "{fault}");
        }
    }
    world.assert_counts();
}
