//! What `status` shows to whom, and in which pages.

use sundown_protocol::reply::{FromBroker, Reply, Status, SubmissionState};
use sundown_protocol::request::{Folder, LogonFlags, Opening, Request, StatusCursor};
use sundown_protocol::{Code, MemberId, RequestId, Token, codec};

use super::fakes::Step;
use super::world::{Member, OWNER, World, profile, settings};
use crate::flows::working::status::Page;
use crate::provider::Outcome;
use crate::settings::Limits;
use crate::settings::Right;
use crate::settings::Settings;

/// All pages, each of at most so many rows and bytes.
fn in_pages(world: &World, rows: usize, bytes: usize) -> Status {
    let page = |after| world.broker.status_on(Page::new(bytes, rows), OWNER, after);
    let (mut whole, mut next) = page(StatusCursor::default());
    while let Some(after) = next {
        let (status, further) = page(after);
        assert!(further.is_none_or(|further| further > after), "{after:?}, then {further:?}");
        whole.append(status);
        next = further;
    }
    whole
}

/// Three sessions with members and references, and two that could not start.
fn crowded() -> World {
    let mut world = World::new();
    for name in ["b", "c", "d", "e"] {
        world.add_profile(profile(name));
    }
    let at = world.connect(100);
    for (number, name) in ["default", "b", "c"].into_iter().enumerate() {
        for pid in 1..=3 {
            let from = world.connect(pid);
            let member = world.logon_to(from, name);
            let object = world.open(member, Opening::Folder(0, Folder::INBOX));
            for token in 0..pid {
                let token = Token(u128::from(pid * 10 + token) + 100 * number as u128);
                let grant = Request::Grant { member: member.id, object, token, pid: None };
                world.done(from, grant);
                world.call(at, Request::Redeem { token }).expect("redeemed");
            }
        }
    }
    for name in ["d", "e"] {
        let codes = [Code::E_DISK_ERROR; 4];
        world.store(name).failures.insert("Logon", codes.into());
        let logon = super::world::logon_request(Some(name), LogonFlags::default());
        assert!(world.call(at, logon).is_err());
    }
    world
}

/// All pages show what one would, each thing once, whatever fits a page: a session's members and each member's references may be on
/// several.
#[test]
fn pages_of_every_size_show_everything_once() {
    let world = crowded();
    let whole = in_pages(&world, usize::MAX, usize::MAX);
    let counts: Vec<_> =
        whole.sessions.iter().map(|s| (s.members.len(), s.references.len())).collect();
    assert_eq!(counts, [(3, 6), (3, 6), (3, 6), (0, 0), (0, 0)]);
    let rows = counts.iter().map(|(members, references)| 1 + members + references).sum::<usize>();
    for most in 1..=rows {
        assert_eq!(in_pages(&world, most, usize::MAX), whole, "pages of {most} rows");
    }
    for bytes in [0, 100, 300, 700, 1_500] {
        assert_eq!(in_pages(&world, usize::MAX, bytes), whole, "pages of {bytes} bytes");
    }
}

/// A session or a member that ends between two pages is missing, and nothing else is.
#[test]
fn what_ends_between_two_pages_is_missing_alone() {
    let mut world = World::new();
    let members: Vec<_> = (1..=4).map(|pid| world.member(pid)).collect();
    let page =
        |world: &World, after| world.broker.status_on(Page::new(usize::MAX, 3), OWNER, after);
    let ids = |status: &Status| -> Vec<MemberId> {
        status.sessions.iter().flat_map(|s| s.members.iter().map(|m| m.id)).collect()
    };
    let (mut whole, next) = page(&world, StatusCursor::default());
    assert_eq!(ids(&whole), [members[0].id, members[1].id]);
    world.logoff(members[1]);
    world.logoff(members[2]);
    let (status, next) = page(&world, next.expect("there is more"));
    assert_eq!(next, None);
    whole.append(status);
    assert_eq!(ids(&whole), [members[0].id, members[1].id, members[3].id]);
}

/// The members of one process whose program has a long name: more than a frame holds.
fn too_many_for_a_frame() -> (World, Member) {
    let mut world = World::new();
    let at = world.connect(1);
    let members: Vec<_> = (0..1_000).map(|_| world.logon(at)).collect();
    let id = world.broker.peers.processes.accounts.find(&World::key(1)).expect("it is here");
    let process = world.broker.peers.processes.get_mut(id).expect("it is here");
    process.peer.program = "\u{1F305}".repeat(255);
    (world, members[0])
}

fn fits_a_frame(reply: Reply) {
    let id = RequestId(1);
    assert!(codec::encode(&FromBroker::Answer { id, result: Ok(reply) }).is_ok(), "it fits");
}

