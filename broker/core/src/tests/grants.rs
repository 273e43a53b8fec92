//! External references: one object of a session in another process's hands, and what becomes of it.

use sundown_protocol::notification::{EndReason, LeaveReason};
use sundown_protocol::reply::{Granted, Peer, ReferenceStatus, Reply};
use sundown_protocol::request::{
    AdviseSource, Asked, Folder, LogoffFlags, Opening, ReadSource, Request,
};
use sundown_protocol::{
    Code, Event as News, Events, Fault, FaultDetail, MemberId, ObjectId, RequestId, Token,
};

use super::world::{Heard, Member, OWNER, World, logoff_request, millis, secs, settings};
use crate::ground::event::ConnectionId;
use crate::ground::timers::Timer;
use crate::settings::Settings;
use crate::settings::SharedLogoff;
use crate::settings::Shutdown;
use crate::{Event, Stop};

/// A reference, as the test holds it.
#[derive(Debug, Clone, Copy)]
struct Reference {
    at: ConnectionId,
    member: MemberId,
    object: ObjectId,
}

impl Reference {
    fn list(&self) -> Request {
        Request::List { member: self.member, object: self.object, after: 0, limit: 9 }
    }

    fn read(&self) -> Request {
        let source = ReadSource::Object(self.object);
        Request::Read { member: self.member, source, offset: 0 }
    }

    fn release(&self) -> Request {
        Request::Release { member: self.member, object: self.object }
    }

    /// What its holder was told, as if it were a member.
    fn news(&self, world: &mut World) -> Vec<News> {
        let session = sundown_protocol::SessionId(0);
        world.news(Member { at: self.at, id: self.member, session })
    }
}

/// Where references may not be cut off.
fn kept() -> World {
    let shutdown = Shutdown { external_references: false, ..Shutdown::default() };
    World::with(Settings { shutdown, ..settings() })
}

fn grant(member: Member, object: ObjectId, token: u128) -> Request {
    Request::Grant { member: member.id, object, token: Token(token), pid: None }
}

fn redeem(world: &mut World, at: ConnectionId, token: u128) -> Result<Reference, Fault> {
    match world.call(at, Request::Redeem { token: Token(token) })? {
        Reply::Redeemed { member, object, .. } => Ok(Reference { at, member, object }),
        other => panic!("{other:?} to a redeem"),
    }
}

/// An open Inbox of a member, in the hands of a connection.
fn handed_over(world: &mut World, member: Member, to: ConnectionId, token: u128) -> Reference {
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    world.done(member.at, grant(member, folder, token));
    redeem(world, to, token).expect("it is redeemed")
}

fn lost(by: Peer) -> News {
    News::CriticalError {
        code: Code::RPC_E_DISCONNECTED,
        reason: EndReason::ReferenceLost,
        by: Some(by),
        grace: None,
    }
}

/// The reference is gone: its holder was told once, and every call says so.
fn assert_lost(world: &mut World, reference: Reference, by: &Peer) {
    assert_eq!(reference.news(world), [lost(by.clone())]);
    for request in [reference.list(), reference.read(), reference.release()] {
        assert_eq!(world.refused(reference.at, request), Code::RPC_E_DISCONNECTED);
    }
    assert_eq!(reference.news(world), []);
}

fn holders(fault: &Fault) -> &[Peer] {
    match &fault.detail {
        FaultDetail::Holders(holders) => holders,
        other => panic!("{other:?} instead of holders"),
    }
}

