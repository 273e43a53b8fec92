//! Quotas of processes and of users: what is beyond them is refused with a code that says whose they are, it costs nobody
//! else, and what ends is not counted any more.

use sundown_protocol::request::{
    AdviseSource, Blob, Content, Durability, Folder, LogonFlags, Opening, Request, Submit,
};
use sundown_protocol::{Code, Events, Fault, Reply, SubmitKey, Token, UploadId, frame};

use super::world::{Member, OWNER, World, logon_request, profile, secs, settings};
use crate::peers::quota::Quota;
use crate::settings::Limits;
use crate::settings::Right;
use crate::settings::Settings;

const ANNA: u32 = 2_001;
const BEN: u32 = 2_002;

/// A broker of which two other users may use the profile.
fn shared(limits: Limits) -> World {
    let mut world = World::with(Settings { limits, ..settings() });
    let access = vec![(ANNA, Right::Session), (BEN, Right::Session)];
    world.add_profile(crate::settings::Profile { access, ..profile("default") });
    world
}

/// design §8 *quotas*: a process has so many connections; another one does not notice.
#[test]
fn a_process_has_so_many_connections() {
    let limits = Limits { process_connections: 2, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let (a, _b, c) = (world.connect(1), world.connect(1), world.connect(1));
    assert_eq!(world.closed(c), Some(Code::E_NOT_ENOUGH_RESOURCES));
    let other = world.connect(2);
    assert!(world.is_open(other));
    world.disconnect(a);
    let again = world.connect(1);
    assert!(world.is_open(again));
    world.assert_counts();
}

/// design §8 *quotas*: a user's connections are counted over all its processes. Another user, the broker's own and root get
/// in whatever that one does.
#[test]
fn a_user_has_so_many_connections() {
    let mut world = shared(Limits { user_connections: 2, ..Limits::default() });
    let first = world.connect_as(1, ANNA);
    world.connect_as(2, ANNA);
    let refused = world.connect_as(3, ANNA);
    assert_eq!(world.closed(refused), Some(Code::E_NOT_ENOUGH_RESOURCES));
    for (pid, uid) in [(4, BEN), (5, OWNER), (6, OWNER), (7, OWNER), (8, 0), (9, 0), (10, 0)] {
        let at = world.connect_as(pid, uid);
        assert!(world.is_open(at), "user {uid}");
    }
    world.disconnect(first);
    let again = world.connect_as(3, ANNA);
    assert!(world.is_open(again));
    world.assert_counts();
}

/// design §8 *quotas*: one user with many processes cannot take all sessions and objects from the others.
#[test]
fn a_user_has_so_many_members_and_objects() {
    let limits = Limits { user_members: 2, user_objects: 3, ..Limits::default() };
    let mut world = shared(limits);
    let at: Vec<_> = (1..=3).map(|pid| world.connect_as(pid, ANNA)).collect();
    let (first, second) = (world.logon(at[0]), world.logon(at[1]));
    let refused = |w: &mut World, at| w.try_logon(at, None, LogonFlags::default());
    let fault = refused(&mut world, at[2]).expect_err("beyond the quota");
    assert_eq!(fault.code, Code::E_SESSION_LIMIT);
    assert!(fault.message.contains("user_members"), "{}", fault.message);
    world.open(first, Opening::Store(0));
    world.open(first, Opening::Store(0));
    world.open(second, Opening::Store(0));
    let fault = world.try_open(second, Opening::Store(0)).expect_err("beyond the quota");
    assert_eq!(fault.code, Code::E_NOT_ENOUGH_RESOURCES, "somebody else has them too");
    assert!(fault.message.contains("user_objects"), "{}", fault.message);
    let ben = world.connect_as(4, BEN);
    let ben = world.logon(ben);
    world.open(ben, Opening::Store(0));
    // Whoever is at the end of its user's quota can leave, either way, and makes room.
    world.leave_fast(at[1]);
    world.open(first, Opening::Store(0));
    world.logoff(first);
    let third = world.logon(at[2]);
    world.open(third, Opening::Store(0));
    world.assert_counts();
    world.disconnect(at[2]);
    world.assert_counts();
}

/// design §8 *quotas*: a process has so many registrations, over all its members, and a user over all its processes.
#[test]
fn registrations_are_counted() {
    let limits = Limits { registrations: 2, user_registrations: 3, ..Limits::default() };
    let mut world = shared(limits);
    let (a, b) = (world.connect_as(1, ANNA), world.connect_as(1, ANNA));
    let (a, b) = (world.logon(a), world.logon(b));
    let first = world.advise(a, Events::NEW_MAIL);
    world.advise(b, Events::NEW_MAIL);
    let fault = |world: &mut World, member| {
        world.try_advise(member, AdviseSource::Session, Events::NEW_MAIL).expect_err("too many")
    };
    let own = fault(&mut world, a);
    assert_eq!(own.code, Code::E_BUSY);
    assert!(own.message.contains("(registrations)"), "{}", own.message);
    let other = world.connect_as(2, ANNA);
    let other = world.logon(other);
    world.advise(other, Events::NEW_MAIL);
    let all = fault(&mut world, other);
    assert_eq!(all.code, Code::E_NOT_ENOUGH_RESOURCES);
    assert!(all.message.contains("(user_registrations)"), "{}", all.message);
    world.done(a.at, Request::Unadvise { member: a.id, advise: first });
    world.advise(other, Events::NEW_MAIL);
    world.logoff(other);
    world.advise(a, Events::NEW_MAIL);
    world.assert_counts();
}

/// design §1, §8 *quotas*: bytes of requests are counted over all connections of a process and all processes of a user; what
/// ends things is free, and an answer gives the bytes back.
#[test]
fn bytes_of_requests_are_counted_over_connections() {
    let limits = Limits {
        process_request_bytes: 1_000,
        user_request_bytes: 1_500,
        requests: 100,
        ..Limits::default()
    };
    let mut world = shared(limits);
    let members: Vec<_> = [(1, ANNA), (1, ANNA), (2, ANNA), (3, BEN)]
        .map(|(pid, uid)| {
            let at = world.connect_as(pid, uid);
            world.logon(at)
        })
        .into();
    world.hold("store", "*");
    let ask = |world: &mut World, of: usize, upload| {
        let piece = Request::Upload {
            member: members[of].id,
            store: 0,
            upload: sundown_protocol::UploadId(upload),
            bytes: Blob(vec![b'x']),
        };
        world.ask_with(members[of].at, piece, 600)
    };
    let first = ask(&mut world, 0, 1);
    let code = |world: &mut World, of: usize, id| {
        world.answer(members[of].at, id).map(|a| a.expect_err("refused").code)
    };
    let second = ask(&mut world, 1, 2);
    assert_eq!(code(&mut world, 1, second), Some(Code::E_BUSY), "the process' own quota");
    let third = ask(&mut world, 2, 3);
    assert_eq!(code(&mut world, 2, third), None, "it waits for the store");
    let ben = ask(&mut world, 3, 4);
    assert_eq!(code(&mut world, 3, ben), None, "another user does not notice");
    let fourth = ask(&mut world, 2, 5);
    assert!(code(&mut world, 2, fourth).is_some());
    world.let_all_go();
    assert!(world.answer(members[0].at, first).expect("answered").is_ok());
    let fifth = ask(&mut world, 1, 6);
    world.let_all_go();
    assert!(world.answer(members[1].at, fifth).expect("answered").is_ok(), "there is room again");
    world.assert_counts();
    for member in members {
        world.logoff(member);
    }
    world.assert_counts();
}

/// `status` shows every limit under its key, with what the one uses who uses most; users whom a quota does not bind are
/// not counted for it.
#[test]
fn every_quota_is_shown_with_what_is_used() {
    let mut world = shared(Limits::default());
    let (owner, anna) = (world.connect(1), world.connect_as(2, ANNA));
    let owner = world.logon(owner);
    let anna = world.logon(anna);
    world.open(owner, Opening::Store(0));
    world.open(owner, Opening::Store(0));
    world.open(anna, Opening::Store(0));
    let used = |name: &str| {
        let limits = world.broker.broker_status().limits;
        limits.into_iter().find(|l| l.name == name).expect("it is shown").used
    };
    assert_eq!((used("objects"), used("user_objects")), (Some(2), Some(1)));
    assert_eq!((used("members"), used("user_members")), (Some(1), Some(1)));
    assert_eq!((used("process_connections"), used("user_connections")), (Some(1), Some(1)));
    for what in Quota::ALL {
        used(what.of_process(&Limits::default()).0);
        used(what.of_user(&Limits::default()).0);
    }
}

/// A draft is paid for as long as it is in memory, and not only until its request is answered: until it is saved, released, thrown
/// away by a logoff, or kept by the store for a program that has died.
#[test]
fn drafts_are_paid_for_while_they_are_there() {
    let limits = Limits { process_draft_bytes: 100, user_draft_bytes: 150, ..Limits::default() };
    let mut world = shared(limits);
    let keeps_the_session = world.connect_as(9, ANNA);
    world.logon(keeps_the_session);
    let at = world.connect_as(1, ANNA);
    let member = world.logon(at);
    let draft = |bytes: usize, member: Member| Request::Draft {
        member: member.id,
        store: 0,
        content: Content::Inline(Blob(vec![b'x'; bytes])),
    };
    let first = world.draft(member, &"x".repeat(60));
    assert_eq!(world.refused(at, draft(41, member)), Code::E_BUSY);
    let second = world.draft(member, &"x".repeat(40));
    // Another process of the user has what is left of the user's.
    let other = world.connect_as(2, ANNA);
    let other = world.logon(other);
    assert_eq!(world.refused(other.at, draft(51, other)), Code::E_NOT_ENOUGH_RESOURCES);
    world.draft(other, &"x".repeat(50));
    // A save has a copy on its way.
    let save = |object| Request::Save { member: member.id, object, key: SubmitKey(1) };
    assert_eq!(world.refused(at, save(second)), Code::E_BUSY);
    world.done(at, Request::Release { member: member.id, object: first });
    world.logoff(other);
    world.assert_counts();
    world.hold("store", "SaveChanges");
    let saves: Vec<_> = (0..2).map(|_| world.ask(at, save(second))).collect();
    assert!(world.answer(at, saves[1]).expect("refused").is_err(), "two copies are too much");
    world.assert_counts();
    world.let_go("store");
    assert!(world.answer(at, saves[0]).expect("saved").is_ok());
    world.assert_counts();
    world.draft(member, &"x".repeat(100));
    world.assert_counts();
    // A program that dies has its draft kept; until that is done its user pays.
    world.hold("store", "SaveChanges");
    world.disconnect(at);
    let again = world.connect_as(3, ANNA);
    let again = world.logon(again);
    assert_eq!(world.refused(again.at, draft(51, again)), Code::E_NOT_ENOUGH_RESOURCES);
    world.assert_counts();
    world.let_go("store");
    world.draft(again, &"x".repeat(100));
    world.assert_counts();
    world.leave_fast(again.at);
    world.assert_counts();
}

/// What a connection handed over is paid for until a provider has answered, whether the connection is there or not: who logs on,
/// hands over, hangs up and comes again as another process does not get further than who stays.
#[test]
fn what_is_left_behind_is_paid_for() {
    let mut world = shared(Limits { user_request_bytes: 350, ..Limits::default() });
    let keeps_the_session = world.connect_as(9, ANNA);
    world.logon(keeps_the_session);
    let ben = world.connect_as(5, BEN);
    let ben = world.logon(ben);
    world.hold("store", "SubmitMessage");
    for pid in 1..=3 {
        let at = world.connect_as(pid, ANNA);
        let member = world.logon(at);
        let submit = world.submit_request(member, &["b@x"]);
        world.ask(at, Request::Submit(submit));
        world.disconnect(at);
        world.assert_counts();
    }
    let at = world.connect_as(4, ANNA);
    let fault = world.try_logon(at, None, LogonFlags::default()).expect_err("three wait");
    assert_eq!(fault.code, Code::E_NOT_ENOUGH_RESOURCES);
    assert!(fault.message.contains("(user_request_bytes)"), "{}", fault.message);
    world.open(ben, Opening::StatusTable);
    world.let_go("store");
    world.logon(at);
    world.assert_counts();
    assert_eq!(world.store("default").submissions.len(), 3, "nothing of it was dropped");
}

/// What was uploaded is paid for until it is a message, or is gone: by a submit, a save, a release, a failure, an end.
#[test]
fn uploads_are_paid_for_until_they_are_used() {
    let limits = Limits { process_upload_bytes: 100, user_upload_bytes: 150, ..Limits::default() };
    let mut world = shared(limits);
    let keeps_the_session = world.connect_as(9, ANNA);
    world.logon(keeps_the_session);
    let at = world.connect_as(1, ANNA);
    let member = world.logon(at);
    let piece = |member: Member, n, bytes: usize| Request::Upload {
        member: member.id,
        store: 0,
        upload: UploadId(n),
        bytes: Blob(vec![b'x'; bytes]),
    };
    world.done(at, piece(member, 1, 60));
    assert_eq!(world.refused(at, piece(member, 7, 41)), Code::E_BUSY);
    world.done(at, piece(member, 2, 40));
    let other = world.connect_as(2, ANNA);
    let other = world.logon(other);
    assert_eq!(world.refused(other.at, piece(other, 1, 51)), Code::E_NOT_ENOUGH_RESOURCES);
    world.assert_counts();
    let submit = world.submit_request(member, &["b@x"]);
    let content = Content::Uploaded(UploadId(1));
    assert!(world.call(at, Request::Submit(Submit { content, ..submit })).is_ok());
    world.done(at, piece(member, 3, 60));
    world.assert_counts();
    // In a draft it is still to become something.
    let content = Content::Uploaded(UploadId(2));
    let draft = Request::Draft { member: member.id, store: 0, content };
    let Ok(Reply::Opened(draft)) = world.call(at, draft) else { panic!("no draft") };
    assert_eq!(world.refused(at, piece(member, 4, 1)), Code::E_BUSY);
    world.done(at, Request::Release { member: member.id, object: draft });
    world.done(at, piece(member, 5, 40));
    world.assert_counts();
    world.disconnect(at);
    world.assert_counts();
    world.done(other.at, piece(other, 2, 100));
    world.leave_fast(other.at);
    world.assert_counts();
}

/// A deferred submit is answered before it is stored. Until then its user pays for it, however often a process comes again.
#[test]
fn deferred_submits_are_paid_for_until_they_are_stored() {
    let mut world = shared(Limits { user_request_bytes: 350, ..Limits::default() });
    let keeps_the_session = world.connect_as(9, ANNA);
    world.logon(keeps_the_session);
    world.hold("store", "SubmitMessage");
    for pid in 1..=3 {
        let at = world.connect_as(pid, ANNA);
        let member = world.logon(at);
        let submit = world.submit_request(member, &["b@x"]);
        let submit = Submit { when: Durability::Deferred, ..submit };
        assert!(world.call(at, Request::Submit(submit)).is_ok(), "it is answered at once");
        world.disconnect(at);
        world.assert_counts();
    }
    let at = world.connect_as(4, ANNA);
    let fault = world.try_logon(at, None, LogonFlags::default()).expect_err("three wait");
    assert_eq!(fault.code, Code::E_NOT_ENOUGH_RESOURCES);
    world.let_go("store");
    world.logon(at);
    world.assert_counts();
    assert_eq!(world.store("default").submissions.len(), 3, "nothing of it was dropped");
}

/// An upload of one member, and what must become of it.
struct Broken {
    world: World,
    member: Member,
}

impl Broken {
    fn new() -> Self {
        let limits =
            Limits { process_upload_bytes: 100, process_request_bytes: 600, ..Limits::default() };
        let mut world = shared(limits);
        let at = world.connect_as(1, ANNA);
        let member = world.logon(at);
        Self { world, member }
    }

    fn piece(&self, store: u16, bytes: usize) -> Request {
        let (upload, bytes) = (UploadId(1), Blob(vec![b'x'; bytes]));
        Request::Upload { member: self.member.id, store, upload, bytes }
    }

    /// Nothing is appended to it any more, and it begins no other body.
    fn ends(mut self) {
        let (at, piece) = (self.member.at, self.piece(0, 10));
        assert_eq!(self.world.refused(at, piece), Code::E_INVALID_PARAMETER);
        let submit = self.world.submit_request(self.member, &["b@x"]);
        let submit = Submit { content: Content::Uploaded(UploadId(1)), ..submit };
        assert_eq!(self.world.refused(at, Request::Submit(submit)), Code::E_INVALID_PARAMETER);
        assert!(self.world.store("default").uploads.is_empty(), "what is left is discarded");
        self.world.assert_counts();
    }
}

/// A piece that is refused, for whatever reason, ends its upload like one that fails: what comes behind it is not appended, and does not
/// begin another body. It may be the first piece or a later one.
#[test]
fn a_refused_piece_leaves_no_hole() {
    let refusals: [(u16, usize, Code); 3] = [
        (0, 101, Code::E_BUSY),
        (9, 10, Code::E_NOT_FOUND),
        (0, frame::MAX_BLOB + 1, Code::E_TOO_BIG),
    ];
    for (earlier, (store, bytes, code)) in [0, 1].into_iter().flat_map(|n| refusals.map(|r| (n, r)))
    {
        let mut broken = Broken::new();
        let at = broken.member.at;
        for _ in 0..earlier {
            let piece = broken.piece(0, 10);
            broken.world.done(at, piece);
        }
        let piece = broken.piece(store, bytes);
        assert_eq!(broken.world.refused(at, piece), code);
        broken.ends();
    }
}

/// The same where the process has too many unanswered bytes.
#[test]
fn a_piece_beyond_the_unanswered_bytes_leaves_no_hole() {
    let mut broken = Broken::new();
    let at = broken.member.at;
    broken.world.hold("store", "Append");
    let pieces = [300, 400, 100].map(|cost| {
        let piece = broken.piece(0, 10);
        broken.world.ask_with(at, piece, cost)
    });
    let code = |broken: &mut Broken, id| {
        broken.world.answer(at, id).map(|answer| answer.map_err(|fault| fault.code))
    };
    assert_eq!(code(&mut broken, pieces[1]), Some(Err(Code::E_BUSY)));
    assert_eq!(code(&mut broken, pieces[2]), Some(Err(Code::E_INVALID_PARAMETER)));
    broken.world.let_go("store");
    assert!(code(&mut broken, pieces[0]).is_some());
    broken.ends();
}

/// The same while a Do of the process is on its way: pieces in front of the one that is refused, and behind it, wait for that.
#[test]
fn a_piece_that_is_refused_beside_a_do_leaves_no_hole() {
    let mut broken = Broken::new();
    let at = broken.member.at;
    let world = &mut broken.world;
    assert_eq!(world.query(at), Ok(Reply::Done));
    world.store("default").failures.insert("DoFastShutdown", [Code::E_DISK_ERROR].into());
    world.hold("store", "DoFastShutdown");
    let leaves = world.ask(at, Request::DoFastShutdown { remembered: false });
    let pieces = [300, 400, 100].map(|cost| {
        let piece = broken.piece(0, 10);
        broken.world.ask_with(at, piece, cost)
    });
    let refused = broken.world.answer(at, pieces[1]).expect("refused at once");
    assert_eq!(refused.expect_err("too much waits").code, Code::E_BUSY);
    broken.world.let_all_go();
    assert!(broken.world.answer(at, leaves).expect("answered").is_err(), "it goes on");
    for piece in [pieces[0], pieces[2]] {
        let answer = broken.world.answer(at, piece).expect("answered");
        assert_eq!(answer.expect_err("of a broken upload").code, Code::E_INVALID_PARAMETER);
    }
    broken.ends();
}

/// Everybody leaves, and nothing counts any more.
fn leaves_nothing(mut world: World) {
    world.assert_counts();
    world.everybody_leaves();
    world.advance(secs(60));
    world.assert_empty();
}

/// What a process may have of one thing: how its limit is set, and how it asks for one more.
struct Bound {
    key: &'static str,
    limits: fn(&mut Limits, usize),
    more: fn(&mut World, Member) -> Result<Reply, Fault>,
}

/// One more of each thing that a process holds, in turn with its limit of a process or of a user.
const BOUNDS: [Bound; 6] = [
    Bound {
        key: "objects",
        limits: |limits, most| limits.objects = most,
        more: |world, of| world.try_open(of, Opening::Store(0)).map(Reply::Opened),
    },
    Bound {
        key: "registrations",
        limits: |limits, most| limits.registrations = most,
        more: |world, of| {
            let source = AdviseSource::Session;
            world.try_advise(of, source, Events::NEW_MAIL).map(Reply::Advised)
        },
    },
    Bound {
        key: "members",
        limits: |limits, most| limits.members = most,
        more: |world, of| world.try_logon(of.at, None, LogonFlags::default()).map(Reply::LoggedOn),
    },
    Bound {
        key: "process_draft_bytes",
        limits: |limits, most| limits.process_draft_bytes = most * 10,
        more: |world, of| {
            let content = Content::Inline(Blob(vec![b'x'; 10]));
            world.call(of.at, Request::Draft { member: of.id, store: 0, content })
        },
    },
    Bound {
        key: "process_upload_bytes",
        limits: |limits, most| limits.process_upload_bytes = most * 10,
        more: |world, of| {
            let (upload, bytes) = (UploadId(world.worked as u32), Blob(vec![b'x'; 10]));
            world.call(of.at, Request::Upload { member: of.id, store: 0, upload, bytes })
        },
    },
    Bound {
        key: "grants",
        limits: |limits, most| limits.grants = most,
        more: |world, of| {
            let token = Token(u128::from(world.worked));
            let object = world.open(of, Opening::Folder(0, Folder::INBOX));
            world.call(of.at, Request::Grant { member: of.id, object, token, pid: None })
        },
    },
];

/// design §1, §8 *quotas*: an image is a name that the client chooses. However many a process has, what they hold counts for the
/// one process that the kernel knows; another process has its own, and what an image gives back the others have.
#[test]
fn images_of_a_process_share_its_quotas() {
    for Bound { key, limits, more } in BOUNDS {
        let mut bounds = Limits::default();
        limits(&mut bounds, 5);
        let mut world = shared(bounds);
        let images: Vec<_> = (0..4)
            .map(|image| {
                let at = world.connect_image((1, image), ANNA);
                world.logon(at)
            })
            .collect();
        let other = world.connect_as(2, ANNA);
        let other = world.logon(other);
        let refused = (0..10).find_map(|n| more(&mut world, images[n % 4]).err().map(|e| (n, e)));
        let (had, fault) = refused.expect("it ends");
        assert_eq!(had, if key == "members" { 1 } else { 5 }, "{key}");
        assert!(fault.message.contains(&format!("({key})")), "{key}: {}", fault.message);
        assert!(more(&mut world, images[3]).is_err(), "no image has one more of {key}");
        assert!(more(&mut world, other).is_ok(), "another process has {key}");
        world.assert_counts();
        world.logoff(images[0]);
        assert!(more(&mut world, images[3]).is_ok(), "{key} of an image that left are free");
        world.assert_counts();
        leaves_nothing(world);
    }
}

/// The same of connections, over all images.
#[test]
fn images_of_a_process_share_its_connections() {
    let mut world = shared(Limits { process_connections: 2, ..Limits::default() });
    let images = [0, 1, 2].map(|image| world.connect_image((1, image), ANNA));
    assert_eq!(images.map(|at| world.is_open(at)), [true, true, false]);
    let other = world.connect_as(2, ANNA);
    assert!(world.is_open(other));
    world.disconnect(images[0]);
    let again = world.connect_image((1, 3), ANNA);
    assert!(world.is_open(again));
    leaves_nothing(world);
}

/// What a process has left behind stays on its account: it does not get further by hanging up and coming again, as the same image
/// or as another.
#[test]
fn what_is_left_behind_counts_for_the_process() {
    let mut world = World::with(Settings {
        limits: Limits { process_request_bytes: 250, ..Limits::default() },
        ..settings()
    });
    let keeps_the_session = world.connect(9);
    world.logon(keeps_the_session);
    world.hold("store", "SubmitMessage");
    for image in 0..2 {
        let at = world.connect_image((1, image), OWNER);
        let member = world.logon(at);
        let submit = world.submit_request(member, &["b@x"]);
        world.ask(at, Request::Submit(submit));
        world.disconnect(at);
        world.assert_counts();
    }
    for image in [1, 2] {
        let at = world.connect_image((1, image), OWNER);
        let fault = world.try_logon(at, None, LogonFlags::default()).expect_err("two wait");
        assert!(fault.message.contains("(process_request_bytes)"), "{}", fault.message);
        world.disconnect(at);
    }
    let other = world.connect(2);
    world.logon(other);
    world.let_go("store");
    let at = world.connect_image((1, 3), OWNER);
    world.logon(at);
    leaves_nothing(world);
}

/// What images of a process submitted deferred waits in memory together: beyond the bound they wait for the store.
#[test]
fn images_of_a_process_share_what_they_may_defer() {
    let mut world = shared(Limits { request_bytes: 250, ..Limits::default() });
    let members = [0, 1, 2].map(|image| {
        let at = world.connect_image((1, image), ANNA);
        world.logon(at)
    });
    world.hold("store", "SubmitMessage");
    let asked = members.map(|member| {
        let submit = world.submit_request(member, &["b@x"]);
        let submit = Submit { when: Durability::Deferred, ..submit };
        world.ask(member.at, Request::Submit(submit))
    });
    let answered = |world: &mut World, n: usize| world.answer(members[n].at, asked[n]).is_some();
    assert_eq!([0, 1, 2].map(|n| answered(&mut world, n)), [true, true, false]);
    world.let_go("store");
    assert!(answered(&mut world, 2));
    leaves_nothing(world);
}

/// A user's grants count over all its processes, until they are redeemed, revoked, or their granter is gone.
#[test]
fn grants_are_counted() {
    let mut world = shared(Limits { user_grants: 2, ..Limits::default() });
    let members = [1, 2].map(|pid| {
        let at = world.connect_as(pid, ANNA);
        world.logon(at)
    });
    let grant = |world: &mut World, of: usize, token| {
        let object = world.open(members[of], Opening::Folder(0, Folder::INBOX));
        let Member { at, id: member, .. } = members[of];
        world.call(at, Request::Grant { member, object, token: Token(token), pid: None })
    };
    assert!(grant(&mut world, 0, 1).is_ok() && grant(&mut world, 1, 2).is_ok());
    let fault = grant(&mut world, 0, 3).expect_err("beyond the quota");
    assert_eq!(fault.code, Code::E_NOT_ENOUGH_RESOURCES);
    assert!(fault.message.contains("(user_grants)"), "{}", fault.message);
    assert!(world.call(members[1].at, Request::Redeem { token: Token(1) }).is_ok());
    world.assert_counts();
    assert!(grant(&mut world, 0, 3).is_ok());
    let revoke = Request::Revoke { member: members[0].id, token: Token(3) };
    world.done(members[0].at, revoke);
    assert!(grant(&mut world, 0, 4).is_ok());
    world.advance(secs(61));
    world.assert_counts();
    assert!(grant(&mut world, 0, 5).is_ok() && grant(&mut world, 1, 6).is_ok());
    world.logoff(members[1]);
    world.assert_counts();
    assert!(grant(&mut world, 0, 7).is_ok());
    leaves_nothing(world);
}

/// SEED-12, design §8 *quotas*: what must be remembered of an image for the life of its process counts as a connection, so that a
/// process cannot have more of it by naming more images, and a user not by having more processes. Who is remembered comes back.
#[test]
fn what_is_remembered_of_images_counts() {
    let limits = Limits { process_connections: 3, user_connections: 5, ..Limits::default() };
    let mut world = shared(limits);
    let asks_and_goes = |world: &mut World, pid, image| {
        let at = world.connect_image((pid, image), ANNA);
        if !world.is_open(at) {
            return Err(world.why_closed(at).message);
        }
        assert_eq!(world.query(at), Ok(Reply::Done));
        world.disconnect(at);
        world.assert_counts();
        Ok(())
    };
    for image in 0..3 {
        assert_eq!(asks_and_goes(&mut world, 1, image), Ok(()));
    }
    let refused = asks_and_goes(&mut world, 1, 3).expect_err("three are remembered");
    assert!(refused.contains("(process_connections)"), "{refused}");
    assert_eq!(asks_and_goes(&mut world, 1, 0), Ok(()), "it is known");
    for pid in 2..4 {
        assert_eq!(asks_and_goes(&mut world, pid, 0), Ok(()));
    }
    let refused = asks_and_goes(&mut world, 4, 0).expect_err("five are remembered");
    assert!(refused.contains("(user_connections)"), "{refused}");
    let ben = world.connect_as(5, BEN);
    assert!(world.is_open(ben));
    world.end_process(1);
    assert_eq!(asks_and_goes(&mut world, 4, 0), Ok(()), "its process has ended");
    leaves_nothing(world);
}

/// SEED-15: the host of a process that is away is remembered, however many images another process names, and other processes a user
/// has.
#[test]
fn images_cost_no_other_process_its_host() {
    let mut world = shared(Limits::default());
    let ticket = || Request::Ticket { shown: None };
    let comes_and_goes = |world: &mut World, at| {
        assert!(world.call(at, ticket()).is_ok());
        world.disconnect(at);
    };
    for (pid, uid) in [(1, BEN), (2, ANNA)] {
        let host = world.connect_with(pid, uid, [1; 16]);
        comes_and_goes(&mut world, host);
    }
    for image in 0..=255 {
        for pid in [3, 4] {
            let at = world.connect_image((pid, image), ANNA);
            comes_and_goes(&mut world, at);
        }
    }
    for (pid, uid) in [(1, BEN), (2, ANNA)] {
        let add_in = world.connect_with(pid, uid, [2; 16]);
        assert_eq!(world.query(add_in).expect_err("it is no host").code, Code::E_NO_ACCESS);
    }
    leaves_nothing(world);
}

/// design §8 *quotas*: a private session costs threads. One counts from its logon until it is closed, for the process, its user and
/// the broker; a shared one for its user and the broker.
#[test]
fn sessions_are_counted_until_they_are_closed() {
    let limits = Limits { process_sessions: 2, user_sessions: 3, sessions: 4, ..Limits::default() };
    let mut world = shared(limits);
    let private = |world: &mut World, at| {
        world.try_logon(at, None, LogonFlags::NEW_SESSION).map(|on| (on.member, on.session))
    };
    let at = [0, 1].map(|image| world.connect_image((1, image), ANNA));
    let (first, session) = private(&mut world, at[0]).expect("the first");
    private(&mut world, at[1]).expect("the second");
    let fault = private(&mut world, at[0]).expect_err("two are its limit");
    assert_eq!(fault.code, Code::E_SESSION_LIMIT);
    assert!(fault.message.contains("(process_sessions)"), "{}", fault.message);
    // The shared one is the user's, and joining it costs nothing.
    let shared = world.logon(at[0]);
    let other = world.connect_as(2, ANNA);
    world.logon(other);
    let fault = private(&mut world, other).expect_err("three are the user's limit");
    assert_eq!(fault.code, Code::E_SESSION_LIMIT);
    assert!(fault.message.contains("(user_sessions)"), "{}", fault.message);
    let ben = world.connect_as(3, BEN);
    world.logon(ben);
    let fault = private(&mut world, ben).expect_err("four are the broker's limit");
    assert_eq!(fault.code, Code::E_NOT_ENOUGH_RESOURCES);
    assert!(fault.message.contains("(sessions)"), "{}", fault.message);
    world.assert_counts();
    // It counts until its providers have logged off.
    world.hold("relay", "Logoff");
    world.logoff(Member { at: at[0], id: first, session });
    assert!(private(&mut world, at[0]).is_err(), "its threads are there");
    world.let_go("relay");
    world.settle();
    private(&mut world, at[0]).expect("there is room again");
    world.logoff(shared);
    leaves_nothing(world);
}

/// Logons that are sent at once, before the first is answered, get no further than one after the other, nor do their threads; a
/// client that hangs up meanwhile goes on paying, and one that is refused does not.
#[test]
fn logons_under_way_are_counted() {
    for flags in [LogonFlags::NEW_SESSION, LogonFlags::default()] {
        let mut world = shared(Limits { members: 3, ..Limits::default() });
        world.hold_profiles = true;
        let at = [0, 1].map(|image| world.connect_image((1, image), ANNA));
        let asked: Vec<_> =
            (0..5).map(|n| (at[n % 2], world.ask(at[n % 2], logon_request(None, flags)))).collect();
        let refused = |world: &mut World| {
            let refused = asked.iter().filter_map(|(at, id)| world.answer(*at, *id));
            refused.map(|answer| answer.expect_err("no profile is read").code).collect::<Vec<_>>()
        };
        assert_eq!(refused(&mut world), [Code::E_SESSION_LIMIT; 2], "{flags:?}");
        world.assert_counts();
        world.disconnect(at[0]);
        let again = world.connect_image((1, 2), ANNA);
        let more = world.ask(again, logon_request(None, flags));
        assert!(world.answer(again, more).expect("refused").is_err(), "three are under way");
        world.assert_counts();
        world.hold_profiles = false;
        world.settle();
        world.logon_with(again, "default", flags);
        leaves_nothing(world);
    }
}

/// A process that is gone is remembered for what is on its way into a store. When that is stored, its end is awaited no more: what tells of
/// it, a descriptor, is let go.
#[test]
fn a_process_that_left_something_behind_is_forgotten_when_it_is_stored() {
    let mut world = shared(Limits::default());
    let at = world.connect_as(1, ANNA);
    let member = world.logon(at);
    let content = Content::Inline(Blob(vec![b'x'; 100]));
    let draft = Request::Draft { member: member.id, store: 0, content };
    world.call(at, draft).expect("a draft");
    world.hold("store", "SaveChanges");
    world.disconnect(at);
    world.assert_counts();
    let key = World::key(1);
    assert!(world.broker.remembers(&key), "its draft is on the way");
    world.let_go("store");
    assert!(!world.broker.remembers(&key));
    world.assert_counts();
}
