//! Who wants what is not theirs is refused, and that is written down.

use sundown_protocol::request::{AdviseSource, Folder, LogonFlags, Opening, Request};
use sundown_protocol::{Code, Event as News, Events, Fault, MemberId, ObjectId, SubmitKey, Token};

use super::fakes::Step;
use super::world::{Member, OWNER, World};
use crate::Stop;
use crate::settings::Right;

/// LOGON-10, design §2, §3.11: a right that somebody does not have, a handle of another process and a guessed token are
/// written down with process and user; a mistake with what is one's own, or nobody's, is not.
#[test]
fn what_is_refused_as_somebody_elses_is_written_down() {
    let mut world = World::new();
    let (owner, thief) = (world.member(1), world.member(2));
    let stranger = world.connect_as(3, 2_000);
    let fault = world.try_logon(stranger, None, LogonFlags::default()).expect_err("no right");
    assert_eq!(fault.code, Code::E_NO_ACCESS);
    let folder = world.open(owner, Opening::Folder(0, Folder::INBOX));
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

/// What a member of a user with this right is told when it asked for everything.
fn heard(right: Right, happens: fn(&mut World, Member, Member)) -> Vec<News> {
    let mut world = World::new();
    let access = if right == Right::Admin { vec![] } else { vec![(2_001, right)] };
    world.profile("default").access = access;
    let uid = if right == Right::Admin { OWNER } else { 2_001 };
    let owner = world.member(1);
    let [at, beside] = [2, 3].map(|pid| world.connect_as(pid, uid));
    let (member, beside) = (world.logon(at), world.logon(beside));
    world.advise(member, Events::all());
    happens(&mut world, owner, beside);
    world.news(member)
}

/// NOTIF-20, design §2 *rights*: what each right may hear. One that may only submit hears of its user's submissions and of the
/// end, and of no message of others; the others hear of everything that happens in their stores.
#[test]
fn each_right_hears_what_it_may() {
    type Happens = fn(&mut World, Member, Member);
    let submits: Happens = |world, owner, _| {
        world.submit(owner, "b@x");
    };
    let submits_own: Happens = |world, _, beside| {
        world.submit(beside, "b@x");
    };
    let bounces: Happens = |world, owner, _| {
        world.script("gone@x", &[Step::Refuses]);
        world.submit(owner, "gone@x");
    };
    let bounces_own: Happens = |world, _, beside| {
        world.script("gone@x", &[Step::Refuses]);
        world.submit(beside, "gone@x");
    };
    let saves: Happens = |world, owner, _| {
        let object = world.draft(owner, "x");
        let key = SubmitKey(77);
        world.call(owner.at, Request::Save { member: owner.id, object, key }).expect("saved");
    };
    let deletes: Happens = |world, owner, beside| {
        let entry = world.submit(beside, "b@x");
        world.done(owner.at, Request::Delete { member: owner.id, entry });
    };
    let leaves: Happens = |world, _, beside| drop(world.logoff(beside));
    let stops: Happens = |world, _, _| world.stop(Stop::Final);
    // What happens, and how much of it is heard with the rights submit, session and admin.
    let cells: [(&str, Happens, [&str; 3]); 8] = [
        ("another user submits", submits, ["", "created moved", "created moved"]),
        ("its user submits", submits_own, ["created moved"; 3]),
        (
            "another user's bounces",
            bounces,
            ["", "created moved created new-mail", "created moved created new-mail"],
        ),
        (
            "its user's bounces",
            bounces_own,
            ["created moved", "created moved created new-mail", "created moved created new-mail"],
        ),
        ("a draft is saved", saves, ["", "created", "created"]),
        (
            "a sent message is deleted",
            deletes,
            ["created moved", "created moved moved", "created moved moved"],
        ),
        ("a process of its user leaves", leaves, ["left"; 3]),
        ("the broker stops", stops, ["end"; 3]),
    ];
    for (name, happens, wanted) in cells {
        for (right, wanted) in [Right::Submit, Right::Session, Right::Admin].into_iter().zip(wanted)
        {
            let told: Vec<_> = heard(right, happens).iter().map(word).collect();
            assert_eq!(told.join(" "), wanted, "{name}, with {right:?}");
        }
    }
}

fn word(news: &News) -> &'static str {
    match news {
        News::Created(_) => "created",
        News::Moved(..) => "moved",
        News::Deleted(_) => "deleted",
        News::Arrived(_) => "new-mail",
        News::MemberLeft { .. } => "left",
        News::CriticalError { .. } => "end",
        other => panic!("{other:?}"),
    }
}

/// design §2 *rights*: with the right submit a member opens no table and no folder, so it hears of none.
#[test]
fn one_that_may_only_submit_hears_of_no_object() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_001, Right::Submit)];
    let at = world.connect_as(2, 2_001);
    let member = world.logon(at);
    for what in [Opening::StatusTable, Opening::AddressBook, Opening::Folder(0, Folder::OUTBOX)] {
        assert_eq!(world.try_open(member, what).expect_err("refused").code, Code::E_NO_ACCESS);
    }
    let source = AdviseSource::Object(ObjectId { place: 0, generation: 0 });
    let refused = world.try_advise(member, source, Events::all()).expect_err("refused");
    assert_eq!(refused.code, Code::E_NO_ACCESS);
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