/// SEED-7, design §3.11: a folder or a message, without a logon, and nothing else of the session.
#[test]
fn one_object_without_the_session() {
    let mut world = World::new();
    let member = world.member(1);
    let entry = world.submit(member, "b@x");
    let inbox = world.open(member, Opening::Folder(0, Folder::SENT));
    let message = world.open(member, Opening::Message(entry));
    let at = world.connect(2);
    world.done(member.at, grant(member, inbox, 1));
    world.done(member.at, grant(member, message, 2));
    let (folder, message) = (redeem(&mut world, at, 1), redeem(&mut world, at, 2));
    let (folder, message) = (folder.expect("redeemed"), message.expect("redeemed"));
    match world.call(at, folder.list()) {
        Ok(Reply::Rows(rows)) => assert_eq!(format!("{rows:?}").matches("subject").count(), 1),
        other => panic!("{other:?} to a list"),
    }
    match world.call(at, message.read()) {
        Ok(Reply::Piece { size, bytes }) => assert_eq!(size, bytes.0.len() as u64),
        other => panic!("{other:?} to a read"),
    }
    for reference in [folder, message] {
        let (member, object) = (reference.member, reference.object);
        let submit = world.submit_request(
            Member { at, id: member, session: sundown_protocol::SessionId(1) },
            &["b@x"],
        );
        let other = ObjectId { place: 1, generation: 0 };
        for request in [
            Request::Advise {
                member,
                source: AdviseSource::Object(object),
                events: Events::NEW_MAIL,
            },
            Request::Open { member, what: Opening::Store(0) },
            Request::Open { member, what: Opening::Message(entry) },
            Request::Read { member, source: ReadSource::Entry(entry), offset: 0 },
            Request::List { member, object: other, after: 0, limit: 1 },
            Request::Release { member, object: other },
            Request::Submit(submit),
            Request::Delete { member, entry },
            Request::Flush { member },
            Request::Grant { member, object, token: Token(9), pid: None },
            Request::Revoke { member, token: Token(1) },
            logoff_request(member, LogoffFlags::default(), None),
        ] {
            let name = request.name();
            assert_eq!(world.refused(at, request), Code::E_NO_ACCESS, "{name}");
        }
    }
    assert_eq!(world.refused(at, message.list()), Code::E_NO_ACCESS);
    assert_eq!(world.refused(at, folder.read()), Code::E_NO_ACCESS);
    // It is its holder's, on its connection.
    let sibling = world.connect(2);
    assert_eq!(world.refused(sibling, folder.list()), Code::E_INVALID_OBJECT);
    assert_eq!(world.refused(member.at, folder.list()), Code::E_INVALID_OBJECT);
    world.done(at, folder.release());
    assert_eq!(world.refused(at, folder.list()), Code::E_INVALID_OBJECT);
    assert!(world.call(at, message.read()).is_ok());
    world.logoff(member);
    world.disconnect(at);
    world.advance(secs(60));
    world.assert_empty();
}

/// Design §3.11: a token works once, for a minute, for the granter's user, and only for the process it names.
#[test]
fn a_token_works_once_and_soon() {
    let mut world = World::new();
    world.profile("default").access = vec![(2_002, crate::settings::Right::Session)];
    let member = world.member(1);
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    let (at, second) = (world.connect(2), world.connect(3));
    let (stranger, root) = (world.connect_as(4, 2_002), world.connect_as(5, 0));
    let refused =
        |world: &mut World, at, token| redeem(world, at, token).expect_err("refused").code;

    world.done(member.at, grant(member, folder, 1));
    assert_eq!(refused(&mut world, stranger, 1), Code::E_NOT_FOUND);
    assert_eq!(refused(&mut world, root, 1), Code::E_NOT_FOUND);
    assert_eq!(refused(&mut world, at, 2), Code::E_NOT_FOUND);
    redeem(&mut world, at, 1).expect("once");
    assert_eq!(refused(&mut world, at, 1), Code::E_NOT_FOUND);
    assert_eq!(refused(&mut world, second, 1), Code::E_NOT_FOUND);

    for (token, after, works) in [(2, 59, true), (3, 60, false), (4, 61, false)] {
        world.done(member.at, grant(member, folder, token));
        world.advance(secs(after));
        assert_eq!(redeem(&mut world, at, token).is_ok(), works, "after {after} s");
    }

    let only = Request::Grant { member: member.id, object: folder, token: Token(5), pid: Some(3) };
    world.done(member.at, only);
    assert_eq!(refused(&mut world, at, 5), Code::E_NOT_FOUND);
    redeem(&mut world, second, 5).expect("it is the one");

    world.done(member.at, grant(member, folder, 6));
    assert_eq!(world.refused(member.at, grant(member, folder, 6)), Code::E_COLLISION);
    // Nor is a token free that somebody has redeemed: taking it back is about one object.
    assert_eq!(world.refused(member.at, grant(member, folder, 5)), Code::E_COLLISION);
}