/// However many members there are, each page fits a frame. A client of an older version is shown what fits, and that it was cut.
#[test]
fn each_page_fits_a_frame() {
    let (mut world, member) = too_many_for_a_frame();
    let (mut shown, mut pages) = (0, 0);
    let mut after = Some(StatusCursor::default());
    while let Some(from) = after {
        let reply = world.call(member.at, Request::StatusPage { after: from }).expect("a page");
        fits_a_frame(reply.clone());
        let Reply::StatusPage { status, next } = reply else { panic!("a page") };
        shown += status.sessions.iter().map(|s| s.members.len()).sum::<usize>();
        (pages, after) = (pages + 1, next);
    }
    assert!(shown == 1_000 && pages > 1, "{shown} members on {pages} pages");

    let reply = world.call(member.at, Request::Status).expect("a status");
    fits_a_frame(reply.clone());
    let Reply::Status(status) = reply else { panic!("a status") };
    let mark = status.sessions.last().and_then(|s| s.members.last()).expect("it is cut");
    assert_eq!((mark.id, &*mark.state, &*mark.peer.program), (MemberId(0), "cut", "and more"));
    let marks = |status: &Status| {
        status.sessions.iter().flat_map(|s| &s.members).filter(|m| m.state == "cut").count()
    };
    assert_eq!(marks(&status), 1);
    assert_eq!(marks(&World::new().status()), 0);
}

/// design §2 *rights*: the broker's own user sees counts of everything; an administrator of a profile those of its stores; others
/// none. None of the others sees what became final.
#[test]
fn counts_are_shown_to_users_that_may_see_them() {
    let mut world = World::new();
    world.add_profile(profile("b"));
    world.profile("default").access = vec![(7, Right::Session), (8, Right::Admin)];
    let owner = world.member(1);
    let at = world.connect(2);
    let elsewhere = world.logon_to(at, "b");
    world.script("late@x", &[Step::Says(Outcome::Later), Step::Says(Outcome::Later)]);
    for member in [owner, elsewhere] {
        world.submit(member, "late@x");
        world.submit(member, "b@x");
    }
    let seen = |world: &mut World, uid| {
        let at = world.connect_as(100 + uid, uid);
        let reply = world.call(at, Request::StatusPage { after: StatusCursor::default() });
        let Ok(Reply::StatusPage { status, .. }) = reply else { panic!("{reply:?}") };
        let Ok(Reply::Status(older)) = world.call(at, Request::Status) else { panic!("a status") };
        assert_eq!(status.queue, older.queue, "the same for clients of older versions");
        let count = |state: SubmissionState| status.queue[state as usize];
        (count(SubmissionState::Deferred), count(SubmissionState::Sent))
    };
    for (uid, wanted) in [(OWNER, (2, 2)), (0, (2, 2)), (8, (1, 0)), (7, (0, 0)), (9, (0, 0))] {
        assert_eq!(seen(&mut world, uid), wanted, "user {uid}");
    }
}

/// design §2 *rights*: a cursor that a client has made up shows nothing that its user may not see.
#[test]
fn a_cursor_opens_no_other_session() {
    let mut world = crowded();
    world.profile("default").access = vec![(7, Right::Session)];
    let at = world.connect_as(50, 7);
    let own = world.logon(at);
    let theirs = in_pages(&world, usize::MAX, usize::MAX).sessions[0].clone();
    for session in [theirs.id, own.session] {
        let member = theirs.members[0].id.0;
        let after = StatusCursor { session: session.0, member, reference: 0 };
        let reply = world.call(at, Request::StatusPage { after });
        let Ok(Reply::StatusPage { status, .. }) = reply else { panic!("{reply:?}") };
        assert!(status.sessions.iter().all(|s| s.id == own.session && s.references.is_empty()));
    }
}

/// A page costs credit like other requests. A client that has spent its credit is disconnected for it, but not for `Status`.
#[test]
fn a_page_costs_credit() {
    let limits = Limits { requests: 2, ..Limits::default() };
    let mut world = World::with(Settings { limits, ..settings() });
    let member = world.member(1);
    world.hold("store", "OpenProperty");
    let entry = sundown_protocol::EntryId { store: 1, record: 1 };
    let source = sundown_protocol::request::ReadSource::Entry(entry);
    for _ in 0..2 {
        world.ask(member.at, Request::Read { member: member.id, source, offset: 0 });
    }
    assert!(world.call(member.at, Request::Status).is_ok());
    world.ask(member.at, Request::StatusPage { after: StatusCursor::default() });
    assert_eq!(world.closed(member.at), Some(Code::E_TOO_BIG));
    world.let_all_go();
}

/// A store whose disk has failed takes nothing more: `status` says so, also when something else was wrong with it before.
#[test]
fn a_store_whose_disk_has_failed_says_so() {
    let mut world = World::new();
    let member = world.member(1);
    let status = |world: &mut World| {
        let status = world.status();
        let mut providers = status.sessions.iter().flat_map(|s| &s.providers);
        providers.find(|p| p.name == "store").expect("it is there").status.clone()
    };
    let sent = world.submit(member, "b@x");
    world.store("default").failures.insert("OpenEntry", [Code::E_CORRUPT_STORE].into());
    let _ = world.try_open(member, Opening::Message(sent));
    assert!(status(&mut world).starts_with("damaged"));
    world.store("default").disk_failed = true;
    let fault = world.try_submit(member, &["c@x"]).expect_err("it takes nothing");
    assert_eq!(fault.code, Code::E_DISK_ERROR);
    assert!(status(&mut world).starts_with("failed: "));
    world.store("default").disk_failed = false;
    world.submit(member, "d@x");
    assert!(status(&mut world).starts_with("failed: "), "until it is opened again");
}