/// Design §3.11: only messages and folders; only what is open; not by somebody else; not without end.
#[test]
fn what_can_be_granted() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    let book = world.open(member, Opening::AddressBook);
    let draft = world.draft(member, "unsaved");
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    for object in [book, draft] {
        assert_eq!(world.refused(member.at, grant(member, object, 1)), Code::E_NO_SUPPORT);
    }
    let none = ObjectId { place: 99, generation: 0 };
    assert_eq!(world.refused(member.at, grant(member, none, 1)), Code::E_INVALID_OBJECT);
    assert_eq!(world.refused(other.at, grant(member, folder, 1)), Code::E_INVALID_OBJECT);
    for token in 0..1_024 {
        world.done(member.at, grant(member, folder, token));
    }
    assert_eq!(world.refused(member.at, grant(member, folder, 5_000)), Code::E_BUSY);
    world.advance(secs(60));
    world.done(member.at, grant(member, folder, 5_000));
    // The handle that was granted need not stay open.
    world.done(member.at, Request::Release { member: member.id, object: folder });
    let reference = redeem(&mut world, other.at, 5_000).expect("redeemed");
    assert!(world.call(other.at, reference.list()).is_ok());
}

/// Design §3.11, §8: a reference is an open object of its holder, until it is released, lost or its holder is
/// gone; a full process keeps the token.
#[test]
fn a_reference_is_an_object_of_its_holder() {
    let mut settings = settings();
    settings.limits.objects = 3;
    let mut world = World::with(settings);
    let (member, holder) = (world.member(1), world.member(2));
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    world.open(holder, Opening::Store(0));
    for token in 0..2 {
        world.done(member.at, grant(member, folder, token));
    }
    world.done(member.at, grant(member, folder, 2));
    let [first, second] =
        [0, 1].map(|token| redeem(&mut world, holder.at, token).expect("redeemed"));
    let full = |world: &mut World| {
        redeem(world, holder.at, 2).expect_err("full").code == Code::E_BUSY
            && world.try_open(holder, Opening::Store(0)).expect_err("full").code == Code::E_BUSY
    };
    assert!(full(&mut world));
    world.done(holder.at, first.release());
    let third = redeem(&mut world, holder.at, 2).expect("there is room");
    assert!(world.try_open(holder, Opening::Store(0)).is_err());
    world.done(member.at, Request::Revoke { member: member.id, token: Token(1) });
    assert!(world.try_open(holder, Opening::Store(0)).is_ok(), "what is lost does not count");
    let by = world.peer(member.at);
    assert_lost(&mut world, second, &by);
    assert!(world.call(holder.at, third.list()).is_ok());
    assert!(world.try_open(holder, Opening::Store(0)).is_err());
    world.logoff(member);
    assert!(world.try_open(holder, Opening::Store(0)).is_ok());
}

/// Design §3.11, NOTIF-15: a grant can be taken back before and after it was used, by its granter, which is answered
/// before the holder is told.
#[test]
fn a_grant_can_be_taken_back() {
    let mut world = World::new();
    let (member, sibling) = (world.member(1), world.member(1));
    let at = world.connect(2);
    let by = world.peer(member.at);
    let revoke = |member: Member, token| Request::Revoke { member: member.id, token: Token(token) };
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    world.done(member.at, grant(member, folder, 1));
    assert_eq!(world.refused(sibling.at, revoke(sibling, 1)), Code::E_NOT_FOUND);
    world.done(member.at, revoke(member, 1));
    assert_eq!(redeem(&mut world, at, 1).expect_err("revoked").code, Code::E_NOT_FOUND);
    assert_eq!(world.refused(member.at, revoke(member, 1)), Code::E_NOT_FOUND);

    let reference = handed_over(&mut world, member, at, 2);
    assert_eq!(world.refused(sibling.at, revoke(sibling, 2)), Code::E_NOT_FOUND);
    assert!(world.call(at, reference.list()).is_ok(), "it is the granter's to take back");
    world.done(member.at, revoke(member, 2));
    assert_lost(&mut world, reference, &by);
    assert_eq!(world.refused(member.at, revoke(member, 2)), Code::E_NOT_FOUND);

    // Where both are on one connection the order shows.
    let own = handed_over(&mut world, member, member.at, 3);
    world.heard(member.at);
    let id = world.ask(member.at, revoke(member, 3));
    let heard = world.heard(member.at);
    assert_eq!(heard, [Heard::Answer(id), Heard::News(own.member, lost(by))]);
}

/// SEED-7, SEED-5, A-25, design §3.11, §3.12: however the granter ends, its references are cut off: each holder is told
/// once, by whom, and later calls answer that they are disconnected. Nobody else is told.
#[test]
fn the_granters_end_cuts_off() {
    type End = fn(&mut World, Member);
    let ends: &[(&str, End)] = &[
        ("logoff", |world, member| drop(world.logoff(member))),
        ("crash", |world, member| world.disconnect(member.at)),
        ("the process's end", |world, member| world.end_process(world.peer(member.at).pid)),
        ("fast shutdown", |world, member| {
            assert_eq!(world.query(member.at), Ok(Reply::Done));
            assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
        }),
        ("eviction", |world, _| {
            let ends = world.member(9);
            world.logoff_shared(ends);
            world.advance(secs(30));
        }),
    ];
    for (name, end) in ends {
        let shutdown = Shutdown { shared_logoff: SharedLogoff::Any, ..Shutdown::default() };
        let mut world = World::with(Settings { shutdown, ..settings() });
        let member = world.member(1);
        let (at, second) = (world.connect(2), world.connect(3));
        let bystander = world.connect(4);
        let bystander = world.logon_to(bystander, "work");
        let by = world.peer(member.at);
        let references = [
            handed_over(&mut world, member, at, 1),
            handed_over(&mut world, member, at, 2),
            handed_over(&mut world, member, second, 3),
        ];
        let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
        world.done(member.at, grant(member, folder, 4));
        let of_other = handed_over(&mut world, bystander, at, 5);
        end(&mut world, member);
        world.settle();
        for reference in references {
            assert_lost(&mut world, reference, &by);
        }
        assert_eq!(redeem(&mut world, at, 4).expect_err(name).code, Code::E_NOT_FOUND);
        assert_eq!(world.news(bystander), []);
        assert!(world.call(at, of_other.list()).is_ok(), "{name}");
        for at in [at, second, bystander.at] {
            world.disconnect(at);
        }
        world.end_process(1);
        world.advance(secs(90));
        world.assert_empty();
    }
}

/// Design §3.11, §3.21: so it is when the broker stops.
#[test]
fn a_stop_cuts_off() {
    for external_references in [true, false] {
        let shutdown = Shutdown { external_references, ..Shutdown::default() };
        let mut world = World::with(Settings { shutdown, ..settings() });
        let member = world.member(1);
        let at = world.connect(2);
        let by = world.peer(member.at);
        let reference = handed_over(&mut world, member, at, 1);
        world.apply(Event::Stop(Stop::Fast));
        assert!(reference.news(&mut world).contains(&lost(by)));
        world.settle();
        world.advance(secs(62));
        assert_eq!(world.stopped, 1);
        world.assert_empty();
    }
}

/// A-25, design §10.1: a holder that dies, or leaves fast, gives back what it held, and nobody is told.
#[test]
fn a_holder_may_go() {
    let mut world = kept();
    let member = world.member(1);
    world.advise(member, Events::EXTENDED | Events::CRITICAL_ERROR);
    let crashes = world.connect(2);
    handed_over(&mut world, member, crashes, 1);
    world.disconnect(crashes);
    let ends = world.connect(3);
    handed_over(&mut world, member, ends, 2);
    world.end_process(3);
    let leaves = world.connect(4);
    handed_over(&mut world, member, leaves, 3);
    world.leave_fast(leaves);
    assert!(world.is_open(leaves));
    assert_eq!(world.news(member), []);
    assert!(world.status().sessions[0].references.is_empty());
    world.logoff(member);
    world.advance(secs(60));
    world.assert_empty();
}

/// SEED-7 with the setting off, CFS-16, design §3.11: a logoff waits until its objects are released, for as long as its
/// drain or for half a minute, and then names who holds them. `status` says that it waits, and who holds what.
#[test]
fn a_logoff_waits_for_releases() {
    for (drain, time) in [(None, 30), (Some(secs(10)), 10)] {
        let mut world = kept();
        let member = world.member(1);
        let at = world.connect(2);
        let first = handed_over(&mut world, member, at, 1);
        let second = handed_over(&mut world, member, at, 2);
        let holder = world.peer(at);
        let id = world.ask_logoff(member, LogoffFlags::default(), drain);
        world.advance(secs(time - 1));
        assert_eq!(world.answer(member.at, id), None);
        let status = world.status();
        assert_eq!(status.sessions[0].members[0].state, "waiting");
        let granted = ReferenceStatus {
            granter: member.id,
            holder: holder.clone(),
            granted: Granted::Folder(Folder::INBOX),
        };
        assert_eq!(status.sessions[0].references, [granted.clone(), granted]);
        assert!(world.call(at, first.list()).is_ok(), "it works meanwhile");
        world.advance(secs(1));
        let fault = world.answer(member.at, id).expect("answered").expect_err("held");
        assert_eq!((fault.code, holders(&fault)), (Code::E_BUSY, &[holder][..]));
        world.open(member, Opening::Store(0));

        let id = world.ask_logoff(member, LogoffFlags::default(), drain);
        world.done(at, first.release());
        assert_eq!(world.answer(member.at, id), None);
        world.done(at, second.release());
        assert!(world.answer(member.at, id).expect("answered").is_ok());
        assert_eq!(second.news(&mut world), []);
    }
}

/// SEED-7 with the setting off, CFS-16, design §3.11: Do is refused while objects are held, names who holds them and tears
/// nothing down; after the release, or after the grant was taken back, it works.
#[test]
fn do_is_refused_while_objects_are_held() {
    let mut world = kept();
    let member = world.member(1);
    let (at, second) = (world.connect(2), world.connect(3));
    let first = handed_over(&mut world, member, at, 1);
    handed_over(&mut world, member, second, 2);
    let own = handed_over(&mut world, member, member.at, 3);
    assert_eq!(world.query(member.at), Ok(Reply::Done));
    let fault = world.do_fast(member.at).expect_err("held");
    assert_eq!(
        (fault.code, holders(&fault)),
        (Code::E_BUSY, &[world.peer(at), world.peer(second)][..])
    );
    assert_eq!(world.order_of("DoFastShutdown"), Vec::<String>::new());
    assert!(world.call(at, first.list()).is_ok());
    world.done(at, first.release());
    world.done(member.at, Request::Revoke { member: member.id, token: Token(2) });
    // What a process holds of its own does not keep it.
    assert!(world.call(member.at, own.list()).is_ok());
    assert_eq!(world.do_fast(member.at), Ok(Reply::Done));
    assert_eq!(world.refused(member.at, own.list()), Code::E_NOT_INITIALIZED);
}

/// Design §3.11, §10.10: whoever is made to leave is not held: by a crash, by the end of the grace, by a stop. Nor is one
/// that holds its own object.
#[test]
fn nobody_is_held_against_its_end() {
    let mut world = kept();
    let (member, ends) = (world.member(1), world.member(9));
    let at = world.connect(2);
    let by = world.peer(member.at);
    let reference = handed_over(&mut world, member, at, 1);
    let id = world.ask_logoff(member, LogoffFlags::default(), Some(secs(600)));
    let forced = LogoffFlags::SHARED.with(LogoffFlags::FORCE);
    world.try_logoff(ends, forced).expect("it is an administrator");
    world.advance(secs(30));
    assert_eq!(
        world.answer(member.at, id).expect("answered").expect_err("put out").code,
        Code::E_END_OF_SESSION
    );
    assert_lost(&mut world, reference, &by);

    let crashes = world.member(3);
    let by = world.peer(crashes.at);
    let reference = handed_over(&mut world, crashes, at, 2);
    world.ask_logoff(crashes, LogoffFlags::default(), Some(secs(600)));
    world.disconnect(crashes.at);
    assert_lost(&mut world, reference, &by);

    let own = world.member(4);
    handed_over(&mut world, own, own.at, 3);
    world.logoff(own);
}

/// Design §3.11: settings that change decide the next moment: what may be cut off again is not waited for, and what may
/// not any more is.
#[test]
fn a_reload_decides_anew() {
    let mut world = World::new();
    let member = world.member(1);
    let at = world.connect(2);
    let reference = handed_over(&mut world, member, at, 1);
    world.wire.broken.insert("relay".into(), Code::E_NETWORK_ERROR);
    world.submit(member, "b@x");
    let id = world.ask_logoff(member, LogoffFlags::default(), Some(secs(20)));
    let shutdown = Shutdown { external_references: false, ..Shutdown::default() };
    world.apply(Event::Reload(Box::new(Settings { shutdown, ..settings() })));
    world.wire.broken.clear();
    world.advance(secs(20));
    let fault = world.answer(member.at, id).expect("answered").expect_err("held");
    assert_eq!(fault.code, Code::E_BUSY);
    world.apply(Event::Reload(Box::new(settings())));
    world.logoff(member);
    assert_eq!(world.refused(at, reference.list()), Code::RPC_E_DISCONNECTED);
}

/// Design §3.12: the code of a dead handle, in its precedence: left, ended, cut off, unknown.
#[test]
fn codes_have_a_precedence() {
    let mut world = World::new();
    let (member, holder) = (world.member(1), world.member(2));
    let reference = handed_over(&mut world, member, holder.at, 1);
    world.logoff(member);
    assert_eq!(world.refused(holder.at, reference.list()), Code::RPC_E_DISCONNECTED);
    let unknown = Request::Flush { member: MemberId(999) };
    assert_eq!(world.refused(holder.at, unknown), Code::E_INVALID_OBJECT);
    world.leave_fast(holder.at);
    assert_eq!(world.refused(holder.at, reference.list()), Code::E_NOT_INITIALIZED);
}

/// Design §10.1: a grant or a use of it disturbs nobody: not the session, whose members are not told, nor its drain.
#[test]
fn others_see_nothing_of_it() {
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    world.advise(other, Events::all());
    let at = world.connect(3);
    let reference = handed_over(&mut world, member, at, 1);
    world.call(at, reference.list()).expect("it lists");
    world.done(at, reference.release());
    assert_eq!(world.news(other), []);
    world.logoff(member);
    let left = News::MemberLeft { member: member.id, reason: LeaveReason::LoggedOff };
    assert_eq!(world.news(other), [left]);
}

/// A reading that is under way when the granter leaves comes to its end; the session's store is not closed under it.
///
/// Design §3.7, §10.7
#[test]
fn a_reading_comes_to_its_end() {
    let mut world = World::new();
    let member = world.member(1);
    let at = world.connect(2);
    let reference = handed_over(&mut world, member, at, 1);
    world.hold("store", "QueryRows");
    let id = world.ask(at, reference.list());
    world.leave_fast(member.at);
    assert_eq!(world.answer(at, id), None);
    world.let_go("store");
    assert!(world.answer(at, id).expect("answered").is_ok());
    world.disconnect(at);
    world.disconnect(member.at);
    world.end_process(1);
    world.advance(secs(60));
    world.assert_empty();
}

/// Design §3.11: a token is a secret: nothing that could be logged shows it, and the broker does not keep it.
#[test]
fn a_token_is_never_shown() {
    let token = Token(0xFEED_FACE_CAFE_BEEF_0123_4567_89AB_CDEF);
    let secret = token.0.to_string();
    let shown = |text: String| {
        let text = text.to_lowercase();
        text.contains(&token.to_string()) || text.contains(&secret) || text.contains("feed")
    };
    let mut world = World::new();
    let member = world.member(1);
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    for request in [
        Request::Grant { member: member.id, object: folder, token, pid: None },
        Request::Redeem { token },
        Request::Revoke { member: member.id, token },
    ] {
        let asked = Asked { id: RequestId(1), request };
        assert!(!shown(format!("{asked:?}")));
        assert!(!shown(format!("{:?}", Event::Request { connection: member.at, asked, bytes: 1 })));
    }
    world.done(member.at, Request::Grant { member: member.id, object: folder, token, pid: None });
    assert!(!shown(format!("{:?}", world.broker)));
    let at = world.connect_as(2, OWNER);
    assert!(world.call(at, Request::Redeem { token }).is_ok());
    assert!(!shown(format!("{:?}", world.broker)));
    let refused = world.call(at, Request::Redeem { token }).expect_err("once");
    assert!(!shown(format!("{refused:?} {refused}")));
}

/// Design §3.11: each token has a minute of its own. That an older one has expired changes nothing for a younger one.
#[test]
fn tokens_expire_one_by_one() {
    let mut world = World::new();
    let member = world.member(1);
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    let at = world.connect(2);
    for token in 1..=3 {
        world.done(member.at, grant(member, folder, token));
        world.advance(secs(25));
    }
    // They are 75, 50 and 25 seconds old.
    assert_eq!(redeem(&mut world, at, 1).expect_err("expired").code, Code::E_NOT_FOUND);
    assert!(redeem(&mut world, at, 2).is_ok());
    world.advance(secs(30));
    assert!(redeem(&mut world, at, 3).is_ok());
    world.done(member.at, grant(member, folder, 4));
    world.advance(secs(60));
    assert_eq!(redeem(&mut world, at, 4).expect_err("expired").code, Code::E_NOT_FOUND);
}

/// Design §3.11: the broker wakes for the token that expires next and for no other. One that is redeemed, revoked or whose granter
/// has left leaves no time behind, and is not counted among those of its granter any more.
#[test]
fn the_broker_wakes_for_the_next_token_that_expires() {
    let next = |world: &World| world.broker.timers.at(Timer::Grants);
    let mut world = World::new();
    let (member, other) = (world.member(1), world.member(2));
    let [folder, theirs] =
        [member, other].map(|m| world.open(m, Opening::Folder(0, Folder::INBOX)));
    let mut expiries = Vec::new();
    for (granter, object, token) in
        [(member, folder, 1), (member, folder, 2), (other, theirs, 3), (member, folder, 4)]
    {
        world.done(granter.at, grant(granter, object, token));
        expiries.push(Some(world.now() + secs(60)));
        world.advance(millis(1));
    }
    assert_eq!(next(&world), expiries[0]);
    world.done(member.at, Request::Revoke { member: member.id, token: Token(1) });
    assert_eq!(next(&world), expiries[1]);
    redeem(&mut world, other.at, 2).expect("redeemed");
    assert_eq!(next(&world), expiries[2]);
    world.logoff(other);
    assert_eq!(next(&world), expiries[3]);
    // More than a member may have waiting, one after the other.
    for token in 10..1_100 {
        world.done(member.at, grant(member, folder, token));
        world.done(member.at, Request::Revoke { member: member.id, token: Token(token) });
        assert_eq!(next(&world), expiries[3]);
    }
    world.advance(secs(60));
    assert_eq!(next(&world), None);
    assert!(world.broker.sessions.grants.waiting().next().is_none());
}

/// Design §3.11: peers without a process id are a process for each connection. They grant and redeem like others, a grant that
/// names a process is not theirs, and none can name them.
#[test]
fn peers_without_a_pid_are_a_process_for_each_connection() {
    let mut world = World::new();
    let [at, second, third] = [1, 2, 3].map(|connection| world.connect_without_pid(connection));
    let member = world.logon(at);
    let folder = world.open(member, Opening::Folder(0, Folder::INBOX));
    let to =
        |pid, token| Request::Grant { member: member.id, object: folder, token: Token(token), pid };
    assert_eq!(world.refused(at, to(Some(0), 1)), Code::E_INVALID_PARAMETER);
    assert_eq!(redeem(&mut world, second, 1).expect_err("not granted").code, Code::E_NOT_FOUND);
    world.done(at, to(Some(9), 2));
    assert_eq!(redeem(&mut world, second, 2).expect_err("another's").code, Code::E_NOT_FOUND);
    let ninth = world.connect(9);
    redeem(&mut world, ninth, 2).expect("it is the one");
    world.done(at, to(None, 3));
    let reference = redeem(&mut world, second, 3).expect("redeemed");
    assert_eq!(redeem(&mut world, third, 3).expect_err("once").code, Code::E_NOT_FOUND);
    assert_eq!(world.refused(third, reference.list()), Code::E_INVALID_OBJECT);
    // Without the pids, and yet two processes: the end of one cuts off the other.
    world.disconnect(at);
    assert_lost(&mut world, reference, &Peer { pid: 0, program: "program-0".into() });
}

/// Design §3.12: a connection remembers 4,096 references that it has lost, and answers for those with the right code.
#[test]
fn lost_references_are_remembered() {
    let mut world = World::new();
    let member = world.member(1);
    let at = world.connect(2);
    let references: Vec<_> =
        (1..=4_097).map(|token| handed_over(&mut world, member, at, token)).collect();
    world.logoff(member);
    let codes: Vec<_> =
        references.iter().map(|reference| world.refused(at, reference.list())).collect();
    assert_ne!(codes[0], Code::RPC_E_DISCONNECTED, "the oldest is forgotten");
    assert!(codes[1..].iter().all(|code| *code == Code::RPC_E_DISCONNECTED));
}

/// Design §3.12: whoever uses a reference that another process holds is refused, and the log says so. What its own process has
/// lost is no such thing.
#[test]
fn the_use_of_a_strangers_reference_is_noted() {
    let mut world = World::new();
    let member = world.member(1);
    let (at, stranger) = (world.connect(2), world.connect(3));
    let reference = handed_over(&mut world, member, at, 1);
    let before = world.refusals.len();
    assert!(world.call(stranger, reference.list()).is_err());
    assert_eq!(world.refusals[before..].len(), 1);
    assert_eq!(world.refusals[before].0, 3, "the stranger's process");
    world.done(at, reference.release());
    assert!(world.call(at, reference.list()).is_err());
    assert_eq!(world.refusals.len(), before + 1);
}
